//! What is loaded under a name: files of the subject, Node's modules as the harness has them, and what stands for a module
//! in a test.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Exception, FromJs, Function, IntoJs as _, JsLifetime, Module, Object, Persistent, Promise, Result, Value};

use crate::resolve::find;
use crate::source::{Maps, free_names, has_module_syntax, is_typed, to_plain};

/// Where the subject lies.
pub const ROOT: &str = "/subject";
/// Before the path of a file that is wanted itself, whatever stands for it.
const ACTUAL: &str = "actual:";
/// Names that are no files: what follows is the harness's.
const OWN: &[&str] = &["builtin:", "fallback:", "mock:"];

/// What stands before a CommonJS file.
const WRAPPER: &str = "(function (exports, require, module, __filename, __dirname) {";
/// What CommonJS has in each file, and the property of `import.meta` that is the same for a module.
const OF_COMMONJS: &[(&str, &str)] = &[("__filename", "filename"), ("__dirname", "dirname"), ("require", "require")];

/// The harness, which only the engine sees.
pub struct Harness(pub Persistent<Object<'static>>);

// SAFETY: it holds nothing with the lifetime of a context.
unsafe impl JsLifetime<'_> for Harness {
    type Changed<'to> = Harness;
}

/// A function of the harness.
pub fn function<'js>(ctx: &Ctx<'js>, name: &str) -> Result<Function<'js>> {
    let harness = ctx.userdata::<Harness>().map(|harness| harness.0.clone());
    harness.ok_or_else(|| Exception::throw_message(ctx, "the harness has not started"))?.restore(ctx)?.get(name)
}

fn text(path: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
}

/// The folder of a path.
pub fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path as the subject has it.
pub fn shown(path: &str) -> &str {
    path.strip_prefix(ROOT).map_or(path, |path| path.trim_start_matches('/'))
}

fn ending(path: &str) -> &str {
    Path::new(path).extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

/// Whether a file is CommonJS: by its ending, by its package, or, as Node does since version 22, by what is in it.
pub fn is_commonjs(path: &str) -> bool {
    match ending(path) {
        "cjs" | "cts" | "json" => return true,
        "mjs" | "mts" | "ts" | "tsx" | "jsx" => return false,
        _ => {}
    }
    let package = Path::new(path).ancestors().skip(1).find_map(|folder| std::fs::read(folder.join("package.json")).ok());
    let package: Option<serde_json::Value> = package.and_then(|package| serde_json::from_slice(&package).ok());
    match package.as_ref().and_then(|package| package.get("type")?.as_str()) {
        Some("module") => false,
        Some("commonjs") => true,
        _ => !text(path).is_some_and(|text| has_module_syntax(&text)),
    }
}

/// What a name means in a file: a path, or a name of the harness's.
pub fn resolve<'js>(ctx: &Ctx<'js>, base: &str, name: &str, require: bool) -> Result<String> {
    if OWN.iter().any(|own| name.starts_with(own)) {
        return Ok(name.to_owned());
    }
    if let Some(path) = name.strip_prefix(ACTUAL) {
        return Ok(path.to_owned());
    }
    let plain = name.strip_prefix("node:").unwrap_or(name);
    let asked = |question: &str, name: &str| function(ctx, question)?.call::<_, bool>((name,));
    // `test` alone is a package of somebody's.
    if (name.starts_with("node:") || plain != "test") && asked("isBuiltin", plain)? {
        return Ok(format!("builtin:{plain}"));
    }
    if name.starts_with("node:") {
        return Err(Exception::throw_message(ctx, &format!("the module {name} is not in the sandbox")));
    }
    match find(base, name, require) {
        Ok(path) => Ok(path),
        Err(_) if asked("isFallback", name)? => Ok(format!("fallback:{name}")),
        Err(message) => Err(Exception::throw_message(ctx, &message)),
    }
}

/// As [`resolve`], and then what stands for it in a test.
fn resolve_doubled<'js>(ctx: &Ctx<'js>, base: &str, name: &str) -> Result<String> {
    let replace = |path: &str| function(ctx, "replace")?.call::<_, String>((path,));
    if name.starts_with(ACTUAL) || OWN.iter().any(|own| name.starts_with(own)) {
        return resolve(ctx, base, name, false);
    }
    match resolve(ctx, base, name, false) {
        // A name with a question is another module than one without.
        Ok(path) => match name.split_once('?').filter(|_| path.starts_with('/')) {
            Some((_, question)) => Ok(format!("{path}?{question}")),
            None => replace(&path),
        },
        Err(error) => {
            let thrown = ctx.catch();
            let double = replace(&format!("virtual:{name}"))?;
            if double.is_empty() {
                return Err(if thrown.is_null() { error } else { ctx.throw(thrown) });
            }
            Ok(double)
        }
    }
}

/// A CommonJS file as a function of `exports, require, module, __filename, __dirname`. Its lines stay where they are.
pub fn compile<'js>(ctx: Ctx<'js>, path: &str, maps: &mut Maps) -> Result<Function<'js>> {
    let source = read(&ctx, path, false, maps)?;
    let source = source.strip_prefix("#!").map_or(source.clone(), |rest| format!("//{rest}"));
    maps.put_before(path, WRAPPER.len());
    let wrapped = format!("{WRAPPER}{source}\n}})");
    let mut options = EvalOptions::default();
    options.global = true;
    options.strict = false;
    options.filename = Some(path.to_owned());
    ctx.eval_with_options(wrapped.replace('\0', "\\0"), options)
}

