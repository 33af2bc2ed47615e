//! What the loop does in one turn: a function of messages and a time, which tests call with a clock of their own.
//!
//! It drains, decides for all, appends once, and hands back what is to be done: no append, no effect. When the journal
//! does not take what was decided, nothing of it happened: the turn ends in an error, and the manager with it. What is on
//! the disk is the truth; the next start goes on from there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::attempt::{Order, Standing, StepContext};
use super::crew::Workers;
use super::inputs::Inputs;
use super::lookup::Lookup;
use super::slots::Lane;
use super::{Error, Message, inputs};
use crate::clock::Timestamp;
use crate::journal::{self, Append, Executing, READ_MAX, RunRow, Store};
use crate::machine::{
    AHEAD_MAX, Counted, Effect, Event, Host, IllegalTransition, Input, Provider, Rejection, Run, RunStatus, StepState, Turns, ahead, decide,
};
use crate::model::{RunId, Workflow};

/// A run in memory, and what of it lives only there.
pub(super) struct Live {
    pub(super) run: Run,
    standing: Standing,
    /// Whether its work is done here; if not, only what it was told is settled.
    driven: bool,
    /// What the calls for each active step share.
    steps: HashMap<u32, Arc<StepContext>>,
    /// What is being read from the journal: inputs of steps, and plans.
    reading: HashSet<Effect>,
    /// Calls under way.
    under_way: u32,
    /// Its own bound on how many of them execute at once, where it has one below that of the host.
    bound: Option<Bound>,
    /// When it is to be looked at again.
    timer: Option<Timestamp>,
}

/// A run's own bound, and how far ahead of it calls are put on record.
struct Bound {
    most: u32,
    /// How many calls may be under way.
    window: usize,
    /// How many have ended in this turn.
    ended: usize,
}

/// The owner of all runs.
pub(super) struct Core {
    store: Arc<dyn Store>,
    /// How many calls may execute at once.
    concurrency: usize,
    workers: Arc<dyn Workers>,
    /// Who does the work of each name that was asked for.
    providers: HashMap<String, Vec<Provider>>,
    /// Breakers, and who gets the next call.
    pub(super) host: Host,
    pub(super) runs: HashMap<RunId, Live>,
    /// Runs that may have something to do.
    eager: BTreeSet<RunId>,
    /// Runs that have something to start, and no place for it.
    held_up: BTreeSet<RunId>,
    timers: BTreeSet<(Timestamp, RunId)>,
    /// Calls under way: executing, or next in line.
    pub(super) under_way: usize,
    /// Those of them that their runs' own bounds keep from executing, whatever slots are free.
    beyond: usize,
    /// How many others may be.
    window: usize,
    /// Whether the one call under way is one that the host did not survive before.
    alone: bool,
    /// Whether runs that are told something are gone on with here.
    pub(super) drives: bool,
    /// Whether nothing starts any more.
    pub(super) draining: bool,
    /// Runs that are being read from the journal, and what is to be told to them then.
    loading: HashMap<RunId, Vec<Message>>,
    waiting: HashMap<RunId, Vec<oneshot::Sender<Result<RunStatus, Error>>>>,
    idle: Vec<oneshot::Sender<Result<(), Error>>>,
    /// For content of inputs that is read ahead of its turn.
    room: Arc<Semaphore>,
    stop: CancellationToken,
}

/// What is to be done after a turn.
#[derive(Default)]
pub(super) struct Acts {
    pub(super) orders: Vec<Order>,
    pub(super) lookups: Vec<(RunId, Lookup)>,
    /// Runs to be read, for [`Message::Loaded`].
    pub(super) loads: Vec<RunId>,
}

/// What one turn wants appended, done and answered.
#[derive(Default)]
struct Turn {
    appends: BTreeMap<RunId, (u64, Vec<Event>)>,
    calls: Vec<(RunId, Effect, Provider)>,
    lookups: Vec<(RunId, Effect)>,
    loads: Vec<RunId>,
    submitted: Vec<(RunId, oneshot::Sender<Result<RunId, Error>>)>,
    keys: HashMap<String, RunId>,
    done: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Who asks how much there is to do: told once for all, since every step of every run is looked at for that.
    asked: Vec<oneshot::Sender<Result<super::Load, Error>>>,
    ended: usize,
    /// Runs with bounds of their own of which calls ended.
    bounded: BTreeSet<RunId>,
}

