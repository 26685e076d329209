//! Writes requests of Gemini.
//!
//! Instructions go to the top, neighbouring turns of one side are one content, texts that say
//! nothing are left out. Gemini 3 is told a level of thinking, older models a number of tokens.

use super::super::form::{
    Content, Effort, Function, Issuer, OutputFormat, Part, Request, Role, Sampling, Seal, Source, Thinking,
    ThinkingLevel, Tool, ToolChoice, ToolResult, ToolUse,
};
use super::super::loss::{Loss, Losses};
use super::super::{RequestContext, ThinkingRule, ids, media, thinking, write};
use super::{OWN, UNSIGNED, write_call, write_object, write_thought};
use serde_json::Number;
use std::collections::HashMap;

/// Most tokens to think with that every model of the second generation takes.
const BUDGET_MAX: u64 = 24_576;

/// Most texts that end an answer.
const STOPS_MAX: usize = 5;

/// One content as it will be written.
struct Message<'a> {
    is_model: bool,
    parts: Vec<&'a Part>,
}

/// Writes a request. The caller writes the model and whether to stream into the path.
pub(in super::super) fn write(request: &Request, context: &RequestContext<'_>) -> (Vec<u8>, Losses) {
    let mut lost = Losses::default();
    let mut instructions = instructions(request, &mut lost);
    let mut messages = messages(request, &mut lost);
    if messages.is_empty() && !instructions.is_empty() {
        messages.push(Message { is_model: false, parts: std::mem::take(&mut instructions) });
    }
    let called = request.called_names();
    let mut writer = Writer { called, signs: is_third(context.model), lost: &mut lost };
    let mut body = Vec::with_capacity(context.length);
    write::object(&mut body, |o| {
        if !instructions.is_empty() {
            o.object("systemInstruction", |o| {
                o.array("parts", |array| instructions.iter().for_each(|part| writer.part(array, part)));
            });
        }
        o.array("contents", |array| messages.iter().for_each(|message| writer.message(array, message)));
        write_tools(o, request, writer.lost);
        let mut config = Vec::new();
        write::object(&mut config, |o| write_config(o, request, context, writer.lost));
        if config != b"{}" {
            o.raw("generationConfig", &String::from_utf8(config).unwrap_or_default());
        }
        if request.extra.owner == Some(OWN) {
            o.extra(&request.extra);
        }
    });
    // They would come, but in a form that nobody else reads.
    lost.add_if(request.sampling.logprobs == Some(true), Loss::Logprobs);
    lost.add_if(request.user.is_some(), Loss::User);
    lost.add_if(request.metadata.is_some(), Loss::Metadata);
    lost.add_if(request.has_cache_marks(), Loss::CacheMark);
    (body, lost)
}

/// Tells whether the model is of the third generation or later: it wants signatures and levels.
pub(in super::super) fn is_third(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let version = name.strip_prefix("gemini-").unwrap_or_default();
    let major: String = version.chars().take_while(char::is_ascii_digit).collect();
    major.parse::<u32>().is_ok_and(|major| major >= 3)
}

/// Tells whether a model takes penalties. Of Gemini only 2.0 and the second editions of 1.5 do; all others
/// answer 400 "Penalty is not enabled" (Google's forum on 2.5; vercel/ai#8943; google-gemini/cookbook#1290
/// on what came after, 2026-07).
fn takes_penalties(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let is_second = name.starts_with("gemini-1.5-") && name.ends_with("-002");
    let is_2_0 = name.starts_with("gemini-2.0-") && !name.contains("thinking");
    !name.starts_with("gemini-") || is_second || is_2_0
}

fn is_said(part: &Part) -> bool {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => !text.is_empty(),
        Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. }
        | Content::Thinking { .. }
        | Content::RedactedThinking(_)
        | Content::ToolUse(_)
        | Content::ToolResult(_)
        | Content::Foreign { .. } => true,
    }
}

fn instructions<'a>(request: &'a Request, lost: &mut Losses) -> Vec<&'a Part> {
    let mut parts = Vec::new();
    let mut has_begun = false;
    for turn in &request.turns {
        if turn.role.is_instruction() {
            lost.add_if(has_begun, Loss::InstructionPlace);
            parts.extend(turn.parts.iter().filter(|part| is_said(part) && !is_lost(part, lost)));
        } else {
            has_begun = true;
        }
    }
    parts
}

