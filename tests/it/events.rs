//! What does a running proxy tell of what happens, and what do an operator's verbs do?
//!
//! (Contract section 4: `/v1/events` and `/v1/targets/{id}:…`; requirements F10, D20.)

use crate::process::{HEAD, Process, Program, SOON, eventually, openai};
use crate::scene::{Api, KEY_ONE, KEY_TWO, Pair, Wire, provider};
use crate::stage::{self, Stage};
use pointsman::cli::events::event_line;
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply, Script};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

fn yaml(one: &Provider, two: &Provider, more: &str) -> String {
    format!(
        "{HEAD}log: {{format: json}}
retry: {{same_target: 0, backoff: {{base: 1ms, max: 1ms}}}}
providers:
{}{}routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: n, priority: 2}}]}}
  code: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: n, priority: 2}}]}}
{more}",
        openai("one", &one.base_url(), "KEY_ONE"),
        openai("two", &two.base_url(), "KEY_TWO"),
    )
}

struct Scene {
    one: Provider,
    two: Provider,
    process: Process,
}

impl Scene {
    async fn open() -> Scene {
        let one = Provider::start(Reply::says("one")).await.unwrap();
        let two = Provider::start(Reply::says("two")).await.unwrap();
        let program = Program::new(&yaml(&one, &two, ""))
            .env("KEY_ONE", "sk-one-0123456789")
            .env("KEY_TWO", "sk-two-0123456789");
        Scene { one, two, process: program.start().await }
    }

    /// Asks a route; returns who answered and whether that counts as a fallback.
    async fn asked(&self, route: &str) -> (String, String) {
        let answer = Call::chat(route).limit(SOON).send(self.process.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        (answer.text(), answer.header("x-used-fallback").unwrap_or_default().to_owned())
    }

    async fn does(&self, what: &str) -> Value {
        let answer = self.process.post(&format!("/v1/targets/{what}"), &self.process.token()).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.body_text());
        answer.json()
    }
}

/// Somebody who listens, as curl would.
struct Ear(BufReader<TcpStream>);

impl Ear {
    async fn open(process: &Process, headers: &str) -> Ear {
        let mut socket = TcpStream::connect(process.admin).await.unwrap();
        // HTTP/1.0, so that there are no chunks to be undone.
        let head = format!("GET /v1/events HTTP/1.0\r\nhost: localhost\r\n{headers}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut ear = Ear(BufReader::new(socket));
        while ear.line().await.is_some_and(|line| !line.starts_with("retry:")) {}
        ear
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(SOON, self.0.read_line(&mut line)).await.expect("a line in time");
        (read.unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; nothing at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        let (mut id, mut name) = (String::new(), String::new());
        loop {
            let line = self.line().await?;
            if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(data).unwrap();
                assert_eq!((event["id"].as_str(), event["event"].as_str()), (Some(&*id), Some(&*name)));
                return Some(event);
            }
        }
    }
}

#[tokio::test]
async fn what_happens_is_told_in_order_until_the_process_leaves() {
    let mut scene = Scene::open().await;
    let mut ear = Ear::open(&scene.process, "last-event-id: none\r\n").await;
    let token = scene.process.token();

    scene.one.set_script(Script::always(Reply::rate_limited(Some("60"))));
    assert_eq!(scene.asked("chat").await.0, "two");
    scene.does("two/k/n:drain").await;
    scene.does("two/k/n:ready").await;
    scene.does("one/k/m:reset").await;
    assert_eq!(scene.process.post("/v1/reload", &token).await.status, 200);
    let sound = std::fs::read_to_string(scene.process.program.config()).unwrap();
    assert!(!scene.process.reload(&(sound.clone() + "nonsense: 1\n")).await.is_last_good);
    scene.process.signal("TERM");

    let mut told = Vec::new();
    while let Some(event) = ear.next().await {
        told.push(event);
    }
    let lines: Vec<String> = told
        .iter()
        .map(|event| {
            // Without the time and what differs from run to run.
            let line = event_line(event);
            line.split_once("  ").map_or(line.clone(), |(_, rest)| rest.to_owned())
        })
        .collect();
    let starts = [
        "started               generation 1",
        "target_state          one/k/m  ready -> cooling  rate_limited",
        "failover              chat  one/k/m -> two/k/n  rate_limited  request ",
        "target_state          two/k/n  ready -> drained  operator",
        "operator              drain two/k/n",
        "target_state          two/k/n  drained -> ready  operator",
        "operator              ready two/k/n",
        "target_state          one/k/m  cooling -> ready  operator",
        "operator              reset one/k/m",
        "reload                generation 2",
        "reload_failed         generation 2 stays  1 fault  pointsman.yaml",
        "stopping              0 under way",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line:?} is not {start:?}");
    }
    let (status, _) = scene.process.end(SOON).await;
    assert_eq!(status.code(), Some(0), "a listener holds nobody up");
}

