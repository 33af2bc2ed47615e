//! Lock files: which packages they name, in which versions, and why each is there.

use std::collections::{BTreeMap, VecDeque};

use saphyr::{LoadableYamlNode as _, Yaml};

/// Where a package comes from, by the names of OSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecosystem {
    CratesIo,
    Npm,
    PyPi,
    Go,
}

impl Ecosystem {
    /// A package's name, as two spellings of one are compared.
    pub fn canonical(self, name: &str) -> String {
        match self {
            // PEP 503
            Self::PyPi => {
                let mut canonical = String::with_capacity(name.len());
                for letter in name.chars() {
                    let letter = if matches!(letter, '-' | '_' | '.') { '-' } else { letter.to_ascii_lowercase() };
                    if !(letter == '-' && canonical.ends_with('-')) {
                        canonical.push(letter);
                    }
                }
                canonical
            }
            Self::CratesIo | Self::Npm | Self::Go => name.to_owned(),
        }
    }
}

/// One package of a lock file.
#[derive(Debug, Clone)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// The line of its entry, counted from 1.
    pub line: u32,
    /// The packages that it needs, by their places in the list.
    pub needs: Vec<usize>,
}

/// Lock files that tools write, and that nobody reads here.
const OTHERS: &[&str] = &[
    "bun.lock",
    "composer.lock",
    "conan.lock",
    "deno.lock",
    "Gemfile.lock",
    "gradle.lockfile",
    "mix.lock",
    "packages.lock.json",
    "Package.resolved",
    "Podfile.lock",
    "pubspec.lock",
];

/// Whether a file is a lock file of a kind that is not read.
pub fn is_other(path: &str) -> bool {
    OTHERS.contains(&path.rsplit('/').next().unwrap_or(path))
}

/// A lock file, read.
#[derive(Debug, Clone)]
pub struct Lock {
    pub ecosystem: Ecosystem,
    pub packages: Vec<Package>,
    /// What is named without an exact version, with its line: nobody can say whether it is vulnerable.
    pub unpinned: Vec<(String, u32)>,
}

impl Lock {
    /// The shortest way by which a package comes in: from one that nothing needs, down to itself.
    pub fn path(&self, package: usize) -> Vec<&str> {
        let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); self.packages.len()];
        for (at, other) in self.packages.iter().enumerate() {
            for need in &other.needs {
                needed_by[*need].push(at);
            }
        }
        let mut before: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([package]);
        let mut top = package;
        while let Some(at) = queue.pop_front() {
            top = at;
            if needed_by[at].iter().all(|by| *by == at) {
                break;
            }
            for by in &needed_by[at] {
                if *by != package && !before.contains_key(by) {
                    before.insert(*by, at);
                    queue.push_back(*by);
                }
            }
        }
        let mut path = vec![self.packages[top].name.as_str()];
        let mut at = top;
        while let Some(next) = before.get(&at).filter(|_| at != package) {
            path.push(self.packages[*next].name.as_str());
            at = *next;
        }
        path
    }
}

/// Reads a lock file by its name; none where it is none that is known.
///
/// # Errors
/// What is wrong with it, with the place where that is known.
pub fn read(path: &str, text: &str) -> Result<Option<Lock>, String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains('\0') {
        return Err("it is not UTF-8".to_owned());
    }
    let text = &text.replace("\r\n", "\n").replace('\r', "\n");
    let lock = match name {
        "Cargo.lock" => toml_lock(text, Ecosystem::CratesIo)?,
        "poetry.lock" | "uv.lock" | "pdm.lock" => toml_lock(text, Ecosystem::PyPi)?,
        "package-lock.json" | "npm-shrinkwrap.json" => npm(text)?,
        "yarn.lock" => yarn(text)?,
        "pnpm-lock.yaml" => pnpm(text)?,
        "Pipfile.lock" => pipfile(text)?,
        "go.sum" => go_sum(text)?,
        _ if is_requirements(path) => requirements(text),
        _ => return Ok(None),
    };
    Ok(Some(lock))
}

