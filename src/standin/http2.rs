//! How does the stand-in speak HTTP/2?
//!
//! The same moves as in `http1`, performed on a stream of the `h2` crate (which Pingora brings).
//! A TCP-level close ends the whole connection, as a crash would; a reset is `RST_STREAM`.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Request, Response};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::House;
use super::http1::{BODY_MAX, Socket};
use super::journal::{Ending, HttpVersion, Seen};
use super::moves::{self, Move};
use super::reply::Reply;

/// Window for uploads: with the default of 64 KiB a 5 MB prompt takes eighty round trips.
const WINDOW: u32 = 8 << 20;

/// What a stream wants done to its connection.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Close,
    GoAway(u32),
}

/// Serves a connection until either side ends it.
pub(super) async fn serve<S: Socket>(socket: S, connection: u64, house: Arc<House>) {
    let parting = Arc::new(Mutex::new(None));
    let socket = LastWords { socket, words: Arc::clone(&parting) };
    let handshake = h2::server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(10_000)
        .max_header_list_size(1 << 20)
        .handshake::<_, Bytes>(socket);
    let Ok(mut wire) = handshake.await else { return };
    let (wishing, mut wishes) = mpsc::channel(4);
    let mut farewells = house.farewells.subscribe();
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = wire.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (house, wishing) = (Arc::clone(&house), wishing.clone());
                    streams.spawn(exchange(request, respond, connection, house, wishing));
                }
                Some(Err(_)) | None => break,
            },
            Ok(()) = farewells.changed() => wire.graceful_shutdown(),
            Some(wish) = wishes.recv() => {
                flush(&mut wire).await;
                match wish {
                    Wish::Close => {}
                    Wish::GoAway(code) => *parting.lock() = Some(go_away(code)),
                }
                break;
            }
            Some(_) = streams.join_next() => {}
        }
    }
    // Whoever still waits for a client that is gone has to note it.
    drop(wire);
    drop(wishes);
    while streams.join_next().await.is_some() {}
}

/// Writes what the streams have sent so far: one poll of the connection does, on loopback.
async fn flush<S: Socket>(wire: &mut Connection<LastWords<S>, Bytes>) {
    poll_fn(|context| {
        let _ = wire.poll_accept(context);
        Poll::Ready(())
    })
    .await;
}

/// Returns a GOAWAY frame that disowns every open stream (last stream id 0), which `h2` itself
/// never sends (RFC 9113 section 6.8).
fn go_away(code: u32) -> [u8; 17] {
    let [a, b, c, d] = code.to_be_bytes();
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

/// A socket that says something when it is dropped, after the protocol above it is gone. Over TLS
/// it stays silent: the words would have to be encrypted.
struct LastWords<S: Socket> {
    socket: S,
    words: Arc<Mutex<Option<[u8; 17]>>>,
}

impl<S: Socket> Drop for LastWords<S> {
    fn drop(&mut self) {
        if let Some(words) = self.words.lock().take() {
            self.socket.say_now(&words);
        }
    }
}

impl<S: Socket> AsyncRead for LastWords<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl<S: Socket> AsyncWrite for LastWords<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

async fn exchange(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    connection: u64,
    house: Arc<House>,
    wishing: mpsc::Sender<Wish>,
) {
    let (parts, mut upload) = request.into_parts();
    let mut seen = Seen {
        connection,
        version: HttpVersion::Http2,
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: headers_of(&parts),
        arrived: house.now(),
        ..Seen::default()
    };
    house.journal.enter(&mut seen);
    let mut stage = Stage { respond, body: None, house: &house, wishing };
    let early = house.choose_before_body(&seen);
    if !early.as_ref().is_some_and(|reply| reply.is_early) {
        match read_body(&mut upload).await {
            Some(body) => seen.body = body,
            None => return house.end(&mut seen, Ending::ClientLeft),
        }
    }
    let ask = house.read_body(&mut seen);
    let reply: Arc<Reply> = early.unwrap_or_else(|| house.choose(&seen));
    let played = stage.play(&moves::compile(&reply, &ask, &seen), &mut seen).await;
    house.end(&mut seen, played.unwrap_or(Ending::ClientLeft));
}

fn headers_of(parts: &http::request::Parts) -> Vec<(String, String)> {
    let authority = parts.uri.authority().map(|authority| ("host".to_owned(), authority.to_string()));
    let rest = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    authority.into_iter().chain(rest).collect()
}

/// Reads an upload; nothing when it broke off or is too long.
async fn read_body(upload: &mut RecvStream) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = upload.data().await {
        let piece = piece.ok()?;
        upload.flow_control().release_capacity(piece.len()).ok()?;
        if body.len().saturating_add(piece.len()) > BODY_MAX {
            return None;
        }
        body.extend_from_slice(&piece);
    }
    Some(body.freeze())
}

