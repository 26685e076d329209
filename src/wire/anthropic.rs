//! Events of Anthropic messages.
//!
//! `message_start`, `ping` and a `content_block_start` of empty text or thinking are lifecycle; a
//! block of any other type (a tool call has its name there) and every non-empty delta is content.
//! The answer is complete with `message_stop`, or with the `stop_reason` in `message_delta` (a
//! finish reason without the last event is complete, failure table row 26). Input is counted in
//! `message_start`, output in `message_delta`. The output of `message_start`, usually 1, is a beginning:
//! taken for the whole, a stream that broke would cost next to nothing (Anthropic docs, streaming, read
//! 2026-11).

use super::Progress;
use super::json::{Broken, Scan, Text};
use super::template::says_text;
use super::usage::{self, Usage};

/// Reads one event's data.
pub(super) fn read(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    let mut kind = None;
    // The members may come in any order, so what they say is weighed when the type is known.
    let mut filled = false;
    let mut stopped = None;
    let mut counted = Usage::default();
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"type" => kind = scan.text()?,
            b"error" => progress.fault |= scan.says_something()?,
            b"usage" => counted.replace_by(usage::read(scan)?),
            b"message" => {
                scan.members::<Broken>(|scan, key| {
                    if key.bytes().as_ref() == b"usage" {
                        counted.replace_by(usage::read(scan)?);
                    } else {
                        scan.skip()?;
                    }
                    Ok(())
                })?;
            }
            b"content_block" => filled |= block_has_content(scan)?,
            b"delta" => {
                scan.members::<Broken>(|scan, key| {
                    match key.bytes().as_ref() {
                        b"stop_reason" => stopped = scan.text()?,
                        b"type" | b"stop_sequence" | b"stop_details" | b"container" => {
                            scan.skip()?;
                        }
                        _ => filled |= says_text(scan, &mut progress.text)?,
                    }
                    Ok(())
                })?;
            }
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    let kind = kind.as_ref().map(Text::bytes);
    if kind.as_deref() == Some(b"message_start") {
        counted.output = None;
    }
    progress.usage.replace_by(counted);
    match kind.as_deref() {
        Some(b"error") => progress.fault = true,
        Some(b"message_stop") => progress.ended = true,
        Some(b"message_delta") => progress.note_choice(0, stopped.as_ref()),
        Some(b"content_block_start" | b"content_block_delta") => progress.content |= filled,
        _ => {}
    }
    Ok(())
}

fn block_has_content(scan: &mut Scan<'_>) -> Result<bool, Broken> {
    let mut opens_empty = false;
    let mut filled = false;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"type" => {
                let kind = scan.text()?;
                opens_empty = kind.is_some_and(|k| matches!(k.bytes().as_ref(), b"text" | b"thinking"));
            }
            b"text" | b"thinking" | b"citations" => filled |= scan.says_something()?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(filled || !opens_empty)
}
