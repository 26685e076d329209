//! The same for OpenAI responses and Gemini, and what only they do.

use super::*;

const RESPONSES: Dialect = Dialect::OpenAiResponses;
const GEMINI: Dialect = Dialect::GeminiGenerate;
const ALL: [Dialect; 4] = [CHAT, MESSAGES, RESPONSES, GEMINI];

/// What every one of the four can say.
fn shared(request: Request) -> Request {
    Request {
        sampling: Sampling { stop: Vec::new(), ..request.sampling },
        max_tokens: request.max_tokens.map(|n| n.max(16)),
        parallel_tools: None,
        user: None,
        stream: false,
        include_usage: false,
        ..request
    }
}

proptest! {
    #[test]
    fn any_said_as_any_other_and_back_is_the_same(request in common()) {
        let request = shared(request);
        for own in ALL {
            let body = written(&request, CHAT, own).body;
            let said = read_request(own, CHAT, &body).unwrap();
            for by in ALL.into_iter().filter(|by| *by != own) {
                let (back, lost) = over(&said, own, by);
                prop_assert!(lost.is_empty(), "{own:?} {by:?} {lost:?}");
                prop_assert_eq!(&back, &said, "{:?} {:?}", own, by);
            }
        }
    }

    #[test]
    fn no_body_makes_a_reader_of_either_panic(
        body in "\\{\"(input|output|contents|candidates|parts|tools|type|response|item)\":[\\[\\]{}\":,a-z0-9]{0,40}\\}?",
        head in "(\\{\"type\":\"response.(created|output_item.added|output_item.done|completed)\",\"(item|response)\":|\\{\"candidates\":\\[\\{\"content\":)",
    ) {
        let asked = Asked::default();
        let context = AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
        for (from, to) in [(RESPONSES, GEMINI), (GEMINI, RESPONSES), (RESPONSES, CHAT), (GEMINI, MESSAGES)] {
            let _ = request(from, to, body.as_bytes(), &plain());
            let _ = answer(from, to, body.as_bytes(), &context);
            let mut stream = Stream::new(from, to, &context).unwrap();
            let mut out = Vec::new();
            stream.feed(&Bytes::from(format!("data: {body}\n\ndata: {head}{body}}}\n\n")), &mut out);
            stream.finish(&mut out);
        }
    }
}

fn asked_of(body: &str, from: Dialect, to: Dialect, model: &str) -> (serde_json::Value, Losses) {
    let context = RequestContext { marks_cache: false, ..RequestContext::new(model) };
    let translated = request(from, to, body.as_bytes(), &context).unwrap();
    (serde_json::from_slice(&translated.body).unwrap(), translated.lost)
}

