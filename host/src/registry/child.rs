//! Work on bytes that a stranger wrote, done by a process that can be killed: compiling cannot be interrupted, and a small
//! file can be made that takes minutes or gigabytes of it; the same goes for schemas.
//!
//! The child is this program under a hidden command. It is given bytes on its standard input and answers on its standard
//! output; it has no other business. The operating system holds it to its budget of processor time and memory, the parent to
//! the wall clock; it dies with the parent, and is nice, so that tasks go first.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::model::limits::show_bytes;
use crate::model::text::sanitize_lines;
use crate::runtime::TAKES_AS_NEEDED;

/// The first byte of an answer.
const ANSWER: u8 = b'+';
/// The first byte of a problem.
const PROBLEM: u8 = b'-';
/// The largest answer that is taken from a child, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// The longest problem that a child may tell, in bytes.
const PROBLEM_BYTES_MAX: usize = 4 << 10;
/// How much longer than its processor time a child may take by the clock, where other work has the cores.
const WALL_FACTOR: u32 = 4;

/// How often is asked whether anybody still waits for an answer.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What a child may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Processor time, of all threads together. Counted in whole seconds.
    pub cpu: Duration,
    /// Memory, in bytes.
    pub memory: u64,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// What is wrong with the bytes, or that they take more than the budget.
    Problem(String),
    /// No child could be started, or listened to.
    Host(std::io::Error),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Host(error)
    }
}

/// What a child is to do, and for whom.
pub(super) struct Work<'a> {
    /// The program whose child it is.
    pub(super) program: &'a Path,
    /// What the child is called with, beside its budget.
    pub(super) arguments: &'a [String],
    /// The verb for it, for people.
    pub(super) verb: &'a str,
    /// Whether anybody still waits for the answer. Where nobody does, the child is stopped.
    pub(super) wanted: &'a (dyn Fn() -> bool + Sync),
}

/// Has a child of a program do something to bytes, and waits for that.
pub(super) fn ask(work: &Work<'_>, input: &[u8], budget: Budget) -> Result<Vec<u8>, Failed> {
    let Work { program, arguments, verb, wanted } = *work;
    let wall = budget.cpu.saturating_mul(WALL_FACTOR);
    let mut command = Command::new(program);
    command.args(arguments).arg("--cpu-seconds").arg(budget.cpu.as_secs().max(1).to_string());
    command.arg("--memory-bytes").arg(budget.memory.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env_clear().env(TAKES_AS_NEEDED.0, TAKES_AS_NEEDED.1);
    // Not of our terminal's group: who interrupts us ends it by ending us.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let child = Mutex::new(child);
    let (done, told) = mpsc::channel::<()>();
    let mut answer = Vec::new();
    let (read, stopped, status) = std::thread::scope(|scope| {
        let child = &child;
        let watchdog = scope.spawn(move || {
            let begun = Stopwatch::start();
            let stopped = loop {
                let left = wall.saturating_sub(begun.elapsed());
                if told.recv_timeout(left.min(LOOK)) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return None;
                }
                if begun.elapsed() >= wall {
                    break Failed::Problem(format!("it took longer than {wall:?} to {verb}, and was stopped"));
                }
                if !wanted() {
                    break Failed::Host(std::io::Error::other("nobody waits for it any more"));
                }
            };
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
            Some(stopped)
        });
        // One that ends early says itself why.
        scope.spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input)));
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer));
        drop(done);
        let stopped = watchdog.join().unwrap_or_default();
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.len() as u64 >= ANSWER_BYTES_MAX {
            let _ = child.kill();
        }
        (read, stopped, child.wait())
    });
    read?;
    let status = status?;
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    match answer.split_first() {
        Some((&ANSWER, answer)) if status.success() => Ok(answer.to_vec()),
        Some((&PROBLEM, problem)) => Err(Failed::Problem(sanitize_lines(&String::from_utf8_lossy(problem), PROBLEM_BYTES_MAX))),
        Some(_) | None => Err(Failed::Problem(ended_early(status, budget, verb))),
    }
}

/// Why a child gave no answer.
fn ended_early(status: std::process::ExitStatus, budget: Budget, verb: &str) -> String {
    use rustix::process::Signal;
    use std::os::unix::process::ExitStatusExt as _;
    let Budget { cpu, memory } = budget;
    let by = |signal: Signal| status.signal() == Some(signal.as_raw());
    if by(Signal::XCPU) || by(Signal::KILL) {
        format!("it needs more than {cpu:?} of processor time to {verb}, and was stopped")
    } else if by(Signal::ABORT) {
        format!("it needs more than {} of memory to {verb}, and was stopped", show_bytes(memory))
    } else {
        format!("the process that was to {verb} it ended without an answer ({status}): please report it with the file")
    }
}

/// The child's side: holds itself to the budget, does its work on what comes on standard input, and answers on standard output.
///
/// # Errors
/// When the limits cannot be set, or nobody reads the answer.
pub fn answer(budget: Budget, work: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let (cpu, memory) = (budget.cpu.as_secs(), budget.memory);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu + 1) })?;
    setrlimit(Resource::Data, Rlimit { current: Some(memory), maximum: Some(memory) })?;
    let _ = rustix::process::nice(5);
    let mut input = Vec::new();
    std::io::stdin().lock().read_to_end(&mut input)?;
    let mut stdout = std::io::stdout().lock();
    match work(&input) {
        Ok(answer) => stdout.write_all(&[ANSWER]).and_then(|()| stdout.write_all(&answer))?,
        Err(problem) => stdout.write_all(&[PROBLEM]).and_then(|()| stdout.write_all(problem.as_bytes()))?,
    }
    stdout.flush()
}
