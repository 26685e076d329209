//! Usage, accounts, reports of devices, and what outlives a restart.

use crate::process::{HEAD, Process, Program, SOON, eventually};
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Place, Provider, Reply, Twist};
use serde_json::{Value, json};
use std::fs;

const STATE: &str = "state: {path: state.db}\n";

fn yaml(one: &Provider, more: &str) -> String {
    format!(
        "{HEAD}log: {{format: json}}
{more}providers:
  one:
    kind: openai
    base_url: \"{}\"
    credentials: [{{name: work, key: {{env: KEY_ONE}}}}, {{name: home, key: {{env: KEY_TWO}}}}]
    models: {{m: {{price: {{input: 1000, output: 2000}}}}, free: {{}}}}
routes:
  chat: {{targets: [{{provider: one, model: m}}]}}
  local: {{targets: [{{provider: one, model: free}}]}}
",
        one.base_url()
    )
}

fn program(one: &Provider, more: &str) -> Program {
    let program = Program::new(&yaml(one, more));
    program.env("KEY_ONE", "sk-one-0123456789").env("KEY_TWO", "sk-two-0123456789")
}

async fn chat(process: &Process, route: &str, device: &str) -> u16 {
    let call = Call::chat(route).header("x-pointsman-device", device);
    call.limit(SOON).send(process.data).await.unwrap().status
}

async fn report(process: &Process, body: &Value, token: Option<&str>) -> Answer {
    let call = Call::json("/v1/usage/reports", body).limit(SOON);
    let call = if let Some(token) = token { call.bearer(token) } else { call };
    call.send(process.admin).await.unwrap()
}

/// Waits until so many requests are counted, and returns the page.
async fn usage(process: &Process, query: &str, requests: u64) -> Value {
    let path = format!("/v1/usage?{query}");
    eventually("all are counted", async || process.ask_json(&path).await["total"]["requests"] == requests)
        .await;
    process.ask_json(&path).await
}

#[tokio::test]
async fn usage_outlives_a_restart_and_a_crash() {
    let one = Provider::start(Reply::ok().usage(5, 7)).await.unwrap();
    let mut process = program(&one, STATE).start().await;
    for device in ["laptop", "phone", "laptop"] {
        assert_eq!(chat(&process, "chat", device).await, 200);
    }
    usage(&process, "", 3).await;
    // At once, before the second in which it would be written is over.
    process.signal("TERM");
    let (status, _) = process.end(SOON).await;
    assert!(status.success(), "{status}");
    let program = process.crash();

    let process = program.start().await;
    assert_eq!(chat(&process, "chat", "laptop").await, 200);
    let page = usage(&process, "by=device&since=2d", 4).await;
    let rows: Vec<_> =
        page["rows"].as_array().unwrap().iter().map(|row| (&row["device"], &row["requests"])).collect();
    assert_eq!(rows, [(&json!("laptop"), &json!(3)), (&json!("phone"), &json!(1))]);
    assert_eq!(page["total"]["cost_usd"], 4.0 * (5.0 * 1000.0 + 7.0 * 2000.0) / 1e6);
    let file = process.program.path("state.db-wal");
    eventually("it was written", async || fs::metadata(&file).is_ok_and(|file| file.len() > 0)).await;

    let process = process.crash().start().await;
    let kept = process.ask_json("/v1/usage?since=2d").await["total"]["requests"].as_u64().unwrap();
    assert!((3..=4).contains(&kept), "at most the last second may be lost: {kept}");
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused_by_check_start_and_reload_and_left_alone() {
    let one = Provider::start(Reply::ok()).await.unwrap();
    let program = program(&one, STATE);
    program.write("state.db", "my notes");
    let want = "state.path: state.db is not a state file of pointsman; move it away or name another";
    for verb in ["check", "run"] {
        let (code, said) = program.verb(&[verb, "-c", "CONFIG"]).await;
        assert_eq!(code, 78, "{verb}: {said}");
        assert!(said.contains(want), "{verb}: {said}");
    }
    assert_eq!(fs::read_to_string(program.path("state.db")).unwrap(), "my notes");

    program.configure(&yaml(&one, ""));
    let process = program.start().await;
    let reloads = process.reload(&yaml(&one, STATE)).await;
    assert_eq!((reloads.error, reloads.generation), (1, 1), "{}", process.said());
    assert_eq!(chat(&process, "chat", "d").await, 200);
    // A sound one needs a restart, and says so.
    process.reload(&yaml(&one, "state: {path: other.db}\n")).await;
    eventually("it says so", async || process.said().contains("state.path: restart needed")).await;
    assert!(!process.program.path("other.db").exists());
}

#[tokio::test]
async fn two_processes_do_not_share_a_file() {
    let one = Provider::start(Reply::ok()).await.unwrap();
    let process = program(&one, STATE).start().await;
    let (code, said) = process.program.verb(&["run", "-c", "CONFIG"]).await;
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("is in use by another process"), "{said}");
    let (code, said) = process.program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 0, "{said}");
    let reloads = process.hang_up().await;
    assert_eq!((reloads.ok, reloads.error), (1, 0), "{}", process.said());
}

