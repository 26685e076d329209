//! Where do results of tools stand where each is a message of its own?
//!
//! In chat completions and the dialects like them all results stand directly behind the message that
//! calls, and a result is text: servers refuse a conversation with anything between a call and its
//! result. So media in a result, and what the user says beside it, wait until the last of the
//! neighbouring turns with results has been said, and are a message of the user's behind it. Clients of
//! responses bring each result of parallel calls as a turn, those of Anthropic all of them as one.

use super::form::{Content, Part, Role, ToolResult, Turn};

/// A message as such a dialect has it.
pub(super) enum Message<'a> {
    /// A result, and its words.
    Result(&'a ToolResult, Vec<&'a Part>),
    /// What else is said in a turn, and in turns of results before it.
    Said(&'a Turn, Vec<&'a Part>),
}

/// Returns the messages of a conversation.
pub(super) fn apart(turns: &[Turn]) -> Vec<Message<'_>> {
    let mut messages = Vec::with_capacity(turns.len());
    let mut held: Option<(&Turn, Vec<&Part>)> = None;
    for turn in turns {
        let mut said: Vec<&Part> = Vec::new();
        let mut moved: Vec<&Part> = Vec::new();
        let mut has_results = false;
        for part in &turn.parts {
            match &part.content {
                Content::ToolResult(result) if takes_results(turn.role) => {
                    has_results = true;
                    let is_text = |part: &&Part| matches!(part.content, Content::Text(_));
                    let (texts, others): (Vec<&Part>, Vec<&Part>) = result.parts.iter().partition(is_text);
                    moved.extend(others);
                    messages.push(Message::Result(result, texts));
                }
                _ => said.push(part),
            }
        }
        if has_results {
            let (last, parts) = held.get_or_insert_with(|| (turn, Vec::new()));
            *last = turn;
            parts.extend(moved.into_iter().chain(said));
        } else {
            release(&mut held, &mut messages);
            messages.push(Message::Said(turn, said));
        }
    }
    release(&mut held, &mut messages);
    messages
}

fn takes_results(role: Role) -> bool {
    match role {
        Role::User | Role::Tool => true,
        Role::System | Role::Developer | Role::Assistant => false,
    }
}

fn release<'a>(held: &mut Option<(&'a Turn, Vec<&'a Part>)>, messages: &mut Vec<Message<'a>>) {
    if let Some((turn, parts)) = held.take().filter(|(_, parts)| !parts.is_empty()) {
        messages.push(Message::Said(turn, parts));
    }
}

#[cfg(test)]
mod tests {
    use super::super::form::Source;
    use super::*;

    fn result(id: &str, parts: Vec<Part>) -> Part {
        let id = id.to_owned();
        Part::of(Content::ToolResult(ToolResult { id, name: None, parts, is_error: false }))
    }

    fn picture(url: &str) -> Part {
        let source = Source::Url { url: url.to_owned(), media_type: None };
        Part::of(Content::Image { source, detail: None })
    }

    /// Writes the messages: `a(words)` a result, and in `<>` what else is said.
    fn told(turns: &[Turn]) -> String {
        let word = |part: &&Part| match &part.content {
            Content::Text(text) | Content::Image { source: Source::Url { url: text, .. }, .. } => {
                text.clone()
            }
            other => format!("{other:?}"),
        };
        let words = |parts: &[&Part]| parts.iter().map(word).collect::<String>();
        let messages = apart(turns).into_iter().map(|message| match message {
            Message::Result(result, texts) => format!("{}({})", result.id, words(&texts)),
            Message::Said(_, parts) => format!("<{}>", words(&parts)),
        });
        messages.collect()
    }

    #[test]
    fn nothing_stands_between_results_and_what_came_with_them_comes_behind_the_last() {
        let tool = |part| Turn::new(Role::Tool, vec![part]);
        let user = |parts| Turn::new(Role::User, parts);
        let model = Turn::new(Role::Assistant, vec![Part::text("c")]);
        let pictured = |id: &str, url: &str| result(id, vec![Part::text("w"), picture(url)]);
        for (turns, want) in [
            (vec![tool(pictured("a", "1")), tool(result("b", vec![Part::text("x")]))], "a(w)b(x)<1>"),
            (vec![tool(pictured("a", "1")), tool(pictured("b", "2")), model.clone()], "a(w)b(w)<12><c>"),
            (vec![tool(pictured("a", "1")), user(vec![Part::text("u")])], "a(w)<1><u>"),
            (
                vec![user(vec![pictured("a", "1"), Part::text("u")]), tool(result("b", Vec::new()))],
                "a(w)b()<1u>",
            ),
            (vec![tool(pictured("a", "1")), model.clone(), tool(pictured("b", "2"))], "a(w)<1><c>b(w)<2>"),
            (vec![tool(result("a", Vec::new())), model], "a()<c>"),
            (vec![user(Vec::new())], "<>"),
        ] {
            assert_eq!(told(&turns), want, "{turns:?}");
        }
    }
}
