//! `pointsman check`: every fault at once, with YAML path and line, by the very code that a reload
//! runs.

use super::table::Paint;
use super::{Exit, complain, file_or_usual, probe, say, say_all};
use crate::reload::{Loaded, Origin, load};
use crate::server::Keeper;
use serde_json::json;
use std::path::PathBuf;

pub(super) fn check(
    keeper: &Keeper,
    config: Option<PathBuf>,
    is_strict: bool,
    probes: bool,
    is_json: bool,
) -> Exit {
    let Some(path) = file_or_usual(config) else {
        complain(&format!("{}: no such file; name one with -c", super::DEFAULT_FILE));
        return Exit::NoFile;
    };
    let loaded = match load(&Origin::File(path.clone())) {
        Ok(loaded) => loaded,
        Err(fault) => {
            let errors = fault.lines();
            if is_json {
                say(&json!({ "ok": false, "errors": errors, "warnings": [] }).to_string());
            } else {
                say_all(&errors);
                say(&format!("{}: {} errors", path.display(), errors.len()));
            }
            return Exit::of_load(&fault);
        }
    };
    let Loaded { plan, warnings, .. } = loaded;
    let mut exit = if is_strict && !warnings.is_empty() { Exit::Warned } else { Exit::Done };
    let explicit = plan.routes.iter().filter(|route| !route.is_implicit).count();
    let summary = format!(
        "{}: ok, {explicit} routes over {} targets of {} providers, {} warnings",
        path.display(),
        plan.targets.len(),
        plan.providers.len(),
        warnings.len()
    );
    if !is_json {
        say_all(&warnings);
        say(&summary);
    }
    let mut told = json!({ "ok": true, "errors": [], "warnings": warnings });
    if probes {
        let findings = match probe::probe(keeper, plan) {
            Ok(findings) => findings,
            Err(fault) => {
                complain(&fault);
                return Exit::Configuration;
            }
        };
        exit = match probe::exit(&findings) {
            Exit::Done => exit,
            worse => worse,
        };
        told["probe"] = probe::json(&findings);
        if !is_json {
            say_all(&probe::table(&findings, Paint::of_stdout()));
        }
    }
    if is_json {
        say(&told.to_string());
    }
    exit
}
