//! Everything that is not ours to read goes Pingora's own way, hook by hook.
//!
//! Files, batches, images, audio and the like (contract section 3) are tied to one provider: ids
//! do not exist elsewhere. They go to the first openai-kind provider of the default route, chosen
//! by the same health and signed by the same hand as every other request, and move on to another
//! credential of it only where one rests or has no token. Where no connection can be made, another
//! address of the name is tried, once: its other credentials are behind the same ones.
//! A refused key is told as 502, never as 401, which would blame the client's own; where the key was
//! changed meanwhile, a request without a body goes out once more with the new one (failure table,
//! row 13). A 403 is the provider's word to the client and passes.
//!
//! What an answer means is read of its head alone: the body passes unread.

use super::attempt::connect_fault;
use super::attempt::is_encoded;
use super::conduct;
use super::echo::{self, Overwriter};
use super::hop;
use super::story::Story;
use super::trial::Counted;
use super::upload::Upload;
use crate::base::api::Kind;
use crate::base::outcome::Outcome;
use crate::base::time::{Tick, WallTime};
use crate::classify::{self, TransportFault, Verdict};
use crate::exchange::course::{Course, Halt, Passed};
use crate::exchange::ending::{self, Refusal};
use crate::exchange::{Cause, Record};
use crate::health::{Permit, Report};
use crate::live::keyring::Signature;
use crate::live::{House, Live, Slot};
use crate::resolve::Order;
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
    /// The addresses of the one that is asked which are left to try, in front the one that is. None
    /// where the address is written out.
    addresses: Order,
    /// Whether the address in front stands in for one that took no connection.
    is_next_address: bool,
    permit: Permit,
    record: Record,
    /// The attempt on the books.
    counted: Option<Counted<Arc<Slot>>>,
    /// What proved us to the provider that is being asked.
    signature: Arc<Signature>,
    /// Whether health was told what came of the attempt, if one was begun.
    is_settled: bool,
    /// Whether a refused key turned out to be changed.
    had_new_key: bool,
    presented: Vec<Vec<u8>>,
    pub(super) upload: Upload,
    /// The processes that it passed, this one included.
    hop: HeaderValue,
    overwriter: Overwriter,
    /// Whether the answer is an error that cannot be read.
    is_unreadable: bool,
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
    pub(super) fn new(slots: Vec<Arc<Slot>>, presented: Vec<Vec<u8>>, hop: HeaderValue) -> Self {
        let record = Record {
            candidate: 0,
            cause: Cause::First,
            began: Tick(0),
            ended: Tick(0),
            first_content: None,
            outcome: Outcome::ClientGone,
            status: None,
            timed_out: false,
            is_called_off: false,
            is_unsaid: false,
        };
        Forward {
            slots,
            at: 0,
            addresses: Order::new(),
            is_next_address: false,
            permit: Permit::default(),
            record,
            counted: None,
            signature: Arc::default(),
            is_settled: true,
            had_new_key: false,
            presented,
            upload: Upload::default(),
            hop,
            overwriter: Overwriter::default(),
            is_unreadable: false,
            course: Course::default(),
        }
    }

    /// Chooses the peer: the first credential that may be used.
    pub(super) async fn peer(&mut self, house: &House, live: &Live) -> Result<Box<HttpPeer>, NowhereToGo> {
        if std::mem::take(&mut self.is_next_address)
            && let (Some(slot), Some(address)) = (self.slots.get(self.at), self.addresses.first())
        {
            return Ok(patient(live, slot, Box::new((*slot.peer_at(*address)).clone())));
        }
        // Of an attempt that is made again: its own probe would keep it away.
        drop(std::mem::take(&mut self.permit));
        while let Some(slot) = self.slots.get(self.at).map(Arc::clone) {
            let now = house.clock.tick();
            match slot.health.admit(now, &live.policy) {
                Ok(permit) => self.begin(house, &slot, permit, now),
                Err(resting) => {
                    pass(&mut self.course, self.at, Some(Passed::Resting(resting)));
                    self.at += 1;
                    continue;
                }
            }
            match self.prepare(&slot, now).await {
                Ok(peer) => return Ok(patient(live, &slot, peer)),
                Err(outcome) => {
                    self.refused(house, live, outcome);
                    if outcome != Outcome::Auth {
                        // The name is that of its other credentials too.
                        return Err(NowhereToGo);
                    }
                    if let Some(purse) = &slot.purse {
                        purse.missed();
                    }
                }
            }
        }
        Err(NowhereToGo)
    }

    /// Puts an attempt on the books.
    fn begin(&mut self, house: &House, slot: &Arc<Slot>, permit: Permit, now: Tick) {
        pass(&mut self.course, self.at, None);
        self.permit = permit;
        self.record = Record {
            candidate: self.at,
            began: now,
            ended: now,
            outcome: Outcome::ClientGone,
            status: None,
            timed_out: false,
            ..self.record
        };
        self.counted = Some(Counted::new(Arc::clone(slot), house.clock, now));
        self.is_settled = false;
    }

    /// Gets what a connection wants beside health: a proof and an address.
    async fn prepare(&mut self, slot: &Arc<Slot>, now: Tick) -> Result<Box<HttpPeer>, Outcome> {
        let slot = slot.prove().await.map_err(|_| Outcome::Auth)?;
        self.signature = slot.keyring.current();
        if let Some(place) = self.slots.get_mut(self.at) {
            *place = Arc::clone(&slot);
        }
        if let Some(peer) = slot.ready_peer() {
            self.addresses.clear();
            return Ok(Box::new((**peer).clone()));
        }
        let unknown = || classify::transport(TransportFault::Dns);
        self.addresses = slot.addresses.candidates(now).await.map_err(|_| unknown())?;
        // One stand-in: each may take as long as the first.
        self.addresses.truncate(2);
        let address = self.addresses.first().ok_or_else(unknown)?;
        Ok(Box::new((*slot.peer_at(*address)).clone()))
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
        // What cannot be read may hold our key.
        clean.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
        if hop::is_told(slot) {
            clean.insert_header(hop::HOP, self.hop.clone())?;
        }
        for (name, value) in slot.extra.iter().chain(self.signature.headers()) {
            clean.insert_header(name.clone(), value.clone())?;
        }
        *upstream = clean;
        Ok(())
    }

    /// Notes the head of an answer, tells health what it means, and takes the headers off it that are
    /// not for the client.
    pub(super) fn answered(
        &mut self,
        house: &House,
        live: &Live,
        response: &mut ResponseHeader,
    ) -> pingora::Result<()> {
        self.record.status = Some(response.status.as_u16());
        if let Some(slot) = self.slots.get(self.at) {
            let meaning = meaning(live, slot, response, house.clock.wall());
            self.settle(house, live, &meaning);
        }
        let added = self.slots.get(self.at).map(|slot| live.plan.provider(slot.target.provider));
        let added = added.into_iter().flat_map(|provider| &provider.header_secrets);
        let keys = self.signature.keys().iter().chain(added);
        let dropped: Vec<_> = response
            .headers
            .iter()
            .filter(|(name, value)| {
                !rewrite::keeps_response_header(name, false) || echo::is_in(value, keys.clone())
            })
            .map(|(name, _)| name.clone())
            .filter(|name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING)
            .collect();
        for name in dropped {
            response.remove_header(&name);
        }
        self.is_unreadable = response.status.as_u16() >= 400 && is_encoded(&response.headers);
        if self.is_unreadable {
            response.remove_header(&header::CONTENT_ENCODING);
            response.remove_header(&header::TRANSFER_ENCODING);
            response.insert_header(header::CONTENT_LENGTH, "0")?;
        }
        Ok(())
    }

    /// Takes our keys out of the body of an error. One that is packed though we asked for none that is has
    /// no body.
    pub(super) fn body(&mut self, piece: &mut Option<Bytes>, is_last: bool, live: Option<&Live>) {
        if self.is_unreadable {
            *piece = None;
        } else if self.record.status.is_some_and(|status| status >= 400) {
            let rings: Vec<_> = live.map(Live::signatures).unwrap_or_default();
            let ours = live.into_iter().flat_map(|live| live.unquotable(&rings));
            self.overwriter.pass(piece, is_last, self.signature.keys().iter().chain(ours));
        }
    }

    /// Notes that the provider sends the client elsewhere, which is where nobody was asked to go.
    pub(super) fn led_astray(&mut self, house: &House, live: &Live, status: u16) {
        self.record.status = Some(status);
        self.settle(house, live, &Meaning::plain(Outcome::BadBody));
    }

    /// Notes that the provider refused our key; tells whether to ask it again, with another.
    pub(super) async fn key_refused(&mut self, house: &House, live: &Live, can_repeat: bool) -> bool {
        self.record.status = Some(401);
        let Some(slot) = self.slots.get(self.at) else { return false };
        if !slot.keyring.renewed(&self.signature).await {
            self.settle(house, live, &Meaning::plain(Outcome::Auth));
            return false;
        }
        // What the former key earned says nothing about the credential.
        self.void(house, Outcome::Auth);
        let repeats = can_repeat && !self.had_new_key;
        self.had_new_key = true;
        repeats
    }

    /// Tells whether another key is in force than the one that was refused.
    pub(super) fn has_new_key(&self) -> bool {
        self.had_new_key
    }

    /// Notes that no connection could be made; tells whether an address is left to try.
    pub(super) fn unconnected(&mut self, house: &House, live: &Live, error: &pingora::Error) -> bool {
        let fault = connect_fault(error);
        let outcome = classify::transport(fault);
        if let (Some(slot), Some(address)) = (self.slots.get(self.at), self.addresses.first()) {
            slot.addresses.avoid(*address, house.clock.tick());
            self.addresses.remove(0);
            // What refuses TLS at one address does at the next.
            self.is_next_address = outcome == Outcome::Connect && !self.addresses.is_empty();
        }
        self.record.timed_out = fault == TransportFault::ConnectTimeout;
        if !self.is_next_address {
            // Its other credentials are behind the same address.
            self.refused(house, live, outcome);
        }
        self.is_next_address
    }

    /// Notes that a kept connection was dead, which says nothing of the provider.
    pub(super) fn was_stale(&mut self, house: &House) {
        if !self.is_settled {
            self.void(house, classify::transport(TransportFault::StaleConnection));
        }
    }

    /// Notes how an attempt ended that health is told nothing of.
    fn void(&mut self, house: &House, outcome: Outcome) {
        drop(std::mem::take(&mut self.permit));
        self.is_settled = true;
        self.ended(outcome, house.clock.tick());
    }

    /// Notes that nothing could be sent, for want of a connection or a token.
    fn refused(&mut self, house: &House, live: &Live, outcome: Outcome) {
        self.settle(house, live, &Meaning::plain(outcome));
        self.counted = None;
        pass(&mut self.course, self.at, Some(Passed::Failed(outcome)));
        self.at += 1;
    }

    /// Notes that the attempt broke off. Behind a head health has been told what that meant.
    pub(super) fn broke(&mut self, house: &House, live: &Live, outcome: Outcome) {
        if self.has_head() {
            self.ended(outcome, house.clock.tick());
        }
        self.settle(house, live, &Meaning::plain(outcome));
    }

    /// Tells whether the provider that is asked has answered with a head.
    pub(super) fn has_head(&self) -> bool {
        self.record.status.is_some()
    }

    /// Tells health what came of it, once per attempt.
    fn settle(&mut self, house: &House, live: &Live, meaning: &Meaning) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let now = house.clock.tick();
        self.ended(meaning.outcome, now);
        let Some(slot) = self.slots.get(self.at) else { return };
        // What another model is short of says nothing of the one that calls go to here, and what the former
        // key spent nothing of the one in force.
        let is_of_model = matches!(meaning.outcome, Outcome::RateLimited | Outcome::Overloaded);
        let is_of_key = matches!(meaning.outcome, Outcome::Quota | Outcome::Permission);
        if is_of_model && !meaning.account_wide || is_of_key && slot.keyring.is_another_than(&self.signature)
        {
            drop(std::mem::take(&mut self.permit));
            return;
        }
        let report = Report {
            outcome: meaning.outcome,
            hint: meaning.hint,
            account_wide: meaning.account_wide,
            is_permanent: false,
            began: self.record.began,
        };
        let permit = std::mem::take(&mut self.permit);
        let changes = slot.health.report(permit, &report, now, &live.policy, rand::random());
        conduct::note(house, live, &self.slots, self.at, &changes);
    }

    /// Writes the end of the attempt down. Its place among those under way it keeps: a body may follow.
    fn ended(&mut self, outcome: Outcome, now: Tick) {
        self.record = Record { outcome, ended: now, ..self.record };
        if let Some(counted) = &mut self.counted {
            counted.ended = (outcome, self.record.status, Some(now));
        }
    }

    /// Hands what happened to the story. A body that came ends its attempt, not the head before it.
    pub(super) fn tell(mut self, house: &House, story: &mut Story) {
        if self.has_head() {
            self.record.ended = house.clock.tick();
        }
        let records: SmallVec<[Record; 1]> = SmallVec::from_slice(self.records());
        let chosen = self.record.status.map(|_| self.record.candidate);
        let halt = if chosen.is_some() { Halt::Answered } else { Halt::Final };
        let course = Course { chosen, halt, ..self.course };
        story.conclude(self.slots, &records, course, Vec::new());
    }

    /// Puts down whose answer the head is, or that of our own is which ends it.
    pub(super) fn tell_head(&self, house: &House, story: &mut Story) {
        let now = house.clock.tick();
        let answering = self.record.status.map(|_| self.record.candidate);
        story.tell(house, &self.slots, self.records(), answering, now);
    }

    /// What the client is told where nobody was asked because all of them rest.
    pub(super) fn resting(&self, house: &House, live: &Live) -> Option<Refusal> {
        let now = house.clock.tick();
        let resting = self.slots.iter().map(|slot| slot.health.look(now, &live.policy).err());
        let all_rest = self.records().is_empty() && resting.clone().all(|why| why.is_some());
        (all_rest && !self.slots.is_empty()).then(|| ending::refusal(&[], &resting, now))
    }

    /// What was asked: nothing where nobody could be.
    fn records(&self) -> &[Record] {
        if self.record.began.0 == 0 { &[] } else { std::slice::from_ref(&self.record) }
    }
}

