//! The states of a task as a picture, drawn from the transitions themselves.

/// From which states an event leads to which. Tests hold it against what the machine does.
pub const TRANSITIONS: &[(&str, &[&str], &str)] = &[
    ("attempt_started", &["PENDING", "RETRYING", "REVISING"], "RUNNING"),
    ("attempt_completed", &["RUNNING"], "VALIDATING"),
    ("attempt_lost", &["RUNNING"], "PENDING"),
    ("retry_scheduled", &["RUNNING"], "RETRYING"),
    ("approval_requested", &["VALIDATING"], "APPROVING"),
    ("plan_submitted", &["VALIDATING", "APPROVING"], "EXPANDING"),
    ("revision_requested", &["VALIDATING", "APPROVING", "EXPANDING"], "REVISING"),
    ("fallback_started", &["RUNNING", "VALIDATING", "APPROVING", "EXPANDING"], "REVISING"),
    ("task_completed", &["VALIDATING", "APPROVING", "EXPANDING"], "COMPLETED"),
    ("task_failed", &["RUNNING", "VALIDATING", "APPROVING", "EXPANDING"], "FAILED"),
    ("task_dead_lettered", &["PENDING", "RUNNING", "VALIDATING", "APPROVING", "EXPANDING"], "DEAD_LETTERED"),
    ("task_held", &["RUNNING", "VALIDATING", "APPROVING", "EXPANDING"], "PAUSED"),
    ("run_resumed", &["PAUSED"], "PENDING"),
    ("task_requeued", &["FAILED", "DEAD_LETTERED"], "PENDING"),
    ("task_discarded", &["DEAD_LETTERED"], "FAILED"),
    ("task_cancelled", &["PENDING", "RUNNING", "RETRYING", "VALIDATING", "APPROVING", "EXPANDING", "REVISING", "PAUSED"], "CANCELLED"),
];

/// The transitions as a diagram in Mermaid's language.
#[must_use]
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n    [*] --> PENDING\n");
    for (event, from, to) in TRANSITIONS {
        for from in *from {
            text.push_str(&format!("    {from} --> {to}: {event}\n"));
        }
    }
    for last in ["COMPLETED", "CANCELLED"] {
        text.push_str(&format!("    {last} --> [*]\n"));
    }
    text
}
