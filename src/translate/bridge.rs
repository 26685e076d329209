//! The generate bridges: small servers before the command-line logins of other products.
//!
//! They take a prompt and give a text. The prompt is every message that is no instruction, as
//! `role: content` with an empty line between; the system is the first instruction. The text of
//! the answer stands in one of four places: `choices[0].message.content`, `content`, `response`,
//! `message.content`; the first that is there counts, and none is an empty answer. Temperature is
//! 0.3 and the length 2048 tokens where the client does not say.
//!
//! They do not stream. A client that asked for a stream gets the text in pieces of 32 characters.
//! Tools, pictures and the like are losses that make `select` pass a bridge by.
//!
//! Source: requirement B13.

use super::form::{Answer, Content, Event, Finish, OutputFormat, Part, Request, Role, Turn, Usage};
use super::loss::{Loss, Losses};
use super::read::{Object, Raw};
use super::{RequestContext, Untranslatable, fault, write};
use serde_json::Number;

/// Most tokens of an answer where the client set no limit.
const MAX_TOKENS: u64 = 2048;
/// Characters in a piece of a stream that is made of a whole answer.
const PIECE: usize = 32;

/// Writes a request.
pub(super) fn write_request(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let mut lost = Losses::default();
    let mut system = None;
    let mut said = Vec::new();
    for turn in &request.turns {
        let text = words(turn, &mut lost);
        match turn.role {
            // The first alone; another would be gone.
            Role::System | Role::Developer if system.is_none() => {
                lost.add_if(!said.is_empty(), Loss::InstructionPlace);
                system = Some(text);
            }
            Role::System | Role::Developer => lost.add(Loss::ForeignPart),
            Role::User => said.push(format!("user: {text}")),
            Role::Assistant => said.push(format!("assistant: {text}")),
            Role::Tool => said.push(format!("tool: {text}")),
        }
        lost.add_if(turn.name.is_some(), Loss::SpeakerName);
    }
    let mut body = Vec::with_capacity(context.length);
    write::object(&mut body, |o| {
        o.text("model", context.model);
        o.text("prompt", &said.join("\n\n"));
        o.text_if("system", system.as_deref());
        match &request.sampling.temperature {
            Some(number) => o.number_if("temperature", Some(number)),
            None => o.raw("temperature", "0.3"),
        }
        o.count("max_tokens", request.max_tokens.unwrap_or(MAX_TOKENS));
    });
    note_losses(request, &mut lost);
    (body, lost)
}

/// Returns the words of a turn; what are none is noted.
fn words(turn: &Turn, lost: &mut Losses) -> String {
    let mut texts: Vec<&str> = Vec::new();
    for part in &turn.parts {
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => texts.push(text),
            Content::Image { .. } => lost.add(Loss::Image),
            Content::Document { .. } => lost.add(Loss::Document),
            Content::Audio { .. } => lost.add(Loss::Audio),
            Content::Thinking { .. } | Content::RedactedThinking(_) => lost.add(Loss::ThinkingHistory),
            Content::ToolUse(_) | Content::ToolResult(_) => lost.add(Loss::Tools),
            Content::Foreign { .. } => lost.add(Loss::ForeignPart),
        }
    }
    texts.join("\n\n")
}

fn note_losses(request: &Request, lost: &mut Losses) {
    let sampling = &request.sampling;
    let is_set = |number: &Option<Number>| number.as_ref().and_then(Number::as_f64).is_some_and(|n| n != 0.0);
    lost.add_if(!request.tools.is_empty(), Loss::Tools);
    lost.add_if(request.output != OutputFormat::Text, Loss::OutputFormat);
    lost.add_if(request.thinking.is_wanted(), Loss::Thinking);
    lost.add_if(sampling.top_p.as_ref().and_then(Number::as_f64).is_some_and(|n| n < 1.0), Loss::TopP);
    lost.add_if(sampling.top_k.is_some(), Loss::TopK);
    lost.add_if(sampling.seed.is_some(), Loss::Seed);
    lost.add_if(!sampling.stop.is_empty(), Loss::Stop);
    lost.add_if(is_set(&sampling.presence_penalty) || is_set(&sampling.frequency_penalty), Loss::Penalties);
    lost.add_if(sampling.logprobs == Some(true), Loss::Logprobs);
    lost.add_if(request.has_cache_marks(), Loss::CacheMark);
    lost.add_if(request.user.is_some(), Loss::User);
    lost.add_if(request.metadata.is_some(), Loss::Metadata);
}

