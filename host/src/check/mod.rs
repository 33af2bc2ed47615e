//! A directory, judged by gates: which gates fit, what each says, and whether all of it passes.
//!
//! Gates run side by side, each over its own files of one snapshot. The judged tree does not judge itself: what counts
//! is the settings that were handed in, never what lies in the tree.

pub mod baseline;
pub mod fix;
mod ignored;
pub mod mask;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use globset::GlobSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Stopwatch;
use crate::config::check::{CheckSettings, FILE_BYTES_DEFAULT, GateSettings, Ignore, globs};
use crate::config::manifest::DATA_BASELINE;
use crate::judge::{Judge, Part, Scope, Told};
use crate::machine::policy::{self, Judgement};
use crate::model::limits::show_bytes;
use crate::model::text::{counted, did_you_mean, sanitize};
use crate::model::{
    Blame, Decision, Digest, Failure, FailureKind, Finding, Location, Log, Metric, Receipt, Severity, Subject, SubjectFile, Verdict,
};
use crate::registry::{Entry, Error as RegistryError, Registry, intake};
use crate::runtime::{Call, Kind};

use baseline::Baseline;
use tree::Tree;

/// The name under which the host itself reports files that no gate was shown.
pub const HOST_GATE: &str = "sandhog";

/// A gate that will judge, and what.
#[derive(Debug)]
pub struct Chosen {
    /// What it is called in reports.
    pub name: String,
    /// The plugin.
    pub entry: Arc<Entry>,
    /// What the configuration says of it.
    pub settings: GateSettings,
    /// Its files, by their places in [`Tree::files`].
    files: Vec<usize>,
    /// Why it was chosen.
    pub why: String,
}

/// A gate that a configuration names, and that has nothing to judge.
#[derive(Debug)]
pub struct Idle {
    /// Where it is named, as `file:line`.
    pub place: String,
    /// What it is called.
    pub name: String,
    /// What its files have to fit.
    pub patterns: String,
}

/// What gates will judge a tree.
#[derive(Debug, Default)]
pub struct Plan {
    /// Those that will.
    pub chosen: Vec<Chosen>,
    /// Those that have nothing to judge, and why.
    pub skipped: Vec<(String, String)>,
    /// Gates that a configuration names one by one, and whose patterns fit no file.
    pub idle: Vec<Idle>,
    /// Those that would judge and were not given what they need, and what that is.
    pub ungiven: Vec<(String, String)>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A gate of the configuration is not there.
    #[error("there is no gate, and no set of gates, named `{name}`{}", .meant.as_ref().map_or_else(String::new, |meant| format!("; did you mean `{meant}`?")))]
    NoSuchGate {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        meant: Option<String>,
    },
    /// A plugin that is named as a gate is none, or is bad.
    #[error(transparent)]
    Plugin(#[from] RegistryError),
    /// Params that its schema does not allow.
    #[error("`{gate}` does not take these params: {}", problems.join("; "))]
    Unfit {
        /// The gate.
        gate: String,
        /// What is wrong with them.
        problems: Vec<String>,
    },
    /// What is wrong with a `[[gate]]`, and where that is written.
    #[error("{place}: {error}")]
    At {
        /// As `file:line`.
        place: String,
        /// What is wrong.
        error: Box<PlanError>,
    },
    /// Params for a set: its gates take different ones.
    #[error("`{set}` is a set of gates, and `{field}` is for one: write a [[gate]] of its own for each gate that needs it")]
    SetWith {
        /// The set.
        set: String,
        /// The field.
        field: &'static str,
    },
}

/// Chooses the gates: those of the configuration, or those that fit the files. Gates that do not judge by themselves are
/// among the latter only where they are `named`.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(registry: &Registry, check: &CheckSettings, tree: &Tree, named: &[String]) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    if check.gates.is_empty() {
        for entry in registry.plugins().iter().filter(|entry| entry.kind != Kind::Worker && entry.manifest.set.is_some()) {
            if entry.manifest.automatic || named.contains(&entry.name) {
                let settings = GateSettings { gate: entry.name.clone(), ..GateSettings::default() };
                plan.add_if_given(registry, entry, settings, tree, None)?;
            }
        }
        return Ok(plan);
    }
    let alone: BTreeSet<&str> = check.gates.iter().map(|gate| gate.gate.as_str()).collect();
    for gate in &check.gates {
        plan.add_named(registry, gate, &alone, tree).map_err(|error| match &gate.place {
            Some(place) => PlanError::At { place: place.clone(), error: Box::new(error) },
            None => error,
        })?;
    }
    Ok(plan)
}

