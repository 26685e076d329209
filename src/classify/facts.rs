//! Gathers what an error body says, whatever its shape.
//!
//! Shapes seen on the wire: `{"error":{…}}` (OpenAI, Anthropic, Google), the same in an array
//! (Google's OpenAI dialect), `{"error":"words"}` (Ollama, Venice), `{"code","error":"words"}`
//! (xAI), flat `{"message","type","code"}` (Mistral, Cerebras, Doubleword), `{"detail":…}` (FastAPI,
//! the ChatGPT backend), `{"id","message"}` (Cohere), `{"message"}` with `x-amzn-errortype`
//! (Bedrock), `{"status","title"}` (NIM), `{"success":false,"errors":[…]}` (Cloudflare),
//! `response.failed` events, an event still in its framing, plain text, HTML.
//!
//! Out of them come *words* (types, codes, reasons: lower case, compared whole) and the *message*
//! (lower case, searched for phrases). What the client sent and the provider merely repeats is
//! left out: members such as `failed_generation`, and whatever a message quotes. Else a parameter
//! named `credit balance` would make one client's request rest the key of all.

use std::borrow::Cow;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::ProviderType;
use crate::wire::sse;

/// How deep shapes nest: an upstream's error in a router's `metadata.raw` in an array.
const DEPTH_MAX: u32 = 6;

/// What an error says.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Types, codes and reasons, lower case.
    words: Vec<String>,
    /// All messages, lower case, one a line.
    message: String,
    /// The status that the body says it stands for.
    status: Option<u16>,
    /// Google's names of the quotas violated, lower case.
    quotas: Vec<String>,
    /// The best of the words for people: a code before a reason, a type, a status.
    best: Option<(u8, ProviderType)>,
}

