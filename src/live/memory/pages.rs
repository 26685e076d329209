//! Pages that go back to the system as soon as nobody needs them.
//!
//! An allocator keeps what it was given back for a second or so. Of 200 requests of 5 MB, of which 53
//! fit into `limits.replay_memory`, it kept what the 147 had sent that were refused, while the 53 grew:
//! 461 MB instead of 256 MiB. So what is large has pages of its own. They become resident as they are
//! written to, which makes room for all that was announced free.
//!
//! To map and to fault them in again for each request would cost as much as to copy them, so a few are
//! kept for the next one: spare pages are counted with what is kept, and are the first to go where that
//! comes to its limit.

use super::Memory;
use memmap2::MmapMut;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Spare pages of all together, in bytes: some dozens of long prompts.
const SPARE: u64 = 16 * 1024 * 1024;

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

impl Memory {
    /// Takes spare pages that fit: large enough, and not so large that most of them would stay resident
    /// for nothing.
    fn spare_of(&self, wanted: usize) -> Option<MmapMut> {
        if self.spare_bytes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut spare = self.spare.lock();
        let at = spare.iter().position(|room| (wanted..=wanted + wanted / 4).contains(&room.len()))?;
        let room = spare.swap_remove(at);
        self.spare_bytes.fetch_sub(room.len() as u64, Ordering::Relaxed);
        Some(room)
    }

    /// Keeps pages for the next one, where there are few.
    fn spare(&self, room: MmapMut) {
        let mut spare = self.spare.lock();
        let bytes = room.len() as u64;
        if self.spare_bytes.load(Ordering::Relaxed) + bytes > SPARE {
            drop(spare);
            drop(room);
            return;
        }
        self.spare_bytes.fetch_add(bytes, Ordering::Relaxed);
        spare.push(room);
    }

    /// Gives spare pages back to the system.
    pub(super) fn let_spare_go(&self) {
        let gone = {
            let mut spare = self.spare.lock();
            self.spare_bytes.store(0, Ordering::Relaxed);
            std::mem::take(&mut *spare)
        };
        // Behind the lock.
        drop(gone);
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
        let memory = Arc::default();
        let first = filled(&memory, 1_000_000);
        let was = place(&first);
        drop(first);
        assert!(memory.spare_bytes.load(Ordering::Relaxed) >= 1_000_000);
        assert_ne!(place(&filled(&memory, 500_000)), was, "half of it would stay resident for nothing");
        assert_ne!(place(&filled(&memory, 1_100_000)), was, "too small");
        let next = filled(&memory, 900_000);
        assert_eq!(place(&next), was);
        assert_ne!(place(&filled(&memory, 900_000)), was, "it is taken");
    }

    #[test]
    fn few_are_kept_and_none_where_memory_is_short() {
        let memory = Arc::default();
        let many: Vec<_> = (0..40).map(|_| filled(&memory, 1 << 20)).collect();
        drop(many);
        assert_eq!(memory.spare_bytes.load(Ordering::Relaxed), SPARE);
        let mut share = Share::default();
        assert!(share.take(&memory, 1 << 20, 32 << 20));
        assert_eq!(memory.spare_bytes.load(Ordering::Relaxed), SPARE, "there is room for both");
        assert!(share.take(&memory, 20 << 20, 32 << 20));
        assert_eq!(memory.spare_bytes.load(Ordering::Relaxed), 0);
        drop(filled(&memory, 64 << 20));
        assert_eq!(memory.spare_bytes.load(Ordering::Relaxed), 0, "too large to be kept");
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
