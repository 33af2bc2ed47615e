//! Who does the work: the plugins of a registry, called in the sandbox. Tests put a script in its place.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::judge::Judge;
use crate::machine::Provider;
use crate::model::limits::LimitsPatch;
use crate::model::{Artifact, Attempt, Digest, Failure, FailureKind, GateUse, Log, Receipt, Step, Subject, Task, Verdict};
use crate::registry::{Entry, Loaded, Registry};
use crate::runtime::{Call, Kind, Progress, Runtime};

/// How many parts of subjects (files, or units) are judged at once.
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
        vec![Provider { name: name.to_owned(), component: name.to_owned(), concurrency: None }]
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
    judge: Judge,
}

impl Crew {
    /// Workers and gates from a registry, run in a sandbox.
    #[must_use]
    pub fn new(runtime: Runtime, registry: Arc<Registry>) -> Self {
        Self { judge: Judge::new(runtime.clone(), Arc::clone(&registry), PARTS_AT_ONCE, None), runtime, registry }
    }

    fn ready<'a>(
        &self,
        plugin: &str,
        limits: impl IntoIterator<Item = (&'a String, &'a String)>,
        needed: Kind,
    ) -> Result<(Loaded, Call), Failure> {
        let host = |error: crate::registry::Error| Failure::new(FailureKind::Host, error.to_string());
        let entry = self.registry.find(plugin).map_err(host)?;
        if entry.kind != needed && entry.kind != Kind::Command {
            let message = format!("`{plugin}` is a {}, and a {} is needed", entry.kind.as_str(), needed.as_str());
            return Err(Failure::new(FailureKind::InvalidInput, message));
        }
        let mut patch = LimitsPatch::default();
        for (name, text) in limits {
            patch.set(name, text).map_err(|error| Failure::new(FailureKind::InvalidInput, format!("`{name}`: {error}")))?;
        }
        let loaded = self.registry.load(&entry).map_err(|error| crate::judge::refusal(&error))?;
        let limits = self.registry.limits(&entry, &patch).map_err(host)?;
        let call = Call { limits, grant: Arc::clone(&loaded.grant), ..Call::default() };
        Ok((loaded, call))
    }
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
            let grant = self.registry.grant(&entry).map(|grant| format!("{grant:?}")).unwrap_or_default();
            let granted = Digest::of(grant.as_bytes()).to_hex();
            Provider {
                name: entry.name.clone(),
                component: format!("{}+{}", entry.digest, &granted[..16]),
                concurrency: self.registry.settings().plugin_concurrency.get(&entry.name).map(|most| *most as usize),
            }
        };
        let providers: Vec<Provider> = self.registry.providers(name).into_iter().map(provider).collect();
        if providers.is_empty() {
            // Calling it will say what is wrong.
            return vec![Provider { name: name.to_owned(), component: name.to_owned(), concurrency: None }];
        }
        providers
    }

    async fn run(&self, worker: &str, step: &Step, task: Task, cancel: CancellationToken, progress: Progress) -> Attempt<Vec<Artifact>> {
        match self.ready(worker, &step.limits, Kind::Worker) {
            Ok((loaded, call)) => self.runtime.run(&loaded.plugin, task, Call { cancel, progress: Some(progress), ..call }).await,
            Err(failure) => failed(failure),
        }
    }

    async fn check(&self, plugin: &str, gate: &GateUse, subject: Subject, cancel: CancellationToken) -> Attempt<Verdict> {
        let (loaded, call) = match self.ready(plugin, &gate.limits, Kind::Gate) {
            Ok(ready) => ready,
            Err(failure) => return failed(failure),
        };
        let call = Call { cancel, ..call };
        self.judge.judge(&loaded.entry, subject, call, &|_| {}).await.whole()
    }
}
