//! The journal on disk, through the real binary: kills at any moment and at every sync, disks that fail, damaged files, and
//! commands from beside. The oracle is what the client was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

#[path = "common/preload.rs"]
mod preload;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// A folder with a journal of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let plugins = root().join("dist/plugins");
        std::fs::write(folder.path().join("sandhog.toml"), format!("plugins = [{:?}]\n", plugins.display().to_string())).expect("written");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    /// A workflow of so many tasks of the worker `echo`, one for each input.
    fn wide(&self, tasks: usize) {
        self.write("w.toml", "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\nforeach = true\n");
        for n in 0..tasks {
            self.write(&format!("in/{n:04}"), &n.to_string());
        }
    }

    /// What that step makes is judged: by a gate that has something to say of it, and lets it pass.
    fn judged(&self) {
        std::fs::create_dir(self.path().join("own")).expect("made");
        let gate = root().join("dist/guests/judges_files.wasm");
        std::fs::copy(gate, self.path().join("own/judge.wasm")).expect("run scripts/guests first");
        self.write("own/judge.toml", "name = \"judge\"\n");
        let plugins = root().join("dist/plugins");
        self.write("sandhog.toml", &format!("plugins = [{:?}, \"own\"]\n", plugins.display().to_string()));
        let workflow = std::fs::read_to_string(self.path().join("w.toml")).expect("a workflow");
        self.write("w.toml", &(workflow + "gates = [{ gate = \"judge\" }]\n"));
    }

    /// And behind that a step whose plan has two steps, and one that needs all of the plan.
    fn planned(&self) {
        let steps = "[[step]]\nid = \"p\"\nworker = \"echo\"\ninputs = [\"plan.toml\", \"in/*\"]\nexpand = true\n\
                     [[step]]\nid = \"last\"\nworker = \"echo\"\nneeds = [\"p\"]\n";
        let workflow = std::fs::read_to_string(self.path().join("w.toml")).expect("a workflow");
        self.write("w.toml", &(workflow + steps));
        self.write(
            "plan.toml",
            "[[step]]\nid = \"a\"\nworker = \"echo\"\ninputs = [\"in/*\"]\nforeach = true\n\
             [[step]]\nid = \"b\"\nworker = \"echo\"\nneeds = [\"a\"]\n",
        );
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandhog"));
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        command.current_dir(self.path()).env_clear().env("HOME", self.path()).env("SANDHOG_CACHE_DIR", cache).env("SANDHOG_GATES", "");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> String {
        let output = self.command(arguments).output().expect("runs");
        told(&output, code)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(arguments, 0);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn spawn(&self, arguments: &[&str]) -> Started {
        Started::of(&mut self.command(arguments))
    }

    fn database(&self) -> Connection {
        Connection::open(self.path().join(".sandhog/journal.sqlite")).expect("opens")
    }

    /// The journal is whole, and what is shown is what its records make.
    #[track_caller]
    fn is_intact(&self) {
        assert!(self.run(&["journal", "verify"], 0).starts_with("intact"));
        assert_eq!(self.run(&["journal", "replay"], 0), "identical\n");
        let mut answered: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for line in self.run(&["journal", "export"], 0).lines() {
            let record: Value = serde_json::from_str(line).expect("JSON");
            let of = (record["run"].to_string(), record["task"].to_string());
            let gate = record["gate"].to_string();
            match record["event"].as_str().expect("a name") {
                "attempt_completed" => drop(answered.remove(&of)),
                "gate_answered" => assert!(answered.entry(of).or_default().insert(gate), "a second verdict: {line}"),
                "gate_started" => {
                    let has_answered = answered.get(&of).is_some_and(|gates| gates.contains(&gate));
                    assert!(!has_answered, "asked again, and there was a verdict: {line}");
                }
                _ => {}
            }
        }
    }

    /// How often each task completed, by run.
    fn completions(&self) -> BTreeMap<(String, u64, u64), usize> {
        let mut completions = BTreeMap::new();
        for line in self.run(&["journal", "export"], 0).lines() {
            let record: Value = serde_json::from_str(line).expect("JSON");
            if record["event"] == "task_completed" {
                let number = |name: &str| record["task"][name].as_u64().expect("a number");
                let key = (record["run"].as_str().expect("a run").to_owned(), number("step"), number("index"));
                *completions.entry(key).or_default() += 1;
            }
        }
        completions
    }
}

#[track_caller]
fn told(output: &Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
    assert!(!err.contains("panicked"), "{err}");
    out.into_owned()
}

/// A process whose complaints are read as they come.
struct Started {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

/// A test that fails leaves nothing running.
impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Started {
    fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("runs");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    /// Reads on to a line with a text; `None` when there is none.
    fn until(&mut self, text: &str) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find(|line| line.contains(text))
    }

    /// The run that it says it has accepted.
    fn accepted(&mut self) -> Option<String> {
        self.until("run ").map(|line| line.split(' ').nth(1).expect("a name").to_owned())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("runs");
        assert!(sent.success());
    }

    /// Ends it without a word, as leaving its scope does.
    fn kill(self) {}

    fn ends(mut self) -> Output {
        let rest: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        let mut stdout = Vec::new();
        self.child.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("read");
        let status = self.child.wait().expect("ends");
        Output { status, stdout, stderr: rest.join("\n").into_bytes() }
    }
}

/// Numbers that look random, the same in each run of the test.
fn numbers() -> impl FnMut(u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

/// How often the host is killed at random. More with SANDHOG_TEST_KILLS.
const KILLS: usize = 200;

#[test]
fn two_hundred_kills_lose_nothing_repeat_nothing_and_blame_nobody() {
    let kill_count = std::env::var("SANDHOG_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    const TASKS: usize = 1000;
    let place = Place::new();
    place.wide(TASKS);
    place.judged();
    let mut random = numbers();
    let mut accepted: Vec<String> = Vec::new();
    // Of each run, what was shown as completed: never the same again.
    let mut shown = BTreeSet::new();
    let mut kills = 0;
    while kills < kill_count {
        // Few at once, so that a run lasts for several kills.
        let mut started = place.spawn(&["run", "w.toml", "--concurrency", "4"]);
        accepted.extend(started.accepted());
        loop {
            let wanted = 50 + random(150);
            let mut finished = 0;
            while finished < wanted
                && let Some(line) = started.until(": completed")
            {
                finished += 1;
                assert!(shown.insert((accepted.len(), line.clone())), "{line} for the second time");
            }
            if finished < wanted {
                let _ = started.ends();
                break; // it has ended before
            }
            started.kill();
            kills += 1;
            started = place.spawn(&["runs", "resume", "--open", "--concurrency", "4"]);
        }
    }
    place.run(&["runs", "resume", "--open"], 0);
    let listed = place.json(&["runs", "list", "--json", "--limit", "10000"]);
    let status: BTreeMap<&str, &Value> =
        listed["runs"].as_array().expect("runs").iter().map(|row| (row["run"].as_str().expect("a name"), row)).collect();
    assert!(!accepted.is_empty());
    for run in &accepted {
        let row = status.get(run.as_str()).unwrap_or_else(|| panic!("{run} was accepted, and is not there"));
        if row["status"] != "completed" {
            panic!("{run}: {row}\n{}", place.run(&["runs", "show", run], 0));
        }
        assert_eq!((&row["completed"], &row["failed"]), (&TASKS.into(), &0.into()), "{run}");
    }
    let completions = place.completions();
    assert_eq!(completions.len(), status.len() * TASKS);
    assert!(completions.values().all(|count| *count == 1), "a task completed twice");
    println!("\n{kills} kills of {} runs", accepted.len());
    assert_eq!(place.run(&["dead-letters", "list"], 0), "no dead letters\n");
    place.is_intact();
}

fn with_fault(place: &Place, shim: &Path, fault: &str, arguments: &[&str]) -> Started {
    Started::of(place.command(arguments).env("LD_PRELOAD", shim).env("FAULT", fault))
}

#[test]
fn a_kill_at_any_sync_and_again_while_recovering_loses_nothing() {
    let tools = tempfile::tempdir().expect("a folder");
    let shim = preload::built("durable/shim.c", tools.path());
    let mut survived = false;
    let (mut points, mut recoveries) = (0, 0);
    while !survived {
        points += 1;
        let place = Place::new();
        place.wide(2);
        place.judged();
        place.planned();
        let mut started = with_fault(&place, &shim, &format!("kill:{points}"), &["run", "w.toml", "--concurrency", "2"]);
        let accepted = started.accepted();
        let output = started.ends();
        survived = output.status.code() == Some(0);
        let Some(run) = accepted else {
            // Nobody was told of a run: there may be one, or no journal. What is there is gone on with, and takes the next one.
            for again in 1..=2 {
                let _ = with_fault(&place, &shim, &format!("kill:{again}"), &["runs", "resume", "--open"]).ends();
            }
            place.run(&["run", "w.toml"], 0);
            place.run(&["runs", "resume", "--open"], 0);
            assert!(place.completions().values().all(|count| *count == 1), "killed at sync {points}");
            place.is_intact();
            continue;
        };
        let shown = completions_shown(&output);
        // Recovered from what is there now, again and again: killed at the first sync of that, at the second, and so on.
        let (state, kept) = (place.path().join(".sandhog"), place.path().join("kept"));
        copy(&state, &kept);
        for again in 1.. {
            let how = format!("killed at sync {points}, and at sync {again} of recovering");
            std::fs::remove_dir_all(&state).expect("removed");
            copy(&kept, &state);
            assert!(place.completions().len() >= shown, "{how}: less is on record than was shown");
            let output = with_fault(&place, &shim, &format!("kill:{again}"), &["runs", "resume", "--open"]).ends();
            let recovered = output.status.code() == Some(0);
            assert!(place.completions().len() >= shown + completions_shown(&output), "{how}: less is on record than was shown");
            recoveries += 1;
            place.run(&["runs", "resume", "--open"], 0);
            let told = place.json(&["runs", "result", &run, "--json"]);
            let steps = told["steps"].as_array().expect("steps").iter();
            let steps: Vec<_> = steps.map(|step| (step["id"].as_str().expect("an id"), step["completed"].as_u64())).collect();
            let expected = [("s", Some(2)), ("p", Some(1)), ("last", Some(1)), ("p/a", Some(2)), ("p/b", Some(1))];
            assert_eq!((&told["status"], &steps[..]), (&"completed".into(), &expected[..]), "{how}");
            assert!(place.completions().values().all(|count| *count == 1), "{how}");
            place.is_intact();
            if recovered {
                break;
            }
        }
    }
    println!("\n{points} points, and {recoveries} while recovering");
    assert!(points > 5 && recoveries > 5 * points, "there were only {points} points to be killed at, and {recoveries} while recovering");
}

/// How many tasks a process said that it had completed.
fn completions_shown(output: &Output) -> usize {
    String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.ends_with(": completed")).count()
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(to, mode).expect("set");
    for entry in std::fs::read_dir(from).expect("a folder").flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn a_disk_that_fails_or_is_full_is_told_and_loses_nothing() {
    let tools = tempfile::tempdir().expect("a folder");
    let shim = preload::built("durable/shim.c", tools.path());
    let mut told = 0;
    for (fault, complaint) in [("sync", "disk I/O error"), ("full", "make room on the disk of the state directory")] {
        for point in [3, 6, 8] {
            let place = Place::new();
            place.wide(5);
            let mut started = with_fault(&place, &shim, &format!("{fault}:{point}"), &["run", "w.toml", "--concurrency", "1"]);
            let first: Vec<String> = started.lines.by_ref().map_while(Result::ok).collect();
            let output = started.ends();
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 3)), "{fault}:{point}: {code:?} {first:?}");
            if code == Some(3) {
                assert!(first.iter().any(|line| line.contains(complaint)), "{fault}:{point}: {first:?}");
                told += 1;
            }
            let accepted = first.iter().find(|line| line.starts_with("run ")).map(|line| line.split(' ').nth(1).expect("a name"));
            let Some(run) = accepted else { continue };
            let finished = first.iter().filter(|line| line.ends_with("]: completed")).count();
            let before = place.json(&["runs", "show", run, "--json"]);
            assert!(before["steps"][0]["completed"].as_u64().expect("a number") >= finished as u64, "what was shown is on the disk");
            place.run(&["runs", "resume", "--open"], 0);
            assert_eq!(place.json(&["runs", "result", run, "--json"])["status"], "completed", "{fault}:{point}");
            assert!(place.completions().values().all(|count| *count == 1));
            place.is_intact();
        }
    }
    assert!(told >= 4, "of six faults, {told} were met");
}

