//! Which states and reasons may a candidate have?
//!
//! The one list of the words in `candidates[].state` and `candidates[].reason`, in attempts' `cause`
//! and `ended`. They are an interface: added to, never renamed. `docs/decisions.md` says the same to
//! operators, and a test compares.
//!
//! A candidate that was *tried* or *chosen* has an outcome for its reason, of the closed list of
//! metrics and log (`ok`, `rate_limited`, …), or `called_off` where another one's answer came first, or
//! there was no room for its own.
//! In an explanation, where nothing was tried, the chosen one is `usable`.

use super::{Decision, Fate, Seat};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::exchange::course::{Halt, Passed};
use crate::exchange::{Cause, Record};
use crate::health::Resting;

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was asked, and another answered or nobody did.
    Tried,
    /// The client got its answer, or it would be asked first.
    Chosen,
    /// It was passed over.
    Skipped,
    /// Nobody came to it.
    NotReached,
}

impl State {
    /// Returns the word for pages.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            State::Tried => "tried",
            State::Chosen => "chosen",
            State::Skipped => "skipped",
            State::NotReached => "not_reached",
        }
    }
}

/// Why a candidate was passed over or not reached: each word with what it means.
pub const REASONS: [(&str, &str); 30] = [
    ("usable", "explain only: it may be used now and would be asked first"),
    (
        "called_off",
        "it was asked beside another one, whose answer came first (hedging), or there was no room here to hold its answer",
    ),
    (
        "cooling",
        "it rests until a time, on the provider's word or our rule for the fault; `cause` says which",
    ),
    ("breaker_open", "its circuit breaker lets nothing through; `until` is when a probe is due"),
    (
        "breaker_half_open",
        "its breaker or its rest lets one request through to see, and that one is under way",
    ),
    ("drained", "an operator lets it finish what it has"),
    ("disabled", "an operator took it out"),
    ("no_chat", "its model cannot chat"),
    ("no_completions", "its model does no legacy completions"),
    ("no_embeddings", "its model makes no embeddings"),
    ("no_tools", "the request has tools and its model takes none"),
    ("no_vision", "the request has an image and its model takes none"),
    ("no_json", "the request wants JSON and its model promises none"),
    ("context_window", "the request is longer than its model's window"),
    (
        "translation_loss",
        "the route is `translation: strict` and its dialect cannot say all that was asked for, or earlier turns are kept at a provider and only named (`state`); `loses` lists what",
    ),
    ("untranslatable", "the request cannot be said in its dialect at all"),
    ("state_elsewhere", "the request goes on from earlier turns, which the first choice's provider keeps"),
    ("dialect", "it does not take this call, and nothing translates for it"),
    ("same_model_overloaded", "the provider said that this model is overloaded; another key does not help"),
    ("provider_attempts", "its provider had all the attempts of one request (`retry.provider_attempts`)"),
    ("window_not_larger", "the request was too long for a target before, and its window is no larger"),
    ("not_needed", "nobody came to it: one before it answered, or would be asked first"),
    ("request_at_fault", "the fault lies with the request: it would be told the same"),
    ("stopped", "the rule for the fault before it asks nobody else"),
    ("not_replayable", "the request may not be sent twice, and the one before may have worked on it"),
    ("single_attempt", "the client wanted one attempt (`x-pointsman-no-retry`)"),
    ("failovers_spent", "all changes of target of one request were made (`retry.failovers`)"),
    ("deadline", "the time of the request was up, or too short for another attempt"),
    ("stream_begun", "content had gone to the client, and nobody was to go on from it"),
    ("client_gone", "the client left before anybody came to it"),
];

/// A candidate's state with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: State,
    /// One word of [`REASONS`], or an outcome's.
    pub(super) reason: &'static str,
    /// The same in words.
    pub(super) detail: Option<String>,
    /// Until when it waits.
    pub(super) until: Option<Tick>,
    /// The fault that led here.
    pub(super) cause: Option<Outcome>,
}

impl Verdict {
    fn plain(state: State, reason: &'static str) -> Verdict {
        Verdict { state, reason, detail: None, until: None, cause: None }
    }

    fn skipped(reason: &'static str, detail: &str) -> Verdict {
        Verdict { detail: Some(detail.to_owned()), ..Verdict::plain(State::Skipped, reason) }
    }
}

