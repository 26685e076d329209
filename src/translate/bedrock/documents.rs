//! What are documents called, and what stands beside them?
//!
//! Converse wants a name of every document: letters, digits, spaces (one at a time), `-()[]`, at most
//! 200, and no name twice in a conversation, letters of either case being the same ("Messages can't
//! contain duplicate document names"). A name that was taken gets a number. A message with a document
//! must have a text as well.
//!
//! Source: Amazon's reference of `DocumentBlock` and `ContentBlock`, read 2026-11; what it answers is in
//! BerriAI/litellm#30093 and maximhq/bifrost#7003.

use super::super::form::{Content, Part, Source};
use std::collections::{HashMap, HashSet};

/// Longest name.
const LENGTH_MAX: usize = 200;
/// What a number behind a name may take.
const NUMBER_MAX: usize = 10;

/// What a document without a name is called.
const UNNAMED: &str = "document";

/// The names of a conversation.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// In small letters.
    taken: HashSet<String>,
    /// The last number that a name got: counting on from it, no name is ever looked for from the start.
    numbers: HashMap<String, usize>,
}

impl Names {
    /// Returns the name of the next document.
    pub(super) fn name(&mut self, asked: Option<&str>) -> String {
        let name = fitted(asked);
        if self.taken.insert(name.to_ascii_lowercase()) {
            return name;
        }
        let stem = name.get(..LENGTH_MAX - NUMBER_MAX).unwrap_or(&name).trim_end();
        let number = self.numbers.entry(stem.to_ascii_lowercase()).or_insert(1);
        loop {
            *number += 1;
            let name = format!("{stem} {number}");
            if self.taken.insert(name.to_ascii_lowercase()) {
                return name;
            }
        }
    }
}

/// Returns the text to stand beside the documents of a message that has some and no text: what the
/// first is called.
pub(super) fn text_beside(parts: &[&Part]) -> Option<String> {
    let has_text = parts.iter().any(|part| match &part.content {
        Content::Text(_) | Content::Refusal(_) => true,
        Content::Document { source, .. } => is_words(source),
        _ => false,
    });
    if has_text {
        return None;
    }
    parts.iter().find_map(|part| match &part.content {
        Content::Document { source, name } if !is_words(source) => Some(fitted(name.as_deref())),
        _ => None,
    })
}

/// Tells whether a document is said in words and not as one.
fn is_words(source: &Source) -> bool {
    matches!(source, Source::Text(_))
}

/// Returns a name that fits, whoever has it.
fn fitted(name: Option<&str>) -> String {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']');
    let name: String = name.unwrap_or_default().chars().map(|c| if is_good(c) { c } else { ' ' }).collect();
    let words: Vec<&str> = name.split_ascii_whitespace().collect();
    let name: String = words.join(" ").chars().take(LENGTH_MAX).collect();
    if name.is_empty() { UNNAMED.to_owned() } else { name.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_comes_twice_and_every_name_fits() {
        let mut names = Names::default();
        let long = "x".repeat(300);
        for (asked, want) in [
            (None, "document"),
            (Some("a_b.pdf"), "a b pdf"),
            (None, "document 2"),
            (Some("A  b.PDF"), "A b PDF 2"),
            (Some("document 3"), "document 3"),
            (Some("\u{e9}"), "document 4"),
            (Some(&long), &"x".repeat(200)),
            (Some(&long), &format!("{} 2", "x".repeat(190))),
        ] {
            assert_eq!(names.name(asked), want, "{asked:?}");
        }
    }

    /// Looked for from the start each of these names would take minutes.
    #[test]
    fn very_many_documents_of_one_name_are_counted_on() {
        let mut names = Names::default();
        let last = (0..200_000).map(|_| names.name(None)).last();
        assert_eq!(last.as_deref(), Some("document 200000"));
    }
}
