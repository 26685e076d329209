//! What does a real inference server say behind the route?
//!
//! LiteLLM's proxy from PyPI, with answers of its own (`mock_response`) and a key that it checks:
//! a server that none of us wrote, with its own heads, chunks and usage. It runs on loopback, on a port
//! that it finds itself, in a process group of its own that is killed afterwards; it has
//! [`START_LIMIT`] to start. What it cannot play is said on the page: its mock streams no calls of
//! tools (a stream with `finish_reason` and nothing before it, 1.106.2).

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use pointsman::standin::{GREETING, Provider, Reply};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cell::{Verdict, run};
use crate::roster::{Client, Kind, ROSTER, installed};
use crate::stage::{PROVIDER_KEY, Stage};

/// Name of its row.
pub const NAME: &str = "LiteLLM proxy";
/// Longest time until it listens (8 s measured on two idle cores, 25 s on busy ones).
const START_LIMIT: Duration = Duration::from_secs(90);

/// What was played before it.
#[derive(Default)]
pub struct Server {
    verdicts: Vec<Verdict>,
}

/// What stands before the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Nobody listens there.
    Dead,
    /// A stand-in of Anthropic's dialect that answers 429.
    Limited,
}

/// Heads of the columns, and in each who calls, what it does, for which model, and what stands before.
const CELLS: [(&str, &str, &str, &str, Before); 6] = [
    ("plain, streamed", "openai, chat", "plain,streamed", "answers", Before::Nothing),
    ("tool call", "openai, chat", "tool_whole", "calls", Before::Nothing),
    ("dead primary", "openai, chat", "plain,streamed", "answers", Before::Dead),
    ("429 of another dialect", "openai, chat", "plain,streamed", "answers", Before::Limited),
    ("anthropic's client", "anthropic", "plain,streamed", "answers", Before::Nothing),
    ("google-genai's client", "google-genai", "plain,streamed", "answers", Before::Nothing),
];

impl Server {
    /// Starts the server and plays every cell.
    pub async fn play() -> Server {
        let reason = std::fs::read_to_string(installed().join("python/litellm-proxy.failed"));
        if let Ok(reason) = reason {
            return Server { verdicts: vec![Verdict::Missing(reason.trim().to_owned())] };
        }
        let running = match Running::start().await {
            Ok(running) => running,
            Err(why) => return Server { verdicts: vec![Verdict::Failed(why)] },
        };
        let mut verdicts = Vec::new();
        for cell in CELLS {
            verdicts.push(running.cell(cell).await);
        }
        running.stop().await;
        Server { verdicts }
    }

    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Returns what the terminal has.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for (verdict, cell) in self.verdicts.iter().zip(CELLS) {
            let _ = writeln!(text, "{NAME} {} / {}: {}", version(), cell.0, verdict.word());
        }
        text + &self.notes()
    }

    /// Returns what the page has.
    pub fn page(&self) -> String {
        let heads: Vec<&str> = CELLS.iter().map(|cell| cell.0).collect();
        let mut text = format!("| server | version | {} |\n", heads.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(CELLS.len()));
        let word = |at: usize| self.verdicts.get(at).map_or("not run", Verdict::word);
        let words: Vec<&str> = (0..CELLS.len()).map(word).collect();
        let _ = writeln!(text, "| {NAME} | {} | {} |", version(), words.join(" | "));
        let notes = self.notes();
        if notes.is_empty() { text } else { format!("{text}\n{notes}") }
    }

    fn notes(&self) -> String {
        let mut text = String::new();
        for (verdict, cell) in self.verdicts.iter().zip(CELLS) {
            let _ = match verdict {
                Verdict::Failed(why) => writeln!(text, "- {NAME}, {}: {why}", cell.0),
                Verdict::Missing(why) => writeln!(text, "- {NAME}: not installable: {why}"),
                Verdict::Good | Verdict::None => Ok(()),
            };
        }
        text
    }
}

