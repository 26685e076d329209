//! What may be asked of `explain`?
//!
//! A request in outline: the model, and what else decides where it goes. Unknown members are refused
//! rather than passed over, because a misspelt `dialect` would be answered for another one. Keys have
//! no place here: a client is named, and credentials in `headers` are not looked at.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A request that is not made.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What the client would name; comes before the body's `model`.
    pub model: Option<String>,
    /// In which dialect it would ask (`openai.chat`, `anthropic.messages`, …); OpenAI's chat where
    /// none is named.
    pub dialect: Option<String>,
    /// Which client would ask, by its name.
    pub client: Option<String>,
    /// Headers that it would send; only those that choose matter (`x-pointsman-tier`).
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What it would send; a short text where nothing is named.
    pub body: Option<Box<RawValue>>,
}

/// Why nothing can be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexplained {
    /// A member has a value that it cannot have: what, and what it can be.
    #[error("{0}")]
    Invalid(String),
    /// The client that is named may not use what the model names, or there is no such client.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing has the name; the words say what has one.
    #[error("{0}")]
    UnknownModel(String),
}
