//! The hostile test bed: each attack on a server of its own, watched from outside by what the system says of its process. What must come
//! of it is written beside each guest; a guest that nobody says it of does not compile.
//!
//! While four instances attack at once, in four of six slots, the server answers and does honest work. Afterwards no file and no instance of
//! theirs is left, and of memory, descriptors and threads no more than a host keeps for the next ones, however many attacks came before.

#![expect(non_camel_case_types, reason = "guests are called as their files are")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sandhog::model::Digest;
use serde_json::{Value, json};

#[path = "common/guests.rs"]
mod guests;
#[path = "common/preload.rs"]
mod preload;

include!(concat!(env!("OUT_DIR"), "/guest.rs"));

/// How many instances attack at once.
const AT_ONCE: usize = 4;
/// How much honest work is done beside an attack, at the most.
const HONEST_MAX: usize = 100;
/// How long anything may take before the bed gives up: only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an attack may take beyond its deadline: a second is promised on a machine of one's own, and this one is shared and busy.
const LATE: Duration = Duration::from_secs(6);
/// How much an attempt may cost the host beside its memory, in bytes: its stack, what it returns on its way into the journal, its log.
const OVERHEAD_BYTES: u64 = 64 << 20;
/// What the process may take beside, in bytes, as allocators and pools do.
const SLACK_BYTES: u64 = 160 << 20;
/// How many descriptors an attack may take for as long as it lasts.
const DESCRIPTORS_MAX: u64 = 400;
/// And how many threads: 48 for files of guests, eight that read the journal, and some that load plugins.
const THREADS_MAX: u64 = 64;
/// How many descriptors may be there afterwards that were not before.
const KEPT_DESCRIPTORS_MAX: u64 = 16;
/// How much an attack may leave on the disk: what is kept of logs and answers, in the journal.
const DISK_BYTES_MAX: u64 = 40 << 20;

/// What must come of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// With an answer.
    Answered,
    /// With a failure of this kind.
    Failed(&'static str),
    /// Before it is run at all: the component is refused.
    Refused,
}
use Ends::{Answered, Failed, Refused};

/// Where a guest stands in the workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Worker,
    Gate,
}

/// One attack.
struct Attack {
    guest: Guest,
    params: Value,
    /// As a step of a workflow has them.
    limits: &'static str,
    role: As,
    ends: Ends,
}