/// The pinned version.
fn version() -> &'static str {
    include_str!("server.txt").lines().find_map(|line| line.strip_prefix("litellm==")).unwrap_or("?")
}

/// The server's process.
struct Running {
    child: Child,
    origin: String,
    _home: tempfile::TempDir,
}

impl Running {
    async fn start() -> Result<Running, String> {
        let home = tempfile::Builder::new().prefix("server-").tempdir().map_err(|fault| fault.to_string())?;
        let file = home.path().join("config.yaml");
        std::fs::write(&file, configuration()).map_err(|fault| fault.to_string())?;
        let mut command = Command::new(installed().join("server/bin/litellm"));
        command.args(["--host", "127.0.0.1", "--port", "0", "--config"]).arg(&file);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", home.path()).env("TMPDIR", home.path()).env("LANG", "C.UTF-8");
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").current_dir(home.path());
        // Whatever it looks for elsewhere is refused.
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("HTTP_PROXY", "http://127.0.0.1:9");
        command.env("NO_PROXY", "127.0.0.1,localhost");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|fault| format!("it does not start: {fault}"))?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let mut last = String::new();
        let listening = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, address)) = line.split_once("running on ") {
                    return address.split(' ').next().map(str::to_owned);
                }
                last = line;
            }
            None
        };
        let found = tokio::time::timeout(START_LIMIT, listening).await;
        let Ok(Some(origin)) = found else {
            let _ = child.kill().await;
            return Err(format!("it does not listen: {last}"));
        };
        // Its log must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Running { child, origin, _home: home })
    }

    async fn cell(&self, (title, client, steps, model, before): (&str, &str, &str, &str, Before)) -> Verdict {
        let client = client_of(client);
        let mut primary = Provider::start(Reply::status(429)).await.expect("a stand-in");
        let itself = (Kind::OpenAi, self.origin.clone(), model);
        let targets = match before {
            Before::Nothing => vec![itself],
            Before::Dead => vec![(Kind::OpenAi, primary.origin(), "model-one"), itself],
            Before::Limited => vec![(Kind::Anthropic, primary.origin(), "model-one"), itself],
        };
        if before == Before::Dead {
            primary.go_down().await.expect("its port is closed");
        }
        let stage = Stage::build(&targets).await;
        let (is_ok, output) = run(client, &stage, steps).await;
        let answered = stage.process.lines_of("request");
        let is_it =
            |line: &String| line.contains(&format!("/k/{model}\"")) && line.contains("\"status\":200");
        let was_passed = before == Before::Dead || (primary.count() > 0) == (before == Before::Limited);
        match (is_ok, !answered.is_empty() && answered.iter().all(is_it), was_passed) {
            (true, true, true) => Verdict::Good,
            (true, _, _) => Verdict::Failed(format!("not as it was meant: {answered:?}")),
            (false, _, _) => {
                eprintln!("--- {NAME} / {title}\n{output}\n{answered:#?}");
                Verdict::Failed(output.trim().lines().last().unwrap_or("it said nothing").to_owned())
            }
        }
    }

    async fn stop(mut self) {
        if let Some(group) = self.child.id() {
            let mut kill = Command::new("kill");
            kill.args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null());
            let _ = kill.status().await;
        }
        let _ = self.child.wait().await;
    }
}

fn client_of(name: &str) -> &'static Client {
    ROSTER.iter().find(|client| client.name == name).expect("a client of that name")
}

/// Two models: one says the greeting, one calls the tool of `sdk.py`.
fn configuration() -> String {
    format!(
        "model_list:
  - model_name: answers
    litellm_params: {{model: openai/any, api_key: none, mock_response: \"{GREETING}\"}}
  - model_name: calls
    litellm_params:
      model: openai/any
      api_key: none
      mock_response: \"\"
      mock_tool_calls: [{{id: call_1, type: function, function: {{name: weather, arguments: '{{\"city\": \"Málaga\"}}'}}}}]
general_settings: {{master_key: {PROVIDER_KEY}}}
litellm_settings: {{telemetry: false}}
"
    )
}
