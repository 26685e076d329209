//! The screens as they are (goldens in `tests/golden/top`, `UPDATE_GOLDEN=1` writes them), what each key
//! does, and that nothing which comes from a process can break the drawing.

use super::draw::{Brush, draw};
use super::keys::{Deed, HELP, Page, press};
use super::model::{Link, News, Pane, Screen, Source, Target};
use super::*;
use crate::base::time::WallTime;
use proptest::prelude::*;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::Color;
use serde_json::json;

/// 2026-11-21T02:14:30Z.
const NOW: WallTime = WallTime(1_795_227_270_000);

fn target(id: &str, state: &str, more: &Value) -> Value {
    let mut target = json!({"id": id, "state": state, "breaker": "closed", "in_flight": 0, "pinned": [],
        "endpoint": "https://api.example:443", "routes": ["chat"],
        "counts": {"attempts": 5, "ok": 1204, "failed": 2, "average_ms": 310.4}});
    for (name, value) in more.as_object().unwrap() {
        target[name] = value.clone();
    }
    target
}

fn status() -> Value {
    json!({
        "version": "0.1.0", "generation": 7, "ready": true, "draining": false, "in_flight": 14,
        "uptime_s": 270_000,
        "routes": [
            {"name": "chat", "target": "anthropic/main/claude-haiku-4-5", "pinned": null,
             "targets": ["openai/work/gpt-4o", "anthropic/main/claude-haiku-4-5", "groq/main/llama-3.3-70b-versatile"]},
            {"name": "code", "target": null, "pinned": null, "targets": ["openai/personal/gpt-4o"]},
            {"name": "fast", "target": "groq/main/llama-3.3-70b-versatile", "pinned": "groq/main/llama-3.3-70b-versatile",
             "targets": ["openai/work/gpt-4o", "groq/main/llama-3.3-70b-versatile"]},
        ],
        "targets": [
            target("openai/work/gpt-4o", "cooling", &json!({"reason": "rate_limited", "retry_in_s": 41.2,
                "until": "2026-11-21T02:15:11.000Z", "breaker": "half_open", "routes": ["chat", "fast"],
                "last_error": {"outcome": "rate_limited", "status": 429, "at": "2026-11-21T02:14:11.000Z"}})),
            target("anthropic/main/claude-haiku-4-5", "ready", &json!({"in_flight": 12,
                "last_error": {"outcome": "overloaded", "status": 529, "at": "2026-11-21T01:59:02.000Z"}})),
            target("groq/main/llama-3.3-70b-versatile", "ready", &json!({"in_flight": 2,
                "pinned": [{"route": "fast", "until": null}], "routes": ["chat", "fast"]})),
            target("openai/personal/gpt-4o", "auth_failed", &json!({"reason": "auth", "retry_in_s": 290.0,
                "until": "2026-11-21T02:19:20.000Z", "routes": ["code"]})),
            target("mistral/main/mistral-small-latest", "drained", &json!({"reason": "drained", "routes": []})),
            target("xai/main/grok", "ready", &json!({"counts": {"attempts": 0}, "routes": []})),
        ],
    })
}

fn events() -> Value {
    let failover = |id: &str, at: &str, from: &str, to: &str, reason: &str, requests: u64| {
        json!({"id": id, "at": at, "event": "failover", "route": "chat", "from": from, "to": to,
               "reason": reason, "request_id": format!("req-{id}"), "requests": requests})
    };
    let (one, two) = ("openai/work/gpt-4o", "anthropic/main/claude-haiku-4-5");
    json!({"events": [
        failover("1-9", "2026-11-21T02:14:22.123Z", one, two, "rate_limited", 3),
        {"id": "1-8", "at": "2026-11-21T02:14:11.000Z", "event": "target_state", "target": one, "scope": "target",
         "from": "ready", "to": "cooling", "reason": "rate_limited", "until": "2026-11-21T02:15:11.000Z", "next": two},
        failover("1-7", "2026-11-21T02:14:11.000Z", one, two, "rate_limited", 1),
        {"id": "1-6", "at": "2026-11-21T02:10:00.000Z", "event": "reload", "generation": 7, "warnings": 1, "needs_restart": []},
        {"id": "1-5", "at": "2026-11-21T02:03:00.000Z", "event": "rescue", "route": "chat", "result": "rescued",
         "request_id": "req-1-5", "requests": 1},
        failover("1-4", "2026-11-20T23:58:01.000Z", two, "groq/main/llama-3.3-70b-versatile", "timeout_first_content", 1),
        failover("1-3", "2026-11-20T23:57:01.000Z", two, "groq/main/llama-3.3-70b-versatile", "overloaded", 1),
        failover("1-2", "2026-11-20T23:56:01.000Z", two, "groq/main/llama-3.3-70b-versatile", "connect", 1),
        {"id": "1-1", "at": "2026-11-18T00:00:00.000Z", "event": "started", "version": "0.1.0", "generation": 1},
    ]})
}

