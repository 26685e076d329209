//! What sort of request is this, by its method and its path?
//!
//! The path is normalised once (a trailing slash is the same path) and then looked up in the table
//! of contract section 3; anything else is 404. Before that, a path that two readers could read
//! differently is refused with 400 (threat C3): dot segments, `//`, `;`, backslashes, control
//! characters, each of them raw or percent-encoded, an encoded slash, an encoded dot, an encoded
//! percent sign, a malformed escape, bytes that are not UTF-8. So what is forwarded on the
//! pass-through paths cannot climb out of its prefix at the provider either. In the id of a model an
//! encoded slash is a slash, and judged as one: OpenAI's SDKs encode every slash of an id, and these
//! paths are not forwarded.
//!
//! `OPTIONS`, `TRACE`, `CONNECT` and odd methods are 405 on every path of the table: there is no
//! CORS, and a provider must never see a method that echoes our key.

use crate::base::api::Api;
use crate::base::percent;
use std::borrow::Cow;

/// What a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A call whose body we read, judge and replay.
    Llm(Call),
    /// The list of models.
    Models,
    /// One model of that list; the id may hold slashes.
    Model(String),
    /// The list of models as Google's SDKs ask for it.
    GeminiModels,
    /// One model of that list, without `models/` before it.
    GeminiModel(String),
    /// The health of the service, without a key.
    Health,
    /// A path that is forwarded without rewriting of bodies.
    PassThrough,
    /// No such path.
    NotFound,
    /// The path exists for other methods: the value of `Allow`.
    MethodNotAllowed(&'static str),
    /// A path that is refused: what is wrong with it.
    BadPath(&'static str),
}

/// A call and what its path says beyond the call itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which call.
    pub api: Api,
    /// Model and form of the answer, where the path carries them and not the body.
    pub in_path: Option<InPath>,
}

/// What a Gemini path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPath {
    /// The model, decoded; never empty.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub is_stream: bool,
}

/// Calls with a path of their own.
const CALLS: [(&str, Api); 6] = [
    ("/v1/chat/completions", Api::ChatCompletions),
    ("/v1/completions", Api::Completions),
    ("/v1/embeddings", Api::Embeddings),
    ("/v1/responses", Api::Responses),
    ("/v1/messages", Api::Messages),
    ("/v1/messages/count_tokens", Api::CountTokens),
];

/// First segments below `/v1/` that are passed through, with everything below them.
const PASS_THROUGH: [&str; 11] = [
    "files",
    "batches",
    "uploads",
    "fine_tuning",
    "images",
    "audio",
    "moderations",
    "rerank",
    "vector_stores",
    "assistants",
    "threads",
];

/// Versions under which Google's SDKs look for models: `v1beta` by default, `v1` on request.
const GEMINI_PREFIXES: [&str; 2] = ["/v1beta/models/", "/v1/models/"];

/// Verbs of Gemini paths and whether they stream.
const GEMINI_VERBS: [(&str, bool); 2] = [("generateContent", false), ("streamGenerateContent", true)];

const ALLOW_READ: &str = "GET, HEAD";
const ALLOW_POST: &str = "POST";
/// What some path here takes.
pub const ALLOW_ANY: &str = "GET, HEAD, POST, DELETE";

/// Finds what a method and a path (without the query) ask for. Both are case-sensitive.
#[must_use]
pub fn endpoint(method: &str, path: &str) -> Endpoint {
    // `*` of OPTIONS and the authority of CONNECT are no paths; the answer is about the method.
    if !path.starts_with('/') && matches!(method, "OPTIONS" | "CONNECT") {
        return Endpoint::MethodNotAllowed(ALLOW_ANY);
    }
    let path = &*with_slashes_in_ids(path);
    if let Err(fault) = ambiguity(path) {
        return Endpoint::BadPath(fault);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_read = matches!(method, "GET" | "HEAD");
    let is_post = method == "POST";
    if matches!(path, "" | "/health") {
        return allowed(is_read, ALLOW_READ, Endpoint::Health);
    }
    if let Some((_, api)) = CALLS.iter().find(|(call, _)| *call == path) {
        return allowed(is_post, ALLOW_POST, Endpoint::Llm(Call { api: *api, in_path: None }));
    }
    if path == "/v1/models" {
        return allowed(is_read, ALLOW_READ, Endpoint::Models);
    }
    if path == "/v1beta/models" {
        return allowed(is_read, ALLOW_READ, Endpoint::GeminiModels);
    }
    if is_passed_through(path) {
        let is_allowed = is_read || is_post || method == "DELETE";
        return allowed(is_allowed, ALLOW_ANY, Endpoint::PassThrough);
    }
    below_models(path, is_read, is_post)
}

fn allowed(is_allowed: bool, allow: &'static str, endpoint: Endpoint) -> Endpoint {
    if is_allowed { endpoint } else { Endpoint::MethodNotAllowed(allow) }
}

/// `/v1/models/{id}` is read, `{model}:generateContent` is called; an id may hold colons as well,
/// so that the method decides where both fit.
fn below_models(path: &str, is_read: bool, is_post: bool) -> Endpoint {
    let call = gemini_call(path);
    let below = |prefix: &str| path.strip_prefix(prefix).and_then(percent::decode_utf8).map(Cow::into_owned);
    let id = below("/v1/models/").map(Endpoint::Model);
    let is_list_of_google = is_read && call.is_none();
    let of_google = || below("/v1beta/models/").filter(|_| is_list_of_google).map(Endpoint::GeminiModel);
    let id = id.or_else(of_google);
    match (call, id) {
        (Some(call), _) if is_post => Endpoint::Llm(call),
        (_, Some(model)) if is_read => model,
        (Some(_), _) => Endpoint::MethodNotAllowed(ALLOW_POST),
        (None, Some(_)) => Endpoint::MethodNotAllowed(ALLOW_READ),
        (None, None) => Endpoint::NotFound,
    }
}

fn gemini_call(path: &str) -> Option<Call> {
    let rest = GEMINI_PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix))?;
    let rest = percent::decode_utf8(rest)?;
    let (model, verb) = rest.rsplit_once(':')?;
    let (_, is_stream) = GEMINI_VERBS.iter().find(|(known, _)| *known == verb)?;
    let in_path = InPath { model: model.to_owned(), is_stream: *is_stream };
    (!model.is_empty()).then_some(Call { api: Api::GenerateContent, in_path: Some(in_path) })
}

