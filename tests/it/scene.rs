//! Configurations, requests and pairs of providers that several files of tests share.
//!
//! The usual scene has two providers, `one` and `two`, and a route `chat` that prefers the first.
//! Their models have different names, so that what a provider received tells which of them the
//! proxy meant.

use crate::stage::Stage;
use bytes::Bytes;
use pointsman::standin::caller::{Answer, Call, Connection};
use pointsman::standin::{Provider, Script, Seen};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// Keys of the two providers of the usual scene.
pub const KEY_ONE: &str = "sk-one-0123456789";
pub const KEY_TWO: &str = "sk-two-0123456789";

/// What the second provider says, so that its answers are known from the first one's.
pub const RESCUER: &str = "Hello from the second, señor caller.";

/// Neither breaker nor cooldown: every request meets the fault anew.
pub const FORGETFUL: &str = "breaker: {enabled: false}
cooldown: {default: 0s, max: 0s, quota: 0s, quota_max: 0s, auth: 0s, auth_max: 0s}
";

/// A call of the data plane, with everything that differs from dialect to dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    CountTokens,
}

impl Api {
    pub fn path(self) -> &'static str {
        match self {
            Api::Chat => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
            Api::Embeddings => "/v1/embeddings",
            Api::Responses => "/v1/responses",
            Api::Messages => "/v1/messages",
            Api::CountTokens => "/v1/messages/count_tokens",
        }
    }

    pub fn kind(self) -> &'static str {
        if self.is_anthropic() { "anthropic" } else { "openai" }
    }

    pub fn is_anthropic(self) -> bool {
        matches!(self, Api::Messages | Api::CountTokens)
    }

    pub fn can_stream(self) -> bool {
        !matches!(self, Api::Embeddings | Api::CountTokens)
    }

    pub fn base_url(self, provider: &Provider) -> String {
        if self.is_anthropic() { provider.origin() } else { provider.base_url() }
    }

    /// Returns a body of exactly `length` bytes (if that is enough for the frame), with unusual
    /// white space, unknown members, escapes and a number of its own, so that a proxy that writes
    /// JSON anew, mixes requests up or loses a byte shows.
    pub fn body(self, model: &str, is_streamed: bool, length: usize, number: usize) -> Bytes {
        let mut head = format!("{{ \"x_unknown\" : [1.0e2, \"é\\u00e9\\/\"],\"model\" :\t\"{model}\" ,");
        let stream = if is_streamed { "\"stream\": true," } else { "" };
        let _ = write!(head, "{stream}\"x_number\":{number},");
        head += match self {
            Api::Chat | Api::Embeddings | Api::Completions | Api::CountTokens => "",
            Api::Messages => "\"max_tokens\":256,",
            // Only a response that is not stored may be sent twice.
            Api::Responses => "\"store\":false,",
        };
        let (open, close) = match self {
            Api::Chat | Api::Messages | Api::CountTokens => {
                ("\"messages\":[{\"role\":\"user\",\"content\":\"", "\"}]\n}")
            }
            Api::Completions => ("\"prompt\":\"", "\"\n}"),
            Api::Embeddings | Api::Responses => ("\"input\":\"", "\"\n}"),
        };
        head += open;
        let filler = length.saturating_sub(head.len() + close.len());
        let words = "words \\\"quoted\\\" ";
        let rest = ".".repeat(filler % words.len());
        Bytes::from([&head, &*words.repeat(filler / words.len()), &rest, close].concat())
    }

    pub fn call(self, body: Bytes) -> Call {
        let call = Call::post(self.path(), body).header("content-type", "application/json");
        if self.is_anthropic() { call.header("anthropic-version", "2023-06-01") } else { call }
    }
}

