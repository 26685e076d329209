//! `pointsman top` as an operator meets it: in a terminal.
//!
//! The program runs in a pseudo-terminal made by `script`, in a shell that notes the terminal's
//! settings before and after. What it writes goes through a [`Glass`], which knows as much of a
//! terminal as is needed to tell what stands on it.

use crate::process::{HEAD, Process, Program, SOON, eventually, openai, signal, skip};
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// Notes the terminal's settings, the process and how it ended, each in a file.
const AROUND: &str = "stty rows 24 cols 80; stty -g > before; \
    sh -c 'echo $$ > pid.next; mv pid.next pid; exec \"$0\" top --admin \"$1\"' \"$PROGRAM\" \"$ADMIN\"; \
    echo $? > code; stty -g > after";

/// What stands on a terminal.
struct Glass {
    rows: Vec<Vec<char>>,
    x: usize,
    y: usize,
}

impl Glass {
    fn of(written: &str) -> Glass {
        let mut glass = Glass { rows: vec![vec![' '; COLUMNS]; ROWS], x: 0, y: 0 };
        let mut rest = written.chars();
        while let Some(letter) = rest.next() {
            match letter {
                '\x1b' if rest.clone().next() == Some('[') => {
                    rest.next();
                    let mut sequence = String::new();
                    for letter in rest.by_ref() {
                        sequence.push(letter);
                        if letter.is_ascii_alphabetic() {
                            break;
                        }
                    }
                    glass.obey(&sequence);
                }
                '\r' => glass.x = 0,
                '\n' => glass.y = (glass.y + 1).min(ROWS - 1),
                letter if letter.is_control() => {}
                letter => {
                    if let Some(cell) = glass.rows[glass.y].get_mut(glass.x) {
                        *cell = letter;
                    }
                    glass.x += 1;
                }
            }
        }
        glass
    }

    /// Does what a sequence says: the cursor moves and the screen is cleared; colours are passed over.
    fn obey(&mut self, sequence: &str) {
        let (numbers, what) = sequence.split_at(sequence.len().saturating_sub(1));
        let number =
            |at: usize| numbers.split(';').nth(at).and_then(|n| n.parse::<usize>().ok()).unwrap_or(1);
        match what {
            "H" => (self.y, self.x) = ((number(0) - 1).min(ROWS - 1), number(1) - 1),
            "G" => self.x = number(0) - 1,
            "C" => self.x += number(0),
            "J" => self.rows = vec![vec![' '; COLUMNS]; ROWS],
            _ => {}
        }
    }

    fn text(&self) -> String {
        self.rows.iter().map(|row| row.iter().collect::<String>() + "\n").collect()
    }
}

