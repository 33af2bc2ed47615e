//! Which file a name means, and what is in it: Node's rules over the snapshot, as far as they need nothing of the machine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Exception, Function, Module, Object, Result};

use crate::source::{Maps, has_module_syntax, is_typed, to_plain};

/// Where the subject lies.
pub const ROOT: &str = "/subject";
/// Where packages may lie that the operator gives.
const PACKAGES: &str = "/data/node_modules";
/// The property of the global object that is the harness.
pub const HARNESS: &str = "\u{1}sandhog";
/// What may follow a name that does not say what it is.
const ENDINGS: &[&str] = &["", ".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json"];
/// Modules of Node that do need the machine.
const OF_THE_MACHINE: &[&str] = &[
    "child_process",
    "cluster",
    "crypto",
    "dgram",
    "dns",
    "http",
    "http2",
    "https",
    "inspector",
    "net",
    "readline",
    "repl",
    "stream",
    "tls",
    "tty",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
    "buffer",
    "async_hooks",
    "string_decoder",
    "querystring",
];

/// The bytes of a file.
pub fn bytes(path: &str) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

fn text(path: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes(path)?).into_owned())
}

/// `file`, `folder` or nothing.
pub fn kind(path: &str) -> &'static str {
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => "folder",
        Ok(_) => "file",
        Err(_) => "",
    }
}

