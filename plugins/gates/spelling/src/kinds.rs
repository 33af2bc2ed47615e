//! Which kind of file a name is, as typos tells: the last of the globs that fit, the most particular ones last.
//!
//! typos makes one set of all globs for each run, its own eight hundred with those of a configuration. Here its own are a set that
//! is made once, when the gate is built, and a configuration's are a small one beside it.

use std::collections::BTreeMap;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use typos_cli::policy::{ConfigEngine, ConfigStorage};

/// Globs with the kinds they stand for, from the least to the most particular one.
pub struct Kinds {
    set: GlobSet,
    ranks: Vec<(Rank, String)>,
}

/// What is compared to find the most particular glob: its parts from the end, and a configuration's after typos' own.
type Rank = (Vec<Part>, bool);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Wild,
    PartialWild(String),
    Literal(String),
}

impl Kinds {
    /// The kinds that typos knows.
    ///
    /// # Errors
    /// When its globs do not read.
    pub fn standard() -> anyhow::Result<Self> {
        let storage = ConfigStorage::new();
        let mut engine = ConfigEngine::new(&storage);
        let root = Path::new("/");
        engine.set_isolated(true).init_dir(root)?;
        let kinds = engine.file_types(root);
        let all = kinds.iter().flat_map(|(kind, globs)| globs.iter().map(|glob| (kind.to_string(), glob.to_string())));
        Ok(Self::new(all, false)?)
    }

    /// The kinds that a configuration adds.
    ///
    /// # Errors
    /// When a glob does not read.
    pub fn configured(globs: &BTreeMap<String, Vec<String>>) -> Result<Self, globset::Error> {
        Self::new(globs.iter().flat_map(|(kind, globs)| globs.iter().map(|glob| (kind.clone(), glob.clone()))), true)
    }

    fn new(globs: impl Iterator<Item = (String, String)>, is_configured: bool) -> Result<Self, globset::Error> {
        let mut ranked: Vec<_> = globs.map(|(kind, glob)| ((parts(&glob), is_configured), kind, glob)).collect();
        ranked.sort();
        let mut set = GlobSetBuilder::new();
        for (_, _, glob) in &ranked {
            set.add(GlobBuilder::new(glob).literal_separator(true).build()?);
        }
        Ok(Self { set: set.build()?, ranks: ranked.into_iter().map(|(rank, kind, _)| (rank, kind)).collect() })
    }

    /// Whether there is a kind of this name.
    pub fn has(&self, kind: &str) -> bool {
        self.ranks.iter().any(|(_, known)| known == kind)
    }

    fn of_name(&self, name: &Path) -> Option<&(Rank, String)> {
        self.set.matches(name).last().map(|last| &self.ranks[*last])
    }
}

/// The kind of a file, by what typos knows and what a configuration adds.
pub fn kind<'a>(standard: &'a Kinds, configured: Option<&'a Kinds>, path: &str) -> Option<&'a str> {
    let mut name = Path::new(Path::new(path).file_name()?);
    loop {
        let found = standard.of_name(name).max(configured.and_then(|kinds| kinds.of_name(name)));
        match (found, name.extension()) {
            (Some((_, kind)), _) => return Some(kind),
            // A template is of the kind that it is a template for.
            (None, Some(ending)) if ending == "in" => name = Path::new(name.file_stem()?),
            (None, _) => return None,
        }
    }
}

fn parts(glob: &str) -> Vec<Part> {
    let part = |part: &str| match part {
        "*" => Part::Wild,
        part if part.contains('*') => Part::PartialWild(part.to_owned()),
        part => Part::Literal(part.to_owned()),
    };
    glob.rsplit('.').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_that_typos_tells() {
        let own = BTreeMap::from([
            ("letters".to_owned(), vec!["*.letter".to_owned(), "Cargo.*".to_owned(), "*.in".to_owned()]),
            ("rust".to_owned(), vec!["*.rs.txt".to_owned()]),
            ("mine".to_owned(), vec!["*.md".to_owned(), "x.letter".to_owned()]),
        ]);
        let tables: String = own.iter().map(|(kind, globs)| format!("[type.{kind}]\nextend-glob = {globs:?}\n")).collect();
        let (standard, configured) = (Kinds::standard().expect("reads"), Kinds::configured(&own).expect("reads"));
        let storage = ConfigStorage::new();
        let (mut plain, mut with) = (ConfigEngine::new(&storage), ConfigEngine::new(&storage));
        plain.set_isolated(true).init_dir(Path::new("/")).expect("reads");
        with.set_isolated(true).set_overrides(typos_cli::config::Config::from_toml(&tables).expect("reads"));
        with.init_dir(Path::new("/")).expect("reads");
        let mut names: Vec<String> = ["a.letter", "x.letter", "Cargo.lock", "Cargo.toml", "a.rs.txt", "README.md", "a.in", "none", ".in"]
            .map(str::to_owned)
            .to_vec();
        let globs: Vec<_> = plain.file_types(Path::new("/")).values().flatten().collect();
        assert!(globs.len() > 500);
        for glob in globs {
            let name = glob.replace('*', "a").replace(['[', ']', '{', '}'], "");
            names.extend([name.clone(), format!("{name}.in"), format!("{name}.in.in"), format!("dir/{name}"), format!("{name}.other")]);
        }
        for name in names {
            let path = Path::new("/").join(&name);
            assert_eq!(kind(&standard, None, &name), plain.policy(&path).file_type, "{name}");
            assert_eq!(kind(&standard, Some(&configured), &name), with.policy(&path).file_type, "{name}, with a configuration");
        }
    }
}
