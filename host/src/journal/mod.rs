//! The event log of runs, and the blobs that its events name.
//!
//! The journal is the only truth: everything shown of a run is folded from its records. A record is visible only once
//! its append has succeeded, and an append is all or nothing for each run in it. [`Store`] is met by [`Memory`], which
//! lives as long as the process, and [`Sqlite`], which survives it; both keep the same laws, written as one suite of
//! tests.
//!
//! Records of a run are chained: each carries the hash of itself and of the one before. That shows accidental and
//! partial edits; whoever can rewrite the whole file can compute the chain anew.

mod chain;
mod floor;
mod folding;
mod memory;
mod scoreboard;
mod sqlite;
mod views;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::machine::{Event, TaskKey, Work, refusal};
use crate::model::{Artifact, ArtifactRef, Digest, Finding, RunId};

pub use chain::Damage;
pub use floor::rewrite;
pub use memory::Memory;
pub use scoreboard::{Executing, Scoreboard};
pub use sqlite::{Pruned, Sqlite, Usage};
pub use views::{DeadLetter, Difference, RunRow};

/// An event with its envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the journal, from 1, over all runs.
    pub seq: u64,
    /// The run.
    pub run: RunId,
    /// Its place in the run, from 1.
    pub version: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// The hash of this record and, through that, of every one before it in the run.
    pub hash: Digest,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Events to be appended to one run, together or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run.
    pub run: RunId,
    /// How many records the run must have now; 0 for a new run.
    pub expected_version: u64,
    /// When they were decided.
    pub at: Timestamp,
    /// What happened.
    pub events: Vec<Event>,
}

