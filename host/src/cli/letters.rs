//! `sandhog dead-letters`: tasks that were given up and set aside, until a person deals with them.

use serde_json::json;

use super::context::Common;
use super::exit::{Error, Exit};
use super::host::{self, find};
use crate::api::{Command, TaskName};
use crate::journal::{DeadLetter, READ_MAX, Store, each_dead_letter};
use crate::machine::Event;
use crate::manager;
use crate::model::text::{continued, sanitize, sanitize_lines};
use crate::model::{RunId, Workflow};
use crate::report::SCHEMA_VERSION;

/// How much of the reason of a dead letter is printed, in bytes.
const REASON_BYTES_MAX: usize = 64 << 10;

/// What of dead letters.
#[derive(Debug, clap::Subcommand)]
pub enum LettersCommand {
    /// List dead letters
    List {
        #[command(flatten)]
        filter: Filter,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a dead letter with its input and everything that happened to it
    Show {
        /// Which, as `list` prints it: RUN/STEP/TASK
        letter: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have dead letters run again
    Requeue(Choice),
    /// Want no more of dead letters; their run stays as it ended
    Discard(Choice),
}

/// Which dead letters.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Only of this run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only of this step
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    /// Only those whose reason has this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// One, or those that a filter names.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["letter", "run", "workflow", "step", "reason", "all"]))]
pub struct Choice {
    /// Which, as `list` prints it: RUN/STEP/TASK
    #[arg(conflicts_with_all = ["run", "workflow", "step", "reason", "all"])]
    letter: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Every one
    #[arg(long, conflicts_with_all = ["run", "workflow", "step", "reason"])]
    all: bool,
}

impl LettersCommand {
    /// Whether errors are printed as JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::List { json, .. } | Self::Show { json, .. } => *json,
            Self::Requeue(_) | Self::Discard(_) => false,
        }
    }
}

/// Does as told.
pub fn letters(common: &Common, command: LettersCommand) -> Result<Exit, Error> {
    super::block_on(async {
        match command {
            LettersCommand::List { filter, json } => list(common, &filter, json).await,
            LettersCommand::Show { letter, json } => show(common, &letter, json).await,
            LettersCommand::Requeue(choice) => deal(common, choice, "to be run again", |tasks| Command::Retry { tasks }).await,
            LettersCommand::Discard(choice) => deal(common, choice, "discarded", |tasks| Command::Discard { tasks }).await,
        }
    })?
}

async fn matching(store: &dyn Store, filter: &Filter) -> Result<Vec<DeadLetter>, Error> {
    let run = match &filter.run {
        Some(run) => Some(find(store, run).await?),
        None => None,
    };
    let fits = |letter: &DeadLetter| {
        filter.workflow.as_ref().is_none_or(|workflow| *workflow == letter.workflow)
            && filter.step.as_ref().is_none_or(|step| *step == letter.step)
            && filter.reason.as_ref().is_none_or(|reason| letter.reason.text().contains(reason.as_str()))
    };
    let mut letters = Vec::new();
    each_dead_letter(store, run, |letter| letters.extend(fits(&letter).then_some(letter))).await?;
    Ok(letters)
}

fn name(letter: &DeadLetter) -> String {
    format!("{}/{}/{}", letter.run, letter.step, letter.task.index)
}

async fn list(common: &Common, filter: &Filter, json: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let letters = matching(&*store, filter).await?;
    if json {
        let letters = letters.iter().map(|letter| {
            json!({
                "letter": name(letter),
                "run": letter.run,
                "workflow": letter.workflow,
                "step": letter.step,
                "task": letter.task.index,
                "at": letter.at,
                "reason": letter.reason,
            })
        });
        outln!("{}", json!({ "schema_version": SCHEMA_VERSION, "dead_letters": letters.collect::<Vec<_>>() }));
        return Ok(Exit::Passed);
    }
    if letters.is_empty() {
        outln!("no dead letters");
    }
    for letter in &letters {
        outln!("{}  {}  {}", name(letter), letter.at.strftime("%Y-%m-%d %H:%M:%S"), sanitize(&letter.reason.text(), 200));
    }
    Ok(Exit::Passed)
}

