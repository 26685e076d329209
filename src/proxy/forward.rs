//! Everything that is not ours to read goes Pingora's own way, hook by hook.
//!
//! Files, batches, images, audio and the like (contract section 3) are tied to one provider: ids
//! do not exist elsewhere. They go to the first openai-kind provider of the default route, chosen
//! by the same health and signed by the same hand as every other request, and move on to another
//! credential of it only where provably nothing was processed: the connection could not be made.
//! A refused key is told as 502, never as 401, which would blame the client's own; where the key was
//! changed meanwhile, a request without a body goes out once more with the new one (failure table,
//! row 13). A 403 is the provider's word to the client and passes.

use super::conduct;
use super::echo::{self, Overwriter};
use super::hop;
use super::pace::Pace;
use super::story::Story;
use crate::base::api::Kind;
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::exchange::course::{Course, Halt, Passed};
use crate::exchange::{Cause, Record};
use crate::health::{Permit, Report};
use crate::live::keyring::Signature;
use crate::live::{House, Live, Slot};
use crate::rewrite;
use crate::wire::retry_hint::RetryHint;
use bytes::Bytes;
use http::{HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use smallvec::SmallVec;
use std::sync::Arc;

/// A request that is passed through.
pub(super) struct Forward {
    slots: Vec<Arc<Slot>>,
    at: usize,
    permit: Permit,
    record: Record,
    /// What proved us to the provider that is being asked.
    signature: Arc<Signature>,
    is_settled: bool,
    /// Whether a refused key turned out to be changed.
    had_new_key: bool,
    presented: Vec<Vec<u8>>,
    /// Bytes of the body so far: an upload in chunks announces no length.
    body_bytes: u64,
    /// The processes that it passed, this one included.
    hop: HeaderValue,
    /// When the body began.
    body_began: Tick,
    overwriter: Overwriter,
    /// What became of its candidates.
    course: Course,
}

/// Nothing can take a request that is passed through.
pub(super) struct NowhereToGo;

/// Finds who takes it: one slot per credential of the first openai-kind provider.
pub(super) fn choose(live: &Live) -> Vec<Arc<Slot>> {
    let Some(route) = live.plan.default_route else { return Vec::new() };
    let mut found: Vec<Arc<Slot>> = Vec::new();
    for target in live.plan.route(route).groups.iter().flat_map(|g| &g.entries).flat_map(|e| &e.targets) {
        let Some(slot) = live.slot(*target) else { continue };
        let is_first = found.first().is_none_or(|first| first.target.provider == slot.target.provider);
        let is_new = !found.iter().any(|known| known.target.credential == slot.target.credential);
        // What is signed with its body cannot be passed through piece by piece.
        if slot.kind == Kind::OpenAi && is_first && is_new && !slot.signs_requests() {
            found.push(Arc::clone(slot));
        }
    }
    found
}

impl Forward {
    pub(super) fn new(slots: Vec<Arc<Slot>>, presented: Vec<Vec<u8>>, hop: HeaderValue, now: Tick) -> Self {
        let record = Record {
            candidate: 0,
            cause: Cause::First,
            began: Tick(0),
            ended: Tick(0),
            first_content: None,
            outcome: Outcome::Ok,
            status: None,
            timed_out: false,
            is_called_off: false,
        };
        Forward {
            slots,
            at: 0,
            permit: Permit::default(),
            record,
            signature: Arc::default(),
            is_settled: false,
            had_new_key: false,
            presented,
            body_bytes: 0,
            hop,
            body_began: now,
            overwriter: Overwriter::default(),
            course: Course::default(),
        }
    }

    /// Chooses the peer: the first credential that may be used.
    pub(super) async fn peer(&mut self, house: &House, live: &Live) -> Result<Box<HttpPeer>, NowhereToGo> {
        let now = house.clock.tick();
        while let Some(slot) = self.slots.get(self.at) {
            let admitted = slot.health.admit(now, &live.policy);
            let resting = admitted.as_ref().err().map(|resting| Passed::Resting(*resting));
            pass(&mut self.course, self.at, resting);
            if let Ok(permit) = admitted {
                self.permit = permit;
                self.record = Record { candidate: self.at, began: now, ..self.record };
                let Ok(slot) = slot.prove().await else {
                    self.refused(house, live, Outcome::Auth);
                    continue;
                };
                self.signature = slot.keyring.current();
                if let Some(place) = self.slots.get_mut(self.at) {
                    *place = Arc::clone(&slot);
                }
                if let Some(peer) = slot.ready_peer() {
                    return Ok(Box::new((**peer).clone()));
                }
                if let Ok(address) = slot.addresses.pick(now).await {
                    return Ok(Box::new((*slot.peer_at(address)).clone()));
                }
                self.refused(house, live, Outcome::Dns);
                continue;
            }
            self.at += 1;
        }
        Err(NowhereToGo)
    }

    /// Replaces everything of the client's that must not reach the provider.
    pub(super) fn rewrite(&self, upstream: &mut RequestHeader) -> pingora::Result<()> {
        let Some(slot) = self.slots.get(self.at) else { return Ok(()) };
        let client = upstream.headers.clone();
        let keys: Vec<&[u8]> = self.presented.iter().map(Vec::as_slice).collect();
        let path_and_query = rewrite::forwarded_path(&slot.base_path, &upstream.uri, &keys);
        let mut clean = RequestHeader::build_no_case(
            upstream.method.clone(),
            path_and_query.as_bytes(),
            Some(client.len() + 4),
        )?;
        clean.set_version(upstream.version);
        for (name, value) in rewrite::request_headers(&client, &keys) {
            clean.append_header(name.clone(), value.clone())?;
        }
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            if let Some(value) = client.get(&name) {
                clean.insert_header(name, value.clone())?;
            }
        }
        clean.insert_header(header::HOST, slot.authority.clone())?;
        if hop::is_told(slot) {
            clean.insert_header(hop::HOP, self.hop.clone())?;
        }
        for (name, value) in slot.extra.iter().chain(self.signature.headers()) {
            clean.insert_header(name.clone(), value.clone())?;
        }
        *upstream = clean;
        Ok(())
    }

    /// Counts a piece of the body; tells whether all of it so far is within the limit.
    pub(super) fn fits(&mut self, piece: usize, max: u64) -> bool {
        self.body_bytes = self.body_bytes.saturating_add(piece as u64);
        self.body_bytes <= max
    }

    /// Tells whether the body comes at the pace that is asked of a client.
    pub(super) fn keeps_pace(&self, pace: &Pace, now: Tick) -> bool {
        now.since(self.body_began) <= pace.next_by(self.body_bytes)
    }

    /// Takes the provider's headers that are not for the client off the answer.
    pub(super) fn answered(&mut self, response: &mut ResponseHeader) {
        let keys = self.signature.keys();
        self.record.status = Some(response.status.as_u16());
        let dropped: Vec<_> = response
            .headers
            .iter()
            .filter(|(name, value)| !rewrite::keeps_response_header(name, false) || echo::is_in(value, keys))
            .map(|(name, _)| name.clone())
            .filter(|name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING)
            .collect();
        for name in dropped {
            response.remove_header(&name);
        }
    }

    /// Takes our key out of the body of an error.
    pub(super) fn body(&mut self, piece: &mut Option<Bytes>, is_last: bool) {
        if self.record.status.is_some_and(|status| status >= 400) {
            self.overwriter.pass(piece, is_last, self.signature.keys());
        }
    }

    /// Notes that the provider refused our key; tells whether to ask it again, with another.
    pub(super) async fn key_refused(&mut self, house: &House, live: &Live, can_repeat: bool) -> bool {
        self.record.status = Some(401);
        let Some(slot) = self.slots.get(self.at) else { return false };
        if !slot.keyring.renewed(&self.signature).await {
            self.settle(house, live, Outcome::Auth);
            return false;
        }
        // What the former key earned says nothing about the credential.
        drop(std::mem::take(&mut self.permit));
        self.record = Record { outcome: Outcome::Auth, ended: house.clock.tick(), ..self.record };
        let repeats = can_repeat && !self.had_new_key;
        self.had_new_key = true;
        self.is_settled = !repeats;
        repeats
    }

    /// Tells whether another key is in force than the one that was refused.
    pub(super) fn has_new_key(&self) -> bool {
        self.had_new_key
    }

    /// Notes that nothing could be sent, for want of a connection or a token; tells whether another
    /// credential is left to try.
    pub(super) fn refused(&mut self, house: &House, live: &Live, outcome: Outcome) -> bool {
        self.settle(house, live, outcome);
        pass(&mut self.course, self.at, Some(Passed::Failed(outcome)));
        self.at += 1;
        self.is_settled = false;
        self.at < self.slots.len()
    }

    /// Tells health what came of it. Called once per attempt.
    pub(super) fn settle(&mut self, house: &House, live: &Live, outcome: Outcome) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let now = house.clock.tick();
        self.record = Record { outcome, ended: now, ..self.record };
        if let Some(slot) = self.slots.get(self.at) {
            let report = Report {
                outcome,
                hint: RetryHint::None,
                account_wide: false,
                is_permanent: false,
                began: self.record.began,
            };
            let permit = std::mem::take(&mut self.permit);
            let changes = slot.health.report(permit, &report, now, &live.policy, rand::random());
            conduct::note(house, live, &self.slots, self.at, &changes);
        }
    }

    /// Hands what happened to the story.
    pub(super) fn tell(self, story: &mut Story) {
        let records: SmallVec<[Record; 1]> = SmallVec::from_slice(self.records());
        let chosen = self.record.status.map(|_| self.record.candidate);
        let halt = if self.at < self.slots.len() { Halt::Answered } else { Halt::Final };
        let course = Course { chosen, halt, ..self.course };
        story.conclude(self.slots, &records, course, SmallVec::new());
    }

    /// Puts down whose answer the head is, or that of our own is which ends it.
    pub(super) fn tell_head(&self, house: &House, story: &mut Story) {
        let now = house.clock.tick();
        let answering = self.record.status.map(|_| self.record.candidate);
        story.tell(house, &self.slots, self.records(), answering, now);
    }

    /// What was asked: nothing where nobody could be.
    fn records(&self) -> &[Record] {
        if self.record.began.0 == 0 { &[] } else { std::slice::from_ref(&self.record) }
    }
}

/// Notes why a candidate was passed over, or that it was not.
fn pass(course: &mut Course, at: usize, why: Option<Passed>) {
    if course.passed.len() <= at {
        course.passed.resize(at + 1, None);
    }
    course.passed[at] = why;
}

/// The outcome of a passed-through answer, as far as its status alone tells.
pub(super) fn outcome_of(status: u16) -> Outcome {
    match status {
        0..400 => Outcome::Ok,
        401 => Outcome::Auth,
        429 => Outcome::RateLimited,
        400..500 => Outcome::ClientError,
        529 => Outcome::Overloaded,
        _ => Outcome::ServerError,
    }
}
