//! Do recorded answers come out of the running program byte for byte?
//!
//! `corpus` runs the recordings through the rooms that read them; here they cross real sockets, cut
//! at odd places, and the client's copy is compared with the recording. 50 of them picked evenly,
//! all with `POINTSMAN_FULL=1`. Recordings that hold an error are left out: those move on.

use crate::process::{HEAD, Program, SOON, is_full, openai, skip};
use bytes::Bytes;
use pointsman::standin::caller::{BodyEnd, Call};
use pointsman::standin::{Provider, Reply};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Recordings that a usual run plays.
const SAMPLE: usize = 50;

struct Recording {
    id: String,
    api: String,
    is_stream: bool,
    content_type: String,
    body: Bytes,
}

fn corpus() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["../shared/corpus", "../../shared/corpus"]
        .iter()
        .map(|place| root.join(place))
        .find(|place| place.is_dir())
}

fn recordings(folder: &Path) -> Vec<Recording> {
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let is_ours = |entry: &&Value| {
        let is_good =
            entry["features"].as_array().unwrap().iter().all(|f| !f.as_str().unwrap().starts_with("error"));
        let apis = ["openai.chat", "openai.responses", "anthropic.messages"];
        entry["status"] == 200 && is_good && apis.contains(&entry["api"].as_str().unwrap())
    };
    let entries: Vec<&Value> = index["exchanges"].as_array().unwrap().iter().filter(is_ours).collect();
    let step = if is_full() { 1 } else { entries.len().div_ceil(SAMPLE).max(1) };
    let read = |entry: &&Value| {
        let text = std::fs::read(folder.join(entry["file"].as_str().unwrap())).unwrap();
        let whole: Value = serde_json::from_slice(&text).unwrap();
        let is_stream = whole["streaming"] == true;
        let usual = if is_stream { "text/event-stream" } else { "application/json" };
        Recording {
            id: whole["id"].as_str().unwrap().to_owned(),
            api: whole["api"].as_str().unwrap().to_owned(),
            is_stream,
            content_type: whole["response"]["headers"]["content-type"].as_str().unwrap_or(usual).to_owned(),
            body: Bytes::from(whole["response"]["body"].as_str().unwrap().to_owned()),
        }
    };
    entries.iter().step_by(step).map(read).collect()
}

/// Cuts bytes into pieces of odd lengths, the same each time; `turn` makes each recording's differ.
fn cut(body: &Bytes, turn: usize) -> Vec<Bytes> {
    let lengths = [1, 3, 7, 61, 5, 997, 2, 131, 17, 4093];
    let (mut pieces, mut at, mut step) = (Vec::new(), 0, turn);
    while at < body.len() {
        let end = (at + lengths[step % lengths.len()]).min(body.len());
        pieces.push(body.slice(at..end));
        (at, step) = (end, step + 1);
    }
    pieces
}

fn call_for(recording: &Recording) -> Call {
    let message = serde_json::json!([{"role": "user", "content": "x"}]);
    let stream = recording.is_stream;
    let (path, body) = match recording.api.as_str() {
        "openai.responses" => (
            "/v1/responses",
            serde_json::json!({"model": "any", "input": "x", "store": false, "stream": stream}),
        ),
        "anthropic.messages" => (
            "/v1/messages",
            serde_json::json!({"model": "any", "max_tokens": 9, "messages": message, "stream": stream}),
        ),
        _ => (
            "/v1/chat/completions",
            serde_json::json!({"model": "any", "messages": message, "stream": stream}),
        ),
    };
    Call::json(path, &body).limit(SOON)
}

#[tokio::test]
async fn recorded_answers_come_out_byte_for_byte() {
    let Some(folder) = corpus() else {
        return skip("recorded answers were not replayed: there is no ../shared/corpus");
    };
    let recordings = recordings(&folder);
    assert!(recordings.len() >= 40, "only {} recordings", recordings.len());
    let one = Provider::start(Reply::ok()).await.unwrap();
    let claude = Provider::start(Reply::ok()).await.unwrap();
    let program = Program::new(&format!(
        "{HEAD}log: {{format: json}}
cooldown: {{default: 0s, max: 0s}}
breaker: {{enabled: false}}
providers:
{}  claude: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_ONE}}}}]}}
routes:
  any: {{translation: none, targets: [{{provider: one, model: m}}, {{provider: claude, model: c}}]}}
",
        openai("one", &one.base_url(), "KEY_ONE"),
        claude.origin()
    ));
    let process = program.env("KEY_ONE", "sk-one-0123456789").start().await;
    let mut differences = Vec::new();
    for (turn, recording) in recordings.iter().enumerate() {
        let provider = if recording.api == "anthropic.messages" { &claude } else { &one };
        let reply = if recording.is_stream {
            Reply::events(cut(&recording.body, turn))
        } else {
            Reply::body(200, &recording.content_type, recording.body.clone())
        };
        provider.set_script(if turn % 3 == 2 { reply.close_delimited() } else { reply });
        let call = call_for(recording);
        let call = if turn % 5 == 4 { call.header("connection", "close") } else { call };
        match call.send(process.data).await {
            Ok(answer)
                if answer.status == 200 && answer.end == BodyEnd::Clean && answer.body == recording.body => {}
            Ok(answer) => {
                let same = answer.body.iter().zip(&recording.body).take_while(|(a, b)| a == b).count();
                let rest =
                    String::from_utf8_lossy(&answer.body[same..]).chars().take(300).collect::<String>();
                differences.push(format!(
                    "{}: {} {:?}, {} of {} bytes the same, then {rest:?}",
                    recording.id,
                    answer.status,
                    answer.end,
                    same,
                    recording.body.len()
                ));
            }
            Err(fault) => differences.push(format!("{}: {fault}", recording.id)),
        }
    }
    let all = recordings.len();
    eprintln!("{} of {all} recorded answers came out byte for byte", all - differences.len());
    assert!(differences.is_empty(), "{} of {all} differ:\n{}", differences.len(), differences.join("\n"));
}
