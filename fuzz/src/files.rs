//! The operator's file.

use super::shown;
use pointsman::base::secret::Secret;
use pointsman::config::changes::{by_name, changes};
use pointsman::config::plan::Plan;
use pointsman::config::{Outside, SecretFault, SecretRef, Severity, Source, read};
use std::path::Path;
use std::sync::LazyLock;

/// The one key there is.
const CANARY: &str = "sk-canary-fuzz-0123456789";

/// Two providers, a route of each sort, a pattern.
const SMALL: &str = r#"
providers:
  openai:
    kind: openai
    credentials: [{name: main, key: {env: K}}]
    classifier: {patterns: [{match: "budget (is )?spent", outcome: quota}]}
  groq: {kind: groq, credentials: [{name: main, key: {env: K}}]}
routes:
  chat: {targets: [{provider: openai, model: gpt-4o, priority: 1}, {provider: groq, model: llama, priority: 2}]}
  openai/gpt-4o: {targets: [{provider: groq, model: llama}]}
classifier: {patterns: [{match: "no such deployment", status: [404, 200], outcome: model_unavailable}]}
"#;

/// A world in which every variable and file holds the canary.
struct Canaries;

impl Outside for Canaries {
    fn env(&self, _name: &str) -> Option<String> {
        Some(CANARY.to_owned())
    }

    fn secret(&self, _what: &SecretRef) -> Result<Secret, SecretFault> {
        Ok(Secret::new(CANARY.to_owned()))
    }

    fn may_append(&self, _path: &Path) -> Result<(), String> {
        Ok(())
    }
}

/// The plan of a small file that is good.
pub fn plan() -> &'static Plan {
    static PLAN: LazyLock<Plan> = LazyLock::new(|| {
        let reading =
            read(&Source { name: "f", text: SMALL, is_private: true, is_variable: false }, &Canaries);
        reading.plan.unwrap_or_else(|| panic!("{:?}", reading.problems))
    });
    &PLAN
}

/// Any file: there is a plan exactly where no problem is an error; no problem and no debug output
/// holds a key; problems stand in lines that there are, in words that are not longer than the file;
/// read again, it is the same.
pub fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let source = Source { name: "f", text: &text, is_private: true, is_variable: false };
    let reading = read(&source, &Canaries);
    let has_errors = reading.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(reading.plan.is_none(), has_errors, "{text}\n{:#?}", reading.problems);
    // What ends a line in YAML 1.1.
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    for problem in &reading.problems {
        let told = problem.to_string();
        assert!(!told.contains(CANARY) || text.contains(CANARY), "{}", shown(input));
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{told}: {}", shown(input));
        assert!(told.len() <= 2048 + 4 * text.len(), "{} bytes: {}", told.len(), shown(input));
    }
    let again = read(&source, &Canaries);
    assert_eq!(again.problems, reading.problems, "{}", shown(input));
    if let (Some(plan), Some(same)) = (&reading.plan, &again.plan) {
        assert!(!format!("{plan:?}").contains(CANARY) || text.contains(CANARY), "{}", shown(input));
        assert!(changes(&by_name(&plan.settings), &by_name(&same.settings)).is_empty(), "{}", shown(input));
    }
}
