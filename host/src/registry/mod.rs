//! The plugin folder: which plugins there are, what each is, what it may do, and its compiled code.
//!
//! Nothing is executed in order to be discovered. A bad file is reported and never keeps the others from loading; two
//! plugins of one name in one folder are both reported, and neither is chosen.

pub mod cache;
pub mod component;
mod data;
pub mod intake;
pub mod pack;
pub mod verdicts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Clock as _, SystemClock};
use crate::config::manifest::{DATA_TODAY, check_name};
use crate::config::{Manifest, Problems, Settings, manifest};
use crate::model::limits::LimitsPatch;
use crate::model::text::{did_you_mean, sanitize};
use crate::model::{Digest, Grant, Limits, Request, Secret, Snapshot};
use crate::runtime::{self, Kind, Plugin, Runtime};

use serde::{Deserialize, Serialize};

use cache::Cache;
use component::Component;
use intake::COMPONENT_BYTES_MAX;

/// The largest manifest that is read, in bytes.
const MANIFEST_BYTES_MAX: u64 = 256 << 10;
/// The largest file with a secret that is read, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// How many entries of a granted directory are looked at for what would block a reader.
const GRANTED_ENTRIES_MAX: usize = 1_000_000;
/// The folder, beside the plugins that come with sandhog, of their code compiled ahead.
const COMPILED_AHEAD: &str = "compiled";
/// How many files of one plugin folder are looked at.
const FOLDER_ENTRIES_MAX: usize = 100_000;

/// A plugin that was found: what it is, but not its code.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name: from the manifest, the component's metadata, or the file's stem.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The digest of the component.
    pub digest: Digest,
    /// The component's size, in bytes.
    pub size_bytes: u64,
    /// What was said about it, by its manifest or its metadata.
    pub manifest: Manifest,
    /// What the component says of itself.
    pub component: Component,
}

