//! What `.gitignore` leaves out of a tree. The files are the tree's own, so they are read as everything else in it: no links, whose patterns
//! [git](https://git-scm.com/docs/gitignore) does not read either, and so many bytes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::registry::intake::{self, Error};

/// The name of such a file.
const NAME: &str = ".gitignore";
/// The largest one that counts, in bytes.
const FILE_BYTES_MAX: u64 = 128 << 10;
/// How many bytes of them a tree may have; a pattern can take hundreds of times as much once it is compiled. Where there are more, none counts:
/// which ones did would be for the order to decide in which folders are walked.
const ALL_BYTES_MAX: u64 = 1 << 20;
/// What marks the top of a repository whose `.gitignore` files count.
const REPOSITORY: [&str; 2] = [".git", ".jj"];

/// The patterns of a folder, and of those above it.
struct Level {
    own: Gitignore,
    above: Option<Arc<Level>>,
}

/// The patterns of a tree, read as its folders are walked.
pub(super) struct Ignored {
    root: PathBuf,
    /// What counts for the root, from the folders above it.
    above: Option<Arc<Level>>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    levels: HashMap<PathBuf, Option<Arc<Level>>>,
    bytes: u64,
    /// Files whose patterns do not count, and why.
    refused: Vec<(PathBuf, String)>,
}

impl Ignored {
    /// Those of a tree with a canonical root. Of the folders above it, those count that are of the same repository.
    pub(super) fn new(root: &Path) -> Self {
        let mut read = Read::default();
        let repository = root.ancestors().find(|folder| is_repository(folder));
        let folders: Vec<&Path> =
            repository.map(|top| root.ancestors().skip(1).take_while(|folder| folder.starts_with(top)).collect()).unwrap_or_default();
        let above = folders.into_iter().rev().fold(None, |above, folder| read.level(folder, above));
        Self { root: root.to_owned(), above, read: Mutex::new(read) }
    }

    /// Whether what lies at a path of the tree is left out. The folders that it is in are not.
    pub(super) fn leaves_out(&self, path: &Path, is_folder: bool) -> bool {
        let Some(folder) = path.parent().filter(|folder| folder.starts_with(&self.root)) else { return false };
        let mut level = self.level(folder);
        while let Some(of) = level {
            match of.own.matched(path, is_folder) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => level = of.above.clone(),
            }
        }
        false
    }

    fn level(&self, folder: &Path) -> Option<Arc<Level>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // From the nearest folder that is known, downwards.
        let unknown: Vec<&Path> =
            folder.ancestors().take_while(|folder| folder.starts_with(&self.root) && !read.levels.contains_key(*folder)).collect();
        let nearest = unknown.last().map_or(Some(folder), |last| last.parent());
        let mut level = nearest.and_then(|folder| read.levels.get(folder).cloned()).unwrap_or_else(|| self.above.clone());
        for folder in unknown.into_iter().rev() {
            level = read.level(folder, level);
            read.levels.insert(folder.to_owned(), level.clone());
        }
        level
    }

    /// Whether there are too many bytes of patterns: what was left out by some of them is to be looked at.
    pub(super) fn is_too_much(&self) -> bool {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).bytes > ALL_BYTES_MAX
    }

    /// The files whose patterns do not count, and why.
    pub(super) fn refused(&self) -> Vec<(PathBuf, String)> {
        std::mem::take(&mut self.read.lock().unwrap_or_else(PoisonError::into_inner).refused)
    }
}

fn is_repository(folder: &Path) -> bool {
    REPOSITORY.iter().any(|name| folder.join(name).symlink_metadata().is_ok())
}

