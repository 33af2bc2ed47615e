//! What reads bytes that strangers wrote, and what must hold whatever they are: nothing panics, what is said is printable and has a
//! place, and what was read and is written again reads as the same. `tests/fuzz.rs` tries mutated seeds on the stable toolchain; the
//! cargo-fuzz package beside this file runs the same functions under libFuzzer, which sees what code they reach.

use std::any::Any;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use sandhog::api::{Command, LetterCommand, Submission};
use sandhog::config::{Problems, case, manifest, plan, settings, workflow};
use sandhog::journal::{READ_MAX, Record, Sqlite, Store as _};
use sandhog::machine::{Input, Run, decide};
use sandhog::model::snapshot::Snapshot;
use sandhog::model::{Artifact, Digest, Expansion, FailureKind, Limits, Origin, Step, Subject, Task};
use sandhog::runtime::{Call, Command as CommandPlugin, CommandFindings, CommandProtocol, Plugin, Runtime};
use url::Url;

/// A reader of foreign bytes.
pub struct Target {
    /// Its name, which is that of the folder with its seeds.
    pub name: &'static str,
    /// Reads; panics where something does not hold.
    pub run: fn(&[u8]),
    /// How many times as dear as the cheapest it is: so many fewer executions it has in the tests.
    pub cost: u32,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "component", run: component, cost: 1 },
    Target { name: "metadata", run: metadata, cost: 1 },
    Target { name: "manifest", run: manifest_file, cost: 1 },
    Target { name: "workflow", run: workflow_file, cost: 1 },
    Target { name: "plan", run: plan_file, cost: 1 },
    Target { name: "configuration", run: configuration, cost: 1 },
    Target { name: "case", run: case_file, cost: 1 },
    Target { name: "baseline", run: baseline, cost: 1 },
    Target { name: "record", run: record, cost: 1 },
    Target { name: "history", run: history, cost: 2 },
    Target { name: "journal", run: journal_file, cost: 20 },
    Target { name: "allowlist", run: allowlist, cost: 1 },
    Target { name: "limits", run: limits, cost: 1 },
    Target { name: "text", run: text, cost: 1 },
    Target { name: "command", run: command_output, cost: 5 },
    Target { name: "evidence", run: evidence, cost: 10 },
    Target { name: "advisories", run: advisories, cost: 10 },
    Target { name: "bodies", run: bodies, cost: 1 },
    Target { name: "requests", run: requests, cost: 10 },
    Target { name: "frames", run: frames, cost: 10 },
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join("wit").is_dir()).expect("the repository").to_owned()
}

/// Text that cannot steer a terminal or forge a line.
#[track_caller]
fn printable(what: &str, text: &str) {
    let bad = text.chars().find(|c| c.is_control() && !"\n\t".contains(*c) || sandhog::model::text::is_bidirectional_control(*c));
    assert!(bad.is_none(), "{what} has {bad:?}: {text:?}");
}

/// What is said of a bad file: each problem within it, printable, and drawn without a panic.
#[track_caller]
fn well_said(text: &str, problems: &Problems) {
    assert!(!problems.problems.is_empty(), "bad, and nothing says why");
    let lines = text.lines().count();
    for problem in &problems.problems {
        assert!(problem.line >= 1 && problem.line <= lines + 1 && problem.column >= 1, "{}:{} of {lines}", problem.line, problem.column);
        printable("a problem", &problem.message);
        printable("its help", problem.help.as_deref().unwrap_or_default());
        let mut drawn = String::new();
        miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
            .render_report(&mut drawn, problem)
            .expect("drawn");
        printable("the problem as it is drawn", &drawn);
    }
}

fn component(bytes: &[u8]) {
    match sandhog::registry::component::read(bytes) {
        Ok(component) => {
            for name in component.imports.iter().chain(&component.exports).chain(&component.name).chain(&component.description) {
                printable("a name", name);
            }
            if let Err(error) = component.kind() {
                printable("why it is no plugin", &error.to_string());
            }
        }
        Err(error) => printable("why it is none", &error.to_string()),
    }
}

