//! What does each verb of the command line say of a running process, and with which exit code?
//!
//! (Contract sections 1, 2 and 4; requirement F5: what the command line prints as JSON is what the
//! admin plane answers.)

use crate::process::{HEAD, Process, Program, Reloads, SOON, eventually, openai};
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply, Script};
use serde_json::Value;
use std::net::TcpListener;

const KEY: &str = "sk-canary-verbs-0123456789";
const TOKEN: &str = "at-canary-verbs-0123456789";

fn yaml(one: &str, two: &str) -> String {
    format!(
        "{HEAD}log: {{format: json}}
providers:
{}{}routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}
default_route: chat
",
        openai("one", one, "KEY_ONE"),
        openai("two", two, "KEY_TWO"),
    )
}

fn program(yaml: &str) -> Program {
    Program::new(yaml).env("KEY_ONE", KEY).env("KEY_TWO", KEY)
}

/// A running process that nobody has asked anything.
async fn running() -> (Process, Provider, Provider) {
    let one = Provider::start(Reply::says("one")).await.unwrap();
    let two = Provider::start(Reply::says("two")).await.unwrap();
    let process = program(&yaml(&one.base_url(), &two.base_url())).start().await;
    (process, one, two)
}

/// Runs a verb against the process.
async fn verb(process: &Process, arguments: &[&str]) -> (i32, String) {
    let admin = process.admin.to_string();
    let all: Vec<&str> = arguments.iter().copied().chain(["--admin", &admin]).collect();
    process.program.verb(&all).await
}

/// Runs a verb that must succeed and answer JSON.
async fn told(process: &Process, arguments: &[&str]) -> Value {
    let (code, said) = verb(process, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {said}");
    serde_json::from_str(&said).unwrap_or_else(|fault| panic!("{arguments:?}: {fault}: {said}"))
}

async fn chat(process: &Process) -> String {
    Call::chat("chat").limit(SOON).send(process.data).await.unwrap().text()
}

#[tokio::test]
async fn status_tells_the_same_as_the_page_for_people_and_for_programs() {
    let (process, one, _two) = running().await;
    one.set_script(Reply::status(503).header("retry-after", "60"));
    assert_eq!(chat(&process).await, "two");
    let json = told(&process, &["status", "--json"]).await;
    let page = process.ask_json("/v1/status").await;
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((names(&json), &json["routes"]), (names(&page), &page["routes"]));
    let (code, said) = verb(&process, &["status"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("generation 1"), "{said}");
    let route = said.lines().find(|line| line.starts_with("chat")).unwrap();
    assert!(route.contains("two/k/m") && route.contains("one/k/m cooling: server_error"), "{said}");
    assert!(!said.contains('\x1b'), "escapes in a pipe: {said:?}");
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
}

#[tokio::test]
async fn the_verbs_on_targets_find_their_token_and_do_what_they_say() {
    let (process, one, _two) = running().await;
    let list = told(&process, &["target", "list", "--json"]).await;
    let ids = |told: &Value| -> Vec<String> {
        told["targets"].as_array().unwrap().iter().map(|target| target["id"].to_string()).collect()
    };
    assert_eq!(ids(&list), ids(&process.ask_json("/v1/targets").await));
    for (word, state, answers) in
        [("drain", "drained", "two"), ("disable", "disabled", "two"), ("ready", "ready", "one")]
    {
        let (code, said) = verb(&process, &["target", word, "one/k/m"]).await;
        assert_eq!((code, said.trim()), (0, &*format!("one/k/m: {state}")), "{word}");
        assert_eq!(told(&process, &["target", "show", "one/k/m", "--json"]).await["state"], state);
        assert_eq!(chat(&process).await, answers, "after {word}");
    }
    one.set_script(Reply::status(503).header("retry-after", "60"));
    assert_eq!(chat(&process).await, "two");
    let (_, table) = verb(&process, &["target", "list"]).await;
    assert!(table.lines().any(|line| line.starts_with("one/k/m") && line.contains("cooling")), "{table}");
    let reset = told(&process, &["target", "reset", "one/k/m", "two/k/m", "--json"]).await;
    assert_eq!(reset["targets"][0]["state"], "ready", "{reset}");
    let (code, said) = verb(&process, &["target", "drain", "one/k/n"]).await;
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("did you mean \"one/k/m\"?"), "{said}");
    let (code, said) = verb(&process, &["target", "show", "one"]).await;
    assert!(code == 64 && said.contains("did you mean one/k/m, "), "{code} {said}");
}

#[tokio::test]
async fn a_reload_says_what_changed_and_previous_goes_back_from_memory() {
    let (process, one, two) = running().await;
    let first = yaml(&one.base_url(), &two.base_url());
    let (code, said) = verb(&process, &["reload", "--previous"]).await;
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("no earlier generation"), "{said}");
    let untouched = Reloads { ok: 0, error: 0, generation: 1, is_last_good: true };
    assert_eq!(process.reloads().await, untouched, "no configuration was found wanting");
    let turned = first.replace("one, model: m, priority: 1", "one, model: m, priority: 3") + "grace: 9s\n";
    process.program.configure(&turned);
    let (code, said) =
        verb(&process, &["config", "diff", "-c", process.program.config().to_str().unwrap()]).await;
    let differences = "~ grace: 30s -> 9s\n~ routes.chat.targets[one/m].priority: 1 -> 3";
    assert_eq!((code, said.trim()), (1, differences));
    let (code, said) = verb(&process, &["reload", "--wait"]).await;
    assert_eq!(code, 0, "{said}");
    let want =
        "generation 2 is in force\n  ~ grace: 30s -> 9s\n  ~ routes.chat.targets[one/m].priority: 1 -> 3";
    assert_eq!(said.trim(), want);
    assert_eq!(chat(&process).await, "two");
    let (code, said) =
        verb(&process, &["config", "diff", "-c", process.program.config().to_str().unwrap()]).await;
    assert_eq!((code, said.trim()), (0, "the file says what is in force"));
    // Nothing that is broken now can be in the way.
    process.program.configure("routes: [\n");
    let (code, said) = verb(&process, &["reload"]).await;
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("pointsman.yaml:") && said.contains("stays in force"), "{said}");
    let back = told(&process, &["reload", "--previous", "--json"]).await;
    assert_eq!((&back["generation"], &back["restored"]), (&3.into(), &1.into()), "{back}");
    assert_eq!(back["changes"].as_array().unwrap().len(), 2, "{back}");
    assert_eq!(chat(&process).await, "one");
    assert_eq!(verb(&process, &["reload", "--previous"]).await.0, 69, "there was but one step");
}

