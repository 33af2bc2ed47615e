//! `sandhog plugins grant`, `revoke`, `diff`, `enable` and `disable`: what `sandhog.toml` says of a plugin, shown before it is changed; the
//! rest of the file is kept. What a plugin runs with is still decided where it is read: a grant is a line that somebody could have written.

use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value, value};

use super::context::{Common, Context, read_text};
use super::exit::{Error, Exit};
use super::output::{line_changes, replace};
use super::trust;
use crate::config::settings::{self, FILE_NAME};
use crate::model::capability::REUSE_MAX;
use crate::model::text::{sanitize, sanitize_lines};
use crate::model::{Access, Request};
use crate::registry::{self, Entry};
use crate::runtime::Kind;

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
    /// How many tasks one instance of a worker may do, one after another
    #[arg(long, value_name = "USES", value_parser = clap::value_parser!(u32).range(1..=i64::from(REUSE_MAX)))]
    reuse: Option<u32>,
    /// An origin for requests over HTTP, such as https://api.example.com; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    outbound: Vec<String>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Whose grants are taken away, or who is switched off or on.
#[derive(Debug, clap::Args)]
pub struct NameArguments {
    /// The plugin, by its name
    plugin: String,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The name of the tables of grants.
const GRANTS: &str = "grants";
/// The name of the tables of what else is said of plugins.
const PLUGIN: &str = "plugin";

/// The configuration file, and what is in it.
struct Document {
    file: PathBuf,
    before: String,
    document: DocumentMut,
    /// Held until the file is written: whoever else edits it waits.
    _lock: Option<std::fs::File>,
}

impl Document {
    fn open(common: &Common) -> Result<Self, Error> {
        let file = common.config_file()?.unwrap_or_else(|| PathBuf::from(FILE_NAME));
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let lock = std::fs::File::open(folder).ok().filter(|folder| folder.lock().is_ok());
        let before = if file.exists() { read_text(&file)? } else { String::new() };
        let document = before.parse().map_err(|error: toml_edit::TomlError| Error::usage(format!("{}: {error}", file.display())))?;
        let document: Self = Self { file, before, document, _lock: lock };
        for group in [GRANTS, PLUGIN] {
            let all = document.document.get(group);
            let tables = all.and_then(Item::as_table).into_iter().flat_map(Table::iter);
            if all.is_some_and(|item| !item.is_table()) || tables.into_iter().any(|(_, item)| !item.is_table()) {
                let message = format!("{}: `{group}` has what is no table of its own", document.file.display());
                return Err(Error::usage(message).help(format!("write it as [{group}.NAME], and its fields in lines below")));
            }
        }
        Ok(document)
    }

    /// The folder of the file, to which its paths are relative.
    fn folder(&self) -> PathBuf {
        self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
    }

    fn of(&self, group: &str, plugin: &str) -> Option<&Table> {
        self.document.get(group)?.as_table()?.get(plugin)?.as_table()
    }

    /// The table of a plugin, made where there is none.
    fn of_mut(&mut self, group: &str, plugin: &str) -> Option<&mut Table> {
        let tables = self.document.entry(group).or_insert_with(|| {
            let mut tables = Table::new();
            tables.set_implicit(true);
            Item::Table(tables)
        });
        tables.as_table_mut()?.entry(plugin).or_insert_with(|| Item::Table(Table::new())).as_table_mut()
    }

    fn remove(&mut self, group: &str, plugin: &str) {
        if let Some(tables) = self.document.get_mut(group).and_then(Item::as_table_mut) {
            tables.remove(plugin);
        }
    }

