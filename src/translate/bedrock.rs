//! Bedrock converse: not translated yet.
//!
//! The place is kept so that `mod.rs` need not change when it is: while [`IS_DONE`] is false,
//! every call that would come here is answered with `Untranslatable::Pair`.

use super::form::{Answer, Event, Request};
use super::loss::Losses;
use super::read::Object;
use super::{RequestContext, Untranslatable};

/// Whether the functions below do what they say.
pub(super) const IS_DONE: bool = false;

/// Writes a request.
pub(super) fn write_request(_request: &Request, _context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    (Vec::new(), Losses::default())
}

/// Reads an answer.
pub(super) fn read_answer(_body: Object<'_>) -> Result<Answer, Untranslatable> {
    Err(Untranslatable::NotJson)
}

/// Reads events.
#[derive(Debug, Default)]
pub(super) struct Reader {}

#[allow(clippy::unused_self, reason = "a reader that is done has a state")]
impl Reader {
    /// Reads one event.
    pub(super) fn event(&mut self, _name: &[u8], _data: &[u8], _seen: &mut Vec<Event>) {}

    /// Tells what was held until the stream's end.
    pub(super) fn finish(&mut self, _seen: &mut Vec<Event>) {}
}
