//! The two APIs: requests, answers whole and streamed, errors, and waiting when a service is busy.

use std::io::{BufRead, BufReader, Read as _};
use std::time::Duration;

use sandhog_guest::{Failure, http, permanent, transient};
use serde_json::{Value, json};

use crate::prompt::{refused, schema};
use crate::{Api, Params};

/// How often a request is made, the first time included, before a busy service is given up for now.
const TRIES_MAX: u32 = 5;
/// The longest wait between two tries, whatever the service asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// The version of the Messages API that is spoken.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// What the model said: JSON, if it keeps to what it was asked.
pub struct Answer {
    pub json: String,
}

/// What was used.
#[derive(Default)]
pub struct Usage {
    pub requests: u32,
    pub input: u64,
    pub output: u64,
}

/// A service, and what it was used for.
pub struct Service<'a> {
    params: &'a Params,
    url: String,
    pub usage: Usage,
}

/// An answer under way.
#[derive(Default)]
struct Made {
    json: String,
    input: u64,
    output: u64,
    /// Why it ended, in the API's own word.
    ended: String,
    complete: bool,
}

impl<'a> Service<'a> {
    pub fn new(params: &'a Params) -> Self {
        let default = match params.api {
            Api::Anthropic => "https://api.anthropic.com",
            Api::Openai => "https://api.openai.com",
        };
        let path = match params.api {
            Api::Anthropic => "/v1/messages",
            Api::Openai => "/v1/chat/completions",
        };
        let base = params.url.as_deref().unwrap_or(default).trim_end_matches('/').trim_end_matches("/v1");
        Self { params, url: format!("{base}{path}"), usage: Usage::default() }
    }

    /// Asks, and waits and asks again while the service is busy.
    pub fn ask(&mut self, system: &str, question: &str) -> Result<Answer, Failure> {
        let body = match self.params.api {
            Api::Anthropic => anthropic(self.params, system, question),
            Api::Openai => openai(self.params, system, question),
        };
        let body = body.to_string();
        let mut last = String::new();
        for attempt in 1..=TRIES_MAX {
            let (reason, asked) = match self.try_once(body.as_bytes())? {
                Ok(answer) => return Ok(answer),
                Err(busy) => busy,
            };
            last = reason;
            if attempt < TRIES_MAX {
                let wait = asked.unwrap_or(Duration::from_millis(250 << attempt)).min(WAIT_MAX);
                eprintln!("the service is busy ({last}); waiting {} ms", wait.as_millis());
                std::thread::sleep(wait);
            }
        }
        Err(transient(format!("the service is busy, after {TRIES_MAX} tries: {last}")))
    }

    /// One request: an answer, or why to try again and after how long.
    fn try_once(&mut self, body: &[u8]) -> Result<Result<Answer, (String, Option<Duration>)>, Failure> {
        self.usage.requests += 1;
        let accept = if self.params.stream { "text/event-stream" } else { "application/json" };
        let mut headers = vec![("content-type", "application/json"), ("accept", accept)];
        if self.params.api == Api::Anthropic {
            headers.push(("anthropic-version", ANTHROPIC_VERSION));
        }
        let mut response = match http::send("POST", &self.url, &headers, body) {
            Ok(response) => response,
            Err(error) if error.denied => return Err(permanent(error)),
            Err(error) => return Ok(Err((error.to_string(), None))),
        };
        if response.status != 200 {
            let asked = wait_asked(&response);
            let text = response.text(64 << 10).unwrap_or_default();
            return match response.status {
                408 | 409 | 425 | 429 | 500..=599 => Ok(Err((format!("status {}", response.status), asked))),
                status => Err(refused(status, &text)),
            };
        }
        let streamed = response.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let made = if streamed { self.stream(response) } else { self.whole(response) };
        let made = match made {
            Ok(made) => made,
            Err(Broken::Again(reason)) => return Ok(Err((reason, None))),
            Err(Broken::Never(reason)) => return Err(permanent(reason)),
        };
        self.usage.input += made.input;
        self.usage.output += made.output;
        if matches!(made.ended.as_str(), "max_tokens" | "length") {
            return Err(permanent(format!("the answer was cut off at `max_tokens` = {}", self.params.max_tokens)));
        }
        if matches!(made.ended.as_str(), "refusal" | "content_filter") {
            return Err(permanent("the model refused to answer"));
        }
        Ok(Ok(Answer { json: made.json }))
    }

