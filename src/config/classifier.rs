//! The operator's own words for faults: `classifier.patterns`.
//!
//! A pattern is a regular expression, the statuses under which it is believed and the outcome it
//! stands for. `classify` asks a provider's own patterns first and then the file's, and only where
//! no code of the provider decided; what it lays before them is said there. Here they are compiled,
//! so that a pattern that cannot be is told with its place before it is in force.
//!
//! Bounds, because a provider chooses the text and every failure asks: at most [`PATTERNS_MAX`] a
//! list, [`MATCH_MAX`] bytes each, [`COMPILED_MAX`] compiled. The `regex` crate matches in time linear
//! in the text and has neither look-around nor back-references, so that no text makes one run away.
//! Letters match in either case, `^` and `$` at the ends of a line.
//!
//! An outcome is one of those that a provider can say; what happens below HTTP, and what the client
//! does, are seen and not read. A pattern that fits the empty text fits every answer; it is taken
//! only together with statuses.

use super::walk::Map;
use crate::base::outcome::Outcome;
use regex::{Regex, RegexBuilder};
use smallvec::SmallVec;

/// Most patterns of one list; the built-in table has some two hundred phrases.
const PATTERNS_MAX: usize = 64;
/// Longest pattern, in bytes.
const MATCH_MAX: usize = 512;
/// Largest compiled pattern, in bytes; a class such as `\w` alone takes some ten thousand.
const COMPILED_MAX: usize = 256 * 1024;
/// Largest cache of a pattern's lazy automaton, one a thread that matches.
const CACHE_MAX: usize = 256 * 1024;
/// Deepest nesting of groups.
const NEST_MAX: u32 = 32;

/// What a pattern may stand for.
const OUTCOMES: [Outcome; 12] = [
    Outcome::RateLimited,
    Outcome::Quota,
    Outcome::Auth,
    Outcome::Permission,
    Outcome::Region,
    Outcome::ModelUnavailable,
    Outcome::TooLarge,
    Outcome::Overloaded,
    Outcome::ServerError,
    Outcome::ClientError,
    Outcome::ContentFiltered,
    Outcome::ContextLength,
];

/// Words of an error and what they mean.
#[derive(Clone, Debug)]
pub struct Pattern {
    words: Regex,
    /// Empty: any.
    statuses: SmallVec<[u16; 4]>,
    /// What an answer that fits comes to.
    pub outcome: Outcome,
}

impl Pattern {
    /// Makes a pattern; `statuses` without an entry means any.
    ///
    /// # Errors
    /// Says in words why the regular expression cannot be used.
    pub fn new(words: &str, statuses: &[u16], outcome: Outcome) -> Result<Self, String> {
        let words = compile(words)?;
        if statuses.is_empty() && words.is_match("") {
            return Err("fits every text; name words that must be there, or the status beside it".to_owned());
        }
        Ok(Pattern { words, statuses: statuses.into(), outcome })
    }

    /// Tells whether the pattern is believed under one of these statuses and fits the text.
    #[must_use]
    pub fn fits(&self, statuses: &[u16], text: &str) -> bool {
        let is_believed =
            self.statuses.is_empty() || statuses.iter().any(|status| self.statuses.contains(status));
        is_believed && self.words.is_match(text)
    }
}

/// Reads `classifier`.
pub(super) fn read_classifier(m: &mut Map<'_, '_>) -> Vec<Pattern> {
    let mut seen = 0;
    let patterns = m.list("patterns", "[]", "words of errors and what they mean, asked in this order", |m| {
        seen += 1;
        read_pattern(m, seen <= PATTERNS_MAX)
    });
    if seen > PATTERNS_MAX {
        m.fault("patterns", format!("has more than {PATTERNS_MAX} entries; join some with |"));
    }
    patterns.unwrap_or_default().into_iter().flatten().collect()
}

