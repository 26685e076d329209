//! Is there a request that two readers could read differently, and that goes on to a provider?
//!
//! Raw bytes against a whole proxy: the tables below give more than two hundred heads and bodies that
//! some reader somewhere takes for something else, most of them with a second request hidden behind.
//! Each is answered with a 4xx and the end of the connection, or with the end alone; no provider sees
//! a byte. The good ones beside them differ in as little as possible and pass.

use crate::scene::{Api, FORGETFUL, KEY_ONE, Pair, RESCUER, Wire, provider};
use crate::stage::{Stage, plan};
use bytes::Bytes;
use pointsman::proxy::Pace;
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const BODY: &str = r#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"#;
/// What a smuggler wants to be read as a request of its own.
const HIDDEN: &str = "GET /v1/models HTTP/1.1\r\nhost: hidden\r\n\r\n";

/// The usual pace would let the test wait for bodies that do not end.
const BRISK: Pace = Pace {
    head: Duration::from_millis(500),
    body: Duration::from_millis(500),
    grace: Duration::from_millis(500),
    rate: 1024,
    write: Duration::from_millis(500),
};

async fn scene(reply: Reply) -> (Stage, Provider) {
    let standin = Provider::start(reply).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n",
        provider("one", "openai", &standin.base_url(), KEY_ONE, "")
    );
    (Stage::paced(plan(&yaml), BRISK).await, standin)
}

/// Sends bytes, where `cut` says so in two, and returns everything that comes back until the connection
/// ends; `None` where it does not end.
async fn said(stage: &Stage, bytes: &[u8], cut: Option<usize>) -> Option<String> {
    match cut {
        None => exchange(TcpStream::connect(stage.data).await.unwrap(), bytes).await,
        // There is room for no more than the first half until the proxy has read it.
        Some(cut) => exchange(stage.connect(cut), bytes).await,
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite, bytes: &[u8]) -> Option<String> {
    let (reading, mut writing) = tokio::io::split(stream);
    let sending = async {
        // The proxy may have closed already: what it said before is still to be read.
        let _ = writing.write_all(bytes).await;
        std::future::pending().await
    };
    tokio::select! {
        said = until_the_end(reading) => said,
        never = sending => never,
    }
}

async fn until_the_end(mut stream: impl AsyncRead + Unpin) -> Option<String> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match tokio::time::timeout(Duration::from_secs(5), stream.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return Some(String::from_utf8_lossy(&all).into_owned()),
            Ok(Ok(count)) => all.extend_from_slice(&piece[..count]),
            Err(_) => return None,
        }
    }
}

/// A call with these field lines more, and no framing of its own.
fn head(fields: &str) -> Vec<u8> {
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{fields}\r\n")
        .into_bytes()
}

fn with_length(fields: &str) -> Vec<u8> {
    [head(&format!("{fields}content-length: {}\r\n", BODY.len())), BODY.into(), HIDDEN.into()].concat()
}

/// A call in chunks of this wire form.
fn chunked(body: &str) -> Vec<u8> {
    [head("transfer-encoding: chunked\r\n"), body.into(), HIDDEN.into()].concat()
}

