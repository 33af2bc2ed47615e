//! The core in a world that is drawn from a seed: a clock that is set, workers that fail, hang, lie and take the host
//! with them, people who change their minds, and crashes at any point, during recovery too.

use std::collections::HashSet;

use futures_util::FutureExt as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::attempt::{Order, Waiting};
use super::core::{Acts, Core, load};
use super::lookup::Lookup;
use super::*;
use crate::clock::{Stopwatch, Timestamp, after};
use crate::journal::{Append, DeadLetter, Memory, RunRow};
use crate::machine::{Event, Run, StepState, TaskReason};
use crate::model::{
    Decision, Expansion, Failure, FailureKind, Finding, GateUse, OnExhausted, Receipt, RetryPolicy, Severity, Step, Verdict,
};

/// How many worlds there are.
const SEEDS: u64 = 10_000;
/// How many turns a world may take before it counts as stuck.
const TURNS_MAX: usize = 10_000;
/// How many runs a world may have.
const RUNS_MAX: usize = 5;

/// What was ready at once is what everything here is: the journal is in memory.
fn now<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("nothing here waits")
}

struct World {
    random: SmallRng,
    time: Timestamp,
    store: Arc<Memory>,
    core: Core,
    /// Calls whose start is on record, in line.
    line: Vec<Order>,
    /// Calls that execute, and what bounds how many of their runs do.
    executing: Vec<(Order, Option<Waiting>)>,
    reading: Vec<(RunId, Lookup)>,
    loading: Vec<RunId>,
    messages: Vec<Message>,
    runs: Vec<RunId>,
    /// A task that the host does not survive.
    poison: Option<(u32, u32)>,
    crashes_left: u32,
}

const SLOTS: usize = 3;

fn core(store: &Arc<Memory>) -> Core {
    let breaker = BreakerPolicy { consecutive_failures: 3, timeout: Duration::from_secs(5), max_requests: 1 };
    let host = Host::new(breaker, Balance::RoundRobin);
    Core::new(Arc::clone(store) as Arc<dyn Store>, Arc::new(Names), SLOTS, host, CancellationToken::new())
}

/// Who does the work of each name: two for one of them, and one that may be called twice at once.
struct Names;

#[async_trait::async_trait]
impl Workers for Names {
    fn providers(&self, name: &str) -> Vec<Provider> {
        let provider = |name: &str, concurrency| Provider { name: name.into(), component: name.into(), concurrency };
        match name {
            "w0" => vec![provider("w0", None), provider("w0-too", None)],
            "w1" => vec![provider("w1", Some(2))],
            name => vec![provider(name, None)],
        }
    }

    async fn run(
        &self,
        _worker: &str,
        _step: &Step,
        _task: crate::model::Task,
        _cancel: CancellationToken,
        _progress: crate::runtime::Progress,
    ) -> crate::model::Attempt<Vec<Artifact>> {
        unreachable!("the world itself says how calls end")
    }

    async fn check(
        &self,
        _plugin: &str,
        _gate: &GateUse,
        _subject: crate::model::Subject,
        _cancel: CancellationToken,
    ) -> crate::model::Attempt<Verdict> {
        unreachable!("the world itself says how calls end")
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let store = Arc::new(Memory::default());
        let core = core(&store);
        let poison = random.random_bool(0.3).then(|| (random.random_range(0..3), random.random_range(0..3)));
        let time = Timestamp::UNIX_EPOCH;
        let (line, executing, reading, loading, messages, runs) = (vec![], vec![], vec![], vec![], vec![], vec![]);
        let crashes_left = u32::from(random.random_bool(0.5));
        Self { random, time, store, core, line, executing, reading, loading, messages, runs, poison, crashes_left }
    }

