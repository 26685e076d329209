//! The way of a request in one header: `openai/work:429,anthropic/main:ok`.
//!
//! Each stop is provider, credential and a word (a status, an outcome, why it was skipped). The
//! whole is at most 1 KiB (contract section 3) and safe to put into a header: names come from the
//! configuration, but a name that holds a comma, a space or anything beyond visible ASCII shows
//! `_` instead. Where the way is too long, the middle is left out, because the first stop says
//! what was meant and the last one who answered.

use smallvec::SmallVec;

/// Longest trail in bytes, contract section 3.
pub const TRAIL_BYTES_MAX: usize = 1024;

/// Stands for the stops that were left out.
const LEFT_OUT: &str = "...";

/// Writes the stops `(provider, credential, word)` in their order.
pub fn render<'a>(stops: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> String {
    let mut text = String::new();
    let mut ends = SmallVec::<[usize; 8]>::new();
    for (provider, credential, word) in stops {
        text.reserve(provider.len() + credential.len() + word.len() + 3);
        if !ends.is_empty() {
            text.push(',');
        }
        for (part, end) in [(provider, "/"), (credential, ":"), (word, "")] {
            text.extend(part.chars().map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '_' }));
            text.push_str(end);
        }
        ends.push(text.len());
    }
    if text.len() <= TRAIL_BYTES_MAX { text } else { shortened(&text, &ends) }
}

/// Leaves the middle out of a way whose stops end at `ends`.
fn shortened(whole: &str, ends: &[usize]) -> String {
    let [first @ .., _] = ends else { return String::new() };
    let last = first.last().map_or(0, |end| end + 1);
    let last = whole.get(last..).unwrap_or_default();
    let fits = |end: &&usize| *end + LEFT_OUT.len() + last.len() + 2 <= TRAIL_BYTES_MAX;
    let mut text = String::with_capacity(TRAIL_BYTES_MAX);
    if let Some(kept) = first.iter().rfind(fits).and_then(|end| whole.get(..*end)) {
        text.push_str(kept);
        text.push(',');
    }
    text.push_str(LEFT_OUT);
    text.push(',');
    text.push_str(last);
    // Only ASCII was written, so every byte is a character; one name may still be too long.
    text.truncate(TRAIL_BYTES_MAX);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_joined_in_their_order() {
        assert_eq!(render([]), "");
        assert_eq!(render([("openai", "work", "ok")]), "openai/work:ok");
        let two = render([("openai", "work", "429"), ("anthropic", "main", "ok")]);
        assert_eq!(two, "openai/work:429,anthropic/main:ok");
    }

    #[test]
    fn no_name_breaks_the_header() {
        assert_eq!(render([("a,b", "c d", "x\r\ny"), ("é", "\u{1b}[1m", "")]), "a_b/c_d:x__y,_/_[1m:");
    }

    #[test]
    fn a_long_way_keeps_its_ends_and_its_limit() {
        let long =
            render((0..200).map(|_| ("openai", "work", "server_error")).chain([("last", "one", "ok")]));
        assert!(long.len() <= TRAIL_BYTES_MAX, "{}", long.len());
        assert!(long.starts_with("openai/work:server_error,"), "{long}");
        assert!(long.ends_with(",...,last/one:ok"), "{long}");
        let huge = "x".repeat(5000);
        assert!(render([("a", "b", "c"), (huge.as_str(), "b", "ok")]).len() <= TRAIL_BYTES_MAX);
        assert!(render([(huge.as_str(), "b", "ok")]).len() <= TRAIL_BYTES_MAX);
    }
}
