//! What README.md shows to copy is taken by `pointsman check` as it stands.

use std::process::Command;

const README: &str = include_str!("../../README.md");

/// Returns the fenced blocks of a language, in order.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in README.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(word)) if word == language => open = Some(String::new()),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// Returns the variables that a text takes its secrets from.
fn variables(yaml: &str) -> Vec<&str> {
    yaml.split("{env: ").skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

/// Runs `check --strict` with every variable of the file set.
pub fn check(yaml: &str) {
    // A folder of its own, because fragments beside the file would be read with it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pointsman.yaml");
    std::fs::write(&file, yaml).unwrap();
    let values =
        variables(yaml).into_iter().enumerate().map(|(at, name)| (name, format!("key-of-a-test-{at:04}")));
    let output = Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(["check", "--strict", "-c"])
        .arg(&file)
        .env_clear()
        .envs(values)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}\n{yaml}");
}

#[test]
fn the_configuration_to_copy_is_sound() {
    let blocks = blocks("yaml");
    let [whole, clients] = blocks.as_slice() else { panic!("README.md has other yaml blocks: {blocks:#?}") };
    assert!(variables(whole).len() >= 3, "{whole}");
    check(whole);
    // The second block is what must be added to listen on more than loopback.
    let exposed = whole.replace("127.0.0.1:8080", "0.0.0.0:8080");
    assert_ne!(&exposed, whole);
    check(&format!("{exposed}{clients}"));
}

#[test]
fn the_json_to_copy_is_json() {
    for block in blocks("json") {
        serde_json::from_str::<serde_json::Value>(&block).unwrap_or_else(|fault| panic!("{fault}: {block}"));
    }
}

#[test]
fn files_that_the_readme_points_at_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local: Vec<&str> = targets.filter(|target| !target.contains("://")).collect();
    assert!(local.len() >= 3, "{local:?}");
    for target in local {
        assert!(root.join(target).exists(), "README.md points at {target}, which is not there");
    }
}
