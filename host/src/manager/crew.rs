//! Who does the work: the plugins of a registry, called in the sandbox. Tests put a script in its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Stopwatch;
use crate::config::check::globs;
use crate::judge::{ANSWERS_BYTES_MAX, Judge, Logs, refusal, too_much};
use crate::machine::Provider;
use crate::model::limits::LimitsPatch;
use crate::model::{
    Artifact, Attempt, Decision, Digest, Failure, FailureKind, Finding, GateUse, Log, Receipt, Severity, Step, Subject, Task, Verdict,
};
use crate::registry::{self, Entry, Loaded, REPLACING, REPLACING_LOOK, Registry};
use crate::runtime::{Call, Kind, Progress, Runtime, input_refusal};

/// How many parts of a subject (files, or units) are judged at once: nobody else's wait for them.
const PARTS_AT_ONCE: usize = 8;

/// Calls workers and gates.
#[async_trait::async_trait]
pub trait Workers: Send + Sync + 'static {
    /// Threads on which calls are best made, if not on the manager's: saves a hop from thread to thread for each.
    fn threads(&self) -> Option<tokio::runtime::Handle> {
        None
    }

    /// Who does the work of a name: the plugin of that name, and others that say they provide it.
    fn providers(&self, name: &str) -> Vec<Provider> {
        vec![Provider { name: name.into(), component: name.into(), concurrency: None }]
    }

    /// Why a step's worker is not given so many bytes, if it is not, by a plugin that provides it.
    fn refusal(&self, _worker: &str, _step: &Step, _bytes: u64) -> Option<Failure> {
        None
    }

    /// Runs a task of a step, by a plugin that provides its worker.
    async fn run(&self, worker: &str, step: &Step, task: Task, cancel: CancellationToken, progress: Progress) -> Attempt<Vec<Artifact>>;

    /// Has a gate judge a subject, by a plugin that provides it.
    async fn check(&self, plugin: &str, gate: &GateUse, subject: Subject, cancel: CancellationToken) -> Attempt<Verdict>;
}

/// The plugins of a registry.
pub struct Crew {
    runtime: Runtime,
    registry: Arc<Registry>,
}

impl Crew {
    /// Workers and gates from a registry, run in a sandbox.
    #[must_use]
    pub fn new(runtime: Runtime, registry: Arc<Registry>) -> Self {
        Self { runtime, registry }
    }

    fn judge(&self) -> Judge {
        Judge::new(self.runtime.clone(), Arc::clone(&self.registry), PARTS_AT_ONCE, None)
    }

    /// A plugin that can be called, and what a call of it may use and touch.
    async fn ready(
        &self,
        plugin: &str,
        limits: &BTreeMap<String, String>,
        needed: Kind,
        cancel: &CancellationToken,
    ) -> Result<(Loaded, Call), Failure> {
        let watch = Stopwatch::start();
        loop {
            let entry = self.registry.find(plugin).map_err(|error| refusal(&error))?;
            match self.ready_entry(&entry, limits, needed, cancel).await {
                // It is being replaced at this moment, and was never loaded before: soon there is another.
                Err(NotReady::Replaced(_)) if watch.elapsed() < REPLACING => tokio::time::sleep(REPLACING_LOOK).await,
                ready => return ready.map_err(NotReady::into_failure),
            }
            let looked = tokio::select! {
                looked = self.registry.look_again_aside() => looked,
                () = cancel.cancelled() => return Err(Failure::new(FailureKind::Cancelled, "cancelled")),
            };
            looked.map_err(|error| Failure::new(FailureKind::Host, error.to_string()))?;
        }
    }

