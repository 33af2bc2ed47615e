//! Files for the harness: the subject, which can only be read, and `/tmp`. What goes wrong is told by Node's codes.

use std::io::{Error, ErrorKind, Write as _};

use rquickjs::function::Func;
use rquickjs::{Ctx, Function, Object, TypedArray, Value};

/// Puts the functions where the harness finds them.
pub fn give<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> rquickjs::Result<()> {
    native.set("kind", Func::from(|path: String| kind(&path)))?;
    native.set("list", Func::from(|path: String| list(&path)))?;
    native.set("stat", Function::new(ctx.clone(), stat)?)?;
    native.set("read", Function::new(ctx.clone(), read)?)?;
    native.set("write", Func::from(write))?;
    native.set("makeFolder", Func::from(|path: String, recursive: bool| code(make_folder(&path, recursive))))?;
    native.set("remove", Func::from(|path: String, kind: String, recursive: bool| code(remove(&path, &kind, recursive))))?;
    native.set("rename", Func::from(|from: String, to: String| code(std::fs::rename(from, to))))
}

/// Node's code for what went wrong; none when nothing did.
fn code(result: Result<(), Error>) -> Option<&'static str> {
    let error = result.err()?;
    Some(match error.kind() {
        ErrorKind::NotFound => "ENOENT",
        ErrorKind::AlreadyExists => "EEXIST",
        ErrorKind::NotADirectory => "ENOTDIR",
        ErrorKind::IsADirectory => "EISDIR",
        ErrorKind::DirectoryNotEmpty => "ENOTEMPTY",
        ErrorKind::ReadOnlyFilesystem => "EROFS",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "ENOSPC",
        ErrorKind::InvalidInput => "EINVAL",
        ErrorKind::Unsupported => "ENOSYS",
        _ => "EACCES",
    })
}

/// `file`, `folder` or nothing.
fn kind(path: &str) -> &'static str {
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => "folder",
        Ok(_) => "file",
        Err(_) => "",
    }
}

fn list(path: &str) -> Vec<String> {
    let names = std::fs::read_dir(path).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Kind, size in bytes, and when it was changed, in milliseconds since 1970; nothing where there is nothing.
fn stat<'js>(ctx: Ctx<'js>, path: String) -> rquickjs::Result<Value<'js>> {
    let Ok(there) = std::fs::metadata(&path) else { return Ok(Value::new_null(ctx)) };
    let changed = there.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let found = rquickjs::Array::new(ctx)?;
    found.set(0, kind(&path))?;
    found.set(1, there.len() as f64)?;
    found.set(2, changed.map_or(0.0, |changed| changed.as_secs_f64() * 1000.0))?;
    Ok(found.into_value())
}

fn read<'js>(ctx: Ctx<'js>, path: String) -> rquickjs::Result<Value<'js>> {
    match std::fs::read(&path) {
        Ok(bytes) => Ok(TypedArray::new(ctx, bytes)?.into_value()),
        Err(_) => Ok(Value::new_null(ctx)),
    }
}

fn write(path: String, bytes: TypedArray<'_, u8>, append: bool) -> Option<&'static str> {
    // SAFETY: the bytes are written before any code of the engine runs, so that the buffer cannot be detached meanwhile.
    let bytes = unsafe { bytes.as_bytes() }.unwrap_or_default();
    let mut options = std::fs::OpenOptions::new();
    options.create(true).write(!append).append(append).truncate(!append);
    code(options.open(path).and_then(|mut file| file.write_all(bytes)))
}

fn make_folder(path: &str, recursive: bool) -> Result<(), Error> {
    if recursive { std::fs::create_dir_all(path) } else { std::fs::create_dir(path) }
}

fn remove(path: &str, kind: &str, recursive: bool) -> Result<(), Error> {
    match (kind, recursive) {
        ("folder", true) => std::fs::remove_dir_all(path),
        ("folder", false) => std::fs::remove_dir(path),
        _ => std::fs::remove_file(path),
    }
}
