//! The intermediate form: what can any dialect say?
//!
//! Each dialect reads into this form and writes from it, so that n dialects need 2n translators
//! and not n². The form has a place for everything that at least two dialects can say; what only
//! one can say is kept as raw JSON with its owner ([`Extra`], [`Content::Foreign`],
//! [`Tool::Server`]) and becomes a [`super::Loss`] where the owner is not the reader.
//!
//! Rules that readers keep and writers rely on:
//! * Text that is JSON to others (arguments of tools, schemas) stays text and is never parsed to
//!   numbers and back ([`Json`]).
//! * Instructions are turns of [`Role::System`] or [`Role::Developer`] at their place; a dialect
//!   with a place of its own for them reads it as the first turns.
//! * Results of tools are parts ([`Content::ToolResult`]) of turns of [`Role::User`] or
//!   [`Role::Tool`]; a writer puts them where its dialect wants them.
//! * [`Usage`] counts cached tokens into `input` and reasoning into `output`.
//! * One answer a request: `n` is noted ([`Request::choices`]) and written by nobody.
//! * Events come in the order that `super::order` sets: start, then parts one after another and
//!   never two open at once, then finish, then end.

use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
pub use crate::wire::Usage;
use serde_json::Number;
use std::collections::{HashMap, HashSet};

/// Valid JSON text, as its writer wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Box<str>);

/// Members that only their owner understands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// The dialect that the members come from; nothing where there are none.
    pub owner: Option<Dialect>,
    /// Names and values in the order of the body.
    pub members: Vec<(String, Json)>,
}

/// A request for an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The model as the client named it; empty where the dialect names it in the path.
    pub model: String,
    /// The conversation, instructions included, oldest first.
    pub turns: Vec<Turn>,
    /// The tools offered.
    pub tools: Vec<Tool>,
    /// Which tool must be used; nothing where the client did not say.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one answer.
    pub parallel_tools: Option<bool>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Longest answer in tokens, thinking included.
    pub max_tokens: Option<u64>,
    /// How many answers were asked for; nothing and 1 are the same.
    pub choices: Option<u64>,
    /// What the answer must look like.
    pub output: OutputFormat,
    /// How much the model should think.
    pub thinking: Thinking,
    /// The end user, by an opaque name.
    pub user: Option<String>,
    /// Labels of the client's own for its records: an object.
    pub metadata: Option<Json>,
    /// Whether the answer should be streamed.
    pub stream: bool,
    /// Whether the client wants usage in a stream; it always gets it where the dialect has a
    /// fixed place for it.
    pub include_usage: bool,
    /// What no other dialect can say.
    pub extra: Extra,
}

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The operator of the application, with the most say.
    System,
    /// The same in the words of newer OpenAI models.
    Developer,
    /// The end user.
    User,
    /// The model.
    Assistant,
    /// Tools, in dialects that give them turns of their own.
    Tool,
}

/// A stretch of the conversation by one speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said; may be empty.
    pub parts: Vec<Part>,
    /// The name of the speaker among several (OpenAI chat).
    pub name: Option<String>,
}

/// One piece of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub content: Content,
    /// Whether the prompt may be cached up to here.
    pub cache: Option<CacheMark>,
    /// What its owner alone understands (citations, annotations).
    pub extra: Extra,
}

/// A place up to which the prompt may be cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheMark {
    /// How long, in the provider's words (`5m`, `1h`); nothing is the provider's default.
    pub ttl: Option<String>,
}

/// What a part holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Words.
    Text(String),
    /// A picture.
    Image {
        /// Where it is.
        source: Source,
        /// How closely to look (`low`, `high`, `auto`).
        detail: Option<String>,
    },
    /// A PDF, a text file or the like.
    Document {
        /// Where it is.
        source: Source,
        /// Its title or file name.
        name: Option<String>,
    },
    /// Sound.
    Audio {
        /// Where it is; the media type is `audio/wav`, `audio/mp3` and so on.
        source: Source,
    },
    /// The model's own words for why it does not answer.
    Refusal(String),
    /// Thoughts that can be read.
    Thinking {
        /// The thoughts or their summary.
        text: String,
        /// Proof that they are the model's, for its issuer only.
        seal: Option<Seal>,
    },
    /// Thoughts that only their issuer can read.
    RedactedThinking(Seal),
    /// The model calls a tool.
    ToolUse(ToolUse),
    /// What a tool gave back.
    ToolResult(ToolResult),
    /// A part that only one dialect knows (calls and results of server tools).
    Foreign {
        /// Whose it is.
        owner: Dialect,
        /// The part as it came.
        json: Json,
    },
}

