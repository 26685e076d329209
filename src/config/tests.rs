//! What a file may say, as tables.

use super::plan::{HttpVersions, Jitter, Level, LogFormat, Plan, Prefer, Translation};
use super::*;
use crate::base::api::{Api, Kind};
use crate::base::outcome::Outcome;
use crate::base::secret::Secret;
use std::collections::HashMap;
use std::time::Duration;

/// A key that must not be seen anywhere.
const CANARY: &str = "sk-canary-0123456789abcdefABCDEF";

/// The outside of the tests: variables, and one secret for every other place.
#[derive(Default)]
pub(super) struct Stage {
    variables: HashMap<String, String>,
}

impl Stage {
    pub(super) fn with(pairs: &[(&str, &str)]) -> Self {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Stage { variables }
    }

    /// The variables that the files of these tests name.
    fn usual() -> Self {
        Stage::with(&[
            ("POINTSMAN_ADMIN_TOKEN", "admin-token-1234"),
            ("POINTSMAN_KEY_LAPTOP", "laptop-key-12345"),
            ("OPENAI_API_KEY", CANARY),
            ("ANTHROPIC_API_KEY", "sk-ant-canary-0123456789"),
            ("HOST", "127.0.0.1:9"),
            ("EMPTY", ""),
            ("SHORT", "1234567"),
            ("JUST_LONG_ENOUGH", "12345678"),
            ("TWO_LINES", "a\r\nb"),
        ])
    }
}

impl Outside for Stage {
    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn secret(&self, what: &SecretRef) -> Result<Secret, SecretFault> {
        match what {
            SecretRef::Env(name) => secret_of(self.env(name).ok_or(SecretFault::NotSet)?),
            SecretRef::File(path) if path.ends_with("missing") => Err(SecretFault::Missing),
            SecretRef::File(path) => secret_of(format!("file-{}", path.to_string_lossy())),
            SecretRef::Credential(name) => secret_of(format!("credential-{name}")),
            SecretRef::Command(_) => Err(SecretFault::CommandFailed(1)),
            SecretRef::Literal(secret) => Ok(secret.clone()),
        }
    }
}

fn reading(text: &str) -> Reading {
    read(&Source { name: "pointsman.yaml", text, is_private: false, is_variable: false }, &Stage::usual())
}

fn told(text: &str) -> Vec<String> {
    reading(text).problems.iter().map(ToString::to_string).collect()
}

fn plan(text: &str) -> Plan {
    let reading = reading(text);
    reading.plan.unwrap_or_else(|| panic!("{:#?}\n{text}", reading.problems))
}

/// A provider and a key, for files that are about something else.
const OPENAI: &str = "providers: {openai: {kind: openai, credentials: [{key: {env: OPENAI_API_KEY}}]}}\n";

/// Contract, section 2, word for word.
const SAMPLE: &str = r#"version: 1
threads: 0                     # worker threads; 0 = one a core
grace: 30s                     # how long TERM waits for requests under way
listen:                        # list; hot reload cannot change it: says "restart needed"
  - {address: "127.0.0.1:8080", h2c: false}                    # tls: {cert, key, min_version: "1.2"}
admin: {address: "127.0.0.1:9901", token: {env: POINTSMAN_ADMIN_TOKEN}}
clients:                       # who may call. None: open, and then only loopback addresses may be listened on
  - {name: laptop, key: {env: POINTSMAN_KEY_LAPTOP}, routes: ["*"]}        # later: limits: {rpm, tpm, concurrency}
providers:
  openai:
    kind: openai               # section 5
    base_url: https://api.openai.com/v1       # as the provider's own SDK takes it: openai kinds with /v1, anthropic, gemini, azure the bare origin; joining never doubles it. http:// only to loopback, else allow_plaintext: true
    tls: {ca: null, insecure_skip_verify: false}              # system roots (SSL_CERT_FILE is honoured); skipping only to loopback
    credentials:
      - {name: work, key: {env: OPENAI_API_KEY}}
      - {name: personal, key: {file: /etc/pointsman/keys/openai-personal}}
    models: {gpt-4o: {tier: large, context: 128000, capabilities: [chat, tools, vision], price: {input: 2.5, output: 10}}}   # USD per million tokens; catalogue values are the default
    # later: limits: {rpm, tpm, concurrency}
    headers: {x-extra: value}
    http: auto                 # auto (ALPN, http:// is HTTP/1.1) | 1 | 2
    use: ordered               # credentials: ordered | spread
    timeouts: {first_content: 20s}             # as below, for this provider; a route may have its own too
  anthropic: {kind: anthropic, credentials: [{name: main, key: {env: ANTHROPIC_API_KEY}}]}
routes:
  internal-lite:               # what clients put into "model"
    strategy: priority         # priority | round_robin | weighted | least_connections | fastest | cost | score
    targets:
      - {provider: openai, model: gpt-4o-mini, priority: 1, weight: 100}
      - {provider: anthropic, model: claude-haiku-4-5, priority: 2}
    # fallback: [other-route]  # after all own targets; cycles are an error
    defaults: {temperature: 0.3, max_tokens: 2048}             # set where the client set nothing
default_route: internal-lite   # for a model that nothing else names; how names resolve: design.md section 4
implicit_routes: true
timeouts: {connect: 2s, first_content: 12s, first_content_reasoning: 120s, stall: 30s, stall_last: 120s, response: 120s, total: 600s}   # total runs from the end of the request's body
retry: {prefer: equal_first, same_target: 1, wait_in_place: 5s, backoff: {base: 250ms, multiplier: 2, max: 10s, jitter: full}, failovers: 4, budget_ratio: 0.2, budget_min_per_second: 3}
breaker: {enabled: true, consecutive_failures: 5, failure_ratio: 0.5, min_requests: 20, window: 10s, open: 5s, open_max: 10s, half_open_probes: 1, close_after: 2}
cooldown: {default: 5s, max: 300s, quota: 15m, quota_max: 6h, auth: 5m, auth_max: 80m}      # 0s: none
rescue: {enabled: true, hold: 0ms}            # mid-stream
limits: {max_body: 32MiB, replay_memory: 256MiB, max_header: 64KiB, connections: 10000, connections_per_address: 5000, in_flight: 2000}
log: {level: info, format: auto}              # auto: text on a terminal, JSON elsewhere
audit: {path: null}
state: {path: null}            # null: memory only
"#;

