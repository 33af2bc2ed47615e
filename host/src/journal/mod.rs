//! The event log of runs, and the blobs that its events name.
//!
//! The journal is the only truth: everything shown of a run is folded from its records. A record is visible only once
//! its append has succeeded, and an append is all or nothing for each run in it. [`Store`] is met by [`Memory`]; a
//! durable one has to keep the same laws, which are written as tests over any store.

mod memory;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::machine::Event;
use crate::model::{ArtifactRef, Digest, RunId};

pub use memory::Memory;

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

    /// Keeps a blob, and names it by its digest. Keeping the same bytes again is the same blob.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn put_blob(&self, content: Bytes) -> Result<Digest, Error>;

    /// A blob that was kept.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], or [`Error::Medium`].
    async fn blob(&self, digest: &Digest) -> Result<Bytes, Error>;

    /// The artifacts of the completed tasks of a step, by the tasks' places.
    ///
    /// # Errors
    /// [`Error::Medium`].
    async fn results(&self, run: &RunId, step: u32) -> Result<Vec<(u32, Vec<ArtifactRef>)>, Error> {
        let mut last: std::collections::BTreeMap<u32, Vec<ArtifactRef>> = std::collections::BTreeMap::new();
        let mut completed = Vec::new();
        let mut version = 1;
        loop {
            let records = self.read(run, version, READ_MAX).await?;
            let Some(end) = records.last() else { break };
            version = end.version + 1;
            for record in records {
                match record.event {
                    Event::AttemptCompleted { task, artifacts, .. } if task.step == step => {
                        last.insert(task.index, artifacts);
                    }
                    Event::TaskCompleted { task } if task.step == step => {
                        completed.extend(last.remove(&task.index).map(|artifacts| (task.index, artifacts)));
                    }
                    _ => {}
                }
            }
        }
        completed.sort_by_key(|(index, _)| *index);
        Ok(completed)
    }
}

/// How many records are read at a time: a few hundred kilobytes of ordinary events.
pub const READ_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::machine::TaskKey;
    use crate::model::{Receipt, Workflow};

    fn append(run: &str, expected_version: u64, events: Vec<Event>) -> Append {
        Append { run: RunId(run.into()), expected_version, at: Timestamp::UNIX_EPOCH, events }
    }

    fn started() -> Event {
        Event::RunStarted { workflow: Workflow { name: "w".into(), steps: vec![] }, files: vec![] }
    }

    /// The laws that every store keeps.
    async fn laws(store: Arc<dyn Store>) {
        let run = RunId("a".into());
        assert_eq!(store.append(vec![append("a", 0, vec![started(), Event::RunCompleted])]).await, [Ok(2)]);

        // An append with another expectation has no effect; one beside it in the same batch has.
        let results = store.append(vec![append("a", 1, vec![Event::RunFailed]), append("b", 0, vec![started()])]).await;
        assert_eq!(results, [Err(Error::Conflict { run: run.clone(), expected: 1, found: 2 }), Ok(1)]);

        // Versions count within the run, seq over all; the feed skips nothing.
        let records = store.read(&run, 1, 10).await.expect("reads");
        assert_eq!(records.iter().map(|r| (r.version, r.event.name())).collect::<Vec<_>>(), [(1, "run_started"), (2, "run_completed")]);
        assert_eq!(store.read(&run, 2, 10).await.expect("reads").len(), 1);
        assert_eq!(store.read(&RunId("none".into()), 1, 10).await, Ok(vec![]));
        let feed = store.after(0, 10).await.expect("reads");
        assert_eq!(feed.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(store.after(1, 1).await.expect("reads")[0].seq, 2);
        assert_eq!(*store.head().borrow(), 3);

        // Blobs are what they were.
        let digest = store.put_blob(Bytes::from_static(b"content")).await.expect("kept");
        assert_eq!(digest, store.put_blob(Bytes::from_static(b"content")).await.expect("kept"));
        assert_eq!(store.blob(&digest).await, Ok(Bytes::from_static(b"content")));
        let none = Digest::of(b"none");
        assert_eq!(store.blob(&none).await, Err(Error::BlobMissing(none)));

        // Results are those of completed tasks, in their order, of the last attempt.
        let task = |index| TaskKey { step: 0, index };
        let made = |name: &str| vec![ArtifactRef { name: name.into(), media_type: String::new(), digest, size_bytes: 7 }];
        let attempt =
            |index, name| Event::AttemptCompleted { task: task(index), attempt: 1, artifacts: made(name), receipt: Receipt::default() };
        let events = vec![attempt(1, "old"), attempt(0, "zero"), attempt(1, "one"), attempt(2, "two")];
        let ends = vec![Event::TaskCompleted { task: task(1) }, Event::TaskCompleted { task: task(0) }];
        assert_eq!(store.append(vec![append("b", 1, [events, ends].concat())]).await, [Ok(7)]);
        assert_eq!(store.results(&RunId("b".into()), 0).await, Ok(vec![(0, made("zero")), (1, made("one"))]));
        assert_eq!(store.results(&RunId("b".into()), 1).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn memory_keeps_the_laws() {
        laws(Arc::new(Memory::default())).await;
    }
}
