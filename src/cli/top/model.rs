//! What does `top` know?
//!
//! Answers of the admin plane in, facts for the screen out; pure, so that what is drawn can be tested
//! without a process or a terminal. The same facts as the page `/ui`: where each route leads, how each
//! target stands, until when and why, its time to first content and what it cost today, who stepped
//! in for whom, the configuration in force and the last reload.
//!
//! **What is kept from one answer to the next.** Events by their id (the newest [`EVENTS_KEPT`]), what
//! was last heard where nobody answers any more, and what is picked: a target by its id, so that it
//! stays picked when others come and go. All else is replaced by each answer.
//!
//! The time to first content is the median of the attempts among the last decisions that had any.
//! What comes from the process is data: control characters never reach the terminal.

use crate::admin::view::Verb;
use crate::base::time::WallTime;
use crate::cli::status::{is_quiet, list, span, text, why_not_first};
use crate::cli::usage::{cost, grouped};
use crate::observe::rfc3339;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Events that are kept: the process keeps as many.
const EVENTS_KEPT: usize = 1000;
/// Failovers that can be picked.
const MOVES_KEPT: usize = 100;
/// Attempts of a target that are drawn as bars.
pub(super) const BARS: usize = 20;

/// Which answer is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Status,
    Events,
    Decisions,
    Usage,
    Config,
}

/// What comes from the process.
#[derive(Debug)]
pub(super) enum News {
    /// An answer.
    Told(Source, Value),
    /// One that did not come, though others do.
    Untold(Source, String),
    /// Nobody answers.
    Lost(String),
    /// What came of a verb.
    Said(String),
    /// A page that was asked for.
    Sheet(String, Vec<String>),
}

/// Whether the process answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Link {
    #[default]
    Up,
    /// Not since then, and why.
    Lost(WallTime, String),
}

/// The process itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub version: String,
    /// `ready`, `draining`, `not ready`.
    pub state: &'static str,
    pub generation: u64,
    pub uptime: String,
    pub in_flight: u64,
}

/// A route.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    pub name: String,
    /// The target that is used now.
    pub now: Option<String>,
    /// Why that is not the first choice, or who is put first.
    pub why: String,
    /// Every target in the order of choice.
    pub targets: Vec<String>,
}

/// A target.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    pub id: String,
    pub state: String,
    /// Why it stands so, or what it failed with last.
    pub why: String,
    /// Until when, as the clock of the day, where that is known.
    pub until: Option<String>,
    /// The same as a span from now.
    pub left: Option<String>,
    pub breaker: String,
    pub in_flight: u64,
    pub ok: u64,
    pub failed: u64,
    pub mean_ms: Option<f64>,
    pub endpoint: String,
    pub routes: Vec<String>,
    /// Routes on which it is put first.
    pub pinned: Vec<String>,
}

/// A change of target, or a stream that broke.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Move {
    pub at: String,
    pub route: String,
    /// From which target to which; nothing of a stream that broke.
    pub way: Option<(String, String)>,
    pub reason: String,
    /// A request that did so, and how many did.
    pub request_id: String,
    pub requests: u64,
}

/// The last attempts at a target.
#[derive(Clone, Debug, Default)]
pub(super) struct Tempo {
    /// Milliseconds to the first content, oldest first; nothing where none came.
    pub last: Vec<Option<u64>>,
    pub median_ms: Option<u64>,
}

/// What was used today.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent {
    /// All of it, in a sentence.
    pub total: String,
    /// `target, requests, input, output, cost`, the most asked first.
    pub rows: Vec<[String; 5]>,
}

/// What has the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    Routes,
    #[default]
    Targets,
    Moves,
}

/// A page over the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sheet {
    pub title: String,
    pub lines: Vec<String>,
    /// How far it was moved.
    pub down: usize,
    pub right: usize,
}

/// All that the screen shows.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The admin address.
    pub name: String,
    pub now: WallTime,
    pub link: Link,
    pub head: Head,
    pub routes: Vec<Route>,
    pub targets: Vec<Target>,
    /// Targets that nobody has asked and no route names.
    pub quiet: usize,
    pub tempo: HashMap<String, Tempo>,
    /// What each target cost today.
    pub costs: HashMap<String, String>,
    pub spent: Spent,
    /// The configuration in a few words.
    pub config: String,
    /// Answers that did not come, and why.
    pub untold: HashMap<Source, String>,
    /// The newest first.
    events: Vec<Value>,
    pub moves: Vec<Move>,
    pub pane: Pane,
    picked_route: String,
    picked_target: String,
    picked_move: (String, String),
    pub sheet: Option<Sheet>,
    /// A verb that waits for yes or no.
    pub wish: Option<(Verb, String)>,
    /// What came of the last one.
    pub said: String,
}

