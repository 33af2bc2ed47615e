//! `sandhog bench --durable`: what runs cost whose journal is on disk, beside the same runs with it in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::bench::{self, BenchArguments, median, rounded};
use super::context::{Common, Context};
use super::exit::{Error, Exit};
use crate::clock::{Stopwatch, SystemClock};
use crate::journal::{self, Memory, READ_MAX, Sqlite, Store, Usage};
use crate::machine::{Run, RunStatus};
use crate::manager::{self, Crew, Options};
use crate::model::limits::show_bytes;
use crate::model::workflow::PRIORITY;
use crate::model::{Artifact, InputSource, Step, Workflow};
use crate::report::SCHEMA_VERSION;

/// How many steps the chain has.
const CHAIN: u32 = 1_000;
/// How many submit at once, where there are several runs.
const CLIENTS: usize = 64;
/// How many bytes the inputs of all tasks may have.
const INPUTS_BYTES_MAX: u64 = 2 << 30;
/// How often the disk is asked to sync.
const SYNCS: usize = 50;

/// How often each is measured where nobody says, in turns.
const ROUNDS: u32 = 3;

/// Measures, and prints.
pub fn measure(common: &Common, plugin: &str, arguments: &BenchArguments) -> Result<Exit, Error> {
    let (tasks, runs, rounds) = (arguments.tasks, arguments.runs, arguments.blocks.unwrap_or(ROUNDS));
    if runs > tasks {
        return Err(Error::usage(format!("--runs {runs} are more than there are tasks ({tasks}): each run has one at least")));
    }
    let bytes = u64::from(tasks.max(CHAIN)) * u64::from(arguments.input_bytes);
    if bytes > INPUTS_BYTES_MAX {
        let (asked, most) = (show_bytes(bytes), show_bytes(INPUTS_BYTES_MAX));
        return Err(Error::usage(format!("the inputs would have {asked}, and are in memory at once: at most {most}"))
            .help("less of --tasks or --input-bytes"));
    }
    let context = common.open(None)?;
    bench::try_out(&context, plugin, arguments.input_bytes)?;
    // On the disk that journals are on.
    let beside = common.state_folder()?;
    let beside = beside.parent().unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".sandhog-bench-").tempdir_in(beside);
    let folder = folder.map_err(|error| Error::usage(format!("{}: {error}", beside.display())))?;
    remove_when_told_to_end(folder.path().to_owned());
    let sync_ms = sync_ms(folder.path())?;
    let mut measured = Measured::default();
    let (mut usage, mut commits) = (Usage::default(), 0);
    let bar = bench::bar(3 * rounds + 2);
    for round in 0..rounds {
        measured.memory.push(block(&context, Arc::new(Memory::default()), None, fan_out(plugin, arguments))?);
        bar.inc(1);
        let (own, alone) = (folder.path().join("fan-out"), folder.path().join("alone"));
        for folder in [&own, &alone] {
            if folder.exists() {
                std::fs::remove_dir_all(folder).map_err(|error| Error::engine(format!("{}: {error}", folder.display())))?;
            }
        }
        let store = Arc::new(Sqlite::open(&own)?);
        measured.durable.push(block(&context, Arc::<Sqlite>::clone(&store), Some(&own), fan_out(plugin, arguments))?);
        commits = store.commits();
        drop(store);
        bar.inc(1);
        measured.alone.push(journal::rewrite(&own, &alone, commits)?.as_secs_f64());
        bar.inc(1);
        if round + 1 == rounds {
            usage = Sqlite::open(&own)?.usage()?;
        }
    }
    let chain_folder = folder.path().join("chain");
    let chained = block(&context, Arc::new(Sqlite::open(&chain_folder)?), Some(&chain_folder), chain(plugin, arguments.input_bytes))?;
    bar.inc(1);
    let recovery = super::block_on(recover(&folder.path().join("fan-out")))??;
    bar.finish_and_clear();
    let report = json!({
        "schema_version": SCHEMA_VERSION,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get),
        "tasks": tasks,
        "runs": runs,
        "input_bytes": arguments.input_bytes,
        "rounds": rounds,
        "sync_ms": sync_ms,
        "durable": to_json(&measured.durable, Some(usage.file_bytes)),
        "memory": to_json(&measured.memory, None),
        "sqlite_alone": {
            "records": usage.records,
            "blobs": usage.blobs,
            "commits": commits,
            "seconds": rounded(median(&measured.alone)),
            "tasks_per_second": (f64::from(tasks) / median(&measured.alone)).round(),
        },
        "durable_over_memory": measured.durable_over_memory(),
        "throughput_over_sqlite_alone": measured.over_alone(),
        "throughput_over_sqlite_alone_least": rounded(measured.over_alone_each().fold(f64::MAX, f64::min)),
        "throughput_over_sqlite_alone_most": rounded(measured.over_alone_each().fold(0.0, f64::max)),
        "chain": {
            "steps": CHAIN,
            "seconds": rounded(chained.seconds),
            "steps_per_second": (f64::from(CHAIN) / chained.seconds).round(),
        },
        "recovery": recovery,
    });
    if arguments.json {
        outln!("{report}");
        return Ok(Exit::Passed);
    }
    outln!("a sync of this disk      {:.2} ms", report["sync_ms"].as_f64().unwrap_or_default());
    for (name, told) in [("journal on disk", &report["durable"]), ("journal in memory", &report["memory"])] {
        outln!(
            "{name:<24} {} tasks/s; dispatch p50 {} ms, p99 {} ms; {}memory grew by {}",
            told["tasks_per_second"],
            told["dispatch_ms"]["p50"],
            told["dispatch_ms"]["p99"],
            told["journal_bytes_per_task"].as_u64().map(|bytes| format!("{bytes} bytes a task; ")).unwrap_or_default(),
            show_bytes(told["memory_grown_bytes"].as_u64().unwrap_or_default()),
        );
    }
    outln!(
        "SQLite alone             {} tasks/s: {} records and {} blobs in {commits} transactions, as in the run; the run does {} of that",
        report["sqlite_alone"]["tasks_per_second"],
        usage.records,
        usage.blobs,
        report["throughput_over_sqlite_alone"],
    );
    outln!("a chain of {CHAIN} steps    {:.0} steps/s", f64::from(CHAIN) / chained.seconds);
    outln!(
        "recovery                 {} events in {:.2} s",
        report["recovery"]["events"],
        report["recovery"]["seconds"].as_f64().unwrap_or_default()
    );
    Ok(Exit::Passed)
}

