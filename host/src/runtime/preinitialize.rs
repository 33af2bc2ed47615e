//! Components that start where their start has ended: what [Wizer](https://docs.rs/wasmtime-wizer) makes of one that
//! exports `wizer-initialize`. A gate with an engine in it starts that engine once, when it is built, and not once in each attempt.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wasmtime::component::{Component, Instance, Lift, WasmList};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use super::capture::Capture;
use super::outbound::Hooks;
use super::state::{Parts, State};
use super::{Error, Runtime};
use crate::model::{Grant, Limits};

/// The function that a component exports to be started ahead.
const INITIALIZE: &str = "wizer-initialize";

impl Runtime {
    /// Runs the function `wizer-initialize` that a component exports, with nothing granted, and makes a component of it whose memory
    /// is what that left. The function stays an export, which nothing calls: Wizer 48 would take the core module's export away and leave
    /// the component's.
    ///
    /// For code that is trusted: there is no budget.
    ///
    /// # Errors
    /// When the component does not compile or link, has no such function, or the function does not return.
    pub fn pre_initialize(&self, component: &[u8]) -> Result<Vec<u8>, Error> {
        self.threads().block_on(self.initialized(component)).map_err(|error| Error::Initialize(format!("{error:#}")))
    }

    async fn initialized(&self, component: &[u8]) -> wasmtime::Result<Vec<u8>> {
        let mut wizer = Wizer::new();
        wizer.keep_init_func(true);
        let (context, instrumented) = wizer.instrument_component(component)?;
        let code = Component::new(&self.inner.engine, instrumented)?;
        let grant = Arc::new(Grant::default());
        let capture = Capture::new(Limits::CEILING.log);
        let hooks = Hooks::new(Arc::clone(&self.inner.outbound), None, Arc::clone(&grant), INITIALIZE.to_owned(), capture.clone());
        let state = State::new(Parts {
            limits: Limits::CEILING,
            grant,
            hooks,
            cancel: CancellationToken::new(),
            progress: None,
            seed: blake3::hash(component),
            command: None,
            mounts: Vec::new(),
        })?;
        let mut store = Store::new(&self.inner.engine, state);
        store.set_fuel(u64::MAX)?;
        store.set_hostcall_fuel(usize::MAX);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        let instance = self.inner.linker.instantiate_async(&mut store, &code).await?;
        let initialize = instance
            .get_typed_func::<(), ()>(&mut store, INITIALIZE)
            .map_err(|error| error.context(format!("the component exports no function `{INITIALIZE}` without parameters and results")))?;
        let called = initialize.call_async(&mut store, ()).await;
        called.map_err(|error| error.context(format!("`{INITIALIZE}` did not return: {}", capture.stderr_tail(20).join("\n"))))?;
        wizer.snapshot_component(&context, &mut Initialized { store, instance }).await
    }
}

/// An instance whose initialization has ended.
struct Initialized {
    store: Store<State>,
    instance: Instance,
}

impl Initialized {
    /// Calls a function that Wizer has put into the component.
    async fn get<R: Lift + 'static>(&mut self, interface: &str, name: &str) -> R {
        let accessor = || -> Option<_> {
            let (_, interface) = self.instance.get_export(&mut self.store, None, interface)?;
            let (_, function) = self.instance.get_export(&mut self.store, Some(&interface), name)?;
            self.instance.get_typed_func::<(), (R,)>(&mut self.store, function).ok()
        };
        let function = { accessor }().expect("Wizer has put it there");
        function.call_async(&mut self.store, ()).await.expect("it only reads").0
    }
}

impl ComponentInstanceState for Initialized {
    async fn call_func_ret_list_u8(&mut self, interface: &str, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: WasmList<u8> = self.get(interface, name).await;
        contents(list.as_le_slice(&self.store));
    }

    async fn call_func_ret_s32(&mut self, interface: &str, name: &str) -> i32 {
        self.get(interface, name).await
    }

    async fn call_func_ret_s64(&mut self, interface: &str, name: &str) -> i64 {
        self.get(interface, name).await
    }

    async fn call_func_ret_f32(&mut self, interface: &str, name: &str) -> u32 {
        self.get::<f32>(interface, name).await.to_bits()
    }

    async fn call_func_ret_f64(&mut self, interface: &str, name: &str) -> u64 {
        self.get::<f64>(interface, name).await.to_bits()
    }
}
