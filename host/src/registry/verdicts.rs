//! Answers of gates, kept between processes in the user's cache folder.
//!
//! An answer is stored under a hash of everything it was asked with, together with what the gate looked at; it is used
//! again only where all of that is as it was. The store is the user's own, and each entry is authenticated by the key
//! that also guards compiled code: a project cannot bring answers of its own.

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::Subject;
use crate::model::snapshot::Look;

/// How many answers are kept; the ones that were stored first go first.
const ANSWERS_MAX: i64 = 500_000;
/// How many answers wait for one transaction.
const PENDING_MAX: usize = 4_096;
/// How many bytes of answers wait for one transaction.
const PENDING_BYTES_MAX: usize = 16 << 20;
/// The largest answer that is kept, with what was looked at for it, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How large the store grows, in bytes; the answers that were stored first go first.
const STORE_BYTES_MAX: i64 = 1 << 30;

/// What an answer was asked with, as a hash.
pub type Key = blake3::Hash;

/// The store.
#[derive(Debug)]
pub struct Verdicts {
    key: [u8; blake3::KEY_LEN],
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    pending: Vec<(Key, Vec<u8>)>,
    pending_bytes: usize,
}

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    /// What was looked at, and what was seen.
    looks: Vec<(Look, String)>,
    answer: T,
}

impl Verdicts {
    /// Opens the store in a folder, which is made when it is not there. A store that cannot be read is made anew.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        drop(super::cache::Cache::open(folder)?); // the key lies with the compiled code; its folder is checked there
        let key = super::cache::key(&folder.join("compiled/key"))?;
        let own = folder.join("verdicts");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
        let path = own.join("verdicts.sqlite");
        let connection = match connect(&path) {
            Ok(connection) => connection,
            Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)) => {
                tracing::warn!(file = %path.display(), %error, "kept verdicts cannot be read, and are made anew");
                std::fs::remove_file(&path)?;
                connect(&path).map_err(std::io::Error::other)?
            }
            Err(error) => return Err(std::io::Error::other(error)),
        };
        Ok(Self { key, inner: Mutex::new(Inner { connection, pending: Vec::new(), pending_bytes: 0 }) })
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer under a key, if there is one, and everything that was looked at for it is in this subject as it was.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, key: &Key, subject: &Subject) -> Option<T> {
        let bytes = {
            let inner = self.inner();
            let mut statement = inner.connection.prepare_cached("SELECT value FROM answer WHERE key = ?1").ok()?;
            statement.query_row(params![key.as_bytes()], |row| row.get::<_, Vec<u8>>(0)).optional().ok()??
        };
        let (mac, value) = bytes.split_at_checked(blake3::OUT_LEN)?;
        let expected = self.mac(key, value);
        if !<[u8; blake3::OUT_LEN]>::try_from(mac).is_ok_and(|mac| expected == blake3::Hash::from_bytes(mac)) {
            tracing::warn!("a kept verdict was changed since it was stored; it is not used");
            return None;
        }
        let kept: Kept<T> = serde_json::from_slice(value).ok()?;
        kept.looks.iter().all(|(look, seen)| subject.sees(look) == *seen).then_some(kept.answer)
    }

    /// Keeps an answer. What fails to be kept is asked again, and no more.
    pub fn put<T: Serialize>(&self, key: &Key, looks: BTreeSet<Look>, subject: &Subject, answer: &T) {
        let looks = looks.into_iter().map(|look| (look.clone(), subject.sees(&look))).collect();
        let Ok(value) = serde_json::to_vec(&Kept { looks, answer }) else { return };
        if value.len() > ANSWER_BYTES_MAX {
            tracing::debug!(bytes = value.len(), "an answer is too large to be kept");
            return;
        }
        let mut bytes = self.mac(key, &value).as_bytes().to_vec();
        bytes.extend(value);
        let full = {
            let mut inner = self.inner();
            inner.pending_bytes += bytes.len();
            inner.pending.push((*key, bytes));
            inner.pending.len() >= PENDING_MAX || inner.pending_bytes >= PENDING_BYTES_MAX
        };
        if full {
            self.flush();
        }
    }

    /// Writes what waits to be written.
    pub fn flush(&self) {
        let mut inner = self.inner();
        let pending = std::mem::take(&mut inner.pending);
        inner.pending_bytes = 0;
        if pending.is_empty() {
            return;
        }
        let mut write = || {
            let transaction = inner.connection.transaction()?;
            {
                let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO answer (key, value) VALUES (?1, ?2)")?;
                for (key, value) in &pending {
                    insert.execute(params![key.as_bytes(), value])?;
                }
                transaction.execute("DELETE FROM answer WHERE id <= (SELECT max(id) FROM answer) - ?1", params![ANSWERS_MAX])?;
                let pragma = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
                if (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")? > STORE_BYTES_MAX {
                    transaction.execute("DELETE FROM answer WHERE id <= (SELECT (min(id) + max(id)) / 2 FROM answer)", [])?;
                }
            }
            transaction.commit()
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "verdicts could not be kept");
        }
    }

    fn mac(&self, key: &Key, value: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(b"verdict").update(key.as_bytes()).update(value).finalize()
    }
}

