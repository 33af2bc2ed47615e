//! `sandhog runs`: what runs there are, what became of them, and what a person wants of them.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::context::Common;
use super::exit::{Error, Exit};
use super::host::{self, HoldError, Host, Seat, find};
use super::output::OutFolder;
use super::progress::line;
use super::run::{Watching, leave, watch, write};
use crate::api::{Code, Command, Offer, StreamQuery, TaskName};
use crate::client::{Client, Message};
use crate::clock::{Clock as _, SystemClock, Timestamp, between};
use crate::journal::{READ_MAX, Record, RunRow, Store};
use crate::machine::{Event, Rejection, RunStatus, TaskKey};
use crate::manager;
use crate::model::RunId;
use crate::model::limits::{show_bytes, show_fuel};
use crate::model::text::{counted, sanitize};
use crate::report::{self, RunReport, SCHEMA_VERSION, TaskStatus, log_text};

/// How many records `runs events` prints for a person at once; what follows is behind `--after`.
const LIST_MAX: usize = 10_000;

/// How long a server may be away while its events are followed.
const AWAY_MAX: std::time::Duration = std::time::Duration::from_mins(5);

/// How many findings of one kind a round shows.
const ROUND_FINDINGS_MAX: usize = 10;

/// What of runs.
#[derive(Debug, clap::Subcommand)]
pub enum RunsCommand {
    /// List runs, the latest first
    List {
        /// Only those that have not ended
        #[arg(long)]
        open: bool,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell the story of a run: what happened, in order, what it cost, and what waits for what
    Show {
        /// The run: its name, the beginning or the end of it, or `latest`
        run: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the runs that are under way, live
    Top,
    /// Print the events of a run, or of all
    Events {
        /// The run; all of them without
        run: Option<String>,
        /// Go on printing as events come, until the run ends
        #[arg(long)]
        follow: bool,
        /// Begin behind this `seq`
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
        /// Print a JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print what the plugins of a run wrote
    Logs {
        /// The run
        run: String,
        /// Only of this step
        #[arg(long, value_name = "STEP")]
        step: Option<String>,
        /// Only of this task of the step
        #[arg(long, value_name = "N", requires = "step")]
        task: Option<u32>,
    },
    /// Print what became of a run, and write its artifacts
    Result {
        /// The run
        run: String,
        /// Write the artifacts of completed tasks into this folder, as STEP/INDEX/NAME
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// Write those of tasks that wait for approval in their place
        #[arg(long, requires = "out")]
        approving: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a run: nothing of it starts any more, and what runs is ended
    Cancel {
        /// The run
        run: String,
        /// Why
        #[arg(long, default_value = "a person asked for it")]
        reason: String,
    },
    /// Start nothing more of a run for now; what runs goes on to its end
    Pause {
        /// The run
        run: String,
        /// Why
        #[arg(long, default_value = "a person asked for it")]
        reason: String,
    },
    /// Go on with a run that is paused, or that nobody runs any more
    Resume {
        /// The run
        #[arg(required_unless_present = "open", conflicts_with = "open")]
        run: Option<String>,
        /// Every run that has not ended and is not paused
        #[arg(long)]
        open: bool,
        /// Print one JSON object at the end, and no summary
        #[arg(long)]
        json: bool,
    },
    /// Run again what was given up in a run
    Retry {
        /// The run
        run: String,
        /// Only of this step
        #[arg(long, value_name = "STEP")]
        step: Option<String>,
        /// Only this task of the step
        #[arg(long, value_name = "N", requires = "step")]
        task: Option<u32>,
    },
    /// Let results through that wait for a person
    Approve(ApproveArguments),
    /// Send results back that wait for a person; what you say is feedback for the worker
    Reject(ApproveArguments),
}

/// Which results.
#[derive(Debug, clap::Args)]
pub struct ApproveArguments {
    /// The run
    run: String,
    /// The step; may be left out where only one waits
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    /// Only this task of the step
    #[arg(long, value_name = "N")]
    task: Option<u32>,
    /// What you say
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

impl RunsCommand {
    /// Whether errors are printed as JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::List { json, .. }
            | Self::Show { json, .. }
            | Self::Events { json, .. }
            | Self::Result { json, .. }
            | Self::Resume { json, .. } => *json,
            Self::Top
            | Self::Logs { .. }
            | Self::Cancel { .. }
            | Self::Pause { .. }
            | Self::Retry { .. }
            | Self::Approve(_)
            | Self::Reject(_) => false,
        }
    }
}

/// Does as told.
pub fn runs(common: &Common, command: RunsCommand) -> Result<Exit, Error> {
    super::block_on(async {
        match command {
            RunsCommand::List { open, limit, json } => list(common, open, limit as usize, json).await,
            RunsCommand::Show { run, json } => show(common, &run, json).await,
            RunsCommand::Top => top(common).await,
            RunsCommand::Events { run, follow, after, json } => events(common, run.as_deref(), follow, after, json).await,
            RunsCommand::Logs { run, step, task } => logs(common, &run, step.as_deref(), task).await,
            RunsCommand::Result { run, out, approving, json } => {
                let of = if approving { TaskStatus::Approving } else { TaskStatus::Completed };
                result(common, &run, out, of, json).await
            }
            RunsCommand::Cancel { run, reason } => tell(common, &run, Command::Cancel { reason }, "cancelling").await,
            RunsCommand::Pause { run, reason } => tell(common, &run, Command::Pause { reason }, "paused").await,
            RunsCommand::Resume { run, open, json } => resume(common, run.as_deref(), open, json).await,
            RunsCommand::Retry { run, step, task } => {
                let store = host::journal(common)?;
                let id = find(&*store, &run).await?;
                let report = fold(&*store, id).await?;
                let place = step.as_deref().map(|step| place(&report, step)).transpose()?;
                let given_up = |(key, of): &(&TaskKey, &crate::report::TaskReport)| {
                    matches!(of.status, TaskStatus::Failed | TaskStatus::DeadLettered)
                        && place.is_none_or(|place| key.step == place)
                        && task.is_none_or(|task| key.index == task)
                };
                let name = |key: &TaskKey| TaskName { step: report.workflow.steps[key.step as usize].id.clone(), index: key.index };
                let tasks: Vec<TaskName> = report.tasks.iter().filter(given_up).map(|(key, _)| name(key)).collect();
                if tasks.is_empty() {
                    return Err(Error::usage(format!("nothing of the kind was given up in {id}")));
                }
                drop(store);
                tell_id(common, id, Command::Retry { tasks }, "to be run again").await
            }
            RunsCommand::Approve(arguments) => approve(common, arguments, true).await,
            RunsCommand::Reject(arguments) => approve(common, arguments, false).await,
        }
    })?
}

async fn list(common: &Common, open: bool, limit: usize, json: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let rows = store.runs(None, open, limit).await?;
    if json {
        let breakers = report::breakers(&*store).await?;
        let breakers = breakers.iter().map(|breaker| {
            let mut told = json!(breaker.state);
            told["plugin"] = breaker.plugin.as_str().into();
            told
        });
        outln!("{}", json!({ "schema_version": SCHEMA_VERSION, "runs": rows, "breakers": breakers.collect::<Vec<_>>() }));
    } else if rows.is_empty() {
        outln!("no runs{}", if open { " under way" } else { "" });
    } else {
        let now = SystemClock.now();
        out!("{}", table(&rows, now));
        for breaker in report::breakers(&*store).await? {
            out!("{}", report::breaker_line(&breaker, now));
        }
        let open = || rows.iter().filter(|row| row.ended_at.is_none());
        if open().next().is_some() && !store.is_held() {
            let all = if open().any(|row| row.status != RunStatus::Paused.as_str()) { "--open" } else { "RUN" };
            outln!("nobody runs what has not ended: `sandhog runs resume {all}` goes on with it");
        }
    }
    Ok(Exit::Passed)
}

/// Runs as a table.
fn table(rows: &[RunRow], now: Timestamp) -> String {
    let mut text =
        format!("{:36}  {:<20}  {:<10}  {:>15}  {:>6}  {:>9}  {}\n", "run", "workflow", "status", "tasks", "failed", "took", "waits for");
    for row in rows {
        let took = between(row.started_at, row.ended_at.unwrap_or(now)).as_secs_f64();
        let status = if row.degraded.is_empty() { row.status.clone() } else { format!("{} *", row.status) };
        let mut waits = Vec::new();
        if row.approving > 0 {
            waits.push(counted(row.approving, "approval"));
        }
        if row.dead_letters > 0 {
            waits.push(counted(row.dead_letters, "dead letter"));
        }
        text.push_str(&format!(
            "{:36}  {:<20}  {status:<10}  {:>15}  {:>6}  {:>8.1}s  {}\n",
            row.run,
            crate::model::text::sanitize(&row.workflow, 20),
            format!("{}/{}", row.completed, row.tasks),
            row.failed,
            took,
            waits.join(", "),
        ));
    }
    if rows.iter().any(|row| !row.degraded.is_empty()) {
        text.push_str("* degraded: `sandhog runs show RUN` says what it did without\n");
    }
    text
}

/// A run, folded from all of its records.
pub(super) async fn fold(store: &dyn Store, run: RunId) -> Result<RunReport, Error> {
    report::run_report(store, run).await?.ok_or_else(|| Error::usage(format!("there is no run {run}")))
}

/// Every record of a run, in order.
async fn each(store: &dyn Store, run: RunId, mut of: impl AsyncFnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
    let mut version = 1;
    loop {
        let records = store.read(&run, version, READ_MAX).await?;
        let Some(last) = records.last() else { return Ok(()) };
        version = last.version + 1;
        for record in records {
            of(record).await?;
        }
    }
}

async fn show(common: &Common, run: &str, json: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let run = find(&*store, run).await?;
    if json {
        let mut report = fold(&*store, run).await?;
        let breakers = report::breakers(&*store).await?;
        report::mark_blocked(&mut report, &breakers, SystemClock.now());
        outln!("{}", report.to_json());
        return Ok(Exit::Passed);
    }
    let mut report: Option<RunReport> = None;
    each(&*store, run, async |record| {
        match &mut report {
            None => report = RunReport::begin(&record),
            Some(report) => report.add(&record),
        }
        let Some(report) = &mut report else { return Ok(()) };
        if let Event::StepStarted { step, inputs, .. } = &record.event
            && report.tells_inputs(*step)
        {
            let listed = manager::inputs_of(&*store, inputs).await?;
            report.name_inputs(*step, listed.into_iter().map(|input| input.name).collect());
        }
        if let Some(line) = line(&record, report) {
            let since = between(report.started_at, record.at).as_secs_f64();
            outln!("{since:>9.3}s  {line}");
        }
        Ok(())
    })
    .await?;
    let Some(mut report) = report else { return Err(Error::usage(format!("there is no run {run}"))) };
    outln!("");
    out!("{}", super::run::summary(&report));
    out!("{}", rounds(&report));
    let now = SystemClock.now();
    let breakers = report::breakers(&*store).await?;
    out!("{}", report::mark_blocked(&mut report, &breakers, now));
    let held = store.is_held();
    out!("{}", waits(&report, now, held));
    Ok(Exit::Passed)
}

/// The figures that the gates of a run gave, with the gate: those of each task's last round.
pub fn metrics(common: &Common, run: &str) -> Result<Vec<(String, crate::model::Metric)>, Error> {
    super::block_on(async {
        let store = host::journal(common)?;
        let run = find(&*store, run).await?;
        let report = fold(&*store, run).await?;
        Ok(report.tasks.values().flat_map(|task| task.metrics.clone()).collect())
    })?
}

/// The rounds of every task that was sent back: what was mended, what was not, what is new.
fn rounds(report: &RunReport) -> String {
    let mut text = String::new();
    for (key, task) in &report.tasks {
        let rounds = task.rounds();
        if rounds.is_empty() {
            continue;
        }
        let step = report.workflow.steps.get(key.step as usize).map_or("", |step| step.id.as_str());
        text.push_str(&format!("\nrounds of {step}[{}]\n", key.index));
        for round in rounds {
            let counts = [(round.solved.len(), "solved"), (round.still.len(), "still there"), (round.new.len(), "new")];
            let counts: Vec<String> =
                counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
            let counts = if counts.is_empty() { "no findings".to_owned() } else { counts.join(", ") };
            text.push_str(&format!("  revision {}: {counts}\n", round.revision));
            for (sign, findings) in [('-', &round.solved), ('=', &round.still), ('+', &round.new)] {
                for (gate, finding) in findings.iter().take(ROUND_FINDINGS_MAX) {
                    let path = finding.location.as_ref().map_or_else(String::new, |location| format!("{}: ", location.path));
                    let said = format!("{path}{} [{gate}/{}]", finding.message.lines().next().unwrap_or_default(), finding.rule);
                    text.push_str(&format!("    {sign} {}\n", crate::model::text::sanitize(&said, 300)));
                }
                if findings.len() > ROUND_FINDINGS_MAX {
                    text.push_str(&format!("    {sign} … {} more\n", findings.len() - ROUND_FINDINGS_MAX));
                }
            }
        }
    }
    text
}

/// What of a run waits, for what, and until when.
fn waits(report: &RunReport, now: Timestamp, held: bool) -> String {
    let mut text = String::new();
    let goes_on = matches!(report.status, "running" | "cancelling");
    if goes_on && !held {
        text.push_str(&format!("nobody runs it: `sandhog runs resume {}` goes on with it\n", report.run));
    }
    if let Some(reason) = report.paused_because.as_ref().filter(|_| report.status == "paused") {
        text.push_str(&format!("paused: {}; `sandhog runs resume {}` goes on\n", sanitize(reason, 2000), report.run));
    }
    for (key, task) in &report.tasks {
        let what = match (task.status, task.due_at) {
            (TaskStatus::Retrying, Some(due_at)) => {
                format!("is tried again in {:.1} s, at {}", between(now, due_at).as_secs_f64(), due_at.strftime("%H:%M:%S"))
            }
            (TaskStatus::Approving, _) => format!(
                "waits for `sandhog runs approve {0}`; `sandhog runs result {0} --approving --out FOLDER` writes what it made",
                report.run
            ),
            (TaskStatus::Paused, _) => "waits for the run to be resumed".to_owned(),
            (TaskStatus::DeadLettered, _) => "is a dead letter: `sandhog dead-letters list` shows what can be done".to_owned(),
            (TaskStatus::Pending | TaskStatus::Revising, _) => "waits for a free place".to_owned(),
            (TaskStatus::Running | TaskStatus::Validating | TaskStatus::Expanding, _) if goes_on => {
                if held {
                    "is under way".to_owned()
                } else {
                    "was under way when its host ended".to_owned()
                }
            }
            _ => continue,
        };
        text.push_str(&format!("{} {what}\n", report.name(*key)));
    }
    for (place, _) in report.steps.iter().enumerate().filter(|(_, step)| step.status == "waiting" && report.status == "running") {
        let of_step = &report.workflow.steps[place];
        let outstanding: Vec<&str> = of_step.needs.iter().flat_map(|need| outstanding(report, need)).collect();
        text.push_str(&format!("{} waits for {}\n", of_step.id, outstanding.join(", ")));
    }
    text
}

/// A step that is needed, where it has not completed, and those of its plan that have not.
fn outstanding<'r>(report: &'r RunReport, need: &'r str) -> Vec<&'r str> {
    let of_plan = |id: &str| id.strip_prefix(need).is_some_and(|rest| rest.starts_with(['/', '.']));
    let steps = report.workflow.steps.iter().zip(&report.steps);
    let open = steps.filter(|(step, state)| state.status != "completed" && (step.id == need || of_plan(&step.id)));
    open.map(|(step, _)| step.id.as_str()).collect()
}

async fn top(common: &Common) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let client = store.client().clone();
    let terminal = console::Term::stdout();
    let mut lines = 0;
    let mut head = 0;
    loop {
        let rows = store.runs(None, true, 50).await?;
        let text = if rows.is_empty() { "no runs under way\n".to_owned() } else { table(&rows, SystemClock.now()) };
        let text = match terminal.size_checked() {
            // A line that is wrapped would not be cleared as a whole.
            Some((_, width)) => text.lines().map(|line| console::truncate_str(line, width.into(), "…") + "\n").collect(),
            None => text,
        };
        if terminal.is_term() {
            let _ = terminal.clear_last_lines(lines);
        }
        lines = text.lines().count();
        out!("{text}");
        if !terminal.is_term() || rows.is_empty() {
            return Ok(Exit::Passed);
        }
        tokio::select! {
            grown = client.head(head, None) => match grown {
                Ok(grown) => head = grown.head,
                Err(_) => {
                    outln!("nobody runs them: `sandhog runs resume --open` goes on with them");
                    return Ok(Exit::Passed);
                }
            },
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {} // time passes without news too
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Passed),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

async fn events(common: &Common, run: Option<&str>, follow: bool, after: u64, json: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let only = match run {
        Some(run) => Some(find(&*store, run).await?),
        None => None,
    };
    let client = store.client().clone();
    let (mut printed, mut seq) = (0, after);
    let print = |record: &Record| match serde_json::to_string(record) {
        Ok(text) if json => outln!("{text}"),
        _ => outln!("{}  {}  {}  {}", record.seq, record.at, record.run, describe(&record.event)),
    };
    let (mut version, mut ended) = (1, false);
    if follow && store.is_remote() {
        let first = match &only {
            Some(run) => store.read(run, 1, 1).await?.first().map_or(0, |record| record.seq - 1), // nothing of it is before
            None => 0,
        };
        let query = StreamQuery { after: Some(after.max(first)), runs: only.map(|run| run.to_string()), ..StreamQuery::default() };
        let mut live = client.follow(query).give_up_after(AWAY_MAX);
        while !ended {
            tokio::select! {
                message = live.next() => if let Message::Record { record, .. } = message? {
                    print(&record);
                    if let Some(run) = only.as_ref().filter(|_| record.event.ends_the_run()) {
                        // A run that was opened again goes on behind its end.
                        ended = store.run(run).await?.is_none_or(|row| row.version == record.version);
                    }
                },
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
            }
        }
        return Ok(Exit::Passed);
    }
    loop {
        let records = match &only {
            Some(run) => store.read(run, version, READ_MAX).await?,
            None => store.after(seq, READ_MAX).await?,
        };
        let more = !records.is_empty();
        for record in records {
            (seq, version) = (record.seq.max(seq), record.version + 1);
            if record.seq <= after {
                continue;
            }
            print(&record);
            printed += 1;
            ended = only.is_some() && record.event.ends_the_run();
        }
        if more {
            if !follow && !json && printed >= LIST_MAX {
                errln!("… more behind --after {seq}");
                return Ok(Exit::Passed);
            }
            continue;
        }
        if !follow || ended {
            return Ok(Exit::Passed);
        }
        tokio::select! {
            head = client.head(seq, None) => match head {
                // Of another run, if this one has nothing new.
                Ok(grown) => seq = if only.is_some() { grown.head } else { seq },
                Err(_) => {
                    errln!("nobody holds the state directory: no more comes");
                    return Ok(Exit::Passed);
                }
            },
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
    }
}

/// An event in a few words, without what is known of its run.
fn describe(event: &Event) -> String {
    match event.task() {
        Some(task) => format!("{} {}/{}", event.name(), task.step, task.index),
        None => event.name().to_owned(),
    }
}

async fn logs(common: &Common, run: &str, step: Option<&str>, task: Option<u32>) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let run = find(&*store, run).await?;
    let mut report: Option<RunReport> = None;
    let mut found = false;
    each(&*store, run, async |record| {
        match &mut report {
            None => report = RunReport::begin(&record),
            Some(report) => report.add(&record),
        }
        let Some(report) = &report else { return Ok(()) };
        let only = step.and_then(|step| place(report, step).ok()); // one of a plan is known from there on
        if step.is_some() && only.is_none() {
            return Ok(());
        }
        let (key, who, attempt, log) = match &record.event {
            Event::AttemptCompleted { task, attempt, log, .. } | Event::AttemptFailed { task, attempt, log, .. } => {
                (task, report.workflow.steps[task.step as usize].worker.clone(), attempt, log)
            }
            Event::GateAnswered { task, gate, attempt, log, .. } | Event::GateFailed { task, gate, attempt, log, .. } => {
                (task, report.workflow.steps[task.step as usize].gates[*gate as usize].gate.clone(), attempt, log)
            }
            _ => return Ok(()),
        };
        let wanted = only.is_none_or(|only| key.step == only) && task.is_none_or(|task| key.index == task);
        if wanted && !log.is_empty() {
            found = true;
            outln!("{}/{} {who}, attempt {attempt}:", report.workflow.steps[key.step as usize].id, key.index);
            out!("{}", log_text(log));
        }
        Ok(())
    })
    .await?;
    if let (Some(report), Some(step)) = (&report, step) {
        place(report, step)?;
    }
    if !found {
        errln!("nothing was written");
    }
    Ok(Exit::Passed)
}

async fn result(common: &Common, run: &str, out: Option<PathBuf>, of: TaskStatus, json: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let run = find(&*store, run).await?;
    let report = fold(&*store, run).await?;
    if let Some(folder) = &out {
        let written = write(OutFolder::open(folder)?, &*store, &report, of).await?;
        if !json {
            errln!("wrote {} into {}", counted(written, "file"), folder.display());
        }
        if of == TaskStatus::Approving {
            return if written > 0 { Ok(Exit::Passed) } else { Err(Error::usage("nothing that waits for approval has files")) };
        }
    }
    if json {
        outln!("{}", report.to_json());
    } else {
        out!("{}", super::run::summary(&report));
        let (mut fuel, mut peak) = (0, 0);
        for place in 0..report.steps.len() as u32 {
            let (worker, gates) = report.usage_of(place);
            fuel += worker.fuel + gates.fuel;
            peak = peak.max(worker.peak_memory_bytes).max(gates.peak_memory_bytes);
        }
        outln!("fuel {}, largest peak {}", show_fuel(fuel), show_bytes(peak));
    }
    match report.status {
        "completed" => Ok(Exit::Passed),
        "failed" | "cancelled" => Ok(Exit::Failed),
        status => Err(Error::usage(format!("the run is {status}, and has no result yet"))),
    }
}

/// A step's place in its workflow.
fn place(report: &RunReport, step: &str) -> Result<u32, Error> {
    let found = report.workflow.steps.iter().position(|of| of.id == step);
    found.map(|place| place as u32).ok_or_else(|| {
        let ids: Vec<&str> = report.workflow.steps.iter().map(|of| of.id.as_str()).collect();
        Error::usage(format!("the run has no step `{step}`")).help(format!("one of {}", ids.join(", ")))
    })
}

async fn tell(common: &Common, run: &str, command: Command, done: &str) -> Result<Exit, Error> {
    let id = find(&*host::journal(common)?, run).await?;
    tell_id(common, id, command, done).await
}

/// Tells a run something, and says what is to be done where nobody runs it.
pub async fn tell_id(common: &Common, run: RunId, command: Command, done: &str) -> Result<Exit, Error> {
    let host::Told { held, refused } = host::command(common, vec![(run, command)]).await?;
    if let Some((_, error)) = refused.into_iter().next() {
        return Err(error);
    }
    outln!("{run}: {done}");
    let row = host::journal(common)?.run(&run).await?;
    if !held && row.is_some_and(|row| row.ended_at.is_none()) {
        errln!("nobody runs it: `sandhog runs resume {run}` goes on with it");
    }
    Ok(Exit::Passed)
}

async fn approve(common: &Common, arguments: ApproveArguments, approved: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let run = find(&*store, &arguments.run).await?;
    let report = fold(&*store, run).await?;
    let waiting: std::collections::BTreeSet<u32> =
        report.tasks.iter().filter(|(_, task)| task.status == TaskStatus::Approving).map(|(key, _)| key.step).collect();
    let step = match &arguments.step {
        Some(step) => place(&report, step)?,
        None => match waiting.iter().collect::<Vec<_>>()[..] {
            [step] => *step,
            [] => return Err(Error::usage("no result of that run waits for approval")),
            _ => {
                let ids: Vec<&str> = waiting.iter().map(|step| report.workflow.steps[*step as usize].id.as_str()).collect();
                return Err(Error::usage("results of several steps wait for approval").help(format!("--step one of {}", ids.join(", "))));
            }
        },
    };
    let step = report.workflow.steps[step as usize].id.clone();
    let command = Command::Approve { step, index: arguments.task, approved, comment: arguments.comment };
    drop(store);
    tell_id(common, run, command, if approved { "approved" } else { "refused" }).await
}

async fn resume(common: &Common, run: Option<&str>, open: bool, json: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let mut paused = 0;
    let wanted: Vec<(RunId, u64)> = match run {
        Some(run) if !open => {
            let run = find(&*store, run).await?;
            let row = store.run(&run).await?;
            if let Some(row) = row.as_ref().filter(|row| row.ended_at.is_some()) {
                let error = Error::usage(format!("the run is {} already", row.status));
                return Err(match row.status == RunStatus::Cancelled.as_str() {
                    true => error,
                    false => error.help("`sandhog runs retry` runs again what was given up"),
                });
            }
            vec![(run, row.map_or(0, |row| row.version))]
        }
        Some(_) | None => store
            .runs(None, true, 10_000)
            .await?
            .into_iter()
            .filter(|row| {
                let is_paused = row.status == RunStatus::Paused.as_str();
                paused += usize::from(is_paused);
                !is_paused
            })
            .map(|row| (row.run, row.version))
            .collect(),
    };
    drop(store);
    if wanted.is_empty() {
        match paused {
            0 => errln!("every run has ended"),
            1 => errln!("one run is paused, and every other one has ended: `sandhog runs resume RUN` goes on with it"),
            _ => errln!("{paused} runs are paused, and every other one has ended: `sandhog runs resume RUN` goes on with one"),
        }
        return Ok(Exit::Passed);
    }
    let watching = Watching { out: None, json, wait_timeout: None, logs: false };
    let have_resumed = async |client: Client| {
        for (run, _) in &wanted {
            match client.command(*run, &Command::Resume {}).await {
                // Of all that are open, one may end meanwhile: its story is told all the same.
                Err(error) if open && error.code() == Some(Code::Conflict) => {}
                told => drop(told?),
            }
        }
        Ok::<(), Error>(())
    };
    if let Some(client) = common.remote()? {
        have_resumed(client).await?;
        let seat = Seat::Theirs(Box::new(host::journal(common)?));
        return follow_all(&seat, &wanted, &watching).await.map(|(exit, _)| exit);
    }
    let context = Arc::new(common.open(None)?);
    match Host::hold(common, context, Offer::default()).await {
        Err(HoldError::Failed(error)) => Err(error),
        Err(HoldError::Held(client)) => {
            have_resumed(client).await?;
            let seat = Seat::Theirs(Box::new(host::journal(common)?));
            follow_all(&seat, &wanted, &watching).await.map(|(exit, _)| exit)
        }
        Ok(held) => {
            for (run, _) in &wanted {
                match held.handle.resume(*run).await {
                    // It ended when what the host before was executing was put on record: its story is told all the same.
                    Ok(()) | Err(manager::Error::Rejected(Rejection::RunIsOver(_))) => {}
                    Err(error) => return leave(common, held, &[], json, Err(error.into())).await,
                }
            }
            let seat = Seat::Ours(held.handle.clone());
            let ended = follow_all(&seat, &wanted, &watching).await;
            let runs: Vec<RunId> = wanted.iter().map(|(run, _)| *run).collect();
            leave(common, held, &runs, json, ended).await
        }
    }
}

/// Watches runs to their ends, one after another: what they did meanwhile is told then. With each, its version so far.
async fn follow_all(seat: &Seat, runs: &[(RunId, u64)], watching: &Watching) -> Result<(Exit, super::run::Ended), Error> {
    let mut worst = (Exit::Passed, super::run::Ended::ByItself);
    for (run, known) in runs {
        let (exit, ended) = watch(seat, *run, *known, watching, None).await?;
        if exit != Exit::Passed {
            worst.0 = exit;
        }
        if ended != super::run::Ended::ByItself {
            return Ok((exit, ended));
        }
    }
    Ok(worst)
}
