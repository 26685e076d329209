//! What a reader of streams sees, in every dialect.

#[cfg(feature = "bedrock")]
use super::super::cut::tests as frames;
use super::*;
use crate::wire::transcript::Transcript;

/// Pushes the text in pieces of `size` and returns what came of it all.
fn run(dialect: Dialect, text: &str, size: usize) -> (StreamReader, Vec<u8>, Option<StreamFault>, usize) {
    run_bytes(dialect, text.as_bytes(), size)
}

fn run_bytes(
    dialect: Dialect,
    body: &[u8],
    size: usize,
) -> (StreamReader, Vec<u8>, Option<StreamFault>, usize) {
    let mut reader = StreamReader::new(dialect);
    let mut released = Vec::new();
    let mut fault = None;
    let mut began = 0;
    let chunks: Vec<Bytes> = body.chunks(size).map(Bytes::copy_from_slice).collect();
    let mut take = |pushed: Pushed| {
        released.extend(pushed.release.iter().flat_map(|b| b.iter().copied()));
        began += usize::from(pushed.content_began);
        fault = fault.take().or(pushed.fault);
    };
    for chunk in chunks {
        take(reader.push(chunk));
    }
    take(reader.finish());
    (reader, released, fault, began)
}

fn has_content(dialect: Dialect, data: &str) -> bool {
    let (reader, ..) = run(dialect, &format!("data: {data}\n\n"), 4096);
    assert!(reader.has_event(), "{data}");
    reader.has_content()
}

