//! A task that has started and not ended: where it stands, and what its next round has to know.
//!
//! Such tasks may be as many as a step has inputs, and wait as long as a person takes to approve them. So what they made, and what was found
//! of it, is in their records, and here is where those are: a plugin that says much does not make the host remember much. (What gates found first
//! is here until the last of them has answered, for the reason that the task may be given up for.)

use std::collections::BTreeSet;

use super::event::TaskReason;
use crate::clock::Timestamp;
use crate::model::{ArtifactRef, Digest, Failure, Finding, Receipt};

/// How much of what an attempt made is here as well as in its record, in bytes: reading it back costs more than that takes.
const AT_HAND_BYTES_MAX: usize = 4096;
/// How many findings the reason has why a task is given up: it is kept with those that are set aside, and shown in lists.
const REASON_FINDINGS_MAX: usize = 100;
/// How many bytes those have at most.
const REASON_BYTES_MAX: u64 = 64 << 10;

/// What an attempt made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The run's version at the record that has it.
    pub version: u64,
    /// The artifacts, where they take a few kilobytes at the most.
    pub at_hand: Option<Vec<ArtifactRef>>,
}

impl Work {
    /// Keeps artifacts at hand that take a few kilobytes.
    pub(super) fn new(version: u64, artifacts: &[ArtifactRef]) -> Self {
        Self::within(version, artifacts, AT_HAND_BYTES_MAX)
    }

    /// Keeps artifacts at hand that take so many bytes at the most.
    pub(crate) fn within(version: u64, artifacts: &[ArtifactRef], bytes_max: usize) -> Self {
        let bytes = |artifact: &ArtifactRef| {
            size_of::<ArtifactRef>()
                + artifact.name.len()
                + artifact.media_type.len()
                + artifact.content.as_ref().map_or(0, bytes::Bytes::len)
        };
        let is_small = artifacts.iter().map(bytes).sum::<usize>() <= bytes_max;
        Self { version, at_hand: is_small.then(|| artifacts.to_vec()) }
    }
}

/// What was found of a result, by one who judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The run's version at the record that has the findings.
    pub version: u64,
    /// How many there are.
    pub count: usize,
    /// Tells them from others.
    identities: Digest,
}

impl Found {
    pub(super) fn new(version: u64, findings: &[Finding]) -> Self {
        let identities: BTreeSet<_> = findings.iter().map(Finding::identity).collect();
        Self { version, count: findings.len(), identities: digest(&identities) }
    }
}

/// What a worker is told of the round before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The run's versions at the records that have it: of each gate in the order of the step, of a person, or of the reader of plans.
    pub versions: Vec<u64>,
    identities: Digest,
}

impl Feedback {
    /// From what was found, with the gate that found it; a person has no place among the gates.
    pub(super) fn new<'a>(found: impl Iterator<Item = (Option<u32>, &'a Found)>) -> Self {
        let (versions, identities): (Vec<_>, Vec<_>) =
            found.filter(|(_, found)| found.count > 0).map(|(gate, found)| (found.version, (gate, found.identities))).unzip();
        Self { versions, identities: digest(&identities) }
    }

    /// Whether the same was found: the same rules in the same places with the same messages, by the same gates.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.identities == other.identities
    }
}

fn digest(of: &impl serde::Serialize) -> Digest {
    Digest::of(&serde_json::to_vec(of).expect("text and numbers are written as JSON"))
}

/// The first findings, as far as they have a place in the reason why a task is given up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct First(Vec<Finding>);

impl First {
    /// Those of one of so many gates: each may fill its part of a reason.
    pub(super) fn new(findings: &[Finding], gates: usize) -> Self {
        let mut room = REASON_BYTES_MAX / gates.max(1) as u64;
        let fits = |finding: &&Finding| {
            let left = room.checked_sub(finding.cost_bytes());
            room = left.unwrap_or_default();
            left.is_some()
        };
        Self(findings.iter().take(REASON_FINDINGS_MAX).take_while(fits).cloned().collect())
    }

    /// What gates found, one after another.
    pub(super) fn of_all<'a>(parts: impl Iterator<Item = &'a Self>) -> Vec<Finding> {
        let parts: Vec<&[Finding]> = parts.map(|part| part.0.as_slice()).collect();
        // In turns, so that there is something of each.
        let mut counts = vec![0; parts.len()];
        for round in 1..=REASON_FINDINGS_MAX {
            for (part, count) in parts.iter().zip(&mut counts).filter(|(part, _)| part.len() >= round) {
                *count = round.min(part.len());
            }
            if counts.iter().sum::<usize>() >= REASON_FINDINGS_MAX {
                break;
            }
        }
        parts.iter().zip(counts).flat_map(|(part, count)| &part[..count]).take(REASON_FINDINGS_MAX).cloned().collect()
    }
}

