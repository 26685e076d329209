//! Ollama's own chat.
//!
//! A stream is a JSON document a line, and on unless it is refused in so many words. Calls come
//! whole, their arguments as objects; older servers give them no ids. Images are bytes, never an
//! address. What else the model is told stands in `options`. The model's window (`num_ctx`) is
//! left as the server has it: a longer prompt is cut silently, which `context_length` of the model
//! in the configuration prevents.

#[cfg(test)]
mod tests;
mod writing;

pub(super) use writing::write as write_request;

use super::form::{Answer, Content, Event, Finish, Part, ToolUse, Usage};
use super::read::{Object, Raw};
use super::{Untranslatable, fault};

/// Reads an answer.
pub(super) fn read_answer(mut body: Object<'_>) -> Result<Answer, Untranslatable> {
    let message = body.take("message").filter(|raw| raw.is_object());
    let mut message = message.ok_or(Untranslatable::Member("message"))?.object();
    let thoughts = message.text("thinking").filter(|text| !text.is_empty());
    let text = message.text("content").filter(|text| !text.is_empty());
    let thoughts = thoughts.map(|text| Part::of(Content::Thinking { text, seal: None }));
    let calls = message.items("tool_calls").into_iter().filter_map(|raw| tool_use(raw.object()));
    let calls = calls.map(|call| Part::of(Content::ToolUse(call)));
    Ok(Answer {
        model: body.text("model").unwrap_or_default(),
        parts: thoughts.into_iter().chain(text.map(Part::text)).chain(calls).collect(),
        finish: finish(&mut body),
        usage: usage(&mut body),
        ..Answer::default()
    })
}

fn tool_use(mut call: Object<'_>) -> Option<ToolUse> {
    let mut function = call.object("function");
    let name = function.text("name").filter(|name| !name.is_empty())?;
    let arguments = function.take("arguments");
    let arguments = arguments.map(|raw| raw.text().unwrap_or_else(|| raw.as_str().to_owned()));
    let id = call.text("id").or_else(|| function.text("id")).unwrap_or_default();
    Some(ToolUse { id, name, arguments: arguments.unwrap_or_default(), seal: None })
}

fn finish(body: &mut Object<'_>) -> Finish {
    match body.text("done_reason").as_deref() {
        Some("length") => Finish::Length,
        Some(_) | None => Finish::Stop,
    }
}

fn usage(body: &mut Object<'_>) -> Usage {
    Usage { input: body.count("prompt_eval_count"), output: body.count("eval_count"), ..Usage::default() }
}

/// Reads lines.
#[derive(Debug, Default)]
pub(super) struct Reader {
    has_started: bool,
}

impl Reader {
    /// Reads one line.
    pub(super) fn event(&mut self, _name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        let Some(raw) = Raw::parse(data).filter(|raw| raw.is_object()) else { return };
        let mut line = raw.object();
        if line.take("error").is_some_and(|error| error.as_str() != "\"\"") {
            seen.push(Event::Error(fault::class(raw)));
            return;
        }
        if !std::mem::replace(&mut self.has_started, true) {
            let model = line.text("model").unwrap_or_default();
            seen.push(Event::Start { id: String::new(), model, created: None });
        }
        let mut message = line.object("message");
        seen.extend(message.text("thinking").map(Event::ThinkingDelta));
        seen.extend(message.text("content").map(Event::TextDelta));
        for call in message.items("tool_calls").into_iter().filter_map(|raw| tool_use(raw.object())) {
            seen.push(Event::ToolStart { id: call.id, name: call.name, seal: None });
            seen.push(Event::ToolArguments(call.arguments));
            seen.push(Event::PartEnd);
        }
        if line.flag("done") == Some(true) {
            seen.push(Event::Usage(usage(&mut line)));
            seen.push(Event::Finish { reason: finish(&mut line), stop_sequence: None });
            seen.push(Event::End);
        }
    }

    /// Takes the end of the stream; nothing is held.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(super) fn finish(&mut self, _seen: &mut Vec<Event>) {}
}
