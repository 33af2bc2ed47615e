//! `sandhog plugins`: looks at plugins.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::add;
use super::context::Common;
use super::exit::{Error, Exit};
use super::grants;
use crate::client::{Client, Plugins};
use crate::model::limits::{LimitsPatch, show_bytes};
use crate::model::text::{self, PATH_BYTES_MAX, sanitize, shown};
use crate::registry::{self, Entry, Registry};
use crate::report::{self, SCHEMA_VERSION, grant_lines};

/// Commands of `plugins`.
#[derive(Debug, clap::Subcommand)]
pub enum PluginsCommand {
    /// List the plugins of the configured folders, and the files there that are none, with the reason
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show all about one plugin: exports, imports, what it wants and is granted, limits, digest
    Inspect {
        /// Its name in the plugin folders, or a path to a component
        plugin: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Compile the gates that come with sandhog ahead: for whoever installs it
    #[command(hide = true)]
    CompileAhead,
    /// Start a component ahead: run its `wizer-initialize` with nothing granted and no budget, and write a component that begins there
    PreInitialize {
        /// The component, which must be trusted; in Rust, `sandhog_guest::initialize!` makes it one with such a function
        component: PathBuf,
        /// The file to write
        output: PathBuf,
    },
    /// Take plugins into a plugin folder: a file, a folder, an OCI image layout, or a program of a published crate
    Add(add::AddArguments),
    /// Grant a plugin what it asks for, as it is now: a table in sandhog.toml, pinned to its digest
    Grant(grants::GrantArguments),
    /// Take a plugin's grants away
    Revoke(grants::NameArguments),
    /// Switch a plugin on again
    Enable(grants::NameArguments),
    /// Switch a plugin off: a line in sandhog.toml, which counts in hosts that are running, too
    Disable(grants::NameArguments),
    /// Say which plugins fit their grants, and what those that are held lack; 1 when one is held
    Diff {
        /// Names in the plugin folders; all of them when none is named
        #[arg(value_name = "PLUGIN")]
        names: Vec<String>,
    },
    /// Check that plugins compile, link and may do what they ask for; all of the folders' when none is named
    Check {
        /// Names in the plugin folders, or paths to components
        #[arg(value_name = "PLUGIN")]
        names: Vec<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl PluginsCommand {
    /// Whether a server can do it: nothing that grants, and nothing on files of this machine.
    pub fn works_on_a_server(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Inspect { .. } | Self::Add(_))
    }

    pub fn json(&self) -> bool {
        match self {
            Self::CompileAhead | Self::PreInitialize { .. } | Self::Add(_) | Self::Grant(_) | Self::Revoke(_) => false,
            Self::Enable(_) | Self::Disable(_) | Self::Diff { .. } => false,
            Self::List { json } | Self::Inspect { json, .. } | Self::Check { json, .. } => *json,
        }
    }
}

/// Does what was asked.
pub fn plugins(common: &Common, command: PluginsCommand) -> Result<Exit, Error> {
    if let Some(client) = common.remote()?.filter(|_| command.works_on_a_server()) {
        return super::block_on(async {
            match command {
                PluginsCommand::List { json } => list_there(&client, json).await,
                PluginsCommand::Inspect { plugin, json } => inspect_there(&client, &plugin, json).await,
                PluginsCommand::Add(arguments) => add::add_there(&client, &arguments).await,
                _ => Err(Error::usage("this is done on the server's machine")),
            }
        })?;
    }
    let context = common.open(Some(1))?;
    match command {
        PluginsCommand::List { json } => list(&context.registry, json),
        PluginsCommand::Inspect { plugin, json } => inspect(&context.registry, &plugin, json),
        PluginsCommand::CompileAhead => {
            let compiled = context.registry.compile_ahead()?;
            errln!("compiled {compiled} ahead");
            Ok(Exit::Passed)
        }
        PluginsCommand::PreInitialize { component, output } => {
            let failed = |path: &Path, error: std::io::Error| Error::usage(format!("{}: {error}", path.display()));
            let bytes = std::fs::read(&component).map_err(|error| failed(&component, error))?;
            let initialized = context.runtime.pre_initialize(&bytes).map_err(|error| Error::usage(error.to_string()))?;
            std::fs::write(&output, initialized).map_err(|error| failed(&output, error))?;
            Ok(Exit::Passed)
        }
        PluginsCommand::Add(arguments) => add::add(&context, &arguments),
        PluginsCommand::Grant(arguments) => grants::grant(common, &context, &arguments),
        PluginsCommand::Revoke(arguments) => grants::revoke(common, &arguments),
        PluginsCommand::Enable(arguments) => grants::enable(common, &context, &arguments, true),
        PluginsCommand::Disable(arguments) => grants::enable(common, &context, &arguments, false),
        PluginsCommand::Diff { names } => grants::diff(&context, &names),
        PluginsCommand::Check { names, json } => check(&context.registry, names, json),
    }
}

fn list(registry: &Registry, as_json: bool) -> Result<Exit, Error> {
    let shelf = registry.shelf();
    if as_json {
        outln!("{}", report::plugins_json(&shelf));
        return Ok(Exit::Passed);
    }
    let width = shelf.plugins.keys().map(String::len).max().unwrap_or(0).max(4);
    if shelf.plugins.is_empty() {
        let folders = &shelf.settings.plugins;
        if folders.is_empty() {
            errln!("no plugin folder is named: write plugins = [\"FOLDER\"] into sandhog.toml, or use --plugins FOLDER");
        } else {
            errln!("no plugins in {}", folders.iter().map(|folder| shown(folder)).collect::<Vec<_>>().join(", "));
        }
    } else {
        outln!("{:width$}  {:<7}  {:<8}  {:>8}  description", "name", "kind", "version", "size");
    }
    for entry in shelf.plugins.values() {
        outln!(
            "{:width$}  {:<7}  {:<8}  {:>8}  {}",
            entry.name,
            entry.kind.as_str(),
            sanitize(entry.manifest.version.as_deref().unwrap_or("-"), 20),
            show_bytes(entry.size_bytes),
            sanitize(entry.manifest.description.as_deref().unwrap_or("-"), 200),
        );
    }
    for entry in &shelf.shadowed {
        errln!("shadowed: {} is not used; an earlier folder has a plugin named `{}`", shown(&entry.path), entry.name);
    }
    for (name, held) in &shelf.held {
        errln!("held: {name} ({}): {}", shown(&held.entry.path), text::continued(&text::sanitize_lines(&held.reason, 2000)));
    }
    for (name, entry) in &shelf.disabled {
        errln!("disabled: {name} ({})", shown(&entry.path));
    }
    for (path, bad) in &shelf.bad {
        errln!("bad: {}: {}", shown(path), text::continued(&text::sanitize_lines(&bad.to_string(), 2000)));
    }
    Ok(Exit::Passed)
}

/// What a server's plugin folders hold.
async fn list_there(client: &Client, as_json: bool) -> Result<Exit, Error> {
    let plugins: Plugins = client.get("/v1/plugins", &()).await?;
    if as_json {
        let of = |state: &str| plugins.plugins.iter().filter(|plugin| plugin.state == state).collect::<Vec<_>>();
        outln!(
            "{}",
            json!({
                "schema_version": SCHEMA_VERSION,
                "plugins": of("serves"),
                "held": of("held"),
                "disabled": of("disabled"),
                "shadowed": of("shadowed"),
                "bad": plugins.bad,
            })
        );
        return Ok(Exit::Passed);
    }
    let width = plugins.plugins.iter().map(|plugin| plugin.name.len()).max().unwrap_or(0).max(4);
    outln!("{:width$}  {:<7}  {:<8}  {:>8}  description", "name", "kind", "version", "size");
    for plugin in plugins.plugins.iter().filter(|plugin| plugin.state == "serves") {
        outln!(
            "{:width$}  {:<7}  {:<8}  {:>8}  {}",
            sanitize(&plugin.name, 100),
            plugin.kind,
            sanitize(plugin.version.as_deref().unwrap_or("-"), 20),
            show_bytes(plugin.size_bytes),
            sanitize(plugin.description.as_deref().unwrap_or("-"), 200),
        );
    }
    for plugin in plugins.plugins.iter().filter(|plugin| plugin.state != "serves") {
        let reason = plugin
            .reason
            .as_deref()
            .map_or_else(String::new, |reason| format!(": {}", text::continued(&text::sanitize_lines(reason, 2000))));
        errln!("{}: {} ({}){reason}", plugin.state, sanitize(&plugin.name, 100), sanitize(&plugin.path, 1000));
    }
    for bad in &plugins.bad {
        errln!("bad: {}: {}", sanitize(&bad.path, 1000), text::continued(&text::sanitize_lines(&bad.problem, 2000)));
    }
    Ok(Exit::Passed)
}

/// All about a plugin of a server.
async fn inspect_there(client: &Client, plugin: &str, as_json: bool) -> Result<Exit, Error> {
    if registry::is_path(plugin) {
        return Err(Error::usage("a path is looked at here, and not over --server").help("leave --server out"));
    }
    let told: Value = client.get(&format!("/v1/plugins/{plugin}"), &()).await?;
    if as_json {
        outln!("{told}");
        return Ok(Exit::Passed);
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => sanitize(text, 1000),
        Value::Array(items) => items.iter().map(|item| sanitize(item.as_str().unwrap_or_default(), 200)).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    };
    for field in
        ["name", "version", "description", "kind", "state", "held", "path", "digest", "limits", "scope", "exports", "imports", "grants"]
    {
        outln!("{field:<11} {}", text(&told[field]));
    }
    for request in told["requests"].as_array().into_iter().flatten() {
        let granted = if request["granted"] == true { "granted" } else { "not granted" };
        outln!("{:<11} {} ({granted}): {}", "wants", text(&request["what"]), text(&request["why"]));
    }
    Ok(Exit::Passed)
}

fn inspect(registry: &Registry, plugin: &str, as_json: bool) -> Result<Exit, Error> {
    let entry = registry.find_newest(plugin)?;
    let shelf = registry.shelf();
    if as_json {
        let mut object = report::plugin_json(registry, &entry);
        object["origin"] = json!(origin(&entry));
        outln!("{object}");
        return Ok(Exit::Passed);
    }
    let state = report::plugin_state(&shelf, &entry);
    let budget = registry.compile_budget(&entry);
    let limits = registry.limits(&entry, &LimitsPatch::default());
    let grant = registry.grant(&entry);
    outln!("{} {}", entry.name, sanitize(entry.manifest.version.as_deref().unwrap_or(""), 40));
    if let Some(description) = &entry.manifest.description {
        outln!("  {}", sanitize(description, 1000));
    }
    outln!("\nkind      {}", entry.kind.as_str());
    let authors = Some(entry.manifest.authors.join(", ")).filter(|authors| !authors.is_empty());
    for (word, value) in [("authors", &authors), ("license", &entry.manifest.license), ("source", &entry.manifest.source)] {
        if let Some(value) = value {
            outln!("{word:<9} {}", sanitize(value, 1000));
        }
    }
    outln!("file      {} ({})", shown(&entry.path), show_bytes(entry.size_bytes));
    outln!("digest    {}", entry.digest);
    if let Some(origin) = origin(&entry) {
        let since = if origin.digest == entry.digest.to_string() { "" } else { ", and changed since" };
        outln!("origin    {}, added {}{since}", sanitize(&origin.origin, 400), sanitize(&origin.added, 40));
    }
    if state != "serves" {
        let before = shelf.plugins.get(&entry.name).map_or_else(String::new, |old| format!("; {} serves", old.digest));
        outln!("state     {state}{before}");
    }
    match &limits {
        Ok(limits) => outln!("limits    {limits}"),
        Err(error) => outln!("limits    held: {error}"),
    }
    outln!("compiling {:?} of processor time, {} of memory at most", budget.cpu, show_bytes(budget.memory));
    if let Some(scope) = &entry.manifest.scope {
        outln!("scope     {scope}");
    }
    if let Some(schema) = &entry.component.params {
        outln!("\nparams (JSON schema)");
        sanitize_lines(schema).for_each(|line| outln!("  {line}"));
    }
    outln!("\nexports");
    entry.component.exports.iter().for_each(|name| outln!("  {name}"));
    outln!("imports");
    entry.component.imports.iter().for_each(|name| outln!("  {name}"));
    outln!("wants");
    match &entry.manifest.requests {
        None => outln!("  (says nothing; it runs with what it is granted)"),
        Some(requests) if requests.is_empty() => outln!("  nothing"),
        Some(requests) => requests.iter().for_each(|request| outln!("  {}: {}", request.what(), sanitize(request.why(), 200))),
    }
    outln!("granted");
    match &grant {
        Ok(grant) => grant_lines(grant).iter().for_each(|line| outln!("  {line}")),
        Err(error) => outln!("  held: {error}"),
    }
    if !registry.settings().grants.contains_key(&entry.name) && grant.is_ok() {
        outln!("\nto grant it something, write into sandhog.toml:\n\n{}", registry::grant_lines(&entry));
    }
    Ok(Exit::Passed)
}

/// Where a plugin came from, if its folder says so.
fn origin(entry: &Entry) -> Option<add::Origin> {
    add::read_origins(entry.path.parent()?).ok()?.remove(&entry.name)
}

/// The lines of a text that somebody else wrote, safe to show.
fn sanitize_lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| sanitize(line, 400))
}

