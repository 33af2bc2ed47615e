//! The plugin folder while a host runs: what is dropped into it, replaced, broken and removed, and what serves meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use sandhog::config::Settings;
use sandhog::manager::{Crew, Workers as _};
use sandhog::model::capability::PinnedGrant;
use sandhog::model::limits::BudgetPatch;
use sandhog::model::{Grant, Step, Task};
use sandhog::registry::cache::Cache;
use sandhog::registry::compiler::Compiler;
use sandhog::registry::pack::{About, pack};
use sandhog::registry::watch::Watch;
use sandhog::registry::{Error, Registry};
use sandhog::runtime::Runtime;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How long is waited for what has to happen: far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker that answers one artifact: the word it was made with. `more`: further functions.
fn answers(word: &str, more: &str, manifest: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
  (memory (export "memory") 1)
  (data (i32.const 16) "{word}")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "sandhog_worker_run") (param i32) (result i32) (local $turns i32)
    (loop $spin
      (local.set $turns (i32.add (local.get $turns) (i32.const 1)))
      (br_if $spin (i32.lt_u (local.get $turns) (i32.const 100000))))
    (i32.store (i32.const 64) (i32.const 16)) (i32.store (i32.const 68) (i32.const {length}))
    (i32.store (i32.const 72) (i32.const 16)) (i32.store (i32.const 76) (i32.const 0))
    (i32.store (i32.const 80) (i32.const 16)) (i32.store (i32.const 84) (i32.const {length}))
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (i32.const 64))
    (i32.store (i32.const 8) (i32.const 1))
    (i32.const 0)){more})"#,
        length = word.len()
    );
    let about = About { text: Some(manifest).filter(|text| !text.is_empty()), ..About::default() };
    pack(text.as_bytes(), &about, false).expect("packs")
}

/// A function with so many variables, which meet at the head of as many loops: what compiling it takes is their product.
fn bomb(size: usize) -> String {
    let mut text = format!("(func (export \"bomb\") (param i32) (local{})", " i32".repeat(size));
    for turn in 0..size {
        let (to, from, when) = (turn + 1, turn * 7 % size + 1, turn * 3 % size + 1);
        text.push_str(&format!("(loop (local.set {to} (i32.add (local.get {from}) (local.get 0))) (br_if 0 (local.get {when})))"));
    }
    text + ")"
}

/// A folder with a host that looks at it.
struct World {
    folder: TempDir,
    cache: TempDir,
    registry: Arc<Registry>,
    crew: Arc<Crew>,
    configured: Arc<Mutex<Settings>>,
    configuration: std::path::PathBuf,
    changed: mpsc::Receiver<()>,
    _watch: Watch,
}

impl World {
    fn new() -> Self {
        Self::with(TempDir::new().expect("a folder"), TempDir::new().expect("a cache"), Settings::default())
    }

    fn with(folder: TempDir, cache: TempDir, settings: Settings) -> Self {
        let settings = Settings { plugins: vec![folder.path().join("plugins")], ..settings };
        std::fs::create_dir_all(&settings.plugins[0]).expect("makes");
        let configuration = folder.path().join("sandhog.toml");
        std::fs::write(&configuration, "0").expect("writes");
        let runtime = Runtime::new(sandhog::runtime::Settings::default()).expect("a runtime");
        let compiler = Compiler::child(env!("CARGO_BIN_EXE_sandhog").into(), 2);
        let kept = Cache::open(cache.path()).expect("a cache");
        let today = jiff::civil::date(2027, 1, 31);
        let registry = Arc::new(Registry::open(runtime.clone(), Some(kept), compiler, settings.clone(), today));
        let configured = Arc::new(Mutex::new(settings));
        let again = Arc::clone(&configured);
        let reread = Box::new(move || Ok(again.lock().expect("no panic").clone()));
        let (tell, changed) = mpsc::channel();
        let told = Arc::new(move || tell.send(()).unwrap_or_default()); // nobody may listen any more
        let watch = Watch::start(Arc::clone(&registry), Some(configuration.clone()), reread, told).expect("looks");
        let crew = Arc::new(Crew::new(runtime, Arc::clone(&registry)));
        Self { folder, cache, registry, crew, configured, configuration, changed, _watch: watch }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("plugins").join(name)
    }

