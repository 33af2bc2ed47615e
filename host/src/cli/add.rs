//! `sandhog plugins add`: takes plugins from where people keep them into a plugin folder, checked before anything is written, and notes where
//! each came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::context::Context;
use super::exit::{Error, Exit};
use super::output::replace;
use crate::client::Client;
use crate::config::Manifest;
use crate::model::Digest;
use crate::model::text::{counted, sanitize};
use crate::registry::intake::{self, COMPONENT_BYTES_MAX};
use crate::registry::pack::{About, pack};
use crate::registry::{Entry, MANIFEST_BYTES_MAX, examine};

/// The file in a plugin folder that says where its plugins came from.
pub const ORIGINS: &str = "origins.toml";
/// The largest index or manifest of an image that is read, in bytes.
const JSON_BYTES_MAX: u64 = 4 << 20;
/// The endings of the signatures of a component, and of its manifest.
const SIGNATURES: [&str; 2] = ["wasm.minisig", "toml.minisig"];
/// Media types of a layer that is a component.
const LAYERS: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];

/// Arguments of `plugins add`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A source is a component, a folder of components, or a folder with an OCI image layout. Core modules go through `sandhog pack` first.\n\n\
                  Examples:\n  sandhog plugins add shout/shout.wasm\n  sandhog plugins add --cargo ripgrep@15.2.0 --to plugins"
)]
pub struct AddArguments {
    /// A component, a folder of components, or an OCI image layout on disk
    #[arg(required_unless_present = "cargo")]
    source: Vec<PathBuf>,
    /// A program of a published crate, built for WebAssembly by cargo: a command plugin; may be repeated
    #[arg(long, value_name = "NAME[@VERSION]")]
    cargo: Vec<String>,
    /// Features to build the crates with, as for cargo
    #[arg(long, value_name = "FEATURES", requires = "cargo")]
    features: Option<String>,
    /// Build the crates without their default features
    #[arg(long, requires = "cargo")]
    no_default_features: bool,
    /// The target to build the crates for; what does not build for WASI 0.2 may for preview 1
    #[arg(long, requires = "cargo", default_value = "wasm32-wasip2", value_parser = ["wasm32-wasip2", "wasm32-wasip1"])]
    target: String,
    /// The plugin folder [default: the first that the configuration or --plugins names]
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Put it in the place of another plugin of its name
    #[arg(long)]
    replace: bool,
}

/// Where a plugin came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Such as `file:shout.wasm`, `oci:FOLDER` or `cargo:ripgrep@15.2.0`.
    pub origin: String,
    /// What it was then.
    pub digest: String,
    /// The day, in UTC.
    pub added: String,
}

