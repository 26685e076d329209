//! Which connections wait for their next request?
//!
//! **HTTP/1.** A shelf per way; the connection that was put there last is taken first, so that in quiet
//! times the others run out of time. Pingora's own pool sets a task, a timer, two channels and a lock
//! beside each connection, for each request, to hear the moment at which the provider closes it. Here
//! nobody listens: a connection is looked at when it is taken, and all of them once in [`LOOK_EVERY`].
//! What the other side closed, or sent something on, is not used; one that dies in between is what the
//! resend of `exchange` is for, as it is with any pool.
//!
//! **HTTP/2.** A connection stays on its shelf while requests are on it; the oldest with room is taken
//! first, so that later ones run empty and out of time. One that is closed, or that its provider or a
//! fault took out of use (GOAWAY), gets nothing new; requests on it go on. (Pingora's own pool gives a
//! connection out of its hands while a stream is begun, and forgets it where a stream is broken off.)

use parking_lot::Mutex;
use pingora::connectors::http::v2::ConnectionRef;
use pingora::protocols::Stream;
use pingora::protocols::http::v2::client::Http2Session;
use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// How often the connections that wait are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Most connections of one way that wait.
const SHELF_MAX: usize = 256;

/// A connection with no more looks than this is as good as gone for who looks ahead.
const LAST_LOOKS: u64 = 2;

/// The connections that wait.
#[derive(Clone, Default)]
pub(super) struct Kept {
    shelves: Arc<Mutex<Shelves>>,
}

#[derive(Default)]
struct Shelves {
    of: HashMap<u64, Shelf>,
    /// Whether somebody looks at them from time to time.
    is_looked_after: bool,
}

#[derive(Default)]
struct Shelf {
    waiting: Vec<Waiting>,
    shared: Vec<Shared>,
}

/// A connection of HTTP/1.
struct Waiting {
    stream: Stream,
    /// How many more looks it stays for.
    looks: u64,
    is_warm: bool,
}

/// A connection of HTTP/2.
struct Shared {
    connection: ConnectionRef,
    /// How many more looks it stays for while nobody is on it.
    looks: u64,
    /// How many that is from the start.
    looks_full: u64,
    is_warm: bool,
}

impl Shared {
    fn is_usable(&self) -> bool {
        !self.connection.is_closed() && !self.connection.is_shutting_down()
    }
}

impl Kept {
    /// Takes an HTTP/1 connection that still lives; tells whether it was opened ahead.
    pub(super) fn take(&self, way: u64) -> Option<(Stream, bool)> {
        loop {
            let mut waiting = self.shelves.lock().of.get_mut(&way)?.waiting.pop()?;
            if lives(&mut waiting.stream) {
                return Some((waiting.stream, waiting.is_warm));
            }
        }
    }

    /// Begins a stream on an HTTP/2 connection with room for one; tells whether that was opened ahead.
    pub(super) fn stream(&self, way: u64) -> Option<(Http2Session, bool)> {
        loop {
            let (connection, was_warm) = {
                let mut shelves = self.shelves.lock();
                let shelf = shelves.of.get_mut(&way)?;
                shelf.shared.retain(Shared::is_usable);
                let has_room = |shared: &&mut Shared| shared.connection.can_accept_streams(1);
                let shared = shelf.shared.iter_mut().find(has_room)?;
                shared.looks = shared.looks_full;
                (shared.connection.clone(), std::mem::take(&mut shared.is_warm))
            };
            match begin(&connection) {
                Some(Ok(Some(session))) => return Some((session, was_warm)),
                // Somebody else took the last place.
                Some(Ok(None)) => {}
                Some(Err(_)) | None => connection.mark_shutdown(),
            }
        }
    }

    /// Keeps an HTTP/1 connection for `idle`, or until it is closed.
    pub(super) fn put(&self, way: u64, stream: Stream, idle: Duration, is_warm: bool) {
        let mut shelves = self.shelves.lock();
        let shelf = shelves.of.entry(way).or_default();
        if shelf.waiting.len() < SHELF_MAX {
            shelf.waiting.push(Waiting { stream, looks: looks(idle), is_warm });
        }
        self.have_looked_after(&mut shelves);
    }

    /// Keeps an HTTP/2 connection until it is closed, or nobody was on it for `idle`.
    pub(super) fn share(&self, way: u64, connection: ConnectionRef, idle: Duration, is_warm: bool) {
        let mut shelves = self.shelves.lock();
        let shelf = shelves.of.entry(way).or_default();
        if shelf.shared.len() < SHELF_MAX {
            let looks = looks(idle);
            shelf.shared.push(Shared { connection, looks, looks_full: looks, is_warm });
        }
        self.have_looked_after(&mut shelves);
    }

