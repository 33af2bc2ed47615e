//! Whose turn it is: how far ahead calls are put on record, and which run gets the next free place.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::model::RunId;

/// The most calls that are on record as started, executing or next in line, and once more those that wait for the bounds of their own
/// runs: bounds memory, and what a crash runs again.
pub const AHEAD_MAX: usize = 4096;

/// How many calls may be on record as started, given how many might be before and how many ended in the last turn of the loop: four times
/// those. As many end again while the next starts are being synced, of which nobody knows yet, and as many until the turn after that. A turn
/// in which few ended takes it back by a quarter only: it may have come right behind another. Never fewer than may execute at once; where one
/// ends at a time, as those do that take long, up to three more.
#[must_use]
pub fn ahead(before: usize, ended: usize, concurrency: usize) -> usize {
    (ended * 4).max(before - before / 4).clamp(concurrency, AHEAD_MAX.max(concurrency))
}

/// Runs that may have something to start, in the order of their turns: the lower priority number first, and among equals
/// the one that has the fewest calls under way.
#[derive(Debug, Default)]
pub struct Turns(BinaryHeap<Reverse<(u8, u32, RunId)>>);

impl Turns {
    /// Puts a run in line.
    pub fn push(&mut self, run: RunId, priority: u8, under_way: u32) {
        self.0.push(Reverse((priority, under_way, run)));
    }

    /// Whose turn it is, with its priority and how many calls it has under way.
    pub fn pop(&mut self) -> Option<(RunId, u8, u32)> {
        self.0.pop().map(|Reverse((priority, under_way, run))| (run, priority, under_way))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn slots_that_run_dry_have_more_put_on_record_and_slow_ones_do_not() {
        assert_eq!([ahead(4, 0, 4), ahead(4, 1, 4), ahead(1, 0, 1), ahead(1, 1, 1)], [4, 4, 1, 4]);
        let mut window = 4;
        for _ in 0..20 {
            window = ahead(window, window, 4); // everything ended within the turn
        }
        assert_eq!(window, AHEAD_MAX);
        assert!(ahead(window, 2, 4) > AHEAD_MAX / 2); // a short turn behind another
        for _ in 0..30 {
            window = ahead(window, 1, 4);
        }
        assert_eq!(window, 4);
        assert_eq!(ahead(4, 5, 10_000), 10_000);
    }

    proptest! {
        /// Runs of one priority share the places equally, as long as each has work; a better priority comes first.
        #[test]
        fn a_long_run_does_not_starve_a_short_one(works in prop::collection::vec((1_u8..4, 1_u32..200), 2..8), places in 1_u32..100) {
            let mut left: Vec<u32> = works.iter().map(|(_, work)| *work).collect();
            let mut got = vec![0_u32; works.len()];
            let mut turns = Turns::default();
            for (n, (priority, _)) in works.iter().enumerate() {
                turns.push(id(n as u128), *priority, 0);
            }
            for _ in 0..places {
                let Some((run, priority, under_way)) = turns.pop() else { break };
                let n = run.0.as_u128() as usize;
                left[n] -= 1;
                got[n] += 1;
                if left[n] > 0 {
                    turns.push(run, priority, under_way + 1);
                }
            }
            for a in 0..works.len() {
                for b in 0..works.len() {
                    if works[a].0 < works[b].0 {
                        prop_assert!(left[a] == 0 || got[b] == 0, "a worse priority was served while a better one waited");
                    } else if works[a].0 == works[b].0 && left[a] > 0 {
                        prop_assert!(got[b] <= got[a] + 1, "one run got more than its share");
                    }
                }
            }
        }
    }
}
