//! What a step works on: files that were read when the run was accepted, and artifacts of the steps that it needs.
//!
//! A list of inputs is kept as blobs of a bounded size, so that a task reads its own part of it, and a step of a million
//! tasks holds no list of a million.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use globset::GlobBuilder;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::journal::{self, Made, Store};
use crate::machine::Run;
use crate::model::artifact::INLINE_BYTES_MAX;
use crate::model::{Artifact, ArtifactRef, Digest, InputSource, RunId, Step};

/// How many inputs one blob of a list has.
const CHUNK: usize = 256;
/// How much content of one part is read ahead, in bytes; what is beyond is read when its turn comes.
const READ_AHEAD_BYTES: u64 = 4 << 20;
/// How much content of all parts is in memory on that account, in KiB.
const ROOM_KIB: usize = 64 << 10;
/// How many blobs of one answer, or of a part of a list, are kept at once: whoever else writes waits behind them.
const BLOBS_AT_ONCE: usize = 512;
/// How many bytes of blobs are kept at once; or one blob that is larger.
const BYTES_AT_ONCE: usize = 4 << 20;
/// How many inputs one task may have, as many as a plan may give it: the whole list is read for it at once.
const OF_ONE_TASK_MAX: u32 = 100_000;

/// A list of inputs: how many, and the blobs that name them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    count: u32,
    chunks: Vec<Digest>,
}

/// Keeps content for an event, or for a list: in itself as long as there is room, and beyond that as blobs, which share what it takes to
/// sync them.
pub(super) async fn keep(store: &dyn Store, artifacts: Vec<Artifact>) -> Result<Vec<ArtifactRef>, journal::Error> {
    let mut room = INLINE_BYTES_MAX;
    let mut refs = Vec::with_capacity(artifacts.len());
    let mut blobs = Vec::new();
    for artifact in artifacts {
        if artifact.content.len() <= room {
            room -= artifact.content.len();
            refs.push(ArtifactRef::inline(artifact));
        } else {
            let Artifact { name, media_type, content } = artifact;
            let size_bytes = content.len() as u64;
            blobs.push((refs.len(), content));
            let digest = Digest::from_bytes([0; 32]); // known below
            refs.push(ArtifactRef { name, media_type, digest, size_bytes, content: None });
        }
    }
    if !blobs.is_empty() {
        let (places, contents): (Vec<usize>, Vec<Bytes>) = blobs.into_iter().unzip();
        for (place, digest) in places.into_iter().zip(put_all(store, contents).await?) {
            refs[place].digest = digest;
        }
    }
    Ok(refs)
}

/// Keeps blobs some at once: one after another, each would wait for a sync of its own.
async fn put_all(store: &dyn Store, contents: Vec<Bytes>) -> Result<Vec<Digest>, journal::Error> {
    let mut digests = Vec::with_capacity(contents.len());
    let mut contents = contents.into_iter().peekable();
    loop {
        let part = next_blobs(&mut contents);
        if part.is_empty() {
            return Ok(digests);
        }
        digests.extend(part.iter().map(|(digest, _)| *digest));
        store.put_blobs(part).await?;
    }
}

/// As many of what is left as are kept at once.
fn next_blobs(contents: &mut std::iter::Peekable<impl Iterator<Item = Bytes>>) -> Vec<(Digest, Bytes)> {
    let (mut some, mut bytes) = (Vec::new(), 0);
    while let Some(content) =
        contents.next_if(|next| some.is_empty() || (some.len() < BLOBS_AT_ONCE && bytes + next.len() <= BYTES_AT_ONCE))
    {
        bytes += content.len();
        some.push((Digest::of(&content), content));
    }
    some
}

/// Keeps a list of files, contents and all.
pub(super) async fn keep_files(store: &dyn Store, files: Vec<Artifact>) -> Result<Digest, journal::Error> {
    let mut list = List::default();
    let mut files = files.into_iter();
    loop {
        let chunk: Vec<Artifact> = files.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return list.finish(store).await;
        }
        for reference in keep(store, chunk).await? {
            list.push(store, reference).await?;
        }
    }
}