/// Says what became of a candidate.
pub(super) fn verdict(decision: &Decision, seat: &Seat) -> Verdict {
    match seat.fate {
        Fate::Lined { at, passed } => lined(decision, at, passed),
        Fate::Shed(why) => Verdict::skipped(why.as_label(), &shed(why)),
        Fate::Unspoken => {
            Verdict::skipped("dialect", "does not take this call, and nothing translates for it")
        }
    }
}

fn lined(decision: &Decision, at: usize, passed: Option<Passed>) -> Verdict {
    let last = decision.records.iter().rev().find(|record| record.candidate == at);
    let is_chosen = decision.chosen == Some(at);
    let state = if is_chosen { State::Chosen } else { State::Tried };
    match (last, passed) {
        (Some(record), _) => Verdict::plain(state, outcome(record)),
        (None, _) if is_chosen => Verdict::plain(State::Chosen, "usable"),
        (None, Some(Passed::Resting(resting))) => rests(resting),
        (None, Some(Passed::Failed(outcome))) => Verdict::plain(State::Tried, outcome.as_label()),
        (None, Some(Passed::Overloaded)) => {
            Verdict::skipped("same_model_overloaded", "the provider said that this model is overloaded")
        }
        (None, Some(Passed::Spent)) => Verdict::skipped(
            "provider_attempts",
            "its provider had all the attempts of one request (retry.provider_attempts)",
        ),
        (None, Some(Passed::Smaller)) => {
            Verdict::skipped("window_not_larger", "its window is no larger than the one that was too small")
        }
        (None, None) => halt(decision.halt),
    }
}

fn rests(resting: Resting) -> Verdict {
    let (reason, detail) = match resting {
        Resting::Cooling { .. } => ("cooling", None),
        Resting::Open { .. } => ("breaker_open", None),
        Resting::Probing => ("breaker_half_open", Some("another request is finding out whether it works")),
        Resting::Drained => ("drained", Some("an operator drained it")),
        Resting::Disabled => ("disabled", Some("an operator disabled it")),
    };
    Verdict {
        detail: detail.map(str::to_owned),
        until: resting.until(),
        cause: resting.reason(),
        ..Verdict::plain(State::Skipped, reason)
    }
}

fn halt(halt: Halt) -> Verdict {
    let (reason, detail) = match halt {
        Halt::Answered => ("not_needed", None),
        Halt::RequestAtFault => ("request_at_fault", Some("the fault lies with the request")),
        Halt::Final => ("stopped", Some("the rule for the fault before it asks nobody else")),
        Halt::NotReplayable => ("not_replayable", Some("the request may not be sent twice")),
        Halt::Single => ("single_attempt", Some("the client wanted one attempt")),
        Halt::Failovers => ("failovers_spent", Some("all changes of target were made (retry.failovers)")),
        Halt::Deadline => ("deadline", Some("the time of the request was up, or too short for it")),
        Halt::ClientGone => ("client_gone", Some("the client left")),
        Halt::Committed => {
            ("stream_begun", Some("content had gone to the client and could not be gone on from"))
        }
    };
    Verdict { detail: detail.map(str::to_owned), ..Verdict::plain(State::NotReached, reason) }
}

/// The word of an attempt.
pub(super) fn outcome(record: &Record) -> &'static str {
    if record.is_called_off { "called_off" } else { record.outcome.as_label() }
}

/// How an attempt came about.
pub(super) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::First => "first",
        Cause::Repeat => "repeat",
        Cause::Resend => "resend",
        Cause::NewKey => "new_key",
        Cause::WithoutThinking => "without_thinking",
        Cause::Failover => "failover",
        Cause::Hedge => "hedge",
        Cause::Continue => "rescue_continue",
        Cause::Restart => "rescue_restart",
    }
}

/// Says in words why a target cannot serve a request.
#[must_use]
pub fn shed(why: crate::select::fit::Shed) -> String {
    use crate::select::fit::Shed;
    match why {
        Shed::Lacks(ability) => format!("cannot do {}", ability.as_label()),
        Shed::Window(window) => format!("has a window of {window} tokens"),
        Shed::Loses(losses) => format!("would lose {losses} in translation"),
        Shed::Untranslatable(why) => why.to_string(),
        Shed::Elsewhere => "does not have the earlier turns, which another provider keeps".to_owned(),
    }
}