/// Gives a provider as long between two reads, and two writes, as the route gives it for a whole answer: what passes
/// unread may be a download of hours, which silence is not.
fn patient(live: &Live, slot: &Slot, mut peer: Box<HttpPeer>) -> Box<HttpPeer> {
    let route = live.plan.default_route.map(|at| live.plan.route(at));
    let timeouts = live.plan.timeouts(route, slot.target.provider);
    let silence = timeouts.response.min(timeouts.total);
    peer.options.read_timeout = Some(silence);
    peer.options.write_timeout = Some(silence);
    peer
}

/// Notes why a candidate was passed over, or that it was not.
fn pass(course: &mut Course, at: usize, why: Option<Passed>) {
    if course.passed.len() <= at {
        course.passed.resize(at + 1, None);
    }
    course.passed[at] = why;
}

/// What came of an attempt, as far as health wants to know.
struct Meaning {
    outcome: Outcome,
    hint: RetryHint,
    account_wide: bool,
}

impl Meaning {
    fn plain(outcome: Outcome) -> Self {
        Meaning { outcome, hint: RetryHint::None, account_wide: false }
    }
}

/// Reads what an answer means of its head.
fn meaning(live: &Live, slot: &Slot, head: &ResponseHeader, now: WallTime) -> Meaning {
    let status = head.status.as_u16();
    if status < 400 {
        return Meaning::plain(Outcome::Ok);
    }
    let patterns = &live.plan.provider(slot.target.provider).patterns;
    let verdict = classify::response(patterns, status, &head.headers, b"", now);
    let Verdict { outcome, retry, account_wide, .. } = verdict;
    // Of a file or a batch of the client's, not of a model: this key sees the others.
    let is_about_a_thing = matches!(outcome, Outcome::Permission | Outcome::ModelUnavailable);
    // An upload came as its client sent it.
    if is_about_a_thing || status == 408 {
        return Meaning::plain(Outcome::ClientError);
    }
    Meaning { outcome, hint: retry, account_wide }
}
