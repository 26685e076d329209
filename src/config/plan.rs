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

use crate::base::api::{Api, Kind};
use crate::base::ids::{CredentialIdx, EndpointIdx, ProviderIdx, RouteIdx, TargetId, TargetIdx};
use crate::base::reach::Reach;
use crate::base::secret::Secret;
use crate::catalog::{Abilities, Ability, Skills, Tier};
use crate::config::SecretRef;
use crate::config::credential::Login;
pub use crate::config::ladder::Ladder;
pub use crate::config::permanent::{Permanent, PermanentPatterns};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use super::classifier::Pattern;
use super::hedge::HedgePolicy;
pub use super::settings::Setting;
use super::usage::UsagePolicy;
pub use crate::catalog::Continues;

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

/// A company or server.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Name in the file; first part of a target's id.
    pub name: Arc<str>,
    /// What sort of server it is.
    pub kind: Kind,
    /// The catalogue's word for it, as the file has it.
    pub word: &'static str,
    /// Scheme, host, port.
    pub endpoint: EndpointIdx,
    /// Path of the base URL without a trailing slash, such as `/v1` or nothing.
    pub base_path: Arc<str>,
    /// `host` or `host:port` for the Host header, port left out where it is the scheme's own.
    pub authority: Arc<str>,
    /// Credentials in order; at least one (a provider without keys has one that sends nothing).
    pub credentials: Vec<CredentialIdx>,
    /// Extra request headers, lower-case names.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Which HTTP versions to speak.
    pub http: HttpVersions,
    /// Whether credentials are used in order or in turn.
    pub spread_credentials: bool,
    /// Timers for this provider's attempts.
    pub timeouts: Timeouts,
    /// Models known of it, by the provider's name for them. A request looks its own up a few times,
    /// and a walk down a small tree costs less than one hash.
    pub models: BTreeMap<Arc<str>, Model>,
    /// The calls that it takes.
    pub serves: Calls,
    /// Paths that the file gives for calls, below the origin; `{model}` stands for the model.
    pub paths: Vec<(Api, Arc<str>)>,
    /// How it wants to be proved to.
    pub proof: Proof,
    /// Values set in every request where nobody else set one: key and JSON text.
    pub params: Vec<(String, String)>,
    /// The same for requests that ask for a stream.
    pub stream_params: Vec<(String, String)>,
    /// The operator's words for its errors, in the order in which they are asked: its own, then the
    /// file's.
    pub patterns: Vec<Pattern>,
}

/// An optional provider that is not configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name in the file.
    pub name: String,
    /// The word of its kind.
    pub kind: String,
    /// What is missing: names of variables.
    pub why: String,
}

/// How a provider wants to be proved to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// As its kind does.
    #[default]
    AsKind,
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// The key in a header of this name.
    Header(http::HeaderName),
    /// Not at all.
    None,
}

impl Provider {
    /// Returns what decides whether a request fits one of its models. A bridge is given one prompt,
    /// whatever stands behind it: neither tools nor images nor a schema can be said to it.
    #[must_use]
    pub fn traits(&self, model: &str) -> Traits {
        let known = self.models.get(model).map(Model::traits).unwrap_or_default();
        if self.kind == Kind::GenerateBridge {
            return Traits { skills: Skills::written(Abilities::of(&[Ability::Chat])), ..known };
        }
        known
    }

    /// Returns the calls that one of its models takes.
    #[must_use]
    pub fn takes(&self, model: &str) -> Calls {
        match self.kind.call_of(model) {
            None => self.serves,
            Some(api) if self.serves.has(api) => Calls::default().with(api),
            Some(_) => Calls::default(),
        }
    }
}

/// A set of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls(u16);

impl Calls {
    /// Returns the set with one more.
    #[must_use]
    pub fn with(self, api: Api) -> Self {
        Calls(self.0 | 1 << api as u8)
    }

    /// Tells whether it is in the set.
    #[must_use]
    pub fn has(self, api: Api) -> bool {
        self.0 & (1 << api as u8) != 0
    }
}

