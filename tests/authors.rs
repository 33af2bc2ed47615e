//! What an author of plugins does: `sandhog new`, `pack` and `test`, through the real binary. Needs `scripts/languages`.

mod common;

use std::path::Path;

use common::{Ran, World, ran, root, run_page};
use serde_json::Value;

const LANGUAGES: [&str; 9] = ["rust", "javascript", "typescript", "python", "go", "c", "zig", "assemblyscript", "wat"];

fn built(name: &str) -> String {
    let path = root().join("dist/languages").join(format!("{name}.wasm"));
    assert!(path.is_file(), "{}: run scripts/languages first", path.display());
    path.to_str().expect("UTF-8").to_owned()
}

/// In a folder of the world.
#[track_caller]
fn run_in(world: &World, folder: &str, program: &str, arguments: &[&str], code: i32) -> Ran {
    let mut command = world.command(program, arguments);
    command.current_dir(world.path().join(folder)).env("SANDHOG_CACHE_DIR", world.home.path().join("cache"));
    command.env("SANDHOG", env!("CARGO_BIN_EXE_sandhog"));
    ran(&mut command, code)
}

/// With compiled code kept from test to test: that of Python takes a while.
#[track_caller]
fn cached(world: &World, arguments: &[&str], code: i32) -> Ran {
    let mut command = world.command(env!("CARGO_BIN_EXE_sandhog"), arguments);
    ran(command.env("SANDHOG_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages")), code)
}

#[track_caller]
fn sandhog_in(world: &World, folder: &str, arguments: &[&str], code: i32) -> Ran {
    run_in(world, folder, env!("CARGO_BIN_EXE_sandhog"), arguments, code)
}

#[test]
fn a_plugin_is_begun_built_tested_and_run_as_its_readme_says() {
    let world = World::new();
    for kind in ["worker", "gate"] {
        let told = world.run(&["new", kind, kind, "--lang", "wat"], 0).out;
        assert!(told.contains("next: cd ") && told.contains("./build && sandhog test"), "{told}");
        let readme = world.read(&format!("{kind}/README.md"));
        assert!(readme.contains("$ ./build") && readme.contains("$ sandhog test --conformance") && !readme.contains("{{"), "{readme}");
        run_in(&world, kind, "./build", &[], 0);
        assert!(sandhog_in(&world, kind, &["test"], 0).out.contains(", 0 failed"));
        assert!(sandhog_in(&world, kind, &["test", "--conformance"], 0).out.ends_with(": 9 cases, 0 failed\n"));
        let component = format!("./{kind}.wasm");
        sandhog_in(&world, kind, &["call", &component, "--input", "README.md"], 0);
        let told = sandhog_in(&world, kind, &["plugins", "inspect", &component], 0).out;
        for part in
            ["license   MIT OR Apache-2.0", "fuel 2G", "params (JSON schema)", "\"additionalProperties\": false", "wants\n  nothing"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn the_commands_of_the_guide_to_languages_run() {
    let world = World::new();
    let guide = std::fs::read_to_string(root().join("docs/guide/languages.md")).expect("reads");
    let blocks: Vec<String> = guide
        .split("```console\n")
        .skip(1)
        .map(|rest| {
            rest.split("```").next().unwrap_or_default().lines().filter_map(|line| line.strip_prefix("$ ")).collect::<Vec<_>>().join("\n")
        })
        .collect();
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    world.write("module.wasm", wat::parse_str(COUNTS).expect("a module"));
    let bin = Path::new(env!("CARGO_BIN_EXE_sandhog")).parent().expect("a folder");
    for block in blocks {
        // In the language that needs no compiler: scripts/languages does it in all of them.
        let mut command = world.command("sh", &["-ec", &block.replace("--lang python", "--lang wat")]);
        ran(command.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("SANDHOG_CACHE_DIR", world.home.path().join("cache")), 0);
    }
}

#[test]
fn every_language_has_a_worker_and_a_gate_without_a_placeholder_left() {
    let world = World::new();
    for language in LANGUAGES {
        for kind in ["worker", "gate"] {
            let folder = format!("{language}-{kind}");
            world.run(&["new", kind, "a-name", "--lang", language, "--dir", &folder], 0);
            for file in walkdir::WalkDir::new(world.path().join(&folder)).into_iter().flatten().filter(|entry| entry.file_type().is_file())
            {
                let text = std::fs::read_to_string(file.path()).expect("text");
                let is_left =
                    |part: &str| part.split_once("}}").is_some_and(|(word, _)| word.chars().all(|sign| sign.is_ascii_lowercase()));
                assert!(!text.split("{{").skip(1).any(is_left), "{}", file.path().display());
            }
            for file in ["README.md", "plugin.toml", "build", ".gitignore", "params.schema.json", "cases"] {
                assert!(world.path().join(&folder).join(file).exists(), "{folder}/{file}");
            }
        }
    }
}

#[test]
fn new_writes_over_nothing_and_refuses_names_that_no_language_has() {
    let world = World::new();
    world.write("there/notes.txt", "mine\n");
    let refused = world.run(&["new", "worker", "there"], 2);
    assert!(refused.err.contains("is there already") && refused.err.contains("nothing was written"), "{}", refused.err);
    assert_eq!(std::fs::read_dir(world.path().join("there")).expect("reads").count(), 1);
    for name in ["Big", "9lives", "../out", "with space", "", "under_score"] {
        let refused = world.run(&["new", "worker", name], 2);
        assert!(refused.err.contains("does not fit") || refused.err.contains("a value is required"), "{name}: {}", refused.err);
    }
    assert!(world.run(&["new", "worker", "x", "--lang", "cobol"], 2).err.contains("possible values: rust"));
}

#[test]
fn one_workflow_in_nine_languages_gives_the_same_artifacts_and_fuel_twice() {
    let plugins = Path::new(&built("rust-worker")).parent().expect("a folder").to_str().expect("UTF-8").to_owned();
    let workflow = root().join("examples/languages/workflow.toml");
    let run = || {
        let world = World::new();
        let ran = cached(&world, &["run", workflow.to_str().expect("UTF-8"), "--plugins", &plugins, "--out", "out", "--json"], 0);
        let report: Value = serde_json::from_str(&ran.out).expect("JSON");
        let steps: Vec<(String, u64)> = report["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .map(|step| {
                assert_eq!(step["status"], "completed", "{step}");
                (step["id"].as_str().expect("an id").to_owned(), step["usage"]["fuel"].as_u64().expect("fuel"))
            })
            .collect();
        (steps, world.read("out/wat/0/assemblyscript/0/shouted.txt"))
    };
    let (steps, text) = run();
    assert_eq!(steps.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), LANGUAGES);
    assert_eq!(text, "HELLO!!!!!!!!!\n");
    assert_eq!(run(), (steps, text));
}

#[test]
fn each_language_s_gate_rejects_in_its_own_words() {
    let world = World::new();
    world.write("notes.txt", "fine\nTODO: é\n");
    world.write("empty.txt", "");
    for language in LANGUAGES {
        let gate = built(&format!("{language}-gate"));
        let is_of_sizes = ["zig", "assemblyscript", "wat"].contains(&language);
        let (input, finding) =
            if is_of_sizes { ("empty.txt", "empty.txt: medium empty") } else { ("notes.txt", "notes.txt:2:1: medium left-over") };
        let ran = cached(&world, &["call", &gate, "--input", input], 1);
        assert!(ran.out.contains(finding) && ran.out.contains("rejected:"), "{language}: {}", ran.out);
    }
}

#[test]
fn memory_beyond_what_a_module_begins_with_is_nobody_else_s() {
    // Go's runtime takes all memory behind its data, and WASI's adapter had its own there.
    let world = World::new();
    world.write("large.txt", "a line of text, and one more\n".repeat(400_000));
    for language in ["go", "c", "rust"] {
        let out = format!("out-{language}");
        let (worker, memory) = (built(&format!("{language}-worker")), "--memory=256MiB");
        cached(&world, &["call", &worker, "--input", "large.txt", memory, "--out", &out], 0);
        let text = world.read(&format!("{out}/shouted.txt"));
        assert_eq!(text.len(), 29 * 400_000 + 1, "{language}");
        assert!(text.ends_with("AND ONE MORE!\n"), "{language}");
    }
}

const COUNTS: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "sandhog_worker_run") (param i32) (result i32)
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (i32.const 8))
    (i32.store (i32.const 8) (i32.const 0))
    (i32.const 0)))"#;

