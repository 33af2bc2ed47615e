//! QuickJS over the files of a subject: modules and CommonJS, TypeScript and JSX by oxc, and the harness that test files and
//! benchmarks expect. For gates: what is run is not trusted, and can do no more than the instance that it is in.

mod files;
mod modules;
mod resolve;
mod source;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::time::Instant;

use rquickjs::function::Func;
use rquickjs::{
    CatchResultExt as _, CaughtError, Context, Ctx, Exception, Function, Module, Object, Persistent, Promise, Runtime, TypedArray, Value,
};
use sandhog_guest::{Failure, Finding, Severity, permanent};

use modules::{Files, ROOT, function};
use source::Maps;

/// How often QuickJS asks whether to go on while a file is only looked at, before it is given up: each is some ten thousand
/// steps. A file that needs more is a unit of its own, which its own limits end.
const LOOKING_TURNS_MAX: u32 = 2_000;
/// How much memory a file may take while it is only looked at, in bytes.
const LOOKING_MEMORY_MAX: usize = 64 << 20;
/// How many timers fire after a file is loaded, for what registers tests later.
const LATE_TURNS_MAX: usize = 1_000;
/// How deep the engine's own stack may become, in bytes: below what the sandbox allows, so that endless recursion is a `RangeError`
/// of the code that recurses, as it expects.
const STACK_BYTES_MAX: usize = 112 << 10;

/// What went wrong in code of the subject.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct Problem {
    /// For a person.
    pub message: String,
    /// The stack, as the engine prints it.
    #[serde(default)]
    pub stack: String,
}

/// What came of one test or benchmark.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Ended {
    /// A test that holds.
    Passed,
    /// One that was not to be run, and why.
    Skipped {
        /// Why.
        message: String,
    },
    /// One that does not hold, or could not be run.
    Failed {
        /// `before` or `after` where a hook failed.
        when: String,
        /// What, and where.
        #[serde(flatten)]
        problem: Problem,
    },
    /// A benchmark, with the fuel of one call.
    Measured {
        /// The fuel, as a decimal number.
        fuel: String,
    },
}

/// The harness as one file: what `harness/build` makes of that folder.
const HARNESS: &str = include_str!(env!("SANDHOG_HARNESS"));

/// Starts an engine when the gate is built, so that an instance begins with one that has loaded its harness.
pub fn initialize() {
    match Engine::start() {
        Ok(engine) => STARTED.set(Some(engine)),
        Err(failure) => panic!("{failure:?}"),
    }
}

thread_local! {
    static STARTED: Cell<Option<Engine>> = const { Cell::new(None) };
}

/// One engine: an instance has one, for one file. It is never taken down: the instance is thrown away with all that is in it.
pub struct Engine {
    runtime: ManuallyDrop<Runtime>,
    context: ManuallyDrop<Context>,
    maps: Rc<RefCell<Maps>>,
    /// What was rejected, and nobody has handled: each with an address by which it is found again.
    rejections: Rc<RefCell<Vec<(u64, Problem)>>>,
}

impl Engine {
    /// The engine over the subject's files. `looking`: only until it is known what is in a file.
    ///
    /// # Errors
    /// When QuickJS cannot be started.
    pub fn new(looking: bool) -> Result<Self, Failure> {
        let engine = STARTED.take().map_or_else(Self::start, Ok)?;
        if looking {
            let held = usize::try_from(engine.runtime.memory_usage().malloc_size).unwrap_or(0);
            engine.runtime.set_memory_limit(held + LOOKING_MEMORY_MAX);
            let mut turns = 0;
            engine.runtime.set_interrupt_handler(Some(Box::new(move || {
                turns += 1;
                turns > LOOKING_TURNS_MAX
            })));
        }
        Ok(engine)
    }

