//! Keys whose value holds others: sections, lists and tables by name, each of a bounded length.
//!
//! A fault at one entry leaves the others as they are.

use super::{Map, Need};
use crate::config::keydoc::Shape;
use crate::config::path::KeyPath;
use crate::config::value::{json_of, read_text, scalar_text, type_of};
use serde_yaml::Value;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Most entries of one list or table.
const ENTRIES_MAX: usize = 10_000;

impl<'w, 'v> Map<'w, 'v> {
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
}
