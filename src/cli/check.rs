//! `pointsman check`: every fault at once, with YAML path and line, by the very code that a reload
//! runs.

use super::{Exit, complain, file_or_usual, say};
use crate::reload::{LoadFault, Origin, load};
use serde_json::json;
use std::path::PathBuf;

pub(super) fn check(config: Option<PathBuf>, strict: bool, probe: bool, is_json: bool) -> Exit {
    if probe {
        complain("check --probe is not built yet; leave it out");
        return Exit::Usage;
    }
    let Some(path) = file_or_usual(config) else {
        complain(&format!("{}: no such file; name one with -c", super::DEFAULT_FILE));
        return Exit::NoFile;
    };
    let result = load(&Origin::File(path.clone()));
    let (exit, errors, warnings) = match &result {
        Ok(loaded) if strict && !loaded.warnings.is_empty() => {
            (Exit::Warned, Vec::new(), loaded.warnings.clone())
        }
        Ok(loaded) => (Exit::Done, Vec::new(), loaded.warnings.clone()),
        Err(fault @ LoadFault::Missing(_)) => (Exit::NoFile, fault.lines(), Vec::new()),
        Err(fault @ LoadFault::Forbidden(_)) => (Exit::Permission, fault.lines(), Vec::new()),
        Err(fault @ (LoadFault::Unsound(_) | LoadFault::Nothing(_))) => {
            (Exit::Configuration, fault.lines(), Vec::new())
        }
    };
    if is_json {
        say(&json!({ "ok": errors.is_empty(), "errors": errors, "warnings": warnings }).to_string());
        return exit;
    }
    for line in &errors {
        say(line);
    }
    for line in &warnings {
        say(line);
    }
    match &result {
        Ok(loaded) => {
            let plan = &loaded.plan;
            let explicit = plan.routes.iter().filter(|route| !route.is_implicit).count();
            say(&format!(
                "{}: ok, {explicit} routes over {} targets of {} providers, {} warnings",
                path.display(),
                plan.targets.len(),
                plan.providers.len(),
                warnings.len()
            ));
        }
        Err(_) => say(&format!("{}: {} errors", path.display(), errors.len())),
    }
    exit
}
