//! What must hold of any request: said in another dialect and back, nothing is lost that the
//! other can say.

mod kept;
mod pairs;
mod refused;

use super::form::{
    Content, Effort, Function, Json, OutputFormat, Part, Request, Role, Sampling, Source, Thinking,
    ThinkingLevel, Tool, ToolChoice, ToolResult, ToolUse, Turn,
};
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Number;

const CHAT: Dialect = Dialect::OpenAiChat;
const MESSAGES: Dialect = Dialect::AnthropicMessages;

fn plain<'a>() -> RequestContext<'a> {
    RequestContext { marks_cache: false, ..RequestContext::new("m") }
}

fn written(request: &form::Request, from: Dialect, to: Dialect) -> Translated {
    write_request(request, from, to, &plain()).unwrap()
}

fn over(request: &form::Request, own: Dialect, by: Dialect) -> (form::Request, Losses) {
    let there = written(request, own, by);
    let back = read_request(by, own, &there.body).unwrap();
    let here = written(&back, by, own);
    (read_request(own, by, &here.body).unwrap(), there.lost)
}

fn words() -> impl Strategy<Value = String> {
    "[a-zA-Z\"\\\\é{} ]{0,12}[a-z]"
}

fn image() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Source::Url { url: "https://example.com/a.png".to_owned(), media_type: None }),
        Just(Source::Base64 { media_type: "image/png".to_owned(), data: "iVBORw0KGgo=".to_owned() }),
    ]
    .prop_map(|source| Part::of(Content::Image { source, detail: None }))
}

/// A user's turn with something in it: one text, or a text and images.
fn user() -> impl Strategy<Value = Vec<Turn>> {
    (words(), prop::collection::vec(image(), 0..3)).prop_map(|(text, images)| {
        let parts = [vec![Part::text(text)], images].concat();
        vec![Turn::new(Role::User, parts)]
    })
}

/// The model calls tools and gets their results.
fn tool_round() -> impl Strategy<Value = Vec<Turn>> {
    (prop::option::of(words()), prop::collection::vec((words(), "[a-z]{1,5}", 0..9_u8), 1..4)).prop_map(
        |(text, calls)| {
            let mut said: Vec<Part> = text.into_iter().map(Part::text).collect();
            let mut results = Vec::new();
            for (at, (text, name, number)) in calls.into_iter().enumerate() {
                let id = format!("call_{at}");
                let arguments = format!("{{\"n\": {number}.0}}");
                said.push(Part::of(Content::ToolUse(ToolUse {
                    id: id.clone(),
                    name,
                    arguments,
                    seal: None,
                })));
                let result = ToolResult { id, name: None, parts: vec![Part::text(text)], is_error: false };
                results.push(Turn::new(Role::Tool, vec![Part::of(Content::ToolResult(result))]));
            }
            [vec![Turn::new(Role::Assistant, said)], results].concat()
        },
    )
}

fn answered() -> impl Strategy<Value = Vec<Turn>> {
    words().prop_map(|text| vec![Turn::new(Role::Assistant, vec![Part::text(text)])])
}

fn conversation() -> impl Strategy<Value = Vec<Turn>> {
    let round = (user(), prop_oneof![tool_round(), answered()]).prop_map(|(a, b)| [a, b].concat());
    let system = prop::option::of(words().prop_map(|text| Turn::new(Role::System, vec![Part::text(text)])));
    (system, prop::collection::vec(round, 0..4), user())
        .prop_map(|(system, rounds, last)| [system.into_iter().collect(), rounds.concat(), last].concat())
}

