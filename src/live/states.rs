//! Who is told that a target's state has changed?
//!
//! The log and whoever follows the events, once for each change (`health::told` knows which are news).
//! Most changes come of an attempt and are told by who made it. Some come of time alone: a rest ends, a
//! breaker lets a probe through. Nobody would notice them where nobody asks, so the keeper waits for
//! the next of them ([`House::state_due`]) and has them told ([`House::tell_states`]). Not for targets
//! that no route names (`provider/model`): those are told when they are asked again.

use super::{House, Slot};
use crate::base::ids::TargetId;
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::health::{Change, Scope, Stance, Unit};
use crate::observe::events::Event;
use crate::observe::lines::TargetStateLine;
use crate::observe::rfc3339;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Least time between two looks: changes that come close together are told together.
const BREATH: Duration = Duration::from_millis(50);

/// When time alone changes a state next, and of whom the state was told that others share.
pub(super) struct Due {
    at: AtomicU64,
    sooner: Notify,
    /// By the unit's place in memory, which nobody else gets while it is held weakly.
    whose: Mutex<HashMap<usize, (Weak<Unit>, TargetId)>>,
}

impl Default for Due {
    fn default() -> Self {
        Due { at: AtomicU64::new(u64::MAX), sooner: Notify::new(), whose: Mutex::default() }
    }
}

impl Due {
    fn by(&self, at: Tick) {
        if self.at.fetch_min(at.0, Ordering::AcqRel) > at.0 {
            self.sooner.notify_one();
        }
    }

    /// Returns under which target a change is told. What a credential or an endpoint went through is
    /// told under one of the targets that share it, its end under the same.
    fn whose(&self, slot: &Slot, change: &Change) -> TargetId {
        let unit = match change.scope {
            Scope::Target => return slot.target.id.clone(),
            Scope::Credential => &slot.health.credential,
            Scope::Endpoint => &slot.health.endpoint,
        };
        let place = Arc::as_ptr(unit) as usize;
        let mut whose = self.whose.lock();
        let id = whose.get(&place).map_or(&slot.target.id, |(_, id)| id).clone();
        if change.to == Stance::READY {
            whose.remove(&place);
        } else {
            // Units that a reload took away rest for ever.
            whose.retain(|_, (unit, _)| unit.strong_count() > 0);
            whose.insert(place, (Arc::downgrade(unit), id.clone()));
        }
        id
    }
}

impl House {
    /// Writes the line of a change, and tells those who listen. `next` is who is asked instead.
    pub fn tell_state(&self, slot: &Slot, change: &Change, next: Option<&str>) {
        let now = self.clock.now();
        let target = self.states_due.whose(slot, change);
        // Whoever is overloaded is so behind other keys as well.
        let others_rest = change.reason == Outcome::Overloaded;
        if let Some(next) = change.until.map(|until| if others_rest { now.tick } else { until }) {
            self.states_due.by(next);
        }
        self.events.tell(
            now.wall,
            Event::TargetState {
                target: target.to_string(),
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
            target: target.as_str(),
            scope: change.scope.as_label(),
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

    /// Completes when [`House::tell_states`] has something to look for, and not before a breath.
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
