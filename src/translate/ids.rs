//! Which ids do tool calls get?
//!
//! A call and its result are tied by an id that the provider makes and the client repeats.
//! Anthropic takes `[a-zA-Z0-9_-]+` only, OpenAI at most 40 characters, compatible servers make
//! ids like `functions.f:0`, empty ones or none. An id is rewritten by the same rule wherever it
//! passes, so that both ends of the tie stay the same: other characters become `_`, and what is
//! too long keeps its beginning and gets a hash of the whole.

use std::borrow::Cow;

/// Longest id that every dialect takes (OpenAI).
const LENGTH_MAX: usize = 40;

/// Returns an id that every dialect takes; a good one stays as it is.
pub(super) fn safe(id: &str) -> Cow<'_, str> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if id.len() <= LENGTH_MAX && id.chars().all(is_good) {
        return Cow::Borrowed(id);
    }
    let mut safe: String = id.chars().map(|c| if is_good(c) { c } else { '_' }).collect();
    if safe.len() > LENGTH_MAX {
        safe.truncate(LENGTH_MAX - 17);
        safe = format!("{safe}_{:016x}", hash(id.as_bytes()));
    }
    Cow::Owned(safe)
}

/// Makes the id of the `nth` call of an answer whose provider gave it none.
pub(super) fn made(request_id: &str, nth: usize) -> String {
    format!("call_{:016x}_{nth}", hash(request_id.as_bytes()))
}

/// FNV-1a, 64 bits: the same everywhere and for ever.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ids_stay_and_others_become_good_without_meeting() {
        for id in ["toolu_01A", "call_abc-1", ""] {
            assert_eq!(safe(id), id);
        }
        assert_eq!(safe("functions.f:0"), "functions_f_0");
        let (a, b) = (format!("{}a", "x".repeat(60)), format!("{}b", "x".repeat(60)));
        assert_ne!(safe(&a), safe(&b));
        for id in [a.as_str(), "\u{e9}\u{e9}", &made("req", 99)] {
            let once = safe(id).into_owned();
            assert!(once.len() <= LENGTH_MAX && once.is_ascii(), "{once}");
            assert_eq!(safe(&once), once, "twice is once");
        }
    }
}