#[test]
fn the_commands_of_the_guide_to_debugging_run() {
    let world = World::new();
    world.write("broken.wasm", "no wasm");
    let division = "(func $shares_equally (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))\n  (func (export \"sandhog_worker_run\") (param i32) (result i32)\n    (drop (call $shares_equally (i32.const 0)))";
    world.write("divides.wat", COUNTS.replace("(func (export \"sandhog_worker_run\") (param i32) (result i32)", division));
    std::fs::copy(root().join("dist/languages/c-worker.wasm"), world.path().join("worker.wasm")).expect("scripts/languages first");
    assert_eq!(run_page(&world, "debugging.md"), 4);
}

#[test]
fn the_commands_of_the_guide_to_performance_run() {
    let world = World::new();
    std::fs::copy(root().join("dist/languages/wat-worker.wasm"), world.path().join("worker.wasm")).expect("scripts/languages first");
    world.write("in.txt", "some text\n");
    assert_eq!(run_page(&world, "performance.md"), 2);
}

#[test]
fn the_commands_of_the_guide_to_security_run() {
    let world = World::new();
    world.write("sandhog.toml", format!("plugins = [{:?}]\n", root().join("dist/plugins").display().to_string()));
    world.write("README.md", "# A page\n");
    assert_eq!(run_page(&world, "security.md"), 2);
}

#[test]
fn the_commands_of_the_guide_to_the_contract_run() {
    let world = World::new();
    world.write("later.wat", COUNTS.replace("sandhog_worker_run", "sandhog:plugin/worker@0.9.0#run"));
    world.write("now.wat", COUNTS);
    world.run(&["pack", "now.wat"], 0);
    let mut bytes = std::fs::read(world.path().join("now.wasm")).expect("reads");
    for at in 0..bytes.len() - 5 {
        if &bytes[at..at + 5] == b"0.1.0" {
            bytes[at + 2] = b'9';
        }
    }
    world.write("later.wasm", bytes);
    assert_eq!(run_page(&world, "contract.md"), 2);
}

#[test]
fn real_programs_are_gates_and_workers_as_the_guide_to_porting_says() {
    let world = World::new();
    let example = root().join("examples/commands");
    for file in ["policy.toml", "plugins/rg.toml", "plugins/typos.toml", "plugins/rg.wasm", "plugins/typos.wasm"] {
        let bytes = std::fs::read(example.join(file)).expect("scripts/commands first");
        world.write(&format!("commands/{file}"), bytes);
    }
    let guide = std::fs::read_to_string(root().join("docs/guide/porting.md")).expect("reads");
    let manifest = world.read("commands/plugins/rg.toml");
    let shown = manifest.split_once('\n').expect("a comment first").1;
    assert!(guide.contains(&format!("```toml\n{shown}```")), "the guide shows another manifest than examples/commands has");
    world.write("texts/a.md", "the \u{74}eh word\n"); // a misspelled one, which our own gates would find here
    world.write("texts/b.md", "TODO: the rest\n");
    assert_eq!(run_page(&world, "porting.md"), 3);
    let policy = ["check", "texts", "--policy", "commands/policy.toml", "--format", "json"];
    let report: serde_json::Value = serde_json::from_str(&world.run(&policy, 1).out).expect("JSON");
    assert_eq!(common::findings(&report), ["b.md:1:1 output", "a.md:1:5 output"]);
    world.write("texts/a.md", "the word\n");
    world.write("texts/b.md", "the rest\n");
    world.run(&policy, 0);
}

#[test]
fn what_cannot_be_packed_says_why() {
    let world = World::new();
    let refused = |text: &str, arguments: &[&str]| {
        world.write("in.wat", text);
        world.run(&[&["pack", "in.wat", "--output", "out.wasm"], arguments].concat(), 2).err
    };
    for (text, said) in [
        ("(module (func (export \"f\")))", "exports neither a function of the contract (`sandhog_worker_run`"),
        ("(module", "its text does not read"),
        ("no wasm at all", "it is not WebAssembly"),
        ("(module (func (export \"sandhog_worker_run\") (param i32) (result i32) i32.const 0))", "does not fit the contract"),
        ("(component)", "it exports nothing"),
    ] {
        let err = refused(text, &[]);
        assert!(err.contains(said), "{text}: {err}");
        assert!(!world.path().join("out.wasm").exists());
    }
    let both =
        COUNTS.replace("(memory (export", "(func (export \"sandhog_gate_check\") (param i32) (result i32) (i32.const 0)) (memory (export");
    assert!(refused(&both, &[]).contains("make two plugins of it"));
    world.write("bad.toml", "names = \"x\"\nlicense = 7\n");
    let err = refused(COUNTS, &["--manifest", "bad.toml"]);
    assert!(err.contains("names") && err.contains("did you mean `name`"), "{err}");
    world.write("licence.toml", "license = \"my own\"\n");
    assert!(refused(COUNTS, &["--manifest", "licence.toml"]).contains("`license` in the manifest"));
    world.write("schema.toml", "params = \"schema.json\"\n");
    world.write("schema.json", "[1]");
    assert!(refused(COUNTS, &["--manifest", "schema.toml"]).contains("a JSON schema is an object"));
    world.run(&["pack", "nowhere.wasm"], 2);
    world.write("counts.wat", COUNTS);
    world.run(&["pack", "counts.wat", "--output", "counts.wat/counts.wasm"], 2);
}

