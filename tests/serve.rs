//! The server, from outside: a stock WebSocket client, plain HTTP over a socket, and the real binary. The oracle of events is the journal
//! itself; that of memory is the system.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// How long anything may take before a test gives up: only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// A folder with a configuration and a journal of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self::with("")
    }

    fn with(serve: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins).expect("made");
        for entry in std::fs::read_dir(root().join("dist/plugins")).expect("plugins").flatten() {
            std::fs::copy(entry.path(), plugins.join(entry.file_name())).expect("copied");
        }
        std::fs::write(folder.path().join("sandhog.toml"), format!("plugins = [\"plugins\"]\n[serve]\n{serve}")).expect("written");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandhog"));
        command.args(arguments).current_dir(self.path()).env("SANDHOG_GATES", "").stdin(Stdio::null());
        for name in ["SANDHOG_TOKEN", "SANDHOG_TOKEN_FILE", "SANDHOG_SERVER", "SANDHOG_STATE_DIR", "SANDHOG_LOG"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end: its code, and what it wrote.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_at("127.0.0.1:0", arguments)
    }

    fn serve_at(&self, address: &str, arguments: &[&str]) -> Server {
        let mut command = self.command(&[&["serve", "--listen", address, "--rate", "0", "--log-format", "json"], arguments].concat());
        Server::listening(&mut command)
    }
}

/// A server that is killed when the test ends.
struct Server {
    child: Child,
    log: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// A problem as every problem is.
    #[track_caller]
    fn refuses(self, status: u16, code: &str) -> Value {
        let Self { head, .. } = &self;
        assert!(head.to_lowercase().contains("content-type: application/problem+json"), "{head}");
        let problem = self.is(status);
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
        assert!(!problem["detail"].as_str().expect("a detail").is_empty() && !problem["request_id"].as_str().expect("an id").is_empty());
        problem
    }
}

impl Server {
    /// Starts one, and waits until it listens.
    fn listening(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let log = BufReader::new(child.stdout.take().expect("piped"));
        let mut server = Self { child, log, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        loop {
            let mut line = String::new();
            assert!(server.log.read_line(&mut line).expect("reads") > 0, "the server ended before it listened");
            let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if said["message"] == "listening" {
                server.address = said["address"].as_str().expect("an address").parse().expect("an address");
                return server;
            }
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    /// Sends bytes as they are, and reads until the server closes.
    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // a server that has said all may reset
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            text += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "content-type") {
                text += "content-type: application/json\r\n";
            }
            text += &format!("content-length: {}\r\n\r\n{body}", body.len());
        } else {
            text += "\r\n";
        }
        self.raw(text.as_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], Some(&body.to_string()))
    }

    /// Submits a workflow of so many tasks of the worker `echo`.
    fn submit_wide(&self, tasks: usize) -> String {
        self.post("/v1/runs", &wide(tasks)).is(202)["run"].as_str().expect("a run").to_owned()
    }

    #[track_caller]
    fn ended(&self, run: &str) -> Value {
        let report = self.get(&format!("/v1/runs/{run}/report?wait=100s")).is(200);
        assert!(["completed", "failed", "cancelled"].contains(&report["status"].as_str().expect("a status")), "{report}");
        report
    }

    fn live(&self) -> Live {
        let (socket, _) = tungstenite::client(format!("ws://{}/v1/live", self.address), self.connect()).expect("a WebSocket");
        Live(socket)
    }

    /// All records behind a `seq`, by the pages of the API.
    fn records(&self) -> Vec<Value> {
        let (mut after, mut all) = (0, Vec::new());
        loop {
            let page = self.get(&format!("/v1/events?after={after}&limit=1000")).is(200);
            let events = page["events"].as_array().expect("events").clone();
            let Some(last) = events.last() else { return all };
            after = last["seq"].as_u64().expect("a seq");
            all.extend(events);
        }
    }

    /// Resident memory, in bytes, as the system has it.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    }

    /// Waits for the end: the code, and the rest of the log.
    fn ends(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("reads");
        (self.child.wait().expect("ends").code().unwrap_or(-1), rest)
    }
}

fn wide(tasks: usize) -> Value {
    let inputs: Vec<Value> = (0..tasks).map(|n| json!({ "name": format!("in/{n:04}"), "content": n.to_string() })).collect();
    let workflow = "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\nforeach = true\n\
                    [[step]]\nid = \"t\"\nworker = \"echo\"\nneeds = [\"s\"]\n";
    json!({ "workflow": workflow, "inputs": inputs })
}

/// A workflow whose only task is given up, and set aside.
fn hopeless() -> Value {
    json!({ "workflow": "name = \"hopeless\"\n[[step]]\nid = \"s\"\nworker = \"spin\"\non_exhausted = \"dead_letter\"\nlimits = { fuel = \"1M\" }\n" })
}

/// A stock client of live events.
struct Live(WebSocket<TcpStream>);

impl Live {
    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("said");
    }

    fn ask(&mut self, ask: &Value) -> Value {
        self.say(&ask.to_string());
        self.next().expect("an answer")
    }

    /// The next message; nothing once the server is gone.
    fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let message = self.next().unwrap_or_else(|| panic!("the server went away behind {seen:?}"));
            let found = wanted(&message);
            seen.push(message);
            if found {
                return seen;
            }
        }
    }
}

fn is_event(message: &Value, event: &str) -> bool {
    message["record"]["event"] == event
}

fn seqs(messages: &[Value]) -> Vec<u64> {
    messages.iter().filter(|message| message["type"] == "record").map(|message| message["seq"].as_u64().expect("a seq")).collect()
}

#[test]
fn the_document_and_the_routes_and_the_guide_agree() {
    let place = Place::new();
    let server = place.serve(&[]);
    let document = server.get("/openapi.json").is(200);
    let guide = std::fs::read_to_string(root().join("docs/guide/api.md")).expect("the guide");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 20, "{paths:?}");
    for (path, item) in paths {
        let filled = path.replace("{run}", "00000000-0000-7000-8000-000000000000").replace("{index}", "0").replace("{name}", "nobody");
        let filled = filled.replace("{digest}", &format!("sha256:{}", "0".repeat(64)));
        // What is documented is there: another method of it is refused as such, and not as a place where nothing is.
        let other = ["GET", "POST", "PUT", "DELETE"].into_iter().find(|method| item[method.to_lowercase()].is_null()).expect("a method");
        server.ask(other, &filled, &[], Some("{}")).refuses(405, "method_not_allowed");
        for method in ["get", "post", "put", "delete"].into_iter().filter(|method| !item[*method].is_null()) {
            assert!(item[method]["responses"]["default"].is_object(), "{method} {path} has no word on problems");
            assert!(guide.contains(&format!("`{} {path}`", method.to_uppercase())), "{method} {path} is not in docs/guide/api.md");
        }
    }
    for line in guide.lines().filter_map(|line| line.strip_prefix("| `")) {
        let route = line.split('`').next().expect("a route");
        let Some((method, path)) = route.split_once(' ').filter(|(_, path)| path.starts_with('/')) else { continue };
        assert!(!paths[path][method.to_lowercase()].is_null(), "{route} is in the guide alone");
    }
    // What the program prints is the same.
    let (code, printed, _) = place.run(&["schema", "--api"]);
    assert_eq!((code, serde_json::from_str::<Value>(&printed).expect("JSON")), (0, document));
}

