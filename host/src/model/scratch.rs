//! A folder that one instance may write: files in memory, within a budget, gone with the instance.
//!
//! WASI bounds neither the bytes nor the number of files that a guest writes. Here a file is made of blocks and every
//! block and every name is counted before it is made, so that a hole costs nothing and a million empty files are no way
//! around the budget. Names are sorted; a file's times follow from the order of the writes, so two runs see the same.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

/// The unit in which content is kept and counted, in bytes.
pub const BLOCK_BYTES: u64 = 4096;
/// What a file or folder costs beside its content and its name, in bytes.
pub const ENTRY_BYTES: u64 = 512;
/// How long one name may be, in bytes; as on most disks.
const NAME_BYTES_MAX: usize = 255;
/// How long a file may be, holes included, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 40;
/// The time of the folder itself, since the Unix epoch: 2020-01-01T00:00:00Z. Each change comes a millisecond later.
const FIRST_TIME: Duration = Duration::from_secs(1_577_836_800);

/// A file or folder, for as long as it is named or open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The folder itself.
    pub const ROOT: Self = Self(0);

    /// A number that no other file or folder of the same instance has.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Why something cannot be done; POSIX has a word for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ScratchError {
    #[error("there is no such file or folder")]
    NoEntry,
    #[error("it is there already")]
    Exists,
    #[error("it is no folder")]
    NotDirectory,
    #[error("it is a folder")]
    IsDirectory,
    #[error("the folder is not empty")]
    NotEmpty,
    #[error("the budget is used up")]
    NoSpace,
    #[error("the path leads out of the folder")]
    NotPermitted,
    #[error("the name is too long")]
    NameTooLong,
    #[error("the file would be too long")]
    FileTooLarge,
    #[error("it cannot be moved there")]
    Invalid,
}

/// What is known of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The size in bytes; none of a folder.
    pub size_bytes: Option<u64>,
    /// When it was last read, since the Unix epoch; what was set, or when it was made.
    pub accessed: Duration,
    /// When it last changed, since the Unix epoch.
    pub modified: Duration,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opening {
    /// Make it where it is not there.
    pub create: bool,
    /// It must not be there.
    pub exclusive: bool,
    /// Empty it.
    pub truncate: bool,
    /// It must be a folder.
    pub directory: bool,
    /// It will be written.
    pub write: bool,
}

/// A new time for a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// As it was.
    Keep,
    /// The time of this change.
    Now,
    /// This time, since the Unix epoch.
    At(Duration),
}

#[derive(Debug)]
enum Content {
    File { size: u64, blocks: BTreeMap<u64, Box<[u8; BLOCK_BYTES as usize]>> },
    Folder(BTreeMap<String, NodeId>),
}

#[derive(Debug)]
struct Inode {
    content: Content,
    /// The folder that names it; none when no folder does any more.
    parent: Option<NodeId>,
    /// How many hold it open.
    open: u64,
    accessed: Duration,
    modified: Duration,
}

/// The folder, with all that is in it.
#[derive(Debug)]
pub struct Scratch {
    limit: u64,
    used: u64,
    nodes: BTreeMap<NodeId, Inode>,
    next: u64,
    now: Duration,
}

/// Where a path leads: the folder, and the name in it; the folder alone where the path ends in itself.
struct Place {
    folder: NodeId,
    name: Option<String>,
    /// The path ends in a slash: only a folder is meant.
    slash: bool,
}