impl Plan {
    /// Adds what a `[[gate]]` names: a gate, or a set but for those of it that have a `[[gate]]` of their own.
    fn add_named(&mut self, registry: &Registry, gate: &GateSettings, alone: &BTreeSet<&str>, tree: &Tree) -> Result<(), PlanError> {
        let members = registry.set(&gate.gate);
        if members.is_empty() {
            let entry = match registry.find(&gate.gate) {
                Ok(entry) => entry,
                Err(RegistryError::NotFound { .. }) => {
                    let plugins = registry.plugins();
                    let sets = plugins.iter().filter_map(|entry| entry.manifest.set.as_deref());
                    let names = plugins.iter().filter(|entry| entry.kind != Kind::Worker).map(|entry| entry.name.as_str());
                    let meant = did_you_mean(&gate.gate, names.chain(sets)).map(str::to_owned);
                    return Err(PlanError::NoSuchGate { name: gate.gate.clone(), meant });
                }
                Err(error) => return Err(error.into()),
            };
            if entry.kind == Kind::Worker {
                return Err(RegistryError::WrongKind { name: entry.name.clone(), found: entry.kind, needed: "gate" }.into());
            }
            registry.data(&entry)?;
            let problems = registry.params_problems(&entry, &gate.params)?;
            if !problems.is_empty() {
                return Err(PlanError::Unfit { gate: entry.name.clone(), problems });
            }
            return self.add(registry, entry, gate.clone(), tree, None);
        }
        let given = [("params", !gate.params.is_empty()), ("name", gate.name.is_some()), ("files", !gate.files.is_empty())];
        if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
            return Err(PlanError::SetWith { set: gate.gate.clone(), field });
        }
        for entry in members {
            if !alone.contains(entry.name.as_str()) {
                let settings = GateSettings { gate: entry.name.clone(), ..gate.clone() };
                self.add_if_given(registry, &entry, settings, tree, Some(&gate.gate))?;
            }
        }
        Ok(())
    }

    /// Adds a gate that nobody named: one that has not what it needs is passed over, and the report says so.
    fn add_if_given(
        &mut self,
        registry: &Registry,
        entry: &Arc<Entry>,
        settings: GateSettings,
        tree: &Tree,
        set: Option<&str>,
    ) -> Result<(), PlanError> {
        match registry.data(entry) {
            Ok(_) => self.add(registry, Arc::clone(entry), settings, tree, set)?,
            Err(RegistryError::NoData { data, why, .. }) => {
                let (chosen, skipped) = (self.chosen.len(), self.skipped.len());
                self.add(registry, Arc::clone(entry), settings, tree, set)?;
                if self.chosen.len() > chosen {
                    self.chosen.truncate(chosen);
                    let (why, data) = (sanitize(&why, 400), sanitize(&data, 100));
                    self.ungiven.push((entry.name.clone(), format!("it needs {why}: --data {data}=PATH names it")));
                    self.skipped.truncate(skipped);
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn add(
        &mut self,
        registry: &Registry,
        entry: Arc<Entry>,
        settings: GateSettings,
        tree: &Tree,
        set: Option<&str>,
    ) -> Result<(), PlanError> {
        registry.limits(&entry, &settings.limits)?;
        let name = settings.name.clone().unwrap_or_else(|| entry.name.clone());
        let patterns = if settings.files.is_empty() { &entry.manifest.files } else { &settings.files };
        let (include, exclude) = (globs(patterns), globs(&settings.exclude));
        let scripts: &[String] = if settings.files.is_empty() { &entry.manifest.interpreters } else { &[] };
        let is_script = |at: usize| !scripts.is_empty() && tree.interpreter(at).is_some_and(|name| scripts.iter().any(|own| own == name));
        let fits = |at: usize| {
            let name = &tree.files[at].0;
            (patterns.is_empty() || include.is_match(name) || is_script(at)) && !exclude.is_match(name)
        };
        let files: Vec<usize> = (0..tree.files.len()).filter(|at| fits(*at)).collect();
        let shown: Vec<String> = patterns.iter().cloned().chain(scripts.iter().map(|name| format!("#! {name}"))).collect();
        let shown = if patterns.is_empty() { "any file".to_owned() } else { sanitize(&shown.join(", "), 400) };
        if files.is_empty() {
            if let (Some(place), None) = (settings.place, set) {
                self.idle.push(Idle { place, name: name.clone(), patterns: shown.clone() });
            }
            self.skipped.push((name, format!("no file fits {shown}")));
            return Ok(());
        }
        let set = set.map_or_else(String::new, |set| format!("of the set {set}: "));
        let many = counted(files.len(), "file");
        let why = match (patterns.is_empty(), files.len()) {
            (true, _) => format!("{set}{many} of any kind"),
            (false, 1) => format!("{set}{many} fits {shown}"),
            (false, _) => format!("{set}{many} fit {shown}"),
        };
        self.chosen.push(Chosen { name, entry, settings, files, why });
        Ok(())
    }
}

/// Why a finding does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excused {
    /// It is in the baseline.
    Baseline,
    /// An `[[ignore]]` covers it; the text is its reason.
    Ignored(String),
}

/// One finding, and whether it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the gate said.
    pub finding: Finding,
    /// Why it does not count; none when it does.
    pub excused: Option<Excused>,
    /// The unit that it is about, by its place in [`GateReport::units`].
    pub unit: Option<usize>,
    /// Whether its part gave figures: what a gate that compares says of figures is over once they are taken in.
    pub is_measured: bool,
}

/// How a gate ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateOutcome {
    /// It let everything through.
    Passed,
    /// It said no.
    Rejected,
    /// It could not answer, for a part of its files at least: the first reason, and of which part.
    Failed {
        /// The file or unit; empty for the whole.
        part: String,
        /// Why.
        failure: Failure,
        /// How many parts went without an answer.
        parts: usize,
        /// The configuration lets that pass.
        allowed: bool,
    },
}

