//! The command line, through its real binary: what the README shows, what the examples do, and everything that can be wrong
//! with what a person gives it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// One cache of compiled code for all tests of this file: kept in the build folder.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

fn sandhog(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandhog"));
    command
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("SANDHOG_CACHE_DIR", cache())
        .env("SANDHOG_GATES", "")
        .stdin(Stdio::null());
    command
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code().expect("an exit code"), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("one JSON object: {error}: {}", self.out))
    }

    #[track_caller]
    fn complains(self, of: &[&str]) -> Self {
        for part in of {
            assert!(self.err.contains(part), "{part:?} is missing in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }
}

#[track_caller]
fn run(folder: &Path, arguments: &[&str]) -> Ran {
    Ran::of(sandhog(folder).args(arguments).output().expect("runs"))
}

#[track_caller]
fn pipe(folder: &Path, input: &[u8], arguments: &[&str]) -> Ran {
    let mut child =
        sandhog(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    Ran::of(child.wait_with_output().expect("ends"))
}

fn plugins() -> PathBuf {
    let folder = root().join("dist/plugins");
    assert!(folder.join("echo.wasm").exists(), "run scripts/plugins first");
    folder
}

/// A folder for a test, with a configuration that names the built plugins.
fn place() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder, "sandhog.toml", &format!("plugins = [{:?}]\n", plugins()));
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
    std::fs::write(&path, text).expect("writes");
    path
}

/// Everything below a folder, by path.
fn tree(folder: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten().filter(|entry| entry.file_type().is_file());
    entries.map(|entry| entry.path().strip_prefix(folder).expect("inside").display().to_string()).collect()
}

// --- What the README shows, and the examples.

#[test]
fn what_is_named_like_a_configuration_and_is_none_is_told_and_not_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sandhog.toml");
    let list = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandhog"));
        command.args(["plugins", "list"]).current_dir(folder.path()).env("SANDHOG_CACHE_DIR", folder.path().join("cache"));
        command.output().expect("runs").status.code()
    };
    std::fs::create_dir(&file).expect("makes");
    assert_eq!(list(), Some(2));
    std::fs::remove_dir(&file).expect("removes");
    std::os::unix::fs::symlink("nowhere", &file).expect("links");
    assert_eq!(list(), Some(2));
    std::fs::remove_file(&file).expect("removes");
    assert_eq!(list(), Some(0));
}

#[test]
fn every_command_in_the_readme_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["docs", "dist", "examples", "sandhog.toml"] {
        symlink(root().join(name), folder.path().join(name)).expect("links");
    }
    let readme = std::fs::read_to_string(root().join("README.md")).expect("reads");
    // Those that need a server beside them are run by scripts/clients.
    let alone = |line: &&str| line.contains("sandhog ") && !line.contains("sandhog serve") && !line.contains("--server");
    let commands: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("$ ")).filter(alone).collect();
    assert!(commands.len() >= 7, "{commands:?}");
    let bin = Path::new(env!("CARGO_BIN_EXE_sandhog")).parent().expect("a folder");
    for command in commands {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(folder.path())
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("SANDHOG_CACHE_DIR", cache())
            .output()
            .expect("runs");
        let ran = Ran::of(output).exits(i32::from(command.contains("call spin")));
        if command.contains("call shout") {
            assert_eq!(ran.out, "BREATHE IN!!!\n");
            assert!(readme.contains(&ran.out), "the README shows what it prints");
        }
    }
    assert!(folder.path().join("out/index/0/index.md").exists());
}

#[test]
fn the_main_example_runs_over_the_documentation_in_parallel_and_a_revision_happens() {
    let folder = place();
    let out = folder.path().join("out");
    let ran = run(&root(), &["run", "docs/contents.toml", "--json", "--out", out.to_str().expect("UTF-8")]).exits(0);
    let told = ran.json();
    assert_eq!(told["status"], "completed");
    let tasks = told["tasks"].as_array().expect("tasks");
    let pages = walkdir::WalkDir::new(root().join("docs")).into_iter().flatten().filter(|e| e.path().extension() == Some(OsStr::new("md")));
    assert_eq!(tasks.iter().filter(|task| task["step"] == "contents").count(), pages.count(), "one task for each page");
    let revised = tasks.iter().find(|task| task["revisions"] == 1).expect("a gate sent something back");
    assert_eq!(revised["findings"][0]["rule"], "too-many-entries");
    assert_eq!((&revised["status"], &revised["attempts"]), (&Value::from("completed"), &Value::from(2)));
    assert!(revised["usage"]["fuel"].as_u64() > Some(10_000));
    let written = tree(&out);
    assert!(written.contains(&"index/0/index.md".to_owned()), "{written:?}");
    assert!(written.iter().any(|name| name.ends_with("guide/limits.contents.md")), "{written:?}");
    let broken = std::fs::read_to_string(out.join("index/0/broken-links.md")).expect("reads");
    assert!(broken.ends_with("none\n"), "the documentation's own links hold: {broken}");
    assert!(!written.iter().any(|name| name.starts_with('.')), "nothing half-written is left: {written:?}");

    // Twice the same: the same bytes, and the same fuel.
    let again = run(&root(), &["run", "docs/contents.toml", "--json"]).exits(0).json();
    assert_eq!(again["usage"]["fuel"], told["usage"]["fuel"]);
    for (task, other) in tasks.iter().zip(again["tasks"].as_array().expect("tasks")) {
        assert_eq!(task["artifacts"], other["artifacts"]);
    }
}

#[test]
fn the_hostile_example_hurts_nobody() {
    let ran = run(&root(), &["run", "examples/hostile/workflow.toml", "--json"]).exits(1);
    let told = ran.json();
    assert_eq!(told["status"], "failed");
    let kind = |step: &str| {
        let tasks = told["tasks"].as_array().expect("tasks");
        tasks.iter().find(|task| task["step"] == step).map(|task| task["failure"]["kind"].clone())
    };
    assert_eq!(kind("spin-until-out-of-fuel"), Some("out_of_fuel".into()));
    assert_eq!(kind("spin-until-the-deadline"), Some("deadline_exceeded".into()));
    let healthy = told["steps"].as_array().expect("steps").iter().find(|step| step["id"] == "healthy").expect("the step");
    assert_eq!((&healthy["status"], &healthy["failed"]), (&Value::from("completed"), &Value::from(0)));
}

#[test]
fn the_shouting_example_runs() {
    let folder = place();
    run(&root(), &["run", "examples/shout/workflow.toml", "--out", folder.path().join("o").to_str().expect("UTF-8")]).exits(0);
    assert_eq!(std::fs::read_to_string(folder.path().join("o/shout/1/shouted.txt")).expect("reads"), "AND OUT AGAIN!!!\n");
}

/// A plan is sent back for what it may not use, bounded, and run as part of the run; what needs it has its last steps' results.
#[test]
fn the_planning_example_runs() {
    let folder = place();
    let out = folder.path().join("o");
    let state = folder.path().join("state");
    let arguments = ["run", "examples/planner/workflow.toml", "--json", "--out", out.to_str().expect("UTF-8"), "--state-dir"];
    let told = run(&root(), &[&arguments[..], &[state.to_str().expect("UTF-8")]].concat()).exits(0).json();
    let steps: Vec<_> =
        told["steps"].as_array().expect("steps").iter().map(|step| (step["id"].as_str(), step["completed"].as_u64())).collect();
    let ids = ["plan", "outbox", "plan/by-contents", "plan/by-echo", "plan/by-shout"];
    assert_eq!(steps, ids.map(|id| (Some(id), Some(if id == "plan/by-shout" { 2 } else { 1 }))));
    let findings = told["tasks"][0]["findings"].as_array().expect("findings");
    assert_eq!((findings.len(), &findings[0]["rule"]), (1, &"plan".into()));
    assert!(findings[0]["message"].as_str().expect("text").contains("`archive` is not one that this plan may use"));
    assert_eq!(
        tree(&out.join("outbox")),
        [
            "0/plan/by-contents/0/inbox/notes.contents.md",
            "0/plan/by-contents/0/inbox/notes.json",
            "0/plan/by-echo/0/inbox/pumps.log",
            "0/plan/by-shout/0/shouted.txt",
            "0/plan/by-shout/1/shouted.txt"
        ]
    );
    let shown = run(&root(), &["runs", "show", "latest", "--state-dir", state.to_str().expect("UTF-8")]).exits(0).out;
    assert!(shown.contains("plan: planned plan/by-contents, plan/by-echo, plan/by-shout"), "{shown}");
}

