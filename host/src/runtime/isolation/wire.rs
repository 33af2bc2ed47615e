//! What a host and the process that runs a guest for it say to each other: frames of MessagePack, each with its length in front.
//!
//! The host believes nothing of what it is told here: a guest that broke out of the engine could say anything. Frames are bounded
//! before they are read, and what they hold is looked at as an answer of the guest itself would be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use wasmtime_wasi_http::Error as HttpError;

use crate::model::snapshot::{HELD_BYTES_MAX, Look};
use crate::model::{Access, Artifact, Failure, FileGrant, Grant, Limits, Log, LogLine, OutboundGrant, Receipt, SubjectFile, Task, Verdict};
use crate::runtime::Command;
use crate::runtime::filesystem::OPEN_BYTES_MAX;

/// The largest frame that a process is sent by its host, in bytes; who sends is trusted.
pub(super) const TO_GUEST_BYTES_MAX: usize = u32::MAX as usize;
/// How much a frame may hold beside what an answer and a log may be: names, lengths, what was looked at.
const SLACK_BYTES: u64 = 40 << 20;

/// How large a frame may be that the process of an attempt sends, in bytes.
pub(super) fn to_host_bytes_max(limits: &Limits) -> usize {
    let answer = limits.output.saturating_add(limits.log.saturating_mul(2)).saturating_add(SLACK_BYTES);
    usize::try_from(answer).unwrap_or(usize::MAX)
}

/// From the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToGuest {
    /// Is walled in, and tries to get out; also of a folder, where there is one for that.
    Try(Option<PathBuf>),
    /// Is walled in, and runs a guest.
    Start(Box<Start>),
    /// The attempt is cancelled.
    Cancel,
    /// A file that was asked for.
    Content { id: u64, content: Result<Bytes, String> },
    /// What came of a request.
    Response { id: u64, head: Result<Head, Refusal>, told: Vec<LogLine>, denied: Option<String> },
    /// The next part of a response's body; none at its end.
    Part { id: u64, part: Option<Result<Bytes, Refusal>> },
}

/// From the process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToHost {
    /// What came of its trying to get out.
    Tried(Vec<Trial>),
    /// How far the task has come.
    Progress { fraction: f64, note: String },
    /// Asks for a file of the subject, or of its data.
    Read { id: u64, of_data: bool, path: String },
    /// Asks for a request to be made.
    Request(Request),
    /// Asks for the next part of a response's body.
    Pull { id: u64 },
    /// Wants no more of a response.
    Forget { id: u64 },
    /// How the attempt ended. The last word.
    Done(Box<Done>),
}

/// One thing that nobody inside may do, and what came of trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What was tried.
    pub act: String,
    /// Why it failed, as it has to; none where it could be done.
    pub stopped_by: Option<String>,
}

/// One attempt.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) stack_bytes: usize,
    pub(super) code_bytes: u64,
    pub(super) limits: WireLimits,
    /// How much of the timeout is left.
    pub(super) left: Duration,
    pub(super) grant: WireGrant,
    pub(super) name: String,
    pub(super) digest: crate::model::Digest,
    pub(super) command: Command,
    pub(super) entrance: WireEntrance,
    pub(super) notes_looks: bool,
    pub(super) tells_progress: bool,
}

/// How much content of a subject and of data there is at once at the most: what each of both trees holds, and what is open beside that.
const CONTENT_BYTES_MAX: u64 = 2 * HELD_BYTES_MAX + OPEN_BYTES_MAX;
/// What a file takes in a tree beside its content, in bytes: its name and those of its folders, several times.
const FILE_BYTES: u64 = 4096;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireEntrance {
    Worker(Task),
    Gate(WireSubject),
    Units(WireSubject),
}

