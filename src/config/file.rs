//! What the file says: names, texts and places of secrets, each with its path.
//!
//! This is the list of every key: name, default, range, one sentence. It judges single values;
//! whether they fit together is `check`'s question. Sections without names to resolve (timers,
//! retry, breaker, …) are read in `policies`, straight into the plan's own types, and `providers`
//! in `servers`.
//!
//! A value that was refused is absent here, so that `check` does not stumble over it again.

use super::classifier::{Pattern, read_classifier};
use super::fault::Faults;
use super::hedge::{HedgePolicy, read_hedge};
use super::path::KeyPath;
use super::plan::{
    ClientLimits, CooldownPolicy, Limits, LogPolicy, PoolPolicy, RescuePolicy, RetryPolicy, TimeoutOverrides,
    Timeouts, Translation,
};
use super::policies::{
    BreakerFile, hours, read_breaker, read_cooldown, read_limits, read_log, read_overrides, read_pool,
    read_rescue, read_retry, read_timeouts, secs,
};
use super::reference::{SecretRef, read_reference};
use super::servers::{ProviderFile, read_provider};
use super::usage::{StateFile, UsagePolicy, read_state, read_usage};
use super::walk::Map;
use crate::catalog::Tier;
use std::time::Duration;

const NAME_MAX: usize = 64;
const MODEL_MAX: usize = 256;

/// The whole file.
#[derive(Debug)]
pub struct File {
    pub threads: usize,
    pub grace: Duration,
    /// Absent: the default address.
    pub listen: Option<Vec<ListenFile>>,
    pub admin: AdminFile,
    pub clients: Vec<ClientFile>,
    pub providers: Vec<ProviderFile>,
    pub routes: Vec<RouteFile>,
    pub default_route: Option<String>,
    pub implicit_routes: bool,
    pub translation: Translation,
    pub timeouts: Timeouts,
    pub retry: RetryPolicy,
    pub breaker: BreakerFile,
    pub cooldown: CooldownPolicy,
    pub patterns: Vec<Pattern>,
    pub rescue: RescuePolicy,
    pub pool: PoolPolicy,
    pub hedge: Option<HedgePolicy>,
    pub limits: Limits,
    pub log: LogPolicy,
    /// `audit.path` and where it stands.
    pub audit: Option<(KeyPath, String)>,
    pub usage: UsagePolicy,
    pub state: StateFile,
}

/// One entry of `listen`.
#[derive(Debug)]
pub struct ListenFile {
    pub at: KeyPath,
    pub address: Option<String>,
    pub h2c: bool,
    pub tls: Option<ListenTlsFile>,
}

/// `listen[].tls`.
#[derive(Debug)]
pub struct ListenTlsFile {
    pub at: KeyPath,
    pub cert: Option<String>,
    pub key: Option<String>,
    pub only_tls13: bool,
}

/// `admin`.
#[derive(Debug)]
pub struct AdminFile {
    pub at: KeyPath,
    pub address: Option<String>,
    pub token: Option<SecretRef>,
    /// Whether a token is written, also where it was refused.
    pub has_token: bool,
}

/// One entry of `clients`.
#[derive(Debug)]
pub struct ClientFile {
    pub at: KeyPath,
    pub name: Option<String>,
    pub key: Option<SecretRef>,
    /// Absent: every route.
    pub routes: Option<Vec<(KeyPath, String)>>,
    pub limits: ClientLimits,
}

/// One entry of `routes`.
#[derive(Debug)]
pub struct RouteFile {
    pub at: KeyPath,
    pub name: String,
    pub targets: Vec<TargetFile>,
    pub fallback: Vec<(KeyPath, String)>,
    pub defaults: Vec<(String, String)>,
    pub timeouts: TimeoutOverrides,
    pub no_rescue: bool,
    pub hedge: Option<HedgePolicy>,
    pub tier: Option<Tier>,
    /// Absent: as the file has it for all.
    pub translation: Option<Translation>,
}

/// One entry of `routes.*.targets`.
#[derive(Debug)]
pub struct TargetFile {
    pub at: KeyPath,
    pub provider: Option<String>,
    pub model: Option<String>,
    /// Whether a model is written, also where it was refused.
    pub has_model: bool,
    pub priority: u32,
    pub weight: u32,
}

