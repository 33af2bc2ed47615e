//! The forms of reports, told apart by what they look like.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// From good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Passed,
    Skipped,
    Failed,
    Errored,
}

/// One test of a report.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub outcome: Outcome,
    pub message: String,
    /// Where the report tells of it, counted from 1.
    pub line: u32,
}

/// Reads a report.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<Vec<Case>, String> {
    let text = &without_colours(text);
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with('<') {
        return junit(text);
    }
    // What go tells of its downloads may stand before.
    if start.starts_with('{') || (start.starts_with("go: ") && start.lines().any(|line| line.starts_with("{\""))) {
        return json_lines(text);
    }
    let is_tap =
        |line: &str| line.starts_with("TAP version") || line.starts_with("1..") || line.starts_with("ok ") || line.starts_with("not ok ");
    if text.lines().any(is_tap) {
        return tap(text);
    }
    plain(text)
}

/// A text without the escapes by which terminals are told of colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ';');
        plain.push_str(rest.strip_prefix('m').unwrap_or(rest));
    }
    plain
}

fn number(at: usize) -> u32 {
    u32::try_from(at + 1).unwrap_or(u32::MAX)
}

/// JUnit XML, as Ant, Maven, pytest, nextest and most others write it.
fn junit(text: &str) -> Result<Vec<Case>, String> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let (mut cases, mut open, mut inside, mut is_junit): (Vec<Case>, Option<Case>, bool, bool) = (Vec::new(), None, false, false);
    // Cases that may fail, and did: of Node's `todo`. Their suite counts them as failures.
    let (mut is_todo, mut forgiven): (bool, Vec<usize>) = (false, Vec::new());
    let mut suites: Vec<Suite> = Vec::new();
    let attribute = |element: &BytesStart<'_>, name: &str| -> String {
        let value = element.try_get_attribute(name).ok().flatten();
        value
            .and_then(|value| value.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned))
            .unwrap_or_default()
    };
    let mut depth = 0_usize;
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        match reader.read_event().map_err(|error| format!("{error} (at byte {})", reader.error_position()))? {
            Event::Start(element) => {
                depth += 1;
                match element.local_name().as_ref() {
                    b"testsuites" | b"testsuite" => {
                        is_junit = true;
                        let count = |name: &str| attribute(&element, name).parse().unwrap_or(0);
                        let told = Told { tests: count("tests"), failures: count("failures"), errors: count("errors") };
                        suites.push(Suite { name: attribute(&element, "name"), told, cases_before: cases.len() });
                    }
                    b"testcase" => {
                        let (class, name) = (attribute(&element, "classname"), attribute(&element, "name"));
                        let name = if class.is_empty() { name } else { format!("{class}::{name}") };
                        let line = number(starts.partition_point(|start| *start <= at).saturating_sub(1));
                        // Some writers say it in a word, beside or in place of an element.
                        let word = [attribute(&element, "status"), attribute(&element, "result")].join(" ").to_ascii_lowercase();
                        let says = |words: &[&str]| word.split_whitespace().any(|word| words.contains(&word));
                        let outcome = if says(&["failed", "failure", "fail", "error", "errored"]) {
                            Outcome::Failed
                        } else if says(&["notrun", "skipped", "suppressed", "disabled", "ignored"]) {
                            Outcome::Skipped
                        } else {
                            Outcome::Passed
                        };
                        is_todo = false;
                        open = Some(Case { name, outcome, message: String::new(), line });
                    }
                    b"skipped" if open.is_some() && attribute(&element, "type") == "todo" => {
                        is_todo = true;
                        open = open.map(|case| Case { outcome: case.outcome.max(Outcome::Skipped), ..case });
                    }
                    // Of PHPUnit: `warning` is a test that is none. Of Surefire: `rerunFailure` is one more failure of a test that failed, `flakyFailure` one of a test that passed in the end.
                    tag @ (b"failure" | b"rerunFailure" | b"error" | b"rerunError" | b"warning" | b"skipped") => {
                        let outcome = match tag {
                            b"failure" | b"rerunFailure" | b"warning" => Outcome::Failed,
                            b"error" | b"rerunError" => Outcome::Errored,
                            _ => Outcome::Skipped,
                        };
                        let message = attribute(&element, "message");
                        match &mut open {
                            // Of several, the worst counts.
                            Some(case) if outcome > case.outcome || (outcome == case.outcome && case.message.is_empty()) => {
                                inside = message.is_empty();
                                (case.outcome, case.message) = (outcome, message);
                            }
                            Some(_) => {}
                            None if outcome == Outcome::Skipped => {}
                            None => {
                                let name = suites.last().map_or_else(String::new, |suite| suite.name.clone());
                                let line = number(starts.partition_point(|start| *start <= at).saturating_sub(1));
                                cases.push(Case { name, outcome, message, line });
                            }
                        }
                    }
                    _ => {}
                }
            }
            Event::Text(part) if inside => {
                if let Some(case) = &mut open {
                    case.message.push_str(&part.decode().map_err(|error| error.to_string())?);
                }
            }
            Event::CData(part) if inside => {
                if let Some(case) = &mut open {
                    case.message.push_str(&String::from_utf8_lossy(&part));
                }
            }
            Event::End(element) => {
                depth = depth.saturating_sub(1);
                match element.local_name().as_ref() {
                    b"testcase" => {
                        if let Some(case) = open.take() {
                            if is_todo && case.outcome > Outcome::Skipped {
                                forgiven.push(cases.len());
                            }
                            cases.push(if is_todo { Case { outcome: Outcome::Skipped, ..case } } else { case });
                        }
                    }
                    b"failure" | b"rerunFailure" | b"error" | b"rerunError" | b"warning" | b"skipped" => inside = false,
                    b"testsuites" | b"testsuite" => {
                        if let Some(suite) = suites.pop() {
                            cases.extend(suite.amiss(&cases, &forgiven));
                        }
                    }
                    _ => {}
                }
            }
            Event::Eof if depth > 0 => return Err("it ends in the middle".to_owned()),
            Event::Eof => break,
            _ => {}
        }
    }
    if is_junit { Ok(cases) } else { Err("it is XML, and neither <testsuites> nor <testsuite>".to_owned()) }
}

