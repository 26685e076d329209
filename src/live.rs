//! Which plan is in force, and what stands behind its names?
//!
//! A [`Live`] is one generation: the plan with everything that a request needs at hand, made once
//! at reload so that no request pays for it: a [`Slot`] per target with its health, its meter, its
//! [`keyring`] and, where the address is literal, its peer. Requests hold an `Arc` of the generation
//! they began with; [`House::swap`] puts the next one in its place.
//!
//! What outlives a generation is kept in the [`House`] by name: health by target id, credential
//! and endpoint, resolved addresses by endpoint. A changed key ends the rests that blamed the key;
//! a changed base URL is another endpoint and starts fresh; nothing else is forgotten.
//!
//! A target whose credential is a login has a [`Purse`]; [`Slot::prove`] (in `proof`) makes of it a
//! slot with the token in force.
//!
//! What all requests share stands beside it: [`memory`] bounds what they keep, [`quotas`] what clients may
//! ask for, [`guesses`] counts wrong keys by address, `warm` has a connection ready behind the target in
//! use, `way` leads to a server, `states` tells what changed, [`parting`] ends what is left.
//!
//! `provider/model` addresses any model a provider may have. Its targets are made when they are
//! asked for; their health is kept for at most [`DIRECT_LIMIT`] of them.

use crate::base::api::{Api, Kind};
use crate::base::ids::{CredentialIdx, ProviderIdx, RouteIdx, TargetId, TargetIdx};
use crate::base::outcome::Outcome;
use crate::base::time::{Tick, WallTime};
use crate::catalog;
use crate::clock::Clock;
use crate::config::credential::Login;
use crate::config::plan::{Credential, HttpVersions, Plan, Target};
use crate::exchange::budget::RetryBudget;
use crate::exchange::hedge::Hedges;
use crate::health::breaker::BreakerState;
use crate::health::{Operation, Policy, Unit, Units};
use crate::observe::audit::Audit;
use crate::observe::decisions::Decisions;
use crate::observe::events::{Event, Events};
use crate::observe::log::Log;
use crate::observe::meter::{LimitKind, Meters, TargetMeter};
use crate::observe::metrics::Metrics;
use crate::observe::usage::ledger::Ledger;
use crate::pools::{Pools, Way};
use crate::resolve::Addresses;
use crate::select::Turns;
use crate::tokens::{KeyFault, Purse};
use crate::wire::rate_limit::RateLimits;
use arc_swap::{ArcSwap, ArcSwapOption};
use guesses::Guesses;
use http::{HeaderName, HeaderValue};
use keyring::Keyring;
use parking_lot::Mutex;
use pingora::upstreams::peer::HttpPeer;
use pins::Pins;
use quotas::Quotas;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use warm::Warmth;
use way::{PeerTemplate, Trusts};

pub mod guesses;
pub mod keyring;
pub mod memory;
pub mod parting;
pub mod pins;
mod proof;
pub mod quotas;
mod states;
mod warm;
mod way;

pub use proof::Signing;
pub use way::NoConnection;

/// Health records kept for targets that no route names.
const DIRECT_LIMIT: usize = 1024;

/// One generation of the configuration, ready to serve.
pub struct Live {
    /// Counts up with each swap; the first is 1.
    pub generation: u64,
    /// The plan.
    pub plan: Plan,
    /// One per credential of the plan, by its index.
    pub keyrings: Vec<Arc<Keyring>>,
    /// One per target of the plan, by its index.
    pub slots: Vec<Arc<Slot>>,
    /// One per route of the plan, by its index.
    pub turns: Vec<Turns>,
    /// The same: when it was last used.
    used: Vec<warm::LastUse>,
    /// What health decides by.
    pub policy: Arc<Policy>,
    /// Counters at hand, by route and target.
    pub meters: Meters,
}

