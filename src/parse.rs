//! What does the body ask for, and may it be sent twice?
//!
//! [`body`] goes over a request once, without copying or building it: it checks that the whole is
//! JSON (a provider's 400 would cost a round trip and teach the client less), finds `model` and
//! `stream`, and notes what choosing, waiting and rewriting need. Everything else stays bytes.
//!
//! Refused, because readers of JSON disagree about them and we would judge another request than
//! the provider serves (threats C2, C8): a second top-level `model` or `stream` (also where one of
//! them is spelt with escapes), either of them in other letters (`Model`: servers in Go take it for
//! `model`, and the last one counts), a model that is not a string, longer than 256 bytes or with
//! control characters, nesting beyond 128 levels, a byte order mark, bytes that are not UTF-8,
//! more than 1,024 top-level members.
//!
//! What choosing needs: images, tools and JSON output, so that no target is asked that is known to
//! lack them, and how much text there is (bytes; images and files are not text), so that a prompt
//! that is much too long is not sent to a small window.
//!
//! A request is replay-safe when a provider that may already have worked on it changed nothing
//! but the bill: every call here but Responses with state (`store` not false, `background`,
//! `previous_response_id`, `conversation`); those may move on only when provably nothing was
//! processed (failure table, "replay-safe routes").

mod content;

use smallvec::SmallVec;

use crate::base::api::Api;
use crate::catalog::{Abilities, Ability};
use crate::wire::json::{Broken, DEPTH_MAX, Scan, Text};
pub use crate::wire::request::{Parsed, Replay};

/// Longest model name (threat C2).
pub const MODEL_MAX: usize = 256;

/// Most top-level members; no API has a tenth of them.
const MEMBERS_MAX: usize = 1024;

/// Why a body is refused; the words are for the client (400 `validation_failed`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFault {
    /// Broken JSON, or bytes that are not UTF-8.
    #[error("the request body is not valid JSON at byte {0}")]
    NotJson(usize),
    /// JSON, but no object.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// Nested too deep.
    #[error("the request body is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// Too many top-level members.
    #[error("the request body has more than {MEMBERS_MAX} top-level members")]
    TooManyMembers,
    /// `model` is a number, list or object.
    #[error("model must be a string")]
    ModelNotString,
    /// The model's name is too long.
    #[error("model is longer than {MODEL_MAX} bytes")]
    ModelTooLong,
    /// The model's name holds control characters.
    #[error("model holds control characters")]
    ModelNotPrintable,
    /// `stream` is neither a boolean nor null.
    #[error("stream must be true or false")]
    StreamNotBool,
    /// A member that decides where the request goes stands there twice.
    #[error("{0} is given twice")]
    Duplicate(&'static str),
    /// A member that some servers take for one that decides where the request goes.
    #[error("{0} must be written in lower case")]
    OtherLetters(&'static str),
}

impl From<Broken> for ParseFault {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Syntax(at) => ParseFault::NotJson(at),
            Broken::TooDeep(_) => ParseFault::TooDeep,
        }
    }
}

/// Notes about state at the provider.
#[derive(Default)]
struct State {
    store: Option<bool>,
    is_background: bool,
    /// Words that the provider keeps are put before these: nobody else has them, but nothing changes
    /// where the request comes twice.
    names_prompt: bool,
}

