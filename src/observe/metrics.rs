//! Every metric of contract section 7, declared once, in a registry of its own.
//!
//! One [`Metrics`] belongs to one running instance: twenty proxies in a test process count apart,
//! which the `prometheus` crate's global registry would not let them. Names, labels and help texts
//! stand in `Families::new` and nowhere else.
//!
//! Labels come from the configuration (route, target, credential) or from closed enums (dialect, outcome);
//! what a client made up is [`OTHER`], no target at all is [`NONE`] (threat C13: 10^6 models must
//! not be 10^6 series). The hot path holds its children through [`super::meter`]; the lookups by
//! label here are for what is rare.
//!
//! Series follow the plan. Of a route or target that a reload removed the counters stay for as long as
//! requests are under way that began before it, or what these came to would be counted nowhere, and until
//! one page has shown their last. What tells how something stands ([`Kind::State`]) goes with the reload:
//! nobody would bring it up to date. That a deleted series does not come back is why children are only
//! made under the lock on `Live`.
//!
//! Buckets: calls to models take 5 ms (a mock next door) to ten minutes (`timeouts.total`), our
//! own share 10 µs to 100 ms. 13 bounds each keep a target of a route within 40 series.

use super::audit;
use super::meter::{RouteMeter, TargetMeter};
use super::refused::RefusedAt;
use crate::base::outcome::Outcome;
use crate::base::time::WallTime;
use crate::config::plan::{Credential, Entry, Group, Plan, Provider};
use parking_lot::{Mutex, RwLock};
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Stands for a name that the configuration does not know.
pub const OTHER: &str = "other";

/// Stands for a target where none was reached.
pub const NONE: &str = "none";

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Bounds for calls to models, in seconds.
const CALL_BUCKETS: [f64; 13] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0];

/// Bounds for our own share of a request, in seconds.
const OVERHEAD_BUCKETS: [f64; 13] =
    [10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3];

/// What came of taking up a broken stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RescueResult {
    /// The stream went on to its proper end.
    Rescued,
    /// No other target could go on.
    Failed,
    /// What had been sent could not be gone on from (tool calls, thinking, a second choice).
    NotPossible,
}

/// What came of asking another target beside a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeResult {
    /// Its answer went to the client.
    Won,
    /// The first one's answer was there before; it was called off.
    Lost,
    /// It failed, or the request ended before either had an answer.
    Failed,
}

/// Every metric of an instance.
pub struct Metrics {
    registry: Registry,
    pub(super) families: Families,
    live: RwLock<Live>,
    /// The log's count and the counter that shows it.
    log_dropped: Mutex<(Arc<AtomicU64>, IntCounter)>,
    /// Held while a page is gathered and while a reload is told, so that a page shows a reload in
    /// each of its four figures or in none.
    reload_told: Mutex<()>,
}

/// The names that may have series.
#[derive(Default)]
struct Live {
    /// Those of the plan in force, and of one that is being put in force.
    in_force: KnownNames,
    /// Those of every plan that has meters, the one in force among them, and of such as had some since
    /// the last page.
    plans: Vec<Arc<KnownNames>>,
}

/// The names of a plan. Its meters hold them, and so tell by that whether they are in use.
#[derive(Default)]
pub(super) struct KnownNames {
    routes: HashSet<Arc<str>>,
    targets: HashSet<Arc<str>>,
    credentials: HashSet<Arc<str>>,
}

/// How long the series of a name outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What happened: until all that is under way has been counted.
    Event,
    /// How it stands: not at all.
    State,
}

/// Which names a series carries, to be checked against `Live`.
#[derive(Clone, Copy, Default)]
pub(super) struct Names<'a> {
    pub(super) route: Option<&'a str>,
    pub(super) targets: [Option<&'a str>; 2],
    pub(super) credential: Option<&'a str>,
}

