//! What do small bodies cost that say very much? (Threat C8.)
//!
//! A million members fit into 12 MB, which is below `limits.max_body`. What comes of them must take time
//! and memory in proportion to their bytes, whether they are refused, passed on, or taken apart for a
//! provider of another dialect, where each of them becomes something bigger.

use crate::process::{HEAD, Process, Program, openai};
use bytes::Bytes;
use pointsman::base::api::Dialect;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Provider, Reply};
use pointsman::translate::{self, AnswerContext, RequestContext};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const MILLION: usize = 1_000_000;

/// How long one may take: the program of the tests is not optimised, the machine may be busy. What is held
/// against all else in it takes minutes.
const LONG: Duration = Duration::from_secs(60);

/// How much the process may have grown at most, in KiB: a body of 12 to 22 MB in a few copies, or 90,000
/// turns taken apart.
const GROWN_MAX: u64 = 192 * 1024;

struct Scene {
    process: Process,
    provider: Provider,
    start: u64,
}

impl Scene {
    /// Two providers behind one stand-in: one takes the client's dialect, one another.
    async fn open() -> Scene {
        let provider = Provider::start(Reply::ok()).await.unwrap();
        let yaml = format!(
            "{HEAD}providers:\n{}  other: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY}}}}]}}\n\
             routes:\n  same: {{targets: [{{provider: one, model: m}}]}}\n  other: {{targets: [{{provider: other, model: m}}]}}\n",
            openai("one", &provider.base_url(), "KEY"),
            provider.origin(),
        );
        let process = Program::new(&yaml).env("KEY", "sk-one-0123456789").start().await;
        let start = peak(&process);
        Scene { process, provider, start }
    }

    /// Sends a body and looks at what it took.
    async fn takes(&self, what: &str, body: String) -> Answer {
        let begun = Instant::now();
        let call = Call::post("/v1/chat/completions", Bytes::from(body));
        let answer = tokio::time::timeout(LONG, call.send(self.process.data)).await.expect(what).expect(what);
        let grown = peak(&self.process) - self.start;
        println!("{what}: {} after {:?}, {} MiB more", answer.status, begun.elapsed(), grown / 1024);
        assert!(grown < GROWN_MAX, "{what}: {grown} KiB");
        answer
    }
}

/// Returns the most memory that the process has ever held, in KiB.
fn peak(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `"k0":0,"k1":1,...`
fn members() -> String {
    let mut text = String::with_capacity(16 * MILLION);
    for number in 0..MILLION {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\"k{number}\":{}", number % 10);
    }
    text
}

