//! Reads requests of Gemini.

use super::super::Untranslatable;
use super::super::form::{
    Content, Effort, Extra, Function, Json, OutputFormat, Part, Request, Role, Sampling, Thinking,
    ThinkingLevel, Tool, ToolChoice, ToolResult, Turn,
};
use super::super::read::{Object, Raw};
use super::super::write;
use super::{OWN, parts, schema, take, take_object, take_text, ties};

/// Reads a request. The path says which model and whether to stream.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Request, Untranslatable> {
    let contents = body.take("contents").ok_or(Untranslatable::Member("contents"))?;
    let mut turns: Vec<Turn> = Vec::new();
    if let Some(system) = take(&mut body, "systemInstruction") {
        let said = match system.text() {
            Some(text) => vec![Part::text(text)],
            None => parts(system.object().objects_only("parts", "systemInstruction.parts[]")?),
        };
        if !said.is_empty() {
            turns.push(Turn::new(Role::System, said));
        }
    }
    // One content alone is taken for a list of one, and a text for a content.
    let contents = if contents.is_array() { contents.objects_only("contents[]")? } else { vec![contents] };
    for content in contents {
        turns.push(turn(content)?);
    }
    ties::tie(&mut turns);
    let mut tools = Vec::new();
    for raw in body.objects_only("tools", "tools[]")? {
        read_tool(raw, &mut tools)?;
    }
    let mut config = take_object(&mut body, "generationConfig");
    let choice = take_object(&mut body, "toolConfig");
    let (tool_choice, among, choice_rest) = read_choice(choice);
    let mut request = Request {
        // Some clients repeat it in the body.
        model: body.text("model").unwrap_or_default(),
        turns,
        tools,
        tool_choice,
        choices: take(&mut config, "candidateCount").and_then(Raw::count),
        max_tokens: take(&mut config, "maxOutputTokens").and_then(Raw::count),
        sampling: sampling(&mut config),
        output: output(&mut config),
        thinking: thinking(take_object(&mut config, "thinkingConfig")),
        include_usage: true,
        ..Request::default()
    };
    if let (Some(choice), [_, _, ..]) = (request.tool_choice.clone(), among.as_slice()) {
        request.allow_only(&among, choice);
    }
    let modalities = take(&mut config, "responseModalities");
    let is_text_only = modalities.is_none_or(|raw| {
        raw.items().iter().all(|item| item.text().is_some_and(|m| m.eq_ignore_ascii_case("text")))
    });
    request.extra = body.rest(OWN);
    keep(&mut request.extra, "generationConfig", &config.rest(OWN));
    keep(&mut request.extra, "toolConfig", &choice_rest);
    if let Some(raw) = modalities.filter(|_| !is_text_only) {
        request.extra.owner = Some(OWN);
        request.extra.members.push(("responseModalities".to_owned(), raw.json()));
    }
    Ok(request)
}

/// Keeps what is left of an inner object under its name.
fn keep(extra: &mut Extra, name: &str, rest: &Extra) {
    if rest.members.is_empty() {
        return;
    }
    let mut json = Vec::new();
    write::object(&mut json, |o| o.extra(rest));
    extra.owner = Some(OWN);
    extra.members.push((name.to_owned(), Json::checked(String::from_utf8(json).unwrap_or_default())));
}

fn turn(raw: Raw<'_>) -> Result<Turn, Untranslatable> {
    if let Some(text) = raw.text() {
        return Ok(Turn::new(Role::User, vec![Part::text(text)]));
    }
    let mut content = raw.object();
    let role = match content.text("role").as_deref() {
        Some("user") | None => Role::User,
        Some("model" | "assistant") => Role::Assistant,
        Some("function" | "tool") => Role::Tool,
        Some("system") => Role::System,
        Some(_) => return Err(Untranslatable::Member("contents[].role")),
    };
    let mut said = Vec::new();
    let mut plain = Vec::new();
    for item in content.objects_only("parts", "contents[].parts[]")? {
        match take(&mut item.object(), "functionResponse") {
            Some(result) => {
                said.extend(parts(std::mem::take(&mut plain)));
                said.push(Part::of(Content::ToolResult(result_of(result.object())?)));
            }
            None => plain.push(item),
        }
    }
    said.extend(parts(plain));
    Ok(Turn::new(role, said))
}

/// Reads a result. A response of one text under one of the usual names is that text.
fn result_of(mut result: Object<'_>) -> Result<ToolResult, Untranslatable> {
    let mut parts = Vec::new();
    let mut is_error = false;
    if let Some(response) = result.take("response") {
        let mut members = response.object().into_members();
        let text = match (members.next(), members.next()) {
            (Some((name, value)), None) => match name.as_ref() {
                "result" | "output" | "content" => value.text(),
                "error" => {
                    is_error = true;
                    value.text()
                }
                _ => None,
            },
            (Some(_) | None, _) => None,
        };
        parts.push(Part::text(text.unwrap_or_else(|| response.as_str().to_owned())));
    }
    parts.extend(super::parts(result.objects_only("parts", "functionResponse.parts[]")?));
    Ok(ToolResult { id: result.text("id").unwrap_or_default(), name: result.text("name"), parts, is_error })
}