impl WireEntrance {
    /// How much memory what a gate looks at takes at the most, in bytes: what is held of it, what is open, and what is under way.
    pub(super) fn content_bytes(&self) -> u64 {
        let (Self::Gate(subject) | Self::Units(subject)) = self else { return 0 };
        let sizes = || subject.snapshot.iter().chain(&subject.data).map(|(_, size)| *size);
        let all = sizes().fold(0, u64::saturating_add).min(CONTENT_BYTES_MAX);
        let under_way = sizes().max().unwrap_or(0).saturating_mul(3); // a buffer that grows, and what is taken out of it
        let names = sizes().count() as u64 * FILE_BYTES;
        all.saturating_add(under_way).saturating_add(names)
    }
}

/// A subject without the content of its files, which is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireSubject {
    pub(super) files: Vec<SubjectFile>,
    pub(super) snapshot: Vec<(String, u64)>,
    pub(super) data: Vec<(String, u64)>,
    pub(super) task: Option<Arc<Task>>,
    pub(super) usage: Option<Receipt>,
    pub(super) params: String,
    pub(super) unit: Option<String>,
}

/// As [`Limits`], exactly.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct WireLimits {
    fuel: u64,
    timeout: Duration,
    memory: u64,
    input: u64,
    output: u64,
    log: u64,
    handles: u32,
    scratch: u64,
}

impl From<Limits> for WireLimits {
    fn from(limits: Limits) -> Self {
        let Limits { fuel, timeout, memory, input, output, log, handles, scratch } = limits;
        Self { fuel, timeout, memory, input, output, log, handles, scratch }
    }
}

impl From<WireLimits> for Limits {
    fn from(limits: WireLimits) -> Self {
        let WireLimits { fuel, timeout, memory, input, output, log, handles, scratch } = limits;
        Self { fuel, timeout, memory, input, output, log, handles, scratch }
    }
}

/// What of a grant a process needs: requests are made, and secrets are kept, by the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireGrant {
    files: Vec<(PathBuf, String, bool)>,
    environment: BTreeMap<String, String>,
    clock: bool,
    randomness: bool,
    reuse: u32,
    /// Only to know that there are any.
    outbound: Vec<(String, bool)>,
}

impl From<&Grant> for WireGrant {
    fn from(grant: &Grant) -> Self {
        let file = |file: &FileGrant| (file.path.clone(), file.at.clone(), file.access == Access::ReadWrite);
        Self {
            files: grant.files.iter().map(file).collect(),
            environment: grant.environment.clone(),
            clock: grant.clock,
            randomness: grant.randomness,
            reuse: grant.reuse,
            outbound: grant.outbound.iter().map(|granted| (granted.origin.to_string(), granted.private)).collect(),
        }
    }
}

