//! Begins requests that are never answered and drops each of them, and then wants an answer to one; or keeps all of them, and says how many were answered.
use sandhog_guest::{Artifact, Failure, Task, http, permanent};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{ErrorCode, Fields, OutgoingBody, OutgoingRequest, Scheme};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    authority: String,
    #[serde(default)]
    keeps: bool,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let authority = &task.params.authority;
    let path = if task.params.keeps { "/short" } else { "/interim" };
    let mut kept = Vec::new();
    for _ in 0..20 {
        let request = OutgoingRequest::new(Fields::new());
        let refused = |()| permanent("the request is refused");
        request.set_scheme(Some(&Scheme::Http)).map_err(refused)?;
        request.set_authority(Some(authority)).map_err(refused)?;
        request.set_path_with_query(Some(path)).map_err(refused)?;
        let body = request.body().map_err(refused)?;
        let abandoned = handle(request, None).map_err(|code| permanent(format!("{code:?}")))?;
        OutgoingBody::finish(body, None).map_err(|code| permanent(format!("{code:?}")))?;
        if task.params.keeps {
            kept.push(abandoned);
        }
    }
    if task.params.keeps {
        let responses: Vec<_> = kept
            .iter()
            .map(|kept| {
                kept.subscribe().block();
                kept.get()
            })
            .collect();
        let answered = responses.iter().filter(|response| matches!(response, Some(Ok(Ok(_))))).count();
        let refused = responses.iter().filter(|response| matches!(response, Some(Ok(Err(ErrorCode::ConnectionLimitReached))))).count();
        return Ok(vec![Artifact::text("told.txt", format!("{answered} answered, {refused} refused"))]);
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
