//! What a gate looks at: a tree of files that does not change while it is looked at, and a record of what was looked at.
//!
//! A file's content is read when somebody first wants it, once, and kept: so every gate sees the same bytes, and what
//! nobody wants is never read. Names are sorted; there are no links, devices or times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Artifact;

/// Reads the content of one file; the error is a fragment for people.
pub type Load = Box<dyn Fn() -> Result<Bytes, String> + Send + Sync>;

/// How many looks a record holds; an instance that looks at more is not remembered.
const LOOKS_MAX: usize = 200_000;

struct File {
    size_bytes: u64,
    load: Option<Load>,
    content: OnceLock<Result<(Bytes, blake3::Hash), String>>,
}

/// What stands under a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A file, with its size in bytes.
    File(u64),
    /// A folder.
    Folder,
}

/// A read-only tree of files.
#[derive(Default)]
pub struct Snapshot {
    files: BTreeMap<String, File>,
    /// The names in each folder, sorted; the root is the empty path.
    folders: BTreeMap<String, BTreeSet<String>>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

/// A name that cannot stand in a snapshot beside the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is a file, and cannot be a folder of another too")]
pub struct Collision {
    /// The name.
    pub name: String,
}

impl Snapshot {
    /// The tree that artifacts make.
    ///
    /// # Errors
    /// When one's name is a folder of another's.
    pub fn of(artifacts: &[Artifact]) -> Result<Self, Collision> {
        let mut snapshot = Self::default();
        for artifact in artifacts {
            let content = OnceLock::new();
            let _ = content.set(Ok((artifact.content.clone(), blake3::hash(&artifact.content))));
            snapshot.add(&artifact.name, File { size_bytes: artifact.content.len() as u64, load: None, content })?;
        }
        Ok(snapshot)
    }

    /// Adds a file that is read when it is first wanted. `path` keeps to [`super::artifact::check_name`].
    ///
    /// # Errors
    /// When one's name is a folder of another's.
    pub fn add_lazy(&mut self, path: &str, size_bytes: u64, load: Load) -> Result<(), Collision> {
        self.add(path, File { size_bytes, load: Some(load), content: OnceLock::new() })
    }

    fn add(&mut self, path: &str, file: File) -> Result<(), Collision> {
        let collides = |name: &str| Collision { name: name.to_owned() };
        if self.folders.contains_key(path) {
            return Err(collides(path));
        }
        if let Some(parent) = path.match_indices('/').map(|(at, _)| &path[..at]).find(|parent| self.files.contains_key(*parent)) {
            return Err(collides(parent));
        }
        let mut rest = path;
        loop {
            let (folder, name) = rest.rsplit_once('/').unwrap_or(("", rest));
            let known = self.folders.contains_key(folder);
            self.folders.entry(folder.to_owned()).or_default().insert(name.to_owned());
            if known || folder.is_empty() {
                break;
            }
            rest = folder;
        }
        self.files.insert(path.to_owned(), file);
        Ok(())
    }

    /// Every file's path and size in bytes, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file.size_bytes))
    }

    /// What stands under a path; the root is the empty path.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<Node> {
        match self.files.get(path) {
            Some(file) => Some(Node::File(file.size_bytes)),
            None => (path.is_empty() || self.folders.contains_key(path)).then_some(Node::Folder),
        }
    }

    /// The names in a folder, sorted, each with what it is.
    pub fn list(&self, folder: &str) -> impl Iterator<Item = (&str, Node)> {
        let names = self.folders.get(folder).into_iter().flatten();
        names.filter_map(move |name| {
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            Some((name.as_str(), self.node(&path)?))
        })
    }

    /// The first name in a folder after another, with what it is; the first of all where there is none.
    #[must_use]
    pub fn entry_after(&self, folder: &str, name: Option<&str>) -> Option<(&str, Node)> {
        let after = (name.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let name = self.folders.get(folder)?.range::<str, _>(after).next()?;
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        Some((name.as_str(), self.node(&path)?))
    }

    /// The content of a file, if it was read already.
    #[must_use]
    pub fn loaded(&self, path: &str) -> Option<Result<Bytes, String>> {
        let content = self.files.get(path)?.content.get()?;
        Some(content.as_ref().map(|(bytes, _)| bytes.clone()).map_err(Clone::clone))
    }

    /// The content of a file; the first call reads it, which may block.
    ///
    /// # Errors
    /// When there is no such file, or it could not be read: the first answer stands.
    pub fn content(&self, path: &str) -> Result<Bytes, String> {
        self.hashed(path).map(|(bytes, _)| bytes.clone())
    }

    fn hashed(&self, path: &str) -> Result<&(Bytes, blake3::Hash), String> {
        let file = self.files.get(path).ok_or("there is no such file")?;
        let read = || {
            let bytes = file.load.as_ref().map_or_else(|| Ok(Bytes::new()), |load| load())?;
            if bytes.len() as u64 != file.size_bytes {
                return Err("it changed while it was looked at".to_owned());
            }
            let hash = blake3::hash(&bytes);
            Ok((bytes, hash))
        };
        file.content.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    /// What a look sees, as a short text that differs where what is seen differs. May block, as [`Self::content`] does.
    #[must_use]
    pub fn sees(&self, look: &Look) -> String {
        match look {
            Look::Content(path) => match self.hashed(path) {
                Ok((_, hash)) => hash.to_hex().to_string(),
                Err(reason) => format!("unreadable: {reason}"),
            },
            Look::Metadata(path) => match self.node(path) {
                Some(Node::File(size)) => format!("file {size}"),
                Some(Node::Folder) => "folder".to_owned(),
                None => "nothing".to_owned(),
            },
            Look::Listing(path) => {
                let mut hasher = blake3::Hasher::new();
                for (name, node) in self.list(path) {
                    let kind = match node {
                        Node::File(_) => b'f',
                        Node::Folder => b'd',
                    };
                    hasher.update(&[kind]).update(name.as_bytes()).update(&[0]);
                }
                hasher.finalize().to_hex().to_string()
            }
        }
    }
}

/// One thing that an instance saw of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// The content of a file.
    Content(String),
    /// What stands under a path, and its size; or that nothing does.
    Metadata(String),
    /// The names in a folder.
    Listing(String),
}

