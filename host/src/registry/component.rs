//! What a component says of itself, read without compiling or running it: exports, imports, metadata, sizes.

use std::collections::BTreeSet;

use semver::Version;
use wasmparser::{ComponentExternalKind, ComponentName, ComponentNameSectionReader, Encoding, KnownCustom, Parser, Payload};

use super::pack::{MANIFEST_SECTION, PARAMS_SECTION};
use crate::model::text::sanitize;
use crate::runtime::{CONTRACT_VERSION, Kind, TABLE_ELEMENTS_MAX, WASI_INTERFACES};

/// Bounds on the parts of a component, so that compiling one that passes takes a bounded time: a function's size
/// matters most, since compiling is worse than linear in it.
const BODY_BYTES_MAX: usize = 4 << 20;
const FUNCTIONS_MAX: usize = 500_000;
const TYPES_MAX: usize = 200_000;
const IMPORTS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 4 << 10;
const DEPTH_MAX: usize = 64;
/// How large a manifest or schema inside a component may be, in bytes.
pub const EMBEDDED_BYTES_MAX: usize = 256 << 10;
/// All that its modules define, whether they are ever instantiated or not: of each, compiling may make an image of 16 MiB out of two bytes.
const MEMORIES_MAX: usize = 8;
/// The same of tables, whose elements are listed: one far behind stands for all before it.
const TABLES_MAX: usize = 24;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Component {
    /// Names of what it exports.
    pub exports: BTreeSet<String>,
    /// Names of what it imports.
    pub imports: BTreeSet<String>,
    /// Its name, version and description, where the metadata has them.
    pub name: Option<String>,
    /// The version in the metadata.
    pub version: Option<String>,
    /// The description in the metadata.
    pub description: Option<String>,
    /// Who made it, where the metadata says so.
    pub authors: Option<String>,
    /// Under which terms it may be used: an SPDX expression.
    pub license: Option<String>,
    /// Where its source is.
    pub source: Option<String>,
    /// The manifest that was embedded in it.
    pub manifest: Option<String>,
    /// The JSON schema of its params that was embedded in it.
    pub params: Option<String>,
}

/// Why a file is no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not WebAssembly.
    #[error("it is not WebAssembly: it does not start with the bytes `\\0asm`")]
    NotWasm,
    /// WebAssembly in its text form.
    #[error("it is WebAssembly in text form; `sandhog pack` makes a plugin of it")]
    Text,
    /// A core module.
    #[error("it is a core module, not a component; `sandhog pack` makes a plugin of it")]
    CoreModule,
    /// Damaged or cut off.
    #[error("it is damaged or cut off: {0}")]
    Malformed(String),
    /// A part is larger than compiling it in a bounded time allows.
    #[error("it has {what}, and the most that is compiled is {max}")]
    TooLarge {
        /// Which part, and how large it is.
        what: String,
        /// The bound.
        max: usize,
    },
    /// It exports nothing that sandhog calls.
    #[error("it exports neither `sandhog:plugin/worker`, nor `sandhog:plugin/gate`, nor `wasi:cli/run`; it exports {0}")]
    WrongWorld(String),
    /// It exports both a worker and a gate.
    #[error("it exports both a worker and a gate; make two components of it")]
    TwoKinds,
    /// It imports what nothing provides.
    #[error("it imports what this host does not provide:{}", list(.0))]
    MissingImports(Vec<String>),
    /// More than one of these.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and "))]
    Several(Vec<Error>),
    /// It was built for another version of the contract.
    #[error("it was built for version {found} of the contract, and this host serves {CONTRACT_VERSION}: {advice}")]
    OtherContract {
        /// The version it names.
        found: String,
        /// Which side to upgrade.
        advice: &'static str,
    },
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("\n  - {name}")).collect()
}

