//! `sandhog.toml`: where plugins are, what they are granted, and what the host never exceeds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{self, CheckSettings};
use super::manifest::{check_guest_path, check_name, check_variable, read_access};
use super::reader::{Collector, Fields, Problems};
use super::workflow::read_limits;
use crate::machine::{Balance, BreakerPolicy};
use crate::model::capability::{Ceiling, PinnedGrant, REUSE_MAX};
use crate::model::limits::{BudgetPatch, parse_bytes, parse_duration};
use crate::model::{Access, FileGrant, Grant, Limits, LimitsPatch, Origin, OutboundGrant, Secret};

/// The file's name.
pub const FILE_NAME: &str = "sandhog.toml";

const FIELDS: &[&str] = &[
    "plugins",
    "concurrency",
    "in_flight",
    "memory_total",
    "isolate",
    "balance",
    "breaker",
    "compile",
    "plugin",
    "limits",
    "ceiling",
    "grants",
    "data",
    "secrets",
    "signatures",
    "serve",
    "check",
    "gate",
    "ignore",
];
const CEILING_FIELDS: &[&str] = &[
    "fuel",
    "timeout",
    "memory",
    "input",
    "output",
    "log",
    "handles",
    "scratch",
    "files",
    "environment",
    "clock",
    "randomness",
    "reuse",
    "outbound",
];
const CEILING_CAPABILITIES: &[&str] = &["files", "environment", "clock", "randomness", "reuse", "outbound"];
const GRANT_FIELDS: &[&str] = &["digest", "files", "environment", "clock", "randomness", "reuse", "outbound"];
const SECRET_FIELDS: &[&str] = &["env", "file", "host", "header", "prefix", "plugins"];

/// The least memory that a compiler may be given, in bytes.
const COMPILE_MEMORY_MIN: u64 = 64 << 20;
const SERVE_FIELDS: &[&str] = &["listen", "token_file", "hosts", "origins", "workflows", "upload", "rate", "grace"];
/// The most requests in a second that a configuration may allow one peer.
pub const RATE_MAX: u32 = 1_000_000;
/// The most tasks at once that a configuration may ask for.
const CONCURRENCY_MAX: u32 = 10_000;

/// A secret, and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// What it is, but for its value where that is in a file.
    pub secret: Secret,
    /// The file that has it, if it is in one.
    pub file: Option<PathBuf>,
    /// The variable that has it, if it is in one; the value is empty where that is not set.
    pub variable: Option<String>,
    /// With whose requests it goes.
    pub plugins: Vec<String>,
}

/// What a configuration says of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServeSettings {
    /// The address to listen on.
    pub listen: Option<SocketAddr>,
    /// The file that holds the token.
    pub token_file: Option<PathBuf>,
    /// Names by which the server may be called.
    pub hosts: Vec<String>,
    /// Other sites whose pages may ask.
    pub origins: Vec<String>,
    /// Folders whose workflows can be submitted by name.
    pub workflows: Vec<PathBuf>,
    /// The plugin folder that uploads go into.
    pub upload: Option<PathBuf>,
    /// How many requests a peer may make in a second; 0 for any number.
    pub rate: Option<u32>,
    /// How long what executes may take to end when the server is told to.
    pub grace: Option<Duration>,
}

