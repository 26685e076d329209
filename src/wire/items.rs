//! Where does an object in a JSON array end that arrives in pieces?
//!
//! Gemini streams one array of answers to whom does not ask for events. Only braces and strings are
//! followed: what stands between a brace and its match is an item, whatever it is, and whoever
//! reads it finds out whether it is JSON. What stands between items is gap, whatever it is.

/// Finder of ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Items {
    /// How many braces are open.
    depth: u32,
    in_string: bool,
    /// The next byte of the string means itself.
    is_escaped: bool,
    /// How many bytes of the open item were taken.
    taken: usize,
}

impl Items {
    /// Takes bytes up to the end of an item and returns how many that were; nothing where all were
    /// taken and no item has ended. The next call goes on behind them.
    pub fn next_end(&mut self, bytes: &[u8]) -> Option<usize> {
        // Where the open item begins, as far as it lies here.
        let mut start = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if self.in_string {
                self.in_string = self.is_escaped || *byte != b'"';
                self.is_escaped = !self.is_escaped && *byte == b'\\';
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' => {
                    start = if self.depth == 0 { at } else { start };
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' if self.depth == 1 => {
                    (self.depth, self.taken) = (0, 0);
                    return Some(at + 1);
                }
                b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        if self.depth > 0 {
            self.taken += bytes.len() - start;
        }
        None
    }

    /// Returns how many of the last bytes taken belong to an item that has not ended; 0 between items.
    #[must_use]
    pub fn open(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_end_at_their_own_brace_wherever_the_bytes_are_cut() {
        let text = br#" [{"a":"}\"{"}, {"b":{"c":[]}} ] "#;
        for size in 1..text.len() {
            let (mut items, mut ends, mut base) = (Items::default(), Vec::new(), 0);
            for chunk in text.chunks(size) {
                let mut at = 0;
                while let Some(taken) = items.next_end(&chunk[at..]) {
                    at += taken;
                    ends.push(base + at);
                }
                base += chunk.len();
                let begun = [2, 16].map(|start: usize| base.saturating_sub(start));
                let open = if base < 14 {
                    begun[0]
                } else if base < 30 {
                    begun[1]
                } else {
                    0
                };
                assert_eq!(items.open(), open, "{size} {base}");
            }
            assert_eq!(ends, [14, 30], "{size}");
        }
    }
}