/// Custom sections of a component that is fine otherwise.
fn metadata(bytes: &[u8]) {
    const SECTIONS: [&str; 9] = [
        "component-name",
        "version",
        "description",
        "authors",
        "licenses",
        "source",
        "sandhog:plugin",
        "sandhog:params",
        "sandhog:identity",
    ];
    let Some((first, content)) = bytes.split_first() else { return };
    let name = SECTIONS[usize::from(*first) % SECTIONS.len()];
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    let mut body = vec![name.len() as u8];
    body.extend(name.as_bytes());
    body.extend(content);
    component.push(0);
    let mut length = body.len();
    loop {
        let more = length > 127;
        component.push((length & 127) as u8 | if more { 128 } else { 0 });
        length >>= 7;
        if !more {
            break;
        }
    }
    component.extend(body);
    self::component(&component);
    let read = sandhog::registry::component::read(&component).expect("custom sections may hold anything");
    if let Some(text) = &read.manifest {
        manifest_file(text.as_bytes());
    }
    if let Some(Err(why)) = read.params.as_ref().map(|schema| sandhog::registry::params::check_schema(None, schema)) {
        printable("why it is no schema", &why);
    }
}

fn manifest_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(problems) = manifest::read("plugin.toml", text) {
        well_said(text, &problems);
    }
}

fn workflow_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match workflow::read("workflow.toml", text) {
        Ok(source) => {
            // As the journal keeps it.
            let kept = serde_json::to_string(&source.workflow).expect("written");
            let again: sandhog::model::Workflow = serde_json::from_str(&kept).expect("read again");
            assert_eq!(again, source.workflow);
        }
        Err(problems) => well_said(text, &problems),
    }
}

fn plan_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parent = Step::new("plan", "planner");
    parent.expand = Some(Expansion { steps_max: 20, depth_max: 3, workers: vec!["echo".to_owned()], gates: vec!["judge".to_owned()] });
    match plan::read(text, &parent, "plan", &["a.md", "b/c.md"]) {
        Ok(steps) => assert!(steps.len() <= 20 && steps.iter().all(|(step, _)| step.id.starts_with("plan/"))),
        Err(problems) => well_said(text, &problems),
    }
}

fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(problems) = settings::read(Path::new("sandhog.toml"), text, Path::new("/nowhere"), |_| None) {
        well_said(text, &problems);
    }
}

fn case_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(problems) = case::read("case.toml", text, Path::new("/nowhere")) {
        well_said(text, &problems);
    }
}

fn baseline(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match sandhog::check::baseline::Baseline::read(text) {
        Ok(read) => {
            let written = read.text();
            let again = sandhog::check::baseline::Baseline::read(&written).expect("what was written is read");
            assert_eq!(again.text(), written);
        }
        Err(error) => printable("why it is no baseline", &error.to_string()),
    }
}

fn record(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    let written = serde_json::to_string(&record).expect("written");
    let again: Record = serde_json::from_str(&written).expect("what was written is read");
    assert_eq!(serde_json::to_string(&again).expect("written"), written);
}

/// Records of a run, a JSON object a line: folded, as recovery does, whatever their order.
fn history(bytes: &[u8]) {
    let mut run: Option<Run> = None;
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(record) = serde_json::from_slice::<Record>(line) else { continue };
        match &mut run {
            None => run = Run::begin(record.at, &record.event).ok(),
            Some(run) => {
                // An event that does not fit is an error, and nothing else.
                if run.apply(record.at, &record.event).is_err() {
                    return;
                }
                let _ = run.due();
                let _ = decide(run, Input::Cancel { reason: "enough".to_owned() }, record.at);
            }
        }
    }
}

