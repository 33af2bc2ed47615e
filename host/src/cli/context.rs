//! What commands share: the settings that apply, the folders, the sandbox and the registry.

use std::path::{Path, PathBuf};

use clap::builder::TypedValueParser as _;

use super::exit::Error;
use crate::client::Client;
use crate::clock::{Clock as _, SystemClock};
use crate::config::manifest::check_name;
use crate::config::settings::{self, FILE_NAME};
use crate::config::{Settings, reader};
use crate::registry::cache::Cache;
use crate::registry::compiler::Compiler;
use crate::registry::{Registry, intake};
use crate::runtime::{Allocator, Runtime, Settings as RuntimeSettings};

/// The name of the folder for the journal.
const STATE_FOLDER: &str = ".sandhog";

/// The shortest token, in bytes: one that cannot be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Configuration file [default: sandhog.toml here or in a folder above]
    #[arg(long, global = true, value_name = "FILE", env = "SANDHOG_CONFIG", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Folder with plugins, before those of the configuration; may be repeated
    #[arg(long, global = true, value_name = "FOLDER", env = "SANDHOG_PLUGINS", value_delimiter = ':', help_heading = "Global options")]
    pub plugins: Vec<PathBuf>,
    /// Where the gates that come with sandhog lie [default: gates beside the binary]; empty for none
    #[arg(long, global = true, value_name = "FOLDER", env = "SANDHOG_GATES", help_heading = "Global options", value_parser = clap::builder::OsStringValueParser::new().map(PathBuf::from))]
    pub gates: Option<PathBuf>,
    /// A file or folder that gates may be given as data, such as advisories=osv.zip; may be repeated
    #[arg(long, global = true, value_name = "NAME=PATH", env = "SANDHOG_DATA", value_delimiter = ':', help_heading = "Global options", value_parser = data)]
    pub data: Vec<(String, PathBuf)>,
    /// Where compiled code is kept [default: sandhog in the user's cache folder]
    #[arg(long, global = true, value_name = "FOLDER", env = "SANDHOG_CACHE_DIR", help_heading = "Global options")]
    pub cache_dir: Option<PathBuf>,
    /// Where the journal is kept [default: .sandhog beside the configuration file, or here]
    #[arg(long, global = true, value_name = "FOLDER", env = "SANDHOG_STATE_DIR", help_heading = "Global options")]
    pub state_dir: Option<PathBuf>,
    /// Work against this server, such as http://127.0.0.1:8080, and not with a state directory here
    #[arg(long, global = true, value_name = "URL", env = "SANDHOG_SERVER", help_heading = "Global options")]
    pub server: Option<String>,
    /// A file that holds a server's token: the one that `serve` asks for, or that --server is given; or SANDHOG_TOKEN, which is the token itself
    #[arg(long, global = true, value_name = "FILE", env = "SANDHOG_TOKEN_FILE", help_heading = "Global options")]
    pub token_file: Option<PathBuf>,
    /// How many attempts run at once [default: twice the number of cores]
    #[arg(long, global = true, value_name = "N", env = "SANDHOG_CONCURRENCY", help_heading = "Global options", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: Option<u32>,
    /// Where guests run: in this process (none), or each attempt in a process of its own, walled in by the kernel [default: none]
    #[arg(long, global = true, value_name = "HOW", env = "SANDHOG_ISOLATE", help_heading = "Global options")]
    pub isolate: Option<Isolate>,
    /// Threads that run guests [default: the number of cores]
    #[arg(long, global = true, value_name = "N", env = "SANDHOG_THREADS", help_heading = "Global options", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Says more about what sandhog itself does, on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// Where guests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Isolate {
    /// In this process: the engine's sandbox alone
    None,
    /// Each attempt in a process of its own
    Process,
}

impl Isolate {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Process => "process",
        }
    }
}

/// What a command works with.
pub struct Context {
    /// The sandbox.
    pub runtime: Runtime,
    /// The plugins.
    pub registry: std::sync::Arc<Registry>,
    /// How many attempts run at once.
    pub concurrency: usize,
}

impl Common {
    /// The settings that apply here.
    pub fn settings(&self) -> Result<Settings, Error> {
        let mut settings = match self.config_file()? {
            Some(path) => read_settings(&path)?,
            None => Settings::default(),
        };
        settings.plugins.splice(0..0, self.plugins.iter().cloned());
        Ok(settings)
    }

    /// The configuration file: named, or the nearest one.
    pub fn config_file(&self) -> Result<Option<PathBuf>, Error> {
        if let Some(path) = &self.config {
            return Ok(Some(path.clone()));
        }
        let here = std::env::current_dir().map_err(|error| Error::usage(format!("the current folder cannot be read: {error}")))?;
        // What is there and no file is found, too: reading it tells so, where passing it over would be as if nothing were configured.
        Ok(here.ancestors().map(|folder| folder.join(FILE_NAME)).find(|path| path.symlink_metadata().is_ok()))
    }

    /// The folder for what must not be lost: the journal.
    pub fn state_folder(&self) -> Result<PathBuf, Error> {
        let folder = match (&self.state_dir, self.config_file()?) {
            (Some(folder), _) => folder.clone(),
            (None, Some(file)) => file.parent().unwrap_or(Path::new(".")).join(STATE_FOLDER),
            (None, None) => PathBuf::from(STATE_FOLDER),
        };
        std::path::absolute(&folder).map_err(|error| Error::usage(format!("{}: {error}", folder.display())))
    }

    /// The server that was named, if one was.
    pub fn remote(&self) -> Result<Option<Client>, Error> {
        let Some(server) = self.server.as_deref().filter(|server| !server.is_empty()) else { return Ok(None) };
        Ok(Some(Client::at(server, self.token()?)?))
    }

