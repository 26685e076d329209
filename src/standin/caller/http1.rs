//! A call over HTTP/1.1.
//!
//! The upload goes on while the answer is read, because a server may answer before it has read
//! everything; a failed upload does not end the call for the same reason.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::connection::{AnswerHead, Pipe};
use super::{Call, Upload};
use crate::standin::HttpVersion;

/// Bytes of an answer's head at most.
const HEAD_MAX: usize = 1 << 20;
/// Header lines at most.
const HEADERS_MAX: usize = 512;
/// A chunk of a chunked upload.
const CHUNK: usize = 16 << 10;
/// Bodies up to this size are written in one go with the head.
const INLINE_MAX: usize = 64 << 10;

type Writer = WriteHalf<Box<dyn Pipe>>;
type Uploading = Pin<Box<dyn Future<Output = Option<Writer>> + Send>>;

/// An idle connection.
pub(super) struct Line {
    reader: ReadHalf<Box<dyn Pipe>>,
    writer: Writer,
    host: String,
    ahead: BytesMut,
}

/// A call under way.
pub(super) struct Talk {
    reader: ReadHalf<Box<dyn Pipe>>,
    /// The body, or the part of it that follows the head.
    upload: Option<Uploading>,
    writer: Option<Writer>,
    /// A body that waits for `100 Continue`.
    awaiting: Option<Bytes>,
    host: String,
    ahead: BytesMut,
    method: String,
    left: Left,
    is_kept: bool,
}

/// What of the body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Bytes(usize),
    Chunks,
    /// Inside a chunk.
    Chunk(usize),
    UntilClose,
    Nothing,
}

impl Line {
    pub(super) fn new(pipe: Box<dyn Pipe>, host: String) -> Line {
        let (reader, writer) = tokio::io::split(pipe);
        Line { reader, writer, host, ahead: BytesMut::new() }
    }

    pub(super) async fn send(self, call: &Call) -> io::Result<Talk> {
        let Line { reader, mut writer, host, ahead } = self;
        let mut head = head_of(call, &host);
        let mut talk = Talk {
            reader,
            upload: None,
            writer: None,
            awaiting: None,
            host,
            ahead,
            method: call.method.clone(),
            left: Left::Nothing,
            is_kept: true,
        };
        if call.upload == Upload::Whole && call.body.len() <= INLINE_MAX {
            head.extend_from_slice(&call.body);
            writer.write_all(&head).await?;
            talk.writer = Some(writer);
            return Ok(talk);
        }
        writer.write_all(&head).await?;
        if call.upload == Upload::AfterContinue {
            talk.awaiting = Some(call.body.clone());
            talk.writer = Some(writer);
        } else {
            talk.upload = Some(Box::pin(upload(writer, call.body.clone(), call.upload)));
        }
        Ok(talk)
    }
}

