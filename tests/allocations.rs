//! How often a task allocates, through the library, in a run whose journal is in memory, and in a durable one: counted over the whole
//! process, wasmtime and SQLite's Rust side included. Prints the counts, and bounds them well above what they are: a change that doubles
//! them is noticed.

use std::alloc::System;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sandhog::clock::SystemClock;
use sandhog::journal::{Memory, Sqlite, Store};
use sandhog::machine::RunStatus;
use sandhog::manager::{self, Crew, Options};
use sandhog::model::workflow::PRIORITY;
use sandhog::model::{Artifact, InputSource, Step, Task, Workflow};
use sandhog::registry::{Registry, compiler::Compiler};
use sandhog::runtime::{Call, Runtime, Settings};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TASKS: usize = 2_000;
/// How often a task may allocate.
const LIBRARY_MAX: usize = 100;
const RUN_MAX: usize = 165;
const DURABLE_MAX: usize = 170;

fn input(name: String) -> Artifact {
    Artifact { name, media_type: String::new(), content: Bytes::from_static(&[b'x'; 100]) }
}

#[track_caller]
fn told(what: &str, stats: Stats, max: usize) {
    let (count, bytes) = ((stats.allocations + stats.reallocations) / TASKS, stats.bytes_allocated / TASKS);
    println!("allocations of {what}: {count} in {bytes} bytes");
    assert!(count > 0 && count <= max, "{what}: {count} allocations, and {max} are allowed");
}

async fn run(runtime: &Runtime, registry: &Arc<Registry>, store: Arc<dyn Store>) {
    let crew = Arc::new(Crew::new(runtime.clone(), Arc::clone(registry)));
    let (handle, running) = manager::start(store, crew, Arc::new(SystemClock), Options::in_memory(4)).await.expect("starts");
    let step = Step { inputs: vec![InputSource::Files("*".to_owned())], foreach: true, ..Step::new("s", "echo") };
    let workflow = Workflow { name: "w".to_owned(), priority: PRIORITY, concurrency: None, steps: vec![step] };
    let files = vec![(0..TASKS).map(|n| input(n.to_string())).collect()];
    let run = handle.submit(workflow, files, None).await.expect("accepted");
    assert_eq!(handle.wait(run).await.expect("ends"), RunStatus::Completed);
    running.shutdown().await.expect("ends");
}

#[test]
fn a_task_allocates_little() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/plugins");
    let runtime = Runtime::new(Settings::default()).expect("a runtime");
    let settings = sandhog::config::Settings { plugins: vec![plugins], ..sandhog::config::Settings::default() };
    let today = "2026-01-01".parse().expect("a day");
    let registry = Arc::new(Registry::open(runtime.clone(), None, Compiler::InProcess, settings, today));
    let loaded = registry.load(&registry.find("echo").expect("run scripts/plugins first")).expect("loads");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio.block_on(async {
        let task = Task { attempt: 1, params: "{}".into(), inputs: vec![input("in".to_owned())], ..Task::default() };
        let call = Call { limits: loaded.limits, grant: Arc::clone(&loaded.grant), ..Call::default() };
        for round in 0..2 {
            let region = Region::new(ALLOCATOR);
            for _ in 0..TASKS {
                runtime.run(&loaded.plugin, task.clone(), call.clone()).await.result.expect("an answer");
            }
            if round > 0 {
                told("a task through the library", region.change(), LIBRARY_MAX);
            }
        }
        for round in 0..2 {
            let region = Region::new(ALLOCATOR);
            run(&runtime, &registry, Arc::new(Memory::default())).await;
            if round > 0 {
                told("a task of a run in memory", region.change(), RUN_MAX);
            }
        }
        for round in 0..2 {
            let folder = tempfile::tempdir().expect("a folder");
            let store = Arc::new(Sqlite::open(folder.path()).expect("a journal"));
            let region = Region::new(ALLOCATOR);
            run(&runtime, &registry, store).await;
            if round > 0 {
                told("a task of a durable run", region.change(), DURABLE_MAX);
            }
        }
    });
}
