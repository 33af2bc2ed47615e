//! Guests in processes of their own: the same attacks with the same outcomes as within one process, and the walls, looked at from
//! outside.

#[path = "sandbox.rs"]
mod sandbox;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

fn sandhog(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandhog"));
    command.current_dir(folder).env_clear().env("HOME", folder).env("SANDHOG_GATES", "");
    command.env("SANDHOG_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A guest that spins, in a process of its own, and the two processes.
struct Spinning {
    host: Child,
    guest: u32,
    _folder: tempfile::TempDir,
}

impl Drop for Spinning {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

fn field(process: u32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t").map(str::to_owned))
}

fn guest_of(host: u32) -> Option<u32> {
    let threads = std::fs::read_dir(format!("/proc/{host}/task")).ok()?.flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect::<Vec<_>>().join(" ");
    // The one that tries the walls first is given no code.
    let is_guest = |process: &u32| {
        std::fs::read_link(format!("/proc/{process}/fd/1")).is_ok_and(|target| target.starts_with("/memfd:sandhog-code (deleted)"))
    };
    children.split_whitespace().filter_map(|process| process.parse().ok()).find(is_guest)
}

fn spinning() -> Spinning {
    spinning_for("10m")
}

fn spinning_for(timeout: &str) -> Spinning {
    let folder = tempfile::tempdir().expect("a folder");
    let guest = root().join("dist/guests/spins.wasm");
    let arguments = ["call", guest.to_str().expect("text"), "--isolate", "process", "--fuel", "900T", "--timeout", timeout, "--json"];
    // With a file that is open in whoever starts it, as a build server's secrets may be.
    let mut host = Command::new("sh");
    host.args(["-c", "exec 9</etc/passwd; exec \"$@\"", "sh"]);
    let plain = sandhog(folder.path(), &arguments);
    host.arg(plain.get_program()).args(plain.get_args()).current_dir(folder.path()).env_clear();
    host.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut host = host.spawn().expect("runs");
    let guest = loop {
        assert!(host.try_wait().expect("a process").is_none(), "it ended");
        // The filter of system calls is the last wall.
        match guest_of(host.id()).filter(|guest| field(*guest, "Seccomp_filters").is_some_and(|filters| filters == "1")) {
            Some(guest) => break guest,
            None => std::thread::yield_now(),
        }
    };
    Spinning { host, guest, _folder: folder }
}

fn kill(process: u32) {
    signal(process, "-KILL");
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().expect("runs").success());
}

fn is_gone(process: u32) -> bool {
    field(process, "State").is_none_or(|state| state.starts_with('Z') || state.starts_with('X'))
}

#[test]
fn a_process_that_tries_to_get_out_is_stopped_at_every_wall() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = sandhog(folder.path(), &["config", "walls", "--json"]).output().expect("runs");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &told["hold"]), (Some(0), &Value::Bool(true)), "{told}");
    let stopped_by = |act: &str| {
        let trial = told["trials"].as_array().expect("trials").iter().find(|trial| trial["act"] == act);
        trial.unwrap_or_else(|| panic!("nobody tried to {act}: {told}"))["stopped_by"].as_str().expect("a reason").to_owned()
    };
    // By the wall that is meant, and not because there is nothing to be found.
    for act in [
        "read a file that everybody may read",
        "list a folder",
        "write a file",
        "write a file that it may only read",
        "make a file where it may only read",
        "remove a file that it may only read",
        "read beside what it may read",
        "go up from what it may read",
        "read the memory of its host",
    ] {
        assert!(stopped_by(act).contains("Permission denied"), "{act}: {}", stopped_by(act));
    }
    for act in [
        "connect to an address",
        "listen on an address",
        "send datagrams",
        "make a socket",
        "start a thread",
        "start a program",
        "signal its host",
        "have its host signalled",
        "date a file",
        "change who may read a file",
        "make memory executable",
        "change its limits",
    ] {
        assert!(stopped_by(act).contains("Operation not permitted"), "{act}: {}", stopped_by(act));
    }
    assert!(stopped_by("open more descriptors than it may").contains("Too many open files"));
    assert!(stopped_by("take more memory than it may").contains("memory"));
}