/// What a configuration says.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Folders with plugins, absolute, in order of precedence.
    pub plugins: Vec<PathBuf>,
    /// How many attempts run at once.
    pub concurrency: Option<u32>,
    /// How the next call finds its provider, where several provide the same name.
    pub balance: Balance,
    /// When circuit breakers open, and how they close again.
    pub breaker: BreakerPolicy,
    /// How many calls of a plugin may be under way at once, for those that have such a limit, by their names.
    pub plugin_concurrency: BTreeMap<String, u32>,
    /// The plugins that are switched off, by their names.
    pub disabled: BTreeSet<String>,
    /// What compiling a component may take, where that does not follow from its size.
    pub compile: BudgetPatch,
    /// How many instances may be alive at once.
    pub in_flight: Option<u32>,
    /// The sum of the `memory` limits of all live instances, in bytes.
    pub memory_total: Option<u64>,
    /// Whether each attempt has a process of its own.
    pub isolate: Option<bool>,
    /// Limits for every plugin, over the plugins' own.
    pub limits: LimitsPatch,
    /// What no limit may exceed.
    pub limits_ceiling: Limits,
    /// What no grant may exceed.
    pub ceiling: Ceiling,
    /// What plugins are granted, by their names.
    pub grants: BTreeMap<String, PinnedGrant>,
    /// Secrets that the host adds to requests of plugins.
    pub secrets: Vec<SecretSource>,
    /// Public keys of minisign. Where there are any, plugins count only with a signature by one of them.
    pub keys: Vec<String>,
    /// Files and folders that gates are given as data, by the names under which they ask for it.
    pub data: BTreeMap<String, PathBuf>,
    /// The folder of the gates that come with sandhog: as trusted as the program itself, their compiled code too. Never read
    /// from a file.
    pub standard: Option<PathBuf>,
    /// What `sandhog serve` does.
    pub serve: ServeSettings,
    /// What `sandhog check` does.
    pub check: CheckSettings,
    /// The file this was read from.
    pub file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            plugins: Vec::new(),
            concurrency: None,
            balance: Balance::default(),
            breaker: BreakerPolicy::default(),
            plugin_concurrency: BTreeMap::new(),
            disabled: BTreeSet::new(),
            compile: BudgetPatch::default(),
            in_flight: None,
            memory_total: None,
            isolate: None,
            limits: LimitsPatch::default(),
            limits_ceiling: Limits::CEILING,
            ceiling: Ceiling::default(),
            grants: BTreeMap::new(),
            secrets: Vec::new(),
            keys: Vec::new(),
            data: BTreeMap::new(),
            standard: None,
            serve: ServeSettings::default(),
            check: CheckSettings::default(),
            file: None,
        }
    }
}

