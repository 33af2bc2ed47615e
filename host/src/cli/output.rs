//! Artifacts, written into a folder: all of them, or none.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::exit::Error;

/// A folder that will take the artifacts of a run: known to be writable before the run starts.
///
/// Everything is written into a hidden folder inside it first, and moved into place at the end, file by file; what was
/// there before under the same names is replaced.
pub struct OutFolder {
    folder: PathBuf,
    staging: TempDir,
    names: Vec<String>,
}

impl OutFolder {
    /// Makes the folder, if need be, and makes sure that it can be written.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let cannot = |error: std::io::Error| {
            Error::usage(format!("the output folder {} cannot be written: {error}", folder.display()))
                .help("name another with --out FOLDER")
        };
        std::fs::create_dir_all(folder).map_err(cannot)?;
        let staging = tempfile::Builder::new().prefix(".sandhog-").tempdir_in(folder).map_err(cannot)?;
        Ok(Self { folder: folder.to_owned(), staging, names: Vec::new() })
    }

    /// Adds a file; nothing of it is seen before [`OutFolder::finish`]. The name was checked when the artifact was taken.
    pub fn add(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.staging.path().join(name);
        let write = || {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mut file = std::fs::File::create_new(&path)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|error| Error::engine(format!("{name} cannot be written below {}: {error}", self.folder.display())))?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Moves everything into place.
    pub fn finish(self) -> Result<usize, Error> {
        for name in &self.names {
            let (from, to) = (self.staging.path().join(name), self.folder.join(name));
            let place = || {
                if let Some(parent) = to.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::fs::rename(&from, &to)
            };
            place().map_err(|error| Error::engine(format!("{} cannot be put in place: {error}", to.display())))?;
        }
        Ok(self.names.len())
    }
}
