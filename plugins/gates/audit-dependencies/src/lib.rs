//! Finds known vulnerabilities in what lock files name, in an advisory database in OSV form that the operator gives
//! (`--data advisories=PATH`). Nothing is fetched: how old the database is, is said, and can be limited.

mod advisories;
mod locks;

use std::path::Path;

use advisories::{Advisory, Database, Grade, Wanted, is_comparable};
use locks::{Ecosystem, Lock, Package};
use sandhog_guest::{Decision, Failure, Finding, Metric, Severity, Subject, Verdict, invalid_input, permanent};

sandhog_guest::gate!(check);

/// Where the database lies.
const DATABASE: &str = "/data/advisories";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// How old the database may be, in days or as "30d".
    maximum_age: Option<Age>,
    /// What an advisory counts as that says nothing of its severity.
    on_unknown_severity: OnUnknown,
    /// Whether advisories about unmaintained and unsound packages are told.
    informational: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self { maximum_age: None, on_unknown_severity: OnUnknown::Fail, informational: true }
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Age {
    Days(i64),
    Text(String),
}

impl Age {
    fn days(&self) -> Result<i64, Failure> {
        let days = match self {
            Self::Days(days) => Some(*days),
            Self::Text(text) => {
                let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
                let factor = match unit {
                    "d" | "" => 1,
                    "w" => 7,
                    _ => 0,
                };
                number.parse::<i64>().ok().map(|number| number * factor)
            }
        };
        days.filter(|days| *days > 0).ok_or_else(|| invalid_input("`maximum_age` must be a span such as \"30d\" or \"4w\""))
    }
}

#[derive(serde::Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum OnUnknown {
    /// As the worst: whatever the threshold is, it rejects.
    Fail,
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl OnUnknown {
    fn severity(self) -> Severity {
        match self {
            Self::Fail | Self::Critical => Severity::Critical,
            Self::High => Severity::High,
            Self::Medium => Severity::Medium,
            Self::Low => Severity::Low,
            Self::Info => Severity::Info,
        }
    }
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let params = &subject.params;
    let mut findings = Vec::new();
    let mut all: Vec<(&str, Lock)> = Vec::new();
    for file in &subject.files {
        let bytes = subject.read(&file.path)?;
        let text = String::from_utf8_lossy(&bytes);
        if locks::is_other(&file.path) {
            let message = "lock files of this kind are not read here: nobody has looked up what it names";
            findings.push(Finding::new("not-read", Severity::Low, message).in_file(&file.path));
            continue;
        }
        match locks::read(&file.path, &text) {
            Ok(Some(lock)) => all.push((&file.path, lock)),
            Ok(None) => findings.push(unread(&file.path, "its name is not that of a lock file")),
            Err(reason) => findings.push(unread(&file.path, &reason)),
        }
    }
    let wanted: Wanted = all.iter().flat_map(|(_, lock)| lock.packages.iter().map(|package| key(lock.ecosystem, package))).collect();
    let database = Database::read(Path::new(DATABASE), &wanted)
        .map_err(|reason| permanent(format!("the advisory database does not read: {reason}")))?;
    if database.count == 0 {
        return Err(permanent("the advisory database is empty: there is no advisory in it"));
    }
    let date = database.modified.get(..10).unwrap_or(&database.modified);
    if let Some(age) = &params.maximum_age {
        let days = age.days()?;
        let today = std::fs::read_to_string("/data/today/date").map_err(|error| permanent(format!("the day is not known: {error}")))?;
        let old = day_number(&today).zip(day_number(date)).map(|(today, date)| today - date);
        let old = old.ok_or_else(|| permanent(format!("the date of the advisory database does not read: {date:?}")))?;
        if old > days {
            return Err(permanent(format!("the advisory database is of {date}, {old} days old, and `maximum_age` is {days} days")));
        }
    }
    let mut packages = 0;
    for (path, lock) in &all {
        packages += lock.packages.iter().filter(|package| !package.version.is_empty()).count();
        if !lock.packages.is_empty() && !database.ecosystems.contains(&lock.ecosystem) {
            let message = "the advisory database has nothing about this ecosystem, so that nobody has looked";
            let finding = Finding::new("no-advisories", Severity::High, message).in_file(*path);
            findings.push(finding.suggest("give a database that has, or leave this file out of the gate's `files`"));
        }
        findings.extend(nothing_pinned(path, lock));
        audit(path, lock, &database, params, &mut findings);
    }
    let rejects = findings.iter().any(|finding| finding.severity >= Severity::Medium);
    let summary = format!("{packages} packages against {} advisories, the newest of {date}", database.count);
    let metric = |name: &str, value: usize| Metric { name: name.to_owned(), value: value as f64, unit: String::new() };
    Ok(Verdict {
        decision: if rejects { Decision::Fail } else { Decision::Pass },
        findings,
        metrics: vec![metric("packages", packages), metric("advisories", database.count)],
        summary,
    })
}

fn unread(path: &str, reason: &str) -> Finding {
    Finding::new("unreadable-lock-file", Severity::High, format!("the lock file does not read: {reason}")).in_file(path)
}

fn key(ecosystem: Ecosystem, package: &Package) -> (Ecosystem, String) {
    (ecosystem, ecosystem.canonical(&package.name))
}

