//! One reader of the journal's tail for all who follow it live.
//!
//! The hub reads each new record once, names its step and plugin, writes it as JSON, and keeps the latest of them. Those who follow
//! pull from there at their own pace, and from the journal where they are further behind: nothing is queued for them, so a slow
//! reader costs nothing, and nothing is skipped. What is not on record (progress, logs, figures) goes through a bounded channel, and a
//! reader that is too slow for it is told how much it missed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::metrics::Metrics;
use crate::journal::{self, READ_MAX, Record, Store};
use crate::machine::{Event, TaskKey};
use crate::manager::Notice;
use crate::model::{RunId, Step};
use crate::report::log_text;

/// How many bytes of records are at hand, as JSON: some seconds of a busy host. Who is further behind reads the journal.
const AT_HAND_BYTES: usize = 16 << 20;
/// How many records one look takes.
const PAGE_MAX: usize = 512;
/// How many bytes of them it takes, but for a record that is larger alone: what a reader that stalls holds on to.
const PAGE_BYTES: usize = 256 << 10;
/// How many records of the journal are read at once for a reader that is further behind.
const CATCH_UP: usize = 128;
/// How many messages that are not on record wait for a reader; a slower one is told how many it missed.
const VOLATILE_MAX: usize = 1024;
/// How many runs' steps are remembered by name; the others are read again.
const NAMES_MAX: usize = 4096;
/// How much of a log goes out live, in bytes; the journal has the whole.
const LOG_BYTES_MAX: usize = 16 << 10;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Runs that start, pause, go on and end.
    Runs,
    /// Steps that start and end, and plans.
    Steps,
    /// Tasks, their attempts, and what gates say.
    Tasks,
    /// Circuit breakers.
    Breakers,
    /// How far workers say that they have come. Not on record.
    Progress,
    /// What plugins wrote, when their attempt has ended.
    Logs,
    /// How the server is, each second. Not on record.
    Stats,
    /// That something changed in the plugin folders. Not on record.
    Plugins,
}

impl Topic {
    /// Those that are followed where none is named: everything that is on record.
    pub const DEFAULT: [Self; 4] = [Self::Runs, Self::Steps, Self::Tasks, Self::Breakers];

    fn of(event: &Event) -> Self {
        match event {
            Event::RunStarted { .. }
            | Event::CancelRequested { .. }
            | Event::RunPaused { .. }
            | Event::RunResumed
            | Event::RunReopened
            | Event::RunCompleted { .. }
            | Event::RunFailed
            | Event::RunCancelled => Self::Runs,
            Event::StepStarted { .. }
            | Event::StepCompleted { .. }
            | Event::StepFailed { .. }
            | Event::StepSkipped { .. }
            | Event::StepCancelled { .. }
            | Event::PlanSubmitted { .. }
            | Event::PlanAccepted { .. }
            | Event::PlanRejected { .. } => Self::Steps,
            Event::BreakerChanged { .. } => Self::Breakers,
            Event::AttemptStarted { .. }
            | Event::AttemptCompleted { .. }
            | Event::AttemptFailed { .. }
            | Event::AttemptLost { .. }
            | Event::RetryScheduled { .. }
            | Event::GateStarted { .. }
            | Event::GateAnswered { .. }
            | Event::GateFailed { .. }
            | Event::GateLost { .. }
            | Event::GateRetryScheduled { .. }
            | Event::ApprovalRequested { .. }
            | Event::ApprovalGiven { .. }
            | Event::ApprovalRefused { .. }
            | Event::RevisionRequested { .. }
            | Event::TaskCompleted { .. }
            | Event::TaskFailed { .. }
            | Event::TaskDeadLettered { .. }
            | Event::TaskHeld { .. }
            | Event::FallbackStarted { .. }
            | Event::TaskRequeued { .. }
            | Event::TaskDiscarded { .. }
            | Event::TaskCancelled { .. } => Self::Tasks,
        }
    }
}

/// What happens when a reader is slow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lag {
    /// It gets every record, late.
    #[default]
    Wait,
    /// It skips to what is new, and is told what it missed.
    Skip,
}

