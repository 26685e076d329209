//! Keys whose value is one thing: a time, a size, a number, a word, a text, a secret's place.
//!
//! What is out of range or of another type is a fault at the key, and the default stands in.

use super::{Map, Need};
use crate::base::units::{format_duration, format_size, parse_duration, parse_size};
use crate::config::fault::Faults;
use crate::config::keydoc::Shape;
use crate::config::path::{KeyPath, did_you_mean, shown};
use crate::config::value::{read_text, scalar_text, type_of};
use serde_yaml::Value;
use std::ops::RangeInclusive;
use std::time::Duration;

impl Map<'_, '_> {
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

    fn read_duration(&self, name: &str, value: &Value, range: &RangeInclusive<Duration>) -> Option<Duration> {
        self.read_duration_at(&self.at.key(name), value, range)
    }

    pub(super) fn read_duration_at(
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
