//! What is another in one configuration than in another?
//!
//! Two configurations are compared by what is written in them ([`super::settings`]), key by key, the
//! default standing in where only one of the two says something: who writes a default out changes
//! nothing. A provider, route, model, target or client that came or went is one line, not one for each
//! of its keys. Neither order nor comments count. A secret is another only where its place is; what
//! stands behind the place, `reload` compares.

use super::settings::{Names, Setting};
use std::collections::{BTreeMap, BTreeSet};

/// One difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What: a key, or a thing with a name (`routes.chat`) that came or went.
    pub path: String,
    /// What it was; nothing where it was not there.
    pub was: Option<String>,
    /// What it is; nothing where it is gone.
    pub is: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.was, &self.is) {
            (Some(was), Some(is)) if was == is => write!(f, "~ {}: another value", self.path),
            (Some(was), Some(is)) => write!(f, "~ {}: {was} -> {is}", self.path),
            (None, Some(is)) if is.is_empty() => write!(f, "+ {}", self.path),
            (None, Some(is)) => write!(f, "+ {}: {is}", self.path),
            (Some(was), None) if was.is_empty() => write!(f, "- {}", self.path),
            (Some(was), None) => write!(f, "- {}: {was}", self.path),
            (None, None) => f.write_str(&self.path),
        }
    }
}

/// Settings by their named paths: value and default.
pub type Settings = BTreeMap<String, (String, String)>;

/// Puts names in the place of numbers and sorts: the form in which two configurations are compared.
#[must_use]
pub fn by_name(settings: &[Setting]) -> Settings {
    let names = Names::of(settings);
    let entry = |s: &Setting| (names.named(s.path()), (s.in_force().to_owned(), s.default.clone()));
    settings.iter().map(entry).collect()
}

/// Compares two configurations. Of a provider, route, model, target or client that came or went one
/// line is told, not one for each of its keys.
#[must_use]
pub fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for path in all {
        let (was, is) = (old.get(path), new.get(path));
        if let (Some((was, _)), Some((is, _))) = (was, is) {
            if was != is {
                changes.push(Change { path: path.clone(), was: Some(was.clone()), is: Some(is.clone()) });
            }
            continue;
        }
        let other = if was.is_none() { old } else { new };
        let change = match (thing_missing_in(path, other), was, is) {
            (Some(thing), None, _) => Change { path: thing, was: None, is: Some(String::new()) },
            (Some(thing), Some(_), _) => Change { path: thing, was: Some(String::new()), is: None },
            // Only one of the two writes it: the default stands in for the other.
            (None, Some((was, default)), _) if was != default => {
                Change { path: path.clone(), was: Some(was.clone()), is: Some(default.clone()) }
            }
            (None, None, Some((is, default))) if is != default => {
                Change { path: path.clone(), was: Some(default.clone()), is: Some(is.clone()) }
            }
            (None, _, _) => continue,
        };
        if !changes.contains(&change) {
            changes.push(change);
        }
    }
    changes
}

/// Finds the widest thing with a name on the way of a path that the other configuration lacks.
fn thing_missing_in(path: &str, other: &Settings) -> Option<String> {
    let named = |end: usize| path.get(..end).map(str::to_owned);
    let mut things: Vec<String> = Vec::new();
    for table in ["providers.", "routes."] {
        if path.starts_with(table)
            && let Some(end) = end_of_key(path, table.len())
        {
            things.extend(named(end));
            if let Some(models) = path.get(end..).and_then(|rest| rest.strip_prefix(".models.")) {
                things.extend(end_of_key(path, path.len() - models.len()).and_then(named));
            }
        }
    }
    things.extend(path.match_indices(']').filter_map(|(at, _)| named(at + 1)));
    let is_in = |thing: &String| {
        other.range(thing.clone()..).next().is_some_and(|(path, _)| {
            path.strip_prefix(thing.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    things.into_iter().find(|thing| !is_in(thing))
}

/// Where a key that may stand in quotes ends.
fn end_of_key(path: &str, from: usize) -> Option<usize> {
    let rest = path.get(from..)?;
    let length = match rest.strip_prefix('"') {
        Some(quoted) => quoted.find('"')? + 2,
        None => rest.find(['.', '[']).unwrap_or(rest.len()),
    };
    Some(from + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, settings};

    fn written(text: &str) -> Settings {
        by_name(
            &settings::written(&[Source { name: "f", text, is_private: true, is_variable: false }]).unwrap(),
        )
    }

    #[test]
    fn what_came_went_and_changed_is_told_once_each() {
        let base = "routes:\n  a: {targets: [{provider: one, model: m}, {provider: two, model: m}]}\n";
        for (old, new, want) in [
            (base.to_owned(), base.to_owned(), &[][..]),
            (
                base.to_owned(),
                format!("{base}timeouts: {{connect: 3s}}\n"),
                &["~ timeouts.connect: 2s -> 3s"],
            ),
            // A default that is written out changes nothing.
            (base.to_owned(), format!("{base}timeouts: {{connect: 2s}}\n"), &[]),
            (format!("{base}grace: 9s\n"), base.to_owned(), &["~ grace: 9s -> 30s"]),
            (
                base.to_owned(),
                base.replace(
                    "[{provider: one",
                    "[{provider: new, model: \"x.y\", weight: 5}, {provider: one",
                ),
                &["+ routes.a.targets[new/x.y]"],
            ),
            (base.replace("  a:", "  \"b.c\":"), base.to_owned(), &["- routes.\"b.c\"", "+ routes.a"]),
            (
                format!("{base}providers: {{p: {{kind: openai, models: {{m: {{context: 5}}}}}}}}\n"),
                format!("{base}providers: {{p: {{kind: openai, models: {{n: {{context: 5}}}}}}}}\n"),
                &["- providers.p.models.m", "+ providers.p.models.n"],
            ),
            (
                base.to_owned(),
                base.replace("{provider: two, model: m}", "{provider: two, model: m, priority: 2}"),
                &["~ routes.a.targets[two/m].priority: 1 -> 2"],
            ),
        ] {
            let told: Vec<String> =
                changes(&written(&old), &written(&new)).iter().map(ToString::to_string).collect();
            assert_eq!(told, want, "{old}---\n{new}");
        }
    }
}
