//! What a file may say, as tables.

use super::plan::{HttpVersions, Jitter, Level, LogFormat, Plan, Prefer};
use super::*;
use crate::base::api::{Api, Kind};
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
    read(&Source { name: "pointsman.yaml", text, is_private: false }, &Stage::usual())
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
limits: {max_body: 32MiB, replay_memory: 256MiB, max_header: 64KiB, connections: 10000, in_flight: 2000}
log: {level: info, format: auto}              # auto: text on a terminal, JSON elsewhere
audit: {path: null}
state: {path: null}            # null: memory only
"#;

#[test]
fn the_sample_of_the_contract_passes_and_says_what_it_says() {
    let reading = reading(SAMPLE);
    let told: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "pointsman.yaml:27: warning: routes.internal-lite.targets: speak different dialects (openai: openai/gpt-4o-mini; \
          anthropic: anthropic/claude-haiku-4-5); until translation is built, a client is served only by those of its own"
        ]
    );
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
