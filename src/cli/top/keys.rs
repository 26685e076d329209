//! What does a key do?
//!
//! A key and the screen in, the screen changed and at most one thing to do out; pure. The keys are
//! those of opencode-balancer where they apply: arrows and `hjkl`, Enter and Space make the target the
//! first one, `p` goes to the priorities, `y` and `n` answer, Esc goes back. Its keys for accounts
//! (`c`onnect, `a`lias, `r`ename, `d`elete) have nothing to do here, and `d`, `r` and `c` stand for
//! drain, reset and the configuration.
//!
//! **Nothing is done to a target without a yes.** A verb is asked back with the target's id as it was
//! when the key came, so that a list that moves in between does not put another one in its place. While it
//! waits only yes, no and Ctrl-C count. Ctrl-C always leaves.

use super::model::{Pane, Screen, Sheet};
use crate::admin::view::Verb;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Lines that a page key moves by.
const PAGE: usize = 10;

/// What is to be done, besides drawing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Deed {
    Nothing,
    Leave,
    /// A verb that was said yes to.
    Act(Verb, String),
    /// A page that has to be asked for.
    Ask(Page),
}

/// A page over the others that the process is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Page {
    /// Why a request went where it went.
    Why(String),
    /// Usage by route and client.
    Usage,
    /// The configuration in force.
    Config,
    /// All that is known of a target.
    Target(String),
}

/// What the keys do, for `?` and the documentation.
pub(super) const HELP: [(&str, &str); 14] = [
    ("↑ ↓ k j", "another row; PgUp, PgDn, Home and End go further"),
    ("← → h l Tab", "another list: routes, targets, failovers"),
    ("Enter Space", "on a target: pin it, first on its routes until it is made ready"),
    ("", "on a route: its targets in the order of choice; on a failover: why"),
    ("d", "drain the target: no new requests, those under way finish"),
    ("x", "disable it"),
    ("e", "make it ready: undoes drain, disable and pin"),
    ("r", "reset it: forgets its breaker and its rests"),
    ("i", "all that is known of the target"),
    ("p", "priorities: the routes"),
    ("w", "why the request of the failover went where it went"),
    ("u c v", "usage by route and client, configuration in force, events"),
    ("y n", "answer; Esc goes back"),
    ("q Ctrl-C", "leave"),
];

/// Says what a verb does, for the question.
pub(super) fn meaning(verb: Verb) -> &'static str {
    match verb {
        Verb::Drain => "no new requests; those under way finish",
        Verb::Disable => "no requests until it is made ready",
        Verb::Ready => "undoes drain, disable and pin",
        Verb::Reset => "forgets its breaker and its rests",
        Verb::Pin => "first on its routes until it is made ready",
    }
}

/// Does what a key says.
pub(super) fn press(screen: &mut Screen, key: KeyEvent) -> Deed {
    if key.kind == KeyEventKind::Release {
        return Deed::Nothing;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return if key.code == KeyCode::Char('c') { Deed::Leave } else { Deed::Nothing };
    }
    if screen.wish.is_some() {
        return answer(screen, key.code);
    }
    if let Some(sheet) = &mut screen.sheet {
        if moves(sheet, key.code) {
            screen.sheet = None;
        }
        return Deed::Nothing;
    }
    screen.said.clear();
    match key.code {
        KeyCode::Char(letter) => typed(screen, letter),
        KeyCode::Enter => primary(screen),
        KeyCode::Esc => {
            screen.pane = Pane::Targets;
            Deed::Nothing
        }
        code => {
            walk(screen, code);
            Deed::Nothing
        }
    }
}

fn typed(screen: &mut Screen, letter: char) -> Deed {
    match letter.to_ascii_lowercase() {
        'q' => return Deed::Leave,
        ' ' => return primary(screen),
        'd' => wish(screen, Verb::Drain),
        'x' => wish(screen, Verb::Disable),
        'e' => wish(screen, Verb::Ready),
        'r' => wish(screen, Verb::Reset),
        'p' => screen.pane = Pane::Routes,
        'w' => return why(screen),
        'u' => return Deed::Ask(Page::Usage),
        'c' => return Deed::Ask(Page::Config),
        'i' => {
            let id = screen.target().map(|target| target.id.clone());
            return id.map_or(Deed::Nothing, |id| Deed::Ask(Page::Target(id)));
        }
        'v' => {
            let lines = screen.event_lines();
            screen.sheet =
                Some(Sheet { title: "Events, the newest first".to_owned(), lines, ..Sheet::default() });
        }
        '?' => {
            let line = |(keys, does): &(&str, &str)| format!("{keys:<13} {does}");
            let lines = HELP.iter().map(line).collect();
            screen.sheet = Some(Sheet { title: "Keys".to_owned(), lines, ..Sheet::default() });
        }
        'k' => walk(screen, KeyCode::Up),
        'j' => walk(screen, KeyCode::Down),
        'h' => walk(screen, KeyCode::Left),
        'l' => walk(screen, KeyCode::Right),
        'g' => walk(screen, if letter == 'G' { KeyCode::End } else { KeyCode::Home }),
        _ => {}
    }
    Deed::Nothing
}

