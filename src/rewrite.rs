//! What do path, headers and body become for this target?
//!
//! *Body*: the model's name is put in the place of the client's, absent defaults are appended
//! before the closing brace, every other byte stays. Up to 64 KiB the result is one piece; above,
//! it is slices of the client's own bytes with the new text between them, so that a 20 MB upload
//! is never copied for an attempt.
//!
//! *Path*: the call is joined to the provider's base path as that provider's own SDK does it, never
//! doubling `/v1`; the query is kept but for parameters that carry keys (threat C1).
//!
//! *Request headers*: an allow-list. What is not known to be harmless and useful to a provider
//! stays here: a new tool's new secret header must not leak before someone thought of it. Names
//! that smell of credentials and values that hold the presented key are dropped even when a
//! pattern would let them in.
//!
//! *Response headers*: a deny-list of what is the hop's, the provider's own affair (threat P3), or
//! ours to set.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use smallvec::SmallVec;

use crate::base::api::{Api, Kind};
use crate::parse::Parsed;

/// Largest body that is put together in one piece; copying this much costs less than another
/// write. 64 KiB, Pingora's own unit of body I/O.
pub const ONE_PIECE_MAX: usize = 64 * 1024;

/// A body as it goes to a provider.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    /// Pieces to send, in order.
    pub pieces: SmallVec<[Bytes; 4]>,
    /// Length of all pieces together.
    pub len: usize,
}