    fn workflow(&mut self) -> (Workflow, Vec<Option<Digest>>) {
        let random = &mut self.random;
        let count = random.random_range(1..4);
        let steps: Vec<Step> = (0..count)
            .map(|n| {
                let retry = RetryPolicy { maximum_attempts: random.random_range(1..4), ..RetryPolicy::default() };
                let gate = |random: &mut SmallRng| GateUse {
                    gate: "g".into(),
                    fail_on: None,
                    params: Default::default(),
                    usage: false,
                    retry: RetryPolicy { maximum_attempts: random.random_range(1..3), ..RetryPolicy::default() },
                    limits: Default::default(),
                };
                Step {
                    needs: (0..n).filter(|_| random.random_bool(0.5)).map(|need| format!("s{need}")).collect(),
                    foreach: random.random_bool(0.5),
                    inputs: vec![crate::model::InputSource::Files("*".into())],
                    gates: (0..random.random_range(0..3)).map(|_| gate(random)).collect(),
                    maximum_revisions: random.random_range(0..3),
                    on_exhausted: OnExhausted::ALL[random.random_range(0..3)],
                    fallback: random.random_bool(0.2).then(|| "other".to_owned()),
                    optional: random.random_bool(0.3),
                    approval: random.random_bool(0.2),
                    expand: random.random_bool(0.2).then(|| Expansion {
                        workers: ["w0", "w1", "w2"].map(str::to_owned).to_vec(),
                        gates: vec!["g".to_owned()],
                        steps_max: 3,
                        depth_max: 2,
                    }),
                    retry,
                    ..Step::new(format!("s{n}"), format!("w{n}"))
                }
            })
            .collect();
        let file = |n: u32| Artifact { name: n.to_string(), media_type: String::new(), content: bytes::Bytes::new() };
        let list = now(inputs::keep_files(&*self.store, (0..random.random_range(0..4)).map(file).collect())).expect("kept");
        let files = vec![Some(list); steps.len()];
        let concurrency = random.random_bool(0.3).then(|| random.random_range(1..3));
        (Workflow { name: "w".into(), priority: random.random_range(1..4), concurrency, steps }, files)
    }

    fn submit(&mut self) {
        let (workflow, files) = self.workflow();
        let (reply, mut answer) = oneshot::channel();
        let message = Message::Submit { workflow: Box::new(workflow), files, key: None, reply };
        self.turn(vec![message]);
        self.runs.push(answer.try_recv().expect("answered").expect("accepted"));
    }

    /// A turn of the core, and what it asks for.
    fn turn(&mut self, messages: Vec<Message>) {
        let Acts { orders, lookups, loads } = now(self.core.step(messages, self.time)).expect("the journal works");
        self.line.extend(orders);
        self.reading.extend(lookups);
        self.loading.extend(loads);
        while self.executing.len() < SLOTS && !self.line.is_empty() {
            let mut order = self.line.remove(0);
            match order.standing.lane.take() {
                None => self.begin(order, None),
                Some(lane) => {
                    if let Some((_, order)) = lane.enter((Stopwatch::start(), order)) {
                        self.begin(order, Some(lane));
                    }
                }
            }
        }
        for (id, live) in &self.core.runs {
            let executing = self.executing.iter().filter(|(order, _)| order.run == *id).count();
            let most = live.run.workflow.concurrency;
            assert!(most.is_none_or(|most| executing <= most as usize), "{executing} calls execute, and {most:?} may");
        }
    }

    /// A slot takes an order: it executes, or is handed back, and so are those behind it, where its run is paused.
    fn begin(&mut self, order: Order, lane: Option<Waiting>) {
        if !order.standing.paused.load(std::sync::atomic::Ordering::Acquire) {
            return self.executing.push((order, lane));
        }
        let (run, provider, input) = (order.run, order.provider.clone(), order.hand_back());
        self.messages.push(Message::Ended { run, provider, input });
        self.leave(lane);
    }

    /// A slot is done with a call: the next one of its run, if one waits for that, takes its place.
    fn leave(&mut self, lane: Option<Waiting>) {
        if let Some(lane) = lane
            && let Some((_, next)) = lane.leave()
        {
            self.begin(next, Some(lane));
        }
    }

    fn is_poison(&self, order: &Order) -> bool {
        let executing = order.executing();
        executing.gate.is_none() && self.poison == Some((executing.task.step, executing.task.index))
    }

