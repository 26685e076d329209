//! Who did what, for good: one JSON line a decision and one a change, in a file of its own.
//!
//! | `kind` | one line for |
//! |---|---|
//! | `request` | each request of a client: where it went and how it ended |
//! | `admin` | each writing call at the admin plane, refused ones too: who, what, result |
//! | `reload` | each reload, taken or refused |
//! | `start`, `stop` | the process |
//! | `dropped` | lines that are missing here, and how many |
//!
//! Never a prompt, a completion, a key; not even the model's name as the client wrote it.
//!
//! Nobody waits for it. Lines go through a queue of [`QUEUE_LINES`] to one thread that writes them.
//! Where the disk is full or slow, what was taken waits and is tried again every second, the queue
//! fills behind it, and then lines are dropped, counted (`pointsman_audit_dropped_total`) and told
//! about once there is room. A line that was written by half is finished, or begun again where the
//! file is another by then; so each line is whole.
//!
//! The file is opened for appending, made with mode 0640 where there is none, and opened anew on
//! USR1 (as nginx does), on a reload, and when its name stands for another file or for none: every
//! way in which logs are rotated.
//!
//! The thread runs only while a path is configured.

mod line;
mod writer;

pub use line::{Decision, Deed};
pub use writer::probe;

use super::events::Events;
use super::log::WallSource;
use crate::base::time::WallTime;
use line::Line;
use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Lines that may wait for the writer: a few seconds of a busy proxy, about 3 MB.
pub const QUEUE_LINES: usize = 8192;

/// How long the writer lets lines gather.
const GATHER: Duration = Duration::from_millis(10);
/// How long it waits until it tries a file again that could not be written.
const RETRY: Duration = Duration::from_secs(1);
/// How often [`Audit::flush`] looks whether all is written.
const FLUSH_STEP: Duration = Duration::from_millis(2);

/// The counters of an audit log.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Lines that were dropped.
    pub dropped: IntCounter,
    /// Writes that failed.
    pub errors: IntCounter,
}

/// The audit log of one process.
pub struct Audit(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Whether a path is configured; asked once a request.
    is_on: AtomicBool,
    queued: AtomicU64,
    written: AtomicU64,
    counts: Counts,
    events: Arc<Events>,
    wall: WallSource,
}

#[derive(Default)]
struct Queue {
    text: String,
    lines: usize,
    order: Option<Order>,
    has_writer: bool,
    is_closed: bool,
}

/// What the writer is told to do once it has written what came before.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    /// Open the file anew.
    Reopen,
    /// Write into this file from now on, or into none.
    Turn(Option<PathBuf>),
}

/// What the writer takes at once.
#[derive(Default)]
struct Taken {
    text: String,
    lines: usize,
    order: Option<Order>,
    is_last: bool,
}

impl Audit {
    /// Makes an audit log that writes nothing yet.
    #[must_use]
    pub fn new(counts: Counts, events: Arc<Events>, wall: WallSource) -> Audit {
        Audit(Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            is_on: AtomicBool::new(false),
            queued: AtomicU64::new(0),
            written: AtomicU64::new(0),
            counts,
            events,
            wall,
        }))
    }

    /// Writes into this file from now on, opened anew even where it is the same; into none without
    /// a path. A file that cannot be opened is tried again like one that cannot be written.
    ///
    /// # Errors
    /// Where the writer's thread cannot be started.
    pub fn turn_to(&self, path: Option<&Path>) -> io::Result<()> {
        let shared = &self.0;
        {
            let mut queue = shared.queue.lock();
            if path.is_none() && !queue.has_writer {
                return Ok(());
            }
            if !queue.has_writer {
                let own = Arc::clone(shared);
                let thread = std::thread::Builder::new().name("audit".to_owned());
                thread.spawn(move || writer::write_all(&own))?;
                queue.has_writer = true;
            }
            queue.order = Some(Order::Turn(path.map(Path::to_owned)));
            shared.is_on.store(path.is_some(), Ordering::Release);
        }
        shared.wake.notify_one();
        Ok(())
    }

    /// Opens the file anew: it was rotated.
    pub fn reopen(&self) {
        let mut queue = self.0.queue.lock();
        if queue.has_writer && queue.order.is_none() {
            queue.order = Some(Order::Reopen);
            drop(queue);
            self.0.wake.notify_one();
        }
    }

    /// Tells whether anything is written, so that nobody makes a line for nothing.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Acquire)
    }

    /// Writes what became of a request.
    pub fn decision(&self, decision: &Decision<'_>) {
        self.put(|| decision.line());
    }

    /// Writes what somebody did or tried at the admin plane.
    pub fn deed(&self, deed: &Deed<'_>) {
        self.put(|| deed.line());
    }

    /// Writes a reload: its generation, and its faults where it was refused.
    pub fn reload(&self, at: WallTime, generation: u64, faults: &[String]) {
        self.put(|| line::reload(at, generation, faults));
    }

    /// Writes that the process began (`start`) or was told to leave (`stop`).
    pub fn process(&self, at: WallTime, kind: &'static str) {
        self.put(|| Line::begin(at, kind).finish());
    }

    /// Waits until all that came before this call is written, `at_most` so long. Blocks the thread:
    /// for the end of the process. Returns whether all was written.
    #[must_use]
    pub fn flush(&self, at_most: Duration) -> bool {
        let wanted = self.0.queued.load(Ordering::Acquire);
        let is_done = || self.0.written.load(Ordering::Acquire) >= wanted;
        for _ in 0..at_most.as_micros() / FLUSH_STEP.as_micros() {
            if is_done() {
                return true;
            }
            std::thread::sleep(FLUSH_STEP);
        }
        is_done()
    }

    fn put(&self, line: impl FnOnce() -> String) {
        if !self.is_on() {
            return;
        }
        let line = line();
        let mut queue = self.0.queue.lock();
        if queue.lines >= QUEUE_LINES {
            drop(queue);
            self.0.counts.dropped.inc();
            return;
        }
        queue.text.push_str(&line);
        queue.lines += 1;
        self.0.queued.fetch_add(1, Ordering::Release);
        let was_empty = queue.lines == 1;
        drop(queue);
        if was_empty {
            self.0.wake.notify_one();
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.0.queue.lock().is_closed = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    /// Waits for work and takes it. Where lines are `waiting` that could not be written the queue is
    /// left alone, so that its bound holds, and only orders are taken, at the latest after [`RETRY`].
    fn take(&self, is_waiting: bool) -> Taken {
        let mut queue = self.queue.lock();
        if is_waiting {
            if queue.order.is_none() && !queue.is_closed {
                self.wake.wait_for(&mut queue, RETRY);
            }
            return Taken { order: queue.order.take(), is_last: queue.is_closed, ..Taken::default() };
        }
        while queue.lines == 0 && queue.order.is_none() && !queue.is_closed {
            self.wake.wait(&mut queue);
        }
        if queue.lines > 0 && queue.order.is_none() && !queue.is_closed {
            drop(queue);
            std::thread::sleep(GATHER);
            queue = self.queue.lock();
        }
        Taken {
            text: std::mem::take(&mut queue.text),
            lines: std::mem::take(&mut queue.lines),
            order: queue.order.take(),
            is_last: queue.is_closed,
        }
    }
}

#[cfg(test)]
mod tests;
