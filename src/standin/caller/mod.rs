//! How does a client see an answer?
//!
//! A small client for loopback that measures: when the head came, when the first content, when
//! each event; whether the body ended properly or was cut. It can upload by length, by chunks,
//! slowly or after `100 Continue`, can leave early, keeps connections, and speaks HTTP/1.1, HTTP/2
//! with prior knowledge, and TLS to a given root. It is no general client: no proxies, no
//! redirects, no decompression, one address.
//!
//! A cut body is not an error of the call: it is an [`Answer`] whose [`BodyEnd`] says so, since
//! what arrived before the cut is what tests are about.

mod answer;
mod connection;
mod http1;
mod http2;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use self::answer::{Answer, BodyEnd, Event};
pub use self::connection::{Connection, Talk};

/// How long a call may take unless it says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// How the body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    /// With its length, at once.
    Whole,
    /// In chunks of 16 KiB (HTTP/2: without a length).
    Chunked,
    /// With its length, in pieces that far apart.
    Paced { piece: usize, gap: Duration },
    /// With its length, after `100 Continue` (HTTP/1 only).
    AfterContinue,
}

/// When the caller leaves before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    After(Duration),
    AfterEvents(usize),
    AfterHead,
}

/// One request, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) upload: Upload,
    is_http2: bool,
    leave: Option<Leave>,
    limit: Duration,
}

impl Call {
    fn new(method: &str, path: &str, body: Bytes) -> Call {
        Call {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body,
            upload: Upload::Whole,
            is_http2: false,
            leave: None,
            limit: LIMIT,
        }
    }

    /// A GET.
    #[must_use]
    pub fn get(path: &str) -> Call {
        Call::new("GET", path, Bytes::new())
    }

    /// A POST of these bytes, without a content type.
    #[must_use]
    pub fn post(path: &str, body: impl Into<Bytes>) -> Call {
        Call::new("POST", path, body.into())
    }

    /// A POST of this JSON.
    #[must_use]
    pub fn json(path: &str, body: &serde_json::Value) -> Call {
        Call::post(path, body.to_string()).header("content-type", "application/json")
    }

    /// A chat completion with one user message.
    #[must_use]
    pub fn chat(model: &str) -> Call {
        let message = serde_json::json!({"role": "user", "content": "Say something."});
        Call::json("/v1/chat/completions", &serde_json::json!({"model": model, "messages": [message]}))
    }

    /// The same, streamed, with usage asked for.
    #[must_use]
    pub fn chat_stream(model: &str) -> Call {
        let message = serde_json::json!({"role": "user", "content": "Say something."});
        Call::json(
            "/v1/chat/completions",
            &serde_json::json!({
                "model": model,
                "messages": [message],
                "stream": true,
                "stream_options": {"include_usage": true},
            }),
        )
    }

    /// An Anthropic message with one user message.
    #[must_use]
    pub fn message(model: &str, is_streamed: bool) -> Call {
        let message = serde_json::json!({"role": "user", "content": "Say something."});
        let mut body = serde_json::json!({"model": model, "max_tokens": 256, "messages": [message]});
        if is_streamed && let Some(fields) = body.as_object_mut() {
            fields.insert("stream".to_owned(), true.into());
        }
        Call::json("/v1/messages", &body).header("anthropic-version", "2023-06-01")
    }

    /// Uses another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Call {
        method.clone_into(&mut self.method);
        self
    }

    /// Tells whether it is a GET.
    #[must_use]
    pub fn is_get(&self) -> bool {
        self.method == "GET"
    }

    /// Uses another path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Call {
        path.clone_into(&mut self.path);
        self
    }

    /// Adds a header. `host`, `content-length` and `transfer-encoding` replace the ones that
    /// would be sent otherwise.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Call {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, key: &str) -> Call {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// Speaks HTTP/2 with prior knowledge where the call opens its own connection.
    #[must_use]
    pub fn http2(mut self) -> Call {
        self.is_http2 = true;
        self
    }

    /// Uploads in chunks.
    #[must_use]
    pub fn chunked(mut self) -> Call {
        self.upload = Upload::Chunked;
        self
    }

    /// Uploads in pieces of that many bytes, that far apart.
    #[must_use]
    pub fn paced(mut self, piece: usize, gap: Duration) -> Call {
        self.upload = Upload::Paced { piece: piece.max(1), gap };
        self
    }

    /// Sends `Expect: 100-continue` and the body only after the interim answer.
    #[must_use]
    pub fn expecting_continue(mut self) -> Call {
        self.upload = Upload::AfterContinue;
        self.header("expect", "100-continue")
    }

    /// Leaves that long after the start.
    #[must_use]
    pub fn leaving_after(mut self, span: Duration) -> Call {
        self.leave = Some(Leave::After(span));
        self
    }

    /// Leaves once that many events have arrived.
    #[must_use]
    pub fn leaving_after_events(mut self, count: usize) -> Call {
        self.leave = Some(Leave::AfterEvents(count));
        self
    }

    /// Leaves once the head has arrived.
    #[must_use]
    pub fn leaving_after_head(mut self) -> Call {
        self.leave = Some(Leave::AfterHead);
        self
    }

    /// Gives up with an error after that long (default 60 s).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Call {
        self.limit = limit;
        self
    }

    /// Opens a connection, sends the call and reads the answer to its end.
    ///
    /// # Errors
    /// When there is no connection, no head, or no end within the limit.
    pub async fn send(&self, address: SocketAddr) -> io::Result<Answer> {
        let exchange = async { Ok(self.begin(address).await?.finish(self).await.0) };
        within(self.limit, exchange).await
    }

    /// Opens a connection and sends the call; the answer is read by the caller step by step.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn begin(&self, address: SocketAddr) -> io::Result<Talk> {
        let connection = if self.is_http2 {
            Connection::open_http2(address).await?
        } else {
            Connection::open(address).await?
        };
        connection.begin(self).await
    }
}

/// Sends these bytes as they are and returns what comes back until the other side closes or
/// `limit` has passed: for requests that no client should send.
///
/// # Errors
/// When there is no connection.
pub async fn raw(address: SocketAddr, bytes: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address).await?;
    let mut answer = Vec::new();
    let exchange = async {
        // The other side may refuse before it has read everything.
        let _ = socket.write_all(bytes).await;
        let _ = socket.read_to_end(&mut answer).await;
    };
    let _ = tokio::time::timeout(limit, exchange).await;
    Ok(answer)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no end within the limit of the call")),
    }
}