    /// The token of a server, if there is one.
    pub fn token(&self) -> Result<Option<String>, Error> {
        if let Some(file) = &self.token_file {
            return read_token(file).map(Some);
        }
        match std::env::var("SANDHOG_TOKEN") {
            Ok(token) if !token.trim().is_empty() => check_token("SANDHOG_TOKEN", token.trim()).map(Some),
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(Error::usage("SANDHOG_TOKEN is no text")),
        }
    }

    /// The folder of the gates that come with sandhog: named, or beside the binary.
    pub fn standard_gates(&self) -> Option<PathBuf> {
        if let Some(folder) = &self.gates {
            return (!folder.as_os_str().is_empty()).then(|| folder.clone());
        }
        crate::registry::standard_folders().into_iter().find(|folder| folder.is_dir())
    }

    /// The folder for what can be made again.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        self.cache_dir.clone().or_else(|| dirs::cache_dir().map(|folder| folder.join("sandhog")))
    }

    /// What the command line adds to a configuration, and the program itself.
    fn complete(&self, settings: &mut Settings) {
        settings.data.extend(self.data.iter().cloned());
        settings.standard = self.standard_gates();
        settings.plugins.extend(settings.standard.clone());
    }

    /// The settings as [`Common::open`] would have them now.
    pub fn settings_again(&self) -> Result<Settings, Error> {
        let mut settings = self.settings()?;
        self.complete(&mut settings);
        Ok(settings)
    }

    /// Where guests run, by the command line or else by the settings.
    pub fn isolate(&self, settings: &Settings) -> Isolate {
        let in_file = settings.isolate.map(|is| if is { Isolate::Process } else { Isolate::None });
        self.isolate.or(in_file).unwrap_or(Isolate::None)
    }

    /// Makes the sandbox and looks through the plugin folders. `slots` bounds the pool where few instances will do.
    pub fn open(&self, slots: Option<u32>) -> Result<Context, Error> {
        self.open_with(slots, self.settings()?)
    }

    /// As [`Common::open`], with these settings.
    pub fn open_with(&self, slots: Option<u32>, mut settings: Settings) -> Result<Context, Error> {
        self.complete(&mut settings);
        for folder in self.plugins.iter().filter(|folder| !folder.is_dir()) {
            tracing::warn!(folder = %folder.display(), "there is no such plugin folder");
        }
        let defaults = RuntimeSettings::default();
        let cache_folder = self.cache_folder();
        let program = this_program()?;
        let isolate = (self.isolate(&settings) == Isolate::Process).then(|| program.clone());
        let runtime = Runtime::new(RuntimeSettings {
            threads: self.threads.map_or(defaults.threads, |threads| threads as usize),
            in_flight: slots.or(settings.in_flight).unwrap_or(defaults.in_flight),
            memory_total_bytes: settings.memory_total.unwrap_or_else(|| {
                defaults.memory_total_bytes.max(settings.limits_ceiling.memory.saturating_add(settings.limits_ceiling.scratch))
            }),
            memory_max_bytes: settings.limits_ceiling.memory,
            allocator: Allocator::Auto,
            isolate,
            ..defaults
        })?;
        let concurrency = self.concurrency.or(settings.concurrency).map_or(defaults.threads * 2, |n| n as usize);
        let cache = cache_folder.and_then(|folder| match Cache::open(&folder) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "compiled code is not kept");
                None
            }
        });
        let compiler = Compiler::child(program, defaults.threads);
        let registry = std::sync::Arc::new(Registry::open(runtime.clone(), cache, compiler, settings, today()));
        Ok(Context { runtime, registry, concurrency })
    }
}

/// This program, for children of its own. Where the system can say so, the very file that runs, even if another took its place.
pub fn this_program() -> Result<PathBuf, Error> {
    let running = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && running.exists() {
        return Ok(running);
    }
    std::env::current_exe().map_err(|error| Error::engine(format!("this program cannot be found: {error}")))
}

/// The day, in UTC.
pub fn today() -> jiff::civil::Date {
    SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn data(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=PATH, such as advisories=osv.zip")?;
    check_name(name).map_err(|expected| format!("the name does not fit: {expected}"))?;
    if path.is_empty() {
        return Err("expected a path behind `=`".to_owned());
    }
    Ok((name.to_owned(), PathBuf::from(path)))
}

pub fn read_settings(path: &Path) -> Result<Settings, Error> {
    let text = read_text(path)?;
    let absolute = std::path::absolute(path).map_err(|error| Error::usage(format!("{}: {error}", path.display())))?;
    let base = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(settings::read(path, &text, &base, |name| std::env::var(name).ok())?)
}

/// The token in a file.
pub fn read_token(file: &Path) -> Result<String, Error> {
    let text = read_text(file)?;
    check_token(&file.display().to_string(), text.trim())
}

fn check_token(place: &str, token: &str) -> Result<String, Error> {
    if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let help = "such as what `openssl rand -hex 32` prints";
        return Err(Error::usage(format!("{place}: expected a token of {TOKEN_BYTES_MIN} characters or more, without spaces")).help(help));
    }
    Ok(token.to_owned())
}

/// Reads a file that a person wrote.
pub fn read_text(path: &Path) -> Result<String, Error> {
    // A link is fine here: the user named this file.
    let target = std::fs::canonicalize(path).map_err(|error| Error::usage(format!("{} cannot be read: {error}", path.display())))?;
    let bytes = intake::read(&target, reader::FILE_BYTES_MAX).map_err(|error| Error::usage(format!("{}: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::usage(format!("{}: it is not UTF-8 (byte {at})", path.display()))
    })
}