#[tokio::test]
async fn days_begin_in_the_operators_zone_and_an_unknown_price_is_not_zero() {
    let one = Provider::start(Reply::ok().usage(5, 7)).await.unwrap();
    let process = program(&one, "usage: {time_zone: Pacific/Kiritimati}\n").start().await;
    chat(&process, "chat", "d").await;
    chat(&process, "local", "d").await;
    let page = usage(&process, "by=day,route,model", 2).await;
    assert_eq!(page["time_zone"], "Pacific/Kiritimati");
    let since = page["since"].as_str().unwrap();
    assert!(since.ends_with("T10:00:00.000Z"), "midnight there is ten o'clock in UTC: {since}");
    let [priced, unpriced] = &page["rows"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!((&priced["route"], &priced["cost_usd"]), (&json!("chat"), &json!(0.019)), "{page}");
    assert_eq!((&unpriced["model"], &unpriced["cost_usd"]), (&json!("free"), &Value::Null), "{page}");
    assert_eq!(unpriced["unpriced_requests"], 1);
    assert_eq!(page["total"]["cost_usd"], 0.019, "what is known; and one is said to be missing");
    assert_eq!(page["total"]["unpriced_requests"], 1);
    for (query, want) in [("by=colour", "by is one or more of day"), ("since=week", "since is a span")] {
        let answer = process.ask(&format!("/v1/usage?{query}")).await;
        assert_eq!(answer.status, 400);
        assert!(answer.body_text().contains(want), "{}", answer.body_text());
    }
}

#[tokio::test]
async fn devices_report_what_did_not_pass_through_once() {
    let one = Provider::start(Reply::ok().usage(5, 7)).await.unwrap();
    let process = program(&one, STATE).start().await;
    let token = process.token();
    chat(&process, "chat", "phone").await;
    let body = json!({"reports": [
        {"id": "a-1", "device": "phone", "provider": "one", "model": "m", "requests": 2, "tokens_in": 100, "tokens_out": 10},
        {"id": "a-2", "device": "watch", "provider": "elsewhere", "model": "x", "input_tokens": 1},
    ]});
    for (token, status) in [(None, 401), (Some("wrong-token"), 401)] {
        assert_eq!(report(&process, &body, token).await.status, status);
    }
    for want in [json!({"accepted": 2, "repeated": 0}), json!({"accepted": 0, "repeated": 2})] {
        let answer = report(&process, &body, Some(&token)).await;
        assert_eq!((answer.status, answer.json()), (200, want));
    }
    let old = json!({"id": "a-3", "device": "phone", "at": "2020-01-01T00:00:00Z"});
    let answer = report(&process, &json!([{"id": "a-4", "device": "phone"}, old]), Some(&token)).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["errors"], json!(["reports[1].at is not on one of the days that are kept"]));

    let page = usage(&process, "by=device,source", 4).await;
    let rows = page["rows"].as_array().unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            json!([row["device"], row["source"], row["requests"], row["input_tokens"], row["cost_usd"]])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["phone", "proxied", 1, 5, 0.019]),
            json!(["phone", "reported", 2, 100, 0.12]),
            json!(["watch", "reported", 1, 1, null]),
        ]
    );
    assert!(rows.iter().all(|row| row["last_seen"].as_str().is_some()));
}

