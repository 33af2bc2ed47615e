//! Libraries that stand in front of the C library of a process.

use std::path::{Path, PathBuf};

/// A library of `tests/`, written in C, that stands in front of the C library of a process (`LD_PRELOAD`); built into a folder.
pub fn built(source: &str, into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(source);
    let library = into.join(source.file_name().expect("a file")).with_extension("so");
    let mut compiler = std::process::Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().expect("a C compiler").success(), "{}", source.display());
    library
}
