//! Advisories in OSV form (<https://ossf.github.io/osv-schema/>): read one by one, so that a database of any size takes little
//! memory; what names none of the wanted packages is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr as _;

use pep440_rs::Version as PythonVersion;
use semver::Version;
use serde::Deserialize;

use crate::locks::Ecosystem;

/// The largest advisory that is read, in bytes.
const ADVISORY_BYTES_MAX: u64 = 16 << 20;

/// One advisory, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Advisory {
    pub id: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(default)]
    pub withdrawn: Option<String>,
    #[serde(default)]
    pub summary: String,
    #[serde(default)]
    severity: Vec<Score>,
    #[serde(default)]
    pub affected: Vec<Affected>,
    #[serde(default)]
    database_specific: serde_json::Value,
}

#[derive(Debug, Clone, Deserialize)]
struct Score {
    #[serde(rename = "type")]
    kind: String,
    score: String,
}

/// One package that an advisory is about.
#[derive(Debug, Clone, Deserialize)]
pub struct Affected {
    pub package: Option<Named>,
    #[serde(default)]
    severity: Vec<Score>,
    #[serde(default)]
    ranges: Vec<Range>,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    ecosystem_specific: serde_json::Value,
    #[serde(default)]
    database_specific: serde_json::Value,
}

/// A package's name in an advisory.
#[derive(Debug, Clone, Deserialize)]
pub struct Named {
    pub ecosystem: String,
    pub name: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Range {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Event {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
}

/// Which packages are wanted, by ecosystem and canonical name.
pub type Wanted = BTreeSet<(Ecosystem, String)>;

/// The advisories of a database about the packages that are wanted, by ecosystem and canonical name.
#[derive(Debug, Default)]
pub struct Database {
    pub by_package: BTreeMap<(Ecosystem, String), Vec<Advisory>>,
    /// How many advisories there are.
    pub count: usize,
    /// The ecosystems that they are about.
    pub ecosystems: BTreeSet<Ecosystem>,
    /// When one of them was changed last: how old the database is at least. Empty when there are none.
    pub modified: String,
}

impl Database {
    /// Reads a database: JSON, lines of JSON, the same compressed by gzip, an archive of JSON files, or a folder of these.
    ///
    /// # Errors
    /// What is wrong with it, with file and line. A database that is damaged in one place is not used at all.
    pub fn read(folder: &Path, wanted: &Wanted) -> Result<Self, String> {
        let mut database = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            for entry in entries {
                let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    database.add_file(&path, wanted)?;
                }
            }
        }
        Ok(database)
    }

