//! How does the next configuration take over in a running process, and what if it is wrong?
//!
//! (Contract sections 1, 2 and 7; design.md section 4.5; threat A3.)

use crate::process::{HEAD, Process, Program, Reloads, SOON, eventually, is_full, openai};
use pointsman::standin::caller::{Answer, BodyEnd, Call};
use pointsman::standin::{Gate, Place, Provider, Reply, SIXTY_WORDS, Script};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Two openai providers; `chat` goes to `first`, then to the other.
fn two(first: &str, one: &Provider, two: &Provider) -> String {
    let second = if first == "one" { "two" } else { "one" };
    format!(
        "{HEAD}log: {{format: json}}
providers:
{}{}routes:
  chat: {{targets: [{{provider: {first}, model: m, priority: 1}}, {{provider: {second}, model: m, priority: 2}}]}}
",
        openai("one", &one.base_url(), "KEY_ONE"),
        openai("two", &two.base_url(), "KEY_TWO"),
    )
}

fn program(yaml: &str) -> Program {
    Program::new(yaml).env("KEY_ONE", "sk-one-0123456789").env("KEY_TWO", "sk-two-0123456789")
}

async fn pair() -> (Provider, Provider) {
    let one = Provider::start(Reply::says("one")).await.unwrap();
    let two = Provider::start(Reply::says("two")).await.unwrap();
    (one, two)
}

async fn chat(process: &Process) -> Answer {
    Call::chat("chat").limit(SOON).send(process.data).await.unwrap()
}

/// Ways to break a file that is sound.
fn broken(sound: &str) -> Vec<(&'static str, String)> {
    vec![
        ("an unknown provider", sound.replace("provider: one,", "provider: nobody,")),
        ("half a file", sound.get(..sound.len() - 30).unwrap_or_default().to_owned()),
        ("an unset variable", sound.replace("KEY_TWO", "NO_SUCH_VARIABLE")),
        ("an unknown key", sound.to_owned() + "colour: red\n"),
        ("a key twice", sound.to_owned() + "log: {level: warn}\n"),
        ("an empty file", String::new()),
        ("no YAML", "routes: [}\n".to_owned()),
        ("not a number", sound.to_owned() + "breaker: {failure_ratio: .nan}\n"),
    ]
}

/// The log without what requests leave in it.
fn beside_requests(process: &Process) -> Vec<serde_json::Value> {
    process.log().into_iter().filter(|line| line["msg"] != "request").collect()
}

