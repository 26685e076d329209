//! Recorded provider traffic against the rooms that read bytes.
//!
//! Two sources: `tests/faults/*.jsonl`, which is ours, and a corpus of recorded exchanges that lies
//! beside the project and is not part of it. Where the corpus is absent its tests say so on
//! standard error and pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken test file should stop the test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::process::skip;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman::base::api::{Api, Dialect};
use pointsman::base::outcome::Outcome;
use pointsman::base::time::WallTime;
use pointsman::config::plan::Pattern;
use pointsman::wire::retry_hint::RetryHint;
use pointsman::wire::{StreamReader, answer};
use pointsman::{classify, parse, rewrite};
use serde_json::Value;

/// 2026-05-15T14:00:00Z.
const NOW: WallTime = WallTime(1_778_853_600_000);

struct Exchange {
    id: String,
    api: String,
    is_stream: bool,
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    request: Option<Value>,
    features: Vec<String>,
}

/// Reads what was recorded; nothing where it is not at hand.
fn exchanges() -> Option<Vec<Exchange>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/corpus/exchanges", "../../shared/corpus/exchanges"];
    let Some(folder) = places.iter().map(|p| root.join(p)).find(|p| p.is_dir()) else {
        skip("no recorded traffic at ../shared/corpus; nothing was compared with it");
        return None;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    Some(files.iter().filter_map(|file| exchange(&std::fs::read(file).unwrap())).collect())
}

/// Reads an exchange; none where its body is not text (Amazon's event streams).
fn exchange(text: &[u8]) -> Option<Exchange> {
    let value: Value = serde_json::from_slice(text).unwrap();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let response = &value["response"];
    if response["body_encoding"] == "base64" {
        return None;
    }
    let request = value["request"]["body_json"].clone();
    Some(Exchange {
        id: text(&value["id"]),
        api: text(&value["api"]),
        is_stream: value["streaming"] == true,
        status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
        headers: headers(&response["headers"]),
        body: Bytes::from(text(&response["body"])),
        request: (!request.is_null()).then_some(request),
        features: value["features"].as_array().unwrap().iter().map(text).collect(),
    })
}

fn headers(value: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for value in values {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
        }
    }
    headers
}

fn dialect_of(api: &str) -> Option<Dialect> {
    Some(match api {
        "openai.chat" => Dialect::OpenAiChat,
        "openai.completions" => Dialect::OpenAiCompletions,
        "openai.embeddings" => Dialect::OpenAiEmbeddings,
        "openai.responses" => Dialect::OpenAiResponses,
        "anthropic.messages" | "anthropic.countTokens" | "vertex.streamRawPredict" | "vertex.rawPredict" => {
            Dialect::AnthropicMessages
        }
        "gemini.generateContent" | "gemini.streamGenerateContent" => Dialect::GeminiGenerate,
        _ => return None,
    })
}

fn outcome_of(label: &str) -> Outcome {
    *Outcome::ALL.iter().find(|o| o.as_label() == label).unwrap_or_else(|| panic!("no outcome {label}"))
}

/// A small generator for places to cut at, seeded by the exchange: the same cuts every time.
struct Dice(u64);

impl Dice {
    fn seeded(text: &str) -> Self {
        Dice(
            text.bytes()
                .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)),
        )
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % n.max(1)
    }
}

/// What a stream came to.
struct Run {
    reader: StreamReader,
    released: Vec<u8>,
    fault: Option<Bytes>,
    began: usize,
}

fn run(dialect: Dialect, chunks: &[Bytes]) -> Run {
    let mut run = Run { reader: StreamReader::new(dialect), released: Vec::new(), fault: None, began: 0 };
    for at in 0..=chunks.len() {
        let pushed = match chunks.get(at) {
            Some(chunk) => run.reader.push(chunk.clone()),
            None => run.reader.finish(),
        };
        run.released.extend(pushed.release.iter().flat_map(|piece| piece.iter().copied()));
        run.began += usize::from(pushed.content_began);
        run.fault = run.fault.take().or(pushed.fault.map(|fault| fault.body));
    }
    run
}

