//! The hidden commands with which this program does for another process of its own what may take too long.

use std::time::Duration;

use super::exit::{Error, Exit};
use crate::registry::child::Budget;
use crate::registry::{compiler, params};

/// How, and with which budget.
#[derive(Debug, clap::Args)]
pub struct CompileArguments {
    /// The guest's call stack, in bytes
    #[arg(long)]
    stack_bytes: usize,
    #[command(flatten)]
    budget: BudgetArguments,
}

/// With which budget.
#[derive(Debug, clap::Args)]
pub struct BudgetArguments {
    /// Processor time, in seconds
    #[arg(long)]
    cpu_seconds: u64,
    /// Memory, in bytes
    #[arg(long)]
    memory_bytes: u64,
}

impl BudgetArguments {
    fn budget(&self) -> Budget {
        Budget { cpu: Duration::from_secs(self.cpu_seconds), memory: self.memory_bytes }
    }
}

/// Compiles what comes on standard input.
pub fn compile(arguments: &CompileArguments) -> Result<Exit, Error> {
    compiler::serve(arguments.stack_bytes, arguments.budget.budget()).map_err(Error::engine)?;
    Ok(Exit::Passed)
}

/// Runs one attempt for the process that started this one.
pub fn guest() -> Result<Exit, Error> {
    crate::runtime::serve_isolated().map_err(Error::engine)?;
    Ok(Exit::Passed)
}

/// Holds the params on standard input against the schema there.
pub fn validate(arguments: &BudgetArguments) -> Result<Exit, Error> {
    params::serve(arguments.budget()).map_err(Error::engine)?;
    Ok(Exit::Passed)
}
