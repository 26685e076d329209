//! The plan: the one immutable shape of the configuration that the rest of the house sees.
//!
//! The file says names; the plan says indices. Building it (in `check`) is where wrong states
//! become unwritable: every target has a provider, a credential and an endpoint, every route has
//! at least one target, every duration is in range, every secret is resolved. Nothing below asks
//! "is it configured?".
//!
//! A request holds one `Arc` of the plan from its first byte to its last; a reload builds a new
//! one and swaps it. The plan never changes and holds no state: health, counters and connections
//! live elsewhere and find their way by [`TargetId`] and the endpoint's name.

use crate::base::api::Api;
use crate::base::ids::{ProviderIdx, RouteIdx, TargetIdx};
use crate::base::secret::Secret;
pub use crate::config::ladder::Ladder;
pub use crate::config::permanent::{Permanent, PermanentPatterns};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use super::classifier::Pattern;
use super::hedge::HedgePolicy;
pub use super::settings::Setting;
use super::usage::UsagePolicy;
pub use crate::catalog::Continues;

mod policy;
mod provider;
mod route;

pub use policy::{
    Backoff, BreakerPolicy, CooldownPolicy, Jitter, Limits, PoolPolicy, Prefer, RescuePolicy, RetryPolicy,
    TimeoutOverrides, Timeouts,
};
pub use provider::{
    Calls, Credential, Endpoint, HttpVersions, LeftOut, Model, ModelLimits, Proof, Provider, Target, Traits,
};
pub use route::{Entry, Group, Route, Translation};

/// A whole configuration, checked and resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Worker threads of the data plane; 0 is one per core.
    pub threads: usize,
    /// How long TERM waits for requests under way.
    pub grace: Duration,
    /// Where the data plane listens; at least one.
    pub listen: Vec<Listen>,
    /// The admin plane.
    pub admin: Admin,
    /// Who may call; empty means open.
    pub clients: Vec<Client>,
    /// Providers in the order of the file.
    pub providers: Vec<Provider>,
    /// Optional providers that are not configured.
    pub left_out: Vec<LeftOut>,
    /// Endpoints, each named once however many providers share it.
    pub endpoints: Vec<Endpoint>,
    /// Credentials of all providers.
    pub credentials: Vec<Credential>,
    /// Every target that a route names, explicit or implicit.
    pub targets: Vec<Target>,
    /// Routes: those of the file first, then the implicit ones.
    pub routes: Vec<Route>,
    /// Exact name to route, implicit routes included.
    pub route_names: HashMap<Arc<str>, RouteIdx>,
    /// The route for a model that nothing else names.
    pub default_route: Option<RouteIdx>,
    /// Whether `provider/model` and known model names are routes of their own.
    pub implicit_routes: bool,
    /// What may be lost in translation where no route of the file says it.
    pub translation: Translation,
    /// When to repeat, wait and move on.
    pub retry: RetryPolicy,
    /// When a target is left alone because it fails.
    pub breaker: BreakerPolicy,
    /// Which error texts open a breaker at once.
    pub permanent: PermanentPatterns,
    /// How long a target or credential rests.
    pub cooldown: CooldownPolicy,
    /// Going on after content went downstream.
    pub rescue: RescuePolicy,
    /// When a second target is asked beside the first; absent is never.
    pub hedge: Option<HedgePolicy>,
    /// Connections to providers that are opened ahead.
    pub pool: PoolPolicy,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: LogPolicy,
    /// File for the record of every decision and every change; absent is none.
    pub audit: Option<PathBuf>,
    /// What the configuration says, as it says it; for pages and comparisons, nothing decides by it.
    pub settings: Arc<[Setting]>,
    /// How usage is added up.
    pub usage: UsagePolicy,
    /// The file that outlives a restart; nothing is memory only.
    pub state: Option<PathBuf>,
}

/// One listening address of the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether cleartext HTTP/2 with prior knowledge is taken.
    pub h2c: bool,
    /// Certificate and key, where the listener speaks TLS.
    pub tls: Option<ListenTls>,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// PEM file with the chain.
    pub cert: PathBuf,
    /// PEM file with the key.
    pub key: PathBuf,
    /// Refuses TLS 1.2 where true.
    pub only_tls13: bool,
}

/// The admin plane.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Address and port.
    pub address: SocketAddr,
    /// Bearer token; none configured means one is made at start.
    pub token: Option<Secret>,
}

/// A downstream caller.
#[derive(Clone, Debug)]
pub struct Client {
    /// Name for logs and usage.
    pub name: Arc<str>,
    /// SHA-256 of its key; the key itself is not kept.
    pub key_digest: [u8; 32],
    /// Names of routes it may use, a trailing `*` is a prefix match.
    pub routes: Vec<String>,
    /// How much it may ask for.
    pub limits: ClientLimits,
}

/// How much a client may ask for; nothing is no limit. Each is 1 or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests in any minute.
    pub rpm: Option<u64>,
    /// Input and output tokens in any minute.
    pub tpm: Option<u64>,
    /// Requests at a time.
    pub concurrency: Option<u64>,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    /// Least severity that is written.
    pub level: Level,
    /// Shape of a line.
    pub format: LogFormat,
}

/// Severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And one line a request.
    Info,
    /// And decisions.
    Debug,
    /// And steps.
    Trace,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

impl Plan {
    /// Returns the target behind an index of this plan.
    #[must_use]
    pub fn target(&self, at: TargetIdx) -> &Target {
        &self.targets[at.at()]
    }

    /// Returns the provider behind an index of this plan.
    #[must_use]
    pub fn provider(&self, at: ProviderIdx) -> &Provider {
        &self.providers[at.at()]
    }

    /// Returns the provider of a target.
    #[must_use]
    pub fn provider_of(&self, at: TargetIdx) -> &Provider {
        self.provider(self.target(at).provider)
    }

    /// Returns the route behind an index of this plan.
    #[must_use]
    pub fn route(&self, at: RouteIdx) -> &Route {
        &self.routes[at.at()]
    }

    /// Returns the calls that a target takes.
    #[must_use]
    pub fn takes(&self, at: TargetIdx) -> Calls {
        self.provider_of(at).takes(&self.target(at).model)
    }

    /// Tells whether a target takes the call in its own dialect.
    #[must_use]
    pub fn speaks(&self, at: TargetIdx, api: Api) -> bool {
        self.takes(at).has(api)
    }

    /// Returns when a second target is asked beside the first on a route, where that is wanted.
    #[must_use]
    pub fn hedge(&self, route: Option<&Route>) -> Option<HedgePolicy> {
        route.and_then(|route| route.hedge).or(self.hedge).filter(|hedge| hedge.max_ratio > 0.0)
    }

    /// Returns the timers of an attempt at one of a provider's targets for a route: the route's
    /// own first, then the provider's, which start from the file's.
    #[must_use]
    pub fn timeouts(&self, route: Option<&Route>, provider: ProviderIdx) -> Timeouts {
        let base = self.provider(provider).timeouts;
        route.map_or(base, |route| base.with(&route.timeouts))
    }
}