#[test]
fn each_mistake_has_its_own_clear_answer() {
    let place = Place::new();
    let server = place.serve(&[]);
    let none = "00000000-0000-7000-8000-000000000000";
    server.get("/nowhere").refuses(404, "not_found");
    server.get(&format!("/v1/runs/{none}")).refuses(404, "not_found");
    server.get("/v1/runs/no-uuid").refuses(400, "malformed");
    server.get(&format!("/v1/runs/{none}/report")).refuses(404, "not_found");
    server.get(&format!("/v1/runs/{none}/events")).refuses(404, "not_found");
    server.get(&format!("/v1/blobs/sha256:{}", "0".repeat(64))).refuses(404, "not_found");
    server.get("/v1/blobs/md5:1").refuses(400, "malformed");
    server.get("/v1/runs?limit=0").refuses(400, "malformed");
    server.get("/v1/runs?limit=1001").refuses(400, "malformed");
    server.get("/v1/runs?nonsense=1").refuses(400, "malformed");
    assert_eq!(server.get("/v1/events?after=18446744073709551615").is(200)["events"], json!([]));
    server.get("/v1/dead-letters?after=x").refuses(400, "malformed");
    server.get("/v1/plugins/nobody").refuses(404, "not_found");
    server.get("/v1/plugins/..%2f..%2fetc%2fpasswd").refuses(404, "not_found");
    server.get("/v1/live").refuses(400, "malformed");
    let allowed = server.ask("DELETE", "/v1/runs", &[], None);
    assert!(allowed.head.to_lowercase().contains("allow: "), "{}", allowed.head);
    allowed.refuses(405, "method_not_allowed");
    // Bodies. A list is no object whose fields come in their order.
    server.ask("POST", "/v1/runs", &[], Some("{")).refuses(400, "malformed");
    server.ask("POST", "/v1/runs", &[], Some("\n [null, \"name = 'w'\"]")).refuses(422, "invalid");
    server.ask("POST", &format!("/v1/runs/{none}/commands"), &[], Some("[\"cancel\", \"x\"]")).refuses(422, "invalid");
    assert_eq!(server.live().ask(&json!(["a"]))["type"], "problem");
    server.ask("POST", "/v1/runs", &[("content-type", "text/plain")], Some("{}")).refuses(415, "unsupported_media_type");
    server.ask("POST", "/v1/runs", &[], Some(&("[".repeat(10_000) + &"]".repeat(10_000)))).refuses(422, "invalid");
    let told = server.post("/v1/runs", &json!({ "worker": "w" })).refuses(422, "invalid");
    assert!(told["detail"].as_str().expect("text").contains("worker"), "{told}");
    server.post("/v1/runs", &json!({})).refuses(422, "invalid");
    server.post("/v1/runs", &json!({ "name": "nobody" })).refuses(404, "not_found");
    server.post("/v1/runs", &json!({ "name": "../sandhog" })).refuses(404, "not_found");
    server.post("/v1/runs", &json!({ "path": place.path().join("sandhog.toml") })).refuses(403, "forbidden");
    let workflow = "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"ecoh\"\nwroker = 1\n";
    let told = server.post("/v1/runs", &json!({ "workflow": workflow, "file": "w.toml" })).refuses(422, "invalid");
    let problems = told["problems"].as_array().expect("problems");
    assert_eq!(problems.len(), 2, "{told}");
    assert_eq!((&problems[0]["file"], &problems[0]["line"]), (&json!("w.toml"), &json!(4)), "{told}");
    // Plugins are named: what lies on the server's disk is neither run nor looked at.
    for path in ["/etc/passwd", "./plugins/echo.wasm", "plugins/echo.wasm", "echo.wasm"] {
        let workflow = format!("name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"{path}\"\n");
        let gate = format!("name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ngates = [\"{path}\"]\n");
        for workflow in [workflow, gate] {
            server.post("/v1/runs", &json!({ "workflow": workflow })).refuses(403, "forbidden");
            server.post("/v1/plans", &json!({ "workflow": workflow })).refuses(403, "forbidden");
        }
    }
    let inputs = json!([{ "name": "../x", "content": "" }]);
    server
        .post(
            "/v1/runs",
            &json!({ "workflow": "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"*\"]\n", "inputs": inputs }),
        )
        .refuses(422, "invalid");
    for key in [&*"k".repeat(201), "n\u{e4}chtlich", "k\u{202e}"] {
        server.ask("POST", "/v1/runs", &[("idempotency-key", key)], Some(&wide(1).to_string())).refuses(400, "malformed");
    }
    let large = format!(
        "POST /v1/runs/{none}/commands HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 3000000\r\n\r\n{}",
        server.address,
        " ".repeat(3_000_000)
    );
    server.raw(large.as_bytes()).refuses(413, "payload_too_large");
    // Headers without end, and what is no HTTP, end the connection.
    let endless = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\nx: {}\r\n\r\n", server.address, "x".repeat(100_000));
    assert!([400, 431].contains(&server.raw(endless.as_bytes()).status));
    assert_eq!(server.raw(b"\x16\x03\x01\x02\x00nonsense\r\n\r\n").status, 400);
    // Other sites and other names.
    server.ask("GET", "/v1/runs", &[("host", "evil.example")], None).refuses(403, "forbidden");
    server.ask("GET", "/v1/runs", &[("host", "")], None).refuses(403, "forbidden");
    let (path, host) = ("/v1/runs", server.address);
    let elsewhere = format!("GET http://evil.example{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    server.raw(elsewhere.as_bytes()).refuses(403, "forbidden");
    let twice = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    server.raw(twice.as_bytes()).refuses(400, "malformed");
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        server.ask("POST", "/v1/runs", &[("origin", origin)], Some(&wide(1).to_string())).refuses(403, "forbidden");
    }
    server.ask("GET", "/v1/runs", &[("origin", &server.url())], None).is(200);
    // The caller's own name of a request is told back, where it is a plain one.
    let named = server.ask("GET", "/nowhere", &[("x-request-id", "mine-1")], None).refuses(404, "not_found");
    assert_eq!(named["request_id"], "mine-1");
    let renamed = server.ask("GET", "/nowhere", &[("x-request-id", "<b>")], None).refuses(404, "not_found");
    assert_ne!(renamed["request_id"], "<b>");
    // Commands that do not fit.
    let run = server.submit_wide(1);
    server.ended(&run);
    server.post(&format!("/v1/runs/{run}/commands"), &json!({ "command": "cancel" })).refuses(409, "conflict");
    server.post(&format!("/v1/runs/{run}/commands"), &json!({ "command": "explode" })).refuses(422, "invalid");
    let unknown = json!({ "command": "retry", "tasks": [{ "step": "nobody", "index": 0 }] });
    server.post(&format!("/v1/runs/{run}/commands"), &unknown).refuses(404, "not_found");
    server.post("/v1/dead-letters/commands", &json!({ "command": "requeue" })).refuses(422, "invalid");
    server.post("/v1/dead-letters/commands", &json!({ "command": "requeue", "letters": ["x/y/0"] })).refuses(404, "not_found");
    server.get(&format!("/v1/runs/{run}/tasks/7?step=s")).refuses(404, "not_found");
    server.get(&format!("/v1/runs/{run}/tasks/0?step=nobody")).refuses(404, "not_found");
    server.ask("PUT", "/v1/plugins/new", &[("content-type", "application/wasm")], Some("x")).refuses(403, "forbidden");
    // After all of that it is well.
    assert_eq!(server.get("/healthz").body, "alive\n");
    assert_eq!(server.get("/readyz").body, "ready\n");
}

