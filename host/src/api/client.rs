//! The other side of the API: for programs, and for every command that works against a server.
//!
//! Connections are pooled and reused. Queries, and commands that say the same when they are said twice, are tried again with growing
//! pauses while nobody answers; a submission is, since it always has a key. Events are followed over one stream, which is opened again
//! behind the last one that came.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use reqwest::{Method, RequestBuilder, StatusCode, Url, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sse_stream::SseStream;

pub use super::problem::{Code, Place, Problem};
pub use super::remote::RemoteStore;
pub use super::shapes::*;
use super::{check_folder, socket_path};
use crate::clock::Stopwatch;
use crate::journal::Record;
use crate::model::{Digest, RunId};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take, beyond what was asked to be waited for.
const ANSWER: Duration = Duration::from_secs(60);
/// How long somebody may be away before a query gives up.
const AWAY_MAX: Duration = Duration::from_secs(5);
/// The first pause before something is tried again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a stream of events may be silent: the server says that it is there more often.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How large one event may be, in bytes.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// How large an answer may be, in bytes: a page of events ends with one that may be the largest.
const ANSWER_BYTES_MAX: usize = 2 * EVENT_BYTES_MAX;
/// How large content may be, in bytes.
const CONTENT_BYTES_MAX: usize = 1 << 30;

/// Why the server did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens. Trying again helps once somebody does.
    #[error("nobody listens at {place}: {reason}")]
    Nobody {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// The server went away while it was asked, or does not speak as expected.
    #[error("the server at {place} went away: {reason}")]
    Gone {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// What was asked is wrong, does not fit the state, or is not allowed.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The place is none that can be asked.
    #[error("{0}")]
    Place(String),
}

impl Error {
    /// The problem's code, where the server gave one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            Self::Nobody { .. } | Self::Gone { .. } | Self::Place(_) => None,
        }
    }

    /// Whether somebody is away who may come back.
    fn is_away(&self) -> bool {
        match self {
            Self::Nobody { .. } | Self::Gone { .. } => true,
            Self::Refused(problem) => matches!(problem.code, Code::Unavailable | Code::TooManyRequests),
            Self::Place(_) => false,
        }
    }
}

/// A server. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    /// The state directory, where that is asked through its socket.
    folder: Option<PathBuf>,
}