/// What Enter does depends on what is picked.
fn primary(screen: &mut Screen) -> Deed {
    match screen.pane {
        Pane::Targets => {
            wish(screen, Verb::Pin);
            Deed::Nothing
        }
        Pane::Moves => why(screen),
        Pane::Routes => {
            screen.sheet = screen.route().map(|route| {
                let line = |(at, id): (usize, &String)| {
                    let target = screen.targets.iter().find(|target| target.id == *id);
                    let state = target.map_or("?", |target| &target.state).replace('_', " ");
                    let now = if route.now.as_ref() == Some(id) { "in use, " } else { "" };
                    let standing = target.map(super::model::Target::standing).unwrap_or_default();
                    format!("{:>2}  {id}  {now}{state}  {standing}", at + 1)
                };
                let lines = route.targets.iter().enumerate().map(line).collect();
                Sheet {
                    title: format!("Route {}, in the order of choice", route.name),
                    lines,
                    ..Sheet::default()
                }
            });
            Deed::Nothing
        }
    }
}

fn why(screen: &Screen) -> Deed {
    let id = screen.failover().map(|one| one.request_id.clone());
    id.map_or(Deed::Nothing, |id| Deed::Ask(Page::Why(id)))
}

/// Asks back, for the target that is picked.
fn wish(screen: &mut Screen, verb: Verb) {
    if screen.pane == Pane::Targets {
        screen.wish = screen.target().map(|target| (verb, target.id.clone()));
    } else {
        "pick a target first: Esc goes to the targets".clone_into(&mut screen.said);
    }
}

fn answer(screen: &mut Screen, code: KeyCode) -> Deed {
    match code {
        KeyCode::Char('y' | 'Y') => {
            let Some((verb, id)) = screen.wish.take() else { return Deed::Nothing };
            screen.said = format!("{} {id}: asked", verb.as_label());
            Deed::Act(verb, id)
        }
        KeyCode::Char('n' | 'N') | KeyCode::Esc => {
            screen.wish = None;
            "nothing was done".clone_into(&mut screen.said);
            Deed::Nothing
        }
        _ => Deed::Nothing,
    }
}

/// Moves within the lists.
fn walk(screen: &mut Screen, code: KeyCode) {
    let place = screen.place(screen.pane);
    match code {
        KeyCode::Up => screen.pick(place.saturating_sub(1)),
        KeyCode::Down => screen.pick(place + 1),
        KeyCode::PageUp => screen.pick(place.saturating_sub(PAGE)),
        KeyCode::PageDown => screen.pick(place + PAGE),
        KeyCode::Home => screen.pick(0),
        KeyCode::End => screen.pick(usize::MAX),
        KeyCode::Right | KeyCode::Tab => {
            screen.pane = match screen.pane {
                Pane::Routes => Pane::Targets,
                Pane::Targets => Pane::Moves,
                Pane::Moves => Pane::Routes,
            }
        }
        KeyCode::Left | KeyCode::BackTab => {
            screen.pane = match screen.pane {
                Pane::Routes => Pane::Moves,
                Pane::Targets => Pane::Routes,
                Pane::Moves => Pane::Targets,
            }
        }
        _ => {}
    }
}

/// Moves a page; true where it is to be closed.
fn moves(sheet: &mut Sheet, code: KeyCode) -> bool {
    let last = sheet.lines.len().saturating_sub(1);
    let wide = sheet.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    match code {
        KeyCode::Up | KeyCode::Char('k') => sheet.down = sheet.down.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => sheet.down = (sheet.down + 1).min(last),
        KeyCode::PageUp => sheet.down = sheet.down.saturating_sub(PAGE),
        KeyCode::PageDown | KeyCode::Char(' ') => sheet.down = (sheet.down + PAGE).min(last),
        KeyCode::Home | KeyCode::Char('g') => sheet.down = 0,
        KeyCode::End | KeyCode::Char('G') => sheet.down = last,
        KeyCode::Left | KeyCode::Char('h') => sheet.right = sheet.right.saturating_sub(PAGE),
        KeyCode::Right | KeyCode::Char('l') => {
            sheet.right = (sheet.right + PAGE).min(wide.saturating_sub(PAGE));
        }
        KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | 'Q') => return true,
        _ => {}
    }
    false
}