    fn start() -> Result<Self, Failure> {
        let cannot = |error: rquickjs::Error| permanent(format!("QuickJS cannot be started: {error}"));
        let runtime = Runtime::new().map_err(cannot)?;
        runtime.set_max_stack_size(STACK_BYTES_MAX);
        let maps = Rc::new(RefCell::new(Maps::default()));
        runtime.set_loader(Files, modules::Loading { maps: Rc::clone(&maps) });
        let rejections: Rc<RefCell<Vec<(u64, Problem)>>> = Rc::default();
        let told = Rc::clone(&rejections);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, is_handled| {
            let mut told = told.borrow_mut();
            let address = address(&promise);
            told.retain(|(other, _)| *other != address);
            if !is_handled {
                told.push((address, reason_of(&ctx, reason)));
            }
        })));
        let context = Context::full(&runtime).map_err(cannot)?;
        let engine = Self { runtime: ManuallyDrop::new(runtime), context: ManuallyDrop::new(context), maps, rejections };
        let started = engine.context.with(|ctx| engine.load_harness(&ctx).catch(&ctx).map_err(|error| describe(&ctx, &error)));
        started.map_err(|problem| permanent(format!("the harness does not start: {}\n{}", problem.message, problem.stack)))?;
        engine.runtime.run_gc();
        Ok(engine)
    }

    fn load_harness<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<()> {
        let native = Object::new(ctx.clone())?;
        native.set("root", ROOT)?;
        native.set("print", Func::from(print))?;
        files::give(ctx, &native)?;
        native.set("encode", Function::new(ctx.clone(), encode)?)?;
        native.set("decode", Func::from(decode))?;
        native.set("random", Function::new(ctx.clone(), random)?)?;
        native.set("elapsed", Func::from(elapsed))?;
        native
            .set("fuel", Function::new(ctx.clone(), |ctx: Ctx<'js>| rquickjs::BigInt::from_u64(ctx, sandhog_guest::host::fuel_used()))?)?;
        native.set("isCommonjs", Func::from(|path: String| modules::is_commonjs(&path)))?;
        native.set("importSync", Function::new(ctx.clone(), |ctx: Ctx<'js>, name: String| modules::import_sync(ctx, &name))?)?;
        let resolve = |ctx: Ctx<'js>, base: String, name: String, require: bool| modules::resolve(&ctx, &base, &name, require);
        native.set("resolve", Function::new(ctx.clone(), resolve)?)?;
        native.set("find", Func::from(|path: String| resolve::find(ROOT, &path, false).ok()))?;
        let maps = Rc::clone(&self.maps);
        native.set(
            "compile",
            Function::new(ctx.clone(), move |ctx: Ctx<'js>, path: String| modules::compile(ctx, &path, &mut maps.borrow_mut()))?,
        )?;
        ctx.globals().set("native", native)?;
        let (module, promise) = Module::declare(ctx.clone(), "sandhog", HARNESS)?.eval()?;
        promise.finish::<()>()?;
        let harness: Object<'js> = module.get("default")?;
        let harness = modules::Harness(Persistent::save(ctx, harness));
        ctx.store_userdata(harness).map_err(|_| Exception::throw_message(ctx, "the harness cannot be kept"))?;
        Ok(())
    }

    /// Makes names stand for others: `@/` for `src/`.
    pub fn set_aliases(&self, aliases: &BTreeMap<String, String>) {
        resolve::set_aliases(aliases);
    }

    /// Runs a file, after others that set it up, so that what is registered in it is known.
    ///
    /// # Errors
    /// What they threw.
    pub fn load(&self, path: &str, setup: &[String]) -> Result<(), Problem> {
        self.context.with(|ctx| {
            let _: Value<'_> = call(&ctx, "begin", ())?;
            for file in setup.iter().map(String::as_str).chain([path]) {
                let whole = format!("{ROOT}/{}", file.trim_start_matches("./"));
                if modules::is_commonjs(&whole) {
                    let _: Value<'_> = call(&ctx, "require", (whole,))?;
                } else {
                    let promise = Module::import(&ctx, whole).catch(&ctx).map_err(|error| describe(&ctx, &error))?;
                    self.settle(&ctx, &promise)?;
                }
            }
            // What registers tests later does so now.
            for _ in 0..LATE_TURNS_MAX {
                if !call::<_, bool>(&ctx, "turnOnce", ())? {
                    break;
                }
                while ctx.execute_pending_job() {}
            }
            let loaded: Promise<'_> = call(&ctx, "loaded", (path,))?;
            self.settle(&ctx, &loaded)?;
            self.unhandled()
        })
    }

    /// The names that the harness has of what is registered: `units` or `benchmarks`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn names(&self, what: &str) -> Result<Vec<String>, Problem> {
        self.context.with(|ctx| {
            let text: String = call(&ctx, what, ())?;
            serde_json::from_str(&text).map_err(|error| Problem { message: error.to_string(), ..Problem::default() })
        })
    }

    /// Runs what is registered under a name: `run` a test, or `bench` a benchmark. None where there is no such name.
    ///
    /// # Errors
    /// What went wrong outside of it, such as that it never came to an end.
    pub fn run(&self, how: &str, unit: &str) -> Result<Option<Ended>, Problem> {
        self.context.with(|ctx| {
            let promise: Option<Promise<'_>> = call(&ctx, how, (unit,))?;
            let Some(promise) = promise else { return Ok(None) };
            let text = self.settle(&ctx, &promise)?;
            while ctx.execute_pending_job() {}
            self.unhandled()?;
            let text: String = text.get().map_err(|error| Problem { message: error.to_string(), ..Problem::default() })?;
            serde_json::from_str(&text).map(Some).map_err(|error| Problem { message: error.to_string(), ..Problem::default() })
        })
    }

    /// Lets what was loaded come to its end, as a program does: what it waits for, and what it left to do at its exit.
    ///
    /// # Errors
    /// What went wrong, or that its exit code is not 0.
    pub fn end(&self) -> Result<(), Problem> {
        self.context.with(|ctx| {
            let promise: Promise<'_> = call(&ctx, "end", ())?;
            self.settle(&ctx, &promise)?;
            while ctx.execute_pending_job() {}
            self.unhandled()
        })
    }

    /// The first rejection that nobody has handled: elsewhere it would have ended the process.
    fn unhandled(&self) -> Result<(), Problem> {
        match self.rejections.borrow_mut().drain(..).next() {
            Some((_, Problem { message, stack })) => {
                Err(Problem { message: format!("a promise was rejected, and nobody handled it: {message}"), stack })
            }
            None => Ok(()),
        }
    }

    /// Turns the engine's wheels until a promise is settled.
    fn settle<'js>(&self, ctx: &Ctx<'js>, promise: &Promise<'js>) -> Result<Value<'js>, Problem> {
        loop {
            while ctx.execute_pending_job() {}
            if let Some(result) = promise.result::<Value<'js>>() {
                return result.catch(ctx).map_err(|error| describe(ctx, &error));
            }
            let moved: bool = call(ctx, "turn", ())?;
            if !moved {
                let message = "it waits for something that never comes: nothing is left to do, and its promise is not settled".to_owned();
                return Err(Problem { message, ..Problem::default() });
            }
        }
    }

    /// Where in the subject a problem is: the first place on the stack that is in a file of its own.
    #[must_use]
    pub fn place(&self, problem: &Problem) -> Option<(String, u32, u32)> {
        self.maps.borrow().place(&format!("{}\n{}", problem.stack, problem.message))
    }

    /// A finding about a unit, at the place of its problem.
    #[must_use]
    pub fn finding(&self, rule: &str, file: &str, text: String, problem: &Problem) -> Finding {
        let finding = Finding::new(rule, Severity::High, text);
        match self.place(problem) {
            Some((path, line, column)) => finding.spanning(path, (line, column), (line, column)),
            None => finding.in_file(file),
        }
    }
}

/// Calls a function of the harness.
fn call<'js, A, R>(ctx: &Ctx<'js>, name: &str, arguments: A) -> Result<R, Problem>
where
    A: rquickjs::function::IntoArgs<'js>,
    R: rquickjs::FromJs<'js>,
{
    function(ctx, name).and_then(|function| function.call(arguments)).catch(ctx).map_err(|error| describe(ctx, &error))
}

fn describe<'js>(ctx: &Ctx<'js>, error: &CaughtError<'js>) -> Problem {
    match error {
        CaughtError::Exception(exception) => {
            let name: String = exception.as_object().get("name").unwrap_or_default();
            let message = exception.message().unwrap_or_default();
            let message = if name.is_empty() || name == "Error" { message } else { format!("{name}: {message}") };
            Problem { message, stack: exception.stack().unwrap_or_default() }
        }
        CaughtError::Value(value) => {
            let shown = ctx.json_stringify(value.clone()).ok().flatten().and_then(|text| text.to_string().ok());
            Problem { message: format!("threw {}", shown.unwrap_or_else(|| value.type_name().to_string())), stack: String::new() }
        }
        CaughtError::Error(error) => Problem { message: error.to_string(), stack: String::new() },
    }
}

