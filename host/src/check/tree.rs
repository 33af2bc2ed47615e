//! A directory as a snapshot: which files are in it, and which are not judged and why.
//!
//! What `.gitignore` leaves out is left out. Links are not followed and not part of it. What is a file and cannot be part
//! of a snapshot (its name, its kind) is never passed over in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use globset::GlobSet;
use ignore::{DirEntry, WalkBuilder, WalkState};

use super::ignored::Ignored;
use crate::model::text::sanitize;
use crate::model::{Snapshot, artifact};
use crate::registry::intake;

/// The largest file that is read at all, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// How many files a tree may have.
const FILES_MAX: usize = 2_000_000;
/// Folders that are never part of a tree: what version control and sandhog itself keep.
const NEVER: &[&str] = &[".git", ".hg", ".jj", ".svn", ".sandhog"];

/// A directory, read.
#[derive(Debug)]
pub struct Tree {
    /// Where it is.
    pub root: PathBuf,
    /// Its files.
    pub snapshot: Arc<Snapshot>,
    /// The files that are to be judged, sorted: all, or those that were asked for.
    pub files: Vec<(String, u64)>,
    /// Files that cannot be judged: a name that is safe to show, and why.
    pub unjudged: Vec<(String, String)>,
    /// How many links there are.
    pub links: usize,
    /// What is to be said of each `.gitignore` whose patterns do not count.
    pub uncounted: Vec<String>,
    /// Of the files without an ending, those that name an interpreter: looked for once, when it is first asked.
    interpreters: OnceLock<BTreeMap<usize, String>>,
}

impl Tree {
    /// The interpreter that a file without an ending names in its first line, by the file's place in `files`.
    #[must_use]
    pub fn interpreter(&self, at: usize) -> Option<&str> {
        let all = self.interpreters.get_or_init(|| {
            let without_ending = |path: &str| !path.rsplit('/').next().unwrap_or(path).contains('.');
            let scripts = self.files.iter().enumerate().filter(|(_, (path, _))| without_ending(path));
            scripts.filter_map(|(at, (path, _))| Some((at, intake::interpreter(&self.root.join(path))?))).collect()
        });
        all.get(&at).map(String::as_str)
    }
}

/// Why a directory is not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or may not be read.
    #[error("{} cannot be read: {reason}", .path.display())]
    NotReadable {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It has too many files.
    #[error("{} has more than {FILES_MAX} files; name a folder of it", .path.display())]
    TooLarge {
        /// The directory.
        path: PathBuf,
    },
}

#[derive(Default)]
struct Found {
    files: Vec<(String, u64, PathBuf)>,
    unjudged: Vec<(String, String)>,
    links: usize,
}

