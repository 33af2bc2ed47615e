//! Who may ask: the checks before every route, and the shape of every answer.
//!
//! Over the socket in the state directory only its owner comes. Over the network a request must name a host that is this server,
//! must not come from another site, must carry the token where there is one, and must keep to the rate.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::Metrics;
use super::problem::{Code, Problem};

/// How long a peer may take for the next part of a request's body.
const BODY_STALL: Duration = Duration::from_secs(30);
/// How long all of a body may take.
const BODY_WHOLE: Duration = Duration::from_mins(10);
/// Of how many bytes a body takes a share of the room for all of them. Less than one is taken whatever else is under way.
const BODY_SHARE_BYTES: usize = 64 << 10;
/// How many shares there are: 512 MiB.
const BODY_SHARES: usize = (512 << 20) / BODY_SHARE_BYTES;
/// How much of another's error is told on, in bytes.
const ERROR_BYTES_MAX: usize = 4096;
/// After so many requests, peers that were quiet are forgotten.
const FORGET_EVERY: usize = 10_000;
/// The session of a browser that gave the token.
pub const COOKIE: &str = "sandhog_session";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Pages that need no token: they hold nothing, and ask for one.
const OPEN: [&str; 4] = ["/", "/healthz", "/readyz", "/favicon.ico"];

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The socket in the state directory.
    Socket,
    /// An address of the network.
    Network,
}

/// What a server on the network asks of requests.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The token; none is asked for without.
    pub token: Option<String>,
    /// Names by which the server may be called, beside its address and `localhost`.
    pub hosts: Vec<String>,
    /// Other sites whose pages may ask, such as `https://ci.example.com`.
    pub origins: Vec<String>,
    /// How many requests a peer may make in a second; 0 for any number.
    pub rate: u32,
}

/// The checks.
pub struct Guard {
    door: Door,
    token: Option<Token>,
    hosts: Vec<String>,
    origins: Vec<String>,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    requests: AtomicUsize,
    metrics: Metrics,
    bodies: Arc<Semaphore>,
}

/// A token, as it is compared: in constant time.
struct Token {
    hash: blake3::Hash,
    session: blake3::Hash,
}

impl Guard {
    /// The checks of a door, which has room of its own for bodies.
    #[must_use]
    pub fn new(door: Door, terms: Terms, metrics: Metrics) -> Self {
        let Terms { token, hosts, origins, rate } = terms;
        let token = token.map(|token| Token {
            hash: blake3::hash(token.as_bytes()),
            session: blake3::Hash::from_bytes(blake3::derive_key("sandhog session of a browser", token.as_bytes())),
        });
        let rate = std::num::NonZeroU32::new(rate).map(|rate| RateLimiter::keyed(Quota::per_second(rate)));
        let lower = |list: Vec<String>| list.into_iter().map(|text| text.to_ascii_lowercase()).collect();
        Self {
            door,
            token,
            hosts: lower(hosts),
            origins: lower(origins),
            rate,
            requests: AtomicUsize::new(0),
            metrics,
            bodies: Arc::new(Semaphore::new(BODY_SHARES)),
        }
    }

    /// The value of the session's cookie, for who gives the right token; an empty one where none is asked for.
    #[must_use]
    pub fn session(&self, token: &str) -> Option<String> {
        match &self.token {
            None => Some(String::new()),
            Some(own) => (own.hash == blake3::hash(token.as_bytes())).then(|| own.session.to_hex().to_string()),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        if self.door == Door::Socket {
            return Ok(());
        }
        let headers = request.headers();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase).unwrap_or_default();
        if headers.get_all(header::HOST).iter().count() > 1 {
            return Err(Problem::new(Code::Malformed, "expected one `host`, found several")); // RFC 9112, 3.2
        }
        self.check_host(&host)?;
        if let Some(authority) = request.uri().authority() {
            self.check_host(&authority.as_str().to_ascii_lowercase())?;
        }
        self.check_origin(headers, &host)?;
        self.check_rate(request)?;
        if request.method() == Method::OPTIONS && self.foreign(headers).is_some() {
            return Ok(()); // a browser asks whether its page may ask, and sends no token for that
        }
        let path = request.uri().path();
        let open = OPEN.contains(&path) || path.starts_with("/dashboard/") || (path == "/v1/session" && request.method() == Method::POST);
        if open || self.has_token(headers) {
            return Ok(());
        }
        let help = "send `authorization: Bearer TOKEN`; a browser logs in by POST /v1/session";
        let sent = headers.contains_key(header::AUTHORIZATION);
        let detail = if sent { "the token that was sent is not that of this server" } else { "this server asks for a token" };
        Err(Problem::new(Code::Unauthorized, detail).help(help))
    }

    /// A page of another site can have its own name lead here (DNS rebinding): the name must be one of ours.
    fn check_host(&self, host: &str) -> Result<(), Problem> {
        let authority: Option<http::uri::Authority> = host.parse().ok();
        let name = authority.as_ref().map(http::uri::Authority::host).unwrap_or_default();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if name == "localhost" || bare.parse::<IpAddr>().is_ok() || self.hosts.iter().any(|known| known == name || known == host) {
            return Ok(());
        }
        let detail = format!("this server is not called `{host}`");
        Err(Problem::new(Code::Forbidden, detail).help("use its address; or name it in `hosts` of [serve]"))
    }

