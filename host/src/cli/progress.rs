//! A run, shown while it runs: a line for each running task on a terminal, a line for each event otherwise.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::journal::Record;
use crate::machine::{Event, TaskKey, TaskReason};
use crate::manager::Notice;
use crate::model::limits::show_fuel;
use crate::model::text::{continued, counted, sanitize, sanitize_lines};
use crate::model::{Decision, Finding};
use crate::report::{RunReport, TaskStatus};

/// How many running tasks have a line of their own at once.
const LINES_MAX: usize = 12;
/// How many tasks that wait for a person are told of by name when a run is gone on with.
const WAITING_TOLD: usize = 10;
/// How often spinners turn.
const TURN: Duration = Duration::from_millis(120);

/// Shows a run.
pub struct Progress {
    /// The run's version up to which its story is old, and not told again.
    known: u64,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    tasks: BTreeMap<TaskKey, ProgressBar>,
    tasks_known: u64,
    given_up: u64,
}

impl Progress {
    /// A view of a run from behind a version on, 0 for all of it; `live` on a terminal.
    pub fn new(live: bool, known: u64) -> Self {
        let bars = live.then(|| {
            let all = MultiProgress::new();
            let total = all.add(ProgressBar::new(0));
            total.set_style(style("{spinner} {pos}/{len} tasks  {elapsed}  {msg}"));
            total.enable_steady_tick(TURN);
            Bars { all, total, tasks: BTreeMap::new(), tasks_known: 0, given_up: 0 }
        });
        Self { known, bars }
    }

    /// A record has come.
    pub fn record(&mut self, record: &Record, report: &RunReport) {
        let line = match record.version.cmp(&self.known) {
            Ordering::Less => None,
            Ordering::Equal => Some(goes_on(report)),
            Ordering::Greater => line(record, report),
        };
        let Some(bars) = &mut self.bars else {
            if let Some(line) = line {
                errln!("{line}");
            }
            return;
        };
        match &record.event {
            Event::StepStarted { tasks, .. } => {
                bars.tasks_known += u64::from(*tasks);
                bars.total.set_length(bars.tasks_known);
            }
            Event::AttemptStarted { task, attempt, revision, .. } if bars.tasks.len() < LINES_MAX || bars.tasks.contains_key(task) => {
                let bar = bars.tasks.entry(*task).or_insert_with(|| {
                    let bar = bars.all.insert_before(&bars.total, ProgressBar::new(100));
                    bar.set_style(style("  {spinner} {prefix}  {elapsed}  {msg}"));
                    bar.enable_steady_tick(TURN);
                    bar
                });
                bar.set_prefix(report.name(*task));
                bar.set_message(match (attempt, revision) {
                    (1, 0) => String::new(),
                    (attempt, 0) => format!("attempt {attempt}"),
                    (attempt, revision) => format!("revision {revision}, attempt {attempt}"),
                });
            }
            Event::AttemptCompleted { task, .. } => {
                if let Some(bar) = bars.tasks.get(task) {
                    bar.set_message("being judged");
                }
            }
            Event::TaskCompleted { task }
            | Event::TaskFailed { task, .. }
            | Event::TaskDeadLettered { task, .. }
            | Event::TaskCancelled { task } => {
                if let Some(bar) = bars.tasks.remove(task) {
                    bar.finish_and_clear();
                }
                bars.total.inc(1);
                if matches!(record.event, Event::TaskFailed { .. } | Event::TaskDeadLettered { .. }) {
                    bars.given_up += 1;
                    bars.total.set_message(format!("{} given up", bars.given_up));
                }
            }
            _ => {}
        }
        // What somebody would want to read later stays above the bars.
        let stays = matches!(
            record.event,
            Event::AttemptFailed { .. }
                | Event::RevisionRequested { .. }
                | Event::TaskFailed { .. }
                | Event::TaskDeadLettered { .. }
                | Event::TaskHeld { .. }
                | Event::FallbackStarted { .. }
                | Event::ApprovalRequested { .. }
                | Event::PlanAccepted { .. }
                | Event::PlanRejected { .. }
                | Event::RunPaused { .. }
                | Event::GateFailed { .. }
        );
        if let Some(line) = line.filter(|_| stays || record.version == self.known) {
            let _ = bars.all.println(line);
        }
    }

