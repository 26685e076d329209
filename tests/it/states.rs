//! Is each change of a target's state told, also those that only time brings about?
//!
//! (Contract section 8, `target_state`; requirement F1.)

use crate::process::{HEAD, Process, Program, SOON, eventually, openai};
use pointsman::standin::caller::{BodyEnd, Call};
use pointsman::standin::{Provider, Reply, Script};
use serde_json::Value;

fn yaml(one: &Provider, two: &Provider, three: &Provider) -> String {
    format!(
        "{HEAD}log: {{format: json}}
breaker: {{consecutive_failures: 2, open: 300ms, open_max: 300ms, close_after: 1}}
retry: {{same_target: 0, wait_in_place: 0s}}
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
    // The operator's own changes say it too.
    assert_eq!(process.post("/v1/targets/one/k/m:reset", &token).await.status, 200);
    assert_eq!(process.post("/v1/targets/one/k/m:drain", &token).await.status, 200);
    let drained = |line: &serde_json::Value| line["target"] == "one/k/m" && line["to"] == "drained";
    eventually("that is told", async || process.log_of("target_state").iter().any(drained)).await;
    let line = process.log_of("target_state").into_iter().find(|line| drained(line)).unwrap();
    assert_eq!((&line["reason"], &line["next"]), (&"operator".into(), &"three/k/o".into()), "{line}");
}

/// (Requirements C3 and F30.)
#[tokio::test]
async fn a_key_whose_file_was_replaced_is_used_without_a_reload_and_ends_its_rest() {
    let provider = Provider::start(Script::rule(|seen| match seen.header("authorization") {
        Some("Bearer sk-canary-new-012345") => Reply::ok(),
        _ => Reply::status(401),
    }))
    .await
    .unwrap();
    let text = format!(
        "{HEAD}log: {{format: json}}\nproviders:\n  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{file: key}}}}]}}\n\
         routes: {{chat: {{targets: [{{provider: one, model: m}}]}}}}\n",
        provider.base_url()
    );
    let program = Program::new("version: 1\n");
    let path = program.write("key", "sk-canary-old-012345");
    program.configure(&text.replace("file: key", &format!("file: {}", path.display())));
    let process = program.start().await;
    assert_eq!(Call::chat("chat").limit(SOON).send(process.data).await.unwrap().status, 502);
    process.program.write("key", "sk-canary-new-012345");
    eventually("the new key is used", async || {
        Call::chat("chat").limit(SOON).send(process.data).await.unwrap().status == 200
    })
    .await;
    assert!(!process.said().contains("canary"), "{}", process.said());
}

#[tokio::test]
async fn what_is_under_way_at_the_end_of_grace_has_its_last_word_and_its_line() {
    for (signal, grace) in [("TERM", "300ms"), ("INT", "30s")] {
        let one = Provider::start(Reply::stall_after(3)).await.unwrap();
        let two = Provider::start(Reply::silence()).await.unwrap();
        let text = format!(
            "{HEAD}grace: {grace}\nlog: {{format: json}}\nproviders:\n{}{}routes:\n  \
             stream: {{targets: [{{provider: one, model: m}}]}}\n  whole: {{targets: [{{provider: two, model: n}}]}}\n",
            openai("one", &one.base_url(), "KEY"),
            openai("two", &two.base_url(), "KEY"),
        );
        let mut process = Program::new(&text).env("KEY", "sk-canary-states-0123").start().await;
        let data = process.data;
        let stream = tokio::spawn(async move { Call::chat_stream("stream").limit(SOON).send(data).await });
        let whole = tokio::spawn(async move { Call::chat("whole").limit(SOON).send(data).await });
        assert!(
            one.until(SOON, |seen| !seen.is_empty()).await && two.until(SOON, |seen| !seen.is_empty()).await
        );
        process.signal(signal);
        let (status, took) = process.end(SOON).await;
        assert!(status.success() && took < SOON, "{signal}: {status} {took:?}");
        let stream = stream.await.unwrap().unwrap();
        assert!(stream.error().is_some() && !stream.has_end_marker(), "{signal}: {}", stream.body_text());
        assert!(matches!(stream.end, BodyEnd::Cut(_)), "{signal}: {:?}", stream.end);
        assert_eq!(whole.await.unwrap().unwrap().status, 504, "{signal}");
        let routes: Vec<_> = process.log_of("request").iter().map(|line| line["route"].to_string()).collect();
        assert_eq!(routes.len(), 2, "{signal}: {}", process.said());
    }
}