#[test]
fn verify_finds_any_changed_missing_or_swapped_record_and_names_it() {
    let place = Place::new();
    place.wide(3);
    place.run(&["run", "w.toml"], 0);
    place.is_intact();
    let file = place.path().join(".sandhog/journal.sqlite");
    place.database().execute_batch("PRAGMA wal_checkpoint(truncate)").expect("folded");
    let whole = std::fs::read(&file).expect("reads");
    let records: u64 = place.database().query_row("SELECT count(*) FROM records", [], |row| row.get(0)).expect("reads");
    assert!(records > 10);
    let is_found = |sql: &str, named: &str| {
        let changed = place.database().execute_batch(sql);
        changed.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let told = place.run(&["journal", "verify"], 1);
        assert!(told.contains(named), "{sql}: {named} is missing in {told}");
        let _ = std::fs::remove_file(file.with_extension("sqlite-wal"));
        let _ = std::fs::remove_file(file.with_extension("sqlite-shm"));
        std::fs::write(&file, &whole).expect("restored");
    };
    for seq in 1..=records {
        let named = format!("seq {seq}:");
        // Any byte of the event, drawn by place: a JSON text that parses all the same is found too.
        let at = 2 + seq * 7 % 40;
        is_found(&format!("UPDATE records SET event = substr(event, 1, {at}) || '~' || substr(event, {at} + 2) WHERE seq = {seq}"), &named);
        is_found(&format!("UPDATE records SET at = at + 1 WHERE seq = {seq}"), &named);
        is_found(&format!("UPDATE records SET hash = zeroblob(32) WHERE seq = {seq}"), &named);
        is_found(&format!("UPDATE records SET version = version + 100 WHERE seq = {seq}"), "are missing");
        let missing = if seq == records { "at the end are missing".to_owned() } else { format!("from version {seq} to {seq} are missing") };
        is_found(&format!("DELETE FROM records WHERE seq = {seq}"), &missing);
    }
    let swap = "UPDATE records SET event = (SELECT event FROM records WHERE seq = 9 - r.seq) FROM (SELECT seq FROM records) r WHERE \
                records.seq = r.seq AND records.seq IN (4, 5)";
    is_found(swap, "seq 4:");
    is_found("UPDATE records SET seq = seq + 100 WHERE seq = 3", "seq 103:");
    is_found("UPDATE streams SET hash = zeroblob(32)", "last hash");
    is_found("UPDATE blobs SET content = x'00' WHERE rowid = 1", "the content of the blob");
    is_found("DELETE FROM streams", "belongs to no run");

    // What is shown is another than the records make it: found, and made anew.
    place.database().execute_batch("UPDATE view_runs SET row = replace(row, '\"completed\":3', '\"completed\":2')").expect("changed");
    assert!(place.run(&["journal", "replay"], 1).contains("what is shown of it is not what its records make"));
    place.run(&["journal", "replay", "--rebuild"], 0);
    place.database().execute_batch("DELETE FROM view_runs").expect("deleted");
    assert_eq!(place.run(&["journal", "replay", "--rebuild"], 0), "identical\n");
    assert_eq!(place.json(&["runs", "list", "--json"])["runs"][0]["completed"], 3);
}