impl Client {
    /// The server at an address, such as `http://127.0.0.1:8080`. With `token`, every request carries it.
    ///
    /// # Errors
    /// [`Error::Place`].
    pub fn at(server: &str, token: Option<String>) -> Result<Self, Error> {
        let expected = |why: String| Error::Place(format!("`{server}` is no server's address: {why}; such as http://127.0.0.1:8080"));
        let base: Url = server.parse().map_err(|error: url::ParseError| expected(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() || base.query().is_some() || base.cannot_be_a_base() {
            return Err(expected("expected http:// or https://, and a host".to_owned()));
        }
        let http = builder().build().map_err(|error| Error::Place(format!("no connections can be made: {error}")))?;
        Ok(Self { http, base, token, folder: None })
    }

    /// The holder of a state directory.
    ///
    /// # Panics
    /// Never: a client of a socket needs nothing of the machine.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let http = builder().unix_socket(socket_path(folder)).build().expect("a client without certificates");
        let base = Url::parse("http://localhost").expect("a constant");
        Self { http, base, token: None, folder: Some(folder.to_owned()) }
    }

    /// Where the server is, for a person.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.folder {
            Some(folder) => socket_path(folder).display().to_string(),
            None => {
                let mut shown = self.base.clone();
                let _ = shown.set_password(None); // it may be in a log
                shown.to_string()
            }
        }
    }

    /// Whether it is a server that was named, and not the holder of a state directory here.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.folder.is_none()
    }

    /// Has a run accepted. The key makes a second submission the first run; one is made up where there is none, so that this may be
    /// tried again.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn submit(&self, submission: &Submission, key: Option<&str>) -> Result<RunId, Error> {
        key.map_or(Ok(()), super::check_key).map_err(|problem| Error::Refused(Box::new(problem)))?;
        let made_up = format!("submitted-{}", uuid::Uuid::new_v4());
        let key = key.unwrap_or(&made_up);
        let ask = || Ok(self.request(Method::POST, "/v1/runs")?.header("idempotency-key", key).json(submission));
        self.persistent::<Accepted>(ask, ANSWER).await.map(|accepted| accepted.run)
    }

    /// What a workflow would do.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn plan(&self, submission: &Submission) -> Result<Value, Error> {
        self.persistent(|| Ok(self.request(Method::POST, "/v1/plans")?.json(submission)), ANSWER).await
    }

    /// Tells a run something. One that is away is not told twice.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn command(&self, run: RunId, command: &Command) -> Result<(), Error> {
        self.once::<Accepted>(self.request(Method::POST, &format!("/v1/runs/{run}/commands"))?.json(command), ANSWER).await.map(drop)
    }

    /// Does something with dead letters.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn deal(&self, command: &LetterCommand) -> Result<LettersDone, Error> {
        self.once(self.request(Method::POST, "/v1/dead-letters/commands")?.json(command), ANSWER).await
    }

    /// Waits until the journal goes further than `after`, or a while, and says how far; at once where a run is named that the server
    /// does not go on with. Asks once: who waits decides what it means that nobody is there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn head(&self, after: u64, run: Option<RunId>) -> Result<Head, Error> {
        self.once(self.request(Method::GET, "/v1/head")?.query(&HeadQuery { after, run }), ANSWER).await
    }

    /// The whole story of a run, once it has ended, or as it stands after a while.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn report(&self, run: RunId, wait: Option<Duration>) -> Result<Value, Error> {
        let query = WaitQuery { wait: wait.map(|wait| format!("{}s", wait.as_secs())) };
        let ask = || Ok(self.request(Method::GET, &format!("/v1/runs/{run}/report"))?.query(&query));
        self.persistent(ask, ANSWER + wait.unwrap_or_default()).await
    }

    /// Any query of the API whose answer is JSON.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &(impl Serialize + Sync)) -> Result<T, Error> {
        self.persistent(|| Ok(self.request(Method::GET, path)?.query(query)), ANSWER).await
    }

    /// The bytes that a digest names.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn blob(&self, digest: &Digest) -> Result<bytes::Bytes, Error> {
        self.bytes(&format!("/v1/blobs/{digest}")).await
    }

    /// The content of an artifact of a run.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn artifact(&self, run: RunId, digest: &Digest) -> Result<bytes::Bytes, Error> {
        self.bytes(&format!("/v1/runs/{run}/artifacts/{digest}")).await
    }

    async fn bytes(&self, path: &str) -> Result<bytes::Bytes, Error> {
        let mut pauses = Pauses::new();
        loop {
            let answered = async {
                let response = self.send(self.request(Method::GET, path)?, ANSWER).await?;
                self.read(response, CONTENT_BYTES_MAX).await.map(bytes::Bytes::from)
            };
            match answered.await {
                Err(error) if self.is_remote() && error.is_away() && pauses.next().await => {}
                answered => return answered,
            }
        }
    }

    /// Sends a plugin, where the server takes any.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn upload(&self, name: &str, component: Vec<u8>) -> Result<Value, Error> {
        self.once(self.request(Method::PUT, &format!("/v1/plugins/{name}"))?.body(component), ANSWER * 5).await
    }

    /// Has the plugin folders looked through.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn reload(&self) -> Result<Plugins, Error> {
        self.once(self.request(Method::POST, "/v1/plugins/reload")?, ANSWER * 5).await
    }

    /// Events as they come, behind a `seq`, or from now on.
    #[must_use]
    pub fn follow(&self, query: StreamQuery) -> Live {
        Live { client: self.clone(), query, stream: None, ready: VecDeque::new(), pauses: Pauses::new(), away_max: None }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Error> {
        if let Some(folder) = &self.folder {
            check_folder(folder, &socket_path(folder)).map_err(|error| Error::Nobody { place: self.place(), reason: error.to_string() })?;
        }
        let mut url = self.base.clone();
        let joined = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&joined);
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn once<T: DeserializeOwned>(&self, request: RequestBuilder, within: Duration) -> Result<T, Error> {
        let response = self.send(request, within).await?;
        let answer = self.read(response, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&answer).map_err(|error| self.gone(&error))
    }

    async fn persistent<T: DeserializeOwned>(&self, ask: impl Fn() -> Result<RequestBuilder, Error>, within: Duration) -> Result<T, Error> {
        let mut pauses = Pauses::new();
        loop {
            match self.once(ask()?, within).await {
                Err(error) if self.is_remote() && error.is_away() && pauses.next().await => {}
                answered => return answered,
            }
        }
    }

    async fn send(&self, request: RequestBuilder, within: Duration) -> Result<reqwest::Response, Error> {
        let sent = tokio::time::timeout(within, request.send()).await;
        let sent = sent.map_err(|_| Error::Gone { place: self.place(), reason: format!("no answer within {within:?}") })?;
        let response = sent.map_err(|error| match (error.is_connect(), tls_error(&error)) {
            (true, Some(rustls::Error::InvalidMessage(_))) => {
                Error::Place(format!("the server at {} does not speak TLS: one on plain HTTP is named by http://", self.place()))
            }
            (true, Some(refused @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))) => {
                Error::Place(format!("no secure connection to {}: {refused}", self.place()))
            }
            (true, _) => Error::Nobody { place: self.place(), reason: innermost(&error) },
            (false, _) => self.gone(&error),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if let Some(elsewhere) = response.headers().get(http::header::LOCATION).filter(|_| status.is_redirection()) {
            let elsewhere = crate::model::text::sanitize(&String::from_utf8_lossy(elsewhere.as_bytes()), 400);
            return Err(Error::Place(format!("the server at {} is at {elsewhere} now: name that one", self.place())));
        }
        let said = self.read(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
        let problem = serde_json::from_slice(&said).unwrap_or_else(|_| Problem::of_response(status, &String::from_utf8_lossy(&said)));
        Err(match status {
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Error::Gone { place: self.place(), reason: problem.detail },
            _ => Error::Refused(Box::new(problem)),
        })
    }

    /// The body of an answer, which may have so many bytes.
    async fn read(&self, mut response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.gone(&error))? {
            if all.len() + part.len() > bytes_max {
                return Err(Error::Place(format!("the server at {} answers with more than {bytes_max} bytes", self.place())));
            }
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    fn gone(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::Gone { place: self.place(), reason: innermost(error) }
    }
}

/// What the other side did wrong on the way to a secure connection, if that is what an error is about.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let inner = |error: &'e std::io::Error| error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
    let next = |error: &&'e (dyn std::error::Error + 'static)| error.downcast_ref().and_then(inner).or_else(|| error.source());
    std::iter::successors(Some(error), next).find_map(|error| error.downcast_ref())
}

fn builder() -> reqwest::ClientBuilder {
    // The first of a process wins; another that was there before serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let user_agent = concat!("sandhog/", env!("CARGO_PKG_VERSION"));
    reqwest::Client::builder().connect_timeout(CONNECT).user_agent(user_agent).redirect(reqwest::redirect::Policy::none())
}

/// What an error comes down to: "connection refused", and not that an error occurred.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Pauses that grow, until somebody has been away for too long.
struct Pauses {
    pause: Duration,
    away: Stopwatch,
}

impl Pauses {
    fn new() -> Self {
        Self { pause: PAUSE, away: Stopwatch::start() }
    }

    /// Pauses; says whether to try again.
    async fn next(&mut self) -> bool {
        self.pause().await;
        self.away.elapsed() < AWAY_MAX
    }

    async fn pause(&mut self) {
        // A part of the pause is left to chance, so that many who lost the same server do not come back at once.
        tokio::time::sleep(self.pause.mul_f64(rand::random_range(0.5..1.0))).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// A message of the live events.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// The stream begins.
    Subscribed {
        /// Behind this `seq`.
        seq: u64,
    },
    /// A record of the journal.
    Record {
        /// Its `seq`.
        seq: u64,
        /// The id of the step that it is about.
        step: Option<String>,
        /// The plugin that it is about.
        plugin: Option<String>,
        /// The record.
        record: Box<Record>,
    },
    /// A worker says how far it has come.
    Progress {
        /// The run.
        run: RunId,
        /// The id of the step.
        step: Option<String>,
        /// The task.
        index: u32,
        /// From 0 to 1.
        fraction: f64,
        /// A short note.
        note: String,
    },
    /// What a plugin wrote during an attempt that has ended.
    Log {
        /// The run.
        run: RunId,
        /// The id of the step.
        step: Option<String>,
        /// The task.
        index: u32,
        /// The plugin.
        plugin: Option<String>,
        /// What it wrote.
        text: String,
    },
    /// How the server is.
    Stats {
        /// During the last second.
        sample: Sample,
    },
    /// Something changed in the plugin folders.
    Plugins {},
    /// Some messages were missed.
    Gap {
        /// The first record that was.
        from: Option<u64>,
        /// The last.
        to: Option<u64>,
        /// How many messages that are not on record were.
        missed: Option<u64>,
    },
}

type Received = Pin<Box<dyn Stream<Item = Result<sse_stream::Sse, sse_stream::Error>> + Send>>;

/// Events as they come. A connection that is lost is made again, behind the last event that came: nothing is skipped, and nothing comes
/// twice.
pub struct Live {
    client: Client,
    query: StreamQuery,
    stream: Option<Received>,
    ready: VecDeque<Message>,
    pauses: Pauses,
    away_max: Option<Duration>,
}

impl Live {
    /// Gives up when nobody has been there for so long; without, it waits for ever.
    #[must_use]
    pub fn give_up_after(self, away_max: Duration) -> Self {
        Self { away_max: Some(away_max), ..self }
    }

    /// The next message.
    ///
    /// # Errors
    /// When the server refuses, or has been away for too long.
    pub async fn next(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(message);
            }
            match self.receive().await {
                Ok(()) => {}
                Err(error) if error.is_away() && self.away_max.is_none_or(|most| self.pauses.away.elapsed() < most) => {
                    self.stream = None;
                    tracing::debug!(%error, "the stream of events is opened again");
                    self.pauses.pause().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let request =
                    self.client.request(Method::GET, "/v1/stream")?.query(&self.query).header(header::ACCEPT, "text/event-stream");
                let response = self.client.send(request, ANSWER).await?;
                let mut length = 0;
                let bounded = response.bytes_stream().map(move |part| {
                    let part = part.map_err(|error| std::io::Error::other(innermost(&error)))?;
                    length = if part.ends_with(b"\n\n") { 0 } else { length + part.len() };
                    if length > EVENT_BYTES_MAX { Err(std::io::Error::other("an event is too large")) } else { Ok(part) }
                });
                self.stream.insert(Box::pin(SseStream::from_bytes_stream(bounded)))
            }
        };
        let received = tokio::time::timeout(SILENCE_MAX, stream.next()).await;
        let gone = |reason: String| Error::Gone { place: self.client.place(), reason };
        let event = match received {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Err(gone(innermost(&error))),
            Ok(None) => return Err(gone("the stream ended".to_owned())),
            Err(_) => return Err(gone(format!("nothing was heard for {SILENCE_MAX:?}"))),
        };
        self.pauses = Pauses::new();
        let Some(data) = event.data else { return Ok(()) };
        let message: Message = serde_json::from_str(&data).map_err(|error| gone(format!("an event that cannot be read: {error}")))?;
        if let Some(seq) = event.id.and_then(|id| id.parse().ok()) {
            let known = self.query.after.filter(|after| *after >= seq && matches!(message, Message::Record { .. }));
            if known.is_some() {
                return Ok(()); // it came before the connection was lost
            }
            self.query.after = Some(self.query.after.map_or(seq, |after| after.max(seq)));
        }
        self.ready.push_back(message);
        Ok(())
    }
}