/// The names under which the dialects limit the answer's length; one is enough.
const LENGTH_LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// Writes the body for a target: its model's name instead of the client's (added where the client
/// sent none), and the defaults for members that the client did not send. `original` is the body
/// that was parsed.
#[must_use]
pub fn body(original: &Bytes, parsed: &Parsed, model: &str, defaults: &[(String, String)]) -> Rewritten {
    let keeps_model = parsed.model.as_deref() == Some(model) || !names_model(parsed.api);
    let added = added_members(original, parsed, model, defaults, keeps_model);
    let mut pieces: SmallVec<[Cow<'_, [u8]>; 4]> = SmallVec::new();
    let mut from = 0;
    if let (Some(span), false) = (&parsed.model_span, keeps_model) {
        pieces.push(Cow::Borrowed(original.get(..span.start).unwrap_or_default()));
        pieces.push(Cow::Owned(quoted(model).into_bytes()));
        from = span.end;
    }
    if !added.is_empty() {
        pieces.push(Cow::Borrowed(original.get(from..parsed.close).unwrap_or_default()));
        pieces.push(Cow::Owned(added.into_bytes()));
        from = parsed.close;
    }
    pieces.push(Cow::Borrowed(original.get(from..).unwrap_or_default()));
    let len = pieces.iter().map(|piece| piece.len()).sum();
    let pieces = if pieces.len() == 1 {
        SmallVec::from_iter([original.clone()])
    } else if original.len() <= ONE_PIECE_MAX {
        SmallVec::from_iter([Bytes::from(pieces.concat())])
    } else {
        let piece = |piece| match piece {
            Cow::Borrowed(slice) => original.slice_ref(slice),
            Cow::Owned(text) => Bytes::from(text),
        };
        pieces.into_iter().map(piece).collect()
    };
    Rewritten { pieces, len }
}

/// Writes the members to append, with their commas.
fn added_members(
    original: &[u8],
    parsed: &Parsed,
    model: &str,
    defaults: &[(String, String)],
    keeps_model: bool,
) -> String {
    let mut added = String::new();
    let mut add = |name: &str, json: &str| {
        if !added.is_empty() || !parsed.is_empty {
            added.push(',');
        }
        added.push_str(&quoted(name));
        added.push(':');
        added.push_str(json);
    };
    if parsed.model_span.is_none() && !keeps_model {
        add("model", &quoted(model));
    }
    let has_limit = LENGTH_LIMITS.iter().any(|name| parsed.has(original, name));
    let mut set_limit = false;
    for (name, json) in defaults {
        let is_limit = LENGTH_LIMITS.contains(&name.as_str());
        let is_there =
            parsed.has(original, name) || name == "model" || (is_limit && (has_limit || set_limit));
        if is_there || !takes_default(parsed.api, name) {
            continue;
        }
        set_limit |= is_limit;
        add(if is_limit { length_limit(parsed.api, name) } else { name }, json);
    }
    added
}

/// Tells whether the call names its model in the body.
fn names_model(api: Api) -> bool {
    match api {
        Api::ChatCompletions
        | Api::Completions
        | Api::Embeddings
        | Api::Responses
        | Api::Messages
        | Api::CountTokens => true,
        Api::GenerateContent => false,
    }
}

/// Tells whether a default may be set in this call. A route serves every call that its providers
/// speak, and providers refuse members they do not know: embeddings and token counts take none of
/// the members that steer generation.
fn takes_default(api: Api, name: &str) -> bool {
    let steers_generation = LENGTH_LIMITS.contains(&name)
        || matches!(
            name,
            "temperature"
                | "top_p"
                | "top_k"
                | "min_p"
                | "stop"
                | "stop_sequences"
                | "presence_penalty"
                | "frequency_penalty"
                | "repetition_penalty"
                | "seed"
                | "n"
                | "logprobs"
                | "top_logprobs"
                | "stream"
                | "stream_options"
                | "reasoning_effort"
                | "response_format"
                | "service_tier"
        );
    match api {
        Api::Embeddings | Api::CountTokens => !steers_generation,
        Api::ChatCompletions | Api::Completions | Api::Responses | Api::Messages | Api::GenerateContent => {
            true
        }
    }
}

/// Returns the name that the call has for a limit of the answer's length.
fn length_limit(api: Api, name: &str) -> &str {
    match api {
        Api::Responses => "max_output_tokens",
        Api::Messages | Api::Completions => "max_tokens",
        Api::ChatCompletions if name == "max_output_tokens" => "max_completion_tokens",
        Api::ChatCompletions | Api::Embeddings | Api::CountTokens | Api::GenerateContent => name,
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Joins the call to the provider's base path, as the provider's own SDK does: OpenAI's appends
/// `/chat/completions` to a base that ends in `/v1` (or whatever it ends in), Anthropic's appends
/// `/v1/messages` to the bare origin, and `/messages` here where the base ends in `/v1` already.
/// Calls whose path carries the model are not built here.
#[must_use]
pub fn upstream_path(kind: Kind, api: Api, base_path: &str, query: Option<&str>) -> String {
    let base = base_path.trim_end_matches('/');
    let version = match kind {
        Kind::OpenAi => "",
        Kind::Anthropic if base.ends_with("/v1") => "",
        Kind::Anthropic => "/v1",
    };
    let mut path = [base, version, api.path_below_v1().unwrap_or("/")].concat();
    let query = query.map(query_without_keys).unwrap_or_default();
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
    path
}

/// Joins the path of a request that is passed through as it is to a provider's base path. The
/// client's `/v1` stands for the base path, as in the provider's own SDK.
#[must_use]
pub fn forwarded_path(base_path: &str, uri: &http::Uri) -> String {
    let below = uri.path().strip_prefix("/v1").unwrap_or(uri.path());
    let mut path = format!("{base_path}{below}");
    let query = query_without_keys(uri.query().unwrap_or_default());
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
    path
}

/// Query parameters that carry keys.
const KEY_PARAMETERS: [&str; 5] = ["key", "api_key", "access_token", "api-key", "token"];

/// Returns the query without parameters that carry keys; the others stay byte for byte.
#[must_use]
pub fn query_without_keys(query: &str) -> String {
    let carries_key = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        let name = percent_decoded(name);
        KEY_PARAMETERS.iter().any(|key| name.trim_ascii().eq_ignore_ascii_case(key.as_bytes()))
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

/// Request headers that pass by name.
const PASSED: [&str; 26] = [
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "content-type",
    "conversation-id",
    "conversation_id",
    "helicone-session-id",
    "http-referer",
    "idempotency-key",
    "openai-beta",
    "openai-intent",
    "originator",
    "session-id",
    "session_id",
    "thread-id",
    "thread_id",
    "user-agent",
    "version",
    "x-app",
    "x-client-request-id",
    "x-initiator",
    "x-openai-subagent",
    "x-session-affinity",
    "x-session-id",
    "x-title",
    "x-ms-client-request-id",
];

/// Families of request headers that pass by prefix, unless the name smells of credentials.
const PASSED_PREFIXES: [&str; 3] = ["x-stainless-", "x-codex-", "x-claude-code-"];

/// What no name of a passing family may hold: credentials, and whose account is billed.
const SUSPICIOUS: [&str; 10] =
    ["key", "auth", "token", "secret", "cookie", "password", "credential", "org", "project", "account"];

/// Returns the client's headers that a provider may see. `presented_key` is what the client
/// proved itself with here; a header that holds it never passes.
pub fn request_headers<'a>(
    client: &'a HeaderMap,
    presented_key: Option<&'a str>,
) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
    let key = presented_key.map(str::trim).filter(|key| !key.is_empty());
    client.iter().filter(move |(name, value)| {
        passes(name.as_str())
            && !is_named_by_connection(client, name)
            && key.is_none_or(|key| memmem::find(value.as_bytes(), key.as_bytes()).is_none())
    })
}

fn passes(name: &str) -> bool {
    PASSED.contains(&name)
        || (PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !SUSPICIOUS.iter().any(|word| name.contains(word)))
}

/// Tells whether the client's `Connection` header makes this one a matter of the hop (RFC 9110
/// 7.6.1).
fn is_named_by_connection(client: &HeaderMap, name: &HeaderName) -> bool {
    client.get_all(http::header::CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|b| *b == b',')
            .any(|n| n.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// Response headers that never reach the client, by name.
const DROPPED: [&str; 34] = [
    // The hop's.
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // The provider's own affair, or a spell on a browser that talks to us.
    "alt-svc",
    "authorization",
    "clear-site-data",
    "date",
    "expect-ct",
    "link",
    "location",
    "nel",
    "public-key-pins",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "server",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "via",
    "www-authenticate",
    "x-powered-by",
    // Ours to set.
    "x-attempts",
    "x-circuit-breaker-state",
    "x-provider-response-time",
    "x-request-id",
    "x-used-fallback",
    "x-used-model",
];

/// Tells whether a provider's response header goes on to the client. With `drop_rate_limits` the
/// limits of that provider stay here: they would mislead a client whose next request goes
/// elsewhere.
#[must_use]
pub fn keeps_response_header(name: &HeaderName, drop_rate_limits: bool) -> bool {
    let name = name.as_str();
    let is_dropped = DROPPED.contains(&name)
        || name.starts_with("x-pointsman-")
        || name == "x-used-provider"
        || names_account(name);
    !(is_dropped || drop_rate_limits && tells_rate_limit(name))
}

fn names_account(name: &str) -> bool {
    name.contains("organization") || name.ends_with("-project") || name.ends_with("-account-id")
}

fn tells_rate_limit(name: &str) -> bool {
    ["ratelimit", "rate-limit", "retry-after"].iter().any(|word| name.contains(word))
        || name == "x-should-retry"
        || name.starts_with("x-trial-endpoint-call-")
        || name.starts_with("x-endpoint-monthly-call-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use proptest::prelude::*;

    fn rewrite(api: Api, text: &str, model: &str, defaults: &[(&str, &str)]) -> String {
        let original = Bytes::copy_from_slice(text.as_bytes());
        let parsed = parse::body(api, &original).unwrap();
        let defaults: Vec<_> = defaults.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let rewritten = body(&original, &parsed, model, &defaults);
        let text = rewritten.pieces.concat();
        assert_eq!(text.len(), rewritten.len);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_model_is_spliced_and_absent_defaults_are_appended() {
        let temperature = [("temperature", "0.3")];
        for (text, model, defaults, want) in [
            (r#"{"model":"a","x":[1, 2]}"#, "b", vec![], r#"{"model":"b","x":[1, 2]}"#),
            (r#"{"model":"a"}"#, "a", vec![], r#"{"model":"a"}"#),
            (
                "{\"x\" : 1, \"mod\\u0065l\" :\t\"a\" }\n",
                "q\"\\",
                vec![],
                "{\"x\" : 1, \"mod\\u0065l\" :\t\"q\\\"\\\\\" }\n",
            ),
            (r#"{"model":null}"#, "b", vec![], r#"{"model":"b"}"#),
            (r#"{"x":1}"#, "b", vec![], r#"{"x":1,"model":"b"}"#),
            (" { } ", "b", temperature.to_vec(), " { \"model\":\"b\",\"temperature\":0.3} "),
            (
                r#"{"model":"a","temperature":1}"#,
                "a",
                temperature.to_vec(),
                r#"{"model":"a","temperature":1}"#,
            ),
            (
                r#"{"model":"a","temperature":null}"#,
                "a",
                temperature.to_vec(),
                r#"{"model":"a","temperature":null}"#,
            ),
            (
                r#"{"model":"a","t\u0065mperature":1}"#,
                "a",
                temperature.to_vec(),
                r#"{"model":"a","t\u0065mperature":1}"#,
            ),
            (
                r#"{"model":"a","m":{"temperature":1}}"#,
                "a",
                temperature.to_vec(),
                r#"{"model":"a","m":{"temperature":1},"temperature":0.3}"#,
            ),
            (
                r#"{"model":"a","max_completion_tokens":5}"#,
                "a",
                vec![("max_tokens", "9")],
                r#"{"model":"a","max_completion_tokens":5}"#,
            ),
            (
                r#"{"model":"a"}"#,
                "b",
                vec![("max_tokens", "9"), ("model", "\"x\"")],
                r#"{"model":"b","max_tokens":9}"#,
            ),
        ] {
            assert_eq!(rewrite(Api::ChatCompletions, text, model, &defaults), want, "{text}");
        }
    }

    #[test]
    fn a_default_goes_only_where_the_call_takes_it_and_under_its_own_name() {
        let defaults = [("temperature", "0.3"), ("max_tokens", "9")];
        for (api, want) in [
            (Api::Responses, r#"{"model":"a","temperature":0.3,"max_output_tokens":9}"#),
            (Api::Messages, r#"{"model":"a","temperature":0.3,"max_tokens":9}"#),
            (Api::Embeddings, r#"{"model":"a"}"#),
            (Api::CountTokens, r#"{"model":"a"}"#),
        ] {
            assert_eq!(rewrite(api, r#"{"model":"a"}"#, "a", &defaults), want, "{api:?}");
        }
        assert_eq!(rewrite(Api::GenerateContent, r#"{"a":1}"#, "b", &[]), r#"{"a":1}"#, "the path names it");
    }

    #[test]
    fn a_large_body_is_sliced_and_an_unchanged_one_is_the_client_s_own() {
        let text = format!(r#"{{"a":"{}","model":"m","b":1}}"#, "x".repeat(2 * ONE_PIECE_MAX));
        let original = Bytes::from(text.clone());
        let parsed = parse::body(Api::ChatCompletions, &original).unwrap();
        let rewritten = body(&original, &parsed, "other", &[("top_p".to_owned(), "1".to_owned())]);
        assert_eq!(rewritten.pieces.len(), 5);
        assert_eq!(rewritten.pieces[0].as_ptr(), original.as_ptr(), "not copied");
        let want = text.replace("\"m\"", "\"other\"").replace("1}", "1,\"top_p\":1}");
        assert_eq!(rewritten.pieces.concat(), want.as_bytes());
        let same = body(&original, &parsed, "m", &[]);
        assert_eq!((same.pieces.len(), same.pieces[0].as_ptr()), (1, original.as_ptr()));
    }

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
            assert_eq!(query_without_keys(query), want, "{query}");
        }
        assert_eq!(upstream_path(Kind::OpenAi, Api::Responses, "/v1", Some("key=x")), "/v1/responses");
        assert_eq!(
            upstream_path(Kind::OpenAi, Api::Responses, "/v1", Some("a=b&key=x")),
            "/v1/responses?a=b"
        );
    }

    #[test]
    fn only_harmless_request_headers_pass() {
        let names = |pairs: &[(&'static str, &'static str)], key| {
            let map: HeaderMap = pairs
                .iter()
                .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
                .collect();
            request_headers(&map, key).map(|(n, _)| n.as_str().to_owned()).collect::<Vec<_>>()
        };
        for good in [
            "content-type",
            "accept",
            "user-agent",
            "anthropic-version",
            "anthropic-beta",
            "openai-beta",
            "idempotency-key",
            "x-stainless-retry-count",
            "x-client-request-id",
            "session_id",
            "originator",
            "x-app",
            "x-codex-turn-metadata",
        ] {
            assert_eq!(names(&[(good, "v")], None), [good]);
        }
        for bad in [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "cookie",
            "proxy-authorization",
            "host",
            "openai-organization",
            "openai-project",
            "x-stainless-api-key",
            "x-stainless-auth",
            "x-codex-token",
            "x-codex-account-id",
            "connection",
            "transfer-encoding",
            "content-length",
            "te",
            "upgrade",
            "x-forwarded-for",
            "forwarded",
            "traceparent",
            "x-request-id",
            "accept-encoding",
            "expect",
            "x-portkey-custom-host",
            "x-pointsman-no-rescue",
            "x-new-thing",
            "chatgpt-account-id",
        ] {
            assert!(names(&[(bad, "v")], None).is_empty(), "{bad}");
        }
        assert!(names(&[("user-agent", "tool/1 (sk-client-1)")], Some("sk-client-1")).is_empty());
        assert_eq!(names(&[("user-agent", "tool/1")], Some("")), ["user-agent"]);
        assert_eq!(names(&[("connection", "X-App, close"), ("x-app", "cli")], None), Vec::<String>::new());
    }

    #[test]
    fn response_headers_lose_the_hop_the_cookies_and_the_account() {
        for (name, plain, without_limits) in [
            ("content-type", true, true),
            ("request-id", true, true),
            ("openai-processing-ms", true, true),
            ("x-ratelimit-remaining-tokens", true, false),
            ("anthropic-ratelimit-requests-reset", true, false),
            ("ratelimit-reset", true, false),
            ("retry-after", true, false),
            ("set-cookie", false, false),
            ("server", false, false),
            ("alt-svc", false, false),
            ("strict-transport-security", false, false),
            ("link", false, false),
            ("location", false, false),
            ("openai-organization", false, false),
            ("anthropic-organization-id", false, false),
            ("openai-project", false, false),
            ("x-request-id", false, false),
            ("via", false, false),
            ("date", false, false),
            ("content-length", false, false),
            ("transfer-encoding", false, false),
            ("connection", false, false),
            ("x-used-provider", false, false),
            ("x-pointsman-trail", false, false),
        ] {
            let name = HeaderName::from_static(name);
            assert_eq!(keeps_response_header(&name, false), plain, "{name}");
            assert_eq!(keeps_response_header(&name, true), without_limits, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_rewritten_body_differs_in_nothing_but_model_and_defaults(
            prompt in ".*", client_model in prop::option::of("[a-z\"\\\\]{0,8}"), model in ".{1,20}", pad in prop::bool::ANY
        ) {
            let mut value = serde_json::json!({"messages": [{"content": prompt}]});
            if pad { value["pad"] = "x".repeat(ONE_PIECE_MAX).into(); }
            if let Some(name) = client_model { value["model"] = name.into(); }
            let text = rewrite(Api::ChatCompletions, &value.to_string(), &model, &[("seed", "7")]);
            value["model"] = model.into();
            value["seed"] = 7.into();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
    }
}