/// Removes a folder when the process is told to end, and ends it.
fn remove_when_told_to_end(folder: PathBuf) {
    std::thread::spawn(move || {
        let told = super::block_on(async {
            let mut terminated = signal(SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminated.recv() => Ok(()),
            }
        });
        // Without signals there is nothing to wait for. Who still writes there may have another file made while it is removed.
        if let Ok(Ok(())) = told {
            while std::fs::remove_dir_all(&folder).is_err_and(|error| error.kind() == std::io::ErrorKind::DirectoryNotEmpty) {}
            std::process::exit(Exit::Interrupted as i32);
        }
    });
}

/// What was measured, a value for each round; those of one round are neighbours.
#[derive(Default)]
struct Measured {
    memory: Vec<Block>,
    durable: Vec<Block>,
    /// Seconds.
    alone: Vec<f64>,
}

impl Measured {
    fn durable_over_memory(&self) -> f64 {
        let pairs: Vec<f64> = self.durable.iter().zip(&self.memory).map(|(durable, memory)| durable.seconds / memory.seconds).collect();
        rounded(median(&pairs))
    }

    fn over_alone_each(&self) -> impl Iterator<Item = f64> + '_ {
        self.durable.iter().zip(&self.alone).map(|(durable, alone)| alone / durable.seconds)
    }

    fn over_alone(&self) -> f64 {
        rounded(median(&self.over_alone_each().collect::<Vec<_>>()))
    }
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
    /// From the first submission to the end of the last run.
    seconds: f64,
    /// How much of that the submissions took.
    submit_seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// From the submission of a run to its end.
    run_p50_ms: f64,
    run_p99_ms: f64,
    /// By how much the process's memory grew from the submission to the end.
    grown_bytes: u64,
}

/// Blocks of one kind: the medians.
fn to_json(blocks: &[Block], file_bytes: Option<u64>) -> Value {
    let of = |value: fn(&Block) -> f64| rounded(median(&blocks.iter().map(value).collect::<Vec<_>>()));
    let tasks = blocks.first().map_or(1, |block| block.tasks);
    json!({
        "tasks_per_second": (f64::from(tasks) / of(|block| block.seconds)).round(),
        "seconds": of(|block| block.seconds),
        "seconds_least": rounded(blocks.iter().map(|block| block.seconds).fold(f64::MAX, f64::min)),
        "seconds_most": rounded(blocks.iter().map(|block| block.seconds).fold(0.0, f64::max)),
        "submit_seconds": of(|block| block.submit_seconds),
        "dispatch_ms": { "p50": of(|block| block.p50_ms), "p99": of(|block| block.p99_ms) },
        "run_ms": { "p50": of(|block| block.run_p50_ms), "p99": of(|block| block.run_p99_ms) },
        "journal_bytes_per_task": file_bytes.map(|bytes| bytes / u64::from(tasks)),
        "memory_grown_bytes": of(|block| block.grown_bytes as f64),
    })
}

