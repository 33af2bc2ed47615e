//! The contract's generated types, and their conversion to the model's. The only place that sees both.
//!
//! Conversions match exhaustively, so a change of the contract breaks this file, at compile time.

use std::sync::Arc;

use bytes::Bytes;

use crate::model;

/// The world of workers; owns the generated types that the other worlds share.
pub(super) mod worker {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sandhog:plugin/worker-plugin",
        imports: { default: tracing | trappable },
        exports: { default: async },
    });
}

/// The world of gates.
pub(super) mod gate {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sandhog:plugin/gate-plugin",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "sandhog:plugin/types": super::worker::sandhog::plugin::types,
            "sandhog:plugin/host": super::worker::sandhog::plugin::host,
        },
    });
}

/// The world of gates that judge unit by unit.
pub(super) mod units {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sandhog:plugin/unit-gate-plugin",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "sandhog:plugin/types": super::worker::sandhog::plugin::types,
            "sandhog:plugin/host": super::worker::sandhog::plugin::host,
        },
    });
}

pub(super) use worker::sandhog::plugin::{host, types};

/// A task, as the contract has it.
pub(super) fn task(task: model::Task) -> types::Task {
    let model::Task { id, run, step, attempt, revision, params, inputs, criteria, feedback, previous } = task;
    types::Task {
        id,
        run,
        step,
        attempt,
        revision,
        params: json_object(&params),
        inputs: inputs.into_iter().map(artifact).collect(),
        criteria,
        feedback: feedback.into_iter().map(finding).collect(),
        previous: previous.into_iter().map(artifact).collect(),
    }
}

/// Params left empty by a library user are the empty object.
fn json_object(text: &str) -> String {
    if text.is_empty() { "{}".to_owned() } else { text.to_owned() }
}

fn artifact(artifact: model::Artifact) -> types::Artifact {
    let model::Artifact { name, media_type, content } = artifact;
    types::Artifact { name, media_type, content: content.into() }
}

/// An artifact without its content, as subjects list them.
fn artifact_name(artifact: model::Artifact) -> types::Artifact {
    types::Artifact { name: artifact.name, media_type: artifact.media_type, content: Vec::new() }
}

/// A subject, as the contract has it. The files' content is served at `/subject`.
pub(super) fn subject(subject: model::Subject) -> types::Subject {
    let model::Subject { files, snapshot: _, data: _, task: judged, usage, params, unit } = subject;
    let mut files: Vec<_> = files
        .into_iter()
        .map(|model::SubjectFile { path, size_bytes, media_type }| types::SubjectFile { path, size_bytes, media_type })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    types::Subject {
        files,
        task: judged.map(|judged| {
            let judged = Arc::unwrap_or_clone(judged);
            let model::Task { inputs, previous, .. } = judged;
            types::Task {
                inputs: inputs.into_iter().map(artifact_name).collect(),
                previous: previous.into_iter().map(artifact_name).collect(),
                ..task(model::Task { inputs: Vec::new(), previous: Vec::new(), ..judged })
            }
        }),
        usage: usage.map(|receipt| types::Usage {
            fuel: receipt.fuel,
            peak_memory_bytes: receipt.peak_memory_bytes,
            wall_time_ns: u64::try_from(receipt.wall_time.as_nanos()).unwrap_or(u64::MAX),
        }),
        params: json_object(&params),
        unit,
    }
}

fn finding(finding: model::Finding) -> types::Finding {
    let model::Finding { rule, severity, message, location, suggestion, help_url, fix } = finding;
    types::Finding {
        rule,
        severity: match severity {
            model::Severity::Info => types::Severity::Info,
            model::Severity::Low => types::Severity::Low,
            model::Severity::Medium => types::Severity::Medium,
            model::Severity::High => types::Severity::High,
            model::Severity::Critical => types::Severity::Critical,
        },
        message,
        location: location.map(|model::Location { path, span }| types::Location {
            path,
            span: span.map(|model::Span { start_line, start_column, end_line, end_column }| types::Span {
                start_line,
                start_column,
                end_line,
                end_column,
            }),
        }),
        suggestion,
        help_url,
        fix: fix.map(|model::Fix { description, edits, safe }| types::Fix {
            description,
            edits: edits.into_iter().map(|model::Edit { start, end, replacement }| types::Edit { start, end, replacement }).collect(),
            safe,
        }),
    }
}

/// Artifacts that a worker returned.
pub(super) fn artifacts(artifacts: Vec<types::Artifact>) -> Vec<model::Artifact> {
    artifacts
        .into_iter()
        .map(|types::Artifact { name, media_type, content }| model::Artifact { name, media_type, content: Bytes::from(content) })
        .collect()
}

/// A verdict that a gate returned.
pub(super) fn verdict(verdict: types::Verdict) -> model::Verdict {
    let types::Verdict { decision, findings, metrics, summary } = verdict;
    model::Verdict {
        decision: match decision {
            types::Decision::Pass => model::Decision::Pass,
            types::Decision::Fail => model::Decision::Fail,
        },
        findings: findings.into_iter().map(finding_back).collect(),
        metrics: metrics.into_iter().map(|types::Metric { name, value, unit }| model::Metric { name, value, unit }).collect(),
        summary,
    }
}

fn finding_back(finding: types::Finding) -> model::Finding {
    let types::Finding { rule, severity, message, location, suggestion, help_url, fix } = finding;
    model::Finding {
        rule,
        severity: match severity {
            types::Severity::Info => model::Severity::Info,
            types::Severity::Low => model::Severity::Low,
            types::Severity::Medium => model::Severity::Medium,
            types::Severity::High => model::Severity::High,
            types::Severity::Critical => model::Severity::Critical,
        },
        message,
        location: location.map(|types::Location { path, span }| model::Location {
            path,
            span: span.map(|types::Span { start_line, start_column, end_line, end_column }| model::Span {
                start_line,
                start_column,
                end_line,
                end_column,
            }),
        }),
        suggestion,
        help_url,
        fix: fix.map(|types::Fix { description, edits, safe }| model::Fix {
            description,
            edits: edits.into_iter().map(|types::Edit { start, end, replacement }| model::Edit { start, end, replacement }).collect(),
            safe,
        }),
    }
}

/// A failure that a plugin returned.
pub(super) fn failure(failure: types::Failure) -> model::Failure {
    match failure {
        types::Failure::InvalidInput(message) => model::Failure::new(model::FailureKind::InvalidInput, message),
        types::Failure::Transient(message) => model::Failure::new(model::FailureKind::Transient, message),
        types::Failure::Permanent(message) => model::Failure::new(model::FailureKind::Permanent, message),
        types::Failure::Cancelled => model::Failure::new(model::FailureKind::Cancelled, "the plugin stopped as it was asked to"),
    }
}
