//! What can be served with nothing but the environment?
//!
//! Every provider whose key or address stands in the environment is registered (contract section
//! 6): `OPENAI_API_KEY` and its like from the catalogue, `OLLAMA_HOST`, `*_BRIDGE_URL`. `_2`, `_3`, `_WORK` behind a key's name are further
//! credentials, used in that order. `OPENAI_BASE_URL` and `ANTHROPIC_BASE_URL` move those
//! providers, unless they point at ourselves: then a client's shell started us.
//!
//! The result is written as a file and read like any other, so that zero configuration obeys the
//! same checks, and `init --from-env` can write down what it means. The text holds names of
//! variables, never a key.
//!
//! Left out on purpose: `GOOGLE_APPLICATION_CREDENTIALS`, which many programs need for something
//! else, and a bridge whose switch is off; they are told as skipped. `GITHUB_TOKEN` and AWS's keys are
//! not looked at: they lie in many environments and were given to no language model.

use super::path::looks_secret;
use super::plan::Plan;
use super::reference::{Outside, SecretFault, SecretRef, secret_of};
use super::{Problem, Severity, Source, read};
use crate::base::api::Kind;
use crate::base::secret::Secret;
use crate::catalog::{self, Auth};
use std::borrow::Cow;
use std::fmt::{self, Write};

/// Port of the data plane without a file; a base URL that leads there leads to ourselves.
const OWN_PORT: u16 = 8080;
/// Name of the text that stands in for a file.
pub const SOURCE: &str = "environment";
/// Ollama's own port.
const OLLAMA_PORT: u16 = 11434;
/// Bridges that speak `/api/generate` only, and their kinds.
const GENERATE_BRIDGES: [(&str, &str); 2] =
    [("CLAUDE_BRIDGE_URL", "claude-bridge"), ("CLAUDE_CODE_BRIDGE_URL", "claude-code")];
/// Endings behind a key's name that mean something else than a further key.
const NO_KEY_ENDINGS: [&str; 4] = ["FILE", "PATH", "HELPER", "COMMAND"];

/// What the environment gives.
#[derive(Debug)]
pub struct Discovered {
    /// The configuration.
    pub plan: Plan,
    /// The same as a file.
    pub text: String,
    /// What was found, in the order in which it is tried.
    pub found: Vec<Found>,
    /// Variables that were seen and left out, each with the reason.
    pub skipped: Vec<String>,
}

/// One key or address that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of the provider in the configuration.
    pub provider: String,
    /// Name of the credential; `default` for the first.
    pub credential: String,
    /// The variable.
    pub variable: String,
    /// Last four characters of the key; empty where there is no key or it is too short to show.
    pub last_four: String,
    /// Whether there is a key.
    pub has_key: bool,
    /// What it serves.
    pub serves: Cow<'static, str>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.credential == "default" {
            self.provider.clone()
        } else {
            format!("{}/{}", self.provider, self.credential)
        };
        let key = if self.has_key { format!(" ····{}", self.last_four) } else { " (no key)".to_owned() };
        write!(f, "{name:<20} {}{key}  {}", self.variable, self.serves)
    }
}

/// Nothing that could be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NothingFound {
    /// The variables that were looked for.
    pub names: Vec<String>,
    /// Why what was found cannot be used; empty where nothing was found.
    pub problems: Vec<Problem>,
    /// As [`Discovered::skipped`].
    pub skipped: Vec<String>,
}

impl fmt::Display for NothingFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.skipped {
            writeln!(f, "{line}")?;
        }
        if self.problems.is_empty() {
            return write!(
                f,
                "no provider found: set one of {}, or name a file with -c (pointsman init writes one)",
                self.names.join(", ")
            );
        }
        for (index, problem) in self.problems.iter().enumerate() {
            let end = if index + 1 < self.problems.len() { "\n" } else { "" };
            write!(f, "{problem}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NothingFound {}

/// Looks through the environment: `names` returns a variable, `all` lists those that are there.
///
/// # Errors
/// When nothing was found, or what was found cannot be used.
pub fn discover(names: &dyn Fn(&str) -> Option<String>, all: &[String]) -> Result<Discovered, NothingFound> {
    let mut search = Search { names, all, text: String::new(), found: Vec::new(), skipped: Vec::new() };
    search.catalogue();
    search.ollama();
    search.bridges();
    let Search { text, found, skipped, .. } = search;
    if found.is_empty() {
        return Err(NothingFound { names: looked_for(), problems: Vec::new(), skipped });
    }
    let text = format!("version: 1\nproviders:\n{text}");
    let source = Source { name: SOURCE, text: &text, is_private: true, is_variable: false };
    let reading = read(&source, &Environment { names });
    if let Some(plan) = reading.plan {
        return Ok(Discovered { plan, text, found, skipped });
    }
    let mut problems = reading.problems;
    problems.retain(|problem| problem.severity == Severity::Error);
    for problem in &mut problems {
        // The lines are those of a text that nobody has seen.
        problem.line = None;
    }
    Err(NothingFound { names: looked_for(), problems, skipped })
}

/// The variables as an [`Outside`].
struct Environment<'a> {
    names: &'a dyn Fn(&str) -> Option<String>,
}

impl Outside for Environment<'_> {
    fn env(&self, name: &str) -> Option<String> {
        (self.names)(name)
    }

    fn secret(&self, what: &SecretRef) -> Result<Secret, SecretFault> {
        match what {
            SecretRef::Env(name) => secret_of((self.names)(name).ok_or(SecretFault::NotSet)?),
            SecretRef::Literal(secret) => Ok(secret.clone()),
            // The text above names nothing else.
            SecretRef::File(_) | SecretRef::Credential(_) | SecretRef::Command(_) => {
                Err(SecretFault::Missing)
            }
        }
    }
}

