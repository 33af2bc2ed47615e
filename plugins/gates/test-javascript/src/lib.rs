//! Runs tests in JavaScript and TypeScript, each in an instance of its own: what `describe`, `it` and `expect`, or `node:test`
//! and `node:assert`, register. The engine is QuickJS, with oxc before it for TypeScript.
//!
//! A file is run once to see what it registers, with little to spend; one that does not come to an end, or throws, is a
//! unit of its own and fails alone.

use std::collections::BTreeMap;

use engine_javascript::{Ended, Engine, Problem};
use sandhog_guest::{Decision, Failure, Subject, Verdict, invalid_input};

sandhog_guest::gate!(check, units = units);
sandhog_guest::initialize!(engine_javascript::initialize);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Files of the subject that are run before each file of tests: what a runner's configuration calls its setup files.
    #[serde(default)]
    setup: Vec<String>,
    /// Names that stand for folders and files of the subject, as bundlers have them: `@/` for `src/`.
    #[serde(default)]
    alias: BTreeMap<String, String>,
}

fn units(subject: Subject<Params>) -> Result<Vec<String>, Failure> {
    let mut units = Vec::new();
    for file in &subject.files {
        let engine = Engine::new(true)?;
        engine.set_aliases(&subject.params.alias);
        match engine.load(&file.path, &subject.params.setup).and_then(|()| engine.names("units")) {
            Ok(names) if !names.is_empty() => units.extend(names),
            // A program that registers no test, which is run to its end, or one that is wrong:
            Ok(_) | Err(_) => units.push(file.path.clone()), // what is wrong is said when it is run
        }
    }
    Ok(units)
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let unit = subject.unit.as_deref().ok_or_else(|| invalid_input("this gate judges unit by unit, and no unit was named"))?;
    let whole = |file: &str| unit == file || unit.strip_prefix(file).is_some_and(|rest| rest.starts_with(" > ") || rest.starts_with(" #"));
    let file = subject.files.iter().map(|file| file.path.as_str()).filter(|file| whole(file)).max_by_key(|file| file.len());
    let file = file.ok_or_else(|| invalid_input(format!("no file of the subject has the unit {unit:?}")))?;
    let engine = Engine::new(false)?;
    engine.set_aliases(&subject.params.alias);
    let failed = |rule: &str, before: &str, problem: &Problem| {
        let finding = engine.finding(rule, file, format!("{unit}: {before}{}", problem.message), problem);
        Verdict { decision: Decision::Fail, findings: vec![finding], metrics: Vec::new(), summary: "failed".to_owned() }
    };
    if let Err(problem) = engine.load(file, &subject.params.setup) {
        return Ok(failed("test-error", "the file cannot be loaded: ", &problem));
    }
    let passed = |summary: String| Verdict { decision: Decision::Pass, findings: Vec::new(), metrics: Vec::new(), summary };
    if unit == file {
        return Ok(match engine.names("units") {
            // It took long to load, or more than was allowed while it was only looked at: run all that is in it.
            Ok(names) if !names.is_empty() => all(&engine, &names, file),
            Ok(_) => match engine.end() {
                Ok(()) => passed("skipped: it registers no test".to_owned()),
                Err(problem) => failed("test-failed", "", &problem),
            },
            Err(problem) => failed("test-error", "", &problem),
        });
    }
    Ok(match engine.run("run", unit) {
        Ok(Some(Ended::Passed)) => passed("passed".to_owned()),
        Ok(Some(Ended::Skipped { message })) => passed(format!("skipped: {message}")),
        Ok(Some(Ended::Failed { when, problem })) if when.is_empty() => failed("test-failed", "", &problem),
        Ok(Some(Ended::Failed { when, problem })) => failed("test-error", &format!("{when} the test: "), &problem),
        Ok(Some(Ended::Measured { .. }) | None) => {
            failed("test-error", "", &Problem { message: "it is not registered any more".to_owned(), ..Problem::default() })
        }
        Err(problem) => failed("test-error", "", &problem),
    })
}

/// All tests of a file, one after another.
fn all(engine: &Engine, names: &[String], file: &str) -> Verdict {
    let mut findings = Vec::new();
    let mut skipped = 0;
    let mut finding = |name: &str, problem: &Problem| {
        findings.push(engine.finding("test-failed", file, format!("{name}: {}", problem.message), problem));
    };
    for name in names {
        match engine.run("run", name) {
            Ok(Some(Ended::Passed)) => {}
            Ok(Some(Ended::Skipped { .. })) => skipped += 1,
            Ok(Some(Ended::Failed { problem, .. })) | Err(problem) => finding(name, &problem),
            Ok(Some(Ended::Measured { .. }) | None) => {
                finding(name, &Problem { message: "it is not registered any more".to_owned(), ..Problem::default() });
            }
        }
    }
    if let Err(problem) = engine.end() {
        finding(file, &problem);
    }
    let decision = if findings.is_empty() { Decision::Pass } else { Decision::Fail };
    let summary = match (findings.len(), names.len() - skipped) {
        (0, 0) => format!("skipped: all {skipped} tests are"),
        (failed, ran) => format!("{ran} ran, {failed} failed"),
    };
    Verdict { decision, findings, metrics: Vec::new(), summary }
}
