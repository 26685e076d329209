//! A stream, held until its first content.
//!
//! What comes before it (comments, `ping`, `message_start`, a chunk with nothing but a role) says
//! only that a provider has begun; a fault behind it is still somebody else's answer. At most 64 KiB
//! are held.

use super::{Aim, Answer, End, Fault, Mark, Opening, Watch};
use crate::base::outcome::Outcome;
use crate::proxy::incoming::Incoming;
use crate::proxy::patience::Cut;
use crate::wire::StreamReader;
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
            let limit = self.first_limit();
            let read = match self.read(incoming, limit).await {
                Ok(read) => read,
                Err(Cut::Gone) => return Err(End::Gone),
                Err(Cut::Late(_)) if reader.is_complete() => Ok(None),
                Err(Cut::Late(outcome)) => {
                    return Err(End::Failed(Fault::after_head(outcome, answer.status)));
                }
            };
            let (mut pieces, mut mark) = taken(reader, read);
            if let Watch::Stage(stage) = &mut self.watch {
                pieces = stage.render(pieces, &mut mark, reader);
            }
            held_length += pieces.iter().map(Bytes::len).sum::<usize>();
            answer.held.extend(pieces);
            let is_whole = mark.has_ended && mark.fault.is_none() && reader.is_complete();
            if mark.content_began || held_length > HELD_STREAM || is_whole {
                answer.mark = mark;
                return Ok(());
            }
            if let Some(end) = self.aim.broken_off(&mark, reader, answer.status) {
                return Err(end);
            }
        }
    }
}

/// Puts what was read through the reader.
pub(super) fn taken(
    reader: &mut StreamReader,
    read: pingora::Result<Option<Bytes>>,
) -> (SmallVec<[Bytes; 2]>, Mark) {
    let is_clean_end = matches!(read, Ok(None));
    let has_ended = !matches!(read, Ok(Some(_)));
    let pushed = if let Ok(Some(chunk)) = read { reader.push(chunk) } else { reader.finish() };
    let mark = Mark {
        content_began: pushed.content_began,
        fault: pushed.fault,
        untold: None,
        has_ended,
        is_clean_end,
    };
    (pushed.release, mark)
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
