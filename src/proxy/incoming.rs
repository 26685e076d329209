//! The body of a provider's answer, as we can read it.
//!
//! We ask for `identity`. Who compresses all the same (some do, whatever they are asked) is
//! unpacked here: an answer that cannot be read cannot be judged, and a stream that cannot be
//! judged cannot be rescued. The client gets it unpacked, which is what the proxy asked for in its
//! name. `gzip` and `deflate` are unpacked; nobody was seen to send another coding unasked, which
//! is not worth two more libraries: such an answer is a failed attempt (`bad_body`).
//!
//! Unpacked bytes come in pieces of at most [`PIECE`], one a call, however small the packed ones
//! are (deflate packs up to 1:1032): memory stays bounded, and whoever reads may stop.

use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};
use pingora::ErrorType;
use pingora::protocols::http::client::HttpSession as Upstream;

/// Most bytes that come of one step: Pingora's own read size.
const PIECE: usize = 64 * 1024;
/// Largest window that gzip knows (RFC 1951 section 2).
const WINDOW_BITS: u8 = 15;

/// A body under way.
pub(super) struct Incoming<'a> {
    upstream: &'a mut Upstream,
    unpacking: Option<Unpacking>,
}

/// A body under way whose connection is elsewhere.
pub(super) struct Paused(Option<Unpacking>);

impl<'a> Incoming<'a> {
    /// Begins to read a body that is packed in this way.
    pub(super) fn new(upstream: &'a mut Upstream, packing: Option<Packing>) -> Self {
        Incoming { upstream, unpacking: packing.map(Unpacking::new) }
    }

    /// Goes on with a body that was begun and put aside with [`Incoming::pause`].
    pub(super) fn resume(upstream: &'a mut Upstream, paused: Paused) -> Self {
        Incoming { upstream, unpacking: paused.0 }
    }

    /// Lets go of the connection in the midst of a body.
    pub(super) fn pause(self) -> Paused {
        Paused(self.unpacking)
    }

    /// Returns the provider's own headers.
    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.upstream.response_header().map(|head| &head.headers)
    }

    /// Returns the next piece; nothing at a proper end.
    ///
    /// # Errors
    /// When the body breaks off, or what is packed is broken or not all there.
    pub(super) async fn next(&mut self) -> pingora::Result<Option<Bytes>> {
        let Some(unpacking) = &mut self.unpacking else { return self.upstream.read_response_body().await };
        loop {
            match unpacking.step() {
                Ok(Some(piece)) => return Ok(Some(piece)),
                Ok(None) => {}
                Err(Broken) => return broken(),
            }
            match self.upstream.read_response_body().await? {
                Some(packed) => unpacking.packed = packed,
                None if unpacking.is_whole => return Ok(None),
                None => return broken(),
            }
        }
    }
}

fn broken<T>() -> pingora::Result<T> {
    Err(pingora::Error::explain(ErrorType::ReadError, "the packed body is broken").into_up())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Deflate,
}

impl Packing {
    /// Finds the packing that we can undo.
    pub(super) fn of(headers: &HeaderMap) -> Option<Packing> {
        let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
        let coding = codings.next().filter(|_| codings.next().is_none())?.as_bytes().trim_ascii();
        let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
        if is(b"gzip") || is(b"x-gzip") {
            return Some(Packing::Gzip);
        }
        is(b"deflate").then_some(Packing::Deflate)
    }
}

#[derive(Debug)]
struct Broken;

/// Unpacks step by step.
struct Unpacking {
    packing: Packing,
    state: Decompress,
    packed: Bytes,
    /// Whether the packed body has come to its own end. An empty body is whole too.
    is_whole: bool,
    has_more: bool,
}

impl Unpacking {
    fn new(packing: Packing) -> Self {
        Unpacking {
            packing,
            state: state_for(packing),
            packed: Bytes::new(),
            is_whole: true,
            has_more: false,
        }
    }

