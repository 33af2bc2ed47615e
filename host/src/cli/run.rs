//! `sandhog run`: runs a workflow, and waits for its end or leaves that to a process in the background.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::context::Common;
use super::exit::{Error, Exit};
use super::host::{self, HoldError, Host, Seat};
use super::output::OutFolder;
use super::progress::{Progress, finding_line};
use super::workflow::{load_plugins, prepare, read_inputs, submission};
use crate::api::{self, Command, Offer};
use crate::journal::{READ_MAX, Store};
use crate::machine::{Event, TaskKey};
use crate::manager::{self, Notice};
use crate::model::limits::{parse_duration, show_bytes, show_fuel};
use crate::model::text::{continued, counted};
use crate::model::{Receipt, RunId};
use crate::report::{RunReport, TaskStatus, log_text};

/// How many failed tasks the summary tells of.
const FAILURES_SHOWN: usize = 20;
/// How many findings of one task the summary shows.
const FINDINGS_SHOWN: usize = 10;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Everything is checked before anything runs; what is wrong is shown all at once. A task that fails does not\n\
stop its neighbours; steps that need it are skipped, and the exit code is 1. Ctrl-C cancels. SIGTERM lets what\n\
executes end, and leaves the rest to `sandhog runs resume`, with exit code 0.\n\n\
The run is on disk before it is shown: after a crash, `sandhog runs resume` goes on with it.\n\n\
Examples:\n  sandhog run docs/contents.toml --out out\n  sandhog run docs/contents.toml --json | jq .status\n  sandhog run nightly.toml --detach --idempotency-key nightly-2026-11-24")]
pub struct RunArguments {
    /// The workflow file
    workflow: PathBuf,
    /// Write the artifacts of completed tasks into this folder, as STEP/INDEX/NAME
    #[arg(long, value_name = "FOLDER", env = "SANDHOG_OUT", conflicts_with = "detach")]
    out: Option<PathBuf>,
    /// Print one JSON object at the end, and no summary
    #[arg(long)]
    pub json: bool,
    /// Wait for the end of the run (the default)
    #[arg(long, conflicts_with = "detach")]
    wait: bool,
    /// Leave the run to a process in the background, and print its name
    #[arg(long)]
    detach: bool,
    /// A key of yours: a second submission with the same one is the first run, and starts none
    #[arg(long, value_name = "KEY", env = "SANDHOG_IDEMPOTENCY_KEY")]
    idempotency_key: Option<String>,
    /// Cancel the run, and exit with 124, when it has not ended after this long
    #[arg(long, value_name = "SPAN", env = "SANDHOG_WAIT_TIMEOUT", conflicts_with = "detach")]
    wait_timeout: Option<String>,
    /// Show what every plugin writes, not only those that fail: of each attempt the last 64 KiB
    #[arg(long, conflicts_with = "detach")]
    logs: bool,
}

/// How a run is watched, and what is done at its end.
pub struct Watching {
    /// Write artifacts here.
    pub out: Option<PathBuf>,
    /// Print one JSON object.
    pub json: bool,
    /// Cancel after this long.
    pub wait_timeout: Option<Duration>,
    /// Show what every plugin writes.
    pub logs: bool,
}

