//! A loaded component: compiled, linked and pre-instantiated, ready for any number of attempts.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::bindings::{gate, units, worker};
use super::state::State;
use super::{Error, Runtime, limits};
use crate::model::Digest;

/// What a component is, read from what it exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Exports `sandhog:plugin/worker`.
    Worker,
    /// Exports `sandhog:plugin/gate`.
    Gate,
    /// Exports `wasi:cli/run`: any WASI command-line program; serves as worker and as gate.
    Command,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Gate => "gate",
            Self::Command => "command",
        }
    }
}

/// How a command that serves as a gate says that its subject passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandPass {
    /// By success, as linters do.
    #[default]
    Success,
    /// By failure, as search tools do: they *find* by success.
    Failure,
}

/// What a command that serves as a gate writes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandFindings {
    /// One finding a line; `path:line:column: message` is understood.
    #[default]
    Lines,
    /// One JSON object a line, with the fields of a finding.
    Jsonl,
    /// A SARIF log.
    Sarif,
    /// Nothing that is a finding.
    None,
}

/// How a command is given its task, and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandProtocol {
    /// Arguments from its params, inputs on standard input, and what it writes is the answer.
    #[default]
    Streams,
    /// A line of JSON on standard input is the task or the subject, and a line of JSON on standard output is the answer.
    Jsonl,
}

/// How a command is called, and how it is read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Command {
    /// How it is given its task, and answers.
    pub protocol: CommandProtocol,
    /// Arguments before those of its params.
    pub args: Vec<String>,
    /// How it passes as a gate.
    pub pass: CommandPass,
    /// What it writes as a gate.
    pub findings: CommandFindings,
}

pub(super) enum Entry {
    Worker(worker::WorkerPluginPre<State>),
    Gate { gate: gate::GatePluginPre<State>, units: Option<units::UnitGatePluginPre<State>> },
    Command(CommandPre<State>),
}

/// A component, loaded.
pub struct Plugin {
    pub(super) entry: Entry,
    pub(super) digest: Digest,
    pub(super) command: Command,
    pub(super) name: String,
    /// Whether it imports randomness.
    pub(super) draws: bool,
    /// For processes of its own: where there are any.
    pub(super) code: Option<Code>,
}

/// Compiled code, as processes are given it.
pub(super) struct Code {
    pub(super) file: File,
    pub(super) bytes: u64,
}

impl Code {
    fn of(file: File) -> std::io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    /// Code that is in memory, as a file without a name.
    fn in_memory(code: &[u8]) -> std::io::Result<Self> {
        use std::io::Write as _;
        #[cfg(target_os = "linux")]
        let mut file = {
            use rustix::fs::{MemfdFlags, memfd_create};
            File::from(memfd_create("sandhog-code", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
        };
        #[cfg(not(target_os = "linux"))]
        let mut file = tempfile::tempfile()?;
        file.write_all(code)?;
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{SealFlags, fcntl_add_seals};
            // Nobody who gets it can change it.
            fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        }
        Self::of(file)
    }
}

/// Maps code that [`Runtime::compile`] made: pages that are not needed are never read.
///
/// The file must be as trusted as this program is, and must not be changed while it is used.
pub(super) fn map(engine: &Engine, compiled: &Path) -> Result<Component, Error> {
    #[expect(unsafe_code, reason = "wasmtime's only way to map what it compiled; the caller vouches for the file")]
    // SAFETY: the file is the output of `compile`, and lies with the program, written by whoever installed that; or it is what
    // `Code` holds of it.
    unsafe { Component::deserialize_file(engine, compiled) }.map_err(|error| Error::Compiled(format!("{error:#}")))
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("kind", &self.kind()).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Plugin {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.entry {
            Entry::Worker(_) => Kind::Worker,
            Entry::Gate { .. } => Kind::Gate,
            Entry::Command(_) => Kind::Command,
        }
    }

    /// The digest of the component's bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it splits its subject into units.
    #[must_use]
    pub fn has_units(&self) -> bool {
        matches!(self.entry, Entry::Gate { units: Some(_), .. })
    }

    /// What its operator calls it, for advice.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// How it is read as a gate, where it is a command.
    #[must_use]
    pub fn with_command(mut self, command: Command) -> Self {
        self.command = command;
        self
    }
}

impl Runtime {
    /// Loads code that [`Runtime::compile`] made, and links it.
    ///
    /// The code must come from this program: whoever can change it can do anything that this process can. The registry
    /// authenticates it with a key of the user's before it gets here.
    ///
    /// # Errors
    /// When the code is of another engine, imports what nothing provides, or exports nothing that is called.
    pub fn load(&self, compiled: &[u8], digest: Digest) -> Result<Plugin, Error> {
        #[expect(unsafe_code, reason = "wasmtime's only way to load what it compiled; the caller vouches for the bytes")]
        // SAFETY: the bytes are the output of `compile`, kept from change by the registry's authentication.
        let component =
            unsafe { Component::deserialize(&self.inner.engine, compiled) }.map_err(|error| Error::Compiled(format!("{error:#}")))?;
        let code = self.is_isolated().then(|| Code::in_memory(compiled)).transpose();
        let code = code.map_err(|error| Error::Isolation(format!("code cannot be kept for processes: {error}")))?;
        Ok(Plugin { code, ..self.link(&component, digest)? })
    }

    /// As [`Runtime::load`], from a file that is mapped into memory: pages that are not needed are never read.
    ///
    /// The file must be as trusted as this program is, and must not be changed while it is used.
    ///
    /// # Errors
    /// As for [`Runtime::load`].
    pub fn load_file(&self, compiled: &Path, digest: Digest) -> Result<Plugin, Error> {
        let component = map(&self.inner.engine, compiled)?;
        let code = self.is_isolated().then(|| File::open(compiled).and_then(Code::of)).transpose();
        let code = code.map_err(|error| Error::Isolation(format!("{}: {error}", compiled.display())))?;
        Ok(Plugin { code, ..self.link(&component, digest)? })
    }

    pub(super) fn link(&self, component: &Component, digest: Digest) -> Result<Plugin, Error> {
        if let Some(required) = component.resources_required() {
            for (what, count, max) in
                [("memories", required.num_memories, limits::MEMORIES_MAX), ("tables", required.num_tables, limits::TABLES_MAX)]
            {
                if count as usize > max {
                    return Err(Error::Link(format!("it has {count} {what}, and an attempt may have {max}")));
                }
            }
        }
        let link = |error: wasmtime::Error| Error::Link(format!("{error:#}"));
        let pre = self.inner.linker.instantiate_pre(component).map_err(link)?;
        let ty = component.component_type();
        let exports = |interface: &str| ty.exports(&self.inner.engine).any(|(name, _)| name.split('@').next() == Some(interface));
        let draws = ty.imports(&self.inner.engine).any(|(name, _)| name.starts_with("wasi:random/"));
        let entry = if exports("sandhog:plugin/worker") {
            Entry::Worker(worker::WorkerPluginPre::new(pre).map_err(link)?)
        } else if exports("sandhog:plugin/gate") {
            let units = exports("sandhog:plugin/units").then(|| units::UnitGatePluginPre::new(pre.clone())).transpose().map_err(link)?;
            Entry::Gate { gate: gate::GatePluginPre::new(pre).map_err(link)?, units }
        } else if exports("wasi:cli/run") {
            Entry::Command(CommandPre::new(pre).map_err(link)?)
        } else {
            return Err(Error::NoEntry);
        };
        Ok(Plugin { entry, digest, command: Command::default(), name: "NAME".to_owned(), draws, code: None })
    }
}
