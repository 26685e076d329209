//! Writes requests of Converse.
//!
//! As for Anthropic's messages: turns of one side are one message, results of tools first in it,
//! texts that say nothing left out, instructions without any conversation become its first turn.
//! Besides: a history with calls needs tools beside it, so where the client offers none any more,
//! those that were called are offered; a tool choice of `none`, which Converse lacks, leaves the
//! tools out unless the history needs them. Temperature ends at 1.

use super::super::form::{
    Content, Function, OutputFormat, Part, Request, Role, Sampling, Source, ThinkingLevel, Tool, ToolChoice,
    ToolResult,
};
use super::super::loss::{Loss, Losses};
use super::super::messages::{self, Message};
use super::super::{RequestContext, chat, claude, ids, media, schema, thinking, write};
use super::{Family, REDACTED, documents};
use serde_json::Number;
use std::borrow::Cow;
use std::collections::HashSet;

/// Claude models that know no marks for the prompt cache and refuse them.
const WITHOUT_CACHE: [&str; 6] = [
    "claude-instant",
    "claude-v2",
    "claude-3-haiku",
    "claude-3-sonnet",
    "claude-3-opus",
    "claude-3-5-sonnet",
];

/// What is written beside the request.
struct Writer<'a> {
    family: Family,
    /// Whether the model takes marks for the prompt cache.
    caches: bool,
    /// What Anthropic's rules leave of the client's wish to think.
    level: Option<ThinkingLevel>,
    /// What Anthropic's rules leave of how tokens are to be drawn.
    sampling: Cow<'a, Sampling>,
    request: &'a Request,
    context: &'a RequestContext<'a>,
    documents: documents::Names,
    lost: Losses,
}

/// Writes a request.
pub(in super::super) fn write(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let family = Family::of(context.model);
    let is_old = WITHOUT_CACHE.iter().any(|name| context.model.contains(name));
    let caches = matches!(family, Family::Claude | Family::Nova) && !is_old;
    let mut lost = Losses::default();
    let sampling = match family {
        Family::Claude => claude::sampling(&request.sampling, context.model, &mut lost),
        Family::Nova | Family::GptOss | Family::Other => Cow::Borrowed(&request.sampling),
    };
    let documents = documents::Names::default();
    let mut writer = Writer { family, caches, level: None, sampling, request, context, documents, lost };
    let mut instructions = writer.instructions();
    let mut conversation = writer.conversation();
    if conversation.is_empty() && !instructions.is_empty() {
        conversation.push(Message { is_assistant: false, parts: std::mem::take(&mut instructions) });
    }
    writer.level = writer.thinking_level(&conversation);
    let mut body = Vec::with_capacity(context.length);
    write::object(&mut body, |o| {
        o.array("messages", |array| writer.messages(array, &conversation));
        if !instructions.is_empty() {
            o.array("system", |array| writer.system(array, &instructions));
        }
        o.object("inferenceConfig", |o| writer.inference(o));
        writer.tools(o);
        writer.fields(o);
        writer.output(o);
    });
    let lost = &mut writer.lost;
    lost.add_if(request.has_cache_marks() && !caches, Loss::CacheMark);
    lost.add_if(request.user.is_some(), Loss::User);
    lost.add_if(request.metadata.is_some(), Loss::Metadata);
    (body, writer.lost)
}