/// What a suite of JUnit XML says of itself.
struct Suite {
    name: String,
    told: Told,
    cases_before: usize,
}

struct Told {
    tests: usize,
    failures: usize,
    errors: usize,
}

impl Suite {
    /// What is counted and not told: a suite that broke before its first test, or a report that was cut.
    fn amiss(self, cases: &[Case], forgiven: &[usize]) -> Option<Case> {
        let own = &cases[self.cases_before..];
        let failed = own.iter().filter(|case| case.outcome >= Outcome::Failed).count();
        let failed = failed + forgiven.iter().filter(|at| **at >= self.cases_before).count();
        let missing =
            [("failures", self.told.failures, failed), ("errors", self.told.errors, failed), ("tests", self.told.tests, own.len())];
        let (what, told, there) = missing.into_iter().find(|(_, told, there)| told > there)?;
        let message = format!("it counts {told} {what}, and tells of {there}");
        Some(Case { name: self.name, outcome: Outcome::Errored, message, line: 1 })
    }
}

/// `go test -json`, and libtest's and nextest's JSON: an event a line.
fn json_lines(text: &str) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    let mut output: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut open: BTreeMap<(String, String), u32> = BTreeMap::new();
    // Of go: packages with a test that ended, and no end of their own.
    let mut unended: BTreeMap<String, u32> = BTreeMap::new();
    // Of libtest: the line at which a suite began, how many tests it has, and how many there were before.
    let mut suite: Option<(u32, u64, usize)> = None;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        if !line.trim_start().starts_with('{') {
            // go mixes in what its compiler prints, and tells only so of a package that could not be built.
            if line.contains("[build failed]") || line.contains("[setup failed]") {
                let name = line.split_whitespace().nth(1).unwrap_or(line).to_owned();
                cases.push(Case { name, outcome: Outcome::Failed, message: line.to_owned(), line: number(at) });
            }
            continue;
        }
        let event: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1))?;
        let word = |field: &str| event.get(field).and_then(|word| word.as_str()).unwrap_or_default().to_owned();
        if event.get("Action").is_some() {
            let key = (word("Package"), word("Test"));
            let name = if key.1.is_empty() { key.0.clone() } else { format!("{}.{}", key.0, key.1) };
            let outcome = match word("Action").as_str() {
                "run" | "start" => {
                    open.insert(key, number(at));
                    continue;
                }
                "output" => {
                    output.entry(key).or_default().push_str(&word("Output"));
                    continue;
                }
                "pass" => Outcome::Passed,
                "fail" | "build-fail" => Outcome::Failed,
                "skip" => Outcome::Skipped,
                _ => continue,
            };
            open.remove(&key);
            if key.1.is_empty() {
                unended.remove(&key.0);
            } else {
                unended.entry(key.0.clone()).or_insert_with(|| number(at));
            }
            // A package fails with its tests: it counts by itself only where none of them says why.
            let has_tests =
                cases.iter().any(|case: &Case| case.outcome == Outcome::Failed && case.name.starts_with(&format!("{}.", key.0)));
            if key.1.is_empty() && (outcome != Outcome::Failed || has_tests) {
                continue;
            }
            let said = output.remove(&key).unwrap_or_default();
            let kept: Vec<&str> = said
                .lines()
                .map(str::trim)
                .filter(|line| !line.starts_with("===") && !line.starts_with("---") && !line.is_empty())
                .collect();
            cases.push(Case { name, outcome, message: kept.join("\n"), line: number(at) });
        } else if word("type") == "suite" {
            let event_word = word("event");
            if event_word == "started" {
                let count = event.get("test_count").and_then(serde_json::Value::as_u64).unwrap_or(0);
                if let Some((line, ..)) = suite.replace((number(at), count, cases.len())) {
                    cases.push(cut("a suite", line));
                }
            } else if let Some((line, count, before)) = suite.take() {
                let own = &cases[before..];
                if event_word != "ok" && !own.iter().any(|case| case.outcome >= Outcome::Failed) {
                    cases.push(Case { message: "it failed, and none of its tests says why".to_owned(), ..cut("a suite", line) });
                } else if (own.len() as u64) < count {
                    let message = format!("it counts {count} tests, and tells of {}", own.len());
                    cases.push(Case { message, ..cut("a suite", line) });
                }
            }
        } else if word("type") == "test" {
            let key = (String::new(), word("name"));
            let outcome = match word("event").as_str() {
                "started" => {
                    open.insert(key, number(at));
                    continue;
                }
                "ok" => Outcome::Passed,
                "failed" => Outcome::Failed,
                "timeout" => Outcome::Errored,
                "ignored" => Outcome::Skipped,
                _ => continue,
            };
            open.remove(&key);
            cases.push(Case { name: word("name"), outcome, message: word("stdout"), line: number(at) });
        }
    }
    cases.extend(suite.map(|(line, ..)| cut("a suite", line)));
    // A benchmark has no end of its own.
    open.retain(|(package, test), _| !test.starts_with("Benchmark") || unended.contains_key(package));
    unended.retain(|package, _| !open.keys().any(|(began, _)| began == package));
    cases.extend(unended.iter().map(|(package, line)| cut(package, *line)));
    for ((package, test), line) in open {
        let name = match (package.is_empty(), test.is_empty()) {
            (true, _) => test,
            (false, true) => package,
            (false, false) => format!("{package}.{test}"),
        };
        cases.push(cut(&name, line));
    }
    if cases.is_empty() { Err("no line of it tells of a test".to_owned()) } else { Ok(cases) }
}

