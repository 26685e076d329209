//! Reads the events of OpenAI responses as a client is told them.
//!
//! Text comes in `response.output_text.delta`, inside one part of one message. Any other item
//! (reasoning, a call of a function or of a tool at the provider), any other part (a refusal) and
//! any annotation bars. The text ends in three events, each of which says it whole ([`Closing`]): where
//! they come otherwise, or say another text than was told before, nobody can go on from it.
//! What does not begin with `response.` (keep-alives) says nothing. Source: OpenAI API reference,
//! "Streaming events".

use super::reading::{Bar, Closing, Item, Reading};
use crate::wire::json::{Broken, Scan, Text};

/// The members of an event that matter, in whatever order they came.
#[derive(Default)]
struct Event<'a> {
    kind: Option<Text<'a>>,
    number: Option<u64>,
    item_id: Option<Text<'a>>,
    output_index: Option<u64>,
    content_index: Option<u64>,
    delta: Option<Text<'a>>,
    text: Option<Text<'a>>,
    /// Of the `item`, `part` or `response` inside.
    inner: Inner<'a>,
}

#[derive(Default)]
struct Inner<'a> {
    kind: Option<Text<'a>>,
    id: Option<Text<'a>>,
    created_at: Option<u64>,
    has_text: bool,
}

/// Reads one event's data.
pub(super) fn read(reading: &mut Reading, scan: &mut Scan<'_>) -> Result<(), Broken> {
    let mut event = Event::default();
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"type" => event.kind = scan.text()?,
            b"sequence_number" => event.number = scan.count()?,
            b"item_id" => event.item_id = scan.text()?,
            b"output_index" => event.output_index = scan.count()?,
            b"content_index" => event.content_index = scan.count()?,
            b"delta" => event.delta = scan.text()?,
            b"text" => event.text = scan.text()?,
            b"item" | b"part" | b"response" => event.inner = inner(scan)?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    note(reading, &event);
    Ok(())
}

fn inner<'a>(scan: &mut Scan<'a>) -> Result<Inner<'a>, Broken> {
    let mut inner = Inner::default();
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"type" => inner.kind = scan.text()?,
            b"id" => inner.id = scan.text()?,
            b"created_at" => inner.created_at = scan.count()?,
            b"text" | b"content" => inner.has_text |= scan.says_something()?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(inner)
}

fn note(reading: &mut Reading, event: &Event<'_>) {
    let Some(kind) = &event.kind else { return };
    if let Some(number) = event.number {
        reading.place.next_number = Some(number.saturating_add(1));
    }
    match kind.bytes().as_ref() {
        b"response.created" | b"response.queued" | b"response.in_progress" => {
            let place = &mut reading.place;
            place.has_begun = true;
            place.created_at = place.created_at.or(event.inner.created_at);
            if place.id.is_none() {
                place.id = owned(event.inner.id.as_ref());
            }
        }
        b"response.output_item.added" => enter_item(reading, event),
        b"response.content_part.added" => enter_part(reading, event),
        b"response.output_text.delta" => {
            let Some(delta) = &event.delta else { return };
            if reading.place.closing > Closing::Open {
                return reading.bar_by(Bar::OtherContent);
            }
            let index = event.output_index.unwrap_or(0);
            reading.place.item.get_or_insert_with(|| Item { id: owned(event.item_id.as_ref()), index });
            reading.place.block.get_or_insert(event.content_index.unwrap_or(0));
            reading.add(delta);
        }
        b"response.output_text.done" => close(reading, event, Closing::Text),
        b"response.content_part.done" => close(reading, event, Closing::Part),
        b"response.output_item.done" => close(reading, event, Closing::Message),
        b"response.completed" | b"response.incomplete" | b"response.done" => reading.bar_by(Bar::Finished),
        other => {
            if let Some(bar) = bar_of(other) {
                reading.bar_by(bar);
            }
        }
    }
}

fn close(reading: &mut Reading, event: &Event<'_>, to: Closing) {
    let place = &mut reading.place;
    let is_of_message = place.item.as_ref().is_some_and(|item| item.index == event.output_index.unwrap_or(0));
    let is_of_part = is_of_message && place.block == Some(event.content_index.unwrap_or(0));
    let is_next = match (place.closing, to) {
        (Closing::Open, Closing::Text) => {
            let text = event.text.as_ref().and_then(Text::whole);
            is_of_part && text.is_some_and(|text| text == reading.text.as_str())
        }
        (Closing::Text, Closing::Part) => is_of_part,
        (Closing::Part, Closing::Message) => is_of_message,
        (Closing::Open | Closing::Text | Closing::Part | Closing::Message, _) => false,
    };
    if is_next {
        place.closing = to;
    } else {
        reading.bar_by(Bar::Finished);
    }
}

fn enter_item(reading: &mut Reading, event: &Event<'_>) {
    let kind = event.inner.kind.as_ref().map(Text::bytes);
    match kind.as_deref() {
        Some(b"message") if reading.place.item.is_none() && !event.inner.has_text => {
            let index = event.output_index.unwrap_or(0);
            reading.place.item = Some(Item { id: owned(event.inner.id.as_ref()), index });
        }
        Some(b"reasoning") => reading.bar_by(Bar::Thinking),
        Some(kind) if kind.ends_with(b"_call") => reading.bar_by(Bar::ToolCall),
        Some(_) | None => reading.bar_by(Bar::OtherContent),
    }
}

fn enter_part(reading: &mut Reading, event: &Event<'_>) {
    let kind = event.inner.kind.as_ref().map(Text::bytes);
    match kind.as_deref() {
        Some(b"output_text") if reading.place.block.is_none() && !event.inner.has_text => {
            reading.place.block = Some(event.content_index.unwrap_or(0));
        }
        Some(b"reasoning_text" | b"summary_text") => reading.bar_by(Bar::Thinking),
        Some(_) | None => reading.bar_by(Bar::OtherContent),
    }
}

fn bar_of(kind: &[u8]) -> Option<Bar> {
    let rest = kind.strip_prefix(b"response.")?;
    if rest.starts_with(b"reasoning") {
        return Some(Bar::Thinking);
    }
    let is_call = rest.split(|byte| *byte == b'.').next().is_some_and(|word| {
        word.ends_with(b"_call") || word.ends_with(b"_arguments") || word.ends_with(b"_call_input")
    });
    Some(if is_call { Bar::ToolCall } else { Bar::OtherContent })
}

fn owned(text: Option<&Text<'_>>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(|text| text.text().into_owned())
}
