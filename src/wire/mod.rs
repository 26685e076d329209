//! What do the bytes of each dialect mean?
//!
//! This room reads answers; it decides nothing. [`StreamReader`] follows one streamed answer and
//! says which bytes may go on, whether content has begun, whether the answer is complete and
//! whether a fault lies inside it. [`answer::read`] judges a whole JSON answer. [`retry_hint`]
//! reads every form in which providers say "come back later", [`rate_limit`] what is left. Below them lie [`cut`] and [`sse`]
//! (events) and [`json`] (members of a document), and one file a dialect that knows what an event means.
//!
//! Rules: bytes are passed on exactly as they came; a chunk of whole events is never copied. What
//! cannot be read is not a fault: an event that is not JSON passes (failure table, row 33), a
//! member of an unexpected type reads as absent. Lifecycle events (comments, `ping`,
//! `message_start`, `response.created`, role-only deltas, usage) are not content; text, reasoning,
//! tool calls, refusals and audio are.
//!
//! Source: the providers' recorded traffic, and the failure table's paragraph on the commit point.

pub mod answer;
pub mod cut;
pub mod hold;
pub mod items;
pub mod json;
pub mod listing;
pub mod rate_limit;
pub mod request;
pub mod retry_hint;
pub mod splice;
pub mod sse;
pub mod transcript;

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod ollama;
mod openai;
mod responses;
mod stream;
mod template;
mod usage;

pub use stream::{Pushed, StreamFault, StreamReader};
pub use usage::Usage;

/// What one event adds to what is known of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The last event holds content.
    content: bool,
    /// The last event reports a fault.
    fault: bool,
    /// The dialect's own end was seen: `[DONE]`, `message_stop`, `response.completed`.
    ended: bool,
    /// A choice was stopped by the provider's content filter.
    filtered: bool,
    /// One bit for each choice (or candidate) seen; all beyond 127 share the last bit.
    choices_seen: u128,
    /// One bit for each choice that has its finish reason.
    choices_finished: u128,
    /// Tokens as counted so far.
    usage: Usage,
    /// The number that the next event gets, where they are numbered.
    next_number: Option<u64>,
    /// Where the text of the last event lies, if nothing but the text of the next may differ.
    text: Option<template::Span>,
}

impl Progress {
    /// Notes the choice at `index`, and what its finish reason says where it has one.
    fn note_choice(&mut self, index: u64, finish_reason: Option<&json::Text<'_>>) {
        let bit = 1_u128 << index.min(127);
        self.choices_seen |= bit;
        if let Some(reason) = finish_reason.filter(|reason| !reason.is_empty()) {
            self.choices_finished |= bit;
            // GLM's word for an answer that its own servers broke off.
            self.fault |= reason.bytes().as_ref() == b"network_error";
            self.filtered |= matches!(
                reason.bytes().as_ref(),
                b"content_filter"
                    // GLM's.
                    | b"sensitive"
                    | b"refusal"
                    | b"SAFETY"
                    | b"PROHIBITED_CONTENT"
                    | b"BLOCKLIST"
                    | b"content_filtered"
                    | b"guardrail_intervened"
            );
        }
    }
}