    fn add_file(&mut self, path: &Path, wanted: &Wanted) -> Result<(), String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let cannot = |error: std::io::Error| format!("{name}: {error}");
        let open = || std::fs::File::open(path).map_err(cannot);
        let mut head = [0; 2];
        let length = open()?.read(&mut head).map_err(cannot)?;
        let head = &head[..length];
        if head == b"PK" {
            // An archive is read from its end, so all of it is wanted.
            let bytes = std::fs::read(path).map_err(cannot)?;
            let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).map_err(|error| format!("{name}: {error}"))?;
            for at in 0..archive.len() {
                let entry = archive.by_index(at).map_err(|error| format!("{name}: {error}"))?;
                let inner = entry.name().map_err(|error| format!("{name}: {error}"))?.into_owned();
                if inner.ends_with(".json") {
                    let mut text = String::new();
                    entry.take(ADVISORY_BYTES_MAX).read_to_string(&mut text).map_err(|error| format!("{name}: {inner}: {error}"))?;
                    self.add(&text, wanted).map_err(|error| format!("{name}: {inner}: {error}"))?;
                }
            }
            return Ok(());
        }
        let mut reader: Box<dyn BufRead> = if head == [0x1f, 0x8b] {
            Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(open()?)))
        } else {
            Box::new(BufReader::new(open()?))
        };
        let first = reader.fill_buf().map_err(cannot)?;
        if first.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Ok(()); // a README beside them
        }
        if name.trim_end_matches(".gz").ends_with(".json") {
            let mut text = String::new();
            reader.read_to_string(&mut text).map_err(cannot)?;
            return self.add(&text, wanted).map_err(|error| format!("{name}: {error}"));
        }
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = reader
                .by_ref()
                .take(ADVISORY_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(|error| format!("{name}: line {number}: {error}"))?;
            if read == 0 {
                break;
            }
            let text = std::str::from_utf8(&line).map_err(|error| format!("{name}: line {number}: {error}"))?;
            if !text.trim().is_empty() {
                self.add(text, wanted).map_err(|error| format!("{name}: line {number}: {error}"))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str, wanted: &Wanted) -> Result<(), String> {
        /// What is looked at first: most advisories are about something else.
        #[derive(Deserialize)]
        struct Glance {
            modified: String,
            #[serde(default)]
            affected: Vec<Of>,
        }
        #[derive(Deserialize)]
        struct Of {
            package: Option<Named>,
        }
        let glance: Glance = serde_json::from_str(text).map_err(|error| error.to_string())?;
        self.count += 1;
        if glance.modified > self.modified {
            self.modified = glance.modified;
        }
        let all: BTreeSet<_> = glance.affected.into_iter().filter_map(|of| key(&of.package?)).collect();
        self.ecosystems.extend(all.iter().map(|(ecosystem, _)| *ecosystem));
        let keys: BTreeSet<_> = all.into_iter().filter(|key| wanted.contains(key)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let advisory: Advisory = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if advisory.withdrawn.is_none() {
            for key in keys {
                self.by_package.entry(key).or_default().push(advisory.clone());
            }
        }
        Ok(())
    }
}

/// What a package of an advisory is known by; none where its ecosystem has no lock file that is read.
pub fn key(named: &Named) -> Option<(Ecosystem, String)> {
    let ecosystem = match named.ecosystem.split(':').next()? {
        "crates.io" => Ecosystem::CratesIo,
        "npm" => Ecosystem::Npm,
        "PyPI" => Ecosystem::PyPi,
        "Go" => Ecosystem::Go,
        _ => return None,
    };
    Some((ecosystem, ecosystem.canonical(&named.name)))
}

/// How bad an advisory says that it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grade {
    /// Computed from its CVSS vector, or said in a word.
    Known(sandhog_guest::Severity),
    /// About a package that nobody maintains, or that is unsound, or a notice: no vulnerability by itself.
    Informational(sandhog_guest::Severity),
    /// It does not say.
    Unknown,
}

impl Advisory {
    /// How bad it is for one of its packages: by the highest of its CVSS vectors (versions 3 and 4), else by a word of its database.
    pub fn grade(&self, affected: &Affected) -> Grade {
        use sandhog_guest::Severity;
        match affected.database_specific.get("informational").and_then(|kind| kind.as_str()) {
            Some("unsound") => return Grade::Informational(Severity::Low),
            Some(_) => return Grade::Informational(Severity::Info),
            None => {}
        }
        let scores = affected.severity.iter().chain(&self.severity).filter(|score| score.kind.starts_with("CVSS"));
        let computed = scores.filter_map(|score| cvss::Cvss::from_str(&score.score).ok()).map(|cvss| match cvss.severity() {
            cvss::Severity::None => Severity::Info,
            cvss::Severity::Low => Severity::Low,
            cvss::Severity::Medium => Severity::Medium,
            cvss::Severity::High => Severity::High,
            cvss::Severity::Critical => Severity::Critical,
        });
        if let Some(severity) = computed.max() {
            return Grade::Known(severity);
        }
        let words = [&affected.database_specific, &affected.ecosystem_specific, &self.database_specific];
        let word = words.into_iter().find_map(|specific| specific.get("severity")?.as_str().map(str::to_ascii_uppercase));
        match word.as_deref() {
            Some("LOW") => Grade::Known(Severity::Low),
            Some("MODERATE" | "MEDIUM") => Grade::Known(Severity::Medium),
            Some("HIGH" | "IMPORTANT") => Grade::Known(Severity::High),
            Some("CRITICAL") => Grade::Known(Severity::Critical),
            _ => Grade::Unknown,
        }
    }

    /// The part of it that is about a package, where that version is affected; with the first version that is not any more.
    pub fn hits(&self, key_of: &(Ecosystem, String), version: &str) -> Option<(&Affected, Option<String>)> {
        self.affected
            .iter()
            .filter(|affected| affected.package.as_ref().and_then(key).as_ref() == Some(key_of))
            .find_map(|affected| affected.hits(key_of.0, version))
    }

