//! Objects in a JSON array that arrives in pieces.

use super::{EVENT_MAX, Unreadable};
use crate::wire::items::Items;

/// An array under way.
#[derive(Debug, Default)]
pub(in super::super) struct Array {
    items: Items,
    /// What came since the last item's end.
    open: Vec<u8>,
}

impl Array {
    /// Calls `on` with each item that this chunk completes.
    pub(super) fn push(&mut self, chunk: &[u8], mut on: impl FnMut(&[u8])) -> Result<(), Unreadable> {
        let mut rest = chunk;
        while let Some((item, after)) = self.items.next_end(rest).and_then(|end| rest.split_at_checked(end)) {
            rest = after;
            self.keep(item)?;
            // Before it stand the array's own bracket and commas.
            if let Some(start) = memchr::memchr(b'{', &self.open) {
                on(self.open.get(start..).unwrap_or_default());
            }
            self.open.clear();
        }
        self.keep(rest)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        if self.open.len() + bytes.len() > EVENT_MAX {
            return Err(Unreadable);
        }
        self.open.extend_from_slice(bytes);
        Ok(())
    }
}
