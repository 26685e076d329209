//! Pages that go back to the system when nobody needs them.
//!
//! An allocator keeps what it was given back for a second or so. Of 200 requests of 5 MB, of which 53
//! fit into `limits.replay_memory`, it kept what the 147 had sent that were refused, while the 53 grew:
//! 440 MiB instead of 256. So what is large has pages of its own. They become resident as they are
//! written to, which makes room for all that was announced free.
//!
//! To fault them in again for each request would cost more than all else that is done for it (1,280
//! faults for 5 MB, 3.5 ms in a virtual machine), so those of requests that ended serve the next ones.
//! Spare pages are counted with what is kept, are the first to go where that comes to its limit, and those
//! that nobody wanted for a while go as well ([`Memory::tend`]).

use super::Memory;
use memmap2::MmapMut;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Spare pages of all together, in bytes: two dozen prompts of 5 MB.
const SPARE: u64 = 128 * 1024 * 1024;

/// Lengths are rounded up to this, so that one request's pages fit the next.
const STEP: usize = 64 * 1024;

/// Pages, of which the first `length` bytes are filled.
pub struct Pages {
    room: Option<MmapMut>,
    length: usize,
    memory: Arc<Memory>,
}

impl Pages {
    /// Returns room for `capacity` bytes; nothing where the system gives none.
    #[must_use]
    pub fn new(memory: &Arc<Memory>, capacity: usize) -> Option<Self> {
        let wanted = capacity.max(1).checked_next_multiple_of(STEP)?;
        let room = match memory.spare_of(wanted) {
            Some(spare) => spare,
            None => MmapMut::map_anon(wanted).ok()?,
        };
        Some(Pages { room: Some(room), length: 0, memory: Arc::clone(memory) })
    }

    /// Returns how many bytes have room in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.room.as_ref().map_or(0, |room| room.len())
    }

    /// Adds as much of `bytes` as has room.
    pub fn push(&mut self, bytes: &[u8]) {
        let Some(free) = self.room.as_mut().and_then(|room| room.get_mut(self.length..)) else { return };
        let fits = bytes.len().min(free.len());
        if let (Some(free), Some(bytes)) = (free.get_mut(..fits), bytes.get(..fits)) {
            free.copy_from_slice(bytes);
            self.length += fits;
        }
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self.room.as_ref().and_then(|room| room.get(..self.length)).unwrap_or_default()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.memory.spare(room);
        }
    }
}

/// Pages of requests that have ended.
#[derive(Debug, Default)]
pub(super) struct Spare {
    rooms: Vec<MmapMut>,
    /// The fewest bytes there were since somebody looked: what nobody wanted.
    least: u64,
}

impl Memory {
    /// Takes spare pages that fit: large enough, and not so large that most of them would stay resident
    /// for nothing.
    fn spare_of(&self, wanted: usize) -> Option<MmapMut> {
        if self.spare_bytes() == 0 {
            return None;
        }
        let mut spare = self.spare.lock();
        let at = spare.rooms.iter().position(|room| (wanted..=wanted + wanted / 4).contains(&room.len()))?;
        let room = spare.rooms.swap_remove(at);
        let left = self.spare_bytes().saturating_sub(room.len() as u64);
        self.spare_bytes.store(left, Ordering::Relaxed);
        spare.least = spare.least.min(left);
        Some(room)
    }

    /// Keeps pages for the next one, where there are few.
    fn spare(&self, room: MmapMut) {
        let mut spare = self.spare.lock();
        let bytes = self.spare_bytes() + room.len() as u64;
        if bytes > SPARE {
            drop(spare);
            drop(room);
            return;
        }
        self.spare_bytes.store(bytes, Ordering::Relaxed);
        spare.rooms.push(room);
    }

    /// Gives back to the system what lay there all the time since this was called last.
    pub fn tend(&self) {
        let mut gone = Vec::new();
        let mut spare = self.spare.lock();
        let mut unwanted = spare.least;
        while let Some(at) = spare.rooms.iter().position(|room| room.len() as u64 <= unwanted) {
            let room = spare.rooms.swap_remove(at);
            unwanted -= room.len() as u64;
            self.spare_bytes.fetch_sub(room.len() as u64, Ordering::Relaxed);
            gone.push(room);
        }
        spare.least = self.spare_bytes();
        drop(spare);
        // Behind the lock.
        drop(gone);
    }

