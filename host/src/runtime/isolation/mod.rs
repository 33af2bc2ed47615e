//! Each attempt in a process of its own, behind walls of the kernel's: the second wall, for whoever does not want to trust the engine
//! alone (`docs/adr/0020-a-process-for-each-attempt.md`).
//!
//! The process is this program under a hidden command. It is given the code, the task and what is granted, walls itself in before the
//! guest's first instruction, runs the one attempt as a host without isolation does, and ends. It has no network and sees no secret:
//! its host makes the requests and reads the subject's files. Whatever it says is held to the contract again here; if it dies, or does
//! not end in time, that is this attempt's failure and nobody else's.

pub(super) mod guest;
mod walls;
pub(super) mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpHooks as _};

use self::wire::{Done, Head, Refusal, Request, Start, ToGuest, ToHost, WireAnswer, WireEntrance, WireLooks, WireSubject};
use super::attempt::{Answer, CANCEL_GRACE, Entrance, cost_bytes, input_refusal, late, refused};
use super::capture::Capture;
use super::outbound::Hooks;
use super::warm::Places;
use super::{Call, Error, Inner, Plugin};
use crate::clock::Stopwatch;
use crate::model::snapshot::Snapshot;
use crate::model::text::sanitize;
use crate::model::{Attempt, Failure, FailureKind, Log, Receipt, Subject};

pub use wire::Trial;

/// How many descriptors of its host a process takes: the two ends of a socket, one of which is closed once it runs, the code, and what
/// starting it takes.
pub(super) const DESCRIPTORS: u32 = 6;
/// How long behind its deadline, or its cancellation, a process has to say so itself, before it is killed.
const GRACE: Duration = Duration::from_millis(500);
/// How long a process may take to try the walls.
const TRIAL_MAX: Duration = Duration::from_secs(30);
/// How much a note of progress and the like may take: frames of a process that only tries the walls.
const TRIAL_BYTES_MAX: usize = 1 << 20;
/// How many files of a subject are read at once for one process.
const READS_MAX: usize = 4;
/// How many messages to a process wait for it to read them.
const QUEUE: usize = 16;
/// How many responses a process may have open. It cannot have as many as this without breaking the rules of [`Hooks`].
const RESPONSES_MAX: usize = 256;
/// The longest note of progress that is handed on, in bytes.
const NOTE_BYTES_MAX: usize = 200;

/// Where a process finds the code that it runs: what would be its standard output, which it has none of.
const CODE: &str = if cfg!(target_os = "linux") { "/proc/self/fd/1" } else { "/dev/fd/1" };