    /// Puts a file in place by a rename, as careful programs do.
    fn put(&self, name: &str, bytes: &[u8]) {
        put(&self.path(name), bytes);
    }

    /// Changes the configuration, as an editor would.
    fn configure(&self, change: impl FnOnce(&mut Settings)) {
        let mut configured = self.configured.lock().expect("no panic");
        change(&mut configured);
        let before = std::fs::read_to_string(&self.configuration).expect("reads");
        std::fs::write(&self.configuration, format!("{before}+")).expect("writes");
    }

    /// Waits until something is so, each time that the host says that the plugins changed.
    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Registry) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(&self.registry) {
            // What is only shown (a bad file) is not told: look again after a while.
            let _ = self.changed.recv_timeout(Duration::from_millis(50));
            assert!(Instant::now() < until, "{what}: {:?}", self.registry.shelf());
        }
    }

    fn call(&self, plugin: &str) -> Result<String, String> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(call(&self.crew, plugin))
    }
}

fn put(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("part");
    std::fs::write(&beside, bytes).expect("writes");
    std::fs::rename(beside, path).expect("renames");
}

async fn call(crew: &Crew, plugin: &str) -> Result<String, String> {
    let step = Step::new("step", plugin);
    let progress = Arc::new(|_: f64, _: &str| {});
    let ended = crew
        .run(plugin, &step, Task { id: "task".into(), params: "{}".into(), ..Task::default() }, CancellationToken::new(), progress)
        .await;
    let artifacts = ended.result.map_err(|failure| format!("{}: {}", failure.kind, failure.message))?;
    Ok(String::from_utf8_lossy(&artifacts[0].content).into_owned())
}

fn serves(registry: &Registry, name: &str, bytes: &[u8]) -> bool {
    registry.find(name).is_ok_and(|entry| entry.digest == sandhog::model::Digest::of(bytes))
}

