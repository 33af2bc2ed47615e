//! Figures about the host, for Prometheus and for the dashboard: counted from the records as they come, and read from the parts of the
//! host when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::shapes::ProcessView;
use crate::clock::{Clock as _, SystemClock, between};
use crate::journal::Record;
use crate::machine::Event;
use crate::model::Receipt;

type Labels = Family<[(&'static str, String); 1], Counter>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    kind: &'static str,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// The figures. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    attempts: Family<Call, Counter>,
    fuel: Family<Kind, Counter>,
    wall: Family<Kind, Histogram>,
    peak: Family<Kind, Histogram>,
    runs: Labels,
    dead_letters: Counter,
    revisions: Counter,
    retries: Counter,
    records: Counter,
    lag: Histogram,
    requests: Labels,
    momentary: Momentary,
    /// For the samples.
    ended: AtomicU64,
    seen: AtomicU64,
    used: AtomicU64,
}

/// What is read from the parts of the host when somebody asks.
#[derive(Default)]
struct Momentary {
    live_instances: Gauge,
    idle_instances: Gauge,
    reserved_memory: Gauge,
    executing: Gauge,
    queued: Gauge,
    open_runs: Gauge,
    subscribers: Gauge,
    breakers: Family<[(&'static str, String); 2], Gauge>,
    head: Gauge,
    dispatch: Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>,
    resident: Gauge,
    growth: Gauge,
    threads: Gauge,
    files: Gauge,
}

/// The values of a moment.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    pub live_instances: usize,
    pub idle_instances: usize,
    pub reserved_memory_bytes: u64,
    pub executing: usize,
    pub queued: u64,
    pub open_runs: usize,
    pub subscribers: usize,
    /// Plugin and state, of those that are not closed.
    pub breakers: Vec<(String, &'static str)>,
    pub head: u64,
    /// The part, and what so many waits of free slots did not exceed, in seconds.
    pub dispatch: Vec<(&'static str, f64)>,
    pub process: ProcessView,
    /// How much more memory the process keeps when nothing runs than it did at first.
    pub growth_bytes: i64,
}

/// The sums since the last look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sums {
    pub attempts: u64,
    pub records: u64,
    pub fuel: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 4.0, 11)); // 100 us to 105 s
        let inner = Inner {
            registry: Registry::default(),
            attempts: Family::default(),
            fuel: Family::default(),
            wall: Family::new_with_constructor(seconds as fn() -> Histogram),
            peak: Family::new_with_constructor((|| Histogram::new(exponential_buckets(65_536.0, 4.0, 9))) as fn() -> Histogram),
            runs: Family::default(),
            dead_letters: Counter::default(),
            revisions: Counter::default(),
            retries: Counter::default(),
            records: Counter::default(),
            lag: seconds(),
            requests: Family::default(),
            momentary: Momentary::default(),
            ended: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            used: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner.registered()) }
    }
}

impl Inner {
    fn registered(mut self) -> Self {
        let mut registry = Registry::with_prefix("sandhog");
        let to = &mut registry;
        to.register("attempts", "Calls of workers and gates that ended, by outcome", self.attempts.clone());
        to.register("fuel", "Weighted wasm instructions used", self.fuel.clone());
        to.register("attempt_seconds", "From dispatch to outcome", self.wall.clone());
        to.register("attempt_peak_memory_bytes", "The largest sum of an instance's memories and tables", self.peak.clone());
        to.register("runs", "Runs that started or ended, by event", self.runs.clone());
        to.register("dead_letters", "Tasks that were given up and set aside", self.dead_letters.clone());
        to.register("revisions", "Results that were sent back", self.revisions.clone());
        to.register("retries", "Attempts that are tried again", self.retries.clone());
        to.register("journal_records", "Records that became visible", self.records.clone());
        to.register("journal_lag_seconds", "From the decision to a record that is on disk and told", self.lag.clone());
        to.register("http_requests", "Answers of the API, by status", self.requests.clone());
        let now = &self.momentary;
        to.register("live_instances", "Instances that are alive; zero when nothing runs", now.live_instances.clone());
        to.register("idle_instances", "Instances that are kept for their worker's next task", now.idle_instances.clone());
        to.register("reserved_memory_bytes", "The memory that live instances may take by their limits", now.reserved_memory.clone());
        to.register("executing", "Calls that execute, or are next in line", now.executing.clone());
        to.register("queue_depth", "Tasks that wait for a place, a time, a breaker or a person", now.queued.clone());
        to.register("open_runs", "Runs that are gone on with", now.open_runs.clone());
        to.register("subscribers", "Connections that follow live events", now.subscribers.clone());
        to.register("breaker", "1 for each circuit breaker that is not closed", now.breakers.clone());
        to.register("journal_head", "The seq of the last record", now.head.clone());
        to.register(
            "dispatch_seconds",
            "How long calls that were due and free slots waited for each other, by quantile",
            now.dispatch.clone(),
        );
        to.register("process_resident_bytes", "Resident memory of the process", now.resident.clone());
        to.register("process_growth_bytes", "Resident memory when nothing runs, against what it was at first", now.growth.clone());
        to.register("process_threads", "Threads of the process", now.threads.clone());
        to.register("process_open_files", "Open file descriptors of the process", now.files.clone());
        self.registry = registry;
        self
    }