struct Search<'a> {
    names: &'a dyn Fn(&str) -> Option<String>,
    all: &'a [String],
    text: String,
    found: Vec<Found>,
    skipped: Vec<String>,
}

impl Search<'_> {
    /// Returns a variable that is there and not empty.
    fn get(&self, name: &str) -> Option<String> {
        (self.names)(name).filter(|value| !value.trim().is_empty())
    }

    fn catalogue(&mut self) {
        for entry in catalog::entries() {
            // Bridges are looked for by the endings of their variables; Ollama by its own.
            let is_bridge = entry.urls.iter().any(|url| url.ends_with("_BRIDGE_URL}"));
            if is_bridge || entry.name == "ollama" {
                continue;
            }
            let kind = entry.kind;
            let first = entry.env.iter().find(|name| self.get(name).is_some());
            let Some(variable) = first.or(entry.env.first()).copied() else { continue };
            let base_url = entry.env_base_url.and_then(|name| {
                let value = self.get(name)?;
                (!is_own(&value)).then_some(name)
            });
            let keys = self.keys(variable);
            let base = base_url.map(|name| format!("\"${{{name}}}\""));
            let missing = entry.missing(&|name| {
                let is_region = name == "AWS_REGION" && self.get("AWS_DEFAULT_REGION").is_some();
                // A further key (`OPENAI_API_KEY_WORK`) will do where the first is not set.
                let is_key = name == variable && !keys.is_empty();
                is_region || is_key || entry.counts(name, self.get(name).as_deref())
            });
            if entry.auth == Auth::Google {
                if !keys.is_empty() && missing.is_none() {
                    let name = entry.name;
                    self.skipped.push(format!("{variable} is left out: a file with kind: {name} can use it"));
                }
            } else if let (false, Some(missing), true) = (keys.is_empty(), missing, base.is_none()) {
                self.skipped.push(format!("{variable} is left out: {missing} is not set"));
            } else if !keys.is_empty() {
                self.provider(entry.name, entry.name, base.as_deref(), false);
                self.credentials(entry.name, &keys, serves(kind));
            } else if let Some(name) = base_url {
                self.provider(entry.name, entry.name, base.as_deref(), false);
                self.keyless(entry.name, name, serves(kind));
            }
        }
    }

    fn ollama(&mut self) {
        if let Some(host) = self.get("OLLAMA_HOST") {
            let base = quoted(&ollama_url(&host));
            self.provider("ollama", "ollama", Some(&base), true);
            self.keyless("ollama", "OLLAMA_HOST", "ollama/MODEL");
        }
    }

    fn bridges(&mut self) {
        let mut variables: Vec<&String> = self.all.iter().filter(|name| is_bridge(name)).collect();
        variables.sort();
        variables.dedup();
        for variable in variables {
            let Some(url) = self.get(variable) else { continue };
            if let Some((_, kind)) = GENERATE_BRIDGES.iter().find(|(name, _)| name == variable) {
                self.generate_bridge(variable, kind, &url);
                continue;
            }
            let stem = variable.strip_suffix("_URL").unwrap_or(variable);
            let name = stem.to_ascii_lowercase().replace('_', "-");
            let named = |name: &str| catalog::find(name).map(|entry| entry.name);
            let known = match variable.as_str() {
                "CODEX_BRIDGE_URL" => named("codex"),
                // One bridge by two names; with both there are two.
                "OPENAI_CODEX_BRIDGE_URL" if self.get("CODEX_BRIDGE_URL").is_none() => named("codex"),
                "OPENAI_CODEX_BRIDGE_URL" => None,
                _ => named(&name),
            };
            let (name, kind) = known.map_or((name.as_str(), "openai"), |known| (known, known));
            let base = quoted(&with_v1(&url));
            self.provider(name, kind, Some(&base), true);
            self.keyless(name, variable, format!("{name}/MODEL"));
        }
    }

    fn generate_bridge(&mut self, variable: &str, kind: &str, url: &str) {
        let switch = catalog::find(kind).and_then(|entry| entry.switch);
        if let Some(switch) = switch.filter(|switch| self.get(switch).as_deref() != Some("true")) {
            self.skipped.push(format!("{variable} is left out: {switch} is not true"));
            return;
        }
        self.provider(kind, kind, Some(&quoted(url.trim())), true);
        self.keyless(kind, variable, serves(Kind::GenerateBridge));
    }

    /// Finds a key and its further ones: `NAME` first, then `NAME_2`, `NAME_3`, …, then words.
    fn keys(&self, variable: &str) -> Vec<(String, String)> {
        let mut further: Vec<(u64, &str, &String)> = self
            .all
            .iter()
            .filter_map(|name| {
                let ending = name.strip_prefix(variable)?.strip_prefix('_')?;
                let is_ending = !ending.is_empty()
                    && ending.len() <= 48
                    && ending.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
                    && !NO_KEY_ENDINGS.contains(&ending)
                    && !looks_secret(ending);
                is_ending.then(|| (ending.parse().unwrap_or(u64::MAX), ending, name))
            })
            .collect();
        further.sort_unstable();
        further.dedup();
        let first = ("default".to_owned(), variable.to_owned());
        std::iter::once(first)
            .chain(further.into_iter().map(|(_, ending, name)| (ending.to_ascii_lowercase(), name.clone())))
            .filter(|(_, name)| self.get(name).is_some())
            .collect()
    }

    fn provider(&mut self, name: &str, kind: &str, base_url: Option<&str>, allow_plaintext: bool) {
        self.line(&format!("  {name}:"));
        self.line(&format!("    kind: {kind}"));
        if let Some(base_url) = base_url {
            self.line(&format!("    base_url: {base_url}"));
        }
        if allow_plaintext {
            self.line("    allow_plaintext: true");
        }
        // A server of another make than its kind's: its models are not the kind's.
        if name != kind {
            self.line("    models: {}");
        }
    }

    fn credentials(&mut self, provider: &str, keys: &[(String, String)], serves: &'static str) {
        self.line("    credentials:");
        for (credential, variable) in keys {
            self.line(&format!("      - {{name: \"{credential}\", key: {{env: {variable}}}}}"));
            let key = Secret::new(self.get(variable).unwrap_or_default());
            self.found.push(Found {
                provider: provider.to_owned(),
                credential: credential.clone(),
                variable: variable.clone(),
                last_four: key.last_four().escape_debug().to_string(),
                has_key: true,
                serves: serves.into(),
            });
        }
    }

    fn keyless(&mut self, provider: &str, variable: &str, serves: impl Into<Cow<'static, str>>) {
        self.found.push(Found {
            provider: provider.to_owned(),
            credential: "default".to_owned(),
            variable: variable.to_owned(),
            last_four: String::new(),
            has_key: false,
            serves: serves.into(),
        });
    }

    fn line(&mut self, text: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.text, "{text}");
    }
}

