//! `sandhog bench --durable`: what runs cost whose journal is on disk, beside the same runs with it in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::bench::{median, rounded};
use super::context::{Common, Context};
use super::exit::{Error, Exit};
use crate::clock::{Stopwatch, SystemClock};
use crate::journal::{Memory, READ_MAX, Sqlite, Store};
use crate::machine::{Run, RunStatus};
use crate::manager::{self, Crew, Options};
use crate::model::limits::show_bytes;
use crate::model::workflow::PRIORITY;
use crate::model::{Artifact, InputSource, Step, Workflow};
use crate::report::SCHEMA_VERSION;

/// How large the one input of each task is, in bytes.
const INPUT_BYTES: usize = 100;
/// How many steps the chain has.
const CHAIN: u32 = 1_000;
/// How often the disk is asked to sync.
const SYNCS: usize = 50;

/// Measures, and prints.
pub fn measure(common: &Common, plugin: &str, tasks: u32, as_json: bool) -> Result<Exit, Error> {
    let context = common.open(None)?;
    let loaded = context.registry.load(&context.registry.find(plugin)?)?;
    drop(loaded);
    // On the disk that journals are on.
    let beside = common.state_folder()?;
    let beside = beside.parent().unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".sandhog-bench-").tempdir_in(beside);
    let folder = folder.map_err(|error| Error::usage(format!("{}: {error}", beside.display())))?;
    let sync_ms = sync_ms(folder.path())?;
    let in_memory = block(&context, Arc::new(Memory::default()), None, fan_out(plugin, tasks))?;
    let fan_out_folder = folder.path().join("fan-out");
    let durable = block(&context, Arc::new(Sqlite::open(&fan_out_folder)?), Some(&fan_out_folder), fan_out(plugin, tasks))?;
    let chain_folder = folder.path().join("chain");
    let chained = block(&context, Arc::new(Sqlite::open(&chain_folder)?), Some(&chain_folder), chain(plugin))?;
    let usage = Sqlite::open(&fan_out_folder)?.usage()?;
    let recovery = super::block_on(recover(&fan_out_folder))??;
    let report = json!({
        "schema_version": SCHEMA_VERSION,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get),
        "tasks": tasks,
        "sync_ms": sync_ms,
        "durable": durable.to_json(Some(usage.file_bytes)),
        "memory": in_memory.to_json(None),
        "durable_over_memory": rounded(durable.seconds / in_memory.seconds),
        "chain": {
            "steps": CHAIN,
            "seconds": rounded(chained.seconds),
            "steps_per_second": (f64::from(CHAIN) / chained.seconds).round(),
        },
        "recovery": recovery,
    });
    if as_json {
        outln!("{report}");
        return Ok(Exit::Passed);
    }
    outln!("a sync of this disk      {:.2} ms", report["sync_ms"].as_f64().unwrap_or_default());
    for (name, block, bytes) in [("journal on disk", &durable, Some(usage.file_bytes)), ("journal in memory", &in_memory, None)] {
        outln!(
            "{name:<24} {:.0} tasks/s; dispatch p50 {:.3} ms, p99 {:.3} ms; {}memory grew by {}",
            f64::from(block.tasks) / block.seconds,
            block.p50_ms,
            block.p99_ms,
            bytes.map(|bytes| format!("{} bytes a task; ", bytes / u64::from(block.tasks))).unwrap_or_default(),
            show_bytes(block.grown_bytes),
        );
    }
    outln!("a chain of {CHAIN} steps    {:.0} steps/s", f64::from(CHAIN) / chained.seconds);
    outln!(
        "recovery                 {} events in {:.2} s",
        report["recovery"]["events"],
        report["recovery"]["seconds"].as_f64().unwrap_or_default()
    );
    Ok(Exit::Passed)
}

