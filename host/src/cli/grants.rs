//! `sandhog plugins grant`, `revoke` and `diff`: the grants in `sandhog.toml`, shown before they are changed; the rest of the file is
//! kept. What a plugin runs with is still decided where it is read: a grant is a line that somebody could have written.

use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value, value};

use super::context::{Common, Context, read_text};
use super::exit::{Error, Exit};
use super::output::{line_changes, replace};
use super::trust;
use crate::config::settings::FILE_NAME;
use crate::model::text::sanitize;
use crate::model::{Access, Request};
use crate::registry::Entry;

/// What is granted beside what the plugin asks for, and where its folders are.
#[derive(Debug, clap::Args)]
pub struct GrantArguments {
    /// The plugin, by its name in the plugin folders
    plugin: String,
    /// A folder for the path at which the plugin sees it: /docs=docs; /docs=docs:read-write may be written; may be repeated
    #[arg(long, value_name = "AT=PATH[:ACCESS]")]
    files: Vec<String>,
    /// An environment variable, by its name; may be repeated
    #[arg(long, value_name = "NAME")]
    environment: Vec<String>,
    /// The clock
    #[arg(long)]
    clock: bool,
    /// Randomness
    #[arg(long)]
    randomness: bool,
    /// An origin for requests over HTTP, such as https://api.example.com; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    outbound: Vec<String>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Whose grants are taken away.
#[derive(Debug, clap::Args)]
pub struct RevokeArguments {
    /// The plugin, by its name
    plugin: String,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The file with the grants, and what is in it.
struct Grants {
    file: PathBuf,
    before: String,
    document: DocumentMut,
}

impl Grants {
    fn open(common: &Common) -> Result<Self, Error> {
        let file = common.config_file()?.unwrap_or_else(|| PathBuf::from(FILE_NAME));
        let before = if file.exists() { read_text(&file)? } else { String::new() };
        let document = before.parse().map_err(|error: toml_edit::TomlError| Error::usage(format!("{}: {error}", file.display())))?;
        let grants: Self = Self { file, before, document };
        match grants.document.get("grants") {
            Some(item) if !item.is_table() => {
                Err(Error::usage(format!("{}: `grants` is no table", grants.file.display())).help("write it as [grants.NAME]"))
            }
            Some(_) | None => Ok(grants),
        }
    }

    fn of(&self, plugin: &str) -> Option<Table> {
        self.document.get("grants")?.as_table()?.get(plugin)?.clone().into_table().ok()
    }

    /// Puts a table in the place of a plugin's, or takes it out.
    fn set(&mut self, plugin: &str, table: Option<Table>) {
        let Some(table) = table else {
            if let Some(grants) = self.document.get_mut("grants").and_then(Item::as_table_mut) {
                grants.remove(plugin);
            }
            return;
        };
        let grants = self.document.entry("grants").or_insert_with(|| {
            let mut grants = Table::new();
            grants.set_implicit(true);
            Item::Table(grants)
        });
        if let Some(grants) = grants.as_table_mut() {
            grants.insert(plugin, Item::Table(table));
        }
    }