/// What began, and whose end the report does not have.
fn cut(name: &str, line: u32) -> Case {
    Case { name: name.to_owned(), outcome: Outcome::Errored, message: "it began, and never ended".to_owned(), line }
}

/// TAP of versions 12 to 14. Subtests are indented, ahead of their parent or in its braces; it tells of them too, and a parent that
/// passed while one of them failed contradicts itself.
fn tap(text: &str) -> Result<Vec<Case>, String> {
    let (mut cases, mut planned): (Vec<Case>, Option<usize>) = (Vec::new(), None);
    let (mut is_yaml, mut in_braces, mut failed_within): (bool, bool, Option<u32>) = (false, false, None);
    let contradicts = |name: &str, line| Case {
        name: name.to_owned(),
        outcome: Outcome::Errored,
        message: "it passed, and one of its subtests did not".to_owned(),
        line,
    };
    let mut numbers = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.len() < line.len() {
            is_yaml = (is_yaml && trimmed != "...") || trimmed.trim_end() == "---";
            let directive = trimmed.split_once(" # ").map_or("", |(_, directive)| directive).to_ascii_uppercase();
            let is_child = (trimmed == "not ok" || trimmed.starts_with("not ok ")) && !is_yaml && line.starts_with("    ");
            if is_child && !directive.starts_with("TODO") && !directive.starts_with("SKIP") {
                failed_within = failed_within.or(Some(number(at)));
            }
        } else if trimmed == "}" && in_braces {
            in_braces = false;
            let parent = cases.last().filter(|case| case.outcome == Outcome::Passed).map(|case| case.name.clone());
            if let (Some(parent), Some(line)) = (parent, failed_within.take()) {
                cases.push(contradicts(&parent, line));
            }
        }
        if let Some(plan) = line.strip_prefix("1..") {
            let count = plan.split_whitespace().next().and_then(|count| count.parse().ok());
            let count = count.ok_or_else(|| format!("line {}: a plan that is no number", at + 1))?;
            if planned.replace(count).is_some() {
                return Err(format!("line {}: a second plan", at + 1));
            }
            continue;
        }
        if let Some(reason) = line.strip_prefix("Bail out!") {
            cases.push(Case {
                name: "Bail out!".to_owned(),
                outcome: Outcome::Errored,
                message: reason.trim().to_owned(),
                line: number(at),
            });
            continue;
        }
        let (rest, failed) = match (line.strip_prefix("not ok"), line.strip_prefix("ok")) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => {
                if let Some(case) = cases.last_mut().filter(|case| case.outcome == Outcome::Failed) {
                    let diagnostic = line.trim_start_matches([' ', '#']).trim();
                    if (line.starts_with("  ") || line.starts_with('#'))
                        && !matches!(diagnostic, "---" | "...")
                        && case.message.len() < 2_000
                    {
                        case.message.push_str(diagnostic);
                        case.message.push('\n');
                    }
                }
                continue;
            }
        };
        if !rest.is_empty() && !rest.starts_with(' ') {
            continue;
        }
        let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
        if let Some(count) = rest.split_whitespace().next().and_then(|word| word.parse::<usize>().ok())
            && !numbers.insert(count)
        {
            cases.push(Case {
                name: format!("number {count}"),
                outcome: Outcome::Errored,
                message: "it stands twice".to_owned(),
                line: number(at),
            });
        }
        let within = failed_within.take();
        in_braces = rest.trim_end().ends_with('{');
        let name = name.trim().trim_end_matches('{').trim_end();
        let name = name.trim_start_matches(|letter: char| letter.is_ascii_digit()).trim_start_matches([' ', '-']).to_owned();
        let word = directive.trim().split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_uppercase();
        let outcome = match failed {
            _ if ["SKIP", "SKIPPED", "TODO"].contains(&&*word) => Outcome::Skipped,
            true => Outcome::Failed,
            false => Outcome::Passed,
        };
        let contradiction = within.filter(|_| outcome == Outcome::Passed).map(|line| contradicts(&name, line));
        cases.push(Case { name, outcome, message: String::new(), line: number(at) });
        cases.extend(contradiction);
    }
    let Some(planned) = planned else { return Err("TAP without a plan: it may have ended early".to_owned()) };
    if let Some(beyond) = numbers.iter().find(|number| **number > planned) {
        let message = format!("{planned} tests were planned, and this is one more");
        cases.push(Case { name: format!("number {beyond}"), outcome: Outcome::Errored, message, line: 1 });
    }
    let told = cases.iter().filter(|case| case.outcome != Outcome::Errored).count();
    if told != planned {
        let message = format!("{planned} tests were planned, and the report tells of {told}");
        cases.push(Case { name: "plan".to_owned(), outcome: Outcome::Errored, message, line: 1 });
    }
    Ok(cases)
}

