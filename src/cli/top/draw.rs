//! How does the screen look?
//!
//! What is known in, a buffer of cells out; pure, so that the goldens in `tests/golden/top` are the
//! screen itself. Lists stand one above the other, each with a rule and its name: names can be copied, and
//! nothing moves sideways.
//!
//! Compact under [`WIDE`] columns or [`TALL`] rows (opencode-balancer's limits): five failovers instead of
//! ten, usage and configuration a line each. From [`BROAD`] columns on the counts and the cost of each
//! target have columns of their own, from [`BARRED`] on its last attempts too.
//!
//! **Nothing is said by colour alone.** A state is a sign, a word and then a colour; what is picked has a
//! mark and is shown in reverse. Where `NO_COLOR` is set there are no colours.

use super::keys::meaning;
use super::model::{BARS, Link, Move, Pane, Screen, Sheet, Source, Target, Tempo, clock_of};
use crate::cli::status::span;
use crate::cli::table::{Tint, tint_of_state};
use crate::cli::why::shortened;
use crate::observe::rfc3339;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// Fewer columns are compact.
const WIDE: u16 = 100;
/// Fewer rows are compact.
const TALL: u16 = 26;
/// From so many columns on there are counts and cost.
const BROAD: u16 = 130;
/// From so many on the last attempts as bars.
const BARRED: u16 = 155;
/// Failovers that are shown in a small and in a large terminal.
const MOVES: (u16, u16) = (5, 10);
/// Routes that are shown before they scroll.
const ROUTES: (u16, u16) = (3, 8);
/// Rows of usage in a large terminal.
const SPENT: u16 = 5;
/// Width of a state: sign, space, the longest word.
const STATE: u16 = 13;

/// What stands at the foot of the screen, and what follows where there is room.
const FOOT: [&str; 2] =
    [" ? keys  q leave  ↵ pin  d drain  e ready  r reset  x disable  w why", "  p routes  u c v i more"];

/// Whether there are colours.
#[derive(Clone, Copy)]
pub(super) struct Brush {
    has_colours: bool,
}

impl Brush {
    pub(super) fn new(has_colours: bool) -> Brush {
        Brush { has_colours }
    }

    fn of(self, tint: Option<Tint>) -> Style {
        let colour = match tint {
            Some(Tint::Good) => Color::Green,
            Some(Tint::Uneasy) => Color::Yellow,
            Some(Tint::Bad) => Color::Red,
            Some(Tint::Heading) => return Style::new().add_modifier(Modifier::BOLD),
            None => return Style::new(),
        };
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Where the next line goes.
struct Page<'a> {
    buffer: &'a mut Buffer,
    brush: Brush,
    area: Rect,
}

/// A column of a list.
struct Column {
    head: &'static str,
    width: u16,
    is_number: bool,
}

fn column(head: &'static str, width: u16) -> Column {
    Column { head, width, is_number: false }
}

fn numbers(head: &'static str, width: u16) -> Column {
    Column { head, width, is_number: true }
}

/// Draws the whole screen.
pub(super) fn draw(screen: &Screen, brush: Brush, area: Rect, buffer: &mut Buffer) {
    let is_compact = area.width < WIDE || area.height < TALL;
    let mut page = Page { buffer, brush, area };
    let foot = page.take_last(1);
    let [routes, moves, rows] = heights(screen, area, is_compact);
    let head = page.take(1 + u16::from(screen.link != Link::Up));
    page.head(screen, head);
    if let Some(sheet) = &screen.sheet {
        page.sheet(sheet);
    } else {
        let config = page.take_last(if is_compact { 1 } else { 2 });
        let spent = page.take_last(1 + rows);
        let moved = page.take_last(1 + moves);
        let routed = page.take(1 + routes);
        page.routes(screen, routed);
        page.targets(screen, is_compact);
        page.moves(screen, moved);
        page.spent(screen, spent);
        page.config(screen, config, is_compact);
    }
    page.foot(screen, foot);
}

/// Returns the rows of routes, failovers and usage, without their heads. Targets get what is left.
fn heights(screen: &Screen, area: Rect, is_compact: bool) -> [u16; 3] {
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let (moves, routes) = if is_compact { (MOVES.0, ROUTES.0) } else { (MOVES.1, ROUTES.1) };
    let routes = rows(screen.routes.len()).clamp(1, routes.min((area.height / 6).max(1)));
    let moves = moves.min((area.height / 4).max(1));
    let spent = if is_compact { 0 } else { rows(screen.spent.rows.len()).min(SPENT.min(area.height / 10)) };
    [routes, moves, spent]
}

impl Page<'_> {
    /// Takes rows from the top.
    fn take(&mut self, rows: u16) -> Rect {
        let rows = rows.min(self.area.height);
        let taken = Rect { height: rows, ..self.area };
        self.area.y += rows;
        self.area.height -= rows;
        taken
    }

