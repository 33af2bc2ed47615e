//! What the plugin folders hold at a time, and what of it serves. A shelf is replaced as a whole, and never changed where
//! somebody reads it.
//!
//! What serves is not always what lies in the folders: a file that is bad, does not compile, or asks for more than it is
//! granted does not take the place of the one before, which goes on serving, with the reason told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::Cache;
use super::entry::{self, BadPlugin, Entry, examine_known};
use super::signature;
use crate::config::Settings;
use crate::model::Digest;
use crate::model::text::shown;

/// How many files of one plugin folder are looked at.
pub(super) const FOLDER_ENTRIES_MAX: usize = 100_000;

/// What there is.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    /// What was configured when it was put together.
    pub settings: Arc<Settings>,
    /// The plugins that serve, by name.
    pub plugins: BTreeMap<String, Arc<Entry>>,
    /// Plugins of later folders whose names an earlier folder has too.
    pub shadowed: Vec<Arc<Entry>>,
    /// Files that are no plugins, and why.
    pub bad: Vec<(PathBuf, Arc<BadPlugin>)>,
    /// Plugins that lie in the folders and do not serve, by name.
    pub held: BTreeMap<String, Held>,
    /// Plugins that the configuration switches off, by name.
    pub disabled: BTreeMap<String, Arc<Entry>>,
    /// Plugins that are being compiled before they serve, by name.
    pub(super) awaited: BTreeMap<String, Arc<Entry>>,
}

/// A plugin that does not serve.
#[derive(Debug, Clone)]
pub struct Held {
    /// What it is.
    pub entry: Arc<Entry>,
    /// Why.
    pub reason: Arc<str>,
}

impl Shelf {
    /// Looks through the folders.
    pub(super) fn look(settings: Arc<Settings>, examined: Option<&Cache>) -> Self {
        let mut shelf = Self { settings: Arc::clone(&settings), ..Self::default() };
        for folder in &settings.plugins {
            shelf.look_into(folder, examined);
        }
        let disabled = |name: &String| settings.disabled.contains(name);
        shelf.disabled = shelf.plugins.extract_if(.., |name, _| disabled(name)).collect();
        shelf
    }

    /// A folder in which was looked, and why in vain where it could not be listed.
    pub(super) fn looked_in(&self, folder: &Path) -> String {
        let failed = self.bad.iter().find(|(path, bad)| path == folder && matches!(**bad, BadPlugin::Folder(_)));
        failed.map_or_else(|| shown(folder), |(_, bad)| format!("{}: {bad}", shown(folder)))
    }

