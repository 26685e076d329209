//! From text to a tree, with nothing in it that YAML could surprise us with.
//!
//! `serde_yaml` reads the text into its `Value`, which refuses duplicate keys; its error texts can
//! repeat a scalar and are never shown. Before that, three bounds that it does not keep itself:
//!
//! * at most 1 MiB;
//! * at most 32 levels: deep nesting makes libyaml quadratic (100,000 brackets took seconds), so
//!   brackets are counted before it sees them;
//! * no anchors and aliases: a short text can unfold to gigabytes below the limit that serde_yaml
//!   has. They need both `&` and `*`, which few files have, so that the second parser runs rarely.
//!
//! When serde_yaml refuses, the events of `saphyr-parser` say where: every duplicate key with its
//! path and line, a second document, or the line of the fault in the syntax.

use super::fault::{Fault, Severity};
use super::lines::{Oddity, survey};
use super::path::KeyPath;
use serde_yaml::Value;

/// 1 MiB: some thousand providers with all their models.
pub const TEXT_MAX: usize = 1 << 20;
/// The deepest path of a real file has 7 levels; JSON values in `defaults` may have more.
const DEPTH_MAX: usize = 32;

/// Reads the text.
///
/// # Errors
/// Returns what keeps it from being read, with lines where they are known.
pub fn load(text: &str) -> Result<Value, Vec<Fault>> {
    if text.len() > TEXT_MAX {
        return Err(vec![fault(None, "is larger than 1 MiB")]);
    }
    if let Some(line) = too_deep(text) {
        return Err(vec![fault(Some(line), "is nested more than 32 levels deep")]);
    }
    if text.contains('&') && text.contains('*') {
        let faults: Vec<Fault> = survey(text)
            .oddities
            .into_iter()
            .filter(|oddity| matches!(oddity, Oddity::Anchor { .. } | Oddity::Alias { .. }))
            .map(describe)
            .collect();
        if !faults.is_empty() {
            return Err(faults);
        }
    }
    serde_yaml::from_str(text).map_err(|error| {
        let faults: Vec<Fault> = survey(text).oddities.into_iter().map(describe).collect();
        if !faults.is_empty() {
            return faults;
        }
        // The end of the text may be told as a line behind the last.
        let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
        let line = error.location().map(|place| place.line().min(lines));
        vec![fault(line, "cannot be read as YAML: look for a number that is too large, or a tag (!)")]
    })
}

/// Returns the line where more brackets are open, or more list dashes stand in front of each other,
/// than any real file has. Brackets inside quotes count too: the bound is generous.
fn too_deep(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (index, line) in text.lines().enumerate() {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            if open > DEPTH_MAX {
                return Some(index + 1);
            }
        }
        let lead = line.bytes().take_while(|byte| matches!(byte, b'-' | b'?' | b':' | b' '));
        let is_ornament = line.bytes().all(|byte| byte == b'-');
        if !is_ornament && lead.filter(|byte| *byte != b' ').count() > DEPTH_MAX {
            return Some(index + 1);
        }
    }
    None
}

fn describe(oddity: Oddity) -> Fault {
    match oddity {
        Oddity::Duplicate { at, line, first } => Fault {
            severity: Severity::Error,
            at,
            line: Some(line),
            message: format!("is given twice; the first is on line {first}"),
        },
        Oddity::Anchor { line } | Oddity::Alias { line } => fault(
            Some(line),
            "holds an anchor or alias (& or *), which are not taken; write the value out or put it in quotes",
        ),
        Oddity::SecondDocument { line } => {
            fault(Some(line), "starts a second document (---); one file holds one")
        }
        Oddity::TooDeep { line } => fault(Some(line), "is nested more than 32 levels deep"),
        Oddity::Syntax { line, column } => fault(
            Some(line),
            format!(
                "cannot be read as YAML at column {column}: look for a tab, an unclosed quote or bracket, or a missing blank after a colon"
            ),
        ),
    }
}

fn fault(line: Option<usize>, message: impl Into<String>) -> Fault {
    Fault { severity: Severity::Error, at: KeyPath::root(), line, message: message.into() }
}
