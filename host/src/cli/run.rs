//! `sandhog run`: runs a workflow and waits for its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::context::{Common, Context};
use super::exit::{Error, Exit};
use super::output::OutFolder;
use super::progress::{Progress, finding_line};
use super::workflow::{load_plugins, prepare, read_inputs};
use crate::clock::SystemClock;
use crate::journal::Memory;
use crate::machine::{Event, TaskKey};
use crate::manager::{self, Crew, Handle, Notice};
use crate::model::limits::{parse_duration, show_bytes, show_fuel};
use crate::model::{Artifact, ArtifactRef, Receipt};
use crate::report::{RunReport, TaskStatus, log_text};

/// How many failed tasks the summary tells of.
const FAILURES_SHOWN: usize = 20;
/// How many findings of one task the summary shows.
const FINDINGS_SHOWN: usize = 10;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Everything is checked before anything runs; what is wrong is shown all at once. A task that fails does not\n\
stop its neighbours; steps that need it are skipped, and the exit code is 1. Ctrl-C cancels.\n\n\
Examples:\n  sandhog run examples/contents/workflow.toml --out out\n  sandhog run examples/contents/workflow.toml --json | jq .status")]
pub struct RunArguments {
    /// The workflow file
    workflow: PathBuf,
    /// Write the artifacts of completed tasks into this folder, as STEP/INDEX/NAME
    #[arg(long, value_name = "FOLDER", env = "SANDHOG_OUT")]
    out: Option<PathBuf>,
    /// Print one JSON object at the end, and no summary
    #[arg(long)]
    pub json: bool,
    /// Cancel the run, and exit with 124, when it has not ended after this long
    #[arg(long, value_name = "SPAN", env = "SANDHOG_WAIT_TIMEOUT")]
    wait_timeout: Option<String>,
    /// Show what every plugin writes, not only those that fail
    #[arg(long)]
    logs: bool,
}

/// Runs.
pub fn run(common: &Common, arguments: RunArguments) -> Result<Exit, Error> {
    let wait_timeout = arguments.wait_timeout.as_deref().map(parse_duration).transpose();
    let wait_timeout = wait_timeout.map_err(|error| Error::usage(format!("--wait-timeout: {error}")))?;
    let (source, context) = prepare(common, &arguments.workflow, None)?;
    let files = read_inputs(&source, &arguments.workflow)?;
    let out = arguments.out.as_deref().map(OutFolder::open).transpose()?;
    load_plugins(&source, &context)?;
    let workflow = source.workflow.clone();
    let quiet = arguments.json && !super::is_live();
    super::block_on(async move {
        let (handle, running) = start(&context);
        let id = handle.submit(workflow, files).await?;
        let watched = Watch { handle: &handle, progress: Progress::new(super::is_live()), quiet, logs: arguments.logs };
        let (report, ended) = watched.until_it_ends(&id, wait_timeout).await?;
        let written = match out {
            Some(out) => Some(write(out, &handle, &report).await?),
            None => None,
        };
        running.shutdown().await;
        if arguments.json {
            outln!("{}", report.to_json());
        } else {
            out!("{}", summary(&report));
            if let (Some(written), Some(folder)) = (written, &arguments.out) {
                outln!("wrote {written} files into {}", folder.display());
            }
        }
        Ok(match (ended, report.status) {
            (Ended::Interrupted, _) => Exit::Interrupted,
            (Ended::TimedOut, _) => Exit::TimedOut,
            (Ended::ByItself, "completed") => Exit::Passed,
            (Ended::ByItself, _) => Exit::Failed,
        })
    })?
}

/// A manager over the plugins of a context, with a journal in memory.
pub(super) fn start(context: &Context) -> (Handle, manager::Running) {
    let crew = Crew::new(context.runtime.clone(), Arc::clone(&context.registry));
    manager::start(Arc::new(Memory::default()), Arc::new(crew), Arc::new(SystemClock), context.concurrency)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    ByItself,
    Interrupted,
    TimedOut,
}

struct Watch<'a> {
    handle: &'a Handle,
    progress: Progress,
    quiet: bool,
    logs: bool,
}

