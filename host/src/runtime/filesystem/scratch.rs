//! The folder that an instance may write, as the guest sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize, MetadataHashValue, NewTimestamp, OpenFlags,
};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::{READ_BYTES_MAX, WRITE_PERMIT_BYTES, hash_value};
use crate::model::scratch::{NodeId, Opening, Scratch, ScratchError, SetTime, Stat};

/// Where the folder is mounted.
pub(in crate::runtime) const SCRATCH: &str = "/tmp";

/// The folder of one instance, shared between its descriptors and streams.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Folder(Arc<Mutex<Scratch>>);

impl Folder {
    pub(in crate::runtime) fn new(limit_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Scratch::new(limit_bytes))))
    }

    fn lock(&self) -> MutexGuard<'_, Scratch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open file or folder. What it holds open stays until the last of its clones is dropped.
#[derive(Debug)]
pub(super) struct Open {
    folder: Folder,
    id: NodeId,
    is_folder: bool,
    writes: bool,
}

impl Clone for Open {
    fn clone(&self) -> Self {
        Self::hold(&mut self.folder.lock(), &self.folder, self.id, self.is_folder, self.writes)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.folder.lock().close(self.id);
    }
}

impl Open {
    pub(super) fn root(folder: &Folder) -> Self {
        Self::hold(&mut folder.lock(), folder, NodeId::ROOT, true, true)
    }

    fn hold(scratch: &mut Scratch, folder: &Folder, id: NodeId, is_folder: bool, writes: bool) -> Self {
        scratch.hold(id);
        Self { folder: folder.clone(), id, is_folder, writes }
    }

    pub(super) fn open(&self, path: &str, open_flags: OpenFlags, flags: DescriptorFlags) -> Result<Self, ErrorCode> {
        let writes = flags.contains(DescriptorFlags::WRITE);
        let how = Opening {
            create: open_flags.contains(OpenFlags::CREATE),
            exclusive: open_flags.contains(OpenFlags::EXCLUSIVE),
            truncate: open_flags.contains(OpenFlags::TRUNCATE),
            directory: open_flags.contains(OpenFlags::DIRECTORY),
            write: writes,
        };
        let mut scratch = self.folder.lock();
        let id = scratch.open(self.id, path, how).map_err(code)?;
        let is_folder = scratch.stat(id).map_err(code)?.size_bytes.is_none();
        Ok(Self::hold(&mut scratch, &self.folder, id, is_folder, writes))
    }

    pub(super) fn flags(&self) -> DescriptorFlags {
        match (self.is_folder, self.writes) {
            (true, _) => DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
            (false, true) => DescriptorFlags::READ | DescriptorFlags::WRITE,
            (false, false) => DescriptorFlags::READ,
        }
    }

    pub(super) fn kind(&self) -> DescriptorType {
        if self.is_folder { DescriptorType::Directory } else { DescriptorType::RegularFile }
    }

    pub(super) fn stat(&self) -> Result<DescriptorStat, ErrorCode> {
        self.folder.lock().stat(self.id).map(descriptor_stat).map_err(code)
    }

    pub(super) fn stat_at(&self, path: &str) -> Result<DescriptorStat, ErrorCode> {
        let scratch = self.folder.lock();
        let found = scratch.find(self.id, path).and_then(|id| scratch.stat(id));
        found.map(descriptor_stat).map_err(code)
    }

    /// The first name in the folder after another.
    pub(super) fn entry_after(&self, name: Option<&str>) -> Result<Option<DirectoryEntry>, ErrorCode> {
        let scratch = self.folder.lock();
        let Some((name, id)) = scratch.entry_after(self.id, name).map_err(code)? else { return Ok(None) };
        let stat = scratch.stat(id).map_err(code)?;
        Ok(Some(DirectoryEntry { type_: descriptor_stat(stat).type_, name: name.to_owned() }))
    }

    pub(super) fn read(&self, length: Filesize, offset: Filesize) -> Result<(Vec<u8>, bool), ErrorCode> {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(READ_BYTES_MAX);
        let scratch = self.folder.lock();
        let bytes = scratch.read(self.id, offset, length).map_err(code)?;
        let size = scratch.stat(self.id).map_err(code)?.size_bytes.unwrap_or(0);
        let ended = offset.saturating_add(bytes.len() as u64) >= size;
        Ok((bytes, ended))
    }

    pub(super) fn write(&self, bytes: &[u8], offset: Filesize) -> Result<Filesize, ErrorCode> {
        self.check_writes()?;
        self.folder.lock().write(self.id, offset, bytes).map_err(code)?;
        Ok(bytes.len() as u64)
    }

    pub(super) fn set_size(&self, size: Filesize) -> Result<(), ErrorCode> {
        self.check_writes()?;
        self.folder.lock().set_size(self.id, size).map_err(code)
    }

    fn check_writes(&self) -> Result<(), ErrorCode> {
        match (self.is_folder, self.writes) {
            (true, _) => Err(ErrorCode::IsDirectory),
            (false, true) => Ok(()),
            (false, false) => Err(ErrorCode::BadDescriptor),
        }
    }

    pub(super) fn set_times(&self, accessed: NewTimestamp, modified: NewTimestamp) -> Result<(), ErrorCode> {
        self.folder.lock().set_times(self.id, set_time(accessed), set_time(modified)).map_err(code)
    }

