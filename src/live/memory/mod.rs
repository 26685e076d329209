//! How much may all requests and answers keep in memory together?
//!
//! Every attempt needs the whole body of its request, and an answer that is not streamed is held
//! until it is judged and for as long as its reader takes it: 2,000 slow readers of half a megabyte
//! each are a gigabyte. What is kept is counted when it has come, not when it is announced, against
//! `limits.replay_memory`, and given back when it is dropped.
//!
//! * A request takes what is left. Without its body there is nothing to be done for it: it is
//!   refused for now.
//! * Answers fill half of it at most, so that those which nobody reads keep no request out.
//!   Where there is no more, an answer goes on as long ones do: a piece at a time, and no faster
//!   than it is read.
//! * What is large has [`pages`] of its own, so that what is counted is what is resident.
//! * Connections and requests under way hold memory of their own. Of more than a few ([`CROWD_FREE`]) it
//!   is taken off what bodies may fill, down to half of it ([`room`]): a process in a crowd is to stay
//!   as small as one that reads long prompts.
//! * A body as small as a buffer of a connection ([`FREE`]) is not counted, a request's or an answer's:
//!   the limit of requests in flight bounds it, most are, and short requests are not kept out by long
//!   ones.

mod pages;

use pages::Spare;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use pages::Pages;

/// Bodies up to here are not counted, in bytes.
pub const FREE: u64 = 16 * 1024;

/// What an open connection holds, in bytes: its task, its head, what the allocator rounds up.
const CONNECTION: u64 = 16 * 1024;

/// What a request under way holds besides its body, in bytes: headers, the attempt, its buffers.
const REQUEST: u64 = 24 * 1024;

/// What connections and requests hold is not counted up to here, in bytes: 64 of both.
const CROWD_FREE: u64 = 64 * (CONNECTION + REQUEST);

/// Returns how much of `limit` bodies may fill beside so many connections and requests.
#[must_use]
pub fn room(limit: u64, connections: u64, requests: u64) -> u64 {
    let crowd = connections.saturating_mul(CONNECTION).saturating_add(requests.saturating_mul(REQUEST));
    limit.saturating_sub(crowd.saturating_sub(CROWD_FREE)).max(limit / 2)
}

/// What is kept by all, in bytes.
#[derive(Debug, Default)]
pub struct Memory {
    kept: AtomicU64,
    /// How many connections are open.
    connections: AtomicU64,
    spare: Mutex<Spare>,
    /// What the spare pages have together.
    spare_bytes: AtomicU64,
}

impl Memory {
    /// Returns what is kept, in bytes.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection for as long as the visit lasts.
    #[must_use]
    pub fn visit(self: &Arc<Self>) -> Visit {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Visit(Arc::clone(self))
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Visit(Arc<Memory>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one request or answer keeps of it; given back when dropped.
#[derive(Debug, Default)]
pub struct Share(Option<(Arc<Memory>, u64)>);

impl Share {
    /// Takes `more` bytes, where all that is kept stays within `limit`; tells whether it did.
    pub fn take(&mut self, memory: &Arc<Memory>, more: u64, limit: u64) -> bool {
        self.take_up_to(limit, memory, more, limit)
    }

    /// Takes `more` bytes, where all that is kept stays within `most`; spare pages go where they and
    /// what is kept come to more than `limit`.
    fn take_up_to(&mut self, most: u64, memory: &Arc<Memory>, more: u64, limit: u64) -> bool {
        // Never counted and taken back: what is refused must not refuse others meanwhile.
        let added = |kept: u64| kept.checked_add(more).filter(|kept| *kept <= most);
        let Ok(before) = memory.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added) else {
            return false;
        };
        if before.saturating_add(more).saturating_add(memory.spare_bytes()) > limit {
            memory.let_spare_go();
        }
        match &mut self.0 {
            Some((_, bytes)) => *bytes += more,
            None => self.0 = Some((Arc::clone(memory), more)),
        }
        true
    }

    /// Returns what it keeps, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    /// Sees to it that `length` bytes of an answer may be held; tells whether they may.
    pub fn hold(&mut self, memory: &Arc<Memory>, length: usize, limit: u64) -> bool {
        let more = (length as u64).saturating_sub(self.bytes());
        length as u64 <= FREE || more == 0 || self.take_up_to(limit / 2, memory, more, limit)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some((memory, bytes)) = self.0.take() {
            memory.kept.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    #[test]
    fn requests_take_all_there_is_and_what_is_dropped_is_there_again() {
        let memory = Arc::default();
        let (mut first, mut second) = (Share::default(), Share::default());
        assert!(first.take(&memory, 60 * KIB, 100 * KIB));
        assert!(!second.take(&memory, 41 * KIB, 100 * KIB), "more than is left");
        assert!(second.take(&memory, 30 * KIB, 100 * KIB) && second.take(&memory, 10 * KIB, 100 * KIB));
        assert!(!first.take(&memory, 1, 100 * KIB));
        drop(second);
        assert!(first.take(&memory, 40 * KIB, 100 * KIB));
        drop(first);
        assert_eq!(memory.kept(), 0);
    }

    #[test]
    fn answers_fill_one_half_and_small_ones_are_not_counted() {
        let memory = Arc::default();
        let (mut answer, mut other, mut request) = (Share::default(), Share::default(), Share::default());
        assert!(answer.hold(&memory, 16 << 10, 100 * KIB) && answer.0.is_none(), "small");
        assert!(answer.hold(&memory, 20 << 10, 100 * KIB) && answer.hold(&memory, 40 << 10, 100 * KIB));
        assert_eq!(memory.kept(), 40 * KIB, "counted once");
        assert!(!other.hold(&memory, 17 << 10, 100 * KIB), "beyond the half");
        assert!(request.take(&memory, 60 * KIB, 100 * KIB), "the rest is for requests");
        assert!(answer.hold(&memory, 40 << 10, 100 * KIB), "what is held stays held");
    }

    #[test]
    fn what_is_too_large_refuses_no_small_one_beside_it() {
        let memory: Arc<Memory> = Arc::default();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(!Share::default().take(&memory, 101 * KIB, 100 * KIB));
                }
            });
            let refused = (0..100_000).filter(|_| !Share::default().take(&memory, KIB, 100 * KIB)).count();
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }

    #[test]
    fn a_crowd_takes_up_to_half_of_it() {
        const MIB: u64 = 1024 * KIB;
        for (connections, requests, want) in [
            (0, 0, 256 * MIB),
            (64, 64, 256 * MIB),
            (160, 0, 256 * MIB),
            (1024, 1024, 218 * MIB + 512 * KIB),
            (2048, 0, 226 * MIB + 512 * KIB),
            (10_000, 2_000, 128 * MIB),
            (u64::MAX, u64::MAX, 128 * MIB),
        ] {
            assert_eq!(room(256 * MIB, connections, requests), want, "{connections}, {requests}");
        }
        let memory: Arc<Memory> = Arc::default();
        let visits = [memory.visit(), memory.visit()];
        assert_eq!(memory.connections(), 2);
        drop(visits);
        assert_eq!(memory.connections(), 0);
    }

    #[test]
    fn a_limit_that_was_lowered_holds_for_what_comes() {
        let memory = Arc::default();
        let (mut early, mut late) = (Share::default(), Share::default());
        assert!(early.take(&memory, 50 * KIB, 100 * KIB));
        assert!(!late.take(&memory, KIB, 40 * KIB));
        drop(early);
        assert!(late.take(&memory, KIB, 40 * KIB));
    }
}
