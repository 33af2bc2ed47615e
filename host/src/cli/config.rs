//! `sandhog config`: what holds, and where each value came from. Flags stand over the environment, that over the file, and that over
//! what holds when nobody says anything.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde_json::{Value, json};

use super::context::Common;
use super::exit::{Error, Exit};
use super::serve::{LISTEN, RATE, ServeOptions};
use crate::machine::{Balance, BreakerPolicy};
use crate::model::Limits;
use crate::model::limits::show_bytes;
use crate::model::text::sanitize;
use crate::report::SCHEMA_VERSION;
use crate::runtime::{self, Settings as RuntimeSettings, Trial};

/// What of the configuration.
#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with its value and where that came from: flag, environment, file or default
    #[command(
        after_help = "Takes the options of `serve`, too, and shows what they would do. Secrets and tokens are named, and never printed."
    )]
    Show {
        #[command(flatten)]
        serve: ServeOptions,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Try the walls that --isolate=process puts around a guest: what its process may not do on this machine
    #[command(after_help = "Starts a process as for an attempt, and has it try to get out. Exits with 1 where something succeeds: then\n\
--isolate=process refuses to work here.")]
    Walls {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    /// Whether errors are printed as JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::Show { json, .. } | Self::Walls { json } => *json,
        }
    }
}

/// Where the values of arguments came from, by their names.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<String, ValueSource>);

impl Sources {
    /// Of a whole command line.
    pub fn of(matches: &ArgMatches) -> Self {
        let mut sources = BTreeMap::new();
        let mut level = Some(matches);
        while let Some(matches) = level {
            for id in matches.ids() {
                if let Some(source) = matches.value_source(id.as_str()) {
                    sources.insert(id.as_str().to_owned(), source);
                }
            }
            level = matches.subcommand().map(|(_, matches)| matches);
        }
        Self(sources)
    }

    /// Whether an argument stands on the command line.
    pub fn is_given(&self, name: &str) -> bool {
        self.0.get(name) == Some(&ValueSource::CommandLine)
    }

    /// Where the value of an argument came from, if it has one: and else whether the file has one.
    fn source(&self, name: &str, in_file: bool) -> &'static str {
        match self.0.get(name) {
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "environment",
            _ if in_file => "file",
            _ => "default",
        }
    }
}

/// One setting.
struct Row {
    name: &'static str,
    value: Value,
    source: &'static str,
}

/// Shows.
pub fn config(common: &Common, command: &ConfigCommand, sources: &Sources) -> Result<Exit, Error> {
    let (serve, as_json) = match command {
        ConfigCommand::Show { serve, json } => (serve, json),
        ConfigCommand::Walls { json } => return walls(*json),
    };
    let rows = rows(common, serve, sources)?;
    if *as_json {
        let settings = rows.iter().map(|row| json!({ "name": row.name, "value": row.value, "source": row.source }));
        outln!("{}", json!({ "schema_version": SCHEMA_VERSION, "settings": settings.collect::<Vec<_>>() }));
        return Ok(Exit::Passed);
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
    for row in rows {
        let value = match &row.value {
            Value::Null => "-".to_owned(),
            Value::Number(bytes) if row.name == "memory_total" => show_bytes(bytes.as_u64().unwrap_or_default()),
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => "-".to_owned(),
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect::<Vec<_>>().join(", ")
            }
            value => value.to_string(),
        };
        outln!("{:width$}  {:<11}  {value}", row.name, row.source);
    }
    Ok(Exit::Passed)
}

/// Tries the walls, and says what came of it.
fn walls(as_json: bool) -> Result<Exit, Error> {
    let trials = runtime::trials(&super::context::this_program()?)?;
    let hold = trials.iter().all(|trial| trial.stopped_by.is_some());
    if as_json {
        let told = trials.iter().map(|trial| json!({ "act": trial.act, "stopped_by": trial.stopped_by }));
        outln!("{}", json!({ "schema_version": SCHEMA_VERSION, "hold": hold, "trials": told.collect::<Vec<_>>() }));
    } else {
        let width = trials.iter().map(|trial| trial.act.len()).max().unwrap_or_default();
        for Trial { act, stopped_by } in &trials {
            match stopped_by {
                Some(reason) => outln!("{act:width$}  stopped: {}", sanitize(reason, 200)),
                None => outln!("{act:width$}  NOT STOPPED"),
            }
        }
    }
    Ok(if hold { Exit::Passed } else { Exit::Failed })
}

