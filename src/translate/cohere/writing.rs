//! Writes requests of Cohere's chat.
//!
//! Ranges are narrower than OpenAI's: temperature and penalties 0 to 1, `p` 0.01 to 0.99, `k` 0 to
//! 500, at most five stop texts; what lies beyond becomes the nearest and is listed where that is
//! another thing. A named tool is said by offering it alone and requiring a call.

use super::super::form::{
    Content, Function, OutputFormat, Part, Request, Role, Sampling, Source, ThinkingLevel, Tool, ToolChoice,
    ToolResult, ToolUse, Turn,
};
use super::super::loss::{Loss, Losses};
use super::super::results::{self, Message};
use super::super::{BEYOND_BUDGET, RequestContext, ThinkingRule, chat, ids, media, thinking, write};
use crate::base::api::Dialect;
use serde_json::Number;

const OWN: Dialect = Dialect::CohereChat;

/// Most stop texts.
const STOP_MAX: usize = 5;

/// Writes a request.
pub(in super::super) fn write(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let mut lost = Losses::default();
    let mut body = Vec::with_capacity(context.length);
    write::object(&mut body, |o| {
        o.text("model", context.model);
        o.array("messages", |array| {
            for message in results::apart(&request.turns) {
                match message {
                    Message::Result(result, texts) => write_result(array, result, &texts, &mut lost),
                    Message::Said(turn, parts) => write_turn(array, turn, parts, &mut lost),
                }
            }
        });
        write_tools(o, request, &mut lost);
        let level = thinking_level(request, context, &mut lost);
        o.count_if("max_tokens", max_tokens(request, level));
        write_sampling(o, &request.sampling, &mut lost);
        match &request.output {
            OutputFormat::Text => {}
            OutputFormat::JsonObject => o.object("response_format", |o| o.text("type", "json_object")),
            OutputFormat::JsonSchema { schema, .. } => o.object("response_format", |o| {
                o.text("type", "json_object");
                o.json("json_schema", schema);
            }),
        }
        write_thinking(o, request, level);
        if request.stream {
            o.flag("stream", true);
        }
    });
    lost.add_if(request.user.is_some(), Loss::User);
    lost.add_if(request.metadata.is_some(), Loss::Metadata);
    lost.add_if(request.has_cache_marks(), Loss::CacheMark);
    (body, lost)
}

fn write_turn(array: &mut write::Array<'_>, turn: &Turn, parts: Vec<&Part>, lost: &mut Losses) {
    lost.add_if(turn.name.is_some(), Loss::SpeakerName);
    match turn.role {
        Role::System | Role::Developer => write_message(array, "system", parts, lost),
        Role::Assistant => write_assistant(array, turn, lost),
        Role::User | Role::Tool => write_message(array, "user", parts, lost),
    }
}

fn write_result(array: &mut write::Array<'_>, result: &ToolResult, texts: &[&Part], lost: &mut Losses) {
    lost.add_if(result.is_error, Loss::ToolErrorFlag);
    array.object(|o| {
        o.text("role", "tool");
        o.text("tool_call_id", &ids::safe(&result.id));
        o.text("content", &joined(texts, "\n"));
    });
}

fn write_message(array: &mut write::Array<'_>, role: &str, mut parts: Vec<&Part>, lost: &mut Losses) {
    parts.retain(|part| match loss_of(&part.content) {
        None => true,
        Some(loss) => {
            lost.add(loss);
            false
        }
    });
    array.object(|o| {
        o.text("role", role);
        if parts.iter().all(|part| matches!(part.content, Content::Text(_))) {
            return o.text("content", &joined(&parts, "\n\n"));
        }
        o.array("content", |array| {
            for part in parts {
                write_part(array, &part.content);
            }
        });
    });
}

/// Returns what is lost with a part that Cohere does not take.
fn loss_of(content: &Content) -> Option<Loss> {
    match content {
        Content::Text(_) | Content::Refusal(_) | Content::Document { source: Source::Text(_), .. } => None,
        Content::Image { source, .. } => {
            media::to_url(source, OWN).is_none().then(|| media::loss(source, Loss::Image))
        }
        Content::Document { source, .. } => Some(media::loss(source, Loss::Document)),
        Content::Audio { .. } => Some(Loss::Audio),
        Content::Thinking { .. } | Content::RedactedThinking(_) => Some(Loss::ThinkingHistory),
        // Calls and results never stand among these parts.
        Content::ToolUse(_) | Content::ToolResult(_) | Content::Foreign { .. } => Some(Loss::ForeignPart),
    }
}

fn write_part(array: &mut write::Array<'_>, content: &Content) {
    match content {
        Content::Text(text)
        | Content::Refusal(text)
        | Content::Document { source: Source::Text(text), .. } => {
            array.object(|o| {
                o.text("type", "text");
                o.text("text", text);
            });
        }
        Content::Image { source, detail } => array.object(|o| {
            o.text("type", "image_url");
            o.object("image_url", |o| {
                o.text_if("url", media::to_url(source, OWN).as_deref());
                o.text_if("detail", detail.as_deref());
            });
        }),
        // Left out before.
        Content::Document { .. }
        | Content::Audio { .. }
        | Content::Thinking { .. }
        | Content::RedactedThinking(_)
        | Content::ToolUse(_)
        | Content::ToolResult(_)
        | Content::Foreign { .. } => {}
    }
}

fn joined(parts: &[&Part], between: &str) -> String {
    let text = |part: &&Part| match &part.content {
        Content::Text(text) | Content::Refusal(text) => Some(text.clone()),
        _ => None,
    };
    parts.iter().filter_map(text).collect::<Vec<_>>().join(between)
}

