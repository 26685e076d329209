//! How does a body become gzip without a compressor?
//!
//! A stand-in needs valid gzip, not small gzip: each piece is one "stored" deflate block, so that
//! a stream can be compressed event by event as servers that flush do. Source: RFC 1951 section
//! 3.2.4 (stored blocks), RFC 1952 section 2.3 (header, CRC-32, length).

use bytes::{BufMut, Bytes, BytesMut};

/// Magic, deflate, no flags, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A stored block holds at most this much (its length has 16 bits).
const BLOCK_MAX: usize = 0xffff;

/// A gzip stream under way.
#[derive(Debug)]
pub(super) struct Gzip {
    crc: u32,
    length: u32,
    is_begun: bool,
}

impl Gzip {
    pub(super) fn new() -> Gzip {
        Gzip { crc: !0, length: 0, is_begun: false }
    }

    /// Returns a whole body as gzip.
    pub(super) fn whole(body: &[u8]) -> Bytes {
        let mut gzip = Gzip::new();
        let begun = gzip.piece(body);
        Bytes::from([begun, gzip.end()].concat())
    }

    /// Returns the next piece, with the gzip header before the first.
    pub(super) fn piece(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len() + 32);
        if !self.is_begun {
            out.put_slice(&HEADER);
            self.is_begun = true;
        }
        for block in piece.chunks(BLOCK_MAX) {
            put_block(&mut out, block, 0);
        }
        self.crc = piece.iter().fold(self.crc, |crc, byte| crc_step(crc, *byte));
        // RFC 1952: the length is taken modulo 2^32.
        self.length = self.length.wrapping_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        out.freeze()
    }

    /// Returns the end of the stream.
    pub(super) fn end(&mut self) -> Bytes {
        let mut out = BytesMut::from(self.piece(&[]).as_ref());
        put_block(&mut out, &[], 1);
        out.put_u32_le(!self.crc);
        out.put_u32_le(self.length);
        out.freeze()
    }
}

fn put_block(out: &mut BytesMut, block: &[u8], is_final: u8) {
    let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
    out.put_u8(is_final);
    out.put_u16_le(length);
    out.put_u16_le(!length);
    out.put_slice(block);
}

fn crc_step(crc: u32, byte: u8) -> u32 {
    (0..8).fold(
        crc ^ u32::from(byte),
        |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_rfc() {
        // The check value of CRC-32 for these digits (zlib, PNG and gzip agree on it).
        let crc = b"123456789".iter().fold(!0, |crc, byte| crc_step(crc, *byte));
        assert_eq!(!crc, 0xcbf4_3926);
    }

    #[test]
    fn pieces_and_whole_carry_the_same_trailer() {
        let mut gzip = Gzip::new();
        gzip.piece(b"Hello ");
        gzip.piece(b"you");
        let end = gzip.end();
        let whole = Gzip::whole(b"Hello you");
        assert_eq!(end[end.len() - 8..], whole[whole.len() - 8..]);
        assert_eq!(whole[..2], [0x1f, 0x8b]);
    }
}
