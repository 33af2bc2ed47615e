//! A journal that is read through a server: what shows runs from a file here shows those of a server, too.

use bytes::Bytes;
use tokio::sync::watch;

use super::client::{Client, Error};
use super::problem::Code;
use super::service::cursor;
use super::shapes::{Events, EventsQuery, LetterView, Letters, LettersQuery, Runs, RunsQuery};
use crate::journal::{self, Append, DeadLetter, Record, RunRow, Store};
use crate::machine::TaskKey;
use crate::model::{Digest, RunId};

/// How much is asked for at once.
const PAGE_MAX: u32 = 1000;

/// A server's journal, to be read. It does not say of itself when it grows: see [`Client::follow`] and [`Client::head`].
#[derive(Debug, Clone)]
pub struct RemoteStore {
    client: Client,
    head: watch::Sender<u64>,
}

impl RemoteStore {
    /// The journal of a server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, head: watch::Sender::new(0) }
    }
}

fn failed(error: Error) -> journal::Error {
    match error {
        Error::Refused(problem) if problem.code != Code::Failed => {
            let token = (problem.code == Code::Unauthorized).then(|| "give it with --token-file, or in SANDHOG_TOKEN".to_owned());
            journal::Error::ServerRefused { message: problem.detail, help: token.or(problem.help) }
        }
        Error::Place(message) => journal::Error::ServerRefused { message, help: None },
        error => journal::Error::Away(error.to_string()),
    }
}

fn read_only() -> journal::Error {
    journal::Error::Medium("the journal of a server is written by the server alone".to_owned())
}

/// None where the server says that there is no such thing.
fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, journal::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn page(limit: usize) -> Option<u32> {
    Some(u32::try_from(limit).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX))
}

#[async_trait::async_trait]
impl Store for RemoteStore {
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, journal::Error>> {
        appends.iter().map(|_| Err(read_only())).collect()
    }

    async fn read(&self, run: &RunId, from_version: u64, limit: usize) -> Result<Vec<Record>, journal::Error> {
        let query = EventsQuery { after: from_version.saturating_sub(1), limit: page(limit) };
        let answer = self.client.get::<Events>(&format!("/v1/runs/{run}/events"), &query).await;
        Ok(found(answer)?.map(|page| page.events).unwrap_or_default())
    }

    async fn after(&self, seq: u64, limit: usize) -> Result<Vec<Record>, journal::Error> {
        let query = EventsQuery { after: seq, limit: page(limit) };
        Ok(self.client.get::<Events>("/v1/events", &query).await.map_err(failed)?.events)
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    async fn put_blobs(&self, _blobs: Vec<(Digest, Bytes)>) -> Result<(), journal::Error> {
        Err(read_only())
    }

    async fn blobs(&self, digests: Vec<Digest>) -> Result<Vec<Bytes>, journal::Error> {
        let mut contents = Vec::with_capacity(digests.len());
        for digest in digests {
            let content = found(self.client.blob(&digest).await)?.ok_or(journal::Error::BlobMissing(digest))?;
            if Digest::of(&content) != digest {
                return Err(journal::Error::Medium(format!("what came is not the blob {digest}")));
            }
            contents.push(content);
        }
        Ok(contents)
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, journal::Error> {
        found(self.client.get(&format!("/v1/runs/{run}"), &()).await)
    }

    async fn runs(&self, before: Option<RunId>, open: bool, limit: usize) -> Result<Vec<RunRow>, journal::Error> {
        let (mut before, mut rows) = (before, Vec::new());
        while rows.len() < limit {
            let query = RunsQuery { before, open, limit: page(limit - rows.len()) };
            let page = self.client.get::<Runs>("/v1/runs", &query).await.map_err(failed)?;
            before = page.runs.last().map(|row| row.run);
            rows.extend(page.runs);
            if page.next.is_none() {
                break;
            }
        }
        Ok(rows)
    }

    async fn run_with_key(&self, _key: &str) -> Result<Option<RunId>, journal::Error> {
        Ok(None) // the server looks keys up when something is submitted
    }

    async fn dead_letters(
        &self,
        run: Option<RunId>,
        after: Option<(RunId, TaskKey)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, journal::Error> {
        let after = after.map(|(run, task)| cursor(run, task));
        let query = LettersQuery { run, after, limit: page(limit), ..LettersQuery::default() };
        let letters = self.client.get::<Letters>("/v1/dead-letters", &query).await.map_err(failed)?;
        let letter = |letter: LetterView| DeadLetter {
            run: letter.run,
            workflow: letter.workflow,
            step: letter.step,
            task: TaskKey { step: letter.place, index: letter.index },
            at: letter.at,
            reason: letter.because,
        };
        Ok(letters.dead_letters.into_iter().map(letter).collect())
    }
}