/// Reads a component.
///
/// # Errors
/// When it is none, is damaged, or is too large in a part. Whether it is a plugin is [`Component::kind`]'s to say.
pub fn read(bytes: &[u8]) -> Result<Component, Error> {
    if !bytes.starts_with(b"\0asm") {
        let text = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'(');
        return Err(if text { Error::Text } else { Error::NotWasm });
    }
    let malformed = |error: wasmparser::BinaryReaderError| Error::Malformed(error.to_string());
    let mut component = Component::default();
    let mut depth = 0_usize;
    // Of all sections together: there may be any number of them.
    let (mut imports, mut exports, mut types, mut functions, mut memories, mut tables) = (0, 0, 0, 0, 0, 0);
    let sum = |what: &str, all: &mut usize, more: u32, max: usize| {
        *all += more as usize;
        bound(what, *all, max)
    };
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(Error::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                bound("components in each other", depth, DEPTH_MAX)?;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                sum("imports", &mut imports, section.count(), IMPORTS_MAX)?;
                for import in section {
                    component.imports.insert(checked_name(import.map_err(malformed)?.name.name)?);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                sum("exports", &mut exports, section.count(), IMPORTS_MAX)?;
                for export in section {
                    let export = export.map_err(malformed)?;
                    if matches!(export.kind, ComponentExternalKind::Instance | ComponentExternalKind::Func) {
                        component.exports.insert(checked_name(export.name.name)?);
                    }
                }
            }
            Payload::TypeSection(section) => sum("types", &mut types, section.count(), TYPES_MAX)?,
            Payload::FunctionSection(section) => sum("functions", &mut functions, section.count(), FUNCTIONS_MAX)?,
            Payload::MemorySection(section) => sum("memories", &mut memories, section.count(), MEMORIES_MAX)?,
            Payload::TableSection(section) => {
                sum("tables", &mut tables, section.count(), TABLES_MAX)?;
                for table in section {
                    let initial = usize::try_from(table.map_err(malformed)?.ty.initial).unwrap_or(usize::MAX);
                    bound("elements in one table", initial, TABLE_ELEMENTS_MAX)?;
                }
            }
            Payload::CodeSectionEntry(body) => bound("bytes in one function", body.range().len(), BODY_BYTES_MAX)?,
            Payload::CustomSection(section) => {
                if [MANIFEST_SECTION, PARAMS_SECTION].contains(&section.name()) {
                    bound("bytes in its embedded manifest or schema", section.data().len(), EMBEDDED_BYTES_MAX)?;
                }
                component.custom(&section, depth);
            }
            _ => {}
        }
    }
    Ok(component)
}

fn bound(what: &str, found: usize, max: usize) -> Result<(), Error> {
    if found > max { Err(Error::TooLarge { what: format!("{found} {what}"), max }) } else { Ok(()) }
}

fn checked_name(name: &str) -> Result<String, Error> {
    bound("bytes in one name", name.len(), NAME_BYTES_MAX)?;
    Ok(sanitize(name, NAME_BYTES_MAX))
}

/// What the SDK embeds: lines of `key = '''value'''`.
fn identity(text: &str, key: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{key} = '''"))?;
    let value = rest.split_once("'''")?.0;
    (!value.is_empty()).then(|| sanitize(value, 1024))
}

impl Component {
    fn custom(&mut self, section: &wasmparser::CustomSectionReader<'_>, depth: usize) {
        let text = || std::str::from_utf8(section.data()).ok();
        match (section.name(), section.as_known()) {
            (_, KnownCustom::ComponentName(names)) if depth == 0 => self.name = component_name(names).or(self.name.take()),
            ("version", _) if depth == 0 => self.version = text().map(|text| sanitize(text, 256)),
            ("description", _) if depth == 0 => self.description = text().map(|text| sanitize(text, 1024)),
            ("authors", _) if depth == 0 => self.authors = text().map(|text| sanitize(text, 1024)),
            ("licenses", _) if depth == 0 => self.license = text().map(|text| sanitize(text, 256)),
            ("source", _) if depth == 0 => self.source = text().map(|text| sanitize(text, 1024)),
            (MANIFEST_SECTION, _) if depth == 0 => self.manifest = text().map(str::to_owned),
            (PARAMS_SECTION, _) if depth == 0 => self.params = text().map(str::to_owned),
            ("sandhog:identity", _) => {
                if let Some(text) = text() {
                    self.name = self.name.take().or_else(|| identity(text, "name"));
                    self.version = self.version.take().or_else(|| identity(text, "version"));
                    self.description = self.description.take().or_else(|| identity(text, "description"));
                }
            }
            _ => {}
        }
    }

    /// Whether it splits its subject into units.
    #[must_use]
    pub fn has_units(&self) -> bool {
        self.exports.iter().any(|name| name.split('@').next() == Some("sandhog:plugin/units"))
    }

