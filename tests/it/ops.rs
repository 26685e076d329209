//! What operators copy or paste from this repository works as it stands.

use crate::readme::check;
use std::path::Path;
use std::process::Command;

/// Where every metric is declared.
const METRICS: &str = include_str!("../../src/observe/metrics.rs");

#[test]
fn every_shipped_configuration_is_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            check(&std::fs::read_to_string(path).unwrap());
            count += 1;
        }
    }
    assert!(count >= 2, "conf/ holds {count} files");
}

#[test]
fn metrics_that_the_documents_name_exist() {
    let operations = include_str!("../../docs/operations.md");
    let mut count = 0;
    for (document, text) in
        [("README.md", include_str!("../../README.md")), ("docs/operations.md", operations)]
    {
        for rest in text.split("pointsman_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            let name = rest[..end].trim_end_matches("_bucket");
            // `pointsman_` alone is the prefix.
            if !name.is_empty() {
                assert!(METRICS.contains(&format!("\"pointsman_{name}\"")), "{document}: pointsman_{name}");
                count += 1;
            }
        }
    }
    assert!(count >= 8, "{count}");
}

/// Asks the program for the help of a verb; nothing where there is no such verb.
fn help(words: &[&str]) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    let output = command.args(words).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the verbs that a help lists.
fn verbs(help: &str) -> Vec<&str> {
    let (_, listed) = help.split_once("Commands:\n").unwrap_or(("", ""));
    let (listed, _) = listed.split_once("\n\n").unwrap_or((listed, ""));
    listed.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

/// Returns what a page shows to type: behind `pointsman` in code, up to the code's end.
fn typed(page: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut is_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        }
        let spans: Vec<&str> = if is_block {
            vec![line.trim().trim_start_matches("$ ").trim_start_matches("sudo ")]
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        for span in spans {
            let words = span.trim_start_matches("sudo ").strip_prefix("pointsman ");
            // What the program says of itself begins with its version.
            let words = words.filter(|words| words.starts_with(|c: char| c.is_ascii_lowercase() || c == '-'));
            all.extend(words.map(|words| words.split(['#', '|', '>']).next().unwrap().trim().to_owned()));
        }
    }
    all
}

#[test]
fn verbs_and_flags_that_the_documents_show_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain(["README.md", "SECURITY.md"].map(|name| root.join(name)));
    let mut count = 0;
    for path in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        for line in typed(&std::fs::read_to_string(&path).unwrap()) {
            let place = format!("{}: pointsman {line}", path.display());
            let mut words: Vec<&str> = Vec::new();
            let mut text = help(&[]).unwrap();
            for word in line.split_whitespace() {
                let known = verbs(&text);
                if known.is_empty() {
                    break;
                }
                if word.starts_with('-') || word.chars().all(|c| c.is_ascii_uppercase()) {
                    break;
                }
                assert!(known.contains(&word), "{place}: there is no verb {word}");
                words.push(word);
                text = help(&words).unwrap();
            }
            for flag in line.split_whitespace().map(|word| word.trim_matches(['[', ']', ','])) {
                let name = flag.split('=').next().unwrap();
                let is_there = text.split([' ', ',', '\n']).any(|word| word == name) || name == "--help";
                assert!(!flag.starts_with('-') || is_there, "{place}: there is no {name}");
            }
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn the_readme_lists_every_verb() {
    let (_, list) = include_str!("../../README.md").split_once("| verb | tells or does |").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let text = help(&[]).unwrap();
    let shown: Vec<&str> = list.split(['`', ' ', ',']).collect();
    for verb in verbs(&text) {
        assert!(shown.contains(&verb), "README.md does not list {verb}");
        for below in verbs(&help(&[verb]).unwrap()) {
            assert!(shown.contains(&below), "README.md does not list {verb} {below}");
        }
    }
}
