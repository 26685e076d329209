//! S17 to S30: what else providers do, each against the same process and the same configuration.
//!
//! A scenario passes when nothing is to be said against it; there is no partial credit here.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use pointsman::standin::caller::{Answer, BodyEnd, Call, raw};
use pointsman::standin::{GREETING, Place, Reply, SIXTY_WORDS, Script, Twist};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::row::{Ending, Row, Weight};
use crate::troupe::{Part, Troupe, anthropic, openai, secret};

/// When the second try of S25 had to wait until, and when it came.
static DATED: Mutex<Vec<SystemTime>> = Mutex::new(Vec::new());

/// What a scenario plays with.
pub struct Scene<'a> {
    pub troupe: &'a Troupe,
    pub proxy: SocketAddr,
    /// The proxy's first-content limit.
    pub first_content: Duration,
}

type Playing<'a> = Pin<Box<dyn Future<Output = Vec<String>> + 'a>>;

/// One scenario.
pub struct Play {
    pub id: &'static str,
    pub title: &'static str,
    /// Parts whose tries are shown.
    shown: &'static [&'static str],
    run: for<'a> fn(&'a Scene<'a>) -> Playing<'a>,
}

impl Play {
    pub async fn play(&self, scene: &Scene<'_>) -> Row {
        let began = Instant::now();
        let complaints = (self.run)(scene).await;
        let mut row = Row::new(self.id, began.elapsed(), None);
        let tries: Vec<String> = self.shown.iter().map(|name| scene.troupe.count(name).to_string()).collect();
        row.tries = tries.join("/");
        self.title.clone_into(&mut row.gaps);
        for complaint in complaints {
            row.check(Weight::Required, false, complaint);
        }
        row.judge(&Ending::Complete, true);
        row
    }
}

/// All of them, in order.
pub const PLAYS: [Play; 14] = [
    Play { id: "S17", title: "error inside a 200", shown: &["s17a", "s17b"], run: |s| Box::pin(s17(s)) },
    Play { id: "S18", title: "created, then error", shown: &["s18a", "s18b"], run: |s| Box::pin(s18(s)) },
    Play { id: "S19", title: "overloaded mid-stream", shown: &["s19a", "s19b"], run: |s| Box::pin(s19(s)) },
    Play { id: "S20", title: "529", shown: &["s20a", "s20b"], run: |s| Box::pin(s20(s)) },
    Play { id: "S21", title: "slow drip", shown: &["s21a", "s21xa"], run: |s| Box::pin(s21(s)) },
    Play { id: "S22", title: "empty completion", shown: &["s22a", "s22b"], run: |s| Box::pin(s22(s)) },
    Play { id: "S23", title: "cut in tool arguments", shown: &["s23a", "s23b"], run: |s| Box::pin(s23(s)) },
    Play { id: "S24", title: "cut in thinking", shown: &["s24a", "s24b"], run: |s| Box::pin(s24(s)) },
    Play { id: "S25", title: "date and ms to wait", shown: &["s25a", "s25xa"], run: |s| Box::pin(s25(s)) },
    Play { id: "S26", title: "402 and quota", shown: &["s26a", "s26b", "s26c"], run: |s| Box::pin(s26(s)) },
    Play { id: "S27", title: "a key dies", shown: &["s27a"], run: |s| Box::pin(s27(s)) },
    Play { id: "S28", title: "gzip all the same", shown: &["s28a", "s28b"], run: |s| Box::pin(s28(s)) },
    Play { id: "S29", title: "2 MB cut at 90 %", shown: &["s29a", "s29b"], run: |s| Box::pin(s29(s)) },
    Play { id: "S30", title: "client leaves", shown: &["s30a", "s30b", "s30c"], run: |s| Box::pin(s30(s)) },
];