/// Every attack of a guest, and what must come of it.
fn attacks(guest: Guest, peer: u16) -> Vec<Attack> {
    const SHORT: &str = "timeout = \"300ms\", fuel = \"900T\"";
    const LITTLE: &str = "fuel = \"20M\", scratch = \"1MiB\"";
    let of = |params: Value, limits: &'static str, role: As, ends: Ends| Attack { guest, params, limits, role, ends };
    let worker = |ends: Ends| vec![of(json!({}), "", As::Worker, ends)];
    let gate = |ends: Ends| vec![of(json!({}), "", As::Gate, ends)];
    let spins =
        || vec![of(json!({}), LITTLE, As::Worker, Failed("out_of_fuel")), of(json!({}), SHORT, As::Worker, Failed("deadline_exceeded"))];
    let url = |path: &str| json!({ "url": format!("http://127.0.0.1:{peer}{path}") });
    match guest {
        Guest::behaves | Guest::tells_all | Guest::asks_for_fuel | Guest::remembers => worker(Answered),
        Guest::command_cat | Guest::command_lines | Guest::command_repeats => worker(Answered),
        Guest::two_components | Guest::escapes_folder => worker(Answered),
        Guest::opens_sockets => vec![of(json!({ "port": peer }), "", As::Worker, Answered)],
        Guest::breaks_folder => {
            vec![
                of(json!({}), "", As::Worker, Answered),
                of(json!({ "writes_at_once": true }), "", As::Worker, Failed("contract_violation")),
            ]
        }
        Guest::fills_scratch => vec![of(json!({}), "", As::Worker, Answered), of(json!({}), "scratch = \"1MiB\"", As::Worker, Answered)],
        Guest::judges_files | Guest::finds_todos | Guest::remembers_verdicts => gate(Answered),
        Guest::forges_findings | Guest::judges_units | Guest::explores_subject => gate(Answered),
        Guest::metric_is_nan => gate(Failed("contract_violation")),
        Guest::floods_verdict => vec![
            of(json!({ "bytes": 256 << 10 }), "", As::Gate, Answered),
            of(json!({ "bytes": 12 << 20 }), "", As::Gate, Failed("output_limit")),
            of(json!({ "bytes": 60 << 20 }), "memory = \"256MiB\", output = \"256MiB\"", As::Gate, Failed("output_limit")),
        ],
        Guest::returns_long_type => vec![
            of(json!({ "bytes": 300 }), "", As::Worker, Failed("contract_violation")),
            of(json!({ "bytes": 15 << 20 }), "", As::Worker, Failed("contract_violation")),
            of(json!({ "bytes": 90 << 20 }), "memory = \"256MiB\", output = \"256MiB\"", As::Worker, Failed("contract_violation")),
        ],
        Guest::fails_as_told => worker(Failed("invalid_input")),
        Guest::spins | Guest::spins_in_start | Guest::spins_after_return | Guest::spins_in_realloc | Guest::spins_in_destructor => spins(),
        Guest::calls_in_start | Guest::asks_whether_cancelled | Guest::polls_forever => spins(),
        Guest::copies_forever => vec![
            of(json!({}), "fuel = \"1G\"", As::Worker, Failed("out_of_fuel")),
            of(json!({}), SHORT, As::Worker, Failed("deadline_exceeded")),
        ],
        Guest::fills_memory => vec![of(json!({}), "fuel = \"1G\"", As::Worker, Failed("out_of_fuel"))],
        Guest::sleeps => vec![of(json!({}), SHORT, As::Worker, Failed("deadline_exceeded"))],
        Guest::calls_host => ["log", "progress", "cancelled", "fuel", "clock", "random", "files", "stdout"]
            .into_iter()
            .flat_map(|what| {
                let params = json!({ "what": what });
                [of(params.clone(), LITTLE, As::Worker, Failed("out_of_fuel")), of(params, SHORT, As::Worker, Failed("deadline_exceeded"))]
            })
            .collect(),
        Guest::says_too_much => ["log", "progress", "path", "name", "header"]
            .into_iter()
            .map(|what| {
                of(
                    json!({ "what": what, "bytes": 24 << 20 }),
                    "memory = \"256MiB\", scratch = \"1MiB\"",
                    As::Worker,
                    Failed("output_limit"),
                )
            })
            .chain([of(json!({ "what": "stdout", "bytes": 24 << 20 }), "", As::Worker, Answered)])
            .chain([of(json!({ "what": "random", "bytes": 24 << 20 }), "", As::Worker, Failed("contract_violation"))])
            .collect(),
        Guest::abandons_requests => vec![of(json!({ "authority": format!("127.0.0.1:{peer}") }), "", As::Worker, Answered)],
        Guest::drains_peer => ["/endless", "/headers", "/header", "/garbage", "/length", "/short", "/chunks", "/silent"]
            .into_iter()
            .map(|path| of(url(path), "", As::Worker, Answered))
            .chain(["/drip", "/interim"].map(|path| of(url(path), "timeout = \"500ms\"", As::Worker, Failed("deadline_exceeded"))))
            .chain(guests::TLS_PEERS.iter().zip([false, false, true, true]).map(|(address, ends)| {
                let params = json!({ "url": format!("https://{address}:{peer}/") });
                let (limits, ends) = if ends { ("", Answered) } else { ("timeout = \"500ms\"", Failed("deadline_exceeded")) };
                of(params, limits, As::Worker, ends)
            }))
            .collect(),
        Guest::calls_out => {
            let urls = ["127.0.0.1", "0x7f000001", "[::1]", "169.254.169.254", "0.0.0.0"].map(|host| format!("http://{host}:{peer}/"));
            vec![of(json!({ "urls": urls }), "", As::Worker, Answered)]
        }
        Guest::names_badly => vec![
            of(json!({ "names": ["../a"] }), "", As::Worker, Failed("contract_violation")),
            of(json!({ "names": [vec!["a"; 33].join("/")] }), "", As::Worker, Failed("contract_violation")),
            of(json!({ "names": ["x".repeat(2 << 20)] }), "memory = \"256MiB\"", As::Worker, Failed("contract_violation")),
        ],
        Guest::returns_too_much => vec![
            of(json!({ "bytes": 16 << 20 }), "memory = \"64MiB\"", As::Worker, Answered),
            of(json!({ "bytes": 40 << 20 }), "memory = \"128MiB\"", As::Worker, Failed("output_limit")),
        ],
        Guest::returns_many => vec![of(json!({}), "output = \"1MiB\", memory = \"256MiB\"", As::Worker, Failed("output_limit"))],
        Guest::returns_aliases => worker(Failed("output_limit")),
        Guest::allocates_fast | Guest::allocates_slowly | Guest::many_memories | Guest::grows_table => worker(Failed("memory_limit")),
        Guest::too_many_memories | Guest::too_many_instances => worker(Refused),
        Guest::leaks_handles | Guest::leaks_component_handles => worker(Failed("handle_limit")),
        Guest::recurses => worker(Failed("stack_overflow")),
        Guest::exits => worker(Failed("exited")),
        Guest::reads_stdin | Guest::floods_stdout | Guest::floods_log | Guest::returns_crumbs => worker(Answered),
        Guest::panics
        | Guest::traps_unreachable
        | Guest::traps_divide
        | Guest::traps_overflow
        | Guest::traps_conversion
        | Guest::traps_out_of_bounds
        | Guest::traps_table
        | Guest::traps_null_call
        | Guest::traps_signature
        | Guest::traps_after_return => worker(Failed("trapped")),
        Guest::lies_about_result
        | Guest::lies_about_text
        | Guest::lies_about_discriminant
        | Guest::lies_about_memory
        | Guest::calls_in_realloc
        | Guest::calls_after_return
        | Guest::wants_randomness => worker(Failed("contract_violation")),
    }
}

