//! Is what one dialect says said in another? (`src/translate`)
//!
//! *Golden*: everything in `tests/golden/translate` (`<case>.<dialect>.json` or `.sse`) is
//! translated to every dialect that it can be, and compared with
//! `<case>.<dialect>.to.<dialect>.…` beside it; `UPDATE_GOLDEN=1` writes those anew, to be
//! reviewed like code. *Recorded traffic*: what a provider said and what our client is told are
//! read by a reader of this file's own and must be the same, however the stream was cut.

pub(crate) mod others;

use bytes::Bytes;
use pointsman::base::api::Dialect;
use pointsman::translate::{self, AnswerContext, Asked, RequestContext, State, Stream};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const ALL: [(&str, Dialect); 8] = [
    ("chat", Dialect::OpenAiChat),
    ("responses", Dialect::OpenAiResponses),
    ("messages", Dialect::AnthropicMessages),
    ("gemini", Dialect::GeminiGenerate),
    ("bedrock", Dialect::BedrockConverse),
    ("cohere", Dialect::CohereChat),
    ("ollama", Dialect::OllamaChat),
    ("bridge", Dialect::GenerateBridge),
];

fn dialect(word: &str) -> Dialect {
    ALL.iter().find(|(name, _)| *name == word).unwrap_or_else(|| panic!("no dialect {word}")).1
}

pub(crate) fn asked() -> Asked {
    Asked { model: "target/model".to_owned(), stream: true, include_usage: true, ..Asked::default() }
}

pub(crate) fn context(asked: &Asked) -> AnswerContext<'_> {
    AnswerContext { asked, request_id: "req-1", now: 1_700_000_001, shows_thoughts: true, signs_calls: false }
}

pub(crate) fn streamed(from: Dialect, to: Dialect, chunks: &[Bytes]) -> (String, State) {
    let asked = asked();
    let mut stream = Stream::new(from, to, &context(&asked)).unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        stream.feed(chunk, &mut out);
    }
    let state = stream.finish(&mut out);
    (String::from_utf8(out).unwrap(), state)
}

// ---- golden ----

struct Case {
    path: PathBuf,
    stem: String,
    word: String,
    text: Vec<u8>,
}

fn cases(kind: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/translate").join(kind);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    paths.sort();
    let cases: Vec<Case> = paths.into_iter().filter_map(case).collect();
    assert!(!cases.is_empty(), "no cases of {kind}");
    cases
}

/// Reads an input; what was translated has `to` in its name.
fn case(path: PathBuf) -> Option<Case> {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let words: Vec<&str> = name.split('.').collect();
    let [stem, word, _] = words.as_slice() else { return None };
    let text = fs::read(&path).unwrap();
    Some(Case { stem: (*stem).to_owned(), word: (*word).to_owned(), text, path })
}

fn compare(case: &Case, to: &str, extension: &str, got: &str, wrong: &mut Vec<String>) {
    let path = case.path.with_file_name(format!("{}.{}.to.{to}.{extension}", case.stem, case.word));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, got).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    if want != got {
        wrong.push(format!("{}\n--- want\n{want}\n--- got\n{got}", path.display()));
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn assert_golden(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} differ (UPDATE_GOLDEN=1 writes them):\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn requests_are_said_as_the_golden_files_have_them() {
    let mut wrong = Vec::new();
    for case in cases("requests") {
        let from = dialect(&case.word);
        for (to, target) in ALL.iter().filter(|(_, target)| translate::is_pair(from, *target)) {
            let context = RequestContext::new("target/model");
            let translated = translate::request(from, *target, &case.text, &context)
                .unwrap_or_else(|e| panic!("{}: {e}", case.path.display()));
            let body: Value = serde_json::from_slice(&translated.body).unwrap();
            let lost = translated.lost.to_string();
            compare(&case, to, "json", &pretty(&json!({ "lost": lost, "body": body })), &mut wrong);
        }
    }
    assert_golden(&wrong);
}

#[test]
fn answers_are_said_as_the_golden_files_have_them() {
    let (mut wrong, asked) = (Vec::new(), asked());
    for case in cases("answers") {
        let from = dialect(&case.word);
        for (to, client) in ALL.iter().filter(|(_, client)| translate::is_pair(*client, from)) {
            let body = translate::answer(from, *client, &case.text, &context(&asked))
                .unwrap_or_else(|e| panic!("{}: {e}", case.path.display()));
            compare(&case, to, "json", &pretty(&serde_json::from_slice(&body).unwrap()), &mut wrong);
        }
    }
    assert_golden(&wrong);
}

#[test]
fn streams_are_said_as_the_golden_files_have_them() {
    let mut wrong = Vec::new();
    for case in cases("streams") {
        let from = dialect(&case.word);
        for (to, client) in ALL.iter().filter(|(_, client)| translate::is_pair(*client, from)) {
            let chunks: Vec<Bytes> = case.text.chunks(3).map(Bytes::copy_from_slice).collect();
            let (got, state) = streamed(from, *client, &chunks);
            assert_eq!(state, State::Ended, "{}", case.path.display());
            compare(&case, to, "sse", &got, &mut wrong);
        }
    }
    assert_golden(&wrong);
}

// ---- recorded traffic ----

/// What an answer says, read without the translator.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) thoughts: String,
    /// Names and arguments; `Null` where they are no JSON object.
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) is_cut_short: bool,
}