/// Keeps a list of what is kept already.
pub(super) async fn keep_list(store: &dyn Store, inputs: impl Iterator<Item = ArtifactRef>) -> Result<Digest, journal::Error> {
    let mut list = List::default();
    for input in inputs {
        list.push(store, input).await?;
    }
    list.finish(store).await
}

/// A list that is being made.
#[derive(Default)]
struct List {
    count: u32,
    chunks: Vec<Digest>,
    /// Chunks that are closed, and not kept yet.
    closed: Vec<Bytes>,
    open: Vec<ArtifactRef>,
}

impl List {
    async fn push(&mut self, store: &dyn Store, input: ArtifactRef) -> Result<(), journal::Error> {
        self.count = self.count.saturating_add(1);
        self.open.push(input);
        if self.open.len() < CHUNK {
            return Ok(());
        }
        self.close()?;
        let bytes: usize = self.closed.iter().map(Bytes::len).sum();
        if bytes < BYTES_AT_ONCE { Ok(()) } else { self.flush(store).await }
    }

    fn close(&mut self) -> Result<(), journal::Error> {
        if !self.open.is_empty() {
            self.closed.push(json(&self.open)?.into());
            self.open.clear();
        }
        Ok(())
    }

    async fn flush(&mut self, store: &dyn Store) -> Result<(), journal::Error> {
        self.chunks.extend(put_all(store, std::mem::take(&mut self.closed)).await?);
        Ok(())
    }

