//! The process in the background that `run --detach` starts: it holds the state directory as long as it has something to do.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::context::Common;
use super::exit::{Error, Exit};
use super::host::{HoldError, Host};
use crate::api::Offer;

/// How long it waits for something to do.
const IDLE: Duration = Duration::from_secs(5);

/// Runs until there has been nothing to do for a while.
pub fn background(common: &Common) -> Result<Exit, Error> {
    let context = Arc::new(common.open(None)?);
    super::block_on(async {
        let mut terminated = signal(SignalKind::terminate()).map_err(|error| Error::engine(format!("no signals: {error}")))?;
        let held = match Host::hold(common, context, Offer::default()).await {
            Ok(held) => held,
            Err(HoldError::Held(_)) => {
                outln!("held"); // whoever holds it can be asked as well
                return Ok(Exit::Passed);
            }
            Err(HoldError::Failed(error)) => return Err(error),
        };
        outln!("ready");
        loop {
            let head = *held.handle.store().head().borrow();
            let idle = async {
                held.handle.idle().await?;
                tokio::time::sleep(IDLE).await;
                Ok::<_, Error>(())
            };
            tokio::select! {
                _ = terminated.recv() => return held.drain().await.map(|()| Exit::Passed),
                ended = idle => ended?,
            }
            if *held.handle.store().head().borrow() == head {
                return held.finish().await.map(|()| Exit::Passed);
            }
        }
    })?
}
