//! What Ollama wants beside what the golden files have.

use super::super::form::{
    Effort, Function, Part, Request, Role, Thinking, ThinkingLevel, Tool, ToolChoice, Turn,
};
use super::super::loss::{Loss, Losses};
use super::super::{AnswerContext, Asked, RequestContext, State, Stream, ThinkingRule, write_request};
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use bytes::Bytes;
use serde_json::{Value, json};

fn said(request: &Request, context: &RequestContext<'_>) -> (Value, Losses) {
    let translated = write_request(request, Dialect::OpenAiChat, Dialect::OllamaChat, context).unwrap();
    (serde_json::from_slice(&translated.body).unwrap(), translated.lost)
}

fn ask() -> Request {
    Request { turns: vec![Turn::new(Role::User, vec![Part::text("x")])], ..Request::default() }
}

#[test]
fn streaming_is_always_said_and_thinking_only_when_asked() {
    let (body, _) = said(&ask(), &RequestContext::new("m"));
    assert_eq!((&body["stream"], body.get("think"), body.get("options")), (&json!(false), None, None));
    let high = Thinking { effort: Some(Effort::Max), ..Thinking::default() };
    let off = Thinking { level: Some(ThinkingLevel::Off), ..Thinking::default() };
    let cannot = RequestContext { can_think: Some(false), ..RequestContext::new("m") };
    let never = RequestContext { thinking: ThinkingRule::Off, ..RequestContext::new("m") };
    for (thinking, context, want, is_lost) in [
        (&high, &RequestContext::new("qwen3:4b"), Some(json!(true)), false),
        (&high, &RequestContext::new("gpt-oss:20b"), Some(json!("high")), false),
        (&off, &RequestContext::new("gpt-oss:20b"), Some(json!(false)), false),
        (&off, &RequestContext::new("qwen3:4b"), Some(json!(false)), false),
        (&high, &cannot, None, true),
        (&off, &cannot, None, false),
        (&high, &never, None, false),
    ] {
        let (body, lost) = said(&Request { thinking: thinking.clone(), ..ask() }, context);
        assert_eq!((body.get("think"), lost.has(Loss::Thinking)), (want.as_ref(), is_lost), "{thinking:?}");
    }
}

#[test]
fn a_choice_of_no_tool_is_no_tools_and_others_are_lost() {
    let mut request = ask();
    request.tools = vec![Tool::Function(Function { name: "f".to_owned(), ..Function::default() })];
    for (choice, has_tools, is_lost) in [
        (None, true, false),
        (Some(ToolChoice::Auto), true, false),
        (Some(ToolChoice::None), false, false),
        (Some(ToolChoice::Required), true, true),
        (Some(ToolChoice::Named("f".to_owned())), true, true),
    ] {
        request.tool_choice = choice;
        let (body, lost) = said(&request, &RequestContext::new("m"));
        assert_eq!((body.get("tools").is_some(), lost.has(Loss::ToolChoice)), (has_tools, is_lost));
    }
}

#[test]
fn a_line_with_an_error_and_a_stream_without_its_last_line_never_end_normally() {
    let asked = Asked::default();
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 7, shows_thoughts: false, signs_calls: false };
    let text = "{\"message\":{\"content\":\"a\"},\"done\":false}\n";
    for (rest, want) in [
        ("{\"message\":{\"content\":\"\"},\"done\":true}", State::Ended),
        ("{\"error\":\"it died\"}\n", State::Failed(Outcome::InbandError)),
        ("{\"message\":{\"content\":\"b", State::Open),
        ("", State::Open),
    ] {
        let mut stream = Stream::new(Dialect::OllamaChat, Dialect::OpenAiChat, &context).unwrap();
        let mut out = Vec::new();
        stream.feed(&Bytes::from(format!("{text}{rest}")), &mut out);
        assert_eq!(stream.finish(&mut out), want, "{rest}");
    }
}
