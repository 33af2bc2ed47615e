//! Events as they come: any number of subscriptions over one WebSocket, or one over server-sent events.
//!
//! A reader pulls from the hub at its own pace. Between the hub and its socket there is one page of messages and nothing else, so a
//! reader that stalls costs that and no more; one that takes nothing for a while is let go (see `listener`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response, sse};
use futures_util::stream::{SplitSink, Stream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::hub::{Filter, Hub, Item, Lag, Subscriber, Topic};
use super::listener::Held;
use super::problem::{Code, Problem};
use super::routes::Query;
use super::service::Service;
use super::shapes::StreamQuery;
use crate::clock::Stopwatch;
use crate::journal;

/// How many subscriptions one connection may have.
const SUBSCRIPTIONS_MAX: usize = 256;
/// How many runs and plugins one subscription may name.
const NAMED_MAX: usize = 1024;
/// How long a subscription's name may be, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// How large a message of a client may be, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// What a connection reads and writes at once, in bytes: a thousand idle ones take little.
const BUFFER_BYTES: usize = 4 << 10;
/// How often a peer is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// How long a peer may say nothing at all.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a client says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    subscribe: Option<String>,
    unsubscribe: Option<String>,
    after: Option<u64>,
    #[serde(default)]
    runs: Vec<crate::model::RunId>,
    #[serde(default)]
    plugins: Vec<String>,
    topics: Option<Vec<Topic>>,
    #[serde(default)]
    lag: Lag,
}

struct Subscription {
    name: String,
    filter: Filter,
    lag: Lag,
    /// The `seq` up to which it has everything.
    at: u64,
}

/// What one connection follows, and how far each of its subscriptions has come.
struct Following {
    hub: Hub,
    head: watch::Receiver<u64>,
    volatile: broadcast::Receiver<Arc<Item>>,
    subscriptions: Vec<Subscription>,
    _counted: Subscriber,
}

impl Following {
    fn new(service: &Service) -> Self {
        let hub = service.hub().clone();
        let counted = hub.subscribe();
        Self { head: hub.head(), volatile: hub.volatile(), subscriptions: Vec::new(), _counted: counted, hub }
    }

    fn is_behind(&self) -> bool {
        let head = *self.head.borrow();
        self.subscriptions.iter().any(|of| of.at < head)
    }

    /// Up to where everything was sent, to every subscription: who connects again behind it misses nothing.
    fn at(&self) -> u64 {
        self.subscriptions.iter().map(|of| of.at).min().unwrap_or_else(|| *self.head.borrow())
    }

    /// The next messages on record, of all subscriptions.
    async fn page(&mut self) -> Result<Vec<(u64, &'static str, String)>, journal::Error> {
        let mut messages = Vec::new();
        let at_hand = self.hub.behind();
        for of in self.subscriptions.iter_mut().filter(|of| of.lag == Lag::Skip && of.at < at_hand) {
            messages.push((at_hand, "gap", gap(&[&of.name], at_hand, Some((of.at + 1, at_hand)), None)));
            of.at = at_hand;
        }
        let head = *self.head.borrow();
        let Some(from) = self.subscriptions.iter().map(|of| of.at).filter(|at| *at < head).min() else { return Ok(messages) };
        let page = self.hub.page(from).await?;
        let mut names = Vec::new();
        for item in page.items() {
            names.clear();
            names.extend(self.subscriptions.iter().filter(|of| of.at < item.seq && item.is_for(&of.filter)).map(|of| of.name.as_str()));
            if !names.is_empty() {
                messages.push((item.seq, item.kind, item.message(&names, item.seq)));
            }
        }
        for of in &mut self.subscriptions {
            of.at = of.at.max(page.up_to);
        }
        Ok(messages)
    }