impl Facts {
    /// Reads headers and body.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let mut facts = Facts::default();
        if let Some(kind) = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()) {
            facts.add_word(kind.split(':').next().unwrap_or_default(), 2);
        }
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        if let Some(value) = json_of(body) {
            facts.take(&value, 0);
        } else {
            facts.take_text(&String::from_utf8_lossy(body));
        }
        facts
    }

    /// Tells whether one of the words is among `wanted` (lower case).
    pub(super) fn has_word(&self, wanted: &[&str]) -> bool {
        self.words.iter().any(|word| wanted.contains(&word.as_str()))
    }

    /// Returns the messages, lower case.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Returns what an operator's pattern is laid over: the words and the messages, one a line;
    /// where there is no message, and for a page, the whole body.
    pub(super) fn text<'a>(&'a self, body: &'a [u8]) -> Cow<'a, str> {
        if self.message.trim().is_empty() || body.trim_ascii_start().starts_with(b"<") {
            return String::from_utf8_lossy(body);
        }
        let words = self.words.iter().flat_map(|word| [word.as_str(), "\n"]);
        Cow::Owned(words.chain([self.message.as_str()]).collect())
    }

    /// Returns the status that the body says it stands for (400 to 599).
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns Google's names of the quotas violated, lower case.
    pub(super) fn quotas(&self) -> &[String] {
        &self.quotas
    }

    /// Returns the provider's own word for the fault.
    pub(super) fn provider_type(&self) -> Option<ProviderType> {
        self.best.as_ref().map(|(_, word)| word.clone())
    }

    fn take(&mut self, value: &Value, depth: u32) {
        if depth > DEPTH_MAX {
            return;
        }
        match value {
            Value::Object(object) => self.take_object(object, depth),
            Value::Array(items) => items.iter().take(16).for_each(|item| self.take(item, depth + 1)),
            Value::String(text) => self.add_message(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn take_object(&mut self, object: &Map<String, Value>, depth: u32) {
        for (key, value) in object {
            match (key.as_str(), value) {
                ("code" | "error_code" | "errorCode", _) => self.take_code(value),
                ("reason", Value::String(word)) => self.add_word(word, 1),
                ("type" | "error_type", Value::String(word)) => self.add_word(word, 2),
                // Amazon's, behind a namespace: `com.amazon.coral.service#ThrottlingException`.
                ("__type", Value::String(word)) => {
                    self.add_word(word.rsplit('#').next().unwrap_or_default(), 2);
                }
                ("status", Value::String(word)) => self.add_word(word, 3),
                ("status" | "status_code" | "statusCode" | "raw_status_code", _) => {
                    self.note_status(value.as_u64());
                }
                (
                    "message" | "Message" | "msg" | "title" | "detail" | "error" | "error_description"
                    | "innererror" | "inner_error" | "response" | "details" | "violations" | "metadata",
                    _,
                ) => self.take(value, depth + 1),
                // Cloudflare's codes collide with other providers' numbers.
                ("errors", Value::Array(errors)) => {
                    for error in errors.iter().take(16) {
                        if let Some(code) = error.get("code").and_then(Value::as_u64) {
                            self.add_word(&format!("cf:{code}"), 4);
                        }
                        self.take(error.get("message").unwrap_or(error), depth + 1);
                    }
                }
                // OpenRouter: the upstream's own error, as text, often JSON.
                ("raw", Value::String(raw)) => match json_of(raw.as_bytes()) {
                    Some(value) => self.take(&value, depth + 1),
                    None => self.add_message(raw),
                },
                ("flagged_input", _) => self.add_word("moderated", 4),
                ("quotaId", Value::String(id)) => self.quotas.push(id.to_ascii_lowercase()),
                _ => {}
            }
        }
    }

    fn take_code(&mut self, code: &Value) {
        match code {
            Value::String(word) => {
                self.note_status(word.parse().ok());
                let is_number = word.bytes().all(|b| b.is_ascii_digit());
                self.add_word(word, if is_number { 4 } else { 0 });
            }
            Value::Number(number) => {
                self.note_status(number.as_u64());
                self.add_word(&number.to_string(), 4);
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
        }
    }

    fn note_status(&mut self, status: Option<u64>) {
        let status = status.and_then(|s| u16::try_from(s).ok()).filter(|s| (400..600).contains(s));
        self.status = self.status.or(status);
    }

    /// Adds a word; the lower `rank`, the better it names the fault for people.
    fn add_word(&mut self, word: &str, rank: u8) {
        // These say only that it is an error.
        if word.is_empty() || word.len() > 128 || matches!(word, "error" | "response.failed" | "failed") {
            return;
        }
        self.words.push(word.to_ascii_lowercase());
        if self.best.as_ref().is_none_or(|(best, _)| rank < *best)
            && let Some(word) = ProviderType::new(word)
        {
            self.best = Some((rank, word));
        }
    }

    fn add_message(&mut self, text: &str) {
        self.message.push_str(&without_quotes(&text.to_lowercase()));
        self.message.push('\n');
    }

    /// Takes text that is not JSON; of a page only its title.
    fn take_text(&mut self, text: &str) {
        if text.starts_with(['{', '[']) {
            // Broken or cut JSON: there the messages themselves stand in quotes.
            self.message.push_str(&text.to_lowercase());
            return;
        }
        if !text.starts_with('<') {
            self.add_message(text);
            return;
        }
        let lower = text.to_ascii_lowercase();
        let title = lower.split_once("<title").and_then(|(_, rest)| rest.split_once('>'));
        if let Some((title, _)) = title.and_then(|(_, rest)| rest.split_once("</title")) {
            self.add_message(title);
        }
    }
}

/// Returns the text without what stands between quotes, the quotes included. An apostrophe inside
/// a word is none; a quote that is never closed is none either.
fn without_quotes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '`']) {
        let (before, from) = rest.split_at(at);
        let after = from.get(1..).unwrap_or_default();
        kept.push_str(before);
        let quote = from.get(..1).unwrap_or_default();
        let opens = !kept.ends_with(char::is_alphanumeric);
        let closes =
            |end: &usize| !after.get(end + 1..).is_some_and(|a| a.starts_with(char::is_alphanumeric));
        let end = after.match_indices(quote).map(|(end, _)| end).find(closes).filter(|_| opens);
        rest = if let Some(end) = end {
            after.get(end + 1..).unwrap_or_default()
        } else {
            kept.push_str(quote);
            after
        };
    }
    kept.push_str(rest);
    kept
}

