//! The path and query for a target.
//!
//! The call is joined to the provider's base path as that provider's own SDK does it, never
//! doubling `/v1`; the query is kept but for parameters that carry keys.

use crate::base::api::{Api, Kind};
use std::fmt::Write as _;

/// Joins the call to the provider's base path, as the provider's own SDK does: OpenAI's appends
/// `/chat/completions` to a base that ends in `/v1` (or whatever it ends in), Anthropic's appends
/// `/v1/messages` to the bare origin, and `/messages` here where the base ends in `/v1` already.
/// `query` has lost its keys already ([`query_without_keys`]). Calls whose path carries the model
/// are not built here.
#[must_use]
pub fn upstream_path(kind: Kind, api: Api, base_path: &str, query: Option<&str>) -> String {
    let base = base_path.trim_end_matches('/');
    let version = match kind {
        Kind::OpenAi => "",
        Kind::Anthropic if base.ends_with("/v1") => "",
        Kind::Anthropic => "/v1",
    };
    let mut path = [base, version, api.path_below_v1().unwrap_or("/")].concat();
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        path.push('?');
        path.push_str(query);
    }
    path
}

/// Makes the path of Gemini's calls, which carry the model and whether the answer is streamed: below
/// `/v1beta` where the base path names no version itself.
#[must_use]
pub fn generate_path(base_path: &str, model: &str, is_stream: bool, query: Option<&str>) -> String {
    let base = base_path.trim_end_matches('/');
    let version = if base.ends_with("/v1beta") || base.ends_with("/v1") { "" } else { "/v1beta" };
    let mut path = [base, version, "/models/"].concat();
    push_escaped(&mut path, model.strip_prefix("models/").unwrap_or(model));
    path.push_str(if is_stream { ":streamGenerateContent" } else { ":generateContent" });
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        path.push('?');
        path.push_str(query);
    }
    path
}

/// Fills the path that the file gives for a call: `{model}` becomes the model's name, escaped, and
/// the query is put behind the path's own.
#[must_use]
pub fn templated_path(template: &str, model: &str, query: Option<&str>) -> String {
    let mut path = String::with_capacity(template.len() + model.len() + query.map_or(0, str::len) + 1);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{model}") {
        path.push_str(before);
        push_escaped(&mut path, model);
        rest = after;
    }
    path.push_str(rest);
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        path.push(if template.contains('?') { '&' } else { '?' });
        path.push_str(query);
    }
    path
}

