//! `sandhog check` and `sandhog baseline`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::context::{Common, Context};
use super::exit::{Error, Exit};
use super::git::Tracked;
use super::output::{replace, replace_beside};
use super::trust::{self, Policy};
use crate::check::baseline::{self, Baseline};
use crate::check::tree::{self, Tree};
use crate::check::{self, Options, Outcome, Report, Watch, fix};
use crate::config::check::{CheckSettings, glob, globs};
use crate::config::manifest::DATA_BASELINE;
use crate::config::settings::FILE_NAME;
use crate::judge::Judge;
use crate::model::Severity;
use crate::model::text::counted;
use crate::registry::verdicts::Verdicts;
use crate::report::check as report;

/// How many gates' instances are alive at once, for each core.
const PARTS_PER_CORE: usize = 2;
/// The largest baseline that is read, in bytes.
const BASELINE_BYTES_MAX: u64 = 64 << 20;
/// How many rounds of fixes are made: a fix may make room for another one.
const FIX_ROUNDS_MAX: usize = 10;
/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// In which form a report is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people: by file, with the lines
    Human,
    /// One object with everything
    Json,
    /// SARIF 2.1.0, for GitHub code scanning and others
    Sarif,
    /// JUnit XML
    Junit,
    /// Annotations for GitHub's log, and the summary of the step
    Github,
}

