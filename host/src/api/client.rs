//! The other side of the socket: for processes beside the holder.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Accepted, Command, Head, Problem, Submission, check_folder, socket_path};
use crate::model::RunId;

/// How large an answer may be, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why the holder did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("nobody listens at {socket}: {reason}")]
    Nobody {
        /// Where.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// The holder went away, or does not speak as expected.
    #[error("the process that holds the state directory went away: {0}")]
    Gone(String),
    /// What was asked is wrong, or does not fit the state.
    #[error("{message}")]
    Refused {
        /// `invalid`, `not_found`, `conflict` or `failed`.
        code: String,
        /// For a person.
        message: String,
    },
}

/// Asks the holder of a directory. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    folder: PathBuf,
    socket: PathBuf,
}

impl Client {
    /// Of the holder of a directory.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), socket: socket_path(folder) }
    }

    /// Has a run accepted.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn submit(&self, submission: &Submission) -> Result<RunId, Error> {
        let accepted: Accepted = self.ask(Method::POST, "/v1/runs", Some(submission)).await?;
        Ok(accepted.run)
    }

    /// Has a run told something.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn command(&self, run: RunId, command: &Command) -> Result<(), Error> {
        let _: Accepted = self.ask(Method::POST, &format!("/v1/runs/{run}/commands"), Some(command)).await?;
        Ok(())
    }

    /// Waits until the journal goes further than `after`, and says how far; at once where a run is named that the holder
    /// does not go on with.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn head(&self, after: u64, run: Option<RunId>) -> Result<Head, Error> {
        let run = run.map_or_else(String::new, |run| format!("&run={run}"));
        self.ask(Method::GET, &format!("/v1/head?after={after}{run}"), None::<&()>).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&(impl Serialize + Sync)>) -> Result<T, Error> {
        let nobody = |error: std::io::Error| Error::Nobody { socket: self.socket.clone(), reason: error.to_string() };
        let gone = |error: &dyn std::fmt::Display| Error::Gone(error.to_string());
        check_folder(&self.folder, &self.socket).map_err(nobody)?;
        let stream = UnixStream::connect(&self.socket).await.map_err(nobody)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| gone(&error))?;
        let connection = tokio::spawn(connection);
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| gone(&error))?.unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("host", "sandhog").header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| gone(&error))?;
        let response = sender.send_request(request).await.map_err(|error| gone(&error))?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| gone(&error))?.to_bytes();
        drop(sender);
        connection.abort();
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| gone(&error));
        }
        Err(match serde_json::from_slice::<Problem>(&answer) {
            Ok(Problem { code, message }) => Error::Refused { code, message },
            Err(_) => Error::Refused { code: "invalid".to_owned(), message: String::from_utf8_lossy(&answer).into_owned() },
        })
    }
}
