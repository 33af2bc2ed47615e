//! TypeScript and JSX become plain JavaScript by oxc, with a map back to the lines that a person wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oxc_allocator::Allocator;
use oxc_codegen::{Codegen, CodegenOptions};
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_transformer::{HelperLoaderMode, TransformOptions, Transformer};

use crate::modules::{ROOT, shown};

/// The maps of all files that were changed before they ran: sorted places in the plain text, with those of the original.
#[derive(Default)]
pub struct Maps(BTreeMap<String, Vec<((u32, u32), (u32, u32))>>);

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
            let (line, column) = self.back(path, line, column);
            (!path.contains("/node_modules/")).then(|| (shown(path).to_owned(), line, column))
        };
        stack.lines().find_map(in_file)
    }

    fn back(&self, path: &str, line: u32, column: u32) -> (u32, u32) {
        let Some(map) = self.0.get(path) else { return (line, column) };
        let at = map.partition_point(|(plain, _)| *plain <= (line, column));
        map.get(at.saturating_sub(1)).map_or((line, column), |(_, original)| *original)
    }
}

/// Whether a file is a module by what is in it: it imports, exports, or asks for `import.meta`.
pub fn has_module_syntax(text: &str) -> bool {
    let allocator = Allocator::default();
    let options = ParseOptions { allow_return_outside_function: true, ..ParseOptions::default() };
    Parser::new(&allocator, text, SourceType::unambiguous()).with_options(options).parse().module_record.has_module_syntax
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
        maps.0.insert(path.to_owned(), places.collect());
    }
    Ok(made.code)
}
