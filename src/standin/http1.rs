//! How does the stand-in speak HTTP/1?
//!
//! A server of its own on the raw socket, because the faults are faults of the socket: a RST is
//! `SO_LINGER` 0, a stall is not writing, a lying length is just bytes. Heads are parsed by
//! httparse; bodies come by length or by chunks, up to 64 MiB. While it waits it reads, so that a
//! client that leaves is noticed at once; what a pipelining client sent meanwhile is kept. A
//! client that shuts down only its sending half counts as gone, as with most servers.
//!
//! The healthy path is one read, one write: moves gather in a buffer that is flushed before every
//! wait and at the end.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::House;
use super::ask::Ask;
use super::journal::{Ending, HttpVersion, Seen};
use super::moves::{self, Framing, Move};
use super::reply::Reply;

/// Bytes of a request's head at most.
const HEAD_MAX: usize = 1 << 20;
/// Bytes of a request's body at most.
pub(super) const BODY_MAX: usize = 64 << 20;
/// Header lines at most.
const HEADERS_MAX: usize = 256;
/// What a client may send ahead while it is answered.
const AHEAD_MAX: usize = 1 << 20;
/// Bytes asked for in one read: five megabytes come in about eighty.
const READ_STEP: usize = 64 << 10;
/// How long a connection that answered early waits for its client to notice.
const EARLY_LINGER: Duration = Duration::from_secs(5);

/// A byte stream over a TCP connection that can be reset.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    /// Returns the connection below.
    fn tcp(&self) -> &TcpStream;

    /// Sends bytes at once, where that is possible without a protocol in between.
    fn say_now(&self, bytes: &[u8]);
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }

    fn say_now(&self, bytes: &[u8]) {
        // A full send buffer means that nobody reads; then nobody misses the words.
        let _ = self.try_write(bytes);
    }
}

impl Socket for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }

    fn say_now(&self, _bytes: &[u8]) {}
}

/// One connection.
struct Line<S> {
    socket: S,
    ahead: BytesMut,
    out: BytesMut,
}

