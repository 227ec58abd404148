//! What fuzzing found, once more, and a few inputs of each kind: see `fuzz/README.md`.

use std::{fs, path::Path};

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

/// Runs a target on all that is kept for it, and on some bytes of no meaning.
fn run(name: &str, target: fn(&[u8])) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions");
    let mut files: Vec<_> = fs::read_dir(kept.join(name))
        .expect("a directory for each target")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display());
        target(&fs::read(&file).expect("a file"));
    }
    let mut state = 1_u64;
    for length in 0..40 {
        let bytes = (0..length * 5).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u8
        });
        target(&bytes.collect::<Vec<_>>());
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name), targets::$name::run);
            }
        )*
    };
}

targets!(index_open joins kernels keys manifest plan);
