//! Recorded traffic in OpenAI responses and Gemini told in every other dialect, and all other
//! traffic told in these two: the same rules as above, read by a reader of its own as well.

use super::*;
use pointsman::translate::is_pair;

const FOUR: [Dialect; 4] =
    [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::OpenAiResponses, Dialect::GeminiGenerate];

fn is_new(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::OpenAiResponses | Dialect::GeminiGenerate)
}

/// The other dialects of the four, but chat and messages to one another, which are above.
fn targets(from: Dialect) -> Vec<Dialect> {
    FOUR.into_iter().filter(|to| *to != from && (is_new(from) || is_new(*to)) && is_pair(*to, from)).collect()
}

fn exchanges() -> Vec<Recorded> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/corpus/exchanges", "../../shared/corpus/exchanges"];
    let Some(folder) = places.iter().map(|p| root.join(p)).find(|p| p.is_dir()) else {
        eprintln!("SKIPPED: no recorded traffic at ../shared/corpus; nothing was compared with it");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files.iter().filter_map(|file| any_exchange(&fs::read(file).unwrap())).collect()
}

fn any_exchange(text: &[u8]) -> Option<Recorded> {
    let value: Value = serde_json::from_slice(text).unwrap();
    let (dialect, member) = match value["api"].as_str()? {
        "openai.responses" => (Dialect::OpenAiResponses, "input"),
        "gemini.generateContent" | "gemini.streamGenerateContent" => (Dialect::GeminiGenerate, "contents"),
        _ => return exchange(text),
    };
    let request = value["request"]["body_json"].clone();
    let is_real = request.get(member).is_some() && request.get("_prompt_excerpt").is_none();
    Some(Recorded {
        id: value["id"].as_str()?.to_owned(),
        dialect,
        is_stream: value["streaming"] == true,
        body: value["response"]["body"].as_str()?.to_owned(),
        request: is_real.then_some(request),
        has_error: value["response"]["status"] != 200 || value["features"].to_string().contains("\"error"),
    })
}

/// The answers of a provider, without errors in a 200.
fn answers(is_stream: bool) -> Vec<Recorded> {
    let all = exchanges();
    all.into_iter().filter(|x| x.is_stream == is_stream && !x.has_error).collect()
}

pub(crate) fn hear(dialect: Dialect, body: &Value) -> Said {
    match dialect {
        Dialect::OpenAiResponses => hear_items(body),
        Dialect::GeminiGenerate => {
            let mut said = Said::default();
            hear_candidate(body, &mut said);
            said
        }
        _ => hear_answer(dialect, body),
    }
}

fn hear_items(response: &Value) -> Said {
    let mut said = Said::default();
    for item in response["output"].as_array().unwrap() {
        for part in item["content"].as_array().into_iter().flatten().filter(|_| item["type"] == "message") {
            said.text.push_str(words(&part["text"]));
            said.text.push_str(words(&part["refusal"]));
        }
        let list = |name: &str| -> Vec<String> {
            let parts = item[name].as_array().into_iter().flatten();
            parts.map(|part| words(&part["text"]).to_owned()).collect()
        };
        if item["type"] == "reasoning" {
            let summary = list("summary");
            let thoughts = if summary.is_empty() { list("content") } else { summary };
            said.thoughts.push_str(&thoughts.join("\n\n"));
        }
        if item["type"] == "function_call" {
            said.calls.push((words(&item["name"]).to_owned(), arguments(words(&item["arguments"]))));
        }
    }
    said.is_cut_short = response["incomplete_details"]["reason"] == "max_output_tokens";
    said
}

fn hear_candidate(body: &Value, said: &mut Said) {
    let candidate = &body["candidates"][0];
    for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
        let into = if part["thought"] == true { &mut said.thoughts } else { &mut said.text };
        into.push_str(words(&part["text"]));
        if let Some(call) = part.get("functionCall") {
            let args = call.get("args").cloned().unwrap_or_else(|| json!({}));
            said.calls.push((words(&call["name"]).to_owned(), args));
        }
    }
    said.is_cut_short |= candidate["finishReason"] == "MAX_TOKENS";
}