/// Runs.
pub fn run(common: &Common, arguments: RunArguments) -> Result<Exit, Error> {
    let wait_timeout = arguments.wait_timeout.as_deref().map(parse_duration).transpose();
    let wait_timeout = wait_timeout.map_err(|error| Error::usage(format!("--wait-timeout: {error}")))?;
    let key = arguments.idempotency_key;
    let fits = key.as_deref().map_or(Ok(()), api::check_key);
    fits.map_err(|problem| Error::usage(format!("--idempotency-key: {problem}")))?;
    if let Some(client) = common.remote()? {
        let submission = submission(&arguments.workflow)?;
        let out = arguments.out.as_deref().map(OutFolder::open).transpose()?;
        let watching = Watching { out: arguments.out, json: arguments.json, wait_timeout, logs: arguments.logs };
        return super::block_on(async move {
            let run = client.submit(&submission, key.as_deref()).await?;
            if arguments.detach {
                return detached(run, watching.json);
            }
            watch(&Seat::Theirs(Box::new(host::journal(common)?)), run, 0, &watching, out).await.map(|(exit, _)| exit)
        })?;
    }
    let (source, context) = prepare(common, &arguments.workflow, None)?;
    let files = read_inputs(&source, &arguments.workflow)?;
    let out = arguments.out.as_deref().map(OutFolder::open).transpose()?;
    load_plugins(&source, &context)?;
    let workflow = source.workflow.clone();
    let watching = Watching { out: arguments.out, json: arguments.json, wait_timeout, logs: arguments.logs };
    let path = arguments.workflow;
    super::block_on(async move {
        let context = Arc::new(context);
        if arguments.detach {
            let run = host::submit_there(common, None, &path, key).await?.0;
            return detached(run, watching.json);
        }
        match Host::hold(common, Arc::clone(&context), Offer::default()).await {
            Ok(held) => {
                let run = held.handle.submit(workflow, files, key).await?;
                let seat = Seat::Ours(held.handle.clone());
                let ended = watch(&seat, run, 0, &watching, out).await;
                leave(common, held, &[run], watching.json, ended).await
            }
            Err(HoldError::Held(client)) => {
                let (run, _) = host::submit_there(common, Some(client), &path, key).await?;
                watch(&Seat::Theirs(Box::new(host::journal(common)?)), run, 0, &watching, out).await.map(|(exit, _)| exit)
            }
            Err(HoldError::Failed(error)) => Err(error),
        }
    })?
}

fn detached(run: RunId, json: bool) -> Result<Exit, Error> {
    if json {
        outln!("{}", serde_json::json!({ "schema_version": crate::report::SCHEMA_VERSION, "run": run }));
    } else {
        outln!("{run}");
    }
    Ok(Exit::Passed)
}

/// Lets go of the directory: at once when told to end, else when what others asked for has ended too.
pub async fn leave(common: &Common, held: Host, runs: &[RunId], json: bool, ended: Result<(Exit, Ended), Error>) -> Result<Exit, Error> {
    match ended {
        Ok((_, Ended::Drained)) => {
            held.drain().await?;
            tell_left(common, runs, json).await
        }
        Ok((exit, _)) => held.finish().await.map(|()| exit),
        Err(error) => {
            // What the manager says of its end is the better reason.
            held.drain().await?;
            Err(error)
        }
    }
}

/// What came of runs whose process was told to end, now that it has drained: the last of them may have ended meanwhile.
async fn tell_left(common: &Common, runs: &[RunId], json: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let mut exit = Exit::Passed;
    for run in runs {
        let report = super::runs::fold(&*store, *run).await?;
        match json {
            true => outln!("{}", report.to_json()),
            false => out!("{}", summary(&report)),
        }
        match report.status {
            "completed" => {}
            "failed" | "cancelled" => exit = Exit::Failed,
            _ => errln!("what is left is gone on with by: sandhog runs resume {run}"),
        }
    }
    Ok(exit)
}

