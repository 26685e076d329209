//! What a provider would refuse is not sent to it, and what a client would be refused for later is
//! not handed out; what came broken or by turns comes out whole or as a fault.

use super::*;
use serde_json::{Value, json};

const RESPONSES: Dialect = Dialect::OpenAiResponses;
const GEMINI: Dialect = Dialect::GeminiGenerate;
const CONVERSE: Dialect = Dialect::BedrockConverse;
const CLIENTS: [Dialect; 3] = [MESSAGES, RESPONSES, GEMINI];

fn sent(body: &Value, from: Dialect, to: Dialect, context: &RequestContext<'_>) -> (Value, Losses) {
    let translated = request(from, to, body.to_string().as_bytes(), context).unwrap();
    (serde_json::from_slice(&translated.body).unwrap(), translated.lost)
}

fn sent_plain(body: &Value, from: Dialect, to: Dialect) -> (Value, Losses) {
    sent(body, from, to, &plain())
}

fn handed(said: &Value, from: Dialect, to: Dialect, has_home: bool) -> Value {
    let asked = Asked::default();
    let context = AnswerContext {
        asked: &asked,
        request_id: "r",
        now: 0,
        shows_thoughts: !has_home,
        signs_calls: has_home,
    };
    serde_json::from_slice(&answer(from, to, said.to_string().as_bytes(), &context).unwrap()).unwrap()
}

fn chunk(delta: &Value, finish: &Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    format!("data: {}\n\n", json!({"id": "c", "choices": [choice]}))
}

fn piece(index: u64, name: Option<&str>, arguments: &str) -> Value {
    let function = match name {
        Some(name) => json!({"name": name, "arguments": arguments}),
        None => json!({"arguments": arguments}),
    };
    let id = name.map(|name| format!("id_{name}"));
    json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
}

#[test]
fn calls_whose_pieces_come_by_turns_reach_every_client_whole() {
    let deltas = [
        piece(0, Some("f"), ""),
        piece(1, Some("g"), ""),
        piece(0, None, "{\"a\":"),
        json!({"content": "meanwhile"}),
        piece(1, None, "{\"b\":2}"),
        piece(0, None, "1}"),
        piece(2, Some("h"), "null"),
    ];
    let mut text: String = deltas.iter().map(|delta| chunk(delta, &Value::Null)).collect();
    text += &chunk(&json!({}), &json!("tool_calls"));
    text += "data: [DONE]\n\n";
    for to in CLIENTS {
        let (out, state) = told(CHAT, to, &text);
        assert_eq!(state, State::Ended, "{to:?}");
        let found: Vec<String> = out
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
            .filter_map(|event| match to {
                MESSAGES => {
                    let name = event["content_block"]["name"].as_str();
                    name.or(event["delta"]["partial_json"].as_str()).map(str::to_owned)
                }
                RESPONSES if event["type"] == "response.function_call_arguments.done" => {
                    Some(format!("{}{}", event["name"].as_str()?, event["arguments"].as_str()?))
                }
                GEMINI => {
                    let call = &event["candidates"][0]["content"]["parts"][0]["functionCall"];
                    Some(format!("{}{}", call["name"].as_str()?, call["args"]))
                }
                _ => None,
            })
            .collect();
        assert_eq!(found.concat(), "f{\"a\":1}g{\"b\":2}h{}", "{to:?}: {out}");
        assert!(out.contains("meanwhile"), "{to:?}");
    }
}

#[test]
fn half_an_emoji_waits_for_the_other_half_and_is_never_told_as_an_escape() {
    let chunk = |text: &str| {
        format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        )
    };
    for (pieces, want) in [(&["a\\ud83d", "\\ude00b"][..], "a\u{1f600}b"), (&["a\\ud83d"], "a\u{fffd}")] {
        let text: String = pieces.iter().map(|piece| chunk(piece)).collect();
        let (out, state) = told(CHAT, GEMINI, &format!("{text}data: [DONE]\n\n"));
        let texts: String = out
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
            .filter_map(|event| {
                Some(event["candidates"][0]["content"]["parts"][0]["text"].as_str()?.to_owned())
            })
            .collect();
        assert_eq!((state, texts.as_str()), (State::Ended, want));
    }
    let lone = br#"{"messages":[{"role":"user","content":"a\ud83d"}]}"#;
    let body = request(CHAT, MESSAGES, lone, &plain()).unwrap().body;
    assert!(String::from_utf8(body).unwrap().contains("a\u{fffd}"));
}

