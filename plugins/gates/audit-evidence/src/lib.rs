//! Judges reports of `npm audit --json`, `cargo audit --json`, and whatever writes SARIF 2.1.0. They are evidence, not proof: what a report
//! says is what its maker says. One that does not read, or tells of an error of its maker, is no pass.

use sandhog_guest::{Failure, Finding, Severity, Subject, Verdict};
use serde_json::Value;

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let mut findings = Vec::new();
    for file in &subject.files {
        let text = String::from_utf8_lossy(&subject.read(&file.path)?).into_owned();
        let read = serde_json::from_str(&text).map_err(|error| error.to_string()).and_then(|value| read(&value));
        match read {
            Ok(found) => findings
                .extend(found.into_iter().map(|finding| if finding.location.is_none() { finding.in_file(&file.path) } else { finding })),
            Err(reason) => {
                let message = format!("it does not read as a report: {reason}");
                findings.push(Finding::new("unreadable-report", Severity::High, message).in_file(&file.path));
            }
        }
    }
    let summary = format!("{} findings, as their reports say", findings.len());
    Ok(Verdict { summary, ..Verdict::from_findings(findings) })
}

fn read(value: &Value) -> Result<Vec<Finding>, String> {
    if value.get("runs").is_some() {
        return sarif(value);
    }
    if value.get("vulnerabilities").and_then(|found| found.get("list")).is_some() {
        return cargo(value);
    }
    if value.get("auditReportVersion").is_some() || value.get("advisories").is_some() {
        return npm(value);
    }
    if let Some(error) = value.get("error") {
        return Err(format!(
            "it tells of an error: {}",
            ["summary", "message", "code"]
                .iter()
                .find_map(|field| error.get(field)?.as_str())
                .map_or_else(|| error.to_string(), str::to_owned)
        ));
    }
    Err("it is none of SARIF, npm audit and cargo audit".to_owned())
}

fn word<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn severity(text: &str) -> Option<Severity> {
    Some(match text.to_ascii_lowercase().as_str() {
        "critical" => Severity::Critical,
        "high" => Severity::High,
        "moderate" | "medium" => Severity::Medium,
        "low" => Severity::Low,
        "info" | "none" => Severity::Info,
        _ => return None,
    })
}

/// What a CVSS score means, by its specification's own words.
fn of_score(score: f64) -> Severity {
    match score {
        score if score >= 9.0 => Severity::Critical,
        score if score >= 7.0 => Severity::High,
        score if score >= 4.0 => Severity::Medium,
        score if score > 0.0 => Severity::Low,
        _ => Severity::Info,
    }
}

fn npm(value: &Value) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    let objects = |field: &str| value.get(field).and_then(Value::as_object).into_iter().flatten();
    for (package, entry) in objects("vulnerabilities") {
        // A package that is vulnerable by another one has that one's name here.
        for via in entry.get("via").and_then(Value::as_array).into_iter().flatten().filter(|via| via.is_object()) {
            let severity = severity(word(via, "/severity")).ok_or("a vulnerability without a severity")?;
            let url = word(via, "/url");
            let rule = url.rsplit('/').next().filter(|id| !id.is_empty()).unwrap_or("npm-advisory");
            let message = format!("{package} {}: {}", word(via, "/range"), word(via, "/title"));
            let finding = Finding::new(rule, severity, message).help(url);
            findings.push(match entry.get("fixAvailable") {
                Some(Value::Object(fix)) => {
                    let part = |field: &str| fix.get(field).and_then(Value::as_str).unwrap_or_default();
                    finding.suggest(format!("upgrade {} to {}", part("name"), part("version")))
                }
                Some(Value::Bool(true)) => finding.suggest("npm audit fix"),
                _ => finding,
            });
        }
    }
    findings.extend(untold(&objects("vulnerabilities").collect::<Vec<_>>()));
    let counted = value.pointer("/metadata/vulnerabilities/total").and_then(Value::as_u64).unwrap_or(0);
    if counted > 0 && objects("vulnerabilities").next().is_none() && objects("advisories").next().is_none() {
        return Err(format!("it counts {counted} vulnerabilities, and names none"));
    }
    for (id, entry) in objects("advisories") {
        let severity = severity(word(entry, "/severity")).ok_or("an advisory without a severity")?;
        let message = format!("{} {}: {}", word(entry, "/module_name"), word(entry, "/vulnerable_versions"), word(entry, "/title"));
        let finding = Finding::new(format!("npm-{id}"), severity, message).help(word(entry, "/url"));
        findings.push(finding.suggest(word(entry, "/recommendation")));
    }
    Ok(findings)
}

