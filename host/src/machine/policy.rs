//! Small rules that the machine asks: how long to wait, and whether a verdict lets a task through.

use std::time::Duration;

use crate::model::{Decision, RetryPolicy, Severity, Verdict};

/// How long to wait before the attempt that follows the given one (counted from 1): exponential, capped, and then
/// lengthened or shortened by the policy's jitter. `chance` is drawn outside, from 0 up to 1.
#[must_use]
pub fn backoff(policy: &RetryPolicy, attempt: u32, chance: f64) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    let cap = policy.maximum_interval.as_secs_f64();
    let wait = (policy.initial_interval.as_secs_f64() * policy.backoff_coefficient.powi(exponent)).min(cap);
    let jitter = 1.0 + policy.jitter * (2.0 * chance - 1.0);
    Duration::try_from_secs_f64((wait * jitter).clamp(0.0, cap * 2.0)).unwrap_or(policy.maximum_interval)
}

/// Whether a verdict lets its task through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Judgement {
    Passes,
    Rejects,
}

/// Judges a verdict: without a threshold the gate's own decision counts; with one its findings do, except that `fail`
/// without a finding always rejects.
#[must_use]
pub fn judge(verdict: &Verdict, fail_on: Option<Severity>) -> Judgement {
    let rejects = match fail_on {
        None => verdict.decision == Decision::Fail,
        Some(threshold) => {
            verdict.findings.iter().any(|finding| finding.severity >= threshold)
                || (verdict.decision == Decision::Fail && verdict.findings.is_empty())
        }
    };
    if rejects { Judgement::Rejects } else { Judgement::Passes }
}
