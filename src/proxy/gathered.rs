//! What has come of a body, in one piece.
//!
//! * A piece of Pingora's keeps the whole buffer alive that it was read into, however small it is:
//!   only one that is all there is stays where it is, others are put together.
//! * Above [`PAGED_FROM`] it has [`Pages`] of its own, for the reason that is said there.
//! * Of a length that was announced the room is made at once where it has pages; otherwise it doubles.

use crate::live::memory::{Memory, Pages};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Longer bodies have pages of their own.
pub(super) const PAGED_FROM: usize = 64 * 1024;

/// What a buffer starts with where the length is not announced.
const FIRST_CAPACITY: usize = 8 * 1024;

/// A body under way.
pub(super) struct Gathered<'a> {
    memory: &'a Arc<Memory>,
    first: Bytes,
    more: Store,
    /// How long it will be, where that was announced, and as far as it is believed.
    announced: Option<usize>,
}

enum Store {
    Heap(BytesMut),
    Paged(Pages),
}

impl<'a> Gathered<'a> {
    /// Begins one of this length, where it was announced; room is made for `most` bytes at once at most.
    pub(super) fn new(memory: &'a Arc<Memory>, announced: Option<u64>, most: u64) -> Self {
        let announced = announced.map(|length| usize::try_from(length.min(most)).unwrap_or(0));
        Gathered { memory, first: Bytes::new(), more: Store::Heap(BytesMut::new()), announced }
    }

    pub(super) fn len(&self) -> usize {
        let more = match &self.more {
            Store::Heap(bytes) => bytes.len(),
            Store::Paged(pages) => pages.as_ref().len(),
        };
        self.first.len() + more
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        let length = self.len() + piece.len();
        if self.len() == 0 && self.announced.is_none_or(|announced| announced == length) {
            self.first = piece;
            return;
        }
        let first = std::mem::take(&mut self.first);
        self.make_room(length);
        for piece in [first, piece] {
            match &mut self.more {
                Store::Heap(bytes) => bytes.extend_from_slice(&piece),
                Store::Paged(pages) => pages.push(&piece),
            }
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self.more {
            Store::Heap(bytes) if bytes.is_empty() => self.first,
            Store::Heap(bytes) => bytes.freeze(),
            Store::Paged(pages) => Bytes::from_owner(pages),
        }
    }

    fn make_room(&mut self, length: usize) {
        let (held, capacity) = match &self.more {
            Store::Heap(bytes) => (bytes.as_ref(), bytes.capacity()),
            Store::Paged(pages) => (pages.as_ref(), pages.capacity()),
        };
        if length <= capacity {
            return;
        }
        let wanted = self.announced.unwrap_or(2 * held.len()).max(length);
        let pages = (length > PAGED_FROM).then(|| filled(self.memory, held, wanted)).flatten();
        match (pages, &mut self.more) {
            (Some(pages), _) => self.more = Store::Paged(pages),
            (None, Store::Heap(bytes)) => {
                let wanted = wanted.min(PAGED_FROM).max(length).max(FIRST_CAPACITY);
                bytes.reserve(wanted - bytes.len());
            }
            // The system gives no more pages; the allocator may still have some.
            (None, Store::Paged(pages)) => {
                let mut bytes = BytesMut::with_capacity(wanted);
                bytes.extend_from_slice(pages.as_ref());
                self.more = Store::Heap(bytes);
            }
        }
    }
}

/// Returns what was written at once, where it is large with pages of its own.
pub(super) fn settled(memory: &Arc<Memory>, written: Vec<u8>) -> Bytes {
    let pages = (written.len() > PAGED_FROM).then(|| filled(memory, &written, written.len())).flatten();
    pages.map_or_else(|| Bytes::from(written), Bytes::from_owner)
}

/// Returns pages for `capacity` bytes with these in them; nothing where the system gives none.
fn filled(memory: &Arc<Memory>, bytes: &[u8], capacity: usize) -> Option<Pages> {
    let mut pages = Pages::new(memory, capacity)?;
    pages.push(bytes);
    Some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gathered<'a>(memory: &'a Arc<Memory>, pieces: &[usize], announced: Option<u64>) -> Gathered<'a> {
        let mut gathered = Gathered::new(memory, announced, 1 << 20);
        for (at, length) in pieces.iter().enumerate() {
            gathered.push(Bytes::from(vec![u8::try_from(at % 251).unwrap(); *length]));
        }
        gathered
    }

    #[test]
    fn one_piece_stays_where_it_is() {
        let piece = Bytes::from_static(b"whole");
        for announced in [None, Some(5)] {
            let memory = Arc::default();
            let mut one = Gathered::new(&memory, announced, 100);
            one.push(piece.clone());
            assert_eq!(one.into_bytes().as_ptr(), piece.as_ptr());
        }
    }

    #[test]
    fn a_large_one_has_pages_of_its_own_and_moves_once() {
        let memory = Arc::default();
        let mut large = gathered(&memory, &[60 << 10; 2], Some(1 << 20));
        let Store::Paged(pages) = &large.more else { panic!("{} bytes are on the heap", large.len()) };
        let place = pages.as_ref().as_ptr();
        assert_eq!(pages.capacity(), 1 << 20, "room for all that was announced");
        (0..15).for_each(|_| large.push(Bytes::from(vec![7; 60 << 10])));
        let whole = large.into_bytes();
        assert_eq!((whole.len(), whole.as_ptr()), (17 * (60 << 10), place));
        let small = gathered(&memory, &[32 << 10; 2], Some(64 << 10));
        assert!(matches!(small.more, Store::Heap(_)));
    }

    #[test]
    fn of_what_is_announced_no_more_is_believed_than_may_be() {
        let memory = Arc::default();
        let large = gathered(&memory, &[64 << 10; 5], Some(u64::MAX));
        let Store::Paged(pages) = &large.more else { panic!() };
        assert_eq!(pages.capacity(), 1 << 20);
    }

    #[test]
    fn what_was_written_at_once_is_the_same_in_its_own_pages() {
        let memory = Arc::default();
        for length in [0, 1, PAGED_FROM, PAGED_FROM + 1] {
            assert_eq!(settled(&memory, vec![3; length]), vec![3; length]);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_moves(
            pieces in proptest::collection::vec(0..90_000_usize, 0..12),
            announced in proptest::option::of(0..900_000_u64),
        ) {
            let want: Vec<u8> = pieces
                .iter()
                .enumerate()
                .flat_map(|(at, length)| vec![u8::try_from(at % 251).unwrap(); *length])
                .collect();
            let memory = Arc::default();
            let gathered = gathered(&memory, &pieces, announced);
            prop_assert_eq!(gathered.len(), want.len());
            prop_assert!(gathered.into_bytes() == want);
        }
    }
}