/// A target with everything that an attempt needs.
pub struct Slot {
    /// The target.
    pub target: Target,
    /// Its provider's name.
    pub provider: Arc<str>,
    /// Its credential's name.
    pub credential: Arc<str>,
    /// The provider's name as a header.
    pub provider_header: HeaderValue,
    /// The model's name as a header, where it can be one.
    pub model_header: Option<HeaderValue>,
    /// What sort of server it is.
    pub kind: Kind,
    /// Path below which its API lies.
    pub base_path: Arc<str>,
    /// Paths that the file gives for calls.
    paths: Vec<(Api, Arc<str>)>,
    /// For the Host header.
    pub authority: HeaderValue,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// Whether it may be a proxy of this sort, and so lead back to this one.
    pub may_lead_back: bool,
    /// What proves us; nothing yet where there is a purse and no token was asked for.
    pub keyring: Arc<Keyring>,
    /// Where tokens come from, if they are fetched.
    pub purse: Option<Arc<Purse>>,
    /// Extra headers of the provider.
    pub extra: Vec<(HeaderName, HeaderValue)>,
    /// Its health.
    pub health: Arc<Units>,
    /// Its counters for scrapes.
    pub meter: Arc<TargetMeter>,
    /// Its counters for pages.
    pub tally: Arc<Tally>,
    /// Its addresses.
    pub addresses: Arc<Addresses>,
    peer: Option<Arc<HttpPeer>>,
    template: PeerTemplate,
    way: Way,
    /// Serial of the token that this slot was proved with.
    serial: Option<u64>,
    /// This slot with the token in force.
    proved: ArcSwapOption<Slot>,
}

impl Slot {
    /// Returns the path that the file gives for a call.
    #[must_use]
    pub fn path(&self, api: Api) -> Option<&str> {
        self.paths.iter().find(|(other, _)| *other == api).map(|(_, path)| &**path)
    }

    /// Shows what the provider says is left of its rate limits; `at` tells the time.
    pub fn limits_are(&self, left: RateLimits, at: impl FnOnce() -> WallTime) {
        for (kind, left) in [
            (LimitKind::Requests, left.requests),
            (LimitKind::Tokens, left.tokens),
            (LimitKind::InputTokens, left.input_tokens),
            (LimitKind::OutputTokens, left.output_tokens),
        ] {
            if let Some(left) = left {
                self.meter.ratelimit_remaining(kind, left);
            }
        }
        self.tally.limits_are(at(), left);
    }
}

/// What names keep from generation to generation.
struct Book {
    /// Where credentials tell what becomes of them.
    events: Arc<Events>,
    targets: HashMap<Arc<str>, (Arc<Unit>, Arc<Tally>)>,
    direct: HashMap<Arc<str>, (Arc<Unit>, Arc<Tally>)>,
    credentials: HashMap<String, Arc<Unit>>,
    endpoints: HashMap<Arc<str>, (Arc<Unit>, Arc<Addresses>)>,
    purses: HashMap<String, Arc<Purse>>,
    trusts: Trusts,
}

/// Everything that the process shares.
pub struct House {
    /// The clocks.
    pub clock: Clock,
    /// What this process is called where loops are looked for; drawn at its start.
    pub mark: HeaderValue,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The log.
    pub log: Log,
    /// What has just happened, for those who listen.
    pub events: Arc<Events>,
    /// The record of every decision and every change.
    pub audit: Audit,
    /// What operators put first.
    pub pins: Pins,
    /// Who has shown wrong keys of late.
    pub guesses: Guesses,
    /// What was used, by whom.
    pub usage: Arc<Ledger>,
    /// Why the last requests went where they went.
    pub decisions: Decisions,
    /// The retry budget.
    pub budget: RetryBudget,
    /// Hedges that may be made.
    pub hedges: Hedges,
    /// Connections to providers that are kept.
    pub pools: Pools,
    /// What clients with limits have asked for of late.
    pub quotas: Arc<Quotas>,
    /// What requests and answers keep together, of `limits.replay_memory`.
    pub memory: Arc<memory::Memory>,
    current: ArcSwap<Live>,
    book: Mutex<Book>,
    requests_under_way: AtomicU64,
    is_draining: AtomicBool,
    warmth: Warmth,
    states_due: states::Due,
    /// What is under way when the process must go.
    pub parting: parting::Parting,
    tends_keys: AtomicBool,
}

/// Why a plan cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum LiveProblem {
    /// A certificate file of a provider cannot be used.
    #[error("providers: the ca file of {endpoint} {reason}")]
    Ca {
        /// Which endpoint.
        endpoint: Arc<str>,
        /// Why.
        reason: String,
    },
    /// A key cannot be sent in a header.
    #[error(
        "providers.{provider}.credentials.{credential}: the key holds characters that no header can carry"
    )]
    Key {
        /// Whose.
        provider: Arc<str>,
        /// Which.
        credential: Arc<str>,
    },
    /// The system gave no thread for the audit log.
    #[error("audit.path: {0}")]
    Audit(std::io::Error),
    /// The private key of a service account cannot sign.
    #[error("providers.{provider}.credentials.{credential}: {fault}")]
    Login {
        /// Whose.
        provider: Arc<str>,
        /// Which.
        credential: Arc<str>,
        /// Why.
        fault: KeyFault,
    },
}