/// The head of a request, with what it says about body and connection.
struct Head {
    method: String,
    path: String,
    version: HttpVersion,
    headers: Vec<(String, String)>,
    body: BodyKind,
    is_kept: bool,
    expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyKind {
    Length(usize),
    Chunked,
}

/// Whether the connection goes on after an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    StaleRequest,
    Closed,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve<S: Socket>(socket: S, connection: u64, house: Arc<House>) {
    let mut line = Line { socket, ahead: BytesMut::new(), out: BytesMut::new() };
    let mut next = Next::Request;
    while next != Next::Closed {
        // Errors are the client's leaving; the journal has what matters of it.
        next =
            exchange(&mut line, connection, &house, next == Next::StaleRequest).await.unwrap_or(Next::Closed);
    }
}

async fn exchange<S: Socket>(
    line: &mut Line<S>,
    connection: u64,
    house: &House,
    is_stale: bool,
) -> io::Result<Next> {
    let Some(head) = line.read_head().await? else { return Ok(Next::Closed) };
    let mut seen = Seen {
        connection,
        version: head.version,
        method: head.method,
        path: head.path,
        headers: head.headers,
        arrived: house.now(),
        ..Seen::default()
    };
    house.journal.enter(&mut seen);
    if is_stale {
        house.end(&mut seen, Ending::CutByUs);
        return Ok(Next::Closed);
    }
    let early = house.choose_before_body(&seen);
    if let Some(reply) = early.as_ref().filter(|reply| reply.is_early) {
        return answer_early(line, &mut seen, reply, house).await;
    }
    if head.expects_continue {
        line.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    match line.read_body(head.body).await {
        Ok(body) => seen.body = body,
        Err(fault) => {
            house.end(&mut seen, Ending::ClientLeft);
            return Err(fault);
        }
    }
    let ask = house.read_body(&mut seen);
    let reply = early.unwrap_or_else(|| house.choose(&seen));
    let played = line.play(&moves::compile(&reply, &ask, &seen), &mut seen, house).await;
    let (ending, is_open) = match played {
        Ok(played) => played,
        Err(_) => (Ending::ClientLeft, false),
    };
    house.end(&mut seen, ending);
    Ok(match (is_open && head.is_kept, reply.is_stale_afterwards) {
        (true, true) => Next::StaleRequest,
        (true, false) => Next::Request,
        (false, _) => Next::Closed,
    })
}

/// Answers and then neither reads the upload nor closes until the client has noticed: a close with
/// unread bytes would be a RST and could destroy the answer on its way.
async fn answer_early<S: Socket>(
    line: &mut Line<S>,
    seen: &mut Seen,
    reply: &Reply,
    house: &House,
) -> io::Result<Next> {
    let ask = Ask::read(&seen.method, &seen.path, b"", is_anthropic(seen));
    let mut moves = moves::compile(reply, &ask, seen);
    for step in &mut moves {
        if let Move::Head { headers, .. } = step {
            headers.push(("connection".to_owned(), "close".to_owned()));
        }
    }
    let ending = line.play(&moves, seen, house).await.map_or(Ending::ClientLeft, |(ending, _)| ending);
    house.end(seen, ending);
    if ending == Ending::Answered {
        line.socket.shutdown().await?;
        let _ = tokio::time::timeout(EARLY_LINGER, line.socket.tcp().ready(tokio::io::Interest::ERROR)).await;
    }
    Ok(Next::Closed)
}

/// Tells whether a request without a call of its own comes from an Anthropic client.
pub(super) fn is_anthropic(seen: &Seen) -> bool {
    seen.header("anthropic-version").is_some()
}

impl<S: Socket> Line<S> {
    /// Reads more bytes ahead; false at the end of the connection.
    async fn read_more(&mut self) -> io::Result<bool> {
        self.ahead.reserve(READ_STEP);
        Ok(self.socket.read_buf(&mut self.ahead).await? > 0)
    }

    async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some((head, length)) = parse_head(&self.ahead)? {
                self.ahead.advance(length);
                return Ok(Some(head));
            }
            if self.ahead.len() > HEAD_MAX {
                return Err(io::Error::other("head too long"));
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        }
    }

    async fn read_body(&mut self, kind: BodyKind) -> io::Result<Bytes> {
        match kind {
            BodyKind::Length(length) if length > BODY_MAX => Err(io::Error::other("body too long")),
            BodyKind::Length(length) => {
                self.read_exactly(length).await?;
                Ok(self.ahead.split_to(length).freeze())
            }
            BodyKind::Chunked => self.read_chunks().await,
        }
    }

    /// Reads until at least that many bytes lie ahead.
    async fn read_exactly(&mut self, length: usize) -> io::Result<()> {
        while self.ahead.len() < length {
            self.ahead.reserve(length - self.ahead.len());
            if self.socket.read_buf(&mut self.ahead).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn read_chunks(&mut self) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let size = match httparse::parse_chunk_size(&self.ahead) {
                Ok(httparse::Status::Complete((head, size))) => {
                    self.ahead.advance(head);
                    usize::try_from(size).unwrap_or(usize::MAX)
                }
                Ok(httparse::Status::Partial) => {
                    if !self.read_more().await? {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    continue;
                }
                Err(_) => return Err(io::Error::other("bad chunk size")),
            };
            if size == 0 {
                self.skip_trailers().await?;
                return Ok(body.freeze());
            }
            if body.len().saturating_add(size) > BODY_MAX {
                return Err(io::Error::other("body too long"));
            }
            // The line end after the data is part of the chunk.
            self.read_exactly(size + 2).await?;
            body.extend_from_slice(&self.ahead.split_to(size));
            self.ahead.advance(2);
        }
    }

    async fn skip_trailers(&mut self) -> io::Result<()> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.ahead) {
                let is_last = self.ahead.get(..end).is_some_and(|text| text.trim_ascii().is_empty());
                self.ahead.advance(end + 1);
                if is_last {
                    return Ok(());
                }
            } else if !self.read_more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Performs an answer; tells how it ended and whether the connection may carry another.
    async fn play(&mut self, moves: &[Move], seen: &mut Seen, house: &House) -> io::Result<(Ending, bool)> {
        let mut framing = Framing::Length(0);
        let mut is_kept = true;
        let mut ending = Ending::Pending;
        for step in moves {
            match step {
                Move::Interim(status) => put_status(&mut self.out, *status, "\r\n"),
                Move::Head { status, headers, framing: wanted } => {
                    is_kept = put_head(&mut self.out, *status, headers, *wanted);
                    framing = *wanted;
                }
                Move::Body(_) if seen.method == "HEAD" => {}
                Move::Body(bytes) => put_body(&mut self.out, bytes, framing),
                Move::Raw(bytes) => self.out.extend_from_slice(bytes),
                Move::Finish => {
                    if framing == Framing::Chunked && seen.method != "HEAD" {
                        self.out.extend_from_slice(b"0\r\n\r\n");
                    }
                    self.flush(seen, house).await?;
                    if framing == Framing::UntilClose {
                        self.socket.shutdown().await?;
                        is_kept = false;
                    }
                    ending = Ending::Answered;
                    // Told here, not at the return: moves after the end may take their time.
                    house.end(seen, ending);
                }
                Move::Wait(span) => {
                    self.flush(seen, house).await?;
                    if self.leaves_before(tokio::time::sleep(*span)).await {
                        return Ok((left(ending), false));
                    }
                }
                Move::Hold(gate) => {
                    self.flush(seen, house).await?;
                    if self.leaves_before(gate.passed()).await {
                        return Ok((left(ending), false));
                    }
                }
                Move::Hush => {
                    self.flush(seen, house).await?;
                    self.leaves_before(std::future::pending()).await;
                    return Ok((left(ending), false));
                }
                Move::Reset | Move::StreamReset(_) => {
                    self.flush(seen, house).await?;
                    self.socket.tcp().set_zero_linger()?;
                    return Ok((cut(ending), false));
                }
                Move::Close | Move::GoAway(_) => {
                    self.flush(seen, house).await?;
                    self.socket.shutdown().await?;
                    return Ok((cut(ending), false));
                }
            }
        }
        Ok((ending, is_kept))
    }

    async fn flush(&mut self, seen: &mut Seen, house: &House) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        if seen.answered.is_none() {
            seen.answered = Some(house.now());
        }
        self.socket.write_all(&self.out).await?;
        self.socket.flush().await?;
        self.out.clear();
        Ok(())
    }

