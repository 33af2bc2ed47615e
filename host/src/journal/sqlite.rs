//! The durable journal: one SQLite file in a directory that one process holds.
//!
//! One thread writes. It takes everything that waits, and commits it in one transaction, synced to the disk (WAL,
//! `synchronous = FULL`), before it answers: how many appends share a sync decides how fast it is. Readers have
//! connections of their own, and read beside the writer, from other processes too.
//!
//! After an error of the medium whose extent is not known (a failed sync, a damaged file) nothing is written any more: a
//! sync that failed once may be reported as done the next time, and what was promised would be lost.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::folding::Folding;
use super::views::{Difference, Views};
use super::{Append, Damage, DeadLetter, Error, READ_BYTES_MAX, READ_MAX, Record, RunRow, Store, chain};
use crate::clock::Timestamp;
use crate::machine::{Event, Host, Run, TaskKey};
use crate::model::text::sanitize;
use crate::model::{ArtifactRef, Digest, RunId};
use crate::threads::Pool;

/// The file in the directory.
pub(super) const FILE: &str = "journal.sqlite";
/// Locked as long as a process holds the directory; says which.
const LOCK: &str = "lock";
/// Marks our files (`PRAGMA application_id`): "shog".
const APPLICATION_ID: i64 = 0x7368_6f67;
/// How many jobs wait for the writer: when it is full, who asks waits.
const QUEUE: usize = 1024;
/// How many jobs share a transaction, each blob counting as one, give or take the last of them: bounds how long the first of them waits.
const GROUP_MAX: usize = 512;
/// How many bytes of blobs do, give or take the last of them.
const GROUP_BYTES: usize = 8 << 20;
/// An event that is larger as JSON is kept as a blob, in bytes.
const EVENT_BYTES_MAX: usize = 64 << 10;
/// How many connections of readers are kept, and how many threads read for those who may not wait: no guest's files hold them.
const READERS_MAX: usize = 8;
/// How young a blob may be and not be named by any record: its append is still under way.
const BLOB_GRACE: Duration = Duration::from_hours(1);

