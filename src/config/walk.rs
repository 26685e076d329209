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

use super::fault::Faults;
use super::keydoc::{KeyDoc, Shape};
use super::path::{KeyPath, did_you_mean, shown, word_of};
use super::settings::Setting;
use super::value::{json_of, read_text, scalar_text, type_of};
use crate::base::units::{format_duration, format_size, parse_duration, parse_size};
use serde_yaml::{Mapping, Value};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Most entries of one list or table.
const ENTRIES_MAX: usize = 10_000;

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

    /// Reads a span of time.
    pub fn duration(
        &mut self,
        name: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
        help: &'static str,
    ) -> Duration {
        let shape = Shape::Duration(*range.start(), *range.end());
        let value = self.declare(name, shape, format_duration(default), help, Need::Default);
        value.and_then(|value| self.read_duration(name, value, &range)).unwrap_or(default)
    }

    /// Reads a span of time that has no default of its own.
    pub fn maybe_duration(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
        help: &'static str,
    ) -> Option<Duration> {
        let shape = Shape::Duration(*range.start(), *range.end());
        let value = self.declare(name, shape, "null".to_owned(), help, Need::Nullable);
        value.and_then(|value| self.read_duration(name, value, &range))
    }

    /// Reads a list of at most `count` spans of time; empty where it is absent.
    pub fn durations(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
        count: usize,
        help: &'static str,
    ) -> Vec<Duration> {
        let shape = Shape::Durations(*range.start(), *range.end(), count);
        let value = self.declare(name, shape, "[]".to_owned(), help, Need::Default);
        let items = value.and_then(|value| self.items(name, value)).unwrap_or_default();
        if items.len() > count {
            self.fault(name, format!("has more than {count} entries"));
            return Vec::new();
        }
        let read = |(index, item): (usize, &Value)| {
            self.read_duration_at(&self.at.key(name).index(index), item, &range)
        };
        items.iter().enumerate().filter_map(read).collect()
    }

    /// Reads a number of bytes.
    pub fn size(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> u64 {
        let shape = Shape::Size(*range.start(), *range.end());
        let Some(value) = self.declare(name, shape, format_size(default), help, Need::Default) else {
            return default;
        };
        let bytes = match scalar_text(value).map(|text| parse_size(&text)) {
            Some(Ok(bytes)) => bytes,
            Some(Err(why)) => {
                self.fault(name, why);
                return default;
            }
            None => {
                self.fault(name, format!("must be a size such as 32MiB, not {}", type_of(value)));
                return default;
            }
        };
        if range.contains(&bytes) {
            return bytes;
        }
        let (least, most) = (format_size(*range.start()), format_size(*range.end()));
        self.fault(name, format!("must be between {least} and {most}"));
        default
    }

    /// Reads a whole number.
    pub fn integer(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> u64 {
        let shape = Shape::Integer(*range.start(), *range.end());
        let value = self.declare(name, shape, default.to_string(), help, Need::Default);
        value.and_then(|value| self.read_integer(name, value, &range)).unwrap_or(default)
    }

    /// Reads a whole number of at most `u32::MAX`.
    pub fn small(
        &mut self,
        name: &'static str,
        default: u32,
        range: RangeInclusive<u32>,
        help: &'static str,
    ) -> u32 {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        u32::try_from(self.integer(name, u64::from(default), wide, help)).unwrap_or(default)
    }

    /// Reads a whole number that has no default of its own.
    pub fn maybe_integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> Option<u64> {
        let shape = Shape::Integer(*range.start(), *range.end());
        let value = self.declare(name, shape, "null".to_owned(), help, Need::Nullable);
        value.and_then(|value| self.read_integer(name, value, &range))
    }

    /// Reads a finite number.
    pub fn number(
        &mut self,
        name: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
        help: &'static str,
    ) -> f64 {
        let shape = Shape::Number(*range.start(), *range.end());
        let value = self.declare(name, shape, default.to_string(), help, Need::Default);
        value.and_then(|value| self.read_number(name, value, &range)).unwrap_or(default)
    }

    /// Reads a finite number that has no default of its own.
    pub fn maybe_number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f64>,
        help: &'static str,
    ) -> Option<f64> {
        let shape = Shape::Number(*range.start(), *range.end());
        let value = self.declare(name, shape, "null".to_owned(), help, Need::Nullable);
        value.and_then(|value| self.read_number(name, value, &range))
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self, name: &'static str, default: bool, help: &'static str) -> bool {
        match self.declare(name, Shape::Boolean, default.to_string(), help, Need::Default) {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                self.fault(name, format!("must be true or false, not {}", type_of(other)));
                default
            }
        }
    }

    /// Reads `true` or `false` where neither is the default of all.
    pub fn maybe_boolean(&mut self, name: &'static str, help: &'static str) -> Option<bool> {
        match self.declare(name, Shape::Boolean, "null".to_owned(), help, Need::Nullable)? {
            Value::Bool(value) => Some(*value),
            other => {
                self.fault(name, format!("must be true or false, not {}", type_of(other)));
                None
            }
        }
    }

    /// Reads one word of a closed list; `default` is its place in the list.
    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        default: T,
        words: &[(&'static str, T)],
        help: &'static str,
    ) -> T {
        let default_word = words.iter().find(|(_, value)| *value == default).map_or("null", |(word, _)| word);
        self.maybe_choice(name, default_word, words, help).unwrap_or(default)
    }

    /// Reads one word of a closed list that must be there.
    pub fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&'static str, T)],
        help: &'static str,
    ) -> Option<T> {
        let shape = Shape::Choice(words.iter().map(|(word, _)| *word).collect());
        let value = self.declare(name, shape, String::new(), help, Need::Required)?;
        self.read_word(name, value, words)
    }

    /// Reads one word of a closed list that has no default of its own (`default` is then `null`).
    pub fn maybe_choice<T: Copy>(
        &mut self,
        name: &'static str,
        default: &'static str,
        words: &[(&'static str, T)],
        help: &'static str,
    ) -> Option<T> {
        let shape = Shape::Choice(words.iter().map(|(word, _)| *word).collect());
        let need = if default == "null" { Need::Nullable } else { Need::Default };
        // A word that YAML would read as a number is shown in quotes, as it must not be one.
        let default = if default.parse::<f64>().is_ok_and(|_| default.contains('.')) {
            format!("\"{default}\"")
        } else {
            default.to_owned()
        };
        let value = self.declare(name, shape, default, help, need)?;
        self.read_word(name, value, words)
    }

    fn read_word<T: Copy>(
        &self,
        name: &'static str,
        value: &Value,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let list = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let Some(text) = scalar_text(value) else {
            self.fault(name, format!("must be one of {list}, not {}", type_of(value)));
            return None;
        };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let near = did_you_mean(&text, words.iter().map(|(word, _)| *word));
            self.fault(name, format!("{} is not one of {list}{near}", shown(&text)));
        }
        found
    }

    /// Reads a text that must be there.
    pub fn text(&mut self, name: &'static str, help: &'static str) -> Option<String> {
        let value = self.declare(name, Shape::Text, String::new(), help, Need::Required)?;
        read_text(&self.walk.faults, &self.at.key(name), value)
    }

    /// Reads a text that may be absent; `default` is how its absence is written in YAML.
    pub fn maybe_text(
        &mut self,
        name: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Option<String> {
        let need = if default == "null" { Need::Nullable } else { Need::Default };
        let value = self.declare(name, Shape::Text, default.to_owned(), help, need)?;
        read_text(&self.walk.faults, &self.at.key(name), value)
    }

    /// Reads a list of texts, each with its path.
    pub fn texts(
        &mut self,
        name: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Option<Vec<(KeyPath, String)>> {
        let value = self.declare(name, Shape::Texts, default.to_owned(), help, Need::Default)?;
        let items = self.items(name, value)?;
        let at = self.at.key(name);
        let read = |(index, item): (usize, &Value)| {
            let at = at.index(index);
            read_text(&self.walk.faults, &at, item).map(|text| (at, text))
        };
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    /// Reads a list of whole numbers; nothing where the key is absent.
    pub fn integers(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> Option<Vec<u64>> {
        let shape = Shape::Integers(*range.start(), *range.end());
        let value = self.declare(name, shape, "[]".to_owned(), help, Need::Default)?;
        let items = self.items(name, value)?;
        let wrong = |item: &&Value| !item.as_u64().is_some_and(|number| range.contains(&number));
        if let Some(at) = items.iter().position(|item| wrong(&item)) {
            let (least, most) = (range.start(), range.end());
            let at = self.at.key(name).index(at);
            self.walk.faults.error(&at, format!("must be a whole number between {least} and {most}"));
            return None;
        }
        Some(items.iter().filter_map(Value::as_u64).collect())
    }

    /// Reads a mapping of texts, each with its path.
    pub fn text_table(&mut self, name: &'static str, help: &'static str) -> Vec<(KeyPath, String, String)> {
        let mut table = Vec::new();
        for (at, key, value) in self.raw_table(name, Shape::TextTable, help) {
            if let Some(text) = read_text(&self.walk.faults, &at, value) {
                table.push((at, key, text));
            }
        }
        table
    }

    /// Reads a mapping of anything that JSON can say, each with its path and JSON text.
    pub fn json_table(&mut self, name: &'static str, help: &'static str) -> Vec<(KeyPath, String, String)> {
        let mut table = Vec::new();
        for (at, key, value) in self.raw_table(name, Shape::JsonTable, help) {
            match json_of(value) {
                Ok(json) => table.push((at, key, json.to_string())),
                Err(why) => self.walk.faults.error(&at, why),
            }
        }
        table
    }

    /// Reads a secret's place with a reader of its own (see `reference`); the value is handed on
    /// untouched.
    pub fn secret<R>(
        &mut self,
        name: &'static str,
        is_required: bool,
        help: &'static str,
        read: impl FnOnce(&Faults, &KeyPath, &Value) -> Option<R>,
    ) -> Option<R> {
        let (default, need) = if is_required { ("", Need::Required) } else { ("null", Need::Nullable) };
        let value = self.declare(name, Shape::Secret, default.to_owned(), help, need)?;
        read(&self.walk.faults, &self.at.key(name), value)
    }

    /// Accepts only the default of something that is planned and not built.
    pub fn unbuilt(&mut self, name: &'static str, default: &'static str, what: &str, help: &'static str) {
        let Some(value) = self.declare(name, Shape::Unbuilt, default.to_owned(), help, Need::Nullable) else {
            return;
        };
        if scalar_text(value).as_deref() != Some(default) {
            self.fault(
                name,
                format!("{what} is not built yet; leave it out or set it to its default ({default})"),
            );
        }
    }

    /// Walks a mapping with fixed keys; one that is absent is walked as if it were empty.
    pub fn section<R>(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl FnOnce(&mut Map<'w, 'v>) -> R,
    ) -> R {
        let value = self.declare(name, Shape::Section, "{}".to_owned(), help, Need::Default);
        Map::enter(self.walk, self.at.key(name), value, read)
    }

    /// Walks a mapping with fixed keys where it is given.
    pub fn maybe_section<R>(
        &mut self,
        name: &'static str,
        help: &'static str,
        read: impl FnOnce(&mut Map<'w, 'v>) -> R,
    ) -> Option<R> {
        let value = self.declare(name, Shape::Section, "null".to_owned(), help, Need::Nullable);
        if value.is_none() && !self.is_describing() {
            return None;
        }
        Some(Map::enter(self.walk, self.at.key(name), value, read))
    }

    /// Walks a list of mappings; nothing where the key is absent.
    pub fn list<R>(
        &mut self,
        name: &'static str,
        default: &'static str,
        help: &'static str,
        mut read: impl FnMut(&mut Map<'w, 'v>) -> R,
    ) -> Option<Vec<R>> {
        let value = self.declare(name, Shape::List, default.to_owned(), help, Need::Default);
        let at = self.at.key(name);
        if self.is_describing() {
            Map::enter(self.walk, at.any_item(), None, &mut read);
            return None;
        }
        let items = self.items(name, value?)?;
        let walk = self.walk;
        let enter =
            |(index, item): (usize, &'v Value)| Map::enter(walk, at.index(index), Some(item), &mut read);
        Some(items.iter().enumerate().map(enter).collect())
    }

    /// Walks mappings by name; nothing where the key is absent.
    pub fn table<R>(
        &mut self,
        name: &'static str,
        help: &'static str,
        mut read: impl FnMut(&str, &mut Map<'w, 'v>) -> R,
    ) -> Option<Vec<R>> {
        if self.is_describing() {
            self.declare(name, Shape::Table, "{}".to_owned(), help, Need::Default);
            Map::enter(self.walk, self.at.key(name).any_key(), None, |map| read("*", map));
            return None;
        }
        let is_given = self.has(name);
        let mut entries = Vec::new();
        for (at, key, value) in self.raw_table(name, Shape::Table, help) {
            entries.push(Map::enter(self.walk, at, Some(value), |map| read(&key, map)));
        }
        is_given.then_some(entries)
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
                self.walk.faults.error(&self.at, format!("has a key that is {}, not a word", type_of(key)));
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

    fn items(&self, name: &str, value: &'v Value) -> Option<&'v [Value]> {
        match value {
            Value::Sequence(items) if items.len() <= ENTRIES_MAX => Some(items),
            Value::Sequence(_) => {
                self.fault(name, format!("has more than {ENTRIES_MAX} entries"));
                None
            }
            other => {
                self.fault(name, format!("must be a list, not {}", type_of(other)));
                None
            }
        }
    }

    fn raw_table(
        &mut self,
        name: &'static str,
        shape: Shape,
        help: &'static str,
    ) -> Vec<(KeyPath, String, &'v Value)> {
        let at = self.at.key(name);
        let entries = match self.declare(name, shape, "{}".to_owned(), help, Need::Default) {
            None => return Vec::new(),
            Some(Value::Mapping(entries)) if entries.len() <= ENTRIES_MAX => entries,
            Some(Value::Mapping(_)) => {
                self.fault(name, format!("has more than {ENTRIES_MAX} entries"));
                return Vec::new();
            }
            Some(other) => {
                self.fault(name, format!("must be a mapping of names, not {}", type_of(other)));
                return Vec::new();
            }
        };
        let mut table = Vec::new();
        for (key, value) in entries {
            match key {
                Value::String(key) => table.push((at.key(key), key.clone(), value)),
                other => {
                    // Under the name as it is written, which has a line.
                    let at = scalar_text(other).map_or_else(|| at.clone(), |name| at.key(&name));
                    let message = format!("has a name that is {}; put it in quotes", type_of(other));
                    self.walk.faults.error(&at, message);
                }
            }
        }
        table
    }

    fn read_duration(&self, name: &str, value: &Value, range: &RangeInclusive<Duration>) -> Option<Duration> {
        self.read_duration_at(&self.at.key(name), value, range)
    }

    fn read_duration_at(
        &self,
        at: &KeyPath,
        value: &Value,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let fault = |message: String| self.walk.faults.error(at, message);
        match scalar_text(value).map(|text| parse_duration(&text)) {
            Some(Ok(span)) if range.contains(&span) => return Some(span),
            Some(Ok(_)) => {
                let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
                fault(format!("must be between {least} and {most}"));
            }
            Some(Err(why)) => fault(why),
            None => fault(format!("must be a duration such as 30s, not {}", type_of(value))),
        }
        None
    }

    fn read_integer(&self, name: &str, value: &Value, range: &RangeInclusive<u64>) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        let number = match value {
            Value::Number(number) => number.as_u64().filter(|number| range.contains(number)),
            other => {
                self.fault(name, format!("must be a whole number, not {}", type_of(other)));
                return None;
            }
        };
        if number.is_none() {
            self.fault(name, format!("must be a whole number between {least} and {most}"));
        }
        number
    }

    fn read_number(&self, name: &str, value: &Value, range: &RangeInclusive<f64>) -> Option<f64> {
        let (least, most) = (range.start(), range.end());
        let number = match value {
            Value::Number(number) => number.as_f64().filter(|number| range.contains(number)),
            other => {
                self.fault(name, format!("must be a number, not {}", type_of(other)));
                return None;
            }
        };
        if number.is_none() {
            self.fault(name, format!("must be a number between {least} and {most}"));
        }
        number
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