    /// Takes rows from the bottom.
    fn take_last(&mut self, rows: u16) -> Rect {
        let rows = rows.min(self.area.height);
        self.area.height -= rows;
        Rect { y: self.area.bottom(), height: rows, ..self.area }
    }

    /// Writes a text into some columns of a row; what does not fit is cut, and says so.
    fn put(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) {
        if width == 0 || !self.buffer.area.contains(Position { x, y }) {
            return;
        }
        let text = fitted(text, width.into());
        self.buffer.set_stringn(x, y, text, width.into(), style);
    }

    /// Writes the name of a list over a rule; the one that has the keys is marked.
    fn rule(&mut self, area: Rect, name: &str, has_keys: bool) {
        let mark = if has_keys { "▸" } else { " " };
        let name = fitted(name, usize::from(area.width).saturating_sub(4));
        let line = format!("──{mark}{name} ");
        let line = format!("{line}{}", "─".repeat(area.width.saturating_sub(columns(&line)).into()));
        let style = if has_keys { self.brush.of(Some(Tint::Heading)) } else { Style::new() };
        self.put(area.x, area.y, area.width, &line, style);
    }

    fn head(&mut self, screen: &Screen, area: Rect) {
        let head = &screen.head;
        let (sign, tint) = match (&screen.link, head.state) {
            (Link::Lost(..), _) => ("?", Tint::Bad),
            (Link::Up, "ready") => ("●", Tint::Good),
            (Link::Up, "draining") => ("▽", Tint::Uneasy),
            (Link::Up, _) => ("✕", Tint::Bad),
        };
        let before = format!(" pointsman {}  ", head.version);
        let state = format!("{sign} {}", head.state);
        let at = clock_of(&rfc3339(screen.now), screen.now);
        let after =
            format!("  generation {}  up {}  in flight {}", head.generation, head.uptime, head.in_flight);
        let right = format!("{}  {at} UTC ", screen.name);
        let mut x = area.x;
        let heading = self.brush.of(Some(Tint::Heading));
        for (text, style) in [(before, heading), (state, self.brush.of(Some(tint))), (after, Style::new())] {
            let width = columns(&text);
            self.put(x, area.y, width.min(area.right().saturating_sub(x)), &text, style);
            x = x.saturating_add(width);
        }
        let width = columns(&right);
        if x + 2 + width <= area.right() {
            self.put(area.right() - width, area.y, width, &right, Style::new());
        }
        if let Link::Lost(since, why) = &screen.link {
            let for_ms = u64::try_from(screen.now.0.saturating_sub(since.0)).unwrap_or(0);
            let since = clock_of(&rfc3339(*since), screen.now);
            let text = format!(
                " ✕ no answer since {since} ({}): {why}; below is what was before",
                span(for_ms / 1000)
            );
            let style = self.brush.of(Some(Tint::Bad)).add_modifier(Modifier::BOLD);
            self.put(area.x, area.y + 1, area.width, &text, style);
        }
    }

    fn routes(&mut self, screen: &Screen, area: Rect) {
        let has_keys = screen.pane == Pane::Routes;
        self.rule(area, &format!("Routes {}", screen.routes.len()), has_keys);
        if screen.routes.is_empty() {
            self.put(
                area.x + 2,
                area.y + 1,
                area.width,
                "none of the file's own; clients name provider/model",
                Style::new(),
            );
        }
        let widest =
            |all: &mut dyn Iterator<Item = &str>, most: u16| all.map(columns).max().unwrap_or(0).min(most);
        let name = widest(&mut screen.routes.iter().map(|route| &*route.name), area.width / 4);
        let now =
            widest(&mut screen.routes.iter().filter_map(|route| route.now.as_deref()), area.width * 2 / 5);
        for (y, place) in rows(area, screen.routes.len(), screen.place(Pane::Routes)) {
            let Some(route) = screen.routes.get(place) else { continue };
            let is_picked = has_keys && place == screen.place(Pane::Routes);
            let style = self.mark(area, y, is_picked);
            let x = area.x + 2;
            self.put(x, y, name, &route.name, style);
            let target =
                route.now.as_ref().and_then(|id| screen.targets.iter().find(|target| target.id == *id));
            let (sign, tint) = match (&route.now, target) {
                (None, _) => ("✕", Some(Tint::Bad)),
                (Some(_), Some(target)) => (sign_of(&target.state), tint_of_state(&target.state)),
                (Some(_), None) => ("●", Some(Tint::Good)),
            };
            let x = x + name + 2;
            self.put(x, y, 1, sign, self.brush.of(tint).patch(style));
            let id = shortened(route.now.as_deref().unwrap_or("nobody"), now.max(6).into());
            self.put(x + 2, y, now.max(6), &id, style);
            let x = x + 2 + now.max(6) + 2;
            self.put(x, y, area.right().saturating_sub(x), &route.why, style);
        }
    }

