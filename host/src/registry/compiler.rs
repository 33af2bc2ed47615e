//! Compiles components in a process of its own, which can be killed: compiling cannot be interrupted, and a small file
//! can be made that takes minutes or gigabytes of it.
//!
//! The child is this program under a hidden command. It is given the component on its standard input and writes the
//! code to its standard output; it has no other business. The operating system holds it to its budget of processor time
//! and memory, the parent to the wall clock; it dies with the parent, and is nice, so that tasks go first.

use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::model::limits::{BudgetPatch, show_bytes};
use crate::model::text::sanitize;
use crate::runtime::{self, Runtime};

/// The first byte of an answer that is code.
const CODE: u8 = b'+';
/// The first byte of an answer that says what is wrong.
const PROBLEM: u8 = b'-';
/// The largest code that is taken from a child, in bytes.
const CODE_BYTES_MAX: u64 = 1 << 30;
/// The longest problem that a child may tell, in bytes.
const PROBLEM_BYTES_MAX: usize = 4 << 10;
/// What a component may take however small it is, and what each of its mebibytes adds. What compilers write takes up to 2 s and
/// 70 MiB for the first mebibyte, and 36 MiB for each of a large one (`ruff`, CPython).
const BASE: Budget = Budget { cpu: Duration::from_secs(20), memory: 768 << 20 };
const PER_MEBIBYTE: Budget = Budget { cpu: Duration::from_secs(5), memory: 64 << 20 };
/// How much longer than its processor time a child may take by the clock, where other work has the cores.
const WALL_FACTOR: u32 = 4;

/// What compiling may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Processor time, of all threads together. Counted in whole seconds.
    pub cpu: Duration,
    /// Memory, in bytes.
    pub memory: u64,
}

impl Budget {
    /// What compiling a component of a size may take.
    #[must_use]
    pub fn of(size_bytes: usize, patch: BudgetPatch) -> Self {
        let mebibytes = u32::try_from(size_bytes >> 20).unwrap_or(u32::MAX);
        let cpu = BASE.cpu + PER_MEBIBYTE.cpu.saturating_mul(mebibytes);
        let memory = BASE.memory + PER_MEBIBYTE.memory * u64::from(mebibytes);
        Self { cpu: patch.cpu.unwrap_or(cpu), memory: patch.memory.unwrap_or(memory) }
    }
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
    patch: BudgetPatch,
    places: Places,
}

impl Compiler {
    /// In processes of a program that is sandhog's own, so many at once.
    #[must_use]
    pub fn child(program: PathBuf, patch: BudgetPatch, at_once: usize) -> Self {
        Self::Child(Child { program, patch, places: Places { free: Mutex::new(at_once.max(1)), freed: Condvar::new() } })
    }

    /// Compiles a component, and waits for that.
    ///
    /// # Errors
    /// When it does not compile, or takes more than its budget.
    pub fn compile(&self, runtime: &Runtime, component: &[u8]) -> Result<Vec<u8>, runtime::Error> {
        match self {
            Self::InProcess => runtime.compile(component),
            Self::Child(child) => {
                let _place = child.places.take();
                child.compile(runtime.stack_bytes(), component)
            }
        }
    }
}

impl Child {
    fn compile(&self, stack_bytes: usize, component: &[u8]) -> Result<Vec<u8>, runtime::Error> {
        let failed = |reason: std::io::Error| runtime::Error::Compiler(reason.to_string());
        let budget = Budget::of(component.len(), self.patch);
        let wall = budget.cpu.saturating_mul(WALL_FACTOR);
        let mut input = tempfile::tempfile().map_err(failed)?;
        input.write_all(component).and_then(|()| input.rewind()).map_err(failed)?;
        let mut command = Command::new(&self.program);
        command.arg("compile").arg("--stack-bytes").arg(stack_bytes.to_string());
        command.arg("--cpu-seconds").arg(budget.cpu.as_secs().max(1).to_string());
        command.arg("--memory-bytes").arg(budget.memory.to_string());
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::null()).env_clear();
        // Not of our terminal's group: who interrupts us ends it by ending us.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        let child = Mutex::new(child);
        let (done, told) = mpsc::channel::<()>();
        let mut answer = Vec::new();
        let (read, late, status) = std::thread::scope(|scope| {
            let child = &child;
            let watchdog = scope.spawn(move || {
                let late = told.recv_timeout(wall) == Err(mpsc::RecvTimeoutError::Timeout);
                if late {
                    let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
                }
                late
            });
            let read = stdout.map_or(Ok(0), |stdout| stdout.take(CODE_BYTES_MAX).read_to_end(&mut answer));
            drop(done);
            let late = watchdog.join().unwrap_or(false);
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            if answer.len() as u64 >= CODE_BYTES_MAX {
                let _ = child.kill();
            }
            (read, late, child.wait())
        });
        read.map_err(failed)?;
        let status = status.map_err(failed)?;
        if late {
            return Err(runtime::Error::Compile(format!("it took longer than {wall:?} to compile, and was stopped")));
        }
        match answer.split_first() {
            Some((&CODE, code)) if status.success() => Ok(code.to_vec()),
            Some((&PROBLEM, problem)) => Err(runtime::Error::Compile(sanitize(&String::from_utf8_lossy(problem), PROBLEM_BYTES_MAX))),
            Some(_) | None => Err(ended_early(status, budget)),
        }
    }
}

/// Why a child gave no answer.
fn ended_early(status: std::process::ExitStatus, budget: Budget) -> runtime::Error {
    use std::os::unix::process::ExitStatusExt as _;
    let of = |signal: rustix::process::Signal| Some(signal.as_raw());
    let raise = "[compile] in sandhog.toml raises the budget, for components that are trusted";
    let signal = status.signal();
    runtime::Error::Compile(if signal == of(rustix::process::Signal::XCPU) || signal == of(rustix::process::Signal::KILL) {
        format!("it needs more than {:?} of processor time to compile, and was stopped ({raise})", budget.cpu)
    } else if signal == of(rustix::process::Signal::ABORT) {
        format!("it needs more than {} of memory to compile, and was stopped ({raise})", show_bytes(budget.memory))
    } else {
        format!("the compiler ended on it without an answer ({status}): please report it with the component")
    })
}

/// The child's side: holds itself to the budget, compiles what comes on standard input, and answers on standard output.
///
/// # Errors
/// When the limits cannot be set, or nobody reads the answer.
pub fn serve(stack_bytes: usize, budget: Budget) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let (cpu, memory) = (budget.cpu.as_secs(), budget.memory);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu + 1) })?;
    setrlimit(Resource::Data, Rlimit { current: Some(memory), maximum: Some(memory) })?;
    let _ = rustix::process::nice(5);
    let mut component = Vec::new();
    std::io::stdin().lock().read_to_end(&mut component)?;
    let mut stdout = std::io::stdout().lock();
    match runtime::compile_alone(stack_bytes, &component) {
        Ok(code) => stdout.write_all(&[CODE]).and_then(|()| stdout.write_all(&code))?,
        Err(error) => {
            let problem = match error {
                runtime::Error::Compile(reason) => reason,
                other => other.to_string(),
            };
            stdout.write_all(&[PROBLEM]).and_then(|()| stdout.write_all(problem.as_bytes()))?;
        }
    }
    stdout.flush()
}

/// How many compile at once.
#[derive(Debug)]
struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Place<'a>(&'a Places);

impl Places {
    fn take(&self) -> Place<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
