//! The loop, turn by turn: with scripted workers, a journal that can fail, and times that the test sets.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::journal::Memory;
use crate::model::{
    Attempt, Decision, Digest, Failure, FailureKind, Finding, GateUse, InputSource, Receipt, RetryPolicy, Severity, Step, Subject, Task,
    Verdict,
};
use crate::runtime::Progress;

/// Workers that say what a script says, and remember what they were given.
#[derive(Default)]
struct Script {
    worker: Mutex<VecDeque<Result<&'static str, FailureKind>>>,
    gate: Mutex<VecDeque<Result<Decision, FailureKind>>>,
    tasks: Mutex<Vec<Task>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    panics: bool,
}

fn ended<T>(result: Result<T, FailureKind>) -> Attempt<T> {
    let result = result.map_err(|kind| Failure::new(kind, "scripted"));
    Attempt { result, receipt: Receipt { fuel: 1, ..Receipt::default() }, log: Log::default() }
}

#[async_trait::async_trait]
impl Workers for Script {
    async fn run(&self, _step: &Step, task: Task, cancel: CancellationToken, _progress: Progress) -> Attempt<Vec<Artifact>> {
        assert!(!self.panics, "scripted");
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        self.tasks.lock().expect("no panic").push(task);
        tokio::task::yield_now().await;
        let said = self.worker.lock().expect("no panic").pop_front().unwrap_or(Ok("done"));
        if said == Err(FailureKind::Cancelled) {
            cancel.cancelled().await; // works until it is cancelled
        }
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        ended(said.map(|text| vec![Artifact { name: "a".into(), media_type: String::new(), content: Bytes::from_static(text.as_bytes()) }]))
    }

    async fn check(&self, _gate: &GateUse, subject: Subject, _cancel: CancellationToken) -> Attempt<Verdict> {
        let said = self.gate.lock().expect("no panic").pop_front().unwrap_or(Ok(Decision::Pass));
        let seen = String::from_utf8_lossy(&subject.files[0].content).into_owned();
        let finding =
            Finding { rule: "r".into(), severity: Severity::High, message: seen, location: None, suggestion: None, help_url: None };
        ended(said.map(|decision| Verdict { decision, findings: vec![finding], metrics: vec![], summary: String::new() }))
    }
}

/// A journal that refuses one append when it is told to.
#[derive(Default)]
struct Refusing {
    inner: Memory,
    refuse_next: AtomicBool,
}

#[async_trait::async_trait]
impl Store for Refusing {
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, journal::Error>> {
        if self.refuse_next.swap(false, Ordering::SeqCst) {
            return appends.iter().map(|_| Err(journal::Error::Medium("the disk is full".into()))).collect();
        }
        self.inner.append(appends).await
    }

    async fn read(&self, run: &RunId, from_version: u64, limit: usize) -> Result<Vec<Record>, journal::Error> {
        self.inner.read(run, from_version, limit).await
    }

    async fn after(&self, seq: u64, limit: usize) -> Result<Vec<Record>, journal::Error> {
        self.inner.after(seq, limit).await
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.inner.head()
    }

    async fn put_blob(&self, content: Bytes) -> Result<Digest, journal::Error> {
        self.inner.put_blob(content).await
    }

    async fn blob(&self, digest: &Digest) -> Result<Bytes, journal::Error> {
        self.inner.blob(digest).await
    }
}

/// A clock that stands still until it is set.
struct Still(Mutex<Timestamp>);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no panic")
    }
}

fn step(id: &str, needs: &[&str], gates: usize) -> Step {
    let gate = GateUse {
        gate: "g".into(),
        fail_on: None,
        params: Default::default(),
        usage: false,
        retry: RetryPolicy::default(),
        limits: Default::default(),
    };
    Step {
        id: id.into(),
        worker: "w".into(),
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        inputs: Vec::new(),
        foreach: false,
        params: Default::default(),
        retry: RetryPolicy { initial_interval: Duration::from_millis(1), ..RetryPolicy::default() },
        limits: Default::default(),
        gates: vec![gate; gates],
        maximum_revisions: 2,
    }
}

fn workflow(steps: Vec<Step>) -> (Workflow, Vec<Vec<Artifact>>) {
    let files = vec![Vec::new(); steps.len()];
    (Workflow { name: "w".into(), steps }, files)
}