    /// What is not on record, for those who want it; or that some of it was missed.
    fn volatile(&self, received: Result<Arc<Item>, broadcast::error::RecvError>) -> Option<(u64, &'static str, String)> {
        match received {
            Ok(item) => {
                let names: Vec<&str> = self.subscriptions.iter().filter(|of| item.is_for(&of.filter)).map(|of| of.name.as_str()).collect();
                (!names.is_empty()).then(|| (self.at(), item.kind, item.message(&names, self.at())))
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                let is_volatile = |topic: &Topic| !Topic::DEFAULT.contains(topic);
                let wanting = self.subscriptions.iter().filter(|of| of.filter.topics.iter().any(is_volatile));
                let names: Vec<&str> = wanting.map(|of| of.name.as_str()).collect();
                (!names.is_empty()).then(|| (self.at(), "gap", gap(&names, self.at(), None, Some(missed))))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    fn ask(&mut self, text: &str, newest: u64) -> Result<Value, Problem> {
        let help = r#"such as {"subscribe": "a", "runs": [], "plugins": [], "topics": ["runs"], "after": 0} or {"unsubscribe": "a"}"#;
        if text.trim_start().starts_with('[') {
            return Err(Problem::new(Code::Malformed, "this message is no question: it is a list, and not an object").help(help));
        }
        let ask: Ask = serde_json::from_str(text)
            .map_err(|error| Problem::new(Code::Malformed, format!("this message is no question: {error}")).help(help))?;
        match (ask.subscribe, ask.unsubscribe) {
            (Some(name), None) => {
                if name.is_empty() || name.len() > NAME_BYTES_MAX {
                    return Err(Problem::new(
                        Code::Malformed,
                        format!("expected a name of 1 to {NAME_BYTES_MAX} bytes for the subscription"),
                    ));
                }
                if ask.runs.len() + ask.plugins.len() > NAMED_MAX {
                    return Err(Problem::new(Code::Malformed, format!("a subscription names at most {NAMED_MAX} runs and plugins")));
                }
                self.subscriptions.retain(|of| of.name != name);
                if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
                    return Err(Problem::new(Code::Conflict, format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions")));
                }
                let topics = ask.topics.unwrap_or_else(|| Topic::DEFAULT.to_vec());
                let filter = Filter { runs: ask.runs.into_iter().collect(), plugins: ask.plugins.into_iter().collect(), topics };
                let at = ask.after.unwrap_or(newest);
                let told = json!({ "type": "subscribed", "subscription": name, "seq": at });
                self.subscriptions.push(Subscription { name, filter, lag: ask.lag, at });
                Ok(told)
            }
            (None, Some(name)) => {
                let before = self.subscriptions.len();
                self.subscriptions.retain(|of| of.name != name);
                if self.subscriptions.len() == before {
                    return Err(Problem::new(Code::NotFound, format!("there is no subscription `{name}`")));
                }
                Ok(json!({ "type": "unsubscribed", "subscription": name, "seq": self.at() }))
            }
            _ => Err(Problem::new(Code::Malformed, "expected one of `subscribe` and `unsubscribe`").help(help)),
        }
    }
}

/// What was missed: records from a `seq` to another, or so many messages that are not on record.
fn gap(names: &[&str], seq: u64, records: Option<(u64, u64)>, missed: Option<u64>) -> String {
    let detail = match records {
        Some(_) => "these records were skipped, since the reader is slow: GET /v1/events has them",
        None => "messages that are not on record were dropped, since the reader is slow",
    };
    let (from, to) = records.unzip();
    json!({ "type": "gap", "subscriptions": names, "seq": seq, "from": from, "to": to, "missed": missed, "detail": detail }).to_string()
}

/// Follow events over a WebSocket: any number of subscriptions, each resumable from any `seq`. The messages are described in the guide.
#[utoipa::path(get, path = "/v1/live", tag = "live", responses((status = 101, description = "A WebSocket")))]
pub async fn socket(
    State(service): State<Service>,
    Extension(held): Extension<Held>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        let help = "connect with a WebSocket client; GET /v1/stream has the same as server-sent events";
        Problem::new(Code::Malformed, rejection.body_text()).help(help)
    })?;
    let upgrade = upgrade.read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    let held = held.hold();
    Ok(upgrade.on_upgrade(move |socket| async move {
        if let Err(error) = follow(&service, socket).await {
            tracing::debug!(%error, "a follower went away");
        }
        drop(held);
    }))
}

type Sink = SplitSink<WebSocket, Message>;

async fn follow(service: &Service, socket: WebSocket) -> Result<(), axum::Error> {
    let mut following = Following::new(service);
    let (mut sink, mut stream) = socket.split();
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    let mut heard = Stopwatch::start();
    loop {
        let behind = following.is_behind();
        tokio::select! {
            message = stream.next() => {
                heard = Stopwatch::start();
                match message {
                    Some(Ok(Message::Text(text))) => answer(service, &mut following, &mut sink, &text).await?,
                    Some(Ok(Message::Binary(_))) => tell(&mut sink, Problem::new(Code::UnsupportedMediaType, "expected text frames")).await?,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Err(error)) => return close(&mut sink, close_code::PROTOCOL, &error.to_string()).await,
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                }
            }
            () = std::future::ready(()), if behind => {
                match following.page().await {
                    Ok(messages) => {
                        for (_, _, message) in messages {
                            sink.feed(Message::Text(message.into())).await?;
                        }
                        sink.flush().await?;
                    }
                    Err(error) => return close(&mut sink, close_code::ERROR, &error.to_string()).await,
                }
            }
            received = following.volatile.recv() => {
                if let Some((_, _, message)) = following.volatile(received) {
                    sink.send(Message::Text(message.into())).await?;
                }
            }
            grown = following.head.changed(), if !behind => if grown.is_err() { return Ok(()) },
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return close(&mut sink, close_code::POLICY, "nothing was heard of you for a minute").await;
                }
                sink.send(Message::Ping(bytes::Bytes::new())).await?;
            }
            () = service.stop().cancelled() => return close(&mut sink, close_code::AWAY, "the server is ending: connect again, behind the last seq").await,
        }
    }
}

