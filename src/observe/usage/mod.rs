//! What was used, by whom, and what did it cost?
//!
//! | room | its part |
//! |---|---|
//! | `book` | which rows are there, and which of them changed? |
//! | [`days`] | which day is it for the operator? |
//! | [`ledger`] | adds up, under one short lock |
//! | [`report`] | what devices say that do not pass through |
//! | [`store`] | keeps it over restarts, in SQLite |
//!
//! Every request that has a log line is counted once, when it has ended, in one row: its day, route,
//! target, client and device. What a [`Row`] is for, [`Count`] says in numbers; pages add rows up
//! along any [`Dimension`].
//!
//! **Bounded.** Names come from the configuration. The two that do not (a device's own name, and
//! what a report says of foreign models) are kept to [`ledger::DEVICES_MAX`] and
//! [`ledger::FOREIGN_MAX`] at a time; whoever comes later is `other`. There are at most
//! [`ledger::ROWS_MAX`] rows; beyond, a day's new rows share one.
//!
//! **Cost** is tokens times the price in force when the request ended, in billionths of a dollar, so
//! that sums do not depend on their order. Where tokens or price are unknown the request is counted
//! as unpriced and adds nothing: a sum with unpriced requests is a lower bound, and a sum of nothing
//! but those is unknown, never 0.

mod book;
pub mod days;
pub mod ledger;
pub mod report;
pub mod store;

use crate::base::time::WallTime;
use crate::config::plan::Model;
use days::Day;
use std::ops::AddAssign;
use std::sync::Arc;

/// Billionths of a dollar in one.
const NANOS: f64 = 1e9;

/// What one request, or many, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Requests whose client got an error, or a stream that broke.
    pub failed: u64,
    /// Requests whose client left before the end.
    pub client_gone: u64,
    /// Requests that a target was used for and whose cost is not known; one for each target where
    /// several answered one stream in turn.
    pub unpriced: u64,
    /// Tokens of prompts, cached ones included.
    pub input_tokens: u64,
    /// Tokens of answers, reasoning included.
    pub output_tokens: u64,
    /// Tokens of prompts that came from a cache.
    pub cached_tokens: u64,
    /// Tokens of answers that were reasoning.
    pub reasoning_tokens: u64,
    /// Cost in billionths of a US dollar.
    pub cost_nanos: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        add(&mut self.requests, other.requests);
        add(&mut self.failed, other.failed);
        add(&mut self.client_gone, other.client_gone);
        add(&mut self.unpriced, other.unpriced);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.cached_tokens, other.cached_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
        add(&mut self.cost_nanos, other.cost_nanos);
    }
}

impl Count {
    /// Returns the cost in US dollars; nothing where no part of it is known. With
    /// [`Count::unpriced`] above zero it is a lower bound.
    #[must_use]
    pub fn cost_usd(&self) -> Option<f64> {
        (self.cost_nanos > 0 || self.unpriced == 0).then(|| usd(self.cost_nanos))
    }
}

/// Turns US dollars into billionths; what is negative or not a number is nothing.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, NaN is 0")]
pub fn nanos(usd: f64) -> u64 {
    (usd * NANOS).round() as u64
}

/// Turns billionths into US dollars.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "exact below nine million dollars")]
pub fn usd(nanos: u64) -> f64 {
    nanos as f64 / NANOS
}

/// Returns what tokens cost in billionths of a dollar, where their numbers and prices are known.
#[must_use]
pub fn cost(model: &Model, input: Option<u64>, output: Option<u64>) -> Option<u64> {
    price(model.price_input, input)?.checked_add(price(model.price_output, output)?)
}

/// What tokens of one direction cost: nothing where there are none, whatever the price.
#[allow(clippy::cast_precision_loss, reason = "token counts stay far below 2^52")]
fn price(usd_per_million: Option<f64>, tokens: Option<u64>) -> Option<u64> {
    match tokens? {
        0 => Some(0),
        tokens => Some(nanos(tokens as f64 * usd_per_million? / 1e6)),
    }
}

/// Whose usage it is. `other` stands for a name that the configuration does not know, `none` for
/// no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who<'a> {
    /// The route.
    pub route: &'a str,
    /// The target's provider.
    pub provider: &'a str,
    /// The target's credential.
    pub credential: &'a str,
    /// The target's model.
    pub model: &'a str,
    /// The client, by its key.
    pub client: &'a str,
    /// The device, by its own word.
    pub device: &'a str,
}

/// Where a count comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A request that passed through here.
    Proxied,
    /// A device's report.
    Reported,
}