pub(crate) fn hear_events(dialect: Dialect, body: &str) -> Said {
    let mut said = Said::default();
    match dialect {
        Dialect::GeminiGenerate => events(body).iter().for_each(|event| hear_candidate(event, &mut said)),
        Dialect::OpenAiResponses => {
            let mut calls: Vec<(Value, String, String)> = Vec::new();
            for event in events(body) {
                let delta = words(&event["delta"]);
                match words(&event["type"]) {
                    "response.output_text.delta" | "response.refusal.delta" => said.text.push_str(delta),
                    "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                        said.thoughts.push_str(delta);
                    }
                    "response.reasoning_summary_part.added" if event["summary_index"] != 0 => {
                        said.thoughts.push_str("\n\n");
                    }
                    "response.output_item.added" if event["item"]["type"] == "function_call" => {
                        let name = words(&event["item"]["name"]).to_owned();
                        calls.push((event["output_index"].clone(), name, String::new()));
                    }
                    "response.function_call_arguments.delta" => {
                        let call = calls.iter_mut().rfind(|call| call.0 == event["output_index"]);
                        call.unwrap().2.push_str(delta);
                    }
                    "response.completed" | "response.incomplete" => {
                        said.is_cut_short =
                            event["response"]["incomplete_details"]["reason"] == "max_output_tokens";
                    }
                    _ => {}
                }
            }
            said.calls = calls.into_iter().map(|(_, name, text)| (name, arguments(&text))).collect();
        }
        _ => return hear_stream(dialect, body),
    }
    said
}

/// Checks the order that SDKs of the dialect rely on.
fn is_disordered(dialect: Dialect, stream: &str) -> Option<String> {
    match dialect {
        Dialect::OpenAiResponses => disordered_items(stream),
        Dialect::GeminiGenerate => {
            let events = events(stream);
            let is_end = |event: &&Value| event["candidates"][0]["finishReason"].is_string();
            let ends = events.iter().filter(is_end).count();
            let is_last = events.last().is_some_and(|e| is_end(&e) && e["usageMetadata"].is_object());
            let is_good = ends == 1 && is_last && stream.ends_with("\r\n\r\n") && !stream.contains("[DONE]");
            (!is_good).then(|| format!("{ends} ends, at the end {is_last}"))
        }
        _ => out_of_order(dialect, stream),
    }
}

fn disordered_items(stream: &str) -> Option<String> {
    let (mut open, mut next, mut last, mut done) = (false, 0, String::new(), Vec::new());
    for (at, event) in events(stream).into_iter().enumerate() {
        let kind = words(&event["type"]).to_owned();
        let is_here = event["output_index"] == next;
        let is_good = event["sequence_number"] == at
            && match kind.as_str() {
                "response.created" => at == 0 && event["response"]["status"] == "in_progress",
                "response.in_progress" => at == 1,
                "response.output_item.added" => !std::mem::replace(&mut open, true) && is_here,
                "response.output_item.done" => {
                    next += 1;
                    done.push(event["item"].clone());
                    std::mem::replace(&mut open, false) && is_here
                }
                "response.completed" | "response.incomplete" => {
                    !open
                        && event["response"]["output"] == json!(done)
                        && event["response"]["usage"].is_object()
                }
                _ => open && is_here && event["item_id"].is_string(),
            };
        if !is_good {
            return Some(format!("{event} after {last}"));
        }
        last = kind;
    }
    let is_end = last == "response.completed" || last == "response.incomplete";
    (!is_end).then(|| format!("ends with {last}"))
}

