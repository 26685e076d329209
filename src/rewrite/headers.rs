//! The headers that pass.
//!
//! Towards the provider an allow-list: what is not known to be harmless and useful stays here. A
//! new tool's new secret header must not leak before someone thought of it. Names that smell of
//! credentials and values that hold the presented key are dropped even when a pattern would let
//! them in.
//!
//! Towards the client a deny-list of what is the hop's, the provider's own affair (threat P3), or
//! ours to set.

use http::{HeaderMap, HeaderName, HeaderValue};

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

/// Returns the client's headers that a provider may see. `presented_keys` is everything
/// that the client showed as a key, the one that let it in or not; a header that holds one of them
/// never passes.
pub fn request_headers<'a>(
    client: &'a HeaderMap,
    presented_keys: &'a [&'a [u8]],
) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
    client.iter().filter(move |(name, value)| {
        passes(name.as_str())
            && !is_named_by_connection(client, name)
            && !super::holds_any(value.as_bytes(), presented_keys)
    })
}

fn passes(name: &str) -> bool {
    PASSED.contains(&name)
        || (PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !SUSPICIOUS.iter().any(|word| name.contains(word)))
}

/// Request headers that say the same to every provider; the others belong to the dialect that the
/// client speaks and would mean nothing, or something else, to a target of another.
const CROSSING: [&str; 9] = [
    "http-referer",
    "idempotency-key",
    "session-id",
    "session_id",
    "user-agent",
    "x-client-request-id",
    "x-session-affinity",
    "x-session-id",
    "x-title",
];

/// Tells whether a header of the client's, one of [`request_headers`], also goes to a target of
/// another dialect.
#[must_use]
pub fn crosses_dialects(name: &HeaderName) -> bool {
    CROSSING.contains(&name.as_str())
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
const DROPPED: [&str; 35] = [
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
    "x-model-degraded",
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
        || name.starts_with("access-control-")
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

    #[test]
    fn only_harmless_request_headers_pass() {
        let names = |pairs: &[(&'static str, &'static str)], keys: &[&[u8]]| {
            let map: HeaderMap = pairs
                .iter()
                .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
                .collect();
            request_headers(&map, keys).map(|(n, _)| n.as_str().to_owned()).collect::<Vec<_>>()
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
            assert_eq!(names(&[(good, "v")], &[]), [good]);
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
            assert!(names(&[(bad, "v")], &[]).is_empty(), "{bad}");
        }
        assert!(names(&[("user-agent", "tool/1 (sk-client-1)")], &[b"other", b"sk-client-1"]).is_empty());
        for short in [&b""[..], b"t", b"tool", b"tool/1"] {
            assert_eq!(names(&[("user-agent", "tool/1")], &[short]), ["user-agent"]);
        }
        assert_eq!(names(&[("connection", "X-App, close"), ("x-app", "cli")], &[]), Vec::<String>::new());
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
}