    /// The page about it.
    pub fn url(&self) -> String {
        match self.id.strip_prefix("RUSTSEC-") {
            Some(_) => format!("https://rustsec.org/advisories/{}.html", self.id),
            None => format!("https://osv.dev/vulnerability/{}", self.id),
        }
    }
}

/// A version that two of one ecosystem are compared by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Comparable {
    Semantic(Version),
    Python(PythonVersion),
}

/// Whether a version can be compared with those of advisories.
pub fn is_comparable(ecosystem: Ecosystem, text: &str) -> bool {
    comparable(ecosystem, text).is_some()
}

fn comparable(ecosystem: Ecosystem, text: &str) -> Option<Comparable> {
    match ecosystem {
        Ecosystem::PyPi => PythonVersion::from_str(text).ok().map(Comparable::Python),
        Ecosystem::CratesIo | Ecosystem::Npm | Ecosystem::Go => {
            let text = text.trim_start_matches('v');
            // Advisories leave out parts that are zero, as in "1" or "1.2".
            let end = text.find(['-', '+']).unwrap_or(text.len());
            let missing = 2_usize.saturating_sub(text[..end].matches('.').count());
            let whole = format!("{}{}{}", &text[..end], ".0".repeat(missing), &text[end..]);
            // What was built does not count (SemVer 2.0.0, section 10).
            Version::parse(whole.split('+').next().unwrap_or_default()).ok().map(Comparable::Semantic)
        }
    }
}