#[tokio::test]
async fn a_hangup_puts_the_next_file_in_force() {
    let (one, other) = pair().await;
    let process = program(&two("one", &one, &other)).start().await;
    assert_eq!(chat(&process).await.text(), "one");
    let first = Reloads { ok: 0, error: 0, generation: 1, is_last_good: true };
    assert_eq!(process.reloads().await, first);
    let second = process.reload(&two("two", &one, &other)).await;
    assert_eq!(second, Reloads { ok: 1, generation: 2, ..first });
    let answer = chat(&process).await;
    assert_eq!(answer.text(), "two");
    assert_eq!(answer.header("x-used-fallback"), Some("false"));
    assert_eq!(process.ask_json("/v1/status").await["generation"], 2);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told_in_one_block() {
    let (one, other) = pair().await;
    let sound = two("one", &one, &other);
    let process = program(&sound).start().await;
    let mut errors = 0;
    for (what, yaml) in broken(&sound) {
        let told_before = beside_requests(&process).len();
        let after = process.reload(&yaml).await;
        errors += 1;
        assert_eq!(
            after,
            Reloads { ok: 0, error: errors, generation: 1, is_last_good: false },
            "{what}: the counters"
        );
        eventually("it is told", async || beside_requests(&process).len() > told_before).await;
        let told: Vec<_> = beside_requests(&process).into_iter().skip(told_before).collect();
        assert_eq!(told.len(), 1, "{what}: one block in the log, not {told:#?}");
        assert_eq!(told[0]["level"], "error", "{what}");
        assert!(told[0].to_string().contains("pointsman.yaml"), "{what}: {}", told[0]);
        assert_eq!(chat(&process).await.text(), "one", "{what}: the plan in force");
    }
    std::fs::remove_file(process.program.config()).unwrap();
    assert_eq!(process.hang_up().await.error, errors + 1, "the file is gone");
    assert_eq!(process.ask("/readyz").await.status, 200);
    let mended = process.reload(&two("two", &one, &other)).await;
    assert_eq!(mended, Reloads { ok: 1, error: errors + 1, generation: 2, is_last_good: true });
    assert_eq!(chat(&process).await.text(), "two");
}

#[tokio::test]
async fn the_operator_reloads_with_the_token_of_the_runtime_directory_only() {
    let (one, other) = pair().await;
    let sound = two("one", &one, &other);
    let process = program(&sound).start().await;
    process.program.configure(&two("two", &one, &other));
    for (what, call) in [
        ("no token", Call::post("/v1/reload", "")),
        ("an empty token", Call::post("/v1/reload", "").bearer("")),
        ("another token", Call::post("/v1/reload", "").bearer("0123456789abcdef")),
        ("half the token", Call::post("/v1/reload", "").bearer(&process.token()[..20])),
    ] {
        let answer = call.send(process.admin).await.unwrap();
        assert!([401, 403].contains(&answer.status), "{what}: {}", answer.status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    }
    assert_eq!(process.reloads().await.generation, 1);
    let answer = process.post("/v1/reload", &process.token()).await;
    assert_eq!(
        (answer.status, answer.json()["generation"].as_u64()),
        (200, Some(2)),
        "{}",
        answer.body_text()
    );
    assert_eq!(chat(&process).await.text(), "two");
    process.program.configure(&broken(&sound)[0].1);
    let refused = process.post("/v1/reload", &process.token()).await;
    assert!((400..500).contains(&refused.status), "{}", refused.status);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert!(refused.body_text().contains("nobody"), "the faults are not told: {}", refused.body_text());
    assert_eq!(process.reloads().await, Reloads { ok: 1, error: 1, generation: 2, is_last_good: false });
}

#[tokio::test]
async fn reloads_that_are_asked_for_while_one_reads_are_carried_out_as_one() {
    let (one, other) = pair().await;
    let slow =
        "{command: [\"/bin/sh\", \"-c\", \"echo >> STARTED; /bin/sleep 0.5; echo sk-slow-0123456789\"]}";
    let waiting = program(&two("one", &one, &other));
    let slow = slow.replace("STARTED", &waiting.path("started").display().to_string());
    let yaml = |first: &str| two(first, &one, &other).replace("{env: KEY_TWO}", &slow);
    waiting.configure(&yaml("one"));
    let process = waiting.start().await;
    let readings = || std::fs::read_to_string(process.program.path("started")).unwrap().lines().count();
    let (at_start, token) = (readings(), process.token());
    let first = process.post("/v1/reload", &token);
    let others = async {
        eventually("the first one reads", async || readings() > at_start).await;
        process.program.configure(&yaml("two"));
        let (a, b, c) = tokio::join!(
            process.post("/v1/reload", &token),
            process.post("/v1/reload", &token),
            process.post("/v1/reload", &token)
        );
        [a, b, c].map(|answer| answer.json()["generation"].as_u64())
    };
    let (first, others) = tokio::join!(first, others);
    assert_eq!(first.json()["generation"], 2, "{}", first.body_text());
    assert_eq!(others, [Some(3); 3], "one more reading, that saw the file as they left it");
    assert_eq!((readings() - at_start, process.reloads().await.ok), (2, 2));
    assert_eq!(chat(&process).await.text(), "two");
}

#[tokio::test]
async fn a_get_never_reloads() {
    let (one, other) = pair().await;
    let process = program(&two("one", &one, &other)).start().await;
    let answer = Call::get("/v1/reload").bearer(&process.token()).send(process.admin).await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(process.reloads().await.ok, 0);
}

#[tokio::test]
async fn a_resting_target_rests_on_over_reloads() {
    let (one, other) = pair().await;
    one.set_script(Reply::status(503).header("retry-after", "60"));
    let sound = two("one", &one, &other);
    let process = program(&sound).start().await;
    assert_eq!(chat(&process).await.text(), "two");
    assert_eq!(one.count(), 1);
    let before = process.target("one/k/m").await;
    assert_eq!(before["state"], "cooling", "{before}");
    // Something changes, but not this target; then the route turns round and back.
    for yaml in [sound.clone() + "grace: 9s\n", two("two", &one, &other), broken(&sound)[0].1.clone(), sound]
    {
        process.reload(&yaml).await;
        let after = process.target("one/k/m").await;
        assert_eq!(after["state"], "cooling", "{after}");
        assert_eq!(chat(&process).await.text(), "two");
    }
    assert_eq!(one.count(), 1, "a resting target was called");
    assert!(process.metric("pointsman_cooldown_remaining_seconds", &["one/k/m"]).await > 30.0);
}

/// One provider with its key in a file, and a second that answers well.
fn with_key_file(one: &Provider, two: &Provider) -> String {
    format!(
        "{HEAD}log: {{format: json}}
providers:
  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{file: KEYFILE}}}}]}}
{}routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}
",
        one.base_url(),
        openai("two", &two.base_url(), "KEY_TWO"),
    )
}

