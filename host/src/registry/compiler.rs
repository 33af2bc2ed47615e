//! Compiles components, in a process of its own for each: see [`child`].

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::child::{self, Budget, Failed, Work};
use crate::model::limits::BudgetPatch;
use crate::runtime::{self, Runtime};

/// What a component may take however small it is, and what each of its mebibytes adds. What compilers write takes up to 2 s and
/// 70 MiB for the first mebibyte, and 36 MiB for each of a large one (`ruff`, CPython).
const BASE: Budget = Budget { cpu: Duration::from_secs(20), memory: 768 << 20 };
const PER_MEBIBYTE: Budget = Budget { cpu: Duration::from_secs(5), memory: 64 << 20 };

/// What compiling a component of a size may take.
#[must_use]
pub fn budget(size_bytes: u64, patch: BudgetPatch) -> Budget {
    let mebibytes = u32::try_from(size_bytes >> 20).unwrap_or(u32::MAX);
    let cpu = BASE.cpu + PER_MEBIBYTE.cpu.saturating_mul(mebibytes);
    let memory = BASE.memory + PER_MEBIBYTE.memory * u64::from(mebibytes);
    Budget { cpu: patch.cpu.unwrap_or(cpu), memory: patch.memory.unwrap_or(memory) }
}

/// Where components are compiled.
#[derive(Debug)]
pub enum Compiler {
    /// In this process, without a budget: only for components that are trusted.
    InProcess,
    /// In a child process.
    Child(Child),
}

/// How a child is started.
#[derive(Debug)]
pub struct Child {
    program: PathBuf,
    places: Places,
}

impl Compiler {
    /// In processes of a program that is sandhog's own, so many at once.
    #[must_use]
    pub fn child(program: PathBuf, at_once: usize) -> Self {
        Self::Child(Child { program, places: Places { free: Mutex::new(at_once.max(1)), freed: Condvar::new() } })
    }

    /// The program whose children do what may take too long; none where this process does it itself.
    #[must_use]
    pub fn program(&self) -> Option<&Path> {
        match self {
            Self::InProcess => None,
            Self::Child(child) => Some(&child.program),
        }
    }

    /// Compiles a component, and waits for that.
    ///
    /// # Errors
    /// When it does not compile, or takes more than its budget; and [`runtime::Error::Compiler`] as soon as it is not `wanted` any
    /// more.
    pub fn compile(
        &self,
        runtime: &Runtime,
        component: &[u8],
        budget: Budget,
        wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<u8>, runtime::Error> {
        let Self::Child(child) = self else { return runtime.compile(component) };
        let Some(_place) = child.places.take(wanted) else {
            return Err(runtime::Error::Compiler("nobody waits for it any more".to_owned()));
        };
        let arguments = ["compile".to_owned(), "--stack-bytes".to_owned(), runtime.stack_bytes().to_string()];
        let work = Work { program: &child.program, arguments: &arguments, verb: "compile", wanted };
        child::ask(&work, component, budget).map_err(|failed| match failed {
            Failed::Problem(problem) => runtime::Error::Compile(problem),
            Failed::Host(error) => runtime::Error::Compiler(error.to_string()),
        })
    }
}

/// The child's side.
///
/// # Errors
/// As for [`child::answer`].
pub fn serve(stack_bytes: usize, budget: Budget) -> std::io::Result<()> {
    child::answer(budget, |component| {
        runtime::compile_alone(stack_bytes, component).map_err(|error| match error {
            runtime::Error::Compile(reason) => reason,
            other => other.to_string(),
        })
    })
}

/// How many compile at once.
#[derive(Debug)]
struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Place<'a>(&'a Places);

impl Places {
    /// A place, once there is one; none when it is not wanted any more.
    fn take(&self, wanted: &dyn Fn() -> bool) -> Option<Place<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait_timeout(free, child::LOOK).unwrap_or_else(PoisonError::into_inner).0;
            if !wanted() {
                return None;
            }
        }
        *free -= 1;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
