//! The journal after a loss of power: what the real binary does to its files is recorded, and the disk is rebuilt as it may be found
//! at any moment of it: with what was synced, and with any part of the rest, torn at the bounds of sectors.
//!
//! The model is an adversary's. Written data may be there or not, sector by sector, in any order, until the file is synced; names
//! appear and go in their order, but none of it need be there until its folder is synced; what a file grew by and was not written
//! may be zeros or rubbish. The oracle is what the client was told before the power went.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sandhog::journal::{Sqlite, Store as _};
use sandhog::machine::Event;
use sandhog::model::RunId;

#[path = "common/preload.rs"]
mod preload;

/// How many disks are rebuilt and opened. More with SANDHOG_TEST_IMAGES.
const IMAGES: usize = 10_000;
/// How many, of a journal that has much to write.
const AMPLE_IMAGES: usize = 500;
/// Of how many of these one is gone on with.
const AMPLE_RESUMED: usize = 50;
/// Of how many of the others one is given to the binary, which has to bring every run to its end.
const RESUMED: usize = 250;
/// What a disk writes at once.
const SECTOR: usize = 512;
/// How wide the step of each recorded run is.
const TASKS: usize = 6;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// Numbers that look random, the same in each run of the test.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("fits")
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write { file: u64, at: usize, data: Vec<u8> },
    Truncate { file: u64, length: usize },
    Sync { file: u64 },
    Name(Naming),
    SyncFolder { name: String },
    Told { text: String },
}

/// A change of a folder.
#[derive(Debug, Clone)]
enum Naming {
    Folder { name: String },
    Create { name: String, file: u64 },
    Remove { name: String },
    Rename { from: String, to: String },
}

impl Naming {
    /// The folder that has to be synced for it to be sure; with a slash at its end, or empty.
    fn folder(&self) -> &str {
        let (Self::Folder { name } | Self::Create { name, .. } | Self::Remove { name } | Self::Rename { to: name, .. }) = self;
        name.rfind('/').map_or("", |at| &name[..=at])
    }
}

fn read_record(bytes: &[u8]) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
        let length = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four bytes")) as usize;
        let (kind, file, at) = (rest[0], number(8), usize::try_from(number(16)).expect("a place"));
        let (name_length, data_length) = (length(24), length(28));
        let (name, behind) = rest[32..].split_at(name_length);
        let (data, behind) = behind.split_at(data_length);
        let name = String::from_utf8(name.to_vec()).expect("a name");
        ops.push(match kind {
            b'w' => Op::Write { file, at, data: data.to_vec() },
            b't' => Op::Truncate { file, length: at },
            b's' => Op::Sync { file },
            b'd' => Op::SyncFolder { name },
            b'c' => Op::Name(Naming::Create { name, file }),
            b'm' => Op::Name(Naming::Folder { name }),
            b'u' => Op::Name(Naming::Remove { name }),
            b'r' => Op::Name(Naming::Rename { from: name, to: String::from_utf8(data.to_vec()).expect("a name") }),
            b'k' => Op::Told { text: String::from_utf8_lossy(data).into_owned() },
            other => panic!("a record of kind {other}"),
        });
        rest = behind;
    }
    ops
}