/// The dead letter that a name means.
async fn one(store: &dyn Store, text: &str) -> Result<DeadLetter, Error> {
    let expected =
        || Error::usage(format!("`{text}` names no dead letter")).help("expected RUN/STEP/TASK, as `sandhog dead-letters list` prints it");
    let parts = text.split_once('/').and_then(|(run, rest)| Some((run, rest.rsplit_once('/')?))); // a step's name may have some
    let Some((run, (step, task))) = parts else { return Err(expected()) };
    let task: u32 = task.parse().map_err(|_| expected())?;
    let run = find(store, run).await?;
    let mut found = None;
    let is_it = |letter: &DeadLetter| letter.step == step && letter.task.index == task;
    each_dead_letter(store, Some(run), |letter| found = found.take().or_else(|| is_it(&letter).then_some(letter))).await?;
    found.ok_or_else(expected)
}

async fn show(common: &Common, letter: &str, as_json: bool) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let letter = one(&*store, letter).await?;
    let (mut history, mut inputs, mut foreach) = (Vec::new(), Vec::new(), Vec::new());
    let mut version = 1;
    loop {
        let records = store.read(&letter.run, version, READ_MAX).await?;
        let Some(last) = records.last() else { break };
        version = last.version + 1;
        for record in records {
            match &record.event {
                Event::StepStarted { step, inputs: list, .. } if *step == letter.task.step => {
                    inputs = manager::inputs_of(&*store, list).await?;
                }
                Event::RunStarted { workflow: Workflow { steps, .. }, .. } | Event::PlanAccepted { steps, .. } => {
                    foreach.extend(steps.iter().map(|step| step.foreach));
                }
                _ => {}
            }
            if record.event.task() == Some(letter.task) {
                history.push(record);
            }
        }
    }
    if foreach.get(letter.task.step as usize) == Some(&true)
        && let Some(own) = inputs.get(letter.task.index as usize).cloned()
    {
        inputs = vec![own];
    }
    if as_json {
        let inputs: Vec<_> =
            inputs.iter().map(|input| json!({ "name": input.name, "size_bytes": input.size_bytes, "digest": input.digest })).collect();
        outln!(
            "{}",
            json!({ "schema_version": SCHEMA_VERSION, "letter": name(&letter), "reason": letter.reason, "inputs": inputs, "history": history })
        );
        return Ok(Exit::Passed);
    }
    outln!("{} of {}", name(&letter), letter.workflow);
    outln!(
        "given up at {}: {}",
        letter.at.strftime("%Y-%m-%d %H:%M:%S"),
        continued(&sanitize_lines(&letter.reason.text(), REASON_BYTES_MAX))
    );
    for input in &inputs {
        outln!("input {} ({} bytes, {})", input.name, input.size_bytes, input.digest);
    }
    for record in &history {
        outln!("{}  {}", record.at.strftime("%H:%M:%S%.3f"), serde_json::to_string(&record.event).unwrap_or_default());
    }
    outln!("run it again: sandhog dead-letters requeue {}", name(&letter));
    Ok(Exit::Passed)
}

async fn deal(common: &Common, choice: Choice, done: &str, command: impl Fn(Vec<TaskName>) -> Command) -> Result<Exit, Error> {
    let store = host::journal(common)?;
    let letters = match &choice.letter {
        Some(letter) => vec![one(&*store, letter).await?],
        None => matching(&*store, &choice.filter).await?,
    };
    drop(store);
    let mut by_run: std::collections::BTreeMap<RunId, Vec<TaskName>> = std::collections::BTreeMap::new();
    for letter in &letters {
        by_run.entry(letter.run).or_default().push(TaskName { step: letter.step.clone(), index: letter.task.index });
    }
    if by_run.is_empty() {
        outln!("no dead letters");
        return Ok(Exit::Passed);
    }
    let runs: Vec<RunId> = by_run.keys().copied().collect();
    let of_several = runs.len() > 1;
    let commands = by_run.into_iter().map(|(run, tasks)| (run, command(tasks))).collect();
    let host::Told { held, mut refused } = host::command(common, commands).await?;
    let was_refused: Vec<RunId> = refused.iter().map(|(run, _)| *run).collect();
    for letter in letters.iter().filter(|letter| !was_refused.contains(&letter.run)) {
        outln!("{}: {done}", name(letter));
    }
    let store = host::journal(common)?;
    for run in runs.into_iter().filter(|run| !was_refused.contains(run)) {
        if !held && store.run(&run).await?.is_some_and(|row| row.ended_at.is_none()) {
            errln!("nobody runs it: `sandhog runs resume {run}` goes on with it");
        }
    }
    if of_several {
        for (run, error) in &refused {
            errln!("{run}: {}", sanitize(&error.text(), 1000));
        }
    }
    match refused.is_empty() {
        true => Ok(Exit::Passed),
        false => Err(refused.swap_remove(0).1),
    }
}
