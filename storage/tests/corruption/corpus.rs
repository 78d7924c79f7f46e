//! The fuzzer's seeds, forever: each is run through its target, on any compiler.
//!
//! `INKSTONE_WRITE_SEEDS=1` adds the first ones, from valid directories; the others are what a fuzzer found and `cargo fuzz
//! cmin` kept (`storage/fuzz/README.md`).

use std::fs;
use std::path::{Path, PathBuf};

use super::region::{Class, regions};
use super::workload::all;

#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

/// Looks at an input.
type Target = fn(&[u8]);

/// Every target, by the name of its binary and of its seeds' directory.
const TARGETS: [(&str, Target); 4] = [
    ("frame", targets::frame::run),
    ("footer", targets::footer::run),
    ("hard_state", targets::hard_state::run),
    ("open", targets::open::run),
];

fn seeds(target: &str) -> PathBuf {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    fuzz.join(target)
}

#[test]
fn every_seed_of_every_fuzz_target_holds() {
    if std::env::var_os("INKSTONE_WRITE_SEEDS").is_some() {
        write_seeds();
    }
    for (name, run) in TARGETS {
        let mut count = 0;
        for item in fs::read_dir(seeds(name)).expect("seeds are committed") {
            let path = item.expect("readable").path();
            println!("{}", path.display());
            run(&fs::read(&path).expect("readable"));
            count += 1;
        }
        println!("{count} seeds of {name}");
        assert!(count > 0, "{name} has no seeds");
    }
}

/// What valid directories are made of, one of each kind.
fn write_seeds() {
    let write = |target: &str, name: String, bytes: &[u8]| {
        let dir = seeds(target);
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(name), bytes).expect("written");
    };
    for (number, work) in (0_u8..).zip(all(5)) {
        let (regions, frames) = regions(&work);
        for frame in frames.iter().take(8) {
            let name = format!("{}-{}", work.name, frame.index);
            write("frame", name, &work.files[&frame.file][frame.place.clone()]);
        }
        for (path, bytes) in &work.files {
            let name = path.file_name().expect("named").to_string_lossy();
            let name = format!("{}-{name}", work.name);
            let choice = match &name {
                name if name.contains("hard-state") => 0,
                name if name.contains("watermark") => 1,
                name if name.contains(".seg") => 4,
                _ => 2,
            };
            let size = if choice < 2 {
                128
            } else {
                bytes.len().min(4096)
            };
            write(
                "hard_state",
                name.clone(),
                &[&[choice], &bytes[..size]].concat(),
            );
            let footer = regions
                .iter()
                .find(|region| region.file == *path && region.class == Class::FrameRows);
            if let Some(footer) = footer {
                write("footer", name, &bytes[footer.place.start..]);
            }
        }
        for how in [0, 1] {
            for file in 0..8 {
                let change = [
                    number,
                    how,
                    file,
                    8,
                    4,
                    1,
                    3,
                    7,
                    file | 0x80,
                    20,
                    0,
                    0,
                    1,
                    1,
                ];
                write("open", format!("{}-{how}-{file}", work.name), &change);
            }
        }
        write("open", format!("{}-empty", work.name), &[number, 2]);
    }
    let identity = b"\x03INKIDENT\x01\0\0\0\0\0\0\0a cluster's uuid\x01\0\0\0\0\0\0\0";
    write(
        "hard_state",
        "identity".to_owned(),
        &[&identity[..], &[0; 8]].concat(),
    );
}
