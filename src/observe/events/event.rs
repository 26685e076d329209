//! The closed list of what is told, and the names of its fields.
//!
//! Fields are an interface, as those of the log are: added to and never renamed. Texts are names of
//! the configuration, words of closed enums, ids of requests, or sentences of our own that name
//! things and never hold a secret.

use serde::Serialize;

/// Longest sentence in an event, in bytes.
const SENTENCE: usize = 300;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The process serves.
    Started {
        /// The program's version.
        version: &'static str,
        /// The generation in force.
        generation: u64,
    },
    /// The process was told to leave.
    Stopping {
        /// Requests that are still under way.
        under_way: u64,
    },
    /// A target, or the credential or endpoint behind it, is in another state.
    TargetState {
        /// The target's id.
        target: String,
        /// `target`, `credential` or `endpoint`.
        scope: &'static str,
        /// The state before.
        from: &'static str,
        /// The state now.
        to: &'static str,
        /// An outcome, or `operator`.
        reason: &'static str,
        /// Until when, in RFC 3339, where that is known.
        until: Option<String>,
        /// Who is asked instead, where somebody is.
        next: Option<String>,
    },
    /// A request went to another target after an attempt.
    Failover {
        /// The route; absent where the client named a provider's model.
        route: Option<String>,
        /// The target that failed.
        from: String,
        /// The target that was asked then.
        to: String,
        /// The outcome that caused it.
        reason: &'static str,
        /// A request that did so.
        request_id: String,
        /// Requests that did so since this was told last.
        requests: u64,
    },
    /// A stream broke after content had been delivered.
    Rescue {
        /// The route; absent where the client named a provider's model.
        route: Option<String>,
        /// `rescued`, `failed` or `not_possible`.
        result: &'static str,
        /// A request whose stream it was.
        request_id: String,
        /// Requests with this result since this was told last.
        requests: u64,
    },
    /// Another configuration is in force.
    Reload {
        /// Its generation.
        generation: u64,
        /// How many warnings there are about it.
        warnings: usize,
        /// What of it takes effect after a restart only.
        needs_restart: Vec<String>,
        /// What is another than before, in a line each; of many the first, and how many more.
        changes: Vec<String>,
        /// The generation whose configuration this is, where one was gone back to.
        restored: Option<u64>,
    },
    /// A configuration was refused; the one before stays.
    ReloadFailed {
        /// The generation that stays in force.
        generation: u64,
        /// How many faults there are.
        faults: usize,
        /// The first of them.
        fault: String,
    },
    /// An operator did something to a target.
    Operator {
        /// `drain`, `disable`, `ready`, `reset`, `pin`.
        verb: &'static str,
        /// The target.
        target: String,
        /// The routes that it was pinned to.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        routes: Vec<String>,
        /// Until when it is pinned, in RFC 3339.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<String>,
    },
    /// A credential has a new token or key.
    CredentialRefreshed {
        /// `provider/credential`.
        credential: String,
    },
    /// A credential's token or key could not be renewed.
    CredentialFailed {
        /// `provider/credential`.
        credential: String,
        /// Why, in a sentence.
        reason: String,
        /// Whether the old one still serves.
        has_old: bool,
    },
    /// The audit log cannot be written; what comes waits, and is dropped when too much does.
    AuditFailed {
        /// Why, in a sentence.
        reason: String,
    },
    /// The audit log is written again.
    AuditResumed {
        /// How many lines were dropped since the start.
        dropped: u64,
    },
}

/// What makes two events the same one, where they come in crowds.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Crowd {
    route: Option<String>,
    from: String,
    to: String,
    what: &'static str,
}

impl Event {
    /// Returns its kind in one word.
    #[must_use]
    pub fn as_label(&self) -> &'static str {
        match self {
            Event::Started { .. } => "started",
            Event::Stopping { .. } => "stopping",
            Event::TargetState { .. } => "target_state",
            Event::Failover { .. } => "failover",
            Event::Rescue { .. } => "rescue",
            Event::Reload { .. } => "reload",
            Event::ReloadFailed { .. } => "reload_failed",
            Event::Operator { .. } => "operator",
            Event::CredentialRefreshed { .. } => "credential_refreshed",
            Event::CredentialFailed { .. } => "credential_failed",
            Event::AuditFailed { .. } => "audit_failed",
            Event::AuditResumed { .. } => "audit_resumed",
        }
    }

    /// Makes the event of a refused configuration.
    #[must_use]
    pub fn reload_failed(generation: u64, faults: &[String]) -> Event {
        let fault = faults.first().map(|fault| sentence(fault)).unwrap_or_default();
        Event::ReloadFailed { generation, faults: faults.len(), fault }
    }

    /// Returns what it is counted by, where it comes in crowds.
    pub(super) fn crowd(&self) -> Option<Crowd> {
        match self {
            Event::Failover { route, from, to, reason, .. } => {
                Some(Crowd { route: route.clone(), from: from.clone(), to: to.clone(), what: reason })
            }
            Event::Rescue { route, result, .. } => {
                Some(Crowd { route: route.clone(), from: String::new(), to: String::new(), what: result })
            }
            Event::Started { .. }
            | Event::Stopping { .. }
            | Event::TargetState { .. }
            | Event::Reload { .. }
            | Event::ReloadFailed { .. }
            | Event::Operator { .. }
            | Event::CredentialRefreshed { .. }
            | Event::CredentialFailed { .. }
            | Event::AuditFailed { .. }
            | Event::AuditResumed { .. } => None,
        }
    }

    /// Sets for how many requests it stands.
    pub(super) fn stands_for(&mut self, count: u64) {
        if let Event::Failover { requests, .. } | Event::Rescue { requests, .. } = self {
            *requests = count;
        }
    }
}

/// Cuts a sentence that came from elsewhere in the program.
fn sentence(text: &str) -> String {
    let cut = (0..=SENTENCE.min(text.len())).rev().find_map(|end| text.get(..end));
    cut.unwrap_or_default().to_owned()
}