/// A proof or an encrypted text that only its issuer can read, and that must come back unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Who can read it.
    pub issuer: Issuer,
    /// The text (Anthropic `signature` or `data`, Gemini `thoughtSignature`, OpenAI
    /// `encrypted_content`).
    pub text: String,
    /// The name under which the issuer keeps it (OpenAI's reasoning item id).
    pub id: Option<String>,
}

/// Who makes seals. Not a dialect: Claude's signatures hold at Anthropic, Bedrock and Vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// Claude models.
    Anthropic,
    /// OpenAI models.
    OpenAi,
    /// Gemini models.
    Google,
    /// Somebody who did not say.
    Other,
}

/// Where the bytes of a medium are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Anywhere; `data:` URLs are read as [`Source::Base64`].
    Url {
        /// The address.
        url: String,
        /// What is there, where the client said so.
        media_type: Option<String>,
    },
    /// Here.
    Base64 {
        /// As in `image/png`.
        media_type: String,
        /// The bytes, in base64.
        data: String,
    },
    /// Here, as plain text.
    Text(String),
    /// At the provider.
    File {
        /// The dialect whose files API knows the id.
        owner: Dialect,
        /// The id.
        id: String,
    },
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolUse {
    /// What ties the result to the call; empty where the dialect has none.
    pub id: String,
    /// The name of the tool.
    pub name: String,
    /// The arguments as JSON text as the model wrote it: normally an object, possibly broken.
    pub arguments: String,
    /// Gemini's `thoughtSignature` of the call.
    pub seal: Option<Seal>,
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The id of the call.
    pub id: String,
    /// The name of the tool, where the dialect says it (Gemini); see
    /// [`Request::called_names`] for those that do not.
    pub name: Option<String>,
    /// Text, images, documents.
    pub parts: Vec<Part>,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// A function that the client runs.
    Function(Function),
    /// A tool that the provider runs, or of a sort that only its dialect has.
    Server {
        /// Whose it is.
        owner: Dialect,
        /// The definition as it came.
        json: Json,
    },
}

/// A function that the client runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its arguments.
    pub parameters: Option<Json>,
    /// Whether arguments must follow the schema exactly.
    pub strict: Option<bool>,
    /// Whether the prompt may be cached up to here.
    pub cache: Option<CacheMark>,
}

/// Which tool must be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// None.
    None,
    /// One at least.
    Required,
    /// This one.
    Named(String),
}

/// How tokens are drawn. Numbers stay as the client wrote them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// 0 to 2 (Anthropic: 0 to 1).
    pub temperature: Option<Number>,
    /// 0 to 1.
    pub top_p: Option<Number>,
    /// A count.
    pub top_k: Option<Number>,
    /// For repeatable answers.
    pub seed: Option<Number>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// -2 to 2.
    pub presence_penalty: Option<Number>,
    /// -2 to 2.
    pub frequency_penalty: Option<Number>,
    /// Whether probabilities of tokens are wanted.
    pub logprobs: Option<bool>,
    /// Of how many tokens.
    pub top_logprobs: Option<Number>,
}

/// What the answer must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// Anything.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON after a schema.
    JsonSchema {
        /// The name of the schema, where the dialect has one.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Json,
        /// Whether it must be followed exactly.
        strict: Option<bool>,
    },
}

/// How much the model should think.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    /// Whether at all; nothing where the client did not say.
    pub level: Option<ThinkingLevel>,
    /// How hard, in words.
    pub effort: Option<Effort>,
    /// Whether thoughts (or a summary) should be shown; nothing where the client did not say.
    pub is_shown: Option<bool>,
}

/// Whether the model should think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingLevel {
    /// Not at all.
    Off,
    /// Yes.
    Enabled {
        /// Most tokens to think with.
        budget: Option<u64>,
    },
    /// As the model sees fit.
    Adaptive,
}