/// Whether an attack got anywhere, by what it says itself; also where it says nothing.
fn got_out(attack: &Attack, said: &str) -> bool {
    let got = match attack.guest {
        Guest::escapes_folder | Guest::opens_sockets => said.contains("true"),
        Guest::breaks_folder => said.lines().any(|line| line.ends_with("outside: true") || line.ends_with("gone through: true")),
        Guest::calls_out => !said.lines().all(|line| line.starts_with("denied")),
        Guest::fills_scratch if attack.limits.is_empty() => !said.lines().all(|line| line == "no folder"),
        Guest::fills_scratch => {
            let filled = ["outside: false, linked: false", "bytes: 1015 KiB, then: I/O error", "names: some, then: No space left"];
            !filled.iter().all(|part| said.contains(part))
        }
        Guest::explores_subject => !said.replace("\"\"", "").is_empty(), // each finding lists what it changed
        _ => return false,
    };
    got || (said.is_empty() && attack.ends == Answered)
}

/// What a process and its children take, as the system sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    memory_bytes: u64,
    descriptors: u64,
    threads: u64,
    processes: u64,
}

impl Taken {
    fn of(process: u32) -> Self {
        let mut taken = Self::default();
        let mut processes = vec![process];
        while let Some(process) = processes.pop() {
            let folder = PathBuf::from(format!("/proc/{process}"));
            let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
            let number = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next()?.parse::<u64>().ok()
            };
            taken.memory_bytes += number("VmRSS:").unwrap_or(0) * 1024;
            taken.threads += number("Threads:").unwrap_or(0);
            taken.processes += 1;
            taken.descriptors += std::fs::read_dir(folder.join("fd")).map_or(0, |entries| entries.count() as u64);
            let threads = std::fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
            for thread in threads {
                let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                processes.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        taken
    }

    fn most(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            processes: self.processes.max(other.processes),
        }
    }

