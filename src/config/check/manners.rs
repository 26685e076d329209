//! How does the operator want a provider to be spoken to?
//!
//! Extra headers, the header that carries the key, paths of single calls. What is ours to say, or
//! could carry a key where nobody looks for one, is refused; nothing of a value is ever repeated.

use super::Bench;
use crate::base::api::{Api, Kind};
use crate::base::secret::Secret;
use crate::catalog::{Auth, Entry};
use crate::config::path::{KeyPath, did_you_mean, shown};
use crate::config::plan::Proof;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;

/// Longest path of a call.
const PATH_MAX: usize = 512;

/// Headers that are ours to set, or that would break the connection.
const OUR_HEADERS: [&str; 15] = [
    "accept-encoding",
    "authorization",
    "x-api-key",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "content-type",
];

/// What the names of our own headers begin with; one of them keeps requests from going round.
const OUR_PREFIX: &str = "x-pointsman-";

/// Headers of which some carry keys, and none may carry one but by `credentials`.
const KEY_HEADERS: [&str; 2] = ["authorization", "x-api-key"];

/// Calls by the words under which `paths` names them.
const CALLS: [(&str, Api); 9] = [
    ("chat_completions", Api::ChatCompletions),
    ("completions", Api::Completions),
    ("embeddings", Api::Embeddings),
    ("responses", Api::Responses),
    ("messages", Api::Messages),
    ("count_tokens", Api::CountTokens),
    ("cohere_chat", Api::CohereChat),
    ("ollama_chat", Api::OllamaChat),
    ("generate", Api::Generate),
];

/// Checks `auth`; where it is not written the catalogue's way counts. A bridge that wants no key is
/// sent one all the same where the file has one for it.
pub(super) fn check_proof(
    bench: &Bench<'_>,
    at: &KeyPath,
    written: Option<&str>,
    entry: &Entry,
    has_keys: bool,
) -> Proof {
    let at = at.key("auth");
    match written {
        Some("bearer") => Proof::Bearer,
        Some("none") => Proof::None,
        Some(name) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if name == "authorization" => {
                bench.faults.error(&at, "write bearer for Authorization: Bearer");
                Proof::AsKind
            }
            Ok(name) if OUR_HEADERS.contains(&name.as_str()) && !KEY_HEADERS.contains(&name.as_str()) => {
                bench.faults.error(&at, "names a header that is the connection's and cannot carry a key");
                Proof::AsKind
            }
            Ok(name) => Proof::Header(name),
            Err(_) => {
                bench.faults.error(&at, "must be bearer, none, or the name of an HTTP header");
                Proof::AsKind
            }
        },
        None => match entry.auth {
            Auth::Header(name) => Proof::Header(HeaderName::from_static(name)),
            Auth::None if !has_keys => Proof::None,
            Auth::None | Auth::Bearer | Auth::Anthropic | Auth::Aws | Auth::Google | Auth::Copilot => {
                Proof::AsKind
            }
        },
    }
}

/// Checks `paths`: each is put behind the base URL's own path.
pub(super) fn check_paths(
    bench: &Bench<'_>,
    base_path: &str,
    kind: Kind,
    table: Vec<(KeyPath, String, String)>,
) -> Vec<(Api, Arc<str>)> {
    let mut paths = Vec::new();
    for (at, word, path) in table {
        let Some((_, api)) = CALLS.iter().find(|(known, _)| *known == word) else {
            let near = did_you_mean(&word, CALLS.iter().map(|(known, _)| *known));
            let list = CALLS.map(|(known, _)| known).join(", ");
            bench.faults.error(&at, format!("{} is not one of {list}{near}", shown(&word)));
            continue;
        };
        let Some(path) = bench.expand(&at, &path) else { continue };
        let bare = path.replace("{model}", "m");
        let is_sound = path.starts_with('/')
            && path.len() <= PATH_MAX
            && bare.bytes().all(|b| b.is_ascii_graphic() && !b"#\\\"<>{}|^`".contains(&b))
            && !path.contains("//")
            && path.matches('?').count() <= 1
            && !bare.split(['/', '?']).any(|segment| matches!(segment, "." | ".."));
        if is_sound {
            paths.push((*api, format!("{}{path}", base_path.trim_end_matches('/')).into()));
        } else {
            bench.faults.error(
                &at,
                format!("must be a path such as /chat/completions, of at most {PATH_MAX} plain letters"),
            );
        }
        if !kind.speaks(*api) && !matches!(api, Api::Messages | Api::CountTokens) {
            bench.faults.error(&at, format!("a server of kind {} does not take this call", kind.as_label()));
        }
    }
    paths
}

