//! The manager with scripted workers.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::journal::Memory;
use crate::model::{
    Attempt, Decision, Failure, FailureKind, Finding, GateUse, InputSource, Receipt, RetryPolicy, Severity, Step, Subject, Task, Verdict,
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
    async fn run(&self, _worker: &str, _step: &Step, task: Task, cancel: CancellationToken, _progress: Progress) -> Attempt<Vec<Artifact>> {
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

    async fn check(&self, _plugin: &str, _gate: &GateUse, subject: Subject, _cancel: CancellationToken) -> Attempt<Verdict> {
        let said = self.gate.lock().expect("no panic").pop_front().unwrap_or(Ok(Decision::Pass));
        let seen = String::from_utf8_lossy(&subject.snapshot.content(&subject.files[0].path).expect("reads")).into_owned();
        let finding = Finding {
            rule: "r".into(),
            severity: Severity::High,
            message: seen,
            location: None,
            suggestion: None,
            help_url: None,
            fix: None,
        };
        ended(said.map(|decision| Verdict { decision, findings: vec![finding], metrics: vec![], summary: String::new() }))
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
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        retry: RetryPolicy { initial_interval: Duration::from_millis(1), ..RetryPolicy::default() },
        gates: vec![gate; gates],
        maximum_revisions: 2,
        ..Step::new(id, "w")
    }
}

fn workflow(steps: Vec<Step>) -> (Workflow, Vec<Vec<Artifact>>) {
    let files = vec![Vec::new(); steps.len()];
    (Workflow { name: "w".into(), priority: 5, concurrency: None, steps }, files)
}

async fn names(handle: &Handle, run: &RunId) -> Vec<&'static str> {
    let mut feed = handle.follow(*run);
    let mut names = Vec::new();
    while let Some(record) = feed.next().await.expect("reads") {
        names.push(record.event.name());
    }
    names
}

async fn manage(script: Script, concurrency: usize) -> (Handle, Running, Arc<Script>) {
    let script = Arc::new(script);
    let workers = Arc::clone(&script) as Arc<dyn Workers>;
    let options = Options::in_memory(concurrency);
    let started = start(Arc::new(Memory::default()), workers, Arc::new(crate::clock::SystemClock), options).await;
    let (handle, running) = started.expect("starts");
    (handle, running, script)
}

#[tokio::test]
async fn rejected_work_goes_back_with_findings_and_its_former_artifacts() {
    // What is small is at hand; what is not is read from its record.
    for text in ["first", "first ".repeat(1000).leak()] {
        let script = Script {
            worker: Mutex::new(VecDeque::from([Ok(text), Err(FailureKind::Transient), Ok("second")])),
            gate: Mutex::new(VecDeque::from([Ok(Decision::Fail), Ok(Decision::Pass)])),
            ..Script::default()
        };
        goes_back(text, script).await;
    }
}

async fn goes_back(text: &str, script: Script) {
    let (handle, running, script) = manage(script, 4).await;
    let (workflow, files) = workflow(vec![step("one", &[], 1), step("two", &["one"], 0)]);
    let run = handle.submit(workflow, files, None).await.expect("accepted");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Completed);
    let tasks = script.tasks.lock().expect("no panic").clone();
    let seen: Vec<_> = tasks.iter().map(|task| (task.step.as_str(), task.revision, task.attempt)).collect();
    assert_eq!(seen, [("one", 0, 1), ("one", 1, 1), ("one", 1, 2), ("two", 0, 1)]);
    assert_eq!((tasks[2].feedback.len(), tasks[2].previous.len()), (1, 1));
    assert_eq!((tasks[2].feedback[0].message.as_str(), &tasks[2].previous[0].content[..]), (text, text.as_bytes()));
    assert_eq!(tasks[2].id, tasks[0].id, "the key for effects stays the same");
    assert_eq!(tasks[3].inputs[0].name, "one/0/a");
    assert_eq!(&tasks[3].inputs[0].content[..], b"second");
    running.shutdown().await.expect("in good order");
}