fn request_lines() -> Vec<Vec<u8>> {
    let path = "/v1/chat/completions";
    let lines = [
        format!("POST {path}"),
        format!("POST {path} HTTP/0.9"),
        format!("POST {path} HTTP/1.2"),
        format!("POST {path} HTTP/1.10"),
        format!("POST {path} HTTP/1.1.1"),
        format!("POST {path} HTTP/2"),
        format!("POST {path} HTTP/2.0"),
        format!("POST {path} HTTP/3.0"),
        format!("POST {path} http/1.1"),
        format!("POST {path} HTTP/01.1"),
        format!("POST {path} HTTP /1.1"),
        format!("POST {path} HTTP/1,1"),
        format!("POST {path} HTTP/1.1 "),
        format!("POST {path}  HTTP/1.1"),
        format!("POST  {path} HTTP/1.1"),
        format!(" POST {path} HTTP/1.1"),
        format!("\r\nPOST {path} HTTP/1.1"),
        format!("\nPOST {path} HTTP/1.1"),
        format!("POST\t{path}\tHTTP/1.1"),
        format!("POST\t{path} HTTP/1.1"),
        format!("POST {path}\tHTTP/1.1"),
        format!("POST {path} x HTTP/1.1"),
        format!("POST {path} HTTP/1.1 x"),
        format!("POST {path} HTTP/1.1\0"),
        format!("POST {path}\0 HTTP/1.1"),
        format!("POST {path}\x0b HTTP/1.1"),
        format!("POST {path}\x7f HTTP/1.1"),
        format!("POST {path}\rx HTTP/1.1"),
        format!("PO ST {path} HTTP/1.1"),
        format!("PO(T {path} HTTP/1.1"),
        format!("P\u{e9}ST {path} HTTP/1.1"),
        format!("\"POST\" {path} HTTP/1.1"),
        format!(" {path} HTTP/1.1"),
        "POST HTTP/1.1".to_owned(),
        "POST".to_owned(),
        "POST chat/completions HTTP/1.1".to_owned(),
        "POST * HTTP/1.1".to_owned(),
        "POST a:443 HTTP/1.1".to_owned(),
        format!("POST //evil{path} HTTP/1.1"),
        format!("POST http://evil{path} HTTP/1.1"),
        format!("POST http://a@evil{path} HTTP/1.1"),
        format!("POST https://api.openai.com{path} HTTP/1.1"),
        format!("POST ftp://a{path} HTTP/1.1"),
        format!("POST /v1/../v1{path} HTTP/1.1"),
        format!("POST /v1/%2e%2e{path} HTTP/1.1"),
        "POST /v1/chat%2fcompletions HTTP/1.1".to_owned(),
        "POST /v1/chat\\completions HTTP/1.1".to_owned(),
        format!("POST {path}%0d%0ax:%20y HTTP/1.1"),
        format!("POST {path}%00 HTTP/1.1"),
        format!("CONNECT {path} HTTP/1.1"),
        "CONNECT evil:443 HTTP/1.1".to_owned(),
        format!("TRACE {path} HTTP/1.1"),
        format!("TRACK {path} HTTP/1.1"),
        format!("PRI {path} HTTP/1.1"),
        format!("post {path} HTTP/1.1"),
        "PRI * HTTP/2.0".to_owned(),
    ];
    let rest = format!("host: a\r\ncontent-length: {}\r\n\r\n{BODY}{HIDDEN}", BODY.len());
    lines.iter().map(|line| format!("{line}\r\n{rest}").into_bytes()).collect()
}