/// What `cargo test` and `cargo nextest run` print.
fn plain(text: &str) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    let mut messages: BTreeMap<String, String> = BTreeMap::new();
    let mut quoted: Option<String> = None;
    let (mut sums, mut open): (usize, Option<(usize, usize, u32)>) = (0, None);
    // A binary that cargo began, and of which no result is told.
    let mut began = None;
    // A test that writes between its name and its result: `--nocapture`.
    let mut writing: Option<(String, u32)> = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            quoted = Some(name.to_owned());
            continue;
        }
        if line.is_empty() || line.starts_with("failures:") {
            quoted = quoted.filter(|_| !line.starts_with("failures:"));
        }
        if let Some(name) = &quoted {
            let message = messages.entry(name.clone()).or_default();
            message.push_str(line);
            message.push('\n');
        }
        let announced = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test")).and_then(|(count, _)| count.parse().ok());
        if let Some(count) = announced {
            cases.extend(cut_off(open.take(), cases.len()));
            open = Some((count, cases.len(), number(at)));
        }
        if line.starts_with("error: could not compile")
            || line.starts_with("error: test run failed")
            || line.contains("(signal: ")
            || ((line.starts_with("error: test failed") || is_end_of_targets(line))
                && !cases.iter().any(|case: &Case| case.outcome >= Outcome::Failed))
        {
            cases.push(Case { name: "cargo".to_owned(), outcome: Outcome::Errored, message: line.to_owned(), line: number(at) });
        }
        // One without a harness of Rust's says what it likes, but one that says nothing was cut off.
        if !line.is_empty() {
            let of_cargo = |word: &str| line.trim_start().strip_prefix(word).map(|name| (name.to_owned(), number(at)));
            began = of_cargo("Running ").or_else(|| of_cargo("Doc-tests "));
        }
        if let Some((name, word)) = line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... ")) {
            let outcome = match word.split([',', ' ']).next().unwrap_or_default() {
                "ok" | "bench:" => Outcome::Passed,
                "FAILED" => Outcome::Failed,
                "ignored" => Outcome::Skipped,
                _ => match result_behind(word) {
                    Some(outcome) => outcome,
                    None => {
                        writing = Some((name.to_owned(), number(at)));
                        continue;
                    }
                },
            };
            writing = None;
            cases.push(Case { name: name.to_owned(), outcome, message: String::new(), line: number(at) });
        } else if let (Some((name, begun)), Some(outcome)) = (&writing, result_behind(line)) {
            cases.push(Case { name: name.clone(), outcome, message: String::new(), line: *begun });
            writing = None;
        } else if line.starts_with("test result: ") || line.trim_start().starts_with("Summary [") {
            sums += 1;
            writing = None;
            if let Some((count, before, begun)) = open.take() {
                let of = |word: &str| -> usize {
                    let counts = line.split([';', '.']).filter_map(|part| part.trim().split_once(' '));
                    counts.filter(|(_, told)| *told == word).filter_map(|(count, _)| count.parse::<usize>().ok()).sum()
                };
                let own = |outcome| cases[before..].iter().filter(|case| case.outcome == outcome).count();
                let (passed, failed, ignored) = (of("passed") + of("measured"), of("failed"), of("ignored"));
                let is_ok = line.starts_with("test result: ok.");
                if cases.len() == before && count > 0 && is_ok && passed + ignored == count {
                    // `cargo test -q` tells of none by its name.
                    let outcome = if passed > 0 { Outcome::Passed } else { Outcome::Skipped };
                    cases.push(Case { name: format!("{count} tests"), outcome, message: String::new(), line: begun });
                } else if cases.len() - before < count {
                    cases.extend(cut_off(Some((count, before, begun)), cases.len()));
                } else if (passed, failed, ignored) != (own(Outcome::Passed), own(Outcome::Failed), own(Outcome::Skipped))
                    || is_ok != (failed == 0)
                {
                    let message = format!("its sum says something else than its lines: {line}");
                    cases.push(Case { name: "test binary".to_owned(), outcome: Outcome::Errored, message, line: number(at) });
                }
            }
            // nextest: `Summary [   0.1s] 2/3 tests run`
            let ran = line.split_once("] ").and_then(|(_, rest)| rest.split_once(" tests run")).and_then(|(ran, _)| ran.split_once('/'));
            if let Some((ran, all)) = ran.filter(|(ran, all)| ran != all) {
                let message = format!("{ran} of {all} tests ran");
                cases.push(Case { name: "nextest".to_owned(), outcome: Outcome::Errored, message, line: number(at) });
            }
        } else if let Some((word, rest)) = line.trim_start().split_once(" [") {
            // nextest: `PASS [   0.005s] (1/2) crate module::test`
            let outcome = match word.split_whitespace().last().unwrap_or_default() {
                "PASS" | "LEAK" => Outcome::Passed,
                "FAIL" | "SIGSEGV" | "SIGABRT" | "LEAK-FAIL" => Outcome::Failed,
                "TIMEOUT" => Outcome::Errored,
                "SKIP" => Outcome::Skipped,
                _ => continue,
            };
            let Some((_, name)) = rest.split_once(']') else { continue };
            let name = name
                .trim()
                .trim_start_matches(|letter: char| "(/)".contains(letter) || letter.is_ascii_digit() || letter == ' ')
                .to_owned();
            // One that failed and was tried again has passed in the end.
            if outcome == Outcome::Passed && word.contains("TRY") {
                cases.retain(|case: &Case| case.name != name || case.outcome < Outcome::Failed);
            }
            // A failure is told twice: as it happens, and in the summary.
            if sums == 0 && !cases.iter().any(|case: &Case| case.name == name && case.outcome == outcome) {
                cases.push(Case { name, outcome, message: String::new(), line: number(at) });
            }
        }
    }
    cases.extend(cut_off(open, cases.len()));
    cases.extend(began.map(|(name, line)| cut(&name, line)));
    for case in &mut cases {
        if let Some(message) = messages.remove(&case.name) {
            case.message = message;
        }
    }
    if cases.is_empty() && sums == 0 {
        return Err("it is none of JUnit XML, TAP, go test -json, libtest and nextest".to_owned());
    }
    if sums == 0 {
        return Err("it ends before its summary".to_owned());
    }
    Ok(cases)
}