#[test]
fn a_run_is_submitted_followed_asked_for_and_its_artifacts_read() {
    let place = Place::with("workflows = [\"flows\"]\n");
    std::fs::create_dir(place.path().join("flows")).expect("made");
    std::fs::write(
        place.path().join("flows/hello.toml"),
        "name = \"greeting\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"*.txt\"]\n",
    )
    .expect("written");
    std::fs::write(place.path().join("flows/a.txt"), "hello").expect("written");
    let server = place.serve(&[]);
    let offered = server.get("/v1/workflows").is(200);
    assert_eq!(offered["workflows"][0]["name"], "hello", "{offered}");
    assert_eq!(server.post("/v1/plans", &json!({ "name": "hello" })).is(200)["shape"], "sequential");
    // With a key, a second submission is the first run; of another workflow it is refused.
    let submit = |body: &Value| server.ask("POST", "/v1/runs?wait=60s", &[("idempotency-key", "k")], Some(&body.to_string()));
    let report = submit(&json!({ "name": "hello" })).is(200);
    assert_eq!((&report["status"], &report["workflow"]), (&json!("completed"), &json!("greeting")), "{report}");
    let run = report["run"].as_str().expect("a run");
    assert_eq!(submit(&json!({ "name": "hello" })).is(200)["run"], run);
    submit(&wide(1)).refuses(409, "conflict");
    // What it made, as it was made, and never as a page.
    let artifacts = server.get(&format!("/v1/runs/{run}/artifacts")).is(200);
    let digest = artifacts["artifacts"][0]["digest"].as_str().expect("a digest");
    let content = server.get(&format!("/v1/runs/{run}/artifacts/{digest}"));
    assert_eq!((content.status, content.body.as_str()), (200, "hello"));
    assert!(content.head.to_lowercase().contains("content-disposition: attachment"), "{}", content.head);
    let task = server.get(&format!("/v1/runs/{run}/tasks/0?step=s")).is(200);
    assert_eq!((&task["inputs"][0]["name"], &task["attempts"][0]["outcome"]), (&json!("a.txt"), &json!("completed")), "{task}");
    // Pages.
    let more: BTreeSet<String> = (0..5).map(|_| server.submit_wide(1)).chain([run.to_owned()]).collect();
    more.iter().for_each(|run| drop(server.ended(run)));
    let (mut before, mut listed) = (String::new(), Vec::new());
    loop {
        let page = server.get(&format!("/v1/runs?limit=2{before}")).is(200);
        listed.extend(page["runs"].as_array().expect("runs").iter().map(|row| row["run"].as_str().expect("a run").to_owned()));
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!((listed.len(), listed.iter().cloned().collect()), (6, more), "the latest first, each once");
}

#[test]
fn subscriptions_are_filtered_resumed_and_taken_back_over_one_connection() {
    let place = Place::new();
    let server = place.serve(&[]);
    let before = server.submit_wide(3);
    server.ended(&before);
    let mut live = server.live();
    // All from the beginning, in order, nothing skipped or doubled: as the journal has it.
    assert_eq!(live.ask(&json!({ "subscribe": "all", "after": 0 }))["type"], "subscribed");
    let seen = live.until(|message| is_event(message, "run_completed"));
    let journal: Vec<u64> = server.records().iter().map(|record| record["seq"].as_u64().expect("a seq")).collect();
    assert_eq!(seqs(&seen), journal);
    assert!(seen.iter().all(|message| message["subscriptions"] == json!(["all"])));
    // From the middle, and only what is asked for: by run, by plugin, by topic.
    assert_eq!(live.ask(&json!({ "unsubscribe": "all" }))["type"], "unsubscribed");
    live.ask(&json!({ "subscribe": "runs", "topics": ["runs"], "after": 1 }));
    assert_eq!(seqs(&live.until(|message| is_event(message, "run_completed"))), [*journal.last().expect("some")]);
    live.ask(&json!({ "subscribe": "nobody", "plugins": ["contents"], "after": 0 }));
    live.ask(&json!({ "subscribe": "echo", "plugins": ["echo"], "topics": ["tasks"], "after": 0 }));
    let seen = live.until(|message| is_event(message, "task_completed") && message["step"] == "t");
    assert!(seen.iter().all(|message| message["subscriptions"] == json!(["echo"]) && message["plugin"] == "echo"), "{seen:?}");
    // Two subscriptions that want the same message get it once, with both names.
    let mine = server.submit_wide(1);
    let other = server.submit_wide(1);
    live.ask(&json!({ "subscribe": "mine", "runs": [mine], "after": 0 }));
    let seen = live.until(|message| is_event(message, "run_completed") && message["record"]["run"] == *mine);
    let of_mine = seen.iter().filter(|message| message["subscriptions"].as_array().is_some_and(|names| names.contains(&json!("mine"))));
    assert!(of_mine.clone().count() > 5 && of_mine.clone().all(|message| message["record"]["run"] == *mine), "{seen:?}");
    server.ended(&other);
    // Logs, progress and figures are topics as well.
    let mut figures = server.live();
    figures.ask(&json!({ "subscribe": "s", "topics": ["stats"] }));
    let sample = figures.next().expect("a sample");
    assert!(sample["type"] == "stats" && sample["sample"]["live_instances"].is_number() && sample["seq"].is_number(), "{sample}");
    // Nonsense is told, and the connection goes on.
    for nonsense in ["{", "[]", "{\"subscribe\": 1}", "{\"topics\": [\"runs\"]}", "{\"subscribe\":\"a\",\"topics\":[\"nothing\"]}"] {
        figures.say(nonsense);
        let told = figures.until(|message| message["type"] == "problem");
        assert_eq!(told.last().expect("one")["problem"]["code"], "malformed", "{told:?}");
    }
    figures.0.send(Message::binary(vec![0_u8; 8])).expect("sent");
    figures.until(|message| message["problem"]["code"] == "unsupported_media_type");
    figures.0.send(Message::text("x".repeat(100_000))).expect("sent");
    assert!(std::iter::from_fn(|| figures.next()).all(|message| message["type"] == "stats"), "too large a message ends the connection");
}

#[test]
fn a_token_is_asked_for_and_is_needed_where_others_can_reach_it() {
    let place = Place::new();
    let (code, _, said) = place.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(code == 2 && said.contains("no token") && said.contains("SANDHOG_TOKEN"), "{code} {said}");
    let (code, _, said) = place.run(&["serve", "--token-file", "sandhog.toml"]);
    assert!(code == 2 && said.contains("expected a token"), "{code} {said}");
    let token = "a-token-of-some-length-1";
    std::fs::write(place.path().join("token"), format!("{token}\n")).expect("written");
    let server = place.serve(&["--token-file", "token"]);
    let bearer = format!("Bearer {token}");
    for (headers, status) in [
        (vec![], 401),
        (vec![("authorization", "Bearer a-token-of-some-length-2")], 401),
        (vec![("authorization", "Basic YTpi")], 401),
        (vec![("cookie", "sandhog_session=0000")], 401),
        (vec![("authorization", bearer.as_str())], 200),
    ] {
        let answer = server.ask("GET", "/v1/runs", &headers, None);
        assert_eq!(answer.status, status, "{headers:?}");
        if status == 401 {
            assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{}", answer.head);
            answer.refuses(401, "unauthorized");
        }
    }
    server.get("/metrics").refuses(401, "unauthorized");
    let wrong = server.ask("GET", "/v1/runs", &[("authorization", "Bearer a-token-of-some-length-2")], None);
    assert!(wrong.json()["detail"].as_str().is_some_and(|detail| detail.contains("not that of this server")), "{:?}", wrong.json());
    server.get("/openapi.json").refuses(401, "unauthorized");
    assert_eq!((server.get("/healthz").status, server.get("/").status), (200, 200));
    // A browser logs in once, and has a cookie that scripts cannot read.
    server.post("/v1/session", &json!({ "token": "wrong" })).refuses(401, "unauthorized");
    let login = server.post("/v1/session", &json!({ "token": token }));
    assert_eq!(login.status, 204);
    let cookie = login.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(token), "{cookie}");
    let cookie = cookie.split(';').next().expect("a value");
    server.ask("GET", "/v1/runs", &[("cookie", cookie)], None).is(200);
    // A page of another site has the cookie sent along by some browsers, and still may not ask.
    let upgrade = [("cookie", cookie), ("origin", "http://evil.example"), ("upgrade", "websocket"), ("connection", "upgrade")];
    server.ask("GET", "/v1/live", &upgrade, None).refuses(403, "forbidden");
    // The command line has it from a file, or the environment.
    let url = server.url();
    let (code, _, said) = place.run(&["runs", "list", "--server", &url]);
    assert!(code == 2 && said.contains("--token-file"), "{code} {said}");
    let (code, out, _) = place.run(&["runs", "list", "--server", &url, "--token-file", "token"]);
    assert_eq!((code, out.as_str()), (0, "no runs\n"));
    let output = place.command(&["runs", "list", "--server", &url]).env("SANDHOG_TOKEN", token).output().expect("runs");
    assert!(output.status.success());
}