/// Escapes everything that is not unreserved (RFC 3986 section 2.3), slashes and colons too: a model
/// is one segment of a path.
fn push_escaped(path: &mut String, model: &str) {
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

/// Joins the path of a request that is passed through as it is to a provider's base path. The
/// client's `/v1` stands for the base path, as in the provider's own SDK. The query loses its keys.
#[must_use]
pub fn forwarded_path(base_path: &str, uri: &http::Uri, presented_keys: &[&[u8]]) -> String {
    let below = uri.path().strip_prefix("/v1").unwrap_or(uri.path());
    let mut path = format!("{base_path}{below}");
    let query = query_without_keys(uri.query().unwrap_or_default(), presented_keys);
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
    path
}

/// Query parameters that carry keys.
const KEY_PARAMETERS: [&str; 5] = ["key", "api_key", "access_token", "api-key", "token"];

/// Returns the query without parameters that carry keys, by their name or because they hold what
/// the client proved itself with here; the others stay byte for byte.
#[must_use]
pub fn query_without_keys(query: &str, presented_keys: &[&[u8]]) -> String {
    let carries_key = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        let name = percent_decoded(name);
        KEY_PARAMETERS.iter().any(|key| name.trim_ascii().eq_ignore_ascii_case(key.as_bytes()))
            || super::holds_any(&percent_decoded(parameter), presented_keys)
    };
    let mut kept = String::new();
    // Some servers take `;` for a separator too.
    for parameter in query.split_inclusive(['&', ';']) {
        let bare = parameter.trim_end_matches(['&', ';']);
        if !bare.is_empty() && !carries_key(bare) {
            kept.push_str(parameter);
        }
    }
    kept.truncate(kept.trim_end_matches(['&', ';']).len());
    kept
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            (b'+', _, _) => {
                decoded.push(b' ');
                at += 1;
            }
            (other, _, _) => {
                decoded.push(*other);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join_as_the_sdks_join_them_and_never_double_the_version() {
        use Api::{ChatCompletions, CountTokens, Messages, Responses};
        for (kind, api, base, want) in [
            (Kind::OpenAi, ChatCompletions, "/v1", "/v1/chat/completions"),
            (Kind::OpenAi, ChatCompletions, "/v1/", "/v1/chat/completions"),
            (Kind::OpenAi, ChatCompletions, "", "/chat/completions"),
            (Kind::OpenAi, Responses, "/openai/v1", "/openai/v1/responses"),
            (Kind::OpenAi, ChatCompletions, "/v1beta/openai", "/v1beta/openai/chat/completions"),
            (Kind::Anthropic, Messages, "", "/v1/messages"),
            (Kind::Anthropic, Messages, "/v1", "/v1/messages"),
            (Kind::Anthropic, CountTokens, "/anthropic", "/anthropic/v1/messages/count_tokens"),
        ] {
            assert_eq!(upstream_path(kind, api, base, None), want);
        }
    }

    #[test]
    fn a_path_of_geminis_carries_the_model_and_the_form_of_the_answer() {
        for (base, model, is_stream, query, want) in [
            ("", "gemini-2.5-pro", false, None, "/v1beta/models/gemini-2.5-pro:generateContent"),
            ("/v1beta/", "g", true, Some("alt=sse"), "/v1beta/models/g:streamGenerateContent?alt=sse"),
            ("/x/v1", "models/a/b", false, Some(""), "/x/v1/models/a%2Fb:generateContent"),
        ] {
            assert_eq!(generate_path(base, model, is_stream, query), want);
        }
    }

    #[test]
    fn a_path_of_the_file_takes_the_model_and_the_query() {
        let azure = "/openai/deployments/{model}/chat/completions?api-version=2024-10-21";
        for (template, model, query, want) in [
            ("/v1/chat", "m", None, "/v1/chat"),
            ("/v1/chat", "m", Some("a=b"), "/v1/chat?a=b"),
            (
                azure,
                "gpt 4/o:1",
                None,
                "/openai/deployments/gpt%204%2Fo%3A1/chat/completions?api-version=2024-10-21",
            ),
            (azure, "m", Some("a=b"), "/openai/deployments/m/chat/completions?api-version=2024-10-21&a=b"),
            ("/{model}/{model}", "{model}", Some(""), "/%7Bmodel%7D/%7Bmodel%7D"),
        ] {
            assert_eq!(templated_path(template, model, query), want);
        }
    }

    #[test]
    fn a_query_loses_its_keys_and_nothing_else() {
        for (query, want) in [
            ("beta=true", "beta=true"),
            ("key=sk-1", ""),
            ("beta=true&KEY=sk-1", "beta=true"),
            ("k%65y=sk-1&a=%20b&api_key=x", "a=%20b"),
            ("Api-Key=x;access_token=y;b=1", "b=1"),
            ("a=1;token=x&c", "a=1;c"),
            ("tokens=1&monkey=2&key2", "tokens=1&monkey=2&key2"),
            ("+key=sk", ""),
            ("a&&key&b=%", "a&b=%"),
            ("", ""),
        ] {
            assert_eq!(query_without_keys(query, &[]), want, "{query}");
        }
        for (query, want) in [
            ("a=1&foo=pm-secret&b=2", "a=1&b=2"),
            ("a=1&foo=%70m-s%65cret", "a=1"),
            ("pm-secret&a=1", "a=1"),
            ("foo=xxother-12yy", ""),
            ("foo=pm-", "foo=pm-"),
            ("foo=none", "foo=none"),
        ] {
            assert_eq!(
                query_without_keys(query, &[b"pm-secret", b"", b"none", b"other-12"]),
                want,
                "{query}"
            );
        }
        assert_eq!(upstream_path(Kind::OpenAi, Api::Responses, "/v1", Some("")), "/v1/responses");
        assert_eq!(upstream_path(Kind::OpenAi, Api::Responses, "/v1", Some("a=b")), "/v1/responses?a=b");
    }
}