    /// Waits for `done`; tells whether the client left first.
    async fn leaves_before(&mut self, done: impl Future<Output = ()>) -> bool {
        tokio::pin!(done);
        loop {
            if self.ahead.len() > AHEAD_MAX {
                done.await;
                return false;
            }
            self.ahead.reserve(READ_STEP);
            tokio::select! {
                biased;
                () = &mut done => return false,
                read = self.socket.read_buf(&mut self.ahead) => {
                    if !read.is_ok_and(|count| count > 0) {
                        return true;
                    }
                }
            }
        }
    }
}

fn left(ending: Ending) -> Ending {
    if ending == Ending::Pending { Ending::ClientLeft } else { ending }
}

fn cut(ending: Ending) -> Ending {
    if ending == Ending::Pending { Ending::CutByUs } else { ending }
}

fn put_status(out: &mut BytesMut, status: u16, end: &str) {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    // Writing into a buffer in memory does not fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n{end}", reason.unwrap_or("Status"));
}

/// Writes a head; tells whether the connection may be kept after it.
fn put_head(out: &mut BytesMut, status: u16, headers: &[(String, String)], framing: Framing) -> bool {
    put_status(out, status, "");
    let mut is_kept = true;
    let mut is_framed = matches!(status, 204 | 304);
    for (name, value) in headers {
        let _ = write!(out, "{name}: {value}\r\n");
        is_framed |= name == "content-length" || name == "transfer-encoding";
        is_kept &= !(name == "connection" && value.eq_ignore_ascii_case("close"));
    }
    // A test that sets its own framing means it, lies included.
    let _ = match framing {
        Framing::Length(_) | Framing::Chunked if is_framed => out.write_str("\r\n"),
        Framing::Length(length) => write!(out, "content-length: {length}\r\n\r\n"),
        Framing::Chunked => out.write_str("transfer-encoding: chunked\r\n\r\n"),
        Framing::UntilClose => out.write_str("connection: close\r\n\r\n"),
    };
    is_kept
}

fn put_body(out: &mut BytesMut, bytes: &Bytes, framing: Framing) {
    if bytes.is_empty() {
        return;
    }
    match framing {
        Framing::Length(_) | Framing::UntilClose => out.extend_from_slice(bytes),
        Framing::Chunked => {
            let _ = write!(out, "{:x}\r\n", bytes.len());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Parses a request's head; nothing while it is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut lines);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(fault) => return Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
    };
    let version = if request.version == Some(0) { HttpVersion::Http10 } else { HttpVersion::Http11 };
    let headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|line| (line.name.to_owned(), String::from_utf8_lossy(line.value).into_owned()))
        .collect();
    let value_of = |name: &str| {
        headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    };
    let says = |name: &str, word: &str| {
        value_of(name).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    let body = if says("transfer-encoding", "chunked") {
        BodyKind::Chunked
    } else {
        BodyKind::Length(value_of("content-length").and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    };
    let is_kept = match version {
        HttpVersion::Http10 => says("connection", "keep-alive"),
        HttpVersion::Http11 | HttpVersion::Http2 => !says("connection", "close"),
    };
    let expects_continue = says("expect", "100-continue");
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        version,
        body,
        is_kept,
        expects_continue,
        headers,
    };
    Ok(Some((head, length)))
}
