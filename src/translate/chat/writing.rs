//! Writes requests of chat completions, in what most servers take.

use super::super::form::{
    Content, Function, Json, OutputFormat, Part, Request, Role, Sampling, Source, Tool, ToolChoice,
    ToolResult, ToolUse, Turn,
};
use super::super::loss::{Loss, Losses};
use super::super::results::{self, Message};
use super::super::{RequestContext, json_word, media, schema, server, thinking, write};
use super::OWN;
use crate::base::api::Dialect;

/// Writes a request.
pub(in super::super) fn write(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let mut lost = Losses::default();
    let mut body = Vec::with_capacity(context.length);
    write::object(&mut body, |o| {
        o.text("model", context.model);
        o.array("messages", |array| write_messages(array, request, context, &mut lost));
        write_tools(o, request, &mut lost);
        let effort = thinking::effort(&request.thinking, context.thinking);
        let sampling = context.server.sampling(&request.sampling, context.model, effort, &mut lost);
        write_sampling(o, &sampling, context.server.seed_name());
        let name = if server::reasons(context.model) { "max_completion_tokens" } else { "max_tokens" };
        o.count_if(name, request.max_tokens);
        write_output(o, &request.output, context, &mut lost);
        write_thinking(o, request, context, &mut lost);
        let user = if context.server.takes_user() { super::user(request, &mut lost) } else { None };
        o.text_if("user", user);
        if request.stream {
            o.flag("stream", true);
            // Our own count of tokens wants it, whoever asked.
            if context.server.takes_stream_options() {
                o.object("stream_options", |o| o.flag("include_usage", true));
            }
        }
        if request.extra.owner == Some(OWN) {
            o.extra(&request.extra);
        }
    });
    lost.add_if(request.user.is_some() && !context.server.takes_user(), Loss::User);
    lost.add_if(request.metadata.is_some(), Loss::Metadata);
    lost.add_if(request.has_cache_marks(), Loss::CacheMark);
    (body, lost)
}

fn write_messages(
    array: &mut write::Array<'_>,
    request: &Request,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    let mut word = json_word::missing(request, &request.turns);
    // Many templates take one instruction alone, and only before all else.
    if let Some(word) = word.take_if(|_| request.turns.first().is_none_or(|turn| !turn.role.is_instruction()))
    {
        let turn = Turn::new(Role::System, vec![word]);
        write_turn(array, &turn, &turn.parts.iter().collect::<Vec<_>>(), context, lost);
    }
    for (at, message) in results::apart(&request.turns).into_iter().enumerate() {
        match message {
            Message::Result(result, texts) => write_result(array, result, &texts, context, lost),
            Message::Said(turn, mut parts) => {
                parts.extend(word.as_ref().filter(|_| at == 0));
                write_turn(array, turn, &parts, context, lost);
            }
        }
    }
}

fn write_turn(
    array: &mut write::Array<'_>,
    turn: &Turn,
    parts: &[&Part],
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    match turn.role {
        Role::System | Role::Developer => write_message(array, "system", turn, parts, lost),
        Role::Assistant => write_assistant(array, turn, context, lost),
        Role::User | Role::Tool => write_message(array, "user", turn, parts, lost),
    }
}

fn write_result(
    array: &mut write::Array<'_>,
    result: &ToolResult,
    texts: &[&Part],
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    lost.add_if(result.is_error, Loss::ToolErrorFlag);
    array.object(|o| {
        o.text("role", "tool");
        o.text("tool_call_id", &context.server.call_id(&result.id));
        o.text("content", &joined(texts, "\n"));
    });
}

fn write_message(array: &mut write::Array<'_>, role: &str, turn: &Turn, parts: &[&Part], lost: &mut Losses) {
    array.object(|o| {
        o.text("role", role);
        o.text_if("name", turn.name.as_deref());
        if parts.iter().all(|part| matches!(part.content, Content::Text(_))) {
            o.text("content", &joined(parts, "\n\n"));
        } else {
            o.array("content", |array| parts.iter().for_each(|part| write_part(array, &part.content, lost)));
        }
    });
}