/// Why the journal did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The run has another number of records than expected: somebody else appended. Reload the run.
    #[error("run {run} has {found} records, expected {expected}")]
    Conflict {
        /// The run.
        run: RunId,
        /// What the caller thought.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A blob that an event names is not there: the journal is damaged.
    #[error("the blob {0} is missing")]
    BlobMissing(Digest),
    /// A file of the journal was written by a newer sandhog.
    #[error("the journal has format {found}, and this sandhog knows formats up to {known}: use a newer one")]
    TooNew {
        /// What it has.
        found: i64,
        /// What is known.
        known: i64,
    },
    /// Another process holds the directory.
    #[error("{directory} is held by another process{}", holder.map(|pid| format!(" ({pid})")).unwrap_or_default())]
    Held {
        /// The directory.
        directory: String,
        /// Which process, where that is known.
        holder: Option<u32>,
    },
    /// The directory is not one to keep a journal in.
    #[error("{directory} is refused: {reason}")]
    Refused {
        /// The directory.
        directory: String,
        /// Why.
        reason: String,
    },
    /// A record does not read as an event: the journal is damaged.
    #[error("the record {seq} is damaged: {reason}; `sandhog journal verify` says more")]
    Damaged {
        /// Which.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// The journal is that of a server, which is away.
    #[error("{0}")]
    Away(String),
    /// The journal is that of a server, which refuses.
    #[error("{message}")]
    ServerRefused {
        /// What it says.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// The medium failed. Whether the append happened is not known; the run must be reloaded.
    #[error("the journal's medium failed: {0}")]
    Medium(String),
}

/// Where records and blobs are kept.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Appends to several runs: each all or nothing. Visible to readers, and durable where the store is, when it returns.
    ///
    /// # Errors
    /// One for each run in the order given: [`Error::Conflict`], or [`Error::Medium`].
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, Error>>;

    /// The records of a run from a version on, in order, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn read(&self, run: &RunId, from_version: u64, limit: usize) -> Result<Vec<Record>, Error>;

    /// The records of all runs behind a `seq`, in order, with nothing skipped, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn after(&self, seq: u64, limit: usize) -> Result<Vec<Record>, Error>;

    /// The last `seq` there is, as it grows: a reader of the feed waits on this.
    fn head(&self) -> watch::Receiver<u64>;

    /// Keeps blobs by their digests, all of them or none. Keeping the same bytes again is the same blob.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn put_blobs(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), Error>;

    /// Keeps one blob, and names it by its digest.
    ///
    /// # Errors
    /// As [`Store::put_blobs`].
    async fn put_blob(&self, content: Bytes) -> Result<Digest, Error> {
        let digest = Digest::of(&content);
        self.put_blobs(vec![(digest, content)]).await?;
        Ok(digest)
    }

    /// Blobs that were kept, in the order that is asked for: read at once, where each by itself would wait for its own read.
    ///
    /// # Errors
    /// [`Error::BlobMissing`] where one is, or [`Error::Medium`].
    async fn blobs(&self, digests: Vec<Digest>) -> Result<Vec<Bytes>, Error>;

    /// A blob that was kept.
    ///
    /// # Errors
    /// As [`Store::blobs`].
    async fn blob(&self, digest: &Digest) -> Result<Bytes, Error> {
        self.blobs(vec![*digest]).await?.pop().ok_or(Error::BlobMissing(*digest))
    }

    /// What is known of a run.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, Error>;

    /// Runs, the latest first: at most `limit`, of those accepted before `before`, and only those that have not ended
    /// where `open` says so.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn runs(&self, before: Option<RunId>, open: bool, limit: usize) -> Result<Vec<RunRow>, Error>;

    /// The run that was accepted with a key.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn run_with_key(&self, key: &str) -> Result<Option<RunId>, Error>;

    /// Dead letters behind one, the oldest run first: of one run, or of all. At most so many, and fewer where they are long; none at the end.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn dead_letters(&self, run: Option<RunId>, after: Option<(RunId, TaskKey)>, limit: usize) -> Result<Vec<DeadLetter>, Error>;

    /// The content of an artifact.
    ///
    /// # Errors
    /// As [`Store::blobs`].
    async fn content(&self, artifact: &ArtifactRef) -> Result<Bytes, Error> {
        match &artifact.content {
            Some(content) => Ok(content.clone()),
            None => self.blob(&artifact.digest).await,
        }
    }

    /// Artifacts with their content: what is not at hand is read together, some megabytes at a time.
    ///
    /// # Errors
    /// As [`Store::blobs`].
    async fn artifacts(&self, refs: Vec<ArtifactRef>) -> Result<Vec<Artifact>, Error> {
        let absent: Vec<(Digest, u64)> =
            refs.iter().filter(|reference| reference.content.is_none()).map(|reference| (reference.digest, reference.size_bytes)).collect();
        let mut read = Vec::with_capacity(absent.len());
        while read.len() < absent.len() {
            let mut bytes = 0_u64;
            let part = absent[read.len()..].iter().take(READ_MAX).take_while(|(_, size_bytes)| {
                let is_first = bytes == 0;
                bytes = bytes.saturating_add(*size_bytes);
                is_first || bytes <= READ_BYTES_MAX as u64
            });
            let part = part.map(|(digest, _)| *digest).collect();
            read.append(&mut self.blobs(part).await?); // others read between two parts
        }
        let mut read = read.into_iter();
        let with_content = |ArtifactRef { name, media_type, digest, content, .. }| match content.or_else(|| read.next()) {
            Some(content) => Ok(Artifact { name, media_type, content }),
            None => Err(Error::BlobMissing(digest)),
        };
        refs.into_iter().map(with_content).collect()
    }

    /// What the completed tasks of a step made, by the tasks' places. `since_version` is where the step started. What takes more than a
    /// kilobyte is not at hand, so that a wide step is not in memory as a whole: [`Store::work`] has it.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn results(&self, run: &RunId, step: u32, since_version: u64) -> Result<Vec<Made>, Error> {
        let mut last: std::collections::BTreeMap<u32, Made> = std::collections::BTreeMap::new();
        let mut completed = std::collections::BTreeMap::new();
        let mut version = since_version.max(1);
        loop {
            let records = self.read(run, version, READ_MAX).await?;
            let Some(end) = records.last() else { break };
            version = end.version + 1;
            for record in records {
                match record.event {
                    Event::AttemptCompleted { task, artifacts, .. } if task.step == step => {
                        let work = Work::within(record.version, &artifacts, AT_HAND_BYTES_MAX);
                        last.insert(task.index, Made { index: task.index, work });
                    }
                    Event::TaskCompleted { task } if task.step == step => {
                        completed.extend(last.remove(&task.index).map(|made| (task.index, made)));
                    }
                    _ => {}
                }
            }
        }
        Ok(completed.into_values().collect())
    }

    /// All that an attempt made, by the run's version at its record; nothing where that is another record.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn made(&self, run: &RunId, version: u64) -> Result<Vec<ArtifactRef>, Error> {
        match self.read(run, version, 1).await?.pop().map(|record| record.event) {
            Some(Event::AttemptCompleted { artifacts, .. }) => Ok(artifacts),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// What an attempt made, at hand or from its record.
    ///
    /// # Errors
    /// As [`Store::made`].
    async fn work(&self, run: &RunId, work: &Work) -> Result<Vec<ArtifactRef>, Error> {
        match &work.at_hand {
            Some(artifacts) => Ok(artifacts.clone()),
            None => self.made(run, work.version).await,
        }
    }

    /// What was found of a result, by a gate, a person or the reader of plans, by the run's version at its record; nothing where that is
    /// another record.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn found(&self, run: &RunId, version: u64) -> Result<Vec<Finding>, Error> {
        match self.read(run, version, 1).await?.pop().map(|record| record.event) {
            Some(Event::GateAnswered { verdict, .. }) => Ok(verdict.findings),
            Some(Event::ApprovalRefused { comment, .. }) => Ok(vec![refusal(&comment)]),
            Some(Event::PlanRejected { findings, .. }) => Ok(findings),
            Some(_) | None => Ok(Vec::new()),
        }
    }
}