#[test]
fn check_tells_all_that_is_wrong_with_a_plugin_at_once() {
    let world = World::new();
    let text = r#"(component
      (import "sandhog:plugin/host@0.9.0" (instance))
      (import "acme:db/store@1.0.0" (instance))
      (import "wasi:sockets/tcp@0.2.0" (instance))
    )"#;
    world.write("odd.wasm", wat::parse_str(text).expect("a component"));
    world.write("odd.toml", "nothing = 1\n[limits]\nfuel = \"much\"\n");
    let told = world.run(&["plugins", "check", "./odd.wasm"], 2).out;
    for part in ["0.9.0 of the contract", "upgrade sandhog", "exports nothing", "acme:db/store@1.0.0", "odd.toml:1:1", "odd.toml:3:"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_packed_plugin_says_what_its_author_said_and_is_packed_again() {
    let world = World::new();
    world.write("counts.wat", COUNTS);
    let manifest = |version: &str| {
        format!(
            "name = \"counts\"\nversion = \"{version}\"\ndescription = \"Counts nothing\"\nauthors = [\"A. Author\"]\nlicense = \"MIT\"\n\
             source = \"https://example.com/counts\"\n[limits]\nfuel = \"1M\"\n[requests]\nclock = \"to date what it makes\"\n"
        )
    };
    world.write("plugin.toml", manifest("7.6.5"));
    assert!(world.run(&["pack", "counts.wat"], 0).out.starts_with("counts.wasm: "));
    world.write("plugin.toml", manifest("2.0.0"));
    world.run(&["pack", "counts.wasm", "--output", "again.wasm"], 0);
    assert!(world.run(&["pack", "counts.wasm"], 2).err.contains("would be written over"));
    assert!(world.run(&["pack", "counts.wat", "--output", "counts.wat"], 2).err.contains("would be written over"));
    assert!(world.run(&["pack", "counts.wat", "--output", "plugin.toml"], 2).err.contains("would be written over"));
    assert_eq!(world.read("counts.wat"), COUNTS);
    let text = world.run(&["plugins", "inspect", "./again.wasm"], 0).out;
    for part in ["counts 2.0.0", "Counts nothing", "A. Author", "MIT", "https://example.com/counts", "fuel 1M", "to date what it makes"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let bytes = std::fs::read(world.path().join("again.wasm")).expect("reads");
    assert_eq!(bytes.windows(5).filter(|part| part == b"7.6.5").count(), 0, "nothing of the first manifest is left");
    // It asks for the clock, and is not granted it.
    assert!(world.run(&["call", "./again.wasm"], 2).err.contains("clock"));
}

#[test]
fn cases_are_compared_written_anew_and_told_where_they_differ() {
    let world = World::new();
    world.run(&["new", "worker", "shout", "--lang", "wat"], 0);
    run_in(&world, "shout", "./build", &[], 0);
    let test = |arguments: &[&str], code| sandhog_in(&world, "shout", &[&["test"], arguments].concat(), code);
    world.write("shout/cases/shouts/expected/in.txt", "HELLO?\n");
    world.write("shout/cases/shouts/expected.txt", "completed\nartifact other.txt - 3B\n");
    let failed = test(&[], 1).out;
    for part in ["✗ shouts", "- artifact other.txt - 3B", "+ artifact in.txt text/plain 6B", "- HELLO?", "+ HELLO", "1 case, 1 failed"] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    world.write("shout/cases/bye/inputs/in.txt", "bye\n");
    assert!(test(&["--only", "bye"], 1).out.contains("write it with --update"));
    assert!(test(&["--update"], 0).out.contains("written"));
    assert_eq!(world.read("shout/cases/bye/expected/in.txt"), "BYE\n");
    let report: Value = serde_json::from_str(&test(&["--json"], 0).out).expect("JSON");
    assert_eq!((report["failed"].as_u64(), report["cases"].as_array().map(Vec::len)), (Some(0), Some(2)));
    world.write("shout/cases/bye/case.toml", "limits = { fuel = \"10\" }\n");
    assert!(test(&[], 1).out.contains("+ out_of_fuel"));
    world.write("shout/cases/bye/case.toml", "param = {}\n");
    assert!(test(&[], 2).err.contains("case.toml:1:1"), "a place");
    world.write("shout/cases/bye/case.toml", "");
    world.write("shout/cases/bye/subject/in.txt", "bye\n");
    assert!(test(&[], 2).err.contains("it has inputs/ and subject/"));
    assert!(test(&["--only", "nobody"], 2).err.contains("there is no case whose name contains nobody"));
    std::fs::remove_dir_all(world.path().join("shout/cases")).expect("removes");
    assert!(test(&[], 2).err.contains("there is no case"));
    std::fs::remove_file(world.path().join("shout/shout.wasm")).expect("removes");
    assert!(test(&[], 2).err.contains("build it first"));
    assert!(world.run(&["test"], 2).err.contains("there is no plugin.toml here"));
}

#[test]
fn a_plugin_that_does_not_bear_what_every_plugin_should_is_told_so() {
    let world = World::new();
    // It reads its first input without asking whether there is one.
    let careless = COUNTS.replace(
        "(i32.store8 (i32.const 0) (i32.const 0))",
        "(if (i32.eqz (i32.load offset=44 (local.get 0))) (then unreachable)) (i32.store8 (i32.const 0) (i32.const 0))",
    );
    world.write("careless.wat", careless);
    world.run(&["pack", "careless.wat", "--output", "careless.wasm"], 0);
    let told = world.run(&["test", "./careless.wasm", "--conformance"], 1).out;
    assert!(told.contains("✗ no input") && told.contains("it ended as trapped"), "{told}");
}

#[test]
fn what_a_case_grants_is_there_and_nothing_else_is() {
    let world = World::new();
    let echo = root().join("dist/plugins/echo.wasm");
    world.write("cases/one/inputs/in.txt", "hello\n");
    world.write(
        "cases/one/case.toml",
        "criteria = [\"short\"]\n[grant]\nenvironment = { LANG = \"C\" }\n[[feedback]]\nrule = \"E1\"\nmessage = \"no\"\n",
    );
    world.run(&["test", echo.to_str().expect("UTF-8"), "--update"], 0);
    assert!(world.read("cases/one/expected.txt").starts_with("completed\n"));
    world.run(&["test", echo.to_str().expect("UTF-8")], 0);
}

#[test]
fn grants_are_shown_written_held_and_taken_away() {
    let world = World::new();
    world.write("counts.wat", COUNTS);
    world.write("docs/a.md", "# A\n");
    world.write("sandhog.toml", "# mine\nplugins = [\"plugins\"]\n\n[check] # none\n");
    let pack = |version: &str| {
        let requests = "[requests]\nclock = \"dates it\"\nfiles = [{ at = \"/docs\", why = \"reads pages\" }]\n";
        world.write("plugin.toml", format!("name = \"counts\"\nversion = \"{version}\"\n{requests}"));
        world.write("plugins/x", "");
        world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 0);
    };
    pack("1.0.0");
    let held = world.run(&["plugins", "diff"], 1).out;
    assert!(held.contains("held:") && held.contains("counts") && held.contains("dates it"), "{held}");
    let lacking = world.run(&["plugins", "grant", "counts"], 2).err;
    assert!(lacking.contains("--files /docs=PATH  (reads pages)") && lacking.contains("nothing was written"), "{lacking}");
    world.run(&["plugins", "grant", "counts", "--files", "docs"], 2);
    world.run(&["plugins", "grant", "counts", "--files", "docs=docs"], 2);
    assert!(world.run(&["plugins", "grant", "counts", "--files", "/docs=docs:write"], 2).err.contains("unknown access `write`"));
    world.run(&["plugins", "grant", "nobody"], 2);
    let before = world.read("sandhog.toml");
    let dry = world.run(&["plugins", "grant", "counts", "--files", "/docs=docs", "--dry-run"], 0).out;
    assert!(dry.contains("would change") && dry.contains("+ [grants.counts]") && dry.contains("+ clock = true"), "{dry}");
    assert_eq!(world.read("sandhog.toml"), before);
    world.run(&["plugins", "grant", "counts", "--files", "/docs=docs"], 0);
    let after = world.read("sandhog.toml");
    assert!(after.starts_with(&before) && after.contains("files = [{ path = \"docs\", at = \"/docs\", access = \"read\" }]"), "{after}");
    assert_eq!(world.run(&["plugins", "diff"], 0).out, "fits: counts\n");
    world.run(&["call", "counts"], 0);
    assert!(world.run(&["plugins", "grant", "counts"], 0).out.contains("nothing changes"));
    // Another file of the same name is held, until somebody looks.
    pack("2.0.0");
    assert!(world.run(&["plugins", "diff", "counts"], 1).out.contains("held:"));
    assert!(world.run(&["plugins", "list"], 0).err.contains("held: counts ("));
    assert!(world.run(&["plugins", "inspect", "counts"], 0).out.contains("state     held; sha256:"));
    assert!(world.run(&["plugins", "check"], 2).out.contains("bad: counts: `counts` changed since it was granted something"));
    assert!(world.run(&["call", "counts"], 0).err.contains("the one of then goes on"));
    // One who has never seen the one that was granted has nothing that could go on.
    world.run(&["call", "counts", "--cache-dir", "another"], 2);
    let changed = world.run(&["plugins", "grant", "counts"], 0).out;
    let lines: Vec<&str> = changed.lines().skip(1).collect();
    assert!(lines.len() == 2 && lines[0].starts_with("- digest") && lines[1].starts_with("+ digest"), "{changed}");
    world.run(&["call", "counts"], 0);
    world.run(&["plugins", "revoke", "counts"], 0);
    assert_eq!(world.read("sandhog.toml").trim_end(), before.trim_end());
    assert!(world.run(&["plugins", "revoke", "counts"], 2).err.contains("nothing is granted"));
    // Who grants in a directory that he trusts, trusts it still.
    world.run(&["trust"], 0);
    world.run(&["plugins", "grant", "counts", "--files", "/docs=docs:read-write"], 0);
    let notes = world.json(&["--gate", "lint-markdown"], 0)["notes"].to_string();
    assert!(!notes.contains("not trusted") && !notes.contains("does not count"), "{notes}");
}

#[test]
fn an_instance_does_several_tasks_where_that_is_asked_for_and_granted() {
    let world = World::new();
    world.write("sandhog.toml", "plugins = [\"plugins\"]\n");
    let asks =
        |name: &str, reuse: &str| world.write(&format!("plugins/{name}.toml"), format!("name = \"{name}\"\n[requests]\nreuse = {reuse}\n"));
    asks("remembers", "{ uses = 3, why = \"counts on\" }");
    asks("judges", "{ uses = 3, why = \"counts on\" }");
    world.write("plugins/other.toml", "name = \"other\"\n");
    for (name, file) in [("remembers", "remembers"), ("judges", "remembers_verdicts"), ("other", "remembers_verdicts")] {
        let built = root().join(format!("dist/guests/{file}.wasm"));
        std::fs::copy(built, world.path().join(format!("plugins/{name}.wasm"))).expect("scripts/guests first");
    }
    (0..5).for_each(|n| world.write(&format!("in/{n}.txt"), "x"));
    let step = "[[step]]\nid = \"count\"\nworker = \"remembers\"\ninputs = [\"in/*.txt\"]\nforeach = true\n";
    world.write("count.toml", format!("name = \"count\"\n{step}"));
    let told = || -> Vec<char> {
        let _ = std::fs::remove_dir_all(world.path().join("out"));
        world.run(&["run", "count.toml", "--concurrency", "1", "--out", "out"], 0);
        let files = (0..5).map(|n| world.read(&format!("out/count/{n}/told")));
        let mut told: Vec<char> = files.map(|text| text.chars().nth("task ".len()).expect("a number")).collect();
        told.sort_unstable();
        told
    };
    assert_eq!(told(), ['1'; 5], "without a grant each task has a fresh instance");
    let dry = world.run(&["plugins", "grant", "remembers", "--dry-run"], 0).out;
    assert!(dry.contains("+ reuse = 3"), "{dry}");
    world.run(&["plugins", "grant", "remembers", "--reuse", "100"], 0);
    assert_eq!(told(), ['1', '1', '2', '2', '3'], "no more than it asked for");
    let inspected = world.run(&["plugins", "inspect", "remembers"], 0).out;
    assert!(inspected.contains("up to 3 tasks for one instance\n") && inspected.contains("outputs may differ"), "{inspected}");
    let config = world.read("sandhog.toml");
    world.write("sandhog.toml", format!("{config}\n[ceiling]\nreuse = false\n"));
    assert_eq!(told(), ['1'; 5], "the ceiling caps it");
    let noted = world.run(&["plugins", "grant", "remembers", "--reuse", "50"], 0).err;
    assert!(noted.contains("[ceiling] forbids `reuse`") && noted.contains("asks for a reuse of 3, and will have that, not 50"), "{noted}");
    // Never for gates: neither asked for, nor granted.
    let bad = world.run(&["plugins", "check", "plugins/judges.wasm"], 2).out;
    assert!(bad.contains("it is a gate, and asks for `reuse` in [requests], which is for workers alone"), "{bad}");
    let refused = world.run(&["plugins", "grant", "other", "--reuse", "5"], 2).err;
    assert!(refused.contains("--reuse: other is a gate"), "{refused}");
    world.run(&["plugins", "grant", "other"], 0);
    world.write("sandhog.toml", format!("{}reuse = 5\n", world.read("sandhog.toml").replace("[ceiling]\nreuse = false\n", "")));
    let refused = world.run(&["call", "other"], 2).err;
    assert!(refused.contains("`other` is a gate") && refused.contains("take `reuse` out of [grants.other]"), "{refused}");
    for (line, problem) in [("reuse = 0", "whole number from 1 to 10000"), ("reuse = true", "whole number from 1 to 10000")] {
        world.write("sandhog.toml", config.replace("reuse = 100", line));
        assert!(world.run(&["plugins", "list"], 2).err.contains(problem), "{line}");
    }
    for (line, problem) in [
        ("{ uses = 1, why = \"x\" }", "whole number from 2 to 10000"),
        ("{ why = \"x\" }", "a request for reuse without `uses`"),
        ("{ uses = 5 }", "a request without `why`"),
        ("5", "expected `reuse` to be a table"),
    ] {
        world.write("sandhog.toml", &config);
        asks("remembers", line);
        let told = world.run(&["plugins", "check", "plugins/remembers.wasm"], 2).out;
        assert!(told.contains(problem), "{line}: {told}");
    }
}

/// A limit on the size of files stands for a disk that is full: what is written fails midway.
#[test]
fn what_finds_no_room_is_told_and_leaves_nothing_behind() {
    let world = World::new();
    std::fs::copy(built("javascript-worker"), world.path().join("large.wasm")).expect("copies");
    world.write("in.txt", "hello\n");
    let run = |arguments: &str, code: i32| {
        let script = format!("trap '' XFSZ; ulimit -f 64; exec {} {arguments}", env!("CARGO_BIN_EXE_sandhog"));
        ran(&mut world.command("bash", &["-c", &script]), code)
    };
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(world.path().join(folder)).expect("a folder");
        let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let before = names(".");
    let told = run("pack large.wasm --output packed.wasm", 3).err;
    assert!(told.contains("packed.wasm cannot be written: File too large"), "{told}");
    let told = run("plugins add large.wasm --to plugins", 2).err;
    assert!(told.contains("plugins: File too large") && told.contains("nothing was added"), "{told}");
    assert_eq!(names("."), before);
    // What cannot be kept is done all the same.
    let small = built("rust-worker");
    let called = run(&format!("call {small} --input in.txt --cache-dir cache"), 0);
    assert!(called.out == "HELLO!\n" && called.err.contains("compiled code could not be kept"), "{}{}", called.out, called.err);
    assert_eq!(names("cache/compiled"), ["key"]);
    // Its memory is an image that the host cannot write: that is the host's fault, and no violation of the guest's.
    let failed = run("call ./large.wasm --input in.txt", 3).err;
    assert!(failed.contains("failed: host (blame: host)") && failed.contains("File too large"), "{failed}");
    world.write("many.txt", "x".repeat(100_000));
    let echo = root().join("dist/plugins/echo.wasm").display().to_string();
    let told = run(&format!("call {echo} --input many.txt --out out"), 3).err;
    assert!(told.contains("cannot be written below") && told.contains("File too large"), "{told}");
}

/// A manifest beside a component renames it, say; what it does not speak of is as the component's author said.
#[test]
fn what_is_written_beside_a_plugin_takes_nothing_else_away() {
    let world = World::new();
    world.write("sandhog.toml", "plugins = [\"plugins\"]\n");
    world.write("counts.wat", COUNTS);
    world
        .write("plugin.toml", "name = \"counts\"\ndescription = \"old\"\n[limits]\nmemory = \"16MiB\"\n[requests]\nclock = \"dates it\"\n");
    world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 0);
    world.write("plugins/counts.toml", "name = \"other\"\n");
    let told = world.run(&["plugins", "inspect", "other"], 0).out;
    for said in ["old", "memory 16MiB", "clock: dates it", "held: `other` needs what it is not granted"] {
        assert!(told.contains(said), "{said}: {told}");
    }
    world.write("plugins/counts.toml", "description = \"new\"\n[requests]\n");
    let told = world.run(&["plugins", "inspect", "counts"], 0).out;
    assert!(told.contains("new") && told.contains("memory 16MiB") && !told.contains("dates it"), "{told}");
    // One that may not have its limits is shown, all the same.
    world.write("plugins/counts.toml", "[limits]\nmemory = \"900TiB\"\n[requests]\n");
    let told = world.run(&["plugins", "inspect", "counts"], 0).out;
    assert!(told.contains("limits    held:") && told.contains("exports"), "{told}");
    world.run(&["call", "counts"], 2);
    // What is told to nobody is no reason to fail.
    world.write("plugins/bad.wasm", "no wasm");
    let script = format!("{} plugins list 2> >(exec true) >/dev/null; echo $?", env!("CARGO_BIN_EXE_sandhog"));
    for _ in 0..5 {
        assert_eq!(ran(&mut world.command("bash", &["-c", &script]), 0).out, "0\n");
    }
    // A schema that means itself is nobody's params' fault.
    world.write("schema.json", "{\"$ref\": \"#\"}");
    world.write("plugin.toml", "name = \"counts\"\nparams = \"schema.json\"\n");
    let told = world.run(&["pack", "counts.wat"], 2).err;
    assert!(told.contains("schema.json: its schema is no valid JSON schema:") && told.contains("reference cycle"), "{told}");
}