/// Plans that do not fit, each told to the worker and, when it is given up, to the person.
#[test]
fn a_plan_that_does_not_fit_is_sent_back_and_given_up() {
    let folder = place();
    let given_up = |files: &[(&str, &str)], step: &str, finding: &str| {
        for (name, text) in files {
            write(&folder, name, text);
        }
        write(
            &folder,
            "w.toml",
            &format!(
                "name = \"w\"\n[[step]]\nid = \"p\"\nworker = \"echo\"\n{step}\n[[step]]\nid = \"last\"\nworker = \"echo\"\nneeds = [\"p\"]\n"
            ),
        );
        let ran = run(folder.path(), &["run", "w.toml"]).exits(1);
        let told = format!("{}{}", ran.out, ran.err);
        assert!(told.contains(finding) && told.contains("rejected twice with the same"), "{finding:?} is missing in: {told}");
        assert!(told.contains("last: skipped, since p did not complete"), "{told}");
    };
    given_up(&[("a.txt", "a")], "inputs = [\"a.txt\"]\nexpand = true", "no artifact has the name plan.toml: there are a.txt");
    let plan = |text: &'static str| [("plan.toml", text)];
    let step = "inputs = [\"plan.toml\"]\nexpand = { workers = [], depth_max = 1 }";
    given_up(&plan("[[step"), step, "plan.toml:1:");
    given_up(
        &plan("[[step]]\nid = \"x\"\nworker = \"echo\""),
        step,
        "plan.toml:3:10: high plan: the worker `echo` is not one that this plan may use",
    );
    given_up(&plan("[[step]]\nid = \"x\"\nworker = \"echo\"\nneeds = [\"p\"]"), step, "the step `x` needs `p`, and there is no such step");
    let large = "# ".to_owned() + &"x".repeat(70_000);
    given_up(&[("plan.toml", &large)], step, "the plan is 70002 bytes large, and at most 65536 are read");
    std::fs::write(folder.path().join("plan.toml"), b"\xff").expect("written");
    given_up(&[], step, "the plan is not UTF-8");
    // A gate may judge a plan before it is read: this one finds nothing to judge in it.
    let judged = format!("{step}\ngates = [\"contents-check\"]");
    write(&folder, "plan.toml", "step = []");
    write(&folder, "w.toml", &format!("name = \"w\"\n[[step]]\nid = \"p\"\nworker = \"echo\"\n{judged}\n"));
    run(folder.path(), &["run", "w.toml"]).exits(1);
    // And one that plans nothing has done its work.
    write(&folder, "w.toml", &format!("name = \"w\"\n[[step]]\nid = \"p\"\nworker = \"echo\"\n{step}\n"));
    let ran = run(folder.path(), &["run", "w.toml"]).exits(0);
    assert!(ran.err.contains("p: planned nothing"), "{}", ran.err);
}

#[test]
fn every_toml_in_the_guide_is_valid() {
    let fenced = |page: &str| -> Vec<String> {
        let text = std::fs::read_to_string(root().join("docs/guide").join(page)).expect("reads");
        text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
    };
    let (plans, workflows): (Vec<String>, Vec<String>) = fenced("workflows.md").into_iter().partition(|text| !text.starts_with("name"));
    let workers = ["contents", "echo"].map(str::to_owned).to_vec();
    let expansion = sandhog::model::Expansion { workers, gates: vec!["contents-check".to_owned()], steps_max: 20, depth_max: 1 };
    let parent = sandhog::model::Step { expand: Some(expansion), ..sandhog::model::Step::new("plan", "planner") };
    assert_eq!(plans.len(), 1);
    let planned = sandhog::config::plan::read(&plans[0], &parent, "plan", &["a.md", "b.txt"]).expect("a plan that fits");
    assert_eq!(planned.len(), 2);
    for text in workflows {
        sandhog::config::workflow::read("workflows.md", &text).unwrap_or_else(|problems| panic!("{problems}: {:?}", problems.problems));
    }
    for text in ["configuration.md", "capabilities.md", "check.md"].into_iter().flat_map(fenced) {
        let known = |name: &str| Some(name.to_owned());
        let settings = sandhog::config::settings::read(Path::new("sandhog.toml"), &text, Path::new("/base"), known);
        let manifest = sandhog::config::manifest::read("plugin.toml", &text);
        assert!(settings.is_ok() || manifest.is_ok(), "{text}: {:?} {:?}", settings.err(), manifest.err());
    }
    for text in fenced("languages.md") {
        sandhog::config::case::read("case.toml", &text, Path::new("/cases/one"))
            .unwrap_or_else(|problems| panic!("{problems}: {:?}", problems.problems));
    }
    let sources = fenced("plugins.md");
    assert!(sources.iter().filter(|text| sandhog::config::manifest::read("plugin.toml", text).is_ok()).count() >= 1);
}

// --- call

