//! Which faults does no waiting mend, and how long is a target left alone for one?
//!
//! `breaker.permanent` holds regular expressions over the text of a provider's error, `404 Not
//! Found` and the first [`TEXT_MAX`] bytes of its body in one line, whatever the case of letters.
//! Where one is found the breaker opens at the first fault, for `base` (5 min), then `base *
//! factor` each further time without a success in between, at most `max` (80 min).
//!
//! The patterns are the operator's, the text a stranger's: the `regex` crate takes time linear in
//! the text whatever the pattern, and each pattern is bounded ([`PATTERN_MAX`] bytes,
//! [`COMPILED_MAX`] bytes when compiled, [`PATTERNS_MAX`] of them). They say only which faults of
//! a key, a model or a provider are for long; a fault of the client's making never is one, or a
//! prompt that quotes an error could close a provider (`health::effect` decides).
//!
//! Why not on by default: a 404 of a model and a 401 rest for minutes anyway (`cooldown.model`,
//! `cooldown.auth`); this is the ladder of one seed (requirements E11), with its patterns.

use super::walk::Map;
use regex::bytes::{RegexSet, RegexSetBuilder};
use std::sync::Arc;
use std::time::Duration;

/// Most patterns.
const PATTERNS_MAX: usize = 64;
/// Longest pattern in bytes.
const PATTERN_MAX: usize = 256;
/// Most memory of all patterns together when compiled, and of the automaton at work.
const COMPILED_MAX: usize = 1 << 20;
/// How much of an error's body is looked at: messages stand at its beginning.
const TEXT_MAX: usize = 8 * 1024;

/// The patterns that stand in for absent ones, as YAML.
const PATTERNS: &str = r#"["404.*not found", "401.*unauthorized", "403.*forbidden", "authentication.*failed", "invalid.*credentials", "api.*key.*invalid", "endpoint.*not.*found"]"#;

/// How long a breaker stays open after a fault that no waiting mends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Permanent {
    /// The first time.
    pub base: Duration,
    /// Growth from time to time, 1 or more.
    pub factor: f64,
    /// The longest.
    pub max: Duration,
}

impl Permanent {
    /// Returns how long a breaker stays open that opened `before` times for such faults already.
    #[must_use]
    pub fn open(&self, before: u32) -> Duration {
        let times = self.factor.powi(i32::try_from(before.min(1000)).unwrap_or(1000));
        let grown = self.base.as_secs_f64() * times;
        Duration::try_from_secs_f64(grown.min(self.max.as_secs_f64())).unwrap_or(self.max)
    }
}

/// The patterns, compiled; none where they are switched off.
#[derive(Clone, Debug, Default)]
pub struct PermanentPatterns(Option<Arc<RegexSet>>);

impl PermanentPatterns {
    /// Tells whether one of the patterns is found in an error: its status, the status's name and
    /// the beginning of its body.
    #[must_use]
    pub fn cover(&self, status: http::StatusCode, body: &[u8]) -> bool {
        let Some(patterns) = &self.0 else { return false };
        let name = status.canonical_reason().unwrap_or_default();
        let mut text = format!("{} {name} ", status.as_str()).into_bytes();
        text.extend_from_slice(body.get(..TEXT_MAX).unwrap_or(body));
        patterns.is_match(&text)
    }
}

/// Reads `breaker.permanent`.
pub(super) fn read_permanent(m: &mut Map<'_, '_>) -> (Option<Permanent>, PermanentPatterns) {
    let enabled = m.boolean("enabled", false, "whether some error texts open a breaker at once");
    let span = Duration::from_millis(1)..=Duration::from_secs(7 * 24 * 3600);
    let base = m.duration("base", Duration::from_secs(300), span.clone(), "how long it stays open at first");
    let factor = m.number("factor", 2.0, 1.0..=100.0, "growth from time to time");
    let max = m.duration("max", Duration::from_secs(80 * 60), span, "longest it stays open");
    let (base, max) = super::policies::in_order(m, ("base", base), ("max", max));
    let help = "regular expressions over status and error text, whatever the case of letters";
    let written = m.texts("patterns", PATTERNS, help);
    let written = written.map(|written| written.into_iter().map(|(_, pattern)| pattern).collect());
    // Patterns that nobody wrote and nobody wants need not be compiled at every reading.
    let patterns: Vec<String> = match (written, enabled) {
        (None, false) => return (None, PermanentPatterns::default()),
        (None, true) => serde_yaml::from_str(PATTERNS).unwrap_or_default(),
        (Some(written), _) => written,
    };
    let patterns = checked(m, &patterns);
    if !enabled {
        return (None, PermanentPatterns::default());
    }
    (Some(Permanent { base, factor, max }), PermanentPatterns(Some(Arc::new(patterns))))
}

