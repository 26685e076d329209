//! Requests of chat completions.

use super::super::form::{
    CacheMark, Content, Effort, Extra, Function, Json, OutputFormat, Part, Request, Role, Sampling, Source,
    Thinking, ThinkingLevel, Tool, ToolChoice, ToolResult, ToolUse, Turn,
};
use super::super::loss::{Loss, Losses};
use super::super::media;
use super::super::read::{Object, Raw};
use super::super::write;
use super::super::{RequestContext, Untranslatable, ids, thinking};
use crate::base::api::Dialect;

/// The dialect of this file.
const OWN: Dialect = Dialect::OpenAiChat;

/// Members that say nothing about the answer: where it is kept, billed, cached.
const HINTS: [&str; 6] = [
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
    "safety_identifier",
];

/// Reads a request.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Request, Untranslatable> {
    let messages = body.take("messages").filter(|raw| raw.is_array());
    let messages = messages.ok_or(Untranslatable::Member("messages"))?.items();
    let turns = messages.into_iter().map(|raw| turn(raw.object())).collect::<Result<_, _>>()?;
    let mut tools: Vec<Tool> = body.items("tools").into_iter().map(tool).collect();
    tools.extend(body.items("functions").into_iter().map(|raw| function(raw.object(), None)));
    let choice = body.take("tool_choice").or_else(|| body.take("function_call"));
    let tool_choice = choice.and_then(tool_choice);
    let mut stream_options = body.object("stream_options");
    let limit = body.count("max_tokens");
    let mut request = Request {
        model: body.text("model").unwrap_or_default(),
        turns,
        tools,
        tool_choice,
        parallel_tools: body.flag("parallel_tool_calls"),
        sampling: sampling(&mut body),
        max_tokens: body.count("max_completion_tokens").or(limit),
        choices: body.count("n"),
        output: body.take("response_format").map(|raw| output(raw.object())).unwrap_or_default(),
        thinking: read_thinking(&mut body),
        user: body.text("user").or_else(|| body.text("safety_identifier")),
        metadata: body.take("metadata").filter(|raw| raw.is_object()).map(Raw::json),
        stream: body.flag("stream").unwrap_or(false),
        include_usage: stream_options.flag("include_usage").unwrap_or(false),
        extra: Extra::default(),
    };
    body.ignore(&HINTS);
    request.extra = body.rest(OWN);
    if let (None, Some(raw)) = (&request.tool_choice, choice) {
        // `allowed_tools` and what may come: only its owner can say it.
        request.extra.owner = Some(OWN);
        request.extra.members.push(("tool_choice".to_owned(), raw.json()));
    }
    Ok(request)
}

fn turn(mut message: Object<'_>) -> Result<Turn, Untranslatable> {
    let role = match message.text("role").as_deref() {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => return Err(Untranslatable::Member("messages[].role")),
    };
    let name = message.text("name");
    let mark = cache_mark(&mut message);
    let mut parts: Vec<Part> = Vec::new();
    if role == Role::Assistant {
        parts.extend(super::take_thoughts(&mut message).into_iter().map(Part::of));
    }
    parts.extend(message.take("content").map(content).unwrap_or_default());
    if role == Role::Tool {
        let id = message.text("tool_call_id").or_else(|| name.clone()).unwrap_or_default();
        let result = Content::ToolResult(ToolResult { id, name, parts, is_error: false });
        return Ok(Turn::new(role, vec![Part { content: result, cache: mark, extra: Extra::default() }]));
    }
    parts.extend(message.text("refusal").map(|text| Part::of(Content::Refusal(text))));
    let calls = message.items("tool_calls").into_iter().filter_map(|raw| super::tool_use(raw.object()));
    let old = message.take("function_call").and_then(|raw| super::tool_use(raw.object()));
    // A call of old has no id and its result names the function.
    let old = old.map(|call| ToolUse { id: call.name.clone(), ..call });
    parts.extend(calls.chain(old).map(|call| Part::of(Content::ToolUse(call))));
    if let (Some(mark), Some(last)) = (mark, parts.last_mut()) {
        last.cache.get_or_insert(mark);
    }
    Ok(Turn { role, parts, name })
}

/// Takes the mark for the prompt cache, which OpenRouter and others have from Anthropic.
fn cache_mark(object: &mut Object<'_>) -> Option<CacheMark> {
    object.take("cache_control").map(|raw| CacheMark { ttl: raw.object().text("ttl") })
}

fn content(raw: Raw<'_>) -> Vec<Part> {
    if let Some(text) = raw.text() {
        return if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
    }
    raw.items().into_iter().map(part).collect()
}

fn part(raw: Raw<'_>) -> Part {
    let mut item = raw.object();
    let cache = cache_mark(&mut item);
    let kind = item.text("type").unwrap_or_default();
    let content = match kind.as_str() {
        "text" => item.text("text").map(Content::Text),
        "refusal" => item.text("refusal").map(Content::Refusal),
        "image_url" => image(&mut item),
        "input_audio" => audio(&mut item),
        "file" => file(item.object("file")),
        "thinking" => super::thinking_item(&mut item),
        _ => None,
    };
    let content = content.unwrap_or_else(|| Content::Foreign { owner: OWN, json: raw.json() });
    Part { content, cache, extra: Extra::default() }
}