fn serves(kind: Kind) -> &'static str {
    match kind {
        Kind::OpenAi | Kind::Copilot | Kind::Ollama => "chat, responses, embeddings",
        Kind::Anthropic => "messages",
        Kind::Gemini => "generateContent, embeddings",
        Kind::Vertex => "generateContent, messages",
        Kind::Bedrock => "converse",
        Kind::Cohere => "chat, embeddings",
        Kind::GenerateBridge => "generate",
    }
}

/// The names for the message when nothing was found.
fn looked_for() -> Vec<String> {
    let keys = catalog::entries().filter(|entry| entry.needs_key && entry.auth != Auth::Google);
    let mut names: Vec<&str> = Vec::new();
    for name in keys.filter_map(|entry| entry.env.first().copied()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().chain(["OLLAMA_HOST", "*_BRIDGE_URL"]).map(str::to_owned).collect()
}

fn is_bridge(name: &str) -> bool {
    name.strip_suffix("_BRIDGE_URL").is_some_and(|stem| {
        !stem.is_empty()
            && name.len() <= 60
            && stem.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    })
}

/// Tells whether a base URL leads to our own listener.
fn is_own(url: &str) -> bool {
    let Ok(url) = super::check::url::BaseUrl::parse(url.trim()) else { return false };
    url.is_loopback() && url.port == OWN_PORT
}

/// Puts `/v1` behind an address that lacks it.
fn with_v1(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    if url.ends_with("/v1") { url.to_owned() } else { format!("{url}/v1") }
}

/// Reads Ollama's variable as its own client does: the scheme, port and host may each be left
/// out, and the server's 0.0.0.0 means this machine. Source: ollama `envconfig.Host` (from memory).
fn ollama_url(host: &str) -> String {
    let host = host.trim().trim_end_matches('/');
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let behind_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let has_port = authority.get(behind_brackets..).is_some_and(|rest| rest.contains(':'));
    // 443 is the usual port of a server that was put behind TLS.
    let port = if scheme.eq_ignore_ascii_case("https") { 443 } else { OLLAMA_PORT };
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
    let authority = match authority.rsplit_once(':') {
        Some(("" | "0.0.0.0" | "[::]", port)) => format!("127.0.0.1:{port}"),
        Some(_) | None => authority,
    };
    with_v1(&format!("{scheme}://{authority}{path}"))
}

/// Quotes a value so that YAML takes it as text; JSON's quoting is also YAML's.
fn quoted(text: &str) -> String {
    // A `${` in an address is not a variable of ours.
    serde_json::Value::String(text.replace("${", "$%7B")).to_string()
}

#[cfg(test)]
mod tests;
