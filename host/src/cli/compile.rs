//! The hidden command with which this program compiles a component for another process of its own.

use std::time::Duration;

use super::exit::{Error, Exit};
use crate::registry::compiler::{Budget, serve};

/// How, and with which budget.
#[derive(Debug, clap::Args)]
pub struct CompileArguments {
    /// The guest's call stack, in bytes
    #[arg(long)]
    stack_bytes: usize,
    /// Processor time, in seconds
    #[arg(long)]
    cpu_seconds: u64,
    /// Memory, in bytes
    #[arg(long)]
    memory_bytes: u64,
}

/// Compiles what comes on standard input.
pub fn compile(arguments: &CompileArguments) -> Result<Exit, Error> {
    let budget = Budget { cpu: Duration::from_secs(arguments.cpu_seconds), memory: arguments.memory_bytes };
    serve(arguments.stack_bytes, budget).map_err(Error::engine)?;
    Ok(Exit::Passed)
}
