//! `sandhog trust`, and which settings count for a check.
//!
//! The configuration of a judged directory was written by whoever wrote the directory. It counts only where the user said so
//! of exactly these files: the digest of `sandhog.toml`, of the baseline, of the project's own plugins and of the data in it that gates
//! are given is remembered in the user's configuration folder.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::context::{Common, read_settings};
use super::exit::{Error, Exit};
use crate::check::baseline;
use crate::config::Settings;
use crate::config::settings::FILE_NAME;
use crate::model::Digest;
use crate::registry::intake;

/// The largest file that is part of what is trusted, in bytes.
const TRUSTED_BYTES_MAX: u64 = 64 << 20;
/// The largest list of trusted directories, in bytes.
const LIST_BYTES_MAX: u64 = 4 << 20;

/// Arguments of `trust`.
#[derive(Debug, clap::Args)]
#[command(after_help = "What is trusted is remembered in the user's configuration folder by the digest of sandhog.toml, of the\n\
baseline, of every plugin in the plugin folders below the directory, and of the [data] in it: when one\n\
changes, it asks again.\n\n\
Example: sandhog trust . && sandhog check")]
pub struct TrustArguments {
    /// The directory with the sandhog.toml
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Forget it instead
    #[arg(long)]
    revoke: bool,
}

