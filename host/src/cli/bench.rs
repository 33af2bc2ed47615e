//! `sandhog bench`: what a task costs.
//!
//! Several ways to do the same tasks, in blocks that take turns within one process, so that whatever else the machine does
//! hits all of them alike: bare wasmtime, the library's sandbox (with fresh instances, and with one that is kept), and a
//! workflow run. Processor time is what counts; the ratios are medians over neighbouring blocks, and the spread is told
//! with them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::context::{Common, Context, Isolate};
use super::exit::{Error, Exit};
use crate::clock::{Stopwatch, SystemClock, process_cpu_time};
use crate::journal::Memory;
use crate::machine::RunStatus;
use crate::manager::{self, Crew, Options};
use crate::model::capability::REUSE_MAX;
use crate::model::workflow::PRIORITY;
use crate::model::{Artifact, Failure, Grant, InputSource, Limits, Step, Task, Workflow};
use crate::registry::{self, Loaded, intake};
use crate::report::SCHEMA_VERSION;
use crate::runtime::{Call, Floor, Kind};

/// How many blocks there are of each kind where nobody says.
const BLOCKS: u32 = 11;
/// How large the one input of each task is, in bytes.
const INPUT_BYTES: u32 = 100;
/// How many attempts are under way at once for each thread: so that a thread never waits for its next task.
const UNDER_WAY: usize = 4;
/// For how long guests spin while the delay of a timer is measured.
const SPIN: Duration = Duration::from_secs(1);

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Processor time is compared, in blocks that take turns. The ratios are what to look at: times depend on the\n\
machine and on what else it does.\n\nExamples:\n  sandhog bench --json | jq .ratios\n  sandhog bench --durable --tasks 100000 --json | jq .durable")]
pub struct BenchArguments {
    /// The worker to measure with: its name, or a path to a component; it gets one input of 100 bytes
    #[arg(long, value_name = "PLUGIN", default_value = "echo")]
    plugin: String,
    /// Tasks in each block
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    pub tasks: u32,
    /// Blocks of each kind [default: 11; with --durable 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub blocks: Option<u32>,
    /// Measure runs with the journal on disk, beside it in memory, and beside SQLite that writes the same rows alone: tasks a
    /// second, dispatch, bytes, recovery
    #[arg(long)]
    durable: bool,
    /// With --durable: over how many runs, submitted by 64 clients at once, the tasks are spread
    #[arg(long, value_name = "N", default_value_t = 1, requires = "durable", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub runs: u32,
    /// With --durable: how large the input of each task is; each has its own
    #[arg(long, value_name = "BYTES", default_value_t = 100, requires = "durable", value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub input_bytes: u32,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Measures.
pub fn bench(common: &Common, mut arguments: BenchArguments) -> Result<Exit, Error> {
    let mut common = common.clone();
    let alone = tempfile::tempdir().map_err(Error::engine)?;
    // A path is looked up at each call: that is not what is measured here.
    if registry::is_path(&arguments.plugin) {
        let name = common.open(Some(1))?.registry.find(&arguments.plugin)?.name.clone();
        // And what lies beside it has nothing to do with that.
        let copied = |of: &Path| of.file_name().map_or(Ok(()), |name| std::fs::copy(of, alone.path().join(name)).map(drop));
        let (component, manifest) = (Path::new(&arguments.plugin), Path::new(&arguments.plugin).with_extension("toml"));
        let copied = copied(component).and_then(|()| if manifest.exists() { copied(&manifest) } else { Ok(()) });
        copied.map_err(|error| Error::usage(format!("{}: {error}", component.display())))?;
        common.plugins.insert(0, alone.path().to_owned());
        arguments.plugin = name;
    }
    let common = &common;
    if arguments.durable {
        return super::bench_durable::measure(common, &arguments.plugin, &arguments);
    }
    if common.isolate(&common.settings()?) == Isolate::Process {
        let help = "measure with --isolate none; --durable measures time that passes, and works with both";
        return Err(
            Error::usage("processor time is measured of this process, and with --isolate process tasks take that of others").help(help)
        );
    }
    let kinds = 5;
    let bar = bar(2 * kinds * (1 + arguments.blocks.unwrap_or(BLOCKS)));
    let mut by_threads = Vec::new();
    let mut digest = String::new();
    for threads in [1, 2] {
        let common = Common { threads: Some(threads), concurrency: Some(threads * UNDER_WAY as u32), ..common.clone() };
        let context = common.open(None)?;
        let loaded = try_out(&context, &arguments.plugin, INPUT_BYTES)?;
        digest = loaded.entry.digest.to_string();
        by_threads.push(measure(&context, &loaded, threads as usize, &arguments, &bar)?);
    }
    bar.finish_and_clear();
    let ratio = |name: &str| by_threads.iter().map(|measured| measured.ratio(name)).fold(0.0, f64::max);
    let report = json!({
        "schema_version": SCHEMA_VERSION,
        "plugin": { "name": arguments.plugin, "digest": digest },
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get),
        "tasks_per_block": arguments.tasks,
        "blocks": arguments.blocks.unwrap_or(BLOCKS),
        "ratios": { "library_over_wasmtime": ratio("library"), "run_over_wasmtime": ratio("run") },
        "threads": by_threads.iter().map(Measured::to_json).collect::<Vec<_>>(),
        "timer_delay_under_spinning_guests_ms": timer_delay(common)?,
    });
    if arguments.json {
        outln!("{report}");
    } else {
        out!("{}", text(&by_threads, &report));
    }
    Ok(Exit::Passed)
}

