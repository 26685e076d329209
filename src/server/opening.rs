//! Does a connection that is to speak HTTP/2 begin to?
//!
//! HTTP/1 connections are given up by `proxy` when nothing is asked on them. Those that agreed on HTTP/2
//! in their TLS handshake Pingora 0.9.1 waits for without end until the 24 bytes of the preface are there
//! (RFC 9113 section 3.4); only from then on its idle limit counts. [`within`] ends them: a read fails
//! once the time is up and the preface is not there. Behind it this is a counter that nobody moves.

use crate::layers::hands_on;
use async_trait::async_trait;
use pingora::protocols::{Shutdown, Stream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The preface.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns the connection, whose preface must come within `limit`.
pub(super) fn within(limit: Duration, inner: Stream) -> Stream {
    Box::new(Opening { inner, missing: PREFACE.len(), timer: Some(Box::pin(tokio::time::sleep(limit))) })
}

#[derive(Debug)]
struct Opening {
    inner: Stream,
    /// Bytes of the preface that are still to come.
    missing: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Opening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, out);
        let this = &mut *self;
        let Some(timer) = &mut this.timer else { return read };
        this.missing = this.missing.saturating_sub(out.filled().len() - before);
        if this.missing == 0 {
            this.timer = None;
        } else if read.is_pending() && timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Opening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Opening {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

hands_on!(Opening);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_preface_comes_in_time_however_it_is_cut_or_the_connection_ends() {
        for (pieces, gap, want) in [
            (&[24][..], 0, true),
            (&[10, 14], 4, true),
            (&[10, 13], 4, false),
            (&[1; 24], 1, false),
            (&[], 0, false),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut opening = within(LIMIT, Box::new(ours));
            let sending = tokio::spawn(async move {
                for length in pieces {
                    tokio::time::sleep(Duration::from_secs(gap)).await;
                    theirs.write_all(&vec![b'x'; *length]).await.unwrap();
                }
                // What comes behind a preface has no limit here.
                tokio::time::sleep(Duration::from_secs(100)).await;
                theirs.write_all(b"later").await
            });
            let mut text = Vec::new();
            let ended = loop {
                let read = tokio::time::timeout(Duration::from_secs(120), opening.read_buf(&mut text));
                match read.await.expect("it ends") {
                    Ok(_) if text.ends_with(b"later") => break true,
                    Ok(_) => {}
                    Err(fault) => {
                        assert_eq!(fault.kind(), io::ErrorKind::TimedOut);
                        break false;
                    }
                }
            };
            assert_eq!(ended, want, "{pieces:?}");
            sending.abort();
        }
    }
}
