//! What did a request use, at whom, and what did it cost?
//!
//! Each answer that is delivered, whole or as a stream, has an entry of its own: a stream that breaks
//! and is taken up by another target was paid for at both, and so is one that broke before its content, as
//! far as the provider had said what it read. What a provider said last counts, also
//! where the client left or the stream broke before its end. The log has the sum, counters and the
//! [`Ledger`](crate::observe::usage::ledger::Ledger) each target's own share.
//!
//! A request is one row: that of its last target. Tokens of the targets before go into their rows
//! without a request.

use super::story::Ended;
use crate::base::api::Dialect;
use crate::base::time::WallTime;
use crate::live::{House, Live, Slot};
use crate::observe::decisions::Spent;
use crate::observe::metrics::{NONE, OTHER};
use crate::observe::usage::{self, Count, Who, usd};
use crate::wire::Usage;
use smallvec::SmallVec;
use std::sync::Arc;

/// Most tokens that are believed of one answer, as of a report: sums of more would say nothing.
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// What one request used.
#[derive(Default)]
pub(super) struct Spending {
    device: Option<Box<str>>,
    /// Whether nothing is used whatever the answer says: it counts tokens for the client.
    is_free: bool,
    /// What was delivered, in order: the candidate, the number of its attempt, the tokens.
    entries: SmallVec<[(usize, u32, Usage); 1]>,
}

/// What the log says of it.
pub(super) struct Bill {
    pub(super) used: Usage,
    pub(super) cost_usd: Option<f64>,
}

impl Spending {
    /// Keeps the name of the device, where there is one.
    pub(super) fn by_device(&mut self, name: Option<Box<str>>) {
        self.device = name;
    }

    /// The numbers of the answer are what was asked for, and used nothing.
    pub(super) fn costs_nothing(&mut self) {
        self.is_free = true;
    }

    /// An answer of this candidate begins, with the attempt of this number.
    pub(super) fn begin(&mut self, candidate: usize, attempt: usize) {
        if self.is_free {
            return;
        }
        let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
        self.entries.push((candidate, attempt, Usage::default()));
    }

    /// The answer under way used so much by now.
    pub(super) fn say(&mut self, usage: Usage) {
        if let Some((_, _, known)) = self.entries.last_mut() {
            let believed = |tokens: Option<u64>| tokens.filter(|tokens| *tokens <= TOKENS_MAX);
            *known = Usage {
                input: believed(usage.input),
                output: believed(usage.output),
                cached: believed(usage.cached),
                cache_written: believed(usage.cache_written),
                reasoning: believed(usage.reasoning),
            };
        }
    }

    /// Tells what each attempt used.
    pub(super) fn by_attempt(&self) -> SmallVec<[Spent; 1]> {
        let small = |tokens: Option<u64>| tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
        let of = |(_, attempt, usage): &(usize, u32, Usage)| Spent {
            record: *attempt,
            input: small(usage.input),
            output: small(usage.output),
        };
        self.entries.iter().map(of).collect()
    }

    /// Tells for the log what each answer used and of which target, where there was more than one.
    pub(super) fn by_target(&self, slots: &[Arc<Slot>]) -> Option<String> {
        if self.entries.len() < 2 {
            return None;
        }
        let tokens = |tokens: Option<u64>| tokens.map_or("?".to_owned(), |tokens| tokens.to_string());
        let each = self.entries.iter().filter_map(|(candidate, _, usage)| {
            let slot = slots.get(*candidate)?;
            Some(format!("{}:{}+{}", slot.target.id, tokens(usage.input), tokens(usage.output)))
        });
        Some(each.collect::<Vec<_>>().join(","))
    }