/// What a subscription wants of all that happens.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Runs; with `plugins`, either will do.
    pub runs: HashSet<RunId>,
    /// Plugins.
    pub plugins: HashSet<String>,
    /// Topics.
    pub topics: Vec<Topic>,
}

impl Filter {
    fn takes(&self, of: &About) -> bool {
        let everything = self.runs.is_empty() && self.plugins.is_empty();
        let of_nobody = of.run.is_none() && of.plugin.is_none();
        let named = || {
            of.run.is_some_and(|run| self.runs.contains(&run)) || of.plugin.as_ref().is_some_and(|plugin| self.plugins.contains(&**plugin))
        };
        self.topics.contains(&of.topic) && (everything || of_nobody || named())
    }
}

/// What a message is about, for filters.
#[derive(Debug, Clone)]
struct About {
    topic: Topic,
    run: Option<RunId>,
    plugin: Option<Arc<str>>,
}

/// A message, but for who gets it: JSON without its braces, from behind `"seq"`.
#[derive(Debug)]
pub struct Item {
    about: About,
    /// Its record's `seq`; 0 of one that is not on record.
    pub seq: u64,
    /// `record`, `progress`, `log`, `stats` or `plugins`.
    pub kind: &'static str,
    rest: String,
}

impl Item {
    /// Whether a subscription wants it.
    #[must_use]
    pub fn is_for(&self, filter: &Filter) -> bool {
        filter.takes(&self.about)
    }

    /// The whole message, for the subscriptions of these names. `seq` says how far their reader has come.
    #[must_use]
    pub fn message(&self, subscriptions: &[&str], seq: u64) -> String {
        let mut text = String::with_capacity(self.rest.len() + 96);
        let _ = write!(text, "{{\"type\":\"{}\",\"subscriptions\":{},\"seq\":{seq},{}", self.kind, json!(subscriptions), self.rest);
        text
    }
}

/// Records that came together.
#[derive(Debug)]
struct Chunk {
    items: Vec<Item>,
    bytes: usize,
}

/// The latest records.
#[derive(Debug)]
struct AtHand {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    /// Everything behind this `seq` is here.
    behind: u64,
}

/// The steps of a run, by name.
#[derive(Debug, Clone, Default)]
struct Names {
    steps: Vec<StepNames>,
}

/// A step's id, and the plugins that work for it.
#[derive(Debug, Clone)]
struct StepNames {
    id: Arc<str>,
    worker: Arc<str>,
    gates: Vec<Arc<str>>,
}

impl Names {
    fn add(&mut self, steps: &[Step]) {
        let of = |step: &Step| StepNames {
            id: step.id.as_str().into(),
            worker: step.worker.as_str().into(),
            gates: step.gates.iter().map(|gate| gate.gate.as_str().into()).collect(),
        };
        self.steps.extend(steps.iter().map(of));
    }

    fn step(&self, step: u32) -> Option<Arc<str>> {
        self.steps.get(step as usize).map(|step| Arc::clone(&step.id))
    }

    fn plugin(&self, task: TaskKey, gate: Option<u32>) -> Option<Arc<str>> {
        let StepNames { worker, gates, .. } = self.steps.get(task.step as usize)?;
        match gate {
            None => Some(Arc::clone(worker)),
            Some(gate) => gates.get(gate as usize).cloned(),
        }
    }
}

/// What is read once for all who follow. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    at_hand: Mutex<AtHand>,
    head: watch::Sender<u64>,
    volatile: broadcast::Sender<Arc<Item>>,
    names: Mutex<HashMap<RunId, Arc<Names>>>,
    metrics: Metrics,
    subscribers: AtomicUsize,
    /// Told when somebody follows: until then nothing is read.
    wanted: Notify,
}

/// A page of messages for a reader.
pub struct Page {
    chunks: Vec<(Arc<Chunk>, usize)>,
    /// How far it goes: nothing up to here is left out.
    pub up_to: u64,
}

impl Page {
    /// The messages, in order.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.chunks.iter().flat_map(|(chunk, from)| &chunk.items[*from..])
    }
}

