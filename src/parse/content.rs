//! How much is the model to read, and are there images in it?
//!
//! Goes over the conversation in the pass that reads the body: counts the bytes of text, leaves out
//! images, files and what proves thoughts or seals them (a megabyte of base64 is a thousand tokens, not
//! a quarter of a million) and notes that there is an image. Looks for the parts of all dialects alike:
//! arrays and objects under the names by which a part holds others are parts, whose `type` tells an
//! image; Gemini's parts have no type, and their media type tells. Copies and allocates nothing.

use super::ParseFault;
use crate::catalog::Ability;
use crate::wire::json::Scan;
use crate::wire::request::Parsed;

/// Reads what the model is to read: a text, or a list of turns whose content is a text or parts.
pub(super) fn turns(scan: &mut Scan<'_>, parsed: &mut Parsed) -> Result<(), ParseFault> {
    if scan.peek() != Some(b'[') {
        return part(scan, parsed, NESTED_PARTS);
    }
    scan.items::<ParseFault>(|scan| {
        // A part may stand where a turn does: Anthropic's system, lists of inputs.
        part(scan, parsed, NESTED_PARTS)
    })?;
    Ok(())
}

/// How deep parts hold parts: a turn, its parts, what a tool returned in one of them (Gemini puts an
/// object around that).
const NESTED_PARTS: u8 = 3;

/// Reads a turn or a part of one. Images, files and seals are not text, whatever they weigh.
fn part(scan: &mut Scan<'_>, parsed: &mut Parsed, depth: u8) -> Result<(), ParseFault> {
    if scan.peek() != Some(b'{') {
        return text(scan, parsed);
    }
    scan.members::<ParseFault>(|scan, key| match key.bytes().as_ref() {
        b"content" | b"parts" | b"output" | b"functionResponse" | b"function_response"
        | b"reasoning_details" | b"thinking_blocks"
            if depth > 0 =>
        {
            match scan.peek() {
                Some(b'[') => scan.items::<ParseFault>(|scan| part(scan, parsed, depth - 1)).map(drop),
                _ => part(scan, parsed, depth - 1),
            }
        }
        b"type" => {
            let word = scan.text()?;
            let is_image = word.is_some_and(|word| {
                matches!(
                    word.bytes().as_ref(),
                    b"image_url" | b"input_image" | b"image" | b"computer_screenshot"
                )
            });
            if is_image {
                parsed.needs = parsed.needs.with(Ability::Vision);
            }
            Ok(())
        }
        b"inlineData" | b"inline_data" | b"fileData" | b"file_data" => medium(scan, parsed),
        // `data` holds thoughts that only their issuer can read.
        b"image_url" | b"source" | b"input_audio" | b"file" | b"result" | b"images" | b"data"
        | b"encrypted_content" | b"signature" | b"thoughtSignature" | b"thought_signature" => {
            scan.skip()?;
            Ok(())
        }
        _ => text(scan, parsed),
    })?;
    Ok(())
}

/// Reads Gemini's bytes or address of a medium; the same name has a file's bytes in OpenAI's dialects.
fn medium(scan: &mut Scan<'_>, parsed: &mut Parsed) -> Result<(), ParseFault> {
    scan.members::<ParseFault>(|scan, key| {
        if !matches!(key.bytes().as_ref(), b"mimeType" | b"mime_type") {
            scan.skip()?;
            return Ok(());
        }
        if scan.text()?.is_some_and(|kind| kind.bytes().starts_with(b"image/")) {
            parsed.needs = parsed.needs.with(Ability::Vision);
        }
        Ok(())
    })?;
    Ok(())
}