fn check(registry: &Registry, names: Vec<String>, as_json: bool) -> Result<Exit, Error> {
    let mut results: Vec<(String, Option<String>)> = Vec::new();
    let is_all = names.is_empty();
    let names = if is_all {
        let shelf = registry.shelf();
        results.extend(shelf.bad.iter().map(|(path, bad)| (path.display().to_string(), Some(bad.to_string()))));
        let mut names: Vec<String> = shelf.plugins.keys().chain(shelf.held.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names
    } else {
        names
    };
    for name in names {
        let problem = registry.find_newest(&name).and_then(|entry| {
            registry.code(&entry)?;
            registry.limits(&entry, &LimitsPatch::default())?;
            match registry.grant(&entry) {
                Err(registry::Error::NotGranted { .. }) if is_all && registry.is_standard_ungranted(&entry) => Ok(()),
                granted => granted.map(drop),
            }
        });
        results.push((name, problem.err().map(|error| error.to_string())));
    }
    let good = results.iter().all(|(_, problem)| problem.is_none());
    if as_json {
        let results: Vec<Value> =
            results.iter().map(|(name, problem)| json!({ "plugin": name, "good": problem.is_none(), "problem": problem })).collect();
        outln!("{}", json!({ "schema_version": SCHEMA_VERSION, "good": good, "plugins": results }));
    } else if results.is_empty() {
        return Err(Error::usage("there is nothing to check").help("name a plugin or a component, or a folder with --plugins"));
    } else {
        for (name, problem) in &results {
            match problem {
                None => outln!("good: {}", sanitize(name, PATH_BYTES_MAX)),
                Some(problem) => {
                    outln!("bad: {}: {}", sanitize(name, PATH_BYTES_MAX), text::continued(&text::sanitize_lines(problem, 2000)))
                }
            }
        }
    }
    Ok(if good { Exit::Passed } else { Exit::Usage })
}
