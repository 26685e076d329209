//! How do a client's connections become requests, and who answers each?
//!
//! Two answer: [`Proxy::serve`] reads a call whole and drives its attempts; what is passed through
//! unread (files, batches, uploads) goes Pingora's ordinary way, through the hooks of [`Proxy`]. The
//! path decides, before anything is parsed. Pingora's proxy could serve both, and did: but it builds a
//! cache, a compressor, module contexts and a future of fifteen kilobytes for each request, a sixth of
//! what a small call costs, and calls need none of it.
//!
//! **A head comes whole or not at all.** On HTTP/1 the bytes of a head are gathered here, within
//! [`Pace::head`] for all of it and `limits.max_header` (threats C6, C7: Pingora's timer is one per
//! read, its limit a mebibyte), looked at by [`framing`], and handed to Pingora's parser as what it calls
//! the prefix of a pipelined request; which it may be: whoever sends the next call before the answer is
//! answered in its turn (not where this one was in chunks, or is passed through: the connection ends with
//! that). That such a client leaves is not noticed before it is written to: behind its next bytes Pingora
//! looks no further. A connection that asks for nothing for [`IDLE`] is closed, and while the process
//! drains for [`LAST_ASK`], so that a request that is on its way meets no closed door. On HTTP/2 the frame
//! layer has done all this.
//!
//! **A body that came whole with its head** is taken from behind it, by the length that [`framing`] has found
//! to be the only one, and Pingora reads a call without a body: it would copy this one, and keep its own
//! for as long as the answer takes.

use super::framing::{self, Bounds, HeadFault};
use super::pace::Pace;
use super::service::Proxy;
use super::story::Story;
use crate::base::api::ErrorShape;
use crate::base::outcome::ErrorCode;
use crate::layers::corked::corked;
use crate::live::House;
use crate::observe::fault_text;
use crate::route;
use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::server::ReusableHttpStream;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

/// How long a connection may ask for nothing, in seconds.
const IDLE_S: u64 = 60;
const IDLE: Duration = Duration::from_secs(IDLE_S);
/// The same once the process drains.
const LAST_ASK: Duration = Duration::from_secs(5);

/// How long a client that was refused may take to receive why, and to stop sending.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Most that is still read of a client that was refused, in bytes.
const LAST_READ: u64 = 256 * 1024;

/// Room for a head and a small body in one read. What was read is kept for as long as the request; the
/// room is not, and a connection that asks for nothing has none.
const ROOM: usize = 4096;

thread_local! {
    static READ: RefCell<[u8; ROOM]> = const { RefCell::new([0; ROOM]) };
}

/// The data plane of one listener.
pub struct Front {
    proxy: Proxy,
    hooks: Arc<HttpProxy<Proxy>>,
    house: Arc<House>,
    options: HttpServerOptions,
    pace: Pace,
}

/// How reading a head ended.
enum Head {
    Whole(BytesMut),
    /// Nobody asks for anything.
    Quiet,
    Refused(Refused),
}

/// Why a head is not read: status and sentence.
struct Refused(StatusCode, &'static str);

const TOO_SLOW: Refused = Refused(StatusCode::REQUEST_TIMEOUT, "the request head took too long");
const TOO_LARGE: Refused = Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, framing::TOO_LARGE);
/// What only Pingora's parser refuses: a target that is no URI.
const UNREADABLE: Refused = Refused(StatusCode::BAD_REQUEST, "the request head cannot be read");

/// What is said of a head that is not read.
struct Said {
    id: HeaderValue,
    body: Vec<u8>,
}

impl From<HeadFault> for Refused {
    fn from(fault: HeadFault) -> Self {
        match fault {
            HeadFault::Ambiguous(why) => Refused(StatusCode::BAD_REQUEST, why),
            HeadFault::TooLarge => TOO_LARGE,
            HeadFault::TooMany => Refused(TOO_LARGE.0, framing::TOO_MANY),
            HeadFault::Tunnel => Refused(StatusCode::METHOD_NOT_ALLOWED, framing::NO_TUNNEL),
        }
    }
}

