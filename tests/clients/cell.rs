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
use pointsman::standin::{GREETING, Provider, Reply, Script, Seen};
use serde_json::json;

use crate::roster::{Call, Client, Form, Kind};
use crate::stage::{CLIENT_KEY, PROVIDER_KEY, ROUTE, Stage};
use crate::tap::Said;
use crate::tools;

/// Longest time of one run of a client.
pub const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Plain,
    Streamed,
    Failover,
    Tool,
    Lists,
    /// The target of the client's own dialect answers 429, and one of this kind stands behind it.
    Behind(Kind),
}

/// All of them, in the order of the columns.
pub const CELLS: [Cell; 9] = [
    Cell::Plain,
    Cell::Streamed,
    Cell::Failover,
    Cell::Tool,
    Cell::Lists,
    Cell::Behind(Kind::OpenAi),
    Cell::Behind(Kind::Anthropic),
    Cell::Behind(Kind::Gemini),
    Cell::Behind(Kind::Bedrock),
];

/// What came of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// There is no such thing with this client.
    None,
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
}

impl Played {
    pub fn only(verdict: Verdict) -> Played {
        Played { verdict, cell: None, said: Vec::new(), elsewhere: Vec::new() }
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
            Cell::Behind(kind) => kind.word(),
        }
    }

    /// Returns what an SDK does in it; nothing where it cannot.
    fn steps(self, client: &Client) -> Option<&'static str> {
        let is_own = matches!(self, Cell::Behind(kind) if kind == client.speech.own_kind());
        let Form::Sdk(name) = client.form else {
            // Programs stream, whatever they do.
            let is_for_it = matches!(self, Cell::Streamed | Cell::Failover | Cell::Behind(_));
            return (is_for_it && !is_own).then_some("");
        };
        match self {
            Cell::Plain => Some("plain"),
            Cell::Streamed => Some("streamed"),
            Cell::Failover => Some("plain,streamed"),
            Cell::Tool => Some("tool"),
            Cell::Lists if name == "anthropic" => Some("models,count"),
            Cell::Lists => (name == "openai-chat" || name == "google-genai").then_some("models"),
            Cell::Behind(_) => (!is_own).then_some("plain,streamed,tool"),
        }
    }
}

/// Two providers and the program before them.
struct Scene {
    first: Provider,
    second: Provider,
    stage: Stage,
}

impl Scene {
    async fn build(client: &Client, cell: Cell) -> Scene {
        let is_sdk = matches!(client.form, Form::Sdk(_));
        let own = client.speech.own_kind();
        let first = match cell {
            Cell::Failover | Cell::Behind(_) => Reply::status(429),
            Cell::Tool => tools::reply(client.speech),
            Cell::Plain | Cell::Streamed | Cell::Lists => Reply::ok(),
        };
        let kind = if let Cell::Behind(kind) = cell { kind } else { own };
        // Programs offer tools with all that they ask.
        let second = Script::rule(move |seen| {
            let has_tool = is_sdk && String::from_utf8_lossy(&seen.body).contains(tools::NAME);
            if has_tool { tools::call() } else { Reply::ok() }
        });
        let first = Provider::start(first).await.expect("a stand-in");
        let second = Provider::start(second).await.expect("a stand-in");
        let targets = [(own, first.origin(), "model-one"), (kind, second.origin(), "model-two")];
        let stage = Stage::build(&targets).await;
        Scene { first, second, stage }
    }

    fn seen(&self) -> Vec<Seen> {
        let mut seen = self.first.seen();
        seen.extend(self.second.seen());
        seen
    }
}

