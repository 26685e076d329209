//! What does an attempt at a target need?
//!
//! A [`Slot`] has it at hand, made once a generation so that no request pays for it: names as headers, path and
//! authority, what proves us, health in three scopes, counters, and the peer itself where its address is
//! literal. How the target stands is read here too, over all three scopes: a target is as bad as the worst
//! of itself, its credential and its endpoint.

use super::LiveProblem;
use super::book::Book;
use super::keyring::Keyring;
use super::tally::Tally;
use super::way::PeerTemplate;
use crate::base::api::{Api, Kind};
use crate::base::time::{Tick, WallTime};
use crate::catalog;
use crate::clock::Clock;
use crate::config::credential::Login;
use crate::config::plan::{HttpVersions, Plan, Target};
use crate::health::breaker::BreakerState;
use crate::health::{Operation, Policy, Unit, Units};
use crate::observe::meter::{LimitKind, TargetMeter};
use crate::pools::Way;
use crate::resolve::Addresses;
use crate::tokens::Purse;
use crate::wire::rate_limit::RateLimits;
use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use pingora::upstreams::peer::HttpPeer;
use std::sync::Arc;
use std::time::Duration;

/// A target with everything that an attempt needs.
pub struct Slot {
    /// The target.
    pub target: Target,
    /// Its provider's name.
    pub provider: Arc<str>,
    /// Its credential's name.
    pub credential: Arc<str>,
    /// The provider's name as a header.
    pub provider_header: HeaderValue,
    /// The model's name as a header, where it can be one.
    pub model_header: Option<HeaderValue>,
    /// What sort of server it is.
    pub kind: Kind,
    /// Path below which its API lies.
    pub base_path: Arc<str>,
    /// Paths that the file gives for calls.
    pub(super) paths: Vec<(Api, Arc<str>)>,
    /// For the Host header.
    pub authority: HeaderValue,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// Whether it may be a proxy of this sort, and so lead back to this one.
    pub may_lead_back: bool,
    /// What proves us; nothing yet where there is a purse and no token was asked for.
    pub keyring: Arc<Keyring>,
    /// Where tokens come from, if they are fetched.
    pub purse: Option<Arc<Purse>>,
    /// Extra headers of the provider.
    pub extra: Vec<(HeaderName, HeaderValue)>,
    /// Its health.
    pub health: Arc<Units>,
    /// Its counters for scrapes.
    pub meter: Arc<TargetMeter>,
    /// Its counters for pages.
    pub tally: Arc<Tally>,
    /// Its addresses.
    pub addresses: Arc<Addresses>,
    pub(super) peer: Option<Arc<HttpPeer>>,
    pub(super) template: PeerTemplate,
    pub(super) way: Way,
    /// Serial of the token that this slot was proved with.
    pub(super) serial: Option<u64>,
    /// This slot with the token in force.
    pub(super) proved: ArcSwapOption<Slot>,
}

impl Slot {
    /// Returns the path that the file gives for a call.
    #[must_use]
    pub fn path(&self, api: Api) -> Option<&str> {
        self.paths.iter().find(|(other, _)| *other == api).map(|(_, path)| &**path)
    }

    /// Shows what the provider says is left of its rate limits; `at` tells the time.
    pub fn limits_are(&self, left: RateLimits, at: impl FnOnce() -> WallTime) {
        for (kind, left) in [
            (LimitKind::Requests, left.requests),
            (LimitKind::Tokens, left.tokens),
            (LimitKind::InputTokens, left.input_tokens),
            (LimitKind::OutputTokens, left.output_tokens),
        ] {
            if let Some(left) = left {
                self.meter.ratelimit_remaining(kind, left);
            }
        }
        self.tally.limits_are(at(), left);
    }
}

/// How a target stands, over its three scopes.
pub struct Standing {
    /// Whether it may be used.
    pub is_usable: bool,
    /// The worst of its own, its credential's and its endpoint's breaker.
    pub breaker: BreakerState,
    /// Time until the last of its rests ends.
    pub cooling: Duration,
}

impl Slot {
    /// Reads how the target stands.
    #[must_use]
    pub fn state(&self, now: Tick, policy: &Policy) -> Standing {
        let units = [&self.health.target, &self.health.credential, &self.health.endpoint];
        let readings = units.map(|unit| unit.read(now, policy));
        let cooling = readings.iter().filter_map(|r| r.cooling_until).max();
        Standing {
            is_usable: self.health.look(now, policy).is_ok(),
            breaker: self.breaker(now, policy),
            cooling: cooling.map_or(Duration::ZERO, |until| until.left(now)),
        }
    }