/// Reads a directory. `only` are the files and folders in it that are to be judged; unset: all of it. What `exclude` matches is
/// part of the snapshot, and not judged. `also` are files and folders that are part of it though `.gitignore` leaves them out: those that git
/// tracks all the same.
///
/// # Errors
/// See [`Error`].
pub fn read(root: &Path, only: Option<&[PathBuf]>, exclude: &GlobSet, also: &[PathBuf]) -> Result<Tree, Error> {
    let not = |path: &Path, reason: String| Error::NotReadable { path: path.to_owned(), reason };
    let root = root.canonicalize().map_err(|error| not(root, error.to_string()))?;
    let mut asked = BTreeSet::new();
    for path in only.unwrap_or_default() {
        let real = path.canonicalize().map_err(|error| not(path, error.to_string()))?;
        let inside = real.strip_prefix(&root).map_err(|_| not(path, format!("it is not inside {}", root.display())))?;
        asked.insert(inside.to_owned());
        asked.insert(sanitize(&inside.to_string_lossy(), 400).into()); // as one that no gate can be shown is named
    }
    let ignored = Arc::new(Ignored::new(&root));
    let mut found = walk(&root, &root, Some(&ignored));
    let is_too_much = ignored.is_too_much();
    if is_too_much {
        found = walk(&root, &root, None);
    }
    let mut refused = ignored.refused();
    // A repository within this one, which this one names: it has patterns of its own.
    let is_repository = |path: &PathBuf| {
        path.symlink_metadata().is_ok_and(|there| there.is_dir())
            && path.join(".git").symlink_metadata().is_ok()
            && is_without_links(&root, path)
    };
    for folder in also.iter().map(|path| root.join(path)).filter(is_repository) {
        if found.files.iter().any(|(_, _, path)| path.starts_with(&folder)) {
            continue; // nothing left it out
        }
        let ignored = Arc::new(Ignored::new(&folder));
        let mut within = walk(&root, &folder, Some(&ignored));
        if ignored.is_too_much() {
            within = walk(&root, &folder, None);
            refused.push((folder.join(".gitignore"), "all of its repository together are larger than 1 MiB".to_owned()));
        } else {
            refused.extend(ignored.refused());
        }
        found.files.extend(within.files);
        found.unjudged.extend(within.unjudged);
        found.links += within.links;
    }
    let told = |(path, reason): (PathBuf, String)| {
        let inside = path.strip_prefix(&root).unwrap_or(&path);
        format!("the patterns of {} do not count: {reason}", sanitize(&inside.to_string_lossy(), 400))
    };
    let all = is_too_much.then(|| "no .gitignore counts: all of them together are larger than 1 MiB".to_owned());
    let uncounted = all.into_iter().chain(refused.into_iter().map(told)).collect();
    let walked: BTreeSet<PathBuf> = found.files.iter().map(|(_, _, path)| path.clone()).collect();
    for path in also.iter().map(|path| root.join(path)).filter(|path| !walked.contains(path)) {
        if let Ok(metadata) = std::fs::symlink_metadata(&path)
            && metadata.is_file()
            && is_without_links(&root, &path)
        {
            found.file(&root, &path, metadata.len());
        }
    }
    let Found { mut files, mut unjudged, links } = found;
    if files.len() > FILES_MAX {
        return Err(Error::TooLarge { path: root });
    }
    files.sort();
    unjudged.sort();
    unjudged.dedup();
    let wanted = |name: &str| only.is_none() || Path::new(name).ancestors().any(|path| asked.contains(path));
    let mut snapshot = Snapshot::default();
    let mut judged = Vec::new();
    for (name, size, path) in files {
        let load = move || match intake::read(&path, FILE_BYTES_MAX) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(collision) = snapshot.add_lazy(&name, size, Box::new(load)) {
            unjudged.push((name, collision.to_string()));
            continue;
        }
        if wanted(&name) && !exclude.is_match(&name) {
            judged.push((name, size));
        }
    }
    unjudged.retain(|(name, _)| !exclude.is_match(name) && wanted(name));
    Ok(Tree { root, snapshot: Arc::new(snapshot), files: judged, unjudged, links, uncounted, interpreters: OnceLock::new() })
}