/// Reads a configuration. Paths in it are relative to `base`, the folder that it is in. `variable` looks up an environment
/// variable that is granted.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &Path, text: &str, base: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Settings, Problems> {
    let mut out = Collector::new(&file.display().to_string(), text);
    let table = out.parse(text);
    let fields = out.fields(&table, FIELDS);
    let mut settings = Settings { file: Some(file.to_owned()), ..Settings::default() };
    settings.plugins = fields.strings(&mut out, "plugins").into_iter().map(|(folder, _)| base.join(folder)).collect();
    for (name, setting) in [("concurrency", &mut settings.concurrency), ("in_flight", &mut settings.in_flight)] {
        *setting = fields.whole(&mut out, name, 1..=CONCURRENCY_MAX);
    }
    settings.isolate = match fields.string(&mut out, "isolate") {
        None => None,
        Some(("none", _)) => Some(false),
        Some(("process", _)) => Some(true),
        Some((word, span)) => {
            out.push(span, format!("unknown choice `{word}`"), Some("one of none, process".to_owned()));
            None
        }
    };
    settings.balance = match fields.string(&mut out, "balance") {
        None | Some(("least_busy", _)) => Balance::LeastBusy,
        Some(("round_robin", _)) => Balance::RoundRobin,
        Some((word, span)) => {
            out.push(span, format!("unknown choice `{word}`"), Some("one of least_busy, round_robin".to_owned()));
            Balance::default()
        }
    };
    if let Some(table) = fields.table(&mut out, "breaker") {
        let breaker = out.fields(table, &["consecutive_failures", "timeout", "max_requests"]);
        let policy = &mut settings.breaker;
        for (name, value) in [("consecutive_failures", &mut policy.consecutive_failures), ("max_requests", &mut policy.max_requests)] {
            *value = breaker.whole(&mut out, name, 1..=1_000_000).unwrap_or(*value);
        }
        if let Some((text, span)) = breaker.quantity(&mut out, "timeout") {
            match parse_duration(&text) {
                Ok(timeout) => policy.timeout = timeout,
                Err(error) => out.push(span, format!("`timeout`: {error}"), None),
            }
        }
    }
    if let Some(table) = fields.table(&mut out, "plugin") {
        for (name, value) in table {
            let Some(plugin) = value.get_ref().as_table() else {
                out.wrong_type(value, name.get_ref(), "a table ([plugin.NAME])");
                continue;
            };
            let plugin = out.fields(plugin, &["concurrency", "enabled"]);
            if plugin.boolean(&mut out, "enabled") == Some(false) {
                settings.disabled.insert(name.get_ref().to_string());
            }
            if let Some(most) = plugin.whole(&mut out, "concurrency", 1..=CONCURRENCY_MAX) {
                settings.plugin_concurrency.insert(name.get_ref().to_string(), most);
            }
        }
    }
    if let Some(table) = fields.table(&mut out, "compile") {
        let compile = out.fields(table, &["cpu", "memory"]);
        if let Some((text, span)) = compile.quantity(&mut out, "cpu") {
            match parse_duration(&text) {
                Ok(cpu) if cpu.as_secs() > 0 => settings.compile.cpu = Some(cpu),
                Ok(_) => out.push(span, "`cpu` is less than a second", Some("the least is 1s".to_owned())),
                Err(error) => out.push(span, format!("`cpu`: {error}"), None),
            }
        }
        if let Some((text, span)) = compile.quantity(&mut out, "memory") {
            match parse_bytes(&text) {
                Ok(memory) if memory >= COMPILE_MEMORY_MIN => settings.compile.memory = Some(memory),
                Ok(_) => out.push(span, "`memory` is less than compiling anything takes", Some("the least is 64MiB".to_owned())),
                Err(error) => out.push(span, format!("`memory`: {error}"), None),
            }
        }
    }
    if let Some((text, span)) = fields.quantity(&mut out, "memory_total") {
        match parse_bytes(&text) {
            Ok(bytes) => settings.memory_total = Some(bytes),
            Err(error) => out.push(span, format!("`memory_total`: {error}"), None),
        }
    }
    if let Some(table) = fields.table(&mut out, "limits") {
        settings.limits = read_limits(&mut out, table);
    }
    if let Some(table) = fields.table(&mut out, "ceiling") {
        let ceiling = out.fields(table, CEILING_FIELDS);
        let only_limits = table.iter().filter(|(key, _)| !CEILING_CAPABILITIES.contains(&key.get_ref().as_ref()));
        let only_limits = only_limits.map(|(key, value)| (key.clone(), value.clone())).collect();
        settings.limits_ceiling = Limits::CEILING.with(&read_limits(&mut out, &only_limits));
        settings.ceiling.files = match ceiling.string(&mut out, "files") {
            None => Some(Access::ReadWrite),
            Some(("none", _)) => None,
            Some(("read", _)) => Some(Access::Read),
            Some(("read-write", _)) => Some(Access::ReadWrite),
            Some((word, span)) => {
                out.push(span, format!("unknown access `{word}`"), Some("one of none, read, read-write".to_owned()));
                None
            }
        };
        settings.ceiling.environment = ceiling.boolean(&mut out, "environment").unwrap_or(true);
        settings.ceiling.clock = ceiling.boolean(&mut out, "clock").unwrap_or(true);
        settings.ceiling.randomness = ceiling.boolean(&mut out, "randomness").unwrap_or(true);
        settings.ceiling.reuse = ceiling.boolean(&mut out, "reuse").unwrap_or(true);
        settings.ceiling.outbound = ceiling.boolean(&mut out, "outbound").unwrap_or(true);
    }
    if let Some(table) = fields.table(&mut out, "grants") {
        for (name, value) in table {
            match value.get_ref().as_table() {
                Some(table) => {
                    if let Some(grant) = read_grant(&mut out, table, name.span(), base, &variable) {
                        settings.grants.insert(name.get_ref().to_string(), grant);
                    }
                }
                None => out.wrong_type(value, name.get_ref(), "a table ([grants.NAME])"),
            }
        }
    }
    if let Some(table) = fields.table(&mut out, "secrets") {
        for (name, value) in table {
            match value.get_ref().as_table() {
                Some(table) => settings.secrets.extend(read_secret(&mut out, name, table, base, &variable)),
                None => out.wrong_type(value, name.get_ref(), "a table ([secrets.NAME])"),
            }
        }
    }
    if let Some(table) = fields.table(&mut out, "signatures") {
        let signatures = out.fields(table, &["keys"]);
        for (key, span) in signatures.strings(&mut out, "keys") {
            match minisign_verify::PublicKey::from_base64(key) {
                Ok(_) => settings.keys.push(key.to_owned()),
                Err(error) => {
                    let help = "the second line of a minisign.pub".to_owned();
                    out.push(span, format!("this is no public key of minisign: {error}"), Some(help));
                }
            }
        }
        if signatures.get("keys").is_none_or(|keys| keys.get_ref().as_array().is_some_and(|keys| keys.is_empty())) {
            out.push(0..0, "[signatures] without `keys`", Some("add keys = [\"RW…\"]".to_owned()));
        }
    }
    if let Some(table) = fields.table(&mut out, "data") {
        for (name, value) in table {
            match (check_name(name.get_ref()), value.get_ref().as_str()) {
                (Err(expected), _) => out.push(name.span(), format!("the name of the data does not fit: {expected}"), None),
                (Ok(()), Some(path)) => {
                    settings.data.insert(name.get_ref().to_string(), base.join(path));
                }
                (Ok(()), None) => out.wrong_type(value, name.get_ref(), "the path of a file or folder"),
            }
        }
    }
    if let Some(table) = fields.table(&mut out, "serve") {
        settings.serve = read_serve(&mut out, table, base);
    }
    settings.check = check::read(&mut out, fields);
    out.finish(settings)
}