    /// Reads the worst of the breakers of the target, its credential and its endpoint.
    #[must_use]
    pub fn breaker(&self, now: Tick, policy: &Policy) -> BreakerState {
        let own = self.health.target.breaker(now, &policy.breaker);
        let wider =
            [&self.health.credential, &self.health.endpoint].map(|unit| unit.breaker(now, &policy.breaker));
        wider.into_iter().fold(
            own,
            |worst, other| {
                if worst.as_gauge() >= other.as_gauge() { worst } else { other }
            },
        )
    }

    /// Sets what the operator wants of the target.
    pub fn operate(&self, operation: Operation) {
        self.health.target.operate(operation);
    }

    /// Forgets breaker and cooldown in all three scopes.
    pub fn reset(&self) {
        for unit in [&self.health.target, &self.health.credential, &self.health.endpoint] {
            unit.reset();
        }
    }
}

/// Makes the slot of a target.
///
/// # Errors
/// Where a key, a login or a certificate of it cannot be used.
pub(super) fn make(
    plan: &Plan,
    keyrings: &[Arc<Keyring>],
    target: Target,
    (unit, tally): (Arc<Unit>, Arc<Tally>),
    meter: &Arc<TargetMeter>,
    book: &mut Book,
    clock: Clock,
) -> Result<Slot, LiveProblem> {
    let provider = plan.provider(target.provider);
    let credential = &plan.credentials[target.credential.at()];
    let endpoint = &plan.endpoints[target.endpoint.at()];
    let unusable_key = || LiveProblem::Key {
        provider: Arc::clone(&provider.name),
        credential: Arc::clone(&credential.name),
    };
    let denies = endpoint.deny_private_ips;
    let purse = |login| book.purse(&provider.name, &credential.name, (login, denies), clock);
    let purse = credential.login.as_ref().map(purse).transpose()?;
    let (endpoint_unit, addresses) = book
        .endpoints
        .entry(Arc::clone(&endpoint.name))
        .and_modify(|(_, known)| {
            if !known.are_given(&endpoint.addresses) || known.reach() != endpoint.reach() {
                *known = Arc::new(Addresses::of(endpoint));
            }
        })
        .or_insert_with(|| (Arc::default(), Arc::new(Addresses::of(endpoint))))
        .clone();
    let credential_unit = book.credential(&provider.name, &credential.name);
    let template = PeerTemplate {
        host: Arc::clone(&endpoint.host),
        is_tls: endpoint.tls,
        // Copilot's servers do not take HTTP/2 from editors (requirements B14).
        versions: match &credential.login {
            Some(Login::Copilot(_)) => HttpVersions::One,
            Some(Login::Aws(_) | Login::Entra(_) | Login::Google(_) | Login::OAuth(_)) | None => {
                provider.http
            }
        },
        connect: provider.timeouts.connect,
        verify: !endpoint.insecure_skip_verify,
        trust: book.trusts.of(endpoint)?,
    };
    Ok(Slot {
        provider: Arc::clone(&provider.name),
        credential: Arc::clone(&credential.name),
        provider_header: HeaderValue::from_str(&provider.name).map_err(|_| unusable_key())?,
        model_header: HeaderValue::from_str(&target.model).ok(),
        kind: provider.kind,
        base_path: Arc::clone(&provider.base_path),
        paths: provider.paths.clone(),
        authority: HeaderValue::from_str(&provider.authority).map_err(|_| unusable_key())?,
        is_tls: endpoint.tls,
        may_lead_back: matches!(provider.kind, Kind::OpenAi | Kind::Anthropic | Kind::Gemini)
            && !is_catalogued(&endpoint.host),
        keyring: Arc::clone(&keyrings[target.credential.at()]),
        purse,
        extra: provider.headers.clone(),
        health: Arc::new(Units {
            target: unit,
            credential: credential_unit,
            endpoint: endpoint_unit,
            siblings: Arc::from([]),
        }),
        meter: Arc::clone(meter),
        tally,
        peer: addresses.literal().map(|address| Arc::new(template.at(address))),
        way: template.way(&addresses),
        addresses,
        template,
        serial: None,
        proved: ArcSwapOption::empty(),
        target,
    })
}

/// Tells whether a host is that of a provider of the catalogue.
fn is_catalogued(host: &str) -> bool {
    let is_at = |url: &&str| url.split('/').nth(2).is_some_and(|authority| authority == host);
    catalog::entries().any(|entry| entry.urls.iter().any(&is_at))
}