#[tokio::test]
async fn no_more_run_at_once_than_are_allowed_and_a_retry_waits_for_its_time() {
    // By the host's bound, and by the run's own, of which a turn puts more on record than may execute, too.
    for (of_the_host, concurrency) in [(3, None), (16, Some(3))] {
        let mut wide = step("wide", &[], 0);
        (wide.foreach, wide.inputs) = (true, vec![InputSource::Files("*".into())]);
        let files = (0..500).map(|n| Artifact { name: n.to_string(), media_type: String::new(), content: Bytes::new() }).collect();
        let (handle, running, script) = manage(Script::default(), of_the_host).await;
        let run = handle
            .submit(Workflow { name: "w".into(), priority: 5, concurrency, steps: vec![wide] }, vec![files], None)
            .await
            .expect("accepted");
        assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Completed);
        assert_eq!(script.tasks.lock().expect("no panic").len(), 500);
        assert!((2..=3).contains(&script.most_at_once.load(Ordering::SeqCst)));
        let (mut under_way, mut most) = (0, 0);
        for record in handle.store().read(&run, 1, usize::MAX).await.expect("reads") {
            match record.event.name() {
                "attempt_started" => under_way += 1,
                "attempt_completed" => under_way -= 1,
                _ => {}
            }
            most = most.max(under_way);
        }
        assert!(most > 3, "starts are on record ahead of their turn, and not {most} at the most");
        running.shutdown().await.expect("in good order");
    }
}

#[tokio::test]
async fn of_a_run_that_is_paused_nothing_starts_any_more_not_even_what_is_in_line() {
    for concurrency in [None, Some(1)] {
        let wide = Step { foreach: true, inputs: vec![InputSource::Files("*".into())], ..step("wide", &[], 0) };
        let files = (0..2000).map(|n| Artifact { name: n.to_string(), media_type: String::new(), content: Bytes::new() }).collect();
        let (handle, running, script) = manage(Script::default(), 2).await;
        let workflow = Workflow { name: "w".into(), priority: 5, concurrency, steps: vec![wide] };
        let run = handle.submit(workflow, vec![files], None).await.expect("accepted");
        let begun = || script.tasks.lock().expect("no panic").len();
        while begun() < 200 {
            tokio::task::yield_now().await;
        }
        handle.command(run, Input::Pause { reason: "enough".into() }).await.expect("paused");
        let before = begun();
        while handle.load().await.expect("asked").under_way > 0 {
            tokio::task::yield_now().await;
        }
        assert!(before < 2000 && begun() <= before + 2, "{} began after it was paused", begun() - before);
        handle.resume(run).await.expect("resumed");
        assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Completed);
        assert_eq!(begun(), 2000, "each once");
        running.shutdown().await.expect("in good order");
    }
}

#[tokio::test]
async fn cancelling_ends_what_runs_and_starts_nothing_more() {
    let script = Script { worker: Mutex::new(VecDeque::from([Err(FailureKind::Cancelled)])), ..Script::default() };
    let (handle, running, script) = manage(script, 4).await;
    let (workflow, files) = workflow(vec![step("one", &[], 0), step("two", &["one"], 0)]);
    let run = handle.submit(workflow, files, None).await.expect("accepted");
    while script.at_once.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    handle.cancel(run, "enough").await.expect("runs");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Cancelled);
    assert_eq!(script.tasks.lock().expect("no panic").len(), 1);
    assert!(matches!(handle.cancel(run, "again").await, Err(Error::Rejected(Rejection::RunIsOver("cancelled")))));
    running.shutdown().await.expect("in good order");
    assert!(matches!(handle.cancel(run, "late").await, Err(Error::Stopped)));
}

