//! A journal that lives as long as the process: for `call`, tests, and library users who need no more.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::views::Views;
use super::{Append, DeadLetter, Error, Record, RunRow, Store, chain};
use crate::machine::TaskKey;
use crate::model::{Digest, RunId};

/// Records and blobs in memory.
#[derive(Debug)]
pub struct Memory {
    inner: Mutex<Inner>,
    head: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Records,
    runs: HashMap<RunId, Vec<usize>>,
    blobs: HashMap<Digest, Bytes>,
    views: BTreeMap<RunId, Views>,
    keys: HashMap<String, RunId>,
    letters: BTreeMap<(RunId, TaskKey), DeadLetter>,
}

/// How many records a part has, but for the last.
const PART: usize = 256;

/// Records in parts that stay where they are: a single vector would be copied, as a whole, each time that it grows.
#[derive(Debug, Default)]
struct Records(Vec<Vec<Record>>);

impl Records {
    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PART + last.len())
    }

    fn get(&self, place: usize) -> &Record {
        &self.0[place / PART][place % PART]
    }

    fn push(&mut self, record: Record) {
        match self.0.last_mut() {
            Some(last) if last.len() < PART => last.push(record),
            Some(_) | None => {
                let mut part = Vec::with_capacity(PART);
                part.push(record);
                self.0.push(part);
            }
        }
    }
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

impl Inner {
    fn append(&mut self, append: Append) -> Result<u64, Error> {
        let Append { run, expected_version, at, events } = append;
        let found = self.runs.get(&run).map_or(0, |places| places.len() as u64);
        if found != expected_version {
            return Err(Error::Conflict { run, expected: expected_version, found });
        }
        let places = self.runs.entry(run).or_default();
        let mut hash = places.last().map_or_else(|| chain::genesis(run), |last| self.records.get(*last).hash);
        for (version, event) in (expected_version + 1..).zip(events) {
            let json = serde_json::to_vec(&event).map_err(|error| Error::Medium(error.to_string()))?;
            let mut record = Record { seq: self.records.len() as u64 + 1, run, version, at, hash, event };
            hash = chain::next(hash, &record, &json);
            record.hash = hash;
            match self.views.get_mut(&run) {
                Some(views) => {
                    views.add(&record);
                    for (task, letter) in std::mem::take(&mut views.letters) {
                        match letter {
                            Some(letter) => self.letters.insert((run, task), letter),
                            None => self.letters.remove(&(run, task)),
                        };
                    }
                }
                None => {
                    if let Some(views) = Views::begin(&record) {
                        self.keys.extend(views.row.idempotency_key.clone().map(|key| (key, run)));
                        self.views.insert(run, views);
                    }
                }
            }
            places.push(self.records.len());
            self.records.push(record);
        }
        Ok(places.len() as u64)
    }
}

#[async_trait::async_trait]
impl Store for Memory {
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, Error>> {
        let mut inner = self.inner();
        let results = appends.into_iter().map(|append| inner.append(append)).collect();
        let head = inner.records.len() as u64;
        drop(inner);
        self.head.send_replace(head);
        results
    }

    async fn read(&self, run: &RunId, from_version: u64, limit: usize) -> Result<Vec<Record>, Error> {
        let inner = self.inner();
        let skip = usize::try_from(from_version.saturating_sub(1)).unwrap_or(usize::MAX);
        let places = inner.runs.get(run).map_or(&[][..], Vec::as_slice);
        Ok(places.iter().skip(skip).take(limit).map(|place| inner.records.get(*place).clone()).collect())
    }

    async fn after(&self, seq: u64, limit: usize) -> Result<Vec<Record>, Error> {
        let inner = self.inner();
        let skip = usize::try_from(seq).unwrap_or(usize::MAX);
        Ok((skip..inner.records.len()).take(limit).map(|place| inner.records.get(place).clone()).collect())
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    async fn put_blobs(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), Error> {
        let kept = &mut self.inner().blobs;
        for (digest, content) in blobs {
            kept.entry(digest).or_insert(content);
        }
        Ok(())
    }

    async fn blobs(&self, digests: Vec<Digest>) -> Result<Vec<Bytes>, Error> {
        let kept = &self.inner().blobs;
        digests.iter().map(|digest| kept.get(digest).cloned().ok_or(Error::BlobMissing(*digest))).collect()
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, Error> {
        Ok(self.inner().views.get(run).map(|views| views.row.clone()))
    }

    async fn runs(&self, before: Option<RunId>, open: bool, limit: usize) -> Result<Vec<RunRow>, Error> {
        let inner = self.inner();
        let rows = inner.views.values().rev().map(|views| &views.row);
        let fits = |row: &&RunRow| before.is_none_or(|before| row.run < before) && (!open || row.ended_at.is_none());
        Ok(rows.filter(fits).take(limit).cloned().collect())
    }

    async fn run_with_key(&self, key: &str) -> Result<Option<RunId>, Error> {
        Ok(self.inner().keys.get(key).copied())
    }

    async fn dead_letters(&self, run: Option<RunId>, after: Option<(RunId, TaskKey)>, limit: usize) -> Result<Vec<DeadLetter>, Error> {
        let inner = self.inner();
        let first = run.map(|run| (run, TaskKey { step: 0, index: 0 }));
        let from = match (first, after) {
            (Some(first), Some(after)) if after < first => Bound::Included(first),
            (_, Some(after)) => Bound::Excluded(after),
            (Some(first), None) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        let letters = inner.letters.range((from, Bound::Unbounded)).map(|(_, letter)| letter);
        Ok(letters.take_while(|letter| run.is_none_or(|run| letter.run == run)).take(limit).cloned().collect())
    }
}