#[test]
fn a_plugin_replaced_a_hundred_times_under_load_fails_no_task_and_never_runs_in_part() {
    let world = World::new();
    let versions: Vec<Vec<u8>> = (0..100).map(|version| answers(&format!("version {version}"), "", "")).collect();
    world.put("works.wasm", &versions[0]);
    world.wait("the first one serves", |registry| serves(registry, "works", &versions[0]));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Mutex::new(BTreeMap::<Result<String, String>, usize>::new()));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (crew, stop, seen, calls) = (Arc::clone(&world.crew), Arc::clone(&stop), Arc::clone(&seen), Arc::clone(&calls));
            runtime.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let answer = call(&crew, "works").await;
                    *seen.lock().expect("no panic").entry(answer).or_default() += 1;
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let path = world.path("works.wasm");
    for (version, bytes) in versions.iter().enumerate().skip(1) {
        match version % 4 {
            0 => put(&path, bytes),
            1 => {
                // Copied in place: for a moment there is the half of it, and tasks go on meanwhile.
                let before = calls.load(Ordering::SeqCst);
                std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("writes");
                while calls.load(Ordering::SeqCst) < before + 8 {
                    std::thread::yield_now();
                }
                std::fs::write(&path, bytes).expect("writes");
            }
            2 => {
                std::fs::write(&path, "no component at all").expect("writes");
                put(&path, bytes);
            }
            _ => {
                // Gone for no longer than it takes to call the system once: what stays away is gone.
                let ready = path.with_extension("next");
                std::fs::write(&ready, bytes).expect("writes");
                std::fs::remove_file(&path).expect("removes");
                std::fs::rename(&ready, &path).expect("renames");
            }
        }
        if version % 9 == 0 {
            world.wait("the new one serves", |registry| serves(registry, "works", bytes));
            let word = format!("version {version}");
            let until = Instant::now() + PATIENCE;
            while !seen.lock().expect("no panic").contains_key(&Ok(word.clone())) {
                assert!(Instant::now() < until, "no task ran on {word}");
                std::thread::yield_now();
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    runtime.block_on(async {
        for task in load {
            task.await.expect("no panic");
        }
    });
    let seen = seen.lock().expect("no panic");
    let failed: Vec<_> = seen.keys().filter(|answer| answer.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(seen.len() >= 12, "{seen:?}");
    assert!(seen.keys().all(|answer| answer.as_ref().is_ok_and(|word| word.starts_with("version "))), "{seen:?}");
}

#[test]
fn what_is_dropped_broken_removed_and_put_back_takes_effect_and_the_last_good_one_stays() {
    let world = World::new();
    let (first, second) = (answers("first", "", ""), answers("second", "", ""));
    assert!(matches!(world.registry.find("words"), Err(Error::NotFound { .. })));
    world.put("words.wasm", &first);
    world.wait("it is there", |registry| serves(registry, "words", &first));
    assert_eq!(world.call("words"), Ok("first".to_owned()));

    // A bad one does not take its place, and the reason is shown.
    for bad in [&b"no component"[..], &second[..second.len() - 40], b""] {
        world.put("words.wasm", bad);
        world.wait("the bad one is told", |registry| registry.shelf().bad.iter().any(|(path, _)| path.ends_with("words.wasm")));
        assert_eq!(world.call("words"), Ok("first".to_owned()));
    }
    world.put("words.wasm", &second);
    world.wait("the good one serves", |registry| serves(registry, "words", &second) && registry.shelf().bad.is_empty());
    assert_eq!(world.call("words"), Ok("second".to_owned()));

    // Its manifest is a part of it.
    std::fs::write(world.path("words.toml"), "limits = { fuel = \"10\" }").expect("writes");
    world.wait("its limits changed", |registry| registry.find("words").is_ok_and(|entry| entry.manifest.limits.fuel == Some(10)));
    assert!(world.call("words").is_err_and(|failure| failure.starts_with("out_of_fuel")));
    std::fs::write(world.path("words.toml"), "limit = 1").expect("writes");
    world.wait("a bad manifest is told", |registry| !registry.shelf().bad.is_empty());
    assert_eq!(world.registry.find("words").expect("the one before").manifest.limits.fuel, Some(10));
    std::fs::remove_file(world.path("words.toml")).expect("removes");
    world.wait("its limits are as they were", |registry| registry.find("words").is_ok_and(|entry| entry.manifest.limits.fuel.is_none()));

    // A second file of the name is told, and what served goes on.
    world.put("others.wasm", &first);
    std::fs::write(world.path("others.toml"), "name = \"words\"").expect("writes");
    world.wait("the clash is told", |registry| registry.shelf().bad.len() == 2);
    assert_eq!(world.call("words"), Ok("second".to_owned()));
    std::fs::remove_file(world.path("others.wasm")).expect("removes");
    world.wait("the clash is over", |registry| registry.shelf().bad.is_empty());

    // A folder that vanishes says nothing about its plugins; one that was emptied does.
    let away = world.folder.path().join("away");
    std::fs::rename(world.folder.path().join("plugins"), &away).expect("renames");
    world.wait("the folder is missed", |registry| registry.shelf().bad.iter().any(|(path, _)| path.ends_with("plugins")));
    assert_eq!(world.call("words"), Ok("second".to_owned()));
    std::fs::rename(&away, world.folder.path().join("plugins")).expect("renames");
    world.wait("it is back", |registry| registry.shelf().bad.is_empty());
    std::fs::remove_file(world.path("words.wasm")).expect("removes");
    world.wait("it is gone", |registry| matches!(registry.find("words"), Err(Error::NotFound { .. })));
    assert!(world.call("words").is_err_and(|failure| failure.contains("there is no plugin `words`")));
}

#[test]
fn what_compiles_without_end_is_stopped_and_holds_nobody_up() {
    let settings = Settings { compile: BudgetPatch { cpu: None, memory: Some(512 << 20) }, ..Settings::default() };
    let world = World::with(TempDir::new().expect("a folder"), TempDir::new().expect("a cache"), settings);
    let (good, better) = (answers("good", "", ""), answers("better", "", ""));
    let hungry = answers("hungry", &bomb(6000), "");
    assert!(hungry.len() < 200_000, "{} bytes", hungry.len());
    world.put("good.wasm", &good);
    world.wait("the good one serves", |registry| serves(registry, "good", &good));
    world.put("bomb.wasm", &hungry);
    world.put("good.wasm", &better);
    world.wait("the good one is replaced", |registry| serves(registry, "good", &better));
    world.wait("the bomb is held", |registry| registry.shelf().held.contains_key("bomb"));
    let failure = world.call("bomb").expect_err("no answer");
    assert!(failure.contains("it needs more than 512MiB of memory to compile, and was stopped"), "{failure}");
    assert_eq!(world.call("good"), Ok("better".to_owned()));
    // In the place of one that serves it changes nothing.
    world.put("good.wasm", &hungry);
    world.wait("the bomb is held here, too", |registry| registry.shelf().held.contains_key("good"));
    assert_eq!(world.call("good"), Ok("better".to_owned()));
    world.put("good.wasm", &good);
    world.wait("it is over", |registry| serves(registry, "good", &good) && !registry.shelf().held.contains_key("good"));

    let settings = Settings { compile: BudgetPatch { cpu: Some(Duration::from_secs(1)), memory: Some(16 << 30) }, ..Settings::default() };
    let world = World::with(TempDir::new().expect("a folder"), TempDir::new().expect("a cache"), settings);
    world.put("slow.wasm", &answers("slow", &bomb(4000), ""));
    world.wait("the slow one is held", |registry| registry.shelf().held.contains_key("slow"));
    let reason = world.registry.shelf().held["slow"].reason.to_string();
    assert!(reason.contains("it needs more than 1s of processor time to compile, and was stopped"), "{reason}");
}

/// How many processes are children of this one.
fn children() -> usize {
    let me = format!("PPid:\t{}\n", std::process::id());
    let status = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.ok()?.path().join("status")).ok();
    std::fs::read_dir("/proc").expect("Linux").filter_map(status).filter(|status| status.contains(&me)).count()
}

/// Whoever takes away what compiles for ever gets the places back at once; and one content is compiled by one child.
#[test]
fn what_nobody_waits_for_any_more_is_compiled_no_further() {
    let compile = BudgetPatch { cpu: Some(Duration::from_secs(3600)), memory: Some(16 << 30) };
    let settings = Settings { compile, ..Settings::default() };
    let world = World::with(TempDir::new().expect("a folder"), TempDir::new().expect("a cache"), settings);
    world.put("first.wasm", &answers("slow", &bomb(4000), ""));
    world.put("second.wasm", &answers("slow too", &bomb(4000), ""));
    let until = Instant::now() + PATIENCE;
    while children() < 2 {
        assert!(Instant::now() < until, "two are compiled at once");
        std::thread::yield_now();
    }
    let good = answers("good", "", "");
    world.put("good.wasm", &good);
    std::fs::remove_file(world.path("first.wasm")).expect("removes");
    std::fs::remove_file(world.path("second.wasm")).expect("removes");
    world.wait("the good one serves", |registry| serves(registry, "good", &good));
}

/// The processor time of children that have ended.
fn time_of_children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in parentheses").split_whitespace().collect();
    let ticks: u64 = fields[13..15].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Files of one content are compiled by one child: another would take as long, and come to the same.
#[test]
fn one_content_under_two_names_is_compiled_once() {
    let compile = BudgetPatch { cpu: Some(Duration::from_secs(1)), memory: Some(16 << 30) };
    let world =
        World::with(TempDir::new().expect("a folder"), TempDir::new().expect("a cache"), Settings { compile, ..Settings::default() });
    let same = answers("same", &bomb(4000), "");
    let before = time_of_children();
    for name in ["one", "two"] {
        world.put(&format!("{name}.wasm"), &same);
    }
    world.wait("both are held", |registry| ["one", "two"].iter().all(|name| registry.shelf().held.contains_key(*name)));
    let took = time_of_children() - before;
    assert!(took >= Duration::from_millis(500) && took < Duration::from_millis(1900), "{took:?} of processor time");
}

#[test]
fn one_that_asks_for_more_is_held_until_it_is_granted_and_the_old_one_serves_over_restarts_too() {
    let world = World::new();
    let wants = |clock: &str| format!("[requests]\nrandomness = \"draws lots\"\n{clock}");
    let old = answers("old", "", &wants(""));
    let new = answers("new", "", &wants("clock = \"dates it\"\n"));
    let digest = |bytes: &[u8]| sandhog::model::Digest::of(bytes);
    world.put("asks.wasm", &old);
    world.wait("it is there", |registry| serves(registry, "asks", &old));
    assert!(world.call("asks").is_err_and(|failure| failure.starts_with("denied") && failure.contains("draws lots")));
    let granted = |bytes: &[u8], clock| PinnedGrant {
        digest: digest(bytes),
        unset: Vec::new(),
        grant: Grant { randomness: true, clock, ..Grant::default() },
    };
    world.configure(|settings| drop(settings.grants.insert("asks".into(), granted(&old, false))));
    world.wait("it is granted", |registry| registry.find("asks").is_ok_and(|entry| registry.grant(&entry).is_ok()));
    assert_eq!(world.call("asks"), Ok("old".to_owned()));

    world.put("asks.wasm", &new);
    world.wait("the new one is held", |registry| registry.shelf().held.contains_key("asks"));
    assert!(world.registry.shelf().held["asks"].reason.contains("changed since it was granted something"));
    assert_eq!(world.call("asks"), Ok("old".to_owned()));

    // Another host finds the new file alone, and the old one serves there as well: with the manifest of then.
    let World { folder, cache, configured, .. } = world;
    let settings = configured.lock().expect("no panic").clone();
    for file in std::fs::read_dir(cache.path().join("compiled")).expect("reads").flatten() {
        if file.path().extension().is_some_and(|extension| extension == "compiled") {
            std::fs::remove_file(file.path()).expect("removes");
        }
    }
    let world = World::with(folder, cache, settings);
    assert!(world.registry.shelf().held.contains_key("asks"));
    assert_eq!(world.call("asks"), Ok("old".to_owned()));
    assert_eq!(world.registry.find_newest("asks").expect("the new one").digest, digest(&new));

    world.configure(|settings| drop(settings.grants.insert("asks".into(), granted(&new, true))));
    world.wait("the new one is granted", |registry| serves(registry, "asks", &new) && registry.shelf().held.is_empty());
    assert_eq!(world.call("asks"), Ok("new".to_owned()));
    // What is taken back is gone at once.
    world.configure(|settings| drop(settings.grants.remove("asks")));
    world.wait("it is revoked", |registry| registry.find("asks").is_ok_and(|entry| registry.grant(&entry).is_err()));
    assert!(world.call("asks").is_err_and(|failure| failure.starts_with("denied")));

    // Where signatures are asked for, one without does not go on.
    world.configure(|settings| settings.keys.push(include_str!("data/signed/minisign.pub").lines().nth(1).expect("a key").to_owned()));
    world.wait("it is not signed", |registry| matches!(registry.find("asks"), Err(Error::Bad { .. })));
    world.configure(|settings| settings.keys.clear());
    world.wait("nobody asks any more", |registry| registry.find("asks").is_ok());

    // Switched off and on again.
    world.configure(|settings| settings.disabled.extend(["asks".to_owned()]));
    world.wait("it is disabled", |registry| matches!(registry.find("asks"), Err(Error::Disabled { .. })));
    assert!(world.call("asks").is_err_and(|failure| failure.contains("`sandhog plugins enable asks`")));
    world.configure(|settings| settings.disabled.clear());
    world.wait("it is back", |registry| registry.find("asks").is_ok());
}

#[test]
fn a_thousand_plugins_are_there_at_once_and_each_is_called() {
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("plugins")).expect("makes");
    for number in 0..1000 {
        let name = format!("p{number:04}");
        std::fs::write(folder.path().join("plugins").join(format!("{name}.wasm")), answers(&name, "", "")).expect("writes");
    }
    let world = World::with(folder, TempDir::new().expect("a cache"), Settings::default());
    assert_eq!(world.registry.plugins().len(), 1000);
    for number in (0..1000).step_by(97) {
        let name = format!("p{number:04}");
        assert_eq!(world.call(&name), Ok(name.clone()));
    }
    // One more is one more, and nothing else.
    let more = answers("more", "", "");
    world.put("more.wasm", &more);
    world.wait("it is there", |registry| serves(registry, "more", &more));
    assert_eq!(world.registry.plugins().len(), 1001);
}
