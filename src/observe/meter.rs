//! What the hot path holds of the metrics: children that are looked up once.
//!
//! A lookup by labels hashes strings under a lock; a request would make a dozen. So each plan has
//! its [`Meters`]: a [`TargetMeter`] per target and a [`RouteMeter`] per route, found by index,
//! whose children are made at first use and then kept. What belongs to a route *and* a target is
//! found in the route's short list by the target's number.
//!
//! Series appear when there is something to say. A target that the file's routes name has its
//! gauges from the start, so that an alert on `target_available == 0` has something to look at, and so
//! have each credential `credential_invalid` and each such route `stream_interrupted`; an implicit
//! one, of which the catalogue knows hundreds, appears when it is first used or rests.
//!
//! Meters live as long as their plan and the requests on it. The children of one name are the same
//! in every generation, so counters go on over a reload.

use super::metrics::{Metrics, Names, OTHER, credential_name, entries, other_target};
use crate::base::api::Dialect;
use crate::base::ids::{CredentialIdx, RouteIdx, TargetIdx};
use crate::base::outcome::Outcome;
use crate::config::plan::Plan;
use crate::health::breaker::BreakerState;
use parking_lot::RwLock;
use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A child that is made at first use; nothing where its names left the plan before that.
type Lazy<T> = OnceLock<Option<T>>;

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

/// The meters of one plan.
pub struct Meters {
    metrics: Arc<Metrics>,
    routes: Vec<Arc<RouteMeter>>,
    targets: Vec<Arc<TargetMeter>>,
    other_route: Arc<RouteMeter>,
    other_targets: Vec<Arc<TargetMeter>>,
    /// By credential: whether its provider refused it.
    invalid: Vec<Option<Gauge>>,
}

/// What is counted per route.
pub struct RouteMeter {
    metrics: Arc<Metrics>,
    name: Arc<str>,
    requests: [[Lazy<IntCounter>; CODE_CLASSES.len()]; DIALECTS],
    unanswered: Lazy<Histogram>,
    pairs: RwLock<Vec<(u64, Arc<Pair>)>>,
}

/// What is counted per target.
pub struct TargetMeter {
    metrics: Arc<Metrics>,
    name: Arc<str>,
    number: u64,
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

/// What is counted per route and target.
struct Pair {
    attempts: [Lazy<IntCounter>; Outcome::ALL.len()],
    first_content: Lazy<Histogram>,
    duration: Lazy<Histogram>,
}

/// An attempt under way; dropping it takes it off the gauge, also when its task panics.
pub struct InFlight(Option<IntGauge>);

/// The dialects, and behind them none, where the request was answered before its dialect was known.
const DIALECTS: usize = 11;

const CODE_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", OTHER];

impl Meters {
    /// Makes the meters of a plan and lets its names have series. [`Metrics::retain`] with the
    /// same plan, once it is in force, deletes those of the plan before.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, plan: &Plan) -> Meters {
        metrics.admit(plan);
        let target = |name: &Arc<str>| Arc::new(TargetMeter::new(metrics, Arc::clone(name)));
        let route = |name: &Arc<str>| Arc::new(RouteMeter::new(metrics, Arc::clone(name)));
        let other = plan.credentials.iter().map(|credential| {
            let provider = plan.provider(credential.provider);
            target(&other_target(&provider.name, &credential.name))
        });
        let meters = Meters {
            metrics: Arc::clone(metrics),
            routes: plan.routes.iter().map(|r| route(&r.name)).collect(),
            targets: plan.targets.iter().map(|t| target(&t.id.0)).collect(),
            other_route: route(&Arc::from(OTHER)),
            other_targets: other.collect(),
            invalid: plan.credentials.iter().map(|of| invalid(metrics, &credential_name(plan, of))).collect(),
        };
        meters.other_route.announce();
        for (route, meter) in plan.routes.iter().zip(&meters.routes).filter(|(route, _)| !route.is_implicit) {
            meter.announce();
            for at in entries(&route.groups).flat_map(|entry| &entry.targets) {
                meters.target(*at).announce();
            }
        }
        meters
    }

