//! Streamed answers on their way through: events, frames, and what is read of them.

use super::pieces::{Pieces, blown_up, frames as framed, ways};
use super::{choose, letter, shown};
use pointsman::base::api::Dialect;
use pointsman::wire::cut::{self, Cutter, Framing};
use pointsman::wire::sse::{Block, EVENT_MAX, Piece, end_of};
use pointsman::wire::{Pushed, StreamFault, StreamReader, Usage};

/// The dialects of providers; letters `a` to `j`.
pub const PROVIDERS: [Dialect; 10] = [
    Dialect::OpenAiChat,
    Dialect::AnthropicMessages,
    Dialect::OpenAiResponses,
    Dialect::GeminiGenerate,
    Dialect::BedrockConverse,
    Dialect::CohereChat,
    Dialect::OllamaChat,
    Dialect::GenerateBridge,
    Dialect::OpenAiCompletions,
    Dialect::OpenAiEmbeddings,
];

/// Any body of server-sent events, after a letter that says where it is cut: the events are those
/// that the specification's rules, written naively, find; see [`cuts_alike`]. `~long~` stands
/// for 70,000 bytes, more than is kept of an event.
pub fn sse(input: &[u8]) {
    let mut input = input;
    let seed = letter(&mut input);
    let body = blown_up(input);
    let told = cuts_alike(Framing::Events, &body, seed);
    assert_eq!(told.events, naive(&body), "{}", shown(input));
}

/// Any lines that `pieces::frames` makes frames of, after a letter that says where they are cut:
/// each frame that can be is found, one with a bit turned round is broken; see [`cuts_alike`].
pub fn frames(input: &[u8]) {
    let mut input = input;
    let seed = letter(&mut input);
    let made = framed(input);
    let told = cuts_alike(Framing::Frames, &made.concat(), seed);
    if input.starts_with(b"?") || input.windows(2).any(|pair| pair == b"\n?") {
        return;
    }
    assert_eq!((told.events.len(), told.is_broken), (made.len(), false), "{}", shown(input));
    for frame in made {
        let sound = cut::read(Framing::Frames, &frame);
        let again = cut::read(Framing::Frames, &frame);
        assert_eq!(sound, again);
        let mut turned = frame.clone();
        let at = usize::from(seed) % turned.len();
        turned[at] ^= 1 << (seed % 8);
        assert_eq!(cut::read(Framing::Frames, &turned), Err(cut::Broken), "byte {at} of {}", shown(&frame));
    }
}

/// What a cutter made of a body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Name and data of each event that has data.
    events: Vec<(Vec<u8>, Vec<u8>)>,
    /// All bytes handed out, in order, and what was left.
    bytes: Vec<u8>,
    is_broken: bool,
}

/// However it is cut: the same events with the same data, all bytes in order and none of them twice,
/// at most 64 KiB kept at any time.
fn cuts_alike(framing: Framing, body: &[u8], seed: u8) -> Told {
    let mut ways = ways(body, seed).into_iter().map(|pieces| told(framing, &pieces));
    let first = ways.next().expect("there is one");
    assert!(first.is_broken || first.bytes == body, "{}", shown(body));
    for other in ways {
        assert_eq!(other.events, first.events, "{}", shown(body));
        assert_eq!(other.is_broken, first.is_broken, "{}", shown(body));
        assert!(body.starts_with(&other.bytes));
    }
    first
}

fn told(framing: Framing, pieces: &Pieces) -> Told {
    let mut told = Told::default();
    let mut cutter = Cutter::new(framing);
    let mut long = Vec::new();
    let mut fed = 0;
    for chunk in pieces {
        fed += chunk.len();
        let mut upto = 0;
        loop {
            let block = match cutter.next(chunk) {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(cut::Broken) => {
                    told.is_broken = true;
                    return told;
                }
            };
            let (event, end) = match block {
                Block::Here(range) => {
                    assert_eq!(range.start, upto, "no gap and nothing twice");
                    (Some(chunk.slice(range.clone()).to_vec()), range.end)
                }
                Block::Joined { bytes, end } => (Some(bytes.to_vec()), end),
                Block::Long { bytes, end, piece } => {
                    assert_eq!(piece == Piece::First, long.is_empty());
                    long.extend_from_slice(&bytes);
                    told.bytes.extend_from_slice(&bytes);
                    let whole = (piece == Piece::Last).then(|| std::mem::take(&mut long));
                    note(framing, whole.as_deref(), &mut told);
                    (None, end)
                }
            };
            if let Some(event) = event {
                told.bytes.extend_from_slice(&event);
                note(framing, Some(&event), &mut told);
            }
            assert!(end > upto && end <= chunk.len());
            upto = end;
        }
        assert!(fed - told.bytes.len() <= EVENT_MAX, "too much is kept");
    }
    told.bytes.extend_from_slice(&cutter.take_rest());
    assert!(cutter.take_rest().is_empty());
    told
}

