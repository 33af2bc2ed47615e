//! Finds misspellings in source code and prose with typos: its dictionary of known misspellings, its own configuration
//! (`typos.toml`, `_typos.toml`, `.typos.toml`, and the tables of `Cargo.toml` and `pyproject.toml`), its own kinds of files.

mod kinds;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use sandhog_guest::{Edit, Failure, Finding, Fix, Severity, Subject, Verdict, invalid_input, permanent};
use typos::tokens::{Tokenizer, TokenizerBuilder};
use typos_cli::config::{Config, EngineConfig, SUPPORTED_FILE_NAMES, Walk};
use typos_cli::dict::{BuiltIn, Override};
use typos_cli::file::FileChecker as _;
use typos_cli::policy::{ConfigEngine, ConfigStorage, Policy};
use typos_cli::report::{Context, Message, Report};

use kinds::Kinds;

sandhog_guest::gate!(check);
sandhog_guest::initialize!(initialize);

/// Where the subject lies.
const ROOT: &str = "/subject";

/// What typos knows of names: dear to make, and the same for each file.
static STANDARD: LazyLock<Kinds> = LazyLock::new(|| Kinds::standard().expect("typos' own globs read"));

fn initialize() {
    // Also once through: an engine for regular expressions makes some of its tables when it is first asked.
    let _ = kinds::kind(&STANDARD, None, "/subject/src/lib.rs");
}

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Params {
    /// Judge by typos' defaults, whatever configuration lies in the subject.
    isolated: bool,
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    log::set_max_level(log::LevelFilter::Warn); // typos tells of every glob that it compiles
    let storage = ConfigStorage::new();
    let mut engine = ConfigEngine::new(&storage);
    engine.set_isolated(subject.params.isolated);
    let unread = |error: String| invalid_input(format!("the configuration of typos does not read: {error}"));
    // As typos has it: what lies at the root of what it walks counts for all of it.
    let config = engine.load_config(Path::new(ROOT)).map_err(|error| unread(format!("{error:#}")))?;
    let mut findings = Vec::new();
    for file in &subject.files {
        let path = Path::new(ROOT).join(&file.path);
        // Its own configuration may have misspellings in it; so typos has it.
        if path.file_name().is_some_and(|name| SUPPORTED_FILE_NAMES.iter().any(|own| *own == name)) || excluded(&config.files, &file.path) {
            continue;
        }
        let (kind, settings) = settings(&config, &file.path).map_err(unread)?;
        let (tokenizer, dictionary) = (tokenizer(&settings), dictionary(&settings));
        let policy = Policy::new()
            .binary(settings.binary())
            .check_filenames(settings.check_filename())
            .check_files(settings.check_file())
            .file_type(kind.as_deref())
            .tokenizer(&tokenizer)
            .dict(&dictionary)
            .ignore(&settings.extend_ignore_re);
        let found = Found { path: &file.path, bytes: subject.read(&file.path)?, findings: Mutex::default() };
        typos_cli::file::Typos.check_file(&path, false, &policy, &found).map_err(permanent)?;
        findings.extend(found.findings.into_inner().unwrap_or_default());
    }
    Ok(Verdict::from_findings(findings))
}

/// Whether the configuration says that a file is not looked at.
fn excluded(walk: &Walk, path: &str) -> bool {
    let mut globs = ignore::gitignore::GitignoreBuilder::new("");
    for glob in &walk.extend_exclude {
        let _ = globs.add_line(None, glob);
    }
    let hidden = walk.ignore_hidden() && path.split('/').any(|part| part.starts_with('.'));
    hidden || globs.build().is_ok_and(|globs| globs.matched_path_or_any_parents(path, false).is_ignore())
}

