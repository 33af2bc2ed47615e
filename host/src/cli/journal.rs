//! `sandhog journal`: whether it is as it was written, everything in it, and what may go.

use std::time::Duration;

use serde_json::json;

use super::context::Common;
use super::exit::{Error, Exit};
use super::host::{self, find};
use crate::client::{Client, JournalUsage, Verified};
use crate::clock::{Clock as _, SystemClock, between};
use crate::journal::{Damage, READ_MAX, Sqlite, Usage};
use crate::model::RunId;
use crate::model::limits::show_bytes;
use crate::model::text::counted;
use crate::report::SCHEMA_VERSION;

/// What of the journal.
#[derive(Debug, clap::Subcommand)]
pub enum JournalCommand {
    /// Look for records that were edited, are missing, or stand in the wrong place
    #[command(
        after_help = "Each record of a run is chained to the one before by a hash. That shows accidental and partial edits; whoever can\n\
rewrite the whole file can compute the chain anew. The last hash of a run is printed with its result: who kept it can tell."
    )]
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Fold every run again, by the rules that hold live, and compare with what is shown of runs
    Replay {
        /// Make what is shown of runs anew from the records
        #[arg(long)]
        rebuild: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every record, a JSON object a line
    Export {
        /// Only of this run
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
    },
    /// Remove runs that have ended, and contents that nothing names any more
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["older_than", "keep"]))]
    Prune {
        /// Those that ended longer ago, such as 30d or 12h
        #[arg(long, value_name = "SPAN")]
        older_than: Option<String>,
        /// Those beyond the latest N
        #[arg(long, value_name = "N")]
        keep: Option<u32>,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Say how much there is
    Usage {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl JournalCommand {
    /// Whether errors are printed as JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::Verify { json } | Self::Replay { json, .. } | Self::Usage { json } => *json,
            Self::Export { .. } | Self::Prune { .. } => false,
        }
    }
}

/// Does as told.
pub fn journal(common: &Common, command: JournalCommand) -> Result<Exit, Error> {
    super::block_on(async {
        match command {
            JournalCommand::Verify { json } => verify(common, json).await,
            JournalCommand::Replay { rebuild, json } => replay(common, rebuild, json).await,
            JournalCommand::Export { run } => export(common, run.as_deref()).await,
            JournalCommand::Prune { older_than, keep, dry_run } => prune(common, older_than.as_deref(), keep, dry_run).await,
            JournalCommand::Usage { json } => usage(common, json).await,
        }
    })?
}

async fn verify(common: &Common, json: bool) -> Result<Exit, Error> {
    let (damages, usage) = match common.remote()? {
        Some(client) => {
            let verified: Verified = client.get("/v1/journal/verify", &()).await?;
            let damages = verified.damages.into_iter().map(serde_json::from_value::<Damage>).collect::<Result<Vec<_>, _>>();
            (damages.map_err(|error| Error::engine(format!("the server's answer cannot be read: {error}")))?, usage_of(&client).await?)
        }
        None => {
            let store = host::journal_file(common)?;
            (store.verify()?, store.usage()?)
        }
    };
    if json {
        outln!("{}", json!({ "schema_version": SCHEMA_VERSION, "intact": damages.is_empty(), "damages": damages }));
    } else if damages.is_empty() {
        outln!("intact: {} of {}, {}", counted(usage.records, "record"), counted(usage.runs, "run"), counted(usage.blobs, "blob"));
    } else {
        for damage in &damages {
            let run = damage.run.map(|run| format!("run {run}, ")).unwrap_or_default();
            let version = damage.version.map(|version| format!("version {version}, ")).unwrap_or_default();
            let seq = damage.seq.map(|seq| format!("seq {seq}: ")).unwrap_or_default();
            outln!("{run}{version}{seq}{}", damage.what);
        }
    }
    Ok(if damages.is_empty() { Exit::Passed } else { Exit::Failed })
}

async fn usage_of(client: &Client) -> Result<Usage, Error> {
    let answer: JournalUsage = client.get("/v1/journal/usage", &()).await?;
    serde_json::from_value(answer.usage).map_err(|error| Error::engine(format!("the server's answer cannot be read: {error}")))
}

/// Refuses what is done to the files themselves, where a server was named.
fn here(common: &Common) -> Result<(), Error> {
    match common.remote()? {
        Some(_) => {
            Err(Error::usage("this works on the journal's files, and not over --server").help("run it where the state directory is"))
        }
        None => Ok(()),
    }
}

