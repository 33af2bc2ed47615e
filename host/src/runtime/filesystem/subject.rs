//! Subjects and data, as a guest sees them: a snapshot served from memory, with a record of what was looked at.
//!
//! A snapshot's entries are sorted, its times fixed, its metadata hashes follow from names and content; it has no links
//! and no devices, and cannot be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize, MetadataHashValue,
};
use wasmtime_wasi::p2::{DynInputStream, InputStream, Pollable, StreamError, StreamResult};

use super::{READ_BYTES_MAX, hash_value};
use crate::model::snapshot::{Look, Looks, Node, Snapshot};

/// Where a subject is mounted.
pub(in crate::runtime) const SUBJECT: &str = "/subject";
/// Where the data is mounted that the operator gives to a gate.
pub(in crate::runtime) const DATA: &str = "/data";
/// How much content one instance holds open at once, in bytes.
pub(in crate::runtime) const OPEN_BYTES_MAX: u64 = 512 << 20;
/// The time that every file of a subject bears: 2020-01-01T00:00:00Z.
const FIXED_TIME: Datetime = Datetime { seconds: 1_577_836_800, nanoseconds: 0 };

/// A snapshot, as one instance is given it.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Mount {
    pub(in crate::runtime) at: &'static str,
    pub(in crate::runtime) snapshot: Arc<Snapshot>,
    pub(in crate::runtime) looks: Option<Looks>,
    /// How much of its content the instance holds open, in bytes.
    pub(in crate::runtime) open_bytes: Arc<AtomicU64>,
}

/// A file's content, for as long as somebody of the instance has it open.
#[derive(Debug)]
struct Content {
    bytes: Bytes,
    open_bytes: Arc<AtomicU64>,
}

