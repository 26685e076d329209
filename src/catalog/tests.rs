//! What every row of the catalogue must hold.

use super::*;
use std::collections::HashSet;

#[test]
fn every_word_of_the_contract_is_known_once() {
    let words = "openai anthropic gemini vertex azure bedrock copilot cohere ollama generate-bridge groq \
                 mistral together cerebras nvidia cloudflare fireworks openrouter deepseek xai \
                 perplexity runpod alibaba lmstudio openai-codex claude-code codex claude-bridge \
                 openai-bridge chatgpt-bridge copilot-bridge m365-copilot-bridge";
    for word in words.split_whitespace() {
        assert!(find(word).is_some(), "{word}");
    }
    let names: HashSet<_> = entries().map(|entry| entry.name).collect();
    assert_eq!(names.len(), entries().count());
    assert_eq!(names.len(), words.split_whitespace().count(), "a row that no page speaks of");
}

#[test]
fn every_row_has_a_call_that_its_kind_takes_and_models_are_listed_once() {
    for entry in entries() {
        // A bridge of no particular make is where the file says.
        assert!(!entry.urls.is_empty() || entry.name == "generate-bridge", "{}", entry.name);
        assert!(!entry.serves.is_empty(), "{}", entry.name);
        assert!(entry.serves.iter().all(|api| entry.kind.speaks(*api)), "{}", entry.name);
        let names: HashSet<_> = entry.models.iter().map(|model| model.name).collect();
        assert_eq!(names.len(), entry.models.len(), "{}", entry.name);
        assert!(!entry.needs_key || !entry.env.is_empty(), "{}: a key, and nowhere to keep it", entry.name);
    }
}

#[test]
fn every_row_says_where_and_when_it_was_read() {
    for entry in entries() {
        let day: Vec<u32> = entry.source.read.split('-').filter_map(|part| part.parse().ok()).collect();
        let is_day = matches!(day[..], [year, month, day] if year >= 2026 && month <= 12 && day <= 31);
        assert!(is_day, "{}: {}", entry.name, entry.source.read);
        assert!(!entry.source.what.is_empty(), "{}", entry.name);
    }
}

#[test]
fn addresses_are_sound_and_no_prefix_is_doubled() {
    for entry in entries() {
        for url in entry.urls {
            assert!(
                url.starts_with("${") || url.starts_with("https://") || url.starts_with("http://localhost"),
                "{url}"
            );
            assert!(!url.ends_with('/'), "{url}");
            let is_doubled = !entry.prefix.is_empty() && url.ends_with(entry.prefix);
            assert!(!is_doubled || entry.prefix == "/v1", "{url}");
        }
        assert!(entry.prefix.is_empty() || entry.prefix.starts_with('/'), "{}", entry.name);
    }
}

#[test]
fn the_chain_of_thirteen_stands_in_the_order_of_the_seed() {
    let chain: Vec<(&str, u32)> =
        chain().iter().filter_map(|entry| Some((entry.name, entry.chain?.rpm))).collect();
    assert_eq!(
        chain,
        [
            ("claude-bridge", 100),
            ("openai-bridge", 90),
            ("chatgpt-bridge", 90),
            ("copilot-bridge", 60),
            ("m365-copilot-bridge", 60),
            ("cerebras", 30),
            ("groq", 30),
            ("mistral", 60),
            ("nvidia", 40),
            ("cloudflare", 100),
            ("openai-codex", 60),
            ("claude-code", 100),
            ("codex", 60),
        ]
    );
}

#[test]
fn each_member_of_the_chain_has_a_model_for_every_wish() {
    for entry in super::chain() {
        assert!(!entry.models.is_empty(), "{}", entry.name);
        for wish in Tier::ALL {
            let picked = pick(Some(wish), entry.models.iter().map(|model| model.tier));
            assert!(entry.models.get(picked).is_some(), "{} {wish:?}", entry.name);
        }
    }
    let bridge = find("openai-bridge").unwrap();
    let picked = pick(Some(Tier::Medium), bridge.models.iter().map(|model| model.tier));
    assert_eq!(bridge.models[picked].name, "gpt-4-turbo");
}

#[test]
fn what_is_missing_is_told_by_name() {
    for (name, set, want) in [
        ("groq", &[][..], Some("GROQ_API_KEY")),
        ("groq", &["GROQ_API_KEY"], None),
        ("lmstudio", &[], None),
        ("cloudflare", &["CLOUDFLARE_AI_TOKEN"], Some("CLOUDFLARE_ACCOUNT_ID")),
        ("cloudflare", &["CLOUDFLARE_ACCOUNT_ID"], Some("CLOUDFLARE_AI_TOKEN or CLOUDFLARE_API_TOKEN")),
        ("cloudflare", &["CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN"], None),
        ("claude-bridge", &["CLAUDE_BRIDGE_URL"], Some("CLAUDE_BRIDGE_ENABLED")),
        ("chatgpt-bridge", &[], Some("CHATGPT_BRIDGE_URL or OPENAI_BRIDGE_URL")),
        ("chatgpt-bridge", &["OPENAI_BRIDGE_URL"], None),
        ("openai-codex", &["CODEX_BRIDGE_URL"], None),
        ("openai-codex", &[], Some("OPENAI_API_KEY")),
        ("azure", &["AZURE_API_KEY"], Some("AZURE_OPENAI_ENDPOINT or AZURE_RESOURCE_NAME")),
    ] {
        let missing = find(name).unwrap().missing(&|name| set.contains(&name));
        assert_eq!(missing.as_deref(), want, "{name} with {set:?}");
    }
}
