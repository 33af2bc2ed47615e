//! Judges licences: those that lock files and bills of materials name for what a project depends on, and those of its own manifests. What
//! is allowed is said by SPDX's names; an expression such as `MIT OR GPL-3.0` passes where one of its choices is allowed.

use sandhog_guest::{Failure, Finding, Severity, Subject, Verdict, invalid_input};
use serde_json::Value;
use spdx::{Expression, ParseMode};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// The licences that are allowed, by SPDX's names; a licence with an exception is named with it: "Apache-2.0 WITH LLVM-exception".
    allow: Vec<String>,
    /// Packages that are as they are, whatever their licence.
    exceptions: Vec<String>,
    /// Whether a package that names no licence rejects.
    on_unknown: OnUnknown,
}

impl Default for Params {
    fn default() -> Self {
        Self { allow: Vec::new(), exceptions: Vec::new(), on_unknown: OnUnknown::Fail }
    }
}

#[derive(serde::Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum OnUnknown {
    Fail,
    Report,
    Ignore,
}

/// A package, and the licence that something says it has.
struct Licensed {
    package: String,
    licence: Option<String>,
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let params = &subject.params;
    if params.allow.is_empty() {
        return Err(invalid_input("`allow` is empty: name the licences that are allowed, such as [\"MIT\", \"Apache-2.0\"]"));
    }
    for name in &params.allow {
        let base = name.split(" WITH ").next().unwrap_or(name);
        if spdx::license_id(base).is_none() {
            return Err(invalid_input(format!("`allow`: {base:?} is no licence of SPDX's list")));
        }
    }
    let (mut findings, mut count) = (Vec::new(), 0);
    for file in &subject.files {
        let text = String::from_utf8_lossy(&subject.read(&file.path)?).into_owned();
        match read(&file.path, &text) {
            Ok(packages) => {
                count += packages.len();
                findings.extend(packages.iter().filter_map(|package| judge(package, &file.path, &text, params)));
            }
            Err(reason) => {
                findings.push(Finding::new("unreadable", Severity::High, format!("it does not read: {reason}")).in_file(&file.path))
            }
        }
    }
    let summary = format!("{count} packages");
    Ok(Verdict { summary, ..Verdict::from_findings(findings) })
}

fn judge(package: &Licensed, path: &str, text: &str, params: &Params) -> Option<Finding> {
    if params.exceptions.contains(&package.package) {
        return None;
    }
    let needle = package.package.rsplit_once('@').map_or(package.package.as_str(), |(name, _)| name);
    let line = text.lines().position(|line| line.contains(needle)).map_or(1, |at| u32::try_from(at + 1).unwrap_or(u32::MAX));
    let Some(licence) = package.licence.as_deref().filter(|licence| !matches!(*licence, "" | "NOASSERTION" | "UNLICENSED")) else {
        let severity = match params.on_unknown {
            OnUnknown::Fail => Severity::High,
            OnUnknown::Report => Severity::Info,
            OnUnknown::Ignore => return None,
        };
        return Some(Finding::new("no-licence", severity, format!("{} names no licence", package.package)).at(path, line));
    };
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(_) => {
            return Some(
                Finding::new("no-spdx", Severity::Medium, format!("{}: {licence:?} is no expression of SPDX", package.package))
                    .at(path, line),
            );
        }
    };
    let allowed = expression.evaluate(|requirement| params.allow.iter().any(|name| *name == requirement.to_string()));
    (!allowed).then(|| {
        Finding::new("licence-not-allowed", Severity::High, format!("{} is under {licence}, which is not allowed", package.package))
            .at(path, line)
    })
}

/// The packages of a file, by its name.
fn read(path: &str, text: &str) -> Result<Vec<Licensed>, String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.ends_with(".toml") {
        let table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
        return Ok(manifest(&table).into_iter().collect());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.get("bomFormat").is_some() {
        return Ok(cyclonedx(&value));
    }
    if value.get("spdxVersion").is_some() {
        return Ok(spdx_document(&value));
    }
    if name == "package.json" {
        let own = value.get("name").and_then(Value::as_str).unwrap_or(".").to_owned();
        let private = value.get("private").and_then(Value::as_bool) == Some(true);
        let licence = value.get("license").and_then(Value::as_str).map(str::to_owned);
        return Ok(if private && licence.is_none() { Vec::new() } else { vec![Licensed { package: own, licence }] });
    }
    let packages = value.get("packages").and_then(Value::as_object).ok_or("it is no lock file of npm 7 or later, CycloneDX or SPDX")?;
    let installed = packages.iter().filter(|(place, entry)| place.contains("node_modules/") && entry.get("link").is_none());
    Ok(installed
        .map(|(place, entry)| {
            let name = place.rsplit_once("node_modules/").map_or(place.as_str(), |(_, name)| name);
            let version = entry.get("version").and_then(Value::as_str).unwrap_or_default();
            Licensed { package: format!("{name}@{version}"), licence: entry.get("license").and_then(Value::as_str).map(str::to_owned) }
        })
        .collect())
}