    async fn finish(mut self, store: &dyn Store) -> Result<Digest, journal::Error> {
        self.close()?;
        self.flush(store).await?;
        store.put_blob(json(&Manifest { count: self.count, chunks: self.chunks })?.into()).await
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, journal::Error> {
    serde_json::to_vec(value).map_err(|error| journal::Error::Medium(error.to_string()))
}

async fn read<T: serde::de::DeserializeOwned>(store: &dyn Store, digest: &Digest) -> Result<T, journal::Error> {
    parse(&store.blob(digest).await?, digest)
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], digest: &Digest) -> Result<T, journal::Error> {
    serde_json::from_slice(bytes).map_err(|error| journal::Error::Medium(format!("the list of inputs {digest} does not parse: {error}")))
}

/// Every input of a list, without content.
pub(super) async fn described(store: &dyn Store, list: &Digest) -> Result<Vec<ArtifactRef>, journal::Error> {
    let manifest: Manifest = read(store, list).await?;
    let mut inputs = Vec::with_capacity(manifest.count as usize);
    for chunk in &manifest.chunks {
        let chunk = read::<Vec<ArtifactRef>>(store, chunk).await?;
        inputs.extend(chunk.into_iter().map(|input| ArtifactRef { content: None, ..input }));
    }
    Ok(inputs)
}

/// The input of a list at a place, without content; none behind its end.
pub(super) async fn described_at(store: &dyn Store, list: &Digest, place: u32) -> Result<Option<ArtifactRef>, journal::Error> {
    let manifest: Manifest = read(store, list).await?;
    let place = place as usize;
    let Some(chunk) = manifest.chunks.get(place / CHUNK) else { return Ok(None) };
    let found = read::<Vec<ArtifactRef>>(store, chunk).await?.into_iter().nth(place % CHUNK);
    Ok(found.map(|input| ArtifactRef { content: None, ..input }))
}

/// The input of a list that has a digest, with its content where that is small.
pub(super) async fn find(store: &dyn Store, list: &Digest, digest: &Digest) -> Result<Option<ArtifactRef>, journal::Error> {
    let manifest: Manifest = read(store, list).await?;
    for chunk in &manifest.chunks {
        let chunk = read::<Vec<ArtifactRef>>(store, chunk).await?;
        if let Some(found) = chunk.into_iter().find(|input| input.digest == *digest) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Every input of a list.
pub(super) async fn all(store: &dyn Store, list: &Digest) -> Result<Vec<ArtifactRef>, journal::Error> {
    let manifest: Manifest = read(store, list).await?;
    let mut inputs = Vec::with_capacity(manifest.count as usize);
    for chunk in &manifest.chunks {
        inputs.extend(read::<Vec<ArtifactRef>>(store, chunk).await?);
    }
    Ok(inputs)
}

/// The room for content that is read ahead of its turn, shared by all steps.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ROOM_KIB))
}

/// The inputs of a step that has started, read as its tasks ask for them.
#[derive(Debug)]
pub(super) struct Inputs {
    list: Digest,
    count: u32,
    room: Arc<Semaphore>,
    manifest: OnceLock<Manifest>,
    at_hand: Mutex<AtHand>,
}

/// The parts of a list that orders in line have, by their place in it.
#[derive(Debug, Default)]
struct AtHand {
    parts: HashMap<usize, Weak<Part>>,
    /// The first input that no order was made for.
    next: u32,
    /// The part that it is in, once an order has that.
    current: Option<Arc<Part>>,
}

/// A part of a list, once somebody has read it. It lives as long as there is an order for one of its inputs that is still in line, or will be: the
/// first has it read before their turn comes. A slot that waited for that would, on busy cores, wait for a millisecond.
#[derive(Debug, Default)]
pub(super) struct Part {
    inputs: OnceLock<Result<Vec<ArtifactRef>, journal::Error>>,
    ahead: OnceLock<Ahead>,
}

/// Content of the first inputs of a part that the list has no room for, by their place in it; and the room that it takes.
#[derive(Debug)]
struct Ahead {
    contents: HashMap<usize, Bytes>,
    _room: OwnedSemaphorePermit,
}

impl Part {
    /// Whether nobody has read it.
    pub(super) fn is_unread(&self) -> bool {
        self.inputs.get().is_none()
    }
}

impl Inputs {
    pub(super) fn new(list: Digest, count: u32, room: Arc<Semaphore>) -> Self {
        Self { list, count, room, manifest: OnceLock::new(), at_hand: Mutex::default() }
    }

    /// Every input.
    pub(super) async fn all(&self, store: &dyn Store) -> Result<Vec<ArtifactRef>, journal::Error> {
        all(store, &self.list).await
    }

    /// The part of the list that an input is in, read or not; and whether those behind it will want that part, too, who come in order and have not
    /// come yet. Gates and retries come when they do.
    pub(super) fn part(&self, index: u32) -> (Arc<Part>, bool) {
        let place = index as usize / CHUNK;
        let AtHand { parts, next, current } = &mut *self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.get(&place).and_then(Weak::upgrade).unwrap_or_else(|| {
            let part = Arc::new(Part::default());
            parts.insert(place, Arc::downgrade(&part));
            part
        });
        if index < *next {
            return (part, false);
        }
        let begins = current.as_ref().is_none_or(|current| !Arc::ptr_eq(current, &part));
        *next = index + 1;
        let is_last = (*next as usize).is_multiple_of(CHUNK) || *next >= self.count;
        *current = (!is_last).then(|| Arc::clone(&part));
        if begins {
            parts.retain(|_, part| part.strong_count() > 0);
        }
        (part, begins)
    }

    /// Reads the part that an input is in, unless it was.
    async fn read<'a>(&self, store: &dyn Store, index: u32, part: &'a Part) -> Result<&'a [ArtifactRef], journal::Error> {
        let inputs = match part.inputs.get() {
            Some(inputs) => inputs,
            None => {
                let digest = self.manifest(store).await?.chunks.get(index as usize / CHUNK).ok_or_else(|| self.missing(index))?;
                let bytes = store.blob(digest).await?;
                part.inputs.get_or_init(|| parse(&bytes, digest))
            }
        };
        inputs.as_deref().map_err(Clone::clone)
    }