/// The program, and the threads that speak with its processes.
pub(super) struct Processes {
    program: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Tries the walls in a process of a program, and says what came of each attempt to get out.
///
/// # Errors
/// When there is no such process, or it gives no answer.
pub fn trials(program: &Path) -> Result<Vec<Trial>, Error> {
    let failed = |error: std::io::Error| Error::Isolation(format!("the process that tries the walls gave no answer: {error}"));
    let nothing = File::open("/dev/null").map_err(failed)?;
    let (process, mut socket) = Process::start(program, nothing)?;
    socket.set_read_timeout(Some(TRIAL_MAX)).map_err(failed)?;
    // A folder that is granted, and a file beside it; where none can be made, nobody tries that.
    let folder = tempfile::tempdir().ok().filter(|folder| folder.path().to_str().is_some()).filter(|folder| {
        let granted = folder.path().join(walls::GRANTED);
        let write = |path: PathBuf| std::fs::write(path, "x");
        std::fs::create_dir(&granted)
            .and_then(|()| write(granted.join(walls::INSIDE)))
            .and_then(|()| write(folder.path().join(walls::BESIDE)))
            .is_ok()
    });
    let asked = ToGuest::Try(folder.as_ref().map(|folder| folder.path().to_owned()));
    wire::write(&mut socket, &asked).map_err(failed)?;
    let told = wire::read(&mut socket, TRIAL_BYTES_MAX);
    process.end();
    match told.map_err(failed)? {
        ToHost::Tried(trials) if !trials.is_empty() => Ok(trials),
        _ => Err(Error::Isolation("the process that tries the walls did not try them".to_owned())),
    }
}

impl Processes {
    /// Makes sure that the walls hold on this machine.
    ///
    /// # Errors
    /// When one does not.
    pub(super) fn new(program: PathBuf) -> Result<Self, Error> {
        if let Some(trial) = trials(&program)?.iter().find(|trial| trial.stopped_by.is_none()) {
            let act = &trial.act;
            return Err(Error::Isolation(format!("on this machine a guest's process could {act}; see `sandhog config walls`")));
        }
        if !cfg!(target_os = "linux") {
            tracing::warn!("processes of guests are walled in by POSIX limits alone: Landlock and seccomp are Linux's");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sandhog-isolation")
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        Ok(Self { program, runtime: Some(runtime) })
    }

    /// One attempt in a process of its own.
    pub(super) async fn attempt(
        &self,
        inner: &Arc<Inner>,
        plugin: &Arc<Plugin>,
        entrance: Entrance,
        call: Call,
        places: Places,
    ) -> Attempt<Answer> {
        let Some(runtime) = &self.runtime else { return refused(Failure::new(FailureKind::Host, "the runtime is shutting down")) };
        let (inner, plugin, program) = (Arc::clone(inner), Arc::clone(plugin), self.program.clone());
        let work = runtime.spawn(async move {
            let _places = places;
            one(&inner, &program, &plugin, entrance, &call).await
        });
        match AbortOnDropHandle::new(work).await {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => super::attempt::panicked(error.into_panic()),
            Err(_) => refused(Failure::new(FailureKind::Host, "the runtime is shutting down")),
        }
    }
}

/// A process, which is killed and waited for when nobody wants it any more.
struct Process(Option<Child>);

impl Process {
    fn start(program: &Path, code: File) -> Result<(Self, UnixStream), Error> {
        let failed = |error: std::io::Error| Error::Isolation(format!("a process cannot be started: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("guest").env_clear().env(super::TAKES_AS_NEEDED.0, super::TAKES_AS_NEEDED.1);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(code).stderr(Stdio::null());
        // Not of our terminal's group: who interrupts us ends it by ending us.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok((Self(Some(command.spawn().map_err(failed)?)), ours))
    }

    /// Kills it, if it has not ended, and says how it ended. Waits for that.
    fn end(mut self) -> Option<std::process::ExitStatus> {
        let mut child = self.0.take()?;
        let ended = child.try_wait().ok().flatten();
        ended.or_else(|| {
            let _ = child.kill();
            child.wait().ok()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let _ = child.kill();
        let mut wait = move || drop(child.wait());
        // One that the kernel does not let go of holds up nobody else.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(wait)),
            Err(_) => wait(),
        }
    }
}

async fn one(inner: &Arc<Inner>, program: &Path, plugin: &Arc<Plugin>, entrance: Entrance, call: &Call) -> Attempt<Answer> {
    let begun = Stopwatch::start();
    let now = Instant::now();
    let deadline = now.checked_add(call.limits.timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 60 * 60));
    let bytes_in = cost_bytes(&entrance);
    if let Some(refusal) = input_refusal(bytes_in, &call.limits) {
        return Attempt { receipt: Receipt { bytes_in, ..Receipt::default() }, ..refused(refusal) };
    }
    let _alive = inner.ticker.gauge().enter();
    let told = within(inner, program, plugin, entrance, call, deadline).await;
    let (result, mut receipt, log) = match told {
        Ok(done) => held_to_the_contract(done, call),
        Err(failure) => (Err(failure), Receipt::default(), Log::default()),
    };
    (receipt.bytes_in, receipt.wall_time) = (bytes_in, begun.elapsed());
    Attempt { result, receipt, log }
}

/// What a process says, with nothing in it that a guest could not have said.
fn held_to_the_contract(done: Done, call: &Call) -> (Result<Answer, Failure>, Receipt, Log) {
    let limits = &call.limits;
    let Done { result, receipt, log, looks } = done;
    let failed = |failure: Failure| match failure.kind {
        // The process knows what was left of it, and what was denied.
        FailureKind::DeadlineExceeded => {
            let rest = failure.message.find('\n').map_or("", |at| &failure.message[at..]);
            Failure::new(failure.kind, late(limits).message + rest)
        }
        kind => Failure::new(kind, failure.message),
    };
    let answer = result.map_err(failed).and_then(|answer| {
        let answer = match answer {
            WireAnswer::Artifacts(artifacts) => Answer::Artifacts(artifacts),
            WireAnswer::Verdict(verdict) => Answer::Verdict(verdict),
            WireAnswer::Units(units) => Answer::Units(units),
        };
        answer.checked(limits.output)
    });
    let capture = Capture::new(limits.log);
    log.lines.iter().for_each(|line| capture.line(line.source, &line.text));
    let held = capture.finish();
    let log = Log {
        gap_at: held.gap_at.or(log.gap_at.map(|at| at.min(held.lines.len()))),
        dropped_bytes: held.dropped_bytes.saturating_add(log.dropped_bytes),
        lines: held.lines,
    };
    if let Some(record) = &call.looks {
        match looks {
            WireLooks::These(looks) => record.merge(Some(looks)),
            WireLooks::TooMany | WireLooks::None => record.merge(None),
        }
    }
    let receipt = Receipt {
        fuel: receipt.fuel.min(limits.fuel),
        peak_memory_bytes: receipt.peak_memory_bytes.min(limits.memory),
        bytes_out: answer.as_ref().map_or(receipt.bytes_out, Answer::cost_bytes),
        ..receipt
    };
    (answer, receipt, log)
}

/// Starts a process, and hears it out, until its deadline.
async fn within(
    inner: &Arc<Inner>,
    program: &Path,
    plugin: &Arc<Plugin>,
    entrance: Entrance,
    call: &Call,
    deadline: Instant,
) -> Result<Done, Failure> {
    let host = |message: String| Failure::new(FailureKind::Host, message);
    let code = plugin.code.as_ref().ok_or_else(|| host("the plugin was loaded for a host without isolation".to_owned()))?;
    let failed = |error: std::io::Error| host(format!("the process of the attempt: {error}"));
    let again = code.file.try_clone().map_err(failed)?;
    let (process, socket) = Process::start(program, again).map_err(|error| host(error.to_string()))?;
    socket.set_nonblocking(true).map_err(failed)?;
    let socket = tokio::net::UnixStream::from_std(socket).map_err(failed)?;
    let subject = match &entrance {
        Entrance::Worker(_) => None,
        Entrance::Gate(subject) | Entrance::Units(subject) => Some((Arc::clone(&subject.snapshot), Arc::clone(&subject.data))),
    };
    let start = Start {
        stack_bytes: inner.stack_bytes,
        code_bytes: code.bytes,
        limits: call.limits.into(),
        left: deadline.saturating_duration_since(Instant::now()),
        grant: call.grant.as_ref().into(),
        name: plugin.name.clone(),
        digest: plugin.digest,
        command: plugin.command.clone(),
        entrance: match entrance {
            Entrance::Worker(task) => WireEntrance::Worker(task),
            Entrance::Gate(subject) => WireEntrance::Gate(wired(subject)),
            Entrance::Units(subject) => WireEntrance::Units(wired(subject)),
        },
        notes_looks: call.looks.is_some(),
        tells_progress: call.progress.is_some(),
    };
    let start = wire::frame(&ToGuest::Start(Box::new(start))).map_err(failed)?;
    let capture = Capture::new(call.limits.log);
    let hooks = Hooks::new(Arc::clone(&inner.outbound), call.canned.clone(), Arc::clone(&call.grant), plugin.name.clone(), capture);
    let talk = Talk { call, hooks, subject, bodies: HashMap::new() };
    let ended = tokio::select! {
        biased;
        () = tokio::time::sleep_until(deadline + GRACE) => {
            let message = format!("no outcome within the `timeout` of {:?}, and its process had to be killed", call.limits.timeout);
            return Err(Failure::new(FailureKind::DeadlineExceeded, message));
        }
        () = async { call.cancel.cancelled().await; tokio::time::sleep(CANCEL_GRACE + GRACE).await } => {
            return Err(Failure::new(FailureKind::Cancelled, "cancelled, and its process had to be killed"));
        }
        ended = talk.listen(socket, start) => ended,
    };
    match ended {
        Ok(done) => Ok(done),
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            let how = tokio::task::spawn_blocking(move || process.end()).await.ok().flatten();
            let how = how.map_or_else(|| "in an unknown way".to_owned(), |status| status.to_string());
            Err(host(format!("the process of the attempt ended without a word: {how}")))
        }
        Err(error) => Err(host(format!("the process of the attempt does not keep to its protocol: {error}"))),
    }
}

fn wired(subject: Subject) -> WireSubject {
    let Subject { files, snapshot, data, task, usage, params, unit } = subject;
    let names = |tree: &Snapshot| tree.files().map(|(path, size)| (path.to_owned(), size)).collect();
    // What the judged task was given is named, and not handed in.
    WireSubject { files, snapshot: names(&snapshot), data: names(&data), task, usage, params: params.to_string(), unit }
}

/// What is said with one process.
struct Talk<'a> {
    call: &'a Call,
    hooks: Hooks,
    subject: Option<(Arc<Snapshot>, Arc<Snapshot>)>,
    /// Requests that were made, by their number: who waits to be asked for the next part of the response, and what ends that.
    bodies: HashMap<u64, (mpsc::Sender<()>, AbortHandle)>,
}

impl Talk<'_> {
    /// Hears a process out to its last word.
    async fn listen(mut self, socket: tokio::net::UnixStream, start: Vec<u8>) -> std::io::Result<Done> {
        let (from, mut to) = socket.into_split();
        let mut from = tokio::io::BufReader::new(from);
        let bytes_max = wire::to_host_bytes_max(&self.call.limits);
        let (sender, mut queue) = mpsc::channel::<ToGuest>(QUEUE);
        let cancel = self.call.cancel.clone();
        let cancelling = sender.clone();
        // All that is started here ends with the attempt.
        let mut helpers = tokio::task::JoinSet::new();
        helpers.spawn(async move {
            if to.write_all(&start).await.is_err() {
                return;
            }
            drop(start);
            while let Some(message) = queue.recv().await {
                let Ok(frame) = wire::frame(&message) else { return };
                if to.write_all(&frame).await.is_err() {
                    return;
                }
            }
        });
        helpers.spawn(async move {
            cancel.cancelled().await;
            let _ = cancelling.send(ToGuest::Cancel).await;
        });
        let reads = Arc::new(Semaphore::new(READS_MAX));
        loop {
            // Those that have ended are let go of.
            while helpers.try_join_next().is_some() {}
            match wire::receive::<ToHost>(&mut from, bytes_max).await? {
                ToHost::Done(done) => return Ok(*done),
                ToHost::Progress { fraction, note } => {
                    if let Some(progress) = &self.call.progress {
                        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
                        progress(fraction, &sanitize(&note, NOTE_BYTES_MAX));
                    }
                }
                ToHost::Read { id, of_data, path } => {
                    let tree = self.subject.as_ref().map(|(subject, data)| Arc::clone(if of_data { data } else { subject }));
                    let tree = tree.ok_or_else(|| std::io::Error::other("it reads a subject that it was not given"))?;
                    let (place, sender) = (Arc::clone(&reads).acquire_owned().await.map_err(std::io::Error::other)?, sender.clone());
                    helpers.spawn(async move {
                        let read = tokio::task::spawn_blocking(move || tree.content(&path)).await;
                        let content = read.unwrap_or_else(|error| Err(error.to_string()));
                        let _ = sender.send(ToGuest::Content { id, content }).await;
                        drop(place);
                    });
                }
                ToHost::Request(request) => self.request(request, &sender, &mut helpers)?,
                ToHost::Pull { id } => match self.bodies.get(&id) {
                    Some((body, _)) if !body.is_closed() => drop(body.try_send(())), // one that is asked already goes on
                    Some(_) | None => drop(sender.send(ToGuest::Part { id, part: None }).await),
                },
                ToHost::Forget { id } => {
                    if let Some((_, request)) = self.bodies.remove(&id) {
                        request.abort();
                    }
                }
                ToHost::Tried(_) => return Err(std::io::Error::other("it answers what nobody asked")),
            }
        }
    }