/// Who plays.
pub fn cast() -> Vec<Part> {
    let sixty = Reply::sixty_words;
    let by_key = |seen: &pointsman::standin::Seen| {
        let is_dead = seen.header("authorization") == Some(&format!("Bearer {}", secret("s27a", 1)));
        if is_dead { Reply::status(401).code("invalid_api_key") } else { Reply::ok() }
    };
    let empty = |seen: &pointsman::standin::Seen| {
        let body = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}"#;
        if seen.is_streamed { Reply::says("") } else { Reply::body(200, "application/json", body) }
    };
    vec![
        openai("s17a", Reply::error_event(500)),
        openai("s17b", Reply::ok()),
        openai("s18a", Reply::error_after_opening(500)),
        openai("s18b", Reply::ok()),
        anthropic("s19a", Reply::error_after(20, 529).text(SIXTY_WORDS).delay(Duration::from_millis(5))),
        anthropic("s19b", sixty()),
        openai("s20a", Reply::status(529)).keys(2),
        openai("s20b", Reply::ok()),
        openai("s21a", Reply::ok().drip(Duration::from_millis(200))),
        openai("s21b", Reply::ok()),
        openai("s21xa", Reply::ok().delay(Duration::from_millis(500))),
        openai("s21xb", Reply::ok()),
        openai("s22a", Reply::empty()),
        openai("s22b", Reply::ok()),
        openai("s22xa", Reply::events([""; 0])),
        openai("s22xb", Reply::ok()),
        openai("s22ya", Script::rule(empty)),
        openai("s22yb", Reply::ok()),
        openai("s23a", in_tool_arguments()),
        openai("s23b", Reply::ok()),
        anthropic("s23xa", in_tool_input()),
        anthropic("s23xb", Reply::ok()),
        anthropic("s24a", in_thinking()),
        anthropic("s24b", Reply::ok()),
        openai("s24xa", in_reasoning()),
        openai("s24xb", Reply::ok()),
        openai("s25a", Script::of([Reply::status(429).header("retry-after-ms", "400"), Reply::ok()])),
        openai("s25b", Reply::ok()),
        openai("s25xa", Script::rule(|_| dated())),
        openai("s25xb", Reply::ok()),
        openai("s25ya", Script::rule(|_| rests_until(SystemTime::now() + Duration::from_secs(3600)))),
        openai("s25yb", Reply::ok()),
        openai("s26a", Reply::status(402)),
        openai("s26b", Reply::status(429).kind("insufficient_quota").code("insufficient_quota")),
        openai("s26c", Reply::ok()),
        openai("s27a", Script::rule(by_key)).keys(2),
        openai("s28a", sixty().gzipped().at(Place::AfterTokens(20), Twist::Close)),
        openai("s28b", sixty()),
        openai("s28xa", Reply::error_event(500).gzipped()),
        openai("s28xb", Reply::ok()),
        openai("s28ya", Reply::ok().gzipped()),
        openai("s28yb", Reply::says("not this one")),
        openai("s29a", cut_at_90_percent(2 << 20)),
        openai("s29b", Reply::ok()),
        openai("s29xa", cut_at_90_percent(900 << 10)),
        openai("s29xb", Reply::ok()),
        openai("s29ya", Reply::ok()),
        openai("s30a", Reply::status(503)),
        openai("s30b", Reply::silence()),
        openai("s30c", Reply::ok()),
        openai("s30xa", Reply::rate_limited(Some("2"))),
        openai("s30xb", Reply::ok()),
    ]
}

fn chunk(delta: &Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
    format!("data: {}\n\n", json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}))
}

fn message(kind: &str, rest: Value) -> String {
    let mut data = json!({"type": kind});
    if let (Some(data), Value::Object(rest)) = (data.as_object_mut(), rest) {
        data.extend(rest);
    }
    format!("event: {kind}\ndata: {data}\n\n")
}

fn broken_after<const N: usize>(events: [String; N]) -> Reply {
    Reply::events(events).at(Place::AfterTokens(N), Twist::Close)
}