impl From<WireGrant> for Grant {
    fn from(grant: WireGrant) -> Self {
        let WireGrant { files, environment, clock, randomness, reuse, outbound } = grant;
        let file = |(path, at, writes)| FileGrant { path, at, access: if writes { Access::ReadWrite } else { Access::Read } };
        let origin = |(origin, private): (String, bool)| Some(OutboundGrant { origin: origin.parse().ok()?, private });
        Self {
            files: files.into_iter().map(file).collect(),
            environment,
            clock,
            randomness,
            reuse,
            outbound: outbound.into_iter().filter_map(origin).collect(),
            secrets: Vec::new(),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) result: Result<WireAnswer, Failure>,
    pub(super) receipt: Receipt,
    pub(super) log: Log,
    pub(super) looks: WireLooks,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireAnswer {
    Artifacts(Vec<Artifact>),
    Verdict(Verdict),
    Units(Vec<String>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireLooks {
    /// Nobody wanted to know.
    None,
    /// More than are held.
    TooMany,
    These(BTreeSet<Look>),
}

/// A request of a guest over HTTP, before anybody has judged it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) headers: Vec<(String, Bytes)>,
    pub(super) body: Bytes,
    pub(super) first_byte_timeout: Option<Duration>,
}

/// What stands in front of a response.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::runtime) struct Head {
    pub(in crate::runtime) status: u16,
    pub(in crate::runtime) headers: Vec<(String, Bytes)>,
}

/// Why there is no response, or no more of it: those errors of `wasi:http` that [`super::super::outbound`] gives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::runtime) enum Refusal {
    Denied,
    UriInvalid,
    TooManyConnections,
    Configuration,
    RequestBodySize(Option<u64>),
    ResponseBodySize(Option<u64>),
    ConnectionTimeout,
    ReadTimeout,
    Refused,
    Unavailable,
    Prohibited,
    Tls,
    Protocol,
    Internal(Option<String>),
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::HttpRequestDenied => Self::Denied,
            HttpError::HttpRequestUriInvalid => Self::UriInvalid,
            HttpError::ConnectionLimitReached => Self::TooManyConnections,
            HttpError::ConfigurationError => Self::Configuration,
            HttpError::HttpRequestBodySize(size) => Self::RequestBodySize(size),
            HttpError::HttpResponseBodySize(size) => Self::ResponseBodySize(size),
            HttpError::ConnectionTimeout => Self::ConnectionTimeout,
            HttpError::ConnectionReadTimeout => Self::ReadTimeout,
            HttpError::ConnectionRefused => Self::Refused,
            HttpError::DestinationUnavailable => Self::Unavailable,
            HttpError::DestinationIpProhibited => Self::Prohibited,
            HttpError::TlsProtocolError => Self::Tls,
            HttpError::HttpProtocolError => Self::Protocol,
            HttpError::InternalError(reason) => Self::Internal(reason),
            _ => Self::Internal(None), // an open set; the host makes no other
        }
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::HttpRequestDenied,
            Refusal::UriInvalid => Self::HttpRequestUriInvalid,
            Refusal::TooManyConnections => Self::ConnectionLimitReached,
            Refusal::Configuration => Self::ConfigurationError,
            Refusal::RequestBodySize(size) => Self::HttpRequestBodySize(size),
            Refusal::ResponseBodySize(size) => Self::HttpResponseBodySize(size),
            Refusal::ConnectionTimeout => Self::ConnectionTimeout,
            Refusal::ReadTimeout => Self::ConnectionReadTimeout,
            Refusal::Refused => Self::ConnectionRefused,
            Refusal::Unavailable => Self::DestinationUnavailable,
            Refusal::Prohibited => Self::DestinationIpProhibited,
            Refusal::Tls => Self::TlsProtocolError,
            Refusal::Protocol => Self::HttpProtocolError,
            Refusal::Internal(reason) => Self::InternalError(reason),
        }
    }
}

/// Headers as they travel.
pub(in crate::runtime) fn headers(of: &http::HeaderMap) -> Vec<(String, Bytes)> {
    of.iter().map(|(name, value)| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}

/// Headers as they were. What is none is left out.
pub(in crate::runtime) fn header_map(of: Vec<(String, Bytes)>) -> http::HeaderMap {
    let header =
        |(name, value): (String, Bytes)| Some((name.parse::<http::HeaderName>().ok()?, http::HeaderValue::from_maybe_shared(value).ok()?));
    let mut map = http::HeaderMap::new();
    for (name, value) in of.into_iter().filter_map(header) {
        map.append(name, value);
    }
    map
}

fn bad(error: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string())
}

/// A message as a frame.
///
/// # Errors
/// When it is too long to be one.
pub(super) fn frame<T: Serialize>(message: &T) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; size_of::<u32>()];
    rmp_serde::encode::write_named(&mut bytes, message).map_err(bad)?;
    let length = u32::try_from(bytes.len() - size_of::<u32>()).map_err(bad)?;
    bytes[..size_of::<u32>()].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

fn length(of: [u8; size_of::<u32>()], bytes_max: usize) -> std::io::Result<usize> {
    let length = u32::from_le_bytes(of) as usize;
    if length > bytes_max { Err(bad(format_args!("a frame of {length} bytes, where {bytes_max} are allowed"))) } else { Ok(length) }
}