/// What brings a file from one format to the next; the number of those applied is its `user_version`.
const MIGRATIONS: &[&[&str]] = &[
    &[
        "
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY,
        name BLOB NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        version INTEGER NOT NULL,
        at INTEGER NOT NULL,
        event TEXT NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX records_of_a_stream ON records (stream, version);
    CREATE TABLE blobs (
        digest BLOB PRIMARY KEY,
        content BLOB NOT NULL,
        kept_at INTEGER NOT NULL
    ) STRICT;
",
        VIEWS,
    ],
    &["
    -- The `seq` of the latest record that was ever written: pruning removes records, and never gives a number twice.
    CREATE TABLE pruned (seq INTEGER NOT NULL) STRICT;
    INSERT INTO pruned SELECT coalesce(max(seq), 0) FROM records;
"],
];

/// What is folded from the records, and can be made anew from them.
const VIEWS: &str = "
    CREATE TABLE IF NOT EXISTS view_runs (
        run BLOB PRIMARY KEY,
        open INTEGER NOT NULL,
        idempotency_key TEXT,
        row TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS view_runs_by_key ON view_runs (idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE INDEX IF NOT EXISTS view_runs_open ON view_runs (run) WHERE open = 1;
    CREATE TABLE IF NOT EXISTS view_dead_letters (
        run BLOB NOT NULL,
        step INTEGER NOT NULL,
        task INTEGER NOT NULL,
        row TEXT NOT NULL,
        PRIMARY KEY (run, step, task)
    ) STRICT, WITHOUT ROWID;
";

/// The `seq` of the latest record.
fn last_seq(connection: &Connection) -> Result<u64, Error> {
    let format = check_format(connection)?;
    let last = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    let kept = last("SELECT coalesce(max(seq), 0) FROM records").map_err(medium)?;
    // A file of the first format, opened to be read, has no such table.
    let pruned = if format > 1 { last("SELECT max(seq) FROM pruned").map_err(medium)? } else { 0 };
    Ok(kept.max(pruned))
}

enum Job {
    Append { appends: Vec<Append>, reply: oneshot::Sender<Vec<Result<u64, Error>>> },
    Blobs { blobs: Vec<(Digest, Bytes)>, reply: oneshot::Sender<Result<(), Error>> },
    Prune { runs: Vec<RunId>, now: Timestamp, reply: oneshot::Sender<Result<Pruned, Error>> },
    Rebuild { reply: oneshot::Sender<Result<u64, Error>> },
}

impl Job {
    /// What it counts towards [`GROUP_MAX`] and [`GROUP_BYTES`].
    fn counts(&self) -> (usize, usize) {
        match self {
            Self::Blobs { blobs, .. } => (blobs.len(), blobs.iter().map(|(_, content)| content.len()).sum()),
            Self::Append { .. } | Self::Prune { .. } | Self::Rebuild { .. } => (1, 0),
        }
    }
}

/// What a pruning removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// Their records.
    pub records: u64,
    /// Blobs that nothing names any more.
    pub blobs: u64,
    /// The bytes of those.
    pub blob_bytes: u64,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Runs.
    pub runs: u64,
    /// Records.
    pub records: u64,
    /// Blobs.
    pub blobs: u64,
    /// The bytes of those.
    pub blob_bytes: u64,
    /// The bytes of all files of the journal.
    pub file_bytes: u64,
}

/// A journal in a directory.
pub struct Sqlite {
    folder: PathBuf,
    writer: Option<(mpsc::Sender<Job>, JoinHandle<()>)>,
    readers: Arc<Mutex<Vec<Connection>>>,
    reads: Pool,
    head: watch::Sender<u64>,
    commits: Arc<AtomicU64>,
    _lock: Option<File>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
/// An error of the medium, with what can be done about it.
pub(super) fn medium(error: rusqlite::Error) -> Error {
    let advice = match (&error, error.sqlite_error_code()) {
        (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
            format!(": {FILE} in the state directory is damaged or cut; move it away to begin anew, or put back a copy")
        }
        (_, Some(ErrorCode::DiskFull)) => NO_ROOM.to_owned(),
        (rusqlite::Error::FromSqlConversionFailure(..), _) => ADVICE.to_owned(),
        (error, _) if error.to_string().contains("no such table: view_") => ADVICE.to_owned(),
        _ => String::new(),
    };
    Error::Medium(format!("{}{advice}", sanitize(&error.to_string(), QUOTED_BYTES_MAX)))
}

/// How much is told of an error of SQLite's, in bytes: it may quote what is damaged.
const QUOTED_BYTES_MAX: usize = 1000;
const NO_ROOM: &str =
    ": what was recorded before is safe; make room on the disk of the state directory, or name another one with --state-dir";
const ADVICE: &str = ": what is shown of runs is damaged, and the records may be whole; `sandhog journal replay --rebuild` makes it anew";

impl Sqlite {
    /// Opens the journal in a directory, and holds the directory until it is dropped. What is not there is made, for this
    /// user alone.
    ///
    /// # Errors
    /// [`Error::Held`] by another process, [`Error::Refused`] when the directory is somebody else's, [`Error::TooNew`], or
    /// [`Error::Medium`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Medium(format!("{}: {error}", folder.display()));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => failed(error),
            _ => Error::Refused { directory: folder.display().to_string(), reason: format!("it cannot be made: {error}") },
        })?;
        Self::check(folder)?;
        let lock = lock(folder)?;
        let mut connection = connect(&folder.join(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        migrate(&mut connection)?;
        // A file that is synced is not sure to be found again before its folder is, and that one's, up to the root: whoever made
        // them may have ended before it came to this.
        for folder in std::path::absolute(folder).map_err(failed)?.ancestors() {
            sync_folder(folder).map_err(failed)?;
        }
        // What git would otherwise pick up with the project around it.
        let ignore = folder.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(&ignore, "*\n").map_err(failed)?;
        }
        let last = last_seq(&connection)?;
        let head = watch::Sender::new(last);
        let (sender, jobs) = mpsc::channel(QUEUE);
        let commits = Arc::<AtomicU64>::default();
        let folding = Folding::start(&folder.join(FILE), &mut connection)?;
        let streams = HashMap::new();
        let writer = Writer { connection, folding, streams, seq: last, head: head.clone(), commits: Arc::clone(&commits), failed: None };
        let spawned = std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(jobs));
        let thread = spawned.map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            writer: Some((sender, thread)),
            readers: Arc::default(),
            reads: reads(),
            head,
            commits,
            _lock: Some(lock),
        })
    }

    /// Opens the journal in a directory to read it, whoever holds it; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::TooNew`], or [`Error::Medium`].
    pub fn open_to_read(folder: &Path) -> Result<Option<Self>, Error> {
        if !folder.join(FILE).exists() {
            return Ok(None);
        }
        Self::check(folder)?;
        let store = Self {
            folder: folder.to_owned(),
            writer: None,
            readers: Arc::default(),
            reads: reads(),
            head: watch::Sender::new(0),
            commits: Arc::default(),
            _lock: None,
        };
        let Some(last) = store.reading(|connection| if is_empty(connection)? { Ok(None) } else { last_seq(connection).map(Some) })? else {
            return Ok(None);
        };
        store.head.send_replace(last);
        Ok(Some(store))
    }

    /// Whether a process holds a directory.
    #[must_use]
    pub fn is_held(folder: &Path) -> bool {
        let lock = OpenOptions::new().read(true).write(true).open(folder.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Refuses a directory that another user made: what is in it is not ours to trust.
    /// Refuses a directory that is somebody else's, or has something in it that a journal's has not.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Medium`] when it cannot be looked at.
    pub fn check(folder: &Path) -> Result<(), Error> {
        Self::check_owner(folder)?;
        Self::check_files(folder)
    }

    fn check_owner(folder: &Path) -> Result<(), Error> {
        let metadata = std::fs::symlink_metadata(folder).map_err(|error| Error::Medium(format!("{}: {error}", folder.display())))?;
        let refused = |reason: &str| Err(Error::Refused { directory: folder.display().to_string(), reason: reason.to_owned() });
        if !metadata.is_dir() {
            return refused("it is no directory (links are not followed)");
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refused("it belongs to another user");
        }
        if metadata.mode() & 0o022 != 0 {
            return refused("others may write to it");
        }
        Ok(())
    }

    /// Refuses a directory with links and pipes in it: what is opened there would be elsewhere, or be waited for.
    fn check_files(folder: &Path) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::Medium(format!("{}: {error}", folder.display()));
        for entry in std::fs::read_dir(folder).map_err(failed)?.flatten() {
            let Ok(kind) = entry.file_type() else { continue }; // it is gone
            if !(kind.is_file() || kind.is_dir() || kind.is_socket()) || (kind.is_dir() && entry.file_name() == FILE) {
                let reason = format!("{} in it is no file", entry.file_name().display());
                return Err(Error::Refused { directory: folder.display().to_string(), reason });
            }
        }
        Ok(())
    }

    /// The directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many transactions were committed through this handle that changed something, each with a sync.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Reads on a connection of its own.
    fn reading<T>(&self, read: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        reading(&self.readers, &self.folder.join(FILE), read)
    }

    /// Reads away from the caller's thread, which others wait for.
    async fn read_on<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (readers, file) = (Arc::clone(&self.readers), self.folder.join(FILE));
        let task = self.reads.run(move || reading(&readers, &file, read));
        task.await.map_err(|error| Error::Medium(error.to_string()))?
    }

    async fn write<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let Some((writer, _)) = &self.writer else { return Err(read_only()) };
        writer.send(job(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Removes runs that have ended, and blobs that nothing names any more, and gives their room back.
    ///
    /// # Errors
    /// [`Error::Medium`].
    pub async fn prune(&self, runs: Vec<RunId>, now: Timestamp) -> Result<Pruned, Error> {
        self.write(|reply| Job::Prune { runs, now, reply }).await
    }

    /// Makes every read model anew from the records, and says of how many runs.
    ///
    /// # Errors
    /// [`Error::Medium`], or [`Error::Damaged`].
    pub async fn rebuild(&self) -> Result<u64, Error> {
        self.write(|reply| Job::Rebuild { reply }).await
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`Error::Medium`].
    pub fn usage(&self) -> Result<Usage, Error> {
        let mut usage = self.reading(|connection| {
            let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0)).map_err(medium);
            Ok(Usage {
                runs: count("SELECT count(*) FROM streams WHERE name <> zeroblob(16)")?,
                records: count("SELECT count(*) FROM records")?,
                blobs: count("SELECT count(*) FROM blobs")?,
                blob_bytes: count("SELECT coalesce(sum(length(content)), 0) FROM blobs")?,
                file_bytes: 0,
            })
        })?;
        for suffix in ["", "-wal", "-shm"] {
            usage.file_bytes += std::fs::metadata(self.folder.join(format!("{FILE}{suffix}"))).map_or(0, |metadata| metadata.len());
        }
        Ok(usage)
    }

    /// Looks through everything for what is not as it was written: empty when all is well.
    ///
    /// # Errors
    /// [`Error::Medium`] when it cannot be read at all.
    pub fn verify(&self) -> Result<Vec<Damage>, Error> {
        self.reading(verify)
    }

    /// Folds every run again, and compares with the read models: empty when they are the same.
    ///
    /// # Errors
    /// [`Error::Medium`], or [`Error::Damaged`].
    pub fn differences(&self) -> Result<Vec<Difference>, Error> {
        self.reading(differences)
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

fn reads() -> Pool {
    Pool::new("journal-reads", READERS_MAX)
}

fn stopped() -> Error {
    Error::Medium("the journal's writer has stopped".to_owned())
}

fn read_only() -> Error {
    Error::Medium("the journal was opened to be read".to_owned())
}

/// Makes sure of the names in a folder. One that may not be read was not made here, and there are file systems that know no syncing
/// of folders: those are as sure as they can be.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match File::open(folder).and_then(|open| open.sync_all()) {
        Err(error) if !matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes the lock of a directory. The kernel lets go of it when the process ends, however it ends.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let failed = |error: std::io::Error| Error::Medium(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(Error::Held { directory: folder.display().to_string(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(medium)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(medium)?;
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(medium)?;
    Ok(connection)
}

/// Whether there is nothing in the file yet.
fn is_empty(connection: &Connection) -> Result<bool, Error> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(medium)?;
    Ok(tables == 0)
}

/// Says whether the file is ours, and of a format that is known.
fn check_format(connection: &Connection) -> Result<usize, Error> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).map_err(medium);
    let (application, found) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION_ID && !is_empty(connection)? {
        return Err(Error::Medium(format!("{FILE} is a database, and not one of sandhog's")));
    }
    // What the file itself would have run when it is read or written.
    let runs = "SELECT count(*) FROM sqlite_schema WHERE type NOT IN ('table', 'index') OR coalesce(rootpage, 0) = 0";
    let others: i64 = connection.query_row(runs, [], |row| row.get(0)).map_err(medium)?;
    if others > 0 {
        return Err(Error::Medium(format!("{FILE} has views, triggers or virtual tables, which sandhog makes none of")));
    }
    match usize::try_from(found) {
        Ok(found) if found <= MIGRATIONS.len() => Ok(found),
        Ok(_) | Err(_) => Err(Error::TooNew { found, known: MIGRATIONS.len() as i64 }),
    }
}

pub(super) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let found = check_format(connection)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(medium)?;
    connection.pragma_update(None, "synchronous", "full").map_err(medium)?;
    connection.set_prepared_statement_cache_capacity(64);
    for (number, sql) in (1_i64..).zip(MIGRATIONS).skip(found) {
        let transaction = connection.transaction().map_err(medium)?;
        transaction.execute_batch(&sql.concat()).map_err(medium)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(medium)?;
        transaction.pragma_update(None, "user_version", number).map_err(medium)?;
        transaction.commit().map_err(medium)?;
    }
    Ok(())
}

