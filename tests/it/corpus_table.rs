//! Is every recorded success read as it was said, by provider and call?
//!
//! What is checked of each exchange:
//! * *Its request* is one that we take ([`endpoint`], `parse`): model and stream are read, for its
//!   own model it goes on byte for byte, and for another nothing but the model changes.
//! * *Its bytes*: cut at any place, a stream is released unchanged, and the reader that decides
//!   over commit and completion comes to what it comes to over the whole.
//! * *What it says*: text, calls, why it ended and tokens, read by this folder's own reader, are
//!   what every client dialect is told, from pieces as from the whole; and what a client of the
//!   provider's own dialect would be told of that again.
//!
//! Dialects that are not ours, and requests that no client can send us, pass as bytes. A difference
//! is a failure unless [`EXPLAINED`] has it. `make corpus` prints the table; it stands in
//! `docs/corpus.md`.

use crate::corpus_page;
use crate::recordings::{self, End, Recording, cut, documents, said};
use crate::stage::Stage;
use crate::translate::{Said, context, out_of_order, streamed, without_broken_arguments};
use bytes::Bytes;
use pointsman::base::api::{Api, Dialect};
use pointsman::route::{Endpoint, endpoint};
use pointsman::standin::caller::{BodyEnd, Call};
use pointsman::standin::{Provider, Reply};
use pointsman::translate::{self, Asked, State};
use pointsman::wire::{StreamReader, Usage, answer};
use pointsman::{parse, rewrite};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const CLIENTS: [Dialect; 4] =
    [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::GeminiGenerate];

/// Mean lengths of pieces: single bytes, pieces of events, several events at once.
const MEANS: [usize; 3] = [1, 60, 1500];

/// The same where an answer is told; single bytes were read above.
const TOLD_MEANS: [usize; 2] = [4, 300];

/// Differences that are as they should be: exchange, what the difference is, and why.
const EXPLAINED: &[(&str, &str, &str)] = &[
    (NOT_WHOLE, "the stream is not complete", "recorded as a failure: no content, no reason for its end"),
    (NOT_WHOLE, "anthropic.messages: the stream is told as Open", "what is not whole is not told as whole"),
    (NOT_WHOLE, "openai.chat: the stream is told as Open", "what is not whole is not told as whole"),
    (NOT_WHOLE, "openai.responses: the stream is told as Open", "what is not whole is not told as whole"),
    (
        "google-vertex__gemini-streamGenerateContent__sse__200__c78c44ab",
        "1159 of 1429 bytes are released",
        "broken off by an error object without framing, which is withheld as a fault",
    ),
    (
        "writer__openai-completions__sse__200__80872786",
        "the stream is not complete",
        "an own format, {\"value\":…}, which has no end",
    ),
    ("vercel-gateway__openai-chat__json__200__0db25e98", "tokens are", VERCEL),
    ("vercel-gateway__openai-chat__json__200__ac36d874", "tokens are", VERCEL),
    ("vercel-gateway__openai-chat__json__200__e1c9d785", "tokens are", VERCEL),
    ("vercel-gateway__openai-chat__sse__200__38742ecc", "tokens are", VERCEL),
    ("vercel-gateway__openai-chat__sse__200__4900b32b", "tokens are", VERCEL),
    ("vercel-gateway__openai-chat__sse__200__64b6578a", "tokens are", VERCEL),
];

const NOT_WHOLE: &str = "google-vertex__gemini-streamGenerateContent__sse__200__c3e466bd";
const VERCEL: &str = "more reasoning than answer: the gateway forgot to count it in, and we count it in";

/// What became of the exchanges of one provider and call.
#[derive(Default)]
struct Row {
    exchanges: usize,
    streams: usize,
    requests: usize,
    /// Told to this many clients of other dialects.
    told: usize,
    explained: usize,
    unexplained: usize,
}

// ---- requests ----

fn api(dialect: Dialect) -> Option<Api> {
    match dialect {
        Dialect::OpenAiChat => Some(Api::ChatCompletions),
        Dialect::OpenAiCompletions => Some(Api::Completions),
        Dialect::OpenAiEmbeddings => Some(Api::Embeddings),
        Dialect::OpenAiResponses => Some(Api::Responses),
        Dialect::AnthropicMessages => Some(Api::Messages),
        Dialect::GeminiGenerate => Some(Api::GenerateContent),
        // No client speaks these to us.
        Dialect::BedrockConverse | Dialect::CohereChat | Dialect::OllamaChat | Dialect::GenerateBridge => {
            None
        }
    }
}

