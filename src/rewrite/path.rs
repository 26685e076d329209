//! The path and query for a target.
//!
//! The call is joined to the provider's base path as that provider's own SDK does it, never
//! doubling `/v1`; the query is kept but for parameters that carry keys. Where a path carries the
//! model, that is one segment of it, slashes and colons escaped, and it also says whether the answer is
//! streamed.
//!
//! Source: the wire guide, sections 1 to 9.

use crate::base::api::{Api, Kind};
use crate::base::percent;

/// What a path is made of.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// What sort of server it is.
    pub kind: Kind,
    /// The call.
    pub api: Api,
    /// Path of the provider's base URL.
    pub base_path: &'a str,
    /// The provider's name for the model.
    pub model: &'a str,
    /// Whether a stream is asked for.
    pub is_stream: bool,
}

impl Destination<'_> {
    /// Joins the call to the provider's base path. `query` has lost its keys already
    /// ([`query_without_keys`]).
    #[must_use]
    pub fn path(&self, query: Option<&str>) -> String {
        let base = self.base_path.trim_end_matches('/');
        let mut path = match (self.kind, self.api) {
            (Kind::Vertex, _) => self.below_publisher(base),
            (_, Api::GenerateContent) => {
                let mut path = [gemini_base(base).0, gemini_base(base).1, "/models/"].concat();
                percent::encode(self.model.strip_prefix("models/").unwrap_or(self.model), b"", &mut path);
                path + self.generate_verb()
            }
            // Google has OpenAI's calls below a path of their own.
            (Kind::Gemini, _) => {
                let (base, version) = gemini_base(base);
                self.plain([base, version, "/openai"])
            }
            (_, Api::Converse) => {
                let mut path = [base, "/model/"].concat();
                percent::encode(self.model, b"", &mut path);
                path + if self.is_stream { "/converse-stream" } else { "/converse" }
            }
            // These two have their own dialect beside the path for compatibility's sake.
            (_, Api::CohereChat) => {
                without(base, &["/compatibility/v1", "/v2", "/v1"]).to_owned() + "/v2/chat"
            }
            (_, Api::OllamaChat) => without(base, &["/v1", "/api"]).to_owned() + "/api/chat",
            (_, Api::Generate) => without(base, &["/api/generate", "/api"]).to_owned() + "/api/generate",
            (_, Api::Messages | Api::CountTokens) if !base.ends_with("/v1") => {
                let version = if self.kind == Kind::Anthropic { "/v1" } else { "" };
                self.plain([base, version, ""])
            }
            (
                _,
                Api::ChatCompletions
                | Api::Completions
                | Api::Embeddings
                | Api::Responses
                | Api::Messages
                | Api::CountTokens,
            ) => self.plain([base, "", ""]),
        };
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            path.push('?');
            path.push_str(query);
        }
        path
    }

    /// A call with a path of its own below the base path.
    fn plain(&self, [base, below, last]: [&str; 3]) -> String {
        [base, below, last, self.api.path_below_v1().unwrap_or("/")].concat()
    }

    /// Vertex has a path for each publisher; `base` names project and location.
    fn below_publisher(&self, base: &str) -> String {
        let (publisher, verb) = match self.api {
            Api::Messages if self.is_stream => ("anthropic", ":streamRawPredict"),
            Api::Messages => ("anthropic", ":rawPredict"),
            Api::GenerateContent => ("google", self.generate_verb()),
            Api::ChatCompletions
            | Api::Completions
            | Api::Embeddings
            | Api::Responses
            | Api::CountTokens
            | Api::Converse
            | Api::CohereChat
            | Api::OllamaChat
            | Api::Generate => return self.plain([base, "/endpoints/openapi", ""]),
        };
        let mut path = [base, "/publishers/", publisher, "/models/"].concat();
        // A version stands behind an at sign, which Google's own clients do not escape.
        percent::encode(self.model, b"@", &mut path);
        path + verb
    }

    fn generate_verb(&self) -> &'static str {
        if self.is_stream { ":streamGenerateContent" } else { ":generateContent" }
    }
}

/// The base path of Gemini's API and the version to put behind it, where it names none.
fn gemini_base(base: &str) -> (&str, &'static str) {
    let base = without(base, &["/openai"]);
    (base, if base.ends_with("/v1beta") || base.ends_with("/v1") { "" } else { "/v1beta" })
}

/// Takes the first of the endings off that is there.
fn without<'a>(base: &'a str, endings: &[&str]) -> &'a str {
    endings.iter().find_map(|ending| base.strip_suffix(ending)).unwrap_or(base)
}

/// Fills the path that the file gives for a call: `{model}` becomes the model's name, escaped, and
/// the query is put behind the path's own.
#[must_use]
pub fn templated_path(template: &str, model: &str, query: Option<&str>) -> String {
    let mut path = String::with_capacity(template.len() + model.len() + query.map_or(0, str::len) + 1);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{model}") {
        path.push_str(before);
        percent::encode(model, b"", &mut path);
        rest = after;
    }
    path.push_str(rest);
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        path.push(if template.contains('?') { '&' } else { '?' });
        path.push_str(query);
    }
    path
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