impl Look {
    /// The same look, at the data that a subject comes with: its paths begin with `/`, which no path of a subject does.
    #[must_use]
    pub fn at_data(self) -> Self {
        let path = |path: String| format!("/{path}");
        match self {
            Self::Content(of) => Self::Content(path(of)),
            Self::Metadata(of) => Self::Metadata(path(of)),
            Self::Listing(of) => Self::Listing(path(of)),
        }
    }

    /// The look at the data, where it is one.
    #[must_use]
    pub fn into_data(&self) -> Option<Self> {
        let path = |path: &String| path.strip_prefix('/').map(str::to_owned);
        match self {
            Self::Content(of) => path(of).map(Self::Content),
            Self::Metadata(of) => path(of).map(Self::Metadata),
            Self::Listing(of) => path(of).map(Self::Listing),
        }
    }
}

/// Collects what an instance looks at. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Looks(Arc<Mutex<Option<BTreeSet<Look>>>>);

impl Looks {
    /// Adds a look.
    pub fn add(&self, look: Look) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = looks.get_or_insert_default();
        if looks.len() < LOOKS_MAX {
            looks.insert(look);
        }
    }

    /// All looks, sorted; none when there were more than are held.
    #[must_use]
    pub fn take(&self) -> Option<BTreeSet<Look>> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        (looks.len() < LOOKS_MAX).then_some(looks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str, content: &str) -> Artifact {
        Artifact { name: name.into(), media_type: String::new(), content: Bytes::copy_from_slice(content.as_bytes()) }
    }

    #[test]
    fn folders_follow_from_the_names_of_files() {
        let snapshot = Snapshot::of(&[artifact("b/x", "1"), artifact("a", "22"), artifact("b/c/y", "")]).expect("a snapshot");
        assert_eq!(snapshot.list("").collect::<Vec<_>>(), [("a", Node::File(2)), ("b", Node::Folder)]);
        assert_eq!(snapshot.list("b").collect::<Vec<_>>(), [("c", Node::Folder), ("x", Node::File(1))]);
        assert_eq!((snapshot.node("b/c"), snapshot.node("b/z")), (Some(Node::Folder), None));
        assert_eq!(Snapshot::default().node(""), Some(Node::Folder));
        for names in [["a", "a/b"], ["a/b", "a"]] {
            assert!(Snapshot::of(&names.map(|name| artifact(name, ""))).is_err(), "{names:?}");
        }
    }

    #[test]
    fn content_is_read_once_and_a_change_is_seen() {
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let mut snapshot = Snapshot::default();
        let load = move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(Bytes::from_static(b"abc"))
        };
        snapshot.add_lazy("f", 3, Box::new(load)).expect("added");
        snapshot.add_lazy("g", 2, Box::new(|| Ok(Bytes::from_static(b"abc")))).expect("added");
        assert_eq!(snapshot.loaded("f"), None);
        assert_eq!((snapshot.content("f"), snapshot.content("f")), (Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"abc"))));
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert!(snapshot.content("g").is_err(), "grown since it was listed");
    }

    #[test]
    fn a_look_tells_what_differs_and_only_that() {
        let before = Snapshot::of(&[artifact("d/a", "1"), artifact("d/b", "2")]).expect("a snapshot");
        let after = Snapshot::of(&[artifact("d/a", "1"), artifact("d/b", "3"), artifact("e", "")]).expect("a snapshot");
        let differs = |look: Look| before.sees(&look) != after.sees(&look);
        assert!(!differs(Look::Content("d/a".into())) && differs(Look::Content("d/b".into())));
        assert!(!differs(Look::Listing("d".into())) && differs(Look::Listing(String::new())));
        assert!(!differs(Look::Metadata("d/b".into())) && differs(Look::Metadata("e".into())));
    }
}
