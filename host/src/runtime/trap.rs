//! From wasmtime's errors to a failure of the closed set. Alone here.
//!
//! By type, never by text, but for the two conditions that have no public type in wasmtime: what one host call may carry,
//! and component handles. Their texts are pinned by the guests `returns_too_much` and `leaks_component_handles`.

use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::{I32Exit, ResourceTableError};

use super::capture::Capture;
use super::limits::{Refused, TABLE_ELEMENTS_MAX};
use crate::model::limits::{show_bytes, show_fuel};
use crate::model::{Failure, FailureKind, Limits};

const HOSTCALL_FUEL_TEXT: &str = "fuel allocated for hostcalls has been exhausted";
const COMPONENT_HANDLES_TEXT: &str = "store handle limit exceeded";

/// A host function of ours ends the guest for a reason of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    /// More was handed over than the `output` limit allows.
    #[error("{what} is larger than the `output` limit")]
    Output { what: &'static str },
}

/// How many of the innermost wasm frames a failure names.
const FRAMES_MAX: usize = 6;
/// How many of the last lines of standard error a failure quotes.
const STDERR_LINES_MAX: usize = 3;

/// What an error that ended an instantiation or a call means.
pub(super) fn failure(error: &wasmtime::Error, limits: &Limits, refused: Option<Refused>, capture: &Capture) -> Failure {
    let kind = kind(error, refused.is_some());
    let mut message = match kind {
        FailureKind::MemoryLimit if refused == Some(Refused::Table) => {
            format!("a table would have had more than the {TABLE_ELEMENTS_MAX} elements that one may have")
        }
        FailureKind::MemoryLimit => {
            format!("memories and tables together would have grown over the `memory` limit of {}", show_bytes(limits.memory))
        }
        FailureKind::OutOfFuel => format!("the `fuel` budget of {} is used up", show_fuel(limits.fuel)),
        FailureKind::StackOverflow => "the call stack is exhausted".to_owned(),
        FailureKind::HandleLimit => format!("more resources open at once than the `handles` limit of {}", limits.handles),
        FailureKind::OutputLimit => match error.downcast_ref::<Stop>() {
            Some(stop) => format!("{stop} of {}", show_bytes(limits.output)),
            None => format!("a value handed to the host is larger than the `output` limit of {}", show_bytes(limits.output)),
        },
        FailureKind::Exited => "the plugin called `exit` where an answer was due".to_owned(),
        FailureKind::Trapped => error.downcast_ref::<Trap>().map_or_else(|| error.root_cause().to_string(), ToString::to_string),
        FailureKind::ContractViolation | FailureKind::Host => format!("{}", error.root_cause()),
        FailureKind::InvalidInput
        | FailureKind::Transient
        | FailureKind::Permanent
        | FailureKind::Cancelled
        | FailureKind::DeadlineExceeded
        | FailureKind::Denied
        | FailureKind::Lost => error.to_string(),
    };
    if matches!(kind, FailureKind::Trapped | FailureKind::Exited | FailureKind::MemoryLimit) {
        for line in capture.stderr_tail(STDERR_LINES_MAX) {
            message.push_str("\n  stderr: ");
            message.push_str(&line);
        }
    }
    if matches!(kind, FailureKind::Trapped | FailureKind::ContractViolation) {
        for frame in frames(error) {
            message.push_str("\n  at ");
            message.push_str(&frame);
        }
    }
    Failure::new(kind, message)
}

fn kind(error: &wasmtime::Error, memory_refused: bool) -> FailureKind {
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return FailureKind::Host;
    }
    let cause = error.root_cause();
    if cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>() {
        return FailureKind::Host; // the machine has no memory to map, or no file: no guest does that
    }
    if let Some(Stop::Output { .. }) = error.downcast_ref::<Stop>() {
        return FailureKind::OutputLimit;
    }
    if let Some(full) = error.downcast_ref::<ResourceTableError>() {
        return match full {
            ResourceTableError::Full => FailureKind::HandleLimit,
            ResourceTableError::NotPresent | ResourceTableError::WrongType | ResourceTableError::HasChildren => {
                FailureKind::ContractViolation
            }
        };
    }
    let trap = error.downcast_ref::<Trap>();
    match trap {
        Some(Trap::OutOfFuel) => return FailureKind::OutOfFuel,
        Some(Trap::StackOverflow) => return FailureKind::StackOverflow,
        _ => {}
    }
    if memory_refused {
        return FailureKind::MemoryLimit; // the guest was refused memory, and ended on account of it
    }
    if error.downcast_ref::<I32Exit>().is_some() {
        return FailureKind::Exited;
    }
    match trap {
        // Values that the canonical ABI does not allow.
        Some(
            Trap::InvalidChar
            | Trap::StringOutOfBounds
            | Trap::ListOutOfBounds
            | Trap::InvalidDiscriminant
            | Trap::UnalignedPointer
            | Trap::CannotEnterComponent
            | Trap::CannotLeaveComponent,
        ) => FailureKind::ContractViolation,
        Some(_) => FailureKind::Trapped,
        None => untyped(&error.root_cause().to_string()),
    }
}

/// Errors of wasmtime's that have no type come from lifting a guest's value, and are the guest's doing.
fn untyped(text: &str) -> FailureKind {
    if text.contains(HOSTCALL_FUEL_TEXT) {
        FailureKind::OutputLimit
    } else if text.contains(COMPONENT_HANDLES_TEXT) {
        FailureKind::HandleLimit
    } else {
        FailureKind::ContractViolation
    }
}

fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() else { return Vec::new() };
    let named = backtrace.frames().iter().filter_map(|frame| {
        let symbol = frame.symbols().first().and_then(|symbol| symbol.name());
        symbol.or_else(|| frame.func_name()).map(|name| crate::model::text::sanitize(name, 200))
    });
    named.take(FRAMES_MAX).collect()
}
