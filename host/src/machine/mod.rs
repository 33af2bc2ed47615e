//! The pure rules: what may happen, what did, and what is outstanding. No IO, no clock, no randomness.
//!
//! Three functions over a closed set of events: [`decide`] turns an input into events, [`Run::apply`] folds an event
//! into the state, live and on replay alike, and [`Run::due`] says what is outstanding. Effects follow from *state*,
//! not from the event just applied, so recovery is: replay, then ask what is due.
//!
//! Sequential, parallel and fork-join are one graph of steps with `needs`; the only rule is "all needs are done".
//!
//! A wide step holds a cursor, counts and the tasks that are alive, never one entry for every task, so memory follows
//! the number of tasks alive and not the number of tasks.

mod agenda;
mod decide;
mod diagram;
mod event;
mod host;
mod live;
pub mod policy;
mod run;
mod schedule;
#[cfg(test)]
mod tests;

pub use decide::{Input, Planned, Rejection, decide};
pub use diagram::{TRANSITIONS, diagram};
pub use event::{Event, TaskKey, TaskReason};
pub use host::{Balance, Breaker, BreakerPolicy, BreakerState, Counted, Host, Provider};
pub use live::{Again, Approval, Feedback, First, Found, GateState, GivenUp, LiveTask, Reading, TaskState, Work, refusal};
pub use policy::{Judgement, backoff, judge};
pub use run::{Effect, IllegalTransition, Run, RunStatus, StepRun, StepState, Tally};
pub use schedule::{AHEAD_MAX, Turns, ahead};
