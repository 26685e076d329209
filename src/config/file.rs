//! What the file says: names, texts and places of secrets, each with its path.
//!
//! This is the list of every key: name, default, range, one sentence. It judges single values;
//! whether they fit together is `check`'s question. Sections without names to resolve (timers,
//! retry, breaker, …) are read in `policies`, straight into the plan's own types.
//!
//! A value that was refused is absent here, so that `check` does not stumble over it again.

use super::classifier::{Pattern, read_classifier};
use super::fault::Faults;
use super::path::KeyPath;
use super::plan::{
    Continues, CooldownPolicy, HttpVersions, Limits, LogPolicy, RescuePolicy, RetryPolicy, TimeoutOverrides,
    Timeouts,
};
use super::policies::{
    BreakerFile, hours, read_breaker, read_cooldown, read_limits, read_log, read_overrides, read_rescue,
    read_retry, read_timeouts, secs,
};
use super::reference::{SecretRef, read_reference};
use super::walk::Map;
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
    pub timeouts: Timeouts,
    pub retry: RetryPolicy,
    pub breaker: BreakerFile,
    pub cooldown: CooldownPolicy,
    pub patterns: Vec<Pattern>,
    pub rescue: RescuePolicy,
    pub limits: Limits,
    pub log: LogPolicy,
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
}

/// One entry of `providers`.
#[derive(Debug)]
pub struct ProviderFile {
    pub at: KeyPath,
    pub name: String,
    pub kind: Option<String>,
    pub base_url: Option<String>,
    pub allow_plaintext: bool,
    pub ca: Option<String>,
    pub insecure_skip_verify: bool,
    /// Absent: none written.
    pub credentials: Option<Vec<CredentialFile>>,
    /// Absent: none written, which is not the same as an empty list (see `check::providers`).
    pub models: Option<Vec<ModelFile>>,
    pub headers: Vec<(KeyPath, String, String)>,
    pub http: HttpVersions,
    pub spread_credentials: bool,
    pub timeouts: TimeoutOverrides,
    pub patterns: Vec<Pattern>,
}

/// One entry of `providers.*.credentials`.
#[derive(Debug)]
pub struct CredentialFile {
    pub at: KeyPath,
    pub name: Option<String>,
    pub key: Option<SecretRef>,
}

/// One entry of `providers.*.models`.
#[derive(Debug)]
pub struct ModelFile {
    pub continues: Option<Continues>,
    pub name: Option<String>,
    pub tier: Option<&'static str>,
    pub context: Option<u64>,
    pub capabilities: Option<Vec<String>>,
    pub price_input: Option<f64>,
    pub price_output: Option<f64>,
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
}

/// One entry of `routes.*.targets`.
#[derive(Debug)]
pub struct TargetFile {
    pub at: KeyPath,
    pub provider: Option<String>,
    pub model: Option<String>,
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
            "[{address: \"127.0.0.1:8080\"}]",
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
        limits: m.section("limits", "bounds on what clients may use", read_limits),
        log: m.section("log", "what is logged, and how", read_log),
    }
    .with_unbuilt(m)
}

