//! The routes, each with its description: the document at `/openapi.json` is made of the same lines as the router.
//!
//! Commands are `POST`, `PUT` or `DELETE`, and are answered with 202 once they are on record; queries are `GET`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::guard::Door;
use super::problem::{Code, Problem};
use super::service::{Service, WAIT_MAX};
use super::shapes::{
    Accepted, Artifacts, Breakers, Command, Events, EventsQuery, Head, HeadQuery, JournalUsage, LetterCommand, Letters, LettersDone,
    LettersQuery, Plugins, Runs, RunsQuery, Stats, Status, StepQuery, Submission, TaskView, Verified, WaitQuery, Workflows,
};
use super::{dashboard, live, mcp, session};
use crate::model::limits::parse_duration;
use crate::model::{Digest, RunId};
use crate::registry::intake::COMPONENT_BYTES_MAX;

/// How large a request may be, in bytes, where nothing else is said.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How large a workflow may be together with the files that it works on, in bytes of JSON.
const SUBMISSION_BYTES_MAX: usize = 64 << 20;
/// How large what asks for a session may be, in bytes: anybody may, so it takes no room from others.
const SESSION_BYTES_MAX: usize = 16 << 10;
/// How much of an artifact is written at once, in bytes.
const PART_BYTES: usize = 64 << 10;

/// A body that is a JSON object; what is wrong with one is told as everything else is.
pub struct Json<T>(pub T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state).await.map_err(JsonRejection::from)?;
        // What reads it would take the values of a list for the fields of an object, in their order.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(
                Problem::new(Code::Invalid, "expected a JSON object, found a list").help("send an object, such as {\"name\": \"…\"}")
            );
        }
        let axum::Json(value) = axum::Json::from_request(Request::from_parts(parts, Body::from(bytes)), state).await?;
        Ok(Self(value))
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
struct Path<T>(T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

/// What the API is, for the document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "sandhog",
        description = "Runs WebAssembly workers that nobody trusts in a sandbox, and lets no result through that has not passed its gates.\n\n\
Errors are problems (RFC 9457). Events come over a WebSocket (`/v1/live`) and as server-sent events (`/v1/stream`); both are described in the guide.",
    ),
    components(schemas(Problem)),
    modifiers(&Everywhere),
    tags(
        (name = "runs", description = "Runs: submitted, asked for, told what is wanted"),
        (name = "dead letters", description = "Tasks that were given up and set aside"),
        (name = "plugins", description = "What the plugin folders hold. Nothing here grants anything"),
        (name = "live", description = "Events as they come"),
        (name = "host", description = "How the host is"),
    ),
)]
struct Document;

/// What holds for every route.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        if let Some(components) = &mut api.components {
            let bearer =
                HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The server's token, where it has one.")).build();
            components.add_security_scheme("token", SecurityScheme::Http(bearer));
        }
        api.info.version = env!("CARGO_PKG_VERSION").to_owned();
    }
}

/// Every answer that is no success is a problem.
fn with_problems(api: &mut utoipa::openapi::OpenApi) {
    let problem = || {
        let content = Content::builder().schema(Some(Ref::from_schema_name("Problem"))).build();
        ResponseBuilder::new().description("Why it was not done").content("application/problem+json", content).build()
    };
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(problem()));
            operation.security = Some(vec![utoipa::openapi::security::SecurityRequirement::default(), {
                utoipa::openapi::security::SecurityRequirement::new::<_, [&str; 0], &str>("token", [])
            }]);
        }
    }
}

/// The routes of the API, and the document that describes them.
pub fn api() -> (Router<Service>, utoipa::openapi::OpenApi) {
    let router = OpenApiRouter::with_openapi(Document::openapi())
        .merge(OpenApiRouter::new().routes(routes!(runs, submit)).routes(routes!(plan)).layer(DefaultBodyLimit::max(SUBMISSION_BYTES_MAX)))
        .merge(OpenApiRouter::new().routes(routes!(session::login, session::logout)).layer(DefaultBodyLimit::max(SESSION_BYTES_MAX)))
        .merge(OpenApiRouter::new().routes(routes!(plugin, upload)).layer(DefaultBodyLimit::max(COMPONENT_BYTES_MAX as usize)))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(workflows))
                .routes(routes!(run))
                .routes(routes!(report))
                .routes(routes!(events_of))
                .routes(routes!(task))
                .routes(routes!(artifacts))
                .routes(routes!(artifact))
                .routes(routes!(command))
                .routes(routes!(letters))
                .routes(routes!(deal))
                .routes(routes!(plugins))
                .routes(routes!(reload))
                .routes(routes!(breakers))
                .routes(routes!(events))
                .routes(routes!(head))
                .routes(routes!(blob))
                .routes(routes!(journal_usage))
                .routes(routes!(journal_verify))
                .routes(routes!(status))
                .routes(routes!(stats))
                .routes(routes!(live::socket))
                .routes(routes!(live::stream))
                .routes(routes!(healthz))
                .routes(routes!(readyz))
                .routes(routes!(metrics))
                .layer(DefaultBodyLimit::max(BODY_BYTES_MAX)),
        );
    let (router, mut api) = router.split_for_parts();
    with_problems(&mut api);
    (router, api)
}

