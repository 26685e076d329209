//! What a target looks like from outside, and what an operator may want of it.
//!
//! Names of fields and states are an interface: the command line, dashboards and people's scripts
//! read them. They are added to and never renamed.

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A target as `GET /v1/targets` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetView {
    /// `provider/credential/model`.
    pub id: String,
    /// Its provider.
    pub provider: String,
    /// Its credential, by name.
    pub credential: String,
    /// The provider's name for the model.
    pub model: String,
    /// `scheme://host:port`.
    pub endpoint: String,
    /// The routes that name it.
    pub routes: Vec<String>,
    /// Whether it may be used, in one word.
    pub state: TargetState,
    /// Why it is in that state; nothing while it is ready.
    pub reason: Option<String>,
    /// Until when, in RFC 3339; nothing where no time is known.
    pub until: Option<String>,
    /// The same as seconds from now.
    pub retry_in_s: Option<f64>,
    /// Its circuit breaker: `closed`, `half_open`, `open`.
    pub breaker: &'static str,
    /// Where an operator put it first.
    pub pinned: Vec<PinView>,
    /// Attempts under way.
    pub in_flight: u64,
    /// The last attempt that failed.
    pub last_error: Option<LastError>,
    /// Attempts since the start.
    pub counts: Counts,
}

/// A route on which a target is put first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PinView {
    /// The route.
    pub route: String,
    /// Until when, in RFC 3339; nothing where it is until somebody says otherwise.
    pub until: Option<String>,
}

/// How a target is to be put first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinWish {
    /// On which route; on every one that names it where absent.
    pub route: Option<String>,
    /// For how long; until somebody says otherwise where absent.
    pub span: Option<Duration>,
}

/// Whether a target may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// It may.
    Ready,
    /// It rests until a time, on the provider's word.
    Cooling,
    /// Its breaker lets nothing through.
    Open,
    /// Its breaker lets a probe through.
    HalfOpen,
    /// An operator lets it finish what it has.
    Drained,
    /// An operator took it out.
    Disabled,
    /// Its key was rejected.
    AuthFailed,
    /// Its account has used up its quota.
    QuotaSpent,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastError {
    /// The outcome's word.
    pub outcome: &'static str,
    /// The provider's status, where it answered.
    pub status: Option<u16>,
    /// When, in RFC 3339.
    pub at: String,
    /// What is wrong, where the outcome alone does not say what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Attempts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// All that ended.
    pub attempts: u64,
    /// Those that ended well.
    pub ok: u64,
    /// Those that failed.
    pub failed: u64,
    /// Mean time of those that ended well, in milliseconds.
    pub average_ms: f64,
}

/// What an operator may want of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// No new requests; those under way finish.
    Drain,
    /// No requests until it is made ready.
    Disable,
    /// Undoes drain, disable and pin.
    Ready,
    /// Forgets breaker and cooldown.
    Reset,
    /// Puts it first on its routes.
    Pin,
}

/// Why a verb was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActFault {
    /// There is no such target.
    #[error("there is no such target")]
    UnknownTarget,
    /// It cannot be done now: why not.
    #[error("{0}")]
    Refused(String),
}

impl Verb {
    /// Finds a verb by its word in a path.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Verb> {
        match word {
            "drain" => Some(Verb::Drain),
            "disable" => Some(Verb::Disable),
            "ready" => Some(Verb::Ready),
            "reset" => Some(Verb::Reset),
            "pin" => Some(Verb::Pin),
            _ => None,
        }
    }

    /// Returns its word.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Verb::Drain => "drain",
            Verb::Disable => "disable",
            Verb::Ready => "ready",
            Verb::Reset => "reset",
            Verb::Pin => "pin",
        }
    }
}

/// Targets as Switch shows them: one entry `<route>-<provider>`, several credentials summed. The
/// breaker shown is the most open-handed of them, because that one is used.
pub(super) fn providers_status(targets: &[TargetView]) -> Value {
    let mut groups: Vec<(String, Vec<&TargetView>)> = Vec::new();
    for target in targets {
        for route in &target.routes {
            let key = format!("{route}-{}", target.provider);
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, group)) => group.push(target),
                None => groups.push((key, vec![target])),
            }
        }
    }
    Value::Object(
        groups.into_iter().map(|(key, group)| (key, provider_status(&group))).collect::<Map<_, _>>(),
    )
}

#[allow(clippy::cast_precision_loss, reason = "exact below 2^53 requests")]
fn provider_status(group: &[&TargetView]) -> Value {
    let sum = |count: fn(&Counts) -> u64| group.iter().map(|target| count(&target.counts)).sum::<u64>();
    let (total, ok, failed) = (sum(|c| c.attempts), sum(|c| c.ok), sum(|c| c.failed));
    let spent_ms: f64 = group.iter().map(|target| target.counts.average_ms * target.counts.ok as f64).sum();
    let best = ["closed", "half_open", "open"].into_iter().find(|b| group.iter().any(|t| t.breaker == *b));
    let is_resting = group.iter().all(|target| target.until.is_some());
    json!({
        "state": best.unwrap_or("closed"),
        "metrics": {
            "totalRequests": total,
            "successfulRequests": ok,
            "failedRequests": failed,
            "averageResponseTime": if ok == 0 { 0.0 } else { spent_ms / ok as f64 },
            "errorRate": if total == 0 { 0.0 } else { 100.0 * failed as f64 / total as f64 },
        },
        "open_until": is_resting.then(|| group.iter().filter_map(|t| t.until.as_deref()).min()).flatten(),
        "last_error": group.iter().filter_map(|t| t.last_error.as_ref()).max_by(|a, b| a.at.cmp(&b.at)).map(|e| e.outcome),
    })
}
