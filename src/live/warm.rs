//! Which connections are opened before anybody needs them?
//!
//! A failover should cost no handshake. So where a route was used within `pool.warm_for`, the targets
//! that would come next have `pool.warm` connections ready: [`NEXT`] servers behind the first target
//! that can be used, which has connections from its own traffic. Not a target of the same server (it
//! shares those), nor one that rests, whose breaker is not closed, or that an operator took out.
//!
//! It is looked at once in [`LOOK_EVERY`], in a task of its own that begins with a route's first
//! request and ends when none was used of late; a request never waits for it, and the first look comes
//! after the first request has had its time. [`ALL_MAX`] connections at most in all, [`AT_ONCE`] opened
//! in one look, one after the other. A connection about to reach its idle limit counts no more, so that
//! the next stands before it goes. A server that could not be reached is left alone for
//! [`BACK_OFF`], twice as long after each further time, at most [`BACK_OFF_MAX`]; what health thinks
//! of it does not change, since nobody asked it anything.

use super::{House, Live, Slot};
use crate::base::ids::RouteIdx;
use crate::base::time::Tick;
use crate::observe::meter::WarmResult;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often it is looked at what is missing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many servers behind the one in use are kept ready, per route.
const NEXT: usize = 2;
/// Most connections that are kept ready.
const ALL_MAX: usize = 32;
/// Most connections that one look opens.
const AT_ONCE: usize = 4;
/// How long a server is left alone after it could not be reached.
const BACK_OFF: Duration = Duration::from_secs(5);
/// The longest that grows to.
const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// When a route was last used.
#[derive(Default)]
pub(super) struct LastUse(AtomicU64);

impl LastUse {
    /// Zero stands for never, so a tick is kept one later.
    fn note(&self, now: Tick) {
        self.0.store(now.0.saturating_add(1), Ordering::Relaxed);
    }

    fn is_within(&self, span: Duration, now: Tick) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            later => now.since(Tick(later - 1)) <= span,
        }
    }
}

/// Whether somebody keeps connections ready.
#[derive(Default)]
pub(super) struct Warmth(AtomicBool);

/// A target as the choice sees it.
#[derive(Clone, Copy)]
struct Place {
    way: u64,
    is_usable: bool,
}

/// Picks those to be kept ready, by their place in the order of a route.
fn next_in_line(line: &[Place]) -> Vec<usize> {
    let Some(first) = line.iter().position(|place| place.is_usable) else { return Vec::new() };
    let mut ways: Vec<u64> = line.get(first).map(|place| place.way).into_iter().collect();
    let mut next = Vec::new();
    for (at, place) in line.iter().enumerate().skip(first + 1) {
        if next.len() < NEXT && place.is_usable && !ways.contains(&place.way) {
            ways.push(place.way);
            next.push(at);
        }
    }
    next
}

/// How long a server is left alone after so many failures in a row.
fn back_off(failures: u32) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
    BACK_OFF.saturating_mul(doubled).min(BACK_OFF_MAX)
}

/// Servers that could not be reached: how often in a row, and until when they are left alone.
type Unreached = HashMap<u64, (u32, Tick)>;

impl House {
    /// Notes that a route was used, so that what may be needed next is made ready.
    pub fn route_used(self: &Arc<Self>, live: &Live, route: RouteIdx, now: Tick) {
        if live.plan.pool.warm == 0 {
            return;
        }
        let Some(used) = live.used.get(route.at()) else { return };
        used.note(now);
        if !self.warmth.0.load(Ordering::Relaxed) && !self.warmth.0.swap(true, Ordering::AcqRel) {
            tokio::spawn(keep_warm(Arc::downgrade(self)));
        }
    }
}

async fn keep_warm(house: Weak<House>) {
    let mut unreached = Unreached::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(house) = house.upgrade() else { return };
        if house.is_draining() || !look(&house, &mut unreached).await {
            house.warmth.0.store(false, Ordering::Release);
            return;
        }
    }
}

