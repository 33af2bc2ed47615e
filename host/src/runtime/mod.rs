//! All of wasmtime: one engine, one linker, and attempts in fresh stores whose every limit is enforced.
//!
//! The invariant: [`Runtime::run`] and [`Runtime::check`] are total. Whatever a guest does, they return an outcome of
//! the closed set by the deadline and a moment, the instance is gone, and nothing of the host has grown. They know of
//! no journal, no retries, no plugin folder.
//!
//! Guests run on a tokio runtime of their own (`docs/adr/0003-guest-threads.md`): they are made to yield at every tick of
//! the epoch, so that spinning guests share the cores fairly; the caller's runtime, timers and sockets never see them.
//! Time spent in host calls, which the epoch does not cover, is bounded by a timer around the whole attempt.

mod attempt;
mod bindings;
mod capture;
mod command;
mod engine;
mod filesystem;
mod floor;
mod isolation;
mod limits;
mod linker;
mod outbound;
mod plugin;
mod preinitialize;
mod state;
mod time;
mod trap;
mod warm;

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::model::{Grant, Limits};
use crate::threads::Pool;

pub use attempt::{Call, input_refusal};
pub use floor::Floor;
pub use isolation::{Trial, guest::serve as serve_isolated, trials};
pub(crate) use limits::TABLE_ELEMENTS_MAX;
pub use linker::{CONTRACT_VERSION, WASI_INTERFACES};
pub use plugin::{Command, CommandFindings, CommandPass, CommandProtocol, Kind, Plugin};
pub use state::Progress;

/// The environment of a process of ours whose memory the kernel counts: has its allocator take what it needs when it needs it, where it
/// would take a gibibyte ahead, before there is a limit.
pub(crate) const TAKES_AS_NEEDED: (&str, &str) = ("MIMALLOC_DISALLOW_ARENA_ALLOC", "1");
/// How much memory is counted in one permit of the memory budget.
const MEMORY_PERMIT_BYTES: u64 = 64 * 1024;
/// How many descriptors a process must be able to open, to be a host.
const DESCRIPTORS_MIN: u64 = 256;
/// How many threads there are at most for guests' files. Files that hang (of a network that is gone, say) hold them; other guests' files wait then, for
/// as long as their deadlines let them.
const BLOCKING_MAX: usize = 48;
/// How many threads there are at most for what the host has to wait for: attempts that want the same plugin wait for one of them to compile it.
const ASIDE_MAX: usize = 512;
/// How long a shutdown waits for host calls that block a thread (a file system that hangs), before it leaves them.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Where instances live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocator {
    /// In a pool; from the operating system where there is no address space for one.
    Auto,
    /// In a pool, or not at all.
    Pooling,
    /// Each mapped from the operating system.
    OnDemand,
}

/// What a runtime is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that run guests. Default: the number of cores.
    pub threads: usize,
    /// Instances alive at once, running or waiting in a host call. Further attempts wait for a place, outside their
    /// deadline. Default: 1,000.
    pub in_flight: u32,
    /// The sum of the `memory` limits of all live instances, in bytes. Further attempts wait. Default: 8 GiB.
    pub memory_total_bytes: u64,
    /// The largest `memory` limit there may be, in bytes. Default: that of [`Limits::CEILING`].
    pub memory_max_bytes: u64,
    /// The descriptors that live instances may have open together: those which are granted files, or requests. Further attempts wait.
    /// Default: half of what this process may open; the other half is for its journal, and for who is connected to it.
    pub descriptors: Option<u32>,
    /// The guest's call stack, in bytes. Default: 512 KiB.
    pub stack_bytes: usize,
    /// Threads for host calls that block, such as those for files. Default: as many as are needed, 48 at the most; where it is
    /// set, they are started at once and kept.
    pub blocking_threads: Option<usize>,
    /// Where instances live.
    pub allocator: Allocator,
    /// The program, sandhog itself, whose processes run the guests: one process for each attempt, walled in by the kernel. Without
    /// one they run in this process. Nothing is reused then, whatever is granted.
    pub isolate: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            in_flight: 1_000,
            memory_total_bytes: 8 << 30,
            memory_max_bytes: Limits::CEILING.memory,
            descriptors: None,
            stack_bytes: 512 << 10,
            blocking_threads: None,
            allocator: Allocator::Auto,
            isolate: None,
        }
    }
}

