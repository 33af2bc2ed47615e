//! Looks at the plugin folders and the configuration while a host runs, and has what changed take effect.
//!
//! It asks the file system for the state of every file, a few times a second, and acts when two looks in a row see the same
//! news: what is still being written is left alone. A file is never read in order to find out that nothing changed. This
//! works alike on every file system, over a network, and when a folder vanishes and comes back; see
//! `docs/adr/0016-looking-at-folders.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Registry;
use super::entry::{Entry, Stamp};
use crate::config::Settings;

/// How often the folders are looked at. Two looks and the compiling of a small component fit into a second.
const LOOK: Duration = Duration::from_millis(200);
/// How many new plugins are compiled at once: one that takes long does not keep the others waiting.
const COMPILING: usize = 2;

/// What is told when the plugins changed.
pub type Changed = Arc<dyn Fn() + Send + Sync>;
/// Reads the configuration again; says what is wrong with it.
pub type Reread = Box<dyn Fn() -> Result<Settings, String> + Send>;

/// The threads that look. Stopped, and waited for, when dropped; what is compiled at that time is left to end with the process.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts looking at the folders of a registry, and at the configuration file.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(registry: Arc<Registry>, configuration: Option<PathBuf>, reread: Reread, changed: Changed) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (to_compile, entries) = async_channel::unbounded::<Arc<Entry>>(); // as many as there are files in the folders
        for _ in 0..COMPILING {
            let (registry, entries, changed) = (Arc::clone(&registry), entries.clone(), Arc::clone(&changed));
            std::thread::Builder::new().name("sandhog-compile".to_owned()).spawn(move || {
                while let Ok(entry) = entries.recv_blocking() {
                    if registry.admit(&entry) {
                        changed();
                    }
                }
            })?;
        }
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("sandhog-folders".to_owned()).spawn(move || {
            let mut acted: Option<Seen> = None;
            let mut before = Seen::look(&registry, configuration.as_deref());
            while !stopped.load(Ordering::SeqCst) {
                let now = Seen::look(&registry, configuration.as_deref());
                if now == before && acted.as_ref() != Some(&now) {
                    let same_configuration = acted.as_ref().is_some_and(|acted| acted.configuration == now.configuration);
                    let settings = if same_configuration { None } else { read_again(&registry, &reread) };
                    let (new, is_changed) = registry.refresh(settings);
                    new.into_iter().for_each(|entry| drop(to_compile.try_send(entry)));
                    if is_changed {
                        changed();
                    }
                    acted = Some(before);
                }
                before = now;
                std::thread::park_timeout(LOOK);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// The configuration, where it says something else than it did.
fn read_again(registry: &Registry, reread: &Reread) -> Option<Settings> {
    match reread() {
        Ok(settings) => Some(settings).filter(|settings| *settings != *registry.settings()),
        Err(problem) => {
            tracing::warn!("the configuration stays as it was: {problem}");
            None
        }
    }
}

/// What a look saw: the state of each file, and nothing of its content.
#[derive(PartialEq)]
struct Seen {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    configuration: Option<Stamp>,
}

impl Seen {
    fn look(registry: &Registry, configuration: Option<&Path>) -> Self {
        let mut files = BTreeMap::new();
        for folder in &registry.settings().plugins {
            let Ok(entries) = std::fs::read_dir(folder) else {
                files.insert(folder.clone(), None);
                continue;
            };
            let is_ours = |path: &PathBuf| {
                path.extension().is_some_and(|extension| ["wasm", "toml", "minisig"].iter().any(|ours| extension == *ours))
            };
            let paths = entries.take(super::shelf::FOLDER_ENTRIES_MAX).flatten().map(|entry| entry.path());
            files.extend(paths.filter(is_ours).map(|path| (path.clone(), Stamp::of(&path))));
        }
        Self { files, configuration: configuration.and_then(Stamp::of) }
    }
}