impl Screen {
    /// Returns an empty one for the process at `name`.
    pub(super) fn of(name: &str) -> Screen {
        Screen { name: clean(name), ..Screen::default() }
    }

    /// Takes what has come, at this time.
    pub(super) fn take(&mut self, news: News, now: WallTime) {
        self.now = now;
        match news {
            News::Told(source, told) => {
                self.untold.remove(&source);
                match source {
                    Source::Status => self.take_status(&told),
                    Source::Events => self.take_events(&told),
                    Source::Decisions => self.tempo = tempo_of(&told),
                    Source::Usage => self.take_usage(&told),
                    Source::Config => self.config = config_of(&told),
                }
            }
            News::Untold(source, why) => {
                self.untold.insert(source, clean(&why));
            }
            News::Lost(why) => {
                let since = match &self.link {
                    Link::Up => now,
                    Link::Lost(since, _) => *since,
                };
                self.link = Link::Lost(since, clean(&why));
            }
            News::Said(said) => self.said = clean(&said),
            News::Sheet(title, lines) => {
                let lines = lines.iter().map(|line| clean(line)).collect();
                self.sheet = Some(Sheet { title: clean(&title), lines, ..Sheet::default() });
            }
        }
    }

    fn take_status(&mut self, told: &Value) {
        self.link = Link::Up;
        let is = |name: &str| told.get(name).and_then(Value::as_bool).unwrap_or(false);
        self.head = Head {
            version: word(told, "version"),
            state: match (is("draining"), is("ready")) {
                (true, _) => "draining",
                (false, true) => "ready",
                (false, false) => "not ready",
            },
            generation: number(told, "generation"),
            uptime: span(number(told, "uptime_s")),
            in_flight: number(told, "in_flight"),
        };
        let (routes, targets) = (list(told, "routes"), list(told, "targets"));
        self.routes = routes.iter().map(|route| route_of(route, targets)).collect();
        let named: Vec<&str> =
            routes.iter().flat_map(|route| list(route, "targets")).filter_map(Value::as_str).collect();
        self.targets = targets.iter().filter(|target| !is_quiet(target, &named)).map(target_of).collect();
        self.quiet = targets.len().saturating_sub(self.targets.len());
    }

    /// Puts what is new before what is known.
    fn take_events(&mut self, told: &Value) {
        let known: Vec<&str> = self.events.iter().map(|event| text(event, "id")).collect();
        let mut all: Vec<Value> = list(told, "events")
            .iter()
            .filter(|event| !known.contains(&text(event, "id")))
            .cloned()
            .collect();
        if all.is_empty() {
            return;
        }
        all.append(&mut self.events);
        all.truncate(EVENTS_KEPT);
        self.moves = all.iter().filter_map(move_of).take(MOVES_KEPT).collect();
        self.events = all;
    }