    fn whole(&self, mut response: http::Response) -> Result<Made, Broken> {
        let text = response.text(ANSWER_BYTES_MAX).map_err(|error| Broken::Again(error.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| Broken::Again(format!("the answer is no JSON: {error}")))?;
        let word = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let mut made = Made { complete: true, ..Made::default() };
        match self.params.api {
            Api::Anthropic => {
                for block in value.get("content").and_then(Value::as_array).into_iter().flatten() {
                    match block.get("type").and_then(Value::as_str) {
                        Some("tool_use") => made.json = block.get("input").map(Value::to_string).unwrap_or_default(),
                        Some("text") if made.json.is_empty() => {
                            made.json = block.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
                        }
                        _ => {}
                    }
                }
                made.ended = word("/stop_reason");
                (made.input, made.output) = (number("/usage/input_tokens"), number("/usage/output_tokens"));
            }
            Api::Openai => {
                made.json = word("/choices/0/message/content");
                made.ended = word("/choices/0/finish_reason");
                (made.input, made.output) = (number("/usage/prompt_tokens"), number("/usage/completion_tokens"));
            }
        }
        Ok(made)
    }

    /// Server-sent events (WHATWG HTML, section 9.2), of which only `data` lines matter: both APIs say in it what it is.
    fn stream(&self, response: http::Response) -> Result<Made, Broken> {
        let mut made = Made::default();
        let mut reader = BufReader::new(response.take(ANSWER_BYTES_MAX));
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(|error| Broken::Again(format!("the stream broke: {error}")))?;
            if read == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let Some(data) = text.trim_end().strip_prefix("data:").map(str::trim) else { continue };
            if data == "[DONE]" {
                made.complete = true;
                break;
            }
            let event: Value = serde_json::from_str(data).map_err(|error| Broken::Again(format!("an event is no JSON: {error}")))?;
            if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
                let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                let kind = error.get("type").and_then(Value::as_str).unwrap_or_default();
                let text = format!("the stream ended with an error: {message}");
                let busy = ["overloaded_error", "rate_limit_error", "api_error", "server_error", "timeout_error"].contains(&kind);
                return Err(if busy { Broken::Again(text) } else { Broken::Never(text) });
            }
            match self.params.api {
                Api::Anthropic => made.add_anthropic(&event),
                Api::Openai => made.add_openai(&event),
            }
        }
        if made.complete { Ok(made) } else { Err(Broken::Again("the stream ended before the answer did".to_owned())) }
    }
}

/// Why an answer was not read to its end.
enum Broken {
    Again(String),
    Never(String),
}

impl Made {
    fn add_anthropic(&mut self, event: &Value) {
        let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_u64);
        match word("/type") {
            Some("message_start") => self.input = number("/message/usage/input_tokens").unwrap_or(0),
            Some("content_block_delta") => {
                self.json.push_str(word("/delta/partial_json").or(word("/delta/text")).unwrap_or_default());
            }
            Some("message_delta") => {
                self.output = number("/usage/output_tokens").unwrap_or(self.output);
                word("/delta/stop_reason").unwrap_or_default().clone_into(&mut self.ended);
            }
            Some("message_stop") => self.complete = true,
            _ => {} // pings, and what later versions add
        }
    }

    fn add_openai(&mut self, event: &Value) {
        let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_u64);
        self.json.push_str(word("/choices/0/delta/content").unwrap_or_default());
        if let Some(ended) = word("/choices/0/finish_reason") {
            ended.clone_into(&mut self.ended);
            self.complete = true; // not every server says [DONE]
        }
        self.input = number("/usage/prompt_tokens").unwrap_or(self.input);
        self.output = number("/usage/completion_tokens").unwrap_or(self.output);
    }
}

/// How long the service asks to wait: `retry-after` (RFC 9110, section 10.2.3, in seconds) or its finer sister.
fn wait_asked(response: &http::Response) -> Option<Duration> {
    let number = |name: &str| response.header(name)?.trim().parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite());
    let fine = number("retry-after-ms").map(|ms| ms / 1e3);
    fine.or_else(|| number("retry-after")).map(|seconds| Duration::from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())))
}

fn anthropic(params: &Params, system: &str, question: &str) -> Value {
    json!({
        "model": params.model,
        "max_tokens": params.max_tokens,
        "stream": params.stream,
        "system": system,
        "messages": [{ "role": "user", "content": question }],
        "tools": [{ "name": "review", "description": "Gives the verdict of the review.", "input_schema": schema() }],
        "tool_choice": { "type": "tool", "name": "review" },
    })
}

fn openai(params: &Params, system: &str, question: &str) -> Value {
    let mut body = json!({
        "model": params.model,
        "max_tokens": params.max_tokens,
        "stream": params.stream,
        "messages": [{ "role": "system", "content": system }, { "role": "user", "content": question }],
        "response_format": { "type": "json_schema", "json_schema": { "name": "review", "strict": true, "schema": schema() } },
    });
    if params.stream
        && let Some(body) = body.as_object_mut()
    {
        body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    body
}
