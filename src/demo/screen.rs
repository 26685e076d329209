//! The terminal: a block that is drawn anew in place, or one line a second.
//!
//! On a terminal the cursor goes back up over the block that was drawn last and clears from there.
//! Line wrapping is off while it draws, so that a narrow window cuts lines and the block keeps its
//! height. Colours are left out where `NO_COLOR` is set (no-color.org). Where standard output is a
//! pipe or a file, or the terminal is a dumb one, there are plain lines without escapes.

use super::traffic::{Event, Tally};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";
const CLEAR_BELOW: &str = "\x1b[J";

/// Where the state is shown.
pub(super) struct Screen {
    is_terminal: bool,
    has_colour: bool,
    /// Lines of the block that stands there now.
    drawn: usize,
    out: Box<dyn Write>,
}

/// How things stand.
pub(super) struct Scene<'a> {
    pub(super) elapsed: Duration,
    pub(super) tally: &'a Tally,
    /// The answer of `/v1/status`.
    pub(super) status: &'a Value,
    /// What the first provider is made to do.
    pub(super) phase: &'a str,
    /// Streams that another target took up after they broke.
    pub(super) rescued: u64,
}

#[derive(Clone, Copy)]
enum Colour {
    Red,
    Green,
    Yellow,
}

impl Screen {
    pub(super) fn of_stdout() -> Screen {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_terminal = io::stdout().is_terminal() && !is_dumb;
        let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { is_terminal, has_colour, drawn: 0, out: Box::new(io::stdout()) }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Says what this is and what can be tried.
    pub(super) fn greet(&mut self, data: SocketAddr, admin: SocketAddr) -> io::Result<()> {
        let body = r#"{"model":"demo","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
        write!(
            self.out,
            "pointsman demo: one address before two providers, of which the first fails in turns\n\n  \
             try it    curl -isN http://{data}/v1/chat/completions -H 'content-type: application/json' -d '{body}'\n  \
             dashboard http://{admin}/ui\n  \
             status    http://{admin}/v1/status\n  \
             metrics   http://{admin}/metrics\n  \
             the end   Ctrl-C\n\n"
        )?;
        self.out.flush()
    }

    /// Shows how things stand.
    pub(super) fn draw(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        if !self.is_terminal {
            return writeln!(self.out, "{}", plain(scene));
        }
        let lines = self.block(scene);
        let mut text = String::new();
        if self.drawn > 0 {
            // Writing into a string does not fail.
            let _ = write!(text, "\x1b[{}A\r", self.drawn);
        }
        text.push_str(CLEAR_BELOW);
        text.push_str(WRAP_OFF);
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(WRAP_ON);
        self.drawn = lines.len();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Says what it all came to.
    pub(super) fn close(&mut self, tally: &Tally) -> io::Result<()> {
        for fault in &tally.faults {
            writeln!(self.out, "failed: {}", told(fault))?;
        }
        writeln!(
            self.out,
            "{} requests, {} answered ({} failed over, {} went straight to the second provider), {} failed",
            tally.sent, tally.answered, tally.failed_over, tally.passed_over, tally.failed
        )?;
        self.out.flush()
    }

    fn block(&self, scene: &Scene<'_>) -> Vec<String> {
        let Scene { elapsed, tally, status, phase, rescued } = *scene;
        let failed = format!("failed {}", tally.failed);
        let failed_colour = if tally.failed == 0 { Colour::Green } else { Colour::Red };
        let phase_colour = if phase == "healthy" { Colour::Green } else { Colour::Yellow };
        let mut lines = vec![
            format!(
                "  {:>4} s   requests {}   answered {}   failed over {}   rescued {rescued}   straight to the second {}   {}",
                elapsed.as_secs(),
                tally.sent,
                tally.answered,
                tally.failed_over,
                tally.passed_over,
                self.paint(failed_colour, &failed)
            ),
            format!("  the first provider is: {}", self.paint(phase_colour, phase)),
            String::new(),
            format!(
                "  {:<16} {:<10} {:<29} {:<9} {:>8} {:>7}",
                "target", "state", "why", "breaker", "attempts", "failed"
            ),
        ];
        lines.extend(targets(status).map(|target| self.target_line(&target)));
        lines.push(String::new());
        lines.push("  last failovers".to_owned());
        lines.extend(tally.failovers.iter().map(|event| format!("  {}", told(event))));
        lines.extend(
            tally
                .faults
                .iter()
                .map(|event| format!("  {} {}", self.paint(Colour::Red, "failed"), told(event))),
        );
        lines
    }

    fn target_line(&self, target: &Shown<'_>) -> String {
        let colour = match target.state {
            "ready" => Colour::Green,
            "open" => Colour::Red,
            _ => Colour::Yellow,
        };
        format!(
            "  {:<16} {} {:<29} {:<9} {:>8} {:>7}",
            target.provider,
            self.paint(colour, &format!("{:<10}", target.state)),
            target.why(),
            target.breaker,
            target.attempts,
            target.failed
        )
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
        };
        if self.has_colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What the status page says of a target.
struct Shown<'a> {
    provider: &'a str,
    state: &'a str,
    reason: Option<&'a str>,
    left: Option<f64>,
    breaker: &'a str,
    attempts: u64,
    failed: u64,
}

impl Shown<'_> {
    fn why(&self) -> String {
        match (self.reason, self.left) {
            (Some(reason), Some(left)) => format!("{reason}, {left:.1} s"),
            (Some(reason), None) if reason != self.state => reason.to_owned(),
            (Some(_) | None, _) => String::new(),
        }
    }
}

fn targets(status: &Value) -> impl Iterator<Item = Shown<'_>> {
    let all = status.get("targets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|target| {
        let text = |name: &str| target.get(name).and_then(Value::as_str);
        let count = |path: &str| target.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        Shown {
            provider: text("provider").unwrap_or_default(),
            state: text("state").unwrap_or_default(),
            reason: text("reason"),
            left: target.get("retry_in_s").and_then(Value::as_f64),
            breaker: text("breaker").unwrap_or_default(),
            attempts: count("/counts/attempts"),
            failed: count("/counts/failed"),
        }
    })
}

