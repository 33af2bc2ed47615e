//! What the process that holds a state directory serves to the others: commands, and word of what is new.
//!
//! HTTP over a socket inside the directory, which only its owner can reach. Queries need none of it: they read the journal's
//! file. Commands go through the one that holds it, since it alone writes.

mod client;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::{Input, TaskKey};
use crate::model::{Digest, RunId};

pub use client::{Client, Error};
pub use server::{Prepare, Server, serve};

/// The socket in the directory.
const SOCKET: &str = "socket";
/// How long the path of a socket may be, in bytes (`sun_path` of unix(7), and its end).
const SOCKET_PATH_MAX: usize = 107;

/// Where the holder of a directory listens. Paths too long for a socket are replaced by one in the folder for temporary
/// files, named by a digest of the directory's own.
#[must_use]
pub fn socket_path(folder: &Path) -> PathBuf {
    let path = folder.join(SOCKET);
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return path;
    }
    let digest = Digest::of(folder.as_os_str().as_encoded_bytes()).to_hex();
    std::env::temp_dir().join(format!("sandhog-{}-{}", rustix::process::geteuid().as_raw(), &digest[..16])).join(SOCKET)
}

/// Makes sure that the folder of the socket is this user's alone, where it is not the state directory itself.
fn check_folder(folder: &Path, socket: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let Some(parent) = socket.parent().filter(|parent| *parent != folder) else { return Ok(()) };
    let metadata = std::fs::symlink_metadata(parent)?;
    let ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0;
    if ours { Ok(()) } else { Err(std::io::Error::other(format!("{} is not this user's alone", parent.display()))) }
}

/// A run to be accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submission {
    /// The workflow file, absolute.
    pub workflow: PathBuf,
    /// The caller's key.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

/// The run that was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Accepted {
    /// Its name.
    pub run: RunId,
}

/// Something that a person wants of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// End it: nothing of it starts any more, and what runs is ended.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Start nothing more for now.
    Pause {
        /// Why.
        reason: String,
    },
    /// Go on with it: it was paused, or nobody runs it.
    Resume,
    /// Run again what was given up.
    Retry {
        /// Which tasks; none means every one.
        #[serde(default)]
        tasks: Vec<TaskKey>,
    },
    /// Want no more of dead letters.
    Discard {
        /// Which tasks; none means every one.
        #[serde(default)]
        tasks: Vec<TaskKey>,
    },
    /// Let results through that wait for a person, or send them back.
    Approve {
        /// The step.
        step: u32,
        /// The task; absent means every one that waits.
        index: Option<u32>,
        /// Whether they are let through.
        approved: bool,
        /// What the person says.
        comment: String,
    },
}

impl Command {
    /// What the run is told; none for what the manager does itself.
    #[must_use]
    pub fn into_input(self) -> Option<Input> {
        Some(match self {
            Self::Cancel { reason } => Input::Cancel { reason },
            Self::Pause { reason } => Input::Pause { reason },
            Self::Resume => return None,
            Self::Retry { tasks } => Input::Requeue { tasks },
            Self::Discard { tasks } => Input::Discard { tasks },
            Self::Approve { step, index, approved, comment } => Input::Approve { step, index, approved, comment },
        })
    }
}

/// How far the journal goes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Head {
    /// The `seq` of the last record.
    pub head: u64,
    /// Whether the holder goes on with the run that was named; true where none was.
    pub driven: bool,
}

/// Why something was not done.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Problem {
    /// For a program: `invalid`, `not_found`, `conflict` or `failed`.
    code: String,
    /// For a person.
    message: String,
}
