//! The process's side: is given one attempt, walls itself in, and runs it as any host would. What the walls keep from it, it asks
//! its host for: files of a subject, requests over HTTP.

use std::collections::HashMap;
use std::io::BufReader;
use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::wire::{self, Done, Head, Refusal, Request, Start, ToGuest, ToHost, WireAnswer, WireEntrance, WireLooks, WireSubject};
use super::{CODE, walls};
use crate::clock::Stopwatch;
use crate::model::snapshot::{Looks, Snapshot};
use crate::model::{Access, Attempt, Failure, FailureKind, FileGrant, Grant, Limits, Log, LogLine, Receipt, Subject};
use crate::runtime::attempt::{Answer, Entrance};
use crate::runtime::outbound::Outbound;
use crate::runtime::state::Progress;
use crate::runtime::{Allocator, Call, Runtime, Settings, engine};

/// The threads for calls that wait for files: all that there are, since none can be started behind the last wall.
const BLOCKING_THREADS: usize = 4;
/// How often progress is told at most: it is for people to see.
const PROGRESS_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// What came of a request: the head of the response, and what its host has to say of it.
pub(in crate::runtime) struct Response {
    pub(in crate::runtime) head: Result<Head, Refusal>,
    pub(in crate::runtime) told: Vec<LogLine>,
    pub(in crate::runtime) denied: Option<String>,
}

type Part = Option<Result<Bytes, Refusal>>;

/// Who waits for an answer.
enum Waiting {
    Content(mpsc::SyncSender<Result<Bytes, String>>),
    Response(oneshot::Sender<Response>),
    Part(oneshot::Sender<Part>),
}

/// The way to the host.
pub(in crate::runtime) struct Link {
    out: Mutex<UnixStream>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    fn send(&self, message: &ToHost) {
        let frame = wire::frame(message);
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if frame.and_then(|frame| std::io::Write::write_all(&mut *out, &frame)).is_err() {
            std::process::exit(1); // nobody is there any more
        }
    }

    fn wait(&self, id: u64, waiting: Waiting) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, waiting);
    }

    /// A number that nothing was asked under.
    pub(in crate::runtime) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// The content of a file, which is read by the host. Blocks.
    fn content(&self, of_data: bool, path: &str) -> Result<Bytes, String> {
        let (id, (sender, receiver)) = (self.next(), mpsc::sync_channel(1));
        self.wait(id, Waiting::Content(sender));
        self.send(&ToHost::Read { id, of_data, path: path.to_owned() });
        receiver.recv().unwrap_or_else(|_| Err("the host is gone".to_owned()))
    }

    /// Has the host make a request, if it may be made, under a number that is fresh.
    pub(in crate::runtime) async fn request(
        &self,
        id: u64,
        parts: http::request::Parts,
        body: Bytes,
        wait: Option<std::time::Duration>,
    ) -> Response {
        let (sender, receiver) = oneshot::channel();
        self.wait(id, Waiting::Response(sender));
        self.send(&ToHost::Request(Request {
            id,
            method: parts.method.as_str().to_owned(),
            uri: parts.uri.to_string(),
            headers: wire::headers(&parts.headers),
            body,
            first_byte_timeout: wait,
        }));
        let gone = || Response { head: Err(Refusal::Internal(None)), told: Vec::new(), denied: None };
        receiver.await.unwrap_or_else(|_| gone())
    }

    /// Asks for the next part of a response.
    pub(in crate::runtime) fn pull(&self, id: u64) -> oneshot::Receiver<Part> {
        let (sender, receiver) = oneshot::channel();
        self.wait(id, Waiting::Part(sender));
        self.send(&ToHost::Pull { id });
        receiver
    }

    /// Says that a response is not wanted, or no more of it.
    pub(in crate::runtime) fn forget(&self, id: u64) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.send(&ToHost::Forget { id });
    }

    /// Hands out what comes from the host, until it is gone.
    fn listen(&self, from: &mut impl std::io::Read, cancel: &CancellationToken) {
        loop {
            let Ok(message) = wire::read::<ToGuest>(from, wire::TO_GUEST_BYTES_MAX) else { std::process::exit(1) };
            let waiting = |id: u64| self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            match message {
                ToGuest::Cancel => cancel.cancel(),
                ToGuest::Content { id, content } => {
                    if let Some(Waiting::Content(sender)) = waiting(id) {
                        let _ = sender.send(content);
                    }
                }
                ToGuest::Response { id, head, told, denied } => {
                    if let Some(Waiting::Response(sender)) = waiting(id) {
                        let _ = sender.send(Response { head, told, denied });
                    }
                }
                ToGuest::Part { id, part } => {
                    if let Some(Waiting::Part(sender)) = waiting(id) {
                        let _ = sender.send(part);
                    }
                }
                ToGuest::Try(_) | ToGuest::Start(_) => {}
            }
        }
    }
}

