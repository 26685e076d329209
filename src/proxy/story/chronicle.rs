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
        let last = self.records.last();
        let slot = last.and_then(|record| self.slots.get(record.candidate));
        house.audit.decision(&Decision {
            at: house.clock.wall(),
            id: &self.id,
            route: self.route.map(|at| &*live.plan.route(at).name),
            client: self.client.and_then(|at| live.plan.clients.get(at.at())).map(|c| &*c.name),
            target: slot.map(|slot| slot.target.id.as_str()),
            outcome: last.map(|record| record.outcome.as_label()),
            trail,
            attempts: u32::try_from(self.records.len()).unwrap_or(u32::MAX),
            status,
            dur_ms,
            generation: live.generation,
        });
    }

    /// Tells that a stream broke, and what came of taking it up.
    pub(super) fn tell_rescue(&self, house: &House, live: &Live, result: RescueResult) {
        let (route, request_id) = (self.route_name(live), self.id.clone());
        let event = Event::Rescue { route, result: result.as_label(), request_id, requests: 1 };
        house.events.tell(house.clock.wall(), event);
    }

    fn tell_moves(&self, house: &House, live: &Live, slots: &[Arc<Slot>], records: &[Record]) {
        if records.len() < 2 || self.chronicled >= records.len() {
            return;
        }
        let mut before: Option<(&Arc<Slot>, Outcome)> = None;
        for (at, record) in records.iter().enumerate() {
            // Who was called off has no outcome that another could have followed.
            let Some(slot) = slots.get(record.candidate).filter(|_| !record.is_called_off) else { continue };
            let is_move = record.cause == Cause::Failover || record.cause.is_rescue();
            if at >= self.chronicled
                && is_move
                && let Some((from, reason)) = before
            {
                let event = Event::Failover {
                    route: self.route_name(live),
                    from: from.target.id.to_string(),
                    to: slot.target.id.to_string(),
                    reason: reason.as_label(),
                    request_id: self.id.clone(),
                    requests: 1,
                };
                house.events.tell(house.clock.wall(), event);
            }
            before = Some((slot, record.outcome));
        }
    }

    fn route_name(&self, live: &Live) -> Option<String> {
        Some(live.plan.route(self.route?).name.to_string())
    }
}