/// Looks through a folder of a tree, or all of it, but for what is left out.
fn walk(root: &Path, folder: &Path, ignored: Option<&Arc<Ignored>>) -> Found {
    let found = Mutex::new(Found::default());
    let patterns = ignored.map(Arc::clone);
    let is_part = move |entry: &DirEntry| {
        let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
        let is_ignored = || patterns.as_ref().is_some_and(|patterns| patterns.leaves_out(entry.path(), is_folder));
        entry.depth() == 0 || !(NEVER.iter().any(|name| entry.file_name() == *name) || is_ignored())
    };
    let walker = WalkBuilder::new(folder).standard_filters(false).follow_links(false).filter_entry(is_part).build_parallel();
    walker.run(|| {
        Box::new(|entry| {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match entry {
                Ok(entry) => found.add(root, &entry),
                Err(error) => {
                    let place = place_of(&error).and_then(|path| path.strip_prefix(root).ok()).unwrap_or(Path::new("."));
                    found.unjudged.push((sanitize(&place.to_string_lossy(), 400), sanitize(&error.to_string(), 400)));
                }
            }
            if found.files.len() > FILES_MAX { WalkState::Quit } else { WalkState::Continue }
        })
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The path that an error of the walk is about.
fn place_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => place_of(err),
        ignore::Error::Loop { child, .. } => Some(child),
        ignore::Error::Partial(_)
        | ignore::Error::Io(_)
        | ignore::Error::Glob { .. }
        | ignore::Error::UnrecognizedFileType(_)
        | ignore::Error::InvalidDefinition => None,
    }
}

/// Whether no folder on the way from a root to a file is a link: what lies behind one may be anywhere. The root is canonical.
pub(super) fn is_without_links(root: &Path, path: &Path) -> bool {
    path.starts_with(root) && path.parent().is_some_and(|folder| folder.canonicalize().is_ok_and(|real| real == folder))
}

impl Found {
    fn add(&mut self, root: &Path, entry: &DirEntry) {
        let Some(kind) = entry.file_type() else { return };
        if kind.is_dir() {
            return;
        }
        if kind.is_symlink() {
            self.links += 1;
            return;
        }
        let inside = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let shown = || sanitize(&inside.to_string_lossy(), 400);
        if !kind.is_file() {
            self.unjudged.push((shown(), "it is no regular file (a FIFO, a socket or a device)".to_owned()));
            return;
        }
        match entry.metadata() {
            Ok(metadata) => self.file(root, entry.path(), metadata.len()),
            Err(error) => self.unjudged.push((shown(), sanitize(&error.to_string(), 400))),
        }
    }

    fn file(&mut self, root: &Path, path: &Path, size_bytes: u64) {
        let inside = path.strip_prefix(root).unwrap_or(path);
        let reason = match inside.to_str().map(|name| (name, artifact::check_name(name))) {
            Some((name, Ok(()))) => return self.files.push((name.to_owned(), size_bytes, path.to_owned())),
            Some((_, Err(reason))) => format!("its name is refused: {reason}"),
            None => "its name is not UTF-8".to_owned(),
        };
        self.unjudged.push((sanitize(&inside.to_string_lossy(), 400), reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_ignores_and_links_are_left_out_and_nothing_else_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
            std::fs::write(path, text).expect("writes");
        };
        write(".gitignore", "built/\n");
        write("built/out.py", "");
        write(".git/config", "");
        write(".sandhog/journal", "");
        write(".hidden.py", "x");
        write("src/a.py", "abc");
        write("vendor/b.py", "");
        write("line\nbreak.py", "");
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).expect("links");
        std::os::unix::fs::symlink("/etc", folder.path().join("linked")).expect("links");
        rustix::fs::mknodat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
        let tree = read(folder.path(), None, &crate::config::check::globs(&["vendor/".to_owned()]), &[]).expect("reads");
        let names: Vec<&str> = tree.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [".gitignore", ".hidden.py", "src/a.py"]);
        assert!(tree.snapshot.node("vendor/b.py").is_some(), "excluded from judgement, and there to be read");
        assert_eq!(tree.links, 2);
        let unjudged: Vec<&str> = tree.unjudged.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(unjudged.len(), 2, "{unjudged:?}");
        assert_eq!(tree.snapshot.content("src/a.py").as_deref(), Ok(&b"abc"[..]));

        let part =
            read(folder.path(), Some(&[folder.path().join("src")]), &GlobSet::empty(), &["built/out.py".into(), "linked/passwd".into()])
                .expect("reads");
        assert!(part.snapshot.node("built/out.py").is_some(), "git tracks it");
        assert!(part.snapshot.node("linked/passwd").is_none(), "git tracks it by a name that leads out of the tree");
        assert_eq!(part.files.len(), 1);
        assert!(part.unjudged.is_empty(), "what was not asked for need not be judged");
        let named = read(folder.path(), Some(&[folder.path().join("line\nbreak.py")]), &GlobSet::empty(), &[]).expect("reads");
        assert_eq!((named.files.len(), named.unjudged.len()), (0, 1), "it was asked for, and cannot be judged");
        assert!(read(folder.path(), Some(&[PathBuf::from("/etc")]), &GlobSet::empty(), &[]).is_err(), "outside");
    }
}
