//! `sandhog check` through its real binary, with the standard gates: seeded defects, formats, what counts and what does not, and
//! subjects that mean harm. Needs `scripts/gates`.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::{World, findings, gates, ran, root};
use serde_json::Value;

const BAD: &str = "import os\n\nx = 1\n";
const GOOD: &str = "x = 1\n";

#[test]
fn each_gate_finds_its_seeded_defects_exact_to_rule_and_line_and_nothing_else() {
    let mut seen = BTreeSet::new();
    for folder in std::fs::read_dir(root().join("tests/subjects")).expect("reads").flatten().map(|entry| entry.path()) {
        let gate = folder.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        // Away from this repository, whose own configurations would count.
        let judge = |kind: &str, code| {
            let world = World::new();
            for file in walkdir::WalkDir::new(folder.join(kind)).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
                let name = file.path().strip_prefix(folder.join(kind)).expect("inside").to_str().expect("UTF-8").to_owned();
                world.write(&name, std::fs::read(file.path()).expect("reads"));
            }
            // What a gate needs beside: a database, a policy with its params.
            let more = std::fs::read_to_string(folder.join("arguments.txt")).unwrap_or_default();
            let more = more.replace("{folder}", folder.to_str().expect("UTF-8"));
            let arguments: Vec<&str> = ["--gate", &gate].into_iter().chain(more.split_whitespace()).collect();
            world.json(&arguments, code)
        };
        let mut good = judge("good", 0);
        // What is only told (a benchmark that has no baseline yet) is no defect.
        for gate in good["gates"].as_array_mut().expect("gates") {
            gate["findings"].as_array_mut().expect("findings").retain(|finding| finding["severity"] != "info");
        }
        assert_eq!(findings(&good), Vec::<String>::new(), "{gate}");
        let expected = std::fs::read_to_string(folder.join("expected.txt")).expect("expected findings");
        assert_eq!(findings(&judge("bad", 1)), expected.lines().collect::<Vec<_>>(), "{gate}");
        seen.insert(gate);
    }
    let gates = std::fs::read_dir(gates()).expect("reads").flatten().map(|entry| entry.path());
    let all: BTreeSet<String> = gates
        .filter(|path| path.extension().is_some_and(|ending| ending == "wasm"))
        .map(|path| path.file_stem().expect("a stem").to_string_lossy().into_owned())
        .collect();
    // These two judge no tree by themselves: tests/review.rs, and the loop in tests/loops.rs.
    seen.extend(["review", "perf-receipt"].map(str::to_owned));
    assert_eq!(seen, all, "every standard gate has a folder of seeded defects");
}

#[test]
fn without_configuration_the_gates_that_fit_judge_and_say_why() {
    let world = World::new();
    world.write("a.py", "x = 1\n");
    world.write("data.json", "{}\n");
    let report = world.json(&[], 0);
    let why: Vec<String> = report["gates"]
        .as_array()
        .expect("gates")
        .iter()
        .map(|g| format!("{}: {}", g["name"].as_str().expect("a name"), g["why"].as_str().expect("why")))
        .collect();
    assert_eq!(
        why,
        [
            "audit-secrets: 2 files of any kind",
            "lint-json: 1 file fits *.json, *.jsonc, *.webmanifest",
            "lint-python: 1 file fits *.py, *.pyi",
            "spelling: 2 files of any kind"
        ]
    );
    assert!(report["skipped"].as_array().expect("skipped").iter().any(|s| s["gate"] == "lint-toml"));
    let only = world.json(&["--gate", "lint-json"], 0);
    assert_eq!(only["gates"].as_array().expect("gates").len(), 1);
    assert!(world.run(&["check", "--gate", "lint-jsno"], 2).err.contains("did you mean `lint-json`?"));
    let empty = World::new();
    assert!(empty.run(&["check"], 4).out.contains("nothing was checked"));
}

#[test]
fn a_report_for_people_has_the_line_a_caret_the_rule_and_its_page() {
    let world = World::new();
    world.write("b.py", BAD);
    let out = world.run(&["check"], 1).out;
    let shown: Vec<&str> = out.lines().take(5).collect();
    assert_eq!(
        shown,
        [
            "b.py:1:8: medium `os` imported but unused [lint-python/F401]",
            "    1 | import os",
            "      |        ^^",
            "    help: Remove unused import: `os` (--fix)",
            "    see: https://docs.astral.sh/ruff/rules/unused-import",
        ]
    );
    assert!(out.contains("\u{2717} lint-python rejected  1 finding, fuel "), "{out}");
    assert!(out.contains("1 finding with a safe fix: --fix makes them"), "{out}");
}

#[test]
fn a_second_run_judges_nothing_anew_and_a_change_only_what_it_touches() {
    let world = World::new();
    for number in 0..20 {
        world.write(&format!("m{number}.py"), format!("x = {number}\n"));
    }
    let known = |report: &Value| {
        let gate = report["gates"].as_array().expect("gates").iter().find(|gate| gate["name"] == "lint-python").expect("lint-python");
        (gate["parts"].as_u64().expect("parts"), gate["known"].as_u64().expect("known"))
    };
    let first = world.json(&[], 0);
    assert_eq!(known(&first), (20, 0));
    let second = world.json(&[], 0);
    assert_eq!(known(&second), (20, 20));
    assert_eq!(first["gates"][0]["usage"]["fuel"], second["gates"][0]["usage"]["fuel"], "an answer keeps its receipt");
    world.write("m3.py", BAD);
    assert_eq!(known(&world.json(&[], 1)), (20, 19));
    world.write("m3.py", "x = 3\n");
    assert_eq!(known(&world.json(&[], 0)), (20, 20), "a change that is undone is known");
    // A file that a gate looked at beside what it judges: ruff's configuration, where there was none.
    world.write("ruff.toml", "line-length = 100\n");
    assert_eq!(known(&world.json(&[], 0)), (20, 0));
    assert_eq!(known(&world.json(&["--no-cache"], 0)), (20, 0));
}

#[test]
fn two_checkouts_give_the_same_findings_and_the_same_fuel() {
    let files = [("a/x.py", BAD), ("b.json", "{\"a\": 1, \"a\": 2}"), ("c.md", "# T\n### U\n"), ("d.rs", "fn f( {}\n")];
    let judge = |order: &mut dyn Iterator<Item = &(&str, &str)>, threads: &str| {
        let world = World::new();
        for (name, text) in order {
            world.write(name, text);
        }
        let report = world.json(&["--threads", threads], 1);
        let fuel: Vec<Value> = report["gates"].as_array().expect("gates").iter().map(|gate| gate["usage"]["fuel"].clone()).collect();
        (findings(&report), fuel)
    };
    assert_eq!(judge(&mut files.iter(), "1"), judge(&mut files.iter().rev(), "2"));
}

#[test]
fn fixes_are_made_by_the_host_and_only_safe_ones_unless_asked() {
    let world = World::new();
    world.write("a.py", "import os\nimport sys\n\nprint(sys.argv)\n");
    world.write("b.py", "def f(x):\n    return x == None\n");
    world.write("ruff.toml", "[lint]\nselect = [\"F\", \"E711\"]\n");
    let ran = world.run(&["check", "--fix"], 1);
    assert!(ran.err.contains("made 1 fix in 1 file"), "{}", ran.err);
    assert_eq!(world.read("a.py"), "import sys\n\nprint(sys.argv)\n");
    assert_eq!(world.read("b.py"), "def f(x):\n    return x == None\n", "unsafe");
    world.run(&["check", "--fix", "--unsafe-fixes"], 0);
    assert_eq!(world.read("b.py"), "def f(x):\n    return x is None\n");
    // A mark of the byte order moves nothing.
    world.write("d.md", "\u{feff}# Title\n\nSome  text\n\n* item\n* é  x\n");
    world.write("e.py", "\u{feff}import os\n\nx = 1\n");
    world.run(&["check", "--fix", "--gate", "lint"], 0);
    assert_eq!(world.read("d.md"), "\u{feff}# Title\n\nSome text\n\n* item\n* é x\n");
    assert_eq!(world.read("e.py").trim_start_matches('\u{feff}').trim_start(), "x = 1\n");
    // Without --fix, nothing is written.
    world.write("c.py", BAD);
    world.run(&["check"], 1);
    assert_eq!(world.read("c.py"), BAD);
}