async fn start_with_key(one: &Provider, two: &Provider, key: &str) -> Process {
    let program = program("");
    let file = program.write("key", key);
    program.configure(&with_key_file(one, two).replace("KEYFILE", file.to_str().unwrap()));
    program.start().await
}

#[tokio::test]
async fn a_changed_key_ends_the_rest_that_the_old_key_earned() {
    let (one, other) = pair().await;
    one.set_script(Script::rule(|seen| {
        let is_new = seen.header("authorization") == Some("Bearer sk-new-0123456789");
        if is_new { Reply::says("one") } else { Reply::status(401) }
    }));
    let process = start_with_key(&one, &other, "sk-old-0123456789").await;
    assert_eq!(chat(&process).await.text(), "two");
    assert_ne!(process.target("one/k/m").await["state"], "ready");
    process.hang_up().await;
    assert_ne!(process.target("one/k/m").await["state"], "ready", "the same key is trusted again");
    assert_eq!((chat(&process).await.text().as_str(), one.count()), ("two", 1));
    process.program.write("key", "sk-new-0123456789\n");
    process.hang_up().await;
    assert_eq!(process.target("one/k/m").await["state"], "ready");
    assert_eq!(chat(&process).await.text(), "one");
}

#[tokio::test]
async fn a_key_that_was_gone_back_to_stays_though_its_file_holds_another() {
    let (one, other) = pair().await;
    one.set_script(Script::rule(|seen| {
        let is_good = seen.header("authorization") == Some("Bearer sk-good-0123456789");
        if is_good { Reply::says("one") } else { Reply::status(401) }
    }));
    let program = program("");
    let files = ["key", "second"].map(|name| program.write(name, "sk-good-0123456789").display().to_string());
    let yaml = with_key_file(&one, &other).replace("KEYFILE", &files[0]);
    program.configure(&yaml.replace("{env: KEY_TWO}", &format!("{{file: {}}}", files[1])));
    let process = program.start().await;
    process.program.write("key", "sk-bad-0123456789");
    process.hang_up().await;
    assert_eq!(chat(&process).await.text(), "two");
    assert_eq!(process.post("/v1/reload?previous=true", &process.token()).await.status, 200);
    // Files are looked at in the order of the credentials: where the second was, the first was too.
    process.program.write("second", "sk-next-0123456789");
    let is_taken = |line: &serde_json::Value| {
        line["credential"] == "two/k" && line["msg"].as_str().is_some_and(|msg| msg.contains("another key"))
    };
    eventually("the files are looked at", async || process.log().iter().any(is_taken)).await;
    assert_eq!(chat(&process).await.text(), "one");
    process.program.write("key", "sk-good-0123456789\n");
    assert_eq!(chat(&process).await.text(), "one");
}