async fn names(handle: &Handle, run: &RunId) -> Vec<&'static str> {
    let mut feed = handle.follow(run.clone());
    let mut names = Vec::new();
    while let Some(record) = feed.next().await.expect("reads") {
        names.push(record.event.name());
    }
    names
}

fn manage(script: Script, concurrency: usize) -> (Handle, Running, Arc<Script>) {
    let script = Arc::new(script);
    let (handle, running) =
        start(Arc::new(Memory::default()), Arc::clone(&script) as Arc<dyn Workers>, Arc::new(crate::clock::SystemClock), concurrency);
    (handle, running, script)
}

#[tokio::test]
async fn rejected_work_goes_back_with_findings_and_its_former_artifacts() {
    let script = Script {
        worker: Mutex::new(VecDeque::from([Ok("first"), Err(FailureKind::Transient), Ok("second")])),
        gate: Mutex::new(VecDeque::from([Ok(Decision::Fail), Ok(Decision::Pass)])),
        ..Script::default()
    };
    let (handle, running, script) = manage(script, 4);
    let (workflow, files) = workflow(vec![step("one", &[], 1), step("two", &["one"], 0)]);
    let run = handle.submit(workflow, files).await.expect("accepted");
    assert_eq!(wait(&handle, &run).await.expect("ends"), RunStatus::Completed);
    let tasks = script.tasks.lock().expect("no panic").clone();
    let seen: Vec<_> = tasks.iter().map(|task| (task.step.as_str(), task.revision, task.attempt)).collect();
    assert_eq!(seen, [("one", 0, 1), ("one", 1, 1), ("one", 1, 2), ("two", 0, 1)]);
    assert_eq!((tasks[2].feedback[0].message.as_str(), &tasks[2].previous[0].content[..]), ("first", &b"first"[..]));
    assert_eq!(tasks[2].id, tasks[0].id, "the key for effects stays the same");
    assert_eq!(tasks[3].inputs[0].name, "one/0/a");
    assert_eq!(&tasks[3].inputs[0].content[..], b"second");
    running.shutdown().await;
}

#[tokio::test]
async fn no_more_run_at_once_than_are_allowed_and_a_retry_waits_for_its_time() {
    let mut wide = step("wide", &[], 0);
    (wide.foreach, wide.inputs) = (true, vec![InputSource::Files("*".into())]);
    let files = (0..50).map(|n| Artifact { name: n.to_string(), media_type: String::new(), content: Bytes::new() }).collect();
    let (handle, running, script) = manage(Script::default(), 3);
    let run = handle.submit(Workflow { name: "w".into(), steps: vec![wide] }, vec![files]).await.expect("accepted");
    assert_eq!(wait(&handle, &run).await.expect("ends"), RunStatus::Completed);
    assert_eq!(script.tasks.lock().expect("no panic").len(), 50);
    assert!((2..=3).contains(&script.most_at_once.load(Ordering::SeqCst)));
    running.shutdown().await;
}

#[tokio::test]
async fn cancelling_ends_what_runs_and_starts_nothing_more() {
    let script = Script { worker: Mutex::new(VecDeque::from([Err(FailureKind::Cancelled)])), ..Script::default() };
    let (handle, running, script) = manage(script, 4);
    let (workflow, files) = workflow(vec![step("one", &[], 0), step("two", &["one"], 0)]);
    let run = handle.submit(workflow, files).await.expect("accepted");
    while script.at_once.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    handle.cancel(&run, "enough").await.expect("runs");
    assert_eq!(wait(&handle, &run).await.expect("ends"), RunStatus::Cancelled);
    assert_eq!(script.tasks.lock().expect("no panic").len(), 1);
    assert!(matches!(handle.cancel(&run, "again").await, Err(Error::NoSuchRun(_))));
    running.shutdown().await;
    assert!(matches!(handle.cancel(&run, "late").await, Err(Error::Stopped)));
}

#[tokio::test]
async fn a_panic_of_the_host_is_that_attempts_failure() {
    let (handle, running, _script) = manage(Script { panics: true, ..Script::default() }, 1);
    let (mut workflow, files) = workflow(vec![step("one", &[], 0)]);
    workflow.steps[0].retry.maximum_attempts = 1;
    let run = handle.submit(workflow, files).await.expect("accepted");
    assert_eq!(wait(&handle, &run).await.expect("ends"), RunStatus::Failed);
    running.shutdown().await;
}