/// What is judged, and by what.
#[derive(Debug, clap::Args)]
struct Subject {
    /// Directories and files to judge [default: the current directory]
    paths: Vec<PathBuf>,
    /// Judge by this configuration, wherever the directory has its own
    #[arg(long, value_name = "FILE", env = "SANDHOG_POLICY", conflicts_with = "policy_from")]
    policy: Option<PathBuf>,
    /// Judge by the sandhog.toml of this commit or branch: for CI, where the pull request may change it
    #[arg(long, value_name = "BASE", env = "SANDHOG_POLICY_FROM")]
    policy_from: Option<String>,
    /// Only these gates, by name; may be repeated
    #[arg(long, value_name = "GATE", value_delimiter = ',')]
    gate: Vec<String>,
    /// Judge no file that fits this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Judge everything anew, whatever is known from before
    #[arg(long)]
    no_cache: bool,
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The sandhog.toml of the directory counts only after `sandhog trust`, or by --policy or --policy-from: who wrote\n\
what is judged does not say how. Without one, the standard gates that fit the files judge.\n\n\
Examples:\n  sandhog check\n  sandhog check ../stranger --format sarif --output findings.sarif\n  sandhog check --changed main --policy-from main --format github")]
pub struct CheckArguments {
    #[command(flatten)]
    subject: Subject,
    /// Judge only files that differ from this commit or branch, and new ones [default: HEAD]
    #[arg(long, value_name = "BASE", num_args = 0..=1, default_missing_value = "HEAD", require_equals = false)]
    changed: Option<String>,
    /// Findings of the baseline do not count
    #[arg(long)]
    new_only: bool,
    /// The baseline [default: sandhog-baseline.json beside a sandhog.toml that counts]
    #[arg(long, value_name = "FILE", requires = "new_only")]
    baseline: Option<PathBuf>,
    /// Findings of this severity and above reject, for gates that have no threshold of their own
    #[arg(long, value_name = "SEVERITY", env = "SANDHOG_FAIL_ON", value_parser = severity)]
    fail_on: Option<Severity>,
    /// Exit with 0 though gates reject; a gate that could not answer still fails
    #[arg(long)]
    exit_zero: bool,
    /// Make the fixes that keep what the program means, after all gates have ended
    #[arg(long)]
    fix: bool,
    /// Make also fixes that may change what the program means
    #[arg(long, requires = "fix")]
    unsafe_fixes: bool,
    /// The form of the report; with --output in pairs, as often as needed
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Vec<Format>,
    /// Where the report of the --format before it goes; - for standard output
    #[arg(long, value_name = "FILE|-")]
    output: Vec<PathBuf>,
    /// For each --output, how many --format stand before it.
    #[arg(skip)]
    formats_before: Vec<usize>,
    /// Show what is excused, and gates that had nothing to judge, too
    #[arg(long)]
    all: bool,
    /// Give up after so long, such as 10m; exit with 124
    #[arg(long, value_name = "SPAN")]
    wait_timeout: Option<String>,
}

/// Commands of `baseline`.
#[derive(Debug, clap::Subcommand)]
pub enum BaselineCommand {
    /// Judge, and write what is found and measured as the baseline
    Update {
        #[command(flatten)]
        subject: BaselineSubject,
    },
    /// Say what is in the baseline: findings by gate and rule, and figures
    Show {
        /// The directory, or the file
        #[arg(default_value = ".")]
        path: PathBuf,
    },
}

/// What `baseline update` judges.
#[derive(Debug, clap::Args)]
pub struct BaselineSubject {
    #[command(flatten)]
    subject: Subject,
    /// Take in what gates measured in this run, in place of judging a directory; the rest stays as it is
    #[arg(long, value_name = "RUN", conflicts_with_all = ["paths", "gate", "exclude", "policy", "policy_from", "no_cache"])]
    run: Option<String>,
    /// Where it is written [default: sandhog-baseline.json in the directory]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn severity(text: &str) -> Result<Severity, String> {
    text.parse().map_err(|()| "expected one of info, low, medium, high, critical".to_owned())
}

/// Everything that a check needs, made ready.
struct Ready {
    context: Context,
    settings: CheckSettings,
    tree: Tree,
    /// What of the tree is to be judged; none: all of it.
    only: Option<Vec<PathBuf>>,
    /// Whether all of it is judged, by all of its gates.
    whole: bool,
    judge: Judge,
    notes: Vec<String>,
    /// Where the settings are, if any count.
    folder: Option<PathBuf>,
    /// Whether gates are given a baseline.
    has_baseline: bool,
    /// The baseline of a revision, for as long as it is needed.
    _kept: Option<tempfile::TempDir>,
}

/// The link on the way to a path that lies in the repository one stands in and leads out of it, and that repository.
fn leads_out_of(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let root = super::git::root(&std::env::current_dir().ok()?.canonicalize().ok()?);
    root.join(".git").symlink_metadata().ok()?;
    // By its parts, since a link with a slash behind it is taken for what it leads to.
    let absolute: PathBuf = std::path::absolute(path).ok()?.components().collect();
    let leads_out = |link: &&Path| {
        let is_inside = link.is_symlink()
            && link.parent().and_then(|folder| folder.canonicalize().ok()).is_some_and(|folder| folder.starts_with(&root));
        is_inside && link.canonicalize().is_ok_and(|target| !target.starts_with(&root))
    };
    let link = absolute.ancestors().find(leads_out)?.to_owned();
    Some((link, root))
}

fn ready(common: &Common, subject: &Subject, changed: Option<&str>, baseline: Option<&Path>) -> Result<Ready, Error> {
    let here = PathBuf::from(".");
    let paths = if subject.paths.is_empty() { std::slice::from_ref(&here) } else { &subject.paths };
    let parent = |path: &Path| path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(&here).to_owned();
    if let Some((link, root)) = paths.iter().find_map(|path| leads_out_of(path)) {
        let message = format!("{} is a link that leads out of the repository at {}", link.display(), root.display());
        return Err(Error::usage(message).help("name what it leads to, if that is to be judged"));
    }
    // Whose settings count, what is seen where none do, and what of it is judged.
    let (folder, seen, mut only) = match paths {
        [one] if one.is_dir() => (one.clone(), one.clone(), None),
        [one] if is_of_project(one, &here) => (parent(one), here.clone(), Some(vec![one.clone()])),
        [one] => (parent(one), parent(one), Some(vec![one.clone()])),
        many => (here.clone(), here.clone(), Some(many.to_vec())),
    };
    let Policy { mut settings, folder: policy_folder, root, mut notes } =
        trust::policy(common, subject.policy.as_deref(), subject.policy_from.as_deref(), &folder)?;
    // Configurations of engines lie at the root of a project: the snapshot is of the project, the judgement of the part.
    let root = root.unwrap_or_else(|| super::git::root(&seen.canonicalize().unwrap_or(seen)));
    if only.is_none() && root.canonicalize().ok() != folder.canonicalize().ok() {
        only = Some(vec![folder.clone()]);
    }
    if let Some(base) = changed {
        let inside = |path: &PathBuf| only.as_ref().is_none_or(|only| only.iter().any(|part| within(path, part)));
        only = Some(super::git::here(&root)?.changed(&root, base)?.into_iter().filter(inside).collect());
    }
    for pattern in &subject.exclude {
        glob(pattern).map_err(|error| Error::usage(format!("--exclude {pattern}: {error}")))?;
        settings.check.exclude.push(pattern.clone());
    }
    // What was known is not judged: it names what it excuses.
    if let Some(folder) = &policy_folder
        && folder.canonicalize().ok() == root.canonicalize().ok()
    {
        settings.check.exclude.push(format!("/{}", settings.check.baseline.as_deref().unwrap_or(baseline::FILE_NAME)));
    }
    let named = baseline.and_then(|file| file.canonicalize().ok()).zip(root.canonicalize().ok());
    if let Some(inside) = named.as_ref().and_then(|(file, root)| file.strip_prefix(root).ok()?.to_str()) {
        settings.check.exclude.push(format!("/{}", globset::escape(inside)));
    }
    settings.plugins.splice(0..0, common.plugins.iter().cloned());
    if let Some(folder) = common.gates.as_ref().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(Error::usage(format!("--gates {}: there is no such folder", folder.display())));
    }
    if settings.plugins.is_empty() && common.standard_gates().is_none() {
        return Err(Error::usage("there are no gates: no standard ones beside the sandhog binary, and no plugin folder is named")
            .help("build them with scripts/gates, or name their folder with --gates FOLDER"));
    }
    let tree = read_tree(&root, only.as_deref(), &settings.check.exclude, &mut notes)?;
    if let Some(base) = changed.filter(|_| tree.files.is_empty() && tree.unjudged.is_empty()) {
        notes.push(format!("nothing that is to be judged differs from {}", crate::model::text::sanitize(base, 200)));
    }
    if tree.links > 0 && subject.paths.iter().all(|path| path.is_dir()) {
        notes
            .push(format!("{} not followed", if tree.links == 1 { "1 link was".to_owned() } else { format!("{} links were", tree.links) }));
    }
    if tree.root.join(".sandhog").exists() && policy_folder.is_none() {
        notes.push("the directory brings a .sandhog of its own: nothing of it is used".to_owned());
    }
    let check_settings = settings.check.clone();
    let mut kept = None;
    if let (Some(folder), false) = (&policy_folder, settings.data.contains_key(DATA_BASELINE)) {
        let name = check_settings.baseline.as_deref().unwrap_or(baseline::FILE_NAME);
        match &subject.policy_from {
            // As it stands there, not as the working tree has it.
            Some(base) => {
                if let Ok(text) = super::git::here(folder)?.show(folder, base, name) {
                    let place = tempfile::tempdir().map_err(|error| Error::engine(format!("no temporary folder: {error}")))?;
                    let file = place.path().join(baseline::FILE_NAME);
                    std::fs::write(&file, text).map_err(|error| Error::engine(format!("{}: {error}", file.display())))?;
                    settings.data.insert(DATA_BASELINE.to_owned(), file);
                    kept = Some(place);
                }
            }
            None if folder.join(name).is_file() => {
                settings.data.insert(DATA_BASELINE.to_owned(), folder.join(name));
            }
            None => {}
        }
    }
    // One that is named is for the gates too, which compare figures.
    if let Some(file) = baseline.filter(|file| file.is_file()) {
        settings.data.insert(DATA_BASELINE.to_owned(), file.to_owned());
    }
    let named: Vec<String> = settings.data.keys().cloned().collect();
    let has_baseline = named.iter().chain(common.data.iter().map(|(name, _)| name)).any(|name| name == DATA_BASELINE);
    let context = common.open_with(None, settings)?;
    let shelf = context.registry.shelf();
    for name in common.data.iter().map(|(name, _)| name).chain(&named) {
        let asked = || shelf.plugins.values().flat_map(|entry| entry.manifest.data.keys().map(String::as_str));
        if asked().any(|known| known == name) {
            continue;
        }
        let meant = crate::model::text::did_you_mean(name, asked()).map(|meant| format!("did you mean `{meant}`?"));
        if common.data.iter().any(|(given, _)| given == name) {
            let error = Error::usage(format!("--data {name}: no plugin asks for data of this name"));
            return Err(meant.into_iter().fold(error, |error, meant| error.help(meant)));
        }
        notes.push(format!(
            "[data] {name}: no plugin asks for data of this name{}",
            meant.map_or_else(String::new, |meant| format!("; {meant}"))
        ));
    }
    for entry in &shelf.shadowed {
        if let Some(by) = shelf.plugins.get(&entry.name) {
            notes.push(format!("{} stands in the place of {}", shown(&by.path), shown(&entry.path)));
        }
    }
    for (name, held) in &shelf.held {
        notes.push(format!("{name} is not judged by {}: {}", shown(&held.entry.path), crate::model::text::sanitize(&held.reason, 400)));
    }
    notes.extend(shelf.disabled.keys().map(|name| format!("{name} is disabled, and judges nothing")));
    for (path, bad) in &shelf.bad {
        notes.push(format!("{} is no plugin: {}", shown(path), crate::model::text::sanitize(&bad.to_string(), 400)));
    }
    let verdicts = match common.cache_folder().filter(|_| !subject.no_cache) {
        Some(folder) => match Verdicts::open(&folder) {
            Ok(verdicts) => Some(Arc::new(verdicts)),
            Err(error) => {
                tracing::warn!(%error, "verdicts are not kept");
                None
            }
        },
        None => None,
    };
    let cores = common.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |threads| threads as usize);
    let judge = Judge::new(context.runtime.clone(), Arc::clone(&context.registry), cores * PARTS_PER_CORE, verdicts);
    let whole = only.is_none() && subject.gate.is_empty();
    Ok(Ready { context, settings: check_settings, tree, only, whole, judge, notes, folder: policy_folder, has_baseline, _kept: kept })
}