/// The whole router: the API, its document, and the dashboard.
pub fn router(service: Service) -> Router {
    let (router, api) = api();
    let document: Bytes = api.to_json().unwrap_or_default().into();
    let document = move || async move { ([(header::CONTENT_TYPE, "application/json")], document) };
    let router = match service.offer().itself.clone() {
        Some(itself) => {
            let connect = move || -> BoxFuture<'static, _> { Box::pin(std::future::ready(Ok(itself.clone()))) };
            let door = mcp::Door::open(Arc::new(connect), service.stop().clone());
            router.merge(door.on_http(service.stop().clone()).with_state(()))
        }
        None => router,
    };
    router
        .route("/openapi.json", axum::routing::get(document))
        .merge(dashboard::router())
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .with_state(service)
}

async fn nothing(uri: axum::http::Uri) -> Problem {
    Problem::new(Code::NotFound, format!("there is nothing at {}", uri.path())).help("GET /openapi.json lists what there is")
}

async fn not_so(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    let detail = format!("{method} is not done with {}", uri.path());
    Problem::new(Code::MethodNotAllowed, detail).help("GET /openapi.json lists what is; the `allow` header, too")
}

/// List runs, the latest first.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", params(RunsQuery), responses((status = 200, body = Runs)))]
async fn runs(State(service): State<Service>, Query(query): Query<RunsQuery>) -> Result<Json<Runs>, Problem> {
    service.runs(&query).await.map(Json)
}

/// Submit a run. It is on record when this is answered; with `wait`, the answer waits for its end, and is its report.
#[utoipa::path(post, path = "/v1/runs", tag = "runs", request_body = Submission,
    params(WaitQuery, ("idempotency-key" = Option<String>, Header, description = "A second submission with the same key is the first run")),
    responses((status = 202, body = Accepted, description = "Accepted"), (status = 200, body = Object, description = "The report of the run, which has ended")))]
async fn submit(
    State(service): State<Service>,
    Extension(door): Extension<Door>,
    Query(query): Query<WaitQuery>,
    headers: HeaderMap,
    Json(submission): Json<Submission>,
) -> Result<Response, Problem> {
    let wait = wait(&query)?;
    let key = headers.get("idempotency-key").map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    let accepted = service.submit(submission, key, door == Door::Socket).await?;
    if let Some(wait) = wait
        && service.ended_within(accepted.run, wait).await?
    {
        return Ok(Json(service.report(accepted.run, None).await?).into_response());
    }
    let place = HeaderValue::try_from(format!("/v1/runs/{}", accepted.run)).unwrap_or(HeaderValue::from_static("/v1/runs"));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(accepted)).into_response())
}

fn wait(query: &WaitQuery) -> Result<Option<Duration>, Problem> {
    let Some(text) = &query.wait else { return Ok(None) };
    let wait = parse_duration(text).map_err(|error| Problem::new(Code::Malformed, format!("`wait`: {error}")))?;
    Ok(Some(wait.min(WAIT_MAX)))
}

/// Validate a workflow, and say what it would do. Nothing is run.
#[utoipa::path(post, path = "/v1/plans", tag = "runs", request_body = Submission, responses((status = 200, body = Object)))]
async fn plan(
    State(service): State<Service>,
    Extension(door): Extension<Door>,
    Json(submission): Json<Submission>,
) -> Result<Json<Value>, Problem> {
    service.plan(submission, door == Door::Socket).await.map(Json)
}

/// List the workflows that can be submitted by name.
#[utoipa::path(get, path = "/v1/workflows", tag = "runs", responses((status = 200, body = Workflows)))]
async fn workflows(State(service): State<Service>) -> Json<Workflows> {
    Json(service.workflows().await)
}

/// A run in a line.
#[utoipa::path(get, path = "/v1/runs/{run}", tag = "runs", params(("run" = String, Path, format = "uuid")), responses((status = 200, body = Object)))]
async fn run(State(service): State<Service>, Path(run): Path<RunId>) -> Result<Json<crate::journal::RunRow>, Problem> {
    service.run(run).await.map(Json)
}