fn rows(common: &Common, serve: &ServeOptions, sources: &Sources) -> Result<Vec<Row>, Error> {
    let file = common.config_file()?;
    let settings = common.settings()?;
    let of_file = &settings.serve;
    let path = |path: &Path| Value::from(path.display().to_string());
    let paths = |list: &[std::path::PathBuf]| list.iter().map(|of| path(of)).collect::<Value>();
    let mut rows = Vec::new();
    let mut row = |name: &'static str, value: Value, source: &'static str| rows.push(Row { name, value, source });
    let found = match sources.source("config", false) {
        "default" if file.is_some() => "found",
        source => source,
    };
    row("config", file.as_deref().map_or(Value::Null, path), found);
    row("state_dir", path(&common.state_folder()?), sources.source("state_dir", false));
    row("cache_dir", common.cache_folder().as_deref().map_or(Value::Null, path), sources.source("cache_dir", false));
    row("plugins", paths(&settings.plugins), sources.source("plugins", !settings.plugins.is_empty()));
    row("gates", common.standard_gates().as_deref().map_or(Value::Null, path), sources.source("gates", false));
    let data = settings.data.iter().chain(common.data.iter().map(|(name, path)| (name, path)));
    let data: Vec<String> = data.map(|(name, path)| format!("{name}={}", path.display())).collect();
    row("data", json!(data), sources.source("data", !settings.data.is_empty()));
    let defaults = RuntimeSettings::default();
    let concurrency = common.concurrency.or(settings.concurrency).map_or(defaults.threads * 2, |n| n as usize);
    row("concurrency", json!(concurrency), sources.source("concurrency", settings.concurrency.is_some()));
    row("threads", json!(common.threads.map_or(defaults.threads, |n| n as usize)), sources.source("threads", false));
    let in_file = |is_there: bool| if is_there { "file" } else { "default" };
    row("in_flight", json!(settings.in_flight.unwrap_or(defaults.in_flight)), in_file(settings.in_flight.is_some()));
    row("memory_total", json!(settings.memory_total.unwrap_or(defaults.memory_total_bytes)), in_file(settings.memory_total.is_some()));
    let isolate = common.isolate(&settings).as_str();
    row("isolate", isolate.into(), sources.source("isolate", settings.isolate.is_some()));
    let balance = match settings.balance {
        Balance::LeastBusy => "least_busy",
        Balance::RoundRobin => "round_robin",
    };
    row("balance", balance.into(), in_file(settings.balance != Balance::default()));
    let breaker = &settings.breaker;
    let told = format!("{} failures in a row, {:?}, {} probes", breaker.consecutive_failures, breaker.timeout, breaker.max_requests);
    row("breaker", told.into(), in_file(*breaker != BreakerPolicy::default()));
    row(
        "limits",
        json!(Limits::default().with(&settings.limits).to_string()),
        in_file(settings.limits != crate::model::LimitsPatch::default()),
    );
    row("ceiling", json!(settings.limits_ceiling.to_string()), in_file(settings.limits_ceiling != Limits::CEILING));
    row("grants", settings.grants.keys().cloned().collect(), in_file(!settings.grants.is_empty()));
    row("secrets", settings.secrets.iter().map(|of| of.secret.name.clone()).collect(), in_file(!settings.secrets.is_empty()));
    row("disabled", settings.disabled.iter().cloned().collect(), in_file(!settings.disabled.is_empty()));
    row("server", common.server.clone().map_or(Value::Null, Value::from), sources.source("server", false));
    let listen = serve.listen.or(of_file.listen).map_or_else(|| LISTEN.to_owned(), |address| address.to_string());
    row("serve.listen", listen.into(), sources.source("listen", of_file.listen.is_some()));
    let (token, source) = match (&common.token_file, std::env::var_os("SANDHOG_TOKEN"), &of_file.token_file) {
        (Some(file), _, _) => (format!("in {}", file.display()), sources.source("token_file", false)),
        (None, Some(_), _) => ("in SANDHOG_TOKEN".to_owned(), "environment"),
        (None, None, Some(file)) => (format!("in {}", file.display()), "file"),
        (None, None, None) => ("none".to_owned(), "default"),
    };
    row("serve.token", token.into(), source);
    let list = |own: &[String], of_file: &[String]| json!(if own.is_empty() { of_file } else { own });
    row("serve.hosts", list(&serve.hosts, &of_file.hosts), sources.source("hosts", !of_file.hosts.is_empty()));
    row("serve.origins", list(&serve.origins, &of_file.origins), sources.source("origins", !of_file.origins.is_empty()));
    let folders = if serve.workflows.is_empty() { &of_file.workflows } else { &serve.workflows };
    row("serve.workflows", paths(folders), sources.source("workflows", !of_file.workflows.is_empty()));
    let upload = serve.upload.as_deref().or(of_file.upload.as_deref());
    row("serve.upload", upload.map_or(Value::Null, path), sources.source("upload", of_file.upload.is_some()));
    row("serve.rate", json!(serve.rate.or(of_file.rate).unwrap_or(RATE)), sources.source("rate", of_file.rate.is_some()));
    let grace = serve.grace.or(of_file.grace).unwrap_or(super::host::GRACE);
    row("serve.grace", format!("{grace:?}").into(), sources.source("grace", of_file.grace.is_some()));
    Ok(rows)
}
