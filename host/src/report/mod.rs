//! Runs and attempts as they are told to people and programs. These shapes are documented and versioned; the model's are
//! not shown as they are.

mod attempt;
pub mod check;
mod plan;
mod plugins;
mod run;
mod story;

pub use attempt::{artifact_json, attempt_json, log_text, usage_json, verdict_json};
pub use plan::plan_json;
pub use plugins::{entry_json, grant_lines, plugin_json, plugin_state, plugins_json};
pub use run::{RunReport, TaskReport, TaskStatus};
pub use story::{breaker_line, breakers, mark_blocked, run_report};

/// The version of the JSON shapes. Fields may be added without a change; none is removed or changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;