    /// Returns the next unpacked bytes; nothing when packed ones are wanted first.
    fn step(&mut self) -> Result<Option<Bytes>, Broken> {
        while !self.packed.is_empty() || self.has_more {
            if self.is_whole {
                // RFC 1952 section 2.2: a gzip body may be several, one after another.
                self.state = state_for(self.packing);
                self.is_whole = false;
            }
            let (taken_before, given_before) = (self.state.total_in(), self.state.total_out());
            let mut unpacked = BytesMut::zeroed(PIECE);
            let status = self.state.decompress(&self.packed, &mut unpacked, FlushDecompress::None);
            let taken = usize::try_from(self.state.total_in() - taken_before).map_err(|_| Broken)?;
            let given = usize::try_from(self.state.total_out() - given_before).map_err(|_| Broken)?;
            self.packed = self.packed.slice(taken.min(self.packed.len())..);
            unpacked.truncate(given);
            self.is_whole = match status {
                Ok(Status::StreamEnd) => true,
                Ok(Status::Ok | Status::BufError) => false,
                Err(_) => return Err(Broken),
            };
            // A full piece: there may be more inside the state, packed bytes or not.
            self.has_more = given == PIECE && !self.is_whole;
            if given > 0 {
                return Ok(Some(unpacked.freeze()));
            }
            if taken == 0 && !self.is_whole {
                return if self.packed.is_empty() { Ok(None) } else { Err(Broken) };
            }
        }
        Ok(None)
    }
}

fn state_for(packing: Packing) -> Decompress {
    match packing {
        Packing::Gzip => Decompress::new_gzip(WINDOW_BITS),
        // RFC 9110 section 8.4.1.2: deflate means the zlib format.
        Packing::Deflate => Decompress::new(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Unpacks in chunks of `size`; tells whether the end was seen.
    fn unpack(packing: Packing, packed: &[u8], size: usize) -> Result<(Vec<u8>, bool), Broken> {
        let mut unpacking = Unpacking::new(packing);
        let mut text = Vec::new();
        for chunk in packed.chunks(size) {
            unpacking.packed = Bytes::copy_from_slice(chunk);
            while let Some(piece) = unpacking.step()? {
                assert!(!piece.is_empty() && piece.len() <= PIECE, "{}", piece.len());
                text.extend_from_slice(&piece);
            }
        }
        Ok((text, unpacking.is_whole))
    }

    #[test]
    fn what_was_packed_comes_out_the_same_however_it_was_cut() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let zeros = vec![0; 3 * PIECE];
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        let table = [
            (Packing::Gzip, gzip(&text), text.clone()),
            (Packing::Gzip, gzip(&zeros), zeros),
            (Packing::Gzip, gzip(b""), Vec::new()),
            (Packing::Gzip, [gzip(b"one "), gzip(b"two")].concat(), b"one two".to_vec()),
            (Packing::Deflate, zlib.finish().unwrap(), text),
        ];
        for (packing, packed, expected) in table {
            for size in [packed.len(), 1000, 7] {
                let (unpacked, is_whole) = unpack(packing, &packed, size).unwrap();
                assert!(unpacked == expected && is_whole, "{packing:?} in chunks of {size}");
            }
        }
    }

    #[test]
    fn a_part_is_never_taken_for_the_whole() {
        let packed = gzip(b"the quick brown fox");
        for end in 1..packed.len() {
            let (text, is_whole) = unpack(Packing::Gzip, &packed[..end], 5).unwrap();
            assert!(!is_whole && b"the quick brown fox".starts_with(&text), "cut at {end}");
        }
    }

    #[test]
    fn a_broken_body_is_an_error_and_no_panic() {
        let mut packed = gzip(b"the quick brown fox jumps over the lazy dog");
        let last = packed.len() - 5;
        packed[last] ^= 0xff;
        assert!(unpack(Packing::Gzip, &packed, packed.len()).is_err(), "a wrong checksum");
        assert!(unpack(Packing::Gzip, b"data: {}\n\ndata: [DONE]\n\n", 4).is_err(), "not packed at all");
    }

    #[test]
    fn only_one_known_coding_is_undone() {
        for (values, expected) in [
            (&["gzip"][..], Some(Packing::Gzip)),
            (&[" X-GZip "], Some(Packing::Gzip)),
            (&["deflate"], Some(Packing::Deflate)),
            (&["br"], None),
            (&["gzip, br"], None),
            (&["gzip", "gzip"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, http::HeaderValue::from_static(value));
            }
            assert_eq!(Packing::of(&headers), expected, "{values:?}");
        }
    }
}