struct Recorded {
    id: String,
    dialect: Dialect,
    is_stream: bool,
    body: String,
    request: Option<Value>,
    has_error: bool,
}

fn recorded() -> Vec<Recorded> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/corpus/exchanges", "../../shared/corpus/exchanges"];
    let Some(folder) = places.iter().map(|p| root.join(p)).find(|p| p.is_dir()) else {
        eprintln!("SKIPPED: no recorded traffic at ../shared/corpus; nothing was compared with it");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files.iter().filter_map(|file| exchange(&fs::read(file).unwrap())).collect()
}

fn exchange(text: &[u8]) -> Option<Recorded> {
    let value: Value = serde_json::from_slice(text).unwrap();
    let dialect = match value["api"].as_str()? {
        "openai.chat" => Dialect::OpenAiChat,
        "anthropic.messages" => Dialect::AnthropicMessages,
        _ => return None,
    };
    let features = value["features"].to_string();
    let request = value["request"]["body_json"].clone();
    let is_real = request["messages"].is_array() && request.get("_prompt_excerpt").is_none();
    Some(Recorded {
        id: value["id"].as_str()?.to_owned(),
        dialect,
        is_stream: value["streaming"] == true,
        body: value["response"]["body"].as_str()?.to_owned(),
        request: is_real.then_some(request),
        has_error: value["response"]["status"] != 200 || features.contains("\"error"),
    })
}

fn other(dialect: Dialect) -> Dialect {
    if dialect == Dialect::OpenAiChat { Dialect::AnthropicMessages } else { Dialect::OpenAiChat }
}

pub(crate) fn arguments(text: &str) -> Value {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_default()
}

pub(crate) fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Adds what a chat message or a delta says.
fn hear_chat(message: &Value, said: &mut Said) {
    match &message["content"] {
        Value::String(text) => said.text.push_str(text),
        Value::Array(items) => {
            for item in items {
                said.text.push_str(words(&item["text"]));
                for thought in item["thinking"].as_array().into_iter().flatten() {
                    said.thoughts.push_str(words(&thought["text"]));
                }
            }
        }
        Value::Object(object) => said.text.push_str(&Value::from(object.clone()).to_string()),
        _ => {}
    }
    said.text.push_str(words(&message["refusal"]));
    let plain = ["reasoning_content", "reasoning"].map(|name| words(&message[name]));
    match plain.iter().find(|text| !text.is_empty()) {
        Some(text) => said.thoughts.push_str(text),
        None => {
            for detail in message["reasoning_details"].as_array().into_iter().flatten() {
                said.thoughts.push_str(words(&detail["text"]));
            }
        }
    }
}

pub(crate) fn hear_answer(dialect: Dialect, body: &Value) -> Said {
    let mut said = Said::default();
    if dialect == Dialect::OpenAiChat {
        for choice in body["choices"].as_array().unwrap() {
            let message = choice.get("message").unwrap_or(&choice["delta"]);
            hear_chat(message, &mut said);
            let old = message.get("function_call").filter(|call| call.is_object());
            let calls = message["tool_calls"].as_array().into_iter().flatten().map(|call| &call["function"]);
            for call in calls.chain(old).filter(|call| !words(&call["name"]).is_empty()) {
                let text = call["arguments"].as_str().map_or(call["arguments"].to_string(), str::to_owned);
                said.calls.push((words(&call["name"]).to_owned(), arguments(&text)));
            }
            said.is_cut_short |= choice["finish_reason"] == "length";
        }
        return said;
    }
    for block in body["content"].as_array().unwrap() {
        said.text.push_str(words(&block["text"]));
        said.thoughts.push_str(words(&block["thinking"]));
        if block["type"] == "tool_use" {
            said.calls.push((words(&block["name"]).to_owned(), block["input"].clone()));
        }
    }
    said.is_cut_short = body["stop_reason"] == "max_tokens";
    said
}