#[test]
fn a_peer_that_asks_too_often_is_told_to_wait() {
    let place = Place::new();
    let server = Server::listening(&mut place.command(&["serve", "--listen", "127.0.0.1:0", "--rate", "5", "--log-format", "json"]));
    let over = (0..50).map(|_| server.get("/healthz")).find(|answer| answer.status != 200).expect("one too many");
    assert!(over.head.to_lowercase().contains("retry-after: 1"), "{}", over.head);
    over.refuses(429, "too_many_requests");
}

#[test]
fn pages_of_another_site_may_ask_where_that_is_named() {
    let place = Place::with("origins = [\"https://board.example.com\"]\n");
    std::fs::write(place.path().join("token"), "a-token-of-some-length-1").expect("written");
    let server = place.serve(&["--token-file", "token"]);
    let theirs = [("origin", "https://board.example.com"), ("access-control-request-method", "POST")];
    let asked = server.ask("OPTIONS", "/v1/runs", &theirs, None);
    let head = asked.head.to_lowercase();
    assert!(asked.status == 204 && head.contains("access-control-allow-origin: https://board.example.com"), "{head}");
    assert!(head.contains("access-control-allow-headers: authorization"), "{head}");
    let with_token = [("origin", "https://board.example.com"), ("authorization", "Bearer a-token-of-some-length-1")];
    let answer = server.ask("GET", "/v1/runs", &with_token, None);
    assert!(answer.status == 200 && answer.head.to_lowercase().contains("access-control-allow-origin"), "{}", answer.head);
    server.ask("GET", "/v1/runs", &theirs[..1], None).refuses(401, "unauthorized");
    server.ask("OPTIONS", "/v1/runs", &[("origin", "https://evil.example")], None).refuses(403, "forbidden");
}

/// Those who send large bodies and do not end them have so much room together; whoever sends little needs none.
#[test]
fn bodies_that_are_on_their_way_have_a_bound_together() {
    let place = Place::new();
    let server = place.serve(&[]);
    let large = json!({ "workflow": "x", "inputs": [], "padding": "x".repeat(100 << 10) }).to_string();
    let is_taken = || server.ask("POST", "/v1/runs", &[], Some(&large)).status == 422;
    let before = server.resident();
    let head = "POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let most = 64 << 20; // an eighth of the room
    let (mut held, mut tries) = (Vec::new(), 0);
    while is_taken() {
        tries += 1;
        assert!(tries < 12, "there is no bound");
        let mut stream = server.connect();
        let sent = stream.write_all(format!("{head}{most:x}\r\n").as_bytes()).and_then(|()| stream.write_all(&vec![b' '; most]));
        held.extend(sent.is_ok().then_some(stream)); // one that finds no room is reset
    }
    assert!(held.len() >= 8, "{} of 64 MiB each had room", held.len());
    let grown = server.resident() - before;
    assert!(grown < 1 << 30, "{} MiB", grown >> 20);
    server.ask("POST", "/v1/runs", &[], Some("{}")).refuses(422, "invalid");
    let refused = server.ask("POST", "/v1/runs", &[], Some(&large));
    assert!(refused.status == 422 || refused.body.contains("more is on its way"), "{refused:?}");
    drop(held);
    let begun = std::time::Instant::now();
    while !is_taken() {
        assert!(begun.elapsed() < PATIENCE, "what has ended has room still");
    }
}

#[test]
fn a_peer_that_stops_in_the_middle_is_let_go() {
    let place = Place::new();
    let server = place.serve(&[]);
    let body =
        "POST /v1/runs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    std::thread::scope(|scope| {
        // It never says that it is done: what ends the connection is the server's patience, which is shorter than ours.
        let silent = scope.spawn(|| server.raw(b"").status);
        let half = scope.spawn(|| server.raw(b"GET /healthz HTTP/1.1\r\nho").status);
        let stalled = scope.spawn(|| server.raw(body.as_bytes()));
        assert_eq!((silent.join().expect("ends"), half.join().expect("ends")), (0, 0));
        stalled.join().expect("ends").refuses(400, "malformed");
    });
}

/// Follows everything until each of so many runs has ended, over as many connections as it takes; returns the `seq` of each record, as
/// they came.
fn follow_all(address: SocketAddr, runs: usize) -> Vec<u64> {
    let (mut seen, mut ended) = (Vec::new(), BTreeSet::new());
    let begun = std::time::Instant::now();
    while ended.len() < runs {
        assert!(begun.elapsed() < PATIENCE, "{} of {runs} runs ended", ended.len());
        let Ok(stream) = TcpStream::connect(address) else {
            std::thread::yield_now();
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let Ok((socket, _)) = tungstenite::client(format!("ws://{address}/v1/live"), stream) else { continue };
        let mut live = Live(socket);
        let after = seen.last().copied().unwrap_or(0);
        if live.0.send(Message::text(json!({ "subscribe": "all", "after": after }).to_string())).is_err() {
            continue;
        }
        while ended.len() < runs {
            let Some(message) = live.next() else { break };
            if message["type"] == "record" {
                seen.push(message["seq"].as_u64().expect("a seq"));
                if is_event(&message, "run_completed") {
                    ended.insert(message["record"]["run"].to_string());
                }
            }
        }
    }
    seen
}

#[test]
fn a_kill_amid_fifty_runs_loses_no_run_and_no_subscriber_misses_or_doubles_an_event() {
    const RUNS: usize = 50;
    // So many that they take several times as long as it takes to submit them.
    const TASKS: usize = 300;
    const SUBSCRIBERS: usize = 20;
    let place = Place::new();
    let server = place.serve(&["--concurrency", "1"]);
    let address = server.address;
    let following: Vec<_> = (0..SUBSCRIBERS).map(|_| std::thread::spawn(move || follow_all(address, RUNS))).collect();
    let body = wide(TASKS).to_string();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for _ in 0..RUNS / 5 {
                    server.ask("POST", "/v1/runs", &[], Some(&body)).is(202);
                }
            });
        }
    });
    let open = server.get("/v1/runs?open=true&limit=100").is(200)["runs"].as_array().expect("runs").len();
    drop(server); // SIGKILL
    assert!(open > 5, "only {open} runs were under way");
    let server = place.serve_at(&address.to_string(), &[]);
    let seen: Vec<Vec<u64>> = following.into_iter().map(|thread| thread.join().expect("follows")).collect();
    let rows = server.get("/v1/runs?limit=100").is(200);
    let rows = rows["runs"].as_array().expect("runs");
    assert_eq!(rows.len(), RUNS);
    assert!(rows.iter().all(|row| row["status"] == "completed" && row["completed"] == TASKS + 1), "{rows:?}");
    // Each subscriber saw the records of the journal, each exactly once, in order; up to the end of the last run that it saw.
    let journal: Vec<u64> = server.records().iter().map(|record| record["seq"].as_u64().expect("a seq")).collect();
    for seen in seen {
        assert!(seen.len() > RUNS * TASKS * 3 && journal.starts_with(&seen), "{} of {} records", seen.len(), journal.len());
    }
    let (code, said, _) = place.run(&["journal", "verify"]);
    assert!(code == 0 && said.contains("intact"), "{said}");
}

