//! `sandhog mcp`: the door for AI managers over standard input and output, onto a server or a state directory.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::context::Common;
use super::exit::{Error, Exit};
use super::host::{HoldError, Host};
use crate::api::mcp::{Connect, Door};
use crate::api::{Code, Offer, Problem};
use crate::client::{self, Client};

/// Serves until the client leaves.
pub fn mcp(common: &Common) -> Result<Exit, Error> {
    super::block_on(async {
        let held = Arc::new(Mutex::new(None::<Host>));
        let stop = CancellationToken::new();
        let connect: Connect = match common.remote()? {
            Some(client) => Arc::new(move || Box::pin(std::future::ready(Ok(client.clone())))),
            None => {
                common.settings()?; // what is wrong with the configuration is told before anything is served
                let (common, held) = (Arc::new(common.clone()), Arc::clone(&held));
                Arc::new(move || -> BoxFuture<'static, _> { Box::pin(find(Arc::clone(&common), Arc::clone(&held))) })
            }
        };
        let mut terminated = signal(SignalKind::terminate()).map_err(|error| Error::engine(format!("no signals: {error}")))?;
        let door = Door::open(connect, stop.clone());
        let served = door.on_stdio(stop.clone());
        tokio::pin!(served);
        let ended = tokio::select! {
            ended = &mut served => ended,
            _ = terminated.recv() => {
                stop.cancel();
                served.await
            }
        };
        stop.cancel();
        if let Some(host) = held.lock().await.take() {
            host.drain().await?;
        }
        match ended {
            Ok(()) => Ok(Exit::Passed),
            // A client that leaves before it has said anything is no error of ours.
            Err(reason) => {
                tracing::info!(reason, "the client left");
                Ok(Exit::Passed)
            }
        }
    })?
}

/// Whoever holds the state directory; this process from now on, where nobody does.
async fn find(common: Arc<Common>, held: Arc<Mutex<Option<Host>>>) -> Result<Client, client::Error> {
    let refused = |error: Error| client::Error::Refused(Box::new(Problem::from(error)));
    let mut held = held.lock().await;
    // Looked at once: it is held from then on.
    let folder = if held.is_some() { common.state_folder() } else { super::host::state(&common) };
    let client = Client::of(&folder.map_err(refused)?);
    if held.is_some() || client.head(0, None).await.is_ok() {
        return Ok(client);
    }
    let context = Arc::new(common.open(None).map_err(refused)?);
    match Host::hold(&common, context, Offer { watched: true, ..Offer::default() }).await {
        Ok(host) => *held = Some(host),
        Err(HoldError::Held(client)) => return Ok(client),
        Err(HoldError::Failed(error)) => return Err(refused(error)),
    }
    match client.head(0, None).await {
        Ok(_) => Ok(client),
        Err(error) => Err(client::Error::Refused(Box::new(Problem::new(Code::Failed, error)))),
    }
}
