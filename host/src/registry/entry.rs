//! One file of a plugin folder, read as a plugin: what it is, from its bytes and its manifest, and never by running it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::component::{self, Component};
use super::intake::{self, COMPONENT_BYTES_MAX};
use crate::clock::{Clock as _, SystemClock};
use crate::config::manifest::check_name;
use crate::config::{Manifest, Problems, manifest};
use crate::model::text::sanitize;
use crate::model::{Digest, Request};
use crate::runtime::Kind;

/// The largest manifest that is read, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 10;

/// A plugin that was found: what it is, but not its code.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name: from the manifest, the component's metadata, or the file's stem.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The digest of the component.
    pub digest: Digest,
    /// The component's size, in bytes.
    pub size_bytes: u64,
    /// What was said about it, by its manifest or its metadata.
    pub manifest: Manifest,
    /// What the component says of itself.
    pub component: Component,
}

/// Why a file in a folder is not among the plugins.
#[derive(Debug, thiserror::Error)]
pub enum BadPlugin {
    /// The file could not be read.
    #[error(transparent)]
    Intake(#[from] intake::Error),
    /// What is beside it could not be read.
    #[error("its manifest {}: {error}", .file.display())]
    Beside {
        /// The file beside it.
        file: PathBuf,
        /// Why.
        #[source]
        error: intake::Error,
    },
    /// The file is no plugin.
    #[error(transparent)]
    Component(#[from] component::Error),
    /// What is written about it is wrong.
    #[error("{}", problems(.0))]
    Manifest(Problems),
    /// The file is no plugin, and what is written about it is wrong besides.
    #[error("{0}\n{1}")]
    Both(component::Error, Box<BadPlugin>),
    /// Its name cannot be a plugin's.
    #[error("`{found}` cannot be a plugin's name ({expected}); give it one in a manifest beside it")]
    Name {
        /// What it is called.
        found: String,
        /// What a name is.
        expected: &'static str,
    },
    /// Another file of the folder has the same name.
    #[error("it is named `{name}`, and so is {}; give one of them another name in a manifest beside it", .other.display())]
    Clash {
        /// The name.
        name: String,
        /// The other file.
        other: PathBuf,
    },
    /// It asks for what only workers have.
    #[error("it is a {}, and asks for `reuse` in [requests], which is for workers alone: a verdict never depends on what was judged before", .kind.as_str())]
    Reuse {
        /// What it is.
        kind: Kind,
    },
    /// It is not signed as the configuration asks for.
    #[error("{0}")]
    Signature(String),
    /// A folder that cannot be listed.
    #[error("the folder cannot be listed: {0}")]
    Folder(#[source] std::io::Error),
}

fn problems(problems: &Problems) -> String {
    let help = |help: &Option<String>| help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
    let all = problems.problems.iter().map(|p| format!("{}:{}:{}: {p}{}", sanitize(&p.file, 1024), p.line, p.column, help(&p.help)));
    all.collect::<Vec<_>>().join("\n")
}

/// Reads one file as a plugin.
///
/// # Errors
/// See [`BadPlugin`].
pub fn examine(path: &Path) -> Result<Entry, BadPlugin> {
    examine_known(path, None)
}

/// What is known of a component's bytes.
#[derive(Serialize, Deserialize)]
struct Examined {
    digest: Digest,
    size_bytes: u64,
    component: Component,
}

impl Examined {
    fn of(bytes: &[u8]) -> Result<Self, BadPlugin> {
        Ok(Self { digest: Digest::of(bytes), size_bytes: bytes.len() as u64, component: component::read(bytes)? })
    }
}

/// As [`examine`]; what was known of exactly this file is not read again: large components take a while to hash.
pub(super) fn examine_known(path: &Path, cache: Option<&Cache>) -> Result<Entry, BadPlugin> {
    let metadata = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file);
    let stamp = metadata.as_ref().map(Stamp::from);
    let known =
        cache.zip(stamp.as_ref()).and_then(|(cache, stamp)| serde_json::from_slice::<Examined>(&cache.get(&stamp.name(path))?).ok());
    let examined = match known {
        Some(known) => known,
        None => {
            let examined = Examined::of(&intake::read(path, COMPONENT_BYTES_MAX)?)?;
            if let (Some(cache), Some(stamp)) = (cache, stamp)
                && stamp.is_settled()
                && stamp.is_of(path)
                && let Ok(text) = serde_json::to_vec(&examined)
                && let Err(error) = cache.put(&stamp.name(path), &text)
            {
                tracing::debug!(%error, "what is known of a component could not be kept");
            }
            examined
        }
    };
    let manifest = read_manifest(path, &examined.component);
    entry(path, examined, manifest)
}

/// A component whose bytes were kept, with what was written about it.
pub(super) fn from_kept(path: &Path, bytes: &[u8], beside: Option<String>) -> Result<Entry, BadPlugin> {
    let examined = Examined::of(bytes)?;
    let manifest = parse_manifest(path, beside.map(|text| (path.with_extension("toml").display().to_string(), text)), &examined.component);
    entry(path, examined, manifest)
}

fn entry(path: &Path, examined: Examined, manifest: Result<Manifest, BadPlugin>) -> Result<Entry, BadPlugin> {
    let Examined { digest, size_bytes, component } = examined;
    let (kind, manifest) = match (component.kind(), manifest) {
        (Ok(kind), Ok(manifest)) if kind != Kind::Worker && asks_for_reuse(&manifest) => return Err(BadPlugin::Reuse { kind }),
        (Ok(kind), Ok(manifest)) => (kind, manifest),
        (Err(problem), Ok(_)) => return Err(problem.into()),
        (Ok(_), Err(problem)) => return Err(problem),
        (Err(first), Err(second)) => return Err(BadPlugin::Both(first, Box::new(second))),
    };
    let stem = path.file_stem().unwrap_or_default();
    let fits = |name: &String| check_name(name).is_ok();
    let name = match manifest.name.clone().or_else(|| component.name.clone().filter(fits)) {
        Some(name) => name,
        None => {
            let stem = stem.to_string_lossy().into_owned();
            check_name(&stem).map_err(|expected| BadPlugin::Name { found: sanitize(&stem, 200), expected })?;
            stem
        }
    };
    Ok(Entry {
        name,
        path: path.to_owned(),
        kind,
        digest,
        size_bytes,
        manifest: Manifest {
            version: manifest.version.clone().or_else(|| component.version.clone()),
            description: manifest.description.clone().or_else(|| component.description.clone()),
            license: manifest.license.clone().or_else(|| component.license.clone()),
            source: manifest.source.clone().or_else(|| component.source.clone()),
            authors: match manifest.authors.as_slice() {
                [] => component.authors.iter().cloned().collect(),
                named => named.to_vec(),
            },
            ..manifest
        },
        component,
    })
}

fn asks_for_reuse(manifest: &Manifest) -> bool {
    manifest.requests.iter().flatten().any(|request| matches!(request, Request::Reuse { .. }))
}

/// What a file is known by without reading it. Its change time cannot be set by whoever writes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stamp {
    numbers: [i128; 7],
    changed_at: i64,
}

impl Stamp {
    /// The state of what is at a path, itself and not what a link leads to.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&std::fs::symlink_metadata(path).ok()?))
    }

