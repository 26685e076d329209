//! Is each change of a target's state told, also those that only time brings about?
//!
//! (Contract section 8, `target_state`; requirement F1.)

use crate::process::{HEAD, Process, Program, SOON, eventually, openai};
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use serde_json::Value;

fn yaml(one: &Provider, two: &Provider, three: &Provider) -> String {
    format!(
        "{HEAD}log: {{format: json}}
breaker: {{consecutive_failures: 2, open: 300ms, open_max: 300ms, close_after: 1}}
retry: {{same_target: 0}}
cooldown: {{max: 1s}}
providers:
{}{}{}routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: n, priority: 2}}, {{provider: three, model: o, priority: 3}}]}}
",
        openai("one", &one.base_url(), "KEY"),
        openai("two", &two.base_url(), "KEY"),
        openai("three", &three.base_url(), "KEY"),
    )
}

/// Opens the scene.
async fn scene() -> (Process, Provider, Provider, Provider) {
    let one = Provider::start(Reply::says("one")).await.unwrap();
    let two = Provider::start(Reply::says("two")).await.unwrap();
    let three = Provider::start(Reply::says("three")).await.unwrap();
    let program = Program::new(&yaml(&one, &two, &three)).env("KEY", "sk-canary-states-0123");
    (program.start().await, one, two, three)
}

async fn chat(process: &Process) -> String {
    Call::chat("chat").limit(SOON).send(process.data).await.unwrap().text()
}

/// What was told of a target: from, to and reason.
fn told(process: &Process, target: &str) -> Vec<String> {
    let of = |line: &Value| line["target"] == target;
    let word = |line: &Value, name: &str| line[name].as_str().unwrap_or("null").to_owned();
    let lines = process.log_of("target_state").into_iter().filter(of);
    lines
        .map(|line| format!("{} {} {}", word(&line, "from"), word(&line, "to"), word(&line, "reason")))
        .collect()
}

#[tokio::test]
async fn a_rest_that_ends_is_told_though_nobody_asks() {
    let (process, one, _two, _three) = scene().await;
    one.set_script(Reply::rate_limited(Some("1")));
    assert_eq!(chat(&process).await, "two");
    let want = ["ready cooling rate_limited", "cooling ready rate_limited"];
    eventually("both are told", async || told(&process, "one/k/m").len() >= 2).await;
    assert_eq!(told(&process, "one/k/m"), want);
}

#[tokio::test]
async fn a_breaker_is_told_on_its_whole_way() {
    let (process, one, _two, _three) = scene().await;
    one.set_script(Reply::status(500));
    for _ in 0..2 {
        assert_eq!(chat(&process).await, "two");
    }
    eventually("it lets a probe through", async || told(&process, "one/k/m").len() >= 2).await;
    one.set_script(Reply::says("one"));
    assert_eq!(chat(&process).await, "one");
    eventually("it is closed", async || told(&process, "one/k/m").len() >= 3).await;
    let want = ["ready open server_error", "open half_open server_error", "half_open ready ok"];
    assert_eq!(told(&process, "one/k/m"), want);
}

#[tokio::test]
async fn the_next_is_one_that_may_be_asked() {
    let (process, one, _two, _three) = scene().await;
    let token = process.token();
    assert_eq!(process.post("/v1/targets/two/k/n:disable", &token).await.status, 200);
    one.set_script(Reply::rate_limited(Some("60")));
    assert_eq!(chat(&process).await, "three");
    eventually("it is told", async || !told(&process, "one/k/m").is_empty()).await;
    let line = process.log_of("target_state").into_iter().find(|line| line["target"] == "one/k/m").unwrap();
    assert_eq!(line["next"], "three/k/o", "{line}");
    assert_eq!(told(&process, "two/k/n"), ["ready disabled operator"]);
}