pub(crate) fn events(body: &str) -> Vec<Value> {
    // Gemini without `alt=sse`.
    if body.starts_with('[') {
        return serde_json::from_str(body).unwrap();
    }
    let body = body.replace("\r\n", "\n");
    let data =
        body.split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data:")));
    data.filter_map(|data| serde_json::from_str(data.trim()).ok()).collect()
}

pub(crate) fn hear_stream(dialect: Dialect, body: &str) -> Said {
    let mut said = Said::default();
    // Name and arguments of each call, by what ties its pieces.
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for event in events(body) {
        if dialect == Dialect::OpenAiChat {
            for choice in event["choices"].as_array().into_iter().flatten() {
                hear_chat(choice.get("delta").unwrap_or(&choice["message"]), &mut said);
                said.is_cut_short |= choice["finish_reason"] == "length";
                for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                    let tie = format!("{}/{}", choice["index"], call["index"]);
                    let id = words(&call["id"]);
                    let is_new = calls.last().is_none_or(|(last, ..)| {
                        !last.starts_with(&tie) || (!id.is_empty() && !last.ends_with(id))
                    });
                    let function = &call["function"];
                    if is_new {
                        calls.push((
                            format!("{tie}/{id}"),
                            words(&function["name"]).to_owned(),
                            String::new(),
                        ));
                    }
                    calls.last_mut().unwrap().2.push_str(words(&function["arguments"]));
                }
            }
            continue;
        }
        let (block, delta) = (&event["content_block"], &event["delta"]);
        if block["type"] == "tool_use" {
            calls.push((event["index"].to_string(), words(&block["name"]).to_owned(), String::new()));
        }
        said.text.push_str(words(&block["text"]));
        said.text.push_str(words(&delta["text"]));
        said.thoughts.push_str(words(&delta["thinking"]));
        let index = event["index"].to_string();
        if let Some(call) = calls.last_mut().filter(|call| call.0 == index) {
            call.2.push_str(words(&delta["partial_json"]));
        }
        said.is_cut_short |= delta["stop_reason"] == "max_tokens";
    }
    said.calls = calls.into_iter().map(|(_, name, text)| (name, arguments(&text))).collect();
    said
}

/// Arguments that are no JSON object reach an Anthropic client inside one.
pub(crate) fn without_broken_arguments(mut said: Said, from: &Said) -> Said {
    for (call, original) in said.calls.iter_mut().zip(&from.calls) {
        if original.1.is_null() {
            call.1 = Value::Null;
        }
    }
    said
}

/// Recorded answers that we tell otherwise, and why.
const DIFFERING: &[(&str, &str)] = &[];

