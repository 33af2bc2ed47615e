//! Lists the guests of `tests/guests` for `tests/sandbox.rs`, so that a guest without a test does not compile.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let guests = Path::new("../tests/guests");
    println!("cargo::rerun-if-changed={}", guests.display());
    let mut names: Vec<String> = Vec::new();
    for folder in ["", "workers", "gates", "commands"] {
        println!("cargo::rerun-if-changed={}", guests.join(folder).display());
        let Ok(entries) = std::fs::read_dir(guests.join(folder)) else { continue }; // a published crate has no tests
        for path in entries.flatten().map(|entry| entry.path()) {
            let ending = if folder.is_empty() { "wat" } else { "rs" };
            if path.extension().is_some_and(|extension| extension == ending) {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
    }
    names.sort();
    let mut text = String::from("macro_rules! every_guest_has_a_test {\n    () => {\n");
    for name in names {
        let _ = writeln!(text, "        const _: fn() = {name};");
    }
    text.push_str("    };\n}\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("guests.rs");
    std::fs::write(out, text).expect("cargo made the folder");
}