    fn call(&self, kind: &'static str, outcome: &str, receipt: &Receipt) {
        self.attempts.get_or_create(&Call { kind, outcome: outcome.to_owned() }).inc();
        self.fuel.get_or_create(&Kind { kind }).inc_by(receipt.fuel);
        self.wall.get_or_create(&Kind { kind }).observe(receipt.wall_time.as_secs_f64());
        self.peak.get_or_create(&Kind { kind }).observe(receipt.peak_memory_bytes as f64);
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.used.fetch_add(receipt.fuel, Ordering::Relaxed);
    }

    fn record(&self, record: &Record) {
        match &record.event {
            Event::AttemptCompleted { receipt, .. } => self.call("worker", "completed", receipt),
            Event::AttemptFailed { failure, receipt, .. } => self.call("worker", failure.kind.as_str(), receipt),
            Event::GateAnswered { passed, receipt, .. } => self.call("gate", if *passed { "passed" } else { "rejected" }, receipt),
            Event::GateFailed { failure, receipt, .. } => self.call("gate", failure.kind.as_str(), receipt),
            Event::AttemptLost { executing: true, .. } => self.call("worker", "lost", &Receipt::default()),
            Event::GateLost { executing: true, .. } => self.call("gate", "lost", &Receipt::default()),
            Event::RetryScheduled { .. } | Event::GateRetryScheduled { .. } => drop(self.retries.inc()),
            Event::RevisionRequested { .. } => drop(self.revisions.inc()),
            Event::TaskDeadLettered { .. } => drop(self.dead_letters.inc()),
            event @ (Event::RunStarted { .. }
            | Event::RunPaused { .. }
            | Event::RunResumed
            | Event::RunReopened
            | Event::RunCompleted { .. }
            | Event::RunFailed
            | Event::RunCancelled) => {
                self.runs.get_or_create(&[("event", event.name().to_owned())]).inc();
            }
            _ => {}
        }
    }
}

impl Metrics {
    /// Counts records that became visible.
    pub fn records(&self, records: &[Record]) {
        let inner = &self.inner;
        records.iter().for_each(|record| inner.record(record));
        inner.records.inc_by(records.len() as u64);
        inner.seen.fetch_add(records.len() as u64, Ordering::Relaxed);
        if let Some(last) = records.last() {
            inner.lag.observe(between(last.at, SystemClock.now()).as_secs_f64());
        }
    }

    /// Counts an answer of the API.
    pub fn answer(&self, status: u16) {
        self.inner.requests.get_or_create(&[("status", status.to_string())]).inc();
    }

    /// What was counted since the last call.
    pub fn sums(&self) -> Sums {
        let take = |of: &AtomicU64| of.swap(0, Ordering::Relaxed);
        Sums { attempts: take(&self.inner.ended), records: take(&self.inner.seen), fuel: take(&self.inner.used) }
    }

    /// All of it in the OpenMetrics text format, with the values of this moment.
    #[must_use]
    pub fn render(&self, moment: &Moment) -> String {
        let now = &self.inner.momentary;
        now.live_instances.set(moment.live_instances as i64);
        now.idle_instances.set(moment.idle_instances as i64);
        now.reserved_memory.set(moment.reserved_memory_bytes as i64);
        now.executing.set(moment.executing as i64);
        now.queued.set(moment.queued as i64);
        now.open_runs.set(moment.open_runs as i64);
        now.subscribers.set(moment.subscribers as i64);
        now.breakers.clear();
        for (plugin, state) in &moment.breakers {
            now.breakers.get_or_create(&[("plugin", plugin.clone()), ("state", (*state).to_owned())]).inc();
        }
        now.head.set(moment.head as i64);
        for (quantile, seconds) in &moment.dispatch {
            now.dispatch.get_or_create(&[("quantile", (*quantile).to_owned())]).set(*seconds);
        }
        now.resident.set(moment.process.resident_bytes as i64);
        now.growth.set(moment.growth_bytes);
        now.threads.set(moment.process.threads as i64);
        now.files.set(moment.process.open_files as i64);
        let mut text = String::new();
        let _ = text::encode(&mut text, &self.inner.registry); // writing to a string does not fail
        text
    }
}

/// What this process takes of the machine; zeros where the system does not say.
#[must_use]
pub fn process() -> ProcessView {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    ProcessView {
        resident_bytes: field("VmRSS:").unwrap_or_default() * 1024,
        threads: field("Threads:").unwrap_or_default(),
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
    }
}