/// A terminal in which `top` runs.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    /// Opens one in the folder of a process; nothing where the machine has no `script`.
    fn open(process: &Process, variables: &[(&str, &str)]) -> Option<Terminal> {
        let folder = process.program.path(".");
        let mut command = Command::new("script");
        command.args(["-qec", AROUND, "/dev/null"]).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").env("LANG", "C.UTF-8");
        command.env("PROGRAM", env!("CARGO_BIN_EXE_pointsman")).env("ADMIN", process.admin.to_string());
        command.env("XDG_RUNTIME_DIR", process.program.path("run")).envs(variables.iter().copied());
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let (keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let written = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut piece) {
                kept.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Some(Terminal { child, keys, written })
    }

    fn raw(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until a text stands on it.
    async fn shows(&self, text: &str) {
        let end = std::time::Instant::now() + SOON;
        loop {
            let screen = Glass::of(&self.raw()).text();
            if screen.contains(text) {
                return;
            }
            assert!(std::time::Instant::now() < end, "{text:?} is not on the screen:\n{screen}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Waits until it ended; it did so well and left the terminal as it was.
    async fn ended_well(&mut self, program: &Program) {
        let read = |name: &str| std::fs::read_to_string(program.path(name)).unwrap_or_default();
        eventually("top ends and the shell after it", async || {
            self.child.try_wait().unwrap().is_some() && !read("after").is_empty()
        })
        .await;
        assert_eq!(read("code").trim(), "0", "{}", self.raw());
        assert_eq!(read("after"), read("before"), "the terminal's settings");
        let raw = self.raw();
        let (opened, closed) = (raw.rfind("\x1b[?1049h"), raw.rfind("\x1b[?1049l"));
        assert!(opened.is_some() && closed > opened, "the first screen is back: {raw:?}");
        assert!(raw.rfind("\x1b[?25h") > raw.rfind("\x1b[?25l"), "the cursor is back");
    }
}

async fn running() -> (Process, Provider, Provider) {
    let one = Provider::start(Reply::status(503)).await.unwrap();
    let two = Provider::start(Reply::says("two")).await.unwrap();
    let yaml = format!(
        "{HEAD}log: {{format: json}}
breaker: {{enabled: false}}
retry: {{same_target: 0}}
cooldown: {{default: 0s, max: 0s}}
providers:
{}{}routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}
default_route: chat
",
        openai("one", &one.base_url(), "KEY_ONE"),
        openai("two", &two.base_url(), "KEY_TWO"),
    );
    let key = "sk-canary-top-0123456789";
    let process = Program::new(&yaml).env("KEY_ONE", key).env("KEY_TWO", key).start().await;
    (process, one, two)
}

const NO_TERMINAL: &str = "pointsman top was not seen in a terminal: the program `script` is not there";

#[tokio::test]
async fn what_is_typed_is_asked_back_and_done_and_the_terminal_is_given_back() {
    let (process, _one, _two) = running().await;
    let Some(mut terminal) = Terminal::open(&process, &[]) else { return skip(NO_TERMINAL) };
    for text in ["Targets 2 of 2 ready", "one/k/m", "two/k/m", "not reloaded since the start", "? keys"] {
        terminal.shows(text).await;
    }
    assert_eq!(Call::chat("chat").send(process.data).await.unwrap().status, 200);
    terminal.shows("server error  chat  one/k/m → two/k/m").await;
    terminal.shows("1 requests, 0 failed").await;

    // A verb, first with second thoughts.
    terminal.press("d");
    terminal.shows("drain one/k/m? [y/n]").await;
    terminal.press("n");
    terminal.shows("nothing was done").await;
    assert_eq!(process.target("one/k/m").await["state"], "ready");
    terminal.press("d");
    terminal.shows("drain one/k/m? [y/n]").await;
    terminal.press("y");
    terminal.shows("drain one/k/m: drained").await;
    terminal.shows("▽ drained").await;
    terminal.shows("Targets 1 of 2 ready").await;
    assert_eq!(process.target("one/k/m").await["state"], "drained");
    terminal.press("\r");
    terminal.shows("pin one/k/m? [y/n]").await;
    terminal.press("y");
    terminal.shows("✕ pin one/k/m: the target is drained; make it ready first").await;
    terminal.press("ey");
    terminal.shows("ready one/k/m: ready").await;
    assert_eq!(process.target("one/k/m").await["state"], "ready");

    // From a failover to why, by the arrow key and Enter.
    terminal.press("\x1b[C");
    terminal.shows("Enter says why").await;
    terminal.press("\r");
    terminal.shows("Why request").await;
    terminal.shows("answered with 200 by two/k/m").await;
    terminal.press("q");
    terminal.shows("Failovers 1").await;
    terminal.press("c");
    terminal.shows("* breaker.enabled: false").await;
    terminal.press("q");

    // A process that goes is said to be gone.
    let program = process.crash();
    terminal.shows("✕ no answer since").await;
    terminal.shows("nothing listens on").await;
    assert!(terminal.raw().contains("\x1b[38;5;"), "there are colours");
    terminal.press("q");
    terminal.ended_well(&program).await;
    assert!(!terminal.raw().contains("canary"), "a key is shown");
}

#[tokio::test]
async fn a_signal_gives_the_terminal_back_too_and_no_color_is_heeded() {
    let (process, _one, _two) = running().await;
    for name in ["TERM", "HUP", "INT"] {
        for file in ["before", "after", "code", "pid"] {
            let _ = std::fs::remove_file(process.program.path(file));
        }
        let Some(mut terminal) = Terminal::open(&process, &[("NO_COLOR", "1")]) else {
            return skip(NO_TERMINAL);
        };
        terminal.shows("Targets 2 of 2 ready").await;
        let pid = std::fs::read_to_string(process.program.path("pid")).unwrap();
        signal(pid.trim().parse().unwrap(), name);
        terminal.ended_well(&process.program).await;
        let raw = terminal.raw();
        assert!(!raw.contains("\x1b[38;5;") && !raw.contains("\x1b[48;5;"), "{name}: {raw:?}");
    }
}

#[tokio::test]
async fn without_a_terminal_or_a_process_it_says_what_to_do() {
    let (process, _one, _two) = running().await;
    let admin = process.admin.to_string();
    let (code, said) = process.program.verb(&["top", "--admin", &admin]).await;
    assert_eq!(code, 64);
    assert!(said.contains("top wants a terminal") && said.contains("pointsman status"), "{said}");
    let (code, said) = process.program.verb(&["top", "--json", "--admin", &admin]).await;
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &told["status"]["targets"][0]["id"]), (0, &"one/k/m".into()), "{said}");
    for part in ["events", "decisions", "usage", "config"] {
        assert!(told[part].is_object(), "{part}: {said}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, said) = process.program.verb(&["top", "--json", "--admin", &free]).await;
    assert!(code == 69 && said.contains("nothing listens on"), "{code} {said}");
}