/// What one gate said.
#[derive(Debug, Clone)]
pub struct GateReport {
    /// What it is called.
    pub name: String,
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: Option<String>,
    /// The digest of its component.
    pub digest: Digest,
    /// Why it was chosen.
    pub why: String,
    /// How it ended.
    pub outcome: GateOutcome,
    /// Whether it compares its figures with those of a baseline.
    pub compares: bool,
    /// Whether what it finds is about security.
    pub security: bool,
    /// Whether it refuses the params that the configuration has for it.
    pub misconfigured: bool,
    /// From which severity on a finding rejects; none: the gate's own verdict decides.
    pub fail_on: Option<Severity>,
    /// What it found, by path, place and rule.
    pub findings: Vec<Found>,
    /// Figures.
    pub metrics: Vec<Metric>,
    /// Parts that it rejected without a figure, where it compares figures.
    pub unmeasured: Vec<String>,
    /// Its units, each with its outcome, where it has units.
    pub units: Vec<UnitReport>,
    /// One line.
    pub summary: String,
    /// What it used, over all of its parts.
    pub receipt: Receipt,
    /// How many files it judged.
    pub files: usize,
    /// How many parts there were.
    pub parts: usize,
    /// How many of them were known from before.
    pub kept: usize,
}

/// What came of one unit.
#[derive(Debug, Clone)]
pub struct UnitReport {
    /// Its name.
    pub name: String,
    /// Whether it passed, or why there is no answer.
    pub outcome: Result<Decision, Failure>,
    /// What the gate says of it in a line; one that was not to be judged begins with `skipped`.
    pub summary: String,
    /// What it wrote.
    pub log: Log,
    /// What it used.
    pub receipt: Receipt,
}

impl UnitReport {
    /// Why it was not to be judged, where that is so.
    #[must_use]
    pub fn skipped(&self) -> Option<&str> {
        (self.outcome == Ok(Decision::Pass)).then(|| self.summary.strip_prefix("skipped"))?.map(|why| why.trim_start_matches(':').trim())
    }
}

/// What came of a check.
#[derive(Debug, Clone)]
pub struct Report {
    /// Every gate, in its order.
    pub gates: Vec<GateReport>,
    /// Gates that had nothing to judge, and why.
    pub skipped: Vec<(String, String)>,
    /// How many files there were to judge.
    pub files: usize,
    /// What the user should know beside.
    pub notes: Vec<String>,
    /// How long it took.
    pub wall_time: Duration,
    /// `[[ignore]]`s that are over: they count no more, and the check fails for them.
    pub expired: Vec<Ignore>,
    /// Texts that no report shows.
    pub masked: mask::Secrets,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was judged passed.
    Passed,
    /// A gate rejected, or could not answer.
    Failed,
    /// A gate refuses its params.
    Misconfigured,
    /// The host failed in a gate's place.
    HostFailed,
    /// No gate had anything to judge.
    NothingChecked,
}

