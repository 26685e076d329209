//! Does one client, in one situation, get what it asked for?
//!
//! Each cell has a stage of its own: two stand-in providers, the real program before them with no
//! policy changed, a tap before that, and a proxy that refuses everything for what the client looks
//! for elsewhere. The client runs once, in a new home, for at most [`RUN_LIMIT`], and its whole
//! process group is killed afterwards.
//!
//! What a client says is only half of the judgement: the stand-ins' journals say which targets were
//! called and with whose key, the tap what was answered. `POINTSMAN_CLIENTS_SHOW` prints it all.

use std::process::Stdio;
use std::time::Duration;

use pointsman::standin::caller::Call as Probe;
use pointsman::standin::{GREETING, Provider, Reply, Seen};
use serde_json::json;

use crate::process::Process;
use crate::roster::{Call, Client, Form, Speech};
use crate::tap::{Said, Tap};
use crate::tools;

/// Longest time of one run of a client.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// The route that every client asks for.
const ROUTE: &str = "chat";
const CLIENT_KEY: &str = "person-0123456789abcdef";
const PROVIDER_KEY: &str = "sk-provider-0123456789";

/// A situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Plain,
    Streamed,
    Failover,
    Tool,
    Lists,
    Other,
}

/// All of them, in the order of the columns.
pub const CELLS: [Cell; 6] =
    [Cell::Plain, Cell::Streamed, Cell::Failover, Cell::Tool, Cell::Lists, Cell::Other];

/// What came of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// There is no such thing with this client.
    None,
    /// We say ourselves that we cannot do it.
    NotYet,
    /// The client is not there.
    Missing(String),
    Failed(String),
}

impl Verdict {
    pub fn is_failure(&self) -> bool {
        matches!(self, Verdict::Failed(_))
    }

    /// Returns the word of the table.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Good => "ok",
            Verdict::None => "–",
            Verdict::NotYet => "not yet",
            Verdict::Missing(_) => "not run",
            Verdict::Failed(_) => "FAILED",
        }
    }
}

/// A verdict, and what was seen on the way.
pub struct Played {
    pub verdict: Verdict,
    pub cell: Option<Cell>,
    /// What the client asked of pointsman.
    pub said: Vec<Said>,
    /// Hosts that it looked for elsewhere.
    pub elsewhere: Vec<String>,
    /// No target of its own dialect can be configured: another's stood in its place.
    pub is_carried: bool,
}

impl Played {
    pub fn only(verdict: Verdict) -> Played {
        Played { verdict, cell: None, said: Vec::new(), elsewhere: Vec::new(), is_carried: false }
    }
}

impl Cell {
    /// Returns the head of its column.
    pub fn title(self) -> &'static str {
        match self {
            Cell::Plain => "plain",
            Cell::Streamed => "streamed",
            Cell::Failover => "429, next answers",
            Cell::Tool => "tool call",
            Cell::Lists => "lists",
            Cell::Other => "other dialect",
        }
    }

    /// Returns what an SDK does in it; nothing where it cannot.
    fn steps(self, client: &Client) -> Option<&'static str> {
        let Form::Sdk(name) = client.form else {
            // Programs stream, whatever they do.
            return matches!(self, Cell::Streamed | Cell::Failover | Cell::Other).then_some("");
        };
        match self {
            Cell::Plain => Some("plain"),
            Cell::Streamed => Some("streamed"),
            Cell::Failover | Cell::Other => Some("plain,streamed"),
            Cell::Tool => (name == "openai-chat" || name == "anthropic").then_some("tool"),
            Cell::Lists if name == "anthropic" => Some("models,count"),
            Cell::Lists => (name == "openai-chat" || name == "google-genai").then_some("models"),
        }
    }

    fn kind(self, speech: Speech) -> &'static str {
        match self {
            Cell::Other => speech.other_kind(),
            Cell::Plain | Cell::Streamed | Cell::Failover | Cell::Tool | Cell::Lists => speech.own_kind(),
        }
    }
}

/// The providers behind the route, the program before them and the tap before that.
struct Stage {
    first: Provider,
    second: Provider,
    elsewhere: Provider,
    process: Process,
    tap: Tap,
}