impl Front {
    /// Makes the data plane of a listener.
    #[must_use]
    pub fn new(house: Arc<House>, conf: &Arc<ServerConf>, options: HttpServerOptions) -> Self {
        Front::paced(house, conf, options, Pace::default())
    }

    /// Makes the data plane of a listener whose clients may be this slow.
    #[must_use]
    pub fn paced(house: Arc<House>, conf: &Arc<ServerConf>, options: HttpServerOptions, pace: Pace) -> Self {
        let hooks = Arc::new(http_proxy(conf, Proxy::new(Arc::clone(&house), pace)));
        Front { proxy: Proxy::new(Arc::clone(&house), pace), hooks, house, options, pace }
    }

    /// Serves a connection until one side has had enough. On the heap: HTTP/2 has no use for the room that
    /// HTTP/1 takes.
    #[must_use = "nothing is served before it is awaited"]
    pub fn serve<'a>(
        self: &'a Arc<Self>,
        stream: Stream,
        is_http2: bool,
        shutdown: &'a ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        if is_http2 {
            Box::pin(async move { drop(self.process_new(stream, shutdown).await) })
        } else {
            Box::pin(self.connection(stream, shutdown))
        }
    }

    /// Serves an HTTP/1 connection until one side has had enough.
    async fn connection(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let mut stream = corked(stream);
        let mut leaving = shutdown.clone();
        let mut came = BytesMut::new();
        loop {
            let (mut session, is_passed_through) = {
                let mut head = match self.head(&mut stream, &mut leaving, came).await {
                    Head::Whole(head) => head,
                    Head::Quiet => return,
                    Head::Refused(why) => return self.refuse(&mut stream, &why).await,
                };
                let bounds = match framing::check(&head) {
                    Ok(bounds) => bounds,
                    Err(fault) => return self.refuse(&mut stream, &fault.into()).await,
                };
                let is_passed_through = target_of(&head).is_some_and(route::is_passed_through);
                came = if is_passed_through { BytesMut::new() } else { body_of(&mut head, bounds) };
                let mut session = ServerSession::new_http1(stream);
                session.set_pipelined_prefix(head);
                (session, is_passed_through)
            };
            session.set_pipelining_enabled(!is_passed_through);
            session.set_keepalive((!*leaving.borrow()).then_some(IDLE_S));
            let next = if is_passed_through {
                let reused = self.hooks.process_new_http(session, shutdown).await;
                reused.map(|reused| (reused.consume().0, None))
            } else if self.request(&mut session, came.freeze()).await {
                session.finish().await.ok().flatten().map(ReusableHttpStream::into_parts)
            } else {
                None
            };
            let Some((kept, more)) = next else { return };
            stream = kept;
            came = more.unwrap_or_default();
            // RFC 9112 section 2.2: some end a body with a line of its own.
            while came.starts_with(b"\r\n") {
                came.advance(2);
            }
        }
    }

    /// Reads the next head of a connection, of which this much came with the request before, and what
    /// comes with it.
    async fn head(&self, stream: &mut Stream, leaving: &mut ShutdownWatch, came: BytesMut) -> Head {
        let mut head = came;
        if head.is_empty() {
            let first = tokio::select! {
                biased;
                first = pingora::time::timeout(IDLE, read_on(stream, &mut head)) => first,
                // Whoever is just about to ask is answered, and told that it was the last time.
                _ = leaving.changed() => pingora::time::timeout(LAST_ASK, read_on(stream, &mut head)).await,
            };
            if !matches!(first, Ok(Ok(1..))) {
                return Head::Quiet;
            }
        }
        if is_whole(&head, 0) {
            return Head::Whole(head);
        }
        let rest = pingora::time::timeout(self.pace.head, self.rest(stream, &mut head)).await;
        match rest {
            Ok(Ok(true)) => Head::Whole(head),
            Ok(Ok(false)) => Head::Refused(TOO_LARGE),
            Ok(Err(_)) => Head::Quiet,
            Err(_) => Head::Refused(TOO_SLOW),
        }
    }

    /// Reads on until a head is whole; tells whether it fits.
    async fn rest(&self, stream: &mut Stream, head: &mut BytesMut) -> io::Result<bool> {
        let max = usize::try_from(self.house.live().plan.limits.max_header).unwrap_or(usize::MAX);
        loop {
            let seen = head.len();
            if seen > max {
                return Ok(false);
            }
            if read_on(stream, head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if is_whole(head, seen) {
                return Ok(true);
            }
        }
    }

    /// Answers one request of an HTTP/1 connection; tells whether that can carry another.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
    fn request(&self, session: &mut ServerSession, body: Bytes) -> impl Future<Output = bool> {
        async move {
            match session.read_request().await {
                Ok(true) => {
                    if !body.is_empty() {
                        session.req_header_mut().remove_header(&header::CONTENT_LENGTH);
                        // Pingora 0.9.1 forgets what it reads of the next request before it has looked for a body.
                        session.is_body_done();
                    }
                    self.proxy.serve(session, self.proxy.context(body)).await
                }
                Ok(false) => false,
                Err(fault) => {
                    if matches!(fault.etype(), pingora::ErrorType::InvalidHTTPHeader) {
                        // A client that left meanwhile cannot be told.
                        drop(answer_unread(session, self.tell(&UNREADABLE)).await);
                    }
                    session.shutdown().await;
                    false
                }
            }
        }
    }
}