impl Report {
    /// What it came to.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let host = |gate: &GateReport| matches!(&gate.outcome, GateOutcome::Failed { failure, allowed: false, .. } if failure.kind == FailureKind::Host);
        let bad = |gate: &GateReport| !matches!(gate.outcome, GateOutcome::Passed | GateOutcome::Failed { allowed: true, .. });
        if self.gates.iter().any(|gate| gate.misconfigured) {
            Outcome::Misconfigured
        } else if self.gates.iter().any(|gate| bad(gate) && !host(gate)) || !self.expired.is_empty() {
            Outcome::Failed
        } else if self.gates.iter().any(host) {
            Outcome::HostFailed
        } else if self.gates.is_empty() {
            Outcome::NothingChecked
        } else {
            Outcome::Passed
        }
    }

    /// Every finding, with its gate.
    pub fn findings(&self) -> impl Iterator<Item = (&GateReport, &Found)> {
        self.gates.iter().flat_map(|gate| gate.findings.iter().map(move |found| (gate, found)))
    }
}

/// What a check is done with, beside its plan.
#[derive(Debug, Default)]
pub struct Options {
    /// Over the thresholds of gates that name none.
    pub fail_on: Option<Severity>,
    /// Findings that were there before.
    pub baseline: Option<Baseline>,
    /// For `[[ignore]]`s that end.
    pub today: jiff::civil::Date,
    /// Whether all is judged, by all gates, so that an `[[ignore]]` without a finding has no use.
    pub whole: bool,
    /// Ends the check.
    pub cancel: CancellationToken,
}

/// Is told how far a check has come.
pub trait Watch: Sync {
    /// A gate has to be compiled before its first use, which takes a while.
    fn compiling(&self, gate: &str);
    /// A gate has so many parts more.
    fn parts(&self, gate: &str, parts: usize);
    /// One part of a gate is done.
    fn done(&self, gate: &str);
}

/// Judges a tree as planned.
pub async fn check(
    registry: &Registry,
    judge: &Judge,
    check: &CheckSettings,
    tree: &Tree,
    plan: Plan,
    options: Options,
    watch: &dyn Watch,
) -> Report {
    let started = Stopwatch::start();
    let bytes_max = check.file_bytes_max.unwrap_or(FILE_BYTES_DEFAULT);
    let mut baseline = options.baseline;
    let gates = futures_util::future::join_all(
        plan.chosen.iter().map(|chosen| gate(registry, judge, tree, chosen, bytes_max, &options.cancel, watch)),
    )
    .await;
    let (current, expired): (Vec<&Ignore>, Vec<&Ignore>) =
        check.ignores.iter().partition(|ignore| ignore.expires.is_none_or(|day| day >= options.today));
    let current: Vec<Excuse<'_>> = current.into_iter().map(Excuse::of).collect();
    let mut raws: Vec<Raw> = unjudged(tree).into_iter().chain(gates).collect();
    // Before anything is compared with a baseline: that has no secret either.
    let masked = mask::secrets(&raws, tree);
    raws.iter_mut().filter(|_| !masked.is_empty()).for_each(|raw| mask::hide(raw, &masked));
    let mut notes: Vec<String> = plan.ungiven.iter().map(|(gate, why)| format!("{gate} did not judge: {why}")).collect();
    let mut reports = Vec::with_capacity(raws.len());
    for mut raw in raws {
        notes.extend(raw.note.take());
        raw.report.fail_on = raw.report.fail_on.or(check.fail_on).or(options.fail_on);
        reports.push(settle(raw, &current, baseline.as_mut()));
    }
    if options.whole {
        let idle = |excuse: &&Excuse<'_>| {
            !reports.iter().any(|report| report.findings.iter().any(|found| excuse.covers(&report.name, &found.finding)))
        };
        let told = |Excuse { ignore, .. }: &Excuse<'_>| {
            format!("{}: this [[ignore]] of {} covers no finding", ignore.place, sanitize(&ignore.rule, 200))
        };
        notes.extend(current.iter().filter(idle).map(told));
        notes.extend(
            plan.idle.iter().map(|Idle { place, name, patterns }| format!("{place}: {name} judged nothing: no file fits {patterns}")),
        );
    }
    Report {
        gates: reports,
        skipped: plan.skipped,
        files: tree.files.len(),
        notes,
        wall_time: started.elapsed(),
        expired: expired.into_iter().cloned().collect(),
        masked,
    }
}