/// Each is found by its name, none by its value, and each is a step to go back by.
#[tokio::test]
async fn a_secret_behind_the_same_reference_is_named_as_a_change_and_can_be_gone_back_from() {
    let provider = Provider::start(Reply::says("one")).await.unwrap();
    let program = program("");
    let secret = |name: &str, turn: u32| format!("{name}-secret-{turn}-0123456789");
    let names = ["key", "client", "token", "refresh"];
    let file = |name: &str| program.write(name, &secret(name, 1)).display().to_string();
    let yaml = format!(
        "{HEAD}log: {{format: json}}
admin: {{address: \"127.0.0.1:0\", token: {{file: {}}}}}
clients: [{{name: a, key: {{file: {}}}}}]
providers:
  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{file: {}}}}}]}}
  lent: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, oauth: {{token_url: \"http://127.0.0.1:1/t\", client_id: x, refresh_token: {{file: {}}}}}}}]}}
routes:
  chat: {{targets: [{{provider: one, model: m}}]}}
",
        file("token"),
        file("client"),
        provider.base_url(),
        file("key"),
        provider.base_url(),
        file("refresh"),
    );
    let admin = HEAD.lines().find(|line| line.starts_with("admin:")).unwrap();
    program.configure(&yaml.replacen(&format!("{admin}\n"), "", 1));
    let process = program.start().await;
    let mut token = secret("token", 1);
    let reload = async |path: &str, token: &str| {
        let answer = process.post(path, token).await;
        assert!(!answer.body_text().contains("-secret-"), "{}", answer.body_text());
        (answer.status, answer.json())
    };
    let paths = [
        "providers.one.credentials[k].key",
        "clients[a].key",
        "admin.token",
        "providers.lent.credentials[k].oauth",
    ];
    for (name, path) in names.into_iter().zip(paths) {
        process.program.write(name, &secret(name, 2));
        let (status, told) = reload("/v1/reload", &token).await;
        if name == "token" {
            token = secret("token", 2);
        }
        assert_eq!(status, 200, "{name}: {told}");
        assert_eq!(told["changes"].as_array().unwrap().len(), 1, "{name}: {told}");
        assert_eq!(told["changes"][0]["path"], path, "{told}");
    }
    for path in paths.iter().rev() {
        let (status, told) = reload("/v1/reload?previous=true", &token).await;
        if *path == "admin.token" {
            token = secret("token", 1);
        }
        assert_eq!((status, &told["changes"][0]["path"]), (200, &(*path).into()), "{told}");
    }
    assert_eq!(reload("/v1/reload?previous=true", &token).await.0, 409, "there were four steps");
}

#[tokio::test]
async fn a_changed_key_ends_the_rest_of_a_spent_quota() {
    let quota = Reply::status(429).code("insufficient_quota").kind("insufficient_quota");
    for (what, reply) in [("402", Reply::status(402)), ("429 insufficient_quota", quota)] {
        let (one, other) = pair().await;
        one.set_script(Script::of([reply]).then(Reply::says("one")));
        let process = start_with_key(&one, &other, "sk-old-0123456789").await;
        assert_eq!(chat(&process).await.text(), "two", "{what}");
        process.hang_up().await;
        assert_eq!(
            (chat(&process).await.text().as_str(), one.count()),
            ("two", 1),
            "{what}: it does not rest"
        );
        process.program.write("key", "sk-new-0123456789\n");
        process.hang_up().await;
        assert_eq!(chat(&process).await.text(), "one", "{what}: it still rests");
    }
}

#[tokio::test]
async fn a_changed_key_ends_no_other_rest() {
    let (one, other) = pair().await;
    one.set_script(Reply::status(503).header("retry-after", "60"));
    let process = start_with_key(&one, &other, "sk-old-0123456789").await;
    assert_eq!(chat(&process).await.text(), "two");
    process.program.write("key", "sk-new-0123456789");
    process.hang_up().await;
    assert_eq!(process.target("one/k/m").await["state"], "cooling");
    assert_eq!((chat(&process).await.text().as_str(), one.count()), ("two", 1));
}

#[tokio::test]
async fn requests_under_way_keep_their_plan() {
    let gate = Gate::closed();
    let held = Reply::says(SIXTY_WORDS).hold(Place::AfterTokens(3), &gate);
    let one = Provider::start(held).await.unwrap();
    let other = Provider::start(Reply::says("two")).await.unwrap();
    let process = program(&two("one", &one, &other)).start().await;
    let call = Call::chat_stream("chat").header("x-request-id", "under-way").limit(SOON);
    let mut talk = call.begin(process.data).await.unwrap();
    assert_eq!(talk.head().await.unwrap(), 200);
    assert!(talk.until_events(2).await);
    // The next plan does not know the provider that is just answering.
    let next = format!(
        "{HEAD}log: {{format: json}}\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: two, model: m}}]}}\n",
        openai("two", &other.base_url(), "KEY_TWO")
    );
    assert_eq!(process.reload(&next).await.generation, 2);
    assert_eq!(chat(&process).await.text(), "two");
    gate.open();
    let (answer, _) = talk.finish(&call).await;
    assert_eq!((answer.text().as_str(), &answer.end), (SIXTY_WORDS, &BodyEnd::Clean));
    assert!(answer.has_end_marker());
    let line =
        |process: &Process| process.log_of("request").into_iter().find(|line| line["id"] == "under-way");
    eventually("the request is in the log", async || line(&process).is_some()).await;
    let line = line(&process).unwrap();
    assert_eq!((&line["generation"], &line["target"]), (&1.into(), &"one/k/m".into()), "{line}");
    let page = process.metrics().await;
    let is_counted = |name: &str| {
        page.lines().any(|l| l.starts_with(name) && l.contains("target=\"one/k/m\"") && l.ends_with(" 1"))
    };
    assert!(is_counted("pointsman_attempts_total"), "it ended after its target had gone:\n{page}");
    assert!(!page.contains("pointsman_target_available{target=\"one/k/m\""), "{page}");
    eventually("the series of a target that is gone are gone", async || {
        !process.metrics().await.contains("target=\"one/k/m\"")
    })
    .await;
}