/// Paths of calls that people copy along with a base URL; the longest of one kind first.
const CALL_PATHS: [&str; 7] = [
    "/chat/completions",
    "/completions",
    "/v1/messages/count_tokens",
    "/v1/messages",
    "/messages",
    "/responses",
    "/embeddings",
];

/// Returns the call whose path a base URL ends with.
pub(super) fn call_of(path: &str) -> Option<&'static str> {
    CALL_PATHS.iter().find(|call| path.ends_with(*call)).copied()
}

/// Puts the kind's own path behind an address's, which may have it, or the beginning of it, already; or
/// the one below which the kind's own dialect is.
pub(super) fn join(kind: Kind, path: &str, prefix: &str) -> String {
    let path = path.trim_end_matches('/');
    let own: &[&str] = match kind {
        Kind::Cohere if !path.ends_with(prefix) => &["/v1", "/v2"],
        Kind::Ollama => &["/api"],
        Kind::OpenAi
        | Kind::Anthropic
        | Kind::Gemini
        | Kind::Vertex
        | Kind::Bedrock
        | Kind::Copilot
        | Kind::Cohere
        | Kind::GenerateBridge => &[],
    };
    let path = own.iter().find_map(|own| path.strip_suffix(own)).unwrap_or(path);
    if path.ends_with(prefix) {
        path.to_owned()
    } else if prefix.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')) {
        prefix.to_owned()
    } else {
        format!("{path}{prefix}")
    }
}

/// Checks `headers`, and returns the words of their values that are secret as well: those of a value with a
/// variable. What stands in the file as it is may be any word.
pub(super) fn check_headers(
    bench: &Bench<'_>,
    table: Vec<(KeyPath, String, String)>,
) -> (Vec<(HeaderName, HeaderValue)>, Vec<Secret>) {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut secrets = Vec::new();
    for (at, name, written) in table {
        let value = bench.expand(&at, &written);
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            bench.faults.error(&at, "is not the name of an HTTP header");
            continue;
        };
        if OUR_HEADERS.contains(&name.as_str()) || name.as_str().starts_with(OUR_PREFIX) {
            bench.faults.error(
                &at,
                "cannot be set here: keys belong under credentials, and the rest is the proxy's to say",
            );
            continue;
        }
        if headers.iter().any(|(other, _)| *other == name) {
            bench.faults.error(&at, "is given twice, in different letters");
            continue;
        }
        let Some(value) = value else { continue };
        if written.contains("${") {
            secrets.extend(value.split_ascii_whitespace().map(|word| Secret::new(word.to_owned())));
        }
        let is_plain = value.bytes().all(|b| (b' '..=b'~').contains(&b)) && value.trim() == value;
        match HeaderValue::from_str(&value) {
            Ok(mut value) if is_plain => {
                // It may be a key; this keeps it out of every `Debug`.
                value.set_sensitive(true);
                headers.push((name, value));
            }
            Ok(_) | Err(_) => bench.faults.error(&at, "has a value that cannot be sent in an HTTP header"),
        }
    }
    (headers, secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_own_path_is_never_doubled() {
        for (path, prefix, want) in [
            ("", "", ""),
            ("/v1", "", "/v1"),
            ("", "/v1", "/v1"),
            ("/v1", "/v1", "/v1"),
            ("/proxy", "/v1", "/proxy/v1"),
            ("", "/openai/v1", "/openai/v1"),
            ("/openai", "/openai/v1", "/openai/v1"),
            ("/openai/v1", "/openai/v1", "/openai/v1"),
            ("/eu/openai/v1", "/openai/v1", "/eu/openai/v1"),
        ] {
            assert_eq!(join(Kind::OpenAi, path, prefix), want, "{path} and {prefix}");
        }
        for (kind, path, prefix, want) in [
            (Kind::Cohere, "", "/compatibility/v1", "/compatibility/v1"),
            (Kind::Cohere, "/v1", "/compatibility/v1", "/compatibility/v1"),
            (Kind::Cohere, "/x/v2/", "/compatibility/v1", "/x/compatibility/v1"),
            (Kind::Cohere, "/compatibility", "/compatibility/v1", "/compatibility/v1"),
            (Kind::Cohere, "/x/compatibility/v1", "/compatibility/v1", "/x/compatibility/v1"),
            (Kind::Ollama, "/api", "/v1", "/v1"),
            (Kind::Ollama, "/x/api/", "/v1", "/x/v1"),
            (Kind::Ollama, "/v1", "/v1", "/v1"),
        ] {
            assert_eq!(join(kind, path, prefix), want, "{kind:?} {path}");
        }
    }
}
