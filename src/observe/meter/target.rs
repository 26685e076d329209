//! What is counted per target, over all routes.

use super::Lazy;
use crate::health::breaker::BreakerState;
use crate::observe::metrics::{Kind, Metrics, Names};
use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{Counter, Gauge, IntCounter, IntGauge};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Gives every target meter of the process a number of its own, so that a route's list of pairs
/// never mistakes one for another.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// What a provider's rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Requests.
    Requests,
    /// Tokens of either direction.
    Tokens,
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
}

/// What became of a connection that was opened ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmResult {
    /// It stands.
    Opened,
    /// It could not be opened.
    Failed,
    /// An attempt found it.
    Used,
}

/// What is counted per target.
pub struct TargetMeter {
    metrics: Arc<Metrics>,
    name: Arc<str>,
    pub(super) number: u64,
    in_flight: Lazy<IntGauge>,
    available: Lazy<Gauge>,
    breaker: Lazy<Gauge>,
    cooldown: Lazy<Gauge>,
    tokens: [Lazy<IntCounter>; 2],
    cost: Lazy<Counter>,
    ambiguous: Lazy<IntCounter>,
    warm: [Lazy<IntCounter>; 3],
    ratelimit_remaining: [Lazy<Gauge>; 4],
}

/// An attempt under way; dropping it takes it off the gauge, also when its task panics.
pub struct InFlight(Option<IntGauge>);

impl TargetMeter {
    pub(super) fn new(metrics: &Arc<Metrics>, name: Arc<str>) -> TargetMeter {
        TargetMeter {
            metrics: Arc::clone(metrics),
            name,
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            in_flight: OnceLock::new(),
            available: OnceLock::new(),
            breaker: OnceLock::new(),
            cooldown: OnceLock::new(),
            tokens: [const { OnceLock::new() }; 2],
            cost: OnceLock::new(),
            ambiguous: OnceLock::new(),
            warm: [const { OnceLock::new() }; 3],
            ratelimit_remaining: [const { OnceLock::new() }; 4],
        }
    }

    /// Returns the label: the target's id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts an attempt as under way until the guard is dropped.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.announce();
        let gauge = self.in_flight_gauge().cloned();
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        InFlight(gauge)
    }

    /// Counts an attempt that was given up after its request had been sent: perhaps billed.
    pub fn ambiguous(&self) {
        let families = &self.metrics.families;
        if let Some(series) = self.lazy(&self.ambiguous, (Kind::Event, &families.ambiguous_attempts), None) {
            series.inc();
        }
    }

    /// Counts what became of a connection that was opened ahead.
    pub fn warm(&self, result: WarmResult) {
        let family = &self.metrics.families.warm_connections;
        let lazy = self.warm.get(result as usize);
        if let Some(series) =
            lazy.and_then(|lazy| self.lazy(lazy, (Kind::Event, family), Some(result.as_label())))
        {
            series.inc();
        }
    }

    /// Counts tokens as the provider told them.
    pub fn tokens(&self, input: u64, output: u64) {
        let families = &self.metrics.families;
        let [input_series, output_series] = &self.tokens;
        for (lazy, direction, count) in [(input_series, "input", input), (output_series, "output", output)] {
            if let Some(series) = self.lazy(lazy, (Kind::Event, &families.tokens), Some(direction)) {
                series.inc_by(count);
            }
        }
    }

    /// Counts cost in US dollars; what is negative or not a number counts nothing.
    pub fn cost(&self, usd: f64) {
        let families = &self.metrics.families;
        if let Some(series) = self.lazy(&self.cost, (Kind::Event, &families.cost), None)
            && usd.is_finite()
            && usd > 0.0
        {
            series.inc_by(usd);
        }
    }

    /// Shows the target's health as of now. Called for every target before the metrics are
    /// written; a target that was never used and has nothing to say stays without series.
    pub fn state(&self, is_available: bool, breaker: BreakerState, cooldown_left: Duration) {
        let is_silent = is_available && breaker == BreakerState::Closed && cooldown_left.is_zero();
        if is_silent && self.in_flight.get().is_none() {
            return;
        }
        self.announce();
        let families = &self.metrics.families;
        let breaker = breaker.as_gauge();
        for (lazy, family, value) in [
            (&self.available, &families.available, f64::from(u8::from(is_available))),
            (&self.breaker, &families.breaker, breaker),
            (&self.cooldown, &families.cooldown, cooldown_left.as_secs_f64()),
        ] {
            if let Some(series) = self.lazy(lazy, (Kind::State, family), None) {
                series.set(value);
            }
        }
    }

    /// Shows what the provider said is left of a rate limit.
    #[allow(clippy::cast_precision_loss, reason = "exact below 2^53")]
    pub fn ratelimit_remaining(&self, kind: LimitKind, left: u64) {
        let families = &self.metrics.families;
        let series = self.ratelimit_remaining.get(kind as usize).and_then(|lazy| {
            self.lazy(lazy, (Kind::State, &families.ratelimit_remaining), Some(kind.as_label()))
        });
        if let Some(series) = series {
            series.set(left as f64);
        }
    }

    /// Makes what a target shows from its first use on; its health comes with [`Self::state`].
    pub(super) fn announce(&self) {
        if self.in_flight.get().is_none() {
            self.in_flight_gauge();
            self.tokens(0, 0);
            self.cost(0.0);
        }
    }

    fn in_flight_gauge(&self) -> Option<&IntGauge> {
        self.lazy(&self.in_flight, (Kind::Event, &self.metrics.families.in_flight), None)
    }

    /// The child of a family whose labels are `target` and perhaps one more.
    fn lazy<'a, B: MetricVecBuilder>(
        &self,
        lazy: &'a Lazy<B::M>,
        (kind, family): (Kind, &MetricVec<B>),
        second: Option<&str>,
    ) -> Option<&'a B::M> {
        let make = || {
            let names = Names { targets: [Some(self.name()), None], ..Names::default() };
            match second {
                Some(second) => self.metrics.child(family, (kind, names), &[self.name(), second]),
                None => self.metrics.child(family, (kind, names), &[self.name()]),
            }
        };
        lazy.get_or_init(make).as_ref()
    }
}

impl WarmResult {
    /// Returns the word for the label.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            WarmResult::Opened => "opened",
            WarmResult::Failed => "failed",
            WarmResult::Used => "used",
        }
    }
}

impl LimitKind {
    /// Returns the word for the label.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            LimitKind::Requests => "requests",
            LimitKind::Tokens => "tokens",
            LimitKind::InputTokens => "input_tokens",
            LimitKind::OutputTokens => "output_tokens",
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}
