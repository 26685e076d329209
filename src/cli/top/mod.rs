//! `pointsman top`: the page of `/ui` in a terminal, with the keys to act.
//!
//! | room | its part |
//! |---|---|
//! | `model` | the admin plane's answers to what is shown; pure |
//! | `keys` | a key to a change of the screen or a thing to do; pure |
//! | `draw` | the screen to a buffer of cells; pure |
//! | here | the terminal, the clock, and who asks the process |
//!
//! A thread of its own asks, because an answer may take [`PATIENCE`] and keys may not: status and
//! events every [`BEAT`], the rest (decisions for the time to first content, usage, configuration) every
//! fifth time, a verb or a page at once. A process that does not answer any more is said on the screen
//! and asked again; one that never answered is exit 69, as with `status`.
//!
//! The terminal is given back as it was however this ends: by a key, TERM, HUP (its window is gone)
//! or INT, a fault of the terminal, and a panic, whose message is then readable.

mod draw;
mod keys;
mod model;
#[cfg(test)]
mod tests;

use super::ask::{Desk, Fault, PATIENCE, Whom, escaped};
use super::status::{list, text};
use super::table::{has_colours, is_terminal};
use super::target::plain;
use super::usage::usage_text;
use super::why::why_text;
use super::{Exit, complain, say};
use crate::admin::view::Verb;
use crate::clock::Clock;
use crate::server::Keeper;
use keys::{Deed, Page, press};
use model::{News, Screen, Source};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::{cursor, execute, terminal};
use serde_json::{Map, Value};
use std::io::{self, Stdout};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Time between two looks at the process.
const BEAT: Duration = Duration::from_secs(1);
/// So many beats between two looks at what moves slowly or is long.
const SLOW: u64 = 5;
/// How long a key may wait to be seen.
const BLINK: Duration = Duration::from_millis(50);
/// What is asked for every beat.
const OFTEN: [Source; 2] = [Source::Status, Source::Events];
/// What is asked for every fifth.
const SELDOM: [Source; 3] = [Source::Decisions, Source::Usage, Source::Config];

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    whom: Whom,
    /// Print what would be shown, once, as JSON.
    #[arg(long)]
    json: bool,
}

/// What the thread that asks is told.
enum Order {
    Act(Verb, String),
    Ask(Page),
}

/// What the loop hears.
enum Heard {
    /// The admin address, and that somebody is there.
    Found(String),
    /// Nobody is, or not somebody who tells us.
    Failed(Fault),
    News(News),
    /// A signal.
    Leave,
}

pub(super) fn top(keeper: Keeper, arguments: Arguments) -> Exit {
    if arguments.json {
        return print(&keeper, &arguments.whom).map_or_else(|fault| fault.tell(), |()| Exit::Done);
    }
    if !is_terminal() {
        complain("top wants a terminal; pointsman status says the same once, pointsman top --json all of it");
        return Exit::Usage;
    }
    let (tell, heard) = mpsc::channel();
    let (order, orders) = mpsc::channel();
    let signals = tell.clone();
    thread::spawn(move || watch_signals(&signals));
    thread::spawn(move || ask(&keeper, &arguments.whom, &orders, &tell));
    let name = match heard.recv() {
        Ok(Heard::Found(name)) => name,
        Ok(Heard::Failed(fault)) => return fault.tell(),
        Ok(Heard::News(_) | Heard::Leave) | Err(_) => return Exit::Done,
    };
    match show(&name, &heard, &order) {
        Ok(()) => Exit::Done,
        Err(fault) => {
            complain(&format!("the terminal cannot be used: {fault}"));
            Exit::System
        }
    }
}

/// Prints all that the screen is made of.
fn print(keeper: &Keeper, whom: &Whom) -> Result<(), Fault> {
    let desk = Desk::find(keeper, whom)?;
    let mut all = Map::new();
    for source in OFTEN.into_iter().chain(SELDOM) {
        all.insert(source.as_label().to_owned(), desk.get(source.path(true))?);
    }
    say(&Value::Object(all).to_string());
    Ok(())
}

/// Draws and listens to keys until somebody leaves.
fn show(name: &str, heard: &Receiver<Heard>, order: &Sender<Order>) -> io::Result<()> {
    let clock = Clock::new();
    let mut screen = Screen::of(name);
    screen.now = clock.wall();
    let brush = draw::Brush::new(has_colours());
    let mut stage = Stage::open()?;
    loop {
        stage.terminal.draw(|frame| draw::draw(&screen, brush, frame.area(), frame.buffer_mut()))?;
        if event::poll(BLINK)?
            && let Event::Key(key) = event::read()?
        {
            let wanted = match press(&mut screen, key) {
                Deed::Nothing => None,
                Deed::Leave => return Ok(()),
                Deed::Act(verb, id) => Some(Order::Act(verb, id)),
                Deed::Ask(page) => Some(Order::Ask(page)),
            };
            if wanted.is_some_and(|wanted| order.send(wanted).is_err()) {
                return Ok(());
            }
        }
        loop {
            match heard.try_recv() {
                Ok(Heard::News(news)) => screen.take(news, clock.wall()),
                Ok(Heard::Found(_) | Heard::Failed(_)) => {}
                Err(TryRecvError::Empty) => break,
                Ok(Heard::Leave) | Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        screen.now = clock.wall();
    }
}

/// The terminal while it is ours.
struct Stage {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Stage {
    fn open() -> io::Result<Stage> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                usual(panic);
            }));
        });
        terminal::enable_raw_mode()?;
        let opened = execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        // From here on dropping it gives the terminal back.
        opened.map(|terminal| Stage { terminal }).inspect_err(|_| give_back())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was; what cannot be done of it is left.