#[test]
fn a_baseline_lets_an_old_repository_start_and_a_second_finding_is_new() {
    let world = World::new();
    world.write("old.py", BAD);
    world.write("sandhog.toml", "");
    assert!(world.run(&["check", "--new-only"], 2).err.contains("no baseline counts here"));
    world.run(&["trust"], 0);
    let said = world.run(&["baseline", "update"], 0).out;
    assert!(said.contains("sandhog-baseline.json: 1 finding"), "{said}");
    assert!(world.run(&["baseline", "show"], 0).out.contains("1  lint-python/F401"));
    world.run(&["check"], 1);
    let report = world.json(&["--new-only"], 0); // still trusted: the user himself wrote the baseline
    assert_eq!(findings(&report), Vec::<String>::new());
    world.write("old.py", format!("# moved down\n{BAD}"));
    world.json(&["--new-only"], 0);
    world.write("new.py", BAD);
    assert_eq!(findings(&world.json(&["--new-only"], 1)), ["new.py:1:8 F401"]);
    let xml = world.run(&["check", "--new-only", "--format", "junit"], 1).out;
    assert!(xml.contains("new.py") && !xml.contains("old.py"), "{xml}");
    // A part that is judged anew leaves the rest as it was.
    assert!(world.run(&["baseline", "update", "new.py"], 0).out.contains("2 findings"));
    world.json(&["--new-only"], 0);
    assert!(world.run(&["baseline", "update", "--gate", "lint-json"], 4).out.contains("nothing was checked"));
    world.write("new.py", GOOD);
    assert!(world.run(&["baseline", "update", "new.py"], 0).out.contains("1 finding"));
    world.json(&["--new-only"], 0);
    world.write("sandhog-baseline.json", "{\"sandhog_baseline\": 1, \"findings\": []}");
    let ran = world.run(&["check", "--new-only"], 2);
    assert!(ran.err.contains("no baseline counts here"), "a baseline that was changed is not trusted: {}", ran.err);
    world.run(&["check", "--new-only", "--baseline", "none.json"], 2);
}

#[test]
fn what_git_says_changed_is_judged_and_nothing_of_its_configuration_is_run() {
    let world = World::new();
    world.git(&["init", "--quiet"]);
    world.write("old.py", BAD);
    world.git(&["add", "."]);
    world.git(&["commit", "--quiet", "-m", "one"]);
    world.write("new.py", BAD);
    let run = world.path().join("was-run");
    world.git(&["config", "core.fsmonitor", &format!("touch {}", run.display())]);
    world.git(&["config", "diff.external", &format!("touch {}", run.display())]);
    assert_eq!(findings(&world.json(&["--changed"], 1)), ["new.py:1:8 F401"]);
    let unborn = World::new();
    unborn.git(&["init", "--quiet"]);
    unborn.write("new.py", BAD);
    assert_eq!(findings(&unborn.json(&["--changed"], 1)), ["new.py:1:8 F401"], "before the first commit everything is new");
    world.git(&["add", "."]);
    assert!(!run.exists() || std::fs::remove_file(&run).is_ok()); // our own `git add` may have
    assert_eq!(findings(&world.json(&["--changed", "main"], 1)), ["new.py:1:8 F401"]);
    assert!(!run.exists(), "a program of the repository's configuration was run");
    // What `.gitignore` names and git tracks all the same is judged.
    world.write(".gitignore", "hidden.py\nleft-out.py\n");
    world.write("hidden.py", BAD);
    world.write("left-out.py", BAD);
    world.git(&["add", "--force", "hidden.py"]);
    std::fs::remove_file(&run).ok();
    assert!(findings(&world.json(&[], 1)).contains(&"hidden.py:1:8 F401".to_owned()));
    assert!(!findings(&world.json(&[], 1)).iter().any(|line| line.starts_with("left-out.py")));
    assert!(!run.exists(), "a program of the repository's configuration was run");
    std::fs::remove_file(world.path().join("hidden.py")).expect("removes");
    world.git(&["add", "--all"]);
    world.git(&["commit", "--quiet", "-m", "two"]);
    assert!(world.run(&["check", "--changed", "nobody"], 2).err.contains("no commit, branch or tag"));
    std::fs::remove_file(world.path().join("new.py")).expect("removes");
    assert_eq!(findings(&world.json(&["--changed"], 0)), Vec::<String>::new(), "nothing changed is no failure");
}

#[test]
fn a_repository_that_names_programs_has_none_of_them_run() {
    let world = World::new();
    world.git(&["init", "--quiet"]);
    world.write("a.py", GOOD);
    world.write("b.py", GOOD);
    world.git(&["add", "."]);
    world.git(&["commit", "--quiet", "-m", "one"]);
    let run = world.path().join("was-run");
    let evil = format!("touch {}; cat", run.display());
    // A filter for every file that is looked at, by an attribute that lies in the tree.
    world.write("b.py", BAD);
    world.write(".gitattributes", "*.py filter=evil diff=evil\n");
    for (name, value) in [
        ("filter.evil.clean", evil.as_str()),
        ("filter.evil.smudge", &evil),
        ("filter.evil.process", &evil),
        ("diff.evil.textconv", &evil),
        ("diff.evil.command", &evil),
        ("core.fsmonitor", &evil),
        ("core.sshCommand", &evil),
        ("core.alternateRefsCommand", &evil),
        ("uploadpack.packObjectsHook", &evil),
        // Objects that are missing are fetched from where the repository says, by a program that it names.
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", &format!("ext::sh -c touch% {}", run.display())),
        ("protocol.ext.allow", "always"),
    ] {
        world.git(&["config", name, value]);
    }
    std::fs::remove_file(&run).ok();
    assert_eq!(findings(&world.json(&["--changed"], 1)), ["b.py:1:8 F401"]);
    world.json(&["--changed", "main"], 1);
    for object in walkdir::WalkDir::new(world.path().join(".git/objects")).into_iter().flatten().filter(|entry| entry.file_type().is_file())
    {
        std::fs::remove_file(object.path()).expect("removes");
    }
    world.json(&[], 1);
    assert!(world.run(&["check", "--changed"], 2).err.contains("no commit"), "its objects are gone");
    assert!(!run.exists(), "a program that the repository names was run");
    // Its working tree is where its `.git` is, whatever it says of it.
    world.git(&["config", "core.worktree", "/"]);
    let inner = world.path().join("inner");
    std::fs::create_dir(&inner).expect("makes");
    std::fs::write(inner.join("c.py"), BAD).expect("writes");
    assert_eq!(findings(&world.json(&["inner"], 1)), ["inner/c.py:1:8 F401"], "a part of its working tree");
    // Which has the configurations of its engines at its root.
    world.write("ruff.toml", "lint.ignore = [\"F401\"]\n");
    world.json(&["inner", "--gate", "lint-python"], 0);
}

#[test]
fn what_a_link_leads_to_is_neither_read_nor_written() {
    let world = World::new();
    let elsewhere = tempfile::tempdir().expect("a folder");
    std::fs::write(elsewhere.path().join("victim.py"), BAD).expect("writes");
    world.git(&["init", "--quiet"]);
    world.write("src/victim.py", BAD);
    world.git(&["add", "."]);
    std::fs::remove_dir_all(world.path().join("src")).expect("removes");
    std::os::unix::fs::symlink(elsewhere.path(), world.path().join("src")).expect("links");
    world.write("a.py", GOOD);
    assert_eq!(findings(&world.json(&["--fix"], 0)), Vec::<String>::new(), "git tracks src/victim.py, and it is not in this tree");
    assert_eq!(std::fs::read_to_string(elsewhere.path().join("victim.py")).expect("reads"), BAD);
}

const POLICY: &str = r#"
[check]
exclude = ["vendor/"]

[[gate]]
gate = "lint-python"
fail_on = "high"
params = { isolated = true, select = ["F"] }

[[gate]]
gate = "lint"
exclude = ["*.md"]

[[ignore]]
rule = "duplicate-key"
path = "legacy/**"
reason = "the reader takes the last one"
expires = 2999-01-01
"#;

#[test]
fn a_configuration_counts_when_it_is_trusted_and_only_as_it_was() {
    let world = World::new();
    world.write("a.py", BAD);
    world.write("vendor/b.py", BAD);
    world.write("legacy/c.json", "{\"a\": 1, \"a\": 2}");
    world.write("sandhog.toml", POLICY);
    let before = world.json(&[], 1);
    assert!(before["notes"][0].as_str().expect("a note").contains("does not count, since nobody said that it is trusted"));
    assert_eq!(findings(&before), ["legacy/c.json:1:10 duplicate-key", "a.py:1:8 F401", "vendor/b.py:1:8 F401"]);
    world.run(&["trust"], 0);
    let after = world.json(&[], 0);
    assert_eq!(findings(&after), ["a.py:1:8 F401"], "reported, and below the threshold");
    assert!(after["notes"].as_array().expect("notes").is_empty());
    assert!(world.run(&["check", "--all"], 0).out.contains("(ignored: the reader takes the last one)"));
    world.write("sandhog.toml", POLICY.replace("vendor/", "**"));
    let changed = world.json(&[], 1);
    assert!(changed["notes"][0].as_str().expect("a note").contains("changed since it was trusted"));
    world.run(&["trust", "--revoke"], 0);
    // From outside, whatever lies in the tree.
    let policy = world.home.path().join("policy.toml");
    std::fs::write(&policy, POLICY).expect("writes");
    world.json(&["--policy", policy.to_str().expect("UTF-8")], 0);
    world.write("sandhog.toml", "[[gate]]\ngate = \"lint\"\nparams = { a = 1 }\n");
    world.run(&["trust"], 0);
    assert!(world.run(&["check"], 2).err.contains("`lint` is a set of gates, and `params` is for one"));
    world.write("sandhog.toml", "[[gate]]\ngate = \"lint-pyton\"\nfial_on = \"high\"\n[[ignore]]\nrule = \"x\"\n");
    let wrong = world.run(&["trust"], 2).err;
    for part in ["unknown field `fial_on`", "did you mean `fail_on`?", "an `ignore` without `reason`"] {
        assert!(wrong.contains(part), "{part}: {wrong}");
    }
}