impl File {
    /// Walks the sections that hold nothing but what is not built yet.
    fn with_unbuilt(self, m: &mut Map<'_, '_>) -> Self {
        m.section("audit", "a record of every decision", |m| {
            m.unbuilt("path", "null", "the audit file", "file for the record; null is none");
        });
        m.section("state", "what outlives a restart", |m| {
            m.unbuilt("path", "null", "state on disk", "file for the state; null is memory only");
        });
        self
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
    let client = ClientFile {
        at: m.at().clone(),
        name: m
            .text("name", "name for logs and usage")
            .and_then(|name| check_name(faults, &m.at().key("name"), "client", &name).then_some(name)),
        key: m.secret("key", true, "place of the key that this client sends", read_reference),
        routes: m.texts("routes", "[\"*\"]", "routes it may use; a trailing * matches every ending"),
    };
    read_rates(m, "limits of clients");
    client
}

/// `limits` of clients and providers: planned, not built.
fn read_rates(m: &mut Map<'_, '_>, what: &'static str) {
    m.section("limits", "not built yet", |m| {
        m.unbuilt("rpm", "null", what, "requests a minute");
        m.unbuilt("tpm", "null", what, "tokens a minute");
        m.unbuilt("concurrency", "null", what, "requests at a time");
    });
}

fn read_provider(name: &str, m: &mut Map<'_, '_>, faults: &Faults) -> ProviderFile {
    check_name(faults, m.at(), "provider", name);
    let kind = m.text("kind", "what sort of server it is, such as openai or anthropic");
    let base_url = m.maybe_text(
        "base_url",
        "null",
        "as the provider's own SDK takes it (openai with /v1, anthropic the bare origin); null is the kind's own",
    );
    let allow_plaintext =
        m.boolean("allow_plaintext", false, "whether http:// may be used to another machine");
    let (ca, insecure_skip_verify) = m.section("tls", "how the provider's certificate is judged", |m| {
        let ca = m.maybe_text("ca", "null", "PEM file with authorities to trust instead of the system's");
        (ca, m.boolean("insecure_skip_verify", false, "takes any certificate; only to this machine"))
    });
    let provider = ProviderFile {
        at: m.at().clone(),
        name: name.to_owned(),
        kind,
        base_url,
        allow_plaintext,
        ca,
        insecure_skip_verify,
        credentials: m.list("credentials", "[]", "keys, in the order in which they are used", |m| {
            let name = m.maybe_text("name", "default", "name for logs and target ids");
            let name = name.unwrap_or_else(|| "default".to_owned());
            CredentialFile {
                at: m.at().clone(),
                name: check_name(faults, &m.at().key("name"), "credential", &name).then_some(name),
                key: m.secret("key", true, "place of the key", read_reference),
            }
        }),
        models: m.table(
            "models",
            "what is known of models; the catalogue's values are the default",
            |name, m| read_model(name, m, faults),
        ),
        headers: m.text_table("headers", "extra request headers; ${NAME} is a variable of the environment"),
        http: m.choice(
            "http",
            HttpVersions::Auto,
            &[("auto", HttpVersions::Auto), ("1", HttpVersions::One), ("2", HttpVersions::Two)],
            "HTTP version; auto is ALPN over TLS and HTTP/1.1 without",
        ),
        spread_credentials: m.choice(
            "use",
            false,
            &[("ordered", false), ("spread", true)],
            "whether credentials are used in order or in turn",
        ),
        timeouts: m.section("timeouts", "timers for this provider", read_overrides),
        patterns: m.section("classifier", "your own words for this provider's errors", read_classifier),
    };
    read_rates(m, "limits of providers");
    provider
}

fn read_model(name: &str, m: &mut Map<'_, '_>, faults: &Faults) -> ModelFile {
    let is_sound = check_model(faults, m.at(), name);
    let tier = [("fast", "fast"), ("medium", "medium"), ("large", "large"), ("reasoning", "reasoning")];
    let tier = m.maybe_choice("tier", "null", &tier, "size class");
    let context = m.maybe_integer("context", 1..=100_000_000, "context window in tokens");
    let capabilities = m.texts("capabilities", "[]", "such as chat, tools, vision; none means unknown");
    let mut words = Vec::new();
    for (at, word) in capabilities.iter().flatten() {
        if word.len() <= 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            words.push(word.clone());
        } else {
            faults.error(at, "must be a word of a-z, 0-9 and _");
        }
    }
    let (price_input, price_output) = m.section("price", "US dollars per million tokens", |m| {
        let input = m.maybe_number("input", 0.0..=100_000.0, "for what goes in");
        (input, m.maybe_number("output", 0.0..=100_000.0, "for what comes out"))
    });
    let continues =
        [("none", Continues::None), ("prefill", Continues::Prefill), ("prefix", Continues::Prefix)];
    let continues = m.maybe_choice(
        "continues",
        "null",
        &continues,
        "how it goes on from an assistant message at the end: prefill, prefix (marked) or none",
    );
    ModelFile {
        continues,
        name: is_sound.then(|| name.to_owned()),
        tier,
        context,
        capabilities: capabilities.map(|_| words),
        price_input,
        price_output,
    }
}

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
        model: m
            .text("model", "the provider's name for the model")
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
    }
}

fn read_defaults(m: &mut Map<'_, '_>, faults: &Faults) -> Vec<(String, String)> {
    let mut defaults = Vec::new();
    for (at, key, json) in m.json_table("defaults", "values set where the client set nothing") {
        let is_word = key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_word || key.is_empty() {
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
fn check_name(faults: &Faults, at: &KeyPath, what: &str, name: &str) -> bool {
    let is_sound = !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !is_sound {
        faults.error(at, format!("the name of a {what} must be 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    is_sound
}

/// Names of models and routes: what a client puts into `model`, with slashes and colons.
fn check_model(faults: &Faults, at: &KeyPath, name: &str) -> bool {
    let is_sound = !name.is_empty()
        && name.len() <= MODEL_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b));
    if !is_sound {
        faults.error(at, "the name of a model or route must be 1 to 256 of A-Z a-z 0-9 . _ : / @ + -");
    }
    is_sound
}
