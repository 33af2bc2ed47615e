//! The house is in order: floors, module comments, no sleeping or ignored tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let files = walkdir::WalkDir::new(root().join(folder)).into_iter().flatten();
    let rust = files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"));
    let read: Vec<_> = rust.map(|entry| (entry.path().to_owned(), std::fs::read_to_string(entry.path()).expect("reads"))).collect();
    assert!(!read.is_empty(), "no sources in {folder}");
    read
}

/// The floors of modules, from a table whose rows begin with a floor and names in code.
fn floors(file: &str, prefix: &str) -> BTreeMap<String, u8> {
    let text = std::fs::read_to_string(root().join(file)).expect("reads");
    let mut floors = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix(prefix)) {
        let mut cells = line.split('|').map(str::trim);
        let (Some(Ok(floor)), Some(names)) = (cells.next().map(str::parse), cells.next()) else { continue };
        floors.extend(names.split('`').skip(1).step_by(2).map(|name| (name.to_owned(), floor)));
    }
    floors
}

#[test]
fn a_module_uses_only_floors_below_its_own() {
    let floors = floors("ARCHITECTURE.md", "| ");
    assert!(floors.len() > 10 && floors == self::floors("host/src/lib.rs", "//! | "), "{floors:?}");
    let mut arrows = 0;
    for (path, text) in sources("host/src") {
        let inside = path.strip_prefix(root().join("host/src")).expect("inside");
        let module = inside.iter().next().and_then(|part| part.to_str()).expect("a name").trim_end_matches(".rs");
        if module == "lib" || module == "main" {
            continue;
        }
        let floor = floors.get(module).unwrap_or_else(|| panic!("{module} has no floor"));
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for (_, rest) in code.match_indices("crate::").map(|(at, found)| code.split_at(at + found.len())) {
            let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(other) = floors.get(used.as_str()) else { continue };
            arrows += 1;
            // `config` reads the words of a command's manifest, whose types the runtime owns: downwards, too.
            assert!(used == module || other < floor, "{}: {module} (floor {floor}) uses {used} (floor {other})", inside.display());
        }
    }
    assert!(arrows > 50, "the test reads nothing");
}

#[test]
fn every_file_says_what_it_owns() {
    for folder in ["host/src", "tests", "plugins", "guest-sdk", "examples/hostile"] {
        for (path, text) in sources(folder).into_iter().filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "subjects")) {
            assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
        }
    }
}

#[test]
fn wasmtime_is_named_in_the_runtime_alone() {
    for (path, text) in sources("host/src") {
        if !path.starts_with(root().join("host/src/runtime")) {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                assert!(!line.contains("wasmtime::") && !line.contains("wasmtime_wasi"), "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn no_test_sleeps_or_is_ignored() {
    let own = root().join("tests/tidy.rs");
    for (path, text) in sources("tests").into_iter().chain(sources("host/src")) {
        if path == own || path.starts_with(root().join("tests/guests")) {
            continue;
        }
        assert!(!text.contains("#[ignore"), "{} ignores a test", path.display());
        assert!(!text.contains("thread::sleep"), "{} sleeps", path.display());
    }
}

/// What help texts and errors show can be typed.
#[test]
fn files_that_help_texts_name_are_there() {
    for (path, text) in sources("host/src/cli") {
        let words = text.split(|c: char| c.is_whitespace() || "\"\\`,".contains(c));
        for named in words.filter(|word| word.starts_with("examples/") || word.starts_with("docs/")) {
            assert!(root().join(named).exists(), "{}: {named}", path.display());
        }
    }
}

/// The picture of a task's states is drawn from the code.
#[test]
fn the_state_diagram_is_that_of_the_machine() {
    let guide = std::fs::read_to_string(root().join("docs/guide/runs.md")).expect("reads");
    let drawn = format!("```mermaid\n{}```", sandhog::machine::diagram());
    assert!(guide.contains(&drawn), "docs/guide/runs.md shows other states than these:\n{drawn}");
}

/// The gate in the guide is the one that is built and judged with.
#[test]
fn the_gate_of_the_guide_is_one_that_is_built() {
    let built = std::fs::read_to_string(root().join("tests/guests/gates/finds_todos.rs")).expect("reads");
    let (_, code) = built.split_once('\n').expect("a first line");
    let guide = std::fs::read_to_string(root().join("docs/guide/plugins.md")).expect("reads");
    assert!(guide.contains(&format!("```rust\n{code}```")), "docs/guide/plugins.md shows another gate");
}

/// The example in the README and in the guide is the one that is built.
#[test]
fn the_ten_line_worker_is_the_one_that_is_built() {
    let built = std::fs::read_to_string(root().join("examples/shout/src/lib.rs")).expect("reads");
    for page in ["README.md", "docs/guide/plugins.md"] {
        let text = std::fs::read_to_string(root().join(page)).expect("reads");
        assert!(text.contains(&format!("```rust\n{built}```")), "{page} shows another worker than examples/shout/src/lib.rs");
    }
}

/// Each promise of the guide to security names the tests that try to break it: they are there.
#[test]
fn every_promise_names_tests_that_are_there() {
    let guide = std::fs::read_to_string(root().join("docs/guide/security.md")).expect("reads");
    let (_, promises) = guide.split_once("## What is promised").expect("a section");
    let (promises, _) = promises.split_once("\n## ").expect("another one behind it");
    let mut named = 0;
    for row in promises.lines().filter(|line| line.starts_with("| ") && !line.contains("tested by")) {
        let tests = row.trim_end_matches('|').rsplit('|').next().expect("a column");
        assert!(tests.contains("`tests/"), "a promise without a test: {row}");
        for part in tests.split(';') {
            let (_, rest) = part.split_once('`').expect("a file");
            let (file, names) = rest.split_once('`').expect("its end");
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let text = text.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
            for name in names.split(',').map(str::trim) {
                assert!(text.contains(&format!("#[test]\nfn {name}()")), "{file} has no test {name}");
                named += 1;
            }
        }
    }
    assert!(named > 20, "the test reads nothing");
}

/// What is built with here is the oldest compiler that is promised: so that the promise is tried whenever something is.
#[test]
fn the_minimum_rust_version_is_the_one_that_builds() {
    let toolchain = std::fs::read_to_string(root().join("rust-toolchain.toml")).expect("reads");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix(".0\"")).expect("a channel");
    for manifest in ["Cargo.toml", "plugins/Cargo.toml", "plugins/gates/Cargo.toml", "guest-sdk/rust/Cargo.toml"] {
        let text = std::fs::read_to_string(root().join(manifest)).expect("reads");
        assert!(text.contains(&format!("\nrust-version = \"{channel}\"\n")), "{manifest} does not say rust-version = \"{channel}\"");
    }
    let command = std::fs::read_to_string(root().join("README.md")).expect("reads");
    assert!(!command.contains("nightly"), "no part of it needs another compiler");
}
