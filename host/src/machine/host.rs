//! What the host remembers across runs: circuit breakers, and who of several providers gets the next call.
//!
//! The same three functions as for a run, over a stream of its own: [`Host::ended`] and [`Host::begin`] decide,
//! [`Host::apply`] folds. That a breaker is open, and until when, is on record and survives a restart; a streak of failures
//! that has not opened it counts anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::run::IllegalTransition;
use crate::clock::{Timestamp, after};
use crate::model::FailureKind;

/// When a breaker opens, and how it closes again. The words are those of the circuit breakers that people know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// How many failures in a row open it.
    pub consecutive_failures: u32,
    /// How long it stays open before it is probed.
    pub timeout: Duration,
    /// How many calls probe it at once.
    pub max_requests: u32,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { consecutive_failures: 5, timeout: Duration::from_secs(60), max_requests: 1 }
    }
}

/// How the next call finds its provider, where several provide the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Balance {
    /// The one that has the fewest calls under way.
    #[default]
    LeastBusy,
    /// Each in turn.
    RoundRobin,
}

/// A plugin that does the work of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The plugin's own name.
    pub name: Arc<str>,
    /// Its component and grants: what a breaker is kept for.
    pub component: Arc<str>,
    /// How many calls of it may be under way at once; absent means as many as the host allows.
    pub concurrency: Option<usize>,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// No call goes through.
    Open {
        /// Until then.
        until: Timestamp,
    },
    /// A few calls go through, and say whether it closes.
    HalfOpen,
}

/// A breaker that is not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// The plugin's name.
    pub plugin: String,
    /// How it stands.
    pub state: BreakerState,
}

/// What is counted of one component, and not on record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    streak: u32,
    probes: u32,
    under_way: usize,
}

/// What the host remembers.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The breakers that are not closed, by component.
    pub breakers: BTreeMap<String, Breaker>,
    /// The number of events applied.
    pub version: u64,
    policy: BreakerPolicy,
    balance: Balance,
    counts: HashMap<Arc<str>, Counts>,
    turns: HashMap<String, usize>,
}

impl Host {
    /// One that has nothing on record.
    #[must_use]
    pub fn new(policy: BreakerPolicy, balance: Balance) -> Self {
        Self { policy, balance, ..Self::default() }
    }