#[test]
fn call_prints_one_object_with_what_it_cost() {
    let folder = place();
    let told = pipe(folder.path(), b"hello", &["call", "echo", "--input", "-", "--json"]).exits(0).json();
    assert_eq!(
        (&told["schema_version"], &told["outcome"], &told["failure"], &told["blame"]),
        (&1.into(), &"completed".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(told["artifacts"][0]["content"], "hello");
    assert!(told["usage"]["fuel"].as_u64() > Some(1000) && told["usage"]["peak_memory_bytes"].as_u64() > Some(60_000));
    assert!(told["usage"]["wall_time_ms"].as_f64() > Some(0.0));
    // Bytes that are no text.
    let told = pipe(folder.path(), b"\xff\x00", &["call", "echo", "--input", "-", "--json"]).exits(0).json();
    assert_eq!(told["artifacts"][0]["content_base64"], "/wA=");
    // By its path, as by its name; without --json the artifact comes out as it is.
    let path = plugins().join("echo.wasm");
    let ran = pipe(folder.path(), b"\xf0\x9f\x9a\xa7", &["call", path.to_str().expect("UTF-8"), "--input", "-"]).exits(0);
    assert_eq!(ran.out, "🚧");
}

#[test]
fn call_keeps_the_limits_it_is_given() {
    let folder = place();
    let kind = |arguments: &[&str]| {
        let told = run(folder.path(), &[&["call", "spin", "--json"], arguments].concat()).exits(1).json();
        assert_eq!((&told["outcome"], &told["blame"]), (&"failed".into(), &"guest".into()));
        (told["failure"]["kind"].as_str().expect("a kind").to_owned(), told["usage"]["fuel"].as_u64().expect("fuel"))
    };
    assert_eq!(kind(&["--fuel", "1M"]), ("out_of_fuel".to_owned(), 1_000_000));
    assert_eq!(kind(&["--fuel", "1000T", "--timeout", "50ms"]).0, "deadline_exceeded");
    assert_eq!(kind(&["--memory", "64KiB"]).0, "memory_limit");
    assert_eq!(kind(&["--limit", "input=1B"]).0, "invalid_input");
    // A limit that does not parse is an error, never a default.
    for (flag, value) in [
        ("--fuel", "much"),
        ("--fuel", "0"),
        ("--fuel", ""),
        ("--memory", "64 miles"),
        ("--timeout", "10"),
        ("--limit", "fuel"),
        ("--limit", "colour=1"),
    ] {
        run(folder.path(), &["call", "spin", flag, value]).exits(2).complains(&["expected"]);
    }
    // Above the ceiling is an error too.
    run(folder.path(), &["call", "spin", "--memory", "1TiB"]).exits(2).complains(&["ceiling", "memory"]);
    let told = run(folder.path(), &["call", "spin", "--memory", "1TiB", "--json"]).exits(2).json();
    assert!(told["error"]["message"].as_str().is_some_and(|message| message.contains("ceiling")));
}

#[test]
fn call_of_a_gate_judges_and_of_a_wrong_thing_says_so() {
    let folder = place();
    let doc = r#"{"path":"a.md","anchors":["x"],"entries":[{"level":1,"text":"X","anchor":"x","line":1},{"level":2,"text":"Y","anchor":"x","line":4}],"links":[{"target":"/nope","line":1}]}"#;
    write(&folder, "a.json", doc);
    let ran = run(folder.path(), &["call", "contents-check", "--input", "a.json", "--param", "maximum_entries=1"]).exits(1);
    insta::assert_snapshot!(ran.out, @r"
    a.json: medium too-many-entries: 2 entries, and at most 1 are read (leave out the deepest level)
    a.md:4:1: high doubled-anchor: two headings have the anchor #x
    rejected: 2 findings
    ");
    let told = run(folder.path(), &["call", "contents-check", "--input", "a.json", "--json"]).exits(1).json();
    assert_eq!(told["failure"]["kind"], "invalid_input", "params that are missing: {told}");
    run(folder.path(), &["call", "ecko"]).exits(2).complains(&["no plugin `ecko`", "did you mean `echo`?"]);
    // A file of another name than its plugin, and a folder that is none.
    std::fs::create_dir(folder.path().join("mine")).expect("makes");
    std::fs::copy(plugins().join("echo.wasm"), folder.path().join("mine/parrot.wasm")).expect("copies");
    let asked = ["call", "parrot", "--plugins", "mine", "--plugins", "plugns"];
    run(folder.path(), &asked)
        .exits(2)
        .complains(&["no plugin `parrot`: mine/parrot.wasm says that its name is `echo`", "mine/parrot.toml"]);
    run(folder.path(), &["call", "none", "--plugins", "plugns"]).exits(2).complains(&["plugns: the folder cannot be listed: No such file"]);
    write(&folder, "mine/parrot.toml", "name = \"parrot\"\n");
    run(folder.path(), &["call", "parrot", "--plugins", "mine"]).exits(0);
    run(folder.path(), &["call", "./none.wasm"]).exits(2).complains(&["none.wasm", "no such file"]);
    run(folder.path(), &["call", "echo", "--input", "none.txt"]).exits(2).complains(&["none.txt", "cannot be read"]);
    run(folder.path(), &["call", "echo", "--input", "."]).exits(2).complains(&["it is a folder"]);
    run(folder.path(), &["call", "echo", "--param", "novalue"]).exits(2).complains(&["NAME=VALUE"]);
    run(folder.path(), &["call", "echo", "--params", "[1]"]).exits(2).complains(&["JSON object"]);
    run(folder.path(), &["call", "echo", "--input", "a.json", "--input", "a.json"]).exits(2).complains(&["two inputs"]);
    run(folder.path(), &["call", "echo", "--out", "sandhog.toml/out"]).exits(2).complains(&["output folder", "--out"]);
}

// --- The plugin folder

fn guests() -> PathBuf {
    let folder = root().join("dist/guests");
    assert!(folder.join("behaves.wasm").exists(), "run scripts/guests first");
    folder
}

/// Whoever names a repository, or the folder of a configuration, to be written into does not have its programs told what to do.
#[test]
fn what_programs_obey_is_not_written_by_a_plugin() {
    let folder = tempfile::tempdir().expect("a folder");
    let writer = guests().join("names_badly.wasm");
    let writer = writer.to_str().expect("UTF-8");
    for name in [".git/config", "a/.GIT/hooks/x", ".sandhog/x", "sandhog.toml", "bare/HEAD"] {
        let params = serde_json::json!({ "names": ["a.txt", name] }).to_string();
        let ran = run(folder.path(), &["call", writer, "--params", &params, "--out", "."]).exits(2);
        ran.complains(&[name, "is obeyed by git, or by sandhog itself"]);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0, "all or nothing");
    run(folder.path(), &["call", writer, "--params", r#"{"names":["a.txt",".github/x","partials/head/x"]}"#, "--out", "."]).exits(0);
}

#[test]
fn no_line_of_what_is_shown_is_a_guests_own() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("plugins")).expect("makes");
    std::fs::copy(guests().join("fails_as_told.wasm"), folder.path().join("plugins/liar.wasm")).expect("copies");
    write(&folder, "plugins/liar.toml", "name = \"liar\"\n");
    write(&folder, "sandhog.toml", "plugins = [\"plugins\"]\n");
    let params = r#"{"kind":"permanent","message":"no\n::error::forged\n w completed in 0.01 s\nrun 0, head sha256:0"}"#;
    let params_toml = r#"{ kind = "permanent", message = "no\n::error::forged\n w completed in 0.01 s\nrun 0, head sha256:0" }"#;
    write(&folder, "w.toml", &format!("name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"liar\"\nparams = {params_toml}\n"));
    let commands: [(&[&str], i32); 6] = [
        (&["call", "liar", "--params", params], 1),
        (&["run", "w.toml"], 1),
        (&["runs", "show", "latest"], 0),
        (&["runs", "result", "latest"], 1),
        (&["dead-letters", "list"], 0),
        (&["runs", "logs", "latest"], 0),
    ];
    let mut told = 0;
    let dead = "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"liar\"\non_exhausted = \"dead_letter\"\n";
    write(&folder, "dead.toml", &format!("{dead}params = {params_toml}\n"));
    run(folder.path(), &["run", "dead.toml"]).exits(1);
    let listed = run(folder.path(), &["dead-letters", "list"]).exits(0).out;
    let letter = listed.split_whitespace().next().expect("a letter");
    for (arguments, code) in commands.into_iter().chain([(&["dead-letters", "show", letter][..], 0)]) {
        let ran = run(folder.path(), arguments).exits(code);
        for line in ran.out.lines().chain(ran.err.lines()) {
            told += usize::from(line.contains("| ::error::forged"));
            let line = line.trim_start();
            let own = ["::", "w completed", "run 0,"].iter().any(|forged| line.starts_with(forged));
            assert!(!own, "{arguments:?}: {line}");
        }
    }
    assert!(told >= 3, "it is told, too: {told}");
}

#[test]
fn wrong_arguments_are_told_in_json_where_that_is_asked_for() {
    let place = place();
    for arguments in
        [&["call", "echo", "--json", "--bogus"][..], &["bench", "--json", "--tasks", "0"], &["runs", "list", "--json", "--limit", "x"]]
    {
        let told = run(place.path(), arguments).exits(2).json();
        assert!(told["error"]["message"].as_str().is_some_and(|message| !message.starts_with("error")), "{told}");
    }
}

/// What was to be written and is not must not pass for all there is.
#[test]
fn output_that_is_cut_is_told_once_and_is_no_success() {
    let place = place();
    for arguments in [&["plugins", "list"][..], &["plugins", "list", "--json"], &["completions", "bash"], &["config", "show"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("opens");
        let output = sandhog(place.path()).args(arguments).stdout(full).output().expect("runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {told}");
        assert_eq!(told.matches("standard output").count(), 1, "{arguments:?}: {told}");
    }
}

#[test]
fn more_inputs_than_one_task_may_have_end_the_run_before_they_are_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("plugins")).expect("makes");
    std::fs::create_dir_all(folder.path().join("in")).expect("makes");
    std::fs::copy(guests().join("returns_crumbs.wasm"), folder.path().join("plugins/crumbs.wasm")).expect("copies");
    write(&folder, "plugins/crumbs.toml", "name = \"crumbs\"\n");
    write(&folder, "sandhog.toml", "plugins = [\"plugins\"]\n");
    (0..6).for_each(|n| drop(write(&folder, &format!("in/{n}"), ""))); // 20,000 artifacts of each
    let step = "[[step]]\nid = \"s\"\nworker = \"crumbs\"\ninputs = [\"in/*\"]\nforeach = true\n";
    write(&folder, "w.toml", &format!("name = \"w\"\n{step}[[step]]\nid = \"u\"\nworker = \"crumbs\"\nneeds = [\"s\"]\n"));
    run(folder.path(), &["run", "w.toml"]).exits(1).complains(&["`u` has more inputs than one task may have", "give it `foreach`"]);
}

#[test]
fn a_bad_file_is_reported_and_the_others_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("plugins");
    std::fs::create_dir(&dir).expect("makes");
    write(&folder, "sandhog.toml", "plugins = [\"plugins\"]\n");
    let good = std::fs::read(plugins().join("echo.wasm")).expect("reads");
    std::fs::write(dir.join("echo.wasm"), &good).expect("writes");
    // Every kind of file that is no plugin.
    symlink("/dev/zero", dir.join("endless.wasm")).expect("links");
    symlink("/etc/passwd", dir.join("secret.wasm")).expect("links");
    symlink("nowhere", dir.join("dangling.wasm")).expect("links");
    std::fs::File::create(dir.join("sparse.wasm")).and_then(|file| file.set_len(1 << 40)).expect("makes");
    assert!(Command::new("mkfifo").arg(dir.join("fifo.wasm")).status().expect("runs").success());
    std::fs::create_dir(dir.join("folder.wasm")).expect("makes");
    std::fs::write(dir.join("empty.wasm"), "").expect("writes");
    std::fs::write(dir.join("truncated.wasm"), &good[..good.len() / 2]).expect("writes");
    let mut flipped = good.clone();
    flipped[4] ^= 0x40;
    std::fs::write(dir.join("flipped.wasm"), &flipped).expect("writes");
    std::fs::write(dir.join("text.wasm"), "(component)").expect("writes");
    std::fs::write(dir.join("module.wasm"), wat::parse_str("(module)").expect("parses")).expect("writes");
    std::fs::write(dir.join("world.wasm"), wat::parse_str("(component)").expect("parses")).expect("writes");
    let run_export = r#"(core module $m (func (export "run") (result i32) i32.const 0)) (core instance $m (instantiate $m))
        (func $run (result (result)) (canon lift (core func $m "run"))) (instance $i (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $i))"#;
    let imports =
        format!(r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)) (import "some:other/thing" (instance)) {run_export})"#);
    std::fs::write(dir.join("imports.wasm"), wat::parse_str(imports).expect("parses")).expect("writes");
    let newer = r#"(component (core module $m (func (export "f"))) (core instance $m (instantiate $m))
        (func $f (canon lift (core func $m "f"))) (instance $i (export "run" (func $f))) (export "sandhog:plugin/worker@0.9.0" (instance $i)))"#;
    std::fs::write(dir.join("newer.wasm"), wat::parse_str(newer).expect("parses")).expect("writes");
    std::fs::write(dir.join(OsStr::from_bytes(b"\xff\xfe.wasm")), &good).expect("writes");
    std::fs::write(dir.join("one.wasm"), &good).expect("writes");
    std::fs::write(dir.join("one.toml"), "name = \"same\"").expect("writes");
    std::fs::write(dir.join("two.wasm"), &good).expect("writes");
    std::fs::write(dir.join("two.toml"), "name = \"same\"").expect("writes");
    std::fs::write(dir.join("manifest.wasm"), &good).expect("writes");
    std::fs::write(dir.join("manifest.toml"), "nam = \"x\"\n[limits]\nfuel = \"lots\"\n").expect("writes");
    std::fs::write(dir.join("piped.wasm"), &good).expect("writes");
    assert!(Command::new("mkfifo").arg(dir.join("piped.toml")).status().expect("runs").success());
    std::fs::write(dir.join("\u{1b}[2J\u{202e}name.wasm"), "").expect("writes");
    std::fs::write(dir.join("README.md"), "not looked at").expect("writes");

    let told = run(folder.path(), &["plugins", "list", "--json"]).exits(0).json();
    let bad: Vec<(String, String)> = told["bad"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|bad| {
            (
                Path::new(bad["path"].as_str().expect("a path")).file_name().expect("a name").to_string_lossy().into_owned(),
                bad["problem"].as_str().expect("text").to_owned(),
            )
        })
        .collect();
    // Both the good file and the one whose name is no text are named `echo` by their metadata: neither is chosen.
    let expected = [
        ("echo.wasm", "it is named `echo`, and so is"),
        ("\u{fffd}\u{fffd}.wasm", "it is named `echo`, and so is"),
        ("endless.wasm", "a symbolic link"),
        ("secret.wasm", "a symbolic link"),
        ("dangling.wasm", "a symbolic link"),
        ("sparse.wasm", "larger than"),
        ("fifo.wasm", "a FIFO"),
        ("folder.wasm", "a folder"),
        ("empty.wasm", "not WebAssembly"),
        ("\u{1b}[2J\u{202e}name.wasm", "not WebAssembly"),
        ("truncated.wasm", "damaged or cut off"),
        ("flipped.wasm", "damaged or cut off"),
        ("text.wasm", "text form"),
        ("module.wasm", "sandhog pack"),
        ("world.wasm", "exports neither"),
        ("imports.wasm", "wasi:keyvalue/store@0.2.0"),
        ("newer.wasm", "upgrade sandhog"),
        ("one.wasm", "it is named `same`, and so is"),
        ("piped.wasm", "plugins/piped.toml: it is a FIFO"),
        ("two.wasm", "it is named `same`, and so is"),
        ("manifest.wasm", "did you mean"),
    ];
    for (file, problem) in expected.iter().filter(|(file, _)| *file != "manifest.wasm") {
        assert!(bad.iter().any(|(name, found)| name == file && found.contains(problem)), "{file}: {problem}: {bad:#?}");
    }
    assert_eq!(bad.len(), expected.len(), "{bad:#?}");
    let imports = &bad.iter().find(|(name, _)| name == "imports.wasm").expect("reported").1;
    assert!(imports.contains("some:other/thing"), "all missing imports at once: {imports}");
    let manifest = &bad.iter().find(|(name, _)| name == "manifest.wasm").expect("reported").1;
    assert!(
        manifest.contains("manifest.toml:1:1: unknown field `nam`") && manifest.contains("manifest.toml:3:8"),
        "all problems at once: {manifest}"
    );

    // One that is asked for by name says what is wrong with it; checking finds them all.
    run(folder.path(), &["call", "module"]).exits(2).complains(&["core module", "sandhog pack"]);
    run(folder.path(), &["call", "echo"]).exits(2).complains(&["it is named `echo`, and so is"]);
    let later = plugins();
    let of_both = ["call", "echo", "--plugins", "plugins", "--plugins", later.to_str().expect("UTF-8")];
    run(folder.path(), &of_both).exits(2).complains(&["it is named `echo`, and so is"]);
    run(folder.path(), &["call", "plugins/echo.wasm"]).exits(0);
    let told = run(folder.path(), &["plugins", "check", "--json"]).exits(2).json();
    assert_eq!((&told["good"], told["plugins"].as_array().map(Vec::len)), (&Value::from(false), Some(expected.len())));

    // For people, no name is more than text.
    for command in ["check", "list"] {
        let ran = run(folder.path(), &["plugins", command]);
        let told = format!("{}{}", ran.out, ran.err);
        assert!(told.contains(r"\u{1b}[2J\u{202e}name.wasm") && !told.contains(['\u{1b}', '\u{202e}']), "{told}");
    }

    // Once the doubled name is gone, the good one loads beside all of the bad ones.
    std::fs::remove_file(dir.join(OsStr::from_bytes(b"\xff\xfe.wasm"))).expect("removes");
    let ran = run(folder.path(), &["plugins", "list"]).exits(0);
    assert!(ran.out.contains("echo") && ran.out.lines().count() == 2, "{}", ran.out);
    run(folder.path(), &["call", "echo"]).exits(0);
    run(folder.path(), &["plugins", "check", "echo"]).exits(0);
    run(folder.path(), &["plugins", "list", "--plugins", "nowhere"]).exits(0).complains(&["nowhere: the folder cannot be listed"]);
}