#[test]
fn what_a_person_wrote_around_a_grant_stays_and_what_is_granted_is_said() {
    let world = World::new();
    world.write("counts.wat", COUNTS);
    let plugin = "name = \"counts\"\n[requests]\nclock = \"dates it\"\n";
    world.write("plugin.toml", plugin);
    world.write("plugins/x", "");
    world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 0);
    let digest = format!("sha256:{}", "0".repeat(64));
    let before = format!(
        "plugins = [\"plugins\"] # ours\r\n\r\n# of all grants\r\n[grants.counts]\r\n# by whom\r\ndigest = \"{digest}\" # when\r\n# why\r\nclock = true # until\r\n"
    );
    world.write("sandhog.toml", &before);
    let ran = world.run(&["plugins", "grant", "counts", "--randomness"], 0);
    assert!(ran.err.contains("counts is granted, all in all:\n  clock = true # until\n  randomness = true\n"), "{}", ran.err);
    assert!(ran.err.contains("note: counts does not ask for randomness, and will not have it"), "{}", ran.err);
    let after = world.read("sandhog.toml");
    let found = after.split('"').nth(3).expect("a digest").to_owned();
    assert_eq!(after, before.replace(&digest, &found) + "randomness = true\r\n");
    // A variable that is not set keeps nobody from anything but running the plugin that is to have it.
    let unset = world.run(&["plugins", "grant", "counts", "--environment", "NOT_SET_ANYWHERE"], 0).err;
    assert!(unset.contains("NOT_SET_ANYWHERE is not set here"), "{unset}");
    world.run(&["plugins", "list"], 0);
    world.run(&["call", "counts"], 0); // it never asked for it
    world.write("plugin.toml", "name = \"counts\"\n[requests]\nenvironment = [{ name = \"NOT_SET_ANYWHERE\", why = \"greets\" }]\n");
    world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 0);
    world.run(&["plugins", "grant", "counts"], 0);
    let held = world.run(&["call", "counts"], 2).err;
    assert!(held.contains("the environment variable `NOT_SET_ANYWHERE` is granted to `counts`, and not set"), "{held}");
    world.write("plugin.toml", plugin);
    world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 0);
    world.write("sandhog.toml", &after);
    // Nothing is written that would not be read, and who may read it stays so.
    for (bad, said) in [
        (["--outbound", "notaurl"], "notaurl"),
        (["--environment", "NO NAME"], "expected the name of an environment variable"),
        (["--files", "/docs="], "a folder behind"),
    ] {
        assert!(world.run(&[&["plugins", "grant", "counts"][..], &bad].concat(), 2).err.contains(said), "{bad:?}");
        assert_eq!(world.read("sandhog.toml"), after);
    }
    let file = world.path().join("sandhog.toml");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    world.run(&["plugins", "disable", "counts"], 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    world.run(&["plugins", "enable", "counts"], 0);
    // Many at once wait for each other.
    let names: Vec<String> = (0..8).map(|number| format!("p{number}")).collect();
    for name in &names {
        world.write(&format!("plugins/{name}.toml"), format!("name = \"{name}\"\n"));
        std::fs::copy(world.path().join("plugins/counts.wasm"), world.path().join(format!("plugins/{name}.wasm"))).expect("copies");
    }
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| world.run(&["plugins", "disable", name], 0));
        }
    });
    assert_eq!(world.read("sandhog.toml").matches("enabled = false").count(), 8);
    let missing = world.run(&["plugins", "grant", "counts", "--files", "/docs=nowhere"], 2).err;
    assert!(missing.contains("nowhere is no folder; nothing was written"), "{missing}");
}

