//! Which attempts are executing right now: a small file that survives `kill -9`.
//!
//! Starts are on record well before their turn comes, so the journal alone cannot say which of them a dead host was
//! really executing. Each slot that executes writes its attempt here first. Nothing is synced: what the kernel was told
//! survives the process, and a machine that lost its power is nobody's fault.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::Error;
use crate::machine::TaskKey;
use crate::model::{Digest, RunId};

/// The file in the directory.
const FILE: &str = "scoreboard";
/// A slot: the run, the step, the task, the gate (counted from 1; 0 is the worker), the attempt, and a checksum.
const SLOT_BYTES: usize = 48;

/// A call that is executing: a worker's, or that of a gate by its place in the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the type's sentence says it")]
pub struct Executing {
    pub run: RunId,
    pub task: TaskKey,
    pub gate: Option<u32>,
    pub attempt: u32,
}

impl Executing {
    fn to_bytes(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..16].copy_from_slice(self.run.0.as_bytes());
        let numbers = [self.task.step, self.task.index, self.gate.map_or(0, |gate| gate + 1), self.attempt];
        for (place, number) in numbers.into_iter().enumerate() {
            bytes[16 + place * 4..20 + place * 4].copy_from_slice(&number.to_le_bytes());
        }
        let sum = Digest::of(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.as_bytes()[..16]);
        bytes
    }

    fn from_bytes(bytes: [u8; SLOT_BYTES]) -> Option<Self> {
        let mut run = [0; 16];
        run.copy_from_slice(&bytes[..16]);
        let number = |place: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[16 + place * 4..20 + place * 4]);
            u32::from_le_bytes(four)
        };
        let task = TaskKey { step: number(0), index: number(1) };
        let read = Self { run: RunId(uuid::Uuid::from_bytes(run)), task, gate: number(2).checked_sub(1), attempt: number(3) };
        (read.to_bytes() == bytes).then_some(read)
    }
}

/// The file, open to be written.
#[derive(Debug)]
pub struct Scoreboard {
    file: Option<File>,
}

impl Scoreboard {
    /// One that is written nowhere: for journals that do not survive the process either.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { file: None }
    }

    /// What a host that is no more was executing in a directory.
    ///
    /// # Errors
    /// [`Error::Medium`] when the file is there and cannot be read.
    pub fn read(folder: &Path) -> Result<HashMap<RunId, Vec<Executing>>, Error> {
        let path = folder.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
            Err(error) => return Err(Error::Medium(format!("{}: {error}", path.display()))),
        };
        let mut executing: HashMap<RunId, Vec<Executing>> = HashMap::new();
        let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
        for slot in slots.iter().filter_map(|slot| Executing::from_bytes(*slot)) {
            executing.entry(slot.run).or_default().push(slot);
        }
        Ok(executing)
    }

    /// Empties the file, once what it said is on record.
    ///
    /// # Errors
    /// [`Error::Medium`].
    pub fn begin(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = opened.map_err(|error| Error::Medium(format!("{}: {error}", path.display())))?;
        Ok(Self { file: Some(file) })
    }

    /// Says what a slot is about to execute.
    pub fn enter(&self, slot: usize, executing: Executing) {
        self.write(slot, &executing.to_bytes());
    }

    /// Says that a slot executes nothing.
    pub fn leave(&self, slot: usize) {
        self.write(slot, &[0; SLOT_BYTES]);
    }

    /// Says that no slot executes anything.
    pub fn clear(&self) {
        if let Some(file) = &self.file
            && let Err(error) = file.set_len(0)
        {
            tracing::warn!(%error, "the scoreboard cannot be cleared: what was under way will count as lost");
        }
    }

    fn write(&self, slot: usize, bytes: &[u8; SLOT_BYTES]) {
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(bytes, (slot * SLOT_BYTES) as u64)
        {
            tracing::warn!(%error, "the scoreboard cannot be written: a task that kills the host would not be known");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Scoreboard::read(folder.path()), Ok(HashMap::new()));
        let run = RunId(uuid::Uuid::from_u128(7));
        let worker = Executing { run, task: TaskKey { step: 1, index: 0 }, gate: None, attempt: 1 };
        let gate = Executing { gate: Some(0), attempt: 3, ..worker };
        let board = Scoreboard::begin(folder.path()).expect("begins");
        board.enter(3, worker);
        board.enter(0, gate);
        board.enter(5, worker);
        board.leave(5);
        assert_eq!(Scoreboard::read(folder.path()), Ok(HashMap::from([(run, vec![gate, worker])])));
        // A slot that is torn says nothing.
        let path = folder.path().join(FILE);
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[4] ^= 1;
        std::fs::write(&path, bytes).expect("writes");
        assert_eq!(Scoreboard::read(folder.path()), Ok(HashMap::from([(run, vec![worker])])));
        drop(Scoreboard::begin(folder.path()).expect("begins"));
        assert_eq!(Scoreboard::read(folder.path()), Ok(HashMap::new()));
    }
}