/// By what a promise is known: on this target a value is one word, which is its address where it is an object.
fn address(promise: &Value<'_>) -> u64 {
    promise.as_raw() as u64
}

fn reason_of<'js>(ctx: &Ctx<'js>, reason: Value<'js>) -> Problem {
    match rquickjs::Exception::from_value(reason.clone()) {
        Ok(exception) => describe(ctx, &CaughtError::Exception(exception)),
        Err(_) => describe(ctx, &CaughtError::Value(reason)),
    }
}

fn print(level: String, text: String) {
    for line in text.split('\n') {
        if level == "log" { println!("{line}") } else { eprintln!("{line}") }
    }
}

fn encode<'js>(ctx: Ctx<'js>, text: String) -> rquickjs::Result<TypedArray<'js, u8>> {
    TypedArray::new(ctx, text.into_bytes())
}

/// The bytes as text; none where it is to be UTF-8 and is not.
fn decode(bytes: TypedArray<'_, u8>, fatal: bool) -> Option<String> {
    // SAFETY: the bytes are copied before any code of the engine runs, so that the buffer cannot be detached meanwhile.
    let bytes = unsafe { bytes.as_bytes() }.unwrap_or_default();
    if fatal {
        return std::str::from_utf8(bytes).ok().map(str::to_owned);
    }
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// Bytes that follow from what is tested, unless randomness was granted.
fn random<'js>(ctx: Ctx<'js>, count: usize) -> rquickjs::Result<TypedArray<'js, u8>> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).map_err(|error| Exception::throw_message(&ctx, &error.to_string()))?;
    TypedArray::new(ctx, bytes)
}

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Milliseconds since this was first asked for.
fn elapsed() -> f64 {
    let now = Instant::now();
    let began = BEGAN.get().unwrap_or(now);
    BEGAN.set(Some(began));
    now.duration_since(began).as_secs_f64() * 1000.0
}