impl Front {
    /// Tells the story of a request of which nothing is known but that it was refused. It is over before the
    /// client has its answer: that may take its time to read it.
    fn tell(&self, Refused(status, why): &Refused) -> Said {
        let (house, code) = (&*self.house, ErrorCode::ValidationFailed);
        let mut story = Story::begin(house.clock.tick());
        story.live = Some(house.live());
        story.name(None, u64::try_from(house.clock.wall().0).unwrap_or(0), rand::random());
        let body = fault_text::error_body(ErrorShape::OpenAi, code, status.as_u16(), why, story.id());
        let id = story.id_header();
        story.refused(status.as_u16(), code);
        story.end(house, None);
        Said { id, body }
    }

    /// Refuses a head that was not read, in the shape that any client can show.
    async fn refuse(&self, stream: &mut Stream, why: &Refused) {
        let Said { id, body } = self.tell(why);
        // RFC 9110 section 15.5.6: a 405 comes with it.
        let allow = match why.0 {
            StatusCode::METHOD_NOT_ALLOWED => format!("allow: {}\r\n", route::ALLOW_ANY),
            _ => String::new(),
        };
        let mut answer = format!(
            "HTTP/1.1 {}\r\n{allow}content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\nx-request-id: {}\r\nx-attempts: 0\r\nx-should-retry: false\r\n\r\n",
            why.0,
            body.len(),
            id.to_str().unwrap_or_default()
        )
        .into_bytes();
        answer.extend_from_slice(&body);
        // A client that left meanwhile cannot be told. One that goes on sending would lose the answer to
        // the reset that closing on unread bytes causes, so a little of it is read.
        drop(
            pingora::time::timeout(LAST_WORDS, async {
                stream.write_all(&answer).await?;
                AsyncWriteExt::shutdown(stream).await?;
                tokio::io::copy(&mut stream.take(LAST_READ), &mut tokio::io::sink()).await
            })
            .await,
        );
    }
}

