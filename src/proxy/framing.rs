//! Can two readers of this request head disagree about where the request ends, or whom it is for?
//!
//! A head that can be read in two ways is refused before anything is parsed (threat C4): Pingora
//! mends some of them silently (it drops a Content-Length beside a Transfer-Encoding, takes bare LF
//! for a line's end, joins equal lengths), and what one reader mends another one smuggles through.
//! Refused are, beside what is no request line and no field line at all:
//!
//! * a line that ends in LF alone, a CR, NUL or other control character inside a line, a field that
//!   goes on in the next line (obs-fold), white space before a colon;
//! * more than one Content-Length, one that is not 1 to 19 digits, one beside a Transfer-Encoding;
//! * a Transfer-Encoding other than one `chunked`, or any in HTTP/1.0;
//! * no Host in HTTP/1.1, more than one, one with characters that no authority has;
//! * a target that is neither a path nor an `http` address (of which Pingora wants the host's name to
//!   be that of the Host field) nor `*`;
//! * a name with an underscore, which gateways behind gateways read as a hyphen, but for the three
//!   ([`UNDERSCORED`]) that coding agents send.
//!
//! Chunked bodies are not seen here. Pingora reads them with some tolerance (any bytes in an
//! extension, an empty line for a size), so `service` lets no request follow one on its connection:
//! what a reader before us took for part of the body is not read as a request.
//!
//! A request that would go on in another protocol is none of ours either (`is_upgrade`).
//!
//! HTTP/2 frames its bodies itself and has no lines to cut, but the fields are the same: of two equal lengths
//! the library makes one, and it has one limit for all fields together. So what HTTP/1 is refused for its
//! fields is refused there as well (`head_fault`). What it sends behind a body is never read.
//!
//! A field line longer than [`FIELD_MAX`] is too large. Source: RFC 9112 sections 2.2, 3.2, 5 and 6.

use http::{HeaderMap, Version, header};
use pingora::http::RequestHeader;

/// Longest field line, in bytes (threat C6).
pub const FIELD_MAX: usize = 16 * 1024;

/// Names with an underscore that are known, which end in no provider's framing.
const UNDERSCORED: [&[u8]; 3] = [b"session_id", b"conversation_id", b"thread_id"];

/// Most fields of a request head (threat C6).
const FIELDS_MAX: usize = 100;
/// What a client is told who sends more.
pub(super) const TOO_MANY: &str = "the request head has more than 100 fields";
/// What a client is told that takes this for a forward proxy.
pub(super) const NO_TUNNEL: &str =
    "this proxy opens no tunnels; call it by its own address, as the provider's base URL";
/// What a client is told whose head, or one field of it, is too long.
pub(super) const TOO_LARGE: &str = "the request head is larger than limits.max_header allows";
/// Longest head of an answer, in bytes (threat P4); Pingora takes a mebibyte.
pub(super) const ANSWER_HEAD_MAX: usize = 64 * 1024;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// What could be read in two ways: a sentence for the client.
    Ambiguous(&'static str),
    /// A field line is longer than [`FIELD_MAX`].
    TooLarge,
    /// There are more than [`FIELDS_MAX`].
    TooMany,
    /// It asks for a tunnel to somewhere (`CONNECT host:port`), which is no path.
    Tunnel,
}

/// Where a request ends, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The length of its head, the empty line included.
    pub head: usize,
    /// The length of its body, where that was announced.
    pub body: Option<u64>,
}

/// What the fields of a head say about its framing.
#[derive(Default)]
struct Framing {
    fields: usize,
    length: Option<u64>,
    is_chunked: bool,
    has_host: bool,
}