#[test]
fn a_component_that_is_started_ahead_begins_where_its_start_ended() {
    let folder = place();
    let text = r#"(component
        (core module $m
            (memory (export "memory") 1)
            (func (export "wizer-initialize") (i32.store (i32.const 0) (i32.const 7)))
            (func (export "run") (result i32) (i32.ne (i32.load (i32.const 0)) (i32.const 7))))
        (core instance $i (instantiate $m))
        (func $initialize (canon lift (core func $i "wizer-initialize")))
        (export "wizer-initialize" (func $initialize))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $command)))"#;
    std::fs::write(folder.path().join("before.wasm"), wat::parse_str(text).expect("a component")).expect("writes");
    run(folder.path(), &["plugins", "pre-initialize", "before.wasm", "after.wasm"]).exits(0);
    run(folder.path(), &["call", "before.wasm"]).exits(1);
    run(folder.path(), &["call", "after.wasm"]).exits(0);
    let echo = plugins().join("echo.wasm").display().to_string();
    run(folder.path(), &["plugins", "pre-initialize", &echo, "none.wasm"]).exits(2).complains(&["exports no function `wizer-initialize`"]);
    run(folder.path(), &["plugins", "pre-initialize", "nowhere.wasm", "none.wasm"]).exits(2).complains(&["nowhere.wasm: No such file"]);
    assert!(!folder.path().join("none.wasm").exists());
}

