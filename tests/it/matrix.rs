//! Four targets, any three of them failing: whatever the fault, the client never notices.
//!
//! A cell is one kind of fault (rows 1 to 14, 18 to 24 and 27 to 29 of the failure table), streamed
//! or not, with one size of request. Each of its four parts has a fresh proxy and another target
//! that is well; where targets come with models of their own (every second part), repeats and waits
//! come into play as well. What counts is failed requests: not answered 200, with other words than
//! the healthy target's, not ended properly, or arrived there shortened.
//!
//! `make matrix` asks 100 times a cell (10 where a timer must run out) and prints the table; under
//! `cargo test` each cell is asked four times, with small requests, and the long ones by sample.

#![allow(clippy::unwrap_used, reason = "a test")]

use crate::stage::{Stage, eventually};
use pointsman::standin::caller::{BodyEnd, Call};
use pointsman::standin::{Certificate, GREETING, Place, Provider, Refusal, Reply, Script, Twist};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;

/// How a failing target fails.
enum Fault {
    /// By what it answers, to a streamed request or to another.
    Answers(fn(bool) -> Script),
    /// The same over HTTP/2.
    AnswersHttp2(fn(bool) -> Script),
    Refused,
    Unreachable,
    Unresolvable,
    Untrusted,
}

struct Kind {
    row: u8,
    name: &'static str,
    fault: Fault,
    /// Whether it costs the time of a timer.
    is_timed: bool,
}

const fn answers(row: u8, name: &'static str, script: fn(bool) -> Script) -> Kind {
    Kind { row, name, fault: Fault::Answers(script), is_timed: false }
}

const fn timed(row: u8, name: &'static str, script: fn(bool) -> Script) -> Kind {
    Kind { row, name, fault: Fault::Answers(script), is_timed: true }
}

const KINDS: [Kind; 24] = [
    Kind { row: 1, name: "connect refused", fault: Fault::Refused, is_timed: false },
    Kind { row: 2, name: "connect timeout", fault: Fault::Unreachable, is_timed: true },
    Kind { row: 3, name: "no such name", fault: Fault::Unresolvable, is_timed: true },
    Kind { row: 4, name: "TLS", fault: Fault::Untrusted, is_timed: false },
    timed(5, "no content in time", |_| Reply::silence().into()),
    answers(6, "429, seconds", |_| Reply::rate_limited(Some("30")).into()),
    answers(7, "429, date", |_| Script::rule(|_| Reply::rate_limited(Some(&in_a_minute())))),
    answers(8, "429, absurd", |_| {
        Script::round(
            ["0", "-1", "NaN", "1e9", "100000000000000000000", "soon"].map(|v| Reply::rate_limited(Some(v))),
        )
    }),
    answers(9, "402 and quota", |_| {
        Script::round([Reply::status(402), Reply::status(429).code("insufficient_quota")])
    }),
    answers(10, "500", |_| Reply::status(500).into()),
    answers(11, "502 to 526", |_| {
        Script::round([
            Reply::status(502),
            Reply::status(503),
            Reply::status(504),
            Reply::html(520),
            Reply::html(526),
        ])
    }),
    answers(12, "529", |_| Reply::status(529).into()),
    answers(13, "401 and 403", |_| Script::round([Reply::status(401), Reply::status(403)])),
    answers(14, "404 model", |_| Reply::status(404).code("model_not_found").into()),
    answers(18, "malformed 200", |_| {
        let error = r#"{"error":{"message":"no","type":"server_error","code":null}}"#;
        Script::round([Reply::bad_json(), Reply::body(200, "application/json", error), Reply::html(200)])
    }),
    answers(19, "stale keep-alive", |_| Reply::ok().then_stale().into()),
    Kind {
        row: 20,
        name: "GOAWAY, REFUSED_STREAM",
        fault: Fault::AnswersHttp2(|_| {
            let at = |twist| Reply::ok().at(Place::BeforeHead, twist);
            // 7: REFUSED_STREAM, 0: NO_ERROR (RFC 9113 section 7).
            Script::round([at(Twist::GoAway(0)), at(Twist::StreamReset(7))])
        }),
        is_timed: false,
    },
    answers(21, "reset before the head", |_| {
        Script::round([Reply::reset(), Reply::close(), Reply::garbage(), Reply::big_head(2 << 20)])
    }),
    answers(22, "truncated", |is_streamed| {
        if is_streamed {
            Reply::ok().at(Place::AfterOpening, Twist::Close).into()
        } else {
            Reply::truncated().into()
        }
    }),
    answers(23, "reset after the head", |_| {
        Script::round([Reply::reset_after_head(), Reply::ok().at(Place::AfterOpening, Twist::Reset)])
    }),
    answers(24, "error inside a 200", |_| {
        let overloaded = Refusal { status: 529, ..Refusal::default() };
        let later = Reply::ok().at(Place::AfterOpening, Twist::Error(overloaded));
        Script::round([Reply::error_event(500), later, Reply::error_event(429)])
    }),
    answers(27, "empty 200", |is_streamed| {
        if is_streamed {
            Script::round([Reply::empty(), Reply::events([""; 0])])
        } else {
            Reply::empty().into()
        }
    }),
    timed(28, "stall", |is_streamed| {
        if is_streamed {
            Script::round([Reply::silence_after_head(), Reply::stall_after(2)])
        } else {
            Reply::silence_after_head().into()
        }
    }),
    answers(29, "redirect, 101, interims", |_| {
        Script::round([
            Reply::redirect("http://127.0.0.1:9/"),
            Reply::switching_protocols(),
            Reply::ok().interims(12),
        ])
    }),
];