#[test]
fn a_damaged_cut_or_newer_file_is_a_clear_error() {
    let place = Place::new();
    place.wide(3);
    place.run(&["run", "w.toml"], 0);
    place.database().execute_batch("PRAGMA wal_checkpoint(truncate)").expect("folded");
    let file = place.path().join(".sandhog/journal.sqlite");
    let whole = std::fs::read(&file).expect("reads");
    let intact = place.run(&["journal", "verify"], 0);
    for length in [0, 10, 100, 4096, 5000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).expect("cut");
        for arguments in [&["journal", "verify"][..], &["runs", "list"], &["runs", "show", "latest"], &["run", "w.toml"]] {
            let output = place.command(arguments).output().expect("runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert!(!said.contains("panicked"), "{length} {arguments:?}: {said}");
            assert!(matches!(output.status.code(), Some(0..=3)), "{length} {arguments:?}: {said}");
            // What is cut off may be room that holds nothing; then everything is there.
            if length > 0 && arguments == ["journal", "verify"] && !said.starts_with(&intact) {
                assert_ne!(output.status.code(), Some(0), "{length}: {said}");
            }
        }
        for beside in ["sqlite-wal", "sqlite-shm"] {
            let _ = std::fs::remove_file(file.with_extension(beside));
        }
    }
    std::fs::write(&file, &whole).expect("restored");
    place.is_intact();
    place.database().execute_batch("PRAGMA user_version = 99").expect("set");
    let output = place.command(&["run", "w.toml"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("format 99"), "{output:?}");
}

#[test]
fn journals_of_old_formats_replay() {
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("tests/journals")).expect("reads") {
        let old = entry.expect("an entry").path();
        let place = Place::new();
        let folder = place.path().join(".sandhog");
        std::fs::create_dir(&folder).expect("made");
        std::fs::copy(&old, folder.join("journal.sqlite")).expect("copied");
        place.is_intact();
        found += 1;
    }
    assert!(found > 0);
}

