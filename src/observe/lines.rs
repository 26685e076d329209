//! One line, in JSON or logfmt.
//!
//! Every line begins with `ts`, `level` and `msg`; the fields of the two kinds that scripts read
//! ([`RequestLine`], [`TargetStateLine`]) follow in the order of contract section 8 and are always
//! all there: what is absent is `null` in JSON and `-` in logfmt.
//!
//! Values are untrusted: a model is the client's text, an error may quote a provider. So control
//! characters (with them line breaks and ANSI sequences), C1 controls, line separators and
//! bidirectional overrides are written as `\u001b`-like escapes in both formats, and a value ends
//! after [`VALUE_BYTES_MAX`] bytes (threat C13). Nothing a value holds can begin a line or a field.
//!
//! A line costs one allocation: this is the last thing that every request does.

use super::stamp::push_rfc3339;
use crate::base::api::Dialect;
use crate::base::time::WallTime;
use crate::config::plan::Level;
use std::fmt::Write;

/// Longest value in bytes before it is cut, with `...` to show it.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Writes the name of a field of ours with what stands around it.
macro_rules! key {
    ($name:literal) => {
        Key::Ours(concat!(",\"", $name, "\":"), concat!(" ", $name, "="))
    };
}

/// What one request came to.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// When it ended.
    pub at: WallTime,
    /// Its id, ours or the client's.
    pub id: &'a str,
    /// The route it named, where one was found.
    pub route: Option<&'a str>,
    /// The client, where clients are configured and it was known.
    pub client: Option<&'a str>,
    /// Its dialect, where the path told.
    pub dialect: Option<Dialect>,
    /// The model as the client wrote it.
    pub model: Option<&'a str>,
    /// The target that answered, or the last one tried.
    pub target: Option<&'a str>,
    /// Contacts with providers, repeats included.
    pub attempts: u32,
    /// The way it went, see [`super::trail`].
    pub trail: &'a str,
    /// Status sent downstream; 499 where the client left before it.
    pub status: u16,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// From the start to the first content downstream, in milliseconds.
    pub ttfc_ms: Option<u64>,
    /// From the start to the end, in milliseconds.
    pub dur_ms: u64,
    /// Our own share of it, in microseconds.
    pub overhead_us: u64,
    /// Input tokens, where the provider counted them.
    pub in_tokens: Option<u64>,
    /// Output tokens, where the provider counted them.
    pub out_tokens: Option<u64>,
    /// Cost, where tokens and a price are known.
    pub cost_usd: Option<f64>,
    /// What each target used (`target:input+output`), where a broken stream was taken up.
    pub spent: Option<&'a str>,
    /// Whether a smaller size of model answered than the first choice has.
    pub degraded: bool,
    /// Generation of the plan it ran under.
    pub generation: u64,
}

/// A change of a target's state.
#[derive(Clone, Copy, Debug)]
pub struct TargetStateLine<'a> {
    /// When it changed.
    pub at: WallTime,
    /// The target's id.
    pub target: &'a str,
    /// What of it changed: the target, or the credential or endpoint that others may share.
    pub scope: &'static str,
    /// The state it left.
    pub from: &'a str,
    /// The state it is in; `ready` is told as information, all others as warnings.
    pub to: &'a str,
    /// What caused it: an outcome, an operator.
    pub reason: &'a str,
    /// Until when, where that is known.
    pub until: Option<WallTime>,
    /// The target that is used instead, where one is.
    pub next: Option<&'a str>,
}

impl RequestLine<'_> {
    /// Returns its severity: a warning where the client got a 5xx.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.status >= 500 { Level::Warn } else { Level::Info }
    }

    pub(super) fn write(&self, line: &mut Line) {
        line.text(key!("id"), Some(self.id));
        line.text(key!("route"), self.route);
        line.text(key!("client"), self.client);
        line.text(key!("dialect"), self.dialect.map(Dialect::as_label));
        line.text(key!("model"), self.model);
        line.text(key!("target"), self.target);
        line.number(key!("attempts"), Some(u64::from(self.attempts)));
        line.text(key!("trail"), Some(self.trail));
        line.number(key!("status"), Some(u64::from(self.status)));
        line.flag(key!("stream"), self.stream);
        line.number(key!("ttfc_ms"), self.ttfc_ms);
        line.number(key!("dur_ms"), Some(self.dur_ms));
        line.number(key!("overhead_us"), Some(self.overhead_us));
        line.number(key!("in_tokens"), self.in_tokens);
        line.number(key!("out_tokens"), self.out_tokens);
        line.usd(key!("cost_usd"), self.cost_usd);
        if self.spent.is_some() {
            line.text(key!("spent"), self.spent);
        }
        if self.degraded {
            line.flag(key!("degraded"), true);
        }
        line.number(key!("generation"), Some(self.generation));
    }
}

