//! The guest's file system: granted directories are wasmtime's, the subject is a snapshot served from memory.
//!
//! A snapshot's entries are sorted, its times fixed, its metadata hashes follow from names and content; it has no links
//! and no devices, and cannot be written. What the guest looks at is recorded, so that a verdict can be kept for as long
//! as nothing of it changes. A descriptor of a snapshot lives in the table under the same kind of handle as wasmtime's
//! own; each call looks which of the two it was given.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types as fs};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::state::State;
use crate::model::snapshot::{Look, Looks, Node, Snapshot};

/// Where a subject is mounted.
pub(super) const SUBJECT: &str = "/subject";
/// Where the data is mounted that the operator gives to a gate.
pub(super) const DATA: &str = "/data";
/// The time that every file of a subject bears: 2020-01-01T00:00:00Z.
const FIXED_TIME: Datetime = Datetime { seconds: 1_577_836_800, nanoseconds: 0 };
/// How much one `read` hands over, in bytes.
const READ_BYTES_MAX: usize = 1 << 20;
/// How long a path may be that a guest names, in bytes.
const PATH_BYTES_MAX: usize = 4096;

/// A snapshot, as one instance is given it.
#[derive(Debug, Clone)]
pub(super) struct Mount {
    pub(super) at: &'static str,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) looks: Option<Looks>,
}

/// An open file or folder of a subject.
#[derive(Debug, Clone)]
struct Open {
    mount: Mount,
    /// The root is the empty path.
    path: String,
    node: Node,
}

/// The entries of a folder of a subject that are still to be told.
struct Entries(std::vec::IntoIter<DirectoryEntry>);

impl Mount {
    fn look(&self, look: Look) {
        if let Some(looks) = &self.looks {
            looks.add(if self.at == DATA { look.at_data() } else { look });
        }
    }

    /// What stands under a path; on record.
    fn node(&self, path: &str) -> Result<Node, ErrorCode> {
        self.look(Look::Metadata(path.to_owned()));
        self.snapshot.node(path).ok_or(ErrorCode::NoEntry)
    }

    fn stat(&self, node: Node) -> DescriptorStat {
        let (type_, size) = kind(node);
        let time = Some(FIXED_TIME);
        DescriptorStat {
            type_,
            link_count: 1,
            size,
            data_access_timestamp: time,
            data_modification_timestamp: time,
            status_change_timestamp: time,
        }
    }

    /// Follows from the path and, for a file, its content.
    async fn metadata_hash(&self, path: &str, node: Node) -> Result<MetadataHashValue, ErrorCode> {
        let look = match node {
            Node::File(_) => Look::Content(path.to_owned()),
            Node::Folder => Look::Metadata(path.to_owned()),
        };
        self.load(path, node).await?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.at.as_bytes()).update(&[0]).update(path.as_bytes()).update(&[0]).update(self.snapshot.sees(&look).as_bytes());
        self.look(look);
        let mut words = hasher.finalize_xof();
        let mut word = || {
            let mut bytes = [0; 8];
            words.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        Ok(MetadataHashValue { lower: word(), upper: word() })
    }

