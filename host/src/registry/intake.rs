//! Reads a file that a stranger wrote into a folder: a regular one, of a bounded size, finished, and nothing else.
//!
//! Links are not followed, opening never blocks, and the size is checked before and while reading, so a link to an
//! endless device, a FIFO and a sparse giant are ordinary input. A file that changes under the reading is not finished.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The largest component there may be, in bytes.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;

/// How much of a file says whether it is text, in bytes.
const BINARY_HEAD_BYTES: usize = 8_000;
/// How much of a file is read for its first line, in bytes: Linux reads as many.
const LINE_HEAD_BYTES: usize = 256;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system says no.
    #[error("it cannot be read: {0}")]
    NotReadable(#[source] std::io::Error),
    /// It is something else than a file.
    #[error("it is {0}, and only regular files are read")]
    NotRegular(&'static str),
    /// It is larger than the bound.
    #[error("it is larger than {max} bytes")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// It changed while it was read.
    #[error("it changed while it was being read; write it elsewhere and rename it here")]
    Unfinished,
}

/// Reads a whole file.
///
/// # Errors
/// See [`Error`].
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let file = open(path)?;
    let before = file.metadata().map_err(Error::NotReadable)?;
    if let Some(kind) = not_regular(&before) {
        return Err(Error::NotRegular(kind));
    }
    if before.len() > bytes_max {
        return Err(Error::TooLarge { max: bytes_max });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default());
    (&file).take(bytes_max + 1).read_to_end(&mut bytes).map_err(Error::NotReadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::TooLarge { max: bytes_max });
    }
    let after = file.metadata().map_err(Error::NotReadable)?;
    let look = |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec());
    if look(&before) != look(&after) || bytes.len() as u64 != after.len() {
        return Err(Error::Unfinished);
    }
    Ok(bytes)
}

/// Whether a file is data and no text: it has a NUL in its first 8,000 bytes, which is how
/// [git](https://git-scm.com/docs/gitattributes#_diff) tells. What cannot be read is not known to be.
pub fn is_binary(path: &Path) -> bool {
    head(path, BINARY_HEAD_BYTES).contains(&0)
}

/// The interpreter that a file's first line names (`#!`), without its folder and its version: `python` of `/usr/bin/env python3.14`.
pub fn interpreter(path: &Path) -> Option<String> {
    let head = head(path, LINE_HEAD_BYTES);
    let line = String::from_utf8_lossy(head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?).into_owned();
    let mut words = line.split_whitespace();
    let first = words.next()?.rsplit('/').next()?;
    let name = match first {
        // `env -S NAME=VALUE program`
        "env" => words.find(|word| !word.starts_with('-') && !word.contains('='))?.rsplit('/').next()?,
        name => name,
    };
    Some(name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.').to_owned())
}

/// The beginning of a regular file; nothing of one that cannot be read.
fn head(path: &Path, bytes_max: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(bytes_max);
    let file = open(path).ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
    if let Some(file) = file
        && file.take(bytes_max as u64).read_to_end(&mut head).is_err()
    {
        head.clear();
    }
    head
}

fn open(path: &Path) -> Result<File, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(rustix::io::Errno::LOOP) => Err(Error::NotRegular("a symbolic link")),
        Err(errno) => Err(Error::NotReadable(errno.into())),
    }
}

/// What a file is, when it is not a regular one.
pub(super) fn not_regular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a folder")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("a device")
    } else {
        Some("a symbolic link")
    }
}
