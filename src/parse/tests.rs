//! What is learned of a body of each dialect, and which bodies are refused?

use super::*;
use proptest::prelude::*;

fn chat(text: &str) -> Result<Parsed, ParseFault> {
    body(Api::ChatCompletions, text.as_bytes())
}

#[test]
fn bodies_that_readers_would_disagree_about_are_refused() {
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(257));
    let deep = format!(r#"{{"model":"m","a":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    let many = format!("{{{}\"z\":1}}", "\"k\":1,".repeat(1024));
    for (text, want) in [
        ("", ParseFault::NotJson(0)),
        ("   ", ParseFault::NotJson(3)),
        ("{\"model\":", ParseFault::NotJson(9)),
        ("{\"a\":1}x", ParseFault::NotJson(7)),
        ("{\"a\":01}", ParseFault::NotJson(6)),
        ("\u{feff}{}", ParseFault::NotJson(0)),
        ("[{\"model\":\"m\"}]", ParseFault::NotAnObject),
        ("\"x\"", ParseFault::NotAnObject),
        (r#"{"model":7}"#, ParseFault::ModelNotString),
        (r#"{"model":{"a":1}}"#, ParseFault::ModelNotString),
        (r#"{"model":true}"#, ParseFault::ModelNotString),
        (r#"{"model":"a\u0000b"}"#, ParseFault::ModelNotPrintable),
        (r#"{"model":"a\nb"}"#, ParseFault::ModelNotPrintable),
        (r#"{"model":"a","model":"b"}"#, ParseFault::Duplicate("model")),
        (r#"{"model":null,"model":"b"}"#, ParseFault::Duplicate("model")),
        (r#"{"model":"a","mod\u0065l":"b"}"#, ParseFault::Duplicate("model")),
        (r#"{"stream":true,"stream":true}"#, ParseFault::Duplicate("stream")),
        (r#"{"model":"a","Model":"b"}"#, ParseFault::OtherLetters("model")),
        (r#"{"MODEL":"b"}"#, ParseFault::OtherLetters("model")),
        (r#"{"mod\u0045l":"b"}"#, ParseFault::OtherLetters("model")),
        (r#"{"Stream":true}"#, ParseFault::OtherLetters("stream")),
        (r#"{"\u017ftream":true}"#, ParseFault::OtherLetters("stream")),
        (r#"{"\u017fTREAM":true}"#, ParseFault::OtherLetters("stream")),
        (r#"{"stream":"true"}"#, ParseFault::StreamNotBool),
        (r#"{"stream":1}"#, ParseFault::StreamNotBool),
        (&long, ParseFault::ModelTooLong),
        (&deep, ParseFault::TooDeep),
        (&many, ParseFault::TooManyMembers),
    ] {
        assert_eq!(chat(text), Err(want), "{}", text.chars().take(60).collect::<String>());
    }
    assert_eq!(body(Api::ChatCompletions, b"{\"a\":\"\xff\"}"), Err(ParseFault::NotJson(6)));
    let bomb = "[".repeat(1_000_000);
    assert_eq!(chat(&format!("{{\"a\":{bomb}")), Err(ParseFault::TooDeep));
}

#[test]
fn the_model_is_found_however_it_is_written() {
    for (text, model, span) in [
        (r#"{"model":"gpt"}"#, Some("gpt"), Some("\"gpt\"")),
        (r#"{ "a":{"model":"no"}, "mod\u0065l" : "g\u0070t" }"#, Some("gpt"), Some("\"g\\u0070t\"")),
        (r#"{"model":null}"#, None, Some("null")),
        (r#"{"model":""}"#, None, Some("\"\"")),
        (r#"{"messages":[{"model":"no"}]}"#, None, None),
        (r#"{"a":{"Model":"no","STREAM":1},"models":[],"streams":1,"modél":1,"xtream":1}"#, None, None),
        ("{}", None, None),
    ] {
        let parsed = chat(text).unwrap();
        assert_eq!(parsed.model.as_deref(), model, "{text}");
        assert_eq!(parsed.model_span.map(|s| &text[s]), span, "{text}");
        assert_eq!(&text[parsed.close..=parsed.close], "}", "{text}");
        assert_eq!(parsed.is_empty, text == "{}", "{text}");
    }
}

#[test]
fn streaming_choices_tools_reasoning_and_json_are_noted() {
    let notes = |text: &str| {
        let p = chat(text).unwrap();
        (p.stream, p.n, p.has_tools, p.wants_reasoning, p.wants_json)
    };
    let plain = (false, 1, false, false, false);
    for (text, want) in [
        ("{}", plain),
        (r#"{"stream":null,"n":null,"tools":[],"reasoning":null,"thinking":null}"#, plain),
        (r#"{"stream":false,"n":0,"reasoning_effort":"none","thinking":{"type":"disabled"}}"#, plain),
        (
            r#"{"n":99999999999999999999,"response_format":{"type":"text"},"reasoning":{"effort":"none"}}"#,
            plain,
        ),
        (
            r#"{"thinking":{"budget_tokens":0},"reasoning_effort":null,"text":{"format":{"type":"text"}}}"#,
            plain,
        ),
        (r#"{"stream":true}"#, (true, 1, false, false, false)),
        (r#"{"n":3}"#, (false, 3, false, false, false)),
        (r#"{"n":9999999999}"#, (false, u32::MAX, false, false, false)),
        (r#"{"tools":[{"type":"function"}]}"#, (false, 1, true, false, false)),
        (r#"{"reasoning_effort":"low"}"#, (false, 1, false, true, false)),
        (r#"{"reasoning":{"effort":"high","summary":"auto"}}"#, (false, 1, false, true, false)),
        (r#"{"thinking":{"type":"enabled","budget_tokens":1024}}"#, (false, 1, false, true, false)),
        (r#"{"thinking":{"type":"adaptive"}}"#, (false, 1, false, true, false)),
        (r#"{"enable_thinking":true}"#, (false, 1, false, true, false)),
        (r#"{"response_format":{"type":"json_schema","json_schema":{}}}"#, (false, 1, false, false, true)),
        (r#"{"text":{"format":{"type":"json_object"}}}"#, (false, 1, false, false, true)),
        (
            r#"{"generationConfig":{"responseMimeType":"application/json","thinkingConfig":{"thinkingBudget":-1},"candidateCount":2}}"#,
            (false, 2, false, true, true),
        ),
        (r#"{"generationConfig":{"thinkingConfig":{"thinkingBudget":0}}}"#, plain),
        (
            r#"{"generation_config":{"response_mime_type":"application/json","thinking_config":{"thinking_budget":-1},"candidate_count":2}}"#,
            (false, 2, false, true, true),
        ),
        (r#"{"generation_config":{"thinking_config":{"thinking_budget":0}}}"#, plain),
        (
            r#"{"additionalModelRequestFields":{"thinking":{"type":"enabled"},"top_k":5}}"#,
            (false, 1, false, true, false),
        ),
    ] {
        assert_eq!(notes(text), want, "{text}");
    }
}

#[test]
fn only_responses_without_state_are_safe_to_replay() {
    use Replay::{Safe, UnprocessedOnly};
    for (api, text, want) in [
        (Api::ChatCompletions, r#"{"store":true}"#, Safe),
        (Api::Messages, "{}", Safe),
        (Api::Embeddings, "{}", Safe),
        (Api::CountTokens, "{}", Safe),
        (Api::Completions, "{}", Safe),
        (Api::GenerateContent, "{}", Safe),
        (Api::Responses, "{}", UnprocessedOnly),
        (Api::Responses, r#"{"store":null}"#, UnprocessedOnly),
        (Api::Responses, r#"{"store":true}"#, UnprocessedOnly),
        (Api::Responses, r#"{"store":false}"#, Safe),
        (
            Api::Responses,
            r#"{"store":false,"background":null,"previous_response_id":null,"conversation":null}"#,
            Safe,
        ),
        (Api::Responses, r#"{"store":false,"background":true}"#, UnprocessedOnly),
        (Api::Responses, r#"{"store":false,"previous_response_id":"resp_1"}"#, UnprocessedOnly),
        (Api::Responses, r#"{"store":false,"conversation":{"id":"c"}}"#, UnprocessedOnly),
        (Api::Responses, r#"{"store":true,"store":false}"#, UnprocessedOnly),
        (Api::Responses, r#"{"store":false,"prompt":{"id":"pmpt_1"}}"#, Safe),
        (Api::Responses, r#"{"store":false,"st\u006fre":true}"#, UnprocessedOnly),
    ] {
        assert_eq!(body(api, text.as_bytes()).unwrap().replay, want, "{api:?} {text}");
    }
}

#[test]
fn what_a_provider_keeps_of_earlier_turns_is_noticed_unless_it_is_empty() {
    for (api, text, want) in [
        (Api::Responses, r#"{"previous_response_id":"resp_1"}"#, true),
        (Api::Responses, r#"{"conversation":{"id":"conv_1"}}"#, true),
        (Api::Responses, r#"{"previous_response_id":null,"conversation":null}"#, false),
        (Api::Responses, r#"{"previous_response_id":""}"#, false),
        (Api::Responses, r#"{"store":true,"background":true}"#, false),
        (Api::Responses, r#"{"prompt":{"id":"pmpt_1"},"input":"x"}"#, true),
        (Api::Responses, r#"{"prompt":null}"#, false),
        (Api::ChatCompletions, r#"{"prompt":{"id":"pmpt_1"}}"#, false),
        (Api::Completions, r#"{"prompt":"x"}"#, false),
        (Api::GenerateContent, r#"{"cachedContent":"cachedContents/1"}"#, true),
        (Api::GenerateContent, r#"{"cached_content":"cachedContents/1"}"#, true),
        (Api::GenerateContent, r#"{"contents":[{"cachedContent":"x"}]}"#, false),
    ] {
        assert_eq!(body(api, text.as_bytes()).unwrap().names_state, want, "{text}");
    }
}

#[test]
fn top_level_members_are_known_by_name_and_nested_ones_are_not() {
    let text = r#"{"top_p":1,"t\u0065mperature":0,"x":{"max_tokens":1}}"#;
    let parsed = chat(text).unwrap();
    for (name, want) in
        [("top_p", true), ("temperature", true), ("x", true), ("max_tokens", false), ("top", false)]
    {
        assert_eq!(parsed.has(text.as_bytes(), name), want, "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = body(Api::Responses, &bytes);
    }

    #[test]
    fn what_is_accepted_is_what_serde_reads(model in "[ -~]{0,20}", stream in any::<bool>(), prompt in ".*") {
        let value = serde_json::json!({"messages": [{"content": prompt}], "model": model, "stream": stream});
        let parsed = chat(&value.to_string()).unwrap();
        prop_assert_eq!(parsed.model.unwrap_or_default(), model);
        prop_assert_eq!(parsed.stream, stream);
    }
}
