//! Makes a plugin of what a compiler wrote: a core module becomes a component, and what the author says of it is embedded.
//!
//! Authors in languages that know nothing of components need only their compiler: a module that exports the contract's functions (under
//! their canonical names, or as `sandhog_worker_run`, `sandhog_gate_check` and `sandhog_units_units` where a language has no other
//! names) is given the contract's types, and what it imports of WASI preview 1 is adapted.

use std::borrow::Cow;
use std::collections::BTreeSet;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_encoder::{ComponentSectionId, CustomSection, Encode as _, ExportKind, ExportSection, Function, RawSection, Section as _};
use wasm_metadata::{AddMetadata, AddMetadataField, Authors, Description, Licenses, Source};
use wasmparser::{Encoding, ExternalKind, Parser, Payload, TypeRef};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::component;
use crate::config::Manifest;
use crate::model::text::sanitize;
use crate::runtime::CONTRACT_VERSION;

/// The contract, as plugins of any language see it: its two files after each other are one package.
pub const WIT: [(&str, &str); 2] =
    [("types.wit", include_str!("../../../wit/types.wit")), ("plugin.wit", include_str!("../../../wit/plugin.wit"))];

/// The section that holds the manifest of a packed plugin.
pub(super) const MANIFEST_SECTION: &str = "sandhog:plugin";
/// The section that holds the JSON schema of its params.
pub(super) const PARAMS_SECTION: &str = "sandhog:params";

/// What to embed.
#[derive(Debug, Default)]
pub struct About<'a> {
    /// What `plugin.toml` says, read.
    pub manifest: Manifest,
    /// Its text.
    pub text: Option<&'a str>,
    /// The JSON schema of the params.
    pub params: Option<&'a str>,
}

/// Why nothing was packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text form does not read.
    #[error("its text does not read: {0}")]
    Text(String),
    /// Neither a module nor a component.
    #[error(transparent)]
    Component(#[from] component::Error),
    /// It is a module, and no plugin.
    #[error(
        "it is a core module that exports neither a function of the contract ({}) nor `_start`; it exports {found}",
        NAMES.iter().map(|(name, ..)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    )]
    NoPlugin {
        /// What it exports.
        found: String,
    },
    /// It exports what does not go together.
    #[error("it exports both `{0}` and `{1}`: make two plugins of it")]
    TwoKinds(&'static str, &'static str),
    /// It is of Go, and keeps no room for the adapter.
    #[error(
        "it was compiled by Go, whose runtime takes the memory that WASI's adapter needs: import sandhog/worker, sandhog/gate or, for a program \
         of its own, sandhog/command (`sandhog new` brings them), which keep room for it"
    )]
    NoRoom,
    /// The module does not keep to the contract.
    #[error("the module does not fit the contract: {0}")]
    Misfit(String),
    /// What the manifest says cannot be embedded.
    #[error("`{field}` in the manifest: {reason}")]
    Field {
        /// Which field.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

/// The functions of the contract: the plain name, the interface and function of the canonical one, and the world.
const NAMES: &[(&str, &str, &str, &str)] = &[
    ("sandhog_worker_run", "worker", "run", "worker-plugin"),
    ("sandhog_gate_check", "gate", "check", "gate-plugin"),
    ("sandhog_units_units", "units", "units", "unit-gate-plugin"),
];

fn canonical(interface: &str, function: &str) -> String {
    format!("sandhog:plugin/{interface}@{CONTRACT_VERSION}#{function}")
}

/// Makes a plugin of a component, a core module, or the text of either.
///
/// # Errors
/// See [`Error`]; nothing is half-made.
pub fn pack(bytes: &[u8], about: &About<'_>, strip: bool) -> Result<Vec<u8>, Error> {
    let binary = if bytes.starts_with(b"\0asm") {
        Cow::Borrowed(bytes)
    } else {
        let is_text = bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| [b'(', b';'].contains(byte));
        if !is_text {
            return Err(component::Error::NotWasm.into());
        }
        wat::parse_bytes(bytes).map_err(|error| Error::Text(error.to_string()))?
    };
    // What is said anew is said once.
    let Manifest { version, description, authors, license, source, .. } = &about.manifest;
    let said = [
        ("version", version.is_some()),
        ("description", description.is_some()),
        ("authors", !authors.is_empty()),
        ("licenses", license.is_some()),
        ("source", source.is_some()),
        (MANIFEST_SECTION, true),
        (PARAMS_SECTION, true),
    ];
    let is_dropped = |depth: usize, name: &str| {
        (depth == 0 && said.contains(&(name, true))) || (strip && (name == "name" || name.starts_with(".debug")))
    };
    let binary = rewrite(&binary, is_dropped, |_| None)?;
    let component = if Parser::is_component(&binary) { binary } else { of_module(binary)? };
    component::read(&component)?.kind()?;
    let mut component = described(&component, &about.manifest)?;
    for (name, text) in [(MANIFEST_SECTION, about.text), (PARAMS_SECTION, about.params)] {
        if let Some(text) = text {
            let section = CustomSection { name: name.into(), data: text.as_bytes().into() };
            section.append_to(&mut component);
        }
    }
    Ok(component)
}