fn lengths_and_codings() -> Vec<Vec<u8>> {
    let n = BODY.len();
    let lengths = [
        format!("content-length: {n}, {n}"),
        format!("content-length: {n},"),
        format!("content-length: +{n}"),
        format!("content-length: -{n}"),
        format!("content-length: {n}.0"),
        format!("content-length: {n} {n}"),
        format!("content-length: {n}x"),
        format!("content-length: 0x{n:x}"),
        format!("content-length: \"{n}\""),
        format!("content-length: {n};x=1"),
        "content-length:".to_owned(),
        "content-length: 18446744073709551616".to_owned(),
        "content-length: 99999999999999999999999999".to_owned(),
        "content-length: \u{664}\u{662}".to_owned(),
        format!("content-length: {n}\r\ncontent-length: {n}"),
        format!("content-length: {n}\r\nContent-Length: 0"),
        format!("content-length: 0\r\ncontent-length: {n}"),
        format!("content-length : {n}"),
        format!("content-length\t: {n}"),
        format!(" content-length: {n}"),
        format!("content-length:\r\n {n}"),
        format!("content_length: {n}"),
        format!("content-length: {n}\r\ncontent_length: 0"),
    ];
    let codings = [
        "identity",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "chun ked",
        "\x0bchunked",
        "chunked\x0b",
        "chunked\0",
        "",
        "chunked\r\ntransfer-encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "x\r\ntransfer-encoding: chunked",
        "\r\n chunked",
    ];
    let names = [
        "transfer_encoding",
        "Transfer_Encoding",
        "transfer-encoding ",
        "transfer-encoding\t",
        " transfer-encoding",
        "transfer-encoding\0",
        "\x0btransfer-encoding",
        "transfer encoding",
    ];
    let in_chunks = format!("{n:x}\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}");
    let mut all: Vec<_> = lengths
        .iter()
        .map(|field| [head(&format!("{field}\r\n")), BODY.into(), HIDDEN.into()].concat())
        .collect();
    for coding in codings {
        all.push([head(&format!("transfer-encoding: {coding}\r\n")), in_chunks.clone().into()].concat());
    }
    for name in names {
        let fields = format!("{name}: chunked\r\n");
        all.push([head(&fields), in_chunks.clone().into()].concat());
        all.push(with_length(&fields));
    }
    // Both framings, in either order and every spelling that some reader overlooks.
    for coding in ["chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked", "identity", "gzip"] {
        let coding = format!("transfer-encoding: {coding}\r\n");
        for length in [0, 4, n] {
            let length = format!("content-length: {length}\r\n");
            for fields in [format!("{coding}{length}"), format!("{length}{coding}")] {
                all.push([head(&fields), in_chunks.clone().into()].concat());
            }
        }
    }
    all
}

