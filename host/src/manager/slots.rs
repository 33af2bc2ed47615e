//! The slots: so many calls at once, each taken from the line of those whose start is on record.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::Message;
use super::attempt::{Means, Order};
use crate::clock::Stopwatch;
use crate::journal::Scoreboard;

/// Steps of a doubling that latencies are told apart by.
const STEPS: u32 = 8;
/// Up to 2^32 microseconds, over an hour.
const BUCKETS: usize = 32 * STEPS as usize;

/// How long calls that were due and free slots waited for each other, in classes an eighth of a doubling wide.
#[derive(Debug)]
pub struct Latencies([AtomicU64; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Latencies {
    fn add(&self, latency: Duration) {
        let class = (latency.as_nanos() as f64 / 1000.0).max(1.0).log2() * f64::from(STEPS);
        self.0[(class as usize).min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// What so large a part (from 0 to 1) of the waits did not exceed, to about a tenth; nothing where there were none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total as f64 * part).ceil() as u64;
        let mut seen = 0;
        let class = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let micros = 2_f64.powf((class? + 1) as f64 / f64::from(STEPS));
        (total > 0).then(|| Duration::from_secs_f64(micros / 1e6))
    }
}

/// The bound of a run on how many of its calls execute at once. Those whose turn comes while so many do wait here, and take no slot.
#[derive(Debug)]
pub(super) struct Lane<T> {
    most: u32,
    /// How many execute, and who waits.
    calls: Mutex<(u32, VecDeque<T>)>,
}

impl<T> Lane<T> {
    pub(super) fn new(most: u32) -> Self {
        Self { most, calls: Mutex::default() }
    }

    /// A call whose turn has come, if it may execute now.
    pub(super) fn enter(&self, call: T) -> Option<T> {
        let (executing, waiting) = &mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if *executing < self.most {
            *executing += 1;
            return Some(call);
        }
        waiting.push_back(call);
        None
    }

    /// A call has ended: the one that executes in its place, if one waits.
    pub(super) fn leave(&self) -> Option<T> {
        let (executing, waiting) = &mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let next = waiting.pop_front();
        if next.is_none() {
            *executing -= 1;
        }
        next
    }
}

/// The slots of a manager.
pub(super) struct Slots {
    line: async_channel::Sender<(Stopwatch, Order)>,
    shared: Arc<Shared>,
    slots: JoinSet<()>,
}

struct Shared {
    means: Means,
    scoreboard: Scoreboard,
    draining: AtomicBool,
    /// Components that are not called for now.
    held_off: RwLock<HashSet<String>>,
    mailbox: mpsc::WeakSender<Message>,
    latencies: Arc<Latencies>,
    /// Told when a slot leaves nothing in line, or finds nothing.
    dry: Notify,
}

impl Slots {
    /// So many slots; on threads of their own where the workers have such.
    pub(super) fn start(
        count: usize,
        means: Means,
        scoreboard: Scoreboard,
        mailbox: mpsc::WeakSender<Message>,
        threads: Option<tokio::runtime::Handle>,
        latencies: Arc<Latencies>,
    ) -> Self {
        // As long as the window of starts on record, which bounds it.
        let (line, orders) = async_channel::unbounded();
        let (draining, held_off, dry) = (AtomicBool::new(false), RwLock::default(), Notify::new());
        let shared = Arc::new(Shared { means, scoreboard, draining, held_off, mailbox, latencies, dry });
        let mut slots = JoinSet::new();
        for number in 0..count {
            let slot = slot(number, orders.clone(), Arc::clone(&shared));
            match &threads {
                Some(threads) => slots.spawn_on(slot, threads),
                None => slots.spawn(slot),
            };
        }
        Self { line, shared, slots }
    }

    /// Puts an order in line.
    pub(super) fn take(&self, order: Order) {
        let _ = self.line.try_send((Stopwatch::start(), order));
    }

    /// Waits until a slot finds nothing in line; not at all where nothing is.
    pub(super) async fn run_dry(&self) {
        while !self.line.is_empty() {
            self.shared.dry.notified().await; // or was told before the latest orders came
        }
    }

    /// From now on orders for these components are handed back, and not carried out.
    pub(super) fn hold_off(&self, components: HashSet<String>) {
        *self.shared.held_off.write().unwrap_or_else(PoisonError::into_inner) = components;
    }

    /// From now on orders are handed back, and not carried out.
    pub(super) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
    }

    /// Ends every slot, and with it what it executes. What was under way when the host stopped in good order is not lost.
    pub(super) async fn stop(mut self) {
        self.line.close();
        self.slots.shutdown().await;
        self.shared.scoreboard.clear();
    }
}

async fn slot(number: usize, orders: async_channel::Receiver<(Stopwatch, Order)>, shared: Arc<Shared>) {
    let mut entered = false;
    let mut next = None;
    loop {
        let free = Stopwatch::start();
        let (waiting, order, lane) = match next.take() {
            Some(next) => next,
            None => {
                let (waiting, mut order) = match orders.try_recv() {
                    Ok(next) => next,
                    Err(_) => {
                        if std::mem::take(&mut entered) {
                            shared.scoreboard.leave(number);
                        }
                        shared.dry.notify_one();
                        let Ok(next) = orders.recv().await else { return };
                        next
                    }
                };
                if orders.is_empty() {
                    shared.dry.notify_one();
                }
                match order.standing.lane.take() {
                    None => (waiting, order, None),
                    Some(lane) => match lane.enter((waiting, order)) {
                        Some((waiting, order)) => (waiting, order, Some(lane)),
                        None => continue,
                    },
                }
            }
        };
        let (run, provider) = (order.run, order.provider.clone());
        let held_off = shared.held_off.read().unwrap_or_else(PoisonError::into_inner).contains(&*provider.component);
        let input = if held_off || order.standing.paused.load(Ordering::Acquire) || shared.draining.load(Ordering::Acquire) {
            order.hand_back()
        } else {
            shared.scoreboard.enter(number, order.executing());
            entered = true;
            shared.latencies.add(free.elapsed().min(waiting.elapsed()));
            order.carry_out(&shared.means).await
        };
        next = lane.and_then(|lane| lane.leave().map(|(waiting, order)| (waiting, order, Some(lane))));
        let Some(mailbox) = shared.mailbox.upgrade() else { return };
        if mailbox.send(Message::Ended { run, provider, input }).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Never more at once than may be, never fewer than could be, and in the order of their turns.
        #[test]
        fn a_lane_lets_so_many_through_in_order(most in 1_u32..5, ends in prop::collection::vec(any::<bool>(), 0..60)) {
            let lane = Lane::new(most);
            let (mut came, mut ended) = (0_u32, 0);
            let mut began = Vec::new();
            for ends in ends {
                if ends && came > ended {
                    ended += 1;
                    began.extend(lane.leave());
                } else {
                    began.extend(lane.enter(came));
                    came += 1;
                }
                prop_assert_eq!(began.len() as u32 - ended, most.min(came - ended));
                prop_assert!(began.iter().copied().eq(0..began.len() as u32));
            }
        }
    }

    #[test]
    fn quantiles_are_right_to_about_a_tenth() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for micros in 1..=1000 {
            latencies.add(Duration::from_micros(micros));
        }
        for (part, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let told = latencies.quantile(part).expect("some").as_secs_f64() * 1e6;
            assert!((exact..exact * 1.1).contains(&told), "{part}: {told}");
        }
    }
}
