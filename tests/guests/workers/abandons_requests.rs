//! Begins requests that are never answered and drops each of them; then wants an answer to one.
use sandhog_guest::{Artifact, Failure, Task, http, permanent};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, OutgoingBody, OutgoingRequest, Scheme};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    authority: String,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let authority = &task.params.authority;
    for _ in 0..20 {
        let request = OutgoingRequest::new(Fields::new());
        let refused = |()| permanent("the request is refused");
        request.set_scheme(Some(&Scheme::Http)).map_err(refused)?;
        request.set_authority(Some(authority)).map_err(refused)?;
        request.set_path_with_query(Some("/interim")).map_err(refused)?;
        let body = request.body().map_err(refused)?;
        let abandoned = handle(request, None).map_err(|code| permanent(format!("{code:?}")))?;
        OutgoingBody::finish(body, None).map_err(|code| permanent(format!("{code:?}")))?;
        drop(abandoned);
    }
    // The places of those that were dropped become free as soon as their host comes to it.
    let mut last = String::new();
    for _ in 0..40 {
        match http::send("GET", &format!("http://{authority}/short"), &[], b"") {
            Ok(response) => return Ok(vec![Artifact::text("told.txt", response.status.to_string())]),
            Err(error) => last = error.message,
        }
    }
    Err(permanent(last))
}