/// What a gate said, before anything is excused.
struct Raw {
    report: GateReport,
    findings: Vec<RawFinding>,
    /// A part of it was rejected, and nothing was said of why: that is never excused.
    bare_no: bool,
    allow_error: bool,
    masked: bool,
    failed: Vec<(String, Failure)>,
    /// What the user should know beside.
    note: Option<String>,
}

struct RawFinding {
    finding: Finding,
    unit: Option<usize>,
    /// Whether the part that it is of was rejected.
    of_no: bool,
    is_measured: bool,
}

/// Files that could not be shown to any gate, as findings of the host's own.
fn unjudged(tree: &Tree) -> Option<Raw> {
    if tree.unjudged.is_empty() {
        return None;
    }
    let finding = |(path, reason): &(String, String)| Finding {
        rule: "not-judged".to_owned(),
        severity: Severity::Medium,
        message: format!("no gate was shown this file: {reason}"),
        location: Some(Location { path: path.clone(), span: None }),
        suggestion: Some("rename or remove it, or exclude it in [check] of sandhog.toml".to_owned()),
        help_url: None,
        fix: None,
    };
    let findings: Vec<Finding> = tree.unjudged.iter().map(finding).collect();
    let summary = format!("{} cannot be judged", counted(findings.len(), "file"));
    let report = GateReport {
        name: HOST_GATE.to_owned(),
        plugin: HOST_GATE.to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        digest: Digest::from_bytes([0; 32]),
        why: "files that cannot be judged".to_owned(),
        outcome: GateOutcome::Rejected,
        compares: false,
        security: false,
        misconfigured: false,
        fail_on: None,
        findings: Vec::new(),
        metrics: Vec::new(),
        unmeasured: Vec::new(),
        units: Vec::new(),
        summary: summary.clone(),
        receipt: Receipt::default(),
        files: findings.len(),
        parts: 0,
        kept: 0,
    };
    let findings = findings.into_iter().map(|finding| RawFinding { finding, unit: None, of_no: true, is_measured: false }).collect();
    Some(Raw { report, findings, bare_no: false, allow_error: false, masked: false, failed: Vec::new(), note: None })
}

