//! Lines of Ollama's chat.
//!
//! Each line is the answer so far to come: `message` with a piece of `content`, `thinking` or whole
//! `tool_calls`; all are content. The last line has `done`, why (`done_reason`) and the counts of
//! tokens. A line with `error` is a fault.

use super::Progress;
use super::json::{Broken, Scan};

/// Reads one line.
pub(super) fn read(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    progress.choices_seen |= 1;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"error" => progress.fault |= scan.says_something()?,
            b"message" => progress.content |= message(scan)?,
            b"done" => progress.ended |= scan.flag()? == Some(true),
            b"prompt_eval_count" => progress.usage.input = scan.count()?.or(progress.usage.input),
            b"eval_count" => progress.usage.output = scan.count()?.or(progress.usage.output),
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn message(scan: &mut Scan<'_>) -> Result<bool, Broken> {
    let mut filled = false;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"content" | b"thinking" | b"tool_calls" | b"images" => filled |= scan.says_something()?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(filled)
}
