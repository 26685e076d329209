//! Writes requests of responses.
//!
//! The first turn goes into `instructions` if it is one (some servers want them there), every
//! other stays where it is. Nothing is stored at the provider, so thoughts must come back with the
//! conversation: their seals are asked for where the model is told to think (others refuse that).

use super::super::form::{
    Content, Effort, Function, Issuer, OutputFormat, Part, Request, Role, Seal, Source, Tool, ToolChoice,
    ToolResult, Turn,
};
use super::super::loss::{Loss, Losses};
use super::super::{RequestContext, Server, chat, ids, json_word, media, schema, thinking, write};
use super::{OWN, write_reasoning, write_text};
use crate::base::api::Dialect;

/// Least tokens of an answer that OpenAI takes.
const MAX_TOKENS_MIN: u64 = 16;

/// Writes a request.
pub(in super::super) fn write(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let mut lost = Losses::default();
    let mut body = Vec::with_capacity(context.length);
    let instructions = request.turns.first().and_then(instructions);
    let turns = request.turns.get(usize::from(instructions.is_some())..).unwrap_or_default();
    write::object(&mut body, |o| {
        o.text("model", context.model);
        o.text_if("instructions", instructions.as_deref());
        let word = json_word::missing(request, turns);
        o.array("input", |array| {
            write_message(array, "developer", &word.iter().collect::<Vec<_>>(), &mut lost);
            for turn in turns {
                write_turn(array, turn, &mut lost);
            }
        });
        write_tools(o, request, &mut lost);
        let effort = thinking::effort(&request.thinking, context.thinking);
        // Whoever speaks this dialect: the models that refuse it are known by their names.
        let sampling = Server::Other.sampling(&request.sampling, context.model, effort, &mut lost);
        o.number_if("temperature", sampling.temperature.as_ref());
        o.number_if("top_p", sampling.top_p.as_ref());
        lost.add_if(request.max_tokens.is_some_and(|n| n < MAX_TOKENS_MIN), Loss::MaxTokens);
        o.count_if("max_output_tokens", request.max_tokens.map(|n| n.max(MAX_TOKENS_MIN)));
        write_output(o, &request.output, &mut lost);
        let thinks = write_thinking(o, request, context, &mut lost);
        if thinks {
            o.array("include", |array| array.text("reasoning.encrypted_content"));
        }
        o.flag("store", false);
        o.text_if("user", chat::user(request, &mut lost));
        o.json_if("metadata", request.metadata.as_ref());
        if request.stream {
            o.flag("stream", true);
        }
        if request.extra.owner == Some(OWN) {
            o.extra(&request.extra);
        }
    });
    note_sampling(request, &mut lost);
    lost.add_if(request.has_cache_marks(), Loss::CacheMark);
    (body, lost)
}

fn note_sampling(request: &Request, lost: &mut Losses) {
    let sampling = &request.sampling;
    let is_set = |n: &Option<serde_json::Number>| {
        n.as_ref().and_then(serde_json::Number::as_f64).is_some_and(|n| n != 0.0)
    };
    lost.add_if(sampling.top_k.is_some(), Loss::TopK);
    lost.add_if(sampling.seed.is_some(), Loss::Seed);
    lost.add_if(!sampling.stop.is_empty(), Loss::Stop);
    // They would come, but nobody tells them to the client.
    lost.add_if(sampling.logprobs == Some(true), Loss::Logprobs);
    lost.add_if(is_set(&sampling.presence_penalty) || is_set(&sampling.frequency_penalty), Loss::Penalties);
}