    /// The host ends here and now, and another one starts; perhaps more than once.
    fn crash(&mut self) {
        let mut board: HashMap<RunId, Vec<Executing>> = HashMap::new();
        for (order, _) in &self.executing {
            board.entry(order.run).or_default().push(order.executing());
        }
        (self.line, self.executing, self.reading, self.loading, self.messages) = (vec![], vec![], vec![], vec![], vec![]);
        loop {
            self.core = core(&self.store);
            now(self.core.recover(board.clone(), self.time)).expect("recovers");
            if self.random.random_bool(0.7) {
                break;
            }
        }
        for run in self.runs.clone() {
            if now(load(&*self.store, run)).expect("reads").is_some_and(|run| !run.status.is_final()) {
                let (reply, _answer) = oneshot::channel();
                self.turn(vec![Message::Resume { run, reply }]);
            }
        }
    }

    fn failure(&mut self) -> Failure {
        let kinds = [FailureKind::Transient, FailureKind::DeadlineExceeded, FailureKind::Trapped, FailureKind::ContractViolation];
        Failure::new(kinds[self.random.random_range(0..kinds.len())], "drawn")
    }

    /// What a worker makes: a plan, where that is asked for, which mostly fits.
    fn artifacts(&mut self, order: &Order) -> Vec<Artifact> {
        if !order.expands() {
            return vec![];
        }
        let random = &mut self.random;
        let mut plan = String::from("step = []");
        for n in 0..random.random_range(0..4) {
            if n == 0 {
                plan.clear();
            }
            let needs: Vec<String> = (0..n).filter(|_| random.random_bool(0.5)).map(|need| format!("\"c{need}\"")).collect();
            let gates = if random.random_bool(0.3) { "gates = [\"g\"]\n" } else { "" };
            let (foreach, expand) = (random.random_bool(0.5), random.random_bool(0.2));
            let worker = if random.random_bool(0.05) { 9 } else { n };
            plan += &format!("[[step]]\nid = \"c{n}\"\nworker = \"w{worker}\"\nneeds = [{}]\n{gates}", needs.join(", "));
            plan += &format!("inputs = [\"data-*\"]\nforeach = {foreach}\nexpand = {expand}\n");
        }
        let files = [("plan.toml", plan), ("data-1", "1".to_owned()), ("data-2", "2".to_owned())];
        files.map(|(name, text)| Artifact { name: name.into(), media_type: String::new(), content: text.into() }).into()
    }

    /// An executing call ends, somehow.
    fn end_one(&mut self) {
        let place = self.random.random_range(0..self.executing.len());
        if self.is_poison(&self.executing[place].0) {
            return self.crash();
        }
        let (order, lane) = self.executing.swap_remove(place);
        self.leave(lane);
        let Executing { run, task, gate, attempt } = order.executing();
        let (receipt, log, chance) = (Receipt::default(), Log::default(), self.random.random_range(0.0..1.0));
        let fails = self.random.random_bool(0.3);
        let input = match gate {
            None => {
                let made = self.artifacts(&order);
                let made = now(inputs::keep(&*self.store, made)).expect("kept");
                let result = if fails { Err(self.failure()) } else { Ok(made) };
                Input::WorkerEnded { task, attempt, result, receipt, log, chance }
            }
            Some(gate) => {
                let decision = if self.random.random_bool(0.6) { Decision::Pass } else { Decision::Fail };
                let message = ["x", "y", "z"][self.random.random_range(0..3)].to_owned();
                let (location, suggestion, help_url) = (None, None, None);
                let finding = Finding { rule: "r".into(), severity: Severity::High, message, location, suggestion, help_url, fix: None };
                let verdict = Verdict { decision, findings: vec![finding], metrics: vec![], summary: String::new() };
                let result = if fails { Err(self.failure()) } else { Ok(verdict) };
                Input::GateEnded { task, gate, attempt, result, receipt, log, chance }
            }
        };
        if self.random.random_bool(0.05) {
            // What nobody asked for, or was answered before, changes nothing.
            self.messages.push(Message::Found { run, input: input.clone() });
            self.messages.push(Message::Found { run, input: input.clone() });
        }
        self.messages.push(Message::Ended { run, provider: order.provider, input });
    }

