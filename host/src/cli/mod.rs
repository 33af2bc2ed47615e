//! The command line: arguments, one file per command, rendering, exit codes.
//!
//! Results go to standard output, progress and complaints to standard error. Colour and bars only on a terminal, and
//! never with `NO_COLOR`.

/// Writes a line to standard output. Who reads it may have gone (`| head`): that is no error of ours.
macro_rules! outln {
    ($($argument:tt)*) => {
        crate::cli::write_out(&format!("{}\n", format_args!($($argument)*)))
    };
}

/// As [`outln`], without the line's end.
macro_rules! out {
    ($($argument:tt)*) => {
        crate::cli::write_out(&format!($($argument)*))
    };
}

/// Writes a line to standard error. Who reads it may have gone, as well, and that ends nothing.
macro_rules! errln {
    ($($argument:tt)*) => {
        crate::cli::write_err(&format!("{}\n", format_args!($($argument)*)))
    };
}

/// As [`errln`], without the line's end.
macro_rules! err {
    ($($argument:tt)*) => {
        crate::cli::write_err(&format!($($argument)*))
    };
}

mod add;
mod background;
mod bench;
mod bench_durable;
mod call;
mod check;
mod compile;
mod config;
mod context;
mod exit;
mod git;
mod grants;
mod host;
mod init;
mod journal;
mod letters;
mod mcp;
mod new;
mod output;
mod pack;
mod plan;
mod plugins;
mod progress;
mod run;
mod runs;
mod schema;
mod serve;
mod test;
mod trace;
mod trust;
mod workflow;

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use exit::Exit;

use context::Common;

/// Runs WebAssembly workers that nobody trusts in a sandbox, and lets no result through that has not passed its gates.
#[derive(Debug, Parser)]
#[command(name = "sandhog", version, propagate_version = true, max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

const AFTER_HELP: &str = "\
Start here:
  sandhog check                        judge this directory
  sandhog plugins list                 what is in the plugin folders
  sandhog call echo --input README.md  one task in one plugin
  sandhog plan WORKFLOW                what a workflow would do
  sandhog run WORKFLOW --out out       do it, and write what comes of it into a folder
  sandhog runs show latest             the story of it

Exit codes: 0 passed, 1 a gate rejected or a task failed, 2 usage, configuration or plugin invalid,
3 the engine failed, 4 nothing was checked, 124 timed out, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a directory by gates: lint, test, audit, in the sandbox
    Check(check::CheckArguments),
    /// Look at the baseline of a directory, or make it what is found now
    #[command(subcommand)]
    Baseline(check::BaselineCommand),
    /// Say that the sandhog.toml of a directory counts
    Trust(trust::TrustArguments),
    /// Write a sandhog.toml for the repository at hand
    Init(init::InitArguments),
    /// Print the JSON schema of sandhog.toml, for editors, or the description of the API
    Schema(schema::SchemaArguments),
    /// Run a workflow, and show it live
    Run(run::RunArguments),
    /// Validate a workflow, say whether it is sequential, parallel or hybrid, and draw it
    Plan(plan::PlanArguments),
    /// Run one task in one plugin
    Call(call::CallArguments),
    /// Begin a plugin: a folder that builds, tests and runs, in the language that you know
    New(new::NewArguments),
    /// Make a plugin of what a compiler wrote: wrap a core module, embed what you say of it
    Pack(pack::PackArguments),
    /// Test a plugin by its author's cases, in the real sandbox
    Test(test::TestArguments),
    /// Look at plugins: what there is, what each is and may do, what is wrong with it
    #[command(subcommand)]
    Plugins(plugins::PluginsCommand),
    /// Look at runs, and tell them what you want: show, follow, cancel, pause, resume, retry, approve
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Deal with tasks that were given up and set aside
    #[command(subcommand)]
    DeadLetters(letters::LettersCommand),
    /// Verify, replay, export and prune the journal
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Serve runs to programs, people and AI managers: an API, a dashboard, live events
    Serve(serve::ServeArguments),
    /// Serve tools to an AI manager, over standard input and output (Model Context Protocol)
    #[command(
        after_help = "A tool for each worker, and tools to submit, watch, read findings, approve and reject. No tool grants anything.\n\
Works on the state directory, or on a server with --server. `sandhog serve` has the same at /mcp."
    )]
    Mcp,
    /// Look at the configuration that holds
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Hold the state directory in the background
    #[command(hide = true)]
    Host,
    /// Compile a component for another process
    #[command(hide = true)]
    Compile(compile::CompileArguments),
    /// Run one attempt for another process, behind walls
    #[command(hide = true)]
    Guest,
    /// Hold params against a schema for another process
    #[command(hide = true)]
    Validate(compile::BudgetArguments),
    /// Measure what a task costs, against bare wasmtime on the same component
    Bench(bench::BenchArguments),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Whether a command can be done by a server that was named.
