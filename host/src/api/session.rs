//! The session of a browser: it gives the token once, and has a cookie that scripts cannot read.

use std::sync::Arc;

use axum::Extension;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::guard::{COOKIE, Guard};
use super::problem::{Code, Problem};
use super::routes::Json;
use super::shapes::Login;

/// Log a browser in: the answer sets a cookie.
#[utoipa::path(post, path = "/v1/session", tag = "host", request_body = Login, responses((status = 204, description = "Logged in")))]
pub async fn login(Extension(guard): Extension<Arc<Guard>>, Json(login): Json<Login>) -> Result<Response, Problem> {
    let session = guard.session(&login.token).ok_or_else(|| Problem::new(Code::Unauthorized, "this is not the server's token"))?;
    Ok(cookie(&session, ""))
}

/// Log a browser out.
#[utoipa::path(delete, path = "/v1/session", tag = "host", responses((status = 204, description = "Logged out")))]
pub async fn logout() -> Response {
    cookie("", "; Max-Age=0")
}

fn cookie(value: &str, age: &str) -> Response {
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{age}");
    let cookie = HeaderValue::try_from(cookie).unwrap_or(HeaderValue::from_static(""));
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}