impl Live {
    /// Whether one call or more of those under way may not execute yet, by the run's own bound.
    fn is_beyond(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| self.under_way > bound.most)
    }
}

impl Bound {
    /// Whether one more call may be put on record as started: one that may execute, or one of those in line for that.
    fn has_room(&self, under_way: u32, beyond: usize) -> bool {
        under_way < self.most || ((under_way as usize) < self.window && beyond < AHEAD_MAX)
    }
}

impl Core {
    pub(super) fn new(store: Arc<dyn Store>, workers: Arc<dyn Workers>, concurrency: usize, host: Host, stop: CancellationToken) -> Self {
        Self {
            store,
            concurrency,
            workers,
            providers: HashMap::new(),
            host,
            runs: HashMap::new(),
            eager: BTreeSet::new(),
            held_up: BTreeSet::new(),
            timers: BTreeSet::new(),
            under_way: 0,
            beyond: 0,
            window: concurrency,
            alone: false,
            drives: true,
            draining: false,
            loading: HashMap::new(),
            waiting: HashMap::new(),
            idle: Vec::new(),
            room: inputs::room(),
            stop,
        }
    }

    /// When the next turn is due by itself. With no place free a timer could start nothing: what frees one makes a turn.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        let may_start = self.under_way - self.beyond < self.window && !self.draining && !self.alone;
        let breaker = self.host.next_timer().filter(|_| !self.held_up.is_empty());
        self.timers.first().map(|(at, _)| *at).into_iter().chain(breaker).min().filter(|_| may_start)
    }

    /// Takes up what the host remembers, and puts on record what the one that is no more was executing: those calls count
    /// as lost.
    pub(super) async fn recover(&mut self, executing: HashMap<RunId, Vec<Executing>>, now: Timestamp) -> Result<(), Error> {
        let mut version = 1;
        loop {
            let records = self.store.read(&RunId::HOST, version, READ_MAX).await?;
            let Some(last) = records.last() else { break };
            version = last.version + 1;
            for record in &records {
                let damaged = |error: IllegalTransition| journal::Error::Damaged { seq: record.seq, reason: error.to_string() };
                self.host.apply(&record.event).map_err(damaged)?;
            }
        }
        let mut turn = Turn::default();
        for (id, calls) in executing {
            let loaded = match load(&*self.store, id).await {
                Err(error @ journal::Error::Damaged { .. }) => {
                    tracing::error!(run = %id, %error, "what it was executing cannot be put on record"); // all others go on
                    continue;
                }
                loaded => loaded?,
            };
            let Some(run) = loaded.filter(|run| !run.status.is_final()) else { continue };
            self.adopt(id, run, false);
            let executing = calls.into_iter().map(|call| (call.task, call.gate)).collect();
            self.tell(id, Input::Recover { executing }, now, &mut turn)?;
        }
        self.settle(now, &mut turn);
        self.append(now, turn).await?;
        self.runs.clear();
        self.held_up.clear();
        self.eager.clear();
        self.timers.clear();
        Ok(())
    }

    /// One turn: all messages are decided, what is due is started, everything is appended at once, and then done.
    pub(super) async fn step(&mut self, messages: impl IntoIterator<Item = Message>, now: Timestamp) -> Result<Acts, Error> {
        let mut turn = Turn::default();
        for message in messages {
            self.take(message, now, &mut turn).await?;
        }
        if turn.ended > 0 {
            self.window = ahead(self.window, turn.ended, self.concurrency);
            for run in &turn.bounded {
                if let Some(bound) = self.runs.get_mut(run).and_then(|live| live.bound.as_mut()) {
                    bound.window = ahead(bound.window, std::mem::take(&mut bound.ended), bound.most as usize);
                }
            }
            self.eager.append(&mut self.held_up);
        }
        if self.host.next_timer().is_some_and(|at| at <= now) {
            self.eager.append(&mut self.held_up);
        }
        while let Some((_, run)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.set_timer(run, None);
            self.eager.insert(run);
        }
        self.settle(now, &mut turn);
        self.start(now, &mut turn);
        self.append(now, turn).await
    }

    async fn take(&mut self, message: Message, now: Timestamp, turn: &mut Turn) -> Result<(), Error> {
        if let Some(run) = message.run().filter(|run| !self.runs.contains_key(run)) {
            if let Some(told) = self.loading.get_mut(&run) {
                told.push(message);
                return Ok(());
            }
            if matches!(message, Message::Command { .. } | Message::Resume { .. }) {
                match self.may_be_told(run, &message).await {
                    Ok(()) => self.have_loaded(run, message, turn),
                    Err(error) => message.refuse(error),
                }
                return Ok(());
            }
        }
        match message {
            Message::Submit { workflow, files, key, reply } => {
                if let Some(key) = &key {
                    match self.accepted_with(key, &workflow, turn).await {
                        Ok(None) => {}
                        Ok(Some((run, is_over))) => {
                            // It may be one that nobody runs since its host ended.
                            if let Some(live) = self.runs.get_mut(&run) {
                                live.driven = true;
                                self.eager.insert(run);
                            } else if !is_over {
                                self.have_loaded(run, Message::Submit { workflow, files, key: Some(key.clone()), reply }, turn);
                                return Ok(());
                            }
                            turn.submitted.push((run, reply));
                            return Ok(());
                        }
                        Err(error) => {
                            drop(reply.send(Err(error)));
                            return Ok(());
                        }
                    }
                }
                let id = fresh(now);
                let event = Event::RunStarted { workflow: *workflow, files, idempotency_key: key.clone() };
                match Run::begin(now, &event) {
                    Ok(run) => {
                        self.adopt(id, run, true);
                        turn.keys.extend(key.map(|key| (key, id)));
                        turn.appends.insert(id, (0, vec![event]));
                        turn.submitted.push((id, reply));
                    }
                    Err(_) => drop(reply.send(Err(Error::Rejected(Rejection::NotUnderWay)))),
                }
            }
            Message::Command { run, input, reply } => match self.command(run, input, now, turn) {
                Ok(()) => turn.done.push(reply),
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::Resume { run, reply } => match self.take_up(run, now, turn) {
                Ok(()) => turn.done.push(reply),
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::Loaded { run, loaded } => self.loaded(run, loaded, now, turn).await?,
            Message::Wait { run, reply } => {
                if self.runs.contains_key(&run) {
                    let waiting = self.waiting.entry(run).or_default();
                    waiting.retain(|reply| !reply.is_closed());
                    waiting.push(reply);
                } else {
                    let answer = self.over(run).await.and_then(|over| over.map(|(status, _)| status).ok_or(Error::NoSuchRun(run)));
                    drop(reply.send(answer));
                }
            }
            Message::Found { run, input } => {
                let answered = match &input {
                    Input::StepInputs { step, .. } => Some(Effect::ResolveInputs { step: *step }),
                    Input::PlanRead { task, .. } => Some(Effect::ReadPlan { task: *task }),
                    _ => None,
                };
                if let (Some(effect), Some(live)) = (answered, self.runs.get_mut(&run)) {
                    live.reading.remove(&effect);
                    self.eager.insert(run); // what is older than what is to be read now is asked for again
                }
                if let Err(error) = self.tell(run, input, now, turn) {
                    tracing::debug!(%run, %error, "what was to be read is asked for no longer");
                }
            }
            Message::Ended { run, provider, input } => {
                turn.ended += 1;
                self.under_way -= 1;
                self.alone = false;
                let counted = match &input {
                    Input::WorkerEnded { result: Ok(_), .. } | Input::GateEnded { result: Ok(_), .. } => Counted::Answer,
                    Input::WorkerEnded { result: Err(failure), .. } | Input::GateEnded { result: Err(failure), .. } => {
                        Counted::of(failure.kind)
                    }
                    _ => Counted::Nothing,
                };
                let changed = self.host.ended(&provider, counted, now);
                self.tell_host(changed, turn);
                if let Some(live) = self.runs.get_mut(&run) {
                    self.beyond -= usize::from(live.is_beyond());
                    live.under_way -= 1;
                    if let Some(bound) = &mut live.bound {
                        bound.ended += 1;
                        turn.bounded.insert(run);
                    }
                }
                // A late answer (its run ended, or the slot was told to stop) is no longer asked for.
                if let Err(error) = self.tell(run, input, now, turn) {
                    tracing::debug!(%run, %error, "an answer came too late");
                }
            }
            Message::Drives { run, reply } => drop(reply.send(Ok(self.runs.get(&run).is_some_and(|live| live.driven)))),
            Message::Load { reply } => turn.asked.push(reply),
            Message::PluginsChanged => {
                self.providers.clear();
                self.eager.append(&mut self.held_up);
            }
            Message::Idle { reply } => {
                self.idle.retain(|reply| !reply.is_closed());
                self.idle.push(reply);
            }
            Message::Drain => self.draining = true,
        }
        Ok(())
    }

    /// The run that was accepted with a key, and whether it is over; none where the key is new.
    async fn accepted_with(&self, key: &str, workflow: &Workflow, turn: &Turn) -> Result<Option<(RunId, bool)>, Error> {
        let known = match turn.keys.get(key) {
            Some(run) => Some(*run),
            None => self.store.run_with_key(key).await?,
        };
        let Some(run) = known else { return Ok(None) };
        if !self.is_of(run, workflow).await? {
            return Err(Error::KeyIsTaken(run));
        }
        Ok(Some((run, !self.runs.contains_key(&run) && self.over(run).await?.is_some())))
    }

    /// Whether a run was accepted with a workflow.
    async fn is_of(&self, id: RunId, workflow: &Workflow) -> Result<bool, Error> {
        if let Some(live) = self.runs.get(&id) {
            let Workflow { name, priority, concurrency, steps } = &live.run.workflow; // plans may have added steps
            let accepted = live.run.origins.iter().take_while(|origin| origin.is_none()).count();
            let as_accepted = (name, priority, concurrency, &steps[..accepted]);
            return Ok(as_accepted == (&workflow.name, &workflow.priority, &workflow.concurrency, &workflow.steps[..]));
        }
        let first = self.store.read(&id, 1, 1).await?.pop().map(|record| record.event);
        Ok(matches!(first, Some(Event::RunStarted { workflow: accepted, .. }) if accepted == *workflow))
    }

    fn adopt(&mut self, id: RunId, run: Run, driven: bool) {
        let (steps, reading) = (HashMap::new(), HashSet::new());
        let most = run.workflow.concurrency.filter(|most| (*most as usize) < self.concurrency);
        let bound = most.map(|most| Bound { most, window: most as usize, ended: 0 });
        let standing = Standing {
            cancel: self.stop.child_token(),
            paused: Arc::new(AtomicBool::new(run.status == RunStatus::Paused)),
            lane: most.map(|most| Arc::new(Lane::new(most))),
        };
        self.runs.insert(id, Live { run, standing, driven, steps, reading, under_way: 0, bound, timer: None });
        self.eager.insert(id);
    }

    /// How a run has ended, if it has, and what is shown of it: its records, which may be millions, are not read while everybody waits.
    async fn over(&self, id: RunId) -> Result<Option<(RunStatus, RunRow)>, Error> {
        let Some(row) = self.store.run(&id).await? else { return Ok(None) };
        let status = RunStatus::ALL.into_iter().find(|status| status.is_final() && status.as_str() == row.status);
        Ok(status.map(|status| (status, row)))
    }

    /// Whether a run that is not in memory may be told something, as far as what is shown of it says.
    async fn may_be_told(&self, id: RunId, message: &Message) -> Result<(), Error> {
        let Some((status, row)) = self.over(id).await? else { return Ok(()) };
        let rejection = match message {
            Message::Command { input: Input::Requeue { .. }, .. } if status != RunStatus::Cancelled => {
                (row.failed == 0).then_some(Rejection::NOTHING_GIVEN_UP)
            }
            Message::Command { input: Input::Discard { .. }, .. } => (row.dead_letters == 0).then_some(Rejection::NO_DEAD_LETTER),
            _ => Some(Rejection::RunIsOver(status.as_str())),
        };
        rejection.map_or(Ok(()), |rejection| Err(rejection.into()))
    }

    /// Has a run read from the journal while everything else goes on, and told then.
    fn have_loaded(&mut self, id: RunId, message: Message, turn: &mut Turn) {
        let told = self.loading.entry(id).or_insert_with(|| {
            turn.loads.push(id);
            Vec::new()
        });
        told.push(message);
    }

    /// Takes in a run that was read, and tells it what waited for that.
    async fn loaded(
        &mut self,
        id: RunId,
        loaded: Result<Option<Box<Run>>, journal::Error>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Result<(), Error> {
        let told = self.loading.remove(&id).unwrap_or_default();
        let error = match loaded {
            Ok(Some(run)) => {
                let open = !run.status.is_final();
                self.adopt(id, *run, false);
                if open {
                    self.tell(id, Input::Recover { executing: HashSet::new() }, now, turn)?;
                }
                for message in told {
                    Box::pin(self.take(message, now, turn)).await?;
                }
                if !turn.appends.contains_key(&id) {
                    self.let_go(id); // it was loaded for nothing, if it has ended
                }
                return Ok(());
            }
            Ok(None) => Error::NoSuchRun(id),
            Err(error) => error.into(),
        };
        for message in told {
            message.refuse(error.again());
        }
        Ok(())
    }

    /// A person's command, to a run that is in memory.
    fn command(&mut self, id: RunId, input: Input, now: Timestamp, turn: &mut Turn) -> Result<(), Error> {
        self.tell(id, input, now, turn)?;
        if let Some(live) = self.runs.get_mut(&id) {
            live.driven |= self.drives;
        }
        Ok(())
    }

    /// Goes on with a run that is in memory.
    fn take_up(&mut self, id: RunId, now: Timestamp, turn: &mut Turn) -> Result<(), Error> {
        let Some(live) = self.runs.get_mut(&id) else { return Err(Error::NoSuchRun(id)) };
        if live.driven && live.run.status == RunStatus::Cancelling {
            return Err(Rejection::RunIsOver(live.run.status.as_str()).into());
        }
        live.driven = true;
        self.eager.insert(id);
        if live.run.status == RunStatus::Paused {
            self.tell(id, Input::Resume, now, turn)?;
        }
        Ok(())
    }

    /// Decides an input, and applies what follows in place. Says whether anything did.
    fn tell(&mut self, id: RunId, input: Input, now: Timestamp, turn: &mut Turn) -> Result<bool, Error> {
        let live = self.runs.get_mut(&id).ok_or(Error::NoSuchRun(id))?;
        let before = live.run.version;
        let events = decide(&live.run, input, now)?;
        for event in &events {
            live.run.apply(now, event).expect("a decided event fits the state that it was decided on");
            if let Event::StepCompleted { step } | Event::StepFailed { step } | Event::StepCancelled { step } = event {
                live.steps.remove(step);
            }
            if let Event::CancelRequested { .. } = event {
                live.standing.cancel.cancel();
            }
        }
        live.standing.paused.store(live.run.status == RunStatus::Paused, Ordering::Release);
        self.eager.insert(id);
        let moved = !events.is_empty();
        if moved {
            turn.appends.entry(id).or_insert_with(|| (before, Vec::new())).1.extend(events);
        }
        Ok(moved)
    }

    fn set_timer(&mut self, id: RunId, timer: Option<Timestamp>) {
        let Some(live) = self.runs.get_mut(&id) else { return };
        if live.timer == timer {
            return;
        }
        if let Some(at) = std::mem::replace(&mut live.timer, timer) {
            self.timers.remove(&(at, id));
        }
        self.timers.extend(timer.map(|at| (at, id)));
    }

    /// Closes what is done, and has inputs and plans read.
    fn settle(&mut self, now: Timestamp, turn: &mut Turn) {
        for id in self.eager.iter().copied().collect::<Vec<_>>() {
            let mut again = true;
            while std::mem::take(&mut again) {
                let Some(live) = self.runs.get(&id) else { break };
                for effect in live.run.due() {
                    match effect {
                        Effect::Settle => again |= self.tell(id, Input::Settle, now, turn).unwrap_or(false),
                        Effect::ResolveInputs { .. } | Effect::ReadPlan { .. } => {
                            if let Some(live) = self.runs.get_mut(&id)
                                && live.driven
                                && live.reading.insert(effect)
                            {
                                turn.lookups.push((id, effect));
                            }
                        }
                        Effect::RunWorker { .. } | Effect::RunGate { .. } => {}
                    }
                }
            }
        }
        let runs = &self.runs;
        self.eager.retain(|id| runs.get(id).is_some_and(|live| live.driven));
    }

    /// Starts what is due, as far as there are places; runs take turns.
    fn start(&mut self, now: Timestamp, turn: &mut Turn) {
        let mut turns = Turns::default();
        let mut alone = None;
        for id in &self.eager {
            let Some(live) = self.runs.get(id).filter(|live| live.driven) else { continue };
            if alone.is_none()
                && let Some(effect) = live.run.alone()
            {
                let plugin = live.run.plugin_of(effect).unwrap_or_default();
                let providers = self.providers.entry(plugin.to_owned()).or_insert_with(|| self.workers.providers(plugin));
                if providers.iter().any(|provider| self.host.admits(provider, now)) {
                    alone = Some((*id, effect));
                } else {
                    self.held_up.insert(*id); // its breaker is open: the others do not wait for that
                }
            }
            turns.push(*id, live.run.workflow.priority, live.under_way);
        }
        if self.draining || self.alone {
            return;
        }
        if let Some((id, effect)) = alone {
            // It has the host to itself: nothing starts until what runs has ended, and then only this.
            if self.under_way == 0 && self.call(id, effect, now, turn) {
                self.alone = true;
            }
            return;
        }
        while let Some((id, priority, under_way)) = turns.pop() {
            if self.under_way - self.beyond >= self.window {
                return; // the rest stays eager
            }
            let Some(live) = self.runs.get_mut(&id) else { continue };
            let room = live.bound.as_ref().is_none_or(|bound| bound.has_room(live.under_way, self.beyond));
            let (host, workers, providers) = (&self.host, &self.workers, &mut self.providers);
            // What may not execute yet takes none of the places that a plugin has for those that may.
            let is_ahead = live.bound.as_ref().is_some_and(|bound| live.under_way >= bound.most);
            let (mut refused, mut passed_over) = (!room, false);
            let mut admits = |plugin: &str| {
                if !providers.contains_key(plugin) {
                    providers.insert(plugin.to_owned(), workers.providers(plugin));
                }
                let of_it = &providers[plugin];
                let has_places = |provider: &Provider| provider.concurrency.is_some() || host.is_watched(provider);
                let admitted = of_it.iter().any(|provider| host.admits(provider, now));
                // And what comes behind such a one waits as well, or it would always be passed over.
                passed_over |= is_ahead && admitted && of_it.iter().any(has_places);
                let free = admitted && !passed_over;
                refused |= !free;
                free
            };
            let effect = if room { live.run.next_call(now, &mut admits) } else { None };
            match effect {
                Some(effect) => {
                    if self.call(id, effect, now, turn) {
                        turns.push(id, priority, under_way + 1);
                    }
                }
                None => {
                    // Without room, what ends makes a turn.
                    let timer = if room { live.run.next_timer() } else { None };
                    self.set_timer(id, timer);
                    self.eager.remove(&id);
                    if refused {
                        self.held_up.insert(id);
                    }
                }
            }
        }
    }

    fn call(&mut self, id: RunId, effect: Effect, now: Timestamp, turn: &mut Turn) -> bool {
        let Some(plugin) = self.runs.get(&id).and_then(|live| live.run.plugin_of(effect)) else { return false };
        if !self.providers.contains_key(plugin) {
            self.providers.insert(plugin.to_owned(), self.workers.providers(plugin));
        }
        let providers = &self.providers[plugin];
        let Some(chosen) = self.host.choose(plugin, providers, now) else { return false };
        let provider = providers[chosen].clone();
        let named = (&*provider.name != plugin).then(|| provider.name.to_string());
        if self.tell(id, Input::Start(effect, named), now, turn).is_err() {
            return false;
        }
        let Some(live) = self.runs.get_mut(&id) else { return false };
        live.under_way += 1;
        self.under_way += 1;
        self.beyond += usize::from(live.is_beyond());
        let changed = self.host.begin(&provider);
        self.tell_host(changed, turn);
        turn.calls.push((id, effect, provider));
        true
    }

    /// Puts on record what changed of a breaker.
    fn tell_host(&mut self, changed: Option<Event>, turn: &mut Turn) {
        let Some(event) = changed else { return };
        let before = self.host.version;
        self.host.apply(&event).expect("an event of the host");
        turn.appends.entry(RunId::HOST).or_insert_with(|| (before, Vec::new())).1.push(event);
    }

    /// Appends what was decided, and only then answers, and says what is to be done.
    async fn append(&mut self, now: Timestamp, turn: Turn) -> Result<Acts, Error> {
        let Turn { appends, calls, lookups, loads, submitted, done, asked, .. } = turn;
        let touched: Vec<RunId> = appends.keys().copied().collect();
        let appends: Vec<Append> =
            appends.into_iter().map(|(run, (expected_version, events))| Append { run, expected_version, at: now, events }).collect();
        let mut failed = None;
        if !appends.is_empty() {
            failed = self.store.append(appends).await.into_iter().find_map(Result::err);
        }
        for (id, reply) in submitted {
            let _ = reply.send(failed.clone().map_or(Ok(id), |error| Err(error.into())));
        }
        for reply in done {
            let _ = reply.send(failed.clone().map_or(Ok(()), |error| Err(error.into())));
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let orders = calls.into_iter().filter_map(|(id, effect, provider)| self.order(id, effect, provider)).collect();
        let lookups = lookups.into_iter().filter_map(|(id, effect)| Some((id, Lookup::new(id, &self.runs.get(&id)?.run, effect)?)));
        let lookups = lookups.collect();
        for id in touched {
            self.let_go(id);
        }
        if !asked.is_empty() {
            let load = self.load();
            for reply in asked {
                let _ = reply.send(Ok(load));
            }
        }
        if !self.idle.is_empty() && !self.is_busy() {
            for reply in std::mem::take(&mut self.idle) {
                let _ = reply.send(Ok(()));
            }
        }
        Ok(Acts { orders, lookups, loads })
    }

    /// What a call needs, now that its start is on record.
    fn order(&mut self, id: RunId, effect: Effect, provider: Provider) -> Option<Order> {
        let (Effect::RunWorker { task, .. } | Effect::RunGate { task, .. }) = effect else { return None };
        let live = self.runs.get_mut(&id)?;
        let StepState::Active(active) = live.run.steps.get(task.step as usize)? else { return None };
        let context = live.steps.entry(task.step);
        let context = context.or_insert_with(|| {
            let inputs = Inputs::new(active.inputs, active.tasks, Arc::clone(&self.room));
            Arc::new(StepContext::new(&live.run.workflow.steps[task.step as usize], inputs))
        });
        Order::new(id, &live.run, effect, Arc::clone(context), live.standing.clone(), provider)
    }

    /// Forgets a run that has ended, and tells those who wait for that.
    fn let_go(&mut self, id: RunId) {
        let Some(live) = self.runs.get(&id).filter(|live| live.run.status.is_final()) else { return };
        let status = live.run.status;
        self.beyond -= live.bound.as_ref().map_or(0, |bound| live.under_way.saturating_sub(bound.most) as usize);
        self.set_timer(id, None);
        self.runs.remove(&id);
        self.eager.remove(&id);
        self.held_up.remove(&id);
        for waiting in self.waiting.remove(&id).into_iter().flatten() {
            let _ = waiting.send(Ok(status));
        }
    }

    fn load(&self) -> super::Load {
        let driven = || self.runs.values().filter(|live| live.driven);
        let active = driven().flat_map(|live| &live.run.steps).filter_map(|step| match step {
            StepState::Active(step) => Some(u64::from(step.tasks - step.cursor) + step.live.len() as u64),
            _ => None,
        });
        let queued = active.sum::<u64>().saturating_sub(self.under_way as u64);
        super::Load { runs: driven().count(), under_way: self.under_way, queued }
    }

    /// Whether something is under way, or will be without a person's doing.
    fn is_busy(&self) -> bool {
        let waits_for_a_person = |live: &Live| live.run.status == RunStatus::Paused || live.run.waits_for_approval();
        self.under_way > 0
            || !self.loading.is_empty()
            || self.runs.values().any(|live| {
                live.driven && (live.under_way > 0 || !live.reading.is_empty() || live.timer.is_some() || !waits_for_a_person(live))
            })
    }

    /// Tells everybody who waits why nothing more comes.
    pub(super) fn give_up(&mut self, error: &Error) {
        for waiting in std::mem::take(&mut self.waiting).into_values().flatten() {
            let _ = waiting.send(Err(error.again()));
        }
    }
}

/// A fresh name, for a run that is accepted at a time.
fn fresh(now: Timestamp) -> RunId {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
    RunId(uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds)))
}

/// A run as the journal has it; `None` where there is none.
pub(super) async fn load(store: &dyn Store, id: RunId) -> Result<Option<Run>, journal::Error> {
    let mut run: Option<Run> = None;
    let mut version = 1;
    loop {
        let records = store.read(&id, version, READ_MAX).await?;
        let Some(last) = records.last() else { return Ok(run) };
        version = last.version + 1;
        for record in &records {
            let applied = match &mut run {
                None => Run::begin(record.at, &record.event).map(|begun| run = Some(begun)),
                Some(run) => run.apply(record.at, &record.event),
            };
            applied.map_err(|error| journal::Error::Damaged { seq: record.seq, reason: format!("run {id}: {error}") })?;
        }
    }
}