/// Reads an image; Mistral's `image_url` is the address itself.
fn image(item: &mut Object<'_>) -> Option<Content> {
    let raw = item.take("image_url")?;
    let mut image = raw.object();
    let url = raw.text().or_else(|| image.text("url"))?;
    Some(Content::Image { source: media::of_url(url, None), detail: image.text("detail") })
}

fn audio(item: &mut Object<'_>) -> Option<Content> {
    let mut audio = item.object("input_audio");
    let media_type = format!("audio/{}", audio.text("format")?);
    Some(Content::Audio { source: Source::Base64 { media_type, data: audio.text("data")? } })
}

fn file(mut file: Object<'_>) -> Option<Content> {
    let name = file.text("filename");
    let source = match file.text("file_id") {
        Some(id) => Source::File { owner: OWN, id },
        None => media::of_url(file.text("file_data")?, name.as_deref()),
    };
    Some(Content::Document { source, name })
}

fn tool(raw: Raw<'_>) -> Tool {
    let mut tool = raw.object();
    let cache = cache_mark(&mut tool);
    match tool.take("function") {
        Some(inner) => function(inner.object(), cache),
        None => Tool::Server { owner: OWN, json: raw.json() },
    }
}

fn function(mut function: Object<'_>, cache: Option<CacheMark>) -> Tool {
    Tool::Function(Function {
        name: function.text("name").unwrap_or_default(),
        description: function.text("description"),
        parameters: function.take("parameters").filter(|raw| raw.is_object()).map(Raw::json),
        strict: function.flag("strict"),
        cache,
    })
}

fn tool_choice(raw: Raw<'_>) -> Option<ToolChoice> {
    match raw.text().as_deref() {
        Some("auto") => Some(ToolChoice::Auto),
        Some("none") => Some(ToolChoice::None),
        Some("required" | "any") => Some(ToolChoice::Required),
        Some(_) => None,
        None => {
            let mut choice = raw.object();
            let name = choice.object("function").text("name").or_else(|| choice.text("name"));
            name.map(ToolChoice::Named)
        }
    }
}

fn sampling(body: &mut Object<'_>) -> Sampling {
    Sampling {
        temperature: body.number("temperature"),
        top_p: body.number("top_p"),
        top_k: body.number("top_k"),
        seed: body.number("seed"),
        stop: body.take("stop").map(stop).unwrap_or_default(),
        presence_penalty: body.number("presence_penalty"),
        frequency_penalty: body.number("frequency_penalty"),
        logprobs: body.flag("logprobs"),
        top_logprobs: body.number("top_logprobs"),
    }
}

fn stop(raw: Raw<'_>) -> Vec<String> {
    raw.text().map_or_else(|| raw.items().into_iter().filter_map(Raw::text).collect(), |text| vec![text])
}

fn output(mut format: Object<'_>) -> OutputFormat {
    match format.text("type").as_deref() {
        Some("json_object") => OutputFormat::JsonObject,
        Some("json_schema") => {
            let mut inner = format.object("json_schema");
            let Some(schema) = inner.take("schema") else { return OutputFormat::JsonObject };
            OutputFormat::JsonSchema {
                name: inner.text("name"),
                description: inner.text("description"),
                schema: schema.json(),
                strict: inner.flag("strict"),
            }
        }
        _ => OutputFormat::Text,
    }
}

/// Reads how much to think, in OpenAI's words and those of the compatible servers.
fn read_thinking(body: &mut Object<'_>) -> Thinking {
    let mut reasoning = body.object("reasoning");
    let mut own = body.object("thinking");
    let word = body.text("reasoning_effort").or_else(|| reasoning.text("effort"));
    let budget = reasoning.count("max_tokens").or_else(|| own.count("budget_tokens"));
    let on = reasoning.flag("enabled").or_else(|| body.flag("enable_thinking"));
    let is_off = word.as_deref() == Some("none");
    let level = match own.text("type").as_deref() {
        _ if is_off => Some(ThinkingLevel::Off),
        Some("disabled") => Some(ThinkingLevel::Off),
        Some("adaptive" | "auto") => Some(ThinkingLevel::Adaptive),
        Some("enabled") => Some(ThinkingLevel::Enabled { budget }),
        _ => match on {
            Some(false) => Some(ThinkingLevel::Off),
            Some(true) => Some(ThinkingLevel::Enabled { budget }),
            None => budget.map(|budget| ThinkingLevel::Enabled { budget: Some(budget) }),
        },
    };
    let is_shown = reasoning.flag("exclude").map(|is_hidden| !is_hidden);
    Thinking { level, effort: word.as_deref().and_then(Effort::from_word), is_shown }
}