fn messages<'a>(request: &'a Request, lost: &mut Losses) -> Vec<Message<'a>> {
    let mut messages: Vec<Message<'a>> = Vec::new();
    for turn in &request.turns {
        let is_model = match turn.role {
            Role::System | Role::Developer => continue,
            Role::Assistant => true,
            Role::User | Role::Tool => false,
        };
        lost.add_if(turn.name.is_some() && turn.role != Role::Tool, Loss::SpeakerName);
        let parts: Vec<&Part> =
            turn.parts.iter().filter(|part| is_said(part) && !is_lost(part, lost)).collect();
        match messages.last_mut() {
            _ if parts.is_empty() => {}
            Some(last) if last.is_model == is_model => last.parts.extend(parts),
            Some(_) | None => messages.push(Message { is_model, parts }),
        }
    }
    messages
}

fn is_own(seal: &Seal) -> bool {
    seal.issuer == Issuer::Google
}

/// Tells whether a part cannot be said, and notes it.
fn is_lost(part: &Part, lost: &mut Losses) -> bool {
    let loss = match &part.content {
        Content::Thinking { seal, .. } if !seal.as_ref().is_some_and(is_own) => Loss::ThinkingHistory,
        Content::RedactedThinking(seal) if !is_own(seal) => Loss::ThinkingHistory,
        Content::Image { source, .. } if !is_medium(source) => media::loss(source, Loss::Image),
        Content::Audio { source } if !is_medium(source) => media::loss(source, Loss::Audio),
        Content::Document { source, .. } if !is_medium(source) && !matches!(source, Source::Text(_)) => {
            media::loss(source, Loss::Document)
        }
        Content::Foreign { owner, .. } if *owner != OWN => Loss::ForeignPart,
        Content::Text(_)
        | Content::Refusal(_)
        | Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. }
        | Content::Thinking { .. }
        | Content::RedactedThinking(_)
        | Content::ToolUse(_)
        | Content::ToolResult(_)
        | Content::Foreign { .. } => return false,
    };
    lost.add(loss);
    true
}

/// Tells whether Google can get at the bytes.
fn is_medium(source: &Source) -> bool {
    match source {
        Source::Url { .. } | Source::Base64 { .. } => true,
        Source::File { owner, .. } => *owner == OWN,
        Source::Text(_) => false,
    }
}

/// Writes contents.
struct Writer<'a> {
    /// The names of the tools that were called, by the ids of the calls.
    called: HashMap<&'a str, &'a str>,
    /// Whether the first call of a turn must be signed.
    signs: bool,
    lost: &'a mut Losses,
}