/// The differences of a request.
fn of_request(recording: &Recording, api: Api, request: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let body = Bytes::from(request.to_string());
    let parsed = match parse::body(api, &body) {
        Ok(parsed) => parsed,
        Err(fault) => return vec![format!("the request is refused: {fault}")],
    };
    let model = request["model"].as_str();
    let (mut asked, mut streams) = (parsed.model.as_deref().map(str::to_owned), parsed.stream);
    if api == Api::GenerateContent {
        // Google's own hosts have more before the model than we ask our clients for.
        let path = recording.path.split('?').next().unwrap();
        let from = path.rfind("/models/").unwrap();
        match endpoint("POST", &format!("/v1beta{}", &path[from..])) {
            Endpoint::Llm(call) => {
                let in_path = call.in_path.unwrap();
                (asked, streams) = (model.map(str::to_owned), in_path.is_stream);
            }
            other => wrong.push(format!("the path is {other:?}")),
        }
    }
    if asked.as_deref() != model {
        wrong.push(format!("the model is read as {asked:?}"));
    }
    if streams != recording.is_stream {
        wrong.push(format!("the request is read as stream: {streams}"));
    }
    let written = |model: &str| rewrite::body(&body, &parsed, model, &[]).pieces.concat();
    if model.is_some_and(|model| written(model) != body) {
        wrong.push("the request changes on its way to its own model".to_owned());
    }
    let mut changed: Value = serde_json::from_slice(&written("another/model:1")).unwrap();
    if api != Api::GenerateContent {
        let members = changed.as_object_mut().unwrap();
        members.remove("model");
        model.map(|model| members.insert("model".to_owned(), model.into()));
    }
    if changed != *request {
        wrong.push("more than the model changes on the way to another".to_owned());
    }
    wrong
}

// ---- answers ----

/// What the reader that decides over commit and completion comes to.
#[derive(Debug, PartialEq)]
struct Judged {
    usage: Usage,
    is_complete: bool,
    was_filtered: bool,
    has_content: bool,
    fault: Option<Bytes>,
}

fn judged(dialect: Dialect, chunks: Vec<Bytes>) -> (Judged, Vec<u8>) {
    let (mut reader, mut released, mut fault) = (StreamReader::new(dialect), Vec::new(), None);
    for chunk in chunks.into_iter().map(Some).chain([None]) {
        let pushed = match chunk {
            Some(chunk) => reader.push(chunk),
            None => reader.finish(),
        };
        pushed.release.iter().for_each(|piece| released.extend_from_slice(piece));
        fault = fault.or(pushed.fault.map(|fault| fault.body));
    }
    let judged = Judged {
        usage: reader.usage(),
        is_complete: reader.is_complete(),
        was_filtered: reader.was_filtered(),
        has_content: reader.has_content(),
        fault,
    };
    (judged, released)
}

/// Tokens of input and output, read without the library: the last that were told.
fn counted(dialect: Dialect, documents: &[Value]) -> (Option<u64>, Option<u64>) {
    let places = [
        "/usage",
        "/response/usage",
        "/message/usage",
        "/delta/usage/tokens",
        "/usage/tokens",
        "/x_groq/usage",
        "",
    ];
    let last = |names: &[&str]| {
        let mut told = documents.iter().filter_map(|document| {
            let here = places.iter().filter_map(|place| document.pointer(place));
            here.flat_map(|at| names.iter().map(move |name| &at[*name])).find_map(Value::as_u64)
        });
        told.next_back()
    };
    let with = |count: Option<u64>, more: [&str; 2]| {
        count.map(|count| count + more.iter().filter_map(|name| last(&[name])).sum::<u64>())
    };
    let input = last(&["prompt_tokens", "input_tokens", "inputTokens", "prompt_eval_count"]);
    let output = last(&["completion_tokens", "output_tokens", "outputTokens", "eval_count"]);
    match dialect {
        Dialect::AnthropicMessages => {
            (with(input, ["cache_read_input_tokens", "cache_creation_input_tokens"]), output)
        }
        Dialect::BedrockConverse => (with(input, ["cacheReadInputTokens", "cacheWriteInputTokens"]), output),
        // Each report is whole: one without thoughts had none.
        Dialect::GeminiGenerate => {
            let usage = documents.iter().filter_map(|document| document.get("usageMetadata")).next_back();
            let count = |name: &str| usage.and_then(|usage| usage[name].as_u64());
            let (answer, thoughts) = (count("candidatesTokenCount"), count("thoughtsTokenCount"));
            let output = answer.or(thoughts).map(|_| answer.unwrap_or(0) + thoughts.unwrap_or(0));
            (count("promptTokenCount"), output)
        }
        Dialect::OpenAiChat
        | Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::OpenAiResponses
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::GenerateBridge => (input, output),
    }
}