fn head_of(call: &Call, host: &str) -> BytesMut {
    let mut head = BytesMut::with_capacity(512 + call.body.len().min(INLINE_MAX));
    let own = |name: &str| call.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    // Writing into a buffer in memory does not fail.
    let _ = write!(head, "{} {} HTTP/1.1\r\n", call.method, call.path);
    if !own("host") {
        let _ = write!(head, "host: {host}\r\n");
    }
    for (name, value) in &call.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let is_framed = own("content-length") || own("transfer-encoding");
    if call.upload == Upload::Chunked && !is_framed {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if !is_framed && (!call.body.is_empty() || call.method == "POST") {
        let _ = write!(head, "content-length: {}\r\n", call.body.len());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Sends a body; returns the writer, or nothing when the other side would not take it.
async fn upload(mut writer: Writer, body: Bytes, how: Upload) -> Option<Writer> {
    match how {
        Upload::Whole | Upload::AfterContinue => writer.write_all(&body).await.ok()?,
        Upload::Paced { piece, gap } => {
            for part in body.chunks(piece) {
                writer.write_all(part).await.ok()?;
                tokio::time::sleep(gap).await;
            }
        }
        Upload::Chunked => {
            for part in body.chunks(CHUNK) {
                let framed = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
                writer.write_all(&framed).await.ok()?;
            }
            writer.write_all(b"0\r\n\r\n").await.ok()?;
        }
    }
    Some(writer)
}

impl Talk {
    /// Reads more bytes while the upload goes on; false at the end of the connection.
    async fn read_more(&mut self) -> io::Result<bool> {
        self.ahead.reserve(16 << 10);
        loop {
            let Some(uploading) = &mut self.upload else {
                return Ok(self.reader.read_buf(&mut self.ahead).await? > 0);
            };
            tokio::select! {
                writer = uploading => {
                    self.writer = writer;
                    self.upload = None;
                }
                read = self.reader.read_buf(&mut self.ahead) => return Ok(read? > 0),
            }
        }
    }

    pub(super) async fn head(&mut self) -> io::Result<AnswerHead> {
        let mut interims = Vec::new();
        loop {
            let Some(parsed) = parse_head(&self.ahead)? else {
                if self.ahead.len() > HEAD_MAX {
                    return Err(io::Error::other("head too long"));
                }
                if !self.read_more().await? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            };
            let (status, headers, length) = parsed;
            self.ahead.advance(length);
            if (100..200).contains(&status) && status != 101 {
                interims.push(status);
                if status == 100
                    && let (Some(body), Some(writer)) = (self.awaiting.take(), self.writer.take())
                {
                    self.upload = Some(Box::pin(upload(writer, body, Upload::AfterContinue)));
                }
                continue;
            }
            self.note_framing(status, &headers);
            return Ok(AnswerHead { version: HttpVersion::Http11, status, headers, interims });
        }
    }

    fn note_framing(&mut self, status: u16, headers: &[(String, String)]) {
        let value_of = |name: &str| {
            headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        self.is_kept = !value_of("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let is_chunked =
            value_of("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let length = value_of("content-length").and_then(|length| length.parse().ok());
        self.left = if self.method == "HEAD" || matches!(status, 101 | 204 | 304) {
            Left::Nothing
        } else if is_chunked {
            Left::Chunks
        } else {
            length.map_or(Left::UntilClose, Left::Bytes)
        };
    }

    /// Reads the next piece of the body; nothing at its proper end.
    pub(super) async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.left {
                Left::Nothing | Left::Bytes(0) => return Ok(None),
                Left::Chunks => {
                    if self.next_chunk()? {
                        continue;
                    }
                }
                Left::Bytes(_) | Left::Chunk(_) | Left::UntilClose => {
                    if let Some(piece) = self.take_piece() {
                        return Ok(Some(piece));
                    }
                }
            }
            if !self.read_more().await? {
                self.is_kept = false;
                return match self.left {
                    Left::UntilClose => Ok(None),
                    Left::Bytes(_) | Left::Chunks | Left::Chunk(_) | Left::Nothing => {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    }
                };
            }
        }
    }

    /// Takes what lies ahead of the current length or chunk.
    fn take_piece(&mut self) -> Option<Bytes> {
        let wanted = match self.left {
            Left::Bytes(length) | Left::Chunk(length) => length,
            Left::UntilClose => usize::MAX,
            Left::Chunks | Left::Nothing => 0,
        };
        let piece = self.ahead.split_to(self.ahead.len().min(wanted)).freeze();
        if piece.is_empty() {
            return None;
        }
        let rest = wanted - piece.len();
        self.left = match self.left {
            Left::Bytes(_) => Left::Bytes(rest),
            Left::Chunk(_) if rest == 0 => Left::Chunks,
            Left::Chunk(_) => Left::Chunk(rest),
            Left::UntilClose => Left::UntilClose,
            Left::Chunks => Left::Chunks,
            Left::Nothing => Left::Nothing,
        };
        Some(piece)
    }

    /// Reads a chunk's head, or the end of the chunks; false when more bytes are needed.
    fn next_chunk(&mut self) -> io::Result<bool> {
        // The line end after a chunk's data comes first, but for the first chunk.
        let skipped = self.ahead.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count().min(2);
        let bytes = self.ahead.get(skipped..).unwrap_or_default();
        match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete((_, 0))) => {
                if !bytes.ends_with(b"\r\n\r\n") {
                    return Ok(false);
                }
                self.ahead.clear();
                self.left = Left::Nothing;
                Ok(true)
            }
            Ok(httparse::Status::Complete((head, size))) => {
                self.ahead.advance(skipped + head);
                self.left = Left::Chunk(usize::try_from(size).unwrap_or(usize::MAX));
                Ok(true)
            }
            Ok(httparse::Status::Partial) => Ok(false),
            Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "bad chunk size")),
        }
    }

    /// Returns the connection where it may carry another call.
    pub(super) fn back(self) -> Option<Line> {
        let writer = self.writer.filter(|_| self.is_kept && self.upload.is_none())?;
        Some(Line { reader: self.reader, writer, host: self.host, ahead: self.ahead })
    }
}

type ParsedHead = (u16, Vec<(String, String)>, usize);

fn parse_head(bytes: &[u8]) -> io::Result<Option<ParsedHead>> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut lines);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => {
            let headers = response
                .headers
                .iter()
                .map(|line| (line.name.to_owned(), String::from_utf8_lossy(line.value).into_owned()))
                .collect();
            Ok(Some((response.code.unwrap_or_default(), headers, length)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
    }
}
