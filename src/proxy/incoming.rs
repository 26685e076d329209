//! The body of a provider's answer, as we can read it.
//!
//! We ask for `identity`. Who compresses all the same (some do, whatever they are asked) is
//! unpacked here: an answer that cannot be read cannot be judged, and a stream that cannot be
//! judged cannot be rescued. The client gets it unpacked, which is what the proxy asked for in its
//! name. `gzip` and `deflate` are unpacked; nobody was seen to send another coding unasked, which
//! is not worth two more libraries: such an answer is a failed attempt (`bad_body`).
//!
//! Unpacked bytes come in pieces of at most [`PIECE`], one a call, however small the packed ones
//! are (deflate packs up to 1:1032): memory stays bounded, and whoever reads may stop. What unpacks
//! to more than [`WHOLE_MAX`], or from [`RATIO_FROM`] on to more than [`RATIO_MAX`] times of what came,
//! is no answer but a bomb (threat P4): it is broken there, before its beginning went to the client where
//! that was still held, an unclean end otherwise. A stream has no longest length, as it has none
//! unpacked: 100,000 tokens in events of their own are more than 32 MiB, and nobody keeps them.

use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};
use pingora::ErrorType;
use pingora::protocols::http::client::HttpSession as Upstream;

/// Most bytes that come of one step: Pingora's own read size.
const PIECE: usize = 64 * 1024;
/// Most bytes of an answer that is not streamed.
const WHOLE_MAX: u64 = 32 * 1024 * 1024;
/// Most bytes for each that came.
const RATIO_MAX: u64 = 100;
/// From how many bytes on that counts: a model that repeats itself packs better than anything. Below
/// what is held of an answer before it is committed.
const RATIO_FROM: u64 = 512 * 1024;
/// Largest window that gzip knows (RFC 1951 section 2).
const WINDOW_BITS: u8 = 15;

/// A body under way.
pub(super) struct Incoming<'a> {
    upstream: &'a mut Upstream,
    /// On the heap: few are packed, and an open stream carries the room.
    unpacking: Option<Box<Unpacking>>,
}

/// A body under way whose connection is elsewhere.
pub(super) struct Paused(Option<Box<Unpacking>>);

impl<'a> Incoming<'a> {
    /// Begins to read a body that is packed in this way; a stream may be as long as it likes.
    pub(super) fn new(upstream: &'a mut Upstream, packing: Option<Packing>, is_stream: bool) -> Self {
        let longest = if is_stream { u64::MAX } else { WHOLE_MAX };
        Incoming { upstream, unpacking: packing.map(|packing| Box::new(Unpacking::new(packing, longest))) }
    }

    /// Goes on with a body that was begun and put aside with [`Incoming::pause`].
    pub(super) fn resume(upstream: &'a mut Upstream, paused: Paused) -> Self {
        Incoming { upstream, unpacking: paused.0 }
    }

    /// Tells whether what was packed unpacks to more than any answer.
    pub(super) fn is_bomb(&self) -> bool {
        self.unpacking.as_ref().is_some_and(|unpacking| unpacking.is_bomb())
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
    /// Where pieces are unpacked to. A small one is copied out, or a stream of single bytes would hold
    /// a room like this for each.
    room: BytesMut,
    /// Whether the packed body has come to its own end. An empty body is whole too.
    is_whole: bool,
    has_more: bool,
    /// Packed bytes that were read, unpacked ones that came of them, and most of those.
    came: u64,
    gave: u64,
    longest: u64,
}

impl Unpacking {
    fn new(packing: Packing, longest: u64) -> Self {
        Unpacking {
            packing,
            state: state_for(packing),
            packed: Bytes::new(),
            room: BytesMut::new(),
            is_whole: true,
            has_more: false,
            came: 0,
            gave: 0,
            longest,
        }
    }

    fn is_bomb(&self) -> bool {
        let is_dense = self.gave > RATIO_FROM && self.gave / RATIO_MAX > self.came;
        is_dense || self.gave > self.longest
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
            self.room.resize(PIECE, 0);
            let status = self.state.decompress(&self.packed, &mut self.room, FlushDecompress::None);
            let taken = usize::try_from(self.state.total_in() - taken_before).map_err(|_| Broken)?;
            let given = usize::try_from(self.state.total_out() - given_before).map_err(|_| Broken)?;
            self.packed = self.packed.slice(taken.min(self.packed.len())..);
            self.came += taken as u64;
            self.gave += given as u64;
            if self.is_bomb() {
                return Err(Broken);
            }
            self.is_whole = match status {
                Ok(Status::StreamEnd) => true,
                Ok(Status::Ok | Status::BufError) => false,
                Err(_) => return Err(Broken),
            };
            // A full piece: there may be more inside the state, packed bytes or not.
            self.has_more = given == PIECE && !self.is_whole;
            if given > 0 {
                return Ok(Some(self.piece(given)));
            }
            if taken == 0 && !self.is_whole {
                return if self.packed.is_empty() { Ok(None) } else { Err(Broken) };
            }
        }
        Ok(None)
    }

    /// Hands out what stands in the room, and the room along with it where that is most of it.
    fn piece(&mut self, length: usize) -> Bytes {
        if length < PIECE / 2 {
            return Bytes::copy_from_slice(self.room.get(..length).unwrap_or_default());
        }
        let mut whole = std::mem::take(&mut self.room);
        whole.truncate(length);
        whole.freeze()
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
        let mut unpacking = Unpacking::new(packing, WHOLE_MAX);
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
    fn a_bomb_ends_at_the_bound_in_bounded_steps() {
        let zeros = |length: usize| gzip(&vec![b' '; length]);
        let noise: Vec<u8> =
            (0..600_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let from = usize::try_from(RATIO_FROM).unwrap();
        let most = usize::try_from(WHOLE_MAX).unwrap();
        // A stream of events, which packs well and no better than that.
        let events = "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n".repeat(2000);
        let sparse = [gzip(&noise), gzip(events.as_bytes())].concat();
        let long = [gzip(&noise).repeat(9), zeros(most)].concat();
        for (packed, longest, want) in [
            (zeros(from), WHOLE_MAX, None),
            (zeros(from + 2 * PIECE), WHOLE_MAX, Some(from)),
            (zeros(64 << 20), u64::MAX, Some(from)),
            (sparse, WHOLE_MAX, None),
            (long.clone(), WHOLE_MAX, Some(most)),
            (long, u64::MAX, None),
        ] {
            let mut unpacking = Unpacking::new(Packing::Gzip, longest);
            unpacking.packed = packed.into();
            let (mut length, mut ended) = (0, None);
            while ended.is_none() {
                match unpacking.step() {
                    Ok(Some(piece)) => length += piece.len(),
                    Ok(None) => ended = Some(None),
                    Err(Broken) => ended = Some(Some(length)),
                }
            }
            let ended = ended.flatten();
            assert_eq!(ended.is_some(), want.is_some(), "{longest} {ended:?}");
            assert_eq!(unpacking.is_bomb(), want.is_some());
            if let (Some(ended), Some(want)) = (ended, want) {
                assert!(ended <= want, "{ended} bytes were given out");
            }
        }
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
