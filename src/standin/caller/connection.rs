//! How is one call carried over one connection?
//!
//! A [`Talk`] is a call under way: first the head, then pieces of the body; dropping it is leaving
//! (HTTP/1: the socket closes, HTTP/2: `RST_STREAM(CANCEL)`). After a clean end the connection
//! comes back and can carry the next call.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::{Answer, BodyEnd, Event, Splitter, content_of};
use super::{Call, Leave, http1, http2, within};
use crate::standin::{HttpVersion, tls};

/// Bytes of an answer's body at most.
const BODY_MAX: usize = 256 << 20;

/// A byte stream, plain or TLS.
pub(super) trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Pipe for T {}

/// An open connection that can carry calls.
pub struct Connection(Carrier);

enum Carrier {
    Http1(http1::Line),
    Http2(http2::Line),
}

impl Connection {
    /// Opens an HTTP/1.1 connection.
    ///
    /// # Errors
    /// When the address does not accept.
    pub async fn open(address: SocketAddr) -> io::Result<Connection> {
        let socket = connect(address).await?;
        Ok(Connection::over_http1(Box::new(socket), address.to_string()))
    }

    /// Opens an HTTP/2 connection with prior knowledge.
    ///
    /// # Errors
    /// When the address does not accept or does not speak HTTP/2.
    pub async fn open_http2(address: SocketAddr) -> io::Result<Connection> {
        let socket = connect(address).await?;
        Connection::over_http2(Box::new(socket), format!("http://{address}")).await
    }

    /// Opens a TLS connection to a server of that name, trusting this root (PEM) and offering
    /// these ALPN protocols; speaks HTTP/2 where `h2` is agreed on.
    ///
    /// # Errors
    /// When the address does not accept or the handshake fails.
    pub async fn open_tls(
        address: SocketAddr,
        name: &str,
        root_pem: &str,
        protocols: &[&str],
    ) -> io::Result<Connection> {
        let host = format!("{name}:{}", address.port());
        let tls = tls::connector(root_pem, protocols)?;
        let socket = tls.connect(tls::server_name(name)?, connect(address).await?).await?;
        if socket.get_ref().1.alpn_protocol() == Some(b"h2") {
            return Connection::over_http2(Box::new(socket), format!("https://{host}")).await;
        }
        Ok(Connection::over_http1(Box::new(socket), host))
    }

    fn over_http1(pipe: Box<dyn Pipe>, host: String) -> Connection {
        Connection(Carrier::Http1(http1::Line::new(pipe, host)))
    }

    async fn over_http2(pipe: Box<dyn Pipe>, origin: String) -> io::Result<Connection> {
        Ok(Connection(Carrier::Http2(http2::Line::open(pipe, origin).await?)))
    }

    /// Returns a second handle on an HTTP/2 connection, for calls side by side; nothing on HTTP/1.
    #[must_use]
    pub fn another(&self) -> Option<Connection> {
        match &self.0 {
            Carrier::Http1(_) => None,
            Carrier::Http2(line) => Some(Connection(Carrier::Http2(line.clone()))),
        }
    }

    /// Sends a call and leaves the answer to be read step by step.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn begin(self, call: &Call) -> io::Result<Talk> {
        let began = Instant::now();
        let wire = match self.0 {
            Carrier::Http1(line) => Wire::Http1(line.send(call).await?),
            Carrier::Http2(line) => Wire::Http2(line.send(call).await?),
        };
        Ok(Talk { wire, began, answer: unanswered(), splitter: Splitter::default(), body: BytesMut::new() })
    }

    /// Sends a call, reads the answer to its end, and returns the connection where it may be used
    /// again.
    ///
    /// # Errors
    /// As [`Call::send`].
    pub async fn send(self, call: &Call) -> io::Result<(Answer, Option<Connection>)> {
        within(call.limit, async { Ok(self.begin(call).await?.finish(call).await) }).await
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn unanswered() -> Answer {
    Answer {
        version: HttpVersion::Http11,
        status: 0,
        headers: Vec::new(),
        interims: Vec::new(),
        body: Bytes::new(),
        events: Vec::new(),
        ttfb: Duration::ZERO,
        ttfc: None,
        took: Duration::ZERO,
        end: BodyEnd::Left,
    }
}

enum Wire {
    Http1(http1::Talk),
    Http2(http2::Talk),
}

/// A head as the wire brought it.
pub(super) struct AnswerHead {
    pub(super) version: HttpVersion,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) interims: Vec<u16>,
}

