//! The request as others are told of it: failovers and rescues as events, one line of the audit log.
//!
//! A change of target is told as soon as the answer of the next one begins, and at the end for what
//! came after: a stream may run for minutes. Each is told once.

use super::Story;
use crate::base::outcome::Outcome;
use crate::exchange::{Cause, Record};
use crate::live::{House, Live, Slot};
use crate::observe::audit::Decision;
use crate::observe::events::Event;
use crate::observe::metrics::RescueResult;
use std::sync::Arc;

impl Story {
    /// Tells the changes of target that came before the answer that begins now.
    pub(super) fn chronicle(&mut self, house: &House, slots: &[Arc<Slot>], records: &[Record]) {
        if let Some(live) = &self.live {
            self.tell_moves(house, live, slots, records);
        }
        self.chronicled = records.len();
    }

    /// Tells what was not told yet, and writes the request into the audit log.
    pub(super) fn record(&self, house: &House, live: &Live, (status, dur_ms): (u16, u64), trail: &str) {
        self.tell_moves(house, live, &self.slots, &self.records);
        if !house.audit.is_on() {
            return;
        }
        let last = self.answering();
        let slot = last.and_then(|record| self.slots.get(record.candidate));
        house.audit.decision(&Decision {
            at: house.clock.wall(),
            id: self.id(),
            route: self.route.map(|at| &*live.plan.route(at).name),
            client: self.client.and_then(|at| live.plan.clients.get(at.at())).map(|c| &*c.name),
            target: slot.map(|slot| slot.target.id.as_str()),
            outcome: last.map(|record| record.outcome.as_label()),
            trail,
            attempts: super::contacts(&self.records),
            status,
            dur_ms,
            generation: live.generation,
        });
    }

    /// Tells that a stream broke, and what came of taking it up.
    pub(super) fn tell_rescue(&self, house: &House, live: &Live, result: RescueResult) {
        let (route, request_id) = (self.route_name(live), self.id().to_owned());
        let event = Event::Rescue { route, result: result.as_label(), request_id, requests: 1 };
        house.events.tell(house.clock.wall(), event);
    }

    fn tell_moves(&self, house: &House, live: &Live, slots: &[Arc<Slot>], records: &[Record]) {
        if records.len() < 2 || self.chronicled >= records.len() {
            return;
        }
        for change in moves(slots, records).filter(|change| change.at >= self.chronicled) {
            let event = Event::Failover {
                route: self.route_name(live),
                from: change.from.target.id.to_string(),
                to: change.to.target.id.to_string(),
                reason: change.reason.as_label(),
                request_id: self.id().to_owned(),
                requests: 1,
            };
            house.events.tell(house.clock.wall(), event);
        }
    }

    fn route_name(&self, live: &Live) -> Option<String> {
        Some(live.plan.route(self.route?).name.to_string())
    }
}

/// A change of target.
pub(super) struct Move<'a, T> {
    /// Which record began it.
    at: usize,
    /// Who failed.
    pub(super) from: &'a Arc<T>,
    /// Who was asked next.
    pub(super) to: &'a Arc<T>,
    /// How the one before failed.
    pub(super) reason: Outcome,
}

/// Returns the changes of target. A stream that its own target takes up, or that begins anew where it
/// could not be gone on from, has changed none.
pub(super) fn moves<'a, T>(
    slots: &'a [Arc<T>],
    records: &'a [Record],
) -> impl Iterator<Item = Move<'a, T>> + use<'a, T> {
    let mut before: Option<(&Arc<T>, Outcome)> = None;
    records.iter().enumerate().filter_map(move |(at, record)| {
        // Who was called off has no outcome that another could have followed.
        let to = slots.get(record.candidate).filter(|_| !record.is_called_off)?;
        let (from, reason) = before.replace((to, record.outcome))?;
        let is_move = record.cause == Cause::Failover || record.cause.is_rescue();
        (is_move && !Arc::ptr_eq(from, to)).then_some(Move { at, from, to, reason })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Tick;

    #[test]
    fn a_move_is_from_one_target_to_another() {
        let record = |candidate, cause, is_called_off| Record {
            candidate,
            cause,
            began: Tick(1),
            ended: Tick(2),
            first_content: None,
            outcome: Outcome::Reset,
            status: None,
            timed_out: false,
            is_called_off,
            is_unsaid: false,
        };
        let first = record(0, Cause::First, false);
        for (records, want, why) in [
            (vec![first, record(1, Cause::Failover, false)], vec![(1, 0, 1)], "a failover"),
            (vec![first, record(0, Cause::Repeat, false)], vec![], "a repeat"),
            (vec![first, record(0, Cause::Restart, false)], vec![], "its own target takes a stream up"),
            (
                vec![first, record(1, Cause::Continue, false), record(1, Cause::Restart, false)],
                vec![(1, 0, 1)],
                "a target that refused to go on begins anew",
            ),
            (
                vec![first, record(1, Cause::Hedge, true), record(2, Cause::Failover, false)],
                vec![(2, 0, 2)],
                "who was called off was left by nobody",
            ),
        ] {
            let slots = [0, 1, 2].map(Arc::new);
            let got: Vec<_> = moves(&slots, &records).map(|m| (m.at, **m.from, **m.to)).collect();
            assert_eq!(got, want, "{why}");
        }
    }
}