#[test]
fn every_recorded_answer_says_the_same_in_all_other_dialects() {
    let (mut wrong, mut count, asked) = (Vec::new(), 0, asked());
    for x in answers(false) {
        let whole: Value = serde_json::from_str(&x.body).unwrap();
        for to in targets(x.dialect) {
            count += 1;
            let body = match translate::answer(x.dialect, to, x.body.as_bytes(), &context(&asked)) {
                Ok(body) => body,
                Err(e) => {
                    wrong.push(format!("{}: {e}", x.id));
                    continue;
                }
            };
            let (want, got) = (hear(x.dialect, &whole), serde_json::from_slice(&body).unwrap());
            let got = without_broken_arguments(hear(to, &got), &want);
            if want != got {
                wrong.push(format!("{} to {to:?}\n  want {want:?}\n  got  {got:?}", x.id));
            }
        }
    }
    println!("{count} answers");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Recorded streams that are not whole, and why.
const BROKEN: [(&str, &str); 1] = [(
    "google-vertex__gemini-streamGenerateContent__sse__200__c3e466bd",
    "one candidate without content and without a reason for its end",
)];

#[test]
fn every_recorded_stream_says_the_same_in_all_other_dialects_however_it_is_cut() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (at, x) in answers(true).iter().enumerate() {
        for to in targets(x.dialect) {
            count += 1;
            let (whole, state) = streamed(x.dialect, to, &[Bytes::copy_from_slice(x.body.as_bytes())]);
            for mean in [2, 50, 3000] {
                let pieces = streamed(x.dialect, to, &cut(x.body.as_bytes(), at as u64, mean));
                assert_eq!(pieces, (whole.clone(), state), "{}", x.id);
            }
            let (want, got) = (hear_events(x.dialect, &x.body), hear_events(to, &whole));
            let got = without_broken_arguments(got, &want);
            if BROKEN.iter().any(|(id, _)| *id == x.id) {
                assert_eq!(state, State::Open, "{}", x.id);
                continue;
            }
            if state != State::Ended {
                wrong.push(format!("{} to {to:?}: {state:?}", x.id));
            } else if want != got {
                wrong.push(format!("{} to {to:?}\n  want {want:?}\n  got  {got:?}", x.id));
            }
            if let Some(problem) = is_disordered(to, &whole) {
                wrong.push(format!("{} to {to:?}: {problem}", x.id));
            }
        }
    }
    println!("{count} streams");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Collects the words of a request in any of the four, not those of thoughts.
fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(object) if object.get("type").is_some_and(|kind| kind == "reasoning") => {}
        Value::Object(object) if object.get("thought").is_some_and(|thought| *thought == true) => {}
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == "text" || name == "content" => texts.push(text.clone()),
                    _ if name == "content" || name == "parts" => collect(value, texts),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_recorded_request_is_said_in_all_other_dialects_with_all_its_words() {
    let (mut wrong, mut count, mut lossy) =
        (Vec::new(), 0, std::collections::BTreeMap::<String, usize>::new());
    for x in exchanges() {
        let Some(request) = &x.request else { continue };
        let mut texts = Vec::new();
        for name in ["input", "contents", "messages", "systemInstruction"] {
            collect(&request[name], &mut texts);
        }
        texts.extend(
            ["input", "instructions"].iter().filter_map(|name| request[name].as_str()).map(str::to_owned),
        );
        for to in targets(x.dialect) {
            count += 1;
            let context = RequestContext::new("target/model");
            let body = request.to_string();
            let translated = match translate::request(x.dialect, to, body.as_bytes(), &context) {
                Ok(translated) => translated,
                Err(e) => {
                    wrong.push(format!("{} to {to:?}: {e}", x.id));
                    continue;
                }
            };
            let body: Value = serde_json::from_slice(&translated.body).unwrap();
            assert_eq!(body["model"] == "target/model", to != Dialect::GeminiGenerate);
            let all = body.to_string();
            for text in texts.iter().filter(|text| !text.trim().is_empty()) {
                let escaped = Value::from(text.trim_end()).to_string();
                if !all.contains(escaped.trim_matches('"')) {
                    wrong.push(format!("{} to {to:?}: {text:?} is not in\n{all}", x.id));
                }
            }
            for loss in translated.lost.iter() {
                *lossy
                    .entry(format!("{}>{} {}", x.dialect.as_label(), to.as_label(), loss.as_label()))
                    .or_default() += 1;
            }
        }
    }
    println!("{count} requests, lost: {lossy:#?}");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