/// Reads a tool: functions, and each tool of Google's by itself.
fn read_tool(raw: Raw<'_>, tools: &mut Vec<Tool>) -> Result<(), Untranslatable> {
    let mut tool = raw.object();
    if let Some(declared) = take(&mut tool, "functionDeclarations") {
        let declared = declared.objects_only("functionDeclarations[]")?;
        tools.extend(declared.into_iter().map(|raw| function(raw.object())));
    }
    for (name, setting) in tool.rest(OWN).members {
        if !Raw::of(&setting).is_object() {
            return Err(Untranslatable::Member("tools[]"));
        }
        let mut json = Vec::new();
        write::object(&mut json, |o| o.json(&name, &setting));
        let json = Json::checked(String::from_utf8(json).unwrap_or_default());
        tools.push(Tool::Server { owner: OWN, json });
    }
    Ok(())
}

fn function(mut function: Object<'_>) -> Tool {
    let json_schema = take(&mut function, "parametersJsonSchema").map(Raw::json);
    let own = function.take("parameters").filter(|raw| raw.is_object()).map(schema::to_json_schema);
    Tool::Function(Function {
        name: function.text("name").unwrap_or_default(),
        description: function.text("description"),
        parameters: json_schema.or(own),
        strict: None,
        cache: None,
    })
}

/// Reads which tool must be used, among which, and what of it only Google understands.
fn read_choice(mut choice: Object<'_>) -> (Option<ToolChoice>, Vec<String>, Extra) {
    let mut calling = take_object(&mut choice, "functionCallingConfig");
    let mode = calling.text("mode").map(|mode| mode.to_ascii_uppercase());
    let allowed = take(&mut calling, "allowedFunctionNames");
    let names: Vec<String> =
        allowed.map(Raw::items).unwrap_or_default().into_iter().filter_map(Raw::text).collect();
    let tool_choice = match (mode.as_deref(), names.as_slice()) {
        (Some("NONE"), _) => Some(ToolChoice::None),
        (Some("ANY"), [name]) => Some(ToolChoice::Named(name.clone())),
        (Some("ANY"), _) => Some(ToolChoice::Required),
        (Some("AUTO" | "VALIDATED"), _) => Some(ToolChoice::Auto),
        (Some(_) | None, _) => None,
    };
    (tool_choice, names, choice.rest(OWN))
}

fn sampling(config: &mut Object<'_>) -> Sampling {
    let mut number = |name: &str| take(config, name).and_then(Raw::number);
    let sampling = Sampling {
        temperature: number("temperature"),
        top_p: number("topP"),
        top_k: number("topK"),
        seed: number("seed"),
        presence_penalty: number("presencePenalty"),
        frequency_penalty: number("frequencyPenalty"),
        ..Sampling::default()
    };
    let stop = take(config, "stopSequences").map(Raw::items).unwrap_or_default();
    Sampling { stop: stop.into_iter().filter_map(Raw::text).collect(), ..sampling }
}

fn output(config: &mut Object<'_>) -> OutputFormat {
    let is_json = take_text(config, "responseMimeType").is_some_and(|kind| kind == "application/json");
    let json_schema = take(config, "responseJsonSchema").map(Raw::json);
    let own = take(config, "responseSchema").map(schema::to_json_schema);
    match json_schema.or(own) {
        Some(schema) => {
            OutputFormat::JsonSchema { name: None, description: None, schema, strict: Some(true) }
        }
        None if is_json => OutputFormat::JsonObject,
        None => OutputFormat::Text,
    }
}

fn thinking(mut config: Object<'_>) -> Thinking {
    let budget = take(&mut config, "thinkingBudget");
    let level = match budget.map(|raw| (raw.count(), raw.as_str().starts_with('-'))) {
        Some((Some(0), _)) => Some(ThinkingLevel::Off),
        Some((_, true)) => Some(ThinkingLevel::Adaptive),
        Some((budget @ Some(_), false)) => Some(ThinkingLevel::Enabled { budget }),
        Some((None, false)) | None => None,
    };
    let effort = take_text(&mut config, "thinkingLevel").map(|word| word.to_ascii_lowercase());
    Thinking {
        level,
        effort: effort.as_deref().and_then(Effort::from_word),
        is_shown: take(&mut config, "includeThoughts").and_then(Raw::flag),
    }
}