    /// Gives all spare pages back to the system.
    pub(super) fn let_spare_go(&self) {
        let gone = {
            let mut spare = self.spare.lock();
            self.spare_bytes.store(0, Ordering::Relaxed);
            spare.least = 0;
            std::mem::take(&mut spare.rooms)
        };
        // Behind the lock.
        drop(gone);
    }

    /// What spare pages have together; only changed behind their lock.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.spare_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::memory::Share;

    fn filled(memory: &Arc<Memory>, length: usize) -> Pages {
        let mut pages = Pages::new(memory, length).unwrap();
        pages.push(&vec![7; length]);
        assert_eq!(pages.as_ref(), vec![7; length]);
        pages
    }

    fn place(pages: &Pages) -> *const u8 {
        pages.as_ref().as_ptr()
    }

    #[test]
    fn what_was_dropped_serves_the_next_of_about_its_size() {
        let memory: Arc<Memory> = Arc::default();
        let first = filled(&memory, 1_000_000);
        let was = place(&first);
        drop(first);
        assert!(memory.spare_bytes() >= 1_000_000);
        assert_ne!(place(&filled(&memory, 500_000)), was, "half of it would stay resident for nothing");
        assert_ne!(place(&filled(&memory, 1_100_000)), was, "too small");
        let next = filled(&memory, 900_000);
        assert_eq!(place(&next), was);
        assert_ne!(place(&filled(&memory, 900_000)), was, "it is taken");
    }

    #[test]
    fn few_are_kept_and_none_where_memory_is_short() {
        let memory: Arc<Memory> = Arc::default();
        let spare = || memory.spare_bytes();
        let many: Vec<_> = (0..140).map(|_| Pages::new(&memory, 1 << 20).unwrap()).collect();
        drop(many);
        assert_eq!(spare(), SPARE);
        let mut share = Share::default();
        assert!(share.take(&memory, 1 << 20, SPARE + (16 << 20)));
        assert_eq!(spare(), SPARE, "there is room for both");
        assert!(share.take(&memory, 20 << 20, SPARE + (16 << 20)));
        assert_eq!(spare(), 0);
        drop(Pages::new(&memory, 200 << 20).unwrap());
        assert_eq!(spare(), 0, "too large to be kept");
    }

    #[test]
    fn a_held_answer_leaves_spare_pages_where_there_is_room_for_both() {
        let memory: Arc<Memory> = Arc::default();
        drop([(); 8].map(|()| Pages::new(&memory, 1 << 20).unwrap()));
        let mut answer = Share::default();
        assert!(answer.hold(&memory, 1 << 20, 16 << 20));
        assert_eq!(memory.spare_bytes(), 8 << 20, "more than half of it with the answer, but not all");
        let mut request = Share::default();
        assert!(request.take(&memory, 8 << 20, 16 << 20));
        assert_eq!(memory.spare_bytes(), 0);
    }

    #[test]
    fn what_nobody_wants_for_a_while_goes() {
        let memory: Arc<Memory> = Arc::default();
        let step = STEP as u64;
        drop([(); 3].map(|()| filled(&memory, STEP)));
        memory.tend();
        assert_eq!(memory.spare_bytes(), 3 * step, "they have just come");
        drop(filled(&memory, STEP));
        memory.tend();
        assert_eq!(memory.spare_bytes(), step, "one was enough");
        memory.tend();
        assert_eq!(memory.spare_bytes(), 0);
    }

    #[test]
    fn what_has_no_room_is_not_taken() {
        let mut pages = Pages::new(&Arc::default(), 10).unwrap();
        assert_eq!(pages.capacity(), STEP);
        pages.push(&vec![1; STEP - 1]);
        pages.push(&[2; 5]);
        assert_eq!((pages.as_ref().len(), pages.as_ref().last()), (STEP, Some(&2)));
        assert!(Pages::new(&Arc::default(), usize::MAX).is_none());
    }
}