#[test]
fn what_openai_keeps_is_refused_or_a_loss_that_matters() {
    let reference = r#"{"model":"m","input":[{"type":"item_reference","id":"msg_1"}]}"#;
    assert_eq!(
        request(RESPONSES, CHAT, reference.as_bytes(), &plain()).unwrap_err(),
        Untranslatable::Member("input[].item_reference")
    );
    for body in [
        r#"{"model":"m","input":"x","previous_response_id":"resp_1"}"#,
        r#"{"model":"m","input":"x","conversation":{"id":"conv_1"}}"#,
        r#"{"model":"m","input":"x","prompt":{"id":"pmpt_1"}}"#,
    ] {
        let (_, lost) = asked_of(body, RESPONSES, MESSAGES, "m");
        assert!(lost.has(Loss::State) && lost.matter(), "{body}");
    }
    let (_, lost) =
        asked_of(r#"{"model":"m","input":"x","store":true,"background":false}"#, RESPONSES, CHAT, "m");
    assert!(lost.is_empty(), "{lost:?}");
    let (body, _) = asked_of(r#"{"messages":[{"role":"user","content":"x"}]}"#, CHAT, RESPONSES, "m");
    assert_eq!(body["store"], false, "nothing is kept at the provider");
}

#[test]
fn a_seal_goes_back_to_its_issuer_alone_whatever_the_client_speaks() {
    let thought = |text: &str| {
        format!(
            r#"{{"role":"assistant","content":[{{"type":"thinking","thinking":"hm","signature":"{text}"}},{{"type":"text","text":"a"}}]}}"#
        )
    };
    let ask = |text: &str| format!(r#"{{"messages":[{},{{"role":"user","content":"x"}}]}}"#, thought(text));
    let (body, lost) = asked_of(&ask("openai:rs_1:gAA="), MESSAGES, RESPONSES, "m");
    assert_eq!(
        body["input"][0],
        serde_json::json!({"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAA="})
    );
    assert!(!lost.has(Loss::ThinkingHistory));
    let (body, lost) = asked_of(&ask("google:Cv=="), MESSAGES, GEMINI, "m");
    assert_eq!(body["contents"][0]["parts"][0]["thoughtSignature"], "Cv==");
    assert!(!lost.has(Loss::ThinkingHistory));
    for to in [RESPONSES, GEMINI] {
        let (body, lost) = asked_of(&ask("c2ln"), MESSAGES, to, "m");
        assert!(lost.has(Loss::ThinkingHistory) && !body.to_string().contains("c2ln"));
    }
    // Anthropic's answer, a client of either, and back to Anthropic.
    let said = r#"{"id":"msg_1","model":"c","content":[{"type":"thinking","thinking":"hm","signature":"c2ln+/=="},{"type":"text","text":"a"}],"stop_reason":"end_turn"}"#;
    let asked = Asked::default();
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
    let told: serde_json::Value =
        serde_json::from_slice(&answer(MESSAGES, RESPONSES, said.as_bytes(), &context).unwrap()).unwrap();
    let again = serde_json::json!({"model": "m", "input": [{"role": "user", "content": "q"}, told["output"][0], told["output"][1]]});
    let (body, _) = asked_of(&again.to_string(), RESPONSES, MESSAGES, "m");
    assert_eq!(body["messages"][1]["content"][0]["signature"], "c2ln+/==");
    let told: serde_json::Value =
        serde_json::from_slice(&answer(MESSAGES, GEMINI, said.as_bytes(), &context).unwrap()).unwrap();
    let again = serde_json::json!({"contents": [{"role": "user", "parts": [{"text": "q"}]}, told["candidates"][0]["content"]]});
    let (body, _) = asked_of(&again.to_string(), GEMINI, MESSAGES, "m");
    assert_eq!(body["messages"][1]["content"][0]["signature"], "c2ln+/==");
}

#[test]
fn the_third_gemini_is_told_a_level_and_gets_signed_calls_and_the_second_a_budget() {
    let body = r#"{"reasoning_effort":"high","messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[
        {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"b","content":"{\"n\":1.0}"},{"role":"tool","tool_call_id":"a","content":"ok"}]}"#;
    let (third, _) = asked_of(body, CHAT, GEMINI, "models/gemini-3-pro-preview");
    assert_eq!(
        third["generationConfig"]["thinkingConfig"],
        serde_json::json!({"thinkingLevel": "high", "includeThoughts": true})
    );
    let calls = &third["contents"][1]["parts"];
    assert_eq!(calls[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(calls[1].get("thoughtSignature"), None, "only the first of a turn needs one");
    let results = &third["contents"][2]["parts"];
    assert_eq!(results[0]["functionResponse"]["name"], "g");
    assert_eq!(results[0]["functionResponse"]["response"], serde_json::json!({"n": 1.0}));
    assert_eq!(results[1]["functionResponse"]["response"], serde_json::json!({"result": "ok"}));
    let (second, _) = asked_of(body, CHAT, GEMINI, "gemini-2.5-flash");
    assert_eq!(second["generationConfig"]["thinkingConfig"]["thinkingBudget"], 16_384);
    assert_eq!(second["contents"][1]["parts"][0].get("thoughtSignature"), None);
    let hardest = body.replace("\"high\"", "\"xhigh\"");
    let (second, _) = asked_of(&hardest, CHAT, GEMINI, "gemini-2.5-flash");
    assert_eq!(second["generationConfig"]["thinkingConfig"]["thinkingBudget"], 24_576);
}

#[test]
fn a_stream_of_either_that_breaks_off_or_fails_never_ends_normally() {
    use crate::base::outcome::Outcome;
    let created = "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"m\"}}\n\n";
    let delta = "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"a\"}\n\n";
    let failed = "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_is_overloaded\",\"message\":\"secret\"}}}\n\n";
    let whole = "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"only here\"}]}]}}\n\n";
    let late =
        "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":3,\"delta\":\"{\"}\n\n";
    for (text, want) in [
        (created.to_owned(), State::Open),
        (format!("{created}{delta}"), State::Open),
        (format!("{created}{delta}{failed}"), State::Failed(Outcome::Overloaded)),
        (
            format!("{created}{delta}data: {{\"type\":\"error\",\"code\":\"server_error\"}}\n\n"),
            State::Failed(Outcome::ServerError),
        ),
        (format!("{created}{delta}{late}"), State::Failed(Outcome::BadBody)),
        (format!("{created}{whole}"), State::Ended),
    ] {
        let (out, state) = told(RESPONSES, CHAT, &text);
        assert_eq!((state, out.contains("[DONE]")), (want, want == State::Ended), "{text}");
        assert!(!out.contains("secret"));
        assert_eq!(out.contains("only here"), want == State::Ended);
    }
    let delta = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\r\n\r\n";
    let end = "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\r\n\r\n";
    let error = "data: {\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\",\"message\":\"secret\"}}\r\n\r\n";
    let blocked = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\r\n\r\n";
    for (text, want) in [
        (delta.to_owned(), State::Open),
        (format!("{delta}{error}"), State::Failed(Outcome::Overloaded)),
        (format!("{delta}{end}"), State::Ended),
        (blocked.to_owned(), State::Ended),
    ] {
        let (out, state) = told(GEMINI, RESPONSES, &text);
        let ends = out.contains("response.completed") || out.contains("response.incomplete");
        assert_eq!((state, ends), (want, want == State::Ended), "{text}");
        assert!(!out.contains("secret"));
    }
    assert!(told(GEMINI, RESPONSES, blocked).0.contains(r#""reason":"content_filter""#));
}