impl House {
    /// Opens the house with its first plan.
    ///
    /// # Errors
    /// Where a key or a certificate of the plan cannot be used.
    pub fn open(
        plan: Plan,
        clock: Clock,
        metrics: Arc<Metrics>,
        log: Log,
    ) -> Result<Arc<House>, LiveProblem> {
        let events = Events::new(clock.wall());
        let mut book = Book::new(Arc::clone(&events));
        let wall = Arc::new(move || clock.wall());
        let audit = Audit::new(metrics.audit_counts(), Arc::clone(&events), wall);
        audit.turn_to(plan.audit.as_deref()).map_err(LiveProblem::Audit)?;
        let first = build(plan, 1, None, &mut book, &metrics, clock)?;
        metrics.plan_in_force(1, clock.wall());
        metrics.insecure_tls(&first.plan);
        let usage = Ledger::new(first.plan.usage.clone());
        let mark = HeaderValue::from_str(&format!("{:016x}", rand::random::<u64>()));
        Ok(Arc::new(House {
            clock,
            mark: mark.unwrap_or(HeaderValue::from_static("pointsman")),
            metrics,
            log,
            events,
            audit,
            pins: Pins::default(),
            guesses: Guesses::default(),
            usage,
            decisions: Decisions::default(),
            budget: RetryBudget::default(),
            hedges: Hedges::default(),
            pools: Pools::default(),
            quotas: Arc::default(),
            memory: Arc::default(),
            current: ArcSwap::from_pointee(first),
            book: Mutex::new(book),
            requests_under_way: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
            warmth: Warmth::default(),
            states_due: states::Due::default(),
            parting: parting::Parting::default(),
            tends_keys: AtomicBool::new(false),
        }))
    }

