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
//! path and line, a second document, or the line of the fault in the syntax. Control characters and
//! numbers beyond all ranges are put aside for that, so that they hide no other fault.

use super::fault::{Fault, Severity};
use super::lines::{Oddity, Survey, survey};
use super::path::KeyPath;
use serde_yaml::Value;

/// 1 MiB: some thousand providers with all their models.
pub const TEXT_MAX: usize = 1 << 20;
/// The deepest path of a real file has 7 levels; JSON values in `defaults` may have more.
const DEPTH_MAX: usize = 32;
/// Most faults of this kind that are told of one text; a binary file has thousands.
const FAULTS_MAX: usize = 20;

/// A text that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it holds.
    pub tree: Value,
    /// What had to be put aside to read it; where there is any, the tree is only good to find more.
    pub faults: Vec<Fault>,
}

/// Reads the text.
///
/// # Errors
/// Returns what keeps it from being read, with lines where they are known.
pub fn load(text: &str) -> Result<Loaded, Vec<Fault>> {
    let text = behind_mark(text);
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
    let error = match serde_yaml::from_str(text) {
        Ok(tree) => return Ok(Loaded { tree, faults: Vec::new() }),
        Err(error) => error,
    };
    for stand_ins in [Wrong::Characters, Wrong::CharactersAndNumbers] {
        let mended = mend(text, stand_ins);
        let survey = survey(&mended.text);
        let read = serde_yaml::from_str(&mended.text);
        let faults = mended.faults(&survey);
        if let Ok(tree) = read {
            return Ok(Loaded { tree, faults });
        }
        let odd: Vec<Fault> = survey.oddities.into_iter().map(describe).collect();
        if !odd.is_empty() {
            return Err(faults.into_iter().chain(odd).collect());
        }
    }
    // The end of the text may be told as a line behind the last.
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    let line = error.location().map(|place| place.line().min(lines));
    Err(vec![fault(line, "cannot be read as YAML: look for a number that is too large, or a tag (!)")])
}

/// Returns a text without the mark that some editors put in front of UTF-8 (U+FEFF), which is no part
/// of the first key.
pub(super) fn behind_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// What stand-ins are put in the place of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Characters that no YAML takes.
    Characters,
    /// These, and whole numbers that no parser holds.
    CharactersAndNumbers,
}

/// A text with stand-ins of the same length for what YAML does not take.
struct Mended {
    text: String,
    /// Where each stands, by its number among the characters and by line, and what it is.
    found: Vec<(usize, usize, String)>,
}

impl Mended {
    fn faults(&self, survey: &Survey) -> Vec<Fault> {
        let describe = |(at, line, message): &(usize, usize, String)| Fault {
            severity: Severity::Error,
            at: survey.holder(*at).cloned().unwrap_or_else(KeyPath::root),
            line: Some(*line),
            message: message.clone(),
        };
        self.found.iter().map(describe).collect()
    }
}

/// Puts something harmless in the place of what would hide where it stands, and every other fault of the
/// file.
fn mend(text: &str, wrong: Wrong) -> Mended {
    let mut mended: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut tell = |at: usize, line: usize, message: String| {
        if found.len() < FAULTS_MAX {
            found.push((at, line, message));
        }
    };
    let is_edge = |c: Option<&char>| c.is_none_or(|c| c.is_whitespace() || "[]{},:".contains(*c));
    let (mut begins, mut line) = (None, 1);
    for at in 0..=mended.len() {
        match mended.get(at).copied() {
            Some(c) if is_unreadable(c) => {
                tell(at, line, format!("holds the control character U+{:04X}; take it out", u32::from(c)));
                mended[at] = char::REPLACEMENT_CHARACTER;
            }
            Some('0'..='9') if wrong == Wrong::CharactersAndNumbers => {
                begins.get_or_insert(at);
                continue;
            }
            Some(_) | None => {}
        }
        if let Some(first) = begins.take() {
            let sign = first.checked_sub(1).filter(|at| matches!(mended[*at], '-' | '+'));
            let before = sign.unwrap_or(first).checked_sub(1).and_then(|at| mended.get(at));
            let digits: String = mended[first..at].iter().collect();
            let is_held = digits.parse::<u64>().is_ok() && (sign.is_none() || digits.parse::<i64>().is_ok());
            if !is_held && is_edge(before) && is_edge(mended.get(at)) {
                tell(first, line, "is a whole number that is too large".to_owned());
                (mended[at - 2], mended[at - 1]) = ('.', '0');
            }
        }
        line += usize::from(mended.get(at) == Some(&'\n'));
    }
    Mended { text: mended.into_iter().collect(), found }
}

/// Tells whether YAML 1.2 takes a character nowhere, not even in quotes.
fn is_unreadable(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}') || (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'))
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