#[test]
fn content_is_told_from_lifecycle_in_every_dialect() {
    use Dialect::{
        AnthropicMessages as A, GeminiGenerate as G, OpenAiChat as C, OpenAiCompletions as L,
        OpenAiResponses as R,
    };
    for (dialect, data, want) in [
        (
            C,
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            false,
        ),
        (
            C,
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}}]}"#,
            false,
        ),
        (C, r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, false),
        (C, r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}],"id":"","model":""}"#, false),
        (C, r#"{"choices":null}"#, false),
        (C, r#"{"choices":[null,7]}"#, false),
        (C, r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, false),
        (C, r#"{"choices":[{"delta":{"content":"Hi"}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"content":"\n\n"}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"content":{"a":1}}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"c\u006fntent":"Hi"}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"content":"","reasoning_content":"hm"}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"content":"","reasoning":"hm"}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"thinking":"hm"}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"refusal":"I cannot"}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"audio":{"id":"a","transcript":"x"}}}]}"#, true),
        (
            C,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
            true,
        ),
        (C, r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#, true),
        (C, r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":""}}]}}]}"#, false),
        (C, r#"{"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#, true),
        (C, r#"{"choices":[{"message":{"role":"assistant","content":"whole"}}]}"#, true),
        (L, r#"{"choices":[{"index":0,"text":"a","finish_reason":null}]}"#, true),
        (L, r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#, false),
        (A, r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":1}}}"#, false),
        (A, r#"{"type":"ping"}"#, false),
        (A, r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#, false),
        (
            A,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            false,
        ),
        (
            A,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            true,
        ),
        (
            A,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x"}}"#,
            true,
        ),
        (A, r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#, false),
        (A, r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#, true),
        (
            A,
            r#"{"delta":{"thinking":"a","type":"thinking_delta"},"index":0,"type":"content_block_delta"}"#,
            true,
        ),
        (
            A,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            true,
        ),
        (A, r#"{"type":"content_block_stop","index":0}"#, false),
        (
            A,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#,
            false,
        ),
        (R, r#"{"type":"response.created","response":{"error":null,"usage":null}}"#, false),
        (R, r#"{"type":"response.in_progress","response":{}}"#, false),
        (R, r#"{"type":"response.output_item.added","item":{"type":"message"}}"#, false),
        (R, r#"{"type":"response.content_part.added","part":{"text":""}}"#, false),
        (R, r#"{"type":"response.reasoning_summary_part.added"}"#, false),
        (R, r#"{"type":"keepalive","sequence_number":3}"#, false),
        (R, r#"{"type":"response.output_text.delta","delta":""}"#, false),
        (R, r#"{"type":"response.output_text.delta","delta":"a"}"#, true),
        (R, r#"{"type":"response.never_seen_before.delta","data":1}"#, true),
        (R, r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, true),
        (R, r#"{"type":"response.refusal.delta","delta":"no"}"#, true),
        (R, r#"{"type":"response.web_search_call.searching"}"#, true),
        (R, r#"{"type":"response.completed","response":{"output":[]}}"#, false),
        (G, r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}]}"#, true),
        (
            G,
            r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP"}]}"#,
            false,
        ),
        (G, r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]}}]}"#, true),
        (G, r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]}}]}"#, true),
        (G, r#"{"candidates":[{"content":{"role":"model"}}],"usageMetadata":{}}"#, false),
        (G, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, false),
    ] {
        assert_eq!(has_content(dialect, data), want, "{dialect:?} {data}");
    }
}

#[test]
fn faults_are_found_and_withheld_with_all_that_follows() {
    use Dialect::{AnthropicMessages as A, GeminiGenerate as G, OpenAiChat as C, OpenAiResponses as R};
    for (dialect, event) in [
        (C, "event: error\ndata: {\"message\":\"no\"}\n\n"),
        (C, "event: error\ndata: plain words\n\n"),
        (C, "data: {\"error\":{\"message\":\"no\",\"code\":502}}\n\n"),
        (C, "data: {\"error\":\"no\"}\n\n"),
        (
            C,
            "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"error\":{\"code\":400}}\n\n",
        ),
        (C, "data: {\"object\":\"error\",\"message\":\"no\"}\n\n"),
        (A, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"),
        (A, "data: {\"error\":{\"type\":\"overloaded_error\"},\"type\":\"error\"}\r\n\r\n"),
        (R, "data: {\"type\":\"error\",\"code\":\"server_is_overloaded\"}\n\n"),
        (R, "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\"}}}\n\n"),
        (G, "data: {\"error\":{\"code\":503}}\r\n\r\n"),
        (G, "{\n  \"error\": {\n    \"code\": 499\n  }\n}\n\n"),
        (C, "data: {\"choices\":[],\"x_groq\":{\"id\":\"r\",\"error\":\"over capacity\"}}\n\n"),
        (C, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"network_error\"}]}\n\n"),
    ] {
        let before = ": hi\n\ndata: {}\n\n";
        let text =
            format!("{before}{event}data: {{\"choices\":[{{\"delta\":{{\"content\":\"late\"}}}}]}}\n\n");
        for size in [1, 7, 4096] {
            let (reader, released, fault, began) = run(dialect, &text, size);
            assert_eq!(released, before.as_bytes(), "{event:?} in pieces of {size}");
            // A CR alone ends the event before its LF has come.
            assert_eq!(fault.expect(event).event.trim_ascii_end(), event.trim_ascii_end().as_bytes());
            assert_eq!((reader.has_content(), began), (false, 0), "{event:?}");
        }
    }
}

#[test]
fn tokens_that_stand_in_the_last_choice_are_read() {
    let usage = "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}";
    let choice = format!("{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\",{usage}}}");
    let text = format!("data: {{\"choices\":[{choice}]}}\n\ndata: [DONE]\n\n");
    let (reader, ..) = run(Dialect::OpenAiChat, &text, 4096);
    assert_eq!((reader.usage().input, reader.usage().output), (Some(5), Some(6)));
}

#[test]
fn an_error_member_that_says_nothing_is_no_fault() {
    for data in
        [r#"{"error":null,"choices":[]}"#, r#"{"error":"","choices":[]}"#, r#"{"choices":[{"error":1}]}"#]
    {
        let (_, released, fault, _) = run(Dialect::OpenAiChat, &format!("data: {data}\n\n"), 4096);
        assert_eq!(fault, None, "{data}");
        assert!(!released.is_empty());
    }
}

#[test]
fn an_event_that_is_not_json_passes_and_leaves_no_trace() {
    let text =
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"error\":1\n\n";
    let (reader, released, fault, began) = run(Dialect::OpenAiChat, text, 5);
    assert_eq!(released, text.as_bytes());
    assert_eq!((fault, began), (None, 0));
    assert!(reader.has_event() && !reader.has_content() && !reader.is_complete());
}

#[test]
fn a_stream_is_complete_with_every_finish_reason_or_the_dialects_own_end() {
    use Dialect::{AnthropicMessages as A, GeminiGenerate as G, OpenAiChat as C, OpenAiResponses as R};
    let choice = |i: u32, reason: &str| {
        format!("data: {{\"choices\":[{{\"index\":{i},\"delta\":{{}},\"finish_reason\":{reason}}}]}}\n\n")
    };
    for (dialect, text, want) in [
        (C, choice(0, "null"), false),
        (C, choice(0, "\"stop\""), true),
        (C, choice(0, "\"content_filter\""), true),
        (C, choice(0, "\"\""), false),
        (C, choice(0, "\"stop\"") + &choice(1, "null"), false),
        (C, choice(0, "\"stop\"") + &choice(1, "\"length\""), true),
        (C, choice(0, "null") + "data: [DONE]\n\n", true),
        (C, choice(0, "null") + "data:[DONE]", true),
        (C, choice(0, "null") + "data: [DON", false),
        (C, choice(4_000_000_000, "\"stop\""), true),
        (C, "data: {\"choices\":[]}\n\n".to_owned(), false),
        (A, "data: {\"type\":\"message_stop\"}\n\n".to_owned(), true),
        (A, "data: {\"type\":\"message_stop\"}".to_owned(), true),
        (
            A,
            "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n".to_owned(),
            true,
        ),
        (A, "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null}}\n\n".to_owned(), false),
        (R, "data: {\"type\":\"response.completed\",\"response\":{}}\n\n".to_owned(), true),
        (R, "data: {\"type\":\"response.incomplete\",\"response\":{}}\n\n".to_owned(), true),
        (R, "data: {\"type\":\"response.output_text.done\"}\n\n".to_owned(), false),
        (G, "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\r\n\r\n".to_owned(), true),
        (G, "data: {\"promptFeedback\":{\"blockReason\":\"OTHER\"}}\r\n\r\n".to_owned(), true),
        (G, "data: {\"candidates\":[{\"content\":{}}]}\r\n\r\n".to_owned(), false),
    ] {
        for size in [1, 3, 4096] {
            assert_eq!(run(dialect, &text, size).0.is_complete(), want, "{text:?} in pieces of {size}");
        }
    }
    let mut two = StreamReader::new(C).with_choices(2);
    two.push(Bytes::from(choice(0, "\"stop\"")));
    assert!(!two.is_complete(), "the second choice has not begun");
}

#[test]
fn a_partial_last_event_is_dropped_and_a_whole_one_without_its_empty_line_is_kept() {
    let whole = "data: {\"a\":1}\n\n";
    for (rest, kept) in [
        // The answer is not whole with it, and goes on elsewhere.
        ("data: {\"a\":1}", whole),
        ("data: {\"a\":1}\n", whole),
        ("data: [DONE]", "data: [DONE]"),
        ("\n", "\n"),
        ("data: {\"a\":", ""),
        ("dat", ""),
        (": comm", ""),
        ("event: ping\n", ""),
    ] {
        let (_, released, fault, _) = run(Dialect::OpenAiChat, &format!("{whole}{rest}"), 4);
        assert_eq!(fault, None);
        assert_eq!(String::from_utf8(released).unwrap(), format!("{whole}{kept}"), "{rest:?}");
    }
    let (_, released, fault, _) = run(Dialect::OpenAiChat, &format!("{whole}data: {{\"error\":\"x\"}}"), 4);
    assert_eq!((released, fault.is_some()), (whole.as_bytes().to_vec(), true));
}

#[test]
fn an_error_object_without_framing_is_a_fault_and_other_json_is_released_at_the_end() {
    for text in
        ["{\"error\":{\"code\":400}}", "  [{\n \"error\": {\n\n\"code\":404}}\n]\n", "\n\n{\"error\":\"x\"}"]
    {
        for size in [1, 5, 4096] {
            let (reader, released, fault, _) = run(Dialect::GeminiGenerate, text, size);
            assert!(fault.is_some(), "{text:?} in pieces of {size}");
            assert!(released.iter().all(u8::is_ascii_whitespace));
            assert!(!reader.has_event());
        }
    }
    let whole = "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}";
    let (reader, released, fault, _) = run(Dialect::GeminiGenerate, whole, 9);
    assert_eq!((released.as_slice(), fault, reader.has_event()), (whole.as_bytes(), None, false));
    let long = format!("[{}1]", "1,".repeat(EVENT_MAX));
    assert_eq!(run(Dialect::GeminiGenerate, &long, 1000).1, long.as_bytes());
}

#[test]
fn a_byte_order_mark_is_seen_through_wherever_it_is_cut() {
    for size in [1, 2, 3, 4, 100] {
        let error = b"\xef\xbb\xbf {\"error\":{\"message\":\"x\"}}";
        let (_, released, fault, _) = run_bytes(Dialect::OpenAiChat, error, size);
        assert!(fault.is_some() && released.is_empty(), "{size}");
        let (reader, released, fault, _) =
            run_bytes(Dialect::OpenAiChat, b"\xef\xbb\xbfdata: [DONE]\n\n", size);
        assert!(reader.is_complete() && fault.is_none() && released.len() == 17, "{size}");
        // Half a mark is none.
        let (_, released, fault, _) = run_bytes(Dialect::OpenAiChat, b"\xef\xbb{\"error\":1}\n\n", size);
        assert!(released.len() == 15 && fault.is_none(), "{size}: {released:?}");
    }
}

#[test]
fn an_item_of_an_array_too_long_to_keep_passes_and_the_array_is_read_on() {
    let image = "x".repeat(150_000);
    let long = format!(
        "[{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"inlineData\":{{\"data\":\"{image}\"}}}}]}}}}]}}\n,"
    );
    let last =
        "\r\n{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":7}}\n]";
    let only = format!(
        "[{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{image}\"}}]}},\"finishReason\":\"STOP\"}}]}}]"
    );
    for size in [1_000, 65_536, 1_000_000] {
        for (text, input) in [(format!("{long}{last}"), Some(7)), (only.clone(), None)] {
            let (reader, released, fault, began) = run(Dialect::GeminiGenerate, &text, size);
            assert!(released == text.as_bytes(), "{size}");
            assert!(reader.is_complete() && reader.has_content() && fault.is_none(), "{size}");
            assert_eq!((began, reader.usage().input), (1, input), "{size}");
        }
        let cut = &long[..long.len() - 10];
        assert!(!run(Dialect::GeminiGenerate, cut, size).0.is_complete(), "{size}");
    }
}

#[test]
fn gemini_s_array_is_followed_item_by_item_up_to_a_fault() {
    let first = "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"}\"}]}}]}\n";
    let last =
        ",\r\n{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":5}}\n]\n";
    let error = ",\n{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}\n]";
    for size in [1, 7, 4096] {
        let (reader, released, fault, began) = run(Dialect::GeminiGenerate, &format!("{first}{last}"), size);
        assert_eq!(String::from_utf8(released).unwrap(), format!("{first}{last}"));
        assert!(reader.is_complete() && reader.has_event() && fault.is_none() && began == 1, "{size}");
        assert_eq!(reader.usage().input, Some(5));
        let (reader, released, fault, began) = run(Dialect::GeminiGenerate, &format!("{first}{error}"), size);
        assert_eq!(began, 1, "{size}");
        assert!(released.starts_with(b"[{\"cand") && !released.ends_with(b"]"));
        assert!(fault.unwrap().body.starts_with(b"{\"error\"") && !reader.is_complete());
        let (reader, released, ..) = run(Dialect::GeminiGenerate, &first[..first.len() - 5], size);
        assert!(released.is_empty() && !reader.has_event());
    }
}

#[test]
fn an_over_long_event_passes_and_its_head_and_end_are_still_read() {
    let filler = "x".repeat(3 * EVENT_MAX);
    let completed = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"text\":\"{filler}\",\"usage\":{{\"input_tokens\":7,\"output_tokens\":8}},\"user\":null}}}}\n\n"
    );
    let created = format!(
        "data: {{\"type\":\"response.created\",\"response\":{{\"instructions\":\"{filler} \\\"usage\\\": \"}}}}\n\n"
    );
    for size in [1000, 70_000] {
        let (reader, released, fault, _) = run(Dialect::OpenAiResponses, &completed, size);
        assert_eq!(released, completed.as_bytes());
        assert!(reader.is_complete() && fault.is_none());
        assert_eq!((reader.usage().input, reader.usage().output), (Some(7), Some(8)));
        let (reader, _, _, began) = run(Dialect::OpenAiResponses, &created, size);
        assert!(!reader.has_content() && began == 0 && !reader.is_complete());
        let image = format!(
            "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"inlineData\": \"{filler}\"}}]}},\"finishReason\": \"STOP\"}}],\"usageMetadata\": {{\"promptTokenCount\": 5}}}}\r\n\r\n"
        );
        let (reader, released, _, began) = run(Dialect::GeminiGenerate, &image, size);
        assert_eq!(released, image.as_bytes());
        assert!(reader.is_complete() && reader.has_content() && began == 1);
        assert_eq!(reader.usage().input, Some(5));
        let failed = completed.replace("response.completed", "response.failed");
        let (_, released, fault, _) = run(Dialect::OpenAiResponses, &failed, size);
        assert!(released.is_empty() && fault.is_some());
    }
}

#[test]
fn content_begins_once_and_whole_chunks_are_not_copied() {
    let chunk = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {}\n\n");
    let mut reader = StreamReader::new(Dialect::OpenAiChat);
    let first = reader.push(chunk.clone());
    assert!(first.content_began);
    assert_eq!(first.release.len(), 1);
    assert_eq!(first.release[0].as_ptr(), chunk.as_ptr());
    assert!(!reader.push(chunk).content_began);
}

const OLLAMA: [(&str, bool); 5] = [
    (r#"{"model":"m","message":{"role":"assistant","content":""},"done":false}"#, false),
    (r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#, true),
    (r#"{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]}}"#, true),
    (r#"{"message":{"content":"a"},"done":false}"#, true),
    (
        r#"{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":7,"eval_count":8}"#,
        false,
    ),
];

#[test]
fn lines_are_told_apart_and_the_last_completes_the_answer() {
    for (line, want) in OLLAMA {
        let (reader, ..) = run(Dialect::OllamaChat, &format!("{line}\n"), 9);
        assert_eq!((reader.has_content(), reader.has_event()), (want, true), "{line}");
    }
    let text = OLLAMA.map(|(line, _)| line).join("\n");
    for size in [1, 7, 4096] {
        let (reader, released, fault, began) = run(Dialect::OllamaChat, &text, size);
        assert_eq!((released.as_slice(), fault, began), (text.as_bytes(), None, 1));
        assert!(reader.is_complete());
        assert_eq!((reader.usage().input, reader.usage().output), (Some(7), Some(8)));
        let (reader, ..) = run(Dialect::OllamaChat, &text[..text.len() - 20], size);
        assert!(!reader.is_complete(), "the last line is cut off");
        let failed = format!("{}\n{{\"error\":\"it died\"}}\n{text}", OLLAMA[3].0);
        let (reader, released, fault, _) = run(Dialect::OllamaChat, &failed, size);
        assert_eq!(released, format!("{}\n", OLLAMA[3].0).as_bytes());
        assert_eq!(&fault.unwrap().body[..], br#"{"error":"it died"}"#);
        assert!(!reader.is_complete());
        let giant =
            format!("{{\"message\":{{\"content\":\"{}\"}},\"done\":true}}\n", "x".repeat(3 * EVENT_MAX));
        let (reader, released, _, began) = run(Dialect::OllamaChat, &giant, 1000 * size);
        assert_eq!((released.len(), began, reader.is_complete()), (giant.len(), 1, true));
    }
}

#[test]
fn events_of_cohere_are_told_apart_and_the_last_completes_the_answer() {
    use Dialect::CohereChat as H;
    for (data, want) in [
        (
            r#"{"delta":{"message":{"citations":[],"content":[],"role":"assistant","tool_calls":[],"tool_plan":""}},"id":"i","type":"message-start"}"#,
            false,
        ),
        (
            r#"{"delta":{"message":{"content":{"text":"","type":"text"}}},"index":0,"type":"content-start"}"#,
            false,
        ),
        (r#"{"delta":{"message":{"content":{"text":"a"}}},"index":0,"type":"content-delta"}"#, true),
        (r#"{"delta":{"message":{"content":{"thinking":"a"}}},"index":0,"type":"content-delta"}"#, true),
        (r#"{"delta":{"message":{"tool_plan":"I"}},"type":"tool-plan-delta"}"#, true),
        (
            r#"{"delta":{"message":{"tool_calls":{"function":{"arguments":"","name":"f"},"id":"i","type":"function"}}},"index":0,"type":"tool-call-start"}"#,
            true,
        ),
        (r#"{"index":0,"type":"content-end"}"#, false),
    ] {
        assert_eq!(has_content(H, data), want, "{data}");
    }
    let end = |reason: &str| {
        format!(
            "event: message-end\ndata: {{\"type\":\"message-end\",\"delta\":{{\"finish_reason\":\"{reason}\",\"usage\":{{\"tokens\":{{\"output_tokens\":4}}}}}}}}\n\n"
        )
    };
    let (reader, _, fault, _) = run(H, &end("MAX_TOKENS"), 5);
    assert_eq!((reader.is_complete(), reader.usage().output, fault), (true, Some(4), None));
    for failed in
        [end("ERROR"), end("TIMEOUT"), "data: {\"id\":\"i\",\"message\":\"too many\"}\n\n".to_owned()]
    {
        assert!(run(H, &failed, 5).2.is_some(), "{failed}");
    }
}

#[cfg(feature = "bedrock")]
#[test]
fn frames_are_told_apart_and_the_last_completes_the_answer() {
    use Dialect::BedrockConverse as B;
    let frame = |name: &str, payload: &str| (frames::event(name, payload), payload.to_owned());
    let all = [
        (frame("messageStart", r#"{"p":"abc","role":"assistant"}"#), false),
        (frame("contentBlockStart", r#"{"contentBlockIndex":0,"p":"a"}"#), false),
        (frame("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":""},"p":"ab"}"#), false),
        (frame("contentBlockDelta", r#"{"delta":{"text":"a"},"p":"ab"}"#), true),
        (frame("contentBlockDelta", r#"{"delta":{"reasoningContent":{"text":"a"}},"p":"ab"}"#), true),
        (frame("contentBlockStart", r#"{"start":{"toolUse":{"name":"f","toolUseId":"t"}}}"#), true),
        (frame("contentBlockDelta", r#"{"delta":{"toolUse":{"input":""}},"p":"ab"}"#), false),
        (frame("contentBlockDelta", r#"{"delta":{"toolUse":{"input":"{}"}},"p":"ab"}"#), true),
        (frame("contentBlockStop", r#"{"contentBlockIndex":0,"p":"abcdefg"}"#), false),
        (frame("messageStop", r#"{"p":"a","stopReason":"end_turn"}"#), false),
        (frame("metadata", r#"{"usage":{"inputTokens":7,"outputTokens":8},"p":"ab"}"#), false),
    ];
    for ((frame, payload), want) in &all {
        let (reader, ..) = run_bytes(B, frame, 9);
        assert_eq!((reader.has_content(), reader.has_event()), (*want, true), "{payload}");
    }
    let body: Vec<u8> = all.iter().flat_map(|((frame, _), _)| frame.clone()).collect();
    let start = all[0].0.0.len();
    let thrown = [(":message-type", "exception"), (":exception-type", "throttlingException")];
    let thrown = frames::made(&thrown, r#"{"message":"Too many requests"}"#);
    for size in [1, 7, 4096] {
        let (reader, released, fault, began) = run_bytes(B, &body, size);
        assert_eq!((released == body, fault, began), (true, None, 1));
        assert!(reader.is_complete());
        assert_eq!((reader.usage().input, reader.usage().output), (Some(7), Some(8)));
        let (reader, released, fault, _) = run_bytes(B, &body[..body.len() - 9], size);
        assert!(reader.is_complete() && fault.is_none(), "the usage is cut off, the answer is whole");
        assert!(released.len() < body.len() - 9, "half a frame is dropped");
        let (_, released, fault, _) = run_bytes(B, &[&body[..start], &thrown, &body].concat(), size);
        assert_eq!(released, body[..start]);
        let want = r#"{"error":{"type":"throttlingException","message":"Too many requests"}}"#;
        assert_eq!(fault.unwrap().body, want);
        for at in [start + 2, start + 9, start + 20] {
            let mut broken = body.clone();
            broken[at] ^= 1;
            let (reader, released, fault, began) = run_bytes(B, &broken, size);
            assert_eq!((released.as_slice(), began), (&body[..start], 0), "byte {at}");
            assert!(fault.unwrap().body.is_empty() && !reader.is_complete());
        }
        let giant = "x".repeat(3 * EVENT_MAX);
        let giant = frames::event("contentBlockDelta", &format!("{{\"delta\":{{\"text\":\"{giant}\"}}}}"));
        let (_, released, fault, began) = run_bytes(B, &giant, 1000 * size);
        assert_eq!((released == giant, fault, began), (true, None, 1));
    }
}

#[test]
fn the_document_of_a_bridge_is_its_only_event() {
    let whole = "{\n\"response\":\"a\",\n\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}";
    for size in [1, 9, 4096] {
        let (reader, released, fault, began) = run(Dialect::GenerateBridge, whole, size);
        assert_eq!((released.as_slice(), fault, began), (whole.as_bytes(), None, 1));
        assert!(reader.is_complete() && reader.has_event());
        assert_eq!(reader.usage().output, Some(2));
        assert!(run(Dialect::GenerateBridge, "{\"error\":\"not logged in\"}", size).2.is_some());
        for broken in [&whole[..20], "", "<html>"] {
            let (reader, ..) = run(Dialect::GenerateBridge, broken, size);
            assert!(!reader.is_complete() && !reader.has_content(), "{broken:?}");
        }
    }
    let giant = format!("{{\"response\":\"{}\"}}", "x".repeat(DOCUMENT_MAX));
    assert!(run(Dialect::GenerateBridge, &giant, 5000).2.is_some());
}

/// One event with a piece of text, as the dialect has it, and what is told of its stream before it.
fn text_event(dialect: Dialect) -> (&'static str, &'static str) {
    match dialect {
        Dialect::AnthropicMessages => {
            ("", r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one"}}"#)
        }
        Dialect::OpenAiResponses => (
            "event: response.output_text.delta\n",
            r#"{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":"one"}"#,
        ),
        Dialect::GeminiGenerate => {
            ("", r#"{"candidates":[{"content":{"parts":[{"text":"one"}]},"index":0}]}"#)
        }
        Dialect::OpenAiCompletions => ("", r#"{"choices":[{"index":0,"text":"one"}]}"#),
        _ => ("", r#"{"choices":[{"index":0,"delta":{"content":"one"}}]}"#),
    }
}

#[test]
fn a_last_event_that_lacks_its_end_can_be_gone_on_from() {
    for dialect in [
        Dialect::OpenAiChat,
        Dialect::OpenAiCompletions,
        Dialect::OpenAiResponses,
        Dialect::AnthropicMessages,
        Dialect::GeminiGenerate,
    ] {
        for end in ["", "\n", "\r", "\r\n"] {
            let (name, data) = text_event(dialect);
            let event = format!("{name}data: {data}{end}");
            let before = format!("{name}data: {data}\n\n");
            let (reader, released, fault, _) = run(dialect, &format!("{before}{event}"), 16);
            assert!(fault.is_none() && !reader.is_complete());
            let mut told = Transcript::new(dialect);
            told.keep(&Bytes::from(released));
            assert_eq!(told.text(), "oneone", "{dialect:?} {end:?}");
            assert_eq!(told.bar(), None, "{dialect:?} {end:?}");
        }
    }
    // A whole answer stays as it came, and half an event is dropped.
    let (_, released, ..) = run(Dialect::OpenAiChat, "data: [DONE]\n", 16);
    assert_eq!(released, b"data: [DONE]\n");
    let (_, released, ..) = run(Dialect::OpenAiChat, "data: {\"choices\":[", 16);
    assert_eq!(released, b"");
}

#[test]
fn the_number_of_the_next_event_is_that_behind_the_last_one_that_went_on() {
    let event = |number: u64, kind: &str| {
        format!("data: {{\"type\":\"{kind}\",\"sequence_number\":{number},\"delta\":\"a\"}}\n\n")
    };
    let delta = "response.output_text.delta";
    for (body, want) in [
        (String::new(), 0),
        (event(4, delta), 5),
        (event(4, delta) + &event(5, delta), 6),
        (event(4, delta) + "data: {\"type\":\"keepalive\"}\n\n", 5),
        // It is withheld.
        (event(4, delta) + &event(5, "response.failed"), 5),
    ] {
        let (reader, ..) = run(Dialect::OpenAiResponses, &body, 16);
        assert_eq!(reader.next_sequence(), want, "{body}");
    }
}