const FOREVER: &str = "name = \"forever\"\n[[step]]\nid = \"s\"\nworker = \"spin\"\nlimits = { fuel = \"1000T\", timeout = \"10m\" }\n";

#[test]
fn other_terminals_list_follow_pause_and_cancel_beside_the_holder() {
    let place = Place::new();
    place.write("w.toml", FOREVER);
    let mut holder = place.spawn(&["run", "w.toml"]);
    let run = holder.accepted().expect("accepted");
    assert!(holder.until("s: 1 task").is_some());
    let listed = place.json(&["runs", "list", "--open", "--json"]);
    assert_eq!(listed["runs"][0]["run"], run.as_str());
    let forged = "why\n::error::forged\u{1b}[31m";
    place.run(&["runs", "pause", &run, "--reason", forged], 0);
    assert_eq!(place.json(&["runs", "list", "--json"])["runs"][0]["status"], "paused");
    let shown = place.run(&["runs", "show", &run], 0);
    assert!(shown.contains("  | ::error::forged") && !shown.contains('\u{1b}'), "{shown:?}");
    assert!(!shown.lines().any(|line| line.trim_start().starts_with("::")), "{shown}");
    place.run(&["runs", "pause", &run], 2);
    let mut resumed = place.spawn(&["runs", "resume", &run]);
    assert!(resumed.until("resumed").is_some());
    assert_eq!(place.json(&["runs", "list", "--json"])["runs"][0]["status"], "running");
    place.run(&["runs", "cancel", &run], 0);
    told(&resumed.ends(), 1);
    told(&holder.ends(), 1);
    place.run(&["runs", "cancel", &run], 2);
    place.is_intact();
}

#[test]
fn a_holder_is_asked_to_cancel_and_to_run_more() {
    let place = Place::new();
    place.write("forever.toml", FOREVER);
    place.wide(3);
    let mut holder = place.spawn(&["run", "forever.toml"]);
    let run = holder.accepted().expect("accepted");
    assert!(holder.until("s: 1 task").is_some());
    // Another run goes to the holder, and is watched from here.
    let result = place.json(&["run", "w.toml", "--json"]);
    assert_eq!((&result["status"], &result["steps"][0]["completed"]), (&"completed".into(), &3.into()));
    let follower = place.command(&["runs", "events", &run, "--follow", "--json"]).spawn().expect("runs");
    // A run that had ended is opened again: the holder goes on with it.
    place.write("f.toml", "name = \"f\"\n[[step]]\nid = \"s\"\nworker = \"spin\"\nlimits = { fuel = \"1M\" }\n");
    place.run(&["run", "f.toml"], 1);
    place.run(&["runs", "retry", "latest"], 0);
    let row = || place.json(&["runs", "list", "--json"])["runs"][0].clone();
    assert!((0..1000).any(|_| row()["status"] == "failed" && row()["attempts"] == 2), "{}", row());
    let story = place.command(&["runs", "events", "latest", "--follow", "--json"]).output().expect("runs");
    let ends = told_lines(&story).iter().filter(|record| record["event"] == "run_failed").count();
    assert_eq!(ends, 2, "its first end is not the last");
    place.run(&["runs", "cancel", &run, "--reason", "enough"], 0);
    let followed = follower.wait_with_output().expect("ends");
    let followed = told_lines(&followed);
    assert_eq!(followed.last().map(|record| record["event"].clone()), Some("run_cancelled".into()));
    let versions: Vec<u64> = followed.iter().map(|record| record["version"].as_u64().expect("a number")).collect();
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "nothing skipped, nothing doubled");
    told(&holder.ends(), 1);
    place.is_intact();
}

#[test]
fn who_follows_a_run_that_the_next_holder_does_not_run_is_told() {
    let place = Place::new();
    place.write("forever.toml", FOREVER);
    let mut holder = place.spawn(&["run", "forever.toml"]);
    assert!(holder.until("s: 1 task").is_some());
    let mut beside = place.spawn(&["run", "forever.toml"]);
    let run = beside.accepted().expect("accepted");
    assert!(beside.until("s: 1 task").is_some());
    holder.kill();
    let mut next = place.spawn(&["run", "forever.toml"]);
    assert!(next.until("s: 1 task").is_some());
    let ended = beside.ends();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains(&format!("gone on with by: sandhog runs resume {run}")), "{ended:?}");
    next.kill();
}