/// Query parameters that carry keys and nothing else. Not `sig`: a signature is worth nothing without the
/// address that it signs, which is the provider's own.
const KEY_PARAMETERS: [&str; 9] =
    ["key", "api_key", "access_token", "api-key", "token", "apikey", "x-api-key", "x-goog-api-key", "auth"];

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

    fn path(kind: Kind, api: Api, base_path: &str, model: &str, is_stream: bool) -> String {
        Destination { kind, api, base_path, model, is_stream }.path(None)
    }

    #[test]
    fn paths_join_as_the_sdks_join_them_and_never_double_the_version() {
        use Api::{
            ChatCompletions, CohereChat, CountTokens, Embeddings, Generate, Messages, OllamaChat, Responses,
        };
        for (kind, api, base, want) in [
            (Kind::OpenAi, ChatCompletions, "/v1", "/v1/chat/completions"),
            (Kind::OpenAi, ChatCompletions, "/v1/", "/v1/chat/completions"),
            (Kind::OpenAi, ChatCompletions, "", "/chat/completions"),
            (Kind::OpenAi, Responses, "/openai/v1", "/openai/v1/responses"),
            (Kind::OpenAi, ChatCompletions, "/v1beta/openai", "/v1beta/openai/chat/completions"),
            (Kind::Anthropic, Messages, "", "/v1/messages"),
            (Kind::Anthropic, Messages, "/v1", "/v1/messages"),
            (Kind::Anthropic, CountTokens, "/anthropic", "/anthropic/v1/messages/count_tokens"),
            (Kind::Copilot, ChatCompletions, "", "/chat/completions"),
            (Kind::Gemini, Embeddings, "", "/v1beta/openai/embeddings"),
            (Kind::Gemini, Embeddings, "/v1beta/openai", "/v1beta/openai/embeddings"),
            (Kind::Cohere, CohereChat, "/compatibility/v1", "/v2/chat"),
            (Kind::Cohere, CohereChat, "/x/v2", "/x/v2/chat"),
            (Kind::Cohere, ChatCompletions, "/compatibility/v1", "/compatibility/v1/chat/completions"),
            (Kind::Ollama, OllamaChat, "/v1", "/api/chat"),
            (Kind::Ollama, OllamaChat, "/box", "/box/api/chat"),
            (Kind::Ollama, Embeddings, "/v1", "/v1/embeddings"),
            (Kind::GenerateBridge, Generate, "", "/api/generate"),
            (Kind::GenerateBridge, Generate, "/claude/api/", "/claude/api/generate"),
            (Kind::GenerateBridge, Generate, "/claude/api/generate", "/claude/api/generate"),
        ] {
            assert_eq!(path(kind, api, base, "m", false), want, "{kind:?} {api:?} {base}");
        }
        let one = |query| {
            Destination { kind: Kind::OpenAi, api: Responses, base_path: "/v1", model: "m", is_stream: false }
                .path(query)
        };
        assert_eq!(one(Some("")), "/v1/responses");
        assert_eq!(one(Some("a=b")), "/v1/responses?a=b");
    }

    #[test]
    fn a_path_that_carries_the_model_says_whether_the_answer_is_streamed() {
        use Api::{ChatCompletions, Converse, GenerateContent, Messages};
        let place = "/v1/projects/p/locations/eu";
        for (kind, api, base, model, is_stream, want) in [
            (
                Kind::Gemini,
                GenerateContent,
                "",
                "gemini-2.5-pro",
                false,
                "/v1beta/models/gemini-2.5-pro:generateContent",
            ),
            (Kind::Gemini, GenerateContent, "/v1beta/", "g", true, "/v1beta/models/g:streamGenerateContent"),
            (
                Kind::Gemini,
                GenerateContent,
                "/x/v1",
                "models/a/b",
                false,
                "/x/v1/models/a%2Fb:generateContent",
            ),
            (Kind::Gemini, GenerateContent, "/v1beta/openai", "g", false, "/v1beta/models/g:generateContent"),
            (
                Kind::Vertex,
                GenerateContent,
                place,
                "g",
                true,
                "/v1/projects/p/locations/eu/publishers/google/models/g:streamGenerateContent",
            ),
            (
                Kind::Vertex,
                Messages,
                place,
                "claude-x@20",
                false,
                "/v1/projects/p/locations/eu/publishers/anthropic/models/claude-x@20:rawPredict",
            ),
            (
                Kind::Vertex,
                Messages,
                place,
                "claude-x@20",
                true,
                "/v1/projects/p/locations/eu/publishers/anthropic/models/claude-x@20:streamRawPredict",
            ),
            (
                Kind::Vertex,
                ChatCompletions,
                place,
                "meta/l",
                true,
                "/v1/projects/p/locations/eu/endpoints/openapi/chat/completions",
            ),
            (
                Kind::Bedrock,
                Converse,
                "",
                "us.anthropic.c-v1:0",
                false,
                "/model/us.anthropic.c-v1%3A0/converse",
            ),
            (Kind::Bedrock, Converse, "", "arn:aws:b/x", true, "/model/arn%3Aaws%3Ab%2Fx/converse-stream"),
        ] {
            assert_eq!(path(kind, api, base, model, is_stream), want);
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
            ("apiKey=x&X-Api-Key=y&x-goog-api-key=z&auth=w&sig=v", "sig=v"),
            ("author=x&apikeys=1", "author=x&apikeys=1"),
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
    }
}