/// Wraps a core module.
fn of_module(module: Vec<u8>) -> Result<Vec<u8>, Error> {
    let module = with_canonical_names(&module)?;
    let (mut exports, mut imports_wasi, mut has_types, mut is_go) = (BTreeSet::new(), false, false, false);
    for payload in Parser::new(0).parse_all(&module) {
        match payload.map_err(damaged)? {
            Payload::ExportSection(section) => {
                for export in section {
                    exports.insert(export.map_err(damaged)?.name.to_owned());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imports_wasi |= import.map_err(damaged)?.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
                }
            }
            Payload::CustomSection(section) => {
                has_types |= section.name().starts_with("component-type");
                is_go |= section.name() == "go:buildid";
            }
            _ => {}
        }
    }
    let worlds: Vec<_> = NAMES.iter().filter(|(_, interface, function, _)| exports.contains(&canonical(interface, function))).collect();
    if let [("sandhog_worker_run", ..), .., (gate, ..)] = worlds.as_slice() {
        return Err(Error::TwoKinds(NAMES[0].0, gate));
    }
    let is_command = worlds.is_empty() && exports.contains("_start");
    let misfit = |error: anyhow::Error| Error::Misfit(format!("{error:#}"));
    let mut module = module;
    match worlds.last() {
        _ if has_types => {} // what made its bindings has said what it is
        Some((.., world)) => {
            let mut resolve = wit_parser::Resolve::default();
            let package = resolve.push_source("sandhog.wit", &WIT.map(|(_, text)| text).concat()).map_err(misfit)?;
            let world = resolve.select_world(&[package], Some(world)).map_err(misfit)?;
            embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(misfit)?;
        }
        None if is_command => {}
        None => {
            let found: Vec<_> = exports.iter().map(|name| format!("`{}`", sanitize(name, 80))).collect();
            return Err(Error::NoPlugin { found: if found.is_empty() { "nothing".to_owned() } else { found.join(", ") } });
        }
    }
    if imports_wasi && is_go {
        module = with_room(&module)?;
    }
    let mut encoder = ComponentEncoder::default().validate(true).module(&module).map_err(misfit)?;
    if imports_wasi || is_command {
        let adapter = if is_command { WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER } else { WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER };
        encoder = encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter).map_err(misfit)?;
    }
    encoder.encode().map_err(misfit)
}

fn damaged(error: wasmparser::BinaryReaderError) -> Error {
    component::Error::Malformed(error.to_string()).into()
}

/// The first bytes of the room that the packages for Go keep for the adapter, and how large it is.
const ROOM: &[u8] = b"sandhog:room-for-the-adapter";
const ROOM_BYTES: u32 = 3 << 16;

/// A module of Go's that offers the adapter the room that is kept for it.
///
/// The adapter takes its memory by `cabi_realloc`, or else by growing the module's own. Go's runtime takes whatever lies behind its
/// data for itself, and would write over the adapter's; and no function of Go's can be called before the runtime is up. So the
/// function is made here, and hands out a part of the module's own data.
fn with_room(module: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut types, mut functions, mut globals, mut room) = (0_u32, 0_u32, 0_u32, None);
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(damaged)? {
            Payload::TypeSection(section) => {
                for group in section {
                    types += group.map_err(damaged)?.types().len() as u32;
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    match import.map_err(damaged)?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => functions += 1,
                        TypeRef::Global(_) => globals += 1,
                        TypeRef::Table(_) | TypeRef::Memory(_) | TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::FunctionSection(section) => functions += section.count(),
            Payload::GlobalSection(section) => globals += section.count(),
            Payload::DataSection(section) => {
                for data in section {
                    let data = data.map_err(damaged)?;
                    let wasmparser::DataKind::Active { offset_expr, .. } = data.kind else { continue };
                    let Ok(wasmparser::Operator::I32Const { value }) = offset_expr.get_operators_reader().read() else { continue };
                    let at = data.data.windows(ROOM.len()).position(|bytes| bytes == ROOM);
                    room = room.or(at.and_then(|at| u32::try_from(at).ok()).map(|at| value.cast_unsigned() + at));
                }
            }
            _ => {}
        }
    }
    let room = room.ok_or(Error::NoRoom)?;
    let (first, behind) = (room.next_multiple_of(16), room + ROOM_BYTES);
    let mut body = Function::new([]);
    // The parameters are the old place and size, the alignment and the new size; it is only ever asked for something new.
    body.instructions().global_get(globals);
    body.instructions().global_get(globals).local_get(3).i32_add().i32_const(15).i32_add().i32_const(-16).i32_and().global_set(globals);
    body.instructions().global_get(globals).i32_const(behind.cast_signed()).i32_gt_u();
    body.instructions().if_(wasm_encoder::BlockType::Empty).unreachable().end().end();
    let mut code = Vec::new();
    body.encode(&mut code);
    let mut global = vec![0x7f, 0x01, 0x41]; // a mutable i32, from i32.const on
    first.cast_signed().encode(&mut global);
    global.push(0x0b);
    let mut export = Vec::new();
    "cabi_realloc".encode(&mut export);
    export.push(0x00);
    functions.encode(&mut export);
    let mut function = Vec::new();
    types.encode(&mut function);
    let mut output = wasm_encoder::Module::HEADER.to_vec();
    for payload in Parser::new(0).parse_all(module) {
        let Some((id, range)) = payload.map_err(damaged)?.as_section() else { continue };
        let added: &[u8] = match id {
            1 => &[0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f],
            3 => &function,
            6 => &global,
            7 => &export,
            10 => &code,
            _ => &[],
        };
        let data = if added.is_empty() { module[range].to_vec() } else { with_one_more(&module[range], added)? };
        RawSection { id, data: &data }.append_to(&mut output);
    }
    Ok(output)
}

