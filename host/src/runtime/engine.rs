//! The engine and its allocator, and the thread that moves its epoch.
//!
//! One engine serves a process. Guests' instances come from a pool whose pages stay resident between uses (2.5 times
//! cheaper than mapping them anew, see `sandhog bench`); where address space is too short for the pool, from the
//! operating system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy};

use super::limits;
use super::{Allocator, Error, Settings};

/// How often guests are made to yield, so that one that spins never owns a thread.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// How often it is where nobody waits for its thread but the timer of its own deadline. A thread that wakes each millisecond in each of some
/// busy processes was seen to make Linux hold up others for seconds.
const TICK_ALONE: Duration = Duration::from_millis(10);
/// How many ticks the ticker goes on with nothing to tick for, before it sleeps: waking it costs a system call.
const IDLE_TICKS: u32 = 100;
/// How much of a memory and of a table stays resident in the pool for the next instance.
const KEEP_RESIDENT_BYTES: usize = 2 << 20;
/// The largest memory that 32 bits address; a larger `memory` limit is for several of them.
const WASM32_BYTES_MAX: u64 = 4 << 30;
/// What host functions may use of the stack beside the guest's.
const HOST_STACK_BYTES: usize = 512 << 10;

/// The engine for some settings, and whether it has a pool.
pub(super) fn engine(settings: &Settings) -> Result<(Engine, bool), Error> {
    let config = config(settings.stack_bytes);
    if settings.allocator == Allocator::OnDemand {
        return Ok((Engine::new(&config).map_err(Error::engine)?, false));
    }
    match Engine::new(&pooled(config.clone(), settings)) {
        Ok(engine) => Ok((engine, true)),
        Err(error) if settings.allocator == Allocator::Pooling => Err(Error::engine(error)),
        Err(error) => {
            tracing::warn!(reason = %error, "no address space for a pool of instances; each is mapped on its own, which is slower");
            Ok((Engine::new(&config).map_err(Error::engine)?, false))
        }
    }
}

fn config(stack_bytes: usize) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true) // equal runs give equal bits
        .relaxed_simd_deterministic(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(stack_bytes)
        .async_stack_size(stack_bytes + HOST_STACK_BYTES)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_multi_memory(true) // what joins two components has the memories of both
        .shared_memory(false)
        .memory_init_cow(true);
    config
}

fn pooled(mut config: Config, settings: &Settings) -> Config {
    let slots = settings.in_flight;
    let per_slot = |count: usize| slots.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(per_slot(limits::INSTANCES_MAX))
        .total_memories(per_slot(limits::MEMORIES_MAX))
        .total_tables(per_slot(limits::TABLES_MAX))
        .total_stacks(slots)
        .max_core_instances_per_component(u32::try_from(limits::INSTANCES_MAX).unwrap_or(u32::MAX))
        .max_memories_per_module(u32::try_from(limits::MEMORIES_MAX).unwrap_or(u32::MAX))
        .max_memories_per_component(u32::try_from(limits::MEMORIES_MAX).unwrap_or(u32::MAX))
        .max_tables_per_component(u32::try_from(limits::TABLES_MAX).unwrap_or(u32::MAX))
        .max_tables_per_module(u32::try_from(limits::TABLES_MAX).unwrap_or(u32::MAX))
        .table_elements(limits::TABLE_ELEMENTS_MAX)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .max_memory_size(usize::try_from(settings.memory_max_bytes.min(WASM32_BYTES_MAX)).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto)
        .decommit_batch_size(1)
        .max_unused_warm_slots(settings.threads as u32 * 8);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Counts live instances, and wakes the ticker for the first.
#[derive(Debug)]
pub(super) struct Gauge {
    live: AtomicUsize,
    asleep: AtomicBool,
    ticker: std::sync::OnceLock<std::thread::Thread>,
}

impl Gauge {
    /// How many instances are alive.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// Counts one instance for as long as the guard lives.
    pub(super) fn enter(self: &Arc<Self>) -> Alive {
        self.live.fetch_add(1, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(ticker) = self.ticker.get()
        {
            ticker.unpark();
        }
        Alive(Arc::clone(self))
    }
}

/// One live instance.
pub(super) struct Alive(Arc<Gauge>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The thread that moves the epoch. Stopped, and waited for, when dropped.
pub(super) struct Ticker {
    gauge: Arc<Gauge>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts ticking for an engine, whose guests share threads or have at most one each.
    pub(super) fn start(engine: &Engine, is_shared: bool) -> Result<Self, Error> {
        let pause = if is_shared { TICK } else { TICK_ALONE };
        let gauge = Arc::new(Gauge { live: AtomicUsize::new(0), asleep: AtomicBool::new(false), ticker: std::sync::OnceLock::new() });
        let stop = Arc::new(AtomicBool::new(false));
        let (engine, gauge_there, stop_there) = (engine.weak(), Arc::clone(&gauge), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("sandhog-ticker".to_owned())
            .spawn(move || tick(&engine, pause, &gauge_there, &stop_there))
            .map_err(Error::Thread)?;
        let _ = gauge.ticker.set(thread.thread().clone());
        Ok(Self { gauge, stop, thread: Some(thread) })
    }

    pub(super) fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }
}

fn tick(engine: &wasmtime::EngineWeak, pause: Duration, gauge: &Gauge, stop: &AtomicBool) {
    let mut idle = 0;
    while !stop.load(Ordering::SeqCst) {
        std::thread::park_timeout(pause);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        idle = if gauge.live() == 0 { idle + 1 } else { 0 };
        if idle > IDLE_TICKS {
            drop(engine);
            gauge.asleep.store(true, Ordering::SeqCst);
            // An instance that came between the count and the flag has not seen the flag: look again before sleeping.
            while gauge.live() == 0 && gauge.asleep.load(Ordering::SeqCst) && !stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            gauge.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
