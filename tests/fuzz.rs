//! Readers of foreign bytes, as properties: every seed, and seeds that were changed at random, cut, spliced and doubled.
//!
//! `SANDHOG_TEST_EXECUTIONS` is how many inputs the cheapest target is given (2,000); dear ones have fewer. What fails is shrunk and
//! written into the build folder: once it is mended, it becomes a seed. `tests/fuzz` has the targets, and a package for cargo-fuzz.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestError, TestRunner};

#[path = "fuzz/targets.rs"]
mod targets;

use targets::{TARGETS, Target};

/// What texts are made of that are read here: changes insert these, too.
const WORDS: &[&[u8]] = &[
    b"[[step]]\n",
    b"id = ",
    b"\"",
    b"'''",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\n",
    b"\r\n",
    b"\0",
    b"=",
    b",",
    b".",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"\xf0\x9f\x92\xa9",
    b"../",
    b"*",
    b"**/",
    b"://",
    b"%2e",
    b"@",
    b":0",
    b"[::1]",
    b"0x7f",
    b"null",
    b"true",
    b"<",
    b"]]>",
    b"&x;",
    b"<!DOCTYPE a [",
    b"\xe3\x80\x82",
    b"xn--",
    b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n",
];

/// One change.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    Word(Index, Index),
    Double(Index, u8),
    Splice(Index, Index, Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<Index>;
    let change = prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(place, bit)| Change::Flip(place, bit)),
        4 => (at(), any::<u8>()).prop_map(|(place, byte)| Change::Set(place, byte)),
        1 => at().prop_map(Change::Cut),
        3 => (at(), any::<u8>()).prop_map(|(place, length)| Change::Remove(place, length)),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(place, bytes)| Change::Insert(place, bytes)),
        6 => (at(), at()).prop_map(|(place, word)| Change::Word(place, word)),
        3 => (at(), any::<u8>()).prop_map(|(place, length)| Change::Double(place, length)),
        2 => (at(), at(), at()).prop_map(|(place, seed, from)| Change::Splice(place, seed, from)),
    ];
    prop::collection::vec(change, 0..12)
}

fn changed(seeds: &[Vec<u8>], seed: Index, changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.get(seeds).clone();
    for change in changes {
        let length = bytes.len();
        let place = |place: &Index| place.index(length + 1);
        let stretch = |at: &Index, bytes: u8| place(at)..(place(at) + usize::from(bytes)).min(length);
        match change {
            Change::Flip(at, bit) => bytes.get_mut(place(at)).into_iter().for_each(|byte| *byte ^= 1 << bit),
            Change::Set(at, new) => bytes.get_mut(place(at)).into_iter().for_each(|byte| *byte = *new),
            Change::Cut(at) => bytes.truncate(place(at)),
            Change::Remove(at, most) => drop(bytes.drain(stretch(at, *most))),
            Change::Insert(at, new) => drop(bytes.splice(place(at)..place(at), new.iter().copied())),
            Change::Word(at, word) => drop(bytes.splice(place(at)..place(at), word.get(WORDS).iter().copied())),
            Change::Double(at, most) => {
                let again = bytes[stretch(at, *most)].to_vec();
                drop(bytes.splice(place(at)..place(at), again));
            }
            Change::Splice(at, seed, from) => {
                let other = seed.get(seeds);
                bytes.truncate(place(at));
                bytes.extend(&other[from.index(other.len() + 1)..]);
            }
        }
    }
    bytes
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("reads")).collect();
    assert!(!seeds.is_empty(), "{} has no seeds", folder.display());
    seeds
}

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = seeds(target);
    for seed in &seeds {
        (target.run)(seed);
    }
    let executions = std::env::var("SANDHOG_TEST_EXECUTIONS").map_or(2_000, |number| number.parse::<u32>().expect("a number"));
    let config =
        Config { cases: (executions / target.cost).max(1), failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let last = RefCell::new(Vec::new());
    let outcome = TestRunner::new(config).run(&(any::<Index>(), changes()), |(seed, changes)| {
        let bytes = changed(&seeds, seed, &changes);
        last.replace(bytes.clone());
        (target.run)(&bytes);
        Ok(())
    });
    let Err(error) = outcome else { return };
    let bytes = match &error {
        TestError::Fail(_, (seed, changes)) => changed(&seeds, *seed, changes),
        TestError::Abort(_) => last.take(),
    };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
    std::fs::write(&path, &bytes).expect("written");
    panic!("{name}: {error}\nthe input is {}: {:?}", path.display(), String::from_utf8_lossy(&bytes));
}

#[test]
fn every_folder_of_seeds_is_of_a_target() {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds")).expect("seeds");
    for folder in folders {
        let name = folder.expect("an entry").file_name();
        assert!(TARGETS.iter().any(|target| *target.name == *name), "{name:?} is of no target");
    }
}

/// A test for each target; one without does not compile.
macro_rules! fuzzed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*
        const _: () = assert!([$(stringify!($name)),*].len() == TARGETS.len(), "a target has no test");
    };
}

fuzzed!(component metadata manifest workflow plan configuration case baseline record history journal allowlist limits text command evidence advisories bodies requests frames);
