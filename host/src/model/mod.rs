//! Plain data that every floor shares: what is said about workflows, tasks, limits, grants and outcomes.
//!
//! Nothing here reads a file, a clock or a random number, and nothing here decides anything: rules are in
//! [`crate::machine`]. Types are the host's own; the contract's generated types never leave [`crate::runtime`].

pub mod artifact;
pub mod capability;
pub mod finding;
pub mod limits;
pub mod outbound;
pub mod outcome;
pub mod scratch;
pub mod snapshot;
pub mod task;
pub mod text;
pub mod workflow;

pub use artifact::{Artifact, ArtifactRef, Digest};
pub use capability::{Access, FileGrant, Grant, OutboundGrant, Request};
pub use finding::{Decision, Edit, Finding, Fix, Location, Metric, Severity, Span, Verdict};
pub use limits::{Limits, LimitsPatch};
pub use outbound::{Origin, Secret};
pub use outcome::{Attempt, Blame, Failure, FailureKind, Log, LogLine, LogSource, Receipt};
pub use snapshot::Snapshot;
pub use task::{RunId, Subject, SubjectFile, Task};
pub use workflow::{Expansion, GateUse, InputSource, OnExhausted, RetryPolicy, Step, Workflow};

/// For fields that are left out where there is nothing to tell.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}
