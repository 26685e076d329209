//! What Cohere wants beside what the golden files have.

use super::super::form::{
    Function, Part, Request, Role, Sampling, Thinking, ThinkingLevel, Tool, ToolChoice, Turn,
};
use super::super::loss::Losses;
use super::super::{AnswerContext, Asked, RequestContext, State, Stream, write_request};
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use bytes::Bytes;
use serde_json::{Number, Value, json};

fn said(request: &Request) -> (Value, Losses) {
    let (from, to) = (Dialect::OpenAiChat, Dialect::CohereChat);
    let translated = write_request(request, from, to, &RequestContext::new("m")).unwrap();
    (serde_json::from_slice(&translated.body).unwrap(), translated.lost)
}

fn ask() -> Request {
    Request { turns: vec![Turn::new(Role::User, vec![Part::text("x")])], ..Request::default() }
}

#[test]
fn numbers_beyond_its_ranges_become_the_nearest_and_are_listed() {
    let number = |n: f64| Number::from_f64(n);
    for (value, temperature, p, penalty, lost) in [
        (0.5, json!(0.5), json!(0.5), json!(0.5), ""),
        (1.0, json!(1.0), json!(0.99), json!(1.0), ""),
        (1.5, json!(1.0), json!(0.99), json!(1.0), "temperature,penalties"),
        (-0.5, json!(0.0), json!(0.01), json!(0.0), "temperature,penalties"),
    ] {
        let sampling = Sampling {
            temperature: number(value),
            top_p: number(value),
            presence_penalty: number(value),
            ..Sampling::default()
        };
        let (body, losses) = said(&Request { sampling, ..ask() });
        assert_eq!((&body["temperature"], &body["p"]), (&temperature, &p), "{value}");
        assert_eq!((&body["presence_penalty"], losses.to_string().as_str()), (&penalty, lost), "{value}");
    }
    let stop: Vec<String> = (0..6).map(|n| n.to_string()).collect();
    let (body, lost) = said(&Request { sampling: Sampling { stop, ..Sampling::default() }, ..ask() });
    assert_eq!((body["stop_sequences"].as_array().unwrap().len(), lost.to_string().as_str()), (5, "stop"));
}

#[test]
fn a_named_tool_is_offered_alone_and_thoughts_leave_room_for_the_answer() {
    let tool = |name: &str| Tool::Function(Function { name: name.to_owned(), ..Function::default() });
    let mut request = ask();
    request.tools = vec![tool("f"), tool("g")];
    request.tool_choice = Some(ToolChoice::Named("g".to_owned()));
    request.max_tokens = Some(100);
    let level = Some(ThinkingLevel::Enabled { budget: Some(2000) });
    request.thinking = Thinking { level, ..Thinking::default() };
    let (body, lost) = said(&request);
    assert_eq!(body["tools"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&body["tools"][0]["function"]["name"], &body["tool_choice"]),
        (&json!("g"), &json!("REQUIRED"))
    );
    assert_eq!(body["thinking"], json!({ "type": "enabled", "token_budget": 2000 }));
    assert_eq!((&body["max_tokens"], lost.is_empty()), (&json!(6096), true));
}

#[test]
fn an_end_with_an_error_is_no_end() {
    let asked = Asked::default();
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 7, shows_thoughts: false, signs_calls: false };
    for (event, want) in [
        (r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}"#, State::Ended),
        (r#"{"type":"message-end","delta":{"finish_reason":"ERROR"}}"#, State::Failed(Outcome::InbandError)),
        (r#"{"id":"i","message":"too many"}"#, State::Failed(Outcome::InbandError)),
        (r#"{"type":"debug"}"#, State::Open),
    ] {
        let mut stream = Stream::new(Dialect::CohereChat, Dialect::OpenAiChat, &context).unwrap();
        let mut out = Vec::new();
        stream.feed(&Bytes::from(format!("data: {event}\n\n")), &mut out);
        assert_eq!(stream.finish(&mut out), want, "{event}");
    }
}