#[test]
fn an_answer_hands_out_no_proof_that_a_target_of_the_client_s_own_dialect_refuses() {
    let said = json!({"id": "msg_1", "model": "c", "stop_reason": "tool_use", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "c2Vj"},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
    ]});
    let kinds = |answer: &Value| -> Vec<String> {
        answer["output"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["type"].as_str().unwrap().to_owned())
            .collect()
    };
    let home = handed(&said, MESSAGES, RESPONSES, true);
    assert_eq!(kinds(&home), ["message", "function_call", "function_call"]);
    let away = handed(&said, MESSAGES, RESPONSES, false);
    assert_eq!(kinds(&away)[..2], ["reasoning", "reasoning"], "nobody refuses them there");
    let home = handed(&said, MESSAGES, GEMINI, true);
    let parts = home["candidates"][0]["content"]["parts"].as_array().unwrap();
    assert_eq!(parts[0], json!({"text": "hm", "thought": true}), "thoughts without a proof are no fault");
    assert_eq!(parts[2]["thoughtSignature"], "skip/thought/signature/validator");
    assert_eq!((parts.len(), parts[3].get("thoughtSignature")), (4, None), "the first of an answer alone");
    let back =
        json!({"contents": [{"role": "user", "parts": [{"text": "q"}]}, home["candidates"][0]["content"]]});
    let (body, _) = sent_plain(&back, GEMINI, CHAT);
    assert!(!body.to_string().contains("validator"));
}

#[test]
fn a_stream_hands_out_no_such_proof_either() {
    let text = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n\
        data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n\
        data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n\
        data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"c2ln\"}}\n\n\
        data: {\"type\":\"content_block_stop\"}\n\n\
        data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\n\n\
        data: {\"type\":\"content_block_stop\"}\n\n\
        data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
    let asked = Asked::default();
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: false, signs_calls: true };
    for (to, has, lacks) in [
        (RESPONSES, "function_call", "\"type\":\"reasoning\""),
        (GEMINI, "skip/thought/signature/validator", "sealedBy"),
    ] {
        let mut stream = Stream::new(MESSAGES, to, &context).unwrap();
        let mut out = Vec::new();
        stream.feed(&Bytes::from(text), &mut out);
        assert_eq!(stream.finish(&mut out), State::Ended, "{to:?}");
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains(has) && !out.contains(lacks), "{to:?}: {out}");
    }
}

#[test]
fn google_s_signature_goes_to_google_s_servers_alone() {
    let call = json!({"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "Cv=="});
    let body =
        json!({"contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [call]}]});
    for (model, want) in [("gpt-4o", false), ("gemini-3-pro", true)] {
        let (body, lost) = sent(&body, GEMINI, CHAT, &RequestContext::new(model));
        assert_eq!(body.to_string().contains("Cv=="), want, "{model}");
        assert_eq!(lost.has(Loss::ThinkingHistory), !want, "{model}");
    }
}

#[test]
fn mistral_gets_ids_of_nine_and_calls_and_results_stay_tied() {
    let body = json!({"max_tokens": 9, "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_01A", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01A", "content": "r"}]},
    ]});
    let context = RequestContext { server: Server::Mistral, ..plain() };
    let (body, _) = sent(&body, MESSAGES, CHAT, &context);
    let id = body["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!(body["messages"][2]["tool_call_id"], id);
}

#[test]
fn a_schema_is_said_as_its_target_takes_it() {
    let open =
        json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}, "required": ["a"]});
    let ask = |schema: &Value| {
        let config = json!({"responseMimeType": "application/json", "responseJsonSchema": schema});
        json!({"contents": [{"parts": [{"text": "q"}]}], "generationConfig": config})
    };
    let openai = RequestContext { server: Server::OpenAi, ..plain() };
    let (body, lost) = sent(&ask(&open), GEMINI, CHAT, &openai);
    assert_eq!(body["response_format"]["json_schema"].get("strict"), None, "it would be refused");
    assert!(lost.has(Loss::OutputFormat));
    let (body, lost) = sent(&ask(&json!({"type": "string", "enum": ["a"]})), GEMINI, CHAT, &openai);
    assert_eq!((body.get("response_format"), lost.has(Loss::OutputFormat)), (None, true));
    let (body, lost) = sent_plain(&ask(&open), GEMINI, MESSAGES);
    let schema = &body["output_config"]["format"]["schema"];
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["a"], json!({"type": "string", "description": "{minLength: 2}"}));
    assert!(lost.has(Loss::OutputFormat));
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    for to in [CHAT, RESPONSES, MESSAGES] {
        let (body, lost) = sent(&ask(&closed), GEMINI, to, &openai);
        assert!(lost.is_empty() && body.to_string().contains("additionalProperties"), "{to:?} {lost:?}");
    }
}