/// Whether a file is of the same working tree as a folder that it lies in.
fn is_of_project(file: &Path, folder: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let pair = real(folder).zip(file.parent().and_then(real));
    pair.is_some_and(|(folder, beside)| trust::is_same_tree(&folder, &beside))
}

/// A path that somebody else may have named, as text that is safe to show.
fn shown(path: &Path) -> String {
    crate::model::text::sanitize(&path.to_string_lossy(), 400)
}

fn within(path: &Path, part: &Path) -> bool {
    matches!((path.canonicalize(), part.canonicalize()), (Ok(path), Ok(part)) if path.starts_with(&part))
}

fn plan(ready: &Ready, only: &[String]) -> Result<check::Plan, Error> {
    let mut plan = check::plan(&ready.context.registry, &ready.settings, &ready.tree, only).map_err(Error::usage)?;
    if only.is_empty() {
        return Ok(plan);
    }
    let is = |name: &str, set: Option<&str>| only.iter().any(|only| only == name || Some(only.as_str()) == set);
    let sets: Vec<String> = ready.context.registry.plugins().iter().filter_map(|entry| entry.manifest.set.clone()).collect();
    for name in only {
        let known = plan.chosen.iter().map(|chosen| chosen.name.as_str()).chain(plan.skipped.iter().map(|(name, _)| name.as_str()));
        if let Some((_, why)) = plan.ungiven.iter().find(|(gate, _)| gate == name) {
            return Err(Error::usage(format!("--gate {name}: {why}")));
        }
        let all: Vec<&str> = known.chain(sets.iter().map(String::as_str)).collect();
        if !all.contains(&name.as_str()) {
            let error = Error::usage(format!("--gate {name}: no gate of this check is called so"));
            return Err(match crate::model::text::did_you_mean(name, all.iter().copied()) {
                Some(meant) => error.help(format!("did you mean `{meant}`?")),
                None if ready.context.registry.find(name).is_ok() => {
                    error.help("there is such a plugin; a [[gate]] for it in the configuration makes it one of this check")
                }
                None => error.help(format!("it has {}", all.join(", "))),
            });
        }
    }
    plan.idle.retain(|idle| is(&idle.name, None));
    plan.chosen.retain(|chosen| is(&chosen.name, chosen.entry.manifest.set.as_deref()));
    plan.skipped.retain(|(name, _)| is(name, None));
    let set = |name: &str| ready.context.registry.find(name).ok().and_then(|entry| entry.manifest.set.clone());
    plan.ungiven.retain(|(name, _)| is(name, set(name).as_deref()));
    Ok(plan)
}