    fn take_usage(&mut self, told: &Value) {
        let counts = |row: &Value| {
            ["requests", "input_tokens", "output_tokens"].map(|name| grouped(number(row, name)))
        };
        let mut rows: Vec<&Value> = list(told, "rows").iter().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(number(row, "requests")));
        self.costs = rows.iter().map(|row| (word(row, "target"), cost(row))).collect();
        let line = |row: &&Value| {
            let [requests, input, output] = counts(row);
            [word(row, "target"), requests, input, output, cost(row)]
        };
        let total = told.get("total").unwrap_or(&Value::Null);
        let [requests, input, output] = counts(total);
        let failed = grouped(number(total, "failed_requests"));
        self.spent = Spent {
            total: format!(
                "{} USD, {requests} requests, {failed} failed, {input} tokens in, {output} out",
                cost(total)
            ),
            rows: rows.iter().map(line).collect(),
        };
    }

    /// Says when the configuration was read last and what came of it.
    pub(super) fn last_reload(&self) -> String {
        let kind = |event: &&Value| matches!(text(event, "event"), "reload" | "reload_failed" | "started");
        let Some(event) = self.events.iter().find(kind) else {
            return "no reload among the events that are kept".to_owned();
        };
        let at = clock_of(text(event, "at"), self.now);
        let generation = number(event, "generation");
        let told = match text(event, "event") {
            "started" => format!("not reloaded since the start at {at}"),
            "reload" => {
                let mut told = format!("last reload {at}: generation {generation}");
                let warnings = number(event, "warnings");
                if warnings > 0 {
                    // Writing into a string does not fail; here and below.
                    let _ = write!(told, ", {warnings} warning{}", if warnings == 1 { "" } else { "s" });
                }
                let waits: Vec<&str> =
                    list(event, "needs_restart").iter().filter_map(Value::as_str).collect();
                if !waits.is_empty() {
                    let _ = write!(told, "; after a restart: {}", waits.join(", "));
                }
                told
            }
            _ => {
                let faults = number(event, "faults");
                let more = if faults > 1 { format!(" (and {} more)", faults - 1) } else { String::new() };
                let fault = text(event, "fault");
                format!("✕ last reload {at} REFUSED, generation {generation} stays: {fault}{more}")
            }
        };
        clean(&told)
    }

    /// Returns the events as lines, the newest first.
    pub(super) fn event_lines(&self) -> Vec<String> {
        self.events.iter().map(crate::cli::events::event_line).collect()
    }

    /// Returns the place of what is picked in a pane: 0 where that is gone.
    pub(super) fn place(&self, pane: Pane) -> usize {
        let found = match pane {
            Pane::Routes => self.routes.iter().position(|route| route.name == self.picked_route),
            Pane::Targets => self.targets.iter().position(|target| target.id == self.picked_target),
            Pane::Moves => self.moves.iter().position(|one| key_of(one) == self.picked_move),
        };
        found.unwrap_or(0)
    }

    /// Returns how many a pane has.
    pub(super) fn count(&self, pane: Pane) -> usize {
        match pane {
            Pane::Routes => self.routes.len(),
            Pane::Targets => self.targets.len(),
            Pane::Moves => self.moves.len(),
        }
    }

    /// Picks another one in the pane that has the keys.
    pub(super) fn pick(&mut self, place: usize) {
        let place = place.min(self.count(self.pane).saturating_sub(1));
        match self.pane {
            Pane::Routes => {
                self.picked_route =
                    self.routes.get(place).map(|route| route.name.clone()).unwrap_or_default();
            }
            Pane::Targets => {
                self.picked_target =
                    self.targets.get(place).map(|target| target.id.clone()).unwrap_or_default();
            }
            // The first one follows what comes; another one stays.
            Pane::Moves => {
                let one = self.moves.get(place).filter(|_| place > 0);
                self.picked_move = one.map(key_of).unwrap_or_default();
            }
        }
    }

    /// Returns the target that is picked.
    pub(super) fn target(&self) -> Option<&Target> {
        self.targets.get(self.place(Pane::Targets))
    }

    /// Returns the failover that is picked.
    pub(super) fn failover(&self) -> Option<&Move> {
        self.moves.get(self.place(Pane::Moves))
    }

    /// Returns the route that is picked.
    pub(super) fn route(&self) -> Option<&Route> {
        self.routes.get(self.place(Pane::Routes))
    }
}

impl Target {
    /// Says why it stands so and until when, in one phrase.
    pub(super) fn standing(&self) -> String {
        let mut told = self.why.clone();
        for (before, what) in [(" until ", &self.until), (", ", &self.left)] {
            if let Some(what) = what {
                told += if told.is_empty() { before.trim_start_matches([',', ' ']) } else { before };
                told += what;
            }
        }
        if !self.pinned.is_empty() {
            let routes = self.pinned.join(", ");
            let before = if told.is_empty() { "" } else { "; " };
            let _ = write!(told, "{before}pinned first on {routes}");
        }
        told
    }
}

/// The same failover again: two requests may share a second.
fn key_of(one: &Move) -> (String, String) {
    (one.at.clone(), one.request_id.clone())
}

fn route_of(route: &Value, targets: &[Value]) -> Route {
    let pinned = text(route, "pinned");
    let now = route.get("target").and_then(Value::as_str).map(clean);
    let why = match now.as_deref() {
        Some(now) if now == pinned => "pinned here by an operator".to_owned(),
        Some(_) | None => why_not_first(route, targets).replace('_', " "),
    };
    let ids = list(route, "targets").iter().filter_map(Value::as_str).map(clean).collect();
    Route { name: word(route, "name"), now, why: clean(&why), targets: ids }
}