    async fn ready_entry(
        &self,
        entry: &Arc<Entry>,
        limits: &BTreeMap<String, String>,
        needed: Kind,
        cancel: &CancellationToken,
    ) -> Result<(Loaded, Call), NotReady> {
        if entry.kind != needed && entry.kind != Kind::Command {
            let message = format!("`{}` is a {}, and a {} is needed", entry.name, entry.kind.as_str(), needed.as_str());
            return Err(Failure::new(FailureKind::InvalidInput, message).into());
        }
        let mut patch = LimitsPatch::default();
        for (name, text) in limits {
            patch.set(name, text).map_err(|error| Failure::new(FailureKind::InvalidInput, format!("`{name}`: {error}")))?;
        }
        let loaded = match self.registry.at_hand(entry) {
            Some(loaded) => loaded,
            None => {
                // It may have to be compiled, and nothing else is to wait for that.
                let loaded = tokio::select! {
                    loaded = self.registry.load_aside(entry) => loaded,
                    () = cancel.cancelled() => return Err(Failure::new(FailureKind::Cancelled, "cancelled").into()),
                };
                loaded.map_err(|error| Failure::new(FailureKind::Host, error.to_string()))?.map_err(|error| match &error {
                    registry::Error::Replaced { .. } => NotReady::Replaced(refusal(&error)),
                    _ => NotReady::Failed(refusal(&error)),
                })?
            }
        };
        let limits = self.registry.limits(entry, &patch).map_err(|error| Failure::new(FailureKind::Host, error.to_string()))?;
        let (grant, cancel) = (Arc::clone(&loaded.grant), cancel.clone());
        let call = Call { limits, grant, cancel, progress: None, looks: None, canned: None };
        Ok((loaded, call))
    }

    /// Has every gate of a set judge what it is for, one after another: each judges its own parts side by side.
    async fn check_set(&self, members: &[Arc<Entry>], gate: &GateUse, subject: Subject, cancel: &CancellationToken) -> Attempt<Verdict> {
        let mut whole = Verdict { decision: Decision::Pass, findings: Vec::new(), metrics: Vec::new(), summary: String::new() };
        let (mut receipt, mut log, mut said, mut bytes) = (Receipt::default(), Log::default(), Vec::new(), 0_u64);
        let mut kept = Logs::default();
        for entry in members {
            let Some(subject) = fitting(entry, subject.clone()) else { continue };
            let Attempt { result, receipt: used, log: wrote } = match self.ready(&entry.name, &gate.limits, Kind::Gate, cancel).await {
                Ok((loaded, call)) => self.judge().judge(&loaded.entry, subject, call, &|_| {}).await.whole(),
                Err(failure) => failed(failure),
            };
            receipt.add(&used);
            let wrote = kept.of(wrote);
            log.lines.extend(wrote.lines);
            log.dropped_bytes += wrote.dropped_bytes;
            bytes += result.as_ref().map_or(0, Verdict::cost_bytes);
            if bytes > ANSWERS_BYTES_MAX {
                return Attempt { result: Err(too_much()), receipt, log: Log::default() };
            }
            match result {
                Ok(verdict) => {
                    if verdict.decision == Decision::Fail {
                        whole.decision = Decision::Fail;
                    }
                    whole.findings.extend(verdict.findings);
                    whole.metrics.extend(verdict.metrics);
                    said.push(format!("{}: {}", entry.name, verdict.summary));
                }
                Err(failure) => {
                    let message = format!("{}: {}", entry.name, failure.message);
                    return Attempt { result: Err(Failure { message, ..failure }), receipt, log };
                }
            }
        }
        if said.is_empty() {
            return Attempt { result: Ok(nothing_fits(&gate.gate, &subject)), receipt, log };
        }
        whole.summary = said.join("; ");
        Attempt { result: Ok(whole), receipt, log }
    }
}

/// Why a plugin cannot be called now.
enum NotReady {
    /// Its file is another by now.
    Replaced(Failure),
    /// Anything else.
    Failed(Failure),
}

