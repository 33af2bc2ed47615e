//! Folds the write-ahead log into the journal's file, beside the writer.
//!
//! SQLite does so in whoever's commit makes the log long, and nothing is written until it is done: at sixty megabytes a second, a sixth of
//! the time. A fold on a thread of its own holds nobody up, as long as the writer leaves room in the log for what it writes meanwhile.
//! The log starts anew only when all of it is folded, which one that always grows never is: at its full length the writer waits,
//! for the little that was written since the latest fold began.
//!
//! Sources: `sqlite3_wal_checkpoint_v2` and "Write-Ahead Logging" in the documentation of SQLite.

use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use super::Error;
use super::sqlite::{connect, medium};

/// After so many pages of the log it is folded: 4 MiB.
const FOLD_PAGES: i32 = 1_000;
/// How many pages the log may have before the writer waits: 64 MiB, which a start after a crash has to read.
const LOG_PAGES_MAX: i32 = 16_000;

/// What folds the log of one journal, for its writer.
pub(super) struct Folding {
    connection: Arc<Mutex<Connection>>,
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// How many pages the log has, behind the latest commit.
    pages: Arc<AtomicI32>,
    /// How many it had when a fold was asked for.
    asked_at: i32,
}

impl Folding {
    /// Folds the log of a file from now on, in the place of whoever commits on `writer`.
    pub(super) fn start(file: &Path, writer: &mut Connection) -> Result<Self, Error> {
        let pages = Arc::<AtomicI32>::default();
        let of_writer = Arc::clone(&pages);
        let told = move |_: &mut Wal, pages| {
            of_writer.store(pages, Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(told)).map_err(medium)?;
        let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "full").map_err(medium)?;
        let connection = Arc::new(Mutex::new(connection));
        let (due, asked) = sync_channel(1);
        let of_thread = Arc::clone(&connection);
        let folds = move || {
            while asked.recv().is_ok() {
                fold(&held(&of_thread));
            }
        };
        let thread = std::thread::Builder::new().name("journal-folds".to_owned()).spawn(folds);
        let thread = thread.map_err(|error| Error::Medium(error.to_string()))?;
        Ok(Self { connection, due: Some(due), thread: Some(thread), pages, asked_at: 0 })
    }

    /// To be called behind each commit.
    pub(super) fn committed(&mut self) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.asked_at {
            self.asked_at = 0; // it began anew
        }
        if pages - self.asked_at < FOLD_PAGES {
            return;
        }
        if pages >= LOG_PAGES_MAX {
            fold(&self.pause());
            self.asked_at = pages;
        } else if self.due.as_ref().is_some_and(|due| due.try_send(()).is_ok()) {
            self.asked_at = pages;
        }
    }

    /// Waits for a fold that is under way. Nothing is folded as long as the guard lives.
    pub(super) fn pause(&self) -> MutexGuard<'_, Connection> {
        held(&self.connection)
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn held(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Folds what nobody reads any more. That it fails loses nothing: it is in the log, and tried again.
fn fold(connection: &Connection) {
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(passive)", [], |_| Ok(())) {
        tracing::warn!(%error, "the write-ahead log is not folded into the journal's file, and grows");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::journal::{Sqlite, Store as _};
    use crate::model::Digest;

    #[tokio::test]
    async fn the_log_of_a_journal_that_is_always_written_to_stays_short_and_is_gone_when_it_closes() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(folder.path()).expect("opens");
        let bytes = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |file| file.len());
        let (mut longest, mut written) = (0, 0);
        for turn in 0..320_u32 {
            let blobs: Vec<Bytes> = (0..4_u32).map(|n| (turn * 4 + n).to_le_bytes().repeat(32 << 10).into()).collect();
            written += blobs.iter().map(|blob| blob.len() as u64).sum::<u64>();
            store.put_blobs(blobs.into_iter().map(|blob| (Digest::of(&blob), blob)).collect()).await.expect("kept");
            longest = longest.max(bytes("journal.sqlite-wal"));
        }
        let most = (LOG_PAGES_MAX + 2 * FOLD_PAGES) as u64 * 4120;
        assert!(written > 2 * most && longest <= most, "{longest} bytes of log, of {written} that were written");
        drop(store);
        assert_eq!(bytes("journal.sqlite-wal"), 0);
        assert!(bytes("journal.sqlite") > written);
        let store = Sqlite::open(folder.path()).expect("opens");
        assert_eq!(store.usage().expect("read").blobs, 1280);
    }
}