fn told_lines(output: &Output) -> Vec<Value> {
    let text = told(output, 0);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_task_that_the_host_does_not_survive_is_set_aside_and_can_be_requeued() {
    let place = Place::new();
    place.write("w.toml", FOREVER);
    let mut started = place.spawn(&["run", "w.toml"]);
    let run = started.accepted().expect("accepted");
    for lost in 1..=3 {
        // The call is executing once the scoreboard says so: a run that spins for ever is followed by that file.
        let board = place.path().join(".sandhog/scoreboard");
        while std::fs::read(&board).is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
            std::thread::yield_now();
        }
        started.kill();
        started = place.spawn(&["runs", "resume", "--open"]);
        assert!(started.until(if lost < 3 { "was lost" } else { "set aside" }).is_some(), "loss {lost}");
    }
    told(&started.ends(), 1);
    let letters = place.json(&["dead-letters", "list", "--json"]);
    let letter = letters["dead_letters"][0]["letter"].as_str().expect("a name").to_owned();
    assert_eq!(letter, format!("{run}/s/0"));
    assert!(place.run(&["dead-letters", "show", &letter], 0).contains("the host ended 3 times"));
    place.run(&["dead-letters", "requeue", &letter], 0);
    assert_eq!(place.run(&["dead-letters", "list"], 0), "no dead letters\n");
    assert_eq!(place.json(&["runs", "list", "--json"])["runs"][0]["status"], "running");
    place.run(&["runs", "cancel", &run], 0);
    assert_eq!(place.json(&["runs", "list", "--json"])["runs"][0]["status"], "cancelled");
    place.is_intact();
}

#[test]
fn sigterm_lets_what_executes_end_and_leaves_the_rest_to_be_resumed() {
    let place = Place::new();
    place.wide(1000);
    let mut started = place.spawn(&["run", "w.toml", "--concurrency", "2"]);
    let run = started.accepted().expect("accepted");
    assert!(started.until(": completed").is_some());
    started.signal("-TERM");
    told(&started.ends(), 0);
    assert!(!place.path().join(".sandhog/socket").exists(), "nothing is left behind");
    place.run(&["runs", "resume", "--open"], 0);
    let told = place.json(&["runs", "result", &run, "--json"]);
    assert_eq!((&told["status"], &told["steps"][0]["completed"]), (&"completed".into(), &1000.into()));
    let lost: u64 = told["tasks"].as_array().expect("tasks").iter().map(|task| task["lost"].as_u64().expect("a number")).sum();
    assert_eq!(lost, 0, "a stop in good order loses nothing");
    place.is_intact();
}

/// What ended in the time that it was given to end has ended, and is not said to be left.
#[test]
fn sigterm_tells_what_came_of_the_run_meanwhile() {
    let place = Place::new();
    place.write("w.toml", "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"spin\"\nlimits = { fuel = \"1000T\", timeout = \"2s\" }\nretry = { maximum_attempts = 1 }\n");
    let mut started = place.spawn(&["run", "w.toml"]);
    assert!(started.until("s: 1 task").is_some());
    // Told before its only task has begun, the run would be left with it.
    while !place.run(&["runs", "events", "latest", "--json"], 0).contains("attempt_started") {}
    started.signal("-TERM");
    let output = started.ends();
    let said = told(&output, 1);
    assert!(said.contains("w failed in") && !String::from_utf8_lossy(&output.stderr).contains("what is left"), "{output:?}");
    place.is_intact();
}

/// A process that has nothing more to do goes on for those who follow a run that waits for a person.
#[test]
fn who_follows_a_run_that_waits_for_a_person_is_not_left() {
    let place = Place::new();
    place.write("w.toml", "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\n");
    place.write("a.toml", "name = \"a\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\napproval = true\n");
    place.write("forever.toml", FOREVER);
    let mut holder = place.spawn(&["run", "forever.toml"]);
    let run = holder.accepted().expect("accepted");
    let mut follower = place.spawn(&["run", "a.toml"]);
    let waits = follower.accepted().expect("accepted");
    assert!(follower.until("waits for approval").is_some());
    place.run(&["runs", "cancel", &run], 0);
    assert!(holder.until("another command waits here for a run").is_some());
    place.run(&["runs", "approve", &waits], 0);
    told(&follower.ends(), 0);
    told(&holder.ends(), 1);
    place.is_intact();
}

