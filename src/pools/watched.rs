//! What lies between a session and its connection: one write for a small request, and an ear for an
//! answer that comes before the end of an upload.
//!
//! **One write.** Pingora's client session writes and flushes the head, then the body: two system
//! calls, two segments and two wake-ups of the provider for each request, a third of what a small one
//! costs. Between [`hold_back`] and [`let_go`] what is written is gathered, up to [`HELD_MAX`], and
//! flushes wait; a larger body goes out together with what was held, in one vectored write and
//! without a copy.
//!
//! **Early answers.** A provider that refuses a large request (413, 401, 429) often answers at once and reads no
//! further. Pingora's client session writes the body first and reads the head afterwards, so that
//! such an upload hangs until somebody gives up: seconds at best, a minute at worst, for an answer
//! that has long been there.
//!
//! [`Watched`] lies between the session and its connection. While a write cannot go on it looks
//! whether there is something to read, and where that is a refusal (3xx, 4xx, 5xx), or the end of
//! the connection, the write fails at once; the session then reads the head, as it does after any
//! broken upload. Interim answers and a 2xx stop nothing: the rest of the upload is still wanted.
//! What was read ahead is handed out first. A write that is never held up costs nothing more.
//!
//! **Heard.** A kept connection that breaks is asked once more for free only where not a byte came back
//! for this request ([`was_heard`]): whoever has begun to answer has read it.
//!
//! A connection on which an upload was cut short must not carry another request: the provider would
//! read it as the rest of the first one. [`is_spoilt`] says so to the pool.

use crate::layers::hands_on;
use crate::layers::held::Held;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::{Shutdown, Stream};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are read ahead: the interim answers before a status line.
const AHEAD_MAX: usize = 4096;

/// Most bytes of a request that wait for each other. What is longer gains nothing from waiting.
const HELD_MAX: usize = 16 * 1024;

/// Returns the connection with an eye on its other direction.
pub(super) fn watch(stream: Stream) -> Stream {
    Box::new(Watched {
        inner: stream,
        ahead: BytesMut::new(),
        was_cut_short: false,
        held: Held::default(),
        holds_back: AtomicBool::new(false),
        was_heard: AtomicBool::new(false),
    })
}

/// Begins a request: lets what is written from now on wait for [`let_go`].
pub(super) fn hold_back(stream: &Stream) {
    set_hold(stream, true);
    if let Some(watched) = stream.as_any().downcast_ref::<Watched>() {
        watched.was_heard.store(false, Ordering::Relaxed);
    }
}

/// Tells whether anything came back since the request began.
pub(super) fn was_heard(stream: &Stream) -> bool {
    stream.as_any().downcast_ref::<Watched>().is_some_and(|it| it.was_heard.load(Ordering::Relaxed))
}

/// Lets the next flush send what waits.
pub(super) fn let_go(stream: &Stream) {
    set_hold(stream, false);
}

fn set_hold(stream: &Stream, holds: bool) {
    if let Some(watched) = stream.as_any().downcast_ref::<Watched>() {
        // No other thread looks: it is atomic because Pingora lends its streams shared.
        watched.holds_back.store(holds, Ordering::Relaxed);
    }
}

/// Tells whether a connection must not carry another request.
pub(super) fn is_spoilt(stream: &Stream) -> bool {
    let watched = stream.as_any().downcast_ref::<Watched>();
    watched.is_some_and(|it| it.was_cut_short || !it.ahead.is_empty() || !it.held.is_empty())
}

#[derive(Debug)]
struct Watched {
    inner: Stream,
    /// Read while a write was held up, and not asked for yet.
    ahead: BytesMut,
    was_cut_short: bool,
    /// Written, and not sent yet.
    held: Held,
    holds_back: AtomicBool,
    was_heard: AtomicBool,
}

/// What the beginning of an answer means for the upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Not enough of it is there.
    Unclear,
    /// The upload is still wanted.
    GoOn,
    /// It is not.
    Stop,
}