/// Checks.
pub fn check(common: &Common, arguments: &CheckArguments) -> Result<Exit, Error> {
    let outputs = outputs(arguments)?;
    let timeout = match &arguments.wait_timeout {
        Some(text) => Some(crate::model::limits::parse_duration(text).map_err(|error| Error::usage(format!("--wait-timeout: {error}")))?),
        None => None,
    };
    let mut ready = ready(common, &arguments.subject, arguments.changed.as_deref(), arguments.baseline.as_deref())?;
    let known = known(arguments, &ready)?;
    let until = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let mut rounds = 0;
    loop {
        let plan = plan(&ready, &arguments.subject.gate)?;
        let (report, ended) = run(&ready, plan, arguments.fail_on, known.clone(), until)?;
        let again = arguments.fix
            && ended == Ended::ByItself
            && rounds < FIX_ROUNDS_MAX
            && make_fixes(&report, &ready.tree, arguments.unsafe_fixes);
        if again {
            rounds += 1;
            ready.tree = read_tree(&ready.tree.root, ready.only.as_deref(), &ready.settings.exclude, &mut Vec::new())?;
            continue;
        }
        let mut report = report;
        report.notes.extend(unmeasured(&ready, &report));
        report.notes.extend(uncompared(&ready, &report));
        for (format, output) in &outputs {
            write(*format, output.as_deref(), &report, &ready.tree, arguments.all)?;
        }
        return Ok(match (ended, report.outcome()) {
            (Ended::Interrupted, _) => Exit::Interrupted,
            (Ended::TimedOut, _) => Exit::TimedOut,
            (Ended::ByItself, Outcome::Passed) => Exit::Passed,
            (Ended::ByItself, Outcome::Failed) if arguments.exit_zero && only_rejected(&report) => Exit::Passed,
            (Ended::ByItself, Outcome::Failed) => Exit::Failed,
            (Ended::ByItself, Outcome::Misconfigured) => Exit::Usage,
            (Ended::ByItself, Outcome::HostFailed) => Exit::Engine,
            (Ended::ByItself, Outcome::NothingChecked) if arguments.changed.is_some() => Exit::Passed,
            (Ended::ByItself, Outcome::NothingChecked) => Exit::NothingChecked,
        });
    }
}