impl Drop for Verdicts {
    fn drop(&mut self) {
        self.flush();
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // What is lost with the machine is asked again: no sync is waited for.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = OFF;
         CREATE TABLE IF NOT EXISTS answer (id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL);",
    )?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Artifact;

    fn snapshot(text: &'static str) -> Subject {
        let artifact = Artifact { name: "a".into(), media_type: String::new(), content: bytes::Bytes::from_static(text.as_bytes()) };
        Subject::of(&[artifact]).expect("a subject")
    }

    #[test]
    fn an_answer_is_used_again_only_where_all_that_was_seen_is_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let (key, other) = (blake3::hash(b"key"), blake3::hash(b"other"));
        let looks = BTreeSet::from([Look::Content("a".into()), Look::Metadata("b".into())]);
        let verdicts = Verdicts::open(folder.path()).expect("opens");
        verdicts.put(&key, looks, &snapshot("1"), &"fine".to_owned());
        drop(verdicts);
        let verdicts = Verdicts::open(folder.path()).expect("opens");
        assert_eq!(verdicts.get::<String>(&key, &snapshot("1")).as_deref(), Some("fine"));
        assert_eq!(verdicts.get::<String>(&key, &snapshot("2")), None, "the content changed");
        assert_eq!(verdicts.get::<String>(&other, &snapshot("1")), None, "never asked");
    }

    #[test]
    fn an_answer_that_is_too_large_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let verdicts = Verdicts::open(folder.path()).expect("opens");
        let (small, large) = (blake3::hash(b"small"), blake3::hash(b"large"));
        verdicts.put(&small, BTreeSet::new(), &snapshot(""), &"x".repeat(ANSWER_BYTES_MAX / 2));
        verdicts.put(&large, BTreeSet::new(), &snapshot(""), &"x".repeat(ANSWER_BYTES_MAX));
        verdicts.flush();
        assert!(verdicts.get::<String>(&small, &snapshot("")).is_some());
        assert_eq!(verdicts.get::<String>(&large, &snapshot("")), None);
    }

    #[test]
    fn an_entry_that_somebody_wrote_or_moved_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let (key, other) = (blake3::hash(b"key"), blake3::hash(b"other"));
        let verdicts = Verdicts::open(folder.path()).expect("opens");
        verdicts.put(&key, BTreeSet::new(), &snapshot(""), &"fine".to_owned());
        verdicts.flush();
        let database = Connection::open(folder.path().join("verdicts/verdicts.sqlite")).expect("opens");
        database.execute("INSERT INTO answer (key, value) SELECT ?1, value FROM answer", params![other.as_bytes()]).expect("copies");
        assert_eq!(verdicts.get::<String>(&other, &snapshot("")), None);
        let stored = |key: &Key| -> Vec<u8> {
            database.query_row("SELECT value FROM answer WHERE key = ?1", params![key.as_bytes()], |row| row.get(0)).expect("there")
        };
        let put = |value: &[u8]| {
            database.execute("UPDATE answer SET value = ?1 WHERE key = ?2", params![value, key.as_bytes()]).expect("changes")
        };
        let fine = stored(&key);
        let at = fine.windows(4).position(|part| part == b"fine").expect("the answer");
        let evil = [&fine[..at], b"evil", &fine[at + 4..]].concat();
        put(&evil);
        assert_eq!(verdicts.get::<String>(&key, &snapshot("")), None);
        put(&fine);
        assert_eq!(verdicts.get::<String>(&key, &snapshot("")).as_deref(), Some("fine"), "what is refused is refused for its change alone");
    }
}