    /// The most memory that a process itself has had since this was asked for last, in bytes.
    fn peak_since_last(process: u32) -> u64 {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let status = std::fs::read_to_string(folder.join("status")).expect("it lives");
        std::fs::write(folder.join("clear_refs"), "5").expect("begins anew");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a figure");
        peak.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number") * 1024
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

fn disk_bytes(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    // What it takes, and not how long it says that it is.
    files.filter_map(|entry| entry.metadata().ok()).map(|file| std::os::unix::fs::MetadataExt::blocks(&file) * 512).sum()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A server with one hostile plugin and an honest one.
struct Bed {
    folder: tempfile::TempDir,
    child: Child,
    log: BufReader<ChildStdout>,
    /// What it says beside its log: a panic, and nothing else.
    errors: std::fs::File,
    address: SocketAddr,
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bed {
    fn new(guest: Guest, peer: u16, isolate: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).expect("written");
        for made in ["plugins", "outer", "outer/granted", "outer/other", "tmp"] {
            std::fs::create_dir(folder.path().join(made)).expect("made");
        }
        let component = guests::component(&format!("{guest:?}"));
        write("outer/secret.txt", b"secret");
        write("outer/granted/inside.txt", b"inside");
        for (link, target) in [("link", "secret.txt"), ("linked", "")] {
            let target = folder.path().join("outer").join(target);
            std::os::unix::fs::symlink(target, folder.path().join("outer/granted").join(link)).expect("linked");
        }
        write("plugins/attacker.wasm", &component);
        write("plugins/attacker.toml", b"name = \"attacker\"\n");
        write("plugins/echo.wasm", &std::fs::read(root().join("dist/plugins/echo.wasm")).expect("run scripts/plugins first"));
        let digest = Digest::of(&component);
        let grant = match guest {
            Guest::breaks_folder => "files = [{ path = \"outer/granted\", at = \"/granted\", access = \"read-write\" }]".to_owned(),
            Guest::escapes_folder => "files = [{ path = \"outer/granted\", at = \"/granted\", access = \"read\" }]".to_owned(),
            Guest::drains_peer => {
                let shaken = guests::TLS_PEERS.map(|address| format!(", \"https://{address}:{peer}\"")).concat();
                format!("outbound = [\"http://127.0.0.1:{peer}\"{shaken}]")
            }
            Guest::abandons_requests => format!("outbound = [\"http://127.0.0.1:{peer}\"]"),
            Guest::calls_out => format!("outbound = [\"http://127.0.0.2:{peer}\"]"), // another one than those it asks
            Guest::sleeps => "clock = true".to_owned(),
            _ => String::new(),
        };
        let grant = if grant.is_empty() { grant } else { format!("[grants.attacker]\ndigest = \"{digest}\"\n{grant}\n") };
        // Breakers would keep an attacker off that has failed so often.
        write("sandhog.toml", format!("plugins = [\"plugins\"]\n[breaker]\nconsecutive_failures = 100000\n{grant}").as_bytes());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandhog"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--rate", "0", "--log-format", "json", "--concurrency", "6", "--threads", "2"]);
        command.args(["--isolate", isolate]).current_dir(folder.path()).env_clear().env("HOME", folder.path()).env("SANDHOG_GATES", "");
        command.env("TMPDIR", folder.path().join("tmp"));
        command.env("SANDHOG_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
        let errors = tempfile::tempfile().expect("a file");
        let stderr = errors.try_clone().expect("the same");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().expect("starts");
        let log = BufReader::new(child.stdout.take().expect("piped"));
        let mut bed = Self { folder, child, log, errors, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        loop {
            let mut line = String::new();
            assert!(bed.log.read_line(&mut line).expect("reads") > 0, "{guest:?}: the server ended before it listened");
            let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if said["message"] == "listening" {
                bed.address = said["address"].as_str().expect("an address").parse().expect("an address");
                return bed;
            }
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), body.to_owned())
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// Has a workflow run to its end; the error is why it was not accepted.
    fn run(&self, workflow: &str, inputs: usize) -> Result<String, String> {
        let inputs: Vec<Value> = (0..inputs).map(|n| json!({ "name": format!("in/{n}"), "content": n.to_string() })).collect();
        let (status, body) = self.ask("POST", "/v1/runs", Some(&json!({ "workflow": workflow, "inputs": inputs })));
        if status != 202 {
            assert!((400..500).contains(&status), "{status}: {body}");
            return Err(body);
        }
        let accepted: Value = serde_json::from_str(&body).expect("JSON");
        let run = accepted["run"].as_str().expect("a run").to_owned();
        loop {
            let report = self.json(&format!("/v1/runs/{run}/report?wait=100s"));
            if ["completed", "failed", "cancelled"].contains(&report["status"].as_str().expect("a status")) {
                return Ok(run);
            }
        }
    }

    /// All records of a run.
    fn events(&self, run: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.json(&format!("/v1/runs/{run}/events?limit=1000&after={after}"));
            all.extend(page["events"].as_array().expect("events").iter().cloned());
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return all,
            }
        }
    }

    /// Honest work, and how long it took.
    fn honest(&self) -> Duration {
        let watch = Instant::now();
        let run = self.run("name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\n", 1).expect("accepted");
        let took = watch.elapsed();
        assert_eq!(outcomes(self, &run, As::Worker), ["answered"]);
        took
    }

    fn live_instances(&self) -> String {
        let (_, figures) = self.ask("GET", "/metrics", None);
        let line = figures.lines().find(|line| line.starts_with("sandhog_live_instances ")).expect("a figure");
        line.split(' ').nth(1).expect("a number").to_owned()
    }
}

/// What was seen of an attack.
struct Seen {
    most: Taken,
    before: Taken,
    disk_bytes: u64,
    honest: Duration,
    answer: Duration,
    took: Duration,
    outcomes: Vec<String>,
    said: String,
}

/// Says that an attack is over, also where it ends in a panic: those that watch it would wait without end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn seen(bed: &Bed, attack: &Attack) -> Seen {
    let params = toml::Value::try_from(&attack.params).expect("TOML").to_string();
    let retry = "retry = { maximum_attempts = 1 }";
    let workflow = match attack.role {
        As::Worker => format!(
            "name = \"attack\"\n[[step]]\nid = \"s\"\nworker = \"attacker\"\ninputs = [\"in/*\"]\nforeach = true\nparams = {params}\n\
             limits = {{ {} }}\n{retry}\n",
            attack.limits
        ),
        As::Gate => format!(
            "name = \"attack\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\nforeach = true\nmaximum_revisions = 0\n\
             gates = [{{ gate = \"attacker\", params = {params}, limits = {{ {} }}, {retry} }}]\n",
            attack.limits
        ),
    };
    bed.honest(); // what is made once is made
    let (before, disk_before) = (Taken::of(bed.child.id()), disk_bytes(bed.folder.path()));
    Taken::peak_since_last(bed.child.id());
    let (over, most) = (AtomicBool::new(false), Mutex::new((before, Duration::ZERO, Duration::ZERO)));
    let (took, outcomes, said) = std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let taken = Taken::of(bed.child.id());
                let mut most = most.lock().expect("a lock");
                most.0 = most.0.most(taken);
                drop(most);
                guests::drip().expect("a moment"); // it shall not be what keeps the machine busy
            }
        });
        scope.spawn(|| {
            for turn in 0.. {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let watch = Instant::now();
                assert_eq!(bed.ask("GET", "/healthz", None).0, 200);
                let answer = watch.elapsed();
                // Not without end: it is in the journal, too.
                let honest = if turn < HONEST_MAX { bed.honest() } else { guests::drip().map_or(Duration::ZERO, |()| Duration::ZERO) };
                let mut most = most.lock().expect("a lock");
                (most.1, most.2) = (most.1.max(honest), most.2.max(answer));
            }
        });
        let watch = Instant::now();
        let run = bed.run(&workflow, AT_ONCE);
        let took = watch.elapsed();
        match run {
            Ok(run) => (took, outcomes(bed, &run, attack.role), said(bed, &run, attack.role)),
            Err(_) => (took, vec!["refused".to_owned()], String::new()),
        }
    });
    let (mut most, honest, answer) = *most.lock().expect("a lock");
    // Between two looks, it may have been more for a moment.
    most.memory_bytes = most.memory_bytes.max(Taken::peak_since_last(bed.child.id()));
    let disk_bytes = disk_bytes(bed.folder.path()).saturating_sub(disk_before);
    Seen { most, before, disk_bytes, honest, answer, took, outcomes, said }
}

