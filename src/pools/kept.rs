//! Which HTTP/1 connections wait for their next request?
//!
//! A shelf per peer; the connection that was put there last is taken first, so that in quiet times
//! the others run out of time. Pingora's own pool sets a task, a timer, two channels and a lock beside
//! each connection, for each request, to hear the moment at which the provider closes it. Here nobody
//! listens: a connection is looked at when it is taken, and all of them once in [`LOOK_EVERY`]. What
//! the other side closed, or sent something on, is not used; one that dies in between is what the
//! resend of `exchange` is for, as it is with any pool.

use parking_lot::Mutex;
use pingora::protocols::Stream;
use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// How often the connections that wait are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Most connections to one peer that wait.
const SHELF_MAX: usize = 256;

/// The connections that wait.
#[derive(Clone, Default)]
pub(super) struct Kept {
    shelves: Arc<Mutex<Shelves>>,
}

#[derive(Default)]
struct Shelves {
    of: HashMap<u64, Vec<Waiting>>,
    /// Whether somebody looks at them from time to time.
    is_looked_after: bool,
}

struct Waiting {
    stream: Stream,
    /// How many more looks it stays for.
    looks: u64,
}

impl Kept {
    /// Takes a connection to `peer` that still lives.
    pub(super) fn take(&self, peer: u64) -> Option<Stream> {
        loop {
            let mut waiting = self.shelves.lock().of.get_mut(&peer)?.pop()?;
            if lives(&mut waiting.stream) {
                return Some(waiting.stream);
            }
        }
    }

    /// Keeps a connection for `idle`, or until it is closed.
    pub(super) fn put(&self, peer: u64, stream: Stream, idle: Duration) {
        let looks = idle.as_secs().div_ceil(LOOK_EVERY.as_secs()).max(1);
        let mut shelves = self.shelves.lock();
        let shelf = shelves.of.entry(peer).or_default();
        if shelf.len() >= SHELF_MAX {
            return;
        }
        shelf.push(Waiting { stream, looks });
        if !shelves.is_looked_after {
            shelves.is_looked_after = true;
            drop(shelves);
            tokio::spawn(self.clone().look_after());
        }
    }

    /// Looks at what waits until nothing does.
    async fn look_after(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if !self.look() {
                return;
            }
        }
    }

    /// Closes what has waited long enough or was closed by the other side; tells whether anything
    /// still waits.
    fn look(&self) -> bool {
        // Closed when the lock is open again.
        let mut gone = Vec::new();
        let mut shelves = self.shelves.lock();
        for shelf in shelves.of.values_mut() {
            gone.extend(shelf.extract_if(.., |waiting| {
                waiting.looks = waiting.looks.saturating_sub(1);
                waiting.looks == 0 || !lives(&mut waiting.stream)
            }));
        }
        shelves.of.retain(|_, shelf| !shelf.is_empty());
        shelves.is_looked_after = !shelves.of.is_empty();
        shelves.is_looked_after
    }
}

/// Tells whether a connection is open and silent.
fn lives(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let mut byte = ReadBuf::new(&mut byte);
    let mut context = Context::from_waker(Waker::noop());
    // Not within the task's budget: a task that has used it up would be told that all is quiet.
    let reading = std::future::poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut byte));
    pin!(tokio::task::unconstrained(reading)).poll(&mut context).is_pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    const LONG: Duration = Duration::from_secs(60);

    fn connection() -> (Stream, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64);
        (Box::new(ours), theirs)
    }

    /// Whether the other side still has somebody to talk to.
    async fn is_open(theirs: &mut DuplexStream) -> bool {
        theirs.write_all(b"x").await.is_ok()
    }

    #[tokio::test]
    async fn the_last_one_put_is_the_first_one_taken() {
        let kept = Kept::default();
        let (first, mut first_end) = connection();
        let (second, mut second_end) = connection();
        kept.put(1, first, LONG);
        kept.put(1, second, LONG);
        assert!(kept.take(2).is_none(), "another peer");
        drop(kept.take(1));
        assert!(!is_open(&mut second_end).await);
        assert!(is_open(&mut first_end).await);
    }

    #[tokio::test]
    async fn a_closed_or_talking_connection_is_not_taken() {
        let kept = Kept::default();
        let (closed, end) = connection();
        let (talking, mut talking_end) = connection();
        kept.put(1, closed, LONG);
        kept.put(1, talking, LONG);
        drop(end);
        talking_end.write_all(b"HTTP/1.1 408 \r\n").await.unwrap();
        assert!(kept.take(1).is_none());
    }

    #[tokio::test]
    async fn a_look_closes_what_was_closed_and_what_waited_too_long() {
        let kept = Kept::default();
        let (short, mut short_end) = connection();
        let (closed, end) = connection();
        let (good, mut good_end) = connection();
        kept.put(1, short, Duration::ZERO);
        kept.put(1, closed, LONG);
        kept.put(2, good, LONG);
        drop(end);
        assert!(kept.look());
        assert!(!is_open(&mut short_end).await);
        assert!(is_open(&mut good_end).await);
        assert!(kept.take(1).is_none());
        assert!(!kept.look(), "the good one has said something and is closed");
        assert!(!is_open(&mut good_end).await);
    }

    #[tokio::test]
    async fn a_full_shelf_takes_no_more() {
        let kept = Kept::default();
        let ends: Vec<_> = (0..=SHELF_MAX)
            .map(|_| {
                let (ours, theirs) = connection();
                kept.put(1, ours, LONG);
                theirs
            })
            .collect();
        assert_eq!(kept.shelves.lock().of.get(&1).map(Vec::len), Some(SHELF_MAX));
        drop(ends);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_looked_after_until_its_time_is_over() {
        let kept = Kept::default();
        for _ in 0..2 {
            let (ours, mut theirs) = connection();
            kept.put(1, ours, Duration::from_secs(3));
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert!(is_open(&mut theirs).await || kept.take(1).is_none());
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(!is_open(&mut theirs).await);
            assert!(!kept.shelves.lock().is_looked_after);
        }
    }
}