impl FromIterator<Api> for Calls {
    fn from_iter<T: IntoIterator<Item = Api>>(apis: T) -> Self {
        apis.into_iter().fold(Calls::default(), Calls::with)
    }
}

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Context window in tokens, where known.
    pub context: Option<u64>,
    /// The same where the file says it: nothing that seems longer is sent there.
    pub written_context: Option<u64>,
    /// Most tokens of one answer, where known.
    pub max_output: Option<u64>,
    /// US dollars per million input tokens.
    pub price_input: Option<f64>,
    /// US dollars per million output tokens.
    pub price_output: Option<f64>,
    /// Whether the model thinks before it answers, so that first content may take long.
    pub reasoning: bool,
    /// Capabilities as the file lists them, such as `chat`, `tools`, `vision`; empty means unknown.
    pub capabilities: Vec<String>,
    /// What it can and cannot, by the file or the catalogue.
    pub skills: Skills,
    /// Size class.
    pub tier: Option<Tier>,
    /// How the model goes on from an answer that it is given the beginning of.
    pub continues: Continues,
    /// What a request to it is cut to.
    pub limits: ModelLimits,
}

/// What a request to a model is cut to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// Most tokens that may be asked for.
    pub max_tokens: Option<u64>,
    /// Members that are taken out.
    pub drop_params: Vec<String>,
}

/// What of a model decides whether a request fits it; kept at the target so that no look-up is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// What it can and cannot.
    pub skills: Skills,
    /// Its window in tokens where the file says it.
    pub written_context: Option<u64>,
    /// Its size class.
    pub tier: Option<Tier>,
}

impl Model {
    /// Returns what decides whether a request fits.
    #[must_use]
    pub fn traits(&self) -> Traits {
        Traits { skills: self.skills, written_context: self.written_context, tier: self.tier }
    }
}

/// HTTP versions towards a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersions {
    /// ALPN over TLS, HTTP/1.1 in cleartext.
    Auto,
    /// HTTP/1.1 only.
    One,
    /// HTTP/2 only (with prior knowledge in cleartext).
    Two,
}

/// A host and port: the scope of connect, DNS and TLS faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `scheme://host:port`, the name that survives a reload.
    pub name: Arc<str>,
    /// Host name or address literal (without brackets).
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// PEM file with the certificate authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Whether the certificate is not verified; only possible to loopback.
    pub insecure_skip_verify: bool,
    /// Addresses to use instead of looking the host up; none is to look it up.
    pub addresses: Vec<IpAddr>,
    /// Whether addresses of inner networks are refused behind its name, where the file says so.
    pub deny_private_ips: Option<bool>,
}

impl Endpoint {
    /// Returns what its name may stand for.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::of(&self.host, self.tls, self.deny_private_ips)
    }
}

/// One key or login at a provider.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Name in the file; second part of a target's id.
    pub name: Arc<str>,
    /// Its provider.
    pub provider: ProviderIdx,
    /// The key; none for a provider that wants no authentication, and where there is a login.
    pub key: Option<Secret>,
    /// Where the key stands, if that is a file and can be read again while requests are served.
    pub file: Option<SecretRef>,
    /// What a token is fetched or a request is signed with, instead of a key.
    pub login: Option<Login>,
}

/// Provider × credential × model: the unit of choice and of health.
#[derive(Clone, Debug)]
pub struct Target {
    /// Lasting name.
    pub id: TargetId,
    /// Its provider.
    pub provider: ProviderIdx,
    /// Its credential.
    pub credential: CredentialIdx,
    /// Its endpoint (the provider's).
    pub endpoint: EndpointIdx,
    /// The provider's name for the model.
    pub model: Arc<str>,
    /// What of the model decides whether a request fits it.
    pub traits: Traits,
}

/// What a client names: priority groups of entries.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name; bounded by the configuration and so a metric label.
    pub name: Arc<str>,
    /// Whether it was made from a model name rather than written in the file.
    pub is_implicit: bool,
    /// Groups in order of priority, each with at least one entry; fallback routes' groups follow.
    pub groups: Vec<Group>,
    /// Values set in the request where the client set nothing: key and JSON text.
    pub defaults: Vec<(String, String)>,
    /// The timers that the route sets itself.
    pub timeouts: TimeoutOverrides,
    /// Whether rescue is switched off for it (`no_rescue`).
    pub no_rescue: bool,
    /// When a second target is asked beside the first; absent where the file's word stands.
    pub hedge: Option<HedgePolicy>,
    /// The size class that is wanted where the client wishes none.
    pub tier: Option<Tier>,
    /// What may be lost on the way to targets of another dialect than the client's.
    pub translation: Translation,
}

