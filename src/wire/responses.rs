//! Events of OpenAI responses.
//!
//! Lifecycle: `response.created`, `queued`, `in_progress`, `output_item.added`,
//! `content_part.added`, `reasoning_summary_part.added`, and whatever does not begin with
//! `response.` (keep-alives, rate limits). Content: every `.delta` that is not empty, known or not;
//! every `.done`; annotations and partial images; the progress of tools that run at the provider
//! (`response.web_search_call.searching`), because they act. `response.completed` and
//! `response.incomplete` end the answer and hold the usage; `error` and `response.failed` are
//! faults.

use super::Progress;
use super::json::{Broken, Scan, Text};
use super::usage::{self, Usage};

/// Reads one event's data.
pub(super) fn read(scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
    let mut kind: Option<Text<'_>> = None;
    let mut delta_is_empty = false;
    let mut counted = Usage::default();
    let mut failed = false;
    let mut reason = None;
    let mut number = None;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"sequence_number" => number = scan.count()?,
            b"type" => kind = scan.text()?,
            b"delta" => delta_is_empty = !scan.says_something()?,
            b"error" => failed |= scan.says_something()?,
            b"response" => (counted, reason) = response(scan)?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    progress.usage.replace_by(counted);
    progress.fault |= failed;
    if let Some(kind) = kind {
        note(&kind.bytes(), delta_is_empty, progress);
        progress.filtered |= reason.is_some_and(|reason| is_filter(&reason));
    }
    if !progress.fault {
        // A fault goes no further, and something else gets its number.
        progress.next_number = number.map(|number| number.saturating_add(1)).or(progress.next_number);
    }
    Ok(())
}

/// Notes what an event of this type means.
pub(super) fn note(kind: &[u8], delta_is_empty: bool, progress: &mut Progress) {
    match kind {
        b"error" | b"response.failed" => progress.fault = true,
        b"response.completed" | b"response.incomplete" | b"response.done" => progress.ended = true,
        b"response.created" | b"response.queued" | b"response.in_progress" => {}
        _ if kind.ends_with(b".delta") => progress.content |= !delta_is_empty,
        _ if !kind.starts_with(b"response.") || kind.ends_with(b".added") => {
            progress.content |= kind == b"response.output_text.annotation.added";
        }
        _ => progress.content = true,
    }
}

/// Reads the usage and the reason of incompleteness of the response object under the cursor.
fn response<'a>(scan: &mut Scan<'a>) -> Result<(Usage, Option<Text<'a>>), Broken> {
    let mut counted = Usage::default();
    let mut reason = None;
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"usage" => counted = usage::read(scan)?,
            b"incomplete_details" => reason = incompleteness(scan)?,
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    Ok((counted, reason))
}

/// Reads `incomplete_details` under the cursor: whether a content filter is why.
pub(super) fn is_filtered(scan: &mut Scan<'_>) -> Result<bool, Broken> {
    Ok(incompleteness(scan)?.is_some_and(|reason| is_filter(&reason)))
}

fn is_filter(reason: &Text<'_>) -> bool {
    reason.bytes().as_ref() == b"content_filter"
}

fn incompleteness<'a>(scan: &mut Scan<'a>) -> Result<Option<Text<'a>>, Broken> {
    let mut reason = None;
    scan.members::<Broken>(|scan, key| {
        if key.bytes().as_ref() == b"reason" {
            reason = scan.text()?;
        } else {
            scan.skip()?;
        }
        Ok(())
    })?;
    Ok(reason)
}