/// Gives each dead letter of one run, or of all, in their order.
///
/// # Errors
/// [`Error::Medium`].
pub async fn each_dead_letter(store: &dyn Store, run: Option<RunId>, mut take: impl FnMut(DeadLetter) + Send) -> Result<(), Error> {
    let mut after = None;
    loop {
        let letters = store.dead_letters(run, after, READ_MAX).await?;
        let Some(last) = letters.last().map(|last| (last.run, last.task)) else { return Ok(()) };
        if after.is_some_and(|after| last <= after) {
            return Err(Error::Medium("dead letters are not in their order".to_owned()));
        }
        after = Some(last);
        letters.into_iter().for_each(&mut take);
    }
}

/// What a completed task made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The task's place in its step.
    pub index: u32,
    /// What that is, and where.
    pub work: Work,
}

/// How much of what a task made is listed with the results of its step, in bytes: the artifacts of most.
const AT_HAND_BYTES_MAX: usize = 1024;

/// How many records are read at a time: a few hundred kilobytes of ordinary events.
pub const READ_MAX: usize = 1024;
/// How many bytes of records, as JSON, are read at once from a disk, but for the last of them: there may be fewer than were asked for, and more behind
/// them.
pub const READ_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Log, Receipt, Step, Workflow};

    fn id(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    fn append(run: u128, expected_version: u64, events: Vec<Event>) -> Append {
        Append { run: id(run), expected_version, at: Timestamp::UNIX_EPOCH, events }
    }

    fn started(key: Option<&str>) -> Event {
        let workflow = Workflow { name: "w".into(), priority: 5, concurrency: None, steps: vec![Step::new("s", "w")] };
        Event::RunStarted { workflow, files: vec![None], idempotency_key: key.map(str::to_owned) }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_appended_while_the_journal_is_verified_is_no_damage() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(Sqlite::open(folder.path()).expect("opens"));
        assert_eq!(store.append(vec![append(1, 0, vec![started(None)])]).await, [Ok(1)]);
        let of_writer = Arc::clone(&store);
        let writer = tokio::spawn(async move {
            for version in 1..1000 {
                let event = if version % 2 == 1 { Event::RunPaused { reason: String::new() } } else { Event::RunResumed };
                assert_eq!(of_writer.append(vec![append(1, version, vec![event])]).await, [Ok(version + 1)]);
            }
        });
        while !writer.is_finished() {
            assert_eq!(store.verify(), Ok(vec![]));
        }
        writer.await.expect("appended");
    }

    #[tokio::test]
    async fn artifacts_are_read_in_parts_and_come_in_their_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let stores: [Box<dyn Store>; 2] = [Box::new(Memory::default()), Box::new(Sqlite::open(folder.path()).expect("opens"))];
        // Many, some of them empty, some in the reference itself; and some of which few fit into a part, or none.
        let large = [3 << 20, 0, 3 << 20, 5 << 20, 7];
        let sizes: Vec<usize> = (0..READ_MAX + 100).map(|n| n % 3).chain(large).collect();
        let made = |(n, bytes): (usize, &usize)| Artifact {
            name: n.to_string(),
            media_type: String::new(),
            content: Bytes::from(n.to_le_bytes().repeat(bytes / 8 + 1)).slice(..*bytes),
        };
        let artifacts: Vec<Artifact> = sizes.iter().enumerate().map(made).collect();
        for store in stores {
            let mut refs = Vec::new();
            for (n, artifact) in artifacts.iter().enumerate() {
                let inline = ArtifactRef::inline(artifact.clone());
                refs.push(if n % 5 == 0 { inline } else { ArtifactRef { content: None, ..inline } });
            }
            let blobs = artifacts.iter().map(|artifact| (Digest::of(&artifact.content), artifact.content.clone()));
            store.put_blobs(blobs.collect()).await.expect("kept");
            assert!(store.artifacts(refs).await == Ok(artifacts.clone()));
        }
    }

    #[tokio::test]
    async fn a_read_has_few_records_where_they_are_long_and_the_rest_follows() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(folder.path()).expect("opens");
        let long = || vec![Event::RunPaused { reason: "x".repeat(1 << 20) }, Event::RunResumed];
        let events = std::iter::once(started(None)).chain((0..10).flat_map(|_| long()));
        assert_eq!(store.append(vec![append(1, 0, events.collect())]).await, [Ok(21)]);
        let (mut version, mut reads) = (1, 0);
        loop {
            let records = store.read(&id(1), version, READ_MAX).await.expect("reads");
            let Some(last) = records.last() else { break };
            assert!(records.iter().filter(|record| record.event.name() == "run_paused").count() <= 4);
            assert_eq!(records[0].version, version);
            version = last.version + 1;
            reads += 1;
        }
        assert_eq!((version, reads), (22, 3));
        assert_eq!(store.after(0, READ_MAX).await.expect("reads").len(), 8, "it is the same for all runs");
    }

    /// The laws that every store keeps.
    async fn laws(store: Arc<dyn Store>) {
        let run = id(1);
        assert_eq!(store.append(vec![append(1, 0, vec![started(None), Event::RunFailed])]).await, [Ok(2)]);

        // An append with another expectation has no effect; one beside it in the same batch has.
        let results = store.append(vec![append(1, 1, vec![Event::RunFailed]), append(2, 0, vec![started(Some("key"))])]).await;
        assert_eq!(results, [Err(Error::Conflict { run, expected: 1, found: 2 }), Ok(1)]);

        // Versions count within the run, seq over all; the feed skips nothing.
        let records = store.read(&run, 1, 10).await.expect("reads");
        assert_eq!(records.iter().map(|r| (r.version, r.event.name())).collect::<Vec<_>>(), [(1, "run_started"), (2, "run_failed")]);
        assert_eq!(store.read(&run, 2, 10).await.expect("reads").len(), 1);
        assert_eq!(store.read(&id(9), 1, 10).await, Ok(vec![]));
        let feed = store.after(0, 10).await.expect("reads");
        assert_eq!(feed.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(store.after(1, 1).await.expect("reads")[0].seq, 2);
        assert_eq!(*store.head().borrow(), 3);

        // Each record is chained to the one before, and no two are alike.
        let hashes: std::collections::BTreeSet<_> = feed.iter().map(|record| record.hash).collect();
        assert_eq!(hashes.len(), 3);
        assert_eq!(records[1].hash, chain::next(records[0].hash, &records[1], &serde_json::to_vec(&records[1].event).expect("json")));

        // Blobs are what they were.
        let digest = store.put_blob(Bytes::from_static(b"content")).await.expect("kept");
        assert_eq!(digest, store.put_blob(Bytes::from_static(b"content")).await.expect("kept"));
        assert_eq!(store.blob(&digest).await, Ok(Bytes::from_static(b"content")));
        let none = Digest::of(b"none");
        assert_eq!(store.blob(&none).await, Err(Error::BlobMissing(none)));

        // Results are those of completed tasks, in their order, of the last attempt.
        let task = |index| TaskKey { step: 0, index };
        let inline = |bytes: usize| {
            let content = Bytes::from(vec![b'x'; bytes]);
            ArtifactRef::inline(crate::model::Artifact { name: "inline".into(), media_type: String::new(), content })
        };
        let blob = |name: &str| ArtifactRef { name: name.into(), media_type: String::new(), digest, size_bytes: 7, content: None };
        let made = |name: &str| vec![blob(name), inline(3), inline(900)];
        let attempt = |index, name| Event::AttemptCompleted {
            task: task(index),
            attempt: 1,
            artifacts: if name == "one" { made(name) } else { vec![blob(name)] },
            receipt: Receipt::default(),
            log: Log::default(),
        };
        let events = vec![attempt(1, "old"), attempt(0, "zero"), attempt(1, "one"), attempt(2, "two")];
        let ends = vec![Event::TaskCompleted { task: task(1) }, Event::TaskCompleted { task: task(0) }];
        assert_eq!(store.append(vec![append(2, 1, [events, ends].concat())]).await, [Ok(7)]);
        let expected = [(0, 3, Some(vec![blob("zero")])), (1, 4, None)]
            .map(|(index, version, at_hand)| Made { index, work: Work { version, at_hand } });
        assert_eq!(store.results(&id(2), 0, 1).await, Ok(expected.to_vec()));
        assert_eq!(store.work(&id(2), &expected[0].work).await, Ok(vec![blob("zero")]));
        assert_eq!(store.work(&id(2), &expected[1].work).await, Ok(made("one")));
        assert_eq!(store.made(&id(2), 4).await, Ok(made("one")));
        assert_eq!(store.made(&id(2), 7).await, Ok(vec![]));
        assert_eq!(store.results(&id(2), 1, 1).await, Ok(vec![]));

        // An event of any size is what it was.
        let reason = "x".repeat(1 << 20);
        let long = Event::CancelRequested { reason: reason.clone() };
        assert_eq!(store.append(vec![append(2, 7, vec![long.clone()])]).await, [Ok(8)]);
        assert_eq!(store.read(&id(2), 8, 1).await.expect("reads")[0].event, long);

        // What is known of runs: of one, of all, of those that have not ended, by key.
        assert_eq!(store.run(&id(1)).await.expect("reads").map(|row| row.status), Some("failed".to_owned()));
        assert_eq!(store.run(&id(9)).await, Ok(None));
        let named = |rows: Result<Vec<RunRow>, Error>| rows.expect("reads").into_iter().map(|row| row.run).collect::<Vec<_>>();
        assert_eq!(named(store.runs(None, false, 10).await), [id(2), id(1)]);
        assert_eq!(named(store.runs(Some(id(2)), false, 10).await), [id(1)]);
        assert_eq!(named(store.runs(None, true, 10).await), [id(2)]);
        assert_eq!(store.run_with_key("key").await, Ok(Some(id(2))));
        assert_eq!(store.run_with_key("another").await, Ok(None));
        let row = store.run(&id(2)).await.expect("reads").expect("there");
        assert_eq!((row.completed, row.status.as_str(), row.version), (2, "cancelling", 8));

        // Dead letters are there until somebody deals with them, and are read in pages.
        let dead = |index| {
            let failure = crate::model::Failure::new(crate::model::FailureKind::Trapped, "no");
            Event::TaskDeadLettered { task: task(index), reason: crate::machine::TaskReason::Failed { failure } }
        };
        assert_eq!(store.append(vec![append(2, 8, vec![dead(3), dead(2)])]).await, [Ok(10)]);
        let run_one = store.run(&id(1)).await.expect("reads").expect("there").version;
        assert!(store.append(vec![append(1, run_one, vec![dead(0)])]).await[0].is_ok());
        let letters = async |run, after, limit| {
            let letters = store.dead_letters(run, after, limit).await.expect("reads");
            letters.iter().map(|letter| (letter.run, letter.task)).collect::<Vec<_>>()
        };
        let all = [(id(1), task(0)), (id(2), task(2)), (id(2), task(3))];
        assert_eq!(letters(None, None, 10).await, all);
        assert_eq!(letters(None, Some(all[0]), 1).await, all[1..2]);
        assert_eq!(letters(None, Some(all[2]), 10).await, []);
        assert_eq!(letters(Some(id(1)), None, 10).await, all[..1]);
        assert_eq!(letters(Some(id(1)), Some(all[0]), 10).await, []);
        assert_eq!(letters(Some(id(2)), Some(all[0]), 10).await, all[1..]);
        assert_eq!(letters(Some(id(9)), None, 10).await, []);
        assert_eq!(store.append(vec![append(2, 10, vec![Event::TaskDiscarded { task: task(2) }])]).await, [Ok(11)]);
        assert_eq!(letters(None, None, 10).await, [all[0], all[2]]);
    }

    #[tokio::test]
    async fn memory_keeps_the_laws() {
        laws(Arc::new(Memory::default())).await;
    }

    #[tokio::test]
    async fn sqlite_keeps_the_laws_and_keeps_them_when_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(folder.path()).expect("opens");
        laws(Arc::new(store)).await;
        let again = Sqlite::open(folder.path()).expect("opens");
        assert_eq!(*again.head().borrow(), 11 + 3);
        assert_eq!(again.read(&id(2), 1, 100).await.expect("reads").len(), 11);
        assert_eq!(again.append(vec![append(2, 11, vec![Event::RunCancelled])]).await, [Ok(12)]);
        assert_eq!(again.verify().expect("reads"), []);
    }

    #[tokio::test]
    async fn long_dead_letters_are_read_a_few_at_a_time_and_all_of_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(folder.path()).expect("opens");
        let failure = crate::model::Failure { kind: crate::model::FailureKind::Trapped, message: "x".repeat(1 << 20) };
        let reason = crate::machine::TaskReason::Failed { failure };
        let dead = (0..10).map(|index| Event::TaskDeadLettered { task: TaskKey { step: 0, index }, reason: reason.clone() });
        assert_eq!(store.append(vec![append(1, 0, std::iter::once(started(None)).chain(dead).collect())]).await, [Ok(11)]);
        assert_eq!(store.dead_letters(None, None, 100).await.expect("reads").len(), READ_BYTES_MAX >> 20);
        let mut all = Vec::new();
        each_dead_letter(&store, None, |letter| all.push(letter.task.index)).await.expect("reads");
        assert_eq!(all, (0..10).collect::<Vec<u32>>());
    }
}
