//! Where in the file something stands: `routes.chat.targets[0].provider`.
//!
//! One spelling for the walk that finds faults and for the map that gives them lines, so that the
//! two always meet. A key that is not a plain word (`gpt-4.1`, `meta/llama`) is written in quotes,
//! because its dots would read as steps; a key that looks like a pasted secret is not written at
//! all. Without its blank behind the colon, `key:VALUE` is one key to YAML, value and all: only
//! routes and models have names with such marks in them, anywhere else a key is cut there.

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
        let (word, rest) = if self.holds_models() { (name, "") } else { name.split_at(word_of(name).len()) };
        let plain = !word.is_empty()
            && word.len() <= KEY_MAX
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/:@".contains(&b));
        let word = if plain || word.len() < name.len() {
            word.to_owned()
        } else {
            format!("\"{}\"", word.escape_debug())
        };
        let is_hidden = looks_secret(name) || (name.len() > KEY_MAX && !self.holds_models());
        let shown = match rest.chars().next() {
            _ if is_hidden => NOT_SHOWN.to_owned(),
            None => word,
            Some(mark @ (':' | '=')) => format!("{word}{mark}{NOT_SHOWN}"),
            Some(_) => format!("{word} {NOT_SHOWN}").trim_start().to_owned(),
        };
        self.step(&shown)
    }

    /// Tells whether the keys of this mapping are what a client may put into `model`.
    fn holds_models(&self) -> bool {
        let of_provider = |rest: &str| rest.ends_with(".models");
        self.0 == "routes" || self.0.strip_prefix("providers.").is_some_and(of_provider)
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

    /// Tells whether this is an item of a list or stands below one. Lists are never joined from several
    /// files: what an item lacks is written nowhere.
    #[must_use]
    pub fn is_in_list(&self) -> bool {
        self.0.rsplit('"').next().is_some_and(|behind_names| behind_names.contains('['))
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

/// What stands in the place of what may be a secret.
const NOT_SHOWN: &str = "(not shown)";

/// Longest key that is shown, where it is no model's name; the longest of ours has 23 letters, and
/// names have at most 64.
const KEY_MAX: usize = 64;

/// Returns the part of a key that can be one of ours: what stands in front of a colon that wants its
/// blank, say.
#[must_use]
pub fn word_of(key: &str) -> &str {
    // The last three belong to no value that grew on: names with a slash or an address, YAML's own `<<`.
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"_-./@<".contains(&b);
    key.bytes().position(|b| !is_part(b)).and_then(|end| key.get(..end)).unwrap_or(key)
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
    // What a generator of tokens prints: letters and digits, and nothing that would part words.
    let unparted = |text: &str| {
        text.bytes().all(|b| b.is_ascii_alphanumeric())
            && text.bytes().filter(u8::is_ascii_digit).count() >= 4
            && text.bytes().any(|b| b.is_ascii_alphabetic())
    };
    let is_key = |text: &str| {
        KEY_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            || (text.len() >= 24 && ((!text.contains('/') && mixed(text)) || unparted(text)))
    };
    text.len() > 128 || is_key(text) || text.split([':', '=', ' ', '\t', '\n']).any(is_key)
}

/// Quotes a word of the file for a message, unless it may be a secret. What follows a blank is not
/// part of it: a line without a blank behind its colon goes on the one above (`kind: openai key:…`).
#[must_use]
pub fn shown(text: &str) -> String {
    if looks_secret(text) {
        return NOT_SHOWN.to_owned();
    }
    match text.split_once(char::is_whitespace) {
        None => format!("\"{}\"", text.escape_debug()),
        Some((word, _)) => format!("\"{}\" {NOT_SHOWN}", word.escape_debug()),
    }
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
            ("key:sk-canary-1234567890", "routes.(not shown)"),
        ] {
            assert_eq!(routes.key(name).as_str(), want);
        }
        let models = KeyPath::root().key("providers").key("models").key("models");
        assert_eq!(models.key("llama3:8b").as_str(), "providers.models.models.llama3:8b");
        assert_eq!(routes.key("chat").index(2).key("model").as_str(), "routes.chat[2].model");
    }

    #[test]
    fn a_key_is_cut_where_a_value_may_have_grown_on_it() {
        let credential = KeyPath::root().key("providers").key("models").key("credentials").index(0);
        for (name, want) in [
            ("key:hunter2", "key:(not shown)"),
            ("key=hunter2", "key=(not shown)"),
            ("key hunter2", "key (not shown)"),
            ("key;hunter2", "key (not shown)"),
            ("\"hunter2", "(not shown)"),
            ("a/b", "a/b"),
            ("<<", "\"<<\""),
            ("k\u{e9}y", "k (not shown)"),
            (":hunter2", ":(not shown)"),
            ("a.b:hunter2", "a.b:(not shown)"),
            ("a.b", "\"a.b\""),
            ("", "\"\""),
        ] {
            assert_eq!(credential.key(name).as_str(), format!("providers.models.credentials[0].{want}"));
        }
        assert_eq!(KeyPath::root().key(&"a".repeat(65)).as_str(), "(not shown)");
        assert_eq!(
            KeyPath::root().key("providers").key("models").key("key:x").as_str(),
            "providers.models.key:(not shown)"
        );
    }

    #[test]
    fn a_word_in_a_message_ends_at_its_first_blank() {
        assert_eq!(shown("opneai"), "\"opneai\"");
        assert_eq!(shown("openai key:hunter2"), "\"openai\" (not shown)");
        assert_eq!(shown("openai key:sk-canary"), "(not shown)");
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
            ("0123456789abcdef01234567", true),
            ("key=sk-canary", true),
            ("123456789012345678901234", false),
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
