//! The dashboard's files. They are in the binary; the page is one more client of the API, and has no route of its own beside them.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::service::Service;

/// What the page may load and talk to: this server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal: $media_type:literal,)*) => {
        &[$(($name, $media_type, include_bytes!(concat!("dashboard/", $name)) as &[u8])),*]
    };
}

const FILES: &[(&str, &str, &[u8])] = files! {
    "api.js": "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "favicon.svg": "image/svg+xml",
    "format.js": "text/javascript; charset=utf-8",
    "graph.js": "text/javascript; charset=utf-8",
    "index.html": "text/html; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "model.js": "text/javascript; charset=utf-8",
    "story.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "timeline.js": "text/javascript; charset=utf-8",
    "view_activity.js": "text/javascript; charset=utf-8",
    "view_letters.js": "text/javascript; charset=utf-8",
    "view_plugins.js": "text/javascript; charset=utf-8",
    "view_run.js": "text/javascript; charset=utf-8",
    "view_runs.js": "text/javascript; charset=utf-8",
    "view_task.js": "text/javascript; charset=utf-8",
};

/// The routes of the files.
pub fn router() -> Router<Service> {
    let page = |name: &'static str| FILES.iter().find(|(of, _, _)| *of == name).map_or(&FILES[0], |file| file);
    let serve = |file: &'static (&str, &str, &[u8])| get(move || async move { answer(file) });
    let mut router = Router::new().route("/", serve(page("index.html"))).route("/favicon.ico", serve(page("favicon.svg")));
    for file in FILES {
        router = router.route(&format!("/dashboard/{}", file.0), serve(file));
    }
    router
}

fn answer((_, media_type, content): &'static (&str, &str, &[u8])) -> Response {
    // A newer binary has newer files: they are asked for anew each time, which is cheap this near.
    ([(header::CONTENT_TYPE, *media_type), (header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-cache")], *content)
        .into_response()
}