/// What is to be added: a component, what is written beside it, and where it came from.
struct Found {
    bytes: Vec<u8>,
    manifest: Option<Vec<u8>>,
    /// Signatures of both, by the ending of the file that each is in.
    signatures: Vec<(&'static str, Vec<u8>)>,
    /// What it is called where it says nothing itself.
    stem: String,
    origin: String,
}

/// Adds: all of it, or nothing.
pub fn add(context: &Context, arguments: &AddArguments) -> Result<Exit, Error> {
    let folder = folder(context, arguments)?;
    let was_there = folder.exists();
    add_to(&folder, context, arguments).inspect_err(|_| {
        if !was_there {
            let _ = std::fs::remove_dir(&folder); // only where nothing is in it
        }
    })
}

/// Sends components to a server that takes some. What it grants them is its operator's business.
pub async fn add_there(client: &Client, arguments: &AddArguments) -> Result<Exit, Error> {
    if !arguments.cargo.is_empty() || arguments.to.is_some() || arguments.replace {
        return Err(Error::usage("over --server a component is sent as it is: --cargo, --to and --replace work here"));
    }
    for source in &arguments.source {
        let entry = examine(source).map_err(|bad| Error::usage(format!("{}: {bad}", source.display())))?;
        let component =
            intake::read(source, COMPONENT_BYTES_MAX).map_err(|error| Error::usage(format!("{}: {error}", source.display())))?;
        let told = client.upload(&entry.name, component).await?;
        outln!("sent: {} ({}), which {}", entry.name, entry.digest, sanitize(told["state"].as_str().unwrap_or("is there"), 40));
    }
    Ok(Exit::Passed)
}

/// The folder that they are added to.
fn folder(context: &Context, arguments: &AddArguments) -> Result<PathBuf, Error> {
    let settings = context.registry.settings();
    match (&arguments.to, settings.plugins.first()) {
        (Some(folder), _) => Ok(folder.clone()),
        (None, Some(first)) if Some(first) != settings.standard.as_ref() => Ok(first.clone()),
        (None, _) => {
            Err(Error::usage("no plugin folder is named")
                .help("name one with --to FOLDER, or write plugins = [\"FOLDER\"] into sandhog.toml"))
        }
    }
}

fn add_to(folder: &Path, context: &Context, arguments: &AddArguments) -> Result<Exit, Error> {
    let mut all = Vec::new();
    for source in &arguments.source {
        all.extend(found_in(source)?);
    }
    for package in &arguments.cargo {
        all.extend(built(package, arguments)?);
    }
    // Everything is checked where nobody looks for plugins, and moved then.
    std::fs::create_dir_all(folder).map_err(|error| cannot(folder, &error))?;
    let staging = tempfile::Builder::new().prefix(".sandhog-").tempdir_in(folder).map_err(|error| cannot(folder, &error))?;
    let mut ready: BTreeMap<String, (Entry, Found)> = BTreeMap::new();
    for (at, found) in all.into_iter().enumerate() {
        let place = staging.path().join(at.to_string());
        std::fs::create_dir(&place).map_err(|error| cannot(&place, &error))?;
        let component = place.join(format!("{}.wasm", found.stem));
        std::fs::write(&component, &found.bytes).map_err(|error| cannot(folder, &error))?;
        if let Some(manifest) = &found.manifest {
            std::fs::write(component.with_extension("toml"), manifest).map_err(|error| cannot(folder, &error))?;
        }
        for (ending, signature) in &found.signatures {
            std::fs::write(component.with_extension(ending), signature).map_err(|error| cannot(folder, &error))?;
        }
        let entry = examine(&component).and_then(|entry| context.registry.check_signature(&entry).map(|()| entry));
        // Where it is looked at is nobody's business.
        let bad = |bad: &dyn std::fmt::Display| {
            let bad = bad.to_string().replace(&format!("{}/", place.display()), "");
            Error::usage(format!("{}: {bad}; nothing was added", sanitize(&found.origin, 400)))
        };
        let entry = entry.map_err(|error| bad(&error))?;
        context.registry.code(&entry).map_err(|error| bad(&error))?;
        let there = folder.join(format!("{}.wasm", entry.name));
        let is_other = there.exists() && !intake::read(&there, COMPONENT_BYTES_MAX).is_ok_and(|bytes| Digest::of(&bytes) == entry.digest);
        let beside = there.with_extension("toml");
        let signed = SIGNATURES.map(|ending| there.with_extension(ending));
        if [&there, &beside].into_iter().chain(&signed).any(|path| path.is_symlink()) {
            return Err(Error::usage(format!("{} or what is beside it is a link; nothing was added", there.display()))
                .help("remove the link first"));
        }
        if entry.name == ORIGINS.trim_end_matches(".toml") {
            return Err(Error::usage(format!("{}: no plugin may be named `{}`; nothing was added", found.origin, entry.name)));
        }
        let is_other_manifest = found.manifest.as_ref().is_some_and(|new| match intake::read(&beside, MANIFEST_BYTES_MAX) {
            Ok(old) => old != *new,
            Err(intake::Error::NotReadable(error)) => error.kind() != std::io::ErrorKind::NotFound,
            Err(_) => true,
        });
        if (is_other || is_other_manifest) && !arguments.replace {
            let message = format!("{} is there already, and is another plugin or has another manifest; nothing was added", there.display());
            return Err(Error::usage(message).help("--replace puts this one in its place"));
        }
        if let Some((_, other)) = ready.get(&entry.name) {
            let message = format!("{} and {} are both named `{}`; nothing was added", other.origin, found.origin, entry.name);
            return Err(Error::usage(message));
        }
        ready.insert(entry.name.clone(), (entry, found));
    }
    if ready.is_empty() {
        return Err(Error::usage("there is no component in it; nothing was added"));
    }
    let mut origins = read_origins(folder)?;
    for (name, (entry, found)) in &ready {
        let place = folder.join(format!("{name}.wasm"));
        // What is written about it first: a plugin is never seen with another's manifest.
        match &found.manifest {
            Some(manifest) => replace(&place.with_extension("toml"), manifest)?,
            // Somebody wrote it here, for the plugin of this name.
            None if place.with_extension("toml").exists() => errln!("{} stays, and counts", place.with_extension("toml").display()),
            None => {}
        }
        for ending in SIGNATURES {
            let signature = place.with_extension(ending);
            match found.signatures.iter().find(|(of, _)| *of == ending) {
                Some((_, bytes)) => replace(&signature, bytes)?,
                // That of a component which this one replaces says nothing any more.
                None if ending == SIGNATURES[0] && signature.exists() => {
                    std::fs::remove_file(&signature).map_err(|error| cannot(&signature, &error))?;
                }
                None => {}
            }
        }
        replace(&place, &found.bytes)?;
        let origin = Origin { origin: found.origin.clone(), digest: entry.digest.to_string(), added: super::context::today().to_string() };
        origins.insert(name.clone(), origin);
        outln!("added {name} ({}) to {}, from {}", entry.kind.as_str(), folder.display(), sanitize(&found.origin, 400));
    }
    let text = toml::to_string(&origins).map_err(Error::engine)?;
    replace(
        &folder.join(ORIGINS),
        format!("# Where the plugins of this folder came from: written by `sandhog plugins add`.\n\n{text}").as_bytes(),
    )?;
    let asking =
        ready.values().filter(|(entry, _)| entry.manifest.requests.as_deref().is_some_and(|requests| !requests.is_empty())).count();
    if asking > 0 {
        errln!(
            "{} for something: `sandhog plugins diff` says what, `sandhog plugins grant NAME` grants it",
            counted(asking, "plugin asks")
        );
    }
    Ok(Exit::Passed)
}

/// Where the plugins of a folder came from, by name, as far as that is known.
pub fn read_origins(folder: &Path) -> Result<BTreeMap<String, Origin>, Error> {
    let file = folder.join(ORIGINS);
    if !file.exists() {
        return Ok(BTreeMap::new());
    }
    toml::from_str(&super::context::read_text(&file)?).map_err(|error| Error::usage(format!("{}: {error}", file.display())))
}

fn cannot(path: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!("{}: {error}; nothing was added", path.display()))
}