fn reading<T>(readers: &Mutex<Vec<Connection>>, file: &Path, read: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
    let pooled = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut connection = match pooled {
        Some(connection) => connection,
        None => connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
    };
    let answer = read(&mut connection);
    let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
    if readers.len() < READERS_MAX {
        readers.push(connection);
    }
    answer
}

/// What the writer knows of a run that it writes to.
struct Stream {
    id: i64,
    version: u64,
    hash: Digest,
    views: Option<Views>,
}

struct Writer {
    connection: Connection,
    folding: Folding,
    streams: HashMap<RunId, Stream>,
    seq: u64,
    head: watch::Sender<u64>,
    commits: Arc<AtomicU64>,
    /// Why nothing is written any more.
    failed: Option<String>,
}

type Answer = Box<dyn FnOnce(Option<Error>) + Send>;

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let (mut count, mut bytes) = first.counts();
            let mut group = vec![first];
            while count < GROUP_MAX
                && bytes < GROUP_BYTES
                && let Ok(job) = jobs.try_recv()
            {
                let counts = job.counts();
                (count, bytes) = (count + counts.0, bytes + counts.1);
                group.push(job);
            }
            self.commit(group);
        }
        drop(self.folding);
        let _ = self.connection.pragma_update(None, "wal_checkpoint", "truncate");
    }

    /// Does a group of jobs in one transaction, and answers when it is on the disk.
    fn commit(&mut self, group: Vec<Job>) {
        let (seq, mut answers): (u64, Vec<Answer>) = (self.seq, Vec::with_capacity(group.len()));
        let prunes = group.iter().any(|job| matches!(job, Job::Prune { .. }));
        let mut ended = Vec::new();
        let changes = self.connection.total_changes();
        let result = match &self.failed {
            Some(reason) => Err(Error::Medium(reason.clone())),
            None => self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| self.fail(&error)),
        };
        let mut broken = result.err();
        for job in group {
            answers.push(self.job(job, &mut broken, &mut ended));
        }
        if broken.is_none() {
            broken = self.connection.execute_batch("COMMIT").map_err(|error| self.fail(&error)).err();
        }
        if broken.is_some() {
            let _ = self.connection.execute_batch("ROLLBACK");
            self.streams.clear();
            self.seq = seq;
        } else {
            self.commits.fetch_add(u64::from(self.connection.total_changes() != changes), Ordering::Relaxed);
            for run in ended {
                self.streams.remove(&run);
            }
        }
        if self.seq > seq {
            self.head.send_replace(self.seq);
        }
        if prunes && broken.is_none() {
            // What was removed is gone already: a disk without room for the copy keeps the file as large as it is.
            let _paused = self.folding.pause();
            let shrunk = self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
            if let Err(error) = shrunk {
                tracing::warn!(%error, "the journal's file does not shrink");
            }
        }
        for answer in answers {
            answer(broken.clone());
        }
        self.folding.committed();
    }

    /// Turns an error into ours; remembers one behind which nothing may be written.
    fn fail(&mut self, error: &rusqlite::Error) -> Error {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        let error = sanitize(&error.to_string(), QUOTED_BYTES_MAX);
        if !full {
            self.failed = Some(format!("{error}; nothing is written any more, restart to go on from what is on the disk"));
        }
        Error::Medium(format!("{error}{}", if full { NO_ROOM } else { "" }))
    }

    fn job(&mut self, job: Job, broken: &mut Option<Error>, ended: &mut Vec<RunId>) -> Answer {
        match job {
            Job::Append { appends, reply } => {
                let mut results = Vec::with_capacity(appends.len());
                for append in appends {
                    results.push(match broken {
                        Some(error) => Err(error.clone()),
                        None => self.append(append, broken, ended),
                    });
                }
                Box::new(move |broken| {
                    let failed = |result| broken.clone().map_or(result, Err);
                    let _ = reply.send(results.into_iter().map(failed).collect());
                })
            }
            Job::Blobs { blobs, reply } => {
                let keep = |writer: &mut Self| blobs.iter().try_for_each(|(digest, content)| keep(&writer.connection, digest, content));
                self.attempt(broken, keep);
                Box::new(move |broken| drop(reply.send(broken.map_or(Ok(()), Err))))
            }
            Job::Prune { runs, now, reply } => {
                let pruned = self.attempt(broken, |writer| writer.prune(&runs, now));
                Box::new(move |broken| drop(reply.send(broken.map_or(Ok(pruned.unwrap_or_default()), Err))))
            }
            Job::Rebuild { reply } => {
                self.streams.clear();
                let runs = self.attempt(broken, |writer| rebuild(&writer.connection));
                Box::new(move |broken| drop(reply.send(broken.map_or(Ok(runs.unwrap_or_default()), Err))))
            }
        }
    }

    /// Does something whose failure fails the whole transaction.
    fn attempt<T>(&mut self, broken: &mut Option<Error>, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> Option<T> {
        if broken.is_some() {
            return None;
        }
        match work(self) {
            Ok(done) => Some(done),
            Err(error) => {
                *broken = Some(self.fail(&error));
                None
            }
        }
    }

    fn append(&mut self, append: Append, broken: &mut Option<Error>, ended: &mut Vec<RunId>) -> Result<u64, Error> {
        let Append { run, expected_version, at, events } = append;
        if !self.streams.contains_key(&run) {
            let loaded = self.attempt(broken, |writer| load(&writer.connection, run));
            let Some(stream) = loaded else { return Err(broken.clone().unwrap_or_else(stopped)) };
            self.streams.insert(run, stream);
        }
        let found = self.streams.get(&run).map_or(0, |stream| stream.version);
        if found != expected_version {
            return Err(Error::Conflict { run, expected: expected_version, found });
        }
        if events.last().is_some_and(Event::ends_the_run) {
            ended.push(run);
        }
        // The savepoint is the transaction itself: an append can only fail with the medium, and then all do.
        match self.attempt(broken, |writer| writer.insert(run, at, events)) {
            Some(version) => Ok(version),
            None => Err(broken.clone().unwrap_or_else(stopped)),
        }
    }

    fn insert(&mut self, run: RunId, at: Timestamp, events: Vec<Event>) -> rusqlite::Result<u64> {
        let Some(mut stream) = self.streams.remove(&run) else { return Ok(0) };
        let nanoseconds = chain::nanoseconds(at);
        let spill = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
        let sql = "INSERT INTO records (seq, stream, version, at, event, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = self.connection.prepare_cached(sql)?;
        for event in events {
            let json = serde_json::to_string(&event).map_err(spill)?;
            let (seq, version) = (self.seq + 1, stream.version + 1);
            let hash = chain::link(stream.hash, seq, version, nanoseconds, json.as_bytes());
            let kept = if json.len() > EVENT_BYTES_MAX {
                let digest = Digest::of(json.as_bytes());
                keep(&self.connection, &digest, json.as_bytes())?;
                format!("@{digest}")
            } else {
                json
            };
            insert.execute(params![seq, stream.id, version, nanoseconds, kept, hash.as_bytes()])?;
            let record = Record { seq, run, version, at, hash, event };
            match &mut stream.views {
                Some(views) => views.add(&record),
                None => stream.views = Views::begin(&record),
            }
            (self.seq, stream.version, stream.hash) = (seq, version, hash);
        }
        drop(insert);
        let mut update = self.connection.prepare_cached("UPDATE streams SET version = ?2, hash = ?3 WHERE id = ?1")?;
        update.execute(params![stream.id, stream.version, stream.hash.as_bytes()])?;
        drop(update);
        if let Some(views) = &mut stream.views {
            write_views(&self.connection, views)?;
        }
        let version = stream.version;
        self.streams.insert(run, stream);
        Ok(version)
    }

    fn prune(&mut self, runs: &[RunId], now: Timestamp) -> rusqlite::Result<Pruned> {
        let mut pruned = Pruned::default();
        self.connection.execute("UPDATE pruned SET seq = ?1", [self.seq])?;
        for run in runs {
            let sql = "SELECT s.id FROM streams s JOIN view_runs v ON v.run = s.name WHERE s.name = ?1 AND v.open = 0";
            let id: Option<i64> = self.connection.query_row(sql, [run.0.as_bytes()], |row| row.get(0)).optional()?;
            let Some(id) = id else { continue };
            pruned.records += self.connection.execute("DELETE FROM records WHERE stream = ?1", [id])? as u64;
            self.connection.execute("DELETE FROM streams WHERE id = ?1", [id])?;
            self.connection.execute("DELETE FROM view_runs WHERE run = ?1", [run.0.as_bytes()])?;
            self.connection.execute("DELETE FROM view_dead_letters WHERE run = ?1", [run.0.as_bytes()])?;
            self.streams.remove(run);
            pruned.runs += 1;
        }
        // What is named by a record is kept, and what that names, and so on. Text that only looks like a name keeps a blob
        // too long, and never loses one.
        let mut named = std::collections::HashSet::new();
        let mut open = Vec::new();
        let mut events = self.connection.prepare("SELECT event FROM records WHERE instr(event, 'sha256:') > 0")?;
        let mut rows = events.query([])?;
        while let Some(row) = rows.next()? {
            open.extend(digests(row.get_ref(0)?.as_bytes()?).filter(|digest| named.insert(*digest)));
        }
        let mut content = self.connection.prepare("SELECT content FROM blobs WHERE digest = ?1")?;
        while let Some(digest) = open.pop() {
            let found: Option<Vec<u8>> = content.query_row([digest.as_bytes()], |row| row.get(0)).optional()?;
            open.extend(found.iter().flat_map(|found| digests(found)).filter(|digest| named.insert(*digest)));
        }
        let young = Timestamp::UNIX_EPOCH.duration_until(now).as_secs() - BLOB_GRACE.as_secs() as i64;
        let mut old = self.connection.prepare("SELECT digest, length(content) FROM blobs WHERE kept_at < ?1")?;
        let old = old.query_map([young], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, u64>(1)?)))?;
        for (digest, bytes) in old.collect::<rusqlite::Result<Vec<_>>>()? {
            if !named.contains(&Digest::from_bytes(digest)) {
                self.connection.execute("DELETE FROM blobs WHERE digest = ?1", [digest])?;
                pruned.blobs += 1;
                pruned.blob_bytes += bytes;
            }
        }
        Ok(pruned)
    }
}

