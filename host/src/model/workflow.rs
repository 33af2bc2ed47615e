//! A workflow: steps, what they need, and how their results are judged. Reading one from a file, and everything that
//! can be wrong with one, is in [`crate::config::workflow`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Severity;

/// How many steps a workflow may have: far above what a person writes, far below what hurts.
pub const STEPS_MAX: usize = 10_000;

/// The definition of which a run is one execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// What people call it.
    pub name: String,
    /// Its steps, in the order of the file. `needs` name earlier or later ones, without cycles.
    pub steps: Vec<Step>,
}

/// Where inputs of a step come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSource {
    /// Files that match a glob, relative to the workflow file.
    Files(String),
    /// Artifacts of a step that this one needs, whose names match a glob.
    Step {
        /// The step.
        from: String,
        /// The glob on the artifact's own name; absent means every artifact.
        name: Option<String>,
    },
}

/// A named node of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name within the workflow.
    pub id: String,
    /// The worker that does its tasks.
    pub worker: String,
    /// The steps that must be completed before it starts.
    pub needs: Vec<String>,
    /// Where its inputs come from. Empty means: all artifacts of `needs`.
    pub inputs: Vec<InputSource>,
    /// One task per input, in place of one task for all of them.
    pub foreach: bool,
    /// A JSON object handed to the worker.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// When and how often failures are tried again.
    pub retry: RetryPolicy,
    /// Limits by name, as text: validated when the file is read, merged over the plugin's own.
    pub limits: BTreeMap<String, String>,
    /// Who judges its results.
    pub gates: Vec<GateUse>,
    /// How often gates may send the work back.
    pub maximum_revisions: u32,
}

/// One gate of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateUse {
    /// The gate's plugin.
    pub gate: String,
    /// Findings of at least this severity reject. Unset: the gate's own verdict decides.
    pub fail_on: Option<Severity>,
    /// A JSON object handed to the gate.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Whether the gate sees the receipt of the attempt.
    pub usage: bool,
    /// When and how often a gate that could not answer is asked again.
    pub retry: RetryPolicy,
    /// Limits by name, as text.
    pub limits: BTreeMap<String, String>,
}

impl GateUse {
    /// The line that tells a worker what it will be judged by.
    #[must_use]
    pub fn criterion(&self) -> String {
        let threshold = self.fail_on.map_or_else(String::new, |s| format!(", rejects findings of {s} or above"));
        let params =
            if self.params.is_empty() { String::new() } else { format!(", params {}", serde_json::Value::Object(self.params.clone())) };
        format!("gate {}{threshold}{params}", self.gate)
    }
}

/// When a failed attempt is tried again. The words are those of Temporal's retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// How many attempts there may be, the first included.
    pub maximum_attempts: u32,
    /// The wait before the second attempt.
    pub initial_interval: Duration,
    /// By how much each wait is longer than the one before.
    pub backoff_coefficient: f64,
    /// No wait is longer.
    pub maximum_interval: Duration,
    /// Each wait is lengthened or shortened at random by up to this part of itself, from 0 to 1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            maximum_attempts: 3,
            initial_interval: Duration::from_secs(1),
            backoff_coefficient: 2.0,
            maximum_interval: Duration::from_secs(30),
            jitter: 0.2,
        }
    }
}

/// How a workflow's steps stand to each other: not a mode to choose, but what follows from `needs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One thing after another.
    Sequential,
    /// Everything at once.
    Parallel,
    /// Some of both.
    Hybrid,
}

impl Shape {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Parallel => "parallel",
            Self::Hybrid => "hybrid",
        }
    }
}

impl Workflow {
    /// The steps in levels: each step stands one level behind the last of those it needs. Steps of one level may run at
    /// the same time. Steps of a cycle, which reading a file refuses, are left out.
    #[must_use]
    pub fn levels(&self) -> Vec<Vec<usize>> {
        let index: BTreeMap<&str, usize> = self.steps.iter().enumerate().map(|(i, s)| (s.id.as_str(), i)).collect();
        let mut unmet: Vec<usize> = self.steps.iter().map(|s| s.needs.iter().filter(|n| index.contains_key(n.as_str())).count()).collect();
        let mut dependents = vec![Vec::new(); self.steps.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for need in step.needs.iter().filter_map(|n| index.get(n.as_str())) {
                dependents[*need].push(i);
            }
        }
        let mut levels = Vec::new();
        let mut current: Vec<usize> = (0..self.steps.len()).filter(|i| unmet[*i] == 0).collect();
        while !current.is_empty() {
            let mut next = Vec::new();
            for dependent in current.iter().flat_map(|i| &dependents[*i]) {
                unmet[*dependent] -= 1;
                if unmet[*dependent] == 0 {
                    next.push(*dependent);
                }
            }
            next.sort_unstable();
            levels.push(std::mem::replace(&mut current, next));
        }
        levels
    }

    /// Whether the steps run one after another, all at once, or both.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let levels = self.levels();
        let wide = self.steps.iter().any(|s| s.foreach) || levels.iter().any(|l| l.len() > 1);
        match (wide, levels.len() > 1) {
            (true, false) => Shape::Parallel,
            (true, true) => Shape::Hybrid,
            (false, _) => Shape::Sequential,
        }
    }
}
