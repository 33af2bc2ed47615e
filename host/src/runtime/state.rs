//! What one store holds: everything an instance can reach, made with it and dropped with it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, Rng, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

use super::capture::{Capture, LogStream, OutputCapture};
use super::filesystem::{Folder, Mount, SCRATCH};
use super::limits::Limiter;
use super::outbound::{self, Hooks};
use super::time::VirtualClock;
use crate::model::{Access, Grant, Limits, LogSource};

/// How many bytes of randomness one call may ask for.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// Is told how far a task has come: a fraction from 0 to 1, and a note.
pub type Progress = Arc<dyn Fn(f64, &str) + Send + Sync>;

/// The data of one store.
pub(super) struct State {
    wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) limiter: Limiter,
    /// What the fuel was at the start.
    pub(super) fuel_limit: u64,
    pub(super) capture: Capture,
    pub(super) cancel: CancellationToken,
    pub(super) progress: Option<Progress>,
    /// The clock of a guest that was granted none.
    pub(super) virtual_clock: Option<VirtualClock>,
    /// What is served at `/subject` and `/data`.
    pub(super) mounts: Vec<Mount>,
    /// What may be written at `/tmp`.
    pub(super) scratch: Option<Folder>,
    pub(super) http: WasiHttpCtx,
    pub(super) hooks: Hooks,
}

/// What a command gets beside: its arguments and its standard streams.
pub(super) struct CommandIo {
    pub(super) arguments: Vec<String>,
    pub(super) stdin: bytes::Bytes,
    pub(super) stdout: OutputCapture,
}

/// What a state is made of.
pub(super) struct Parts {
    pub(super) limits: Limits,
    pub(super) grant: Arc<Grant>,
    /// Its requests over HTTP, and its log.
    pub(super) hooks: Hooks,
    pub(super) cancel: CancellationToken,
    pub(super) progress: Option<Progress>,
    /// Seeds the randomness of a guest that was granted none: component and input.
    pub(super) seed: blake3::Hash,
    pub(super) command: Option<CommandIo>,
    /// What is served at `/subject` and `/data`, for gates.
    pub(super) mounts: Vec<Mount>,
}

impl State {
    /// The state of a fresh instance.
    ///
    /// # Errors
    /// When a granted directory cannot be opened.
    pub(super) fn new(parts: Parts) -> wasmtime::Result<Self> {
        let Parts { limits, grant, hooks, cancel, progress, seed, command, mounts } = parts;
        let capture = hooks.capture().clone();
        let mut wasi = WasiCtxBuilder::new(); // starts from nothing: no stdin, environment, arguments, files
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false).max_random_size(RANDOM_BYTES_MAX);
        wasi.stderr(LogStream { capture: capture.clone(), source: LogSource::Stderr });
        match command {
            Some(CommandIo { arguments, stdin, stdout }) => {
                wasi.args(&arguments).stdin(MemoryInputPipe::new(stdin)).stdout(stdout);
            }
            None => {
                wasi.stdout(LogStream { capture: capture.clone(), source: LogSource::Stdout });
            }
        }
        let virtual_clock = (!grant.clock).then(VirtualClock::default);
        if let Some(clock) = &virtual_clock {
            wasi.wall_clock(clock.clone()).monotonic_clock(clock.clone());
        }
        if !grant.randomness {
            wasi.secure_random(Seeded::new(seed, b"secure")).insecure_random(Seeded::new(seed, b"insecure"));
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&seed.as_bytes()[..16]);
            wasi.insecure_random_seed(u128::from_le_bytes(bytes));
        }
        for (name, value) in &grant.environment {
            wasi.env(name, value);
        }
        for directory in &grant.files {
            let permissions = match directory.access {
                Access::Read => FsPerms::ReadOnly,
                Access::ReadWrite => FsPerms::ReadWrite,
            };
            wasi.preopened_dir(&directory.path, &directory.at, permissions)?;
        }
        let takes_its_place = grant.files.iter().any(|directory| directory.at == SCRATCH);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles as usize);
        Ok(Self {
            http: outbound::context(),
            hooks,
            wasi: wasi.build(),
            table,
            limiter: Limiter::new(limits.memory),
            fuel_limit: limits.fuel,
            capture,
            cancel,
            progress,
            virtual_clock,
            mounts,
            scratch: (limits.scratch > 0 && !takes_its_place).then(|| Folder::new(limits.scratch)),
        })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Randomness that follows from a seed alone: the extended output of BLAKE3. Made when it is first asked for, since most
/// guests never ask.
struct Seeded {
    seed: blake3::Hash,
    purpose: &'static [u8],
    reader: Option<blake3::OutputReader>,
}

impl Seeded {
    fn new(seed: blake3::Hash, purpose: &'static [u8]) -> Self {
        Self { seed, purpose, reader: None }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        let reader = self.reader.get_or_insert_with(|| blake3::Hasher::new_keyed(self.seed.as_bytes()).update(self.purpose).finalize_xof());
        reader.fill(bytes);
    }
}

impl rand::TryRng for Seeded {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.fill(bytes);
        Ok(())
    }
}

/// Held to the trait that wasmtime asks for, at compile time.
const fn _is_rng<T: Rng>() {}
const _: () = _is_rng::<Seeded>();