/// Runs to be submitted, each a workflow with its files.
type Work = Vec<(Workflow, Vec<Vec<Artifact>>)>;

fn workflow(steps: Vec<Step>) -> Workflow {
    Workflow { name: "bench".to_owned(), priority: PRIORITY, concurrency: None, steps }
}

/// An input that no other task has: otherwise all would share one.
fn input(number: u32, bytes: usize) -> Artifact {
    let mut content = number.to_string().into_bytes();
    content.resize(bytes, b' ');
    Artifact { name: number.to_string(), media_type: String::new(), content: content.into() }
}

/// So many tasks, in so many runs.
fn fan_out(plugin: &str, arguments: &BenchArguments) -> Work {
    let &BenchArguments { tasks, runs, input_bytes, .. } = arguments;
    let step = Step { inputs: vec![InputSource::Files("*".to_owned())], foreach: true, ..Step::new("bench", plugin) };
    let of_run = |run: u32| tasks / runs + u32::from(run < tasks % runs);
    let mut numbers = 0..tasks;
    let mut files = |count: u32| numbers.by_ref().take(count as usize).map(|n| input(n, input_bytes as usize)).collect();
    (0..runs).map(|run| (workflow(vec![step.clone()]), vec![files(of_run(run))])).collect()
}

fn chain(plugin: &str, input_bytes: u32) -> Work {
    let step = |n: u32| Step {
        needs: n.checked_sub(1).map(|before| format!("s{before}")).into_iter().collect(),
        inputs: vec![InputSource::Files("*".to_owned())],
        ..Step::new(format!("s{n}"), plugin)
    };
    vec![(workflow((0..CHAIN).map(step).collect()), (0..CHAIN).map(|n| vec![input(n, input_bytes as usize)]).collect())]
}

fn block(context: &Context, store: Arc<dyn Store>, folder: Option<&Path>, work: Work) -> Result<Block, Error> {
    let tasks_of =
        |(workflow, files): &(Workflow, Vec<Vec<Artifact>>)| workflow.steps.len().max(files.iter().map(Vec::len).max().unwrap_or(1));
    let tasks = work.iter().map(tasks_of).sum::<usize>() as u32;
    super::block_on(async move {
        let crew = Arc::new(Crew::new(context.runtime.clone(), Arc::clone(&context.registry)));
        let options = match folder {
            Some(folder) => Options::in_folder(context.concurrency, folder)?,
            None => Options::in_memory(context.concurrency),
        };
        let (handle, running) = manager::start(store, crew, Arc::new(SystemClock), options).await?;
        let submitting = Stopwatch::start();
        let before = resident_bytes();
        let submissions = work.into_iter().map(|(workflow, files)| {
            let handle = handle.clone();
            async move {
                let (submitted, run) = (Stopwatch::start(), handle.submit(workflow, files, None).await?);
                Ok::<_, manager::Error>(tokio::spawn(async move { handle.wait(run).await.map(|status| (status, submitted.elapsed())) }))
            }
        });
        let waiting: Vec<_> = stream::iter(submissions).buffered(CLIENTS).try_collect().await?;
        let submit_seconds = submitting.elapsed().as_secs_f64();
        let mut run_ms = Vec::with_capacity(waiting.len());
        for waiting in waiting {
            let (status, took) = waiting.await.map_err(Error::engine)??;
            if status != RunStatus::Completed {
                return Err(Error::usage("a task of the measured run failed"));
            }
            run_ms.push(took.as_secs_f64() * 1000.0);
        }
        let seconds = submitting.elapsed().as_secs_f64();
        let grown_bytes = resident_bytes().saturating_sub(before);
        let ms = |part| handle.latencies().quantile(part).map_or(0.0, |latency: Duration| rounded(latency.as_secs_f64() * 1000.0));
        let (p50_ms, p99_ms) = (ms(0.5), ms(0.99));
        running.shutdown().await?;
        run_ms.sort_by(f64::total_cmp);
        let run_p99_ms = run_ms.get((run_ms.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
        Ok(Block { tasks, seconds, submit_seconds, p50_ms, p99_ms, run_p50_ms: median(&run_ms), run_p99_ms, grown_bytes })
    })?
}

/// How much memory the process holds.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}

/// Replays the runs that are listed first, as a start after a crash does.
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
