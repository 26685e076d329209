//! On which line does each path stand?
//!
//! `serde_yaml::Value` has no positions, so when there are faults (and only then) a second parser
//! with marks, `saphyr-parser`, goes over the text once and notes the line of every key and list
//! item under the same [`KeyPath`] that the walk uses. On the way it sees what the tree cannot
//! show: keys given twice, anchors, a second document, the place of a fault in the syntax.

use super::path::KeyPath;
use super::yaml::behind_mark;
use saphyr_parser::{Event, Parser};
use std::collections::HashMap;

/// Deeper than `yaml` lets pass; stops before the parser's own stack matters.
const DEPTH_MAX: usize = 64;
/// A text of 1 MiB cannot hold more values that we would read.
const EVENTS_MAX: usize = 1_100_000;

/// What one pass over the text finds.
#[derive(Debug, Default)]
pub struct Survey {
    /// Line of every key and item, counted from 1.
    lines: HashMap<KeyPath, usize>,
    /// Where each begins, in characters from the start, in the order of the text.
    places: Vec<(usize, KeyPath)>,
    /// What a plain tree would not show, in the order of the text.
    pub oddities: Vec<Oddity>,
}

/// Something that a plain tree would not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// A key that its mapping holds already.
    Duplicate {
        /// Its path.
        at: KeyPath,
        /// Its line.
        line: usize,
        /// The line of the first.
        first: usize,
    },
    /// `&name`.
    Anchor {
        /// Its line.
        line: usize,
    },
    /// `*name`.
    Alias {
        /// Its line.
        line: usize,
    },
    /// A second `---`.
    SecondDocument {
        /// Its line.
        line: usize,
    },
    /// More levels than any real file has.
    TooDeep {
        /// Its line.
        line: usize,
    },
    /// Where the parser gave up.
    Syntax {
        /// Its line.
        line: usize,
        /// Its column, counted from 1.
        column: usize,
    },
}

impl Survey {
    /// Returns the line of a path, or of the nearest thing around it that has one, and how much of
    /// the path that is (so that several files can be compared).
    #[must_use]
    pub fn nearest(&self, at: &KeyPath) -> Option<(usize, usize)> {
        if let Some(line) = self.lines.get(at) {
            return Some((at.as_str().len(), *line));
        }
        self.lines
            .iter()
            .filter(|(path, _)| path.holds(at))
            .map(|(path, line)| (path.as_str().len(), *line))
            .max()
    }

    /// Returns the key or item that a character stands in, by its number in the text.
    #[must_use]
    pub fn holder(&self, character: usize) -> Option<&KeyPath> {
        let after = self.places.partition_point(|(begins, _)| *begins <= character);
        self.places.get(after.checked_sub(1)?).map(|(_, at)| at)
    }

    fn stands(&mut self, at: KeyPath, place: Place) {
        self.places.push((place.character, at.clone()));
        self.lines.insert(at, place.line);
    }
}

/// Where something begins.
#[derive(Clone, Copy)]
struct Place {
    line: usize,
    /// Its number in the text.
    character: usize,
}

/// One open mapping or list.
enum Level {
    Mapping {
        at: KeyPath,
        keys: HashMap<String, usize>,
        waiting: Option<KeyPath>,
    },
    List {
        at: KeyPath,
        next: usize,
    },
    /// Below something that has no path (a mapping used as a key).
    Unnamed,
}

/// Counts lines as YAML does: LF, CRLF and CR end one.
fn lines_of(text: &str) -> usize {
    1 + text.replace("\r\n", "\n").matches(['\n', '\r']).count()
}

