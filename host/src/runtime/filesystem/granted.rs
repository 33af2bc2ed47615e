//! What wasmtime leaves unbounded of folders that are granted: a listing that is in memory as a whole, and a write of any size that is in memory
//! until the disk has taken it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::WRITE_PERMIT_BYTES;

/// How many entries of a folder are read at once.
const BATCH: usize = 128;

/// The entries of a folder that are still to be told: read from it a few at a time.
pub(super) struct Listing {
    /// None at the end.
    rest: Option<Dir>,
    read: VecDeque<Result<DirectoryEntry, ErrorCode>>,
}

impl Listing {
    pub(super) async fn of(folder: Arc<File>) -> Result<Self, ErrorCode> {
        let opened = move || {
            // Anew, since what is granted is open as a path alone.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Dir::new(openat(&*folder, ".", flags, Mode::empty()).map_err(code)?).map_err(code)
        };
        Ok(Self { rest: Some(blocking(opened).await?), read: VecDeque::new() })
    }

    pub(super) async fn next(&mut self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        if self.read.is_empty()
            && let Some(mut rest) = self.rest.take()
        {
            let (rest, read) = blocking(move || {
                let mut read = VecDeque::new();
                while read.len() < BATCH
                    && let Some(entry) = rest.read()
                {
                    read.extend(told(&rest, entry).transpose());
                }
                Ok((rest, read))
            })
            .await?;
            self.rest = (read.len() == BATCH).then_some(rest);
            self.read = read;
        }
        self.read.pop_front().transpose()
    }
}

/// An entry as a guest is told of it; none for those that every folder has.
fn told(folder: &Dir, entry: rustix::io::Result<rustix::fs::DirEntry>) -> Result<Option<DirectoryEntry>, ErrorCode> {
    let entry = entry.map_err(code)?;
    if matches!(entry.file_name().to_bytes(), b"." | b"..") {
        return Ok(None);
    }
    let kind = match entry.file_type() {
        // Some file systems do not say.
        FileType::Unknown => {
            let folder = folder.fd().map_err(code)?;
            FileType::from_raw_mode(statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).map_err(code)?.st_mode)
        }
        kind => kind,
    };
    let type_ = match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Unknown,
    };
    let name = entry.file_name().to_str().map_err(|_| ErrorCode::IllegalByteSequence)?.to_owned();
    Ok(Some(DirectoryEntry { type_, name }))
}

fn code(error: rustix::io::Errno) -> ErrorCode {
    io::Error::from(error).into()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ErrorCode> + Send + 'static) -> Result<T, ErrorCode> {
    AbortOnDropHandle::new(tokio::task::spawn_blocking(work)).await.unwrap_or(Err(ErrorCode::Io))
}

/// A stream of wasmtime's that takes no more at once than it says that it does.
pub(super) struct Permitted(pub(super) DynOutputStream);

#[async_trait::async_trait]
impl Pollable for Permitted {
    async fn ready(&mut self) {
        self.0.ready().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Permitted {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_PERMIT_BYTES {
            return Err(StreamError::trap("more was written at once than `check-write` permits"));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.0.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.0.check_write()?.min(WRITE_PERMIT_BYTES))
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.0.cancel().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listing_tells_each_entry_once_and_what_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut expected: Vec<String> = (0..3 * BATCH + 1).map(|n| format!("file-{n}")).collect();
        expected.iter().for_each(|name| std::fs::write(folder.path().join(name), "").expect("written"));
        std::fs::create_dir(folder.path().join("folder")).expect("made");
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).expect("made");
        expected.extend(["folder".to_owned(), "link".to_owned()]);
        expected.sort();
        // As wasmtime opens what is granted.
        let opened = rustix::fs::open(folder.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("opens");
        let mut listing = Listing::of(Arc::new(File::from(opened))).await.expect("lists");
        let mut told = Vec::new();
        while let Some(DirectoryEntry { type_, name }) = listing.next().await.expect("reads") {
            let kind = match name.as_str() {
                "folder" => DescriptorType::Directory,
                "link" => DescriptorType::SymbolicLink,
                _ => DescriptorType::RegularFile,
            };
            assert_eq!(type_, kind, "{name}");
            assert!(listing.read.len() < BATCH);
            told.push(name);
        }
        told.sort();
        assert_eq!(told, expected);
        assert!(listing.next().await.expect("reads").is_none(), "the end stays the end");
        let file = File::open(folder.path().join("file-0")).expect("opens");
        assert!(Listing::of(Arc::new(file)).await.is_err(), "a file has no entries");
    }
}
