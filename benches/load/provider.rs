//! The stand-in provider: the fastest thing that still answers like one.
//!
//! One port on loopback for each [`Way`] to behave, all printed on the first line of standard output.
//! A good answer to a `POST` is 700 bytes of chat completion or, where the body says `"stream":true`,
//! a stream of events: `"max_tokens":N` is the number of content chunks and `"seed":G` the pause
//! between them in milliseconds (both are fields that a proxy passes on untouched). It reads each
//! request whole, with a length or in chunks, and keeps connections.

use anyhow::Context as _;
use memchr::memmem;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Text that stands once in every event with content, and in no other byte of a stream.
pub const CONTENT_MARK: &[u8] = b"word ";

/// How a port behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Answers.
    Good,
    /// Answers 429.
    Limited,
    /// Answers 500.
    Broken,
    /// Resets the connection once it has read the request.
    Reset,
    /// Reads the request and never answers.
    Stalled,
    /// One answer in ten is a fault: half of these are 500, the others 429, resets before the answer
    /// and resets in the middle of it.
    Flaky,
    /// The same with other dice.
    FlakyToo,
}

/// In the order in which they are printed.
pub const WAYS: [Way; 7] =
    [Way::Good, Way::Limited, Way::Broken, Way::Reset, Way::Stalled, Way::Flaky, Way::FlakyToo];

/// A head may be this long; more is a fault of the bench.
const MAX_HEAD: usize = 1024 * 1024;

/// Serves until it is killed.
pub fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let answers = Arc::new(Answers::render());
        let mut ports = JoinSet::new();
        for way in WAYS {
            // 10,000 streams are opened one after another, but a busy machine may let them pile up.
            let socket = TcpSocket::new_v4()?;
            socket.bind(([127, 0, 0, 1], 0).into())?;
            let listener = socket.listen(4096)?;
            print!("{} ", listener.local_addr()?);
            ports.spawn(serve(listener, answers.clone(), way));
        }
        println!();
        std::io::stdout().flush()?;
        match ports.join_next().await {
            Some(ended) => ended?,
            None => Ok(()),
        }
    })
}

/// Everything that is sent, rendered once.
struct Answers {
    json: Vec<u8>,
    limited: Vec<u8>,
    broken: Vec<u8>,
    stream_start: Vec<u8>,
    chunk: Vec<u8>,
    stream_end: Vec<u8>,
}

