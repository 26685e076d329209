//! What does the configuration say, as pages may show it and two of them can be compared?
//!
//! The walk keeps a [`Setting`] of every key that is written, with its default beside it: that is
//! what a plan carries, so that a reload can tell what changed and `config diff` what would change.
//! [`show`] keeps all of them, written or not, and says where each comes from: the file and line,
//! the environment (zero configuration), the catalogue or the default.
//!
//! Nothing secret gets in: of a secret only its place is kept (`{env: NAME}`), of a literal, the
//! value of a request header, a password in an address or anything that looks like a key only `***`,
//! of a command only the program.
//!
//! Entries of lists have numbers in the file, and names here: `routes.chat.targets[openai/gpt-4o]`,
//! so that one more in front is one more and not another value for all behind it. What differs between
//! two is [`super::changes`]' question.

use super::keydoc::Shape;
use super::path::{KeyPath, looks_secret, word_of};
use super::value::{json_of, scalar_text};
use super::walk::Walk;
use super::{Joined, Problem, Severity, Source, file, in_order_of, lines, told, tree};
use crate::catalog;
use crate::config::SecretRef;
use serde_yaml::Value;
use std::collections::{BTreeMap, HashMap};

/// Where the data plane is where nobody says.
pub(super) const LISTEN: &str = r#"[{address: "127.0.0.1:8080"}]"#;

/// What stands in the place of what is not shown.
pub const HIDDEN: &str = "***";

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands, as messages say it: `routes.chat.targets[0].model`.
    at: KeyPath,
    /// The value as YAML on one line, without anything secret; nothing where it is not written.
    pub value: Option<String>,
    /// What stands in where it is not written, as YAML; empty where nothing does.
    pub default: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file and its line.
    File(String, usize),
    /// A variable that sets it over the file.
    Variable(String),
    /// Zero configuration wrote it from a variable.
    Environment,
    /// What is known of the provider's kind, or of the model.
    Catalogue,
    /// Nobody wrote it.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File(name, line) => write!(f, "{name}:{line}"),
            Origin::Variable(name) => f.write_str(name),
            Origin::Environment => f.write_str("environment"),
            Origin::Catalogue => f.write_str("catalogue"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A key, its value and where that comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// As [`Setting::path`].
    pub path: String,
    /// The value as YAML on one line.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Setting {
    /// Keeps what may be shown of a key; nothing for what only holds others.
    pub(super) fn of(
        at: &KeyPath,
        name: &str,
        shape: &Shape,
        default: &str,
        written: Option<&Value>,
    ) -> Option<Setting> {
        let value = match shape {
            Shape::List | Shape::Table => return None,
            // What is absent or switched off as a whole has nothing below it that would be shown.
            Shape::Section if written.is_some() || default != "null" => return None,
            Shape::Secret => written.map(place_of),
            Shape::TextTable if name == "headers" => written.map(names_of),
            Shape::Duration(..)
            | Shape::Durations(..)
            | Shape::Size(..)
            | Shape::Integer(..)
            | Shape::Number(..)
            | Shape::Boolean
            | Shape::Choice(_)
            | Shape::Text
            | Shape::Texts
            | Shape::Integers(..)
            | Shape::TextTable
            | Shape::JsonTable
            | Shape::Section
            | Shape::Unbuilt => written.map(text_of),
        };
        Some(Setting { at: at.key(name), value, default: default.to_owned() })
    }

    /// Returns where it stands: `routes.chat.targets[0].model`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.at.as_str()
    }

    /// Returns what is in force.
    #[must_use]
    pub fn in_force(&self) -> &str {
        self.value.as_deref().unwrap_or(&self.default)
    }
}

/// The place of a secret, never the secret.
fn place_of(value: &Value) -> String {
    let Value::Mapping(entries) = value else { return HIDDEN.to_owned() };
    let mut entries = entries.iter();
    match (entries.next(), entries.next()) {
        (Some((Value::String(kind), Value::String(name))), None) if !looks_secret(name) => {
            format!("{{{kind}: {name}}}")
        }
        (Some((Value::String(kind), Value::Sequence(words))), None) => {
            let program = words.first().and_then(Value::as_str).filter(|word| !looks_secret(word));
            let more = if words.len() > 1 { ", …" } else { "" };
            format!("{{{kind}: [{}{more}]}}", program.unwrap_or(HIDDEN))
        }
        _ => HIDDEN.to_owned(),
    }
}