/// The names in a folder.
pub fn list(path: &str) -> Vec<String> {
    let names = std::fs::read_dir(path).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path without `.`, `..` and empty parts.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The file that a path means, with the endings and indices that Node, TypeScript and bundlers fill in.
fn file(path: &str, require: bool) -> Option<String> {
    for ending in ENDINGS {
        let candidate = format!("{path}{ending}");
        if kind(&candidate) == "file" {
            return Some(candidate);
        }
    }
    // TypeScript writes the name that the compiled file would have.
    for (written, meant) in [(".js", ".ts"), (".js", ".tsx"), (".mjs", ".mts"), (".cjs", ".cts"), (".jsx", ".tsx")] {
        let candidate = path.strip_suffix(written).map(|stem| format!("{stem}{meant}"));
        if let Some(candidate) = candidate.filter(|candidate| kind(candidate) == "file") {
            return Some(candidate);
        }
    }
    if kind(path) != "folder" {
        return None;
    }
    if let Some(main) = package(path).and_then(|package| entry(&package, ".", require)).map(|main| clean(&format!("{path}/{main}")))
        && main != path
        && let Some(found) = file(&main, require)
    {
        return Some(found);
    }
    ENDINGS.iter().skip(1).map(|ending| format!("{path}/index{ending}")).find(|candidate| kind(candidate) == "file")
}

fn package(folder: &str) -> Option<serde_json::Value> {
    serde_json::from_str(&text(&format!("{folder}/package.json"))?).ok()
}

/// What a package says is to be loaded for one of its names: `exports`, else `module` or `main`.
fn entry(package: &serde_json::Value, name: &str, require: bool) -> Option<String> {
    fn choose(value: &serde_json::Value, require: bool) -> Option<&str> {
        match value {
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Array(choices) => choices.iter().find_map(|value| choose(value, require)),
            serde_json::Value::Object(conditions) => {
                let known = |condition: &str| match condition {
                    "import" | "module" => !require,
                    "require" => require,
                    "node" | "default" => true,
                    _ => false,
                };
                conditions.iter().filter(|(condition, _)| known(condition)).find_map(|(_, value)| choose(value, require))
            }
            _ => None,
        }
    }
    if let Some(exports) = package.get("exports") {
        let mapped = exports.as_object().filter(|map| map.keys().any(|key| key.starts_with('.')));
        let Some(map) = mapped else { return (name == ".").then(|| choose(exports, require)).flatten().map(str::to_owned) };
        if let Some(value) = map.get(name) {
            return choose(value, require).map(str::to_owned);
        }
        let fits = |pattern: &str| {
            let (before, after) = pattern.split_once('*')?;
            name.strip_prefix(before)?.strip_suffix(after).map(str::to_owned)
        };
        return map.iter().find_map(|(pattern, value)| Some(choose(value, require)?.replace('*', &fits(pattern)?)));
    }
    if name != "." {
        return Some(name.to_owned());
    }
    ["module", "main"].iter().find_map(|field| package.get(field)?.as_str().map(str::to_owned))
}

/// What a name means in a file: a path, or `builtin:NAME`.
fn find(base: &str, name: &str, require: bool, is_builtin: impl Fn(&str) -> bool) -> std::result::Result<String, String> {
    if name.starts_with("builtin:") {
        return Ok(name.to_owned());
    }
    let plain = name.strip_prefix("node:").unwrap_or(name);
    if is_builtin(plain) && (name.starts_with("node:") || plain != "test") {
        return Ok(format!("builtin:{plain}"));
    }
    if name.starts_with("node:") || OF_THE_MACHINE.contains(&name) {
        return Err(format!("the module {name} is not in the sandbox"));
    }
    if name.starts_with('.') || name.starts_with('/') {
        let path = if name.starts_with('/') { clean(name) } else { clean(&format!("{}/{name}", folder(base))) };
        return file(&path, require)
            .ok_or_else(|| format!("there is no file {} for the import of {name:?} in {}", shown(&path), shown(base)));
    }
    let (scope_and_name, rest) = {
        let mut parts = name.splitn(if name.starts_with('@') { 3 } else { 2 }, '/');
        let first = parts.next().unwrap_or_default();
        let package = if name.starts_with('@') { format!("{first}/{}", parts.next().unwrap_or_default()) } else { first.to_owned() };
        (package, parts.next().map(str::to_owned))
    };
    let mut at = folder(base);
    loop {
        let here = format!("{at}/node_modules/{scope_and_name}");
        if let Some(found) = in_package(&here, rest.as_deref(), require) {
            return Ok(found);
        }
        match at.rsplit_once('/') {
            Some((up, _)) => at = up,
            None => break,
        }
    }
    // A package may import itself by its name: the nearest one above a file is its own.
    let mut at = folder(base);
    loop {
        if let Some(own) = package(at).filter(|own| own.get("name").and_then(|name| name.as_str()) == Some(&scope_and_name))
            && let Some(main) = entry(&own, &rest.as_ref().map_or_else(|| ".".to_owned(), |rest| format!("./{rest}")), require)
            && let Some(found) = file(&clean(&format!("{at}/{main}")), require)
        {
            return Ok(found);
        }
        match at.rsplit_once('/') {
            Some((up, _)) => at = up,
            None => break,
        }
    }
    in_package(&format!("{PACKAGES}/{scope_and_name}"), rest.as_deref(), require)
        .ok_or_else(|| format!("the package {scope_and_name} is not in the sandbox; --data node_modules=FOLDER gives the tests packages"))
}

fn in_package(folder: &str, rest: Option<&str>, require: bool) -> Option<String> {
    if kind(folder) != "folder" {
        return None;
    }
    match (rest, package(folder)) {
        (None, _) => file(folder, require),
        (Some(rest), Some(package)) => {
            entry(&package, &format!("./{rest}"), require).and_then(|entry| file(&clean(&format!("{folder}/{entry}")), require))
        }
        (Some(rest), None) => file(&clean(&format!("{folder}/{rest}")), require),
    }
}

/// A path as the subject has it.
pub fn shown(path: &str) -> &str {
    path.strip_prefix(ROOT).map_or(path, |path| path.trim_start_matches('/'))
}

fn is_builtin(ctx: &Ctx<'_>, name: &str) -> bool {
    let ask = || ctx.globals().get::<_, Object<'_>>(HARNESS)?.get::<_, Function<'_>>("isBuiltin")?.call::<_, bool>((name,));
    ask().unwrap_or(false)
}

/// What a name means in a file, for `require`.
pub fn resolve(ctx: Ctx<'_>, base: String, name: String, require: bool) -> Result<String> {
    find(&base, &name, require, |name| is_builtin(&ctx, name)).map_err(|message| Exception::throw_message(&ctx, &message))
}

/// Whether a file is CommonJS: by its ending, by its package, or, as Node does since version 22, by what is in it.
pub fn is_commonjs(path: &str) -> bool {
    let ending = Path::new(path).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match ending {
        "cjs" | "cts" | "json" => return true,
        "mjs" | "mts" | "ts" | "tsx" | "jsx" => return false,
        _ => {}
    }
    let mut at = folder(path);
    loop {
        if let Some(package) = package(at) {
            match package.get("type").and_then(|kind| kind.as_str()) {
                Some("module") => return false,
                Some("commonjs") => return true,
                _ => break,
            }
        }
        match at.rsplit_once('/') {
            Some((up, _)) if at != ROOT => at = up,
            _ => break,
        }
    }
    !text(path).is_some_and(|text| has_module_syntax(&text))
}

/// A CommonJS file as a function of `exports, require, module, __filename, __dirname`. Its lines stay where they are.
pub fn compile<'js>(ctx: Ctx<'js>, path: &str, maps: &mut Maps) -> Result<Function<'js>> {
    let source = read(&ctx, path, maps)?;
    let source = source.strip_prefix("#!").map_or(source.clone(), |rest| format!("//{rest}"));
    let wrapped = format!("(function (exports, require, module, __filename, __dirname) {{{source}\n}})");
    let mut options = EvalOptions::default();
    options.global = true;
    options.strict = false;
    options.filename = Some(path.to_owned());
    ctx.eval_with_options(wrapped, options)
}