/// Why a runtime cannot be made, or a component not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// wasmtime refuses the configuration, or the machine does.
    #[error("failed to make the engine: {0}")]
    Engine(String),
    /// This process may not open enough files.
    #[error(
        "failed to find room for guests: this process may open {found} files at once, and {needed} are needed; raise it (`ulimit -n {needed}`)"
    )]
    Descriptors {
        /// How many it may open.
        found: u64,
        /// How many it must be able to open at the least.
        needed: u64,
    },
    /// No thread or runtime could be made.
    #[error("failed to start a thread")]
    Thread(#[source] std::io::Error),
    /// A wall around the processes of guests does not hold on this machine.
    #[error("failed to isolate guests: {0}")]
    Isolation(String),
    /// The component does not compile, or would take more for it than it may.
    #[error("failed to compile the component: {0}")]
    Compile(String),
    /// The compiler could not be started. Trying again may help.
    #[error("failed to start the compiler: {0}")]
    Compiler(String),
    /// The compiled code is of another engine or version, or is damaged. Compiling anew helps.
    #[error("failed to load compiled code: {0}")]
    Compiled(String),
    /// Imports that nothing provides, or exports of the wrong type.
    #[error("failed to link the component: {0}")]
    Link(String),
    /// The component cannot be started ahead.
    #[error("failed to initialize the component ahead: {0}")]
    Initialize(String),
    /// It exports nothing that sandhog calls.
    #[error("the component exports neither a worker, nor a gate, nor a command")]
    NoEntry,
}

impl Error {
    fn engine(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }
}

/// The sandbox. Cheap to clone; the last clone stops its threads.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    stack_bytes: usize,
    linker: Linker<state::State>,
    pooled: bool,
    ticker: engine::Ticker,
    warm: Arc<warm::Warm>,
    /// What all attempts share.
    all: warm::Share,
    guests: Option<tokio::runtime::Runtime>,
    outbound: Arc<outbound::Outbound>,
    processes: Option<isolation::Processes>,
    aside: Pool,
}

impl Runtime {
    /// Makes the engine and starts its threads.
    ///
    /// # Errors
    /// When wasmtime refuses the settings, or the machine has no thread left.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let (engine, pooled) = engine::engine(&settings)?;
        Self::assemble(&settings, engine, pooled, outbound::Outbound::default())
    }

    /// Starts the threads of an engine.
    fn assemble(settings: &Settings, engine: Engine, pooled: bool, outbound: outbound::Outbound) -> Result<Self, Error> {
        let processes = settings.isolate.clone().map(isolation::Processes::new).transpose()?;
        let linker = linker::linker(&engine).map_err(Error::engine)?;
        let ticker = engine::Ticker::start(&engine, settings.in_flight > 1 && processes.is_none())?;
        let mut guests = tokio::runtime::Builder::new_multi_thread();
        guests
            .worker_threads(settings.threads.max(1))
            .thread_name("sandhog-guest")
            // Timers are looked at after so many polls; each may take a whole tick when guests spin.
            .event_interval(8)
            .max_blocking_threads(BLOCKING_MAX)
            .enable_time();
        if let Some(blocking) = settings.blocking_threads {
            guests.max_blocking_threads(blocking.max(1)).thread_keep_alive(Duration::from_secs(365 * 24 * 60 * 60));
        }
        let guests = guests.build().map_err(Error::Thread)?;
        if let Some(blocking) = settings.blocking_threads {
            let all = Arc::new(std::sync::Barrier::new(blocking.max(1) + 1));
            for _ in 0..blocking.max(1) {
                let all = Arc::clone(&all);
                guests.spawn_blocking(move || all.wait());
            }
            all.wait();
        }
        let memory_permits = u32::try_from(settings.memory_total_bytes / MEMORY_PERMIT_BYTES)
            .unwrap_or(u32::MAX)
            .min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX))
            .max(1);
        let all = warm::Share { memory: memory_permits, descriptors: settings.descriptors.map_or_else(descriptors, Ok)? };
        let permits_max = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let all = warm::Share { descriptors: all.descriptors.min(permits_max), ..all };
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                stack_bytes: settings.stack_bytes,
                linker,
                pooled,
                ticker,
                warm: Arc::new(warm::Warm::new(settings.in_flight.max(1) as usize, all)),
                all,
                guests: Some(guests),
                outbound: Arc::new(outbound),
                processes,
                aside: Pool::new("sandhog-aside", ASIDE_MAX),
            }),
        })
    }

    /// How many instances are alive now. Zero when nothing runs: the leak guard.
    #[must_use]
    pub fn live_instances(&self) -> usize {
        self.inner.ticker.gauge().live()
    }

    /// The sum of the memory that the instances which are alive may take by their limits, in bytes.
    #[must_use]
    pub fn reserved_memory_bytes(&self) -> u64 {
        let free = self.inner.warm.free_memory_permits() as u64;
        u64::from(self.inner.all.memory).saturating_sub(free) * MEMORY_PERMIT_BYTES
    }

    /// How many instances wait for the next task of their worker, where it is granted to keep them.
    #[must_use]
    pub fn idle_instances(&self) -> usize {
        self.inner.warm.count()
    }

    /// Whether each attempt has a process of its own.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.inner.processes.is_some()
    }

    /// Whether instances live in a pool.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.inner.pooled
    }

    /// Runs a caller's own work on the guests' threads, for whoever has many attempts to make: attempts that are awaited
    /// there need no hop from thread to thread, which costs as much as a small task. The work must not block.
    ///
    /// # Errors
    /// The task's outcome is a [`tokio::task::JoinError`] when it panics, or when the runtime has been shut down.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
        self.threads().spawn(work)
    }

    /// Does what the host has to wait for, on threads that guests do not have: reading and compiling a plugin, say.
    pub fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
        self.inner.aside.run(work)
    }

    /// The threads that run guests.
    #[must_use]
    pub fn threads(&self) -> &tokio::runtime::Handle {
        self.inner.guests.as_ref().expect("taken only when the runtime is dropped").handle()
    }

    /// What compiled code depends on beside the component: engine configuration, version and processor. Part of the key
    /// under which it is cached.
    #[must_use]
    pub fn compatibility(&self) -> String {
        use std::hash::{Hash as _, Hasher as _};
        // The standard hasher's keys are fixed when it is made this way, so the value is the same in every process.
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        self.inner.engine.precompile_compatibility_hash().hash(&mut hasher);
        format!("{:016x}-{}", hasher.finish(), env!("CARGO_PKG_VERSION"))
    }

    /// The guest's call stack, in bytes. Compiled code depends on it.
    #[must_use]
    pub fn stack_bytes(&self) -> usize {
        self.inner.stack_bytes
    }

    /// Compiles a component to native code, in this process and thread, with no bound on what that takes.
    ///
    /// # Errors
    /// When the bytes are no component that this engine takes.
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>, Error> {
        compile(&self.inner.engine, component)
    }
}