    pub(super) fn set_times_at(&self, path: &str, accessed: NewTimestamp, modified: NewTimestamp) -> Result<(), ErrorCode> {
        let mut scratch = self.folder.lock();
        let id = scratch.find(self.id, path).map_err(code)?;
        scratch.set_times(id, set_time(accessed), set_time(modified)).map_err(code)
    }

    pub(super) fn create_folder(&self, path: &str) -> Result<(), ErrorCode> {
        self.folder.lock().create_folder(self.id, path).map_err(code)
    }

    pub(super) fn remove_folder(&self, path: &str) -> Result<(), ErrorCode> {
        self.folder.lock().remove_folder(self.id, path).map_err(code)
    }

    pub(super) fn remove_file(&self, path: &str) -> Result<(), ErrorCode> {
        self.folder.lock().remove_file(self.id, path).map_err(code)
    }

    /// There are no links, so nothing is one.
    pub(super) fn read_link(&self, path: &str) -> Result<String, ErrorCode> {
        self.folder.lock().find(self.id, path).map_err(code)?;
        Err(ErrorCode::Invalid)
    }

    pub(super) fn rename(&self, path: &str, to: &Self, new_path: &str) -> Result<(), ErrorCode> {
        self.folder.lock().rename(self.id, path, to.id, new_path).map_err(code)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
    }

    pub(super) fn metadata_hash(&self) -> MetadataHashValue {
        hash_of(self.id)
    }

    pub(super) fn metadata_hash_at(&self, path: &str) -> Result<MetadataHashValue, ErrorCode> {
        self.folder.lock().find(self.id, path).map(hash_of).map_err(code)
    }

    pub(super) fn reader(&self, offset: Filesize) -> Result<Reader, ErrorCode> {
        if self.is_folder { Err(ErrorCode::IsDirectory) } else { Ok(Reader { open: self.clone(), offset }) }
    }

    /// Writes from an offset on; at the end, wherever that is by then, where there is none.
    pub(super) fn writer(&self, offset: Option<Filesize>) -> Result<Writer, ErrorCode> {
        self.check_writes()?;
        Ok(Writer { open: self.clone(), offset })
    }
}

/// Reads a file from some place on.
pub(super) struct Reader {
    open: Open,
    offset: Filesize,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl InputStream for Reader {
    fn read(&mut self, length: usize) -> StreamResult<Bytes> {
        let (bytes, _) = self.open.read(length as u64, self.offset).map_err(failed)?;
        if bytes.is_empty() && length > 0 {
            return Err(StreamError::Closed);
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.into())
    }
}

/// Writes a file from some place on.
pub(super) struct Writer {
    open: Open,
    offset: Option<Filesize>,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let offset = match self.offset {
            Some(offset) => offset,
            None => self.open.stat().map_err(failed)?.size,
        };
        let written = self.open.write(&bytes, offset).map_err(failed)?;
        if self.offset.is_some() {
            self.offset = Some(offset + written);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT_BYTES)
    }
}

/// As a stream tells it; `filesystem-error-code` finds the code again.
fn failed(code: ErrorCode) -> StreamError {
    StreamError::LastOperationFailed(wasmtime::Error::new(code))
}

fn hash_of(id: NodeId) -> MetadataHashValue {
    let mut hasher = blake3::Hasher::new();
    hasher.update(SCRATCH.as_bytes()).update(&id.number().to_le_bytes());
    hash_value(&hasher)
}

fn descriptor_stat(stat: Stat) -> DescriptorStat {
    let time = |time: std::time::Duration| Some(Datetime { seconds: time.as_secs(), nanoseconds: time.subsec_nanos() });
    DescriptorStat {
        type_: if stat.size_bytes.is_some() { DescriptorType::RegularFile } else { DescriptorType::Directory },
        link_count: 1,
        size: stat.size_bytes.unwrap_or(0),
        data_access_timestamp: time(stat.accessed),
        data_modification_timestamp: time(stat.modified),
        status_change_timestamp: time(stat.modified),
    }
}

fn set_time(to: NewTimestamp) -> SetTime {
    match to {
        NewTimestamp::NoChange => SetTime::Keep,
        NewTimestamp::Now => SetTime::Now,
        NewTimestamp::Timestamp(at) => SetTime::At(std::time::Duration::new(at.seconds, at.nanoseconds.min(999_999_999))),
    }
}

fn code(error: ScratchError) -> ErrorCode {
    match error {
        ScratchError::NoEntry => ErrorCode::NoEntry,
        ScratchError::Exists => ErrorCode::Exist,
        ScratchError::NotDirectory => ErrorCode::NotDirectory,
        ScratchError::IsDirectory => ErrorCode::IsDirectory,
        ScratchError::NotEmpty => ErrorCode::NotEmpty,
        ScratchError::NoSpace => ErrorCode::InsufficientSpace,
        ScratchError::NotPermitted => ErrorCode::NotPermitted,
        ScratchError::NameTooLong => ErrorCode::NameTooLong,
        ScratchError::FileTooLarge => ErrorCode::FileTooLarge,
        ScratchError::Invalid => ErrorCode::Invalid,
    }
}