impl Content {
    fn hold(bytes: Bytes, open_bytes: &Arc<AtomicU64>) -> Result<Arc<Self>, ErrorCode> {
        let size = bytes.len() as u64;
        let before = open_bytes.fetch_add(size, Ordering::Relaxed);
        let content = Self { bytes, open_bytes: Arc::clone(open_bytes) };
        if before.saturating_add(size) > OPEN_BYTES_MAX { Err(ErrorCode::InsufficientMemory) } else { Ok(Arc::new(content)) }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.open_bytes.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

/// Reads a file from some place on.
struct Reader {
    content: Arc<Content>,
    at: usize,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl InputStream for Reader {
    fn read(&mut self, length: usize) -> StreamResult<Bytes> {
        let rest = self.content.bytes.len().saturating_sub(self.at);
        if rest == 0 && length > 0 {
            return Err(StreamError::Closed);
        }
        let from = self.at.min(self.content.bytes.len());
        let to = from + rest.min(length).min(READ_BYTES_MAX);
        self.at = to;
        Ok(self.content.bytes.slice(from..to))
    }
}

/// An open file or folder of a subject.
#[derive(Debug, Clone)]
pub(super) struct Open {
    mount: Mount,
    /// The root is the empty path.
    path: String,
    node: Node,
    /// Of a file.
    content: Option<Arc<Content>>,
}

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
        // On record before it is read: that it could not be read is seen, too.
        self.look(look.clone());
        if node != Node::Folder {
            self.load(path).await?;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.at.as_bytes()).update(&[0]).update(path.as_bytes()).update(&[0]).update(self.snapshot.sees(&look).as_bytes());
        Ok(hash_value(&hasher))
    }

    /// A file's content; read elsewhere where it is not at hand, since a disk may be slow.
    async fn load(&self, path: &str) -> Result<Bytes, ErrorCode> {
        let content = match self.snapshot.loaded(path) {
            Some(content) => content,
            None => {
                let (snapshot, path) = (Arc::clone(&self.snapshot), path.to_owned());
                let read = AbortOnDropHandle::new(tokio::task::spawn_blocking(move || snapshot.content(&path)));
                read.await.unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        content.map_err(|reason| {
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

    /// The root of a mount.
    pub(super) fn root(mount: Mount) -> Self {
        Self { mount, path: String::new(), node: Node::Folder, content: None }
    }

    /// What a path below it means, opened.
    pub(super) async fn open(&self, path: &str, must_be_folder: bool) -> Result<Self, ErrorCode> {
        let path = self.resolve(path)?;
        let node = self.mount.node(&path)?;
        if node == Node::Folder {
            return Ok(Self { mount: self.mount.clone(), path, node, content: None });
        }
        if must_be_folder {
            return Err(ErrorCode::NotDirectory);
        }
        self.mount.look(Look::Content(path.clone()));
        let content = Content::hold(self.mount.load(&path).await?, &self.mount.open_bytes)?;
        Ok(Self { mount: self.mount.clone(), path, node, content: Some(content) })
    }

    pub(super) fn kind(&self) -> DescriptorType {
        kind(self.node).0
    }

    pub(super) fn stat(&self) -> DescriptorStat {
        self.mount.stat(self.node)
    }

    pub(super) fn stat_at(&self, path: &str) -> Result<DescriptorStat, ErrorCode> {
        let node = self.mount.node(&self.resolve(path)?)?;
        Ok(self.mount.stat(node))
    }

    /// Looks the folder's names up, for who then goes through them.
    pub(super) fn list(&self) -> Result<(), ErrorCode> {
        if self.node != Node::Folder {
            return Err(ErrorCode::NotDirectory);
        }
        self.mount.look(Look::Listing(self.path.clone()));
        Ok(())
    }

    /// The first name in the folder after another.
    pub(super) fn entry_after(&self, name: Option<&str>) -> Option<DirectoryEntry> {
        let (name, node) = self.mount.snapshot.entry_after(&self.path, name)?;
        Some(DirectoryEntry { type_: kind(node).0, name: name.to_owned() })
    }

    pub(super) fn read(&self, length: Filesize, offset: Filesize) -> Result<(Vec<u8>, bool), ErrorCode> {
        let content = &self.content.as_ref().ok_or(ErrorCode::IsDirectory)?.bytes;
        let rest = content.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let bytes = &rest[..rest.len().min(usize::try_from(length).unwrap_or(usize::MAX)).min(READ_BYTES_MAX)];
        Ok((bytes.to_vec(), bytes.len() == rest.len()))
    }

    pub(super) fn reader(&self, offset: Filesize) -> Result<DynInputStream, ErrorCode> {
        let content = Arc::clone(self.content.as_ref().ok_or(ErrorCode::IsDirectory)?);
        Ok(Box::new(Reader { content, at: usize::try_from(offset).unwrap_or(usize::MAX) }))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.mount.at == other.mount.at && self.path == other.path
    }

    pub(super) async fn metadata_hash(&self) -> Result<MetadataHashValue, ErrorCode> {
        self.mount.metadata_hash(&self.path, self.node).await
    }

    pub(super) async fn metadata_hash_at(&self, path: &str) -> Result<MetadataHashValue, ErrorCode> {
        let path = self.resolve(path)?;
        let node = self.mount.node(&path)?;
        self.mount.metadata_hash(&path, node).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_holds_only_so_much_content_open() {
        let open = Arc::new(AtomicU64::new(0));
        let file = Bytes::from(vec![0; usize::try_from(OPEN_BYTES_MAX / 2 + 1).expect("fits")]);
        let first = Content::hold(file.clone(), &open).expect("the first fits");
        assert!(matches!(Content::hold(file.clone(), &open), Err(ErrorCode::InsufficientMemory)));
        drop(first);
        assert_eq!(open.load(Ordering::Relaxed), 0, "what was refused is not counted, and what was let go is not either");
        Content::hold(file, &open).expect("there is room again");
    }

    #[test]
    fn a_reader_goes_from_its_place_to_the_end() {
        let content = Content::hold(Bytes::from_static(b"abcdef"), &Arc::default()).expect("fits");
        let mut reader = Reader { content: Arc::clone(&content), at: 2 };
        assert_eq!(reader.read(3).expect("reads"), "cde");
        assert_eq!(reader.read(100).expect("reads"), "f");
        assert!(matches!(reader.read(1), Err(StreamError::Closed)));
        assert!(matches!(Reader { content, at: usize::MAX }.read(1), Err(StreamError::Closed)), "from beyond the end");
    }
}