impl<'a> Writer<'a> {
    /// Returns the instructions, all of which go to the top.
    fn instructions(&mut self) -> Vec<&'a Part> {
        let mut parts = Vec::new();
        let mut has_begun = false;
        for turn in &self.request.turns {
            if !turn.role.is_instruction() {
                has_begun = true;
                continue;
            }
            self.lost.add_if(has_begun, Loss::InstructionPlace);
            for part in &turn.parts {
                match &part.content {
                    Content::Text(text) if text.trim().is_empty() => {}
                    Content::Text(_) => parts.push(part),
                    _ => self.lost.add(Loss::ForeignPart),
                }
            }
        }
        parts
    }

    /// Returns the conversation: sides in turn, results of tools first.
    fn conversation(&mut self) -> Vec<Message<'a>> {
        let mut found: Vec<Message<'a>> = Vec::new();
        for turn in &self.request.turns {
            let is_assistant = match turn.role {
                Role::System | Role::Developer => continue,
                Role::Assistant => true,
                Role::User | Role::Tool => false,
            };
            self.lost.add_if(turn.name.is_some(), Loss::SpeakerName);
            let parts: Vec<&Part> = turn.parts.iter().filter(|part| self.is_said(part)).collect();
            match found.last_mut() {
                // A turn of which nothing is left parts nobody.
                _ if parts.is_empty() => {}
                Some(last) if last.is_assistant == is_assistant => last.parts.extend(parts),
                Some(_) | None => found.push(Message { is_assistant, parts }),
            }
        }
        for message in found.iter_mut().filter(|message| !message.is_assistant) {
            message.parts.sort_by_key(|part| !matches!(part.content, Content::ToolResult(_)));
        }
        found
    }

    /// Tells whether Converse takes the part at all; what is lost is noted.
    fn is_said(&mut self, part: &Part) -> bool {
        let is_claude = self.family == Family::Claude;
        let loss = match &part.content {
            Content::Text(text)
            | Content::Refusal(text)
            | Content::Document { source: Source::Text(text), .. } => return !text.trim().is_empty(),
            Content::ToolUse(_) | Content::ToolResult(_) => return true,
            Content::Thinking { seal: Some(seal), .. } if is_claude && messages::is_own(seal) => return true,
            Content::RedactedThinking(seal) if is_claude && seal.text.starts_with(REDACTED) => return true,
            Content::Thinking { .. } | Content::RedactedThinking(_) => Loss::ThinkingHistory,
            Content::Image { source, .. } => match image_format(source) {
                Some(_) => return true,
                None => media::loss(source, Loss::Image),
            },
            Content::Document { source, name } => match document_format(source, name.as_deref()) {
                Some(_) => return true,
                None => media::loss(source, Loss::Document),
            },
            Content::Audio { .. } => Loss::Audio,
            Content::Foreign { .. } => Loss::ForeignPart,
        };
        self.lost.add(loss);
        false
    }

    fn thinking_level(&mut self, conversation: &[Message<'_>]) -> Option<ThinkingLevel> {
        if self.family == Family::Claude {
            return messages::thinking_level(self.request, self.context, conversation, &mut self.lost);
        }
        if self.family != Family::GptOss {
            self.lost.add_if(self.request.thinking.is_wanted(), Loss::Thinking);
        }
        None
    }

    fn is_thinking(&self) -> bool {
        matches!(self.level, Some(ThinkingLevel::Enabled { .. } | ThinkingLevel::Adaptive))
    }

    fn system(&mut self, array: &mut write::Array<'_>, parts: &[&Part]) {
        for part in parts {
            self.block(array, part, false);
        }
        let is_unmarked = self.context.marks_cache && !self.request.has_cache_marks();
        if is_unmarked && self.caches && self.family == Family::Claude {
            cache_point(array, None);
        }
    }

    fn messages(&mut self, array: &mut write::Array<'_>, conversation: &[Message<'_>]) {
        for (at, message) in conversation.iter().enumerate() {
            let is_last = at + 1 == conversation.len();
            array.object(|o| {
                o.text("role", if message.is_assistant { "assistant" } else { "user" });
                o.array("content", |array| {
                    for (nth, part) in message.parts.iter().enumerate() {
                        let is_end = is_last && message.is_assistant && nth + 1 == message.parts.len();
                        self.block(array, part, is_end);
                    }
                    if let Some(text) = documents::text_beside(&message.parts) {
                        self.block(array, &Part::text(text), false);
                    }
                });
            });
        }
    }

    /// Writes a block and the mark behind it; `is_end` marks the text that the answer is to go on
    /// from, which may not end with white space.
    fn block(&mut self, array: &mut write::Array<'_>, part: &Part, is_end: bool) {
        array.object(|o| match &part.content {
            Content::Text(text) | Content::Refusal(text) => {
                o.text("text", if is_end { text.trim_end() } else { text });
            }
            Content::Image { source, .. } => o.object("image", |o| {
                o.text("format", image_format(source).unwrap_or_default());
                o.object("source", |o| write_source(o, source));
            }),
            Content::Document { source: Source::Text(text), .. } => o.text("text", text),
            Content::Document { source, name } => o.object("document", |o| {
                o.text("format", document_format(source, name.as_deref()).unwrap_or_default());
                o.text("name", &self.documents.name(name.as_deref()));
                o.object("source", |o| write_source(o, source));
            }),
            Content::Thinking { text, seal } => o.object("reasoningContent", |o| {
                o.object("reasoningText", |o| {
                    o.text("text", text);
                    o.text_if("signature", seal.as_ref().map(|seal| seal.text.as_str()));
                });
            }),
            Content::RedactedThinking(seal) => o.object("reasoningContent", |o| {
                o.text("redactedContent", seal.text.strip_prefix(REDACTED).unwrap_or_default());
            }),
            Content::ToolUse(call) => o.object("toolUse", |o| {
                o.text("toolUseId", &ids::safe(&call.id));
                o.text("name", &call.name);
                messages::write_input(o, call);
            }),
            Content::ToolResult(result) => o.object("toolResult", |o| self.result(o, result)),
            // Not said.
            Content::Audio { .. } | Content::Foreign { .. } => {}
        });
        if let Some(mark) = part.cache.as_ref().filter(|_| self.caches) {
            cache_point(array, mark.ttl.as_deref());
        }
    }

    fn result(&mut self, o: &mut write::Object<'_>, result: &ToolResult) {
        o.text("toolUseId", &ids::safe(&result.id));
        o.array("content", |array| {
            for part in &result.parts {
                if self.is_said(part) {
                    self.block(array, &Part::of(part.content.clone()), false);
                }
            }
        });
        if result.is_error {
            match self.family {
                Family::Claude | Family::Nova => o.text("status", "error"),
                Family::GptOss | Family::Other => self.lost.add(Loss::ToolErrorFlag),
            }
        }
    }

    fn inference(&mut self, o: &mut write::Object<'_>) {
        let (sampling, is_thinking) = (&self.sampling, self.is_thinking());
        match self.level {
            Some(ThinkingLevel::Enabled { .. }) => {
                o.count("maxTokens", messages::max_tokens(self.request, self.context, self.level));
            }
            Some(ThinkingLevel::Off | ThinkingLevel::Adaptive) | None => {
                o.count_if("maxTokens", self.request.max_tokens);
            }
        }
        let value = |number: &Option<Number>| number.as_ref().and_then(Number::as_f64);
        let temperature = value(&sampling.temperature);
        match temperature {
            // 1 is what it thinks at unasked.
            Some(warm) if is_thinking => {
                self.lost.add_if(!(1.0..=1.0).contains(&warm), Loss::Temperature);
            }
            Some(beyond) if beyond > 1.0 => {
                self.lost.add(Loss::Temperature);
                o.count("temperature", 1);
            }
            Some(_) => o.number_if("temperature", sampling.temperature.as_ref()),
            None => {}
        }
        // Newer Claude models refuse both at once; 1 is the default.
        if let Some(top_p) = value(&sampling.top_p).filter(|top_p| *top_p < 1.0) {
            let is_second = self.family == Family::Claude && temperature.is_some();
            if (is_thinking && top_p < claude::TOP_P_MIN) || (!is_thinking && is_second) {
                self.lost.add(Loss::TopP);
            } else {
                o.number_if("topP", sampling.top_p.as_ref());
            }
        }
        let stop: Vec<String> =
            sampling.stop.iter().filter(|text| !text.trim().is_empty()).cloned().collect();
        self.lost.add_if(stop.len() < sampling.stop.len(), Loss::Stop);
        if !stop.is_empty() {
            o.texts("stopSequences", &stop);
        }
        let is_set = |number: &Option<Number>| value(number).is_some_and(|n| n != 0.0);
        let is_penal = is_set(&sampling.presence_penalty) || is_set(&sampling.frequency_penalty);
        self.lost.add_if(is_penal, Loss::Penalties);
        self.lost.add_if(sampling.seed.is_some(), Loss::Seed);
        self.lost.add_if(sampling.logprobs == Some(true), Loss::Logprobs);
    }

    fn tools(&mut self, o: &mut write::Object<'_>) {
        let request = self.request;
        let mut tools: Vec<&Function> = Vec::new();
        for tool in &request.tools {
            match tool {
                Tool::Function(function) => tools.push(function),
                Tool::Server { .. } => self.lost.add(Loss::ServerTool),
            }
        }
        let called = called(request);
        if request.tool_choice == Some(ToolChoice::None) {
            self.lost.add_if(!tools.is_empty() && !called.is_empty(), Loss::ToolChoice);
            if called.is_empty() {
                tools.clear();
            }
        }
        let stand_ins: Vec<Function> = if tools.is_empty() { called } else { Vec::new() };
        if tools.is_empty() && stand_ins.is_empty() {
            return;
        }
        let is_offered = !tools.is_empty();
        // Older Claude models refuse the member; newer ones follow schemas well.
        self.lost.add_if(tools.iter().any(|tool| tool.strict == Some(true)), Loss::StrictTools);
        self.lost.add_if(is_offered && request.parallel_tools == Some(false), Loss::ParallelTools);
        o.object("toolConfig", |o| {
            o.array("tools", |array| {
                for function in tools.into_iter().chain(&stand_ins) {
                    self.tool(array, function);
                }
            });
            if is_offered {
                self.tool_choice(o);
            }
        });
    }

    fn tool(&mut self, array: &mut write::Array<'_>, function: &Function) {
        array.object(|o| {
            o.object("toolSpec", |o| {
                o.text("name", &function.name);
                o.text_if("description", function.description.as_deref().filter(|text| !text.is_empty()));
                o.object("inputSchema", |o| match &function.parameters {
                    Some(schema) => o.json("json", &schema::of_object(schema)),
                    None => o.json("json", &chat::any_object()),
                });
            });
        });
        if let Some(mark) = &function.cache {
            if self.caches && self.family == Family::Claude {
                cache_point(array, mark.ttl.as_deref());
            } else {
                self.lost.add(Loss::CacheMark);
            }
        }
    }

    fn tool_choice(&mut self, o: &mut write::Object<'_>) {
        let can_force = matches!(self.family, Family::Claude | Family::Nova);
        match &self.request.tool_choice {
            // `auto` is the default; `none` was seen to.
            None | Some(ToolChoice::Auto | ToolChoice::None) => {}
            Some(ToolChoice::Required | ToolChoice::Named(_)) if !can_force => {
                self.lost.add(Loss::ToolChoice);
            }
            Some(ToolChoice::Required) => o.object("toolChoice", |o| o.object("any", |_| {})),
            Some(ToolChoice::Named(name)) => o.object("toolChoice", |o| {
                o.object("tool", |o| o.text("name", name));
            }),
        }
    }

    /// Writes what only the models of one maker understand.
    fn fields(&mut self, o: &mut write::Object<'_>) {
        let top_k = self.sampling.top_k.as_ref();
        match self.family {
            Family::Claude => {
                let top_k = top_k.filter(|_| !self.is_thinking());
                self.lost.add_if(top_k.is_none() && self.sampling.top_k.is_some(), Loss::TopK);
                if self.level.is_none() && top_k.is_none() {
                    return;
                }
                let effort = claude::effort(&self.request.thinking, self.level);
                o.object("additionalModelRequestFields", |o| {
                    messages::write_thinking(o, self.request, self.level);
                    if let Some(effort) = effort {
                        o.object("output_config", |o| o.text("effort", messages::effort_word(effort)));
                    }
                    o.number_if("top_k", top_k);
                });
            }
            Family::Nova => {
                if top_k.is_some() {
                    o.object("additionalModelRequestFields", |o| {
                        o.object("inferenceConfig", |o| o.number_if("topK", top_k));
                    });
                }
            }
            Family::GptOss => {
                self.lost.add_if(top_k.is_some(), Loss::TopK);
                let effort = thinking::effort(&self.request.thinking, self.context.thinking);
                if let Some(effort) = effort {
                    o.object("additionalModelRequestFields", |o| {
                        o.text("reasoning_effort", thinking::word_of_three(effort));
                    });
                }
            }
            Family::Other => self.lost.add_if(top_k.is_some(), Loss::TopK),
        }
    }

    /// Writes the format of the answer; a schema goes as text.
    fn output(&mut self, o: &mut write::Object<'_>) {
        let (name, description, schema) = match &self.request.output {
            OutputFormat::Text => return,
            OutputFormat::JsonSchema { name, description, schema, .. } if self.family != Family::Nova => {
                (name, description, schema)
            }
            OutputFormat::JsonObject | OutputFormat::JsonSchema { .. } => {
                return self.lost.add(Loss::OutputFormat);
            }
        };
        let mut schema = Cow::Borrowed(schema);
        if self.family == Family::Claude {
            let (as_claude, has_lost) = schema::for_claude(&schema);
            self.lost.add_if(has_lost, Loss::OutputFormat);
            schema = Cow::Owned(as_claude);
        }
        o.object("outputConfig", |o| {
            o.object("textFormat", |o| {
                o.text("type", "json_schema");
                o.object("structure", |o| {
                    o.object("jsonSchema", |o| {
                        o.text("schema", schema.as_str());
                        o.text_if("name", name.as_deref());
                        o.text_if("description", description.as_deref());
                    });
                });
            });
        });
    }
}

