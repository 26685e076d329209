//! Writes requests of messages.
//!
//! Turns of one side are one message, results of tools first in it; texts that
//! say nothing are left out (Anthropic refuses them), and so is white space at the end of an
//! answer that is to be continued; instructions without any conversation become its first turn.
//! How a model thinks and draws tokens is said as that model takes it (`claude`). Thinking with a
//! budget needs a longer answer than the budget (the client's limit grows to budget + 4096, and both
//! end where the model does), excludes temperature, `top_k` and a small `top_p`, a forced tool, and an
//! open tool loop whose thoughts are gone: there thinking is left out and listed.

use super::super::form::{
    CacheMark, Content, Effort, Function, Issuer, OutputFormat, Part, Request, Role, Sampling, Seal, Source,
    ThinkingLevel, Tool, ToolChoice, ToolResult,
};
use super::super::loss::{Loss, Losses};
use super::super::{BEYOND_BUDGET, RequestContext, ThinkingRule, chat, claude, ids, schema, thinking, write};
use super::{OWN, write_cache_mark, write_input};
use serde_json::Number;

/// Least tokens to think with that Anthropic takes.
const BUDGET_MIN: u64 = 1024;

/// The images that Claude looks at; Anthropic refuses a request with any other (its guide to vision, read
/// 2026-11).
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// One message as it will be written.
pub(in super::super) struct Message<'a> {
    pub(in super::super) is_assistant: bool,
    pub(in super::super) parts: Vec<&'a Part>,
}

/// Writes a request.
pub(in super::super) fn write(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let mut lost = Losses::default();
    let mut instructions = instructions(request, &mut lost);
    let mut messages = messages(request, &mut lost);
    if messages.is_empty() && !instructions.is_empty() {
        messages.push(Message { is_assistant: false, parts: std::mem::take(&mut instructions) });
    }
    let level = thinking_level(request, context, &messages, &mut lost);
    let is_thinking = matches!(level, Some(ThinkingLevel::Enabled { .. } | ThinkingLevel::Adaptive));
    let marks_cache = context.marks_cache && !request.has_cache_marks();
    let mut body = Vec::with_capacity(context.length);
    write::object(&mut body, |o| {
        o.text("model", context.model);
        o.count("max_tokens", max_tokens(request, context, level));
        if !instructions.is_empty() {
            o.array("system", |array| write_system(array, &instructions, marks_cache));
        }
        o.array("messages", |array| write_messages(array, &messages, &mut lost));
        write_tools(o, request, &mut lost);
        let sampling = claude::sampling(&request.sampling, context.model, &mut lost);
        write_sampling(o, &sampling, is_thinking, &mut lost);
        write_thinking(o, request, level);
        write_config(o, request, level, &mut lost);
        match &request.user {
            Some(user) if is_address(user) => lost.add(Loss::User),
            Some(user) => o.object("metadata", |o| o.text("user_id", user)),
            None => {}
        }
        if request.stream {
            o.flag("stream", true);
        }
        if request.extra.owner == Some(OWN) {
            o.extra(&request.extra);
        }
    });
    lost.add_if(request.metadata.is_some(), Loss::Metadata);
    (body, lost)
}

/// Tells whether a name of the end user looks like an address of a mailbox, for which Anthropic refuses
/// the request ("user_id appears to contain an email address"). Its reference forbids numbers of
/// telephones as well, but whatever consists of digits may be an id.
fn is_address(user: &str) -> bool {
    user.match_indices('@').any(|(at, _)| {
        let (before, after) = (user.get(..at).unwrap_or_default(), user.get(at + 1..).unwrap_or_default());
        let host =
            after.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '-').next().unwrap_or_default();
        before.ends_with(|c: char| !c.is_whitespace()) && host.trim_end_matches('.').contains('.')
    })
}

/// Returns the instructions, all of which go to the top.
fn instructions<'a>(request: &'a Request, lost: &mut Losses) -> Vec<&'a Part> {
    let mut parts = Vec::new();
    let mut has_begun = false;
    for turn in &request.turns {
        if turn.role.is_instruction() {
            lost.add_if(has_begun, Loss::InstructionPlace);
            parts.extend(turn.parts.iter().filter(|part| is_said(part, lost)));
        } else {
            has_begun = true;
        }
    }
    parts.retain(|part| {
        let is_text = matches!(part.content, Content::Text(_));
        lost.add_if(!is_text, Loss::ForeignPart);
        is_text
    });
    parts
}

