//! Which targets does `provider/model` mean?
//!
//! One per credential of the provider, for any model it may have. Those that a route names are theirs; the
//! others are made when they are asked for, and only their health and their numbers are kept.

use super::book::Book;
use super::slot::{self, Slot};
use super::tally::Tally;
use super::{House, Live, LiveProblem};
use crate::base::ids::{CredentialIdx, ProviderIdx, TargetId};
use crate::clock::Clock;
use crate::config::plan::Target;
use crate::health::Unit;
use std::sync::Arc;

impl House {
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
    slot::make(plan, &live.keyrings, target, kept, live.meters.unlisted(credential), book, clock)
}