fn fields() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = [
        "x: a\r\n b: c\r\n",
        "x: a\r\n\tb\r\n",
        "x: a\nb: c\r\n",
        "x: a\rb: c\r\n",
        "x: a\r\r\n",
        "x : a\r\n",
        "x\t: a\r\n",
        ": a\r\n",
        "no colon\r\n",
        "\tx: a\r\n",
        " x: a\r\n",
        "x(y): a\r\n",
        "x y: a\r\n",
        "x\"y: a\r\n",
        "x/y: a\r\n",
        "x@y: a\r\n",
        "{x}: a\r\n",
        "x=y: a\r\n",
        "x;y: a\r\n",
        "x,y: a\r\n",
        "\u{fc}: a\r\n",
        "x_y: a\r\n",
        "x_forwarded_for: a\r\n",
        "authorization_: a\r\n",
        "host: b\r\n",
        "Host: a\r\n",
        "HOST: evil\r\n",
        "upgrade: websocket\r\nconnection: upgrade\r\n",
        "upgrade: evil/1\r\n",
        "content-encoding: gzip\r\n",
        "content-encoding: identity, br\r\n",
    ]
    .iter()
    .map(|fields| with_length(fields))
    .collect();
    // Every control character, in a value and in a name.
    for byte in (0..0x20u8).chain([0x7f]).filter(|byte| !b"\t\n\r".contains(byte)) {
        for field in
            [[b"x: a".as_slice(), &[byte], b"b\r\n"].concat(), [&[b'x', byte], &b"y: a\r\n"[..]].concat()]
        {
            let framing = format!("content-length: {}\r\n\r\n{BODY}", BODY.len());
            let start = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n";
            all.push([&start[..], &field, framing.as_bytes()].concat());
        }
    }
    for host in [
        "",
        "host: a b\r\n",
        "host: a, b\r\n",
        "host: a/b\r\n",
        "host: t/evil?x\r\n",
        "host: a#b\r\n",
        "host: u@a\r\n",
        "host: a\\b\r\n",
        "host: <a>\r\n",
        "host: a;b\r\n",
        "host: \"a\"\r\n",
        "host:\r\n a\r\n",
        "host: \u{fc}\r\n",
    ] {
        let start = format!("POST /v1/chat/completions HTTP/1.1\r\n{host}");
        all.push(format!("{start}content-length: {}\r\n\r\n{BODY}", BODY.len()).into_bytes());
    }
    // The head itself, its end and its size.
    let call = String::from_utf8(with_length("")).unwrap();
    all.push(call.replace("\r\n", "\n").into_bytes());
    all.push(call.replacen("\r\n\r\n", "\r\n\n", 1).into_bytes());
    all.push(call.replacen("\r\n\r\n", "\n\r\n", 1).into_bytes());
    all.push(call.replacen("\r\nhost", "\nhost", 1).into_bytes());
    all.push(with_length(&format!("x: {}\r\n", "a".repeat(20_000))));
    all.push(with_length(&"x: a\r\n".repeat(101)));
    all.push(with_length(&"x: a\r\n".repeat(1000)));
    all.push(with_length(&format!("x: {}\r\n", "a".repeat(10_000)).repeat(7)));
    for framing in ["transfer-encoding: chunked", "transfer-encoding: identity", "content-length: 3, 3"] {
        let start = format!("POST /v1/chat/completions HTTP/1.0\r\n{framing}\r\n\r\n");
        all.push(format!("{start}{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len()).into_bytes());
    }
    all
}

fn chunks() -> Vec<Vec<u8>> {
    let n = BODY.len();
    let bodies = [
        format!("{n:x}\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x}\r{BODY}\r\n0\r\n\r\n"),
        format!("{n:x}\r\n{BODY}\n0\r\n\r\n"),
        format!("{n:x}\r\n{BODY}0\r\n\r\n"),
        format!("{n:x}\r\n{BODY}xx0\r\n\r\n"),
        format!("0x{n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("+{n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("-{n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x}g\r\n{BODY}\r\n0\r\n\r\n"),
        format!(" {n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x} {n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x},{n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("\r\n{n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("\r\n\r\n{n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!(";x\r\n{n:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x};x\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x};x\rx\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x};\n\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x}\0\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x}\x0b\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{n:x}.0\r\n{BODY}\r\n0\r\n\r\n"),
        format!("1{:0>17}\r\n{BODY}\r\n0\r\n\r\n", format!("{n:x}")),
        format!("ffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n"),
        format!("fffffffffffffffe\r\n{BODY}\r\n0\r\n\r\n"),
        format!("7fffffffffffffff\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{}\r\n{BODY}\r\n0\r\n\r\n", "9".repeat(40)),
        format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", n - 1),
        format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", n + 1),
        format!("{n:x};{}\r\n{BODY}\r\n0\r\n\r\n", "x".repeat(20_000)),
        format!("{n:x}{}\r\n{BODY}\r\n0\r\n\r\n", " ".repeat(20_000)),
        format!("{n:x}\r\n{BODY}\r\n0\r\nx: {}\r\n\r\n", "a".repeat(70_000)),
        format!("{n:x}\r\n{BODY}\r\nzz\r\n\r\n"),
        format!("{n:x}\r\n{BODY}\r\n0\rx\r\n"),
        format!("{BODY}\r\n"),
        "\u{664}\r\n".to_owned(),
    ];
    bodies.iter().map(|body| chunked(body)).collect()
}

#[tokio::test]
async fn two_hundred_ambiguous_requests_are_refused_and_none_goes_on() {
    let (stage, standin) = scene(Reply::ok()).await;
    let tables = [
        ("request lines", request_lines()),
        ("lengths and codings", lengths_and_codings()),
        ("fields", fields()),
    ];
    let mut count = 0;
    let mut wrong = Vec::new();
    for (table, vectors) in &tables {
        for vector in vectors {
            count += 1;
            for cut in [None, Some(vector.len() / 2)] {
                let before = standin.count();
                let said = said(&stage, vector, cut).await;
                let is_refused = said.as_ref().is_some_and(|said| is_refusal(said));
                if !is_refused || standin.count() != before {
                    let shown: String = String::from_utf8_lossy(vector).chars().take(300).collect();
                    wrong.push(format!(
                        "{table}, cut {cut:?}: {shown:?}\n   said {said:?}\n   {} went on",
                        standin.count() - before
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 200, "{count} vectors");
    // The proxy is as well as before.
    assert_eq!(Call::chat("chat").send(stage.data).await.unwrap().status, 200);
}

/// HTTP/2 has frames for a body's length; what its fields say of it goes on to providers of HTTP/1.
#[tokio::test]
async fn over_http2_a_head_is_refused_for_the_same_fields() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "listen: [{{address: \"127.0.0.1:0\", h2c: true}}]\nproviders:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n",
        provider("one", "openai", &standin.base_url(), KEY_ONE, "")
    );
    let stage = Stage::open(&yaml).await;
    let n = BODY.len().to_string();
    let long = "a".repeat(20_000);
    let call = |fields: &[(&str, &str)]| {
        let call = Call::post("/v1/chat/completions", BODY).http2().chunked();
        fields.iter().fold(call, |call, (name, value)| call.header(name, value))
    };
    for (fields, status) in [
        (&[("content-length", &*n), ("content-length", &*n)][..], 400),
        (&[("x_forwarded_for", "a")], 400),
        (&[("transfer_encoding", "chunked")], 400),
        (&[("x", &*long)], 431),
    ] {
        let answer = call(fields).send(stage.data).await;
        let shown = format!("{fields:.60?}: {answer:?}");
        assert_eq!(answer.unwrap().status, status, "{shown}");
    }
    // These the library refuses, by the end of the stream.
    for fields in [
        &[("content-length", &*n), ("content-length", "3")][..],
        &[("content-length", "+3")],
        &[("content-length", &*format!("{n}, {n}"))],
        &[("transfer-encoding", "chunked")],
    ] {
        let answer = call(fields).send(stage.data).await;
        assert_eq!(answer.map_or(0, |answer| answer.status), 0, "{fields:?}");
    }
    assert_eq!(standin.count(), 0, "none goes on");
    for fields in [&[][..], &[("content-length", &*n)], &[("session_id", "a"), ("x-empty", "")]] {
        assert_eq!(call(fields).send(stage.data).await.unwrap().status, 200, "{fields:?}");
    }
}

/// Counts the answers; the sentence of a refusal may name a version as well.
fn answers(said: &str) -> usize {
    said.split("HTTP/1.1 ").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).count()
}

/// One refusal and nothing behind it, or the end alone.
fn is_refusal(said: &str) -> bool {
    (said.is_empty() || said.starts_with("HTTP/1.1 4")) && answers(said) <= 1
        || said.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 4")
}

/// Of a body in odd chunks another reader may see another end. Some are read all the same; whatever
/// is read, the provider gets one length and the connection ends, so that what is hidden behind (in
/// the same packet or a later one) is not read as a request.
#[tokio::test]
async fn nothing_behind_an_odd_chunk_becomes_a_request() {
    let (stage, standin) = scene(Reply::ok()).await;
    let mut refused = 0;
    for vector in &chunks() {
        for cut in [None, Some(vector.len() / 2), Some(vector.len() - HIDDEN.len())] {
            let before = standin.count();
            let shown: String = String::from_utf8_lossy(vector).chars().take(300).collect();
            let said = said(&stage, vector, cut).await.unwrap_or_else(|| panic!("no end: {shown:?}"));
            assert!(!said.contains("\"object\":\"list\""), "the hidden one was answered: {shown:?}: {said}");
            if is_refusal(&said) {
                assert_eq!(standin.count(), before, "{shown:?}: {said}");
                refused += 1;
                continue;
            }
            assert!(said.starts_with("HTTP/1.1 200"), "{shown:?}: {said}");
            assert_eq!(answers(&said), 1, "{shown:?}: {said}");
            assert!(said.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{shown:?}: {said}");
            assert_eq!(standin.count(), before + 1, "{shown:?}");
            let seen = standin.last().unwrap();
            assert_eq!(seen.body, Bytes::from(BODY.replace("chat", "alpha")), "{shown:?}");
            assert_eq!(seen.headers_named("content-length").len(), 1, "{shown:?}: {:?}", seen.headers);
            assert!(seen.header("transfer-encoding").is_none(), "{shown:?}");
        }
    }
    assert!(refused >= 60, "{refused} are refused");
}

#[tokio::test]
async fn what_is_odd_and_unambiguous_passes_once_and_whole() {
    let (stage, standin) = scene(Reply::ok()).await;
    let n = BODY.len();
    let good = |fields: &str| [head(&format!("{fields}connection: close\r\n")), BODY.into()].concat();
    let in_chunks = |body: String| {
        [head("connection: close\r\ntransfer-encoding: chunked\r\n"), body.into_bytes()].concat()
    };
    let path = "/v1/chat/completions";
    let vectors: Vec<Vec<u8>> = vec![
        good(&format!("content-length: {n}\r\n")),
        good(&format!("Content-Length:{n}\r\n")),
        good(&format!("CONTENT-LENGTH: \t{n} \t\r\n")),
        good(&format!("content-length: 00{n}\r\n")),
        good(&format!("content-length: {n}\r\nx-empty:\r\nx-empty:\r\n")),
        good(&format!("content-length: {n}\r\nx-name: K\u{f6}ln\tund mehr\r\n")),
        good(&format!("content-length: {n}\r\nx!#$%&'*+-.^`|~: a\r\n")),
        good(&format!("content-length: {n}\r\nsession_id: 1\r\nConversation_Id: 2\r\nthread_id: 3\r\n")),
        good(&format!("content-length: {n}\r\nupgrade: h2c\r\n")),
        good(&format!("content-length: {n}\r\nte: trailers\r\n")),
        good(&format!("content-length: {n}\r\nexpect: 100-continue\r\n")),
        good(&format!("content-length: {n}\r\n{}", "x: a\r\n".repeat(90))),
        format!("POST {path} HTTP/1.0\r\ncontent-length: {n}\r\n\r\n{BODY}").into_bytes(),
        format!("POST {path} HTTP/1.1\r\nhost:\r\nconnection: close\r\ncontent-length: {n}\r\n\r\n{BODY}").into(),
        format!("POST {path}?a=b&c HTTP/1.1\r\nhost: [::1]:80\r\nconnection: close\r\ncontent-length: {n}\r\n\r\n{BODY}").into(),
        in_chunks(format!("{n:x}\r\n{BODY}\r\n0\r\n\r\n")),
        in_chunks(format!("{n:X}\r\n{BODY}\r\n0\r\n\r\n")),
        in_chunks(format!("000{n:x}\r\n{BODY}\r\n000\r\n\r\n")),
        in_chunks(format!("{n:x};name=value;x=\"y\"\r\n{BODY}\r\n0;last\r\n\r\n")),
        in_chunks(format!("{n:x}\r\n{BODY}\r\n0\r\nx-trailer: a\r\n\r\n")),
        in_chunks(format!("1\r\n{{\r\n{:x}\r\n{}\r\n0\r\n\r\n", n - 1, &BODY[1..])),
    ];
    assert!(vectors.len() >= 20);
    for vector in &vectors {
        for cut in [None, Some(vector.len() / 2)] {
            let before = standin.count();
            let shown = String::from_utf8_lossy(vector);
            let said = said(&stage, vector, cut).await;
            let said = said.unwrap_or_else(|| panic!("no end: {shown:?}"));
            assert!(said.contains("HTTP/1.1 200"), "{shown:?}: {said:?}");
            assert_eq!(standin.count(), before + 1, "{shown:?}");
            let seen = standin.last().unwrap();
            assert_eq!(seen.body, Bytes::from(BODY.replace("chat", "alpha")), "{shown:?}");
            assert_eq!(seen.headers_named("content-length").len(), 1, "{shown:?}: {:?}", seen.headers);
            assert!(seen.header("transfer-encoding").is_none() && seen.header("x-trailer").is_none());
        }
    }
}

/// A body is taken with its head where it came with it and nothing came behind: wherever the bytes are cut,
/// each request has its own, and an answer of its own.
#[tokio::test]
async fn requests_of_one_connection_keep_their_bodies_apart_wherever_they_are_cut() {
    let (stage, standin) = scene(Reply::ok()).await;
    let texts = ["one", "two", "three"].map(|text| BODY.replace("hi", text));
    let [one, two, three] = texts.each_ref().map(|body| {
        let close = if body.contains("three") { "connection: close\r\n" } else { "" };
        let fields = format!("{close}content-length: {}\r\n", body.len());
        [head(&fields), body.clone().into_bytes()].concat()
    });
    let without = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
    let (first, of_head) = (one.len(), one.len() - texts[0].len());
    let all = [one, without, two, three].concat();
    for room in [all.len(), first, first + 1, first - 1, of_head, of_head + 1, of_head - 1, 7] {
        let before = standin.seen().len();
        let said = exchange(stage.connect(room), &all).await.unwrap_or_else(|| panic!("no end: {room}"));
        assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 4, "{room}: {said}");
        assert_eq!(said.matches("\"object\":\"list\"").count(), 1, "{room}: {said}");
        let seen: Vec<_> = standin.seen().iter().skip(before).map(|seen| seen.body.clone()).collect();
        assert_eq!(seen, texts.each_ref().map(|body| Bytes::from(body.replace("chat", "alpha"))), "{room}");
    }
}

/// A good answer under these field lines.
fn answer(fields: &str, body: &str) -> Reply {
    Reply::raw(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{fields}\r\n{body}"))
}

/// What a provider frames in two ways is a failed attempt, or (where Pingora's parser takes the one
/// that RFC 9112 section 6.3 prefers) an answer after which the connection is not used again.
#[tokio::test]
async fn an_ambiguous_answer_is_never_followed_by_another_on_its_connection() {
    let whole = r#"{"id":"1","object":"chat.completion","model":"alpha","choices":[{"index":0,"message":{"role":"assistant","content":"from the first"},"finish_reason":"stop"}]}"#;
    let n = whole.len();
    let in_chunks = format!("{n:x}\r\n{whole}\r\n0\r\n\r\n");
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned";
    let vectors = [
        answer(&format!("content-length: {n}\r\ncontent-length: {}\r\n", n + 5), whole),
        answer(&format!("content-length: {n}\r\ncontent-length: 0\r\n"), whole),
        answer(&format!("content-length: {n}, {}\r\n", n + 1), whole),
        answer(&format!("content-length: +{n}\r\n"), whole),
        answer("content-length: x\r\n", whole),
        answer(&format!("content-length: {n}\r\ntransfer-encoding: chunked\r\n"), &in_chunks),
        answer("transfer-encoding: chunked\r\ncontent-length: 3\r\n", &in_chunks),
        answer("transfer-encoding: identity, chunked\r\n", &in_chunks),
        answer("transfer-encoding: xchunked\r\n", &in_chunks),
        answer("transfer-encoding: chunked\r\n", &format!("0x{in_chunks}")),
        answer("transfer-encoding: chunked\r\n", &format!("ffffffffffffffff\r\n{in_chunks}")),
        answer(&format!("x: a\r\n b: c\r\ncontent-length: {n}\r\n"), whole),
        answer(&format!("x\0: a\r\ncontent-length: {n}\r\n"), whole),
        answer(&format!("content-length: {n}\r\n"), &format!("{whole}{poison}")),
        answer("transfer-encoding: chunked\r\n", &format!("{in_chunks}{poison}")),
    ];
    for (at, reply) in vectors.into_iter().enumerate() {
        let first = Provider::start(reply).await.unwrap();
        let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::says(RESCUER), FORGETFUL).await;
        let mut asked = 0;
        for _ in 0..3 {
            let answer = pair.chat().await;
            assert_eq!(answer.status, 200, "vector {at}: {}", answer.body_text());
            let text = answer.text();
            assert!(text == RESCUER || text == "from the first", "vector {at}: {}", answer.body_text());
            asked += u64::from(text == "from the first");
            assert!(!answer.body_text().contains("poisoned"), "vector {at}");
        }
        // What was taken was taken once a connection.
        assert!(pair.first.connections() >= asked, "vector {at}: {asked} on {}", pair.first.connections());
    }
}
