//! What did the operator say, and is it sound?
//!
//! The way of a file: [`yaml`] text to tree (bounds, duplicate keys) → [`file`] tree to names and
//! places, by the cursor of [`walk`] → [`check`] names to indices, secrets fetched through
//! [`Outside`] → [`plan`], the one shape that the rest of the house sees. Every fault is found in
//! one go; when there are any, [`lines`] says where they stand.
//!
//! Several files are one, key by key; what a variable says ([`overrides`]) comes before them.
//!
//! Each key is declared once, in [`file`]; [`schema`](schema()) and [`keys`] come from the same
//! declaration, and a test compares `conf/pointsman.yaml` with it. [`discover`] writes such a file
//! from the environment and sends it the same way.
//!
//! Nothing here opens a file or reads a variable itself: [`Outside`] is an argument. No message
//! ever holds a secret, nor any text that stands where one is expected.

pub mod changes;
mod check;
mod classifier;
pub mod credential;
pub mod discover;
mod fault;
mod file;
pub mod hedge;
mod keydoc;
pub mod ladder;
mod lines;
mod login;
pub mod overrides;
mod path;
pub mod permanent;
pub mod plan;
mod policies;
mod reference;
mod schema;
mod servers;
pub mod settings;
pub mod usage;
mod value;
mod walk;
mod yaml;

pub use check::url::BaseUrl;
pub use fault::Severity;
pub use keydoc::{KeyDoc, Shape};
pub use path::did_you_mean;
pub use reference::{Outside, PairFault, SecretFault, SecretRef, is_variable_name, secret_of};
pub use schema::{keys, schema};

pub use yaml::TEXT_MAX;

use fault::{Fault, Faults};
use lines::Survey;
use path::KeyPath;
use plan::Plan;
use serde_yaml::Value;
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
    /// Whether it is a variable ([`overrides`]): it stands before the files, and what it says counts.
    pub is_variable: bool,
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
    read_all(&[*source], outside)
}