#[test]
fn a_thousand_idle_and_ten_stalled_subscribers_cost_little_and_hold_nobody_up() {
    let place = Place::new();
    let server = place.serve(&[]);
    let quiet = "00000000-0000-7000-8000-000000000000"; // a run of which nothing will be heard
    let idle: Vec<Live> = (0..1000)
        .map(|_| {
            let mut live = server.live();
            live.ask(&json!({ "subscribe": "quiet", "runs": [quiet] }));
            live
        })
        .collect();
    // They ask for everything, and read none of it.
    let stalled: Vec<Live> = (0..10)
        .map(|_| {
            let mut live = server.live();
            live.say(&json!({ "subscribe": "all", "after": 0, "topics": ["runs", "steps", "tasks", "logs", "stats"] }).to_string());
            live
        })
        .collect();
    let warm = server.submit_wide(500);
    server.ended(&warm);
    let before = server.resident();
    let mut fast = server.live();
    let begun = std::time::Instant::now();
    let from = server.records().last().expect("some")["seq"].as_u64().expect("a seq");
    fast.ask(&json!({ "subscribe": "all", "after": from }));
    let runs: Vec<String> = (0..20).map(|_| server.submit_wide(500)).collect();
    let mut ended = BTreeSet::new();
    let mut seen = Vec::new();
    while ended.len() < runs.len() {
        let message = fast.next().expect("the server lives");
        seen.extend(message["seq"].as_u64());
        if is_event(&message, "run_completed") {
            ended.insert(message["record"]["run"].to_string());
        }
    }
    let rate = seen.len() as f64 / begun.elapsed().as_secs_f64();
    let journal: Vec<u64> = server.records().iter().filter_map(|record| record["seq"].as_u64()).filter(|seq| *seq > from).collect();
    assert!(seen.len() > 30_000 && journal.starts_with(&seen), "{} of {} records", seen.len(), journal.len());
    println!("{rate:.0} events a second, {} MiB more than before", server.resident().saturating_sub(before) >> 20);
    // 16 MiB of records are at hand; the rest of the bound is what runs and allocators keep.
    assert!(server.resident() < before + (160 << 20), "{} before, {} after", before, server.resident());
    // One that was stalled gets everything, once it reads.
    let mut woken = stalled.into_iter().next().expect("one");
    let mut late = Vec::new();
    while late.len() < journal.len() {
        let message = woken.next().expect("it was waited for");
        if message["type"] == "record" && message["seq"].as_u64().is_some_and(|seq| seq > from) {
            late.extend(message["seq"].as_u64());
        }
    }
    assert_eq!(late, journal);
    drop(idle);
}

#[test]
fn who_would_rather_skip_is_told_what_it_missed() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut slow = server.live();
    slow.say(&json!({ "subscribe": "new", "after": 0, "lag": "skip" }).to_string());
    assert_eq!(slow.next().expect("an answer")["type"], "subscribed");
    // More than what is at hand: large events, since what was made is in them.
    let large = "x".repeat(40_000);
    let inputs: Vec<Value> = (0..800).map(|n| json!({ "name": format!("in/{n:04}"), "content": large })).collect();
    let workflow = "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\nforeach = true\n";
    let run =
        server.post("/v1/runs", &json!({ "workflow": workflow, "inputs": inputs })).is(202)["run"].as_str().expect("a run").to_owned();
    server.ended(&run);
    let (mut last, mut gaps) = (0, Vec::new());
    loop {
        let message = slow.next().expect("it goes on");
        match message["type"].as_str() {
            Some("gap") => {
                assert_eq!(message["from"].as_u64(), Some(last + 1), "{message}");
                last = message["to"].as_u64().expect("a seq");
                gaps.push(message.clone());
            }
            _ => {
                assert_eq!(message["seq"].as_u64(), Some(last + 1), "{}", message["record"]["event"]);
                last += 1;
            }
        }
        if is_event(&message, "run_completed") {
            break;
        }
    }
    assert!(!gaps.is_empty(), "nothing was skipped");
    assert!(gaps[0]["detail"].as_str().is_some_and(|detail| detail.contains("/v1/events")), "{gaps:?}");
}

