//! What is asked of git. The repository is a stranger's: nothing that its configuration or its attributes name is run.
//!
//! Git reads what programs it runs (filters, monitors, transports, helpers) from the repository's own configuration, and
//! has ever more names for them. So it is never shown that configuration: it works in a folder made for it, which has
//! nothing but the repository's references, index and objects.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::exit::Error;
use crate::registry::intake;

/// The most of a repository's small files that is read, in bytes.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;

/// How deep repositories within each other are looked into.
const SUBMODULE_DEPTH_MAX: u32 = 8;
/// How long git may take for one question.
const ANSWER_MAX: std::time::Duration = std::time::Duration::from_mins(2);

/// A repository, as git is shown it.
pub struct Repository {
    /// Where its working tree begins.
    work_tree: PathBuf,
    /// The folder that git takes for the repository.
    own: tempfile::TempDir,
    index: PathBuf,
    objects: PathBuf,
}

/// What is tracked below a folder, relative to it.
#[derive(Default)]
pub struct Tracked {
    /// All that is, as far as it is known.
    pub paths: Vec<PathBuf>,
    /// Repositories within it of which it is not known, and why.
    pub unknown: Vec<(PathBuf, String)>,
}

/// The root of the working tree that a folder is in: the nearest folder above it with a `.git`. The folder itself where there is none.
pub fn root(folder: &Path) -> PathBuf {
    folder.ancestors().find(|above| above.join(".git").symlink_metadata().is_ok()).unwrap_or(folder).to_owned()
}

impl Repository {
    /// The repository that a folder is in; none where there is none.
    ///
    /// # Errors
    /// When its `.git` cannot be made sense of.
    pub fn of(folder: &Path) -> Result<Option<Self>, Error> {
        let folder = folder.canonicalize().map_err(|error| Error::usage(format!("{} cannot be read: {error}", folder.display())))?;
        let work_tree = root(&folder);
        let place = work_tree.join(".git");
        if place.symlink_metadata().is_err() {
            return Ok(None);
        }
        let cannot = |reason: String| Error::usage(format!("the git repository at {}: {reason}", work_tree.display()));
        // A linked working tree and a submodule have a file there, which says where the rest is.
        let git_folder = if place.is_dir() {
            place
        } else {
            let text = small(&place).map_err(&cannot)?;
            let named =
                text.trim_end().strip_prefix("gitdir: ").ok_or_else(|| cannot(".git is neither a folder nor a link to one".to_owned()))?;
            work_tree.join(named)
        };
        let common = match small(&git_folder.join("commondir")) {
            Ok(text) => git_folder.join(text.trim_end()),
            Err(_) => git_folder.clone(),
        };
        let own = tempfile::tempdir().map_err(|error| Error::engine(format!("no temporary folder: {error}")))?;
        let make = || -> std::io::Result<()> {
            let link = |from: &Path, name: &str| match from.join(name) {
                there if there.exists() => std::os::unix::fs::symlink(there, own.path().join(name)),
                _ => Ok(()),
            };
            std::fs::write(own.path().join("HEAD"), small(&git_folder.join("HEAD")).map_err(std::io::Error::other)?)?;
            for name in ["refs", "packed-refs", "shallow", "reftable"] {
                link(&common, name)?;
            }
            if !own.path().join("refs").exists() {
                std::fs::create_dir(own.path().join("refs"))?;
            }
            for entry in std::fs::read_dir(&git_folder)?.flatten() {
                let name = entry.file_name();
                if let Some(name) = name.to_str().filter(|name| name.starts_with("sharedindex.")) {
                    link(&git_folder, name)?;
                }
            }
            std::fs::write(own.path().join("config"), form(&common.join("config")))
        };
        make().map_err(|error| cannot(error.to_string()))?;
        if git_folder.join("index").symlink_metadata().is_ok_and(|index| !index.is_file()) {
            return Err(cannot("its index is no file".to_owned()));
        }
        Ok(Some(Self { work_tree, own, index: git_folder.join("index"), objects: common.join("objects") }))
    }