/// Every digest that is named in some bytes.
fn digests(bytes: &[u8]) -> impl Iterator<Item = Digest> {
    const PREFIX: &[u8] = b"sha256:";
    let places = (0..bytes.len().saturating_sub(PREFIX.len() + 63)).filter(|at| bytes[*at..].starts_with(PREFIX));
    places.filter_map(|at| std::str::from_utf8(&bytes[at..at + PREFIX.len() + 64]).ok()?.parse().ok())
}

/// What is known of a run that is written to, made where it is new.
fn load(connection: &Connection, run: RunId) -> rusqlite::Result<Stream> {
    let name = run.0.as_bytes();
    let sql = "SELECT id, version, hash FROM streams WHERE name = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([name], |row| Ok(Stream { id: row.get(0)?, version: row.get(1)?, hash: Digest::from_bytes(row.get(2)?), views: None }));
    let Some(mut stream) = found.optional()? else {
        let hash = chain::genesis(run);
        connection.execute("INSERT INTO streams (name, version, hash) VALUES (?1, 0, ?2)", params![name, hash.as_bytes()])?;
        return Ok(Stream { id: connection.last_insert_rowid(), version: 0, hash, views: None });
    };
    let row = connection.query_row("SELECT row FROM view_runs WHERE run = ?1", [name], parse::<RunRow>).optional()?;
    if let Some(row) = row {
        let mut letters = connection.prepare_cached("SELECT step, task FROM view_dead_letters WHERE run = ?1")?;
        let dead = letters.query_map([name], |row| Ok(TaskKey { step: row.get(0)?, index: row.get(1)? }))?;
        stream.views = Some(Views { row, dead: dead.collect::<rusqlite::Result<_>>()?, letters: BTreeMap::new() });
    }
    Ok(stream)
}

