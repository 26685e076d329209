//! What must hold of whatever strangers send?
//!
//! One function a reader of untrusted bytes: clients' heads, paths and bodies, providers' streams,
//! faults and hints, the operator's file. Each takes any bytes and panics where something does not
//! hold; not to crash is the least of it. Two sides call them: the targets of `make fuzz`, which
//! look for such bytes by coverage for as long as one likes, and `tests/it/fuzzed.rs`, which lays
//! them over the seeds and what a few thousand changes make of these, on every `make test`.
//!
//! The usual properties: what came in is neither lost nor changed; what is withheld has a limit;
//! however a body is cut, the same comes out; what we call sound, another reader (serde_json,
//! httparse, a few naive lines) calls sound too and reads alike; what we write can be read back.
//!
//! Inputs are made to be written by hand: the first letters choose (`a` the first of a list, `b`
//! the second, see each function), the rest is the text as it goes over the wire. Bedrock's frames
//! are written as lines, see `pieces::frames`.
//!
//! A crash that was found becomes a seed: a file in `seeds/<target>/`, named for what it showed.

mod bodies;
mod faults;
mod files;
mod heads;
mod pieces;
mod streams;
mod tongues;

pub use bodies::{json, request};
pub use faults::{classify, hints, redact};
pub use files::config;
pub use heads::{head, path};
pub use streams::{frames, sse, stream};
pub use tongues::{translate_answer, translate_request, translate_stream};

/// A property of any bytes; it panics where it does not hold.
pub type Property = fn(&[u8]);

/// All targets by name, as in `seeds/` and `targets/`.
pub const ALL: [(&str, Property); 14] = [
    ("classify", classify),
    ("config", config),
    ("frames", frames),
    ("head", head),
    ("hints", hints),
    ("json", json),
    ("path", path),
    ("redact", redact),
    ("request", request),
    ("sse", sse),
    ("stream", stream),
    ("translate_answer", translate_answer),
    ("translate_request", translate_request),
    ("translate_stream", translate_stream),
];

/// Takes the first letter, which chooses one of a list.
fn choose<T: Copy>(input: &mut &[u8], of: &[T]) -> T {
    let letter = input.first().copied().unwrap_or(b'a');
    *input = input.get(1..).unwrap_or_default();
    of[usize::from(letter.wrapping_sub(b'a')) % of.len()]
}

/// Takes the first letter as it is.
fn letter(input: &mut &[u8]) -> u8 {
    let letter = input.first().copied().unwrap_or_default();
    *input = input.get(1..).unwrap_or_default();
    letter
}

/// Takes the first line, without its end.
fn line<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, rest) = input.split_at(end);
    *input = rest.get(1..).unwrap_or_default();
    line
}

/// What a message shows of an input.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(&"x".repeat(pieces::LONG), "~long~")
}
