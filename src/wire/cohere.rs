//! Events of Cohere chat, version 2.
//!
//! `message-start` and a `content-start` of empty text or thinking are lifecycle; text, thinking,
//! the plan for tools, tool calls and citations are content. `message-end` has the finish reason
//! and the usage and completes the answer; with `ERROR` or `TIMEOUT` it is a fault, as is a flat
//! error (`{"id","message"}`) among the events.

use super::Progress;
use super::json::{Broken, Scan, Text};
use super::usage;

/// Tells whether an answer that ends so has failed.
pub(super) fn is_failure(reason: &Text<'_>) -> bool {
    matches!(reason.bytes().as_ref(), b"ERROR" | b"ERROR_LIMIT" | b"TIMEOUT")
}

/// Reads one event's data.
pub(super) fn read(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    let mut kind = None;
    let (mut filled, mut says_why) = (false, false);
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"type" => kind = scan.text()?,
            b"error" => progress.fault |= scan.says_something()?,
            b"message" => says_why |= scan.text()?.is_some_and(|text| !text.is_empty()),
            b"delta" => filled |= delta(scan, progress)?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    match kind.map(|kind| kind.bytes()).as_deref() {
        Some(b"message-start") => progress.choices_seen |= 1,
        Some(b"message-end") => progress.ended = true,
        Some(_) => progress.content |= filled,
        None => progress.fault |= says_why,
    }
    Ok(())
}

fn delta(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<bool, Broken> {
    let mut filled = false;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"message" => {
                scan.members::<Broken>(|scan, key| {
                    if key.bytes().as_ref() == b"content" {
                        filled |= content(scan)?;
                    } else {
                        let is_said = scan.says_something()?;
                        filled |= is_said && key.bytes().as_ref() != b"role";
                    }
                    Ok(())
                })?;
            }
            b"finish_reason" => {
                let reason = scan.text()?;
                progress.fault |= reason.as_ref().is_some_and(is_failure);
                progress.note_choice(0, reason.as_ref());
            }
            b"error" => progress.fault |= scan.says_something()?,
            b"usage" => progress.usage.replace_by(usage::read(scan)?),
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(filled)
}

/// Tells whether `{"type":"text","text":…}` says something beside its type.
fn content(scan: &mut Scan<'_>) -> Result<bool, Broken> {
    let mut filled = false;
    scan.members::<Broken>(|scan, key| {
        let is_said = scan.says_something()?;
        filled |= is_said && key.bytes().as_ref() != b"type";
        Ok(())
    })?;
    Ok(filled)
}
