//! Which targets does `provider/model` mean?
//!
//! One per credential of the provider, for any model it may have. Those that a route names are theirs; the
//! others are made when they are first asked for and kept with the generation, [`MADE_MAX`] of them:
//! what is one too many makes room by all others going, which costs making them anew. Their health
//! and their numbers stand in the [`Book`] and outlive that.

use super::book::Book;
use super::build;
use super::slot::{self, Slot};
use super::tally::Tally;
use super::{House, Live, LiveProblem};
use crate::base::ids::{CredentialIdx, ProviderIdx, TargetId};
use crate::clock::Clock;
use crate::config::plan::Target;
use crate::health::{Unit, Units};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Slots kept for models that no route names: half of the health records that the book keeps, which it could
/// not forget otherwise.
const MADE_MAX: usize = super::book::DIRECT_LIMIT / 2;

/// The slots that were made for a generation since it is in force.
#[derive(Default)]
pub(super) struct Made(Mutex<Table>);

#[derive(Default)]
struct Table {
    slots: HashMap<ProviderIdx, HashMap<Box<str>, Vec<Arc<Slot>>>>,
    count: usize,
}

impl Made {
    fn get(&self, provider: ProviderIdx, model: &str) -> Option<Vec<Arc<Slot>>> {
        self.0.lock().slots.get(&provider)?.get(model).cloned()
    }

    fn keep(&self, provider: ProviderIdx, model: &str, slots: &[Arc<Slot>]) {
        let mut table = self.0.lock();
        if table.count + slots.len() > MADE_MAX {
            *table = Table::default();
        }
        let of_provider = table.slots.entry(provider).or_default();
        if of_provider.insert(model.into(), slots.to_vec()).is_none() {
            table.count += slots.len();
        }
    }
}

impl House {
    /// Returns the slots of `provider/model`: one per credential, made at the first call where no route
    /// names them.
    #[must_use]
    pub fn direct(&self, live: &Live, provider: ProviderIdx, model: &str) -> Vec<Arc<Slot>> {
        live.made.get(provider, model).unwrap_or_else(|| {
            let slots = self.direct_kept(live, provider, model, Book::keep_direct);
            // One that could not be made may be made next time.
            if slots.len() == live.plan.provider(provider).credentials.len() {
                live.made.keep(provider, model, &slots);
            }
            slots
        })
    }

    /// The same for a look without effect: what nobody has yet is not kept.
    #[must_use]
    pub fn direct_unkept(&self, live: &Live, provider: ProviderIdx, model: &str) -> Vec<Arc<Slot>> {
        live.made.get(provider, model).unwrap_or_else(|| {
            self.direct_kept(live, provider, model, |book, id| {
                book.direct.get(&id.0).cloned().unwrap_or_default()
            })
        })
    }

    fn direct_kept(
        &self,
        live: &Live,
        provider: ProviderIdx,
        model: &str,
        kept: impl Fn(&mut Book, &TargetId) -> (Arc<Unit>, Arc<Tally>),
    ) -> Vec<Arc<Slot>> {
        let of = live.plan.provider(provider);
        let find = |credential: &CredentialIdx| {
            let known = live.slots.iter().find(|slot| {
                slot.target.provider == provider
                    && slot.target.credential == *credential
                    && &*slot.target.model == model
            });
            if let Some(known) = known {
                return Some(Found::Known(Arc::clone(known)));
            }
            let mut book = self.book.lock();
            let id = TargetId::new(&of.name, &live.plan.credentials[credential.at()].name, model);
            let kept = kept(&mut book, &id);
            let made =
                make_direct(live, (id, provider, *credential), model, kept, &mut book, self.clock).ok()?;
            Some(Found::Made(Box::new(made)))
        };
        let found: Vec<Found> = of.credentials.iter().filter_map(find).collect();
        let siblings: Vec<Arc<[Arc<Unit>]>> = {
            let all: Vec<&Slot> = found.iter().map(Found::slot).collect();
            all.iter().map(|slot| build::siblings(slot, all.iter().copied())).collect()
        };
        let finish = |(found, siblings)| match found {
            Found::Known(slot) => slot,
            Found::Made(mut slot) => {
                slot.health = Arc::new(Units { siblings, ..(*slot.health).clone() });
                Arc::from(slot)
            }
        };
        found.into_iter().zip(siblings).map(finish).collect()
    }
}

/// A slot that a route has, or a new one.
enum Found {
    Known(Arc<Slot>),
    Made(Box<Slot>),
}

impl Found {
    fn slot(&self) -> &Slot {
        match self {
            Found::Known(slot) => slot,
            Found::Made(slot) => slot,
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
    slot::make(plan, &live.keyrings, target, kept, live.meters.unlisted(credential), book, clock)
}