#[test]
fn told_to_end_it_lets_what_executes_end_and_says_so_to_those_who_follow() {
    let place = Place::new();
    let server = place.serve(&["--grace", "60s"]);
    let mut live = server.live();
    live.ask(&json!({ "subscribe": "all" }));
    let slow =
        json!({ "workflow": "name = \"slow\"\n[[step]]\nid = \"s\"\nworker = \"spin\"\nlimits = { fuel = \"3G\", timeout = \"60s\" }\n" });
    let run = server.post("/v1/runs", &slow).is(202)["run"].as_str().expect("a run").to_owned();
    live.until(|message| is_event(message, "attempt_started"));
    server.terminate();
    let rest: Vec<Value> = std::iter::from_fn(|| live.next()).collect();
    assert!(rest.iter().all(|message| message["type"] == "record"), "{rest:?}");
    let address = server.address;
    let (code, log) = server.ends();
    assert!(code == 0 && log.contains("\"ended\""), "{code} {log}");
    assert!(TcpStream::connect(address).is_err());
    // Its attempt ended within the grace period, and is on record.
    let (_, shown, _) = place.run(&["runs", "show", &run, "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["status"], &shown["tasks"][0]["failure"]["kind"]), (&json!("failed"), &json!("out_of_fuel")), "{shown}");
}

#[test]
fn every_command_works_against_a_server() {
    let place = Place::new();
    let server = place.serve(&[]);
    let url = server.url();
    std::fs::create_dir(place.path().join("in")).expect("made");
    for n in 0..3 {
        std::fs::write(place.path().join(format!("in/{n}")), n.to_string()).expect("written");
    }
    let workflow = wide(0)["workflow"].as_str().expect("text").to_owned();
    std::fs::write(place.path().join("w.toml"), &workflow).expect("written");
    std::fs::write(place.path().join("dead.toml"), hopeless()["workflow"].as_str().expect("text")).expect("written");
    std::fs::write(
        place.path().join("ask.toml"),
        "name = \"ask\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\napproval = true\n",
    )
    .expect("written");
    let there = |arguments: &[&str]| place.run(&[arguments, &["--server", &url]].concat());
    let says = |arguments: &[&str], code: i32, text: &str| {
        let (found, out, err) = there(arguments);
        assert!(found == code && format!("{out}{err}").contains(text), "{arguments:?}: {found}\n{out}\n{err}");
        out
    };
    says(&["plan", "w.toml"], 0, "w: hybrid, 2 steps in 2 levels");
    let (code, _, err) = place.run(&["runs", "list", "--server", &url.replace("http:", "https:")]);
    assert!(code == 2 && err.contains("does not speak TLS: one on plain HTTP is named by http://"), "{code}: {err}");
    says(&["run", "w.toml", "--out", "out"], 0, "wrote 6 files");
    assert_eq!(std::fs::read_to_string(place.path().join("out/s/1/in/1")).expect("written"), "1");
    says(&["run", "w.toml", "--json", "--idempotency-key", "k"], 0, "\"status\":\"completed\"");
    let detached = says(&["run", "w.toml", "--detach", "--idempotency-key", "k"], 0, "");
    says(&["runs", "show", detached.trim()], 0, "w completed");
    says(&["runs", "list"], 0, "w ");
    says(&["runs", "result", "latest", "--json"], 0, "completed");
    says(&["runs", "events", "latest", "--follow"], 0, "run_completed");
    says(&["runs", "events", "--json"], 0, "run_started");
    says(&["runs", "top"], 0, "no runs under way");
    says(&["runs", "logs", "latest"], 0, "");
    says(&["run", "dead.toml"], 1, "set aside");
    let listed = says(&["dead-letters", "list"], 0, "out_of_fuel");
    let letter = listed.split_whitespace().next().expect("a letter").to_owned();
    says(&["dead-letters", "show", &letter], 0, "run it again");
    says(&["dead-letters", "requeue", &letter], 0, "to be run again");
    says(&["runs", "events", "latest", "--follow"], 0, "task_requeued");
    says(&["dead-letters", "discard", "--all"], 0, "discarded");
    let asked = says(&["run", "ask.toml", "--detach"], 0, "");
    let mut live = server.live();
    live.ask(&json!({ "subscribe": "a", "after": 0, "runs": [asked.trim()] }));
    live.until(|message| is_event(message, "approval_requested"));
    says(&["runs", "approve", "latest", "--comment", &"x".repeat(5000)], 2, "at most 4096 are kept with each of 1 task");
    says(&["runs", "cancel", "latest", "--reason", &"x".repeat(5000)], 2, "at most 4096");
    says(&["runs", "approve", "latest", "--comment", "good"], 0, "approved");
    live.until(|message| is_event(message, "run_completed"));
    says(&["runs", "cancel", "latest"], 2, "completed");
    let slow = "name = \"slow\"\n[[step]]\nid = \"s\"\nworker = \"spin\"\nlimits = { fuel = \"2G\", timeout = \"60s\" }\n";
    std::fs::write(place.path().join("slow.toml"), slow).expect("written");
    says(&["run", "slow.toml", "--detach"], 0, "");
    says(&["runs", "pause", "latest"], 0, "paused");
    says(&["runs", "resume", "latest"], 1, "slow failed");
    says(&["runs", "resume", "--open"], 0, "every run has ended");
    says(&["plugins", "list"], 0, "echo");
    says(&["plugins", "list", "--json"], 0, "\"shadowed\":[]");
    says(&["plugins", "inspect", "echo"], 0, "sandhog:plugin/worker@0.1.0");
    says(&["call", "spin", "--fuel", "1M"], 1, "out_of_fuel");
    says(&["call", "echo", "--input", "in/1"], 0, "1");
    says(&["call", "echo", "--input", "in/1", "--json"], 0, "\"outcome\":\"completed\"");
    says(&["call", "nobody"], 2, "nobody");
    says(&["journal", "verify"], 0, "intact");
    says(&["journal", "usage"], 0, "runs");
    says(&["journal", "export"], 0, "run_started");
    says(&["journal", "prune", "--keep", "1"], 2, "not over --server");
    says(&["check", "."], 2, "not over --server");
    says(&["plugins", "grant", "echo"], 2, "not over --server");
    let (code, _, said) = place.run(&["runs", "list", "--server", "ftp://x"]);
    assert!(code == 2 && said.contains("no server's address"), "{said}");
    drop(server);
    let (code, _, said) = place.run(&["runs", "list", "--server", &url]);
    assert!(code == 3 && said.contains("nobody listens") || said.contains("refused"), "{code} {said}");
}

#[test]
fn a_command_that_follows_a_server_goes_on_when_that_comes_back() {
    let place = Place::new();
    let server = place.serve(&["--concurrency", "1"]);
    let address = server.address;
    let run = server.submit_wide(1500);
    let mut command = place.command(&["runs", "events", &run, "--follow", "--json", "--server", &server.url()]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut versions: Vec<u64> = Vec::new();
    let version = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["version"].as_u64().expect("a version");
    versions.extend(lines.by_ref().take(20).map(|line| version(&line.expect("reads"))));
    drop(server); // SIGKILL
    let server = place.serve_at(&address.to_string(), &[]);
    versions.extend(lines.map(|line| version(&line.expect("reads"))));
    assert!(child.wait().expect("ends").success());
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    assert_eq!(server.ended(&run)["version"].as_u64(), versions.last().copied());
}

#[test]
fn long_verdicts_make_short_pages_and_leave_findings_out_of_reports() {
    let place = Place::new();
    std::fs::copy(root().join("dist/guests/floods_verdict.wasm"), place.path().join("plugins/flood.wasm")).expect("scripts/guests first");
    std::fs::write(place.path().join("plugins/flood.toml"), "name = \"flood\"\n").expect("written");
    let server = place.serve(&[]);
    // Each verdict is 3.6 MB as JSON.
    let workflow = "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\nforeach = true\n\
                    gates = [{ gate = \"flood\", params = { bytes = 600000 } }]\n";
    let inputs: Vec<Value> = (0..8).map(|n| json!({ "name": format!("in/{n}"), "content": "x" })).collect();
    let accepted = server.post("/v1/runs", &json!({ "workflow": workflow, "inputs": inputs })).is(202);
    let run = accepted["run"].as_str().expect("a run").to_owned();
    let ended = server.ended(&run);
    assert_eq!(ended["status"], "completed");
    let records = server.get(&format!("/v1/runs/{run}")).is(200)["version"].as_u64().expect("a version");
    for all in ["/v1/events".to_owned(), format!("/v1/runs/{run}/events")] {
        let (mut after, mut read, mut pages) = (0, 0, 0);
        loop {
            let page = server.get(&format!("{all}?limit=1000&after={after}"));
            assert!(page.body.len() < 9 << 20, "{} bytes", page.body.len());
            let page = page.is(200);
            read += page["events"].as_array().expect("events").len() as u64;
            pages += 1;
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(read, records, "{all}");
        assert!(pages >= 4, "{pages}");
    }
    // 16 MiB of findings have room.
    let report = server.get(&format!("/v1/runs/{run}/report"));
    assert!(report.body.len() < 20 << 20, "{} bytes", report.body.len());
    let report = report.is(200);
    let left_out: u64 = report["tasks"].as_array().expect("tasks").iter().filter_map(|task| task["findings_left_out"].as_u64()).sum();
    assert_eq!(left_out, 4);
}

#[test]
fn plugins_are_uploaded_where_that_is_on_and_are_granted_nothing() {
    let place = Place::with("upload = \"plugins\"\n");
    let (code, _, said) = place.run(&["serve", "--upload", "in", "--check"]);
    assert!(code == 2 && said.contains("none of the plugin folders"), "{said}");
    let shout = std::fs::read(place.path().join("plugins/shout.wasm")).expect("reads");
    std::fs::remove_file(place.path().join("plugins/shout.wasm")).expect("removed");
    let server = place.serve(&[]);
    server.get("/v1/plugins/shout").refuses(404, "not_found");
    std::fs::write(place.path().join("mine.wasm"), &shout).expect("written");
    let (code, said, err) = place.run(&["plugins", "add", "mine.wasm", "--server", &server.url()]);
    assert_eq!(code, 0, "{said}{err}");
    let told = server.get("/v1/plugins/shout").is(200);
    assert!(told["state"] == "serves" && told.get("grant").is_none(), "{told}");
    // One that has no name of its own has that which it is sent under.
    std::fs::copy(root().join("tests/guests/traps_unreachable.wat"), place.path().join("phi.wat")).expect("copied");
    assert_eq!(place.run(&["pack", "phi.wat"]).0, 0);
    let (code, said, err) = place.run(&["plugins", "add", "phi.wasm", "--server", &server.url()]);
    assert_eq!(code, 0, "{said}{err}");
    assert_eq!(server.get("/v1/plugins/phi").is(200)["state"], "serves");
    // One that another folder's plugin of its name comes before is told of as that.
    let other = Place::new();
    let of_two = "plugins = [\"plugins\", \"up\"]\n[serve]\nupload = \"up\"\n";
    std::fs::create_dir(other.path().join("up")).and_then(|()| std::fs::write(other.path().join("sandhog.toml"), of_two)).expect("made");
    let server_of_two = other.serve(&[]);
    let echo = std::fs::read(other.path().join("plugins/echo.wasm")).expect("reads");
    std::fs::write(other.path().join("echo.wasm"), [&echo[..], &[0, 3, 1, b'v', 1]].concat()).expect("written");
    let (code, said, err) = other.run(&["plugins", "add", "echo.wasm", "--server", &server_of_two.url()]);
    assert!(code == 0 && said.contains("which shadowed"), "{said}{err}");
    for (name, body, status, code) in [("x", "no wasm", 422, "invalid"), ("..%2fx", "", 400, "malformed")] {
        server.ask("PUT", &format!("/v1/plugins/{name}"), &[("content-type", "application/wasm")], Some(body)).refuses(status, code);
    }
    let left: Vec<_> = std::fs::read_dir(place.path().join("plugins"))
        .expect("lists")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_plugin_that_is_replaced_before_it_was_ever_called_refuses_no_submission() {
    let place = Place::new();
    let file = place.path().join("plugins/echo.wasm");
    let bytes = std::fs::read(&file).expect("reads");
    let server = place.serve(&[]);
    for variant in 0..5_u8 {
        // A custom section, which means nothing: other bytes that do the same.
        let new = place.path().join("plugins/.echo.new");
        std::fs::write(&new, [&bytes[..], &[0, 3, 1, b'v', variant]].concat()).expect("written");
        std::fs::rename(&new, &file).expect("renamed");
        let run = server.submit_wide(1);
        assert_eq!(server.ended(&run)["status"], "completed");
    }
}

#[test]
fn files_that_hang_hold_up_only_those_who_want_files() {
    let component = std::fs::read(root().join("dist/guests/escapes_folder.wasm")).expect("run scripts/guests first");
    let digest = sandhog::model::Digest::of(&component);
    let grant =
        format!("[grants.reader]\ndigest = \"{digest}\"\nfiles = [{{ path = \"granted\", at = \"/granted\", access = \"read\" }}]\n");
    let place = Place::with(&format!("[breaker]\nconsecutive_failures = 100000\n{grant}"));
    let write = |path: &str, content: &[u8]| std::fs::write(place.path().join(path), content).expect("written");
    std::fs::create_dir(place.path().join("granted")).expect("made");
    write("granted/inside.txt", b"inside");
    write("plugins/reader.wasm", &component);
    write("plugins/reader.toml", b"name = \"reader\"\n[requests]\nfiles = [{ at = \"/granted\", access = \"read\", why = \"reads\" }]\n");
    let server = place.serve(&["--concurrency", "8", "--threads", "2"]);
    let reads = |before: &str, tasks: usize, timeout: &str| {
        let inputs: Vec<Value> = (0..tasks).map(|n| json!({ "name": format!("in/{n}"), "content": "" })).collect();
        let workflow = format!(
            "name = \"w\"\n{before}[[step]]\nid = \"s\"\nworker = \"reader\"\ninputs = [\"in/*\"]\nforeach = true\nlimits = {{ timeout = \"{timeout}\" }}\n\
             retry = {{ maximum_attempts = 1 }}\n{}",
            if before.is_empty() { "" } else { "needs = [\"first\"]\n" }
        );
        let run = server.post("/v1/runs", &json!({ "workflow": workflow, "inputs": inputs })).is(202);
        run["run"].as_str().expect("a run").to_owned()
    };
    let run = reads("", 1, "100s");
    assert_eq!(server.ended(&run)["status"], "completed");
    // A file that nobody writes to: whoever opens it waits, as for a disk of a network that is gone. It comes when the run was accepted.
    let run = reads("[[step]]\nid = \"first\"\nworker = \"reader\"\napproval = true\n", 200, "100ms");
    let mut live = server.live();
    live.ask(&json!({ "subscribe": "a", "after": 0, "runs": [run] }));
    live.until(|message| is_event(message, "approval_requested"));
    let file = place.path().join("granted/inside.txt");
    std::fs::remove_file(&file).expect("removed");
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    server.post(&format!("/v1/runs/{run}/commands"), &json!({ "command": "approve", "step": "first", "approved": true })).is(202);
    assert_eq!(server.ended(&run)["status"], "failed");
    let late = |record: &&Value| {
        record["run"] == json!(run) && record["event"] == "attempt_failed" && record["failure"]["kind"] == "deadline_exceeded"
    };
    let records = server.records();
    assert_eq!(records.iter().filter(late).count(), 200, "{:?}", records.last());
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).expect("it lives").flatten();
    let of_guests = tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "sandhog-guest"));
    assert_eq!(of_guests.count(), 2 + 48, "all that there are for files wait for this one");
    // A plugin that was never loaded, inputs that are read from the journal, and artifacts.
    let inputs: Vec<Value> = (0..9).map(|n| json!({ "name": format!("in/{n}"), "content": n.to_string().repeat(20_000) })).collect();
    let mut submission = wide(0);
    submission["inputs"] = inputs.into();
    let run = server.post("/v1/runs", &submission).is(202)["run"].as_str().expect("a run").to_owned();
    let report = server.ended(&run);
    assert_eq!(report["status"], "completed", "{report}");
    let made = server.get(&format!("/v1/runs/{run}/artifacts")).is(200);
    assert_eq!(made["artifacts"].as_array().map(Vec::len), Some(18), "{made}");
    // And those who want files again, once this one has somebody who writes.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let writer = std::os::unix::fs::OpenOptionsExt::custom_flags(std::fs::File::options().write(true), nonblocking).open(&file);
    drop(writer.expect("somebody reads"));
    std::fs::remove_file(&file).expect("removed");
    write("granted/inside.txt", b"inside");
    let run = reads("", 1, "100s");
    assert_eq!(server.ended(&run)["status"], "completed");
    server.terminate();
    assert_eq!(server.ends().0, 0);
}

#[test]
fn figures_count_what_happened_and_instances_return_to_zero() {
    let place = Place::new();
    let server = place.serve(&[]);
    let run = server.submit_wide(20);
    server.ended(&run);
    let dead = server.post("/v1/runs", &hopeless()).is(202)["run"].as_str().expect("a run").to_owned();
    server.ended(&dead);
    // What was told last is counted last: a reader of the same stream has seen it when it is.
    let mut live = server.live();
    live.ask(&json!({ "subscribe": "a", "after": 0, "runs": [dead], "topics": ["runs"] }));
    live.until(|message| is_event(message, "run_failed"));
    let text = server.get("/metrics");
    assert!(text.head.contains("application/openmetrics-text"), "{}", text.head);
    let figures: BTreeMap<&str, f64> =
        text.body.lines().filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect();
    let figure = |name: &str| *figures.get(name).unwrap_or_else(|| panic!("no {name} in\n{}", text.body));
    assert_eq!(figure("sandhog_attempts_total{kind=\"worker\",outcome=\"completed\"}"), 21.0);
    assert_eq!(figure("sandhog_attempts_total{kind=\"worker\",outcome=\"out_of_fuel\"}"), 1.0);
    assert_eq!(figure("sandhog_dead_letters_total"), 1.0);
    assert_eq!(figure("sandhog_runs_total{event=\"run_completed\"}"), 1.0);
    assert!(figure("sandhog_fuel_total{kind=\"worker\"}") > 1e6);
    assert_eq!((figure("sandhog_live_instances"), figure("sandhog_executing"), figure("sandhog_queue_depth")), (0.0, 0.0, 0.0));
    assert!(figure("sandhog_process_resident_bytes") > 1e6 && figure("sandhog_journal_head") > 60.0);
    assert!(text.body.trim_end().ends_with("# EOF"));
}

#[test]
fn what_holds_is_shown_with_where_it_came_from() {
    let place = Place::with("rate = 7\ngrace = \"3s\"\n");
    let shown = |command: &mut Command| {
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let rows = all["settings"].as_array().expect("settings").clone();
        move |name: &str| {
            rows.iter()
                .find(|row| row["name"] == name)
                .map(|row| (row["value"].clone(), row["source"].as_str().expect("text").to_owned()))
                .expect("a row")
        }
    };
    let of = shown(
        place
            .command(&["config", "show", "--json", "--rate", "9"])
            .env("SANDHOG_GRACE", "5s")
            .env("SANDHOG_RATE", "8")
            .env("SANDHOG_TOKEN", "a-secret-token-of-mine"),
    );
    assert_eq!(of("serve.rate"), (json!(9), "flag".to_owned()));
    assert_eq!(of("serve.grace"), (json!("5s"), "environment".to_owned()));
    assert_eq!(of("serve.listen"), (json!("127.0.0.1:8080"), "default".to_owned()));
    assert_eq!(of("serve.token"), (json!("in SANDHOG_TOKEN"), "environment".to_owned()));
    let of = shown(place.command(&["config", "show", "--json"]).env("SANDHOG_RATE", "8"));
    assert_eq!(of("serve.rate"), (json!(8), "environment".to_owned()));
    assert_eq!(of("serve.grace"), (json!("3s"), "file".to_owned()));
    assert_eq!(of("config").1, "found");
    let (code, said, _) = place.run(&["serve", "--check", "--listen", "127.0.0.1:0"]);
    assert!(code == 0 && said.starts_with("good: "), "{said}");
    std::fs::write(place.path().join("sandhog.toml"), "[serve]\nlisten = \"here\"\nrtae = 1\norigins = [\"x\"]\n").expect("written");
    let (code, _, said) = place.run(&["serve", "--check"]);
    assert!(code == 2 && said.contains("no address to listen on") && said.contains("rate") && said.contains("origin"), "{said}");
    let second = Place::new();
    let _held = second.serve(&[]);
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["serve", "--listen", "127.0.0.1:0", "--check"]] {
        let (code, _, said) = second.run(arguments);
        assert!(code == 2 && said.contains("held by another process"), "{said}");
    }
    let third = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, _, said) = third.run(&["serve", "--check", "--listen", &address]);
    assert!(code == 2 && said.contains("cannot be listened on"), "{said}");
    let (code, _, said) = third.run(&["serve", "--check", "--listen", "127.0.0.1:0", "--plugins", "nowhere"]);
    assert!(code == 2 && said.contains("cannot be listed"), "{said}");
}