impl TargetStateLine<'_> {
    /// Returns its severity.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.to == "ready" { Level::Info } else { Level::Warn }
    }

    pub(super) fn write(&self, line: &mut Line) {
        line.text(key!("target"), Some(self.target));
        line.text(key!("from"), Some(self.from));
        line.text(key!("to"), Some(self.to));
        line.text(key!("reason"), Some(self.reason));
        line.time(key!("until"), self.until);
        line.text(key!("next"), self.next);
        // A target's own needs no word.
        if self.scope != "target" {
            line.text(key!("scope"), Some(self.scope));
        }
    }
}

/// The name of a field.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// One of ours, with what stands around it, in JSON and in logfmt: twenty of them are written
    /// for every request.
    Ours(&'static str, &'static str),
    /// The name of a tracing field.
    Foreign(&'a str),
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(name: &'a str) -> Self {
        Key::Foreign(name)
    }
}

/// A line that is being written.
pub(super) struct Line {
    text: String,
    is_json: bool,
}

impl Line {
    /// Begins a line with `ts`, `level` and `msg`.
    pub(super) fn new(is_json: bool, at: WallTime, level: Level, msg: &str) -> Line {
        let mut line = Line { text: String::with_capacity(640), is_json };
        if is_json {
            line.text.push('{');
        }
        line.time(key!("ts"), Some(at));
        line.text(key!("level"), Some(level_word(level)));
        line.text(key!("msg"), Some(msg));
        line
    }

    /// Begins a line of the audit log with `ts` and `kind`; always JSON.
    pub(super) fn record(at: WallTime, kind: &str) -> Line {
        let mut line = Line { text: String::with_capacity(384), is_json: true };
        line.text.push('{');
        line.time(key!("ts"), Some(at));
        line.text(key!("kind"), Some(kind));
        line
    }

    /// Ends the line, with its line break.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str(if self.is_json { "}\n" } else { "\n" });
        self.text
    }

    pub(super) fn text<'k>(&mut self, key: impl Into<Key<'k>>, value: Option<&str>) {
        self.key(key.into());
        match value {
            None => self.absent(),
            Some(value) => {
                let (value, is_cut) = cut(value);
                let is_bare = !self.is_json && !is_cut && is_bare(value);
                if is_bare {
                    self.text.push_str(value);
                } else {
                    self.quoted(value, is_cut);
                }
            }
        }
    }

    pub(super) fn number<'k>(&mut self, key: impl Into<Key<'k>>, value: Option<u64>) {
        self.key(key.into());
        match value {
            None => self.absent(),
            Some(value) => self.text.push_str(itoa::Buffer::new().format(value)),
        }
    }

    pub(super) fn signed<'k>(&mut self, key: impl Into<Key<'k>>, value: i64) {
        self.key(key.into());
        self.text.push_str(itoa::Buffer::new().format(value));
    }

    /// A number with a fraction; JSON has no word for NaN or infinity.
    pub(super) fn float<'k>(&mut self, key: impl Into<Key<'k>>, value: f64) {
        self.key(key.into());
        if value.is_finite() {
            // Writing to a String does not fail; here and below.
            let _ = write!(self.text, "{value}");
        } else {
            self.absent();
        }
    }

    pub(super) fn flag<'k>(&mut self, key: impl Into<Key<'k>>, value: bool) {
        self.key(key.into());
        self.text.push_str(if value { "true" } else { "false" });
    }

    /// Dollars to a millionth: the price of one token of a cheap model is less than a tenth of
    /// that, of a whole request seldom.
    fn usd(&mut self, key: Key<'_>, value: Option<f64>) {
        self.key(key);
        match value.filter(|usd| usd.is_finite()) {
            None => self.absent(),
            Some(usd) => drop(write!(self.text, "{usd:.6}")),
        }
    }

    fn time(&mut self, key: Key<'_>, at: Option<WallTime>) {
        self.key(key);
        let quote = if self.is_json { "\"" } else { "" };
        match at {
            None => self.absent(),
            Some(at) => {
                self.text.push_str(quote);
                push_rfc3339(&mut self.text, at);
                self.text.push_str(quote);
            }
        }
    }

    fn absent(&mut self) {
        self.text.push_str(if self.is_json { "null" } else { "-" });
    }

    /// A foreign name is a Rust path; anything else in one would break logfmt and is written as `_`.
    fn key(&mut self, key: Key<'_>) {
        let is_first = self.text.len() <= usize::from(self.is_json);
        match key {
            Key::Ours(json, logfmt) => {
                let whole = if self.is_json { json } else { logfmt };
                self.text.push_str(whole.get(usize::from(is_first)..).unwrap_or_default());
            }
            Key::Foreign(name) if self.is_json => {
                self.text.push_str(if is_first { "" } else { "," });
                self.quoted(name, false);
                self.text.push(':');
            }
            Key::Foreign(name) => {
                self.text.push_str(if is_first { "" } else { " " });
                self.text.extend(name.chars().map(|c| if is_bare_char(c) { c } else { '_' }));
                self.text.push('=');
            }
        }
    }

    fn quoted(&mut self, value: &str, is_cut: bool) {
        self.text.push('"');
        if !is_cut && is_plain(value) {
            self.text.push_str(value);
            self.text.push('"');
            return;
        }
        let mut plain_from = 0;
        for (at, c) in value.char_indices().filter(|(_, c)| must_escape(*c)) {
            self.text.push_str(value.get(plain_from..at).unwrap_or_default());
            self.escape(c);
            plain_from = at + c.len_utf8();
        }
        self.text.push_str(value.get(plain_from..).unwrap_or_default());
        self.text.push_str(if is_cut { "...\"" } else { "\"" });
    }

    /// All that is escaped lies in the first plane, so that four digits do.
    fn escape(&mut self, c: char) {
        match c {
            '"' => self.text.push_str("\\\""),
            '\\' => self.text.push_str("\\\\"),
            '\n' => self.text.push_str("\\n"),
            '\r' => self.text.push_str("\\r"),
            '\t' => self.text.push_str("\\t"),
            other => drop(write!(self.text, "\\u{:04x}", u32::from(other))),
        }
    }
}