async fn gate(
    registry: &Registry,
    judge: &Judge,
    tree: &Tree,
    chosen: &Chosen,
    bytes_max: u64,
    cancel: &CancellationToken,
    watch: &dyn Watch,
) -> Raw {
    let entry = &chosen.entry;
    let mut report = GateReport {
        name: chosen.name.clone(),
        plugin: entry.name.clone(),
        version: entry.manifest.version.clone(),
        digest: entry.digest,
        why: chosen.why.clone(),
        outcome: GateOutcome::Passed,
        compares: entry.manifest.data.contains_key(DATA_BASELINE),
        security: entry.manifest.security,
        misconfigured: false,
        fail_on: chosen.settings.fail_on,
        findings: Vec::new(),
        metrics: Vec::new(),
        unmeasured: Vec::new(),
        units: Vec::new(),
        summary: String::new(),
        receipt: Receipt::default(),
        files: 0,
        parts: 0,
        kept: 0,
    };
    let (mut bare_no, mut findings) = (false, Vec::new());
    let (mut failed, mut note) = (Vec::new(), None);
    match call(registry, chosen, watch) {
        Err(failure) => failed.push((String::new(), failure)),
        Ok(call) => {
            let (files, too_large, unseen) = files(tree, chosen, bytes_max);
            note = unseen;
            // What nobody looked at has not passed.
            findings.extend(too_large.into_iter().map(|finding| RawFinding { finding, unit: None, of_no: true, is_measured: false }));
            report.files = files.len();
            let subject = Subject {
                files,
                snapshot: Arc::clone(&tree.snapshot),
                params: serde_json::Value::Object(chosen.settings.params.clone()).to_string().into(),
                ..Subject::default()
            };
            let told = |told| match told {
                Told::Parts(parts) => watch.parts(&chosen.name, parts),
                Told::Done => watch.done(&chosen.name),
            };
            let judged = judge.judge(entry, subject, Call { cancel: cancel.clone(), ..call }, &told).await;
            report.parts = judged.parts.len();
            let mut unmeasured = Vec::new();
            for Part { name, file, attempt, kept } in judged.parts {
                report.receipt.add(&attempt.receipt);
                report.kept += usize::from(kept);
                let unit = (judged.scope == Scope::Unit).then_some(report.units.len());
                if unit.is_some() {
                    let outcome = attempt.result.as_ref().map(|verdict| verdict.decision).map_err(Clone::clone);
                    let summary = attempt.result.as_ref().map_or_else(|_| String::new(), |verdict| verdict.summary.clone());
                    report.units.push(UnitReport { name: name.clone(), outcome, summary, log: attempt.log, receipt: attempt.receipt });
                }
                match attempt.result {
                    Ok(said) => {
                        let of_no = said.decision == Decision::Fail;
                        let is_measured = !said.metrics.is_empty();
                        bare_no |= of_no && said.findings.is_empty();
                        if of_no && !is_measured {
                            unmeasured.push(name);
                        }
                        findings.extend(said.findings.into_iter().map(|finding| RawFinding { finding, unit, of_no, is_measured }));
                        report.metrics.extend(said.metrics);
                        report.summary = said.summary;
                    }
                    Err(failure) if unit.is_some() && failure.kind.blame() == Blame::Guest => {
                        let said = crate::judge::unit_failed(&name, &file, &failure);
                        findings.extend(said.findings.into_iter().map(|finding| RawFinding {
                            finding,
                            unit,
                            of_no: true,
                            is_measured: false,
                        }));
                        unmeasured.push(name);
                    }
                    Err(failure) => failed.push((name, failure)),
                }
            }
            if report.compares {
                report.unmeasured = unmeasured;
            }
            // A gate mends what it was shown to judge, and nothing else.
            let own: HashSet<&str> = chosen.files.iter().map(|at| tree.files[*at].0.as_str()).collect();
            for finding in findings.iter_mut().map(|found| &mut found.finding) {
                if finding.location.as_ref().is_none_or(|location| !own.contains(location.path.as_str())) {
                    finding.fix = None;
                }
            }
            if judged.scope != Scope::Tree {
                report.summary = format!("{} in {}", counted(findings.len(), "finding"), counted(report.files, "file"));
            }
        }
    }
    let mut allow_error = chosen.settings.allow_error;
    // Params that do not fit are refused for each part alike: that is one mistake, and none of a file's.
    if let (Some(place), false, Some((_, failure))) = (&chosen.settings.place, chosen.settings.params.is_empty(), failed.first())
        && report.parts == failed.len()
        && failed.iter().all(|(_, other)| other == failure)
        && failure.kind == FailureKind::InvalidInput
    {
        let failure = Failure::new(FailureKind::InvalidInput, format!("{place}: {}", failure.message));
        failed = vec![(String::new(), failure)];
        report.misconfigured = true;
        allow_error = false;
    }
    Raw { report, findings, bare_no, allow_error, masked: entry.manifest.masked, failed, note }
}

fn call(registry: &Registry, chosen: &Chosen, watch: &dyn Watch) -> Result<Call, Failure> {
    let entry = &chosen.entry;
    let grant = registry.grant(entry).map_err(|error| crate::judge::refusal(&error))?;
    let limits = registry.limits(entry, &chosen.settings.limits).map_err(|error| crate::judge::refusal(&error))?;
    if !registry.is_compiled(entry) {
        watch.compiling(&chosen.name);
    }
    Ok(Call { limits, grant: Arc::new(grant), ..Call::default() })
}

/// The rule of files that are too large to be judged one by one.
const TOO_LARGE: &str = "too-large";