#[test]
fn inspect_shows_what_a_plugin_is_wants_and_may() {
    let folder = place();
    let ran = run(folder.path(), &["plugins", "inspect", "contents"]).exits(0);
    for part in ["worker", "sha256:", "sandhog:plugin/worker@0.1.0", "wasi:io/streams", "fuel 10G", "nothing", "[grants.contents]"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let told = run(folder.path(), &["plugins", "inspect", "contents", "--json"]).exits(0).json();
    assert_eq!((&told["kind"], &told["deterministic"], &told["version"]), (&"worker".into(), &true.into(), &"0.1.0".into()));
    assert_eq!(told["limits"]["memory_bytes"], 64 << 20);
}

#[test]
fn a_plugin_runs_with_what_it_is_granted_and_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("plugins");
    std::fs::create_dir(&dir).expect("makes");
    std::fs::copy(guests().join("escapes_folder.wasm"), dir.join("reader.wasm")).expect("copies");
    std::fs::write(
        dir.join("reader.toml"),
        "name = \"reader\"\n[requests]\nfiles = [{ at = \"/granted\", access = \"read\", why = \"reads it\" }]\nclock = \"dates\"\n",
    )
    .expect("writes");
    write(&folder, "data/inside.txt", "inside");
    write(&folder, "sandhog.toml", "plugins = [\"plugins\"]\n");
    // Not granted: what, why, and the lines that would allow it.
    let ran = run(folder.path(), &["call", "reader"]).exits(2).complains(&[
        "files at /granted (read): reads it",
        "clock: dates",
        "[grants.reader]",
        "clock = true",
    ]);
    let digest = ran.err.lines().find(|line| line.starts_with("digest = ")).expect("the digest's line").to_owned();
    let granted = format!(
        "plugins = [\"plugins\"]\n[grants.reader]\n{digest}\nfiles = [{{ path = \"data\", at = \"/granted\", access = \"read-write\" }}]\nclock = true\n"
    );
    write(&folder, "sandhog.toml", &granted);
    let ran = run(folder.path(), &["call", "reader"]).exits(0);
    assert!(
        ran.out.contains("inside Ok(\"inside\")") && ran.out.contains("written false removed false"),
        "asked to read, granted to write, reads: {}",
        ran.out
    );
    // A grant for another file is held.
    let other = granted.replace(&digest, &format!("digest = \"sha256:{}\"", "0".repeat(64)));
    write(&folder, "sandhog.toml", &other);
    run(folder.path(), &["call", "reader"]).exits(2).complains(&["changed since it was granted", &digest]);
    // A ceiling takes away.
    write(&folder, "sandhog.toml", &format!("{granted}[ceiling]\nclock = false\n"));
    run(folder.path(), &["call", "reader"]).exits(2).complains(&["clock: dates"]);
    // What would block a reader is refused.
    write(&folder, "sandhog.toml", &granted);
    assert!(Command::new("mkfifo").arg(folder.path().join("data/pipe")).status().expect("runs").success());
    run(folder.path(), &["call", "reader"]).exits(2).complains(&["pipe is a FIFO"]);
    std::fs::remove_file(folder.path().join("data/pipe")).expect("removed");
    // And one in whose place another plugin could put a link.
    write(&folder, "data/below/inside.txt", "inside");
    let below = granted.replace("path = \"data\"", "path = \"data/below\"");
    write(&folder, "sandhog.toml", &below);
    run(folder.path(), &["call", "reader"]).exits(0);
    let other = format!("[grants.writer]\n{digest}\nfiles = [{{ path = \"data\", at = \"/d\", access = \"read-write\" }}]\n");
    write(&folder, "sandhog.toml", &format!("{below}{other}"));
    run(folder.path(), &["call", "reader"]).exits(2).complains(&["data/below", "it lies below", "`writer` may put a link"]);
    // A grant without a digest, for a variable that is not set, and more.
    write(
        &folder,
        "sandhog.toml",
        "plugins = [\"plugins\"]\nconcurrency = 0\n[grants.reader]\nenvironment = [\"NOT_SET_ANYWHERE\"]\n[grant.x]\n",
    );
    run(folder.path(), &["call", "reader"]).exits(2).complains(&[
        "known by its `digest`",
        "NOT_SET_ANYWHERE",
        "from 1 to 10000",
        "did you mean `grants`",
        "sandhog.toml:",
    ]);
}

#[test]
fn compiled_code_that_was_changed_is_made_anew() {
    let folder = place();
    let cache = folder.path().join("cache");
    let call = || pipe_with_cache(folder.path(), &cache);
    call();
    let compiled: Vec<PathBuf> = std::fs::read_dir(cache.join("compiled"))
        .expect("there")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension() == Some(OsStr::new("compiled")))
        .collect();
    assert_eq!(compiled.len(), 1);
    let good = std::fs::read(&compiled[0]).expect("reads");
    for damage in [good[..good.len() / 2].to_vec(), vec![0; good.len()], {
        let mut bad = good.clone();
        bad[good.len() - 100] ^= 1;
        bad
    }] {
        std::fs::write(&compiled[0], damage).expect("writes");
        call();
        let now = std::fs::read(&compiled[0]).expect("reads");
        assert_eq!(now.len(), good.len(), "it was compiled anew");
    }
    // A project's folder never holds native code.
    assert!(!tree(folder.path()).iter().any(|name| name.ends_with(".compiled") && !name.starts_with("cache/")));
}

