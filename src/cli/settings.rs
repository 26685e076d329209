//! `pointsman config show` and `config diff`: what is in force and where it comes from, and what the
//! file would change in the process that runs.
//!
//! Neither fetches a secret nor wants the variables of the service: an operator's shell has none of
//! them. So `show` tells what is written and what stands in, and `diff` compares what is written there
//! with what the process says it was given. Whether the file is sound is `check`'s question.

use super::ask::{Desk, Fault, Whom};
use super::status::text;
use super::table::{Paint, Table};
use super::{Exit, complain, file_or_usual, say, say_all};
use crate::config::Problem;
use crate::config::changes::{self, Change, Settings};
use crate::config::settings::{self, Origin, Shown};
use crate::reload::Texts;
use crate::server::Keeper;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `config show`.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Only keys that begin so, such as timeouts or routes.chat.
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Configuration file (default: the usual one where it exists, else the environment).
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave out what has its default.
    #[arg(long)]
    written: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `config diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    #[command(flatten)]
    whom: Whom,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn show(arguments: &Show) -> Exit {
    let shown = texts(arguments.config.clone())
        .and_then(|texts| settings::show(&texts.sources()).map_err(|problems| unsound(&problems)));
    let mut shown = match shown {
        Ok(shown) => shown,
        Err(fault) => return fault.tell(),
    };
    let total = shown.len();
    shown.retain(|setting| {
        arguments.key.as_deref().is_none_or(|key| setting.path.starts_with(key))
            && (!arguments.written || setting.origin != Origin::Default)
    });
    if shown.is_empty()
        && total > 0
        && let Some(key) = &arguments.key
    {
        complain(&format!("no key begins with \"{key}\"; pointsman config schema lists them"));
        return Exit::Usage;
    }
    if arguments.json {
        let each = |s: &Shown| json!({ "path": s.path, "value": s.value, "origin": s.origin.to_string() });
        say(&json!({ "settings": shown.iter().map(each).collect::<Vec<_>>() }).to_string());
        return Exit::Done;
    }
    let mut table = Table::new(&["KEY", "FROM", "VALUE"], 2);
    for setting in shown {
        table.row([setting.path, setting.origin.to_string(), setting.value]);
    }
    say_all(&table.lines(Paint::of_stdout()));
    Exit::Done
}

pub(super) fn diff(keeper: &Keeper, arguments: &Diff) -> Exit {
    let Differences { changes, needs_restart } = match differences(keeper, &arguments.whom) {
        Ok(differences) => differences,
        Err(fault) => return fault.tell(),
    };
    if arguments.json {
        let each = |c: &Change| json!({ "path": c.path, "was": c.was, "is": c.is, "text": c.to_string() });
        let changes: Vec<_> = changes.iter().map(each).collect();
        say(&json!({ "changes": changes, "needs_restart": needs_restart }).to_string());
    } else if changes.is_empty() && needs_restart.is_empty() {
        say("the file says what is in force");
    } else {
        say_all(&changes.iter().map(ToString::to_string).collect::<Vec<_>>());
        say_all(&needs_restart.iter().map(|line| format!("not in force yet: {line}")).collect::<Vec<_>>());
    }
    // As diff(1).
    if changes.is_empty() && needs_restart.is_empty() { Exit::Done } else { Exit::Warned }
}

/// How the file and the process differ.
struct Differences {
    changes: Vec<Change>,
    /// What the process has read and cannot use before it is restarted.
    needs_restart: Vec<String>,
}

fn differences(keeper: &Keeper, whom: &Whom) -> Result<Differences, Fault> {
    let texts = texts(whom.config.clone())?;
    let written = settings::written(&texts.sources()).map_err(|problems| unsound(&problems))?;
    let running = Desk::find(keeper, whom)?.get("/v1/config")?;
    let needs_restart = running.get("needs_restart").and_then(Value::as_array).into_iter().flatten();
    let needs_restart = needs_restart.filter_map(Value::as_str).map(str::to_owned).collect();
    let running = running.get("settings").and_then(Value::as_object).ok_or_else(|| {
        Fault::new(Exit::Unavailable, "the process does not say what it was given: is it an older pointsman?")
    })?;
    let entry = |(path, told): (&String, &Value)| {
        (path.clone(), (text(told, "value").to_owned(), text(told, "default").to_owned()))
    };
    let running: Settings = running.iter().map(entry).collect();
    let changes = changes::changes(&running, &changes::by_name(&written));
    Ok(Differences { changes, needs_restart })
}

/// Reads the file that is meant, or what the environment stands for.
pub(super) fn texts(config: Option<PathBuf>) -> Result<Texts, Fault> {
    let read = file_or_usual(config).map_or_else(Texts::of_environment, |path| Texts::read(&path));
    read.map_err(|fault| Fault { exit: Exit::of_load(&fault), lines: fault.lines() })
}

/// What a file that cannot be used means.
pub(super) fn unsound(problems: &[Problem]) -> Fault {
    Fault { exit: Exit::Configuration, lines: problems.iter().map(ToString::to_string).collect() }
}
