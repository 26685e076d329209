//! Bridges: servers of the operator's own that put an API before somebody's login.
//!
//! They are reached where a variable says and want no key. Most answer `/v1/chat/completions`; two
//! answer `/api/generate` only, with one text for one prompt.

use super::super::Chain;
use super::{Auth, Entry, OPENAI_CALLS, PLAIN, SEED, models};
use crate::base::api::{Api, Kind};

const CHAT: &[Api] = &[Api::ChatCompletions];

/// A bridge that answers `/v1/chat/completions`.
const BRIDGE: Entry = Entry {
    kind: Kind::OpenAi,
    prefix: "/v1",
    serves: CHAT,
    auth: Auth::None,
    needs_key: false,
    source: SEED,
    ..PLAIN
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "claude-bridge",
        kind: Kind::GenerateBridge,
        serves: &[Api::Generate],
        urls: &["${CLAUDE_BRIDGE_URL}"],
        prefix: "",
        switch: Some("CLAUDE_BRIDGE_ENABLED"),
        chain: Some(Chain { place: 1, rpm: 100 }),
        models: models::CLAUDE_BRIDGE,
        note: "POST /api/generate with one prompt; neither tools nor images",
        ..BRIDGE
    },
    Entry {
        name: "openai-bridge",
        urls: &["${OPENAI_BRIDGE_URL}"],
        chain: Some(Chain { place: 2, rpm: 90 }),
        models: models::OPENAI_BRIDGE,
        ..BRIDGE
    },
    Entry {
        name: "chatgpt-bridge",
        urls: &["${CHATGPT_BRIDGE_URL}", "${OPENAI_BRIDGE_URL}"],
        chain: Some(Chain { place: 3, rpm: 90 }),
        models: models::OPENAI_BRIDGE,
        ..BRIDGE
    },
    Entry {
        name: "copilot-bridge",
        urls: &["${COPILOT_BRIDGE_URL}"],
        chain: Some(Chain { place: 4, rpm: 60 }),
        models: models::COPILOT,
        ..BRIDGE
    },
    Entry {
        name: "m365-copilot-bridge",
        urls: &["${M365_COPILOT_BRIDGE_URL}"],
        chain: Some(Chain { place: 5, rpm: 60 }),
        models: models::M365,
        ..BRIDGE
    },
    Entry {
        name: "openai-codex",
        urls: &["${OPENAI_CODEX_BRIDGE_URL}", "${CODEX_BRIDGE_URL}", "https://api.openai.com/v1"],
        serves: OPENAI_CALLS,
        auth: Auth::Bearer,
        env: &["OPENAI_API_KEY"],
        needs_key: true,
        chain: Some(Chain { place: 11, rpm: 60 }),
        models: models::CODEX,
        note: "a bridge where its address is set, else OpenAI with a key",
        ..BRIDGE
    },
    Entry {
        name: "claude-code",
        kind: Kind::GenerateBridge,
        serves: &[Api::Generate],
        urls: &["${CLAUDE_CODE_BRIDGE_URL}"],
        prefix: "",
        chain: Some(Chain { place: 12, rpm: 100 }),
        models: models::CLAUDE_BRIDGE,
        note: "POST /api/generate with one prompt; neither tools nor images",
        ..BRIDGE
    },
    Entry {
        name: "codex",
        urls: &["${CODEX_BRIDGE_URL}", "${OPENAI_CODEX_BRIDGE_URL}"],
        serves: OPENAI_CALLS,
        auth: Auth::Bearer,
        env: &["GITHUB_CODEX_TOKEN"],
        chain: Some(Chain { place: 13, rpm: 60 }),
        models: models::CODEX,
        note: "without a bridge it has no address that is known to serve: give it a base_url and a key",
        ..BRIDGE
    },
];
