//! What the clients of the soak do, one visit at a time, and what they may hear.
//!
//! A visit says what it got that it should not have got; a client that was to be refused complains
//! when it is not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use pointsman::standin::caller::{Answer, BodyEnd, Call, Connection};
use pointsman::standin::{GREETING, SIXTY_WORDS};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::stage::{CLIENTS, FAULTS, KINDS, TOKEN, key};

/// Idle connections younger than this are used again.
const KEPT: Duration = Duration::from_secs(5);
/// Streams of one kept HTTP/2 connection before the next is opened.
const STREAMS: usize = 100;
/// Longest visit.
const LIMIT: Duration = Duration::from_secs(40);

/// What a client comes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Visit {
    /// On a connection that is kept, HTTP/1.1.
    Kept,
    /// On one of its own.
    Once,
    /// On a shared HTTP/2 connection.
    Shared,
    /// On an HTTP/2 connection of its own.
    OnceHttp2,
    /// Over TLS, HTTP/1.1 or HTTP/2.
    Tls,
    /// To a provider of another dialect, or over HTTP/2.
    Translated,
    /// To a target that fails, with one that does not behind it.
    Fault,
    /// To a target that answers late, with a second attempt beside it.
    Hedged,
    /// To a route without a working target.
    Lone,
    /// Leaves in the middle of a stream.
    Leaver,
    /// Gives up in the middle of the upload.
    Aborted,
    /// 300 KB.
    Large,
    /// Asks for a model that nobody knows.
    MadeUp,
    /// Asks a provider for a model of a new name.
    Invented,
    /// Says what is to be refused: a wrong key, bad JSON, no such path, a head without sense.
    Refused,
    /// Comes from another address.
    Stranger,
    /// Asks for the route of the season.
    Season,
}

/// All of them, with their shares.
pub const VISITS: [(Visit, u32); 17] = [
    (Visit::Kept, 20),
    (Visit::Once, 10),
    (Visit::Shared, 10),
    (Visit::OnceHttp2, 4),
    (Visit::Tls, 2),
    (Visit::Translated, 14),
    (Visit::Fault, 14),
    (Visit::Hedged, 1),
    (Visit::Lone, 3),
    (Visit::Leaver, 5),
    (Visit::Aborted, 4),
    (Visit::Large, 1),
    (Visit::MadeUp, 3),
    (Visit::Invented, 2),
    (Visit::Refused, 3),
    (Visit::Stranger, 3),
    (Visit::Season, 1),
];

/// The proxy as the clients know it, and their connections.
pub struct Town {
    pub data: SocketAddr,
    pub tls: SocketAddr,
    pub admin: SocketAddr,
    pub certificate: String,
    idle: Mutex<Vec<(Instant, Connection)>>,
    shared: Mutex<Option<(Connection, usize)>>,
}

/// What came of a visit; the text says what was wrong.
pub type Told = Result<(), String>;

impl Town {
    pub fn new(data: SocketAddr, tls: SocketAddr, admin: SocketAddr, certificate: String) -> Town {
        Town { data, tls, admin, certificate, idle: Mutex::default(), shared: Mutex::default() }
    }