    /// Returns what is not counted per route or target.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the meter of a route of the same plan; `other` for a request that named none.
    #[must_use]
    pub fn route(&self, at: Option<RouteIdx>) -> &Arc<RouteMeter> {
        at.and_then(|at| self.routes.get(at.at())).unwrap_or(&self.other_route)
    }

    /// Returns the meter of a target of the same plan.
    #[must_use]
    pub fn target(&self, at: TargetIdx) -> &Arc<TargetMeter> {
        &self.targets[at.at()]
    }

    /// Returns the meter for models that the plan does not list, at one of its credentials:
    /// `provider/credential/other`.
    #[must_use]
    pub fn unlisted(&self, at: CredentialIdx) -> &Arc<TargetMeter> {
        &self.other_targets[at.at()]
    }

    /// Shows whether a credential rests because its provider refused it. Called for every credential
    /// before the metrics are written.
    pub fn credential(&self, at: CredentialIdx, is_invalid: bool) {
        if let Some(series) = self.invalid.get(at.at()).and_then(Option::as_ref) {
            series.set(f64::from(u8::from(is_invalid)));
        }
    }
}

/// The gauge of a credential; it is there from the start, for an alert to look at.
fn invalid(metrics: &Metrics, name: &str) -> Option<Gauge> {
    let names = Names { credential: Some(name), ..Names::default() };
    metrics.child(&metrics.families.credential_invalid, names, &[name])
}

impl RouteMeter {
    fn new(metrics: &Arc<Metrics>, name: Arc<str>) -> RouteMeter {
        RouteMeter {
            metrics: Arc::clone(metrics),
            name,
            requests: [const { [const { OnceLock::new() }; CODE_CLASSES.len()] }; DIALECTS],
            unanswered: OnceLock::new(),
            pairs: RwLock::default(),
        }
    }

    /// Returns the label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the counter of broken streams, which an alert looks at: a rate over a counter that appears
    /// with its first event misses that event.
    fn announce(&self) {
        let family = &self.metrics.families.stream_interrupted;
        // It stays where it is; there is nothing to count yet.
        let _ = self.metrics.child(family, self.names(None), &[self.name()]);
    }

    /// Records a request that was answered with `status` (499 where its client left), `took` from
    /// the end of its body, by the target whose answer it got, where one answered. The dialect is
    /// absent where the request was refused before it was known.
    pub fn answered(&self, dialect: Option<Dialect>, status: u16, by: Option<&TargetMeter>, took: Duration) {
        let class = code_class(status);
        let row = dialect_row(dialect);
        let lazy = self.requests.get(row).and_then(|row| row.get(class));
        let series = lazy.and_then(|lazy| {
            let dialect = dialect.map_or(OTHER, Dialect::as_label);
            let families = &self.metrics.families;
            let labels = [self.name(), dialect, CODE_CLASSES.get(class).copied().unwrap_or(OTHER)];
            lazy.get_or_init(|| self.metrics.child(&families.requests, self.names(None), &labels)).as_ref()
        });
        if let Some(series) = series {
            series.inc();
        }
        self.observe_duration(by, took);
    }

    /// Counts an attempt at a target by how it ended.
    pub fn attempt(&self, target: &TargetMeter, outcome: Outcome) {
        let pair = self.pair(target);
        let series = pair.attempts.get(outcome as usize).and_then(|lazy| {
            let labels = [self.name(), target.name(), outcome.as_label()];
            let family = &self.metrics.families.attempts;
            lazy.get_or_init(|| self.metrics.child(family, self.names(Some(target)), &labels)).as_ref()
        });
        if let Some(series) = series {
            series.inc();
        }
    }

