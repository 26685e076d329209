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

/// What ids of nine are made of.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

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

/// Returns an id of nine letters and digits, which is all that Mistral takes: its own stay, another
/// becomes the same one wherever it passes.
pub(super) fn of_nine(id: &str) -> Cow<'_, str> {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Cow::Borrowed(id);
    }
    let mut rest = hash(id.as_bytes());
    let digits = (0..9).map(|_| {
        let digit = usize::try_from(rest % 62).ok().and_then(|at| DIGITS.get(at)).copied().unwrap_or(b'0');
        rest /= 62;
        char::from(digit)
    });
    Cow::Owned(digits.collect())
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
    fn ids_of_nine_are_letters_and_digits_and_differ() {
        assert_eq!(of_nine("aB3dE6gH9"), "aB3dE6gH9");
        let mut all: Vec<String> = ["", "toolu_01A", "toolu_01B", "call_0", "aB3dE6gH", "aB3dE_gH9"]
            .iter()
            .map(|id| of_nine(id).into_owned())
            .collect();
        for id in &all {
            assert!(id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
            assert_eq!(of_nine(id), *id, "twice is once");
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

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
