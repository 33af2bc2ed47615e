//! What the journal tells of a run, and of the host, when it is read from the beginning.

use super::run::{RunReport, TaskStatus};
use crate::clock::{Timestamp, between};
use crate::journal::{self, READ_MAX, Store};
use crate::machine::{Breaker, BreakerState, Event, Host};
use crate::manager;
use crate::model::RunId;

/// A run, folded from all of its records; `None` where there is none.
///
/// # Errors
/// When the journal cannot be read.
pub async fn run_report(store: &dyn Store, run: RunId) -> Result<Option<RunReport>, journal::Error> {
    let mut report: Option<RunReport> = None;
    let mut version = 1;
    loop {
        let records = store.read(&run, version, READ_MAX).await?;
        let Some(last) = records.last() else { return Ok(report) };
        version = last.version + 1;
        for record in &records {
            match &mut report {
                None => report = RunReport::begin(record),
                Some(report) => report.add(record),
            }
            if let (Some(report), Event::StepStarted { step, inputs, .. }) = (&mut report, &record.event)
                && report.tells_inputs(*step)
            {
                let listed = manager::inputs_of(store, inputs).await?;
                report.name_inputs(*step, listed.into_iter().map(|input| input.name).collect());
            }
        }
    }
}

/// The circuit breakers that are not closed.
///
/// # Errors
/// When the journal cannot be read, or holds what no host wrote.
pub async fn breakers(store: &dyn Store) -> Result<Vec<Breaker>, journal::Error> {
    let mut host = Host::default();
    let mut version = 1;
    loop {
        let records = store.read(&RunId::HOST, version, READ_MAX).await?;
        let Some(last) = records.last() else { return Ok(host.breakers.into_values().collect()) };
        version = last.version + 1;
        for record in &records {
            let damaged = |error: crate::machine::IllegalTransition| journal::Error::Damaged { seq: record.seq, reason: error.to_string() };
            host.apply(&record.event).map_err(damaged)?;
        }
    }
}

/// A breaker in a line.
#[must_use]
pub fn breaker_line(breaker: &Breaker, now: Timestamp) -> String {
    match breaker.state {
        BreakerState::Open { until } if until > now => {
            format!("the breaker of {} is open for {:.1} s more\n", breaker.plugin, between(now, until).as_secs_f64())
        }
        BreakerState::Open { .. } => format!("the breaker of {} is open, and due to be probed\n", breaker.plugin),
        BreakerState::HalfOpen => format!("the breaker of {} is half open: it is being probed\n", breaker.plugin),
        BreakerState::Closed => String::new(),
    }
}

/// Marks the tasks that an open breaker holds, and tells of the breakers that hold some.
pub fn mark_blocked(report: &mut RunReport, breakers: &[Breaker], now: Timestamp) -> String {
    let mut text = String::new();
    if report.status != "running" {
        return text;
    }
    for breaker in breakers {
        let steps: Vec<u32> =
            (0..).zip(&report.workflow.steps).filter(|(_, step)| step.worker == breaker.plugin).map(|(place, _)| place).collect();
        let mut held = 0;
        for place in steps {
            let step = &report.steps[place as usize];
            if step.status == "active" {
                held += step.tasks.unwrap_or_default() as usize - report.tasks_of(place).count();
            }
            let due = |task: &super::run::TaskReport| match task.status {
                TaskStatus::Pending | TaskStatus::Revising => true,
                TaskStatus::Retrying => task.due_at.is_none_or(|due_at| due_at <= now),
                _ => false,
            };
            for (_, task) in report.tasks.range_mut(super::run::of_step(place)).filter(|(_, task)| due(task)) {
                task.status = TaskStatus::Blocked;
                held += 1;
            }
        }
        if held > 0 {
            text.push_str(&format!("{held} tasks are BLOCKED: {}", breaker_line(breaker, now)));
        }
        let judges = |step: u32| report.workflow.steps[step as usize].gates.iter().any(|gate| gate.gate == breaker.plugin);
        let judged = report.tasks.iter().filter(|(key, task)| task.status == TaskStatus::Validating && judges(key.step)).count();
        if judged > 0 && breaker.state != BreakerState::Closed {
            text.push_str(&format!("{judged} tasks wait for a gate: {}", breaker_line(breaker, now)));
        }
    }
    text
}