    /// Records the time from the start of an attempt to its first content.
    pub fn first_content(&self, target: &TargetMeter, took: Duration) {
        let pair = self.pair(target);
        let family = &self.metrics.families.first_content;
        let labels = [self.name(), target.name()];
        let series =
            pair.first_content.get_or_init(|| self.metrics.child(family, self.names(Some(target)), &labels));
        if let Some(series) = series {
            series.observe(took.as_secs_f64());
        }
    }

    fn observe_duration(&self, by: Option<&TargetMeter>, took: Duration) {
        let pair = by.map(|target| self.pair(target));
        let lazy = pair.as_ref().map_or(&self.unanswered, |pair| &pair.duration);
        let labels = [self.name(), by.map_or(OTHER, TargetMeter::name)];
        let family = &self.metrics.families.request_duration;
        if let Some(series) = lazy.get_or_init(|| self.metrics.child(family, self.names(by), &labels)) {
            series.observe(took.as_secs_f64());
        }
    }

    fn names<'a>(&'a self, target: Option<&'a TargetMeter>) -> Names<'a> {
        let targets = [target.map(TargetMeter::name), None];
        Names { route: Some(self.name()), targets, ..Names::default() }
    }

    fn pair(&self, target: &TargetMeter) -> Arc<Pair> {
        if let Some(pair) = find(&self.pairs.read(), target.number) {
            return pair;
        }
        let mut pairs = self.pairs.write();
        // Another request may have made it between the two locks.
        find(&pairs, target.number).unwrap_or_else(|| {
            let pair = Arc::new(Pair {
                attempts: [const { OnceLock::new() }; Outcome::ALL.len()],
                first_content: OnceLock::new(),
                duration: OnceLock::new(),
            });
            pairs.push((target.number, Arc::clone(&pair)));
            pair
        })
    }
}

impl TargetMeter {
    fn new(metrics: &Arc<Metrics>, name: Arc<str>) -> TargetMeter {
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
        if let Some(series) = self.lazy(&self.ambiguous, &families.ambiguous_attempts, None) {
            series.inc();
        }
    }

    /// Counts what became of a connection that was opened ahead.
    pub fn warm(&self, result: WarmResult) {
        let family = &self.metrics.families.warm_connections;
        let lazy = self.warm.get(result as usize);
        if let Some(series) = lazy.and_then(|lazy| self.lazy(lazy, family, Some(result.as_label()))) {
            series.inc();
        }
    }

    /// Counts tokens as the provider told them.
    pub fn tokens(&self, input: u64, output: u64) {
        let families = &self.metrics.families;
        let [input_series, output_series] = &self.tokens;
        for (lazy, direction, count) in [(input_series, "input", input), (output_series, "output", output)] {
            if let Some(series) = self.lazy(lazy, &families.tokens, Some(direction)) {
                series.inc_by(count);
            }
        }
    }

