//! What a host serves to programs, people and AI managers: one API, with no route that is not documented.
//!
//! It is HTTP. The process that holds a state directory serves it over a socket inside the directory, which only its owner can reach;
//! `sandhog serve` serves it on an address of the network, too. Commands go to the manager, since it alone writes; queries read the
//! journal. The dashboard, the command line and MCP are clients of it.
//!
//! - `service`: the operations, behind every door
//! - `routes`: their paths, and the document that describes them; `shapes`: what is sent; `problem`: why something was not done
//! - `hub`, `live`: events as they come
//! - `listener`, `guard`, `session`: connections, and who may ask
//! - `metrics`: figures; `dashboard`: the page's files; [`mcp`]: tools for AI managers
//! - [`client`]: the other side of it all

pub mod client;
mod dashboard;
mod guard;
mod hub;
mod listener;
mod live;
pub mod mcp;
mod metrics;
mod problem;
mod remote;
mod routes;
mod service;
mod session;
mod shapes;
#[cfg(feature = "otlp")]
mod traces;
mod whereabouts;

use std::path::{Path, PathBuf};

use crate::model::Digest;

pub use guard::Terms;
pub use hub::{Lag, Topic};
pub use listener::{Listener, on_network, on_socket};
pub use problem::{Code, Place, Problem};
pub use service::{Beside, Offer, Parts, Prepare, Service, check_key, into_input};
pub use shapes::*;

/// The socket in the directory.
const SOCKET: &str = "socket";
/// How long the path of a socket may be, in bytes (`sun_path` of unix(7), and its end).
const SOCKET_PATH_MAX: usize = 107;

/// The document that describes the API (OpenAPI), as JSON.
#[must_use]
pub fn document() -> String {
    routes::api().1.to_pretty_json().unwrap_or_default()
}

/// Where the holder of a directory listens. Paths too long for a socket are replaced by one in the folder for temporary
/// files, named by a digest of the directory's own.
#[must_use]
pub fn socket_path(folder: &Path) -> PathBuf {
    let path = folder.join(SOCKET);
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return path;
    }
    let digest = Digest::of(folder.as_os_str().as_encoded_bytes()).to_hex();
    std::env::temp_dir().join(format!("sandhog-{}-{}", rustix::process::geteuid().as_raw(), &digest[..16])).join(SOCKET)
}

/// Makes sure that the folder of the socket is this user's alone, where it is not the state directory itself.
fn check_folder(folder: &Path, socket: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let Some(parent) = socket.parent().filter(|parent| *parent != folder) else { return Ok(()) };
    let metadata = std::fs::symlink_metadata(parent)?;
    let ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0;
    if ours { Ok(()) } else { Err(std::io::Error::other(format!("{} is not this user's alone", parent.display()))) }
}
