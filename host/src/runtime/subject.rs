//! A subject, laid out as read-only files for one look.
//!
//! Each subject has a directory of its own, private to the user, with fixed times, removed when the look ends. Names
//! were checked before they got here, and every file is created new, so nothing can be written elsewhere.

use std::fs::{File, FileTimes, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::model::{Artifact, artifact};

/// The times that every file of a subject bears: 2020-01-01T00:00:00Z.
const FIXED_TIME: Duration = Duration::from_secs(1_577_836_800);

/// How old a subject is that its process left behind, being killed: no look takes so long.
const LEFT_BEHIND: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Removes what processes that were killed have left below `scratch`.
pub(super) fn sweep(scratch: &Path) {
    let Ok(entries) = std::fs::read_dir(scratch) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("subject-")) {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > LEFT_BEHIND) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A subject on disk; removed when dropped.
#[derive(Debug)]
pub(super) struct SubjectDir {
    dir: TempDir,
    root: PathBuf,
}

impl SubjectDir {
    /// Lays out the files below `scratch`.
    ///
    /// # Errors
    /// When a name is refused or the disk is.
    pub(super) fn new(scratch: &Path, files: &[Artifact]) -> std::io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
        let dir = tempfile::Builder::new().prefix("subject-").permissions(Permissions::from_mode(0o700)).tempdir_in(scratch)?;
        let root = dir.path().join("subject");
        std::fs::create_dir(&root)?;
        for file in files {
            artifact::check_name(&file.name).map_err(|reason| {
                std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("the name {:?} is refused: {reason}", file.name))
            })?;
            let path = root.join(&file.name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mut out = File::options().write(true).create_new(true).open(&path)?;
            out.write_all(&file.content)?;
            let time = SystemTime::UNIX_EPOCH + FIXED_TIME;
            out.set_times(FileTimes::new().set_accessed(time).set_modified(time))?;
        }
        Ok(Self { dir, root })
    }

    /// What the guest sees at `/subject`.
    pub(super) fn path(&self) -> &Path {
        debug_assert!(self.root.starts_with(self.dir.path()));
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_swept_and_what_is_in_use_is_not() {
        let scratch = tempfile::tempdir().expect("a folder");
        let file = |name: &str| Artifact { name: name.into(), media_type: String::new(), content: bytes::Bytes::new() };
        let in_use = SubjectDir::new(scratch.path(), &[file("a/b.txt")]).expect("laid out");
        let old = scratch.path().join("subject-old");
        std::fs::create_dir(&old).expect("makes");
        let long_ago = SystemTime::now() - LEFT_BEHIND - Duration::from_secs(1);
        File::open(&old).and_then(|dir| dir.set_modified(long_ago)).expect("sets");
        sweep(scratch.path());
        assert!(in_use.path().join("a/b.txt").exists() && !old.exists());
        drop(in_use);
        assert_eq!(std::fs::read_dir(scratch.path()).expect("reads").count(), 0, "a look leaves nothing");
        assert!(SubjectDir::new(scratch.path(), &[file("../out")]).is_err());
    }
}