/// The names of a table whose values may be secrets.
fn names_of(value: &Value) -> String {
    let Value::Mapping(entries) = value else { return HIDDEN.to_owned() };
    let names = entries.keys().filter_map(Value::as_str);
    let shown =
        names.map(|name| format!("{}: {HIDDEN}", if looks_secret(name) { HIDDEN } else { word_of(name) }));
    format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
}

fn text_of(value: &Value) -> String {
    if let Some(text) = scalar_text(value) {
        return hidden(&text).unwrap_or(text);
    }
    match json_of(value) {
        Ok(json) => without_secrets(json).to_string(),
        Err(_) => HIDDEN.to_owned(),
    }
}

/// What is shown in the place of a text that may be or hold a secret.
fn hidden(text: &str) -> Option<String> {
    let has_login = text.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
    });
    (has_login || looks_secret(text) || goes_on(text)).then(|| HIDDEN.to_owned())
}

/// Keys whose values are secrets.
const SECRET_KEYS: [&str; 8] = [
    "key",
    "token",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "client_secret",
    "refresh_token",
    "service_account",
];

/// Tells whether the line below a value became part of it, as one does without a blank behind its colon
/// (`kind: openai key:…`), and holds a secret.
fn goes_on(text: &str) -> bool {
    let is_grown = |word: &str| {
        let key = word_of(word);
        key.len() < word.len() && SECRET_KEYS.contains(&key)
    };
    text.split_whitespace().skip(1).any(is_grown)
}

