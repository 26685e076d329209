//! Why did a request go where it went?
//!
//! The last [`KEPT`] decisions, one a request whose body was read: every candidate in the order of
//! choice with what became of it, every attempt with its times, how it ended. No prompt, no
//! completion, no header and no key: there is no field that could hold one. The only text of a
//! client's is its request id and the model's name, both at most 256 bytes.
//!
//! | room | its part |
//! |---|---|
//! | here | the ring, and what a decision is made of |
//! | [`reason`] | the closed list of states and reasons, each with its meaning |
//! | `page` | a decision as JSON, and which of them were asked for |
//! | [`question`] | what may be asked of `explain`, and why it may not |
//!
//! **Cheap to write.** The end of a request moves what it has anyway into a [`Decision`] and puts
//! it into a slot of its own: one counter, one lock that nobody else wants, no formatting. Words
//! and dates are made when somebody asks. A decision holds ids and numbers and nothing of the plan:
//! a plan that was reloaded away is not kept alive by it.
//!
//! **Bounded.** Ten thousand, as operators of a busy edge look minutes back and not days; those are
//! in the log. At 300 to 600 bytes each that is 3 to 6 MB, taken as they come.

mod page;
pub mod question;
pub mod reason;

use crate::base::api::Dialect;
use crate::base::ids::TargetId;
use crate::base::outcome::ErrorCode;
use crate::base::time::{Now, Tick};
use crate::exchange::Record;
use crate::exchange::course::{Halt, Passed};
use crate::select::fit::Shed;
use crate::translate::Losses;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use page::{Filter, LIMIT_MAX, UnknownFilter};

/// Decisions that are kept.
pub const KEPT: usize = 10_000;

/// What was decided for one request, or would be.
#[derive(Debug)]
pub struct Decision {
    /// Id of the request; nothing in an explanation.
    pub id: Option<String>,
    /// When it ended, by both clocks: dates are reckoned from it.
    pub now: Now,
    /// What times are counted from: the end of the request's body.
    pub began: Tick,
    /// The generation of the configuration that it was decided by.
    pub generation: u64,
    /// The route's name; nothing for `provider/model` and where none was found.
    pub route: Option<Arc<str>>,
    /// The client's name, where clients are known by keys.
    pub client: Option<Arc<str>>,
    /// The client's dialect.
    pub dialect: Option<Dialect>,
    /// What the client named, at most 256 bytes.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub is_stream: bool,
    /// Every candidate, in the order of choice.
    pub seats: Vec<Seat>,
    /// Every attempt, in their order.
    pub records: Vec<Record>,
    /// What of them used tokens, as far as their providers said.
    pub spent: SmallVec<[Spent; 1]>,
    /// Whose answer the client got, or would be asked first: a candidate's place among those that
    /// were not left out.
    pub chosen: Option<usize>,
    /// Why nobody else was asked.
    pub halt: Halt,
    /// How it ended; nothing in an explanation.
    pub ended: Option<Ended>,
    /// Our own word to the client, where we gave one.
    pub code: Option<ErrorCode>,
    /// The status that the client got; in an explanation, the one that it would get at once.
    pub status: Option<u16>,
    /// How long it took.
    pub took: Duration,
}

/// The tokens of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Which attempt, by its place.
    pub record: u32,
    /// Of the prompt.
    pub input: Option<u32>,
    /// Of the answer.
    pub output: Option<u32>,
}

/// A target that was considered for a request.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its id.
    pub target: TargetId,
    /// Its priority; 1 is first.
    pub priority: u32,
    /// What became of it.
    pub fate: Fate,
    /// What the request lost on the way into its dialect; empty where it was not translated.
    pub loses: Losses,
}

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stood in the line.
    Lined {
        /// Its place among those that did: what [`Record::candidate`] means.
        at: usize,
        /// Why it was passed over, where it was.
        passed: Option<Passed>,
    },
    /// It cannot serve the request.
    Shed(Shed),
    /// It speaks another dialect and is not translated for.
    Unspoken,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A target's answer went to the client whole.
    Answered,
    /// A provider's own error went to the client.
    Relayed,
    /// We answered.
    Refused,
    /// The answer broke off after it had begun.
    BrokenOff,
    /// The client left.
    ClientGone,
}

impl Ended {
    /// Every end.
    pub const ALL: [Ended; 5] =
        [Ended::Answered, Ended::Relayed, Ended::Refused, Ended::BrokenOff, Ended::ClientGone];

    /// Returns the word for pages.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Ended::Answered => "answered",
            Ended::Relayed => "relayed",
            Ended::Refused => "refused",
            Ended::BrokenOff => "broken_off",
            Ended::ClientGone => "client_gone",
        }
    }
}

/// A decision with its number, so that a slow writer does not put an older one over a newer.
struct Entry {
    serial: u64,
    decision: Decision,
}

/// The last decisions.
pub struct Decisions {
    written: AtomicU64,
    slots: Box<[Mutex<Option<Arc<Entry>>>]>,
}

impl Default for Decisions {
    fn default() -> Self {
        Decisions::holding(KEPT)
    }
}

impl Decisions {
    /// Makes a ring of this many, at least one.
    #[must_use]
    pub fn holding(count: usize) -> Self {
        Decisions { written: AtomicU64::new(0), slots: (0..count.max(1)).map(|_| Mutex::new(None)).collect() }
    }

    /// Keeps a decision in the place of the oldest.
    pub fn keep(&self, decision: Decision) {
        let serial = self.written.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry { serial, decision });
        let Some(slot) = self.slot(serial) else { return };
        let before = {
            let mut held = slot.lock();
            if held.as_ref().is_some_and(|other| other.serial > serial) {
                Some(entry)
            } else {
                held.replace(entry)
            }
        };
        // Freed behind the lock.
        drop(before);
    }

    /// Returns how many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.written.load(Ordering::Relaxed)).unwrap_or(usize::MAX).min(self.slots.len())
    }

    /// Tells whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, serial: u64) -> Option<&Mutex<Option<Arc<Entry>>>> {
        let at = usize::try_from(serial % self.slots.len() as u64).ok()?;
        self.slots.get(at)
    }

    /// Goes from the newest to the oldest. Each is taken out from under its own lock.
    fn newest_first(&self) -> impl Iterator<Item = Arc<Entry>> + '_ {
        let written = self.written.load(Ordering::Relaxed);
        let oldest = written.saturating_sub(self.slots.len() as u64);
        (oldest..written).rev().filter_map(|serial| {
            // One that is being written is not there yet, one that was overwritten no more.
            self.slot(serial)?.lock().clone().filter(|entry| entry.serial == serial)
        })
    }
}

#[cfg(test)]
mod tests;