#[test]
fn a_detached_run_goes_on_by_itself_and_a_key_is_one_run() {
    let place = Place::new();
    place.wide(20);
    for key in ["nightly ", "n\u{e4}chtlich", ""] {
        place.run(&["run", "w.toml", "--detach", "--idempotency-key", key], 2);
    }
    let arguments = ["run", "w.toml", "--detach", "--idempotency-key", "nightly"];
    let run = place.run(&arguments, 0).trim().to_owned();
    assert_eq!(place.run(&arguments, 0).trim(), run);
    place.run(&["runs", "events", &run, "--follow"], 0);
    let result = place.json(&["runs", "result", &run[..13], "--json", "--out", "out"]);
    assert_eq!((&result["status"], &result["steps"][0]["completed"]), (&"completed".into(), &20.into()));
    assert_eq!(std::fs::read_to_string(place.path().join("out/s/7/in/0007")).expect("reads"), "7");
    let again = place.json(&["run", "w.toml", "--json", "--idempotency-key", "nightly"]);
    assert_eq!(again["run"], run.as_str());
    assert_eq!(place.json(&["runs", "list", "--json"])["runs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn people_approve_refuse_pause_retry_and_prune() {
    let place = Place::new();
    place.write("in/a", "a");
    let step = "[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\napproval = true\nmaximum_revisions = 1\n";
    place.write("w.toml", &format!("name = \"w\"\n{step}"));
    let mut started = place.spawn(&["run", "w.toml"]);
    let run = started.accepted().expect("accepted");
    assert!(started.until("waits for approval").is_some());
    assert!(place.run(&["runs", "show", &run], 0).contains("sandhog runs approve"));
    place.run(&["runs", "result", &run, "--approving", "--out", "look"], 0);
    assert_eq!(std::fs::read_to_string(place.path().join("look/s/0/in/a")).expect("what is to be approved"), "a");
    place.run(&["runs", "reject", &run, "--comment", "shorter"], 0);
    assert!(started.until("refused: shorter").is_some());
    assert!(started.until("waits for approval").is_some());
    place.run(&["runs", "pause", &run], 0);
    let mut beside = place.spawn(&["runs", "resume", &run]);
    assert!(beside.until("waits for approval").is_some(), "who comes later is told so, too");
    place.run(&["runs", "approve", &run, "--step", "none"], 2);
    place.run(&["runs", "approve", &run], 0);
    told(&started.ends(), 0);
    told(&beside.ends(), 0);
    place.run(&["runs", "approve", &run], 2);

    // What was given up is run again, when somebody says so, and only that.
    place.write(
        "f.toml",
        "name = \"f\"\n[[step]]\nid = \"s\"\nworker = \"spin\"\non_exhausted = \"dead_letter\"\nlimits = { fuel = \"1M\" }\n",
    );
    place.run(&["run", "f.toml"], 1);
    place.run(&["runs", "retry", "latest"], 0);
    assert_eq!(place.run(&["dead-letters", "list"], 0), "no dead letters\n");
    place.run(&["runs", "resume", "--open"], 1);
    place.run(&["dead-letters", "discard", "--workflow", "f"], 0);
    assert_eq!(place.run(&["dead-letters", "list"], 0), "no dead letters\n");
    place.run(&["dead-letters", "requeue", "nothing"], 2);
    place.run(&["dead-letters", "requeue", "--all", "--step", "s"], 2);
    place.run(&["dead-letters", "requeue"], 2);
    assert!(place.run(&["runs", "logs", "latest"], 0).is_empty());

    place.run(&["journal", "prune", "--keep", "1"], 0);
    assert_eq!(place.json(&["runs", "list", "--json"])["runs"].as_array().map(Vec::len), Some(1));
    place.run(&["runs", "show", &run], 2);
    place.run(&["journal", "prune"], 2);
    place.is_intact();

    // The file gives back the room, and no record has the number of one that is gone.
    let seqs = || -> Vec<u64> {
        let exported = place.run(&["journal", "export"], 0);
        exported.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_u64().expect("a number")).collect()
    };
    let size = || std::fs::metadata(place.path().join(".sandhog/journal.sqlite")).expect("a file").len();
    place.wide(500);
    place.run(&["run", "w.toml"], 0);
    let (last, large) = (seqs().last().copied().expect("a record"), size());
    place.run(&["journal", "prune", "--keep", "0"], 0);
    assert!(seqs().is_empty() && size() < large / 2, "{} of {large} bytes are left", size());
    place.run(&["run", "w.toml"], 0);
    assert_eq!(seqs().first(), Some(&(last + 1)));
    place.is_intact();
}

/// A step of a plan is one like any other: its logs, its dead letters, and their names.
#[test]
fn planned_steps_have_logs_and_dead_letters() {
    let place = Place::new();
    place.write("plan.toml", "[[step]]\nid = \"two\"\nworker = \"shout\"\ninputs = [\"a.txt\"]\n");
    place.write("a.txt", "a");
    let step = "[[step]]\nid = \"p\"\nworker = \"echo\"\ninputs = [\"plan.toml\", \"a.txt\"]\nexpand = { workers = [\"shout\"] }\n";
    place.write("w.toml", &format!("name = \"w\"\n{step}on_exhausted = \"dead_letter\"\n"));
    place.run(&["run", "w.toml"], 1);
    place.run(&["runs", "logs", "latest"], 0);
    place.run(&["runs", "logs", "latest", "--step", "p/two"], 0);
    place.run(&["runs", "logs", "latest", "--step", "two"], 2);
    let letter = place.json(&["dead-letters", "list", "--json"])["dead_letters"][0]["letter"].as_str().expect("a name").to_owned();
    assert!(letter.ends_with("/p/two/0"), "{letter}");
    // One that says that it is another's is found, and read neither once nor for ever.
    place.database().execute_batch("UPDATE view_dead_letters SET row = json_set(row, '$.task.index', 7)").expect("damaged");
    assert!(place.run(&["journal", "replay"], 1).contains("its dead letters are not what its records make"));
    let output = place.command(&["dead-letters", "list"]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("stands in the place of another") && said.contains("journal replay --rebuild"), "{said}");
    place.run(&["journal", "replay", "--rebuild"], 0);
    assert!(place.run(&["dead-letters", "show", &letter], 0).contains("input a.txt"));
    place.run(&["dead-letters", "requeue", &letter], 0);
    place.run(&["runs", "resume", "latest"], 1);
    place.run(&["dead-letters", "discard", &letter], 0);
    place.is_intact();
}

/// A run that was cancelled keeps its dead letters, and holds up nobody else's.
#[test]
fn letters_of_a_run_that_is_over_do_not_keep_others_from_being_requeued() {
    let place = Place::new();
    let dead = "[[step]]\nid = \"dead\"\nworker = \"spin\"\non_exhausted = \"dead_letter\"\nlimits = { fuel = \"1M\" }\n";
    let waits = "[[step]]\nid = \"waits\"\nworker = \"echo\"\napproval = true\n";
    place.write("w.toml", &format!("name = \"w\"\n{dead}"));
    place.write("waits.toml", &format!("name = \"waits\"\n{dead}{waits}"));
    place.run(&["run", "w.toml"], 1);
    place.run(&["run", "waits.toml", "--detach"], 0);
    while place.json(&["runs", "list", "--json"])["runs"][0]["approving"] != 1 {}
    place.run(&["runs", "cancel", "latest"], 0);
    while place.json(&["runs", "list", "--json"])["runs"][0]["status"] != "cancelled" {}
    let letters = place.json(&["dead-letters", "list", "--json"])["dead_letters"].as_array().expect("a list").clone();
    let [other, cancelled] = [0, 1].map(|at| letters[at]["letter"].as_str().expect("a name").to_owned());
    let output = place.command(&["dead-letters", "requeue", "--all"]).output().expect("runs");
    let (told, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && error.contains("cancelled"), "{output:?}");
    assert!(told.contains(&other) && !told.contains(&cancelled), "{output:?}");
}

/// Read models can be damaged, deleted and made anew; what records name and is gone is found.
#[test]
fn what_is_folded_from_the_records_is_compared_and_can_be_made_anew() {
    let place = Place::new();
    place.wide(1);
    place.write("in/large", &"x".repeat(100_000));
    place.run(&["run", "w.toml", "--idempotency-key", "k"], 0);
    for damage in [
        "UPDATE view_runs SET open = 1",
        "UPDATE view_runs SET idempotency_key = NULL",
        "UPDATE view_runs SET row = '{}'",
        "DELETE FROM view_runs",
        "DROP TABLE view_runs; DROP TABLE view_dead_letters",
    ] {
        place.database().execute_batch(damage).expect("damaged");
        let output = place.command(&["journal", "replay"]).output().expect("runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_ne!(output.status.code(), Some(0), "{damage}: {said}");
        assert!(said.contains("--rebuild") || said.contains("not what its records make"), "{damage}: {said}");
        assert!(place.run(&["journal", "verify"], 0).starts_with("intact: "), "the records are whole: {damage}");
        place.run(&["journal", "replay", "--rebuild"], 0);
        place.is_intact();
        assert_eq!(place.json(&["runs", "list", "--json"])["runs"][0]["idempotency_key"], "k");
    }
    place.database().execute_batch("DELETE FROM blobs WHERE length(content) = 100000").expect("damaged");
    assert!(place.run(&["journal", "verify"], 1).contains("which the record names, is missing"));
    place.database().execute_batch("DELETE FROM records; DELETE FROM streams").expect("damaged");
    assert!(place.run(&["journal", "verify"], 1).contains("all of its records are missing"));
}

#[test]
fn a_state_directory_that_is_not_ours_is_refused() {
    let place = Place::new();
    place.wide(1);
    let folder = place.path().join(".sandhog");
    std::fs::create_dir(&folder).expect("made");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&folder, open).expect("set");
    let refused = place.command(&["run", "w.toml"]).output().expect("runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("others may write"), "{refused:?}");
    std::fs::remove_dir(&folder).expect("removed");

    // A pipe in place of the file, which nobody writes into.
    std::fs::create_dir(&folder).expect("made");
    let pipe = folder.join("journal.sqlite");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("runs").success());
    for arguments in [&["run", "w.toml"][..], &["runs", "list"]] {
        let refused = place.command(arguments).output().expect("runs");
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("is no file"), "{refused:?}");
    }
    std::fs::remove_dir_all(&folder).expect("removed");

    // Links in it: what they lead to is as it was.
    std::fs::create_dir(&folder).expect("made");
    place.write("victim", "precious");
    for name in ["lock", "scoreboard", ".gitignore", "journal.sqlite-wal"] {
        std::os::unix::fs::symlink(place.path().join("victim"), folder.join(name)).expect("linked");
        let refused = place.command(&["run", "w.toml"]).output().expect("runs");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(&format!("{name} in it is no file")), "{refused:?}");
        std::fs::remove_file(folder.join(name)).expect("removed");
    }
    assert_eq!(std::fs::read_to_string(place.path().join("victim")).expect("there"), "precious");

    // What the file itself would have done when it is read or written.
    place.run(&["run", "w.toml"], 0);
    for (made, gone) in [
        ("CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records; END", "DROP TRIGGER t"),
        ("CREATE VIEW v AS SELECT 1", "DROP VIEW v"),
    ] {
        place.database().execute_batch(made).expect("made");
        for arguments in [&["run", "w.toml"][..], &["runs", "list"], &["journal", "verify"]] {
            let refused = place.command(arguments).output().expect("runs");
            assert!(String::from_utf8_lossy(&refused.stderr).contains("has views, triggers or virtual tables"), "{refused:?}");
        }
        place.database().execute_batch(gone).expect("gone");
    }

    // Names that lead out of where results are written, in a journal of somebody else's.
    place.database().execute_batch("UPDATE records SET event = replace(event, '\"in/0000\"', '\"../../escaped\"')").expect("edited");
    let refused = place.command(&["runs", "result", "latest", "--out", "out/below"]).output().expect("runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nor is anything else"), "{refused:?}");
    assert!(!place.path().join("out/escaped").exists() && !place.path().join("escaped").exists());
    std::fs::remove_dir_all(&folder).expect("removed");

    place.run(&["run", "w.toml"], 0);
    let git = |arguments: &[&str]| {
        let ran = Command::new("git").current_dir(place.path()).args(["-c", "user.name=n", "-c", "user.email=e"]).args(arguments).output();
        assert!(ran.expect("runs").status.success());
    };
    git(&["init", "--quiet"]);
    // Programs that the repository names are run by nobody who asks whether it tracks the directory.
    let was_run = place.path().join("was-run");
    git(&["config", "core.fsmonitor", &format!("touch {}; false", was_run.display())]);
    place.run(&["run", "w.toml"], 0);
    assert!(!was_run.exists());
    git(&["config", "--unset", "core.fsmonitor"]);
    git(&["add", "--force", ".sandhog/journal.sqlite"]);
    for arguments in [&["run", "w.toml"][..], &["runs", "list"], &["journal", "prune", "--keep", "0"], &["journal", "replay", "--rebuild"]]
    {
        let refused = place.command(arguments).output().expect("runs");
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("git tracks it"), "{arguments:?}: {refused:?}");
    }
}