fn pipe_with_cache(folder: &Path, cache: &Path) {
    let output = sandhog(folder).env("SANDHOG_CACHE_DIR", cache).args(["call", "echo", "--input", "sandhog.toml"]).output().expect("runs");
    assert!(Ran::of(output).exits(0).out.starts_with("plugins = "));
}

// --- Workflows

#[test]
fn all_mistakes_of_a_workflow_are_shown_at_once_each_in_its_place() {
    let folder = place();
    write(
        &folder,
        "w.toml",
        "name = \"w\"\ncolour = 1\n\n[[step]]\nid = \"one\"\nwroker = \"echo\"\nneeds = [\"tow\", \"one\"]\n\n[[step]]\nid = \"two\"\nworker = \"echo\"\ninputs = [\"../x\", \"[\", { from = \"one\" }]\nlimits = { fuel = \"lots\", time = \"1s\" }\nretry = { maximum_attempts = 0, jitter = 2 }\ngates = [{ gate = \"contents-check\", fail_on = \"hihg\" }]\n\n[[step]]\nid = \"two\"\nworker = 3\nmaximum_revisions = 1\nforeach = true\n\n[[step]]\nid = \"three\"\nworker = \"echo\"\nexpand = { worker = [], gates = \"all\", steps_max = 0, depth_max = 11 }\n\n[[step]]\nid = \"four\"\nworker = \"ecoh\"\nexpand = 3\n",
    );
    let told = run(folder.path(), &["plan", "w.toml", "--json"]).exits(2).json();
    let problems = told["error"]["problems"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let lines: Vec<String> =
        problems.map(|p| format!("{}:{} {} | {}", p["line"], p["column"], text(&p["message"]), text(&p["help"]))).collect();
    let lines = lines.join("\n").replace(&format!(" (looked in {})", plugins().display()), "");
    insta::assert_snapshot!(lines, @r#"
    2:1 unknown field `colour` | known here: name, priority, concurrency, step
    4:1 the step `one` has no `worker` | add a line such as worker = "summarise"
    6:1 unknown field `wroker` | did you mean `worker`?
    7:10 the step `one` needs `tow`, and there is no such step | did you mean `two`?
    7:17 the step `one` needs itself | -
    12:11 the glob `../x` leaves the workflow's folder | globs are relative to the workflow file, and stay below its folder
    12:19 the glob `[` does not parse: unclosed character class; missing ']' | -
    12:33 inputs from `one`, which `two` does not need | add "one" to `needs`
    13:19 `fuel`: expected an amount of fuel above zero, such as 500M or 2G, found `lots` | -
    13:27 unknown field `time` | known here: fuel, timeout, memory, input, output, log, handles, scratch
    14:30 expected `maximum_attempts` to be a whole number from 1 to 1000 | -
    14:42 expected `jitter` to be a number from 0 to 1 | -
    15:47 unknown severity `hihg` | one of info, low, medium, high, critical
    18:6 two steps have the id `two` | give each a name of its own
    19:10 expected `worker` to be a string, found an integer | -
    20:21 `maximum_revisions` without `gates`, `approval` or `expand`: nothing can send the work back | add gates = [...], or remove it
    21:11 `foreach` without inputs: there is nothing to make tasks from | add inputs = ["docs/**/*.md"], or needs
    26:12 unknown field `worker` | did you mean `workers`?
    26:33 expected `gates` to be a list, found a string | -
    26:52 expected `steps_max` to be a whole number from 1 to 10000 | -
    26:67 expected `depth_max` to be a whole number from 1 to 10 | -
    30:10 there is no plugin `ecoh`; did you mean `echo`? | -
    31:10 expected `expand` to be true, false, or a table such as { workers = ["lint"], steps_max = 20 }, found an integer | -
    "#);
}

#[test]
fn a_mistake_is_shown_with_its_line_and_a_caret() {
    let folder = place();
    write(&folder, "w.toml", "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\nneed = []\n");
    let ran = run(folder.path(), &["plan", "w.toml"]).exits(2);
    insta::assert_snapshot!(ran.err, @r#"
      × unknown field `need`
       ╭─[w.toml:5:1]
     4 │ worker = "echo"
     5 │ need = []
       · ────
       ╰────
      help: did you mean `needs`?
    error: 1 problem in w.toml
    "#);
}

#[test]
fn a_file_that_is_wrong_steers_no_terminal_when_it_is_quoted() {
    let folder = place();
    // In a key, in a value, in the line that is quoted, in the name of the file.
    let text = "na\u{1}me = 1 # \u{202e}txet \u{9b}2J\n\"\u{1b}[2J\" = 3\n";
    let path = write(&folder, "work\u{1b}[2Jflow.toml", text);
    for arguments in [&["plan"], &["run"]] {
        let ran = sandhog(folder.path()).args(arguments).arg(&path).output().map(Ran::of).expect("runs").exits(2);
        let said = format!("{}{}", ran.out, ran.err);
        let steering = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
        assert_eq!(said.chars().find(steering), None, "{said:?}");
        assert!(said.contains("\\u{1b}[2J"), "{said}");
    }
}

#[test]
fn a_workflow_is_checked_against_its_plugins_before_anything_runs() {
    let folder = place();
    write(&folder, "a.md", "# A\n");
    let wrong = |text: &str, complaints: &[&str]| {
        write(&folder, "w.toml", text);
        for command in ["plan", "run"] {
            run(folder.path(), &[command, "w.toml"]).exits(2).complains(complaints);
        }
        let told = run(folder.path(), &["run", "w.toml", "--json"]).exits(2).json();
        assert!(told["error"]["message"].is_string());
    };
    let step = |fields: &str| format!("name = \"w\"\n[[step]]\nid = \"s\"\n{fields}\n");
    wrong(&step("worker = \"ecoh\""), &["no plugin `ecoh`", "did you mean `echo`", "w.toml:4:10"]);
    wrong(&step("worker = \"contents-check\""), &["is a gate, and a worker is needed"]);
    wrong(&step("worker = \"echo\"\ngates = [\"contents\"]"), &["is a worker, and a gate is needed"]);
    wrong(&step("worker = \"echo\"\ninputs = [\"*.none\"]"), &["no file matches `*.none`", "w.toml:5"]);
    wrong(&step("worker = \"echo\"\nlimits = { memory = \"1TiB\" }"), &["ceiling"]);
    wrong(
        "name = \"w\"\n[[step]]\nid = \"a\"\nworker = \"echo\"\nneeds = [\"b\"]\n[[step]]\nid = \"b\"\nworker = \"echo\"\nneeds = [\"a\"]\n",
        &["wait for each other", "a needs b needs a"],
    );
    wrong("name = \"w\"\n", &["no step"]);
    wrong("", &["`name` is missing", "no step"]);
    wrong("name = \"w\n[[step]\n", &["w.toml:1"]);
    wrong("[[step]]\nid = \"s\"\nworker = \"echo\"\n", &["`name` is missing"]);
    for command in ["plan", "run"] {
        run(folder.path(), &[command, "none.toml"]).exits(2).complains(&["none.toml", "cannot be read"]);
        run(folder.path(), &[command, "."]).exits(2).complains(&["folder"]);
    }
    std::fs::write(folder.path().join("latin.toml"), b"name = \"\xe9\"").expect("writes");
    run(folder.path(), &["plan", "latin.toml"]).exits(2).complains(&["not UTF-8 (byte 8)"]);
    // A link among the inputs is not followed.
    symlink("/etc/passwd", folder.path().join("link.md")).expect("links");
    write(&folder, "w.toml", &step("worker = \"echo\"\ninputs = [\"*.md\"]"));
    let told = run(folder.path(), &["run", "w.toml", "--json"]).exits(0).json();
    assert_eq!(told["tasks"][0]["artifacts"].as_array().map(Vec::len), Some(1));
    // An output folder that cannot be written is known before anything runs, and nothing is left of the try.
    write(&folder, "file", "");
    run(folder.path(), &["run", "w.toml", "--out", "file/out"]).exits(2).complains(&["output folder file/out cannot be written"]);
    run(folder.path(), &["run", "w.toml", "--out", "/proc/out"]).exits(2).complains(&["output folder"]);
}

#[test]
fn plan_says_what_a_workflow_is_and_draws_it() {
    let ran = run(&root(), &["plan", "examples/hostile/workflow.toml"]).exits(0);
    insta::assert_snapshot!(ran.out, @r"
    hostile: parallel, 3 steps in 1 level

     ┌─ spin-until-out-of-fuel [spin]
     ├─ spin-until-the-deadline [spin]
     └─ healthy [echo] × 3 tasks
    ");
    let told = run(&root(), &["plan", "docs/contents.toml", "--json"]).exits(0).json();
    assert_eq!((&told["shape"], &told["levels"]), (&"hybrid".into(), &2.into()));
    let folder = place();
    write(
        &folder,
        "w.toml",
        "name = \"w\"\n[[step]]\nid = \"a\"\nworker = \"echo\"\n[[step]]\nid = \"b\"\nworker = \"echo\"\nneeds = [\"a\"]\n",
    );
    assert!(run(folder.path(), &["plan", "w.toml"]).exits(0).out.starts_with("w: sequential, 2 steps in 2 levels"));
}

#[test]
fn a_rejected_task_fails_the_run_and_skips_who_needs_it() {
    let folder = place();
    write(&folder, "a.md", "# A\n## B\n[x](#nope)\n");
    write(
        &folder,
        "w.toml",
        "name = \"w\"\n[[step]]\nid = \"c\"\nworker = \"contents\"\ninputs = [\"a.md\"]\ngates = [{ gate = \"contents-check\", fail_on = \"low\", params = { maximum_entries = 9 } }]\n[[step]]\nid = \"i\"\nworker = \"contents-index\"\nneeds = [\"c\"]\n",
    );
    let ran = run(folder.path(), &["run", "w.toml", "--out", "out"]).exits(1);
    assert!(ran.out.contains("its gates rejected it") && ran.out.contains("a.md:3:1: low broken-link"), "{}", ran.out);
    assert!(ran.out.contains("skipped"), "{}", ran.out);
    assert!(ran.err.contains("rejected twice with the same 1 finding"), "{}", ran.err);
    assert_eq!(tree(&folder.path().join("out")), Vec::<String>::new());
}

#[test]
fn artifacts_flow_between_steps_by_name() {
    let folder = place();
    write(&folder, "in/a.md", "# A\n");
    write(&folder, "in/b.md", "# B\n");
    write(
        &folder,
        "w.toml",
        "name = \"w\"\n[[step]]\nid = \"c\"\nworker = \"contents\"\ninputs = [\"in/*.md\"]\nforeach = true\n[[step]]\nid = \"e\"\nworker = \"echo\"\nneeds = [\"c\"]\ninputs = [{ from = \"c\", name = \"in/*.json\" }]\n",
    );
    run(folder.path(), &["run", "w.toml", "--out", "out"]).exits(0);
    let written = tree(&folder.path().join("out/e"));
    assert_eq!(written, ["0/c/0/in/a.json", "0/c/1/in/b.json"]);
    // What stands in the way is said, and nothing is moved; a link in the folder leads nowhere outside it.
    std::fs::create_dir_all(folder.path().join("way/e/0/c/1/in/b.json")).expect("makes");
    run(folder.path(), &["run", "w.toml", "--out", "way"]).exits(2).complains(&["b.json cannot be put in place", "already"]);
    assert_eq!(tree(&folder.path().join("way")), Vec::<String>::new());
    std::fs::create_dir_all(folder.path().join("linked")).expect("makes");
    std::fs::create_dir_all(folder.path().join("outside")).expect("makes");
    symlink(folder.path().join("outside"), folder.path().join("linked/e")).expect("links");
    run(folder.path(), &["run", "w.toml", "--out", "linked"]).exits(2).complains(&["cannot be put in place"]);
    assert_eq!(tree(&folder.path().join("outside")), Vec::<String>::new());
    // Again into the same folder: what was there is replaced, nothing else is touched.
    write(&folder, "out/mine.txt", "mine");
    run(folder.path(), &["run", "w.toml", "--out", "out"]).exits(0);
    assert!(folder.path().join("out/mine.txt").exists());
}

#[test]
fn a_wide_step_runs_every_task_once() {
    let folder = place();
    for n in 0..300 {
        write(&folder, &format!("in/{n}.txt"), &n.to_string());
    }
    write(&folder, "w.toml", "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*.txt\"]\nforeach = true\n");
    let told = run(folder.path(), &["run", "w.toml", "--json"]).exits(0).json();
    let tasks = told["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 300);
    assert!(tasks.iter().all(|task| task["attempts"] == 1 && task["status"] == "completed"));
}

const FOREVER: &str = "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"spin\"\nlimits = { fuel = \"1000T\", timeout = \"10m\" }\n";

#[test]
fn the_time_given_to_wait_ends_the_run() {
    let folder = place();
    write(&folder, "w.toml", FOREVER);
    let told = run(folder.path(), &["run", "w.toml", "--json", "--wait-timeout", "200ms"]).exits(124).json();
    assert_eq!((&told["status"], &told["tasks"][0]["status"]), (&"cancelled".into(), &"cancelled".into()));
    run(folder.path(), &["run", "w.toml", "--wait-timeout", "soon"]).exits(2).complains(&["--wait-timeout"]);
}

#[test]
fn an_interrupt_cancels_the_run() {
    use std::io::BufRead as _;
    let folder = place();
    write(&folder, "w.toml", FOREVER);
    let mut child = sandhog(folder.path()).args(["run", "w.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut lines = std::io::BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "s: 1 task"), "it began");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("runs");
    assert!(interrupted.success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line == "cancelling: interrupted"), "{rest:?}");
    let ran = Ran::of(child.wait_with_output().expect("ends")).exits(130);
    assert!(ran.out.contains("w cancelled"), "{}", ran.out);
}

#[test]
fn a_client_of_mcp_that_leaves_takes_its_calls_back() {
    use std::io::BufRead as _;
    let folder = place();
    let mut child = sandhog(folder.path()).arg("mcp").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let mut input = child.stdin.take().expect("a pipe");
    let lines = std::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut heard = lines.map_while(Result::ok).map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
    let mut say = |message: Value| writeln!(input, "{message}").expect("takes it");
    let about = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
    say(json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about }));
    assert_eq!(heard.next().expect("an answer")["result"]["serverInfo"]["name"], "sandhog");
    say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));

    // What does not fit is told with its place.
    say(json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "get_run", "arguments": { "run": "latest" } } }));
    let told = heard.next().expect("an answer")["result"]["content"][0]["text"].to_string();
    assert!(told.contains("the arguments do not fit: run: "), "{told}");
    say(json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": { "name": "get_run", "arguments": [1] } }));
    let told = heard.next().expect("an answer")["error"].take();
    assert_eq!(told["code"], -32602, "{told}");
    assert!(told["message"].as_str().is_some_and(|text| text.contains("arguments: ")), "{told}");

    let limits = json!({ "fuel": "1000T", "timeout": "1h" });
    let call = json!({ "name": "call_worker", "arguments": { "worker": "spin", "limits": limits }, "_meta": { "progressToken": 1 } });
    say(json!({ "jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": call }));
    let began = |told: &Value| told["params"]["message"].as_str().is_some_and(|text| text.ends_with("run_started"));
    let told = heard.find(|told| told["id"] == 4 || began(told)).expect("a message");
    assert!(began(&told), "{told}");
    drop(input);
    assert!(child.wait().expect("ends").success());
    let runs = run(folder.path(), &["runs", "list", "--json"]).exits(0).json();
    assert_eq!(runs["runs"][0]["status"], "cancelled");
}