/// Compiles patterns; of those that cannot be, one is told.
fn checked(m: &Map<'_, '_>, patterns: &[String]) -> RegexSet {
    if patterns.len() > PATTERNS_MAX {
        m.fault("patterns", format!("has more than {PATTERNS_MAX} entries"));
        return RegexSet::empty();
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let fault = if pattern.len() > PATTERN_MAX {
            Some(format!("is longer than {PATTERN_MAX} bytes"))
        } else {
            compile([pattern]).err().map(|fault| why(&fault).to_owned())
        };
        if let Some(fault) = fault {
            m.fault_at("patterns", index, fault);
            return RegexSet::empty();
        }
    }
    compile(patterns).unwrap_or_else(|fault| {
        m.fault("patterns", format!("taken together: {}", why(&fault)));
        RegexSet::empty()
    })
}

fn compile<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns)
        .case_insensitive(true)
        // An error's text need not be UTF-8, and a dot must match whatever is there.
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(COMPILED_MAX)
        .dfa_size_limit(COMPILED_MAX)
        .nest_limit(32)
        .build()
}

/// Says what is wrong without repeating the pattern over many lines, as the crate's own text does.
fn why(fault: &regex::Error) -> &'static str {
    match fault {
        regex::Error::CompiledTooBig(_) => "is too large when compiled; write fewer or shorter repetitions",
        _ => "is not a regular expression of the regex crate; look-around and back-references are not known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn patterns() -> PermanentPatterns {
        let patterns: Vec<String> = serde_yaml::from_str(PATTERNS).unwrap();
        PermanentPatterns(Some(Arc::new(compile(patterns).unwrap())))
    }

    #[test]
    fn the_patterns_are_found_in_status_and_text_whatever_the_case() {
        for (status, body, want, why) in [
            (401, &b"Unauthorized"[..], true, "401.*unauthorized"),
            (401, b"{\"error\":\n{\"message\":\"you are UNAUTHORIZED\"}}", true, "over lines, in capitals"),
            (404, b"", true, "the name of the status is part of the text"),
            (403, b"{}", true, "403.*forbidden"),
            (500, b"Authentication with the upstream failed", true, "authentication.*failed"),
            (400, b"invalid is the api key", false, "the order of words counts"),
            (400, b"the api key is invalid", true, "api.*key.*invalid"),
            (503, b"The service is temporarily unavailable.", false, "no pattern"),
            (500, b"\xff\xfe endpoint \xff not found", true, "text that is not UTF-8"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(patterns().cover(status, body), want, "{status}: {why}");
        }
        let late = [vec![b' '; TEXT_MAX], b"the api key is invalid".to_vec()].concat();
        assert!(!patterns().cover(StatusCode::BAD_REQUEST, &late), "only the beginning is looked at");
        assert!(!PermanentPatterns::default().cover(StatusCode::NOT_FOUND, b"not found"), "switched off");
    }

    #[test]
    fn the_ladder_doubles_from_five_to_eighty_minutes() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let permanent = Permanent { base: minutes(5), factor: 2.0, max: minutes(80) };
        for (before, want) in [(0, 5), (1, 10), (2, 20), (3, 40), (4, 80), (5, 80), (u32::MAX, 80)] {
            assert_eq!(permanent.open(before), minutes(want), "after {before} others");
        }
    }
}