#[test]
fn a_policy_is_read_as_it_stands_on_the_base_branch() {
    let world = World::new();
    world.git(&["init", "--quiet"]);
    world.write("sandhog.toml", "[check]\nexclude = [\"vendor/\"]\n");
    world.write("vendor/a.py", BAD);
    world.git(&["add", "."]);
    world.git(&["commit", "--quiet", "-m", "one"]);
    world.write("sandhog.toml", "[check]\nexclude = [\"**\"]\n");
    world.write("b.py", BAD);
    assert_eq!(findings(&world.json(&["--policy-from", "main"], 1)), ["b.py:1:8 F401"]);
    assert!(world.run(&["check", "--policy-from", "--output=x"], 2).err.contains("--policy-from"));
}

#[test]
fn an_ignore_that_is_over_fails_the_check() {
    let world = World::new();
    world.write("a.json", "{\"a\": 1, \"a\": 2}");
    let policy = world.home.path().join("policy.toml");
    let with = |expires: &str| format!("[[ignore]]\nrule = \"duplicate-key\"\nreason = \"for now\"\nexpires = {expires}\n");
    std::fs::write(&policy, with("2999-12-31")).expect("writes");
    world.json(&["--policy", policy.to_str().expect("UTF-8")], 0);
    std::fs::write(&policy, with("2020-01-01")).expect("writes");
    let over = world.json(&["--policy", policy.to_str().expect("UTF-8")], 1);
    assert!(over["notes"][0].as_str().expect("a note").contains("ended on 2020-01-01"));
}

#[test]
fn thresholds_and_exit_codes() {
    let world = World::new();
    world.write("a.py", BAD);
    world.run(&["check", "--fail-on", "high"], 0);
    world.run(&["check", "--fail-on", "medium"], 1);
    world.run(&["check", "--exit-zero"], 0);
    world.run(&["check", "--fail-on", "worst"], 2);
    world.run(&["check", "none"], 2);
    world.run(&["check", "--format", "json", "--format", "sarif"], 2);
    let told: Value = serde_json::from_str(&world.run(&["check", "--format", "json", "--gate", "none"], 2).out).expect("JSON");
    assert_eq!(told["error"]["message"], "--gate none: no gate of this check is called so");
    assert!(told["error"]["help"].as_str().is_some_and(|help| help.contains("lint-python")), "{told}");
    let policy = world.home.path().join("policy.toml");
    std::fs::write(&policy, format!("plugins = [{:?}]\n", common::root().join("dist/plugins"))).expect("writes");
    let named = world.run(&["check", "--policy", policy.to_str().expect("UTF-8"), "--gate", "contents-check"], 2).err;
    assert!(named.contains("no gate of this check is called so") && named.contains("there is such a plugin"), "{named}");
    world.run(&["check", "--output", "a", "--output", "b"], 2);
    world.run(&["check", "--format", "sarif", "--output", "no/folder.sarif"], 2);
    world.run(&["check", "a.py", "/etc/hostname"], 2);
    // A gate that cannot answer has not passed, and no threshold changes that.
    world.write("sandhog.toml", "[[gate]]\ngate = \"lint-python\"\nlimits = { fuel = 1000 }\n");
    world.run(&["trust"], 0);
    let failed = world.json(&["--exit-zero"], 1);
    assert_eq!((&failed["gates"][0]["outcome"], &failed["gates"][0]["failure"]["kind"]), (&"failed".into(), &"out_of_fuel".into()));
    world.write("sandhog.toml", "[[gate]]\ngate = \"lint-python\"\non_error = \"allow\"\nlimits = { fuel = 1000 }\n");
    world.run(&["trust"], 0);
    world.run(&["check"], 0);
    assert!(world.run(&["check", "--format", "github"], 0).out.starts_with("::warning title=lint-python could not answer::"));
    let junit = world.run(&["check", "--format", "junit"], 0).out;
    assert!(junit.contains("<skipped message=\"could not answer: a.py: out_of_fuel") && junit.contains("errors=\"0\""), "{junit}");
}

/// A tree whose findings are hard to carry: characters that formats escape.
fn awkward() -> World {
    let world = World::new();
    world.write("src/it's 100% <ok> & \u{fc}.json", "{\"a%0A,b: c\": 1,\n \"a%0A,b: c\": 2}\n");
    world.write("good.toml", "a = 1\n");
    world.write("sandhog.toml", "[[gate]]\ngate = \"lint-json\"\n\n[[gate]]\ngate = \"lint-toml\"\nlimits = { fuel = 1000 }\n");
    world.run(&["trust"], 0);
    world
}

/// What changes from build to build and from run to run, put out of sight.
fn steady(text: &str) -> String {
    let mut text = text.to_owned();
    for (from, to) in [("time=\"", "\""), ("timestamp=\"", "\""), ("uuid=\"", "\"")] {
        let mut at = 0;
        while let Some(start) = text[at..].find(from).map(|found| at + found + from.len()) {
            let end = start + text[start..].find(to).expect("an end");
            text.replace_range(start..end, "_");
            at = start;
        }
    }
    text
}