#[test]
fn every_recorded_answer_says_the_same_in_the_other_dialect() {
    let (mut wrong, mut count, asked) = (Vec::new(), 0, asked());
    for x in recorded().iter().filter(|x| !x.is_stream && !x.has_error) {
        count += 1;
        let whole: Value = serde_json::from_str(&x.body).unwrap();
        let to = other(x.dialect);
        let body = translate::answer(x.dialect, to, x.body.as_bytes(), &context(&asked))
            .unwrap_or_else(|e| panic!("{}: {e}", x.id));
        let (want, got) = (hear_answer(x.dialect, &whole), serde_json::from_slice(&body).unwrap());
        let got = without_broken_arguments(hear_answer(to, &got), &want);
        if want != got && !DIFFERING.iter().any(|(id, _)| *id == x.id) {
            wrong.push(format!("{}\n  want {want:?}\n  got  {got:?}", x.id));
        }
    }
    println!("{count} answers");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// A small generator for places to cut at.
pub(crate) fn cut(body: &[u8], seed: u64, mean: usize) -> Vec<Bytes> {
    let (mut rest, mut dice, mut chunks) = (Bytes::copy_from_slice(body), seed | 1, Vec::new());
    while !rest.is_empty() {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let size = 1 + usize::try_from(dice >> 11).unwrap() % (2 * mean);
        chunks.push(rest.split_to(size.min(rest.len())));
    }
    chunks
}

#[test]
fn every_recorded_stream_says_the_same_in_the_other_dialect_however_it_is_cut() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (at, x) in recorded().iter().filter(|x| x.is_stream && !x.has_error).enumerate() {
        count += 1;
        let to = other(x.dialect);
        let (whole, state) = streamed(x.dialect, to, &[Bytes::copy_from_slice(x.body.as_bytes())]);
        for mean in [2, 50, 3000] {
            let pieces = streamed(x.dialect, to, &cut(x.body.as_bytes(), at as u64, mean));
            assert_eq!(pieces, (whole.clone(), state), "{}", x.id);
        }
        let (want, got) = (hear_stream(x.dialect, &x.body), hear_stream(to, &whole));
        let got = without_broken_arguments(got, &want);
        if state != State::Ended {
            wrong.push(format!("{}: {state:?}", x.id));
        } else if want != got && !DIFFERING.iter().any(|(id, _)| *id == x.id) {
            wrong.push(format!("{}\n  want {want:?}\n  got  {got:?}", x.id));
        }
        if let Some(problem) = out_of_order(to, &whole) {
            wrong.push(format!("{}: {problem}", x.id));
        }
    }
    println!("{count} streams");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Checks the order that SDKs of the dialect rely on.
pub(crate) fn out_of_order(dialect: Dialect, stream: &str) -> Option<String> {
    if dialect == Dialect::OpenAiChat {
        let events = events(stream);
        let first = events.first().is_some_and(|e| e["choices"][0]["delta"]["role"] == "assistant");
        let finishes = events.iter().filter(|e| e["choices"][0]["finish_reason"].is_string()).count();
        let usages = events.iter().filter(|e| e["usage"].is_object() && e["choices"] == json!([])).count();
        let is_good = first && finishes == 1 && usages == 1 && stream.ends_with("data: [DONE]\n\n");
        return (!is_good).then(|| format!("role {first}, {finishes} finishes, {usages} usages"));
    }
    let (mut open, mut next, mut last) = (None, 0, String::new());
    for event in events(stream) {
        let kind = words(&event["type"]).to_owned();
        let index = event["index"].as_u64();
        let is_good = match kind.as_str() {
            "message_start" => last.is_empty(),
            "content_block_start" => open.replace(next).is_none() && index == Some(next),
            "content_block_delta" => open == index && open.is_some(),
            "content_block_stop" => {
                next += 1;
                open.take() == index
            }
            "message_delta" => open.is_none() && event["delta"]["stop_reason"].is_string(),
            "message_stop" => last == "message_delta",
            "ping" => !last.is_empty(),
            _ => false,
        };
        if !is_good {
            return Some(format!("{event} after {last}"));
        }
        last = kind;
    }
    (last != "message_stop").then(|| format!("ends with {last}"))
}

#[test]
fn every_recorded_request_is_said_in_the_other_dialect_with_all_its_words() {
    let (mut count, mut lossy) = (0, std::collections::BTreeMap::<String, usize>::new());
    for x in recorded() {
        let Some(request) = x.request else { continue };
        count += 1;
        let to = other(x.dialect);
        let context = RequestContext::new("target/model");
        let translated = translate::request(x.dialect, to, request.to_string().as_bytes(), &context)
            .unwrap_or_else(|e| panic!("{}: {e}", x.id));
        let body: Value = serde_json::from_slice(&translated.body).unwrap();
        assert_eq!(body["model"], "target/model");
        assert_eq!(body["stream"] == true, request["stream"] == true, "{}", x.id);
        let mut texts = Vec::new();
        collect_texts(&request["messages"], &mut texts);
        collect_texts(&request["system"], &mut texts);
        let all = body.to_string();
        for text in texts.iter().filter(|text| !text.trim().is_empty()) {
            let escaped = Value::from(text.trim_end()).to_string();
            assert!(all.contains(escaped.trim_matches('"')), "{}: {text:?} is not in\n{all}", x.id);
        }
        for loss in translated.lost.iter() {
            *lossy.entry(loss.as_label().to_owned()).or_default() += 1;
        }
    }
    println!("{count} requests, lost: {lossy:?}");
}

/// Collects the texts of messages and system, not those of thoughts.
fn collect_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(object)
            if matches!(object.get("type").and_then(Value::as_str), Some("text" | "tool_result") | None) =>
        {
            for name in ["content", "text"] {
                collect_texts(object.get(name).unwrap_or(&Value::Null), texts);
            }
        }
        _ => {}
    }
}

// ---- the page ----

const BEGIN: &str = "<!-- written from what is lost, by a test -->\n";
const END: &str = "<!-- end of what is written -->\n";