/// Plays a cell.
pub async fn play(client: &Client, cell: Cell) -> Played {
    let Some(steps) = cell.steps(client) else { return Played::only(Verdict::None) };
    let scene = Scene::build(client, cell).await;
    let (is_ok, output) = run(client, &scene.stage, steps).await;
    let said = scene.stage.tap.said();
    let verdict = match judge(client, cell, &scene, is_ok, &output) {
        Ok(()) => Verdict::Good,
        Err(why) => {
            let log = scene.stage.process.last_lines(12).join("\n");
            eprintln!("--- {} / {}: {why}\n{output}\n{said:#?}\n{log}", client.name, cell.title());
            Verdict::Failed(why)
        }
    };
    if std::env::var_os("POINTSMAN_CLIENTS_SHOW").is_some() {
        show(client, cell, &scene, &output);
    }
    let elsewhere = scene.stage.elsewhere.seen().iter().map(|seen| host_of(&seen.path)).collect();
    Played { verdict, cell: Some(cell), said, elsewhere }
}

/// Returns the host of `host:443` or of `http://host/path`, the two forms in which a proxy is asked.
fn host_of(path: &str) -> String {
    let rest = path.split("://").nth(1).unwrap_or(path);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    // What a client installs at run time; which registry that is, its settings say.
    if host.starts_with("registry.") { "a package registry".to_owned() } else { host.to_owned() }
}

/// Runs the client to its end; tells whether it exited with 0, and all it said.
pub async fn run(client: &Client, stage: &Stage, steps: &str) -> (bool, String) {
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

fn judge(client: &Client, cell: Cell, scene: &Scene, is_ok: bool, output: &str) -> Result<(), String> {
    let want = |is_so: bool, why: &dyn Fn() -> String| if is_so { Ok(()) } else { Err(why()) };
    let last = || output.trim().lines().last().unwrap_or("it said nothing").to_owned();
    want(is_ok, &last)?;
    let is_program = matches!(client.form, Form::Program(_));
    want(!is_program || output.contains(GREETING), &|| format!("it does not say the answer: {}", last()))?;
    let said = scene.stage.tap.said();
    // A call without an answer was given up by the client: opencode leaves before its title is there.
    let mut answers =
        said.iter().filter(|said| said.what.contains(client.speech.path()) && said.status.is_some());
    let odd = answers.find(|said| said.status != Some(200));
    want(odd.is_none(), &|| format!("not answered well: {odd:?}"))?;
    let (first, second) = (scene.first.count(), scene.second.count());
    let are_counts_right = match cell {
        Cell::Failover | Cell::Behind(_) => first > 0 && second > 0,
        Cell::Lists => second == 0,
        Cell::Plain | Cell::Streamed | Cell::Tool => first > 0 && second == 0,
    };
    want(are_counts_right, &|| format!("{first} calls at the first target, {second} at the second"))?;
    let leak = scene
        .seen()
        .into_iter()
        .find(|seen| format!("{:?} {}", seen.headers, seen.path).contains(CLIENT_KEY));
    want(leak.is_none(), &|| "the client's key reached a provider".to_owned())?;
    let stranger =
        scene.seen().into_iter().find(|seen| !format!("{:?}", seen.headers).contains(PROVIDER_KEY));
    want(stranger.is_none(), &|| "a call reached a provider without its key".to_owned())
}

/// Prints what went over the wire, for whoever wonders about a client.
fn show(client: &Client, cell: Cell, scene: &Scene, output: &str) {
    println!("--- {} / {}\n{output}", client.name, cell.title());
    let stage = &scene.stage;
    println!("{:#?}", stage.tap.said());
    println!("elsewhere: {:?}", stage.elsewhere.seen().iter().map(|s| s.path.clone()).collect::<Vec<_>>());
    for seen in scene.seen() {
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
    let provider = Provider::start(Reply::ok()).await.expect("a stand-in");
    let stage = Stage::build(&[(Kind::Bedrock, provider.origin(), "model-one")]).await;
    let body = json!({"messages": [{"role": "user", "content": [{"text": "Hello."}]}]});
    let call = Probe::json("/model/chat/converse", &body).bearer(CLIENT_KEY).limit(RUN_LIMIT);
    let status = call.send(stage.process.data).await.expect("pointsman answers").status;
    format!("`POST /model/{{id}}/converse` is answered {status}")
}