/// Tokens of reasoning that xAI counts beside those of the answer in chat.
fn beside(recording: &Recording, documents: &[Value]) -> u64 {
    let reasoning = |document: &Value| {
        document.pointer("/usage/completion_tokens_details/reasoning_tokens").and_then(Value::as_u64)
    };
    let is_beside = recording.provider == "xai" && recording.api == "openai.chat";
    documents.iter().filter_map(reasoning).next_back().filter(|_| is_beside).unwrap_or(0)
}

/// The differences of an answer.
fn of_answer(recording: &Recording, dialect: Dialect, row: &mut Row) -> Vec<String> {
    let mut wrong = Vec::new();
    let usage = if recording.is_stream {
        let (whole, _) = judged(dialect, vec![recording.body.clone()]);
        for mean in MEANS {
            let (pieces, released) = judged(dialect, cut(recording, mean));
            if released != recording.body {
                wrong.push(format!("{} of {} bytes are released", released.len(), recording.body.len()));
            }
            if pieces != whole {
                wrong.push(format!("in pieces it is {pieces:?}, whole {whole:?}"));
            }
        }
        wrong.dedup();
        if !whole.is_complete {
            wrong.push("the stream is not complete".to_owned());
        }
        whole.usage
    } else {
        match answer::read(dialect, &recording.body) {
            Ok(answer) => answer.usage,
            Err(fault) => return vec![fault.to_string()],
        }
    };
    let documents = documents(dialect, recording.is_stream, &recording.body);
    let (input, output) = counted(dialect, &documents);
    let own = (input, output.map(|output| output + beside(recording, &documents)));
    if own != (usage.input, usage.output) {
        wrong.push(format!("tokens are {own:?}, and read as {:?}", (usage.input, usage.output)));
    }
    if !CLIENTS.iter().any(|to| translate::is_pair(*to, dialect)) {
        return wrong;
    }
    let want = said(dialect, recording.is_stream, &recording.body);
    let end = recordings::end(dialect, recording.is_stream, &recording.body, !want.calls.is_empty());
    let heard = Heard { said: want, end, usage };
    for to in CLIENTS.into_iter().filter(|to| translate::is_pair(*to, dialect)) {
        row.told += 1;
        let label = to.as_label();
        wrong.extend(of_telling(recording, dialect, to, &heard).map(|what| format!("{label}: {what}")));
    }
    wrong
}

/// What a recording says, and what is told of it must.
struct Heard {
    said: Said,
    end: End,
    usage: Usage,
}

/// The first difference between what was said and what a client is told, and between that and
/// what a client of the provider's own dialect would be told of it.
fn of_telling(recording: &Recording, from: Dialect, to: Dialect, heard: &Heard) -> Option<String> {
    let is_stream = recording.is_stream;
    let told = match told(is_stream, from, to, &recording.body) {
        Ok(told) => told,
        Err(what) => return Some(what),
    };
    let is_same = |mean: &usize| streamed(from, to, &cut(recording, *mean)).0.as_bytes() == told;
    if is_stream && !TOLD_MEANS.iter().all(is_same) {
        return Some("pieces are told otherwise than the whole".to_owned());
    }
    let problem = differs(to, is_stream, &told, heard);
    if problem.is_some() || !translate::is_pair(from, to) {
        return problem;
    }
    let back = match self::told(is_stream, to, from, &told) {
        Ok(back) => differs(from, is_stream, &back, heard),
        Err(what) => Some(what),
    };
    back.map(|what| format!("and back: {what}"))
}

/// What a client is told of a whole body.
fn told(is_stream: bool, from: Dialect, to: Dialect, body: &[u8]) -> Result<Vec<u8>, String> {
    if !is_stream {
        let asked = Asked { model: "target/model".to_owned(), ..Asked::default() };
        return translate::answer(from, to, body, &context(&asked)).map_err(|fault| fault.to_string());
    }
    let (told, state) = streamed(from, to, &[Bytes::copy_from_slice(body)]);
    if state == State::Ended {
        Ok(told.into_bytes())
    } else {
        Err(format!("the stream is told as {state:?}"))
    }
}

/// The first difference between what was said and what is told.
fn differs(to: Dialect, is_stream: bool, told: &[u8], heard: &Heard) -> Option<String> {
    let is_ordered = is_stream && matches!(to, Dialect::OpenAiChat | Dialect::AnthropicMessages);
    let text = std::str::from_utf8(told).unwrap();
    if let Some(problem) = is_ordered.then(|| out_of_order(to, text)).flatten() {
        return Some(problem);
    }
    let got = without_broken_arguments(said(to, is_stream, told), &heard.said);
    if got != heard.said {
        return Some(format!("said is {:?}, told {got:?}", heard.said));
    }
    let end = recordings::end(to, is_stream, told, !got.calls.is_empty());
    // Not all have a word for what went wrong; they say that the model was done.
    if heard.end != end && (heard.end, end) != (End::Other, End::Stop) {
        return Some(format!("it ended with {:?}, told is {end:?}", heard.end));
    }
    let counts = counted(to, &documents(to, is_stream, told));
    let is_told = |count: Option<u64>, told: Option<u64>| count.is_none_or(|count| told == Some(count));
    if !is_told(heard.usage.input, counts.0) || !is_told(heard.usage.output, counts.1) {
        return Some(format!("tokens are {:?}, told {counts:?}", heard.usage));
    }
    None
}

