//! What is told of a key: its path, what it takes, its default, one sentence.
//!
//! The describing walk records these; the schema, the shipped file's test and `config show` read
//! them.

use std::time::Duration;

/// What a key takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// `250ms`, `30s`.
    Duration(Duration, Duration),
    /// A list of at most so many `250ms`.
    Durations(Duration, Duration, usize),
    /// `64KiB`.
    Size(u64, u64),
    /// A whole number.
    Integer(u64, u64),
    /// Any finite number.
    Number(f64, f64),
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(Vec<&'static str>),
    /// Text.
    Text,
    /// A reference to a secret.
    Secret,
    /// A list of texts.
    Texts,
    /// A list of whole numbers.
    Integers(u64, u64),
    /// Text by text.
    TextTable,
    /// Any JSON by text.
    JsonTable,
    /// A list of mappings, described at `path[]`.
    List,
    /// Mappings by name, described at `path.*`.
    Table,
    /// A mapping with fixed keys.
    Section,
    /// Only the default, until it is built.
    Unbuilt,
}

/// One key, as `keys()` and the schema tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDoc {
    /// Path with `*` for the keys of tables and `[]` for the items of lists.
    pub path: String,
    /// What it takes.
    pub shape: Shape,
    /// Default as YAML text; empty where there is none and the key is required.
    pub default: String,
    /// One sentence.
    pub help: &'static str,
    /// Whether it must be given.
    pub is_required: bool,
    /// Whether `null` is taken and means "not given".
    pub is_nullable: bool,
}

impl Shape {
    /// Tells whether `key:` with nothing behind it is the same as leaving it out: a mapping, or a list of
    /// mappings, whose entries are all commented out. Not a list of plain values: `routes:` of a client
    /// would then mean all of them.
    #[must_use]
    pub fn takes_nothing(&self) -> bool {
        match self {
            Shape::List | Shape::Table | Shape::Section => true,
            Shape::Durations(..)
            | Shape::Texts
            | Shape::Integers(..)
            | Shape::TextTable
            | Shape::JsonTable
            | Shape::Duration(..)
            | Shape::Size(..)
            | Shape::Integer(..)
            | Shape::Number(..)
            | Shape::Boolean
            | Shape::Choice(_)
            | Shape::Text
            | Shape::Secret
            | Shape::Unbuilt => false,
        }
    }
}