/// A file in the place of the journal.
fn journal_file(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("journal.sqlite"), bytes).expect("written");
    let said = |error: &dyn std::error::Error| printable("what is wrong with a journal", &error.to_string());
    match Sqlite::open(folder.path()) {
        Ok(store) => block_on(async {
            if let Err(error) = store.verify() {
                said(&error);
            }
            match store.runs(None, false, READ_MAX).await {
                Ok(rows) => {
                    for row in rows.iter().take(3) {
                        if let Err(error) = store.read(&row.run, 1, READ_MAX).await {
                            said(&error);
                        }
                    }
                }
                Err(error) => said(&error),
            }
            if let Err(error) = store.differences() {
                said(&error);
            }
        }),
        Err(error) => said(&error),
    }
}

/// An origin in the first line, an address in the second: held against a matcher that is written anew on `url` alone.
fn allowlist(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (origin, address) = text.split_once('\n').unwrap_or((text, text));
    let Ok(url) = Url::parse(address) else { return };
    if let Some(url::Host::Ipv4(ip)) = url.host() {
        let mapped = std::net::IpAddr::V6(ip.to_ipv6_mapped());
        assert_eq!(sandhog::model::outbound::is_public(ip.into()), sandhog::model::outbound::is_public(mapped), "{ip} in other clothes");
    }
    let Ok(allowed) = origin.parse::<Origin>() else { return };
    let shown = allowed.to_string();
    assert_eq!(shown.parse::<Origin>().expect("what is shown is an origin"), allowed, "{origin:?}");
    assert_eq!(allowed.covers(&url), covers(&shown, &url), "{shown} and {url}");
    // What is allowed is what is connected to: written out and read again, it leads to the same place.
    let again = Url::parse(url.as_str()).expect("an address");
    assert_eq!(allowed.covers(&again), allowed.covers(&url), "{url}");
}

fn covers(origin: &str, url: &Url) -> bool {
    let below = origin.contains("://*.");
    let plain = Url::parse(&origin.replace("://*.", "://")).expect("an address");
    let same_place = plain.scheme() == url.scheme() && plain.port_or_known_default() == url.port_or_known_default();
    let (Some(own), Some(other)) = (plain.host_str(), url.host_str()) else { return false };
    let domain = matches!(url.host(), Some(url::Host::Domain(_)));
    let other = if domain { other.strip_suffix('.').unwrap_or(other) } else { other };
    same_place && if below { domain && other.ends_with(&format!(".{own}")) } else { own == other }
}

fn limits(bytes: &[u8]) {
    use sandhog::model::limits::{parse_bytes, parse_duration, parse_fuel, show_bytes, show_fuel};
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse_fuel(text) {
        // What is shown is rounded, at the very end beyond what there is.
        Ok(fuel) => assert!(fuel > u64::MAX / 2 || parse_fuel(&show_fuel(fuel)).is_ok(), "{}", show_fuel(fuel)),
        Err(error) => printable("why it is no fuel", &error.to_string()),
    }
    match parse_bytes(text) {
        Ok(bytes) => assert!(parse_bytes(&show_bytes(bytes)).is_ok(), "{}", show_bytes(bytes)),
        Err(error) => printable("why it is no size", &error.to_string()),
    }
    if let Err(error) = parse_duration(text) {
        printable("why it is no span", &error.to_string());
    }
}

/// Text of guests in errors and logs: one line, printable, bounded.
fn text(bytes: &[u8]) {
    let (max, text) = bytes.split_first().map_or((0, bytes), |(first, rest)| (usize::from(*first) * 8, rest));
    let text = String::from_utf8_lossy(text);
    let line = sandhog::model::text::sanitize(&text, max);
    printable("a line", &line);
    assert!(!line.contains('\n'), "{line:?} is more than a line");
    // An escape of a character that was within the bound, and the marker.
    assert!(line.len() <= max + 64, "{} bytes, and {max} were allowed", line.len());
    assert_eq!(sandhog::model::text::sanitize(&line, usize::MAX), line, "what is safe stays as it is");
    printable("lines", &sandhog::model::text::sanitize_lines(&text, max));
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(sandhog::runtime::Settings::default()).expect("a runtime"))
}