    /// Counts cost in US dollars; what is negative or not a number counts nothing.
    pub fn cost(&self, usd: f64) {
        let families = &self.metrics.families;
        if let Some(series) = self.lazy(&self.cost, &families.cost, None)
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
            if let Some(series) = self.lazy(lazy, family, None) {
                series.set(value);
            }
        }
    }

    /// Shows what the provider said is left of a rate limit.
    #[allow(clippy::cast_precision_loss, reason = "exact below 2^53")]
    pub fn ratelimit_remaining(&self, kind: LimitKind, left: u64) {
        let families = &self.metrics.families;
        let series = self
            .ratelimit_remaining
            .get(kind as usize)
            .and_then(|lazy| self.lazy(lazy, &families.ratelimit_remaining, Some(kind.as_label())));
        if let Some(series) = series {
            series.set(left as f64);
        }
    }

    /// Makes what a target shows from its first use on; its health comes with [`Self::state`].
    fn announce(&self) {
        if self.in_flight.get().is_none() {
            self.in_flight_gauge();
            self.tokens(0, 0);
            self.cost(0.0);
        }
    }

    fn in_flight_gauge(&self) -> Option<&IntGauge> {
        self.lazy(&self.in_flight, &self.metrics.families.in_flight, None)
    }

    /// The child of a family whose labels are `target` and perhaps one more.
    fn lazy<'a, B: MetricVecBuilder>(
        &self,
        lazy: &'a Lazy<B::M>,
        family: &MetricVec<B>,
        second: Option<&str>,
    ) -> Option<&'a B::M> {
        let make = || {
            let names = Names { targets: [Some(self.name()), None], ..Names::default() };
            match second {
                Some(second) => self.metrics.child(family, names, &[self.name(), second]),
                None => self.metrics.child(family, names, &[self.name()]),
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

fn find(pairs: &[(u64, Arc<Pair>)], number: u64) -> Option<Arc<Pair>> {
    pairs.iter().find(|(of, _)| *of == number).map(|(_, pair)| Arc::clone(pair))
}

/// The row of a dialect among the [`DIALECTS`]; a new one stops the compiler here.
fn dialect_row(dialect: Option<Dialect>) -> usize {
    match dialect {
        Some(Dialect::OpenAiChat) => 0,
        Some(Dialect::OpenAiCompletions) => 1,
        Some(Dialect::OpenAiEmbeddings) => 2,
        Some(Dialect::OpenAiResponses) => 3,
        Some(Dialect::AnthropicMessages) => 4,
        Some(Dialect::GeminiGenerate) => 5,
        Some(Dialect::BedrockConverse) => 6,
        Some(Dialect::CohereChat) => 7,
        Some(Dialect::OllamaChat) => 8,
        Some(Dialect::GenerateBridge) => 9,
        None => DIALECTS - 1,
    }
}

/// Index into [`CODE_CLASSES`].
fn code_class(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100 - 1),
        _ => CODE_CLASSES.len() - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallTime;
    use crate::observe::metrics::RescueResult;
    use crate::route::fixture;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn metrics() -> Arc<Metrics> {
        Metrics::new("0.0.0", Arc::new(AtomicU64::new(3))).unwrap()
    }

    fn plan(model: &str) -> Plan {
        fixture::plan(
            &["openai", "groq"],
            &[
                ("chat", false, &[("openai", "gpt-4o"), ("groq", model)]),
                ("listed", true, &[("groq", "listed")]),
            ],
        )
    }

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render()).unwrap()
    }

    /// The value of a series, by its name and labels as they are written.
    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = text(metrics);
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }

    #[test]
    fn a_request_without_a_dialect_is_counted_with_no_dialects() {
        let metrics = metrics();
        let meters = Meters::new(&metrics, &plan("llama"));
        let route = meters.route(Some(RouteIdx(0)));
        route.answered(Some(Dialect::BedrockConverse), 200, None, Duration::ZERO);
        route.answered(None, 200, None, Duration::ZERO);
        for dialect in ["bedrock.converse", OTHER] {
            let line = text(&metrics).lines().any(|line| {
                line.starts_with("pointsman_requests_total{")
                    && line.contains(&format!("\"{dialect}\""))
                    && line.ends_with(" 1")
            });
            assert!(line, "{dialect}: {}", text(&metrics));
        }
    }

    fn touch_everything(metrics: &Metrics, meters: &Meters) {
        let dialects = [
            Dialect::OpenAiChat,
            Dialect::OpenAiCompletions,
            Dialect::OpenAiEmbeddings,
            Dialect::OpenAiResponses,
            Dialect::AnthropicMessages,
            Dialect::GeminiGenerate,
        ];
        let second = Duration::from_secs(1);
        for route in [meters.route(Some(RouteIdx(0))), meters.route(None)] {
            for target in
                [meters.target(TargetIdx(0)), meters.target(TargetIdx(1)), meters.unlisted(CredentialIdx(1))]
            {
                for outcome in Outcome::ALL {
                    route.attempt(target, outcome);
                }
                for status in [101, 200, 302, 404, 503, 999] {
                    for dialect in dialects {
                        route.answered(Some(dialect), status, Some(target), second);
                    }
                    route.answered(None, status, None, second);
                }
                route.first_content(target, second);
                metrics.failover(route, target, meters.target(TargetIdx(0)), Outcome::Overloaded);
                target.ambiguous();
                target.tokens(3, 4);
                target.cost(0.25);
                target.state(false, BreakerState::HalfOpen, second);
                for kind in
                    [LimitKind::Requests, LimitKind::Tokens, LimitKind::InputTokens, LimitKind::OutputTokens]
                {
                    target.ratelimit_remaining(kind, 7);
                }
                drop(target.in_flight());
            }
            for result in [RescueResult::Rescued, RescueResult::Failed, RescueResult::NotPossible] {
                metrics.rescue(route, result);
            }
            metrics.stream_interrupted(route);
        }
        meters.credential(CredentialIdx(1), true);
        metrics.overhead(Duration::from_micros(50));
        metrics.retry_budget_exhausted();
        metrics.plan_in_force(2, WallTime(1_795_227_262_123));
        metrics.reload_failed();
    }

    #[test]
    fn a_guard_that_is_dropped_by_a_panic_still_leaves_the_gauge() {
        let metrics = metrics();
        let meters = Meters::new(&metrics, &plan("llama"));
        let target = Arc::clone(meters.target(TargetIdx(0)));
        let series = r#"pointsman_in_flight{target="openai/main/gpt-4o"}"#;
        let guard = target.in_flight();
        assert_eq!(value(&metrics, series), Some(1.0));
        let task = std::thread::spawn(move || {
            let _guard = guard;
            panic!("on purpose");
        });
        assert!(task.join().is_err());
        assert_eq!(value(&metrics, series), Some(0.0));
    }

    #[test]
    fn a_name_that_left_the_plan_has_no_series_and_gets_none_back() {
        let metrics = metrics();
        let (old_plan, new_plan) = (plan("llama"), plan("qwen"));
        let old = Meters::new(&metrics, &old_plan);
        touch_everything(&metrics, &old);
        let guard = old.target(TargetIdx(1)).in_flight();
        assert!(text(&metrics).contains("groq/main/llama"));

        let new = Meters::new(&metrics, &new_plan);
        metrics.retain(&new_plan);
        assert!(!text(&metrics).contains("groq/main/llama"), "{}", text(&metrics));
        drop(guard);
        touch_everything(&metrics, &old);
        old.route(Some(RouteIdx(0))).attempt(old.target(TargetIdx(2)), Outcome::Ok);
        assert!(!text(&metrics).contains("groq/main/llama"), "{}", text(&metrics));
        assert!(text(&metrics).contains("groq/main/listed"), "what the new plan has is counted");

        touch_everything(&metrics, &new);
        assert!(text(&metrics).contains("groq/main/qwen"));
    }

    #[test]
    fn counters_of_a_target_that_stays_go_on_over_a_reload() {
        let metrics = metrics();
        let series = r#"pointsman_attempts_total{outcome="ok",route="chat",target="openai/main/gpt-4o"}"#;
        for (generation, model) in [(1.0, "llama"), (2.0, "qwen")] {
            let plan = plan(model);
            let meters = Meters::new(&metrics, &plan);
            metrics.retain(&plan);
            meters.route(Some(RouteIdx(0))).attempt(meters.target(TargetIdx(0)), Outcome::Ok);
            assert_eq!(value(&metrics, series), Some(generation));
        }
    }

    #[test]
    fn targets_of_the_files_routes_are_shown_before_any_request_and_implicit_ones_are_not() {
        let metrics = metrics();
        let meters = Meters::new(&metrics, &plan("llama"));
        meters.target(TargetIdx(1)).state(true, BreakerState::Closed, Duration::ZERO);
        assert_eq!(value(&metrics, r#"pointsman_target_available{target="groq/main/llama"}"#), Some(1.0));
        assert_eq!(value(&metrics, r#"pointsman_in_flight{target="groq/main/llama"}"#), Some(0.0));
        let implicit = meters.target(TargetIdx(2));
        implicit.state(true, BreakerState::Closed, Duration::ZERO);
        assert!(!text(&metrics).contains("groq/main/listed"));
        implicit.state(false, BreakerState::Open, Duration::from_secs(9));
        let of = |name: &str| value(&metrics, &format!(r#"{name}{{target="groq/main/listed"}}"#));
        assert_eq!(of("pointsman_breaker_state"), Some(1.0));
        assert_eq!(of("pointsman_cooldown_remaining_seconds"), Some(9.0));
        implicit.state(true, BreakerState::Closed, Duration::ZERO);
        assert_eq!(of("pointsman_breaker_state"), Some(0.0), "what rested shows that it rests no more");
        assert_eq!(of("pointsman_target_available"), Some(1.0));
    }

    #[test]
    fn what_alerts_look_at_is_there_before_it_happens_and_only_for_what_is_configured() {
        let metrics = metrics();
        let _meters = Meters::new(&metrics, &plan("llama"));
        let text = text(&metrics);
        let series = |name: &str| -> Vec<&str> {
            text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')).collect()
        };
        let invalid = [r#"credential="groq/main"} 0"#, r#"credential="openai/main"} 0"#];
        assert_eq!(series("pointsman_credential_invalid"), invalid);
        let interrupted = [r#"route="chat"} 0"#, r#"route="other"} 0"#];
        assert_eq!(series("pointsman_stream_interrupted_total"), interrupted, "not the implicit route");
    }

    #[test]
    fn a_credential_that_left_the_plan_is_not_shown_as_refused_for_ever() {
        let metrics = metrics();
        let (both, one) = (plan("llama"), fixture::plan(&["openai"], &[("chat", false, &[("openai", "m")])]));
        let meters = Meters::new(&metrics, &both);
        meters.credential(CredentialIdx(1), true);
        let _next = Meters::new(&metrics, &one);
        metrics.retain(&one);
        assert_eq!(value(&metrics, r#"pointsman_credential_invalid{credential="groq/main"}"#), None);
        assert_eq!(value(&metrics, r#"pointsman_credential_invalid{credential="openai/main"}"#), Some(0.0));
    }

    #[test]
    fn numbers_that_make_no_sense_are_not_counted() {
        let metrics = metrics();
        let meters = Meters::new(&metrics, &plan("llama"));
        for usd in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.5] {
            meters.target(TargetIdx(0)).cost(usd);
        }
        assert_eq!(value(&metrics, r#"pointsman_cost_usd_total{target="openai/main/gpt-4o"}"#), Some(0.5));
        meters.route(None).answered(None, 42, None, Duration::ZERO);
        let series = r#"pointsman_requests_total{code_class="other",dialect="other",route="other"}"#;
        assert_eq!(value(&metrics, series), Some(1.0));
    }

    #[test]
    fn two_instances_count_apart() {
        let (one, other) = (metrics(), metrics());
        one.retry_budget_exhausted();
        assert_eq!(value(&one, "pointsman_retry_budget_exhausted_total"), Some(1.0));
        assert_eq!(value(&other, "pointsman_retry_budget_exhausted_total"), Some(0.0));
    }

    #[test]
    fn a_page_shows_a_reload_whole_or_not_at_all() {
        let metrics = metrics();
        std::thread::scope(|scope| {
            let told = scope.spawn(|| {
                for generation in 2..2_000_u32 {
                    metrics.reload_failed();
                    metrics.plan_in_force(generation.into(), WallTime(0));
                }
            });
            while !told.is_finished() {
                let page = text(&metrics);
                let count = |series: &str| -> f64 {
                    let line = page.lines().find_map(|line| line.strip_prefix(series)).unwrap();
                    line.trim().parse().unwrap()
                };
                let ok = count(r#"pointsman_config_reloads_total{result="ok"}"#);
                let failed = count(r#"pointsman_config_reloads_total{result="error"}"#);
                let last = count("pointsman_config_last_reload_successful");
                assert!((failed - ok - (1.0 - last)).abs() < 0.5 || failed < 0.5, "{ok} {failed} {last}");
                let generation = count("pointsman_config_generation");
                assert!((generation - ok - 1.0).abs() < 0.5 || ok < 0.5, "{generation} after {ok}");
            }
        });
    }

    #[test]
    fn every_metric_of_the_contract_is_there_with_its_labels() {
        let metrics = metrics();
        let meters = Meters::new(&metrics, &plan("llama"));
        touch_everything(&metrics, &meters);
        let text = text(&metrics);
        for line in [
            r#"pointsman_requests_total{code_class="2xx",dialect="anthropic.messages",route="chat"} 3"#,
            r#"pointsman_attempts_total{outcome="inband_error",route="chat",target="groq/main/llama"} 1"#,
            r#"pointsman_ambiguous_attempts_total{target="groq/main/other"} 2"#,
            r#"pointsman_failovers_total{from="groq/main/llama",reason="overloaded",route="chat",to="openai/main/gpt-4o"} 1"#,
            r#"pointsman_rescues_total{result="rescued",route="chat"} 1"#,
            r#"pointsman_stream_interrupted_total{route="chat"} 1"#,
            r#"pointsman_credential_invalid{credential="groq/main"} 1"#,
            r#"pointsman_request_duration_seconds_bucket{route="chat",target="openai/main/gpt-4o",le="600"} 36"#,
            r#"pointsman_request_duration_seconds_count{route="chat",target="other"} 18"#,
            r#"pointsman_time_to_first_content_seconds_count{route="chat",target="groq/main/llama"} 1"#,
            r#"pointsman_overhead_seconds_bucket{le="0.00005"} 1"#,
            r#"pointsman_in_flight{target="groq/main/llama"} 0"#,
            r#"pointsman_target_available{target="groq/main/llama"} 0"#,
            r#"pointsman_breaker_state{target="groq/main/llama"} 0.5"#,
            r#"pointsman_cooldown_remaining_seconds{target="groq/main/llama"} 1"#,
            r#"pointsman_tokens_total{direction="input",target="groq/main/llama"} 6"#,
            r#"pointsman_tokens_total{direction="output",target="groq/main/llama"} 8"#,
            r#"pointsman_cost_usd_total{target="groq/main/llama"} 0.5"#,
            r#"pointsman_ratelimit_remaining{kind="requests",target="groq/main/llama"} 7"#,
            "pointsman_retry_budget_exhausted_total 1",
            "pointsman_log_dropped_total 3",
            r#"pointsman_config_reloads_total{result="ok"} 1"#,
            r#"pointsman_config_reloads_total{result="error"} 1"#,
            "pointsman_config_generation 2",
            "pointsman_config_last_reload_successful 0",
            r#"pointsman_build_info{version="0.0.0"} 1"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        for outcome in Outcome::ALL {
            assert!(text.contains(&format!("outcome=\"{}\"", outcome.as_label())), "{outcome:?}");
        }
        if cfg!(target_os = "linux") {
            assert!(text.contains("process_resident_memory_bytes "), "{text}");
        }
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
    }

    /// `promtool` comes with Prometheus; where it is not installed there is nothing to ask.
    #[test]
    fn promtool_has_nothing_to_say() {
        let metrics = metrics();
        touch_everything(&metrics, &Meters::new(&metrics, &plan("llama")));
        let spawned = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = spawned else { return };
        promtool.stdin.take().unwrap().write_all(&metrics.render()).unwrap();
        let said = promtool.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && text.trim().is_empty(), "{text}");
    }
}