async fn replay(common: &Common, rebuild: bool, json: bool) -> Result<Exit, Error> {
    here(common)?;
    if rebuild {
        // Only the one that holds the directory writes.
        let store = Sqlite::open(&host::state(common)?)?;
        let runs = store.rebuild().await?;
        errln!("made anew: {}", counted(runs, "run"));
    }
    let differences = host::journal_file(common)?.differences()?;
    if json {
        outln!("{}", json!({ "schema_version": SCHEMA_VERSION, "identical": differences.is_empty(), "differences": differences }));
    } else if differences.is_empty() {
        outln!("identical");
    } else {
        for difference in &differences {
            outln!("run {}: {}", difference.run, difference.what);
        }
        errln!("`sandhog journal replay --rebuild` makes what is shown anew from the records");
    }
    Ok(if differences.is_empty() { Exit::Passed } else { Exit::Failed })
}

async fn export(common: &Common, run: Option<&str>) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let only = match run {
        Some(run) => Some(find(&*store, run).await?),
        None => None,
    };
    let (mut seq, mut version) = (0, 1);
    loop {
        let records = match &only {
            Some(run) => store.read(run, version, READ_MAX).await?,
            None => store.after(seq, READ_MAX).await?,
        };
        let Some(last) = records.last() else { return Ok(Exit::Passed) };
        (seq, version) = (last.seq, last.version + 1);
        let mut text = String::new();
        for record in &records {
            text.push_str(&serde_json::to_string(record).map_err(Error::engine)?);
            text.push('\n');
        }
        out!("{text}");
    }
}

/// A span of time in words such as 30d, 12h, 10m.
fn span(text: &str) -> Result<Duration, Error> {
    let span: jiff::SignedDuration = match text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()) {
        Some(days) => jiff::SignedDuration::from_hours(days.saturating_mul(24).min(i64::from(i32::MAX))),
        None => text.parse().map_err(|_| {
            Error::usage(format!("--older-than: expected a span of time, found `{text}`")).help("write a span such as 30d, 12h or 10m")
        })?,
    };
    Duration::try_from(span).map_err(|_| Error::usage("--older-than: a span is not negative"))
}

async fn prune(common: &Common, older_than: Option<&str>, keep: Option<u32>, dry_run: bool) -> Result<Exit, Error> {
    here(common)?;
    let age = older_than.map(span).transpose()?;
    let now = SystemClock.now();
    let store = host::journal(common)?;
    let mut gone: Vec<RunId> = Vec::new();
    let (mut before, mut seen) = (None, 0);
    loop {
        let rows = store.runs(before, false, READ_MAX).await?;
        let Some(last) = rows.last() else { break };
        before = Some(last.run);
        for row in rows {
            let Some(ended_at) = row.ended_at else { continue };
            seen += 1;
            let old = age.is_none_or(|age| between(ended_at, now) > age);
            let beyond = keep.is_none_or(|keep| seen > keep);
            // A dead letter is somebody's to deal with.
            if old && beyond && row.dead_letters == 0 {
                gone.push(row.run);
            }
        }
    }
    drop(store);
    if dry_run {
        for run in &gone {
            outln!("{run}");
        }
        errln!("{} would be removed", counted(gone.len(), "run"));
        return Ok(Exit::Passed);
    }
    let store = Sqlite::open(&host::state(common)?)?;
    let pruned = store.prune(gone, now).await?;
    outln!(
        "removed {}, {}, {} of {}",
        counted(pruned.runs, "run"),
        counted(pruned.records, "record"),
        counted(pruned.blobs, "blob"),
        show_bytes(pruned.blob_bytes)
    );
    Ok(Exit::Passed)
}

async fn usage(common: &Common, json: bool) -> Result<Exit, Error> {
    let (usage, place) = match common.remote()? {
        Some(client) => (usage_of(&client).await?, client.place()),
        None => {
            let store = host::journal_file(common)?;
            (store.usage()?, store.folder().display().to_string())
        }
    };
    if json {
        outln!("{}", json!({ "schema_version": SCHEMA_VERSION, "usage": usage }));
    } else {
        outln!(
            "{}, {}, {} of {}; {} on disk in {place}",
            counted(usage.runs, "run"),
            counted(usage.records, "record"),
            counted(usage.blobs, "blob"),
            show_bytes(usage.blob_bytes),
            show_bytes(usage.file_bytes),
        );
    }
    Ok(Exit::Passed)
}
