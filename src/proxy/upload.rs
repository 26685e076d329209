//! Does a body that passes through unread stay within its bounds?
//!
//! It may be as large as any other, which an upload in chunks does not announce, and its client has the
//! same pace to keep (`pace`). Only time in which nothing but the client was waited for counts: not a
//! token, a look-up or a connection before the first piece, nor a provider that takes the pieces slowly.
//! Over HTTP/1 Pingora measures how long a read of the connection was waited for. Over HTTP/2 the
//! connection is read for all its streams and nobody can tell: there the clock runs, from the moment at
//! which the provider's connection stands.

use super::pace::Pace;
use crate::base::time::Tick;
use pingora::protocols::http::ServerSession as Session;
use std::time::Duration;

/// The body of a request that is passed through.
#[derive(Default)]
pub(super) struct Upload {
    /// Bytes so far.
    bytes: u64,
    began: Since,
}

/// When it began, as its client's connection measures time.
#[derive(Clone, Copy)]
enum Since {
    /// How long reads of the connection had been waited for.
    Waited(Duration),
    /// What the clock said.
    Clock(Tick),
}

impl Default for Since {
    fn default() -> Self {
        Since::Waited(Duration::ZERO)
    }
}

impl Since {
    fn now(session: &Session, now: Tick) -> Self {
        match session {
            Session::H1(session) => Since::Waited(session.stream().get_read_pending_time()),
            Session::H2(_) | Session::Subrequest(_) | Session::Custom(_) => Since::Clock(now),
        }
    }

    fn until(self, end: Since) -> Duration {
        match (self, end) {
            (Since::Waited(from), Since::Waited(to)) => to.saturating_sub(from),
            (Since::Clock(from), Since::Clock(to)) => to.since(from),
            (Since::Waited(_), Since::Clock(_)) | (Since::Clock(_), Since::Waited(_)) => Duration::ZERO,
        }
    }
}

impl Upload {
    /// Begins to wait for the client.
    pub(super) fn begin(&mut self, session: &Session, now: Tick) {
        self.began = Since::now(session, now);
    }

    /// Counts a piece; tells whether all of it so far is within the limit.
    pub(super) fn fits(&mut self, piece: usize, max: u64) -> bool {
        self.bytes = self.bytes.saturating_add(piece as u64);
        self.bytes <= max
    }

    /// Tells whether it comes at the pace that is asked of a client.
    pub(super) fn keeps_pace(&self, pace: &Pace, session: &Session, now: Tick) -> bool {
        self.began.until(Since::now(session, now)) <= pace.next_by(self.bytes)
    }
}
