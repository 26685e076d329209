//! What did the stand-in see?
//!
//! Every request is entered when its head has arrived, so that a request that is never answered
//! shows too, and its entry grows: body, first byte of the answer, ending. Times are offsets from
//! the provider's start. At most 100 000 requests and 256 MiB of bodies are kept, the newest; a
//! load bench switches recording off and keeps only the counts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Requests kept at most.
const SEEN_MAX: usize = 100_000;
/// Bytes of bodies kept at most.
const BODY_BYTES_MAX: usize = 256 << 20;

/// The HTTP version of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

/// How a request ended, as the stand-in saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It is still being read or answered.
    #[default]
    Pending,
    /// The answer was sent to its end.
    Answered,
    /// The script broke it off (reset, close, stale connection).
    CutByUs,
    /// The client closed the connection or reset the stream before the end of the answer.
    ClientLeft,
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Counts from 1 in order of arrival; a reset of the provider does not start again.
    pub number: u64,
    /// Number of the connection it came on, from 1; not restarted by a reset either.
    pub connection: u64,
    /// HTTP version.
    pub version: HttpVersion,
    /// Method.
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// Headers in order, names in the case of the wire (HTTP/2: lower case, `:authority` as
    /// `host`); bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// Body without transfer coding; grows when it is complete.
    pub body: Bytes,
    /// `model` of a JSON body, else empty.
    pub model: String,
    /// `"stream": true` of a JSON body.
    pub is_streamed: bool,
    /// When the head had arrived.
    pub arrived: Duration,
    /// When the body was complete.
    pub body_complete: Option<Duration>,
    /// When the first bytes of the answer were sent.
    pub answered: Option<Duration>,
    /// When it ended.
    pub ended: Option<Duration>,
    /// How it ended.
    pub ending: Ending,
}

impl Seen {
    /// Returns the first header of that name, whatever the case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns every header of that name, whatever the case.
    #[must_use]
    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        let is_named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(is_named).map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the body as JSON, or `null` where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Tells whether the client left before the end of the answer.
    #[must_use]
    pub fn has_client_left(&self) -> bool {
        self.ending == Ending::ClientLeft
    }
}

/// The book in which a provider enters what it sees.
#[derive(Debug)]
pub(super) struct Journal {
    pages: Mutex<Pages>,
    is_open: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
    resumptions: AtomicU64,
    next_number: AtomicU64,
    next_connection: AtomicU64,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Pages {
    seen: VecDeque<Seen>,
    body_bytes: usize,
}

impl Journal {
    pub(super) fn new() -> Journal {
        Journal {
            pages: Mutex::default(),
            is_open: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            resumptions: AtomicU64::new(0),
            next_number: AtomicU64::new(1),
            next_connection: AtomicU64::new(1),
            changed: Notify::new(),
        }
    }

    pub(super) fn record(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    pub(super) fn enter_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn enter_resumption(&self) {
        self.resumptions.fetch_add(1, Ordering::Relaxed);
    }

    /// Enters a request and gives it its number.
    pub(super) fn enter(&self, seen: &mut Seen) {
        seen.number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let mut pages = self.pages.lock();
        pages.seen.push_back(seen.clone());
        if pages.seen.len() > SEEN_MAX {
            pages.drop_oldest();
        }
        drop(pages);
        self.changed.notify_waiters();
    }

    /// Brings the entry of a request up to date; an entry that was dropped stays dropped.
    pub(super) fn update(&self, seen: &Seen) {
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let mut pages = self.pages.lock();
        // Entries of parallel connections may lie slightly out of order, hence no search by half.
        let Some(entry) = pages.seen.iter_mut().rev().find(|entry| entry.number == seen.number) else {
            return;
        };
        let grown = seen.body.len().saturating_sub(entry.body.len());
        entry.body = seen.body.clone();
        entry.model.clone_from(&seen.model);
        entry.is_streamed = seen.is_streamed;
        entry.body_complete = seen.body_complete;
        entry.answered = seen.answered;
        entry.ended = seen.ended;
        entry.ending = seen.ending;
        pages.body_bytes += grown;
        while pages.body_bytes > BODY_BYTES_MAX {
            pages.drop_oldest();
        }
        drop(pages);
        self.changed.notify_waiters();
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.pages.lock().seen.iter().cloned().collect()
    }

    /// Waits until the entries satisfy `is_so`.
    pub(super) async fn until(&self, is_so: impl Fn(&[Seen]) -> bool) {
        loop {
            // Made before the look, so that a change in between is not missed.
            let changed = self.changed.notified();
            let is_done = is_so(self.pages.lock().seen.make_contiguous());
            if is_done {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn resumptions(&self) -> u64 {
        self.resumptions.load(Ordering::Relaxed)
    }

    /// Forgets everything but the numbers of requests and connections under way.
    pub(super) fn reset(&self) {
        *self.pages.lock() = Pages::default();
        self.requests.store(0, Ordering::Relaxed);
        self.connections.store(0, Ordering::Relaxed);
        self.resumptions.store(0, Ordering::Relaxed);
    }
}

impl Pages {
    fn drop_oldest(&mut self) {
        match self.seen.pop_front() {
            Some(oldest) => self.body_bytes = self.body_bytes.saturating_sub(oldest.body.len()),
            None => self.body_bytes = 0,
        }
    }
}