/// Does what a host asks for on standard input, a socket, and ends.
///
/// # Errors
/// When there is no host.
pub fn serve() -> std::io::Result<()> {
    walls::close_inherited()?;
    walls::die_with_the_host()?;
    let host = std::os::unix::process::parent_id();
    let socket = UnixStream::from(std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?);
    let mut from = BufReader::new(socket.try_clone()?);
    let link = Arc::new(Link { out: Mutex::new(socket), next: AtomicU64::new(0), waiting: Mutex::default() });
    match wire::read(&mut from, wire::TO_GUEST_BYTES_MAX)? {
        ToGuest::Try(folder) => link.send(&ToHost::Tried(trials(host, folder.as_deref()))),
        ToGuest::Start(start) => {
            // A panic, in whichever thread, is the end of the attempt: its host is told of what.
            let last = Arc::clone(&link);
            std::panic::set_hook(Box::new(move |panic| {
                last.send(&ToHost::Done(Box::new(failed(&format!("a panic in the process of the attempt: {panic}")))));
                std::process::exit(1);
            }));
            let done = attempt(*start, &link, from).unwrap_or_else(|reason| failed(&reason));
            link.send(&ToHost::Done(Box::new(done)));
        }
        ToGuest::Cancel | ToGuest::Content { .. } | ToGuest::Response { .. } | ToGuest::Part { .. } => {}
    }
    // Nothing here is worth taking down in order.
    std::process::exit(0)
}

fn failed(reason: &str) -> Done {
    Done { result: Err(Failure::new(FailureKind::Host, reason)), receipt: Receipt::default(), log: Log::default(), looks: WireLooks::None }
}

fn trials(host: u32, folder: Option<&Path>) -> Vec<wire::Trial> {
    let granted = folder.map(|folder| FileGrant { path: folder.join(walls::GRANTED), at: "/granted".into(), access: Access::Read });
    let (limits, grant) = (Limits::default(), Grant { files: granted.into_iter().collect(), ..Grant::default() });
    let walled = walls::limit(&limits, 0, &grant)
        .map_err(|error| error.to_string())
        .and_then(|()| walls::close_files(&grant.files))
        .and_then(|()| walls::close_system_calls(Some(Access::ReadWrite)));
    match walled {
        Ok(()) => walls::try_to_get_out(&limits, host, folder),
        Err(reason) => vec![wire::Trial { act: format!("leave the wall out that cannot be put up ({reason})"), stopped_by: None }],
    }
}

