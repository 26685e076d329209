//! Do the properties of `fuzz/` hold, without a fuzzer?
//!
//! `make fuzz` looks for bytes that break one by coverage, for as long as one likes. Here the same
//! functions run over all seeds, and over what some hundred changes make of them: pieces cut out, said
//! twice, moved from one seed to another, bytes turned round, words of the wire put in. So a property
//! that a change breaks is seen by `make test`, and a crash that was found once stays found.
//!
//! `FUZZ_FACTOR=100 cargo nextest run fuzzed` makes a hundred times as many changes.

#[path = "../../fuzz/src/lib.rs"]
mod properties;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::fs;
use std::path::{Path, PathBuf};

/// What stands in many inputs, and what readers have stumbled over.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud83d",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"[DONE]",
    b"data: ",
    b"1e999",
    b"-1",
    b"~long~",
    b"%2e",
    b"\xe2\x80\xa8",
];

/// One change; places are shares of the length.
#[derive(Clone, Debug)]
enum Change {
    Cut(u16, u8),
    Twice(u16, u8),
    Put(u16, usize),
    Byte(u16, u8),
    /// From here on it is another seed.
    Cross(u16, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Cut(at, length)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Twice(at, length)),
        (any::<u16>(), 0..WORDS.len()).prop_map(|(at, word)| Change::Put(at, word)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<u16>(), any::<prop::sample::Index>()).prop_map(|(at, seed)| Change::Cross(at, seed)),
    ]
}

fn changed(mut bytes: Vec<u8>, change: &Change, seeds: &[Vec<u8>]) -> Vec<u8> {
    let place = |at: u16, length: usize| length * usize::from(at) / 65_536;
    match change {
        Change::Cut(at, length) => {
            let from = place(*at, bytes.len());
            bytes.drain(from..(from + usize::from(*length)).min(bytes.len()));
        }
        Change::Twice(at, length) => {
            let from = place(*at, bytes.len());
            let piece = bytes[from..(from + usize::from(*length)).min(bytes.len())].to_vec();
            bytes.splice(from..from, piece);
        }
        Change::Put(at, word) => {
            let from = place(*at, bytes.len());
            bytes.splice(from..from, WORDS[*word].iter().copied());
        }
        Change::Byte(at, byte) => {
            let from = place(*at, bytes.len());
            bytes.splice(from..(from + 1).min(bytes.len()), [*byte]);
        }
        Change::Cross(at, seed) => {
            let other = &seeds[seed.index(seeds.len())];
            bytes.truncate(place(*at, bytes.len()));
            bytes.extend_from_slice(&other[place(*at, other.len())..]);
        }
    }
    bytes
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The seeds of a target, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("seeds").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Lays a property over the seeds and `cases` of what changes make of them.
fn holds(target: &str, cases: u32) {
    let (_, property) = properties::ALL.into_iter().find(|(name, _)| *name == target).unwrap();
    let seeds = seeds(target);
    for seed in &seeds {
        property(seed);
    }
    let factor: u32 = std::env::var("FUZZ_FACTOR").map_or(1, |times| times.parse().unwrap());
    let cases = cases * factor;
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let input =
        (any::<prop::sample::Index>(), prop::collection::vec(change(), 1..6)).prop_map(|(seed, changes)| {
            let start = seeds[seed.index(seeds.len())].clone();
            changes
                .iter()
                .fold(start, |bytes, change| changed(bytes, change, &seeds))
                .escape_ascii()
                .to_string()
        });
    let run = TestRunner::new(config).run(&input, |text| {
        property(&unescaped(&text));
        Ok(())
    });
    if let Err(fault) = run {
        panic!("{target}: {fault}");
    }
}

/// Undoes `escape_ascii`, in whose form a failing input is told.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, byte == b'\\') {
            (plain, false) => plain,
            (_, true) => match bytes.next().unwrap() {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap();
                    u8::try_from(digit() * 16 + digit()).unwrap()
                }
                itself => itself,
            },
        });
    }
    out
}

#[test]
fn any_failed_answer_has_one_meaning() {
    holds("classify", 300);
}

#[test]
fn any_file_is_answered_and_no_key_is_told() {
    holds("config", 60);
}

#[test]
fn any_frames_are_found_however_they_are_cut() {
    holds("frames", 300);
}

#[test]
fn any_head_that_passes_is_read_in_one_way() {
    holds("head", 1_000);
}

#[test]
fn any_hint_is_a_span_that_can_be_meant() {
    holds("hints", 500);
}

#[test]
fn any_text_is_json_where_it_is_json() {
    holds("json", 500);
}

#[test]
fn any_path_stays_below_its_prefix() {
    holds("path", 1_000);
}

#[test]
fn any_body_loses_its_keys_however_it_is_cut() {
    holds("redact", 300);
}

#[test]
fn any_request_is_refused_or_read_as_it_is() {
    holds("request", 500);
}

#[test]
fn any_events_are_found_however_they_are_cut() {
    holds("sse", 300);
}

#[test]
fn any_stream_is_passed_on_as_it_came() {
    holds("stream", 300);
}

#[test]
fn any_answer_is_translated_into_an_answer() {
    holds("translate_answer", 300);
}

#[test]
fn any_request_is_translated_into_a_request() {
    holds("translate_request", 300);
}

#[test]
fn any_stream_is_translated_alike_however_it_is_cut() {
    holds("translate_stream", 150);
}

#[test]
fn every_target_has_seeds_a_test_here_and_its_line_for_the_fuzzer() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for (target, _) in properties::ALL {
        assert!(
            include_str!("fuzzed.rs").contains(&format!("holds(\"{target}\", ")),
            "{target} has no test here"
        );
        assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
        assert!(folder().join(format!("targets/{target}.rs")).exists(), "{target}");
        assert!(!seeds(target).is_empty(), "{target}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), properties::ALL.len());
}