impl Writer<'_> {
    fn message(&mut self, array: &mut write::Array<'_>, message: &Message<'_>) {
        let mut is_first_call = true;
        array.object(|o| {
            o.text("role", if message.is_model { "model" } else { "user" });
            o.array("parts", |array| {
                for part in &message.parts {
                    match &part.content {
                        Content::ToolUse(call) => {
                            let must_sign = std::mem::replace(&mut is_first_call, false) && self.signs;
                            array.object(|o| write_use(o, call, must_sign));
                        }
                        Content::ToolResult(result) => self.result(array, result),
                        _ => self.part(array, part),
                    }
                }
            });
        });
    }

    fn part(&mut self, array: &mut write::Array<'_>, part: &Part) {
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => array.object(|o| o.text("text", text)),
            Content::Thinking { text, seal } => {
                let signature = seal.as_ref().filter(|seal| is_own(seal)).map(|seal| seal.text.as_str());
                array.object(|o| write_thought(o, text, signature));
            }
            Content::RedactedThinking(seal) => {
                array.object(|o| write_thought(o, "", Some(&seal.text)));
            }
            Content::Image { source, .. } => self.medium(array, source, Loss::Image, "image/jpeg"),
            Content::Audio { source } => self.medium(array, source, Loss::Audio, "audio/wav"),
            Content::Document { source: Source::Text(text), .. } => array.object(|o| o.text("text", text)),
            Content::Document { source, .. } => {
                self.medium(array, source, Loss::Document, "application/pdf");
            }
            Content::Foreign { owner, json } if *owner == OWN => array.json(json),
            // Calls and results never stand among these parts.
            Content::Foreign { .. } | Content::ToolUse(_) | Content::ToolResult(_) => {
                self.lost.add(Loss::ForeignPart);
            }
        }
    }

    /// Writes a medium; Google wants the media type of an address too.
    fn medium(&mut self, array: &mut write::Array<'_>, source: &Source, loss: Loss, default: &str) {
        let (uri, media_type) = match source {
            Source::Base64 { media_type, data } => {
                return array.object(|o| {
                    o.object("inlineData", |o| {
                        o.text("mimeType", media_type);
                        o.text("data", data);
                    });
                });
            }
            Source::Url { url, media_type } => (url, media_type.as_deref()),
            Source::File { owner, id } if *owner == OWN => (id, None),
            Source::File { .. } | Source::Text(_) => return self.lost.add(media::loss(source, loss)),
        };
        let media_type = media_type.unwrap_or_else(|| type_of_name(uri).unwrap_or(default));
        array.object(|o| {
            o.object("fileData", |o| {
                o.text("mimeType", media_type);
                o.text("fileUri", uri);
            });
        });
    }

    /// Writes a result, and behind it the media in it: most models take text in a result only.
    fn result(&mut self, array: &mut write::Array<'_>, result: &ToolResult) {
        let (texts, others): (Vec<&Part>, Vec<&Part>) =
            result.parts.iter().partition(|part| matches!(part.content, Content::Text(_)));
        let texts: Vec<&str> = texts
            .iter()
            .filter_map(|part| match &part.content {
                Content::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let text = texts.join("\n");
        let called = result.name.as_deref().or_else(|| self.called.get(result.id.as_str()).copied());
        array.object(|o| {
            o.object("functionResponse", |o| {
                if !result.id.is_empty() {
                    o.text("id", &ids::safe(&result.id));
                }
                o.text("name", called.unwrap_or(&result.id));
                if result.is_error {
                    o.object("response", |o| o.text("error", &text));
                } else {
                    write_object(o, "response", "result", &text);
                }
            });
        });
        for part in others.into_iter().filter(|part| is_said(part)) {
            if !is_lost(part, self.lost) {
                self.part(array, part);
            }
        }
    }
}

/// Writes a call of an earlier turn.
fn write_use(o: &mut write::Object<'_>, call: &ToolUse, must_sign: bool) {
    write_call(o, &ids::safe(&call.id), &call.name, &call.arguments);
    let own = call.seal.as_ref().filter(|seal| is_own(seal)).map(|seal| seal.text.as_str());
    o.text_if("thoughtSignature", own.or(must_sign.then_some(UNSIGNED)));
}

/// Returns the media type that the end of an address tells.
fn type_of_name(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    Some(match path.rsplit('.').next()?.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "wav" => "audio/wav",
        "mp3" => "audio/mp3",
        _ => return None,
    })
}

fn write_tools(o: &mut write::Object<'_>, request: &Request, lost: &mut Losses) {
    let (mut functions, mut servers) = (Vec::new(), Vec::new());
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => functions.push(function),
            Tool::Server { owner, json } if *owner == OWN => servers.push(json),
            Tool::Server { .. } => lost.add(Loss::ServerTool),
        }
    }
    if functions.is_empty() && servers.is_empty() {
        return;
    }
    o.array("tools", |array| {
        if !functions.is_empty() {
            array.object(|o| {
                o.array("functionDeclarations", |array| {
                    for function in &functions {
                        lost.add_if(function.strict == Some(true), Loss::StrictTools);
                        array.object(|o| write_function(o, function));
                    }
                });
            });
        }
        for json in servers {
            array.json(json);
        }
    });
    lost.add_if(request.parallel_tools == Some(false), Loss::ParallelTools);
    let (mode, name) = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some(name)),
    };
    o.object("toolConfig", |o| {
        o.object("functionCallingConfig", |o| {
            o.text("mode", mode);
            if let Some(name) = name {
                o.array("allowedFunctionNames", |array| array.text(name));
            }
        });
    });
}