/// A JSON column, the first of a row.
fn parse<T: serde::de::DeserializeOwned>(row: &rusqlite::Row<'_>) -> rusqlite::Result<T> {
    let text = row.get_ref(0)?.as_str()?;
    serde_json::from_str(text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

/// Keeps a blob, or makes it young again.
fn keep(connection: &Connection, digest: &Digest, content: &[u8]) -> rusqlite::Result<()> {
    let now = Timestamp::UNIX_EPOCH.duration_until(crate::clock::Clock::now(&crate::clock::SystemClock)).as_secs();
    let sql = "INSERT INTO blobs (digest, content, kept_at) VALUES (?1, ?2, ?3) ON CONFLICT (digest) DO UPDATE SET kept_at = ?3";
    connection.prepare_cached(sql)?.execute(params![digest.as_bytes(), content, now])?;
    Ok(())
}

fn write_views(connection: &Connection, views: &mut Views) -> rusqlite::Result<()> {
    let json = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    let row = &views.row;
    let run = row.run.0.as_bytes();
    let sql = "INSERT INTO view_runs (run, open, idempotency_key, row) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (run) DO UPDATE SET open = excluded.open, row = excluded.row, idempotency_key = excluded.idempotency_key";
    let text = serde_json::to_string(row).map_err(json)?;
    connection.prepare_cached(sql)?.execute(params![run, row.ended_at.is_none(), row.idempotency_key, text])?;
    for (task, letter) in std::mem::take(&mut views.letters) {
        match letter {
            Some(letter) => {
                let sql = "INSERT OR REPLACE INTO view_dead_letters (run, step, task, row) VALUES (?1, ?2, ?3, ?4)";
                let letter = serde_json::to_string(&letter).map_err(json)?;
                connection.prepare_cached(sql)?.execute(params![run, task.step, task.index, letter])?
            }
            None => {
                let sql = "DELETE FROM view_dead_letters WHERE run = ?1 AND step = ?2 AND task = ?3";
                connection.prepare_cached(sql)?.execute(params![run, task.step, task.index])?
            }
        };
    }
    Ok(())
}

/// A record as it stands in the file.
struct Raw {
    seq: u64,
    run: RunId,
    version: u64,
    at: i64,
    event: String,
    hash: Digest,
}

const RAW: &str = "SELECT r.seq, s.name, r.version, r.at, r.event, r.hash FROM records r JOIN streams s ON s.id = r.stream";

impl Raw {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            run: RunId(uuid::Uuid::from_bytes(row.get(1)?)),
            version: row.get(2)?,
            at: row.get(3)?,
            event: row.get(4)?,
            hash: Digest::from_bytes(row.get(5)?),
        })
    }

    /// The event's JSON, from where it is kept.
    fn json(&self, connection: &Connection) -> Result<String, String> {
        let Some(digest) = self.event.strip_prefix('@') else { return Ok(self.event.clone()) };
        let digest: Digest = digest.parse().map_err(|error: crate::model::artifact::NotADigest| error.to_string())?;
        let sql = "SELECT content FROM blobs WHERE digest = ?1";
        let content: Vec<u8> = connection
            .query_row(sql, [digest.as_bytes()], |row| row.get(0))
            .map_err(|error| format!("its blob {digest} cannot be read: {error}"))?;
        String::from_utf8(content).map_err(|_| format!("its blob {digest} is not UTF-8"))
    }

    /// The record, and how many bytes its event has as JSON.
    fn record(self, connection: &Connection) -> Result<(Record, usize), Error> {
        let damaged = |reason: String| Error::Damaged { seq: self.seq, reason };
        let json = self.json(connection).map_err(damaged)?;
        let event = serde_json::from_str(&json).map_err(|error| damaged(error.to_string()))?;
        let at = Timestamp::from_nanosecond(i128::from(self.at)).map_err(|error| damaged(error.to_string()))?;
        Ok((Record { seq: self.seq, run: self.run, version: self.version, at, hash: self.hash, event }, json.len()))
    }
}

