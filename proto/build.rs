//! Compiles the `.proto` files with protox (no `protoc` needed) and keeps the descriptor set for gRPC reflection.

use std::env;
use std::path::PathBuf;

const FILES: [&str; 5] = [
    "inkstone/v1/types.proto",
    "inkstone/v1/logs.proto",
    "inkstone/v1/admin.proto",
    "inkstone/peer/v1/state.proto",
    "inkstone/peer/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(FILES)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(
        out.join("inkstone_descriptor.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