    /// Returns the generation in force.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.current.load_full()
    }

    /// Puts a new plan in force; requests under way keep theirs. Returns its generation.
    ///
    /// # Errors
    /// Where a key or a certificate of the plan cannot be used; the old one then stays.
    pub fn swap(&self, plan: Plan) -> Result<u64, LiveProblem> {
        let mut book = self.book.lock();
        let old = self.live();
        let generation = old.generation + 1;
        let next = build(plan, generation, Some(&old), &mut book, &self.metrics, self.clock)?;
        book.forget_what_is_not_in(&next);
        self.metrics.retain(&next.plan);
        self.metrics.insecure_tls(&next.plan);
        self.pins.keep(&next.plan);
        self.quotas.keep(&next.plan.clients);
        if let Err(fault) = self.audit.turn_to(next.plan.audit.as_deref()) {
            tracing::error!(%fault, "the audit log cannot be started");
        }
        self.usage.set_policy(next.plan.usage.clone());
        self.current.store(Arc::new(next));
        self.metrics.plan_in_force(generation, self.clock.wall());
        // A changed key has ended rests.
        self.states_moved();
        Ok(generation)
    }

    /// Returns the slots of `provider/model`: one per credential, made on the spot where no route
    /// names them.
    #[must_use]
    pub fn direct(&self, live: &Live, provider: ProviderIdx, model: &str) -> Vec<Arc<Slot>> {
        self.direct_kept(live, provider, model, Book::keep_direct)
    }

    /// The same for a look without effect: health that nobody has yet is not kept.
    #[must_use]
    pub fn direct_unkept(&self, live: &Live, provider: ProviderIdx, model: &str) -> Vec<Arc<Slot>> {
        self.direct_kept(live, provider, model, |book, id| {
            book.direct.get(&id.0).cloned().unwrap_or_default()
        })
    }

    fn direct_kept(
        &self,
        live: &Live,
        provider: ProviderIdx,
        model: &str,
        kept: impl Fn(&mut Book, &TargetId) -> (Arc<Unit>, Arc<Tally>),
    ) -> Vec<Arc<Slot>> {
        let mut slots = Vec::new();
        for credential in &live.plan.provider(provider).credentials {
            let known = live.slots.iter().find(|slot| {
                slot.target.provider == provider
                    && slot.target.credential == *credential
                    && &*slot.target.model == model
            });
            let slot = known.cloned().or_else(|| {
                let mut book = self.book.lock();
                let name = &live.plan.credentials[credential.at()].name;
                let id = TargetId::new(&live.plan.provider(provider).name, name, model);
                let kept = kept(&mut book, &id);
                make_direct(live, (id, provider, *credential), model, kept, &mut book, self.clock)
                    .ok()
                    .map(Arc::new)
            });
            slots.extend(slot);
        }
        slots
    }

    /// Renews the addresses of all names of the generation in force.
    pub async fn refresh_addresses(&self) {
        let live = self.live();
        let mut done: Vec<Arc<Addresses>> = Vec::new();
        for slot in &live.slots {
            if !done.iter().any(|known| Arc::ptr_eq(known, &slot.addresses)) {
                slot.addresses.refresh(self.clock.tick()).await;
                done.push(Arc::clone(&slot.addresses));
            }
        }
    }

    /// Has every fetched token of the generation in force kept fresh from now on, so that requests
    /// find one. Must be called inside a runtime that lasts.
    pub fn tend_tokens(&self) {
        for slot in &self.live().slots {
            if let Some(purse) = &slot.purse {
                purse.tend();
            }
        }
    }

    /// Returns how much of `limits.replay_memory` bodies may fill now.
    #[must_use]
    pub fn room(&self, limit: u64) -> u64 {
        memory::room(limit, self.memory.connections(), self.under_way())
    }

    /// Counts a request in until the returned guard is dropped; `None` where `limit` are under way.
    #[must_use]
    pub fn enter(self: &Arc<Self>, limit: u32) -> Option<UnderWay> {
        let before = self.requests_under_way.fetch_add(1, Ordering::AcqRel);
        let guard = UnderWay(Arc::clone(self));
        (before < u64::from(limit)).then_some(guard)
    }

    /// Returns how many requests are under way.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.requests_under_way.load(Ordering::Acquire)
    }

    /// Stops being ready: TERM has come.
    pub fn drain(&self) {
        if self.is_draining.swap(true, Ordering::AcqRel) {
            return;
        }
        let at = self.clock.wall();
        self.events.tell(at, Event::Stopping { under_way: self.under_way() });
        self.events.close();
        self.audit.process(at, "stop");
    }

    /// Tells whether TERM has come.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Brings the gauges of every target and credential up to date, for a scrape.
    pub fn refresh_gauges(&self) {
        self.metrics.memory_kept(self.memory.kept());
        let live = self.live();
        let now = self.clock.tick();
        for slot in &live.slots {
            let state = slot.state(now, &live.policy);
            slot.meter.state(state.is_usable, state.breaker, state.cooling);
        }
        for (at, keyring) in (0..).map(CredentialIdx).zip(&live.keyrings) {
            live.meters.credential(at, keyring.is_refused(now, &live.policy));
        }
    }
}

/// What a target did since the process began.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

/// A reading of a [`Tally`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Attempts under way.
    pub in_flight: u64,
    /// Attempts that ended well.
    pub ok: u64,
    /// Attempts that failed; clients that left, and faults of their own, are in neither.
    pub failed: u64,
    /// Time of those that ended well, together.
    pub ok_time: Duration,
    /// What the provider last said is left of its rate limits, and when.
    pub limits: Option<(WallTime, RateLimits)>,
    /// The last failure: when, what, and the provider's status.
    pub last_fault: Option<(WallTime, Outcome, Option<u16>)>,
}

impl Tally {
    /// Counts an attempt in.
    pub fn began(&self) {
        self.0.lock().in_flight += 1;
    }

