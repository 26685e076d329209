//! Which call does a result without an id belong to?
//!
//! A call without an id gets one by its place in the conversation (`call_0`, `call_1`, …). A result
//! without one is that of the oldest call of its name that has none yet; a result that no call
//! fits gets its name as id, so that nobody takes it for another's.

use super::super::form::{Content, Turn};
use std::collections::{HashMap, VecDeque};

/// Gives ids to calls and results of a conversation that has none.
pub(super) fn tie(turns: &mut [Turn]) {
    let mut waiting = Waiting::default();
    for part in turns.iter_mut().flat_map(|turn| turn.parts.iter_mut()) {
        match &mut part.content {
            Content::ToolUse(call) => {
                if call.id.is_empty() {
                    call.id = format!("call_{}", waiting.calls.len());
                }
                waiting.add(&call.name, &call.id);
            }
            Content::ToolResult(result) => {
                let name = result.name.clone().unwrap_or_default();
                if result.id.is_empty() {
                    result.id = waiting.take_named(&name).unwrap_or(name);
                } else {
                    waiting.take(&result.id);
                }
            }
            _ => {}
        }
    }
}

/// Calls without a result, found by either word: a conversation may have any number of them.
#[derive(Default)]
struct Waiting {
    /// The ids of all calls; nothing in the place of one that has its result.
    calls: Vec<Option<String>>,
    /// Places of calls, the oldest first. Those that have their result are passed over.
    by_name: HashMap<String, VecDeque<usize>>,
    by_id: HashMap<String, VecDeque<usize>>,
}

impl Waiting {
    fn add(&mut self, name: &str, id: &str) {
        let at = self.calls.len();
        self.calls.push(Some(id.to_owned()));
        self.by_name.entry(name.to_owned()).or_default().push_back(at);
        self.by_id.entry(id.to_owned()).or_default().push_back(at);
    }

    fn take_named(&mut self, name: &str) -> Option<String> {
        oldest(self.by_name.get_mut(name)?, &mut self.calls)
    }

    fn take(&mut self, id: &str) {
        let places = self.by_id.get_mut(id);
        places.and_then(|places| oldest(places, &mut self.calls));
    }
}

/// Takes the oldest of some calls that has no result yet.
fn oldest(places: &mut VecDeque<usize>, calls: &mut [Option<String>]) -> Option<String> {
    while let Some(at) = places.pop_front() {
        if let Some(id) = calls.get_mut(at).and_then(Option::take) {
            return Some(id);
        }
    }
    None
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

    /// Held against each other these would take most of an hour.
    #[test]
    fn very_many_calls_and_results_are_tied_without_looking_through_all_of_them() {
        const MANY: usize = 200_000;
        let call = |n: usize| {
            let name = format!("f{n}");
            Part::of(Content::ToolUse(ToolUse {
                id: String::new(),
                name,
                arguments: String::new(),
                seal: None,
            }))
        };
        let result = |n: usize| {
            let (id, name) = (String::new(), Some(format!("f{}", MANY - n)));
            Part::of(Content::ToolResult(ToolResult { id, name, parts: Vec::new(), is_error: false }))
        };
        let (calls, results) = ((0..MANY).map(call).collect(), (0..MANY).map(result).collect());
        let mut turns = [Turn::new(Role::Assistant, calls), Turn::new(Role::User, results)];
        tie(&mut turns);
        let id = |nth: usize| match &turns[1].parts[nth].content {
            Content::ToolResult(result) => result.id.as_str(),
            _ => "",
        };
        assert_eq!((id(0), id(1), id(MANY - 1)), ("f200000", "call_199999", "call_1"));
    }
}
