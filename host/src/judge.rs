//! A gate over a subject: as a whole, file by file, or unit by unit, each part in an instance of its own.
//!
//! Answers of gates that are granted nothing are kept, under everything that they were asked with, and are valid for as
//! long as everything that the gate looked at is as it was. Failures are never kept. Parts are never made by the number
//! of cores, so that two machines judge alike.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::{OnceCell, Semaphore};

use crate::model::limits::show_bytes;
use crate::model::snapshot::{Look, Looks};
use crate::model::text::{counted, sanitize};
use crate::model::{
    Attempt, Blame, Decision, Failure, FailureKind, Finding, Grant, Location, Log, Receipt, Severity, Subject, SubjectFile, Verdict,
};
use crate::registry::verdicts::{Key, Verdicts};
use crate::registry::{Entry, Registry};
use crate::runtime::{CONTRACT_VERSION, Call, Plugin, Runtime};

/// How much of what a gate wrote is kept with its answer, in bytes.
const LOG_KEPT_BYTES: usize = 16 << 10;

/// Judges, and remembers.
pub struct Judge {
    runtime: Runtime,
    registry: Arc<Registry>,
    places: Arc<Semaphore>,
    parts_at_once: usize,
    verdicts: Option<Arc<Verdicts>>,
}

/// One part of a subject, judged.
#[derive(Debug, Clone)]
pub struct Part {
    /// The file, or the unit; empty where the subject was judged as a whole.
    pub name: String,
    /// The file that it is of; empty where the subject was judged as a whole.
    pub file: String,
    /// What came of it.
    pub attempt: Attempt<Verdict>,
    /// Whether the answer is one that was kept from before.
    pub kept: bool,
}

impl Part {
    /// Whether its gate says that it was not to be judged.
    #[must_use]
    pub fn is_skipped(&self) -> bool {
        matches!(&self.attempt.result, Ok(verdict) if verdict.decision == Decision::Pass && verdict.summary.starts_with("skipped"))
    }
}

/// How a subject was split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Not at all.
    Tree,
    /// File by file.
    File,
    /// By the gate itself, which names the units of each file.
    Unit,
}

/// How much the parts of one subject may find together, in bytes: that is put together in memory. An attempt has limits of its own, and parts
/// may be as many as there are files and units.
pub const ANSWERS_BYTES_MAX: u64 = 64 << 20;
/// How much of what they wrote is kept together, in bytes.
const LOGS_BYTES_MAX: u64 = 16 << 20;
/// What a unit takes in memory beside its name, in bytes.
const UNIT_BYTES: u64 = 256;

/// Why a gate has no answer that found too much.
#[must_use]
pub fn too_much() -> Failure {
    let message = format!("more than {} were found over all files and units, which is the most of one gate", show_bytes(ANSWERS_BYTES_MAX));
    Failure::new(FailureKind::OutputLimit, message)
}

/// What parts wrote, as far as there is room.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    bytes: u64,
}

impl Logs {
    /// The log of a part: whole, or as one that was dropped.
    pub(crate) fn of(&mut self, log: Log) -> Log {
        self.bytes += log.cost_bytes();
        if self.bytes <= LOGS_BYTES_MAX { log } else { log.tail(0) }
    }
}

/// A subject, judged in all its parts.
#[derive(Debug, Clone)]
pub struct Judged {
    /// How it was split.
    pub scope: Scope,
    /// The parts, in their order.
    pub parts: Vec<Part>,
}

/// What is told while a subject is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// There are so many parts.
    Parts(usize),
    /// One of them is done.
    Done,
}

/// How a gate splits its subjects.
#[must_use]
pub fn scope(entry: &Entry) -> Scope {
    match entry.manifest.scope.as_deref() {
        Some("file") => Scope::File,
        Some("unit") if entry.component.has_units() => Scope::Unit,
        Some(_) | None => Scope::Tree,
    }
}

/// A gate whose code is loaded when it is first needed: where every answer is known, it never is.
struct Gate<'a> {
    registry: &'a Arc<Registry>,
    entry: &'a Arc<Entry>,
    code: OnceCell<Arc<Plugin>>,
}

impl Gate<'_> {
    async fn code(&self) -> Result<Arc<Plugin>, Failure> {
        let load = || async {
            let loaded = self.registry.load_aside(self.entry).await;
            let loaded = loaded.map_err(|error| Failure::new(FailureKind::Host, error.to_string()))?;
            loaded.map(|loaded| loaded.plugin).map_err(|error| refusal(&error))
        };
        self.code.get_or_try_init(load).await.cloned()
    }
}