fn note(framing: Framing, event: Option<&[u8]>, told: &mut Told) {
    match event.map(|event| cut::read(framing, event)) {
        Some(Ok(Some(event))) => told.events.push((event.name.to_vec(), event.data.to_vec())),
        Some(Err(cut::Broken)) => told.events.push((b"broken".to_vec(), Vec::new())),
        Some(Ok(None)) | None => {}
    }
}

/// Finds events as the specification words it: line by line.
fn naive(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut after_cr = false;
    for byte in body {
        match byte {
            b'\n' if after_cr => {}
            b'\n' | b'\r' => lines.push(Vec::new()),
            other => lines.last_mut().expect("one is open").push(*other),
        }
        after_cr = *byte == b'\r';
    }
    // Without its end it is no line.
    lines.pop();
    let mut found = Vec::new();
    let (mut name, mut data, mut is_first) = (Vec::new(), None::<Vec<u8>>, true);
    for line in &lines {
        if line.is_empty() {
            if let Some(data) = data.take() {
                found.push((std::mem::take(&mut name), data));
            }
            (name, is_first) = (Vec::new(), true);
            continue;
        }
        let bare = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| is_first).unwrap_or(line);
        is_first = false;
        let colon = bare.iter().position(|byte| *byte == b':').unwrap_or(bare.len());
        let value = bare.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match &bare[..colon] {
            b"event" => name = value,
            b"data" => {
                data = Some(match data {
                    Some(data) => [data, value].join(&b'\n'),
                    None => value,
                });
            }
            _ => {}
        }
    }
    found
}

/// Bytes that a message can show.
#[derive(PartialEq, Eq)]
struct Shown(Vec<u8>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// What a reader made of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Followed {
    /// Before a fault without white space at the end and a byte order mark that stands alone.
    released: Shown,
    /// Data of the fault.
    fault: Option<Vec<u8>>,
    is_complete: bool,
    has_event: bool,
    has_content: bool,
    was_filtered: bool,
    usage: Usage,
}

/// Any streamed answer, after letters for the dialect and for where it is cut (lines for frames, where
/// the dialect is Bedrock's): what is released is the beginning of what came, unchanged; all of it or
/// up to the fault, which is withheld; content begins once; and all of this however it is cut. Only of
/// an event too long to keep (`~long~`) less is known when it comes in pieces.
pub fn stream(input: &[u8]) {
    let mut input = input;
    let dialect = choose(&mut input, &PROVIDERS);
    let seed = letter(&mut input);
    let body = body_of(dialect, &blown_up(input));
    let is_kept = body.len() <= EVENT_MAX;
    let mut ways = ways(&body, seed).into_iter().map(|pieces| followed(dialect, &pieces, &body));
    let first = ways.next().expect("there is one");
    for other in ways {
        if is_kept {
            assert_eq!(other, first, "{dialect:?} {}", shown(&body));
        } else if first.fault.is_none() && other.fault.is_none() {
            assert_eq!(other.released, first.released, "{dialect:?} {}", shown(&body));
        }
    }
}

/// Returns what is sent in this dialect for a text.
pub fn body_of(dialect: Dialect, text: &[u8]) -> Vec<u8> {
    match Framing::of(dialect) {
        Framing::Frames => framed(text).concat(),
        Framing::Events | Framing::Lines | Framing::Whole => text.to_vec(),
    }
}

fn followed(dialect: Dialect, pieces: &Pieces, body: &[u8]) -> Followed {
    let mut reader = StreamReader::new(dialect);
    let (mut released, mut fault, mut begun, mut fed) = (Vec::new(), None::<StreamFault>, false, 0);
    let mut take = |pushed: Pushed, has_content: bool| {
        assert!(fault.is_none() || (pushed.release.is_empty() && pushed.fault.is_none()));
        released.extend(pushed.release.concat());
        assert!(!(begun && pushed.content_began), "content begins once");
        begun |= pushed.content_began;
        assert_eq!(begun, has_content);
        fault = fault.take().or(pushed.fault);
        (released.len(), fault.is_some())
    };
    for chunk in pieces {
        fed += chunk.len();
        let pushed = reader.push(chunk.clone());
        let (out, is_over) = take(pushed, reader.has_content());
        let is_document = dialect == Dialect::GenerateBridge;
        assert!(is_over || is_document || fed - out <= EVENT_MAX, "too much is kept");
    }
    let pushed = reader.finish();
    take(pushed, reader.has_content());
    // A last event that lacks its end gets it, unless the answer is whole.
    let ended = [body, end_of(body)].concat();
    assert!(ended.starts_with(&released), "{dialect:?} {}", shown(body));
    // What is blank before a fault may have gone out before the fault could be seen.
    let mut counts = if fault.is_some() { released.trim_ascii_end() } else { &released };
    if fault.is_some() && counts == b"\xef\xbb\xbf" {
        counts = b"";
    }
    Followed {
        released: Shown(counts.to_vec()),
        fault: fault.map(|fault| fault.body.to_vec()),
        is_complete: reader.is_complete(),
        has_event: reader.has_event(),
        has_content: reader.has_content(),
        was_filtered: reader.was_filtered(),
        usage: reader.usage(),
    }
}