#[test]
fn what_a_document_asks_for_and_media_of_one_dialect_are_named_as_lost() {
    let ask = |block: Value| json!({"max_tokens": 9, "messages": [{"role": "user", "content": [block]}]});
    let text = json!({"type": "text", "media_type": "text/plain", "data": "words"});
    for (more, want) in [
        (json!({"citations": {"enabled": true}}), Some(Loss::UnknownMember)),
        (json!({"citations": {"enabled": false}}), None),
        (json!({"context": "c"}), Some(Loss::Caption)),
        (json!({"title": "t"}), Some(Loss::Caption)),
    ] {
        let mut block = json!({"type": "document", "source": text});
        block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (_, lost) = sent_plain(&ask(block), MESSAGES, CHAT);
        assert_eq!(lost.iter().collect::<Vec<_>>(), want.into_iter().collect::<Vec<_>>(), "{more}");
    }
    let film = json!({"contents": [{"parts": [{"text": "q"}, {"fileData": {"mimeType": "video/mp4", "fileUri": "https://x.example/a"}}]}]});
    assert!(sent_plain(&film, GEMINI, CHAT).1.has(Loss::ForeignPart));
}

#[test]
fn words_in_documents_are_said_where_a_dialect_has_words() {
    let found = json!({"type": "search_result", "source": "https://x.example", "title": "t", "content": [{"type": "text", "text": "found"}]});
    let parts = json!({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}});
    let result = json!({"type": "tool_result", "tool_use_id": "t1", "content": [found]});
    let body = json!({"max_tokens": 9, "messages": [{"role": "user", "content": [parts]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": [result]}]});
    let (body, lost) = sent_plain(&body, MESSAGES, CHAT);
    let text = body.to_string();
    assert!(
        lost.is_empty() && text.contains("one\\ntwo") && text.contains("t\\nhttps://x.example\\nfound"),
        "{lost:?} {text}"
    );
    let table =
        json!({"contents": [{"parts": [{"inlineData": {"mimeType": "text/csv", "data": "YSxiCg=="}}]}]});
    let (body, lost) = sent_plain(&table, GEMINI, MESSAGES);
    assert_eq!(body["messages"][0]["content"][0]["source"]["data"], "a,b\n");
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_choice_among_some_tools_leaves_those_and_the_choice() {
    let chat_tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let flat_tool = |name: &str| json!({"type": "function", "name": name});
    let (chat_tools, flat_tools) = (["a", "b", "c"].map(chat_tool), ["a", "b", "c"].map(flat_tool));
    let among = json!({"mode": "required", "tools": [chat_tool("a"), chat_tool("b")]});
    let chat = json!({"messages": [{"role": "user", "content": "q"}], "tools": chat_tools,
        "tool_choice": {"type": "allowed_tools", "allowed_tools": among}});
    let responses = json!({"input": "q", "tools": flat_tools,
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": flat_tools[..2]}});
    let declared = ["a", "b", "c"].map(|name| json!({"name": name}));
    let gemini = json!({"contents": [{"parts": [{"text": "q"}]}], "tools": [{"functionDeclarations": declared}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a", "b"]}}});
    for (from, body) in [(CHAT, chat), (RESPONSES, responses), (GEMINI, gemini)] {
        let (body, lost) = sent_plain(&body, from, MESSAGES);
        let names: Vec<&str> =
            body["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b"], "{from:?}");
        assert_eq!(body["tool_choice"]["type"], "any", "{from:?}");
        assert!(lost.is_empty(), "{from:?} {lost:?}");
    }
}

#[test]
fn names_that_only_google_takes_are_rewritten_and_come_back_as_they_were() {
    let declared = json!([{"functionDeclarations": [{"name": "files.read"}, {"name": "plain"}]}]);
    let call = json!({"functionCall": {"id": "c1", "name": "files.read", "args": {}}});
    let body = json!({"tools": declared, "contents": [{"parts": [{"text": "q"}]}, {"role": "model", "parts": [call]},
        {"parts": [{"functionResponse": {"id": "c1", "name": "files.read", "response": {"result": "r"}}}]}]});
    let translated = request(GEMINI, CHAT, body.to_string().as_bytes(), &plain()).unwrap();
    let sent: Value = serde_json::from_slice(&translated.body).unwrap();
    let name = sent["tools"][0]["function"]["name"].as_str().unwrap();
    assert!(!name.contains('.') && name.starts_with("files_read_"), "{name}");
    assert_eq!(sent["tools"][1]["function"]["name"], "plain");
    assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["name"], name);
    let context = AnswerContext {
        asked: &translated.asked,
        request_id: "r",
        now: 0,
        shows_thoughts: true,
        signs_calls: false,
    };
    let calls = json!([{"id": "c2", "type": "function", "function": {"name": name, "arguments": "{}"}}]);
    let said =
        json!({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}).to_string();
    let whole: Value =
        serde_json::from_slice(&answer(CHAT, GEMINI, said.as_bytes(), &context).unwrap()).unwrap();
    assert_eq!(whole["candidates"][0]["content"]["parts"][0]["functionCall"]["name"], "files.read");
    let mut stream = Stream::new(CHAT, GEMINI, &context).unwrap();
    let mut out = Vec::new();
    stream.feed(
        &Bytes::from(format!("{}data: [DONE]\n\n", chunk(&piece(0, Some(name), "{}"), &Value::Null))),
        &mut out,
    );
    assert!(String::from_utf8(out).unwrap().contains("\"files.read\""));
}

#[test]
fn an_answer_that_failed_or_refuses_is_told_as_such() {
    let failed = json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}).to_string();
    let asked = Asked::default();
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
    assert_eq!(answer(GEMINI, CHAT, failed.as_bytes(), &context), Err(Untranslatable::Failed));
    let error = format!("{}data: [DONE]\n\n", chunk(&json!({"content": "a"}), &json!("error")));
    let failed = State::Failed(crate::base::outcome::Outcome::InbandError);
    for to in CLIENTS {
        assert_eq!(told(CHAT, to, &error).1, failed, "{to:?}");
    }
    let refused =
        json!({"choices": [{"message": {"content": null, "refusal": "no"}, "finish_reason": "stop"}]});
    assert_eq!(handed(&refused, CHAT, MESSAGES, false)["stop_reason"], "refusal");
    assert_eq!(handed(&refused, CHAT, GEMINI, false)["candidates"][0]["finishReason"], "SAFETY");
    assert_eq!(handed(&refused, CHAT, RESPONSES, false)["status"], "completed", "it is a part there");
    let streamed = format!("{}data: [DONE]\n\n", chunk(&json!({"refusal": "no"}), &json!("stop")));
    assert!(told(CHAT, MESSAGES, &streamed).0.contains("\"stop_reason\":\"refusal\""));
    assert!(told(CHAT, GEMINI, &streamed).0.contains("\"finishReason\":\"SAFETY\""));
}

#[test]
fn neighbours_of_a_turn_that_is_left_out_are_one() {
    let body = json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "b"},
    ]});
    for to in [MESSAGES, CONVERSE] {
        if !is_pair(CHAT, to) {
            continue;
        }
        let (body, _) = sent_plain(&body, CHAT, to);
        let messages = body["messages"].as_array().unwrap();
        assert_eq!((messages.len(), messages[0]["content"].as_array().unwrap().len()), (1, 2), "{to:?}");
    }
}

#[test]
fn a_name_of_the_end_user_that_would_be_refused_is_left_out() {
    let ask = |user: &str| json!({"max_tokens": 9, "metadata": {"user_id": user}, "messages": [{"role": "user", "content": "q"}]});
    for (user, is_kept) in [("u".repeat(64), true), ("\u{e9}".repeat(64), true), ("u".repeat(65), false)] {
        for to in [CHAT, RESPONSES] {
            let (body, lost) = sent_plain(&ask(&user), MESSAGES, to);
            assert_eq!(
                (body.get("user").is_some(), lost.has(Loss::User)),
                (is_kept, !is_kept),
                "{to:?} {user}"
            );
        }
    }
    for (user, is_kept) in [
        ("joe@example.com", false),
        ("user joe.b+x@mail.example.co.uk, of us", false),
        ("a@b.c", false),
        ("a@b", true),
        ("@b.c", true),
        ("550e8400-e29b-41d4-a716-446655440000", true),
        ("4915112345678", true),
    ] {
        let ask = json!({"user": user, "messages": [{"role": "user", "content": "q"}]});
        let (body, lost) = sent_plain(&ask, CHAT, MESSAGES);
        assert_eq!((body.get("metadata").is_some(), lost.has(Loss::User)), (is_kept, !is_kept), "{user}");
    }
}

#[test]
fn an_image_is_named_as_everybody_knows_it_and_one_that_claude_cannot_see_is_lost() {
    let ask = |kind: &str| {
        let image = json!({"type": "image_url", "image_url": {"url": format!("data:{kind};base64,QUJD")}});
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}, image]}]})
    };
    for (kind, want) in [
        ("image/jpg", Some("image/jpeg")),
        ("image/jpeg", Some("image/jpeg")),
        ("image/PNG", Some("image/png")),
        ("image/bmp", None),
    ] {
        let (body, lost) = sent_plain(&ask(kind), CHAT, MESSAGES);
        let source = &body["messages"][0]["content"][1]["source"];
        assert_eq!((source["media_type"].as_str(), lost.has(Loss::Image)), (want, want.is_none()), "{kind}");
    }
    let inline =
        json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/jpg", "data": "QUJD"}}]}]});
    assert!(sent_plain(&inline, GEMINI, CHAT).0.to_string().contains("data:image/jpeg;base64,QUJD"));
}