/// The components of a file or a folder.
fn found_in(source: &Path) -> Result<Vec<Found>, Error> {
    let failed = |reason: &dyn std::fmt::Display| Error::usage(format!("{}: {reason}; nothing was added", source.display()));
    if !source.exists() {
        return Err(failed(&"there is no such file or folder"));
    }
    if !source.is_dir() {
        return Ok(vec![file(source)?]);
    }
    if source.join("oci-layout").is_file() {
        return image(source);
    }
    let entries = std::fs::read_dir(source).map_err(|error| failed(&error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "wasm"));
    paths.sort();
    paths.iter().map(|path| file(path)).collect()
}

fn file(path: &Path) -> Result<Found, Error> {
    let bytes =
        intake::read(path, COMPONENT_BYTES_MAX).map_err(|error| Error::usage(format!("{}: {error}; nothing was added", path.display())))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let manifest = beside(path, "toml")?;
    let mut signatures = Vec::new();
    for ending in SIGNATURES {
        signatures.extend(beside(path, ending)?.map(|signature| (ending, signature)));
    }
    Ok(Found { bytes, manifest, signatures, stem, origin: format!("file:{}", path.display()) })
}

/// What lies beside a component under another ending, where something does: a file, as the component is.
fn beside(component: &Path, ending: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = component.with_extension(ending);
    match intake::read(&path, MANIFEST_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(intake::Error::NotReadable(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::usage(format!("{}: {error}; nothing was added", path.display()))),
    }
}

/// The components of an OCI image layout, each the one layer of a manifest, held to its digest.
fn image(folder: &Path) -> Result<Vec<Found>, Error> {
    let failed = |reason: &dyn std::fmt::Display| Error::usage(format!("{}: {reason}; nothing was added", folder.display()));
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|error| failed(&error));
    let blob = |descriptor: &Value, bytes_max: u64| {
        let digest = descriptor.get("digest").and_then(Value::as_str).unwrap_or_default();
        let hash = digest.strip_prefix("sha256:").filter(|hash| hash.len() == 64 && hash.chars().all(|sign| sign.is_ascii_hexdigit()));
        let hash = hash.ok_or_else(|| failed(&format!("`{}` is no digest of the form sha256:…", sanitize(digest, 100))))?;
        let bytes =
            intake::read(&folder.join("blobs/sha256").join(hash), bytes_max).map_err(|error| failed(&format!("{digest}: {error}")))?;
        if Digest::of(&bytes).to_string() != digest {
            return Err(failed(&format!("{digest} is another file than its name says")));
        }
        let size = descriptor.get("size").and_then(Value::as_u64);
        if size != Some(bytes.len() as u64) {
            let said = size.map_or_else(|| "no size".to_owned(), |size| format!("{size} bytes"));
            return Err(failed(&format!("{digest} has {} bytes, and its descriptor says {said}", bytes.len())));
        }
        Ok(bytes)
    };
    let list = |value: &Value, of: &str| value.get(of).and_then(Value::as_array).cloned().unwrap_or_default();
    let index = json(&intake::read(&folder.join("index.json"), JSON_BYTES_MAX).map_err(|error| failed(&format!("index.json: {error}")))?)?;
    let mut all = Vec::new();
    for descriptor in list(&index, "manifests") {
        let manifest = json(&blob(&descriptor, JSON_BYTES_MAX)?)?;
        for layer in list(&manifest, "layers") {
            if !layer.get("mediaType").and_then(Value::as_str).is_some_and(|kind| LAYERS.contains(&kind)) {
                continue;
            }
            let title = |of: &Value| of.pointer("/annotations/org.opencontainers.image.title").and_then(Value::as_str).map(str::to_owned);
            let stem = title(&layer).or_else(|| title(&manifest)).unwrap_or_else(|| "plugin".to_owned());
            let stem = Path::new(&stem).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            all.push(Found {
                bytes: blob(&layer, COMPONENT_BYTES_MAX)?,
                manifest: None,
                signatures: Vec::new(),
                stem,
                origin: format!("oci:{}", folder.display()),
            });
        }
    }
    Ok(all)
}