/// Packages that are said to be vulnerable, by no advisory that the report tells of.
fn untold(entries: &[(&String, &Value)]) -> Vec<Finding> {
    let via = |entry: &Value| entry.get("via").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut told: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    loop {
        let before = told.len();
        for (package, entry) in entries {
            if via(entry).iter().any(|via| via.is_object() || via.as_str().is_some_and(|other| told.contains(other))) {
                told.insert(package);
            }
        }
        if told.len() == before {
            break;
        }
    }
    let rest = entries.iter().filter(|(package, _)| !told.contains(package.as_str()));
    rest.map(|(package, entry)| {
        let severity = severity(word(entry, "/severity")).unwrap_or(Severity::High);
        Finding::new("untold-vulnerability", severity, format!("{package} is vulnerable, and the report does not say by what"))
    })
    .collect()
}

fn cargo(value: &Value) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    let list = value.pointer("/vulnerabilities/list").and_then(Value::as_array).ok_or("`vulnerabilities.list` is no list")?;
    if list.is_empty() && value.pointer("/vulnerabilities/found").and_then(Value::as_bool) == Some(true) {
        return Err("it says that there are vulnerabilities, and names none".to_owned());
    }
    let counted = value.pointer("/vulnerabilities/count").and_then(Value::as_u64).unwrap_or(0);
    if counted > list.len() as u64 {
        return Err(format!("it counts {counted} vulnerabilities, and names {}", list.len()));
    }
    for entry in list {
        // cargo audit has no word for how bad it is; half of its advisories have no score at all.
        let message = format!("{} {}: {}", word(entry, "/package/name"), word(entry, "/package/version"), word(entry, "/advisory/title"));
        let patched: Vec<&str> =
            entry.pointer("/versions/patched").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let suggestion =
            if patched.is_empty() { "no fixed version is known".to_owned() } else { format!("upgrade to {}", patched.join(" or ")) };
        let id = word(entry, "/advisory/id");
        findings
            .push(Finding::new(id, Severity::High, message).suggest(suggestion).help(format!("https://rustsec.org/advisories/{id}.html")));
    }
    for (kind, entries) in value.get("warnings").and_then(Value::as_object).into_iter().flatten() {
        for entry in entries.as_array().into_iter().flatten() {
            let message = format!(
                "{} {} is {kind}: {}",
                word(entry, "/package/name"),
                word(entry, "/package/version"),
                word(entry, "/advisory/title")
            );
            let rule = Some(word(entry, "/advisory/id")).filter(|id| !id.is_empty()).unwrap_or(kind);
            findings.push(Finding::new(rule, Severity::Low, message));
        }
    }
    Ok(findings)
}

fn sarif(value: &Value) -> Result<Vec<Finding>, String> {
    let runs = value.get("runs").and_then(Value::as_array).ok_or("`runs` is no list")?;
    let mut findings = Vec::new();
    if word(value, "/version") != "2.1.0" {
        return Err("its version is not 2.1.0".to_owned());
    }
    if runs.is_empty() {
        return Err("there is no run in it".to_owned());
    }
    for run in runs {
        let tool = word(run, "/tool/driver/name");
        if tool.is_empty() {
            return Err("a run without the name of its tool".to_owned());
        }
        for invocation in run.get("invocations").and_then(Value::as_array).into_iter().flatten() {
            if invocation.get("executionSuccessful").and_then(Value::as_bool) == Some(false) {
                findings.push(Finding::new(
                    "tool-failed",
                    Severity::High,
                    format!("{tool} says that it failed, so that its results are not whole"),
                ));
            }
        }
        let rules: Vec<&Value> = run.pointer("/tool/driver/rules").and_then(Value::as_array).into_iter().flatten().collect();
        let results = run.get("results").and_then(Value::as_array);
        for result in results.into_iter().flatten() {
            findings.extend(sarif_result(result, &rules));
        }
        if results.is_none() {
            findings.push(Finding::new(
                "tool-failed",
                Severity::High,
                format!("{tool} has no `results`: it was not asked for any, or did not get so far"),
            ));
        }
    }
    Ok(findings)
}