    /// Judges a request, and has it made if it may be.
    fn request(&mut self, request: Request, sender: &mpsc::Sender<ToGuest>, helpers: &mut tokio::task::JoinSet<()>) -> std::io::Result<()> {
        let Request { id, method, uri, headers, body, first_byte_timeout } = request;
        self.bodies.retain(|_, (body, _)| !body.is_closed());
        if self.bodies.len() >= RESPONSES_MAX || self.bodies.contains_key(&id) {
            return Err(std::io::Error::other("it has more requests than it may"));
        }
        let body: WasiBody = http_body_util::Full::new(body).map_err(|never| match never {}).boxed_unsync();
        let built = http::Request::builder().method(method.as_str()).uri(uri).body(body);
        let sent = built.map(|mut request| {
            *request.headers_mut() = wire::header_map(headers);
            let options = RequestOptions { connect_timeout: None, first_byte_timeout, between_bytes_timeout: None };
            Pin::from(self.hooks.send_request(request, Some(options), Box::new(async { Ok(()) })))
        });
        let told = self.hooks.capture().finish().lines;
        let denied = self.hooks.denied().map(str::to_owned);
        let (pulls, mut pulled) = mpsc::channel(1);
        let sender = sender.clone();
        let helper = helpers.spawn(async move {
            let answer = match sent {
                Ok(sent) => sent.await.map_err(Refusal::from),
                Err(_) => Err(Refusal::UriInvalid),
            };
            let (head, mut body) = match answer {
                Ok((response, _)) => {
                    let (parts, body) = response.into_parts();
                    (Ok(Head { status: parts.status.as_u16(), headers: wire::headers(&parts.headers) }), Some(body))
                }
                Err(refusal) => (Err(refusal), None),
            };
            if sender.send(ToGuest::Response { id, head, told, denied }).await.is_err() {
                return;
            }
            while let Some(of) = &mut body
                && pulled.recv().await.is_some()
            {
                let part = next_part(of).await;
                if !matches!(part, Some(Ok(_))) {
                    body = None;
                }
                if sender.send(ToGuest::Part { id, part }).await.is_err() {
                    return;
                }
            }
        });
        self.bodies.insert(id, (pulls, helper));
        Ok(())
    }
}

async fn next_part(body: &mut WasiBody) -> Option<Result<Bytes, Refusal>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(Refusal::from(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogLine, LogSource};

    fn held(lines: usize, gap_at: Option<usize>, dropped_bytes: u64) -> Log {
        let line = LogLine { source: LogSource::Info, text: "x".repeat(1000) };
        let log = Log { lines: vec![line; lines], gap_at, dropped_bytes };
        let done = Done { result: Ok(WireAnswer::Units(Vec::new())), receipt: Receipt::default(), log, looks: WireLooks::None };
        held_to_the_contract(done, &Call::default()).2
    }

    #[test]
    fn a_process_that_sends_more_log_than_its_limit_has_it_cut() {
        let limit = Call::default().limits.log;
        let log = held(5 * usize::try_from(limit).expect("fits") / 1000, None, 0);
        let kept: usize = log.lines.iter().map(|line| line.text.len()).sum();
        assert!(kept as u64 <= limit && kept as u64 > limit / 2, "{kept} of {limit}");
        assert!(log.gap_at.is_some() && log.dropped_bytes > 3 * limit);
        // One that its process has cut already stays as it is.
        let log = held(3, Some(2), 7);
        assert_eq!((log.lines.len(), log.gap_at, log.dropped_bytes), (3, Some(2), 7));
    }
}
