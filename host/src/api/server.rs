//! The holder's side of the socket.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Accepted, Command, Head, Problem, Submission, check_folder, socket_path};
use crate::manager::{self, Handle};
use crate::model::{Artifact, RunId, Workflow};

/// How large a request may be, in bytes: it names files, and carries none.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Reads a workflow file and the files that it names; an error is a text for a person.
pub type Prepare = Arc<dyn Fn(&Path) -> Result<(Workflow, Vec<Vec<Artifact>>), String> + Send + Sync>;

/// A socket that is served until this is dropped or stopped.
pub struct Server {
    path: PathBuf,
    followers: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// How many wait here for news of a run that is gone on with.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    /// Takes the socket away, and lets requests under way end.
    pub async fn stop(self) {
        let _ = std::fs::remove_file(&self.path);
        self.stop.cancel();
        let _ = self.task.await;
    }
}

#[derive(Clone)]
struct Shared {
    handle: Handle,
    prepare: Prepare,
    followers: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// One that waits, as long as it waits.
struct Follower(Arc<AtomicUsize>);

impl Follower {
    fn new(followers: &Arc<AtomicUsize>) -> Self {
        followers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(followers))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves the socket of a directory, which the caller holds: whatever lies there is of one that is no more.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(folder: &Path, handle: Handle, prepare: Prepare) -> std::io::Result<Server> {
    let path = socket_path(folder);
    if let Some(parent) = path.parent().filter(|parent| *parent != folder) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    check_folder(folder, &path)?;
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (followers, stop) = (Arc::default(), CancellationToken::new());
    let router = Router::new()
        .route("/v1/runs", post(submit))
        .route("/v1/runs/{run}/commands", post(command))
        .route("/v1/head", get(head))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Shared { handle, prepare, followers: Arc::clone(&followers), stop: stop.clone() });
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the socket is served no more");
        }
    });
    Ok(Server { path, followers, stop, task })
}

struct Failed(StatusCode, Problem);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<manager::Error> for Failed {
    fn from(error: manager::Error) -> Self {
        let (status, code) = match &error {
            manager::Error::NoSuchRun(_) => (StatusCode::NOT_FOUND, "not_found"),
            manager::Error::Rejected(_) | manager::Error::KeyIsTaken(_) => (StatusCode::CONFLICT, "conflict"),
            manager::Error::Stopped | manager::Error::Journal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self(status, Problem { code: code.to_owned(), message: error.to_string() })
    }
}

async fn submit(State(shared): State<Shared>, Json(submission): Json<Submission>) -> Result<Json<Accepted>, Failed> {
    let Submission { workflow, idempotency_key } = submission;
    let prepare = Arc::clone(&shared.prepare);
    let prepared = tokio::task::spawn_blocking(move || prepare(&workflow)).await;
    let prepared = prepared.unwrap_or_else(|_| Err("a panic while the workflow was read".to_owned()));
    let invalid = |message| Failed(StatusCode::UNPROCESSABLE_ENTITY, Problem { code: "invalid".to_owned(), message });
    let (workflow, files) = prepared.map_err(invalid)?;
    let run = shared.handle.submit(workflow, files, idempotency_key).await?;
    Ok(Json(Accepted { run }))
}

async fn command(
    State(shared): State<Shared>,
    axum::extract::Path(run): axum::extract::Path<RunId>,
    Json(command): Json<Command>,
) -> Result<Json<Accepted>, Failed> {
    match command.into_input() {
        Some(input) => shared.handle.command(run, input).await?,
        None => shared.handle.resume(run).await?,
    }
    Ok(Json(Accepted { run }))
}

#[derive(serde::Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
    run: Option<RunId>,
}

/// Answers as soon as the journal goes further than the reader has come, or nothing of the reader's run is to be waited for.
async fn head(State(shared): State<Shared>, Query(After { after, run }): Query<After>) -> Result<Json<Head>, Failed> {
    let mut head = shared.handle.store().head();
    let driven = match run {
        Some(run) => shared.handle.drives(run).await?,
        None => true,
    };
    if after == 0 || !driven {
        let head = *head.borrow(); // to be sure that somebody is here
        return Ok(Json(Head { head, driven }));
    }
    let _follower = run.map(|_| Follower::new(&shared.followers));
    tokio::select! {
        grown = head.wait_for(|head| *head > after) => {
            let head = *grown.map_err(|_| manager::Error::Stopped)?;
            Ok(Json(Head { head, driven }))
        }
        () = shared.stop.cancelled() => Err(manager::Error::Stopped.into()),
    }
}