fn attempt(start: Start, link: &Arc<Link>, mut from: BufReader<UnixStream>) -> Result<Done, String> {
    let begun = Stopwatch::start();
    let Start { stack_bytes, code_bytes, limits, left, grant, name, digest, command, entrance, notes_looks, tells_progress } = start;
    let (limits, grant) = (Limits::from(limits), Grant::from(grant));
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let given_bytes = code_bytes.saturating_add(entrance.content_bytes());
    walls::limit(&limits, given_bytes, &grant).map_err(|error| text(&error))?;
    let settings = Settings {
        threads: 1,
        in_flight: 1,
        memory_total_bytes: limits.memory.saturating_add(limits.scratch),
        memory_max_bytes: limits.memory,
        stack_bytes,
        descriptors: Some(u32::MAX), // the kernel counts them
        blocking_threads: Some(BLOCKING_THREADS),
        allocator: Allocator::OnDemand,
        isolate: None,
    };
    // The code is mapped, and the folders are known, before files are closed; threads are started afterwards, so that all of them are
    // behind that wall; and the last one goes up when all of them are there.
    let (engine, pooled) = engine::engine(&settings).map_err(|error| text(&error))?;
    let component = super::super::plugin::map(&engine, std::path::Path::new(CODE)).map_err(|error| text(&error))?;
    walls::close_files(&grant.files)?;
    let outbound = Outbound::relayed(Arc::clone(link));
    // Never taken down: that would take a thread, and the process ends anyway.
    let runtime = ManuallyDrop::new(Runtime::assemble(&settings, engine, pooled, outbound).map_err(|error| text(&error))?);
    let plugin = runtime.link(&component, digest).map_err(|error| text(&error))?.with_name(&name).with_command(command);
    let cancel = CancellationToken::new();
    let (listener, cancelled) = (Arc::clone(link), cancel.clone());
    std::thread::Builder::new().spawn(move || listener.listen(&mut from, &cancelled)).map_err(|error| text(&error))?;
    let waits = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| text(&error))?;
    walls::close_system_calls(walls::widest(&grant.files))?;

    let looks = notes_looks.then(Looks::default);
    let progress = tells_progress.then(|| -> Progress {
        let (link, told) = (Arc::clone(link), Mutex::new(None::<Stopwatch>));
        Arc::new(move |fraction, note: &str| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.as_ref().is_none_or(|told| told.elapsed() >= PROGRESS_PAUSE) {
                *told = Some(Stopwatch::start());
                link.send(&ToHost::Progress { fraction, note: note.to_owned() });
            }
        })
    });
    let limits = Limits { timeout: left.saturating_sub(begun.elapsed()), ..limits };
    let call = Call { limits, grant: Arc::new(grant), cancel, progress, looks: looks.clone(), canned: None };
    let entrance = match entrance {
        WireEntrance::Worker(task) => Entrance::Worker(task),
        WireEntrance::Gate(subject) => Entrance::Gate(here(subject, link)?),
        WireEntrance::Units(subject) => Entrance::Units(here(subject, link)?),
    };
    let Attempt { result, receipt, log } = waits.block_on(runtime.attempt(&Arc::new(plugin), entrance, call));
    let result = result.map(|answer| match answer {
        Answer::Artifacts(artifacts) => WireAnswer::Artifacts(artifacts),
        Answer::Verdict(verdict) => WireAnswer::Verdict(verdict),
        Answer::Units(units) => WireAnswer::Units(units),
    });
    let looks = match looks.map(|looks| looks.take()) {
        None => WireLooks::None,
        Some(None) => WireLooks::TooMany,
        Some(Some(looks)) => WireLooks::These(looks),
    };
    Ok(Done { result, receipt, log, looks })
}

/// A subject whose files are read by the host.
fn here(subject: WireSubject, link: &Arc<Link>) -> Result<Subject, String> {
    let WireSubject { files, snapshot, data, task, usage, params, unit } = subject;
    let tree = |of_data: bool, files: Vec<(String, u64)>| {
        let mut tree = Snapshot::default();
        for (path, size_bytes) in files {
            let (link, of) = (Arc::clone(link), path.clone());
            let load = Box::new(move || link.content(of_data, &of));
            tree.add_lazy(&path, size_bytes, load).map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(Arc::new(tree))
    };
    Ok(Subject { files, snapshot: tree(false, snapshot)?, data: tree(true, data)?, task, usage, params: params.into(), unit })
}