/// What is known of the packages of one lock file.
fn audit(path: &str, lock: &Lock, database: &Database, params: &Params, findings: &mut Vec<Finding>) {
    for (place, package) in lock.packages.iter().enumerate().filter(|(_, package)| !package.version.is_empty()) {
        let key = key(lock.ecosystem, package);
        let hits: Vec<(&Advisory, Grade, Option<String>)> = database
            .by_package
            .get(&key)
            .into_iter()
            .flatten()
            .filter_map(|advisory| {
                advisory.hits(&key, &package.version).map(|(affected, fixed)| (advisory, advisory.grade(affected), fixed))
            })
            .collect();
        for group in merged(hits) {
            findings.extend(finding(path, lock, place, &group, params));
        }
    }
    let other = lock.packages.iter().filter(|package| !package.version.is_empty() && !is_comparable(lock.ecosystem, &package.version));
    let other = other.map(|package| (package.name.clone(), package.line));
    for (name, line) in lock.unpinned.iter().cloned().chain(other) {
        let message = format!("{name} has no version of a registry here, so nobody can say whether it is vulnerable");
        let finding = Finding::new("unpinned", Severity::Low, message).at(path, line);
        findings.push(finding.suggest("pin it, or check the lock file that your tool makes"));
    }
}

/// A file that names packages, and none of them so that it could be looked up.
fn nothing_pinned(path: &str, lock: &Lock) -> Option<Finding> {
    let is_so = lock.packages.iter().all(|package| package.version.is_empty()) && !lock.unpinned.is_empty();
    let message = "not one of its packages is pinned, so that nobody has looked up any";
    let suggestion = "pin them (pip-compile, pip freeze, uv lock), or leave this file out of the gate's `files`";
    is_so.then(|| Finding::new("nothing-pinned", Severity::Medium, message).in_file(path).suggest(suggestion))
}

type Hit<'a> = (&'a Advisory, Grade, Option<String>);

/// Advisories about the same thing, of several databases, as one.
fn merged(mut hits: Vec<Hit<'_>>) -> Vec<Vec<Hit<'_>>> {
    // The database of the ecosystem itself first, then by name.
    hits.sort_by_key(|(advisory, ..)| (advisory.id.starts_with("GHSA-") || advisory.id.starts_with("CVE-"), advisory.id.clone()));
    let mut groups: Vec<Vec<Hit<'_>>> = Vec::new();
    for hit in hits {
        let names = |advisory: &Advisory| std::iter::once(advisory.id.clone()).chain(advisory.aliases.iter().cloned()).collect::<Vec<_>>();
        let own = names(hit.0);
        match groups.iter_mut().find(|group| group.iter().any(|(other, ..)| names(other).iter().any(|name| own.contains(name)))) {
            Some(group) => group.push(hit),
            None => groups.push(vec![hit]),
        }
    }
    groups
}

fn finding(path: &str, lock: &Lock, place: usize, group: &[Hit<'_>], params: &Params) -> Option<Finding> {
    let package = &lock.packages[place];
    let (advisory, ..) = group.first()?;
    let known = group.iter().filter_map(|(_, grade, _)| match grade {
        Grade::Known(severity) => Some(*severity),
        Grade::Informational(_) | Grade::Unknown => None,
    });
    let informational = group.iter().find_map(|(_, grade, _)| match grade {
        Grade::Informational(severity) => Some(*severity),
        Grade::Known(_) | Grade::Unknown => None,
    });
    let (severity, note) = match (known.max(), informational) {
        (Some(severity), _) => (severity, ""),
        (None, Some(_)) if !params.informational => return None,
        (None, Some(severity)) => (severity, ""),
        (None, None) => (params.on_unknown_severity.severity(), " (its severity is not known)"),
    };
    let mut aliases: Vec<&str> = group
        .iter()
        .flat_map(|(other, ..)| std::iter::once(&other.id).chain(&other.aliases))
        .map(String::as_str)
        .filter(|id| *id != advisory.id)
        .collect();
    aliases.sort_unstable();
    aliases.dedup();
    let also = if aliases.is_empty() { String::new() } else { format!(" ({})", aliases.join(", ")) };
    let way = lock.path(place);
    let by = if way.len() > 1 { format!("; it comes in by {}", way.join(" > ")) } else { String::new() };
    let summary =
        group.iter().map(|(other, ..)| other.summary.as_str()).find(|summary| !summary.is_empty()).unwrap_or("a known vulnerability");
    let message = format!("{} {}: {summary}{note}{also}{by}", package.name, package.version);
    let fixed = group.iter().find_map(|(_, _, fixed)| fixed.as_ref());
    let suggestion = match fixed {
        Some(fixed) => format!("upgrade {} to {fixed} or later", package.name),
        None => "no fixed version is known".to_owned(),
    };
    Some(Finding::new(&advisory.id, severity, message).at(path, package.line).suggest(suggestion).help(advisory.url()))
}

/// The number of a day `2027-01-31`, counted from some day on.
fn day_number(text: &str) -> Option<i64> {
    let mut parts = text.trim().splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    // Days from civil, after Howard Hinnant's chrono-compatible algorithms.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted() {
        let between = |a: &str, b: &str| day_number(b).zip(day_number(a)).map(|(b, a)| b - a);
        assert_eq!(between("2024-02-28", "2024-03-01"), Some(2));
        assert_eq!(between("2025-12-31", "2026-01-01"), Some(1));
        assert_eq!(between("2000-01-01", "2026-01-01"), Some(9_497));
        assert_eq!(day_number("soon"), None);
    }
}
