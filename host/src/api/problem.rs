//! Why something was not done, in one shape for every door: a problem as in RFC 9457, with a word for programs, a sentence for
//! people, and what to do. Nowhere else is an HTTP status written.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Problems;
use crate::model::text::sanitize;
use crate::{journal, manager, registry};

/// How much of a text that somebody else sent is told back, in bytes.
const TOLD_BYTES_MAX: usize = 4096;

/// The word for a program. Closed: each belongs to one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request cannot be read.
    Malformed,
    /// There is no token, or a wrong one.
    Unauthorized,
    /// The request comes from another site, or names a host that is not this one; or what it wants is switched off.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There is such a thing, and this is not done with it.
    MethodNotAllowed,
    /// It does not fit the state: a run that is over, a key that is taken.
    Conflict,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is not of the type that is expected.
    UnsupportedMediaType,
    /// The request can be read, and what it says is wrong.
    Invalid,
    /// More requests than the rate allows.
    TooManyRequests,
    /// sandhog itself, or the machine, failed.
    Failed,
    /// The server is ending, or has no place left. Trying again helps.
    Unavailable,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The code of a response that somebody below us made.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::PAYLOAD_TOO_LARGE => Self::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Self::Invalid,
            StatusCode::TOO_MANY_REQUESTS => Self::TooManyRequests,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            status if status.is_server_error() => Self::Failed,
            _ => Self::Malformed,
        }
    }
}

/// One thing that is wrong in a file that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    /// What the file is called.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
}

/// Why something was not done (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The status in words.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// For a program.
    pub code: Code,
    /// For a person.
    pub detail: String,
    /// What to do.
    pub help: Option<String>,
    /// Each thing that is wrong in a file that was sent.
    #[serde(default)]
    pub problems: Vec<Place>,
    /// Names this request in the server's log.
    #[serde(default)]
    #[schema(value_type = String)]
    pub request_id: Box<str>,
}

impl Problem {
    /// One with a sentence for a person.
    #[must_use]
    pub fn new(code: Code, detail: impl std::fmt::Display) -> Self {
        let status = code.status();
        Self {
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            code,
            detail: crate::model::text::sanitize_lines(&detail.to_string(), TOLD_BYTES_MAX),
            help: None,
            problems: Vec::new(),
            request_id: Box::default(),
        }
    }

    /// With what to do.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// With the places in a file.
    #[must_use]
    pub fn places(self, problems: Vec<Place>) -> Self {
        Self { problems, ..self }
    }

    /// There is no such run.
    #[must_use]
    pub fn no_run(run: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no run {run}")).help("GET /v1/runs lists those that are there")
    }

    /// What a response that is no problem of ours says, as one.
    pub(super) fn of_response(status: StatusCode, said: &str) -> Self {
        let code = Code::of(status);
        let detail =
            if said.is_empty() { status.canonical_reason().unwrap_or("an error").to_lowercase() } else { sanitize(said, TOLD_BYTES_MAX) };
        Self { status: status.as_u16(), title: status.canonical_reason().unwrap_or("Error").into(), ..Self::new(code, detail) }
    }

    /// The response, with the request's name in it.
    pub(super) fn respond(self, request_id: &str) -> Response {
        let problem = Self { request_id: request_id.into(), ..self };
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if problem.code == Code::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sandhog\""));
        }
        if matches!(problem.code, Code::TooManyRequests | Code::Unavailable) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

/// The body is written further out, where the request's name is known: see `guard`.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Problems> for Problem {
    fn from(problems: Problems) -> Self {
        let places = problems.problems.iter().map(|problem| Place {
            file: problem.file.clone(),
            line: problem.line,
            column: problem.column,
            message: problem.message.clone(),
            help: problem.help.clone(),
        });
        Self::new(Code::Invalid, &problems).places(places.collect())
    }
}

impl From<crate::prepare::InputError> for Problem {
    fn from(error: crate::prepare::InputError) -> Self {
        match error {
            crate::prepare::InputError::Glob(problems) => problems.into(),
            crate::prepare::InputError::Refused(message) => Self::new(Code::Invalid, message),
        }
    }
}

impl From<registry::Error> for Problem {
    fn from(error: registry::Error) -> Self {
        Self::new(Code::Invalid, error)
    }
}

impl From<manager::Error> for Problem {
    fn from(error: manager::Error) -> Self {
        match error {
            manager::Error::NoSuchRun(run) => Self::no_run(run),
            manager::Error::Rejected(_) | manager::Error::KeyIsTaken(_) => Self::new(Code::Conflict, error),
            manager::Error::Stopped => Self::new(Code::Unavailable, error).help("it is ending: try again"),
            manager::Error::Journal(error) => error.into(),
        }
    }
}

impl From<journal::Error> for Problem {
    fn from(error: journal::Error) -> Self {
        match &error {
            journal::Error::BlobMissing(digest) => Self::new(Code::NotFound, format!("there is no blob {digest}")),
            _ => {
                tracing::error!(%error, "the journal failed");
                Self::new(Code::Failed, error)
            }
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let help = "send a JSON object, with `content-type: application/json`; GET /openapi.json describes it";
        let code = match &rejection {
            JsonRejection::JsonDataError(_) => Code::Invalid,
            JsonRejection::MissingJsonContentType(_) => Code::UnsupportedMediaType,
            rejection => Code::of(rejection.status()),
        };
        let help = if code == Code::PayloadTooLarge { "send less at once" } else { help };
        Self::new(code, rejection.body_text()).help(help)
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Code::Malformed, rejection.body_text()).help("a run is named by its whole UUID, an artifact by `sha256:` and its digest")
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::Malformed, rejection.body_text()).help("GET /openapi.json describes what may stand behind `?`")
    }
}