/// Writes a frame.
///
/// # Errors
/// When nobody reads it.
pub(super) fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> std::io::Result<()> {
    stream.write_all(&frame(message)?)
}

/// Reads a frame, and waits for it.
///
/// # Errors
/// When there is none, it is too long, or it is no message.
pub(super) fn read<T: DeserializeOwned>(stream: &mut impl Read, bytes_max: usize) -> std::io::Result<T> {
    let mut head = [0; size_of::<u32>()];
    stream.read_exact(&mut head)?;
    let length = length(head, bytes_max)?;
    // Grows as it comes: a length alone takes no memory.
    let mut bytes = Vec::new();
    stream.take(length as u64).read_to_end(&mut bytes)?;
    parse(&bytes, length)
}

/// As [`read`], without blocking a thread.
///
/// # Errors
/// As for [`read`].
pub(super) async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> std::io::Result<T> {
    let mut head = [0; size_of::<u32>()];
    stream.read_exact(&mut head).await?;
    let length = length(head, bytes_max)?;
    let mut bytes = Vec::new();
    stream.take(length as u64).read_to_end(&mut bytes).await?;
    parse(&bytes, length)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], length: usize) -> std::io::Result<T> {
    if bytes.len() < length {
        return Err(std::io::ErrorKind::UnexpectedEof.into()); // the other side ended in the middle of it
    }
    rmp_serde::from_slice(bytes).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_was_and_a_longer_one_is_not_read() {
        let sent = ToHost::Done(Box::new(Done {
            result: Ok(WireAnswer::Artifacts(vec![Artifact {
                name: "a".into(),
                media_type: String::new(),
                content: Bytes::from_static(b"\0\xff"),
            }])),
            receipt: Receipt { fuel: 7, ..Receipt::default() },
            log: Log::default(),
            looks: WireLooks::These(BTreeSet::from([Look::Listing(String::new())])),
        }));
        let bytes = frame(&sent).expect("a frame");
        let again: ToHost = read(&mut &bytes[..], bytes.len()).expect("reads");
        assert_eq!(format!("{again:?}"), format!("{sent:?}"));
        assert!(read::<ToHost>(&mut &bytes[..], bytes.len() - 5).is_err());
        for end in 0..bytes.len() {
            assert!(read::<ToHost>(&mut &bytes[..end], bytes.len()).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_secret_is_not_among_what_a_process_is_given() {
        let (name, host, header) = ("s".to_owned(), "api.example.com".to_owned(), "x-api-key".to_owned());
        let secret = crate::model::Secret { name, host, header, prefix: "Bearer ".to_owned(), value: "hush-hush-hush".to_owned() };
        let outbound = OutboundGrant { origin: "https://api.example.com".parse().expect("an origin"), private: false };
        let environment = [("TOLD".to_owned(), "told".to_owned())].into();
        let grant = Grant { outbound: vec![outbound], secrets: vec![secret], environment, ..Grant::default() };
        let given = serde_json::to_string(&WireGrant::from(&grant)).expect("JSON");
        assert!(given.contains("told") && given.contains("api.example.com"), "{given}");
        assert!(!given.contains("hush") && !given.contains("x-api-key") && !given.contains("Bearer"), "{given}");
        let there = Grant::from(WireGrant::from(&grant));
        assert_eq!(there, Grant { secrets: Vec::new(), ..grant });
    }

    #[test]
    fn no_bytes_of_a_process_end_its_host() {
        let bytes = frame(&ToHost::Read { id: 1, of_data: false, path: "a/b".into() }).expect("a frame");
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            let _ = read::<ToHost>(&mut &bad[..], 1 << 20);
        }
        // Nested without end.
        let mut deep = vec![0x91; 1 << 20];
        deep.splice(0..0, u32::to_le_bytes(1 << 20));
        assert!(read::<ToHost>(&mut &deep[..], 2 << 20).is_err());
    }
}
