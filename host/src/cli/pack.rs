//! `sandhog pack`: a plugin of what a compiler wrote.

use std::path::{Path, PathBuf};

use super::exit::{Error, Exit};
use super::output::replace;
use crate::config::{Manifest, manifest};
use crate::model::limits::show_bytes;
use crate::model::text::sanitize;
use crate::registry::component::EMBEDDED_BYTES_MAX;
use crate::registry::intake::{self, COMPONENT_BYTES_MAX};
use crate::registry::pack::{About, pack as make};
use crate::registry::params;

/// The largest manifest or schema that is read, in bytes.
const TEXT_BYTES_MAX: u64 = EMBEDDED_BYTES_MAX as u64;

/// Arguments of `pack`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A core module exports sandhog:plugin/worker@0.1.0#run, or sandhog_worker_run where a language has no such names; for gates gate#check or\n\
                  sandhog_gate_check; or `_start`. What it imports of WASI preview 1 is adapted.\n\n\
                  Example: sandhog pack target/shout.wasm --output plugins/shout.wasm"
)]
pub struct PackArguments {
    /// A component, a core module, or the text of either (`.wat`)
    input: PathBuf,
    /// The file to write [default: NAME.wasm beside the manifest, else beside the input]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the author says of it: name, version, description, authors, license, source, requests, limits, params
    /// [default: plugin.toml beside the input, or in the directory, where there is one]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Take names of functions and what debuggers need out: smaller, and traces have no names
    #[arg(long)]
    strip: bool,
    /// Have wasm-opt (of Binaryen, which must be installed) optimise a core module first: for speed (1 to 4) or for size (s, z)
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "s", value_parser = ["1", "2", "3", "4", "s", "z"])]
    optimize: Option<String>,
}

/// What every compiler that is known here may use, and this host runs.
const FEATURES: [&str; 7] = [
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-mutable-globals",
    "--enable-multivalue",
    "--enable-reference-types",
    "--enable-simd",
];

/// A core module, as wasm-opt makes it of one.
fn optimized(module: &[u8], level: &str) -> Result<Vec<u8>, Error> {
    if wasmparser::Parser::is_component(module) {
        let help = "wasm-opt takes core modules: give --optimize what your compiler wrote, before it is a component";
        return Err(Error::usage("it is a component already").help(help));
    }
    let place = tempfile::tempdir().map_err(|error| Error::engine(format!("no temporary folder: {error}")))?;
    let (before, after) = (place.path().join("in.wasm"), place.path().join("out.wasm"));
    let failed = |error: std::io::Error| Error::engine(format!("{}: {error}", place.path().display()));
    std::fs::write(&before, module).map_err(failed)?;
    let mut command = std::process::Command::new("wasm-opt");
    command.arg(format!("-O{level}")).args(FEATURES).arg("--output").arg(&after).arg(&before).stdin(std::process::Stdio::null());
    let output = command.output().map_err(|error| {
        Error::usage(format!("wasm-opt cannot be run: {error}")).help("it is in the package `binaryen` of most systems, and of npm")
    })?;
    if !output.status.success() || !after.is_file() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<String> = said.lines().take(5).map(|line| sanitize(line, 400)).collect();
        let said = if said.is_empty() { "it wrote nothing".to_owned() } else { said.join("\n  ") };
        return Err(Error::usage(format!("wasm-opt failed: {said}")));
    }
    std::fs::read(&after).map_err(failed)
}

/// Packs.
pub fn pack(arguments: &PackArguments) -> Result<Exit, Error> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| Error::usage(format!("{}: {error}", path.display()));
    let text = |path: &Path| {
        let target = std::fs::canonicalize(path).map_err(|error| failed(path, &error))?;
        let bytes = intake::read(&target, TEXT_BYTES_MAX).map_err(|error| failed(path, &error))?;
        String::from_utf8(bytes).map_err(|_| failed(path, &"it is not UTF-8"))
    };
    let input = std::fs::canonicalize(&arguments.input).map_err(|error| failed(&arguments.input, &error))?;
    let bytes = intake::read(&input, COMPONENT_BYTES_MAX).map_err(|error| failed(&arguments.input, &error))?;
    let beside = arguments.input.with_file_name("plugin.toml");
    let found = [beside, PathBuf::from("plugin.toml")].into_iter().find(|path| path.is_file());
    let place = arguments.manifest.clone().or(found);
    let manifest_text = place.as_deref().map(text).transpose()?;
    let manifest = match (&place, &manifest_text) {
        (Some(place), Some(text)) => manifest::read(&place.display().to_string(), text).map_err(Error::from)?,
        (Some(_), None) | (None, _) => Manifest::default(),
    };
    let schema = match (&place, &manifest.params) {
        (Some(place), Some(file)) => {
            let file = place.with_file_name(file);
            let schema = text(&file)?;
            let program = std::env::current_exe().ok();
            params::check_schema(program.as_deref(), &schema).map_err(|error| failed(&file, &error))?;
            Some(schema)
        }
        (_, None) | (None, _) => None,
    };
    let about = About { text: manifest_text.as_deref(), params: schema.as_deref(), manifest };
    let bytes = match &arguments.optimize {
        Some(level) => {
            let module = wat::parse_bytes(&bytes).map_err(|error| failed(&arguments.input, &error))?;
            optimized(&module, level)?
        }
        None => bytes,
    };
    let packed = make(&bytes, &about, arguments.strip).map_err(|error| failed(&arguments.input, &error))?;
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => {
            let stem = arguments.input.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let name = about.manifest.name.clone().unwrap_or(stem);
            place.as_ref().unwrap_or(&arguments.input).with_file_name(format!("{name}.wasm"))
        }
    };
    let schema_file = place.as_ref().zip(about.manifest.params.as_ref()).map(|(place, file)| place.with_file_name(file));
    let sources = [Some(&arguments.input), place.as_ref(), schema_file.as_ref()];
    if let Ok(real) = std::fs::canonicalize(&output)
        && let Some(source) = sources.into_iter().flatten().find(|source| std::fs::canonicalize(source).is_ok_and(|source| source == real))
    {
        return Err(Error::usage(format!("{}: {} would be written over", output.display(), source.display()))
            .help("name another file with --output"));
    }
    if let Some(folder) = output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    }
    replace(&output, &packed)?;
    outln!("{}: {}", output.display(), show_bytes(packed.len() as u64));
    Ok(Exit::Passed)
}