fn read_serve(out: &mut Collector, table: &toml::de::DeTable<'_>, base: &Path) -> ServeSettings {
    let fields = out.fields(table, SERVE_FIELDS);
    let own = |list: Vec<(&str, std::ops::Range<usize>)>| list.into_iter().map(|(text, _)| text.to_owned()).collect::<Vec<_>>();
    let mut serve = ServeSettings {
        token_file: fields.string(out, "token_file").map(|(file, _)| base.join(file)),
        hosts: own(fields.strings(out, "hosts")),
        workflows: own(fields.strings(out, "workflows")).into_iter().map(|folder| base.join(folder)).collect(),
        upload: fields.string(out, "upload").map(|(folder, _)| base.join(folder)),
        rate: fields.whole(out, "rate", 0..=RATE_MAX),
        ..ServeSettings::default()
    };
    if let Some((text, span)) = fields.string(out, "listen") {
        match text.parse() {
            Ok(address) => serve.listen = Some(address),
            Err(_) => out.push(span, format!("`{text}` is no address to listen on"), Some("such as \"127.0.0.1:8080\"".to_owned())),
        }
    }
    for (origin, span) in fields.strings(out, "origins") {
        match check_origin(origin) {
            Ok(()) => serve.origins.push(origin.to_owned()),
            Err(expected) => out.push(span, expected, None),
        }
    }
    if let Some((text, span)) = fields.quantity(out, "grace") {
        match parse_duration(&text) {
            Ok(grace) => serve.grace = Some(grace),
            Err(error) => out.push(span, format!("`grace`: {error}"), None),
        }
    }
    serve
}

/// Says what is expected of the origin of a page, where a text is none.
///
/// # Errors
/// What is expected.
pub fn check_origin(text: &str) -> Result<(), String> {
    let is_one = url::Url::parse(text).is_ok_and(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == text);
    if is_one { Ok(()) } else { Err(format!("expected the origin of a page, such as https://ci.example.com, found `{text}`")) }
}

fn read_secret(
    out: &mut Collector,
    name: &toml::Spanned<std::borrow::Cow<'_, str>>,
    table: &toml::de::DeTable<'_>,
    base: &Path,
    variable: &impl Fn(&str) -> Option<String>,
) -> Option<SecretSource> {
    let fields = out.fields(table, SECRET_FIELDS);
    let own = |text: Option<(&str, std::ops::Range<usize>)>| text.map(|(text, _)| text.to_owned());
    let (env, file) = (own(fields.string(out, "env")), own(fields.string(out, "file")));
    if env.is_some() == file.is_some() {
        out.push(name.span(), "a secret is in one place: `env` or `file`", Some("add env = \"VARIABLE\", or file = \"PATH\"".to_owned()));
    }
    let (host, header) = (own(fields.string(out, "host")), own(fields.string(out, "header")));
    for (field, given, help) in [("host", &host, "the one host that it is sent to"), ("header", &header, "such as \"authorization\"")] {
        if given.is_none() && fields.get(field).is_none() {
            out.push(name.span(), format!("a secret without `{field}`"), Some(help.to_owned()));
        }
    }
    let plugins: Vec<String> = fields.strings(out, "plugins").into_iter().map(|(plugin, _)| plugin.to_owned()).collect();
    if plugins.is_empty() {
        out.push(name.span(), "a secret that goes with nobody's requests", Some("add plugins = [\"review\"]".to_owned()));
    }
    let value = env.as_deref().and_then(variable).unwrap_or_default().trim().to_owned();
    let prefix = own(fields.string(out, "prefix")).unwrap_or_default();
    if let Some(host) = &host {
        let plain = format!("https://{host}").parse::<Origin>().is_ok_and(|origin| origin.to_string() == format!("https://{host}"));
        if !plain || host.contains('*') {
            let help = "such as api.example.com, in lower case, without a scheme and a port";
            out.push(name.span(), format!("`{host}` is not the name of one host"), Some(help.to_owned()));
        }
    }
    if let Some(header) = header.as_ref().filter(|header| header.parse::<http::HeaderName>().is_err()) {
        out.push(name.span(), format!("`{header}` is not the name of a header"), None);
    }
    if http::HeaderValue::from_str(&format!("{prefix}{value}")).is_err() {
        out.push(name.span(), "the secret and its prefix cannot stand in a header", None);
    }
    let secret = Secret { name: name.get_ref().to_string(), host: host?, header: header?, prefix, value };
    Some(SecretSource { secret, file: file.map(|file| base.join(file)), variable: env, plugins })
}