/// Returns the text of a turn that is nothing but the system's words.
fn instructions(turn: &Turn) -> Option<String> {
    if turn.role != Role::System || turn.name.is_some() {
        return None;
    }
    let texts: Option<Vec<&str>> = turn
        .parts
        .iter()
        .map(|part| match &part.content {
            Content::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.map(|texts| texts.join("\n\n"))
}

fn write_turn(array: &mut write::Array<'_>, turn: &Turn, lost: &mut Losses) {
    lost.add_if(turn.name.is_some() && turn.role != Role::Tool, Loss::SpeakerName);
    let role = match turn.role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User | Role::Tool => "user",
        Role::Assistant => "assistant",
    };
    // Items break a message in two, so that everything stays in its order.
    let mut said: Vec<&Part> = Vec::new();
    for part in &turn.parts {
        if !is_item(&part.content) {
            said.push(part);
            continue;
        }
        write_message(array, role, &std::mem::take(&mut said), lost);
        write_item(array, &part.content, lost);
    }
    write_message(array, role, &said, lost);
}

fn is_item(content: &Content) -> bool {
    match content {
        Content::ToolUse(_)
        | Content::ToolResult(_)
        | Content::Thinking { .. }
        | Content::RedactedThinking(_)
        | Content::Foreign { .. } => true,
        Content::Text(_)
        | Content::Refusal(_)
        | Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. } => false,
    }
}

fn write_item(array: &mut write::Array<'_>, content: &Content, lost: &mut Losses) {
    match content {
        Content::ToolUse(call) => array.object(|o| {
            o.text("type", "function_call");
            o.text("call_id", &ids::safe(&call.id));
            o.text("name", &call.name);
            o.text("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments });
        }),
        Content::ToolResult(result) => array.object(|o| write_result(o, result, lost)),
        Content::Thinking { text, seal: Some(seal) } if is_own(seal) => {
            array.object(|o| write_reasoning(o, seal.id.as_deref(), text, Some(&seal.text)));
        }
        Content::RedactedThinking(seal) if is_own(seal) => {
            array.object(|o| write_reasoning(o, seal.id.as_deref(), "", Some(&seal.text)));
        }
        Content::Thinking { .. } | Content::RedactedThinking(_) => lost.add(Loss::ThinkingHistory),
        Content::Foreign { owner, json } if *owner == OWN => array.json(json),
        // Words and media never stand among items.
        Content::Foreign { .. }
        | Content::Text(_)
        | Content::Refusal(_)
        | Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. } => lost.add(Loss::ForeignPart),
    }
}

fn is_own(seal: &Seal) -> bool {
    seal.issuer == Issuer::OpenAi
}