/// Returns the conversation: sides in turn, results of tools first.
fn messages<'a>(request: &'a Request, lost: &mut Losses) -> Vec<Message<'a>> {
    let mut messages: Vec<Message<'a>> = Vec::new();
    for turn in &request.turns {
        let is_assistant = match turn.role {
            Role::System | Role::Developer => continue,
            Role::Assistant => true,
            Role::User | Role::Tool => false,
        };
        lost.add_if(turn.name.is_some(), Loss::SpeakerName);
        let parts: Vec<&Part> = turn.parts.iter().filter(|part| is_said(part, lost)).collect();
        match messages.last_mut() {
            // A turn of which nothing is left parts nobody.
            _ if parts.is_empty() => {}
            Some(last) if last.is_assistant == is_assistant => last.parts.extend(parts),
            Some(_) | None => messages.push(Message { is_assistant, parts }),
        }
    }
    for message in messages.iter_mut().filter(|message| !message.is_assistant) {
        message.parts.sort_by_key(|part| !matches!(part.content, Content::ToolResult(_)));
    }
    messages
}

/// Tells whether Anthropic takes the part at all; what is lost is noted.
fn is_said(part: &Part, lost: &mut Losses) -> bool {
    let loss = match &part.content {
        Content::Text(text) | Content::Refusal(text) => return !text.trim().is_empty(),
        Content::ToolUse(_)
        | Content::ToolResult(_)
        | Content::Thinking { seal: Some(Seal { issuer: Issuer::Anthropic, .. }), .. }
        | Content::RedactedThinking(Seal { issuer: Issuer::Anthropic, .. }) => return true,
        Content::Thinking { .. } | Content::RedactedThinking(_) => Loss::ThinkingHistory,
        Content::Image { source, .. } => match image_loss(source) {
            None => return true,
            Some(loss) => loss,
        },
        Content::Document { source, .. } => match source {
            Source::File { owner, .. } if *owner != OWN => Loss::File,
            Source::Base64 { media_type, .. } if media_type != "application/pdf" => Loss::Document,
            Source::File { .. } | Source::Base64 { .. } | Source::Url { .. } | Source::Text(_) => {
                return true;
            }
        },
        Content::Audio { .. } => Loss::Audio,
        Content::Foreign { owner, .. } => {
            if *owner == OWN {
                return true;
            }
            Loss::ForeignPart
        }
    };
    lost.add(loss);
    false
}

fn image_loss(source: &Source) -> Option<Loss> {
    match source {
        Source::File { owner, .. } => (*owner != OWN).then_some(Loss::File),
        Source::Text(_) => Some(Loss::Image),
        Source::Base64 { media_type, .. } => (!IMAGES.contains(&media_type.as_str())).then_some(Loss::Image),
        Source::Url { .. } => None,
    }
}

fn write_system(array: &mut write::Array<'_>, parts: &[&Part], marks_cache: bool) {
    let default = CacheMark::default();
    for (at, part) in parts.iter().enumerate() {
        let Content::Text(text) = &part.content else { continue };
        let is_last = at + 1 == parts.len();
        let mark = part.cache.as_ref().or((marks_cache && is_last).then_some(&default));
        array.object(|o| {
            o.text("type", "text");
            o.text("text", text);
            write_cache_mark(o, mark);
            write_extra(o, part);
        });
    }
}

fn write_extra(o: &mut write::Object<'_>, part: &Part) {
    if part.extra.owner == Some(OWN) {
        o.extra(&part.extra);
    }
}

fn write_messages(array: &mut write::Array<'_>, messages: &[Message<'_>], lost: &mut Losses) {
    for (at, message) in messages.iter().enumerate() {
        let is_last = at + 1 == messages.len();
        array.object(|o| {
            o.text("role", if message.is_assistant { "assistant" } else { "user" });
            o.array("content", |array| {
                for (nth, part) in message.parts.iter().enumerate() {
                    let is_end = is_last && message.is_assistant && nth + 1 == message.parts.len();
                    write_block(array, part, is_end, lost);
                }
            });
        });
    }
}

/// Writes a block; `is_end` marks the text that the answer is to go on from.
fn write_block(array: &mut write::Array<'_>, part: &Part, is_end: bool, lost: &mut Losses) {
    if let Content::Foreign { json, .. } = &part.content {
        return array.json(json);
    }
    array.object(|o| {
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => {
                o.text("type", "text");
                o.text("text", if is_end { text.trim_end() } else { text });
            }
            Content::Image { source, .. } => {
                o.text("type", "image");
                o.object("source", |o| write_source(o, source));
            }
            Content::Document { source, name } => {
                o.text("type", "document");
                o.object("source", |o| write_source(o, source));
                o.text_if("title", name.as_deref());
            }
            Content::Thinking { text, seal } => {
                o.text("type", "thinking");
                o.text("thinking", text);
                o.text("signature", seal.as_ref().map_or("", |seal| &seal.text));
            }
            Content::RedactedThinking(seal) => {
                o.text("type", "redacted_thinking");
                o.text("data", &seal.text);
            }
            Content::ToolUse(call) => {
                o.text("type", "tool_use");
                o.text("id", &ids::safe(&call.id));
                o.text("name", &call.name);
                write_input(o, call);
            }
            Content::ToolResult(result) => write_result(o, result, lost),
            Content::Audio { .. } | Content::Foreign { .. } => {}
        }
        write_cache_mark(o, part.cache.as_ref());
        write_extra(o, part);
    });
}