    /// Reads a file's content, if nobody has yet; elsewhere, since a disk may be slow.
    async fn load(&self, path: &str, node: Node) -> Result<(), ErrorCode> {
        if node == Node::Folder {
            return Ok(());
        }
        let content = match self.snapshot.loaded(path) {
            Some(content) => content,
            None => {
                let (snapshot, path) = (Arc::clone(&self.snapshot), path.to_owned());
                tokio::task::spawn_blocking(move || snapshot.content(&path)).await.unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        content.map(|_| ()).map_err(|reason| {
            tracing::debug!(path, reason, "a file of the subject could not be read");
            ErrorCode::Io
        })
    }
}

fn kind(node: Node) -> (DescriptorType, Filesize) {
    match node {
        Node::File(size) => (DescriptorType::RegularFile, size),
        Node::Folder => (DescriptorType::Directory, 0),
    }
}

impl Open {
    /// The path that a relative one means, seen from this folder. Every folder on the way must be there.
    fn resolve(&self, relative: &str) -> Result<String, ErrorCode> {
        if self.node != Node::Folder {
            return Err(ErrorCode::NotDirectory);
        }
        if relative.is_empty() {
            return Err(ErrorCode::NoEntry);
        }
        if relative.len() > PATH_BYTES_MAX {
            return Err(ErrorCode::NameTooLong);
        }
        if relative.starts_with('/') {
            return Err(ErrorCode::NotPermitted);
        }
        let mut parts: Vec<&str> = self.path.split('/').filter(|part| !part.is_empty()).collect();
        let base = parts.len();
        for part in relative.split('/') {
            match part {
                "" | "." => {}
                // A descriptor opens what is below it, and nothing else.
                ".." if parts.len() == base => return Err(ErrorCode::NotPermitted),
                ".." => {
                    if self.mount.node(&parts.join("/"))? != Node::Folder {
                        return Err(ErrorCode::NotDirectory);
                    }
                    parts.pop();
                }
                name => {
                    if self.mount.node(&parts.join("/"))? != Node::Folder {
                        return Err(ErrorCode::NotDirectory);
                    }
                    parts.push(name);
                }
            }
        }
        let path = parts.join("/");
        if relative.ends_with('/') && self.mount.node(&path)? != Node::Folder {
            return Err(ErrorCode::NotDirectory);
        }
        Ok(path)
    }
}

/// A handle to an open file of a subject, as one that wasmtime's bindings know.
fn handle(open: Resource<Open>) -> Resource<Descriptor> {
    Resource::new_own(open.rep())
}

impl State {
    /// The open file of a subject that a handle means; none where it is one of wasmtime's.
    fn open(&mut self, descriptor: &Resource<Descriptor>) -> Option<Open> {
        self.table.get_any_mut(descriptor.rep()).ok()?.downcast_ref::<Open>().cloned()
    }

    fn push(&mut self, open: Open) -> FsResult<Resource<Descriptor>> {
        Ok(handle(self.table.push(open)?))
    }
}

/// Hands a call on to wasmtime, unless the handle is of a subject: then it is refused, for a subject is read-only.
macro_rules! read_only {
    ($self:ident, $descriptor:expr, $call:expr) => {{
        if $self.open(&$descriptor).is_some() {
            return Err(ErrorCode::ReadOnly.into());
        }
        $call.await
    }};
}

impl preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut directories = preopens::Host::get_directories(&mut self.filesystem())?;
        for mount in self.mounts.clone() {
            let at = mount.at.to_owned();
            let root = self.table.push(Open { mount, path: String::new(), node: Node::Folder })?;
            directories.push((handle(root), at));
        }
        Ok(directories)
    }
}

impl fs::Host for State {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.filesystem().filesystem_error_code(error)
    }
}

impl HostDescriptor for State {
    async fn advise(&mut self, fd: Resource<Descriptor>, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()> {
        if self.open(&fd).is_some() {
            return Ok(());
        }
        self.filesystem().advise(fd, offset, length, advice).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        if self.open(&fd).is_some() {
            return Ok(());
        }
        self.filesystem().sync_data(fd).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        if self.open(&fd).is_some() {
            return Ok(DescriptorFlags::READ);
        }
        self.filesystem().get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        match self.open(&fd) {
            Some(open) => Ok(kind(open.node).0),
            None => self.filesystem().get_type(fd).await,
        }
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        read_only!(self, fd, self.filesystem().set_size(fd, size))
    }

    async fn set_times(&mut self, fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        read_only!(self, fd, self.filesystem().set_times(fd, accessed, modified))
    }

    async fn read(&mut self, fd: Resource<Descriptor>, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        let Some(open) = self.open(&fd) else { return self.filesystem().read(fd, length, offset).await };
        let content = content(&open)?;
        let rest = content.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let bytes = &rest[..rest.len().min(usize::try_from(length).unwrap_or(usize::MAX)).min(READ_BYTES_MAX)];
        Ok((bytes.to_vec(), bytes.len() == rest.len()))
    }

    async fn write(&mut self, fd: Resource<Descriptor>, buffer: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        read_only!(self, fd, self.filesystem().write(fd, buffer, offset))
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let Some(open) = self.open(&fd) else { return self.filesystem().read_directory(fd).await };
        if open.node != Node::Folder {
            return Err(ErrorCode::NotDirectory.into());
        }
        open.mount.look(Look::Listing(open.path.clone()));
        let entry = |(name, node): (&str, Node)| DirectoryEntry { type_: kind(node).0, name: name.to_owned() };
        let entries: Vec<DirectoryEntry> = open.mount.snapshot.list(&open.path).map(entry).collect();
        Ok(Resource::new_own(self.table.push(Entries(entries.into_iter()))?.rep()))
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        if self.open(&fd).is_some() {
            return Ok(());
        }
        self.filesystem().sync(fd).await
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        read_only!(self, fd, self.filesystem().create_directory_at(fd, path))
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        match self.open(&fd) {
            Some(open) => Ok(open.mount.stat(open.node)),
            None => self.filesystem().stat(fd).await,
        }
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let Some(open) = self.open(&fd) else { return self.filesystem().stat_at(fd, flags, path).await };
        let node = open.mount.node(&open.resolve(&path)?)?;
        Ok(open.mount.stat(node))
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        read_only!(self, fd, self.filesystem().set_times_at(fd, flags, path, accessed, modified))
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        if self.open(&new_fd).is_some() {
            return Err(ErrorCode::ReadOnly.into());
        }
        read_only!(self, fd, self.filesystem().link_at(fd, flags, path, new_fd, new_path))
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let Some(folder) = self.open(&fd) else {
            return self.filesystem().open_at(fd, path_flags, path, open_flags, flags).await;
        };
        if flags.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY)
            || open_flags.intersects(OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE)
        {
            return Err(ErrorCode::ReadOnly.into());
        }
        let path = folder.resolve(&path)?;
        let node = folder.mount.node(&path)?;
        if open_flags.contains(OpenFlags::DIRECTORY) && node != Node::Folder {
            return Err(ErrorCode::NotDirectory.into());
        }
        if node != Node::Folder {
            folder.mount.look(Look::Content(path.clone()));
            folder.mount.load(&path, node).await?;
        }
        self.push(Open { mount: folder.mount, path, node })
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        if self.open(&fd).is_some() {
            self.table.delete(Resource::<Open>::new_own(fd.rep()))?;
            return Ok(());
        }
        HostDescriptor::drop(&mut self.filesystem(), fd)
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let Some(open) = self.open(&fd) else { return self.filesystem().readlink_at(fd, path).await };
        open.mount.node(&open.resolve(&path)?)?;
        Err(ErrorCode::Invalid.into())
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        read_only!(self, fd, self.filesystem().remove_directory_at(fd, path))
    }