#[tokio::test]
async fn only_the_last_five_generations_are_kept_and_only_such_as_differ() {
    let (process, one, two) = running().await;
    let first = yaml(&one.base_url(), &two.base_url());
    for seconds in 1..=7 {
        process.program.configure(&format!("{first}grace: {seconds}s\n"));
        for _ in 0..2 {
            assert_eq!(verb(&process, &["reload"]).await.0, 0);
        }
    }
    let mut seen = Vec::new();
    while let (0, _) = verb(&process, &["reload", "--previous"]).await {
        seen.push(process.ask_json("/v1/config").await["grace"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["6s", "5s", "4s", "3s", "2s"]);
}

#[tokio::test]
async fn fragments_are_told_with_their_folder_and_both_places_of_a_conflict() {
    let program = program(&yaml("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"));
    std::fs::create_dir(program.path("conf.d")).unwrap();
    std::fs::write(program.path("conf.d/10-a.yaml"), "timeouts: {connect: 1s}\n").unwrap();
    let (code, said) = program.verb(&["config", "show", "timeouts.connect", "-c", "CONFIG"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("timeouts.connect  conf.d/10-a.yaml:1  1s"), "{said}");
    std::fs::write(program.path("conf.d/20-b.yaml"), "# b\ntimeouts: {connect: 3s, stal: 1s}\n").unwrap();
    let (code, said) = program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 78, "{said}");
    assert!(
        said.contains("conf.d/10-a.yaml:1: timeouts.connect: is given again at conf.d/20-b.yaml:2"),
        "{said}"
    );
    assert!(said.contains("conf.d/20-b.yaml:2: timeouts.stal: is not a known key"), "{said}");
}

#[tokio::test]
async fn check_tells_the_faults_of_all_files_also_beside_fragments_that_cannot_be_read() {
    let program = program(&yaml("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1").replace("log:", "lgo:"));
    let fragment = |name: &str| program.path(&format!("conf.d/{name}"));
    std::fs::create_dir(program.path("conf.d")).unwrap();
    std::fs::write(fragment("10-latin.yaml"), b"grace: \xff\n").unwrap();
    std::os::unix::fs::symlink("nowhere", fragment("20-link.yaml")).unwrap();
    std::fs::write(fragment("30-open.yaml"), "routes: [\n").unwrap();
    std::fs::write(fragment("40-key.yaml"), "timeouts: {stal: 1s}\n").unwrap();
    let (code, said) = program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 78, "{said}");
    for part in [
        ": lgo: is not a known key",
        "conf.d/10-latin.yaml: is not UTF-8 text",
        "conf.d/20-link.yaml: is a link to a file that is not there",
        "conf.d/30-open.yaml:2: cannot be read as YAML",
        "conf.d/40-key.yaml:1: timeouts.stal: is not a known key",
        ": 5 errors",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("minimal.yaml"), "{said}");
}

/// One file for several hosts: what differs is said by variables (row F3).
#[tokio::test]
async fn a_variable_beats_the_file_and_is_named_as_the_origin() {
    let yaml = "version: 1\nlog: {level: warn}\nproviders: {local: {kind: ollama}}\n";
    let program = Program::new(yaml).env("POINTSMAN__LOG__LEVEL", "debug").env("POINTSMAN__GRACE", "");
    let (code, said) = program.verb(&["config", "show", "log.level", "-c", "CONFIG"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("debug") && said.contains("POINTSMAN__LOG__LEVEL"), "{said}");
    assert_eq!(program.verb(&["check", "-c", "CONFIG"]).await.0, 0);
    let program =
        program.env("POINTSMAN__PROVIDERS__LOCAL__KIND", "openai").env("POINTSMAN__LOG__LEVEL", "loud");
    let (code, said) = program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 78);
    for line in [
        "POINTSMAN__PROVIDERS__LOCAL__KIND: providers stand in the file",
        "POINTSMAN__LOG__LEVEL: log.level: ",
    ] {
        assert!(said.contains(line), "{said}");
    }
}

#[tokio::test]
async fn config_show_has_every_key_with_its_origin_and_needs_no_variable() {
    let program = Program::new(&yaml("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"));
    let (code, said) = program.verb(&["config", "show", "-c", "CONFIG", "--json"]).await;
    assert_eq!(code, 0, "{said}");
    let json: Value = serde_json::from_str(&said).unwrap();
    let of = |path: &str| {
        let all = json["settings"].as_array().unwrap();
        let one =
            all.iter().find(|setting| setting["path"] == path).unwrap_or_else(|| panic!("{path}: {said}"));
        (one["value"].as_str().unwrap().to_owned(), one["origin"].as_str().unwrap().to_owned())
    };
    for (path, value, origin) in [
        ("threads", "2", "pointsman.yaml:2"),
        ("breaker.open", "5s", "default"),
        ("providers.one.credentials[k].key", "{env: KEY_ONE}", "pointsman.yaml:7"),
        ("routes.chat.targets[two/m].priority", "2", "pointsman.yaml:10"),
    ] {
        assert_eq!(of(path), (value.to_owned(), origin.to_owned()), "{path}");
    }
    let (_, table) = program.verb(&["config", "show", "-c", "CONFIG", "--written"]).await;
    assert!(!table.contains("default "), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert_eq!(program.verb(&["config", "show", "-c", "CONFIG", "no-such"]).await.0, 64);
    let (code, said) =
        Program::new("").env("OPENAI_API_KEY", KEY).verb(&["config", "show", "providers.openai.kind"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("environment"), "{said}");
    assert!(!said.contains(KEY), "{said}");
}

#[tokio::test]
async fn who_may_not_is_77_and_nobody_to_ask_is_69_with_the_remedy() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let program = program(&yaml("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"));
    let reading: [&[&str]; 8] = [
        &["status"],
        &["target", "list"],
        &["events"],
        &["why", "x"],
        &["usage"],
        &["account", "list"],
        &["explain", "--model", "chat"],
        &["config", "diff", "-c", "CONFIG"],
    ];
    for arguments in reading {
        let all: Vec<&str> = arguments.iter().copied().chain(["--admin", &free]).collect();
        let (code, said) = program.verb(&all).await;
        assert_eq!(code, 69, "{arguments:?}: {said}");
        let want =
            format!("nothing listens on {free}: is pointsman running? (--admin names another address)");
        assert!(said.contains(&want), "{arguments:?}: {said}");
    }
    let (process, _one, _two) = running().await;
    std::fs::remove_file(process.program.path("run/pointsman/admin-token")).unwrap();
    let (code, said) = verb(&process, &["reload"]).await;
    assert_eq!(code, 77, "{said}");
    assert!(
        said.contains("set POINTSMAN_ADMIN_TOKEN") && said.contains("run/pointsman/admin-token"),
        "{said}"
    );
    // A token that is not its own is told with the place that it came from.
    let path = process.program.path("run/pointsman/admin-token");
    std::fs::write(&path, "at-of-another-0123456789\n").unwrap();
    let (code, said) = verb(&process, &["reload"]).await;
    let want = format!("does not take this admin token, which is from {}", path.display());
    assert!(code == 77 && said.contains(&want), "{code} {said}");
    // A data address is no admin address.
    let data = process.data.to_string();
    let (code, said) = process.program.verb(&["status", "--admin", &data]).await;
    assert!([69, 77].contains(&code) && said.contains("admin"), "{code} {said}");
}

#[tokio::test]
async fn the_address_and_the_token_come_from_the_file_or_the_environment() {
    let one = Provider::start(Reply::says("one")).await.unwrap();
    let with_token = yaml(&one.base_url(), &one.base_url())
        .replace("admin: {address: \"127.0.0.1:0\"", "admin: {address: \"127.0.0.1:0\", token: {env: TOKEN}");
    let process = program(&with_token).env("TOKEN", TOKEN).start().await;
    // What a service would have in its file: the address that it listens on.
    let pinned = with_token
        .replace("admin: {address: \"127.0.0.1:0\"", &format!("admin: {{address: \"{}\"", process.admin));
    let file = process.program.write("pinned.yaml", &pinned);
    let file = file.to_str().unwrap();
    let (code, said) = process.program.verb(&["target", "drain", "one/k/m", "-c", file]).await;
    assert_eq!((code, said.trim()), (0, "one/k/m: drained"));
    let stranger = Program::new("").env("POINTSMAN_ADMIN", &process.admin.to_string());
    assert_eq!(stranger.verb(&["status"]).await.0, 0);
    let (code, said) = stranger.verb(&["target", "ready", "one/k/m"]).await;
    assert_eq!(code, 77, "{said}");
    let owner = stranger.env("POINTSMAN_ADMIN_TOKEN", TOKEN);
    assert_eq!(owner.verb(&["target", "ready", "one/k/m"]).await.0, 0);
    let wrong = owner.env("POINTSMAN_ADMIN_TOKEN", "another-token-0123456789");
    let (code, said) = wrong.verb(&["target", "ready", "one/k/m"]).await;
    assert_eq!(code, 77, "{said}");
    let want = "does not take this admin token, which is from POINTSMAN_ADMIN_TOKEN";
    assert!(said.contains(want) && !said.contains("another-token"), "{said}");
}

#[tokio::test]
async fn a_first_file_passes_check_and_is_never_overwritten_unasked() {
    for (arguments, key) in
        [(&["init"][..], None), (&["init"], Some(KEY)), (&["init", "--from-env"], Some(KEY))]
    {
        let mut program = Program::new("");
        if let Some(key) = key {
            program = program.env("OPENAI_API_KEY", key).env("ANTHROPIC_API_KEY", key);
        }
        std::fs::remove_file(program.config()).unwrap();
        let (code, said) = program.verb(arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {said}");
        let text = std::fs::read_to_string(program.config()).unwrap();
        assert!(text.contains("default_route: chat") && text.matches('#').count() > 10, "{text}");
        assert!(!text.contains(KEY), "{text}");
        let (code, said) = program.verb(&["check", "-c", "CONFIG"]).await;
        assert_eq!(code, 0, "{arguments:?} with {key:?}: {said}\n{text}");
        std::fs::write(program.config(), "mine").unwrap();
        let (code, said) = program.verb(arguments).await;
        assert!(code == 64 && said.contains("--force"), "{code} {said}");
        assert_eq!(std::fs::read_to_string(program.config()).unwrap(), "mine");
        let forced: Vec<&str> = arguments.iter().copied().chain(["--force"]).collect();
        assert_eq!(program.verb(&forced).await.0, 0);
        assert_eq!(std::fs::read_to_string(program.config()).unwrap(), text);
    }
    let (code, said) = Program::new("").verb(&["init", "-", "--from-env"]).await;
    assert_eq!(code, 78, "nothing in the environment: {said}");
}

#[tokio::test]
async fn snippets_have_the_address_and_the_route_in_force_and_work() {
    let (process, _one, _two) = running().await;
    let file = process.program.config();
    for arguments in [&["client", "curl"][..], &["client", "openai-python"], &["client", "claude-code"]] {
        let (code, said) = verb(&process, arguments).await;
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("chat") && said.contains("KEY may be any text"), "{said}");
    }
    // Without a process the file says it.
    let (code, said) = process
        .program
        .verb(&["client", "codex", "-c", file.to_str().unwrap(), "--url", "https://llm.example/v1/"])
        .await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("base_url = \"https://llm.example/v1\"") && said.contains("model = \"chat\""),
        "{said}"
    );
    let json = process
        .program
        .verb(&["client", "opencode", "--json", "--model", "x", "-c", file.to_str().unwrap()])
        .await
        .1;
    let json: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let snippet: Value = serde_json::from_str(json["text"].as_str().unwrap()).unwrap();
    assert_eq!(snippet["model"], "pointsman/x");
}

#[tokio::test]
async fn probe_asks_each_credential_and_says_what_to_do() {
    let good = Provider::start(Reply::says("ok")).await.unwrap();
    let refused = Provider::start(Reply::status(401).message(&format!("Incorrect API key provided: {KEY}")))
        .await
        .unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = format!(
        "{HEAD}providers:\n{}{}{}routes:\n  chat: {{targets: [{{provider: one, model: m}}, {{provider: two, model: m}}]}}\n",
        openai("one", &good.base_url(), "KEY_ONE"),
        openai("two", &refused.base_url(), "KEY_TWO"),
        openai("three", &format!("http://{gone}/v1"), "KEY_ONE"),
    );
    let program = program(&yaml);
    let (code, said) = program.verb(&["check", "-c", "CONFIG", "--probe"]).await;
    assert_eq!(code, 1, "{said}");
    for (start, words) in [
        ("one/k", "ok"),
        ("two/k", "auth"),
        ("three/k", "connect"),
        ("two/k: ", "put a good one where {env: KEY_TWO} reads it"),
        ("three/k: ", &format!("nothing answers at {gone}")),
    ] {
        assert!(
            said.lines().any(|line| line.starts_with(start) && line.contains(words)),
            "{start} {words}:\n{said}"
        );
    }
    assert!(!said.contains(KEY), "{said}");
    for provider in [&good, &refused] {
        let seen = provider.seen();
        assert!((1..=2).contains(&seen.len()), "{}", seen.len());
        assert_eq!(seen[0].path, "/v1/models");
        assert_eq!(seen[0].header("authorization"), Some(&*format!("Bearer {KEY}")));
    }
    let (_, json) = program.verb(&["check", "-c", "CONFIG", "--probe", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ok"], &json["probe"][1]["outcome"]), (&true.into(), &"auth".into()), "{json}");
    good.set_script(Reply::status(401));
    assert_eq!(program.verb(&["check", "-c", "CONFIG", "--probe"]).await.0, 69, "nothing works");
}

/// A stand-in for an admin plane that tells events.
#[tokio::test]
async fn events_are_told_as_a_page_and_then_followed_from_the_last_one() {
    let desk = Provider::start(Script::rule(|seen| {
        let event = |id: u32| format!("{{\"id\":\"b-{id}\",\"event\":\"reload\",\"generation\":{id}}}");
        if seen.header("accept") == Some("application/json") {
            return Reply::body(
                200,
                "application/json",
                format!("{{\"events\":[{},{}]}}", event(2), event(1)),
            );
        }
        let stream = format!("retry: 2000\n\n: heartbeat\n\nid: b-3\nevent: reload\ndata: {}\n\n", event(3));
        Reply::body(200, "text/event-stream", stream)
    }))
    .await
    .unwrap();
    let admin = desk.address().to_string();
    let program = Program::new("");
    for (more, ids) in [(&[][..], &["b-1", "b-2"][..]), (&["-f"], &["b-1", "b-2", "b-3"])] {
        let all: Vec<&str> = ["events", "--json", "--admin", &admin].iter().chain(more).copied().collect();
        let (code, said) = program.verb(&all).await;
        assert_eq!(code, 0, "{said}");
        let told: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(told.iter().map(|event| event["id"].as_str().unwrap()).collect::<Vec<_>>(), ids, "{said}");
    }
    let paths: Vec<String> = desk.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/v1/events", "/v1/events?limit=10", "/v1/events?after=b-2"]);
}

#[tokio::test]
async fn what_is_asked_of_the_process_is_what_was_typed() {
    let desk =
        Provider::start(Reply::body(200, "application/json", "{\"candidates\":[{\"state\":\"skipped\"}]}"))
            .await
            .unwrap();
    let admin = desk.address().to_string();
    let program = Program::new("").env("POINTSMAN_ADMIN_TOKEN", TOKEN);
    program.write("body.json", "{\"messages\": []}");
    for (typed, code, method, path) in [
        (&["why", "a/b c"][..], 0, "GET", "/v1/decisions/a%2Fb%20c"),
        (&["usage", "--by", "client,day", "--since", "7d"], 0, "GET", "/v1/usage?by=client%2Cday&since=7d"),
        (&["usage"], 0, "GET", "/v1/usage"),
        (&["account", "list"], 0, "GET", "/v1/accounts"),
        (
            &["target", "pin", "a/b/c", "--for", "30m", "--route", "x"],
            0,
            "POST",
            "/v1/targets/a%2Fb%2Fc:pin?for=30m&route=x",
        ),
        (
            &["explain", "-m", "chat", "--dialect", "openai", "--header", "X-A: b: c", "--body", "body.json"],
            69,
            "POST",
            "/v1/explain",
        ),
    ] {
        let all: Vec<&str> = typed.iter().copied().chain(["--admin", &admin]).collect();
        let (ended, said) = program.verb(&all).await;
        assert_eq!(ended, code, "{typed:?}: {said}");
        let seen = desk.seen().pop().unwrap();
        assert_eq!((&*seen.method, &*seen.path), (method, path), "{typed:?}");
        // A token goes only where it is wanted.
        let shown = (method == "POST").then(|| format!("Bearer {TOKEN}"));
        assert_eq!(seen.header("authorization"), shown.as_deref(), "{typed:?}");
    }
    let body: Value = serde_json::from_slice(&desk.seen().pop().unwrap().body).unwrap();
    let want = serde_json::json!({"model": "chat", "dialect": "openai", "headers": {"x-a": "b: c"}, "body": {"messages": []}});
    assert_eq!(body, want);
}

#[tokio::test]
async fn completions_and_pages_know_every_verb() {
    let program = Program::new("");
    let verbs =
        ["status", "target", "reload", "events", "why", "explain", "usage", "account", "init", "client"];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, said) = program.verb(&["completions", shell]).await;
        assert_eq!(code, 0, "{said}");
        assert!(verbs.iter().all(|verb| said.contains(verb)), "{shell}: {said}");
    }
    let (code, page) = program.verb(&["man"]).await;
    assert_eq!(code, 0);
    assert!(page.contains(".TH pointsman 1") && verbs.iter().all(|verb| page.contains(verb)), "{page}");
    let (code, page) = program.verb(&["man", "target", "drain"]).await;
    assert!(code == 0 && page.contains("pointsman target drain"), "{page}");
    assert_eq!(program.verb(&["man", "targte"]).await.0, 64);
    std::fs::create_dir(program.path("man")).unwrap();
    assert_eq!(program.verb(&["man", "--into", "man"]).await.0, 0);
    for page in [
        "pointsman.1",
        "pointsman-status.1",
        "pointsman-top.1",
        "pointsman-target-drain.1",
        "pointsman-config-show.1",
    ] {
        assert!(std::fs::metadata(program.path("man").join(page)).unwrap().len() > 200, "{page}");
    }
    assert_eq!(program.verb(&["man", "--into", "nowhere"]).await.0, 66);
}

#[tokio::test]
async fn a_verb_that_is_not_there_is_64_with_the_nearest_one() {
    let program = Program::new("");
    for (typed, words) in [
        (&["staus"][..], "did you mean \"status\"?"),
        (&["realod"], "did you mean \"reload\"?"),
        (&["target", "drian"], "drain"),
        (&["client", "openai-pyton"], "openai-python"),
        (&["import", "opencode"], "not built yet"),
        (&["explain"], "--model"),
    ] {
        let (code, said) = program.verb(typed).await;
        assert_eq!(code, 64, "{typed:?}: {said}");
        assert!(said.contains(words), "{typed:?}: {said}");
    }
}

#[tokio::test]
async fn no_verb_shows_a_key_or_the_token() {
    let literal = "sk-canary-literal-verbs-01";
    let one = Provider::start(Reply::says("one")).await.unwrap();
    let yaml = yaml(&one.base_url(), &one.base_url())
        .replace("admin: {address: \"127.0.0.1:0\"", "admin: {address: \"127.0.0.1:0\", token: {env: TOKEN}")
        .replace("{env: KEY_TWO}", literal)
        + &format!("clients: [{{name: me, key: {literal}}}]\n");
    let yaml = yaml.replace("kind: openai, ", &format!("kind: openai, headers: {{x-extra: {literal}}}, "));
    let process = program(&yaml).env("TOKEN", TOKEN).start().await;
    let file = process.program.config();
    let file = file.to_str().unwrap();
    let mut said = String::new();
    let verbs: [&[&str]; 12] = [
        &["config", "show", "-c", file],
        &["config", "show", "-c", file, "--json"],
        &["config", "diff", "-c", file],
        &["config", "diff", "-c", file, "--json"],
        &["reload", "-c", file],
        &["status"],
        &["status", "--json"],
        &["target", "list", "--json"],
        &["client", "curl"],
        &["check", "-c", file, "--probe"],
        &["account", "list"],
        &["init", "-"],
    ];
    for arguments in verbs {
        said.push_str(&verb(&process, arguments).await.1);
        said.push_str(&process.program.verb(arguments).await.1);
    }
    said.push_str(&process.ask("/v1/config").await.body_text());
    let sound = std::fs::read_to_string(process.program.config()).unwrap();
    process.program.configure(&sound.replace(literal, "sk-canary-second-verbs-02"));
    said.push_str(&verb(&process, &["config", "diff", "-c", file]).await.1);
    let (code, told) = verb(&process, &["reload", "-c", file]).await;
    assert!(code == 0 && told.contains("providers.two.credentials[k].key: another value"), "{told}");
    said.push_str(&told);
    assert!(said.contains("***") && said.contains("providers.one"), "{said}");
    for secret in ["canary", TOKEN, KEY] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn who_watches_sees_one_page_after_another() {
    use std::io::{BufRead, BufReader};
    let (process, _one, _two) = running().await;
    let admin = process.admin.to_string();
    let mut watching =
        process.program.command(&["status", "--watch", "--json", "--admin", &admin]).spawn().unwrap();
    let pages = BufReader::new(watching.stdout.take().unwrap());
    let read = tokio::task::spawn_blocking(move || pages.lines().take(2).map_while(Result::ok).collect());
    let pages: Vec<String> = tokio::time::timeout(SOON, read).await.unwrap().unwrap();
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert_eq!(pages.len(), 2, "{pages:?}");
    for page in pages {
        assert_eq!(serde_json::from_str::<Value>(&page).unwrap()["generation"], 1);
    }
}

#[tokio::test]
async fn a_reload_that_waits_finds_a_process_that_is_only_just_starting() {
    let one = Provider::start(Reply::says("one")).await.unwrap();
    // Kept free by nobody between here and the start, as any port that is asked for by number.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = yaml(&one.base_url(), &one.base_url())
        .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{free}\"}}"));
    let program = program(&text);
    let mut waiting =
        tokio::process::Command::from(program.command(&["reload", "--wait", "--admin", &free.to_string()]));
    let waiting = tokio::spawn(waiting.output());
    let _process = program.start().await;
    let said = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
}

