//! What is wrong with the file, all of it at once.
//!
//! The walk and the checks push faults here and go on; nothing stops at the first. More than
//! [`SHOWN_MAX`] are counted and not kept: a file of a million wrong lines must not become a
//! million messages.

use super::path::KeyPath;
use std::cell::{Cell, RefCell};

/// 200 faults fill several screens; whoever has more wrote the wrong file.
pub const SHOWN_MAX: usize = 200;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; `check --strict` refuses it.
    Warning,
}

/// One thing to mend, before it has a line.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub at: KeyPath,
    /// The line, where it is known already.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything found so far.
#[derive(Debug, Default)]
pub struct Faults {
    kept: RefCell<Vec<Fault>>,
    /// How many were not kept; only warnings, as long as there is one to drop for an error.
    dropped: Cell<usize>,
    is_partial: Cell<bool>,
}

impl Faults {
    /// Notes something that makes the file unusable.
    pub fn error(&self, at: &KeyPath, message: impl Into<String>) {
        self.push(Fault { severity: Severity::Error, at: at.clone(), line: None, message: message.into() });
    }

    /// Notes something that makes the file unusable because of what is not written elsewhere. Where a
    /// part could not be read nobody knows whether it is written there, and nothing is noted.
    pub fn lacking(&self, at: &KeyPath, message: impl Into<String>) {
        if !self.is_partial.get() {
            self.error(at, message);
        }
    }

    /// Says that a part of the configuration could not be read.
    pub fn set_partial(&self) {
        self.is_partial.set(true);
    }

    /// Notes something that the operator should look at.
    pub fn warning(&self, at: &KeyPath, message: impl Into<String>) {
        self.push(Fault { severity: Severity::Warning, at: at.clone(), line: None, message: message.into() });
    }

    /// Notes a fault as it is.
    pub fn push(&self, fault: Fault) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= SHOWN_MAX {
            self.dropped.set(self.dropped.get() + 1);
            let is_warning = |fault: &Fault| fault.severity == Severity::Warning;
            match kept.iter().rposition(is_warning) {
                // No number of warnings hides an error.
                Some(at) if !is_warning(&fault) => drop(kept.remove(at)),
                Some(_) | None => return,
            }
        }
        kept.push(fault);
    }

    /// Tells whether any error was noted.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.kept.borrow().iter().any(|fault| fault.severity == Severity::Error)
    }

    /// Returns the faults in the order in which they were found.
    #[must_use]
    pub fn into_vec(self) -> Vec<Fault> {
        let mut kept = self.kept.into_inner();
        if self.dropped.get() > 0 {
            let is_error = kept.iter().any(|fault| fault.severity == Severity::Error);
            kept.push(Fault {
                severity: if is_error { Severity::Error } else { Severity::Warning },
                at: KeyPath::root(),
                line: None,
                message: format!("{} more faults are not shown", self.dropped.get()),
            });
        }
        kept
    }
}