/// Returns how long the fields of a head are, in bytes.
pub(super) fn length(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// An HTTP/1.0 client that did not ask for it expects the connection to be closed, and waits for
/// that; Pingora would keep it open.
pub(super) fn closes_after(head: &RequestHeader) -> bool {
    head.version == Version::HTTP_10
        && !head
            .headers
            .get(header::CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

/// A client that asks for another protocol means to go on in it (threat C4). `h2c` is the exception:
/// Java's client offers it on every first request and is content with an answer in HTTP/1.1.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// Tells why a head is too large, whatever protocol brought it, or cannot be meant, where that was HTTP/2:
/// one of HTTP/1 has passed [`check`].
pub(super) fn head_fault(head: &RequestHeader, max: u64) -> Option<(u16, &'static str)> {
    let headers = &head.headers;
    let bytes = length(headers);
    if headers.len() > FIELDS_MAX {
        return Some((431, TOO_MANY));
    }
    if bytes as u64 > max {
        return Some((431, TOO_LARGE));
    }
    if head.version != Version::HTTP_2 {
        return None;
    }
    let mut framing = Framing::default();
    headers.iter().find_map(|(name, value)| framing.take(name.as_str(), value.as_bytes()).err()).map(
        |fault| match fault {
            HeadFault::Ambiguous(why) => (400, why),
            HeadFault::TooLarge | HeadFault::TooMany => (431, TOO_LARGE),
            HeadFault::Tunnel => (405, NO_TUNNEL),
        },
    )
}

/// Checks the head of an HTTP/1 request, which may be followed by anything, and returns where it ends.
///
/// # Errors
/// What is ambiguous or too large about it.
pub fn check(bytes: &[u8]) -> Result<Bounds, HeadFault> {
    let mut rest = bytes;
    let is_old = request_line(line(&mut rest)?)?;
    let mut framing = Framing::default();
    loop {
        let field = line(&mut rest)?;
        if field.is_empty() {
            break;
        }
        framing.note(field)?;
    }
    if framing.is_chunked && framing.length.is_some() {
        return Err(HeadFault::Ambiguous("content-length and transfer-encoding exclude each other"));
    }
    if framing.is_chunked && is_old {
        return Err(HeadFault::Ambiguous("HTTP/1.0 has no transfer-encoding"));
    }
    if !framing.has_host && !is_old {
        return Err(HeadFault::Ambiguous("HTTP/1.1 wants a host field"));
    }
    Ok(Bounds { head: bytes.len() - rest.len(), body: framing.length })
}

/// Takes the next line, without its end.
fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], HeadFault> {
    let Some(end) = memchr::memchr(b'\n', rest) else {
        return Err(HeadFault::Ambiguous("the head does not end"));
    };
    let (line, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\r") else {
        return Err(HeadFault::Ambiguous("lines end in CR LF"));
    };
    // Without leaving early, so that the compiler looks at many at once.
    let is_control = |byte: u8| byte < 0x20 && byte != b'\t' || byte == 0x7f;
    let has_control = line.iter().fold(false, |has, byte| has | is_control(*byte));
    if has_control {
        return Err(HeadFault::Ambiguous("a line of the head has a control character"));
    }
    Ok(line)
}

/// Checks a request line; tells whether it is HTTP/1.0's.
fn request_line(line: &[u8]) -> Result<bool, HeadFault> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_method = method.is_some_and(|word| !word.is_empty() && word.iter().all(|b| is_token(*b)));
    let is_target = target.is_some_and(|word| !word.is_empty() && !word.contains(&b'\t'));
    if !is_method || !is_target || words.next().is_some() {
        return Err(HeadFault::Ambiguous("the request line is not METHOD TARGET VERSION"));
    }
    let target = target.unwrap_or_default();
    let is_url = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    if method == Some(b"CONNECT") && target.first() != Some(&b'/') {
        return Err(HeadFault::Tunnel);
    }
    if target.first() != Some(&b'/') && target != b"*" && !is_url(b"http://") && !is_url(b"https://") {
        return Err(HeadFault::Ambiguous("the request target is not a path"));
    }
    match version {
        Some(b"HTTP/1.1") => Ok(false),
        Some(b"HTTP/1.0") => Ok(true),
        Some(_) | None => Err(HeadFault::Ambiguous("the version is not HTTP/1.1 or HTTP/1.0")),
    }
}

impl Framing {
    fn note(&mut self, field: &[u8]) -> Result<(), HeadFault> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(HeadFault::TooMany);
        }
        if field.len() > FIELD_MAX {
            return Err(HeadFault::TooLarge);
        }
        let Some(colon) = memchr::memchr(b':', field) else {
            return Err(HeadFault::Ambiguous("a field line has no colon"));
        };
        let (name, value) = field.split_at(colon);
        if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
            return Err(HeadFault::Ambiguous("a field has no proper name"));
        }
        self.known(name, value.get(1..).unwrap_or_default().trim_ascii())
    }

    /// Takes a field that was parsed already.
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), HeadFault> {
        if name.len() + value.len() > FIELD_MAX {
            return Err(HeadFault::TooLarge);
        }
        self.known(name.as_bytes(), value.trim_ascii())
    }

    fn known(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadFault> {
        let has_underscore = memchr::memchr(b'_', name).is_some();
        if has_underscore && !UNDERSCORED.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(HeadFault::Ambiguous("a field name has an underscore"));
        }
        // Their lengths tell the three that matter from nearly all others.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        if std::mem::replace(&mut self.has_host, true) {
            return Err(HeadFault::Ambiguous("there is more than one host field"));
        }
        let is_authority = |b: &u8| b.is_ascii_alphanumeric() || b".-_~:[]%".contains(b);
        if value.iter().all(is_authority) {
            Ok(())
        } else {
            Err(HeadFault::Ambiguous("the host field is not a host and a port"))
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        if self.length.is_some() {
            return Err(HeadFault::Ambiguous("there is more than one content-length"));
        }
        let digit = |byte: &u8| byte.is_ascii_digit().then_some(u64::from(byte & 0xf));
        // Nineteen digits fit.
        let digits = Some(value).filter(|value| matches!(value.len(), 1..=19));
        let sum = |digits: &[u8]| digits.iter().try_fold(0, |sum, byte| Some(10 * sum + digit(byte)?));
        self.length = digits.and_then(sum);
        if self.length.is_some() {
            Ok(())
        } else {
            Err(HeadFault::Ambiguous("content-length is not a number"))
        }
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        if std::mem::replace(&mut self.is_chunked, true) {
            return Err(HeadFault::Ambiguous("there is more than one transfer-encoding"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            Ok(())
        } else {
            Err(HeadFault::Ambiguous("transfer-encoding is not chunked"))
        }
    }
}

/// RFC 9110 section 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    let mut byte = u8::MAX;
    while byte > 0 {
        table[byte as usize] |= byte.is_ascii_alphanumeric();
        byte -= 1;
    }
    table
};

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    /// A head of these field lines behind a good request line and a good host.
    fn with(fields: &str) -> Result<(), HeadFault> {
        check(format!("POST /v1/messages HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes()).map(drop)
    }

    #[test]
    fn ordinary_heads_pass() {
        for head in [
            "GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            "GET /v1/models?key=a%20b HTTP/1.1\r\nhost: [::1]:80\r\naccept: */*\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost:\r\n\r\n",
            "GET HTTP://a/v1 HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nSession_Id: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHOST:a\r\nContent-Length:\t12 \r\nx-empty:\r\n\r\nbody\nof any\0kind",
            "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\nx-name: K\u{f6}ln\tund mehr\r\n\r\n",
        ] {
            assert!(check(head.as_bytes()).is_ok(), "{head:?}");
        }
    }

    #[test]
    fn a_head_ends_where_it_ends_and_its_body_where_it_says() {
        for (head, body) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", None),
            ("POST / HTTP/1.1\r\nhost: a\r\nContent-Length:\t012 \r\n\r\n", Some(12)),
            ("POST / HTTP/1.0\r\ncontent-length: 0\r\n\r\n", Some(0)),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999999999999\r\n\r\n",
                Some(9_999_999_999_999_999_999),
            ),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", None),
        ] {
            for more in ["", "body", "\r\n\r\nGET / HTTP/1.1\r\n"] {
                let bounds = Bounds { head: head.len(), body };
                assert_eq!(check(format!("{head}{more}").as_bytes()), Ok(bounds), "{head:?} {more:?}");
            }
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for fields in [
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            "content-length: 3\r\ncontent-length: 3\r\n",
            "content-length: 3\r\nContent-Length: 4\r\n",
            "content-length: 3, 3\r\n",
            "content-length: +3\r\n",
            "content-length: -1\r\n",
            "content-length: 0x3\r\n",
            "content-length: 3 3\r\n",
            "content-length:\r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: identity\r\n",
            "transfer-encoding: identity, chunked\r\n",
            "transfer-encoding: chunked, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: xchunked\r\n",
            "transfer-encoding: chunked;q=1\r\n",
            "transfer-encoding: \x0bchunked\r\n",
            "transfer-encoding:\r\n",
            "Transfer_Encoding: chunked\r\n",
            "content_length: 3\r\n",
            "host: b\r\n",
            "x: a\r\n folded: b\r\n",
            "x: a\r\n\tb\r\n",
            " x: a\r\n",
            "x : a\r\n",
            ": a\r\n",
            "no colon\r\n",
            "x: a\nb: c\r\n",
            "x: a\rb: c\r\n",
            "x: a\0\r\n",
            "x: a\x7f\r\n",
            "x\x00y: a\r\n",
            "x(y): a\r\n",
        ] {
            assert!(matches!(with(fields), Err(HeadFault::Ambiguous(_))), "{fields:?}");
        }
    }

    #[test]
    fn bad_request_lines_and_hosts_are_refused() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nhost: a\n\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
            "GET / HTTP/1.1\r\nhost: a",
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
            "GET / x HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /\tx HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /\r\nhost: a\r\n\r\n",
            "GET v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET ftp://a/v1 HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
            "GET / http/1.1\r\nhost: a\r\n\r\n",
            "G(T / HTTP/1.1\r\nhost: a\r\n\r\n",
            " GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: t/evil?x\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n",
            "",
        ] {
            assert!(matches!(check(head.as_bytes()), Err(HeadFault::Ambiguous(_))), "{head:?}");
        }
    }

    #[test]
    fn a_tunnel_is_told_from_what_is_ambiguous() {
        assert_eq!(check(b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n"), Err(HeadFault::Tunnel));
    }

    #[test]
    fn a_field_has_a_longest_line() {
        let longest = "a".repeat(FIELD_MAX - 3);
        assert_eq!(with(&format!("x: {longest}\r\n")), Ok(()));
        assert_eq!(with(&format!("x: {longest}a\r\n")), Err(HeadFault::TooLarge));
        assert_eq!(with(&"x: 1\r\n".repeat(FIELDS_MAX)), Err(HeadFault::TooMany));
    }

    proptest! {
        /// What passes is read by the parser behind in the same way.
        #[test]
        fn what_passes_has_one_framing(
            fields in prop::collection::vec(
                (
                    prop::sample::select(vec!["content-length", "Transfer-Encoding", "host", "x-a"]),
                    prop::sample::select(vec!["3", "chunked", "a", "3, 3", " chunked", "identity", ""]),
                    prop::sample::select(vec!["\r\n", "\n", "\r\n ", " \r\n"]),
                ),
                0..5,
            ),
        ) {
            let mut head = String::from("POST / HTTP/1.1\r\n");
            for (name, value, end) in &fields {
                write!(head, "{name}: {value}{end}").unwrap();
            }
            head.push_str("\r\n");
            if check(head.as_bytes()).is_ok() {
                let mut parsed = [httparse::EMPTY_HEADER; 16];
                let mut request = httparse::Request::new(&mut parsed);
                prop_assert!(request.parse(head.as_bytes()).is_ok_and(|status| status.is_complete()));
                let count = |name: &str| {
                    request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).count()
                };
                prop_assert_eq!(request.headers.len(), fields.len());
                prop_assert!(count("content-length") + count("transfer-encoding") <= 1);
                prop_assert_eq!(count("host"), 1);
            }
        }
    }
}
