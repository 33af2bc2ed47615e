//! Data that the operator gives to gates: an advisory database, packages that tests import, a baseline.
//!
//! A gate's manifest says which it can use; where the operator names a file or a folder for it, the gate finds it at
//! `/data/NAME`, read-only, as a snapshot. It is content like the subject's: what was looked at is part of what a kept
//! answer follows from. Links are not followed, and nothing is read that no gate wants.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use walkdir::WalkDir;

use super::intake;
use crate::model::{Snapshot, artifact};

/// The largest file of data that is read, in bytes.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// How many files a folder of data may have.
const FILES_MAX: usize = 500_000;

/// Adds a file, or all files of a folder, below a name. A file keeps its own name in a folder of that name.
///
/// # Errors
/// What is wrong with it, as a fragment for people.
pub(super) fn add(snapshot: &mut Snapshot, name: &str, path: &Path) -> Result<(), String> {
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    let metadata = std::fs::metadata(&real).map_err(|error| error.to_string())?;
    if metadata.is_file() {
        let own = path.file_name().and_then(|name| name.to_str()).ok_or("its name is not UTF-8")?;
        return add_file(snapshot, &format!("{name}/{own}"), real.clone(), metadata.len());
    }
    if !metadata.is_dir() {
        return Err("it is neither a file nor a folder".to_owned());
    }
    let (mut count, mut left_out) = (0, 0_usize);
    for entry in WalkDir::new(&real).follow_links(false).sort_by_file_name() {
        let entry = entry.map_err(|error| error.to_string())?;
        let Some(inside) = entry.path().strip_prefix(&real).ok().and_then(Path::to_str) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        if artifact::check_name(inside).is_err() {
            left_out += 1; // what cannot be shown is not there: a gate that needs it says so
            continue;
        }
        count += 1;
        if count > FILES_MAX {
            return Err(format!("it has more than {FILES_MAX} files"));
        }
        add_file(snapshot, &format!("{name}/{inside}"), entry.path().to_owned(), metadata.len())?;
    }
    if left_out > 0 {
        tracing::warn!(
            data = name,
            files = left_out,
            "data was left out, by names that are no artifact's: too long, too deep, or with control characters"
        );
    }
    if count == 0 {
        return Err("there is no file in it".to_owned());
    }
    Ok(())
}

fn add_file(snapshot: &mut Snapshot, name: &str, path: PathBuf, size_bytes: u64) -> Result<(), String> {
    let load = move || intake::read(&path, FILE_BYTES_MAX).map(bytes::Bytes::from).map_err(|error| error.to_string());
    snapshot.add_lazy(name, size_bytes, Box::new(load)).map_err(|collision| collision.to_string())
}

/// Adds a small text of the host's own.
pub(super) fn add_text(snapshot: &mut Snapshot, name: &str, text: &str) {
    let content = bytes::Bytes::copy_from_slice(text.as_bytes());
    let size_bytes = content.len() as u64;
    if let Err(collision) = snapshot.add_lazy(name, size_bytes, Box::new(move || Ok(content.clone()))) {
        tracing::warn!(%collision, "data of the host's own could not be added");
    }
}

/// What a gate is given, shared by all its instances.
pub(super) type Given = Arc<Snapshot>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot::Node;

    #[test]
    fn a_file_keeps_its_name_and_a_folder_its_files_but_no_links() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("a")).expect("made");
        std::fs::write(folder.path().join("a/x"), "1").expect("written");
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("a/link")).expect("linked");
        let mut snapshot = Snapshot::default();
        add(&mut snapshot, "whole", &folder.path().join("a")).expect("added");
        add(&mut snapshot, "one", &folder.path().join("a/x")).expect("added");
        let files: Vec<_> = snapshot.files().map(|(path, size)| (path.to_owned(), size)).collect();
        assert_eq!(files, [("one/x".to_owned(), 1), ("whole/x".to_owned(), 1)]);
        assert_eq!(snapshot.node("whole"), Some(Node::Folder));
        assert!(add(&mut snapshot, "none", &folder.path().join("nothing")).is_err());
    }
}