fn give_back() {
    let _ = execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
}

/// Waits for a signal that wants us to leave.
fn watch_signals(tell: &Sender<Heard>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let _ = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
        io::Result::Ok(())
    });
    // Nobody to tell: the loop has ended already.
    let _ = tell.send(Heard::Leave);
}

/// Asks the process, until nobody listens any more.
fn ask(keeper: &Keeper, whom: &Whom, orders: &Receiver<Order>, tell: &Sender<Heard>) {
    let found = Desk::find(keeper, whom).and_then(|desk| desk.get(Source::Status.path(true)).map(|_| desk));
    let desk = match found {
        Ok(desk) => desk,
        Err(fault) => {
            let _ = tell.send(Heard::Failed(fault));
            return;
        }
    };
    if tell.send(Heard::Found(desk.name.clone())).is_err() {
        return;
    }
    for beat in 0_u64.. {
        let seldom = if beat.is_multiple_of(SLOW) { &SELDOM[..] } else { &[] };
        for source in OFTEN.iter().chain(seldom) {
            let news = match desk.get(source.path(beat == 0)) {
                Ok(told) => News::Told(*source, told),
                Err(fault) if *source == Source::Status => News::Lost(fault.lines.join("; ")),
                Err(fault) => News::Untold(*source, fault.lines.join("; ")),
            };
            let is_lost = matches!(news, News::Lost(_));
            if tell.send(Heard::News(news)).is_err() {
                return;
            }
            if is_lost {
                break;
            }
        }
        let news = match orders.recv_timeout(BEAT) {
            Ok(Order::Act(verb, id)) => act(&desk, verb, &id),
            Ok(Order::Ask(page)) => fetch(&desk, &page),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if tell.send(Heard::News(news)).is_err() {
            return;
        }
    }
}

/// Carries a verb out and says what came of it.
fn act(desk: &Desk<'_>, verb: Verb, id: &str) -> News {
    let word = verb.as_label();
    match desk.post(&format!("/v1/targets/{}:{word}", escaped(id)), None, PATIENCE) {
        Ok(target) => {
            let count = target.get("in_flight").and_then(Value::as_u64).unwrap_or(0);
            let under_way = if count == 0 { String::new() } else { format!(", {count} under way") };
            let pins: Vec<&str> = list(&target, "pinned").iter().map(|pin| text(pin, "route")).collect();
            let pinned =
                if pins.is_empty() { String::new() } else { format!(", first on {}", pins.join(", ")) };
            let state = text(&target, "state").replace('_', " ");
            News::Said(format!("{word} {id}: {state}{under_way}{pinned}"))
        }
        Err(fault) => News::Said(format!("✕ {word} {id}: {}", fault.lines.join("; "))),
    }
}

/// Fetches a page.
fn fetch(desk: &Desk<'_>, page: &Page) -> News {
    let (title, path) = match page {
        Page::Why(id) => (format!("Why request {id} went there"), format!("/v1/decisions/{}", escaped(id))),
        Page::Usage => ("Usage today".to_owned(), "/v1/usage?by=route,client".to_owned()),
        Page::Config => ("Configuration in force; * is not the default".to_owned(), "/v1/config".to_owned()),
        Page::Target(id) => (format!("Target {id}"), format!("/v1/targets/{}", escaped(id))),
    };
    let told = match desk.get(&path) {
        Ok(told) => told,
        Err(fault) => return News::Said(format!("✕ {}", fault.lines.join("; "))),
    };
    let page = match page {
        Page::Why(_) => why_text(&told),
        Page::Usage => usage_text(&told),
        Page::Config => settings(&told),
        Page::Target(_) => plain(&told),
    };
    News::Sheet(title, page.lines().map(str::to_owned).collect())
}

/// Every setting with its value: those that somebody chose are marked, and come first.
fn settings(told: &Value) -> String {
    let all = told.get("settings").and_then(Value::as_object);
    let Some(all) = all.filter(|all| !all.is_empty()) else { return plain(told) };
    let line = |(path, setting): (&String, &Value)| {
        let (value, default) = (text(setting, "value"), text(setting, "default"));
        let mark = if value == default { " " } else { "*" };
        (mark == " ", format!("{mark} {path}: {value}"))
    };
    let mut lines: Vec<(bool, String)> = all.iter().map(line).collect();
    lines.sort_by_key(|(is_default, _)| *is_default);
    lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

impl Source {
    fn as_label(self) -> &'static str {
        match self {
            Source::Status => "status",
            Source::Events => "events",
            Source::Decisions => "decisions",
            Source::Usage => "usage",
            Source::Config => "config",
        }
    }

    /// Returns where it is asked for; the first time more is wanted of some.
    fn path(self, is_first: bool) -> &'static str {
        match self {
            Source::Status => "/v1/status",
            Source::Events if is_first => "/v1/events?limit=1000",
            Source::Events => "/v1/events?limit=200",
            Source::Decisions => "/v1/decisions?since=1h&limit=300",
            Source::Usage => "/v1/usage?by=target",
            Source::Config => "/v1/config",
        }
    }
}
