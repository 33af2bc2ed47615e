//! The floor under what a durable run can cost: SQLite alone writes the rows of a journal again, in transactions as large, with the same
//! tables and the same care (write-ahead log, a sync for each transaction), and nothing else happens.
//!
//! For `sandhog bench --durable` alone: the other side of its ratio.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use rusqlite::{OpenFlags, params};

use super::Error;
use super::sqlite::{self, FILE};
use crate::clock::Stopwatch;

/// A row of `records`, as it lies in the file.
type Row = (i64, i64, i64, i64, String, Vec<u8>);

/// How long it takes to write the records and blobs that `from` has into a new journal in `to`, in `commits` transactions of about one size. Each
/// writes, too, what an append writes beside its records: the end of each stream, and the row that is shown of each run.
///
/// # Errors
/// [`Error::Medium`].
pub fn rewrite(from: &Path, to: &Path, commits: u64) -> Result<Duration, Error> {
    let source = sqlite::connect(&from.join(FILE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let rows: Vec<Row> = collected(&source, "SELECT seq, stream, version, at, event, hash FROM records ORDER BY seq", |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    })?;
    let blobs: Vec<(Vec<u8>, Vec<u8>, i64)> =
        collected(&source, "SELECT digest, content, kept_at FROM blobs", |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let streams: Vec<(i64, Vec<u8>)> = collected(&source, "SELECT id, name FROM streams", |row| Ok((row.get(0)?, row.get(1)?)))?;
    let shown: Vec<(Vec<u8>, String)> = collected(&source, "SELECT run, row FROM view_runs", |row| Ok((row.get(0)?, row.get(1)?)))?;
    let new = sqlite::Sqlite::open(to)?; // the same tables
    drop(new);
    let mut connection = sqlite::connect(&to.join(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    sqlite::migrate(&mut connection)?; // and the same settings
    let of_stream: HashMap<i64, &Vec<u8>> = streams.iter().map(|(id, name)| (*id, name)).collect();
    let shown: HashMap<&Vec<u8>, &String> = shown.iter().map(|(run, row)| (run, row)).collect();
    let write = || {
        let groups = usize::try_from(commits).unwrap_or(usize::MAX).clamp(1, rows.len().max(1));
        for group in 0..groups {
            let part = |length: usize| group * length / groups..(group + 1) * length / groups;
            connection.execute_batch("BEGIN IMMEDIATE")?;
            for (id, name) in &streams[part(streams.len())] {
                let sql = "INSERT OR REPLACE INTO streams (id, name, version, hash) VALUES (?1, ?2, 0, zeroblob(32))";
                connection.prepare_cached(sql)?.execute(params![id, name])?;
            }
            for (digest, content, kept_at) in &blobs[part(blobs.len())] {
                let sql = "INSERT INTO blobs (digest, content, kept_at) VALUES (?1, ?2, ?3)";
                connection.prepare_cached(sql)?.execute(params![digest, content, kept_at])?;
            }
            let mut ends = BTreeMap::new();
            let sql = "INSERT INTO records (seq, stream, version, at, event, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut insert = connection.prepare_cached(sql)?;
            for (seq, stream, version, at, event, hash) in &rows[part(rows.len())] {
                insert.execute(params![seq, stream, version, at, event, hash])?;
                ends.insert(stream, (version, hash));
            }
            for (stream, (version, hash)) in ends {
                let sql = "UPDATE streams SET version = ?2, hash = ?3 WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![stream, version, hash])?;
                if let Some((run, row)) = of_stream.get(stream).and_then(|run| shown.get_key_value(run)) {
                    let sql = "INSERT OR REPLACE INTO view_runs (run, open, idempotency_key, row) VALUES (?1, 1, NULL, ?2)";
                    connection.prepare_cached(sql)?.execute(params![run, row])?;
                }
            }
            connection.execute_batch("COMMIT")?;
        }
        Ok(())
    };
    let watch = Stopwatch::start();
    write().map_err(sqlite::medium)?;
    Ok(watch.elapsed())
}

fn collected<T>(
    connection: &rusqlite::Connection,
    sql: &str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Error> {
    let mut statement = connection.prepare(sql).map_err(sqlite::medium)?;
    statement.query_map([], read).and_then(Iterator::collect).map_err(sqlite::medium)
}
