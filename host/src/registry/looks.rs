//! Looks through granted directories for what would block a guest that opens it.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::intake;
use crate::threads::Pool;

/// How many directories are looked through at once: far more than anybody grants.
const LOOKS_MAX: usize = 512;
/// How many entries of a granted directory are looked at for what would block a reader.
const ENTRIES_MAX: usize = 1_000_000;

/// What is known of a directory, once it has been looked through.
type Found = Arc<(Mutex<Option<Result<(), String>>>, Condvar)>;

/// The looks under way: one for each directory, whoever asks. Where a directory hangs (of a network that is gone, say), one thread is lost with
/// it, and nobody waits for it for ever.
pub(super) struct Looks {
    threads: Pool,
    under_way: Arc<Mutex<HashMap<PathBuf, Found>>>,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self { threads: Pool::new("sandhog-looks", LOOKS_MAX), under_way: Arc::default() }
    }

    /// Whether a guest may be given a directory, where others may be written to by plugins with these names; looks for so long at the most.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn look(&self, path: &Path, written: Vec<(String, PathBuf)>, most: Duration) -> Result<(), String> {
        self.with(path, most, move |path| check_place(path, &written).and_then(|()| check_directory(path)))
    }

    fn with(&self, path: &Path, most: Duration, look: impl FnOnce(&Path) -> Result<(), String> + Send + 'static) -> Result<(), String> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Arc::clone(under_way.entry(path.to_owned()).or_insert_with(|| {
            let (found, path, under_way) = (Found::default(), path.to_owned(), Arc::clone(&self.under_way));
            let tell = Arc::clone(&found);
            self.threads.run(move || {
                let told = look(&path);
                under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
                *tell.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
                tell.1.notify_all();
            });
            found
        }));
        drop(under_way);
        let told = found.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, _) = found.1.wait_timeout_while(told, most, |told| told.is_none()).unwrap_or_else(PoisonError::into_inner);
        told.clone().unwrap_or_else(|| Err(format!("what is in it is not known after {most:?}: is it of a network that is gone?")))
    }
}

/// A directory that a guest may be given: one that no guest can put a link in the place of, nor of what leads to it.
fn check_place(path: &Path, written: &[(String, PathBuf)]) -> Result<(), String> {
    let is_gone_through = |at: &&Path| path.strip_prefix(at).is_ok_and(|rest| rest.components().next() != Some(Component::ParentDir));
    for at in path.ancestors().filter(is_gone_through) {
        let Ok(found) = at.canonicalize() else { continue }; // what does not open is refused for that
        let is_inside = |other: &Path| other.canonicalize().is_ok_and(|other| found.starts_with(&other) && (at != path || found != other));
        if let Some((name, other)) = written.iter().find(|(_, other)| is_inside(other)) {
            let other = other.display();
            return Err(format!(
                "it lies below {other}, where `{name}` may put a link to anywhere in its place: grant {other} itself, or one beside it"
            ));
        }
    }
    Ok(())
}

/// A directory that a guest may be given: one in which opening a file never blocks.
fn check_directory(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_dir() {
        return Err("it is not a directory".to_owned());
    }
    for (count, entry) in walkdir::WalkDir::new(path).follow_links(false).into_iter().enumerate() {
        if count > ENTRIES_MAX {
            return Err(format!("it holds more than {ENTRIES_MAX} files, too many to look through"));
        }
        let entry = entry.map_err(|error| error.to_string())?;
        let kind = entry.metadata().map_err(|error| error.to_string())?;
        match intake::not_regular(&kind) {
            None | Some("a folder" | "a symbolic link") => {}
            Some(other) => return Err(format!("{} is {other}, and a guest that opens it could wait without end", entry.path().display())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_hangs_is_refused_after_a_while_and_has_one_thread_and_the_others_do_not_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
        let looks = Looks::new();
        // It opens what nobody writes to.
        let hangs = |path: &Path| std::fs::File::open(path).map(drop).map_err(|error| error.to_string());
        for _ in 0..3 {
            let refused = looks.with(&pipe, Duration::from_millis(10), hangs).expect_err("nobody writes");
            assert!(refused.contains("not known after 10ms"), "{refused}");
            assert_eq!(looks.under_way.lock().expect("whole").len(), 1);
        }
        let look = || looks.look(folder.path(), Vec::new(), Duration::from_mins(1));
        let refused = look().expect_err("it has a FIFO");
        assert!(refused.ends_with("pipe is a FIFO, and a guest that opens it could wait without end"), "{refused}");
        // Whoever asks while it is being looked at is told what comes of that.
        let told = std::thread::scope(|scope| {
            let asks = scope.spawn(|| looks.with(&pipe, Duration::from_mins(1), hangs));
            let _writer = std::fs::File::options().write(true).open(&pipe).expect("somebody reads");
            asks.join().expect("told")
        });
        assert_eq!(told, Ok(()));
        std::fs::remove_file(&pipe).expect("removed");
        assert_eq!(look(), Ok(()));
    }

    #[test]
    fn a_directory_below_one_that_a_guest_may_write_to_is_refused_by_any_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        for path in ["rw/inner/most", "rwx"] {
            std::fs::create_dir_all(at(path)).expect("made");
        }
        for (target, link) in [("rw", "alias"), ("rw/inner", "into")] {
            std::os::unix::fs::symlink(target, at(link)).expect("linked");
        }
        let written = [("writer".to_owned(), at("rw"))];
        for path in ["rw/inner", "rw/inner/most", "alias/inner", "into", "into/most", "rw/inner/../../rwx"] {
            let refused = check_place(&at(path), &written).expect_err(path);
            assert!(refused.contains("`writer` may put a link"), "{refused}");
        }
        for path in ["rw", "rwx", "alias", "rw/../rwx"] {
            assert_eq!(check_place(&at(path), &written), Ok(()), "{path}");
        }
    }
}
