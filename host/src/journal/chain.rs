//! The chain of hashes through the records of a run.

use sha2::{Digest as _, Sha256};

use super::Record;
use crate::model::{Digest, RunId};

/// What the first record of a run is chained to.
pub(super) fn genesis(run: RunId) -> Digest {
    Digest::of(run.0.as_bytes())
}

/// The hash of a record: SHA-256 over the hash of the one before, its `seq`, its version, its time in nanoseconds (each
/// as eight bytes, the least significant first), and its event as JSON.
pub(super) fn next(before: Digest, record: &Record, event: &[u8]) -> Digest {
    link(before, record.seq, record.version, nanoseconds(record.at), event)
}

pub(super) fn link(before: Digest, seq: u64, version: u64, at: i64, event: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update(seq.to_le_bytes());
    hash.update(version.to_le_bytes());
    hash.update(at.to_le_bytes());
    hash.update(event);
    Digest::from_bytes(hash.finalize().into())
}

/// A time as the journal's file has it.
pub(super) fn nanoseconds(at: crate::clock::Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Something in the journal that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Damage {
    /// The run, where that is known.
    pub run: Option<RunId>,
    /// The record's place in the run, where that is known.
    pub version: Option<u64>,
    /// The record's place in the journal, where that is known.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: String,
}