fn write_result(o: &mut write::Object<'_>, result: &ToolResult, lost: &mut Losses) {
    o.text("type", "tool_result");
    o.text("tool_use_id", &ids::safe(&result.id));
    let parts: Vec<&Part> = result.parts.iter().filter(|part| is_said(part, lost)).collect();
    match parts.as_slice() {
        [] => {}
        [Part { content: Content::Text(text), cache: None, .. }] => o.text("content", text),
        parts => o.array("content", |array| {
            for part in parts {
                write_block(array, part, false, lost);
            }
        }),
    }
    if result.is_error {
        o.flag("is_error", true);
    }
}

fn write_source(o: &mut write::Object<'_>, source: &Source) {
    match source {
        Source::Url { url, .. } => {
            o.text("type", "url");
            o.text("url", url);
        }
        Source::Base64 { media_type, data } => {
            o.text("type", "base64");
            o.text("media_type", media_type);
            o.text("data", data);
        }
        Source::Text(text) => {
            o.text("type", "text");
            o.text("media_type", "text/plain");
            o.text("data", text);
        }
        Source::File { id, .. } => {
            o.text("type", "file");
            o.text("file_id", id);
        }
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
                Tool::Function(function) => {
                    // Older Claude models refuse the member; newer ones follow schemas well.
                    lost.add_if(function.strict == Some(true), Loss::StrictTools);
                    array.object(|o| write_function(o, function));
                }
                Tool::Server { json, .. } => array.json(json),
            }
        }
    });
    let disables = (request.parallel_tools == Some(false)).then_some(true);
    let (kind, name) = match &request.tool_choice {
        None if disables.is_none() => return,
        None | Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.as_str())),
    };
    o.object("tool_choice", |o| {
        o.text("type", kind);
        o.text_if("name", name);
        o.flag_if("disable_parallel_tool_use", disables.filter(|_| kind != "none"));
    });
}

fn write_function(o: &mut write::Object<'_>, function: &Function) {
    o.text("name", &function.name);
    o.text_if("description", function.description.as_deref());
    match &function.parameters {
        Some(schema) => o.json("input_schema", &schema::of_object(schema)),
        None => o.json("input_schema", &chat::any_object()),
    }
    write_cache_mark(o, function.cache.as_ref());
}

fn write_sampling(o: &mut write::Object<'_>, sampling: &Sampling, is_thinking: bool, lost: &mut Losses) {
    let value = |number: &Option<Number>| number.as_ref().and_then(Number::as_f64);
    let temperature = value(&sampling.temperature);
    if is_thinking {
        // 1 is what it thinks at unasked.
        lost.add_if(temperature.is_some_and(|t| !(1.0..=1.0).contains(&t)), Loss::Temperature);
        lost.add_if(sampling.top_k.is_some(), Loss::TopK);
    } else {
        match temperature {
            Some(beyond) if beyond > 1.0 => {
                lost.add(Loss::Temperature);
                o.count("temperature", 1);
            }
            Some(_) => o.number_if("temperature", sampling.temperature.as_ref()),
            None => {}
        }
        o.number_if("top_k", sampling.top_k.as_ref());
    }
    // Newer Claude models refuse both at once; 1 is the default.
    if let Some(top_p) = value(&sampling.top_p).filter(|top_p| *top_p < 1.0) {
        if (is_thinking && top_p < claude::TOP_P_MIN) || (!is_thinking && temperature.is_some()) {
            lost.add(Loss::TopP);
        } else {
            o.number_if("top_p", sampling.top_p.as_ref());
        }
    }
    let stop: Vec<String> = sampling.stop.iter().filter(|text| !text.trim().is_empty()).cloned().collect();
    lost.add_if(stop.len() < sampling.stop.len(), Loss::Stop);
    if !stop.is_empty() {
        o.texts("stop_sequences", &stop);
    }
    let is_set = |number: &Option<Number>| value(number).is_some_and(|n| n != 0.0);
    lost.add_if(sampling.seed.is_some(), Loss::Seed);
    lost.add_if(is_set(&sampling.presence_penalty) || is_set(&sampling.frequency_penalty), Loss::Penalties);
    lost.add_if(sampling.logprobs == Some(true), Loss::Logprobs);
}