/// How many descriptors there are for guests.
fn descriptors() -> Result<u32, Error> {
    let found = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    if found < DESCRIPTORS_MIN {
        return Err(Error::Descriptors { found, needed: DESCRIPTORS_MIN });
    }
    Ok(u32::try_from(found / 2).unwrap_or(u32::MAX))
}

/// Compiles a component as [`Runtime::compile`] does, without a runtime: for a process that does nothing else.
///
/// # Errors
/// As for [`Runtime::compile`].
pub fn compile_alone(stack_bytes: usize, component: &[u8]) -> Result<Vec<u8>, Error> {
    let settings = Settings { stack_bytes, allocator: Allocator::OnDemand, ..Settings::default() };
    compile(&engine::engine(&settings)?.0, component)
}

fn compile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, Error> {
    // A defect of the compiler is one file's, and not the end of the host: it keeps nothing between two calls.
    std::panic::catch_unwind(AssertUnwindSafe(|| engine.precompile_component(component)))
        .map_err(|_| Error::Compile("the compiler panicked on it: please report it with the component".to_owned()))?
        .map_err(|error| Error::Compile(format!("{error:#}")))
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(guests) = self.guests.take() {
            if tokio::runtime::Handle::try_current().is_ok_and(|current| current.id() == guests.handle().id()) {
                // The last of its users is a guest's own thread, which cannot wait for itself.
                return guests.shutdown_background();
            }
            // Never by drop: that waits without end for a thread that a host call blocks, and may not happen where
            // the caller is itself asynchronous.
            std::thread::scope(|scope| {
                scope.spawn(|| guests.shutdown_timeout(SHUTDOWN_GRACE));
            });
        }
    }
}

/// What a caller may do to a call of its own: cancel it.
pub type Cancel = CancellationToken;

/// A call with nothing granted and the default limits.
impl Default for Call {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            grant: Arc::new(Grant::default()),
            cancel: CancellationToken::new(),
            progress: None,
            looks: None,
            canned: None,
        }
    }
}
