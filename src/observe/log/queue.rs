//! Which lines wait for the writer, and what does it do?
//!
//! One thread takes what has gathered, all of it at once, and writes it. Lines that find the queue full,
//! or whose write fails, are dropped, counted, and told about with the next write that succeeds.

use super::{QUEUE_LINES, Shared};
use crate::config::plan::Level;
use parking_lot::{Condvar, Mutex};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the writer lets lines gather; what an operator who follows the log waits at most.
const GATHER: Duration = Duration::from_millis(10);

/// Buffers that a burst has grown beyond this are given back.
const BUFFER_KEPT: usize = 1024 * 1024;

/// Lines that wait for the writer, as one text: a line costs a copy and no allocation that
/// another thread would have to free.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    text: String,
    lines: usize,
    /// The writer sleeps until it is woken.
    is_idle: bool,
    is_closed: bool,
}

impl Queue {
    /// Tells whether the line was taken.
    pub(super) fn put(&self, line: &str) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.lines >= QUEUE_LINES {
            return false;
        }
        waiting.text.push_str(line);
        waiting.lines += 1;
        if std::mem::take(&mut waiting.is_idle) {
            self.wake.notify_one();
        }
        true
    }

    /// Waits for lines, lets more gather, and takes them all; `None` when no log is left.
    fn take(&self, batch: &mut String) -> Option<usize> {
        let mut waiting = self.waiting.lock();
        while waiting.text.is_empty() {
            if waiting.is_closed {
                return None;
            }
            waiting.is_idle = true;
            self.wake.wait(&mut waiting);
        }
        if !waiting.is_closed {
            // A writer that is not waiting need not be woken: under load a request pays for its
            // copy and nothing else, and hundreds of lines share one write.
            drop(waiting);
            std::thread::sleep(GATHER);
            waiting = self.waiting.lock();
        }
        std::mem::swap(&mut waiting.text, batch);
        Some(std::mem::take(&mut waiting.lines))
    }
}

/// What the copies of a log hold of its queue; the last one to go closes it.
pub(super) struct Entrance(pub(super) Arc<Queue>);

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.waiting.lock().is_closed = true;
        self.0.wake.notify_one();
    }
}

/// Takes lines until the last log is gone.
pub(super) fn write_all(queue: &Queue, shared: &Shared, mut to: Box<dyn Write + Send>) {
    let mut batch = String::new();
    let mut told_dropped = 0;
    while let Some(count) = queue.take(&mut batch) {
        let dropped = shared.dropped.load(Ordering::Relaxed);
        if dropped > told_dropped {
            let mut line = shared.line((shared.wall)(), Level::Warn, "log_dropped");
            line.number("lines", Some(dropped - told_dropped));
            batch.push_str(&line.finish());
        }
        if to.write_all(batch.as_bytes()).and_then(|()| to.flush()).is_ok() {
            told_dropped = dropped;
        } else {
            // There is nobody to tell now.
            shared.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
        shared.written.fetch_add(count as u64, Ordering::Release);
        batch.clear();
        if batch.capacity() > BUFFER_KEPT {
            batch = String::new();
        }
    }
}
