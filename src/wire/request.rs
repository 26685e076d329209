//! What is read of a request: the data that `parse` makes and `rewrite` uses.
//!
//! A [`Parsed`] holds places in the client's bytes, not copies of them; it is only good together
//! with the body that was parsed.

use std::ops::Range;

use smallvec::SmallVec;

use super::json::Scan;
use crate::base::api::Api;
use crate::catalog::Abilities;

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Also when the first attempt may have been processed.
    Safe,
    /// Only when the first attempt was provably not processed.
    UnprocessedOnly,
}

/// What was read of a request body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The call.
    pub api: Api,
    /// The model named; none when absent, null or empty.
    pub model: Option<String>,
    /// Where the value of `model` lies in the body, quotes included; none when absent.
    pub model_span: Option<Range<usize>>,
    /// Whether a streamed answer is asked for by the body (Gemini says it in the path).
    pub stream: bool,
    /// Whether it may be sent twice.
    pub replay: Replay,
    /// Whether earlier turns or instructions are only named here and kept at a provider
    /// (`previous_response_id`, `conversation`, `cachedContent`, `prompt` of Responses).
    pub names_state: bool,
    /// Whether reasoning is asked for, so that first content may take long.
    pub wants_reasoning: bool,
    /// Whether JSON output is asked for.
    pub wants_json: bool,
    /// Whether tools are offered.
    pub has_tools: bool,
    /// What the request needs of a model: its call, and images, tools and JSON where it has them.
    pub needs: Abilities,
    /// Bytes of text that the model is to read, images and files not counted.
    pub text_bytes: u64,
    /// Most tokens that are asked for.
    pub max_output: Option<u64>,
    /// How many choices are asked for, at least 1.
    pub n: u32,
    /// Where the closing brace of the object lies: new members go before it.
    pub close: usize,
    /// Whether the object has no members, so that a new one needs no comma.
    pub is_empty: bool,
    /// Where the top-level keys lie, quotes included; for [`Parsed::has`].
    pub keys: SmallVec<[KeySpan; 16]>,
}

/// Where a key lies in a body, quotes included. In half the room of a range: what was read of a request is kept
/// until its answer has ended, and no body is as long as four gigabytes (`limits.max_body`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpan {
    start: u32,
    end: u32,
}

impl KeySpan {
    /// Returns the place as a range.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        let at = |place: u32| usize::try_from(place).unwrap_or(usize::MAX);
        at(self.start)..at(self.end)
    }
}

impl From<Range<usize>> for KeySpan {
    fn from(range: Range<usize>) -> Self {
        let at = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        KeySpan { start: at(range.start), end: at(range.end) }
    }
}

/// Bytes of text that are taken for one token: English prose has four to five, code three, Chinese
/// three for two thirds of one.
const BYTES_PER_TOKEN: u64 = 4;

impl Parsed {
    /// Estimates how many tokens the request takes of a model's window, its answer included.
    #[must_use]
    pub fn tokens_estimate(&self) -> u64 {
        (self.text_bytes / BYTES_PER_TOKEN).saturating_add(self.max_output.unwrap_or(0))
    }

    /// Tells whether `body`, the one that was parsed, has a top-level member of this name.
    #[must_use]
    pub fn has(&self, body: &[u8], name: &str) -> bool {
        self.keys.iter().any(|key| {
            let quoted = body.get(key.range()).unwrap_or_default();
            let mut scan = Scan::new(quoted);
            scan.text().is_ok_and(|key| key.is_some_and(|key| key.bytes().as_ref() == name.as_bytes()))
        })
    }
}