fn without_secrets(json: serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match json {
        Json::String(text) => Json::String(hidden(&text).unwrap_or(text)),
        Json::Array(items) => items.into_iter().map(without_secrets).collect(),
        Json::Object(entries) => {
            Json::Object(entries.into_iter().map(|(key, value)| (key, without_secrets(value))).collect())
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => json,
    }
}

/// Where the admin plane is, as the configuration says it.
#[derive(Clone, Debug, Default)]
pub struct AdminPlace {
    /// Address and port.
    pub address: Option<String>,
    /// Where its token stands.
    pub token: Option<SecretRef>,
}

/// Finds the admin plane in a configuration that may be unsound otherwise: who asks a running
/// process what is wrong may be about to mend the file.
///
/// # Errors
/// What keeps the configuration from being read at all.
pub fn admin_place(sources: &[Source<'_>]) -> Result<AdminPlace, Vec<Problem>> {
    let walk = Walk::reading();
    let Joined { tree, is_whole, mut problems } = tree(sources, &walk.faults);
    let file = walk.root(Some(&tree), |m| file::read_file(m, &walk.faults));
    if !is_whole && file.admin.address.is_none() {
        // It may stand in what cannot be read; the usual address may be another process's.
        problems.retain(|problem| problem.severity == Severity::Error);
        return Err(problems);
    }
    Ok(AdminPlace { address: file.admin.address, token: file.admin.token })
}

/// Reads what is written. No secret is fetched and no variable is read for it.
///
/// # Errors
/// As [`show`].
pub fn written(sources: &[Source<'_>]) -> Result<Vec<Setting>, Vec<Problem>> {
    walked(Walk::reading(), sources)
}

fn walked(walk: Walk, sources: &[Source<'_>]) -> Result<Vec<Setting>, Vec<Problem>> {
    let Joined { tree, problems: unread, .. } = tree(sources, &walk.faults);
    walk.root(Some(&tree), |m| file::read_file(m, &walk.faults));
    let settings = walk.take_settings();
    let mut problems: Vec<Problem> =
        unread.into_iter().chain(told(sources, walk.faults.into_vec())).collect();
    problems.retain(|problem| problem.severity == Severity::Error);
    in_order_of(sources, &mut problems);
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// Lists every setting, in the order in which keys are declared, and where each comes from. No
/// secret is fetched and no variable is read for it.
///
/// # Errors
/// What keeps the configuration from being read; whether its parts fit together is not asked.
pub fn show(sources: &[Source<'_>]) -> Result<Vec<Shown>, Vec<Problem>> {
    let settings = walked(Walk::showing(), sources)?;
    // A list that nobody wrote has no entries to be walked.
    let listens = settings.iter().any(|setting| setting.path().starts_with("listen["));
    let before = settings.iter().position(|setting| setting.path().starts_with("admin."));
    let surveys: Vec<_> = sources.iter().map(|source| (source, lines::survey(source.text))).collect();
    let line_of = |at: &KeyPath| {
        let exact = |(source, survey): &(&Source<'_>, lines::Survey)| {
            let (length, line) = survey.nearest(at)?;
            let name = source.name.to_owned();
            let origin = if source.is_variable { Origin::Variable(name) } else { Origin::File(name, line) };
            (length == at.as_str().len()).then_some(origin)
        };
        surveys.iter().find_map(exact).unwrap_or(Origin::Default)
    };
    let names = Names::of(&settings);
    let shown = settings.iter().map(|setting| {
        let path = names.named(setting.path());
        match (&setting.value, from_catalogue(&settings, setting)) {
            (Some(value), _) => {
                let origin = line_of(&setting.at);
                let is_found = matches!(&origin, Origin::File(name, _) if name == super::discover::SOURCE);
                let origin = if is_found { Origin::Environment } else { origin };
                Shown { path, value: value.clone(), origin }
            }
            (None, Some(value)) => Shown { path, value, origin: Origin::Catalogue },
            (None, None) => Shown { path, value: setting.default.clone(), origin: Origin::Default },
        }
    });
    let mut shown: Vec<Shown> = shown.collect();
    if !listens {
        let (path, value) = ("listen".to_owned(), LISTEN.to_owned());
        shown.insert(before.unwrap_or(0), Shown { path, value, origin: Origin::Default });
    }
    Ok(shown)
}

/// Finds what the catalogue says where the file is silent.
fn from_catalogue(settings: &[Setting], setting: &Setting) -> Option<String> {
    let rest = setting.path().strip_prefix("providers.")?;
    let kind_of = |provider: &str| {
        let path = format!("providers.{provider}.kind");
        let kind = settings.iter().find(|setting| setting.path() == path)?;
        catalog::find(kind.value.as_deref()?)
    };
    if let Some(provider) = rest.strip_suffix(".base_url") {
        return kind_of(provider)?.urls.last().map(|url| (*url).to_owned());
    }
    let (provider, rest) = rest.split_once(".models.")?;
    let (model, key) = rest.rsplit_once('.')?;
    let model = model.trim_end_matches(".price").trim_matches('"');
    let known = kind_of(provider)?.models.iter().find(|known| known.name == model)?;
    match key {
        "context" => known.context.map(|tokens| tokens.to_string()),
        "max_output" => known.max_output.map(|tokens| tokens.to_string()),
        "tier" => known.tier.map(|tier| tier.as_label().to_owned()),
        "input" => known.price.map(|(input, _)| input.to_string()),
        "output" => known.price.map(|(_, output)| output.to_string()),
        _ => None,
    }
}

/// Names of list entries, by the path with their number.
pub(super) struct Names(HashMap<String, String>);

impl Names {
    /// Finds the names.
    pub(super) fn of(settings: &[Setting]) -> Names {
        let mut parts: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
        for setting in settings {
            let Some((entry, key)) = setting.path().rsplit_once('.').filter(|(e, _)| e.ends_with(']')) else {
                continue;
            };
            let place = match key {
                "name" | "provider" | "address" | "match" => 0,
                "model" => 1,
                _ => continue,
            };
            if let (Some(parts), Some(value)) =
                (parts.entry(entry).or_default().get_mut(place), &setting.value)
            {
                *parts = Some(value);
            }
        }
        let mut taken: HashMap<String, usize> = HashMap::new();
        let named = parts.into_iter().filter_map(|(entry, parts)| {
            let name = parts.into_iter().flatten().collect::<Vec<_>>().join("/");
            let list = entry.rsplit_once('[')?.0;
            // The second of that name keeps its number, or two would be one.
            let count = taken.entry(format!("{list}[{name}]")).or_default();
            *count += 1;
            (*count == 1 && !name.is_empty()).then(|| (entry.to_owned(), format!("[{name}]")))
        });
        Names(named.collect())
    }

    /// Puts names in the place of numbers.
    pub(super) fn named(&self, path: &str) -> String {
        let mut named = String::with_capacity(path.len());
        let mut from = 0;
        for (at, _) in path.match_indices(']') {
            let upto = at + 1;
            let Some(entry) = path.get(..upto) else { continue };
            if let (Some(name), Some(open)) = (self.0.get(entry), entry.rfind('[')) {
                named.push_str(path.get(from..open).unwrap_or_default());
                named.push_str(name);
                from = upto;
            }
        }
        named.push_str(path.get(from..).unwrap_or_default());
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "threads: 2
providers:
  openai: {kind: openai, headers: {x-secret: hush}, credentials: [{name: work, key: {env: KEY}}, {name: home, key: sk-canary-1}]}
  far: {kind: openai, base_url: \"https://me:canary@far.example/v1\", credentials: [{name: k, key: {command: [/bin/echo, canary]}}]}
routes:
  chat: {targets: [{provider: openai, model: gpt-4.1}], defaults: {user: sk-canary-2}}
";

    #[test]
    fn a_secret_that_grew_on_the_line_above_is_not_shown() {
        for (kind, want) in [
            ("openai\n      key:hunter2", "***"),
            ("openai token=hunter2", "***"),
            ("openai is_a_monkey:x", "openai is_a_monkey:x"),
        ] {
            let text = format!("providers:\n  a:\n    kind: {kind}\n");
            let shown = show(&[source("a.yaml", &text)]).unwrap();
            let kind = shown.iter().find(|setting| setting.path == "providers.a.kind").unwrap();
            assert_eq!(kind.value, want);
        }
    }

    fn source<'a>(name: &'a str, text: &'a str) -> Source<'a> {
        Source { name, text, is_private: true, is_variable: false }
    }

    #[test]
    fn every_key_is_shown_with_its_origin_and_no_secret() {
        let shown = show(&[source("a.yaml", TEXT), source("conf.d/b.yaml", "grace: 5s\n")]).unwrap();
        let text: Vec<String> =
            shown.iter().map(|s| format!("{} = {} ({})", s.path, s.value, s.origin)).collect();
        for line in [
            "threads = 2 (a.yaml:1)",
            "grace = 5s (conf.d/b.yaml:1)",
            "breaker.open = 5s (default)",
            "providers.openai.base_url = https://api.openai.com/v1 (catalogue)",
            "providers.openai.credentials[work].key = {env: KEY} (a.yaml:3)",
            "providers.openai.credentials[home].key = *** (a.yaml:3)",
            "providers.openai.headers = {x-secret: ***} (a.yaml:3)",
            "providers.far.base_url = *** (a.yaml:4)",
            "providers.far.credentials[k].key = {command: [/bin/echo, …]} (a.yaml:4)",
            "routes.chat.targets[openai/gpt-4.1].priority = 1 (default)",
            "routes.chat.defaults = {\"user\":\"***\"} (a.yaml:6)",
            "hedge = null (default)",
        ] {
            assert!(text.iter().any(|told| told == line), "{line} is not in\n{}", text.join("\n"));
        }
        for secret in ["canary", "hush"] {
            assert!(!text.join("\n").contains(secret));
        }
        assert!(show(&[source("a.yaml", "thread: 2\n")]).is_err());
    }

    #[test]
    fn the_admin_plane_is_found_in_a_file_that_is_unsound_otherwise() {
        let found =
            admin_place(&[source("a.yaml", "admin: {address: \"127.0.0.1:7\", token: {env: T}}\nx: 1\n")])
                .unwrap();
        assert_eq!(found.address.as_deref(), Some("127.0.0.1:7"));
        assert_eq!(found.token, Some(SecretRef::Env("T".to_owned())));
        assert!(admin_place(&[source("a.yaml", "a: [\n")]).is_err());
    }
}