#[test]
fn sarif_validates_and_carries_what_code_scanning_needs() {
    let world = awkward();
    let sarif: Value = serde_json::from_str(&world.run(&["check", "--format", "sarif"], 1).out).expect("JSON");
    let validate = |name: &str, text: &str| {
        world.write(name, text);
        let schema = root().join("tests/data/sarif-schema-2.1.0.json");
        let file = world.path().join(name);
        Command::new(root().join("dist/validate")).arg(schema).arg(file).output().expect("run scripts/guests first")
    };
    let said = validate("out.sarif", &sarif.to_string());
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    assert!(!validate("bad.sarif", "{\"version\": \"2.1.0\", \"runs\": [{}]}").status.success(), "the schema says nothing");
    let runs = sarif["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2);
    let ids: Vec<&Value> = runs.iter().map(|run| &run["automationDetails"]["id"]).collect();
    assert_eq!(ids, ["sandhog/lint-json/", "sandhog/lint-toml/"]);
    let result = &runs[0]["results"][0];
    let location = &result["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "src/it%27s%20100%25%20%3Cok%3E%20%26%20%C3%BC.json");
    assert_eq!((&location["region"]["startLine"], &location["region"]["startColumn"]), (&2.into(), &2.into()));
    let hash = result["partialFingerprints"]["primaryLocationLineHash"].as_str().expect("a hash");
    assert!(hash.ends_with(":1") && hash.len() == 18, "{hash}");
    assert_eq!(runs[0]["invocations"][0]["executionSuccessful"], true);
    assert_eq!(runs[1]["invocations"][0]["executionSuccessful"], false, "a gate that could not answer is never an empty success");
    let said = runs[1]["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"].as_str().expect("a text");
    assert!(said.contains("out_of_fuel"), "{said}");
}

#[test]
fn junit_tells_rejected_from_failed() {
    let world = awkward();
    let xml = steady(&world.run(&["check", "--format", "junit"], 1).out);
    insta::assert_snapshot!(xml, @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="sandhog check" tests="2" skipped="0" failures="1" errors="1" time="_">
        <testsuite name="lint-json" tests="1" skipped="0" errors="0" failures="1" time="_">
            <testcase name="src/it&apos;s 100% &lt;ok&gt; &amp; ü.json">
                <failure message="1 finding" type="sandhog">src/it&apos;s 100% &lt;ok&gt; &amp; ü.json:2:2: high the name &quot;a%0A,b: c&quot; stands in line 1 already, and which of them counts differs from reader to reader [duplicate-key]</failure>
            </testcase>
        </testsuite>
        <testsuite name="lint-toml" tests="1" skipped="0" errors="1" failures="0" time="_">
            <testcase name="lint-toml">
                <error message="could not answer" type="sandhog">good.toml: out_of_fuel: the `fuel` budget of 1K is used up (and 1 more)</error>
            </testcase>
        </testsuite>
    </testsuites>
    "#);
}

#[test]
fn annotations_are_escaped_and_the_worst_come_first() {
    let world = awkward();
    world.write("b.json", "{\"z\": 1, \"z\": 2}");
    let out = world.run(&["check", "--format", "github"], 1).out;
    insta::assert_snapshot!(out, @r#"
    ::error title=lint-toml could not answer::good.toml: out_of_fuel: the `fuel` budget of 1K is used up (and 1 more)
    ::error title=lint-json duplicate-key,file=b.json,line=1,endLine=1,col=10,endColumn=16::the name "z" stands in line 1 already, and which of them counts differs from reader to reader
    ::error title=lint-json duplicate-key,file=src/it's 100%25 <ok> & ü.json,line=2,endLine=2,col=2,endColumn=16::the name "a%250A,b: c" stands in line 1 already, and which of them counts differs from reader to reader
    "#);
    let summary = world.home.path().join("summary.md");
    let mut command = world.command(env!("CARGO_BIN_EXE_sandhog"), &["check", "--format", "github", "--output", "out.txt"]);
    command.env("SANDHOG_CACHE_DIR", world.home.path().join("cache")).env("GITHUB_STEP_SUMMARY", &summary);
    let silent = ran(&mut command, 1);
    assert_eq!((silent.out.as_str(), world.read("out.txt")), ("", out));
    insta::assert_snapshot!(std::fs::read_to_string(summary).expect("a summary"), @r#"
    ## sandhog check failed

    | gate | outcome | findings | files |
    |---|---|---|---|
    | lint-json | rejected | 2 | 2 |
    | lint-toml | failed | 0 | 2 |

    | severity | where | what | rule |
    |---|---|---|---|
    | high | b.json:1:10 | the name "z" stands in line 1 already, and which of them counts differs from reader to reader | lint-json/duplicate-key |
    | high | src/it's 100% &lt;ok&gt; &amp; ü.json:2:2 | the name "a%0A,b: c" stands in line 1 already, and which of them counts differs from reader to reader | lint-json/duplicate-key |
    "#);
}

#[test]
fn several_formats_at_once() {
    let world = World::new();
    world.write("a.py", BAD);
    let out = world.home.path();
    let file = |name: &str| out.join(name).display().to_string();
    let (sarif, junit) = (file("a.sarif"), file("a.xml"));
    let ran =
        world.run(&["check", "--format", "sarif", "--output", &sarif, "--format", "junit", "--output", &junit, "--format", "human"], 1);
    assert!(ran.out.contains("lint-python rejected"));
    assert!(std::fs::read_to_string(&sarif).expect("reads").contains("\"2.1.0\""));
    assert!(std::fs::read_to_string(&junit).expect("reads").contains("<testsuites"));
}

#[test]
fn a_large_picture_is_no_finding_and_a_large_text_is_one() {
    let world = World::new();
    world.write("photo.png", [b"\x89PNG\r\n\x1a\n\0".to_vec(), vec![7; 5 << 20]].concat());
    world.write("a.md", "# A\n");
    let report = world.json(&[], 0);
    let notes = report["notes"].to_string();
    assert!(notes.contains("spelling did not look at photo.png: data of more than 4MiB"), "{notes}");
    world.write("dump.txt", "words and words\n".repeat(1 << 19));
    assert_eq!(findings(&world.json(&[], 1)), ["dump.txt too-large", "dump.txt too-large"], "of audit-secrets and spelling");
}

#[test]
fn hostile_files_have_a_clear_result_and_stop_nobody_else() {
    let world = World::new();
    world.write("a.py", BAD);
    world.write("long.py", vec![b'x'; 100 << 20]);
    world.write("deep.json", format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000)));
    world.write("deep.yaml", "[".repeat(200_000));
    world.write("deep.md", "> ".repeat(20_000));
    world.write("deep.py", format!("x = {}1{}\n", "(".repeat(50_000), ")".repeat(50_000)));
    world.write("deep.rs", format!("fn f() {{ {}1{} }}\n", "(".repeat(50_000), ")".repeat(50_000)));
    world.write("deep.js", format!("x = {}1{}\n", "(".repeat(50_000), ")".repeat(50_000)));
    world.write("deep.toml", format!("x = {}1{}\n", "[".repeat(50_000), "]".repeat(50_000)));
    world.write("deep.sh", "$(".repeat(20_000));
    world.write("latin.py", b"# caf\xe9\nimport os\n");
    world.write("zeros.json", vec![0; 5_000]);
    world.write("new\nline.py", BAD);
    world.write("bom.json", "\u{feff}{}");
    std::os::unix::fs::symlink("/etc/passwd", world.path().join("passwd.py")).expect("links");
    std::os::unix::fs::symlink("/", world.path().join("everything")).expect("links");
    let report = world.json(&[], 1);
    let found = findings(&report);
    for expected in ["a.py:1:8 F401", "long.py too-large", "new\\nline.py not-judged", "zeros.json:1:1 syntax"] {
        assert!(found.iter().any(|line| line == expected), "{expected} is missing in {found:?}");
    }
    assert!(found.iter().any(|line| line.starts_with("latin.py")), "{found:?}");
    assert!(!found.iter().any(|line| line.starts_with("bom.json")), "{found:?}");
    assert!(!found.iter().any(|line| line.contains("passwd") || line.starts_with("everything")), "{found:?}");
    assert!(report["notes"].as_array().expect("notes").iter().any(|note| note == "2 links were not followed"));
    for gate in report["gates"].as_array().expect("gates") {
        let failure = &gate["failure"];
        let kind = failure["kind"].as_str();
        assert!(
            matches!(kind, None | Some("stack_overflow" | "memory_limit" | "out_of_fuel" | "deadline_exceeded" | "trapped")),
            "{}: {failure}",
            gate["name"]
        );
        if kind.is_some() {
            let part = failure["part"].as_str().expect("a part");
            assert!(part.starts_with("deep.") || part == "long.py", "{}: {part} stopped it", gate["name"]);
        }
    }
}

#[test]
fn a_hostile_tree_brings_nothing_of_its_own() {
    let world = World::new();
    world.write("a.py", BAD);
    // Its own gate of the standard one's name, which passes everything; its own configuration, grants, state and cache.
    world.write("gates/lint-python.toml", "name = \"lint-python\"\nset = \"lint\"\nscope = \"tree\"\n");
    let echo = std::fs::read(root().join("dist/guests/judges_files.wasm")).expect("run scripts/guests first");
    world.write("gates/lint-python.wasm", &echo);
    world.write("gates/compiled/x.compiled", "not code");
    world.write("plugins/lint-python.wasm", &echo);
    world.write(
        "sandhog.toml",
        "plugins = [\"gates\"]\n[[gate]]\ngate = \"lint-python\"\non_error = \"allow\"\nfail_on = \"critical\"\n[grants.lint-python]\ndigest = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\nclock = true\n",
    );
    world.write("sandhog-baseline.json", "{\"sandhog_baseline\": 1, \"findings\": [{\"gate\": \"lint-python\", \"path\": \"a.py\", \"rule\": \"F401\", \"message\": \"`os` imported but unused\"}]}");
    world.write(".sandhog/journal.sqlite", "not a journal");
    world.write(".cache/sandhog/compiled/key", "0123456789abcdef0123456789abcdef");
    let report = world.json(&["--gate", "lint-python"], 1);
    assert_eq!(findings(&report), ["a.py:1:8 F401"]);
    let notes: Vec<&str> = report["notes"].as_array().expect("notes").iter().map(|note| note.as_str().expect("a note")).collect();
    assert!(notes[0].contains("sandhog.toml does not count"), "{notes:?}");
    assert!(notes.contains(&"the directory brings a .sandhog of its own: nothing of it is used"), "{notes:?}");
    assert!(world.run(&["check", "--new-only"], 2).err.contains("no baseline counts here"));
    // Trusted, its gate stands in the place of the standard one, and the report says so.
    world.write("sandhog.toml", "plugins = [\"gates\"]\n");
    world.run(&["trust"], 0);
    let trusted = world.json(&["--gate", "lint-python"], 1);
    assert_eq!(trusted["gates"][0]["failure"]["kind"], "permanent", "it reads the wasm beside it as text");
    assert!(trusted["notes"].to_string().contains("stands in the place of"), "{}", trusted["notes"]);
    world.write("gates/lint-python.wasm", [echo.as_slice(), &[0, 1, 0]].concat());
    let changed = world.json(&["--gate", "lint-python"], 1);
    assert!(changed["notes"][0].as_str().expect("a note").contains("changed since it was trusted"), "{}", changed["notes"]);
}

/// Those that are not read (links, which may lead to devices and to others' files; FIFOs; what is too large) leave nothing out, and hold up nothing.
#[test]
fn patterns_of_a_hostile_tree_are_read_as_its_files_are() {
    let world = World::new();
    std::fs::write(world.home.path().join("patterns"), "a.py\n").expect("written");
    for name in ["a.py", "zero/b.py", "pipe/c.py", "large/d.py", "real/e.py", "real/f.py"] {
        world.write(name, BAD);
    }
    let link = |to: &std::path::Path, name: &str| std::os::unix::fs::symlink(to, world.path().join(name)).expect("linked");
    link(&world.home.path().join("patterns"), ".gitignore");
    link(std::path::Path::new("/dev/zero"), "zero/.gitignore");
    let pipe = world.path().join("pipe/.gitignore");
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    std::fs::File::create(world.path().join("large/.gitignore")).and_then(|file| file.set_len(1 << 40)).expect("a sparse giant");
    world.write("real/.gitignore", "f.py\n");
    let report = world.json(&["--gate", "lint-python"], 1);
    let found: Vec<String> = findings(&report).into_iter().filter(|found| found.ends_with("F401")).collect();
    assert_eq!(found, ["a.py:1:8 F401", "large/d.py:1:8 F401", "pipe/c.py:1:8 F401", "real/e.py:1:8 F401", "zero/b.py:1:8 F401"]);
    let notes = report["notes"].to_string();
    assert!(notes.contains("the patterns of large/.gitignore do not count: it is larger than"), "{notes}");
}

/// Neither reports nor mends go through links that a repository brings.
#[test]
fn nothing_is_written_through_a_link_of_the_tree() {
    let world = World::new();
    let outside = world.home.path().join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("victim"), "precious").expect("written");
    std::fs::write(outside.join("a.py"), BAD).expect("written");
    world.git(&["init", "--quiet"]);
    world.write("a.py", BAD);
    let link = |to: &std::path::Path, name: &str| std::os::unix::fs::symlink(to, world.path().join(name)).expect("linked");
    link(&outside.join("victim"), "findings.sarif");
    link(&outside, "reports");
    for output in ["findings.sarif", "reports/new", "./reports/victim"] {
        let refused = world.run(&["check", "--gate", "lint-python", "--format", "sarif", "--output", output], 2).err;
        assert!(refused.contains("is a link that lies beside what is read"), "{output}: {refused}");
    }
    for named in ["reports", "reports/", "reports/a.py"] {
        assert!(world.run(&["check", named, "--gate", "lint-python", "--fix"], 2).err.contains("leads out of the repository"), "{named}");
    }
    assert_eq!(std::fs::read_dir(&outside).expect("listed").count(), 2);
    assert_eq!(std::fs::read_to_string(outside.join("victim")).expect("there"), "precious");
    assert_eq!(std::fs::read_to_string(outside.join("a.py")).expect("there"), BAD);
    world.run(&["check", "--gate", "lint-python", "--format", "sarif", "--output", "new.sarif"], 1);
}

/// A tag that is called as a branch of the base is called does not stand in its place.
#[test]
fn a_name_that_means_two_revisions_means_none() {
    let world = World::new();
    world.git(&["init", "--quiet"]);
    world.write("sandhog.toml", "[check]\n[[gate]]\ngate = \"lint-python\"\n");
    world.write("a.py", GOOD);
    world.git(&["add", "."]);
    world.git(&["commit", "--quiet", "-m", "base"]);
    world.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    world.write("sandhog.toml", "[check]\n[[gate]]\ngate = \"lint-json\"\n");
    world.write("a.py", BAD);
    world.git(&["commit", "--quiet", "--all", "-m", "theirs"]);
    assert_eq!(findings(&world.json(&["--policy-from", "origin/main"], 1)), ["a.py:1:8 F401"]);
    for made in [["tag", "origin/main"], ["branch", "origin/main"]] {
        world.git(&made);
        for arguments in [["--policy-from", "origin/main"], ["--changed", "origin/main"], ["--policy-from", "origin/main^{commit}"]] {
            let refused = world.run(&[&["check"], &arguments[..]].concat(), 2).err;
            assert!(refused.contains("is ambiguous") && refused.contains("name it in full"), "{refused}");
        }
        world.json(&["--policy-from", "refs/remotes/origin/main"], 1);
        world.git(&[made[0], if made[0] == "tag" { "--delete" } else { "-D" }, "origin/main"]);
    }
}

/// What a repository tracks is judged, also that of repositories within it, whatever patterns say.
#[test]
fn submodules_are_judged_although_patterns_name_them() {
    let world = World::new();
    let module = World::new();
    module.git(&["init", "--quiet"]);
    module.write("b.py", BAD);
    module.write("c.py", BAD);
    module.write(".gitignore", "c.py\nuntracked.py\n");
    module.git(&["add", "--force", "."]);
    module.git(&["commit", "--quiet", "-m", "module"]);
    world.git(&["init", "--quiet"]);
    let url = module.path().to_str().expect("UTF-8").to_owned();
    world.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &url, "vendor/module"]);
    world.write("vendor/module/untracked.py", BAD);
    world.write(".gitignore", "vendor/\nb.py\n");
    world.write("a.py", GOOD);
    world.git(&["add", "."]);
    let found = findings(&world.json(&["--gate", "lint-python"], 1));
    assert_eq!(found, ["vendor/module/b.py:1:8 F401", "vendor/module/c.py:1:8 F401"]);
}