/// The programs of a published crate, built for the target of components.
fn built(package: &str, arguments: &AddArguments) -> Result<Vec<Found>, Error> {
    let (name, version) = package.split_once('@').map_or((package, None), |(name, version)| (name, Some(version)));
    let fits = |text: &str| {
        !text.is_empty() && text.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.+".contains(sign)) && !text.starts_with('-')
    };
    if !fits(name) || version.is_some_and(|version| !fits(version)) {
        return Err(Error::usage(format!("--cargo: expected NAME or NAME@VERSION, found `{}`", sanitize(package, 100))));
    }
    let place = tempfile::tempdir().map_err(|error| Error::engine(format!("no temporary folder: {error}")))?;
    let mut cargo = Command::new("cargo");
    cargo.args(["install", name, "--locked", "--target", &arguments.target, "--root"]).arg(place.path()).stdin(Stdio::null());
    // What it builds is nobody's but this crate's.
    cargo.arg("--target-dir").arg(place.path().join("target")).env_remove("CARGO_TARGET_DIR");
    if let Some(version) = version {
        cargo.args(["--version", version]);
    }
    if let Some(features) = &arguments.features {
        cargo.args(["--features", features]);
    }
    if arguments.no_default_features {
        cargo.arg("--no-default-features");
    }
    errln!("cargo builds {package} for {}: its build scripts run on this machine", arguments.target);
    let status =
        cargo.status().map_err(|error| Error::usage(format!("cargo cannot be run: {error}")).help("https://rustup.rs installs it"))?;
    if !status.success() {
        let help = format!(
            "cargo says above why; where the crate is there, and the target is not, `rustup target add {}` adds it",
            arguments.target
        );
        return Err(Error::usage(format!("cargo could not build {package}; nothing was added")).help(help));
    }
    let listed = std::fs::read_to_string(place.path().join(".crates.toml")).unwrap_or_default();
    let built = version.map(str::to_owned).or_else(|| {
        let rest = listed.split_once(&format!("\"{name} "))?.1;
        Some(rest.split_once(' ')?.0.to_owned())
    });
    let mut all = Vec::new();
    for mut found in found_in(&place.path().join("bin"))? {
        let text =
            format!("name = {:?}\n{}", found.stem, built.as_ref().map_or_else(String::new, |version| format!("version = {version:?}\n")));
        let manifest = Manifest { name: Some(found.stem.clone()), version: built.clone(), ..Manifest::default() };
        let about = About { manifest, text: Some(&text), params: None };
        // Programs of crates come with what debuggers need, which is most of them.
        found.bytes = pack(&found.bytes, &about, true).map_err(|error| Error::usage(format!("{package}: {error}; nothing was added")))?;
        found.origin = format!("cargo:{name}{}", built.as_ref().map_or_else(String::new, |version| format!("@{version}")));
        all.push(found);
    }
    Ok(all)
}