fn sarif_result(result: &Value, rules: &[&Value]) -> Option<Finding> {
    let counts = |suppression: &Value| !matches!(word(suppression, "/status"), "rejected" | "underReview");
    let suppressed = result.get("suppressions").and_then(Value::as_array).is_some_and(|all| all.iter().any(counts));
    if suppressed || word(result, "/kind") == "pass" {
        return None;
    }
    let by_index = result.get("ruleIndex").and_then(Value::as_u64).and_then(|index| rules.get(usize::try_from(index).ok()?));
    let id =
        Some(word(result, "/ruleId")).filter(|id| !id.is_empty()).or_else(|| by_index.map(|rule| word(rule, "/id"))).unwrap_or("result");
    let rule = by_index.copied().or_else(|| rules.iter().copied().find(|rule| word(rule, "/id") == id));
    let scored = rule.and_then(|rule| word(rule, "/properties/security-severity").parse::<f64>().ok()).map(of_score);
    let level = Some(word(result, "/level"))
        .filter(|level| !level.is_empty())
        .or_else(|| rule.map(|rule| word(rule, "/defaultConfiguration/level")));
    let severity = scored.unwrap_or(match level {
        Some("error") => Severity::High,
        Some("note") => Severity::Low,
        Some("none") => Severity::Info,
        _ => Severity::Medium,
    });
    let finding = Finding::new(id, severity, word(result, "/message/text"));
    let place = result.pointer("/locations/0/physicalLocation");
    let path = place.map(|place| word(place, "/artifactLocation/uri")).filter(|path| !path.is_empty());
    let number = |field: &str| {
        place
            .and_then(|place| place.pointer(&format!("/region/{field}"))?.as_u64())
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| *number > 0)
    };
    let finding = match (path, number("startLine")) {
        (Some(path), Some(line)) => {
            let column = number("startColumn").unwrap_or(1);
            let end = (number("endLine").unwrap_or(line).max(line), number("endColumn").unwrap_or(column));
            finding.spanning(path.trim_start_matches("file://").trim_start_matches("./"), (line, column), end)
        }
        (Some(path), None) => finding.in_file(path.trim_start_matches("./")),
        (None, _) => finding,
    };
    Some(match rule.map(|rule| word(rule, "/helpUri")).filter(|uri| !uri.is_empty()) {
        Some(uri) => finding.help(uri),
        None => finding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let value = serde_json::from_str(text).expect("JSON");
        read(&value).expect("reads").iter().map(|finding| format!("{:?} {} {}", finding.severity, finding.rule, finding.message)).collect()
    }

    #[test]
    fn each_tool_s_report_is_read() {
        let npm = r#"{"auditReportVersion": 2, "vulnerabilities": {"a": {"via": ["b"], "fixAvailable": true}, "b": {"via": [{"title": "T", "url": "https://github.com/advisories/GHSA-x", "severity": "moderate", "range": "<2"}], "fixAvailable": {"name": "a", "version": "3.0.0"}}}}"#;
        assert_eq!(told(npm), ["Severity::Medium GHSA-x b <2: T"]);
        let untold = r#"{"auditReportVersion": 2, "vulnerabilities": {"a": {"severity": "high", "via": ["b"]}, "b": {"severity": "low", "via": ["a"]}}}"#;
        assert_eq!(told(untold).len(), 2, "each by the other, and neither by an advisory");
        let cargo = r#"{"vulnerabilities": {"found": true, "list": [{"advisory": {"id": "RUSTSEC-1", "title": "T"}, "package": {"name": "p", "version": "1.0.0"}, "versions": {"patched": [">=2"]}}]}, "warnings": {"unmaintained": [{"package": {"name": "q", "version": "1.0.0"}, "advisory": {"id": "RUSTSEC-2", "title": "old"}}]}}"#;
        assert_eq!(told(cargo), ["Severity::High RUSTSEC-1 p 1.0.0: T", "Severity::Low RUSTSEC-2 q 1.0.0 is unmaintained: old"]);
        let sarif = r#"{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t", "rules": [{"id": "R", "properties": {"security-severity": "9.1"}}]}}, "invocations": [{"executionSuccessful": false}], "results": [{"ruleId": "R", "message": {"text": "m"}}, {"ruleId": "S", "level": "note", "message": {"text": "n"}}, {"ruleId": "S", "message": {"text": "o"}, "suppressions": [{"kind": "inSource"}]}]}]}"#;
        assert_eq!(
            told(sarif),
            [
                "Severity::High tool-failed t says that it failed, so that its results are not whole",
                "Severity::Critical R m",
                "Severity::Low S n"
            ]
        );
        assert_eq!(told(r#"{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}}]}"#).len(), 1, "no results are not none");
        for bad in [
            "{}",
            "[]",
            r#"{"version": "2.1.0", "runs": []}"#,
            r#"{"vulnerabilities": {"found": true, "list": []}}"#,
            r#"{"vulnerabilities": {"found": true, "count": 2, "list": [{"advisory": {"id": "R"}}]}}"#,
            r#"{"error": {"summary": "no lock file"}}"#,
            r#"{"runs": [{}]}"#,
        ] {
            assert!(read(&serde_json::from_str(bad).expect("JSON")).is_err(), "{bad}");
        }
    }
}