/// One that follows, as long as it does.
pub struct Subscriber(Hub);

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.shared.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// Begins at the journal's end, at once or as soon as somebody follows, and reads until it is stopped. What it knows counts in the
    /// metrics, too.
    pub fn start(
        store: Arc<dyn Store>,
        notices: impl FnOnce() -> broadcast::Receiver<Notice> + Send + 'static,
        metrics: Metrics,
        at_once: bool,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let head = *store.head().borrow();
        let shared = Arc::new(Shared {
            store,
            at_hand: Mutex::new(AtHand { chunks: VecDeque::new(), bytes: 0, behind: head }),
            head: watch::Sender::new(head),
            volatile: broadcast::channel(VOLATILE_MAX).0,
            names: Mutex::default(),
            metrics,
            subscribers: AtomicUsize::new(0),
            wanted: Notify::new(),
        });
        if at_once {
            shared.wanted.notify_one();
        }
        let hub = Self { shared };
        let task = tokio::spawn(hub.clone().run(notices, stop));
        (hub, task)
    }

    async fn run(self, notices: impl FnOnce() -> broadcast::Receiver<Notice> + Send, stop: CancellationToken) {
        tokio::select! {
            () = self.shared.wanted.notified() => {}
            () = stop.cancelled() => return,
        }
        let mut notices = notices(); // not before: what nobody takes would be kept
        let mut grown = self.shared.store.head();
        let begin = *grown.borrow();
        self.at_hand().behind = begin;
        self.shared.head.send_replace(begin);
        let mut told_all = false;
        loop {
            if let Err(error) = self.take_up().await {
                tracing::error!(%error, "live events stop: the journal cannot be read");
                return;
            }
            tokio::select! {
                grown = grown.changed() => if grown.is_err() { return },
                notice = notices.recv(), if !told_all => {
                    match notice {
                        Ok(notice) => self.notice(&notice),
                        Err(broadcast::error::RecvError::Lagged(missed)) => self.missed(missed),
                        Err(broadcast::error::RecvError::Closed) => told_all = true,
                    }
                    // All that came meanwhile, before the journal is read again.
                    loop {
                        match notices.try_recv() {
                            Ok(notice) => self.notice(&notice),
                            Err(broadcast::error::TryRecvError::Lagged(missed)) => self.missed(missed),
                            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => break,
                        }
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }

    /// Takes up every record that is new.
    async fn take_up(&self) -> Result<(), journal::Error> {
        loop {
            let after = *self.shared.head.borrow();
            let records = self.shared.store.after(after, READ_MAX).await?;
            let Some(last) = records.last() else { return Ok(()) };
            let seq = last.seq;
            self.shared.metrics.records(&records);
            let chunks = self.chunks(records, usize::MAX).await?;
            let mut at_hand = self.at_hand();
            at_hand.bytes += chunks.iter().map(|chunk| chunk.bytes).sum::<usize>();
            at_hand.chunks.extend(chunks);
            while at_hand.bytes > AT_HAND_BYTES
                && at_hand.chunks.len() > 1
                && let Some(oldest) = at_hand.chunks.pop_front()
            {
                at_hand.bytes -= oldest.bytes;
                at_hand.behind = oldest.items.last().map_or(at_hand.behind, |item| item.seq);
            }
            drop(at_hand);
            self.shared.head.send_replace(seq);
        }
    }

    fn at_hand(&self) -> std::sync::MutexGuard<'_, AtHand> {
        self.shared.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the hub has come.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.shared.head.subscribe()
    }

    /// What is not on record, from now on.
    #[must_use]
    pub fn volatile(&self) -> broadcast::Receiver<Arc<Item>> {
        self.shared.volatile.subscribe()
    }

    /// Counts one that follows.
    #[must_use]
    pub fn subscribe(&self) -> Subscriber {
        self.shared.subscribers.fetch_add(1, Ordering::Relaxed);
        self.shared.wanted.notify_one();
        Subscriber(self.clone())
    }

    /// How many follow.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.shared.subscribers.load(Ordering::Relaxed)
    }

    /// The `seq` behind which every record is at hand: who is not as far has to read the journal.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.at_hand().behind
    }

    /// The records behind a `seq`, as many as one look takes; none when the reader is at the end.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn page(&self, after: u64) -> Result<Page, journal::Error> {
        let head = *self.shared.head.borrow();
        if after >= head {
            return Ok(Page { chunks: Vec::new(), up_to: after });
        }
        if let Some(page) = self.page_at_hand(after) {
            return Ok(page);
        }
        let records = self.shared.store.after(after, CATCH_UP).await?;
        let chunks = self.chunks(records, 1).await?;
        // Where there are none, all up to there were pruned.
        let up_to = chunks.last().and_then(|chunk| chunk.items.last()).map_or(head, |item| item.seq);
        Ok(Page { chunks: chunks.into_iter().map(|chunk| (chunk, 0)).collect(), up_to })
    }

    fn page_at_hand(&self, after: u64) -> Option<Page> {
        let at_hand = self.at_hand();
        if after < at_hand.behind {
            return None;
        }
        let ends_behind = |chunk: &Arc<Chunk>| chunk.items.last().is_some_and(|item| item.seq > after);
        let first = at_hand.chunks.partition_point(|chunk| !ends_behind(chunk));
        let mut page = Page { chunks: Vec::new(), up_to: after };
        let (mut count, mut bytes) = (0, 0);
        for chunk in at_hand.chunks.range(first..) {
            let from = chunk.items.partition_point(|item| item.seq <= after);
            count += chunk.items.len() - from;
            bytes += chunk.bytes;
            if bytes > PAGE_BYTES && !page.chunks.is_empty() {
                break;
            }
            page.up_to = chunk.items.last().map_or(page.up_to, |item| item.seq);
            page.chunks.push((Arc::clone(chunk), from));
            if count >= PAGE_MAX {
                break;
            }
        }
        Some(page)
    }

    /// Records as messages, in chunks of a bounded size; at most so many chunks, of the first records.
    async fn chunks(&self, records: Vec<Record>, most: usize) -> Result<Vec<Arc<Chunk>>, journal::Error> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for record in &records {
            let item = self.item(record).await?;
            let bytes = item.rest.len() + size_of::<Item>();
            let full = chunks.len() == most;
            match chunks.last_mut() {
                Some(chunk) if chunk.bytes + bytes <= PAGE_BYTES => {
                    chunk.bytes += bytes;
                    chunk.items.push(item);
                }
                Some(_) if full => break,
                Some(_) | None => chunks.push(Chunk { items: vec![item], bytes }),
            }
        }
        Ok(chunks.into_iter().map(Arc::new).collect())
    }

    async fn item(&self, record: &Record) -> Result<Item, journal::Error> {
        let of_run = if record.run == RunId::HOST { Arc::default() } else { self.names_of(record).await? };
        let (step, plugin) = match &record.event {
            Event::BreakerChanged { plugin, .. } => (None, Some(plugin.as_str().into())),
            event => match event.task() {
                Some(task) => (of_run.step(task.step), of_run.plugin(task, event.gate())),
                None => (event.step().and_then(|step| of_run.step(step)), None),
            },
        };
        if record.event.ends_the_run() {
            self.names().remove(&record.run);
        }
        let about = About { topic: Topic::of(&record.event), run: Some(record.run).filter(|run| *run != RunId::HOST), plugin };
        let told = serde_json::to_string(record).unwrap_or_else(|_| "null".to_owned());
        let rest = format!("\"step\":{},\"plugin\":{},\"record\":{told}}}", json!(step), json!(about.plugin));
        Ok(Item { about, seq: record.seq, kind: "record", rest })
    }

    fn names(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Arc<Names>>> {
        let mut names = self.shared.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX {
            names.clear(); // what is needed is read again
        }
        names
    }

    /// The steps of a record's run as they were by then, or later.
    async fn names_of(&self, record: &Record) -> Result<Arc<Names>, journal::Error> {
        let known = self.names().contains_key(&record.run);
        if !known && !matches!(record.event, Event::RunStarted { .. }) {
            let read = Arc::new(self.read_names(record.run).await?);
            self.names().insert(record.run, read);
        }
        let mut names = self.names();
        let of_run = names.entry(record.run).or_default();
        match &record.event {
            Event::RunStarted { workflow: crate::model::Workflow { steps, .. }, .. } | Event::PlanAccepted { steps, .. }
                if !steps.first().is_some_and(|step| of_run.steps.iter().any(|known| *known.id == *step.id)) =>
            {
                Arc::make_mut(of_run).add(steps);
            }
            _ => {}
        }
        Ok(Arc::clone(of_run))
    }

    async fn read_names(&self, run: RunId) -> Result<Names, journal::Error> {
        let mut names = Names::default();
        let steps = self.shared.store.run(&run).await?.map_or(0, |row| row.steps.len());
        let mut version = 1;
        loop {
            let limit = if version == 1 { 1 } else { READ_MAX };
            let records = self.shared.store.read(&run, version, limit).await?;
            let Some(last) = records.last() else { return Ok(names) };
            version = last.version + 1;
            for record in &records {
                match &record.event {
                    Event::RunStarted { workflow, .. } => names.add(&workflow.steps),
                    Event::PlanAccepted { steps, .. } => names.add(steps),
                    _ => {}
                }
            }
            if names.steps.len() >= steps {
                return Ok(names); // plans, which may be anywhere, have added no more
            }
        }
    }

    /// Tells those who follow what is not on record that the hub itself was too slow for some of it.
    fn missed(&self, missed: u64) {
        let told = json!({ "from": null, "to": null, "missed": missed, "detail": "messages that are not on record were dropped: there were too many at once" });
        for topic in [Topic::Progress, Topic::Logs] {
            self.tell(topic, "gap", &told);
        }
    }

    fn notice(&self, notice: &Notice) {
        let run = notice.run();
        let (Notice::Progress { task, .. } | Notice::Log { task, .. }) = notice;
        let gate = match notice {
            Notice::Log { gate, .. } => *gate,
            Notice::Progress { .. } => None,
        };
        let named = self.names().get(&run).cloned().unwrap_or_default();
        let (step, plugin) = (named.step(task.step), named.plugin(*task, gate));
        let (topic, kind, mut told) = match notice {
            Notice::Progress { fraction, note, .. } => (Topic::Progress, "progress", json!({ "fraction": fraction, "note": note })),
            Notice::Log { log, .. } if log.is_empty() => return,
            Notice::Log { log, .. } => {
                (Topic::Logs, "log", json!({ "text": crate::model::text::sanitize_lines(&log_text(log), LOG_BYTES_MAX) }))
            }
        };
        told["run"] = json!(run);
        told["step"] = json!(step);
        told["index"] = task.index.into();
        told["plugin"] = json!(plugin);
        self.send(About { topic, run: Some(run), plugin }, kind, &told);
    }

    /// Tells what is not on record, in an object with at least one field, to those who want it.
    pub fn tell(&self, topic: Topic, kind: &'static str, told: &Value) {
        self.send(About { topic, run: None, plugin: None }, kind, told);
    }

    fn send(&self, about: About, kind: &'static str, told: &Value) {
        let text = told.to_string();
        let rest = text.strip_prefix('{').unwrap_or(&text).to_owned();
        let _ = self.shared.volatile.send(Arc::new(Item { about, seq: 0, kind, rest })); // nobody may be there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::journal::{Append, Sqlite};
    use crate::model::Workflow;

    /// Numbers of records that were pruned are never given again: behind them is nothing to look for again and again.
    #[tokio::test]
    async fn who_is_behind_what_was_pruned_has_everything() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(Sqlite::open(folder.path()).expect("opens"));
        let (run, at) = (RunId(uuid::Uuid::now_v7()), SystemClock.now());
        let workflow = Workflow { name: "w".into(), priority: 5, concurrency: None, steps: vec![] };
        let events = vec![Event::RunStarted { workflow, files: vec![], idempotency_key: None }, Event::RunCompleted { degraded: vec![] }];
        let appended = store.append(vec![Append { run, at, expected_version: 0, events }]).await;
        assert!(appended.iter().all(Result::is_ok), "{appended:?}");
        assert_eq!(store.prune(vec![run], at).await.expect("prunes").records, 2);
        let (hub, task) = Hub::start(store, || broadcast::channel(1).1, Metrics::default(), true, CancellationToken::new());
        let page = hub.page(0).await.expect("reads");
        assert_eq!((page.up_to, page.items().count()), (2, 0));
        task.abort();
    }
}