/// Opens what is missing; tells whether any route was used of late.
async fn look(house: &House, unreached: &mut Unreached) -> bool {
    let live = house.live();
    let now = house.clock.tick();
    let Some(wanted) = wanted(&live, now) else { return false };
    let each = usize::try_from(live.plan.pool.warm).unwrap_or(usize::MAX);
    let mut opened = 0;
    for slot in wanted.iter().take(ALL_MAX / each.max(1)) {
        let way = slot.way().key();
        if unreached.get(&way).is_some_and(|(_, until)| *until > now) {
            continue;
        }
        for _ in house.pools.ready(slot.way())..each {
            if opened == AT_ONCE {
                return true;
            }
            opened += 1;
            if let Err(fault) = slot.connect_ahead(&house.pools, &house.clock).await {
                tracing::debug!(target = %slot.target.id, ?fault, "no connection ahead");
                slot.meter.warm(WarmResult::Failed);
                let (failures, until) = unreached.entry(way).or_default();
                *failures = failures.saturating_add(1);
                *until = house.clock.tick().after(back_off(*failures));
                break;
            }
            slot.meter.warm(WarmResult::Opened);
            unreached.remove(&way);
        }
    }
    true
}

/// Returns one target for each server that is to be ready; nothing where no route was used of late.
fn wanted(live: &Live, now: Tick) -> Option<Vec<Arc<Slot>>> {
    let span = live.plan.pool.warm_for;
    let mut recent =
        live.plan.routes.iter().zip(&live.used).filter(|(_, used)| used.is_within(span, now)).peekable();
    recent.peek()?;
    let mut wanted: Vec<Arc<Slot>> = Vec::new();
    for (route, _) in recent {
        let entries = route.groups.iter().flat_map(|group| &group.entries);
        let slots: Vec<Arc<Slot>> = entries
            .flat_map(|entry| &entry.targets)
            .filter_map(|at| Some(live.slot(*at)?.in_force()))
            .collect();
        let line: Vec<Place> = slots.iter().map(|slot| place(slot, live, now)).collect();
        for slot in next_in_line(&line).into_iter().filter_map(|at| slots.get(at)) {
            if !wanted.iter().any(|known| known.way().key() == slot.way().key()) {
                wanted.push(Arc::clone(slot));
            }
        }
    }
    Some(wanted)
}

fn place(slot: &Slot, live: &Live, now: Tick) -> Place {
    let is_usable = slot.health.look(now, &live.policy).is_ok() && slot.health.is_closed(now, &live.policy);
    Place { way: slot.way().key(), is_usable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_servers_behind_the_first_usable_one_are_kept_ready() {
        // A letter is a server; a small one cannot be used now.
        let rows: [(&str, &[usize], &str); 9] = [
            ("", &[], "no targets"),
            ("A", &[], "nobody behind it"),
            ("AB", &[1], "the one behind"),
            ("ABCD", &[1, 2], "two at most"),
            ("AAB", &[2], "another target of the same server shares its connections"),
            ("ABB", &[1], "one server is made ready once"),
            ("AbC", &[2], "who rests is left alone"),
            ("aBC", &[2], "the first usable one is in use"),
            ("ab", &[], "nobody can be used"),
        ];
        for (line, expected, why) in rows {
            let line: Vec<Place> = line
                .chars()
                .map(|c| Place { way: u64::from(c.to_ascii_uppercase()), is_usable: c.is_ascii_uppercase() })
                .collect();
            assert_eq!(next_in_line(&line), expected, "{why}");
        }
    }

    #[test]
    fn a_server_that_cannot_be_reached_is_left_alone_for_longer_and_longer() {
        let rows = [(1, 5), (2, 10), (3, 20), (7, 300), (u32::MAX, 300)];
        for (failures, seconds) in rows {
            assert_eq!(back_off(failures), Duration::from_secs(seconds), "{failures}");
        }
    }

    #[test]
    fn a_route_is_in_use_for_a_while_after_its_last_request() {
        let used = LastUse::default();
        assert!(!used.is_within(Duration::from_secs(1), Tick(0)), "never used");
        used.note(Tick(0));
        let second = Duration::from_secs(1);
        assert!(used.is_within(second, Tick(0)));
        assert!(used.is_within(second, Tick(0).after(second)));
        assert!(!used.is_within(second, Tick(1).after(second)));
    }
}