    /// Counts an attempt out; `at` tells the time, which only a fault's page shows.
    pub fn ended(
        &self,
        outcome: Outcome,
        status: Option<u16>,
        took: Duration,
        at: impl FnOnce() -> WallTime,
    ) {
        let mut counts = self.0.lock();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        match outcome {
            // What is the client's own says nothing of the target.
            Outcome::ClientGone
            | Outcome::ClientError
            | Outcome::ContentFiltered
            | Outcome::ContextLength
            | Outcome::TooLarge => {}
            Outcome::Ok => {
                counts.ok += 1;
                counts.ok_time += took;
            }
            Outcome::RateLimited
            | Outcome::Quota
            | Outcome::Overloaded
            | Outcome::Auth
            | Outcome::Permission
            | Outcome::Region
            | Outcome::ModelUnavailable
            | Outcome::ServerError
            | Outcome::Connect
            | Outcome::Dns
            | Outcome::Tls
            | Outcome::TimeoutFirstContent
            | Outcome::TimeoutStall
            | Outcome::TimeoutTotal
            | Outcome::Reset
            | Outcome::Truncated
            | Outcome::BadBody
            | Outcome::InbandError => {
                counts.failed += 1;
                counts.last_fault = Some((at(), outcome, status));
            }
        }
    }

    /// Keeps what the provider says is left of its rate limits.
    pub fn limits_are(&self, at: WallTime, left: RateLimits) {
        self.0.lock().limits = Some((at, left));
    }

    /// Reads the counts.
    #[must_use]
    pub fn read(&self) -> Counts {
        *self.0.lock()
    }
}