#[test]
fn the_process_of_a_guest_is_walled_in_as_the_kernel_sees_it() {
    let spinning = spinning();
    let guest = spinning.guest;
    assert_eq!(field(guest, "Seccomp").as_deref(), Some("2"), "filtered");
    assert_eq!(field(guest, "NoNewPrivs").as_deref(), Some("1"));
    let threads: Vec<String> = std::fs::read_dir(format!("/proc/{guest}/task"))
        .expect("threads")
        .flatten()
        .map(|thread| std::fs::read_to_string(thread.path().join("status")).expect("a status"))
        .collect();
    assert!(threads.len() > 1 && threads.iter().all(|status| status.contains("Seccomp:\t2")), "each of its threads");
    let limits = std::fs::read_to_string(format!("/proc/{guest}/limits")).expect("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit");
        line[name.len()..].split_whitespace().next().expect("a value").to_owned()
    };
    assert_eq!((limit("Max file size"), limit("Max core file size")), ("0".to_owned(), "0".to_owned()));
    assert_eq!(limit("Max open files"), (128 + 64).to_string());
    assert_eq!(limit("Max cpu time"), "605");
    assert!(limit("Max data size").parse::<u64>().expect("a number") < 1 << 30);
    let environment = std::fs::read(format!("/proc/{guest}/environ")).expect("an environment");
    assert_eq!(environment, b"MIMALLOC_DISALLOW_ARENA_ALLOC=1\0", "nothing of the host's environment");
    let open: Vec<String> = std::fs::read_dir(format!("/proc/{guest}/fd"))
        .expect("descriptors")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    let known = |target: &String| ["socket:", "/memfd:sandhog-code", "/dev/null"].iter().any(|known| target.starts_with(known));
    assert!(open.iter().all(known), "{open:?}");
}

#[test]
fn a_process_that_dies_is_one_failed_attempt_and_one_whose_host_dies_dies() {
    let mut spinning_one = spinning();
    kill(spinning_one.guest);
    let mut line = String::new();
    BufReader::new(spinning_one.host.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(told["failure"]["kind"], "host", "{told}");
    assert!(told["failure"]["message"].as_str().expect("text").contains("signal: 9"), "{told}");

    let spinning = spinning();
    let guest = spinning.guest;
    drop(spinning);
    while !is_gone(guest) {
        std::thread::yield_now();
    }
}

/// Whether some bytes are anywhere in the memory of a process, as the kernel has it.
fn is_in_memory(process: u32, wanted: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("a process of ours");
    let memory = std::fs::File::open(format!("/proc/{process}/mem")).expect("a process of ours");
    let (mut part, mut read) = (vec![0; 1 << 20], 0);
    for map in maps.lines().filter(|map| map.split(' ').nth(1).is_some_and(|rights| rights.starts_with('r'))) {
        let (from, to) = map.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|address| usize::from_str_radix(address, 16).expect("an address"));
        // Parts overlap, for what would lie across two of them.
        for at in (from..to).step_by(part.len() - wanted.len()) {
            let length = part.len().min(to - at);
            // Some of what is the kernel's does not read.
            let length = std::os::unix::fs::FileExt::read_at(&memory, &mut part[..length], at as u64).unwrap_or(0);
            if part[..length].windows(wanted.len()).any(|bytes| bytes == wanted) {
                return true;
            }
            read += length;
        }
    }
    assert!(read > 1 << 20, "{read} bytes of process {process}");
    false
}

