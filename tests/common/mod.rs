//! What the tests of `sandhog check` share: a folder to be judged, with a user of its own.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// The standard gates, beside the binary.
pub fn gates() -> PathBuf {
    let gates = Path::new(env!("CARGO_BIN_EXE_sandhog")).parent().expect("a folder").join("gates");
    assert!(gates.join("compiled").is_dir(), "{}: run scripts/gates first", gates.display());
    gates
}

/// A folder to be judged, with a user of its own: home, cache, and list of what is trusted.
pub struct World {
    pub home: TempDir,
    pub tree: TempDir,
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl World {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a home"), tree: tempfile::tempdir().expect("a tree") }
    }

    pub fn path(&self) -> &Path {
        self.tree.path()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
        std::fs::write(path, text).expect("writes");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("reads")
    }

    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path()).env_clear().env("HOME", self.home.path()).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str], code: i32) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_sandhog"), arguments);
        command.env("SANDHOG_CACHE_DIR", self.home.path().join("cache"));
        ran(&mut command, code)
    }

    pub fn git(&self, arguments: &[&str]) {
        let identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.com", "-c", "init.defaultBranch=main"];
        let output = self.command("git", &[&identity, arguments].concat()).output().expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str], code: i32) -> Value {
        let ran = self.run(&[&["check", "--format", "json"], arguments].concat(), code);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.out))
    }
}

#[track_caller]
pub fn ran(command: &mut Command, code: i32) -> Ran {
    gates();
    let output = command.output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let ran = Ran { code: output.status.code().expect("an exit code"), out: text(output.stdout), err: text(output.stderr) };
    assert_eq!(ran.code, code, "stdout: {}\nstderr: {}", ran.out, ran.err);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    ran
}

/// Runs each command of a page in a folder, and compares what it says and how it ends: `…` stands for anything, and a command
/// that is to fail says so in a comment behind it.
#[track_caller]
pub fn run_page(world: &World, page: &str) -> usize {
    let guide = std::fs::read_to_string(root().join("docs/guide").join(page)).expect("reads");
    let bin = Path::new(env!("CARGO_BIN_EXE_sandhog")).parent().expect("a folder");
    let cargo = std::env::var("CARGO").unwrap_or_default(); // that of the toolchain, which needs nobody's home
    let tools = Path::new(&cargo).parent().unwrap_or(bin);
    let path = format!("{}:{}:{}", bin.display(), tools.display(), std::env::var("PATH").unwrap_or_default());
    let mut ran_commands = 0;
    for block in guide.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()) {
        for command in block.split("$ ").skip(1) {
            let (line, expected) = command.split_once('\n').unwrap_or((command, ""));
            let code = line.split_once("# exits with ").map_or(0, |(_, code)| code.trim().parse().expect("a code"));
            let mut shell = world.command("sh", &["-c", line]);
            shell.env("PATH", &path).env("SANDHOG_CACHE_DIR", world.home.path().join("cache"));
            let Ran { out, err, .. } = ran(&mut shell, code);
            let said = format!("{err}{out}");
            for line in expected.lines() {
                let mut rest = said.as_str();
                for part in line.split('…') {
                    let at = rest.find(part).unwrap_or_else(|| panic!("{page}: `{line}` is not in\n{said}"));
                    rest = &rest[at + part.len()..];
                }
            }
            ran_commands += 1;
        }
    }
    ran_commands
}

/// `path:line:column rule`, of every finding that counts.
pub fn findings(report: &Value) -> Vec<String> {
    let gates = report["gates"].as_array().expect("gates");
    let found = gates.iter().flat_map(|gate| gate["findings"].as_array().expect("findings"));
    let counting = found.filter(|finding| finding["excused"].is_null());
    let line = |finding: &Value| {
        let location = &finding["location"];
        let path = location["path"].as_str().unwrap_or_default();
        let span = &location["span"];
        let at = if span.is_null() { String::new() } else { format!(":{}:{}", span["start_line"], span["start_column"]) };
        format!("{path}{at} {}", finding["rule"].as_str().expect("a rule"))
    };
    counting.map(line).collect()
}