fn tokio() -> &'static tokio::runtime::Runtime {
    static TOKIO: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    TOKIO.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio().block_on(work)
}

fn load(path: &Path) -> Plugin {
    let missing = |error| panic!("{}: {error}: run scripts/guests and scripts/gates first", path.display());
    let bytes = std::fs::read(path).unwrap_or_else(missing);
    // A compiler that is instrumented takes minutes: what it made is kept where that is asked for.
    let kept = std::env::var_os("SANDHOG_FUZZ_CACHE").map(|folder| Path::new(&folder).join(Digest::of(&bytes).to_string()));
    let compiled = match kept.as_ref().and_then(|kept| std::fs::read(kept).ok()) {
        Some(compiled) => compiled,
        None => runtime().compile(&bytes).expect("compiles"),
    };
    if let Some(kept) = kept {
        std::fs::write(kept, &compiled).expect("written");
    }
    runtime().load(&compiled, Digest::of(&bytes)).expect("loads")
}

fn call() -> Call {
    Call { limits: Limits { timeout: Duration::from_secs(120), fuel: 20_000_000_000, ..Limits::default() }, ..Call::default() }
}

/// What a program wrote that is a command plugin: its answer is read by the host.
fn command_output(bytes: &[u8]) {
    static PLUGINS: OnceLock<Vec<Arc<Plugin>>> = OnceLock::new();
    let plugins = PLUGINS.get_or_init(|| {
        let forms = [CommandFindings::Lines, CommandFindings::Jsonl, CommandFindings::Sarif];
        let one = |protocol, findings| {
            let command = CommandPlugin { protocol, findings, ..CommandPlugin::default() };
            Arc::new(load(&root().join("dist/guests/command_repeats.wasm")).with_command(command))
        };
        let mut plugins: Vec<Arc<Plugin>> = forms.map(|findings| one(CommandProtocol::Streams, findings)).into();
        plugins.push(one(CommandProtocol::Jsonl, CommandFindings::Lines));
        plugins
    });
    let Some((which, said)) = bytes.split_first() else { return };
    let plugin = &plugins[usize::from(*which) % plugins.len()];
    let content = Bytes::copy_from_slice(said);
    let artifact = Artifact { name: "said.txt".to_owned(), media_type: String::new(), content };
    let subject = Subject { params: "{}".into(), ..Subject::of(std::slice::from_ref(&artifact)).expect("a subject") };
    well_answered("a command", block_on(runtime().check(plugin, subject, call())).result.map(drop));
    let task = Task { params: "{}".into(), inputs: vec![artifact], attempt: 1, ..Task::default() };
    well_answered("a command", block_on(runtime().run(plugin, task, call())).result.map(drop));
}

/// A guest that others' data make trap has a defect; one that cannot read them says so.
#[track_caller]
fn well_answered(who: &str, result: Result<(), sandhog::model::Failure>) {
    if let Err(failure) = result {
        printable("a failure", &failure.message);
        let own =
            matches!(failure.kind, FailureKind::Transient | FailureKind::Cancelled | FailureKind::ContractViolation) && who == "a command";
        assert!(own || matches!(failure.kind, FailureKind::InvalidInput | FailureKind::Permanent), "{who}: {failure}");
    }
}

/// Where the standard gates lie.
fn gates() -> PathBuf {
    let given = std::env::var_os("SANDHOG_FUZZ_GATES").map(PathBuf::from);
    given.unwrap_or_else(|| std::env::current_exe().expect("a path").ancestors().nth(2).expect("the build folder").join("gates"))
}