#[tokio::test]
async fn accounts_tell_state_use_and_what_is_left_and_never_a_key() {
    let limits = |reply: Reply| {
        reply.header("x-ratelimit-remaining-requests", "59").header("x-ratelimit-remaining-tokens", "149984")
    };
    let one = Provider::start(limits(Reply::ok().usage(5, 7))).await.unwrap();
    let process = program(&one, "").start().await;
    chat(&process, "chat", "d").await;
    usage(&process, "", 1).await;
    let page = process.ask("/v1/accounts").await.body_text();
    assert!(!page.contains("sk-one") && !page.contains("6789"), "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    let [work, home] = &page["accounts"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!(
        (&work["id"], &work["state"], &work["login"]),
        (&json!("one/work"), &json!("ready"), &json!("key"))
    );
    assert_eq!((&work["today"]["requests"], &work["today"]["cost_usd"]), (&json!(1), &json!(0.019)));
    assert_eq!((&home["today"]["requests"], &home["rate_limits"]), (&json!(0), &json!([])));
    let left = &work["rate_limits"][0];
    assert_eq!(
        (&left["target"], &left["requests"], &left["tokens"]),
        (&json!("one/work/m"), &json!(59), &json!(149_984))
    );
    let metric =
        async |kind: &str| process.metric("pointsman_ratelimit_remaining", &["one/work/m", kind]).await;
    assert_eq!(metric("kind=\"requests\"").await.to_string(), "59");
    assert_eq!(metric("kind=\"tokens\"").await.to_string(), "149984");

    // A key that is refused rests the account, and the other one goes on.
    one.set_script(Reply::status(401));
    assert_ne!(chat(&process, "chat", "d").await, 200);
    let page = process.ask_json("/v1/accounts").await;
    let work = &page["accounts"][0];
    assert_eq!((&work["state"], &work["reason"]), (&json!("auth_failed"), &json!("auth")), "{page}");
    assert!(work["until"].as_str().is_some() && work["retry_in_s"].as_f64().unwrap() > 0.0);
    assert_eq!(work["usable_targets"], 0);
}

#[tokio::test]
async fn who_leaves_a_stream_has_used_what_the_provider_said_until_then() {
    let claude = Provider::start(Reply::stall_after(5).usage(40, 60)).await.unwrap();
    let yaml = format!(
        "{HEAD}log: {{format: json}}
providers:
  claude: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_ONE}}}}], models: {{c: {{}}}}}}
routes: {{talk: {{targets: [{{provider: claude, model: c}}]}}}}
",
        claude.origin()
    );
    let process = Program::new(&yaml).env("KEY_ONE", "sk-one-0123456789").start().await;
    let _ = Call::message("talk", true).leaving_after_events(4).limit(SOON).send(process.data).await;
    let page = usage(&process, "by=target", 1).await;
    let row = &page["rows"][0];
    assert_eq!((&row["client_gone_requests"], &row["failed_requests"]), (&json!(1), &json!(0)), "{page}");
    assert_eq!(row["input_tokens"], 40, "Anthropic says the input first");
    let label = ["target=\"claude/k/c\"", "direction=\"input\""];
    assert_eq!(process.metric("pointsman_tokens_total", &label).await.to_string(), "40");
}