/// Reads a request body.
///
/// # Errors
/// When the body is refused; see [`ParseFault`].
pub fn body(api: Api, body: &[u8]) -> Result<Parsed, ParseFault> {
    if let Err(fault) = std::str::from_utf8(body) {
        return Err(ParseFault::NotJson(fault.valid_up_to()));
    }
    let mut scan = Scan::new(body);
    match scan.peek() {
        Some(b'{') => {}
        // Tells broken JSON from JSON that is something else.
        Some(_) => {
            scan.skip()?;
            scan.end()?;
            return Err(ParseFault::NotAnObject);
        }
        None => return Err(ParseFault::NotJson(scan.at())),
    }
    let mut parsed = Parsed {
        api,
        model: None,
        model_span: None,
        stream: false,
        replay: Replay::Safe,
        names_state: false,
        wants_reasoning: false,
        wants_json: false,
        has_tools: false,
        needs: Abilities::of(&[Ability::of_call(api)]),
        text_bytes: 0,
        max_output: None,
        n: 1,
        close: 0,
        is_empty: true,
        keys: SmallVec::new(),
    };
    let mut state = State::default();
    let mut has_stream = false;
    scan.members(|scan, key| {
        if parsed.keys.len() == MEMBERS_MAX {
            return Err(ParseFault::TooManyMembers);
        }
        parsed.keys.push(key.range().into());
        match key.bytes().as_ref() {
            b"model" => model(scan, &mut parsed)?,
            b"stream" => {
                if std::mem::replace(&mut has_stream, true) {
                    return Err(ParseFault::Duplicate("stream"));
                }
                parsed.stream = stream(scan)?;
            }
            other => {
                if let Some(meant) = in_other_letters(other) {
                    return Err(ParseFault::OtherLetters(meant));
                }
                member(other, scan, &mut parsed, &mut state)?;
            }
        }
        Ok(())
    })?;
    parsed.close = scan.at().saturating_sub(1);
    parsed.is_empty = parsed.keys.is_empty();
    scan.end()?;
    for (is_needed, ability) in [(parsed.has_tools, Ability::Tools), (parsed.wants_json, Ability::Json)] {
        if is_needed {
            parsed.needs = parsed.needs.with(ability);
        }
    }
    if api == Api::Responses && (state.store != Some(false) || state.is_background || parsed.names_state) {
        parsed.replay = Replay::UnprocessedOnly;
    }
    parsed.names_state |= state.names_prompt;
    Ok(parsed)
}

/// Tells what a key is to a reader that does not tell letters apart, as Go's: to it a long s is an s
/// (`encoding/json`, "preferring exact matches but also accepting case-insensitive matches").
fn in_other_letters(key: &[u8]) -> Option<&'static str> {
    let is_stream = || {
        let rest = key.strip_prefix("\u{17f}".as_bytes()).or_else(|| key.get(1..).filter(|_| is_s(key)));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(b"tream"))
    };
    match key.len() {
        5 if key.eq_ignore_ascii_case(b"model") => Some("model"),
        6 | 7 if is_stream() => Some("stream"),
        _ => None,
    }
}

fn is_s(key: &[u8]) -> bool {
    key.first().is_some_and(|first| first.eq_ignore_ascii_case(&b's'))
}

fn model(scan: &mut Scan<'_>, parsed: &mut Parsed) -> Result<(), ParseFault> {
    if parsed.model_span.is_some() {
        return Err(ParseFault::Duplicate("model"));
    }
    let first = scan.peek();
    let start = scan.at();
    let text = scan.text()?;
    parsed.model_span = Some(start..scan.at());
    match (first, text) {
        (Some(b'n'), _) => {}
        (_, None) => return Err(ParseFault::ModelNotString),
        (_, Some(text)) => {
            let name = text.text();
            if name.len() > MODEL_MAX {
                return Err(ParseFault::ModelTooLong);
            }
            if name.chars().any(char::is_control) {
                return Err(ParseFault::ModelNotPrintable);
            }
            parsed.model = (!name.is_empty()).then(|| name.into_owned());
        }
    }
    Ok(())
}

fn stream(scan: &mut Scan<'_>) -> Result<bool, ParseFault> {
    let first = scan.peek();
    match scan.flag()? {
        Some(flag) => Ok(flag),
        None if first == Some(b'n') => Ok(false),
        None => Err(ParseFault::StreamNotBool),
    }
}

