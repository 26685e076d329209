//! A value that must never be seen.
//!
//! [`Secret`] has no `Display`, redacts itself in `Debug` and wipes its memory when the last
//! holder lets go (a reload that changes a key drops the old plan, and with it the old key). The
//! only way to the text is [`Secret::expose`], so that `grep expose` lists every use.

use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A key, token or password. Cloning shares the one copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Secret(Arc::new(Zeroizing::new(text)))
    }

    /// Returns the text itself, for the one place that sends or compares it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the last four characters, for an operator who must tell two keys apart; nothing
    /// where the key is so short that four characters would give it away (under 12).
    #[must_use]
    pub fn last_four(&self) -> &str {
        let text = self.expose();
        if text.len() < 12 {
            return "";
        }
        text.char_indices().rev().nth(3).map_or("", |(at, _)| &text[at..])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_redacts_and_last_four_never_gives_a_short_key_away() {
        let key = Secret::new("sk-canary-0123456789".to_owned());
        assert_eq!(format!("{key:?}"), "Secret(redacted)");
        assert_eq!(key.last_four(), "6789");
        assert_eq!(Secret::new("short".to_owned()).last_four(), "");
    }
}