fn decisions() -> Value {
    let decision = |firsts: &[(&str, Option<u64>)]| {
        let attempts: Vec<Value> =
            firsts.iter().map(|(id, ms)| json!({"target": id, "outcome": "ok", "ttfc_ms": ms})).collect();
        json!({ "attempts": attempts })
    };
    let (one, two) = ("openai/work/gpt-4o", "anthropic/main/claude-haiku-4-5");
    let mut all =
        vec![decision(&[(one, None), (two, Some(412))]), decision(&[(one, None), (two, Some(950))])];
    all.extend((0..30).map(|at| decision(&[(one, Some(200 + at * 20))])));
    json!({ "decisions": all })
}

fn usage() -> Value {
    let row = |target: &str, requests: u64, cost: Option<f64>| {
        json!({"target": target, "requests": requests, "failed_requests": 2, "input_tokens": requests * 812,
               "output_tokens": requests * 97, "cost_usd": cost, "unpriced_requests": 0})
    };
    let mut total = row("", 1310, Some(3.2017));
    total["unpriced_requests"] = json!(4);
    json!({"since": "2026-11-21T00:00:00.000Z", "time_zone": "UTC", "by": ["target"], "total": total, "rows": [
        row("groq/main/llama-3.3-70b-versatile", 4, None),
        row("openai/work/gpt-4o", 1204, Some(3.01)),
        row("anthropic/main/claude-haiku-4-5", 102, Some(0.1917)),
    ]})
}

fn config() -> Value {
    json!({"generation": 7, "routes": [1, 2, 3], "clients": [1], "default_route": "chat", "providers": [
        {"credentials": [1, 2]}, {"credentials": [1]}, {"credentials": [1]}, {"credentials": [1]}],
        "settings": {"threads": {"value": "0", "default": "0"}, "grace": {"value": "5s", "default": "30s"}}})
}

fn full() -> Screen {
    let mut screen = Screen::of("127.0.0.1:9901");
    for (source, told) in [
        (Source::Status, status()),
        (Source::Events, events()),
        (Source::Decisions, decisions()),
        (Source::Usage, usage()),
        (Source::Config, config()),
    ] {
        screen.take(News::Told(source, told), NOW);
    }
    screen
}

fn cells(screen: &Screen, width: u16, height: u16, has_colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let brush = Brush::new(has_colours);
    terminal.draw(|frame| draw(screen, brush, frame.area(), frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let rows = buffer.content().chunks(usize::from(buffer.area.width).max(1));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned())
        .collect()
}

fn shown(screen: &Screen, width: u16, height: u16) -> String {
    lines(&cells(screen, width, height, false)).join("\n") + "\n"
}

fn golden(name: &str, got: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/top").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(got == want, "{name} is not as it was; UPDATE_GOLDEN=1 writes it\n{got}");
}

fn type_all(screen: &mut Screen, letters: &str) -> Deed {
    letters
        .chars()
        .map(|c| press(screen, KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)))
        .last()
        .unwrap()
}