    fn git(&self, folder: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<Vec<u8>, Error> {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"GIT_")) {
            command.env_remove(name); // a hook is called with the repository's own
        }
        command
            .env("GIT_DIR", self.own.path())
            .env("GIT_WORK_TREE", &self.work_tree)
            .env("GIT_INDEX_FILE", &self.index)
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ALLOW_PROTOCOL", "")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0");
        for setting in ["core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null", "core.quotePath=false"] {
            command.args(["-c", setting]);
        }
        command.args(["--no-pager", "-C"]).arg(folder).args(arguments).stdin(Stdio::null());
        let what = arguments.first().map_or_else(String::new, |what| what.as_ref().to_string_lossy().into_owned());
        let cannot = |error: std::io::Error| Error::usage(format!("git cannot be run: {error}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(cannot)?;
        let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
        // A pipe in place of one of its files would have it wait for ever.
        let Ok(stdout) = stdout.recv_timeout(ANSWER_MAX) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::usage(format!("git {what} gave no answer within {ANSWER_MAX:?}")));
        };
        if child.wait().map_err(cannot)?.success() {
            return Ok(stdout);
        }
        let said = stderr.recv().unwrap_or_default();
        Err(Error::usage(format!("git {what}: {}", crate::model::text::sanitize(String::from_utf8_lossy(&said).trim(), 1_000))))
    }

    /// A revision by its name; names that git would read as an option are refused.
    fn revision(&self, name: &str) -> Result<String, Error> {
        // A tag or a branch that somebody called as a branch of another repository is called would be taken for it, and without a word.
        let end = [name.find("@{"), name.find(['^', '~', ':'])].into_iter().flatten().min().unwrap_or(name.len());
        let named = &name[..end];
        let places = ["refs/heads/", "refs/tags/", "refs/remotes/", "refs/"].map(|place| format!("{place}{named}"));
        let head = format!("refs/remotes/{named}/HEAD");
        let arguments = ["for-each-ref", "--format=%(refname)"].map(str::to_owned);
        let listed = self.git(&self.work_tree, &[&arguments[..], &places].concat())?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let is_meant = |line: &&str| places.iter().any(|place| place == line) || *line == head;
        let mut meant: Vec<String> = listed.lines().filter(is_meant).map(str::to_owned).collect();
        if (4..40).contains(&named.len()) && named.bytes().all(|digit| digit.is_ascii_hexdigit()) && !meant.is_empty() {
            meant.push("a commit that may begin so".to_owned());
        }
        if let [one, other, ..] = meant.as_slice() {
            let message = format!("`{name}` is ambiguous: there are {one} and {other} in the repository at {}", self.work_tree.display());
            return Err(Error::usage(message).help("name it in full, such as refs/remotes/origin/main"));
        }
        let commit = self
            .git(&self.work_tree, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])
            .map_err(|_| Error::usage(format!("`{name}` is no commit, branch or tag of the repository at {}", self.work_tree.display())))?;
        Ok(String::from_utf8_lossy(&commit).trim().to_owned())
    }

    /// Whether there is no commit yet.
    fn is_unborn(&self) -> bool {
        let head = small(&self.own.path().join("HEAD")).unwrap_or_default();
        let name = head.trim_end().strip_prefix("ref: ").map(str::to_owned);
        name.is_some_and(|name| self.git(&self.work_tree, &["show-ref", "--verify", "--quiet", &name]).is_err())
            && self.git(&self.work_tree, &["for-each-ref", "--count=1"]).is_ok_and(|refs| refs.is_empty())
    }

    /// A file of a folder as it is in a revision.
    pub fn show(&self, folder: &Path, base: &str, name: &str) -> Result<String, Error> {
        let commit = self.revision(base)?;
        let bytes = self
            .git(folder, &["show", "--no-textconv", "--end-of-options", &format!("{commit}:./{name}")])
            .map_err(|error| Error::usage(format!("{name} cannot be read as it is in {base}: {}", error.text())))?;
        String::from_utf8(bytes).map_err(|_| Error::usage(format!("{name} in {base} is not UTF-8")))
    }

    /// The files below a folder that are tracked, relative to it.
    pub fn tracked(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut all: Vec<PathBuf> = paths(&self.git(folder, &["ls-files", "-z", "--cached"])?).collect();
        all.dedup(); // what is in conflict is there several times
        Ok(all)
    }

    /// As [`Repository::tracked`], with what is tracked by the repositories within this one that it names (submodules).
    pub fn tracked_within(&self, folder: &Path) -> Result<Tracked, Error> {
        let mut all = self.tracked(folder)?;
        let (mut at, mut depths, mut unknown) = (0, vec![0_u32; all.len()], Vec::new());
        while let Some(path) = all.get(at).cloned() {
            let (place, depth) = (folder.join(&path), depths[at] + 1);
            at += 1;
            let is_folder = place.symlink_metadata().is_ok_and(|there| there.is_dir());
            if !is_folder || depth > SUBMODULE_DEPTH_MAX || place.join(".git").symlink_metadata().is_err() {
                continue;
            }
            match Self::of(&place).and_then(|git| git.map_or(Ok(Vec::new()), |git| git.tracked(&place))) {
                Ok(within) => {
                    depths.resize(all.len() + within.len(), depth);
                    all.extend(within.into_iter().map(|inside| path.join(inside)));
                }
                Err(error) => unknown.push((path, error.text())),
            }
        }
        Ok(Tracked { paths: all, unknown })
    }

    /// Whether something in a folder is tracked, or anything below it.
    pub fn tracks(&self, folder: &Path, name: &OsStr) -> Result<bool, Error> {
        let folder = folder.canonicalize().map_err(|error| Error::usage(format!("{} cannot be read: {error}", folder.display())))?;
        let name = OsStr::from_bytes(&[b":(literal)", name.as_bytes()].concat()).to_owned();
        Ok(!self.git(&folder, &[OsStr::new("ls-files"), OsStr::new("-z"), OsStr::new("--cached"), OsStr::new("--"), &name])?.is_empty())
    }

    /// Files below a folder that differ from a revision's, or are new, and are still there.
    pub fn changed(&self, folder: &Path, base: &str) -> Result<Vec<PathBuf>, Error> {
        let there = |path: &PathBuf| path.symlink_metadata().is_ok_and(|there| there.is_file());
        let commit = match self.revision(base) {
            // Before the first commit everything is new.
            Err(_) if base == "HEAD" && self.is_unborn() => {
                let all = self.git(folder, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
                return Ok(paths(&all).map(|path| folder.join(path)).filter(there).collect());
            }
            commit => commit?,
        };
        // From where the branch left, so that what others did on the base since is not counted.
        let fork =
            self.git(folder, &["merge-base", &commit, "HEAD"]).map_or(commit, |text| String::from_utf8_lossy(&text).trim().to_owned());
        // A submodule is a repository of its own, with a configuration of its own: git is not to look into it.
        let arguments = ["diff", "--name-only", "-z", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=all"];
        let differ = self.git(folder, &[&arguments[..], &["--relative", "--diff-filter=d", &fork, "--"]].concat())?;
        let new = self.git(folder, &["ls-files", "-z", "--others", "--exclude-standard"])?;
        Ok(paths(&differ).chain(paths(&new)).map(|path| folder.join(path)).filter(there).collect())
    }
}

/// Reads what a process writes, to its end, on a thread of its own.
fn reader(from: Option<impl std::io::Read + Send + 'static>) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut all);
        }
        let _ = sender.send(all);
    });
    receiver
}