    /// Folds an event: live and on replay alike.
    ///
    /// # Errors
    /// When the event is one of a run.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalTransition> {
        let Event::BreakerChanged { component, plugin, to } = event else {
            return Err(IllegalTransition { event: event.name(), status: "the host", version: self.version });
        };
        match to {
            BreakerState::Closed => drop(self.breakers.remove(component)),
            BreakerState::Open { .. } | BreakerState::HalfOpen => {
                self.breakers.insert(component.clone(), Breaker { plugin: plugin.clone(), state: *to });
            }
        }
        self.version += 1;
        Ok(())
    }

    /// Whether a provider may be called now.
    #[must_use]
    pub fn admits(&self, provider: &Provider, now: Timestamp) -> bool {
        let counts = self.counts.get(&provider.component);
        let (under_way, probes) = counts.map_or((0, 0), |counts| (counts.under_way, counts.probes));
        if provider.concurrency.is_some_and(|most| under_way >= most) {
            return false;
        }
        match self.breakers.get(&*provider.component).map(|breaker| breaker.state) {
            None | Some(BreakerState::Closed) => true,
            Some(BreakerState::Open { until }) => until <= now,
            Some(BreakerState::HalfOpen) => probes < self.policy.max_requests,
        }
    }

    /// Whether a provider's breaker is not closed, so that each of its calls counts.
    #[must_use]
    pub fn is_watched(&self, provider: &Provider) -> bool {
        self.breakers.contains_key(&*provider.component)
    }

    /// Which of the providers that admit a call gets it, by its place; none where none does.
    #[must_use]
    pub fn choose(&mut self, name: &str, providers: &[Provider], now: Timestamp) -> Option<usize> {
        let admitted = |place: &usize| self.admits(&providers[*place], now);
        let chosen = match self.balance {
            Balance::LeastBusy => (0..providers.len())
                .filter(admitted)
                .min_by_key(|place| self.counts.get(&providers[*place].component).map_or(0, |counts| counts.under_way)),
            Balance::RoundRobin => {
                let first = self.turns.get(name).copied().unwrap_or_default();
                (0..providers.len()).map(|place| (first + place) % providers.len()).find(admitted)
            }
        }?;
        if self.balance == Balance::RoundRobin {
            self.turns.insert(name.to_owned(), chosen + 1);
        }
        Some(chosen)
    }

    /// A provider is about to be called: counts it, and says what that changes.
    pub fn begin(&mut self, provider: &Provider) -> Option<Event> {
        let counts = self.counts.entry(Arc::clone(&provider.component)).or_default();
        counts.under_way += 1;
        let state = self.breakers.get(&*provider.component).map(|breaker| breaker.state);
        match state {
            None | Some(BreakerState::Closed) => None,
            Some(BreakerState::Open { .. }) => {
                counts.probes = 1;
                Some(self.changed(provider, BreakerState::HalfOpen))
            }
            Some(BreakerState::HalfOpen) => {
                counts.probes += 1;
                None
            }
        }
    }

    /// A call has ended: with an answer, with a failure, or without saying anything of the provider. Says what that
    /// changes.
    pub fn ended(&mut self, provider: &Provider, outcome: Counted, now: Timestamp) -> Option<Event> {
        let policy = self.policy;
        let counts = self.counts.entry(Arc::clone(&provider.component)).or_default();
        counts.under_way = counts.under_way.saturating_sub(1);
        let state = self.breakers.get(&*provider.component).map_or(BreakerState::Closed, |breaker| breaker.state);
        let open = BreakerState::Open { until: after(now, policy.timeout) };
        match (state, outcome) {
            (BreakerState::Closed, Counted::Answer) => {
                counts.streak = 0;
                None
            }
            (BreakerState::Closed, Counted::Failure) => {
                counts.streak += 1;
                if counts.streak < policy.consecutive_failures {
                    return None;
                }
                counts.streak = 0;
                Some(self.changed(provider, open))
            }
            (BreakerState::HalfOpen, Counted::Answer) => {
                *counts = Counts { under_way: counts.under_way, ..Counts::default() };
                Some(self.changed(provider, BreakerState::Closed))
            }
            (BreakerState::HalfOpen, Counted::Failure) => {
                counts.probes = 0;
                Some(self.changed(provider, open))
            }
            (BreakerState::HalfOpen, Counted::Nothing) => {
                counts.probes = counts.probes.saturating_sub(1);
                None
            }
            // Calls that were under way when it opened say nothing new.
            (BreakerState::Closed, Counted::Nothing) | (BreakerState::Open { .. }, _) => None,
        }
    }

    /// The components that are not called for now.
    #[must_use]
    pub fn held_off(&self) -> HashSet<String> {
        let open = self.breakers.iter().filter(|(_, breaker)| matches!(breaker.state, BreakerState::Open { .. }));
        open.map(|(component, _)| component.clone()).collect()
    }

    /// When the next breaker may be probed; absent when none is open.
    #[must_use]
    pub fn next_timer(&self) -> Option<Timestamp> {
        let until = |breaker: &Breaker| match breaker.state {
            BreakerState::Open { until } => Some(until),
            BreakerState::Closed | BreakerState::HalfOpen => None,
        };
        self.breakers.values().filter_map(until).min()
    }

    fn changed(&self, provider: &Provider, to: BreakerState) -> Event {
        Event::BreakerChanged { component: provider.component.to_string(), plugin: provider.name.to_string(), to }
    }
}

/// What a call's end says of who was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Counted {
    Answer,
    Failure,
    Nothing,
}

