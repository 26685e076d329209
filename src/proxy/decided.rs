//! A request that has ended, as a decision that is kept for `why`.
//!
//! Called once, at the very end: it moves out of the story what is not needed any more, and looks
//! nothing up that a request has not looked up already. Kept is every request whose body was read,
//! and every one that was passed through to a provider; strangers without a key cannot push those
//! out.

use super::line::{Left, LeftOut, Line};
use super::story::Story;
use crate::base::time::{Now, Tick};
use crate::config::plan::Route;
use crate::exchange::course::Course;
use crate::live::{House, Live, Slot};
use crate::observe::decisions::{Decision, Ended, Fate, Seat};
use crate::route::MODEL_BYTES_MAX;
use crate::translate::Losses;
use smallvec::SmallVec;
use std::sync::Arc;

/// Who was left out of the line, and the groups of who was not.
#[derive(Default)]
pub(super) struct Lineup {
    pub(super) groups: SmallVec<[u32; 4]>,
    pub(super) left_out: LeftOut,
    pub(super) unspoken: Vec<Left<()>>,
}

impl Lineup {
    /// Takes of a line what is not its slots.
    pub(super) fn of(line: Line) -> (Vec<Arc<Slot>>, Lineup) {
        let Line { slots, groups, left_out, unspoken, first: _, home: _ } = line;
        (slots, Lineup { groups, left_out, unspoken })
    }

    /// Returns a seat for every target that was considered, in the order of choice.
    pub(super) fn seats(
        &self,
        route: Option<&Route>,
        slots: &[Arc<Slot>],
        course: &Course,
        lost: &[(usize, Losses)],
    ) -> Vec<Seat> {
        // A model of one provider has no groups: all its credentials are of the first priority.
        let priority =
            |group: u32| route.and_then(|r| r.groups.get(group as usize)).map_or(1, |g| g.priority);
        let seat = |slot: &Slot, group, fate, loses| Seat {
            target: slot.target.id.clone(),
            priority: priority(group),
            fate,
            loses,
        };
        let mut seats = Vec::with_capacity(slots.len() + self.left_out.len() + self.unspoken.len());
        let mut unspoken = self.unspoken.iter().peekable();
        let mut left_out = self.left_out.iter().peekable();
        for at in 0..=slots.len() {
            while let Some(left) = unspoken.next_if(|left| left.before <= at) {
                seats.push(seat(&left.slot, left.group, Fate::Unspoken, Losses::default()));
            }
            while let Some(left) = left_out.next_if(|left| left.before <= at) {
                seats.push(seat(&left.slot, left.group, Fate::Shed(left.why), left.why.losses()));
            }
            let Some(slot) = slots.get(at) else { break };
            let group = self.groups.get(at).copied().unwrap_or(0);
            let passed = course.passed.get(at).copied().flatten();
            let loses = lost.iter().find(|(of, _)| *of == at).map(|(_, losses)| *losses);
            seats.push(seat(slot, group, Fate::Lined { at, passed }, loses.unwrap_or_default()));
        }
        seats
    }
}

/// Keeps what was decided for a request. Takes the records out of its story.
pub(super) fn keep(house: &House, story: &mut Story, live: &Live, status: u16, began: Tick, now: Now) {
    let was_admitted = story.body_read.is_some() || !story.slots.is_empty();
    if !was_admitted {
        return;
    }
    let route = story.route.map(|at| live.plan.route(at));
    let seats = story.lineup.seats(route, &story.slots, &story.course, &story.lost);
    let ended = ended(story);
    let is_ours = ended == Ended::Refused;
    house.decisions.keep(Decision {
        id: Some(story.id().to_owned()),
        now,
        began,
        generation: live.generation,
        route: route.map(|route| Arc::clone(&route.name)),
        client: story.client.and_then(|at| live.plan.clients.get(at.at())).map(|c| Arc::clone(&c.name)),
        dialect: story.dialect,
        model: story.model.take().filter(|model| model.len() <= MODEL_BYTES_MAX),
        is_stream: story.is_stream,
        seats,
        spent: story.spending.by_attempt(),
        records: std::mem::take(&mut story.records),
        chosen: story.course.chosen.filter(|_| !is_ours),
        halt: story.course.halt,
        ended: Some(ended),
        code: story.code,
        status: Some(status),
        took: now.tick.since(began),
    });
}

fn ended(story: &Story) -> Ended {
    if story.is_client_gone {
        return Ended::ClientGone;
    }
    if story.is_interrupted {
        return Ended::BrokenOff;
    }
    if story.code.is_some() {
        return Ended::Refused;
    }
    let is_error = story.status.is_some_and(|status| status >= 400);
    if story.has_ended_well() && !is_error { Ended::Answered } else { Ended::Relayed }
}