/// What is no character in XML is none in what a report shows.
#[test]
fn a_report_is_xml_whatever_files_are_called() {
    let world = World::new();
    world.write("a\u{fffe}b\u{ffff}.py", BAD);
    let report = world.run(&["check", "--gate", "lint-python", "--format", "junit"], 1).out;
    assert!(report.contains("a\\u{fffe}b\\u{ffff}.py") && !report.contains(['\u{fffe}', '\u{ffff}']), "{report}");
}

#[test]
fn what_all_parts_of_a_gate_find_together_has_a_bound() {
    let world = World::new();
    let floods = std::fs::read(root().join("dist/guests/floods_verdict.wasm")).expect("run scripts/guests first");
    world.write("gates/floods.wasm", floods);
    world.write("gates/floods.toml", "name = \"floods\"\nset = \"lint\"\nscope = \"file\"\nfiles = [\"*.txt\"]\n");
    // Nine MiB for each file, each within its own limits.
    world.write("sandhog.toml", "plugins = [\"gates\"]\n[check]\n[[gate]]\ngate = \"floods\"\nparams = { bytes = 9437184 }\n");
    world.run(&["trust"], 0);
    for number in 0..7 {
        world.write(&format!("{number}.txt"), "x");
    }
    let within = world.run(&["check", "--format", "human"], 0);
    assert!(within.out.contains("floods passed"), "{}", within.out.chars().take(2000).collect::<String>());
    world.write("7.txt", "x");
    let failure = &world.json(&[], 1)["gates"][0]["failure"];
    assert_eq!(failure["kind"], "output_limit", "{failure}");
    assert!(failure["message"].as_str().expect("a message").starts_with("more than 64MiB were found"), "{failure}");
}

#[test]
fn a_configuration_that_does_not_fit_is_told_once_with_its_place() {
    let world = World::new();
    world.write("a.py", BAD);
    world.write("b.py", "x = 1\n");
    let check = ["check", "--policy", "sandhog.toml"];
    world.write("sandhog.toml", "[check]\n[[gate]]\ngate = \"lint-python\"\non_error = \"allow\"\nparams = { selects = [\"F\"] }\n");
    let report = world.json(&["--policy", "sandhog.toml"], 2);
    assert_eq!(report["outcome"], "misconfigured");
    let failure = &report["gates"][0]["failure"];
    assert_eq!(failure["parts"], 1);
    let message = failure["message"].as_str().expect("a message");
    assert!(message.starts_with("sandhog.toml:2: params do not fit: unknown field `selects`"), "{message}");
    for (text, complaint) in [
        ("[[gate]]\ngate = \"lint-python\"\nlimits = { memory = \"999GiB\" }\n", "sandhog.toml:1: lint-python: `memory` = 999GiB is above"),
        (
            "\n[[gate]]\ngate = \"lint-pyton\"\n",
            "sandhog.toml:2: there is no gate, and no set of gates, named `lint-pyton`; did you mean `lint-python`?",
        ),
        ("[check]\nexclude = [\"!a\"]\n", "a pattern with `!` is not understood"),
        ("[[ignore]]\nrule = \"F401\"\nreason = \" \"\n", "`reason` is empty"),
    ] {
        world.write("sandhog.toml", text);
        let told = world.run(&check, 2).err;
        assert!(told.contains(complaint), "{complaint}: {told}");
    }
    let told = world.run(&["check", "--data", "advisory=x"], 2).err;
    assert!(told.contains("no plugin asks for data of this name") && told.contains("did you mean `advisories`?"), "{told}");
    assert!(world.run(&["check", "--gates", "nowhere"], 2).err.contains("--gates nowhere: there is no such folder"));
}

#[test]
fn an_ignore_without_a_finding_and_data_that_nobody_asks_for_are_noted() {
    let world = World::new();
    world.write("old/a.py", BAD);
    world.write("b.py", "x = 1\n");
    world.write(
        "sandhog.toml",
        "[check]\nexclude = [\"old\"]\n[data]\nadvisory = \"x\"\n[[gate]]\ngate = \"lint-python\"\n[[ignore]]\nrule = \"F401\"\nreason = \"it is so\"\n",
    );
    let notes = |arguments: &[&str]| world.json(&[arguments, &["--policy", "sandhog.toml"]].concat(), 0)["notes"].to_string();
    let told = notes(&[]);
    assert!(told.contains("sandhog.toml:7: this [[ignore]] of F401 covers no finding"), "{told}");
    assert!(told.contains("[data] advisory: no plugin asks for data of this name; did you mean `advisories`?"), "{told}");
    assert!(!notes(&["b.py"]).contains("covers no finding"), "only a part is judged");
}

#[test]
fn a_part_of_a_project_is_judged_with_what_lies_at_its_root() {
    let world = World::new();
    world.git(&["init"]);
    world.write("ruff.toml", "[lint]\nselect = [\"E711\"]\n");
    world.write("sandhog.toml", "");
    world.write("src/a.py", BAD);
    world.write("other/b.py", "x = None\ny = x == None\n");
    assert_eq!(findings(&world.json(&["src"], 0)), Vec::<String>::new(), "ruff.toml at the root counts");
    assert_eq!(findings(&world.json(&["other"], 1)), ["other/b.py:2:10 E711"]);
    assert_eq!(findings(&world.json(&["other/b.py", "src"], 1)), ["other/b.py:2:10 E711"]);
}