impl Watched {
    /// Tells whether the upload that is held up is to stop. Where it is not, the task is woken when
    /// there is more to read.
    fn must_stop(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            match word(&self.ahead) {
                Word::Stop => return true,
                Word::GoOn => return false,
                Word::Unclear if self.ahead.len() >= AHEAD_MAX => return false,
                Word::Unclear => {}
            }
            let mut piece = [0; 512];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.inner).poll_read(context, &mut piece) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    self.ahead.extend_from_slice(piece.filled());
                }
                // The end, clean or not: nobody will read the rest.
                Poll::Ready(_) => return true,
            }
        }
    }

    fn poll_some(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(context, bytes) {
            Poll::Pending => self.held_up(context),
            done @ Poll::Ready(_) => done,
        }
    }

    /// Sends what was held, and `more` with it; returns how much of `more` went out, which is nothing
    /// where `more` is empty.
    fn poll_send(&mut self, context: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        match self.held.poll_send(&mut self.inner, context, more) {
            Poll::Pending => self.held_up(context),
            Poll::Ready(Ok(0)) if !more.is_empty() => self.poll_some(context, more),
            done @ Poll::Ready(_) => done,
        }
    }

    fn held_up<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.must_stop(context) {
            return Poll::Pending;
        }
        self.was_cut_short = true;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "answered before the end of the upload")))
    }
}

