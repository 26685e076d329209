//! What came of a scenario, and how it is judged.
//!
//! The public bar knows three sorts of checks: required, advisory and informational. *Ours* are
//! added: they never change the public verdict, and fail the run all the same.

use std::fmt::Write as _;
use std::time::Duration;

/// The public verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The ideal ending, and every check holds.
    Pass,
    /// The ideal ending, but an advisory check does not hold.
    Partial,
    /// A clean error in time.
    Safe,
    /// It hung, sold a part as the whole, or broke a required check.
    Fail,
}

/// How much a check weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Required,
    Advisory,
    Ours,
}

/// How a request ended for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All sixty words, once each, in order.
    Complete,
    /// Anything that a client can tell from an answer, with the reason.
    CleanError(String),
    /// A normal end with other words than the sixty.
    Truncated(String),
    /// No end in time.
    Hang,
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub id: String,
    pub verdict: Verdict,
    pub tries: String,
    pub gaps: String,
    pub ttft: Option<Duration>,
    pub total: Duration,
    pub why: Vec<String>,
    broken: Vec<Weight>,
}

impl Row {
    pub fn new(id: &str, total: Duration, ttft: Option<Duration>) -> Row {
        Row {
            id: id.to_owned(),
            verdict: Verdict::Pass,
            tries: String::new(),
            gaps: String::new(),
            ttft,
            total,
            why: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Notes a check; one that does not hold says why.
    pub fn check(&mut self, weight: Weight, holds: bool, why: impl Into<String>) {
        if !holds {
            self.broken.push(weight);
            let mark = match weight {
                Weight::Required => "required",
                Weight::Advisory => "advisory",
                Weight::Ours => "ours",
            };
            self.why.push(format!("{mark}: {}", why.into()));
        }
    }

    /// Judges by the ending and the checks so far.
    pub fn judge(&mut self, ending: &Ending, is_ideal: bool) {
        let has_broken = |weight| self.broken.contains(&weight);
        self.verdict = match ending {
            Ending::Hang | Ending::Truncated(_) => Verdict::Fail,
            Ending::Complete | Ending::CleanError(_) if has_broken(Weight::Required) => Verdict::Fail,
            Ending::Complete | Ending::CleanError(_) if is_ideal && has_broken(Weight::Advisory) => {
                Verdict::Partial
            }
            Ending::Complete | Ending::CleanError(_) if is_ideal => Verdict::Pass,
            // The one scenario whose ideal is an error was answered.
            Ending::Complete => Verdict::Partial,
            Ending::CleanError(_) => Verdict::Safe,
        };
        match ending {
            Ending::Complete => {}
            Ending::CleanError(why) => self.why.push(format!("error: {why}")),
            Ending::Truncated(text) => self.why.push(format!("sold as whole: {text}")),
            Ending::Hang => self.why.push("no end in time".to_owned()),
        }
    }

    /// Tells whether nothing at all is to be said against it.
    pub fn is_good(&self) -> bool {
        self.verdict == Verdict::Pass && self.broken.is_empty()
    }

    /// Returns the line of the table.
    pub fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Pass if !self.broken.is_empty() => "pass!",
            Verdict::Pass => "pass",
            Verdict::Partial => "partial",
            Verdict::Safe => "safe",
            Verdict::Fail => "fail",
        };
        let ttft = self.ttft.map_or_else(|| "-".to_owned(), |ttft| format!("{:.3}", ttft.as_secs_f64()));
        let mut line = format!(
            "{:<5} {verdict:<8} {:<9} {:<22} {ttft:>7} {:>7.3}",
            self.id,
            self.tries,
            self.gaps,
            self.total.as_secs_f64()
        );
        if !self.why.is_empty() {
            let _ = write!(line, "  {}", self.why.join("; "));
        }
        line
    }
}

/// The head of the table.
pub fn header() -> String {
    format!(
        "{:<5} {:<8} {:<9} {:<22} {:>7} {:>7}  why",
        "id", "verdict", "tries", "gaps s", "ttft s", "total s"
    )
}