/// What it means for an attempt that its plugin cannot be used.
#[must_use]
pub fn refusal(error: &crate::registry::Error) -> Failure {
    use crate::registry::Error;
    let kind = match error {
        Error::NotGranted { .. }
        | Error::Changed { .. }
        | Error::Disabled { .. }
        | Error::NoData { .. }
        | Error::Secret { .. }
        | Error::Unset { .. } => FailureKind::Denied,
        Error::NotFound { .. }
        | Error::Bad { .. }
        | Error::Held { .. }
        | Error::Schema { .. }
        | Error::WrongKind { .. }
        | Error::Replaced { .. }
        | Error::Directory { .. }
        | Error::Data { .. }
        | Error::Runtime { .. }
        | Error::Reuse { .. }
        | Error::AboveCeiling { .. } => FailureKind::Host,
    };
    Failure::new(kind, error.to_string())
}

fn no_answer<T>(failure: Failure) -> Attempt<T> {
    Attempt { result: Err(failure), receipt: Receipt::default(), log: Log::default() }
}

impl Judge {
    /// One that judges so many parts at once, and keeps answers where it is given a place for them.
    #[must_use]
    pub fn new(runtime: Runtime, registry: Arc<Registry>, parts_at_once: usize, verdicts: Option<Arc<Verdicts>>) -> Self {
        let parts_at_once = parts_at_once.max(1);
        Self { runtime, registry, places: Arc::new(Semaphore::new(parts_at_once)), parts_at_once, verdicts }
    }

    /// Judges a subject.
    pub async fn judge(&self, entry: &Arc<Entry>, subject: Subject, call: Call, told: &(dyn Fn(Told) + Sync)) -> Judged {
        let scope = scope(entry);
        let gate = Gate { registry: &self.registry, entry, code: OnceCell::new() };
        let subject = match self.registry.data(entry) {
            Ok(data) => Subject { data, ..subject },
            Err(error) => return Judged::failed(no_answer(refusal(&error))),
        };
        let by_file = |subject: Subject| -> Vec<(String, Subject)> {
            let (files, bare) = {
                let mut bare = subject;
                (std::mem::take(&mut bare.files), bare)
            };
            let part = |file: &SubjectFile| (file.path.clone(), Subject { files: vec![file.clone()], ..bare.clone() });
            files.iter().map(part).collect()
        };
        let (mut failed, mut kept) = (Vec::new(), Logs::default());
        let parts: Vec<(String, Subject)> = match scope {
            Scope::Tree => vec![(String::new(), subject)],
            Scope::File => by_file(subject),
            Scope::Unit => {
                let whole = subject.clone();
                let asked = futures_util::stream::iter(by_file(subject)).map(|(file, subject)| async {
                    let units = self.units(&gate, &subject, &call).await;
                    (file, subject, units)
                });
                let mut asked = std::pin::pin!(asked.buffered(self.parts_at_once));
                let (mut parts, mut bytes, mut spent) = (Vec::new(), 0_u64, Receipt::default());
                while let Some((file, subject, Attempt { result, receipt, log })) = asked.next().await {
                    spent.add(&receipt);
                    bytes += result.as_ref().map_or(0, |units| units.iter().map(|unit| UNIT_BYTES + unit.len() as u64).sum());
                    if bytes > ANSWERS_BYTES_MAX {
                        return Judged::failed(Attempt { receipt: spent, ..no_answer(too_much()) });
                    }
                    let log = kept.of(log);
                    match result {
                        Ok(units) => {
                            parts.extend(units.into_iter().map(|unit| (unit.clone(), Subject { unit: Some(unit), ..subject.clone() })))
                        }
                        Err(failure) => {
                            let attempt = Attempt { result: Err(failure), receipt, log };
                            failed.push(Part { name: file.clone(), file, attempt, kept: false });
                        }
                    }
                }
                if parts.is_empty() && failed.is_empty() {
                    return Judged::failed(Attempt { result: Ok(no_units(&whole)), receipt: Receipt::default(), log: Log::default() });
                }
                parts
            }
        };
        told(Told::Parts(parts.len()));
        let judged = futures_util::stream::iter(parts).map(|(name, subject)| async {
            let part = self.part(&gate, name, subject, call.clone()).await;
            told(Told::Done);
            part
        });
        let mut judged = std::pin::pin!(judged.buffered(self.parts_at_once));
        let (mut parts, mut bytes, mut spent) = (Vec::new(), 0_u64, Receipt::default());
        while let Some(mut part) = judged.next().await {
            if scope != Scope::Tree {
                spent.add(&part.attempt.receipt);
                bytes += part.attempt.result.as_ref().map_or(0, Verdict::cost_bytes);
                // The gate has no answer then: it says nothing about what it judged.
                if bytes > ANSWERS_BYTES_MAX {
                    return Judged::failed(Attempt { receipt: spent, ..no_answer(too_much()) });
                }
                part.attempt.log = kept.of(part.attempt.log);
            }
            parts.push(part);
        }
        parts.extend(failed);
        if scope == Scope::Unit && parts.iter().all(Part::is_skipped) {
            let first = parts.first();
            let file = first.map(|part| part.file.clone()).unwrap_or_default();
            let said = first.and_then(|part| part.attempt.result.as_ref().ok()).and_then(|verdict| verdict.summary.strip_prefix("skipped"));
            let why = said.map_or("", |said| said.trim_start_matches([':', ' ']));
            let why = if why.is_empty() { "it does not say why".to_owned() } else { sanitize(why, 200) };
            let attempt = Attempt { result: Ok(none_ran(parts.len(), &file, &why)), receipt: Receipt::default(), log: Log::default() };
            parts.push(Part { name: "(all)".to_owned(), file: String::new(), attempt, kept: false });
        }
        Judged { scope, parts }
    }

