//! Reads requests of messages.

use super::super::Untranslatable;
use super::super::form::{
    Effort, Extra, Function, OutputFormat, Request, Role, Sampling, Thinking, ThinkingLevel, Tool,
    ToolChoice, Turn,
};
use super::super::read::{Object, Raw};
use super::{OWN, cache_mark};

/// Members that say nothing about the answer: where it runs, what it costs, what is forgotten.
const HINTS: [&str; 5] = ["context_management", "inference_geo", "speed", "cache_control", "diagnostics"];

/// Reads a request.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Request, Untranslatable> {
    let messages = body.take("messages").filter(|raw| raw.is_array());
    let messages = messages.ok_or(Untranslatable::Member("messages"))?.objects_only("messages[]")?;
    let system = body.take("system").map_or(Ok(Vec::new()), super::content)?;
    let mut turns = Vec::with_capacity(messages.len() + 1);
    if !system.is_empty() {
        turns.push(Turn::new(Role::System, system));
    }
    for message in messages {
        turns.push(turn(message.object())?);
    }
    let mut choice = body.object("tool_choice");
    let mut config = body.object("output_config");
    let format = config.take("format").or_else(|| body.take("output_format"));
    let mut request = Request {
        model: body.text("model").unwrap_or_default(),
        turns,
        tools: body.objects_only("tools", "tools[]")?.into_iter().map(tool).collect(),
        parallel_tools: choice.flag("disable_parallel_tool_use").map(|is_off| !is_off),
        tool_choice: tool_choice(&mut choice),
        sampling: Sampling {
            temperature: body.number("temperature"),
            top_p: body.number("top_p"),
            top_k: body.number("top_k"),
            stop: body.items("stop_sequences").into_iter().filter_map(Raw::text).collect(),
            ..Sampling::default()
        },
        max_tokens: body.count("max_tokens"),
        choices: None,
        output: format.map(|raw| output(raw.object())).unwrap_or_default(),
        thinking: read_thinking(body.object("thinking"), config.text("effort").as_deref()),
        user: body.object("metadata").text("user_id"),
        metadata: None,
        stream: body.flag("stream").unwrap_or(false),
        include_usage: true,
        extra: Extra::default(),
    };
    body.ignore(&HINTS);
    body.ignore_usual_tier();
    request.extra = body.rest(OWN);
    Ok(request)
}

fn turn(mut message: Object<'_>) -> Result<Turn, Untranslatable> {
    let role = match message.text("role").as_deref() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(Untranslatable::Member("messages[].role")),
    };
    Ok(Turn::new(role, message.take("content").map_or(Ok(Vec::new()), super::content)?))
}

fn tool(raw: Raw<'_>) -> Tool {
    let mut tool = raw.object();
    if tool.text("type").is_some_and(|kind| kind != "custom") {
        return Tool::Server { owner: OWN, json: raw.json() };
    }
    Tool::Function(Function {
        name: tool.text("name").unwrap_or_default(),
        description: tool.text("description"),
        parameters: tool.take("input_schema").filter(|raw| raw.is_object()).map(Raw::json),
        strict: tool.flag("strict"),
        cache: cache_mark(&mut tool),
    })
}

fn tool_choice(choice: &mut Object<'_>) -> Option<ToolChoice> {
    match choice.text("type")?.as_str() {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "any" => Some(ToolChoice::Required),
        "tool" => choice.text("name").map(ToolChoice::Named),
        _ => None,
    }
}

fn output(mut format: Object<'_>) -> OutputFormat {
    match (format.text("type").as_deref(), format.take("schema")) {
        (Some("json_schema"), Some(schema)) => {
            // Anthropic's schemas are always followed exactly.
            OutputFormat::JsonSchema {
                name: None,
                description: None,
                schema: schema.json(),
                strict: Some(true),
            }
        }
        _ => OutputFormat::Text,
    }
}

fn read_thinking(mut thinking: Object<'_>, effort: Option<&str>) -> Thinking {
    let level = match thinking.text("type").as_deref() {
        Some("disabled") => Some(ThinkingLevel::Off),
        Some("enabled") => Some(ThinkingLevel::Enabled { budget: thinking.count("budget_tokens") }),
        Some("adaptive") => Some(ThinkingLevel::Adaptive),
        _ => None,
    };
    let is_shown = thinking.text("display").map(|word| word != "omitted");
    Thinking { level, effort: effort.and_then(Effort::from_word), is_shown }
}
