//! How does a plan become a generation?
//!
//! A keyring per credential, a slot per target, and each slot's siblings: the targets of the same
//! provider and model under other credentials. What names have kept comes from the [`Book`]. A changed key
//! ends the rests that blamed the key.

use super::book::Book;
use super::direct::Made;
use super::keyring::Keyring;
use super::slot::{self, Slot};
use super::{Live, LiveProblem, warm};
use crate::base::ids::TargetIdx;
use crate::clock::Clock;
use crate::config::plan::{Credential, Plan};
use crate::health::{Policy, Unit, Units};
use crate::observe::meter::Meters;
use crate::observe::metrics::Metrics;
use crate::secrets::Stamp;
use crate::select::Turns;
use std::sync::Arc;

/// Makes a generation of a plan; `old` is the one in force, `left` the states of the files of keys, by
/// credential, in which they are not to be read.
///
/// # Errors
/// Where a key, a login or a certificate of the plan cannot be used.
pub(super) fn build(
    plan: Plan,
    generation: u64,
    (old, left): (Option<&Live>, &[Option<Stamp>]),
    book: &mut Book,
    metrics: &Arc<Metrics>,
    clock: Clock,
) -> Result<Live, LiveProblem> {
    let meters = Meters::new(metrics, &plan);
    let keyrings = keyrings(&plan, left, book, clock)?;
    let mut slots = Vec::with_capacity(plan.targets.len());
    for (at, target) in (0u32..).map(TargetIdx).zip(&plan.targets) {
        let kept = book.targets.entry(Arc::clone(&target.id.0)).or_default().clone();
        slots.push(slot::make(&plan, &keyrings, target.clone(), kept, meters.target(at), book, clock)?);
    }
    let siblings: Vec<Arc<[Arc<Unit>]>> = slots.iter().map(|slot| siblings(slot, slots.iter())).collect();
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
    Ok(Live { generation, plan, keyrings, slots, made: Made::default(), turns, used, policy, meters })
}

fn keyrings(
    plan: &Plan,
    left: &[Option<Stamp>],
    book: &mut Book,
    clock: Clock,
) -> Result<Vec<Arc<Keyring>>, LiveProblem> {
    let make = |(at, credential): (usize, &Credential)| {
        let provider = plan.provider(credential.provider);
        let unit = book.credential(&provider.name, &credential.name);
        let names = (&provider.name, &credential.name);
        Keyring::new(
            names,
            (provider.kind, &provider.proof),
            credential.key.as_ref(),
            (credential.file.as_ref(), left.get(at).copied().flatten()),
            unit,
            (Arc::clone(&book.events), clock),
        )
    };
    plan.credentials.iter().enumerate().map(make).collect()
}

/// The health of the targets of the same provider and model under other credentials.
pub(super) fn siblings<'a>(slot: &Slot, all: impl Iterator<Item = &'a Slot>) -> Arc<[Arc<Unit>]> {
    all.filter(|other| {
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