impl Source {
    /// Returns its word.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Source::Proxied => "proxied",
            Source::Reported => "reported",
        }
    }

    /// Finds it by its word.
    #[must_use]
    pub fn from_label(word: &str) -> Option<Source> {
        [Source::Proxied, Source::Reported].into_iter().find(|source| source.as_label() == word)
    }
}

/// What rows can be added up along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The day in the operator's zone.
    Day,
    /// The route.
    Route,
    /// The model that answered.
    Model,
    /// The provider that answered.
    Provider,
    /// The credential that was used, as `provider/credential`.
    Credential,
    /// The target, as `provider/credential/model`.
    Target,
    /// The client.
    Client,
    /// The device.
    Device,
    /// Passed through, or reported.
    Source,
}

impl Dimension {
    /// All of them, in the order in which pages list them.
    pub const ALL: [Dimension; 9] = [
        Dimension::Day,
        Dimension::Route,
        Dimension::Model,
        Dimension::Provider,
        Dimension::Credential,
        Dimension::Target,
        Dimension::Client,
        Dimension::Device,
        Dimension::Source,
    ];

    /// Returns its word.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Dimension::Day => "day",
            Dimension::Route => "route",
            Dimension::Model => "model",
            Dimension::Provider => "provider",
            Dimension::Credential => "credential",
            Dimension::Target => "target",
            Dimension::Client => "client",
            Dimension::Device => "device",
            Dimension::Source => "source",
        }
    }

    /// Finds it by its word.
    #[must_use]
    pub fn from_label(word: &str) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|dimension| dimension.as_label() == word)
    }
}

/// One row of the ledger, names written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its day.
    pub day: Day,
    /// Where it comes from.
    pub source: Source,
    /// Route, provider, credential, model, client, device, in this order.
    pub names: [Arc<str>; 6],
    /// The numbers.
    pub count: Count,
    /// When it was last added to.
    pub last_seen: WallTime,
}

impl Row {
    /// Returns whose usage it is.
    #[must_use]
    pub fn who(&self) -> Who<'_> {
        let [route, provider, credential, model, client, device] = &self.names;
        Who { route, provider, credential, model, client, device }
    }

    /// Returns what it is along a dimension.
    #[must_use]
    pub fn along(&self, dimension: Dimension) -> Arc<str> {
        let [route, provider, credential, model, client, device] = &self.names;
        match dimension {
            Dimension::Day => self.day.to_string().into(),
            Dimension::Route => Arc::clone(route),
            Dimension::Model => Arc::clone(model),
            Dimension::Provider => Arc::clone(provider),
            Dimension::Credential => joined(&[provider, credential]),
            Dimension::Target => joined(&[provider, credential, model]),
            Dimension::Client => Arc::clone(client),
            Dimension::Device => Arc::clone(device),
            Dimension::Source => self.source.as_label().into(),
        }
    }
}

/// Joins the parts of a target's id; where there was no target it is `none`.
fn joined(parts: &[&Arc<str>]) -> Arc<str> {
    match parts {
        [first, ..] if &***first == super::metrics::NONE => Arc::clone(first),
        _ => parts.iter().map(|part| &***part).collect::<Vec<_>>().join("/").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_without_a_price_have_no_cost_and_no_tokens_cost_nothing() {
        for (usd, tokens, want) in [
            (Some(2.5), Some(1_000_000), Some(2_500_000_000)),
            (Some(0.15), Some(1), Some(150)),
            (Some(0.0), Some(7), Some(0)),
            (None, Some(7), None),
            (None, Some(0), Some(0)),
            (Some(2.5), None, None),
        ] {
            assert_eq!(price(usd, tokens), want, "{usd:?} {tokens:?}");
        }
    }

    #[test]
    fn an_unknown_cost_is_never_zero() {
        let count =
            |requests, unpriced, cost_nanos| Count { requests, unpriced, cost_nanos, ..Count::default() };
        for (count, want, why) in [
            (count(3, 3, 0), None, "nothing is known of any"),
            (count(3, 1, 2_500_000_000), Some(2.5), "what is known, a lower bound"),
            (count(3, 0, 0), Some(0.0), "all are known to be free"),
            (count(0, 0, 0), Some(0.0), "nothing was used"),
        ] {
            assert_eq!(count.cost_usd(), want, "{why}");
        }
        for (usd, want) in [(f64::NAN, 0), (-1.0, 0), (f64::INFINITY, u64::MAX), (0.1 + 0.2, 300_000_000)] {
            assert_eq!(nanos(usd), want, "{usd}");
        }
    }
}
