//! TypeScript and JSX become plain JavaScript by oxc, with a map back to the lines that a person wrote.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oxc_allocator::Allocator;
use oxc_ast::ast::{ImportDeclarationSpecifier, ImportOrExportKind, Program, Statement};
use oxc_codegen::{Codegen, CodegenOptions};
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_syntax::module_record::{ExportExportName, ExportImportName, ImportImportName};
use oxc_transformer::{HelperLoaderMode, TransformOptions, Transformer};

use crate::modules::{ROOT, shown};
use crate::resolve::find;

/// The maps of all files that were changed before they ran.
#[derive(Default)]
pub struct Maps {
    /// Sorted places in the plain text, with those of the original.
    plain: BTreeMap<String, Vec<((u32, u32), (u32, u32))>>,
    /// Lines of the plain text, for each line of what ran.
    moved: BTreeMap<String, Vec<u32>>,
    /// How many characters stand before the first line of what ran.
    before: BTreeMap<String, u32>,
}

impl Maps {
    /// The first place of a stack that is in a file of the subject, in that file's own lines, and not in one of its packages.
    pub fn place(&self, stack: &str) -> Option<(String, u32, u32)> {
        let in_file = |line: &str| {
            let start = line.find(ROOT)?;
            let rest = &line[start..];
            let end = rest.find([')', ' ']).unwrap_or(rest.len());
            let mut parts = rest[..end].rsplitn(3, ':');
            let (last, middle, first) = (parts.next()?, parts.next(), parts.next());
            let (path, line, column) = match (first, middle.and_then(|line| line.parse().ok()), last.parse().ok()) {
                (Some(path), Some(line), Some(column)) => (path, line, column),
                _ => (middle?, last.parse().ok()?, 1),
            };
            let path = path.split('?').next().unwrap_or_default(); // what follows tells generations of a module apart
            let (line, column) = self.back(path, line, column);
            (!path.contains("/node_modules/")).then(|| (shown(path).to_owned(), line, column))
        };
        // Frames first: a message may name files, too.
        stack.lines().filter(|line| line.starts_with("    at ")).find_map(in_file).or_else(|| stack.lines().find_map(in_file))
    }

    fn back(&self, path: &str, line: u32, column: u32) -> (u32, u32) {
        let before = self.before.get(path).copied().filter(|_| line == 1).unwrap_or(0);
        let column = column.saturating_sub(before).max(1);
        let line = self.moved.get(path).and_then(|lines| lines.get(line as usize - 1)).copied().unwrap_or(line);
        let Some(map) = self.plain.get(path) else { return (line, column) };
        let at = map.partition_point(|(plain, _)| *plain <= (line, column));
        map.get(at.saturating_sub(1)).map_or((line, column), |(_, original)| *original)
    }

    /// Notes that so many characters were put before a file.
    pub fn put_before(&mut self, path: &str, characters: usize) {
        self.before.insert(path.to_owned(), u32::try_from(characters).unwrap_or(0));
    }

    /// Notes that statements of a file were moved: a line is found again by its text, and else by the one before it.
    pub fn moved(&mut self, path: &str, before: &str, after: &str) {
        let mut places: HashMap<&str, VecDeque<u32>> = HashMap::new();
        for (at, line) in before.lines().enumerate() {
            places.entry(line).or_default().push_back(at as u32 + 1);
        }
        let mut last = 0;
        let lines = after.lines().map(|line| {
            let found = places.get_mut(line).filter(|_| !line.trim().is_empty()).and_then(VecDeque::pop_front);
            last = found.unwrap_or(last + 1);
            last
        });
        self.moved.insert(path.to_owned(), lines.collect());
    }
}

/// Whether a file is a module by what is in it: it imports, exports, or asks for `import.meta`.
pub fn has_module_syntax(text: &str) -> bool {
    let allocator = Allocator::default();
    let options = ParseOptions { allow_return_outside_function: true, ..ParseOptions::default() };
    Parser::new(&allocator, text, SourceType::unambiguous()).with_options(options).parse().module_record.has_module_syntax
}

/// The names that a module uses, and neither declares nor imports.
pub fn free_names(text: &str) -> HashSet<String> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, SourceType::mjs()).parse();
    let scoping = SemanticBuilder::new().build(&parsed.program).semantic.into_scoping();
    scoping.root_unresolved_references().keys().map(ToString::to_string).collect()
}

/// Whether a file is not plain JavaScript.
pub fn is_typed(path: &str) -> bool {
    ["ts", "tsx", "mts", "cts", "jsx"].contains(&Path::new(path).extension().and_then(|ending| ending.to_str()).unwrap_or_default())
}

/// A file as plain JavaScript.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn to_plain(path: &str, text: &str, maps: &mut Maps) -> Result<String, String> {
    let source_type = SourceType::from_path(path).map_err(|error| error.to_string())?.with_module(true);
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, source_type).parse();
    if let Some(error) = parsed.diagnostics.first() {
        let at = error.labels.first().map_or(0, |label| label.offset() as usize);
        let (line, column) = sandhog_guest::LineIndex::new(text).place(at);
        return Err(format!("{} (at {path}:{line}:{column})", error.message));
    }
    let mut program = parsed.program;
    drop_types(path, &mut program);
    let scoping = SemanticBuilder::new().with_excess_capacity(2.0).with_enum_eval(true).build(&program).semantic.into_scoping();
    let mut options = TransformOptions::default();
    options.decorator.legacy = true;
    options.helper_loader.mode = HelperLoaderMode::External; // the harness has them
    let transformed = Transformer::new(&allocator, Path::new(path), &options).build_with_scoping(scoping, &mut program);
    if let Some(error) = transformed.diagnostics.first() {
        return Err(error.message.to_string());
    }
    let options = CodegenOptions { source_map_path: Some(PathBuf::from(path)), ..CodegenOptions::default() };
    let made = Codegen::new().with_options(options).build(&program);
    if let Some(map) = made.map {
        let places = map
            .get_tokens()
            .map(|token| ((token.get_dst_line() + 1, token.get_dst_col() + 1), (token.get_src_line() + 1, token.get_src_col() + 1)));
        maps.plain.insert(path.to_owned(), places.collect());
    }
    Ok(made.code)
}

