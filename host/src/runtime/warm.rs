//! Instances that have done a task and wait for the next one: of workers alone, where that is granted, and for so many tasks.
//!
//! The invariant: nothing that would run waits for an instance that idles. An idle one keeps the place in flight and the part of
//! the memory budget that its task was given, and loses them to whoever finds none free. What failed in any way is never kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wasmtime::Store;

use super::bindings::worker::WorkerPlugin;
use super::state::State;
use super::{Call, Plugin};
use crate::model::{Grant, Limits};

/// How long an instance waits for its next task, before it is given up.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A store, and what lives in it.
pub(super) struct Instance {
    pub(super) store: Store<State>,
    /// Once it is instantiated, where it is a worker.
    pub(super) worker: Option<WorkerPlugin>,
    /// How many tasks it has begun.
    pub(super) uses: u32,
}

/// What an attempt holds beside its place in flight, in permits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) memory: u32,
    pub(super) descriptors: u32,
}

/// A place in flight, and a part of what there is of memory and of descriptors.
pub(super) struct Places {
    _slot: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
    _descriptors: OwnedSemaphorePermit,
}

struct Idle {
    instance: Instance,
    places: Places,
    /// The state of an instance is its plugin's alone: it serves no other, not even one of the same code.
    plugin: Weak<Plugin>,
    grant: Arc<Grant>,
    limits: Limits,
    since: Instant,
}

/// The places of a runtime, and the instances that keep some of them though they do nothing.
pub(super) struct Warm {
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    descriptors: Arc<Semaphore>,
    idle: Mutex<Queue>,
    /// How many attempts wait for a place. While there are any, no instance is kept.
    waiting: AtomicUsize,
}

/// The instances that wait, the one that has waited longest in front.
#[derive(Default)]
struct Queue {
    idle: VecDeque<Idle>,
    /// Whether somebody looks for those that wait for too long: one at a time.
    is_swept: bool,
}

/// Counts one attempt that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Warm {
    pub(super) fn new(slots: usize, all: Share) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            memory: Arc::new(Semaphore::new(all.memory as usize)),
            descriptors: Arc::new(Semaphore::new(all.descriptors as usize)),
            idle: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Queue> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many instances wait for a task.
    pub(super) fn count(&self) -> usize {
        self.idle().idle.len()
    }

    /// A place in flight and its share of what there is, once there are; `None` when the runtime is gone.
    pub(super) async fn places(&self, share: Share) -> Option<Places> {
        let slot = self.acquire(&self.slots, 1).await?;
        let memory = self.acquire(&self.memory, share.memory).await?;
        let descriptors = self.acquire(&self.descriptors, share.descriptors).await?;
        Some(Places { _slot: slot, _memory: memory, _descriptors: descriptors })
    }

    /// How much memory nobody has reserved, in permits.
    pub(super) fn free_memory_permits(&self) -> usize {
        self.memory.available_permits()
    }

    async fn acquire(&self, of: &Arc<Semaphore>, permits: u32) -> Option<OwnedSemaphorePermit> {
        let at_once = || Arc::clone(of).try_acquire_many_owned(permits).ok();
        if let Some(permit) = at_once() {
            return Some(permit);
        }
        // Counted before anything is given up: whoever puts an instance back from here on finds that somebody waits.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        loop {
            let oldest = self.idle().idle.pop_front();
            let none_left = oldest.is_none();
            drop(oldest);
            if let Some(permit) = at_once() {
                return Some(permit);
            }
            if none_left {
                break;
            }
        }
        Arc::clone(of).acquire_many_owned(permits).await.ok()
    }

    /// An instance that may do one more task of a plugin, with its places, if one idles.
    pub(super) fn take(&self, plugin: &Arc<Plugin>, call: &Call) -> Option<(Instance, Places)> {
        let idle = &mut self.idle().idle;
        // The latest first: its memory is still in the processor's caches, and the others may go.
        let at = idle.iter().rposition(|idle| {
            idle.plugin.as_ptr() == Arc::as_ptr(plugin)
                && idle.limits == call.limits
                && (Arc::ptr_eq(&idle.grant, &call.grant) || idle.grant == call.grant)
        })?;
        idle.remove(at).map(|idle| (idle.instance, idle.places))
    }

    /// Keeps an instance for the next task of its plugin; unless somebody waits for its places.
    pub(super) fn put(self: &Arc<Self>, instance: Instance, places: Places, plugin: &Arc<Plugin>, call: &Call) {
        let kept = Idle {
            instance,
            places,
            plugin: Arc::downgrade(plugin),
            grant: Arc::clone(&call.grant),
            limits: call.limits,
            since: Instant::now(),
        };
        let mut queue = self.idle();
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(queue);
            return drop(kept);
        }
        queue.idle.push_back(kept);
        let is_swept = std::mem::replace(&mut queue.is_swept, true);
        drop(queue);
        if !is_swept {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }
}

/// Gives up what waited for too long, until nothing waits any more.
async fn sweep(warm: Weak<Warm>) {
    loop {
        tokio::time::sleep(IDLE_MAX / 4).await;
        let Some(warm) = warm.upgrade() else { return };
        let mut queue = warm.idle();
        let keeps = |idle: &Idle| idle.since.elapsed() < IDLE_MAX && idle.plugin.strong_count() > 0;
        let fresh = queue.idle.iter().position(keeps).unwrap_or(queue.idle.len());
        let old: Vec<Idle> = queue.idle.drain(..fresh).collect();
        queue.is_swept = !queue.idle.is_empty();
        let goes_on = queue.is_swept;
        drop(queue);
        drop(old);
        if !goes_on {
            return;
        }
    }
}
