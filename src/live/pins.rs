//! Which target did an operator put first, on which route, and until when?
//!
//! A pin changes the order of choice and nothing else: on its route the target is asked before all
//! others, whatever its priority, while it may be used. While it rests, or where it cannot serve a
//! request, the others are asked in their own order, and when it fails they take over as ever: a pin
//! must not become an outage. Who wants a target alone disables the others.
//!
//! A route has at most one; a new pin takes the place of the old one. Pins are kept by name, so that
//! a reload leaves them where the route still has the target, and end with the process.

use crate::base::ids::TargetId;
use crate::base::time::Tick;
use crate::config::plan::{Plan, Route};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The pins of a process.
#[derive(Debug, Default)]
pub struct Pins {
    pins: Mutex<Vec<Pin>>,
    /// How many there are, so that a request where there are none takes no lock.
    count: AtomicUsize,
}

/// A target that is put first on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The route's name.
    pub route: Arc<str>,
    /// The target.
    pub target: TargetId,
    /// When it ends by itself, where it does.
    pub until: Option<Tick>,
}

impl Pins {
    /// Puts a target first on a route.
    pub fn put(&self, pin: Pin) {
        self.change(|pins| {
            pins.retain(|other| other.route != pin.route);
            pins.push(pin);
        });
    }

    /// Takes the pins of a target away.
    pub fn take(&self, target: &TargetId) {
        self.change(|pins| pins.retain(|pin| pin.target != *target));
    }

    /// Returns the target that is put first on a route now.
    #[must_use]
    pub fn first(&self, route: &str, now: Tick) -> Option<TargetId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let pins = self.pins.lock();
        pins.iter().find(|pin| *pin.route == *route && pin.is_good(now)).map(|pin| pin.target.clone())
    }

    /// Returns the pins of a target.
    #[must_use]
    pub fn of(&self, target: &TargetId, now: Tick) -> Vec<Pin> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.pins.lock().iter().filter(|pin| pin.target == *target && pin.is_good(now)).cloned().collect()
    }

    /// Drops the pins whose route or target a plan does not have any more.
    pub fn keep(&self, plan: &Plan) {
        self.change(|pins| {
            pins.retain(|pin| {
                plan.routes.iter().any(|route| route.name == pin.route && names(plan, route, &pin.target))
            });
        });
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Pin>)) {
        let mut pins = self.pins.lock();
        change(&mut pins);
        self.count.store(pins.len(), Ordering::Release);
    }
}

impl Pin {
    fn is_good(&self, now: Tick) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Tells whether a route names a target.
#[must_use]
pub fn names(plan: &Plan, route: &Route, target: &TargetId) -> bool {
    let mut targets = route.groups.iter().flat_map(|group| &group.entries).flat_map(|entry| &entry.targets);
    targets.any(|at| plan.target(*at).id == *target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(route: &str, model: &str, until: Option<u64>) -> Pin {
        Pin { route: route.into(), target: TargetId::new("p", "k", model), until: until.map(Tick) }
    }

    #[test]
    fn a_route_has_one_pin_which_ends_by_time_by_word_and_by_another() {
        let pins = Pins::default();
        let first = |route: &str, now: u64| pins.first(route, Tick(now)).map(|id| id.to_string());
        assert_eq!(first("chat", 0), None);
        pins.put(pin("chat", "a", None));
        pins.put(pin("code", "a", Some(10)));
        assert_eq!((first("chat", 99), first("code", 9), first("code", 10)), {
            let a = Some("p/k/a".to_owned());
            (a.clone(), a, None)
        });
        pins.put(pin("chat", "b", None));
        assert_eq!(first("chat", 0), Some("p/k/b".to_owned()));
        assert_eq!(pins.of(&TargetId::new("p", "k", "a"), Tick(0)).len(), 1);
        pins.take(&TargetId::new("p", "k", "b"));
        assert_eq!(first("chat", 0), None);
    }
}
