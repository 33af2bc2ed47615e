//! Which records have the artifacts of a run: who fetches those of a large run one by one has its records read once, and not once for each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::journal::{self, READ_MAX, Store};
use crate::machine::Event;
use crate::manager;
use crate::model::{ArtifactRef, Digest, RunId};

/// Of how many runs it is known: the latest that somebody asked about.
const RUNS_MAX: usize = 4;
/// Of how many artifacts of each; behind that, records are read.
const ARTIFACTS_MAX: usize = 250_000;

/// What is known of the latest runs.
#[derive(Default)]
pub(super) struct Whereabouts(Mutex<VecDeque<(RunId, Arc<tokio::sync::Mutex<Known>>)>>);

/// What is known of one run: of its records up to a version.
#[derive(Default)]
struct Known {
    version: u64,
    /// Which record has an artifact that was made, by the first half of its digest.
    made: HashMap<[u8; 16], u64>,
    /// The lists of its steps' inputs.
    inputs: Vec<Digest>,
}

impl Whereabouts {
    /// What a task of a run made, or works on, by its digest; none where the run has nothing of it.
    pub(super) async fn find(&self, store: &dyn Store, run: RunId, digest: &Digest) -> Result<Option<ArtifactRef>, journal::Error> {
        let known = self.of(run);
        let mut known = known.lock().await;
        known.read_on(store, run).await?;
        if let Some(version) = known.made.get(&half(digest)) {
            for record in store.read(&run, *version, 1).await? {
                if let Some(found) = made(record.event).find(|artifact| artifact.digest == *digest) {
                    return Ok(Some(found));
                }
            }
        }
        for list in &known.inputs {
            if let Some(found) = manager::input_of(store, list, digest).await? {
                return Ok(Some(found));
            }
        }
        let mut version = known.version + 1;
        drop(known);
        loop {
            let records = store.read(&run, version, READ_MAX).await?;
            let Some(last) = records.last() else { return Ok(None) };
            version = last.version + 1;
            for record in records {
                let found = match record.event {
                    Event::StepStarted { inputs, .. } => manager::input_of(store, &inputs, digest).await?,
                    event => made(event).find(|artifact| artifact.digest == *digest),
                };
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
    }

    fn of(&self, run: RunId) -> Arc<tokio::sync::Mutex<Known>> {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = runs.iter().position(|(known, _)| *known == run);
        let entry = place.and_then(|place| runs.remove(place)).unwrap_or_else(|| (run, Arc::default()));
        let known = Arc::clone(&entry.1);
        runs.push_front(entry);
        runs.truncate(RUNS_MAX);
        known
    }
}

impl Known {
    /// Reads what came since, as far as there is room.
    async fn read_on(&mut self, store: &dyn Store, run: RunId) -> Result<(), journal::Error> {
        while self.made.len() < ARTIFACTS_MAX {
            let records = store.read(&run, self.version + 1, READ_MAX).await?;
            let Some(last) = records.last() else { break };
            self.version = last.version;
            for record in records {
                if let Event::StepStarted { inputs, .. } = &record.event
                    && !self.inputs.contains(inputs)
                {
                    self.inputs.push(*inputs);
                }
                for artifact in made(record.event) {
                    self.made.entry(half(&artifact.digest)).or_insert(record.version);
                }
            }
        }
        Ok(())
    }
}

fn made(event: Event) -> impl Iterator<Item = ArtifactRef> {
    let made = if let Event::AttemptCompleted { artifacts, .. } = event { artifacts } else { Vec::new() };
    made.into_iter()
}

/// Enough of a digest that nobody makes two alike.
fn half(digest: &Digest) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_bytes()[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::journal::{Append, Memory};
    use crate::machine::TaskKey;
    use crate::model::{Artifact, Log, Receipt, Step, Workflow};

    fn artifact(name: &str) -> ArtifactRef {
        let content = bytes::Bytes::copy_from_slice(name.as_bytes());
        ArtifactRef::inline(Artifact { name: name.into(), media_type: String::new(), content })
    }

    fn completed(names: &[&str]) -> Event {
        let artifacts = names.iter().map(|name| artifact(name)).collect();
        let task = TaskKey { step: 0, index: 0 };
        Event::AttemptCompleted { task, attempt: 1, artifacts, receipt: Receipt::default(), log: Log::default() }
    }

    async fn append(store: &Memory, run: RunId, version: u64, events: Vec<Event>) {
        let appended = store.append(vec![Append { run, expected_version: version, at: Timestamp::UNIX_EPOCH, events }]).await;
        assert!(appended[0].is_ok(), "{appended:?}");
    }

    #[tokio::test]
    async fn what_a_run_made_or_works_on_is_found_also_when_it_came_since() {
        let (store, known) = (Memory::default(), Whereabouts::default());
        let chunk = store.put_blob(serde_json::to_vec(&[artifact("given")]).expect("JSON").into()).await.expect("kept");
        let list = serde_json::json!({ "count": 1, "chunks": [chunk] }).to_string();
        let inputs = store.put_blob(list.into()).await.expect("kept");
        let found = async |run: RunId, name: &str| {
            let found = known.find(&store, run, &Digest::of(name.as_bytes())).await.expect("reads");
            found.map(|artifact| artifact.name)
        };
        let runs: Vec<RunId> = (1..=RUNS_MAX as u128 + 2).map(|n| RunId(uuid::Uuid::from_u128(n))).collect();
        for run in &runs {
            let workflow = Workflow { name: "w".into(), priority: 5, concurrency: None, steps: vec![Step::new("s", "w")] };
            let started = Event::RunStarted { workflow, files: vec![None], idempotency_key: None };
            append(&store, *run, 0, vec![started, Event::StepStarted { step: 0, tasks: 1, inputs }, completed(&["first"])]).await;
        }
        // More runs than it knows at once, twice.
        for _ in 0..2 {
            for run in &runs {
                assert_eq!(found(*run, "first").await.as_deref(), Some("first"));
                assert_eq!(found(*run, "given").await.as_deref(), Some("given"));
                assert_eq!(found(*run, "later").await, None);
            }
        }
        append(&store, runs[0], 3, vec![completed(&["other", "later"])]).await;
        assert_eq!(found(runs[0], "later").await.as_deref(), Some("later"));
        assert_eq!(found(runs[1], "later").await, None, "another run's");
    }
}