/// The whole story of a run as it stands: its steps, tasks, findings and usage, as `sandhog runs show --json` has it.
#[utoipa::path(get, path = "/v1/runs/{run}/report", tag = "runs", params(("run" = String, Path, format = "uuid"), WaitQuery), responses((status = 200, body = Object)))]
async fn report(State(service): State<Service>, Path(run): Path<RunId>, Query(query): Query<WaitQuery>) -> Result<Json<Value>, Problem> {
    service.report(run, wait(&query)?).await.map(Json)
}

/// The records of a run, in order.
#[utoipa::path(get, path = "/v1/runs/{run}/events", tag = "runs", params(("run" = String, Path, format = "uuid"), EventsQuery), responses((status = 200, body = Events)))]
async fn events_of(
    State(service): State<Service>,
    Path(run): Path<RunId>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<Events>, Problem> {
    service.events_of(run, query.after, query.limit).await.map(Json)
}

/// A task: its inputs, its calls with what they used, what its plugins wrote, and its records.
#[utoipa::path(get, path = "/v1/runs/{run}/tasks/{index}", tag = "runs",
    params(("run" = String, Path, format = "uuid"), ("index" = u32, Path, description = "Its place in the step, from 0"), StepQuery),
    responses((status = 200, body = TaskView)))]
async fn task(
    State(service): State<Service>,
    Path((run, index)): Path<(RunId, u32)>,
    Query(query): Query<StepQuery>,
) -> Result<Json<TaskView>, Problem> {
    service.task(run, &query.step, index).await.map(Json)
}

/// List what the tasks of a run made.
#[utoipa::path(get, path = "/v1/runs/{run}/artifacts", tag = "runs", params(("run" = String, Path, format = "uuid")), responses((status = 200, body = Artifacts)))]
async fn artifacts(State(service): State<Service>, Path(run): Path<RunId>) -> Result<Json<Artifacts>, Problem> {
    service.artifacts(run).await.map(Json)
}

/// The content of an artifact, or of an input, of a run.
#[utoipa::path(get, path = "/v1/runs/{run}/artifacts/{digest}", tag = "runs",
    params(("run" = String, Path, format = "uuid"), ("digest" = String, Path, description = "`sha256:` and 64 digits")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
async fn artifact(State(service): State<Service>, Path((run, digest)): Path<(RunId, Digest)>) -> Result<Response, Problem> {
    let (name, content) = service.artifact(run, digest).await?;
    Ok(download(name.rsplit('/').next().unwrap_or_default(), content))
}

/// A blob that records name: large content, and lists of inputs.
#[utoipa::path(get, path = "/v1/blobs/{digest}", tag = "runs", params(("digest" = String, Path, description = "`sha256:` and 64 digits")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
async fn blob(State(service): State<Service>, Path(digest): Path<Digest>) -> Result<Response, Problem> {
    let content = service.blob(digest).await?;
    Ok(download(&digest.to_hex(), content))
}

/// Content of which nobody knows what it is: never shown as a page, written in parts as fast as the peer takes them.
fn download(name: &str, content: Bytes) -> Response {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let length = content.len();
    let parts =
        (0..length).step_by(PART_BYTES).map(move |at| Ok::<_, std::convert::Infallible>(content.slice(at..(at + PART_BYTES).min(length))));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{plain}\"")),
    ];
    (headers, Body::from_stream(futures_util::stream::iter(parts))).into_response()
}

/// Tell a run something: cancel, pause, resume, retry, discard, approve. It is on record when this is answered.
#[utoipa::path(post, path = "/v1/runs/{run}/commands", tag = "runs", params(("run" = String, Path, format = "uuid")), request_body = Command,
    responses((status = 202, body = Accepted)))]
async fn command(
    State(service): State<Service>,
    Path(run): Path<RunId>,
    Json(command): Json<Command>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(service.command(run, command).await?)))
}

/// List dead letters, those of the oldest run first.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters", params(LettersQuery), responses((status = 200, body = Letters)))]
async fn letters(State(service): State<Service>, Query(query): Query<LettersQuery>) -> Result<Json<Letters>, Problem> {
    service.letters(&query).await.map(Json)
}

/// Have dead letters run again, or discard them.
#[utoipa::path(post, path = "/v1/dead-letters/commands", tag = "dead letters", request_body = LetterCommand, responses((status = 202, body = LettersDone)))]
async fn deal(State(service): State<Service>, Json(command): Json<LetterCommand>) -> Result<(StatusCode, Json<LettersDone>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(service.deal(command).await?)))
}