/// A section that is a list, with one more entry at its end.
fn with_one_more(section: &[u8], entry: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = wasmparser::BinaryReader::new(section, 0);
    let count = reader.read_var_u32().map_err(damaged)?;
    let mut data = Vec::with_capacity(section.len() + entry.len() + 5);
    (count + 1).encode(&mut data);
    data.extend_from_slice(&section[reader.original_position()..]);
    data.extend_from_slice(entry);
    Ok(data)
}

/// A module whose exports of the contract have their canonical names.
fn with_canonical_names(module: &[u8]) -> Result<Vec<u8>, Error> {
    rewrite(
        module,
        |_, _| false,
        |name| {
            let known = NAMES.iter().find(|(plain, ..)| *plain == name);
            known.map(|(_, interface, function, _)| canonical(interface, function))
        },
    )
}

/// A copy of a module or component, without the custom sections that are dropped (by how deep they are nested, and their name), and with
/// the outermost module's functions exported under other names.
fn rewrite(bytes: &[u8], is_dropped: impl Fn(usize, &str) -> bool, renamed: impl Fn(&str) -> Option<String>) -> Result<Vec<u8>, Error> {
    let (mut output, mut outer): (Vec<u8>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(damaged)?;
        match &payload {
            Payload::Version { encoding: Encoding::Component, .. } => output.extend(wasm_encoder::Component::HEADER),
            Payload::Version { encoding: Encoding::Module, .. } => output.extend(wasm_encoder::Module::HEADER),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                outer.push(std::mem::take(&mut output));
                continue;
            }
            Payload::End(_) => {
                let Some(mut parent) = outer.pop() else { break };
                let is_component = output.starts_with(&wasm_encoder::Component::HEADER);
                parent.push(if is_component { ComponentSectionId::Component } else { ComponentSectionId::CoreModule } as u8);
                output.encode(&mut parent);
                output = parent;
            }
            Payload::CustomSection(section) if is_dropped(outer.len(), section.name()) => continue,
            Payload::ExportSection(section) if outer.is_empty() => {
                let mut exports = ExportSection::new();
                for export in section.clone() {
                    let export = export.map_err(damaged)?;
                    let name = renamed(export.name).filter(|_| export.kind == ExternalKind::Func);
                    let kind = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
                        ExternalKind::Table => ExportKind::Table,
                        ExternalKind::Memory => ExportKind::Memory,
                        ExternalKind::Global => ExportKind::Global,
                        ExternalKind::Tag => ExportKind::Tag,
                    };
                    exports.export(name.as_deref().unwrap_or(export.name), kind, export.index);
                }
                exports.append_to(&mut output);
                continue;
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            RawSection { id, data: &bytes[range] }.append_to(&mut output);
        }
    }
    Ok(output)
}

/// A component with the standard sections that say what it is.
fn described(component: &[u8], about: &Manifest) -> Result<Vec<u8>, Error> {
    fn set<T: std::fmt::Debug + Clone>(value: Option<T>) -> AddMetadataField<T> {
        value.map_or(AddMetadataField::Keep, AddMetadataField::Set)
    }
    let refused = |field| move |error: anyhow::Error| Error::Field { field, reason: format!("{error:#}") };
    let mut metadata = AddMetadata::default();
    metadata.name = set(about.name.clone());
    metadata.version = set(about.version.clone().map(wasm_metadata::Version::new));
    metadata.description = set(about.description.clone().map(Description::new));
    metadata.authors = set((!about.authors.is_empty()).then(|| Authors::new(about.authors.join(", "))));
    metadata.licenses = set(about.license.as_deref().map(Licenses::new).transpose().map_err(refused("license"))?);
    metadata.source = set(about.source.as_deref().map(Source::new).transpose().map_err(refused("source"))?);
    metadata.processed_by = vec![("sandhog".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    metadata.to_wasm(component).map_err(|error| Error::Misfit(format!("{error:#}")))
}
