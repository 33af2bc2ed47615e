//! Components that were granted something, as they were then: where the file is replaced by one that is not granted the same,
//! this one goes on serving, over restarts, too.
//!
//! They lie in the user's cache folder, authenticated like compiled code, since they run with a grant.

use std::path::Path;

use super::cache::Cache;
use super::entry::{self, Entry};
use super::intake::{self, COMPONENT_BYTES_MAX};
use crate::model::Digest;

/// What was kept.
#[derive(Debug)]
pub(super) struct Kept(Cache);

impl Kept {
    /// In a folder of its own beside another cache.
    pub(super) fn beside(cache: &Cache) -> std::io::Result<Self> {
        cache.beside("granted").map(Self)
    }

    /// Keeps the component of an entry, and what is written beside it.
    pub(super) fn put(&self, entry: &Entry) -> std::io::Result<()> {
        let name = entry.digest.to_hex();
        if !self.0.has(&name) {
            let bytes = intake::read(&entry.path, COMPONENT_BYTES_MAX).map_err(std::io::Error::other)?;
            if Digest::of(&bytes) != entry.digest {
                return Err(std::io::Error::other("the file changed since the folder was read"));
            }
            self.0.put(&name, &bytes)?;
        }
        let beside = entry::beside(&entry.path).map_err(std::io::Error::other)?.unwrap_or_default();
        let name = manifest_name(&entry.name, entry.digest);
        if self.0.get(&name).as_deref() == Some(beside.as_bytes()) {
            return Ok(());
        }
        self.0.put(&name, beside.as_bytes())
    }

    /// The plugin of a name that was kept, as one of the file that is at a path now.
    pub(super) fn get(&self, name: &str, digest: Digest, path: &Path) -> Option<Entry> {
        let beside = String::from_utf8(self.0.get(&manifest_name(name, digest))?).ok()?;
        let beside = Some(beside).filter(|text| !text.is_empty());
        entry::from_kept(path, &self.bytes(digest)?, beside).ok().filter(|entry| entry.name == name)
    }

    /// The component of a digest.
    pub(super) fn bytes(&self, digest: Digest) -> Option<Vec<u8>> {
        self.0.get(&digest.to_hex()).filter(|bytes| Digest::of(bytes) == digest)
    }
}

fn manifest_name(name: &str, digest: Digest) -> String {
    format!("{}.{}", blake3::hash(name.as_bytes()).to_hex(), digest.to_hex())
}
