//! Which small things has a dialect no word for?
//!
//! How closely to look at a picture, what a document is called, what a schema is for: their writers
//! leave them out without a look, because nothing depends on them but the quality of the answer.
//! So that nothing is left out in silence, they are noted here for all dialects at once.

use super::form::{Content, OutputFormat, Part, Request};
use super::loss::{Loss, Losses};
use crate::base::api::Dialect;

/// Adds what the dialect `to` cannot say of these.
pub(super) fn add(request: &Request, to: Dialect, lost: &mut Losses) {
    let knows = Known::by(to);
    let has_detail = |part: &Part| matches!(&part.content, Content::Image { detail: Some(detail), .. } if detail != "auto");
    let has_name = |part: &Part| matches!(&part.content, Content::Document { name: Some(_), .. });
    let has_description = matches!(&request.output, OutputFormat::JsonSchema { description: Some(_), .. });
    lost.add_if(!knows.image_detail && any(request, &has_detail), Loss::ImageDetail);
    lost.add_if(!knows.document_name && any(request, &has_name), Loss::Caption);
    lost.add_if(!knows.schema_description && has_description, Loss::Caption);
}

/// What a dialect has words for.
struct Known {
    image_detail: bool,
    document_name: bool,
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
        Known { image_detail, document_name, schema_description }
    }
}

/// Tells whether any part is so, those in results of tools included.
fn any(request: &Request, is_so: &impl Fn(&Part) -> bool) -> bool {
    request.turns.iter().flat_map(|turn| &turn.parts).any(|part| {
        is_so(part) || matches!(&part.content, Content::ToolResult(result) if result.parts.iter().any(is_so))
    })
}