/// Watches a run to its end, and says how to exit. What it did up to the version `known` is not told again.
pub async fn watch(seat: &Seat, run: RunId, known: u64, watching: &Watching, out: Option<OutFolder>) -> Result<(Exit, Ended), Error> {
    let quiet = watching.json && !super::is_live();
    let watched = Watch { seat, progress: Progress::new(super::is_live(), known), quiet, logs: watching.logs };
    let (report, ended) = watched.until_it_ends(run, watching.wait_timeout).await?;
    match (ended, seat) {
        (Ended::Drained, Seat::Ours(_)) => return Ok((Exit::Passed, ended)), // told when that has happened
        (Ended::Drained, Seat::Theirs(..)) => errln!("the run {run} goes on in the process that holds the directory"),
        _ => {}
    }
    let store = seat.store();
    let written = match out {
        Some(out) if ended != Ended::Drained => Some(write(out, &*store, &report, TaskStatus::Completed).await?),
        Some(_) | None => None,
    };
    if watching.json {
        outln!("{}", report.to_json());
    } else {
        out!("{}", summary(&report));
        if let (Some(written), Some(folder)) = (written, &watching.out) {
            outln!("wrote {} into {}", counted(written, "file"), folder.display());
        }
    }
    if ended == Ended::Abandoned {
        errln!("error: the process that held the state directory has ended, and the run has not");
        errln!("what is left is gone on with by: sandhog runs resume {run}");
    }
    let exit = match (ended, report.status) {
        (Ended::Interrupted, _) => Exit::Interrupted,
        (Ended::TimedOut, _) => Exit::TimedOut,
        (Ended::Drained, _) => Exit::Passed,
        (Ended::Abandoned, _) => Exit::Engine,
        (Ended::ByItself, status) => host::exit_of(status),
    };
    Ok((exit, ended))
}

/// Why a run is watched no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    ByItself,
    Interrupted,
    TimedOut,
    /// This process was told to end.
    Drained,
    /// The process that ran it went away.
    Abandoned,
}

struct Watch<'a> {
    seat: &'a Seat,
    progress: Progress,
    quiet: bool,
    logs: bool,
}

