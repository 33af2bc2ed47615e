//! The state directory: held by this process, or asked for through the one that holds it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::context::{Common, Context};
use super::exit::Error;
use super::workflow::{load_plugins, read_inputs, read_workflow};
use crate::api::{self, Command, Listener, Offer, Problem, Submission};
use crate::client::{self, Client, RemoteStore};
use crate::clock::SystemClock;
use crate::journal::{self, Record, Sqlite, Store};
use crate::machine::RunStatus;
use crate::manager::{self, Crew, Feed, Handle, Options, Running};
use crate::model::{Artifact, RunId, Workflow};
use crate::prepare::check_plugins;
use crate::registry::watch::Watch;

/// How long executing calls may take to end when the process is told to.
pub const GRACE: Duration = Duration::from_secs(10);

/// The holder of the state directory: this process, with everything that drives runs.
pub struct Host {
    /// What drives runs.
    pub handle: Handle,
    /// What can be asked of it.
    pub service: api::Service,
    running: Running,
    socket: Listener,
    beside: api::Beside,
    /// Has what changes in the plugin folders take effect.
    watch: Watch,
}

impl Host {
    /// Holds the directory, where no other process does.
    pub async fn hold(common: &Common, context: Arc<Context>, offer: Offer) -> Result<Self, HoldError> {
        let folder = state(common)?;
        let store = match open(&folder).await? {
            Opened::Ours(store) => Arc::new(store),
            Opened::Theirs(client) => return Err(HoldError::Held(client)),
        };
        let crew = Arc::new(Crew::new(context.runtime.clone(), Arc::clone(&context.registry)));
        let mut options = Options::in_folder(context.concurrency, &folder).map_err(Error::from)?;
        let settings = context.registry.settings();
        (options.breaker, options.balance) = (settings.breaker, settings.balance);
        let journal = Arc::clone(&store);
        let (handle, running) = manager::start(store, crew, Arc::new(SystemClock), options).await.map_err(Error::from)?;
        let again = Arc::clone(&context);
        let parts = api::Parts {
            handle: handle.clone(),
            runtime: context.runtime.clone(),
            registry: Arc::clone(&context.registry),
            concurrency: context.concurrency,
            journal: Some(journal),
            prepare: Arc::new(move |path: &Path| prepare_again(&again, path).map_err(Problem::from)),
        };
        let (service, beside) = api::Service::start(parts, offer);
        let watch = watch(common, &context, &handle, &service)?;
        let served = api::on_socket(&folder, &service);
        let socket = served.map_err(|error| Error::engine(format!("the socket in {} cannot be served: {error}", folder.display())))?;
        Ok(Self { handle, service, running, socket, beside, watch })
    }

    /// Goes on until everything that others asked for has ended, and nobody follows a run here that waits for a person; then
    /// lets go of the directory. Told to end, it drains.
    pub async fn finish(self) -> Result<(), Error> {
        let mut terminated = signal(SignalKind::terminate()).map_err(|error| Error::engine(format!("no signals: {error}")))?;
        tokio::select! {
            idle = self.is_needed_no_more() => idle?,
            _ = terminated.recv() => return self.drain().await,
            _ = tokio::signal::ctrl_c() => return self.drain().await,
        }
        self.service.stop().cancel(); // who waits for news is told, and looks elsewhere
        self.socket.close().await;
        self.handle.idle().await?; // what was accepted at the last moment ends too
        self.beside.ended().await;
        drop(self.watch);
        Ok(self.running.shutdown().await?)
    }