fn read(ctx: &Ctx<'_>, path: &str, maps: &mut Maps) -> Result<String> {
    let source = text(path).ok_or_else(|| Exception::throw_message(ctx, &format!("{} cannot be read", shown(path))))?;
    if !is_typed(path) {
        return Ok(source);
    }
    to_plain(path, &source, maps).map_err(|message| Exception::throw_syntax(ctx, &message))
}

/// Resolves imports.
pub struct Files;

impl Resolver for Files {
    fn resolve<'js>(&mut self, ctx: &Ctx<'js>, base: &str, name: &str, _: Option<ImportAttributes<'js>>) -> Result<String> {
        find(base, name, false, |name| is_builtin(ctx, name)).map_err(|message| Exception::throw_message(ctx, &message))
    }
}

/// Loads what was resolved.
pub struct Loading {
    pub maps: Rc<RefCell<Maps>>,
}

impl Loader for Loading {
    fn load<'js>(&mut self, ctx: &Ctx<'js>, name: &str, _: Option<ImportAttributes<'js>>) -> Result<Module<'js, Declared>> {
        let harness = format!("globalThis[{HARNESS:?}]").replace("\\u{1}", "\\u0001");
        let asked = |question: &str, of: &str| -> Result<Vec<String>> {
            let text: String = ctx.globals().get::<_, Object<'js>>(HARNESS)?.get::<_, Function<'js>>(question)?.call((of,))?;
            Ok(serde_json::from_str(&text).unwrap_or_default())
        };
        let (value, keys) = if let Some(builtin) = name.strip_prefix("builtin:") {
            (format!("{harness}.builtin({builtin:?})"), asked("exportsOf", builtin)?)
        } else if is_commonjs(name) {
            (format!("{harness}.require({name:?})"), asked("requiredKeys", name)?)
        } else {
            let source = read(ctx, name, &mut self.maps.borrow_mut())?;
            let module = Module::declare(ctx.clone(), name, source)?;
            let meta = module.meta()?;
            meta.set("url", format!("file://{name}"))?;
            meta.set("filename", name)?;
            meta.set("dirname", folder(name))?;
            return Ok(module);
        };
        let fits = |key: &String| {
            let mut letters = key.chars();
            letters.next().is_some_and(|first| first.is_alphabetic() || first == '_' || first == '$')
                && letters.all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '$')
                && key != "default"
        };
        // Each under a name of its own: a key may be a word of the language.
        let keys: BTreeSet<String> = keys.into_iter().filter(fits).collect();
        let names = keys.iter().enumerate().map(|(at, key)| format!("const k{at} = it[{key:?}];")).collect::<String>();
        let exports = keys.iter().enumerate().map(|(at, key)| format!("k{at} as {key}")).collect::<Vec<_>>().join(", ");
        let source = format!("const it = {value}; export default it; {names} export {{ {exports} }};");
        Module::declare(ctx.clone(), name, source)
    }
}