/// Marks what a file hands on from others, and is a type there, as one: the transformer sees no other file, and the engine would
/// look for a value.
fn drop_types<'a>(path: &str, program: &mut Program<'a>) {
    let imported: HashMap<String, (String, String)> = program
        .body
        .iter()
        .filter_map(|statement| match statement {
            Statement::ImportDeclaration(import) => Some(import),
            _ => None,
        })
        .flat_map(|import| import.specifiers.iter().flatten().map(|specifier| (import.source.value.to_string(), specifier)))
        .filter_map(|(source, specifier)| match specifier {
            ImportDeclarationSpecifier::ImportSpecifier(one) => {
                Some((one.local.name.to_string(), (source, one.imported.name().to_string())))
            }
            _ => None,
        })
        .collect();
    for statement in &mut program.body {
        let (source, specifiers) = match statement {
            Statement::ExportFromDeclaration(export) => (Some(export.source.value.to_string()), &mut export.specifiers),
            Statement::ExportNamedDeclaration(export) => (None, &mut export.specifiers),
            _ => continue,
        };
        for specifier in specifiers {
            let local = specifier.local.name().to_string();
            let from = match &source {
                Some(source) => Some((source.clone(), local)),
                None => imported.get(&local).cloned(),
            };
            if from.is_some_and(|(source, name)| is_type(path, &source, &name, &mut Vec::new())) {
                specifier.export_kind = ImportOrExportKind::Type;
            }
        }
    }
}

/// Whether what a file has under a name is a type and no value. `seen`: the files on the way, which may go in a circle.
fn is_type(base: &str, source: &str, name: &str, seen: &mut Vec<String>) -> bool {
    let Ok(path) = find(base, source, false) else { return false };
    if !is_typed(&path) || seen.contains(&path) {
        return false;
    }
    let Some(exports) = exports_of(&path) else { return false };
    seen.push(path.clone());
    match exports.names.get(name) {
        Some(Exported::Type) => true,
        Some(Exported::Value) => false,
        Some(Exported::From(source, name)) => is_type(&path, source, name, seen),
        None => exports.all_of.iter().any(|source| is_type(&path, source, name, seen)),
    }
}

/// What a file exports.
#[derive(Default)]
struct Exports {
    names: HashMap<String, Exported>,
    /// The modules of `export * from`.
    all_of: Vec<String>,
}

enum Exported {
    Value,
    Type,
    /// What another module has under this name.
    From(String, String),
}

thread_local! {
    static EXPORTS: RefCell<HashMap<String, Option<Rc<Exports>>>> = RefCell::default();
}

fn exports_of(path: &str) -> Option<Rc<Exports>> {
    if let Some(known) = EXPORTS.with_borrow(|known| known.get(path).cloned()) {
        return known;
    }
    let found = read_exports(path).map(Rc::new);
    EXPORTS.with_borrow_mut(|known| known.insert(path.to_owned(), found.clone()));
    found
}

fn read_exports(path: &str) -> Option<Exports> {
    let text = std::fs::read_to_string(path).ok()?;
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, &text, SourceType::from_path(path).ok()?.with_module(true)).parse();
    let scoping = SemanticBuilder::new().build(&parsed.program).semantic.into_scoping();
    let record = &parsed.module_record;
    let imported = |local: &str| {
        let entry = record.import_entries.iter().find(|entry| entry.local_name.name == local)?;
        match &entry.import_name {
            _ if entry.is_type => Some(Exported::Type),
            ImportImportName::Name(name) => Some(Exported::From(entry.module_request.name.to_string(), name.name.to_string())),
            ImportImportName::Default(_) => Some(Exported::From(entry.module_request.name.to_string(), "default".to_owned())),
            ImportImportName::NamespaceObject => Some(Exported::Value),
        }
    };
    let mut exports = Exports::default();
    for entry in record.local_export_entries.iter().chain(&record.indirect_export_entries) {
        let name = match &entry.export_name {
            ExportExportName::Name(name) => name.name.to_string(),
            ExportExportName::Default(_) => "default".to_owned(),
            ExportExportName::Null => continue,
        };
        let local = entry.local_name.name();
        let what = match (&entry.module_request, &entry.import_name) {
            _ if entry.is_type => Exported::Type,
            (Some(module), ExportImportName::Name(name)) => Exported::From(module.name.to_string(), name.name.to_string()),
            (Some(_), _) => Exported::Value,
            (None, _) => local.and_then(|local| imported(local.as_str())).unwrap_or_else(|| {
                let symbol = local.and_then(|local| scoping.get_root_binding(local.as_str().into()));
                let is_type = symbol.is_some_and(|symbol| {
                    let flags = scoping.symbol_flags(symbol);
                    !flags.is_value() && flags.is_type()
                });
                if is_type { Exported::Type } else { Exported::Value }
            }),
        };
        exports.names.insert(name, what);
    }
    exports.all_of = record.star_export_entries.iter().filter_map(|entry| Some(entry.module_request.as_ref()?.name.to_string())).collect();
    Some(exports)
}
