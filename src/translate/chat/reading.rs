//! Reads requests of chat completions, OpenAI's and those with what compatible servers added:
//! thoughts, marks for the cache, other words for how much to think.

use super::super::form::{
    CacheMark, Content, Effort, Extra, Function, OutputFormat, Part, Request, Role, Sampling, Source,
    Thinking, ThinkingLevel, Tool, ToolChoice, ToolResult, ToolUse, Turn,
};
use super::super::read::{Object, Raw};
use super::super::{Untranslatable, media};
use super::OWN;

/// Members that say nothing about the answer: where it is kept, billed, cached.
const HINTS: [&str; 4] = ["store", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"];

/// Reads a request.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Request, Untranslatable> {
    let messages = body.take("messages").filter(|raw| raw.is_array());
    let messages = messages.ok_or(Untranslatable::Member("messages"))?.objects_only("messages[]")?;
    let turns = messages.into_iter().map(|raw| turn(raw.object())).collect::<Result<_, _>>()?;
    let mut tools: Vec<Tool> = body.objects_only("tools", "tools[]")?.into_iter().map(tool).collect();
    let functions = body.objects_only("functions", "functions[]")?;
    tools.extend(functions.into_iter().map(|raw| function(raw.object(), None)));
    let choice = body.take("tool_choice").or_else(|| body.take("function_call"));
    let tool_choice = choice.and_then(tool_choice);
    let mut stream_options = body.object("stream_options");
    let limit = body.count("max_tokens");
    let format = body.take("response_format");
    let mut request = Request {
        model: body.text("model").unwrap_or_default(),
        turns,
        tools,
        tool_choice,
        parallel_tools: body.flag("parallel_tool_calls"),
        sampling: sampling(&mut body),
        max_tokens: body.count("max_completion_tokens").or(limit),
        choices: body.count("n"),
        output: format.map(|raw| output(raw.object())).unwrap_or_default(),
        thinking: read_thinking(&mut body),
        user: body.text("user").or_else(|| body.text("safety_identifier")),
        metadata: body.take("metadata").filter(|raw| raw.is_object()).map(Raw::json),
        stream: body.flag("stream").unwrap_or(false),
        include_usage: stream_options.flag("include_usage").unwrap_or(false),
        extra: Extra::default(),
    };
    body.ignore(&HINTS);
    body.ignore_usual_tier();
    request.extra = body.rest(OWN);
    if let Some(raw) = format.filter(|raw| is_unknown_format(raw.object())) {
        keep(&mut request.extra, "response_format", raw);
    }
    if let Some((choice, names)) = choice.and_then(super::allowed) {
        request.allow_only(&names, choice);
    }
    if let (None, Some(raw)) = (&request.tool_choice, choice) {
        // What may come: only its owner can say it.
        keep(&mut request.extra, "tool_choice", raw);
    }
    Ok(request)
}

/// Keeps a member that only this dialect knows.
fn keep(extra: &mut Extra, name: &str, raw: Raw<'_>) {
    extra.owner = Some(OWN);
    extra.members.push((name.to_owned(), raw.json()));
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
    parts.extend(message.take("content").map_or(Ok(Vec::new()), content)?);
    if role == Role::Tool {
        let id = message.text("tool_call_id").or_else(|| name.clone()).unwrap_or_default();
        let result = Content::ToolResult(ToolResult { id, name, parts, is_error: false });
        return Ok(Turn::new(role, vec![Part { content: result, cache: mark, extra: Extra::default() }]));
    }
    parts.extend(message.text("refusal").map(|text| Part::of(Content::Refusal(text))));
    let calls = message.objects_only("tool_calls", "messages[].tool_calls[]")?.into_iter();
    let calls = calls.filter_map(|raw| super::tool_use(raw.object()));
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

fn content(raw: Raw<'_>) -> Result<Vec<Part>, Untranslatable> {
    if let Some(text) = raw.text() {
        return Ok(if text.is_empty() { Vec::new() } else { vec![Part::text(text)] });
    }
    Ok(raw.objects_only("messages[].content[]")?.into_iter().map(part).collect())
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

/// Tells whether the answer is to have a form that nobody else knows (a grammar).
pub(in super::super) fn is_unknown_format(mut format: Object<'_>) -> bool {
    format.text("type").is_some_and(|kind| !matches!(&*kind, "text" | "json_object" | "json_schema"))
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