    /// Something beside the records has come.
    pub fn notice(&mut self, notice: &Notice) {
        if let (Some(bars), Notice::Progress { task, fraction, note, .. }) = (&mut self.bars, notice)
            && let Some(bar) = bars.tasks.get(task)
        {
            bar.set_message(format!("{:.0}% {note}", fraction * 100.0));
        }
    }

    /// A line for a person, above whatever moves.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.all.println(text)),
            None => errln!("{text}"),
        }
    }

    /// The run has ended: nothing moves any more.
    pub fn finish(&mut self) {
        if let Some(bars) = self.bars.take() {
            for bar in bars.tasks.into_values() {
                bar.finish_and_clear();
            }
            bars.total.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// What had come of a run before it is watched.
fn goes_on(report: &RunReport) -> String {
    let tasks: u64 = report.steps.iter().filter_map(|step| step.tasks).map(u64::from).sum();
    let completed = report.tasks.values().filter(|task| task.status == TaskStatus::Completed).count();
    let mut text =
        format!("run {} of {} goes on: {completed} of {tasks} tasks known so far had completed", report.run, report.workflow.name);
    let waiting: Vec<&TaskKey> = report.tasks.iter().filter(|(_, task)| task.status == TaskStatus::Approving).map(|(key, _)| key).collect();
    for key in waiting.iter().take(WAITING_TOLD) {
        text.push_str(&format!("\n{}", waits_for_approval(**key, report)));
    }
    if waiting.len() > WAITING_TOLD {
        text.push_str(&format!("\n… and {} more", counted(waiting.len() - WAITING_TOLD, "task")));
    }
    text
}

fn waits_for_approval(task: TaskKey, report: &RunReport) -> String {
    format!("{}: waits for approval: sandhog runs approve {}", report.name(task), report.run)
}

/// An event as a line; `None` for those that say nothing to a person.
pub fn line(record: &Record, report: &RunReport) -> Option<String> {
    let workflow = &report.workflow;
    let name = |task: &TaskKey| report.name(*task);
    let step = |step: &u32| &workflow.steps[*step as usize].id;
    let gate = |task: &TaskKey, gate: &u32| &workflow.steps[task.step as usize].gates[*gate as usize].gate;
    Some(match &record.event {
        Event::RunStarted { workflow, .. } => format!("run {} of {}", record.run, workflow.name),
        Event::StepStarted { step: place, tasks, .. } => format!("{}: {}", step(place), counted(*tasks, "task")),
        Event::AttemptStarted { .. } | Event::GateStarted { .. } => return None,
        Event::AttemptCompleted { task, receipt, artifacts, .. } => format!(
            "{}: made {} in {:.1} ms, fuel {}",
            name(task),
            counted(artifacts.len(), "artifact"),
            receipt.wall_time.as_secs_f64() * 1000.0,
            show_fuel(receipt.fuel)
        ),
        Event::AttemptFailed { task, attempt, failure, .. } => {
            format!("{}: attempt {attempt} failed: {}: {}", name(task), failure.kind, first_line(&failure.message))
        }
        Event::AttemptLost { task, attempt, executing } => {
            let what = if *executing { "was lost: the host ended while it was executing" } else { "was taken back, and does not count" };
            format!("{}: attempt {attempt} {what}", name(task))
        }
        Event::GateLost { task, gate: g, executing, .. } => {
            let what = if *executing { "was lost: the host ended while it was executing" } else { "was taken back, and does not count" };
            format!("{}: {} {what}", name(task), gate(task, g))
        }
        Event::ApprovalRequested { task } => waits_for_approval(*task, report),
        Event::ApprovalGiven { task, comment } => format!("{}: approved{}", name(task), said(comment)),
        Event::ApprovalRefused { task, comment } => format!("{}: refused{}", name(task), said(comment)),
        Event::RunPaused { reason } => format!("paused: {}", lines(reason)),
        Event::RunResumed => "resumed".to_owned(),
        Event::RunReopened => "opened again".to_owned(),
        Event::RetryScheduled { task, due_at } => format!("{}: to be tried again at {}", name(task), due_at.strftime("%H:%M:%S")),
        Event::GateAnswered { task, gate: g, verdict, passed, .. } => {
            let said = match (passed, verdict.decision) {
                // Not by what it decided, which its summary tells of.
                (false, Decision::Pass) => format!("rejects by `fail_on`: {}", counted(verdict.findings.len(), "finding")),
                (true, Decision::Fail) => format!("passes by `fail_on`: {}", counted(verdict.findings.len(), "finding")),
                (true, Decision::Pass) => format!("passes: {}", sanitize(&verdict.summary, 200)),
                (false, Decision::Fail) => format!("rejects: {}", sanitize(&verdict.summary, 200)),
            };
            format!("{}: {} {said}", name(task), gate(task, g))
        }
        Event::GateFailed { task, gate: g, failure, .. } => {
            format!("{}: {} could not answer: {}: {}", name(task), gate(task, g), failure.kind, first_line(&failure.message))
        }
        Event::GateRetryScheduled { task, gate: g, due_at } => {
            format!("{}: {} is asked again at {}", name(task), gate(task, g), due_at.strftime("%H:%M:%S"))
        }
        Event::PlanSubmitted { .. } => return None,
        Event::PlanAccepted { task, steps, .. } => {
            let ids: Vec<&str> = steps.iter().take(10).map(|step| step.id.as_str()).collect();
            let more = if steps.len() > ids.len() { format!(" and {} more", steps.len() - ids.len()) } else { String::new() };
            match ids.is_empty() {
                true => format!("{}: planned nothing", name(task)),
                false => format!("{}: planned {}{more}", name(task), ids.join(", ")),
            }
        }
        Event::PlanRejected { task, findings } => {
            let first = findings.first().map(finding_line).unwrap_or_default();
            let more = if findings.len() > 1 { format!(", and {} more", findings.len() - 1) } else { String::new() };
            format!("{}: the plan does not fit: {first}{more}", name(task))
        }
        Event::RevisionRequested { task, revision } => format!("{}: sent back, revision {revision}", name(task)),
        Event::TaskCompleted { task } => format!("{}: completed", name(task)),
        Event::TaskFailed { task, reason } => format!("{}: given up: {}", name(task), given_up(reason)),
        Event::TaskDeadLettered { task, reason } => format!("{}: given up, and set aside: {}", name(task), given_up(reason)),
        Event::TaskHeld { task, reason } => format!("{}: held until the run is resumed: {}", name(task), given_up(reason)),
        Event::FallbackStarted { task, reason } => {
            let fallback = workflow.steps[task.step as usize].fallback.as_deref().unwrap_or_default();
            format!("{}: {fallback} takes over: {}", name(task), given_up(reason))
        }
        Event::TaskRequeued { task } => format!("{}: to be run again", name(task)),
        Event::TaskDiscarded { task } => format!("{}: discarded", name(task)),
        Event::TaskCancelled { task } => format!("{}: cancelled", name(task)),
        Event::StepCompleted { step: place } => format!("{}: all completed", step(place)),
        Event::StepFailed { step: place } => format!("{}: not all completed", step(place)),
        Event::StepSkipped { step: place, need } => format!("{}: skipped, since {} did not complete", step(place), step(need)),
        Event::StepCancelled { step: place } => format!("{}: cancelled", step(place)),
        Event::CancelRequested { reason } => format!("cancelling: {}", lines(reason)),
        Event::RunCompleted { .. } | Event::RunFailed | Event::RunCancelled | Event::BreakerChanged { .. } => return None,
    })
}

/// Why, in lines of which each but the first is marked: persons and guests say it.
fn lines(reason: &str) -> String {
    continued(&sanitize_lines(reason, 2000))
}

/// What a person said, if anything.
fn said(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!(": {}", sanitize(comment, 400)) }
}

fn given_up(reason: &TaskReason) -> String {
    match reason {
        TaskReason::Failed { failure } => failure.kind.to_string(),
        TaskReason::GateFailed { .. } | TaskReason::Rejected { .. } | TaskReason::RejectedAgain { .. } | TaskReason::Lost { .. } => {
            first_line(&reason.text()).to_owned()
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A finding in a line: place, severity, rule, message.
pub fn finding_line(finding: &Finding) -> String {
    let place = finding.location.as_ref().map_or_else(String::new, |location| match location.span {
        Some(span) => format!("{}:{}:{}: ", sanitize(&location.path, 400), span.start_line, span.start_column),
        None => format!("{}: ", sanitize(&location.path, 400)),
    });
    let suggestion = finding.suggestion.as_ref().map_or_else(String::new, |text| format!(" ({})", sanitize(text, 400)));
    format!("{place}{} {}: {}{suggestion}", finding.severity, sanitize(&finding.rule, 100), sanitize(&finding.message, 1000))
}
