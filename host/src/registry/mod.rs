//! The plugin folder: which plugins there are, what each is, what it may do, and its compiled code.
//!
//! Nothing is executed in order to be discovered. A bad file is reported and never keeps the others from loading; two
//! plugins of one name in one folder are both reported, and neither is chosen.

pub mod cache;
pub mod child;
pub mod compiler;
pub mod component;
mod data;
mod entry;
pub mod intake;
mod kept;
mod looks;
pub mod pack;
pub mod params;
mod shelf;
pub mod signature;
pub mod verdicts;
pub mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::config::Settings;
use crate::config::manifest::DATA_TODAY;
use crate::model::limits::LimitsPatch;
use crate::model::text::{did_you_mean, sanitize, shown};
use crate::model::{Access, Digest, Grant, Limits, Request, Secret, Snapshot};
use crate::runtime::{self, Kind, Plugin, Runtime};

use cache::Cache;
use child::Budget;
use compiler::Compiler;
use intake::COMPONENT_BYTES_MAX;
use kept::Kept;
use looks::Looks;

pub use entry::{BadPlugin, Entry, MANIFEST_BYTES_MAX, examine};
pub use shelf::{Held, Shelf};

/// How long a call waits for a plugin whose file is being replaced, where no version of it was loaded before.
pub const REPLACING: Duration = Duration::from_secs(5);
/// How often it looks whether the new one serves.
pub const REPLACING_LOOK: Duration = Duration::from_millis(50);
/// The largest file with a secret that is read, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// How long a granted directory may take to be looked through.
const LOOK_MAX: Duration = Duration::from_mins(1);
/// The folder, beside the plugins that come with sandhog, of their code compiled ahead.
const COMPILED_AHEAD: &str = "compiled";

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such plugin.
    #[error("there is no plugin `{}`{}{}", sanitize(.name, 200), .meant.as_ref().map_or_else(String::new, |m| format!("; did you mean `{m}`?")), .searched)]
    NotFound {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        meant: Option<String>,
        /// Where was looked.
        searched: String,
    },
    /// The file that would be it is bad.
    #[error("{}: {bad}", .path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        bad: Arc<BadPlugin>,
    },
    /// The configuration switches it off.
    #[error("`{name}` is disabled: `sandhog plugins enable {name}` takes it back")]
    Disabled {
        /// The plugin.
        name: String,
    },
    /// It does not serve, and nothing served before it.
    #[error("`{name}` is held: {reason}")]
    Held {
        /// The plugin.
        name: String,
        /// Why.
        reason: Arc<str>,
    },
    /// It is of another kind than is needed.
    #[error("`{name}` is a {}, and a {needed} is needed here", .found.as_str())]
    WrongKind {
        /// The plugin.
        name: String,
        /// What it is.
        found: Kind,
        /// What was needed.
        needed: &'static str,
    },
    /// It asks for what it was not granted.
    #[error("`{name}` needs what it is not granted:{}\nto allow it, write into sandhog.toml:\n\n{grant}", request_list(.missing))]
    NotGranted {
        /// The plugin.
        name: String,
        /// What is missing.
        missing: Vec<Request>,
        /// The lines that would allow it.
        grant: String,
    },
    /// It changed since it was granted something.
    #[error(
        "`{name}` changed since it was granted something: the grant is for {granted}, and the file is {found}\nread what changed, then write into [grants.{name}] of sandhog.toml:\n\ndigest = \"{found}\""
    )]
    Changed {
        /// The plugin.
        name: String,
        /// What the grant is for.
        granted: Digest,
        /// What there is.
        found: Digest,
    },
    /// The file changed since the folder was read.
    #[error("{} changed since the folder was read", .path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// A granted directory cannot be given to a guest.
    #[error("the directory {} cannot be granted: {reason}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It does not compile, load or link.
    #[error("{name}: {error}")]
    Runtime {
        /// The plugin.
        name: String,
        /// Why.
        error: runtime::Error,
    },
    /// A gate cannot judge without data that nobody gave it.
    #[error("`{gate}` needs `{data}`: {}; name it with --data {data}=PATH, or write into sandhog.toml:\n\n[data]\n{data} = \"PATH\"", sanitize(.why, 300))]
    NoData {
        /// The gate.
        gate: String,
        /// What is missing.
        data: String,
        /// What it is.
        why: String,
    },
    /// Data that was named cannot be given to a gate.
    #[error("the data `{name}` at {} cannot be given to a gate: {reason}", .path.display())]
    Data {
        /// Its name.
        name: String,
        /// Where it should be.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A secret that goes with the plugin's requests cannot be had.
    #[error("the secret `{name}` cannot be read: {reason}")]
    Secret {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The schema of its params cannot be used.
    #[error("the params of `{name}` cannot be checked: {reason}")]
    Schema {
        /// The plugin.
        name: String,
        /// Why.
        reason: String,
    },
    /// A variable that it is granted is not there.
    #[error("the environment variable `{}` is granted to `{name}`, and not set: set it, or take it out of [grants.{name}]", sanitize(.variable, 200))]
    Unset {
        /// The plugin.
        name: String,
        /// The variable.
        variable: String,
    },
    /// Only workers keep an instance for the next task.
    #[error("`{name}` is a {}, and only a worker's instances may do more than one task: take `reuse` out of [grants.{name}]", .kind.as_str())]
    Reuse {
        /// The plugin.
        name: String,
        /// What it is.
        kind: Kind,
    },
    /// A limit is above the ceiling.
    #[error("{name}: {}", .above.join("; "))]
    AboveCeiling {
        /// The plugin.
        name: String,
        /// Which limits.
        above: Vec<String>,
    },
}

fn request_list(requests: &[Request]) -> String {
    requests.iter().map(|request| format!("\n  - {}: {}", request.what(), sanitize(request.why(), 200))).collect()
}

/// A plugin that can be called: its code, and what it may use and touch.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it is.
    pub entry: Arc<Entry>,
    /// Its code.
    pub plugin: Arc<Plugin>,
    /// What it may touch.
    pub grant: Arc<Grant>,
    /// What it may use, before the workflow and the command line.
    pub limits: Limits,
    /// The settings that the grant and the limits follow from.
    settings: Arc<Settings>,
}

