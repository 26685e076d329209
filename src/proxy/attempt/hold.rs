//! A stream, held until its first content.
//!
//! What comes before it (comments, `ping`, `message_start`, a chunk with nothing but a role) says
//! only that a provider has begun; a fault behind it is still somebody else's answer. At most 64 KiB
//! are held. A stream that a content filter stops is held to its end where somebody else may answer
//! (`retry.on_content_filter`).

use super::stream::AFTER_COMPLETE;
use super::{Aim, Answer, End, Fault, Mark, Opening};
use crate::base::outcome::Outcome;
use crate::proxy::carried::Rendering;
use crate::proxy::incoming::Incoming;
use crate::proxy::patience::{Cut, Limit};
use crate::wire::{Pushed, StreamReader};
use bytes::Bytes;
use smallvec::SmallVec;

/// Longest opening of a stream that is held for its first content.
const HELD_STREAM: usize = 64 * 1024;

impl Opening<'_, '_> {
    /// Holds a stream until its first content.
    pub(super) async fn stream(
        &mut self,
        incoming: &mut Incoming<'_>,
        answer: &mut Answer,
        reader: &mut StreamReader,
    ) -> Result<(), End> {
        let mut held_length = 0;
        loop {
            let limit = self.opening_limit(reader);
            let read = match self.read(incoming, &limit).await {
                Ok(read) => read,
                Err(Cut::Gone) => return Err(End::Gone),
                Err(Cut::Late(_)) if reader.is_complete() => Ok(None),
                Err(Cut::Late(outcome)) => {
                    return Err(End::Failed(Fault::after_head(outcome, answer.status)));
                }
            };
            let (pieces, mark) = taken(reader, answer.rendering.as_deref_mut(), read);
            held_length += pieces.iter().map(Bytes::len).sum::<usize>();
            answer.held.extend(pieces);
            let is_whole = mark.has_ended && mark.fault.is_none() && reader.is_complete();
            // What a filter stopped is held to its end, as long as somebody else may answer better.
            let is_left = reader.was_filtered() && mark.untold.is_none() && self.leaves_filtered();
            if is_left && is_whole {
                answer.usage = reader.usage();
                let body = std::mem::take(&mut answer.held).concat().into();
                return Err(End::Failed(Fault::filtered(answer, body)));
            }
            if (reader.has_content() && !is_left) || held_length > HELD_STREAM || is_whole {
                answer.mark = mark;
                return Ok(());
            }
            if let Some(end) = self.aim.broken_off(&mark, reader, answer.status) {
                return Err(end);
            }
        }
    }

    /// How long the next piece of a stream that is held is waited for.
    fn opening_limit(&self, reader: &StreamReader) -> Limit {
        if reader.was_filtered() && reader.is_complete() && self.leaves_filtered() {
            return Limit::hard(self.aim.house.clock.tick().after(AFTER_COMPLETE), Outcome::TimeoutStall);
        }
        self.first_limit()
    }
}

/// Puts what was read through the reader, and into the client's dialect where that is another.
pub(super) fn taken(
    reader: &mut StreamReader,
    rendering: Option<&mut Rendering>,
    read: pingora::Result<Option<Bytes>>,
) -> (SmallVec<[Bytes; 2]>, Mark) {
    let is_clean_end = matches!(read, Ok(None));
    let has_ended = !matches!(read, Ok(Some(_)));
    let pushed = if let Ok(Some(chunk)) = read { reader.push(chunk) } else { reader.finish() };
    let Pushed { release, content_began: _, fault } = pushed;
    let mut mark = Mark { fault, untold: None, has_ended, is_clean_end };
    let Some(rendering) = rendering else { return (release, mark) };
    let is_last = has_ended && mark.fault.is_none() && reader.is_complete();
    let rendered = rendering.feed(&release, is_last);
    mark.untold = rendered.fault;
    (rendered.pieces, mark)
}

impl Aim<'_> {
    /// Tells how a stream broke off; nothing while it goes on, or where it has ended well.
    pub(super) fn broken_off(&self, mark: &Mark, reader: &StreamReader, status: u16) -> Option<End> {
        if let Some(fault) = &mark.fault {
            return Some(End::Failed(self.judge_inband(&fault.body, status)));
        }
        if let Some(outcome) = mark.untold {
            return Some(End::Failed(Fault::after_head(outcome, status)));
        }
        if !mark.has_ended || reader.is_complete() {
            return None;
        }
        let is_empty = mark.is_clean_end && !reader.has_event();
        let outcome = if is_empty { Outcome::BadBody } else { Outcome::Truncated };
        Some(End::Failed(Fault::after_head(outcome, status)))
    }
}
