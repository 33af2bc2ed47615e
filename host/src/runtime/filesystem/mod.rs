//! The guest's file system: granted directories are wasmtime's, but for what it leaves unbounded; the subject and the data are snapshots, and the scratch
//! folder is the instance's own, all served from memory.
//!
//! A descriptor that is served lives in the table under the same kind of handle as wasmtime's own; each call looks which
//! of them it was given.

mod granted;
mod scratch;
mod subject;

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTableError};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types as fs};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use self::granted::{Listing, Permitted};
pub(super) use self::scratch::{Folder, SCRATCH};
pub(super) use self::subject::{DATA, Mount, OPEN_BYTES_MAX, SUBJECT};
use super::state::State;

/// How much one `read` hands over, in bytes.
const READ_BYTES_MAX: usize = 1 << 20;
/// How much a guest may write to a stream in one go, in bytes.
const WRITE_PERMIT_BYTES: usize = 64 * 1024;
/// How long a path may be that a guest names, in bytes.
const PATH_BYTES_MAX: usize = 4096;

/// An open file or folder that is served from memory.
#[derive(Debug, Clone)]
enum Served {
    Subject(subject::Open),
    Scratch(scratch::Open),
}

/// The entries of a served folder that are still to be told: those after the last one told.
struct Entries {
    of: Served,
    last: Option<String>,
}

impl Served {
    fn entry_after(&self, name: Option<&str>) -> Result<Option<DirectoryEntry>, ErrorCode> {
        match self {
            Self::Subject(open) => Ok(open.entry_after(name)),
            Self::Scratch(open) => open.entry_after(name),
        }
    }
}

/// The 128 bits that stand for what was hashed.
fn hash_value(hasher: &blake3::Hasher) -> MetadataHashValue {
    let mut words = hasher.finalize_xof();
    let mut word = || {
        let mut bytes = [0; 8];
        words.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    };
    MetadataHashValue { lower: word(), upper: word() }
}

impl State {
    /// The served file or folder that a handle means; none where it is one of wasmtime's.
    fn served(&mut self, descriptor: &Resource<Descriptor>) -> Option<Served> {
        self.table.get_any_mut(descriptor.rep()).ok()?.downcast_ref::<Served>().cloned()
    }

    /// The same, for a call that names a path.
    fn served_at(&mut self, descriptor: &Resource<Descriptor>, path: &str) -> Result<Option<Served>, ErrorCode> {
        match self.served(descriptor) {
            Some(_) if path.len() > PATH_BYTES_MAX => Err(ErrorCode::NameTooLong),
            served => Ok(served),
        }
    }

    /// A handle as wasmtime's bindings know it.
    fn push(&mut self, served: Served) -> Result<Resource<Descriptor>, ResourceTableError> {
        Ok(Resource::new_own(self.table.push(served)?.rep()))
    }
}

/// Hands a call that changes something on: to the scratch folder, or to wasmtime. A subject is read-only.
macro_rules! change {
    ($served:expr, $open:ident => $scratch:expr, $call:expr) => {
        match $served {
            Some(Served::Subject(_)) => Err(ErrorCode::ReadOnly.into()),
            Some(Served::Scratch($open)) => Ok($scratch?),
            None => $call,
        }
    };
}

impl preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut directories = preopens::Host::get_directories(&mut self.filesystem())?;
        for mount in self.mounts.clone() {
            let at = mount.at.to_owned();
            directories.push((self.push(Served::Subject(subject::Open::root(mount)))?, at));
        }
        if let Some(root) = self.scratch.as_ref().map(scratch::Open::root) {
            directories.push((self.push(Served::Scratch(root))?, SCRATCH.to_owned()));
        }
        Ok(directories)
    }
}

impl fs::Host for State {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        if let Some(code) = self.table.get(&error)?.downcast_ref::<ErrorCode>() {
            return Ok(Some(*code));
        }
        self.filesystem().filesystem_error_code(error)
    }
}

