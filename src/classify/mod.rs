//! What does this failure mean?
//!
//! The same status means different things (429: slow down, or pay; 400: your fault, or a bad key),
//! and the same thing comes under different statuses, also as a 200. So the verdict is read in
//! this order, the first that says something counts:
//! 1. *Structured*: the provider's own error type, code and reason, in every shape they come in;
//! 2. *Pattern*: first the operator's own (`classifier.patterns`, in the order of the plan), then
//!    the built-in words of the error message (of the whole text where it is not JSON), a few of
//!    which overrule a code known to lie;
//! 3. wide types under which providers file everything, and the *status*.
//!
//! [`response`] judges a whole answer with a failing status or a 2xx that is none, [`inband`] an
//! error event or error object inside a 200 like its HTTP twin, [`transport`] what happened below
//! HTTP. A body is read as far as it was held, for what is cut tells no longer the provider's words
//! from those of the client that it repeats; of its messages 64 KiB are searched. Nothing here decides
//! what to do: `exchange` and `health` do.
//!
//! An operator's pattern is laid over the words and the message as the built-in ones are: what a
//! message quotes is left out, for it may be the client's. Only where an answer has no shape that
//! is known (a page, JSON of its own kind) is its whole text laid before it. Its statuses are held
//! against the status answered and the one the body says it stands for.
//!
//! Why a table of words: provider errors are prose that changes; one table that tests run over
//! recorded errors is easier to keep true than conditions spread over code.
//!
//! Source: recorded errors of some forty providers, their error documents, failure table rows 6-18.

use http::HeaderMap;

use crate::base::outcome::Outcome;
use crate::base::time::WallTime;
use crate::config::plan::Pattern;
use crate::wire::retry_hint::{self, RetryHint};
use std::time::Duration;

mod facts;
mod rules;
mod words;

use facts::Facts;
use rules::Spoken;

/// How long a provider is left alone that asked for calm: HTTP/2 has no word for how long (failure
/// table, row 20).
const CALM: Duration = Duration::from_secs(10);

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The meaning.
    pub outcome: Outcome,
    /// When the provider wants to be asked again; only where waiting can help (rate limits,
    /// overload, server faults), never read from an answer that says something else.
    pub retry: RetryHint,
    /// Whether the whole credential is concerned, not this model alone: always for quota and
    /// authentication, for a rate limit when the provider says so.
    pub account_wide: bool,
    /// What the verdict rests on.
    pub confidence: Confidence,
    /// The provider's own word for it, for logs and, with quota, for the client.
    pub provider_type: Option<ProviderType>,
}

/// What a verdict rests on, surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// A type, code or reason that the provider documents.
    Structured,
    /// Words of its message.
    Pattern,
    /// The status alone.
    Status,
}

/// A provider's error type or code: `[A-Za-z0-9_.-]{1,64}`, nothing else is kept. It is still the
/// provider's text: whoever shows it redacts configured secrets first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderType(Box<str>);

impl ProviderType {
    /// Keeps `text` if it is a plain word.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_plain);
        fits.then(|| ProviderType(text.into()))
    }

    /// Returns the word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What went wrong below or around HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportFault {
    /// Refused or unreachable.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// The name could not be resolved.
    Dns,
    /// The handshake or the certificate failed.
    Tls,
    /// Reset or end on a fresh connection before the head.
    ResetBeforeHead,
    /// The same on a reused connection: the provider closed it while idle.
    StaleConnection,
    /// HTTP/2: the stream was refused, or lay above a GOAWAY's last id; nothing was processed.
    NotProcessed,
    /// The same where the GOAWAY asks for calm (ENHANCE_YOUR_CALM).
    Calm,
    /// A head that is not HTTP, or too large.
    BadHead,
    /// A redirect, 101, or more than 8 interim answers.
    UnexpectedHead,
    /// Reset or end after the head and before the end of the body.
    Cut,
    /// No first content, or no whole answer, in time.
    FirstContentTimeout,
    /// Silence inside a stream.
    Stall,
    /// The request's deadline passed.
    Deadline,
    /// The client left.
    ClientGone,
}

/// Judges what happened below HTTP.
#[must_use]
pub fn transport(fault: TransportFault) -> Outcome {
    match fault {
        TransportFault::Connect | TransportFault::ConnectTimeout => Outcome::Connect,
        TransportFault::Dns => Outcome::Dns,
        TransportFault::Tls => Outcome::Tls,
        // Garbage in place of a head is treated as a reset (row 21): who sent it is unknown.
        TransportFault::ResetBeforeHead
        | TransportFault::StaleConnection
        | TransportFault::NotProcessed
        | TransportFault::Calm
        | TransportFault::BadHead => Outcome::Reset,
        TransportFault::UnexpectedHead => Outcome::BadBody,
        TransportFault::Cut => Outcome::Truncated,
        TransportFault::FirstContentTimeout => Outcome::TimeoutFirstContent,
        TransportFault::Stall => Outcome::TimeoutStall,
        TransportFault::Deadline => Outcome::TimeoutTotal,
        TransportFault::ClientGone => Outcome::ClientGone,
    }
}

/// Returns when a provider wants to be asked again that spoke below HTTP.
#[must_use]
pub fn transport_hint(fault: TransportFault) -> RetryHint {
    if fault == TransportFault::Calm { RetryHint::After(CALM) } else { RetryHint::None }
}