/// The lines of a text, found again by what begins an entry.
struct Places<'a> {
    lines: Vec<&'a str>,
    next: usize,
    /// How many lines may still be looked at: entries come in order, and a file in which they do not is not looked through for each.
    left: usize,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let left = lines.len() * 20 + 1_000_000;
        Self { lines, next: 0, left }
    }

    /// The next line that holds a text; the search goes on from the one before. 1 where there is none.
    fn find(&mut self, needle: &str) -> u32 {
        for start in [self.next, 0] {
            let found = self.lines[start..].iter().take(self.left).position(|line| line.contains(needle));
            self.left = self.left.saturating_sub(found.map_or(self.lines.len() - start, |at| at + 1));
            if let Some(at) = found {
                self.next = start + at + 1;
                return u32::try_from(self.next).unwrap_or(u32::MAX);
            }
        }
        1
    }
}

/// `[[package]]` tables: Cargo's, Poetry's, uv's and PDM's.
fn toml_lock(text: &str, ecosystem: Ecosystem) -> Result<Lock, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let table: toml::Table = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
    let entries: Vec<&toml::Table> =
        table.get("package").and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_table).collect();
    let mut places = Places::new(text);
    let mut packages = Vec::new();
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for entry in &entries {
        let field = |name: &str| entry.get(name).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let (name, version) = (field("name"), field("version"));
        if name.is_empty() {
            return Err("a [[package]] without a name".to_owned());
        }
        let line = places.find(&format!("name = \"{name}\""));
        by_name.entry(ecosystem.canonical(&name)).or_default().push(packages.len());
        packages.push(Package { name, version, line, needs: Vec::new() });
    }
    for (at, entry) in entries.iter().enumerate() {
        let needs: Vec<String> = match entry.get("dependencies") {
            Some(toml::Value::Array(list)) => list
                .iter()
                .filter_map(|need| match need {
                    toml::Value::String(text) => Some(text.clone()), // Cargo: "name", "name version"; PDM: "name>=1"
                    toml::Value::Table(need) => need.get("name").and_then(toml::Value::as_str).map(str::to_owned), // uv
                    _ => None,
                })
                .collect(),
            Some(toml::Value::Table(needs)) => needs.keys().cloned().collect(), // Poetry
            _ => Vec::new(),
        };
        for need in needs {
            let mut words = need.split([' ', '=', '<', '>', '!', '~', ';', '[']).filter(|word| !word.is_empty());
            let name = ecosystem.canonical(words.next().unwrap_or_default());
            let version = words.next();
            let all = by_name.get(&name).map(Vec::as_slice).unwrap_or_default();
            let exact = all.iter().find(|at| Some(packages[**at].version.as_str()) == version).or_else(|| all.first());
            packages[at].needs.extend(exact);
        }
    }
    let mut unpinned = Vec::new();
    // What has no source is the project itself; what has another one is a commit, of which no advisory tells.
    if ecosystem == Ecosystem::CratesIo {
        for (at, entry) in entries.iter().enumerate() {
            let from_registry = entry
                .get("source")
                .and_then(toml::Value::as_str)
                .is_some_and(|source| source.starts_with("registry+") || source.starts_with("sparse+"));
            if !from_registry {
                packages[at].version.clear();
                if entry.contains_key("source") {
                    unpinned.push((packages[at].name.clone(), packages[at].line));
                }
            }
        }
    }
    Ok(Lock { ecosystem, packages, unpinned })
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// npm's lock files of all versions: `packages` by their places, or nested `dependencies`.
fn npm(text: &str) -> Result<Lock, String> {
    let value = json(text)?;
    if value.get("lockfileVersion").and_then(serde_json::Value::as_u64).is_some_and(|version| version > 3) {
        return Err("its `lockfileVersion` is none of 1 to 3".to_owned());
    }
    let mut places = Places::new(text);
    let mut packages = Vec::new();
    let mut by_place: BTreeMap<String, usize> = BTreeMap::new();
    let mut wanted: Vec<(usize, String, Vec<String>)> = Vec::new();
    let names = |entry: &serde_json::Value| -> Vec<String> {
        let fields = ["dependencies", "optionalDependencies", "devDependencies", "peerDependencies"];
        fields.iter().filter_map(|field| entry.get(field)?.as_object()).flat_map(|needs| needs.keys().cloned()).collect()
    };
    if let Some(entries) = value.get("packages").and_then(|packages| packages.as_object()) {
        // The places are told sorted, not as they stand in the file.
        let mut lines: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Some((place, _)) = line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once("\":")) {
                lines.entry(place).or_insert(number);
            }
        }
        for (place, entry) in entries {
            let own = |field: &str| entry.get(field).and_then(|field| field.as_str()).map(str::to_owned);
            let name = own("name").or_else(|| place.rsplit_once("node_modules/").map(|(_, name)| name.to_owned()));
            // A link, and what is not below node_modules, is the project's own.
            let installed = place.contains("node_modules/") && entry.get("link").is_none();
            let name = name.unwrap_or_else(|| if place.is_empty() { ".".to_owned() } else { place.clone() });
            let version = if installed { own("version").unwrap_or_default() } else { String::new() };
            let line = lines.get(place.as_str()).copied().unwrap_or(1);
            by_place.insert(place.clone(), packages.len());
            wanted.push((packages.len(), place.clone(), names(entry)));
            packages.push(Package { name, version, line, needs: Vec::new() });
        }
    } else {
        fn walk(
            entries: Option<&serde_json::Map<String, serde_json::Value>>,
            at: &str,
            places: &mut Places<'_>,
            packages: &mut Vec<Package>,
            by_place: &mut BTreeMap<String, usize>,
            wanted: &mut Vec<(usize, String, Vec<String>)>,
        ) {
            for (name, entry) in entries.into_iter().flatten() {
                let version = entry.get("version").and_then(|version| version.as_str()).unwrap_or_default().to_owned();
                let place = if at.is_empty() { format!("node_modules/{name}") } else { format!("{at}/node_modules/{name}") };
                let line = places.find(&format!("\"{name}\":"));
                by_place.insert(place.clone(), packages.len());
                let needs = entry.get("requires").and_then(|needs| needs.as_object()).into_iter().flat_map(|needs| needs.keys().cloned());
                wanted.push((packages.len(), place.clone(), needs.collect()));
                // An alias is the package that it stands for.
                let (name, version) = match version.strip_prefix("npm:").and_then(|real| real.rsplit_once('@')) {
                    Some((real, version)) => (real.to_owned(), version.to_owned()),
                    None => (name.clone(), version),
                };
                packages.push(Package { name, version, line, needs: Vec::new() });
                walk(entry.get("dependencies").and_then(|inner| inner.as_object()), &place, places, packages, by_place, wanted);
            }
        }
        let entries = value.get("dependencies").and_then(|entries| entries.as_object());
        if entries.is_none() && value.get("lockfileVersion").is_none() {
            return Err("it has neither `packages` nor `dependencies`".to_owned());
        }
        walk(entries, "", &mut places, &mut packages, &mut by_place, &mut wanted);
    }
    // As Node looks: in the package's own node_modules, then in those above.
    for (at, place, needs) in wanted {
        for need in needs {
            let mut from = place.as_str();
            loop {
                let candidate = if from.is_empty() { format!("node_modules/{need}") } else { format!("{from}/node_modules/{need}") };
                if let Some(found) = by_place.get(&candidate) {
                    packages[at].needs.push(*found);
                    break;
                }
                if from.is_empty() {
                    break;
                }
                from = from.rfind("/node_modules/").map_or("", |cut| &from[..cut]);
            }
        }
    }
    Ok(Lock { ecosystem: Ecosystem::Npm, packages, unpinned: Vec::new() })
}