/// Reads an answer.
#[allow(clippy::unnecessary_wraps, reason = "other dialects' may lack what they need")]
pub(super) fn read_answer(mut body: Object<'_>) -> Result<Answer, Untranslatable> {
    let usage = body.take("usage").map(|raw| Usage::parse(raw.as_str())).unwrap_or_default();
    let model = body.text("model").unwrap_or_default();
    let text = text(body);
    let parts = if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
    Ok(Answer { model, parts, usage, ..Answer::default() })
}

/// Returns the text, from the first of the four places where it is.
fn text(mut body: Object<'_>) -> String {
    let first = body.items("choices").into_iter().next();
    let places = [
        first.and_then(|choice| choice.object().object("message").text("content")),
        body.text("content"),
        body.text("response"),
        body.object("message").text("content"),
    ];
    places.into_iter().flatten().next().unwrap_or_default()
}

/// Makes a stream of the one document that comes.
#[derive(Debug, Default)]
pub(super) struct Reader {}

impl Reader {
    /// Reads the document.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(super) fn event(&mut self, _name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        let Some(raw) = Raw::parse(data).filter(|raw| raw.is_object()) else { return };
        let is_fault = raw.object().take("error").is_some_and(|error| error.as_str() != "\"\"");
        let Ok(answer) = read_answer(raw.object()) else { return };
        if is_fault && answer.parts.is_empty() {
            seen.push(Event::Error(fault::class(raw)));
            return;
        }
        seen.push(Event::Start { id: String::new(), model: answer.model, created: None });
        for part in answer.parts {
            if let Content::Text(text) = part.content {
                seen.extend(pieces(&text).into_iter().map(Event::TextDelta));
            }
        }
        seen.push(Event::Usage(answer.usage));
        seen.push(Event::Finish { reason: Finish::Stop, stop_sequence: None });
        seen.push(Event::End);
    }

    /// Takes the end of the stream; the document came before it.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(super) fn finish(&mut self, _seen: &mut Vec<Event>) {}
}

/// Cuts a text into pieces of [`PIECE`] characters.
fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(PIECE).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::write_request;
    use super::*;
    use crate::base::api::Dialect;

    fn said(messages: &str) -> (String, Losses) {
        let (from, to) = (Dialect::OpenAiChat, Dialect::GenerateBridge);
        let body = format!("{{\"model\":\"x\",\"stream\":true,\"messages\":[{messages}]}}");
        let request = super::super::read_request(from, to, body.as_bytes()).unwrap();
        let translated = write_request(&request, from, to, &RequestContext::new("m")).unwrap();
        (String::from_utf8(translated.body).unwrap(), translated.lost)
    }

    #[test]
    fn the_prompt_is_every_message_but_the_first_instruction() {
        let talk = r#"{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}"#;
        let (body, lost) = said(&format!("{{\"role\":\"system\",\"content\":\"s\"}},{talk}"));
        let prompt = r#""prompt":"user: a\n\nassistant: b\n\nuser: c""#;
        let want = format!(r#"{{"model":"m",{prompt},"system":"s","temperature":0.3,"max_tokens":2048}}"#);
        assert_eq!((body, lost.is_empty()), (want, true));
        let (body, lost) = said(talk);
        assert_eq!(body, format!(r#"{{"model":"m",{prompt},"temperature":0.3,"max_tokens":2048}}"#));
        assert!(lost.is_empty());
        let two = r#"{"role":"system","content":"s"},{"role":"system","content":"t"}"#;
        assert!(said(two).1.matter(), "an instruction more would be gone");
    }

    #[test]
    fn the_text_stands_in_the_first_of_four_places() {
        for (body, want) in [
            (
                r#"{"choices":[{"message":{"content":"1"}}],"content":"2","response":"3","message":{"content":"4"}}"#,
                "1",
            ),
            (r#"{"choices":[],"content":"2","response":"3","message":{"content":"4"}}"#, "2"),
            (r#"{"content":null,"response":"3","message":{"content":"4"}}"#, "3"),
            (r#"{"message":{"content":"4"}}"#, "4"),
            (r#"{"content":"","response":"3"}"#, ""),
            ("{}", ""),
        ] {
            assert_eq!(text(Raw::parse(body.as_bytes()).unwrap().object()), want, "{body}");
        }
    }

    #[test]
    fn pieces_have_32_characters_whatever_their_bytes() {
        let text = "\u{e9}".repeat(70);
        let lengths: Vec<usize> = pieces(&text).iter().map(|piece| piece.chars().count()).collect();
        assert_eq!((lengths, pieces(&text).concat()), (vec![32, 32, 6], text));
    }
}