/// Why a file in a folder is not among the plugins.
#[derive(Debug, thiserror::Error)]
pub enum BadPlugin {
    /// The file could not be read.
    #[error(transparent)]
    Intake(#[from] intake::Error),
    /// The file is no plugin.
    #[error(transparent)]
    Component(#[from] component::Error),
    /// What is written about it is wrong.
    #[error("{}", problems(.0))]
    Manifest(Problems),
    /// The file is no plugin, and what is written about it is wrong besides.
    #[error("{0}\n{1}")]
    Both(component::Error, Box<BadPlugin>),
    /// Its name cannot be a plugin's.
    #[error("`{found}` cannot be a plugin's name ({expected}); give it one in a manifest beside it")]
    Name {
        /// What it is called.
        found: String,
        /// What a name is.
        expected: &'static str,
    },
    /// Another file of the folder has the same name.
    #[error("it is named `{name}`, and so is {}; give one of them another name in a manifest beside it", .other.display())]
    Clash {
        /// The name.
        name: String,
        /// The other file.
        other: PathBuf,
    },
    /// A folder that cannot be listed.
    #[error("the folder cannot be listed: {0}")]
    Folder(#[source] std::io::Error),
}

fn problems(problems: &Problems) -> String {
    let help = |help: &Option<String>| help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
    let all = problems.problems.iter().map(|p| format!("{}:{}:{}: {p}{}", sanitize(&p.file, 1024), p.line, p.column, help(&p.help)));
    all.collect::<Vec<_>>().join("\n")
}

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
        bad: Box<BadPlugin>,
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
}

/// The plugins of some folders.
pub struct Registry {
    runtime: Runtime,
    cache: Option<Cache>,
    settings: Settings,
    plugins: BTreeMap<String, Arc<Entry>>,
    shadowed: Vec<Arc<Entry>>,
    bad: Vec<(PathBuf, BadPlugin)>,
    loaded: Mutex<BTreeMap<PathBuf, Loaded>>,
    data: Mutex<BTreeMap<PathBuf, data::Given>>,
    today: String,
}

impl Registry {
    /// Looks through the folders of the settings. `today` is the day that gates are told which ask for it.
    #[must_use]
    pub fn open(runtime: Runtime, cache: Option<Cache>, settings: Settings, today: jiff::civil::Date) -> Self {
        let mut registry = Self {
            runtime,
            cache,
            plugins: BTreeMap::new(),
            shadowed: Vec::new(),
            bad: Vec::new(),
            loaded: Mutex::default(),
            data: Mutex::default(),
            today: today.to_string(),
            settings,
        };
        let examined = registry.cache.as_ref().and_then(|cache| cache.beside("examined").ok());
        for folder in registry.settings.plugins.clone() {
            registry.discover(&folder, examined.as_ref());
        }
        registry
    }

    /// The plugins, by name.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.plugins.values()
    }

    /// Plugins of later folders whose names an earlier folder has too.
    #[must_use]
    pub fn shadowed(&self) -> &[Arc<Entry>] {
        &self.shadowed
    }

    /// Files that are no plugins, and why.
    #[must_use]
    pub fn bad(&self) -> &[(PathBuf, BadPlugin)] {
        &self.bad
    }

    /// What the registry was opened with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn discover(&mut self, folder: &Path, examined: Option<&Cache>) {
        let mut paths = Vec::new();
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                let entries = entries.take(FOLDER_ENTRIES_MAX).flatten().map(|entry| entry.path());
                paths.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")));
            }
            Err(error) => self.bad.push((folder.to_owned(), BadPlugin::Folder(error))),
        }
        paths.sort();
        let mut found: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for path in paths {
            match examine_known(&path, examined) {
                Ok(entry) => found.entry(entry.name.clone()).or_default().push(entry),
                Err(bad) => self.bad.push((path, bad)),
            }
        }
        for (name, mut entries) in found {
            if entries.len() > 1 {
                let first = entries[0].path.clone();
                let second = entries[1].path.clone();
                for (place, entry) in entries.into_iter().enumerate() {
                    let other = if place == 0 { second.clone() } else { first.clone() };
                    self.bad.push((entry.path, BadPlugin::Clash { name: name.clone(), other }));
                }
            } else if let Some(entry) = entries.pop() {
                let entry = Arc::new(entry);
                match self.plugins.entry(name) {
                    std::collections::btree_map::Entry::Occupied(_) => self.shadowed.push(entry),
                    std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(entry)),
                }
            }
        }
    }

    /// Finds a plugin by its name, or by a path to a component (anything with a `/`, or that ends with `.wasm`).
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Bad`].
    pub fn find(&self, plugin: &str) -> Result<Arc<Entry>, Error> {
        if is_path(plugin) {
            let path = PathBuf::from(plugin);
            return match examine(&path) {
                Ok(entry) => Ok(Arc::new(entry)),
                Err(BadPlugin::Intake(intake::Error::NotReadable(error))) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(Error::NotFound { name: plugin.to_owned(), meant: None, searched: "; there is no such file".to_owned() })
                }
                Err(bad) => Err(Error::Bad { path, bad: Box::new(bad) }),
            };
        }
        if let Some(entry) = self.plugins.get(plugin) {
            return Ok(Arc::clone(entry));
        }
        if let Some((path, bad)) = self.bad.iter().find(|(path, bad)| {
            path.file_stem().is_some_and(|stem| stem == plugin) || matches!(bad, BadPlugin::Clash { name, .. } if name == plugin)
        }) {
            let bad = examine(path).err().unwrap_or_else(|| match bad {
                BadPlugin::Clash { name, other } => BadPlugin::Clash { name: name.clone(), other: other.clone() },
                _ => BadPlugin::Intake(intake::Error::Unfinished),
            });
            return Err(Error::Bad { path: path.clone(), bad: Box::new(bad) });
        }
        let meant = did_you_mean(plugin, self.plugins.keys().map(String::as_str)).map(str::to_owned);
        let folders: Vec<String> = self.settings.plugins.iter().map(|folder| folder.display().to_string()).collect();
        let searched = if folders.is_empty() {
            "; no plugin folder is named: write plugins = [\"FOLDER\"] into sandhog.toml, or use --plugins FOLDER".to_owned()
        } else {
            format!(" (looked in {})", folders.join(", "))
        };
        Err(Error::NotFound { name: plugin.to_owned(), meant, searched })
    }

    /// The plugins that do the work of a name: that of the name itself, and those that say they provide it.
    #[must_use]
    pub fn providers(&self, name: &str) -> Vec<Arc<Entry>> {
        let named = self.plugins.get(name).cloned().or_else(|| self.find(name).ok());
        let others = self.plugins.values().filter(|entry| entry.name != name && entry.manifest.provides.as_deref() == Some(name));
        named.into_iter().chain(others.cloned()).collect()
    }

    /// The gates of a set that judge by themselves, by name; none where there is no such set, or a plugin has its name.
    #[must_use]
    pub fn set(&self, name: &str) -> Vec<Arc<Entry>> {
        if self.plugins.contains_key(name) {
            return Vec::new();
        }
        let is_of =
            |entry: &&Arc<Entry>| entry.kind != Kind::Worker && entry.manifest.automatic && entry.manifest.set.as_deref() == Some(name);
        self.plugins.values().filter(is_of).cloned().collect()
    }

    /// What a plugin may touch: its requests, its grant and the ceiling together.
    ///
    /// # Errors
    /// When it asks for more than it is granted, changed since it was granted something, or a granted directory cannot be
    /// given to a guest.
    pub fn grant(&self, entry: &Entry) -> Result<Grant, Error> {
        let granted = match self.settings.grants.get(&entry.name) {
            Some(pinned) if pinned.digest != entry.digest => {
                return Err(Error::Changed { name: entry.name.clone(), granted: pinned.digest, found: entry.digest });
            }
            Some(pinned) => pinned.grant.clone(),
            None => Grant::default(),
        };
        let granted = Grant { secrets: self.secrets(entry, &granted)?, ..granted };
        let requests = entry.manifest.requests.as_deref();
        let wanted = requests.map_or_else(|| granted.clone(), |requests| granted.within(requests));
        let effective = self.settings.ceiling.cap(&wanted);
        let missing: Vec<Request> = requests.unwrap_or_default().iter().filter(|r| !effective.covers(r)).cloned().collect();
        if !missing.is_empty() {
            return Err(Error::NotGranted { name: entry.name.clone(), grant: grant_lines(entry), missing });
        }
        for directory in &effective.files {
            check_directory(&directory.path).map_err(|reason| Error::Directory { path: directory.path.clone(), reason })?;
        }
        Ok(effective)
    }

    /// The secrets that go with a plugin's requests; none where it may make none.
    fn secrets(&self, entry: &Entry, granted: &Grant) -> Result<Vec<Secret>, Error> {
        let mut secrets = Vec::new();
        let sources = self.settings.secrets.iter().filter(|source| source.plugins.contains(&entry.name));
        for source in sources.filter(|_| !granted.outbound.is_empty()) {
            let mut secret = source.secret.clone();
            let missing = |reason: String| Error::Secret { name: source.secret.name.clone(), reason };
            if let Some(file) = &source.file {
                let bytes = intake::read(file, SECRET_BYTES_MAX).map_err(|error| missing(format!("{}: {error}", file.display())))?;
                let text = String::from_utf8(bytes).map_err(|_| missing(format!("{} is not UTF-8", file.display())))?;
                text.trim().clone_into(&mut secret.value);
            }
            if secret.value.is_empty() {
                let place =
                    source.variable.as_ref().map_or("its file is empty".to_owned(), |name| format!("the variable {name} is not set"));
                return Err(missing(place));
            }
            secrets.push(secret);
        }
        Ok(secrets)
    }

    /// The data that a gate is given: what its manifest asks for, as far as the operator named it.
    ///
    /// # Errors
    /// [`Error::NoData`] or [`Error::Data`].
    pub fn data(&self, entry: &Entry) -> Result<Arc<Snapshot>, Error> {
        if let Some(given) = self.data.lock().unwrap_or_else(PoisonError::into_inner).get(&entry.path) {
            return Ok(Arc::clone(given));
        }
        let mut snapshot = Snapshot::default();
        for (name, request) in &entry.manifest.data {
            if name == DATA_TODAY {
                data::add_text(&mut snapshot, "today/date", &self.today);
                continue;
            }
            match self.settings.data.get(name) {
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
        let limits = Limits::default().with(&entry.manifest.limits.then(&self.settings.limits).then(over));
        let above = limits.above(&self.settings.limits_ceiling);
        if above.is_empty() { Ok(limits) } else { Err(Error::AboveCeiling { name: entry.name.clone(), above }) }
    }

    /// Loads a plugin: from the cache of compiled code, or by compiling it, which takes from milliseconds to a minute.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn load(&self, entry: &Arc<Entry>) -> Result<Loaded, Error> {
        if let Some(loaded) = self.loaded().get(&entry.path) {
            return Ok(loaded.clone());
        }
        let grant = Arc::new(self.grant(entry)?);
        let limits = self.limits(entry, &LimitsPatch::default())?;
        let plugin = Arc::new(self.code(entry)?.with_command(entry.manifest.command).with_name(&entry.name));
        let loaded = Loaded { entry: Arc::clone(entry), plugin, grant, limits };
        self.loaded().insert(entry.path.clone(), loaded.clone());
        Ok(loaded)
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
        let standard = self.settings.standard.as_ref().filter(|standard| entry.path.parent() == Some(standard))?;
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
        let Some(standard) = &self.settings.standard else { return Ok(0) };
        let folder = standard.join(COMPILED_AHEAD);
        let cannot = |error: std::io::Error| Error::Directory { path: folder.clone(), reason: error.to_string() };
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(cannot)?;
        let entries: Vec<&Arc<Entry>> = self.plugins().filter(|entry| entry.path.parent() == Some(standard)).collect();
        let names: std::collections::BTreeSet<String> =
            entries.iter().map(|entry| format!("{}.compiled", self.cache_name(entry))).collect();
        for old in std::fs::read_dir(&folder).map_err(cannot)?.flatten() {
            if !names.contains(old.file_name().to_string_lossy().as_ref()) {
                std::fs::remove_file(old.path()).map_err(cannot)?;
            }
        }
        let mut compiled = 0;
        for entry in entries {
            let path = folder.join(format!("{}.compiled", self.cache_name(entry)));
            if path.exists() {
                continue;
            }
            let bytes = intake::read(&entry.path, COMPONENT_BYTES_MAX)
                .map_err(|error| Error::Bad { path: entry.path.clone(), bad: Box::new(error.into()) })?;
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
        let bytes = intake::read(&entry.path, COMPONENT_BYTES_MAX)
            .map_err(|error| Error::Bad { path: entry.path.clone(), bad: Box::new(error.into()) })?;
        if Digest::of(&bytes) != entry.digest {
            return Err(Error::Replaced { path: entry.path.clone() });
        }
        let runtime = |error| Error::Runtime { name: entry.name.clone(), error };
        tracing::debug!(plugin = %entry.name, "compiling");
        let code = self.runtime.compile(&bytes).map_err(runtime)?;
        let plugin = self.runtime.load(&code, entry.digest).map_err(runtime)?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.put(&name, &code)
        {
            tracing::warn!(%error, "compiled code could not be kept");
        }
        Ok(plugin)
    }

    fn cache_name(&self, entry: &Entry) -> String {
        format!("{}-{}", entry.digest.to_hex(), self.runtime.compatibility())
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
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
            Request::Files { .. } | Request::Clock { .. } | Request::Randomness { .. } | Request::Outbound { .. } => None,
        })
        .collect();
    if !names.is_empty() {
        lines.push(format!("environment = [{}]", names.join(", ")));
    }
    let plain = requests.iter().filter(|r| matches!(r, Request::Clock { .. } | Request::Randomness { .. }));
    lines.extend(plain.map(Request::grant_line));
    let origins: Vec<String> = requests.iter().filter(|r| matches!(r, Request::Outbound { .. })).map(Request::grant_line).collect();
    if !origins.is_empty() {
        let inner = |line: &String| line.trim_start_matches("outbound = [").trim_end_matches(']').to_owned();
        lines.push(format!("outbound = [{}]", origins.iter().map(inner).collect::<Vec<_>>().join(", ")));
    }
    lines.join("\n")
}

/// Reads one file as a plugin.
///
/// # Errors
/// See [`BadPlugin`].
pub fn examine(path: &Path) -> Result<Entry, BadPlugin> {
    examine_known(path, None)
}

/// What is known of a component's bytes.
#[derive(Serialize, Deserialize)]
struct Examined {
    digest: Digest,
    size_bytes: u64,
    component: Component,
}

/// As [`examine`]; what was known of exactly this file is not read again: large components take a while to hash.
fn examine_known(path: &Path, cache: Option<&Cache>) -> Result<Entry, BadPlugin> {
    let stamp = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file).map(|metadata| Stamp::of(path, &metadata));
    let known = cache.zip(stamp.as_ref()).and_then(|(cache, stamp)| serde_json::from_slice::<Examined>(&cache.get(&stamp.name())?).ok());
    let Examined { digest, size_bytes, component } = match known {
        Some(known) => known,
        None => {
            let bytes = intake::read(path, COMPONENT_BYTES_MAX)?;
            let examined = Examined { digest: Digest::of(&bytes), size_bytes: bytes.len() as u64, component: component::read(&bytes)? };
            if let (Some(cache), Some(stamp)) = (cache, stamp)
                && stamp.is_settled()
                && stamp.is_of(path)
                && let Ok(text) = serde_json::to_vec(&examined)
                && let Err(error) = cache.put(&stamp.name(), &text)
            {
                tracing::debug!(%error, "what is known of a component could not be kept");
            }
            examined
        }
    };
    let (kind, manifest) = match (component.kind(), read_manifest(path, &component)) {
        (Ok(kind), Ok(manifest)) => (kind, manifest),
        (Err(problem), Ok(_)) => return Err(problem.into()),
        (Ok(_), Err(problem)) => return Err(problem),
        (Err(first), Err(second)) => return Err(BadPlugin::Both(first, Box::new(second))),
    };
    let stem = path.file_stem().unwrap_or_default();
    let fits = |name: &String| check_name(name).is_ok();
    let name = match manifest.name.clone().or_else(|| component.name.clone().filter(fits)) {
        Some(name) => name,
        None => {
            let stem = stem.to_string_lossy().into_owned();
            check_name(&stem).map_err(|expected| BadPlugin::Name { found: sanitize(&stem, 200), expected })?;
            stem
        }
    };
    Ok(Entry {
        name,
        path: path.to_owned(),
        kind,
        digest,
        size_bytes,
        manifest: Manifest {
            version: manifest.version.clone().or_else(|| component.version.clone()),
            description: manifest.description.clone().or_else(|| component.description.clone()),
            license: manifest.license.clone().or_else(|| component.license.clone()),
            source: manifest.source.clone().or_else(|| component.source.clone()),
            authors: match manifest.authors.as_slice() {
                [] => component.authors.iter().cloned().collect(),
                named => named.to_vec(),
            },
            ..manifest
        },
        component,
    })
}

/// What a file is known by without reading it. Its change time cannot be set by whoever writes it.
#[derive(PartialEq)]
struct Stamp {
    path: PathBuf,
    numbers: [i128; 7],
    changed_at: i64,
}

impl Stamp {
    fn of(path: &Path, metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let numbers = [
            i128::from(metadata.dev()),
            i128::from(metadata.ino()),
            i128::from(metadata.len()),
            i128::from(metadata.mtime()),
            i128::from(metadata.mtime_nsec()),
            i128::from(metadata.ctime()),
            i128::from(metadata.ctime_nsec()),
        ];
        Self { path, numbers, changed_at: metadata.ctime() }
    }

    /// Whether it is still so.
    fn is_of(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|metadata| Self::of(path, &metadata) == *self)
    }

    /// Whether a later change would have another time: clocks of file systems are coarse.
    fn is_settled(&self) -> bool {
        SystemClock.now().as_second() > self.changed_at + 2
    }

    /// The name under which it is remembered.
    fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"examined 2 ").update(env!("CARGO_PKG_VERSION").as_bytes()).update(self.path.as_os_str().as_encoded_bytes());
        for number in self.numbers {
            hasher.update(&number.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// What is written about a plugin: beside it, or else inside it.
fn read_manifest(path: &Path, component: &Component) -> Result<Manifest, BadPlugin> {
    let beside = path.with_extension("toml");
    let text = match intake::read(&beside, MANIFEST_BYTES_MAX) {
        Ok(bytes) => Some((beside.display().to_string(), String::from_utf8_lossy(&bytes).into_owned())),
        Err(intake::Error::NotReadable(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            component.manifest.clone().map(|text| (format!("{} (embedded manifest)", path.display()), text))
        }
        Err(error) => return Err(BadPlugin::Intake(error)),
    };
    match text {
        Some((file, text)) => manifest::read(&file, &text).map_err(BadPlugin::Manifest),
        None => Ok(Manifest::default()),
    }
}

/// A directory that a guest may be given: one in which opening a file never blocks.
fn check_directory(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_dir() {
        return Err("it is not a directory".to_owned());
    }
    for (count, entry) in walkdir::WalkDir::new(path).follow_links(false).into_iter().enumerate() {
        if count > GRANTED_ENTRIES_MAX {
            return Err(format!("it holds more than {GRANTED_ENTRIES_MAX} files, too many to look through"));
        }
        let entry = entry.map_err(|error| error.to_string())?;
        let kind = entry.metadata().map_err(|error| error.to_string())?;
        match intake::not_regular(&kind) {
            None | Some("a folder" | "a symbolic link") => {}
            Some(other) => return Err(format!("{} is {other}, and a guest that opens it could wait without end", entry.path().display())),
        }
    }
    Ok(())
}