impl Read {
    /// The level of a folder: its own patterns above those that it is given, where it has some.
    fn level(&mut self, folder: &Path, above: Option<Arc<Level>>) -> Option<Arc<Level>> {
        // What a repository within another leaves out is its own business.
        let above = above.filter(|_| !is_repository(folder));
        if self.bytes > ALL_BYTES_MAX {
            return above;
        }
        let path = folder.join(NAME);
        let text = match intake::read(&path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            // A link, or something else that is no file, is told of as such.
            Err(Error::NotReadable(_) | Error::NotRegular(_)) => return above,
            Err(error @ (Error::TooLarge { .. } | Error::Unfinished)) => {
                self.refused.push((path, error.to_string()));
                return above;
            }
        };
        self.bytes += text.len() as u64;
        let text = String::from_utf8_lossy(&text);
        let mut patterns = GitignoreBuilder::new(folder);
        for line in text.strip_prefix('\u{feff}').unwrap_or(&text).lines() {
            let _ = patterns.add_line(None, line); // a pattern that does not parse leaves nothing out
        }
        match patterns.build() {
            Ok(own) if own.is_empty() => above,
            Ok(own) => Some(Arc::new(Level { own, above })),
            Err(error) => {
                self.refused.push((path, error.to_string()));
                above
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_pattern_decides_links_are_not_read_and_what_is_too_large_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("a path");
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(top.join(name).parent().expect("a parent")).expect("made");
            std::fs::write(top.join(name), text).expect("written");
        };
        write(".gitignore", "\u{feff}*.log\nbuilt/\n/only\n[\n");
        write("a/.gitignore", "!kept.log\n");
        write("large/.gitignore", &"x\n".repeat(100_000));
        write("patterns", "*.py\n");
        for name in ["b", "linked", "piped"] {
            std::fs::create_dir(top.join(name)).expect("made");
        }
        std::os::unix::fs::symlink(top.join("patterns"), top.join("linked/.gitignore")).expect("linked");
        rustix::fs::mknodat(rustix::fs::CWD, top.join("piped/.gitignore"), rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
        let left_out = |ignored: &Ignored, path: &str| ignored.leaves_out(&top.join(path), path.ends_with("built"));
        let ignored = Ignored::new(&top);
        for path in ["x.log", "a/x.log", "b/kept.log", "built", "a/built", "only"] {
            assert!(left_out(&ignored, path), "{path}");
        }
        for path in ["a/kept.log", "a/only", "x.py", "linked/x.py", "piped/x.py", "large/x"] {
            assert!(!left_out(&ignored, path), "{path}");
        }
        let refused = ignored.refused();
        assert_eq!(refused.iter().map(|(path, _)| path.as_path()).collect::<Vec<_>>(), [top.join("large/.gitignore")]);
        // Above the root, patterns of the same repository count, and no others.
        assert!(!left_out(&Ignored::new(&top.join("a")), "a/x.log"));
        std::fs::create_dir(top.join(".git")).expect("made");
        assert!(left_out(&Ignored::new(&top.join("a")), "a/x.log"));
        assert!(!left_out(&Ignored::new(&top.join("a")), "a/kept.log"));
    }

    #[test]
    fn a_repository_within_another_has_its_own_patterns() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("a path");
        std::fs::create_dir_all(top.join("sub/.git")).expect("made");
        std::fs::create_dir_all(top.join(".git")).expect("made");
        std::fs::write(top.join(NAME), "built/\n").expect("written");
        let ignored = Ignored::new(&top);
        assert!(ignored.leaves_out(&top.join("built"), true) && !ignored.leaves_out(&top.join("sub/built"), true));
        assert!(!Ignored::new(&top.join("sub")).leaves_out(&top.join("sub/built"), true));
    }

    #[test]
    fn a_tree_has_so_many_bytes_of_patterns_or_none_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("a path");
        let patterns = format!("x\n{}", "#\n".repeat(60_000));
        let ignored = Ignored::new(&top);
        let left_out: Vec<bool> = (0..10)
            .map(|number| {
                let inside = top.join(number.to_string());
                std::fs::create_dir(&inside).expect("made");
                std::fs::write(inside.join(NAME), &patterns).expect("written");
                ignored.leaves_out(&inside.join("x"), false) && !ignored.is_too_much()
            })
            .collect();
        assert_eq!(left_out, [true, true, true, true, true, true, true, true, false, false]);
    }
}
