//! How an attempt ended: a closed set of failures, each with a blame, and the receipt of what it used.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whose fault a failure is. Decides what is retried and what a circuit breaker counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The plugin, or what it was given.
    Guest,
    /// sandhog, the machine, or the person who cancelled.
    Host,
}

/// Every way an attempt can fail. Closed: a new kind is a new word in the journal, the reports and the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The plugin says that its params or inputs are wrong, or they were refused before the start.
    InvalidInput,
    /// The plugin says that it may work the next time.
    Transient,
    /// The plugin says that it will not work the next time either.
    Permanent,
    /// Somebody cancelled the task.
    Cancelled,
    /// The fuel budget is used up.
    OutOfFuel,
    /// The deadline passed before there was an outcome.
    DeadlineExceeded,
    /// All memories and tables of the instance together would have grown over the limit.
    MemoryLimit,
    /// The call stack is exhausted.
    StackOverflow,
    /// What came back, or what one call handed to the host, is larger than the limit.
    OutputLimit,
    /// Too many open resources at once.
    HandleLimit,
    /// The plugin trapped: `unreachable`, a panic, an access out of bounds, a division by zero.
    Trapped,
    /// The plugin ended itself (`exit`) where an answer was due.
    Exited,
    /// The plugin needs something that it was not granted.
    Denied,
    /// The plugin broke the contract: a malformed value, a bad or doubled name.
    ContractViolation,
    /// The host ended while the attempt was executing.
    Lost,
    /// The host could not do its part.
    Host,
}

impl FailureKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::InvalidInput,
        Self::Transient,
        Self::Permanent,
        Self::Cancelled,
        Self::OutOfFuel,
        Self::DeadlineExceeded,
        Self::MemoryLimit,
        Self::StackOverflow,
        Self::OutputLimit,
        Self::HandleLimit,
        Self::Trapped,
        Self::Exited,
        Self::Denied,
        Self::ContractViolation,
        Self::Lost,
        Self::Host,
    ];

    /// The word used in files, journals and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Cancelled => "cancelled",
            Self::OutOfFuel => "out_of_fuel",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::MemoryLimit => "memory_limit",
            Self::StackOverflow => "stack_overflow",
            Self::OutputLimit => "output_limit",
            Self::HandleLimit => "handle_limit",
            Self::Trapped => "trapped",
            Self::Exited => "exited",
            Self::Denied => "denied",
            Self::ContractViolation => "contract_violation",
            Self::Lost => "lost",
            Self::Host => "host",
        }
    }

    /// Whose fault this kind is.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Cancelled | Self::Lost | Self::Host => Blame::Host,
            Self::InvalidInput
            | Self::Transient
            | Self::Permanent
            | Self::OutOfFuel
            | Self::DeadlineExceeded
            | Self::MemoryLimit
            | Self::StackOverflow
            | Self::OutputLimit
            | Self::HandleLimit
            | Self::Trapped
            | Self::Exited
            | Self::Denied
            | Self::ContractViolation => Blame::Guest,
        }
    }

    /// Whether a retry policy applies to this kind at all: only where another try may end differently.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Transient | Self::DeadlineExceeded | Self::Lost | Self::Host => true,
            Self::InvalidInput
            | Self::Permanent
            | Self::Cancelled
            | Self::OutOfFuel
            | Self::MemoryLimit
            | Self::StackOverflow
            | Self::OutputLimit
            | Self::HandleLimit
            | Self::Trapped
            | Self::Exited
            | Self::Denied
            | Self::ContractViolation => false,
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why an attempt gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which of the closed set.
    pub kind: FailureKind,
    /// For a person: capped and escaped (see [`super::text`]).
    pub message: String,
}

impl Failure {
    /// A failure; the message is made safe and capped here.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: super::text::sanitize_lines(message.as_ref(), super::text::ERROR_BYTES_MAX) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// What one attempt used: its leak guard, its bill, and what a performance gate judges.
///
/// Fuel is comparable between machines, but only within one engine version. After a deadline or a
/// cancellation it is exact to ten million only: do not bill from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Weighted wasm instructions.
    pub fuel: u64,
    /// The largest sum of all linear memories and tables, in bytes.
    pub peak_memory_bytes: u64,
    /// From dispatch to outcome.
    #[serde(with = "duration_ms", rename = "wall_time_ms")]
    pub wall_time: Duration,
    /// What was handed in by value, in bytes.
    pub bytes_in: u64,
    /// What came back, in bytes.
    pub bytes_out: u64,
}

impl Receipt {
    /// Adds another receipt: sums, and the larger of the peaks.
    pub fn add(&mut self, other: &Self) {
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
        self.wall_time = self.wall_time.saturating_add(other.wall_time);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }
}

/// A duration as a JSON number of milliseconds, with microseconds behind the point.
mod duration_ms {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_micros() as f64 / 1000.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let ms = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(ms / 1000.0).map_err(serde::de::Error::custom)
    }
}

/// Where a line of a log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the streams' own names and the contract's levels")]
pub enum LogSource {
    Stdout,
    Stderr,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogSource {
    /// The word shown in front of a line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// One line that a guest wrote, made safe to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The stream, or the level of a `log` call.
    pub source: LogSource,
    /// One line of printable text.
    pub text: String,
}

/// What a line counts beside its text, in bytes: there may be many empty ones.
const LINE_BYTES: usize = 24;

/// What a guest wrote during one attempt, in order: a head and a tail, and how much between them was dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The lines that were kept.
    pub lines: Vec<LogLine>,
    /// The index in `lines` behind which lines were dropped; absent when none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_at: Option<usize>,
    /// How many bytes were dropped.
    pub dropped_bytes: u64,
}

impl Log {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped_bytes == 0
    }

    /// What it takes in memory, in bytes, about.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        self.lines.iter().map(|line| (line.text.len() + LINE_BYTES) as u64).sum()
    }

    /// The last lines, as far as they fit into so many bytes; what is left out is counted as dropped.
    #[must_use]
    pub fn tail(mut self, bytes_max: usize) -> Self {
        let mut room = bytes_max;
        let fits = self.lines.iter().rev().take_while(|line| {
            let bytes = line.text.len() + LINE_BYTES;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        });
        let first = self.lines.len() - fits.count();
        if first > 0 {
            self.dropped_bytes += self.lines.drain(..first).map(|line| line.text.len() as u64).sum::<u64>();
            self.gap_at = Some(0);
        }
        self
    }
}

/// One attempt, ended: what came of it, what it used, what it said.
#[derive(Debug, Clone)]
pub struct Attempt<T> {
    /// The answer, or why there is none.
    pub result: Result<T, Failure>,
    /// What it used.
    pub receipt: Receipt,
    /// What it wrote.
    pub log: Log,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_bounded_also_where_its_lines_are_empty() {
        for (text, kept) in [("", 170), ("x", 163), (&"x".repeat(1000), 4)] {
            let line = LogLine { source: LogSource::Info, text: text.to_owned() };
            let log = Log { lines: vec![line; 1000], gap_at: None, dropped_bytes: 0 };
            let tail = log.tail(4096);
            let bytes = (1000 - kept) as u64 * text.len() as u64;
            assert_eq!((tail.lines.len(), tail.gap_at, tail.dropped_bytes), (kept, Some(0), bytes), "{} bytes a line", text.len());
        }
    }

    #[test]
    fn every_kind_has_its_own_word_and_it_is_the_one_that_serde_writes() {
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_value(kind).expect("serializes"), kind.as_str());
        }
    }
}
