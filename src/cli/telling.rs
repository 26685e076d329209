//! `events`, `why`, `explain`, `usage` and `account list`: what the running process can tell of what
//! was, what would be and what was used.
//!
//! The arguments and the calls; the texts for people have rooms of their own.

use super::ask::{Desk, Fault, PATIENCE, Whom, escaped};
use super::events::event_line;
use super::status::{list, text};
use super::usage::{accounts_text, usage_text};
use super::why::{explain_text, why_text};
use super::{Exit, complain, say};
use crate::server::Keeper;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest body that `explain` sends: a little less than the admin plane takes, as more goes round it.
const BODY_MAX: u64 = 1_000_000;
/// Events that `-f` begins with.
const LAST_EVENTS: u32 = 10;

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub(super) struct Events {
    #[command(flatten)]
    whom: Whom,
    /// Begin with the last ten and go on with what happens, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// How many of the last ones to tell (default: 50, with -f 10).
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Print as JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Arguments of `why`.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// The request's id: `x-request-id` of the answer, `id` in the log.
    #[arg(value_name = "REQUEST_ID", value_parser = NonEmptyStringValueParser::new())]
    id: String,
    #[command(flatten)]
    whom: Whom,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// What the request puts into "model": a route, a model, provider/model.
    #[arg(short, long, value_name = "MODEL")]
    model: String,
    /// Dialect of the client: openai, responses, anthropic, gemini.
    #[arg(long, value_name = "DIALECT")]
    dialect: Option<String>,
    /// Name of the client, as the configuration has it.
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// A header of the request, as `name: value`; may be given several times.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// File with the request's body as JSON; - is standard input.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    #[command(flatten)]
    whom: Whom,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `usage`.
#[derive(Debug, clap::Args)]
pub(super) struct Usage {
    /// What to add up by, such as client, route, target, model.
    #[arg(long, value_name = "KEYS")]
    by: Option<String>,
    /// Since when: a span such as 24h, or a time.
    #[arg(long, value_name = "SINCE")]
    since: Option<String>,
    #[command(flatten)]
    whom: Whom,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// The verbs below `account`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum AccountVerb {
    /// List the credentials with their state.
    List {
        #[command(flatten)]
        whom: Whom,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    #[command(external_subcommand)]
    Other(Vec<String>),
}

pub(super) fn events(keeper: &Keeper, arguments: &Events) -> Exit {
    tell_events(keeper, arguments).map_or_else(|fault| fault.tell(), |()| Exit::Done)
}

fn tell_events(keeper: &Keeper, arguments: &Events) -> Result<(), Fault> {
    let desk = Desk::find(keeper, &arguments.whom)?;
    let tell = |event: &Value| say(&if arguments.json { event.to_string() } else { event_line(event) });
    let limit = arguments.limit.or(arguments.follow.then_some(LAST_EVENTS));
    let query = limit.map(|limit| format!("?limit={limit}")).unwrap_or_default();
    let page = desk.get(&format!("/v1/events{query}"))?;
    // The newest is the first on the page and the last on a screen.
    let events = list(&page, "events");
    let goes_on = events.iter().rev().all(tell);
    if !arguments.follow || !goes_on {
        return Ok(());
    }
    let last = events.first().map(|event| format!("?after={}", escaped(text(event, "id"))));
    desk.follow(&format!("/v1/events{}", last.unwrap_or_default()), |data| {
        serde_json::from_str::<Value>(data).map_or_else(|_| say(data), |event| tell(&event))
    })?;
    complain("the stream of events has ended: the process leaves");
    Ok(())
}

pub(super) fn why(keeper: &Keeper, arguments: &Why) -> Exit {
    let path = format!("/v1/decisions/{}", escaped(&arguments.id));
    read(keeper, &arguments.whom, &path, arguments.json, why_text)
}

pub(super) fn usage(keeper: &Keeper, arguments: &Usage) -> Exit {
    let pairs = [("by", &arguments.by), ("since", &arguments.since)];
    let given = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_ref()?))));
    let query = given.collect::<Vec<_>>().join("&");
    let path = if query.is_empty() { "/v1/usage".to_owned() } else { format!("/v1/usage?{query}") };
    read(keeper, &arguments.whom, &path, arguments.json, usage_text)
}

pub(super) fn account(keeper: &Keeper, verb: &AccountVerb) -> Exit {
    match verb {
        AccountVerb::List { whom, json } => read(keeper, whom, "/v1/accounts", *json, accounts_text),
        AccountVerb::Other(words) => {
            let word = words.first().map_or("", String::as_str).escape_debug();
            complain(&format!(
                "pointsman account {word} is not built yet: credentials are written under providers in the file (pointsman reload takes them over); account list shows them"
            ));
            Exit::Usage
        }
    }
}

pub(super) fn explain(keeper: &Keeper, arguments: &Explain) -> Exit {
    let told = question(arguments).and_then(|question| {
        Desk::find(keeper, &arguments.whom)?.post("/v1/explain", Some(&question), PATIENCE)
    });
    match told {
        Ok(told) => {
            say(&if arguments.json { told.to_string() } else { explain_text(&told) });
            // Scripts ask whether a route can be served now.
            let is_usable = list(&told, "candidates").iter().any(|one| text(one, "state") == "chosen");
            if is_usable { Exit::Done } else { Exit::Unavailable }
        }
        Err(fault) => fault.tell(),
    }
}

fn read(keeper: &Keeper, whom: &Whom, path: &str, is_json: bool, page: fn(&Value) -> String) -> Exit {
    match Desk::find(keeper, whom).and_then(|desk| desk.get(path)) {
        Ok(told) => {
            say(&if is_json { told.to_string() } else { page(&told) });
            Exit::Done
        }
        Err(fault) => fault.tell(),
    }
}

/// Makes the body of `POST /v1/explain`.
fn question(arguments: &Explain) -> Result<Value, Fault> {
    let mut question = json!({ "model": arguments.model });
    if let Some(dialect) = &arguments.dialect {
        question["dialect"] = json!(dialect);
    }
    if let Some(client) = &arguments.client {
        question["client"] = json!(client);
    }
    let mut headers = Map::new();
    for header in &arguments.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            Fault::new(Exit::Usage, "--header must be \"name: value\", such as \"x-pointsman-tier: fast\"")
        })?;
        headers.insert(name.trim().to_ascii_lowercase(), json!(value.trim()));
    }
    if !headers.is_empty() {
        question["headers"] = Value::Object(headers);
    }
    if let Some(path) = &arguments.body {
        question["body"] = body_of(path)?;
    }
    Ok(question)
}

fn body_of(path: &Path) -> Result<Value, Fault> {
    let mut text = String::new();
    let name = path.display();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(BODY_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(BODY_MAX + 1).read_to_string(&mut text))
    };
    let length = read.map_err(|fault| {
        Fault::new(Exit::of_io(&fault), format!("{name}: cannot be read: {}", fault.kind()))
    })?;
    if u64::try_from(length).unwrap_or(u64::MAX) > BODY_MAX {
        return Err(Fault::new(Exit::Usage, format!("{name}: is longer than 1 MB; cut its messages short")));
    }
    serde_json::from_str(&text).map_err(|_| Fault::new(Exit::Usage, format!("{name}: is no JSON")))
}