/// What the attacker says: its artifacts, or its findings.
fn said(bed: &Bed, run: &str, role: As) -> String {
    match role {
        As::Worker => {
            let made = bed.json(&format!("/v1/runs/{run}/artifacts"));
            let digests = made["artifacts"].as_array().expect("artifacts").iter();
            let small = digests.filter(|artifact| artifact["size_bytes"].as_u64().is_some_and(|size| size < 100_000));
            let digests = small.map(|artifact| artifact["digest"].as_str().expect("a digest").to_owned());
            // Nobody who has something to say takes more than that for it.
            digests.take(64).map(|digest| bed.ask("GET", &format!("/v1/runs/{run}/artifacts/{digest}"), None).1).collect()
        }
        As::Gate => {
            let events = bed.events(run);
            let verdicts = events.iter().filter(|record| record["event"] == "gate_answered");
            let findings = verdicts.flat_map(|record| record["verdict"]["findings"].as_array().cloned().unwrap_or_default());
            findings.filter(|finding| finding["rule"] == "changed").map(|finding| finding["message"].to_string()).collect()
        }
    }
}

/// How the attempts of a run ended, those of the attacker alone.
fn outcomes(bed: &Bed, run: &str, role: As) -> Vec<String> {
    let (answered, failed) = match role {
        As::Worker => ("attempt_completed", "attempt_failed"),
        As::Gate => ("gate_answered", "gate_failed"),
    };
    let ended = bed.events(run).into_iter().filter_map(|record| match record["event"].as_str() {
        Some(event) if event == answered => Some("answered".to_owned()),
        Some(event) if event == failed => Some(record["failure"]["kind"].as_str().expect("a kind").to_owned()),
        _ => None,
    });
    ended.collect()
}

