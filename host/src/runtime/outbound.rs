//! `wasi:http` for guests: requests to the origins that a plugin is granted, and to no other.
//!
//! The address that is judged is the one that is connected to: the request's URL is parsed once, names are resolved once,
//! every address is looked at, and only those that passed are tried. Redirects are the guest's to follow, as requests
//! of their own. Secrets are set by the host, over what the guest wrote, and taken out of what comes back. Every size and
//! wait is bounded; all of it stands under the attempt's deadline too.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use super::capture::Capture;
use super::isolation::guest::{Link, Response};
use super::isolation::wire::{self, Refusal};
use super::state::State;
use crate::model::outbound::{Canned, is_public};
use crate::model::text::sanitize;
use crate::model::{Grant, LogSource, OutboundGrant, Secret};

/// How many requests one attempt may make.
const REQUESTS_MAX: u32 = 64;
/// How many of them may be under way at once.
const IN_FLIGHT_MAX: u32 = 4;
/// How many descriptors an attempt may take by its requests: their sockets, and those of looking up names.
pub(super) const DESCRIPTORS: u32 = 2 * IN_FLIGHT_MAX;
/// How much the bodies of one attempt's requests may be together, in bytes: they are collected before they are sent.
const SENT_BYTES_MAX: u64 = 16 << 20;
/// How much the responses of one attempt may be together, in bytes.
const RESPONSE_BYTES_MAX: u64 = 32 << 20;
/// How large the headers of one message may be, as the bindings count them, in bytes.
const FIELDS_BYTES_MAX: usize = 32 << 10;
/// How long a connection may take to be made, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a response may keep silent, before its first byte and between two.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How many connections to one host that nobody uses are kept, and how many names are looked up at once.
const IDLE_CONNECTIONS_MAX: usize = 4;
const LOOKUPS_MAX: usize = 16;
/// How long a connection that nobody uses is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The methods that a guest may use.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The clients of a runtime, made when they are first needed, with a thread of their own.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    inner: OnceLock<Result<Clients, String>>,
    /// Who makes the requests in place of this process, where it may not.
    relay: Option<Arc<Link>>,
}

