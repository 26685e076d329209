//! What operators copy or paste from this repository works as it stands.

use crate::readme::check;
use std::path::Path;

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