// ---- bytes ----

/// Sends recordings of dialects that are not ours through a proxy; tells which came out otherwise.
async fn passed(recordings: &[&Recording]) -> Vec<(String, String)> {
    let one = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes:\n  any: {{targets: [{{provider: one, model: m}}]}}\ndefault_route: any\n",
        crate::scene::provider("one", "openai", &one.base_url(), crate::scene::KEY_ONE, "")
    );
    let stage = Stage::open(&yaml).await;
    let mut wrong = Vec::new();
    for recording in recordings {
        one.set_script(if recording.is_stream {
            Reply::events(cut(recording, 60))
        } else {
            Reply::body(200, &recording.content_type, recording.body.clone())
        });
        let asked = recording.request.as_ref().map(Value::to_string).unwrap_or_default();
        let call =
            Call::post("/v1/rerank", Bytes::from(asked.clone())).header("content-type", "application/json");
        let answer = call.send(stage.data).await.unwrap();
        let seen = one.last().unwrap();
        if answer.status != 200 || answer.end != BodyEnd::Clean || answer.body != recording.body {
            wrong.push((recording.id.clone(), format!("{} {:?}", answer.status, answer.end)));
        }
        if seen.body != asked {
            wrong.push((recording.id.clone(), "the request changed".to_owned()));
        }
    }
    wrong
}

#[tokio::test]
async fn every_recorded_success_is_read_as_it_was_said() {
    let all = recordings::successes();
    if all.is_empty() {
        return;
    }
    let mut rows = BTreeMap::<(&str, &str), Row>::new();
    let mut wrong = Vec::new();
    let mut unused: Vec<_> = EXPLAINED.iter().map(|(id, what, _)| (*id, *what)).collect();
    let mut note = |recording: &Recording, row: &mut Row, what: &str| {
        let explained =
            EXPLAINED.iter().find(|(id, start, _)| *id == recording.id && what.starts_with(start));
        if let Some((id, start, _)) = explained {
            row.explained += 1;
            unused.retain(|entry| entry != &(*id, *start));
        } else {
            row.unexplained += 1;
            wrong.push(format!("{}: {what:.600}", recording.id));
        }
    };
    for recording in &all {
        let row = rows.entry((&recording.api, &recording.provider)).or_default();
        row.exchanges += 1;
        row.streams += usize::from(recording.is_stream);
        let Some(dialect) = recording.dialect else { continue };
        let mut found = Vec::new();
        if let (Some(api), Some(request)) = (api(dialect), &recording.request) {
            row.requests += 1;
            found = of_request(recording, api, request);
        }
        found.extend(of_answer(recording, dialect, row));
        for what in found {
            note(recording, row, &what);
        }
    }
    let others: Vec<&Recording> = all.iter().filter(|recording| recording.dialect.is_none()).collect();
    for (id, what) in passed(&others).await {
        let recording = all.iter().find(|recording| recording.id == id).unwrap();
        note(recording, rows.get_mut(&(&*recording.api, &*recording.provider)).unwrap(), &what);
    }
    let table = table(&rows);
    println!("{table}");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unused.is_empty(), "these differ no more: {unused:?}");
    corpus_page::write("table", &table);
}

fn table(rows: &BTreeMap<(&str, &str), Row>) -> String {
    let mut table = String::from(
        "| call | provider | exchanges | of them streams | requests parsed | told in other dialects | explained | unexplained |\n|---|---|---|---|---|---|---|---|\n",
    );
    let mut sum = Row::default();
    for ((api, provider), row) in rows {
        line(&mut table, api, provider, row);
        sum.exchanges += row.exchanges;
        sum.streams += row.streams;
        sum.requests += row.requests;
        sum.told += row.told;
        sum.explained += row.explained;
        sum.unexplained += row.unexplained;
    }
    line(&mut table, "**all**", "", &sum);
    table
}

fn line(table: &mut String, api: &str, provider: &str, row: &Row) {
    let Row { exchanges, streams, requests, told, explained, unexplained } = row;
    let _ = writeln!(
        table,
        "| {api} | {provider} | {exchanges} | {streams} | {requests} | {told} | {explained} | {unexplained} |"
    );
}