/// A worker that says nothing and takes params of a schema.
fn with_schema(world: &World) {
    world.write("counts.wat", COUNTS);
    world.write("schema.json", r#"{"type": "object", "required": ["style"], "properties": {"style": {"enum": ["short", "long"]}}}"#);
    world.write("plugin.toml", "name = \"counts\"\nparams = \"schema.json\"\n");
    world.write("sandhog.toml", "plugins = [\"plugins\"]\n");
    world.write("plugins/x", "");
    world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 0);
}

#[test]
fn params_are_held_against_the_schema_that_a_plugin_has() {
    let world = World::new();
    with_schema(&world);
    world.run(&["call", "counts", "--param", "style=long"], 0);
    let refused = world.run(&["call", "counts", "--param", "style=wide"], 2).err;
    assert!(refused.contains("`counts` does not take these params:\n  params.style: value must be one of 'short', 'long'"), "{refused}");
    assert!(refused.contains("`sandhog plugins inspect counts` shows the schema"), "{refused}");
    let step = |more: &str| format!("name = \"w\"\n[[step]]\nid = \"a\"\nworker = \"counts\"\n{more}");
    world.write("workflow.toml", step("params = { style = \"short\" }\n"));
    world.run(&["plan", "workflow.toml"], 0);
    world.write("workflow.toml", step("params = { style = 3 }\n"));
    let refused = world.run(&["plan", "workflow.toml"], 2).err;
    assert!(refused.contains("workflow.toml:5") && refused.contains("`counts`: params.style: value must be one of"), "{refused}");
    world.write("workflow.toml", step(""));
    let refused = world.run(&["run", "workflow.toml"], 2).err;
    assert!(refused.contains("workflow.toml:4") && refused.contains("missing properties 'style'"), "{refused}");

    // A schema may be made so that it takes for ever: that is the plugin's fault, and found out in time.
    let steps: Vec<String> = (0..40)
        .map(|n| format!("\"s{n}\": {{\"allOf\": [{{\"$ref\": \"#/$defs/s{m}\"}}, {{\"$ref\": \"#/$defs/s{m}\"}}]}}", m = n + 1))
        .collect();
    let definitions = format!("\"$defs\": {{{}, \"s40\": {{}}}}", steps.join(", "));
    world.write("schema.json", format!("{{{definitions}, \"$ref\": \"#/$defs/s0\"}}"));
    let refused = world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 2).err;
    assert!(refused.contains("schema.json: it needs more than 3s of processor time to check, and was stopped"), "{refused}");
    world.write("schema.json", format!("{{{definitions}, \"if\": {{\"required\": [\"slow\"]}}, \"then\": {{\"$ref\": \"#/$defs/s0\"}}}}"));
    world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 0);
    let refused = world.run(&["call", "counts", "--param", "slow=1"], 2).err;
    assert!(refused.contains("the params of `counts` cannot be checked: it needs more than"), "{refused}");
}

