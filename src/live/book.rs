//! What do names keep from generation to generation?
//!
//! Health by target id, by credential and by endpoint, resolved addresses by endpoint, tokens by
//! credential. A changed base URL is another endpoint and starts fresh, a changed login another
//! [`Purse`]; what a plan no longer names is forgotten. Of targets that no route names at most
//! [`DIRECT_LIMIT`] are kept.

use super::tally::Tally;
use super::way::Trusts;
use super::{Live, LiveProblem};
use crate::base::ids::TargetId;
use crate::clock::Clock;
use crate::config::credential::Login;
use crate::health::Unit;
use crate::observe::events::Events;
use crate::resolve::Addresses;
use crate::tokens::Purse;
use std::collections::HashMap;
use std::sync::Arc;

/// Health records kept for targets that no route names.
pub(super) const DIRECT_LIMIT: usize = 1024;

/// What names keep from generation to generation.
pub(super) struct Book {
    /// Where credentials tell what becomes of them.
    pub(super) events: Arc<Events>,
    pub(super) targets: HashMap<Arc<str>, (Arc<Unit>, Arc<Tally>)>,
    pub(super) direct: HashMap<Arc<str>, (Arc<Unit>, Arc<Tally>)>,
    credentials: HashMap<String, Arc<Unit>>,
    pub(super) endpoints: HashMap<Arc<str>, (Arc<Unit>, Arc<Addresses>)>,
    purses: HashMap<String, Arc<Purse>>,
    pub(super) trusts: Trusts,
}

impl Book {
    pub(super) fn new(events: Arc<Events>) -> Book {
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

    pub(super) fn keep_direct(&mut self, id: &TargetId) -> (Arc<Unit>, Arc<Tally>) {
        if self.direct.len() >= DIRECT_LIMIT && !self.direct.contains_key(&id.0) {
            // Only those that no request holds can go; their rests are lost, which costs one attempt.
            self.direct.retain(|_, (unit, _)| Arc::strong_count(unit) > 1);
        }
        self.direct.entry(Arc::clone(&id.0)).or_default().clone()
    }

    pub(super) fn credential(&mut self, provider: &str, credential: &str) -> Arc<Unit> {
        Arc::clone(self.credentials.entry(credential_name(provider, credential)).or_default())
    }

    /// Returns the purse of a login: the one that there is, unless the login was changed.
    pub(super) fn purse(
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

    pub(super) fn forget_what_is_not_in(&mut self, live: &Live) {
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
