//! What is asked of git. The repository is a stranger's: nothing that its configuration names is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::exit::Error;

/// Settings that would have git run programs, or look elsewhere, set to nothing.
const HARMLESS: &[&str] = &[
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
    "core.attributesFile=/dev/null",
    "core.pager=cat",
    "diff.external=",
    "protocol.allow=never",
    "submodule.recurse=false",
];

fn git(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, Error> {
    let mut command = Command::new("git");
    for setting in HARMLESS {
        command.args(["-c", setting]);
    }
    command.arg("-C").arg(folder).args(arguments).stdin(Stdio::null());
    command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0").env_remove("GIT_EXTERNAL_DIFF");
    let output = command.output().map_err(|error| Error::usage(format!("git cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = crate::model::text::sanitize(String::from_utf8_lossy(&output.stderr).trim(), 1_000);
    Err(Error::usage(format!("git {}: {said}", arguments.first().copied().unwrap_or_default())))
}

/// A revision by its name; names that git would read as an option are refused.
fn revision(folder: &Path, name: &str) -> Result<String, Error> {
    let commit = git(folder, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])
        .map_err(|_| Error::usage(format!("`{name}` is no commit, branch or tag of the repository at {}", folder.display())))?;
    Ok(String::from_utf8_lossy(&commit).trim().to_owned())
}

/// A file of a folder as it is in a revision.
pub fn show(folder: &Path, base: &str, name: &str) -> Result<String, Error> {
    let commit = revision(folder, base)?;
    let bytes = git(folder, &["show", "--no-textconv", "--end-of-options", &format!("{commit}:./{name}")])
        .map_err(|error| Error::usage(format!("{name} cannot be read as it is in {base}: {}", error.text())))?;
    String::from_utf8(bytes).map_err(|_| Error::usage(format!("{name} in {base} is not UTF-8")))
}

/// The root of the working tree that a folder is in; the folder itself where there is none.
pub fn root(folder: &Path) -> PathBuf {
    if !folder.ancestors().any(|folder| folder.join(".git").exists()) {
        return folder.to_owned();
    }
    let named = git(folder, &["rev-parse", "--show-toplevel"]).ok().map(|name| String::from_utf8_lossy(&name).trim().to_owned());
    named.and_then(|name| Path::new(&name).canonicalize().ok()).unwrap_or_else(|| folder.to_owned())
}

/// The files below a folder that git tracks, relative to it; none where there is no repository.
pub fn tracked(folder: &Path) -> Vec<PathBuf> {
    if !folder.ancestors().any(|folder| folder.join(".git").exists()) {
        return Vec::new();
    }
    match git(folder, &["ls-files", "-z", "--cached"]) {
        Ok(names) => {
            let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            names.map(|name| PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name))).collect()
        }
        Err(error) => {
            tracing::warn!(error = %error.text(), "what git tracks is not known: files that .gitignore names are not judged");
            Vec::new()
        }
    }
}

/// Files below a folder that differ from a revision's, or are new, and are still there.
pub fn changed(folder: &Path, base: &str) -> Result<Vec<PathBuf>, Error> {
    let commit = revision(folder, base)?;
    // From where the branch left, so that what others did on the base since is not counted.
    let fork = git(folder, &["merge-base", &commit, "HEAD"]).map_or(commit, |text| String::from_utf8_lossy(&text).trim().to_owned());
    let differ =
        git(folder, &["diff", "--name-only", "-z", "--no-ext-diff", "--no-textconv", "--relative", "--diff-filter=d", &fork, "--"])?;
    let new = git(folder, &["ls-files", "-z", "--others", "--exclude-standard"])?;
    let names = differ.split(|byte| *byte == 0).chain(new.split(|byte| *byte == 0)).filter(|name| !name.is_empty());
    let path = |name: &[u8]| folder.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
    Ok(names.map(path).filter(|path| path.symlink_metadata().is_ok_and(|there| there.is_file())).collect())
}