/// Requests that say as much as their dialect can, beside those of the golden files.
fn full_requests() -> Vec<(Dialect, Value)> {
    let image =
        json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}});
    let drawn = json!({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AAAA"}});
    let audio = json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}});
    let file = json!({"type": "file", "file": {"file_id": "file-1"}});
    let named = json!({"name": "look", "parameters": {"type": "object"}, "strict": true});
    let chat = json!({
        "model": "m", "n": 2, "seed": 1, "stop": ["a", "b", "c", "d", "e", "f"], "temperature": 1.5, "top_p": 0.5,
        "presence_penalty": 1, "frequency_penalty": 1, "logprobs": true, "top_logprobs": 2,
        "user": "u@example.com", "metadata": {"a": "b"}, "reasoning_effort": "high", "parallel_tool_calls": false,
        "response_format": {"type": "json_object"}, "logit_bias": {"1": 2}, "max_completion_tokens": 5,
        "tools": [{"type": "function", "function": named}, {"type": "custom", "custom": {"name": "c"}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "messages": [
            {"role": "user", "name": "ann", "content": [{"type": "text", "text": "t"}, image, drawn, audio, file]},
            {"role": "assistant", "content": "said"},
            {"role": "system", "content": "later"},
            {"role": "user", "content": "go"},
        ],
    });
    let mark = json!({"type": "ephemeral"});
    let block = |source: Value| json!({"type": "document", "source": source});
    let text = json!({"type": "text", "media_type": "text/plain", "data": "d"});
    let cited = json!({"type": "document", "source": text, "title": "t", "citations": {"enabled": true}});
    let schema = json!({"type": "json_schema", "schema": {"type": "string"}});
    let result = json!({"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": "no"});
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    let call = json!({"type": "tool_use", "id": "t1", "name": "look", "input": {}});
    let server = json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}});
    let messages = json!({
        "model": "m", "max_tokens": 9000, "top_k": 5, "temperature": 1, "stop_sequences": ["a"],
        "metadata": {"user_id": "u".repeat(65)}, "thinking": {"type": "enabled", "budget_tokens": 2000},
        "service_tier": "auto", "container": "c", "output_config": {"format": schema},
        "system": [{"type": "text", "text": "s", "cache_control": mark}],
        "tools": [
            {"name": "look", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "t"},
                block(json!({"type": "url", "url": "https://example.com/a.pdf"})),
                cited,
                {"type": "image", "source": {"type": "file", "file_id": "f"}},
            ]},
            {"role": "assistant", "content": [thought, server, call]},
            {"role": "user", "content": [result]},
        ],
    });
    vec![(Dialect::OpenAiChat, chat), (Dialect::AnthropicMessages, messages)]
}

fn lost_between(from: Dialect, to: Dialect) -> translate::Losses {
    let golden = cases("requests").into_iter().filter(|case| dialect(&case.word) == from);
    let full = full_requests().into_iter().filter(|(own, _)| *own == from);
    let bodies = golden.map(|case| case.text).chain(full.map(|(_, body)| body.to_string().into_bytes()));
    let any = RequestContext::new("target/model");
    // Whoever is known to take least.
    let model = if to == Dialect::GeminiGenerate { "gemini-3-pro" } else { "o3" };
    let strictest = RequestContext { server: translate::Server::OpenAi, ..RequestContext::new(model) };
    let mut all = translate::Losses::default();
    for body in bodies {
        for context in [&any, &strictest] {
            let lost = translate::request(from, to, &body, context).unwrap().lost;
            lost.iter().for_each(|loss| all.add(loss));
        }
    }
    all
}

#[test]
fn the_page_of_translation_lists_what_each_pair_leaves_out() {
    let mut table = String::from("| from | to | lost | only hints |\n|---|---|---|---|\n");
    for ((from, client), (to, target)) in ALL.iter().flat_map(|from| ALL.iter().map(move |to| (from, to))) {
        if !translate::is_pair(*client, *target) {
            continue;
        }
        let lost = lost_between(*client, *target);
        let words = |are_hints: bool| {
            let words: Vec<&str> = lost
                .iter()
                .filter(|loss| loss.is_hint() == are_hints)
                .map(translate::Loss::as_label)
                .collect();
            words.join(", ")
        };
        table += &["| ", from, " | ", to, " | ", &words(false), " | ", &words(true), " |\n"].concat();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/translation.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let want = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, want).unwrap();
        return;
    }
    assert!(page == want, "docs/translation.md is not what is lost; UPDATE_GOLDEN=1 writes it:\n{table}");
}