#[test]
fn a_secret_is_nowhere_in_the_memory_of_a_guest_whose_requests_have_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, content: &[u8]| std::fs::write(folder.path().join(path), content).expect("written");
    let component = std::fs::read(root().join("dist/guests/drains_peer.wasm")).expect("run scripts/guests first");
    let digest = sandhog::model::Digest::of(&component);
    std::fs::create_dir(folder.path().join("plugins")).expect("made");
    write("plugins/asks.wasm", &component);
    write(
        "plugins/asks.toml",
        format!("name = \"asks\"\n[requests]\noutbound = [{{ origin = \"{origin}\", why = \"asks\" }}]\n").as_bytes(),
    );
    let grant = format!("[grants.asks]\ndigest = \"{digest}\"\noutbound = [\"{origin}\"]\n");
    let secret = "[secrets.key]\nenv = \"KEY\"\nhost = \"127.0.0.1\"\nheader = \"x-key\"\nplugins = [\"asks\"]\n";
    write("sandhog.toml", format!("plugins = [\"plugins\"]\n{grant}{secret}").as_bytes());
    const KEY: &str = "a key that is searched for: 9f1c7b";
    let params = format!("url={origin}/");
    let mut host = sandhog(folder.path(), &["call", "asks", "--param", &params, "--isolate", "process", "--timeout", "10m"]);
    let host = host.env("KEY", KEY).stderr(Stdio::null()).spawn().expect("runs");
    // The first half of an answer, while the guest waits for the second.
    let (mut peer, _) = listener.accept().expect("asked");
    let mut asked = BufReader::new(peer.try_clone().expect("the same"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(asked.read_line(&mut head).expect("read") > 0, "{head}");
    }
    assert!(head.contains(KEY), "it is sent: {head}");
    std::io::Write::write_all(&mut peer, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx").expect("said");
    let spinning = Spinning { guest: guest_of(host.id()).expect("a guest"), host, _folder: folder };
    assert!(is_in_memory(spinning.host.id(), KEY.as_bytes()), "the search finds what is there");
    assert!(is_in_memory(spinning.guest, origin.as_bytes()), "and in a guest, too");
    assert!(!is_in_memory(spinning.guest, KEY.as_bytes()));
}

/// A process that does nothing that it is told, its deadline included, is ended by its host.
#[test]
fn a_process_that_does_not_go_on_is_killed_at_its_deadline() {
    let mut spinning = spinning_for("10s");
    let watch = std::time::Instant::now();
    signal(spinning.guest, "-STOP");
    let mut line = String::new();
    BufReader::new(spinning.host.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(told["failure"]["kind"], "deadline_exceeded", "{told}");
    assert!(told["failure"]["message"].as_str().expect("text").contains("had to be killed"), "{told}");
    assert!(watch.elapsed() < std::time::Duration::from_secs(20), "{:?}", watch.elapsed());
    while !is_gone(spinning.guest) {
        std::thread::yield_now();
    }
}

#[test]
fn work_that_is_isolated_comes_to_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let plugins = root().join("dist/plugins");
    write("sandhog.toml", &format!("isolate = \"process\"\nplugins = [{:?}]\n", plugins.display().to_string()));
    write("a.txt", "one");
    write("w.toml", "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"a.txt\"]\n");
    let run = |arguments: &[&str]| -> Output { sandhog(folder.path(), arguments).output().expect("runs") };
    let shown = String::from_utf8(run(&["config", "show"]).stdout).expect("text");
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["isolate", "file", "process"])), "{shown}");
    let usage = |arguments: &[&str]| {
        let output = run(arguments);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(output.status.code(), Some(0), "{told}");
        (told["usage"]["fuel"].clone(), told["usage"]["peak_memory_bytes"].clone(), told["artifacts"].clone())
    };
    let call = ["call", "echo", "--input", "a.txt", "--json"];
    assert_eq!(usage(&call), usage(&[&call[..], &["--isolate", "none"]].concat()), "fuel, memory and artifacts");
    let output = run(&["run", "w.toml", "--out", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(walkdir::WalkDir::new(folder.path().join("out")).into_iter().flatten().any(|entry| entry.file_type().is_file()));
    let traced = run(&["call", "echo", "--trace"]);
    assert_eq!(traced.status.code(), Some(2), "{}", String::from_utf8_lossy(&traced.stderr));
}