/// Records, in their order: as many as are asked for, or as have [`READ_BYTES_MAX`].
fn select(connection: &Connection, rest: &str, parameters: impl rusqlite::Params) -> Result<Vec<Record>, Error> {
    let mut statement = connection.prepare_cached(&format!("{RAW} {rest}")).map_err(medium)?;
    let mut rows = statement.query(parameters).map_err(medium)?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while bytes < READ_BYTES_MAX
        && let Some(row) = rows.next().map_err(medium)?
    {
        let (record, length) = Raw::of(row).map_err(medium)?.record(connection)?;
        bytes += length;
        records.push(record);
    }
    Ok(records)
}

/// A stream's place, its run, how many records it should have, and the hash of the last.
type Head = (i64, RunId, u64, Vec<u8>);

/// Every run that has a stream.
fn streams(connection: &Connection) -> Result<Vec<Head>, Error> {
    let mut statement = connection.prepare("SELECT id, name, version, hash FROM streams ORDER BY name").map_err(medium)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?, row.get(3)?)));
    let rows = rows.map_err(medium)?.collect::<rusqlite::Result<Vec<_>>>().map_err(medium)?;
    let named = |(id, name, version, hash): (i64, Vec<u8>, u64, Vec<u8>)| {
        let run = uuid::Uuid::from_slice(&name).map_or(RunId::HOST, RunId);
        (id, run, version, hash)
    };
    Ok(rows.into_iter().map(named).collect())
}

fn verify(connection: &mut Connection) -> Result<Vec<Damage>, Error> {
    let mut damages = Vec::new();
    let check: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(medium)?;
    if check != "ok" {
        damages.push(Damage { run: None, version: None, seq: None, what: format!("the file is damaged: {check}") });
    }
    for (id, run, _, _) in streams(connection)? {
        // One look at each run, whatever is appended to it meanwhile; and not one at everything, which would keep the log from beginning anew.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(medium)?;
        let head = transaction.query_row("SELECT version, hash FROM streams WHERE id = ?1", [id], |row| Ok((row.get(0)?, row.get(1)?)));
        let head: Option<(u64, Vec<u8>)> = head.optional().map_err(medium)?;
        if let Some((version, hash)) = head {
            damages.extend(verify_run(&transaction, id, run, version, &hash)?);
        }
    }
    let mut orphans =
        connection.prepare("SELECT seq, version FROM records WHERE stream NOT IN (SELECT id FROM streams) LIMIT 1000").map_err(medium)?;
    let orphans = orphans.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(medium)?;
    for orphan in orphans {
        let (seq, version) = orphan.map_err(medium)?;
        damages.push(Damage { run: None, version: Some(version), seq: Some(seq), what: "the record belongs to no run".to_owned() });
    }
    if let Ok(mut gone) = connection.prepare("SELECT run FROM view_runs WHERE run NOT IN (SELECT name FROM streams)") {
        for run in gone.query_map([], |row| row.get::<_, [u8; 16]>(0)).map_err(medium)? {
            let run = Some(RunId(uuid::Uuid::from_bytes(run.map_err(medium)?)));
            damages.push(Damage { run, version: None, seq: None, what: "all of its records are missing".to_owned() });
        }
    }
    let mut blobs = connection.prepare("SELECT digest, content FROM blobs").map_err(medium)?;
    let mut rows = blobs.query([]).map_err(medium)?;
    while let Some(row) = rows.next().map_err(medium)? {
        let (digest, content): (Vec<u8>, Vec<u8>) = (row.get(0).map_err(medium)?, row.get(1).map_err(medium)?);
        if Digest::of(&content).as_bytes()[..] != digest[..] {
            let what = format!("the content of the blob sha256:{} is another", hex::encode(digest));
            damages.push(Damage { run: None, version: None, seq: None, what });
        }
    }
    Ok(damages)
}

/// The contents that a record needs and that are not there: artifacts, and lists of inputs with what is on them.
fn missing(connection: &Connection, json: &str) -> Result<Vec<Digest>, Error> {
    #[derive(serde::Deserialize)]
    struct List {
        chunks: Vec<Digest>,
    }
    let named = ["run_started", "step_started", "plan_accepted", "attempt_completed"];
    if !named.iter().any(|event| json.starts_with(&format!("{{\"event\":\"{event}\""))) {
        return Ok(Vec::new());
    }
    let mut blobs = connection.prepare_cached("SELECT content FROM blobs WHERE digest = ?1").map_err(medium)?;
    let mut missing = Vec::new();
    let mut content = |digest: Digest| {
        let content: Option<Vec<u8>> = blobs.query_row([digest.as_bytes()], |row| row.get(0)).optional().map_err(medium)?;
        if content.is_none() {
            missing.push(digest);
        }
        Ok::<_, Error>(content.unwrap_or_default())
    };
    let (lists, artifacts) = match serde_json::from_str(json) {
        Ok(Event::RunStarted { files, .. } | Event::PlanAccepted { files, .. }) => (files.into_iter().flatten().collect(), Vec::new()),
        Ok(Event::StepStarted { inputs, .. }) => (vec![inputs], Vec::new()),
        Ok(Event::AttemptCompleted { artifacts, .. }) => (Vec::new(), artifacts),
        Ok(_) | Err(_) => (Vec::new(), Vec::new()),
    };
    let mut refs = artifacts;
    for list in lists {
        let chunks = serde_json::from_slice(&content(list)?).map_or(Vec::new(), |list: List| list.chunks);
        for chunk in chunks {
            refs.extend(serde_json::from_slice::<Vec<ArtifactRef>>(&content(chunk)?).unwrap_or_default());
        }
    }
    for reference in refs.iter().filter(|reference| reference.content.is_none()) {
        content(reference.digest)?;
    }
    Ok(missing)
}