/// The word of a severity.
pub(super) fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The value up to its limit, and whether something was cut off.
fn cut(value: &str) -> (&str, bool) {
    if value.len() <= VALUE_BYTES_MAX {
        return (value, false);
    }
    // A character has at most four bytes, so one of four cuts falls between two.
    let cut = (VALUE_BYTES_MAX - 3..=VALUE_BYTES_MAX).rev().find_map(|end| value.get(..end));
    (cut.unwrap_or_default(), true)
}

/// The bytes that stand in a quoted value as they are: printable ASCII but for quote and backslash.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut b = b' ' as usize;
    while b <= b'~' as usize {
        plain[b] = true;
        b += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// Whether nothing in a value has to be escaped.
fn is_plain(value: &str) -> bool {
    value.bytes().all(|b| PLAIN[usize::from(b)])
}

/// Whether logfmt takes the value without quotes. A lone `-` means absent.
fn is_bare(value: &str) -> bool {
    !value.is_empty() && value != "-" && value.chars().all(is_bare_char)
}

fn is_bare_char(c: char) -> bool {
    !must_escape(c) && !c.is_whitespace() && c != '='
}

fn must_escape(c: char) -> bool {
    matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}' | '\u{feff}')
        || c.is_control()
        // What turns the direction of text, and so what a reader believes to read.
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const AT: WallTime = WallTime(1_795_227_262_123);

    fn request(model: &str) -> RequestLine<'_> {
        RequestLine {
            at: AT,
            id: "019a-1",
            route: Some("chat"),
            client: None,
            dialect: Some(Dialect::OpenAiChat),
            model: Some(model),
            target: Some("anthropic/main/claude-haiku-4-5"),
            attempts: 2,
            trail: "openai/work:429,anthropic/main:ok",
            status: 200,
            stream: true,
            ttfc_ms: Some(402),
            dur_ms: 9120,
            overhead_us: 88,
            in_tokens: Some(1201),
            out_tokens: None,
            cost_usd: Some(0.0312),
            spent: None,
            degraded: false,
            generation: 7,
        }
    }

    fn written(is_json: bool, request: &RequestLine<'_>) -> String {
        let mut line = Line::new(is_json, request.at, request.level(), "request");
        request.write(&mut line);
        line.finish()
    }

    #[test]
    fn a_request_is_one_line_of_logfmt_in_the_order_of_the_contract() {
        assert_eq!(
            written(false, &request("gpt-4o")),
            "ts=2026-11-21T02:14:22.123Z level=info msg=request id=019a-1 route=chat client=- \
             dialect=openai.chat model=gpt-4o target=anthropic/main/claude-haiku-4-5 attempts=2 \
             trail=openai/work:429,anthropic/main:ok status=200 stream=true ttfc_ms=402 dur_ms=9120 \
             overhead_us=88 in_tokens=1201 out_tokens=- cost_usd=0.031200 generation=7\n"
        );
    }

    #[test]
    fn a_request_is_one_json_object_in_the_order_of_the_contract() {
        let text = written(true, &request("gpt-4o"));
        let value: Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys.join(" "),
            "ts level msg id route client dialect model target attempts trail status stream ttfc_ms \
             dur_ms overhead_us in_tokens out_tokens cost_usd generation"
        );
        assert_eq!(value["client"], Value::Null);
        assert_eq!(value["attempts"], 2);
        assert_eq!(value["stream"], true);
        assert_eq!(value["cost_usd"], 0.0312);
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn a_failed_request_is_a_warning() {
        assert_eq!(RequestLine { status: 503, ..request("m") }.level(), Level::Warn);
        assert_eq!(RequestLine { status: 429, ..request("m") }.level(), Level::Info);
    }

    #[test]
    fn a_change_of_state_is_a_warning_until_the_target_is_ready_again() {
        let gone = TargetStateLine {
            at: AT,
            target: "openai/work/gpt-4o",
            scope: "target",
            from: "ready",
            to: "cooling",
            reason: "overloaded",
            until: Some(WallTime(AT.0 + 41_000)),
            next: None,
        };
        let mut line = Line::new(false, gone.at, gone.level(), "target_state");
        gone.write(&mut line);
        assert_eq!(
            line.finish(),
            "ts=2026-11-21T02:14:22.123Z level=warn msg=target_state target=openai/work/gpt-4o from=ready \
             to=cooling reason=overloaded until=2026-11-21T02:15:03.123Z next=-\n"
        );
        let mut line = Line::new(false, gone.at, gone.level(), "target_state");
        TargetStateLine { scope: "credential", ..gone }.write(&mut line);
        assert!(line.finish().ends_with(" next=- scope=credential\n"));
        assert_eq!(TargetStateLine { to: "ready", ..gone }.level(), Level::Info);
    }

    #[test]
    fn hostile_values_stay_inside_their_field() {
        for (value, logfmt) in [
            ("", r#""""#),
            ("-", r#""-""#),
            ("a b", r#""a b""#),
            ("a=b", r#""a=b""#),
            ("say \"hi\"", r#""say \"hi\"""#),
            ("back\\slash", r#""back\\slash""#),
            ("x\nlevel=error msg=fake", r#""x\nlevel=error msg=fake""#),
            ("x\r\n\t", r#""x\r\n\t""#),
            ("\u{1b}[31mred\u{9b}2J", r#""\u001b[31mred\u009b2J""#),
            ("nul\0del\u{7f}", r#""nul\u0000del\u007f""#),
            ("\u{202e}gpj\u{2028}", r#""\u202egpj\u2028""#),
            ("größe", "größe"),
        ] {
            let mut line = Line { text: String::new(), is_json: false };
            line.text("k", Some(value));
            assert_eq!(line.text, format!("k={logfmt}"), "{value:?}");
        }
    }

    #[test]
    fn a_huge_value_is_cut_at_a_character() {
        let huge = "é".repeat(VALUE_BYTES_MAX);
        let text = written(true, &request(&huge));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["model"].as_str().unwrap(), format!("{}...", "é".repeat(VALUE_BYTES_MAX / 2)));
    }

    #[test]
    fn numbers_that_json_cannot_say_are_null() {
        for cost in [f64::NAN, f64::INFINITY] {
            let text = written(true, &RequestLine { cost_usd: Some(cost), ..request("m") });
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["cost_usd"], Value::Null);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_client_sends_json_gives_it_back_and_no_line_breaks(model in "\\PC*|[\\x00-\\u{a0}\\u{2020}-\\u{2030}]*") {
            let text = written(true, &request(&model));
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value["model"].as_str().unwrap(), model.as_str());
            for text in [text, written(false, &request(&model))] {
                prop_assert!(text.trim_end_matches('\n').chars().all(|c| !c.is_control()), "{:?}", text);
            }
        }
    }
}