impl Stage {
    async fn build(kind: &str, first: Reply) -> Result<Stage, Verdict> {
        let first = Provider::start(first).await.expect("a stand-in");
        let second = Provider::start(Reply::ok()).await.expect("a stand-in");
        let elsewhere = Provider::start(Reply::status(403)).await.expect("a stand-in");
        let base =
            |provider: &Provider| if kind == "openai" { provider.base_url() } else { provider.origin() };
        let provider = |name: &str, provider: &Provider| {
            let base = base(provider);
            format!(
                "  {name}: {{kind: {kind}, base_url: \"{base}\", credentials: [{{name: k, key: {{env: PROVIDER_KEY}}}}]}}\n"
            )
        };
        // No timers are changed: this is what an operator has who writes no more than providers.
        let configuration = format!(
            "log: {{format: json}}
clients: [{{name: person, key: {{env: CLIENT_KEY}}, routes: [\"*\"]}}]
providers:
{}{}routes:
  {ROUTE}:
    targets:
      - {{provider: first, model: model-one, priority: 1}}
      - {{provider: second, model: model-two, priority: 2}}
default_route: {ROUTE}
",
            provider("first", &first),
            provider("second", &second)
        );
        let environment = [("CLIENT_KEY", CLIENT_KEY), ("PROVIDER_KEY", PROVIDER_KEY)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        refused(&configuration, &environment).await?;
        let process = Process::start(&configuration, &environment).await;
        let tap = Tap::start(process.data).await.expect("a tap");
        Ok(Stage { first, second, elsewhere, process, tap })
    }

    /// Asks by a call of the least form whether the program says that it cannot do this.
    async fn can(&self, speech: Speech) -> bool {
        let message = json!([{"role": "user", "content": "Hello."}]);
        let (path, body) = match speech {
            Speech::Chat => (speech.path().to_owned(), json!({"model": ROUTE, "messages": message})),
            Speech::Messages => {
                (speech.path().to_owned(), json!({"model": ROUTE, "max_tokens": 9, "messages": message}))
            }
            Speech::Responses => {
                (speech.path().to_owned(), json!({"model": ROUTE, "input": "Hello.", "store": false}))
            }
            Speech::Gemini => {
                let contents = json!({"contents": [{"role": "user", "parts": [{"text": "Hello."}]}]});
                (format!("{}{ROUTE}:generateContent", speech.path()), contents)
            }
        };
        let call = Probe::json(&path, &body).bearer(CLIENT_KEY).limit(RUN_LIMIT);
        let answer = call.send(self.process.data).await.expect("pointsman answers");
        self.first.reset();
        let is_refused = answer.body_text().to_ascii_lowercase().contains("capability_not_supported");
        !(answer.status == 400 && is_refused)
    }

    fn seen(&self) -> Vec<Seen> {
        let mut seen = self.first.seen();
        seen.extend(self.second.seen());
        seen
    }
}

/// Tells whether the file is refused because its kind of provider is not built.
async fn refused(configuration: &str, environment: &[(String, String)]) -> Result<(), Verdict> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pointsman.yaml");
    std::fs::write(&path, format!("version: 1\n{configuration}")).expect("the file is written");
    let program =
        std::env::var("POINTSMAN_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pointsman").to_owned());
    let mut command = tokio::process::Command::new(program);
    command.args(["check", "-c"]).arg(&path).envs(environment.iter().cloned());
    let output = command.output().await.expect("pointsman check runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(());
    }
    let is_unbuilt = said.contains("is not built yet");
    Err(if is_unbuilt { Verdict::NotYet } else { Verdict::Failed(format!("check: {said}")) })
}

/// Plays a cell.
pub async fn play(client: &Client, cell: Cell) -> Played {
    let Some(steps) = cell.steps(client) else { return Played::only(Verdict::None) };
    let first = match cell {
        Cell::Failover => Reply::status(429),
        Cell::Tool => tools::reply(client.speech).expect("a dialect with tools"),
        Cell::Plain | Cell::Streamed | Cell::Lists | Cell::Other => Reply::ok(),
    };
    let (own, other) = (cell.kind(client.speech), client.speech.other_kind());
    let mut built = Stage::build(own, first.clone()).await;
    let is_carried = own != other && matches!(built, Err(Verdict::NotYet));
    if is_carried {
        built = Stage::build(other, first).await;
    }
    let stage = match built {
        Ok(stage) => stage,
        Err(verdict) => return Played::only(verdict),
    };
    let is_asked_first = matches!(cell, Cell::Plain | Cell::Streamed | Cell::Other);
    if is_asked_first && !stage.can(client.speech).await {
        return Played::only(Verdict::NotYet);
    }
    let (is_ok, output) = run(client, &stage, steps).await;
    let said = stage.tap.said();
    let verdict = match judge(client, cell, &stage, is_ok, &output) {
        Ok(()) => Verdict::Good,
        Err(why) => {
            let log = stage.process.last_lines(12).join("\n");
            eprintln!("--- {} / {}: {why}\n{output}\n{said:#?}\n{log}", client.name, cell.title());
            Verdict::Failed(why)
        }
    };
    if std::env::var_os("POINTSMAN_CLIENTS_SHOW").is_some() {
        show(client, cell, &stage, &output);
    }
    let elsewhere = stage.elsewhere.seen().iter().map(|seen| host_of(&seen.path)).collect();
    Played { verdict, cell: Some(cell), said, elsewhere, is_carried }
}

/// Judges a cell of a client whose dialect is not served, without playing it.
pub fn without(client: &Client, cell: Cell) -> Played {
    Played::only(if cell.steps(client).is_some() { Verdict::NotYet } else { Verdict::None })
}

/// Returns the host of `host:443` or of `http://host/path`, the two forms in which a proxy is asked.
fn host_of(path: &str) -> String {
    let rest = path.split("://").nth(1).unwrap_or(path);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    // What a client installs at run time; which registry that is, its settings say.
    if host.starts_with("registry.") { "a package registry".to_owned() } else { host.to_owned() }
}

/// Runs the client to its end; tells whether it exited with 0, and all it said.
async fn run(client: &Client, stage: &Stage, steps: &str) -> (bool, String) {
    let home = tempfile::Builder::new().prefix("client-").tempdir().expect("a home");
    let (origin, elsewhere) = (stage.tap.origin(), stage.elsewhere.origin());
    let call = Call {
        origin: &origin,
        key: CLIENT_KEY,
        model: ROUTE,
        text: GREETING,
        steps,
        home: home.path(),
        elsewhere: &elsewhere,
    };
    let mut command = client.command(&call);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that what it leaves behind goes with it.
    command.process_group(0).kill_on_drop(true);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(fault) => return (false, format!("it does not start: {fault}")),
    };
    let group = child.id();
    let ended = tokio::time::timeout(RUN_LIMIT, child.wait_with_output()).await;
    if let Some(group) = group {
        let mut kill = tokio::process::Command::new("kill");
        kill.args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null());
        let _ = kill.status().await;
    }
    match ended {
        Ok(Ok(output)) => {
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        }
        Ok(Err(fault)) => (false, fault.to_string()),
        Err(_) => (false, format!("not done after {} s", RUN_LIMIT.as_secs())),
    }
}

fn judge(client: &Client, cell: Cell, stage: &Stage, is_ok: bool, output: &str) -> Result<(), String> {
    let want = |is_so: bool, why: &dyn Fn() -> String| if is_so { Ok(()) } else { Err(why()) };
    let last = || output.trim().lines().last().unwrap_or("it said nothing").to_owned();
    want(is_ok, &last)?;
    let is_program = matches!(client.form, Form::Program(_));
    want(!is_program || output.contains(GREETING), &|| format!("it does not say the answer: {}", last()))?;
    let said = stage.tap.said();
    // A call without an answer was given up by the client: opencode leaves before its title is there.
    let mut answers =
        said.iter().filter(|said| said.what.contains(client.speech.path()) && said.status.is_some());
    let odd = answers.find(|said| said.status != Some(200));
    want(odd.is_none(), &|| format!("not answered well: {odd:?}"))?;
    let (first, second) = (stage.first.count(), stage.second.count());
    let are_counts_right = match cell {
        Cell::Failover => first > 0 && second > 0,
        Cell::Lists => second == 0,
        Cell::Plain | Cell::Streamed | Cell::Tool | Cell::Other => first > 0 && second == 0,
    };
    want(are_counts_right, &|| format!("{first} calls at the first target, {second} at the second"))?;
    let leak = stage
        .seen()
        .into_iter()
        .find(|seen| format!("{:?} {}", seen.headers, seen.path).contains(CLIENT_KEY));
    want(leak.is_none(), &|| "the client's key reached a provider".to_owned())?;
    let stranger =
        stage.seen().into_iter().find(|seen| !format!("{:?}", seen.headers).contains(PROVIDER_KEY));
    want(stranger.is_none(), &|| "a call reached a provider without its key".to_owned())
}

/// Prints what went over the wire, for whoever wonders about a client.
fn show(client: &Client, cell: Cell, stage: &Stage, output: &str) {
    println!("--- {} / {}\n{output}", client.name, cell.title());
    println!("{:#?}", stage.tap.said());
    println!("elsewhere: {:?}", stage.elsewhere.seen().iter().map(|s| s.path.clone()).collect::<Vec<_>>());
    for seen in stage.seen() {
        let headers: Vec<String> =
            seen.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let body = String::from_utf8_lossy(&seen.body).chars().take(1500).collect::<String>();
        println!("{} {}\n  {}\n  {body}", seen.method, seen.path, headers.join("\n  "));
    }
    for line in stage.process.last_lines(12) {
        println!("{line}");
    }
}

/// Says what becomes of Bedrock's own dialect, which boto3 speaks.
pub async fn bedrock() -> String {
    let stage = match Stage::build("openai", Reply::ok()).await {
        Ok(stage) => stage,
        Err(verdict) => return format!("not known: {verdict:?}"),
    };
    let body = json!({"messages": [{"role": "user", "content": [{"text": "Hello."}]}]});
    let call = Probe::json("/model/chat/converse", &body).bearer(CLIENT_KEY).limit(RUN_LIMIT);
    let status = call.send(stage.process.data).await.expect("pointsman answers").status;
    format!("`POST /model/{{id}}/converse` is answered {status}")
}