#[tokio::test]
async fn a_pinned_target_is_asked_first_until_it_is_ready_again() {
    let scene = Scene::open().await;
    let (first, second) = (("one".to_owned(), "false".to_owned()), ("two".to_owned(), "false".to_owned()));
    assert_eq!(scene.asked("chat").await, first);

    let told = scene.does("two%2Fk%2Fn:pin?route=chat").await;
    assert_eq!(told["pinned"], serde_json::json!([{ "route": "chat", "until": null }]));
    assert_eq!((scene.asked("chat").await, scene.asked("code").await), (second.clone(), first.clone()));
    let routes = scene.process.ask_json("/v1/routes").await;
    let chat = ["target", "pinned"].map(|name| routes["routes"][0][name].as_str().unwrap());
    assert_eq!(chat, ["two/k/n", "two/k/n"]);
    let page = scene.process.ask_json("/v1/status").await;
    assert_eq!(page["routes"][0]["reason"], "pinned", "why it is not the first: {page}");
    let (code, said) =
        scene.process.program.verb(&["status", "--admin", &scene.process.admin.to_string()]).await;
    assert!(code == 0 && said.contains("pinned to two/k/n"), "{code} {said}");

    // A pin is no outage: who fails is followed by the others.
    scene.two.set_script(Script::always(Reply::status(500)));
    assert_eq!(scene.asked("chat").await, ("one".to_owned(), "true".to_owned()));
    scene.two.set_script(Script::always(Reply::says("two")));
    scene.does("two/k/n:reset").await;
    assert!(scene.process.hang_up().await.is_last_good);
    assert_eq!(scene.asked("chat").await, second, "a reload leaves it");

    scene.does("one/k/m:pin?for=720h").await;
    assert_eq!(scene.asked("chat").await, first, "the last pin of a route counts");
    scene.does("two/k/n:pin").await;
    assert_eq!((scene.asked("chat").await, scene.asked("code").await), (second.clone(), second.clone()));
    scene.does("two/k/n:ready").await;
    assert_eq!((scene.asked("chat").await, scene.asked("code").await), (first.clone(), first.clone()));

    scene.does("two/k/n:pin?for=300ms").await;
    assert_eq!(scene.asked("chat").await, second);
    eventually("the pin has ended", async || scene.asked("chat").await.0 == "one").await;
    assert_eq!(scene.process.target("two/k/n").await["pinned"], serde_json::json!([]));
}

#[tokio::test]
async fn a_pin_that_makes_no_sense_is_refused() {
    let scene = Scene::open().await;
    let token = scene.process.token();
    scene.does("two/k/n:drain").await;
    for (what, status) in [
        ("one/k/m:pin?route=nope", 409),
        ("two/k/n:pin", 409),
        ("nobody/k/m:pin", 404),
        ("one/k/m:pin?for=0s", 400),
    ] {
        let answer = scene.process.post(&format!("/v1/targets/{what}"), &token).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.body_text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    }
}

#[tokio::test]
async fn a_pin_ends_with_the_route_or_target_that_it_is_about() {
    let one = Provider::start(Reply::says("one")).await.unwrap();
    let two = Provider::start(Reply::says("two")).await.unwrap();
    let yaml = |targets: &str| {
        let (one, two) = (one.base_url(), two.base_url());
        let providers =
            provider("one", "openai", &one, KEY_ONE, "") + &provider("two", "openai", &two, KEY_TWO, "");
        format!("providers:\n{providers}routes:\n  chat: {{targets: [{targets}]}}\n")
    };
    let both = "{provider: one, model: m, priority: 1}, {provider: two, model: n, priority: 2}";
    let stage = Stage::open(&yaml(both)).await;
    let live = stage.house.live();
    let target = live.slots.iter().find(|slot| &*slot.provider == "two").unwrap().target.id.clone();
    let pin = pointsman::live::pins::Pin { route: "chat".into(), target, until: None };
    stage.house.pins.put(pin);
    let asked = async || Call::chat("chat").send(stage.data).await.unwrap().text();
    assert_eq!(asked().await, "two");
    stage.swap(&yaml("{provider: one, model: m}"));
    assert_eq!(asked().await, "one");
    stage.swap(&yaml(both));
    assert_eq!(asked().await, "one", "it does not come back");
}