/// A change of a file's content.
#[derive(Debug, Clone)]
enum Change {
    Data { at: usize, data: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Data { at, data } => {
                if to.len() < at + data.len() {
                    to.resize(at + data.len(), 0);
                }
                to[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Length(length) => to.resize(*length, 0),
        }
    }
}

#[derive(Debug, Default, Clone)]
struct Content {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

/// A disk, as its cache has it and as it is sure to be.
#[derive(Debug, Default, Clone)]
struct Disk {
    files: HashMap<u64, Content>,
    names: BTreeMap<String, u64>,
    folders: BTreeSet<String>,
    pending: Vec<Naming>,
}

fn name(names: &mut BTreeMap<String, u64>, folders: &mut BTreeSet<String>, naming: &Naming) {
    match naming {
        Naming::Folder { name } => drop(folders.insert(name.clone())),
        Naming::Create { name, file } => drop(names.insert(name.clone(), *file)),
        Naming::Remove { name } => drop(names.remove(name)),
        Naming::Rename { from, to } => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

impl Disk {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { file, at, data } => {
                self.files.entry(*file).or_default().pending.push(Change::Data { at: *at, data: data.clone() });
            }
            Op::Truncate { file, length } => self.files.entry(*file).or_default().pending.push(Change::Length(*length)),
            Op::Sync { file } => {
                let Content { synced, pending } = self.files.entry(*file).or_default();
                pending.drain(..).for_each(|change| change.apply(synced));
            }
            Op::Name(naming) => {
                if let Naming::Create { file, .. } = naming {
                    self.files.insert(*file, Content::default()); // numbers are used again
                }
                self.pending.push(naming.clone());
            }
            Op::SyncFolder { name: folder } => {
                let (sure, rest) = std::mem::take(&mut self.pending).into_iter().partition(|naming| naming.folder() == folder);
                self.pending = rest;
                let sure: Vec<Naming> = sure;
                sure.iter().for_each(|naming| name(&mut self.names, &mut self.folders, naming));
            }
            Op::Told { .. } => {}
        }
    }

    /// Everything that was done, as a machine that keeps its power has it.
    fn whole(&self) -> BTreeMap<String, Vec<u8>> {
        let (mut names, mut folders) = (self.names.clone(), self.folders.clone());
        self.pending.iter().for_each(|naming| name(&mut names, &mut folders, naming));
        let content = |file: &u64| {
            let Content { mut synced, pending } = self.files.get(file).cloned().unwrap_or_default();
            pending.iter().for_each(|change| change.apply(&mut synced));
            synced
        };
        names.iter().map(|(name, file)| (name.clone(), content(file))).collect()
    }

    /// What may be found when the power comes back.
    fn image(&self, random: &mut Numbers) -> Image {
        let (mut names, mut folders) = (self.names.clone(), self.folders.clone());
        // Some of these are likely to find what is wrong: nothing of the rest is there, all is, all but a little.
        let odds = [0, 2, 2, 2, 8, 50, usize::MAX][random.below(7)];
        let is_kept = |random: &mut Numbers| match odds {
            0 => false,
            usize::MAX => true,
            odds => !random.one_in(odds),
        };
        let kept = match odds {
            0 => 0,
            usize::MAX => self.pending.len(),
            _ => random.below(self.pending.len() + 1),
        };
        self.pending[..kept].iter().for_each(|naming| name(&mut names, &mut folders, naming));
        let rubbish = random.one_in(2);
        let mut files = BTreeMap::new();
        for (path, file) in names {
            let Some(Content { synced, pending }) = self.files.get(&file) else { continue };
            let mut content = synced.clone();
            for change in pending {
                match change {
                    Change::Length(length) if is_kept(random) => {
                        content.resize(*length, 0);
                    }
                    Change::Length(_) => {}
                    Change::Data { at, data } => {
                        let mut from = 0;
                        while from < data.len() {
                            let to = (((at + from) / SECTOR + 1) * SECTOR - at).min(data.len());
                            if is_kept(random) {
                                let end = at + to;
                                let old = content.len();
                                if old < end {
                                    content.resize(end, 0);
                                    if rubbish && old < at + from {
                                        content[old..at + from].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
                                    }
                                }
                                content[at + from..end].copy_from_slice(&data[from..to]);
                            }
                            from = to;
                        }
                    }
                }
            }
            // The index of the write-ahead log is never synced, and never read after a crash.
            if path.ends_with("-shm") && rubbish {
                content = (0..32 << 10).map(|_| random.below(256) as u8).collect();
            }
            files.insert(path, content);
        }
        Image { files, folders }
    }
}

struct Image {
    files: BTreeMap<String, Vec<u8>>,
    folders: BTreeSet<String>,
}

impl Image {
    fn write(&self, to: &Path) {
        for folder in &self.folders {
            std::fs::create_dir_all(to.join(folder)).expect("made");
            std::fs::set_permissions(to.join(folder), std::fs::Permissions::from_mode(0o700)).expect("set");
        }
        for (path, content) in &self.files {
            let path = to.join(path);
            // A file whose folder is gone is gone.
            if path.parent().expect("a folder").is_dir() {
                std::fs::write(&path, content).expect("written");
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
            }
        }
    }
}

/// What a client was told: its runs, how many of the tasks of each had completed, and what was done as it had asked.
#[derive(Debug, Default, Clone)]
struct Told {
    runs: BTreeMap<RunId, usize>,
    paused: BTreeSet<RunId>,
    cancelled: BTreeSet<RunId>,
    current: Option<RunId>,
    rest: String,
}

impl Told {
    fn hear(&mut self, text: &str) {
        self.rest.push_str(text);
        while let Some(end) = self.rest.find('\n') {
            let line: String = self.rest.drain(..=end).collect();
            if let Some(run) = line.strip_prefix("run ").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
                self.current = Some(run);
                self.runs.entry(run).or_default();
            } else if let Some((run, "paused")) = commanded(&line) {
                self.paused.insert(run);
            } else if let Some((run, "cancelling")) = commanded(&line) {
                self.cancelled.insert(run);
            } else if line.trim_end().ends_with("]: completed")
                && let Some(completed) = self.current.and_then(|run| self.runs.get_mut(&run))
            {
                *completed += 1;
            }
        }
    }
}

/// A run, and what was done with it, of a line that says so.
fn commanded(line: &str) -> Option<(RunId, &str)> {
    let (run, done) = line.trim_end().split_once(": ")?;
    Some((run.parse().ok()?, done))
}

struct Place {
    folder: tempfile::TempDir,
    tools: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a folder"), tools: tempfile::tempdir().expect("a folder") };
        furnish(place.folder.path());
        preload::built("durable/recorder.c", place.tools.path());
        place
    }