/// Walks the whole file.
pub fn read_file(m: &mut Map<'_, '_>, faults: &Faults) -> File {
    m.integer("version", 1, 1..=1, "version of this format");
    let threads = m.integer("threads", 0, 0..=1024, "worker threads; 0 is one a core");
    File {
        threads: usize::try_from(threads).unwrap_or(0),
        grace: m.duration(
            "grace",
            secs(30),
            Duration::ZERO..=hours(24),
            "how long TERM waits for requests under way",
        ),
        listen: m.list(
            "listen",
            super::settings::LISTEN,
            "where clients call; needs a restart to change",
            read_listen,
        ),
        admin: m.section(
            "admin",
            "status, metrics and the operator's verbs; a listener of its own",
            read_admin,
        ),
        clients: m
            .list("clients", "[]", "who may call; none means anyone on this machine", |m| {
                read_client(m, faults)
            })
            .unwrap_or_default(),
        providers: m
            .table("providers", "companies and servers that answer", |name, m| read_provider(name, m, faults))
            .unwrap_or_default(),
        routes: m
            .table("routes", "what clients put into \"model\"", |name, m| read_route(name, m, faults))
            .unwrap_or_default(),
        default_route: m.maybe_text("default_route", "null", "route for a model that nothing else names"),
        implicit_routes: m.boolean(
            "implicit_routes",
            true,
            "whether known model names and provider/model are routes of their own",
        ),
        translation: m.choice(
            "translation",
            Translation::Lossy,
            &TRANSLATIONS,
            "what a target's dialect cannot say of a request: lossy leaves it out, strict leaves the target out; none leaves every target of another dialect out",
        ),
        timeouts: m.section("timeouts", "timers of an attempt and of the request", read_timeouts),
        retry: m.section("retry", "when to repeat, wait and move on", read_retry),
        breaker: m.section("breaker", "when a target is left alone because it fails", read_breaker),
        cooldown: m.section(
            "cooldown",
            "how long a target or credential rests when it says so; 0s is not at all",
            read_cooldown,
        ),
        patterns: m.section(
            "classifier",
            "your own words for errors that no code of a provider tells; a provider's own come first",
            read_classifier,
        ),
        rescue: m.section("rescue", "going on with another target in the middle of a stream", read_rescue),
        hedge: read_hedge(m, "asking another target beside one that keeps a client waiting; null is off"),
        pool: m.section("pool", "connections to providers that are opened ahead", read_pool),
        limits: m.section("limits", "bounds on what clients may use", read_limits),
        log: m.section("log", "what is logged, and how", read_log),
        audit: m.section("audit", "a record of every decision and every change", |m| {
            let path = m.maybe_text("path", "null", "file for the record, JSON lines, mode 0640; null is none");
            path.map(|path| (m.at().key("path"), path))
        }),
        usage: m.section("usage", "requests, tokens and cost, added up by day", read_usage),
        state: m.section("state", "what outlives a restart", read_state),
    }
}

fn read_listen(m: &mut Map<'_, '_>) -> ListenFile {
    ListenFile {
        at: m.at().clone(),
        address: m.text("address", "address and port, such as 127.0.0.1:8080"),
        h2c: m.boolean("h2c", false, "whether cleartext HTTP/2 with prior knowledge is taken"),
        tls: m.maybe_section("tls", "certificate and key, where this listener speaks TLS", |m| {
            let only_tls13 = [("1.2", false), ("1.3", true)];
            ListenTlsFile {
                at: m.at().clone(),
                cert: m.text("cert", "PEM file with the certificate and its chain"),
                key: m.text("key", "PEM file with the private key"),
                only_tls13: m.choice("min_version", false, &only_tls13, "oldest TLS version that is taken"),
            }
        }),
    }
}

fn read_admin(m: &mut Map<'_, '_>) -> AdminFile {
    AdminFile {
        at: m.at().clone(),
        has_token: m.has("token"),
        address: m.maybe_text("address", "\"127.0.0.1:9901\"", "address and port of the admin plane"),
        token: m.secret(
            "token",
            false,
            "bearer token for the admin plane; null makes one at start",
            read_reference,
        ),
    }
}

fn read_client(m: &mut Map<'_, '_>, faults: &Faults) -> ClientFile {
    ClientFile {
        at: m.at().clone(),
        name: m
            .text("name", "name for logs and usage")
            .and_then(|name| check_name(faults, &m.at().key("name"), "client", &name).then_some(name)),
        key: m.secret("key", true, "place of the key that this client sends", read_reference),
        routes: m.texts("routes", "[\"*\"]", "routes it may use; a trailing * matches every ending"),
        limits: m.section("limits", "how much it may ask for; beyond that 429 with Retry-After", |m| ClientLimits {
            rpm: m.maybe_integer("rpm", 1..=RATE_MAX, "requests in any minute"),
            tpm: m.maybe_integer(
                "tpm",
                1..=RATE_MAX,
                "input and output tokens in any minute, counted as requests end: the last one may go beyond it",
            ),
            concurrency: m.maybe_integer("concurrency", 1..=RATE_MAX, "requests at a time"),
        }),
    }
}

/// Most that a rate can be set to.
const RATE_MAX: u64 = 1_000_000_000;