    /// Reads the part that an input is in, and the content of it and of those behind it, all at once: each by itself would wait for a thread that
    /// reads. Where there is no room, or something is missing, each is read when its turn comes.
    pub(super) async fn read_ahead(&self, store: &dyn Store, index: u32, part: &Part) -> Result<(), journal::Error> {
        let inputs = self.read(store, index, part).await?;
        let mut bytes = 0_u64;
        let absent = inputs.iter().enumerate().skip(index as usize % CHUNK).filter(|(_, input)| input.content.is_none());
        let first = absent.take_while(|(_, input)| {
            bytes = bytes.saturating_add(input.size_bytes);
            bytes <= READ_AHEAD_BYTES
        });
        let first: Vec<(usize, &ArtifactRef)> = first.collect();
        let kib = first.iter().map(|(_, input)| input.size_bytes).sum::<u64>().div_ceil(1024);
        let room = u32::try_from(kib).ok().and_then(|kib| Arc::clone(&self.room).try_acquire_many_owned(kib).ok());
        if let (Some(room), false) = (room, first.is_empty()) {
            let contents = store.blobs(first.iter().map(|(_, input)| input.digest).collect()).await?;
            let contents = first.into_iter().map(|(place, _)| place).zip(contents).collect();
            part.ahead.get_or_init(|| Ahead { contents, _room: room });
        }
        Ok(())
    }

    /// One input, from the part that it is in; with its content where that is at hand.
    pub(super) async fn one(&self, store: &dyn Store, index: u32, part: &Part) -> Result<ArtifactRef, journal::Error> {
        let place = index as usize % CHUNK;
        let mut input = self.read(store, index, part).await?.get(place).ok_or_else(|| self.missing(index))?.clone();
        if input.content.is_none() {
            input.content = part.ahead.get().and_then(|ahead| ahead.contents.get(&place).cloned());
        }
        Ok(input)
    }

    fn missing(&self, index: u32) -> journal::Error {
        journal::Error::Medium(format!("the list of inputs {} has no place {index}", self.list))
    }

    async fn manifest(&self, store: &dyn Store) -> Result<&Manifest, journal::Error> {
        match self.manifest.get() {
            Some(manifest) => Ok(manifest),
            None => {
                let manifest = read(store, &self.list).await?;
                Ok(self.manifest.get_or_init(|| manifest))
            }
        }
    }
}

/// What it takes to find out the inputs of a step.
pub(super) struct Resolving {
    run: RunId,
    /// The id of the step.
    pub(super) id: String,
    foreach: bool,
    files: Option<Digest>,
    /// Steps that artifacts are taken from: the id, the place, where it started, and a glob on the artifacts' names.
    from: Vec<(String, u32, u64, Option<String>)>,
}

impl Resolving {
    pub(super) fn new(id: RunId, run: &Run, step: u32) -> Self {
        let of_step = &run.workflow.steps[step as usize];
        let needed: HashMap<&str, u32> = run.needs_of(step).collect();
        let from = sources(of_step).into_iter().filter_map(|(from, glob)| {
            let taken = run.stands_for(*needed.get(from)?).into_iter().filter_map(move |place| {
                let since = run.steps[place as usize].run()?.since_version;
                Some((run.workflow.steps[place as usize].id.clone(), place, since, glob.map(str::to_owned)))
            });
            Some(taken)
        });
        Self { run: id, id: of_step.id.clone(), foreach: of_step.foreach, files: run.files[step as usize], from: from.flatten().collect() }
    }

