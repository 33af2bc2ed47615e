//! The sandbox, attacked: one guest per behaviour, each with exactly one outcome, and after each the next healthy task
//! completes. A guest in `tests/guests` without a function of its name here does not compile.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use sandhog::model::snapshot::{Look, Looks, Snapshot};
use sandhog::model::{
    Access, Artifact, Attempt, Blame, Decision, Digest, FailureKind, FileGrant, Grant, Limits, Receipt, Subject, SubjectFile, Task,
};
use sandhog::runtime::{Allocator, Call, Command, CommandFindings, CommandPass, CommandProtocol, Plugin, Runtime, Settings};
use tokio_util::sync::CancellationToken;

#[path = "common/guests.rs"]
mod guests;

use guests::{TLS_PEERS, component, hostile_peer};

include!(concat!(env!("OUT_DIR"), "/guests.rs"));
every_guest_has_a_test!();

/// The one that most guests run in. `tests/isolation.rs` has this file, too: there each attempt is in a process of its own.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let isolate = module_path!().starts_with("isolation").then(|| env!("CARGO_BIN_EXE_sandhog").into());
    RUNTIME.get_or_init(|| Runtime::new(Settings { isolate, ..Settings::default() }).expect("a runtime"))
}

fn load_in(runtime: &Runtime, name: &str) -> Result<Arc<Plugin>, sandhog::runtime::Error> {
    let bytes = component(name);
    let compiled = runtime.compile(&bytes)?;
    runtime.load(&compiled, Digest::of(&bytes)).map(Arc::new)
}

fn load(name: &str) -> Arc<Plugin> {
    load_in(runtime(), name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn task(params: &str) -> Task {
    let input = Artifact { name: "in.txt".into(), media_type: "text/plain".into(), content: Bytes::from_static(b"hello") };
    Task {
        id: "id".into(),
        run: "run".into(),
        step: "step".into(),
        attempt: 3,
        params: params.into(),
        inputs: vec![input],
        ..Task::default()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn limits(change: impl FnOnce(&mut Limits)) -> Call {
    // Far enough that a slow machine reaches the limit that is meant, and no other.
    let mut limits = Limits { timeout: Duration::from_secs(120), ..Limits::default() };
    change(&mut limits);
    Call { limits, ..Call::default() }
}

fn defaults() -> Call {
    limits(|_| {})
}

fn real_clock() -> Arc<Grant> {
    Arc::new(Grant { clock: true, ..Grant::default() })
}

fn run_with(name: &str, params: &str, call: Call) -> Attempt<Vec<Artifact>> {
    let ended = block_on(runtime().run(&load(name), task(params), call));
    healthy();
    ended
}

/// The next healthy task completes.
fn healthy() {
    static HEALTHY: OnceLock<Arc<Plugin>> = OnceLock::new();
    let plugin = HEALTHY.get_or_init(|| load("behaves"));
    let ended = block_on(runtime().run(plugin, task("{}"), defaults()));
    assert_eq!(ended.result.expect("completes")[0].content, "hello");
}

#[track_caller]
fn fails(name: &str, call: Call, kind: FailureKind) -> Attempt<Vec<Artifact>> {
    let (plugin, deadline) = (load(name), call.limits.timeout);
    let watch = std::time::Instant::now();
    let ended = block_on(runtime().run(&plugin, task("{}"), call));
    let took = watch.elapsed();
    healthy();
    let failure = ended.result.as_ref().expect_err("it has no answer");
    if kind == FailureKind::DeadlineExceeded {
        // A second is promised on a machine of one's own.
        assert!(took < deadline + Duration::from_secs(5), "{name}: {took:?} after the start");
    }
    assert_eq!(failure.kind, kind, "{name}: {failure}");
    assert!(failure.message.len() <= 5000, "the message is capped");
    assert!(!failure.message.contains('\u{1b}'), "the message is escaped");
    ended
}

/// Fuel without end, and a tenth of a second.
fn endless() -> Call {
    limits(|l| (l.fuel, l.timeout) = (u64::MAX / 2, Duration::from_millis(100)))
}

#[track_caller]
fn text(ended: &Attempt<Vec<Artifact>>) -> &str {
    std::str::from_utf8(&ended.result.as_ref().expect("completes")[0].content).expect("text")
}

#[test]
fn behaves() {
    let ended = run_with("behaves", "{}", defaults());
    assert_eq!(text(&ended), "hello");
    let Receipt { fuel, peak_memory_bytes, wall_time, bytes_in, bytes_out } = ended.receipt;
    assert!(fuel > 1000 && peak_memory_bytes >= 1 << 20 && !wall_time.is_zero());
    assert_eq!((bytes_in, bytes_out), (6 + 10 + 5 + 2, 6 + 10 + 5));
}

#[test]
fn an_answer_behind_the_deadline_is_late_however_little() {
    fails("behaves", limits(|l| l.timeout = Duration::from_nanos(1)), FailureKind::DeadlineExceeded);
}

#[test]
fn tells_all() {
    let ended = run_with("tells_all", "{}", defaults());
    let told = text(&ended);
    assert!(told.contains("id: \"\"") && told.contains("run: \"\"") && told.contains("attempt: 1"), "what differs is hidden: {told}");
    assert!(told.contains("[] [] "), "no variable and no argument: {told}");
    assert!(told.contains("3600."), "an hour of virtual sleep went by: {told}");
    let mut all = vec![(ended.receipt.fuel, ended.receipt.peak_memory_bytes, told.to_owned())];
    for allocator in [Allocator::Pooling, Allocator::OnDemand] {
        for threads in [1, 2] {
            let runtime = Runtime::new(Settings { allocator, threads, ..Settings::default() }).expect("a runtime");
            assert_eq!(runtime.is_pooled(), allocator == Allocator::Pooling);
            let plugin = load_in(&runtime, "tells_all").expect("loads");
            for _ in 0..2 {
                let again = block_on(runtime.run(&plugin, task("{}"), defaults()));
                all.push((again.receipt.fuel, again.receipt.peak_memory_bytes, text(&again).to_owned()));
            }
        }
    }
    for again in &all[1..] {
        assert_eq!(*again, all[0], "equal runs give equal bits and equal fuel");
    }
    // Another input gives other randomness; a grant of clock and randomness lifts the veil.
    let other = run_with("tells_all", "{\"other\":1}", defaults());
    assert_ne!(text(&other).lines().nth(2), all[0].2.lines().nth(2));
    let granted = Grant { randomness: true, ..Grant::default() };
    let real = run_with("tells_all", "{}", Call { grant: Arc::new(granted), ..defaults() });
    assert!(text(&real).contains("attempt: 3") && text(&real).contains("id: \"id\""));
}

#[test]
fn asks_for_fuel() {
    let ended = run_with("asks_for_fuel", "{}", defaults());
    let told: Vec<u64> = text(&ended).split(' ').map(|number| number.parse().expect("a number")).collect();
    assert!(told[0] > 0 && told[0] < ended.receipt.fuel, "{told:?} of {}", ended.receipt.fuel);
    assert!(told[1] > 1_000 && told[2] > 9 * told[1] && told[2] < 11 * told[1], "ten times the work, ten times the fuel: {told:?}");
    assert_eq!(text(&run_with("asks_for_fuel", "{}", limits(|l| l.fuel *= 2))), text(&ended), "whatever the limit is");
}

/// A server on loopback: counts who connects, keeps what it was sent, and answers, or never does.
fn server(answers: bool) -> (u16, Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let there = Arc::clone(&heard);
    // Ends with the process: it only waits.
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap_or(0);
            let head = String::from_utf8_lossy(&bytes[..length]).into_owned();
            // Who closes before all is read resets the connection.
            let body = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok());
            let begun = head.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len() as u64);
            let _ = std::io::copy(&mut (&mut stream).take(body.map_or(0, |all| all.saturating_sub(begun))), &mut std::io::sink());
            there.lock().expect("not poisoned").push(head);
            if answers {
                let _ = stream
                    .write_all(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nx-echo: the host's\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
            } else {
                silent.push(stream);
            }
        }
    });
    (port, heard)
}