#[derive(Debug)]
struct Clients {
    /// Connects to public addresses alone.
    public: reqwest::Client,
    /// Connects to any; for origins that name a private address themselves.
    any: reqwest::Client,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Outbound {
    /// Has another process judge and make all requests.
    pub(super) fn relayed(link: Arc<Link>) -> Self {
        Self { relay: Some(link), ..Self::default() }
    }

    fn clients(&self) -> Result<&Clients, Error> {
        self.inner.get_or_init(clients).as_ref().map_err(|reason| Error::InternalError(Some(reason.clone())))
    }
}

fn clients() -> Result<Clients, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(LOOKUPS_MAX)
        .thread_name("sandhog-outbound")
        .enable_all()
        .build()
        .map_err(|error| text(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // The first caller of the process decides; it is the same for all.
    let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
    let client = |private| {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_MAX)
            .read_timeout(SILENCE_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .dns_resolver(Arc::new(Lookup { private }))
            .build()
            .map_err(|error| text(&error))
    };
    Ok(Clients { public: client(false)?, any: client(true)?, runtime: Some(runtime) })
}

/// Resolves names, and hands on the addresses that may be connected to. Written addresses never get here: they are judged before.
#[derive(Debug)]
struct Lookup {
    private: bool,
}

/// All addresses of a name are ones that may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the name means addresses that are not public")]
struct Prohibited;

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::time::timeout(CONNECT_MAX, tokio::net::lookup_host((name.as_str(), 0))).await??.collect();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Prohibited.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// What one attempt may send, and what it has sent.
pub(super) struct Hooks {
    outbound: Arc<Outbound>,
    canned: Option<Arc<[Canned]>>,
    grant: Arc<Grant>,
    plugin: String,
    capture: Capture,
    requests: u32,
    account: Arc<Account>,
}

/// What the requests of one attempt come to together.
#[derive(Default)]
struct Account {
    in_flight: AtomicU32,
    /// Bytes of their bodies.
    sent: AtomicU64,
    /// Bytes of their responses' bodies.
    received: AtomicU64,
    /// The first request that was denied, and the line that would allow it.
    denied: OnceLock<String>,
}

impl Hooks {
    pub(super) fn new(outbound: Arc<Outbound>, canned: Option<Arc<[Canned]>>, grant: Arc<Grant>, plugin: String, capture: Capture) -> Self {
        Self { outbound, canned, grant, plugin, capture, requests: 0, account: Arc::default() }
    }

    /// The log that it tells what was denied.
    pub(super) fn capture(&self) -> &Capture {
        &self.capture
    }

    /// What was denied, for whoever asks why an attempt failed.
    pub(super) fn denied(&self) -> Option<&str> {
        self.account.denied.get().map(String::as_str)
    }

    /// Denies a request. The first one is told, to the plugin's log and to ours; a guest that goes on asking fills neither.
    fn deny(&mut self, url: &str, why: &str, help: impl FnOnce(&Self) -> String) -> Error {
        if self.account.denied.get().is_none() {
            let text = format!("denied: a request to {}: {why}{}", sanitize(url, 200), help(self));
            self.capture.line(LogSource::Warn, &text);
            tracing::warn!(plugin = %self.plugin, url = %sanitize(url, 200), why, "a request was denied");
            let _ = self.account.denied.set(text);
        }
        Error::HttpRequestDenied
    }

    /// Judges a request before anything of it leaves: where it goes, and which secrets go with it.
    fn judge(&mut self, method: &Method, uri: &http::Uri) -> Result<(Url, OutboundGrant, Vec<Secret>), Error> {
        let text = uri.to_string();
        let url = Url::parse(&text).map_err(|_| Error::HttpRequestUriInvalid)?;
        let nothing = |_: &Self| String::new();
        self.requests += 1; // those that are denied count too
        if self.requests > REQUESTS_MAX {
            return Err(self.deny(&text, "it is one more than an attempt may make", nothing));
        }
        if !METHODS.contains(method) {
            return Err(self.deny(&text, "the method is not one that plugins may use", nothing));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.deny(&text, "there is a user in the address", nothing));
        }
        let Some(granted) = self.grant.outbound.iter().find(|granted| granted.origin.covers(&url)).cloned() else {
            let origin = sanitize(&url.origin().ascii_serialization(), 200);
            let help =
                |hooks: &Self| format!("; to allow it, write into [grants.{}] of sandhog.toml: outbound = [\"{origin}\"]", hooks.plugin);
            return Err(self.deny(&text, "it is not granted", help));
        };
        let private = granted.private || granted.origin.names_private();
        let address = match url.host() {
            Some(url::Host::Ipv4(v4)) => Some(v4.into()),
            Some(url::Host::Ipv6(v6)) => Some(v6.into()),
            Some(url::Host::Domain(_)) | None => None,
        };
        if address.is_some_and(|address| !private && !is_public(address)) {
            return Err(self.deny(&text, "the address is not public", nothing));
        }
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
        let secrets: Vec<Secret> = self.grant.secrets.iter().filter(|secret| secret.host.eq_ignore_ascii_case(&host)).cloned().collect();
        let stays_here = address.map_or(host == "localhost", |address| address.is_loopback());
        if !secrets.is_empty() && url.scheme() != "https" && !stays_here {
            return Err(self.deny(&text, "a secret would be sent in the clear; use https", nothing));
        }
        Ok((url, OutboundGrant { private, ..granted }, secrets))
    }
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (parts, body) = request.into_parts();
        if let Some(link) = &self.outbound.relay {
            return Box::new(relay(Arc::clone(link), parts, body, options, self.capture.clone(), Arc::clone(&self.account)));
        }
        let judged = self.judge(&parts.method, &parts.uri);
        if let (Ok((url, ..)), Some(canned)) = (&judged, &self.canned) {
            let answer = canned_answer(canned, &parts.method, url, &self.capture);
            let account = Arc::clone(&self.account);
            return Box::new(async move {
                collect(body, &account.sent).await?;
                answer
            });
        }
        let (outbound, account) = (Arc::clone(&self.outbound), Arc::clone(&self.account));
        // Whatever was sent along with this request or another: none of it comes back.
        let mut hidden: Vec<Bytes> = self.grant.secrets.iter().map(|secret| Bytes::from(secret.value.clone())).collect();
        hidden.retain(|value| !value.is_empty());
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Box::new(async move {
            let (url, granted, secrets) = judged?;
            let Some(place) = Place::take(&account) else { return Err(Error::ConnectionLimitReached) };
            let clients = outbound.clients()?;
            let client = if granted.private { clients.any.clone() } else { clients.public.clone() };
            let runtime = clients.runtime.as_ref().ok_or(Error::ConfigurationError)?;
            // The guest goes on writing while this waits for it.
            let body = collect(body, &account.sent).await?;
            let mut headers = parts.headers;
            headers.remove(http::header::HOST); // as the URL has it
            if !hidden.is_empty() {
                // A secret that is sent back is looked for in plain bytes, and in one piece.
                for name in [http::header::RANGE, http::header::IF_RANGE, http::header::TE] {
                    headers.remove(name);
                }
                headers.insert(http::header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            for secret in &secrets {
                let name: HeaderName = secret.header.parse().map_err(|_| Error::ConfigurationError)?;
                let mut value: HeaderValue = format!("{}{}", secret.prefix, secret.value).parse().map_err(|_| Error::ConfigurationError)?;
                value.set_sensitive(true);
                headers.insert(name, value); // over what the guest wrote
            }
            let wait = options.and_then(|options| options.first_byte_timeout).unwrap_or(SILENCE_MAX).min(SILENCE_MAX);
            let request = client.request(parts.method, url).headers(headers).body(body);
            // Sockets belong to the thread that has them; the guests' threads know no network.
            let sent = AbortOnDropHandle::new(runtime.spawn(async move { tokio::time::timeout(wait, request.send()).await }));
            let response = match sent.await {
                Ok(Ok(Ok(response))) => response,
                Ok(Ok(Err(error))) => return Err(told(&error)),
                Ok(Err(_)) => return Err(Error::ConnectionReadTimeout),
                Err(_) => return Err(Error::InternalError(None)),
            };
            let (mut parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
            scrub_headers(&mut parts.headers, &hidden);
            let body = Incoming { body: body.boxed_unsync(), secrets: hidden, held: BytesMut::new(), place };
            Ok((http::Response::from_parts(parts, body.boxed_unsync()), Box::new(async { Ok(()) }) as Box<_>))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        64 << 10
    }
}

/// Has another process judge a request and make it.
async fn relay(
    link: Arc<Link>,
    parts: http::request::Parts,
    body: WasiBody,
    options: Option<RequestOptions>,
    capture: Capture,
    account: Arc<Account>,
) -> Sent {
    let body = collect(body, &account.sent).await?;
    let asked = RelayedBody { id: link.next(), link, part: None }; // whoever drops the request wants no response either
    let wait = options.and_then(|options| options.first_byte_timeout);
    let Response { head, told, denied } = asked.link.request(asked.id, parts, body, wait).await;
    for line in told {
        capture.line(line.source, &line.text);
    }
    if let Some(denied) = denied {
        let _ = account.denied.set(denied);
    }
    let head = head.map_err(Error::from)?;
    let mut response = http::Response::new(asked.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(head.status).map_err(|_| Error::HttpProtocolError)?;
    *response.headers_mut() = wire::header_map(head.headers);
    Ok((response, Box::new(async { Ok(()) }) as Box<_>))
}

/// The body of a response that another process reads.
struct RelayedBody {
    link: Arc<Link>,
    id: u64,
    part: Option<tokio::sync::oneshot::Receiver<Option<Result<Bytes, Refusal>>>>,
}

impl Body for RelayedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { link, id, part } = &mut *self;
        let polled = Pin::new(part.get_or_insert_with(|| link.pull(*id))).poll(cx);
        let Poll::Ready(told) = polled else { return Poll::Pending };
        *part = None;
        Poll::Ready(match told {
            Ok(None) => None,
            Ok(Some(Ok(data))) => Some(Ok(Frame::data(data))),
            Ok(Some(Err(refusal))) => Some(Err(refusal.into())),
            Err(_) => Some(Err(Error::InternalError(None))),
        })
    }
}

impl Drop for RelayedBody {
    fn drop(&mut self) {
        self.link.forget(self.id);
    }
}

/// The response that stands in for a service.
fn canned_answer(canned: &[Canned], method: &Method, url: &Url, capture: &Capture) -> Sent {
    let Some(answer) = canned.iter().find(|canned| canned.method == method.as_str() && canned.url == url.as_str()) else {
        capture.line(
            LogSource::Warn,
            &format!("{method} {} has no answer here: no [[http]] of the case names it", sanitize(url.as_str(), 400)),
        );
        return Err(Error::DestinationUnavailable);
    };
    capture.line(LogSource::Debug, &format!("{method} {} was answered {} by the case", sanitize(url.as_str(), 400), answer.status));
    let mut response = http::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let body = http_body_util::Full::new(answer.body.clone()).map_err(|never| match never {}).boxed_unsync();
    let response = response.body(body).map_err(|error| Error::InternalError(Some(error.to_string())))?;
    Ok((response, Box::new(async { Ok(()) }) as Box<_>))
}

/// A body, in one piece: what is counted is what it takes, however small the pieces are in which it comes.
async fn collect(mut body: WasiBody, sent: &AtomicU64) -> Result<Bytes, Error> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if sent.fetch_add(data.len() as u64, Ordering::SeqCst) + data.len() as u64 > SENT_BYTES_MAX {
            return Err(Error::HttpRequestBodySize(Some(SENT_BYTES_MAX)));
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

/// One request under way.
struct Place(Arc<Account>);

impl Place {
    fn take(account: &Arc<Account>) -> Option<Self> {
        let place = Self(Arc::clone(account));
        (account.in_flight.fetch_add(1, Ordering::SeqCst) < IN_FLIGHT_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a client's error is for the guest: of a closed set, and without a word about this machine's network.
fn told(error: &reqwest::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if inner.is::<Prohibited>() {
            return Error::DestinationIpProhibited;
        }
        if inner.downcast_ref::<rustls::Error>().is_some() {
            return Error::TlsProtocolError;
        }
        let io = inner.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return Error::ConnectionRefused;
        }
        // What an error of the system wraps is not its source.
        source = match io.and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    match error {
        error if error.is_timeout() && error.is_connect() => Error::ConnectionTimeout,
        error if error.is_timeout() => Error::ConnectionReadTimeout,
        error if error.is_connect() => Error::DestinationUnavailable,
        _ => Error::HttpProtocolError,
    }
}

/// The body of a response: counted, and without the secrets that went with its request.
struct Incoming {
    body: http_body_util::combinators::UnsyncBoxBody<Bytes, reqwest::Error>,
    secrets: Vec<Bytes>,
    /// What may be the beginning of a secret.
    held: BytesMut,
    place: Place,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(told(&error)))),
                Poll::Ready(None) if self.held.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) => {
                    let Self { held, secrets, .. } = &mut *self;
                    return Poll::Ready(Some(Ok(Frame::data(scrub(held, secrets, true)))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are not handed on: nobody has looked at them.
                    let Ok(data) = frame.into_data() else { continue };
                    let all = self.place.0.received.fetch_add(data.len() as u64, Ordering::SeqCst) + data.len() as u64;
                    if all > RESPONSE_BYTES_MAX {
                        return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(RESPONSE_BYTES_MAX)))));
                    }
                    if self.secrets.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    let Self { held, secrets, .. } = &mut *self;
                    held.extend_from_slice(&data);
                    let ready = scrub(held, secrets, false);
                    if !ready.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(ready))));
                    }
                }
            }
        }
    }
}