    /// Shows what changes, and writes it. A directory whose owner trusted it stays so: he is who grants.
    fn finish(self, dry_run: bool) -> Result<(), Error> {
        let after = self.document.to_string();
        let changes = line_changes(&self.before, &after);
        if changes.is_empty() {
            outln!("nothing changes in {}", self.file.display());
            return Ok(());
        }
        outln!("{}{}", self.file.display(), if dry_run { " would change" } else { "" });
        changes.iter().for_each(|line| outln!("{}", sanitize(line, 1000)));
        if dry_run {
            return Ok(());
        }
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let was_trusted = self.file.is_file() && trust::is_trusted(&folder).unwrap_or(false);
        replace(&self.file, after.as_bytes())?;
        if was_trusted {
            trust::renew(&folder)?;
        }
        Ok(())
    }
}

/// Grants a plugin what it asks for, as it is now, and what is named beside.
pub fn grant(common: &Common, context: &Context, arguments: &GrantArguments) -> Result<Exit, Error> {
    let entry = context.registry.find_newest(&arguments.plugin)?;
    let mut grants = Grants::open(common)?;
    let table = granted(&entry, grants.of(&entry.name).unwrap_or_default(), arguments)?;
    grants.set(&entry.name, Some(table));
    grants.finish(arguments.dry_run)?;
    Ok(Exit::Passed)
}

/// Takes a plugin's grants away.
pub fn revoke(common: &Common, arguments: &RevokeArguments) -> Result<Exit, Error> {
    let mut grants = Grants::open(common)?;
    if grants.of(&arguments.plugin).is_none() {
        return Err(Error::usage(format!("{}: nothing is granted to {:?}", grants.file.display(), arguments.plugin)));
    }
    grants.set(&arguments.plugin, None);
    grants.finish(arguments.dry_run)?;
    Ok(Exit::Passed)
}

/// Says of each plugin that is granted something, or asks for something, whether that fits: 1 where one is held.
pub fn diff(context: &Context, names: &[String]) -> Result<Exit, Error> {
    let registry = &context.registry;
    let entries = if names.is_empty() {
        let shelf = registry.shelf();
        let newest = |(name, entry)| shelf.held.get(name).map_or(entry, |held| &held.entry);
        shelf.plugins.iter().map(newest).cloned().collect()
    } else {
        names.iter().map(|name| registry.find_newest(name)).collect::<Result<Vec<_>, _>>()?
    };
    let (mut held, mut told) = (0, 0);
    for entry in entries {
        let has_grant = registry.settings().grants.contains_key(&entry.name);
        let asks = entry.manifest.requests.as_deref().is_some_and(|requests| !requests.is_empty());
        // One that comes with sandhog asks nobody before it is used.
        let is_standard = registry.settings().standard.as_ref().is_some_and(|folder| entry.path.starts_with(folder));
        if is_standard && !has_grant && names.is_empty() {
            continue;
        }
        match registry.grant(&entry) {
            Ok(_) if has_grant || asks => outln!("fits: {}", entry.name),
            Ok(_) => continue,
            Err(error) => {
                held += 1;
                outln!("held: {error}");
            }
        }
        told += 1;
    }
    for name in registry.settings().grants.keys().filter(|name| names.is_empty() && registry.find(name).is_err()) {
        told += 1;
        outln!("unused: {name} is granted something, and there is no such plugin");
    }
    if told == 0 {
        outln!("no plugin asks for anything, and none is granted anything");
    }
    Ok(if held > 0 { Exit::Failed } else { Exit::Passed })
}

/// The table of a plugin: what is there already, the digest of today, and what it asks for.
fn granted(entry: &Entry, before: Table, arguments: &GrantArguments) -> Result<Table, Error> {
    let mut table = before;
    table.insert("digest", keeping(&table, "digest", entry.digest.to_string().into()));
    let mut folders = arguments.files.iter().map(|text| folder(text)).collect::<Result<Vec<_>, _>>()?;
    let (mut missing, mut environment, mut outbound) = (Vec::new(), arguments.environment.clone(), arguments.outbound.clone());
    let (mut clock, mut randomness) = (arguments.clock, arguments.randomness);
    for request in entry.manifest.requests.as_deref().unwrap_or_default() {
        match request {
            Request::Files { at, access, .. } => match folders.iter_mut().find(|folder| folder.at == *at) {
                Some(folder) => folder.access = folder.access.or(Some(*access)),
                None if list_has(&table, "files", |value| text_of(value, "at") == Some(at)) => {}
                None => missing.push(format!("--files {at}=PATH  ({})", sanitize(request.why(), 200))),
            },
            Request::Environment { name, .. } => environment.push(name.clone()),
            Request::Clock { .. } => clock = true,
            Request::Randomness { .. } => randomness = true,
            Request::Outbound { origin, .. } if origin == "*" => {
                if outbound.is_empty() && !list_has(&table, "outbound", |_| true) {
                    missing.push(format!("--outbound ORIGIN  ({})", sanitize(request.why(), 200)));
                }
            }
            Request::Outbound { origin, .. } => outbound.push(origin.clone()),
        }
    }
    if !missing.is_empty() {
        let message = format!("{} asks for what only you can name; nothing was written:\n  {}", entry.name, missing.join("\n  "));
        return Err(Error::usage(message));
    }
    for folder in folders {
        let list = list_mut(&mut table, "files");
        list.retain(|value| text_of(value, "at") != Some(&folder.at));
        let mut value = InlineTable::new();
        value.insert("path", folder.path.into());
        value.insert("at", folder.at.into());
        value.insert("access", folder.access.unwrap_or(Access::Read).as_str().into());
        list.push(value);
    }
    for (key, names) in [("environment", environment), ("outbound", outbound)] {
        for name in names {
            let is_it = |value: &Value| value.as_str() == Some(&name) || text_of(value, "origin") == Some(&name);
            if !list_has(&table, key, is_it) {
                list_mut(&mut table, key).push(name);
            }
        }
    }
    for (key, is_granted) in [("clock", clock), ("randomness", randomness)] {
        if is_granted {
            table.insert(key, keeping(&table, key, true.into()));
        }
    }
    Ok(table)
}

struct Folder {
    at: String,
    path: String,
    access: Option<Access>,
}

fn folder(text: &str) -> Result<Folder, Error> {
    let (at, rest) =
        text.split_once('=').ok_or_else(|| Error::usage(format!("--files: expected AT=PATH such as /docs=docs, found `{text}`")))?;
    crate::config::manifest::check_guest_path(at).map_err(|expected| Error::usage(format!("--files: {expected}")))?;
    let (path, access) = match rest.rsplit_once(':') {
        Some((path, "read")) => (path, Some(Access::Read)),
        Some((path, "read-write")) => (path, Some(Access::ReadWrite)),
        Some((path, word)) if !Path::new(rest).is_dir() && Path::new(path).is_dir() => {
            return Err(Error::usage(format!("--files: unknown access `{word}`")).help("one of read, read-write"));
        }
        Some(_) | None => (rest, None),
    };
    Ok(Folder { at: at.to_owned(), path: path.to_owned(), access })
}

/// A value in the place of another, with the comment that stands behind that.
fn keeping(table: &Table, key: &str, new: Value) -> Item {
    let mut item = value(new);
    if let (Some(new), Some(old)) = (item.as_value_mut(), table.get(key).and_then(Item::as_value)) {
        *new.decor_mut() = old.decor().clone();
    }
    item
}

fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a String> {
    match value.as_inline_table()?.get(key)? {
        Value::String(text) => Some(text.value()),
        _ => None,
    }
}

fn list_has(table: &Table, key: &str, is_it: impl Fn(&Value) -> bool) -> bool {
    table.get(key).and_then(Item::as_array).is_some_and(|list| list.iter().any(is_it))
}

fn list_mut<'a>(table: &'a mut Table, key: &str) -> &'a mut Array {
    if !table.get(key).is_some_and(Item::is_array) {
        table.insert(key, value(Array::new()));
    }
    table[key].as_array_mut().expect("it is one, or was made one")
}