fn cut_at_random(body: &Bytes, dice: &mut Dice, mean: usize) -> Vec<Bytes> {
    let mut rest = body.clone();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let size = (1 + dice.below(2 * mean)).min(rest.len());
        chunks.push(rest.split_to(size));
    }
    chunks
}

/// Corpus tags that our verdict differs from, by exchange, and why. A tag is a guess of those who
/// collected the traffic, made from status and body.
const DIFFERING: &[(&str, Outcome, &str)] = &[
    (
        "aws-bedrock__bedrock-converse__json__403__6514f658",
        Outcome::Auth,
        "tagged permission_denied by its 403; UnrecognizedClientException says the key is not known",
    ),
    (
        "llamacpp__openai-chat__json__500__420be611",
        Outcome::ClientError,
        "tagged server_error by its 500; the caller asked for schema and grammar at once",
    ),
    (
        "openrouter__openai-chat__json__400__8c865ac8",
        Outcome::ModelUnavailable,
        "tagged invalid_request by its 400; `is not a valid model ID`, another provider may have it",
    ),
    (
        "voyage__openai-embeddings__json__400__ed12c4dc",
        Outcome::ModelUnavailable,
        "tagged unsupported_feature; `Model nonexistent is not supported` names the model",
    ),
];

/// Recorded streams that hold an error under another tag than `error:`, which is so found.
const FAULTY: &[(&str, &str)] = &[(
    "google-vertex__gemini-streamGenerateContent__sse__200__c78c44ab",
    "broken off by an error object without framing",
)];

/// Recorded streams that hold no content, and why.
const WITHOUT_CONTENT: &[(&str, &str)] = &[
    ("google-vertex__gemini-streamGenerateContent__sse__200__9b026e4a", "the prompt was blocked"),
    ("google-vertex__gemini-streamGenerateContent__sse__200__c3e466bd", "a candidate with nothing in it"),
    ("mistral__openai-chat__sse__200__4ba0c9f2", "finish_reason length after one token of a tool call"),
    ("mistral__openai-chat__sse__200__c4d4a690", "finish_reason length after one token of a tool call"),
    ("openai__openai-chat__sse__200__918d96c7", "finish_reason length, all of it hidden reasoning"),
    ("writer__openai-completions__sse__200__80872786", "an own format: {\"value\":…}, no choices"),
];