/// Judges an answer with a failing status, or a 2xx that is no answer. `patterns` are the
/// provider's in the plan; `now` is our clock, for dates in an answer that has no `Date`. A kind covers
/// dozens of providers, so that their words tell, not the kind.
#[must_use]
pub fn response(
    patterns: &[Pattern],
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: WallTime,
) -> Verdict {
    match status {
        // A status line that is no failure: the body may still say what went wrong.
        200..=299 => judge_inside_success(patterns, status, headers, body, now, Outcome::BadBody),
        // A redirect is never followed and its body never believed (threat P1).
        0..=199 | 300..=399 => Verdict {
            outcome: Outcome::BadBody,
            retry: RetryHint::None,
            account_wide: false,
            confidence: Confidence::Status,
            provider_type: None,
        },
        _ => {
            let facts = Facts::read(headers, body);
            let spoken = Spoken::new(|| retry_hint::spoken(body, now));
            let own = || own_pattern(patterns, status, &facts, body);
            let judged = rules::judge(Some(status), &facts, &spoken, own);
            let (outcome, confidence) = judged.unwrap_or_else(|| (by_status(status), Confidence::Status));
            verdict(outcome, confidence, &facts, headers, body, now)
        }
    }
}

/// Judges an error event of a stream, or an error object inside a 200, like its HTTP twin;
/// [`Outcome::InbandError`] where nothing fits. The shapes are told apart by themselves, for servers of
/// one dialect send errors of another.
#[must_use]
pub fn inband(patterns: &[Pattern], body: &[u8], now: WallTime) -> Verdict {
    judge_inside_success(patterns, 200, &HeaderMap::new(), body, now, Outcome::InbandError)
}

fn judge_inside_success(
    patterns: &[Pattern],
    answered: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: WallTime,
    otherwise: Outcome,
) -> Verdict {
    let facts = Facts::read(headers, body);
    // Many shapes carry the status their HTTP twin would have had.
    let status = facts.status();
    let spoken = Spoken::new(|| retry_hint::spoken(body, now));
    let own = || own_pattern(patterns, answered, &facts, body);
    let judged = rules::judge(status, &facts, &spoken, own);
    let by_twin = || status.map(|status| (by_status(status), Confidence::Status));
    let (outcome, confidence) = judged.or_else(by_twin).unwrap_or((otherwise, Confidence::Status));
    // `retry-after` stands on good answers too (Anthropic, Together): here only the body counts.
    verdict(outcome, confidence, &facts, &HeaderMap::new(), body, now)
}

/// Finds the first of the operator's patterns that fits.
fn own_pattern(patterns: &[Pattern], answered: u16, facts: &Facts, body: &[u8]) -> Option<Outcome> {
    if patterns.is_empty() {
        return None;
    }
    let text = facts.text(body);
    let twin = facts.status().unwrap_or(answered);
    patterns.iter().find(|pattern| pattern.fits(&[answered, twin], &text)).map(|pattern| pattern.outcome)
}

fn verdict(
    outcome: Outcome,
    confidence: Confidence,
    facts: &Facts,
    headers: &HeaderMap,
    body: &[u8],
    now: WallTime,
) -> Verdict {
    let retry = match outcome {
        Outcome::RateLimited | Outcome::Quota | Outcome::Overloaded => retry_hint::read(headers, body, now),
        Outcome::ServerError => retry_hint::read_without_resets(headers, body, now),
        Outcome::Ok
        | Outcome::Auth
        | Outcome::Permission
        | Outcome::Region
        | Outcome::ModelUnavailable
        | Outcome::TooLarge
        | Outcome::ClientError
        | Outcome::ContentFiltered
        | Outcome::ContextLength
        | Outcome::Connect
        | Outcome::Dns
        | Outcome::Tls
        | Outcome::TimeoutFirstContent
        | Outcome::TimeoutStall
        | Outcome::TimeoutTotal
        | Outcome::Reset
        | Outcome::Truncated
        | Outcome::BadBody
        | Outcome::InbandError
        | Outcome::ClientGone => RetryHint::None,
    };
    let account_wide = matches!(outcome, Outcome::Quota | Outcome::Auth)
        || (outcome == Outcome::RateLimited && rules::is_account_wide(facts, headers));
    Verdict { outcome, retry, account_wide, confidence, provider_type: facts.provider_type() }
}

/// Judges by the status alone.
fn by_status(status: u16) -> Outcome {
    match status {
        401 => Outcome::Auth,
        // 412 is Fireworks' word for a suspended account; nothing we send has preconditions.
        402 | 412 => Outcome::Quota,
        403 => Outcome::Permission,
        // The path is ours, so a method or path that is not there means: not served there.
        404 | 405 | 410 => Outcome::ModelUnavailable,
        // The provider gave up waiting (for itself, or a model behind it) or did not want to
        // begin: nothing is wrong with the request, so it counts and moves on as a 5xx does (408 and
        // 425 without a repeat). It is no timeout of ours, and its label must not say so. 424: a model behind it failed;
        // 499: it cancelled by itself.
        // From 600 on there are no statuses: RFC 9110 section 15 has them read as 5xx.
        408 | 424 | 425 | 499 | 500..=528 | 530.. => Outcome::ServerError,
        413 => Outcome::TooLarge,
        429 => Outcome::RateLimited,
        // Groq's flex tier has no capacity left.
        498 | 529 => Outcome::Overloaded,
        _ => Outcome::ClientError,
    }
}