/// A request under way; counted out when dropped.
pub struct UnderWay(Arc<House>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests_under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How a target stands, over its three scopes.
pub struct Standing {
    /// Whether it may be used.
    pub is_usable: bool,
    /// The worst of its own, its credential's and its endpoint's breaker.
    pub breaker: BreakerState,
    /// Time until the last of its rests ends.
    pub cooling: Duration,
}

impl Slot {
    /// Reads how the target stands.
    #[must_use]
    pub fn state(&self, now: Tick, policy: &Policy) -> Standing {
        let units = [&self.health.target, &self.health.credential, &self.health.endpoint];
        let readings = units.map(|unit| unit.read(now, policy));
        let cooling = readings.iter().filter_map(|r| r.cooling_until).max();
        Standing {
            is_usable: self.health.look(now, policy).is_ok(),
            breaker: self.breaker(now, policy),
            cooling: cooling.map_or(Duration::ZERO, |until| until.left(now)),
        }
    }

    /// Reads the worst of the breakers of the target, its credential and its endpoint.
    #[must_use]
    pub fn breaker(&self, now: Tick, policy: &Policy) -> BreakerState {
        let own = self.health.target.breaker(now, &policy.breaker);
        let wider =
            [&self.health.credential, &self.health.endpoint].map(|unit| unit.breaker(now, &policy.breaker));
        wider.into_iter().fold(
            own,
            |worst, other| {
                if worst.as_gauge() >= other.as_gauge() { worst } else { other }
            },
        )
    }

    /// Sets what the operator wants of the target.
    pub fn operate(&self, operation: Operation) {
        self.health.target.operate(operation);
    }

    /// Forgets breaker and cooldown in all three scopes.
    pub fn reset(&self) {
        for unit in [&self.health.target, &self.health.credential, &self.health.endpoint] {
            unit.reset();
        }
    }
}

impl Live {
    /// Returns the turns of a route.
    #[must_use]
    pub fn turns(&self, route: RouteIdx) -> Option<&Turns> {
        self.turns.get(route.at())
    }

    /// Returns the slot of a target.
    #[must_use]
    pub fn slot(&self, target: TargetIdx) -> Option<&Arc<Slot>> {
        self.slots.get(target.at())
    }
}

impl Book {
    fn new(events: Arc<Events>) -> Book {
        Book {
            events,
            targets: HashMap::new(),
            direct: HashMap::new(),
            credentials: HashMap::new(),
            endpoints: HashMap::new(),
            purses: HashMap::new(),
            trusts: Trusts::default(),
        }
    }

    fn keep_direct(&mut self, id: &TargetId) -> (Arc<Unit>, Arc<Tally>) {
        if self.direct.len() >= DIRECT_LIMIT && !self.direct.contains_key(&id.0) {
            // Only those that no request holds can go; their rests are lost, which costs one attempt.
            self.direct.retain(|_, (unit, _)| Arc::strong_count(unit) > 1);
        }
        self.direct.entry(Arc::clone(&id.0)).or_default().clone()
    }

    fn credential(&mut self, provider: &str, credential: &str) -> Arc<Unit> {
        Arc::clone(self.credentials.entry(credential_name(provider, credential)).or_default())
    }

    /// Returns the purse of a login: the one that there is, unless the login was changed.
    fn purse(
        &mut self,
        provider: &Arc<str>,
        credential: &Arc<str>,
        (login, denies): (&Login, Option<bool>),
        clock: Clock,
    ) -> Result<Arc<Purse>, LiveProblem> {
        let name = credential_name(provider, credential);
        if let Some(kept) = self.purses.get(&name).filter(|p| p.login() == login && p.denies() == denies) {
            return Ok(Arc::clone(kept));
        }
        let unit = self.credential(provider, credential);
        let told = Arc::clone(&self.events);
        let purse = Purse::new(name.clone(), (login, denies), clock, unit, told).map_err(|fault| {
            LiveProblem::Login { provider: Arc::clone(provider), credential: Arc::clone(credential), fault }
        })?;
        self.purses.insert(name, Arc::clone(&purse));
        Ok(purse)
    }

    fn forget_what_is_not_in(&mut self, live: &Live) {
        let plan = &live.plan;
        self.targets.retain(|id, _| live.slots.iter().any(|slot| slot.target.id.as_str() == &**id));
        self.endpoints.retain(|name, _| plan.endpoints.iter().any(|e| e.name == *name));
        let names: Vec<String> = plan
            .credentials
            .iter()
            .map(|c| credential_name(&plan.provider(c.provider).name, &c.name))
            .collect();
        self.credentials.retain(|name, _| names.contains(name));
        self.purses.retain(|name, _| names.contains(name));
        self.trusts.keep(&plan.endpoints);
    }
}

fn credential_name(provider: &str, credential: &str) -> String {
    format!("{provider}/{credential}")
}

fn build(
    plan: Plan,
    generation: u64,
    old: Option<&Live>,
    book: &mut Book,
    metrics: &Arc<Metrics>,
    clock: Clock,
) -> Result<Live, LiveProblem> {
    let meters = Meters::new(metrics, &plan);
    let keyrings = keyrings(&plan, book, clock)?;
    let mut slots = Vec::with_capacity(plan.targets.len());
    for (at, target) in (0u32..).map(TargetIdx).zip(&plan.targets) {
        let kept = book.targets.entry(Arc::clone(&target.id.0)).or_default().clone();
        slots.push(make(&plan, &keyrings, target.clone(), kept, meters.target(at), book, clock)?);
    }
    let siblings: Vec<Arc<[Arc<Unit>]>> = slots.iter().map(|slot| siblings(slot, &slots)).collect();
    let slots = slots
        .into_iter()
        .zip(siblings)
        .map(|(mut slot, siblings)| {
            slot.health = Arc::new(Units { siblings, ..(*slot.health).clone() });
            Arc::new(slot)
        })
        .collect();
    if let Some(old) = old {
        end_rests_of_changed_keys(&plan, old, &keyrings);
    }
    let turns = plan.routes.iter().map(Turns::of).collect();
    let used = plan.routes.iter().map(|_| warm::LastUse::default()).collect();
    let policy = Arc::new(Policy { breaker: plan.breaker, cooldown: plan.cooldown });
    Ok(Live { generation, plan, keyrings, slots, turns, used, policy, meters })
}

fn keyrings(plan: &Plan, book: &mut Book, clock: Clock) -> Result<Vec<Arc<Keyring>>, LiveProblem> {
    let make = |credential: &Credential| {
        let provider = plan.provider(credential.provider);
        let unit = book.credential(&provider.name, &credential.name);
        let names = (&provider.name, &credential.name);
        Keyring::new(
            names,
            (provider.kind, &provider.proof),
            credential.key.as_ref(),
            credential.file.as_ref(),
            unit,
            (Arc::clone(&book.events), clock),
        )
    };
    plan.credentials.iter().map(make).collect()
}

fn siblings(slot: &Slot, all: &[Slot]) -> Arc<[Arc<Unit>]> {
    all.iter()
        .filter(|other| {
            other.target.provider == slot.target.provider
                && other.target.model == slot.target.model
                && other.target.credential != slot.target.credential
        })
        .map(|other| Arc::clone(&other.health.target))
        .collect()
}

/// Compared are the keys in force: the old generation may have read a file again since.
fn end_rests_of_changed_keys(plan: &Plan, old: &Live, keyrings: &[Arc<Keyring>]) {
    for (credential, keyring) in plan.credentials.iter().zip(keyrings) {
        let provider = &plan.provider(credential.provider).name;
        let mut before = old.plan.credentials.iter().zip(&old.keyrings);
        let before = before
            .find(|(c, _)| c.name == credential.name && old.plan.provider(c.provider).name == *provider);
        if before.is_some_and(|(c, before)| before.key() != keyring.key() || c.login != credential.login) {
            keyring.key_changed();
        }
    }
}

fn make_direct(
    live: &Live,
    (id, provider, credential): (TargetId, ProviderIdx, CredentialIdx),
    model: &str,
    kept: (Arc<Unit>, Arc<Tally>),
    book: &mut Book,
    clock: Clock,
) -> Result<Slot, LiveProblem> {
    let plan = &live.plan;
    let of = plan.provider(provider);
    let traits = of.traits(model);
    let target = Target { id, provider, credential, endpoint: of.endpoint, model: model.into(), traits };
    make(plan, &live.keyrings, target, kept, live.meters.unlisted(credential), book, clock)
}

fn make(
    plan: &Plan,
    keyrings: &[Arc<Keyring>],
    target: Target,
    (unit, tally): (Arc<Unit>, Arc<Tally>),
    meter: &Arc<TargetMeter>,
    book: &mut Book,
    clock: Clock,
) -> Result<Slot, LiveProblem> {
    let provider = plan.provider(target.provider);
    let credential = &plan.credentials[target.credential.at()];
    let endpoint = &plan.endpoints[target.endpoint.at()];
    let unusable_key = || LiveProblem::Key {
        provider: Arc::clone(&provider.name),
        credential: Arc::clone(&credential.name),
    };
    let denies = endpoint.deny_private_ips;
    let purse = |login| book.purse(&provider.name, &credential.name, (login, denies), clock);
    let purse = credential.login.as_ref().map(purse).transpose()?;
    let (endpoint_unit, addresses) = book
        .endpoints
        .entry(Arc::clone(&endpoint.name))
        .and_modify(|(_, known)| {
            if !known.are_given(&endpoint.addresses) || known.reach() != endpoint.reach() {
                *known = Arc::new(Addresses::of(endpoint));
            }
        })
        .or_insert_with(|| (Arc::default(), Arc::new(Addresses::of(endpoint))))
        .clone();
    let credential_unit = book.credential(&provider.name, &credential.name);
    let template = PeerTemplate {
        host: Arc::clone(&endpoint.host),
        is_tls: endpoint.tls,
        // Copilot's servers do not take HTTP/2 from editors (requirements B14).
        versions: match &credential.login {
            Some(Login::Copilot(_)) => HttpVersions::One,
            Some(Login::Aws(_) | Login::Entra(_) | Login::Google(_) | Login::OAuth(_)) | None => {
                provider.http
            }
        },
        connect: provider.timeouts.connect,
        verify: !endpoint.insecure_skip_verify,
        trust: book.trusts.of(endpoint)?,
    };
    Ok(Slot {
        provider: Arc::clone(&provider.name),
        credential: Arc::clone(&credential.name),
        provider_header: HeaderValue::from_str(&provider.name).map_err(|_| unusable_key())?,
        model_header: HeaderValue::from_str(&target.model).ok(),
        kind: provider.kind,
        base_path: Arc::clone(&provider.base_path),
        paths: provider.paths.clone(),
        authority: HeaderValue::from_str(&provider.authority).map_err(|_| unusable_key())?,
        is_tls: endpoint.tls,
        may_lead_back: matches!(provider.kind, Kind::OpenAi | Kind::Anthropic | Kind::Gemini)
            && !is_catalogued(&endpoint.host),
        keyring: Arc::clone(&keyrings[target.credential.at()]),
        purse,
        extra: provider.headers.clone(),
        health: Arc::new(Units {
            target: unit,
            credential: credential_unit,
            endpoint: endpoint_unit,
            siblings: Arc::from([]),
        }),
        meter: Arc::clone(meter),
        tally,
        peer: addresses.literal().map(|address| Arc::new(template.at(address))),
        way: template.way(&addresses),
        addresses,
        template,
        serial: None,
        proved: ArcSwapOption::empty(),
        target,
    })
}

/// Tells whether a host is that of a provider of the catalogue.
fn is_catalogued(host: &str) -> bool {
    let is_at = |url: &&str| url.split('/').nth(2).is_some_and(|authority| authority == host);
    catalog::entries().any(|entry| entry.urls.iter().any(&is_at))
}
