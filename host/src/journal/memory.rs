//! A journal that lives as long as the process: for `check`, `call`, tests, and library users who need no more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Append, Error, Record, Store};
use crate::model::{Digest, RunId};

/// Records and blobs in memory.
#[derive(Debug)]
pub struct Memory {
    inner: Mutex<Inner>,
    head: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Record>,
    runs: HashMap<RunId, Vec<usize>>,
    blobs: HashMap<Digest, Bytes>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { inner: Mutex::default(), head: watch::Sender::new(0) }
    }
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Store for Memory {
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, Error>> {
        let mut inner = self.inner();
        let mut results = Vec::with_capacity(appends.len());
        for Append { run, expected_version, at, events } in appends {
            let found = inner.runs.get(&run).map_or(0, |places| places.len() as u64);
            if found != expected_version {
                results.push(Err(Error::Conflict { run, expected: expected_version, found }));
                continue;
            }
            let first = inner.records.len();
            for (version, event) in (expected_version + 1..).zip(events) {
                let seq = inner.records.len() as u64 + 1;
                inner.records.push(Record { seq, run: run.clone(), version, at, event });
            }
            let last = inner.records.len();
            let places = inner.runs.entry(run).or_default();
            places.extend(first..last);
            results.push(Ok(places.len() as u64));
        }
        let head = inner.records.len() as u64;
        drop(inner);
        self.head.send_replace(head);
        results
    }

    async fn read(&self, run: &RunId, from_version: u64, limit: usize) -> Result<Vec<Record>, Error> {
        let inner = self.inner();
        let skip = usize::try_from(from_version.saturating_sub(1)).unwrap_or(usize::MAX);
        let places = inner.runs.get(run).map_or(&[][..], Vec::as_slice);
        Ok(places.iter().skip(skip).take(limit).map(|place| inner.records[*place].clone()).collect())
    }

    async fn after(&self, seq: u64, limit: usize) -> Result<Vec<Record>, Error> {
        let inner = self.inner();
        let skip = usize::try_from(seq).unwrap_or(usize::MAX);
        Ok(inner.records.iter().skip(skip).take(limit).cloned().collect())
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    async fn put_blob(&self, content: Bytes) -> Result<Digest, Error> {
        let digest = Digest::of(&content);
        self.inner().blobs.entry(digest).or_insert(content);
        Ok(digest)
    }

    async fn blob(&self, digest: &Digest) -> Result<Bytes, Error> {
        self.inner().blobs.get(digest).cloned().ok_or(Error::BlobMissing(*digest))
    }
}
