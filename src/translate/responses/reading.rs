//! Reads requests of responses.

use super::super::Untranslatable;
use super::super::form::{
    Content, Effort, Extra, Function, OutputFormat, Part, Request, Role, Sampling, Thinking, ThinkingLevel,
    Tool, ToolChoice, ToolResult, Turn,
};
use super::super::read::{Object, Raw};
use super::{OWN, chat, content, keep, said};

/// Members that say nothing about the answer: where it is kept, billed, cached, how it is padded.
const HINTS: [&str; 9] = [
    "store",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "safety_identifier",
    "stream_options",
    "truncation",
    "include",
    "client_metadata",
];

/// Reads a request.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Request, Untranslatable> {
    let mut turns: Vec<Turn> = Vec::new();
    turns.extend(body.text("instructions").map(|text| Turn::new(Role::System, vec![Part::text(text)])));
    let input = body.take("input").ok_or(Untranslatable::Member("input"))?;
    match input.text() {
        Some(text) => turns.push(Turn::new(Role::User, vec![Part::text(text)])),
        None if input.is_array() => {
            for raw in input.objects_only("input[]")? {
                item(raw, &mut turns)?;
            }
        }
        None => return Err(Untranslatable::Member("input")),
    }
    let choice = body.take("tool_choice");
    let tool_choice = choice.and_then(tool_choice);
    let mut text = body.object("text");
    let format = text.take("format");
    let mut request = Request {
        model: body.text("model").unwrap_or_default(),
        turns,
        tools: body.objects_only("tools", "tools[]")?.into_iter().map(tool).collect(),
        parallel_tools: body.flag("parallel_tool_calls"),
        sampling: sampling(&mut body),
        max_tokens: body.count("max_output_tokens"),
        choices: None,
        output: format.map(|raw| output(raw.object())).unwrap_or_default(),
        thinking: read_thinking(body.object("reasoning")),
        user: body.text("user").or_else(|| body.text("safety_identifier")),
        metadata: body.take("metadata").filter(|raw| !raw.object().is_empty()).map(Raw::json),
        stream: body.flag("stream").unwrap_or(false),
        include_usage: true,
        tool_choice,
        extra: Extra::default(),
    };
    // A whole answer later: nobody else has that, but `false` is what all others do.
    let top_logprobs = body.take("top_logprobs").filter(|raw| raw.count() != Some(0));
    let background = body.take("background").filter(|raw| raw.flag() != Some(false));
    body.ignore(&HINTS);
    body.ignore_usual_tier();
    request.extra = body.rest(OWN);
    keep(&mut request.extra, "text", format.filter(|raw| chat::is_unknown_format(raw.object())));
    keep(&mut request.extra, "background", background);
    keep(&mut request.extra, "top_logprobs", top_logprobs);
    keep(&mut request.extra, "verbosity", text.take("verbosity"));
    if let Some((choice, names)) = choice.and_then(chat::allowed) {
        request.allow_only(&names, choice);
    }
    if request.tool_choice.is_none() {
        // Hosted tools and what may come: only its owner can say it.
        keep(&mut request.extra, "tool_choice", choice);
    }
    Ok(request)
}

/// Reads an item; what the model said goes into the turn that it has begun.
fn item(raw: Raw<'_>, turns: &mut Vec<Turn>) -> Result<(), Untranslatable> {
    let mut item = raw.object();
    let kind = item.text("type");
    let parts = match kind.as_deref() {
        Some("message") | None => {
            let role = match item.text("role").as_deref() {
                Some("user") => Role::User,
                Some("assistant") => Role::Assistant,
                Some("system") => Role::System,
                Some("developer") => Role::Developer,
                Some(_) | None => return Err(Untranslatable::Member("input[].role")),
            };
            let parts = item.take("content").map_or(Ok(Vec::new()), content)?;
            if role != Role::Assistant {
                turns.push(Turn::new(role, parts));
                return Ok(());
            }
            parts
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            let result = ToolResult {
                id: item.text("call_id").unwrap_or_default(),
                name: None,
                parts: item.take("output").map_or(Ok(Vec::new()), content)?,
                is_error: item.text("status").as_deref() == Some("incomplete"),
            };
            turns.push(Turn::new(Role::Tool, vec![Part::of(Content::ToolResult(result))]));
            return Ok(());
        }
        Some("item_reference") => return Err(Untranslatable::Member("input[].item_reference")),
        Some(_) => said(raw)?,
    };
    match turns.last_mut().filter(|turn| turn.role == Role::Assistant) {
        Some(turn) => turn.parts.extend(parts),
        None => turns.push(Turn::new(Role::Assistant, parts)),
    }
    Ok(())
}

fn tool(raw: Raw<'_>) -> Tool {
    let mut tool = raw.object();
    if tool.text("type").as_deref() != Some("function") {
        return Tool::Server { owner: OWN, json: raw.json() };
    }
    Tool::Function(Function {
        name: tool.text("name").unwrap_or_default(),
        description: tool.text("description"),
        parameters: tool.take("parameters").filter(|raw| raw.is_object()).map(Raw::json),
        // What the other dialects mean by saying nothing.
        strict: tool.flag("strict").filter(|is_strict| *is_strict),
        cache: None,
    })
}

fn tool_choice(raw: Raw<'_>) -> Option<ToolChoice> {
    match raw.text().as_deref() {
        Some("auto") => Some(ToolChoice::Auto),
        Some("none") => Some(ToolChoice::None),
        Some("required") => Some(ToolChoice::Required),
        Some(_) => None,
        None => {
            let mut choice = raw.object();
            let is_function = choice.text("type").as_deref() == Some("function");
            choice.text("name").filter(|_| is_function).map(ToolChoice::Named)
        }
    }
}

fn sampling(body: &mut Object<'_>) -> Sampling {
    Sampling { temperature: body.number("temperature"), top_p: body.number("top_p"), ..Sampling::default() }
}

fn output(mut format: Object<'_>) -> OutputFormat {
    match (format.text("type").as_deref(), format.take("schema")) {
        (Some("json_schema"), Some(schema)) => OutputFormat::JsonSchema {
            name: format.text("name"),
            description: format.text("description"),
            schema: schema.json(),
            strict: format.flag("strict"),
        },
        (Some("json_object" | "json_schema"), _) => OutputFormat::JsonObject,
        _ => OutputFormat::Text,
    }
}

fn read_thinking(mut reasoning: Object<'_>) -> Thinking {
    let word = reasoning.text("effort");
    let summary = reasoning.text("summary").or_else(|| reasoning.text("generate_summary"));
    Thinking {
        level: (word.as_deref() == Some("none")).then_some(ThinkingLevel::Off),
        effort: word.as_deref().and_then(Effort::from_word),
        is_shown: summary.map(|word| word != "none"),
    }
}