impl Scratch {
    /// An empty folder with a budget in bytes.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        let root = Inode { content: Content::Folder(BTreeMap::new()), parent: None, open: 0, accessed: FIRST_TIME, modified: FIRST_TIME };
        Self { limit: limit_bytes, used: 0, nodes: BTreeMap::from([(NodeId::ROOT, root)]), next: 1, now: FIRST_TIME }
    }

    /// What is used of the budget, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used
    }

    /// Holds a file or folder open: it stays until [`Self::close`], named or not.
    pub fn hold(&mut self, id: NodeId) {
        if let Some(inode) = self.nodes.get_mut(&id) {
            inode.open += 1;
        }
    }

    /// Lets go of what was held open.
    pub fn close(&mut self, id: NodeId) {
        if let Some(inode) = self.nodes.get_mut(&id) {
            inode.open = inode.open.saturating_sub(1);
        }
        self.collect(id);
    }

    /// What is known of a file or folder.
    ///
    /// # Errors
    /// When it is gone.
    pub fn stat(&self, id: NodeId) -> Result<Stat, ScratchError> {
        let inode = self.nodes.get(&id).ok_or(ScratchError::NoEntry)?;
        let size_bytes = match &inode.content {
            Content::File { size, .. } => Some(*size),
            Content::Folder(_) => None,
        };
        Ok(Stat { size_bytes, accessed: inode.accessed, modified: inode.modified })
    }

    /// The file or folder that a path means, seen from a folder.
    ///
    /// # Errors
    /// When there is none, or the path leads out of the folder.
    pub fn find(&self, from: NodeId, path: &str) -> Result<NodeId, ScratchError> {
        let place = self.place(from, path)?;
        self.at(&place)
    }

    /// Opens a file or folder, or makes the file. What is returned is not held yet.
    ///
    /// # Errors
    /// As POSIX's `openat` fails.
    pub fn open(&mut self, from: NodeId, path: &str, how: Opening) -> Result<NodeId, ScratchError> {
        let place = self.place(from, path)?;
        let id = match self.at(&place) {
            Ok(_) if how.create && how.exclusive => return Err(ScratchError::Exists),
            Ok(id) => id,
            Err(ScratchError::NoEntry) if how.create && !how.directory => {
                if place.slash {
                    return Err(ScratchError::IsDirectory);
                }
                return self.add(&place, Content::File { size: 0, blocks: BTreeMap::new() });
            }
            Err(error) => return Err(error),
        };
        let is_folder = self.stat(id)?.size_bytes.is_none();
        if how.directory && !is_folder {
            return Err(ScratchError::NotDirectory);
        }
        if is_folder && (how.write || how.truncate) && !how.directory {
            return Err(ScratchError::IsDirectory);
        }
        if how.truncate && !is_folder {
            self.set_size(id, 0)?;
        }
        Ok(id)
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// When the name is taken, the budget is used up, or there is no such place.
    pub fn create_folder(&mut self, from: NodeId, path: &str) -> Result<(), ScratchError> {
        let place = self.place(from, path)?;
        match self.at(&place) {
            Ok(_) => Err(ScratchError::Exists),
            Err(ScratchError::NoEntry) => self.add(&place, Content::Folder(BTreeMap::new())).map(|_| ()),
            Err(error) => Err(error),
        }
    }

    /// Removes a file's name; the file is gone when nobody holds it open.
    ///
    /// # Errors
    /// When there is none, or it is a folder.
    pub fn remove_file(&mut self, from: NodeId, path: &str) -> Result<(), ScratchError> {
        let place = self.place(from, path)?;
        let id = self.at(&place)?;
        if self.stat(id)?.size_bytes.is_none() {
            return Err(ScratchError::IsDirectory);
        }
        self.unlink(&place);
        Ok(())
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// When there is none, it is a file, or it is not empty.
    pub fn remove_folder(&mut self, from: NodeId, path: &str) -> Result<(), ScratchError> {
        let place = self.place(from, path)?;
        let id = self.at(&place)?;
        match &self.nodes.get(&id).ok_or(ScratchError::NoEntry)?.content {
            Content::File { .. } => return Err(ScratchError::NotDirectory),
            Content::Folder(names) if !names.is_empty() => return Err(ScratchError::NotEmpty),
            Content::Folder(_) if place.name.is_none() => return Err(ScratchError::Invalid), // `.` and the folder itself
            Content::Folder(_) => self.unlink(&place),
        }
        Ok(())
    }

    /// Gives a file or folder another name; a file, or an empty folder, of that name goes.
    ///
    /// # Errors
    /// As POSIX's `rename` fails.
    pub fn rename(&mut self, from: NodeId, path: &str, to: NodeId, new_path: &str) -> Result<(), ScratchError> {
        let (old, new) = (self.place(from, path)?, self.place(to, new_path)?);
        let id = self.at(&old)?;
        let (Some(_), Some(name)) = (&old.name, &new.name) else { return Err(ScratchError::Invalid) };
        let is_folder = self.stat(id)?.size_bytes.is_none();
        if !is_folder && new.slash {
            return Err(ScratchError::NotDirectory);
        }
        let replaced = match self.at(&new) {
            Ok(there) if there == id => return Ok(()),
            Ok(there) => Some(there),
            Err(ScratchError::NoEntry) => None,
            Err(error) => return Err(error),
        };
        if !self.is_in_place(new.folder) {
            return Err(ScratchError::NoEntry);
        }
        // A folder cannot be moved into itself.
        let mut above = Some(new.folder);
        while let Some(folder) = above {
            if folder == id {
                return Err(ScratchError::Invalid);
            }
            above = self.nodes.get(&folder).and_then(|inode| inode.parent);
        }
        if let Some(there) = replaced {
            match &self.nodes.get(&there).ok_or(ScratchError::NoEntry)?.content {
                Content::File { .. } if is_folder => return Err(ScratchError::NotDirectory),
                Content::Folder(_) if !is_folder => return Err(ScratchError::IsDirectory),
                Content::Folder(names) if !names.is_empty() => return Err(ScratchError::NotEmpty),
                Content::File { .. } | Content::Folder(_) => {}
            }
        }
        let freed = replaced.map_or(0, |_| cost_of_name(name));
        let old_name = old.name.as_deref().unwrap_or_default();
        let (grown, shrunk) = (cost_of_name(name), cost_of_name(old_name));
        if (self.used + grown).saturating_sub(shrunk + freed) > self.limit {
            return Err(ScratchError::NoSpace);
        }
        self.unlink(&new);
        self.used = self.used + grown - shrunk;
        self.names(old.folder).map(|names| names.remove(old_name));
        self.touch(old.folder);
        if let Some(names) = self.names(new.folder) {
            names.insert(name.clone(), id);
        }
        self.touch(new.folder);
        if let Some(inode) = self.nodes.get_mut(&id) {
            inode.parent = Some(new.folder);
        }
        Ok(())
    }

    /// Reads up to `length` bytes of a file from `offset` on; fewer only where it ends.
    ///
    /// # Errors
    /// When it is a folder.
    pub fn read(&self, id: NodeId, offset: u64, length: usize) -> Result<Vec<u8>, ScratchError> {
        let Content::File { size, blocks } = &self.nodes.get(&id).ok_or(ScratchError::NoEntry)?.content else {
            return Err(ScratchError::IsDirectory);
        };
        let length = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(length);
        let mut bytes = vec![0; length];
        for (part, index, within) in pieces(offset, length) {
            if let Some(block) = blocks.get(&index) {
                let piece = &mut bytes[part];
                piece.copy_from_slice(&block[within..within + piece.len()]);
            }
        }
        Ok(bytes)
    }

    /// Writes all of `bytes` at `offset`, or nothing.
    ///
    /// # Errors
    /// When it is a folder, the budget does not suffice, or the file would be too long.
    pub fn write(&mut self, id: NodeId, offset: u64, bytes: &[u8]) -> Result<(), ScratchError> {
        let room = self.limit.saturating_sub(self.used);
        let Content::File { size, blocks } = &mut self.nodes.get_mut(&id).ok_or(ScratchError::NoEntry)?.content else {
            return Err(ScratchError::IsDirectory);
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= FILE_BYTES_MAX).ok_or(ScratchError::FileTooLarge)?;
        let missing = pieces(offset, bytes.len()).filter(|(_, index, _)| !blocks.contains_key(index)).count() as u64;
        if missing * BLOCK_BYTES > room {
            return Err(ScratchError::NoSpace);
        }
        self.used += missing * BLOCK_BYTES;
        for (part, index, within) in pieces(offset, bytes.len()) {
            let block = blocks.entry(index).or_insert_with(|| Box::new([0; BLOCK_BYTES as usize]));
            let piece = &bytes[part];
            block[within..within + piece.len()].copy_from_slice(piece);
        }
        *size = end.max(*size);
        self.touch(id);
        Ok(())
    }

    /// Cuts a file, or grows it by a hole.
    ///
    /// # Errors
    /// When it is a folder, or would be too long.
    pub fn set_size(&mut self, id: NodeId, to: u64) -> Result<(), ScratchError> {
        let Content::File { size, blocks } = &mut self.nodes.get_mut(&id).ok_or(ScratchError::NoEntry)?.content else {
            return Err(ScratchError::IsDirectory);
        };
        if to > FILE_BYTES_MAX {
            return Err(ScratchError::FileTooLarge);
        }
        let dropped = blocks.split_off(&to.div_ceil(BLOCK_BYTES)).len() as u64;
        if let Some(last) = blocks.get_mut(&(to / BLOCK_BYTES)) {
            last[usize::try_from(to % BLOCK_BYTES).unwrap_or(0)..].fill(0);
        }
        *size = to;
        self.used -= dropped * BLOCK_BYTES;
        self.touch(id);
        Ok(())
    }

    /// Sets the times of a file or folder.
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_times(&mut self, id: NodeId, accessed: SetTime, modified: SetTime) -> Result<(), ScratchError> {
        let now = self.tick();
        let inode = self.nodes.get_mut(&id).ok_or(ScratchError::NoEntry)?;
        let set = |time: &mut Duration, to: SetTime| match to {
            SetTime::Keep => {}
            SetTime::Now => *time = now,
            SetTime::At(at) => *time = at,
        };
        set(&mut inode.accessed, accessed);
        set(&mut inode.modified, modified);
        Ok(())
    }

    /// The first entry of a folder whose name comes after another; the first of all where there is none.
    ///
    /// # Errors
    /// When it is no folder.
    pub fn entry_after(&self, id: NodeId, name: Option<&str>) -> Result<Option<(&str, NodeId)>, ScratchError> {
        let Content::Folder(names) = &self.nodes.get(&id).ok_or(ScratchError::NoEntry)?.content else {
            return Err(ScratchError::NotDirectory);
        };
        let after = (name.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        Ok(names.range::<str, _>(after).next().map(|(name, id)| (name.as_str(), *id)))
    }

    fn names(&mut self, folder: NodeId) -> Option<&mut BTreeMap<String, NodeId>> {
        match &mut self.nodes.get_mut(&folder)?.content {
            Content::Folder(names) => Some(names),
            Content::File { .. } => None,
        }
    }

    fn child(&self, folder: NodeId, name: &str) -> Result<NodeId, ScratchError> {
        match &self.nodes.get(&folder).ok_or(ScratchError::NoEntry)?.content {
            Content::Folder(names) => names.get(name).copied().ok_or(ScratchError::NoEntry),
            Content::File { .. } => Err(ScratchError::NotDirectory),
        }
    }

    /// Walks a path. Every folder on the way must be there, and none of them is above the one it starts from.
    fn place(&self, from: NodeId, path: &str) -> Result<Place, ScratchError> {
        if path.is_empty() {
            return Err(ScratchError::NoEntry);
        }
        if path.starts_with('/') {
            return Err(ScratchError::NotPermitted);
        }
        let mut way = vec![from];
        let mut name: Option<String> = None;
        for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part.len() > NAME_BYTES_MAX {
                return Err(ScratchError::NameTooLong);
            }
            if part.contains('\0') {
                return Err(ScratchError::Invalid);
            }
            let here = way.last().copied().unwrap_or(from);
            if let Some(before) = name.take() {
                way.push(self.child(here, &before)?);
            }
            if part != ".." {
                name = Some(part.to_owned());
            } else if way.len() > 1 {
                way.pop();
            } else {
                return Err(ScratchError::NotPermitted);
            }
        }
        let folder = way.last().copied().unwrap_or(from);
        match self.nodes.get(&folder).map(|inode| &inode.content) {
            Some(Content::Folder(_)) => Ok(Place { folder, name, slash: path.ends_with('/') || path.ends_with("/.") }),
            Some(Content::File { .. }) => Err(ScratchError::NotDirectory),
            None => Err(ScratchError::NoEntry),
        }
    }

    fn at(&self, place: &Place) -> Result<NodeId, ScratchError> {
        let id = place.name.as_ref().map_or(Ok(place.folder), |name| self.child(place.folder, name))?;
        if place.slash && self.stat(id)?.size_bytes.is_some() {
            return Err(ScratchError::NotDirectory);
        }
        Ok(id)
    }

    fn add(&mut self, place: &Place, content: Content) -> Result<NodeId, ScratchError> {
        let name = place.name.as_ref().ok_or(ScratchError::Exists)?;
        if !self.is_in_place(place.folder) {
            return Err(ScratchError::NoEntry);
        }
        let cost = ENTRY_BYTES + cost_of_name(name);
        if self.used.saturating_add(cost) > self.limit {
            return Err(ScratchError::NoSpace);
        }
        self.used += cost;
        let id = NodeId(self.next);
        self.next += 1;
        let now = self.tick();
        self.nodes.insert(id, Inode { content, parent: Some(place.folder), open: 0, accessed: now, modified: now });
        if let Some(names) = self.names(place.folder) {
            names.insert(name.clone(), id);
        }
        self.touch(place.folder);
        Ok(id)
    }

    /// Takes the name from a file or an empty folder.
    fn unlink(&mut self, place: &Place) {
        let Some(name) = &place.name else { return };
        let Some(id) = self.names(place.folder).and_then(|names| names.remove(name)) else { return };
        self.used -= cost_of_name(name);
        if let Some(inode) = self.nodes.get_mut(&id) {
            inode.parent = None;
        }
        self.touch(place.folder);
        self.collect(id);
    }

    /// Whether something can be put into a folder: one that was removed and is still open takes nothing.
    fn is_in_place(&self, folder: NodeId) -> bool {
        folder == NodeId::ROOT || self.nodes.get(&folder).is_some_and(|inode| inode.parent.is_some())
    }

    /// Frees what is neither named nor open.
    fn collect(&mut self, id: NodeId) {
        let unused = |inode: &Inode| inode.parent.is_none() && inode.open == 0;
        if id == NodeId::ROOT || !self.nodes.get(&id).is_some_and(unused) {
            return;
        }
        if let Some(inode) = self.nodes.remove(&id) {
            let blocks = match inode.content {
                Content::File { blocks, .. } => blocks.len() as u64,
                Content::Folder(_) => 0,
            };
            self.used -= ENTRY_BYTES + blocks * BLOCK_BYTES;
        }
    }

    fn tick(&mut self) -> Duration {
        self.now += Duration::from_millis(1);
        self.now
    }

    fn touch(&mut self, id: NodeId) {
        let now = self.tick();
        if let Some(inode) = self.nodes.get_mut(&id) {
            inode.modified = now;
        }
    }
}

fn cost_of_name(name: &str) -> u64 {
    name.len() as u64
}

/// A span of a file, cut at its blocks: the part of the span, the block's number, and where in the block it begins.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (std::ops::Range<usize>, u64, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < length).then(|| {
            let at = offset + done as u64;
            let within = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
            let part = done..length.min(done + BLOCK_BYTES as usize - within);
            done = part.end;
            (part, at / BLOCK_BYTES, within)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CREATE: Opening = Opening { create: true, exclusive: false, truncate: false, directory: false, write: true };

    #[derive(Debug, Clone)]
    enum Step {
        Write { path: String, offset: u64, bytes: Vec<u8> },
        Cut { path: String, size: u64 },
        Folder(String),
        RemoveFile(String),
        RemoveFolder(String),
        Rename(String, String),
        Hold(String),
        Close,
    }

    fn path() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "c", "a/x", "a/y", "b/x", "a/x/z", "b/x/z"]).prop_map(str::to_owned)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (path(), 0_u64..20_000, prop::collection::vec(any::<u8>(), 0..6_000)).prop_map(|(path, offset, bytes)| Step::Write { path, offset, bytes }),
            1 => (path(), 0_u64..20_000).prop_map(|(path, size)| Step::Cut { path, size }),
            3 => path().prop_map(Step::Folder),
            1 => path().prop_map(Step::RemoveFile),
            1 => path().prop_map(Step::RemoveFolder),
            2 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
            1 => path().prop_map(Step::Hold),
            1 => Just(Step::Close),
        ]
    }

    /// What it costs by its definition: every named or held node, every block, every name.
    fn cost(scratch: &Scratch) -> u64 {
        scratch
            .nodes
            .values()
            .map(|inode| match &inode.content {
                Content::File { blocks, .. } => ENTRY_BYTES + blocks.len() as u64 * BLOCK_BYTES,
                Content::Folder(names) => ENTRY_BYTES + names.keys().map(|name| cost_of_name(name)).sum::<u64>(),
            })
            .sum::<u64>()
            - ENTRY_BYTES // the folder itself is free
    }

    /// A plain model: folders are paths that hold nothing, files are paths that hold bytes.
    type Model = BTreeMap<String, Option<Vec<u8>>>;

    fn parent_is_folder(model: &Model, path: &str) -> bool {
        path.rsplit_once('/').is_none_or(|(parent, _)| model.get(parent) == Some(&None))
    }

    fn has_children(model: &Model, path: &str) -> bool {
        model.keys().any(|other| other.starts_with(&format!("{path}/")))
    }

    fn follow(model: &mut Model, step: &Step) {
        match step {
            Step::Write { path, offset, bytes } => {
                let file = model.entry(path.clone()).or_insert_with(|| Some(Vec::new())).as_mut().expect("a file");
                let end = *offset as usize + bytes.len();
                if !bytes.is_empty() {
                    file.resize(file.len().max(end), 0);
                    file[*offset as usize..end].copy_from_slice(bytes);
                }
            }
            Step::Cut { path, size } => model.get_mut(path).and_then(Option::as_mut).expect("a file").resize(*size as usize, 0),
            Step::Folder(path) => assert_eq!(model.insert(path.clone(), None), None),
            Step::RemoveFile(path) | Step::RemoveFolder(path) => assert!(model.remove(path).is_some() && !has_children(model, path)),
            Step::Rename(from, to) if from == to => {}
            Step::Rename(from, to) => {
                model.remove(to);
                let moved: Vec<String> =
                    model.keys().filter(|path| *path == from || path.starts_with(&format!("{from}/"))).cloned().collect();
                for path in moved {
                    let content = model.remove(&path).expect("there");
                    model.insert(format!("{to}{}", &path[from.len()..]), content);
                }
            }
            Step::Hold(_) | Step::Close => {}
        }
    }

    proptest! {
        /// Whatever is done: the budget holds, the books are right, what succeeds is what a plain model says, what fails
        /// changes nothing, and nothing is left when everything is removed.
        #[test]
        fn it_does_what_a_plain_model_does_within_its_budget(limit in 0_u64..200_000, steps in prop::collection::vec(step(), 0..60)) {
            let mut scratch = Scratch::new(limit);
            let mut model = Model::new();
            let mut held = Vec::new();
            for step in steps {
                let before = scratch.used_bytes();
                let done = match &step {
                    Step::Write { path, offset, bytes } => scratch.open(NodeId::ROOT, path, CREATE).and_then(|id| {
                        let was_new = !model.contains_key(path);
                        let written = scratch.write(id, *offset, bytes);
                        if written.is_err() && was_new {
                            scratch.remove_file(NodeId::ROOT, path).expect("it was just made");
                        }
                        written
                    }),
                    Step::Cut { path, size } => scratch.find(NodeId::ROOT, path).and_then(|id| scratch.set_size(id, *size)),
                    Step::Folder(path) => scratch.create_folder(NodeId::ROOT, path),
                    Step::RemoveFile(path) => scratch.remove_file(NodeId::ROOT, path),
                    Step::RemoveFolder(path) => scratch.remove_folder(NodeId::ROOT, path),
                    Step::Rename(from, to) => scratch.rename(NodeId::ROOT, from, NodeId::ROOT, to),
                    Step::Hold(path) => scratch.find(NodeId::ROOT, path).map(|id| { scratch.hold(id); held.push(id); }),
                    Step::Close => { if let Some(id) = held.pop() { scratch.close(id); } Ok(()) }
                };
                prop_assert!(scratch.used_bytes() <= limit);
                prop_assert_eq!(scratch.used_bytes(), cost(&scratch));
                match done {
                    Ok(()) => {
                        if let Step::Write { path, .. } | Step::Folder(path) = &step {
                            prop_assert!(parent_is_folder(&model, path));
                        }
                        if let Step::Rename(from, to) = &step {
                            prop_assert!(model.contains_key(from) && parent_is_folder(&model, to));
                            prop_assert!(from == to || !has_children(&model, to));
                        }
                        follow(&mut model, &step);
                    }
                    Err(error) => {
                        prop_assert_eq!(scratch.used_bytes(), before, "{:?}", error);
                        if error == ScratchError::NoSpace {
                            prop_assert!(limit < 200_000);
                        }
                    }
                }
                for (path, content) in &model {
                    let id = scratch.find(NodeId::ROOT, path);
                    prop_assert!(id.is_ok(), "{} is lost", path);
                    if let (Ok(id), Some(content)) = (id, content) {
                        prop_assert_eq!(&scratch.read(id, 0, usize::MAX).expect("a file"), content);
                    }
                }
            }
            for (path, content) in model.iter().rev() {
                match content {
                    Some(_) => scratch.remove_file(NodeId::ROOT, path).expect("removed"),
                    None => scratch.remove_folder(NodeId::ROOT, path).expect("removed"),
                }
            }
            for id in held {
                scratch.close(id);
            }
            prop_assert_eq!((scratch.used_bytes(), scratch.nodes.len()), (0, 1));
        }
    }

    #[test]
    fn paths_stay_inside_and_mean_what_they_say() {
        let mut scratch = Scratch::new(1 << 20);
        scratch.create_folder(NodeId::ROOT, "d").expect("made");
        let folder = scratch.find(NodeId::ROOT, "d").expect("there");
        let file = scratch.open(folder, "f", CREATE).expect("made");
        for (path, meant) in [("d/f", Ok(file)), ("./d//f", Ok(file)), ("d/../d/f", Ok(file)), ("d/", Ok(folder)), (".", Ok(NodeId::ROOT))]
        {
            assert_eq!(scratch.find(NodeId::ROOT, path), meant, "{path}");
        }
        for (path, error) in [
            ("..", ScratchError::NotPermitted),
            ("d/../..", ScratchError::NotPermitted),
            ("/d", ScratchError::NotPermitted),
            ("", ScratchError::NoEntry),
            ("e/../d", ScratchError::NoEntry),
            ("d/f/", ScratchError::NotDirectory),
            ("d/f/g", ScratchError::NotDirectory),
        ] {
            assert_eq!(scratch.find(NodeId::ROOT, path), Err(error), "{path}");
        }
        assert_eq!(scratch.find(folder, "../d/f"), Err(ScratchError::NotPermitted), "a folder opens what is below it");
        assert_eq!(scratch.rename(NodeId::ROOT, "d", NodeId::ROOT, "d/e"), Err(ScratchError::Invalid));
        assert_eq!(scratch.remove_folder(NodeId::ROOT, "d"), Err(ScratchError::NotEmpty));
        let exclusive = Opening { exclusive: true, ..CREATE };
        assert_eq!(scratch.open(folder, "f", exclusive), Err(ScratchError::Exists));
    }

    #[test]
    fn a_file_that_lost_its_name_lives_while_it_is_open() {
        let mut scratch = Scratch::new(1 << 20);
        let file = scratch.open(NodeId::ROOT, "f", CREATE).expect("made");
        scratch.hold(file);
        scratch.write(file, 0, b"abc").expect("written");
        scratch.remove_file(NodeId::ROOT, "f").expect("removed");
        assert_eq!(scratch.read(file, 1, 10).expect("still there"), b"bc");
        scratch.close(file);
        assert_eq!((scratch.read(file, 0, 10), scratch.used_bytes()), (Err(ScratchError::NoEntry), 0));
    }

    #[test]
    fn a_hole_costs_nothing_and_reads_as_zeros() {
        let mut scratch = Scratch::new(2 * BLOCK_BYTES);
        let file = scratch.open(NodeId::ROOT, "f", CREATE).expect("made");
        scratch.set_size(file, 1 << 39).expect("grown");
        scratch.write(file, 1 << 38, b"x").expect("one block");
        assert_eq!(scratch.read(file, (1 << 38) - 1, 3).expect("read"), b"\0x\0");
        assert_eq!(scratch.write(file, 0, b"x"), Err(ScratchError::NoSpace));
        assert_eq!(scratch.set_size(file, u64::MAX), Err(ScratchError::FileTooLarge));
        assert_eq!(scratch.write(file, u64::MAX, b"x"), Err(ScratchError::FileTooLarge));
    }

    #[test]
    fn what_is_written_later_is_newer() {
        let mut scratch = Scratch::new(1 << 20);
        let first = scratch.open(NodeId::ROOT, "a", CREATE).expect("made");
        let second = scratch.open(NodeId::ROOT, "b", CREATE).expect("made");
        let modified = |scratch: &Scratch, id| scratch.stat(id).expect("there").modified;
        assert!(modified(&scratch, first) < modified(&scratch, second));
        scratch.write(first, 0, b"x").expect("written");
        assert!(modified(&scratch, first) > modified(&scratch, second));
        scratch.set_times(first, SetTime::Keep, SetTime::At(Duration::from_secs(7))).expect("set");
        assert_eq!(modified(&scratch, first), Duration::from_secs(7));
    }
}