/// Yarn's own form, of version 1 and later: blocks whose first line names what was asked for.
fn yarn(text: &str) -> Result<Lock, String> {
    if !text.contains("# yarn lockfile v") && !text.contains("__metadata:") {
        return Err("it has neither the header of yarn 1 nor the `__metadata` of later ones".to_owned());
    }
    let mut packages: Vec<Package> = Vec::new();
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    let mut wanted: Vec<(usize, String)> = Vec::new();
    let (mut inside, mut in_needs) = (None, false);
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let unquoted = |text: &str| text.trim().trim_matches('"').to_owned();
        if !line.starts_with(' ') {
            in_needs = false;
            let specs: Vec<String> = line.trim_end_matches(':').split(',').map(unquoted).collect();
            let Some(first) = specs.first().filter(|spec| !spec.starts_with("__metadata")) else {
                inside = None;
                continue;
            };
            // A scope begins with an @ that is none of these.
            let skip = first.chars().next().ok_or_else(|| format!("line {}: an entry without a name", number + 1))?.len_utf8();
            let cut = first[skip..].find('@').map_or(first.len(), |at| at + skip);
            let own = first[cut..].contains("@workspace:") || first[cut..].contains("@link:") || first[cut..].contains("@portal:");
            inside = Some((packages.len(), own));
            // An alias (`a@npm:b@1.0.0`) is the package that it stands for.
            let name = match first[cut..].strip_prefix("@npm:").and_then(|rest| rest.rfind('@').filter(|at| *at > 0).map(|at| &rest[..at]))
            {
                Some(real) if real.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '@') => real.to_owned(),
                _ => first[..cut].to_owned(),
            };
            for spec in &specs {
                asked.insert(spec.replacen("@npm:", "@", 1), packages.len());
            }
            packages.push(Package { name, version: String::new(), line: u32::try_from(number + 1).unwrap_or(u32::MAX), needs: Vec::new() });
        } else if let Some((at, own)) = inside {
            let depth = line.len() - line.trim_start().len();
            let (key, value) = line.trim().split_once([' ', ':']).map_or((line.trim(), ""), |(key, value)| (key, value));
            let (key, value) = (unquoted(key.trim_end_matches(':')), unquoted(value.trim_start_matches(':')));
            if depth <= 2 {
                in_needs = matches!(key.as_str(), "dependencies" | "optionalDependencies");
                if key == "version" && !own {
                    packages[at].version = value;
                }
            } else if in_needs {
                wanted.push((at, format!("{key}@{}", value.strip_prefix("npm:").unwrap_or(&value))));
            }
        }
    }
    for (at, spec) in wanted {
        packages[at].needs.extend(asked.get(&spec));
    }
    Ok(Lock { ecosystem: Ecosystem::Npm, packages, unpinned: Vec::new() })
}