#[tokio::test]
async fn two_processes_of_one_account_have_a_token_each_and_the_verbs_find_the_right_one() {
    let (first, one, two) = running().await;
    let run = first.program.path("run");
    let start = || async {
        let text = yaml(&one.base_url(), &two.base_url());
        program(&text).env("XDG_RUNTIME_DIR", run.to_str().unwrap()).start().await
    };
    let second = start().await;
    let third = start().await;
    for process in [&first, &second, &third, &first] {
        let (code, said) = verb(process, &["reload"]).await;
        assert_eq!(code, 0, "{said}");
    }
    // The plain name is the first one's, and free when that is gone.
    let token = || std::fs::read_to_string(run.join("pointsman/admin-token")).unwrap();
    let of_first = token();
    assert_eq!(first.post("/v1/reload", of_first.trim()).await.status, 200);
    first.signal("KILL");
    let mut first = first;
    first.end(SOON).await;
    let fourth = start().await;
    assert_ne!(token(), of_first);
    for process in [&second, &fourth, &third] {
        let (code, said) = verb(process, &["reload"]).await;
        assert_eq!(code, 0, "{said}");
    }
}

#[tokio::test]
async fn client_prints_the_address_that_is_bound_whatever_a_reload_has_read() {
    let (process, one, two) = running().await;
    let text = yaml(&one.base_url(), &two.base_url());
    let next = text.replacen("127.0.0.1:0", "127.0.0.1:9", 1);
    assert!(process.reload(&next).await.is_last_good);
    let (code, said) = verb(&process, &["client", "curl"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains(&format!("http://{}/v1", process.data)) && !said.contains("127.0.0.1:9/"),
        "{said}"
    );
}

#[tokio::test]
async fn a_key_file_that_cannot_be_used_any_more_is_told_once_and_its_key_serves_on() {
    let one = Provider::start(Reply::says("one")).await.unwrap();
    let text = format!(
        "{HEAD}log: {{format: json}}\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\n",
        openai("one", &one.base_url(), "KEY_ONE").replace("{env: KEY_ONE}", "{file: KEYFILE}")
    );
    let program = Program::new("");
    let path = program.write("key", KEY);
    program.configure(&text.replace("KEYFILE", path.to_str().unwrap()));
    let process = program.start().await;
    let told = |level: &str, part: &str| {
        let is_it = |line: &&Value| line["level"] == level && line["msg"].as_str().unwrap().contains(part);
        process.log().iter().filter(is_it).count()
    };
    for (time, broken) in [(1, None), (2, Some(""))] {
        match broken {
            None => std::fs::remove_file(&path).unwrap(),
            Some(text) => drop(process.program.write("key", text)),
        }
        let part = format!("the key read last stays in force: file {}", path.display());
        eventually("it is told", async || told("warn", &part) == time).await;
        assert_eq!(chat(&process).await, "one");
        process.program.write("key", KEY);
        let part = format!("the file of its key can be used again: file {}", path.display());
        eventually("the end of it is told", async || told("info", &part) == time).await;
        assert_eq!(told("warn", "stays in force"), time, "once: {}", process.said());
    }
    let all = one.seen();
    assert!(all.iter().all(|seen| seen.header("authorization") == Some(format!("Bearer {KEY}").as_str())));
    assert!(!process.said().contains(KEY), "{}", process.said());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_sends_nobody_to_another_process() {
    let (process, one, two) = running().await;
    let text = yaml(&one.base_url(), &two.base_url());
    process.program.configure(&format!("{text}version: 1\n"));
    for word in ["status", "reload"] {
        let (code, said) = process.program.verb(&[word, "-c", "CONFIG"]).await;
        assert!(code == 78 && said.contains("is given twice"), "{word}: {code} {said}");
        let (code, said) = verb(&process, &[word, "-c", "CONFIG"]).await;
        let want = if word == "status" { 0 } else { 78 };
        assert_eq!(code, want, "{word} of a process that is named: {said}");
    }
}

#[tokio::test]
async fn a_check_finds_certificates_that_a_start_would_refuse() {
    let (process, one, two) = running().await;
    let text = yaml(&one.base_url(), &two.base_url()).replace(
        "listen: [{address: \"127.0.0.1:0\"}]",
        "listen: [{address: \"127.0.0.1:0\", tls: {cert: /nonexist/c, key: /nonexist/k}}]",
    );
    let junk = process.program.write("junk.pem", "nothing");
    let text = text.replacen("providers:\n", &format!("providers:\n  far: {{kind: openai, base_url: \"https://box/v1\", tls: {{ca: {}}}, credentials: [{{name: k, key: {{env: KEY_ONE}}}}]}}\n", junk.display()), 1);
    process.program.configure(&text);
    let (code, said) = process.program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("listen[0].tls.cert: /nonexist/c cannot be read"), "{said}");
    assert!(said.contains("providers.far.tls.ca") && said.contains("holds no certificate"), "{said}");
}
