//! `pointsman reload`: has the running process read its configuration again, and says what changed.
//! `--previous` goes back to the plan before instead, from memory; `--wait` first waits for a process
//! that is only just starting, and then until it is ready.

use super::ask::{Desk, Fault, RELOAD_PATIENCE, Whom};
use super::status::{list, text};
use super::{Exit, complain, say, say_all};
use crate::clock::Clock;
use crate::server::Keeper;
use serde_json::Value;
use std::time::Duration;

/// How long `--wait` waits for the process to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    whom: Whom,
    /// Wait up to 30 s for a process that is starting, and until it is ready afterwards.
    #[arg(long)]
    wait: bool,
    /// Go back to the configuration before; the file stays as it is, and the next reload reads it.
    #[arg(long)]
    previous: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn reload(keeper: &Keeper, arguments: &Arguments) -> Exit {
    match ask(keeper, arguments) {
        Ok(told) if arguments.json => {
            say(&told.to_string());
            Exit::Done
        }
        Ok(told) => {
            say_all(&page(&told));
            Exit::Done
        }
        Err(fault) => fault.tell(),
    }
}

fn ask(keeper: &Keeper, arguments: &Arguments) -> Result<Value, Fault> {
    let desk = Desk::find(keeper, &arguments.whom)?;
    if arguments.wait {
        wait(keeper, &desk);
    }
    let path = if arguments.previous { "/v1/reload?previous=true" } else { "/v1/reload" };
    let told = desk.post(path, None, RELOAD_PATIENCE)?;
    if arguments.wait && !wait(keeper, &desk) {
        complain("the configuration is in force, but the process does not say that it is ready");
    }
    Ok(told)
}

/// Waits until the process is ready; false where it was not in time.
fn wait(keeper: &Keeper, desk: &Desk<'_>) -> bool {
    let clock = Clock::new();
    let end = clock.tick().after(READY_PATIENCE);
    while !desk.is_ready() {
        if clock.tick() > end {
            return false;
        }
        keeper.pause(LOOK);
    }
    true
}

/// Writes what came of it.
fn page(told: &Value) -> Vec<String> {
    let generation = told.get("generation").and_then(Value::as_u64).unwrap_or(0);
    let changes = list(told, "changes");
    let back =
        told.get("restored").and_then(Value::as_u64).map(|of| format!(", the plan of generation {of}"));
    let nothing = if changes.is_empty() { ": nothing changed" } else { "" };
    let mut lines = vec![format!("generation {generation} is in force{}{nothing}", back.unwrap_or_default())];
    lines.extend(changes.iter().map(|change| format!("  {}", text(change, "text"))));
    let texts =
        |name: &str| list(told, name).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    lines.extend(texts("needs_restart").into_iter().map(|line| format!("not in force yet: {line}")));
    lines.extend(texts("warnings").into_iter().map(|line| format!("warning: {line}")));
    if told.get("restored").is_some_and(Value::is_u64) {
        lines.push("the file is not changed; the next reload reads it again".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_changed_and_what_waits_for_a_restart_is_told() {
        let told = json!({"generation": 7, "restored": null, "warnings": ["w"], "needs_restart": ["listen: restart needed"],
            "changes": [{"text": "+ routes.code"}, {"text": "~ grace: 30s -> 9s"}]});
        assert_eq!(
            page(&told).join("\n"),
            "generation 7 is in force\n  + routes.code\n  ~ grace: 30s -> 9s\nnot in force yet: listen: restart needed\nwarning: w"
        );
        let told = json!({"generation": 8, "restored": 6, "changes": []});
        assert!(page(&told)[0].ends_with("8 is in force, the plan of generation 6: nothing changed"));
    }
}