fn write_function(o: &mut write::Object<'_>, function: &Function) {
    o.text("name", &function.name);
    o.text_if("description", function.description.as_deref());
    // A function without parameters has none here; an object without properties is refused.
    o.json_if("parametersJsonSchema", function.parameters.as_ref());
}

fn write_config(
    o: &mut write::Object<'_>,
    request: &Request,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    write_sampling(o, &request.sampling, context.model, lost);
    o.count_if("maxOutputTokens", request.max_tokens);
    match &request.output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => o.text("responseMimeType", "application/json"),
        OutputFormat::JsonSchema { schema, .. } => {
            o.text("responseMimeType", "application/json");
            o.json("responseJsonSchema", schema);
        }
    }
    write_thinking(o, request, context, lost);
}

fn write_sampling(o: &mut write::Object<'_>, sampling: &Sampling, model: &str, lost: &mut Losses) {
    o.number_if("temperature", sampling.temperature.as_ref());
    o.number_if("topP", sampling.top_p.as_ref());
    o.number_if("topK", sampling.top_k.as_ref());
    o.number_if("seed", sampling.seed.as_ref());
    if !sampling.stop.is_empty() {
        lost.add_if(sampling.stop.len() > STOPS_MAX, Loss::Stop);
        o.texts("stopSequences", sampling.stop.get(..STOPS_MAX).unwrap_or(&sampling.stop));
    }
    let is_set = |number: &Option<Number>| number.as_ref().and_then(Number::as_f64).is_some_and(|n| n != 0.0);
    if takes_penalties(model) {
        o.number_if("presencePenalty", sampling.presence_penalty.as_ref());
        o.number_if("frequencyPenalty", sampling.frequency_penalty.as_ref());
    } else {
        lost.add_if(
            is_set(&sampling.presence_penalty) || is_set(&sampling.frequency_penalty),
            Loss::Penalties,
        );
    }
}

/// Writes how much to think: for the third generation in a word (`xhigh` is none of its words, and
/// it cannot be off), for those before in tokens. Thoughts are shown to whom asked the model to
/// think and did not say otherwise.
fn write_thinking(
    o: &mut write::Object<'_>,
    request: &Request,
    context: &RequestContext<'_>,
    lost: &mut Losses,
) {
    let asked = &request.thinking;
    // Off by the operator also answers a provider that refused the word itself: say nothing.
    let level = thinking::level(asked, context.thinking)
        .filter(|level| *level != ThinkingLevel::Off || context.thinking != ThinkingRule::Off);
    let shows =
        asked.is_shown.or(asked.is_wanted().then_some(true)).filter(|_| level != Some(ThinkingLevel::Off));
    if context.can_think == Some(false) {
        return lost.add_if(asked.is_wanted(), Loss::Thinking);
    }
    if level.is_none() && shows.is_none() {
        return;
    }
    o.object("thinkingConfig", |o| {
        if let Some(level) = level {
            if is_third(context.model) {
                o.text_if("thinkingLevel", level_word(asked, level));
            } else {
                write_budget(o, asked, level);
            }
        }
        o.flag_if("includeThoughts", shows);
    });
}

fn level_word(asked: &Thinking, level: ThinkingLevel) -> Option<&'static str> {
    let effort = match level {
        ThinkingLevel::Off => Effort::Low,
        ThinkingLevel::Adaptive => asked.effort?,
        ThinkingLevel::Enabled { budget } => {
            asked.effort.unwrap_or_else(|| Effort::of_budget(thinking::budget(asked, budget)))
        }
    };
    Some(match effort {
        // Not all of them know `minimal` and `medium`.
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium | Effort::High | Effort::Max => "high",
    })
}

fn write_budget(o: &mut write::Object<'_>, asked: &Thinking, level: ThinkingLevel) {
    match level {
        ThinkingLevel::Off => o.count("thinkingBudget", 0),
        ThinkingLevel::Adaptive => o.raw("thinkingBudget", "-1"),
        ThinkingLevel::Enabled { budget } => {
            o.count("thinkingBudget", thinking::budget(asked, budget).min(BUDGET_MAX));
        }
    }
}