    /// Pays a visit; `season` is the one that is in force, or was until a moment ago.
    pub async fn pay(&self, visit: Visit, seed: u64, season: u64) -> Told {
        let dice = &mut StdRng::seed_from_u64(seed);
        match visit {
            Visit::Kept => good(&self.kept(&any(dice, "chat")).await?, GREETING),
            Visit::Once => good(&sent(&any(dice, "chat"), self.data).await?, GREETING),
            Visit::Shared => good(&self.shared(&any(dice, "chat")).await?, GREETING),
            Visit::OnceHttp2 => good(&sent(&any(dice, "chat").http2(), self.data).await?, GREETING),
            Visit::Tls => good(&self.over_tls(&any(dice, "chat"), dice.r#gen()).await?, GREETING),
            Visit::Translated => {
                let kinds = KINDS.map(|(kind, _)| kind);
                let route = format!("t-{}", kinds.get(dice.gen_range(0..=kinds.len())).unwrap_or(&"http2"));
                good(&self.kept(&any(dice, &route)).await?, GREETING)
            }
            Visit::Fault => self.fault(dice).await,
            Visit::Hedged => good(&self.kept(&any(dice, "hedged")).await?, GREETING),
            Visit::Lone => refused(&self.kept(&any(dice, "lone")).await?, &[429, 502, 503, 504]),
            Visit::Leaver => self.leaver(dice).await,
            Visit::Aborted => aborted(self.data, dice).await,
            Visit::Large => {
                let text = "word ".repeat(60_000);
                let body = json!({"model": "chat", "messages": [{"role": "user", "content": text}]});
                let call = known(dice, Call::json("/v1/chat/completions", &body));
                let call = if dice.r#gen() { call.chunked() } else { call };
                good(&sent(&call, self.data).await?, GREETING)
            }
            Visit::MadeUp => {
                let model = format!("made-up-{}", dice.r#gen::<u64>());
                refused(&self.kept(&any(dice, &model)).await?, &[404])
            }
            Visit::Invented => {
                let model = format!("steady-openai/invented-{}", dice.r#gen::<u64>());
                good(&self.kept(&any(dice, &model)).await?, GREETING)
            }
            Visit::Refused => self.refused(dice).await,
            Visit::Stranger => stranger(self.data, dice).await,
            Visit::Season => {
                let answer = self.kept(&any(dice, &format!("season-{season}"))).await?;
                // A reload may have come between.
                if answer.status == 404 { Ok(()) } else { good(&answer, GREETING) }
            }
        }
    }

    /// Closes the connections that are kept.
    pub fn hang_up(&self) {
        self.idle.lock().expect("idle").clear();
        *self.shared.lock().expect("shared") = None;
    }

    /// Reads a page of the operator.
    pub async fn scrape(&self, path: &str) -> Result<Answer, String> {
        let answer = sent(&Call::get(path).bearer(TOKEN), self.admin).await?;
        if answer.status == 200 { Ok(answer) } else { Err(format!("{path}: {}", told(&answer))) }
    }

    /// Listens to the operator's events for a moment.
    pub async fn listen_in(&self) -> Told {
        let call = Call::get("/v1/events").bearer(TOKEN).leaving_after(Duration::from_millis(700));
        let answer = sent(&call, self.admin).await?;
        // 0: the moment was over before the head came.
        if matches!(answer.status, 0 | 200) { Ok(()) } else { Err(format!("/v1/events: {}", told(&answer))) }
    }

    async fn kept(&self, call: &Call) -> Result<Answer, String> {
        let kept = self.idle.lock().expect("idle").pop().filter(|(since, _)| since.elapsed() < KEPT);
        let connection = match kept {
            Some((_, connection)) => connection,
            None => Connection::open(self.data).await.map_err(|fault| format!("no connection: {fault}"))?,
        };
        let (answer, connection) =
            connection.send(call).await.map_err(|fault| format!("no answer: {fault}"))?;
        self.idle.lock().expect("idle").extend(connection.map(|connection| (Instant::now(), connection)));
        Ok(answer)
    }

    async fn shared(&self, call: &Call) -> Result<Answer, String> {
        let have = {
            let mut shared = self.shared.lock().expect("shared");
            let have = shared.as_mut().filter(|(_, left)| *left > 0).and_then(|(connection, left)| {
                *left -= 1;
                connection.another()
            });
            if have.is_none() {
                *shared = None;
            }
            have
        };
        let connection = if let Some(connection) = have {
            connection
        } else {
            let new = Connection::open_http2(self.data).await;
            let new = new.map_err(|fault| format!("no HTTP/2 connection: {fault}"))?;
            *self.shared.lock().expect("shared") = new.another().map(|another| (another, STREAMS));
            new
        };
        let (answer, _) = connection.send(call).await.map_err(|fault| format!("no answer: {fault}"))?;
        Ok(answer)
    }

    async fn over_tls(&self, call: &Call, is_http2: bool) -> Result<Answer, String> {
        let protocols: &[&str] = if is_http2 { &["h2", "http/1.1"] } else { &[] };
        let connection = Connection::open_tls(self.tls, "localhost", &self.certificate, protocols).await;
        let connection = connection.map_err(|fault| format!("no TLS connection: {fault}"))?;
        let (answer, _) = connection.send(call).await.map_err(|fault| format!("no answer: {fault}"))?;
        Ok(answer)
    }

    async fn fault(&self, dice: &mut StdRng) -> Told {
        let (fault, _) = pick(dice, &FAULTS);
        // A break in the middle is mended for these dialects' streams, and for whole answers.
        let (route, call) = match dice.gen_range(0..3) {
            0 => ((*fault).to_owned(), chat(fault, dice.r#gen())),
            1 => (format!("a-{fault}"), message(&format!("a-{fault}"), dice.r#gen())),
            _ => (format!("h-{fault}"), chat(&format!("h-{fault}"), dice.r#gen())),
        };
        let call = known(dice, call);
        let answer = if dice.r#gen() { self.kept(&call).await? } else { self.shared(&call).await? };
        good(&answer, GREETING).map_err(|why| format!("{route}: {why}"))
    }

    async fn leaver(&self, dice: &mut StdRng) -> Told {
        let route = if dice.r#gen() { "words" } else { "words-h" };
        let call = known(dice, chat(route, true));
        let call = match dice.gen_range(0..3) {
            0 => call.leaving_after_head(),
            1 => call.leaving_after_events(dice.gen_range(1..40)),
            _ => call.leaving_after(Duration::from_millis(dice.gen_range(1..150))),
        };
        let call = if dice.r#gen() { call.http2() } else { call };
        let answer = sent(&call, self.data).await?;
        match answer.status {
            // Left before the head.
            0 if answer.end == BodyEnd::Left => Ok(()),
            200 if SIXTY_WORDS.starts_with(&answer.text()) && answer.error_code().is_empty() => Ok(()),
            _ => Err(told(&answer)),
        }
    }

    async fn refused(&self, dice: &mut StdRng) -> Told {
        match dice.gen_range(0..5) {
            0 => {
                let key = format!("pm-wrong-{}", dice.r#gen::<u64>());
                // The throttle of wrong keys has its say, too.
                refused(&self.kept(&chat("chat", false).bearer(&key)).await?, &[401, 429])
            }
            1 => {
                let call = Call::post("/v1/chat/completions", "{\"model\": \"chat\", \"messa");
                refused(&self.kept(&known(dice, call)).await?, &[400])
            }
            2 => {
                let call = Call::json(&format!("/v1/no/such/{}", dice.r#gen::<u32>()), &json!({}));
                refused(&self.kept(&known(dice, call)).await?, &[404])
            }
            3 => {
                let call = known(dice, Call::post("/v1/chat/completions", "{}")).method("TRACE");
                refused(&sent(&call, self.data).await?, &[405, 501, 400])
            }
            _ => {
                let words: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\
                    transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
                let answer = exchange(TcpSocket::new_v4(), self.data, words).await?;
                if answer.starts_with("HTTP/1.1 400") { Ok(()) } else { Err(answer) }
            }
        }
    }
}

async fn sent(call: &Call, address: SocketAddr) -> Result<Answer, String> {
    call.send(address).await.map_err(|fault| format!("no answer: {fault}"))
}

fn pick<'a, T>(dice: &mut StdRng, from: &'a [T]) -> &'a T {
    from.choose(dice).expect("there is something to choose from")
}

fn chat(route: &str, is_streamed: bool) -> Call {
    if is_streamed { Call::chat_stream(route) } else { Call::chat(route) }
}

fn message(route: &str, is_streamed: bool) -> Call {
    Call::message(route, is_streamed)
}

/// A question in one of four dialects, whole or streamed, from one of the clients.
fn any(dice: &mut StdRng, route: &str) -> Call {
    let is_streamed = dice.r#gen();
    let call = match dice.gen_range(0..6) {
        0..=2 => chat(route, is_streamed),
        3 => message(route, is_streamed),
        4 => Call::json(
            "/v1/responses",
            &json!({"model": route, "input": "Say something.", "store": false, "stream": is_streamed}),
        ),
        _ => {
            let verb = if is_streamed { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let said = json!({"contents": [{"role": "user", "parts": [{"text": "Say something."}]}]});
            // A route with a slash is no part of such a path.
            if route.contains('/') {
                chat(route, is_streamed)
            } else {
                Call::json(&format!("/v1beta/models/{route}:{verb}"), &said)
            }
        }
    };
    known(dice, call)
}

/// The key of one of the clients, and names that nobody has had before.
fn known(dice: &mut StdRng, call: Call) -> Call {
    let call = call.bearer(&key(dice.gen_range(0..CLIENTS))).limit(LIMIT);
    let number: u64 = dice.r#gen();
    match number % 4 {
        0 => call.header("x-request-id", &format!("request-{number}")),
        1 => call
            .header("session_id", &format!("session-{number}"))
            .header("user-agent", &format!("agent/{number}")),
        _ => call,
    }
}

fn good(answer: &Answer, text: &str) -> Told {
    // Gemini's streams end without a marker.
    let is_gemini =
        !answer.is_stream() || answer.events.iter().any(|event| event.data.contains("\"candidates\""));
    let is_good = answer.status == 200
        && answer.end == BodyEnd::Clean
        && answer.error_code().is_empty()
        && answer.text() == text
        && (is_gemini || answer.has_end_marker());
    if is_good { Ok(()) } else { Err(told(answer)) }
}

fn refused(answer: &Answer, with: &[u16]) -> Told {
    let is_so = with.contains(&answer.status) && answer.end == BodyEnd::Clean && answer.error().is_some();
    if is_so { Ok(()) } else { Err(told(answer)) }
}

fn told(answer: &Answer) -> String {
    let body: String = answer.body_text().chars().take(300).collect();
    format!("{} after {:?}, ended {:?}: {body:?}", answer.status, answer.took, answer.end)
}

/// Announces 200 KB, sends some of it, and leaves with a FIN or a reset.
async fn aborted(data: SocketAddr, dice: &mut StdRng) -> Told {
    let mut socket = TcpStream::connect(data).await.map_err(|fault| format!("no connection: {fault}"))?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 200000\r\n\r\n{{\"model\": \"chat\", \"x\": \"",
        key(dice.gen_range(0..CLIENTS))
    );
    let some = "x".repeat(dice.gen_range(0..150_000));
    // The other side may close first.
    let _ = socket.write_all(head.as_bytes()).await;
    let _ = socket.write_all(some.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(dice.gen_range(0..50))).await;
    if dice.r#gen() {
        let _ = socket.set_zero_linger();
    }
    Ok(())
}

/// One request on a connection from any of 65,000 addresses of this machine.
async fn stranger(data: SocketAddr, dice: &mut StdRng) -> Told {
    let from = Ipv4Addr::new(127, 1, dice.r#gen(), dice.gen_range(1..255));
    let socket = TcpSocket::new_v4().and_then(|socket| {
        socket.bind((from, 0).into())?;
        Ok(socket)
    });
    let body =
        json!({"model": "chat", "messages": [{"role": "user", "content": "Say something."}]}).to_string();
    let words = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        key(dice.gen_range(0..CLIENTS)),
        body.len()
    );
    let answer = exchange(socket, data, words.as_bytes()).await?;
    if answer.starts_with("HTTP/1.1 200") && answer.contains(GREETING) { Ok(()) } else { Err(answer) }
}

/// Sends these bytes and reads to the close.
async fn exchange(
    socket: std::io::Result<TcpSocket>,
    data: SocketAddr,
    bytes: &[u8],
) -> Result<String, String> {
    let talk = async {
        let mut stream = socket?.connect(data).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(LIMIT, talk).await {
        Ok(talk) => talk.map_err(|fault| format!("no answer: {fault}")),
        Err(_) => Err("no end of the connection".to_owned()),
    }
}