fn outbound(origins: &[String]) -> Arc<Grant> {
    let grant = |origin: &String| sandhog::model::OutboundGrant { origin: origin.parse().expect("an origin"), private: false };
    let secret = sandhog::model::Secret {
        name: "s".into(),
        host: "127.0.0.1".into(),
        header: "x-api-key".into(),
        prefix: String::new(),
        value: "the host's".into(),
    };
    Arc::new(Grant { outbound: origins.iter().map(grant).collect(), secrets: vec![secret], ..Grant::default() })
}

#[test]
fn calls_out() {
    let (port, heard) = server(true);
    let call = |urls: &[String], origins: &[String]| {
        let params = serde_json::json!({ "urls": urls }).to_string();
        text(&run_with("calls_out", &params, Call { grant: outbound(origins), ..defaults() })).to_owned()
    };
    // No spelling of it is granted to a plugin that is granted nothing, or something else.
    let spellings: Vec<String> =
        ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "127.0.0.1."]
            .iter()
            .map(|host| format!("http://{host}:{port}/"))
            .collect();
    for origins in [
        vec![],
        vec!["https://api.example.com".to_owned()],
        vec![format!("https://127.0.0.1:{port}")],
        vec![format!("http://127.0.0.1:{}", port ^ 1)],
    ] {
        let told = call(&spellings, &origins);
        assert!(told.lines().all(|line| line.starts_with("denied") || line.starts_with("failed")), "{origins:?}: {told}");
    }
    assert_eq!(heard.lock().expect("not poisoned").len(), 0, "nobody was connected to");
    // What is granted is granted in any spelling; redirects are not followed; what is the host's to set is set by the host.
    let origin = format!("http://127.0.0.1:{port}");
    let told = call(&[format!("{origin}/a"), format!("http://0x7f.1:{port}/b")], &[origin]);
    assert_eq!(told, "302 hi**********\n302 hi**********\n", "and what its secret is does not come back");
    // What is sent has a bound over all requests of an attempt.
    for (size, ends) in [(16 << 20, "302 hi"), ((16 << 20) + 1, "failed ")] {
        let params = serde_json::json!({ "urls": [format!("http://127.0.0.1:{port}/")], "body_bytes": size }).to_string();
        let call = Call { grant: outbound(&[format!("http://127.0.0.1:{port}")]), ..limits(|l| l.fuel *= 10) };
        let ended = run_with("calls_out", &params, call);
        assert!(text(&ended).starts_with(ends), "{size}: {}", text(&ended));
    }
    let heard = heard.lock().expect("not poisoned").join("\n").to_ascii_lowercase();
    assert_eq!(heard.matches(&format!("host: 127.0.0.1:{port}")).count(), 3, "{heard}");
    assert!(heard.contains("x-api-key: the host's") && !heard.contains("mine") && !heard.contains("elsewhere"), "{heard}");
    // A name that means a private address is not connected to unless it is named so.
    let told = call(&[format!("http://localhost.localdomain.:{port}/")], &[format!("http://localhost.localdomain:{port}")]);
    assert!(!told.starts_with("302"), "{told}");
    // A server that keeps silent does not keep the deadline.
    let (silent, _) = server(false);
    let params = serde_json::json!({ "urls": [format!("http://127.0.0.1:{silent}/")] }).to_string();
    let late = run_with(
        "calls_out",
        &params,
        Call { grant: outbound(&[format!("http://127.0.0.1:{silent}")]), ..limits(|l| l.timeout = Duration::from_millis(300)) },
    );
    assert_eq!(late.result.expect_err("late").kind, FailureKind::DeadlineExceeded);
    assert!(late.receipt.wall_time < Duration::from_millis(1300), "{:?}", late.receipt.wall_time);
}

#[test]
fn fails_as_told() {
    for (kind, blame) in [
        (FailureKind::Transient, Blame::Guest),
        (FailureKind::Permanent, Blame::Guest),
        (FailureKind::Cancelled, Blame::Host),
        (FailureKind::InvalidInput, Blame::Guest),
    ] {
        let failure = run_with("fails_as_told", &format!("{{\"kind\":\"{kind}\"}}"), defaults()).result.expect_err("fails");
        assert_eq!((failure.kind, failure.kind.blame()), (kind, blame));
    }
    // Params that do not fit the worker's own type.
    let failure = run_with("fails_as_told", "{}", defaults()).result.expect_err("fails");
    assert_eq!(failure.kind, FailureKind::InvalidInput);
    assert!(failure.message.contains("missing field `kind`"), "{failure}");
}

#[test]
fn spins() {
    let ended = fails("spins", limits(|l| l.fuel = 50_000_000), FailureKind::OutOfFuel);
    assert_eq!(ended.receipt.fuel, 50_000_000);
    let ended = fails("spins", limits(|l| (l.fuel, l.timeout) = (u64::MAX / 2, Duration::from_millis(200))), FailureKind::DeadlineExceeded);
    assert!(ended.receipt.fuel >= 10_000_000, "what it used until its end is told: {:?}", ended.receipt);
}

#[test]
fn spins_in_start() {
    fails("spins_in_start", limits(|l| l.fuel = 50_000_000), FailureKind::OutOfFuel);
    fails("spins_in_start", endless(), FailureKind::DeadlineExceeded);
}

#[test]
fn spins_after_return() {
    fails("spins_after_return", limits(|l| l.fuel = 50_000_000), FailureKind::OutOfFuel);
    fails("spins_after_return", endless(), FailureKind::DeadlineExceeded);
}

#[test]
fn traps_after_return() {
    fails("traps_after_return", defaults(), FailureKind::Trapped);
}

#[test]
fn spins_in_realloc() {
    fails("spins_in_realloc", limits(|l| l.fuel = 50_000_000), FailureKind::OutOfFuel);
    fails("spins_in_realloc", endless(), FailureKind::DeadlineExceeded);
}

#[test]
fn spins_in_destructor() {
    fails("spins_in_destructor", limits(|l| l.fuel = 50_000_000), FailureKind::OutOfFuel);
    fails("spins_in_destructor", endless(), FailureKind::DeadlineExceeded);
}

#[test]
fn copies_forever() {
    // Bulk operations cost a unit a byte; what one of them takes is within the deadline's second.
    fails("copies_forever", limits(|l| l.fuel = 1_000_000_000), FailureKind::OutOfFuel);
    let ended = fails(
        "copies_forever",
        limits(|l| (l.fuel, l.timeout) = (u64::MAX / 2, Duration::from_millis(200))),
        FailureKind::DeadlineExceeded,
    );
    assert!(ended.receipt.wall_time < Duration::from_millis(1200), "{:?}", ended.receipt.wall_time);
}

#[test]
fn calls_in_start() {
    fails("calls_in_start", limits(|l| l.fuel = 50_000_000), FailureKind::OutOfFuel);
}

#[test]
fn calls_in_realloc() {
    fails("calls_in_realloc", defaults(), FailureKind::ContractViolation);
}