/// How hard the model should think. The words of OpenAI and Anthropic, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// `minimal`
    Minimal,
    /// `low`
    Low,
    /// `medium`
    Medium,
    /// `high`
    High,
    /// `xhigh` and `max`
    Max,
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The provider's id; empty where it gives none.
    pub id: String,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// When, in seconds since 1970.
    pub created: Option<u64>,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Why it ends.
    pub finish: Finish,
    /// The text of [`Sampling::stop`] that ended it.
    pub stop_sequence: Option<String>,
    /// Tokens.
    pub usage: Usage,
    /// Probabilities of tokens as the OpenAI dialects give them.
    pub logprobs: Option<Json>,
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model was done.
    #[default]
    Stop,
    /// One of the stop texts came.
    StopSequence,
    /// `max_tokens` was reached.
    Length,
    /// The context window was full.
    ContextWindow,
    /// Tools are to be called.
    ToolUse,
    /// The provider's filter stopped it.
    ContentFilter,
    /// The model refused.
    Refusal,
    /// The provider paused a long turn; to be sent back to go on (Anthropic).
    Pause,
    /// Something went wrong (malformed call, `error`).
    Error,
}

/// One step of a streamed answer; the order is set by `super::order`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The answer begins. Comes once, first.
    Start {
        /// The provider's id; empty where it gives none.
        id: String,
        /// The model that answers.
        model: String,
        /// When, in seconds since 1970.
        created: Option<u64>,
    },
    /// A part of this kind begins.
    PartStart(PartKind),
    /// A call of a tool begins: a part as well.
    ToolStart {
        /// What ties the result to the call; may be empty.
        id: String,
        /// The tool.
        name: String,
        /// Gemini's `thoughtSignature` of the call.
        seal: Option<Seal>,
    },
    /// More text.
    TextDelta(String),
    /// More thoughts.
    ThinkingDelta(String),
    /// The seal of the open thinking part, whole.
    SignatureDelta(Seal),
    /// More of the arguments' JSON text.
    ToolArguments(String),
    /// More of a refusal.
    RefusalDelta(String),
    /// Thoughts that only their issuer can read: a part of its own, whole.
    RedactedThinking(Seal),
    /// The open part ends.
    PartEnd,
    /// Tokens so far; a later report replaces an earlier one, member by member.
    Usage(Usage),
    /// Why the answer ends. Only usage and the end may follow.
    Finish {
        /// Why.
        reason: Finish,
        /// The stop text that came.
        stop_sequence: Option<String>,
    },
    /// The dialect's own end was seen (`[DONE]`, `message_stop`).
    End,
    /// The provider says it cannot go on. Nothing follows.
    Error(Outcome),
    /// A sign of life.
    Ping,
}

/// Kinds of streamed parts that begin without more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartKind {
    /// Words.
    Text,
    /// Thoughts.
    Thinking,
    /// A refusal.
    Refusal,
}

impl Finish {
    /// Returns the reason for dialects in which a refusal is one: in others it is a part, and its
    /// answer just ends.
    pub(super) fn refused_if(self, refuses: bool) -> Self {
        if refuses && self == Finish::Stop { Finish::Refusal } else { self }
    }
}

impl Json {
    /// Takes text that a reader has found to be valid JSON.
    pub(super) fn checked(text: impl Into<Box<str>>) -> Self {
        Json(text.into())
    }