/// A call under way. Dropping it is leaving.
pub struct Talk {
    wire: Wire,
    began: Instant,
    answer: Answer,
    splitter: Splitter,
    body: BytesMut,
}

impl Talk {
    /// Reads the head and returns its status.
    ///
    /// # Errors
    /// When the connection ends first or sends no HTTP.
    pub async fn head(&mut self) -> io::Result<u16> {
        let head = match &mut self.wire {
            Wire::Http1(talk) => talk.head().await?,
            Wire::Http2(talk) => talk.head().await?,
        };
        self.answer.ttfb = self.began.elapsed();
        self.answer.version = head.version;
        self.answer.status = head.status;
        self.answer.headers = head.headers;
        self.answer.interims = head.interims;
        Ok(self.answer.status)
    }

    /// Reads the next piece of the body and returns the events that it completed; nothing at a
    /// clean end.
    ///
    /// # Errors
    /// When the body was cut.
    pub async fn next(&mut self) -> io::Result<Option<Vec<Event>>> {
        let piece = match &mut self.wire {
            Wire::Http1(talk) => talk.piece().await?,
            Wire::Http2(talk) => talk.piece().await?,
        };
        let Some(piece) = piece else {
            self.answer.end = BodyEnd::Clean;
            return Ok(None);
        };
        let at = self.began.elapsed();
        self.answer.took = at;
        if self.body.len().saturating_add(piece.len()) > BODY_MAX {
            return Err(io::Error::other("the answer is longer than the caller keeps"));
        }
        self.body.extend_from_slice(&piece);
        if !self.answer.is_stream() {
            self.answer.ttfc.get_or_insert(at);
            return Ok(Some(Vec::new()));
        }
        let events = self.splitter.push(&piece, at);
        if self.answer.ttfc.is_none() && events.iter().any(|event| content_of(&event.data).is_some()) {
            self.answer.ttfc = Some(at);
        }
        self.answer.events.extend(events.iter().cloned());
        Ok(Some(events))
    }

    /// Forgets the body and the events so far, for who reads a stream without end.
    pub fn forget(&mut self) {
        self.body.clear();
        self.answer.events.clear();
    }

    /// Reads until that many events have arrived in all; false where the body ended before.
    pub async fn until_events(&mut self, count: usize) -> bool {
        while self.answer.events.len() < count {
            if !matches!(self.next().await, Ok(Some(_))) {
                return false;
            }
        }
        true
    }

    /// Returns what has arrived so far.
    #[must_use]
    pub fn so_far(&self) -> &Answer {
        &self.answer
    }

    /// Reads to the end, or until the call says to leave. An answer without a head has status 0.
    pub async fn finish(mut self, call: &Call) -> (Answer, Option<Connection>) {
        let leaving = match call.leave {
            Some(Leave::After(span)) => Some(tokio::time::sleep_until(self.began + span)),
            Some(Leave::AfterEvents(_) | Leave::AfterHead) | None => None,
        };
        let cut = match leaving {
            Some(leaving) => tokio::select! {
                cut = self.read_on(call.leave) => cut,
                () = leaving => Ok(()),
            },
            None => self.read_on(call.leave).await,
        };
        if let Err(fault) = cut {
            self.answer.end = BodyEnd::Cut(fault.to_string());
        }
        self.answer.took = self.began.elapsed();
        self.answer.body = self.body.freeze();
        let connection = match self.wire {
            Wire::Http1(talk) if self.answer.end == BodyEnd::Clean => {
                talk.back().map(|line| Connection(Carrier::Http1(line)))
            }
            Wire::Http1(_) => None,
            Wire::Http2(talk) => Some(Connection(Carrier::Http2(talk.back()))),
        };
        (self.answer, connection)
    }

    async fn read_on(&mut self, leave: Option<Leave>) -> io::Result<()> {
        if self.answer.status == 0 {
            self.head().await?;
        }
        if leave == Some(Leave::AfterHead) {
            return Ok(());
        }
        loop {
            if let Some(Leave::AfterEvents(count)) = leave
                && self.answer.events.len() >= count
            {
                return Ok(());
            }
            if self.next().await?.is_none() {
                return Ok(());
            }
        }
    }
}
