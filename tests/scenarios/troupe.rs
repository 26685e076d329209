//! The providers of our own scenarios: who plays in which, and where they are found.
//!
//! A part is called by its route and a letter (`s19a`, `s19b`): the letters are the priorities of
//! the route, each with a model of its own, so that every failover is to a different model.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pointsman::standin::{Provider, Script, Seen};

/// One provider to be.
pub struct Part {
    name: &'static str,
    kind: &'static str,
    keys: u32,
    script: Script,
}

/// An OpenAI-shaped provider with one key.
pub fn openai(name: &'static str, script: impl Into<Script>) -> Part {
    Part { name, kind: "openai", keys: 1, script: script.into() }
}

/// An Anthropic-shaped provider with one key.
pub fn anthropic(name: &'static str, script: impl Into<Script>) -> Part {
    Part { name, kind: "anthropic", keys: 1, script: script.into() }
}

impl Part {
    /// Gives it that many keys.
    pub fn keys(mut self, keys: u32) -> Part {
        self.keys = keys;
        self
    }
}

/// All providers, running.
pub struct Troupe {
    providers: BTreeMap<&'static str, (Part, Provider)>,
}

impl Troupe {
    pub async fn start(parts: impl IntoIterator<Item = Part>) -> Troupe {
        let mut providers = BTreeMap::new();
        for part in parts {
            let provider = Provider::start(part.script.clone()).await.expect("a provider starts");
            providers.insert(part.name, (part, provider));
        }
        Troupe { providers }
    }

    /// Returns the lines of `providers` and of `routes`.
    pub fn configuration(&self) -> (String, String) {
        let mut providers = String::new();
        let mut routes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, (part, provider)) in &self.providers {
            let base = if part.kind == "anthropic" { provider.origin() } else { provider.base_url() };
            let keys: Vec<String> = (1..=part.keys)
                .map(|key| format!("{{name: k{key}, key: {{env: {}}}}}", variable(name, key)))
                .collect();
            let _ = writeln!(
                providers,
                "  {name}: {{kind: {}, base_url: \"{base}\", credentials: [{}]}}",
                part.kind,
                keys.join(", ")
            );
            let targets = routes.entry(&name[..name.len() - 1]).or_default();
            let priority = targets.len() + 1;
            targets.push(format!("{{provider: {name}, model: model-of-{name}, priority: {priority}}}"));
        }
        let routes =
            routes.iter().map(|(name, targets)| format!("  {name}: {{targets: [{}]}}\n", targets.join(", ")));
        (providers, routes.collect())
    }

    /// Returns the environment with every key.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.providers
            .iter()
            .flat_map(|(name, (part, _))| (1..=part.keys).map(|key| (variable(name, key), secret(name, key))))
            .collect()
    }

    /// Returns a provider.
    pub fn of(&self, name: &str) -> &Provider {
        &self.providers[name].1
    }

    /// Returns the number of requests that a provider saw.
    pub fn count(&self, name: &str) -> u64 {
        self.of(name).count()
    }

    /// Returns what a provider saw.
    pub fn seen(&self, name: &str) -> Vec<Seen> {
        self.of(name).seen()
    }
}

fn variable(name: &str, key: u32) -> String {
    format!("KEY_{}_{key}", name.to_ascii_uppercase())
}

/// Returns the key with that number of a provider.
pub fn secret(name: &str, key: u32) -> String {
    format!("sk-{name}-{key}-0123456789")
}
