//! Write [sandhog] plugins in Rust: one function, and one line that makes it a worker or a gate.
//!
//! ```text
//! use sandhog_guest::{Artifact, Failure, Task};
//!
//! sandhog_guest::worker!(run);
//!
//! #[derive(serde::Deserialize)]
//! struct Params { shout: bool }
//!
//! fn run(task: Task<Params>) -> Result<Artifact, Failure> {
//!     let text = task.input()?.as_text()?;
//!     log::info!("{} bytes", text.len());
//!     Ok(Artifact::text("greeting.txt", if task.params.shout { text.to_uppercase() } else { text.to_owned() }))
//! }
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2` as a `cdylib`; what comes out is a component.
//!
//! Params are read into any type that serde can make; params that do not fit are the failure `invalid-input`, with the
//! place. The `log` crate writes to the attempt's log. A panic is caught by the host, and is the failure `trapped`.
//!
//! [sandhog]: https://docs.rs/sandhog

#[cfg(feature = "http")]
pub mod http;

use std::fmt;

use serde::de::DeserializeOwned;

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "sandhog:plugin/worker-plugin",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_worker",
        default_bindings_module: "sandhog_guest::bindings",
    });

    /// The world of gates shares the types above.
    pub mod gate {
        wit_bindgen::generate!({
            path: "wit",
            world: "sandhog:plugin/gate-plugin",
            pub_export_macro: true,
            export_macro_name: "export_gate",
            default_bindings_module: "sandhog_guest::bindings::gate",
            with: {
                "sandhog:plugin/types@0.1.0": super::sandhog::plugin::types,
                "sandhog:plugin/host@0.1.0": super::sandhog::plugin::host,
            },
        });
    }

    /// What a gate with units exports beside; shares the types above.
    pub mod units {
        wit_bindgen::generate!({
            path: "wit",
            inline: "package sandhog:guest; world units-only { export sandhog:plugin/units@0.1.0; }",
            world: "sandhog:guest/units-only",
            pub_export_macro: true,
            export_macro_name: "export_units",
            default_bindings_module: "sandhog_guest::bindings::units",
            with: { "sandhog:plugin/types@0.1.0": super::sandhog::plugin::types },
        });
    }
}

/// Only for those who say [`initialize!`]: beside the bindings above, so that no other component exports it.
#[doc(hidden)]
pub mod initialize {
    wit_bindgen::generate!({
        inline: "package sandhog:initialize; world initialize { export wizer-initialize: func(); }",
        pub_export_macro: true,
        export_macro_name: "export_initialize",
    });

    #[cfg(target_os = "wasi")]
    unsafe extern "C" {
        /// Of wasi-libc, for this purpose: forgets the folders that it asked for when a file was first looked for.
        fn __wasilibc_reset_preopens();
    }

    /// Calls the function, and forgets that there were no files then.
    pub fn run(initialize: fn()) {
        initialize();
        #[cfg(target_os = "wasi")]
        // SAFETY: nothing else runs, and no file is open that was found by its path.
        unsafe {
            __wasilibc_reset_preopens();
        }
    }
}

use bindings::sandhog::plugin::types;
pub use bindings::sandhog::plugin::types::{
    Artifact, Decision, Edit, Failure, Finding, Fix, Location, Metric, Severity, Span, SubjectFile, Usage, Verdict,
};

/// What a worker is asked to do, with its params read into `P`.
#[derive(Debug, Clone)]
pub struct Task<P = serde_json::Value> {
    /// The same over all attempts and revisions: the key for effects. Empty for a deterministic plugin.
    pub id: String,
    /// The run; empty for a deterministic plugin.
    pub run: String,
    /// The step.
    pub step: String,
    /// Counts tries after failures, from 1.
    pub attempt: u32,
    /// Counts rounds after rejections, from 0.
    pub revision: u32,
    /// The params.
    pub params: P,
    /// What to work on.
    pub inputs: Vec<Artifact>,
    /// What the work will be judged by.
    pub criteria: Vec<String>,
    /// What the gates said about `previous`.
    pub feedback: Vec<Finding>,
    /// What was sent back in the round before.
    pub previous: Vec<Artifact>,
}

impl<P> Task<P> {
    /// The one input of a task that has exactly one, as every task of a `foreach` step has.
    pub fn input(&self) -> Result<&Artifact, Failure> {
        match self.inputs.as_slice() {
            [one] => Ok(one),
            many => Err(invalid_input(format!("expected one input, found {}", many.len()))),
        }
    }
}

/// What a gate is asked to judge, with its params read into `P`.
#[derive(Debug, Clone)]
pub struct Subject<P = serde_json::Value> {
    /// Every file of the snapshot, sorted by path.
    pub files: Vec<SubjectFile>,
    /// The task whose artifacts are judged.
    pub task: Option<Task>,
    /// What the judged attempt used, where the workflow asks for it.
    pub usage: Option<Usage>,
    /// The params.
    pub params: P,
    /// The unit to judge, for a gate that has units.
    pub unit: Option<String>,
}

impl<P> Subject<P> {
    /// Reads one file of the subject.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Failure> {
        std::fs::read(format!("/subject/{path}")).map_err(|error| permanent(format!("failed to read {path}: {error}")))
    }

    /// Reads one file of the subject as text.
    pub fn read_text(&self, path: &str) -> Result<String, Failure> {
        String::from_utf8(self.read(path)?).map_err(|error| permanent(format!("{path} is not UTF-8: {error}")))
    }
}

impl<P> Subject<P> {
    /// Judges each file as text: what `judge` finds in all of them, and a finding of the rule `invalid-utf8` for each that is
    /// not UTF-8. For gates whose scope is `file`.
    pub fn judge_texts(&self, mut judge: impl FnMut(&str, &str) -> Result<Vec<Finding>, Failure>) -> Result<Verdict, Failure> {
        let mut findings = Vec::new();
        for file in &self.files {
            let bytes = self.read(&file.path)?;
            // A byte order mark is no content. Places do not count it; edits, which are of the file, do.
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            let mark = (bytes.len() - text.len()) as u64;
            let bytes = text;
            match std::str::from_utf8(bytes) {
                Ok(text) => {
                    let mut found = judge(&file.path, text)?;
                    let fixes = found.iter_mut().filter_map(|finding| finding.fix.as_mut());
                    for edit in fixes.flat_map(|fix| &mut fix.edits) {
                        edit.start += mark;
                        edit.end += mark;
                    }
                    findings.extend(found);
                }
                Err(error) => {
                    let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
                    let line = u32::try_from(line).unwrap_or(u32::MAX);
                    findings.push(Finding::new("invalid-utf8", Severity::High, "the file is not UTF-8 here").at(&file.path, line));
                }
            }
        }
        Ok(Verdict::from_findings(findings))
    }
}

/// Finds the line and column of a byte of a text.
#[derive(Debug, Clone)]
pub struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    /// Looks through a text once.
    pub fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The line and the column (in characters) of a byte, both counted from 1; places behind the end are the end.
    pub fn place(&self, offset: usize) -> (u32, u32) {
        let offset = (0..=offset.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        let line = self.starts.partition_point(|start| *start <= offset) - 1;
        let column = self.text[self.starts[line]..offset].chars().count() + 1;
        (u32::try_from(line + 1).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}

/// The task or its input is wrong: never retried.
pub fn invalid_input(message: impl fmt::Display) -> Failure {
    Failure::InvalidInput(message.to_string())
}

/// It may work the next time: retried as the step's policy says.
pub fn transient(message: impl fmt::Display) -> Failure {
    Failure::Transient(message.to_string())
}

/// It will not work the next time either: never retried.
pub fn permanent(message: impl fmt::Display) -> Failure {
    Failure::Permanent(message.to_string())
}

impl Artifact {
    /// Bytes with a name and a media type.
    pub fn new(name: impl Into<String>, media_type: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), media_type: media_type.into(), content: content.into() }
    }

    /// Plain text.
    pub fn text(name: impl Into<String>, content: impl Into<String>) -> Self {
        Self::new(name, "text/plain", content.into())
    }

    /// Markdown.
    pub fn markdown(name: impl Into<String>, content: impl Into<String>) -> Self {
        Self::new(name, "text/markdown", content.into())
    }

    /// A value as JSON.
    pub fn json(name: impl Into<String>, value: &impl serde::Serialize) -> Result<Self, Failure> {
        let text = serde_json::to_vec_pretty(value).map_err(permanent)?;
        Ok(Self::new(name, "application/json", text))
    }

    /// The content as text; the failure `invalid-input` where it is not UTF-8.
    pub fn as_text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.content).map_err(|error| invalid_input(format!("{} is not UTF-8: {error}", self.name)))
    }

    /// The content as a value in JSON; the failure `invalid-input` where it is not.
    pub fn as_json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.content).map_err(|error| invalid_input(format!("{}: {error}", self.name)))
    }
}

impl Finding {
    /// A finding about the subject as a whole; add a place with [`Finding::at`].
    pub fn new(rule: impl Into<String>, severity: Severity, message: impl Into<String>) -> Self {
        Self { rule: rule.into(), severity, message: message.into(), location: None, suggestion: None, help_url: None, fix: None }
    }

    /// Says where: a file, and a line counted from 1.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>, line: u32) -> Self {
        let span = Span { start_line: line, start_column: 1, end_line: line, end_column: 1 };
        self.location = Some(Location { path: path.into(), span: Some(span) });
        self
    }

    /// Says in which file.
    #[must_use]
    pub fn in_file(mut self, path: impl Into<String>) -> Self {
        self.location = Some(Location { path: path.into(), span: None });
        self
    }

    /// Says exactly where: from one line and column to another, counted from 1; the end is behind the last character.
    #[must_use]
    pub fn spanning(mut self, path: impl Into<String>, (start_line, start_column): (u32, u32), (end_line, end_column): (u32, u32)) -> Self {
        self.location = Some(Location { path: path.into(), span: Some(Span { start_line, start_column, end_line, end_column }) });
        self
    }

    /// Says exactly where, by bytes of the file's text.
    #[must_use]
    pub fn over(self, path: impl Into<String>, lines: &LineIndex<'_>, bytes: std::ops::Range<usize>) -> Self {
        self.spanning(path, lines.place(bytes.start), lines.place(bytes.end.max(bytes.start)))
    }

    /// Says which page tells more.
    #[must_use]
    pub fn help(mut self, url: impl Into<String>) -> Self {
        self.help_url = Some(url.into());
        self
    }

    /// Says how a program can mend it.
    #[must_use]
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

impl Verdict {
    /// Fails where there is a finding of at least `Severity::Medium`, else passes.
    pub fn from_findings(findings: Vec<Finding>) -> Self {
        let fails = findings.iter().any(|finding| finding.severity >= Severity::Medium);
        let summary = match findings.len() {
            0 => "no findings".to_owned(),
            1 => "1 finding".to_owned(),
            n => format!("{n} findings"),
        };
        Self { decision: if fails { Decision::Fail } else { Decision::Pass }, findings, metrics: Vec::new(), summary }
    }
}

/// What a worker's function may return: one artifact, or several.
pub trait IntoArtifacts {
    /// The artifacts.
    fn into_artifacts(self) -> Vec<Artifact>;
}

impl IntoArtifacts for Vec<Artifact> {
    fn into_artifacts(self) -> Vec<Artifact> {
        self
    }
}

impl IntoArtifacts for Artifact {
    fn into_artifacts(self) -> Vec<Artifact> {
        vec![self]
    }
}

/// The host, while a task runs.
pub mod host {
    use crate::bindings::sandhog::plugin::host;

    /// Says how far the task has come: a fraction from 0 to 1, and a short note.
    pub fn progress(fraction: f64, note: &str) {
        host::progress(fraction, note);
    }

    /// The fuel that this attempt has used so far: what a call costs is the difference of two answers.
    pub fn fuel_used() -> u64 {
        host::fuel_used()
    }

    /// Whether the task was cancelled: a long task asks now and then, and returns `Failure::Cancelled`.
    pub fn cancelled() -> bool {
        host::cancelled()
    }
}

/// Makes a function of `Task<P>` the worker of this component.
#[macro_export]
macro_rules! worker {
    ($run:path) => {
        #[doc(hidden)]
        struct SandhogWorker;

        impl $crate::bindings::exports::sandhog::plugin::worker::Guest for SandhogWorker {
            fn run(
                task: $crate::bindings::sandhog::plugin::types::Task,
            ) -> ::std::result::Result<::std::vec::Vec<$crate::Artifact>, $crate::Failure> {
                $crate::__private::run(task, $run)
            }
        }

        $crate::bindings::export_worker!(SandhogWorker with_types_in $crate::bindings);
        $crate::__embed_identity!();
    };
}

/// Makes a function of `Subject<P>` the gate of this component; with a second one, a gate that judges unit by unit.
#[macro_export]
macro_rules! gate {
    ($check:path) => {
        #[doc(hidden)]
        struct SandhogGate;

        impl $crate::bindings::gate::exports::sandhog::plugin::gate::Guest for SandhogGate {
            fn check(
                subject: $crate::bindings::sandhog::plugin::types::Subject,
            ) -> ::std::result::Result<$crate::Verdict, $crate::Failure> {
                $crate::__private::check(subject, $check)
            }
        }

        $crate::bindings::gate::export_gate!(SandhogGate with_types_in $crate::bindings::gate);
        $crate::__embed_identity!();
    };
    ($check:path, units = $units:path) => {
        $crate::gate!($check);

        impl $crate::bindings::units::exports::sandhog::plugin::units::Guest for SandhogGate {
            fn units(
                subject: $crate::bindings::sandhog::plugin::types::Subject,
            ) -> ::std::result::Result<::std::vec::Vec<::std::string::String>, $crate::Failure> {
                $crate::__private::check(subject, $units)
            }
        }

        $crate::bindings::units::export_units!(SandhogGate with_types_in $crate::bindings::units);
    };
}

/// Names a function of no arguments that makes what every call needs and no call changes, such as tables and engines, in statics.
/// `sandhog plugins pre-initialize` runs it once and writes a component that begins where it has ended; in one that was not
/// treated so, it does not run: what it makes must be made when it is missing.
#[macro_export]
macro_rules! initialize {
    ($initialize:path) => {
        const _: () = {
            struct SandhogInitialize;

            impl $crate::initialize::Guest for SandhogInitialize {
                fn wizer_initialize() {
                    $crate::initialize::run($initialize);
                }
            }

    $crate::initialize::export_initialize!(SandhogInitialize with_types_in $crate::initialize);
        };
    };
}

/// Embeds the crate's name, version and description, so that a dropped file knows what it is.
#[doc(hidden)]
#[macro_export]
macro_rules! __embed_identity {
    () => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            const TEXT: &str = concat!(
                "name = '''",
                env!("CARGO_PKG_NAME"),
                "'''\n",
                "version = '''",
                env!("CARGO_PKG_VERSION"),
                "'''\n",
                "description = '''",
                env!("CARGO_PKG_DESCRIPTION"),
                "'''\n",
            );
            #[unsafe(link_section = "sandhog:identity")]
            #[used]
            static IDENTITY: [u8; TEXT.len()] = *TEXT.as_bytes().as_array().unwrap();
        };
    };
}

#[doc(hidden)]
pub mod __private {
    use super::*;

    fn read_params<P: DeserializeOwned>(params: &str) -> Result<P, Failure> {
        serde_json::from_str(params).map_err(|error| invalid_input(format!("params do not fit: {error}")))
    }

    fn read_task<P: DeserializeOwned>(task: types::Task) -> Result<Task<P>, Failure> {
        let types::Task { id, run, step, attempt, revision, params, inputs, criteria, feedback, previous } = task;
        let params = read_params(&params)?;
        Ok(Task { id, run, step, attempt, revision, params, inputs, criteria, feedback, previous })
    }

    /// Runs a worker's function.
    pub fn run<P: DeserializeOwned, A: IntoArtifacts>(
        task: types::Task,
        run: fn(Task<P>) -> Result<A, Failure>,
    ) -> Result<Vec<Artifact>, Failure> {
        logger::install();
        run(read_task(task)?).map(IntoArtifacts::into_artifacts)
    }

    /// Runs a function of a gate.
    pub fn check<P: DeserializeOwned, T>(subject: types::Subject, check: fn(Subject<P>) -> Result<T, Failure>) -> Result<T, Failure> {
        logger::install();
        let types::Subject { files, task, usage, params, unit } = subject;
        let task = task.map(read_task).transpose()?;
        check(Subject { files, task, usage, params: read_params(&params)?, unit })
    }
}

/// The `log` crate's macros write to the attempt's log.
mod logger {
    use crate::bindings::sandhog::plugin::host;

    struct HostLogger;

    impl log::Log for HostLogger {
        fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let level = match record.level() {
                log::Level::Error => host::Level::Error,
                log::Level::Warn => host::Level::Warn,
                log::Level::Info => host::Level::Info,
                log::Level::Debug => host::Level::Debug,
                log::Level::Trace => host::Level::Trace,
            };
            host::log(level, &record.args().to_string());
        }

        fn flush(&self) {}
    }

    pub(crate) fn install() {
        // A second call in one instance finds the logger in place already.
        if log::set_logger(&HostLogger).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
    }
}