fn read_pattern(m: &mut Map<'_, '_>, is_compiled: bool) -> Option<Pattern> {
    let words = m.text("match", "regular expression, in either case, for the words of an error");
    let statuses = m.integers(
        "status",
        200..=599,
        "statuses under which it is believed, 200 for an error in an answer that says it is good; none is any",
    );
    let outcomes = OUTCOMES.map(|outcome| (outcome.as_label(), outcome));
    let outcome = m.word("outcome", &outcomes, "what it means");
    if statuses.is_none() && m.has("status") {
        return None;
    }
    let statuses = statuses.unwrap_or_default();
    if statuses.iter().any(|status| (300..400).contains(status)) {
        m.fault("status", "holds a redirect, which is never believed; name 200 to 299 or 400 to 599");
        return None;
    }
    let statuses: Vec<u16> = statuses.into_iter().filter_map(|status| u16::try_from(status).ok()).collect();
    let words = words.filter(|_| is_compiled)?;
    let pattern = Pattern::new(&words, &statuses, outcome.unwrap_or(Outcome::ClientError));
    let pattern = pattern.map_err(|why| m.fault("match", why)).ok()?;
    outcome.map(|_| pattern)
}

fn compile(words: &str) -> Result<Regex, String> {
    if words.len() > MATCH_MAX {
        return Err(format!("is longer than {MATCH_MAX} bytes; make several patterns of it"));
    }
    RegexBuilder::new(words)
        .case_insensitive(true)
        .multi_line(true)
        .size_limit(COMPILED_MAX)
        .dfa_size_limit(CACHE_MAX)
        .nest_limit(NEST_MAX)
        .build()
        .map_err(|fault| match fault {
            regex::Error::CompiledTooBig(_) => {
                "is too large when compiled; use fewer or smaller counts such as {1,100}".to_owned()
            }
            // The text repeats the pattern and draws an arrow below it; its last line says what is
            // wrong.
            fault => {
                let text = fault.to_string();
                let why = text.lines().last().unwrap_or_default().trim();
                let why = why.strip_prefix("error: ").unwrap_or(why);
                format!("is not a regular expression: {why}; put \\ before a sign that means itself")
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_cannot_be_used_says_why_and_what_to_do() {
        let long = "a".repeat(MATCH_MAX + 1);
        let deep = format!("{}a{}", "(".repeat(40), ")".repeat(40));
        for (words, why) in [
            ("(pool", "is not a regular expression: unclosed group"),
            ("pool)", "unopened group"),
            ("*", "repetition operator missing expression"),
            ("a(?=b)", "look-around"),
            (r"(a)\1", "backreferences are not supported"),
            ("[z-a]", "invalid character class range"),
            (r"\p{Nobody}", "Unicode property not found"),
            (&long, "longer than 512 bytes"),
            (r"\w{1,500}", "too large when compiled"),
            (&deep, "nest"),
            (".*", "fits every text"),
            ("quota|", "fits every text"),
        ] {
            let got = Pattern::new(words, &[], Outcome::Quota).unwrap_err();
            assert!(got.contains(why), "{words}: {got}");
            assert!(!got.contains('\n') && !got.ends_with('.'), "{words}: {got}");
        }
    }

    #[test]
    fn a_pattern_fits_in_either_case_and_only_under_its_statuses() {
        for (words, statuses, answered, text, want) in [
            ("pool (is )?drained", &[][..], &[403][..], "The POOL is Drained.", true),
            ("pool (is )?drained", &[403], &[403], "the pool drained", true),
            ("pool (is )?drained", &[403, 200], &[500], "the pool drained", false),
            ("pool (is )?drained", &[403], &[200, 403], "the pool drained", true),
            ("^pool$", &[], &[200], "the pool", false),
            ("^pool$", &[], &[200], "code\npool\n", true),
            ("straße", &[], &[200], "STRASSE STRAßE", true),
            (".*", &[418], &[418], "", true),
        ] {
            let pattern = Pattern::new(words, statuses, Outcome::Quota).unwrap();
            assert_eq!(pattern.fits(answered, text), want, "{words} {statuses:?} {answered:?} {text}");
        }
    }

    #[test]
    fn no_text_makes_a_pattern_run_away() {
        let text = "a".repeat(64 * 1024);
        let pattern = Pattern::new("(a+)+b|(a*)*c|a{1,200}d", &[], Outcome::Quota).unwrap();
        assert!(!pattern.fits(&[500], &text));
    }
}