/// One gate's part in judging a task.
#[derive(Debug, Clone, PartialEq)]
pub enum GateState {
    /// To be called.
    Ready {
        /// Which attempt that will be.
        attempt: u32,
        /// How often the host ended while it was executing.
        lost: u32,
        /// How often it could not answer.
        failures: u32,
    },
    /// Being called.
    Running {
        /// Which attempt.
        attempt: u32,
        /// As before.
        lost: u32,
        /// As before.
        failures: u32,
    },
    /// Could not answer; another event decides what follows.
    Faltered {
        /// Which attempt.
        attempt: u32,
        /// As before.
        lost: u32,
        /// How often it could not answer, this time included.
        failures: u32,
        /// How it failed.
        failure: Failure,
    },
    /// Will be asked again.
    Retrying {
        /// Which attempt that will be.
        attempt: u32,
        /// As before.
        lost: u32,
        /// As before.
        failures: u32,
        /// When.
        due_at: Timestamp,
    },
    /// Gave its verdict.
    Answered {
        /// Whether that lets the task through.
        passed: bool,
        /// What it found.
        found: Found,
        /// The first of it.
        first: First,
    },
}

/// What a person has said of a result.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Approval {
    Awaited,
    Given,
    Refused { found: Found },
}

/// What the reader of plans has said of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Nothing yet.
    Awaited,
    /// It fits, and its steps are in the run.
    Accepted,
    /// It does not fit.
    Rejected {
        /// What is wrong with it.
        found: Found,
    },
}

/// Why a task that has started is to be run again at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Its work was sent back.
    Revised,
    /// Its attempt was taken back, or the host ended, before it began to execute.
    Returned,
    /// The host ended while its attempt was executing.
    Lost,
    /// The step's other worker takes it over.
    FellBack,
    /// A person asked for it.
    Requeued,
}

/// Where a task that is alive stands. `PENDING` tasks are those from the step's cursor on; ended ones are counted.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskState {
    /// To be run again: `REVISING`, or `PENDING`.
    Ready {
        /// Which attempt that will be.
        attempt: u32,
        /// Why.
        again: Again,
    },
    /// Its worker is being called.
    Running {
        /// Which attempt.
        attempt: u32,
    },
    /// Its attempt failed; another event of the same append decides what follows.
    Faltered {
        /// Which attempt.
        attempt: u32,
        /// How it failed.
        failure: Failure,
    },
    /// Waits for another attempt.
    Retrying {
        /// Which attempt that will be.
        attempt: u32,
        /// When.
        due_at: Timestamp,
    },
    /// Its result is being judged.
    Validating {
        /// Which attempt made it.
        attempt: u32,
        /// What is judged.
        work: Work,
        /// What the judged attempt used.
        receipt: Receipt,
        /// The gates, in the order of the step.
        gates: Vec<GateState>,
    },
    /// The gates let it through; a person is to say so too.
    Approving {
        /// Which attempt made it.
        attempt: u32,
        /// What is judged.
        work: Work,
        /// What the person has said.
        approval: Approval,
    },
    /// The gates let it through, and it is a plan, which is to be read.
    Expanding {
        /// Which attempt made it.
        attempt: u32,
        /// The plan, and what is beside it.
        work: Work,
        /// What came of reading it.
        reading: Reading,
    },
    /// Waits for the run to be resumed: `PAUSED`.
    Held {
        /// Which attempt there will be then.
        attempt: u32,
        /// Why.
        reason: TaskReason,
    },
}

impl TaskState {
    /// The word shown.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ready { again: Again::Revised | Again::FellBack, .. } => "REVISING",
            Self::Ready { again: Again::Returned | Again::Lost | Again::Requeued, .. } => "PENDING",
            Self::Running { .. } | Self::Faltered { .. } => "RUNNING",
            Self::Retrying { .. } => "RETRYING",
            Self::Validating { .. } => "VALIDATING",
            Self::Approving { .. } => "APPROVING",
            Self::Expanding { .. } => "EXPANDING",
            Self::Held { .. } => "PAUSED",
        }
    }
}