/// One line for a pipe.
fn plain(scene: &Scene<'_>) -> String {
    let Scene { elapsed, tally, status, phase, rescued } = *scene;
    let targets: Vec<String> = targets(status)
        .map(|target| match target.why() {
            why if why.is_empty() => format!("{} {}", target.provider, target.state),
            why => format!("{} {} ({why})", target.provider, target.state),
        })
        .collect();
    let last = tally.failovers.back().map(|event| format!("; last: {}", event.what)).unwrap_or_default();
    format!(
        "{} s: requests {}, answered {}, failed over {}, rescued {rescued}, straight to the second {}, failed {}; first provider: {phase}; {}{last}",
        elapsed.as_secs(),
        tally.sent,
        tally.answered,
        tally.failed_over,
        tally.passed_over,
        tally.failed,
        targets.join(", "),
    )
}

fn told(event: &Event) -> String {
    format!(
        "{:>6.1} s  {:<18}  {}  ({} ms)",
        event.at.as_secs_f64(),
        event.call,
        event.what,
        event.took.as_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn status() -> Value {
        json!({"targets": [
            {"provider": "one", "state": "cooling", "reason": "rate_limited", "retry_in_s": 1.25,
             "breaker": "closed", "counts": {"attempts": 3, "failed": 1}},
            {"provider": "two", "state": "ready", "reason": null, "retry_in_s": null,
             "breaker": "closed", "counts": {"attempts": 4, "failed": 0}},
        ]})
    }

    fn scene<'a>(tally: &'a Tally, status: &'a Value) -> Scene<'a> {
        Scene { elapsed: Duration::from_secs(2), tally, status, phase: "silent", rescued: 0 }
    }

    fn screen(is_terminal: bool) -> (Screen, Page) {
        let page = Page::default();
        let out = Box::new(page.clone());
        (Screen { is_terminal, has_colour: is_terminal, drawn: 0, out }, page)
    }

    fn text(page: &Page) -> String {
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_pipe_gets_one_line_without_escapes() {
        let (mut screen, page) = screen(false);
        screen.draw(&scene(&Tally::default(), &status())).unwrap();
        let text = text(&page);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.contains("one cooling (rate_limited, 1.2 s), two ready"), "{text}");
    }

    #[test]
    fn a_terminal_is_drawn_over_in_place_whatever_the_height_was() {
        let (mut screen, page) = screen(true);
        screen.draw(&scene(&Tally::default(), &Value::Null)).unwrap();
        let first = text(&page);
        let height = first.lines().filter(|line| !line.starts_with(WRAP_ON)).count();
        screen.draw(&scene(&Tally::default(), &status())).unwrap();
        let second = text(&page)[first.len()..].to_owned();
        assert!(second.starts_with(&format!("\x1b[{height}A\r{CLEAR_BELOW}")), "{height}: {second:?}");
        assert!(second.contains("\x1b[33mcooling   \x1b[0m"), "{second:?}");
    }
}