    fn record(&self) -> PathBuf {
        self.tools.path().join("record")
    }

    /// The latest run that was told of.
    fn latest(&self) -> String {
        let mut told = Told::default();
        for op in read_record(&std::fs::read(self.record()).expect("a record")) {
            if let Op::Told { text } = op {
                told.hear(&text);
            }
        }
        told.current.expect("a run").to_string()
    }

    /// Runs a command, recorded; killed once it has told so many times that a task completed, unless it ends before.
    fn recorded(&self, arguments: &[&str], killed_after: Option<usize>) {
        let folder = self.folder.path().canonicalize().expect("a folder");
        let mut command = sandhog(&folder, arguments);
        command.env("LD_PRELOAD", self.tools.path().join("recorder.so"));
        command.env("RECORD", self.record()).env("UNDER", format!("{}/", folder.display()));
        command.envs(killed_after.map(|after| ("ENDS_AFTER", after.to_string())));
        let output = command.output().expect("runs");
        let killed = killed_after.is_some() && output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn furnish(folder: &Path) {
    let plugins = root().join("dist/plugins");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("sandhog.toml", &format!("plugins = [{:?}]\n", plugins.display().to_string()));
    let steps = "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"in/*\"]\nforeach = true\n\
                 [[step]]\nid = \"last\"\nworker = \"echo\"\nneeds = [\"s\"]\n";
    write("w.toml", steps);
    for n in 0..TASKS {
        // One is so large that it is a blob of its own.
        write(&format!("in/{n}"), &n.to_string().repeat(if n == 0 { 100_000 } else { 10 }));
    }
}

/// More than fits into the log before it is folded: each input has more than 2 MiB, so that no two share a transaction.
fn furnish_amply(folder: &Path) {
    furnish(folder);
    for n in 0..TASKS {
        std::fs::write(folder.join(format!("in/{n}")), n.to_string().repeat(2_200_000)).expect("written");
    }
}

fn sandhog(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandhog"));
    command.current_dir(folder).env_clear().env("HOME", folder).env("SANDHOG_GATES", "");
    command.env("SANDHOG_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command.args(arguments);
    if arguments[0] == "run" || arguments.contains(&"resume") {
        command.args(["--concurrency", "2"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A folder that costs no disk, where there is one.
fn image_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}

/// Opens a disk as it was found, and holds it against what was told.
fn is_as_told(folder: &Path, told: &Told, ended: bool) -> Result<(), String> {
    let state = folder.join(".sandhog");
    let store = Sqlite::open(&state).map_err(|error| format!("it does not open: {error}"))?;
    let damages = store.verify().map_err(|error| format!("it cannot be verified: {error}"))?;
    if !damages.is_empty() {
        return Err(format!("damaged: {damages:?}"));
    }
    let differences = store.differences().map_err(|error| format!("it cannot be replayed: {error}"))?;
    if !differences.is_empty() {
        return Err(format!("what is shown differs from the records: {differences:?}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut completions: BTreeMap<RunId, BTreeMap<(u32, u32), usize>> = BTreeMap::new();
    let (mut completed, mut paused, mut cancelled) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut seq = 0;
    loop {
        let records = runtime.block_on(store.after(seq, 1000)).map_err(|error| format!("it cannot be read: {error}"))?;
        let Some(last) = records.last() else { break };
        seq = last.seq;
        for record in records {
            let tasks = completions.entry(record.run).or_default();
            match &record.event {
                Event::TaskCompleted { task, .. } => *tasks.entry((task.step, task.index)).or_default() += 1,
                Event::RunCompleted { .. } => drop(completed.insert(record.run)),
                Event::RunPaused { .. } => drop(paused.insert(record.run)),
                Event::CancelRequested { .. } => drop(cancelled.insert(record.run)),
                _ => {}
            }
        }
    }
    for (run, tasks) in &completions {
        if tasks.values().any(|count| *count > 1) {
            return Err(format!("a task of {run} completed twice"));
        }
    }
    for (run, count) in &told.runs {
        let Some(tasks) = completions.get(run) else { return Err(format!("{run} was accepted, and is not there")) };
        if tasks.len() < *count {
            return Err(format!("{count} tasks of {run} had completed, and {} are on record", tasks.len()));
        }
        // One that was paused waits for a person.
        if ended && !cancelled.contains(run) && !paused.contains(run) && (tasks.len() != TASKS + 1 || !completed.contains(run)) {
            return Err(format!("{run} was not brought to its end"));
        }
    }
    for (told, on_record, what) in [(&told.paused, &paused, "paused"), (&told.cancelled, &cancelled, "cancelled")] {
        if let Some(run) = told.difference(on_record).next() {
            return Err(format!("{run} was {what}, and that is not on record"));
        }
    }
    Ok(())
}

#[test]
fn a_loss_of_power_at_any_moment_loses_nothing_that_was_told() {
    let images = std::env::var("SANDHOG_TEST_IMAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(IMAGES);
    let place = Place::new();
    place.recorded(&["run", "w.toml"], None);
    place.recorded(&["run", "w.toml"], Some(2));
    place.recorded(&["runs", "resume", "--open"], Some(1));
    place.recorded(&["runs", "resume", "--open"], None);
    place.recorded(&["run", "w.toml"], None);
    place.recorded(&["run", "w.toml"], Some(1));
    place.recorded(&["runs", "pause", &place.latest()], None);
    place.recorded(&["runs", "resume", &place.latest()], Some(1));
    place.recorded(&["runs", "cancel", &place.latest()], None);
    let (told, resumed) = images_are_as_told(&place, images, RESUMED, furnish);
    assert!(resumed > images / RESUMED / 2 || images < RESUMED, "only {resumed} were gone on with");
    assert_eq!((told.runs.len(), told.paused.len(), told.cancelled.len()), (4, 1, 1));
}

#[test]
fn and_none_while_the_log_is_folded_beside_the_writer() {
    let place = Place::new();
    furnish_amply(place.folder.path());
    place.recorded(&["run", "w.toml"], Some(3));
    place.recorded(&["runs", "resume", "--open"], None);
    let (told, resumed) = images_are_as_told(&place, AMPLE_IMAGES, AMPLE_RESUMED, furnish_amply);
    assert!(resumed > 2, "only {resumed} were gone on with"); // most is written before anybody is told of a run
    assert_eq!(told.runs.len(), 1);
    let ops = read_record(&std::fs::read(place.record()).expect("a record"));
    // Of the file, much was written before the first task had completed, and thus not by a process at its end.
    let first = ops.iter().position(|op| matches!(op, Op::Told { text } if text.contains("]: completed"))).expect("one completed");
    let mut disk = Disk::default();
    ops[..first].iter().for_each(|op| disk.apply(op));
    let bytes = disk.whole().get(".sandhog/journal.sqlite").map_or(0, Vec::len);
    assert!(bytes > 4 << 20, "{bytes} bytes were in the file by then");
}

/// Rebuilds disks from what a place has on record, from its begin to its end, and holds each against what was told by then. Says what was
/// told at the end, and how many were gone on with.
fn images_are_as_told(place: &Place, images: usize, one_in: usize, furnish: fn(&Path)) -> (Told, usize) {
    let ops = read_record(&std::fs::read(place.record()).expect("a record"));

    // The recorder has missed nothing: the record makes the very files that are there.
    let mut disk = Disk::default();
    ops.iter().for_each(|op| disk.apply(op));
    let whole = disk.whole();
    for (path, content) in &whole {
        let there = std::fs::read(place.folder.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(path.ends_with("-shm") || there == *content, "{path} is not what was recorded");
    }
    assert!(whole.contains_key(".sandhog/journal.sqlite"));
    let there = std::fs::read_dir(place.folder.path().join(".sandhog")).expect("a folder").flatten();
    for entry in there.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
        let path = format!(".sandhog/{}", entry.file_name().display());
        assert!(whole.contains_key(&path), "{path} was made, and not recorded");
    }

    let syncs = ops.iter().filter(|op| matches!(op, Op::Sync { .. })).count();
    assert!(syncs > 30, "there were only {syncs} syncs");
    let mut random = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut disk, mut told, mut opened, mut resumed) = (Disk::default(), Told::default(), 0, 0);
    for (at, op) in ops.iter().enumerate() {
        disk.apply(op);
        if let Op::Told { text } = op {
            told.hear(text);
        }
        let due = (at + 1) * images / ops.len();
        while opened < due {
            opened += 1;
            let image = disk.image(&mut random);
            let folder = image_folder();
            image.write(folder.path());
            // Before anybody was told of a run, there may be no journal to go on with.
            let goes_on = opened % one_in == 0 && !told.runs.is_empty();
            if goes_on {
                furnish(folder.path());
                let output = sandhog(folder.path(), &["runs", "resume", "--open"]).output().expect("runs");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "image {opened}, after operation {at}: {said}");
                resumed += 1;
            }
            if let Err(reason) = is_as_told(folder.path(), &told, goes_on) {
                let kept: Vec<String> = image.files.iter().map(|(path, content)| format!("{path}: {} bytes", content.len())).collect();
                let op: String = format!("{op:?}").chars().take(100).collect();
                panic!("image {opened}, after operation {at} of {} ({op}): {reason}; found: {kept:?}", ops.len());
            }
        }
    }
    assert_eq!(opened, images);
    println!("\n{opened} images of {} operations with {syncs} syncs; {resumed} were gone on with", ops.len());
    (told, resumed)
}