/// The metrics themselves.
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) attempts: IntCounterVec,
    pub(super) ambiguous_attempts: IntCounterVec,
    pub(super) warm_connections: IntCounterVec,
    failovers: IntCounterVec,
    rescues: IntCounterVec,
    hedges: IntCounterVec,
    pub(super) stream_interrupted: IntCounterVec,
    pub(super) request_duration: HistogramVec,
    pub(super) first_content: HistogramVec,
    overhead: Histogram,
    pub(super) in_flight: IntGaugeVec,
    pub(super) available: GaugeVec,
    pub(super) breaker: GaugeVec,
    pub(super) cooldown: GaugeVec,
    pub(super) tokens: IntCounterVec,
    pub(super) cost: CounterVec,
    pub(super) ratelimit_remaining: GaugeVec,
    retry_budget_exhausted: IntCounter,
    memory_kept: IntGauge,
    refused: IntCounterVec,
    insecure_tls: GaugeVec,
    pub(super) credential_invalid: GaugeVec,
    audit: audit::Counts,
    reloads: IntCounterVec,
    generation: Gauge,
    last_reload_successful: Gauge,
    last_reload_at: Gauge,
}

impl RescueResult {
    /// Returns the word for the label.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            RescueResult::Rescued => "rescued",
            RescueResult::Failed => "failed",
            RescueResult::NotPossible => "not_possible",
        }
    }
}

impl HedgeResult {
    /// Returns the word for the label.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            HedgeResult::Won => "won",
            HedgeResult::Lost => "lost",
            HedgeResult::Failed => "failed",
        }
    }
}

impl Metrics {
    /// Declares every metric. `log_dropped` is the log's count of lines it could not take
    /// ([`super::log::Log::dropped`]), shown as `pointsman_log_dropped_total`.
    ///
    /// # Errors
    /// Only where two metrics share a name or a name is malformed, which a test rules out.
    pub fn new(version: &str, log_dropped: Arc<AtomicU64>) -> prometheus::Result<Arc<Metrics>> {
        let registry = Registry::new();
        let families = Families::new(&registry)?;
        let shown = IntCounter::new(
            "pointsman_log_dropped_total",
            "Log lines that were lost to a slow reader or a failed write.",
        )?;
        let log_dropped = Mutex::new((log_dropped, register(&registry, shown)?));
        let build = gauges(
            &registry,
            "pointsman_build_info",
            "Version of the running program; always 1.",
            &["version"],
        )?;
        build.with_label_values(&[version]).set(1.0);
        register_process(&registry)?;
        Ok(Arc::new(Metrics {
            registry,
            families,
            live: RwLock::default(),
            log_dropped,
            reload_told: Mutex::default(),
        }))
    }