    /// Lists the inputs, keeps the list, and says how many tasks that makes; none where they are too many for one task.
    pub(super) async fn resolve(self, store: &dyn Store) -> Result<Option<(u32, Digest)>, journal::Error> {
        let tasks = |count: u32| if self.foreach { count } else { 1 };
        if let (Some(files), true) = (self.files, self.from.is_empty()) {
            return Ok(Some((tasks(read::<Manifest>(store, &files).await?.count), files)));
        }
        let mut list = List::default();
        if let Some(files) = &self.files {
            for file in all(store, files).await? {
                list.push(store, file).await?;
            }
        }
        for (from, place, since, glob) in &self.from {
            // A glob that was read with the workflow parses.
            let matcher = glob.as_deref().and_then(|glob| GlobBuilder::new(glob).literal_separator(true).build().ok());
            let matcher = matcher.map(|glob| glob.compile_matcher());
            for Made { index, work } in store.results(&self.run, *place, *since).await? {
                for artifact in store.work(&self.run, &work).await? {
                    if matcher.as_ref().is_none_or(|matcher| matcher.is_match(&artifact.name)) {
                        if !self.foreach && list.count == OF_ONE_TASK_MAX {
                            return Ok(None);
                        }
                        list.push(store, ArtifactRef { name: format!("{from}/{index}/{}", artifact.name), ..artifact }).await?;
                    }
                }
            }
        }
        Ok(Some((tasks(list.count), list.finish(store).await?)))
    }
}

