//! Does a request for any JSON object say so in words?
//!
//! OpenAI, and servers like it, refuse `json_object` where the word "json" stands nowhere in the
//! messages: a model that is not told writes white space without end. Gemini's clients ask for JSON by a
//! media type alone. Where the word is missing an instruction says it. OpenAI's responses look for it in
//! `input` and not in `instructions`.
//!
//! Source: OpenAI's guide to structured outputs ("JSON mode"), and its 400 "'messages' must contain the
//! word 'json' in some form", read 2026-11.

use super::form::{Content, OutputFormat, Part, Request, Turn};

/// The instruction that is put in.
pub(super) const INSTRUCTION: &str = "Answer with a JSON object.";

/// Returns the instruction where the output is any JSON object and the word stands in none of these
/// turns.
pub(super) fn missing(request: &Request, turns: &[Turn]) -> Option<Part> {
    let says = |part: &Part| match &part.content {
        Content::Text(text) => has_word(text),
        _ => false,
    };
    let is_missing =
        request.output == OutputFormat::JsonObject && !turns.iter().flat_map(|turn| &turn.parts).any(says);
    is_missing.then(|| Part::text(INSTRUCTION))
}

fn has_word(text: &str) -> bool {
    text.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"json"))
}

#[cfg(test)]
mod tests {
    use super::super::form::Role;
    use super::*;

    #[test]
    fn the_word_is_put_in_where_any_object_is_asked_for_and_nobody_says_it() {
        for (text, output, want) in [
            ("list three fruits", OutputFormat::JsonObject, true),
            ("list three fruits as Json", OutputFormat::JsonObject, false),
            ("JSON", OutputFormat::JsonObject, false),
            ("jso n", OutputFormat::JsonObject, true),
            ("", OutputFormat::JsonObject, true),
            ("list three fruits", OutputFormat::Text, false),
        ] {
            let turns = vec![Turn::new(Role::User, vec![Part::text(text)])];
            let request = Request { turns, output, ..Request::default() };
            assert_eq!(missing(&request, &request.turns).is_some(), want, "{text}");
        }
        assert!(has_word(INSTRUCTION));
    }
}