    async fn units(&self, gate: &Gate<'_>, subject: &Subject, call: &Call) -> Attempt<Vec<String>> {
        let key = self.key(gate.entry, subject, call, b"units");
        if let Some((verdicts, key)) = self.verdicts.as_ref().zip(key)
            && let Some((units, receipt)) = verdicts.get::<(Vec<String>, Receipt)>(&key, subject)
        {
            return Attempt { result: Ok(units), receipt, log: Log::default() };
        }
        let looks = Looks::default();
        let _place = self.places.acquire().await;
        let plugin = match gate.code().await {
            Ok(plugin) => plugin,
            Err(failure) => return no_answer(failure),
        };
        let attempt = self.runtime.units(&plugin, subject.clone(), Call { looks: Some(looks.clone()), ..call.clone() }).await;
        if let (Some((verdicts, key)), Ok(units), Some(looks)) = (self.verdicts.as_ref().zip(key), &attempt.result, looks.take()) {
            verdicts.put(&key, looks, subject, &(units, attempt.receipt));
        }
        attempt
    }

    /// The answer that is kept from before, if there is one.
    fn known(&self, entry: &Entry, name: &str, subject: &Subject, call: &Call) -> Option<Part> {
        let key = self.key(entry, subject, call, b"check");
        let (verdicts, key) = self.verdicts.as_ref().zip(key)?;
        let (verdict, receipt, log) = verdicts.get::<(Verdict, Receipt, Log)>(&key, subject)?;
        Some(Part { name: name.to_owned(), file: file_of(subject), attempt: Attempt { result: Ok(verdict), receipt, log }, kept: true })
    }

    async fn part(&self, gate: &Gate<'_>, name: String, subject: Subject, call: Call) -> Part {
        if let Some(known) = self.known(gate.entry, &name, &subject, &call) {
            return known;
        }
        let file = file_of(&subject);
        let key = self.key(gate.entry, &subject, &call, b"check");
        let looks = Looks::default();
        let _place = self.places.acquire().await;
        let plugin = match gate.code().await {
            Ok(plugin) => plugin,
            Err(failure) => return Part { name, file, attempt: no_answer(failure), kept: false },
        };
        let attempt = self.runtime.check(&plugin, subject.clone(), Call { looks: Some(looks.clone()), ..call }).await;
        if let (Some((verdicts, key)), Ok(verdict), Some(looks)) = (self.verdicts.as_ref().zip(key), &attempt.result, looks.take()) {
            verdicts.put(&key, looks, &subject, &(verdict, attempt.receipt, attempt.log.clone().tail(LOG_KEPT_BYTES)));
        }
        Part { name, file, attempt, kept: false }
    }

    /// Everything that an answer follows from, but what is looked at. None where it may follow from something else.
    fn key(&self, entry: &Entry, subject: &Subject, call: &Call, what: &[u8]) -> Option<Key> {
        if *call.grant != Grant::default() || subject.task.is_some() || subject.usage.is_some() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        add(b"answer 2");
        add(what);
        add(CONTRACT_VERSION.to_string().as_bytes());
        add(self.runtime.compatibility().as_bytes());
        add(entry.digest.as_bytes());
        add(format!("{:?}", entry.manifest.command).as_bytes());
        add(&serde_json::to_vec(&call.limits).ok()?);
        add(subject.params.as_bytes());
        add(subject.unit.as_deref().unwrap_or_default().as_bytes());
        add(&[u8::from(subject.unit.is_some())]);
        for file in &subject.files {
            add(file.path.as_bytes());
            add(&file.size_bytes.to_le_bytes());
            add(file.media_type.as_bytes());
        }
        // One file's answers are kept side by side for its different contents: a change that is undone is known.
        if let [file] = subject.files.as_slice() {
            add(subject.snapshot.sees(&Look::Content(file.path.clone())).as_bytes());
        }
        Some(hasher.finalize())
    }
}