#[test]
fn calls_after_return() {
    fails("calls_after_return", defaults(), FailureKind::ContractViolation);
}

#[test]
fn lies_about_memory() {
    fails("lies_about_memory", defaults(), FailureKind::ContractViolation);
}

#[test]
fn calls_host() {
    for what in ["log", "progress", "cancelled", "fuel", "clock", "random", "files", "stdout"] {
        let call = limits(|l| (l.fuel, l.scratch) = (100_000_000, 1 << 20));
        let ended = run_with("calls_host", &format!("{{\"what\":\"{what}\"}}"), call);
        assert_eq!(ended.result.expect_err("it never ends").kind, FailureKind::OutOfFuel, "{what}");
        let kept: usize = ended.log.lines.iter().map(|line| line.text.len()).sum();
        assert!(kept <= 1 << 20, "{what}: {kept} bytes are kept");
    }
}

#[test]
fn says_too_much() {
    let say = |what: &str, bytes: usize| {
        let params = serde_json::json!({ "what": what, "bytes": bytes }).to_string();
        run_with("says_too_much", &params, limits(|l| (l.memory, l.output, l.scratch) = (256 << 20, 1 << 20, 1 << 20)))
    };
    // Just under what one call may carry, and over it.
    for what in ["log", "progress", "path", "name", "header"] {
        let under = say(what, 1 << 19).result.map_err(|failure| failure.kind);
        // Headers have a bound of their own, and who goes over it is ended.
        assert_eq!(under.map(|_| ()), if what == "header" { Err(FailureKind::ContractViolation) } else { Ok(()) }, "{what}");
        assert_eq!(say(what, 32 << 20).result.expect_err("too much").kind, FailureKind::OutputLimit, "{what}");
    }
    assert_eq!(text(&say("log", 1 << 19)), "true");
    assert_eq!(text(&say("header", 30 << 10)), "true");
    assert_eq!(text(&say("name", 1 << 10)), "false", "as long as no name may be");
    assert_eq!(say("random", 32 << 20).result.expect_err("too much").kind, FailureKind::ContractViolation);
    // A stream takes what it is permitted, again and again.
    let streamed = say("stdout", 32 << 20);
    assert_eq!((text(&streamed), streamed.log.dropped_bytes > 31 << 20), ("true", true));
}