    /// Somebody wants something, fitting or not.
    fn person(&mut self) {
        let run = self.runs[self.random.random_range(0..self.runs.len())];
        let (reply, _answer) = oneshot::channel();
        let input = match self.random.random_range(0..20) {
            0 => Input::Cancel { reason: "drawn".into() },
            1 | 2 => Input::Pause { reason: "drawn".into() },
            3..=9 => return self.messages.push(Message::Resume { run, reply }),
            10 => Input::Discard { tasks: vec![] },
            11 => Input::Requeue { tasks: vec![] },
            12 if self.runs.len() < RUNS_MAX => return self.submit(),
            n => Input::Approve { step: self.random.random_range(0..3), index: None, approved: n < 18, comment: "drawn".into() },
        };
        self.messages.push(Message::Command { run, input, reply });
    }

    fn is_over(&self) -> bool {
        self.core.runs.is_empty() && self.line.is_empty() && self.executing.is_empty() && self.loading.is_empty()
    }

    /// How things stand, for who looks into a failure.
    fn told(&self) -> String {
        let line = format!("{} in line, {} executing, {} reading", self.line.len(), self.executing.len(), self.reading.len());
        let runs = self.core.runs.values().map(|live| format!("\n{:?}: {:?} due {:?}", live.run.status, live.run.steps, live.run.due()));
        line + &runs.collect::<String>()
    }

    /// One thing happens.
    fn happen(&mut self, turn: usize) {
        match self.random.random_range(0..10) {
            0..=5 if !self.executing.is_empty() => self.end_one(),
            6 if !self.reading.is_empty() => {
                let (run, lookup) = self.reading.remove(0);
                let input = now(lookup.answer(&*self.store)).expect("the journal can be read");
                self.messages.push(Message::Found { run, input });
            }
            6 if !self.loading.is_empty() => {
                let run = self.loading.remove(self.random.random_range(0..self.loading.len()));
                let loaded = Ok(now(load(&*self.store, run)).expect("reads").map(Box::new));
                self.messages.push(Message::Loaded { run, loaded });
            }
            7 if turn < TURNS_MAX / 2 || self.executing.is_empty() => self.person(),
            8 if self.crashes_left > 0 && self.random.random_bool(0.2) => {
                self.crashes_left -= 1;
                self.crash();
            }
            // The machine's clock is set back.
            9 if self.random.random_bool(0.1) => self.time -= Duration::from_millis(self.random.random_range(1..20_000)),
            _ => self.time = after(self.time, Duration::from_millis(self.random.random_range(1..2_000))),
        }
        if self.random.random_bool(0.6) {
            let messages = std::mem::take(&mut self.messages);
            self.turn(messages);
        }
        if self.random.random_bool(0.1) {
            for (id, live) in &self.core.runs {
                let replayed = now(load(&*self.store, *id)).expect("reads").expect("there");
                assert!(replayed == live.run, "replay is another than what lives");
            }
        }
    }