/// Reports of other tools, and source files, read by gates in their sandbox.
fn evidence(bytes: &[u8]) {
    const READERS: [(&str, &str); 10] = [
        ("test-evidence", "report.xml"),
        ("test-evidence", "report.tap"),
        ("audit-evidence", "report.sarif"),
        ("audit-evidence", "npm-audit.json"),
        ("perf-evidence", "estimates.json"),
        ("perf-evidence", "bench.txt"),
        ("audit-licences", "Cargo.toml"),
        ("lint-json", "a.json"),
        ("lint-toml", "a.toml"),
        ("lint-yaml", "a.yaml"),
    ];
    static GATES: OnceLock<Vec<Arc<Plugin>>> = OnceLock::new();
    let gates = GATES.get_or_init(|| {
        let mut loaded: Vec<(&str, Arc<Plugin>)> = Vec::new();
        for (gate, _) in READERS {
            let again = loaded.iter().find(|(name, _)| *name == gate).map(|(_, plugin)| Arc::clone(plugin));
            loaded.push((gate, again.unwrap_or_else(|| Arc::new(load(&gates().join(format!("{gate}.wasm")))))));
        }
        loaded.into_iter().map(|(_, plugin)| plugin).collect()
    });
    let Some((which, content)) = bytes.split_first() else { return };
    let which = usize::from(*which) % READERS.len();
    let content = Bytes::copy_from_slice(content);
    let artifact = Artifact { name: READERS[which].1.to_owned(), media_type: String::new(), content };
    let subject = Subject { params: "{}".into(), ..Subject::of(&[artifact]).expect("a subject") };
    well_answered(READERS[which].0, block_on(runtime().check(&gates[which], subject, call())).result.map(drop));
}

/// A database of advisories, beside a lock file that is fine.
fn advisories(bytes: &[u8]) {
    static GATE: OnceLock<Arc<Plugin>> = OnceLock::new();
    let gate = GATE.get_or_init(|| Arc::new(load(&gates().join("audit-dependencies.wasm"))));
    let lock = "version = 4\n\n[[package]]\nname = \"time\"\nversion = \"0.1.40\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"db8dcfca086c1143c9270ac42a2bbd8a7ee477b78ac8e45b19abfb0cbede4b6f\"\n";
    let file = |name: &str, content: Bytes| Artifact { name: name.to_owned(), media_type: String::new(), content };
    let Some((which, content)) = bytes.split_first() else { return };
    let name = ["advisories/a.json", "advisories/a.jsonl", "advisories/all.zip"][usize::from(*which) % 3];
    let data = Snapshot::of(&[file(name, Bytes::copy_from_slice(content))]).expect("data");
    let subject =
        Subject { params: "{}".into(), ..Subject::of(&[file("Cargo.lock", Bytes::from_static(lock.as_bytes()))]).expect("a subject") };
    let subject = Subject { data: Arc::new(data), ..subject };
    well_answered("audit-dependencies", block_on(runtime().check(gate, subject, call())).result.map(drop));
}

fn bodies(bytes: &[u8]) {
    if let Ok(Submission { workflow: Some(text), .. }) = serde_json::from_slice(bytes) {
        workflow_file(text.as_bytes());
    }
    let _ = serde_json::from_slice::<Command>(bytes);
    let _ = serde_json::from_slice::<LetterCommand>(bytes);
}

/// How many panics there were in this process: those of a server's tasks end nothing.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A server in this process, without plugins, its journal in memory.
fn server() -> SocketAddr {
    static SERVER: OnceLock<(SocketAddr, Mutex<Box<dyn Any + Send>>)> = OnceLock::new(); // what serves lives as long as the process
    let start = || {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(info);
        }));
        block_on(async {
            use sandhog::manager::{self, Crew, Options};
            use sandhog::registry::{Registry, compiler::Compiler};
            let settings = sandhog::config::Settings::default();
            let today = "2026-01-01".parse().expect("a day");
            let registry = Arc::new(Registry::open(runtime().clone(), None, Compiler::InProcess, settings, today));
            let crew = Arc::new(Crew::new(runtime().clone(), Arc::clone(&registry)));
            let store = Arc::new(sandhog::journal::Memory::default());
            let clock = Arc::new(sandhog::clock::SystemClock);
            let (handle, running) = manager::start(store, crew, clock, Options::in_memory(2)).await.expect("starts");
            let parts = sandhog::api::Parts {
                handle,
                runtime: runtime().clone(),
                registry,
                concurrency: 2,
                journal: None,
                prepare: Arc::new(|path| Err(sandhog::api::Problem::new(sandhog::api::Code::Invalid, path.display().to_string()))),
            };
            let (service, beside) = sandhog::api::Service::start(parts, sandhog::api::Offer::default());
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let door = sandhog::api::on_network(listen, &service, sandhog::api::Terms::default()).await.expect("listens");
            let address = door.address().expect("an address");
            (address, Mutex::new(Box::new((running, beside, door, service)) as Box<dyn Any + Send>))
        })
    };
    SERVER.get_or_init(start).0
}