#[tokio::test]
async fn a_panic_of_the_host_is_that_attempts_failure() {
    let (handle, running, _script) = manage(Script { panics: true, ..Script::default() }, 1).await;
    let (mut workflow, files) = workflow(vec![step("one", &[], 0)]);
    workflow.steps[0].retry.maximum_attempts = 1;
    let run = handle.submit(workflow, files, None).await.expect("accepted");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Failed);
    running.shutdown().await.expect("in good order");
}

#[tokio::test]
async fn the_records_tell_the_story_in_order() {
    let (handle, running, _script) = manage(Script::default(), 1).await;
    let (workflow, files) = workflow(vec![step("one", &[], 1)]);
    let run = handle.submit(workflow, files, None).await.expect("accepted");
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
    running.shutdown().await.expect("in good order");
}

#[tokio::test]
async fn a_hundred_submissions_with_one_key_make_one_run() {
    let (handle, running, script) = manage(Script::default(), 4).await;
    let submissions = (0..100).map(|_| {
        let (workflow, files) = workflow(vec![step("one", &[], 0)]);
        handle.submit(workflow, files, Some("key".to_owned()))
    });
    let runs = futures_util::future::join_all(submissions).await;
    let runs: std::collections::BTreeSet<RunId> = runs.into_iter().map(|run| run.expect("accepted")).collect();
    assert_eq!(runs.len(), 1);
    let run = *runs.first().expect("one");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Completed);
    // Also when it has long ended.
    let (same, files) = workflow(vec![step("one", &[], 0)]);
    assert_eq!(handle.submit(same, files, Some("key".to_owned())).await.expect("accepted"), run);
    let (other, files) = workflow(vec![step("another", &[], 0)]);
    let refused = handle.submit(other, files, Some("key".to_owned())).await;
    assert!(matches!(refused, Err(Error::KeyIsTaken(of)) if of == run), "{refused:?}");
    assert_eq!(script.tasks.lock().expect("no panic").len(), 1);
    running.shutdown().await.expect("in good order");
}

#[tokio::test]
async fn a_person_approves_refuses_with_feedback_and_has_given_up_tasks_run_again() {
    let worker = VecDeque::from([Ok("first"), Ok("second"), Err(FailureKind::Permanent), Ok("third")]);
    let (handle, running, script) = manage(Script { worker: Mutex::new(worker), ..Script::default() }, 1).await;
    let approved = Step { approval: true, ..step("one", &[], 0) };
    let aside = Step { on_exhausted: crate::model::OnExhausted::DeadLetter, ..step("two", &["one"], 0) };
    let (workflow, files) = workflow(vec![approved, aside, step("three", &["two"], 0)]);
    let run = handle.submit(workflow, files, None).await.expect("accepted");
    let say = |approved, comment: &str| Input::Approve { step: 0, index: None, approved, comment: comment.to_owned() };
    handle.idle().await.expect("waits for a person");
    handle.command(run, say(false, "shorter")).await.expect("refused");
    handle.idle().await.expect("waits again");
    assert_eq!(script.tasks.lock().expect("no panic")[1].feedback[0].message, "shorter");
    assert_eq!(&script.tasks.lock().expect("no panic")[1].previous[0].content[..], b"first");
    handle.command(run, say(true, "good")).await.expect("approved");
    assert!(matches!(handle.command(run, say(true, "good")).await, Err(Error::Rejected(_))), "nothing waits any more");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Failed);
    let letters = handle.store().dead_letters(None, None, 10).await.expect("reads");
    assert_eq!(letters.iter().map(|letter| (letter.step.as_str(), letter.task.index)).collect::<Vec<_>>(), [("two", 0)]);
    // Requeued, the run is open again: what was skipped on its account runs too, and what had completed does not.
    handle.command(run, Input::Requeue { tasks: vec![] }).await.expect("requeued");
    handle.resume(run).await.expect("goes on");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Completed);
    let steps: Vec<String> = script.tasks.lock().expect("no panic").iter().map(|task| task.step.clone()).collect();
    assert_eq!(steps, ["one", "one", "two", "two", "three"]);
    assert_eq!(handle.store().dead_letters(None, None, 10).await.expect("reads"), []);
    running.shutdown().await.expect("in good order");
}

