//! What do small bodies cost that say very much? (Threat C8.)
//!
//! A million members fit into 12 MB, which is below `limits.max_body`. What comes of them must take time
//! and memory in proportion to their bytes, whether they are refused, passed on, or taken apart for a
//! provider of another dialect, where each of them becomes something bigger.

use crate::process::{HEAD, Process, Program, openai};
use bytes::Bytes;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Provider, Reply};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const MILLION: usize = 1_000_000;

/// How long one may take: the program of the tests is not optimised, the machine may be busy.
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
        ("stops", format!(r#""messages":[{turn}],"stop":[{}]"#, many("\"a\"", MILLION)), 200),
        ("turns that may be", format!(r#""messages":[{}]"#, many(turn, 90_000)), 200),
    ] {
        let answer = scene.takes(what, format!(r#"{{"model":"other",{body}}}"#)).await;
        assert_eq!(answer.status, taken_apart, "{what}: {}", answer.body_text());
    }
}
