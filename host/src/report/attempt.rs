//! One attempt as JSON, and a log as text.

use base64::Engine as _;
use serde_json::{Value, json};

use super::SCHEMA_VERSION;
use crate::model::{Artifact, Attempt, Decision, Digest, Failure, Log, Receipt, Verdict};

/// One attempt: `outcome`, then `failure` and `blame` or what came of it, then `usage` and `log`.
#[must_use]
pub fn attempt_json(plugin: &str, digest: Option<&Digest>, failure: Option<&Failure>, answer: Value, attempt: &Attempt<()>) -> Value {
    let mut object = json!({
        "schema_version": SCHEMA_VERSION,
        "plugin": { "name": plugin, "digest": digest },
        "outcome": if failure.is_some() { "failed" } else { "completed" },
        "failure": failure.map(|failure| json!({ "kind": failure.kind, "message": failure.message })),
        "blame": failure.map(|failure| failure.kind.blame()),
        "usage": usage_json(&attempt.receipt),
        "log": attempt.log,
    });
    if let (Value::Object(object), Value::Object(answer)) = (&mut object, answer) {
        object.extend(answer);
    }
    object
}

/// A receipt.
#[must_use]
pub fn usage_json(receipt: &Receipt) -> Value {
    json!({
        "fuel": receipt.fuel,
        "peak_memory_bytes": receipt.peak_memory_bytes,
        "wall_time_ms": receipt.wall_time.as_micros() as f64 / 1000.0,
        "bytes_in": receipt.bytes_in,
        "bytes_out": receipt.bytes_out,
    })
}

/// An artifact with its content: `content` where it is text, `content_base64` where it is not.
#[must_use]
pub fn artifact_json(artifact: &Artifact) -> Value {
    let mut object = json!({
        "name": artifact.name,
        "media_type": artifact.media_type,
        "size_bytes": artifact.content.len(),
        "digest": Digest::of(&artifact.content),
    });
    match std::str::from_utf8(&artifact.content) {
        Ok(text) => object["content"] = text.into(),
        Err(_) => object["content_base64"] = base64::engine::general_purpose::STANDARD.encode(&artifact.content).into(),
    }
    object
}

/// A verdict.
#[must_use]
pub fn verdict_json(verdict: &Verdict) -> Value {
    json!({
        "decision": match verdict.decision { Decision::Pass => "pass", Decision::Fail => "fail" },
        "summary": verdict.summary,
        "findings": verdict.findings,
        "metrics": verdict.metrics,
    })
}

/// A log as lines, each with its source in front; the gap is marked.
#[must_use]
pub fn log_text(log: &Log) -> String {
    let mut text = String::new();
    for (place, line) in log.lines.iter().enumerate() {
        if log.gap_at == Some(place) {
            text.push_str(&format!("  … {} bytes dropped …\n", log.dropped_bytes));
        }
        text.push_str(&format!("  {:>6} | {}\n", line.source.as_str(), line.text));
    }
    text
}