fn read_grant(
    out: &mut Collector,
    table: &toml::de::DeTable<'_>,
    header: std::ops::Range<usize>,
    base: &Path,
    variable: &impl Fn(&str) -> Option<String>,
) -> Option<PinnedGrant> {
    let fields = out.fields(table, GRANT_FIELDS);
    let mut grant = read_capabilities(out, fields, base);
    let mut unset = Vec::new();
    for (name, span) in fields.strings(out, "environment") {
        match variable(name) {
            _ if check_variable(name).is_err() => {
                out.push(span, format!("expected the name of an environment variable, such as LANG, found {name:?}"), None);
            }
            Some(value) => drop(grant.environment.insert(name.to_owned(), value)),
            None => unset.push(name.to_owned()),
        }
    }
    grant.reuse = fields.whole(out, "reuse", 1..=REUSE_MAX).unwrap_or(0);
    match fields.string(out, "digest") {
        Some((digest, span)) => match digest.parse() {
            Ok(digest) => Some(PinnedGrant { digest, grant, unset }),
            Err(error) => {
                out.push(span, format!("`digest`: {error}"), None);
                None
            }
        },
        None => {
            if fields.get("digest").is_none() {
                let help = "`sandhog plugins inspect NAME` prints the line".to_owned();
                out.push(header, "a grant is for one component, known by its `digest`", Some(help));
            }
            None
        }
    }
}

/// What is granted, but for the environment. Paths are relative to `base`.
pub(super) fn read_capabilities(out: &mut Collector, fields: Fields<'_, '_>, base: &Path) -> Grant {
    let mut grant = Grant::default();
    for value in fields.list(out, "files") {
        let Some(table) = value.get_ref().as_table() else {
            out.wrong_type(value, "files", "a list of tables such as { path = \"docs\", at = \"/docs\", access = \"read\" }");
            continue;
        };
        let file = out.fields(table, &["path", "at", "access"]);
        let access = read_access(out, file);
        match (file.string(out, "path"), file.string(out, "at")) {
            (Some((path, _)), Some((at, span))) => match check_guest_path(at) {
                Ok(()) => grant.files.push(FileGrant { path: base.join(path), at: at.to_owned(), access }),
                Err(expected) => out.push(span, expected, None),
            },
            (None, _) | (_, None) => {
                out.push(value.span(), "a granted directory needs `path` (here) and `at` (for the guest)", None);
            }
        }
    }
    grant.clock = fields.boolean(out, "clock").unwrap_or(false);
    grant.randomness = fields.boolean(out, "randomness").unwrap_or(false);
    for value in fields.list(out, "outbound") {
        let (origin, private) = match (value.get_ref().as_str(), value.get_ref().as_table()) {
            (Some(origin), _) => (Some((origin, value.span())), false),
            (None, Some(table)) => {
                let fields = out.fields(table, &["origin", "private"]);
                (fields.string(out, "origin"), fields.boolean(out, "private").unwrap_or(false))
            }
            (None, None) => (None, false),
        };
        match origin.map(|(origin, span)| (origin.parse::<Origin>(), span)) {
            Some((Ok(origin), _)) => grant.outbound.push(OutboundGrant { origin, private }),
            Some((Err(error), span)) => out.push(span, error.to_string(), None),
            None => out.wrong_type(
                value,
                "outbound",
                "a list of origins, or of tables such as { origin = \"http://gpu.lan:8000\", private = true }",
            ),
        }
    }
    grant
}