#[test]
fn a_worker_that_keeps_failing_is_held_off_and_others_never_notice() {
    let place = Place::new();
    let mut settings = std::fs::read_to_string(place.path().join("sandhog.toml")).expect("reads");
    settings.push_str("concurrency = 1\n[breaker]\nconsecutive_failures = 2\ntimeout = \"300ms\"\n");
    place.write("sandhog.toml", &settings);
    for n in 0..4 {
        place.write(&format!("in/{n}"), "x");
    }
    let step = |id: &str, worker: &str, more: &str| {
        format!(
            "[[step]]\nid = \"{id}\"\nworker = \"{worker}\"\ninputs = [\"in/*\"]\nforeach = true\nretry = {{ maximum_attempts = 1 }}\n{more}"
        )
    };
    let limits = "limits = { fuel = \"1000T\", timeout = \"50ms\" }\n";
    place.write("w.toml", &format!("name = \"w\"\n{}{}", step("bad", "spin", limits), step("good", "echo", "")));
    let told = serde_json::from_str::<Value>(&place.run(&["run", "w.toml", "--json"], 1)).expect("JSON");
    assert_eq!((&told["steps"][0]["failed"], &told["steps"][1]["completed"]), (&4.into(), &4.into()));
    let exported = place.run(&["journal", "export"], 0);
    let records: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let states: Vec<&str> = records.iter().filter_map(|record| record["to"]["state"].as_str()).collect();
    assert_eq!(states[..3], ["open", "half_open", "open"], "opened by the second failure, probed once, and held off again");
    assert!(place.run(&["runs", "list"], 0).contains("the breaker of spin is"));
    place.is_intact();
}

