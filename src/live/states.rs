//! Who is told that a target's state has changed?
//!
//! The log and whoever follows the events, once for each change (`health::told` knows which are news).
//! Most changes come of an attempt and are told by who made it. Some come of time alone: a rest ends, a
//! breaker lets a probe through. Nobody would notice them where nobody asks, so the keeper waits for
//! the next of them ([`House::state_due`]) and has them told ([`House::tell_states`]).

use super::{House, Slot};
use crate::base::time::Tick;
use crate::health::Change;
use crate::observe::events::Event;
use crate::observe::lines::TargetStateLine;
use crate::observe::rfc3339;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Least time between two looks: changes that come close together are told together.
const BREATH: Duration = Duration::from_millis(50);

/// When time alone changes a state next.
pub(super) struct Due {
    at: AtomicU64,
    sooner: Notify,
}

impl Default for Due {
    fn default() -> Self {
        Due { at: AtomicU64::new(u64::MAX), sooner: Notify::new() }
    }
}

impl Due {
    fn by(&self, at: Tick) {
        if self.at.fetch_min(at.0, Ordering::AcqRel) > at.0 {
            self.sooner.notify_one();
        }
    }
}

impl House {
    /// Writes the line of a change, and tells those who listen. `next` is who is asked instead.
    pub fn tell_state(&self, slot: &Slot, change: &Change, next: Option<&str>) {
        let now = self.clock.now();
        // Others may rest for the same reason, and the look finds when each of them ends.
        self.states_due.by(now.tick);
        self.events.tell(
            now.wall,
            Event::TargetState {
                target: slot.target.id.to_string(),
                scope: change.scope.as_label(),
                from: change.from,
                to: change.to,
                reason: change.reason.as_label(),
                until: change.until.map(|until| rfc3339(now.wall_of(until))),
                next: next.map(str::to_owned),
            },
        );
        self.log.target_state(&TargetStateLine {
            at: now.wall,
            target: slot.target.id.as_str(),
            from: change.from,
            to: change.to,
            reason: change.reason.as_label(),
            until: change.until.map(|until| now.wall_of(until)),
            next,
        });
    }

    /// Has all states looked at soon: one may have changed that nobody has told of.
    pub fn states_moved(&self) {
        self.states_due.by(self.clock.tick());
    }

    /// Completes when [`House::tell_states`] has something to look for.
    pub async fn state_due(&self) {
        tokio::time::sleep(BREATH).await;
        loop {
            let left = match self.states_due.at.load(Ordering::Acquire) {
                u64::MAX => None,
                at => Some(Tick(at).left(self.clock.tick())),
            };
            match left {
                None => self.states_due.sooner.notified().await,
                Some(left) if left.is_zero() => return,
                Some(left) => drop(tokio::time::timeout(left, self.states_due.sooner.notified()).await),
            }
        }
    }

    /// Tells every change that was not told yet.
    pub fn tell_states(&self) {
        self.states_due.at.store(u64::MAX, Ordering::Release);
        let (live, now) = (self.live(), self.clock.tick());
        for slot in &live.slots {
            for change in slot.health.news(now, &live.policy) {
                self.tell_state(slot, &change, None);
            }
            if let Some(at) = slot.health.next_change(now, &live.policy) {
                self.states_due.by(at);
            }
        }
    }
}
