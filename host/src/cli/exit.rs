//! Exit codes, and the one error that the command line knows. Nowhere else is an exit code written.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde_json::json;

use crate::config::Problems;
use crate::model::text::sanitize_lines;
use crate::report::SCHEMA_VERSION;

/// How much of an error is printed, in bytes.
const PRINTED_BYTES_MAX: usize = 64 << 10;

/// What to do where a server is asked that is not there.
const NOBODY_LISTENS: &str = "`sandhog serve` starts a server; --server, or SANDHOG_SERVER, says which one is asked";

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything passed.
    Passed = 0,
    /// A gate rejected, or a task failed.
    Failed = 1,
    /// Usage, configuration, workflow or plugin are wrong.
    Usage = 2,
    /// sandhog itself, or the machine, failed.
    Engine = 3,
    /// There was nothing to judge.
    NothingChecked = 4,
    /// The command's own time is up.
    TimedOut = 124,
    /// Interrupted from the terminal.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
    help: Option<String>,
    problems: Vec<Problems>,
}

impl Error {
    /// The user's side is wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string(), help: None, problems: Vec::new() }
    }

    /// Our side is.
    pub fn engine(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Engine, ..Self::usage(message) }
    }

    /// With advice.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// All of it as text, for another process.
    pub fn text(&self) -> String {
        let problems = self.problems.iter().flat_map(|problems| &problems.problems);
        let mut text = self.message.clone();
        for problem in problems {
            text.push_str(&format!("\n{}:{}:{}: {}", problem.file, problem.line, problem.column, problem.message));
        }
        text.extend(self.help.iter().map(|help| format!("\nhelp: {help}")));
        text
    }

    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints it: in JSON to standard output where that was asked for, else to standard error.
    pub fn print(&self, as_json: bool, colour: bool) {
        if as_json {
            let problems = self.problems.iter().flat_map(|problems| &problems.problems);
            let problems =
                problems.map(|p| json!({ "file": p.file, "line": p.line, "column": p.column, "message": p.message, "help": p.help }));
            outln!(
                "{}",
                json!({
                    "schema_version": SCHEMA_VERSION,
                    "error": { "message": self.message, "help": self.help, "problems": problems.collect::<Vec<_>>() },
                })
            );
            return;
        }
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_links(false);
        for problem in self.problems.iter().flat_map(|problems| &problems.problems) {
            let mut text = String::new();
            if handler.render_report(&mut text, problem as &dyn Diagnostic).is_ok() {
                err!("{text}");
            }
        }
        // Names of files and texts of strangers are in it.
        errln!("error: {}", sanitize_lines(&self.message, PRINTED_BYTES_MAX));
        if let Some(help) = &self.help {
            errln!("  help: {}", sanitize_lines(help, PRINTED_BYTES_MAX));
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self { problems: vec![problems.clone()], ..Self::usage(problems) }
    }
}

impl From<crate::prepare::InputError> for Error {
    fn from(error: crate::prepare::InputError) -> Self {
        match error {
            crate::prepare::InputError::Glob(problems) => problems.into(),
            crate::prepare::InputError::Refused(message) => Self::usage(message),
        }
    }
}

impl From<crate::registry::Error> for Error {
    fn from(error: crate::registry::Error) -> Self {
        Self::usage(error)
    }
}

impl From<crate::check::tree::Error> for Error {
    fn from(error: crate::check::tree::Error) -> Self {
        Self::usage(error)
    }
}

impl From<crate::runtime::Error> for Error {
    fn from(error: crate::runtime::Error) -> Self {
        Self::engine(error)
    }
}

impl From<crate::manager::Error> for Error {
    fn from(error: crate::manager::Error) -> Self {
        match error {
            crate::manager::Error::NoSuchRun(_) | crate::manager::Error::KeyIsTaken(_) | crate::manager::Error::Rejected(_) => {
                Self::usage(error)
            }
            crate::manager::Error::Stopped => Self::engine(error),
            crate::manager::Error::Journal(error) => error.into(),
        }
    }
}

impl From<crate::client::Error> for Error {
    fn from(error: crate::client::Error) -> Self {
        use crate::client::Error as Client;
        match error {
            Client::Refused(problem) => (*problem).into(),
            Client::Place(_) => Self::usage(error),
            Client::Nobody { ref place, .. } if place.starts_with("http") => Self::engine(&error).help(NOBODY_LISTENS),
            Client::Nobody { .. } | Client::Gone { .. } => Self::engine(error),
        }
    }
}

impl From<crate::api::Problem> for Error {
    fn from(problem: crate::api::Problem) -> Self {
        use crate::api::Code;
        let mut message = problem.detail;
        for place in &problem.problems {
            message.push_str(&format!("\n{}:{}:{}: {}", place.file, place.line, place.column, place.message));
            message.extend(place.help.iter().map(|help| format!(" ({help})")));
        }
        let error = match problem.code {
            Code::Failed | Code::Unavailable | Code::TooManyRequests => Self::engine(message),
            _ => Self::usage(message),
        };
        let token = || (problem.code == Code::Unauthorized).then(|| "give it with --token-file, or in SANDHOG_TOKEN".to_owned());
        match token().or(problem.help) {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

impl From<Error> for crate::api::Problem {
    fn from(error: Error) -> Self {
        use crate::api::{Code, Place};
        let code = if error.exit == Exit::Engine { Code::Failed } else { Code::Invalid };
        let places = error.problems.iter().flat_map(|problems| &problems.problems).map(|problem| Place {
            file: problem.file.clone(),
            line: problem.line,
            column: problem.column,
            message: problem.message.clone(),
            help: problem.help.clone(),
        });
        let problem = Self::new(code, &error.message).places(places.collect());
        match error.help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}

impl From<crate::journal::Error> for Error {
    fn from(error: crate::journal::Error) -> Self {
        use crate::journal::Error as Journal;
        match &error {
            Journal::TooNew { .. } => Self::usage(error),
            Journal::Held { .. } => {
                Self::usage(error).help("this needs the directory to itself: wait until that process has ended, or end it")
            }
            Journal::Refused { .. } => Self::usage(error).help("mend that, or name another directory with --state-dir"),
            Journal::ServerRefused { help, .. } => {
                let help = help.clone();
                let error = Self::usage(error);
                match help {
                    Some(help) => error.help(help),
                    None => error,
                }
            }
            Journal::Away(_) => Self::engine(error).help(NOBODY_LISTENS),
            Journal::Conflict { .. } | Journal::BlobMissing(_) | Journal::Damaged { .. } | Journal::Medium(_) => Self::engine(error),
        }
    }
}
