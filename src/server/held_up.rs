//! Does a client hold the end of the process up?
//!
//! At the end of `grace`, and at INT, whoever waits for a provider ends its request with a word of its own
//! ([`crate::live::parting`]). Who waits for the client does not hear of it: an answer that the client does not
//! read, and all that is passed through, which Pingora moves between two sockets. [`by`] ends those: [`PATIENCE`]
//! behind the begin of the end every read fails, and every write that cannot go out. What that breaks off has
//! its line and its place in the books like anything else, and the time left of the last second for a word of
//! its own.
//!
//! HTTP/1 only: a connection of HTTP/2 carries the last words of all its streams.

use crate::layers::hands_on;
use crate::live::House;
use async_trait::async_trait;
use pingora::protocols::{Shutdown, Stream};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long whoever ends by itself has for it. A part of the second that last words have in all.
const PATIENCE: Duration = Duration::from_millis(200);

/// Returns the connection, by which the end of the process is not held up.
pub(super) fn by(house: Arc<House>, inner: Stream) -> Stream {
    Box::new(HeldUp { inner, house, timer: None })
}

struct HeldUp {
    inner: Stream,
    house: Arc<House>,
    /// Runs once the end has begun.
    timer: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for HeldUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl HeldUp {
    /// Tells whether the connection has had its time. The task is looked at when the end begins
    /// ([`crate::live::parting::Parting::attend`]).
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.house.parting.has_begun()
            && self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)))
                .as_mut()
                .poll(context)
                .is_ready()
    }

    /// Makes a fault of what would have to be waited for any longer.
    fn wait<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_pending() && self.is_over(context) { over() } else { done }
    }
}

fn over<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl AsyncRead for HeldUp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // An upload that never pauses is to end as well.
        if self.is_over(context) {
            return over();
        }
        Pin::new(&mut self.inner).poll_read(context, out)
    }
}

impl AsyncWrite for HeldUp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wait(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.wait(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.wait(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(context);
        self.wait(context, shut)
    }
}

#[async_trait]
impl Shutdown for HeldUp {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

hands_on!(HeldUp);