/// Writes a request.
pub(in super::super) fn write(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let mut lost = Losses::default();
    let mut body = Vec::new();
    write::object(&mut body, |o| {
        o.text("model", context.model);
        o.array("messages", |array| {
            for turn in &request.turns {
                write_turn(array, turn, &mut lost);
            }
        });
        write_tools(o, request, &mut lost);
        write_sampling(o, &request.sampling);
        let name =
            if wants_completion_tokens(context.model) { "max_completion_tokens" } else { "max_tokens" };
        o.count_if(name, request.max_tokens);
        write_output(o, &request.output);
        write_thinking(o, request, context, &mut lost);
        o.text_if("user", request.user.as_deref());
        if request.stream {
            o.flag("stream", true);
            // Our own count of tokens wants it, whoever asked.
            o.object("stream_options", |o| o.flag("include_usage", true));
        }
        if request.extra.owner == Some(OWN) {
            o.extra(&request.extra);
        }
    });
    lost.add_if(request.metadata.is_some(), Loss::Metadata);
    lost.add_if(request.has_cache_marks(), Loss::CacheMark);
    (body, lost)
}

/// Tells whether OpenAI refuses `max_tokens` for this model: those that reason. Compatible servers
/// know `max_tokens` only.
fn wants_completion_tokens(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    ["o1", "o3", "o4", "gpt-5"].iter().any(|family| name.starts_with(family))
}

fn write_turn(array: &mut write::Array<'_>, turn: &Turn, lost: &mut Losses) {
    match turn.role {
        Role::System | Role::Developer => {
            write_message(array, "system", turn, &turn.parts.iter().collect::<Vec<_>>(), lost);
        }
        Role::Assistant => write_assistant(array, turn, lost),
        Role::User | Role::Tool => write_user(array, turn, lost),
    }
}

/// Writes results of tools as messages of their own, then what else is said. Images in a result
/// move to the user's message behind it: a tool message takes text only.
fn write_user(array: &mut write::Array<'_>, turn: &Turn, lost: &mut Losses) {
    let mut moved: Vec<&Part> = Vec::new();
    let mut has_results = false;
    for part in &turn.parts {
        let Content::ToolResult(result) = &part.content else { continue };
        has_results = true;
        lost.add_if(result.is_error, Loss::ToolErrorFlag);
        let (texts, others): (Vec<&Part>, Vec<&Part>) =
            result.parts.iter().partition(|part| matches!(part.content, Content::Text(_)));
        moved.extend(others);
        array.object(|o| {
            o.text("role", "tool");
            o.text("tool_call_id", &ids::safe(&result.id));
            o.text("content", &joined(&texts, "\n"));
        });
    }
    let said = turn.parts.iter().filter(|part| !matches!(part.content, Content::ToolResult(_)));
    moved.extend(said);
    if !moved.is_empty() || !has_results {
        write_message(array, "user", turn, &moved, lost);
    }
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

fn write_assistant(array: &mut write::Array<'_>, turn: &Turn, lost: &mut Losses) {
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
                    array.object(|o| super::write_call(o, &ids::safe(&call.id), call));
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
    let is_ours = |tool: &&Tool| match tool {
        Tool::Function(_) => true,
        Tool::Server { owner, .. } => *owner == OWN,
    };
    lost.add_if(!request.tools.iter().all(|tool| is_ours(&tool)), Loss::ServerTool);
    let tools: Vec<&Tool> = request.tools.iter().filter(is_ours).collect();
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

fn write_sampling(o: &mut write::Object<'_>, sampling: &Sampling) {
    o.number_if("temperature", sampling.temperature.as_ref());
    o.number_if("top_p", sampling.top_p.as_ref());
    // Not OpenAI's, which refuses it, but nearly every other server's.
    o.number_if("top_k", sampling.top_k.as_ref());
    o.number_if("seed", sampling.seed.as_ref());
    if !sampling.stop.is_empty() {
        o.texts("stop", &sampling.stop);
    }
    o.number_if("presence_penalty", sampling.presence_penalty.as_ref());
    o.number_if("frequency_penalty", sampling.frequency_penalty.as_ref());
    o.flag_if("logprobs", sampling.logprobs);
    o.number_if("top_logprobs", sampling.top_logprobs.as_ref());
}

fn write_output(o: &mut write::Object<'_>, output: &OutputFormat) {
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => o.object("response_format", |o| o.text("type", "json_object")),
        OutputFormat::JsonSchema { name, description, schema, strict } => o.object("response_format", |o| {
            o.text("type", "json_schema");
            o.object("json_schema", |o| {
                o.text("name", name.as_deref().unwrap_or("answer"));
                o.text_if("description", description.as_deref());
                o.json("schema", schema);
                o.flag_if("strict", *strict);
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
    if context.can_think == Some(false) {
        return lost.add(Loss::Thinking);
    }
    o.text("reasoning_effort", effort.as_word());
}

/// Returns a schema that allows anything, for dialects that want one.
pub(in super::super) fn any_object() -> Json {
    Json::checked(r#"{"type":"object","properties":{}}"#)
}