/// How many blocks are done, on a terminal. It is drawn between two of them and never meanwhile: that would be measured.
pub fn bar(blocks: u32) -> ProgressBar {
    if super::is_live() { ProgressBar::new(blocks.into()) } else { ProgressBar::hidden() }
}

/// Blocks of one kind: processor and wall time for one task, in microseconds.
#[derive(Default)]
struct Blocks {
    cpu_us: Vec<f64>,
    wall_us: Vec<f64>,
}

struct Measured {
    threads: usize,
    pooled: bool,
    wasmtime: Blocks,
    library: Blocks,
    across: Blocks,
    reused: Blocks,
    run: Blocks,
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Blocks {
    fn add(&mut self, tasks: u32, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let (wall, cpu) = (Stopwatch::start(), process_cpu_time());
        work()?;
        let for_one = |duration: Duration| duration.as_secs_f64() * 1e6 / f64::from(tasks);
        self.cpu_us.push(for_one(process_cpu_time().saturating_sub(cpu)));
        self.wall_us.push(for_one(wall.elapsed()));
        Ok(())
    }

    /// How many times as much as bare wasmtime: the median over neighbouring blocks, so that what the machine does
    /// meanwhile falls out.
    fn over(&self, bare: &Self) -> f64 {
        let pairs: Vec<f64> = self.cpu_us.iter().zip(&bare.cpu_us).map(|(ours, bare)| ours / bare).collect();
        median(&pairs)
    }

    fn to_json(&self) -> Value {
        let bounds = |values: &[f64]| (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max));
        let (least, most) = bounds(&self.cpu_us);
        json!({
            "cpu_us_per_task": rounded(median(&self.cpu_us)),
            "cpu_us_per_task_least": rounded(least),
            "cpu_us_per_task_most": rounded(most),
            "tasks_per_second": (1e6 / median(&self.wall_us)).round(),
            "cores_busy": rounded(median(&self.cpu_us) / median(&self.wall_us)),
        })
    }
}

impl Measured {
    fn ratio(&self, of: &str) -> f64 {
        let blocks = if of == "run" { &self.run } else { &self.library };
        rounded(blocks.over(&self.wasmtime))
    }

    fn to_json(&self) -> Value {
        json!({
            "threads": self.threads,
            "pooled": self.pooled,
            "wasmtime": self.wasmtime.to_json(),
            "library": self.library.to_json(),
            "library_across_threads": self.across.to_json(),
            "library_reused": self.reused.to_json(),
            "run": self.run.to_json(),
            "ratios": { "library_over_wasmtime": self.ratio("library"), "run_over_wasmtime": self.ratio("run") },
        })
    }
}

/// A task with an input of so many bytes.
fn task(input_bytes: u32) -> Task {
    let content = Bytes::from(vec![b'x'; input_bytes as usize]);
    let input = Artifact { name: "input".to_owned(), media_type: String::new(), content };
    Task { attempt: 1, params: "{}".into(), inputs: vec![input], ..Task::default() }
}