    async fn rename_at(&mut self, fd: Resource<Descriptor>, path: String, new_fd: Resource<Descriptor>, new_path: String) -> FsResult<()> {
        if self.open(&new_fd).is_some() {
            return Err(ErrorCode::ReadOnly.into());
        }
        read_only!(self, fd, self.filesystem().rename_at(fd, path, new_fd, new_path))
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, path: String, new_path: String) -> FsResult<()> {
        read_only!(self, fd, self.filesystem().symlink_at(fd, path, new_path))
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        read_only!(self, fd, self.filesystem().unlink_file_at(fd, path))
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let Some(open) = self.open(&fd) else { return self.filesystem().read_via_stream(fd, offset) };
        let content = content(&open)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let stream: DynInputStream = Box::new(MemoryInputPipe::new(content.slice(from..)));
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        if self.open(&fd).is_some() {
            return Err(ErrorCode::ReadOnly.into());
        }
        self.filesystem().write_via_stream(fd, offset)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        if self.open(&fd).is_some() {
            return Err(ErrorCode::ReadOnly.into());
        }
        self.filesystem().append_via_stream(fd)
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        match (self.open(&a), self.open(&b)) {
            (Some(a), Some(b)) => Ok(a.mount.at == b.mount.at && a.path == b.path),
            (None, None) => self.filesystem().is_same_object(a, b).await,
            (Some(_), None) | (None, Some(_)) => Ok(false),
        }
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        match self.open(&fd) {
            Some(open) => Ok(open.mount.metadata_hash(&open.path, open.node).await?),
            None => self.filesystem().metadata_hash(fd).await,
        }
    }

    async fn metadata_hash_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        let Some(open) = self.open(&fd) else { return self.filesystem().metadata_hash_at(fd, flags, path).await };
        let path = open.resolve(&path)?;
        let node = open.mount.node(&path)?;
        Ok(open.mount.metadata_hash(&path, node).await?)
    }
}

impl HostDirectoryEntryStream for State {
    async fn read_directory_entry(&mut self, stream: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        if let Some(entries) = self.table.get_any_mut(stream.rep())?.downcast_mut::<Entries>() {
            return Ok(entries.0.next());
        }
        self.filesystem().read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        if self.table.get_any_mut(stream.rep())?.is::<Entries>() {
            self.table.delete(Resource::<Entries>::new_own(stream.rep()))?;
            return Ok(());
        }
        HostDirectoryEntryStream::drop(&mut self.filesystem(), stream)
    }
}

/// The content of an open file; it was read when the file was opened.
fn content(open: &Open) -> Result<bytes::Bytes, ErrorCode> {
    match open.node {
        Node::Folder => Err(ErrorCode::IsDirectory),
        Node::File(_) => open.mount.snapshot.loaded(&open.path).and_then(Result::ok).ok_or(ErrorCode::Io),
    }
}

/// Puts this file system in the place of wasmtime's.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}
