//! What a client was told of a stream that could be taken up, and what is kept back from it.
//!
//! Everything that goes downstream behind the head of such a stream passes here: what goes out is
//! kept as told, what waits (`rescue.hold`) is not. When the stream breaks, what waited is the *tail*.
//! Whoever takes the stream up is held against what was told alone, and with its first word, or its
//! first other word, the tail is forgotten. Where nobody gets that far the tail is shown before the
//! error event: it is what the provider said.

use crate::base::api::Dialect;
use crate::base::time::Tick;
use crate::clock::Clock;
use crate::wire::hold::Hold;
use crate::wire::transcript::{Bar, Transcript};
use bytes::Bytes;
use smallvec::SmallVec;
use std::time::Duration;

/// The telling of one stream.
pub(super) struct Telling {
    /// On the heap: a request that is not streamed, and the wait of any, should not carry the room.
    told: Box<Transcript>,
    hold: Option<Box<Hold>>,
    tail: Option<Bytes>,
}

impl Telling {
    /// Begins before the first byte; keeps text back for `span`, which may be zero.
    pub(super) fn new(dialect: Dialect, span: Duration) -> Self {
        let hold = (!span.is_zero()).then(|| Box::new(Hold::new(dialect, span)));
        Telling { told: Box::new(Transcript::new(dialect)), hold, tail: None }
    }

    /// Returns what the client was told.
    pub(super) fn told(&mut self) -> &mut Transcript {
        &mut self.told
    }

    /// Tells whether the stream cannot be gone on from, and why.
    pub(super) fn bar(&mut self) -> Option<Bar> {
        self.told.bar()
    }

    /// Takes whole events and returns what is to go out now.
    pub(super) fn pass(&mut self, events: Bytes, clock: &Clock) -> Option<Bytes> {
        let out = match &mut self.hold {
            None => Some(events),
            Some(hold) => hold.push(&events, clock.tick()),
        };
        self.keep(out)
    }

    /// The same for all that was held for the first content.
    pub(super) fn pass_all(&mut self, held: SmallVec<[Bytes; 4]>, clock: &Clock) -> SmallVec<[Bytes; 4]> {
        if self.hold.is_none() {
            held.iter().for_each(|events| self.told.keep(events));
            return held;
        }
        held.into_iter().filter_map(|events| self.pass(events, clock)).collect()
    }

    /// Tells when something that waits is due.
    pub(super) fn next_due(&self) -> Option<Tick> {
        self.hold.as_ref()?.next_due()
    }

    /// Returns what has waited long enough.
    pub(super) fn due(&mut self, now: Tick) -> Option<Bytes> {
        let out = self.hold.as_mut()?.due(now);
        self.keep(out)
    }

    /// Returns all that waits: the stream has ended well.
    pub(super) fn release(&mut self) -> Option<Bytes> {
        let out = self.hold.as_mut()?.release();
        self.keep(out)
    }

    /// Notes that the stream broke: what waits is its tail.
    pub(super) fn broke(&mut self) {
        if let Some(tail) = self.hold.as_mut().and_then(|hold| hold.release()) {
            self.tail = Some(tail);
        }
    }

    /// Notes that somebody else has gone on, or said something else.
    pub(super) fn forget(&mut self) {
        self.tail = None;
    }

    /// Returns the tail, to be shown where nobody went on, and the number that the next event gets
    /// where the dialect counts them and it is known; else 0.
    pub(super) fn last_words(&mut self) -> (Option<Bytes>, u64) {
        let tail = self.tail.take();
        let tail = self.keep(tail);
        let number = match self.told.bar() {
            None => self.told.place().next_number,
            // What went out behind a bar was not read.
            Some(_) => None,
        };
        (tail, number.unwrap_or(0))
    }

    fn keep(&mut self, out: Option<Bytes>) -> Option<Bytes> {
        if let Some(events) = &out {
            self.told.keep(events);
        }
        out
    }
}
