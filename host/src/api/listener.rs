//! Connections: accepted up to a bound, with a time for everything that a peer may take its time with.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::guard::{Door, Guard, Terms, around};
use super::service::Service;
use super::{check_folder, routes, socket_path};

/// How many connections are open at once, at each door: when there are so many, others wait in the system's queue.
const CONNECTIONS_MAX: u64 = 4096;
/// The part of the files that this process may open which the connections of one door may be. Half is for guests, see
/// [`crate::runtime::Settings`].
const CONNECTIONS_PART: u64 = 8;
/// The part of those which one address may have, but for this machine's own: a proxy here brings everybody's.
const PEER_PART: usize = 4;
/// How long a peer may take for the lines of a request.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How large the lines of a request may be, in bytes.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// How long a peer may take nothing of what is written to it.
const WRITE_STALL: Duration = Duration::from_secs(60);
/// How long connections have to end when the server does.
const CLOSING: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted: the process has no file left, say.
const REFUSED: Duration = Duration::from_millis(100);

/// A door that is open until it is closed.
pub struct Listener {
    /// The socket's file, where it is one.
    path: Option<PathBuf>,
    /// The address, where it is one.
    address: Option<SocketAddr>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Accepts nothing more, lets requests under way end, and waits for that, not for long.
    pub async fn close(self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
        self.stop.cancel();
        let _ = self.task.await;
    }
}

/// Opens the socket of a directory, which the caller holds: whatever lies there is of one that is no more.
///
/// # Errors
/// When the socket cannot be made.
pub fn on_socket(folder: &Path, service: &Service) -> io::Result<Listener> {
    let path = socket_path(folder);
    if let Some(parent) = path.parent().filter(|parent| *parent != folder) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    check_folder(folder, &path)?;
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let router = guarded(service, Door::Socket, Terms::default());
    let stop = CancellationToken::new();
    let accept = async move |stop: &CancellationToken| {
        tokio::select! {
            accepted = listener.accept() => Some(accepted.map(|(stream, _)| (stream, None))),
            () = stop.cancelled() => None,
        }
    };
    let task = tokio::spawn(serve(accept, router, stop.clone()));
    Ok(Listener { path: Some(path), address: None, stop, task })
}

/// Opens a door on an address of the network.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn on_network(address: SocketAddr, service: &Service, terms: Terms) -> io::Result<Listener> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let router = guarded(service, Door::Network, terms);
    let stop = CancellationToken::new();
    let accept = async move |stop: &CancellationToken| {
        tokio::select! {
            accepted = listener.accept() => Some(accepted.map(|(stream, peer)| {
                let _ = stream.set_nodelay(true); // only slower without
                (stream, Some(peer))
            })),
            () = stop.cancelled() => None,
        }
    };
    let task = tokio::spawn(serve(accept, router, stop.clone()));
    Ok(Listener { path: None, address: Some(address), stop, task })
}

fn guarded(service: &Service, door: Door, terms: Terms) -> Router {
    let guard = Arc::new(Guard::new(door, terms, service.metrics().clone()));
    routes::router(service.clone()).layer(axum::middleware::from_fn(around)).layer(Extension(guard))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut accept: impl AsyncFnMut(&CancellationToken) -> Option<io::Result<(S, Option<SocketAddr>)>>,
    router: Router,
    stop: CancellationToken,
) {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = CONNECTIONS_MAX.min(files / CONNECTIONS_PART) as usize;
    let connections = Arc::new(Semaphore::new(most));
    let peers = Arc::new(Peers { most: (most / PEER_PART).max(1), open: Mutex::default() });
    let open = TaskTracker::new();
    loop {
        let place = tokio::select! {
            place = Arc::clone(&connections).acquire_owned() => place,
            () = stop.cancelled() => break,
        };
        let Ok(place) = place else { break };
        let (stream, peer) = match accept(&stop).await {
            None => break,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(REFUSED).await;
                continue;
            }
        };
        let Some(peer_place) = peers.enter(peer.map(|peer| peer.ip())) else {
            tracing::debug!(?peer, "it has as many connections as one peer may have");
            continue;
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_STALL));
        let router = router.clone();
        let held = Arc::new((place, peer_place));
        let of_requests = Held(Arc::downgrade(&held));
        let routes = service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(of_requests.clone());
            if let Some(peer) = peer {
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            router.clone().call(request.map(Body::new))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEADER_BYTES_MAX);
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), routes).with_upgrades();
        let stopped = stop.clone();
        open.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = stopped.cancelled() => {
                    connection.as_mut().graceful_shutdown(); // what is under way is answered
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
            drop(held);
        });
    }
    open.close();
    let _ = tokio::time::timeout(CLOSING, open.wait()).await;
}

/// The places that a connection takes: whatever goes on with it, as a WebSocket does, holds them as long.
#[derive(Clone)]
pub struct Held(Weak<(OwnedSemaphorePermit, Entered)>);

impl Held {
    /// Holds them, as long as what this returns is there; none where the connection is not any more.
    pub(super) fn hold(&self) -> Option<impl Send + use<>> {
        self.0.upgrade()
    }
}

/// How many connections each address has.
struct Peers {
    /// How many one may have.
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Peers {
    /// Counts a connection of an address for as long as the guard lives; none where the address has as many as it may have.
    fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Entered> {
        let peer = peer.map(|peer| peer.to_canonical()).filter(|peer| !peer.is_loopback());
        if let Some(peer) = peer {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(peer).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        Some(Entered { peers: Arc::clone(self), peer })
    }
}

/// One connection of an address.
struct Entered {
    peers: Arc<Peers>,
    peer: Option<IpAddr>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_but_ones_own_has_more_than_its_part() {
        let peers = Arc::new(Peers { most: 2, open: Mutex::default() });
        let enter = |peer: &str| peers.enter(Some(peer.parse().expect("an address")));
        let (one, two) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some() && enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some(), "another");
        let own: Vec<_> = (0..10).map(|_| (enter("127.0.0.1"), enter("::1"), peers.enter(None))).collect();
        assert!(own.iter().all(|(a, b, c)| a.is_some() && b.is_some() && c.is_some()));
        drop(one);
        assert!(enter("192.0.2.1").is_some(), "one has gone");
        drop((two, own));
        assert!(peers.open.lock().expect("a lock").is_empty());
    }
}