// --- The rest

#[test]
fn the_guide_to_json_names_every_field() {
    let folder = place();
    write(&folder, "a.txt", "a");
    write(&folder, "w.toml", "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"*.txt\"]\n");
    let guide = std::fs::read_to_string(root().join("docs/guide/json.md")).expect("reads");
    let shown: [(&str, &[&str]); 8] = [
        ("call", &["call", "echo", "--json"]),
        ("run", &["run", "w.toml", "--json"]),
        ("runs, dead-letters, journal", &["runs", "list", "--json"]),
        ("plan", &["plan", "w.toml", "--json"]),
        ("config", &["config", "show", "--json"]),
        ("plugins", &["plugins", "list", "--json"]),
        ("plugins", &["plugins", "inspect", "echo", "--json"]),
        ("plugins", &["plugins", "check", "--json"]),
    ];
    for (section, arguments) in shown {
        let text = guide.split("\n## ").find_map(|part| part.strip_prefix(section)?.strip_prefix('\n')).expect("a section");
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let told = run(folder.path(), arguments).exits(0).json();
        // The object's own fields, and those of what is in its lists.
        let fields = |of: &Value| of.as_object().map_or_else(Vec::new, |of| of.keys().cloned().collect());
        let inner = told.as_object().expect("an object").values().filter_map(|value| value.get(0)).flat_map(fields);
        for field in fields(&told).into_iter().chain(inner).filter(|field| field != "schema_version") {
            assert!(words.contains(&field.as_str()), "{arguments:?}: the section `{section}` does not name `{field}`");
        }
    }
}