fn only_rejected(report: &Report) -> bool {
    !report.gates.iter().any(|gate| matches!(gate.outcome, check::GateOutcome::Failed { allowed: false, .. }))
}

/// How many files of patterns that do not count are told of by name.
const UNCOUNTED_TOLD: usize = 5;

/// The tree, with what git tracks in it. That git's index cannot be read is told as a file that nobody judged: what is hidden there
/// would pass.
pub fn read_tree(root: &Path, only: Option<&[PathBuf]>, exclude: &[String], notes: &mut Vec<String>) -> Result<Tree, Error> {
    let tracked = super::git::Repository::of(root);
    let tracked = tracked.and_then(|repository| repository.map_or_else(|| Ok(Tracked::default()), |git| git.tracked_within(root)));
    let (Tracked { paths: also, unknown }, problem) = match tracked {
        Ok(tracked) => (tracked, None),
        Err(error) => (Tracked::default(), Some(error.text())),
    };
    let mut tree = tree::read(root, only, &globs(exclude), &also)?;
    for (module, problem) in unknown {
        let module = crate::model::text::sanitize(&module.to_string_lossy(), 400);
        tree.unjudged.push((module, format!("what git tracks in it although .gitignore names it is not known: {problem}")));
    }
    if let Some(problem) = problem {
        if super::git::is_installed() {
            tree.unjudged.push((".git".to_owned(), format!("what git tracks although .gitignore names it is not known: {problem}")));
        } else {
            notes.push("there is no git here: files that .gitignore names are not judged, though the repository may track them".to_owned());
        }
    }
    let more = tree.uncounted.len().saturating_sub(UNCOUNTED_TOLD);
    notes.extend(tree.uncounted.iter().take(UNCOUNTED_TOLD).cloned());
    notes.extend((more > 0).then(|| format!("nor do those of {} more", counted(more, ".gitignore"))));
    Ok(tree)
}

/// Makes the fixes, and says so: whether there were any.
fn make_fixes(report: &Report, tree: &Tree, also_unsafe: bool) -> bool {
    let fixed = fix::fix(report, tree, also_unsafe);
    if fixed.made > 0 {
        let made = if fixed.made == 1 { "1 fix".to_owned() } else { format!("{} fixes", fixed.made) };
        errln!("made {made} in {}", counted(fixed.files.len(), "file"));
    }
    // Once, when no more are made: in each round before they are the same.
    for (path, reason) in fixed.failed.iter().filter(|_| fixed.made == 0) {
        errln!("not fixed: {}: {reason}", crate::model::text::sanitize(path, 400));
    }
    fixed.made > 0
}

impl CheckArguments {
    /// Whether standard output is to be JSON, and so what goes wrong, too.
    pub fn json(&self) -> bool {
        outputs(self).map_or_else(|_| self.format.contains(&Format::Json), |pairs| pairs.contains(&(Format::Json, None)))
    }

    /// Notes which --output belongs to which --format: that is in their order, which the values alone do not tell.
    pub fn note_order(&mut self, matches: &clap::ArgMatches) {
        let at = |name: &str| matches.indices_of(name).into_iter().flatten().collect::<Vec<usize>>();
        let formats = at("format");
        self.formats_before = at("output").into_iter().map(|output| formats.iter().filter(|format| **format < output).count()).collect();
    }
}