fn verify_run(connection: &Connection, id: i64, run: RunId, version: u64, head: &[u8]) -> Result<Vec<Damage>, Error> {
    let mut damages = Vec::new();
    let mut damage = |version, seq, what: String| damages.push(Damage { run: Some(run), version, seq, what });
    let sql = "SELECT seq, version, at, event, hash FROM records WHERE stream = ?1 ORDER BY version";
    let mut statement = connection.prepare_cached(sql).map_err(medium)?;
    let mut rows = statement.query([id]).map_err(medium)?;
    let (mut expected, mut hash, mut last_seq) = (1, chain::genesis(run), 0);
    while let Some(row) = rows.next().map_err(medium)? {
        let read = |row: &rusqlite::Row<'_>| {
            let event = String::from_utf8_lossy(row.get_ref(3)?.as_bytes()?).into_owned();
            let hash: Vec<u8> = row.get(4)?;
            Ok::<_, rusqlite::Error>((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?, row.get::<_, i64>(2)?, event, hash))
        };
        let (seq, version, at, event, found) = read(row).map_err(medium)?;
        if version != expected {
            let what = format!("records from version {expected} to {} are missing", version.saturating_sub(1));
            damage(Some(expected), None, what);
        }
        if seq <= last_seq {
            damage(Some(version), Some(seq), "the record stands before the one that it follows".to_owned());
        }
        let raw = Raw { seq, run, version, at, event, hash };
        match raw.json(connection) {
            Ok(json) if version == expected => {
                let computed = chain::link(hash, seq, version, at, json.as_bytes());
                if computed.as_bytes()[..] != found[..] {
                    damage(Some(version), Some(seq), "the record was changed, or another stands in its place".to_owned());
                } else {
                    for digest in missing(connection, &json)? {
                        damage(Some(version), Some(seq), format!("the blob {digest}, which the record names, is missing"));
                    }
                }
            }
            Ok(_) => {} // behind a gap nothing can be said of the first record
            Err(reason) => damage(Some(version), Some(seq), reason),
        }
        hash = <[u8; 32]>::try_from(&found[..]).map_or(hash, Digest::from_bytes);
        (expected, last_seq) = (version + 1, seq);
    }
    if expected > version + 1 {
        damage(Some(version + 1), None, format!("there are {} records more than it had", expected - version - 1));
    } else if expected < version + 1 {
        damage(Some(expected), None, format!("{} records at the end are missing", version + 1 - expected));
    } else if hash.as_bytes()[..] != head[..] {
        damage(Some(version), None, "the run's last hash is not that of its last record".to_owned());
    }
    Ok(damages)
}

/// Folds the records of a run, by the rules that hold live, and into read models.
fn fold(connection: &Connection, run: RunId) -> Result<(Option<Views>, Option<Difference>), Error> {
    let (mut views, mut state): (Option<Views>, Option<Run>) = (None, None);
    let mut version = 1_u64;
    loop {
        let rest = "WHERE s.name = ?1 AND r.version >= ?2 ORDER BY r.version LIMIT ?3";
        let records = select(connection, rest, params![run.0.as_bytes(), version, READ_MAX as u64])?;
        let Some(last) = records.last() else { return Ok((views, None)) };
        version = last.version + 1;
        for record in &records {
            let applied = match &mut state {
                None => Run::begin(record.at, &record.event).map(|begun| state = Some(begun)),
                Some(state) => state.apply(record.at, &record.event),
            };
            if let Err(error) = applied {
                return Ok((views, Some(Difference { run, what: format!("record {}: {error}", record.seq) })));
            }
            match &mut views {
                Some(views) => views.add(record),
                None => views = Views::begin(record),
            }
        }
    }
}

/// Folds what the host remembers.
fn fold_host(connection: &Connection) -> Result<Option<Difference>, Error> {
    let (mut host, mut version) = (Host::default(), 1_u64);
    loop {
        let rest = "WHERE s.name = ?1 AND r.version >= ?2 ORDER BY r.version LIMIT ?3";
        let records = select(connection, rest, params![RunId::HOST.0.as_bytes(), version, READ_MAX as u64])?;
        let Some(last) = records.last() else { return Ok(None) };
        version = last.version + 1;
        for record in &records {
            if let Err(error) = host.apply(&record.event) {
                return Ok(Some(Difference { run: RunId::HOST, what: format!("record {}: {error}", record.seq) }));
            }
        }
    }
}

fn differences(connection: &mut Connection) -> Result<Vec<Difference>, Error> {
    // One look at everything, whatever is appended meanwhile.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(medium)?;
    let mut differences = Vec::new();
    for (_, run, _, _) in streams(&transaction)? {
        if run == RunId::HOST {
            differences.extend(fold_host(&transaction)?);
            continue;
        }
        let (folded, illegal) = fold(&transaction, run)?;
        differences.extend(illegal);
        let name = run.0.as_bytes();
        // One that does not even parse is another, too.
        let sql = "SELECT row, open, idempotency_key FROM view_runs WHERE run = ?1";
        let kept = transaction.query_row(sql, [name], |row| Ok((parse::<RunRow>(row).ok(), row.get::<_, bool>(1)?, row.get(2)?)));
        let kept: Option<(Option<RunRow>, bool, Option<String>)> = kept.optional().map_err(medium)?;
        let expected = folded.as_ref().map(|views| &views.row);
        if kept != expected.map(|row| (Some(row.clone()), row.ended_at.is_none(), row.idempotency_key.clone())) {
            differences.push(Difference { run, what: "what is shown of it is not what its records make".to_owned() });
        }
        let expected: Vec<DeadLetter> = folded.map(|views| views.letters.into_values().flatten().collect()).unwrap_or_default();
        if all_letters(&transaction, run).ok() != Some(expected) {
            differences.push(Difference { run, what: "its dead letters are not what its records make".to_owned() });
        }
    }
    let sql = "SELECT run FROM view_runs WHERE run NOT IN (SELECT name FROM streams)";
    let mut superfluous = transaction.prepare(sql).map_err(medium)?;
    let runs = superfluous.query_map([], |row| row.get::<_, [u8; 16]>(0)).map_err(medium)?;
    for run in runs {
        let run = RunId(uuid::Uuid::from_bytes(run.map_err(medium)?));
        differences.push(Difference { run, what: "it is shown, and has no records".to_owned() });
    }
    Ok(differences)
}

