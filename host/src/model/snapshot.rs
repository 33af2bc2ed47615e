//! What a gate looks at: a tree of files that does not change while it is looked at, and a record of what was looked at.
//!
//! A file's content is read when somebody first wants it, and what nobody wants is never read. Only so much of it is held
//! at once; what is read again must be what it was, so every gate sees the same bytes. Names are sorted; there are no links,
//! devices or times.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
/// How many bytes of paths a record of looks holds.
const LOOKS_BYTES_MAX: usize = 16 << 20;
/// How much content of files is held by a snapshot at once, in bytes. What is open stays beside that.
pub(crate) const HELD_BYTES_MAX: u64 = 512 << 20;

struct File {
    size_bytes: u64,
    /// Reads it; none where the content is all there is.
    load: Option<Load>,
    /// What it was when it was first read, or why it could not be: the first answer stands.
    first: OnceLock<Result<blake3::Hash, String>>,
    content: Mutex<Option<Bytes>>,
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
    held: Mutex<Held>,
}

/// What is held of files that can be read again, in the order in which it came.
#[derive(Default)]
struct Held {
    bytes: u64,
    paths: VecDeque<String>,
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
            let first = OnceLock::from(Ok(blake3::hash(&artifact.content)));
            let content = Mutex::new(Some(artifact.content.clone()));
            snapshot.add(&artifact.name, File { size_bytes: artifact.content.len() as u64, load: None, first, content })?;
        }
        Ok(snapshot)
    }

    /// Adds a file that is read when it is first wanted. `path` keeps to [`super::artifact::check_name`].
    ///
    /// # Errors
    /// When one's name is a folder of another's.
    pub fn add_lazy(&mut self, path: &str, size_bytes: u64, load: Load) -> Result<(), Collision> {
        self.add(path, File { size_bytes, load: Some(load), first: OnceLock::new(), content: Mutex::default() })
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

    /// The content of a file, if it is at hand: never waits.
    #[must_use]
    pub fn loaded(&self, path: &str) -> Option<Result<Bytes, String>> {
        let file = self.files.get(path)?;
        if let Some(Err(reason)) = file.first.get() {
            return Some(Err(reason.clone()));
        }
        file.content.try_lock().ok()?.clone().map(Ok)
    }

    /// The content of a file; a call may have to read it, which may block.
    ///
    /// # Errors
    /// When there is no such file, it could not be read when somebody first wanted it, or it is not what it was then.
    pub fn content(&self, path: &str) -> Result<Bytes, String> {
        let file = self.files.get(path).ok_or("there is no such file")?;
        let bytes = {
            let mut content = file.content.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = content.as_ref() {
                return Ok(bytes.clone());
            }
            if let Some(Err(reason)) = file.first.get() {
                return Err(reason.clone());
            }
            let read = match &file.load {
                Some(load) => load(),
                None => Ok(Bytes::new()),
            };
            let changed = || "it changed while it was looked at".to_owned();
            let read = read.and_then(|bytes| if bytes.len() as u64 == file.size_bytes { Ok(bytes) } else { Err(changed()) });
            let seen = read.as_ref().map(|bytes| blake3::hash(bytes)).map_err(Clone::clone);
            let first = file.first.get_or_init(|| seen.clone());
            let bytes = read?;
            if *first != seen {
                return Err(changed());
            }
            *content = Some(bytes.clone());
            bytes
        };
        self.make_room(path, bytes.len() as u64);
        Ok(bytes)
    }

    /// Notes what was read, and lets go of what was read first where that is too much.
    fn make_room(&self, path: &str, bytes: u64) {
        let mut gone = Vec::new();
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.bytes += bytes;
            held.paths.push_back(path.to_owned());
            while held.bytes > HELD_BYTES_MAX && held.paths.len() > 1 {
                let Some(file) = held.paths.pop_front().and_then(|path| self.files.get(&path)) else { break };
                held.bytes = held.bytes.saturating_sub(file.size_bytes);
                gone.push(file);
            }
        }
        for file in gone {
            *file.content.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// What a file's content is, as a hash of it; the first call reads it, which may block.
    fn hash(&self, path: &str) -> Result<blake3::Hash, String> {
        let file = self.files.get(path).ok_or("there is no such file")?;
        if let Some(first) = file.first.get() {
            return first.clone();
        }
        self.content(path)?;
        file.first.get().cloned().unwrap_or_else(|| Err("it was not read".to_owned()))
    }

    /// What a look sees, as a short text that differs where what is seen differs. May block, as [`Self::content`] does.
    #[must_use]
    pub fn sees(&self, look: &Look) -> String {
        match look {
            Look::Content(path) => match self.hash(path) {
                Ok(hash) => hash.to_hex().to_string(),
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
    fn path(&self) -> &str {
        match self {
            Self::Content(path) | Self::Metadata(path) | Self::Listing(path) => path,
        }
    }

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
pub struct Looks(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    looks: BTreeSet<Look>,
    bytes: usize,
    /// There were more than are held.
    is_full: bool,
}

impl Looks {
    /// Adds a look.
    pub fn add(&self, look: Look) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = look.path().len();
        if record.is_full || record.looks.contains(&look) {
            return;
        }
        if record.looks.len() >= LOOKS_MAX || record.bytes + bytes > LOOKS_BYTES_MAX {
            *record = Record { is_full: true, ..Record::default() };
            return;
        }
        record.bytes += bytes;
        record.looks.insert(look);
    }

    /// Adds what another record took: all of it, or that it held too much.
    pub fn merge(&self, other: Option<BTreeSet<Look>>) {
        match other {
            Some(looks) => looks.into_iter().for_each(|look| self.add(look)),
            None => *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Record { is_full: true, ..Record::default() },
        }
    }

    /// All looks, sorted; none when there were more than are held.
    #[must_use]
    pub fn take(&self) -> Option<BTreeSet<Look>> {
        let record = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!record.is_full).then_some(record.looks)
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
    fn only_so_much_is_held_and_what_is_read_again_must_be_what_it_was() {
        let changing = Arc::new(Mutex::new(Bytes::from(vec![0; 1000])));
        let mut snapshot = Snapshot::default();
        let content = Arc::clone(&changing);
        snapshot.add_lazy("first", 1000, Box::new(move || Ok(content.lock().expect("a lock").clone()))).expect("added");
        let size = HELD_BYTES_MAX;
        snapshot.add_lazy("large", size, Box::new(move || Ok(Bytes::from(vec![0; usize::try_from(size).expect("fits")])))).expect("added");
        snapshot.content("first").expect("reads");
        assert!(snapshot.loaded("first").is_some());
        snapshot.content("large").expect("reads");
        assert!(snapshot.loaded("first").is_none(), "let go for the large one");
        assert!(snapshot.content("first").is_ok(), "the same again");
        snapshot.content("large").expect("reads");
        *changing.lock().expect("a lock") = Bytes::from(vec![1; 1000]);
        assert!(snapshot.content("first").is_err(), "not what it was");
    }

    #[test]
    fn a_record_of_looks_is_bounded_in_names_and_in_bytes() {
        let looks = Looks::default();
        looks.add(Look::Metadata("a".into()));
        looks.add(Look::Metadata("a".into()));
        assert_eq!(looks.take().map(|looks| looks.len()), Some(1));
        for at in 0..5_000 {
            looks.add(Look::Metadata(format!("{at:04000}")));
        }
        assert_eq!(looks.take(), None);
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