    /// Adds the request to counters and ledger, `at` the moment at which it ended.
    pub(super) fn settle(&self, house: &House, live: &Live, ended: &Ended<'_>, at: WallTime) -> Bill {
        let mut bill = Bill { used: Usage::default(), cost_usd: None };
        let mut own = Count { requests: 1, ..Count::default() };
        let is_error = ended.status >= 400 || ended.status == 0;
        own.client_gone = u64::from(ended.is_client_gone);
        own.failed = u64::from((is_error || ended.is_interrupted) && !ended.is_client_gone);
        for (candidate, _, usage) in &self.entries {
            let Some(slot) = ended.slots.get(*candidate) else { continue };
            let cost = cost(live, slot, ended.dialect, usage);
            slot.meter.tokens(usage.input.unwrap_or(0), usage.output.unwrap_or(0));
            slot.meter.cost(cost.map_or(0.0, usd));
            bill.add(*usage, cost);
            let unpriced = u64::from(cost.is_none());
            let count = Count { unpriced, ..count_of(usage, cost) };
            if Some(*candidate) == ended.last {
                own += count;
            } else {
                house.usage.count(at, &self.who(live, ended, Some(slot)), &count);
            }
        }
        let last = ended.last.and_then(|last| ended.slots.get(last));
        let may_cost = last.is_some() && !self.is_free && (!is_error || ended.is_client_gone);
        // Passed through unread, too long to be held, or left before a word was said.
        own.unpriced += u64::from(may_cost && self.entries.is_empty());
        house.usage.count(at, &self.who(live, ended, last), &own);
        bill
    }

    fn who<'a>(&'a self, live: &'a Live, ended: &Ended<'a>, slot: Option<&'a Arc<Slot>>) -> Who<'a> {
        let client = ended.client.and_then(|at| live.plan.clients.get(at.at()));
        Who {
            route: ended.route.map_or(OTHER, |at| &*live.plan.route(at).name),
            provider: slot.map_or(NONE, |slot| &*slot.provider),
            credential: slot.map_or(NONE, |slot| &*slot.credential),
            // The meter's label: a model that no route names is `other`.
            model: slot.map_or(NONE, |slot| model_in(slot.meter.name())),
            client: client.map_or(NONE, |client| &*client.name),
            device: self.device.as_deref().unwrap_or(NONE),
        }
    }
}

impl Bill {
    fn add(&mut self, usage: Usage, cost: Option<u64>) {
        let add = |to: &mut Option<u64>, more: Option<u64>| {
            *to = more.map_or(*to, |more| Some(to.unwrap_or(0).saturating_add(more)));
        };
        add(&mut self.used.input, usage.input);
        add(&mut self.used.output, usage.output);
        if let Some(cost) = cost {
            self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + usd(cost));
        }
    }
}

fn count_of(usage: &Usage, cost: Option<u64>) -> Count {
    Count {
        input_tokens: usage.input.unwrap_or(0),
        output_tokens: usage.output.unwrap_or(0),
        cached_tokens: usage.cached.unwrap_or(0),
        reasoning_tokens: usage.reasoning.unwrap_or(0),
        cost_nanos: cost.unwrap_or(0),
        ..Count::default()
    }
}

/// What an answer cost in billionths of a dollar, where tokens and prices are known. An embedding
/// has no output.
fn cost(live: &Live, slot: &Slot, dialect: Option<Dialect>, used: &Usage) -> Option<u64> {
    let model = live.plan.provider(slot.target.provider).models.get(&slot.target.model)?;
    let no_output = (dialect == Some(Dialect::OpenAiEmbeddings)).then_some(0);
    usage::cost(model, used.input, used.output.or(no_output))
}

/// The model in `provider/credential/model`; it may hold slashes, the other two do not.
fn model_in(target: &str) -> &str {
    target.splitn(3, '/').nth(2).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_a_target_may_hold_slashes() {
        for (target, want) in
            [("p/k/m", "m"), ("p/k/openai/gpt-oss:20b", "openai/gpt-oss:20b"), ("p/k", "other")]
        {
            assert_eq!(model_in(target), want);
        }
    }
}