/// A file as the engine takes it: plain JavaScript, and what stands for modules before what imports them.
fn read(ctx: &Ctx<'_>, path: &str, is_module: bool, maps: &mut Maps) -> Result<String> {
    let source = text(path).ok_or_else(|| Exception::throw_message(ctx, &format!("{} cannot be read", shown(path))))?;
    let source = match is_typed(path) {
        false => source,
        true => to_plain(path, &source, maps).map_err(|message| Exception::throw_syntax(ctx, &message))?,
    };
    let mocks = ["mock(", "unmock(", "hoisted("].iter().any(|call| source.contains(call)) && !path.contains("/node_modules/");
    if !mocks {
        return Ok(source);
    }
    let hoisted: String = function(ctx, "hoisted")?.call((&source, path, is_module))?;
    if hoisted != source {
        maps.moved(path, &source, &hoisted);
    }
    Ok(hoisted)
}

/// Loads a module and all that it imports, now: for `require`.
pub fn import_sync<'js>(ctx: Ctx<'js>, name: &str) -> Result<Value<'js>> {
    let promise: Promise<'js> = Module::import(&ctx, name)?;
    loop {
        if let Some(result) = promise.result::<Value<'js>>() {
            return result;
        }
        if !ctx.execute_pending_job() {
            return Err(Exception::throw_message(&ctx, &format!("{} waits for something, and cannot be required", shown(name))));
        }
    }
}

/// Resolves imports.
pub struct Files;

impl Resolver for Files {
    fn resolve<'js>(&mut self, ctx: &Ctx<'js>, base: &str, name: &str, _: Option<ImportAttributes<'js>>) -> Result<String> {
        resolve_doubled(ctx, base, name)
    }
}

/// Loads what was resolved.
pub struct Loading {
    pub maps: Rc<RefCell<Maps>>,
}

impl Loader for Loading {
    fn load<'js>(&mut self, ctx: &Ctx<'js>, name: &str, _: Option<ImportAttributes<'js>>) -> Result<Module<'js, Declared>> {
        let is_own = OWN.iter().any(|own| name.starts_with(own));
        let path = if is_own { name } else { name.split('?').next().unwrap_or_default() };
        if !is_own && !is_commonjs(path) {
            let source = read(ctx, path, true, &mut self.maps.borrow_mut())?;
            // Jest and Vitest give modules what is CommonJS's, too; on the first line, so that all others stay where they are.
            let given: Vec<_> = OF_COMMONJS.iter().filter(|(name, _)| source.contains(name)).collect();
            let source = match given.is_empty() {
                true => source,
                false => {
                    let free = free_names(&source);
                    let given = given.iter().filter(|(name, _)| free.contains(*name));
                    let first: String = given.map(|(name, value)| format!("const {name} = import.meta.{value};")).collect();
                    self.maps.borrow_mut().put_before(path, first.len());
                    first + &source
                }
            };
            let module = Module::declare(ctx.clone(), name, source)?;
            let meta = module.meta()?;
            meta.set("url", format!("file://{name}"))?;
            meta.set("filename", path)?;
            meta.set("dirname", folder(path))?;
            meta.set("require", function(ctx, "requireFrom")?.call::<_, Value<'js>>((path,))?)?;
            meta.set("env", function(ctx, "environment")?.call::<_, Value<'js>>(())?)?;
            meta.set("mocks", function(ctx, "settle")?)?;
            let base = path.to_owned();
            let resolve = move |ctx: Ctx<'js>, name: String| -> Result<String> {
                let path = resolve(&ctx, &base, &name, false)?;
                Ok(if path.starts_with('/') { format!("file://{path}") } else { name })
            };
            meta.set("resolve", Function::new(ctx.clone(), resolve)?)?;
            return Ok(module);
        }
        // What is no module of its own: its value, under each of its names. Each is bound to a name of ours, since a key may be a
        // word of the language.
        let made: Object<'js> = function(ctx, "value")?.call((path,))?;
        let (value, keys): (Value<'js>, Vec<String>) = (made.get("value")?, made.get("keys")?);
        let default = match name.starts_with("mock:")
            && Object::from_js(ctx, value.clone()).is_ok_and(|it| it.contains_key("default").unwrap_or(false))
        {
            true => "it.default",
            false => "it",
        };
        let names = keys.iter().enumerate().map(|(at, key)| format!("const k{at} = it[{key:?}];")).collect::<String>();
        let exports = keys.iter().enumerate().map(|(at, key)| format!("k{at} as {key}")).collect::<Vec<_>>().join(", ");
        let source = format!("const it = import.meta.it; delete import.meta.it; export default {default}; {names} export {{ {exports} }};");
        let module = Module::declare(ctx.clone(), name, source)?;
        module.meta()?.set("it", value.into_js(ctx)?)?;
        Ok(module)
    }
}