const GATE_DATA: &str =
    r#"{"id":"X-1","modified":"2026-01-02T00:00:00Z","affected":[{"package":{"ecosystem":"crates.io","name":"deep"}}]}"#;

#[test]
fn tests_that_mean_harm_reach_nothing_and_the_others_go_on() {
    let world = World::new();
    let secret = world.home.path().join("secret");
    std::fs::write(&secret, "hush").expect("writes");
    world.write(
        "test_harm.py",
        format!(
            "import os, socket, subprocess, pytest\n\n\ndef test_files():\n    for path in [{secret:?}, '/etc/passwd', '../../../../etc/passwd', '/proc/self/environ']:\n        \
             with pytest.raises(OSError):\n            open(path)\n    assert os.environ.get('HOME') is None\n\n\ndef test_writes():\n    for path in ['x', '/subject/x', '/data/x', '/tmp/../x']:\n        \
             with pytest.raises(OSError):\n            open(path, 'w')\n\n\ndef test_network():\n    with pytest.raises(OSError):\n        socket.create_connection(('127.0.0.1', 1))\n\n\n\
             def test_processes():\n    with pytest.raises(OSError):\n        subprocess.run(['true'])\n\n\ndef test_memory():\n    with pytest.raises(MemoryError):\n        [bytes(1 << 20) for _ in range(4096)]\n",
            secret = secret.to_str().expect("UTF-8")
        ),
    );
    world.write(
        "harm.test.js",
        format!(
            "const fs = require('fs');\ntest('files', () => {{\n  for (const path of [{secret:?}, '/etc/passwd', '../../../etc/passwd']) expect(() => fs.readFileSync(path)).toThrow('ENOENT');\n  \
             expect(() => fs.writeFileSync('x', '')).toThrow('read-only');\n}});\ntest('network', async () => {{\n  expect(() => require('net').connect(1)).toThrow('not in the sandbox');\n  expect(() => require('child_process').execSync('true')).toThrow('not in the sandbox');\n  \
             await expect(fetch('http://127.0.0.1')).rejects.toThrow('not in the sandbox');\n}});\n",
            secret = secret.to_str().expect("UTF-8")
        ),
    );
    let report = world.json(&["--gate", "test"], 0);
    let units: usize = report["gates"].as_array().expect("gates").iter().map(|gate| gate["units"].as_array().expect("units").len()).sum();
    assert_eq!(units, 8, "each test, and the file for those that only pytest finds: {report}");
    let before: Vec<_> = walkdir::WalkDir::new(world.path()).into_iter().flatten().map(|entry| entry.path().to_owned()).collect();
    assert_eq!(before.len(), 3, "the tree has what it had: {before:?}");
}

#[test]
fn zero_tests_are_no_pass_and_each_unit_tells_of_itself() {
    let world = World::new();
    world.write("test_none.py", "def helper():\n    pass\n");
    assert_eq!(findings(&world.json(&["--gate", "test-python"], 1)), ["test_none.py no-units"]);
    world.write("test_some.py", "def test_says():\n    print('heard')\n    assert 1 == 2\n\n\ndef test_fine():\n    pass\n");
    let report = world.json(&["--gate", "test-python"], 1);
    let units = report["gates"][0]["units"].as_array().expect("units");
    let told: Vec<(&str, &str)> =
        units.iter().map(|unit| (unit["name"].as_str().expect("a name"), unit["outcome"].as_str().expect("an outcome"))).collect();
    let expected = [
        ("test_none.py", "skipped"),
        ("test_some.py::test_says", "rejected"),
        ("test_some.py::test_fine", "passed"),
        ("test_some.py", "skipped"),
    ];
    assert_eq!(told, expected);
    assert!(units.iter().all(|unit| unit["usage"]["fuel"].as_u64().expect("fuel") > 0));
    assert!(units[1]["log"].to_string().contains("heard"), "what it wrote is kept");
    let junit = world.run(&["check", "--gate", "test-python", "--format", "junit"], 1).out;
    assert!(junit.contains("name=\"test_some.py::test_fine\"") && junit.contains("<failure"), "{junit}");
    let again = world.json(&["--gate", "test-python"], 1);
    assert_eq!(again["gates"][0]["known"], 4, "a test is known by what it looked at");
    assert!(again["gates"][0]["units"][1]["log"].to_string().contains("heard"));
}

#[test]
fn what_a_runner_would_be_configured_with_is_said_in_params() {
    let world = World::new();
    world.write("test/setup.js", "globalThis.ready = true;\nafterEach(() => { if (globalThis.leak) throw new Error('it leaks'); });\n");
    world.write("src/a.ts", "export const one: number = 1;\n");
    world.write(
        "src/__tests__/a.ts",
        "import { one } from '@/a';\ntest('a', () => expect([one, (globalThis as any).ready]).toEqual([1, true]));\n",
    );
    world.write("src/b_test.js", "test('b', () => { globalThis.leak = true; });\n");
    let told = world.run(&["check", "--gate", "test-javascript"], 1).out;
    assert!(told.contains("the package @/a is not in the sandbox") && told.contains("`alias` in params"), "{told}");
    world.write(
        "sandhog.toml",
        "[[gate]]\ngate = \"test-javascript\"\nparams = { setup = [\"test/setup.js\"], alias = { \"@/\" = \"src/\" } }\n",
    );
    let report = world.json(&["--policy", "sandhog.toml"], 1);
    assert_eq!(findings(&report), ["test/setup.js:2:50 test-error"], "{report}");
    assert!(report["gates"][0]["findings"][0]["message"].as_str().expect("a message").ends_with("it leaks"));
}

#[test]
fn packages_that_tests_import_are_given_as_data() {
    let world = World::new();
    world.write("tree/test_a.py", "import beside\n\n\ndef test_a():\n    assert beside.two == 2\n");
    world.write("tree/a.test.mjs", "import three from 'three';\n\ntest('a', () => expect(three).toBe(3));\n");
    world.write("python/beside.py", "two = 2\n");
    world.write("node_modules/three/package.json", "{\"main\": \"lib/index.js\"}");
    world.write("node_modules/three/lib/index.js", "module.exports = 3;\n");
    let told = world.run(&["check", "tree", "--gate", "test"], 1).out;
    assert!(told.contains("--data python=FOLDER") && told.contains("--data node_modules=FOLDER"), "{told}");
    let given = ["tree", "--gate", "test", "--data", "python=python", "--data", "node_modules=node_modules"];
    world.json(&given, 0);
    world.write("python/beside.py", "two = 3\n");
    assert_eq!(findings(&world.json(&given, 1)), ["test_a.py:5:1 test-failed"], "data is part of what an answer follows from");
    for (wrong, expected) in [
        ("python", "expected NAME=PATH"),
        ("python=", "expected a path"),
        ("python=nothing", "cannot be given"),
        ("Py thon=x", "does not fit"),
    ] {
        let err = world.run(&["check", "tree", "--gate", "test", "--data", wrong], 2).err;
        assert!(err.contains(expected), "{wrong}: {err}");
    }
}

#[test]
fn an_advisory_database_that_is_missing_damaged_empty_or_old_is_said_and_never_passes() {
    let world = World::new();
    world.write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"fine\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n");
    let out = world.run(&["check"], 0).out;
    assert!(out.contains("audit-dependencies did not judge: it needs an advisory database in OSV form"), "{out}");
    assert!(world.run(&["check", "--gate", "audit-dependencies"], 2).err.contains("--data advisories=PATH"));
    world.write("policy.toml", "[[gate]]\ngate = \"audit-dependencies\"\nparams = { maximum_age = \"30d\" }\n");
    assert!(world.run(&["check", "--policy", "policy.toml"], 2).err.contains("[data]"));
    let judge = |data: &str, code| world.run(&["check", "--gate", "audit-dependencies", "--data", &format!("advisories={data}")], code).out;
    world.write("good.jsonl", GATE_DATA);
    assert!(judge("good.jsonl", 0).contains("passed"));
    world.write("cut.jsonl", format!("{GATE_DATA}\n{}", &GATE_DATA[..40]));
    assert!(judge("cut.jsonl", 1).contains("cut.jsonl: line 2"));
    std::fs::create_dir(world.path().join("empty")).expect("made");
    let empty = world.run(&["check", "--gate", "audit-dependencies", "--data", "advisories=empty"], 2).err;
    assert!(empty.contains("there is no file in it"), "{empty}");
    world.write("none/README", "no advisories here");
    assert!(judge("none", 1).contains("there is no advisory in it"));
    let old = world.run(&["check", "--policy", "policy.toml", "--data", "advisories=good.jsonl"], 1).out;
    assert!(old.contains("is of 2026-01-02") && old.contains("`maximum_age` is 30 days"), "{old}");
}

#[test]
fn a_secret_is_stars_in_every_report() {
    let world = World::new();
    let letters = "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zC0fG"; // sandhog:allow-secret
    let secret: String = letters.chars().cycle().step_by(7).take(36).collect();
    // Another gate has something to say about the same line.
    world.write("a.py", format!("import os; token = \"ghp_{secret}\"\n"));
    for format in ["human", "json", "sarif", "junit", "github"] {
        let out = world.run(&["check", "--format", format], 1).out;
        assert!(out.contains("github-token") && !out.contains(&secret[..12]), "{format}: {out}");
    }
    world.run(&["baseline", "update"], 0);
    assert!(!world.read("sandhog-baseline.json").contains(&secret[..12]));
    world.write("a.py", format!("token = \"ghp_{secret}\"  # sandhog:allow-secret\n"));
    assert_eq!(findings(&world.json(&["--gate", "audit-secrets"], 0)), Vec::<String>::new());
}