/// Attacks, and says what came of it where that is not what must come of it.
fn attack(attack: &Attack, bed: &Bed, isolate: &str, first: Taken) -> Option<String> {
    let name =
        format!("{:?} {} {} ({isolate})", attack.guest, attack.params.to_string().chars().take(60).collect::<String>(), attack.limits);
    let Seen { most, before, disk_bytes, honest, answer, took, outcomes, said } = seen(bed, attack);
    let expected = match attack.ends {
        Answered => "answered",
        Failed(kind) => kind,
        Refused => "refused",
    };
    let mib = |bytes: u64| bytes >> 20;
    let grown = most.memory_bytes.saturating_sub(before.memory_bytes);
    println!(
        "{expected:<20} {:>4} MiB {:>3} files {:>3} threads {:>3} MiB disk, {:>5} ms, API {:>4} ms, honest work {:>4} ms: {name}",
        mib(grown),
        most.descriptors.saturating_sub(before.descriptors),
        most.threads.saturating_sub(before.threads),
        mib(disk_bytes),
        took.as_millis(),
        answer.as_millis(),
        honest.as_millis(),
    );
    let memory = attack.limits.split("memory = \"").nth(1).and_then(|rest| rest.split("MiB").next()?.parse::<u64>().ok()).unwrap_or(64);
    let allowed = AT_ONCE as u64 * ((memory << 20) + OVERHEAD_BYTES) + SLACK_BYTES;
    assert!(grown <= allowed, "{name}: it took {} MiB, of {} that it may", mib(grown), mib(allowed));
    assert!(most.descriptors <= before.descriptors + DESCRIPTORS_MAX, "{name}: {} descriptors", most.descriptors);
    assert!(most.threads <= before.threads + THREADS_MAX, "{name}: {} threads", most.threads);
    let granted = if matches!(attack.guest, Guest::breaks_folder) { DISK_BYTES_MAX } else { 0 };
    let answers = if expected == "answered" { AT_ONCE as u64 * (16 << 20) } else { 0 };
    assert!(disk_bytes <= DISK_BYTES_MAX + granted + answers, "{name}: {} MiB on the disk", mib(disk_bytes));
    // Nobody is kept from working: a bound far above what honest work takes, since machines are shared; the figures are printed.
    assert!(honest < PATIENCE / 40 && answer < PATIENCE / 40, "{name}: honest work took {honest:?}, an answer {answer:?}");

    bed.honest();
    let settling = Instant::now();
    loop {
        let (live, now) = (bed.live_instances(), Taken::of(bed.child.id()));
        // What the first request over HTTP makes stays, and a connection or two is ours. Threads that helped with files are kept for
        // the next ones, up to a bound.
        let is_kept = now.descriptors > first.descriptors + KEPT_DESCRIPTORS_MAX
            || now.threads > first.threads + THREADS_MAX
            || now.memory_bytes > first.memory_bytes + SLACK_BYTES
            || now.processes > 1;
        if live == "0" && !is_kept {
            break;
        }
        assert!(settling.elapsed() < PATIENCE, "{name}: {live} instances, {now:?} where there were {first:?} at first");
        guests::drip().expect("a moment");
    }
    assert_eq!(names(&bed.folder.path().join("tmp")), BTreeSet::new(), "{name}: temporary files are left");
    assert_eq!(names(&bed.folder.path().join("outer")), BTreeSet::from(["granted", "other", "secret.txt"].map(str::to_owned)), "{name}");
    assert_eq!(std::fs::read_to_string(bed.folder.path().join("outer/secret.txt")).expect("there"), "secret", "{name}");
    assert_eq!(names(&bed.folder.path().join("outer/other")), BTreeSet::new(), "{name}");
    if !matches!(attack.guest, Guest::breaks_folder) {
        let granted = names(&bed.folder.path().join("outer/granted"));
        assert_eq!(granted, BTreeSet::from(["inside.txt", "link", "linked"].map(str::to_owned)), "{name}");
    }
    assert!(!got_out(attack, &said), "{name}: {said}");
    let timeout = attack.limits.split("timeout = \"").nth(1).map_or("30s", |rest| rest.split('"').next().unwrap_or(rest));
    let timeout = sandhog::model::limits::parse_duration(timeout).expect("a duration");
    assert!(took < timeout + LATE, "{name}: it ended after {took:?}");
    let all = vec![expected.to_owned(); if expected == "refused" { 1 } else { AT_ONCE }];
    (outcomes != all).then(|| format!("{name}: {outcomes:?}, and not {AT_ONCE} times {expected}"))
}