/// What may be lost on the way to a target of another dialect than the client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Translation {
    /// What the target's dialect cannot say is left out.
    #[default]
    Lossy,
    /// A target is left out where something would be lost that was asked for.
    Strict,
    /// Only targets that take the client's call as it is are asked.
    None,
}

/// Entries of equal priority. Their targets are equals: "the same model".
#[derive(Clone, Debug)]
pub struct Group {
    /// The priority; 1 is first.
    pub priority: u32,
    /// Entries in the order of the file.
    pub entries: Vec<Entry>,
}

/// One line under `targets:`: a model with each credential of its provider.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Share inside the group, 1 or more (an entry of weight 0 is left out of the plan).
    pub weight: u32,
    /// Its targets, one per credential, in the order of the credentials.
    pub targets: Vec<TargetIdx>,
    /// Where the line names no model: the targets for each size class that may be wished.
    pub by_tier: Option<Box<[Vec<TargetIdx>; Tier::ALL.len()]>>,
}

impl Entry {
    /// Makes an entry of one model.
    #[must_use]
    pub fn of(weight: u32, targets: Vec<TargetIdx>) -> Self {
        Entry { weight, targets, by_tier: None }
    }

    /// Returns its targets for a size class that the client wishes.
    #[must_use]
    pub fn targets_for(&self, wish: Option<Tier>) -> &[TargetIdx] {
        match (wish, &self.by_tier) {
            (Some(tier), Some(by_tier)) => &by_tier[tier as usize],
            (Some(_) | None, _) => &self.targets,
        }
    }
}

/// Timers of an attempt and of the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection (TCP and TLS) stands.
    pub connect: Duration,
    /// Until the first content of a streamed answer.
    pub first_content: Duration,
    /// The same for a model that reasons first.
    pub first_content_reasoning: Duration,
    /// Longest silence inside a stream while another target is left.
    pub stall: Duration,
    /// Longest silence where none is left.
    pub stall_last: Duration,
    /// Until the whole of an answer that is not streamed.
    pub response: Duration,
    /// The request's deadline, from the end of its body.
    pub total: Duration,
}

/// Timers that a provider or a route sets itself; what is absent comes from the wider scope
/// (route over provider over the file's `timeouts`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    /// As [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// As [`Timeouts::first_content`].
    pub first_content: Option<Duration>,
    /// As [`Timeouts::first_content_reasoning`].
    pub first_content_reasoning: Option<Duration>,
    /// As [`Timeouts::stall`].
    pub stall: Option<Duration>,
    /// As [`Timeouts::stall_last`].
    pub stall_last: Option<Duration>,
    /// As [`Timeouts::response`].
    pub response: Option<Duration>,
    /// As [`Timeouts::total`].
    pub total: Option<Duration>,
}

impl Timeouts {
    /// Returns these timers with the overrides in place.
    #[must_use]
    pub fn with(self, over: &TimeoutOverrides) -> Timeouts {
        Timeouts {
            connect: over.connect.unwrap_or(self.connect),
            first_content: over.first_content.unwrap_or(self.first_content),
            first_content_reasoning: over.first_content_reasoning.unwrap_or(self.first_content_reasoning),
            stall: over.stall.unwrap_or(self.stall),
            stall_last: over.stall_last.unwrap_or(self.stall_last),
            response: over.response.unwrap_or(self.response),
            total: over.total.unwrap_or(self.total),
        }
    }
}

/// When to repeat, wait and move on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Which comes first: another target, or the same again.
    pub prefer: Prefer,
    /// How often the same target is repeated.
    pub same_target: u32,
    /// Longest Retry-After that is waited out at the same target.
    pub wait_in_place: Duration,
    /// Waits between repeats.
    pub backoff: Backoff,
    /// How many changes of target one request may make.
    pub failovers: u32,
    /// How many attempts one request may make at one provider, over all its credentials and
    /// models; 0 is as many as there are.
    pub provider_attempts: u32,
    /// Time that must be left before the deadline for another attempt to begin.
    pub least_time: Duration,
    /// Whether a rejected key ends the request instead of moving it on.
    pub stops_on_auth: bool,
    /// Whether a 4xx of the client's making moves on instead of being passed on.
    pub moves_on_client_error: bool,
    /// Whether a content filter's refusal moves on instead of being passed on.
    pub moves_on_content_filter: bool,
    /// Share of extra attempts on top of requests.
    pub budget_ratio: f64,
    /// Extra attempts per second that are always allowed.
    pub budget_min_per_second: u32,
}