/// Sends, and what comes back until the server closes, which it does when it is asked to, or when it finds that its peer has.
fn exchange(sent: &[u8], closes: bool, patience: Duration) -> Vec<u8> {
    let before = PANICS.load(Ordering::SeqCst);
    let mut stream = TcpStream::connect(server()).expect("connects");
    stream.set_read_timeout(Some(patience)).expect("set");
    // A server may answer, and close, before it has read all of what is wrong.
    let _ = stream.write_all(sent);
    if closes {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "a panic in the server");
    answer
}

/// The head of the first answer (a peer may ask for more than one), and its status.
fn head(answer: &[u8]) -> Option<(u16, &str)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    Some((head.split(' ').nth(1)?.parse().ok()?, head))
}

/// The body behind a head that says how long it is.
fn body<'a>(answer: &'a [u8], head: &str) -> Option<&'a [u8]> {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
    answer.get(head.len() + 4..head.len() + 4 + length)
}

/// What a peer may send: a body for one of the routes, or a request as it lies in the wire.
fn requests(bytes: &[u8]) {
    const ROUTES: [&str; 6] = [
        "/v1/runs",
        "/v1/plans",
        "/v1/dead-letters/commands",
        "/v1/session",
        "/v1/runs/01a21a98-8ee9-771c-b3c7-dd4b5e18baba/commands",
        "/mcp",
    ];
    let Some((which, rest)) = bytes.split_first() else { return };
    let route = ROUTES.get(usize::from(*which) % (ROUTES.len() + 1));
    let answer = match route {
        Some(route) => {
            let head = format!(
                "POST {route} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: application/json, text/event-stream\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                rest.len()
            );
            exchange(&[head.as_bytes(), rest].concat(), false, Duration::from_secs(20))
        }
        None => exchange(rest, true, Duration::from_millis(200)),
    };
    let Some((status, head)) = head(&answer) else {
        assert!(route.is_none(), "{}: no answer: {:?}", route.unwrap_or(&""), String::from_utf8_lossy(&answer));
        return;
    };
    assert_ne!(status, 500, "{}", String::from_utf8_lossy(&answer));
    if status >= 400 && head.contains("application/problem+json") {
        let body = body(&answer, head).unwrap_or_else(|| panic!("not all of a problem: {head}"));
        let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {body:?}"));
        assert!(problem["code"].is_string() && problem["request_id"].is_string(), "{problem}");
    }
}

/// What a peer may send over a WebSocket: a text in a frame of its own, then the bytes as they are.
fn frames(bytes: &[u8]) {
    let mut sent = b"GET /v1/live HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let text = String::from_utf8_lossy(bytes);
    let text = &text.as_bytes()[..text.len().min(60_000)];
    sent.push(0x81);
    match text.len() {
        length @ 0..=125 => sent.push(0x80 | length as u8),
        length => {
            sent.push(0x80 | 126);
            sent.extend((length as u16).to_be_bytes());
        }
    }
    sent.extend([0; 4]); // masked with nothing
    sent.extend(text);
    sent.extend(bytes);
    let answer = exchange(&sent, true, Duration::from_secs(20));
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
}