fn joined(parts: &[&Part], between: &str) -> String {
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| match &part.content {
            Content::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.join(between)
}

fn write_part(array: &mut write::Array<'_>, content: &Content, lost: &mut Losses) {
    match content {
        Content::Text(text) => array.object(|o| {
            o.text("type", "text");
            o.text("text", text);
        }),
        Content::Image { source, detail } => match media::to_url(source, OWN) {
            Some(url) => array.object(|o| {
                o.text("type", "image_url");
                o.object("image_url", |o| {
                    o.text("url", &url);
                    o.text_if("detail", detail.as_deref());
                });
            }),
            None => lost.add(media::loss(source, Loss::Image)),
        },
        Content::Document { source, name } => write_document(array, source, name.as_deref(), lost),
        Content::Audio { source } => write_audio(array, source, lost),
        Content::Refusal(text) => array.object(|o| {
            o.text("type", "refusal");
            o.text("refusal", text);
        }),
        Content::Thinking { .. } | Content::RedactedThinking(_) => lost.add(Loss::ThinkingHistory),
        Content::Foreign { owner, json } if *owner == OWN => array.json(json),
        // Calls and results never stand among these parts.
        Content::Foreign { .. } | Content::ToolUse(_) | Content::ToolResult(_) => lost.add(Loss::ForeignPart),
    }
}

fn write_document(array: &mut write::Array<'_>, source: &Source, name: Option<&str>, lost: &mut Losses) {
    if let Source::Text(text) = source {
        return write_part(array, &Content::Text(text.clone()), lost);
    }
    let data = match source {
        Source::Base64 { .. } => media::to_url(source, OWN),
        Source::Url { .. } | Source::Text(_) | Source::File { .. } => None,
    };
    let id = match source {
        Source::File { owner, id } if *owner == OWN || *owner == Dialect::OpenAiResponses => {
            Some(id.as_str())
        }
        Source::File { .. } | Source::Url { .. } | Source::Text(_) | Source::Base64 { .. } => None,
    };
    if data.is_none() && id.is_none() {
        return lost.add(media::loss(source, Loss::Document));
    }
    array.object(|o| {
        o.text("type", "file");
        o.object("file", |o| {
            o.text_if("file_id", id);
            if let Some(data) = &data {
                o.text("filename", name.unwrap_or("document"));
                o.text("file_data", data);
            }
        });
    });
}

fn write_audio(array: &mut write::Array<'_>, source: &Source, lost: &mut Losses) {
    let Source::Base64 { media_type, data } = source else { return lost.add(Loss::Audio) };
    let format = media_type.rsplit('/').next().unwrap_or_default();
    let format = if format == "mpeg" { "mp3" } else { format };
    array.object(|o| {
        o.text("type", "input_audio");
        o.object("input_audio", |o| {
            o.text("data", data);
            o.text("format", format);
        });
    });
}

fn write_assistant(
    array: &mut write::Array<'_>,
    turn: &Turn,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    // Google's own server in this dialect wants its signatures back; nobody else knows the member.
    let is_google = context.model.contains("gemini");
    let mut said: Vec<&Part> = Vec::new();
    let mut calls: Vec<&ToolUse> = Vec::new();
    let mut refusal = None;
    for part in &turn.parts {
        match &part.content {
            Content::ToolUse(call) => calls.push(call),
            Content::Refusal(text) => refusal = Some(text.as_str()),
            // No server takes another's thoughts, and OpenAI refuses members that it does not know.
            Content::Thinking { .. } | Content::RedactedThinking(_) => lost.add(Loss::ThinkingHistory),
            Content::Text(_)
            | Content::Image { .. }
            | Content::Document { .. }
            | Content::Audio { .. }
            | Content::ToolResult(_)
            | Content::Foreign { .. } => said.push(part),
        }
    }
    array.object(|o| {
        o.text("role", "assistant");
        o.text_if("name", turn.name.as_deref());
        let foreign = said.iter().filter(|part| !matches!(part.content, Content::Text(_)));
        foreign.for_each(|part| lost.add(foreign_loss(&part.content)));
        let text = joined(&said, "\n\n");
        if text.is_empty() && (!calls.is_empty() || refusal.is_some()) {
            o.null("content");
        } else {
            o.text("content", &text);
        }
        o.text_if("refusal", refusal);
        if !calls.is_empty() {
            o.array("tool_calls", |array| {
                for call in calls {
                    let seal = call.seal.as_ref().filter(|_| is_google);
                    lost.add_if(call.seal.is_some() && !is_google, Loss::ThinkingHistory);
                    array.object(|o| super::write_call(o, &context.server.call_id(&call.id), call, seal));
                }
            });
        }
    });
}

fn foreign_loss(content: &Content) -> Loss {
    match content {
        Content::Image { .. } => Loss::Image,
        Content::Document { .. } => Loss::Document,
        Content::Audio { .. } => Loss::Audio,
        Content::Text(_)
        | Content::Refusal(_)
        | Content::Thinking { .. }
        | Content::RedactedThinking(_)
        | Content::ToolUse(_)
        | Content::ToolResult(_)
        | Content::Foreign { .. } => Loss::ForeignPart,
    }
}

fn write_tools(o: &mut write::Object<'_>, request: &Request, lost: &mut Losses) {
    let tools = request.tools_for(OWN);
    lost.add_if(tools.len() < request.tools.len(), Loss::ServerTool);
    if tools.is_empty() {
        return;
    }
    o.array("tools", |array| {
        for tool in tools {
            match tool {
                Tool::Function(function) => write_function(array, function),
                Tool::Server { json, .. } => array.json(json),
            }
        }
    });
    match &request.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => o.text("tool_choice", "auto"),
        Some(ToolChoice::None) => o.text("tool_choice", "none"),
        Some(ToolChoice::Required) => o.text("tool_choice", "required"),
        Some(ToolChoice::Named(name)) => o.object("tool_choice", |o| {
            o.text("type", "function");
            o.object("function", |o| o.text("name", name));
        }),
    }
    o.flag_if("parallel_tool_calls", request.parallel_tools);
}