/// Which comes first after a fault that may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// An equal target at once; before a lesser one the same again.
    EqualFirst,
    /// The same target again before any other.
    SameTarget,
}

/// Waits between repeats: `base * multiplier^n`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// First wait.
    pub base: Duration,
    /// Growth from wait to wait.
    pub multiplier: f64,
    /// Longest wait.
    pub max: Duration,
    /// How the wait is spread.
    pub jitter: Jitter,
}

/// How a wait is spread so that many requests do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Anywhere between nothing and the wait.
    Full,
    /// Anywhere between half the wait and the wait.
    Equal,
    /// Anywhere between three and five quarters of the wait.
    Quarter,
    /// Exactly the wait (tests, and the seeds' literal behaviour).
    None,
}

/// When a target is left alone because it fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Whether there is a breaker at all.
    pub enabled: bool,
    /// Failures in a row that open it.
    pub consecutive_failures: u32,
    /// Share of failures in the window that opens it.
    pub failure_ratio: f64,
    /// Requests in the window before the share counts.
    pub min_requests: u32,
    /// Length of the window.
    pub window: Duration,
    /// The share counts over the last so many requests instead of the window; 0 is by the window.
    pub last_requests: u32,
    /// How long it stays open the first time; doubles from time to time.
    pub open: Duration,
    /// Longest it stays open.
    pub open_max: Duration,
    /// Requests let through at once when half open.
    pub half_open_probes: u32,
    /// Successes in half open that close it.
    pub close_after: u32,
    /// How long it stays open after a fault that no waiting mends; absent: as after any other.
    pub permanent: Option<Permanent>,
}

/// How long a target or credential rests. Zero means: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooldownPolicy {
    /// A 429 or 529 without a time; doubles from time to time.
    pub default: Duration,
    /// Longest rest on the provider's word.
    pub max: Duration,
    /// Quota used up; doubles.
    pub quota: Duration,
    /// Longest rest for quota.
    pub quota_max: Duration,
    /// Key rejected; doubles.
    pub auth: Duration,
    /// Longest rest for a rejected key.
    pub auth_max: Duration,
    /// A key that may not do this (403).
    pub permission: Duration,
    /// A model that the provider does not have.
    pub model: Duration,
    /// A provider that does not serve this place.
    pub region: Duration,
    /// A broken certificate (endpoint).
    pub tls: Duration,
    /// A name that does not resolve (endpoint).
    pub dns: Duration,
    /// Where set, every status that another key may mend rests the credential that long, or the
    /// provider's time; takes the place of the rests for rate limits, overload, quota, permission.
    pub hold: Duration,
    /// Where it has steps: rests of a target whose attempts in one request are exhausted.
    pub ladder: Ladder,
    /// How long after its last rest a ladder starts again at its first step.
    pub forget_after: Duration,
}

/// Going on after content went downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RescuePolicy {
    /// Whether a broken stream is taken up by another target.
    pub enabled: bool,
    /// How long text is kept back to make that easier; zero is not at all.
    pub hold: Duration,
}

/// Connections to providers that are opened before anybody needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolPolicy {
    /// How many are kept ready to each target that may be asked next; 0 is none.
    pub warm: u32,
    /// How long after a route's last request that goes on.
    pub warm_for: Duration,
}

/// Bounds on what clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request body in bytes.
    pub max_body: u64,
    /// Bytes of request bodies kept at once over all requests; held answers fill half of it.
    pub replay_memory: u64,
    /// Longest request head in bytes.
    pub max_header: u64,
    /// Connections from clients.
    pub connections: u32,
    /// Connections from one address of clients.
    pub connections_per_address: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// Wrong keys of one address in a minute, behind which it is slowed down; 0 is never.
    pub wrong_keys_per_minute: u32,
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