fn write_result(o: &mut write::Object<'_>, result: &ToolResult, lost: &mut Losses) {
    o.text("type", "function_call_output");
    o.text("call_id", &ids::safe(&result.id));
    lost.add_if(result.is_error, Loss::ToolErrorFlag);
    let texts: Option<Vec<&str>> = result
        .parts
        .iter()
        .map(|part| match &part.content {
            Content::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    match texts {
        Some(texts) => o.text("output", &texts.join("\n")),
        None => o.array("output", |array| {
            result.parts.iter().for_each(|part| write_part(array, &part.content, "input_text", lost));
        }),
    }
}

fn write_message(array: &mut write::Array<'_>, role: &str, parts: &[&Part], lost: &mut Losses) {
    if parts.is_empty() {
        return;
    }
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    array.object(|o| {
        o.text("type", "message");
        o.text("role", role);
        o.array("content", |array| {
            for part in parts {
                write_part(array, &part.content, kind, lost);
            }
        });
    });
}

fn write_part(array: &mut write::Array<'_>, content: &Content, kind: &str, lost: &mut Losses) {
    match content {
        Content::Text(text) => array.object(|o| write_text(o, kind, text)),
        Content::Refusal(text) if kind == "output_text" => array.object(|o| write_text(o, "refusal", text)),
        Content::Refusal(text) => array.object(|o| write_text(o, kind, text)),
        // The model's own words hold no media here.
        Content::Image { .. } if kind == "output_text" => lost.add(Loss::Image),
        Content::Image { source, detail } => write_image(array, source, detail.as_deref(), lost),
        Content::Document { source: Source::Text(text), .. } => array.object(|o| write_text(o, kind, text)),
        Content::Document { .. } if kind == "output_text" => lost.add(Loss::Document),
        Content::Document { source, name } => write_file(array, source, name.as_deref(), lost),
        // Sound is not taken by this API.
        Content::Audio { .. } => lost.add(Loss::Audio),
        Content::Foreign { .. }
        | Content::ToolUse(_)
        | Content::ToolResult(_)
        | Content::Thinking { .. }
        | Content::RedactedThinking(_) => lost.add(Loss::ForeignPart),
    }
}

/// Returns the id of a file that OpenAI keeps.
fn file_id(source: &Source) -> Option<&str> {
    match source {
        Source::File { owner: Dialect::OpenAiChat | Dialect::OpenAiResponses, id } => Some(id),
        Source::File { .. } | Source::Url { .. } | Source::Base64 { .. } | Source::Text(_) => None,
    }
}

fn write_image(array: &mut write::Array<'_>, source: &Source, detail: Option<&str>, lost: &mut Losses) {
    let (id, url) = (file_id(source), media::to_url(source, OWN));
    if id.is_none() && url.is_none() {
        return lost.add(media::loss(source, Loss::Image));
    }
    array.object(|o| {
        o.text("type", "input_image");
        match id {
            Some(id) => o.text("file_id", id),
            None => o.text_if("image_url", url.as_deref()),
        }
        o.text_if("detail", detail);
    });
}

fn write_file(array: &mut write::Array<'_>, source: &Source, name: Option<&str>, lost: &mut Losses) {
    let id = file_id(source);
    let (member, text) = match source {
        Source::Url { url, .. } => ("file_url", Some(url.clone())),
        Source::Base64 { .. } => ("file_data", media::to_url(source, OWN)),
        Source::File { .. } => ("file_id", id.map(str::to_owned)),
        Source::Text(_) => ("text", None),
    };
    let Some(text) = text else { return lost.add(media::loss(source, Loss::Document)) };
    array.object(|o| {
        o.text("type", "input_file");
        if member == "file_data" {
            o.text("filename", name.unwrap_or("document"));
        }
        o.text(member, &text);
    });
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
                Tool::Function(function) => array.object(|o| write_function(o, function)),
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
            o.text("name", name);
        }),
    }
    o.flag_if("parallel_tool_calls", request.parallel_tools);
}

fn write_function(o: &mut write::Object<'_>, function: &Function) {
    o.text("type", "function");
    o.text("name", &function.name);
    o.text_if("description", function.description.as_deref());
    match &function.parameters {
        Some(schema) => o.json("parameters", schema),
        None => o.json("parameters", &chat::any_object()),
    }
    // Left out, it means true here and false everywhere else.
    o.flag("strict", function.strict.unwrap_or(false));
}

fn write_output(o: &mut write::Object<'_>, output: &OutputFormat, lost: &mut Losses) {
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonSchema { schema, .. } if !schema::is_object(schema) => lost.add(Loss::OutputFormat),
        OutputFormat::JsonObject => {
            o.object("text", |o| o.object("format", |o| o.text("type", "json_object")));
        }
        OutputFormat::JsonSchema { name, description, schema, strict } => o.object("text", |o| {
            o.object("format", |o| {
                o.text("type", "json_schema");
                o.text("name", name.as_deref().unwrap_or("answer"));
                o.text_if("description", description.as_deref());
                o.json("schema", schema);
                let is_followed = *strict != Some(true) || schema::fits_strict(schema);
                lost.add_if(!is_followed, Loss::OutputFormat);
                o.flag_if("strict", strict.filter(|_| is_followed));
            });
        }),
    }
}

/// Writes `reasoning`; tells whether the model is told to think. A summary is asked for only where
/// the client wants to see thoughts: OpenAI refuses it to organisations that are not verified.
fn write_thinking(
    o: &mut write::Object<'_>,
    request: &Request,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) -> bool {
    let effort = thinking::effort(&request.thinking, context.thinking);
    let shows = request.thinking.is_shown == Some(true);
    if context.can_think == Some(false) {
        lost.add_if(effort.is_some(), Loss::Thinking);
        return false;
    }
    if effort.is_none() && !shows {
        return false;
    }
    o.object("reasoning", |o| {
        o.text_if("effort", effort.map(Effort::as_word));
        o.text_if("summary", shows.then_some("auto"));
    });
    effort.is_some()
}