#[test]
fn the_sample_of_the_contract_passes_and_says_what_it_says() {
    let reading = reading(SAMPLE);
    assert_eq!(reading.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    let plan = reading.plan.unwrap();
    assert_eq!(plan.clients[0].routes, ["*"]);
    assert!(plan.admin.token.is_some());
    let ids: Vec<&str> = plan.targets.iter().take(3).map(|target| target.id.as_str()).collect();
    assert_eq!(
        ids,
        ["openai/work/gpt-4o-mini", "openai/personal/gpt-4o-mini", "anthropic/main/claude-haiku-4-5"]
    );
    let route = plan.route(plan.route_names["internal-lite"]);
    assert_eq!(plan.default_route, Some(plan.route_names["internal-lite"]));
    assert_eq!(route.groups.iter().map(|group| group.priority).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(route.defaults, [("temperature".into(), "0.3".into()), ("max_tokens".into(), "2048".into())]);
    let openai = &plan.providers[0];
    assert_eq!(
        (openai.kind, &*openai.base_path, &*openai.authority),
        (Kind::OpenAi, "/v1", "api.openai.com")
    );
    assert_eq!((openai.http, openai.spread_credentials), (HttpVersions::Auto, false));
    assert_eq!(openai.timeouts.first_content, Duration::from_secs(20));
    assert_eq!(openai.timeouts.stall, Duration::from_secs(30));
    assert_eq!(plan.providers[1].timeouts.first_content, Duration::from_secs(12));
    assert_eq!(openai.models["gpt-4o"].capabilities, ["chat", "tools", "vision"]);
    assert_eq!(openai.models["gpt-4o-mini"].context, Some(128_000), "from the catalogue");
    assert!(plan.route_names.contains_key("claude-sonnet-4-5"), "implicit");
    assert!(plan.speaks(route.groups[0].entries[0].targets[0], Api::ChatCompletions));
    assert_eq!(&*plan.endpoints[0].name, "https://api.openai.com:443");
}

#[test]
fn a_file_that_says_nothing_else_has_the_defaults_of_the_contract() {
    let (short, whole) = (plan(OPENAI), plan(SAMPLE));
    assert_eq!(short.listen, whole.listen);
    assert_eq!(short.admin.address, whole.admin.address);
    assert_eq!((short.threads, short.grace), (whole.threads, whole.grace));
    assert_eq!((short.retry, short.breaker), (whole.retry, whole.breaker));
    assert_eq!((short.cooldown, short.rescue), (whole.cooldown, whole.rescue));
    assert_eq!((short.limits, short.log), (whole.limits, whole.log));
    assert_eq!(short.providers[0].timeouts, whole.providers[1].timeouts);
    assert!(short.implicit_routes && short.clients.is_empty() && short.default_route.is_none());
    assert_eq!((short.retry.prefer, short.retry.backoff.jitter), (Prefer::EqualFirst, Jitter::Full));
    assert_eq!((short.log.level, short.log.format), (Level::Info, LogFormat::Auto));
}

/// Files that are refused: why, text, and for each fault its path and some of its words.
type Bad = (&'static str, &'static [(&'static str, &'static str)]);

/// Everything that is wrong inside otherwise empty files; `OPENAI` is put in front.
const BAD_BESIDE_A_PROVIDER: &[Bad] = &[
    (
        "breaker: {enabled: false, permanent: {enabled: true}}",
        &[("breaker.permanent", "has nothing to open while breaker.enabled is false")],
    ),
    (
        "breaker: {permanent: {patterns: [fine, \"(a\"]}}",
        &[("breaker.permanent.patterns[1]", "is not a regular expression of the regex crate")],
    ),
    (
        "breaker: {permanent: {patterns: [\"((a{100}){100}){100}\"]}}",
        &[("breaker.permanent.patterns[0]", "is too large when compiled")],
    ),
    (
        "breaker: {permanent: {base: 10m, max: 5m, factor: 0.5}, last_requests: 65}",
        &[
            ("breaker.permanent.base", "must not be longer than max"),
            ("breaker.permanent.factor", "between 1 and 100"),
            ("breaker.last_requests", "between 0 and 64"),
        ],
    ),
    (
        "cooldown: {ladder: [5m, 1m], hold: 200h}",
        &[
            ("cooldown.ladder[1]", "must not be shorter than the step before it"),
            ("cooldown.hold", "must be between 0s and 168h"),
        ],
    ),
    (
        "cooldown: {ladder: [0s, soon, 1s]}",
        &[("cooldown.ladder[0]", "must be between 1ms and 168h"), ("cooldown.ladder[1]", "as in 30s")],
    ),
    (
        "cooldown: {ladder: [1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s]}",
        &[("cooldown.ladder", "has more than 8 entries")],
    ),
    ("cooldown: {ladder: 5m}", &[("cooldown.ladder", "must be a list")]),
    (
        "retry: {on_auth_failure: relay, on_client_error: stop, least_time: 1h}",
        &[
            ("retry.on_auth_failure", "is not one of failover, stop"),
            ("retry.on_client_error", "is not one of relay, failover"),
            ("retry.least_time", "between 0s and 5m"),
        ],
    ),
    ("thread: 2", &[("thread", "is not a known key (did you mean \"threads\"?)")]),
    ("zzz: 2", &[("zzz", "is not a known key; known here: version, threads")]),
    ("1: 2", &[("1", "is a key that is a number")]),
    (
        "clients: [{name: a, key: {env: OPENAI_API_KEY}, routes: }]",
        &[("clients[0].routes", "is empty; give it a value or leave it out")],
    ),
    ("<<: {threads: 1}", &[("\"<<\"", "is not a known key")]),
    ("version: 2", &[("version", "must be a whole number between 1 and 1")]),
    ("version: one", &[("version", "must be a whole number, not text")]),
    ("threads: -1", &[("threads", "between 0 and 1024")]),
    ("threads: 1.5", &[("threads", "whole number")]),
    ("threads: 18446744073709551615", &[("threads", "between 0 and 1024")]),
    (
        "threads: 99999999999999999999999\nfrob: 1",
        &[
            ("threads", "a whole number that is too large"),
            ("threads", "between 0 and 1024"),
            ("frob", "is not a known key"),
        ],
    ),
    (
        "log: {level: \"in\u{1}fo\"}\nthreads: 5000",
        &[
            ("log.level", "holds the control character U+0001"),
            ("log.level", "is not one of"),
            ("threads", "between 0 and 1024"),
        ],
    ),
    ("threads:", &[("threads", "is empty; give it a value or leave it out")]),
    ("grace: 30", &[("grace", "needs a unit: ms, s, m or h")]),
    ("grace: -1s", &[("grace", "is not a duration")]),
    ("grace: 25h", &[("grace", "must be between 0s and 24h")]),
    ("grace: [1s]", &[("grace", "must be a duration such as 30s, not a list")]),
    ("timeouts: {connect: 0s}", &[("timeouts.connect", "must be between 1ms and 24h")]),
    ("timeouts: {timeuot_ms: 1}", &[("timeouts.timeuot_ms", "is not a known key")]),
    ("timeouts: 3s", &[("timeouts", "must be a mapping of keys, not text")]),
    ("timeouts: !x {connect: 1s}", &[("timeouts", "tags with ! are not taken")]),
    ("implicit_routes: no", &[("implicit_routes", "must be true or false, not text")]),
    ("retry: {prefer: equal}", &[("retry.prefer", "is not one of equal_first, same_target")]),
    ("retry: {failovers: 101}", &[("retry.failovers", "between 0 and 100")]),
    ("retry: {budget_ratio: .nan}", &[("retry.budget_ratio", "must be a number between 0 and 100")]),
    ("retry: {budget_ratio: .inf}", &[("retry.budget_ratio", "must be a number between 0 and 100")]),
    ("retry: {backoff: {multiplier: 0.5}}", &[("retry.backoff.multiplier", "between 1 and 10")]),
    ("retry: {backoff: {base: 20s, max: 2s}}", &[("retry.backoff.base", "must not be longer than max")]),
    ("breaker: {open: 20s, open_max: 2s}", &[("breaker.open", "must not be longer than open_max")]),
    ("breaker: {failure_ratio: 0}", &[("breaker.failure_ratio", "between 0.01 and 1")]),
    ("cooldown: {quota: 2h, quota_max: 1h}", &[("cooldown.quota", "must not be longer than quota_max")]),
    ("pool: {warm: 9}", &[("pool.warm", "between 0 and 8")]),
    ("pool: {warm_for: 500ms}", &[("pool.warm_for", "between 1s and 24h")]),
    ("limits: {max_body: 32MB}", &[("limits.max_body", "unknown unit; use B, KiB, MiB or GiB")]),
    ("limits: {max_body: 2GiB}", &[("limits.max_body", "must be between 1KiB and 1GiB")]),
    ("limits: {max_body: 2MiB, replay_memory: 1MiB}", &[("limits.max_body", "larger than replay_memory")]),
    (
        "classifier: {patterns: [{match: \"(pool\", outcome: quota}]}",
        &[("classifier.patterns[0].match", "is not a regular expression: unclosed group; put \\ before")],
    ),
    (
        "classifier: {patterns: [{match: \".*\", outcome: quota}, {match: \".*\", status: [418], outcome: quota}]}",
        &[("classifier.patterns[0].match", "fits every text; name words that must be there")],
    ),
    (
        "classifier: {patterns: [{match: a, outcome: broke}, {match: a}, {outcome: quota}]}",
        &[
            ("classifier.patterns[0].outcome", "is not one of rate_limited, quota, auth"),
            ("classifier.patterns[1]", "outcome is missing: what it means"),
            ("classifier.patterns[2]", "match is missing: regular expression"),
        ],
    ),
    (
        "classifier: {patterns: [{match: a, outcome: timeout_stall}]}",
        &[("classifier.patterns[0].outcome", "is not one of rate_limited")],
    ),
    (
        "classifier: {patterns: [{match: a, status: 403, outcome: quota}, {match: a, status: [403, 600], outcome: quota}, {match: a, status: [\"403\"], outcome: quota}, {match: a, status: [302], outcome: quota}]}",
        &[
            ("classifier.patterns[0].status", "must be a list, not a number"),
            ("classifier.patterns[1].status[1]", "must be a whole number between 200 and 599"),
            ("classifier.patterns[2].status[0]", "must be a whole number between 200 and 599"),
            ("classifier.patterns[3].status", "holds a redirect, which is never believed"),
        ],
    ),
    ("classifier: {quota_patterns: [a]}", &[("classifier.quota_patterns", "is not a known key")]),
    ("rescue: {hold: 11s}", &[("rescue.hold", "10s")]),
    ("hedge: {after: 9ms}", &[("hedge.after", "between 10ms and 10m")]),
    ("hedge: {max_ratio: 1.1}", &[("hedge.max_ratio", "must be a number between 0 and 1")]),
    ("hedge: true", &[("hedge", "must be a mapping")]),
    ("state: {path: \"/var/lib/x\\u0007\"}", &[("state.path", "control character")]),
    ("state: {path: 5}", &[("state.path", "must be text")]),
    ("usage: {time_zone: Europe/Berln}", &[("usage.time_zone", "(did you mean \"Europe/Berlin\"?)")]),
    ("usage: {time_zone: CEST}", &[("usage.time_zone", "is not the IANA name of a time zone")]),
    ("usage: {keep_days: 0}", &[("usage.keep_days", "between 1 and 3660")]),
    ("audit: {path: audit.log}", &[("audit.path", "absolute path")]),
    ("audit: {path: \"/x\\u0007\"}", &[("audit.path", "control character")]),
    ("audit: {file: /var/log/x}", &[("audit.file", "is not a known key")]),
    ("log: {level: chatty}", &[("log.level", "is not one of error, warn, info, debug, trace")]),
    ("log: {format: jsn}", &[("log.format", "(did you mean \"json\"?)")]),
    ("default_route: nope", &[("default_route", "route \"nope\" is not defined")]),
    ("default_route: gpt-4o-mimi", &[("default_route", "(did you mean \"gpt-4o-mini\"?)")]),
    ("default_route: \"a\\tb\"", &[("default_route", "control character")]),
    ("default_route: \" a\"", &[("default_route", "begins or ends with a blank")]),
    ("default_route: 5", &[("default_route", "must be text, not a number; put it in quotes")]),
    ("listen: []", &[("listen", "holds no address")]),
    ("listen: {address: x}", &[("listen", "must be a list, not a mapping")]),
    ("listen: [{}]", &[("listen[0]", "address is missing")]),
    ("listen: [{address: localhost:80}]", &[("listen[0].address", "write it like 127.0.0.1:80")]),
    ("listen: [{address: \":80\"}]", &[("listen[0].address", "write it like 0.0.0.0:80")]),
    ("listen: [{address: \"0.0.0.0:80\"}]", &[("listen[0].address", "no clients are defined")]),
    (
        "listen: [{address: \"127.0.0.1:1\"}, {address: \"127.0.0.1:1\"}]",
        &[("listen[1].address", "same address as listen[0]")],
    ),
    ("listen: [{address: \"127.0.0.1:1\", tls: {cert: a}}]", &[("listen[0].tls", "key is missing")]),
    (
        "listen: [{address: \"127.0.0.1:1\", tls: {cert: a, key: \"${NOPE}\"}}]",
        &[("listen[0].tls.key", "environment variable NOPE is not set")],
    ),
    (
        "listen: [{address: \"127.0.0.1:1\", tls: {cert: a, key: b, min_version: 1.1}}]",
        &[("listen[0].tls.min_version", "is not one of 1.2, 1.3")],
    ),
    ("admin: {address: \"127.0.0.1:8080\"}", &[("admin.address", "same address as listen")]),
    ("admin: {address: \"0.0.0.0:9901\"}", &[("admin.address", "without a token")]),
    ("admin: {token: {env: NOPE}}", &[("admin.token", "environment variable NOPE is not set")]),
    ("admin: {token: {file: /missing}}", &[("admin.token", "file /missing does not exist")]),
    (
        "admin: {token: {command: [\"/bin/false\"]}}",
        &[("admin.token", "command /bin/false failed (exit status 1)")],
    ),
    ("admin: {token: {command: [pass, show]}}", &[("admin.token.command[0]", "must be an absolute path")]),
    ("admin: {token: {vault: x}}", &[("admin.token", "vault is not built yet")]),
    ("admin: {token: {aws_secret: x}}", &[("admin.token", "aws_secret is not built yet")]),
    ("admin: {token: {envv: x}}", &[("admin.token", "(did you mean \"env\"?)")]),
    ("admin: {token: {env: A, file: b}}", &[("admin.token", "must have exactly one key")]),
    (
        "admin: {token: \"${POINTSMAN_ADMIN_TOKEN}\"}",
        &[("admin.token", "write {env: POINTSMAN_ADMIN_TOKEN}")],
    ),
    ("admin: {token: literal}", &[("admin.token", "file that others can read")]),
    ("clients: [{name: a}]", &[("clients[0]", "key is missing")]),
    (
        "clients: [{name: a/b, key: {env: POINTSMAN_KEY_LAPTOP}}]",
        &[("clients[0].name", "1 to 64 of A-Z a-z 0-9 . _ -")],
    ),
    (
        "clients: [{name: a, key: {env: POINTSMAN_KEY_LAPTOP}}, {name: a, key: {env: POINTSMAN_KEY_LAPTOP}}]",
        &[
            ("clients[1].name", "client \"a\" is defined twice"),
            ("clients[1].key", "same key as that of client \"a\""),
        ],
    ),
    (
        "clients: [{name: a, key: {env: TWO_LINES}}]",
        &[("clients[0].key", "environment variable TWO_LINES holds something that cannot be sent")],
    ),
    ("clients: [{name: a, key: {env: EMPTY}}]", &[("clients[0].key", "environment variable EMPTY is empty")]),
    (
        "clients: [{name: a, key: {env: POINTSMAN_KEY_LAPTOP}, routes: [\"a*b\"]}]",
        &[("clients[0].routes[0]", "* only at its end")],
    ),
    (
        "clients: [{name: a, key: {env: POINTSMAN_KEY_LAPTOP}, limits: {rpm: 0}}]",
        &[("clients[0].limits.rpm", "must be a whole number between 1 and 1000000000")],
    ),
    ("routes: {a: {}}", &[("routes.a", "has no targets")]),
    ("routes: {\"a b\": {targets: [{provider: openai, model: m}]}}", &[("routes.\"a b\"", "1 to 256 of")]),
    (
        "routes: {a: {targets: [{provider: opneai, model: m}]}}",
        &[("routes.a.targets[0].provider", "provider \"opneai\" is not defined (did you mean \"openai\"?)")],
    ),
    ("routes: {a: {targets: [{provider: openai}]}}", &[("routes.a.targets[0]", "model is missing")]),
    (
        "routes: {a: {targets: [{provider: openai, model: \"a b\"}]}}",
        &[("routes.a.targets[0].model", "1 to 256 of")],
    ),
    (
        "routes: {a: {targets: [{provider: openai, model: m, priority: 0}]}}",
        &[("routes.a.targets[0].priority", "between 1 and 1000")],
    ),
    (
        "routes: {a: {targets: [{provider: openai, model: m, weight: 10001}]}}",
        &[("routes.a.targets[0].weight", "between 0 and 10000")],
    ),
    (
        "routes: {a: {targets: [{provider: openai, model: m, weight: 0}]}}",
        &[("routes.a.targets", "only weights of 0 in the group of priority 1")],
    ),
    (
        "routes: {a: {strategy: cost, targets: [{provider: openai, model: m}]}}",
        &[("routes.a.strategy", "cost is not built yet")],
    ),
    (
        "routes: {a: {strategy: weigthed, targets: [{provider: openai, model: m}]}}",
        &[("routes.a.strategy", "(did you mean \"weighted\"?)")],
    ),
    (
        "routes: {a: {targets: [{provider: openai, model: m}], fallback: [b]}}",
        &[("routes.a.fallback[0]", "route \"b\" is not defined")],
    ),
    (
        "routes: {a: {targets: [{provider: openai, model: m}], fallback: [a]}}",
        &[("routes.a.fallback[0]", "must not go in a circle")],
    ),
    (
        "routes: {a: {targets: [{provider: openai, model: m}], defaults: {model: x}}}",
        &[("routes.a.defaults.model", "cannot have a default")],
    ),
    (
        "routes: {a: {targets: [{provider: openai, model: m}], defaults: {x: .nan}}}",
        &[("routes.a.defaults.x", "JSON cannot say")],
    ),
    (
        "routes: {a: {targets: [{provider: openai, model: m}], timeouts: {total: 0}}}",
        &[("routes.a.timeouts.total", "between 1ms and 24h")],
    ),
];

/// Whole files.
const BAD_ALONE: &[Bad] = &[
    ("", &[("providers", "holds no provider")]),
    ("[]", &[("", "must be a mapping of keys, not a list"), ("providers", "holds no provider")]),
    (
        "providers: {a/b: {kind: openai, base_url: \"http://127.0.0.1:1\"}}",
        &[("providers.a/b", "1 to 64 of")],
    ),
    ("providers: {a: }", &[("providers.a", "kind is missing")]),
    (
        "providers: {a: {kind: opnai}}",
        &[("providers.a.kind", "is not a known kind (did you mean \"openai\"?)")],
    ),
    ("providers: {a: {kind: zzzzzz}}", &[("providers.a.kind", "is kind: openai with its base_url")]),
    (
        "providers: {a: {kind: gemini}}",
        &[("providers.a", "has no credentials; add credentials: [{name: main, key: {env: GEMINI_API_KEY}}]")],
    ),
    (
        "providers: {a: {kind: cloudflare, credentials: [{key: {env: OPENAI_API_KEY}}]}}",
        &[(
            "providers.a.base_url",
            "is missing, and cloudflare has none of its own, or set CLOUDFLARE_ACCOUNT_ID",
        )],
    ),
    (
        "providers: {a: {kind: codex}}",
        &[("providers.a.base_url", "or set CODEX_BRIDGE_URL or OPENAI_CODEX_BRIDGE_URL")],
    ),
    (
        "providers: {a: {kind: lmstudio, auth: authorization}, b: {kind: lmstudio, auth: host}, c: {kind: lmstudio, auth: \"a b\"}}",
        &[
            ("providers.a.auth", "write bearer"),
            ("providers.b.auth", "cannot carry a key"),
            ("providers.c.auth", "must be bearer, none, or the name of an HTTP header"),
        ],
    ),
    (
        "providers: {a: {kind: lmstudio, paths: {chat: /x, completions: x, embeddings: /a/../b, messages: \"/a b\", responses: \"/a?b?c\"}}}",
        &[
            ("providers.a.paths.chat", "is not one of chat_completions, completions"),
            ("providers.a.paths.completions", "must be a path such as"),
            ("providers.a.paths.embeddings", "must be a path such as"),
            ("providers.a.paths.messages", "must be a path such as"),
            ("providers.a.paths.responses", "must be a path such as"),
        ],
    ),
    (
        "providers: {a: {kind: lmstudio, params: {model: x}, stream_params: {\"a-b\": 1}}}",
        &[
            ("providers.a.params.model", "the client's to say"),
            ("providers.a.stream_params.a-b", "must be the name of a request parameter"),
        ],
    ),
    (
        "providers: {a: {kind: lmstudio, models: {m: {limits: {max_tokens: 0, drop_params: [messages, a-b]}}}}}",
        &[
            ("providers.a.models.m.limits.max_tokens", "between 1 and 100000000"),
            ("providers.a.models.m.limits.drop_params[0]", "cannot be taken out"),
            ("providers.a.models.m.limits.drop_params[1]", "must be the name of a request parameter"),
        ],
    ),
    (
        "providers: {a: {kind: groq, optional: true}, b: {kind: lmstudio}}\nroutes: {r: {targets: [{provider: a}]}}",
        &[("routes.r.targets", "names only providers that are left out")],
    ),
    (
        "providers: {a: {kind: lmstudio}}\nroutes: {r: {tier: fast, targets: [{provider: a}]}}",
        &[("routes.r.targets[0]", "model is missing, and no model of this provider is known")],
    ),
    (
        "providers: {a: {kind: bedrock}}",
        &[
            ("providers.a.region", "is missing: write region: us-east-1, or set AWS_REGION"),
            ("providers.a", "has no credentials; add credentials: [{name: main, aws: {from: auto}}] or"),
        ],
    ),
    (
        "providers: {a: {kind: vertex, location: global}}",
        &[
            ("providers.a.project", "is missing: write project: my-project, or set GOOGLE_CLOUD_PROJECT"),
            ("providers.a", "[{name: main, google: {service_account: {file: PATH}}}]"),
        ],
    ),
    (
        "providers: {a: {kind: vertex, base_url: \"https://h\", auth: none}}",
        &[
            ("providers.a.project", "is missing"),
            ("providers.a.location", "is missing: write location: europe"),
        ],
    ),
    (
        "providers: {a: {kind: copilot}}",
        &[("providers.a", "[{name: main, copilot: {token: {env: COPILOT_GITHUB_TOKEN}}}]")],
    ),
    ("providers: {a: {kind: generate-bridge}}", &[("providers.a.base_url", "has none of its own")]),
    (
        "providers: {a: {kind: openai, auth: none, region: eu, project: p, location: l, api_version: \"1\"}}",
        &[
            ("providers.a.region", "goes with kind: bedrock, and this is kind: openai"),
            ("providers.a.project", "goes with kind: vertex"),
            ("providers.a.location", "goes with kind: vertex"),
            ("providers.a.api_version", "goes with kind: azure"),
        ],
    ),
    (
        "providers: {a: {kind: bedrock, region: \"eu/../x\", auth: none}}",
        &[("providers.a.region", "must be 1 to 64 of")],
    ),
    (
        "providers: {a: {kind: gemini, auth: none, paths: {completions: /x}}}",
        &[("providers.a.paths.completions", "a server of kind gemini does not take this call")],
    ),
    (
        "providers: {a: {kind: openai}}",
        &[("providers.a", "has no credentials; add credentials: [{name: main, key: {env: OPENAI_API_KEY}}]")],
    ),
    ("providers: {a: {kind: groq}}", &[("providers.a", "{env: GROQ_API_KEY}")]),
    (
        "providers: {a: {kind: openai, base_url: \"http://box/v1\"}}",
        &[("providers.a.base_url", "allow_plaintext: true")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://u:p@box/v1\"}}",
        &[("providers.a.base_url", "user name or password")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"${NOPE}/v1\"}}",
        &[("providers.a.base_url", "environment variable NOPE is not set")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"${EMPTY}\"}}",
        &[("providers.a.base_url", "environment variable EMPTY is not set")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"${HOST\"}}",
        &[("providers.a.base_url", "without a closing }")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", tls: {insecure_skip_verify: true}}}",
        &[("providers.a.tls.insecure_skip_verify", "only possible to this machine")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", headers: {authorization: x}}}",
        &[("providers.a.headers.authorization", "cannot be set here")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", headers: {\"a b\": x}}}",
        &[("providers.a.headers.a (not shown)", "not the name of an HTTP header")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", headers: {x: \"a\\r\\nb\"}}}",
        &[("providers.a.headers.x", "control character")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", headers: {x: \"${TWO_LINES}\"}}}",
        &[("providers.a.headers.x", "cannot be sent in an HTTP header")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", headers: {x: é}}}",
        &[("providers.a.headers.x", "cannot be sent in an HTTP header")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", headers: {X: a, x: b}}}",
        &[("providers.a.headers.x", "is given twice, in different letters")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", http: 3}}",
        &[("providers.a.http", "is not one of auto, 1, 2")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", use: spred}}",
        &[("providers.a.use", "(did you mean \"spread\"?)")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", limits: {rpm: 5}}}",
        &[("providers.a.limits.rpm", "limits of providers is not built yet")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", models: {m: {price: {input: -1}}}}}",
        &[("providers.a.models.m.price.input", "between 0 and 100000")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", models: {m: {tier: huge}}}}",
        &[("providers.a.models.m.tier", "is not one of fast, medium, large, reasoning")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\", models: [m]}}",
        &[("providers.a.models", "must be a mapping of names, not a list")],
    ),
    (
        "providers: {a: {kind: openai, credentials: [{name: x, key: {env: OPENAI_API_KEY}}, {name: x, key: {env: ANTHROPIC_API_KEY}}]}}",
        &[("providers.a.credentials[1].name", "is named already at providers.a.credentials[0]")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://a.example\", addresses: [\"192.0.2.1\"]}, b: {kind: openai, base_url: \"https://a.example/v1\"}}",
        &[("providers.b.addresses", "differs from that of providers.a, which has the same host and port")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://a.example\", addresses: [a.example, \"::1\", \"::1\", \"1.2.3.4:443\"]}}",
        &[
            ("providers.a.addresses[0]", "must be an IP address"),
            ("providers.a.addresses[2]", "is there twice"),
            ("providers.a.addresses[3]", "must be an IP address"),
        ],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://192.0.2.1\", addresses: [\"192.0.2.2\"]}}",
        &[("providers.a.addresses", "base_url must hold a name")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"http://localhost:1\", addresses: [\"192.0.2.2\"]}}",
        &[("providers.a.addresses[0]", "is not on this machine")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://localhost\"}, b: {kind: openai, base_url: \"https://LOCALHOST:443/v1\", tls: {insecure_skip_verify: true}}}",
        &[("providers.b.tls", "differs from that of providers.a, which has the same host and port")],
    ),
    (
        "providers: {a: {kind: openai, base_url: \"https://box\"}}\nimplicit_routes: false",
        &[("routes", "so nothing can be served")],
    ),
    ("a: 1\na: 2\n", &[("a", "is given twice; the first is on line 1")]),
    ("a: &x 1\nb: *x\n", &[("", "anchor or alias"), ("", "anchor or alias")]),
    ("a: 1\n---\nb: 2\n", &[("", "starts a second document")]),
    ("a: [1\n", &[("", "cannot be read as YAML")]),
    ("a:\n\t- 1\n", &[("", "cannot be read as YAML")]),
];

#[test]
fn every_bad_file_is_refused_with_path_and_words() {
    let beside = BAD_BESIDE_A_PROVIDER.iter().map(|(text, want)| (format!("{OPENAI}{text}\n"), want));
    let mut wrong = Vec::new();
    for (text, want) in BAD_ALONE.iter().map(|(text, want)| ((*text).to_owned(), want)).chain(beside) {
        if text.contains("kind: bedrock") && !cfg!(feature = "bedrock") {
            continue;
        }
        let reading = reading(&text);
        let errors: Vec<&Problem> =
            reading.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        let is_told = |(path, words): &(&str, &str)| {
            errors.iter().any(|problem| problem.path == *path && problem.message.contains(words))
        };
        if reading.plan.is_some() || errors.len() != want.len() || !want.iter().all(is_told) {
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            wrong.push(format!("{text}\n  wants {want:?}\n  got {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file_with_their_lines() {
    let text = "\
threads: many
providers:
  openai:
    kind: openai
    credentials:
      - name: work
        key: {env: NOT_SET}
      - name: work
        key: {env: OPENAI_API_KEY}
routes:
  chat:
    targets:
      - {provider: opneai, model: gpt-4o}
      - {provider: openai,
         model: gpt-4o, wieght: 3}
grace: 30
";
    assert_eq!(
        told(text),
        [
            "pointsman.yaml:1: threads: must be a whole number, not text",
            "pointsman.yaml:7: providers.openai.credentials[0].key: environment variable NOT_SET is not set",
            "pointsman.yaml:8: providers.openai.credentials[1].name: credential \"work\" is named already at providers.openai.credentials[0]",
            "pointsman.yaml:13: routes.chat.targets[0].provider: provider \"opneai\" is not defined (did you mean \"openai\"?)",
            "pointsman.yaml:15: routes.chat.targets[1].wieght: is not a known key (did you mean \"weight\"?)",
            "pointsman.yaml:16: grace: needs a unit: ms, s, m or h, as in 30s",
        ]
    );
}

#[test]
fn a_mark_in_front_of_the_text_is_passed_over() {
    assert_eq!(
        told(&format!("\u{feff}threads: x\n{OPENAI}")),
        ["pointsman.yaml:1: threads: must be a whole number, not text"]
    );
    assert!(reading(&format!("\u{feff}{OPENAI}")).plan.is_some());
    assert_eq!(told("\u{feff}a: 1\n\u{feff}b: [\n").len(), 1);
}

#[test]
fn a_name_that_yaml_reads_as_a_number_is_told_with_its_own_line() {
    let told = told("providers: {b: {kind: openai, base_url: \"https://box\"}}\nroutes:\n  a: {}\n  7: {}\n");
    assert!(
        told.contains(
            &"pointsman.yaml:4: routes.7: has a name that is a number; put it in quotes".to_owned()
        ),
        "{told:#?}"
    );
}

#[test]
fn a_key_given_twice_is_told_with_both_lines_wherever_it_stands() {
    let text = "providers:\n  a:\n    kind: openai\n    kind: anthropic\nroutes: {}\nroutes: {}\n";
    assert_eq!(
        told(text),
        [
            "pointsman.yaml:4: providers.a.kind: is given twice; the first is on line 3",
            "pointsman.yaml:6: routes: is given twice; the first is on line 5",
        ]
    );
}

#[test]
fn a_secret_in_the_file_is_taken_with_a_warning_only_where_nobody_else_can_read_it() {
    let text = format!("providers: {{openai: {{kind: openai, credentials: [{{key: {CANARY}}}]}}}}\n");
    let outside = Stage::usual();
    let private = read(&Source { name: "f", text: &text, is_private: true, is_variable: false }, &outside);
    assert_eq!(private.plan.unwrap().credentials[0].key.as_ref().unwrap().expose(), CANARY);
    assert_eq!(private.problems.len(), 1);
    assert!(
        private.problems[0].to_string().starts_with("f:1: warning: providers.openai.credentials[0].key: ")
    );
    let open = read(&Source { name: "f", text: &text, is_private: false, is_variable: false }, &outside);
    assert!(open.plan.is_none());
}

#[test]
fn what_is_odd_and_not_wrong_is_a_warning() {
    for (text, path, words) in [
        (
            "implicit_routes: false\nroutes: {a: {targets: [{provider: openai, model: m}]}}\nproviders: {openai: {kind: openai, credentials: [{key: {env: OPENAI_API_KEY}}]}, b: {kind: openai, base_url: \"https://box\"}}",
            "providers.b",
            "is used by no route",
        ),
        (
            "providers: {b: {kind: openai, base_url: \"https://box\"}}\nroutes: {a: {targets: [{provider: b, model: m}, {provider: b, model: m, priority: 2}]}}",
            "routes.a.targets[1]",
            "names the same provider and model as routes.a.targets[0]",
        ),
        (
            "providers: {b: {kind: openai, base_url: \"https://box\"}}\nclients: [{name: a, key: {env: POINTSMAN_KEY_LAPTOP}, routes: [nope, b/x, gpt-4o]}]",
            "clients[0].routes[0]",
            "route \"nope\" is not defined",
        ),
        (
            "providers: {b: {kind: openai, base_url: \"https://box\", models: {m: {}}}}\nclients: [{name: a, key: {env: SHORT}}, {name: b, key: {env: JUST_LONG_ENOUGH}}]",
            "clients[0].key",
            "is shorter than 8 characters: it can be guessed",
        ),
        (
            "providers: {b: {kind: openai, base_url: \"https://box\", models: {m: {capabilities: [chat, telepathy]}}}}",
            "providers.b.models.m.capabilities[1]",
            "\"telepathy\" says nothing here; known are chat, completions, embeddings, tools, vision, json",
        ),
        (
            "providers: {b: {kind: openai, base_url: \"https://box/v1/chat/completions/\"}}",
            "providers.b.base_url",
            "take /chat/completions off, as the provider's own SDK takes its base URL",
        ),
        (
            "providers: {b: {kind: anthropic, base_url: \"https://box/v1/messages\"}}",
            "providers.b.base_url",
            "take /v1/messages off",
        ),
    ] {
        let reading = reading(text);
        assert!(reading.plan.is_some(), "{:#?}", reading.problems);
        assert_eq!(reading.problems.len(), 1, "{:#?}", reading.problems);
        let problem = &reading.problems[0];
        assert!(problem.path == path && problem.message.contains(words), "{problem}");
    }
}

#[test]
fn fallback_routes_follow_in_order_each_target_once() {
    let text = format!(
        "{OPENAI}routes:
  a: {{targets: [{{provider: openai, model: a, priority: 5}}], fallback: [b, c]}}
  b: {{targets: [{{provider: openai, model: b}}, {{provider: openai, model: a, priority: 2}}], fallback: [d]}}
  c: {{targets: [{{provider: openai, model: c}}], fallback: [d]}}
  d: {{targets: [{{provider: openai, model: d, weight: 7}}, {{provider: openai, model: e, weight: 0}}]}}
  e: {{fallback: [d]}}
"
    );
    let plan = plan(&text);
    let shape = |name: &str| -> Vec<(u32, Vec<&str>)> {
        let model = |entry: &plan::Entry| &*plan.target(entry.targets[0]).model;
        let route = plan.route(plan.route_names[name]);
        route.groups.iter().map(|g| (g.priority, g.entries.iter().map(model).collect())).collect()
    };
    assert_eq!(shape("a"), [(5, vec!["a"]), (6, vec!["b"]), (7, vec!["d"]), (8, vec!["c"])]);
    assert_eq!(shape("e"), [(1, vec!["d"])]);
    let longer = format!(
        "{OPENAI}routes:
  a: {{targets: [{{provider: openai, model: a}}], fallback: [b]}}
  b: {{targets: [{{provider: openai, model: b}}], fallback: [c]}}
  c: {{targets: [{{provider: openai, model: c}}], fallback: [b]}}
"
    );
    let told = told(&longer);
    assert!(
        told.iter().any(|line| line.contains("routes.c.fallback[0]: leads back to route \"b\"")),
        "{told:?}"
    );
}

#[test]
fn a_model_of_several_providers_is_a_route_of_all_of_them() {
    let text = "providers:
  first: {kind: openai, base_url: \"http://127.0.0.1:1/v1\", models: {mine: {tier: reasoning}}}
  second: {kind: openai, credentials: [{name: x, key: {env: OPENAI_API_KEY}}, {name: y, key: {env: ANTHROPIC_API_KEY}}], models: {mine: }}
  third: {kind: openai, base_url: \"http://127.0.0.1:2/v1\"}
routes: {gpt-4o: {targets: [{provider: first, model: mine}]}}
";
    let plan = plan(text);
    let ids = |name: &str| -> Vec<Vec<&str>> {
        let route = plan.route(plan.route_names[name]);
        let targets =
            |g: &plan::Group| g.entries[0].targets.iter().map(|t| plan.target(*t).id.as_str()).collect();
        route.groups.iter().map(targets).collect()
    };
    assert_eq!(ids("gpt-4o"), [["first/default/mine"]], "a written route comes before an implicit one");
    assert_eq!(ids("mine"), [vec!["first/default/mine"], vec!["second/x/mine", "second/y/mine"]]);
    // `first` lists its models and is elsewhere; `third` is elsewhere and lists none.
    assert_eq!(ids("gpt-4.1"), [vec!["second/x/gpt-4.1", "second/y/gpt-4.1"], vec!["third/default/gpt-4.1"]]);
    let names: Vec<&str> = plan.routes.iter().take(3).map(|route| &*route.name).collect();
    assert_eq!(names, ["gpt-4o", "mine", "gpt-4o-mini"]);
    assert!(plan.routes[1].is_implicit && !plan.routes[0].is_implicit);
    let first = plan.routes[1].groups[0].entries[0].targets[0];
    assert!(plan.provider_of(first).models[&plan.target(first).model].reasoning);
    assert!(plan.credentials[0].key.is_none());
}

#[test]
fn a_default_gives_way_to_what_is_written_beside_it() {
    let one = plan(&format!(
        "{OPENAI}breaker: {{open: 30s}}\nlimits: {{max_body: 512MiB}}\ncooldown: {{max: 1s}}\n"
    ));
    assert_eq!((one.breaker.open, one.breaker.open_max), (Duration::from_secs(30), Duration::from_secs(30)));
    assert_eq!(one.limits.replay_memory, 512 << 20);
    assert_eq!((one.cooldown.default, one.cooldown.max), (Duration::from_secs(1), Duration::from_secs(1)));
}

#[test]
fn several_words_of_the_file_reach_the_plan() {
    let text = "providers:
  local: {kind: lmstudio, http: 2, use: spread, headers: {X-Key: \"${HOST}\"}, timeouts: {total: 5s}}
  far: {kind: openai, base_url: \"http://box:81/v1\", allow_plaintext: true}
listen: [{address: \"127.0.0.1:0\", tls: {cert: \"/x/${HOST}.pem\", key: k, min_version: \"1.3\"}}, {address: \"[::1]:0\", h2c: true}]
admin: {address: \"127.0.0.1:0\"}
rescue: {hold: 10s}
routes: {r: {targets: [{provider: local, model: m}], no_rescue: true, translation: strict, timeouts: {stall: 1s}, defaults: {stop: [a, 1, null], o: {p: -1.5}}}, s: {targets: [{provider: far, model: m}]}}
";
    let plan = plan(text);
    let local = &plan.providers[0];
    assert_eq!((local.http, local.spread_credentials), (HttpVersions::Two, true));
    assert_eq!(local.headers[0].0.as_str(), "x-key");
    assert!(local.headers[0].1.is_sensitive());
    let tls = plan.listen[0].tls.as_ref().unwrap();
    assert_eq!((tls.cert.to_str(), tls.only_tls13), (Some("/x/127.0.0.1:9.pem"), true));
    assert!(plan.listen[1].h2c);
    assert_eq!((&*plan.endpoints[1].name, plan.endpoints[1].tls), ("http://box:81", false));
    let route = &plan.routes[0];
    assert_eq!(route.defaults[0], ("stop".to_owned(), "[\"a\",1,null]".to_owned()));
    assert_eq!(route.defaults[1].1, "{\"p\":-1.5}");
    let timeouts = plan.timeouts(Some(route), plan.target(route.groups[0].entries[0].targets[0]).provider);
    assert_eq!((timeouts.stall, timeouts.total), (Duration::from_secs(1), Duration::from_secs(5)));
    assert!(route.no_rescue);
    assert_eq!((route.translation, plan.translation), (Translation::Strict, Translation::Lossy));
    let all_strict = self::plan(&format!("{text}translation: strict\n"));
    assert!(all_strict.routes.iter().all(|route| route.translation == Translation::Strict));
    assert_eq!((plan.rescue.enabled, plan.rescue.hold), (true, Duration::from_secs(10)));
}

#[test]
fn a_providers_own_patterns_come_before_those_of_the_file_and_both_are_bounded() {
    let text = |count: usize| {
        let many = "{match: a, outcome: overloaded}, ".repeat(count);
        format!(
            "providers:\n  a: {{kind: openai, credentials: [{{key: {{env: OPENAI_API_KEY}}}}], classifier: {{patterns: [{{match: b, outcome: quota}}]}}}}\n  b: {{kind: openai, credentials: [{{key: {{env: OPENAI_API_KEY}}}}]}}\nclassifier: {{patterns: [{many}]}}\n"
        )
    };
    let plan = plan(&text(2));
    let outcomes = |at: usize| plan.providers[at].patterns.iter().map(|p| p.outcome).collect::<Vec<_>>();
    assert_eq!(outcomes(0), [Outcome::Quota, Outcome::Overloaded, Outcome::Overloaded]);
    assert_eq!(outcomes(1), [Outcome::Overloaded, Outcome::Overloaded]);
    assert!(reading(&text(64)).plan.is_some());
    assert_eq!(told(&text(65)).len(), 1);
    assert!(told(&text(65))[0].contains("classifier.patterns: has more than 64 entries"));
}

#[test]
fn huge_deep_and_unfolding_files_are_refused_quickly() {
    let deep = "[".repeat(100_000);
    let dashes = "- ".repeat(100_000);
    let large = format!("# {}\n", "x".repeat(1 << 20));
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b]\n";
    for (text, words) in [
        (deep.as_str(), "nested more than 32 levels"),
        (&dashes, "nested more than 32 levels"),
        (&large, "larger than 1 MiB"),
        (bomb, "anchor or alias"),
    ] {
        let reading = reading(text);
        assert!(reading.plan.is_none());
        assert!(reading.problems[0].message.contains(words), "{}", reading.problems[0]);
    }
    assert_eq!(told(&"a: 1\n".repeat(5000)).len(), 201);
    let many = format!("{OPENAI}{}", (0..5000).map(|n| format!("k{n}: 1")).collect::<Vec<_>>().join("\n"));
    let told = told(&many);
    assert_eq!(told.len(), 201);
    assert!(told[200].ends_with("4800 more faults are not shown"), "{}", told[200]);
}

/// A key behind a colon without a blank: part of the word before it, for YAML.
const GLUED: [&str; 14] = [
    "admin: {token:CANARY}",
    "admin: {token=CANARY}",
    "admin: {token CANARY}",
    "admin: {tokne:CANARY}",
    "admin: {address: localhost\n  token:CANARY}",
    "clients: [{name: a, key:CANARY}]",
    "clients: [{name: a\n  key=CANARY}]",
    "token:CANARY: 1",
    "log: {level: info token:CANARY}",
    "default_route: a token:CANARY",
    "providers: {p: {kind: openai key:CANARY}}",
    "providers: {p: {kind: openai, credentials: [{name: k, key:CANARY}]}}",
    "providers: {p: {kind: openai, credentials: [{name: k, key=CANARY: x, key=CANARY: y}]}}",
    "providers: {p: {kind: openai, headers: {x-key:CANARY}}}",
];

#[test]
fn a_value_that_grew_on_its_key_is_in_no_message_whatever_it_looks_like() {
    for line in GLUED {
        let text = line.replace("CANARY", "hunter2hunter2");
        let told = told(&text);
        assert!(!told.is_empty() && !told.concat().contains("hunter2"), "{line}\n{told:#?}");
    }
    let told = told("providers: {a: {kind: openai, credentials: [{name: k, key:hunter2hunter2}]}}");
    assert_eq!(
        told[0],
        "pointsman.yaml:1: providers.a.credentials[0].key:(not shown): needs a colon and a blank, as in key: VALUE"
    );
}

/// A file with the key in every place where one could be pasted, and a fault beside each.
#[test]
fn a_pasted_key_is_in_no_message() {
    let outside = Stage::with(&[("CANARY", CANARY), ("CANARY_LINES", &format!("{CANARY}\n{CANARY}"))]);
    for line in [
        "admin: {token: CANARY}",
        "admin: {token: [CANARY]}",
        "admin: {token: {env: CANARY}}",
        "admin: {token: {CANARY: x}}",
        "admin: {token: {CANARY}}",
        "admin: {token: {file: CANARY}}",
        "admin: {token: {credential: a/CANARY}}",
        "admin: {token: {command: [CANARY]}}",
        "admin: {token: {command: [/bin/false, CANARY]}}",
        "admin: {token: \"${CANARY}\"}",
        "admin: {token: \"CANARY\\n\"}",
        "admin: {tokne: CANARY}",
        "admin: {CANARY: token}",
        "admin: CANARY",
        "CANARY",
        "CANARY: 1",
        "CANARY: 1\nCANARY: 2",
        "default_route: CANARY",
        "log: {level: CANARY}",
        "threads: CANARY",
        "grace: CANARY",
        "limits: {max_body: CANARY}",
        "listen: [{address: CANARY}]",
        "clients: [{name: CANARY, key: CANARY, routes: [CANARY]}]",
        "clients: [{name: \"CANARY x\", key: {env: CANARY_LINES}}]",
        "routes: {CANARY: {targets: [{provider: CANARY, model: CANARY}], fallback: [CANARY], defaults: {model: CANARY}}}",
        "providers: {CANARY: {kind: CANARY}}",
        "providers: {p: {kind: openai, base_url: \"https://CANARY@h/CANARY?CANARY\"}}",
        "providers: {p: {kind: openai, base_url: \"https://h/${CANARY}/${CANARY_LINES}\"}}",
        "providers: {p: {kind: openai, base_url: \"${sk-canary-0123456789abcdefABCDEF}\"}}",
        "providers: {p: {kind: openai, credentials: [CANARY], headers: {x: \"${CANARY_LINES}\", CANARY: CANARY, y: \"CANARY\\t\"}}}",
        "providers: {p: {kind: openai, credentials: [{name: CANARY, key: CANARY}, {name: CANARY, key: {env: CANARY_LINES}}]}}",
        "providers: {p: {kind: openai, tls: {ca: \"${CANARY}\\n\"}}}",
        "admin: {token: 'CANARY",
        "admin: {token: CANARY]",
        "a: &CANARY x\nb: *CANARY",
        "routes: {key:CANARY: 1}",
        "providers: {p: {kind: openai, models: {key:CANARY: 1}}}",
        "a: !CANARY x",
    ]
    .into_iter()
    .chain(GLUED)
    {
        // `${CANARY}` names the variable; elsewhere the word stands for the key itself.
        let text = line.replace("${CANARY", "${KEPT").replace("{env: CANARY", "{env: KEPT");
        let text = text.replace("CANARY", CANARY).replace("KEPT", "CANARY");
        for is_private in [false, true] {
            let reading = read(&Source { name: "f", text: &text, is_private, is_variable: false }, &outside);
            assert!(!reading.problems.is_empty(), "{line}");
            for problem in &reading.problems {
                assert!(!problem.to_string().contains("sk-canary"), "{line}\n{problem}");
                assert!(!format!("{problem:?}").contains("sk-canary"), "{line}\n{problem:?}");
            }
        }
    }
}

#[test]
fn the_plan_shows_no_key_in_debug() {
    let text = format!(
        "{OPENAI}clients: [{{name: a, key: {{env: POINTSMAN_KEY_LAPTOP}}}}]\nadmin: {{token: {{env: POINTSMAN_ADMIN_TOKEN}}}}\n"
    );
    let shown = format!("{:?}", plan(&text));
    for key in [CANARY, "laptop-key", "admin-token"] {
        assert!(!shown.contains(key));
    }
}

#[test]
fn fragments_are_one_configuration_and_faults_name_their_file() {
    let source = |name, text| Source { name, text, is_private: false, is_variable: false };
    let first =
        source("pointsman.yaml", "version: 1\nroutes: {a: {targets: [{provider: openai, model: m}]}}\n");
    let second = source("conf.d/openai.yaml", OPENAI);
    let third =
        source("conf.d/b.yaml", "version: 1\nroutes:\n  b: {targets: [{provider: opneai, model: m}]}\n");
    let outside = Stage::usual();
    assert!(read_all(&[first, second], &outside).plan.unwrap().route_names.contains_key("a"));
    let told = |sources: &[Source<'_>]| -> Vec<String> {
        let reading = read_all(sources, &outside);
        assert!(reading.plan.is_none());
        reading.problems.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told(&[first, second, third]),
        [
            "conf.d/b.yaml:3: routes.b.targets[0].provider: provider \"opneai\" is not defined (did you mean \"openai\"?)"
        ]
    );
    let twice = source("conf.d/c.yaml", "grace: 1s\nroutes: {a: {targets: []}}\n");
    let broken = source("conf.d/d.yaml", "a: [\n");
    assert_eq!(
        told(&[first, second, twice]),
        ["pointsman.yaml:2: routes.a.targets: is given again at conf.d/c.yaml:2; keep one of them"]
    );
    let (one, same) = (source("a.yaml", "default_route: a\n"), source("conf.d/e.yaml", "default_route: a\n"));
    assert_eq!(
        told(&[first, second, one, same]),
        ["a.yaml:1: default_route: is given again at conf.d/e.yaml:1; keep one of them"]
    );
    assert!(told(&[first, broken, second])[0].starts_with("conf.d/d.yaml:"));
}

#[test]
fn what_a_variable_says_counts_and_its_faults_are_its_own() {
    let file = |text| Source { name: "pointsman.yaml", text, is_private: false, is_variable: false };
    let variable = |name, text| Source { name, text, is_private: true, is_variable: true };
    let written = format!(
        "{OPENAI}version: 1
log: {{level: warn}}
grace: 1s
listen:
  - {{address: \"127.0.0.1:1\"}}
  - {{address: \"127.0.0.1:2\", h2c: true}}
routes: {{a: {{targets: [{{provider: openai, model: m}}]}}}}
"
    );
    let level = variable("POINTSMAN__LOG__LEVEL", "log: {level: \"debug\"}");
    let place = variable("POINTSMAN__LISTEN__1__ADDRESS", "listen: [~, {address: \"127.0.0.1:3\"}]");
    let breaker = variable("POINTSMAN__BREAKER__ENABLED", "breaker: {enabled: false}");
    let sources = [level, place, breaker, file(&written)];
    let plan = read_all(&sources, &Stage::usual()).plan.unwrap();
    let listens: Vec<_> = plan.listen.iter().map(|listen| (listen.address.port(), listen.h2c)).collect();
    assert_eq!(listens, [(1, false), (3, true)]);
    assert_eq!((plan.log.level, plan.grace), (Level::Debug, Duration::from_secs(1)));
    assert!(!plan.breaker.enabled);

    let told = |sources: &[Source<'_>]| -> Vec<String> {
        let reading = read_all(sources, &Stage::usual());
        assert!(reading.plan.is_none());
        reading.problems.iter().map(ToString::to_string).collect()
    };
    let loud = variable("POINTSMAN__LOG__LEVEL", "log: {level: \"loud\"}");
    let said = told(&[loud, file(&written)]);
    assert!(said[0].starts_with("POINTSMAN__LOG__LEVEL: log.level: "), "{said:?}");
    let unknown = variable("POINTSMAN__LOG__LEVLE", "log: {levle: \"debug\"}");
    let said = told(&[unknown, file(&written)]);
    assert!(said[0].starts_with("POINTSMAN__LOG__LEVLE: log.levle: "), "{said:?}");
    // In the place of all that the file says there.
    let flat = variable("POINTSMAN__LOG", "log: \"debug\"");
    let said = told(&[flat, file(&written)]);
    assert!(said[0].starts_with("POINTSMAN__LOG: log: "), "{said:?}");
    let third = variable("POINTSMAN__LISTEN__3__H2C", "listen: [~, ~, ~, {h2c: true}]");
    assert!(!told(&[third, file(&written)]).is_empty());
}

#[test]
fn a_fragment_that_cannot_be_read_hides_no_fault_of_the_others_and_invents_none() {
    let source = |name, text| Source { name, text, is_private: false, is_variable: false };
    // What the broken ones may say: providers, a tier, who may call, what a provider has.
    let main = source(
        "pointsman.yaml",
        "version: 1
listen: [{address: \"0.0.0.0:8080\"}]
default_route: b
grace: soon
clients: [{name: laptop}]
providers:
  half: {models: {m: {}}}
  bare: {kind: openai}
routes:
  a: {targets: [{provider: elsewhere, model: m}, {model: m}, {provider: bare}], fallback: [b]}
",
    );
    let broken = source("conf.d/a.yaml", "routes: [\n");
    let other = source("conf.d/b.yaml", "timeouts: {stal: 1s}\nlog: {level: loud}\n");
    let binary = source("conf.d/c.yaml", "a: &x 1\nb: *x\n");
    let reading = read_all(&[main, broken, other, binary], &Stage::usual());
    assert!(reading.plan.is_none());
    let told: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
    let begins = [
        "pointsman.yaml:4: grace: ",
        "pointsman.yaml:5: clients[0]: key is missing",
        "pointsman.yaml:10: routes.a.targets[1]: provider is missing",
        "conf.d/a.yaml:2: cannot be read as YAML",
        "conf.d/b.yaml:1: timeouts.stal: is not a known key",
        "conf.d/b.yaml:2: log.level: ",
        "conf.d/c.yaml:1: holds an anchor",
        "conf.d/c.yaml:2: holds an anchor",
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    for (line, begin) in told.iter().zip(begins) {
        assert!(line.starts_with(begin), "{begin}: {told:#?}");
    }
    // A literal fault of a file stays one without the others.
    let alone = read_all(&[main], &Stage::usual());
    assert!(alone.problems.len() > 6, "{:#?}", alone.problems);
}

mod shipped {
    //! The files under `conf/` and the schema say what the code says.

    use super::*;
    use serde_yaml::Value;
    use std::collections::{BTreeMap, BTreeSet};

    const WHOLE: &str = include_str!("../../conf/pointsman.yaml");
    const MINIMAL: &str = include_str!("../../conf/minimal.yaml");

    #[test]
    fn the_shipped_files_pass_without_a_word() {
        let mut outside = Stage::usual();
        outside.variables.insert("GROQ_API_KEY".to_owned(), "gsk_1234567890".to_owned());
        for text in [WHOLE, MINIMAL] {
            let reading =
                read(&Source { name: "conf", text, is_private: false, is_variable: false }, &outside);
            assert!(reading.plan.is_some() && reading.problems.is_empty(), "{:#?}", reading.problems);
        }
    }

    /// Every value of a tree under the path that `keys()` gives it.
    fn flatten(docs: &[KeyDoc], at: &str, value: &Value, into: &mut BTreeMap<String, Vec<Value>>) {
        into.entry(at.to_owned()).or_default().push(value.clone());
        let shape = docs.iter().find(|doc| doc.path == at).map(|doc| &doc.shape);
        match (value, shape) {
            (
                _,
                Some(
                    Shape::TextTable | Shape::JsonTable | Shape::Secret | Shape::Texts | Shape::Durations(..),
                ),
            ) => {}
            (Value::Mapping(entries), shape) => {
                for (key, value) in entries {
                    let key = if shape == Some(&Shape::Table) { "*" } else { key.as_str().unwrap() };
                    let below = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
                    flatten(docs, &below, value, into);
                }
            }
            (Value::Sequence(items), _) => {
                for item in items {
                    flatten(docs, &format!("{at}[]"), item, into);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn the_shipped_file_shows_every_key_with_its_default() {
        let docs = keys();
        let mut shown = BTreeMap::new();
        flatten(&docs, "", &serde_yaml::from_str(WHOLE).unwrap(), &mut shown);
        for doc in &docs {
            let below_null = |other: &KeyDoc| {
                other.shape == Shape::Section
                    && other.default == "null"
                    && doc.path.starts_with(&format!("{}.", other.path))
            };
            if docs.iter().any(below_null) {
                continue;
            }
            let values = shown.get(&doc.path).unwrap_or_else(|| panic!("{} is not in the file", doc.path));
            // A credential has a key or a login; an entry with neither is no example.
            let is_compared = !doc.is_required
                && !matches!(doc.shape, Shape::Section | Shape::List | Shape::Table)
                && doc.path != "providers.*.credentials[].key";
            if !is_compared {
                continue;
            }
            let default: Value = serde_yaml::from_str(&doc.default).unwrap();
            let same = |value: &Value| match (value, &doc.shape) {
                (Value::String(text), Shape::Duration(..)) => {
                    crate::base::units::parse_duration(text)
                        == crate::base::units::parse_duration(&doc.default)
                }
                (Value::Number(number), Shape::Number(..)) => number.as_f64() == default.as_f64(),
                _ => *value == default,
            };
            assert!(values.iter().any(same), "{}: {values:?} is not the default {}", doc.path, doc.default);
        }
    }

    /// Every path that a schema names.
    fn walk(at: &str, schema: &serde_json::Value, named: &mut BTreeSet<String>) {
        for inner in schema["anyOf"].as_array().into_iter().flatten() {
            walk(at, inner, named);
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let below = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            named.insert(below.clone());
            walk(&below, inner, named);
        }
        if schema["items"].is_object() {
            walk(&format!("{at}[]"), &schema["items"], named);
        }
        if schema["additionalProperties"].is_object() {
            walk(&format!("{at}.*"), &schema["additionalProperties"], named);
        }
    }

    #[test]
    fn the_schema_knows_exactly_the_keys() {
        let mut named = BTreeSet::new();
        let schema = schema();
        walk("", &schema, &mut named);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        // The keys of a secret's place are the schema's alone.
        let docs = keys();
        let secrets: Vec<&str> =
            docs.iter().filter(|d| d.shape == Shape::Secret).map(|d| d.path.as_str()).collect();
        named.retain(|path| !secrets.iter().any(|secret| path.starts_with(&format!("{secret}."))));
        let known: BTreeSet<String> = docs.iter().map(|doc| doc.path.clone()).collect();
        assert_eq!(named, known);
        for doc in &docs {
            assert!(!doc.help.is_empty() && !doc.help.ends_with('.'), "{}", doc.path);
        }
    }
}

mod properties {
    //! Whatever the text, reading answers: with a plan or with problems.

    use super::*;
    use proptest::prelude::*;

    fn answers(text: &str) {
        let reading =
            read(&Source { name: "f", text, is_private: true, is_variable: false }, &Stage::usual());
        let has_errors = reading.problems.iter().any(|problem| problem.severity == Severity::Error);
        assert_eq!(reading.plan.is_none(), has_errors, "{text}\n{:#?}", reading.problems);
        for problem in &reading.problems {
            assert!(!problem.to_string().contains(CANARY), "{text}\n{problem}");
        }
    }

    /// YAML that looks like a configuration: its words in any order and depth.
    fn tree() -> impl Strategy<Value = serde_yaml::Value> {
        let words = prop::sample::select(vec![
            "providers",
            "routes",
            "openai",
            "kind",
            "credentials",
            "key",
            "env",
            "file",
            "name",
            "targets",
            "provider",
            "model",
            "priority",
            "weight",
            "timeouts",
            "connect",
            "1s",
            "64KiB",
            "listen",
            "address",
            "127.0.0.1:0",
            "clients",
            "admin",
            "token",
            "OPENAI_API_KEY",
            CANARY,
            "retry",
            "backoff",
            "base",
            "breaker",
            "models",
            "headers",
            "fallback",
            "defaults",
            "*",
            "",
            "${X}",
            "https://h/v1",
            "base_url",
        ]);
        let leaf = prop_oneof![
            words.clone().prop_map(serde_yaml::Value::from),
            any::<i64>().prop_map(serde_yaml::Value::from),
            any::<f64>().prop_map(serde_yaml::Value::from),
            any::<bool>().prop_map(serde_yaml::Value::from),
            Just(serde_yaml::Value::Null),
        ];
        leaf.prop_recursive(6, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_yaml::Value::from),
                prop::collection::vec((words.clone(), inner), 0..6).prop_map(|pairs| {
                    let pairs = pairs.into_iter().map(|(key, value)| (serde_yaml::Value::from(key), value));
                    serde_yaml::Value::Mapping(pairs.collect())
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            answers(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_text_of_yaml_signs_is_answered(text in "[-a-c:?,&*!|>'\"%@`#{}\\[\\] \n\t~<0-9.]{0,120}") {
            answers(&text);
        }

        #[test]
        fn any_tree_of_our_words_is_answered(tree in tree()) {
            answers(&serde_yaml::to_string(&tree).unwrap());
        }

        #[test]
        fn the_sample_with_a_piece_cut_out_or_doubled_is_answered(
            from in 0..SAMPLE.len(), len in 0_usize..60, twice in any::<bool>()
        ) {
            let (Some(head), Some(tail)) = (SAMPLE.get(..from), SAMPLE.get(from + len..)) else { return Ok(()) };
            let piece = SAMPLE.get(from..from + len).unwrap_or("");
            let middle = if twice { piece.repeat(2) } else { String::new() };
            answers(&format!("{head}{middle}{tail}"));
        }
    }
}

mod logins {
    //! Credentials that are no plain key.

    use super::*;
    use crate::config::credential::{AwsSource, EntraProof, Google, Login};

    const ACCOUNT: &str = r#"{"client_email":"a@b","private_key":"-----BEGIN PRIVATE KEY-----x","token_uri":"https://oauth2.googleapis.com/token","private_key_id":"k"}"#;

    struct World(Stage);

    impl Outside for World {
        fn env(&self, name: &str) -> Option<String> {
            self.0.env(name)
        }

        fn secret(&self, what: &SecretRef) -> Result<Secret, SecretFault> {
            self.0.secret(what)
        }

        fn document(&self, what: &SecretRef) -> Result<Secret, SecretFault> {
            match what {
                SecretRef::File(path) if path.ends_with("account.json") => {
                    Ok(Secret::new(ACCOUNT.to_owned()))
                }
                SecretRef::File(path) if path.ends_with("missing") => Err(SecretFault::Missing),
                other => self.0.secret(other),
            }
        }
    }

    fn reading(base_url: &str, credential: &str, variables: &[(&str, &str)]) -> Reading {
        let text = format!(
            "providers: {{p: {{kind: openai, base_url: \"{base_url}\", credentials: [{credential}]}}}}\n\
             routes: {{r: {{targets: [{{provider: p, model: m}}]}}}}"
        );
        let mut all = vec![("OPENAI_API_KEY", CANARY)];
        all.extend(variables);
        read(
            &Source { name: "f", text: &text, is_private: false, is_variable: false },
            &World(Stage::with(&all)),
        )
    }

    fn login(base_url: &str, credential: &str, variables: &[(&str, &str)]) -> Login {
        let reading = reading(base_url, credential, variables);
        let plan = reading.plan.unwrap_or_else(|| panic!("{credential}: {:?}", reading.problems));
        assert!(plan.credentials[0].key.is_none());
        plan.credentials[0].login.clone().unwrap()
    }

    #[test]
    fn what_is_wrong_with_a_login_is_said_at_its_place() {
        for (credential, path, words) in [
            ("{name: a}", "", "key is missing"),
            (
                "{key: {env: OPENAI_API_KEY}, copilot: {token: {env: OPENAI_API_KEY}}}",
                "",
                "several ways (key, copilot)",
            ),
            ("{copilot: {}}", ".copilot", "token is missing"),
            ("{copilot: {token: {env: NOPE}}}", ".copilot.token", "environment variable NOPE is not set"),
            (
                "{copilot: {token: {env: OPENAI_API_KEY}, endpoint: \"http://box\"}}",
                ".copilot.endpoint",
                "unencrypted",
            ),
            ("{aws: {}}", ".aws", "has no keys"),
            (
                "{aws: {region: us-east-1, access_key_id: {env: OPENAI_API_KEY}}}",
                ".aws",
                "secret_access_key is missing",
            ),
            (
                "{aws: {region: us-east-1, from: auto, access_key_id: {env: OPENAI_API_KEY}}}",
                ".aws.from",
                "one or the other",
            ),
            ("{aws: {region: us-east-1, from: environment}}", ".aws.from", "AWS_ACCESS_KEY_ID is not set"),
            ("{aws: {region: us-east-1, from: shared}}", ".aws.from", "HOME"),
            ("{aws: {region: us-east-1, from: web_identity}}", ".aws.from", "AWS_ROLE_ARN"),
            ("{aws: {region: us-east-1, from: container}}", ".aws.from", "AWS_CONTAINER_CREDENTIALS"),
            (
                "{aws: {region: us-east-1, from: auto, endpoint: \"http://127.0.0.1:1\"}}",
                ".aws.endpoint",
                "goes with from: imds",
            ),
            ("{aws: {region: us-east-1, from: imds, endpoint: \"http://box\"}}", ".aws.from", "unencrypted"),
            ("{aws: {from: imds}}", ".aws.region", "is not known"),
            ("{aws: {region: US, from: imds}}", ".aws.region", "not a region"),
            ("{aws: {region: us-east-1, from: vault}}", ".aws.from", "is not one of environment, shared"),
            ("{azure_entra: {tenant: t, client_id: c}}", ".azure_entra", "has no proof"),
            (
                "{azure_entra: {tenant: \"a/b\", client_id: c, federated_token_file: /t}}",
                ".azure_entra.tenant",
                "A-Z a-z",
            ),
            ("{google: {}}", ".google", "has no proof"),
            ("{google: {metadata: true, service_account: {file: account.json}}}", ".google", "has both"),
            (
                "{google: {service_account: {file: missing}}}",
                ".google.service_account",
                "file missing does not exist",
            ),
            (
                "{google: {service_account: {file: other}}}",
                ".google.service_account",
                "file other is no key file",
            ),
            (
                "{google: {service_account: sk-literal}}",
                ".google.service_account",
                "must be the place of a key file",
            ),
            (
                "{oauth: {token_url: \"http://h/t\", client_id: c, refresh_token: {env: OPENAI_API_KEY}}}",
                ".oauth.token_url",
                "unencrypted",
            ),
            ("{oauth: {client_id: c}}", ".oauth", "token_url is missing"),
        ] {
            let reading = reading("https://h/v1", credential, &[]);
            let at = format!("providers.p.credentials[0]{path}");
            assert!(reading.plan.is_none(), "{credential}");
            let is_told = |p: &Problem| p.path == at && p.message.contains(words);
            assert!(reading.problems.iter().any(is_told), "{credential}: {:#?}", reading.problems);
            assert!(!format!("{:?}", reading.problems).contains(CANARY), "{credential}");
        }
    }

    #[test]
    fn keys_of_aws_are_looked_for_where_its_own_tools_do() {
        let lambda = [
            ("HOME", "/home/a"),
            ("AWS_ACCESS_KEY_ID", "AK"),
            ("AWS_SECRET_ACCESS_KEY", "SK"),
            ("AWS_ROLE_ARN", "arn:x"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x"),
            ("AWS_REGION", "eu-west-3"),
        ];
        let base = "https://bedrock-runtime.ap-south-1.amazonaws.com/openai/v1";
        let Login::Aws(aws) = login(base, "{aws: {from: auto}}", &lambda) else { panic!("not aws") };
        assert_eq!((&*aws.region, &*aws.service), ("ap-south-1", "bedrock"), "the address knows best");
        let kinds: Vec<&str> = aws
            .sources
            .iter()
            .map(|source| match source {
                AwsSource::Keys(_) => "keys",
                AwsSource::Shared { .. } => "shared",
                AwsSource::WebIdentity { sts, .. } => {
                    assert_eq!(sts.base.host, "sts.ap-south-1.amazonaws.com");
                    "web"
                }
                AwsSource::Container { url, .. } => {
                    assert_eq!((url.base.host.as_str(), url.path.as_str()), ("169.254.170.2", "/v2/x"));
                    "container"
                }
                AwsSource::Imds { .. } => "imds",
            })
            .collect();
        assert_eq!(kinds, ["keys", "shared", "web", "container", "imds"]);
        let disabled = [("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/h"), ("AWS_REGION", "eu-west-3")];
        let Login::Aws(aws) = login("https://h/v1", "{aws: {from: auto}}", &disabled) else {
            panic!("not aws")
        };
        assert_eq!((&*aws.region, aws.sources.len()), ("eu-west-3", 1));
    }

    #[test]
    fn the_other_logins_have_the_addresses_of_their_makers() {
        let key = "{env: OPENAI_API_KEY}";
        let of = |credential: &str| login("https://h/v1", credential, &[]);
        let Login::Entra(entra) =
            of(&format!("{{azure_entra: {{tenant: t, client_id: c, client_secret: {key}}}}}"))
        else {
            panic!("not entra")
        };
        assert_eq!(entra.token_url.base.host, "login.microsoftonline.com");
        assert_eq!(entra.token_url.path, "/t/oauth2/v2.0/token");
        assert!(matches!(entra.proof, EntraProof::Secret(_)) && entra.scope.ends_with("/.default"));
        let Login::Google(Google::ServiceAccount { token_url, key_id, scopes, .. }) =
            of("{google: {service_account: {file: /x/account.json}}}")
        else {
            panic!("not google")
        };
        assert_eq!((token_url.path.as_str(), key_id.as_deref()), ("/token", Some("k")));
        assert!(scopes.ends_with("cloud-platform"));
        let Login::Google(Google::Metadata { url, .. }) = of("{google: {metadata: true}}") else {
            panic!("not google")
        };
        assert_eq!(url.base.endpoint_name(), "http://169.254.169.254:80");
        let Login::Copilot(copilot) = of(&format!("{{copilot: {{token: {key}}}}}")) else {
            panic!("not copilot")
        };
        assert_eq!(copilot.endpoint.base.endpoint_name(), "https://api.github.com:443");
    }
}
