//! Writes requests of Ollama's chat.
//!
//! `stream` is always said, for its default is on. A tool choice of `none` leaves the tools out;
//! others Ollama does not know. Models of the gpt-oss family think by words, all others by yes or
//! no; a model that cannot think refuses either, so nothing is said unless somebody asked.

use super::super::form::{
    Content, OutputFormat, Part, Request, Role, Sampling, Source, ThinkingLevel, Tool, ToolChoice,
    ToolResult, ToolUse, Turn,
};
use super::super::loss::{Loss, Losses};
use super::super::results::{self, Message};
use super::super::{RequestContext, ThinkingRule, chat, ids, media, messages, thinking, write};
use crate::base::api::Dialect;
use serde_json::Number;
use std::collections::HashMap;

/// Writes a request.
pub(in super::super) fn write(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let mut lost = Losses::default();
    let mut body = Vec::with_capacity(context.length);
    write::object(&mut body, |o| {
        o.text("model", context.model);
        let called = request.called_names();
        o.array("messages", |array| {
            for message in results::apart(&request.turns) {
                match message {
                    Message::Result(result, texts) => write_result(array, result, &texts, &called, &mut lost),
                    Message::Said(turn, parts) => write_turn(array, turn, &parts, &mut lost),
                }
            }
        });
        write_tools(o, request, &mut lost);
        match &request.output {
            OutputFormat::Text => {}
            OutputFormat::JsonObject => o.text("format", "json"),
            OutputFormat::JsonSchema { schema, .. } => o.json("format", schema),
        }
        write_options(o, request, &mut lost);
        write_thinking(o, request, context, &mut lost);
        o.flag("stream", request.stream);
    });
    lost.add_if(request.user.is_some(), Loss::User);
    lost.add_if(request.metadata.is_some(), Loss::Metadata);
    lost.add_if(request.has_cache_marks(), Loss::CacheMark);
    (body, lost)
}

fn write_turn(array: &mut write::Array<'_>, turn: &Turn, parts: &[&Part], lost: &mut Losses) {
    lost.add_if(turn.name.is_some(), Loss::SpeakerName);
    let role = match turn.role {
        Role::System | Role::Developer => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Tool => "user",
    };
    write_message(array, role, parts, lost);
}

fn write_result(
    array: &mut write::Array<'_>,
    result: &ToolResult,
    texts: &[&Part],
    called: &HashMap<&str, &str>,
    lost: &mut Losses,
) {
    lost.add_if(result.is_error, Loss::ToolErrorFlag);
    array.object(|o| {
        o.text("role", "tool");
        o.text("content", &Said::of(texts, "\n", lost).text);
        o.text_if("tool_name", result.name.as_deref().or_else(|| called.get(result.id.as_str()).copied()));
        o.text("tool_call_id", &ids::safe(&result.id));
    });
}

/// What of some parts Ollama takes.
struct Said<'a> {
    text: String,
    images: Vec<&'a str>,
    calls: Vec<&'a ToolUse>,
}

impl<'a> Said<'a> {
    fn of(parts: &[&'a Part], between: &str, lost: &mut Losses) -> Self {
        let (mut texts, mut images, mut calls): (Vec<&str>, _, _) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match &part.content {
                Content::Text(text)
                | Content::Refusal(text)
                | Content::Document { source: Source::Text(text), .. } => texts.push(text),
                Content::Image { source: Source::Base64 { data, .. }, .. } => images.push(data.as_str()),
                Content::ToolUse(call) => calls.push(call),
                Content::Image { source, .. } => lost.add(media::loss(source, Loss::Image)),
                Content::Document { source, .. } => lost.add(media::loss(source, Loss::Document)),
                Content::Audio { .. } => lost.add(Loss::Audio),
                Content::Thinking { .. } | Content::RedactedThinking(_) => lost.add(Loss::ThinkingHistory),
                // Results never stand among these parts.
                Content::ToolResult(_) | Content::Foreign { .. } => lost.add(Loss::ForeignPart),
            }
        }
        Said { text: texts.join(between), images, calls }
    }
}