    fn look_into(&mut self, folder: &Path, examined: Option<&Cache>) {
        // A name that an earlier folder has twice is not left to a later one: nobody said which of the two that is.
        let twice = |bad: &BadPlugin| if let BadPlugin::Clash { name, .. } = bad { Some(name.clone()) } else { None };
        let refused: BTreeSet<String> = self.bad.iter().filter_map(|(_, bad)| twice(bad)).collect();
        let mut found: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        match components(folder) {
            Ok(paths) => {
                for path in paths {
                    let signed = |entry: &Entry| check_signature(entry, &self.settings, examined);
                    match examine_known(&path, examined).and_then(|entry| signed(&entry).map(|()| entry)) {
                        Ok(entry) => found.entry(entry.name.clone()).or_default().push(entry),
                        Err(bad) => self.bad.push((path, Arc::new(bad))),
                    }
                }
            }
            Err(error) => self.bad.push((folder.to_owned(), Arc::new(BadPlugin::Folder(error)))),
        }
        for (name, mut entries) in found {
            if entries.len() > 1 {
                let first = entries[0].path.clone();
                let second = entries[1].path.clone();
                for (place, entry) in entries.into_iter().enumerate() {
                    let other = if place == 0 { second.clone() } else { first.clone() };
                    self.bad.push((entry.path, Arc::new(BadPlugin::Clash { name: name.clone(), other })));
                }
            } else if let Some(entry) = entries.pop() {
                let entry = Arc::new(entry);
                if refused.contains(&name) {
                    self.shadowed.push(entry);
                    continue;
                }
                match self.plugins.entry(name) {
                    std::collections::btree_map::Entry::Occupied(_) => self.shadowed.push(entry),
                    std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(entry)),
                }
            }
        }
    }

    /// What serves once the folders are as `found` says; and what has to be compiled before it does.
    pub(super) fn then(&self, found: Self) -> (Self, Vec<Arc<Entry>>) {
        let mut next = Self { plugins: BTreeMap::new(), ..found };
        let same_settings = Arc::ptr_eq(&self.settings, &next.settings);
        // But where signatures are asked for anew, one without does not go on.
        let counts = |why: &BadPlugin| same_settings || !matches!(why, BadPlugin::Signature(_));
        let bad: BTreeSet<&Path> = next.bad.iter().filter(|(_, why)| counts(why)).map(|(path, _)| path.as_path()).collect();
        // A file, or its whole folder, that cannot be read now says nothing about the one that was read before.
        let is_unknown = |old: &Entry| bad.contains(old.path.as_path()) || old.path.parent().is_some_and(|folder| bad.contains(folder));
        let is_configured = |old: &Entry| old.path.parent().is_some_and(|folder| next.settings.plugins.iter().any(|named| named == folder));
        let mut to_compile = Vec::new();
        for (name, old) in &self.plugins {
            if is_unknown(old) && is_configured(old) && !next.disabled.contains_key(name) {
                next.plugins.insert(name.clone(), Arc::clone(old));
            }
        }
        for (name, new) in found.plugins {
            if next.plugins.contains_key(&name) {
                continue;
            }
            let old = self.plugins.get(&name);
            if let Some(old) = old {
                next.plugins.insert(name.clone(), Arc::clone(old));
                if **old == *new {
                    continue;
                }
            }
            match (self.held.get(&name).filter(|held| same_settings && held.entry == new), self.awaited.get(&name)) {
                (Some(held), _) => drop(next.held.insert(name, held.clone())),
                (None, Some(awaited)) if *awaited == new => drop(next.awaited.insert(name, Arc::clone(awaited))),
                (None, _) => {
                    next.awaited.insert(name, Arc::clone(&new));
                    to_compile.push(new);
                }
            }
        }
        (next, to_compile)
    }

    /// Settles what was to be compiled: it serves, or is held for a reason. Says whether anybody still waits for it.
    pub(super) fn settle(&mut self, entry: &Arc<Entry>, held: Option<String>) -> bool {
        if self.awaited.get(&entry.name) != Some(entry) {
            return false; // the folder has another by now
        }
        self.awaited.remove(&entry.name);
        match held {
            None => {
                self.held.remove(&entry.name);
                self.plugins.insert(entry.name.clone(), Arc::clone(entry));
            }
            Some(reason) => {
                self.held.insert(entry.name.clone(), Held { entry: Arc::clone(entry), reason: reason.into() });
            }
        }
        true
    }

    /// Whether what anybody can see of it is the same.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let same = |a: &BTreeMap<String, Arc<Entry>>, b: &BTreeMap<String, Arc<Entry>>| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
        };
        Arc::ptr_eq(&self.settings, &other.settings) && same(&self.plugins, &other.plugins)
    }
}

/// Whether a plugin is signed as the configuration asks for. Those that come with sandhog are as trusted as it is.
pub(super) fn check_signature(entry: &Entry, settings: &Settings, known: Option<&Cache>) -> Result<(), BadPlugin> {
    let comes_along = settings.standard.as_deref().is_some_and(|standard| entry.path.parent() == Some(standard));
    if settings.keys.is_empty() || comes_along {
        return Ok(());
    }
    signature::check(&entry.path, entry.digest, &settings.keys, known).map_err(BadPlugin::Signature)?;
    // What is written beside it can change its name and what it asks for.
    let Some(manifest) = entry::beside(&entry.path)? else { return Ok(()) };
    let (path, digest) = (entry.path.with_extension("toml"), Digest::of(manifest.as_bytes()));
    signature::check(&path, digest, &settings.keys, known).map_err(BadPlugin::Signature)
}

/// The files of a folder that may be plugins, by their names.
pub(super) fn components(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.take(FOLDER_ENTRIES_MAX).flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")).collect();
    paths.sort();
    Ok(paths)
}