    fn targets(&mut self, screen: &Screen, is_compact: bool) {
        let area = self.area;
        let has_keys = screen.pane == Pane::Targets;
        let ready = screen.targets.iter().filter(|target| target.state == "ready").count();
        let quiet = match screen.quiet {
            0 => String::new(),
            quiet => format!(", and {quiet} ready that nobody has asked"),
        };
        self.rule(area, &format!("Targets {ready} of {} ready{quiet}", screen.targets.len()), has_keys);
        let detail = if is_compact { 1 } else { 2 };
        if area.height < 3 + detail {
            return;
        }
        let ids = screen.targets.iter().map(|target| columns(&target.id)).max().unwrap_or(0);
        let cells = layout(area.width, ids);
        let heads: Vec<String> = cells.iter().map(|column| column.head.to_owned()).collect();
        let bold = self.brush.of(Some(Tint::Heading));
        self.row(Rect { y: area.y + 1, ..area }, &cells, &heads, bold, None);
        let list = Rect { y: area.y + 1, height: area.height - 1 - detail, ..area };
        for (y, place) in rows(list, screen.targets.len(), screen.place(Pane::Targets)) {
            let Some(target) = screen.targets.get(place) else { continue };
            let style = self.mark(area, y, has_keys && place == screen.place(Pane::Targets));
            let texts: Vec<String> =
                cells.iter().map(|column| cell(screen, target, column, is_compact)).collect();
            self.row(Rect { y, ..area }, &cells, &texts, style, tint_of_state(&target.state));
        }
        if let Some(target) = screen.target() {
            for (at, line) in details(screen, target, is_compact).iter().enumerate() {
                let y = area.bottom() - detail + u16::try_from(at).unwrap_or(0);
                self.put(area.x, y, area.width, line, Style::new());
            }
        }
    }

    fn row(&mut self, area: Rect, cells: &[Column], texts: &[String], style: Style, tint: Option<Tint>) {
        let mut x = area.x + 2;
        for (column, text) in cells.iter().zip(texts) {
            let width = column.width.min(area.right().saturating_sub(x));
            let style = if column.head == "STATE" { self.brush.of(tint).patch(style) } else { style };
            let text = match column.head {
                "TARGET" => shortened(text, usize::from(width).max(2)),
                _ => fitted(text, width.into()),
            };
            let indent = if column.is_number { width.saturating_sub(columns(&text)) } else { 0 };
            self.put(x + indent, area.y, width - indent, &text, style);
            x = x.saturating_add(column.width + 2);
        }
    }

    fn moves(&mut self, screen: &Screen, area: Rect) {
        let has_keys = screen.pane == Pane::Moves;
        let hint = if has_keys { ", Enter says why" } else { "" };
        let untold = untold(screen, Source::Events);
        self.rule(area, &format!("Failovers {}{hint}{untold}", screen.moves.len()), has_keys);
        if screen.moves.is_empty() && untold.is_empty() {
            let none = "none is known: no request has had to change its target";
            self.put(area.x + 2, area.y + 1, area.width.saturating_sub(2), none, Style::new());
        }
        for (y, place) in rows(area, screen.moves.len(), screen.place(Pane::Moves)) {
            let Some(one) = screen.moves.get(place) else { continue };
            let style = self.mark(area, y, has_keys && place == screen.place(Pane::Moves));
            let line = line_of(one, screen, area.width.saturating_sub(2));
            self.put(area.x + 2, y, area.width.saturating_sub(2), &line, style);
        }
    }

