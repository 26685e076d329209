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
//! named `credit balance` would make one client's request rest the key of all. For the same reason
//! JSON that breaks off is still read as JSON, as far as it goes: searched as prose it would hold all
//! that a validator repeats of its `input`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::ProviderType;
use crate::wire::json::{Broken, Scan};
use crate::wire::sse;

/// Where Amazon says the type.
static AMAZON: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// How deep shapes nest: an upstream's error in a router's `metadata.raw` in an array.
const DEPTH_MAX: u32 = 6;

/// How many items of an array are read, and how many names of quotas kept.
const ITEMS_MAX: usize = 16;

/// How many words are kept; the longest errors recorded have six.
const WORDS_MAX: usize = 64;

/// How much of the messages, or of a body without a shape, is searched, in bytes.
const MESSAGE_MAX: usize = 64 * 1024;

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
        if let Some(kind) = headers.get(&AMAZON).and_then(|value| value.to_str().ok()) {
            facts.add_word(kind.split(':').next().unwrap_or_default(), 2);
        }
        facts.take_body(body, 0);
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
            return String::from_utf8_lossy(body.get(..MESSAGE_MAX).unwrap_or(body));
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

    /// Takes a whole body, or that of an upstream which a router passes on.
    fn take_body(&mut self, body: &[u8], depth: u32) {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        match json_of(body) {
            // Where it breaks off, what was said until then counts, and what follows is not guessed at.
            Some(json) => drop(self.take(&mut Scan::new(&json), depth)),
            None => self.take_text(&String::from_utf8_lossy(body)),
        }
    }

    fn take(&mut self, scan: &mut Scan<'_>, depth: u32) -> Result<(), Broken> {
        match scan.peek() {
            Some(b'{') if depth <= DEPTH_MAX => {
                scan.members(|scan, key| self.take_member(&key.text(), scan, depth)).map(drop)
            }
            Some(b'[') if depth <= DEPTH_MAX => first_items(scan, |scan| self.take(scan, depth + 1)),
            Some(b'"') if depth <= DEPTH_MAX => {
                if let Some(text) = scan.text()? {
                    self.add_message(&text.text());
                }
                Ok(())
            }
            _ => scan.skip().map(drop),
        }
    }

    fn take_member(&mut self, key: &str, scan: &mut Scan<'_>, depth: u32) -> Result<(), Broken> {
        let is_text = scan.peek() == Some(b'"');
        match key {
            "code" | "error_code" | "errorCode" => self.take_code(scan)?,
            "reason" => self.take_word(scan, 1)?,
            "type" | "error_type" => self.take_word(scan, 2)?,
            // Amazon's, behind a namespace: `com.amazon.coral.service#ThrottlingException`.
            "__type" => {
                if let Some(word) = scan.text()? {
                    self.add_word(word.text().rsplit('#').next().unwrap_or_default(), 2);
                }
            }
            "status" if is_text => self.take_word(scan, 3)?,
            "status" | "status_code" | "statusCode" | "raw_status_code" => {
                let status = scan.count()?;
                self.note_status(status);
            }
            "message" | "Message" | "msg" | "title" | "detail" | "error" | "error_description"
            | "innererror" | "inner_error" | "response" | "details" | "violations" | "metadata" => {
                self.take(scan, depth + 1)?;
            }
            "errors" if scan.peek() == Some(b'[') => {
                first_items(scan, |scan| self.take_cloudflare(scan, depth + 1))?;
            }
            // OpenRouter: the upstream's own error, as text, often JSON.
            "raw" if is_text => {
                if let Some(raw) = scan.text()? {
                    self.take_body(raw.text().as_bytes(), depth + 1);
                }
            }
            "flagged_input" => {
                self.add_word("moderated", 4);
                scan.skip()?;
            }
            "quotaId" => {
                if let Some(id) = scan.text()?.filter(|_| self.quotas.len() < ITEMS_MAX) {
                    self.quotas.push(id.text().to_ascii_lowercase());
                }
            }
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    }

    /// Takes one of several errors. Cloudflare's codes collide with other providers' numbers.
    fn take_cloudflare(&mut self, scan: &mut Scan<'_>, depth: u32) -> Result<(), Broken> {
        let mut whole = scan.clone();
        let mut has_message = false;
        scan.members(|scan, key| {
            match &*key.text() {
                "code" => {
                    if let Some(code) = scan.count()? {
                        self.add_word(&format!("cf:{code}"), 4);
                    }
                }
                "message" => {
                    has_message = true;
                    self.take(scan, depth)?;
                }
                _ => {
                    scan.skip()?;
                }
            }
            Ok::<_, Broken>(())
        })?;
        if has_message { Ok(()) } else { self.take(&mut whole, depth) }
    }

    fn take_word(&mut self, scan: &mut Scan<'_>, rank: u8) -> Result<(), Broken> {
        if let Some(word) = scan.text()? {
            self.add_word(&word.text(), rank);
        }
        Ok(())
    }

    fn take_code(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        if scan.peek() != Some(b'"') {
            let number = scan.count()?;
            self.note_status(number);
            if let Some(number) = number {
                self.add_word(&number.to_string(), 4);
            }
        } else if let Some(word) = scan.text()? {
            let word = word.text();
            self.note_status(word.parse().ok());
            let is_number = word.bytes().all(|b| b.is_ascii_digit());
            self.add_word(&word, if is_number { 4 } else { 0 });
        }
        Ok(())
    }

    fn note_status(&mut self, status: Option<u64>) {
        let status = status.and_then(|s| u16::try_from(s).ok()).filter(|s| (400..600).contains(s));
        self.status = self.status.or(status);
    }

    /// Adds a word; the lower `rank`, the better it names the fault for people.
    fn add_word(&mut self, word: &str, rank: u8) {
        // These say only that it is an error.
        let says_nothing = word.is_empty() || matches!(word, "error" | "response.failed" | "failed");
        if says_nothing || word.len() > 128 || self.words.len() >= WORDS_MAX {
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
        let room = MESSAGE_MAX.saturating_sub(self.message.len());
        if room == 0 {
            return;
        }
        // Cut behind the quotes: half of one would be taken for the provider's words.
        let own = without_quotes(&text.to_lowercase());
        self.message.push_str(own.get(..own.floor_char_boundary(room)).unwrap_or_default());
        self.message.push('\n');
    }

    /// Takes text that is not JSON; of a page only its title.
    fn take_text(&mut self, text: &str) {
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

/// Hands over the first few items of an array.
fn first_items(
    scan: &mut Scan<'_>,
    mut take: impl FnMut(&mut Scan<'_>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let mut seen = 0;
    let items = scan.items(|scan| {
        seen += 1;
        if seen <= ITEMS_MAX { take(scan) } else { scan.skip().map(drop) }
    });
    items.map(drop)
}

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Returns the text without what stands between quotes, the quotes included. An apostrophe inside
/// a word is none; a quote that is never closed is none either.
fn without_quotes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    // Which close nowhere any more. Asked once: a text of a million apostrophes is read once as well.
    let mut is_open_ended = [false; QUOTES.len()];
    while let Some(at) = rest.find(QUOTES) {
        let (before, from) = rest.split_at(at);
        let (quote, after) = from.split_at(1);
        kept.push_str(before);
        let is_open_ended =
            QUOTES.iter().zip(&mut is_open_ended).find(|(known, _)| quote.starts_with(**known));
        let opens = !kept.ends_with(char::is_alphanumeric);
        let closes =
            |end: &usize| !after.get(end + 1..).is_some_and(|a| a.starts_with(char::is_alphanumeric));
        let end =
            is_open_ended.filter(|(_, is_open_ended)| opens && !**is_open_ended).and_then(|(_, mark)| {
                let end = after.match_indices(quote).map(|(end, _)| end).find(closes);
                *mark = end.is_none();
                end
            });
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

/// Returns what is JSON, or was meant to be, also when it is still the data of an event.
fn json_of(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    match body.first()? {
        b'{' | b'[' | b'"' => Some(Cow::Borrowed(body)).filter(|json| begins_json(json)),
        b'e' | b'd' | b':' => sse::fields(body).data.filter(|data| begins_json(data)),
        _ => None,
    }
}

/// Tells JSON, whole or cut, from prose that begins with a bracket or a quote.
fn begins_json(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let next = text.get(1..).unwrap_or_default().trim_ascii_start().first();
    match text.first() {
        Some(b'{') => matches!(next, None | Some(b'"' | b'}')),
        Some(b'[') => matches!(next, None | Some(b'{' | b'[' | b'"' | b']')),
        Some(b'"') => {
            let mut scan = Scan::new(text);
            scan.text().is_ok() && scan.end().is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallTime;
    use crate::classify::response;

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
        let cut = facts("{\"error\":{\"message\":\"Hi\",\"code\":\"x\"");
        assert_eq!((cut.message.trim(), &*cut.words), ("hi", &["x".to_owned()][..]));
        assert_eq!(facts("[ERROR] it's over capacity").message.trim(), "[error] it's over capacity");
        assert_eq!(facts("{credit balance}").message.trim(), "{credit balance}");
        let many = format!("{{{}\"code\":\"x\"}}", "\"code\":\"y\",".repeat(100_000));
        assert_eq!(facts(&many).words.len(), WORDS_MAX);
    }

    #[test]
    fn a_clients_text_is_not_the_providers_however_long_it_is_and_wherever_it_is_cut() {
        let prompt = "your credit balance is too low; invalid api key; spending limit ".repeat(2_000);
        let whole = format!(
            r#"{{"detail":[{{"type":"missing","msg":"Field required","input":{{"text":"{prompt}"}},"url":"u"}}]}}"#
        );
        let message = format!(r#"{{"error":{{"message":"bad value '{prompt}' here","type":"t"}}}}"#);
        let lines = [&whole, &message].map(String::len);
        for (body, cut) in
            [(&whole, lines[0]), (&whole, 64 * 1024), (&message, lines[1]), (&message, 64 * 1024)]
        {
            let body = &body.as_bytes()[..cut];
            for status in [400, 401, 403, 422] {
                let verdict = response(&[], status, &HeaderMap::new(), body, WallTime(0));
                let bare = response(&[], status, &HeaderMap::new(), b"", WallTime(0));
                assert_eq!(
                    verdict.outcome,
                    bare.outcome,
                    "{status}, {cut} of {:.40}",
                    String::from_utf8_lossy(body)
                );
            }
        }
        assert_eq!(facts(&whole).message.trim(), "field required");
        assert_eq!(facts(&message).message.trim(), "bad value  here");
    }

    #[test]
    fn a_text_full_of_quotes_is_read_once() {
        for text in ["'a ", "it's ", "\"b", "`c' "] {
            let text = text.repeat(25_000);
            assert!(without_quotes(&text).len() <= text.len());
        }
    }
}