/// Loads a worker, and has it do one task with an input of so many bytes: what fails then is nothing to measure.
pub fn try_out(context: &Context, plugin: &str, input_bytes: u32) -> Result<Loaded, Error> {
    let entry = context.registry.find(plugin)?;
    if entry.kind == Kind::Gate {
        return Err(Error::usage(format!("`{plugin}` is a gate, and a worker is measured")));
    }
    let loaded = context.registry.load(&entry)?;
    let task = task(input_bytes);
    let call = Call { limits: loaded.limits, grant: Arc::clone(&loaded.grant), ..Call::default() };
    let tried = super::block_on(context.runtime.run(&loaded.plugin, task, call))?;
    match tried.result {
        Ok(_) => Ok(loaded),
        Err(failure) => Err(Error::usage(format!("`{plugin}` fails on its input of {input_bytes} bytes: {failure}"))
            .help("what is measured is a worker that takes any input, as `echo` does")),
    }
}

fn measure(context: &Context, loaded: &Loaded, threads: usize, arguments: &BenchArguments, bar: &ProgressBar) -> Result<Measured, Error> {
    let bytes = intake::read(&loaded.entry.path, intake::COMPONENT_BYTES_MAX).map_err(Error::usage)?;
    let floor = Floor::new(&context.runtime, &context.runtime.compile(&bytes)?)?;
    let mut measured = Measured {
        threads,
        pooled: context.runtime.is_pooled(),
        wasmtime: Blocks::default(),
        library: Blocks::default(),
        across: Blocks::default(),
        reused: Blocks::default(),
        run: Blocks::default(),
    };
    let task = task(INPUT_BYTES);
    let input = task.inputs[0].clone();
    let tasks = arguments.tasks - arguments.tasks % threads as u32;
    let floor_block = || Ok(floor.run(&task, &loaded.limits, tasks as usize / threads, threads)?);
    let library_block = || super::block_on(library(context, loaded, 0, &task, tasks as usize, threads))?;
    let reused_block = || super::block_on(library(context, loaded, REUSE_MAX, &task, tasks as usize, threads))?;
    let across_block = || super::block_on(across(context, loaded, &task, tasks as usize, threads))?;
    let run_block = || super::block_on(workflow_run(context, arguments, &input, tasks))?;
    for round in 0..=arguments.blocks.unwrap_or(BLOCKS) {
        let add = |blocks: &mut Blocks, block: &dyn Fn() -> Result<(), Error>| {
            // The first of each warms the pool and the caches, and does not count.
            let done = if round == 0 { block() } else { blocks.add(tasks, block) };
            bar.inc(1);
            done
        };
        add(&mut measured.wasmtime, &floor_block)?;
        add(&mut measured.library, &library_block)?;
        add(&mut measured.across, &across_block)?;
        add(&mut measured.reused, &reused_block)?;
        add(&mut measured.run, &run_block)?;
    }
    Ok(measured)
}

/// Tasks by the library, awaited on the guests' threads; so many of them by one instance.
async fn library(context: &Context, loaded: &Loaded, reuse: u32, task: &Task, tasks: usize, threads: usize) -> Result<(), Error> {
    let grant = Arc::new(Grant { reuse, ..Grant::clone(&loaded.grant) });
    let call = Call { limits: loaded.limits, grant, ..Call::default() };
    let drivers = (0..threads).map(|_| {
        let (runtime, plugin, task, call) = (context.runtime.clone(), Arc::clone(&loaded.plugin), task.clone(), call.clone());
        context.runtime.spawn(async move {
            for _ in 0..tasks / threads {
                runtime.run(&plugin, task.clone(), call.clone()).await.result?;
            }
            Ok(())
        })
    });
    for driver in drivers.collect::<Vec<_>>() {
        driver.await.map_err(Error::engine)?.map_err(|failure: Failure| Error::usage(format!("the plugin failed: {failure}")))?;
    }
    Ok(())
}