/// The prompt was read; what there is of an answer is somebody else's.
#[tokio::test]
async fn a_stream_that_broke_before_its_first_word_has_used_its_prompt() {
    let one = Provider::start(Reply::ok().usage(40, 60).at(Place::AfterOpening, Twist::Close)).await.unwrap();
    let two = Provider::start(Reply::ok().usage(50, 70)).await.unwrap();
    let provider = |name: &str, provider: &Provider| {
        format!(
            "  {name}: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_ONE}}}}], models: {{c: {{price: {{input: 1, output: 1}}}}}}}}\n",
            provider.origin()
        )
    };
    let yaml = format!(
        "{HEAD}log: {{format: json}}
providers:
{}{}routes: {{talk: {{targets: [{{provider: one, model: c, priority: 1}}, {{provider: two, model: c, priority: 2}}]}}}}
",
        provider("one", &one),
        provider("two", &two)
    );
    let process = Program::new(&yaml).env("KEY_ONE", "sk-one-0123456789").start().await;
    let answer = Call::message("talk", true).limit(SOON).send(process.data).await.unwrap();
    assert!(answer.has_end_marker() && answer.header("x-used-provider") == Some("two"), "{answer:?}");
    let page = usage(&process, "by=target", 1).await;
    let [broken, whole] = &page["rows"].as_array().unwrap()[..] else { panic!("{page}") };
    let told = |row: &Value| {
        json!([
            row["target"],
            row["requests"],
            row["input_tokens"],
            row["output_tokens"],
            row["unpriced_requests"]
        ])
    };
    assert_eq!(told(broken), json!(["one/k/c", 0, 40, 0, 1]), "{page}");
    assert_eq!(told(whole), json!(["two/k/c", 1, 50, 70, 0]), "{page}");
    // Who says itself that it failed bills nothing.
    one.set_script(Reply::error_event(529));
    assert!(Call::message("talk", true).limit(SOON).send(process.data).await.unwrap().has_end_marker());
    let page = usage(&process, "by=target", 2).await;
    assert_eq!(page["rows"][0]["input_tokens"], 40, "{page}");
}

#[tokio::test]
async fn a_rescued_stream_was_paid_for_at_both_targets() {
    let one = Provider::start(Reply::end_after(5).usage(40, 60)).await.unwrap();
    let two = Provider::start(Reply::ok().usage(50, 70)).await.unwrap();
    let provider = |name: &str, provider: &Provider| {
        format!(
            "  {name}: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_ONE}}}}], models: {{c: {{price: {{input: 1, output: 1}}}}}}}}\n",
            provider.origin()
        )
    };
    let yaml = format!(
        "{HEAD}log: {{format: json}}
providers:
{}{}routes: {{talk: {{targets: [{{provider: one, model: c, priority: 1}}, {{provider: two, model: c, priority: 2}}]}}}}
",
        provider("one", &one),
        provider("two", &two)
    );
    let process = Program::new(&yaml).env("KEY_ONE", "sk-one-0123456789").start().await;
    let answer = Call::message("talk", true).limit(SOON).send(process.data).await.unwrap();
    assert!(answer.has_end_marker(), "{}", answer.body_text());
    let page = usage(&process, "by=target", 1).await;
    let told: Vec<_> = page["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["target"], row["requests"], row["input_tokens"]]))
        .collect();
    assert_eq!(told, [json!(["one/k/c", 0, 40]), json!(["two/k/c", 1, 50])], "{page}");
    let [broken, whole] = &page["rows"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!((&broken["cost_usd"], &broken["output_tokens"]), (&Value::Null, &json!(0)), "{page}");
    assert_eq!((&broken["unpriced_requests"], &whole["unpriced_requests"]), (&json!(1), &json!(0)), "{page}");
    eventually("its line", async || process.log_of("request").len() == 1).await;
    assert_eq!(process.log_of("request")[0]["in_tokens"], 90, "{:?}", process.log_of("request"));
}