/// Reads a file and its fragments (`conf.d/*.yaml`) as one configuration and checks it.
///
/// Mappings are joined key by key, in the order of the sources; a key that two of them give a value
/// is an error, also where the values are equal: whoever changes one of them would change nothing.
/// Only `version` may stand in each, as it is said of the file that it stands in. A literal secret
/// is taken only where every one of the files is private. What a variable says ([`overrides`]) the files
/// cannot say otherwise; those come first.
///
/// One that cannot be read as YAML does not hide the faults of the others, as far as they are faults
/// whatever it says.
#[must_use]
pub fn read_all(sources: &[Source<'_>], outside: &dyn Outside) -> Reading {
    read_rest(sources, Vec::new(), outside)
}

/// Reads as [`read_all`] what could be read of a configuration; `unread` says why the rest could not.
#[must_use]
pub fn read_rest(sources: &[Source<'_>], unread: Vec<Problem>, outside: &dyn Outside) -> Reading {
    let walk = Walk::reading();
    if !unread.is_empty() {
        walk.faults.set_partial();
    }
    let Joined { tree, is_whole, problems } = tree(sources, &walk.faults);
    let is_whole = is_whole && unread.is_empty();
    let file = walk.root(Some(&tree), |m| file::read_file(m, &walk.faults));
    let is_private = sources.iter().all(|source| source.is_private);
    let settings = walk.take_settings().into();
    let plan = check::check(&check::Bench { faults: &walk.faults, outside, is_private, settings }, file);
    let is_sound = !walk.faults.has_errors() && problems.is_empty() && is_whole;
    let mut problems: Vec<Problem> =
        problems.into_iter().chain(unread).chain(told(sources, walk.faults.into_vec())).collect();
    if !is_whole {
        // Many of them say that something is not there.
        problems.retain(|problem| problem.severity == Severity::Error);
    }
    in_order_of(sources, &mut problems);
    Reading { plan: is_sound.then_some(plan), problems }
}

/// What the sources hold, taken together.
struct Joined {
    tree: Value,
    /// Whether each of them could be read as YAML.
    is_whole: bool,
    /// Why some could not, and what in others had to be put aside to read the rest.
    problems: Vec<Problem>,
}

/// Joins the trees of all sources that can be read.
fn tree(sources: &[Source<'_>], faults: &Faults) -> Joined {
    let mut joined = Joined { tree: Value::Null, is_whole: true, problems: Vec::new() };
    let mut joint = Joint { settled: Vec::new(), faults };
    for source in sources {
        match yaml::load(source.text) {
            Ok(more) => {
                if source.is_variable {
                    joint.settled.push(last_of(&more.tree));
                }
                joint.join(&mut joined.tree, more.tree, source, &KeyPath::root());
                joined.problems.extend(told(&[*source], more.faults));
            }
            Err(found) => {
                faults.set_partial();
                joined.is_whole = false;
                let faults = Faults::default();
                for fault in found {
                    faults.push(fault);
                }
                joined.problems.extend(told(&[*source], faults.into_vec()));
            }
        }
    }
    joined
}

/// Puts problems into the order of the files that they stand in; within one they stay as they are.
fn in_order_of(sources: &[Source<'_>], problems: &mut [Problem]) {
    let place = |problem: &Problem| sources.iter().position(|source| source.name == problem.source);
    problems.sort_by_key(|problem| place(problem).unwrap_or(usize::MAX));
}

/// Returns the path of the one value that the source of a variable has.
fn last_of(tree: &Value) -> KeyPath {
    let mut at = KeyPath::root();
    let mut value = tree;
    loop {
        let below = match value {
            Value::Mapping(entries) => {
                entries.iter().next().map(|(key, value)| (at.key(key.as_str().unwrap_or("?")), value))
            }
            Value::Sequence(items) => {
                items.last().map(|value| (at.index(items.len().saturating_sub(1)), value))
            }
            _ => None,
        };
        let Some((deeper, within)) = below else { return at };
        (at, value) = (deeper, within);
    }
}

/// Puts trees into one another. Their depth is bounded by `yaml`.
struct Joint<'a> {
    /// What variables have said.
    settled: Vec<KeyPath>,
    faults: &'a Faults,
}

impl Joint<'_> {
    fn join(&self, into: &mut Value, more: Value, source: &Source<'_>, at: &KeyPath) {
        match (into, more) {
            _ if !source.is_variable && self.settled.contains(at) => {}
            (_, Value::Null) => {}
            (into @ Value::Null, more) => *into = more,
            (Value::Mapping(into), Value::Mapping(more)) => {
                for (key, value) in more {
                    let below = at.key(key.as_str().unwrap_or("?"));
                    self.join(into.entry(key).or_insert(Value::Null), value, source, &below);
                }
            }
            (Value::Sequence(into), Value::Sequence(more)) if self.settled.iter().any(|s| at.holds(s)) => {
                into.resize(into.len().max(more.len()), Value::Null);
                for (index, (into, value)) in into.iter_mut().zip(more).enumerate() {
                    self.join(into, value, source, &at.index(index));
                }
            }
            (into, more) if at.as_str() == "version" && *into == more => {}
            (_, _) => {
                // Rare enough to look for the line anew each time.
                let line = lines::survey(source.text).nearest(at).map_or(1, |(_, line)| line);
                self.faults.error(at, format!("is given again at {}:{line}; keep one of them", source.name));
            }
        }
    }
}

/// Gives faults their files and lines and puts them in the order in which they stand there.
fn told(sources: &[Source<'_>], faults: Vec<Fault>) -> Vec<Problem> {
    if faults.is_empty() {
        return Vec::new();
    }
    let surveys: Vec<Survey> = sources.iter().map(|source| lines::survey(source.text)).collect();
    let mut placed: Vec<(usize, Problem)> =
        faults.into_iter().map(|fault| place(sources, &surveys, fault)).collect();
    placed.sort_by_key(|(source, problem)| (*source, problem.line.unwrap_or(usize::MAX)));
    placed.into_iter().map(|(_, problem)| problem).collect()
}

/// Finds the file that holds a fault's path, or most of it; the first where none does.
fn place(sources: &[Source<'_>], surveys: &[Survey], fault: Fault) -> (usize, Problem) {
    let mut best: Option<(usize, usize, usize)> = None;
    for (index, survey) in surveys.iter().enumerate() {
        if let Some((length, line)) = survey.nearest(&fault.at)
            && best.is_none_or(|(longest, _, _)| length > longest)
        {
            best = Some((length, index, line));
        }
    }
    let index = best.map_or(0, |(_, index, _)| index);
    let source = sources.get(index);
    let line = fault.line.or(best.map(|(_, _, line)| line));
    let problem = Problem {
        severity: fault.severity,
        source: source.map_or("", |source| source.name).to_owned(),
        // A variable has one.
        line: line.filter(|_| source.is_some_and(|source| !source.is_variable)),
        path: fault.at.as_str().to_owned(),
        message: fault.message,
    };
    (index, problem)
}

#[cfg(test)]
mod tests;