fn rebuild(connection: &Connection) -> rusqlite::Result<u64> {
    let failed = |error: Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    connection.execute_batch(VIEWS)?;
    connection.execute_batch("DELETE FROM view_runs; DELETE FROM view_dead_letters;")?;
    let mut runs = 0;
    for (_, run, _, _) in streams(connection).map_err(failed)?.into_iter().filter(|(_, run, _, _)| *run != RunId::HOST) {
        if let (Some(mut views), _) = fold(connection, run).map_err(failed)? {
            write_views(connection, &mut views)?;
            runs += 1;
        }
    }
    Ok(runs)
}

/// Dead letters behind a place, in their order: as many as are asked for, or as have [`READ_BYTES_MAX`].
fn letters(connection: &Connection, run: Option<RunId>, after: Option<(RunId, TaskKey)>, limit: usize) -> Result<Vec<DeadLetter>, Error> {
    let sql = "SELECT row, run, step, task FROM view_dead_letters WHERE (run, step, task) > (?1, ?2, ?3) AND run <= ?4 ORDER BY run, step, task LIMIT ?5";
    let mut statement = connection.prepare_cached(sql).map_err(medium)?;
    // Before the first of the run, or of all.
    let first = (run.map_or([0; 16], |run| *run.0.as_bytes()), -1, -1);
    let (name, step, task) = after.map_or(first, |(run, task)| (*run.0.as_bytes(), i64::from(task.step), i64::from(task.index))).max(first);
    let last = run.map_or([0xff; 16], |run| *run.0.as_bytes());
    let mut rows = statement.query(params![name, step, task, last, limit as u64]).map_err(medium)?;
    let (mut letters, mut bytes) = (Vec::new(), 0);
    while bytes < READ_BYTES_MAX
        && let Some(row) = rows.next().map_err(medium)?
    {
        bytes += row.get_ref(0).and_then(|text| Ok(text.as_str()?.len())).map_err(medium)?;
        let letter = parse::<DeadLetter>(row).map_err(medium)?;
        let key = |row: &rusqlite::Row<'_>| Ok((row.get::<_, [u8; 16]>(1)?, row.get::<_, u32>(2)?, row.get::<_, u32>(3)?));
        // What comes behind it is asked for by what it says.
        if key(row).map_err(medium)? != (*letter.run.0.as_bytes(), letter.task.step, letter.task.index) {
            return Err(medium(rusqlite::Error::FromSqlConversionFailure(
                0,
                Type::Text,
                "a dead letter stands in the place of another".into(),
            )));
        }
        letters.push(letter);
    }
    Ok(letters)
}

fn all_letters(connection: &Connection, run: RunId) -> Result<Vec<DeadLetter>, Error> {
    let mut all: Vec<DeadLetter> = Vec::new();
    loop {
        let more = letters(connection, Some(run), all.last().map(|letter| (run, letter.task)), READ_MAX)?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

#[async_trait::async_trait]
impl Store for Sqlite {
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, Error>> {
        let count = appends.len();
        let (reply, answer) = oneshot::channel();
        let Some((writer, _)) = &self.writer else { return vec![Err(read_only()); count] };
        if writer.send(Job::Append { appends, reply }).await.is_err() {
            return vec![Err(stopped()); count];
        }
        answer.await.unwrap_or_else(|_| vec![Err(stopped()); count])
    }

    async fn read(&self, run: &RunId, from_version: u64, limit: usize) -> Result<Vec<Record>, Error> {
        let run = *run;
        self.read_on(move |connection| {
            let rest = "WHERE s.name = ?1 AND r.version >= ?2 ORDER BY r.version LIMIT ?3";
            select(connection, rest, params![run.0.as_bytes(), from_version, limit as u64])
        })
        .await
    }

    async fn after(&self, seq: u64, limit: usize) -> Result<Vec<Record>, Error> {
        self.read_on(move |connection| select(connection, "WHERE r.seq > ?1 ORDER BY r.seq LIMIT ?2", params![seq, limit as u64])).await
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    async fn put_blobs(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), Error> {
        self.write(|reply| Job::Blobs { blobs, reply }).await
    }

    async fn blobs(&self, digests: Vec<Digest>) -> Result<Vec<Bytes>, Error> {
        self.read_on(move |connection| {
            let mut statement = connection.prepare_cached("SELECT content FROM blobs WHERE digest = ?1").map_err(medium)?;
            let mut content = |digest: Digest| {
                let found: Option<Vec<u8>> = statement.query_row([digest.as_bytes()], |row| row.get(0)).optional().map_err(medium)?;
                found.map(Bytes::from).ok_or(Error::BlobMissing(digest))
            };
            digests.into_iter().map(&mut content).collect()
        })
        .await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, Error> {
        let run = *run;
        self.read_on(move |connection| {
            let sql = "SELECT row FROM view_runs WHERE run = ?1";
            connection.query_row(sql, [run.0.as_bytes()], parse::<RunRow>).optional().map_err(medium)
        })
        .await
    }

    async fn runs(&self, before: Option<RunId>, open: bool, limit: usize) -> Result<Vec<RunRow>, Error> {
        self.read_on(move |connection| {
            let sql = "SELECT row FROM view_runs WHERE (?1 IS NULL OR run < ?1) AND (NOT ?2 OR open = 1) ORDER BY run DESC LIMIT ?3";
            let mut statement = connection.prepare_cached(sql).map_err(medium)?;
            let before = before.map(|run| run.0.as_bytes().to_vec());
            let rows = statement.query_map(params![before, open, limit as u64], parse::<RunRow>).map_err(medium)?;
            rows.collect::<rusqlite::Result<_>>().map_err(medium)
        })
        .await
    }

    async fn run_with_key(&self, key: &str) -> Result<Option<RunId>, Error> {
        let key = key.to_owned();
        self.read_on(move |connection| {
            let sql = "SELECT run FROM view_runs WHERE idempotency_key = ?1";
            let run = connection.query_row(sql, [key], |row| row.get::<_, [u8; 16]>(0)).optional().map_err(medium)?;
            Ok(run.map(|run| RunId(uuid::Uuid::from_bytes(run))))
        })
        .await
    }

    async fn dead_letters(&self, run: Option<RunId>, after: Option<(RunId, TaskKey)>, limit: usize) -> Result<Vec<DeadLetter>, Error> {
        self.read_on(move |connection| letters(connection, run, after, limit)).await
    }
}