fn write_assistant(array: &mut write::Array<'_>, turn: &Turn, lost: &mut Losses) {
    let mut said: Vec<&Part> = Vec::new();
    let mut calls: Vec<&ToolUse> = Vec::new();
    for part in &turn.parts {
        match &part.content {
            Content::ToolUse(call) => calls.push(call),
            Content::Text(_) | Content::Refusal(_) => said.push(part),
            Content::Image { .. } => lost.add(Loss::Image),
            other => lost.add(loss_of(other).unwrap_or(Loss::ForeignPart)),
        }
    }
    let text = joined(&said, "\n\n");
    array.object(|o| {
        o.text("role", "assistant");
        if calls.is_empty() {
            return o.text("content", &text);
        }
        if !text.is_empty() {
            o.text("tool_plan", &text);
        }
        o.array("tool_calls", |array| {
            for call in calls {
                array.object(|o| {
                    o.text("id", &ids::safe(&call.id));
                    o.text("type", "function");
                    o.object("function", |o| {
                        o.text("name", &call.name);
                        o.text("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments });
                    });
                });
            }
        });
    });
}

fn write_tools(o: &mut write::Object<'_>, request: &Request, lost: &mut Losses) {
    let mut tools: Vec<&Function> = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => tools.push(function),
            Tool::Server { .. } => lost.add(Loss::ServerTool),
        }
    }
    if let Some(ToolChoice::Named(name)) = &request.tool_choice {
        tools.retain(|tool| tool.name == *name);
    }
    if tools.is_empty() {
        return;
    }
    let is_strict = tools.iter().all(|tool| tool.strict == Some(true));
    lost.add_if(!is_strict && tools.iter().any(|tool| tool.strict == Some(true)), Loss::StrictTools);
    lost.add_if(request.parallel_tools == Some(false), Loss::ParallelTools);
    o.array("tools", |array| {
        for function in tools {
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
    match &request.tool_choice {
        None | Some(ToolChoice::Auto) => {}
        Some(ToolChoice::None) => o.text("tool_choice", "NONE"),
        Some(ToolChoice::Required | ToolChoice::Named(_)) => o.text("tool_choice", "REQUIRED"),
    }
    if is_strict {
        o.flag("strict_tools", true);
    }
}

fn write_sampling(o: &mut write::Object<'_>, sampling: &Sampling, lost: &mut Losses) {
    o.number_if(
        "temperature",
        within(sampling.temperature.as_ref(), 0.0, 1.0, lost, Loss::Temperature).as_ref(),
    );
    if let Some(top_p) = &sampling.top_p {
        // 1 says "no limit": 0.99 is the nearest, and no other thing.
        let nearest = top_p.as_f64().map_or(0.99, |p| p.clamp(0.01, 0.99));
        let kept = top_p.as_f64() == Some(nearest);
        let nearest = if kept { Some(top_p.clone()) } else { Number::from_f64(nearest) };
        o.number_if("p", nearest.as_ref());
    }
    o.number_if("k", within(sampling.top_k.as_ref(), 0.0, 500.0, lost, Loss::TopK).as_ref());
    o.number_if("seed", sampling.seed.as_ref());
    let stop: Vec<String> = sampling.stop.iter().take(STOP_MAX).cloned().collect();
    lost.add_if(stop.len() < sampling.stop.len(), Loss::Stop);
    if !stop.is_empty() {
        o.texts("stop_sequences", &stop);
    }
    for (name, value) in
        [("presence_penalty", &sampling.presence_penalty), ("frequency_penalty", &sampling.frequency_penalty)]
    {
        o.number_if(name, within(value.as_ref(), 0.0, 1.0, lost, Loss::Penalties).as_ref());
    }
    // The form of the answer's would be another.
    lost.add_if(sampling.logprobs == Some(true), Loss::Logprobs);
}

/// Returns the number or, where it lies outside, the nearest bound.
fn within(value: Option<&Number>, min: f64, max: f64, lost: &mut Losses, loss: Loss) -> Option<Number> {
    let number = value?.as_f64()?;
    let nearest = number.clamp(min, max);
    if (nearest - number).abs() < f64::EPSILON {
        return value.cloned();
    }
    lost.add(loss);
    Number::from_f64(nearest)
}

/// Returns the level of thinking that is written; nothing where nothing is to be said of it.
fn thinking_level(
    request: &Request,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) -> Option<ThinkingLevel> {
    let level = thinking::level(&request.thinking, context.thinking)?;
    if context.can_think == Some(false) {
        lost.add_if(request.thinking.is_wanted(), Loss::Thinking);
        return None;
    }
    // Off by the operator also answers a provider that refused the word itself: say nothing.
    (level != ThinkingLevel::Off || context.thinking != ThinkingRule::Off).then_some(level)
}

/// Returns the client's limit, or more where its thoughts would leave no room for the answer.
fn max_tokens(request: &Request, level: Option<ThinkingLevel>) -> Option<u64> {
    let limit = request.max_tokens?;
    match level {
        Some(ThinkingLevel::Enabled { budget }) => {
            let budget = thinking::budget(&request.thinking, budget);
            Some(if limit <= budget { budget.saturating_add(BEYOND_BUDGET) } else { limit })
        }
        Some(ThinkingLevel::Off | ThinkingLevel::Adaptive) | None => Some(limit),
    }
}

fn write_thinking(o: &mut write::Object<'_>, request: &Request, level: Option<ThinkingLevel>) {
    let Some(level) = level else { return };
    o.object("thinking", |o| match level {
        ThinkingLevel::Off => o.text("type", "disabled"),
        ThinkingLevel::Adaptive => o.text("type", "enabled"),
        ThinkingLevel::Enabled { budget } => {
            o.text("type", "enabled");
            o.count("token_budget", thinking::budget(&request.thinking, budget));
        }
    });
}
