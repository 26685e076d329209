//! Why did it go there, and why not elsewhere?
//!
//! What the machine knows of each candidate once a request is over, for `why`: whom it passed over
//! and for what when it last chose, and why it asked nobody else. Nothing is noted on the way but a
//! resting target that stood before the chosen one, which is where the usual request has none.
//!
//! [`Exchange::preview`] is the first choice of a request that is not made, for `explain`: the loop
//! that [`Exchange::start`] goes through, with a look in the place of a claim.

use super::ending::Refusal;
use super::{Ending, Exchange, turn};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::health::{Resting, Units};

/// Why a candidate that was not asked was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Health did not allow it when the choice was made.
    Resting(Resting),
    /// The same model at the same provider was overloaded behind another key.
    Overloaded,
    /// Its provider had all the attempts of one request (`retry.provider_attempts`).
    Spent,
    /// The request was too long for a target, and this one's window is no larger.
    Smaller,
    /// It could not be reached. Only of a request that is passed through, whose attempts before the
    /// last leave no record.
    Failed(Outcome),
}

/// Why nobody else was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Halt {
    /// An answer came, or there was nothing to ask for.
    #[default]
    Answered,
    /// The fault lies with the request: anybody would say the same.
    RequestAtFault,
    /// The rules stop at this fault, or nobody was left.
    Final,
    /// The request may not be sent twice.
    NotReplayable,
    /// The client wanted one attempt (`x-pointsman-no-retry`).
    Single,
    /// All changes of target that one request may make were made (`retry.failovers`).
    Failovers,
    /// The time was up, or too short for another attempt.
    Deadline,
    /// The client left.
    ClientGone,
    /// Content had gone downstream and nobody could go on from it.
    Committed,
}

/// What became of a request and its candidates.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Why each candidate was passed over, by its place in the order; nothing for those that were
    /// asked or merely not reached.
    pub passed: Vec<Option<Passed>>,
    /// Whose answer, or part of one, the client got.
    pub chosen: Option<usize>,
    /// Why nobody else was asked.
    pub halt: Halt,
}

impl Exchange {
    /// Returns what became of the request, which has ended so.
    #[must_use]
    pub fn course(&self, ending: Ending) -> Course {
        let last = self.records.last();
        let chosen = match ending {
            Ending::Answered | Ending::Relay | Ending::BreakOff(_) => last,
            Ending::Refuse(_) => None,
            Ending::Abandoned => last.filter(|record| record.first_content.is_some()),
        };
        let passed = (0..self.candidates.len()).map(|at| self.passed_over(at)).collect();
        let chosen = chosen.map(|record| record.candidate);
        let halt = match ending {
            Ending::Answered => Halt::Answered,
            Ending::Abandoned => Halt::ClientGone,
            Ending::BreakOff(_) => Halt::Committed,
            Ending::Relay | Ending::Refuse(_) => self.halt,
        };
        Course { passed, chosen, halt }
    }

    /// Tells which candidate would be asked first, and claims nothing.
    ///
    /// # Errors
    /// What the client would be told where nobody could be asked.
    pub fn preview(&mut self, now: Tick) -> Result<usize, Refusal> {
        self.least = turn::least(self.rules.deadline.left(now)).max(self.rules.retry.least_time);
        match self.choose(None, now, Units::look, Units::look_at_last) {
            Some((at, ())) => Ok(at),
            None => Err(self.refusal(now)),
        }
    }

    /// Returns the course of a request that would first ask this candidate.
    #[must_use]
    pub fn foresee(&self, first: Option<usize>) -> Course {
        let passed = (0..self.candidates.len()).map(|at| self.passed_over(at)).collect();
        Course { passed, chosen: first, halt: Halt::Answered }
    }

    fn passed_over(&self, at: usize) -> Option<Passed> {
        let tally = &self.tallies[at];
        match tally.passed {
            _ if tally.attempts > 0 => None,
            _ if tally.is_excluded => Some(Passed::Overloaded),
            _ if self.is_spent(&self.candidates[at]) => Some(Passed::Spent),
            passed => passed,
        }
    }
}
