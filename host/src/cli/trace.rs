//! `--trace`: each call of a guest into the host, a line each, with its arguments and its result; and what the program says of itself.
//!
//! wasmtime's bindings open a span for every import and tell what goes in and what comes out; what is long is left out by them.

use std::fmt::Write as _;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::model::text::sanitize;

/// The name that wasmtime gives to the span of an import.
const IMPORT: &str = "wit-bindgen import";
/// How much of one call is shown, in bytes.
const LINE_BYTES_MAX: usize = 400;

/// How a server's log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Has what a server says of itself go to standard output, with the time.
pub fn subscribe_server(verbose: u8, format: Option<LogFormat>) {
    let level = if verbose == 0 { "sandhog=info" } else { "sandhog=debug" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SANDHOG_LOG").unwrap_or_else(|_| level.into());
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let format = format.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json });
    let said = tracing_subscriber::fmt::layer().with_writer(std::io::stdout).with_target(false).log_internal_errors(false);
    let said = match format {
        LogFormat::Text => said.with_ansi(super::colour(&std::io::stdout())).with_filter(filter).boxed(),
        LogFormat::Json => said.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let _ = tracing_subscriber::registry().with(said).try_init();
}

/// Has what the program says of itself go to standard error, from a level on; and, where it is asked for, the calls of guests.
pub fn subscribe(verbose: u8, host_calls: bool) {
    let level = match verbose {
        0 => "sandhog=warn",
        1 => "sandhog=info",
        _ => "sandhog=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SANDHOG_LOG").unwrap_or_else(|_| level.into());
    let ansi = super::colour(&std::io::stderr());
    let said = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        .without_time()
        .log_internal_errors(false);
    let calls =
        host_calls.then(|| HostCalls.with_filter(filter_fn(|metadata| *metadata.level() == Level::TRACE && interface(metadata).is_some())));
    let _ = tracing_subscriber::registry().with(said.with_filter(filter)).with(calls).try_init();
}

/// The interface whose bindings a span or an event comes from, such as `wasi:io/streams`: the last parts of their module's path.
fn interface(metadata: &Metadata<'_>) -> Option<String> {
    let mut parts = metadata.target().rsplit("::");
    let (interface, package, namespace) = (parts.next()?, parts.next()?, parts.next()?);
    let known = ["wasi", "sandhog"].contains(&namespace) && parts.next().is_some();
    known.then(|| format!("{namespace}:{package}/{interface}").replace('_', "-"))
}

/// Shows the calls.
struct HostCalls;

/// One call under way.
#[derive(Default)]
struct HostCall {
    function: String,
    arguments: String,
    has_returned: bool,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for HostCalls {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id).filter(|span| span.name() == IMPORT) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(HostCall { function: fields.function, ..HostCall::default() });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let mut extensions = span.extensions_mut();
        let Some(call) = extensions.get_mut::<HostCall>() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.has_returned {
            call.has_returned = true;
            show(span.metadata(), call, &fields.result);
        } else {
            call.arguments = fields.arguments;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let extensions = span.extensions();
        if let Some(call) = extensions.get::<HostCall>().filter(|call| !call.has_returned) {
            show(span.metadata(), call, "(it did not return)");
        }
    }
}

fn show(metadata: &Metadata<'_>, call: &HostCall, result: &str) {
    let interface = interface(metadata).unwrap_or_default();
    let result = if result == "Ok(())" { String::new() } else { format!(" = {result}") };
    errln!("{}", sanitize(&format!("trace: {interface}.{}({}){result}", call.function, call.arguments), LINE_BYTES_MAX));
}

/// What a span or an event says.
#[derive(Default)]
struct Fields {
    function: String,
    arguments: String,
    result: String,
    has_returned: bool,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = handles(&format!("{value:?}"));
        match (field.name(), text.as_str()) {
            ("function", _) => self.function = text,
            // An argument may be called so, too, and is in quotes then.
            ("message", "return") => self.has_returned = true,
            ("message", "call") | ("module", _) => {}
            ("result", _) => self.result = text,
            (name, _) => {
                let comma = if self.arguments.is_empty() { "" } else { ", " };
                let _ = write!(self.arguments, "{comma}{}: {text}", name.trim_end_matches('_'));
            }
        }
    }
}

/// Handles of the guest, as `#3`: whose they are, and where, is wasmtime's own business.
fn handles(text: &str) -> String {
    let mut parts = text.split("Resource { rep: ");
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (number, rest) = part.split_once(", state: ").unwrap_or((part, ""));
        let rest = rest.split_once("\" }").map_or("", |(_, rest)| rest);
        let _ = write!(told, "#{number}{rest}");
    }
    told
}
