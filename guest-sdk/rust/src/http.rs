//! Requests over HTTP, through the host: only to origins that the operator granted, and with secrets that the host adds.
//!
//! One call, one request: redirects and retries are the plugin's own.

use std::io::Read;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::{InputStream, StreamError};

/// How much is written at once, in bytes.
const CHUNK_BYTES: usize = 4_096;

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// For a person.
    pub message: String,
    /// Whether the host refused: it will refuse the next time too.
    pub denied: bool,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

fn error(message: impl std::fmt::Display) -> Error {
    Error { message: message.to_string(), denied: false }
}

/// A response, of which the body is still to be read.
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    headers: Vec<(String, Vec<u8>)>,
    // Dropped in this order: a stream before what it is of.
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
    ready: std::vec::IntoIter<u8>,
}

impl Response {
    /// The first value of a header, whatever the case of its name; none where it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The body as text, as far as `bytes_max` goes; what is not UTF-8 is replaced.
    pub fn text(&mut self, bytes_max: u64) -> Result<String, Error> {
        let mut bytes = Vec::new();
        self.take(bytes_max).read_to_end(&mut bytes).map_err(error)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.ready.as_slice().is_empty() && !buffer.is_empty() {
            self.ready = match self.stream.blocking_read(buffer.len().max(CHUNK_BYTES) as u64) {
                Ok(bytes) => bytes.into_iter(),
                Err(StreamError::Closed) => return Ok(0),
                Err(StreamError::LastOperationFailed(error)) => return Err(std::io::Error::other(error.to_debug_string())),
            };
        }
        let ready = self.ready.as_slice();
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        if count > 0 {
            self.ready.nth(count - 1);
        }
        Ok(count)
    }
}

/// Sends a request and waits for the head of its response. `url` is `https://host/path?query` or with `http`.
///
/// # Errors
/// When the host refuses it, or nothing that speaks HTTP answers.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, Error> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| error(format!("{url} is no address of HTTP")))?;
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(cut);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).map_err(|reason| error(format!("the header {name} is refused: {reason:?}")))?;
    }
    let request = OutgoingRequest::new(fields);
    let refused = |what: &str| error(format!("{what} of {url} is refused"));
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "HEAD" => Method::Head,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| refused("the method"))?;
    request.set_scheme(Some(&scheme)).map_err(|()| refused("the scheme"))?;
    request.set_authority(Some(authority)).map_err(|()| refused("the host"))?;
    request.set_path_with_query(Some(&path)).map_err(|()| refused("the path"))?;
    let outgoing = request.body().map_err(|()| refused("the body"))?;
    let told = |code: &wasip2::http::types::ErrorCode| {
        use wasip2::http::types::ErrorCode;
        let denied = matches!(code, ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited);
        Error { message: format!("{url}: {code:?}"), denied }
    };
    let future = handle(request, None).map_err(|code| told(&code))?;
    {
        let stream = outgoing.write().map_err(|()| refused("the body"))?;
        for chunk in body.chunks(CHUNK_BYTES) {
            // Where the host has refused already, nobody reads on: the answer says why.
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(outgoing, None);
    future.subscribe().block();
    let response = future.get().ok_or_else(|| error("there is no response"))?.map_err(|()| error("the response was taken"))?;
    let response = response.map_err(|code| told(&code))?;
    let headers = response.headers().entries();
    let incoming = response.consume().map_err(|()| error("the body was taken"))?;
    let stream = incoming.stream().map_err(|()| error("the body was taken"))?;
    Ok(Response { status: response.status(), headers, stream, _body: incoming, _response: response, ready: Vec::new().into_iter() })
}