    fn spent(&mut self, screen: &Screen, area: Rect) {
        let told = match untold(screen, Source::Usage) {
            why if why.is_empty() => screen.spent.total.clone(),
            why => why,
        };
        self.rule(area, &format!("Today {told}"), false);
        let cells = [
            column("", area.width.saturating_sub(50).min(60)),
            numbers("", 9),
            numbers("", 12),
            numbers("", 12),
            numbers("", 9),
        ];
        for (row, y) in screen.spent.rows.iter().zip(area.y + 1..area.bottom()) {
            let [target, requests, input, output, cost] = row.clone();
            let texts = [target, requests, format!("{input} in"), format!("{output} out"), cost];
            self.row(Rect { y, ..area }, &cells, &texts, Style::new(), None);
        }
    }

    fn config(&mut self, screen: &Screen, area: Rect, is_compact: bool) {
        let told = match untold(screen, Source::Config) {
            why if why.is_empty() => screen.config.clone(),
            why => why,
        };
        let reload = screen.last_reload();
        let style = if reload.starts_with('✕') { self.brush.of(Some(Tint::Bad)) } else { Style::new() };
        if is_compact {
            // The rule would cut what matters; the generation stands in the head.
            self.put(area.x, area.y, area.width, &format!(" Configuration: {reload}"), style);
        } else {
            self.rule(area, &format!("Configuration {told}"), false);
            self.put(area.x + 2, area.y + 1, area.width.saturating_sub(2), &reload, style);
        }
    }

    fn sheet(&mut self, sheet: &Sheet) {
        let area = self.area;
        self.rule(area, &format!("{} (Esc closes, arrows move)", sheet.title), true);
        for (line, y) in sheet.lines.iter().skip(sheet.down).zip(area.y + 1..area.bottom()) {
            let line: String = line.chars().skip(sheet.right).collect();
            self.put(area.x + 1, y, area.width.saturating_sub(1), &line, Style::new());
        }
    }

    /// The question that waits, else what came of the last, else the keys.
    fn foot(&mut self, screen: &Screen, area: Rect) {
        let (text, style) = match (&screen.wish, &*screen.said) {
            (Some((verb, id)), _) => {
                let most = usize::from(area.width).saturating_sub(28).max(12);
                let id = shortened(id, most);
                (
                    format!(" {} {id}? [y/n]  {}", verb.as_label(), meaning(*verb)),
                    Style::new().add_modifier(Modifier::REVERSED),
                )
            }
            (None, "") => {
                let [first, more] = FOOT;
                let more = if area.width < WIDE { "" } else { more };
                (format!("{first}{more}"), Style::new())
            }
            (None, said) => (format!(" {said}"), self.brush.of(Some(Tint::Heading))),
        };
        self.put(area.x, area.y, area.width, &text, style);
    }

    /// Marks a row that is picked, and returns how it is written.
    fn mark(&mut self, area: Rect, y: u16, is_picked: bool) -> Style {
        if !is_picked {
            return Style::new();
        }
        let style = Style::new().add_modifier(Modifier::REVERSED);
        self.buffer.set_style(Rect { y, height: 1, ..area }, style);
        self.put(area.x, y, 1, ">", style);
        style
    }
}

/// The rows below the rule of an area, with the place of what stands there, so that what is picked is seen.
fn rows(area: Rect, count: usize, picked: usize) -> impl Iterator<Item = (u16, usize)> {
    let visible = usize::from(area.height.saturating_sub(1));
    let first = (picked + 1).saturating_sub(visible);
    (area.y + 1..area.bottom()).zip(first..count)
}

/// The columns of targets: the reason gets what the others leave.
fn layout(width: u16, ids: u16) -> Vec<Column> {
    let is_broad = width >= BROAD;
    let id = ids.max(8).min(if width < WIDE { 24 } else { width * 3 / 10 });
    let mut after = vec![numbers("CONTENT", 7), numbers("NOW", 3)];
    if is_broad {
        after = vec![
            numbers("CONTENT", 8),
            numbers("OK", 8),
            numbers("FAILED", 7),
            numbers("NOW", 4),
            numbers("USD TODAY", 9),
        ];
    }
    if width >= BARRED {
        after.insert(1, column("LAST ATTEMPTS", u16::try_from(BARS).unwrap_or(0)));
    }
    let taken = 2 + id + 2 + STATE + 2 + after.iter().map(|column| column.width + 2).sum::<u16>();
    let mut all =
        vec![column("TARGET", id), column("STATE", STATE), column("WHY, UNTIL", width.saturating_sub(taken))];
    all.append(&mut after);
    all
}