    /// What holds of a run whatever happened.
    fn check(&self, id: RunId, seen: &mut HashSet<(&'static str, &'static str, &'static str)>) {
        let records = now(self.store.read(&id, 1, usize::MAX)).expect("reads");
        let mut run = Run::begin(records[0].at, &records[0].event).expect("begins");
        let (mut completed, mut failures): (HashSet<TaskKey>, HashMap<TaskKey, u32>) = (HashSet::new(), HashMap::new());
        let mut ends = 0;
        let mut answered: HashSet<(TaskKey, u32)> = HashSet::new();
        for record in &records[1..] {
            let held: Vec<TaskKey> = match &record.event {
                Event::RunResumed => held(&run),
                event => event.task().into_iter().collect(),
            };
            if let Event::StepStarted { step, .. } = &record.event {
                let needs = run.workflow.steps[*step as usize].needs.clone();
                for need in needs.iter().filter_map(|need| run.workflow.steps.iter().position(|step| step.id == *need)) {
                    let stand = run.stands_for(need as u32);
                    let completed = |step: &u32| matches!(run.steps[*step as usize], StepState::Completed(_));
                    assert!(completed(&(need as u32)) && stand.iter().all(completed), "a step started before what it needs had ended");
                }
            }
            let before: Vec<_> = held.iter().map(|task| run.task_state(*task)).collect();
            run.apply(record.at, &record.event).expect("replays");
            for (task, before) in held.into_iter().zip(before) {
                let after = match &record.event {
                    Event::TaskCompleted { .. } => Some("COMPLETED"),
                    Event::TaskCancelled { .. } => Some("CANCELLED"),
                    _ => run.task_state(task),
                };
                seen.insert((record.event.name(), before.expect("it is alive"), after.expect("it is known")));
            }
            match &record.event {
                Event::TaskCompleted { task } => assert!(completed.insert(*task), "a task completed twice"),
                Event::AttemptCompleted { task, .. } => answered.retain(|(of, _)| of != task),
                Event::GateAnswered { task, gate, .. } => assert!(answered.insert((*task, *gate)), "two verdicts of one result"),
                Event::GateStarted { task, gate, .. } => assert!(!answered.contains(&(*task, *gate)), "a verdict is asked for again"),
                Event::TaskRequeued { task } | Event::RevisionRequested { task, .. } | Event::FallbackStarted { task, .. } => {
                    failures.remove(task);
                }
                Event::RunResumed => failures.clear(),
                Event::AttemptFailed { task, .. } => {
                    let count = failures.entry(*task).or_default();
                    *count += 1;
                    let most = run.workflow.steps[task.step as usize].retry.maximum_attempts;
                    assert!(*count <= most, "{count} attempts, and the policy allows {most}");
                }
                Event::TaskDeadLettered { task, reason: TaskReason::Lost { .. } } => {
                    assert_eq!(self.poison, Some((task.step, task.index)), "an innocent was blamed");
                }
                Event::RunReopened => ends -= 1,
                event if event.ends_the_run() => ends += 1,
                _ => {}
            }
        }
        assert!(run.status.is_final() && ends == 1, "the run has not exactly one end: {:?}", run.status);
        assert_eq!(run.due(), []);
        assert_eq!(run.next_timer(), None);
    }
}

/// The tasks that wait for a run to be resumed.
fn held(run: &Run) -> Vec<TaskKey> {
    let mut held = Vec::new();
    for (step, state) in (0..).zip(&run.steps) {
        let live = state.run().into_iter().flat_map(|of| of.live.keys());
        held.extend(live.map(|index| TaskKey { step, index: *index }).filter(|task| run.task_state(*task) == Some("PAUSED")));
    }
    held
}

fn world(seed: u64) -> HashSet<(&'static str, &'static str, &'static str)> {
    let mut world = World::new(seed);
    for _ in 0..world.random.random_range(1..4) {
        world.submit();
    }
    let mut turn = 0;
    while !(world.is_over() && world.messages.is_empty()) {
        world.happen(turn);
        turn += 1;
        assert!(turn < TURNS_MAX, "stuck: {}", world.told());
    }
    let mut seen = HashSet::new();
    for run in world.runs.clone() {
        world.check(run, &mut seen);
    }
    seen
}

#[test]
fn whatever_happens_every_run_ends_once_and_no_task_completes_twice() {
    let mut seen = HashSet::new();
    for seed in 0..SEEDS {
        let ended = std::panic::catch_unwind(|| world(seed));
        seen.extend(ended.unwrap_or_else(|_| panic!("in the world of seed {seed}")));
    }
    // The picture in the documentation is that of the transitions, and those are what happened: all of them, and no others.
    let drawn: HashSet<_> =
        crate::machine::TRANSITIONS.iter().flat_map(|(event, from, to)| from.iter().map(move |from| (*event, *from, *to))).collect();
    let happened: HashSet<_> = seen.into_iter().filter(|(_, from, to)| from != to).collect();
    let told = |set: HashSet<_>| {
        let mut told: Vec<_> = set.into_iter().collect();
        told.sort_unstable();
        told
    };
    assert_eq!(told(happened), told(drawn));
}

/// A journal that refuses everything from one append on.
struct Refusing(Memory, std::sync::atomic::AtomicI64);

#[async_trait::async_trait]
impl Store for Refusing {
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, journal::Error>> {
        if self.1.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) <= 0 {
            return appends.iter().map(|_| Err(journal::Error::Medium("the disk is full".into()))).collect();
        }
        self.0.append(appends).await
    }

