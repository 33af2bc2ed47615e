//! `sandhog bench`.

use super::context::Common;
use super::exit::{Error, Exit};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArguments {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Measures.
pub fn bench(_common: &Common, _arguments: BenchArguments) -> Result<Exit, Error> {
    Ok(Exit::Passed)
}