    fn from(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let numbers = [
            i128::from(metadata.dev()),
            i128::from(metadata.ino()),
            i128::from(metadata.len()),
            i128::from(metadata.mtime()),
            i128::from(metadata.mtime_nsec()),
            i128::from(metadata.ctime()),
            i128::from(metadata.ctime_nsec()),
        ];
        Self { numbers, changed_at: metadata.ctime() }
    }

    /// Whether it is still so.
    fn is_of(&self, path: &Path) -> bool {
        Self::of(path).as_ref() == Some(self)
    }

    /// Whether a later change would have another time: clocks of file systems are coarse.
    fn is_settled(&self) -> bool {
        SystemClock.now().as_second() > self.changed_at + 2
    }

    /// The name under which it is remembered.
    fn name(&self, path: &Path) -> String {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"examined 2 ").update(env!("CARGO_PKG_VERSION").as_bytes()).update(path.as_os_str().as_encoded_bytes());
        for number in self.numbers {
            hasher.update(&number.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// What is written beside a plugin, if anything is.
pub(super) fn beside(path: &Path) -> Result<Option<String>, intake::Error> {
    match intake::read(&path.with_extension("toml"), MANIFEST_BYTES_MAX) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(intake::Error::NotReadable(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is written about a plugin: beside it, and inside it what is not said there.
fn read_manifest(path: &Path, component: &Component) -> Result<Manifest, BadPlugin> {
    let file = path.with_extension("toml");
    match beside(path) {
        Ok(text) => parse_manifest(path, text.map(|text| (file.display().to_string(), text)), component),
        Err(error) => Err(BadPlugin::Beside { file, error }),
    }
}

fn parse_manifest(path: &Path, beside: Option<(String, String)>, component: &Component) -> Result<Manifest, BadPlugin> {
    let read = |file: &str, text: &str| manifest::read(file, text).map_err(BadPlugin::Manifest);
    let inside = || {
        let embedded = format!("{} (embedded manifest)", path.display());
        component.manifest.as_deref().map_or_else(|| Ok(Manifest::default()), |text| read(&embedded, text))
    };
    let Some((file, text)) = beside else { return inside() };
    let beside = read(&file, &text)?;
    let said = toml::from_str::<toml::Table>(&text).unwrap_or_default();
    Ok(beside.over(inside()?, |field| said.contains_key(field)))
}