#[test]
fn a_plugin_counts_only_with_a_signature_where_keys_are_named() {
    let data = root().join("tests/data/signed");
    let world = World::new();
    let key = |name: &str| std::fs::read_to_string(data.join(name)).expect("reads").lines().nth(1).expect("a key").to_owned();
    let configure = |key: &str| world.write("sandhog.toml", format!("plugins = [\"plugins\"]\n[signatures]\nkeys = [\"{key}\"]\n"));
    configure(&key("minisign.pub"));
    let source = data.to_str().expect("UTF-8");
    world.run(&["plugins", "add", source, "--to", "plugins"], 0);
    world.run(&["call", "signed"], 0);
    world.run(&["call", "./plugins/signed.wasm"], 0);
    let list = world.run(&["plugins", "list"], 0);
    assert!(list.out.contains("Signed, and so is this") && list.err.is_empty(), "{}{}", list.out, list.err);

    // Its manifest is a part of what was signed; and no signature is as bad as a wrong one.
    world.write("plugins/signed.toml", "description = \"Signed, and so is that\"\n");
    assert!(world.run(&["call", "signed"], 2).err.contains("signed.toml.minisig: it is by none of the keys of [signatures]"));
    std::fs::remove_file(world.path().join("plugins/signed.toml")).expect("removes");
    world.run(&["call", "signed"], 0);
    std::fs::rename(world.path().join("plugins/signed.wasm.minisig"), world.path().join("away")).expect("renames");
    let unsigned = world.run(&["call", "signed"], 2).err;
    assert!(unsigned.contains("it is not signed: there is no") && unsigned.contains("[signatures] asks for one"), "{unsigned}");
    assert!(world.run(&["call", "./plugins/signed.wasm"], 2).err.contains("it is not signed"));
    world.write("plugins/signed.wasm.minisig", "no signature");
    world.run(&["call", "signed"], 2);
    std::fs::rename(world.path().join("away"), world.path().join("plugins/signed.wasm.minisig")).expect("renames");
    world.run(&["call", "signed"], 0);
    let mut bytes = std::fs::read(world.path().join("plugins/signed.wasm")).expect("reads");
    bytes.extend([0, 2, 1, b'x']); // one more section, which says nothing
    world.write("plugins/signed.wasm", &bytes);
    assert!(world.run(&["call", "signed"], 2).err.contains("or of another file"));
    assert!(world.run(&["plugins", "add", "plugins/signed.wasm", "--to", "more"], 2).err.contains("or of another file"));
    assert!(!world.path().join("more").exists(), "a folder that was made for nothing");

    configure(&key("another.pub"));
    assert!(world.run(&["plugins", "add", source, "--to", "more"], 2).err.contains("it is by none of the keys"));
    world.write("a.json", "{}");
    world.run(&["trust"], 0);
    world.json(&["--gate", "lint-json"], 0); // what comes with sandhog is as trusted as it is
    configure("RWQ");
    assert!(world.run(&["plugins", "list"], 2).err.contains("this is no public key of minisign"));
}