/// pnpm's, of all versions: the keys of `packages` name what is there, `snapshots` (since 9) what each needs.
fn pnpm(text: &str) -> Result<Lock, String> {
    let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
    let Some(root) = documents.first() else { return Err("it is empty".to_owned()) };
    let version = root.as_mapping_get("lockfileVersion");
    let major = version.and_then(|version| match (version.as_str(), version.as_floating_point(), version.as_integer()) {
        (Some(text), _, _) => text.split('.').next()?.parse::<i64>().ok(),
        (None, Some(number), _) => Some(number as i64),
        (None, None, number) => number,
    });
    if !major.is_some_and(|major| (5..=9).contains(&major)) {
        return Err("its `lockfileVersion` is none of 5 to 9".to_owned());
    }
    let mut places = Places::new(text);
    let (mut packages, mut unpinned) = (Vec::new(), Vec::new());
    let mut by_spec: BTreeMap<(String, String), usize> = BTreeMap::new();
    let entries = |name: &str| root.as_mapping_get(name).and_then(Yaml::as_mapping).into_iter().flatten();
    for (key, entry) in entries("packages") {
        let Some(key) = key.as_str() else { continue };
        let Some((name, version)) = pnpm_key(key) else {
            unpinned.push((key.to_owned(), places.find(key)));
            continue;
        };
        let line = places.find(key);
        let own = |field: &str| entry.as_mapping_get(field).and_then(Yaml::as_str).map(str::to_owned);
        let (name, version) = (own("name").unwrap_or(name), own("version").unwrap_or(version));
        by_spec.insert((name.clone(), version.clone()), packages.len());
        packages.push(Package { name, version, line, needs: Vec::new() });
    }
    for (key, entry) in entries("packages").chain(entries("snapshots")) {
        let Some(at) = key.as_str().and_then(pnpm_key).and_then(|spec| by_spec.get(&spec).copied()) else { continue };
        for field in ["dependencies", "optionalDependencies"] {
            for (name, version) in entry.as_mapping_get(field).and_then(Yaml::as_mapping).into_iter().flatten() {
                let (Some(name), Some(version)) = (name.as_str(), version.as_str()) else { continue };
                let version = version.split('(').next().unwrap_or(version).split('_').next().unwrap_or(version);
                packages[at].needs.extend(by_spec.get(&(name.to_owned(), version.to_owned())));
            }
        }
    }
    Ok(Lock { ecosystem: Ecosystem::Npm, packages, unpinned })
}