#[tokio::test]
async fn addresses_stay_as_they_were_bound_and_a_restart_is_asked_for() {
    let (one, other) = pair().await;
    let process = program(&two("one", &one, &other)).start().await;
    let moved = two("two", &one, &other).replacen("127.0.0.1:0", "127.0.0.1:1", 1);
    assert_eq!(process.reload(&moved).await.generation, 2);
    assert_eq!(chat(&process).await.text(), "two");
    let told = || process.log().iter().any(|line| line.to_string().contains("restart needed"));
    eventually("the log says that a restart is needed", async || told()).await;
}

/// What the load came to.
#[derive(Debug, Default)]
struct Tally {
    calls: usize,
    streams: usize,
    failures: Vec<String>,
}

/// Signals at a steady pace, requests at another, streams all the time.
struct Storm {
    hangups: u64,
    pace: Duration,
    calls_per_second: u32,
    streams: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_storm_of_reloads_and_the_counters_are_exact() {
    let pace = Duration::from_millis(100);
    let hangups = if is_full() { 200 } else { 60 };
    ride_out(&Storm { hangups, pace, calls_per_second: 100, streams: 20 }).await;
}

async fn ride_out(storm: &Storm) {
    let one = Arc::new(Provider::start(Reply::says("one")).await.unwrap());
    let other = Arc::new(Provider::start(Reply::says("two")).await.unwrap());
    let slow = || Reply::says(SIXTY_WORDS).delay(Duration::from_millis(25));
    for provider in [&one, &other] {
        provider.record(false);
        let word = if Arc::ptr_eq(provider, &one) { "one" } else { "two" };
        let reply = Script::rule(move |seen| if seen.is_streamed { slow() } else { Reply::says(word) });
        provider.set_script(reply);
    }
    let process = program(&two("one", &one, &other)).start().await;
    let data = process.data;
    let is_over = Arc::new(AtomicBool::new(false));

    let streams: Vec<_> = (0..storm.streams)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                let mut tally = Tally::default();
                while !is_over.load(Ordering::Relaxed) {
                    tally.streams += 1;
                    let answer = Call::chat_stream("chat").limit(SOON).send(data).await;
                    tally.judge(answer, |answer| answer.has_end_marker() && answer.text() == SIXTY_WORDS);
                }
                tally
            })
        })
        .collect();
    let calls = {
        let (is_over, gap) = (Arc::clone(&is_over), Duration::from_secs(1) / storm.calls_per_second);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(gap);
            let mut under_way = tokio::task::JoinSet::new();
            while !is_over.load(Ordering::Relaxed) {
                ticks.tick().await;
                under_way.spawn(async move { Call::chat("chat").limit(SOON).send(data).await });
            }
            let mut tally = Tally::default();
            for answer in under_way.join_all().await {
                tally.calls += 1;
                tally.judge(answer, |answer| ["one", "two"].contains(&answer.text().as_str()));
            }
            tally
        })
    };

    let (good, bad, began) = hang_up_often(storm, &process, &one, &other).await;
    let took = began.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let mut total = calls.await.unwrap();
    for stream in streams {
        let tally = stream.await.unwrap();
        total.streams += tally.streams;
        total.failures.extend(tally.failures);
    }
    let reloads = process.reloads().await;
    eprintln!(
        "{} SIGHUPs in {:.1} s ({good} good, {bad} broken): {} requests, {} streams, {} client errors; {reloads:?}",
        storm.hangups,
        took.as_secs_f64(),
        total.calls,
        total.streams,
        total.failures.len()
    );
    assert_eq!(total.failures, Vec::<String>::new());
    assert!(total.streams >= storm.streams && total.calls > 100, "there was no load: {total:?}");
    let is_last_good = !is_broken(storm.hangups - 1);
    assert_eq!(reloads, Reloads { ok: good, error: bad, generation: 1 + good, is_last_good });
    assert_eq!(reloads.ok + reloads.error, storm.hangups);
    let answered =
        process.metric("pointsman_requests_total", &["route=\"chat\"", "code_class=\"2xx\""]).await;
    assert_eq!(format!("{answered}"), (total.calls + total.streams).to_string());
    let asked = process.metric("pointsman_requests_total", &[]).await;
    assert_eq!(format!("{asked}"), (total.calls + total.streams).to_string());
    let attempts = process.metric("pointsman_attempts_total", &["outcome=\"ok\""]).await;
    assert_eq!(format!("{attempts}"), (one.count() + other.count()).to_string());
}