#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if let ServerSession::H1(session) = session {
            self.connection(session.into_inner(), shutdown).await;
            return None;
        }
        // A stream of HTTP/2 has a task of its own.
        let _present = self.house.parting.attend().await;
        if route::is_passed_through(session.req_header().uri.path()) {
            return self.hooks.process_new_http(session, shutdown).await;
        }
        if self.proxy.serve(&mut session, self.proxy.context(Bytes::new())).await {
            // A client that left meanwhile cannot be told.
            drop(session.finish().await);
        }
        None
    }

    async fn http_cleanup(&self) {
        self.hooks.http_cleanup().await;
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// Reads what there is, adds it to the head, and returns how much that was; 0 at the end.
fn read_on<'a>(
    stream: &'a mut Stream,
    head: &'a mut BytesMut,
) -> impl Future<Output = io::Result<usize>> + 'a {
    poll_fn(move |context| {
        READ.with_borrow_mut(|room| {
            let mut buffer = ReadBuf::new(room);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            head.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
}

/// Tells whether a head has its end, of which the first `seen` bytes did not have it. Lines that end
/// in a bare LF end a head too: the parser is to refuse them, not the clock.
fn is_whole(head: &[u8], seen: usize) -> bool {
    let new = head.get(seen.saturating_sub(3)..).unwrap_or_default();
    memchr::memchr_iter(b'\n', new).any(|at| {
        let next = new.get(at + 1..).unwrap_or_default();
        next.starts_with(b"\r\n") && new.get(..at).is_some_and(|line| line.ends_with(b"\r"))
            || next.starts_with(b"\n")
    })
}

/// Takes the body from behind its head, where it is all that is there, else nothing.
fn body_of(head: &mut BytesMut, bounds: Bounds) -> BytesMut {
    let behind = head.len().saturating_sub(bounds.head);
    let is_all = behind > 0 && bounds.body == Some(behind as u64);
    if is_all { head.split_off(bounds.head) } else { BytesMut::new() }
}

/// Returns the path of a request line, without its query. A target that is no path (`*`, an
/// authority, a whole URI) is nothing that is passed through.
fn target_of(head: &[u8]) -> Option<&str> {
    let line = head.get(..memchr::memchr(b'\n', head)?)?;
    let target = line.split(|byte| *byte == b' ').nth(1)?;
    let path = target.split(|byte| *byte == b'?').next()?;
    std::str::from_utf8(path).ok()
}

/// Answers a head that Pingora did not read either, and lets the connection end with that.
async fn answer_unread(session: &mut ServerSession, said: Said) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(UNREADABLE.0, Some(3))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    head.insert_header("x-request-id", said.id)?;
    head.insert_header("x-attempts", "0")?;
    head.insert_header("x-should-retry", "false")?;
    head.set_content_length(said.body.len())?;
    session.write_error_response(head, said.body.into()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_whole_wherever_it_was_cut() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for seen in 0..head.len() {
            assert!(!is_whole(&head[..seen], 0), "{seen}");
            assert!(is_whole(head, seen), "{seen}");
        }
        assert!(is_whole(b"GET / HTTP/1.1\nhost: a\n\n", 10));
    }

    #[test]
    fn a_body_is_taken_where_it_is_whole_and_nothing_follows() {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n";
        for (behind, body) in [("", ""), ("bod", ""), ("body", "body"), ("body\r\nGET", "")] {
            let mut came = BytesMut::from(format!("{head}{behind}").as_bytes());
            let bounds = framing::check(&came).unwrap();
            assert_eq!(body_of(&mut came, bounds), body, "{behind:?}");
            let left = if body.is_empty() { format!("{head}{behind}") } else { head.to_owned() };
            assert_eq!(came, left.as_bytes(), "{behind:?}");
        }
    }

    #[test]
    fn the_path_of_a_request_line_is_found() {
        for (head, expected) in [
            (&b"POST /v1/files?key=a HTTP/1.1\r\n"[..], Some("/v1/files")),
            (b"GET * HTTP/1.1\n", Some("*")),
            (b"GET\r\n", None),
            (b"GET /v1/files", None),
            (b"GET /\xff HTTP/1.1\r\n", None),
        ] {
            assert_eq!(target_of(head), expected);
        }
    }
}