/// The pairs of --format and --output; a format without an output goes to standard output.
fn outputs(arguments: &CheckArguments) -> Result<Vec<(Format, Option<PathBuf>)>, Error> {
    if arguments.format.is_empty() && !arguments.output.is_empty() {
        return Err(Error::usage("--output without a --format").help("say which: --format sarif --output findings.sarif"));
    }
    let formats = if arguments.format.is_empty() { vec![Format::Human] } else { arguments.format.clone() };
    let mut pairs: Vec<(Format, Option<PathBuf>)> = formats.into_iter().map(|format| (format, None)).collect();
    let mut taken = vec![false; pairs.len()];
    for (output, before) in arguments.output.iter().zip(&arguments.formats_before) {
        // The format before it; where none is, the first.
        let of = before.saturating_sub(1);
        if std::mem::replace(&mut taken[of], true) {
            let help = "write --format FORMAT --output FILE in pairs, such as --format sarif --output findings.sarif";
            return Err(Error::usage("there are two --output for one --format").help(help));
        }
        pairs[of].1 = Some(output.clone()).filter(|path| path.as_os_str() != "-");
    }
    if pairs.iter().filter(|(_, output)| output.is_none()).count() > 1 {
        return Err(Error::usage("several reports would be mixed on standard output").help("give all but one of them an --output FILE"));
    }
    for (place, (_, output)) in pairs.iter().enumerate() {
        if let Some(output) = output
            && pairs[..place].iter().any(|(_, earlier)| earlier.as_ref() == Some(output))
        {
            let help = "give each --format an --output of its own";
            return Err(Error::usage(format!("--output: two reports would go to {}", output.display())).help(help));
        }
        if let Some(parent) = output.as_deref().and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
            return Err(Error::usage(format!("--output: there is no folder {}", parent.display())));
        }
    }
    Ok(pairs)
}

/// The baseline, where findings of one do not count.
fn known(arguments: &CheckArguments, ready: &Ready) -> Result<Option<Baseline>, Error> {
    if !arguments.new_only {
        return Ok(None);
    }
    let path = match (&arguments.baseline, &ready.folder) {
        (Some(path), _) => path.clone(),
        // One from a revision is read there, not from the working tree that is judged.
        (None, Some(folder)) => match &arguments.subject.policy_from {
            Some(base) => {
                let name = ready.settings.baseline.as_deref().unwrap_or(baseline::FILE_NAME);
                let text = super::git::here(folder)?.show(folder, base, name)?;
                return Baseline::read(&text).map(Some).map_err(|error| Error::usage(format!("{base}:{name}: {error}")));
            }
            None => folder.join(ready.settings.baseline.as_deref().unwrap_or(baseline::FILE_NAME)),
        },
        (None, None) => {
            return Err(Error::usage("--new-only: no baseline counts here")
                .help("name one with --baseline FILE; or, where there is a sandhog.toml (`sandhog init` writes one), say `sandhog trust` after `sandhog baseline update`"));
        }
    };
    read_baseline(&path).map(Some)
}

/// Figures that nobody compares with earlier ones.
fn uncompared(ready: &Ready, report: &Report) -> Option<String> {
    let measured: Vec<&check::GateReport> = report.gates.iter().filter(|gate| gate.compares && !gate.metrics.is_empty()).collect();
    let figures = measured.iter().map(|gate| gate.metrics.len()).sum::<usize>();
    let gates: Vec<&str> = measured.iter().map(|gate| gate.name.as_str()).collect();
    (!ready.has_baseline && figures > 0).then(|| {
        let figures = counted(figures, "figure");
        let advice = if ready.tree.root.join(baseline::FILE_NAME).is_file() {
            format!("{} counts with --baseline, or beside a trusted sandhog.toml", baseline::FILE_NAME)
        } else {
            "`sandhog baseline update` writes one".to_owned()
        };
        format!("{figures} of {} compared with no baseline: {advice}", gates.join(", "))
    })
}