    async fn is_needed_no_more(&self) -> Result<(), Error> {
        let mut told = false;
        loop {
            self.handle.idle().await?;
            if self.service.followers() == 0 {
                tokio::time::sleep(LOOK).await; // who has just been told something asks again
                if self.service.followers() == 0 {
                    return Ok(());
                }
            }
            if !std::mem::replace(&mut told, true) {
                errln!("another command waits here for a run; Ctrl-C ends this one");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the manager has ended by itself; what it says when it is drained is the better reason.
    pub async fn ended(&self) -> Error {
        self.handle.stopped().await;
        Error::engine("the manager has stopped")
    }

    /// Starts nothing more, lets what executes end within the grace period, and lets go of the directory.
    pub async fn drain(self) -> Result<(), Error> {
        self.drain_within(GRACE).await
    }

    /// As [`Host::drain`], within another time.
    pub async fn drain_within(self, grace: Duration) -> Result<(), Error> {
        drop(self.watch);
        let ended = self.running.drain(grace).await;
        // Only now: who follows sees what ended meanwhile.
        self.service.stop().cancel();
        self.socket.close().await;
        self.beside.ended().await;
        Ok(ended?)
    }
}

/// Looks at the plugin folders, and at the configuration, as long as it is kept.
fn watch(common: &Common, context: &Context, handle: &Handle, service: &api::Service) -> Result<Watch, Error> {
    let registry = Arc::clone(&context.registry);
    let (common, configuration) = (common.clone(), registry.settings().file.clone());
    let known = configuration.clone();
    let reread = Box::new(move || match known.as_deref().filter(|file| !file.is_file()) {
        // One that vanished says nothing; least of all that ceilings, signatures and limits are no more.
        Some(gone) => Err(format!("{} is no file any more", gone.display())),
        None => common.settings_again().map_err(|error| error.text()),
    });
    let (told, follows) = (handle.plugins_changed(), service.tell_plugins_changed());
    let changed = move || {
        told();
        follows();
    };
    let started = Watch::start(registry, configuration, reread, Arc::new(changed));
    started.map_err(|error| Error::engine(format!("failed to start a thread: {error}")))
}

/// How long a process that holds the directory may take to listen, or to let go of it.
const SETTLING: Duration = Duration::from_secs(10);
/// How long a server may be away while a run of it is followed: long enough to be started again.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

enum Opened {
    Ours(Sqlite),
    Theirs(Client),
}

/// Holds the directory, or finds the one that does: it may be about to listen, or to end.
async fn open(folder: &Path) -> Result<Opened, Error> {
    let watch = crate::clock::Stopwatch::start();
    loop {
        let error = match Sqlite::open(folder) {
            Ok(store) => return Ok(Opened::Ours(store)),
            Err(error @ journal::Error::Held { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        let client = Client::of(folder);
        match client.head(0, None).await {
            Ok(_) | Err(client::Error::Refused(_)) => return Ok(Opened::Theirs(client)),
            Err(_) if watch.elapsed() < SETTLING => tokio::time::sleep(LOOK).await,
            Err(_) => return Err(Error::from(error).help("it does not answer; end it, or name another directory with --state-dir")),
        }
    }
}

/// Why the directory is not ours.
pub enum HoldError {
    /// Another process holds it, and can be asked.
    Held(Client),
    /// Something is wrong.
    Failed(Error),
}

impl From<Error> for HoldError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads a workflow that another process wants run here.
fn prepare_again(context: &Context, path: &Path) -> Result<(Workflow, Vec<Vec<Artifact>>), Error> {
    let source = read_workflow(path)?;
    check_plugins(&source, &context.registry)?;
    let files = read_inputs(&source, path)?;
    load_plugins(&source, context)?;
    Ok((source.workflow, files))
}

/// The state directory, unless it came with a repository: then it is somebody else's, and nothing in it is read or written.
pub fn state(common: &Common) -> Result<PathBuf, Error> {
    let folder = common.state_folder()?;
    let there = folder.symlink_metadata().is_ok().then(|| folder.parent().zip(folder.file_name())).flatten();
    let Some((parent, name)) = there else { return Ok(folder) };
    // Without git, and where it cannot make sense of the repository, nothing is known to be tracked.
    match super::git::Repository::of(parent).and_then(|git| git.map_or(Ok(false), |git| git.tracks(parent, name))) {
        Ok(false) | Err(_) => Ok(folder),
        Ok(true) => Err(Error::usage(format!("{} is refused: git tracks it, so it may be somebody else's", folder.display()))
            .help("remove it from the repository, or name another with --state-dir")),
    }
}

/// A journal, to be read: a file, whoever holds it, or that of a server.
pub struct Reading {
    store: Arc<dyn Store>,
    /// Where the file is; absent for a server's.
    folder: Option<PathBuf>,
    /// Who goes on with the runs in it.
    client: Client,
}

impl std::ops::Deref for Reading {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Reading {
    /// Whether somebody holds the directory. A server does.
    pub fn is_held(&self) -> bool {
        self.folder.as_deref().is_none_or(Sqlite::is_held)
    }

    /// Who can be asked, if somebody is there.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it is that of a server.
    pub fn is_remote(&self) -> bool {
        self.folder.is_none()
    }
}

/// The journal, to be read.
pub fn journal(common: &Common) -> Result<Reading, Error> {
    if let Some(client) = common.remote()? {
        return Ok(Reading { store: Arc::new(RemoteStore::new(client.clone())), folder: None, client });
    }
    let store = journal_file(common)?;
    let folder = store.folder().to_owned();
    Ok(Reading { client: Client::of(&folder), folder: Some(folder), store })
}

/// The journal's file, to be read: whoever holds it.
pub fn journal_file(common: &Common) -> Result<Arc<Sqlite>, Error> {
    let folder = state(common)?;
    match Sqlite::open_to_read(&folder)? {
        Some(store) => Ok(Arc::new(store)),
        None => Err(Error::usage(format!("there is no journal in {}", folder.display()))
            .help("`sandhog run` makes one; another folder can be named with --state-dir, a server with --server")),
    }
}

/// What came of telling runs something.
pub struct Told {
    /// Whether somebody holds the directory, and goes on with them.
    pub held: bool,
    /// Those that refused, and why: that is nothing to the others.
    pub refused: Vec<(RunId, Error)>,
}

/// Has runs told something: by the process that holds the directory, or by this one where none does.
pub async fn command(common: &Common, commands: Vec<(RunId, Command)>) -> Result<Told, Error> {
    let mut refused = Vec::new();
    if let Some(client) = common.remote()? {
        for (run, command) in commands {
            match client.command(run, &command).await {
                Ok(()) => {}
                Err(error @ client::Error::Refused(_)) => refused.push((run, error.into())),
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(Told { held: true, refused });
    }
    let folder = state(common)?;
    let watch = crate::clock::Stopwatch::start();
    let mut commands: std::collections::VecDeque<(RunId, Command)> = commands.into();
    let store: Arc<dyn Store> = loop {
        let client = match open(&folder).await? {
            Opened::Ours(store) => break Arc::new(store),
            Opened::Theirs(client) => client,
        };
        loop {
            let Some((run, command)) = commands.front() else { return Ok(Told { held: true, refused }) };
            match client.command(*run, command).await {
                Ok(()) => drop(commands.pop_front()),
                Err(error @ client::Error::Refused(_)) => {
                    refused.push((*run, error.into()));
                    commands.pop_front();
                }
                // It was ending, and was not asked: perhaps the next one can be, or nobody holds it now.
                Err(client::Error::Nobody { .. }) if watch.elapsed() < SETTLING => break,
                Err(error) => return Err(error.into()),
            }
        }
    };
    let options = Options { drives: false, ..Options::in_folder(1, &folder)? };
    let (handle, running) = manager::start(store, Arc::new(Nobody), Arc::new(SystemClock), options).await?;
    for (run, command) in commands {
        let Some(input) = as_input(&handle, run, command).await? else { continue };
        match handle.command(run, input).await {
            Ok(()) => {}
            Err(error @ manager::Error::Stopped) => return Err(error.into()),
            Err(error) => refused.push((run, error.into())),
        }
    }
    running.shutdown().await?;
    Ok(Told { held: false, refused })
}

/// What a run is told, from what a person wants.
async fn as_input(handle: &Handle, run: RunId, command: Command) -> Result<Option<crate::machine::Input>, Error> {
    let row = handle.store().run(&run).await?.ok_or(manager::Error::NoSuchRun(run))?;
    Ok(api::into_input(command, &row)?)
}

/// Workers of a manager that only tells runs what people want of them.
struct Nobody;

#[async_trait::async_trait]
impl manager::Workers for Nobody {
    async fn run(
        &self,
        _worker: &str,
        _step: &crate::model::Step,
        _task: crate::model::Task,
        _cancel: tokio_util::sync::CancellationToken,
        _progress: crate::runtime::Progress,
    ) -> crate::model::Attempt<Vec<Artifact>> {
        nobody()
    }

    async fn check(
        &self,
        _plugin: &str,
        _gate: &crate::model::GateUse,
        _subject: crate::model::Subject,
        _cancel: tokio_util::sync::CancellationToken,
    ) -> crate::model::Attempt<crate::model::Verdict> {
        nobody()
    }
}

fn nobody<T>() -> crate::model::Attempt<T> {
    let failure = crate::model::Failure::new(crate::model::FailureKind::Host, "nobody runs anything here");
    crate::model::Attempt { result: Err(failure), receipt: crate::model::Receipt::default(), log: crate::model::Log::default() }
}

/// Where a run is followed, and told what a person wants: here, or at the holder.
pub enum Seat {
    /// This process holds the directory.
    Ours(Handle),
    /// Another does, here or elsewhere; its journal is read beside it.
    Theirs(Box<Reading>),
}

impl Seat {
    /// The journal.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Ours(handle) => Arc::clone(handle.store()),
            Self::Theirs(reading) => Arc::clone(&reading.store),
        }
    }

    /// Tells a run something.
    pub async fn command(&self, run: RunId, command: Command) -> Result<(), Error> {
        match self {
            Self::Ours(handle) => match as_input(handle, run, command).await? {
                Some(input) => Ok(handle.command(run, input).await?),
                None => Ok(handle.resume(run).await?),
            },
            Self::Theirs(reading) => Ok(reading.client.command(run, &command).await?),
        }
    }

    /// The records of a run, as they come.
    pub fn follow(&self, run: RunId, from_version: u64) -> Follow {
        match self {
            Self::Ours(handle) => Follow::Ours(handle.follow(run)),
            Self::Theirs(reading) => Follow::Theirs(Remote {
                client: Some(reading.client.clone()),
                store: Arc::clone(&reading.store),
                folder: reading.folder.clone(),
                away: None,
                run,
                version: from_version,
                seq: 0,
                ready: Vec::new().into_iter(),
                ended: false,
            }),
        }
    }
}

/// The records of a run, as they come.
pub enum Follow {
    /// From the manager in this process.
    Ours(Feed),
    /// From the journal's file, with word from the holder when there is more.
    Theirs(Remote),
}

/// The records of a run that another process runs.
pub struct Remote {
    /// Gives word of more; absent where only what is there is asked for.
    client: Option<Client>,
    store: Arc<dyn Store>,
    /// The directory whose holder it is; absent for a server's.
    folder: Option<PathBuf>,
    /// Since when a server has been away.
    away: Option<crate::clock::Stopwatch>,
    run: RunId,
    version: u64,
    seq: u64,
    ready: std::vec::IntoIter<Record>,
    ended: bool,
}

impl Follow {
    /// The next record; `None` at the run's end, and when nobody runs it any more.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        match self {
            Self::Ours(feed) => Ok(feed.next().await?),
            Self::Theirs(remote) => remote.next().await,
        }
    }
}

impl Remote {
    /// Whether it is a server that is away, and has not been for long.
    fn may_come_back(&mut self) -> bool {
        self.folder.is_none() && self.away.get_or_insert_with(crate::clock::Stopwatch::start).elapsed() < AWAY_MAX
    }

    async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if let Some(record) = self.ready.next() {
                (self.version, self.seq) = (record.version + 1, record.seq);
                self.ended = record.event.ends_the_run();
                return Ok(Some(record));
            }
            let records = match self.store.read(&self.run, self.version, journal::READ_MAX).await {
                Err(_) if self.may_come_back() => {
                    tokio::time::sleep(LOOK * 10).await;
                    continue;
                }
                read => read?,
            };
            self.away = None;
            if !records.is_empty() {
                self.ready = records.into_iter();
                continue;
            }
            if self.ended {
                return Ok(None); // a run that was opened again would have gone on behind its end
            }
            let Some(client) = &self.client else { return Ok(None) };
            match client.head(self.seq, Some(self.run)).await {
                Ok(head) => {
                    self.seq = head.head;
                    if !head.driven {
                        self.client = None;
                    }
                }
                // It may listen no more, and still be about to end what it accepted.
                Err(_) if self.folder.as_deref().is_some_and(Sqlite::is_held) => tokio::time::sleep(LOOK).await,
                Err(_) if self.may_come_back() => tokio::time::sleep(LOOK * 10).await,
                // What was written before it went away is read, and then nothing more comes.
                Err(_) => self.client = None,
            }
        }
    }
}

/// Has a run accepted by the process that holds the directory, or by one in the background where none does. A holder that
/// ends while it is asked is no error: with a key, asking again is the same run.
pub async fn submit_there(common: &Common, holder: Option<Client>, workflow: &Path, key: Option<String>) -> Result<(RunId, Client), Error> {
    let workflow = std::path::absolute(workflow).map_err(|error| Error::usage(format!("{}: {error}", workflow.display())))?;
    let key = key.unwrap_or_else(|| format!("submitted-{}", uuid::Uuid::new_v4()));
    let submission = Submission { path: Some(workflow), ..Submission::default() };
    let watch = crate::clock::Stopwatch::start();
    let mut holder = holder;
    loop {
        let client = match holder.take() {
            Some(client) => client,
            None => in_background(common).await?,
        };
        match client.submit(&submission, Some(&key)).await {
            Ok(run) => return Ok((run, client)),
            Err(client::Error::Nobody { .. } | client::Error::Gone { .. }) if watch.elapsed() < SETTLING => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Starts a process in the background that holds the directory, and waits until it can be asked.
pub async fn in_background(common: &Common) -> Result<Client, Error> {
    let folder = state(common)?;
    let binary = std::env::current_exe().map_err(|error| Error::engine(format!("this program cannot be found: {error}")))?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| Error::usage(format!("{}: {error}", folder.display())))?;
    Sqlite::check(&folder)?;
    let log = folder.join("host.log");
    let log = std::fs::File::create(&log).map_err(|error| Error::usage(format!("{}: {error}", log.display())))?;
    let mut command = std::process::Command::new(binary);
    command.arg("host").arg("--state-dir").arg(&folder);
    let paths = |command: &mut std::process::Command, name: &str, paths: &[PathBuf]| {
        for path in paths {
            command.arg(name).arg(path);
        }
    };
    paths(&mut command, "--config", common.config.as_slice());
    paths(&mut command, "--plugins", &common.plugins);
    paths(&mut command, "--cache-dir", common.cache_dir.as_slice());
    if let Some(isolate) = common.isolate {
        command.arg("--isolate").arg(isolate.as_str());
    }
    for (name, number) in [("--concurrency", common.concurrency), ("--threads", common.threads)] {
        if let Some(number) = number {
            command.arg(name).arg(number.to_string());
        }
    }
    // Not of our terminal's group, so that Ctrl-C here does not end it; its standard output says when it can be asked.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(|error| Error::engine(format!("the process in the background cannot start: {error}")))?;
    let stdout = child.stdout.take();
    let ready = tokio::task::spawn_blocking(move || {
        use std::io::BufRead as _;
        let mut line = String::new();
        stdout.map(|stdout| std::io::BufReader::new(stdout).read_line(&mut line));
        line
    });
    match ready.await.unwrap_or_default().trim() {
        "ready" | "held" => Ok(Client::of(&folder)),
        _ => {
            let said = std::fs::read_to_string(folder.join("host.log")).unwrap_or_default();
            Err(Error::engine(format!("the process in the background did not start:\n{}", said.trim_end())))
        }
    }
}

/// Runs that are there under a name, or the beginning of one, or `latest`.
pub async fn find(store: &dyn Store, name: &str) -> Result<RunId, Error> {
    if let Ok(run) = name.parse::<RunId>() {
        return match store.run(&run).await? {
            Some(row) => Ok(row.run),
            None => Err(Error::usage(format!("there is no run {run}")).help("`sandhog runs list` shows those that are there")),
        };
    }
    if name == "latest" {
        let latest = store.runs(None, false, 1).await?.pop();
        return latest.map(|row| row.run).ok_or_else(|| Error::usage("there is no run yet"));
    }
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let rows = store.runs(before, false, journal::READ_MAX).await?;
        let Some(last) = rows.last() else { break };
        before = Some(last.run);
        found.extend(rows.iter().map(|row| row.run).filter(|run| run.to_string().starts_with(name) || run.to_string().ends_with(name)));
    }
    match found.as_slice() {
        _ if name.len() < 4 => {
            Err(Error::usage(format!("`{name}` is too short to name a run")).help("give at least four characters, or `latest`"))
        }
        [] => Err(Error::usage(format!("there is no run {name}")).help("`sandhog runs list` shows those that are there")),
        [run] => Ok(*run),
        _ => Err(Error::usage(format!("`{name}` may mean {} runs", found.len())).help("name more of it")),
    }
}

/// The status of a run, as it exits.
pub fn exit_of(status: &str) -> super::exit::Exit {
    if status == RunStatus::Completed.as_str() { super::exit::Exit::Passed } else { super::exit::Exit::Failed }
}
