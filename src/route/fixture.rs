//! A small plan for tests: who serves what, in a few words.

use crate::base::api::{Api, Kind};
use crate::base::ids::{CredentialIdx, EndpointIdx, ProviderIdx, RouteIdx, TargetId, TargetIdx};
use crate::config::plan::{
    Admin, Backoff, BreakerPolicy, CooldownPolicy, Credential, Endpoint, Entry, Group, HttpVersions, Jitter,
    Level, Limits, LogFormat, LogPolicy, PermanentPatterns, Plan, PoolPolicy, Prefer, Proof, Provider,
    RescuePolicy, RetryPolicy, Route, Target, TimeoutOverrides, Timeouts, Traits, Translation,
};
use crate::config::usage::UsagePolicy;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A route: its name, whether it is implicit, and `(provider, model)` per target.
pub(crate) type RouteOf<'a> = (&'a str, bool, &'a [(&'a str, &'a str)]);

/// A plan with these providers (each with the one credential `main`) and these routes.
pub(crate) fn plan(providers: &[&str], routes: &[RouteOf<'_>]) -> Plan {
    let mut plan = empty();
    for (at, name) in (0u32..).zip(providers) {
        plan.providers.push(provider(name, at));
        plan.credentials.push(Credential {
            name: "main".into(),
            provider: ProviderIdx(at),
            key: None,
            file: None,
            login: None,
        });
        plan.endpoints.push(endpoint(name));
    }
    for (name, is_implicit, targets) in routes {
        let entries = targets.iter().map(|(provider, model)| entry(&mut plan, provider, model)).collect();
        plan.route_names.insert((*name).into(), RouteIdx(u32::try_from(plan.routes.len()).unwrap()));
        plan.routes.push(Route {
            name: (*name).into(),
            is_implicit: *is_implicit,
            groups: vec![Group { priority: 1, entries }],
            defaults: Vec::new(),
            timeouts: TimeoutOverrides::default(),
            no_rescue: false,
            hedge: None,
            tier: None,
            translation: Translation::Lossy,
        });
    }
    plan
}

fn entry(plan: &mut Plan, provider: &str, model: &str) -> Entry {
    let id = TargetId::new(provider, "main", model);
    let at = plan.targets.iter().position(|target| target.id == id).unwrap_or_else(|| {
        let at = u32::try_from(plan.providers.iter().position(|p| *p.name == *provider).unwrap()).unwrap();
        plan.targets.push(Target {
            id,
            provider: ProviderIdx(at),
            credential: CredentialIdx(at),
            endpoint: EndpointIdx(at),
            model: model.into(),
            traits: Traits::default(),
        });
        plan.targets.len() - 1
    });
    Entry::of(1, vec![TargetIdx(u32::try_from(at).unwrap())])
}

fn provider(name: &str, at: u32) -> Provider {
    Provider {
        name: name.into(),
        kind: Kind::OpenAi,
        word: "openai",
        endpoint: EndpointIdx(at),
        base_path: "/v1".into(),
        authority: format!("{name}.invalid").into(),
        credentials: vec![CredentialIdx(at)],
        headers: Vec::new(),
        header_secrets: Vec::new(),
        http: HttpVersions::Auto,
        spread_credentials: false,
        timeouts: timeouts(),
        models: BTreeMap::new(),
        serves: [Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses]
            .into_iter()
            .collect(),
        paths: Vec::new(),
        proof: Proof::AsKind,
        params: Vec::new(),
        stream_params: Vec::new(),
        patterns: Vec::new(),
    }
}

fn endpoint(name: &str) -> Endpoint {
    let host: Arc<str> = format!("{name}.invalid").into();
    Endpoint {
        name: format!("https://{host}:443").into(),
        host,
        port: 443,
        tls: true,
        ca: None,
        insecure_skip_verify: false,
        addresses: Vec::new(),
        deny_private_ips: None,
    }
}

fn timeouts() -> Timeouts {
    Timeouts {
        connect: SECOND,
        first_content: SECOND,
        first_content_reasoning: SECOND,
        stall: SECOND,
        stall_last: SECOND,
        response: SECOND,
        total: SECOND,
    }
}

fn empty() -> Plan {
    Plan {
        settings: [].into(),
        threads: 1,
        grace: SECOND,
        listen: Vec::new(),
        admin: Admin { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), token: None },
        clients: Vec::new(),
        providers: Vec::new(),
        left_out: Vec::new(),
        endpoints: Vec::new(),
        credentials: Vec::new(),
        targets: Vec::new(),
        routes: Vec::new(),
        route_names: HashMap::new(),
        default_route: None,
        implicit_routes: true,
        hedge: None,
        pool: PoolPolicy { warm: 1, warm_for: SECOND },
        translation: Translation::Lossy,
        retry: RetryPolicy {
            prefer: Prefer::EqualFirst,
            same_target: 1,
            wait_in_place: SECOND,
            backoff: Backoff { base: SECOND, multiplier: 2.0, max: SECOND, jitter: Jitter::None },
            failovers: 4,
            budget_ratio: 0.2,
            budget_min_per_second: 3,
            ..RetryPolicy::default()
        },
        breaker: BreakerPolicy {
            enabled: true,
            consecutive_failures: 5,
            failure_ratio: 0.5,
            min_requests: 20,
            window: SECOND,
            open: SECOND,
            open_max: SECOND,
            half_open_probes: 1,
            close_after: 2,
            ..BreakerPolicy::default()
        },
        permanent: PermanentPatterns::default(),
        cooldown: CooldownPolicy {
            default: SECOND,
            max: SECOND,
            quota: SECOND,
            quota_max: SECOND,
            auth: SECOND,
            auth_max: SECOND,
            ..CooldownPolicy::default()
        },
        rescue: RescuePolicy { enabled: true, hold: Duration::ZERO },
        limits: Limits {
            max_body: 1,
            replay_memory: 1,
            max_header: 1,
            connections: 1,
            connections_per_address: 1,
            wrong_keys_per_minute: 0,
            in_flight: 1,
        },
        log: LogPolicy { level: Level::Info, format: LogFormat::Json },
        audit: None,
        usage: UsagePolicy::default(),
        state: None,
    }
}
