//! Properties of the machine over random legal histories: replay equals live at every prefix, every run ends, policies are
//! kept, and the indices of what is due say what the states say.

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::model::{
    Artifact, ArtifactRef, Decision, Digest, Expansion, Failure, FailureKind, Finding, GateUse, Log, Receipt, RetryPolicy, Severity, Step,
    Verdict, Workflow,
};

fn gate(fail_on: Option<Severity>, attempts: u32) -> GateUse {
    let retry = RetryPolicy { maximum_attempts: attempts, ..RetryPolicy::default() };
    GateUse { gate: "gate".into(), fail_on, params: Default::default(), usage: false, retry, limits: Default::default() }
}

fn step(id: usize, needs: Vec<usize>, gates: usize, revisions: u32, attempts: u32) -> Step {
    Step {
        needs: needs.into_iter().map(|n| format!("s{n}")).collect(),
        retry: RetryPolicy { maximum_attempts: attempts, ..RetryPolicy::default() },
        gates: (0..gates).map(|_| gate(None, attempts)).collect(),
        maximum_revisions: revisions,
        ..Step::new(format!("s{id}"), "worker")
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn begin(steps: Vec<Step>) -> (Run, Vec<(Timestamp, Event)>) {
    let files = vec![None; steps.len()];
    let workflow = Workflow { name: "w".into(), priority: 5, concurrency: None, steps };
    let event = Event::RunStarted { workflow, files, idempotency_key: None };
    (Run::begin(at(0), &event).expect("begins"), vec![(at(0), event)])
}

fn expansion() -> Expansion {
    Expansion { workers: vec!["worker".into()], gates: vec!["gate".into()], steps_max: 10, depth_max: 1 }
}

/// A step of a plan, as the reader of plans gives it.
fn of_plan(prefix: &str, n: usize, bits: u32) -> Step {
    let needs = (0..n).filter(|need| bits >> need & 1 == 1).map(|need| format!("{prefix}/c{need}")).collect();
    Step { id: format!("{prefix}/c{n}"), needs, ..step(n, vec![], (bits >> 8) as usize % 2, 1, 2) }
}

fn planned(steps: Vec<Step>) -> Vec<Planned> {
    steps.into_iter().map(|step| Planned { step, files: None }).collect()
}

/// A run and its history, told things as a manager would.
struct Told {
    run: Run,
    history: Vec<(Timestamp, Event)>,
    now: i64,
}

impl Told {
    fn new(steps: Vec<Step>) -> Self {
        let (run, history) = begin(steps);
        Self { run, history, now: 0 }
    }

    fn tell(&mut self, input: Input) -> Vec<Event> {
        let events = decide(&self.run, input, at(self.now)).expect("fits");
        assert!(!events.is_empty(), "an input that fits has a consequence");
        for event in &events {
            self.run.apply(at(self.now), event).expect("a decided event applies");
            self.history.push((at(self.now), event.clone()));
        }
        events
    }

    /// Everything that is due: closing and inputs, and then calls.
    fn due(&mut self, calls: usize) -> Vec<Effect> {
        let mut due = self.run.due();
        let mut looking = self.run.clone();
        while due.len() < calls {
            let Some(effect) = looking.next_call(at(self.now), &mut |_| true).or_else(|| looking.alone()) else { break };
            due.push(effect);
            let events = decide(&looking, Input::Start(effect, None), at(self.now)).expect("fits");
            for event in &events {
                looking.apply(at(self.now), event).expect("applies");
            }
        }
        due
    }

    fn start_all(&mut self) -> Vec<Effect> {
        let due = self.due(1000);
        for effect in &due {
            match effect {
                Effect::ResolveInputs { step } => {
                    self.tell(Input::StepInputs { step: *step, tasks: 1, inputs: Digest::of(b""), as_of: u64::MAX })
                }
                Effect::Settle => self.tell(Input::Settle),
                Effect::RunGate { .. } | Effect::RunWorker { .. } => self.tell(Input::Start(*effect, None)),
                Effect::ReadPlan { .. } => panic!("no plan was asked for"),
            };
        }
        due
    }

    fn worker_ends(&mut self, index: u32, attempt: u32, result: Result<(), FailureKind>) -> Vec<Event> {
        let result = result.map(|()| vec![]).map_err(|kind| Failure::new(kind, "no"));
        self.tell(Input::WorkerEnded {
            task: TaskKey { step: 0, index },
            attempt,
            result,
            receipt: Receipt::default(),
            log: Log::default(),
            chance: 0.5,
        })
    }

    fn gate_ends(&mut self, gate: u32, attempt: u32, result: Result<Verdict, FailureKind>) -> Vec<Event> {
        let result = result.map_err(|kind| Failure::new(kind, "no"));
        let task = TaskKey { step: 0, index: 0 };
        self.tell(Input::GateEnded { task, gate, attempt, result, receipt: Receipt::default(), log: Log::default(), chance: 0.5 })
    }
}

fn verdict(decision: Decision, messages: &[&str]) -> Verdict {
    let finding = |message: &&str| Finding {
        rule: "r".into(),
        severity: Severity::Medium,
        message: (*message).into(),
        location: None,
        suggestion: None,
        help_url: None,
        fix: None,
    };
    Verdict { decision, findings: messages.iter().map(finding).collect(), metrics: vec![], summary: String::new() }
}

#[test]
fn a_transient_failure_is_retried_after_its_backoff_and_a_permanent_one_is_not() {
    let mut told = Told::new(vec![step(0, vec![], 0, 0, 3)]);
    told.start_all();
    told.start_all();
    told.worker_ends(0, 1, Err(FailureKind::Transient));
    assert_eq!(told.run.next_timer(), Some(at(1)));
    assert_eq!(told.due(10), []);
    told.now = 1;
    assert_eq!(told.start_all(), [Effect::RunWorker { task: TaskKey { step: 0, index: 0 }, attempt: 2, revision: 0 }]);
    told.worker_ends(0, 2, Err(FailureKind::OutOfFuel));
    told.start_all();
    assert_eq!(told.run.status, RunStatus::Failed);
    assert_eq!(told.run.tallies[0].attempts, 2);
}

#[test]
fn a_rejection_goes_back_with_all_findings_and_the_same_findings_twice_end_it() {
    let mut told = Told::new(vec![step(0, vec![], 2, 5, 1)]);
    told.start_all();
    told.start_all();
    told.worker_ends(0, 1, Ok(()));
    assert_eq!(told.start_all().len(), 2, "gates run in parallel");
    assert_eq!(told.gate_ends(1, 1, Ok(verdict(Decision::Pass, &["a remark"]))).len(), 1);
    let events = told.gate_ends(0, 1, Ok(verdict(Decision::Fail, &["wrong"])));
    assert_eq!(events[1].name(), "revision_requested");
    let live = told.run.live(TaskKey { step: 0, index: 0 }).expect("alive");
    assert_eq!((live.revision, live.feedback.as_ref().map(|feedback| feedback.versions.len())), (1, Some(2)));
    told.start_all();
    told.worker_ends(0, 1, Ok(()));
    told.start_all();
    told.gate_ends(0, 1, Ok(verdict(Decision::Fail, &["wrong"])));
    let events = told.gate_ends(1, 1, Ok(verdict(Decision::Pass, &["a remark"])));
    assert!(matches!(&events[1], Event::TaskFailed { reason: TaskReason::RejectedAgain { findings, more: 0 }, .. } if findings.len() == 2));
}

#[test]
fn a_reason_has_the_first_findings_and_says_how_many_more_there_are() {
    for (count, bytes, kept) in [(100, 10, 100), (250, 10, 100), (3, 30 << 10, 2), (1, 70 << 10, 0)] {
        let mut told = Told::new(vec![step(0, vec![], 1, 0, 1)]);
        told.start_all();
        told.start_all();
        told.worker_ends(0, 1, Ok(()));
        told.start_all();
        let found: Vec<String> = (0..count).map(|n| format!("{n}{}", "x".repeat(bytes))).collect();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        let events = told.gate_ends(0, 1, Ok(verdict(Decision::Fail, &found)));
        let Event::TaskFailed { reason: TaskReason::Rejected { findings, more }, .. } = &events[1] else {
            panic!("{:?}", events[1].name())
        };
        assert_eq!((findings.len(), *more), (kept, (count - kept) as u64), "{count} of {bytes} bytes");
    }
}

#[test]
fn a_reason_has_something_of_each_gate() {
    let mut told = Told::new(vec![step(0, vec![], 2, 0, 1)]);
    told.start_all();
    told.start_all();
    told.worker_ends(0, 1, Ok(()));
    told.start_all();
    let found = |of: &str, count: usize| (0..count).map(|n| format!("{of}{n}")).collect::<Vec<_>>();
    let verdict = |of, count| verdict(Decision::Fail, &found(of, count).iter().map(String::as_str).collect::<Vec<_>>());
    told.gate_ends(0, 1, Ok(verdict("a", 150)));
    let events = told.gate_ends(1, 1, Ok(verdict("b", 30)));
    let Event::TaskFailed { reason: TaskReason::Rejected { findings, more: 80 }, .. } = &events[1] else { panic!("{:?}", events[1]) };
    let kept: Vec<String> = findings.iter().map(|finding| finding.message.clone()).collect();
    assert_eq!(kept, [found("a", 70), found("b", 30)].concat());
}

#[test]
fn a_task_that_waits_takes_no_more_memory_for_what_was_made_and_found() {
    let mut told = Told::new(vec![Step { approval: true, ..step(0, vec![], 2, 5, 1) }]);
    told.start_all();
    told.start_all();
    let task = TaskKey { step: 0, index: 0 };
    // All of a task that is alive, as text.
    let size = |told: &Told| format!("{:?}", told.run.live(task).expect("alive")).len();
    let small = size(&told) + 2000;
    let much: Vec<String> = (0..4000).map(|n| format!("{n} {}", "x".repeat(1000))).collect();
    let much: Vec<&str> = much.iter().map(String::as_str).collect();
    let artifact =
        |name: &&str| ArtifactRef::inline(Artifact { name: (*name).into(), media_type: String::new(), content: "x".repeat(1000).into() });
    let made: Vec<ArtifactRef> = much.iter().map(artifact).collect();
    for (attempt, decision) in [Decision::Fail, Decision::Pass].into_iter().enumerate() {
        let (receipt, log) = (Receipt::default(), Log::default());
        told.tell(Input::WorkerEnded { task, attempt: 1, result: Ok(made.clone()), receipt, log, chance: 0.5 });
        told.start_all();
        assert!(size(&told) < small, "judged: {}", size(&told));
        told.gate_ends(0, 1, Ok(verdict(decision, &much)));
        assert!(size(&told) < small + (64 << 10), "judged by one of two: {}", size(&told));
        told.gate_ends(1, 1, Ok(verdict(Decision::Pass, &much[attempt..])));
        assert!(size(&told) < small, "after {decision:?}: {}", size(&told));
        told.start_all();
    }
    assert_eq!(told.run.live(task).expect("alive").state.as_str(), "APPROVING");
    told.tell(Input::Approve { step: 0, index: None, approved: false, comment: "no".into() });
    assert!(size(&told) < small, "refused: {}", size(&told));
}

#[test]
fn a_gate_that_could_not_answer_has_not_passed_and_burns_no_revision() {
    let mut told = Told::new(vec![step(0, vec![], 1, 5, 1)]);
    told.start_all();
    told.start_all();
    told.worker_ends(0, 1, Ok(()));
    told.start_all();
    let events = told.gate_ends(0, 1, Err(FailureKind::Trapped));
    assert!(matches!(&events[1], Event::TaskFailed { reason: TaskReason::GateFailed { gate: 0, .. }, .. }));
    assert_eq!(told.run.tallies[0].revisions, 0);
}

#[test]
fn a_threshold_judges_findings_but_fail_without_one_always_rejects() {
    let judged = |decision, messages: &[&str], on| judge(&verdict(decision, messages), on);
    assert_eq!(judged(Decision::Fail, &["m"], Some(Severity::High)), Judgement::Passes);
    assert_eq!(judged(Decision::Pass, &["m"], Some(Severity::Medium)), Judgement::Rejects);
    assert_eq!(judged(Decision::Fail, &[], Some(Severity::Critical)), Judgement::Rejects);
    assert_eq!(judged(Decision::Pass, &["m"], None), Judgement::Passes);
}

#[test]
fn what_needs_a_step_that_failed_is_skipped_and_the_rest_goes_on() {
    let steps = vec![step(0, vec![], 0, 0, 1), step(1, vec![0], 0, 0, 1), step(2, vec![1], 0, 0, 1), step(3, vec![], 0, 0, 1)];
    let mut told = Told::new(steps);
    told.start_all();
    told.start_all();
    told.worker_ends(0, 1, Err(FailureKind::Permanent));
    told.start_all();
    assert_eq!((&told.run.steps[1], &told.run.steps[2]), (&StepState::Skipped, &StepState::Skipped));
    assert_eq!(told.run.status, RunStatus::Running);
    let task = TaskKey { step: 3, index: 0 };
    told.tell(Input::WorkerEnded { task, attempt: 1, result: Ok(vec![]), receipt: Receipt::default(), log: Log::default(), chance: 0.0 });
    told.start_all();
    assert_eq!(told.run.status, RunStatus::Failed);
}

#[test]
fn a_plugin_that_may_not_be_called_is_asked_for_once_however_many_steps_wait_for_it() {
    let mut steps: Vec<Step> = (0..100).map(|id| Step { worker: "away".into(), ..step(id, vec![], 0, 0, 2) }).collect();
    steps.extend([step(100, vec![], 0, 0, 1), Step { worker: "other".into(), ..step(101, vec![], 0, 0, 1) }]);
    let mut told = Told::new(steps);
    for effect in told.run.due() {
        let Effect::ResolveInputs { step } = effect else { panic!("{effect:?}") };
        told.tell(Input::StepInputs { step, tasks: 1, inputs: Digest::of(b""), as_of: u64::MAX });
    }
    // Half of its tasks have started before, and are to be tried again.
    for step in 0..50 {
        let task = TaskKey { step, index: 0 };
        told.tell(Input::Start(Effect::RunWorker { task, attempt: 1, revision: 0 }, None));
        let (result, receipt, log) = (Err(Failure::new(FailureKind::Transient, "no")), Receipt::default(), Log::default());
        told.tell(Input::WorkerEnded { task, attempt: 1, result, receipt, log, chance: 0.0 });
    }
    told.now += 1000;
    let mut next = |free: &[&str]| {
        let mut asked = Vec::new();
        let effect = told.run.next_call(at(told.now), &mut |plugin| {
            asked.push(plugin.to_owned());
            free.contains(&plugin)
        });
        let Some(Effect::RunWorker { task, .. }) = effect else { return (None, asked) };
        (Some(task.step), asked)
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(next(&["worker", "other"]), (Some(100), words(&["away", "away", "worker"])));
    assert_eq!(next(&["worker", "other"]), (Some(101), words(&["away", "other"])), "steps take turns");
    assert_eq!(next(&[]), (None, words(&["away", "away", "worker", "other"])));
    assert_eq!(next(&["away", "worker"]), (Some(0), words(&["away"])), "what has begun goes first");
}

/// Each need of a step that waits again is counted once, whether it had completed or failed, in whatever order they are retried.
#[test]
fn what_was_skipped_starts_once_all_that_it_needs_has_completed_again() {
    for first in [0, 1] {
        let optional = Step { optional: true, foreach: true, ..step(first, vec![], 0, 0, 1) };
        let mut steps = vec![optional, step(1 - first, vec![], 0, 0, 1)];
        steps.sort_by(|one, other| one.id.cmp(&other.id));
        steps.push(step(2, vec![0, 1], 0, 0, 1));
        let (half, fails) = (first as u32, 1 - first as u32);
        let mut told = Told::new(steps);
        let end = |told: &mut Told, step, index, attempt, good: bool| {
            let result = if good { Ok(vec![]) } else { Err(Failure::new(FailureKind::Permanent, "no")) };
            let (receipt, log) = (Receipt::default(), Log::default());
            told.tell(Input::WorkerEnded { task: TaskKey { step, index }, attempt, result, receipt, log, chance: 0.0 });
        };
        told.tell(Input::StepInputs { step: half, tasks: 2, inputs: Digest::of(b""), as_of: u64::MAX });
        told.tell(Input::StepInputs { step: fails, tasks: 1, inputs: Digest::of(b""), as_of: u64::MAX });
        told.start_all();
        end(&mut told, half, 0, 1, true);
        end(&mut told, half, 1, 1, false);
        end(&mut told, fails, 0, 1, false);
        told.start_all();
        assert_eq!((&told.run.steps[2], told.run.status), (&StepState::Skipped, RunStatus::Failed));
        told.tell(Input::Requeue { tasks: vec![] });
        told.start_all();
        end(&mut told, half, 1, 2, true);
        end(&mut told, fails, 0, 2, true);
        told.start_all();
        told.start_all();
        told.start_all();
        end(&mut told, 2, 0, 1, true);
        told.start_all();
        assert_eq!(told.run.status, RunStatus::Completed);
    }
}

/// What a step is to work on may be listed while what it needs is retried: the list lacks what that makes.
#[test]
fn inputs_that_were_listed_before_a_need_was_retried_are_not_taken() {
    let mut told = Told::new(vec![Step { optional: true, ..step(0, vec![], 0, 0, 1) }, step(1, vec![0], 0, 0, 1)]);
    let inputs = |step, tasks, as_of| Input::StepInputs { step, tasks, inputs: Digest::of(b""), as_of };
    let version = told.run.version;
    told.tell(inputs(0, 2, version));
    told.start_all();
    told.worker_ends(0, 1, Ok(()));
    told.worker_ends(1, 1, Err(FailureKind::Permanent));
    told.tell(Input::Settle);
    assert_eq!(told.run.due(), [Effect::ResolveInputs { step: 1 }]);
    let before = told.run.version;
    told.tell(Input::Requeue { tasks: vec![TaskKey { step: 0, index: 1 }] });
    assert_eq!(decide(&told.run, inputs(1, 1, before), at(0)), Err(Rejection::NotUnderWay), "it waits again");
    told.start_all();
    told.worker_ends(1, 2, Ok(()));
    told.tell(Input::Settle);
    assert_eq!(told.run.due(), [Effect::ResolveInputs { step: 1 }]);
    assert_eq!(decide(&told.run, inputs(1, 1, before), at(0)), Err(Rejection::NotUnderWay), "they are older");
    let now = told.run.version;
    told.tell(inputs(1, 2, now));
}

#[test]
fn what_is_skipped_again_after_a_retry_is_settled_with_that() {
    let fails = |id| step(id, vec![], 0, 0, 1);
    let mut told = Told::new(vec![fails(0), fails(1), fails(2), step(3, vec![0, 1, 2], 0, 0, 1)]);
    told.start_all();
    told.start_all();
    let fail = |told: &mut Told, step, attempt| {
        let (result, receipt, log) = (Err(Failure::new(FailureKind::Permanent, "no")), Receipt::default(), Log::default());
        told.tell(Input::WorkerEnded { task: TaskKey { step, index: 0 }, attempt, result, receipt, log, chance: 0.0 });
    };
    (0..3).for_each(|step| fail(&mut told, step, 1));
    told.start_all();
    assert_eq!(told.run.status, RunStatus::Failed);
    told.tell(Input::Requeue { tasks: vec![TaskKey { step: 0, index: 0 }] });
    told.start_all();
    assert_eq!(told.run.steps[3], StepState::Skipped);
    assert_eq!(told.run.due(), [], "the others that failed have nothing more to say");
    fail(&mut told, 0, 2);
    told.start_all();
    assert_eq!(told.run.status, RunStatus::Failed);
}

/// What waits for a step that plans waits for the plan's last steps, of those that plan themselves for the last of theirs, and
/// takes their artifacts.
#[test]
fn what_needs_a_step_that_plans_waits_for_all_of_the_plan() {
    let planner = Step { expand: Some(Expansion { depth_max: 2, ..expansion() }), ..step(0, vec![], 0, 0, 1) };
    let mut told = Told::new(vec![planner, step(1, vec![0], 0, 0, 1)]);
    let made = |told: &mut Told, step: u32, attempt: u32| {
        let (receipt, log) = (Receipt::default(), Log::default());
        told.tell(Input::WorkerEnded { task: TaskKey { step, index: 0 }, attempt, result: Ok(vec![]), receipt, log, chance: 0.5 })
    };
    told.start_all();
    told.start_all();
    let events = made(&mut told, 0, 1);
    assert_eq!(events.last().map(Event::name), Some("plan_submitted"));
    assert_eq!(told.run.task_state(TaskKey { step: 0, index: 0 }), Some("EXPANDING"));

    let task = TaskKey { step: 0, index: 0 };
    let nested = Step { expand: Some(expansion()), ..of_plan("s0", 1, 1) }; // needs c0
    let plan = vec![of_plan("s0", 0, 0), nested, of_plan("s0", 2, 0)];
    told.tell(Input::PlanRead { task, result: Ok(planned(plan)) });
    assert!(decide(&told.run, Input::PlanRead { task, result: Ok(vec![]) }, at(0)).is_err(), "a plan is read once");
    assert_eq!(told.run.stands_for(0), [4]); // c1 does not stand for itself, and has made no plan yet

    let (c0, c1, c2, of_c1) = (2, 3, 4, 5);
    told.start_all(); // inputs of c0 and c2, and of nothing else
    told.start_all();
    let plans = |told: &mut Told| {
        let task = TaskKey { step: c1, index: 0 };
        told.tell(Input::PlanRead { task, result: Ok(planned(vec![of_plan("s0/c1", 0, 0)])) });
    };
    for ends in [c2, c0, c1, of_c1] {
        made(&mut told, ends, 1);
        if ends == c1 {
            plans(&mut told);
        }
        assert_eq!(told.run.steps[1].as_str(), "waiting", "until all of the plan has ended");
        told.start_all();
        told.start_all();
        told.start_all();
    }
    assert_eq!(told.run.stands_for(0), [of_c1, c2]);
    assert_eq!(told.run.steps[1].as_str(), "active");
    made(&mut told, 1, 1);
    told.tell(Input::Settle);
    assert_eq!(told.run.status, RunStatus::Completed);
}

proptest! {
    #[test]
    fn waits_grow_up_to_the_cap_and_jitter_stays_within_its_part(attempt in 1_u32..200, chance in 0.0_f64..1.0, jitter in 0.0_f64..=1.0) {
        let policy = RetryPolicy { jitter, ..RetryPolicy::default() };
        let wait = backoff(&policy, attempt, chance).as_secs_f64();
        let plain = backoff(&policy, attempt, 0.5).as_secs_f64();
        prop_assert!((1.0..=30.0).contains(&plain));
        prop_assert!((wait - plain).abs() <= plain * jitter + 1e-6);
        prop_assert!(backoff(&policy, attempt + 1, 0.5).as_secs_f64() >= plain);
    }

    /// Whatever workers, gates and people do, in whatever order, a run ends exactly once, keeps its policies, and replays.
    #[test]
    fn random_histories_end_replay_and_keep_their_policies(
        shape in prop::collection::vec((any::<u16>(), 0_usize..3, 0_u32..3, 1_u32..4), 1..6),
        choices in prop::collection::vec(any::<u32>(), 400),
    ) {
        let steps: Vec<Step> = shape.iter().enumerate().map(|(id, (needs, gates, revisions, attempts))| {
            let in_order = (0..id).filter(|n| needs >> n & 1 == 1).collect();
            Step { expand: (needs >> 15 == 1).then(expansion), ..step(id, in_order, *gates, *revisions, *attempts) }
        }).collect();
        let mut told = Told::new(steps);
        let mut under_way: Vec<Effect> = Vec::new();
        let mut choices = choices.into_iter().cycle();
        let mut draw = move || choices.next().expect("a cycle");
        for _round in 0..4000 {
            if told.run.status.is_final() { break; }
            let due = told.due(3);
            let cancel = draw() % 97 == 0 && told.run.status == RunStatus::Running;
            if cancel {
                told.tell(Input::Cancel { reason: "because".into() });
            } else if !due.is_empty() && (under_way.is_empty() || draw() % 2 == 0) {
                for effect in due {
                    match effect {
                        Effect::Settle => { told.tell(Input::Settle); }
                        Effect::ResolveInputs { step } => { let tasks = draw() % 4; told.tell(Input::StepInputs { step, tasks, inputs: Digest::of(b""), as_of: u64::MAX }); }
                        Effect::ReadPlan { task } => {
                            let prefix = format!("{}.{}", told.run.workflow.steps[task.step as usize].id, task.index);
                            let plan: Vec<Step> = (0..draw() as usize % 4).map(|n| of_plan(&prefix, n, draw())).collect();
                            let result = if draw() % 3 == 0 { Err(verdict(Decision::Fail, &["bad"]).findings) } else { Ok(planned(plan)) };
                            told.tell(Input::PlanRead { task, result });
                        }
                        Effect::RunGate { .. } | Effect::RunWorker { .. } => { told.tell(Input::Start(effect, None)); under_way.push(effect); }
                    }
                    if told.run.status != RunStatus::Running { break; }
                }
            } else if !under_way.is_empty() {
                let place = draw() as usize % under_way.len();
                let failure = [FailureKind::Transient, FailureKind::Trapped, FailureKind::DeadlineExceeded][draw() as usize % 3];
                let fails = draw() % 3 == 0;
                match under_way.swap_remove(place) {
                    Effect::RunWorker { task, attempt, .. } => {
                        let result = if fails { Err(Failure::new(failure, "no")) } else { Ok(Vec::<ArtifactRef>::new()) };
                        told.tell(Input::WorkerEnded { task, attempt, result, receipt: Receipt::default(), log: Log::default(), chance: 0.1 });
                    }
                    Effect::RunGate { task, gate, attempt } => {
                        let said = if draw() % 2 == 0 { verdict(Decision::Pass, &[]) } else { verdict(Decision::Fail, &[["x", "y", "z"][draw() as usize % 3]]) };
                        let result = if fails { Err(Failure::new(failure, "no")) } else { Ok(said) };
                        told.tell(Input::GateEnded { task, gate, attempt, result, receipt: Receipt::default(), log: Log::default(), chance: 0.9 });
                    }
                    Effect::ResolveInputs { .. } | Effect::ReadPlan { .. } | Effect::Settle => unreachable!("never under way"),
                }
            } else {
                told.now += 1;
            }
        }
        prop_assert!(told.run.status.is_final(), "the run did not end: {:?}", told.run);
        prop_assert!(under_way.is_empty(), "ended with work under way");
        prop_assert_eq!(told.due(10), vec![]);
        prop_assert_eq!(told.run.next_timer(), None);

        let mut replayed = Run::begin(told.history[0].0, &told.history[0].1).expect("begins");
        let mut completions = std::collections::BTreeSet::new();
        for (when, event) in &told.history[1..] {
            let before = replayed.clone();
            replayed.apply(*when, event).expect("replays");
            match event {
                Event::AttemptStarted { task, attempt, revision, .. } => {
                    let policy = &before.workflow.steps[task.step as usize];
                    prop_assert!(*attempt <= policy.retry.maximum_attempts && *revision <= policy.maximum_revisions);
                }
                Event::TaskCompleted { task } | Event::TaskFailed { task, .. } | Event::TaskCancelled { task } => {
                    prop_assert!(completions.insert(*task), "a task ended twice");
                }
                _ => {}
            }
            // An event that does not fit leaves the state as it was.
            let mut again = replayed.clone();
            if again.apply(*when, event).is_err() {
                prop_assert_eq!(&again, &replayed);
            }
            prop_assert!(before.version < replayed.version);
        }
        prop_assert_eq!(&replayed, &told.run);
        let text = serde_json::to_string(&told.history.iter().map(|(_, e)| e).collect::<Vec<_>>()).expect("serializes");
        let back: Vec<Event> = serde_json::from_str(&text).expect("deserializes");
        prop_assert_eq!(back.len(), told.history.len());
    }
}