/// What it means that all was skipped: nobody has looked, so it has not passed. `why`: the first that was said.
fn none_ran(units: usize, file: &str, why: &str) -> Verdict {
    let finding = Finding {
        rule: "no-units".to_owned(),
        severity: Severity::High,
        message: "nothing was judged: every unit was skipped".to_owned(),
        location: (!file.is_empty()).then(|| Location { path: file.to_owned(), span: None }),
        suggestion: Some(format!("{} skipped, the first one: {why} (--format json tells of each)", counted(units, "unit"))),
        help_url: None,
        fix: None,
    };
    Verdict { decision: Decision::Fail, findings: vec![finding], metrics: Vec::new(), summary: "nothing was judged".to_owned() }
}

/// The one file of a subject; empty where there are several.
fn file_of(subject: &Subject) -> String {
    match subject.files.as_slice() {
        [file] => file.path.clone(),
        _ => String::new(),
    }
}

/// What it means that there is nothing to judge: nobody has looked, so it has not passed.
fn no_units(subject: &Subject) -> Verdict {
    let message = format!("nothing to judge was found in {}", counted(subject.files.len(), "file"));
    let finding = Finding {
        rule: "no-units".to_owned(),
        severity: Severity::High,
        message,
        location: subject.files.first().map(|file| Location { path: file.path.clone(), span: None }),
        suggestion: None,
        help_url: None,
        fix: None,
    };
    Verdict { decision: Decision::Fail, findings: vec![finding], metrics: Vec::new(), summary: "nothing to judge".to_owned() }
}

impl Judged {
    /// One answer for the whole, or none, before there were any parts.
    fn failed(attempt: Attempt<Verdict>) -> Self {
        Self { scope: Scope::Tree, parts: vec![Part { name: String::new(), file: String::new(), attempt, kept: false }] }
    }

    /// One answer for all parts. A unit that failed by its own fault rejects; any other part without an answer leaves the
    /// whole without one.
    #[must_use]
    pub fn whole(self) -> Attempt<Verdict> {
        let Self { scope, mut parts } = self;
        if scope == Scope::Tree
            && let Some(part) = parts.pop()
        {
            return part.attempt;
        }
        let mut whole = Verdict { decision: Decision::Pass, findings: Vec::new(), metrics: Vec::new(), summary: String::new() };
        let (mut receipt, mut log, mut rejected) = (Receipt::default(), Log::default(), 0_usize);
        let (count, mut failure) = (parts.len(), None);
        for Part { name, file, attempt, kept: _ } in parts {
            receipt.add(&attempt.receipt);
            log.lines.extend(attempt.log.lines);
            log.dropped_bytes += attempt.log.dropped_bytes;
            let verdict = match attempt.result {
                Ok(verdict) => verdict,
                Err(failed) if scope == Scope::Unit && failed.kind.blame() == Blame::Guest => unit_failed(&name, &file, &failed),
                Err(failed) => {
                    failure = failure.or(Some(failed));
                    continue;
                }
            };
            if verdict.decision == Decision::Fail {
                rejected += 1;
                whole.decision = Decision::Fail;
            }
            whole.findings.extend(verdict.findings);
            whole.metrics.extend(verdict.metrics);
        }
        whole.summary = format!("{rejected} of {count} rejected");
        Attempt { result: failure.map_or(Ok(whole), Err), receipt, log }
    }
}

/// What a unit says that failed by its own fault: it loops, or takes too much memory.
pub(crate) fn unit_failed(name: &str, file: &str, failure: &Failure) -> Verdict {
    let finding = Finding {
        rule: format!("unit-{}", failure.kind),
        severity: Severity::High,
        message: format!("{name}: {}", failure.message),
        location: (!file.is_empty()).then(|| Location { path: file.to_owned(), span: None }),
        suggestion: None,
        help_url: None,
        fix: None,
    };
    Verdict { decision: Decision::Fail, findings: vec![finding], metrics: Vec::new(), summary: String::new() }
}