#[test]
fn requests_of_a_test_are_answered_by_its_case_and_by_nobody_else() {
    let world = World::new();
    let guest = root().join("dist/guests/calls_out.wasm");
    std::fs::copy(guest, world.path().join("asks.wasm")).expect("scripts/guests first");
    let case = "params = { urls = [\"https://api.example.com/a\", \"https://api.example.com/b\", \"https://else.example.com/\"] }\n\
                [grant]\noutbound = [\"https://api.example.com\"]\n\
                [[http]]\nurl = \"https://api.example.com/a\"\nstatus = 201\nbody = \"one\"\n";
    world.write("cases/asks/case.toml", case);
    world.write("cases/asks/inputs/x", "");
    world.run(&["test", "./asks.wasm", "--update"], 0);
    assert_eq!(
        world.read("cases/asks/expected/answers.txt").lines().map(|line| line.split(' ').next().unwrap_or("")).collect::<Vec<_>>(),
        ["201", "failed", "denied"]
    );
    let expected = world.read("cases/asks/expected.txt");
    assert!(expected.contains("https://api.example.com/b has no answer here: no [[http]] of the case names it"), "{expected}");
    world.run(&["test", "./asks.wasm"], 0);
    world.write("outside/secret", "");
    world.write("cases/asks/case.toml", case.replace("[grant]\n", "[grant]\nfiles = [{ path = \"../../outside\", at = \"/x\" }]\n"));
    assert!(world.run(&["test", "./asks.wasm"], 2).err.contains("is not in the folder of the cases"));
    world.write("cases/asks/case.toml", case.replace("one", "two"));
    assert!(world.run(&["test", "./asks.wasm"], 1).out.contains("two"));
}

