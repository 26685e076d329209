//! Are the dialects that only providers speak read as they were meant?
//!
//! Recorded answers and streams of Bedrock, Cohere and Ollama are read by a reader of this file's
//! own, and what our clients are told by that of `translate`; both must have heard the same,
//! however the stream was cut. The reader that decides over commit and completion (`wire`) must
//! pass them on unchanged and find content, end and usage in them.

use crate::translate::{
    Said, context, cut, hear_answer, hear_stream, out_of_order, streamed, without_broken_arguments, words,
};
use bytes::Bytes;
use pointsman::base::api::Dialect;
use pointsman::translate::{self, Asked, State};
use pointsman::wire::{StreamReader, answer};
use serde_json::Value;
use std::fs;
use std::path::Path;

const CLIENTS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::AnthropicMessages];

struct Recorded {
    id: String,
    dialect: Dialect,
    is_stream: bool,
    body: Vec<u8>,
}

fn recorded() -> Vec<Recorded> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/corpus/exchanges", "../../shared/corpus/exchanges"];
    let Some(folder) = places.iter().map(|p| root.join(p)).find(|p| p.is_dir()) else {
        eprintln!("SKIPPED: no recorded traffic at ../shared/corpus; nothing was compared with it");
        return Vec::new();
    };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files.iter().filter_map(|file| exchange(&fs::read(file).unwrap())).collect()
}

/// Reads an exchange of these dialects that went well.
fn exchange(text: &[u8]) -> Option<Recorded> {
    let value: Value = serde_json::from_slice(text).unwrap();
    let dialect = match value["api"].as_str()? {
        "bedrock.converse" | "bedrock.converseStream" if cfg!(feature = "bedrock") => {
            Dialect::BedrockConverse
        }
        "cohere.chat.v2" => Dialect::CohereChat,
        "ollama.chat" => Dialect::OllamaChat,
        _ => return None,
    };
    let response = &value["response"];
    let body = words(&response["body"]);
    let is_base64 = response["body_encoding"] == "base64";
    (response["status"] == 200).then(|| Recorded {
        id: words(&value["id"]).to_owned(),
        dialect,
        is_stream: value["streaming"] == true,
        body: if is_base64 { of_base64(body) } else { body.as_bytes().to_vec() },
    })
}

pub(crate) fn of_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> = text
        .bytes()
        .filter_map(|b| DIGITS.iter().position(|d| *d == b))
        .map(|d| u32::try_from(d).unwrap())
        .collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0, |bits, digit| (bits << 6) | digit) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}

/// Adds a block of Bedrock's answer or a delta of its stream.
fn hear_bedrock(block: &Value, said: &mut Said) {
    said.text.push_str(words(&block["text"]));
    for cited in block["citationsContent"]["content"].as_array().into_iter().flatten() {
        said.text.push_str(words(&cited["text"]));
    }
    let thought = &block["reasoningContent"];
    said.thoughts.push_str(words(&thought["text"]));
    said.thoughts.push_str(words(&thought["reasoningText"]["text"]));
}

pub(crate) fn hear_whole(dialect: Dialect, body: &Value) -> Said {
    let mut said = Said::default();
    if dialect == Dialect::BedrockConverse {
        for block in body["output"]["message"]["content"].as_array().unwrap() {
            hear_bedrock(block, &mut said);
            if let Some(call) = block.get("toolUse") {
                said.calls.push((words(&call["name"]).to_owned(), call["input"].clone()));
            }
        }
        said.is_cut_short = body["stopReason"] == "max_tokens";
        return said;
    }
    let message = &body["message"];
    said.text.push_str(words(&message["tool_plan"]));
    said.text.push_str(words(&message["content"]));
    said.thoughts.push_str(words(&message["thinking"]));
    for item in message["content"].as_array().into_iter().flatten() {
        said.text.push_str(words(&item["text"]));
        said.thoughts.push_str(words(&item["thinking"]));
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = &call["function"];
        let given = &function["arguments"];
        let given = given.as_str().map_or_else(|| given.clone(), crate::translate::arguments);
        said.calls.push((words(&function["name"]).to_owned(), given));
    }
    said.is_cut_short = body["finish_reason"] == "MAX_TOKENS" || body["done_reason"] == "length";
    said
}

/// Events with their names; frames without any look at their checksums.
pub(crate) fn events(dialect: Dialect, body: &[u8]) -> Vec<(String, Value)> {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    if dialect == Dialect::BedrockConverse {
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap()) as usize;
        let (mut at, mut found) = (0, Vec::new());
        while at < body.len() {
            let (total, headers) = (number(at), number(at + 4));
            let head = String::from_utf8_lossy(&body[at + 12..at + 12 + headers]).into_owned();
            let name = head.split(":event-type").nth(1).unwrap()[3..].split('\r').next().unwrap().to_owned();
            found.push((name, json(&body[at + 12 + headers..at + total - 4])));
            at += total;
        }
        return found;
    }
    let lines = body.split(|b| *b == b'\n');
    let data = lines.filter_map(|line| match dialect {
        Dialect::CohereChat => line.strip_prefix(b"data: ").filter(|data| *data != b"[DONE]"),
        _ => Some(line).filter(|line| !line.is_empty()),
    });
    data.map(|data| (String::new(), json(data))).collect()
}