/// Steps that a step takes artifacts from, with globs on their names: those named, or all that it needs.
fn sources(step: &Step) -> Vec<(&str, Option<&str>)> {
    if step.inputs.is_empty() {
        return step.needs.iter().map(|need| (need.as_str(), None)).collect();
    }
    let named = step.inputs.iter().filter_map(|input| match input {
        InputSource::Step { from, name } => Some((from.as_str(), name.as_deref())),
        InputSource::Files(_) => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Memory;

    #[test]
    fn blobs_are_kept_some_at_once_and_in_order() {
        for (bytes, at_once) in [(8, BLOBS_AT_ONCE), (1 << 20, 4), (5 << 20, 1)] {
            let contents = (0..3 * at_once + 1).map(|n| Bytes::from(n.to_le_bytes().repeat(bytes / 8)));
            let (mut left, mut kept) = (contents.clone().peekable(), Vec::new());
            for expected in [at_once, at_once, at_once, 1, 0] {
                let part = next_blobs(&mut left);
                assert_eq!(part.len(), expected, "of {bytes} bytes each");
                kept.extend(part);
            }
            assert!(kept.into_iter().eq(contents.map(|content| (Digest::of(&content), content))));
        }
    }

    /// Inputs of one size, most of which have no room in their list, and the list.
    async fn listed(store: &Memory, count: u32, bytes: usize) -> (Vec<Artifact>, Digest) {
        let made = |n: u32| Artifact { name: n.to_string(), media_type: String::new(), content: Bytes::from(format!("{n:0bytes$}")) };
        let files: Vec<Artifact> = (0..count).map(made).collect();
        let list = keep_files(store, files.clone()).await.expect("kept");
        (files, list)
    }

    #[tokio::test]
    async fn content_is_read_ahead_as_far_as_there_is_room_and_gives_it_back() {
        let (store, room) = (Memory::default(), room());
        let (files, list) = listed(&store, 600, 20_000).await;
        let inputs = Inputs::new(list, 600, Arc::clone(&room));
        let is_at_hand = async |index: u32, part: &Part| {
            let input = inputs.one(&store, index, part).await.expect("there");
            let is_at_hand = input.content.is_some();
            assert_eq!(store.artifacts(vec![input]).await.expect("read"), [files[index as usize].clone()]);
            is_at_hand
        };
        // As orders are made: 3 of 20,000 bytes have room in the list, and 209 more in what is read ahead.
        let mut line = Vec::new();
        for index in 0..256 {
            let (part, begins) = inputs.part(index);
            line.push(part);
            assert!(begins == (index == 0) && Arc::ptr_eq(&line[0], &line[index as usize]));
        }
        assert!(line[0].is_unread());
        inputs.read_ahead(&store, 0, &line[0]).await.expect("read");
        for (index, part) in (0..).zip(&line) {
            assert_eq!(is_at_hand(index, part).await, index < 3 + 209, "{index}");
        }
        assert_eq!(ROOM_KIB - room.available_permits(), (209_usize * 20_000).div_ceil(1024));
        drop(line);
        assert_eq!(room.available_permits(), ROOM_KIB, "nobody wants it any more");
        // The next one stays for those behind the first, whoever is tried again meanwhile; and so does the last, until all have come.
        for (first, last) in [(256, 511), (512, 599)] {
            inputs.read_ahead(&store, first, &inputs.part(first).0).await.expect("read");
            let (again, begins) = inputs.part(0);
            assert!(!begins && again.is_unread());
            assert!(room.available_permits() < ROOM_KIB && is_at_hand(last, &inputs.part(first + 1).0).await == (last == 599));
            drop(inputs.part(last));
            assert_eq!(room.available_permits(), ROOM_KIB);
        }
        // As after a restart: in the middle, with what is behind it.
        let inputs = Inputs::new(list, 600, Arc::clone(&room));
        let (part, begins) = inputs.part(400);
        inputs.read_ahead(&store, 400, &part).await.expect("read");
        let has = async |index: u32| inputs.one(&store, index, &part).await.expect("there").content.is_some();
        assert_eq!((begins, has(399).await, has(400).await, has(511).await), (true, false, true, true));
    }

    #[tokio::test]
    async fn without_room_out_of_order_and_with_something_missing_each_is_read_for_itself() {
        let (store, room) = (Memory::default(), Arc::new(Semaphore::new(100)));
        let (files, list) = listed(&store, 300, 20_000).await;
        let inputs = Inputs::new(list, 300, Arc::clone(&room));
        let (part, _) = inputs.part(0);
        inputs.read_ahead(&store, 0, &part).await.expect("read"); // 4 MiB in 100 KiB
        for (index, part) in [(200, part), (270, inputs.part(270).0)] {
            let input = inputs.one(&store, index, &part).await.expect("there");
            assert_eq!((input.content.is_none(), room.available_permits()), (true, 100));
            assert_eq!(store.artifacts(vec![input]).await.expect("read"), [files[index as usize].clone()]);
        }
        let gone = Digest::of(b"gone");
        let nothing = ArtifactRef { name: "a".into(), media_type: String::new(), digest: gone, size_bytes: 7, content: None };
        let inputs = Inputs::new(keep_list(&store, [nothing].into_iter()).await.expect("kept"), 1, Arc::clone(&room));
        let (part, _) = inputs.part(0);
        assert_eq!(inputs.read_ahead(&store, 0, &part).await, Err(journal::Error::BlobMissing(gone)));
        let input = inputs.one(&store, 0, &part).await.expect("it is listed");
        assert_eq!((store.artifacts(vec![input]).await, room.available_permits()), (Err(journal::Error::BlobMissing(gone)), 100));
    }

    #[tokio::test]
    async fn a_list_of_any_length_is_read_as_it_was_written() {
        let store = Memory::default();
        // Chunks of some 700 KiB, which are kept in more than one go; and files, most of which have no room in their list.
        let content = |n: usize| Bytes::from(format!("{n:02000}"));
        let made = |n: usize| Artifact { name: n.to_string(), media_type: String::new(), content: content(n) };
        let by_reference = keep_list(&store, (0..3000).map(|n| ArtifactRef::inline(made(n)))).await.expect("kept");
        let by_content = keep_files(&store, (0..3000).map(made).collect()).await.expect("kept");
        for list in [by_reference, by_content] {
            let read = all(&store, &list).await.expect("reads");
            assert_eq!(read.len(), 3000);
            for (n, read) in read.iter().enumerate() {
                assert_eq!((read.name.as_str(), store.content(read).await), (n.to_string().as_str(), Ok(content(n))));
            }
        }
    }
}