/// Returns the level of thinking that the request can have.
pub(in super::super) fn thinking_level(
    request: &Request,
    context: &RequestContext<'_>,
    messages: &[Message<'_>],
    lost: &mut Losses,
) -> Option<ThinkingLevel> {
    // A second try also answers a provider that refused the word itself: say nothing.
    let level = thinking::level(&request.thinking, context.thinking)
        .filter(|level| *level != ThinkingLevel::Off || context.thinking != ThinkingRule::Off);
    let level = claude::level(&request.thinking, level, context.model, lost);
    let Some(level @ (ThinkingLevel::Enabled { .. } | ThinkingLevel::Adaptive)) = level else { return level };
    let is_forced = match &request.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Named(_)) => !request.tools.is_empty(),
        Some(ToolChoice::Auto | ToolChoice::None) | None => false,
    };
    let has_lost_thoughts = level != ThinkingLevel::Adaptive && is_in_tool_loop_without_thoughts(messages);
    if is_forced || has_lost_thoughts || context.can_think == Some(false) {
        lost.add_if(request.thinking.is_wanted(), Loss::Thinking);
        return None;
    }
    Some(match (level, context.max_output) {
        // Thinking is part of the answer, and may not be all that the model gives.
        (ThinkingLevel::Enabled { budget: tokens }, Some(most)) => {
            let budget = budget(request, tokens).min(most.saturating_sub(BEYOND_BUDGET)).max(BUDGET_MIN);
            ThinkingLevel::Enabled { budget: Some(budget) }
        }
        (level, _) => level,
    })
}

/// Tells whether the model waits for results of tools that it called without thoughts we still
/// have: Anthropic then refuses thinking.
fn is_in_tool_loop_without_thoughts(messages: &[Message<'_>]) -> bool {
    let [.., called, results] = messages else { return false };
    let has = |message: &Message<'_>, is_it: fn(&Content) -> bool| {
        message.parts.iter().any(|part| is_it(&part.content))
    };
    let has_thoughts = called
        .parts
        .first()
        .is_some_and(|part| matches!(part.content, Content::Thinking { .. } | Content::RedactedThinking(_)));
    called.is_assistant
        && has(results, |content| matches!(content, Content::ToolResult(_)))
        && has(called, |content| matches!(content, Content::ToolUse(_)))
        && !has_thoughts
}

fn budget(request: &Request, tokens: Option<u64>) -> u64 {
    thinking::budget(&request.thinking, tokens).max(BUDGET_MIN)
}

pub(in super::super) fn max_tokens(
    request: &Request,
    context: &RequestContext<'_>,
    level: Option<ThinkingLevel>,
) -> u64 {
    let limit = request.max_tokens.unwrap_or(context.max_tokens_default).max(1);
    let limit = match level {
        Some(ThinkingLevel::Enabled { budget: tokens }) => {
            let budget = budget(request, tokens);
            if limit <= budget { budget.saturating_add(BEYOND_BUDGET) } else { limit }
        }
        Some(ThinkingLevel::Off | ThinkingLevel::Adaptive) | None => limit,
    };
    limit.min(context.max_output.unwrap_or(u64::MAX))
}

pub(in super::super) fn write_thinking(
    o: &mut write::Object<'_>,
    request: &Request,
    level: Option<ThinkingLevel>,
) {
    let Some(level) = level else { return };
    o.object("thinking", |o| {
        match level {
            ThinkingLevel::Off => return o.text("type", "disabled"),
            ThinkingLevel::Adaptive => o.text("type", "adaptive"),
            ThinkingLevel::Enabled { budget: tokens } => {
                o.text("type", "enabled");
                o.count("budget_tokens", budget(request, tokens));
            }
        }
        if let Some(is_shown) = request.thinking.is_shown {
            o.text("display", if is_shown { "summarized" } else { "omitted" });
        }
    });
}

/// Writes `output_config`: the format of the answer, and how hard to think where Claude decides
/// itself how long.
fn write_config(
    o: &mut write::Object<'_>,
    request: &Request,
    level: Option<ThinkingLevel>,
    lost: &mut Losses,
) {
    let effort = claude::effort(&request.thinking, level);
    let schema = match &request.output {
        OutputFormat::Text => None,
        OutputFormat::JsonObject => {
            lost.add(Loss::OutputFormat);
            None
        }
        OutputFormat::JsonSchema { schema, .. } => {
            let (schema, has_lost) = schema::for_claude(schema);
            lost.add_if(has_lost, Loss::OutputFormat);
            Some(schema)
        }
    };
    if effort.is_none() && schema.is_none() {
        return;
    }
    o.object("output_config", |o| {
        o.text_if("effort", effort.map(effort_word));
        if let Some(schema) = &schema {
            o.object("format", |o| {
                o.text("type", "json_schema");
                o.json("schema", schema);
            });
        }
    });
}

/// Returns Anthropic's word, which has no `minimal` and calls the hardest `max`.
pub(in super::super) fn effort_word(effort: Effort) -> &'static str {
    match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Max => "max",
    }
}