#[test]
fn any_json_is_asked_for_in_words_where_the_client_does_not() {
    let ask = |text: &str, system: Option<&str>| {
        let mut body = json!({"contents": [{"parts": [{"text": text}]}],
            "generationConfig": {"responseMimeType": "application/json"}});
        if let Some(text) = system {
            body["systemInstruction"] = json!({"parts": [{"text": text}]});
        }
        body
    };
    let put_in = "Answer with a JSON object.";
    let of_chat = |body: &Value| sent_plain(body, GEMINI, CHAT).0["messages"].clone();
    let user = json!({"role": "user", "content": "three fruits"});
    assert_eq!(of_chat(&ask("three fruits", None)), json!([{"role": "system", "content": put_in}, user]));
    let both = format!("be brief\n\n{put_in}");
    assert_eq!(
        of_chat(&ask("three fruits", Some("be brief"))),
        json!([{"role": "system", "content": both}, user])
    );
    assert_eq!(
        of_chat(&ask("three fruits", Some("as Json"))),
        json!([{"role": "system", "content": "as Json"}, user])
    );
    assert_eq!(of_chat(&ask("as json", None)), json!([{"role": "user", "content": "as json"}]));
    // OpenAI looks for it in the input.
    for (text, system, is_put_in) in
        [("q", None, true), ("q", Some("as json"), true), ("as json", None, false)]
    {
        let (body, _) = sent_plain(&ask(text, system), GEMINI, RESPONSES);
        assert_eq!(body["input"][0]["content"][0]["text"] == put_in, is_put_in, "{text} {system:?}");
    }
}