/// `[package]` of Cargo, `[project]` of Python (PEP 639). One that inherits its licence, or is not published, has none of its own.
fn manifest(table: &toml::Table) -> Option<Licensed> {
    let package = table.get("package").or_else(|| table.get("project"))?.as_table()?;
    let name = package.get("name").and_then(toml::Value::as_str).unwrap_or(".").to_owned();
    let licence = match package.get("license") {
        Some(toml::Value::String(text)) => Some(text.clone()),
        Some(toml::Value::Table(table)) if table.get("workspace").is_some() => return None,
        Some(toml::Value::Table(table)) => table.get("text").and_then(toml::Value::as_str).map(str::to_owned),
        _ => None,
    };
    if licence.is_none() && package.get("publish").and_then(toml::Value::as_bool) == Some(false) {
        return None;
    }
    Some(Licensed { package: name, licence })
}

fn cyclonedx(value: &Value) -> Vec<Licensed> {
    let components: Vec<&Value> = value.get("components").and_then(Value::as_array).into_iter().flatten().collect();
    let inner: Vec<Licensed> = components.iter().flat_map(|component| cyclonedx(component)).collect();
    let own: Vec<Licensed> = components
        .into_iter()
        .map(|component| {
            let word = |field: &str| component.get(field).and_then(Value::as_str).unwrap_or_default();
            let licences: Vec<String> = component
                .get("licenses")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|entry| {
                    let text =
                        entry.get("expression").or_else(|| entry.pointer("/license/id")).or_else(|| entry.pointer("/license/name"))?;
                    text.as_str().map(str::to_owned)
                })
                .collect();
            let licence = match licences.as_slice() {
                [] => None,
                [one] => Some(one.clone()),
                many => Some(many.iter().map(|licence| format!("({licence})")).collect::<Vec<_>>().join(" AND ")),
            };
            Licensed { package: format!("{}@{}", word("name"), word("version")), licence }
        })
        .collect();
    own.into_iter().chain(inner).collect()
}

fn spdx_document(value: &Value) -> Vec<Licensed> {
    let packages = value.get("packages").and_then(Value::as_array).into_iter().flatten();
    packages
        .map(|package| {
            let word = |field: &str| package.get(field).and_then(Value::as_str).filter(|word| *word != "NOASSERTION");
            let licence = word("licenseConcluded").or_else(|| word("licenseDeclared")).map(str::to_owned);
            Licensed { package: format!("{}@{}", word("name").unwrap_or_default(), word("versionInfo").unwrap_or_default()), licence }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<String> {
        let params =
            Params { allow: ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).to_vec(), ..Params::default() };
        let packages = read(path, text).expect("reads");
        packages.iter().filter_map(|package| judge(package, path, text, &params)).map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_choice_that_is_allowed_is_enough_and_all_of_a_sum_is_needed() {
        let manifest = |licence: &str| format!("[package]\nname = \"p\"\nlicense = \"{licence}\"\n");
        for (licence, expected) in [
            ("MIT", None),
            ("GPL-3.0-only OR MIT", None),
            ("MIT/Apache-2.0", None),
            ("Apache-2.0 WITH LLVM-exception", None),
            ("MIT AND GPL-3.0-only", Some("licence-not-allowed")),
            ("GPL-3.0-only", Some("licence-not-allowed")),
            ("my own", Some("no-spdx")),
        ] {
            assert_eq!(rules("Cargo.toml", &manifest(licence)).first().map(String::as_str), expected, "{licence}");
        }
        assert_eq!(rules("Cargo.toml", "[package]\nname = \"p\"\n"), ["no-licence"]);
        assert_eq!(rules("Cargo.toml", "[package]\nname = \"p\"\nlicense.workspace = true\n"), Vec::<String>::new());
        assert_eq!(rules("Cargo.toml", "[workspace]\n"), Vec::<String>::new());
    }

    #[test]
    fn lock_files_and_bills_of_materials_are_read() {
        let npm = r#"{"packages": {"": {"license": "GPL-3.0"}, "node_modules/a": {"version": "1.0.0", "license": "MIT"}, "node_modules/b": {"version": "2.0.0", "license": "AGPL-3.0-only"}}}"#;
        assert_eq!(rules("package-lock.json", npm), ["licence-not-allowed"]);
        let cyclonedx = r#"{"bomFormat": "CycloneDX", "components": [{"name": "a", "version": "1", "licenses": [{"license": {"id": "MIT"}}, {"license": {"id": "GPL-2.0-only"}}]}, {"name": "b", "version": "1"}]}"#;
        assert_eq!(rules("bom.json", cyclonedx), ["licence-not-allowed", "no-licence"]);
        let spdx = r#"{"spdxVersion": "SPDX-2.3", "packages": [{"name": "a", "versionInfo": "1", "licenseConcluded": "NOASSERTION", "licenseDeclared": "MIT"}]}"#;
        assert_eq!(rules("x.spdx.json", spdx), Vec::<String>::new());
    }
}