pub(crate) fn hear_events(dialect: Dialect, body: &[u8]) -> Said {
    let mut said = Said::default();
    let mut calls: Vec<(String, String)> = Vec::new();
    for (name, event) in events(dialect, body) {
        match dialect {
            Dialect::BedrockConverse => {
                hear_bedrock(&event["delta"], &mut said);
                if let Some(call) = event["start"].get("toolUse") {
                    calls.push((words(&call["name"]).to_owned(), String::new()));
                }
                if let Some(call) = event["delta"].get("toolUse") {
                    calls.last_mut().unwrap().1.push_str(words(&call["input"]));
                }
                said.is_cut_short |= name == "messageStop" && event["stopReason"] == "max_tokens";
            }
            Dialect::CohereChat => {
                let message = &event["delta"]["message"];
                let content = &message["content"];
                said.text.push_str(words(&message["tool_plan"]));
                said.text.push_str(words(&content["text"]));
                said.thoughts.push_str(words(&content["thinking"]));
                let function = &message["tool_calls"]["function"];
                if event["type"] == "tool-call-start" {
                    calls.push((words(&function["name"]).to_owned(), String::new()));
                }
                if function.is_object() {
                    calls.last_mut().unwrap().1.push_str(words(&function["arguments"]));
                }
                said.is_cut_short |= event["delta"]["finish_reason"] == "MAX_TOKENS";
            }
            _ => {
                let heard = hear_whole(dialect, &event);
                said.text.push_str(&heard.text);
                said.thoughts.push_str(&heard.thoughts);
                said.calls.extend(heard.calls);
                said.is_cut_short |= heard.is_cut_short;
            }
        }
    }
    said.calls.extend(calls.into_iter().map(|(name, text)| (name, crate::translate::arguments(&text))));
    said
}

#[test]
fn every_recorded_answer_of_these_dialects_says_the_same_to_our_clients() {
    let asked = Asked { model: "target/model".to_owned(), ..Asked::default() };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for x in recorded().iter().filter(|x| !x.is_stream) {
        count += 1;
        let want = hear_whole(x.dialect, &serde_json::from_slice(&x.body).unwrap());
        let judged = answer::read(x.dialect, &x.body).unwrap_or_else(|e| panic!("{}: {e}", x.id));
        assert!(judged.usage.input.is_some() && judged.usage.output.is_some(), "{}", x.id);
        for to in CLIENTS {
            let body = translate::answer(x.dialect, to, &x.body, &context(&asked))
                .unwrap_or_else(|e| panic!("{}: {e}", x.id));
            let body: Value = serde_json::from_slice(&body).unwrap();
            let got = without_broken_arguments(hear_answer(to, &body), &want);
            if want != got {
                wrong.push(format!("{} {to:?}\n  want {want:?}\n  got  {got:?}", x.id));
            }
            let usage = &body["usage"];
            let output = usage["completion_tokens"].as_u64().or(usage["output_tokens"].as_u64());
            assert_eq!(output, judged.usage.output, "{}", x.id);
        }
    }
    println!("{count} answers");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_recorded_stream_of_these_dialects_says_the_same_however_it_is_cut() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (at, x) in recorded().iter().filter(|x| x.is_stream).enumerate() {
        count += 1;
        let want = hear_events(x.dialect, &x.body);
        for to in CLIENTS {
            let (whole, state) = streamed(x.dialect, to, &[Bytes::copy_from_slice(&x.body)]);
            for mean in [2, 50, 3000] {
                let pieces = streamed(x.dialect, to, &cut(&x.body, at as u64, mean));
                assert_eq!(pieces, (whole.clone(), state), "{}", x.id);
            }
            let got = without_broken_arguments(hear_stream(to, &whole), &want);
            if state != State::Ended || want != got {
                wrong.push(format!("{} {to:?}: {state:?}\n  want {want:?}\n  got  {got:?}", x.id));
            }
            wrong.extend(out_of_order(to, &whole).map(|problem| format!("{}: {problem}", x.id)));
        }
    }
    println!("{count} streams");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_recorded_stream_of_these_dialects_passes_unchanged_and_is_complete() {
    for (at, x) in recorded().iter().filter(|x| x.is_stream).enumerate() {
        for mean in [1, 40, 700, 1_000_000] {
            let (mut reader, mut released, mut began) = (StreamReader::new(x.dialect), Vec::new(), 0);
            let chunks = cut(&x.body, at as u64, mean);
            let pushed = chunks.into_iter().map(|chunk| reader.push(chunk)).collect::<Vec<_>>();
            for pushed in pushed.into_iter().chain([reader.finish()]) {
                released.extend(pushed.release.iter().flat_map(|b| b.iter().copied()));
                began += usize::from(pushed.content_began);
                assert_eq!(pushed.fault, None, "{}", x.id);
            }
            assert!(released == x.body, "{}: {} of {} bytes", x.id, released.len(), x.body.len());
            assert_eq!((reader.is_complete(), began), (true, 1), "{}", x.id);
            let usage = reader.usage();
            assert!(usage.input.is_some() && usage.output.is_some(), "{}: {usage:?}", x.id);
        }
    }
}

#[test]
fn a_stream_of_these_dialects_that_breaks_off_never_ends_normally() {
    for x in recorded().iter().filter(|x| x.is_stream) {
        let ends = ["messageStop", "event: message-end", "\"done\":true"].map(str::as_bytes);
        let end = ends.iter().find_map(|end| x.body.windows(end.len()).position(|bytes| bytes == *end));
        let half = end.unwrap_or_else(|| panic!("{}: no end", x.id));
        for to in CLIENTS {
            let (told, state) = streamed(x.dialect, to, &[Bytes::copy_from_slice(&x.body[..half])]);
            assert_eq!(state, State::Open, "{}", x.id);
            assert!(!told.contains("[DONE]") && !told.contains("message_stop"), "{}", x.id);
        }
    }
}