fn write_message(array: &mut write::Array<'_>, role: &str, parts: &[&Part], lost: &mut Losses) {
    let said = Said::of(parts, "\n\n", lost);
    array.object(|o| {
        o.text("role", role);
        o.text("content", &said.text);
        if !said.images.is_empty() {
            o.array("images", |array| said.images.iter().for_each(|image| array.text(image)));
        }
        if !said.calls.is_empty() {
            o.array("tool_calls", |array| {
                for call in &said.calls {
                    array.object(|o| write_call(o, call));
                }
            });
        }
    });
}

fn write_call(o: &mut write::Object<'_>, call: &ToolUse) {
    if !call.id.is_empty() {
        o.text("id", &ids::safe(&call.id));
    }
    o.object("function", |o| {
        o.text("name", &call.name);
        messages::write_input_as(o, "arguments", call);
    });
}

fn write_tools(o: &mut write::Object<'_>, request: &Request, lost: &mut Losses) {
    let tools = request.tools_for(Dialect::OllamaChat);
    lost.add_if(tools.len() < request.tools.len(), Loss::ServerTool);
    let may_call = request.tool_choice != Some(ToolChoice::None);
    if !may_call || tools.is_empty() {
        return;
    }
    o.array("tools", |array| {
        for tool in tools {
            let Tool::Function(function) = tool else { continue };
            lost.add_if(function.strict == Some(true), Loss::StrictTools);
            array.object(|o| {
                o.text("type", "function");
                o.object("function", |o| {
                    o.text("name", &function.name);
                    o.text_if("description", function.description.as_deref());
                    match &function.parameters {
                        Some(schema) => o.json("parameters", schema),
                        None => o.json("parameters", &chat::any_object()),
                    }
                });
            });
        }
    });
    let is_forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    lost.add_if(is_forced, Loss::ToolChoice);
    lost.add_if(request.parallel_tools == Some(false), Loss::ParallelTools);
}

fn write_options(o: &mut write::Object<'_>, request: &Request, lost: &mut Losses) {
    let Sampling { temperature, top_p, top_k, seed, stop, presence_penalty, frequency_penalty, .. } =
        &request.sampling;
    lost.add_if(request.sampling.logprobs == Some(true), Loss::Logprobs);
    let numbers: [(&str, Option<&Number>); 6] = [
        ("temperature", temperature.as_ref()),
        ("top_p", top_p.as_ref()),
        ("top_k", top_k.as_ref()),
        ("seed", seed.as_ref()),
        ("presence_penalty", presence_penalty.as_ref()),
        ("frequency_penalty", frequency_penalty.as_ref()),
    ];
    let is_empty = numbers.iter().all(|(_, number)| number.is_none());
    if is_empty && stop.is_empty() && request.max_tokens.is_none() {
        return;
    }
    o.object("options", |o| {
        for (name, number) in numbers {
            o.number_if(name, number);
        }
        if !stop.is_empty() {
            o.texts("stop", stop);
        }
        o.count_if("num_predict", request.max_tokens);
    });
}

fn write_thinking(
    o: &mut write::Object<'_>,
    request: &Request,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    let level = thinking::level(&request.thinking, context.thinking);
    let Some(level) = level else { return };
    if context.can_think == Some(false) {
        return lost.add_if(request.thinking.is_wanted(), Loss::Thinking);
    }
    // Off by the operator also answers a provider that refused the word itself: say nothing.
    if level == ThinkingLevel::Off && context.thinking == ThinkingRule::Off {
        return;
    }
    let effort = thinking::effort(&request.thinking, context.thinking);
    match effort.filter(|_| context.model.contains("gpt-oss")) {
        Some(effort) => o.text("think", thinking::word_of_three(effort)),
        None => o.flag("think", level != ThinkingLevel::Off),
    }
}
