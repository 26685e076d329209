//! Objects in a JSON array that arrives in pieces.
//!
//! Only braces and strings are followed: what stands between a brace and its match is an item,
//! whatever it is, and whoever reads it finds out whether it is JSON.

use super::{EVENT_MAX, TooLong};

/// Finder of items.
#[derive(Debug, Default)]
pub(in super::super) struct Items {
    /// What came of the open item.
    open: Vec<u8>,
    /// How many braces are open.
    depth: u32,
    in_string: bool,
    /// The next byte of the string means itself.
    is_escaped: bool,
}

impl Items {
    /// Calls `on` with each item that this chunk completes.
    pub(super) fn push(&mut self, chunk: &[u8], mut on: impl FnMut(&[u8])) -> Result<(), TooLong> {
        for byte in chunk {
            if self.depth == 0 && *byte != b'{' {
                continue;
            }
            if self.open.len() >= EVENT_MAX {
                return Err(TooLong);
            }
            self.open.push(*byte);
            if self.in_string {
                self.in_string = self.is_escaped || *byte != b'"';
                self.is_escaped = !self.is_escaped && *byte == b'\\';
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' => self.depth += 1,
                b'}' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        on(&self.open);
                        self.open.clear();
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