fn told(stage: &Stage) -> Vec<Value> {
    let told = stage.house.events.newest(1000);
    told.iter().map(|told| serde_json::from_str(&told.json).unwrap()).collect()
}

fn of<'a>(told: &'a [Value], kind: &str) -> Vec<&'a Value> {
    told.iter().filter(|event| event["event"] == kind).collect()
}

#[tokio::test]
async fn a_stream_that_is_taken_up_is_told_as_a_failover_and_a_rescue() {
    let first =
        Provider::start(Script::always(Reply::close_after(5).text("a b c d e f g h i j"))).await.unwrap();
    let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::says("a b c d e f g h i j"), "").await;
    let answer = pair.stream().await;
    assert!(answer.has_end_marker(), "{}", answer.body_text());
    stage::eventually("the request is told", || pair.stage.said("request").len() == 1).await;
    let told = told(&pair.stage);
    let (moves, rescues) = (of(&told, "failover"), of(&told, "rescue"));
    assert_eq!((moves.len(), rescues.len()), (1, 1), "{told:#?}");
    assert_eq!(
        (moves[0]["reason"].as_str(), moves[0]["to"].as_str()),
        (Some("truncated"), Some("two/k/beta"))
    );
    assert_eq!(rescues[0]["result"], "rescued");
    let id = answer.header("x-request-id").unwrap();
    assert_eq!((moves[0]["request_id"].as_str(), rescues[0]["request_id"].as_str()), (Some(id), Some(id)));
}

#[tokio::test]
async fn an_outage_does_not_push_everything_else_out() {
    let first = Provider::start(Script::always(Reply::status(500))).await.unwrap();
    let more = "breaker: {enabled: false}\nretry: {same_target: 0, budget_min_per_second: 1000}\n";
    let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::ok(), more).await;
    for _ in 0..40 {
        assert_eq!(pair.chat().await.status, 200);
    }
    stage::eventually("all are told", || pair.stage.said("request").len() == 40).await;
    let told = told(&pair.stage);
    let moves = of(&told, "failover");
    let requests: u64 = moves.iter().map(|event| event["requests"].as_u64().unwrap()).sum();
    assert!(moves.len() < 40 && requests <= 40, "{} events for {requests} requests", moves.len());
    assert_eq!(
        pair.stage.metric("pointsman_failovers_total", &[]).to_string(),
        "40",
        "the metric has them all"
    );
}

#[tokio::test]
async fn a_key_that_was_rotated_is_told_and_one_that_cannot_be_read_too() {
    let takes_new = Script::rule(|seen| match seen.header("authorization") {
        Some("Bearer sk-new-0123456789") => Reply::says("one"),
        _ => Reply::status(401),
    });
    let one = Provider::start(takes_new).await.unwrap();
    let two = Provider::start(Reply::says("two")).await.unwrap();
    let program = Program::new("").env("KEY_TWO", "sk-two-0123456789");
    let file = program.write("key", "sk-old-0123456789");
    program
        .configure(&yaml(&one, &two, "").replace("{env: KEY_ONE}", &format!("{{file: {}}}", file.display())));
    let process = program.start().await;
    let chat = async || Call::chat("chat").limit(SOON).send(process.data).await.unwrap().text();
    let told = async || {
        let page = Call::get("/v1/events?limit=1000").header("accept", "application/json");
        let page = page.send(process.admin).await.unwrap().json();
        let mut events = page["events"].as_array().unwrap().clone();
        events.reverse();
        events.into_iter().filter(|event| event["credential"] == "one/k").collect::<Vec<_>>()
    };
    std::fs::remove_file(&file).unwrap();
    assert_eq!(chat().await, "two");
    let failed = told().await;
    assert_eq!((failed.len(), failed[0]["event"].as_str()), (1, Some("credential_failed")), "{failed:#?}");
    process.program.write("key", "sk-new-0123456789");
    process.post("/v1/targets/one/k/m:reset", &process.token()).await;
    assert_eq!(chat().await, "one");
    let all = told().await;
    assert_eq!(all.last().unwrap()["event"], "credential_refreshed", "{all:#?}");
    assert!(!format!("{all:?}").contains("sk-"), "{all:?}");
}
