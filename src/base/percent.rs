//! Percent-encoding, read strictly.
//!
//! Three rooms read text out of a URL: the client's `?key=`, a model in a path, a target's id in
//! an admin path. A `%` that is not followed by two hexadecimal digits is refused rather than
//! kept, because two readers that disagree on it (RFC 3986 section 2.1) are how checks on paths
//! are slipped past. `+` is a plus: it means a space only in form bodies, which nobody here reads.

use std::borrow::Cow;

/// Decodes `text`; nothing where an escape is malformed. Borrows where there is none.
#[must_use]
pub fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = nibble(bytes.next()?)?;
            let low = nibble(bytes.next()?)?;
            out.push(high << 4 | low);
        } else {
            out.push(byte);
        }
    }
    Some(Cow::Owned(out))
}

/// Decodes `text` into UTF-8; nothing where an escape is malformed or the result is not UTF-8.
#[must_use]
pub fn decode_utf8(text: &str) -> Option<Cow<'_, str>> {
    match decode(text)? {
        Cow::Borrowed(_) => Some(Cow::Borrowed(text)),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_decode_and_malformed_ones_are_refused() {
        for (text, want) in [
            ("plain", Some("plain")),
            ("", Some("")),
            ("a%2Fb%2fc", Some("a/b/c")),
            ("a+b", Some("a+b")),
            ("%e2%82%ac", Some("€")),
            ("%25", Some("%")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
            ("%+1", None),
        ] {
            assert_eq!(decode_utf8(text).as_deref(), want, "{text}");
        }
    }
}