/// What a line ends with that a test wrote to: its result, in the same line where it wrote no end of its own.
fn result_behind(line: &str) -> Option<Outcome> {
    [("ok", Outcome::Passed), ("FAILED", Outcome::Failed)].into_iter().find(|(word, _)| line.ends_with(word)).map(|(_, outcome)| outcome)
}

/// What cargo says after `--no-fail-fast`: `error: 2 targets failed:`.
fn is_end_of_targets(line: &str) -> bool {
    let rest = line.strip_prefix("error: ").and_then(|rest| rest.split_once(' ')).filter(|(count, _)| count.parse::<usize>().is_ok());
    rest.is_some_and(|(_, rest)| rest.starts_with("target failed:") || rest.starts_with("targets failed:"))
}

/// A test binary that said how many tests it runs, and not what came of all of them.
fn cut_off(open: Option<(usize, usize, u32)>, cases: usize) -> Option<Case> {
    let (count, before, line) = open?;
    let message = format!("{count} tests were to run, and the report tells of {}", cases - before);
    Some(Case { name: "test binary".to_owned(), outcome: Outcome::Errored, message, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let word = |outcome| match outcome {
            Outcome::Passed => "+",
            Outcome::Skipped => "~",
            Outcome::Failed => "-",
            Outcome::Errored => "!",
        };
        let show = |case: &Case| format!("{}{}:{} {}", word(case.outcome), case.line, case.name, case.message.trim()).trim().to_owned();
        read(text).expect("reads").iter().map(show).collect()
    }

    #[test]
    fn junit_of_many_makers_is_read() {
        let text = r#"<?xml version="1.0"?>
<testsuites>
<testsuite name="s" errors="1">
<testcase classname="a.B" name="one"/>
<testcase name="two"><failure message="expected &lt;1&gt;">trace</failure></testcase>
<testcase name="three"><error><![CDATA[boom]]></error></testcase>
<testcase name="four"><skipped/></testcase>
</testsuite></testsuites>"#;
        assert_eq!(told(text), ["+4:a.B::one", "-5:two expected <1>", "!6:three boom", "~7:four"]);
        assert_eq!(told(r#"<testsuite name="s" errors="2"></testsuite>"#), ["!1:s it counts 2 errors, and tells of 0"]);
        assert_eq!(
            told(r#"<testsuite name="s" tests="10"><testcase name="a"/></testsuite>"#),
            ["+1:a", "!1:s it counts 10 tests, and tells of 1"]
        );
        assert_eq!(told(r#"<testsuite name="s"><testcase name="a"><failure message="no"/><skipped/></testcase></testsuite>"#), ["-1:a no"]);
        assert_eq!(told(r#"<testsuite name="s"><error message="no setup"/><testcase name="a"/></testsuite>"#), ["!1:s no setup", "+1:a"]);
        let root = r#"<testsuites tests="5" failures="3"><testsuite><testcase name="a"/></testsuite></testsuites>"#;
        assert_eq!(told(root), ["+1:a", "!1: it counts 3 failures, and tells of 0"]);
        let words = r#"<testsuite><testcase name="a" status="failed"/><testcase name="b"><rerunFailure message="no"/></testcase><testcase name="c" status="run" result="completed"/></testsuite>"#;
        assert_eq!(told(words), ["-1:a", "-1:b no", "+1:c"]);
        let google = r#"<testsuite tests="2" disabled="1"><testcase name="a" status="run" result="completed"/><testcase name="b" status="notrun" result="suppressed"/></testsuite>"#;
        assert_eq!(told(google), ["+1:a", "~1:b"]);
        let php = r#"<testsuite name="s" tests="1" warnings="1"><testcase name="Warning"><warning type="PHPUnit\Framework\Warning">No tests found</warning></testcase></testsuite>"#;
        assert_eq!(told(php), ["-1:Warning No tests found"]);
        let node = r#"<testsuite tests="2" failures="1"><testcase name="a"/><testcase name="b"><skipped type="todo" message="true"/><failure message="no">trace</failure></testcase></testsuite>"#;
        assert_eq!(told(node), ["+1:a", "~1:b no"]);
        assert!(read("<testsuites><testsuite>").is_err() && read("<html></html>").is_err() && read("<testsuite").is_err());
    }

    #[test]
    fn lines_of_other_runners_are_read() {
        let tap = "TAP version 13\n1..4\nok 1 - first\nnot ok 2 second\n  ---\n  message: no\n  ...\nok 3 # SKIP later\nnot ok 4 - known # TODO mend\n";
        assert_eq!(told(tap), ["+3:first", "-4:second message: no", "~8:", "~9:known"]);
        assert_eq!(told("1..3\nok 1\n"), ["+2:", "!1:plan 3 tests were planned, and the report tells of 1"]);
        let before = "TAP version 14\n# Subtest: p\n    not ok 1 - child\n    1..1\nok 1 - p\n1..1\n";
        assert_eq!(told(before), ["+5:p", "!3:p it passed, and one of its subtests did not"]);
        let braces =
            "1..2\nok 1 - p {\n    1..2\n    ok 1 - c\n    not ok 2 - d # TODO later\n}\nok 2 - q {\n    not ok 1 - c\n    1..1\n}\n";
        assert_eq!(told(braces), ["+2:p", "+7:q", "!8:q it passed, and one of its subtests did not"]);
        assert_eq!(told("1..1\nok 1 - p\n    ---\n    not ok it says\n    ...\n"), ["+2:p"]);
        assert!(read("1..1\nok 1\n1..1\n").is_err(), "two plans");
        assert!(read("ok 1\n").is_err(), "no plan");
        assert_eq!(told("ok 1\nok 1\n1..2\n"), ["+1:", "!2:number 1 it stands twice", "+2:"]);
        assert_eq!(told("{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"T\"}\n"), ["+1:p.T", "!1:p it began, and never ended"]);
        assert_eq!(told("1..2\nok 1\nnot ok 2 - x # todolist\n"), ["+2:", "-3:x"]);
        assert_eq!(told("1..2\nok 1\nok 5\n"), ["+2:", "+3:", "!1:number 5 2 tests were planned, and this is one more"]);
        let package = "go: downloading x v1\n{\"Action\":\"run\",\"Package\":\"p\",\"Test\":\"BenchmarkX\"}\n{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"T\"}\n{\"Action\":\"pass\",\"Package\":\"p\"}\n";
        assert_eq!(told(package), ["+3:p.T"]);
        assert_eq!(told(&format!("{package}FAIL\tex/z [build failed]\nFAIL\n"))[1..], ["-5:ex/z FAIL\tex/z [build failed]"]);
        assert_eq!(
            told("running 2 tests\n..\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"),
            ["+1:2 tests"]
        );
        assert_eq!(told("running 1 test\ntest a ... \u{1b}[32mok\u{1b}[m\ntest result: ok. 1 passed;\n"), ["+2:a"]);
        let writes = "running 3 tests\ntest a ... hello\nworld\nok\ntest b ... xok\ntest c ... bench:       1,234 ns/iter (+/- 56)\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 1 measured;\n";
        assert_eq!(told(writes), ["+2:a", "+5:b", "+6:c"]);
        let other = "running 1 test\ntest a ... ok\n\ntest result: FAILED. 0 passed; 1 failed;\n";
        assert_eq!(
            told(other)[1..],
            ["!4:test binary its sum says something else than its lines: test result: FAILED. 0 passed; 1 failed;"]
        );
        let targets = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed;\n\nerror: 1 target failed:\n    `--lib`\n";
        assert_eq!(told(targets)[1..], ["!6:cargo error: 1 target failed:"]);
        let flaky =
            "  TRY 1 FAIL [   0.1s] (1/1) x b\n  TRY 2 PASS [   0.1s] (1/1) x b\n     Summary [   0.1s] 1 test run: 1 passed (1 flaky)\n";
        assert_eq!(told(flaky), ["+2:x b"]);
        let one = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed;\n\n";
        assert_eq!(
            told(&format!("{one}error: test failed, to rerun pass `--lib`\n"))[1..],
            ["!6:cargo error: test failed, to rerun pass `--lib`"]
        );
        assert_eq!(
            told(&format!("{one}     Running tests/x.rs (target/x)\n"))[1..],
            ["!6:tests/x.rs (target/x) it began, and never ended"]
        );
        let go = "{\"Action\":\"output\",\"Package\":\"p\",\"Test\":\"T\",\"Output\":\"    a_test.go:3: no\\n\"}\n{\"Action\":\"fail\",\"Package\":\"p\",\"Test\":\"T\"}\n{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"U\"}\n{\"Action\":\"fail\",\"Package\":\"p\"}\n{\"Action\":\"fail\",\"Package\":\"q\"}\n";
        assert_eq!(told(go), ["-2:p.T a_test.go:3: no", "+3:p.U", "-5:q"]);
        let libtest = "running 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\nfailures:\n\n---- c stdout ----\nthread 'c' panicked\nassertion failed\n\nfailures:\n    c\n\ntest result: FAILED. 1 passed; 1 failed;\n";
        assert_eq!(told(libtest), ["+2:a::b", "-3:c thread 'c' panicked\nassertion failed"]);
        let nextest = "        PASS [   0.005s] (1/2) krate a::b\n        FAIL [   0.100s] (2/2) krate c\n     Summary [   0.1s] 2 tests run\n        FAIL [   0.100s] (2/2) krate c\n";
        assert_eq!(told(nextest), ["+1:krate a::b", "-2:krate c"]);
        assert!(read("test a ... ok\n").is_err(), "cut off");
        let second = "running 1 test\ntest a ... ok\n\ntest result: ok. 1 passed;\n\nrunning 2 tests\ntest b ... ";
        assert_eq!(told(second), ["+2:a", "!6:test binary 2 tests were to run, and the report tells of 0"]);
        let some = "        PASS [   0.005s] (1/3) krate a\n     Summary [   0.1s] 1/3 tests run: 1 passed\n";
        assert_eq!(told(some), ["+1:krate a", "!2:nextest 1 of 3 tests ran"]);
        assert_eq!(told("{\"Action\":\"run\",\"Package\":\"p\",\"Test\":\"T\"}\n"), ["!1:p.T it began, and never ended"]);
        let begun = "{\"type\":\"suite\",\"event\":\"started\",\"test_count\":3}\n{\"type\":\"test\",\"event\":\"started\",\"name\":\"a\"}\n{\"type\":\"test\",\"event\":\"ok\",\"name\":\"a\"}\n";
        assert_eq!(told(begun), ["+3:a", "!1:a suite it began, and never ended"]);
        let end = |word: &str| format!("{begun}{{\"type\":\"suite\",\"event\":\"{word}\"}}\n");
        assert_eq!(told(&end("ok")), ["+3:a", "!1:a suite it counts 3 tests, and tells of 1"]);
        assert_eq!(told(&end("failed")), ["+3:a", "!1:a suite it failed, and none of its tests says why"]);
        let hangs = "{\"type\":\"test\",\"event\":\"started\",\"name\":\"b\"}\n";
        assert_eq!(told(hangs), ["!1:b it began, and never ended"]);
        assert!(read("hello\n").is_err());
    }
}
