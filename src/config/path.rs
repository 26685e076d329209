//! Where in the file something stands: `routes.chat.targets[0].provider`.
//!
//! One spelling for the walk that finds faults and for the map that gives them lines, so that the
//! two always meet. A key that is not a plain word (`gpt-4.1`, `meta/llama`) is written in quotes,
//! because its dots would read as steps; a key that looks like a pasted secret is not written at
//! all.

use std::fmt;

/// The way to a value from the root of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPath(String);

impl KeyPath {
    /// Returns the root, which prints as nothing.
    #[must_use]
    pub fn root() -> Self {
        KeyPath(String::new())
    }

    /// Returns the path of a key below this one.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        let plain = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/:@".contains(&b));
        let shown = if looks_secret(name) {
            "(not shown)".to_owned()
        } else if plain {
            name.to_owned()
        } else {
            format!("\"{}\"", name.escape_debug())
        };
        self.step(&shown)
    }

    /// Returns the path of a list's item.
    #[must_use]
    pub fn index(&self, at: usize) -> Self {
        KeyPath(format!("{}[{at}]", self.0))
    }

    /// Returns the path that stands for every key of a table: `providers.*`.
    #[must_use]
    pub fn any_key(&self) -> Self {
        self.step("*")
    }

    /// Returns the path that stands for every item of a list: `clients[]`.
    #[must_use]
    pub fn any_item(&self) -> Self {
        KeyPath(format!("{}[]", self.0))
    }

    /// Returns the path as text; empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether `other` is this path or stands below it.
    #[must_use]
    pub fn holds(&self, other: &KeyPath) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| {
            rest.is_empty() || self.0.is_empty() || rest.starts_with('.') || rest.starts_with('[')
        })
    }

    fn step(&self, shown: &str) -> Self {
        if self.0.is_empty() { KeyPath(shown.to_owned()) } else { KeyPath(format!("{}.{shown}", self.0)) }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// First letters of keys that providers and hosts hand out.
const KEY_PREFIXES: [&str; 19] = [
    "sk-",
    "sk_",
    "pk-",
    "rk-",
    "gsk_",
    "xai-",
    "AIza",
    "ghp_",
    "gho_",
    "ghu_",
    "github_pat_",
    "eyJ",
    "AKIA",
    "nvapi-",
    "pplx-",
    "csk-",
    "hf_",
    "fw_",
    "Bearer ",
];

/// Tells whether a text may be a key that was pasted into the wrong place.
///
/// A wrong yes costs a message its detail, a wrong no shows a key: lean to yes.
#[must_use]
pub fn looks_secret(text: &str) -> bool {
    let mixed = |text: &str| {
        text.bytes().filter(u8::is_ascii_digit).count() >= 4
            && text.bytes().any(|b| b.is_ascii_uppercase())
            && text.bytes().any(|b| b.is_ascii_lowercase())
    };
    text.len() > 128
        || KEY_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        || (text.len() >= 24 && !text.contains('/') && mixed(text))
}

/// Quotes a word of the file for a message, unless it may be a secret.
#[must_use]
pub fn shown(text: &str) -> String {
    if looks_secret(text) { "(not shown)".to_owned() } else { format!("\"{}\"", text.escape_debug()) }
}

/// Returns ` (did you mean "x"?)` for the nearest candidate, or nothing where none is near.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    if word.len() > 64 {
        return String::new();
    }
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    let lower = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word && candidate.len() <= 64)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, candidate)| format!(" (did you mean {}?)", shown(candidate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_a_plain_word_stands_in_quotes() {
        let routes = KeyPath::root().key("routes");
        for (name, want) in [
            ("chat", "routes.chat"),
            ("a/b:c", "routes.a/b:c"),
            ("gpt-4.1", "routes.\"gpt-4.1\""),
            ("", "routes.\"\""),
            ("a\nb", "routes.\"a\\nb\""),
            ("sk-canary-1234567890", "routes.(not shown)"),
        ] {
            assert_eq!(routes.key(name).as_str(), want);
        }
        assert_eq!(routes.key("chat").index(2).key("model").as_str(), "routes.chat[2].model");
    }

    #[test]
    fn a_path_holds_what_stands_below_it_and_nothing_else() {
        let a = KeyPath::root().key("a");
        assert!(a.holds(&a.key("b")) && a.holds(&a.index(0)) && a.holds(&a));
        assert!(!a.holds(&KeyPath::root().key("ab")));
        assert!(KeyPath::root().holds(&a));
    }

    #[test]
    fn pasted_keys_are_recognised_and_model_names_are_not() {
        for (text, want) in [
            ("sk-proj-abc", true),
            ("AIzaSyA", true),
            ("aB3dE5fG7hI9jK1lM3nO5pQ7", true),
            ("claude-haiku-4-5-20251001", false),
            ("meta-llama/Llama-3.3-70B-Instruct-Turbo-2024", false),
            ("openai", false),
        ] {
            assert_eq!(looks_secret(text), want, "{text}");
        }
    }

    #[test]
    fn near_words_are_offered_and_far_ones_are_not() {
        assert_eq!(did_you_mean("opneai", ["openai", "anthropic"]), " (did you mean \"openai\"?)");
        assert_eq!(did_you_mean("x", ["openai"]), "");
        assert_eq!(did_you_mean("timeuot", ["timeouts"]), " (did you mean \"timeouts\"?)");
    }
}
