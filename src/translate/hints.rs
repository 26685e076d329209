//! Which small things has a dialect no word for?
//!
//! How closely to look at a picture, what a document is called and what it is about, what a schema is
//! for: their writers leave them out without a look, because nothing depends on them but the quality of
//! the answer. So that nothing is left out in silence, they are noted here for all dialects at once,
//! and so is that passages of a document are to be cited, which is more than a hint.

use super::form::{Content, OutputFormat, Part, Request, Source};
use super::loss::{Loss, Losses};
use super::read::Raw;
use crate::base::api::Dialect;

/// Adds what the dialect `to` cannot say of these.
pub(super) fn add(request: &Request, to: Dialect, lost: &mut Losses) {
    let knows = Known::by(to);
    let has_detail = |part: &Part| matches!(&part.content, Content::Image { detail: Some(detail), .. } if detail != "auto");
    let has_name = |part: &Part| matches!(&part.content, Content::Document { name: Some(_), .. });
    // Where a text is words like any other it has no name.
    let is_named_text = |part: &Part| {
        let is_text = matches!(&part.content, Content::Document { source: Source::Text(_), .. });
        is_text && has_name(part)
    };
    let is_cited =
        |part: &Part| document_says(part, to, "citations", |raw| raw.object().flag("enabled") == Some(true));
    let is_told_of = |part: &Part| document_says(part, to, "context", |_| true);
    let has_description = matches!(&request.output, OutputFormat::JsonSchema { description: Some(_), .. });
    lost.add_if(!knows.image_detail && any(request, &has_detail), Loss::ImageDetail);
    lost.add_if(!knows.document_name && any(request, &has_name), Loss::Caption);
    lost.add_if(!knows.text_name && any(request, &is_named_text), Loss::Caption);
    lost.add_if(any(request, &is_told_of), Loss::Caption);
    lost.add_if(any(request, &is_cited), Loss::UnknownMember);
    lost.add_if(!knows.schema_description && has_description, Loss::Caption);
}

/// Tells whether a document says this of itself, to others than the dialect that is written.
fn document_says(part: &Part, to: Dialect, name: &str, is_so: impl Fn(Raw<'_>) -> bool) -> bool {
    matches!(part.content, Content::Document { .. })
        && part.extra.is_foreign_to(to)
        && part.extra.members.iter().any(|(known, value)| known == name && is_so(Raw::of(value)))
}

/// What a dialect has words for.
struct Known {
    image_detail: bool,
    document_name: bool,
    /// The same for documents that are plain text.
    text_name: bool,
    schema_description: bool,
}

impl Known {
    fn by(dialect: Dialect) -> Known {
        let (image_detail, document_name, schema_description) = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiResponses => (true, true, true),
            Dialect::AnthropicMessages | Dialect::BedrockConverse => (false, true, false),
            Dialect::CohereChat => (true, false, false),
            // `displayName` is Vertex' own; the Gemini API refuses it.
            Dialect::GeminiGenerate
            | Dialect::OllamaChat
            | Dialect::GenerateBridge
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings => (false, false, false),
        };
        let text_name = document_name && dialect == Dialect::AnthropicMessages;
        Known { image_detail, document_name, text_name, schema_description }
    }
}

/// Tells whether any part is so, those in results of tools included.
fn any(request: &Request, is_so: &impl Fn(&Part) -> bool) -> bool {
    request.turns.iter().flat_map(|turn| &turn.parts).any(|part| {
        is_so(part) || matches!(&part.content, Content::ToolResult(result) if result.parts.iter().any(is_so))
    })
}