#[test]
fn every_recorded_error_is_judged_as_tagged_or_with_a_reason_not_to() {
    let mut wrong = Vec::new();
    let mut seen = BTreeMap::<&str, usize>::new();
    let Some(all) = exchanges() else { return };
    for x in all {
        let mut tags = x.features.iter().filter_map(|f| f.strip_prefix("error:"));
        let Some(tag) = tags.find(|tag| !matches!(*tag, "in_stream" | "error_in_200")) else { continue };
        let want = match tag {
            "model_not_found" => Outcome::ModelUnavailable,
            "invalid_request" | "unsupported_feature" | "not_found" => Outcome::ClientError,
            "auth_invalid" => Outcome::Auth,
            "permission_denied" => Outcome::Permission,
            "server_error" | "tool_use_failed" => Outcome::ServerError,
            "rate_limit" => Outcome::RateLimited,
            "region_unsupported" => Outcome::Region,
            "context_length" => Outcome::ContextLength,
            "content_filter" => Outcome::ContentFiltered,
            "insufficient_quota" => Outcome::Quota,
            other => panic!("a new tag: {other}"),
        };
        let verdict = if x.status < 400 {
            let dialect = dialect_of(&x.api).unwrap();
            let fault = if x.is_stream {
                run(dialect, std::slice::from_ref(&x.body)).fault.expect("the stream holds an error")
            } else {
                assert!(
                    matches!(answer::read(dialect, &x.body), Err(answer::AnswerFault::Error(_))),
                    "{}",
                    x.id
                );
                x.body.clone()
            };
            classify::inband(&[], &fault, NOW)
        } else {
            classify::response(&[], x.status, &x.headers, &x.body, NOW)
        };
        let differing = DIFFERING.iter().find(|(id, ..)| *id == x.id);
        let want = differing.map_or(want, |(_, outcome, _)| *outcome);
        *seen.entry(verdict.outcome.as_label()).or_default() += 1;
        if verdict.outcome != want {
            let body = String::from_utf8_lossy(&x.body);
            wrong.push(format!("{}: {tag}: {verdict:?}\n    {:.300}", x.id, body.trim()));
        }
    }
    assert!(seen.values().sum::<usize>() >= 130, "{seen:?}");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Recorded streams that do not end as their dialect says, and why.
const INCOMPLETE: &[(&str, &str)] = &[
    (
        "google-vertex__gemini-streamGenerateContent__sse__200__c3e466bd",
        "recorded as a failure: no finishReason",
    ),
    ("writer__openai-completions__sse__200__80872786", "an own format without any end"),
];

#[test]
fn every_recorded_stream_passes_unchanged_however_it_is_cut_and_is_complete() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let Some(all) = exchanges() else { return };
    for x in all {
        let Some(dialect) = dialect_of(&x.api).filter(|_| x.is_stream && x.status == 200) else { continue };
        let is_events =
            x.headers.get("content-type").is_none_or(|v| v.as_bytes().starts_with(b"text/event-stream"));
        if !is_events || x.features.iter().any(|f| f.starts_with("error")) {
            continue;
        }
        let is_in = |list: &[(&str, &str)]| list.iter().any(|(id, _)| *id == x.id);
        count += 1;
        let mut dice = Dice::seeded(&x.id);
        let whole = run(dialect, std::slice::from_ref(&x.body));
        for mean in [1, 3, 40, 700] {
            let cut = run(dialect, &cut_at_random(&x.body, &mut dice, mean));
            assert!(x.body.starts_with(&cut.released), "{}: the bytes are not the provider's", x.id);
            assert_eq!(cut.fault, whole.fault, "{}", x.id);
            if (cut.released == x.body) == is_in(FAULTY) {
                wrong.push(format!("{}: {} bytes of {} released", x.id, cut.released.len(), x.body.len()));
            }
            assert_eq!(cut.reader.usage(), whole.reader.usage(), "{}", x.id);
            assert_eq!(cut.reader.is_complete(), whole.reader.is_complete(), "{}", x.id);
            assert_eq!(cut.began, whole.began, "{}", x.id);
        }
        if whole.fault.is_some() != is_in(FAULTY) {
            wrong.push(format!("{}: fault {:?}", x.id, whole.fault));
        }
        if whole.reader.is_complete() == is_in(INCOMPLETE) {
            let end = x.body.len().saturating_sub(300);
            let end = String::from_utf8_lossy(x.body.get(end..).unwrap_or_default());
            wrong.push(format!("{}: complete = {}\n    …{}", x.id, whole.reader.is_complete(), end.trim()));
        }
        if (whole.began == 0) != is_in(WITHOUT_CONTENT) {
            wrong.push(format!("{}: content began {} times", x.id, whole.began));
        }
        if x.features.iter().any(|f| f == "usage_in_stream") && whole.reader.usage().output.is_none() {
            wrong.push(format!("{}: usage not seen", x.id));
        }
    }
    assert!(count >= 300, "{count} streams");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_recorded_answer_is_read_without_fault() {
    let mut count = 0;
    let Some(all) = exchanges() else { return };
    for x in all {
        let Some(dialect) = dialect_of(&x.api).filter(|_| !x.is_stream && x.status == 200) else { continue };
        if x.features.iter().any(|f| f.starts_with("error")) {
            continue;
        }
        count += 1;
        let answer = answer::read(dialect, &x.body).unwrap_or_else(|fault| panic!("{}: {fault}", x.id));
        let has_usage =
            serde_json::from_slice::<Value>(&x.body).unwrap()["usage"]["completion_tokens"].is_u64();
        assert!(!has_usage || answer.usage.output.is_some(), "{}", x.id);
    }
    assert!(count >= 350, "{count} answers");
}

#[test]
fn every_recorded_request_is_parsed_and_rewritten_without_loss() {
    let mut count = 0;
    let Some(all) = exchanges() else { return };
    for x in all {
        let api = match x.api.as_str() {
            "openai.chat" => Api::ChatCompletions,
            "openai.completions" => Api::Completions,
            "openai.embeddings" => Api::Embeddings,
            "openai.responses" => Api::Responses,
            "anthropic.messages" => Api::Messages,
            "anthropic.countTokens" => Api::CountTokens,
            _ => continue,
        };
        let Some(mut request) = x.request.filter(Value::is_object) else { continue };
        count += 1;
        let body = Bytes::from(request.to_string());
        let parsed = parse::body(api, &body).unwrap_or_else(|fault| panic!("{}: {fault}", x.id));
        assert_eq!(
            parsed.model.as_deref().unwrap_or_default(),
            request["model"].as_str().unwrap_or_default()
        );
        assert_eq!(parsed.stream, request["stream"].as_bool().unwrap_or_default(), "{}", x.id);
        let rewritten = rewrite::body(&body, &parsed, "another/model:1", &[]).pieces.concat();
        request["model"] = "another/model:1".into();
        assert_eq!(serde_json::from_slice::<Value>(&rewritten).unwrap(), request, "{}", x.id);
    }
    assert!(count >= 600, "{count} requests");
}

#[test]
fn every_line_of_the_fault_files_gets_its_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults");
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()) {
        if file.extension().is_none_or(|e| e != "jsonl") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            count += 1;
            let at = format!("{}:{}", file.file_name().unwrap().to_string_lossy(), number + 1);
            let fault: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{at}: {e}"));
            if let Some(problem) = judge_line(&fault) {
                wrong.push(format!("{at}: {} {problem}", fault["why"]));
            }
        }
    }
    assert!(count >= 80, "{count} lines");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn pattern(line: &Value) -> Pattern {
    let statuses = line["status"].as_array().into_iter().flatten();
    let statuses: Vec<u16> = statuses.map(|s| u16::try_from(s.as_u64().unwrap()).unwrap()).collect();
    let outcome = outcome_of(line["outcome"].as_str().unwrap());
    Pattern::new(line["match"].as_str().unwrap(), &statuses, outcome).unwrap()
}

