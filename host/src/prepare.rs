//! A workflow and what it names, looked at before anything runs: plugins that must be there and may do what they ask for, and files
//! for its globs. Where the files come from is the caller's business: a folder, or what came with a request.

use std::collections::HashSet;

use globset::{GlobBuilder, GlobMatcher};

use crate::config::Problems;
use crate::config::workflow::{Source, Use};
use crate::model::{Artifact, InputSource};
use crate::registry::{self, Entry, Registry};
use crate::runtime::Kind;

/// How many bytes of input files a run may have: they are kept in memory.
pub const INPUT_FILES_BYTES_MAX: u64 = 2 << 30;
/// How many files the steps of a workflow may work on together, each counted for each step.
const INPUT_FILES_MAX: u64 = 4_000_000;

/// Why the inputs of a workflow are not there.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A glob that matches nothing, or a file that cannot be read: at its place in the workflow.
    #[error(transparent)]
    Glob(#[from] Problems),
    /// Anything else.
    #[error("{0}")]
    Refused(String),
}

/// Makes sure of every plugin that the workflow names: it is there, of the right kind, and may do what it asks for.
///
/// # Errors
/// All that is wrong, each at its place in the workflow.
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

/// Loads every plugin that the workflow names. `told` hears of each that is to be compiled first, which may take a while.
///
/// # Errors
/// The first plugin that cannot be loaded.
pub fn load_plugins(source: &Source, registry: &Registry, told: impl Fn(&Entry)) -> Result<(), registry::Error> {
    let mut names: Vec<&str> = source.plugins().map(Use::name).collect();
    names.sort_unstable();
    names.dedup();
    let of = |name: &str| match registry.set(name) {
        set if set.is_empty() => registry.providers(name),
        set => set,
    };
    for entry in names.into_iter().flat_map(of) {
        if !registry.is_compiled(&entry) {
            told(&entry);
        }
        registry.load(&entry)?;
    }
    Ok(())
}

/// Whether a workflow works on files at all.
#[must_use]
pub fn needs_files(source: &Source) -> bool {
    source.workflow.steps.iter().any(|step| step.inputs.iter().any(|input| matches!(input, InputSource::Files(_))))
}

/// Reads the files that the globs of each step match, of those that have `names`, in that order. `place` says of what the globs are
/// relative to.
///
/// # Errors
/// See [`InputError`].
pub fn match_inputs(
    source: &Source,
    place: &str,
    names: &[String],
    mut read: impl FnMut(&str) -> std::io::Result<Artifact>,
) -> Result<Vec<Vec<Artifact>>, InputError> {
    let (mut total, mut count) = (0, 0);
    let mut files = Vec::with_capacity(source.workflow.steps.len());
    for step in &source.workflow.steps {
        let mut of_step: Vec<Artifact> = Vec::new();
        let mut known = HashSet::new();
        for input in &step.inputs {
            let InputSource::Files(glob) = input else { continue };
            let matcher = matcher(glob)?;
            let matched: Vec<&String> = names.iter().filter(|name| matcher.is_match(name.as_str())).collect();
            if matched.is_empty() {
                let help = format!("globs are relative to {place}");
                return Err(source.input_problem(glob, format!("no file matches `{glob}`"), Some(help)).into());
            }
            for name in matched {
                if !known.insert(name.as_str()) {
                    continue;
                }
                count += 1;
                if count > INPUT_FILES_MAX {
                    let why = format!("the inputs are more than {INPUT_FILES_MAX} files, counted for each step that works on them");
                    return Err(InputError::Refused(why));
                }
                let file = read(name).map_err(|error| source.input_problem(glob, format!("{name} cannot be read: {error}"), None))?;
                total += file.content.len() as u64;
                if total > INPUT_FILES_BYTES_MAX {
                    return Err(InputError::Refused(format!("the inputs are larger than {INPUT_FILES_BYTES_MAX} bytes together")));
                }
                crate::model::artifact::check_name(name)
                    .map_err(|reason| InputError::Refused(format!("the file name {name:?} is refused: {reason}")))?;
                of_step.push(file);
            }
        }
        let parent_of =
            |name: &&str| name.match_indices('/').map(|(at, _)| &name[..at]).find(|parent| known.contains(parent)).map(str::to_owned);
        if let Some((name, parent)) = known.iter().find_map(|name| Some((name, parent_of(name)?))) {
            return Err(InputError::Refused(format!("{parent:?} is an input, and cannot be a folder of {name:?} too")));
        }
        files.push(of_step);
    }
    Ok(files)
}

fn matcher(glob: &str) -> Result<GlobMatcher, InputError> {
    let glob = GlobBuilder::new(glob).literal_separator(true).build();
    Ok(glob.map_err(|error| InputError::Refused(error.kind().to_string()))?.compile_matcher())
}

/// The media type of a file, by its ending; empty where it is not known.
#[must_use]
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
