//! The floor under what a task can cost: bare wasmtime, on the same engine, pool and component, with nothing left out that
//! the sandbox needs (fresh store, WASI, memory limit, fuel, epoch, typed asynchronous call) and nothing of sandhog's.
//!
//! For `sandhog bench` alone: the other side of its ratios.

use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::{self, host, worker};
use super::{Error, Runtime};
use crate::model::{Limits, Task};

struct Bare {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for Bare {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl host::Host for Bare {
    fn fuel_used(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }

    fn log(&mut self, _level: host::Level, _message: String) -> wasmtime::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _fraction: f64, _note: String) -> wasmtime::Result<()> {
        Ok(())
    }

    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(false)
    }
}

/// A worker, called by bare wasmtime.
pub struct Floor {
    runtime: Runtime,
    pre: worker::WorkerPluginPre<Bare>,
}

impl Floor {
    /// A worker that [`Runtime::compile`] compiled, on the engine of a runtime.
    ///
    /// # Errors
    /// As [`Runtime::load`].
    pub fn new(runtime: &Runtime, compiled: &[u8]) -> Result<Self, Error> {
        let engine = &runtime.inner.engine;
        let link = |error: wasmtime::Error| Error::Link(format!("{error:#}"));
        #[expect(unsafe_code, reason = "as in `Runtime::load`")]
        // SAFETY: the bytes are the output of `compile`.
        let component = unsafe { Component::deserialize(engine, compiled) }.map_err(|error| Error::Compiled(format!("{error:#}")))?;
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(link)?;
        host::add_to_linker::<Bare, HasSelf<Bare>>(&mut linker, |state| state).map_err(link)?;
        let pre = linker.instantiate_pre(&component).and_then(worker::WorkerPluginPre::new).map_err(link)?;
        Ok(Self { runtime: runtime.clone(), pre })
    }

    /// Runs a task so many times on each of so many threads.
    ///
    /// # Errors
    /// When an instantiation or a call fails, or there is no thread.
    pub fn run(&self, task: &Task, limits: &Limits, times: usize, threads: usize) -> Result<(), Error> {
        let _alive = self.runtime.inner.ticker.gauge().enter(); // keeps the epoch moving
        std::thread::scope(|scope| {
            let started: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.run_here(task, limits, times))).collect();
            started.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(Error::Engine("a panic".to_owned()))))
        })
    }

    fn run_here(&self, task: &Task, limits: &Limits, times: usize) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(Error::Thread)?;
        runtime.block_on(async {
            for _ in 0..times {
                self.call(task, limits).await.map_err(Error::engine)?;
            }
            Ok(())
        })
    }

    async fn call(&self, task: &Task, limits: &Limits) -> wasmtime::Result<()> {
        let memory = usize::try_from(limits.memory).unwrap_or(usize::MAX);
        let state = Bare {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
            limits: StoreLimitsBuilder::new().memory_size(memory).build(),
        };
        let mut store = Store::new(&self.runtime.inner.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(limits.fuel)?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let task = bindings::task(task.clone());
        let call = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            instance.sandhog_plugin_worker().call_run(&mut store, &task).await
        };
        let answer = tokio::time::timeout(limits.timeout, call).await??;
        let artifacts = answer.map_err(|_| wasmtime::format_err!("the worker failed"))?;
        std::hint::black_box(artifacts);
        Ok(())
    }
}
