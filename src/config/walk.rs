//! The cursor that reads the file, and that describes it.
//!
//! Every key is declared once, by a call such as
//! `m.duration("connect", secs(2), ms(1)..=mins(5), "until a connection stands")`. The same call
//! does three things, depending on how the walk was started:
//!
//! * reading: it takes the value, checks type and range, and notes a fault with the key's path;
//!   a fault never stops the walk, the default stands in;
//! * describing: it records name, shape, default and help, from which come the JSON Schema, the
//!   list of keys and the test that compares `conf/pointsman.yaml` with the code;
//! * either way it marks the key as known, so that what is left over is an unknown key.
//!
//! This is why there is no derive: serde stops at the first fault, forgets where it was, and says
//! the value of what it could not read, which may be a key. Messages here never repeat a value,
//! except a short word where the operator needs it to find a typing mistake.

mod containers;
mod scalars;

use super::fault::Faults;
use super::keydoc::{KeyDoc, Shape};
use super::path::{KeyPath, did_you_mean, word_of};
use super::settings::Setting;
use super::value::{scalar_text, type_of};
use serde_yaml::{Mapping, Value};
use std::cell::RefCell;

/// What all cursors of one walk share.
#[derive(Debug, Default)]
pub struct Walk {
    /// Faults found so far.
    pub faults: Faults,
    docs: Option<RefCell<Vec<KeyDoc>>>,
    kept: RefCell<Vec<Setting>>,
    /// Whether what is not written is kept as well, with its default.
    keeps_all: bool,
}

impl Walk {
    /// Starts a walk that reads.
    #[must_use]
    pub fn reading() -> Self {
        Walk::default()
    }

    /// Starts a walk that reads and keeps every setting, also those that nobody wrote.
    #[must_use]
    pub fn showing() -> Self {
        Walk { keeps_all: true, ..Walk::default() }
    }

    /// Starts a walk that records what may be written.
    #[must_use]
    pub fn describing() -> Self {
        Walk { docs: Some(RefCell::default()), ..Walk::default() }
    }

    /// Takes the settings that were met, in the order in which they are declared.
    #[must_use]
    pub fn take_settings(&self) -> Vec<Setting> {
        self.kept.take()
    }

    /// Returns what was recorded.
    #[must_use]
    pub fn into_docs(self) -> Vec<KeyDoc> {
        self.docs.map(RefCell::into_inner).unwrap_or_default()
    }

    /// Walks from the root; `value` is absent when describing.
    pub fn root<R>(&self, value: Option<&Value>, read: impl FnOnce(&mut Map<'_, '_>) -> R) -> R {
        Map::enter(self, KeyPath::root(), value, read)
    }
}

/// A cursor at one mapping.
#[derive(Debug)]
pub struct Map<'w, 'v> {
    walk: &'w Walk,
    at: KeyPath,
    entries: Option<&'v Mapping>,
    /// Whether keys that are required are missed: not in a section that is absent, nor in one
    /// whose type is already a fault.
    is_demanding: bool,
    known: Vec<&'static str>,
}

impl<'w, 'v> Map<'w, 'v> {
    fn enter<R>(
        walk: &'w Walk,
        at: KeyPath,
        value: Option<&'v Value>,
        read: impl FnOnce(&mut Map<'w, 'v>) -> R,
    ) -> R {
        let (entries, is_demanding) = match value {
            None => (None, false),
            Some(Value::Null) => (None, true),
            Some(Value::Mapping(entries)) => (Some(entries), true),
            Some(other) => {
                walk.faults.error(&at, format!("must be a mapping of keys, not {}", type_of(other)));
                (None, false)
            }
        };
        let mut map = Map { walk, at, entries, is_demanding, known: Vec::new() };
        let result = read(&mut map);
        map.refuse_unknown();
        result
    }

    /// Returns where this mapping stands.
    #[must_use]
    pub fn at(&self) -> &KeyPath {
        &self.at
    }

    /// Tells whether the key is written here, with a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.and_then(|entries| entries.get(name)).is_some_and(|value| !value.is_null())
    }

    /// Notes an error at a key of this mapping.
    pub fn fault(&self, name: &str, message: impl Into<String>) {
        self.walk.faults.error(&self.at.key(name), message);
    }

    /// Notes an error at an entry of a list of this mapping.
    pub fn fault_at(&self, name: &str, index: usize, message: impl Into<String>) {
        self.walk.faults.error(&self.at.key(name).index(index), message);
    }

    fn is_describing(&self) -> bool {
        self.walk.docs.is_some()
    }

    /// Marks the key as known, records it when describing, returns its value when reading.
    fn declare(
        &mut self,
        name: &'static str,
        shape: Shape,
        default: String,
        help: &'static str,
        need: Need,
    ) -> Option<&'v Value> {
        self.known.push(name);
        if let Some(docs) = &self.walk.docs {
            docs.borrow_mut().push(KeyDoc {
                path: self.at.key(name).as_str().to_owned(),
                is_required: need == Need::Required,
                is_nullable: need == Need::Nullable,
                shape,
                default,
                help,
            });
            return None;
        }
        self.keep(name, &shape, &default);
        match self.entries.and_then(|entries| entries.get(name)) {
            Some(Value::Null) if need == Need::Nullable || shape.takes_nothing() => None,
            Some(Value::Null) => {
                self.fault(name, "is empty; give it a value or leave it out");
                None
            }
            None if need == Need::Required && self.is_demanding => {
                let message = format!("{name} is missing: {help}");
                if self.at.is_in_list() {
                    self.walk.faults.error(&self.at, message);
                } else {
                    self.walk.faults.lacking(&self.at, message);
                }
                None
            }
            other => other,
        }
    }

    /// Keeps a setting for pages and comparisons, without anything secret.
    fn keep(&self, name: &'static str, shape: &Shape, default: &str) {
        let written = self.entries.and_then(|entries| entries.get(name)).filter(|value| !value.is_null());
        if (written.is_some() || self.walk.keeps_all)
            && let Some(setting) = Setting::of(&self.at, name, shape, default, written)
        {
            self.walk.kept.borrow_mut().push(setting);
        }
    }

    fn refuse_unknown(&self) {
        let Some(entries) = self.entries else { return };
        for key in entries.keys() {
            let Value::String(key) = key else {
                // Under the key as it is written, which has a line.
                let at = scalar_text(key).map_or_else(|| self.at.clone(), |key| self.at.key(&key));
                self.walk.faults.error(&at, format!("is a key that is {}, not a word", type_of(key)));
                continue;
            };
            if !self.known.contains(&key.as_str()) {
                self.walk.faults.error(&self.at.key(key), self.why_unknown(key));
            }
        }
    }

    fn why_unknown(&self, key: &str) -> String {
        let word = word_of(key);
        if word.len() < key.len() && self.known.contains(&word) {
            return format!("needs a colon and a blank, as in {word}: VALUE");
        }
        let near = did_you_mean(word, self.known.iter().copied());
        let near = if near.is_empty() { format!("; known here: {}", self.known.join(", ")) } else { near };
        format!("is not a known key{near}")
    }
}

/// What absence means for a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The default stands in.
    Default,
    /// Nothing stands in; `null` says so.
    Nullable,
    /// It must be there.
    Required,
}
