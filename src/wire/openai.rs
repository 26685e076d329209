//! Events of OpenAI chat completions and legacy completions, and of the many servers like them.
//!
//! Content is a delta with text, reasoning (under any of its names), a tool call that has a name
//! or arguments, a refusal, audio or an image; in legacy completions `choices[].text`. A role, an
//! empty string, `choices: []` (usage chunks; Azure's first chunk) are not. `content` may be an
//! array (Mistral) or an object (Cloudflare's JSON mode): it counts when it is not empty.
//! Perplexity and some others send a `message` beside or instead of `delta`.

use super::json::{Broken, Scan};
use super::template::{Span, says_text};
use super::{Progress, usage};

/// Reads one event's data.
pub(super) fn read(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"error" => progress.fault |= scan.says_something()?,
            // vLLM's and Mistral's flat error object.
            b"object" => progress.fault |= scan.text()?.is_some_and(|t| t.bytes().as_ref() == b"error"),
            b"usage" => progress.usage.replace_by(usage::read(scan)?),
            b"choices" => {
                scan.items(|scan| choice(scan, progress))?;
            }
            b"x_groq" => x_groq(scan, progress)?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads Groq's own member: usage that nobody asked for, and why a stream was stopped early.
fn x_groq(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"usage" => progress.usage.replace_by(usage::read(scan)?),
            b"error" => progress.fault |= scan.says_something()?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads one item of `choices`.
pub(super) fn choice(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    let mut index = 0;
    let mut reason = None;
    let is_object = scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"index" => index = scan.count()?.unwrap_or(0),
            b"finish_reason" => reason = scan.text()?,
            b"delta" | b"message" => progress.content |= has_content(scan, &mut progress.text)?,
            b"text" => progress.content |= says_text(scan, &mut progress.text)?,
            // Moonshot's streams have it here, also where nobody asked for it.
            b"usage" => progress.usage.replace_by(usage::read(scan)?),
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

fn has_content(scan: &mut Scan<'_>, text: &mut Option<Span>) -> Result<bool, Broken> {
    let mut content = false;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"content" | b"reasoning_content" | b"reasoning" => content |= says_text(scan, text)?,
            b"reasoning_text" | b"reasoning_details" | b"thinking" | b"refusal" | b"audio" | b"images"
            | b"annotations" | b"citations" => {
                content |= scan.says_something()?;
            }
            b"tool_calls" => {
                scan.items(|scan| {
                    content |= tool_call(scan)?;
                    Ok::<(), Broken>(())
                })?;
            }
            b"function_call" => content |= named_or_filled(scan)?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(content)
}

/// Tells whether this member of a delta holds thoughts.
pub(super) fn is_thought(name: &[u8]) -> bool {
    matches!(
        name,
        b"reasoning_content" | b"reasoning" | b"reasoning_text" | b"reasoning_details" | b"thinking"
    )
}

fn tool_call(scan: &mut Scan<'_>) -> Result<bool, Broken> {
    let mut content = false;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"function" | b"custom" => content |= named_or_filled(scan)?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(content)
}

fn named_or_filled(scan: &mut Scan<'_>) -> Result<bool, Broken> {
    let mut content = false;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"name" | b"arguments" | b"input" => content |= scan.says_something()?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(content)
}
