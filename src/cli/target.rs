//! `pointsman target`: the operator's verbs on targets. Drain lets what is under way finish, disable is
//! the same for who means to come back by hand only, reset forgets breaker and rests, pin puts it first
//! on its routes, ready undoes all but reset. Several ids are done in turn; the first fault ends it.

use super::ask::{Desk, Fault, PATIENCE, Whom, escaped};
use super::status::{list, table, text};
use super::table::Paint;
use super::{Exit, say, say_all};
use crate::admin::NO_TARGET;
use crate::config::did_you_mean;
use crate::server::Keeper;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};

/// The verbs below `target`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TargetVerb {
    /// List every target with its state.
    List(Reading),
    /// Show one target with all that is known of it.
    Show {
        /// Its id: provider/credential/model.
        #[arg(value_name = "TARGET", value_parser = NonEmptyStringValueParser::new())]
        id: String,
        #[command(flatten)]
        reading: Reading,
    },
    /// Send no new requests there; those under way finish.
    Drain(Acting),
    /// Send no requests there until it is made ready.
    Disable(Acting),
    /// Undo drain, disable and pin.
    Ready(Acting),
    /// Forget its breaker and its rests: the next request may try it.
    Reset(Acting),
    /// Put it first on its routes, as long as it can be used; ready undoes it.
    Pin {
        #[command(flatten)]
        acting: Acting,
        /// For how long, such as 30m (default: until it is made ready).
        #[arg(long = "for", value_name = "DURATION")]
        span: Option<String>,
        /// On this route only (default: on every one that names it).
        #[arg(long, value_name = "ROUTE")]
        route: Option<String>,
    },
}

/// Arguments of verbs that read.
#[derive(Debug, clap::Args)]
pub(super) struct Reading {
    #[command(flatten)]
    whom: Whom,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of verbs that act.
#[derive(Debug, clap::Args)]
pub(super) struct Acting {
    /// Ids: provider/credential/model.
    #[arg(value_name = "TARGET", required = true, value_parser = NonEmptyStringValueParser::new())]
    ids: Vec<String>,
    #[command(flatten)]
    reading: Reading,
}

pub(super) fn target(keeper: &Keeper, verb: &TargetVerb) -> Exit {
    let done = match verb {
        TargetVerb::List(reading) => show_all(keeper, reading),
        TargetVerb::Show { id, reading } => show(keeper, id, reading),
        TargetVerb::Drain(acting) => act(keeper, "drain", acting, ""),
        TargetVerb::Disable(acting) => act(keeper, "disable", acting, ""),
        TargetVerb::Ready(acting) => act(keeper, "ready", acting, ""),
        TargetVerb::Reset(acting) => act(keeper, "reset", acting, ""),
        TargetVerb::Pin { acting, span, route } => {
            let pairs = [("for", span), ("route", route)];
            let given =
                pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_ref()?))));
            let query = given.collect::<Vec<_>>().join("&");
            act(keeper, "pin", acting, &if query.is_empty() { query } else { format!("?{query}") })
        }
    };
    done.map_or_else(|fault| fault.tell(), |()| Exit::Done)
}

fn show_all(keeper: &Keeper, reading: &Reading) -> Result<(), Fault> {
    let answer = Desk::find(keeper, &reading.whom)?.get("/v1/targets")?;
    if reading.json {
        say(&answer.to_string());
    } else {
        say_all(&table(list(&answer, "targets"), Paint::of_stdout()));
    }
    Ok(())
}

fn show(keeper: &Keeper, id: &str, reading: &Reading) -> Result<(), Fault> {
    let desk = Desk::find(keeper, &reading.whom)?;
    let answer =
        desk.get(&format!("/v1/targets/{}", escaped(id))).map_err(|fault| with_nearest(&desk, id, fault))?;
    if reading.json {
        say(&answer.to_string());
    } else {
        say(&plain(&answer));
    }
    Ok(())
}

fn act(keeper: &Keeper, verb: &str, acting: &Acting, query: &str) -> Result<(), Fault> {
    let Acting { ids, reading } = acting;
    let desk = Desk::find(keeper, &reading.whom)?;
    let mut done = Vec::with_capacity(ids.len());
    for id in ids {
        let path = format!("/v1/targets/{}:{verb}{query}", escaped(id));
        let answer = desk.post(&path, None, PATIENCE).map_err(|fault| with_nearest(&desk, id, fault));
        match answer {
            Ok(answer) => done.push(answer),
            Err(fault) => {
                tell(&done, reading.json);
                return Err(fault);
            }
        }
    }
    tell(&done, reading.json);
    Ok(())
}

fn tell(done: &[Value], is_json: bool) {
    if is_json {
        say(&json!({ "targets": done }).to_string());
        return;
    }
    for target in done {
        let count = target.get("in_flight").and_then(Value::as_u64).unwrap_or(0);
        let under_way = if count == 0 { String::new() } else { format!(", {count} under way") };
        say(&format!("{}: {}{under_way}", text(target, "id"), text(target, "state")));
    }
}

/// Names the target that may have been meant, where it is the target that is not known.
fn with_nearest(desk: &Desk<'_>, id: &str, mut fault: Fault) -> Fault {
    if !fault.lines.iter().any(|line| line.starts_with(NO_TARGET)) {
        return fault;
    }
    let Ok(answer) = desk.get("/v1/targets") else { return fault };
    let ids: Vec<&str> = list(&answer, "targets").iter().map(|target| text(target, "id")).collect();
    let within = ids.iter().filter(|known| known.split('/').any(|part| part == id)).copied();
    let near = match within.collect::<Vec<_>>().as_slice() {
        [] => did_you_mean(id, ids.iter().copied()),
        [first, second, third, _, ..] => format!(" (did you mean {first}, {second}, {third} or another?)"),
        few => format!(" (did you mean {}?)", few.join(" or ")),
    };
    fault.lines = vec![format!("{NO_TARGET} \"{id}\"{near}; pointsman target list shows them")];
    fault
}

/// Writes an answer for people where it has no form of its own: one line a fact.
pub(super) fn plain(value: &Value) -> String {
    let mut lines = Vec::new();
    put(value, "", &mut lines);
    lines.join("\n")
}

fn put(value: &Value, path: &str, lines: &mut Vec<String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| put(value, &below(name), lines)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            let each = |(at, item): (usize, &Value)| put(item, &format!("{path}[{at}]"), lines);
            items.iter().enumerate().for_each(each);
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            lines.push(format!("{path}: {}", items.join(", ")));
        }
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            lines.push(format!("{path}: {}", scalar(value)));
        }
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_form_of_its_own_is_one_line_a_fact() {
        let answer = json!({"id": "a", "until": null, "routes": ["x", "y"], "counts": {"ok": 1}, "list": [{"a": true}]});
        assert_eq!(plain(&answer), "id: a\nroutes: x, y\ncounts.ok: 1\nlist[0].a: true");
    }
}
