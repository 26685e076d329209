//! Do the small pieces of an answer go out together?
//!
//! What is written waits until it is flushed, or is more than [`HELD_MAX`], and goes out in one write: a
//! head and a body, the three pieces of a chunk. One flush can be left out beforehand ([`join_next`]):
//! Pingora flushes the head of a stream by itself, and its first event would have to follow in a second
//! write, a second segment, a second wake-up of the client.

use super::hands_on;
use super::held::Held;
use async_trait::async_trait;
use pingora::protocols::{Shutdown, Stream};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that wait for a flush. A longer piece goes out at once, with what waits before it.
const HELD_MAX: usize = 4096;

/// Returns the connection with room for what is not flushed yet. Wants one that has none of its own.
#[must_use]
pub fn corked(inner: Stream) -> Stream {
    Box::new(Corked { inner, held: Held::default(), joins_next: AtomicBool::new(false) })
}

/// Lets what was written before the next flush wait for the flush behind it. To be taken back where none
/// may come.
pub fn join_next(stream: &Stream, joins: bool) {
    if let Some(corked) = stream.as_any().downcast_ref::<Corked>() {
        // No other thread looks: it is atomic because Pingora lends its streams shared.
        corked.joins_next.store(joins, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Corked {
    inner: Stream,
    held: Held,
    joins_next: AtomicBool,
}

impl AsyncRead for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, out)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.held.len() + bytes.len() <= HELD_MAX {
            this.held.keep(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(this.held.poll_send(&mut this.inner, context, bytes))? {
            0 => Pin::new(&mut this.inner).poll_write(context, bytes),
            gone => Poll::Ready(Ok(gone)),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.held.len() + length <= HELD_MAX {
            for piece in pieces {
                self.held.keep(piece);
            }
            return Poll::Ready(Ok(length));
        }
        if self.held.is_empty() {
            return Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        }
        let first = pieces.iter().find(|piece| !piece.is_empty());
        self.poll_write(context, first.map_or(&[], |piece| piece))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if std::mem::take(this.joins_next.get_mut()) {
            return Poll::Ready(Ok(()));
        }
        ready!(this.held.poll_send(&mut this.inner, context, &[]))?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.held.poll_send(&mut this.inner, context, &[]))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Corked {
    async fn shutdown(&mut self) {
        // What a client does not take now, it is not waited for.
        let last =
            poll_fn(|context| Poll::Ready(self.held.poll_send(&mut self.inner, context, &[]).is_ready()));
        last.await;
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

hands_on!(Corked);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// A connection whose other side takes so many bytes before somebody reads them.
    fn connection(takes: usize) -> (Stream, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(takes);
        (corked(Box::new(ours)), theirs)
    }

    fn arrived(theirs: &mut DuplexStream) -> usize {
        let mut room = vec![0; 65_536];
        let mut buffer = ReadBuf::new(&mut room);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(theirs).poll_read(&mut context, &mut buffer);
        buffer.filled().len()
    }

    #[tokio::test]
    async fn what_is_small_waits_for_the_flush_and_what_is_long_takes_it_along() {
        let (mut ours, mut theirs) = connection(65_536);
        ours.write_all(b"head").await.unwrap();
        ours.write_all(b"body").await.unwrap();
        assert_eq!(arrived(&mut theirs), 0);
        ours.flush().await.unwrap();
        assert_eq!(arrived(&mut theirs), 8);
        ours.write_all(b"head").await.unwrap();
        ours.write_all(&[b'x'; HELD_MAX]).await.unwrap();
        assert_eq!(arrived(&mut theirs), 4 + HELD_MAX);
        ours.write_all(&[b'x'; HELD_MAX + 1]).await.unwrap();
        assert_eq!(arrived(&mut theirs), HELD_MAX + 1);
    }

    #[tokio::test]
    async fn one_flush_is_left_out_where_that_was_said_and_not_the_one_behind_it() {
        let (mut ours, mut theirs) = connection(65_536);
        join_next(&ours, true);
        ours.write_all(b"head").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(arrived(&mut theirs), 0);
        ours.write_all(b"event").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(arrived(&mut theirs), 9);
        join_next(&ours, true);
        join_next(&ours, false);
        ours.write_all(b"head").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(arrived(&mut theirs), 4);
    }

    #[tokio::test]
    async fn everything_arrives_in_order_at_whoever_reads_slowly() {
        let (mut ours, mut theirs) = connection(7);
        let said: Vec<u8> = (0..60_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let pieces = said.clone();
        let writing = tokio::spawn(async move {
            for (at, piece) in pieces.chunks(997).enumerate() {
                let halves = piece.split_at(piece.len() / 2);
                let mut both = bytes::Buf::chain(halves.0, halves.1);
                ours.write_all_buf(&mut both).await.unwrap();
                if at % 7 == 0 {
                    ours.flush().await.unwrap();
                }
            }
            ours.write_all(&[b'!'; 5_000]).await.unwrap();
            AsyncWriteExt::shutdown(&mut ours).await.unwrap();
        });
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        writing.await.unwrap();
        assert_eq!(heard, [said, vec![b'!'; 5_000]].concat());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_not_waited_for_at_the_end() {
        let (mut ours, mut theirs) = connection(7);
        ours.write_all(b"more than it takes").await.unwrap();
        Shutdown::shutdown(&mut *ours).await;
        drop(ours);
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"more th");
    }
}