impl HostDescriptor for State {
    async fn advise(&mut self, fd: Resource<Descriptor>, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()> {
        match self.served(&fd) {
            Some(_) => Ok(()),
            None => self.filesystem().advise(fd, offset, length, advice).await,
        }
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        match self.served(&fd) {
            Some(_) => Ok(()),
            None => self.filesystem().sync_data(fd).await,
        }
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        match self.served(&fd) {
            Some(Served::Subject(_)) => Ok(DescriptorFlags::READ),
            Some(Served::Scratch(open)) => Ok(open.flags()),
            None => self.filesystem().get_flags(fd).await,
        }
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        match self.served(&fd) {
            Some(Served::Subject(open)) => Ok(open.kind()),
            Some(Served::Scratch(open)) => Ok(open.kind()),
            None => self.filesystem().get_type(fd).await,
        }
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        change!(self.served(&fd), open => open.set_size(size), self.filesystem().set_size(fd, size).await)
    }

    async fn set_times(&mut self, fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        change!(self.served(&fd), open => open.set_times(accessed, modified), self.filesystem().set_times(fd, accessed, modified).await)
    }

    async fn read(&mut self, fd: Resource<Descriptor>, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        match self.served(&fd) {
            Some(Served::Subject(open)) => Ok(open.read(length, offset)?),
            Some(Served::Scratch(open)) => Ok(open.read(length, offset)?),
            None => self.filesystem().read(fd, length, offset).await,
        }
    }

    async fn write(&mut self, fd: Resource<Descriptor>, buffer: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        change!(self.served(&fd), open => open.write(&buffer, offset), self.filesystem().write(fd, buffer, offset).await)
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let Some(of) = self.served(&fd) else {
            let folder = match self.table.get(&fd)? {
                Descriptor::Dir(folder) => folder.dir.clone(),
                Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
            };
            return Ok(Resource::new_own(self.table.push(Listing::of(folder).await?)?.rep()));
        };
        match &of {
            Served::Subject(open) => open.list()?,
            Served::Scratch(open) if open.kind() == DescriptorType::Directory => {}
            Served::Scratch(_) => return Err(ErrorCode::NotDirectory.into()),
        }
        Ok(Resource::new_own(self.table.push(Entries { of, last: None })?.rep()))
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        match self.served(&fd) {
            Some(_) => Ok(()),
            None => self.filesystem().sync(fd).await,
        }
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        change!(self.served_at(&fd, &path)?, open => open.create_folder(&path), self.filesystem().create_directory_at(fd, path).await)
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        match self.served(&fd) {
            Some(Served::Subject(open)) => Ok(open.stat()),
            Some(Served::Scratch(open)) => Ok(open.stat()?),
            None => self.filesystem().stat(fd).await,
        }
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        match self.served_at(&fd, &path)? {
            Some(Served::Subject(open)) => Ok(open.stat_at(&path)?),
            Some(Served::Scratch(open)) => Ok(open.stat_at(&path)?),
            None => self.filesystem().stat_at(fd, flags, path).await,
        }
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        change!(
            self.served_at(&fd, &path)?,
            open => open.set_times_at(&path, accessed, modified),
            self.filesystem().set_times_at(fd, flags, path, accessed, modified).await
        )
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        match (self.served(&fd), self.served(&new_fd)) {
            (None, None) => self.filesystem().link_at(fd, flags, path, new_fd, new_path).await,
            (_, Some(Served::Subject(_))) => Err(ErrorCode::ReadOnly.into()),
            (Some(Served::Scratch(_)), Some(Served::Scratch(_))) => Err(ErrorCode::Unsupported.into()),
            (Some(_), _) | (_, Some(_)) => Err(ErrorCode::CrossDevice.into()),
        }
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let opened = match self.served_at(&fd, &path)? {
            Some(Served::Subject(folder)) => {
                if flags.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY)
                    || open_flags.intersects(OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE)
                {
                    return Err(ErrorCode::ReadOnly.into());
                }
                Served::Subject(folder.open(&path, open_flags.contains(OpenFlags::DIRECTORY)).await?)
            }
            Some(Served::Scratch(folder)) => Served::Scratch(folder.open(&path, open_flags, flags)?),
            None => return self.filesystem().open_at(fd, path_flags, path, open_flags, flags).await,
        };
        Ok(self.push(opened)?)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        if self.served(&fd).is_some() {
            self.table.delete(Resource::<Served>::new_own(fd.rep()))?;
            return Ok(());
        }
        HostDescriptor::drop(&mut self.filesystem(), fd)
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        match self.served_at(&fd, &path)? {
            Some(Served::Subject(open)) => Err(open.stat_at(&path).err().unwrap_or(ErrorCode::Invalid).into()),
            Some(Served::Scratch(open)) => Ok(open.read_link(&path)?),
            None => self.filesystem().readlink_at(fd, path).await,
        }
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        change!(self.served_at(&fd, &path)?, open => open.remove_folder(&path), self.filesystem().remove_directory_at(fd, path).await)
    }

