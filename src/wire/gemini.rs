//! Events of Gemini generateContent.
//!
//! Each event is a whole response object. Content is a part with text or anything else than a
//! thought signature alone. A candidate is finished with its `finishReason`; a prompt that was
//! blocked (`promptFeedback.blockReason`) has no candidates and ends the answer. There is no
//! `[DONE]`. Usage is cumulative and the last one counts.

use super::json::{Broken, Scan};
use super::{Progress, usage};

/// Reads one event's data.
pub(super) fn read(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"error" => progress.fault |= scan.says_something()?,
            b"usageMetadata" => progress.usage.replace_by(usage::read(scan)?),
            b"promptFeedback" => feedback(scan, progress)?,
            b"candidates" => {
                scan.items(|scan| candidate(scan, progress))?;
            }
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads what is said of the prompt: whether it was blocked.
pub(super) fn feedback(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    scan.members::<Broken>(|scan, key| {
        let says = scan.says_something()?;
        if says && key.bytes().as_ref() == b"blockReason" {
            progress.ended = true;
            progress.filtered = true;
        }
        Ok(())
    })?;
    Ok(())
}

pub(super) fn candidate(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    let mut index = 0;
    let mut reason = None;
    let is_object = scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"index" => index = scan.count()?.unwrap_or(0),
            b"finishReason" => reason = scan.text()?,
            b"content" => {
                scan.members::<Broken>(|scan, key| {
                    if key.bytes().as_ref() == b"parts" {
                        scan.items(|scan| part(scan, progress))?;
                    } else {
                        scan.skip()?;
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
    if is_object {
        progress.note_choice(index, reason.as_ref());
    }
    Ok(())
}

fn part(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    scan.members::<Broken>(|scan, key| {
        let says = scan.says_something()?;
        progress.content |= says && !matches!(key.bytes().as_ref(), b"thought" | b"thoughtSignature");
        Ok(())
    })?;
    Ok(())
}
