//! What is kept for good of decisions and changes, and what may not stand in anybody's way?
//!
//! (Contract section 2: `audit: {path}`; requirements F9, F30.)

use crate::process::{HEAD, Process, Program, SOON, eventually, json, mode, openai};
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply, Script};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// What nobody may find in the record.
const PROMPT: &str = "prompt-canary-51ab77";
const COMPLETION: &str = "completion-canary-d02c9e";

struct Scene {
    one: Provider,
    _two: Provider,
    process: Process,
    path: PathBuf,
}

fn yaml(one: &Provider, two: &Provider, path: &str) -> String {
    format!(
        "{HEAD}log: {{format: json}}
audit: {{path: {path}}}
retry: {{same_target: 0, backoff: {{base: 1ms, max: 1ms}}}}
clients: [{{name: alice, key: {{env: ALICE}}, routes: [\"*\"]}}]
providers:
{}{}routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: n, priority: 2}}]}}
",
        openai("one", &one.base_url(), "KEY_ONE"),
        openai("two", &two.base_url(), "KEY_TWO"),
    )
}

async fn providers() -> (Provider, Provider) {
    (
        Provider::start(Reply::says(COMPLETION)).await.unwrap(),
        Provider::start(Reply::says("two")).await.unwrap(),
    )
}

fn program() -> Program {
    Program::new("")
        .env("KEY_ONE", "sk-one-0123456789")
        .env("KEY_TWO", "sk-two-0123456789")
        .env("ALICE", "alice-0123456789")
}

impl Scene {
    async fn open() -> Scene {
        let (one, two) = providers().await;
        let program = program();
        let path = program.path("audit.log");
        program.configure(&yaml(&one, &two, path.to_str().unwrap()));
        Scene { one, _two: two, process: program.start().await, path }
    }

    async fn chat(&self, id: &str) -> u16 {
        let body =
            serde_json::json!({ "model": "chat", "messages": [{ "role": "user", "content": PROMPT }] });
        let call = Call::json("/v1/chat/completions", &body);
        let call = call.bearer("alice-0123456789").header("x-request-id", id);
        call.limit(SOON).send(self.process.data).await.unwrap().status
    }

    /// The lines of a file, each whole.
    fn lines(path: &std::path::Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| json(line).unwrap_or_else(|| panic!("{line}"))).collect()
    }

    /// Waits for the line of a request.
    async fn until(&self, id: &str) -> Vec<Value> {
        let is_there = |lines: &[Value]| lines.iter().any(|line| line["id"] == id);
        eventually("the line is written", async || is_there(&Scene::lines(&self.path))).await;
        Scene::lines(&self.path)
    }
}