fn target_of(target: &Value) -> Target {
    let count = |name: &str| target.get("counts").map_or(0, |counts| number(counts, name));
    let mean = target.pointer("/counts/average_ms").and_then(Value::as_f64);
    let until = target.get("until").and_then(Value::as_str);
    let left = target.get("retry_in_s").and_then(Value::as_f64);
    let words = |name: &str| list(target, name).iter().filter_map(Value::as_str).map(clean).collect();
    Target {
        id: word(target, "id"),
        state: word(target, "state"),
        why: why_of(target),
        until: until.map(|at| clean(at.get(11..19).unwrap_or(at))),
        // A float of seconds becomes whole ones; what is no number becomes 0.
        left: left.map(|left| {
            let whole = std::time::Duration::try_from_secs_f64(left.max(0.0)).unwrap_or_default();
            format!("{} left", span(whole.as_secs()))
        }),
        breaker: word(target, "breaker"),
        in_flight: number(target, "in_flight"),
        ok: count("ok"),
        failed: count("failed"),
        mean_ms: mean.filter(|_| count("ok") > 0),
        endpoint: word(target, "endpoint"),
        routes: words("routes"),
        pinned: list(target, "pinned").iter().map(|pin| word(pin, "route")).collect(),
    }
}

/// Why it is not ready; where it is, what it failed with last.
fn why_of(target: &Value) -> String {
    let (state, reason) = (text(target, "state"), text(target, "reason"));
    let last = target.get("last_error").filter(|last| last.is_object());
    let told = match (state, reason, last) {
        ("ready", _, Some(last)) => {
            let status = last.get("status").and_then(Value::as_u64).map(|status| format!(" {status}"));
            let at = text(last, "at").get(11..19).unwrap_or_default();
            format!("last {}{} at {at}", text(last, "outcome"), status.unwrap_or_default())
        }
        ("drained" | "disabled", _, _) => "by an operator".to_owned(),
        (_, reason, _) if reason == state => String::new(),
        (_, reason, _) => reason.to_owned(),
    };
    clean(&told.replace('_', " "))
}

fn move_of(event: &Value) -> Option<Move> {
    let (way, reason) = match text(event, "event") {
        "failover" => (Some((word(event, "from"), word(event, "to"))), text(event, "reason").to_owned()),
        "rescue" => (None, format!("a stream broke, rescue: {}", text(event, "result"))),
        _ => return None,
    };
    Some(Move {
        at: word(event, "at"),
        route: event.get("route").and_then(Value::as_str).map_or_else(|| "(no route)".to_owned(), clean),
        way,
        reason: clean(&reason.replace('_', " ")),
        request_id: word(event, "request_id"),
        requests: number(event, "requests").max(1),
    })
}

/// The last attempts at each target, from decisions, the newest of which come first.
fn tempo_of(told: &Value) -> HashMap<String, Tempo> {
    let mut all: HashMap<String, Tempo> = HashMap::new();
    for attempt in list(told, "decisions").iter().flat_map(|decision| list(decision, "attempts")) {
        let tempo = all.entry(word(attempt, "target")).or_default();
        // A client that left and a race that another one won say nothing of a target.
        if !matches!(text(attempt, "outcome"), "client_gone" | "called_off") {
            tempo.last.push(attempt.get("ttfc_ms").and_then(Value::as_u64));
        }
    }
    for tempo in all.values_mut() {
        let mut came: Vec<u64> = tempo.last.iter().flatten().copied().collect();
        came.sort_unstable();
        tempo.median_ms = came.get(came.len().saturating_sub(1) / 2).copied();
        tempo.last.truncate(BARS);
        tempo.last.reverse();
    }
    all
}

fn config_of(told: &Value) -> String {
    let count = |name: &str, what: &str| {
        let count = list(told, name).len();
        format!("{count} {what}{}", if count == 1 { "" } else { "s" })
    };
    let credentials: usize =
        list(told, "providers").iter().map(|provider| list(provider, "credentials").len()).sum();
    let default = told.get("default_route").and_then(Value::as_str);
    clean(&format!(
        "generation {}: {}, {}, {credentials} credential{}, {}, default route {}",
        number(told, "generation"),
        count("routes", "route"),
        count("providers", "provider"),
        if credentials == 1 { "" } else { "s" },
        count("clients", "client"),
        default.unwrap_or("none"),
    ))
}

/// A time of today as the clock says it, another one with its month and day.
pub(super) fn clock_of(at: &str, now: WallTime) -> String {
    let today = rfc3339(now);
    let (day, clock) = (at.get(..10).unwrap_or_default(), at.get(11..19).unwrap_or(at));
    // The year is known to whoever looks at a live screen.
    let month_and_day = day.get(5..).unwrap_or(day);
    if today.starts_with(day) { clean(clock) } else { clean(&format!("{month_and_day} {clock}")) }
}

fn word(value: &Value, name: &str) -> String {
    clean(text(value, name))
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// Leaves out what a terminal would obey.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
