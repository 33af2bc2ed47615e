//! Runs as traces, for a collector of OpenTelemetry: a span for the run, below it one for each step, below that one for each attempt and each
//! call of a gate.
//!
//! The spans of a run are made of its records once it has ended, and so are the same whether the host was killed meanwhile or not. The trace's
//! name is the run's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio_util::sync::CancellationToken;

use crate::journal::{READ_MAX, Record, Store};
use crate::machine::{Event, TaskKey};
use crate::model::{Receipt, RunId, Step};

/// The variables that say where the collector is, by OpenTelemetry's specification.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// How many spans of one run are sent: a trace with more shows nobody anything.
const SPANS_MAX: usize = 10_000;
/// How many are sent at once.
const BATCH: usize = 512;

/// Sends the spans of each run that ends, until it is stopped; nothing where no collector is named.
pub async fn export(store: Arc<dyn Store>, stop: CancellationToken) {
    if ENDPOINTS.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
        return;
    }
    let mut exporter = match SpanExporter::builder().with_http().build() {
        Ok(exporter) => exporter,
        Err(error) => {
            tracing::error!(%error, "no traces are sent");
            return;
        }
    };
    exporter.set_resource(&Resource::builder().with_service_name("sandhog").build());
    let mut grown = store.head();
    let mut seq = *grown.borrow();
    loop {
        let records = match store.after(seq, READ_MAX).await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, "no more traces are sent: the journal cannot be read");
                return;
            }
        };
        for record in &records {
            seq = record.seq;
            if !record.event.ends_the_run() {
                continue;
            }
            let sent = tokio::select! {
                sent = send(&exporter, &*store, record.run) => sent,
                () = stop.cancelled() => return, // a collector that does not answer holds nobody up
            };
            if let Err(error) = sent {
                tracing::warn!(%error, run = %record.run, "the trace of a run was not sent");
            }
        }
        if records.is_empty() {
            tokio::select! {
                grown = grown.changed() => if grown.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn send(exporter: &SpanExporter, store: &dyn Store, run: RunId) -> Result<(), String> {
    let mut trace = Trace::default();
    let mut version = 1;
    loop {
        let records = store.read(&run, version, READ_MAX).await.map_err(|error| error.to_string())?;
        let Some(last) = records.last() else { break };
        version = last.version + 1;
        records.iter().for_each(|record| trace.add(record));
    }
    for batch in trace.spans().chunks(BATCH) {
        exporter.export(batch.to_vec()).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What became of something.
struct Span {
    parent: Option<String>,
    name: String,
    started: SystemTime,
    ended: Option<SystemTime>,
    failed: Option<String>,
    attributes: Vec<KeyValue>,
}

/// The spans of a run, by what each is of.
#[derive(Default)]
struct Trace {
    run: Option<RunId>,
    steps: Vec<Step>,
    spans: BTreeMap<String, Span>,
    last: Option<SystemTime>,
}

impl Trace {
    fn begin(&mut self, key: String, parent: Option<String>, name: String, record: &Record, attributes: Vec<KeyValue>) {
        if self.spans.len() < SPANS_MAX {
            let span = Span { parent, name, started: record.at.into(), ended: None, failed: None, attributes };
            self.spans.insert(key, span);
        }
    }

    fn end(&mut self, key: &str, record: &Record, failed: Option<String>, receipt: Option<&Receipt>) {
        let Some(span) = self.spans.get_mut(key) else { return };
        span.ended = Some(record.at.into());
        span.failed = failed;
        if let Some(receipt) = receipt {
            span.attributes.push(KeyValue::new("sandhog.fuel", i64::try_from(receipt.fuel).unwrap_or(i64::MAX)));
            span.attributes.push(KeyValue::new("sandhog.peak_memory_bytes", i64::try_from(receipt.peak_memory_bytes).unwrap_or(i64::MAX)));
            span.attributes.push(KeyValue::new("sandhog.wall_time_ms", receipt.wall_time.as_secs_f64() * 1000.0));
        }
    }

    fn add(&mut self, record: &Record) {
        self.last = Some(record.at.into());
        let attempt_key = |task: &TaskKey| format!("attempt {} {}", task.step, task.index);
        let gate_key = |task: &TaskKey, gate: u32| format!("gate {} {} {gate}", task.step, task.index);
        match &record.event {
            Event::RunStarted { workflow, .. } => {
                self.run = Some(record.run);
                self.steps.clone_from(&workflow.steps);
                let attributes = vec![KeyValue::new("sandhog.run", record.run.to_string())];
                self.begin("run".to_owned(), None, workflow.name.clone(), record, attributes);
            }
            Event::PlanAccepted { steps, .. } => self.steps.extend_from_slice(steps),
            Event::StepStarted { step, tasks, .. } => {
                let name = self.steps.get(*step as usize).map_or_else(String::new, |step| step.id.clone());
                let attributes = vec![KeyValue::new("sandhog.tasks", i64::from(*tasks))];
                self.begin(format!("step {step}"), Some("run".to_owned()), name, record, attributes);
            }
            Event::StepCompleted { step } => self.end(&format!("step {step}"), record, None, None),
            Event::StepFailed { step } | Event::StepCancelled { step } => {
                self.end(&format!("step {step}"), record, Some(record.event.name().to_owned()), None);
            }
            Event::AttemptStarted { task, attempt, revision, provider } => {
                self.close(&attempt_key(task), record);
                let worker = self.steps.get(task.step as usize).map_or_else(String::new, |step| step.worker.clone());
                let attributes = vec![
                    KeyValue::new("sandhog.task", i64::from(task.index)),
                    KeyValue::new("sandhog.attempt", i64::from(*attempt)),
                    KeyValue::new("sandhog.revision", i64::from(*revision)),
                ];
                let name = provider.clone().unwrap_or(worker);
                self.begin(attempt_key(task), Some(format!("step {}", task.step)), name, record, attributes);
            }
            Event::AttemptCompleted { task, receipt, .. } => self.end(&attempt_key(task), record, None, Some(receipt)),
            Event::AttemptFailed { task, failure, receipt, .. } => {
                self.end(&attempt_key(task), record, Some(failure.kind.as_str().to_owned()), Some(receipt));
            }
            Event::AttemptLost { task, .. } => self.end(&attempt_key(task), record, Some("lost".to_owned()), None),
            Event::GateStarted { task, gate, attempt, .. } => {
                self.close(&gate_key(task, *gate), record);
                let named = self.steps.get(task.step as usize).and_then(|step| step.gates.get(*gate as usize));
                let name = named.map_or_else(String::new, |gate| gate.gate.clone());
                let attributes =
                    vec![KeyValue::new("sandhog.task", i64::from(task.index)), KeyValue::new("sandhog.attempt", i64::from(*attempt))];
                self.begin(gate_key(task, *gate), Some(format!("step {}", task.step)), name, record, attributes);
            }
            Event::GateAnswered { task, gate, passed, receipt, .. } => {
                let failed = (!passed).then(|| "rejected".to_owned());
                self.end(&gate_key(task, *gate), record, failed, Some(receipt));
            }
            Event::GateFailed { task, gate, failure, receipt, .. } => {
                self.end(&gate_key(task, *gate), record, Some(failure.kind.as_str().to_owned()), Some(receipt));
            }
            Event::GateLost { task, gate, .. } => self.end(&gate_key(task, *gate), record, Some("lost".to_owned()), None),
            Event::RunCompleted { .. } => self.end("run", record, None, None),
            Event::RunFailed | Event::RunCancelled => self.end("run", record, Some(record.event.name().to_owned()), None),
            _ => {}
        }
    }

    /// Sets a span that has ended aside, where another of its key begins.
    fn close(&mut self, key: &str, record: &Record) {
        if let Some(before) = self.spans.remove(key) {
            self.spans.insert(format!("{key} before {}", record.version), before);
        }
    }

    fn spans(&self) -> Vec<SpanData> {
        let Some(run) = self.run else { return Vec::new() };
        let trace = TraceId::from_bytes(*run.0.as_bytes());
        let id = |key: &str| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&blake3::hash(format!("{run} {key}").as_bytes()).as_bytes()[..8]);
            SpanId::from_bytes(bytes)
        };
        let context = |key: &str| SpanContext::new(trace, id(key), TraceFlags::SAMPLED, false, TraceState::default());
        let of = |(key, span): (&String, &Span)| SpanData {
            span_context: context(key),
            parent_span_id: span.parent.as_deref().map_or(SpanId::INVALID, id),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: span.name.clone().into(),
            start_time: span.started,
            end_time: span.ended.or(self.last).unwrap_or(span.started),
            attributes: span.attributes.clone(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.failed.as_ref().map_or(Status::Ok, |reason| Status::error(reason.clone())),
            instrumentation_scope: InstrumentationScope::builder("sandhog").with_version(env!("CARGO_PKG_VERSION")).build(),
        };
        self.spans.iter().map(of).collect()
    }
}
