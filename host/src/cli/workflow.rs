//! A workflow file and what it names: plugins that must be there, and files that must be readable, all before anything
//! runs.

use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use globset::{GlobBuilder, GlobMatcher};

use super::context::{Common, Context, read_text};
use super::exit::Error;
use crate::config::Problems;
use crate::config::workflow::{Source, Use, read, read_all};
use crate::model::{Artifact, InputSource};
use crate::registry::Registry;
use crate::runtime::Kind;

/// How many bytes of input files a run may have: they are kept in memory.
const INPUT_FILES_BYTES_MAX: u64 = 2 << 30;
/// How many files below the workflow's folder are looked at.
const FILES_MAX: usize = 1_000_000;

/// Reads a workflow file.
pub fn read_workflow(path: &Path) -> Result<Source, Error> {
    let text = read_text(path)?;
    Ok(read(&path.display().to_string(), &text)?)
}

/// Makes sure of every plugin that the workflow names: it is there, of the right kind, and may do what it asks for.
pub fn check_plugins(source: &Source, registry: &Registry) -> Result<(), Problems> {
    let judge = |plugin: &Use| {
        let needed = match plugin {
            Use::Worker(_) => Kind::Worker,
            Use::Gate(_) => Kind::Gate,
        };
        let set = match plugin {
            Use::Gate(name) => registry.set(name),
            Use::Worker(_) => Vec::new(),
        };
        let is_set = !set.is_empty();
        if is_set && source.has_gate_params(plugin.name()) {
            let help = "name each gate that takes params by itself".to_owned();
            return Some((format!("`{}` is a set of gates, and `params` are for one", plugin.name()), Some(help)));
        }
        let entries = if is_set { set } else { registry.providers(plugin.name()) };
        if entries.is_empty() {
            return registry.find(plugin.name()).err().map(|error| (error.to_string(), None));
        }
        entries.iter().find_map(|entry| {
            if entry.kind != needed && entry.kind != Kind::Command {
                let found = entry.kind.as_str();
                return Some((format!("`{}` is a {found}, and a {} is needed here", entry.name, needed.as_str()), None));
            }
            let given = || if needed == Kind::Gate { registry.data(entry).err() } else { None };
            registry.grant(entry).err().or_else(given).map(|error| (error.to_string(), None))
        })
    };
    let above = |entry: &crate::registry::Entry, patch: &crate::model::LimitsPatch| match registry.limits(entry, patch) {
        Err(crate::registry::Error::AboveCeiling { above, .. }) => above,
        Ok(_) | Err(_) => Vec::new(),
    };
    let over = |plugin: &Use, patch: &crate::model::LimitsPatch| match registry.find(plugin.name()) {
        Ok(entry) => above(&entry, patch),
        Err(_) => registry.set(plugin.name()).iter().flat_map(|entry| above(entry, patch)).collect(),
    };
    let unfit = |plugin: &Use, params: &serde_json::Map<String, serde_json::Value>| match registry.find(plugin.name()) {
        Ok(entry) => registry.params_problems(&entry, params).unwrap_or_else(|error| vec![error.to_string()]),
        Err(_) => Vec::new(), // said before; or a set, which takes none
    };
    source.plugin_problems(judge, over, unfit)
}

/// Loads every plugin that the workflow names, with a word where that takes a while.
pub fn load_plugins(source: &Source, context: &Context) -> Result<(), Error> {
    let mut names: Vec<&str> = source.plugins().map(Use::name).collect();
    names.sort_unstable();
    names.dedup();
    let of = |name: &str| match context.registry.set(name) {
        set if set.is_empty() => context.registry.providers(name),
        set => set,
    };
    for entry in names.into_iter().flat_map(of) {
        let name = &entry.name;
        if !context.registry.is_compiled(&entry) {
            errln!("compiling {name} ({}), once", crate::model::limits::show_bytes(entry.size_bytes));
        }
        context.registry.load(&entry)?;
    }
    Ok(())
}

/// Reads the files that the globs of each step match, in the order of their names.
pub fn read_inputs(source: &Source, path: &Path) -> Result<Vec<Vec<Artifact>>, Error> {
    let steps = &source.workflow.steps;
    if !steps.iter().any(|step| step.inputs.iter().any(|input| matches!(input, InputSource::Files(_)))) {
        return Ok(vec![Vec::new(); steps.len()]);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let dir = Dir::open_ambient_dir(folder, ambient_authority())
        .map_err(|error| Error::usage(format!("{} cannot be opened: {error}", folder.display())))?;
    let names = list(folder)?;
    let mut total = 0;
    let mut files = Vec::with_capacity(steps.len());
    for step in steps {
        let mut of_step: Vec<Artifact> = Vec::new();
        for input in &step.inputs {
            let InputSource::Files(glob) = input else { continue };
            let matcher = matcher(glob)?;
            let matched: Vec<&String> = names.iter().filter(|name| matcher.is_match(name.as_str())).collect();
            if matched.is_empty() {
                let help = format!("globs are relative to {}", folder.display());
                return Err(source.input_problem(glob, format!("no file matches `{glob}`"), Some(help)).into());
            }
            for name in matched {
                if of_step.iter().any(|file| file.name == *name) {
                    continue;
                }
                let content = read_file(&dir, name)
                    .map_err(|error| Error::from(source.input_problem(glob, format!("{name} cannot be read: {error}"), None)))?;
                total += content.len() as u64;
                if total > INPUT_FILES_BYTES_MAX {
                    return Err(Error::usage(format!("the inputs are larger than {INPUT_FILES_BYTES_MAX} bytes together")));
                }
                crate::model::artifact::check_name(name)
                    .map_err(|reason| Error::usage(format!("the file name {name:?} is refused: {reason}")))?;
                of_step.push(Artifact { name: name.clone(), media_type: media_type(name).to_owned(), content: content.into() });
            }
        }
        files.push(of_step);
    }
    Ok(files)
}

fn matcher(glob: &str) -> Result<GlobMatcher, Error> {
    let glob = GlobBuilder::new(glob).literal_separator(true).build();
    Ok(glob.map_err(|error| Error::usage(error.kind().to_string()))?.compile_matcher())
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

/// The media type of a file, by its ending; empty where it is not known.
pub fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("md" | "markdown") => "text/markdown",
        Some("txt") => "text/plain",
        Some("json") => "application/json",
        Some("toml") => "application/toml",
        Some("yaml" | "yml") => "application/yaml",
        Some("html" | "htm") => "text/html",
        Some("csv") => "text/csv",
        Some("xml") => "application/xml",
        Some("js" | "mjs") => "text/javascript",
        Some("py") => "text/x-python",
        Some("rs") => "text/x-rust",
        Some(_) | None => "",
    }
}

/// A workflow, checked, with its plugins at hand.
pub fn prepare(common: &Common, path: &Path, slots: Option<u32>) -> Result<(Source, Context), Error> {
    let (source, problems) = read_all(&path.display().to_string(), &read_text(path)?);
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
