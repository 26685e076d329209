//! Percent-encoding, read strictly, and written.
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

/// Appends `text` to `into`, with every byte escaped that is neither unreserved (RFC 3986 section 2.3)
/// nor among `plain`.
pub fn encode(text: &str, plain: &[u8], into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
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
    fn everything_is_escaped_that_is_not_unreserved_or_named() {
        for (text, plain, want) in [
            ("aZ0-._~", &b""[..], "aZ0-._~"),
            ("a/b:c@d", b"", "a%2Fb%3Ac%40d"),
            ("a/b:c@d", b"@", "a%2Fb%3Ac@d"),
            ("\u{e9} %\r\n", b"", "%C3%A9%20%25%0D%0A"),
        ] {
            let mut escaped = String::new();
            encode(text, plain, &mut escaped);
            assert_eq!(escaped, want);
        }
    }

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