/// The plugins of some folders.
///
/// They may change while it is used: [`Registry::refresh`] looks again. Who was handed an [`Entry`] or a [`Loaded`] before
/// keeps it, and what it does with it is not disturbed.
pub struct Registry {
    runtime: Runtime,
    cache: Option<Cache>,
    compiler: Compiler,
    kept: Option<Kept>,
    shelf: RwLock<Arc<Shelf>>,
    /// Held by who replaces the shelf.
    replacing: Mutex<()>,
    /// Code in use, by the file that it came from: of a file that was replaced, what is still used of the one before as well.
    loaded: Mutex<HashMap<PathBuf, Vec<Loaded>>>,
    /// Components that did not compile: finding that out again would take as long.
    uncompiled: Mutex<HashMap<Digest, String>>,
    /// Whose turn it is to compile what has a digest.
    compiling: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    data: Mutex<BTreeMap<PathBuf, data::Given>>,
    looks: Looks,
    today: String,
}

impl Registry {
    /// As [`Registry::load`], for whoever may not wait on its thread.
    pub fn load_aside(self: &Arc<Self>, entry: &Arc<Entry>) -> JoinHandle<Result<Loaded, Error>> {
        let (registry, entry) = (Arc::clone(self), Arc::clone(entry));
        self.runtime.aside(move || registry.load(&entry))
    }

    /// As [`Registry::look_again`], for whoever may not wait on its thread.
    pub fn look_again_aside(self: &Arc<Self>) -> JoinHandle<()> {
        let registry = Arc::clone(self);
        self.runtime.aside(move || registry.look_again())
    }