/// A task that has started and not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveTask {
    /// Counts rounds, from 0.
    pub revision: u32,
    /// The round from which revisions count towards the policy: later ones follow when a person or a fallback starts anew.
    pub revision_base: u32,
    /// How many attempts failed in this round.
    pub failures: u32,
    /// How often the host ended while it was executing.
    pub lost: u32,
    /// Whether the step's other worker has it.
    pub fallback: bool,
    /// What was found in the round before, if there was one.
    pub feedback: Option<Feedback>,
    /// What was rejected then.
    pub previous: Option<Work>,
    /// Where it stands.
    pub state: TaskState,
}

/// A task that was given up, as far as it takes to run it once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// Its last attempt.
    pub attempt: u32,
    /// Its last round.
    pub revision: u32,
    /// Whether it is set aside for a person to deal with.
    pub dead_letter: bool,
}

impl LiveTask {
    pub(super) fn new(revision: u32, state: TaskState) -> Self {
        Self { revision, revision_base: revision, failures: 0, lost: 0, fallback: false, feedback: None, previous: None, state }
    }

    /// The last attempt of this round, as far as it matters for counting on.
    pub(super) fn attempt(&self) -> u32 {
        match &self.state {
            TaskState::Running { attempt }
            | TaskState::Faltered { attempt, .. }
            | TaskState::Validating { attempt, .. }
            | TaskState::Approving { attempt, .. }
            | TaskState::Expanding { attempt, .. } => *attempt,
            TaskState::Ready { attempt, .. } | TaskState::Retrying { attempt, .. } | TaskState::Held { attempt, .. } => attempt - 1,
        }
    }

    /// Attempts and revisions count anew.
    pub(super) fn start_anew(&mut self) {
        (self.failures, self.lost, self.revision_base) = (0, 0, self.revision);
    }

    /// Keeps what was rejected, and why, for the next round; `false` where nothing was.
    pub(super) fn take_back(&mut self) -> bool {
        let (work, feedback) = match &self.state {
            TaskState::Validating { work, gates, .. } => {
                let mut found = Vec::with_capacity(gates.len());
                for (gate, state) in (0..).zip(gates) {
                    let GateState::Answered { found: of_gate, .. } = state else { return false };
                    found.push((Some(gate), of_gate));
                }
                (work, Feedback::new(found.into_iter()))
            }
            TaskState::Approving { work, approval: Approval::Refused { found }, .. }
            | TaskState::Expanding { work, reading: Reading::Rejected { found }, .. } => (work, Feedback::new([(None, found)].into_iter())),
            TaskState::Approving { .. }
            | TaskState::Expanding { .. }
            | TaskState::Ready { .. }
            | TaskState::Running { .. }
            | TaskState::Faltered { .. }
            | TaskState::Retrying { .. }
            | TaskState::Held { .. } => return false,
        };
        (self.previous, self.feedback) = (Some(work.clone()), Some(feedback));
        true
    }

    /// Whether it can be given up for a reason, as it stands.
    pub(super) fn is_exhausted(&self, reason: &TaskReason) -> bool {
        match (&self.state, reason) {
            (TaskState::Faltered { .. }, TaskReason::Failed { .. })
            | (
                TaskState::Validating { .. },
                TaskReason::GateFailed { .. } | TaskReason::Rejected { .. } | TaskReason::RejectedAgain { .. } | TaskReason::Lost { .. },
            )
            | (TaskState::Approving { approval: Approval::Refused { .. }, .. }, TaskReason::Rejected { .. })
            | (
                TaskState::Expanding { reading: Reading::Rejected { .. }, .. },
                TaskReason::Rejected { .. } | TaskReason::RejectedAgain { .. },
            )
            | (TaskState::Ready { again: Again::Lost, .. }, TaskReason::Lost { .. }) => true,
            (
                TaskState::Faltered { .. }
                | TaskState::Validating { .. }
                | TaskState::Approving { .. }
                | TaskState::Expanding { .. }
                | TaskState::Ready { .. }
                | TaskState::Running { .. }
                | TaskState::Retrying { .. }
                | TaskState::Held { .. },
                TaskReason::Failed { .. }
                | TaskReason::GateFailed { .. }
                | TaskReason::Rejected { .. }
                | TaskReason::RejectedAgain { .. }
                | TaskReason::Lost { .. },
            ) => false,
        }
    }
}

/// What a person said, as a worker is told it.
#[must_use]
pub fn refusal(comment: &str) -> Finding {
    Finding {
        rule: "approval".to_owned(),
        severity: crate::model::Severity::High,
        message: if comment.is_empty() { "refused, and not said why".to_owned() } else { comment.to_owned() },
        location: None,
        suggestion: None,
        help_url: None,
        fix: None,
    }
}
