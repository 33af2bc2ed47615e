//! What is written: artifacts into a folder, all of them or none; a file, whole or as it was; and the lines in which two texts differ.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use tempfile::TempDir;

use super::exit::Error;
use crate::model::artifact;
use crate::model::text::sanitize;

/// Names of files and folders that programs obey which find them: those that a plugin does not get to write, wherever the folder is.
const OBEYED: [&str; 6] = [".git", ".hg", ".jj", ".svn", ".sandhog", "sandhog.toml"];
/// What a folder has that git takes for a repository, whatever that is called.
const HEAD: &str = "HEAD";

/// A folder that will take the artifacts of a run: known to be writable before the run starts.
///
/// Everything is written into a hidden folder inside it first, and moved into place at the end, file by file; what was
/// there before under the same names is replaced. Nothing is written outside it, whatever links lie in it.
pub struct OutFolder {
    folder: PathBuf,
    dir: Dir,
    staging: TempDir,
    names: Vec<String>,
}

impl OutFolder {
    /// Makes the folder, if need be, and makes sure that it can be written.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let cannot = |error: std::io::Error| {
            Error::usage(format!("the output folder {} cannot be written: {error}", folder.display()))
                .help("name another with --out FOLDER")
        };
        if folder.metadata().is_ok_and(|there| !there.is_dir()) {
            return Err(cannot(std::io::Error::other("it is there already, and no folder")));
        }
        std::fs::create_dir_all(folder).map_err(cannot)?;
        let dir = Dir::open_ambient_dir(folder, ambient_authority()).map_err(cannot)?;
        let staging = tempfile::Builder::new().prefix(".sandhog-").tempdir_in(folder).map_err(cannot)?;
        Ok(Self { folder: folder.to_owned(), dir, staging, names: Vec::new() })
    }

    /// Adds a file; nothing of it is seen before [`OutFolder::finish`]. The name was checked when the artifact was taken.
    pub fn add(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        if let Some(part) = name.split('/').find(|part| *part == HEAD || OBEYED.iter().any(|obeyed| part.eq_ignore_ascii_case(obeyed))) {
            let message = format!(
                "{} is not written, nor is anything else: what is named `{part}` is obeyed by git, or by sandhog itself",
                sanitize(name, 400)
            );
            return Err(Error::usage(message).help("--json prints what there is"));
        }
        // A journal, or a server, may be somebody else's.
        artifact::check_name(name).map_err(|reason| {
            Error::usage(format!("{:?} is not written, nor is anything else: {reason}", sanitize(name, 400)))
                .help("the journal, or the server, is damaged or somebody else's")
        })?;
        let path = Path::new(self.staging.path().file_name().unwrap_or_default()).join(name);
        let write = || {
            if let Some(parent) = path.parent() {
                self.dir.create_dir_all(parent)?;
            }
            let mut file = self.dir.open_with(&path, OpenOptions::new().write(true).create_new(true))?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|error| Error::engine(format!("{name} cannot be written below {}: {error}", self.folder.display())))?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Moves everything into place; nothing, when something that is there already stands in the way.
    pub fn finish(self) -> Result<usize, Error> {
        let cannot = |name: &str, error: std::io::Error| {
            let place = self.folder.join(name);
            Error::usage(format!("{} cannot be put in place: {error}", place.display()))
                .help("move away what is there, or name another folder with --out")
        };
        for name in &self.names {
            if self.dir.symlink_metadata(name).is_ok_and(|there| there.is_dir()) {
                return Err(cannot(name, std::io::Error::other("a folder of that name is there already")));
            }
            if let Some(parent) = Path::new(name).parent() {
                self.dir.create_dir_all(parent).map_err(|error| cannot(name, error))?;
            }
        }
        let staging = Path::new(self.staging.path().file_name().unwrap_or_default());
        for name in &self.names {
            self.dir.rename(staging.join(name), &self.dir, name).map_err(|error| cannot(name, error))?;
        }
        Ok(self.names.len())
    }
}

/// As [`replace`], but not through a link that lies in a tree: that is of whoever made the tree.
pub fn replace_beside(tree: &Path, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let absolute = std::path::absolute(path).map_err(|error| Error::usage(format!("{}: {error}", path.display())))?;
    let is_of_tree =
        |place: &Path| place.parent().and_then(|folder| folder.canonicalize().ok()).is_some_and(|folder| folder.starts_with(tree));
    if let Some(link) = absolute.ancestors().find(|place| place.is_symlink() && is_of_tree(place)) {
        return Err(Error::usage(format!("{} is not written: {} is a link that lies beside what is read", path.display(), link.display()))
            .help("name a file outside of the tree, or remove the link"));
    }
    replace(path, bytes)
}

/// A file, whole or as it was; where a link leads to. What is no file (a device, a pipe) is written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let cannot = |error: std::io::Error| {
        use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
        let message = format!("{} cannot be written: {error}", path.display());
        let is_theirs = [NotFound, NotADirectory, IsADirectory, PermissionDenied].contains(&error.kind());
        if is_theirs { Error::usage(message) } else { Error::engine(message) }
    };
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = real.as_path();
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return std::fs::File::options().write(true).open(path).and_then(|mut file| file.write_all(bytes)).map_err(cannot);
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        // As it was: whose it is, and who may read it.
        let before = path.metadata().ok();
        let mode = before.as_ref().map_or(0o644, |before| before.mode() & 0o777);
        let mut file = tempfile::Builder::new().prefix(".sandhog-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        if let Some(before) = &before
            && std::os::unix::fs::fchown(file.as_file(), Some(before.uid()), Some(before.gid())).is_err()
        {
            let _ = std::os::unix::fs::fchown(file.as_file(), None, Some(before.gid())); // only root gives files away
        }
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.persist(path).map_err(|error| error.error)?;
        std::io::Result::Ok(())
    };
    write().map_err(cannot)
}

/// The lines in which two texts differ, from the first to the last such: `- ` before those of the one, `+ ` before those of the other.
pub fn line_changes(before: &str, after: &str) -> Vec<String> {
    let (mut before, mut after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    before.drain(..same);
    after.drain(..same);
    let same = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    before.truncate(before.len() - same);
    after.truncate(after.len() - same);
    let signed = |sign, lines: Vec<&str>| lines.into_iter().map(|line| format!("{sign} {line}")).collect::<Vec<_>>();
    [signed('-', before), signed('+', after)].concat()
}