/// A manager whose turns the test makes.
fn by_hand(store: Arc<Refusing>, script: Arc<Script>) -> (Manager, mpsc::Receiver<Message>, mpsc::Sender<Message>) {
    let (sender, mailbox) = mpsc::channel(64);
    let clock = Arc::new(Still(Mutex::new(Timestamp::UNIX_EPOCH)));
    let manager = Manager {
        store,
        threads: None,
        workers: script,
        clock,
        concurrency: 4,
        busy: 0,
        runs: BTreeMap::new(),
        next_run: 0,
        calls: JoinSet::new(),
        mailbox: sender.downgrade(),
        notices: broadcast::channel(16).0,
        stop: CancellationToken::new(),
    };
    (manager, mailbox, sender)
}

fn submit(workflow: Workflow) -> (Message, oneshot::Receiver<Result<RunId, Error>>) {
    let (reply, answer) = oneshot::channel();
    let files = vec![Vec::new(); workflow.steps.len()];
    (Message::Submit { workflow: Box::new(workflow), files, reply }, answer)
}

#[tokio::test]
async fn what_the_journal_did_not_take_did_not_happen() {
    let (store, script) = (Arc::new(Refusing::default()), Arc::new(Script::default()));
    let (mut manager, mut mailbox, _sender) = by_hand(Arc::clone(&store), Arc::clone(&script));
    let now = Timestamp::UNIX_EPOCH;

    store.refuse_next.store(true, Ordering::SeqCst);
    let (message, answer) = submit(workflow(vec![step("one", &[], 0)]).0);
    manager.step([message], now).await;
    assert!(matches!(answer.await, Ok(Err(Error::Journal(_)))), "an unrecorded run is not accepted");
    assert!(manager.runs.is_empty());

    let (message, answer) = submit(workflow(vec![step("one", &[], 0)]).0);
    manager.step([message], now).await;
    let run = answer.await.expect("answered").expect("accepted");
    let resolved = mailbox.recv().await.expect("inputs");
    // The start of the attempt is refused: no worker is called, and the run stands where the journal has it.
    store.refuse_next.store(true, Ordering::SeqCst);
    manager.step([resolved], now).await;
    assert_eq!(script.tasks.lock().expect("no panic").len(), 0);
    assert_eq!((manager.busy, manager.runs[&run].run.version), (0, 1));
}

#[tokio::test]
async fn a_retry_starts_at_its_time_and_not_before() {
    let script = Arc::new(Script { worker: Mutex::new(VecDeque::from([Err(FailureKind::Transient)])), ..Script::default() });
    let (mut manager, mut mailbox, _sender) = by_hand(Arc::new(Refusing::default()), Arc::clone(&script));
    let mut slow = step("one", &[], 0);
    slow.retry =
        RetryPolicy { initial_interval: Duration::from_secs(60), maximum_interval: Duration::from_secs(60), jitter: 0.0, ..slow.retry };
    let at = |second| Timestamp::from_second(second).expect("a time");
    let (message, answer) = submit(workflow(vec![slow]).0);
    manager.step([message], at(0)).await;
    let run = answer.await.expect("answered").expect("accepted");
    let resolved = mailbox.recv().await.expect("inputs");
    manager.step([resolved], at(0)).await;
    let failed = mailbox.recv().await.expect("a report");
    manager.step([failed], at(10)).await;
    assert_eq!(manager.runs[&run].run.next_timer(), Some(at(70)));
    manager.step([], at(69)).await;
    assert_eq!(manager.busy, 0, "not before its time");
    manager.step([], at(70)).await;
    assert_eq!(manager.busy, 1);
    let done = mailbox.recv().await.expect("a report");
    manager.step([done], at(71)).await;
    assert!(manager.runs.is_empty(), "the run has ended");
}

#[tokio::test]
async fn the_records_tell_the_story_in_order() {
    let (handle, running, _script) = manage(Script::default(), 1);
    let (workflow, files) = workflow(vec![step("one", &[], 1)]);
    let run = handle.submit(workflow, files).await.expect("accepted");
    assert_eq!(
        names(&handle, &run).await,
        [
            "run_started",
            "step_started",
            "attempt_started",
            "attempt_completed",
            "gate_started",
            "gate_answered",
            "task_completed",
            "step_completed",
            "run_completed"
        ]
    );
    running.shutdown().await;
}