    /// Writes every series in Prometheus' text format ([`CONTENT_TYPE`]).
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        {
            let log_dropped = self.log_dropped.lock();
            let (count, shown) = &*log_dropped;
            shown.inc_by(count.load(Ordering::Relaxed).saturating_sub(shown.get()));
        }
        let mut text = Vec::with_capacity(16 * 1024);
        // Asked before: what ends while the page is gathered may not be on it.
        let shown = self.live.read().unused();
        let gathered = {
            let _whole = self.reload_told.lock();
            self.registry.gather()
        };
        for family in gathered {
            // One family that cannot be written (which takes a fault in the crate) must not hide
            // the others.
            let before = text.len();
            if TextEncoder::new().encode(std::slice::from_ref(&family), &mut text).is_err() {
                text.truncate(before);
            }
        }
        self.let_go(&shown);
        text
    }

    /// Counts a change of target after an attempt; a skipped target counts none.
    pub fn failover(&self, route: &RouteMeter, from: &TargetMeter, to: &TargetMeter, reason: Outcome) {
        let targets = [Some(from.name()), Some(to.name())];
        let names = Names { route: Some(route.name()), targets, ..Names::default() };
        let labels = [route.name(), from.name(), to.name(), reason.as_label()];
        if let Some(series) = self.child(&self.families.failovers, (Kind::Event, names), &labels) {
            series.inc();
        }
    }

    /// Counts a stream that broke after content had been delivered and was taken up, or not.
    pub fn rescue(&self, route: &RouteMeter, result: RescueResult) {
        self.count_for_route(&self.families.rescues, route, &[route.name(), result.as_label()]);
    }

    /// Counts a request for which another target was asked beside a slow one. The attempt that was
    /// called off has no outcome, and is counted here alone.
    pub fn hedge(&self, route: &RouteMeter, result: HedgeResult) {
        self.count_for_route(&self.families.hedges, route, &[route.name(), result.as_label()]);
    }

    /// Counts a stream whose client got the error event instead of its end.
    pub fn stream_interrupted(&self, route: &RouteMeter) {
        self.count_for_route(&self.families.stream_interrupted, route, &[route.name()]);
    }

    /// Records our own share of a request: everything but waiting for a provider or the client.
    pub fn overhead(&self, took: Duration) {
        self.families.overhead.observe(took.as_secs_f64());
    }

    /// Counts somebody who was turned away at the edge.
    pub fn refused(&self, at: RefusedAt) {
        self.families.refused.with_label_values(&[at.as_label()]).inc();
    }

    /// Shows which providers' certificates are not verified.
    pub fn insecure_tls(&self, plan: &Plan) {
        self.families.insecure_tls.reset();
        let skips = |provider: &&Provider| {
            plan.endpoints.get(provider.endpoint.at()).is_some_and(|endpoint| endpoint.insecure_skip_verify)
        };
        for provider in plan.providers.iter().filter(skips) {
            self.families.insecure_tls.with_label_values(&[&*provider.name]).set(1.0);
        }
    }

    /// Counts a repeat that was not made because the budget was spent.
    pub fn retry_budget_exhausted(&self) {
        self.families.retry_budget_exhausted.inc();
    }

    /// Shows what requests and answers keep in memory together, in bytes.
    pub fn memory_kept(&self, bytes: u64) {
        self.families.memory_kept.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Returns the counters of the audit log.
    #[must_use]
    pub fn audit_counts(&self) -> audit::Counts {
        self.families.audit.clone()
    }

    /// Records that generation `generation` is in force since `at`; the first one is the start's
    /// and counts as no reload.
    #[allow(clippy::cast_precision_loss, reason = "exact for 2^53 reloads and for dates to the year 287396")]
    pub fn plan_in_force(&self, generation: u64, at: WallTime) {
        let _whole = self.reload_told.lock();
        if generation > 1 {
            self.families.reloads.with_label_values(&["ok"]).inc();
        }
        self.families.generation.set(generation as f64);
        self.families.last_reload_successful.set(1.0);
        self.families.last_reload_at.set(at.0 as f64 / 1000.0);
    }

    /// Records a reload that was refused: the old generation stays in force.
    pub fn reload_failed(&self) {
        let _whole = self.reload_told.lock();
        self.families.reloads.with_label_values(&["error"]).inc();
        self.families.last_reload_successful.set(0.0);
    }

    /// Lets the names of a plan have series, beside those that have them already, for as long as what is
    /// returned is kept.
    pub(super) fn admit(&self, plan: &Plan) -> Arc<KnownNames> {
        let mut live = self.live.write();
        let names = Arc::new(KnownNames::of(plan));
        live.in_force.extend(&names);
        live.plans.push(Arc::clone(&names));
        names
    }

    /// Deletes the series of every route, target and credential that `plan` does not have, but for what is
    /// counted of those that are under way. Called once its [`super::meter::Meters`] are in force.
    pub fn retain(&self, plan: &Plan) {
        let mut live = self.live.write();
        live.in_force = KnownNames::of(plan);
        let unused = live.unused();
        live.forget(&unused);
        self.prune(&live);
    }

    /// Deletes what is left of plans that nobody uses any more, once a page has shown it.
    fn let_go(&self, shown: &[Arc<KnownNames>]) {
        if shown.is_empty() {
            return;
        }
        let mut live = self.live.write();
        live.forget(shown);
        self.prune(&live);
    }

    fn prune(&self, live: &Live) {
        let all = &self.families;
        for family in
            [&all.requests, &all.attempts, &all.ambiguous_attempts, &all.failovers, &all.rescues, &all.tokens]
        {
            live.prune(family, Kind::Event);
        }
        live.prune(&all.hedges, Kind::Event);
        live.prune(&all.warm_connections, Kind::Event);
        live.prune(&all.stream_interrupted, Kind::Event);
        live.prune(&all.in_flight, Kind::Event);
        live.prune(&all.cost, Kind::Event);
        for family in [&all.request_duration, &all.first_content] {
            live.prune(family, Kind::Event);
        }
        for family in
            [&all.available, &all.breaker, &all.cooldown, &all.ratelimit_remaining, &all.credential_invalid]
        {
            live.prune(family, Kind::State);
        }
    }

    /// Returns the series with these labels, made where it does not exist; nothing where one of
    /// its names is no longer in the plan.
    pub(super) fn child<B: MetricVecBuilder>(
        &self,
        family: &MetricVec<B>,
        (kind, names): (Kind, Names<'_>),
        labels: &[&str],
    ) -> Option<B::M> {
        let live = self.live.read();
        let is_live = names.route.is_none_or(|name| live.has_route(name, kind))
            && names.targets.iter().flatten().all(|name| live.has_target(name, kind))
            && names.credential.is_none_or(|name| live.has_credential(name, kind));
        is_live.then(|| family.get_metric_with_label_values(labels).ok()).flatten()
    }

    fn count_for_route(&self, family: &IntCounterVec, route: &RouteMeter, labels: &[&str]) {
        let names = Names { route: Some(route.name()), ..Names::default() };
        if let Some(series) = self.child(family, (Kind::Event, names), labels) {
            series.inc();
        }
    }
}

impl KnownNames {
    fn of(plan: &Plan) -> KnownNames {
        let others = plan.credentials.iter().map(|credential| {
            let provider = plan.provider(credential.provider);
            other_target(&provider.name, &credential.name)
        });
        KnownNames {
            routes: plan.routes.iter().map(|route| Arc::clone(&route.name)).collect(),
            targets: plan.targets.iter().map(|target| Arc::clone(&target.id.0)).chain(others).collect(),
            credentials: plan
                .credentials
                .iter()
                .map(|credential| credential_name(plan, credential))
                .collect(),
        }
    }

    fn extend(&mut self, more: &KnownNames) {
        self.routes.extend(more.routes.iter().cloned());
        self.targets.extend(more.targets.iter().cloned());
        self.credentials.extend(more.credentials.iter().cloned());
    }
}

impl Live {
    fn has_route(&self, name: &str, kind: Kind) -> bool {
        name == OTHER || self.has(kind, |names| names.routes.contains(name))
    }

    fn has_target(&self, name: &str, kind: Kind) -> bool {
        name == OTHER || name == NONE || self.has(kind, |names| names.targets.contains(name))
    }

    fn has_credential(&self, name: &str, kind: Kind) -> bool {
        self.has(kind, |names| names.credentials.contains(name))
    }

    fn has(&self, kind: Kind, is_in: impl Fn(&KnownNames) -> bool) -> bool {
        let is_left = || kind == Kind::Event && self.plans.iter().any(|names| is_in(names));
        is_in(&self.in_force) || is_left()
    }

    /// Returns the plans that have no meters any more.
    fn unused(&self) -> Vec<Arc<KnownNames>> {
        self.plans.iter().filter(|names| Arc::strong_count(names) == 1).cloned().collect()
    }

    fn forget(&mut self, unused: &[Arc<KnownNames>]) {
        self.plans.retain(|names| !unused.iter().any(|gone| Arc::ptr_eq(gone, names)));
    }

    /// Removes the series of a family that carry a name which is not live.
    fn prune<B>(&self, family: &MetricVec<B>, kind: Kind)
    where
        B: MetricVecBuilder,
        MetricVec<B>: Collector,
    {
        for series in family.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
            let labels = series.get_label();
            let is_live = labels.iter().all(|label| match label.name() {
                "route" => self.has_route(label.value(), kind),
                "target" | "from" | "to" => self.has_target(label.value(), kind),
                "credential" => self.has_credential(label.value(), kind),
                _ => true,
            });
            if !is_live {
                let labels: HashMap<&str, &str> =
                    labels.iter().map(|label| (label.name(), label.value())).collect();
                // It was listed a moment ago under the same lock, so it is there.
                let _ = family.remove(&labels);
            }
        }
    }
}

