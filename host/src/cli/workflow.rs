//! A workflow file and what it names: plugins that must be there, and files that must be readable, all before anything
//! runs.

use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::context::{Common, Context, read_text};
use super::exit::Error;
use crate::api::{InputFile, Submission};
use crate::config::workflow::{Source, read, read_all};
use crate::model::Artifact;
use crate::model::limits::show_bytes;
use crate::prepare::{self, INPUT_FILES_BYTES_MAX, check_plugins, media_type};

/// How many files below the workflow's folder are looked at.
const FILES_MAX: usize = 1_000_000;

/// Reads a workflow file.
pub fn read_workflow(path: &Path) -> Result<Source, Error> {
    let text = text(path)?;
    Ok(read(&path.display().to_string(), &text)?)
}

fn text(path: &Path) -> Result<String, Error> {
    if path.extension().is_some_and(|extension| extension == "wasm") {
        let path = path.display();
        return Err(Error::usage(format!("{path}: a workflow is a TOML file, and this is a component"))
            .help(format!("`sandhog call {path}` runs it once")));
    }
    read_text(path)
}

/// Loads every plugin that the workflow names, with a word where that takes a while.
pub fn load_plugins(source: &Source, context: &Context) -> Result<(), Error> {
    let told = |entry: &crate::registry::Entry| errln!("compiling {} ({}), once", entry.name, show_bytes(entry.size_bytes));
    Ok(prepare::load_plugins(source, &context.registry, told)?)
}

/// Reads the files that the globs of each step match, in the order of their names.
pub fn read_inputs(source: &Source, path: &Path) -> Result<Vec<Vec<Artifact>>, Error> {
    if !prepare::needs_files(source) {
        return Ok(vec![Vec::new(); source.workflow.steps.len()]);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let dir = Dir::open_ambient_dir(folder, ambient_authority())
        .map_err(|error| Error::usage(format!("{} cannot be opened: {error}", folder.display())))?;
    let names = list(folder)?;
    let read = |name: &str| {
        let content = read_file(&dir, name)?.into();
        Ok(Artifact { name: name.to_owned(), media_type: media_type(name).to_owned(), content })
    };
    Ok(prepare::match_inputs(source, &folder.display().to_string(), &names, read)?)
}

/// A workflow file with the files that it works on, to be sent to a server.
pub fn submission(path: &Path) -> Result<Submission, Error> {
    let text = text(path)?;
    let source = read(&path.display().to_string(), &text)?;
    let mut inputs: Vec<InputFile> = Vec::new();
    for file in read_inputs(&source, path)?.into_iter().flatten() {
        if !inputs.iter().any(|input| input.name == file.name) {
            inputs.push(InputFile::of(file));
        }
    }
    Ok(Submission { workflow: Some(text), file: Some(path.display().to_string()), inputs, ..Submission::default() })
}

/// Every regular file below a folder, by its path from there; links are not followed, `.git` and our own are left out.
fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let own = |name: &std::ffi::OsStr| name == ".git" || name == ".sandhog";
    let walk = walkdir::WalkDir::new(folder).follow_links(false).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || !own(entry.file_name())) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(%error, "left out");
                continue;
            }
        };
        if entry.file_type().is_file()
            && let Ok(path) = entry.path().strip_prefix(folder)
        {
            match path.to_str() {
                Some(name) => names.push(name.to_owned()),
                None => tracing::warn!(file = %path.display(), "left out: its name is not UTF-8"),
            }
        }
        if names.len() > FILES_MAX {
            return Err(Error::usage(format!("more than {FILES_MAX} files below {}", folder.display())));
        }
    }
    Ok(names)
}

/// Reads a file below a folder, and never one outside it.
fn read_file(dir: &Dir, name: &str) -> std::io::Result<Vec<u8>> {
    let metadata = dir.symlink_metadata(name)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    if metadata.len() > INPUT_FILES_BYTES_MAX {
        return Err(std::io::Error::other("it is too large"));
    }
    dir.read(name)
}

/// A workflow, checked, with its plugins at hand.
pub fn prepare(common: &Common, path: &Path, slots: Option<u32>) -> Result<(Source, Context), Error> {
    let (source, problems) = read_all(&path.display().to_string(), &text(path)?);
    let context = match (common.open(slots), problems.clone()) {
        (Ok(context), _) => context,
        (Err(_), Some(problems)) => return Err(problems.into()),
        (Err(error), None) => return Err(error),
    };
    match (problems, check_plugins(&source, &context.registry)) {
        (None, Ok(())) => Ok((source, context)),
        (Some(problems), Ok(())) | (None, Err(problems)) => Err(problems.into()),
        (Some(problems), Err(others)) => Err(problems.and(others).into()),
    }
}