    fn check_origin(&self, headers: &HeaderMap, host: &str) -> Result<(), Problem> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).is_some_and(|place| place == host);
        if own || self.origins.contains(&origin) {
            return Ok(());
        }
        let detail = format!("a page of `{origin}` may not ask here");
        Err(Problem::new(Code::Forbidden, detail).help("name it in `origins` of [serve], if it is yours"))
    }

    /// The origin of another site whose pages may ask, where the request comes from one.
    fn foreign(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let known = origin.to_str().is_ok_and(|origin| self.origins.contains(&origin.to_ascii_lowercase()));
        known.then(|| origin.clone())
    }

    fn check_rate(&self, request: &Request) -> Result<(), Problem> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let (Some(rate), Some(peer)) = (&self.rate, peer) else { return Ok(()) };
        if self.requests.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            rate.retain_recent();
        }
        let over = |_| {
            Problem::new(Code::TooManyRequests, "more requests than this server takes of one peer")
                .help("wait a second; `rate` in [serve] sets how many")
        };
        rate.check_key(&peer).map_err(over)
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let Some(own) = &self.token else { return true };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if let Some((_, token)) = bearer {
            return own.hash == blake3::hash(token.trim().as_bytes());
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        let mut sessions = cookies.filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        sessions.any(|session| blake3::Hash::from_hex(session).is_ok_and(|session| session == own.session))
    }
}

/// Around every route: checks, and makes every answer that is no success a problem with the request's name.
pub async fn around(Extension(guard): Extension<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(guard.door);
    let foreign = guard.foreign(request.headers());
    let asks_whether = method == Method::OPTIONS && foreign.is_some();
    let answer = match guard.check(&request) {
        Err(problem) => Err(problem),
        Ok(()) if asks_whether => Ok(http::StatusCode::NO_CONTENT.into_response()),
        Ok(()) => {
            let has_no_room = Arc::new(AtomicBool::new(false));
            let request = request.map(|body| received(body, Arc::clone(&guard.bodies), Arc::clone(&has_no_room)));
            match AssertUnwindSafe(next.run(request)).catch_unwind().await {
                Ok(_) if has_no_room.load(Ordering::SeqCst) => {
                    let detail = "more is on its way to this server than it has room for at once";
                    Err(Problem::new(Code::Unavailable, detail).help("try again; bodies of less than 64 KiB need no room"))
                }
                Ok(answer) => Ok(answer),
                Err(_) => Err(Problem::new(Code::Failed, "a panic: this is a bug of sandhog")),
            }
        }
    };
    let mut response = match answer {
        // Over MCP errors are told in its own shape.
        Ok(response) if path == super::mcp::PATH && response.extensions().get::<Problem>().is_none() => response,
        Ok(response) => as_problem(response, &id).await,
        Err(problem) => problem.respond(&id),
    };
    let status = response.status().as_u16();
    guard.metrics.answer(status);
    tracing::debug!(request = %id, %method, path = %crate::model::text::sanitize(&path, 200), status, "answered");
    let headers = response.headers_mut();
    if let Some(origin) = foreign {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id, location, retry-after"));
        headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
        if asks_whether {
            let words = "authorization, content-type, idempotency-key, last-event-id, x-request-id";
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(words));
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE"));
        }
    }
    headers.extend(HeaderValue::try_from(id).map(|id| (REQUEST_ID, id)));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The request's name: the caller's own, where it is a plain one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(plain);
    given.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

/// A body whose next part does not come fails, instead of being waited for; and so does one that there is no room for, which is noted.
fn received(body: Body, room: Arc<Semaphore>, has_no_room: Arc<AtomicBool>) -> Body {
    let whole = tokio::time::Instant::now() + BODY_WHOLE;
    let failed = |kind: std::io::ErrorKind| Some((Err(axum::Error::new(std::io::Error::from(kind))), None));
    let begun = Some((body.into_data_stream(), 0_usize, None::<OwnedSemaphorePermit>));
    let parts = futures_util::stream::unfold(begun, move |state| {
        let (room, has_no_room) = (Arc::clone(&room), Arc::clone(&has_no_room));
        async move {
            let (mut parts, bytes, mut held) = state?;
            let soon = tokio::time::Instant::now() + BODY_STALL;
            let part = match tokio::time::timeout_at(whole.min(soon), parts.next()).await {
                Ok(part) => part?,
                Err(_) => return failed(std::io::ErrorKind::TimedOut),
            };
            let bytes = bytes + part.as_ref().map_or(0, Bytes::len);
            // What is held counts until the whole of it is here, and is its reader's.
            let needed = (bytes / BODY_SHARE_BYTES).saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
            let Ok(more) = room.try_acquire_many_owned(u32::try_from(needed).unwrap_or(u32::MAX)) else {
                has_no_room.store(true, Ordering::SeqCst);
                return failed(std::io::ErrorKind::OutOfMemory);
            };
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            Some((part, Some((parts, bytes, held))))
        }
    });
    Body::from_stream(parts)
}

async fn as_problem(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return problem.respond(id);
    }
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = http_body_util::Limited::new(body, ERROR_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut told = Problem::of_response(status, &String::from_utf8_lossy(&said)).respond(id);
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        told.headers_mut().insert(header::ALLOW, allow.clone());
    }
    told
}