#[test]
fn penalties_go_to_those_of_googles_models_that_take_them() {
    let ask =
        |penalty: f64| json!({"presence_penalty": penalty, "messages": [{"role": "user", "content": "q"}]});
    for (model, is_taken) in [
        ("gemini-2.0-flash", true),
        ("models/gemini-1.5-pro-002", true),
        ("gemini-1.5-pro", false),
        ("gemini-2.5-flash", false),
        ("gemini-3-pro-preview", false),
        ("gemini-flash-latest", false),
        ("gemma-3-27b-it", true),
    ] {
        let (body, lost) = sent(&ask(0.5), CHAT, GEMINI, &RequestContext::new(model));
        let is_said = body["generationConfig"].get("presencePenalty").is_some();
        assert_eq!((is_said, lost.has(Loss::Penalties)), (is_taken, !is_taken), "{model}");
        assert!(
            !sent(&ask(0.0), CHAT, GEMINI, &RequestContext::new(model)).1.has(Loss::Penalties),
            "{model}"
        );
    }
}

#[test]
fn an_answer_is_asked_for_no_longer_than_the_model_gives() {
    let ask = |effort: Option<&str>, limit: Option<u64>| json!({"reasoning_effort": effort, "max_tokens": limit, "messages": [{"role": "user", "content": "q"}]});
    for (effort, limit, most, want, budget) in [
        (Some("xhigh"), None, Some(32_000), 32_000, Some(27_904)),
        (Some("xhigh"), None, None, 36_864, Some(32_768)),
        (Some("low"), None, Some(32_000), 16_384, Some(2048)),
        (Some("high"), Some(50_000), Some(32_000), 32_000, Some(16_384)),
        (None, Some(50_000), Some(32_000), 32_000, None),
        (None, Some(500), Some(32_000), 500, None),
    ] {
        let context = RequestContext { max_output: most, ..plain() };
        let (body, _) = sent(&ask(effort, limit), CHAT, MESSAGES, &context);
        let got = (body["max_tokens"].as_u64().unwrap(), body["thinking"]["budget_tokens"].as_u64());
        assert_eq!(got, (want, budget), "{effort:?} {limit:?} {most:?}");
    }
}

