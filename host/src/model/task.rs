//! What is handed to workers and gates.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::snapshot::{Collision, Look, Snapshot};
use super::{Artifact, Finding, Receipt};

/// The name of one execution of a workflow: a UUID of version 7 (RFC 9562), so that names sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub uuid::Uuid);

impl RunId {
    /// The name of no run: in the journal, the stream of what the host remembers across runs.
    pub const HOST: Self = Self(uuid::Uuid::nil());
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
    }
}

impl std::str::FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl Serialize for RunId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The unit handed to a worker. The fields are those of `sandhog:plugin/types.task`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Task {
    /// The same over all attempts and revisions.
    pub id: String,
    /// The run it belongs to.
    pub run: String,
    /// The step it belongs to.
    pub step: String,
    /// Counts tries after failures, from 1.
    pub attempt: u32,
    /// Counts rounds after rejections, from 0.
    pub revision: u32,
    /// A JSON object.
    pub params: Arc<str>,
    /// What to work on.
    pub inputs: Vec<Artifact>,
    /// What the work will be judged by.
    pub criteria: Vec<String>,
    /// What the gates said in the round before.
    pub feedback: Vec<Finding>,
    /// What was rejected in the round before.
    pub previous: Vec<Artifact>,
}

impl Task {
    /// What this task counts towards the `input` limit, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        let findings = self.feedback.iter().map(Finding::cost_bytes).sum::<u64>();
        let criteria = self.criteria.iter().map(|c| c.len() as u64).sum::<u64>();
        self.files_bytes() + findings + criteria + self.params.len() as u64
    }

    /// What of that are files: those to work on, and those of the round before.
    #[must_use]
    pub fn files_bytes(&self) -> u64 {
        self.inputs.iter().chain(&self.previous).map(Artifact::cost_bytes).sum()
    }
}

/// What a gate judges: a read-only snapshot of artifacts, and how they came to be.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The files that are judged, by their paths below `/subject`.
    pub files: Vec<SubjectFile>,
    /// What is served at `/subject`: these files, and whatever else the judging of them may need.
    pub snapshot: Arc<Snapshot>,
    /// What is served at `/data`: what the operator gives to this gate, a folder for each name.
    pub data: Arc<Snapshot>,
    /// The task whose artifacts these are. Parts of a subject share it.
    pub task: Option<Arc<Task>>,
    /// What the judged attempt used, where the workflow asks for it.
    pub usage: Option<Receipt>,
    /// A JSON object.
    pub params: Arc<str>,
    /// The unit to judge.
    pub unit: Option<String>,
}

impl Subject {
    /// What a look at the subject, or at its data, sees: a short text that differs where what is seen differs. May block.
    #[must_use]
    pub fn sees(&self, look: &Look) -> String {
        match look.into_data() {
            Some(look) => self.data.sees(&look),
            None => self.snapshot.sees(look),
        }
    }

    /// Artifacts as a subject.
    ///
    /// # Errors
    /// When one's name is a folder of another's.
    pub fn of(artifacts: &[Artifact]) -> Result<Self, Collision> {
        let file = |artifact: &Artifact| SubjectFile {
            path: artifact.name.clone(),
            size_bytes: artifact.content.len() as u64,
            media_type: artifact.media_type.clone(),
        };
        Ok(Self { files: artifacts.iter().map(file).collect(), snapshot: Arc::new(Snapshot::of(artifacts)?), ..Self::default() })
    }
}

/// One file that a gate judges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectFile {
    /// Its path below `/subject`.
    pub path: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Its IANA media type; empty where it is not known.
    pub media_type: String,
}

impl SubjectFile {
    /// What this entry counts towards the `input` limit, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        (self.path.len() + self.media_type.len()) as u64 + 8
    }
}