fn every_attack(isolate: &str) {
    let peer = guests::hostile_peer();
    let (mut count, mut wrong) = (0, Vec::new());
    for guest in GUESTS {
        let bed = Bed::new(*guest, peer, isolate);
        bed.honest();
        let first = Taken::of(bed.child.id());
        for one in attacks(*guest, peer) {
            wrong.extend(attack(&one, &bed, isolate, first));
            count += 1;
        }
        let there = names(bed.folder.path());
        let expected = ["outer", "plugins", "sandhog.toml", "tmp", ".sandhog"].map(str::to_owned);
        assert_eq!(there, BTreeSet::from(expected), "{guest:?}: what lies in the folder");
        let mut bed = bed;
        let pid = rustix::process::Pid::from_raw(bed.child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        let mut log = String::new();
        bed.log.read_to_string(&mut log).expect("reads");
        assert_eq!(bed.child.wait().expect("ends").code(), Some(0), "{guest:?}: {log}");
        let mut errors = String::new();
        std::io::Seek::rewind(&mut bed.errors).and_then(|()| bed.errors.read_to_string(&mut errors)).expect("reads");
        assert_eq!(errors, "", "{guest:?}: what a server says on standard error is a panic");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{count} attacks, each with its outcome, and nothing left behind");
}

#[test]
fn every_attack_comes_to_its_end_and_leaves_nothing_behind() {
    every_attack("none");
}

#[test]
fn and_so_it_does_in_a_process_of_its_own() {
    every_attack("process");
}

/// DNS rebinding: a name that is granted means a public address when it is looked up, and this machine an instant later. What was judged is
/// what is connected to, and the next request is judged anew.
#[test]
fn a_name_that_comes_to_mean_this_machine_does_not_lead_to_it() {
    let tools = tempfile::tempdir().expect("a folder");
    let names = preload::built("network/names.c", tools.path());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.set_nonblocking(true).expect("set");
    let origin = format!("http://rebinds.example:{}", listener.local_addr().expect("an address").port());
    let component = guests::component("calls_out");
    for isolate in ["none", "process"] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("plugins")).expect("made");
        std::fs::write(folder.path().join("plugins/attacker.wasm"), &component).expect("written");
        std::fs::write(folder.path().join("plugins/attacker.toml"), "name = \"attacker\"\n").expect("written");
        let grant = format!("[grants.attacker]\ndigest = \"{}\"\noutbound = [\"{origin}\"]\n", Digest::of(&component));
        std::fs::write(folder.path().join("sandhog.toml"), format!("plugins = [\"plugins\"]\n{grant}")).expect("written");
        let connects = tools.path().join(isolate);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandhog"));
        command.args(["call", "attacker", "--isolate", isolate, "--params"]).arg(json!({ "urls": [&origin, &origin] }).to_string());
        command.current_dir(folder.path()).env_clear().env("HOME", folder.path()).env("SANDHOG_GATES", "");
        command.env("SANDHOG_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
        let output = command.env("LD_PRELOAD", &names).env("CONNECTS", &connects).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("failed") || line.starts_with("denied")).collect();
        assert!(
            lines.len() == 2 && lines[0].contains("ConnectionRefused") && lines[1].contains("DestinationIpProhibited"),
            "{isolate}: {output:?}"
        );
        assert_eq!(std::fs::read(&connects).expect("connected to").len(), 1, "{isolate}: to the address that was judged");
        let reached = listener.accept().map(|(_, from)| from);
        assert_eq!(reached.expect_err("nobody").kind(), std::io::ErrorKind::WouldBlock, "{isolate}: this machine was reached");
    }
}
