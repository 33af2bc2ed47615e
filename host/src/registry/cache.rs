//! Compiled code, kept between processes in the user's cache folder.
//!
//! Compiled code is native code: whoever can change it can do anything that the user can. So it is never read from a
//! project; the folder belongs to the user alone; and each file is authenticated by a key of the user's (BLAKE3 in its
//! keyed mode) over the name it was stored under and its bytes. What does not verify is compiled anew, and replaced.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::intake;

const MAGIC: &[u8; 8] = b"sandhog1";
const MAC_BYTES: usize = blake3::OUT_LEN;
/// The largest compiled component that is read back, in bytes.
const ENTRY_BYTES_MAX: u64 = 1 << 30;
/// The folder's files together are kept below this; the least recently written go first.
const TOTAL_BYTES_MAX: u64 = 4 << 30;
/// How much a process stores before it looks again whether that is kept: listing the folder each time would take longer and longer.
const LOOK_EVERY_BYTES: u64 = 64 << 20;

/// The cache of compiled code.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    key: [u8; blake3::KEY_LEN],
    /// How many bytes were stored since the folder's size was looked at.
    unseen_bytes: AtomicU64,
}

impl Cache {
    /// Opens the cache in a folder, which is made, with its key, when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made, or is not the user's own.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        let compiled = folder.join("compiled");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&compiled)?;
        let metadata = std::fs::symlink_metadata(&compiled)?;
        if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(std::io::Error::other(format!("{} is not a folder that only its user can write", compiled.display())));
        }
        let key = key(&compiled.join("key"))?;
        Ok(Self { folder: compiled, key, unseen_bytes: LOOK_EVERY_BYTES.into() })
    }

    /// A cache of other things, with the same key, in a folder of its own beside this one.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn beside(&self, name: &str) -> std::io::Result<Self> {
        let folder = self.folder.with_file_name(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, key: self.key, unseen_bytes: LOOK_EVERY_BYTES.into() })
    }

    /// The code that was stored under a name, if it is there and is what was stored.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.path(name);
        let mut bytes = match intake::read(&path, ENTRY_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(intake::Error::NotReadable(error)) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "compiled code is not used, and made anew");
                return None;
            }
        };
        let header = MAGIC.len() + MAC_BYTES;
        let (mac, code) = bytes.get(..header).map(|h| &h[MAGIC.len()..]).zip(bytes.get(header..))?;
        let expected = self.mac(name, code);
        // `blake3::Hash` compares in constant time.
        let authentic =
            bytes.starts_with(MAGIC) && <[u8; MAC_BYTES]>::try_from(mac).is_ok_and(|mac| expected == blake3::Hash::from_bytes(mac));
        if !authentic {
            tracing::warn!(file = %path.display(), "compiled code was changed since it was stored; it is made anew");
            return None;
        }
        bytes.drain(..header);
        Some(bytes)
    }

    /// Whether something is stored under a name; whether it verifies is for [`Cache::get`] to say.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// Stores code under a name, whole or not at all.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn put(&self, name: &str, code: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(MAGIC)?;
        file.write_all(self.mac(name, code).as_bytes())?;
        file.write_all(code)?;
        file.persist(self.path(name)).map_err(|error| error.error)?;
        let unseen = self.unseen_bytes.fetch_add(code.len() as u64, Ordering::Relaxed);
        if unseen >= LOOK_EVERY_BYTES {
            self.unseen_bytes.store(0, Ordering::Relaxed);
            self.make_room();
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.compiled"))
    }

    fn mac(&self, name: &str, code: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(code).finalize()
    }

    fn make_room(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "compiled"))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if total <= TOTAL_BYTES_MAX {
                break;
            }
            if std::fs::remove_file(path).is_ok() {
                total -= bytes;
            }
        }
    }
}

/// The user's key; made when it is not there. Several processes that make it at once agree on one.
pub(super) fn key(path: &Path) -> std::io::Result<[u8; blake3::KEY_LEN]> {
    let read = || match intake::read(path, blake3::KEY_LEN as u64) {
        Ok(bytes) => Ok(<[u8; blake3::KEY_LEN]>::try_from(bytes).ok()),
        Err(intake::Error::NotReadable(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(std::io::Error::other(error)),
    };
    if let Some(key) = read()? {
        return Ok(key);
    }
    let mut key = [0; blake3::KEY_LEN];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o600)).tempfile_in(folder)?;
    file.write_all(&key)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(key),
        Err(_) => match read()? {
            Some(key) => Ok(key),
            None => {
                // A key of the wrong length: nothing that it signed can be read, so a new one loses nothing.
                std::fs::remove_file(path)?;
                self::key(path)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_cut_or_swapped_is_not_trusted() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path()).expect("opens");
        cache.put("a", b"native code").expect("stored");
        cache.put("b", b"other code").expect("stored");
        assert_eq!(cache.get("a").as_deref(), Some(&b"native code"[..]));
        assert_eq!(Cache::open(folder.path()).expect("opens").get("a").as_deref(), Some(&b"native code"[..]));
        assert_eq!(cache.get("none"), None);

        let path = cache.path("a");
        let good = std::fs::read(&path).expect("reads");
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            std::fs::write(&path, &bad).expect("writes");
            assert_eq!(cache.get("a"), None, "a flipped bit in byte {place} passed");
            std::fs::write(&path, &good[..place]).expect("writes");
            assert_eq!(cache.get("a"), None, "cut off at {place} passed");
        }
        std::fs::copy(cache.path("b"), &path).expect("copies");
        assert_eq!(cache.get("a"), None, "another's code passed");

        // Made under another key: a foreign cache.
        std::fs::remove_file(folder.path().join("compiled/key")).expect("removes");
        assert_eq!(Cache::open(folder.path()).expect("opens").get("b"), None);
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Cache::open(folder.path()).expect("opens"));
        std::fs::set_permissions(folder.path().join("compiled"), std::fs::Permissions::from_mode(0o777)).expect("set");
        assert!(Cache::open(folder.path()).is_err());
    }
}