#[tokio::test]
async fn a_fallback_takes_over_and_what_is_optional_does_not_fail_the_run() {
    let worker = VecDeque::from([Err(FailureKind::Permanent), Ok("by the other"), Err(FailureKind::Permanent)]);
    let (handle, running, _script) = manage(Script { worker: Mutex::new(worker), ..Script::default() }, 1).await;
    let replaced = Step { fallback: Some("other".into()), ..step("one", &[], 0) };
    let optional = Step { optional: true, ..step("two", &["one"], 0) };
    let (workflow, files) = workflow(vec![replaced, optional, step("three", &["two"], 0)]);
    let run = handle.submit(workflow, files, None).await.expect("accepted");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Completed);
    let row = handle.store().run(&run).await.expect("reads").expect("there");
    assert_eq!(row.degraded, ["other did 1 of the tasks of one in place of w", "two failed, and is optional", "three was skipped"]);
    running.shutdown().await.expect("in good order");
}

#[tokio::test]
async fn a_run_that_pauses_itself_goes_on_when_it_is_resumed() {
    let worker = VecDeque::from([Err(FailureKind::Permanent), Ok("now")]);
    let (handle, running, _script) = manage(Script { worker: Mutex::new(worker), ..Script::default() }, 1).await;
    let held = Step { on_exhausted: crate::model::OnExhausted::Pause, ..step("one", &[], 0) };
    let (workflow, files) = workflow(vec![held]);
    let run = handle.submit(workflow, files, None).await.expect("accepted");
    handle.idle().await.expect("waits for a person");
    assert_eq!(handle.store().run(&run).await.expect("reads").expect("there").status, "paused");
    handle.resume(run).await.expect("resumes");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Completed);
    running.shutdown().await.expect("in good order");
}

#[tokio::test]
async fn a_worker_that_keeps_failing_is_held_off_and_its_breaker_is_on_record() {
    let failing = (0..5).map(|_| Err(FailureKind::Trapped)).collect();
    let script = Arc::new(Script { worker: Mutex::new(failing), ..Script::default() });
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let breaker = BreakerPolicy { timeout: Duration::from_millis(50), ..BreakerPolicy::default() };
    let options = Options { breaker, ..Options::in_memory(1) };
    let started = start(Arc::clone(&store), Arc::clone(&script) as Arc<dyn Workers>, Arc::new(crate::clock::SystemClock), options).await;
    let (handle, running) = started.expect("starts");
    let mut wide = Step { foreach: true, inputs: vec![InputSource::Files("*".into())], ..step("wide", &[], 0) };
    wide.worker = "bad".into();
    let files = (0..60).map(|n| Artifact { name: n.to_string(), media_type: String::new(), content: Bytes::new() }).collect();
    let workflow = Workflow { name: "w".into(), priority: 5, concurrency: None, steps: vec![wide] };
    let run = handle.submit(workflow, vec![files], None).await.expect("accepted");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Failed, "the first five failed for good");
    let row = handle.store().run(&run).await.expect("reads").expect("there");
    assert_eq!((row.completed, row.failed), (55, 5));
    // Opened by the fifth failure, probed once, and closed by the probe.
    let records = store.read(&RunId::HOST, 1, 10).await.expect("reads");
    let states: Vec<String> = records
        .iter()
        .map(|record| serde_json::to_value(&record.event).expect("JSON")["to"]["state"].as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(states, ["open", "half_open", "closed"]);
    // Some may have been next in line already; the last waited for the probe.
    let starts = store.read(&run, 1, 1000).await.expect("reads");
    let last = starts.iter().rfind(|record| record.event.name() == "attempt_started").expect("some");
    assert!(last.at >= crate::clock::after(records[0].at, Duration::from_millis(50)), "not before its time");
    running.shutdown().await.expect("in good order");
}
