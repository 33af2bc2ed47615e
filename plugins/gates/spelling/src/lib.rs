//! Finds misspellings in source code and prose with typos: its dictionary of known misspellings, its own configuration
//! (`typos.toml`, `_typos.toml`, `.typos.toml`, and the tables of `Cargo.toml` and `pyproject.toml`), its own kinds of files.

use std::path::Path;
use std::sync::Mutex;

use sandhog_guest::{Edit, Failure, Finding, Fix, Severity, Subject, Verdict, invalid_input, permanent};
use typos_cli::file::FileChecker as _;
use typos_cli::policy::{ConfigEngine, ConfigStorage};
use typos_cli::report::{Context, Message, Report};

sandhog_guest::gate!(check);

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
    let mut findings = Vec::new();
    for file in &subject.files {
        let path = Path::new("/subject").join(&file.path);
        let folder = path.parent().unwrap_or(Path::new("/subject"));
        // As typos does for each folder that it walks: the nearest configuration counts.
        if let Err(error) = engine.init_dir(folder) {
            return Err(invalid_input(format!("the configuration of typos does not read: {error:#}")));
        }
        if excluded(&engine, folder, &file.path) {
            continue;
        }
        let found = Found { path: &file.path, bytes: subject.read(&file.path)?, findings: Mutex::default() };
        typos_cli::file::Typos.check_file(&path, false, &engine.policy(&path), &found).map_err(permanent)?;
        findings.extend(found.findings.into_inner().unwrap_or_default());
    }
    Ok(Verdict::from_findings(findings))
}

/// Whether the configuration says that a file is not looked at.
fn excluded(engine: &ConfigEngine<'_>, folder: &Path, path: &str) -> bool {
    let mut globs = ignore::gitignore::GitignoreBuilder::new("");
    for glob in &engine.walk(folder).extend_exclude {
        let _ = globs.add_line(None, glob);
    }
    let hidden = engine.walk(folder).ignore_hidden() && path.split('/').any(|part| part.starts_with('.'));
    hidden || globs.build().is_ok_and(|globs| globs.matched_path_or_any_parents(path, false).is_ignore())
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