/// List the plugins as this server serves them now, and the files in their folders that are none.
#[utoipa::path(get, path = "/v1/plugins", tag = "plugins", responses((status = 200, body = Plugins)))]
async fn plugins(State(service): State<Service>) -> Json<Plugins> {
    Json(service.plugins())
}

/// All about a plugin, as `sandhog plugins inspect --json` has it, but for what environment variables hold.
#[utoipa::path(get, path = "/v1/plugins/{name}", tag = "plugins", params(("name" = String, Path)), responses((status = 200, body = Object)))]
async fn plugin(State(service): State<Service>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    tokio::task::spawn_blocking(move || service.plugin(&name).map(Json))
        .await
        .unwrap_or_else(|_| Err(Problem::new(Code::Failed, "a panic")))
}

/// Send a plugin, where the server takes any. It is granted nothing.
#[utoipa::path(put, path = "/v1/plugins/{name}", tag = "plugins", params(("name" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 202, body = Object)))]
async fn upload(
    State(service): State<Service>,
    Path(name): Path<String>,
    component: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let component = component.map_err(|rejection| Problem::of_response(rejection.status(), &rejection.body_text()))?;
    Ok((StatusCode::ACCEPTED, Json(service.upload(&name, component).await?)))
}

/// Look through the plugin folders now, and take what is new into service. Changes are noticed without this, too.
#[utoipa::path(post, path = "/v1/plugins/reload", tag = "plugins", responses((status = 200, body = Plugins)))]
async fn reload(State(service): State<Service>) -> Json<Plugins> {
    Json(service.reload().await)
}

/// List the circuit breakers that are not closed.
#[utoipa::path(get, path = "/v1/breakers", tag = "plugins", responses((status = 200, body = Breakers)))]
async fn breakers(State(service): State<Service>) -> Result<Json<Breakers>, Problem> {
    service.breakers().await.map(Json)
}

/// The records of all runs behind a `seq`, in order.
#[utoipa::path(get, path = "/v1/events", tag = "live", params(EventsQuery), responses((status = 200, body = Events)))]
async fn events(State(service): State<Service>, Query(query): Query<EventsQuery>) -> Result<Json<Events>, Problem> {
    service.events(query.after, query.limit).await.map(Json)
}

/// Wait until the journal goes further than `after`, or a while, and say how far.
#[utoipa::path(get, path = "/v1/head", tag = "live", params(HeadQuery), responses((status = 200, body = Head)))]
async fn head(State(service): State<Service>, Query(query): Query<HeadQuery>) -> Result<Json<Head>, Problem> {
    service.head(query.after, query.run).await.map(Json)
}

/// How much the journal has: runs, records, blobs, bytes.
#[utoipa::path(get, path = "/v1/journal/usage", tag = "host", responses((status = 200, body = JournalUsage)))]
async fn journal_usage(State(service): State<Service>) -> Result<Json<JournalUsage>, Problem> {
    service.journal_usage().await.map(Json)
}

/// Whether the journal's records are what they were: reads all of it.
#[utoipa::path(get, path = "/v1/journal/verify", tag = "host", responses((status = 200, body = Verified)))]
async fn journal_verify(State(service): State<Service>) -> Result<Json<Verified>, Problem> {
    service.journal_verify().await.map(Json)
}

/// How the host is.
#[utoipa::path(get, path = "/v1/status", tag = "host", responses((status = 200, body = Status)))]
async fn status(State(service): State<Service>) -> Result<Json<Status>, Problem> {
    service.status().await.map(Json)
}

/// How the host was during the last ten minutes, second by second.
#[utoipa::path(get, path = "/v1/stats", tag = "host", responses((status = 200, body = Stats)))]
async fn stats(State(service): State<Service>) -> Json<Stats> {
    Json(service.stats())
}

/// Whether the server is alive.
#[utoipa::path(get, path = "/healthz", tag = "host", responses((status = 200, body = String, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "alive\n"
}

/// Whether the server takes work: 503 once it is told to end.
#[utoipa::path(get, path = "/readyz", tag = "host", responses((status = 200, body = String, content_type = "text/plain")))]
async fn readyz(State(service): State<Service>) -> Result<&'static str, Problem> {
    if service.stop().is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "the server is ending"));
    }
    service.status().await.map(|_| "ready\n")
}

/// Figures in the OpenMetrics text format, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "host", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(service): State<Service>) -> Result<Response, Problem> {
    let text = service.prometheus().await?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