impl Affected {
    /// As the schema's evaluation says: a version is affected where it is named, or where a range has it.
    fn hits(&self, ecosystem: Ecosystem, version: &str) -> Option<(&Self, Option<String>)> {
        let own = comparable(ecosystem, version);
        let is_named = self.versions.iter().any(|named| named == version || (own.is_some() && comparable(ecosystem, named) == own));
        let ranges: Vec<&Range> = self.ranges.iter().filter(|range| range.kind != "GIT").collect();
        let Some(own) = own else {
            // A version that cannot be compared is affected where all of them are.
            let is_all =
                |range: &&Range| range.events.iter().all(|event| event.introduced.as_deref() == Some("0")) && !range.events.is_empty();
            let all = (ranges.is_empty() && self.versions.is_empty()) || ranges.iter().any(is_all);
            return (is_named || all).then_some((self, None));
        };
        if ranges.is_empty() && self.versions.is_empty() {
            return Some((self, None)); // all of it
        }
        let mut fixed: Option<(Comparable, String)> = None;
        let mut is_in = is_named;
        for range in ranges {
            let mut events: Vec<(Option<Comparable>, &Event)> = Vec::new();
            for event in &range.events {
                let text = event.introduced.as_ref().or(event.fixed.as_ref()).or(event.last_affected.as_ref());
                match text.map(|text| (text.as_str(), comparable(ecosystem, text))) {
                    Some(("0", _)) => events.push((None, event)), // before everything
                    Some((_, Some(version))) => events.push((Some(version), event)),
                    Some((_, None)) | None => {}
                }
            }
            events.sort_by(|(a, _), (b, _)| a.cmp(b));
            let mut open = false;
            for (at, event) in &events {
                let reached = at.as_ref().is_none_or(|at| *at <= own);
                if event.introduced.is_some() && reached {
                    open = true;
                } else if event.fixed.is_some() && reached {
                    open = false;
                } else if event.last_affected.is_some() && at.as_ref().is_some_and(|at| *at < own) {
                    open = false;
                }
            }
            is_in |= open;
            let next = events.into_iter().filter(|(at, event)| event.fixed.is_some() && at.as_ref().is_some_and(|at| *at > own));
            if let Some((Some(at), event)) = next.into_iter().next()
                && (open || is_named)
                && fixed.as_ref().is_none_or(|(known, _)| at < *known)
            {
                fixed = event.fixed.clone().map(|text| (at, text));
            }
        }
        is_in.then_some((self, fixed.map(|(_, text)| text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_guest::Severity;

    fn advisory(affected: &str) -> Advisory {
        serde_json::from_str(&format!(r#"{{"id": "X-1", "modified": "2026-01-01T00:00:00Z", "affected": [{affected}]}}"#)).expect("reads")
    }

    fn hit(advisory: &Advisory, ecosystem: Ecosystem, version: &str) -> Option<Option<String>> {
        advisory.hits(&(ecosystem, "p".to_owned()), version).map(|(_, fixed)| fixed)
    }

    #[test]
    fn ranges_are_evaluated_as_the_schema_says() {
        let events = r#"[{"introduced": "0"}, {"fixed": "1.2.0"}, {"introduced": "2.0.0-0"}, {"fixed": "2.1.3"}, {"introduced": "3"}, {"last_affected": "3.4.0"}]"#;
        let one = advisory(&format!(
            r#"{{"package": {{"ecosystem": "crates.io", "name": "p"}}, "ranges": [{{"type": "SEMVER", "events": {events}}}]}}"#
        ));
        for (version, expected) in [
            ("0.0.1", Some(Some("1.2.0"))),
            ("1.1.9", Some(Some("1.2.0"))),
            ("1.2.0", None),
            ("1.9.0", None),
            ("2.0.0-alpha", Some(Some("2.1.3"))),
            ("2.1.2", Some(Some("2.1.3"))),
            ("2.1.3", None),
            ("2.1.3+built", None),
            ("3.4.0", Some(None)),
            ("3.4.1", None),
        ] {
            assert_eq!(hit(&one, Ecosystem::CratesIo, version), expected.map(|fixed| fixed.map(str::to_owned)), "{version}");
        }
        assert_eq!(hit(&one, Ecosystem::Npm, "0.0.1"), None, "of another ecosystem");
        assert_eq!(hit(&one, Ecosystem::CratesIo, "git+ssh://x"), None, "not all are affected");
        let all = advisory(
            r#"{"package": {"ecosystem": "crates.io", "name": "p"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]}"#,
        );
        assert_eq!(hit(&all, Ecosystem::CratesIo, "git+ssh://x"), Some(None), "all are, whatever this one is");
    }

    #[test]
    fn python_compares_by_its_own_rules_and_by_names() {
        let events = r#"[{"introduced": "1.0"}, {"fixed": "1.10"}]"#;
        let one = advisory(&format!(
            r#"{{"package": {{"ecosystem": "PyPI", "name": "P"}}, "ranges": [{{"type": "ECOSYSTEM", "events": {events}}}], "versions": ["0.5.post1"]}}"#
        ));
        for (version, is_in) in [("1.9", true), ("1.10", false), ("1.10rc1", true), ("1.0.0", true), ("0.5.post1", true), ("0.5", false)] {
            assert_eq!(hit(&one, Ecosystem::PyPi, version).is_some(), is_in, "{version}");
        }
        let all = advisory(r#"{"package": {"ecosystem": "PyPI", "name": "p"}}"#);
        assert_eq!(hit(&all, Ecosystem::PyPi, "7"), Some(None));
    }

    #[test]
    fn severity_is_computed_from_vectors_before_words_are_believed() {
        let graded = |severity: &str, specific: &str| {
            let text = format!(
                r#"{{"id": "X", "modified": "", "severity": [{severity}], "affected": [{{"package": {{"ecosystem": "npm", "name": "p"}}, "database_specific": {specific}}}]}}"#
            );
            let advisory: Advisory = serde_json::from_str(&text).expect("reads");
            advisory.grade(&advisory.affected[0])
        };
        let vector = |text: &str| format!(r#"{{"type": "CVSS_V3", "score": "{text}"}}"#);
        // Examples of the CVSS 3.1 and 4.0 specifications' own documents.
        assert_eq!(graded(&vector("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"), "{}"), Grade::Known(Severity::Critical));
        assert_eq!(graded(&vector("CVSS:3.0/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N"), r#"{"severity": "HIGH"}"#), Grade::Known(Severity::Low));
        let four = r#"{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}"#;
        assert_eq!(graded(four, "{}"), Grade::Known(Severity::Critical));
        assert_eq!(graded("", r#"{"severity": "MODERATE"}"#), Grade::Known(Severity::Medium));
        assert_eq!(graded(&vector("nonsense"), "{}"), Grade::Unknown);
        assert_eq!(graded("", r#"{"informational": "unmaintained"}"#), Grade::Informational(Severity::Info));
    }
}