/// What the baseline has figures of and a whole check has not: a benchmark that is gone is judged by nobody.
fn unmeasured(ready: &Ready, report: &Report) -> Option<String> {
    let folder = ready.folder.as_ref().filter(|_| ready.whole)?;
    let known = read_baseline(&folder.join(ready.settings.baseline.as_deref().unwrap_or(baseline::FILE_NAME))).ok()?;
    let is_measured = |plugin: &str, name: &str| {
        report.gates.iter().any(|gate| gate.plugin == plugin && gate.metrics.iter().any(|metric| metric.name == name))
    };
    // Those of the set judge a tree; others judge the attempts of a workflow.
    let judges_trees = |plugin: &str| ready.context.registry.find(plugin).is_ok_and(|entry| entry.manifest.set.is_some());
    let gone: Vec<String> = known
        .metrics()
        .filter(|(plugin, name, ..)| judges_trees(plugin) && !is_measured(plugin, name))
        .map(|(plugin, name, ..)| crate::model::text::sanitize(&format!("{plugin} {name}"), 200))
        .collect();
    let (first, more) = (gone.first()?, gone.len() - 1);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("in the baseline, and not measured any more: {first}{more}; `sandhog baseline update` forgets what is gone"))
}

fn read_baseline(path: &Path) -> Result<Baseline, Error> {
    let target = std::fs::canonicalize(path).map_err(|error| {
        Error::usage(format!("the baseline {} cannot be read: {error}", path.display())).help("`sandhog baseline update` writes one")
    })?;
    let bytes = crate::registry::intake::read(&target, BASELINE_BYTES_MAX)
        .map_err(|error| Error::usage(format!("the baseline {}: {error}", path.display())))?;
    Baseline::read(&String::from_utf8_lossy(&bytes)).map_err(|error| Error::usage(format!("{}: {error}", path.display())))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    ByItself,
    Interrupted,
    TimedOut,
}

fn run(
    ready: &Ready,
    plan: check::Plan,
    fail_on: Option<Severity>,
    known: Option<Baseline>,
    until: Option<tokio::time::Instant>,
) -> Result<(Report, Ended), Error> {
    let bar = Bar::new(super::is_live());
    let cancel = tokio_util::sync::CancellationToken::new();
    let options = Options { fail_on, baseline: known, today: super::context::today(), whole: ready.whole, cancel: cancel.clone() };
    let (mut report, ended) = super::block_on(async {
        let work = check::check(&ready.context.registry, &ready.judge, &ready.settings, &ready.tree, plan, options, &bar);
        tokio::pin!(work);
        let up = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            report = &mut work => (report, Ended::ByItself),
            _ = tokio::signal::ctrl_c() => {
                cancel.cancel();
                (work.await, Ended::Interrupted)
            }
            () = up => {
                cancel.cancel();
                (work.await, Ended::TimedOut)
            }
        }
    })?;
    bar.finish();
    report.notes.splice(0..0, ready.notes.iter().cloned());
    Ok((report, ended))
}

fn write(format: Format, output: Option<&Path>, report: &Report, tree: &Tree, all: bool) -> Result<(), Error> {
    let pretty = |value: &serde_json::Value| format!("{value:#}\n");
    let text = match format {
        Format::Human => report::human(report, tree, output.is_none() && super::colour(&std::io::stdout()), all),
        Format::Json => pretty(&report::json(report)),
        Format::Sarif => pretty(&report::sarif(report, tree)),
        Format::Junit => report::junit(report),
        Format::Github => {
            step_summary(report)?;
            report::annotations(report)
        }
    };
    match output {
        None => super::try_out(&text).map_err(|error| Error::engine(format!("standard output: {error}")))?,
        Some(path) => replace_beside(&tree.root, path, text.as_bytes())?,
    }
    Ok(())
}

/// GitHub's summary of this step, where it is asked for.
fn step_summary(report: &Report) -> Result<(), Error> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()).map(PathBuf::from) else { return Ok(()) };
    let write = || std::fs::File::options().append(true).create(true).open(&path)?.write_all(report::step_summary(report).as_bytes());
    write().map_err(|error| Error::engine(format!("GITHUB_STEP_SUMMARY: {} cannot be written: {error}", path.display())))
}