impl Watch<'_> {
    async fn until_it_ends(mut self, id: &crate::model::RunId, wait_timeout: Option<Duration>) -> Result<(RunReport, Ended), Error> {
        let mut feed = self.handle.follow(id.clone());
        let mut notices = self.handle.notices();
        let mut report: Option<RunReport> = None;
        let mut ended = Ended::ByItself;
        let timeout = tokio::time::sleep(wait_timeout.unwrap_or_default());
        tokio::pin!(timeout);
        loop {
            tokio::select! {
                record = feed.next() => {
                    let Some(record) = record? else { break };
                    match &mut report {
                        None => report = RunReport::begin(&record),
                        Some(report) => report.add(&record),
                    }
                    if let (Some(report), Event::StepStarted { step, inputs, .. }) = (&mut report, &record.event) {
                        let listed: Vec<ArtifactRef> = serde_json::from_slice(&self.handle.store().blob(inputs).await?).map_err(Error::engine)?;
                        report.name_inputs(*step, listed.into_iter().map(|input| input.name).collect());
                    }
                    if let Some(report) = report.as_ref().filter(|_| !self.quiet) {
                        self.progress.record(&record, report);
                    }
                }
                notice = notices.recv() => if let Ok(notice) = notice {
                    self.notice(&notice, report.as_ref());
                },
                _ = tokio::signal::ctrl_c() => {
                    if ended == Ended::Interrupted {
                        self.progress.finish();
                        std::process::exit(Exit::Interrupted as i32); // the second time: at once
                    }
                    ended = Ended::Interrupted;
                    self.progress.say("cancelling; once more to leave at once");
                    let _ = self.handle.cancel(id, "interrupted").await;
                }
                () = &mut timeout, if wait_timeout.is_some() && ended == Ended::ByItself => {
                    ended = Ended::TimedOut;
                    let _ = self.handle.cancel(id, "the time given by --wait-timeout is up").await;
                }
            }
        }
        while let Ok(notice) = notices.try_recv() {
            self.notice(&notice, report.as_ref());
        }
        self.progress.finish();
        let report = report.ok_or_else(|| Error::engine("the run left no record"))?;
        Ok((report, ended))
    }

    fn notice(&mut self, notice: &Notice, report: Option<&RunReport>) {
        self.progress.notice(notice);
        if let (Notice::Log { task, gate, log, .. }, Some(report), true) = (notice, report, self.logs && !self.quiet) {
            let who = match gate {
                Some(gate) => {
                    format!("{}, {}", report.name(*task), report.workflow.steps[task.step as usize].gates[*gate as usize].gate)
                }
                None => report.name(*task),
            };
            self.progress.say(&format!("{who} wrote:\n{}", log_text(log).trim_end()));
        }
    }
}

/// Writes what completed tasks made.
async fn write(mut out: OutFolder, handle: &Handle, report: &RunReport) -> Result<usize, Error> {
    for (key, task) in report.tasks.iter().filter(|(_, task)| task.status == TaskStatus::Completed) {
        let step = &report.workflow.steps[key.step as usize].id;
        for artifact in &task.artifacts {
            let content = handle.store().blob(&artifact.digest).await?;
            let artifact = Artifact { name: format!("{step}/{}/{}", key.index, artifact.name), media_type: String::new(), content };
            out.add(&artifact.name, &artifact.content)?;
        }
    }
    out.finish()
}

/// What came of the run, and where its time and fuel went.
fn summary(report: &RunReport) -> String {
    let mut text = String::new();
    let width = report.workflow.steps.iter().map(|step| step.id.len()).max().unwrap_or(4).max(4);
    text.push_str(&format!(
        "{:width$}  {:<9}  {:>11}  {:>8}  {:>9}  {:>9}  {:>10}  {:>9}\n",
        "step", "status", "tasks", "revised", "took", "fuel", "gates' fuel", "peak"
    ));
    let mut total = Receipt::default();
    for (place, step) in (0_u32..).zip(&report.steps) {
        let (worker, gates) = report.usage_of(place);
        total.add(&worker);
        total.add(&gates);
        let completed = report.tasks_of(place).filter(|(_, task)| task.status == TaskStatus::Completed).count();
        let revised = report.tasks_of(place).filter(|(_, task)| task.revision > 0).count();
        text.push_str(&format!(
            "{:width$}  {:<9}  {:>11}  {:>8}  {:>9}  {:>9}  {:>10}  {:>9}\n",
            report.workflow.steps[place as usize].id,
            step.status,
            step.tasks.map_or_else(|| "-".to_owned(), |tasks| format!("{completed}/{tasks}")),
            revised,
            step.took.map_or_else(|| "-".to_owned(), |took| format!("{:.1}ms", took.as_secs_f64() * 1000.0)),
            show_fuel(worker.fuel),
            show_fuel(gates.fuel),
            show_bytes(worker.peak_memory_bytes.max(gates.peak_memory_bytes)),
        ));
    }
    let failed: Vec<(&TaskKey, &crate::report::TaskReport)> =
        report.tasks.iter().filter(|(_, task)| task.status == TaskStatus::Failed).collect();
    for (key, task) in failed.iter().take(FAILURES_SHOWN) {
        text.push_str(&format!("\n{} was given up", report.name(**key)));
        match &task.failure {
            Some(failure) => text.push_str(&format!(": {}\n  {}\n", failure.kind, failure.message)),
            None => {
                text.push_str(": its gates rejected it\n");
                let last = task.findings.iter().filter(|(revision, _, _)| *revision == task.revision);
                for (_, gate, finding) in last.take(FINDINGS_SHOWN) {
                    text.push_str(&format!("  {gate}: {}\n", finding_line(finding)));
                }
            }
        }
    }
    if failed.len() > FAILURES_SHOWN {
        text.push_str(&format!("\n… and {} more\n", failed.len() - FAILURES_SHOWN));
    }
    text.push_str(&format!(
        "\n{} {} in {:.2} s; fuel {}, {} of work on all cores\n",
        report.workflow.name,
        report.status,
        report.took.as_secs_f64(),
        show_fuel(total.fuel),
        format_args!("{:.2} s", total.wall_time.as_secs_f64()),
    ));
    text
}