#[test]
fn a_module_is_optimized_by_the_program_that_others_use() {
    let world = World::new();
    world.write("counts.wat", COUNTS);
    let bin = world.path().join("bin");
    // One that takes what follows --output, and copies the last argument there, as the real one does with less in it.
    world.write("bin/wasm-opt", "#!/bin/sh\necho \"$@\" >> \"$0.log\"\nwhile [ $# -gt 2 ]; do if [ \"$1\" = --output ]; then to=$2; fi; shift; done\nfor from; do :; done\ncp \"$from\" \"$to\"\n");
    std::fs::set_permissions(bin.join("wasm-opt"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let run = |arguments: &[&str], path: &str, code: i32| {
        let mut command = world.command(env!("CARGO_BIN_EXE_sandhog"), arguments);
        ran(command.env("PATH", path), code)
    };
    let path = format!("{}:/usr/bin:/bin", bin.display());
    run(&["pack", "counts.wat", "--output", "a.wasm", "--optimize"], &path, 0);
    run(&["pack", "counts.wat", "--output", "a.wasm", "--optimize", "3"], &path, 0);
    let log = world.read("bin/wasm-opt.log");
    assert!(log.starts_with("-Os --enable-bulk-memory") && log.lines().nth(1).is_some_and(|line| line.starts_with("-O3 ")), "{log}");
    world.run(&["call", "./a.wasm"], 0);
    assert!(run(&["pack", "a.wasm", "--output", "b.wasm", "--optimize"], &path, 2).err.contains("wasm-opt takes core modules"));
    assert!(run(&["pack", "counts.wat", "--output", "b.wasm", "--optimize"], "/nowhere", 2).err.contains("wasm-opt cannot be run"));
    assert!(!world.path().join("b.wasm").exists());
}

#[test]
fn what_debuggers_need_is_taken_out_where_that_is_asked_for() {
    let world = World::new();
    world.write(
        "counts.wat",
        COUNTS.replace("(func (export \"sandhog_worker_run\")", "(func $a_name_of_a_function (export \"sandhog_worker_run\")"),
    );
    let packed = |arguments: &[&str]| {
        world.run(&[&["pack", "counts.wat", "--output", "a.wasm"], arguments].concat(), 0);
        std::fs::read(world.path().join("a.wasm")).expect("reads")
    };
    let has_name = |bytes: &[u8]| bytes.windows(20).any(|window| window == b"a_name_of_a_function");
    assert!(has_name(&packed(&[])));
    assert!(!has_name(&packed(&["--strip"])));
    world.run(&["call", "./a.wasm"], 0);
}

#[test]
fn a_plugin_is_switched_off_and_on_by_a_line_of_the_configuration() {
    let world = World::new();
    world.write("counts.wat", COUNTS);
    world.write("sandhog.toml", "plugins = [\"plugins\"]\n\n[plugin.counts]\nconcurrency = 2 # at once\n");
    world.write("plugins/x", "");
    let before = world.read("sandhog.toml");
    world.run(&["pack", "counts.wat", "--output", "plugins/counts.wasm"], 0);
    world.run(&["call", "counts"], 0);
    world.run(&["plugins", "disable", "counts", "--dry-run"], 0);
    world.run(&["call", "counts"], 0);
    assert!(world.run(&["plugins", "disable", "counts"], 0).out.ends_with("+ enabled = false\n"));
    let refused = world.run(&["call", "counts"], 2).err;
    assert!(refused.contains("`counts` is disabled: `sandhog plugins enable counts` takes it back"), "{refused}");
    assert!(world.run(&["plugins", "list"], 0).err.contains("disabled: counts ("));
    assert!(world.run(&["plugins", "inspect", "counts"], 0).out.contains("disabled"));
    assert!(world.run(&["plugins", "disable", "counts"], 0).out.contains("nothing changes"));
    world.run(&["plugins", "enable", "counts"], 0);
    assert_eq!(world.read("sandhog.toml"), before);
    world.run(&["call", "counts"], 0);
    assert!(world.run(&["plugins", "disable", "count"], 2).err.contains("did you mean `counts`"));
    assert!(world.run(&["plugins", "enable", "count"], 2).err.contains("did you mean `counts`"));
    world.write("sandhog.toml", "plugin = 1\n");
    assert!(world.run(&["plugins", "disable", "counts", "--plugins", "plugins"], 2).err.contains("plugin"));
    // One that comes with sandhog, too; and a check says so.
    world.write("sandhog.toml", "[plugin.lint-json]\nenabled = false\n");
    world.write("a.json", "{");
    world.run(&["trust"], 0);
    let report = world.json(&[], 0);
    assert!(report["notes"].to_string().contains("lint-json is disabled, and judges nothing"), "{report}");
}

#[test]
fn plugins_are_added_from_where_they_are_kept_all_or_none() {
    let world = World::new();
    world.write("counts.wat", COUNTS);
    let pack = |version: &str, to: &str| {
        world.write("plugin.toml", format!("name = \"counts\"\nversion = \"{version}\"\n"));
        world.run(&["pack", "counts.wat", "--output", to], 0);
        std::fs::read(world.path().join(to)).expect("reads")
    };
    let first = pack("1.0.0", "made/some.wasm");
    assert!(world.run(&["plugins", "add", "made/some.wasm"], 2).err.contains("--to FOLDER"));
    let told = world.run(&["plugins", "add", "made/some.wasm", "--to", "plugins"], 0).out;
    assert_eq!(told, "added counts (worker) to plugins, from file:made/some.wasm\n");
    assert!(world.run(&["plugins", "inspect", "counts", "--plugins", "plugins"], 0).out.contains("origin    file:made/some.wasm, added 2"));
    assert_eq!(std::fs::read(world.path().join("plugins/counts.wasm")).expect("reads"), first);
    // The same again is nothing new; another one is not put over it unasked, and nothing of a batch that has a bad one comes in.
    world.run(&["plugins", "add", "made", "--to", "plugins"], 0);
    let second = pack("2.0.0", "made/some.wasm");
    assert!(world.run(&["plugins", "add", "made", "--to", "plugins"], 2).err.contains("--replace puts this one in its place"));
    world.write("made/bad.wasm", "no wasm");
    assert!(world.run(&["plugins", "add", "made", "--to", "plugins", "--replace"], 2).err.contains("nothing was added"));
    assert_eq!(std::fs::read(world.path().join("plugins/counts.wasm")).expect("reads"), first);
    std::fs::remove_file(world.path().join("made/bad.wasm")).expect("removes");
    world.run(&["plugins", "add", "made", "--to", "plugins", "--replace"], 0);
    assert_eq!(std::fs::read(world.path().join("plugins/counts.wasm")).expect("reads"), second);
    assert_eq!(std::fs::read_dir(world.path().join("plugins")).expect("reads").count(), 2, "the plugin and origins.toml, and nothing else");
    // What somebody wrote about it stays, and no link is followed.
    world.write("plugins/counts.toml", "# mine\n");
    world.run(&["plugins", "add", "made", "--to", "plugins", "--replace"], 0);
    assert_eq!(world.read("plugins/counts.toml"), "# mine\n");
    world.write("made/some.toml", "# theirs\n");
    world.run(&["plugins", "add", "made", "--to", "plugins"], 2);
    assert_eq!(world.read("plugins/counts.toml"), "# mine\n");
    std::fs::remove_file(world.path().join("made/some.toml")).expect("removes");
    // What lies beside it is read as it is, or nothing is added: a manifest that cannot be read would be missed.
    for ending in ["toml", "wasm.minisig", "toml.minisig"] {
        let beside = world.path().join(format!("made/some.{ending}"));
        std::os::unix::fs::symlink("/dev/zero", &beside).expect("links");
        let refused = world.run(&["plugins", "add", "made/some.wasm", "--to", "other"], 2).err;
        assert!(refused.contains(&format!("made/some.{ending}: it is a symbolic link")), "{refused}");
        std::fs::remove_file(&beside).expect("removes");
        rustix::fs::mknodat(rustix::fs::CWD, &beside, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
        assert!(world.run(&["plugins", "add", "made", "--to", "other"], 2).err.contains("only regular files are read"));
        std::fs::remove_file(&beside).expect("removes");
    }
    assert!(!world.path().join("other").exists());
    world.write("outside.wasm", "kept");
    std::fs::create_dir(world.path().join("linked")).expect("makes");
    std::os::unix::fs::symlink("../outside.wasm", world.path().join("linked/counts.wasm")).expect("links");
    assert!(world.run(&["plugins", "add", "made", "--to", "linked", "--replace"], 2).err.contains("is a link"));
    assert_eq!(world.read("outside.wasm"), "kept");
    // An image, of which every part has to be what its digest says.
    let blob = |bytes: &[u8]| {
        let digest = sandhog::model::Digest::of(bytes).to_string();
        world.write(&format!("image/blobs/sha256/{}", digest.trim_start_matches("sha256:")), bytes);
        digest
    };
    world.write("image/oci-layout", "{\"imageLayoutVersion\": \"1.0.0\"}");
    let layer = blob(&first);
    let image = |said: usize| {
        let text = format!("{{\"layers\": [{{\"mediaType\": \"application/wasm\", \"digest\": \"{layer}\", \"size\": {said}}}]}}");
        let manifest = blob(text.as_bytes());
        world.write("image/index.json", format!("{{\"manifests\": [{{\"digest\": \"{manifest}\", \"size\": {}}}]}}", text.len()));
    };
    image(first.len() - 1);
    assert!(world.run(&["plugins", "add", "image", "--to", "other"], 2).err.contains("its descriptor says"));
    image(first.len());
    assert!(world.run(&["plugins", "add", "image", "--to", "other"], 0).out.contains("from oci:image"));
    assert_eq!(std::fs::read(world.path().join("other/counts.wasm")).expect("reads"), first);
    world.write(&format!("image/blobs/sha256/{}", layer.trim_start_matches("sha256:")), &second);
    assert!(world.run(&["plugins", "add", "image", "--to", "third"], 2).err.contains("another file than its name says"));
    world.write("image/index.json", "{\"manifests\": [{\"digest\": \"sha256:../../../etc/passwd\"}]}");
    assert!(world.run(&["plugins", "add", "image", "--to", "third"], 2).err.contains("is no digest"));
}

#[test]
fn a_program_of_a_crate_is_built_by_cargo_and_added() {
    let world = World::new();
    world.write("prints.wat", "(module (memory (export \"memory\") 1) (func (export \"_start\")))");
    world.run(&["pack", "prints.wat", "--output", "prints.wasm"], 0);
    // In cargo's place: it is told what to build, and where to put it.
    world.write(
        "bin/cargo",
        "#!/bin/sh\necho \"$@\" > told\n[ \"$2\" = broken ] && exit 101\nmkdir -p \"$7/bin\" && cp prints.wasm \"$7/bin/rg.wasm\"\n",
    );
    std::fs::set_permissions(world.path().join("bin/cargo"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permits");
    let add = |package: &str, code| {
        let mut command = world.command(env!("CARGO_BIN_EXE_sandhog"), &["plugins", "add", "--cargo", package, "--to", "plugins"]);
        ran(command.env("PATH", format!("{}:/usr/bin:/bin", world.path().join("bin").display())), code)
    };
    assert!(add("ripgrep@15.2.0", 0).out.contains("added rg (command) to plugins, from cargo:ripgrep@15.2.0"));
    let told = world.read("told");
    assert!(told.starts_with("install ripgrep --locked --target wasm32-wasip2 --root ") && told.ends_with("--version 15.2.0\n"), "{told}");
    assert!(world.run(&["plugins", "inspect", "rg", "--plugins", "plugins"], 0).out.starts_with("rg 15.2.0\n"));
    let more = ["--target", "wasm32-wasip1", "--no-default-features", "--features", "wasi"];
    let mut command = world.command(
        env!("CARGO_BIN_EXE_sandhog"),
        &[&["plugins", "add", "--replace", "--cargo", "ripgrep", "--to", "plugins"][..], &more].concat(),
    );
    ran(command.env("PATH", format!("{}:/usr/bin:/bin", world.path().join("bin").display())), 0);
    let told = world.read("told");
    assert!(told.contains("--target wasm32-wasip1 ") && told.ends_with("--features wasi --no-default-features\n"), "{told}");
    assert!(add("broken", 2).err.contains("cargo could not build broken; nothing was added"));
    assert!(add("rip grep", 2).err.contains("NAME or NAME@VERSION"));
}

#[test]
fn a_plugin_that_is_named_by_its_path_is_run_and_measured_where_no_folder_has_it() {
    let world = World::new();
    world.run(&["new", "worker", "shout", "--lang", "wat"], 0);
    run_in(&world, "shout", "./build", &[], 0);
    world.write("w.toml", "name = \"w\"\n[[step]]\nid = \"a\"\nworker = \"shout/shout.wasm\"\ninputs = [\"w.toml\"]\n");
    world.run(&["run", "w.toml", "--out", "out"], 0);
    assert!(world.read("out/a/0/w.toml").contains("NAME = \"W\""));
    let told = world.run(&["bench", "--plugin", "shout/shout.wasm", "--tasks", "10", "--blocks", "1", "--json"], 0).out;
    assert!(told.contains("\"run_over_wasmtime\""), "{told}");
}