fn cell(screen: &Screen, target: &Target, column: &Column, is_compact: bool) -> String {
    let none = Tempo::default();
    let tempo = screen.tempo.get(&target.id).unwrap_or(&none);
    match column.head {
        "TARGET" => target.id.clone(),
        "STATE" => format!("{} {}", sign_of(&target.state), target.state.replace('_', " ")),
        // What is left of the time counts most where there is little room; the line below has it whole.
        "WHY, UNTIL" if is_compact && target.left.is_some() => {
            let why = if target.why.is_empty() { String::new() } else { format!(", {}", target.why) };
            format!("{}{why}", target.left.as_deref().unwrap_or_default())
        }
        "WHY, UNTIL" => target.standing(),
        "CONTENT" => tempo.median_ms.map_or_else(|| "-".to_owned(), milliseconds),
        "LAST ATTEMPTS" => bars(tempo),
        "OK" => target.ok.to_string(),
        "FAILED" => target.failed.to_string(),
        "NOW" => target.in_flight.to_string(),
        _ => screen.costs.get(&target.id).cloned().unwrap_or_else(|| "-".to_owned()),
    }
}

/// All of what is picked, in a line or two.
fn details(screen: &Screen, target: &Target, is_compact: bool) -> Vec<String> {
    let state = target.state.replace('_', " ");
    let standing = target.standing();
    let standing = if standing.is_empty() { String::new() } else { format!(": {standing}") };
    let cost = screen.costs.get(&target.id).map_or("0", |cost| cost);
    let counts = format!("ok {}, failed {}, {cost} USD today", target.ok, target.failed);
    let breaker = target.breaker.replace('_', " ");
    if is_compact {
        return vec![format!("  {state}{standing}; breaker {breaker}; {counts}")];
    }
    let mean = target.mean_ms.map_or_else(String::new, |ms| format!(", {ms:.0} ms in the mean"));
    let routes = if target.routes.is_empty() { "no route".to_owned() } else { target.routes.join(", ") };
    vec![
        format!("  {}  {state}{standing}", target.id),
        format!("  breaker {breaker}, {counts}{mean}; on {routes}; {}", target.endpoint),
    ]
}

/// A failover in one line: names give way, in their middle, before anything is cut.
fn line_of(one: &Move, screen: &Screen, width: u16) -> String {
    let crowd = if one.requests > 1 { format!("  x{}", one.requests) } else { String::new() };
    let before = format!("{}  {}{crowd}  {}  ", clock_of(&one.at, screen.now), one.reason, one.route);
    let Some((from, to)) = &one.way else { return before.trim_end().to_owned() };
    let arrow = " → ";
    let left = width.saturating_sub(columns(&before)).saturating_sub(columns(arrow));
    let half = left / 2;
    let (first, second) = (columns(from).min(half.max(left.saturating_sub(columns(to)))), columns(to));
    let first_id = shortened(from, usize::from(first.max(8)));
    let second_id = shortened(to, usize::from(second.min(left.saturating_sub(first)).max(8)));
    format!("{before}{first_id}{arrow}{second_id}")
}

/// Why an answer did not come, as the end of a name.
fn untold(screen: &Screen, source: Source) -> String {
    screen.untold.get(&source).map_or_else(String::new, |why| format!(" ✕ not told: {why}"))
}

/// A sign by its shape, as the page in the browser has it.
fn sign_of(state: &str) -> &'static str {
    match state {
        "ready" => "●",
        "half_open" => "◐",
        "cooling" => "◔",
        "open" => "■",
        "auth_failed" | "quota_spent" => "✕",
        "drained" => "▽",
        "disabled" => "⊘",
        _ => "?",
    }
}

/// The last attempts, the newest to the right: the higher the slower, a cross where no content came.
fn bars(tempo: &Tempo) -> String {
    const SIGNS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = tempo.last.iter().flatten().max().copied().unwrap_or(0).max(1);
    let sign = |ms: u64| {
        let step = usize::try_from(ms.saturating_mul(7) / most).unwrap_or(0);
        SIGNS.get(step).copied().unwrap_or('█')
    };
    tempo.last.iter().map(|came| came.map_or('×', sign)).collect()
}

fn milliseconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        _ => format!("{} s", ms / 1000),
    }
}

/// Cuts a text to so many columns, and says so.
fn fitted(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let (mut kept, mut taken) = (String::new(), 0);
    for letter in text.chars() {
        let wide = Span::raw(letter.to_string()).width();
        if taken + wide > width.saturating_sub(1) {
            break;
        }
        taken += wide;
        kept.push(letter);
    }
    kept.push('…');
    kept
}

fn columns(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}