/// Judges one line `{kind, status, headers, body, outcome, why}`; optional: `retry_ms` (`-1` for
/// absurd), `account_wide`, `patterns` (`[{match, status, outcome}]`). Status 200 is an error inside
/// a 200. A body that is no string is sent as JSON.
fn judge_line(line: &Value) -> Option<String> {
    let body = line["body"].as_str().map_or_else(|| line["body"].to_string(), str::to_owned);
    let headers = headers(&line["headers"]);
    let patterns: Vec<Pattern> = line["patterns"].as_array().into_iter().flatten().map(pattern).collect();
    let verdict = match u16::try_from(line["status"].as_u64().unwrap()).unwrap() {
        200 => classify::inband(&patterns, body.as_bytes(), NOW),
        status => classify::response(&patterns, status, &headers, body.as_bytes(), NOW),
    };
    let retry_ms = match verdict.retry {
        RetryHint::None => Value::Null,
        RetryHint::Absurd => (-1).into(),
        RetryHint::After(span) => u64::try_from(span.as_millis()).unwrap().into(),
    };
    let account_wide = line.get("account_wide").unwrap_or(&Value::Bool(false)) == true;
    let fits = verdict.outcome == outcome_of(line["outcome"].as_str().unwrap())
        && retry_ms == line["retry_ms"]
        && (line.get("account_wide").is_none() || verdict.account_wide == account_wide);
    (!fits).then(|| format!("{} {body}\n    {verdict:?}", line["status"]))
}
