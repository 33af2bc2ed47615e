//! The guest's clocks: a virtual one by default, the machine's own where it is granted.
//!
//! Virtual time starts at a fixed date, moves on with every look at it, and jumps when the guest sleeps: nobody waits,
//! and two equal runs see equal times. Several sleepers wake in the order of their deadlines.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use super::state::State;

/// The wall clock that guests see at the start: 2020-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_577_836_800);
/// By how much time moves on at every look.
const LOOK_NS: u64 = 1_000;

#[derive(Debug, Default)]
struct Inner {
    now_ns: u64,
    /// Deadlines that are being waited for, with how many wait for each.
    waiting: BTreeMap<u64, usize>,
}

/// A clock that only the guest moves.
#[derive(Debug, Clone, Default)]
pub(super) struct VirtualClock(Arc<Mutex<Inner>>);

impl VirtualClock {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn look(&self) -> u64 {
        let mut inner = self.inner();
        inner.now_ns = inner.now_ns.saturating_add(LOOK_NS);
        inner.now_ns
    }
}

impl HostMonotonicClock for VirtualClock {
    fn resolution(&self) -> u64 {
        LOOK_NS
    }

    fn now(&self) -> u64 {
        self.look()
    }
}

impl HostWallClock for VirtualClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(LOOK_NS)
    }

    fn now(&self) -> Duration {
        EPOCH + Duration::from_nanos(self.look())
    }
}

/// Waits for a time on the virtual clock.
struct VirtualSleep {
    clock: VirtualClock,
    deadline_ns: u64,
}

/// Takes a sleeper off the list when its poll ends, however it ends.
struct Registered<'a>(&'a VirtualSleep);

impl<'a> Registered<'a> {
    fn new(sleep: &'a VirtualSleep) -> Self {
        *sleep.clock.inner().waiting.entry(sleep.deadline_ns).or_insert(0) += 1;
        Self(sleep)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.clock.inner();
        if let Some(count) = inner.waiting.get_mut(&self.0.deadline_ns) {
            *count -= 1;
            if *count == 0 {
                inner.waiting.remove(&self.0.deadline_ns);
            }
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for VirtualSleep {
    /// The first look only registers, so that whatever else the guest polls for, and is ready, comes first, and all
    /// sleepers of one poll are known; at the second, time jumps to the earliest deadline.
    async fn ready(&mut self) {
        let this = &*self;
        if this.clock.inner().now_ns >= this.deadline_ns {
            return tokio::task::yield_now().await; // or a guest that polls in a loop would own its thread
        }
        let _registered = Registered::new(this);
        let mut first = true;
        poll_fn(|cx| {
            let mut inner = this.clock.inner();
            let earliest = inner.waiting.keys().next().copied();
            if inner.now_ns >= this.deadline_ns || (!first && earliest == Some(this.deadline_ns)) {
                inner.now_ns = inner.now_ns.max(this.deadline_ns);
                return Poll::Ready(());
            }
            first = false;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl State {
    fn sleep_until(&mut self, clock: VirtualClock, deadline_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let sleep = self.table.push(VirtualSleep { clock, deadline_ns })?;
        subscribe(&mut self.table, sleep)
    }
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        match &self.virtual_clock {
            Some(clock) => Ok(clock.look()),
            None => self.clocks().now(),
        }
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        match &self.virtual_clock {
            Some(_) => Ok(LOOK_NS),
            None => self.clocks().resolution(),
        }
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        match self.virtual_clock.clone() {
            Some(clock) => self.sleep_until(clock, when),
            None => self.clocks().subscribe_instant(when),
        }
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        match self.virtual_clock.clone() {
            Some(clock) => {
                let deadline = clock.inner().now_ns.saturating_add(duration);
                self.sleep_until(clock, deadline)
            }
            None => self.clocks().subscribe_duration(duration),
        }
    }
}

/// Puts this clock in the place of wasmtime's.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    monotonic_clock::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleepers_wake_in_the_order_of_their_deadlines_and_nobody_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let clock = VirtualClock::default();
            let mut late = VirtualSleep { clock: clock.clone(), deadline_ns: 3_600_000_000_000 };
            let mut early = VirtualSleep { clock: clock.clone(), deadline_ns: 1_000_000_000 };
            let first = tokio::select! { biased; () = late.ready() => "late", () = early.ready() => "early" };
            assert_eq!(first, "early");
            assert_eq!(clock.inner().now_ns, 1_000_000_000);
            late.ready().await;
            assert_eq!(clock.inner().now_ns, 3_600_000_000_000);
            assert!(clock.inner().waiting.is_empty());
        });
    }
}