fn word(ahead: &[u8]) -> Word {
    let mut rest = ahead;
    loop {
        match rest.get(..10) {
            None => return Word::Unclear,
            Some([b'H', b'T', b'T', b'P', b'/', _, _, _, b' ', b'1']) => {}
            Some([b'H', b'T', b'T', b'P', b'/', _, _, _, b' ', b'2']) => return Word::GoOn,
            // What is no HTTP is nobody who wants the rest.
            Some(_) => return Word::Stop,
        }
        let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else { return Word::Unclear };
        rest = rest.get(end + 4..).unwrap_or_default();
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let before = out.filled().len();
            let read = Pin::new(&mut self.inner).poll_read(context, out);
            if out.filled().len() > before {
                *self.was_heard.get_mut() = true;
            }
            return read;
        }
        *self.was_heard.get_mut() = true;
        let count = self.ahead.len().min(out.remaining());
        out.put_slice(self.ahead.get(..count).unwrap_or_default());
        self.ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if *self.holds_back.get_mut() && self.held.len() + bytes.len() <= HELD_MAX {
            self.held.keep(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.held.is_empty() { self.poll_some(context, bytes) } else { self.poll_send(context, bytes) }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if *self.holds_back.get_mut() || !self.held.is_empty() {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            return self.poll_write(context, first.map_or(&[], |piece| piece));
        }
        match Pin::new(&mut self.inner).poll_write_vectored(context, pieces) {
            Poll::Pending => self.held_up(context),
            done @ Poll::Ready(_) => done,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if *self.holds_back.get_mut() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(context, &[]))?;
        match Pin::new(&mut self.inner).poll_flush(context) {
            Poll::Pending => self.held_up(context),
            done @ Poll::Ready(_) => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for Watched {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

hands_on!(Watched);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// A connection whose other side takes 64 bytes before somebody reads them.
    fn narrow() -> (Stream, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64);
        (watch(Box::new(ours)), theirs)
    }

    #[test]
    fn only_a_refusal_stops_an_upload() {
        for (ahead, expected) in [
            ("", Word::Unclear),
            ("HTTP/1.1 ", Word::Unclear),
            ("HTTP/1.1 4", Word::Stop),
            ("HTTP/1.0 503 Busy\r\n", Word::Stop),
            ("HTTP/1.1 302 Found\r\n", Word::Stop),
            ("HTTP/1.1 200 OK\r\n", Word::GoOn),
            ("HTTP/1.1 100 Continue\r\n\r\n", Word::Unclear),
            ("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 413 ", Word::Stop),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", Word::GoOn),
            ("<html><body>", Word::Stop),
        ] {
            assert_eq!(word(ahead.as_bytes()), expected, "{ahead:?}");
        }
    }

    #[tokio::test]
    async fn a_refused_upload_ends_at_once_and_the_answer_can_be_read() {
        let (mut ours, mut theirs) = narrow();
        theirs.write_all(b"HTTP/1.1 413 Too Large\r\n\r\n").await.unwrap();
        assert_eq!(ours.write_all(&[b'x'; 1000]).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut answer = [0; 26];
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413 Too Large\r\n\r\n");
        assert!(is_spoilt(&ours), "the other side waits for the rest of the upload");
    }

    #[tokio::test]
    async fn an_answer_that_comes_while_the_write_waits_wakes_it() {
        let (mut ours, mut theirs) = narrow();
        let writing = tokio::spawn(async move { ours.write_all(&[b'x'; 1000]).await });
        tokio::task::yield_now().await;
        theirs.write_all(b"HTTP/1.1 401 No\r\n\r\n").await.unwrap();
        assert!(writing.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_good_or_interim_answer_lets_the_upload_go_on_and_loses_no_byte() {
        for head in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"HTTP/1.1 102 Processing\r\n\r\n"] {
            let (mut ours, mut theirs) = narrow();
            theirs.write_all(head).await.unwrap();
            let reading = tokio::spawn(async move {
                let mut body = vec![0; 1000];
                theirs.read_exact(&mut body).await.map(|_| (body, theirs))
            });
            ours.write_all(&[b'x'; 1000]).await.unwrap();
            ours.flush().await.unwrap();
            let (body, _theirs) = reading.await.unwrap().unwrap();
            assert_eq!(body, [b'x'; 1000]);
            let mut answer = vec![0; head.len()];
            ours.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, head);
            assert!(!is_spoilt(&ours));
        }
    }

    #[tokio::test]
    async fn a_request_is_untouched_until_a_byte_comes_back() {
        let (ours, mut theirs) = tokio::io::duplex(1000);
        let mut ours = watch(Box::new(ours));
        for _ in 0..2 {
            hold_back(&ours);
            assert!(!was_heard(&ours), "of this request nothing yet");
            theirs.write_all(b"H").await.unwrap();
            ours.read_exact(&mut [0]).await.unwrap();
            assert!(was_heard(&ours));
        }
        hold_back(&ours);
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
        assert!(!was_heard(&ours), "an end is no answer");
    }

    /// Counts the writes that reach the connection.
    async fn segments(pieces: &[&[u8]]) -> (usize, Vec<u8>) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut ours = watch(Box::new(ours));
        let mut heard = Vec::new();
        let mut count = 0;
        hold_back(&ours);
        for (at, piece) in pieces.iter().enumerate() {
            if at + 1 == pieces.len() {
                let_go(&ours);
            }
            ours.write_all(piece).await.unwrap();
            ours.flush().await.unwrap();
            let mut part = vec![0; 1 << 20];
            // What was sent is there by now, or was not sent.
            let read = std::future::poll_fn(|context| {
                let mut part = ReadBuf::new(&mut part);
                Poll::Ready(match Pin::new(&mut theirs).poll_read(context, &mut part) {
                    Poll::Ready(_) => part.filled().len(),
                    Poll::Pending => 0,
                })
            });
            let read = read.await;
            count += usize::from(read > 0);
            heard.extend_from_slice(part.get(..read).unwrap());
        }
        (count, heard)
    }

    #[tokio::test]
    async fn a_request_that_is_held_back_goes_out_whole_and_in_order() {
        let long = vec![b'x'; HELD_MAX + 1];
        let half = vec![b'y'; HELD_MAX / 2 + 1];
        let rows: [(&[&[u8]], usize); 5] = [
            (&[b"head", b"{\"model\":", b"\"a\"", b"}"], 1),
            (&[b"head"], 1),
            (&[b"head", b""], 1),
            (&[b"head", &long], 1),
            (&[b"head", &half, &half, b"end"], 2),
        ];
        for (pieces, expected) in rows {
            let (count, heard) = segments(pieces).await;
            assert_eq!((count, heard), (expected, pieces.concat()));
        }
    }

    #[tokio::test]
    async fn what_was_held_goes_through_a_narrow_connection_before_the_rest() {
        let (mut ours, mut theirs) = narrow();
        let reading = tokio::spawn(async move {
            let mut body = Vec::new();
            theirs.read_to_end(&mut body).await.map(|_| body)
        });
        hold_back(&ours);
        ours.write_all(&[b'a'; 100]).await.unwrap();
        ours.flush().await.unwrap();
        ours.write_all(&[b'b'; HELD_MAX]).await.unwrap();
        let_go(&ours);
        ours.write_all(b"c").await.unwrap();
        ours.flush().await.unwrap();
        drop(ours);
        let body = reading.await.unwrap().unwrap();
        assert_eq!(body, [&[b'a'; 100][..], &vec![b'b'; HELD_MAX], b"c"].concat());
    }

    #[tokio::test]
    async fn an_upload_to_nobody_ends() {
        let (ours, theirs) = tokio::io::duplex(64);
        let (_theirs_in, theirs_out) = tokio::io::split(theirs);
        let mut ours = watch(Box::new(ours));
        let mut theirs_out = theirs_out;
        theirs_out.shutdown().await.unwrap();
        assert!(ours.write_all(&[b'x'; 1000]).await.is_err());
    }

    #[tokio::test]
    async fn an_upload_that_is_never_held_up_is_left_alone() {
        let (mut ours, mut theirs) = narrow();
        theirs.write_all(b"HTTP/1.1 413 Too Large\r\n\r\n").await.unwrap();
        ours.write_all(b"short").await.unwrap();
        assert!(!is_spoilt(&ours));
    }
}
