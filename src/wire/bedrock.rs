//! Events of Bedrock's converse-stream.
//!
//! The name of an event stands in its frame, not in its JSON. `messageStart` and an opened block
//! of text are lifecycle; the start of a tool call and every delta that says something are
//! content. `messageStop` has the stop reason and completes the answer; `metadata` with the usage
//! comes after it, last. `p` is padding of random length.

use super::Progress;
use super::json::{Broken, Scan};
use super::usage;

/// Reads the payload of one event.
pub(super) fn read(name: &[u8], scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    let mut filled = false;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"error" => progress.fault |= scan.says_something()?,
            b"start" => filled |= scan.says_something()?,
            b"delta" => filled |= delta(scan)?,
            b"stopReason" if name == b"messageStop" => {
                let reason = scan.text()?;
                progress.note_choice(0, reason.as_ref());
            }
            b"usage" if name == b"metadata" => progress.usage.replace_by(usage::read(scan)?),
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    match name {
        b"messageStart" => progress.choices_seen |= 1,
        b"contentBlockStart" | b"contentBlockDelta" => progress.content |= filled,
        b"metadata" => progress.ended = progress.choices_finished != 0,
        _ => {}
    }
    Ok(())
}

/// Tells whether a delta says something: a text, or an object with one (`toolUse`,
/// `reasoningContent`).
fn delta(scan: &mut Scan<'_>) -> Result<bool, Broken> {
    let mut filled = false;
    scan.members::<Broken>(|scan, _| {
        if scan.peek() == Some(b'{') {
            scan.members::<Broken>(|scan, _| {
                filled |= scan.says_something()?;
                Ok(())
            })?;
        } else {
            filled |= scan.says_something()?;
        }
        Ok(())
    })?;
    Ok(filled)
}