    /// Shows what changes, and writes it. A directory whose owner trusted it stays so: he is who grants.
    fn finish(self, dry_run: bool) -> Result<(), Error> {
        let mut after = self.document.to_string();
        if self.before.contains("\r\n") {
            after = after.replace("\r\n", "\n").replace('\n', "\r\n"); // lines end as they did
        }
        let base = std::path::absolute(self.folder()).map_err(|error| Error::usage(format!("{}: {error}", self.file.display())))?;
        // Nothing is written that would not be read.
        settings::read(&self.file, &after, &base, |name| std::env::var(name).ok())?;
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
        let folder = self.folder();
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
    let mut document = Document::open(common)?;
    let folder = document.folder();
    let mut table = document.of(GRANTS, &entry.name).cloned().unwrap_or_default();
    grant_in(&mut table, &entry, arguments, &folder)?;
    let (summary, granted) = (summary(&entry.name, &table), table.clone());
    if let Some(place) = document.of_mut(GRANTS, &entry.name) {
        *place = table;
    }
    document.finish(arguments.dry_run)?;
    errln!("{summary}");
    for name in arguments.environment.iter().filter(|name| std::env::var_os(name).is_none()) {
        errln!("note: the environment variable {} is not set here; where it is not, {} does not run", sanitize(name, 200), entry.name);
    }
    let ceiling = context.registry.settings().ceiling;
    let forbidden = [
        ("files", ceiling.files.is_none()),
        ("environment", !ceiling.environment),
        ("clock", !ceiling.clock),
        ("randomness", !ceiling.randomness),
        ("reuse", !ceiling.reuse),
        ("outbound", !ceiling.outbound),
    ];
    for (key, _) in forbidden.iter().filter(|(key, is_forbidden)| *is_forbidden && granted.contains_key(key)) {
        errln!("note: [ceiling] forbids `{key}`, and {} will not have it", entry.name);
    }
    let asked = entry.manifest.requests.iter().flatten().find_map(|r| if let Request::Reuse { uses, .. } = r { Some(*uses) } else { None });
    if let (Some(given), Some(asked)) = (arguments.reuse, asked.filter(|asked| arguments.reuse.is_some_and(|given| given > *asked))) {
        errln!("note: {} asks for a reuse of {asked}, and will have that, not {given}", entry.name);
    }
    for unasked in unasked(&entry, arguments) {
        errln!("note: {} does not ask for {unasked}, and will not have it", entry.name);
    }
    Ok(Exit::Passed)
}

/// Takes a plugin's grants away.
pub fn revoke(common: &Common, arguments: &NameArguments) -> Result<Exit, Error> {
    let mut document = Document::open(common)?;
    if document.of(GRANTS, &arguments.plugin).is_none() {
        return Err(Error::usage(format!("{}: nothing is granted to {:?}", document.file.display(), arguments.plugin)));
    }
    document.remove(GRANTS, &arguments.plugin);
    document.finish(arguments.dry_run)?;
    Ok(Exit::Passed)
}

/// Switches a plugin off, or on again.
pub fn enable(common: &Common, context: &Context, arguments: &NameArguments, enabled: bool) -> Result<Exit, Error> {
    let plugin = &arguments.plugin;
    let known = match context.registry.find_newest(plugin) {
        Ok(entry) if entry.name == *plugin => true,
        Ok(_) => false,
        // A bad one may be switched off; and one that is no more, on.
        Err(registry::Error::NotFound { .. }) => enabled && context.registry.settings().disabled.contains(plugin),
        Err(_) => true,
    };
    if !known {
        context.registry.find_newest(plugin)?;
        return Err(Error::usage(format!("{plugin:?} is no plugin's name")).help("`sandhog plugins list` shows the names"));
    }
    let mut document = Document::open(common)?;
    if let Some(table) = document.of_mut(PLUGIN, plugin) {
        if !enabled {
            put(table, "enabled", false.into());
        } else {
            table.remove("enabled");
        }
    }
    if document.of(PLUGIN, plugin).is_some_and(Table::is_empty) {
        document.remove(PLUGIN, plugin);
    }
    document.finish(arguments.dry_run)?;
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
        if registry.is_standard_ungranted(&entry) && names.is_empty() {
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

/// Adds to the table of a plugin the digest of today, and what it asks for; what is there already stays.
fn grant_in(table: &mut Table, entry: &Entry, arguments: &GrantArguments, base: &Path) -> Result<(), Error> {
    put(table, "digest", entry.digest.to_string().into());
    let mut folders = arguments.files.iter().map(|text| folder(text)).collect::<Result<Vec<_>, _>>()?;
    for folder in &folders {
        if !base.join(&folder.path).is_dir() {
            return Err(Error::usage(format!("--files: {} is no folder; nothing was written", base.join(&folder.path).display())));
        }
    }
    let (mut missing, mut environment, mut outbound) = (Vec::new(), arguments.environment.clone(), arguments.outbound.clone());
    let (mut clock, mut randomness, mut reuse) = (arguments.clock, arguments.randomness, arguments.reuse);
    if reuse.is_some() && entry.kind != Kind::Worker {
        let message =
            format!("--reuse: {} is a {}, and only a worker's instances may do more than one task", entry.name, entry.kind.as_str());
        return Err(Error::usage(message));
    }
    for request in entry.manifest.requests.as_deref().unwrap_or_default() {
        match request {
            Request::Files { at, access, .. } => match folders.iter_mut().find(|folder| folder.at == *at) {
                Some(folder) => folder.access = folder.access.or(Some(*access)),
                None if list_has(table, "files", |value| text_of(value, "at") == Some(at)) => {}
                None => missing.push(format!("--files {at}=PATH  ({})", sanitize(request.why(), 200))),
            },
            Request::Environment { name, .. } => environment.push(name.clone()),
            Request::Clock { .. } => clock = true,
            Request::Randomness { .. } => randomness = true,
            Request::Reuse { uses, .. } if !table.contains_key("reuse") => reuse = reuse.or(Some(*uses)),
            Request::Reuse { .. } => {}
            Request::Outbound { origin, .. } if origin == "*" => {
                if outbound.is_empty() && !list_has(table, "outbound", |_| true) {
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
        let list = list_mut(table, "files");
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
            if !list_has(table, key, is_it) {
                list_mut(table, key).push(name);
            }
        }
    }
    for (key, is_granted) in [("clock", clock), ("randomness", randomness)] {
        if is_granted {
            put(table, key, true.into());
        }
    }
    if let Some(uses) = reuse {
        put(table, "reuse", i64::from(uses).into());
    }
    Ok(())
}

/// All that a plugin is granted then, what was granted before included.
fn summary(plugin: &str, table: &Table) -> String {
    let granted = table.iter().filter(|(key, item)| *key != "digest" && item.as_bool() != Some(false));
    let lines: Vec<String> = granted.map(|(key, item)| format!("\n  {key} = {}", sanitize_lines(item.to_string().trim(), 1000))).collect();
    match lines.as_slice() {
        [] => format!("{plugin} is granted nothing, and known by its digest"),
        lines => format!("{plugin} is granted, all in all:{}", lines.concat()),
    }
}

/// What was named and not asked for, by one that says what it asks for: it runs with what is in both.
fn unasked(entry: &Entry, arguments: &GrantArguments) -> Vec<String> {
    let Some(requests) = entry.manifest.requests.as_deref() else { return Vec::new() };
    let asks = |is_it: &dyn Fn(&Request) -> bool| requests.iter().any(is_it);
    let mut unasked = Vec::new();
    let paths = arguments.files.iter().filter_map(|text| text.split_once('=')).map(|(at, _)| at);
    unasked.extend(
        paths.filter(|at| !asks(&|r| matches!(r, Request::Files { at: asked, .. } if asked == at))).map(|at| format!("files at {at}")),
    );
    let variables = arguments.environment.iter();
    unasked.extend(
        variables.filter(|n| !asks(&|r| matches!(r, Request::Environment { name, .. } if name == *n))).map(|n| format!("the variable {n}")),
    );
    if arguments.clock && !asks(&|r| matches!(r, Request::Clock { .. })) {
        unasked.push("the clock".to_owned());
    }
    if arguments.randomness && !asks(&|r| matches!(r, Request::Randomness { .. })) {
        unasked.push("randomness".to_owned());
    }
    if arguments.reuse.is_some() && !asks(&|r| matches!(r, Request::Reuse { .. })) {
        unasked.push("reuse of its instances".to_owned());
    }
    if !arguments.outbound.is_empty() && !asks(&|r| matches!(r, Request::Outbound { .. })) {
        unasked.push("requests over HTTP".to_owned());
    }
    unasked
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
    if path.is_empty() {
        return Err(Error::usage(format!("--files: expected a folder behind `=`, found `{text}`")));
    }
    Ok(Folder { at: at.to_owned(), path: path.to_owned(), access })
}

/// Puts a value under a key. Where there is one already, the comments around it stay.
fn put(table: &mut Table, key: &str, new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => {
            table.insert(key, value(new));
        }
    }
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