/// Does what a `baseline` command asks for.
pub fn baseline(common: &Common, command: BaselineCommand) -> Result<Exit, Error> {
    match command {
        BaselineCommand::Show { path } => {
            let file = if path.is_dir() { path.join(baseline::FILE_NAME) } else { path };
            let known = read_baseline(&file)?;
            for ((gate, rule), count) in known.by_rule() {
                outln!("{count:>6}  {gate}/{}", crate::model::text::sanitize(rule, 200));
            }
            outln!("{} in {}", counted(known.len(), "finding"), file.display());
            for (plugin, name, value, unit) in known.metrics() {
                outln!("{value:>16} {unit:<6}  {plugin}  {}", crate::model::text::sanitize(name, 200));
            }
            Ok(Exit::Passed)
        }
        BaselineCommand::Update { subject: BaselineSubject { run: Some(run), output, .. } } => {
            let context = common.open(Some(1))?;
            let compares = |gate: &str| context.registry.find(gate).is_ok_and(|entry| entry.manifest.data.contains_key(DATA_BASELINE));
            let path = output.unwrap_or_else(|| PathBuf::from(baseline::FILE_NAME));
            let mut known = if path.exists() { read_baseline(&path)? } else { Baseline::default() };
            let mut count = 0;
            for (gate, metric) in super::runs::metrics(common, &run)?.into_iter().filter(|(gate, _)| compares(gate)) {
                known.record(&gate, &[metric]);
                count += 1;
            }
            if count == 0 {
                return Err(Error::usage("no gate of this run compares figures with a baseline; nothing was written")
                    .help("such a gate is perf-receipt: { gate = \"perf-receipt\", usage = true, params = { max_regression = \"2%\" } }"));
            }
            replace(&path, known.text().as_bytes())?;
            outln!("{}: {} taken in", path.display(), counted(count, "figure"));
            Ok(Exit::Passed)
        }
        BaselineCommand::Update { subject: BaselineSubject { subject, output, run: None } } => {
            let ready = ready(common, &subject, None, Some(output.as_deref().unwrap_or(Path::new(baseline::FILE_NAME))))?;
            let (report, ended) = run(&ready, plan(&ready, &subject.gate)?, None, None, None)?;
            if ended == Ended::Interrupted {
                return Ok(Exit::Interrupted);
            }
            if report.outcome() == Outcome::NothingChecked {
                write(Format::Human, None, &report, &ready.tree, true)?;
                return Ok(Exit::NothingChecked);
            }
            if !only_rejected(&report) {
                write(Format::Human, None, &report, &ready.tree, false)?;
                return Err(Error::usage("a gate could not answer, so the baseline would be incomplete; nothing was written"));
            }
            let name = ready.settings.baseline.as_deref().unwrap_or(baseline::FILE_NAME);
            let path = output.unwrap_or_else(|| ready.tree.root.join(name));
            let folder = ready.tree.root.clone();
            let was_trusted = folder.join(FILE_NAME).is_file() && trust::is_trusted(&folder)?;
            let is_part = ready.only.is_some() || !subject.gate.is_empty() || !subject.exclude.is_empty();
            let mut known = Baseline::of(&report);
            let unmeasured: Vec<(&str, &String)> =
                report.gates.iter().flat_map(|gate| gate.unmeasured.iter().map(|part| (gate.name.as_str(), part))).collect();
            if is_part && path.exists() {
                known.keep_others(read_baseline(&path)?, &report, &ready.tree);
            } else if !unmeasured.is_empty() && path.exists() {
                known.keep_unmeasured(read_baseline(&path)?, &report);
            }
            replace_beside(&ready.tree.root, &path, known.text().as_bytes())?;
            if was_trusted {
                trust::renew(&folder)?;
            }
            for (gate, part) in unmeasured {
                errln!(
                    "{gate}: {} was not measured, see `sandhog check`; figures of it that were there before stay",
                    crate::model::text::sanitize(part, 200)
                );
            }
            let figures = known.metrics().count();
            let figures = if figures > 0 { format!(", {}", counted(figures, "figure")) } else { String::new() };
            outln!("{}: {}{figures}", path.display(), counted(known.len(), "finding"));
            if ready.folder.is_none() {
                errln!(
                    "it counts with --new-only --baseline {}; without --baseline, once there is a trusted sandhog.toml: sandhog init, sandhog trust",
                    path.display()
                );
            }
            Ok(Exit::Passed)
        }
    }
}

/// Progress: a bar on a terminal, else a line when something takes long.
struct Bar {
    bar: Option<ProgressBar>,
    length: Mutex<u64>,
}

impl Bar {
    fn new(live: bool) -> Self {
        let bar = live.then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len}  {elapsed}  {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TURN);
            bar
        });
        Self { bar, length: Mutex::new(0) }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Bar {
    fn compiling(&self, gate: &str) {
        let text = format!("{gate}: compiled for its first use; this may take a minute");
        match &self.bar {
            Some(bar) => bar.println(text),
            None => errln!("{text}"),
        }
    }

    fn parts(&self, gate: &str, parts: usize) {
        if let Some(bar) = &self.bar {
            let mut length = self.length.lock().unwrap_or_else(PoisonError::into_inner);
            *length += parts as u64;
            bar.set_length(*length);
            bar.set_message(gate.to_owned());
        }
    }

    fn done(&self, gate: &str) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(gate.to_owned());
        }
    }
}