#[test]
fn what_init_writes_is_read_and_judges_and_nothing_is_written_over() {
    let world = World::new();
    world.write("src/a.py", "x = 1\n");
    world.write("vendor/b.py", "import os\n");
    world.write("Cargo.lock", "version = 4\n");
    world.write("sum.bench.js", "bench(\"sums\", () => 1 + 1);\n");
    let printed = world.run(&["init", "--print"], 0).out;
    world.run(&["init"], 0);
    assert_eq!(world.read("sandhog.toml"), printed);
    assert!(
        printed.contains("exclude = [\"vendor/\"]") && printed.contains("gate = \"lint\"") && printed.contains("# advisories = \"PATH\""),
        "{printed}"
    );
    let hint = "# [[gate]]\n# gate = \"perf-javascript\"\n# params = { max_regression = \"2%\" }\n";
    let taken = world.read("sandhog.toml").replace(hint, &hint.replace("# ", ""));
    assert!(taken != printed, "{printed}");
    world.write("sandhog.toml", taken);
    world.run(&["trust"], 0);
    world.json(&[], 0);
    assert!(world.run(&["init"], 2).err.contains("is there already"));
    world.run(&["trust"], 0);
    let report = world.json(&[], 0);
    assert!(report["notes"].to_string().contains("audit-dependencies did not judge"), "{report}");
    let schema: Value = serde_json::from_str(&world.run(&["schema"], 0).out).expect("JSON");
    assert_eq!(schema["properties"]["gate"]["items"]["required"], serde_json::json!(["gate"]));
}

#[test]
fn figures_are_in_the_baseline_and_two_percent_mean_two_percent() {
    let world = World::new();
    let bench = |count: u32| format!("bench(\"sums\", () => {{ let s = 0; for (let i = 0; i < {count}; i += 1) s += i; return s; }});\n");
    world.write("sum.bench.js", bench(1_000));
    world.write("sandhog.toml", "[[gate]]\ngate = \"perf-javascript\"\nparams = { max_regression = \"2%\" }\n");
    world.run(&["trust"], 0);
    assert_eq!(findings(&world.json(&[], 0)), ["sum.bench.js no-baseline"]);
    let updated = world.run(&["baseline", "update"], 0).out;
    assert!(updated.ends_with(": 0 findings, 1 figure\n"), "{updated}");
    assert_eq!(findings(&world.json(&[], 0)), Vec::<String>::new(), "the same code, the same fuel, and still trusted");
    assert!(world.run(&["baseline", "show"], 0).out.contains("sum.bench.js > sums fuel"));
    world.write("sum.bench.js", bench(1_005));
    assert_eq!(findings(&world.json(&[], 0)), Vec::<String>::new(), "half a percent");
    world.write("sum.bench.js", bench(1_050));
    assert_eq!(findings(&world.json(&[], 1)), ["sum.bench.js fuel-regression"]);
}

#[test]
fn without_params_fuel_may_not_grow_and_a_benchmark_that_crashes_keeps_its_figure() {
    let world = World::new();
    let bench = |body: &str| format!("def bench_sums():\n    {body}\n");
    world.write("bench_sum.py", bench("return sum(range(1000))"));
    world.write("sandhog.toml", "[[gate]]\ngate = \"perf\"\n");
    world.run(&["trust"], 0);
    let first = world.json(&[], 0);
    assert_eq!(findings(&first), Vec::<String>::new());
    assert!(first["notes"].to_string().contains("1 figure of perf-python compared with no baseline"), "{}", first["notes"]);
    world.run(&["baseline", "update"], 0);
    assert!(!world.json(&[], 0)["notes"].to_string().contains("no baseline"));
    // Where nothing is trusted, it counts when it is named.
    let stranger = World::new();
    stranger.write("bench_sum.py", bench("return sum(range(2000))"));
    stranger.write("sandhog-baseline.json", world.read("sandhog-baseline.json"));
    let report = stranger.json(&[], 0);
    assert!(report["notes"].to_string().contains("sandhog-baseline.json counts with --baseline"), "{}", report["notes"]);
    let named = stranger.json(&["--baseline", "sandhog-baseline.json", "--new-only"], 1);
    assert_eq!(findings(&named), ["bench_sum.py:1:1 fuel-regression"]);
    world.write("bench_sum.py", bench("return sum(range(2000))"));
    assert_eq!(findings(&world.json(&["--new-only"], 1)), ["bench_sum.py:1:1 fuel-regression"]);
    let figure = || {
        let baseline: Value = serde_json::from_str(&world.read("sandhog-baseline.json")).expect("JSON");
        (baseline["findings"].as_array().expect("findings").len(), baseline["metrics"][0]["value"].as_f64())
    };
    let before = figure();
    world.write("bench_sum.py", bench("return 1 / 0"));
    let updated = world.run(&["baseline", "update"], 0);
    assert!(updated.err.contains("bench_sum.py::bench_sums was not measured"), "{}", updated.err);
    assert_eq!(figure(), (1, before.1), "what crashes is a finding, and its figure stays");
    world.write("bench_sum.py", bench("return sum(range(2000))"));
    assert_eq!(findings(&world.json(&["--new-only"], 1)), ["bench_sum.py:1:1 fuel-regression"]);
    world.run(&["baseline", "update"], 0);
    let after = figure();
    assert!(after.0 == 0 && after.1 > before.1, "a regression that is accepted is a figure, and no finding: {after:?}");
    world.json(&[], 0);
}

#[test]
fn a_file_that_is_named_is_judged_as_a_part_of_its_project() {
    let world = World::new();
    world.git(&["init", "--quiet"]);
    world.write("package/__init__.py", "answer = 42\n");
    world.write("tests/test_it.py", "import package\n\n\ndef test_it():\n    assert package.answer == 42\n");
    world.json(&["tests/test_it.py", "--gate", "test-python"], 0);
}

#[test]
fn each_report_goes_where_its_output_says() {
    let world = World::new();
    world.write("a.py", BAD);
    let first = world.run(&["check", "--format", "sarif", "--output", "a.sarif", "--format", "github"], 1);
    assert!(first.out.starts_with("::error") && world.read("a.sarif").contains("\"2.1.0\""));
    let second = world.run(&["check", "--format", "github", "--format", "sarif", "--output", "b.sarif"], 1);
    assert!(second.out.starts_with("::error") && world.read("b.sarif").contains("\"2.1.0\""), "by their order, not by their number");
    let twice = world.run(&["check", "--format", "sarif", "--output", "a", "--output", "b"], 2);
    assert!(twice.err.contains("two --output for one --format"), "{}", twice.err);
    let one = world.run(&["check", "--format", "sarif", "--output", "a", "--format", "junit", "--output", "a"], 2);
    assert!(one.err.contains("two reports would go to a"), "{}", one.err);
}

#[test]
fn what_cannot_be_written_is_no_pass() {
    let world = World::new();
    world.write("a.py", GOOD);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opens");
    let ended = world.command(env!("CARGO_BIN_EXE_sandhog"), &["check", "--format", "sarif"]).stdout(full).output().expect("runs");
    assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));
    // A gate is named, and not found where the tree has it.
    world.write("policy.toml", "[[gate]]\ngate = \"tools/lint.wasm\"\n");
    assert!(world.run(&["check", "--policy", "policy.toml"], 2).err.contains("not by a path"));
}

#[test]
fn what_lies_above_a_strangers_folder_is_not_seen_unless_it_is_of_the_same_tree() {
    let world = World::new();
    world.write("private/notes.txt", "hush");
    world.write("sandhog.toml", "");
    world.write("policy.toml", "");
    let looks = "import os\n\n\ndef test_looks():\n    assert sorted(os.listdir('/subject')) == ['test_x.py']\n";
    world.write("stranger/test_x.py", looks);
    world.json(&["stranger", "--gate", "test"], 0);
    world.json(&["stranger", "--gate", "test", "--policy", "policy.toml"], 0);
    world.json(&["stranger/test_x.py", "--gate", "test", "--policy", "policy.toml"], 0);
}