/// Returns the body as the provider of `model` must receive it: the client's bytes with the one
/// name in the place of the other.
pub fn spliced(body: &Bytes, from: &str, to: &str) -> Bytes {
    let from = format!("\"model\" :\t\"{from}\"");
    let at = memchr::memmem::find(body, from.as_bytes()).unwrap();
    let to = format!("\"model\" :\t\"{to}\"");
    Bytes::from([&body[..at], to.as_bytes(), &body[at + from.len()..]].concat())
}

/// Returns the number in a body of [`Api::body`]; such a body is too long to be parsed often.
pub fn number_in(body: &[u8]) -> usize {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let (_, rest) = text.split_once("\"x_number\":").unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

/// Which HTTP version is spoken on either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    pub is_http2_client: bool,
    pub is_http2_provider: bool,
}

impl Wire {
    pub async fn connect(self, address: SocketAddr) -> Connection {
        if self.is_http2_client {
            Connection::open_http2(address).await.unwrap()
        } else {
            Connection::open(address).await.unwrap()
        }
    }
}

/// Returns one line of `providers:`; `more` is further keys, such as `http: 2`.
pub fn provider(name: &str, kind: &str, base_url: &str, key: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!(
        "  {name}: {{kind: {kind}, base_url: \"{base_url}\", credentials: [{{name: k, key: \"{key}\"}}]{more}}}\n"
    )
}

/// Two providers behind one route.
pub struct Pair {
    pub stage: Stage,
    pub first: Provider,
    pub second: Provider,
}

impl Pair {
    /// Opens the usual scene: route `chat`, model `alpha` at provider `one` before `beta` at `two`.
    pub async fn open(api: Api, wire: Wire, first: Provider, second: impl Into<Script>, more: &str) -> Pair {
        Pair::with_models(api, wire, first, second, more, "alpha", "beta").await
    }

    /// The same with models of these names: equal names are the same model.
    pub async fn with_models(
        api: Api,
        wire: Wire,
        first: Provider,
        second: impl Into<Script>,
        more: &str,
        alpha: &str,
        beta: &str,
    ) -> Pair {
        let second = Provider::start(second).await.unwrap();
        let http = if wire.is_http2_provider { "http: 2" } else { "" };
        let h2c = wire.is_http2_client;
        let mut yaml = format!("listen: [{{address: \"127.0.0.1:0\", h2c: {h2c}}}]\nproviders:\n");
        yaml += &provider("one", api.kind(), &api.base_url(&first), KEY_ONE, http);
        yaml += &provider("two", api.kind(), &api.base_url(&second), KEY_TWO, http);
        let _ = write!(
            yaml,
            "routes:\n  chat: {{targets: [{{provider: one, model: {alpha}, priority: 1}}, {{provider: two, model: {beta}, priority: 2}}]}}\n{more}"
        );
        Pair { stage: Stage::open(&yaml).await, first, second }
    }

    /// Sends a chat of the usual size.
    pub async fn chat(&self) -> Answer {
        Call::chat("chat").send(self.stage.data).await.unwrap()
    }

    /// The same over these HTTP versions, with a number of its own.
    pub async fn chat_over(&self, wire: Wire, number: usize) -> Answer {
        let call = Api::Chat.call(Api::Chat.body("chat", false, 1000, number));
        wire.connect(self.stage.data).await.send(&call).await.unwrap().0
    }

    /// A streamed chat.
    pub async fn stream(&self) -> Answer {
        Call::chat_stream("chat").send(self.stage.data).await.unwrap()
    }
}

/// Returns everything that a provider got to see of a request but its body.
pub fn outside_of(seen: &Seen) -> String {
    seen.headers.iter().fold(seen.path.clone() + "\n", |all, (name, value)| all + name + ": " + value + "\n")
}

/// Says milliseconds shortly.
pub fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Returns the stops of the answer's trail.
pub fn trail(answer: &Answer) -> Vec<String> {
    let text = answer.header("x-pointsman-trail").unwrap_or_default();
    text.split(',').filter(|stop| !stop.is_empty()).map(str::to_owned).collect()
}
