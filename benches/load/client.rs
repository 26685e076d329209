//! The client: closed loop, HTTP/1.1 with kept connections, requests rendered beforehand.
//!
//! It reads as little as is needed to know that an answer is right: the status, the length of the
//! decoded body, and for a stream the moment of its first content.

use crate::provider::CONTENT_MARK;
use crate::subject::Road;
use anyhow::{Context as _, bail};
use memchr::memmem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No answer of the bench takes longer, streams included.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, as far as the bench looks at it.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Bytes of the decoded body.
    pub length: usize,
    /// From the first byte of the request to the last of the answer.
    pub whole: Duration,
    /// From the first byte of the request to the first content of a stream.
    pub first_content: Option<Duration>,
}

/// One kept connection.
pub struct Connection {
    stream: TcpStream,
    seen: Vec<u8>,
}

/// Renders a request for the model of a road, its body padded to `size` bytes.
pub fn render(road: &Road, size: usize, extra: &str) -> Vec<u8> {
    let start =
        format!("{{\"model\":\"{}\",{extra}\"messages\":[{{\"role\":\"user\",\"content\":\"", road.model);
    let end = "\"}]}";
    let text = "word ".repeat(size / 5 + 1);
    let room = size.saturating_sub(start.len() + end.len());
    let body = format!("{start}{}{end}", text.get(..room).unwrap_or_default());
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: load/1\r\n\
         accept: application/json\r\nauthorization: Bearer none\r\ncontent-type: application/json\r\n\
         {}content-length: {}\r\n\r\n{body}",
        road.header,
        body.len()
    )
    .into_bytes()
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, seen: Vec::with_capacity(16 * 1024) })
    }

    /// Sends one request and reads the whole answer.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        let asking = self.ask_patiently(request, false);
        Ok(tokio::time::timeout(PATIENCE, asking).await.context("no answer in 60 s")??.0)
    }

    /// The same, with the body.
    pub async fn ask_and_keep(&mut self, request: &[u8]) -> anyhow::Result<(Answer, Vec<u8>)> {
        let asking = self.ask_patiently(request, true);
        tokio::time::timeout(PATIENCE, asking).await.context("no answer in 60 s")?
    }

    async fn ask_patiently(&mut self, request: &[u8], keeps: bool) -> anyhow::Result<(Answer, Vec<u8>)> {
        let start = Instant::now();
        self.stream.write_all(request).await?;
        let (status, framing) = self.read_head().await?;
        let mut first_content = None;
        let mut body = Body::new(framing, keeps);
        loop {
            if first_content.is_none() && memmem::find(&self.seen, CONTENT_MARK).is_some() {
                first_content = Some(start.elapsed());
            }
            body.take_from(&mut self.seen)?;
            if body.is_whole() {
                let answer = Answer { status, length: body.length, whole: start.elapsed(), first_content };
                return Ok((answer, body.kept.unwrap_or_default()));
            }
            self.read_more().await?;
        }
    }

    /// Sends one request and reads up to the first content, and no further.
    pub async fn open_stream(&mut self, request: &[u8]) -> anyhow::Result<()> {
        let wait = async {
            self.stream.write_all(request).await?;
            while memmem::find(&self.seen, CONTENT_MARK).is_none() {
                self.read_more().await?;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, wait).await.context("no first content in 60 s")?
    }

    /// Counts the chunks with content as they come, until the task is dropped or the stream ends.
    pub async fn count(&mut self, chunks: &AtomicUsize) -> anyhow::Result<()> {
        loop {
            chunks.fetch_add(memmem::find_iter(&self.seen, CONTENT_MARK).count(), Ordering::Relaxed);
            // A mark may be torn; its first bytes wait for the others.
            let rest = self.seen.len().min(CONTENT_MARK.len() - 1);
            self.seen.drain(..self.seen.len() - rest);
            self.read_more().await?;
        }
    }

    async fn read_head(&mut self) -> anyhow::Result<(u16, Framing)> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut fields);
            if let httparse::Status::Complete(head) = response.parse(&self.seen)? {
                let status = response.code.context("an answer without a status")?;
                let framing = Framing::of(response.headers)?;
                self.seen.drain(..head);
                return Ok((status, framing));
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.seen).await? == 0 {
            bail!("the connection ended in the middle of an answer");
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Framing {
    fn of(headers: &[httparse::Header<'_>]) -> anyhow::Result<Self> {
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                return Ok(Self::Length(std::str::from_utf8(header.value)?.parse()?));
            }
            if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Ok(Self::Chunked);
            }
        }
        bail!("an answer with neither content-length nor transfer-encoding")
    }
}

/// Where the reading of a body stands.
struct Body {
    length: usize,
    /// The decoded body, where it is wanted.
    kept: Option<Vec<u8>>,
    state: State,
}

enum State {
    /// So many bytes are left, of the body or of a chunk with its line end.
    Plain(usize),
    ChunkSize,
    Chunk(usize),
    Whole,
}

impl Body {
    fn new(framing: Framing, keeps: bool) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Whole,
            Framing::Length(length) => State::Plain(length),
            Framing::Chunked => State::ChunkSize,
        };
        Self { length: 0, kept: keeps.then(Vec::new), state }
    }

    fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole)
    }

    /// Takes what has come in; what is left in `seen` afterwards needs more bytes to be read.
    fn take_from(&mut self, seen: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some(used) = self.step(seen.get(at..).unwrap_or_default())? {
            at += used;
        }
        seen.drain(..at);
        Ok(())
    }

    fn keep(&mut self, bytes: Option<&[u8]>) {
        if let (Some(kept), Some(bytes)) = (&mut self.kept, bytes) {
            kept.extend_from_slice(bytes);
        }
    }

    fn step(&mut self, bytes: &[u8]) -> anyhow::Result<Option<usize>> {
        match self.state {
            State::Whole => Ok(None),
            State::Plain(_) | State::Chunk(_) if bytes.is_empty() => Ok(None),
            State::Plain(left) => {
                let used = left.min(bytes.len());
                self.length += used;
                self.keep(bytes.get(..used));
                self.state = if used == left { State::Whole } else { State::Plain(left - used) };
                Ok(Some(used))
            }
            State::Chunk(left) => {
                let used = left.min(bytes.len());
                // The last two bytes of a chunk are its line end.
                self.keep(bytes.get(..used.min(left.saturating_sub(2))));
                self.state = if used == left { State::ChunkSize } else { State::Chunk(left - used) };
                Ok(Some(used))
            }
            State::ChunkSize => match httparse::parse_chunk_size(bytes) {
                Ok(httparse::Status::Partial) => Ok(None),
                Ok(httparse::Status::Complete((line, 0))) => {
                    if bytes.len() < line + 2 {
                        return Ok(None);
                    }
                    self.state = State::Whole;
                    Ok(Some(line + 2))
                }
                Ok(httparse::Status::Complete((line, size))) => {
                    let size = usize::try_from(size)?;
                    self.length += size;
                    self.state = State::Chunk(size + 2);
                    Ok(Some(line))
                }
                Err(_) => bail!("a chunk without a size"),
            },
        }
    }
}

/// What a stream of chat events says, and whether it came to its end marker.
pub fn said(body: &[u8]) -> (String, bool) {
    let text = String::from_utf8_lossy(body);
    let mut said = String::new();
    let mut has_ended = false;
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim) {
        if data == "[DONE]" {
            has_ended = true;
        } else if let Ok(event) = serde_json::from_str::<serde_json::Value>(data) {
            said.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        }
    }
    (said, has_ended)
}