#[test]
fn breaks_folder() {
    let outer = tempfile::tempdir().expect("a folder");
    std::fs::write(outer.path().join("secret.txt"), "secret").expect("writes");
    std::fs::create_dir(outer.path().join("other")).expect("makes");
    let granted = outer.path().join("granted");
    std::fs::create_dir(&granted).expect("makes");
    let files = vec![FileGrant { path: granted.clone(), at: "/granted".into(), access: Access::ReadWrite }];
    let call = || Call { grant: Arc::new(Grant { files: files.clone(), ..Grant::default() }), ..defaults() };
    let failure = run_with("breaks_folder", r#"{"writes_at_once":true}"#, call()).result.expect_err("it is not taken");
    assert_eq!(failure.kind, FailureKind::ContractViolation, "{failure}");
    let ended = run_with("breaks_folder", "{}", call());
    insta::assert_snapshot!(text(&ended), @r"
    written: true
    a link absolute is made: false
    a link absolute is read: false
    a link absolute is written: true
    a link absolute is gone through: false
    a link upwards is made: true
    a link upwards is read: false
    a link upwards is written: false
    a link upwards is gone through: false
    a link to a folder is made: true
    a link to a folder is read: false
    a link to a folder is written: false
    a link to a folder is gone through: false
    a link to itself is made: true
    a link to itself is read: false
    a link to itself is written: false
    a link to itself is gone through: false
    a file is put outside: false
    a file is moved outside: false
    a file is moved in: false
    a folder is made outside: false
    a folder is removed outside: false
    a deep tree is made: true
    odd names are taken: true
    many files are made: true
    it is listed by its own handle: true
    forty listings are open at once: true
    a listing has all of them: true
    a sparse file is made: true
    ");
    // Nothing outside has come, gone or changed.
    let names: std::collections::BTreeSet<String> = std::fs::read_dir(outer.path())
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["granted", "other", "secret.txt"]);
    assert_eq!(std::fs::read_to_string(outer.path().join("secret.txt")).expect("reads"), "secret");
}

#[test]
fn forges_findings() {
    let verdict = block_on(runtime().check(&load("forges_findings"), subject(&[("a", "")]), defaults())).result.expect("a verdict");
    assert_eq!((verdict.decision, verdict.findings.len()), (Decision::Fail, 7), "what it says is kept; who shows it makes it safe");
}

#[test]
fn drains_peer() {
    let port = hostile_peer();
    let origin = format!("http://127.0.0.1:{port}");
    let ask = |path: &str, call: Call| {
        let params = serde_json::json!({ "url": format!("{origin}{path}") }).to_string();
        run_with("drains_peer", &params, Call { grant: outbound(std::slice::from_ref(&origin)), ..call })
    };
    let told = |path: &str| text(&ask(path, defaults())).to_owned();
    let endless = told("/endless");
    assert!(endless.starts_with("200: 327") && endless.ends_with("exceeds limit: 33554432 bytes"), "32 MiB, and no more: {endless}");
    for path in ["/headers", "/header", "/garbage", "/length", "/silent"] {
        assert!(told(path).starts_with("no response: "), "{path}: {}", told(path));
    }
    for path in ["/short", "/chunks"] {
        assert!(told(path).starts_with("200: 0 KiB, then "), "{path}: {}", told(path));
    }
    for path in ["/drip", "/interim"] {
        let late = ask(path, limits(|l| l.timeout = Duration::from_millis(500)));
        assert_eq!(late.result.expect_err("it never ends").kind, FailureKind::DeadlineExceeded, "{path}");
        assert!(late.receipt.wall_time < Duration::from_millis(1500), "{path}: {:?}", late.receipt.wall_time);
    }
    let [silent, drips, endless, clear] = TLS_PEERS.map(|address| format!("https://{address}:{port}"));
    let shake = |origin: &String| {
        let params = serde_json::json!({ "url": origin }).to_string();
        let call = Call { grant: outbound(std::slice::from_ref(origin)), ..limits(|l| l.timeout = Duration::from_millis(500)) };
        run_with("drains_peer", &params, call)
    };
    for origin in [silent, drips] {
        assert_eq!(shake(&origin).result.expect_err("it never ends").kind, FailureKind::DeadlineExceeded, "{origin}");
    }
    for origin in [endless, clear] {
        assert!(text(&shake(&origin)).starts_with("no response: "), "{origin}: {}", text(&shake(&origin)));
    }
}

#[test]
fn abandons_requests() {
    let authority = format!("127.0.0.1:{}", hostile_peer());
    let params = serde_json::json!({ "authority": authority }).to_string();
    let ended = run_with("abandons_requests", &params, Call { grant: outbound(&[format!("http://{authority}")]), ..defaults() });
    assert_eq!(text(&ended), "200", "requests that nobody waits for hold no place");
    let params = serde_json::json!({ "authority": authority, "keeps": true }).to_string();
    let ended = run_with("abandons_requests", &params, Call { grant: outbound(&[format!("http://{authority}")]), ..defaults() });
    assert_eq!(text(&ended), "4 answered, 16 refused", "so many are under way at once");
}

#[test]
fn recurses() {
    fails("recurses", defaults(), FailureKind::StackOverflow);
}

#[test]
fn allocates_fast() {
    let ended = fails("allocates_fast", defaults(), FailureKind::MemoryLimit);
    assert!(ended.receipt.peak_memory_bytes <= 64 << 20);
    // With the memory that it asks for, it completes: the limit is what stopped it.
    assert_eq!(text(&run_with("allocates_fast", "{}", limits(|l| l.memory = 1100 << 20))), (1 << 30).to_string());
}

#[test]
fn allocates_slowly() {
    let ended = fails("allocates_slowly", limits(|l| l.memory = 8 << 20), FailureKind::MemoryLimit);
    assert!((7 << 20..=8 << 20).contains(&ended.receipt.peak_memory_bytes), "{:?}", ended.receipt);
}

#[test]
fn many_memories() {
    fails("many_memories", defaults(), FailureKind::MemoryLimit);
    let ended = run_with("many_memories", "{}", limits(|l| l.memory = 80 << 20));
    assert!(ended.result.is_ok(), "just under its limit it runs: {:?}", ended.result);
    assert_eq!(ended.receipt.peak_memory_bytes, 80 << 20);
}

#[test]
fn two_components() {
    for allocator in [Allocator::Pooling, Allocator::OnDemand] {
        let runtime = Runtime::new(Settings { allocator, in_flight: 2, ..Settings::default() }).expect("a runtime");
        let plugin = load_in(&runtime, "two_components").expect("loads");
        assert_eq!(plugin.kind(), sandhog::runtime::Kind::Command);
    }
    let ended = run_with("two_components", "{}", defaults());
    assert!(ended.result.is_ok(), "{:?}", ended.result);
}

#[test]
fn too_many_memories() {
    for allocator in [Allocator::Pooling, Allocator::OnDemand] {
        let runtime = Runtime::new(Settings { allocator, in_flight: 2, ..Settings::default() }).expect("a runtime");
        let error = load_in(&runtime, "too_many_memories").expect_err("it is refused before it is run");
        assert!(error.to_string().contains("40"), "{error}");
    }
}

#[test]
fn too_many_instances() {
    let error = load_in(runtime(), "too_many_instances").expect_err("it is refused before it is run");
    assert!(error.to_string().contains("instances"), "{error}");
}

#[test]
fn grows_table() {
    let ended = fails("grows_table", defaults(), FailureKind::MemoryLimit);
    assert!(ended.result.expect_err("refused").message.contains("65536 elements"));
}

#[test]
fn sleeps() {
    // A sleep on the virtual clock is over at once; on the real one it ends at the deadline.
    assert_eq!(text(&run_with("sleeps", "{}", defaults())), "up");
    let call = Call { grant: real_clock(), ..limits(|l| l.timeout = Duration::from_millis(50)) };
    fails("sleeps", call, FailureKind::DeadlineExceeded);
}

#[test]
fn polls_forever() {
    let call = Call { grant: real_clock(), ..limits(|l| l.timeout = Duration::from_millis(100)) };
    fails("polls_forever", call, FailureKind::DeadlineExceeded);
    fails("polls_forever", limits(|l| l.fuel = 10_000_000), FailureKind::OutOfFuel);
}

#[test]
fn reads_stdin() {
    assert_eq!(text(&run_with("reads_stdin", "{}", defaults())), "0 bytes");
}

#[test]
fn floods_stdout() {
    let ended = run_with("floods_stdout", "{}", defaults());
    assert_eq!(ended.result.map(|artifacts| artifacts.len()), Ok(0));
    let kept: usize = ended.log.lines.iter().map(|line| line.text.len()).sum();
    assert!(kept <= 1 << 20, "{kept} bytes are kept");
    assert!(ended.log.gap_at.is_some());
    assert_eq!(ended.log.dropped_bytes + kept as u64, 2 * 50_000 * 1023, "what is dropped is counted");
}

#[test]
fn floods_log() {
    let ended = run_with("floods_log", "{}", defaults());
    assert_eq!(ended.result.map(|artifacts| artifacts.len()), Ok(0));
    assert_eq!(ended.log.lines[0].text, "0 \\u{1b}[31mred\\nerror: forged \\u{202e}", "a line cannot be forged");
    assert!(ended.log.lines.iter().map(|line| line.text.len()).sum::<usize>() <= 1 << 20);
    assert!(ended.log.lines.last().is_some_and(|line| line.text.starts_with("yyyy") && line.text.len() < 9000));
}

#[test]
fn returns_too_much() {
    let size = |bytes: usize| format!("{{\"bytes\":{bytes}}}");
    let under = run_with("returns_too_much", &size(16 << 20), limits(|l| l.memory = 256 << 20));
    assert_eq!(under.receipt.bytes_out, 16 << 20);
    assert!(under.result.is_ok(), "just under the limit");
    for over in [(16 << 20) + 1, 40 << 20] {
        let ended = run_with("returns_too_much", &size(over), limits(|l| l.memory = 256 << 20));
        assert_eq!(ended.result.map(|_| ()).map_err(|f| f.kind), Err(FailureKind::OutputLimit), "{over} bytes");
    }
}

#[test]
fn returns_many() {
    fails("returns_many", limits(|l| (l.output, l.memory) = (1 << 20, 256 << 20)), FailureKind::OutputLimit);
}

#[test]
fn returns_long_type() {
    for bytes in ["256", "15728640"] {
        let ended = run_with("returns_long_type", &format!("{{\"bytes\":{bytes}}}"), defaults());
        assert_eq!(ended.result.map(|_| ()).map_err(|f| f.kind), Err(FailureKind::ContractViolation), "{bytes} bytes");
    }
}

#[test]
fn floods_verdict() {
    let of = |bytes: u32| {
        let subject = Subject { params: format!("{{\"bytes\":{bytes}}}").into(), ..subject(&[("a", "")]) };
        block_on(runtime().check(&load("floods_verdict"), subject, defaults())).result.map(|_| ()).map_err(|failure| failure.kind)
    };
    assert_eq!(of(12 << 20), Ok(()), "it is within the limit; what a record of it may take is the manager's");
    assert_eq!(of(17 << 20), Err(FailureKind::OutputLimit));
}

#[test]
fn returns_crumbs() {
    let ended = run_with("returns_crumbs", "{}", defaults());
    assert_eq!(ended.result.expect("an answer").len(), 20_000);
    assert!(ended.receipt.bytes_out < 1 << 20, "{}", ended.receipt.bytes_out);
}

#[test]
fn returns_aliases() {
    fails("returns_aliases", defaults(), FailureKind::OutputLimit);
}

#[test]
fn leaks_handles() {
    fails("leaks_handles", defaults(), FailureKind::HandleLimit);
    // Each of them is two: what is polled, and what that waits for.
    let keeps = |count: u32| run_with("leaks_handles", &serde_json::json!({ "count": count }).to_string(), limits(|l| l.handles = 64));
    assert_eq!(text(&keeps(32)), "32");
    assert_eq!(keeps(33).result.expect_err("one more").kind, FailureKind::HandleLimit);
}

#[test]
fn leaks_component_handles() {
    fails("leaks_component_handles", defaults(), FailureKind::HandleLimit);
}

#[test]
fn exits() {
    fails("exits", defaults(), FailureKind::Exited);
}

#[test]
fn panics() {
    let ended = fails("panics", defaults(), FailureKind::Trapped);
    assert!(ended.log.lines.iter().all(|line| !line.text.contains('\u{1b}')));
}

#[test]
fn traps_unreachable() {
    fails("traps_unreachable", defaults(), FailureKind::Trapped);
}

#[test]
fn traps_divide() {
    fails("traps_divide", defaults(), FailureKind::Trapped);
}

#[test]
fn traps_overflow() {
    fails("traps_overflow", defaults(), FailureKind::Trapped);
}

#[test]
fn traps_conversion() {
    fails("traps_conversion", defaults(), FailureKind::Trapped);
}

#[test]
fn traps_out_of_bounds() {
    fails("traps_out_of_bounds", defaults(), FailureKind::Trapped);
}

#[test]
fn traps_table() {
    fails("traps_table", defaults(), FailureKind::Trapped);
}

#[test]
fn traps_null_call() {
    fails("traps_null_call", defaults(), FailureKind::Trapped);
}

#[test]
fn traps_signature() {
    fails("traps_signature", defaults(), FailureKind::Trapped);
}

#[test]
fn lies_about_result() {
    fails("lies_about_result", defaults(), FailureKind::ContractViolation);
}

#[test]
fn lies_about_text() {
    fails("lies_about_text", defaults(), FailureKind::ContractViolation);
}

#[test]
fn lies_about_discriminant() {
    fails("lies_about_discriminant", defaults(), FailureKind::ContractViolation);
}

#[test]
fn names_badly() {
    let deep = format!("[\"{}\"]", ["a"; 33].join("/"));
    for names in [r#"["../a"]"#, r#"["/etc/passwd"]"#, r#"["a","a"]"#, r#"["a","a/b"]"#, r#"["a\nb"]"#, r#"[""]"#, &deep] {
        let ended = run_with("names_badly", &format!("{{\"names\":{names}}}"), defaults());
        assert_eq!(ended.result.map(|_| ()).map_err(|f| f.kind), Err(FailureKind::ContractViolation), "{names}");
    }
    assert!(run_with("names_badly", r#"{"names":["a/b","a/c","d"]}"#, defaults()).result.is_ok());
}

#[test]
fn fills_memory() {
    fails("fills_memory", limits(|l| l.fuel = 2_000_000_000), FailureKind::OutOfFuel);
}

#[test]
fn wants_randomness() {
    fails("wants_randomness", defaults(), FailureKind::ContractViolation);
}

#[test]
fn opens_sockets() {
    let (port, heard) = server(true);
    assert_eq!(text(&run_with("opens_sockets", &format!("{{\"port\":{port}}}"), defaults())), "false false false");
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).expect("somebody listens"));
    while heard.lock().expect("not poisoned").is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(*heard.lock().expect("not poisoned"), [""], "nobody was connected to, but by this test");
}

#[test]
fn escapes_folder() {
    let outer = tempfile::tempdir().expect("a folder");
    std::fs::write(outer.path().join("secret.txt"), "secret").expect("writes");
    let granted = outer.path().join("granted");
    std::fs::create_dir(&granted).expect("makes");
    std::fs::write(granted.join("inside.txt"), "inside").expect("writes");
    std::os::unix::fs::symlink(outer.path().join("secret.txt"), granted.join("link")).expect("links");
    std::os::unix::fs::symlink(outer.path(), granted.join("linked")).expect("links");
    let grant = Grant { files: vec![FileGrant { path: granted.clone(), at: "/granted".into(), access: Access::Read }], ..Grant::default() };
    let ended = run_with("escapes_folder", "{}", Call { grant: Arc::new(grant), ..defaults() });
    let found = text(&ended);
    assert!(found.contains("inside Ok(\"inside\")"), "{found}");
    assert!(!found.contains("true"), "a way out, or a way to write: {found}");
    // Without a grant there is nothing at all.
    assert!(text(&run_with("escapes_folder", "{}", defaults())).contains("inside Err"));
}

#[test]
fn fills_scratch() {
    assert_eq!(text(&run_with("fills_scratch", "{}", defaults())), "no folder\n", "there is none unless it is asked for");
    let ended = run_with("fills_scratch", "{}", limits(|l| l.scratch = 1 << 20));
    insta::assert_snapshot!(text(&ended), @r"
    at first: []
    written: Jello, world
    cut: 4 bytes
    moved: [a c] | [] | [one.txt]
    by a reader: false, outside: false, linked: false
    over a full folder: Directory not empty (os error 55)
    bytes: 1015 KiB, then: I/O error (os error 29)
    while the removed one is open: I/O error (os error 29)
    when it is closed: the room is back
    with a hole: 34359738371 bytes
    too long: File too large (os error 22)
    names: some, then: No space left on device (os error 51)
    later is newer: true
    ");
    // Two instances share nothing, and agree.
    let again = run_with("fills_scratch", "{}", limits(|l| l.scratch = 1 << 20));
    assert_eq!((text(&again), again.receipt.fuel), (text(&ended), ended.receipt.fuel));
}

#[test]
fn asks_whether_cancelled() {
    block_on(async {
        let cancel = CancellationToken::new();
        let told = cancel.clone();
        // The guest's own first word cancels it: no time is guessed.
        let progress: sandhog::runtime::Progress = Arc::new(move |fraction, note| {
            assert_eq!((fraction, note), (0.25, "waiting to be cancelled"));
            told.cancel();
        });
        let call = Call { cancel, progress: Some(progress), ..limits(|l| l.fuel = u64::MAX / 2) };
        let ended = runtime().run(&load("asks_whether_cancelled"), task("{}"), call).await;
        let failure = ended.result.expect_err("cancelled");
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Cancelled, "the plugin stopped as it was asked to"));
        // One that does not ask is ended.
        let cancel = CancellationToken::new();
        cancel.cancel();
        let call = Call { cancel, ..defaults() };
        let ended = runtime().run(&load("spins"), task("{}"), call).await;
        assert_eq!(ended.result.expect_err("cancelled").kind, FailureKind::Cancelled);
    });
    healthy();
}

