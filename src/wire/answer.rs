//! Judges a whole JSON answer (not streamed).
//!
//! A 200 is not always an answer: OpenRouter and Azure put `{"error": …}` into one, a failed
//! RunPod job is one, Cloudflare's `{"success":false,"errors":[…]}` may be one, and CDNs send
//! HTML. [`read`] tells these from answers: an object with an `error` that says something and
//! nothing of an answer (`choices`, `content`, `output`, `candidates`, `data`) is an error; so is
//! one with `status: failed`, and one with only a `message`, `msg` or `detail`. Valid JSON with empty
//! `choices` passes (failure table, row 27). White space before the object is no fault (DeepSeek
//! sends it under load).

use std::ops::Range;

use super::json::{Broken, Scan};
use super::{Progress, Usage, cohere, gemini, openai, responses, usage};
use crate::base::api::Dialect;

/// What a usable answer says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Tokens as the provider counted them.
    pub usage: Usage,
    /// Whether the provider's content filter stopped the answer.
    pub was_filtered: bool,
}

/// Why a body is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// No body, or only white space.
    #[error("the answer has no body")]
    Empty,
    /// HTML, text, broken JSON, or JSON that is no object.
    #[error("the answer is not a JSON object")]
    NotJson,
    /// An error object in place of an answer; where it lies in the body.
    #[error("the answer is an error object")]
    Error(Range<usize>),
}

/// What the top level of a body holds.
#[derive(Default)]
struct Top {
    error: bool,
    failed: bool,
    says_why: bool,
    has_known_member: bool,
    has_content: bool,
    usage: Usage,
    was_filtered: bool,
}

/// Reads a whole answer.
///
/// # Errors
/// When the body is empty, not a JSON object, or an error object.
pub fn read(dialect: Dialect, body: &[u8]) -> Result<Answer, AnswerFault> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let offset = body.len() - text.len();
    let mut scan = Scan::new(text);
    let Some(first) = scan.peek() else { return Err(AnswerFault::Empty) };
    let start = scan.at();
    let mut top = Top::default();
    let is_object = match first {
        b'{' => object(&mut scan, dialect, &mut top).map(|()| true),
        // Vertex wraps the error of a stream into an array, Gemini's OpenAI dialect each one.
        b'[' => scan.items(|scan| object(scan, dialect, &mut top)).map(|_| top.error),
        _ => Err(Broken::Syntax(start)),
    };
    let end = scan.at();
    if is_object != Ok(true) || scan.end().is_err() {
        return Err(AnswerFault::NotJson);
    }
    let lacks_answer = !top.has_known_member && top.says_why;
    if top.failed || lacks_answer || (top.error && !top.has_content) {
        return Err(AnswerFault::Error(start + offset..end + offset));
    }
    Ok(Answer { usage: top.usage, was_filtered: top.was_filtered })
}

fn object(scan: &mut Scan<'_>, dialect: Dialect, top: &mut Top) -> Result<(), Broken> {
    let (mut status_failed, mut unsuccessful) = (false, false);
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"error" => top.error |= scan.says_something()?,
            b"object" | b"type" => {
                top.failed |= scan.text()?.is_some_and(|t| t.bytes().as_ref() == b"error");
            }
            b"status" => {
                let status = scan.text()?;
                status_failed = status.is_some_and(|t| matches!(t.bytes().as_ref(), b"failed" | b"FAILED"));
            }
            b"success" => unsuccessful = scan.flag()? == Some(false),
            // The answer of Cohere, Ollama and bridges; everybody's word for what went wrong.
            b"message" if scan.peek() == Some(b'{') && has_message(dialect) => {
                top.has_known_member = true;
                top.has_content |= scan.says_something()?;
            }
            b"response" if dialect == Dialect::GenerateBridge => {
                top.has_known_member = true;
                top.has_content |= scan.says_something()?;
            }
            b"finish_reason" if dialect == Dialect::CohereChat => {
                top.failed |= scan.text()?.as_ref().is_some_and(cohere::is_failure);
            }
            b"stopReason" | b"stop_reason" if has_stop_reason(dialect) => {
                let mut progress = Progress::default();
                progress.note_choice(0, scan.text()?.as_ref());
                top.was_filtered |= progress.filtered;
            }
            b"incomplete_details" if dialect == Dialect::OpenAiResponses => {
                top.was_filtered |= responses::is_filtered(scan)?;
            }
            b"prompt_eval_count" => top.usage.input = scan.count()?.or(top.usage.input),
            b"eval_count" => top.usage.output = scan.count()?.or(top.usage.output),
            b"message" | b"msg" | b"title" => top.says_why |= scan.text()?.is_some_and(|t| !t.is_empty()),
            b"errors" | b"detail" => top.says_why |= scan.says_something()?,
            b"usage" => top.usage.replace_by(usage::read(scan)?),
            b"input_tokens" | b"totalTokens" => {
                top.usage.input = scan.count()?;
                top.has_known_member = true;
            }
            b"choices" | b"candidates" | b"usageMetadata" | b"promptFeedback" => {
                known(scan, key.bytes().as_ref(), dialect, top)?;
            }
            b"content" | b"output" | b"data" | b"embedding" | b"embeddings" | b"result" => {
                top.has_known_member = true;
                top.has_content |= scan.says_something()?;
            }
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    top.failed |= status_failed && top.error;
    top.failed |= unsuccessful && top.says_why;
    Ok(())
}

