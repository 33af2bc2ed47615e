//! Artifacts, and the digests they are known by.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The longest name an artifact may have, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// How many parts it may have, the folders that it makes included: each has its own place in a tree.
pub const NAME_PARTS_MAX: usize = 32;
/// The longest media type that it may have, in bytes: a type and a subtype have 127 each (RFC 6838, 4.2).
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// A SHA-256 digest (FIPS 180-4), written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// A digest from its raw bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The raw bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digits alone, without the algorithm in front: for file names.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `sha256:` and 64 hexadecimal digits, found `{found}`")]
pub struct NotADigest {
    /// What stood there.
    pub found: String,
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let not = || NotADigest { found: text.to_owned() };
        let digits = text.strip_prefix("sha256:").ok_or_else(not)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| not())?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Every event has some: as `Display` writes it, without going through it digit by digit.
        let mut text = *b"sha256:0000000000000000000000000000000000000000000000000000000000000000";
        hex::encode_to_slice(self.0, &mut text[b"sha256:".len()..]).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest such as sha256:…")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A named piece of content. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// A relative path with `/` between its parts; see [`check_name`].
    pub name: String,
    /// An IANA media type; empty means `application/octet-stream`.
    pub media_type: String,
    /// The bytes.
    pub content: Bytes,
}

impl Artifact {
    /// What this artifact counts towards the `input` and `output` limits, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        (self.name.len() + self.media_type.len() + self.content.len()) as u64
    }
}

/// How much content the references of one event may carry themselves, in bytes; what is beyond is a blob.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// An artifact as the journal has it: small content in itself, large content as a blob known by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// As [`Artifact::name`].
    pub name: String,
    /// As [`Artifact::media_type`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The content's size, in bytes.
    pub size_bytes: u64,
    /// The content, where it is small; see [`INLINE_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "inline")]
    pub content: Option<Bytes>,
}

impl ArtifactRef {
    /// A reference that carries the content itself.
    #[must_use]
    pub fn inline(artifact: Artifact) -> Self {
        let Artifact { name, media_type, content } = artifact;
        Self { name, media_type, digest: Digest::of(&content), size_bytes: content.len() as u64, content: Some(content) }
    }

    /// As [`Artifact::cost_bytes`].
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        self.size_bytes.saturating_add((self.name.len() + self.media_type.len()) as u64)
    }
}

/// Content within JSON: `text:` and the text, or `base64:` (RFC 4648) where it is not UTF-8.
mod inline {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(content: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(content) = content else { return serializer.serialize_none() };
        match std::str::from_utf8(content) {
            Ok(text) => serializer.collect_str(&format_args!("text:{text}")),
            Err(_) => serializer.collect_str(&format_args!("base64:{}", STANDARD.encode(content))),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        if let Some(text) = text.strip_prefix("text:") {
            return Ok(Some(Bytes::copy_from_slice(text.as_bytes())));
        }
        let digits = text.strip_prefix("base64:").ok_or_else(|| D::Error::custom("expected `text:` or `base64:` in front of content"))?;
        Ok(Some(STANDARD.decode(digits).map_err(D::Error::custom)?.into()))
    }
}

/// Says what is wrong with a name, if anything is: names become paths of files, so only plain relative ones pass.
///
/// # Errors
/// The reason, as a fragment that reads after "the name is refused: ".
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("it is longer than 1,024 bytes");
    }
    if name.chars().any(|c| c.is_control() || c == '\\' || super::text::is_bidirectional_control(c)) {
        return Err("it has a control character or a backslash");
    }
    if name.split('/').count() > NAME_PARTS_MAX {
        return Err("it is deeper than 32 parts");
    }
    if name.split('/').any(|part| part.is_empty() || part == "." || part == ".." || part.len() > 255) {
        return Err("it is not a plain relative path (an empty, `.`, `..` or over-long part)");
    }
    Ok(())
}

/// Says what is wrong with a media type, if anything is. Empty is one.
///
/// # Errors
/// The reason, as a fragment that reads after "the media type is refused: ".
pub fn check_media_type(media_type: &str) -> Result<(), &'static str> {
    if media_type.len() > MEDIA_TYPE_BYTES_MAX {
        return Err("it is longer than 255 bytes");
    }
    if !media_type.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err("it has other characters than the printable ones of ASCII");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_short_and_plain() {
        for media_type in ["", "text/markdown", "text/html; charset=\"utf-8\"", &"x".repeat(255)] {
            assert_eq!(check_media_type(media_type), Ok(()), "{media_type:?} was refused");
        }
        for media_type in ["text/\u{1b}[2J", "text/plain\n", "tëxt/plain", &"x".repeat(256)] {
            assert!(check_media_type(media_type).is_err(), "{media_type:?} passed");
        }
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for name in ["", "/etc/passwd", "..", "a/../b", "a//b", "./a", "a\\b", "a\nb", "a/", "\u{202e}gpj.exe"] {
            assert!(check_name(name).is_err(), "{name:?} passed");
        }
        for name in ["a", "a/b.md", "..a", "a b", "ünï"] {
            assert_eq!(check_name(name), Ok(()), "{name:?} was refused");
        }
        assert!(check_name(&"a/".repeat(600)).is_err());
        assert_eq!(check_name(&vec!["a"; NAME_PARTS_MAX].join("/")), Ok(()));
        assert!(check_name(&vec!["a"; NAME_PARTS_MAX + 1].join("/")).is_err());
        assert!(check_name(&"a".repeat(256)).is_err());
    }

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:12".parse::<Digest>().is_err());
        assert!("md5:00".parse::<Digest>().is_err());
    }
}