fn tools() -> impl Strategy<Value = (Vec<Tool>, Option<ToolChoice>, Option<bool>)> {
    let tool = ("[a-z]{1,6}", prop::option::of(words())).prop_map(|(name, description)| {
        let parameters = Json::new(r#"{"type":"object","properties":{"n":{"maximum":1e400}}}"#);
        Tool::Function(Function { name, description, parameters, ..Function::default() })
    });
    let choice = prop_oneof![
        Just(None),
        Just(Some(ToolChoice::Auto)),
        Just(Some(ToolChoice::Required)),
        Just(Some(ToolChoice::Named("f".to_owned()))),
    ];
    // A number of parallel calls is said with a choice in one dialect and without in the other.
    let choices = choice.prop_flat_map(|choice| {
        let parallel =
            if choice.is_some() { prop::option::of(Just(false)).boxed() } else { Just(None).boxed() };
        (Just(choice), parallel)
    });
    (prop::collection::vec(tool, 0..3), choices).prop_map(|(tools, (choice, parallel))| {
        let has_tools = !tools.is_empty();
        (tools, choice.filter(|_| has_tools), parallel.filter(|_| has_tools))
    })
}

fn sampling() -> impl Strategy<Value = Sampling> {
    (0..11_u8, any::<bool>(), prop::collection::vec("[a-z]{1,4}", 0..3)).prop_map(|(tenths, heats, stop)| {
        let number = Number::from_f64(f64::from(tenths) / 10.0);
        let temperature = number.clone().filter(|_| heats);
        let top_p = number.filter(|_| !heats && tenths < 10);
        Sampling { temperature, top_p, stop, ..Sampling::default() }
    })
}

prop_compose! {
    /// A request that both chat and messages can say.
    pub(super) fn common()(
        turns in conversation(),
        (tools, tool_choice, parallel_tools) in tools(),
        sampling in sampling(),
        max_tokens in 1..100_000_u64,
        user in prop::option::of("[a-z]{1,5}"),
        stream in any::<bool>(),
        has_schema in any::<bool>(),
    ) -> Request {
        let closed = r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#;
        let schema = Json::new(closed).filter(|_| has_schema);
        let output = schema.map_or(OutputFormat::Text, |schema| OutputFormat::JsonSchema {
            name: Some("answer".to_owned()), description: None, schema, strict: Some(true),
        });
        Request {
            model: "m".to_owned(), turns, tools, tool_choice, parallel_tools, sampling, output, user, stream,
            max_tokens: Some(max_tokens), include_usage: stream, ..Request::default()
        }
    }
}

proptest! {
    #[test]
    fn chat_said_as_messages_and_back_is_the_same(request in common()) {
        let (back, lost) = over(&request, CHAT, MESSAGES);
        prop_assert!(lost.is_empty(), "{lost:?}");
        prop_assert_eq!(back, request);
    }

    #[test]
    fn messages_said_as_chat_and_back_are_the_same(request in common()) {
        // Messages have no turns of tools; what they say is what they read.
        let body = written(&request, CHAT, MESSAGES).body;
        let own = read_request(MESSAGES, CHAT, &body).unwrap();
        let (back, lost) = over(&own, MESSAGES, CHAT);
        prop_assert!(lost.is_empty(), "{lost:?}");
        prop_assert_eq!(back, own);
    }

    #[test]
    fn no_body_makes_a_reader_panic(body in "\\{\"(messages|choices|content|model|tools)\":[\\[\\]{}\":,a-z0-9]{0,40}\\}?") {
        for (from, to) in [(CHAT, MESSAGES), (MESSAGES, CHAT)] {
            let _ = request(from, to, body.as_bytes(), &plain());
            let asked = Asked::default();
            let context = AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
            let _ = answer(from, to, body.as_bytes(), &context);
            let mut stream = Stream::new(from, to, &context).unwrap();
            let mut out = Vec::new();
            stream.feed(&Bytes::from(format!("data: {body}\n\n")), &mut out);
            stream.finish(&mut out);
        }
    }
}

fn thinking_of(request: &Request, context: &RequestContext<'_>) -> (serde_json::Value, Losses) {
    let translated = write_request(request, CHAT, MESSAGES, context).unwrap();
    (serde_json::from_slice(&translated.body).unwrap(), translated.lost)
}

#[test]
fn thinking_leaves_room_for_the_answer_and_gives_way_where_it_cannot_be() {
    let ask = |level| Request {
        turns: vec![Turn::new(Role::User, vec![Part::text("x")])],
        thinking: Thinking { level, ..Thinking::default() },
        ..Request::default()
    };
    let on = ask(Some(ThinkingLevel::Enabled { budget: Some(20_000) }));
    let (body, _) = thinking_of(&on, &plain());
    assert_eq!(body["max_tokens"], 24_096, "the default of 16384 is no room for 20000");
    assert_eq!(body["thinking"], serde_json::json!({"type": "enabled", "budget_tokens": 20_000}));
    let small = Request { max_tokens: Some(50_000), ..on.clone() };
    assert_eq!(thinking_of(&small, &plain()).0["max_tokens"], 50_000);
    let none = ask(None);
    let (body, lost) = thinking_of(&none, &plain());
    assert_eq!((&body["max_tokens"], body.get("thinking"), lost.is_empty()), (&16_384.into(), None, true));
    let adaptive = RequestContext { marks_cache: false, ..RequestContext::new("claude-opus-4-7") };
    let mut hard = on.clone();
    hard.thinking.effort = Some(Effort::Max);
    let (body, _) = thinking_of(&hard, &adaptive);
    assert_eq!(body["thinking"], serde_json::json!({"type": "adaptive"}));
    assert_eq!(body["output_config"]["effort"], "max");
    let off = RequestContext { thinking: ThinkingRule::Off, ..plain() };
    assert_eq!(thinking_of(&on, &off).0.get("thinking"), None);
    let off = ask(Some(ThinkingLevel::Off));
    assert_eq!(thinking_of(&off, &plain()).0["thinking"]["type"], "disabled");
    assert_eq!(thinking_of(&off, &adaptive).0.get("thinking"), None, "it does not unasked");
    let mut warm = hard.clone();
    warm.sampling.temperature = serde_json::Number::from_f64(0.2);
    let (body, lost) = thinking_of(&Request { thinking: Thinking::default(), ..warm }, &adaptive);
    assert_eq!((body.get("temperature"), lost.to_string()), (None, "temperature".to_owned()));
    let word = Thinking { effort: Some(Effort::Medium), ..Thinking::default() };
    let (body, lost) = thinking_of(&Request { thinking: word, ..none.clone() }, &adaptive);
    assert_eq!(body["thinking"], serde_json::json!({"type": "adaptive"}));
    assert_eq!((body["output_config"]["effort"].as_str(), lost.is_empty()), (Some("medium"), true));
    // Thoughts that cannot be there: a forced tool, a tool loop whose thoughts are gone, a model
    // that has none.
    let function = Tool::Function(Function { name: "f".to_owned(), ..Function::default() });
    let forced = Request { tools: vec![function], tool_choice: Some(ToolChoice::Required), ..on.clone() };
    let call = ToolUse { id: "a".to_owned(), name: "f".to_owned(), arguments: "{}".to_owned(), seal: None };
    let result = ToolResult { id: "a".to_owned(), name: None, parts: Vec::new(), is_error: false };
    let mut looped = on.clone();
    looped.turns.push(Turn::new(Role::Assistant, vec![Part::of(Content::ToolUse(call))]));
    looped.turns.push(Turn::new(Role::Tool, vec![Part::of(Content::ToolResult(result))]));
    let cannot = RequestContext { can_think: Some(false), ..plain() };
    for (request, context) in [(&forced, &plain()), (&looped, &plain()), (&on, &cannot)] {
        let (body, lost) = thinking_of(request, context);
        assert_eq!((body.get("thinking"), lost.has(Loss::Thinking)), (None, true));
    }
    assert_eq!(
        thinking_of(&looped, &adaptive).0["thinking"]["type"],
        "adaptive",
        "adaptive needs no thoughts"
    );
}

#[test]
fn the_instructions_are_marked_for_the_cache_unless_the_client_marks_something() {
    let system = Turn::new(Role::System, vec![Part::text("a"), Part::text("b")]);
    let mut ask =
        Request { turns: vec![system, Turn::new(Role::User, vec![Part::text("x")])], ..Request::default() };
    let context = RequestContext::new("m");
    let marks = |request: &Request, context: &RequestContext<'_>| {
        let (body, _) = thinking_of(request, context);
        body["system"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b.get("cache_control").is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(marks(&ask, &context), [false, true]);
    assert_eq!(marks(&ask, &plain()), [false, false]);
    ask.turns[0].parts[0].cache = Some(form::CacheMark::default());
    assert_eq!(marks(&ask, &context), [true, false]);
}

fn told(from: Dialect, to: Dialect, text: &str) -> (String, State) {
    let asked = Asked { model: "m".to_owned(), ..Asked::default() };
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 7, shows_thoughts: false, signs_calls: false };
    let mut stream = Stream::new(from, to, &context).unwrap();
    let mut out = Vec::new();
    stream.feed(&Bytes::copy_from_slice(text.as_bytes()), &mut out);
    let state = stream.finish(&mut out);
    (String::from_utf8(out).unwrap(), state)
}

#[test]
fn a_stream_that_breaks_off_or_fails_never_ends_normally() {
    use crate::base::outcome::Outcome;
    let delta = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let error =
        "data: {\"error\":{\"type\":\"overloaded_error\",\"message\":\"secret host\"}}\n\ndata: [DONE]\n\n";
    for (text, want) in [
        (String::new(), State::Open),
        (delta.to_owned(), State::Open),
        (format!("{delta}data: {{\"choices\":[{{\"del"), State::Open),
        (format!("{delta}{error}"), State::Failed(Outcome::Overloaded)),
        (format!("{delta}data: [DONE]\n\n"), State::Ended),
        (format!("{delta}data: [DONE]"), State::Ended),
    ] {
        let (out, state) = told(CHAT, MESSAGES, &text);
        assert_eq!(state, want, "{text}");
        assert_eq!(out.contains("message_stop"), want == State::Ended, "{text}");
        assert!(!out.contains("secret"));
    }
    let late = r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}

data: {"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}}]}

data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}}]}

