//! Which names do functions get?
//!
//! Google takes dots, colons and more in a name; all others take letters, digits, `_` and `-`, at most
//! 64. A name that does not fit is rewritten wherever it stands in the request, and written back in
//! the answer: what does not fit becomes `_`, and a hash of the whole keeps it from meeting
//! another. Names that fit stay as they are, and a request with none other is not touched.

use super::form::{Content, Request, Tool, ToolChoice, ToolResult};
use super::ids;
use crate::base::api::Dialect;
use std::collections::HashMap;

/// Longest name that every dialect takes.
const LENGTH_MAX: usize = 64;

/// Names of the client's by those that a target knows.
pub(super) type Names = HashMap<String, String>;

/// Returns the request with names that the dialect takes; nothing where it takes them all.
pub(super) fn fitted(request: &Request, to: Dialect) -> Option<(Request, Names)> {
    if to == Dialect::GeminiGenerate || fits_all(request) {
        return None;
    }
    let (mut request, mut names) = (request.clone(), Names::new());
    let mut fit = |name: &mut String| {
        let own = name.clone();
        if rewrite(name) {
            names.insert(name.clone(), own);
        }
    };
    for tool in &mut request.tools {
        if let Tool::Function(function) = tool {
            fit(&mut function.name);
        }
    }
    if let Some(ToolChoice::Named(name)) = &mut request.tool_choice {
        fit(name);
    }
    for part in request.turns.iter_mut().flat_map(|turn| turn.parts.iter_mut()) {
        match &mut part.content {
            Content::ToolUse(call) => fit(&mut call.name),
            Content::ToolResult(ToolResult { name: Some(name), .. }) => fit(name),
            _ => {}
        }
    }
    Some((request, names))
}

/// Tells whether every name fits. A call of an earlier turn may be of a tool that is offered no more.
fn fits_all(request: &Request) -> bool {
    let are_offered = request.tools.iter().all(|tool| match tool {
        Tool::Function(function) => fits(&function.name),
        Tool::Server { .. } => true,
    });
    let is_chosen = match &request.tool_choice {
        Some(ToolChoice::Named(name)) => fits(name),
        Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Required) | None => true,
    };
    let mut parts = request.turns.iter().flat_map(|turn| &turn.parts);
    let are_called = parts.all(|part| match &part.content {
        Content::ToolUse(call) => fits(&call.name),
        Content::ToolResult(result) => result.name.as_deref().is_none_or(fits),
        _ => true,
    });
    are_offered && is_chosen && are_called
}

/// Writes the client's name in the place of the target's.
pub(super) fn restore(name: &mut String, names: &Names) {
    if let Some(own) = names.get(name) {
        name.clone_from(own);
    }
}

fn is_good(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn fits(name: &str) -> bool {
    name.len() <= LENGTH_MAX && name.chars().all(is_good)
}

/// Makes a name fit; tells whether it did not.
fn rewrite(name: &mut String) -> bool {
    if fits(name) {
        return false;
    }
    let hash = ids::of_nine(name).into_owned();
    let good: String = name.chars().map(|c| if is_good(c) { c } else { '_' }).collect();
    let head = good.get(..LENGTH_MAX - hash.len() - 1).unwrap_or(&good);
    *name = format!("{head}_{hash}");
    true
}

#[cfg(test)]
mod tests {
    use super::super::form::{Part, Role, ToolUse, Turn};
    use super::*;

    #[test]
    fn a_name_that_only_the_history_has_is_rewritten_like_the_others() {
        let call = |name: &str| {
            let (id, name) = ("a".to_owned(), name.to_owned());
            Part::of(Content::ToolUse(ToolUse { id, name, arguments: String::new(), seal: None }))
        };
        let of = |parts| Request { turns: vec![Turn::new(Role::Assistant, parts)], ..Request::default() };
        assert!(fitted(&of(vec![call("plain")]), Dialect::OpenAiChat).is_none());
        let gone = of(vec![call("files.read"), call("plain")]);
        let (request, names) = fitted(&gone, Dialect::AnthropicMessages).unwrap();
        let called = request.called_names();
        assert_eq!(called.get("a"), Some(&"plain"));
        let Content::ToolUse(first) = &request.turns[0].parts[0].content else { panic!("{request:?}") };
        assert!(fits(&first.name) && names[&first.name] == "files.read", "{names:?}");
        assert!(fitted(&gone, Dialect::GeminiGenerate).is_none());
        let choice = Some(ToolChoice::Named("a.b".to_owned()));
        assert!(
            fitted(&Request { tool_choice: choice, ..Request::default() }, Dialect::OpenAiChat).is_some()
        );
    }

    #[test]
    fn names_that_do_not_fit_do_afterwards_and_stay_apart() {
        let long = "x".repeat(80);
        let mut seen = Names::new();
        for own in ["a.b", "a:b", "a_b", "\u{e9}", &long] {
            let mut name = own.to_owned();
            assert_eq!(rewrite(&mut name), own != "a_b", "{own}");
            assert!(fits(&name), "{name}");
            assert!(!rewrite(&mut name), "twice is once");
            assert_eq!(seen.insert(name, own.to_owned()), None, "{own} meets another");
        }
        for (name, own) in &seen {
            let mut back = name.clone();
            restore(&mut back, &seen);
            assert_eq!(back, *own);
        }
    }
}
