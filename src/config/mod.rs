//! What did the operator say, and is it sound?
//!
//! The way of a file: [`yaml`] text to tree (bounds, duplicate keys) → [`file`] tree to names and
//! places, by the cursor of [`walk`] → [`check`] names to indices, secrets fetched through
//! [`Outside`] → [`plan`], the one shape that the rest of the house sees. Every fault is found in
//! one go; when there are any, [`lines`] says where they stand.
//!
//! Each key is declared once, in [`file`]; [`schema`](schema()) and [`keys`] come from the same
//! declaration, and a test compares `conf/pointsman.yaml` with it. [`discover`] writes such a file
//! from the environment and sends it the same way.
//!
//! Nothing here opens a file or reads a variable itself: [`Outside`] is an argument. No message
//! ever holds a secret, nor any text that stands where one is expected.

mod check;
pub mod discover;
mod fault;
mod file;
mod keydoc;
mod lines;
mod path;
pub mod plan;
mod policies;
mod reference;
mod schema;
mod value;
mod walk;
mod yaml;

pub use fault::Severity;
pub use keydoc::{KeyDoc, Shape};
pub use reference::{Outside, SecretFault, SecretRef, is_variable_name, secret_of};
pub use schema::{keys, schema};

pub use yaml::TEXT_MAX;

use fault::Fault;
use plan::Plan;
use std::fmt;
use walk::Walk;

/// A file as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Whether only its owner can read it.
    pub is_private: bool,
}

/// What came of reading it.
#[derive(Debug)]
pub struct Reading {
    /// The plan; there is one exactly when no problem is an error.
    pub plan: Option<Plan>,
    /// Everything that is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Name of the file.
    pub source: String,
    /// Where it stands: `routes.chat.targets[0].provider`; empty for the file as a whole.
    pub path: String,
    /// The line, counted from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match self.severity {
            Severity::Error => f.write_str(": ")?,
            Severity::Warning => f.write_str(": warning: ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Reads a file and checks it.
#[must_use]
pub fn read(source: &Source<'_>, outside: &dyn Outside) -> Reading {
    let tree = match yaml::load(source.text) {
        Ok(tree) => tree,
        Err(faults) => return Reading { plan: None, problems: told(source, faults) },
    };
    let walk = Walk::reading();
    let file = walk.root(Some(&tree), |m| file::read_file(m, &walk.faults));
    let bench = check::Bench { faults: &walk.faults, outside, is_private: source.is_private };
    let plan = check::check(&bench, file);
    let plan = (!walk.faults.has_errors()).then_some(plan);
    Reading { plan, problems: told(source, walk.faults.into_vec()) }
}

/// Gives faults their lines and puts them in the order of the file.
fn told(source: &Source<'_>, faults: Vec<Fault>) -> Vec<Problem> {
    if faults.is_empty() {
        return Vec::new();
    }
    let survey = lines::survey(source.text);
    let mut problems: Vec<Problem> = faults
        .into_iter()
        .map(|fault| Problem {
            severity: fault.severity,
            source: source.name.to_owned(),
            line: fault.line.or_else(|| survey.line_of(&fault.at)),
            path: fault.at.as_str().to_owned(),
            message: fault.message,
        })
        .collect();
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    problems
}

#[cfg(test)]
mod tests;