#[tokio::test]
async fn every_decision_and_every_change_is_one_line_and_the_last_request_is_there_at_the_end() {
    let mut scene = Scene::open().await;
    let token = scene.process.token();
    assert_eq!(scene.chat("good").await, 200);
    scene.one.set_script(Script::always(Reply::rate_limited(Some("60"))));
    assert_eq!(scene.chat("moved").await, 200);
    let stranger =
        Call::chat("chat").header("x-request-id", "stranger").send(scene.process.data).await.unwrap();
    assert_eq!(stranger.status, 401);
    scene.process.post("/v1/targets/one%2Fk%2Fm:disable", &token).await;
    scene.process.post("/v1/targets/one/k/m:ready", "wrong-token").await;
    scene.process.post("/v1/targets/one/k/m:pin?for=x", &token).await;
    scene.process.post("/v1/reload", &token).await;
    scene.process.hang_up().await;
    assert_eq!(scene.chat("last").await, 200);
    scene.process.signal("TERM");
    scene.process.end(SOON).await;

    let lines = Scene::lines(&scene.path);
    let short: Vec<String> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            match &*text("kind") {
                "request" => format!(
                    "request {} {} {} {}",
                    text("id"),
                    text("target"),
                    text("outcome"),
                    line["status"]
                ),
                "admin" => {
                    format!("admin {} {} {} {}", text("who"), text("what"), text("target"), text("result"))
                }
                "reload" => format!("reload {} {}", text("result"), line["generation"]),
                other => other.to_owned(),
            }
        })
        .collect();
    // A request's line is written behind its answer, so that what comes next may be written first.
    let (mut requests, others): (Vec<_>, Vec<_>) =
        short.iter().partition(|line| line.starts_with("request "));
    requests.sort();
    assert_eq!(
        requests,
        [
            "request good one/k/m ok 200",
            "request last two/k/n ok 200",
            "request moved two/k/n ok 200",
            "request stranger - - 401",
        ],
        "{lines:#?}"
    );
    assert_eq!(
        others,
        [
            "start",
            "admin token disable one/k/m ok",
            "admin nobody ready one/k/m denied",
            "admin token pin one/k/m refused",
            "reload ok 2",
            "admin token reload - ok",
            "reload ok 3",
            "stop",
        ],
        "{lines:#?}"
    );
    let moved = lines.iter().find(|line| line["id"] == "moved").unwrap();
    let names = ["trail", "client", "route"].map(|name| moved[name].as_str().unwrap());
    assert_eq!(names, ["one/k:429,two/k:ok", "alice", "chat"]);
    let disabled = lines.iter().find(|line| line["what"] == "disable").unwrap();
    assert!(disabled["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{disabled}");
    assert_eq!(mode(&scene.path) & !0o640, 0, "{:o}", mode(&scene.path));
    let text = fs::read_to_string(&scene.path).unwrap();
    for secret in [PROMPT, COMPLETION, "sk-one", "sk-two", "alice-0123456789", &token, "wrong-token"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn rotation_by_usr1_by_hup_and_by_name_loses_no_line() {
    let scene = Scene::open().await;
    let mut all = 0;
    for (turn, way) in ["usr1", "hup", "name", "gone"].iter().enumerate() {
        let id = format!("r{turn}");
        scene.chat(&id).await;
        scene.until(&id).await;
        let rotated = scene.path.with_extension(way);
        all += 1;
        fs::rename(&scene.path, &rotated).unwrap();
        match *way {
            "usr1" => scene.process.signal("USR1"),
            "hup" => drop(scene.process.hang_up().await),
            "gone" => fs::remove_file(&rotated).unwrap(),
            _ => {}
        }
        if *way == "usr1" || *way == "hup" {
            eventually("the file is made anew", async || scene.path.exists()).await;
        }
    }
    scene.chat("end").await;
    scene.until("end").await;
    let mut seen = 0;
    for way in ["usr1", "hup", "name"] {
        seen +=
            Scene::lines(&scene.path.with_extension(way)).iter().filter(|l| l["kind"] == "request").count();
    }
    assert_eq!(seen, all - 1, "those of the file that was deleted went with it");
    assert_eq!(scene.process.metric("pointsman_audit_errors_total", &[]).await.to_string(), "0");
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_refused_with_a_sentence_before_anything_begins() {
    let (one, two) = providers().await;
    let program = program();
    let folder = program.path("run").display().to_string();
    for (path, words) in [
        (format!("{folder}/no/such/audit.log"), "lies in a folder that does not exist"),
        (folder.clone(), "is no regular file"),
        ("audit.log".to_owned(), "must be an absolute path"),
    ] {
        program.configure(&yaml(&one, &two, &path));
        for verb in [&["check", "-c", "CONFIG"][..], &["run", "-c", "CONFIG"]] {
            let (code, said) = program.verb(verb).await;
            assert_eq!(code, 78, "{verb:?}: {said}");
            assert!(said.contains("audit.path") && said.contains(words), "{said}");
            assert!(said.contains("pointsman.yaml:6"), "the line is told: {said}");
        }
    }
    program.configure(&yaml(&one, &two, program.path("audit.log").to_str().unwrap()));
    let (code, said) = program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(!program.path("audit.log").exists(), "check makes nothing");
}

#[tokio::test]
async fn a_reload_turns_it_on_and_off_and_a_bad_path_keeps_the_old_one() {
    let scene = Scene::open().await;
    let sound = fs::read_to_string(scene.process.program.config()).unwrap();
    let bad = sound.replace("audit.log", "no/such/audit.log");
    assert!(!scene.process.reload(&bad).await.is_last_good);
    scene.chat("kept").await;
    scene.until("kept").await;
    let off = sound.replace(&format!("path: {}", scene.path.display()), "path: null");
    assert!(scene.process.reload(&off).await.is_last_good);
    let before = Scene::lines(&scene.path).len();
    scene.chat("unseen").await;
    let other = scene.process.program.path("other.log");
    assert!(scene.process.reload(&sound.replace("audit.log", "other.log")).await.is_last_good);
    scene.chat("moved").await;
    let is_moved = || Scene::lines(&other).iter().any(|line| line["id"] == "moved");
    eventually("the other file has it", async || is_moved()).await;
    let ids = |path: &std::path::Path| format!("{:?}", Scene::lines(path));
    assert!(!ids(&scene.path).contains("unseen") && !ids(&other).contains("unseen"));
    assert_eq!(Scene::lines(&scene.path).len(), before);
}

#[tokio::test]
async fn a_full_disk_does_no_harm() {
    let (one, two) = providers().await;
    let program = program();
    program.configure(&yaml(&one, &two, "/dev/full"));
    let scene = Scene { one, _two: two, process: program.start().await, path: "/dev/full".into() };
    for turn in 0..20 {
        assert_eq!(scene.chat(&format!("r{turn}")).await, 200);
    }
    let errors = async || scene.process.metric("pointsman_audit_errors_total", &[]).await;
    eventually("it is counted and tried again", async || errors().await > 1.5).await;
    let page = Call::get("/v1/events").header("accept", "application/json");
    let told = page.send(scene.process.admin).await.unwrap().body_text();
    assert_eq!(told.matches("\"audit_failed\"").count(), 1, "told once: {told}");
    // Room is found.
    let path = scene.process.program.path("audit.log");
    let sound = fs::read_to_string(scene.process.program.config()).unwrap();
    scene.process.reload(&sound.replace("/dev/full", path.to_str().unwrap())).await;
    let count = || Scene::lines(&path).iter().filter(|line| line["kind"] == "request").count();
    eventually("what waited is written", async || count() == 20).await;
}