/// Every third file is broken.
fn is_broken(turn: u64) -> bool {
    turn % 3 == 1
}

/// Sends the signals; returns how many files were good, how many broken, and when it began.
///
/// Signals that come while one is pending are one signal, so the next is sent only when the one
/// before was counted.
async fn hang_up_often(
    storm: &Storm,
    process: &Process,
    one: &Provider,
    other: &Provider,
) -> (u64, u64, Instant) {
    let sound = [two("two", one, other), two("one", one, other)];
    let broken = broken(&sound[1]);
    let began = Instant::now();
    let mut ticks = tokio::time::interval(storm.pace);
    let (mut good, mut bad) = (0, 0);
    for turn in 0..storm.hangups {
        ticks.tick().await;
        let at = usize::try_from(turn).unwrap();
        let yaml = if is_broken(turn) {
            bad += 1;
            &broken[at / 3 % broken.len()].1
        } else {
            good += 1;
            &sound[at % 2]
        };
        let after = process.reload(yaml).await;
        assert_eq!((after.ok, after.error), (good, bad), "turn {turn}");
    }
    (good, bad, began)
}

impl Tally {
    fn judge(&mut self, answer: std::io::Result<Answer>, is_right: impl Fn(&Answer) -> bool) {
        match answer {
            Ok(answer) if answer.status == 200 && answer.end == BodyEnd::Clean && is_right(&answer) => {}
            Ok(answer) => {
                self.failures.push(format!("{} {:?} {}", answer.status, answer.end, answer.body_text()));
            }
            Err(fault) => self.failures.push(fault.to_string()),
        }
    }
}

#[tokio::test]
async fn what_waits_for_a_restart_is_told_until_then() {
    let (one, other) = pair().await;
    let sound = two("one", &one, &other);
    let process = program(&sound).start().await;
    process.reload(&sound.replace("threads: 2", "threads: 3")).await;
    eventually("it is told", async || {
        process.log().iter().any(|line| {
            line["level"] == "warn"
                && line["msg"].as_str().is_some_and(|msg| msg.contains("threads: restart needed"))
        })
    })
    .await;
    let waits = serde_json::json!(["threads: restart needed"]);
    assert_eq!(process.ask_json("/v1/status").await["needs_restart"], waits);
    let config = process.program.config();
    let (code, said) = process
        .program
        .verb(&["config", "diff", "-c", config.to_str().unwrap(), "--admin", &process.admin.to_string()])
        .await;
    assert_eq!((code, said.trim()), (1, "not in force yet: threads: restart needed"));
    process.reload(&sound).await;
    assert_eq!(process.ask_json("/v1/status").await["needs_restart"], serde_json::json!([]));
}

#[tokio::test]
async fn a_socket_that_others_reach_is_never_left_without_keys() {
    let (one, other) = pair().await;
    let clients = "clients: [{name: laptop, key: {env: KEY_CLIENT}}]\n";
    let closed = two("one", &one, &other) + clients;
    let closed = closed.replace("listen: [{address: \"127.0.0.1:0\"}]", "listen: [{address: \"0.0.0.0:0\"}]");
    assert!(closed.contains("0.0.0.0:0"), "{closed}");
    let open = two("one", &one, &other);
    let process = program(&closed).env("KEY_CLIENT", "pm-0123456789abcdef").start().await;
    let after = process.reload(&open).await;
    assert_eq!(after, Reloads { ok: 0, error: 1, generation: 1, is_last_good: false });
    eventually("it is told", async || process.said().contains("anyone could spend your keys; restart it"))
        .await;
    assert_eq!(chat(&process).await.status, 401);
}
