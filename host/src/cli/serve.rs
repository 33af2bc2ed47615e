//! `sandhog serve`: the state directory, held and served to programs, people and AI managers until it is told to end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::context::{Common, Context};
use super::exit::{Error, Exit};
use super::host::{self, HoldError, Host};
use super::trace::LogFormat;
use crate::api::{Offer, Terms, on_network};
use crate::client::Client;
use crate::config::Settings;
use crate::config::settings::{RATE_MAX, check_origin};
use crate::manager::Error as ManagerError;
use crate::model::limits::parse_duration;

/// Where it listens when nobody says.
pub const LISTEN: &str = "127.0.0.1:8080";
/// How many requests a peer may make in a second when nobody says.
pub const RATE: u32 = 1000;
/// How many files a server would like to have open: a connection is one.
const FILES_WANTED: u64 = 16_384;
/// How many runs are taken up at once.
const OPEN_PAGE: usize = 1000;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The API is described at /openapi.json, the dashboard is at /, figures are at /metrics, MCP is at /mcp. Runs that have not\n\
ended are gone on with. Told to end (SIGTERM, Ctrl-C), it takes nothing more, lets what executes end within --grace, and\n\
leaves the rest to be gone on with.\n\nExamples:\n  sandhog serve\n  sandhog serve --workflows docs --listen 127.0.0.1:9000\n  SANDHOG_TOKEN=$(openssl rand -hex 32) sandhog serve --listen 0.0.0.0:8080"
)]
pub struct ServeArguments {
    #[command(flatten)]
    pub options: ServeOptions,
    /// How the log on standard output is written [default: text on a terminal, else json]
    #[arg(long, value_name = "FORMAT", env = "SANDHOG_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Validate the configuration, the plugins and the state directory, and exit
    #[arg(long)]
    check: bool,
}

/// What `serve` takes of the configuration, the environment and the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeOptions {
    /// The address to listen on [default: 127.0.0.1:8080]; one that other machines reach needs a token
    #[arg(long, value_name = "ADDRESS", env = "SANDHOG_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// A folder whose workflows can be submitted by name; may be repeated
    #[arg(long, value_name = "FOLDER", env = "SANDHOG_WORKFLOWS", value_delimiter = ':')]
    pub workflows: Vec<PathBuf>,
    /// Take plugins over the API, into this plugin folder
    #[arg(long, value_name = "FOLDER", env = "SANDHOG_UPLOAD")]
    pub upload: Option<PathBuf>,
    /// A name by which the server may be called, beside its address and localhost; may be repeated
    #[arg(long = "host", value_name = "NAME", env = "SANDHOG_HOSTS", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Another site whose pages may ask, such as https://ci.example.com; may be repeated
    #[arg(long = "origin", value_name = "ORIGIN", env = "SANDHOG_ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub origins: Vec<String>,
    /// How many requests a peer may make in a second [default: 1000]; 0 for any number
    #[arg(long, value_name = "N", env = "SANDHOG_RATE", value_parser = clap::value_parser!(u32).range(0..=i64::from(RATE_MAX)))]
    pub rate: Option<u32>,
    /// How long what executes may take to end when the server is told to [default: 10s]
    #[arg(long, value_name = "SPAN", env = "SANDHOG_GRACE", value_parser = span)]
    pub grace: Option<Duration>,
}