/// Tells whether an answer in this dialect has a `message`.
fn has_message(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::CohereChat | Dialect::OllamaChat | Dialect::GenerateBridge)
}

/// Tells whether an answer in this dialect says at its top why it stopped.
fn has_stop_reason(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::BedrockConverse | Dialect::AnthropicMessages)
}

/// Reads a member that the dialect's own reader understands, through a copy of the cursor.
fn known(scan: &mut Scan<'_>, key: &[u8], dialect: Dialect, top: &mut Top) -> Result<(), Broken> {
    top.has_known_member = true;
    let mut progress = Progress::default();
    match key {
        b"usageMetadata" => top.usage.replace_by(usage::read(scan)?),
        b"choices" => {
            top.has_content |= scan.items(|scan| openai::choice(scan, &mut progress))? > 0;
            top.failed |= progress.fault;
        }
        b"promptFeedback" if dialect == Dialect::GeminiGenerate => gemini::feedback(scan, &mut progress)?,
        b"candidates" if dialect == Dialect::GeminiGenerate => {
            top.has_content |= scan.items(|scan| gemini::candidate(scan, &mut progress))? > 0;
        }
        _ => top.has_content |= scan.says_something()?,
    }
    top.was_filtered |= progress.filtered;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_errors_in_a_200() {
        use Dialect::{
            AnthropicMessages as A, BedrockConverse as B, CohereChat as H, GeminiGenerate as G,
            GenerateBridge as Y, OllamaChat as O, OpenAiChat as C, OpenAiEmbeddings as E,
            OpenAiResponses as R,
        };
        for (dialect, body, want) in [
            (C, r#"{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":3}}"#, "ok"),
            (C, "\n\n  {\"choices\":[]}\n", "ok"),
            (C, r#"{"choices":[],"error":null}"#, "ok"),
            (C, r#"{"choices":[],"error":{"code":502}}"#, "error"),
            (C, r#"{"error":{"message":"x","code":502},"user_id":"u"}"#, "error"),
            (C, r#"{"error":"x"}"#, "error"),
            (C, r#"[{"error":{"code":400}}]"#, "error"),
            (C, r#"{"choices":[{"message":{"content":"a"}}],"error":{"code":1}}"#, "ok"),
            (C, r#"{"choices":[{"message":{"content":"a"},"finish_reason":"network_error"}]}"#, "error"),
            (C, r#"{"message":"free usage exceeded"}"#, "error"),
            (C, r#"{"code":1113,"msg":"x","success":false}"#, "error"),
            (
                C,
                r#"{"success":false,"errors":[{"code":3036,"message":"x"}],"result":{},"messages":[]}"#,
                "error",
            ),
            (C, r#"{"id":"j","status":"FAILED","error":"oom"}"#, "error"),
            (C, r#"{"object":"error","message":"x","code":"1300"}"#, "error"),
            (C, "", "empty"),
            (C, " \n", "empty"),
            (C, "<html>", "not json"),
            (C, "{\"choices\":[", "not json"),
            (C, "{} trailing", "not json"),
            (C, "\"ok\"", "not json"),
            (C, "[]", "not json"),
            (R, r#"{"status":"failed","error":{"code":"server_error"},"output":[{"a":1}]}"#, "error"),
            (R, r#"{"status":"completed","error":null,"output":[{"a":1}],"usage":{"input_tokens":1}}"#, "ok"),
            (R, r#"{"status":"incomplete","error":null,"output":[]}"#, "ok"),
            (
                A,
                r#"{"type":"message","content":[{"type":"text","text":"a"}],"usage":{"input_tokens":1}}"#,
                "ok",
            ),
            (A, r#"{"type":"error","error":{"type":"overloaded_error"}}"#, "error"),
            (A, r#"{"input_tokens":12}"#, "ok"),
            (E, r#"{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":1}}"#, "ok"),
            (G, r#"{"candidates":[{"content":{"parts":[]}}]}"#, "ok"),
            (G, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, "ok"),
            (
                B,
                r#"{"output":{"message":{"content":[{"text":"a"}],"role":"assistant"}},"stopReason":"end_turn","usage":{"inputTokens":1}}"#,
                "ok",
            ),
            (B, r#"{"message":"Too many requests"}"#, "error"),
            (
                H,
                r#"{"finish_reason":"COMPLETE","id":"i","message":{"content":[{"text":"a","type":"text"}],"role":"assistant"}}"#,
                "ok",
            ),
            (H, r#"{"finish_reason":"ERROR","id":"i","message":{"content":[]}}"#, "error"),
            (H, r#"{"id":"i","message":"trial key"}"#, "error"),
            (
                O,
                r#"{"model":"m","message":{"role":"assistant","content":"a"},"done":true,"eval_count":3}"#,
                "ok",
            ),
            (O, r#"{"error":"llama runner process has terminated"}"#, "error"),
            (Y, r#"{"response":"a"}"#, "ok"),
            (Y, r#"{"message":{"content":"a"}}"#, "ok"),
            (Y, r#"{"error":"not logged in","response":""}"#, "error"),
            (Y, r#"{"message":"not logged in"}"#, "error"),
        ] {
            let got = match read(dialect, body.as_bytes()) {
                Ok(_) => "ok",
                Err(AnswerFault::Empty) => "empty",
                Err(AnswerFault::NotJson) => "not json",
                Err(AnswerFault::Error(_)) => "error",
            };
            assert_eq!(got, want, "{body}");
        }
    }

    #[test]
    fn a_filter_is_seen_in_each_dialects_own_word() {
        use Dialect::{AnthropicMessages as A, GeminiGenerate as G, OpenAiChat as C, OpenAiResponses as R};
        for (dialect, body, want) in [
            (C, r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}"#, false),
            (C, r#"{"choices":[{"message":{"content":"a"},"finish_reason":"sensitive"}]}"#, true),
            (A, r#"{"type":"message","content":[{"type":"text"}],"stop_reason":"refusal"}"#, true),
            (A, r#"{"type":"message","content":[{"type":"text"}],"stop_reason":"end_turn"}"#, false),
            (R, r#"{"output":[],"incomplete_details":{"reason":"content_filter"}}"#, true),
            (R, r#"{"output":[],"incomplete_details":{"reason":"max_output_tokens"}}"#, false),
            (R, r#"{"output":[{"a":1}],"incomplete_details":null}"#, false),
            (G, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, true),
            (G, r#"{"promptFeedback":{},"candidates":[{"finishReason":"STOP"}]}"#, false),
            (G, r#"{"candidates":[{"content":{"parts":[]},"finishReason":"SAFETY"}]}"#, true),
        ] {
            assert_eq!(read(dialect, body.as_bytes()).map(|answer| answer.was_filtered), Ok(want), "{body}");
        }
    }

    #[test]
    fn usage_and_filters_are_read() {
        let body = br#"{"choices":[{"finish_reason":"content_filter"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        let answer = read(Dialect::OpenAiChat, body).unwrap();
        assert_eq!((answer.usage.input, answer.usage.output, answer.was_filtered), (Some(3), Some(4), true));
        assert_eq!(
            read(Dialect::AnthropicMessages, br#"{"input_tokens":12}"#).unwrap().usage.input,
            Some(12)
        );
        let body = br#"{"message":{"content":"a"},"done":true,"prompt_eval_count":3,"eval_count":4}"#;
        let answer = read(Dialect::OllamaChat, body).unwrap();
        assert_eq!((answer.usage.input, answer.usage.output), (Some(3), Some(4)));
        let body = br#"{"output":{"message":{}},"stopReason":"guardrail_intervened"}"#;
        assert!(read(Dialect::BedrockConverse, body).unwrap().was_filtered);
        assert_eq!(
            read(Dialect::OpenAiChat, b" {\"error\":1}\n"),
            Err(AnswerFault::Error(1..12)),
            "the error lies where it says"
        );
    }
}