impl Watch<'_> {
    async fn until_it_ends(mut self, run: RunId, wait_timeout: Option<Duration>) -> Result<(RunReport, Ended), Error> {
        // A stream keeps a read that is under way, whatever else comes meanwhile: begun anew for each notice, most reads would be for nothing.
        let feed = futures_util::stream::unfold(self.seat.follow(run, 1), |mut feed| async {
            let record = feed.next().await.transpose()?;
            Some((record, feed))
        });
        tokio::pin!(feed);
        let mut notices = match self.seat {
            Seat::Ours(handle) => Some(handle.notices()),
            Seat::Theirs(..) => None,
        };
        let stopped = async {
            match self.seat {
                Seat::Ours(handle) => handle.wait(run).await.err(),
                Seat::Theirs(..) => std::future::pending().await,
            }
        };
        tokio::pin!(stopped);
        let mut stopped_already = false;
        let store = self.seat.store();
        let mut report: Option<RunReport> = None;
        let mut ended = Ended::ByItself;
        let timeout = tokio::time::sleep(wait_timeout.unwrap_or_default());
        tokio::pin!(timeout);
        let mut terminated = signal(SignalKind::terminate()).map_err(|error| Error::engine(format!("no signals: {error}")))?;
        let mut over = false;
        loop {
            tokio::select! {
                record = feed.next() => {
                    let Some(record) = record.transpose()? else { break };
                    over = record.event.ends_the_run();
                    match &mut report {
                        None => report = RunReport::begin(&record),
                        Some(report) => report.add(&record),
                    }
                    if let (Some(report), Event::StepStarted { step, inputs, .. }) = (&mut report, &record.event)
                        && report.tells_inputs(*step)
                    {
                        let listed = manager::inputs_of(&*store, inputs).await?;
                        report.name_inputs(*step, listed.into_iter().map(|input| input.name).collect());
                    }
                    if let Some(report) = report.as_ref().filter(|_| !self.quiet) {
                        self.progress.record(&record, report);
                    }
                }
                notice = async { match &mut notices { Some(notices) => notices.recv().await.ok(), None => std::future::pending().await } } => {
                    if let Some(notice) = notice.filter(|notice| notice.run() == run) {
                        self.notice(&notice, report.as_ref());
                    }
                }
                error = &mut stopped, if !stopped_already => {
                    stopped_already = true;
                    // A run that ended before this was asked is no error: its last record is on its way.
                    if let Some(error @ (manager::Error::Journal(_) | manager::Error::Stopped)) = error {
                        self.progress.finish();
                        return Err(error.into());
                    }
                }
                _ = tokio::signal::ctrl_c() => {
                    if ended == Ended::Interrupted {
                        self.progress.finish();
                        std::process::exit(Exit::Interrupted as i32); // the second time: at once
                    }
                    ended = Ended::Interrupted;
                    self.progress.say("cancelling; once more to leave at once");
                    let _ = self.seat.command(run, Command::Cancel { reason: "interrupted".to_owned() }).await;
                }
                _ = terminated.recv() => {
                    ended = Ended::Drained;
                    break;
                }
                () = &mut timeout, if wait_timeout.is_some() && ended == Ended::ByItself => {
                    ended = Ended::TimedOut;
                    let reason = "the time given by --wait-timeout is up".to_owned();
                    let _ = self.seat.command(run, Command::Cancel { reason }).await;
                }
            }
        }
        if !over && ended != Ended::Drained {
            ended = Ended::Abandoned;
        }
        while let Some(Ok(notice)) = notices.as_mut().map(tokio::sync::broadcast::Receiver::try_recv) {
            if notice.run() == run {
                self.notice(&notice, report.as_ref());
            }
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

/// Writes what the tasks made that stand so: completed, or waiting for approval.
pub async fn write(mut out: OutFolder, store: &dyn Store, report: &RunReport, of: TaskStatus) -> Result<usize, Error> {
    let mut version = 1;
    loop {
        let records = store.read(&report.run, version, READ_MAX).await?;
        let Some(last) = records.last() else { return out.finish() };
        version = last.version + 1;
        for record in &records {
            let Event::AttemptCompleted { task: key, artifacts, .. } = &record.event else { continue };
            let made = report.tasks.get(key).filter(|task| task.status == of && task.made_at == record.version);
            if made.is_none() {
                continue;
            }
            let step = &report.workflow.steps[key.step as usize].id;
            for artifact in artifacts {
                let content = store.content(artifact).await?;
                out.add(&format!("{step}/{}/{}", key.index, artifact.name), &content)?;
            }
        }
    }
}

/// What came of the run, and where its time and fuel went.
pub fn summary(report: &RunReport) -> String {
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
        report.tasks.iter().filter(|(_, task)| matches!(task.status, TaskStatus::Failed | TaskStatus::DeadLettered)).collect();
    for (key, task) in failed.iter().take(FAILURES_SHOWN) {
        let aside = if task.status == TaskStatus::DeadLettered { ", and set aside" } else { "" };
        text.push_str(&format!("\n{} was given up{aside}", report.name(**key)));
        match &task.failure {
            Some(failure) => text.push_str(&format!(": {}\n  {}\n", failure.kind, continued(&failure.message))),
            None => {
                let by = |who: &str| task.findings.iter().any(|(revision, gate, _)| *revision == task.revision && gate == who);
                let who = match (by("plan"), by("approval")) {
                    (true, _) => "its plan does not fit",
                    (_, true) => "a person refused it",
                    (false, false) => "its gates rejected it",
                };
                text.push_str(&format!(": {who}\n"));
                let last = task.findings.iter().filter(|(revision, _, _)| *revision == task.revision);
                for (_, gate, finding) in last.take(FINDINGS_SHOWN) {
                    text.push_str(&format!("  {gate}: {}\n", finding_line(finding)));
                }
                if task.left_out > 0 {
                    text.push_str(&format!("  … and {} that the report has no room for\n", counted(task.left_out, "finding")));
                }
            }
        }
    }
    if failed.len() > FAILURES_SHOWN {
        text.push_str(&format!("\n… and {} more\n", failed.len() - FAILURES_SHOWN));
    }
    for reason in &report.degraded {
        text.push_str(&format!("\ndegraded: {reason}\n"));
    }
    let degraded = if report.degraded.is_empty() { "" } else { " (degraded)" };
    text.push_str(&format!(
        "\n{} {}{degraded} in {:.2} s; fuel {}, {} of work on all cores\n",
        report.workflow.name,
        report.status,
        report.took.as_secs_f64(),
        show_fuel(total.fuel),
        format_args!("{:.2} s", total.wall_time.as_secs_f64()),
    ));
    text.push_str(&format!("run {}, head {}\n", report.run, report.head));
    text
}