"#;
    assert_eq!(told(CHAT, MESSAGES, late).1, State::Open, "two calls at once are no fault");
    let of_none =
        late.replace(r#""index":0,"function":{"arguments":"}""#, r#""index":2,"function":{"arguments":"}""#);
    assert_eq!(told(CHAT, MESSAGES, &of_none).1, State::Failed(Outcome::BadBody));
}

#[test]
fn thoughts_that_an_anthropic_client_may_not_send_back_become_pings() {
    let text = "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n";
    let (out, state) = told(CHAT, MESSAGES, text);
    assert_eq!(state, State::Ended);
    assert!(!out.contains("hm") && out.contains("event: ping") && out.contains("\"index\":0"), "{out}");
    assert!(!out.contains("\"index\":1"), "{out}");
}

#[test]
fn a_body_of_very_many_objects_is_not_taken_apart() {
    let ask = |turns: usize| {
        let turns = vec![r#"{"role":"user","content":"{\"{ \\\\"}"#; turns].join(",");
        request(CHAT, MESSAGES, format!(r#"{{"messages":[{turns}]}}"#).as_bytes(), &plain()).map(|_| ())
    };
    assert_eq!(ask(OBJECTS_MAX - 1), Ok(()));
    assert_eq!(ask(OBJECTS_MAX), Err(Untranslatable::TooMany));
    let said = format!(r#"{{"choices":[{}]}}"#, vec!["{}"; OBJECTS_MAX].join(","));
    let asked = Asked::default();
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
    assert_eq!(answer(CHAT, MESSAGES, said.as_bytes(), &context), Err(Untranslatable::TooMany));
}

/// Counts what a reader made of a body.
fn made(request: &Request) -> usize {
    fn parts(all: &[Part]) -> usize {
        let inner = |part: &Part| match &part.content {
            Content::ToolResult(result) => parts(&result.parts),
            _ => 0,
        };
        all.iter().map(|part| 1 + inner(part)).sum()
    }
    let turns: usize = request.turns.iter().map(|turn| 1 + parts(&turn.parts)).sum();
    turns + request.tools.len()
}

#[test]
fn nothing_is_made_of_what_is_no_object() {
    const MANY: usize = 500;
    let (responses, gemini) = (Dialect::OpenAiResponses, Dialect::GeminiGenerate);
    for (from, body) in [
        (CHAT, r#"{"messages":@}"#),
        (CHAT, r#"{"messages":[{"role":"user","content":@}]}"#),
        (CHAT, r#"{"messages":[{"role":"tool","tool_call_id":"a","content":@}]}"#),
        (CHAT, r#"{"messages":[{"role":"assistant","tool_calls":@}]}"#),
        (CHAT, r#"{"messages":[],"tools":@}"#),
        (CHAT, r#"{"messages":[],"functions":@}"#),
        (MESSAGES, r#"{"messages":@}"#),
        (MESSAGES, r#"{"messages":[],"system":@}"#),
        (MESSAGES, r#"{"messages":[{"role":"user","content":@}]}"#),
        (MESSAGES, r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":@}]}]}"#),
        (MESSAGES, r#"{"messages":[],"tools":@}"#),
        (responses, r#"{"input":@}"#),
        (responses, r#"{"input":[{"role":"user","content":@}]}"#),
        (responses, r#"{"input":[{"type":"message","role":"assistant","content":@}]}"#),
        (responses, r#"{"input":[{"type":"function_call_output","output":@}]}"#),
        (responses, r#"{"input":"x","tools":@}"#),
        (gemini, r#"{"contents":@}"#),
        (gemini, r#"{"contents":[{"parts":@}]}"#),
        (gemini, r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","parts":@}}]}]}"#),
        (gemini, r#"{"contents":"x","systemInstruction":{"parts":@}}"#),
        (gemini, r#"{"contents":"x","tools":@}"#),
        (gemini, r#"{"contents":"x","tools":[{"functionDeclarations":@}]}"#),
        (gemini, r#"{"contents":"x","tools":[{"a":0,"b":@}]}"#),
    ] {
        for item in ["0", "\"\"", "null", "[]", "true"] {
            let body = body.replace('@', &format!("[{}]", vec![item; MANY].join(",")));
            let read = read_request(from, CHAT, body.as_bytes());
            assert!(matches!(read, Err(Untranslatable::Member(_))), "{from:?} {body:.80}: {read:?}");
        }
        let body = body.replace('@', &format!("[{}]", vec!["{}"; MANY].join(",")));
        if let Ok(request) = read_request(from, CHAT, body.as_bytes()) {
            // A text in the place of the conversation is a turn and a part.
            let most = read::count_objects(body.as_bytes()) + 2;
            assert!(made(&request) <= most, "{from:?} {body:.80}");
        }
    }
    let numbers = r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"n":[1,2,3]}}]}]}"#;
    assert_eq!(
        made(&read_request(MESSAGES, CHAT, numbers.as_bytes()).unwrap()),
        2,
        "what is not read may be anything"
    );
}

#[test]
fn an_answer_makes_nothing_of_what_is_no_object_either() {
    let zeros = vec!["0"; 500].join(",");
    let content = format!(r#"{{"content":[{zeros}]}}"#);
    let member = Untranslatable::Member("content[]");
    assert_eq!(read_answer(MESSAGES, CHAT, content.as_bytes()), Err(member));
    let output = format!(r#"{{"output":[{zeros},{{"type":"message","content":"a"}}]}}"#);
    let read = read_answer(Dialect::OpenAiResponses, CHAT, output.as_bytes()).unwrap();
    assert_eq!(read.parts, [Part::text("a")]);
    let many = vec!["{}"; OBJECTS_MAX].join(",");
    let event = format!(
        "data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{{\"type\":\"message\",\"content\":[{many}]}}]}}}}\n\n"
    );
    let (_, state) = told(Dialect::OpenAiResponses, CHAT, &event);
    assert_eq!(state, State::Failed(crate::base::outcome::Outcome::BadBody));
}

#[test]
fn pairs_that_are_not_translated_say_so() {
    let pair = Untranslatable::Pair { from: Dialect::OpenAiEmbeddings, to: CHAT };
    assert_eq!(request(Dialect::OpenAiEmbeddings, CHAT, b"{}", &plain()).unwrap_err(), pair);
    assert_eq!(pair.to_string(), "openai.embeddings is not translated to openai.chat");
    for (body, want) in [
        (&b"[]"[..], Untranslatable::NotJson),
        (b"{", Untranslatable::NotJson),
        (b"{}", Untranslatable::Member("messages")),
        (br#"{"messages":[{"role":"x"}]}"#, Untranslatable::Member("messages[].role")),
    ] {
        assert_eq!(request(CHAT, MESSAGES, body, &plain()).unwrap_err(), want);
    }
    assert!(is_pair(CHAT, MESSAGES) && !is_pair(CHAT, CHAT) && !is_pair(CHAT, Dialect::OpenAiEmbeddings));
}