/// `name@1.0.0(peer)`, `/name@1.0.0`, `/name/1.0.0_peer`, each with a scope or without.
fn pnpm_key(key: &str) -> Option<(String, String)> {
    let bare = key.trim_start_matches('/').split('(').next().unwrap_or_default();
    let scope_end = if bare.starts_with('@') { bare.find('/')? + 1 } else { 0 };
    // Until version 5 the version is a part of its own behind the name.
    let slash = bare[scope_end..].find('/').map(|at| at + scope_end);
    let cut = match slash.filter(|at| bare[at + 1..].starts_with(|letter: char| letter.is_ascii_digit())) {
        Some(at) => at,
        None => bare.get(1..)?.find('@')? + 1,
    };
    let version = bare[cut + 1..].split('_').next().unwrap_or_default();
    Some((bare[..cut].to_owned(), version.to_owned()))
}

fn pipfile(text: &str) -> Result<Lock, String> {
    let value = json(text)?;
    let mut places = Places::new(text);
    let (mut packages, mut unpinned) = (Vec::new(), Vec::new());
    for group in ["default", "develop"] {
        for (name, entry) in value.get(group).and_then(|group| group.as_object()).into_iter().flatten() {
            let line = places.find(&format!("\"{name}\":"));
            match entry.get("version").and_then(|version| version.as_str()).and_then(|version| version.strip_prefix("==")) {
                Some(version) => packages.push(Package { name: name.clone(), version: version.to_owned(), line, needs: Vec::new() }),
                None => unpinned.push((name.clone(), line)),
            }
        }
    }
    Ok(Lock { ecosystem: Ecosystem::PyPi, packages, unpinned })
}

/// Whether pip's requirements lie here, by the name of the file or of its folder.
fn is_requirements(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    name.ends_with(".txt") && (name.contains("requirements") || name.contains("constraints") || parts.next() == Some("requirements"))
}

fn requirements(text: &str) -> Lock {
    let (mut packages, mut unpinned) = (Vec::new(), Vec::new());
    let mut continued = false;
    for (number, raw) in text.lines().enumerate() {
        let line = raw.split(" #").next().unwrap_or(raw).trim();
        let is_rest = std::mem::replace(&mut continued, line.ends_with('\\'));
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        if is_rest || line.is_empty() || line.starts_with('#') {
            continue;
        }
        // What an option names: another file of requirements, or what is to be installed from where it lies.
        let option = |names: &[&str]| {
            let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
            Some(rest.trim_start_matches(['=', ' ', '\t']).trim())
        };
        let elsewhere = option(&["--requirement", "--constraint", "-r", "-c"]).filter(|file| !is_requirements(file));
        let editable = option(&["--editable", "-e"]);
        let is_remote = |what: &str| what.contains("://");
        if elsewhere.is_some() || editable.is_some_and(is_remote) || (!line.starts_with('-') && is_remote(line)) {
            unpinned.push((line.split(" --hash").next().unwrap_or(line).to_owned(), number));
            continue;
        }
        if line.starts_with(['-', '.', '/']) {
            continue; // options of pip, and the project's own folders and files
        }
        let line = line.split([';', '\\']).next().unwrap_or(line).split(" --hash").next().unwrap_or(line).trim();
        let name: String = line.chars().take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')).collect();
        if name.is_empty() {
            continue;
        }
        let rest = line[name.len()..].trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest).trim_start() } else { rest };
        match rest.strip_prefix("===").or_else(|| rest.strip_prefix("==")).map(str::trim) {
            Some(version) if !version.contains([',', '*']) && !version.is_empty() => {
                packages.push(Package { name, version: version.to_owned(), line: number, needs: Vec::new() });
            }
            _ => unpinned.push((name, number)),
        }
    }
    Lock { ecosystem: Ecosystem::PyPi, packages, unpinned }
}