/// Tests that a real runner reports as failing.
#[test]
fn what_fails_elsewhere_fails_here() {
    let world = World::new();
    for (name, body) in [
        ("rejects", "test('a', () => { Promise.reject(new Error('boom')); });"),
        ("later", "test('a', () => { setTimeout(() => { throw new Error('boom'); }, 5); });"),
        ("callback", "const test = require('node:test');\ntest('a', (t, done) => setImmediate(() => done(new Error('boom'))));"),
        ("subtest", "const test = require('node:test');\ntest('a', (t) => { t.test('inner', () => { throw new Error('boom'); }); });"),
        (
            "nested",
            "const { it, describe } = require('node:test');\ndescribe('d', () => { it('a', async () => { await it('inner', () => { throw new Error('boom'); }); }); });",
        ),
        ("after", "const test = require('node:test');\ntest('a', (t) => { t.after(() => { throw new Error('boom'); }); });"),
        (
            "only",
            "const test = require('node:test');\ntest('a', { only: true }, () => {});\ntest('b', () => { throw new Error('boom'); });",
        ),
        (
            "timeout",
            "const test = require('node:test');\ntest('a', { timeout: 5 }, async () => { await new Promise((r) => setTimeout(r, 60)); });",
        ),
        ("exit_code", "test('a', () => { process.exitCode = 1; });"),
        ("unawaited", "const assert = require('assert');\ntest('a', () => { assert.rejects(async () => {}); });"),
        ("registered_late", "setTimeout(() => test('a', () => { throw new Error('boom'); }), 5);\ntest('b', () => {});"),
        ("to_throw", "test('a', () => { expect(42).toThrow(); });"),
        ("resolves", "test('a', async () => { await expect(5).resolves.toBe(5); });"),
    ] {
        world.write(&format!("{name}.test.js"), format!("{body}\n"));
        let report = world.json(&["--gate", "test-javascript"], 1);
        assert!(!findings(&report).is_empty(), "{name}: {report}");
        std::fs::remove_file(world.path().join(format!("{name}.test.js"))).expect("removes");
    }
    for (name, body) in [
        ("globals", "globals()['test_g'] = lambda: 1 / 0\n"),
        ("executed", "exec('def test_e():\\n    assert 0')\n"),
        ("added", "class TestK:\n    pass\n\n\nsetattr(TestK, 'test_z', lambda self: 1 / 0)\n"),
        ("walrus", "(test_w := lambda: 1 / 0)\n"),
        (
            "metaclass",
            "class M(type):\n    def __new__(c, n, b, d):\n        d['test_m'] = lambda self: 1 / 0\n        return super().__new__(c, n, b, d)\n\n\nclass TestM(metaclass=M):\n    pass\n",
        ),
        ("run_test", "import unittest\n\n\nclass Only(unittest.TestCase):\n    def runTest(self):\n        self.fail()\n"),
    ] {
        world.write(&format!("test_{name}.py"), format!("def test_good():\n    pass\n\n\n{body}"));
        let report = world.json(&["--gate", "test-python"], 1);
        assert!(!findings(&report).is_empty(), "{name}: {report}");
        std::fs::remove_file(world.path().join(format!("test_{name}.py"))).expect("removes");
    }
    world.write("test_a.py", "def test_x():\n    assert 0\n");
    world.write("conftest.py", "def pytest_runtest_protocol(item, nextitem):\n    return True\n");
    world.json(&["--gate", "test-python"], 1);
    world.write("conftest.py", "");
    world.write("test_a.py", "import pytest\n\n\n@pytest.mark.skip\ndef test_x():\n    pass\n");
    assert_eq!(findings(&world.json(&["--gate", "test-python"], 1)), ["test_a.py no-units"], "nothing ran");
}

/// Tests that a real runner reports as passing.
#[test]
fn what_passes_elsewhere_passes_here() {
    let world = World::new();
    world.write("done.test.cjs", "const test = require('node:test');\ntest('a', (t, done) => setTimeout(done, 10));\n");
    world.write("deco.test.ts", "const twice = (target: unknown, key: string) => {};\nclass A {\n  @twice\n  field = 1;\n}\ntest('a', () => expect(new A().field).toBe(1));\n");
    world.write("meta.test.mjs", "import { fileURLToPath } from 'node:url';\nimport { basename } from 'node:path';\ntest('a', () => expect(basename(fileURLToPath(import.meta.url))).toBe('meta.test.mjs'));\n");
    world.write(
        "test_more.py",
        "import asyncio\nimport unittest\n\nimport pytest\n\n\ndef test_async():\n    async def work():\n        await asyncio.sleep(0.5)\n        return 5\n\n    assert asyncio.run(work()) == 5\n\n\n\
         class TestIt(unittest.IsolatedAsyncioTestCase):\n    async def test_it(self):\n        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))\n\n\nclass TestNot:\n    __test__ = False\n\n    def test_no(self):\n        assert 0\n\n\n\
         def test_gone():\n    assert 0\n\n\ndel test_gone\n",
    );
    world.write("test_skipped.py", "import pytest\n\npytest.skip('not here', allow_module_level=True)\n\n\ndef test_a():\n    assert 0\n");
    let report = world.json(&["--gate", "test"], 0);
    assert_eq!(findings(&report), Vec::<String>::new(), "{report}");
}

#[test]
fn what_nobody_judges_any_more_is_noted() {
    let world = World::new();
    world.write("sum.bench.js", "bench(\"sums\", () => 1 + 1);\n");
    world.write("a.py", "x = 1\n");
    world.write("sandhog.toml", "[[gate]]\ngate = \"perf-javascript\"\n[[gate]]\ngate = \"lint-python\"\nfiles = [\"scr/**\"]\n");
    world.run(&["trust"], 0);
    world.run(&["baseline", "update"], 0);
    let notes = |report: Value| report["notes"].to_string();
    let first = notes(world.json(&[], 0));
    assert!(first.contains("sandhog.toml:3: lint-python judged nothing: no file fits scr/**") && !first.contains("any more"), "{first}");
    std::fs::remove_file(world.path().join("sum.bench.js")).expect("removes");
    world.write("other.bench.js", "bench(\"other\", () => 1 + 1);\n");
    let second = notes(world.json(&[], 0));
    assert!(second.contains("not measured any more: perf-javascript sum.bench.js > sums fuel;"), "{second}");
}

#[test]
fn a_baseline_that_is_named_counts_and_is_not_judged() {
    let world = World::new();
    world.write("a.md", "# A\n\nWe reed it.\n");
    let told = world.run(&["baseline", "update"], 0);
    assert!(told.err.contains("it counts with --new-only --baseline"), "{}", told.err);
    world.json(&["--new-only", "--baseline", "sandhog-baseline.json"], 0);
    world.run(&["check", "--output", "a.json"], 2);
    assert!(World::new().run(&["check"], 4).out.contains("there is no file to judge"));
}

#[test]
fn params_that_a_gate_refuses_are_no_finding_of_a_file() {
    let world = World::new();
    world.write("a.py", "x = 1\n");
    world.write("sandhog.toml", "[[gate]]\ngate = \"lint-python\"\nparams = { select = [\"NOPE9\"] }\n");
    world.run(&["trust"], 0);
    let told = world.run(&["check"], 2).out;
    assert!(told.contains("sandhog.toml:1: ") && told.contains("NOPE9") && !told.contains("a.py:"), "{told}");
}

#[test]
fn a_script_without_an_ending_is_known_by_its_first_line() {
    let world = World::new();
    world.write("bin/run", "#!/usr/bin/env -S bash -e\nfi\n");
    world.write("bin/other", "#!/usr/bin/env python3\nfi\n");
    world.write("bin/none", "fi\n");
    world.write("LICENSE", "You may.\n");
    assert_eq!(findings(&world.json(&["--gate", "lint-shell"], 1)), ["bin/run:2:1 syntax"]);
}

/// `review` asks for the network: that is told to who wants it, and is no fault of who has just installed sandhog.
#[test]
fn the_gates_that_come_along_are_good_before_anybody_granted_anything() {
    let world = World::new();
    let checked = world.run(&["plugins", "check"], 0).out;
    assert!(checked.contains("good: review\n") && checked.contains("good: lint-python\n"), "{checked}");
    assert!(world.run(&["plugins", "check", "review"], 2).out.contains("bad: review: `review` needs what it is not granted"));
    assert!(world.run(&["plugins", "diff", "review"], 1).out.contains("held:"));
}

#[test]
fn the_commands_of_the_guide_to_check_run() {
    let world = World::new();
    world.write("src/x.py", "print(1)\n");
    world.write("tests/data.json", "{}\n");
    world.write("stranger/README.md", "# Title\n");
    assert_eq!(common::run_page(&world, "check.md"), 3);
}

#[test]
fn the_commands_of_the_guide_to_gates_run() {
    let world = World::new();
    let plugins = common::root().join("dist/plugins");
    assert!(plugins.join("coder.wasm").is_file(), "run scripts/plugins first");
    world.write("sandhog.toml", format!("plugins = [{:?}]\n", plugins.to_str().expect("UTF-8")));
    for name in ["workflow.toml", "primes.md"] {
        let text = std::fs::read(common::root().join("examples/coder").join(name)).expect("reads");
        world.write(&format!("examples/coder/{name}"), text);
    }
    world.write("Cargo.toml", "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    world.write("src/lib.rs", "#[test]\nfn adds() {\n    assert_eq!(1 + 1, 2);\n}\n");
    world.write("advisories.jsonl", GATE_DATA);
    let packed = world.command("sh", &["-c", "gzip --stdout advisories.jsonl >rustsec-osv.jsonl.gz && rm advisories.jsonl"]).status();
    assert!(packed.expect("runs").success());
    assert_eq!(common::run_page(&world, "gates.md"), 5);
    assert!(world.path().join("out/write/0/primes.py").is_file(), "the workflow made what it is for");
}