impl Answers {
    fn render() -> Self {
        let text = "word ".repeat(80);
        let json = format!(
            "{{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1790000000,\
             \"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
             \"content\":\"{text}\"}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\
             \"usage\":{{\"prompt_tokens\":200,\"completion_tokens\":80,\"total_tokens\":280}}}}"
        );
        let limited = "{\"error\":{\"message\":\"Rate limit reached for requests\",\"type\":\"requests\",\
             \"param\":null,\"code\":\"rate_limit_exceeded\"}}";
        let broken = "{\"error\":{\"message\":\"The server had an error while processing your request\",\
             \"type\":\"server_error\",\"param\":null,\"code\":null}}";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
             transfer-encoding: chunked\r\n\r\n";
        let mut stream_start = head.as_bytes().to_vec();
        stream_start.extend(event(r#"{"role":"assistant","content":""}"#, "null"));
        stream_start.extend(event(r#"{"content":"word "}"#, "null"));
        let mut stream_end = event("{}", "\"stop\"");
        stream_end.extend(framed("data: [DONE]\n\n"));
        stream_end.extend(b"0\r\n\r\n");
        Self {
            json: answer("200 OK", &json),
            limited: answer("429 Too Many Requests", limited),
            broken: answer("500 Internal Server Error", broken),
            stream_start,
            chunk: event(r#"{"content":"word "}"#, "null"),
            stream_end,
        }
    }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// One event as one HTTP chunk, as providers send them.
fn event(delta: &str, finish: &str) -> Vec<u8> {
    framed(&format!(
        "data: {{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\
         \"created\":1790000000,\"model\":\"m\",\"system_fingerprint\":\"fp_0123456789\",\
         \"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
    ))
}

fn framed(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

async fn serve(listener: TcpListener, answers: Arc<Answers>, way: Way) -> anyhow::Result<()> {
    // The two flaky ones must not fail in step.
    let dice = Arc::new(AtomicU64::new(if way == Way::FlakyToo { 1 << 32 } else { 0 }));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (answers, dice) = (answers.clone(), dice.clone());
        // A connection that ends in the middle is the proxy's or the client's doing; they notice.
        tokio::spawn(async move { converse(stream, &answers, way, &dice).await });
    }
}

/// What is done with one request.
enum Act {
    Answer,
    Say429,
    Say500,
    Reset,
    CutInTheMiddle,
    Nothing,
}

impl Act {
    fn of(way: Way, dice: &AtomicU64) -> Self {
        match way {
            Way::Good => Self::Answer,
            Way::Limited => Self::Say429,
            Way::Broken => Self::Say500,
            Way::Reset => Self::Reset,
            Way::Stalled => Self::Nothing,
            Way::Flaky | Way::FlakyToo => match roll(dice.fetch_add(1, Ordering::Relaxed)) % 200 {
                0..10 => Self::Say500,
                10..14 => Self::Say429,
                14..17 => Self::Reset,
                17..20 => Self::CutInTheMiddle,
                _ => Self::Answer,
            },
        }
    }
}

/// The same numbers in every run (splitmix64).
fn roll(turn: u64) -> u64 {
    let mut mixed = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

async fn converse(
    mut stream: TcpStream,
    answers: &Answers,
    way: Way,
    dice: &AtomicU64,
) -> anyhow::Result<()> {
    let mut seen = Vec::with_capacity(64 * 1024);
    loop {
        let Some(request) = Request::read(&mut stream, &mut seen).await? else { return Ok(()) };
        match Act::of(way, dice) {
            Act::Say429 => stream.write_all(&answers.limited).await?,
            Act::Say500 => stream.write_all(&answers.broken).await?,
            Act::CutInTheMiddle if request.is_streamed => {
                write_stream(&mut stream, answers, request.chunks / 2, request.pause).await?;
                return Ok(stream.set_zero_linger()?);
            }
            Act::Reset | Act::CutInTheMiddle => return Ok(stream.set_zero_linger()?),
            Act::Nothing => {
                // Until the other side leaves.
                while stream.read_buf(&mut seen).await? > 0 {}
                return Ok(());
            }
            Act::Answer if request.is_streamed => {
                write_stream(&mut stream, answers, request.chunks, request.pause).await?;
                stream.write_all(&answers.stream_end).await?;
            }
            Act::Answer => stream.write_all(&answers.json).await?,
        }
    }
}

/// What a request asks for.
struct Request {
    is_streamed: bool,
    chunks: u64,
    pause: Duration,
}

impl Request {
    /// Reads a whole request and takes it out of `seen`; none where the connection ends first.
    async fn read(stream: &mut TcpStream, seen: &mut Vec<u8>) -> anyhow::Result<Option<Self>> {
        let Some((head, length)) = read_head(stream, seen).await? else { return Ok(None) };
        let end = loop {
            let end = match length {
                Some(length) => head + length,
                // No body of the bench has this in its middle.
                None => match memmem::find(seen.get(head..).unwrap_or_default(), b"0\r\n\r\n") {
                    Some(at) => head + at + 5,
                    None => usize::MAX,
                },
            };
            if seen.len() >= end {
                break end;
            }
            if stream.read_buf(seen).await? == 0 {
                return Ok(None);
            }
        };
        let body = seen.get(head..end).unwrap_or_default();
        // The fields stand at either end, around a prompt that may have megabytes.
        let is_near = body.len() <= 4096;
        let first = if is_near { body } else { body.get(..2048).unwrap_or_default() };
        let last = if is_near { &[] } else { body.get(body.len() - 2048..).unwrap_or_default() };
        let of = |key: &[u8]| number(first, key).or_else(|| number(last, key)).unwrap_or(0);
        let request = Self {
            is_streamed: [first, last].iter().any(|part| says_stream(part)),
            chunks: of(b"\"max_tokens\":"),
            pause: Duration::from_millis(of(b"\"seed\":")),
        };
        seen.drain(..end);
        Ok(Some(request))
    }
}

fn says_stream(body: &[u8]) -> bool {
    memmem::find(body, b"\"stream\":true").is_some() || memmem::find(body, b"\"stream\": true").is_some()
}

/// Reads up to the end of a head; returns its length and the body's, none where it comes in chunks.
async fn read_head(
    stream: &mut TcpStream,
    seen: &mut Vec<u8>,
) -> anyhow::Result<Option<(usize, Option<usize>)>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        if let httparse::Status::Complete(head) = request.parse(seen)? {
            let length = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
            let length = match length {
                Some(length) => Some(std::str::from_utf8(length.value)?.parse().context("content-length")?),
                None if request.headers.iter().any(|h| h.name.eq_ignore_ascii_case("transfer-encoding")) => {
                    None
                }
                None => Some(0),
            };
            return Ok(Some((head, length)));
        }
        if seen.len() > MAX_HEAD || stream.read_buf(seen).await? == 0 {
            return Ok(None);
        }
    }
}

/// Everything but the end.
async fn write_stream(
    stream: &mut TcpStream,
    answers: &Answers,
    chunks: u64,
    pause: Duration,
) -> anyhow::Result<()> {
    stream.write_all(&answers.stream_start).await?;
    for _ in 1..chunks {
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
        stream.write_all(&answers.chunk).await?;
    }
    Ok(())
}

/// The number that follows a key in the body.
fn number(body: &[u8], key: &[u8]) -> Option<u64> {
    let at = memmem::find(body, key)?;
    let digits = body.get(at + key.len()..).unwrap_or_default();
    let digits = digits.iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0')))
}