/// The median time of a small write and its sync, in milliseconds.
fn sync_ms(folder: &Path) -> Result<f64, Error> {
    use std::io::Write as _;
    let failed = |error: std::io::Error| Error::engine(format!("{}: {error}", folder.display()));
    let mut file = std::fs::File::create(folder.join("sync")).map_err(failed)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let watch = Stopwatch::start();
        file.write_all(&[1; 4096]).and_then(|()| file.sync_data()).map_err(failed)?;
        times.push(watch.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(rounded(median(&times)))
}

struct Block {
    tasks: u32,
    seconds: f64,
    submit_seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// By how much the process's memory grew from the submission to the end.
    grown_bytes: u64,
}

impl Block {
    fn to_json(&self, file_bytes: Option<u64>) -> Value {
        json!({
            "tasks_per_second": (f64::from(self.tasks) / self.seconds).round(),
            "seconds": rounded(self.seconds),
            "submit_seconds": rounded(self.submit_seconds),
            "dispatch_ms": { "p50": self.p50_ms, "p99": self.p99_ms },
            "journal_bytes_per_task": file_bytes.map(|bytes| bytes / u64::from(self.tasks)),
            "memory_grown_bytes": self.grown_bytes,
        })
    }
}

type Work = (Workflow, Vec<Vec<Artifact>>);

fn workflow(steps: Vec<Step>) -> Workflow {
    Workflow { name: "bench".to_owned(), priority: PRIORITY, concurrency: None, steps }
}

fn input(name: String) -> Artifact {
    Artifact { name, media_type: String::new(), content: Bytes::from(vec![b'x'; INPUT_BYTES]) }
}

fn fan_out(plugin: &str, tasks: u32) -> Work {
    let step = Step { inputs: vec![InputSource::Files("*".to_owned())], foreach: true, ..Step::new("bench", plugin) };
    let shared = input(String::new());
    (workflow(vec![step]), vec![(0..tasks).map(|n| Artifact { name: n.to_string(), ..shared.clone() }).collect()])
}

fn chain(plugin: &str) -> Work {
    let step = |n: u32| Step {
        needs: n.checked_sub(1).map(|before| format!("s{before}")).into_iter().collect(),
        inputs: vec![InputSource::Files("*".to_owned())],
        ..Step::new(format!("s{n}"), plugin)
    };
    (workflow((0..CHAIN).map(step).collect()), (0..CHAIN).map(|_| vec![input("a".to_owned())]).collect())
}

fn block(context: &Context, store: Arc<dyn Store>, folder: Option<&Path>, (workflow, files): Work) -> Result<Block, Error> {
    let tasks = workflow.steps.len().max(files.iter().map(Vec::len).max().unwrap_or(1)) as u32;
    super::block_on(async move {
        let crew = Arc::new(Crew::new(context.runtime.clone(), Arc::clone(&context.registry)));
        let options = match folder {
            Some(folder) => Options::in_folder(context.concurrency, folder)?,
            None => Options::in_memory(context.concurrency),
        };
        let (handle, running) = manager::start(store, crew, Arc::new(SystemClock), options).await?;
        let submitting = Stopwatch::start();
        let run = handle.submit(workflow, files, None).await?;
        let submit_seconds = submitting.elapsed().as_secs_f64();
        let before = resident_bytes();
        let watch = Stopwatch::start();
        let status = handle.wait(run).await?;
        let seconds = watch.elapsed().as_secs_f64();
        let grown_bytes = resident_bytes().saturating_sub(before);
        let ms = |part| handle.latencies().quantile(part).map_or(0.0, |latency: Duration| rounded(latency.as_secs_f64() * 1000.0));
        let (p50_ms, p99_ms) = (ms(0.5), ms(0.99));
        running.shutdown().await?;
        if status != RunStatus::Completed {
            return Err(Error::usage("a task of the measured run failed"));
        }
        Ok(Block { tasks, seconds, submit_seconds, p50_ms, p99_ms, grown_bytes })
    })?
}

/// How much memory the process holds.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

/// Replays everything, as a start after a crash does.
async fn recover(folder: &Path) -> Result<Value, Error> {
    let watch = Stopwatch::start();
    let store = Sqlite::open(folder)?;
    let mut events = 0;
    for row in store.runs(None, false, READ_MAX).await? {
        let (mut run, mut version): (Option<Run>, u64) = (None, 1);
        loop {
            let records = store.read(&row.run, version, READ_MAX).await?;
            let Some(last) = records.last() else { break };
            version = last.version + 1;
            events += records.len();
            for record in &records {
                match &mut run {
                    None => run = Run::begin(record.at, &record.event).ok(),
                    Some(run) => run.apply(record.at, &record.event).map_err(Error::engine)?,
                }
            }
        }
    }
    let seconds = watch.elapsed().as_secs_f64();
    Ok(json!({ "events": events, "seconds": rounded(seconds), "events_per_second": (events as f64 / seconds).round() }))
}
