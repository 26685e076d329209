//! The rows: companies with a dialect of their own, servers that speak OpenAI's, bridges.

mod bridges;
mod compatible;
pub(super) mod models;
mod native;

use super::{Auth, Entry, Source};
use crate::base::api::{Api, Kind};

/// All rows, in the order in which zero configuration tries them.
pub(super) const TABLES: [&[Entry]; 3] = [native::ENTRIES, compatible::ENTRIES, bridges::ENTRIES];

/// Recorded traffic and the providers' own pages.
const WIRE: Source = Source {
    what: "wire guide (recorded traffic and providers' documentation)",
    read: "2026-11-21",
    is_verified: true,
};
/// The list of base URLs of the seeds, partly held against traffic.
const LIST: Source = Source {
    what: "the seeds' provider lists and the wire guide's table",
    read: "2026-11-21",
    is_verified: true,
};
/// The seeds' own words and general knowledge.
const SEED: Source = Source {
    what: "the seeds' provider lists and general knowledge",
    read: "2026-11-21",
    is_verified: false,
};

/// What every server that speaks like OpenAI is taken to serve where nothing else is known.
const OPENAI_CALLS: &[Api] = &[Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses];

/// What most rows have in common: an OpenAI-compatible server with a bearer key.
const PLAIN: Entry = Entry {
    name: "",
    kind: Kind::OpenAi,
    urls: &[],
    prefix: "",
    serves: OPENAI_CALLS,
    auth: Auth::Bearer,
    env: &[],
    env_base_url: None,
    switch: None,
    needs_key: true,
    is_http1_only: false,
    drop_params: &[],
    chain: None,
    models: &[],
    note: "",
    source: LIST,
};