fn in_a_minute() -> String {
    #[allow(clippy::disallowed_methods, reason = "the date goes into a header")]
    let now = SystemTime::now();
    httpdate::fmt_http_date(now + Duration::from_secs(60))
}

/// One cell of the table.
struct Cell {
    kind: &'static Kind,
    is_streamed: bool,
    bytes: usize,
    requests: usize,
}

impl Cell {
    /// Asks a quarter of the times with each target well in turn; returns what failed.
    async fn play(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for well in 0..4 {
            let requests = (self.requests + 3 - well) / 4;
            failures.extend(self.part(well, requests).await);
        }
        failures
    }

    async fn part(&self, well: usize, requests: usize) -> Vec<String> {
        let mut providers = Vec::new();
        let (mut lines, mut targets) = (String::new(), String::new());
        for at in 0..4 {
            let (provider, line) = if at == well { self.healthy().await } else { self.failing().await };
            let model = if well == 0 || well == 2 { "m".to_owned() } else { format!("m{at}") };
            let _ = writeln!(
                lines,
                "  p{at}: {{{line}, credentials: [{{name: k, key: \"sk-{at}-0123456789\"}}]}}"
            );
            let _ = write!(targets, "{{provider: p{at}, model: {model}, priority: {}}}, ", at + 1);
            providers.extend(provider);
        }
        let timers = if self.kind.is_timed { self.short_timers() } else { String::new() };
        let stage =
            Stage::open(&format!("{timers}providers:\n{lines}routes:\n  chat: {{targets: [{targets}]}}\n"))
                .await;
        let call = self.call();
        let mut failures = Vec::new();
        for turn in 0..requests {
            if let Err(why) = ask(&stage, &call).await {
                failures.push(format!(
                    "row {} ({}), streamed {}, {} bytes, target {well} well, request {turn}: {why}",
                    self.kind.row, self.kind.name, self.is_streamed, self.bytes
                ));
            }
        }
        // A part in which nothing went wrong would prove nothing. Figures follow the answer.
        if self.kind.row != 19 && well != 0 && requests > 0 {
            let sum = |labels: &[&str]| stage.metric("pointsman_attempts_total", labels);
            let what = format!("a target fails (row {})", self.kind.row);
            eventually(&what, || sum(&[]) > sum(&["outcome=\"ok\""])).await;
        }
        failures
    }

    /// A healthy answer must fit into the timers of a busy machine, large requests included.
    fn short_timers(&self) -> String {
        let limit = 250 + self.bytes / 4000;
        format!(
            "timeouts: {{connect: 150ms, first_content: {limit}ms, response: {limit}ms, stall: {limit}ms, stall_last: 20s}}\n"
        )
    }

    fn call(&self) -> Call {
        let content = "x".repeat(self.bytes);
        let message = serde_json::json!({"role": "user", "content": content});
        let body = serde_json::json!({"model": "chat", "messages": [message], "stream": self.is_streamed});
        Call::json("/v1/chat/completions", &body)
    }

