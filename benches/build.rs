//! Compiles what the benchmark `peers` needs of etcd's API (no `protoc` needed).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=peers/etcd.proto");
    let files = protox::compile(["etcd.proto"], ["peers"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(files)?;
    Ok(())
}