/// Makes stars of every secret in the values of headers. A header with one in its name, where letters are small, is left out.
fn scrub_headers(headers: &mut HeaderMap, secrets: &[Bytes]) {
    let small: Vec<Vec<u8>> = secrets.iter().map(|secret| secret.to_ascii_lowercase()).collect();
    let has = |name: &HeaderName, secret: &Vec<u8>| name.as_str().as_bytes().windows(secret.len()).any(|part| part == secret);
    let named: Vec<HeaderName> = headers.keys().filter(|name| small.iter().any(|secret| has(name, secret))).cloned().collect();
    for name in named {
        headers.remove(name);
    }
    for value in headers.values_mut() {
        let scrubbed = scrub(&mut BytesMut::from(value.as_bytes()), secrets, true);
        if scrubbed != value.as_bytes() {
            *value = HeaderValue::from_bytes(&scrubbed).unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }
}

/// Takes bytes with every secret in them as stars. What may still become a longer secret stays, unless this is the end. The
/// secrets are sorted, the longest first.
fn scrub(held: &mut BytesMut, secrets: &[Bytes], end: bool) -> Bytes {
    let longest = secrets.first().map_or(0, Bytes::len);
    let mut at = 0;
    while at < held.len() && (end || at + longest <= held.len()) {
        match secrets.iter().find(|secret| held[at..].starts_with(secret)) {
            Some(secret) => {
                held[at..at + secret.len()].fill(b'*');
                at += secret.len();
            }
            None => at += 1,
        }
    }
    held.split_to(at.min(held.len())).freeze()
}

/// The context of the bindings for one attempt.
pub(super) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(FIELDS_BYTES_MAX);
    context
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(origins: &[&str], secrets: Vec<Secret>) -> Hooks {
        let outbound = origins.iter().map(|origin| OutboundGrant { origin: origin.parse().expect("an origin"), private: false }).collect();
        let grant = Grant { outbound, secrets, ..Grant::default() };
        Hooks::new(Arc::default(), None, Arc::new(grant), "p".to_owned(), Capture::new(1 << 16))
    }

    fn secret(host: &str) -> Secret {
        Secret { name: "s".into(), host: host.into(), header: "authorization".into(), prefix: "Bearer ".into(), value: "hush-hush".into() }
    }

    #[test]
    fn what_is_not_granted_is_denied_with_the_line_that_would_allow_it() {
        let mut hooks = hooks(&["https://api.example.com"], vec![secret("api.example.com")]);
        let mut judge = |method: Method, url: &str| hooks.judge(&method, &url.parse().expect("a URL")).map(|(_, _, secrets)| secrets.len());
        assert_eq!(judge(Method::POST, "https://api.example.com/v1").expect("granted"), 1);
        for url in
            ["https://api.example.com:444/", "https://evil.example.net/", "http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/"]
        {
            assert!(matches!(judge(Method::GET, url), Err(Error::HttpRequestDenied)), "{url}");
        }
        assert!(matches!(judge(Method::CONNECT, "https://api.example.com/"), Err(Error::HttpRequestDenied)));
        assert!(hooks.denied().expect("denied").contains("outbound = [\"https://api.example.com:444\"]"));
    }

    #[test]
    fn addresses_that_are_not_public_have_to_be_named_and_secrets_do_not_travel_in_the_clear() {
        let mut wide = hooks(&["http://127.0.0.1:8080", "http://*.example.com"], vec![secret("a.example.com"), secret("127.0.0.1")]);
        let mut judge = |url: &str| wide.judge(&Method::GET, &url.parse().expect("a URL")).map(|(_, _, secrets)| secrets.len());
        assert_eq!(judge("http://127.0.0.1:8080/x").expect("named"), 1);
        assert_eq!(judge("http://b.example.com/").expect("no secret is meant for it"), 0);
        assert!(judge("http://a.example.com/").is_err(), "in the clear");
        for _ in 0..REQUESTS_MAX {
            let _ = judge("http://127.0.0.1:8080/x");
        }
        assert!(judge("http://127.0.0.1:8080/x").is_err(), "too many");
    }

    #[test]
    fn a_secret_is_taken_out_of_headers_their_names_included() {
        let header = |name: &'static str, value: &'static str| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let told = [header("x-echo", "before hush-Hush, after"), header("x-hush-hush", "1"), header("x-plain", "hush")];
        let mut headers: HeaderMap = told.into_iter().collect();
        scrub_headers(&mut headers, &[Bytes::from_static(b"hush-Hush")]);
        let expected = [header("x-echo", "before *********, after"), header("x-plain", "hush")];
        assert_eq!(headers, expected.into_iter().collect::<HeaderMap>());
    }

    #[test]
    fn a_secret_is_taken_out_of_a_response_wherever_its_frames_are_cut() {
        let whole = b"before hush-hush, hush-hus, hush-hush-more and hush-hush".to_vec();
        for cut in 1..whole.len() {
            let frames = vec![Bytes::copy_from_slice(&whole[..cut]), Bytes::copy_from_slice(&whole[cut..])];
            let stream = futures_util::stream::iter(frames.into_iter().map(|data| Ok::<_, reqwest::Error>(Frame::data(data))));
            let place = Place::take(&Arc::default()).expect("a place");
            let incoming = Incoming {
                body: http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(stream)),
                secrets: vec![Bytes::from_static(b"hush-hush-more"), Bytes::from_static(b"hush-hush")],
                held: BytesMut::new(),
                place,
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let read = runtime.block_on(incoming.collect()).map_err(|_| ()).expect("reads").to_bytes();
            assert_eq!(read, "before *********, hush-hus, ************** and *********", "cut at {cut}");
        }
    }
}
