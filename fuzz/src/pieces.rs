//! How may one body arrive?

use bytes::Bytes;

/// A body in pieces.
pub type Pieces = Vec<Bytes>;

/// Longest body that is also taken byte by byte: above, that would be most of the time.
const BY_BYTES_MAX: usize = 8 * 1024;

/// Cuts a body in several ways, the first of them not at all; `seed` says where the others cut.
pub fn ways(body: &[u8], seed: u8) -> Vec<Pieces> {
    let whole = vec![Bytes::copy_from_slice(body)];
    let smallest = if body.len() > BY_BYTES_MAX { 997 } else { 1 };
    let alike = body.chunks(smallest).map(Bytes::copy_from_slice).collect();
    let (head, tail) = body.split_at(body.len() * usize::from(seed) / 256);
    let halves = vec![Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail)];
    vec![whole, alike, halves, drawn(body, seed, smallest)]
}

/// Pieces of lengths that a small generator draws, some of them empty.
fn drawn(body: &[u8], seed: u8, scale: usize) -> Pieces {
    let mut state = u32::from(seed) * 2_654_435 + 1;
    let mut rest = body;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let most = 1 + (state >> 8) % 4 * 9;
        let length = ((state >> 16) % (most + 1)) as usize * scale;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces
}

/// Longer than any event that is kept.
pub const LONG: usize = 70_000;

/// What stands for [`LONG`] bytes; not so short that it comes about everywhere, which would make most
/// inputs slow.
const STANDS_FOR_LONG: &[u8] = b"~long~";

/// Puts [`LONG`] bytes in the place of the first `~long~`.
pub fn blown_up(body: &[u8]) -> Vec<u8> {
    let Some(at) = body.windows(STANDS_FOR_LONG.len()).position(|six| six == STANDS_FOR_LONG) else {
        return body.to_vec();
    };
    [&body[..at], &vec![b'x'; LONG], &body[at + STANDS_FOR_LONG.len()..]].concat()
}

/// Makes AWS event-stream frames of lines: `name=value,name=value|payload` is a frame with these
/// text headers, `!bytes|payload` one with these bytes for headers, `?bytes` goes in as it is.
/// Lengths and checksums are right, for else nothing behind them would ever be read.
pub fn frames(lines: &[u8]) -> Vec<Vec<u8>> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(frame).collect()
}

fn frame(line: &[u8]) -> Vec<u8> {
    if let Some(raw) = line.strip_prefix(b"?") {
        return raw.to_vec();
    }
    let bar = line.iter().position(|byte| *byte == b'|').unwrap_or(line.len());
    let (head, payload) = (&line[..bar], line.get(bar + 1..).unwrap_or_default());
    let headers = match head.strip_prefix(b"!") {
        Some(raw) => raw.to_vec(),
        None => head.split(|byte| *byte == b',').filter(|pair| !pair.is_empty()).flat_map(header).collect(),
    };
    let number = |length: usize| u32::try_from(length).expect("inputs are short").to_be_bytes();
    let mut frame = number(12 + headers.len() + payload.len() + 4).to_vec();
    frame.extend(number(headers.len()));
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend(payload);
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

fn header(pair: &[u8]) -> Vec<u8> {
    let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let name = &pair[..equals.min(255)];
    let value = pair.get(equals + 1..).unwrap_or_default();
    let value = &value[..value.len().min(1000)];
    let length = u16::try_from(value.len()).expect("at most 1000").to_be_bytes();
    let name_length = u8::try_from(name.len()).expect("at most 255");
    [&[name_length], name, &[7], &length, value].concat()
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