    async fn healthy(&self) -> (Option<Provider>, String) {
        let least = self.bytes;
        let script = Script::rule(move |seen| {
            if seen.body.len() >= least { Reply::ok() } else { Reply::says("a part of the request") }
        });
        let provider = Provider::start(script).await.unwrap();
        provider.record(false);
        let line = format!("kind: openai, base_url: \"{}\"", provider.base_url());
        (Some(provider), line)
    }

    async fn failing(&self) -> (Option<Provider>, String) {
        let (provider, rest) = match &self.kind.fault {
            Fault::Answers(script) => (Provider::start(script(self.is_streamed)).await.unwrap(), ""),
            Fault::AnswersHttp2(script) => {
                (Provider::start(script(self.is_streamed)).await.unwrap(), ", http: 2")
            }
            Fault::Refused => (Provider::refused().unwrap(), ""),
            Fault::Unreachable => (Provider::unreachable().await.unwrap(), ""),
            Fault::Untrusted => (untrusted().await, ""),
            // RFC 6761 section 6.4: never a name of anything.
            Fault::Unresolvable => {
                let line = "kind: openai, base_url: \"http://nowhere.invalid/v1\", allow_plaintext: true";
                return (None, line.to_owned());
            }
        };
        provider.record(false);
        let line = format!("kind: openai, base_url: \"{}\"{rest}", provider.base_url());
        (Some(provider), line)
    }
}

async fn untrusted() -> Provider {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certificate = Certificate { chain_pem: &chain_pem, key_pem: &key_pem, protocols: &["http/1.1"] };
    Provider::start_tls(Reply::ok(), &certificate).await.unwrap()
}

async fn ask(stage: &Stage, call: &Call) -> Result<(), String> {
    let answer = call.send(stage.data).await.map_err(|fault| fault.to_string())?;
    let is_whole = answer.end == BodyEnd::Clean && (!answer.is_stream() || answer.has_end_marker());
    if answer.status == 200 && answer.text() == GREETING && is_whole {
        return Ok(());
    }
    let body: String = answer.body_text().chars().take(400).collect();
    Err(format!("{} {:?}: {body:?}", answer.status, answer.end))
}

/// Plays cells `at_once` side by side and returns their failures in order.
async fn play(cells: Vec<Cell>, at_once: usize) -> Vec<(Cell, Vec<String>)> {
    let mut waiting = cells.into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    loop {
        while running.len() < at_once
            && let Some((at, cell)) = waiting.next()
        {
            running.spawn(async move {
                let failures = cell.play().await;
                (at, cell, failures)
            });
        }
        let Some(played) = running.join_next().await else { break };
        done.push(played.unwrap());
    }
    done.sort_by_key(|(at, ..)| *at);
    done.into_iter().map(|(_, cell, failures)| (cell, failures)).collect()
}

const SIZES: [usize; 3] = [4 << 10, 300 << 10, 5 << 20];

fn print(played: &[(Cell, Vec<String>)]) {
    println!(
        "failed requests of each cell     |   streamed: 4 KB  300 KB  5 MB |    whole: 4 KB  300 KB  5 MB"
    );
    for row in played.chunks(6) {
        let count = |at: usize| format!("{}/{}", row[at].1.len(), row[at].0.requests);
        let kind = row[0].0.kind;
        println!(
            "{:>2}  {:<28} | {:>16} {:>7} {:>5} | {:>14} {:>7} {:>5}",
            kind.row,
            kind.name,
            count(0),
            count(1),
            count(2),
            count(3),
            count(4),
            count(5)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_three_of_four_targets_may_fail_in_any_way() {
    let is_full = std::env::var_os("POINTSMAN_MATRIX").is_some();
    let mut cells = Vec::new();
    for kind in &KINDS {
        for is_streamed in [true, false] {
            for bytes in SIZES {
                // By sample: one row in five with the long bodies.
                let is_played = is_full || bytes == SIZES[0] || (bytes == SIZES[1] && kind.row % 5 == 0);
                let requests = match (is_full, kind.is_timed) {
                    (true, false) => 100,
                    (true, true) => 10,
                    (false, _) => 4,
                };
                cells.extend(is_played.then_some(Cell { kind, is_streamed, bytes, requests }));
            }
        }
    }
    let played = play(cells, 4).await;
    if is_full {
        print(&played);
    }
    let failures: Vec<&String> = played.iter().flat_map(|(_, failures)| failures).collect();
    let shown: Vec<_> = failures.iter().take(20).collect();
    assert!(failures.is_empty(), "{} requests failed: {shown:#?}", failures.len());
}