#[tokio::test]
async fn a_million_members_cost_what_their_bytes_cost() {
    let scene = Scene::open().await;
    let members = members();
    let hi = r#""messages":[{"role":"user","content":"hi"}]"#;
    let top = scene.takes("at the top", format!(r#"{{"model":"same",{hi},{members}}}"#)).await;
    assert_eq!(top.status, 400, "{}", top.body_text());
    assert_eq!(scene.provider.count(), 0);
    for route in ["same", "other"] {
        let body = format!(r#"{{"model":"{route}",{hi},"metadata":{{{members}}}}}"#);
        let answer = scene.takes(&format!("inside, to {route}"), body).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
    }
    assert!(scene.provider.seen()[0].body.ends_with(b"\"k999999\":9}}"), "passed on whole");
    // What the other dialect has no word for stays behind.
    assert!(scene.provider.seen()[1].body.len() < 1000);
}

#[tokio::test]
async fn very_many_turns_or_parts_cost_what_their_bytes_cost() {
    let scene = Scene::open().await;
    let turn = r#"{"role":"user","content":"a"}"#;
    let part = r#"{"type":"text","text":"a"}"#;
    let tool = r#"{"type":"function","function":{"name":"f"}}"#;
    let many = |one: &str, count: usize| vec![one; count].join(",");
    let passed_on = format!(r#"{{"model":"same","messages":[{}]}}"#, many(turn, MILLION / 4));
    assert_eq!(scene.takes("turns that are passed on", passed_on).await.status, 200);
    for (what, body, taken_apart) in [
        ("empty turns", format!(r#""messages":[{}]"#, many("{}", MILLION)), 400),
        ("turns", format!(r#""messages":[{}]"#, many(turn, MILLION / 4)), 400),
        ("parts", format!(r#""messages":[{{"role":"user","content":[{}]}}]"#, many(part, MILLION / 4)), 400),
        ("tools", format!(r#""messages":[{turn}],"tools":[{}]"#, many(tool, MILLION / 4)), 400),
        ("numbers for turns", format!(r#""messages":[{}]"#, many("0", MILLION)), 400),
        (
            "numbers for parts",
            format!(r#""messages":[{{"role":"user","content":[{}]}}]"#, many("0", MILLION)),
            400,
        ),
        ("texts for tools", format!(r#""messages":[{turn}],"tools":[{}]"#, many("\"\"", MILLION)), 400),
        ("stops", format!(r#""messages":[{turn}],"stop":[{}]"#, many("\"a\"", MILLION)), 200),
        ("turns that may be", format!(r#""messages":[{}]"#, many(turn, 90_000)), 200),
    ] {
        let answer = scene.takes(what, format!(r#"{{"model":"other",{body}}}"#)).await;
        assert_eq!(answer.status, taken_apart, "{what}: {}", answer.body_text());
    }
}

/// Joins what is made of the numbers up to `count`.
fn numbered(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect::<Vec<_>>().join(",")
}

/// Requests in which each of very many things is looked for among very many others.
fn looked_for() -> Vec<(&'static str, Dialect, Dialect, String)> {
    let (chat, messages, gemini) = (Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::GeminiGenerate);
    let hi = r#""messages":[{"role":"user","content":"hi"}]"#;
    let declared = numbered(90_000, |_| r#"{"name":"b"}"#.to_owned());
    let allowed = numbered(500_000, |_| r#""c""#.to_owned());
    let among = format!(
        r#"{{"contents":"hi","tools":[{{"functionDeclarations":[{declared}]}}],"toolConfig":{{"functionCallingConfig":{{"mode":"ANY","allowedFunctionNames":[{allowed}]}}}}}}"#
    );
    let properties = numbered(200_000, |n| format!(r#""p{n:06}":0"#));
    let required = numbered(200_000, |n| format!(r#""p{:06}""#, 199_999 - n));
    let schema = format!(
        r#"{{"type":"object","additionalProperties":false,"properties":{{{properties}}},"required":[{required}]}}"#
    );
    let format = format!(r#"{{"type":"json_schema","schema":{schema}}}"#);
    let strict = format!(r#"{{{hi},"output_config":{{"format":{format}}}}}"#);
    let results = numbered(99_000, |n| format!(r#"{{"role":"tool","tool_call_id":"{n}","content":"x"}}"#));
    let results = format!(r#"{{"messages":[{results}]}}"#);
    let called = numbered(45_000, |n| format!(r#"{{"id":"c{n:05}","function":{{"name":"f{n:05}"}}}}"#));
    let called = format!(r#"{{"messages":[{{"role":"assistant","tool_calls":[{called}]}}]}}"#);
    let calls = numbered(24_000, |n| format!(r#"{{"functionCall":{{"name":"f{n:05}"}}}}"#));
    let answered = numbered(24_000, |n| format!(r#"{{"functionResponse":{{"name":"g{n:05}"}}}}"#));
    let tied = format!(
        r#"{{"contents":[{{"role":"model","parts":[{calls}]}},{{"role":"user","parts":[{answered}]}}]}}"#
    );
    vec![
        ("functions that may be called", gemini, chat, among),
        ("members that must be there", messages, chat, strict),
        ("names of results to Gemini", chat, gemini, results.clone()),
        ("names of results to Ollama", chat, Dialect::OllamaChat, results),
        #[cfg(feature = "bedrock")]
        ("tools that were called", chat, Dialect::BedrockConverse, called.clone()),
        ("names of calls", chat, Dialect::CohereChat, called),
        ("calls of results", gemini, chat, tied),
    ]
}

#[test]
fn very_many_things_among_very_many_others_are_found_in_time_of_their_bytes() {
    for (what, from, to, body) in looked_for() {
        let begun = Instant::now();
        let translated = translate::request(from, to, body.as_bytes(), &RequestContext::new("m"));
        let took = begun.elapsed();
        println!("{what}: {took:?} for {} KiB", body.len() / 1024);
        assert!(translated.is_ok(), "{what}: {:?}", translated.err());
        assert!(took < LONG, "{what}: {took:?} for {} KiB", body.len() / 1024);
    }
}

#[test]
fn names_of_an_answer_are_found_in_time_of_its_bytes() {
    let (gemini, chat) = (Dialect::GeminiGenerate, Dialect::OpenAiChat);
    let declared = numbered(99_000, |n| format!(r#"{{"name":"f.{n:05}"}}"#));
    let body = format!(r#"{{"contents":"hi","tools":[{{"functionDeclarations":[{declared}]}}]}}"#);
    let asked = translate::request(gemini, chat, body.as_bytes(), &RequestContext::new("m")).unwrap().asked;
    let calls = numbered(45_000, |n| format!(r#"{{"id":"c{n}","function":{{"name":"g{n}"}}}}"#));
    let said = format!(r#"{{"choices":[{{"message":{{"tool_calls":[{calls}]}}}}]}}"#);
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: false, signs_calls: false };
    let begun = Instant::now();
    translate::answer(chat, gemini, said.as_bytes(), &context).unwrap();
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
}