/// Whether there is a git to ask.
pub fn is_installed() -> bool {
    Command::new("git").arg("--version").stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// The repository that a folder is in, where there must be one.
pub fn here(folder: &Path) -> Result<Repository, Error> {
    Repository::of(folder)?.ok_or_else(|| Error::usage(format!("{} is in no git repository", folder.display())))
}

/// Names as git lists them, each ended by a zero.
fn paths(names: &[u8]) -> impl Iterator<Item = PathBuf> {
    names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(|name| PathBuf::from(OsStr::from_bytes(name)))
}

fn small(path: &Path) -> Result<String, String> {
    let bytes = intake::read(path, SMALL_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// A configuration with nothing but the form of a repository: how objects are named, and how references are kept.
fn form(config: &Path) -> String {
    let text = small(config).unwrap_or_default().to_lowercase();
    let mut section = String::new();
    let mut extensions = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').trim().to_owned();
        } else if section == "extensions"
            && let Some((name, value)) = line.split_once('=')
        {
            match (name.trim(), value.trim()) {
                ("objectformat", "sha256") => extensions += "\tobjectformat = sha256\n",
                ("refstorage", "reftable") => extensions += "\trefstorage = reftable\n",
                _ => {}
            }
        }
    }
    let version = u8::from(!extensions.is_empty());
    let extensions = if extensions.is_empty() { String::new() } else { format!("[extensions]\n{extensions}") };
    format!("[core]\n\trepositoryformatversion = {version}\n\tbare = false\n{extensions}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_configuration_only_the_form_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("config");
        std::fs::write(&config, "[core]\n\tfsmonitor = evil\n\tworktree = /\n[filter \"x\"]\n\tclean = evil\n").expect("writes");
        assert_eq!(form(&config), "[core]\n\trepositoryformatversion = 0\n\tbare = false\n");
        std::fs::write(&config, "[extensions]\n\tobjectFormat = sha256\n\tpartialClone = origin\n").expect("writes");
        assert_eq!(form(&config), "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[extensions]\n\tobjectformat = sha256\n");
    }
}