/// Returns the tools that were called before, each once.
fn called(request: &Request) -> Vec<Function> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for part in request.turns.iter().flat_map(|turn| &turn.parts) {
        if let Content::ToolUse(call) = &part.content
            && seen.insert(call.name.as_str())
        {
            found.push(Function { name: call.name.clone(), ..Function::default() });
        }
    }
    found
}

fn cache_point(array: &mut write::Array<'_>, ttl: Option<&str>) {
    array.object(|o| {
        o.object("cachePoint", |o| {
            o.text("type", "default");
            // Five minutes are the default, and older models know no other.
            o.text_if("ttl", ttl.filter(|ttl| *ttl != "5m"));
        });
    });
}

fn write_source(o: &mut write::Object<'_>, source: &Source) {
    match source {
        Source::Base64 { data, .. } => o.text("bytes", data),
        Source::Url { url, .. } => o.object("s3Location", |o| o.text("uri", url)),
        // Not said.
        Source::Text(_) | Source::File { .. } => {}
    }
}

fn image_format(source: &Source) -> Option<&'static str> {
    match format(source, None)? {
        "png" => Some("png"),
        "jpeg" | "jpg" => Some("jpeg"),
        "gif" => Some("gif"),
        "webp" => Some("webp"),
        _ => None,
    }
}