/// The same, awaited on the caller's own thread: each attempt hops to a guest thread and back.
async fn across(context: &Context, loaded: &Loaded, task: &Task, tasks: usize, threads: usize) -> Result<(), Error> {
    let call = Call { limits: loaded.limits, grant: Arc::clone(&loaded.grant), ..Call::default() };
    let mut attempts = futures_util::stream::iter(0..tasks)
        .map(|_| context.runtime.run(&loaded.plugin, task.clone(), call.clone()))
        .buffer_unordered(threads * UNDER_WAY);
    while let Some(attempt) = attempts.next().await {
        attempt.result.map_err(|failure| Error::usage(format!("the plugin failed: {failure}")))?;
    }
    Ok(())
}

async fn workflow_run(context: &Context, arguments: &BenchArguments, input: &Artifact, tasks: u32) -> Result<(), Error> {
    let inputs_of = vec![InputSource::Files("*".to_owned())];
    let step = Step { inputs: inputs_of, foreach: true, ..Step::new("bench", arguments.plugin.clone()) };
    let inputs = (0..tasks).map(|n| Artifact { name: format!("input-{n}"), ..input.clone() }).collect();
    let crew = Crew::new(context.runtime.clone(), Arc::clone(&context.registry));
    let options = Options::in_memory(context.concurrency);
    let (handle, running) = manager::start(Arc::new(Memory::default()), Arc::new(crew), Arc::new(SystemClock), options).await?;
    let workflow = Workflow { name: "bench".to_owned(), priority: PRIORITY, concurrency: None, steps: vec![step] };
    let run = handle.submit(workflow, vec![inputs], None).await?;
    let status = handle.wait(run).await?;
    running.shutdown().await?;
    if status == RunStatus::Completed { Ok(()) } else { Err(Error::usage("a task of the measured run failed")) }
}

/// The longest delay of a millisecond's timer on the caller's runtime, while guests spin on every core. `None` where there is
/// no plugin `spin` to spin.
fn timer_delay(common: &Common) -> Result<Option<f64>, Error> {
    let context = common.open(None)?;
    let Ok(entry) = context.registry.find("spin") else { return Ok(None) };
    let loaded = context.registry.load(&entry)?;
    let limits = Limits { fuel: u64::MAX / 2, timeout: SPIN, ..loaded.limits };
    super::block_on(async {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let spinning = futures_util::future::join_all((0..cores * 2).map(|_| {
            let call = Call { limits, ..Call::default() };
            context.runtime.run(&loaded.plugin, Task { params: "{}".into(), ..Task::default() }, call)
        }));
        tokio::pin!(spinning);
        let mut longest = Duration::ZERO;
        loop {
            let watch = Stopwatch::start();
            let nap = Duration::from_millis(1);
            tokio::select! {
                _ = &mut spinning => break,
                () = tokio::time::sleep(nap) => longest = longest.max(watch.elapsed().saturating_sub(nap)),
            }
        }
        Some(rounded(longest.as_secs_f64() * 1000.0))
    })
}

fn text(by_threads: &[Measured], report: &Value) -> String {
    let mut text = String::from("processor time for one task, in microseconds: median (least to most)\n\n");
    for measured in by_threads {
        text.push_str(&format!("{} {}\n", measured.threads, if measured.threads == 1 { "thread" } else { "threads" }));
        for (name, blocks) in [
            ("bare wasmtime", &measured.wasmtime),
            ("library", &measured.library),
            ("…with a hop", &measured.across),
            ("…reused", &measured.reused),
            ("workflow run", &measured.run),
        ] {
            let told = blocks.to_json();
            let ratio = blocks.over(&measured.wasmtime);
            text.push_str(&format!(
                "  {name:<14} {:>7.1} ({:.1} to {:.1})   {ratio:.2} x   {} tasks/s on {:.2} cores\n",
                median(&blocks.cpu_us),
                told["cpu_us_per_task_least"].as_f64().unwrap_or_default(),
                told["cpu_us_per_task_most"].as_f64().unwrap_or_default(),
                told["tasks_per_second"],
                told["cores_busy"].as_f64().unwrap_or_default(),
            ));
        }
    }
    if let Some(delay) = report["timer_delay_under_spinning_guests_ms"].as_f64() {
        text.push_str(&format!("\nlongest delay of a timer while guests spin on every core: {delay:.1} ms\n"));
    }
    text
}