    async fn read(&self, run: &RunId, from_version: u64, limit: usize) -> Result<Vec<Record>, journal::Error> {
        self.0.read(run, from_version, limit).await
    }

    async fn after(&self, seq: u64, limit: usize) -> Result<Vec<Record>, journal::Error> {
        self.0.after(seq, limit).await
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.0.head()
    }

    async fn put_blobs(&self, blobs: Vec<(Digest, bytes::Bytes)>) -> Result<(), journal::Error> {
        self.0.put_blobs(blobs).await
    }

    async fn blobs(&self, digests: Vec<Digest>) -> Result<Vec<bytes::Bytes>, journal::Error> {
        self.0.blobs(digests).await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, journal::Error> {
        self.0.run(run).await
    }

    async fn runs(&self, before: Option<RunId>, open: bool, limit: usize) -> Result<Vec<RunRow>, journal::Error> {
        self.0.runs(before, open, limit).await
    }

    async fn run_with_key(&self, key: &str) -> Result<Option<RunId>, journal::Error> {
        self.0.run_with_key(key).await
    }

    async fn dead_letters(
        &self,
        run: Option<RunId>,
        after: Option<(RunId, TaskKey)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, journal::Error> {
        self.0.dead_letters(run, after, limit).await
    }
}

/// Whichever append is refused: nothing is acknowledged that is not on record, and no call is made whose start is not.
#[test]
fn what_the_journal_did_not_take_did_not_happen() {
    for allowed in 0..4 {
        let store = Arc::new(Refusing(Memory::default(), allowed.into()));
        let dynamic = Arc::clone(&store) as Arc<dyn Store>;
        let mut core = Core::new(dynamic, Arc::new(Names), SLOTS, Host::default(), CancellationToken::new());
        let time = Timestamp::UNIX_EPOCH;
        let list = now(inputs::keep_files(&*store, vec![])).expect("kept");
        let workflow = Workflow { name: "w".into(), priority: 5, concurrency: None, steps: vec![Step::new("s", "w")] };
        let (reply, mut answer) = oneshot::channel();
        let submit = Message::Submit { workflow: Box::new(workflow), files: vec![Some(list)], key: None, reply };
        let mut messages = vec![submit];
        let mut orders = 0;
        let mut refused = false;
        while !refused && !(messages.is_empty()) {
            match now(core.step(std::mem::take(&mut messages), time)) {
                Ok(acts) => {
                    orders += acts.orders.len();
                    for (run, lookup) in acts.lookups {
                        let input = now(lookup.answer(&*store)).expect("the journal can be read");
                        messages.push(Message::Found { run, input });
                    }
                    for order in acts.orders {
                        let Executing { run, task, attempt, .. } = order.executing();
                        let (receipt, log) = (Receipt::default(), Log::default());
                        let input = Input::WorkerEnded { task, attempt, result: Ok(vec![]), receipt, log, chance: 0.0 };
                        messages.push(Message::Ended { run, provider: order.provider, input });
                    }
                }
                Err(Error::Journal(_)) => refused = true,
                Err(error) => panic!("{error}"),
            }
        }
        let records = now(store.after(0, 100)).expect("reads");
        let names: Vec<&str> = records.iter().map(|record| record.event.name()).collect();
        assert_eq!(refused, allowed < 3, "{names:?}");
        let acknowledged = answer.try_recv().expect("answered").is_ok();
        assert_eq!(acknowledged, names.contains(&"run_started"));
        assert_eq!(orders, usize::from(names.contains(&"attempt_started")));
    }
}

/// While a run is read from the journal, others go on; what it was told meanwhile is done in turn, once it is there.
#[test]
fn nobody_waits_for_a_run_that_is_read() {
    let store = Arc::new(Memory::default());
    let (mut core, time) = (core(&store), Timestamp::UNIX_EPOCH);
    let submit = || {
        let (reply, answer) = oneshot::channel();
        let files = vec![Some(now(inputs::keep_files(&*store, vec![])).expect("kept"))];
        let retry = RetryPolicy { maximum_attempts: 1, ..RetryPolicy::default() };
        let steps = vec![Step { retry, ..Step::new("s", "w") }];
        let workflow = Box::new(Workflow { name: "w".into(), priority: 5, concurrency: None, steps });
        (Message::Submit { workflow, files, key: None, reply }, answer)
    };
    let (message, mut answer) = submit();
    let mut acts = now(core.step([message], time)).expect("the journal works");
    let failed = answer.try_recv().expect("answered").expect("accepted");
    let input = now(acts.lookups.remove(0).1.answer(&*store)).expect("reads");
    let acts = now(core.step([Message::Found { run: failed, input }], time)).expect("the journal works");
    let order = acts.orders.into_iter().next().expect("a call");
    let Executing { run, task, attempt, .. } = order.executing();
    let result = Err(Failure::new(FailureKind::Permanent, "drawn"));
    let input = Input::WorkerEnded { task, attempt, result, receipt: Receipt::default(), log: Log::default(), chance: 0.0 };
    now(core.step([Message::Ended { run, provider: order.provider, input }], time)).expect("the journal works");
    assert!(core.runs.is_empty(), "it has failed");

    let (reply, mut requeued) = oneshot::channel();
    let requeue = Message::Command { run: failed, input: Input::Requeue { tasks: vec![] }, reply };
    let (reply, mut waited) = oneshot::channel();
    let (reply_of_none, mut of_none) = oneshot::channel();
    let none = RunId(uuid::Uuid::from_u128(1));
    let resume = Message::Resume { run: none, reply: reply_of_none };
    let acts = now(core.step([requeue, Message::Wait { run: failed, reply }, resume], time)).expect("the journal works");
    assert_eq!(acts.loads, [failed, none], "once each");
    let (message, mut answer) = submit();
    now(core.step([message], time)).expect("the journal works");
    assert!(answer.try_recv().expect("answered").is_ok(), "another one is accepted meanwhile");
    assert!(requeued.try_recv().is_err() && waited.try_recv().is_err() && of_none.try_recv().is_err(), "not answered yet");

    let loaded = |run| Message::Loaded { run, loaded: Ok(now(load(&*store, run)).expect("reads").map(Box::new)) };
    let acts = now(core.step([loaded(failed), loaded(none)], time)).expect("the journal works");
    assert!(requeued.try_recv().expect("answered").is_ok());
    assert!(matches!(of_none.try_recv().expect("answered"), Err(Error::NoSuchRun(_))));
    let order = acts.orders.into_iter().find(|order| order.run == failed).expect("it goes on");

    // One that is being cancelled is not gone on with.
    let (reply, mut cancelled) = oneshot::channel();
    let cancel = Message::Command { run: failed, input: Input::Cancel { reason: "enough".into() }, reply };
    let (reply, mut resumed) = oneshot::channel();
    now(core.step([cancel, Message::Resume { run: failed, reply }], time)).expect("the journal works");
    assert!(cancelled.try_recv().expect("answered").is_ok());
    let resumed = resumed.try_recv().expect("answered");
    assert!(matches!(resumed, Err(Error::Rejected(Rejection::RunIsOver("cancelling")))), "{resumed:?}");

    let Executing { run, task, attempt, .. } = order.executing();
    let result = Ok(vec![]);
    let input = Input::WorkerEnded { task, attempt, result, receipt: Receipt::default(), log: Log::default(), chance: 0.0 };
    now(core.step([Message::Ended { run, provider: order.provider, input }], time)).expect("the journal works");
    assert_eq!(waited.try_recv().expect("answered").expect("ends"), RunStatus::Completed);
}
