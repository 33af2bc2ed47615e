//! Detached signatures of components, as [minisign](https://jedisct1.github.io/minisign/) makes them: `NAME.wasm.minisig` beside
//! `NAME.wasm`. Where the configuration names keys, a plugin counts only with a signature by one of them.

use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};

use super::cache::Cache;
use super::intake::{self, COMPONENT_BYTES_MAX};
use crate::model::Digest;

/// The largest signature that is read, in bytes: two lines of base64 and two comments.
const SIGNATURE_BYTES_MAX: u64 = 64 << 10;
/// What is remembered of a signature that was checked.
const GOOD: &[u8] = b"good";

/// Where the signature of a component is.
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// Checks that a file of a digest, a component or its manifest, was signed by one of the keys. Large components take a while to
/// hash: what was checked is remembered.
///
/// # Errors
/// Why it does not count.
pub(super) fn check(path: &Path, digest: Digest, keys: &[String], known: Option<&Cache>) -> Result<(), String> {
    let place = beside(path);
    let text = intake::read(&place, SIGNATURE_BYTES_MAX).map_err(|error| match error {
        intake::Error::NotReadable(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("it is not signed: there is no {}, and [signatures] asks for one", place.display())
        }
        error => format!("its signature {}: {error}", place.display()),
    })?;
    let mut hasher = blake3::Hasher::new();
    for part in [b"signature 1", digest.as_bytes().as_slice(), &text, keys.join(" ").as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let name = hasher.finalize().to_hex().to_string();
    if known.and_then(|known| known.get(&name)).is_some_and(|known| known == GOOD) {
        return Ok(());
    }
    let bad = |reason: String| format!("its signature {}: {reason}", place.display());
    let text = String::from_utf8(text).map_err(|_| bad("it is not UTF-8".to_owned()))?;
    let signature = Signature::decode(&text).map_err(|error| bad(error.to_string()))?;
    let bytes = intake::read(path, COMPONENT_BYTES_MAX).map_err(|error| error.to_string())?;
    if Digest::of(&bytes) != digest {
        return Err(intake::Error::Unfinished.to_string());
    }
    let keys = keys.iter().filter_map(|key| PublicKey::from_base64(key).ok());
    if !keys.into_iter().any(|key| key.verify(&bytes, &signature, false).is_ok()) {
        return Err(bad("it is by none of the keys of [signatures], or of another file".to_owned()));
    }
    if let Some(Err(error)) = known.map(|known| known.put(&name, GOOD)) {
        tracing::debug!(%error, "what is known of a signature could not be kept");
    }
    Ok(())
}