/// The name that stands for a credential's models which the configuration does not list.
pub(super) fn other_target(provider: &str, credential: &str) -> Arc<str> {
    format!("{provider}/{credential}/{OTHER}").into()
}

/// The label of a credential, as events name it.
pub(super) fn credential_name(plan: &Plan, credential: &Credential) -> Arc<str> {
    format!("{}/{}", plan.provider(credential.provider).name, credential.name).into()
}

/// The targets of a route in no particular order.
pub(super) fn entries(groups: &[Group]) -> impl Iterator<Item = &Entry> {
    groups.iter().flat_map(|group| &group.entries)
}

impl Families {
    fn new(registry: &Registry) -> prometheus::Result<Families> {
        let r = registry;
        let families = Families {
            requests: counters(
                r,
                "pointsman_requests_total",
                "Requests of clients by the class of the status they were answered with.",
                &["route", "dialect", "code_class"],
            )?,
            attempts: counters(
                r,
                "pointsman_attempts_total",
                "Attempts at targets by how they ended.",
                &["route", "target", "outcome"],
            )?,
            ambiguous_attempts: counters(
                r,
                "pointsman_ambiguous_attempts_total",
                "Attempts that were given up after the request was sent, so that the provider may have billed them.",
                &["target"],
            )?,
            warm_connections: counters(
                r,
                "pointsman_warm_connections_total",
                "Connections to providers that were opened before anybody needed them, by what became of them.",
                &["target", "result"],
            )?,
            failovers: counters(
                r,
                "pointsman_failovers_total",
                "Changes of target after an attempt, by the outcome that caused them.",
                &["route", "from", "to", "reason"],
            )?,
            rescues: counters(
                r,
                "pointsman_rescues_total",
                "Streams that broke after content was delivered, by what came of taking them up.",
                &["route", "result"],
            )?,
            hedges: counters(
                r,
                "pointsman_hedges_total",
                "Requests for which another target was asked beside a slow one, by what came of that.",
                &["route", "result"],
            )?,
            stream_interrupted: counters(
                r,
                "pointsman_stream_interrupted_total",
                "Streams that ended with an error event because nothing could take them up.",
                &["route"],
            )?,
            request_duration: histograms(
                r,
                "pointsman_request_duration_seconds",
                "Time from the end of a request's body to the end of its answer, by the target that answered.",
            )?,
            first_content: histograms(
                r,
                "pointsman_time_to_first_content_seconds",
                "Time from the start of an attempt to its first content.",
            )?,
            overhead: register(
                r,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "pointsman_overhead_seconds",
                        "Time of a request that was spent here, not waiting for a provider or the client.",
                    )
                    .buckets(OVERHEAD_BUCKETS.to_vec()),
                )?,
            )?,
            in_flight: register(
                r,
                IntGaugeVec::new(
                    Opts::new("pointsman_in_flight", "Attempts under way at a target."),
                    &["target"],
                )?,
            )?,
            available: gauges(
                r,
                "pointsman_target_available",
                "Whether a target may be used now.",
                &["target"],
            )?,
            breaker: gauges(
                r,
                "pointsman_breaker_state",
                "Circuit breaker of a target: 0 closed (traffic flows), 0.5 half open, 1 open.",
                &["target"],
            )?,
            cooldown: gauges(
                r,
                "pointsman_cooldown_remaining_seconds",
                "How long a target still rests; 0 where it does not.",
                &["target"],
            )?,
            tokens: counters(
                r,
                "pointsman_tokens_total",
                "Tokens as the provider counted them.",
                &["target", "direction"],
            )?,
            cost: register(
                r,
                CounterVec::new(
                    Opts::new("pointsman_cost_usd_total", "Cost in US dollars by the configured prices."),
                    &["target"],
                )?,
            )?,
            ratelimit_remaining: gauges(
                r,
                "pointsman_ratelimit_remaining",
                "What the provider last said is left of its rate limit.",
                &["target", "kind"],
            )?,
            retry_budget_exhausted: register(
                r,
                IntCounter::new(
                    "pointsman_retry_budget_exhausted_total",
                    "Repeats that were not made because the retry budget was spent.",
                )?,
            )?,
            memory_kept: register(
                r,
                IntGauge::new(
                    "pointsman_replay_memory_bytes",
                    "What requests and held answers keep of limits.replay_memory.",
                )?,
            )?,
            refused: counters(
                r,
                "pointsman_refused_total",
                "Connections and requests that were turned away before they were looked at.",
                &["reason"],
            )?,
            insecure_tls: gauges(
                r,
                "pointsman_insecure_tls",
                "1 for each provider whose certificate is not verified (tls.insecure_skip_verify).",
                &["provider"],
            )?,
            credential_invalid: gauges(
                r,
                "pointsman_credential_invalid",
                "Whether a credential rests because its provider refused it.",
                &["credential"],
            )?,
            audit: audit::Counts {
                dropped: register(
                    r,
                    IntCounter::new(
                        "pointsman_audit_dropped_total",
                        "Lines of the audit log that were dropped because its file could not be written fast enough.",
                    )?,
                )?,
                errors: register(
                    r,
                    IntCounter::new(
                        "pointsman_audit_errors_total",
                        "Attempts to open or write the audit log that failed; each is tried again.",
                    )?,
                )?,
            },
            reloads: counters(
                r,
                "pointsman_config_reloads_total",
                "Reloads of the configuration.",
                &["result"],
            )?,
            generation: gauge(r, "pointsman_config_generation", "Generation of the configuration in force.")?,
            last_reload_successful: gauge(
                r,
                "pointsman_config_last_reload_successful",
                "Whether the last reload took effect.",
            )?,
            last_reload_at: gauge(
                r,
                "pointsman_config_last_reload_success_timestamp_seconds",
                "When the configuration in force took effect.",
            )?,
        };
        // A rate over a counter that appears with its first event misses that event.
        for result in ["ok", "error"] {
            families.reloads.with_label_values(&[result]);
        }
        for reason in RefusedAt::ALL {
            families.refused.with_label_values(&[reason.as_label()]);
        }
        Ok(families)
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    register(r, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
    register(r, GaugeVec::new(Opts::new(name, help), labels)?)
}

fn gauge(r: &Registry, name: &str, help: &str) -> prometheus::Result<Gauge> {
    register(r, Gauge::new(name, help)?)
}

fn histograms(r: &Registry, name: &str, help: &str) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(name, help).buckets(CALL_BUCKETS.to_vec());
    register(r, HistogramVec::new(opts, &["route", "target"])?)
}

/// The `process_*` metrics, which the crate reads from `/proc`.
#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}

/// The `process_*` metrics exist only where there is a `/proc`.
#[cfg(not(target_os = "linux"))]
fn register_process(_registry: &Registry) -> prometheus::Result<()> {
    Ok(())
}
