//! Reads what Gemini's chunks say to a client.
//!
//! Each is a whole response with some parts of the answer. A part with a text adds to it; a thought,
//! a call of a function or anything else bars going on, as do a second candidate and a reason to
//! finish, which comes with the last text.

use super::reading::{Bar, Reading};
use crate::wire::json::{Broken, Scan};

/// Reads one chunk.
pub(super) fn read(reading: &mut Reading, scan: &mut Scan<'_>) -> Result<(), Broken> {
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"responseId" => {
                let id = scan.text()?;
                if reading.place.id.is_none() {
                    reading.place.id = id.filter(|id| !id.is_empty()).map(|id| id.text().into_owned());
                }
            }
            b"candidates" => {
                scan.items(|scan| candidate(reading, scan))?;
            }
            b"promptFeedback" => reading.bar_if(scan, Bar::OtherContent)?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn candidate(reading: &mut Reading, scan: &mut Scan<'_>) -> Result<(), Broken> {
    let (mut index, mut is_finished) = (0, false);
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"index" => index = scan.count()?.unwrap_or(0),
            b"finishReason" => is_finished = scan.says_something()?,
            b"content" => {
                scan.members::<Broken>(|scan, key| {
                    match key.bytes().as_ref() {
                        b"parts" => {
                            scan.items(|scan| part(reading, scan))?;
                        }
                        b"role" => reading.place.has_begun |= scan.says_something()?,
                        _ => {
                            scan.skip()?;
                        }
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
    if index > 0 {
        reading.bar_by(Bar::SecondChoice);
    }
    if is_finished {
        reading.bar_by(Bar::Finished);
    }
    Ok(())
}

fn part(reading: &mut Reading, scan: &mut Scan<'_>) -> Result<(), Broken> {
    let (mut text, mut is_thought) = (None, false);
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"text" => text = scan.text()?,
            b"thought" => is_thought = scan.flag()? == Some(true),
            b"functionCall" => reading.bar_if(scan, Bar::ToolCall)?,
            b"thoughtSignature" => {
                scan.skip()?;
            }
            _ => reading.bar_if(scan, Bar::OtherContent)?,
        }
        Ok(())
    })?;
    match text {
        Some(_) if is_thought => reading.bar_by(Bar::Thinking),
        Some(text) => reading.add(&text),
        None => {}
    }
    Ok(())
}