fn works_on_a_server(command: &Command) -> bool {
    match command {
        Command::Run(_) | Command::Plan(_) | Command::Call(_) | Command::Runs(_) | Command::DeadLetters(_) | Command::Journal(_) => true,
        Command::Config(_) | Command::Mcp => true,
        Command::Plugins(command) => command.works_on_a_server(),
        Command::Check(_)
        | Command::Baseline(_)
        | Command::Trust(_)
        | Command::Init(_)
        | Command::Schema(_)
        | Command::New(_)
        | Command::Pack(_)
        | Command::Test(_)
        | Command::Serve(_)
        | Command::Host
        | Command::Compile(_)
        | Command::Guest
        | Command::Validate(_)
        | Command::Bench(_)
        | Command::Completions { .. } => false,
    }
}

/// Whether something goes to a person who sees colours.
fn colour(stream: &impl std::io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The whole program: parses the arguments, does as told, and says how to exit.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let mut sources = config::Sources::default();
    let parsed = Arguments::command().try_get_matches().and_then(|matches| {
        sources = config::Sources::of(&matches);
        let mut arguments = Arguments::from_arg_matches(&matches)?;
        if let (Command::Check(check), Some((_, matches))) = (&mut arguments.command, matches.subcommand()) {
            check.note_order(matches);
        }
        Ok(arguments)
    });
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // As every other error, where that was asked for.
            if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
                let text = error.render().to_string();
                exit::Error::usage(text.trim().strip_prefix("error: ").unwrap_or(&text)).print(true, false);
                return Exit::Usage.into();
            }
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Passed.into() };
        }
    };
    let Arguments { command, common } = arguments;
    raise_descriptors();
    let host_calls = matches!(&command, Command::Call(call) if call.trace);
    match &command {
        Command::Serve(serve) => trace::subscribe_server(common.verbose, serve.log_format),
        _ => trace::subscribe(common.verbose, host_calls),
    }
    let json = match &command {
        Command::Run(run) => run.json,
        Command::Check(check) => check.json(),
        Command::Baseline(_) | Command::Trust(_) | Command::Init(_) | Command::Schema(_) | Command::New(_) | Command::Pack(_) => false,
        Command::Plan(plan) => plan.json,
        Command::Call(call) => call.json,
        Command::Plugins(plugins) => plugins.json(),
        Command::Test(test) => test.json,
        Command::Bench(bench) => bench.json,
        Command::Runs(runs) => runs.json(),
        Command::DeadLetters(letters) => letters.json(),
        Command::Journal(journal) => journal.json(),
        Command::Config(config) => config.json(),
        Command::Mcp => false,
        Command::Serve(_) | Command::Host | Command::Compile(_) | Command::Guest | Command::Validate(_) => false,
        Command::Completions { .. } => false,
    };
    let result = match command {
        command if sources.is_given("server") && !works_on_a_server(&command) => {
            Err(exit::Error::usage("this command works on this machine, and not over --server").help("leave --server out"))
        }
        Command::Serve(arguments) => serve::serve(&common, &arguments),
        Command::Mcp => mcp::mcp(&common),
        Command::Config(command) => config::config(&common, &command, &sources),
        Command::Run(arguments) => run::run(&common, arguments),
        Command::Check(arguments) => check::check(&common, &arguments),
        Command::Baseline(command) => check::baseline(&common, command),
        Command::Trust(arguments) => trust::trust(&arguments),
        Command::Init(arguments) => init::init(&common, &arguments),
        Command::Schema(arguments) => schema::schema(&arguments),
        Command::Plan(arguments) => plan::plan(&common, &arguments),
        Command::Call(arguments) => call::call(&common, arguments),
        Command::New(arguments) => new::new(&arguments),
        Command::Pack(arguments) => pack::pack(&arguments),
        Command::Test(arguments) => test::test(&common, &arguments),
        Command::Plugins(command) => plugins::plugins(&common, command),
        Command::Bench(arguments) => bench::bench(&common, arguments),
        Command::Runs(command) => runs::runs(&common, command),
        Command::DeadLetters(command) => letters::letters(&common, command),
        Command::Journal(command) => journal::journal(&common, command),
        Command::Host => background::background(&common),
        Command::Compile(arguments) => compile::compile(&arguments),
        Command::Guest => compile::guest(),
        Command::Validate(arguments) => compile::validate(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sandhog", &mut script);
            out!("{}", String::from_utf8_lossy(&script));
            Ok(Exit::Passed)
        }
    };
    match result {
        Ok(_) if CUT.load(Ordering::Relaxed) => Exit::Engine.into(),
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print(json, colour(&std::io::stderr()));
            error.exit().into()
        }
    }
}

/// Has this process open as many files as it is allowed to at all: what a shell gives is often far less. Where that is refused, what
/// there is has to do.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Whether something that was to be on standard output is not there.
static CUT: AtomicBool = AtomicBool::new(false);

/// Writes, until that fails: that is told once, and is how the program ends.
fn write_out(text: &str) {
    if CUT.load(Ordering::Relaxed) {
        return;
    }
    if let Err(error) = try_out(text) {
        CUT.store(true, Ordering::Relaxed);
        errln!("error: standard output: {error}; what was written is not all");
    }
}

fn write_err(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes to standard output. Whoever does not want to read any more is no error.
fn try_out(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs asynchronous work on this thread. Guests have threads of their own.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, exit::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| exit::Error::engine(format!("no runtime: {error}")))?;
    Ok(runtime.block_on(work))
}

/// Whether progress is shown live, by bars that move.
fn is_live() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