/// Connections that have become WebSockets are connections still: they take the places that one door has, and no more.
#[test]
fn open_websockets_are_counted_as_connections() {
    let place = Place::new();
    let serve = "ulimit -n 2048; exec \"$@\"";
    let listen = place.command(&["serve", "--listen", "127.0.0.1:0", "--rate", "0", "--log-format", "json"]);
    let mut command = Command::new("sh");
    command.args(["-c", serve, "sh"]).arg(listen.get_program()).args(listen.get_args()).current_dir(place.path()).stdin(Stdio::null());
    let server = Server::listening(command.env("SANDHOG_GATES", ""));
    let request = "GET /v1/live HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let mut open: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(request.as_bytes()).expect("sent");
            stream
        })
        .collect();
    // By the other door, of this machine's user, which has places of its own.
    let following = || {
        let mut door = std::os::unix::net::UnixStream::connect(place.path().join(".sandhog/socket")).expect("connects");
        door.write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        door.read_to_string(&mut answer).expect("reads");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        serde_json::from_str::<Value>(body).unwrap_or_else(|error| panic!("{error}: {body}"))["subscribers"].as_u64().expect("a count")
    };
    while following() < 256 {}
    // Long enough for all others, if they were let in.
    std::fs::write(place.path().join("w.toml"), wide(200)["workflow"].as_str().expect("text")).expect("written");
    std::fs::write(place.path().join("a"), "a").expect("written");
    place.run(&["run", "w.toml"]);
    assert_eq!(following(), 256, "an eighth of the files that the process may open");
    // Whoever goes makes place.
    open.drain(..256).for_each(drop);
    let mut last = open.pop().expect("one");
    let mut answer = [0; 12];
    last.read_exact(&mut answer).expect("is answered");
    assert_eq!(&answer, b"HTTP/1.1 101");
}

