//! Which plan is in force, and what stands behind its names?
//!
//! A [`Live`] is one generation: the plan with everything that a request needs at hand, made once
//! at reload so that no request pays for it: a [`Slot`] per target with its health, its meter, its
//! [`keyring`] and, where the address is literal, its peer. Requests hold an `Arc` of the generation
//! they began with; [`House::swap`] puts the next one in its place.
//!
//! What outlives a generation stands in the [`Book`] of the [`House`], by name: health, addresses, tokens.
//! `build` makes a generation of a plan and of what the book has; `direct` makes slots for models that
//! no route names, when they are asked for. A target whose credential is a login has a purse;
//! [`Slot::prove`] (in `proof`) makes of it a slot with the token in force. A [`Tally`] has a target's
//! numbers for pages.
//!
//! What all requests share stands beside it: [`memory`] bounds what they keep, [`quotas`] what clients may
//! ask for, [`guesses`] counts wrong keys by address, `warm` has a connection ready behind the target in
//! use, `way` leads to a server, `states` tells what changed, [`parting`] ends what is left.

use crate::base::ids::{CredentialIdx, RouteIdx, TargetIdx};
use crate::base::secret::Secret;
use crate::clock::Clock;
use crate::config::plan::Plan;
use crate::exchange::budget::RetryBudget;
use crate::exchange::hedge::Hedges;
use crate::health::Policy;
use crate::observe::audit::Audit;
use crate::observe::decisions::Decisions;
use crate::observe::events::{Event, Events};
use crate::observe::log::Log;
use crate::observe::meter::Meters;
use crate::observe::metrics::Metrics;
use crate::observe::usage::ledger::Ledger;
use crate::pools::Pools;
use crate::resolve::Addresses;
use crate::secrets::Stamp;
use crate::select::Turns;
use crate::tokens::KeyFault;
use arc_swap::ArcSwap;
use book::Book;
use guesses::Guesses;
use http::HeaderValue;
use keyring::Keyring;
use parking_lot::Mutex;
use pins::Pins;
use quotas::Quotas;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use warm::Warmth;

mod book;
mod build;
mod direct;
pub mod guesses;
pub mod keyring;
pub mod memory;
pub mod parting;
pub mod pins;
mod proof;
pub mod quotas;
mod slot;
mod states;
mod tally;
mod warm;
mod way;

pub use proof::Signing;
pub use slot::{Slot, Standing};
pub use tally::{Counts, Tally};
pub use way::NoConnection;

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
    /// Those of models that no route names.
    made: direct::Made,
    /// One per route of the plan, by its index.
    pub turns: Vec<Turns>,
    /// The same: when it was last used.
    used: Vec<warm::LastUse>,
    /// What health decides by.
    pub policy: Arc<Policy>,
    /// Counters at hand, by route and target.
    pub meters: Meters,
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
        let first = build::build(plan, 1, (None, &[]), &mut book, &metrics, clock)?;
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
        self.restore(plan, &[])
    }

    /// Puts a plan in force that was before. Its keys stay until their files are in another state than
    /// in `left`, by the index of the credential.
    ///
    /// # Errors
    /// As [`House::swap`].
    pub fn restore(&self, plan: Plan, left: &[Option<Stamp>]) -> Result<u64, LiveProblem> {
        let mut book = self.book.lock();
        let old = self.live();
        let generation = old.generation + 1;
        let next = build::build(plan, generation, (Some(&old), left), &mut book, &self.metrics, self.clock)?;
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

/// A request under way; counted out when dropped.
pub struct UnderWay(Arc<House>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests_under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Live {
    /// Returns the turns of a route.
    #[must_use]
    pub fn turns(&self, route: RouteIdx) -> Option<&Turns> {
        self.turns.get(route.at())
    }

    /// Returns what proves us in this generation, by credential; of a login that is nothing.
    #[must_use]
    pub fn signatures(&self) -> Vec<Arc<keyring::Signature>> {
        self.keyrings.iter().map(|ring| ring.current()).collect()
    }

    /// Returns what nobody is to read in an error: what these signatures send, and what headers hold that the
    /// operator adds.
    pub fn unquotable<'a>(
        &'a self,
        signatures: &'a [Arc<keyring::Signature>],
    ) -> impl Iterator<Item = &'a Secret> {
        let keys = signatures.iter().flat_map(|signature| signature.keys());
        keys.chain(self.plan.providers.iter().flat_map(|provider| &provider.header_secrets))
    }

    /// Returns the slot of a target.
    #[must_use]
    pub fn slot(&self, target: TargetIdx) -> Option<&Arc<Slot>> {
        self.slots.get(target.at())
    }
}
