//! Fixes, made by the host after the gates have ended: per file all that do not overlap, in one atomic replacement.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::Report;
use super::tree::{Tree, is_without_links};
use crate::model::{Edit, Fix};

/// What came of fixing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// How many fixes were made.
    pub made: usize,
    /// Files that were changed.
    pub files: Vec<String>,
    /// Files that could not be, and why.
    pub failed: Vec<(String, String)>,
}

/// Makes the fixes of a report; those that are not safe only where `also_unsafe`.
#[must_use]
pub fn fix(report: &Report, tree: &Tree, also_unsafe: bool) -> Fixed {
    let mut by_file: BTreeMap<&str, Vec<(&str, &Fix)>> = BTreeMap::new();
    for (_, found) in report.findings().filter(|(_, found)| found.excused.is_none()) {
        if let (Some(fix), Some(location)) = (&found.finding.fix, &found.finding.location)
            && (fix.safe || also_unsafe)
        {
            by_file.entry(&location.path).or_default().push((&found.finding.rule, fix));
        }
    }
    let mut fixed = Fixed::default();
    for (path, mut fixes) in by_file {
        let Ok(before) = tree.snapshot.content(path) else { continue };
        // Of fixes of one place the smaller is made first, as linters do: what is left of the other is known in the next round.
        fixes.sort_by_key(|(rule, fix)| {
            let (start, end) = (fix.edits.iter().map(|edit| edit.start).min(), fix.edits.iter().map(|edit| edit.end).max());
            (start, end, *rule)
        });
        let fixes: Vec<&Fix> = fixes.into_iter().map(|(_, fix)| fix).collect();
        let (after, made) = apply(&before, &fixes);
        let text = std::str::from_utf8(&before).ok();
        let unfit = fixes.iter().filter(|fix| edits_of(fix, &before, text).is_none()).count();
        if unfit > 0 {
            fixed.failed.push((
                path.to_owned(),
                format!("{} not made for this text", if unfit == 1 { "a fix was".to_owned() } else { format!("{unfit} fixes were") }),
            ));
        }
        if made == 0 {
            continue;
        }
        match replace(&tree.root, path, &before, &after) {
            Ok(()) => {
                fixed.made += made;
                fixed.files.push(path.to_owned());
            }
            Err(reason) => fixed.failed.push((path.to_owned(), reason)),
        }
    }
    fixed
}

/// The content with as many of the fixes as do not touch each other, and how many those are.
fn apply(before: &[u8], fixes: &[&Fix]) -> (Vec<u8>, usize) {
    // By their places, and how many were taken before: within a fix, edits of one place follow each other.
    let mut taken: BTreeMap<(usize, usize, usize), &str> = BTreeMap::new();
    let mut made = 0;
    let text = std::str::from_utf8(before).ok();
    for fix in fixes {
        let Some(edits) = edits_of(fix, before, text) else { continue };
        // Of those taken the ends are in the order of the beginnings: the last that begins before an edit's end is the one to look at.
        let before_end = |end: usize| taken.range(..=(end, usize::MAX, usize::MAX)).next_back();
        let clear = edits.iter().all(|(start, end, _)| before_end(*end).is_none_or(|((_, other_end, _), _)| other_end < start));
        if clear {
            let first = taken.len();
            taken.extend((first..).zip(edits).map(|(number, (start, end, replacement))| ((start, end, number), replacement)));
            made += 1;
        }
    }
    let (mut after, mut at) = (Vec::with_capacity(before.len()), 0);
    for ((start, end, _), replacement) in taken {
        after.extend_from_slice(before.get(at..start).unwrap_or_default());
        after.extend_from_slice(replacement.as_bytes());
        at = at.max(end);
    }
    after.extend_from_slice(before.get(at..).unwrap_or_default());
    (after, made)
}

/// The edits of a fix in their order, where they are for a text: within it, not within a character, and none over another.
fn edits_of<'f>(fix: &'f Fix, before: &[u8], text: Option<&str>) -> Option<Vec<(usize, usize, &'f str)>> {
    let edit = |edit: &'f Edit| Some((usize::try_from(edit.start).ok()?, usize::try_from(edit.end).ok()?, edit.replacement.as_str()));
    let mut edits = fix.edits.iter().map(edit).collect::<Option<Vec<_>>>()?;
    edits.sort_unstable();
    let is_whole = |at: usize| text.is_none_or(|text| text.is_char_boundary(at));
    let inside = |(start, end, _): &(usize, usize, &str)| start <= end && *end <= before.len() && is_whole(*start) && is_whole(*end);
    let in_order = edits.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    (!edits.is_empty() && edits.iter().all(inside) && in_order).then_some(edits)
}