/// Reads a member that only leaves a note.
fn member(key: &[u8], scan: &mut Scan<'_>, parsed: &mut Parsed, state: &mut State) -> Result<(), ParseFault> {
    match key {
        b"n" => {
            let n = scan.count()?.unwrap_or(1).clamp(1, u64::from(u32::MAX));
            parsed.n = u32::try_from(n).unwrap_or(u32::MAX);
        }
        b"prompt" if parsed.api == Api::Responses => state.names_prompt |= scan.says_something()?,
        b"messages" | b"input" | b"contents" | b"system" | b"instructions" | b"prompt" => {
            content::turns(scan, parsed)?;
        }
        b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
            parsed.max_output = parsed.max_output.max(scan.count()?);
        }
        b"tools" | b"functions" => {
            let from = scan.at();
            parsed.has_tools |= scan.says_something()?;
            parsed.text_bytes += (scan.at() - from) as u64;
        }
        b"reasoning_effort" => {
            parsed.wants_reasoning |= scan.text()?.is_some_and(|effort| !is_off(&effort));
        }
        b"enable_thinking" => parsed.wants_reasoning |= scan.flag()? == Some(true),
        b"reasoning" | b"thinking" => parsed.wants_reasoning |= wants_thoughts(scan)?,
        b"response_format" | b"text" | b"output_format" | b"output_config" => {
            parsed.wants_json |= wants_json(scan)?;
        }
        b"generationConfig" | b"generation_config" => generation_config(scan, parsed)?,
        // What only the models of one maker know, in Bedrock's call.
        b"additionalModelRequestFields" => {
            scan.members::<ParseFault>(|scan, key| match key.bytes().as_ref() {
                b"thinking" => {
                    parsed.wants_reasoning |= wants_thoughts(scan)?;
                    Ok(())
                }
                _ => scan.skip().map(drop).map_err(ParseFault::from),
            })?;
        }
        // Given twice, the less safe reading counts.
        b"store" => state.store = Some(scan.flag()? != Some(false) || state.store == Some(true)),
        b"background" => state.is_background |= scan.flag()? == Some(true),
        b"previous_response_id" | b"conversation" | b"cachedContent" | b"cached_content" => {
            parsed.names_state |= scan.says_something()?;
        }
        _ => {
            scan.skip()?;
        }
    }
    Ok(())
}

fn is_off(effort: &Text<'_>) -> bool {
    matches!(effort.bytes().as_ref(), b"none" | b"off" | b"disabled" | b"")
}

/// Reads `reasoning` or `thinking`: an object asks for thoughts unless a member switches them off.
fn wants_thoughts(scan: &mut Scan<'_>) -> Result<bool, ParseFault> {
    let mut is_on = true;
    if scan.peek() != Some(b'{') {
        return Ok(scan.flag()? == Some(true));
    }
    scan.members::<ParseFault>(|scan, key| {
        match key.bytes().as_ref() {
            b"type" | b"effort" => is_on &= scan.text()?.is_none_or(|word| !is_off(&word)),
            b"enabled" => is_on &= scan.flag()? != Some(false),
            b"max_tokens" | b"budget_tokens" | b"thinkingBudget" | b"thinking_budget" => {
                is_on &= scan.count()? != Some(0);
            }
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(is_on)
}

/// Reads `response_format` (`{type}`) or the objects that hold one as `format`.
fn wants_json(scan: &mut Scan<'_>) -> Result<bool, ParseFault> {
    let mut is_json = false;
    scan.members::<ParseFault>(|scan, key| {
        match key.bytes().as_ref() {
            b"type" => is_json |= is_json_type(scan)?,
            b"format" => {
                scan.members::<ParseFault>(|scan, key| {
                    if key.bytes().as_ref() == b"type" {
                        is_json |= is_json_type(scan)?;
                    } else {
                        scan.skip()?;
                    }
                    Ok(())
                })?;
            }
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(is_json)
}

fn is_json_type(scan: &mut Scan<'_>) -> Result<bool, ParseFault> {
    Ok(scan.text()?.is_some_and(|word| matches!(word.bytes().as_ref(), b"json_object" | b"json_schema")))
}

fn generation_config(scan: &mut Scan<'_>, parsed: &mut Parsed) -> Result<(), ParseFault> {
    scan.members::<ParseFault>(|scan, key| {
        match key.bytes().as_ref() {
            b"thinkingConfig" | b"thinking_config" => parsed.wants_reasoning |= wants_thoughts(scan)?,
            b"responseSchema" | b"responseJsonSchema" | b"response_schema" | b"response_json_schema" => {
                parsed.wants_json |= scan.says_something()?;
            }
            b"responseMimeType" | b"response_mime_type" => {
                let kind = scan.text()?;
                parsed.wants_json |= kind.is_some_and(|kind| kind.bytes().as_ref() == b"application/json");
            }
            b"candidateCount" | b"candidate_count" => {
                parsed.n = scan.count()?.and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1);
            }
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