    /// What it is, if it is a plugin that this host can link.
    ///
    /// # Errors
    /// All of its exports and imports that stand in the way.
    pub fn kind(&self) -> Result<Kind, Error> {
        let mut problems = Vec::new();
        for name in self.exports.iter().chain(&self.imports) {
            if let Some((package, version)) = name.rsplit_once('@')
                && package.starts_with("sandhog:plugin/")
                && let Err(problem) = check_contract(version)
                && !problems.contains(&problem)
            {
                problems.push(problem);
            }
        }
        let exports = |interface: &str| self.exports.iter().any(|name| name.split('@').next() == Some(interface));
        let kind = match (exports("sandhog:plugin/worker"), exports("sandhog:plugin/gate"), exports("wasi:cli/run")) {
            (true, true, _) => Err(Error::TwoKinds),
            (true, false, _) => Ok(Kind::Worker),
            (false, true, _) => Ok(Kind::Gate),
            (false, false, true) => Ok(Kind::Command),
            (false, false, false) => {
                let found: Vec<_> = self.exports.iter().map(|name| format!("`{name}`")).collect();
                Err(Error::WrongWorld(if found.is_empty() { "nothing".to_owned() } else { found.join(", ") }))
            }
        };
        let missing: Vec<String> = self.imports.iter().filter(|name| !is_provided(name)).cloned().collect();
        let missing = (!missing.is_empty()).then_some(Error::MissingImports(missing));
        match (kind, problems.is_empty(), missing) {
            (Ok(kind), true, None) => return Ok(kind),
            (kind, _, missing) => problems.extend(kind.err().into_iter().chain(missing)),
        }
        Err(match problems.len() {
            1 => problems.remove(0),
            _ => Error::Several(problems),
        })
    }
}

fn component_name(names: ComponentNameSectionReader<'_>) -> Option<String> {
    names.into_iter().flatten().find_map(|name| match name {
        ComponentName::Component { name, .. } if !name.is_empty() => Some(sanitize(name, 256)),
        _ => None,
    })
}

fn check_contract(version: &str) -> Result<(), Error> {
    let other = |advice| Error::OtherContract { found: sanitize(version, 64), advice };
    let found: Version = version.parse().map_err(|_| other("this is no version"))?;
    if (found.major, found.minor) == (CONTRACT_VERSION.major, CONTRACT_VERSION.minor) {
        Ok(())
    } else if found > CONTRACT_VERSION {
        Err(other("upgrade sandhog"))
    } else {
        Err(other("rebuild the plugin with a newer SDK"))
    }
}

fn is_provided(import: &str) -> bool {
    match import.rsplit_once('@') {
        Some((interface, _)) if interface.starts_with("sandhog:plugin/") => {
            ["sandhog:plugin/types", "sandhog:plugin/host"].contains(&interface)
        }
        Some((interface, version)) => WASI_INTERFACES.contains(&interface) && version.starts_with("0.2."),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At each bound on what is compiled, and just beyond it.
    #[test]
    fn what_would_take_long_to_compile_is_refused_before() {
        let component = |inner: &str| wat::parse_str(format!("(component {inner})")).expect("WebAssembly");
        let import = |name: &str| format!("(import \"{name}\" (func))");
        let nested = |depth: usize| "(component ".repeat(depth) + &")".repeat(depth);
        let functions = |count: usize| format!("(core module (type (func)) {})", "(func (type 0))".repeat(count));
        let types = |count: usize| format!("(core module {})", "(type (func))".repeat(count));
        let body = |bytes: usize| format!("(core module (func {}))", "nop ".repeat(bytes));
        let memories = |count: usize| "(core module (memory 1) (data (i32.const 0) \"x\") (data (i32.const 65535) \"x\"))".repeat(count);
        let table = |elements: usize| format!("(core module (table {elements} funcref) (func) (elem (i32.const {}) func 0))", elements - 1);
        let tables = |count: usize| table(2).repeat(count);
        let around = BODY_BYTES_MAX - 2; // how many locals there are, and the end
        for (what, passes, fails) in [
            ("name", import(&"n".repeat(NAME_BYTES_MAX)), import(&"n".repeat(NAME_BYTES_MAX + 1))),
            ("in each other", nested(DEPTH_MAX), nested(DEPTH_MAX + 1)),
            ("functions", functions(FUNCTIONS_MAX), functions(FUNCTIONS_MAX + 1)),
            ("types", types(TYPES_MAX), types(TYPES_MAX + 1)),
            ("bytes in one function", body(around), body(around + 1)),
            ("memories", memories(MEMORIES_MAX), memories(MEMORIES_MAX + 1)),
            ("tables", tables(TABLES_MAX), tables(TABLES_MAX + 1)),
            ("elements in one table", table(TABLE_ELEMENTS_MAX), table(TABLE_ELEMENTS_MAX + 1)),
            (
                "imports",
                (0..IMPORTS_MAX).map(|n| import(&format!("i{n}"))).collect(),
                (0..=IMPORTS_MAX).map(|n| import(&format!("i{n}"))).collect(),
            ),
        ] {
            assert!(read(&component(&passes)).is_ok(), "{what}: {:?}", read(&component(&passes)));
            let refused = read(&component(&fails)).expect_err(what);
            assert!(matches!(&refused, Error::TooLarge { what: told, .. } if told.contains(what)), "{what}: {refused}");
        }
    }
}