impl NotReady {
    fn into_failure(self) -> Failure {
        match self {
            Self::Replaced(failure) | Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for NotReady {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A subject with the files that a gate is for; none where there are none of them.
fn fitting(entry: &Entry, mut subject: Subject) -> Option<Subject> {
    if !entry.manifest.files.is_empty() {
        let globs = globs(&entry.manifest.files);
        subject.files.retain(|file| globs.is_match(&file.path));
    }
    (!subject.files.is_empty()).then_some(subject)
}

/// What nobody looked at has not passed.
fn nothing_fits(gate: &str, subject: &Subject) -> Verdict {
    let names: Vec<&str> = subject.files.iter().take(10).map(|file| file.path.as_str()).collect();
    let there = if names.is_empty() { "there are no artifacts".to_owned() } else { format!("there are {}", names.join(", ")) };
    let finding = Finding {
        rule: "nothing-to-judge".to_owned(),
        severity: Severity::High,
        message: format!("`{gate}` judges none of the artifacts by their names: {there}"),
        location: None,
        suggestion: None,
        help_url: None,
        fix: None,
    };
    Verdict { decision: Decision::Fail, findings: vec![finding], metrics: Vec::new(), summary: "nothing to judge".to_owned() }
}

fn failed<T>(failure: Failure) -> Attempt<T> {
    Attempt { result: Err(failure), receipt: Receipt::default(), log: Log::default() }
}

#[async_trait::async_trait]
impl Workers for Crew {
    fn threads(&self) -> Option<tokio::runtime::Handle> {
        Some(self.runtime.threads().clone())
    }

    fn providers(&self, name: &str) -> Vec<Provider> {
        let provider = |entry: Arc<Entry>| {
            // What is granted is part of it: a plugin that may do more is another one.
            let grant = self.registry.declared_grant(&entry).map(|grant| format!("{grant:?}")).unwrap_or_default();
            let granted = Digest::of(grant.as_bytes()).to_hex();
            Provider {
                name: entry.name.as_str().into(),
                component: format!("{}+{}", entry.digest, &granted[..16]).into(),
                concurrency: self.registry.settings().plugin_concurrency.get(&entry.name).map(|most| *most as usize),
            }
        };
        let set = self.registry.set(name);
        if !set.is_empty() {
            let components: Vec<Arc<str>> = set.into_iter().map(|entry| provider(entry).component).collect();
            let component = format!("set+{}", Digest::of(components.join("\n").as_bytes()));
            return vec![Provider { name: name.into(), component: component.into(), concurrency: None }];
        }
        let mut providers: Vec<Provider> = self.registry.providers(name).into_iter().map(provider).collect();
        // One that was named by its path is found by it alone.
        if let ([one], true) = (providers.as_mut_slice(), registry::is_path(name)) {
            one.name = name.into();
        }
        if providers.is_empty() {
            // Calling it will say what is wrong.
            return vec![Provider { name: name.into(), component: name.into(), concurrency: None }];
        }
        providers
    }

    fn refusal(&self, worker: &str, step: &Step, bytes: u64) -> Option<Failure> {
        let entry = self.registry.find(worker).ok()?;
        let mut patch = LimitsPatch::default();
        for (name, text) in &step.limits {
            patch.set(name, text).ok()?;
        }
        input_refusal(bytes, &self.registry.limits(&entry, &patch).ok()?)
    }

    async fn run(&self, worker: &str, step: &Step, task: Task, cancel: CancellationToken, progress: Progress) -> Attempt<Vec<Artifact>> {
        match self.ready(worker, &step.limits, Kind::Worker, &cancel).await {
            Ok((loaded, call)) => self.runtime.run(&loaded.plugin, task, Call { progress: Some(progress), ..call }).await,
            Err(failure) => failed(failure),
        }
    }

    async fn check(&self, plugin: &str, gate: &GateUse, subject: Subject, cancel: CancellationToken) -> Attempt<Verdict> {
        let set = self.registry.set(plugin);
        if !set.is_empty() {
            return self.check_set(&set, gate, subject, &cancel).await;
        }
        let (loaded, call) = match self.ready(plugin, &gate.limits, Kind::Gate, &cancel).await {
            Ok(ready) => ready,
            Err(failure) => return failed(failure),
        };
        let Some(fits) = fitting(&loaded.entry, subject.clone()) else {
            let result = Ok(nothing_fits(plugin, &subject));
            return Attempt { result, receipt: Receipt::default(), log: Log::default() };
        };
        self.judge().judge(&loaded.entry, fits, call, &|_| {}).await.whole()
    }
}