/// One record that cannot be read is that run's trouble: the server starts, and all others go on.
#[test]
fn a_run_that_is_damaged_keeps_no_server_from_starting() {
    let place = Place::new();
    let server = place.serve(&[]);
    let waits = json!({ "workflow": "name = \"waits\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\napproval = true\n" });
    let submit = |key: &str| {
        let body = waits.to_string();
        let answer = server.ask("POST", "/v1/runs", &[("idempotency-key", key)], Some(&body)).is(202);
        answer["run"].as_str().expect("a run").to_owned()
    };
    let [damaged, whole] = ["damaged", "whole"].map(submit);
    for run in [&damaged, &whole] {
        while server.get(&format!("/v1/runs/{run}")).is(200)["approving"] != 1 {}
    }
    drop(server);
    let file = rusqlite::Connection::open(place.path().join(".sandhog/journal.sqlite")).expect("opens");
    let name = damaged.replace('-', "");
    let sql =
        format!("UPDATE records SET event = '~' WHERE version < 3 AND stream = (SELECT id FROM streams WHERE hex(name) = upper('{name}'))");
    assert_eq!(file.execute(&sql, []).expect("damaged"), 2);
    drop(file);
    let server = place.serve(&[]);
    let approve = json!({ "command": "approve", "step": "s", "approved": true });
    server.post(&format!("/v1/runs/{damaged}/commands"), &approve).refuses(500, "failed");
    // Nor does the client who says again what he said before.
    server.ask("POST", "/v1/runs", &[("idempotency-key", "damaged")], Some(&waits.to_string())).refuses(500, "failed");
    server.post(&format!("/v1/runs/{whole}/commands"), &approve).is(202);
    assert_eq!(server.ended(&whole)["status"], "completed");
}