/// The files of a gate, a finding for each that is too large for it, and a note of those that are data and no text: a gate for
/// files of any kind is not asked about a large picture, and nobody has to exclude it.
fn files(tree: &Tree, chosen: &Chosen, bytes_max: u64) -> (Vec<SubjectFile>, Vec<Finding>, Option<String>) {
    let (mut files, mut findings, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
    let is_for_any = chosen.entry.manifest.files.is_empty() && chosen.settings.files.is_empty();
    for (path, size_bytes) in chosen.files.iter().map(|at| &tree.files[*at]) {
        if crate::judge::scope(&chosen.entry) == Scope::Tree || *size_bytes <= bytes_max {
            files.push(SubjectFile { path: path.clone(), size_bytes: *size_bytes, media_type: String::new() });
        } else if is_for_any && intake::is_binary(&tree.root.join(path)) {
            unseen.push(path);
        } else {
            findings.push(Finding {
                rule: TOO_LARGE.to_owned(),
                severity: Severity::Medium,
                message: format!("{size_bytes} bytes are more than the {bytes_max} that are judged, so nobody has looked at it"),
                location: Some(Location { path: path.clone(), span: None }),
                suggestion: Some("exclude it from this gate, or raise `file_size` in [check] of sandhog.toml".to_owned()),
                help_url: None,
                fix: None,
            });
        }
    }
    let note = unseen.first().map(|first| {
        let more = if unseen.len() > 1 { format!(" and {} more", unseen.len() - 1) } else { String::new() };
        format!("{} did not look at {}{more}: data of more than {}", chosen.name, sanitize(first, 200), show_bytes(bytes_max))
    });
    (files, findings, note)
}

/// Excuses what is excused, and decides.
fn settle(raw: Raw, excuses: &[Excuse<'_>], baseline: Option<&mut Baseline>) -> GateReport {
    let Raw { mut report, mut findings, bare_no, allow_error, masked: _, failed, note: _ } = raw;
    findings.sort_by(|a, b| order(&a.finding).cmp(&order(&b.finding)));
    let mut baseline = baseline;
    let (mut counting, mut decision) = (Vec::new(), Decision::Pass);
    for RawFinding { finding, unit, of_no, is_measured } in findings {
        let ignored = excuses.iter().find(|excuse| excuse.covers(&report.name, &finding));
        let excused = match ignored {
            Some(Excuse { ignore, .. }) => Some(Excused::Ignored(ignore.reason.clone())),
            None => baseline.as_mut().is_some_and(|baseline| baseline.take(&report.name, &finding)).then_some(Excused::Baseline),
        };
        if excused.is_none() {
            counting.push(finding.clone());
            // A part that is rejected, and whose every reason is excused, is not rejected any more.
            if of_no {
                decision = Decision::Fail;
            }
        }
        report.findings.push(Found { finding, excused, unit, is_measured });
    }
    let rejects = if bare_no {
        Judgement::Rejects
    } else {
        policy::judge(&Verdict { decision, findings: counting, metrics: Vec::new(), summary: String::new() }, report.fail_on)
    };
    let parts = failed.len();
    report.outcome = match (failed.into_iter().next(), rejects) {
        (Some(_), Judgement::Rejects) if allow_error => GateOutcome::Rejected,
        (Some((part, failure)), _) => GateOutcome::Failed { part, failure, parts, allowed: allow_error },
        (None, Judgement::Rejects) => GateOutcome::Rejected,
        (None, Judgement::Passes) => GateOutcome::Passed,
    };
    report
}

fn order(finding: &Finding) -> (&str, (u32, u32), &str, &str) {
    let location = finding.location.as_ref();
    let place = location.and_then(|l| l.span).map_or((0, 0), |span| (span.start_line, span.start_column));
    (location.map_or("", |l| l.path.as_str()), place, &finding.rule, &finding.message)
}

/// An `[[ignore]]` that counts today, and its pattern read once for all findings.
struct Excuse<'i> {
    ignore: &'i Ignore,
    paths: Option<GlobSet>,
}

impl<'i> Excuse<'i> {
    fn of(ignore: &'i Ignore) -> Self {
        Self { ignore, paths: ignore.path.as_ref().map(|pattern| globs(std::slice::from_ref(pattern))) }
    }

    fn covers(&self, gate: &str, finding: &Finding) -> bool {
        let path = finding.location.as_ref().map_or("", |location| location.path.as_str());
        let rule = &self.ignore.rule;
        let is_rule = *rule == finding.rule || rule.strip_prefix(gate).and_then(|rest| rest.strip_prefix('/')) == Some(&finding.rule);
        is_rule
            && self.ignore.gate.as_deref().is_none_or(|name| name == gate)
            && self.paths.as_ref().is_none_or(|paths| paths.is_match(path))
    }
}

/// How often each severity was found, and counts.
#[must_use]
pub fn by_severity(report: &Report) -> BTreeMap<Severity, usize> {
    let mut counts = BTreeMap::new();
    for (_, found) in report.findings().filter(|(_, found)| found.excused.is_none()) {
        *counts.entry(found.finding.severity).or_default() += 1;
    }
    counts
}