    async fn rename_at(&mut self, fd: Resource<Descriptor>, path: String, new_fd: Resource<Descriptor>, new_path: String) -> FsResult<()> {
        match (self.served_at(&fd, &path)?, self.served_at(&new_fd, &new_path)?) {
            (None, None) => self.filesystem().rename_at(fd, path, new_fd, new_path).await,
            (Some(Served::Subject(_)), _) | (_, Some(Served::Subject(_))) => Err(ErrorCode::ReadOnly.into()),
            (Some(Served::Scratch(from)), Some(Served::Scratch(to))) => Ok(from.rename(&path, &to, &new_path)?),
            (Some(_), None) | (None, Some(_)) => Err(ErrorCode::CrossDevice.into()),
        }
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, path: String, new_path: String) -> FsResult<()> {
        match self.served(&fd) {
            Some(Served::Subject(_)) => Err(ErrorCode::ReadOnly.into()),
            Some(Served::Scratch(_)) => Err(ErrorCode::Unsupported.into()),
            None => self.filesystem().symlink_at(fd, path, new_path).await,
        }
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        change!(self.served_at(&fd, &path)?, open => open.remove_file(&path), self.filesystem().unlink_file_at(fd, path).await)
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let stream: DynInputStream = match self.served(&fd) {
            Some(Served::Subject(open)) => open.reader(offset)?,
            Some(Served::Scratch(open)) => Box::new(open.reader(offset)?),
            None => return self.filesystem().read_via_stream(fd, offset),
        };
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.writer(fd, Some(offset))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.writer(fd, None)
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        match (self.served(&a), self.served(&b)) {
            (Some(Served::Subject(a)), Some(Served::Subject(b))) => Ok(a.is_same(&b)),
            (Some(Served::Scratch(a)), Some(Served::Scratch(b))) => Ok(a.is_same(&b)),
            (None, None) => self.filesystem().is_same_object(a, b).await,
            (Some(_), _) | (_, Some(_)) => Ok(false),
        }
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        match self.served(&fd) {
            Some(Served::Subject(open)) => Ok(open.metadata_hash().await?),
            Some(Served::Scratch(open)) => Ok(open.metadata_hash()),
            None => self.filesystem().metadata_hash(fd).await,
        }
    }

    async fn metadata_hash_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        match self.served_at(&fd, &path)? {
            Some(Served::Subject(open)) => Ok(open.metadata_hash_at(&path).await?),
            Some(Served::Scratch(open)) => Ok(open.metadata_hash_at(&path)?),
            None => self.filesystem().metadata_hash_at(fd, flags, path).await,
        }
    }
}

impl State {
    /// A stream that writes a file from an offset on, or at its end.
    fn writer(&mut self, fd: Resource<Descriptor>, offset: Option<Filesize>) -> FsResult<Resource<DynOutputStream>> {
        let stream: DynOutputStream = match (self.served(&fd), offset) {
            (Some(Served::Subject(_)), _) => return Err(ErrorCode::ReadOnly.into()),
            (Some(Served::Scratch(open)), offset) => Box::new(open.writer(offset)?),
            (None, offset) => {
                let stream = match offset {
                    Some(offset) => self.filesystem().write_via_stream(fd, offset)?,
                    None => self.filesystem().append_via_stream(fd)?,
                };
                Box::new(Permitted(self.table.delete(stream)?))
            }
        };
        Ok(self.table.push(stream)?)
    }
}

impl HostDirectoryEntryStream for State {
    async fn read_directory_entry(&mut self, stream: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        if let Some(entries) = self.table.get_any_mut(stream.rep())?.downcast_mut::<Entries>() {
            let next = entries.of.entry_after(entries.last.as_deref())?;
            entries.last = next.as_ref().map(|entry| entry.name.clone()).or(entries.last.take());
            return Ok(next);
        }
        Ok(self.table.get_mut(&Resource::<Listing>::new_borrow(stream.rep()))?.next().await?)
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        if self.table.get_any_mut(stream.rep())?.is::<Entries>() {
            self.table.delete(Resource::<Entries>::new_own(stream.rep()))?;
        } else {
            self.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        }
        Ok(())
    }
}

/// Puts this file system in the place of wasmtime's.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}
