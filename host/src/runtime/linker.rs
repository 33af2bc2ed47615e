//! What every plugin may import: WASI 0.2, and the contract's `host` interface. Nothing else links.

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Engine, StoreContextMut};

use super::bindings::host;
use super::state::State;
use super::{filesystem, time};
use crate::model::LogSource;
use crate::model::text::sanitize;

/// The version of the contract that this host serves.
pub const CONTRACT_VERSION: semver::Version = semver::Version::new(0, 1, 0);

/// Where the bindings would tell of the import that the linker answers itself.
const FUEL_USED_TARGET: &str = "sandhog::runtime::bindings::sandhog::plugin::host";
/// How much of a progress note is shown, in bytes.
const NOTE_BYTES_MAX: usize = 200;

/// The interfaces that link, without their versions; WASI's are served in every version from 0.2.0 to the host's own.
pub const WASI_INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The one linker of an engine.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    time::add_to_linker(&mut linker)?;
    filesystem::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    host::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    // The generated bindings do not hand over the store, which alone knows the fuel.
    linker.allow_shadowing(true);
    linker.instance(&format!("sandhog:plugin/host@{CONTRACT_VERSION}"))?.func_wrap("fuel-used", fuel_used)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

fn fuel_used(store: StoreContextMut<'_, State>, (): ()) -> wasmtime::Result<(u64,)> {
    let used = store.data().fuel_limit.saturating_sub(store.get_fuel()?);
    // As the bindings tell of the other imports.
    let span = tracing::trace_span!(target: FUEL_USED_TARGET, "wit-bindgen import", module = "host", function = "fuel-used");
    span.in_scope(|| tracing::trace!(target: FUEL_USED_TARGET, result = used, "return"));
    Ok((used,))
}

impl host::Host for State {
    fn fuel_used(&mut self) -> wasmtime::Result<u64> {
        Err(wasmtime::format_err!("answered by the linker"))
    }

    fn log(&mut self, level: host::Level, message: String) -> wasmtime::Result<()> {
        let source = match level {
            host::Level::Error => LogSource::Error,
            host::Level::Warn => LogSource::Warn,
            host::Level::Info => LogSource::Info,
            host::Level::Debug => LogSource::Debug,
            host::Level::Trace => LogSource::Trace,
        };
        self.capture.line(source, &message);
        Ok(())
    }

    fn progress(&mut self, fraction: f64, note: String) -> wasmtime::Result<()> {
        if let Some(progress) = &self.progress {
            let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
            progress(fraction, &sanitize(&note, NOTE_BYTES_MAX));
        }
        Ok(())
    }

    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.cancel.is_cancelled())
    }
}