fn in_tool_arguments() -> Reply {
    let call = |arguments: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]});
    broken_after([
        chunk(&json!({"role": "assistant", "content": "I look it up. "})),
        chunk(
            &json!({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        ),
        chunk(&call("{\"city\":")),
        chunk(&call("\"Göt")),
    ])
}

fn opening() -> String {
    message(
        "message_start",
        json!({"message": {"id": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}}),
    )
}

fn in_tool_input() -> Reply {
    let block = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
    broken_after([
        opening(),
        message("content_block_start", json!({"index": 0, "content_block": block})),
        message(
            "content_block_delta",
            json!({"index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"ci"}}),
        ),
    ])
}

fn in_thinking() -> Reply {
    let delta = |text: &str| json!({"index": 0, "delta": {"type": "thinking_delta", "thinking": text}});
    broken_after([
        opening(),
        message(
            "content_block_start",
            json!({"index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        ),
        message("content_block_delta", delta("Let me ")),
        message("content_block_delta", delta("see")),
    ])
}

fn in_reasoning() -> Reply {
    broken_after([
        chunk(&json!({"role": "assistant", "content": ""})),
        chunk(&json!({"reasoning_content": "Let me "})),
        chunk(&json!({"reasoning_content": "see"})),
    ])
}

fn rests_until(date: SystemTime) -> Reply {
    Reply::rate_limited(Some(&httpdate::fmt_http_date(date)))
        .header("date", &httpdate::fmt_http_date(SystemTime::now()))
}

/// The first time 429 with a date three seconds ahead; notes that date and when it was asked again.
fn dated() -> Reply {
    let mut times = DATED.lock().expect("times");
    let is_first = times.is_empty();
    let date = SystemTime::now() + Duration::from_secs(if is_first { 3 } else { 0 });
    times.push(date);
    if is_first { rests_until(date) } else { Reply::ok() }
}

/// A whole answer of which the last tenth never comes.
fn cut_at_90_percent(bytes: usize) -> Reply {
    let body = json!({"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x".repeat(bytes)}, "finish_reason": "stop"}]});
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Reply::raw(format!("{head}{}", &body[..body.len() / 10 * 9]))
}

/// Collects what is to be said against a scenario.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }

    fn says(&mut self, what: &str, answer: &Answer, text: &str) {
        let heard = answer.text();
        self.expect(answer.status == 200 && heard == text, || {
            let body: String = answer.body_text().chars().take(300).collect();
            format!("{what}: status {}, {heard:?} instead of {text:?}: {body:?}", answer.status)
        });
        self.expect(answer.end == BodyEnd::Clean, || format!("{what}: {:?}", answer.end));
        self.expect(answer.error().is_none(), || format!("{what}: {:?}", answer.error()));
        self.expect(!answer.is_stream() || answer.has_end_marker(), || format!("{what}: no end marker"));
    }

    fn counts(&mut self, scene: &Scene<'_>, expected: &[(&str, u64)]) {
        for (name, count) in expected {
            let seen = scene.troupe.count(name);
            self.expect(seen == *count, || format!("{name} saw {seen} requests instead of {count}"));
        }
    }

    /// A stream that broke off where nobody may go on.
    fn broke_off(&mut self, what: &str, answer: &Answer) {
        let code = answer.error_code();
        self.expect(!code.is_empty(), || format!("{what}: no error event: {}", answer.body_text()));
        self.expect(!answer.has_end_marker(), || format!("{what}: the end marker of a whole answer"));
        self.expect(matches!(answer.end, BodyEnd::Cut(_)), || format!("{what}: ended {:?}", answer.end));
    }
}

impl Scene<'_> {
    async fn ask(&self, call: Call) -> Answer {
        match call.send(self.proxy).await {
            Ok(answer) => answer,
            Err(fault) => panic!("the proxy does not answer: {fault}"),
        }
    }
}

async fn s17(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    notes.says("streamed", &scene.ask(Call::chat_stream("s17")).await, GREETING);
    notes.counts(scene, &[("s17a", 1), ("s17b", 1)]);
    notes.says("whole", &scene.ask(Call::chat("s17")).await, GREETING);
    notes.counts(scene, &[("s17a", 2), ("s17b", 2)]);
    notes.0
}

async fn s18(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    let body = json!({"model": "s18", "input": "Say something.", "stream": true, "store": false});
    let answer = scene.ask(Call::json("/v1/responses", &body)).await;
    notes.says("streamed", &answer, GREETING);
    let created = answer.events.iter().filter(|e| e.name.as_deref() == Some("response.created")).count();
    notes.expect(created == 1, || format!("{created} times response.created"));
    notes.counts(scene, &[("s18a", 1), ("s18b", 1)]);
    notes.0
}

async fn s19(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    let answer = scene.ask(Call::message("s19", true)).await;
    notes.says("streamed", &answer, SIXTY_WORDS);
    for name in
        ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    {
        let count = answer.events.iter().filter(|e| e.name.as_deref() == Some(name)).count();
        notes.expect(count == 1, || format!("{count} times {name}"));
    }
    notes.counts(scene, &[("s19a", 1), ("s19b", 1)]);
    notes.0
}

async fn s20(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    let answer = scene.ask(Call::chat_stream("s20")).await;
    notes.says("first", &answer, GREETING);
    notes.expect(answer.took < Duration::from_millis(500), || format!("took {:?}", answer.took));
    notes.counts(scene, &[("s20a", 1), ("s20b", 1)]);
    notes.says("second", &scene.ask(Call::chat_stream("s20")).await, GREETING);
    notes.counts(scene, &[("s20a", 1), ("s20b", 2)]);
    notes.0
}

async fn s21(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    let answer = scene.ask(Call::chat_stream("s21")).await;
    notes.says("before content", &answer, GREETING);
    let late = scene.first_content + Duration::from_millis(1500);
    let is_due = answer.took >= scene.first_content && answer.took <= late;
    notes.expect(is_due, || format!("left the dripping target after {:?}", answer.took));
    notes.counts(scene, &[("s21a", 1), ("s21b", 1)]);
    let answer = scene.ask(Call::chat_stream("s21x")).await;
    notes.says("in content", &answer, GREETING);
    notes.counts(scene, &[("s21xa", 1), ("s21xb", 0)]);
    notes.0
}

async fn s22(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    notes.says("no body", &scene.ask(Call::chat("s22")).await, GREETING);
    notes.says("no body, streamed", &scene.ask(Call::chat_stream("s22")).await, GREETING);
    notes.counts(scene, &[("s22a", 2), ("s22b", 2)]);
    notes.says("no event", &scene.ask(Call::chat_stream("s22x")).await, GREETING);
    notes.counts(scene, &[("s22xa", 1), ("s22xb", 1)]);
    // An answer that says nothing, but says so, is the model's.
    notes.says("no words", &scene.ask(Call::chat_stream("s22y")).await, "");
    notes.says("no choices", &scene.ask(Call::chat("s22y")).await, "");
    notes.counts(scene, &[("s22ya", 2), ("s22yb", 0)]);
    notes.0
}

async fn s23(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    notes.broke_off("chat", &scene.ask(Call::chat_stream("s23")).await);
    notes.broke_off("messages", &scene.ask(Call::message("s23x", true)).await);
    notes.counts(scene, &[("s23a", 1), ("s23b", 0), ("s23xa", 1), ("s23xb", 0)]);
    notes.0
}

async fn s24(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    notes.broke_off("messages", &scene.ask(Call::message("s24", true)).await);
    notes.broke_off("chat", &scene.ask(Call::chat_stream("s24x")).await);
    notes.counts(scene, &[("s24a", 1), ("s24b", 0), ("s24xa", 1), ("s24xb", 0)]);
    notes.0
}

async fn s25(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    notes.says("milliseconds", &scene.ask(Call::chat_stream("s25")).await, GREETING);
    let tries = scene.troupe.seen("s25a");
    let gap = tries.get(1).map(|second| second.arrived.saturating_sub(tries[0].arrived));
    let is_due = gap.is_some_and(|gap| (400..900).contains(&gap.as_millis()));
    notes.expect(is_due, || format!("asked again after {gap:?} instead of 400 ms"));
    DATED.lock().expect("times").clear();
    notes.says("date", &scene.ask(Call::chat_stream("s25x")).await, GREETING);
    let times = DATED.lock().expect("times").clone();
    // Dates have whole seconds.
    let has_waited = times.len() == 2 && times[1] + Duration::from_secs(1) >= times[0];
    notes.expect(has_waited, || format!("asked again before the date: {times:?}"));
    notes.says("far date", &scene.ask(Call::chat_stream("s25y")).await, GREETING);
    notes.says("far date again", &scene.ask(Call::chat_stream("s25y")).await, GREETING);
    notes.counts(scene, &[("s25a", 2), ("s25b", 0), ("s25xa", 2), ("s25xb", 0), ("s25ya", 1), ("s25yb", 2)]);
    notes.0
}

async fn s26(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    for turn in ["first", "second"] {
        notes.says(turn, &scene.ask(Call::chat_stream("s26")).await, GREETING);
    }
    notes.counts(scene, &[("s26a", 1), ("s26b", 1), ("s26c", 2)]);
    notes.0
}

async fn s27(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    for turn in ["first", "second"] {
        notes.says(turn, &scene.ask(Call::chat_stream("s27")).await, GREETING);
    }
    let keys: Vec<String> = scene
        .troupe
        .seen("s27a")
        .iter()
        .map(|seen| seen.header("authorization").unwrap_or_default().to_owned())
        .collect();
    let bearer = |key| format!("Bearer {}", secret("s27a", key));
    notes.expect(keys == [bearer(1), bearer(2), bearer(2)], || {
        format!("{} requests with other keys", keys.len())
    });
    notes.0
}

async fn s28(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    for (what, call, text) in [
        ("cut", Call::chat_stream("s28"), SIXTY_WORDS),
        ("error event", Call::chat_stream("s28x"), GREETING),
        ("error in a whole answer", Call::chat("s28x"), GREETING),
        ("stream", Call::chat_stream("s28y"), GREETING),
        ("whole answer", Call::chat("s28y"), GREETING),
    ] {
        let answer = scene.ask(call).await;
        let encoding = answer.header("content-encoding").map(str::to_owned);
        notes.expect(encoding.is_none(), || format!("{what}: content-encoding {encoding:?}"));
        notes.says(what, &answer, text);
    }
    notes.counts(scene, &[("s28a", 1), ("s28b", 1), ("s28xa", 2), ("s28xb", 2), ("s28ya", 2), ("s28yb", 0)]);
    notes.0
}

async fn s29(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    let answer = scene.ask(Call::chat("s29")).await;
    let is_cut = matches!(answer.end, BodyEnd::Cut(_));
    notes.expect(is_cut, || format!("2 MB: ended {:?} after {} bytes", answer.end, answer.body.len()));
    notes.expect(answer.body.len() <= (2 << 20) / 10 * 9 + 1000, || "more than came".to_owned());
    notes.says("900 KB", &scene.ask(Call::chat("s29x")).await, GREETING);
    // The client's own two megabytes, of which the last tenth never comes.
    let message = json!({"role": "user", "content": "x".repeat(2 << 20)});
    let body = json!({"model": "s29y", "messages": [message]}).to_string().into_bytes();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let bytes = [head.as_bytes(), &body[..body.len() / 10 * 9]].concat();
    let replied = raw(scene.proxy, &bytes, Duration::from_millis(500)).await.unwrap_or_default();
    notes.expect(!replied.starts_with(b"HTTP/1.1 2"), || "half a request was answered".to_owned());
    notes.counts(scene, &[("s29a", 1), ("s29b", 0), ("s29xa", 1), ("s29xb", 1), ("s29ya", 0)]);
    notes.0
}

async fn s30(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Notes::default();
    let stays = Duration::from_secs(1);
    scene.ask(Call::chat_stream("s30").leaving_after(stays)).await;
    let silent = scene.troupe.of("s30b");
    let has_left =
        |seen: &[pointsman::standin::Seen]| seen.iter().all(pointsman::standin::Seen::has_client_left);
    let is_cancelled = silent.count() == 1 && silent.until(Duration::from_secs(1), has_left).await;
    notes.expect(is_cancelled, || format!("the upstream was not cancelled within 1 s: {:?}", silent.last()));
    let tries = scene.troupe.count("s30a");
    scene.ask(Call::chat_stream("s30x").leaving_after(Duration::from_millis(300))).await;
    // Longer than the wait that the client did not want to see the end of.
    tokio::time::sleep(Duration::from_millis(2300)).await;
    notes.counts(scene, &[("s30a", tries), ("s30b", 1), ("s30c", 0), ("s30xa", 1), ("s30xb", 0)]);
    notes.0
}