async fn answer(service: &Service, following: &mut Following, sink: &mut Sink, text: &str) -> Result<(), axum::Error> {
    match following.ask(text, service.newest()) {
        Ok(told) => sink.send(Message::Text(told.to_string().into())).await,
        Err(problem) => tell(sink, problem).await,
    }
}

async fn tell(sink: &mut Sink, problem: Problem) -> Result<(), axum::Error> {
    sink.send(Message::Text(json!({ "type": "problem", "problem": problem }).to_string().into())).await
}

async fn close(sink: &mut Sink, code: u16, reason: &str) -> Result<(), axum::Error> {
    let reason: String = reason.chars().take(100).collect(); // a control frame has room for 123 bytes
    let reason: Utf8Bytes = if reason.len() <= 120 { reason.into() } else { Utf8Bytes::from_static("see the server's log") };
    sink.send(Message::Close(Some(CloseFrame { code, reason }))).await
}

/// Follow events as server-sent events. Each has its `seq` as `id`, so that a client that connects again goes on where it was.
#[utoipa::path(get, path = "/v1/stream", tag = "live",
    params(StreamQuery, ("last-event-id" = Option<String>, Header, description = "Only behind this `seq`")),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub async fn stream(State(service): State<Service>, headers: HeaderMap, Query(query): Query<StreamQuery>) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let list =
        |text: Option<String>| text.map(|text| text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>());
    let mut ask = json!({ "subscribe": "stream", "after": last.or(query.after) });
    for (field, given) in [("runs", list(query.runs)), ("plugins", list(query.plugins)), ("topics", list(query.topics))] {
        if let Some(given) = given {
            ask[field] = json!(given);
        }
    }
    ask["lag"] = json!(query.lag.unwrap_or_default());
    let mut following = Following::new(&service);
    following.ask(&ask.to_string(), service.newest())?;
    let begun = following.subscriptions.first().map_or(0, |of| of.at);
    let events = events(service, following, begun);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(PING).text("still here")).into_response())
}

struct Streaming {
    service: Service,
    following: Following,
    ready: std::collections::VecDeque<(u64, &'static str, String)>,
    /// What is at hand only as the last word.
    begun: Option<u64>,
}

fn events(service: Service, following: Following, begun: u64) -> impl Stream<Item = Result<sse::Event, Infallible>> + Send {
    let state = Streaming { service, following, ready: std::collections::VecDeque::new(), begun: Some(begun) };
    futures_util::stream::unfold(state, |mut state| async move {
        // The first event says from where on: a client that loses the connection before the next one goes on there.
        if let Some(begun) = state.begun.take() {
            let told = json!({ "type": "subscribed", "subscription": "stream", "seq": begun }).to_string();
            return Some((Ok(event(begun, "subscribed", told)), state));
        }
        loop {
            if let Some((seq, kind, message)) = state.ready.pop_front() {
                return Some((Ok(event(seq, kind, message)), state));
            }
            if state.following.is_behind() {
                match state.following.page().await {
                    Ok(messages) => state.ready.extend(messages),
                    Err(error) => {
                        tracing::error!(%error, "a stream of events ends");
                        return None;
                    }
                }
                continue;
            }
            tokio::select! {
                received = state.following.volatile.recv() => {
                    let message = state.following.volatile(received);
                    state.ready.extend(message);
                }
                grown = state.following.head.changed() => if grown.is_err() { return None },
                () = state.service.stop().cancelled() => return None,
            }
        }
    })
}

fn event(seq: u64, kind: &'static str, data: String) -> sse::Event {
    sse::Event::default().id(seq.to_string()).event(kind).data(data)
}