    /// Takes text if it is valid JSON.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
        Some(Json(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Extra {
    /// Tells whether there is anything that this dialect would not understand.
    #[must_use]
    pub fn is_foreign_to(&self, dialect: Dialect) -> bool {
        !self.members.is_empty() && self.owner != Some(dialect)
    }

    /// Tells whether a part of the conversation is kept at the provider and only named here.
    #[must_use]
    pub fn has_state(&self) -> bool {
        // `prompt` is one that is kept, with its instructions and tools; in other dialects it is no such thing.
        let is_prompt = |name: &str| name == "prompt" && self.owner == Some(Dialect::OpenAiResponses);
        let is_state = |name: &str| {
            matches!(name, "previous_response_id" | "conversation" | "cachedContent" | "cached_content")
                || is_prompt(name)
        };
        self.members.iter().any(|(name, _)| is_state(name))
    }
}

impl Part {
    /// Makes a part of this content and nothing else.
    #[must_use]
    pub fn of(content: Content) -> Self {
        Part { content, cache: None, extra: Extra::default() }
    }

    /// Makes a part of words.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Part::of(Content::Text(text.into()))
    }
}

impl Turn {
    /// Makes a turn without a name.
    #[must_use]
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Turn { role, parts, name: None }
    }
}

impl Role {
    /// Tells whether the turn is an instruction.
    #[must_use]
    pub fn is_instruction(self) -> bool {
        match self {
            Role::System | Role::Developer => true,
            Role::User | Role::Assistant | Role::Tool => false,
        }
    }
}

impl Request {
    /// Returns the names of the tools that were called, by the ids of the calls, for dialects that tie
    /// results to calls by name. Of an id that came twice the last call counts.
    #[must_use]
    pub fn called_names(&self) -> HashMap<&str, &str> {
        let parts = self.turns.iter().flat_map(|turn| turn.parts.iter());
        let calls = parts.filter_map(|part| match &part.content {
            Content::ToolUse(call) => Some((call.id.as_str(), call.name.as_str())),
            _ => None,
        });
        calls.collect()
    }

    /// Returns the tools that can be said in a dialect: functions, and what its own providers run.
    pub(super) fn tools_for(&self, dialect: Dialect) -> Vec<&Tool> {
        let can_be_said = |tool: &&Tool| match tool {
            Tool::Function(_) => true,
            Tool::Server { owner, .. } => *owner == dialect,
        };
        self.tools.iter().filter(can_be_said).collect()
    }

    /// Leaves only these functions, and this choice among them: what a choice among some of the tools
    /// comes to.
    pub(super) fn allow_only(&mut self, names: &[String], choice: ToolChoice) {
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        self.tools.retain(|tool| match tool {
            Tool::Function(function) => names.contains(function.name.as_str()),
            Tool::Server { .. } => false,
        });
        self.tool_choice = Some(choice);
    }

    /// Tells whether any part or tool carries a mark for the prompt cache.
    #[must_use]
    pub fn has_cache_marks(&self) -> bool {
        let in_parts = |parts: &[Part]| parts.iter().any(|part| part.cache.is_some());
        let in_tools = self.tools.iter().any(|tool| match tool {
            Tool::Function(function) => function.cache.is_some(),
            Tool::Server { .. } => false,
        });
        in_tools || self.turns.iter().any(|turn| in_parts(&turn.parts))
    }
}

impl Thinking {
    /// Tells whether the client asked the model to think.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        match self.level {
            Some(ThinkingLevel::Off) => false,
            Some(ThinkingLevel::Enabled { .. } | ThinkingLevel::Adaptive) => true,
            None => self.effort.is_some(),
        }
    }
}

impl Effort {
    /// Returns the word that OpenAI and Anthropic have for it.
    #[must_use]
    pub fn as_word(self) -> &'static str {
        match self {
            Effort::Minimal => "minimal",
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::Max => "xhigh",
        }
    }

    /// Reads the word; `none` is no effort but [`ThinkingLevel::Off`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "minimal" => Effort::Minimal,
            "low" => Effort::Low,
            "medium" => Effort::Medium,
            "high" => Effort::High,
            "xhigh" | "max" => Effort::Max,
            _ => return None,
        })
    }

    /// Returns how many tokens to think with, where a dialect wants a number. 8192 is what the
    /// medium of a conversation takes; the others are a factor of two to four away.
    #[must_use]
    pub fn budget(self) -> u64 {
        match self {
            Effort::Minimal => 1024,
            Effort::Low => 2048,
            Effort::Medium => 8192,
            Effort::High => 16_384,
            Effort::Max => 32_768,
        }
    }

    /// Returns the word for a number of tokens, the inverse of [`Effort::budget`]: the hardest
    /// whose own budget fits; the least that every model knows is `low`.
    #[must_use]
    pub fn of_budget(budget: u64) -> Self {
        match budget {
            0..8192 => Effort::Low,
            8192..16_384 => Effort::Medium,
            _ => Effort::High,
        }
    }
}