fn document_format(source: &Source, name: Option<&str>) -> Option<&'static str> {
    match format(source, name)? {
        "pdf" => Some("pdf"),
        "csv" => Some("csv"),
        "doc" | "msword" => Some("doc"),
        "docx" | "vnd.openxmlformats-officedocument.wordprocessingml.document" => Some("docx"),
        "xls" | "vnd.ms-excel" => Some("xls"),
        "xlsx" | "vnd.openxmlformats-officedocument.spreadsheetml.sheet" => Some("xlsx"),
        "html" => Some("html"),
        "txt" | "plain" => Some("txt"),
        "md" | "markdown" => Some("md"),
        _ => None,
    }
}

/// Returns what a source says of its format: the end of a media type, or of a name.
fn format<'a>(source: &'a Source, name: Option<&'a str>) -> Option<&'a str> {
    let end = |name: &'a str| name.rsplit_once('.').map(|(_, end)| end);
    match source {
        Source::Base64 { media_type, .. } if media_type == "application/octet-stream" => name.and_then(end),
        Source::Base64 { media_type, .. } => media_type.rsplit('/').next(),
        Source::Url { url, .. } if url.starts_with("s3://") => end(url),
        Source::Url { .. } | Source::Text(_) | Source::File { .. } => None,
    }
}