fn key(screen: &mut Screen, code: KeyCode) -> Deed {
    press(screen, KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn the_screen_is_as_it_was_at_each_size() {
    let screen = full();
    for (width, height) in [(80, 24), (100, 30), (160, 45)] {
        golden(&format!("{width}x{height}.txt"), &shown(&screen, width, height));
    }
    let mut lost = full();
    let at = WallTime(NOW.0 + 12_000);
    lost.take(News::Lost("nothing listens on 127.0.0.1:9901".to_owned()), NOW);
    lost.take(News::Lost("nothing listens on 127.0.0.1:9901".to_owned()), at);
    type_all(&mut lost, "jd");
    golden("lost-80x24.txt", &shown(&lost, 80, 24));
    let mut keys = full();
    type_all(&mut keys, "?");
    golden("keys-80x24.txt", &shown(&keys, 80, 24));
}

#[test]
fn the_picture_in_the_documentation_is_the_screen() {
    let page = include_str!("../../../docs/operations.md");
    assert!(
        page.contains(&format!("```text\n{}```\n", shown(&full(), 100, 30))),
        "docs/operations.md: take tests/golden/top/100x30.txt"
    );
    for (keys, _) in HELP.iter().filter(|(keys, _)| !keys.is_empty()) {
        assert!(
            page.contains(&format!("| `{}`", keys.replace(' ', "` `"))),
            "docs/operations.md lacks the key {keys}"
        );
    }
}

#[test]
fn without_colours_every_sign_is_still_there() {
    let (plain, coloured) = (cells(&full(), 160, 45, false), cells(&full(), 160, 45, true));
    assert!(plain.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(coloured.content().iter().any(|cell| cell.fg == Color::Red));
    assert_eq!(lines(&plain), lines(&coloured));
    let words = lines(&plain).join("\n");
    for state in ["◔ cooling", "● ready", "✕ auth failed", "▽ drained"] {
        assert!(words.contains(state), "{state}");
    }
}

#[test]
fn a_verb_is_asked_back_and_done_only_on_yes() {
    for (letter, verb) in
        [('d', Verb::Drain), ('x', Verb::Disable), ('e', Verb::Ready), ('r', Verb::Reset), (' ', Verb::Pin)]
    {
        let mut screen = full();
        assert_eq!(type_all(&mut screen, &format!("j{letter}")), Deed::Nothing);
        let id = "anthropic/main/claude-haiku-4-5";
        let foot = shown(&screen, 80, 24).lines().last().unwrap().to_owned();
        assert!(foot.contains(&format!("{} {id}? [y/n]", verb.as_label())), "{foot}");
        // Neither another key nor a list that has moved changes what is meant.
        assert_eq!(type_all(&mut screen, "jq"), Deed::Nothing);
        let mut fewer = status();
        fewer["targets"].as_array_mut().unwrap().remove(0);
        screen.take(News::Told(Source::Status, fewer), NOW);
        let mut other = full();
        type_all(&mut other, &format!("j{letter}n"));
        assert!(other.wish.is_none() && other.said == "nothing was done");
        assert_eq!(type_all(&mut other, "y"), Deed::Nothing, "no is no");
        assert_eq!(type_all(&mut screen, "y"), Deed::Act(verb, id.to_owned()));
    }
    let mut screen = full();
    assert_eq!(key(&mut screen, KeyCode::Enter), Deed::Nothing);
    assert_eq!(key(&mut screen, KeyCode::Enter), Deed::Nothing, "Enter is no yes");
    assert_eq!(key(&mut screen, KeyCode::Esc), Deed::Nothing);
    screen.take(News::Said("drain a/b/c: drained".to_owned()), NOW);
    assert!(shown(&screen, 80, 24).ends_with(" drain a/b/c: drained\n"));
    let mut empty = Screen::of("x");
    assert_eq!(type_all(&mut empty, "dy"), Deed::Nothing, "there is no target");
}

#[test]
fn a_failover_leads_to_why() {
    let mut screen = full();
    for (typed, id) in [("l", "req-1-9"), ("j", "req-1-7"), ("G", "req-1-2"), ("gk", "req-1-9")] {
        type_all(&mut screen, typed);
        assert_eq!(screen.pane, Pane::Moves);
        assert_eq!(key(&mut screen, KeyCode::Enter), Deed::Ask(Page::Why(id.to_owned())), "{typed}");
    }
    assert_eq!(type_all(&mut screen, "j"), Deed::Nothing);
    // What is picked stays so when others come in before it; who stands on the newest follows.
    let more = json!({"events": [{"id": "1-10", "at": "2026-11-21T02:14:23.000Z", "event": "failover",
        "from": "a", "to": "b", "reason": "reset", "request_id": "new"}]});
    screen.take(News::Told(Source::Events, more), NOW);
    assert_eq!(type_all(&mut screen, "w"), Deed::Ask(Page::Why("req-1-7".to_owned())));
    assert_eq!(type_all(&mut screen, "gw"), Deed::Ask(Page::Why("new".to_owned())));
    screen.take(News::Sheet("Why".to_owned(), vec!["one\u{1b}[2J".to_owned(), "two".to_owned()]), NOW);
    assert!(shown(&screen, 80, 24).contains("one[2J\n two"), "{}", shown(&screen, 80, 24));
    assert_eq!(type_all(&mut screen, "q"), Deed::Nothing, "q closes the page first");
    assert!(screen.sheet.is_none());
    assert_eq!(type_all(&mut screen, "q"), Deed::Leave);
    let away = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    type_all(&mut screen, "hd");
    assert_eq!(press(&mut screen, away), Deed::Leave, "Ctrl-C leaves even a question");
}

#[test]
fn a_route_tells_its_order_and_esc_goes_back() {
    let mut screen = full();
    type_all(&mut screen, "p");
    key(&mut screen, KeyCode::Enter);
    let text = shown(&screen, 120, 30);
    for line in [
        " 1  openai/work/gpt-4o  cooling  rate limited until 02:15:11, 41s left",
        " 2  anthropic/main/claude-haiku-4-5  in use, ready  last overloaded 529",
    ] {
        assert!(text.contains(line), "{text}");
    }
    key(&mut screen, KeyCode::Esc);
    key(&mut screen, KeyCode::Esc);
    assert_eq!((screen.pane, &screen.sheet), (Pane::Targets, &None));
}

#[test]
fn why_and_until_are_one_phrase() {
    let target = |why: &str, until: Option<&str>, left: Option<&str>, pinned: &[&str]| Target {
        why: why.to_owned(),
        until: until.map(str::to_owned),
        left: left.map(str::to_owned),
        pinned: pinned.iter().map(|route| (*route).to_owned()).collect(),
        ..Target::default()
    };
    for (target, want) in [
        (target("", None, None, &[]), ""),
        (
            target("overloaded", Some("02:15:11"), Some("41s left"), &[]),
            "overloaded until 02:15:11, 41s left",
        ),
        (
            target("", Some("02:15:11"), Some("41s left"), &["chat"]),
            "until 02:15:11, 41s left; pinned first on chat",
        ),
        (target("", None, None, &["chat", "code"]), "pinned first on chat, code"),
    ] {
        assert_eq!(target.standing(), want);
    }
}

#[test]
fn the_last_reload_is_told_with_what_came_of_it() {
    let at = "2026-11-21T02:10:00.000Z";
    for (event, want) in [
        (json!({"event": "started", "generation": 1}), "not reloaded since the start at 02:10:00"),
        (
            json!({"event": "reload", "generation": 3, "warnings": 2}),
            "last reload 02:10:00: generation 3, 2 warnings",
        ),
        (
            json!({"event": "reload", "generation": 3, "needs_restart": ["listen"]}),
            "last reload 02:10:00: generation 3; after a restart: listen",
        ),
        (
            json!({"event": "reload_failed", "generation": 2, "faults": 3, "fault": "routes: x"}),
            "✕ last reload 02:10:00 REFUSED, generation 2 stays: routes: x (and 2 more)",
        ),
        (json!({"event": "operator"}), "no reload among the events that are kept"),
    ] {
        let mut event = event;
        event["at"] = at.into();
        event["id"] = "1-1".into();
        let mut screen = Screen::of("x");
        screen.take(News::Told(Source::Events, json!({ "events": [event] })), NOW);
        assert_eq!(screen.last_reload(), want);
    }
}

#[test]
fn who_answers_again_is_not_lost_and_who_lacks_a_page_says_so() {
    let mut screen = full();
    screen.take(News::Lost("x".to_owned()), NOW);
    screen.take(News::Lost("y".to_owned()), WallTime(NOW.0 + 5000));
    assert_eq!(screen.link, Link::Lost(NOW, "y".to_owned()), "since the first time");
    assert!(shown(&screen, 100, 30).contains("cooling"), "what was known stays");
    screen.take(News::Told(Source::Status, status()), NOW);
    assert_eq!(screen.link, Link::Up);
    screen.take(News::Untold(Source::Usage, "an older pointsman?".to_owned()), NOW);
    assert!(shown(&screen, 100, 30).contains("✕ not told: an older pointsman?"));
    screen.take(News::Told(Source::Usage, usage()), NOW);
    assert!(!shown(&screen, 100, 30).contains("not told"));
}

#[test]
fn settings_that_somebody_chose_come_first_and_are_marked() {
    assert_eq!(settings(&config()), "* grace: 5s\n  threads: 0");
    assert_eq!(settings(&json!({"generation": 1})), "generation: 1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_comes_and_however_small_it_is_something_is_drawn(
        width in 0_u16..200, height in 0_u16..60, id in "\\PC{0,60}|.{0,20}\x1b.{0,9}", state in "[a-z_]{0,20}",
        typed in "[a-zG?\x20]{0,12}", left in prop::num::f64::ANY
    ) {
        let mut screen = full();
        let mut odd = status();
        odd["targets"][0]["id"] = json!(id);
        odd["targets"][0]["state"] = json!(state);
        odd["targets"][0]["retry_in_s"] = json!(left);
        odd["routes"][0]["name"] = json!(id);
        odd["routes"][0]["target"] = json!(id);
        let odds = json!({"events": [{"event": "failover", "at": id, "request_id": id}, 7], "routes": 5, "rows": [null, 7]});
        for told in [odd, odds, json!(null), json!([1])] {
            for source in OFTEN.into_iter().chain(SELDOM) {
                screen.take(News::Told(source, told.clone()), NOW);
                for letter in typed.chars() {
                    press(&mut screen, KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE));
                }
                let area = Rect { x: 0, y: 0, width, height };
                let mut buffer = Buffer::empty(area);
                draw(&screen, Brush::new(true), area, &mut buffer);
                for cell in buffer.content() {
                    prop_assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
                }
            }
        }
    }
}