#[test]
fn a_plugin_that_provides_another_s_work_gets_its_share() {
    let place = Place::new();
    place.wide(20);
    std::fs::copy(root().join("dist/plugins/echo.wasm"), place.path().join("second.wasm")).expect("copied");
    place.write("second.toml", "name = \"second\"\nprovides = \"echo\"\n");
    let settings = std::fs::read_to_string(place.path().join("sandhog.toml")).expect("reads");
    let settings = settings.replace("plugins = [", "balance = \"round_robin\"\nplugins = [\".\", ");
    place.write("sandhog.toml", &settings);
    place.run(&["run", "w.toml"], 0);
    let exported = place.run(&["journal", "export"], 0);
    let second = exported.lines().filter(|line| line.contains("\"provider\":\"second\"")).count();
    assert_eq!(second, 10, "each in turn");
    place.is_intact();
}

#[test]
fn mistakes_in_the_new_fields_are_told_with_what_to_do() {
    let place = Place::new();
    place.write(
        "w.toml",
        "name = \"w\"\npriority = 0\n[[step]]\nid = \"s\"\nworker = \"echo\"\nfallback = \"echo\"\non_exhausted = \"explode\"\n\
         optional = 1\nretry = { non_retryable = [\"trapped\", \"sometimes\"], maximum_lost = 0 }\n",
    );
    let output = place.command(&["plan", "w.toml"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in [
        "expected `priority` to be a whole number from 1 to 9",
        "the fallback is the worker itself",
        "one of fail, dead_letter, pause",
        "`trapped` is never tried again",
        "unknown kind of failure `sometimes`",
        "expected `maximum_lost` to be a whole number from 1 to 1000",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    place.write("sandhog.toml", "balance = \"fair\"\n[breaker]\nmax_requests = 0\ntimeout = \"soon\"\n[plugin.echo]\nconcurrency = 0\n");
    let output = place.command(&["plugins", "list"]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in [
        "one of least_busy, round_robin",
        "`max_requests` to be a whole number from 1",
        "`timeout`",
        "`concurrency` to be a whole number from 1",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    place.write("sandhog.toml", "");
    for arguments in [&["runs", "list"][..], &["runs", "show", "latest"], &["journal", "verify"], &["dead-letters", "list"]] {
        let output = place.command(arguments).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("there is no journal"), "{arguments:?}: {output:?}");
    }
}

#[test]
fn many_processes_on_one_directory_each_get_their_run() {
    let place = Place::new();
    place.wide(3);
    // Holders come and go while others ask them.
    let started: Vec<Child> = (0..24).map(|_| place.command(&["run", "w.toml", "--json"]).spawn().expect("runs")).collect();
    let mut runs = std::collections::BTreeSet::new();
    for child in started {
        let result: Value = serde_json::from_str(&told(&child.wait_with_output().expect("ends"), 0)).expect("JSON");
        assert_eq!((&result["status"], &result["steps"][0]["completed"]), (&"completed".into(), &3.into()));
        runs.insert(result["run"].as_str().expect("a name").to_owned());
    }
    assert_eq!(runs.len(), 24);
    place.is_intact();
}

#[test]
fn a_key_of_a_run_that_nobody_runs_goes_on_with_it() {
    let place = Place::new();
    place.wide(1000);
    let mut started = place.spawn(&["run", "w.toml", "--concurrency", "2", "--idempotency-key", "k"]);
    let run = started.accepted().expect("accepted");
    assert!(started.until(": completed").is_some());
    started.kill();
    let result = place.json(&["run", "w.toml", "--json", "--idempotency-key", "k"]);
    assert_eq!((&result["run"], &result["status"]), (&run.as_str().into(), &"completed".into()));
    place.write("other.toml", "name = \"other\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\n");
    let refused = place.command(&["run", "other.toml", "--idempotency-key", "k"]).output().expect("runs");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the idempotency key is that of the run") && said.contains(&run), "{said}");
    assert!(place.completions().values().all(|count| *count == 1));
    place.is_intact();
}
