//! A workflow: steps, what they need, and how their results are judged. Reading one from a file, and everything that
//! can be wrong with one, is in [`crate::config::workflow`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{FailureKind, Severity};

/// How many steps a workflow may have: far above what a person writes, far below what hurts.
pub const STEPS_MAX: usize = 10_000;

/// The definition of which a run is one execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// What people call it.
    pub name: String,
    /// Whose turn comes first where places are short: 1 before 2, up to 9.
    #[serde(default = "priority", skip_serializing_if = "is_ordinary")]
    pub priority: u8,
    /// How many of its calls may execute at once; absent means as many as the host allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Its steps, in the order of the file. `needs` name earlier or later ones, without cycles.
    pub steps: Vec<Step>,
}

/// The priority of a workflow that names none.
pub const PRIORITY: u8 = 5;

fn priority() -> u8 {
    PRIORITY
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_ordinary(priority: &u8) -> bool {
    *priority == PRIORITY
}

/// What happens to a task whose attempts or revisions are used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// It has failed, and its step with it.
    #[default]
    Fail,
    /// The same, and it is set aside with its reason and input until a person deals with it.
    DeadLetter,
    /// The run is paused; when a person resumes it, the task is tried anew.
    Pause,
}

impl OnExhausted {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Fail, Self::DeadLetter, Self::Pause];

    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::DeadLetter => "dead_letter",
            Self::Pause => "pause",
        }
    }
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
    /// How often gates, or a person, may send the work back.
    pub maximum_revisions: u32,
    /// What happens when attempts or revisions are used up.
    #[serde(default)]
    pub on_exhausted: OnExhausted,
    /// Another worker, which takes a task over when this one's attempts or revisions are used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Whether the run completes without what this step did not make.
    #[serde(default)]
    pub optional: bool,
    /// Whether a person must approve each result.
    #[serde(default)]
    pub approval: bool,
    /// What the plans may use that the worker returns; absent when its result is not a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expand: Option<Expansion>,
}

impl Step {
    /// A step that has everything at its default.
    #[must_use]
    pub fn new(id: impl Into<String>, worker: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            worker: worker.into(),
            needs: Vec::new(),
            inputs: Vec::new(),
            foreach: false,
            params: serde_json::Map::new(),
            retry: RetryPolicy::default(),
            limits: BTreeMap::new(),
            gates: Vec::new(),
            maximum_revisions: 0,
            on_exhausted: OnExhausted::default(),
            fallback: None,
            optional: false,
            approval: false,
            expand: None,
        }
    }
}

/// The name of the artifact that is read as a plan, of a step that has [`Step::expand`].
pub const PLAN_NAME: &str = "plan.toml";

/// What the plans of a step's worker may use. They are written by code that is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expansion {
    /// The plugins that may work.
    pub workers: Vec<String>,
    /// The plugins that may judge.
    pub gates: Vec<String>,
    /// How many steps one plan may have.
    pub steps_max: u32,
    /// How deep plans may be nested: with 1, no step of a plan may return a plan itself.
    pub depth_max: u32,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Kinds of failures that are not tried again, though they might end differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_retryable: Vec<FailureKind>,
    /// How often the host may end while a task is executing, before the task is set aside as the one to blame.
    #[serde(default = "maximum_lost")]
    pub maximum_lost: u32,
}

fn maximum_lost() -> u32 {
    3
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            maximum_attempts: 3,
            initial_interval: Duration::from_secs(1),
            backoff_coefficient: 2.0,
            maximum_interval: Duration::from_secs(30),
            jitter: 0.2,
            non_retryable: Vec::new(),
            maximum_lost: maximum_lost(),
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