fn write_function(array: &mut write::Array<'_>, function: &Function) {
    array.object(|o| {
        o.text("type", "function");
        o.object("function", |o| {
            o.text("name", &function.name);
            o.text_if("description", function.description.as_deref());
            o.json_if("parameters", function.parameters.as_ref());
            o.flag_if("strict", function.strict);
        });
    });
}

fn write_sampling(o: &mut write::Object<'_>, sampling: &Sampling, seed: &str) {
    o.number_if("temperature", sampling.temperature.as_ref());
    o.number_if("top_p", sampling.top_p.as_ref());
    // Not OpenAI's, but nearly every other server's.
    o.number_if("top_k", sampling.top_k.as_ref());
    o.number_if(seed, sampling.seed.as_ref());
    if !sampling.stop.is_empty() {
        o.texts("stop", &sampling.stop);
    }
    o.number_if("presence_penalty", sampling.presence_penalty.as_ref());
    o.number_if("frequency_penalty", sampling.frequency_penalty.as_ref());
    o.flag_if("logprobs", sampling.logprobs);
    o.number_if("top_logprobs", sampling.top_logprobs.as_ref());
}

fn write_output(
    o: &mut write::Object<'_>,
    output: &OutputFormat,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    let wants_subset = context.server.wants_subset();
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonSchema { schema, .. } if wants_subset && !schema::is_object(schema) => {
            lost.add(Loss::OutputFormat);
        }
        OutputFormat::JsonObject => o.object("response_format", |o| o.text("type", "json_object")),
        OutputFormat::JsonSchema { name, description, schema, strict } => o.object("response_format", |o| {
            o.text("type", "json_schema");
            o.object("json_schema", |o| {
                o.text("name", name.as_deref().unwrap_or("answer"));
                o.text_if("description", description.as_deref());
                o.json("schema", schema);
                let is_followed = *strict != Some(true) || schema::fits_strict(schema);
                lost.add_if(!is_followed && wants_subset, Loss::OutputFormat);
                o.flag_if("strict", strict.filter(|_| is_followed));
            });
        }),
    }
}

/// Writes `reasoning_effort`, the one word that most servers with thinking models know. Nothing is
/// written where the model is left to itself: no word means that to all of them.
fn write_thinking(
    o: &mut write::Object<'_>,
    request: &Request,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    let Some(effort) = thinking::effort(&request.thinking, context.thinking) else { return };
    match context.server.effort_word(context.model, effort).filter(|_| context.can_think != Some(false)) {
        Some(word) => o.text("reasoning_effort", word),
        None => lost.add(Loss::Thinking),
    }
}

/// Returns a schema that allows anything, for dialects that want one.
pub(in super::super) fn any_object() -> Json {
    Json::checked(r#"{"type":"object","properties":{}}"#)
}