/// Reads JSON, also when it is still the data of an event.
fn json_of(body: &[u8]) -> Option<Value> {
    match body.first()? {
        b'{' | b'[' | b'"' => serde_json::from_slice(body).ok(),
        b'e' | b'd' | b':' => serde_json::from_slice(&sse::fields(body).data?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(body: &str) -> Facts {
        Facts::read(&HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn every_shape_gives_its_words_and_its_message() {
        for (body, words, message, status, best) in [
            (
                r#"{"error":{"message":"Hi","type":"t","param":null,"code":"c"}}"#,
                vec!["t", "c"],
                "hi",
                None,
                Some("c"),
            ),
            (
                r#"{"error":{"message":"Hi","type":"insufficient_quota","code":null}}"#,
                vec!["insufficient_quota"],
                "hi",
                None,
                Some("insufficient_quota"),
            ),
            (
                r#"{"type":"error","error":{"type":"t","message":"Hi"},"request_id":"r"}"#,
                vec!["t"],
                "hi",
                None,
                Some("t"),
            ),
            (
                r#"[{"error":{"code":404,"message":"Hi","status":"NOT_FOUND"}}]"#,
                vec!["404", "not_found"],
                "hi",
                Some(404),
                Some("NOT_FOUND"),
            ),
            (
                r#"{"code":"invalid-argument","error":"Hi"}"#,
                vec!["invalid-argument"],
                "hi",
                None,
                Some("invalid-argument"),
            ),
            (r#"{"error":"Hi"}"#, vec![], "hi", None, None),
            (r#"{"detail":"Hi"}"#, vec![], "hi", None, None),
            (
                r#"{"detail":[{"loc":["body"],"msg":"Hi","type":"missing"}]}"#,
                vec!["missing"],
                "hi",
                None,
                Some("missing"),
            ),
            (
                r#"{"object":"error","message":"Hi","type":"invalid_model","code":"1500","raw_status_code":400}"#,
                vec!["invalid_model", "1500"],
                "hi",
                Some(400),
                Some("invalid_model"),
            ),
            (r#"{"status":429,"title":"Hi"}"#, vec![], "hi", Some(429), None),
            (r#"{"error":{"code":"429","message":"Hi"}}"#, vec!["429"], "hi", Some(429), Some("429")),
            (
                r#"{"success":false,"errors":[{"code":3036,"message":"Hi"}],"messages":[]}"#,
                vec!["cf:3036"],
                "hi",
                None,
                None,
            ),
            (
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"c","message":"Hi"},"instructions":"No"}}"#,
                vec!["c"],
                "hi",
                None,
                Some("c"),
            ),
            (
                r#"{"error":{"message":"Hi","code":400,"metadata":{"raw":"{\"error\":{\"type\":\"t\"}}"}}}"#,
                vec!["400", "t"],
                "hi",
                Some(400),
                Some("t"),
            ),
            (
                r#"{"error":{"code":"tool_use_failed","failed_generation":"overloaded"}}"#,
                vec!["tool_use_failed"],
                "",
                None,
                Some("tool_use_failed"),
            ),
            ("event: error\ndata: {\"error\":{\"type\":\"t\"}}\n\n", vec!["t"], "", None, Some("t")),
            ("Unauthorized: token expired\n", vec![], "unauthorized: token expired", None, None),
            ("<!DOCTYPE html><html><title>503 Busy</title><p>quota</html>", vec![], "503 busy", None, None),
            (
                r#"{"error":{"code":"with space and ünïcode"}}"#,
                vec!["with space and ünïcode"],
                "",
                None,
                None,
            ),
            ("", vec![], "", None, None),
        ] {
            let got = facts(body);
            assert_eq!(got.words, words, "{body}");
            assert_eq!(got.message.trim(), message, "{body}");
            assert_eq!(got.status(), status, "{body}");
            assert_eq!(got.provider_type().as_ref().map(ProviderType::as_str), best, "{body}");
        }
    }

    #[test]
    fn what_a_message_quotes_is_left_out() {
        for (text, want) in [
            ("The model `credit balance` does not exist", "the model  does not exist"),
            ("You don't have it, isn't it", "you don't have it, isn't it"),
            ("unknown variant 'it's fine', expected \"a 'b\"!", "unknown variant , expected !"),
            ("an open 'quote", "an open 'quote"),
            ("'' é'x' `", " é'x' `"),
        ] {
            assert_eq!(without_quotes(&text.to_lowercase()), want, "{text}");
        }
    }

    #[test]
    fn amazon_names_the_fault_in_a_header() {
        let name = "ValidationException:http://internal.amazon.com/coral/";
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amzn-errortype"),
            http::HeaderValue::from_static(name),
        )]);
        assert!(Facts::read(&headers, b"{\"Message\":\"x\"}").has_word(&["validationexception"]));
    }

    #[test]
    fn deep_and_broken_bodies_do_no_harm() {
        let deep = format!("{}1{}", "{\"error\":".repeat(100), "}".repeat(100));
        assert!(facts(&deep).words.is_empty());
        assert!(facts(&"[".repeat(100_000)).words.is_empty());
        assert_eq!(facts("{\"error\":{\"code\":\"x\"").message.trim(), "{\"error\":{\"code\":\"x\"");
    }
}
