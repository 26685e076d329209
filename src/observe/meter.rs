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

mod route;
mod target;

pub use route::RouteMeter;
pub use target::{InFlight, LimitKind, TargetMeter, WarmResult};

use super::metrics::{Kind, KnownNames, Metrics, Names, OTHER, credential_name, entries, other_target};
use crate::base::ids::{CredentialIdx, RouteIdx, TargetIdx};
use crate::config::plan::Plan;
use prometheus::Gauge;
use std::sync::{Arc, OnceLock};

/// A child that is made at first use; nothing where its names left the plan before that.
type Lazy<T> = OnceLock<Option<T>>;

/// The meters of one plan.
pub struct Meters {
    metrics: Arc<Metrics>,
    /// Held so that the series of these names are kept while there is anything to count.
    _names: Arc<KnownNames>,
    routes: Vec<Arc<RouteMeter>>,
    targets: Vec<Arc<TargetMeter>>,
    other_route: Arc<RouteMeter>,
    other_targets: Vec<Arc<TargetMeter>>,
    /// By credential: whether its provider refused it.
    invalid: Vec<Option<Gauge>>,
}

impl Meters {
    /// Makes the meters of a plan and lets its names have series. [`Metrics::retain`] with the
    /// same plan, once it is in force, deletes those of the plan before that nobody counts into.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, plan: &Plan) -> Meters {
        let names = metrics.admit(plan);
        let target = |name: &Arc<str>| Arc::new(TargetMeter::new(metrics, Arc::clone(name)));
        let route = |name: &Arc<str>| Arc::new(RouteMeter::new(metrics, Arc::clone(name)));
        let other = plan.credentials.iter().map(|credential| {
            let provider = plan.provider(credential.provider);
            target(&other_target(&provider.name, &credential.name))
        });
        let meters = Meters {
            metrics: Arc::clone(metrics),
            _names: names,
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
    metrics.child(&metrics.families.credential_invalid, (Kind::State, names), &[name])
}

#[cfg(test)]
mod tests;
