//! Which call does a result without an id belong to?
//!
//! A call without an id gets one by its place in the conversation (`call_0`, `call_1`, …). A result
//! without one is that of the oldest call of its name that has none yet; a result that no call
//! fits gets its name as id, so that nobody takes it for another's.

use super::super::form::{Content, Turn};

/// Gives ids to calls and results of a conversation that has none.
pub(super) fn tie(turns: &mut [Turn]) {
    let mut waiting: Vec<(String, String)> = Vec::new();
    let mut calls = 0;
    for part in turns.iter_mut().flat_map(|turn| turn.parts.iter_mut()) {
        match &mut part.content {
            Content::ToolUse(call) => {
                if call.id.is_empty() {
                    call.id = format!("call_{calls}");
                }
                calls += 1;
                waiting.push((call.name.clone(), call.id.clone()));
            }
            Content::ToolResult(result) => {
                let name = result.name.clone().unwrap_or_default();
                let is_it = |(called, id): &(String, String)| {
                    if result.id.is_empty() { *called == name } else { *id == result.id }
                };
                let call = waiting.iter().position(is_it).map(|at| waiting.remove(at));
                if result.id.is_empty() {
                    result.id = call.map_or(name, |(_, id)| id);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::form::{Part, Role, ToolResult, ToolUse};
    use super::*;

    #[test]
    fn results_are_tied_to_calls_by_name_and_order() {
        let call = |name: &str, id: &str| {
            let (id, name) = (id.to_owned(), name.to_owned());
            Part::of(Content::ToolUse(ToolUse { id, name, arguments: "{}".to_owned(), seal: None }))
        };
        let result = |name: &str, id: &str| {
            let (id, name) = (id.to_owned(), Some(name.to_owned()));
            Part::of(Content::ToolResult(ToolResult { id, name, parts: Vec::new(), is_error: false }))
        };
        let called = vec![call("f", ""), call("g", "own"), call("f", "")];
        let results = vec![result("f", ""), result("g", ""), result("f", ""), result("h", "")];
        let mut turns = [Turn::new(Role::Assistant, called), Turn::new(Role::User, results)];
        tie(&mut turns);
        let ids: Vec<&str> = turns
            .iter()
            .flat_map(|turn| &turn.parts)
            .map(|part| match &part.content {
                Content::ToolUse(call) => call.id.as_str(),
                Content::ToolResult(result) => result.id.as_str(),
                _ => "",
            })
            .collect();
        assert_eq!(ids, ["call_0", "own", "call_2", "call_0", "own", "call_2", "h"]);
    }
}
