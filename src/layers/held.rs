//! Which bytes were written and have not gone out yet?
//!
//! They wait for what belongs to them, such as a head for its body, and go out with it in one vectored
//! write. The room for them is lent by the thread and goes back once they are gone: nearly always
//! that is before the task waits for anything, so one room serves all connections of a thread.

use pingora::protocols::Stream;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Size of a new room: a head and a small body.
const ROOM: usize = 4096;
/// The largest room that is kept for the next.
const ROOM_MAX: usize = 16 * 1024;

thread_local! {
    static LENT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that wait.
#[derive(Default)]
pub struct Held {
    bytes: Vec<u8>,
    /// How many of them have gone out.
    sent: usize,
}

/// Says how many they are, and not what: keys and prompts are among them.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Held {
    /// Returns how many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Tells whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets these bytes wait behind the others.
    pub fn keep(&mut self, bytes: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes = LENT.take();
            self.bytes.reserve(ROOM.max(bytes.len()));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends what waits, and `more` with it. Returns how much of `more` went out, which may be nothing,
    /// once all that waited has.
    ///
    /// # Errors
    /// Those of the connection; [`io::ErrorKind::WriteZero`] where it takes nothing.
    pub fn poll_send(
        &mut self,
        stream: &mut Stream,
        context: &mut Context<'_>,
        more: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut of_more = 0;
        while !self.is_empty() {
            let waiting = self.bytes.get(self.sent..).unwrap_or_default();
            let stream = Pin::new(&mut *stream);
            let gone = if more.is_empty() {
                // The kernel takes one piece by a shorter way than a list of them.
                ready!(stream.poll_write(context, waiting))?
            } else {
                let pieces = [io::IoSlice::new(waiting), io::IoSlice::new(more)];
                ready!(stream.poll_write_vectored(context, &pieces))?
            };
            if gone == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_waiting = gone.min(waiting.len());
            self.sent += of_waiting;
            of_more = gone - of_waiting;
        }
        self.give_back();
        Poll::Ready(Ok(of_more))
    }

    fn give_back(&mut self) {
        self.sent = 0;
        let mut room = std::mem::take(&mut self.bytes);
        if (1..=ROOM_MAX).contains(&room.capacity()) {
            room.clear();
            LENT.set(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_not_shown() {
        let mut held = Held::default();
        held.keep(b"authorization: Bearer sk-canary");
        assert_eq!(format!("{held:?}"), "31 bytes");
    }
}
