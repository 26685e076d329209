//! The stand-in provider: the fastest thing that still answers like one.
//!
//! Two ports on loopback, both printed on the first line of standard output. The first answers
//! `POST` with 700 bytes of chat completion or, where the body says `"stream":true`, with a stream
//! of events: `"max_tokens":N` is the number of content chunks and `"seed":G` the pause between
//! them in milliseconds (both are fields that a proxy passes on untouched). The second port
//! answers 429 to everything. It reads each request whole and keeps connections; it knows no
//! chunked requests, and says so with 411.

use anyhow::Context as _;
use memchr::memmem;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Text that stands in every event with content, and in no other byte of a stream.
pub const CONTENT_MARK: &[u8] = b"\"content\":\"word";

/// Head and body may be this long; more is a fault of the bench.
const MAX_REQUEST: usize = 1024 * 1024;

/// Serves until it is killed, or until whoever started it is gone (standard input ends).
pub fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let good = TcpListener::bind("127.0.0.1:0").await?;
        let limited = TcpListener::bind("127.0.0.1:0").await?;
        println!("{} {}", good.local_addr()?, limited.local_addr()?);
        std::io::stdout().flush()?;
        let answers = Arc::new(Answers::render());
        tokio::try_join!(serve(good, answers.clone(), false), serve(limited, answers, true))?;
        Ok(())
    })
}

/// Everything that is sent, rendered once.
struct Answers {
    json: Vec<u8>,
    limited: Vec<u8>,
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

async fn serve(listener: TcpListener, answers: Arc<Answers>, limited: bool) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = answers.clone();
        // A connection that ends in the middle is the proxy's or the client's doing; they notice.
        tokio::spawn(async move { converse(stream, &answers, limited).await });
    }
}

async fn converse(mut stream: TcpStream, answers: &Answers, limited: bool) -> anyhow::Result<()> {
    let mut seen = Vec::with_capacity(64 * 1024);
    loop {
        let Some((head, length)) = read_head(&mut stream, &mut seen).await? else { return Ok(()) };
        while seen.len() < head + length {
            if stream.read_buf(&mut seen).await? == 0 {
                return Ok(());
            }
        }
        let body = seen.get(head..head + length).unwrap_or_default();
        let streamed = memmem::find(body, b"\"stream\":true").is_some();
        if limited {
            stream.write_all(&answers.limited).await?;
        } else if streamed {
            let (chunks, pause) = (number(body, b"\"max_tokens\":"), number(body, b"\"seed\":"));
            write_stream(&mut stream, answers, chunks, Duration::from_millis(pause)).await?;
        } else {
            stream.write_all(&answers.json).await?;
        }
        seen.drain(..head + length);
    }
}

/// Reads up to the end of a head; returns its length and the body's.
async fn read_head(stream: &mut TcpStream, seen: &mut Vec<u8>) -> anyhow::Result<Option<(usize, usize)>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        if let httparse::Status::Complete(head) = request.parse(seen)? {
            let length = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
            let Some(length) = length else {
                stream.write_all(b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n").await?;
                return Ok(None);
            };
            let length: usize = std::str::from_utf8(length.value)?.parse().context("content-length")?;
            return Ok(Some((head, length)));
        }
        if seen.len() > MAX_REQUEST || stream.read_buf(seen).await? == 0 {
            return Ok(None);
        }
    }
}

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
    stream.write_all(&answers.stream_end).await?;
    Ok(())
}

/// The number that follows a key in the body, 0 where there is none.
fn number(body: &[u8], key: &[u8]) -> u64 {
    let Some(at) = memmem::find(body, key) else { return 0 };
    let digits = body.get(at + key.len()..).unwrap_or_default();
    digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'))
}