/// Where settings of a check come from.
pub struct Policy {
    /// What counts.
    pub settings: Settings,
    /// The folder that counts, with all that was vouched for in it: the baseline, its plugins.
    pub folder: Option<PathBuf>,
    /// The root of the project, where that is above what is judged: engines find their configurations there.
    pub root: Option<PathBuf>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Trusts.
pub fn trust(arguments: &TrustArguments) -> Result<Exit, Error> {
    let folder = canonical(&arguments.path)?;
    let mut list = read_list()?;
    let key = folder.display().to_string();
    if arguments.revoke {
        let was = list.remove(&key).is_some();
        write_list(&list)?;
        outln!("{key}: {}", if was { "not trusted any more" } else { "was not trusted" });
        return Ok(Exit::Passed);
    }
    let file = folder.join(FILE_NAME);
    if !file.is_file() {
        return Err(Error::usage(format!("there is no {FILE_NAME} in {key}")).help("name the directory that has it"));
    }
    let settings = read_settings(&file)?;
    list.insert(key.clone(), digest(&folder, &settings)?.to_string());
    write_list(&list)?;
    outln!("{key}: trusted as it is now");
    Ok(Exit::Passed)
}

/// The settings that count for a directory.
pub fn policy(common: &Common, file: Option<&Path>, from: Option<&str>, folder: &Path) -> Result<Policy, Error> {
    if let Some(file) = file.or(common.config.as_deref()) {
        let beside = canonical(file)?;
        let judged = canonical(folder)?;
        let root = is_same_tree(&beside, &judged).then_some(beside);
        return Ok(Policy { settings: read_settings(file)?, folder: None, root, notes: Vec::new() });
    }
    let folder = canonical(folder)?;
    if let Some(base) = from {
        let text = super::git::here(&folder)?.show(&folder, base, FILE_NAME)?;
        let name = PathBuf::from(format!("{base}:{FILE_NAME}"));
        let settings = crate::config::settings::read(&name, &text, &folder, |name| std::env::var(name).ok())?;
        // The plugins of the working tree are the stranger's; only what lies outside of it is as the user left it.
        let tree = super::git::root(&folder);
        let inside = |path: &PathBuf| is_below(path, &tree) || is_below(path, &folder);
        let mut settings = settings;
        let mut notes = Vec::new();
        settings.plugins.retain(|plugins| !inside(plugins));
        settings.data.retain(|name, path| {
            let lies_inside = inside(path);
            if lies_inside {
                notes.push(format!("the data `{name}` lies in what is judged, and is not used (--data {name}=PATH names another)"));
            }
            !lies_inside
        });
        for (name, pinned) in &mut settings.grants {
            pinned.grant.files.retain(|granted| {
                let lies_inside = inside(&granted.path);
                if lies_inside {
                    notes.push(format!("{name} is not granted {}: it lies in what is judged", granted.path.display()));
                }
                !lies_inside
            });
        }
        settings.secrets.retain(|source| !source.file.as_ref().is_some_and(inside));
        return Ok(Policy { settings, root: Some(folder.clone()), folder: Some(folder), notes });
    }
    let Some(found) = folder.ancestors().find(|folder| folder.join(FILE_NAME).is_file()) else {
        return Ok(Policy { settings: Settings::default(), folder: None, root: None, notes: Vec::new() });
    };
    // What lies above the judged folder is seen only where it is of the same working tree.
    let root = is_same_tree(found, &folder).then(|| found.to_owned());
    let nobody = |notes| Policy { settings: Settings::default(), folder: None, root: root.clone(), notes };
    let place = found.join(FILE_NAME);
    let asks = "`sandhog trust` makes it count, or --policy FILE, or --policy-from BASE";
    let untrusted = |why: &str| {
        nobody(vec![format!("{} does not count, since {why}: the standard gates judge, with nothing granted ({asks})", place.display())])
    };
    let Some(trusted) = read_list()?.get(&found.display().to_string()).cloned() else {
        return Ok(untrusted("nobody said that it is trusted"));
    };
    // What does not read any more is not what was trusted.
    let changed = || untrusted("it, its baseline, its plugins or its data changed since it was trusted");
    let Ok(settings) = read_settings(&place) else { return Ok(changed()) };
    if digest(found, &settings)?.to_string() != trusted {
        return Ok(changed());
    }
    Ok(Policy { settings, folder: Some(found.to_owned()), root: Some(found.to_owned()), notes: Vec::new() })
}

/// Whether a folder is below another, and of the same working tree of git: then what lies between is of the same project.
pub fn is_same_tree(above: &Path, judged: &Path) -> bool {
    judged == above || (judged.starts_with(above) && above.starts_with(super::git::root(judged)))
}

/// Whether a path is below a folder, by its words or by where it leads.
fn is_below(path: &Path, folder: &Path) -> bool {
    without_dots(path).starts_with(folder) || path.canonicalize().is_ok_and(|real| real.starts_with(folder))
}

/// A path without `.` and `..`, by its words alone.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Whether a directory is trusted as it is.
pub fn is_trusted(folder: &Path) -> Result<bool, Error> {
    let folder = canonical(folder)?;
    let Some(trusted) = read_list()?.get(&folder.display().to_string()).cloned() else { return Ok(false) };
    Ok(digest(&folder, &read_settings(&folder.join(FILE_NAME))?)?.to_string() == trusted)
}

/// Trusts a directory as it is now.
pub fn renew(folder: &Path) -> Result<(), Error> {
    let folder = canonical(folder)?;
    let mut list = read_list()?;
    list.insert(folder.display().to_string(), digest(&folder, &read_settings(&folder.join(FILE_NAME))?)?.to_string());
    write_list(&list)
}

fn canonical(path: &Path) -> Result<PathBuf, Error> {
    let real = path.canonicalize().map_err(|error| Error::usage(format!("{} cannot be read: {error}", path.display())))?;
    Ok(if real.is_dir() { real } else { real.parent().unwrap_or(Path::new("/")).to_owned() })
}

/// One digest of all that counts.
fn digest(folder: &Path, settings: &Settings) -> Result<Digest, Error> {
    let baseline = settings.check.baseline.as_deref().unwrap_or(baseline::FILE_NAME);
    let mut paths = vec![folder.join(FILE_NAME), folder.join(baseline)];
    for plugins in settings.plugins.iter().filter(|plugins| is_below(plugins, folder)) {
        let Ok(entries) = std::fs::read_dir(plugins) else { continue };
        let wanted = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wasm" || extension == "toml");
        paths.extend(entries.flatten().map(|entry| entry.path()).filter(wanted));
    }
    paths.sort();
    paths.dedup();
    let mut hasher = sha2::Sha256::new();
    for path in paths {
        match intake::read(&path, TRUSTED_BYTES_MAX) {
            Ok(bytes) => {
                hasher.update(path.as_os_str().as_encoded_bytes());
                hasher.update([0]);
                hasher.update(Digest::of(&bytes).as_bytes());
            }
            Err(intake::Error::NotReadable(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::usage(format!("{}: {error}", path.display()))),
        }
    }
    for data in settings.data.values().filter(|data| is_below(data, folder)) {
        add_data(&mut hasher, data, folder)?;
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// What a folder has as data for gates: every file of it, where it is. A link that leads out of the folder is refused: what it means
/// can change without a file of the folder changing.
fn add_data(hasher: &mut sha2::Sha256, data: &Path, folder: &Path) -> Result<(), Error> {
    let cannot = |path: &Path, reason: String| Error::usage(format!("the data {}: {reason}", path.display()));
    let Ok(real) = data.canonicalize() else { return Ok(()) }; // whoever needs it will say that it is not there
    if !real.starts_with(folder) {
        return Err(cannot(data, "it leads out of the directory by a link".to_owned()).help("name the place itself in [data]"));
    }
    for entry in walkdir::WalkDir::new(&real).follow_links(false).sort_by_file_name() {
        let entry = entry.map_err(|error| cannot(data, error.to_string()))?;
        if entry.file_type().is_file() {
            let mut content = sha2::Sha256::new();
            let mut file = std::fs::File::open(entry.path()).map_err(|error| cannot(entry.path(), error.to_string()))?;
            std::io::copy(&mut file, &mut content).map_err(|error| cannot(entry.path(), error.to_string()))?;
            hasher.update(entry.path().as_os_str().as_encoded_bytes());
            hasher.update([0]);
            hasher.update(content.finalize());
        }
    }
    Ok(())
}

fn list_path() -> Result<PathBuf, Error> {
    let folder =
        std::env::var_os("SANDHOG_TRUST_DIR").map(PathBuf::from).or_else(|| dirs::config_dir().map(|folder| folder.join("sandhog")));
    Ok(folder
        .ok_or_else(|| Error::usage("there is no configuration folder for this user").help("set XDG_CONFIG_HOME"))?
        .join("trusted.json"))
}

fn read_list() -> Result<BTreeMap<String, String>, Error> {
    let path = list_path()?;
    let not = |reason: String| Error::usage(format!("{}: {reason}", path.display())).help("remove it, and trust again");
    let bytes = match intake::read(&path, LIST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(intake::Error::NotReadable(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(not(error.to_string())),
    };
    let metadata = std::fs::metadata(&path).map_err(|error| not(error.to_string()))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(not("it is not a file that only its user can write".to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|error| not(error.to_string()))
}

fn write_list(list: &BTreeMap<String, String>) -> Result<(), Error> {
    let path = list_path()?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o600)).tempfile_in(folder)?;
        file.write_all(serde_json::to_string_pretty(list)?.as_bytes())?;
        file.persist(&path).map_err(|error| error.error)?;
        std::io::Result::Ok(())
    };
    write().map_err(|error| Error::engine(format!("{} cannot be written: {error}", path.display())))
}