fn subject(files: &[(&str, &'static str)]) -> Subject {
    let files = files.iter().map(|(name, text)| Artifact {
        name: (*name).into(),
        media_type: String::new(),
        content: Bytes::from_static(text.as_bytes()),
    });
    Subject::of(&files.collect::<Vec<_>>()).expect("a subject")
}

#[test]
fn judges_files() {
    let plugin = load("judges_files");
    let subject =
        Subject { task: Some(task("{}").into()), usage: Some(Receipt::default()), ..subject(&[("b/two.txt", "two"), ("a.txt", "one")]) };
    let verdict = block_on(runtime().check(&plugin, subject.clone(), defaults())).result.expect("a verdict");
    assert_eq!(verdict.decision, Decision::Pass);
    assert_eq!(verdict.summary, "written false, outside false, inputs 1, usage true");
    let saw: Vec<_> = verdict.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(saw, ["3 bytes: one", "3 bytes: two"], "sorted by path");
    // A worker is no gate, and a gate no worker.
    let failure = block_on(runtime().check(&load("behaves"), subject, defaults())).result.expect_err("no gate");
    assert_eq!(failure.kind, FailureKind::InvalidInput);
    let failure = block_on(runtime().run(&plugin, task("{}"), defaults())).result.expect_err("no worker");
    assert_eq!(failure.kind, FailureKind::InvalidInput);
}

#[test]
fn explores_subject() {
    let files = [("src/deep/c.txt", "deep"), ("a.txt", "one"), ("src/b.txt", "12345")];
    let looks = Looks::default();
    let call = Call { looks: Some(looks.clone()), ..defaults() };
    let verdict = block_on(runtime().check(&load("explores_subject"), subject(&files), call)).result.expect("a verdict");
    let said: Vec<String> = verdict.findings.iter().map(|f| format!("{}: {}", f.rule, f.message)).collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    root: a.txt src
    folder: b.txt deep
    not-a-folder: NotADirectory
    metadata: 4 bytes, file true, at 1577836800
    read src/../a.txt: one
    read ./src//deep/./c.txt: deep
    read src/deep/../../a.txt: one
    read a.txt/: NotADirectory
    read a.txt/b: NotADirectory
    read none/../a.txt: NotFound
    read ../subject/a.txt: PermissionDenied
    read src/../../etc/passwd: PermissionDenied
    read : IsADirectory
    read /a.txt: one
    read none: NotFound
    seek: 345, 0 bytes beyond the end
    changed:
    ");
    let content: Vec<Look> = looks.take().expect("a record").into_iter().filter(|look| matches!(look, Look::Content(_))).collect();
    assert_eq!(content, ["a.txt", "src/b.txt", "src/deep/c.txt"].map(|path| Look::Content(path.into())));
}

#[test]
fn judges_units() {
    let plugin = load("judges_units");
    assert!(plugin.has_units());
    let units = block_on(runtime().units(&plugin, subject(&[("good", ""), ("loops", "")]), defaults())).result;
    assert_eq!(units.expect("units"), ["good", "loops"]);
    let of_unit = |unit: &str| Subject { unit: Some(unit.into()), ..subject(&[("good", "")]) };
    let loops = block_on(runtime().check(&plugin, of_unit("loops"), limits(|l| l.fuel = 10_000_000))).result;
    assert_eq!(loops.expect_err("it loops").kind, FailureKind::OutOfFuel);
    let bad = block_on(runtime().check(&plugin, of_unit("bad"), defaults())).result.expect("a verdict");
    assert_eq!(bad.decision, Decision::Fail);
}

#[test]
fn finds_todos() {
    let judge = |text| block_on(runtime().check(&load("finds_todos"), subject(&[("a.md", text)]), defaults())).result.expect("a verdict");
    assert_eq!(judge("all done").decision, Decision::Pass);
    let rejected = judge("TODO: the rest");
    assert_eq!((rejected.decision, rejected.findings[0].rule.as_str()), (Decision::Fail, "todo"));
}

/// What is held of a tree is not the guest's memory, and there is room for it wherever it runs.
#[test]
fn a_gate_may_look_at_more_than_its_memory() {
    const SIZE: usize = 26 << 20;
    let mut snapshot = Snapshot::default();
    let text = Bytes::from("a line that is fine, and there are many of it\n".repeat(SIZE / 46));
    for n in 0..20 {
        let text = text.clone();
        let size_bytes = text.len() as u64;
        snapshot.add_lazy(&format!("{n}.md"), size_bytes, Box::new(move || Ok(text.clone()))).expect("added");
    }
    let file = |n: usize| SubjectFile { path: format!("{n}.md"), size_bytes: text.len() as u64, media_type: String::new() };
    let subject = Subject { files: (0..20).map(file).collect(), snapshot: Arc::new(snapshot), params: "{}".into(), ..Subject::default() };
    let call = limits(|l| (l.memory, l.fuel, l.timeout) = (128 << 20, u64::MAX / 2, Duration::from_secs(300)));
    let verdict = block_on(runtime().check(&load("finds_todos"), subject, call)).result.expect("a verdict");
    assert_eq!(verdict.decision, Decision::Pass);
}

#[test]
fn metric_is_nan() {
    let ended = block_on(runtime().check(&load("metric_is_nan"), subject(&[("a", "")]), defaults()));
    assert_eq!(ended.result.expect_err("no number").kind, FailureKind::ContractViolation);
}

#[test]
fn command_cat() {
    let ended = run_with("command_cat", r#"{"args":["-n","x"]}"#, defaults());
    assert_eq!(text(&ended), "[\"-n\", \"x\"] hello");
    let failure = run_with("command_cat", r#"{"args":["fail"]}"#, defaults()).result.expect_err("fails");
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Permanent, "the command failed: told to fail"));
    let flood = run_with("command_cat", r#"{"args":["flood"]}"#, limits(|l| l.output = 100_000)).result.expect_err("floods");
    assert_eq!(flood.kind, FailureKind::OutputLimit);
    let failure = run_with("command_cat", r#"{"args":"-n"}"#, defaults()).result.expect_err("no list");
    assert_eq!(failure.kind, FailureKind::InvalidInput);

    // As a gate: success passes; failure with findings rejects; failure with nothing but a complaint could not answer.
    let gate = load("command_cat");
    let judge = |args: &str, plugin: &Arc<Plugin>| {
        let subject = Subject { params: format!("{{\"args\":[\"{args}\"]}}").into(), ..subject(&[("a.txt", "fine\nTODO: mend")]) };
        block_on(runtime().check(plugin, subject, defaults())).result
    };
    assert_eq!(judge("ok", &gate).expect("a verdict").decision, Decision::Pass);
    let found = judge("find", &gate).expect("a verdict");
    assert_eq!((found.decision, found.findings[0].message.as_str()), (Decision::Fail, "TODO: mend"));
    let location = found.findings[0].location.clone().expect("a place");
    assert_eq!((location.path.as_str(), location.span.map(|s| s.start_line)), ("a.txt", Some(2)));
    assert_eq!(judge("fail", &gate).expect_err("could not answer").kind, FailureKind::Permanent);
    // Read the other way round, as a search tool is.
    let bytes = component("command_cat");
    let compiled = runtime().compile(&bytes).expect("compiles");
    let command = Command { pass: CommandPass::Failure, findings: CommandFindings::None, ..Command::default() };
    let finder = Arc::new(runtime().load(&compiled, Digest::of(&bytes)).expect("loads").with_command(command));
    let verdict = judge("find", &finder).expect("a verdict");
    assert_eq!((verdict.decision, verdict.findings.len()), (Decision::Pass, 0));
}

#[test]
fn command_repeats() {
    assert_eq!(text(&run_with("command_repeats", "{}", defaults())), "hello");
    let plugin = load("command_repeats");
    let judge = |said: &'static str| block_on(runtime().check(&plugin, subject(&[("said.txt", said)]), defaults())).result;
    let verdict = judge("said.txt:2:1: no\u{1b}[2J").expect("a verdict");
    assert_eq!((verdict.decision, verdict.findings[0].message.as_str()), (Decision::Fail, "no\u{1b}[2J"), "escaped where it is shown");
    assert_eq!(judge("").expect("a verdict").decision, Decision::Fail, "it said no, and nothing else");
}

#[test]
fn command_lines() {
    let bytes = component("command_lines");
    let compiled = runtime().compile(&bytes).expect("compiles");
    let command = Command { protocol: CommandProtocol::Jsonl, args: vec!["--loud".into()], ..Command::default() };
    let plugin = Arc::new(runtime().load(&compiled, Digest::of(&bytes)).expect("loads").with_command(command));
    let run = |params: &str, limits: Call| block_on(runtime().run(&plugin, task(params), limits));
    let ended = run("{\"mode\": \"answer\"}", defaults());
    assert_eq!(text(&ended), "[\"--loud\"] in.txt HELLO");
    assert_eq!(ended.log.lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["thinking"]);
    let kind = |mode: &str| run(&format!("{{\"mode\": \"{mode}\"}}"), defaults()).result.expect_err("no answer").kind;
    assert_eq!(kind("later"), FailureKind::Transient);
    assert_eq!(kind("silent"), FailureKind::ContractViolation);
    assert_eq!(kind("twice"), FailureKind::ContractViolation);
    assert_eq!(kind("babble"), FailureKind::ContractViolation);
    // One that answers and fails then has failed.
    assert_eq!(kind("stumble"), FailureKind::Permanent);
    let stumbled = run("{\"mode\": \"stumble\"}", defaults()).result.expect_err("no answer");
    assert!(stumbled.message.contains("the command answered, and failed then"), "{stumbled}");
    assert_eq!(kind("trap"), FailureKind::Trapped);
    let flood = run("{\"mode\": \"flood\"}", limits(|l| l.output = 100_000)).result.expect_err("floods");
    assert_eq!(flood.kind, FailureKind::OutputLimit);
    let judged = Subject { params: "{\"mode\": \"judge\"}".into(), ..subject(&[("a.txt", "fine\nTODO: mend"), ("b.txt", "fine")]) };
    let verdict = block_on(runtime().check(&plugin, judged, defaults())).result.expect("a verdict");
    assert_eq!((verdict.decision, verdict.findings.len(), verdict.summary.as_str()), (Decision::Fail, 1, "2 files"));
    assert_eq!(verdict.findings[0].location.as_ref().map(|place| place.path.as_str()), Some("a.txt"));
    // A bare program that is given no protocol is none of these.
    assert!(run_with("command_lines", "{}", defaults()).result.is_err());
}

#[test]
fn input_over_its_limit_is_refused_before_the_start() {
    let ended = run_with("behaves", "{}", limits(|l| l.input = 22));
    assert_eq!(ended.result.expect_err("refused").kind, FailureKind::InvalidInput);
    assert_eq!(ended.receipt.fuel, 0, "nothing ran");
    assert!(run_with("behaves", "{}", limits(|l| l.input = 23)).result.is_ok(), "just at the limit");
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// A thousand tasks that wait for ever end at their deadline, and leave memory, descriptors and threads as they were.
/// In a process of its own (see below), since other tests would be counted too.
fn a_thousand_sleepers() {
    let runtime = Runtime::new(Settings { in_flight: 1000, ..Settings::default() }).expect("a runtime");
    let sleeper = load_in(&runtime, "sleeps").expect("loads");
    let spinner = load_in(&runtime, "spins").expect("loads");
    let wave = || {
        block_on(async {
            let tasks = (0..1000).map(|n| {
                let (runtime, plugin) = (runtime.clone(), if n % 100 == 0 { spinner.clone() } else { sleeper.clone() });
                let call = limits(|l| (l.timeout, l.memory, l.fuel) = (Duration::from_millis(500), 4 << 20, u64::MAX / 2));
                let call = Call { grant: real_clock(), ..call };
                tokio::spawn(async move { runtime.run(&plugin, task("{}"), call).await })
            });
            for task in tasks.collect::<Vec<_>>() {
                let ended = task.await.expect("no panic");
                assert_eq!(ended.result.expect_err("it sleeps").kind, FailureKind::DeadlineExceeded);
                assert!(ended.receipt.wall_time < Duration::from_millis(1500), "{:?} late", ended.receipt.wall_time);
            }
        });
        assert_eq!(runtime.live_instances(), 0);
    };
    wave(); // the first fills the pool and its keep-resident pages
    let (memory, threads, files) = (status("VmRSS"), status("Threads"), descriptors());
    for _ in 0..3 {
        wave();
    }
    let grown = status("VmRSS").saturating_sub(memory);
    assert!(grown < 32 * 1024, "{grown} KiB of memory were left");
    // The kernel takes a thread off its list a little after it was joined, and idle helpers of a runtime end by themselves.
    let settling = std::time::Instant::now();
    while (status("Threads") > threads || descriptors() > files) && settling.elapsed() < Duration::from_secs(30) {
        std::thread::yield_now();
    }
    let found = (status("Threads"), descriptors());
    assert!(found.0 <= threads && found.1 <= files, "threads and descriptors are as they were: {found:?}, not {:?}", (threads, files));
    println!("a thousand sleepers left {grown} KiB");
}

#[test]
fn a_thousand_deadlines_at_once_leave_nothing_behind() {
    if std::env::var_os("SANDHOG_TEST_ALONE").is_some() {
        return a_thousand_sleepers();
    }
    let this = std::env::current_exe().expect("this test");
    let name = concat!(module_path!(), "::a_thousand_deadlines_at_once_leave_nothing_behind").split_once("::").expect("a crate").1;
    let output =
        std::process::Command::new(this).args(["--exact", name, "--nocapture"]).env("SANDHOG_TEST_ALONE", "1").output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("a thousand sleepers left"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// While guests spin on every core, and will for minutes, the caller's runtime answers and other guests complete.
#[test]
fn spinning_guests_own_neither_the_caller_nor_their_neighbours() {
    let runtime = Runtime::new(Settings { threads: 2, in_flight: 16, ..Settings::default() }).expect("a runtime");
    let (spinner, good) = (load_in(&runtime, "spins").expect("loads"), load_in(&runtime, "behaves").expect("loads"));
    block_on(async {
        let cancel = CancellationToken::new();
        let spinning: Vec<_> = (0..4)
            .map(|_| {
                let (runtime, plugin, cancel) = (runtime.clone(), spinner.clone(), cancel.clone());
                let call = Call { cancel, ..limits(|l| l.fuel = u64::MAX / 2) };
                tokio::spawn(async move { runtime.run(&plugin, task("{}"), call).await })
            })
            .collect();
        while runtime.live_instances() < 4 {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            assert!(runtime.run(&good, task("{}"), defaults()).await.result.is_ok());
        }
        assert!(spinning.iter().all(|task| !task.is_finished()), "they spin on");
        cancel.cancel();
        for task in spinning {
            assert_eq!(task.await.expect("no panic").result.expect_err("cancelled").kind, FailureKind::Cancelled);
        }
    });
    assert_eq!(runtime.live_instances(), 0);
}

/// Dropping the future ends the attempt.
#[test]
fn a_dropped_call_is_over() {
    let runtime = Runtime::new(Settings { in_flight: 4, ..Settings::default() }).expect("a runtime");
    let spinner = load_in(&runtime, "spins").expect("loads");
    block_on(async {
        let call = limits(|l| l.fuel = u64::MAX / 2);
        let running = tokio::spawn({
            let runtime = runtime.clone();
            async move { runtime.run(&spinner, task("{}"), call).await }
        });
        while runtime.live_instances() == 0 {
            tokio::task::yield_now().await;
        }
        running.abort();
        while runtime.live_instances() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

/// Places in flight are bounded: who comes when all are taken waits, outside the deadline, and is served.
#[test]
fn who_finds_no_place_waits_for_one() {
    let runtime = Runtime::new(Settings { in_flight: 1, memory_total_bytes: 64 << 20, ..Settings::default() }).expect("a runtime");
    let good = load_in(&runtime, "behaves").expect("loads");
    block_on(async {
        let tasks = (0..50).map(|_| {
            let (runtime, good) = (runtime.clone(), good.clone());
            tokio::spawn(async move { runtime.run(&good, task("{}"), defaults()).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            assert!(task.await.expect("no panic").result.is_ok());
        }
        let call = limits(|l| l.memory = 65 << 20);
        let failure = runtime.run(&good, task("{}"), call).await.result.expect_err("more than there is");
        assert_eq!(failure.kind, FailureKind::Host);
    });
}

/// Descriptors are shared as memory is: who is granted folders takes its part, and waits where there is none; who asks for more than
/// there is at all is told; and others never notice.
#[test]
fn descriptors_are_shared_and_who_finds_none_waits() {
    let runtime = Runtime::new(Settings { descriptors: Some(20), ..Settings::default() }).expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let files = vec![FileGrant { path: folder.path().to_owned(), at: "/granted".into(), access: Access::Read }];
    let granted = Arc::new(Grant { files, ..Grant::default() });
    let (reader, good) = (load_in(&runtime, "escapes_folder").expect("loads"), load_in(&runtime, "behaves").expect("loads"));
    block_on(async {
        let of = |handles| Call { grant: Arc::clone(&granted), ..limits(|l| l.handles = handles) };
        let failure = runtime.run(&reader, task("{}"), of(20)).await.result.expect_err("more than there is");
        assert_eq!(failure.kind, FailureKind::Host);
        assert!(failure.message.contains("21 descriptors, where this host has 20") && failure.message.contains("ulimit -n"), "{failure}");
        // Two of these never run at once.
        let tasks = (0..20).map(|_| {
            let (runtime, reader, call) = (runtime.clone(), reader.clone(), of(15));
            tokio::spawn(async move { runtime.run(&reader, task("{}"), call).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            assert!(task.await.expect("no panic").result.is_ok());
        }
        assert!(runtime.run(&good, task("{}"), defaults()).await.result.is_ok(), "one that is granted nothing takes none");
    });
}

fn reused(uses: u32, change: impl FnOnce(&mut Limits)) -> Call {
    Call { grant: Arc::new(Grant { reuse: uses, ..Grant::default() }), ..limits(change) }
}

/// An instance that may do several tasks does them, one after another, as if each was its first but for what it remembers itself;
/// and no more than it may.
#[test]
fn remembers() {
    let runtime = Runtime::new(Settings { in_flight: 4, ..Settings::default() }).expect("a runtime");
    let plugin = load_in(&runtime, "remembers").expect("loads");
    let run = |params: &str, call: &Call| block_on(runtime.run(&plugin, task(params), call.clone()));
    let call = reused(3, |l| l.scratch = 1 << 20);
    let told: Vec<String> = (0..7).map(|_| text(&run("{}", &call)).to_owned()).collect();
    let expected = [1, 2, 3, 1, 2, 3, 1].map(|n| format!("task {n}, {n} files, cancelled: false"));
    assert_eq!(told, expected);
    assert_eq!((runtime.live_instances(), runtime.idle_instances()), (0, 1), "it waits, and does not count as alive");
    let many = reused(10_000, |_| {});
    (0..200).for_each(|_| drop(run("{}", &many)));
    let tasks = runtime.threads().metrics().num_alive_tasks();
    assert!(tasks < 10, "{tasks} tasks look for instances that wait for too long");

    // The log is each task's own; so is the fuel, which is less without a start.
    let call = reused(100, |l| l.fuel = 1_000_000_000);
    let first = run("{}", &call);
    for n in 2..50 {
        let ended = run("{}", &call);
        assert_eq!(ended.log.lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>(), [format!("task {n}")]);
        assert!(ended.receipt.fuel > 100 && ended.receipt.fuel <= first.receipt.fuel + 100_000, "{}", ended.receipt.fuel);
        assert!(ended.receipt.peak_memory_bytes >= 1 << 20, "what it holds already counts");
    }

    // Another grant, other limits, or a plugin of its own, even of the same code: another instance.
    let others = [reused(100, |l| l.fuel = 2_000_000_000), reused(99, |l| l.fuel = 1_000_000_000), defaults()];
    assert!(others.iter().all(|call| text(&run("{}", call)).starts_with("task 1,")));
    let twin = load_in(&runtime, "remembers").expect("loads");
    assert!(text(&block_on(runtime.run(&twin, task("{}"), call.clone()))).starts_with("task 1,"));
    assert!(text(&run("{}", &call)).starts_with("task 50,"), "the first one still waits");

    // What failed in any way, and what fills more than half of its memory, is not kept.
    for params in [r#"{"end": "fail"}"#, r#"{"end": "panic"}"#, r#"{"keep": 40000000}"#] {
        assert!(!text(&run("{}", &call)).starts_with("task 1,"), "one waits");
        let ended = run(params, &call);
        assert_eq!(ended.result.is_ok(), params.contains("keep"), "{params}");
        assert!(text(&run("{}", &call)).starts_with("task 1,"), "after {params}");
        run("{}", &call);
    }
    let cancelled = Call { cancel: CancellationToken::new(), ..call.clone() };
    cancelled.cancel.cancel();
    assert_eq!(run("{}", &cancelled).result.expect_err("cancelled").kind, FailureKind::Cancelled);
    assert!(text(&run("{}", &call)).ends_with("cancelled: false"), "another task's cancellation is not told");
}

/// A gate never keeps its instance, whatever is granted.
#[test]
fn remembers_verdicts() {
    let call = reused(100, |_| {});
    for _ in 0..3 {
        let ended = block_on(runtime().check(&load("remembers_verdicts"), Subject::default(), call.clone()));
        assert_eq!(ended.result.expect("a verdict").summary, "judgement 1");
    }
}

/// Nothing that would run waits for an instance that idles: neither for its place, nor for its memory.
#[test]
fn instances_that_idle_give_way() {
    for settings in [Settings { in_flight: 1, ..Settings::default() }, Settings { memory_total_bytes: 64 << 20, ..Settings::default() }] {
        let runtime = Runtime::new(Settings { threads: 2, ..settings }).expect("a runtime");
        let (kept, good) = (load_in(&runtime, "remembers").expect("loads"), load_in(&runtime, "behaves").expect("loads"));
        let call = reused(10_000, |l| l.memory = 48 << 20);
        block_on(async {
            for turn in 0..3 {
                assert!(text(&runtime.run(&kept, task("{}"), call.clone()).await).starts_with("task 1,"), "turn {turn}");
                assert_eq!(runtime.idle_instances(), 1);
                assert!(runtime.run(&good, task("{}"), limits(|l| l.memory = 48 << 20)).await.result.is_ok());
                assert_eq!(runtime.idle_instances(), 0);
            }
            // Both at once, many times over, each with the only place there is.
            let tasks = (0..400).map(|n| {
                let (runtime, plugin) = (runtime.clone(), if n % 2 == 0 { kept.clone() } else { good.clone() });
                let call = if n % 2 == 0 { call.clone() } else { limits(|l| l.memory = 48 << 20) };
                tokio::spawn(async move { runtime.run(&plugin, task("{}"), call).await })
            });
            for task in tasks.collect::<Vec<_>>() {
                assert!(task.await.expect("no panic").result.is_ok());
            }
        });
        assert_eq!(runtime.live_instances(), 0);
    }
}

/// A component with any one of its bits flipped is loaded or refused, and never ends the host.
#[test]
fn no_flipped_bit_ends_the_host() {
    let runtime = Runtime::new(Settings { in_flight: 2, ..Settings::default() }).expect("a runtime");
    let good = component("many_memories");
    for at in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[at / 8] ^= 1 << (at % 8);
        if let Ok(compiled) = runtime.compile(&bad)
            && let Ok(plugin) = runtime.load(&compiled, Digest::of(&bad))
        {
            let _ = block_on(runtime.run(&Arc::new(plugin), task("{}"), limits(|l| l.fuel = 1_000_000)));
        }
        let _ = sandhog::registry::component::read(&bad).and_then(|component| component.kind());
        let _ = sandhog::registry::component::read(&good[..at / 8]);
    }
    assert_eq!(runtime.live_instances(), 0);
}
