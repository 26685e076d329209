//! What this listener answers, for machines: `docs/openapi.yaml`, shown as JSON.
//!
//! The file is for people and is compiled in; a test holds it against the paths of `ask` in both
//! directions, `tests/it/described.rs` every member of every answer of a running process, and
//! `scripts/schemathesis` asks one what nobody thought of.

use super::answer::{Answer, problem};
use serde_json::Value;

/// The description as it stands in the repository.
const TEXT: &str = include_str!("../../docs/openapi.yaml");

/// Shows it.
pub(super) fn answer() -> Answer {
    match serde_yaml::from_str::<Value>(TEXT) {
        Ok(whole) => Answer::json(&whole),
        // A test rules this out.
        Err(_) => problem(500, "the description cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ask::{self, Lost};
    use std::collections::BTreeSet;

    const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

    fn description() -> Value {
        serde_yaml::from_str(TEXT).unwrap()
    }

    /// A path with names in the place of its parameters.
    fn example(path: &str) -> String {
        let mut out = String::new();
        for (at, part) in path.split(['{', '}']).enumerate() {
            out.push_str(if at % 2 == 0 { part } else { "a%2Fb%2Fc" });
        }
        out
    }

    #[test]
    fn every_documented_path_is_there_and_takes_the_documented_methods_only() {
        let description = description();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in METHODS {
                let found = ask::read(&method.to_uppercase(), &example(path));
                // HEAD is GET; the document says so once.
                let method = if method == "head" { "get" } else { method };
                if item.get(method).is_some() {
                    assert!(found.is_ok(), "{method} {path}: {found:?}");
                } else if let Ok(ask) = found {
                    // Behind a target's id anything may stand, so a GET of a verb is one of a target.
                    let is_target = matches!(ask, ask::Ask::Target(_));
                    assert!(
                        is_target || item.get(method).is_some(),
                        "{method} {path} is {ask:?} and not documented"
                    );
                } else {
                    let is_lost = matches!(found, Err(Lost::MethodNotAllowed(_) | Lost::NotFound));
                    assert!(is_lost, "{method} {path}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn every_path_and_verb_that_is_read_is_documented() {
        let description = description();
        let documented: BTreeSet<String> =
            description["paths"].as_object().unwrap().keys().cloned().collect();
        // The source before its tests: what is not written there is not read.
        let (ask, _) = include_str!("ask.rs").split_once("#[cfg(test)]").unwrap();
        let (view, _) = include_str!("view.rs").split_once("pub fn as_label").unwrap();
        let mut count = 0;
        for literal in
            ask.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/') && text.len() > 1)
        {
            let is_there = documented
                .iter()
                .any(|path| path == literal || path.starts_with(literal) || path.ends_with(literal));
            assert!(is_there, "{literal} is read in ask.rs and stands not in docs/openapi.yaml");
            count += 1;
        }
        let (_, words) = view.split_once("fn from_word").unwrap();
        for verb in words.split('"').skip(1).step_by(2) {
            assert!(documented.contains(&format!("/v1/targets/{{id}}:{verb}")), "{verb}");
            count += 1;
        }
        assert!(count > 15, "{count}");
    }

    #[test]
    fn writing_wants_the_token_and_reading_need_not() {
        let description = description();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in ["get", "post"] {
                let (Some(operation), Ok(ask)) =
                    (item.get(method), ask::read(&method.to_uppercase(), &example(path)))
                else {
                    continue;
                };
                let wants = operation["security"] == serde_json::json!([{ "token": [] }]);
                assert_eq!(wants, ask.is_writing(), "{method} {path}");
            }
        }
    }

    #[test]
    fn every_kind_of_event_is_documented() {
        let description = description();
        let documented = &description["components"]["schemas"]["Event"]["properties"]["event"]["enum"];
        let (source, _) =
            include_str!("../observe/events/event.rs").split_once("/// Makes the event").unwrap();
        let (_, labels) = source.split_once("pub fn as_label").unwrap();
        let words: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
        assert_eq!(*documented, serde_json::json!(words));
    }
}