fn go_sum(text: &str) -> Result<Lock, String> {
    let mut packages = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, version, hash] = words.as_slice() else {
            return Err(format!("line {}: expected a module, a version and a hash", number + 1));
        };
        if !hash.starts_with("h1:") {
            return Err(format!("line {}: expected a hash that begins with h1:", number + 1));
        }
        // A module of which only the go.mod is named is not built.
        if !version.ends_with("/go.mod") {
            let line = u32::try_from(number + 1).unwrap_or(u32::MAX);
            let version = version.trim_start_matches('v').trim_end_matches("+incompatible").to_owned();
            packages.push(Package { name: (*name).to_owned(), version, line, needs: Vec::new() });
        }
    }
    Ok(Lock { ecosystem: Ecosystem::Go, packages, unpinned: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(lock: &Lock) -> Vec<String> {
        lock.packages
            .iter()
            .filter(|package| !package.version.is_empty())
            .map(|package| format!("{} {} :{}", package.name, package.version, package.line))
            .collect()
    }

    fn lock(path: &str, text: &str) -> Lock {
        read(path, text).expect("reads").expect("a lock file")
    }

    #[test]
    fn cargo_tells_the_way_by_which_a_package_comes_in() {
        let text = r#"
[[package]]
name = "app"
version = "0.1.0"
dependencies = ["middle"]

[[package]]
name = "deep"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"

[[package]]
name = "deep"
version = "2.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"

[[package]]
name = "middle"
version = "0.2.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
dependencies = ["deep 2.0.0"]

[[package]]
name = "forked"
version = "1.0.0"
source = "git+https://example.com/forked#0123"
"#;
        let lock = lock("Cargo.lock", text);
        assert_eq!(named(&lock), ["deep 1.0.0 :8", "deep 2.0.0 :13", "middle 0.2.0 :18"]);
        assert_eq!(lock.unpinned, [("forked".to_owned(), 24)], "a commit is no version of the registry");
        assert_eq!(lock.path(2), ["app", "middle", "deep"]);
        assert_eq!(lock.path(1), ["deep"]);
    }

    #[test]
    fn npm_of_both_forms_finds_the_same_packages() {
        let new = r#"{"lockfileVersion": 3, "packages": {
"": {"name": "app", "dependencies": {"a": "1"}},
"node_modules/a": {"version": "1.0.0", "dependencies": {"@s/b": "2"}},
"node_modules/a/node_modules/@s/b": {"version": "2.0.0"},
"packages/own": {"version": "9.0.0"},
"node_modules/own": {"link": true, "resolved": "packages/own"}}}"#;
        let of_new = lock("package-lock.json", new);
        assert_eq!(named(&of_new), ["a 1.0.0 :3", "@s/b 2.0.0 :4"]);
        let deep = of_new.packages.iter().position(|package| package.name == "@s/b").expect("there");
        assert_eq!(of_new.path(deep), ["app", "a", "@s/b"]);
        let old = r#"{"lockfileVersion": 1, "dependencies": {
"a": {"version": "1.0.0", "requires": {"@s/b": "2"}, "dependencies": {
"@s/b": {"version": "2.0.0"}}}}}"#;
        assert_eq!(named(&lock("sub/package-lock.json", old)), ["a 1.0.0 :2", "@s/b 2.0.0 :3"]);
    }

    #[test]
    fn yarn_and_pnpm_of_all_versions_are_read() {
        let classic = "# yarn lockfile v1\n\n\"@s/b@^2\":\n  version \"2.0.0\"\n\na@^1, a@^1.0:\n  version \"1.0.0\"\n  dependencies:\n    \"@s/b\" \"^2\"\n";
        let of_classic = lock("yarn.lock", classic);
        assert_eq!(named(&of_classic), ["@s/b 2.0.0 :3", "a 1.0.0 :6"]);
        assert_eq!(of_classic.path(0), ["a", "@s/b"]);
        assert_eq!(named(&lock("yarn.lock", "# yarn lockfile v1\n\né@^2:\n  version \"2.0.0\"\n")), ["é 2.0.0 :3"]);
        let berry = "__metadata:\n  version: 8\n\n\"a@npm:^1\":\n  version: 1.0.0\n  resolution: \"a@npm:1.0.0\"\n\n\"x@npm:real@^3\":\n  version: 3.0.0\n\n\"own@workspace:.\":\n  version: 0.0.0-use.local\n";
        assert_eq!(named(&lock("yarn.lock", berry)), ["a 1.0.0 :4", "real 3.0.0 :8"]);
        for (text, key) in [
            ("lockfileVersion: 5.4\npackages:\n  /a/1.0.0:\n    dev: false\n  /@s/b/2.0.0_react@1:\n    dev: true\n", "5"),
            ("lockfileVersion: '6.0'\npackages:\n  /a@1.0.0:\n    dev: false\n  /@s/b@2.0.0(react@1):\n    dev: true\n", "6"),
            (
                "lockfileVersion: '9.0'\npackages:\n  a@1.0.0: {}\n  '@s/b@2.0.0': {}\nsnapshots:\n  a@1.0.0:\n    dependencies:\n      '@s/b': 2.0.0(x@1)\n  '@s/b@2.0.0(x@1)': {}\n",
                "9",
            ),
        ] {
            let found: Vec<String> =
                lock("pnpm-lock.yaml", text).packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
            assert_eq!(found, ["a 1.0.0", "@s/b 2.0.0"], "of version {key}");
        }
    }

    #[test]
    fn python_and_go_say_what_is_pinned() {
        let pip = "# c\nDjango[argon2]==4.2.0 ; python_version > '3' # why\nrequests>=2\nflask == 1.0 \\\n    --hash=sha256:00\n-r other.txt\n\
            -r requirements/base.txt\n--index-url https://example.org/simple\n-e .\n./local.whl\n-e git+https://example.org/a.git#egg=a\nb @ https://example.org/b.whl\n";
        let lock = super::requirements(pip);
        assert_eq!(named(&lock), ["Django 4.2.0 :2", "flask 1.0 :4"]);
        let unpinned: Vec<(&str, u32)> = lock.unpinned.iter().map(|(name, line)| (name.as_str(), *line)).collect();
        let remote = [("-e git+https://example.org/a.git#egg=a", 11), ("b @ https://example.org/b.whl", 12)];
        assert_eq!(unpinned, [("requests", 3), ("-r other.txt", 6), remote[0], remote[1]]);
        assert!(is_requirements("requirements/dev.txt") && is_requirements("a/dev-requirements.txt") && !is_requirements("docs/dev.txt"));
        assert_eq!(
            named(&super::go_sum("example.com/a v1.2.3 h1:x=\nexample.com/a v1.2.3/go.mod h1:y=\n").expect("reads")),
            ["example.com/a 1.2.3 :1"]
        );
        assert_eq!(Ecosystem::PyPi.canonical("Foo__Bar.baz"), "foo-bar-baz");
    }

    #[test]
    fn what_does_not_read_is_said() {
        for (path, text) in [
            ("Cargo.lock", "[[package]"),
            ("package-lock.json", "{"),
            ("package-lock.json", "{}"),
            ("pnpm-lock.yaml", "a: ["),
            ("pnpm-lock.yaml", "lockfileVersion: 99\n"),
            ("yarn.lock", "junk"),
            ("yarn.lock", "# yarn lockfile v1\n\n:\n"),
            ("yarn.lock", "# yarn lockfile v1\n\n\"\":\n  version \"1\"\n"),
            ("go.sum", "junk"),
        ] {
            assert!(read(path, text).is_err(), "{path}: {text}");
        }
        assert!(read("README.md", "").expect("no error").is_none());
    }
}