fn origin(text: &str) -> Result<String, String> {
    check_origin(text).map(|()| text.to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// What a server works with: flags stand over the environment, and that over the file.
pub struct Effective {
    listen: SocketAddr,
    terms: Terms,
    offer: Offer,
    grace: Duration,
}

impl ServeOptions {
    /// What holds, with the configuration behind these.
    pub fn over(&self, common: &Common, settings: &Settings) -> Result<Effective, Error> {
        let file = &settings.serve;
        let first = |own: &[String], of_file: &[String]| if own.is_empty() { of_file.to_vec() } else { own.to_vec() };
        let listen = self.listen.or(file.listen).map_or_else(|| LISTEN.parse().map_err(Error::usage), Ok)?;
        let token = match (common.token()?, &file.token_file) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => Some(super::context::read_token(path)?),
            (None, None) => None,
        };
        if token.is_none() && !listen.ip().is_loopback() {
            let help = "give one in SANDHOG_TOKEN or with --token-file, such as what `openssl rand -hex 32` prints; or listen on 127.0.0.1";
            return Err(Error::usage(format!("other machines reach {listen}, and the server has no token")).help(help));
        }
        let workflows = if self.workflows.is_empty() { file.workflows.clone() } else { self.workflows.clone() };
        for folder in &workflows {
            if !folder.is_dir() {
                return Err(Error::usage(format!("the workflow folder {} is no folder", folder.display())));
            }
        }
        let upload = self.upload.clone().or_else(|| file.upload.clone());
        if let Some(folder) = &upload {
            let same = |other: &PathBuf| {
                std::fs::canonicalize(other).ok().is_some_and(|other| std::fs::canonicalize(folder).is_ok_and(|own| own == other))
            };
            if !settings.plugins.iter().any(same) {
                let help = "uploads go into one of `plugins`, or they would not serve";
                return Err(Error::usage(format!("{} is none of the plugin folders", folder.display())).help(help));
            }
        }
        Ok(Effective {
            listen,
            offer: Offer { workflows, upload, auth: token.is_some(), watched: true, itself: Some(Client::of(&common.state_folder()?)) },
            terms: Terms {
                token,
                hosts: first(&self.hosts, &file.hosts),
                origins: first(&self.origins, &file.origins),
                rate: self.rate.or(file.rate).unwrap_or(RATE),
            },
            grace: self.grace.or(file.grace).unwrap_or(host::GRACE),
        })
    }
}

/// Serves.
pub fn serve(common: &Common, arguments: &ServeArguments) -> Result<Exit, Error> {
    let settings = common.settings()?;
    let effective = arguments.options.over(common, &settings)?;
    let context = Arc::new(common.open_with(None, settings)?);
    if arguments.check {
        return check(common, &effective, &context);
    }
    let files = more_files();
    if files < FILES_WANTED {
        tracing::warn!(files, "few files may be open at once (`ulimit -n`): a connection is one, and others are refused beyond");
    }
    // Requests, streams and the manager share these threads; guests have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("sandhog-api").enable_all().build();
    let runtime = runtime.map_err(|error| Error::engine(format!("no runtime: {error}")))?;
    runtime.block_on(serve_until_told(common, effective, context))
}

async fn serve_until_told(common: &Common, effective: Effective, context: Arc<Context>) -> Result<Exit, Error> {
    let failed = |error: std::io::Error| Error::engine(format!("no signals: {error}"));
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let Effective { listen, terms, offer, grace } = effective;
    let with_token = offer.auth;
    let held = match Host::hold(common, context, offer).await {
        Ok(held) => held,
        Err(HoldError::Held(_)) => {
            let folder = common.state_folder()?;
            return Err(Error::usage(format!("{} is held by another process", folder.display()))
                .help("wait until it has ended, or name another directory with --state-dir"));
        }
        Err(HoldError::Failed(error)) => return Err(error),
    };
    let door = match on_network(listen, &held.service, terms).await {
        Ok(door) => door,
        Err(error) => {
            held.drain_within(grace).await?;
            return Err(Error::usage(format!("{listen} cannot be listened on: {error}")).help("name another address with --listen"));
        }
    };
    let address = door.address().unwrap_or(listen);
    tracing::info!(%address, token = with_token, state = %common.state_folder()?.display(), "listening");
    let taken_up = take_up(&held).await?;
    if taken_up > 0 {
        tracing::info!(runs = taken_up, "going on with runs that had not ended");
    }
    let ended = tokio::select! {
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
        error = held.ended() => Err(error),
    };
    tracing::info!(grace_ms = grace.as_millis() as u64, "ending: nothing more is accepted");
    held.service.stop().cancel(); // those who follow connect again, elsewhere or later
    door.close().await;
    let drained = held.drain_within(grace).await;
    tracing::info!("ended");
    drained.and(ended).map(|()| Exit::Passed)
}

/// Goes on with every run that has not ended and is not paused.
async fn take_up(held: &Host) -> Result<usize, Error> {
    let (mut before, mut taken_up) = (None, 0);
    loop {
        let rows = held.handle.store().runs(before, true, OPEN_PAGE).await?;
        let Some(last) = rows.last() else { return Ok(taken_up) };
        before = Some(last.run);
        for row in rows.into_iter().filter(|row| row.status != "paused") {
            match held.handle.resume(row.run).await {
                Ok(()) => taken_up += 1,
                Err(ManagerError::Rejected(_)) => {} // it ended when what was executing was put on record
                Err(error @ ManagerError::Stopped) => return Err(error.into()),
                Err(error) => tracing::error!(run = %row.run, %error, "it is not gone on with"), // the others are
            }
        }
    }
}

/// Everything that would keep the server from serving, without serving.
fn check(common: &Common, effective: &Effective, context: &Context) -> Result<Exit, Error> {
    let shelf = context.registry.shelf();
    for (path, bad) in &shelf.bad {
        errln!("bad: {}: {}", path.display(), crate::model::text::sanitize(&bad.to_string(), 1000));
    }
    for (name, held) in &shelf.held {
        errln!("held: {name}: {}", crate::model::text::sanitize(&held.reason, 1000));
    }
    if let Some((path, _)) = shelf.bad.iter().find(|(_, bad)| matches!(**bad, crate::registry::BadPlugin::Folder(_))) {
        return Err(Error::usage(format!("the plugin folder {} cannot be listed", path.display())));
    }
    if let Err(error) = std::net::TcpListener::bind(effective.listen) {
        return Err(Error::usage(format!("{} cannot be listened on: {error}", effective.listen)).help("name another address with --listen"));
    }
    let folder = super::host::state(common)?;
    if crate::journal::Sqlite::is_held(&folder) {
        return Err(Error::usage(format!("{} is held by another process", folder.display()))
            .help("wait until it has ended, or name another directory with --state-dir"));
    }
    if let Some(store) = crate::journal::Sqlite::open_to_read(&folder)? {
        store.usage()?;
    }
    let token = if effective.offer.auth { "with a token" } else { "without a token" };
    outln!(
        "good: would listen on {} {token}, with {} plugins, and keep its journal in {}",
        effective.listen,
        shelf.plugins.len(),
        folder.display()
    );
    Ok(Exit::Passed)
}

/// As many open files as the system lets this process have; says how many.
fn more_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let wanted = most.min(FILES_WANTED);
    match limit.current {
        Some(current) if current < wanted => match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
            Ok(()) => wanted,
            Err(_) => current,
        },
        Some(current) => current,
        None => u64::MAX,
    }
}
