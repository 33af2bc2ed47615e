//! Lists the guests of `tests/guests` for `tests/sandbox.rs` and `tests/hostile.rs`: a guest without a test, or of which nobody says what
//! must come of it, does not compile.

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
    for name in &names {
        let _ = writeln!(text, "        const _: fn() = {name};");
    }
    text.push_str("    };\n}\n");
    let list = names.join(", ");
    let all = names.iter().map(|name| format!("Guest::{name}")).collect::<Vec<_>>().join(", ");
    let guest = format!("#[derive(Debug, Clone, Copy)]\nenum Guest {{ {list} }}\nconst GUESTS: &[Guest] = &[{all}];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    for (file, text) in [("guests.rs", text), ("guest.rs", guest)] {
        std::fs::write(out.join(file), text).expect("cargo made the folder");
    }
}