/// Puts new content in the place of a file that is still what was judged: whole or not at all, with its permissions.
fn replace(root: &Path, name: &str, before: &[u8], after: &[u8]) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let path = &root.join(name);
    let metadata = std::fs::symlink_metadata(path).map_err(text)?;
    if !metadata.is_file() || !is_without_links(root, path) || std::fs::read(path).map_err(text)? != before {
        return Err("it changed since it was judged".to_owned());
    }
    let mut file = tempfile::Builder::new().prefix(".sandhog-").tempfile_in(path.parent().unwrap_or(Path::new("."))).map_err(text)?;
    file.write_all(after).map_err(text)?;
    // As it was: whose it is, and who may read it. What runs as its owner runs as nobody new.
    if std::os::unix::fs::fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid())).is_err() {
        let _ = std::os::unix::fs::fchown(file.as_file(), None, Some(metadata.gid())); // only root gives files away
    }
    file.as_file().set_permissions(std::fs::Permissions::from_mode(metadata.mode() & 0o777)).map_err(text)?;
    file.as_file().sync_all().map_err(text)?;
    file.persist(path).map_err(|error| error.error.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fix(edits: &[(u64, u64, &str)]) -> Fix {
        let edit = |&(start, end, text): &(u64, u64, &str)| Edit { start, end, replacement: text.into() };
        Fix { description: String::new(), edits: edits.iter().map(edit).collect(), safe: true }
    }

    #[test]
    fn fixes_that_touch_each_other_wait_and_a_fix_is_made_whole_or_not() {
        let (a, b, c) = (fix(&[(0, 1, "AA"), (4, 5, "")]), fix(&[(4, 6, "x")]), fix(&[(7, 7, "!")]));
        assert_eq!(apply(b"abcdefg", &[&a, &b, &c]), (b"AAbcdfg!".to_vec(), 2));
        let outside = fix(&[(0, 1, "x"), (5, 99, "y")]);
        assert_eq!(apply(b"abc", &[&outside]), (b"abc".to_vec(), 0));
        assert_eq!(apply(b"abc", &[&fix(&[(2, 1, "x")])]), (b"abc".to_vec(), 0));
        assert_eq!(apply("aé".as_bytes(), &[&fix(&[(2, 3, "")])]), ("aé".as_bytes().to_vec(), 0), "within a character");
        let crossed = fix(&[(2, 7, "y"), (0, 5, "x")]);
        assert_eq!(apply(b"abcdefgh", &[&crossed]), (b"abcdefgh".to_vec(), 0), "edits of one fix that overlap");
    }

    #[test]
    fn what_is_for_no_text_is_told_apart() {
        let fits = |edits: &[(u64, u64, &str)], text: &str| edits_of(&fix(edits), text.as_bytes(), Some(text)).is_some();
        assert!(fits(&[(0, 1, "x"), (1, 1, "y")], "ab"));
        for edits in [&[][..], &[(2, 1, "x")], &[(0, 3, "x")], &[(0, 2, "x"), (1, 2, "y")]] {
            assert!(!fits(edits, "ab"), "{edits:?}");
        }
    }

    proptest! {
        /// As by comparing each edit with all that were taken before.
        #[test]
        fn fixes_are_taken_in_their_order_as_long_as_none_touches_another(
            fixes in prop::collection::vec(prop::collection::vec((0_u64..24, 0_u64..4), 1..3), 0..12),
        ) {
            let fixes: Vec<Fix> = fixes.iter().map(|edits| {
                fix(&edits.iter().map(|(start, length)| (*start, (start + length).min(24), "x")).collect::<Vec<_>>())
            }).collect();
            let (mut taken, mut made): (Vec<(u64, u64)>, usize) = (Vec::new(), 0);
            for fix in &fixes {
                let mut edits: Vec<(u64, u64)> = fix.edits.iter().map(|edit| (edit.start, edit.end)).collect();
                edits.sort_unstable();
                let in_order = edits.windows(2).all(|pair| pair[0].1 <= pair[1].0);
                if in_order && edits.iter().all(|(start, end)| taken.iter().all(|other| end < &other.0 || other.1 < *start)) {
                    taken.extend(edits);
                    made += 1;
                }
            }
            let length = 24 + taken.len() as u64 - taken.iter().map(|(start, end)| end - start).sum::<u64>();
            let (after, told) = apply(&[b'a'; 24], &fixes.iter().collect::<Vec<_>>());
            prop_assert_eq!((after.len() as u64, told), (length, made));
        }
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        let path = root.join("a");
        std::fs::write(&path, "old").expect("writes");
        assert!(replace(&root, "a", b"other", b"new").is_err());
        assert_eq!(replace(&root, "a", b"old", b"new"), Ok(()));
        assert_eq!(std::fs::read(&path).expect("reads"), b"new");
        assert_eq!(std::fs::read_dir(&root).expect("reads").count(), 1, "nothing is left beside it");
        let elsewhere = tempfile::tempdir().expect("a folder");
        std::fs::write(elsewhere.path().join("b"), "old").expect("writes");
        std::os::unix::fs::symlink(elsewhere.path(), root.join("linked")).expect("links");
        assert!(replace(&root, "linked/b", b"old", b"new").is_err(), "by a link, out of the tree");
    }
}