#[test]
fn arguments_are_objects_for_those_who_want_it_said() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let body = json!({"messages": [{"role": "user", "content": "q"}], "tools": [tool]});
    let (said, _) = sent_plain(&body, CHAT, MESSAGES);
    assert_eq!(said["tools"][0]["input_schema"], json!({"type": "object"}));
    if is_pair(CHAT, CONVERSE) {
        let (said, _) = sent_plain(&body, CHAT, CONVERSE);
        assert_eq!(
            said["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"],
            json!({"type": "object"})
        );
    }
}

#[test]
fn documents_have_a_name_each_and_a_text_beside_them() {
    if !is_pair(CHAT, CONVERSE) {
        return;
    }
    let file = json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD"}});
    let text = json!({"type": "text", "text": "and this?"});
    let body = json!({"messages": [
        {"role": "user", "content": [file, file]},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [text, file]},
    ]});
    let (said, lost) = sent_plain(&body, CHAT, CONVERSE);
    let blocks = |at: usize| said["messages"][at]["content"].as_array().unwrap().clone();
    let names: Vec<_> = [blocks(0), blocks(2)]
        .concat()
        .iter()
        .filter_map(|block| Some(block["document"]["name"].as_str()?.to_owned()))
        .collect();
    assert_eq!(names, ["document", "document 2", "document 3"]);
    assert_eq!(blocks(0)[2], json!({"text": "document"}));
    assert_eq!((blocks(2).len(), lost.is_empty()), (2, true), "{lost:?}");
}

#[test]
fn the_words_of_glm_and_the_tokens_of_moonshot_are_read() {
    let ended = |word: &str| {
        format!(
            "{}{}data: [DONE]\n\n",
            chunk(&json!({"content": "a"}), &Value::Null),
            chunk(&json!({}), &json!(word))
        )
    };
    assert_eq!(
        told(CHAT, MESSAGES, &ended("network_error")).1,
        State::Failed(crate::base::outcome::Outcome::InbandError)
    );
    assert!(told(CHAT, GEMINI, &ended("sensitive")).0.contains("\"finishReason\":\"SAFETY\""));
    let broken =
        json!({"choices": [{"message": {"content": "a"}, "finish_reason": "network_error"}]}).to_string();
    let asked = Asked::default();
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
    assert_eq!(answer(CHAT, MESSAGES, broken.as_bytes(), &context), Err(Untranslatable::Failed));
    let choice = json!({"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 5, "completion_tokens": 6}});
    let end = format!("data: {}\n\ndata: [DONE]\n\n", json!({"id": "c", "choices": [choice]}));
    let (out, state) =
        told(CHAT, MESSAGES, &format!("{}{end}", chunk(&json!({"content": "a"}), &Value::Null)));
    assert_eq!(state, State::Ended);
    assert!(out.contains("\"input_tokens\":5") && out.contains("\"output_tokens\":6"), "{out}");
}
