//! The limit on memory: one sum over all memories and tables of a store.
//!
//! wasmtime's own `StoreLimits` counts per memory and per table, so that a few kilobytes of component with many
//! instances take gigabytes. This limiter sums, remembers that it refused (which is how out-of-memory is told from any
//! other `unreachable`), and keeps the peak for the receipt.

use wasmtime::ResourceLimiter;

/// Linear memories in one store. A component of one module has one; the pool holds this many for every slot.
pub(super) const MEMORIES_MAX: usize = 4;
/// Tables in one store. A component of one module has two or three.
pub(super) const TABLES_MAX: usize = 6;
/// Core instances in one store. A component made from one Rust module has three.
pub(super) const INSTANCES_MAX: usize = 64;
/// Elements of one table: far above what a compiler makes of a large program.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 65_536;

/// What one table element takes on the host: a pointer.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Counts the bytes of all memories and tables of one store.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: usize,
    used: usize,
    peak: usize,
    last_growth: usize,
    refused: Option<Refused>,
}

/// What was refused last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The sum was too large.
    Memory,
    /// One table was.
    Table,
}

impl Limiter {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { limit: usize::try_from(limit_bytes).unwrap_or(usize::MAX), used: 0, peak: 0, last_growth: 0, refused: None }
    }

    /// Begins to count for the next task of an instance that keeps its memory.
    pub(super) fn begin_again(&mut self) {
        self.peak = self.used;
        self.refused = None;
    }

    /// Whether more than half of the limit is taken already.
    pub(super) fn is_half_full(&self) -> bool {
        self.used > self.limit / 2
    }

    /// The largest sum there was, in bytes.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak as u64
    }

    /// What growth was refused, if one was.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    fn grow(&mut self, bytes: usize) -> bool {
        match self.used.checked_add(bytes) {
            Some(sum) if sum <= self.limit => {
                self.used = sum;
                self.peak = self.peak.max(sum);
                self.last_growth = bytes;
                true
            }
            Some(_) | None => {
                self.refused = Some(Refused::Memory);
                self.last_growth = 0;
                false
            }
        }
    }

    /// A growth that was allowed did not happen after all.
    fn undo(&mut self) {
        self.used -= self.last_growth;
        self.last_growth = 0;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The pool has no room for more, and without a pool it is the same.
        if desired > TABLE_ELEMENTS_MAX {
            self.refused = Some(Refused::Table);
            self.last_growth = 0;
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However memories and tables grow, fail and are refused, the sum stays within the limit and the peak is its maximum.
        #[test]
        fn the_sum_never_passes_the_limit(limit in 0_u64..1 << 24, steps in prop::collection::vec((any::<bool>(), 0_usize..1 << 22, any::<bool>()), 0..64)) {
            let mut limiter = Limiter::new(limit);
            let (mut sum, mut peak) = (0_usize, 0_usize);
            for (table, growth, fails) in steps {
                let growth = if table { growth % (2 * TABLE_ELEMENTS_MAX) } else { growth };
                let bytes = if table { growth * TABLE_ELEMENT_BYTES } else { growth };
                let allowed = if table { limiter.table_growing(0, growth, None).expect("total") } else { limiter.memory_growing(0, growth, None).expect("total") };
                let has_room = !table || growth <= TABLE_ELEMENTS_MAX;
                prop_assert_eq!(allowed, has_room && (sum + bytes) as u64 <= limit);
                if allowed {
                    peak = peak.max(sum + bytes);
                    if fails { limiter.memory_grow_failed(wasmtime::format_err!("no")).expect("total"); } else { sum += bytes; }
                } else {
                    prop_assert_eq!(limiter.refused(), Some(if has_room { Refused::Memory } else { Refused::Table }));
                }
                prop_assert!(limiter.used as u64 <= limit);
                prop_assert_eq!(limiter.used, sum);
                prop_assert_eq!(limiter.peak_bytes(), peak as u64);
            }
        }
    }
}