/// Tells whether a path is one that is forwarded without reading its body, if it is forwarded at all.
#[must_use]
pub fn is_passed_through(path: &str) -> bool {
    let first = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next());
    first.is_some_and(|first| PASS_THROUGH.contains(&first))
}

/// Decodes the slashes in the id of a model.
fn with_slashes_in_ids(path: &str) -> Cow<'_, str> {
    let is_of_model = GEMINI_PREFIXES.iter().any(|prefix| path.starts_with(prefix));
    if is_of_model && path.contains('%') {
        Cow::Owned(path.replace("%2F", "/").replace("%2f", "/"))
    } else {
        Cow::Borrowed(path)
    }
}

/// Finds what could be read in two ways.
fn ambiguity(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("the path does not begin with a slash");
    }
    let decoded = percent::decode(path).ok_or("the path has a malformed escape")?;
    let escapes = decoded.len() < path.len();
    if path.contains("//") {
        return Err("the path has an empty segment");
    }
    if decoded.iter().any(u8::is_ascii_control) {
        return Err("the path has a control character");
    }
    if decoded.contains(&b'\\') || decoded.contains(&b';') {
        return Err("the path has a backslash or a semicolon");
    }
    if escapes && ["%2f", "%2e", "%25"].iter().any(|escape| path.to_ascii_lowercase().contains(escape)) {
        return Err("the path has an encoded slash, dot or percent sign");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("the path has a dot segment");
    }
    if std::str::from_utf8(&decoded).is_err() {
        return Err("the path is not UTF-8");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn llm(api: Api) -> Endpoint {
        Endpoint::Llm(Call { api, in_path: None })
    }

    fn gemini(model: &str, is_stream: bool) -> Endpoint {
        let in_path = Some(InPath { model: model.to_owned(), is_stream });
        Endpoint::Llm(Call { api: Api::GenerateContent, in_path })
    }

    #[test]
    fn a_path_that_two_readers_could_read_differently_is_refused() {
        for path in [
            "",
            "v1/models",
            "/v1/../admin",
            "/v1/..",
            "/./v1/models",
            "/v1/%2e%2e/admin",
            "/v1/%2E/models",
            "/v1/files/a%2fb",
            "/v1/files/a%2Fb",
            "/v1/models%2fa",
            "/v1/models/a%2f%2fb",
            "/v1/models/a%2f..%2fb",
            "/v1beta/models/..%2f..%2fadmin",
            "/v1/models/a%252fb",
            "/v1//models",
            "//",
            "/v1/models//",
            "/v1/models;x=1",
            "/v1/models%3bx",
            "/v1\\models",
            "/v1/models/%5c",
            "/v1/models/%00",
            "/v1/models/\0",
            "/v1/models/a%0d%0ab",
            "/v1/models/%7f",
            "/v1/models/%252e%252e",
            "/v1/models/%",
            "/v1/models/%4",
            "/v1/models/%zz",
            "/v1/models/%ff",
            "/v1/files/../../admin",
            "/nowhere/..",
        ] {
            assert!(matches!(endpoint("GET", path), Endpoint::BadPath(_)), "{path:?}");
        }
    }

    #[test]
    fn other_methods_of_a_known_path_are_405_with_what_is_allowed() {
        for (method, path, allow) in [
            ("GET", "/v1/chat/completions", "POST"),
            ("OPTIONS", "/v1/chat/completions", "POST"),
            ("post", "/v1/messages", "POST"),
            ("DELETE", "/v1/messages/count_tokens", "POST"),
            ("POST", "/v1/models", "GET, HEAD"),
            ("POST", "/", "GET, HEAD"),
            ("DELETE", "/v1/models/ft:gpt-4o:me", "GET, HEAD"),
            ("PUT", "/health/", "GET, HEAD"),
            ("TRACE", "/v1/files", "GET, HEAD, POST, DELETE"),
            ("CONNECT", "example.com:443", "GET, HEAD, POST, DELETE"),
            ("OPTIONS", "*", "GET, HEAD, POST, DELETE"),
            ("GET", "/v1beta/models/gemini-2.5-pro:generateContent", "POST"),
            ("DELETE", "/v1/models/gemini:streamGenerateContent", "POST"),
        ] {
            assert_eq!(endpoint(method, path), Endpoint::MethodNotAllowed(allow), "{method} {path}");
        }
    }

    #[test]
    fn what_the_table_does_not_list_is_not_found() {
        for (method, path) in [
            ("GET", "/v1"),
            ("GET", "/admin"),
            ("GET", "/V1/models"),
            ("GET", "/metrics"),
            ("GET", "/v1/filesystem"),
            ("POST", "/v1/chat"),
            ("POST", "/v1/chat/completions/x"),
            ("POST", "/v1/messages/batches"),
            ("GET", "/v1/responses/resp_1"),
            ("GET", "/v1beta"),
            ("POST", "/v1beta/models/gemini:embedContent"),
            ("POST", "/v1beta/models/:generateContent"),
            ("POST", "/v1beta/openai/chat/completions"),
            ("POST", "/chat/completions"),
        ] {
            assert_eq!(endpoint(method, path), Endpoint::NotFound, "{method} {path}");
        }
    }

    #[test]
    fn every_path_of_the_table_is_found_with_and_without_a_trailing_slash() {
        let rows = [
            ("POST", "/v1/chat/completions", llm(Api::ChatCompletions)),
            ("POST", "/v1/completions", llm(Api::Completions)),
            ("POST", "/v1/embeddings", llm(Api::Embeddings)),
            ("POST", "/v1/responses", llm(Api::Responses)),
            ("POST", "/v1/messages", llm(Api::Messages)),
            ("POST", "/v1/messages/count_tokens", llm(Api::CountTokens)),
            ("POST", "/v1beta/models/gemini-2.5-pro:generateContent", gemini("gemini-2.5-pro", false)),
            ("POST", "/v1beta/models/gemini-2.5-pro:streamGenerateContent", gemini("gemini-2.5-pro", true)),
            ("POST", "/v1/models/ollama/llama3:8b:generateContent", gemini("ollama/llama3:8b", false)),
            ("POST", "/v1beta/models/gemini%3Aflash:generateContent", gemini("gemini:flash", false)),
            ("GET", "/v1/models", Endpoint::Models),
            ("HEAD", "/v1/models", Endpoint::Models),
            ("GET", "/v1/models/gpt-4o", Endpoint::Model("gpt-4o".to_owned())),
            ("GET", "/v1beta/models", Endpoint::GeminiModels),
            ("GET", "/v1beta/models/chat", Endpoint::GeminiModel("chat".to_owned())),
            ("GET", "/v1beta/models/openai/gpt-4o", Endpoint::GeminiModel("openai/gpt-4o".to_owned())),
            ("GET", "/v1/models/openai/gpt-4o", Endpoint::Model("openai/gpt-4o".to_owned())),
            ("GET", "/v1/models/openai%2Fgpt-4o", Endpoint::Model("openai/gpt-4o".to_owned())),
            ("GET", "/v1beta/models/openai%2fgpt-4o", Endpoint::GeminiModel("openai/gpt-4o".to_owned())),
            ("POST", "/v1beta/models/team%2Fx:generateContent", gemini("team/x", false)),
            ("GET", "/v1/models/llama3%3A8b%20x", Endpoint::Model("llama3:8b x".to_owned())),
            ("GET", "/v1/models/a:generateContent", Endpoint::Model("a:generateContent".to_owned())),
            ("GET", "/health", Endpoint::Health),
            ("HEAD", "/health", Endpoint::Health),
            ("GET", "/v1/files", Endpoint::PassThrough),
            ("DELETE", "/v1/files/file-1", Endpoint::PassThrough),
            ("POST", "/v1/audio/speech", Endpoint::PassThrough),
            ("GET", "/v1/batches/b/cancel", Endpoint::PassThrough),
            ("POST", "/v1/threads/t/runs/r", Endpoint::PassThrough),
        ];
        for (method, path, want) in rows {
            assert_eq!(endpoint(method, path), want, "{method} {path}");
            assert_eq!(endpoint(method, &format!("{path}/")), want, "{method} {path}/");
        }
        assert_eq!(endpoint("GET", "/"), Endpoint::Health);
        assert_eq!(endpoint("HEAD", "/"), Endpoint::Health);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_nothing_forwarded_leaves_its_prefix(path in "[/.%a-f0-9;\\\\v]{0,24}") {
            for path in [path.clone(), format!("/v1/files/{path}")] {
                if let Endpoint::PassThrough = endpoint("GET", &path) {
                    let decoded = percent::decode_utf8(&path).unwrap();
                    prop_assert!(decoded.split('/').all(|segment| segment != ".." && segment != "."), "{}", path);
                    prop_assert!(decoded.starts_with("/v1/"), "{}", path);
                }
            }
        }
    }
}