    /// Looks through the folders of the settings. `today` is the day that gates are told which ask for it.
    #[must_use]
    pub fn open(runtime: Runtime, cache: Option<Cache>, compiler: Compiler, settings: Settings, today: jiff::civil::Date) -> Self {
        let kept = cache.as_ref().and_then(|cache| Kept::beside(cache).ok());
        let registry = Self {
            runtime,
            compiler,
            kept,
            shelf: RwLock::default(),
            replacing: Mutex::default(),
            loaded: Mutex::default(),
            uncompiled: Mutex::default(),
            compiling: Mutex::default(),
            data: Mutex::default(),
            looks: Looks::new(),
            today: today.to_string(),
            cache,
        };
        let mut shelf = Shelf::look(Arc::new(settings), registry.examined().as_ref());
        registry.serve_what_was_granted(&mut shelf);
        *registry.shelf.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shelf);
        registry
    }

    /// What there is now.
    #[must_use]
    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings that apply now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.shelf().settings)
    }

    /// The plugins that serve, in the order of their names.
    #[must_use]
    pub fn plugins(&self) -> Vec<Arc<Entry>> {
        self.shelf().plugins.values().cloned().collect()
    }

    fn examined(&self) -> Option<Cache> {
        self.cache.as_ref().and_then(|cache| cache.beside("examined").ok())
    }

    /// Looks through the folders again, with these settings where some are given. What is new, or changed, serves only once
    /// [`Registry::admit`] has taken it: those that are handed back. Says, too, whether anything else changed.
    pub fn refresh(&self, settings: Option<Settings>) -> (Vec<Arc<Entry>>, bool) {
        let settings = settings.map_or_else(|| self.settings(), Arc::new);
        let found = Shelf::look(settings, self.examined().as_ref());
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shelf();
        let (mut next, to_compile) = before.then(found);
        for (name, old) in &before.plugins {
            if !next.plugins.contains_key(name) {
                tracing::info!(plugin = %name, digest = %old.digest, "is there no more");
            }
        }
        let known: HashMap<&Path, &Arc<BadPlugin>> = before.bad.iter().map(|(path, why)| (path.as_path(), why)).collect();
        for (path, bad) in &next.bad {
            if known.get(path.as_path()).is_none_or(|why| why.to_string() != bad.to_string()) {
                tracing::warn!(file = %sanitize(&path.to_string_lossy(), 1000), "{}", sanitize(&bad.to_string(), 2000));
            }
        }
        // What is new here, and changed since it was granted something elsewhere.
        let mut unknown = Shelf { settings: Arc::clone(&next.settings), ..Shelf::default() };
        unknown.plugins =
            to_compile.iter().filter(|e| !next.plugins.contains_key(&e.name)).map(|e| (e.name.clone(), Arc::clone(e))).collect();
        self.serve_what_was_granted(&mut unknown);
        let changed = !before.is_as(&next) || !unknown.held.is_empty();
        for (name, held) in unknown.held {
            next.plugins.extend(unknown.plugins.get(&name).map(|entry| (name.clone(), Arc::clone(entry))));
            next.awaited.remove(&name);
            next.held.insert(name, held);
        }
        if !Arc::ptr_eq(&before.settings, &next.settings) {
            self.uncompiled.lock().unwrap_or_else(PoisonError::into_inner).clear(); // they may have another budget
            next.plugins.values().for_each(|entry| self.keep_if_granted(entry, &next.settings));
        }
        let to_compile = to_compile.into_iter().filter(|entry| next.awaited.contains_key(&entry.name)).collect();
        self.replace(next);
        (to_compile, changed)
    }

    /// Takes a plugin that [`Registry::refresh`] handed back into service, once it is compiled; or holds it, and what served
    /// before goes on. Takes as long as compiling does. Says whether anything changed.
    pub fn admit(&self, entry: &Arc<Entry>) -> bool {
        let shelf = self.shelf();
        if shelf.awaited.get(&entry.name) != Some(entry) {
            return false; // nobody waits for it any more: it is gone, or another took its place
        }
        let old = shelf.plugins.get(&entry.name).cloned();
        let serves = old.is_some_and(|old| self.grant(&old).is_ok());
        let given_up = AtomicBool::new(false);
        let wanted = || {
            let is_awaited = self.shelf().awaited.get(&entry.name) == Some(entry);
            given_up.fetch_or(!is_awaited, Ordering::SeqCst);
            is_awaited
        };
        let ready = match self.load_while(entry, &wanted) {
            // Nothing served: whoever calls it is told what it lacks.
            Err(
                Error::NotGranted { .. }
                | Error::Changed { .. }
                | Error::AboveCeiling { .. }
                | Error::Secret { .. }
                | Error::Unset { .. }
                | Error::Directory { .. },
            ) if !serves => self.code_while(entry, &wanted).map(drop),
            loaded => loaded.map(drop),
        };
        if given_up.load(Ordering::SeqCst) {
            return false; // and where it has come back meanwhile, it was handed out again
        }
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = (*self.shelf()).clone();
        if matches!(ready, Err(Error::Replaced { .. } | Error::Bad { .. })) {
            // The file is another by now, or gone: the next look finds what is there, and that may be this one again.
            next.awaited.retain(|_, awaited| awaited != entry);
            self.replace(next);
            return false;
        }
        let held = ready.err().map(|error| error.to_string());
        if !next.settle(entry, held.clone()) {
            return false;
        }
        match held {
            None => {
                self.keep_if_granted(entry, &next.settings);
                tracing::info!(plugin = %entry.name, digest = %entry.digest, "serves");
            }
            Some(reason) => {
                let goes_on = if serves { "; the one before goes on serving" } else { "" };
                tracing::warn!(plugin = %entry.name, digest = %entry.digest, "is held{goes_on}: {}", sanitize(&reason, 2000));
            }
        }
        self.replace(next);
        true
    }

    /// Looks through the folders again, and takes what is new into service.
    pub fn look_again(&self) {
        self.refresh(None).0.iter().for_each(|entry| {
            self.admit(entry);
        });
    }

    fn replace(&self, next: Shelf) {
        // Code of files that are gone stays as long as something runs on it; of those that are named by their paths, it is read again.
        let there: HashSet<&Path> = next.plugins.values().map(|entry| entry.path.as_path()).collect();
        self.loaded().retain(|path, all| {
            if !there.contains(path.as_path()) {
                all.retain(|loaded| Arc::strong_count(&loaded.plugin) > 1);
            }
            !all.is_empty()
        });
        *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.data.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn keep_if_granted(&self, entry: &Entry, settings: &Settings) {
        if let Some(kept) = &self.kept
            && settings.grants.get(&entry.name).is_some_and(|pinned| pinned.digest == entry.digest)
            && let Err(error) = kept.put(entry)
        {
            tracing::debug!(%error, plugin = %entry.name, "a granted component could not be kept");
        }
    }

    /// A plugin that changed since it was granted something is held, and the one that was granted goes on, where it was
    /// kept. What is granted something now is kept.
    fn serve_what_was_granted(&self, shelf: &mut Shelf) {
        let Some(kept) = &self.kept else { return };
        for (name, pinned) in &shelf.settings.grants {
            let Some(entry) = shelf.plugins.get(name) else { continue };
            if entry.digest == pinned.digest {
                self.keep_if_granted(entry, &shelf.settings);
                continue;
            }
            let Some(old) = kept.get(name, pinned.digest, &entry.path) else { continue };
            let changed = Error::Changed { name: name.clone(), granted: pinned.digest, found: entry.digest };
            tracing::warn!(
                "`{name}` changed since it was granted something, and the one of then goes on: see `sandhog plugins diff {name}`"
            );
            let held = Held { entry: Arc::clone(entry), reason: changed.to_string().into() };
            shelf.held.insert(name.clone(), held);
            shelf.plugins.insert(name.clone(), Arc::new(old));
        }
    }

    /// Finds a plugin by its name, or by a path to a component (anything with a `/`, or that ends with `.wasm`).
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Bad`].
    pub fn find(&self, plugin: &str) -> Result<Arc<Entry>, Error> {
        if is_path(plugin) {
            let path = PathBuf::from(plugin);
            return match examine(&path).and_then(|entry| self.check_signature(&entry).map(|()| entry)) {
                Ok(entry) => Ok(Arc::new(entry)),
                Err(BadPlugin::Intake(intake::Error::NotReadable(error))) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(Error::NotFound { name: plugin.to_owned(), meant: None, searched: "; there is no such file".to_owned() })
                }
                Err(bad) => Err(Error::Bad { path, bad: Arc::new(bad) }),
            };
        }
        let shelf = self.shelf();
        if let Some(entry) = shelf.plugins.get(plugin) {
            return Ok(Arc::clone(entry));
        }
        if shelf.disabled.contains_key(plugin) {
            return Err(Error::Disabled { name: plugin.to_owned() });
        }
        if let Some(held) = shelf.held.get(plugin) {
            return Err(Error::Held { name: plugin.to_owned(), reason: Arc::clone(&held.reason) });
        }
        if let Some((path, bad)) = shelf.bad.iter().find(|(path, bad)| {
            path.file_stem().is_some_and(|stem| stem == plugin) || matches!(&**bad, BadPlugin::Clash { name, .. } if name == plugin)
        }) {
            return Err(Error::Bad { path: path.clone(), bad: Arc::clone(bad) });
        }
        let mut meant = did_you_mean(plugin, shelf.plugins.keys().map(String::as_str)).map(str::to_owned);
        let folders: Vec<String> = shelf.settings.plugins.iter().map(|folder| shelf.looked_in(folder)).collect();
        let of_another_name = shelf.plugins.values().find(|entry| entry.path.file_stem().is_some_and(|stem| stem == plugin));
        let searched = if let Some(entry) = of_another_name {
            meant = None;
            let (path, toml) = (shown(&entry.path), shown(&entry.path.with_extension("toml")));
            format!(": {path} says that its name is `{}`; call it so, or say another `name` in {toml}", entry.name)
        } else if plugin.ends_with(".toml") {
            format!("; a workflow's file is what `sandhog run {}` takes", sanitize(plugin, 200))
        } else if folders.is_empty() {
            "; no plugin folder is named: write plugins = [\"FOLDER\"] into sandhog.toml, or use --plugins FOLDER".to_owned()
        } else {
            format!(" (looked in {})", folders.join(", "))
        };
        Err(Error::NotFound { name: plugin.to_owned(), meant, searched })
    }

    /// As [`Registry::find`], but what lies in the folders, where that does not serve.
    ///
    /// # Errors
    /// As for [`Registry::find`].
    pub fn find_newest(&self, plugin: &str) -> Result<Arc<Entry>, Error> {
        let shelf = self.shelf();
        let held = shelf.held.get(plugin).map(|held| &held.entry);
        held.or_else(|| shelf.disabled.get(plugin)).map_or_else(|| self.find(plugin), |entry| Ok(Arc::clone(entry)))
    }

    /// The plugins that do the work of a name: that of the name itself, and those that say they provide it.
    #[must_use]
    pub fn providers(&self, name: &str) -> Vec<Arc<Entry>> {
        let shelf = self.shelf();
        let named = shelf.plugins.get(name).cloned().or_else(|| self.find(name).ok());
        let others = shelf.plugins.values().filter(|entry| entry.name != name && entry.manifest.provides.as_deref() == Some(name));
        named.into_iter().chain(others.cloned()).collect()
    }

    /// The gates of a set that judge by themselves, by name; none where there is no such set, or a plugin has its name.
    #[must_use]
    pub fn set(&self, name: &str) -> Vec<Arc<Entry>> {
        let shelf = self.shelf();
        if shelf.plugins.contains_key(name) {
            return Vec::new();
        }
        let is_of =
            |entry: &&Arc<Entry>| entry.kind != Kind::Worker && entry.manifest.automatic && entry.manifest.set.as_deref() == Some(name);
        shelf.plugins.values().filter(is_of).cloned().collect()
    }

    /// What a plugin may touch: its requests, its grant and the ceiling together. Looks through the directories that are granted, which
    /// takes as long as they have files.
    ///
    /// # Errors
    /// When it asks for more than it is granted, changed since it was granted something, or a granted directory cannot be
    /// given to a guest.
    pub fn grant(&self, entry: &Entry) -> Result<Grant, Error> {
        let effective = self.declared_grant(entry)?;
        let settings = self.settings();
        let granted = settings.grants.iter().flat_map(|(name, pinned)| pinned.grant.files.iter().map(move |file| (name, file)));
        let written = granted.filter(|(_, file)| file.access == Access::ReadWrite).map(|(name, file)| (name.clone(), file.path.clone()));
        let written: Vec<(String, PathBuf)> = written.collect();
        for directory in &effective.files {
            let looked = self.looks.look(&directory.path, written.clone(), LOOK_MAX);
            looked.map_err(|reason| Error::Directory { path: directory.path.clone(), reason })?;
        }
        Ok(effective)
    }

    /// As [`Registry::grant`], by what is written alone: no directory is looked through.
    ///
    /// # Errors
    /// As there, but for what is in granted directories.
    pub fn declared_grant(&self, entry: &Entry) -> Result<Grant, Error> {
        let settings = self.settings();
        let requests = entry.manifest.requests.as_deref();
        let granted = match settings.grants.get(&entry.name) {
            Some(pinned) if pinned.digest != entry.digest => {
                return Err(Error::Changed { name: entry.name.clone(), granted: pinned.digest, found: entry.digest });
            }
            Some(pinned) => {
                let asks = |name: &String| {
                    requests.is_none_or(|all| all.iter().any(|r| matches!(r, Request::Environment { name: asked, .. } if asked == name)))
                };
                if let Some(variable) = pinned.unset.iter().find(|variable| asks(variable)) {
                    return Err(Error::Unset { name: entry.name.clone(), variable: variable.clone() });
                }
                pinned.grant.clone()
            }
            None => Grant::default(),
        };
        if granted.reuses() && entry.kind != Kind::Worker {
            return Err(Error::Reuse { name: entry.name.clone(), kind: entry.kind });
        }
        let granted = Grant { secrets: secrets(&settings, entry, &granted)?, ..granted };
        let wanted = requests.map_or_else(|| granted.clone(), |requests| granted.within(requests));
        let effective = settings.ceiling.cap(&wanted);
        let missing: Vec<Request> = requests.unwrap_or_default().iter().filter(|r| !effective.covers(r)).cloned().collect();
        if !missing.is_empty() {
            return Err(Error::NotGranted { name: entry.name.clone(), grant: grant_lines(entry), missing });
        }
        Ok(effective)
    }

    /// Whether a plugin comes with sandhog and was never granted anything: that it asks for something is nobody's mistake.
    #[must_use]
    pub fn is_standard_ungranted(&self, entry: &Entry) -> bool {
        let settings = self.settings();
        settings.standard.as_ref().is_some_and(|folder| entry.path.starts_with(folder)) && !settings.grants.contains_key(&entry.name)
    }

    /// The data that a gate is given: what its manifest asks for, as far as the operator named it.
    ///
    /// # Errors
    /// [`Error::NoData`] or [`Error::Data`].
    pub fn data(&self, entry: &Entry) -> Result<Arc<Snapshot>, Error> {
        if let Some(given) = self.data.lock().unwrap_or_else(PoisonError::into_inner).get(&entry.path) {
            return Ok(Arc::clone(given));
        }
        let settings = self.settings();
        let mut snapshot = Snapshot::default();
        for (name, request) in &entry.manifest.data {
            if name == DATA_TODAY {
                data::add_text(&mut snapshot, "today/date", &self.today);
                continue;
            }
            match settings.data.get(name) {
                Some(path) => {
                    data::add(&mut snapshot, name, path).map_err(|reason| Error::Data { name: name.clone(), path: path.clone(), reason })?
                }
                None if request.required => {
                    return Err(Error::NoData { gate: entry.name.clone(), data: name.clone(), why: request.why.clone() });
                }
                None => {}
            }
        }
        let given = Arc::new(snapshot);
        self.data.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.path.clone(), Arc::clone(&given));
        Ok(given)
    }

    /// The limits that a plugin runs with: default < plugin < configuration < what is given here.
    ///
    /// # Errors
    /// [`Error::AboveCeiling`].
    pub fn limits(&self, entry: &Entry, over: &LimitsPatch) -> Result<Limits, Error> {
        let settings = self.settings();
        let limits = Limits::default().with(&entry.manifest.limits.then(&settings.limits).then(over));
        let above = limits.above(&settings.limits_ceiling);
        if above.is_empty() { Ok(limits) } else { Err(Error::AboveCeiling { name: entry.name.clone(), above }) }
    }

    /// Loads a plugin: from the cache of compiled code, or by compiling it, which takes from milliseconds to a minute.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn load(&self, entry: &Arc<Entry>) -> Result<Loaded, Error> {
        self.load_while(entry, &|| true)
    }

    fn load_while(&self, entry: &Arc<Entry>, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Loaded, Error> {
        let settings = self.settings();
        let known = self.loaded().get(&entry.path).and_then(|all| all.iter().find(|loaded| loaded.is_of(entry))).cloned();
        if let Some(loaded) = known.as_ref().filter(|loaded| Arc::ptr_eq(&loaded.settings, &settings)) {
            return Ok(loaded.clone());
        }
        let grant = Arc::new(self.grant(entry)?);
        let limits = self.limits(entry, &LimitsPatch::default())?;
        let plugin = match known {
            Some(known) => known.plugin,
            None => Arc::new(self.code_while(entry, wanted)?.with_command(entry.manifest.command.clone()).with_name(&entry.name)),
        };
        let loaded = Loaded { entry: Arc::clone(entry), plugin, grant, limits, settings };
        let mut all = self.loaded();
        let of_file = all.entry(entry.path.clone()).or_default();
        // Nobody but us has the code of a file that was replaced: nothing runs on it any more.
        of_file.retain(|other| !other.is_of(entry) && Arc::strong_count(&other.plugin) > 1);
        of_file.push(loaded.clone());
        Ok(loaded)
    }

    /// As [`Registry::load`], only where that takes no time: what is in memory already.
    #[must_use]
    pub fn at_hand(&self, entry: &Entry) -> Option<Loaded> {
        let settings = self.settings();
        let all = self.loaded();
        all.get(&entry.path)?.iter().find(|loaded| loaded.is_of(entry) && Arc::ptr_eq(&loaded.settings, &settings)).cloned()
    }

    /// Whether a plugin, wherever its file is, is signed as the configuration asks for.
    ///
    /// # Errors
    /// [`BadPlugin::Signature`].
    pub fn check_signature(&self, entry: &Entry) -> Result<(), BadPlugin> {
        shelf::check_signature(entry, &self.settings(), self.examined().as_ref())
    }

    /// What is wrong with params for a plugin, by the schema that it has; nothing where they fit, or there is none.
    ///
    /// # Errors
    /// When its schema is none, or takes too long.
    pub fn params_problems(&self, entry: &Entry, params: &serde_json::Map<String, serde_json::Value>) -> Result<Vec<String>, Error> {
        let Some(schema) = &entry.component.params else { return Ok(Vec::new()) };
        params::problems(self.compiler.program(), schema, params).map_err(|reason| Error::Schema { name: entry.name.clone(), reason })
    }

    /// What compiling a plugin may take.
    #[must_use]
    pub fn compile_budget(&self, entry: &Entry) -> Budget {
        compiler::budget(entry.size_bytes, self.settings().compile)
    }

    /// Whether a plugin's compiled code is at hand, so that loading it will not take long.
    #[must_use]
    pub fn is_compiled(&self, entry: &Entry) -> bool {
        self.ahead(entry).is_some() || self.cache.as_ref().is_some_and(|cache| cache.has(&self.cache_name(entry)))
    }

    /// Where the code lies that was compiled ahead for a plugin that comes with sandhog. The folder must be the program's own, and
    /// belong to whom the program belongs to, and nobody else may write there.
    fn ahead(&self, entry: &Entry) -> Option<PathBuf> {
        use std::os::unix::fs::MetadataExt as _;
        let settings = self.settings();
        let standard = settings.standard.as_ref().filter(|standard| entry.path.parent() == Some(standard))?;
        let real = standard.canonicalize().ok()?;
        standard_folders().iter().find(|folder| folder.canonicalize().is_ok_and(|folder| folder == real))?;
        let path = standard.join(COMPILED_AHEAD).join(format!("{}.compiled", self.cache_name(entry)));
        let program = std::fs::metadata(std::env::current_exe().ok()?).ok()?;
        let own = |path: &Path| {
            std::fs::symlink_metadata(path)
                .is_ok_and(|there| there.uid() == program.uid() && there.mode() & 0o022 == 0 && !there.is_symlink())
        };
        (own(standard) && own(path.parent()?) && own(&path)).then_some(path)
    }

    /// Compiles the plugins that come with sandhog ahead, into the folder where [`Registry::code`] looks for it.
    ///
    /// # Errors
    /// When one does not compile, or the folder cannot be written.
    pub fn compile_ahead(&self) -> Result<usize, Error> {
        use std::os::unix::fs::DirBuilderExt as _;
        let settings = self.settings();
        let Some(standard) = &settings.standard else { return Ok(0) };
        let folder = standard.join(COMPILED_AHEAD);
        let cannot = |error: std::io::Error| Error::Directory { path: folder.clone(), reason: error.to_string() };
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(cannot)?;
        let entries: Vec<Arc<Entry>> = self.plugins().into_iter().filter(|entry| entry.path.parent() == Some(standard)).collect();
        let names: std::collections::BTreeSet<String> =
            entries.iter().map(|entry| format!("{}.compiled", self.cache_name(entry))).collect();
        for old in std::fs::read_dir(&folder).map_err(cannot)?.flatten() {
            if !names.contains(old.file_name().to_string_lossy().as_ref()) {
                std::fs::remove_file(old.path()).map_err(cannot)?;
            }
        }
        let mut compiled = 0;
        for entry in entries {
            let path = folder.join(format!("{}.compiled", self.cache_name(&entry)));
            if path.exists() {
                continue;
            }
            let bytes = intake::read(&entry.path, COMPONENT_BYTES_MAX)
                .map_err(|error| Error::Bad { path: entry.path.clone(), bad: Arc::new(error.into()) })?;
            let code = self.runtime.compile(&bytes).map_err(|error| Error::Runtime { name: entry.name.clone(), error })?;
            let write = || {
                use std::io::Write as _;
                let mut file =
                    tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).tempfile_in(&folder)?;
                file.write_all(&code)?;
                file.persist(&path).map_err(|error| error.error)
            };
            write().map_err(cannot)?;
            compiled += 1;
        }
        Ok(compiled)
    }

    /// The code of a plugin, without asking what it may do: for checks.
    ///
    /// # Errors
    /// When it does not compile, load or link.
    pub fn code(&self, entry: &Entry) -> Result<Plugin, Error> {
        self.code_while(entry, &|| true)
    }

    fn code_while(&self, entry: &Entry, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Plugin, Error> {
        // Files of the same content are compiled once, though they come at once.
        let turn = Arc::clone(self.compiling.lock().unwrap_or_else(PoisonError::into_inner).entry(entry.digest).or_default());
        let mine = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let code = self.code_in_turn(entry, wanted);
        drop(mine);
        let mut compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(&turn) == 2 {
            compiling.remove(&entry.digest); // nobody waits for the turn
        }
        code
    }

    fn code_in_turn(&self, entry: &Entry, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Plugin, Error> {
        let name = self.cache_name(entry);
        if let Some(ahead) = self.ahead(entry) {
            match self.runtime.load_file(&ahead, entry.digest) {
                Ok(plugin) => return Ok(plugin),
                Err(runtime::Error::Compiled(reason)) => {
                    tracing::info!(plugin = %entry.name, %reason, "what was compiled ahead does not fit")
                }
                Err(error) => return Err(Error::Runtime { name: entry.name.clone(), error }),
            }
        }
        if let Some(code) = self.cache.as_ref().and_then(|cache| cache.get(&name)) {
            match self.runtime.load(&code, entry.digest) {
                Ok(plugin) => return Ok(plugin),
                Err(runtime::Error::Compiled(reason)) => tracing::warn!(plugin = %entry.name, %reason, "compiled anew"),
                Err(error) => return Err(Error::Runtime { name: entry.name.clone(), error }),
            }
        }
        let runtime = |error| Error::Runtime { name: entry.name.clone(), error };
        if let Some(reason) = self.uncompiled.lock().unwrap_or_else(PoisonError::into_inner).get(&entry.digest) {
            return Err(runtime(runtime::Error::Compile(reason.clone())));
        }
        let bytes = self.bytes(entry)?;
        tracing::debug!(plugin = %entry.name, "compiling");
        let code = self.compiler.compile(&self.runtime, &bytes, self.compile_budget(entry), wanted).map_err(|error| {
            if let runtime::Error::Compile(reason) = &error {
                self.uncompiled.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.digest, reason.clone());
            }
            runtime(error)
        })?;
        let plugin = self.runtime.load(&code, entry.digest).map_err(runtime)?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.put(&name, &code)
        {
            tracing::warn!(%error, "compiled code could not be kept");
        }
        Ok(plugin)
    }

    /// The component that an entry is of, or what was kept of it where the file is another by now.
    fn bytes(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        let instead = match intake::read(&entry.path, COMPONENT_BYTES_MAX) {
            Ok(bytes) if Digest::of(&bytes) == entry.digest => return Ok(bytes),
            Ok(_) => Error::Replaced { path: entry.path.clone() },
            Err(error) => Error::Bad { path: entry.path.clone(), bad: Arc::new(error.into()) },
        };
        self.kept.as_ref().and_then(|kept| kept.bytes(entry.digest)).ok_or(instead)
    }

    fn cache_name(&self, entry: &Entry) -> String {
        format!("{}-{}", entry.digest.to_hex(), self.runtime.compatibility())
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Vec<Loaded>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    fn is_of(&self, entry: &Entry) -> bool {
        std::ptr::eq(&raw const *self.entry, entry) || (self.entry.digest == entry.digest && *self.entry == *entry)
    }
}

/// Whether a plugin is named by the path of its file.
#[must_use]
pub fn is_path(plugin: &str) -> bool {
    plugin.contains('/') || plugin.ends_with(".wasm")
}

/// Where the gates that come with sandhog lie: beside the binary, or where packages put them.
#[must_use]
pub fn standard_folders() -> Vec<PathBuf> {
    let binary = std::env::current_exe().and_then(|binary| binary.canonicalize());
    let beside = binary.ok().and_then(|binary| Some(binary.parent()?.to_owned()));
    beside.map_or_else(Vec::new, |beside| vec![beside.join("gates"), beside.join("../lib/sandhog/gates")])
}

/// The table of `sandhog.toml` that would grant a plugin all it asks for.
#[must_use]
pub fn grant_lines(entry: &Entry) -> String {
    let mut lines = vec![format!("[grants.{}]", entry.name), format!("digest = \"{}\"", entry.digest)];
    let requests = entry.manifest.requests.as_deref().unwrap_or_default();
    let files: Vec<String> = requests.iter().filter(|r| matches!(r, Request::Files { .. })).map(Request::grant_line).collect();
    let inner = |line: &String| line.trim_start_matches("files = [").trim_end_matches(']').to_owned();
    if !files.is_empty() {
        lines.push(format!("files = [{}]", files.iter().map(inner).collect::<Vec<_>>().join(", ")));
    }
    let names: Vec<String> = requests
        .iter()
        .filter_map(|request| match request {
            Request::Environment { name, .. } => Some(format!("\"{name}\"")),
            Request::Files { .. }
            | Request::Clock { .. }
            | Request::Randomness { .. }
            | Request::Reuse { .. }
            | Request::Outbound { .. } => None,
        })
        .collect();
    if !names.is_empty() {
        lines.push(format!("environment = [{}]", names.join(", ")));
    }
    let plain = requests.iter().filter(|r| matches!(r, Request::Clock { .. } | Request::Randomness { .. } | Request::Reuse { .. }));
    lines.extend(plain.map(Request::grant_line));
    let origins: Vec<String> = requests.iter().filter(|r| matches!(r, Request::Outbound { .. })).map(Request::grant_line).collect();
    if !origins.is_empty() {
        let inner = |line: &String| line.trim_start_matches("outbound = [").trim_end_matches(']').to_owned();
        lines.push(format!("outbound = [{}]", origins.iter().map(inner).collect::<Vec<_>>().join(", ")));
    }
    lines.join("\n")
}

/// The secrets that go with a plugin's requests; none where it may make none.
fn secrets(settings: &Settings, entry: &Entry, granted: &Grant) -> Result<Vec<Secret>, Error> {
    let mut secrets = Vec::new();
    let sources = settings.secrets.iter().filter(|source| source.plugins.contains(&entry.name));
    for source in sources.filter(|_| !granted.outbound.is_empty()) {
        let mut secret = source.secret.clone();
        let missing = |reason: String| Error::Secret { name: source.secret.name.clone(), reason };
        if let Some(file) = &source.file {
            let bytes = intake::read(file, SECRET_BYTES_MAX).map_err(|error| missing(format!("{}: {error}", file.display())))?;
            let text = String::from_utf8(bytes).map_err(|_| missing(format!("{} is not UTF-8", file.display())))?;
            text.trim().clone_into(&mut secret.value);
        }
        if secret.value.is_empty() {
            let place = source.variable.as_ref().map_or("its file is empty".to_owned(), |name| format!("the variable {name} is not set"));
            return Err(missing(place));
        }
        secrets.push(secret);
    }
    Ok(secrets)
}