/// Goes over the text once.
#[must_use]
pub fn survey(text: &str) -> Survey {
    let mut survey = Survey::default();
    let mut levels: Vec<Level> = Vec::new();
    let mut documents = 0_usize;
    for event in Parser::new_from_str(behind_mark(text)).take(EVENTS_MAX) {
        let (event, here) = match event {
            Ok((event, span)) => (event, Place { line: span.start.line(), character: span.start.index() }),
            Err(error) => {
                // A text that ends too early ends, for the parser, on a line behind its last.
                let line = error.marker().line().min(lines_of(text));
                let column = error.marker().col() + 1;
                survey.oddities.push(Oddity::Syntax { line, column });
                break;
            }
        };
        let line = here.line;
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    survey.oddities.push(Oddity::SecondDocument { line });
                    break;
                }
            }
            Event::Alias(_) => {
                survey.oddities.push(Oddity::Alias { line });
                place(&mut survey, &mut levels, here, None);
            }
            Event::Scalar(text, _, anchor, _) => {
                note_anchor(&mut survey, anchor, line);
                place(&mut survey, &mut levels, here, Some(&text));
            }
            Event::SequenceStart(anchor, _) => {
                note_anchor(&mut survey, anchor, line);
                let level = place(&mut survey, &mut levels, here, None)
                    .map_or(Level::Unnamed, |at| Level::List { at, next: 0 });
                levels.push(level);
            }
            Event::MappingStart(anchor, _) => {
                note_anchor(&mut survey, anchor, line);
                let level = place(&mut survey, &mut levels, here, None)
                    .map_or(Level::Unnamed, |at| Level::Mapping { at, keys: HashMap::new(), waiting: None });
                levels.push(level);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                levels.pop();
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        if levels.len() > DEPTH_MAX {
            survey.oddities.push(Oddity::TooDeep { line });
            break;
        }
    }
    survey
}

fn note_anchor(survey: &mut Survey, anchor: usize, line: usize) {
    if anchor != 0 {
        survey.oddities.push(Oddity::Anchor { line });
    }
}

/// Takes the next node: gives it its path if it is a value, or keeps it if it is a key.
fn place(survey: &mut Survey, levels: &mut [Level], here: Place, scalar: Option<&str>) -> Option<KeyPath> {
    let Some(level) = levels.last_mut() else { return Some(KeyPath::root()) };
    match level {
        Level::Unnamed => None,
        Level::List { at, next } => {
            let item = at.index(*next);
            *next += 1;
            survey.stands(item.clone(), here);
            Some(item)
        }
        Level::Mapping { at, keys, waiting } => {
            if let Some(value) = waiting.take() {
                return Some(value);
            }
            // A key that is no scalar gets a path that nothing else asks for.
            let key = at.key(scalar.unwrap_or("?"));
            *waiting = Some(key.clone());
            if let Some(scalar) = scalar {
                if let Some(first) = keys.get(scalar) {
                    survey.oddities.push(Oddity::Duplicate { at: key, line: here.line, first: *first });
                } else {
                    keys.insert(scalar.to_owned(), here.line);
                    survey.stands(key, here);
                }
                None
            } else {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_item_has_the_line_where_it_stands() {
        let text = "a: 1\nb:\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n\"f.g\": [1, 2]\n";
        let survey = survey(text);
        assert!(survey.oddities.is_empty(), "{:?}", survey.oddities);
        let root = KeyPath::root();
        let c = root.key("b").key("c");
        for (at, want) in [
            (root.key("a"), 1),
            (root.key("b"), 2),
            (c.clone(), 3),
            (c.index(0), 4),
            (c.index(1), 5),
            (c.index(1).key("d"), 5),
            (c.index(1).key("e"), 6),
            (root.key("f.g").index(1), 7),
            (c.index(1).key("not there"), 5),
        ] {
            assert_eq!(survey.nearest(&at).map(|(_, line)| line), Some(want), "{at}");
        }
    }

    #[test]
    fn oddities_are_found_with_their_lines() {
        for (text, want) in [
            ("a: 1\nb: 2\na: 3\n", Oddity::Duplicate { at: KeyPath::root().key("a"), line: 3, first: 1 }),
            ("a: &x 1\n", Oddity::Anchor { line: 1 }),
            ("a: 1\n---\nb: 2\n", Oddity::SecondDocument { line: 2 }),
        ] {
            assert_eq!(survey(text).oddities, [want], "{text}");
        }
        assert!(matches!(survey("a: [1\nb: 2\n").oddities[..], [Oddity::Syntax { .. }]));
        for (text, last) in [("a: [1,", 1), ("a: 1\nb: {c: 2,", 2), ("a: 1\r\nb: [", 2), ("a: 1\rb: [", 2)] {
            assert!(
                matches!(survey(text).oddities[..], [Oddity::Syntax { line, .. }] if line == last),
                "{text:?}"
            );
        }
    }
}