#[test]
fn a_process_that_may_open_too_few_files_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |most: u32| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {most}; exec \"$0\" call echo"), env!("CARGO_BIN_EXE_sandhog")]);
        let plugins = root().join("dist/plugins");
        command.current_dir(folder.path()).env_clear().env("HOME", folder.path()).env("SANDHOG_GATES", "").env("SANDHOG_PLUGINS", plugins);
        Ran::of(command.env("SANDHOG_CACHE_DIR", cache()).output().expect("runs"))
    };
    run(255).exits(3).complains(&["may open 255 files at once, and 256 are needed", "ulimit -n 256"]);
    run(256).exits(0);
}

#[test]
fn usage_errors_exit_with_two_and_help_with_zero() {
    let folder = place();
    run(folder.path(), &[]).exits(2);
    run(folder.path(), &["fly"]).exits(2).complains(&["fly"]);
    run(folder.path(), &["run", "--concurrency", "0", "w.toml"]).exits(2);
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["call", "--help"],
        &["plan", "--help"],
        &["plugins", "--help"],
        &["bench", "--help"],
        &["--version"],
    ] {
        let ran = run(folder.path(), arguments).exits(0);
        assert!(!ran.out.contains('\u{1b}'), "no colour in a pipe");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(folder.path(), &["completions", shell]).exits(0).out.contains("sandhog"));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let command = format!("{} plugins list | head -n 1; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_sandhog"));
    let output = Command::new("bash").args(["-c", &command]).current_dir(root()).env("SANDHOG_CACHE_DIR", cache()).output().expect("runs");
    assert_eq!(Ran::of(output).exits(0).err, "");
}

#[test]
fn bench_prints_its_ratios() {
    let folder = place();
    let told = run(folder.path(), &["bench", "--json", "--tasks", "20", "--blocks", "1"]).exits(0).json();
    for name in ["library_over_wasmtime", "run_over_wasmtime"] {
        assert!(told["ratios"][name].as_f64().is_some_and(|ratio| ratio > 0.1), "{told}");
    }
    assert_eq!(told["threads"].as_array().map(Vec::len), Some(2));
    let told = run(folder.path(), &["bench", "--durable", "--tasks", "200", "--json"]).exits(0).json();
    for figure in [&told["durable"], &told["memory"]] {
        assert!(figure["tasks_per_second"].as_f64().is_some_and(|number| number > 1.0), "{told}");
        assert!(figure["dispatch_ms"]["p50"].is_number() && figure["dispatch_ms"]["p99"].is_number(), "{told}");
    }
    assert_eq!(told["recovery"]["events"], 4 + 3 * 200, "{told}");
    assert_eq!((&told["sqlite_alone"]["records"], &told["rounds"]), (&(4 + 3 * 200).into(), &3.into()), "{told}");
    assert!(told["throughput_over_sqlite_alone"].as_f64().is_some_and(|ratio| ratio > 0.0), "{told}");
    let told = run(folder.path(), &["bench", "--durable", "--tasks", "20", "--runs", "7", "--blocks", "1", "--json"]).exits(0).json();
    assert_eq!((&told["runs"], &told["recovery"]["events"]), (&7.into(), &(7 * 4 + 3 * 20).into()), "{told}");
    run(folder.path(), &["bench", "--durable", "--tasks", "10", "--runs", "11"]).exits(2).complains(&["--runs 11", "tasks (10)"]);
    run(folder.path(), &["bench", "--runs", "2"]).exits(2).complains(&["--durable"]);
    // So large that their list has no room for them.
    let of_size = ["bench", "--durable", "--tasks", "20", "--input-bytes", "20000", "--blocks", "1", "--json"];
    let told = run(folder.path(), &of_size).exits(0).json();
    assert!(told["sqlite_alone"]["blobs"].as_u64().is_some_and(|blobs| blobs >= 17), "each has its own: {told}");
    run(folder.path(), &["bench", "--input-bytes", "9", "--durable"]).exits(2).complains(&["9", "10..=1000000"]);
    run(folder.path(), &["bench", "--durable", "--input-bytes", "1000000", "--tasks", "5000"]).exits(2).complains(&["4.7GiB", "2GiB"]);
    // What a format's width has no room for; what is no worker; one that fails; and a file beside others of its name.
    let far = ["bench", "--durable", "--tasks", "10", "--input-bytes", "70000", "--blocks", "1", "--json"];
    assert_eq!(run(folder.path(), &far).exits(0).json()["input_bytes"], 70_000);
    for durable in [&[][..], &["--durable"]] {
        let told = |plugin: &str| run(folder.path(), &[&["bench", "--tasks", "10", "--blocks", "1", "--plugin", plugin], durable].concat());
        told("contents-check").exits(2).complains(&["`contents-check` is a gate", "a worker is measured"]);
        told(&guests().join("exits.wasm").display().to_string()).exits(2).complains(&["fails on its input of 100 bytes", "exited"]);
        told(&guests().join("behaves.wasm").display().to_string()).exits(0);
    }
    run(folder.path(), &["bench", "--isolate", "process"]).exits(2).complains(&["--isolate none"]);
    assert_eq!(tree(folder.path()).iter().filter(|name| name.contains("bench")).count(), 0, "nothing is left");
}