    /// Counts the connections that could take a request, and will beyond the next looks.
    pub(super) fn ready(&self, way: u64) -> usize {
        let shelves = self.shelves.lock();
        let Some(shelf) = shelves.of.get(&way) else { return 0 };
        let stays = |shared: &&Shared| {
            shared.connection.can_accept_streams(1)
                && (shared.looks > LAST_LOOKS || !shared.connection.is_idle())
        };
        shelf.waiting.iter().filter(|waiting| waiting.looks > LAST_LOOKS).count()
            + shelf.shared.iter().filter(stays).count()
    }

    fn have_looked_after(&self, shelves: &mut Shelves) {
        if !shelves.is_looked_after {
            shelves.is_looked_after = true;
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
        let mut gone_shared = Vec::new();
        let mut shelves = self.shelves.lock();
        for shelf in shelves.of.values_mut() {
            gone.extend(shelf.waiting.extract_if(.., |waiting| {
                waiting.looks = waiting.looks.saturating_sub(1);
                waiting.looks == 0 || !lives(&mut waiting.stream)
            }));
            gone_shared.extend(shelf.shared.extract_if(.., |shared| {
                let is_idle = shared.connection.is_idle();
                shared.looks = if is_idle { shared.looks.saturating_sub(1) } else { shared.looks_full };
                shared.looks == 0 || !shared.is_usable()
            }));
        }
        shelves.of.retain(|_, shelf| !shelf.waiting.is_empty() || !shelf.shared.is_empty());
        shelves.is_looked_after = !shelves.of.is_empty();
        shelves.is_looked_after
    }
}

fn looks(idle: Duration) -> u64 {
    idle.as_secs().div_ceil(LOOK_EVERY.as_secs()).max(1)
}

/// Begins a stream. That waits for nothing: where it would, something is amiss.
fn begin(connection: &ConnectionRef) -> Option<pingora::Result<Option<Http2Session>>> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(tokio::task::unconstrained(connection.spawn_stream())).poll(&mut context) {
        Poll::Ready(begun) => Some(begun),
        Poll::Pending => None,
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
        kept.put(1, first, LONG, false);
        kept.put(1, second, LONG, false);
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
        kept.put(1, closed, LONG, false);
        kept.put(1, talking, LONG, false);
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
        kept.put(1, short, Duration::ZERO, false);
        kept.put(1, closed, LONG, false);
        kept.put(2, good, LONG, false);
        drop(end);
        assert!(kept.look());
        assert!(!is_open(&mut short_end).await);
        assert!(is_open(&mut good_end).await);
        assert!(kept.take(1).is_none());
        assert!(!kept.look(), "the good one has said something and is closed");
        assert!(!is_open(&mut good_end).await);
    }

    #[tokio::test]
    async fn a_connection_about_to_go_is_not_counted_on_and_can_be_taken_all_the_same() {
        let kept = Kept::default();
        let (ours, _theirs) = connection();
        kept.put(1, ours, Duration::from_secs(LAST_LOOKS + 2), true);
        assert_eq!((kept.ready(1), kept.ready(2)), (1, 0));
        kept.look();
        assert_eq!(kept.ready(1), 1);
        kept.look();
        assert_eq!(kept.ready(1), 0);
        assert!(kept.take(1).is_some_and(|(_, was_warm)| was_warm));
    }

    #[tokio::test]
    async fn a_full_shelf_takes_no_more() {
        let kept = Kept::default();
        let ends: Vec<_> = (0..=SHELF_MAX)
            .map(|_| {
                let (ours, theirs) = connection();
                kept.put(1, ours, LONG, false);
                theirs
            })
            .collect();
        assert_eq!(kept.shelves.lock().of.get(&1).map(|shelf| shelf.waiting.len()), Some(SHELF_MAX));
        drop(ends);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_looked_after_until_its_time_is_over() {
        let kept = Kept::default();
        for _ in 0..2 {
            let (ours, mut theirs) = connection();
            kept.put(1, ours, Duration::from_secs(3), false);
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert!(is_open(&mut theirs).await || kept.take(1).is_none());
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(!is_open(&mut theirs).await);
            assert!(!kept.shelves.lock().is_looked_after);
        }
    }
}