/// Counts a value as text.
fn text(scan: &mut Scan<'_>, parsed: &mut Parsed) -> Result<(), ParseFault> {
    parsed.text_bytes += scan.skip()?.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::body;
    use super::*;
    use crate::base::api::Api;

    #[test]
    fn images_are_noted_wherever_they_stand_and_are_not_text() {
        let heavy = "A".repeat(10_000);
        for (api, text, is_image) in [
            (
                Api::ChatCompletions,
                r#"{"messages":[{"role":"user","content":"an image_url, they say"}]}"#.to_owned(),
                false,
            ),
            (
                Api::ChatCompletions,
                format!(
                    r#"{{"messages":[{{"content":[{{"type":"text","text":"x"}},{{"type":"image_url","image_url":{{"url":"data:{heavy}"}}}}]}}]}}"#
                ),
                true,
            ),
            (
                Api::Messages,
                format!(
                    r#"{{"messages":[{{"content":[{{"type":"image","source":{{"type":"base64","data":"{heavy}"}}}}]}}]}}"#
                ),
                true,
            ),
            (
                Api::Messages,
                format!(
                    r#"{{"messages":[{{"content":[{{"type":"tool_result","content":[{{"type":"image","source":{{"data":"{heavy}"}}}}]}}]}}]}}"#
                ),
                true,
            ),
            (
                Api::Messages,
                format!(
                    r#"{{"messages":[{{"content":[{{"type":"document","source":{{"data":"{heavy}"}}}}]}}]}}"#
                ),
                false,
            ),
            (
                Api::Responses,
                format!(
                    r#"{{"input":[{{"role":"user","content":[{{"type":"input_image","image_url":"data:{heavy}"}}]}}]}}"#
                ),
                true,
            ),
            (
                Api::Responses,
                format!(
                    r#"{{"input":[{{"type":"function_call_output","output":[{{"type":"input_image","image_url":"data:{heavy}"}}]}}]}}"#
                ),
                true,
            ),
            (
                Api::Responses,
                format!(
                    r#"{{"input":[{{"type":"computer_call_output","output":{{"type":"computer_screenshot","image_url":"data:{heavy}"}}}}]}}"#
                ),
                true,
            ),
            (
                Api::Responses,
                format!(r#"{{"input":[{{"type":"reasoning","summary":[],"encrypted_content":"{heavy}"}}]}}"#),
                false,
            ),
            (
                Api::Responses,
                format!(r#"{{"input":[{{"content":[{{"type":"input_file","file_data":"{heavy}"}}]}}]}}"#),
                false,
            ),
            (
                Api::Messages,
                format!(
                    r#"{{"messages":[{{"content":[{{"type":"thinking","thinking":"t","signature":"{heavy}"}},{{"type":"redacted_thinking","data":"{heavy}"}}]}}]}}"#
                ),
                false,
            ),
            (
                Api::ChatCompletions,
                format!(
                    r#"{{"messages":[{{"content":"a","reasoning_details":[{{"type":"reasoning.encrypted","data":"{heavy}"}}]}}]}}"#
                ),
                false,
            ),
            (
                Api::GenerateContent,
                format!(
                    r#"{{"contents":[{{"parts":[{{"inlineData":{{"mimeType":"image/png","data":"{heavy}"}}}}]}}]}}"#
                ),
                true,
            ),
            (
                Api::GenerateContent,
                format!(
                    r#"{{"contents":[{{"parts":[{{"inline_data":{{"data":"{heavy}","mime_type":"image/png"}}}}]}}]}}"#
                ),
                true,
            ),
            (
                Api::GenerateContent,
                r#"{"contents":[{"parts":[{"fileData":{"mimeType":"image/png","fileUri":"gs://a/b"}}]}]}"#
                    .to_owned(),
                true,
            ),
            (
                Api::GenerateContent,
                r#"{"contents":{"parts":[{"file_data":{"mime_type":"image/png","file_uri":"gs://a/b"}}]}}"#
                    .to_owned(),
                true,
            ),
            (
                Api::GenerateContent,
                format!(
                    r#"{{"contents":[{{"parts":[{{"inlineData":{{"mimeType":"application/pdf","data":"{heavy}"}}}}]}}]}}"#
                ),
                false,
            ),
            (
                Api::GenerateContent,
                format!(
                    r#"{{"contents":[{{"parts":[{{"functionResponse":{{"name":"f","response":{{}},"parts":[{{"inlineData":{{"mimeType":"image/png","data":"{heavy}"}}}}]}}}}]}}]}}"#
                ),
                true,
            ),
            (
                Api::GenerateContent,
                format!(
                    r#"{{"contents":[{{"parts":[{{"functionCall":{{"name":"f"}},"thoughtSignature":"{heavy}"}},{{"text":"a","thought_signature":"{heavy}"}}]}}]}}"#
                ),
                false,
            ),
            (Api::Responses, r#"{"input":"type image"}"#.to_owned(), false),
            (Api::ChatCompletions, r#"{"metadata":{"type":"image"},"messages":[]}"#.to_owned(), false),
        ] {
            let parsed = body(api, text.as_bytes()).unwrap();
            assert_eq!(parsed.needs.has(Ability::Vision), is_image, "{text:.120}");
            assert!(parsed.text_bytes < 200, "{} bytes of text in {text:.120}", parsed.text_bytes);
        }
    }

    #[test]
    fn the_length_is_estimated_from_the_text_and_what_is_asked_for() {
        let prose = "four".repeat(1000);
        for (api, text, least, most) in [
            (
                Api::ChatCompletions,
                format!(r#"{{"messages":[{{"role":"user","content":"{prose}"}}]}}"#),
                1000,
                1010,
            ),
            (
                Api::ChatCompletions,
                format!(
                    r#"{{"max_tokens":50,"max_completion_tokens":500,"messages":[{{"content":[{{"type":"text","text":"{prose}"}}]}}]}}"#
                ),
                1500,
                1510,
            ),
            (
                Api::Messages,
                format!(r#"{{"system":[{{"type":"text","text":"{prose}"}}],"messages":[],"max_tokens":7}}"#),
                1007,
                1015,
            ),
            (Api::Responses, format!(r#"{{"instructions":"{prose}","input":"{prose}"}}"#), 2000, 2010),
            (
                Api::Responses,
                format!(r#"{{"input":[{{"type":"function_call_output","output":"{prose}"}}]}}"#),
                1000,
                1020,
            ),
            (
                Api::GenerateContent,
                format!(
                    r#"{{"contents":[{{"parts":[{{"functionResponse":{{"name":"f","response":{{"result":"{prose}"}}}}}}]}}]}}"#
                ),
                1000,
                1020,
            ),
            (Api::Embeddings, format!(r#"{{"input":["{prose}","{prose}"]}}"#), 2000, 2010),
            (
                Api::ChatCompletions,
                format!(r#"{{"tools":[{{"function":"{prose}"}}],"messages":[]}}"#),
                1000,
                1010,
            ),
            (
                Api::ChatCompletions,
                r#"{"max_tokens":18446744073709551615,"messages":["four"]}"#.to_owned(),
                u64::MAX,
                u64::MAX,
            ),
            (Api::ChatCompletions, format!(r#"{{"user":"{prose}","messages":null}}"#), 0, 5),
        ] {
            let estimate = body(api, text.as_bytes()).unwrap().tokens_estimate();
            assert!((least..=most).contains(&estimate), "{estimate} for {text:.60}");
        }
    }
}
