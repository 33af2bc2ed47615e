//! Which file a name means: Node's and TypeScript's rules, by `oxc_resolver`, over the snapshot.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use oxc_resolver::{FileMetadata, FileSystem, ResolveError, ResolveOptions, ResolverGeneric, TsconfigDiscovery};

use crate::modules::{ROOT, folder, shown};

/// Where packages may lie that the operator gives.
const PACKAGES: &str = "/data/node_modules";
/// What may follow a name that does not say what it is.
const ENDINGS: &[&str] = &[".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json"];

/// The snapshot, in which a link is what it leads to.
struct Snapshot;

impl FileSystem for Snapshot {
    fn new() -> Self {
        Self
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        std::fs::metadata(path).map(|there| FileMetadata::new(there.is_file(), there.is_dir(), false))
    }

    fn symlink_metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.metadata(path)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, ResolveError> {
        Ok(path.to_path_buf())
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_path_buf())
    }
}

type Resolver = ResolverGeneric<Snapshot>;

/// One for `import`, one for `require`, and as many without a `tsconfig.json`, for where that is broken.
struct Resolvers {
    import: Resolver,
    require: Resolver,
    plain: Resolver,
}

static RESOLVERS: LazyLock<Resolvers> = LazyLock::new(|| {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let alias = |written: &str, meant: &[&str]| (written.to_owned(), texts(meant));
    let import = Resolver::new(ResolveOptions {
        condition_names: texts(&["node", "import", "module-sync", "default"]),
        extensions: texts(ENDINGS),
        // TypeScript writes the name that the compiled file would have.
        extension_alias: vec![
            alias(".js", &[".js", ".ts", ".tsx", ".jsx"]),
            alias(".jsx", &[".jsx", ".tsx"]),
            alias(".mjs", &[".mjs", ".mts"]),
            alias(".cjs", &[".cjs", ".cts"]),
        ],
        main_fields: texts(&["main", "module"]),
        modules: texts(&["node_modules", PACKAGES]),
        symlinks: false,
        tsconfig: Some(TsconfigDiscovery::Auto),
        ..ResolveOptions::default()
    });
    let require_options =
        ResolveOptions { condition_names: texts(&["node", "require", "module-sync", "default"]), ..import.options().clone() };
    let require = import.clone_with_options(require_options);
    let plain = import.clone_with_options(ResolveOptions { tsconfig: None, ..import.options().clone() });
    Resolvers { import, require, plain }
});

thread_local! {
    static ALIASES: RefCell<BTreeMap<String, String>> = RefCell::default();
}

/// Names that stand for others: what a name is, or begins with up to a `/`, and the path in the subject that is meant.
pub fn set_aliases(aliases: &BTreeMap<String, String>) {
    ALIASES.set(aliases.clone());
}

fn aliased(name: &str) -> Option<String> {
    ALIASES.with_borrow(|aliases| {
        aliases.iter().rev().find_map(|(alias, path)| {
            let rest = name.strip_prefix(alias.trim_end_matches('/'))?;
            let path = path.trim_start_matches("./").trim_matches('/');
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{ROOT}/{path}{rest}"))
        })
    })
}

/// The file that a name means in another file.
///
/// # Errors
/// For a person: what there is not, and how to mend it.
pub fn find(base: &str, name: &str, require: bool) -> Result<String, String> {
    let base = base.split('?').next().unwrap_or_default();
    let alias = aliased(name);
    let name = alias.as_deref().unwrap_or(name);
    let name = name.strip_prefix("file://").unwrap_or(name);
    let plain = name.split('?').next().filter(|plain| !plain.is_empty()).unwrap_or(name);
    let base = if base.starts_with('/') { base.to_owned() } else { format!("{ROOT}/.") };
    let resolver = if require { &RESOLVERS.require } else { &RESOLVERS.import };
    let found = resolver.resolve_file(&base, plain).or_else(|error| match error {
        ResolveError::TsconfigNotFound(_)
        | ResolveError::TsconfigSelfReference(_)
        | ResolveError::TsconfigCircularExtend(_)
        | ResolveError::Json(_) => RESOLVERS.plain.resolve(folder(&base), plain),
        error => Err(error),
    });
    match found {
        Ok(found) => Ok(found.path().to_string_lossy().into_owned()),
        Err(error) => itself(&base, plain).ok_or_else(|| explain(&base, name, &error)),
    }
}

/// A package may import itself by its name: the nearest one above a file is its own.
fn itself(base: &str, name: &str) -> Option<String> {
    let own = Path::new(base).ancestors().skip(1).find(|folder| folder.join("package.json").is_file())?;
    let package: serde_json::Value = serde_json::from_slice(&std::fs::read(own.join("package.json")).ok()?).ok()?;
    let rest = name.strip_prefix(package.get("name")?.as_str()?)?;
    let inside = match rest {
        "" => ".".to_owned(),
        rest => format!(".{}", rest.starts_with('/').then_some(rest)?),
    };
    Some(RESOLVERS.import.resolve(own, &inside).ok()?.path().to_string_lossy().into_owned())
}

fn explain(base: &str, name: &str, error: &ResolveError) -> String {
    match error {
        ResolveError::NotFound(_) | ResolveError::MatchedAliasNotFound(..) | ResolveError::ExtensionAlias(..)
            if name.starts_with('.') || name.starts_with('/') =>
        {
            let path = Path::new(folder(base)).join(name);
            let path = clean(&path);
            format!("there is no file {} for the import of {name:?} in {}", shown(&path), shown(base))
        }
        ResolveError::NotFound(_) => {
            let package: Vec<&str> = name.splitn(if name.starts_with('@') { 3 } else { 2 }, '/').collect();
            let package = package[..package.len().min(if name.starts_with('@') { 2 } else { 1 })].join("/");
            format!(
                "the package {package} is not in the sandbox; --data node_modules=FOLDER gives the tests packages, and `alias` in params names a folder of the subject"
            )
        }
        error => format!("the import of {name:?} in {}: {}", shown(base), error.to_string().replace(&format!("{ROOT}/"), "")),
    }
}

/// A path without `.`, `..` and empty parts.
fn clean(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let text = path.to_string_lossy().into_owned();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