/// One stream while it is answered.
struct Stage<'a> {
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
    house: &'a House,
    wishing: mpsc::Sender<Wish>,
}

impl Stage<'_> {
    async fn play(&mut self, moves: &[Move], seen: &mut Seen) -> Result<Ending, h2::Error> {
        let mut ending = Ending::Pending;
        for step in moves {
            match step {
                Move::Interim(status) => {
                    let mut interim = Response::new(());
                    *interim.status_mut() = status_code(*status);
                    self.respond.send_informational(interim)?;
                }
                Move::Head { status, headers, .. } => {
                    seen.answered = Some(self.house.now());
                    let head = head_of(*status, headers);
                    self.body = Some(self.respond.send_response(head, false)?);
                }
                Move::Body(bytes) => self.send(bytes.clone()).await?,
                Move::Finish => {
                    if let Some(body) = &mut self.body {
                        body.send_data(Bytes::new(), true)?;
                    }
                    ending = Ending::Answered;
                    self.house.end(seen, ending);
                }
                Move::Wait(span) => {
                    if self.leaves_before(tokio::time::sleep(*span)).await {
                        return Ok(Ending::ClientLeft);
                    }
                }
                Move::Hold(gate) => {
                    if self.leaves_before(gate.passed()).await {
                        return Ok(Ending::ClientLeft);
                    }
                }
                Move::Hush => {
                    self.leaves_before(std::future::pending()).await;
                    return Ok(Ending::ClientLeft);
                }
                Move::Reset => return Ok(self.reset(Reason::INTERNAL_ERROR)),
                Move::Raw(_) => return Ok(self.reset(Reason::PROTOCOL_ERROR)),
                Move::StreamReset(code) => return Ok(self.reset(Reason::from(*code))),
                Move::Close => return Ok(self.wish(Wish::Close).await),
                Move::GoAway(code) => return Ok(self.wish(Wish::GoAway(*code)).await),
            }
        }
        Ok(ending)
    }

    /// Sends body bytes as the client's window allows.
    async fn send(&mut self, bytes: Bytes) -> Result<(), h2::Error> {
        let Some(body) = &mut self.body else { return Ok(()) };
        let mut rest = bytes;
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            // Nothing more to be granted is how a reset by the client shows here.
            let granted = poll_fn(|context| body.poll_capacity(context)).await;
            let granted = granted.unwrap_or(Err(Reason::CANCEL.into()))?;
            body.send_data(rest.split_to(granted.min(rest.len())), false)?;
        }
        Ok(())
    }

    fn reset(&mut self, reason: Reason) -> Ending {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
        Ending::CutByUs
    }

    async fn wish(&mut self, wish: Wish) -> Ending {
        // A closed channel means that the connection is going down already.
        let _ = self.wishing.send(wish).await;
        // A stream dropped before its connection would say RST_STREAM(CANCEL) first.
        self.wishing.closed().await;
        Ending::CutByUs
    }

    /// Waits for `done`; tells whether the client reset the stream or left first.
    async fn leaves_before(&mut self, done: impl Future<Output = ()>) -> bool {
        let reset = poll_fn(|context| match &mut self.body {
            Some(body) => body.poll_reset(context).map(|_| ()),
            None => self.respond.poll_reset(context).map(|_| ()),
        });
        tokio::select! {
            biased;
            () = done => false,
            () = reset => true,
        }
    }
}

fn status_code(status: u16) -> http::StatusCode {
    http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR)
}

fn head_of(status: u16, headers: &[(String, String)]) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status_code(status);
    for (name, value) in headers {
        // Headers of a connection have no place in HTTP/2 (RFC 9113 section 8.2.2).
        if matches!(name.as_str(), "connection" | "keep-alive" | "transfer-encoding" | "upgrade") {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            head.headers_mut().append(name, value);
        }
    }
    head
}
