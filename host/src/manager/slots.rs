//! The slots: so many calls at once, each taken from the line of those whose start is on record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Message;
use super::attempt::{Means, Order};
use crate::journal::Scoreboard;

/// The slots of a manager.
pub(super) struct Slots {
    line: async_channel::Sender<(Order, String)>,
    shared: Arc<Shared>,
    slots: JoinSet<()>,
}

struct Shared {
    means: Means,
    scoreboard: Scoreboard,
    draining: AtomicBool,
    mailbox: mpsc::WeakSender<Message>,
}

impl Slots {
    /// So many slots; on threads of their own where the workers have such.
    pub(super) fn start(
        count: usize,
        means: Means,
        scoreboard: Scoreboard,
        mailbox: mpsc::WeakSender<Message>,
        threads: Option<tokio::runtime::Handle>,
    ) -> Self {
        // As long as the window of starts on record, which bounds it.
        let (line, orders) = async_channel::unbounded();
        let shared = Arc::new(Shared { means, scoreboard, draining: AtomicBool::new(false), mailbox });
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
    pub(super) fn take(&self, order: Order, plugin: String) {
        let _ = self.line.try_send((order, plugin));
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

async fn slot(number: usize, orders: async_channel::Receiver<(Order, String)>, shared: Arc<Shared>) {
    let mut entered = false;
    loop {
        let next = match orders.try_recv() {
            Ok(next) => next,
            Err(_) => {
                if std::mem::take(&mut entered) {
                    shared.scoreboard.leave(number);
                }
                let Ok(next) = orders.recv().await else { return };
                next
            }
        };
        let (order, plugin) = next;
        let run = order.run;
        let input = if shared.draining.load(Ordering::Acquire) {
            None
        } else {
            shared.scoreboard.enter(number, order.executing());
            entered = true;
            Some(order.carry_out(&shared.means).await)
        };
        let Some(mailbox) = shared.mailbox.upgrade() else { return };
        if mailbox.send(Message::Ended { run, plugin, input }).await.is_err() {
            return;
        }
    }
}