/// `limits` of providers: planned, not built.
pub(super) fn read_rates(m: &mut Map<'_, '_>, what: &'static str) {
    m.section("limits", "not built yet", |m| {
        m.unbuilt("rpm", "null", what, "requests a minute");
        m.unbuilt("tpm", "null", what, "tokens a minute");
        m.unbuilt("concurrency", "null", what, "requests at a time");
    });
}

/// Size classes by their words.
pub(super) const TIERS: [(&str, Tier); 4] =
    [("fast", Tier::Fast), ("medium", Tier::Medium), ("large", Tier::Large), ("reasoning", Tier::Reasoning)];

/// What may be lost on the way to a target of another dialect.
const TRANSLATIONS: [(&str, Translation); 3] =
    [("lossy", Translation::Lossy), ("strict", Translation::Strict), ("none", Translation::None)];

/// Strategies that the contract names; only the first is built.
const STRATEGIES: [(&str, &str); 7] = [
    ("priority", "priority"),
    ("round_robin", "round_robin"),
    ("weighted", "weighted"),
    ("least_connections", "least_connections"),
    ("fastest", "fastest"),
    ("cost", "cost"),
    ("score", "score"),
];

fn read_route(name: &str, m: &mut Map<'_, '_>, faults: &Faults) -> RouteFile {
    check_model(faults, m.at(), name);
    let strategy = m.choice("strategy", "priority", &STRATEGIES, "how targets of a group are ordered");
    if strategy != "priority" {
        m.fault(
            "strategy",
            format!("{strategy} is not built yet; leave it out or set it to its default (priority)"),
        );
    }
    let targets = m.list("targets", "[]", "providers and models, tried by priority", |m| TargetFile {
        at: m.at().clone(),
        provider: m.text("provider", "name of the provider"),
        has_model: m.has("model"),
        model: m
            .maybe_text(
                "model",
                "null",
                "the provider's name for the model; null is one of its models, picked by the size that the route's tier says",
            )
            .filter(|model| check_model(faults, &m.at().key("model"), model)),
        priority: m.small("priority", 1, 1..=1000, "group; 1 is first"),
        weight: m.small("weight", 100, 0..=10_000, "share inside the group; 0 leaves it out"),
    });
    RouteFile {
        at: m.at().clone(),
        name: name.to_owned(),
        targets: targets.unwrap_or_default(),
        fallback: m.texts("fallback", "[]", "routes whose targets follow after these").unwrap_or_default(),
        defaults: read_defaults(m, faults),
        timeouts: m.section("timeouts", "timers for this route", read_overrides),
        no_rescue: m.boolean("no_rescue", false, "whether a broken stream ends with an error event instead"),
        hedge: read_hedge(m, "as the file's hedge, for this route; null is the file's"),
        tier: m.maybe_choice(
            "tier",
            "null",
            &TIERS,
            "size class that is wanted: exactly it, else the next higher, else the first; x-pointsman-tier asks for another",
        ),
        translation: m.maybe_choice(
            "translation",
            "null",
            &TRANSLATIONS,
            "as the key of the whole file, for this route; null leaves it to that",
        ),
    }
}

pub(super) fn is_member(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn read_defaults(m: &mut Map<'_, '_>, faults: &Faults) -> Vec<(String, String)> {
    read_json_table(m, faults, "defaults", "values set where the client set nothing")
}

/// Reads members of a request with their values, as JSON text.
pub(super) fn read_json_table(
    m: &mut Map<'_, '_>,
    faults: &Faults,
    name: &'static str,
    help: &'static str,
) -> Vec<(String, String)> {
    let mut defaults = Vec::new();
    for (at, key, json) in m.json_table(name, help) {
        if !is_member(&key) {
            faults.error(&at, "must be the name of a request parameter");
        } else if matches!(key.as_str(), "model" | "stream" | "messages" | "prompt" | "input" | "contents") {
            faults.error(&at, "cannot have a default: it is the client's to say");
        } else if json.len() > 65_536 {
            faults.error(&at, "is longer than 64 KiB");
        } else {
            defaults.push((key, json));
        }
    }
    defaults
}

/// Names of providers, credentials and clients: a segment of a path, a label, a word in a log.
pub(super) fn check_name(faults: &Faults, at: &KeyPath, what: &str, name: &str) -> bool {
    let is_sound = !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !is_sound {
        faults.error(at, format!("the name of a {what} must be 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    is_sound
}

/// Names of models and routes: what a client puts into `model`, with slashes and colons.
pub(super) fn check_model(faults: &Faults, at: &KeyPath, name: &str) -> bool {
    let is_sound = !name.is_empty()
        && name.len() <= MODEL_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b));
    if !is_sound {
        faults.error(at, "the name of a model or route must be 1 to 256 of A-Z a-z 0-9 . _ : / @ + -");
    }
    is_sound
}