/// What a configuration says of a file, and the file's kind: as typos has it for a folder, but with what it knows of names made before.
fn settings(config: &Config, path: &str) -> Result<(Option<String>, EngineConfig), String> {
    let Config { default, type_, overrides, .. } = config;
    let mut own: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut of_kinds = BTreeMap::new();
    for (kind, settings) in type_.patterns() {
        if !settings.extend_glob.is_empty() {
            own.insert(kind.to_string(), settings.extend_glob.iter().map(ToString::to_string).collect());
        } else if !STANDARD.has(&kind) {
            return Err(format!("[type.{kind}]: there is no such kind of files; with `extend-glob`, one is made"));
        }
        of_kinds.insert(kind.to_string(), settings.engine);
    }
    let own = if own.is_empty() { None } else { Some(Kinds::configured(&own).map_err(|error| format!("`extend-glob`: {error}"))?) };
    let kind = kinds::kind(&STANDARD, own.as_ref(), path).map(str::to_owned);
    let mut settings = default.clone();
    if let Some(of_kind) = kind.as_ref().and_then(|kind| of_kinds.get(kind)) {
        settings.update(of_kind);
    }
    settings.update(overrides);
    Ok((kind, settings))
}

fn tokenizer(settings: &EngineConfig) -> Tokenizer {
    TokenizerBuilder::new().unicode(settings.tokenizer.unicode()).build()
}

fn dictionary(settings: &EngineConfig) -> Override<'_, '_, BuiltIn> {
    let words = &settings.dict;
    let mut dictionary = Override::new(BuiltIn::new(words.locale()));
    dictionary.ignored_identifiers(words.extend_ignore_identifiers_re());
    dictionary.identifiers(words.extend_identifiers());
    dictionary.ignored_words(words.extend_ignore_words_re());
    dictionary.words(words.extend_words());
    dictionary
}

struct Found<'a> {
    path: &'a str,
    bytes: Vec<u8>,
    findings: Mutex<Vec<Finding>>,
}

impl Report for Found<'_> {
    fn report(&self, message: Message<'_>) -> Result<(), std::io::Error> {
        let Message::Typo(typo) = message else { return Ok(()) };
        let corrections: Vec<String> = match &typo.corrections {
            typos::Status::Valid => return Ok(()),
            typos::Status::Invalid => Vec::new(),
            typos::Status::Corrections(corrections) => corrections.iter().map(|word| word.to_string()).collect(),
        };
        let should = match corrections.as_slice() {
            [] => "is not allowed".to_owned(),
            words => format!("should be {}", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
        };
        let mut finding = Finding::new("typo", Severity::Medium, format!("`{}` {should}", typo.typo));
        let column = |bytes: usize| String::from_utf8_lossy(&typo.buffer[..bytes.min(typo.buffer.len())]).chars().count() as u32 + 1;
        finding = match &typo.context {
            Some(Context::File(file)) => {
                let line = u32::try_from(file.line_num).unwrap_or(u32::MAX);
                let (start, end) = (typo.byte_offset, typo.byte_offset + typo.typo.len());
                if let [word] = corrections.as_slice()
                    && let Some(offset) = self.line_start(file.line_num)
                    && self.bytes.get(offset + start..offset + end) == Some(typo.typo.as_bytes())
                {
                    let edit = Edit { start: (offset + start) as u64, end: (offset + end) as u64, replacement: word.clone() };
                    // A name may be part of an interface: only in prose is it safe to mend.
                    let safe = [".md", ".txt", ".rst", ".adoc"].iter().any(|ending| self.path.ends_with(ending));
                    finding = finding.fix(Fix { description: format!("write `{word}`"), edits: vec![edit], safe });
                }
                finding.spanning(self.path, (line, column(start)), (line, column(end)))
            }
            Some(Context::Path(_)) | Some(_) | None => finding.in_file(self.path),
        };
        if let [first, ..] = corrections.as_slice() {
            finding = finding.suggest(format!("write `{first}`"));
        }
        self.findings.lock().map_err(|_| std::io::Error::other("poisoned"))?.push(finding);
        Ok(())
    }

    fn generate_final_result(&self) -> Result<(), std::io::Error> {
        Ok(())
    }
}

impl Found<'_> {
    /// Where a line begins, in bytes; lines count from 1.
    fn line_start(&self, line: usize) -> Option<usize> {
        match line.checked_sub(2) {
            None => Some(0),
            Some(ends) => self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(ends).map(|(at, _)| at + 1),
        }
    }
}