impl Counted {
    /// What a failure says: `transient`, `trapped`, `deadline_exceeded` and `host` speak against the component. Bad input,
    /// spent fuel, cancellations and the rest are those of one task.
    #[must_use]
    pub fn of(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Transient | FailureKind::Trapped | FailureKind::DeadlineExceeded | FailureKind::Host => Self::Failure,
            FailureKind::InvalidInput
            | FailureKind::Permanent
            | FailureKind::Cancelled
            | FailureKind::OutOfFuel
            | FailureKind::MemoryLimit
            | FailureKind::StackOverflow
            | FailureKind::OutputLimit
            | FailureKind::HandleLimit
            | FailureKind::Exited
            | FailureKind::Denied
            | FailureKind::ContractViolation
            | FailureKind::Lost => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn provider(name: &str) -> Provider {
        Provider { name: name.into(), component: format!("sha256:{name}").into(), concurrency: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// Calls, and tells the outcome; the events are applied.
    fn call(host: &mut Host, provider: &Provider, outcome: Counted, now: i64) {
        assert!(host.admits(provider, at(now)));
        let began = host.begin(provider);
        began.iter().for_each(|event| host.apply(event).expect("fits"));
        let ended = host.ended(provider, outcome, at(now));
        ended.iter().for_each(|event| host.apply(event).expect("fits"));
    }

    #[test]
    fn five_failures_open_a_breaker_that_is_probed_once_and_closes() {
        let (bad, good) = (provider("bad"), provider("good"));
        let mut host = Host::new(BreakerPolicy::default(), Balance::default());
        for n in 0..5 {
            call(&mut host, &bad, Counted::Failure, n);
            call(&mut host, &good, Counted::Answer, n);
        }
        assert_eq!(host.next_timer(), Some(at(64)));
        assert!(!host.admits(&bad, at(63)) && host.admits(&good, at(63)), "others never notice");
        // Once its time has come, one call probes it; a failure holds it off again.
        assert!(host.admits(&bad, at(64)));
        let probing = host.begin(&bad).expect("half open");
        host.apply(&probing).expect("fits");
        assert!(!host.admits(&bad, at(64)), "one probe at a time");
        let failed = host.ended(&bad, Counted::Failure, at(65)).expect("open");
        host.apply(&failed).expect("fits");
        assert_eq!(host.next_timer(), Some(at(125)));
        call(&mut host, &bad, Counted::Answer, 125);
        assert_eq!((host.breakers.len(), host.admits(&bad, at(125))), (0, true));
        // A success in between starts the streak anew; what says nothing does not.
        for outcome in [Counted::Failure, Counted::Failure, Counted::Failure, Counted::Failure, Counted::Answer, Counted::Failure] {
            call(&mut host, &bad, outcome, 200);
        }
        for outcome in [Counted::Failure, Counted::Nothing, Counted::Failure, Counted::Failure, Counted::Failure] {
            call(&mut host, &bad, outcome, 200);
        }
        assert_eq!(host.breakers.len(), 1);
    }

    #[test]
    fn calls_go_to_the_least_busy_or_to_each_in_turn() {
        let providers = [provider("a"), provider("b"), Provider { concurrency: Some(1), ..provider("c") }];
        for (balance, expected) in [(Balance::LeastBusy, [0, 1, 2, 0, 1, 0]), (Balance::RoundRobin, [0, 1, 2, 0, 1, 0])] {
            let mut host = Host::new(BreakerPolicy::default(), balance);
            let mut chosen = Vec::new();
            for _ in 0..expected.len() {
                let place = host.choose("name", &providers, at(0)).expect("one");
                assert_eq!(host.begin(&providers[place]), None);
                chosen.push(place);
            }
            assert_eq!(chosen, expected, "{balance:?}");
        }
        // One that became free is the least busy.
        let mut host = Host::new(BreakerPolicy::default(), Balance::LeastBusy);
        for place in [0, 1, 0, 1] {
            host.begin(&providers[place]);
        }
        host.ended(&providers[1], Counted::Answer, at(0));
        host.begin(&providers[2]);
        assert_eq!(host.choose("name", &providers, at(0)), Some(1));
    }

    proptest! {
        /// Whatever is called and however it ends: never more under way than allowed, replay is the same, and a breaker
        /// always lets somebody through again.
        #[test]
        fn breakers_and_limits_hold(steps in prop::collection::vec((0_usize..3, 0_u8..4, 0_i64..30), 1..300)) {
            let providers = [provider("a"), provider("b"), Provider { concurrency: Some(2), ..provider("c") }];
            let mut host = Host::new(BreakerPolicy { timeout: Duration::from_secs(10), ..BreakerPolicy::default() }, Balance::LeastBusy);
            let (mut history, mut under_way, mut now) = (Vec::new(), [0_usize; 3], 0);
            for (place, what, wait) in steps {
                now += wait;
                let provider = &providers[place];
                let event = match what {
                    0 if host.admits(provider, at(now)) => { under_way[place] += 1; host.begin(provider) }
                    1..=3 if under_way[place] > 0 => {
                        under_way[place] -= 1;
                        host.ended(provider, [Counted::Answer, Counted::Failure, Counted::Nothing][what as usize - 1], at(now))
                    }
                    _ => None,
                };
                if let Some(event) = event {
                    host.apply(&event).expect("fits");
                    history.push(event);
                }
                prop_assert!(under_way[2] <= 2);
            }
            let mut replayed = Host::default();
            for event in &history {
                replayed.apply(event).expect("replays");
            }
            prop_assert_eq!(&replayed.breakers, &host.breakers);
            for (place, provider) in providers.iter().enumerate() {
                for _ in 0..under_way[place] {
                    let event = host.ended(provider, Counted::Nothing, at(now));
                    event.iter().for_each(|event| host.apply(event).expect("fits"));
                }
                prop_assert!(host.admits(provider, at(now + 11)), "held off for ever");
            }
        }
    }
}
