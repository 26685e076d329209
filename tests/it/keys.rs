//! What happens when a provider refuses our key?
//!
//! (Failure table, row 13: one look at the key's file, then the same target once; never a 401 to
//! the client.)

use crate::process::{HEAD, Process, Program, SOON, eventually, openai};
use pointsman::standin;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Gate, Provider, Reply, Script, Seen, Twist};
use tokio::task::JoinSet;

const OLD: &str = "sk-old-0123456789";
const NEW: &str = "sk-new-0123456789";

/// Where the key of the first provider stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    File,
    Credential,
    Command,
}

/// A provider that takes the new key only, one that always answers, and the proxy before them.
struct Scene {
    one: Provider,
    process: Process,
    _two: Provider,
}

fn is_new(seen: &Seen) -> bool {
    seen.header("authorization") == Some(&*format!("Bearer {NEW}"))
}

fn takes_the_new_key() -> Script {
    Script::rule(|seen| {
        let bearer = seen.header("authorization").unwrap_or_default().to_owned();
        if is_new(seen) {
            Reply::says("one")
        } else {
            Reply::status(401).message(&format!("no such key: {bearer}"))
        }
    })
}

impl Scene {
    async fn open(place: Place, key: &str, more: &str) -> Scene {
        let one = Provider::start(takes_the_new_key()).await.unwrap();
        let two = Provider::start(Reply::says("two")).await.unwrap();
        let program = Program::new("").env("KEY_TWO", "sk-two-0123456789");
        let file = program.write("key", key);
        let folder = file.parent().unwrap().to_str().unwrap().to_owned();
        let program = program.env("CREDENTIALS_DIRECTORY", &folder);
        let written = match place {
            Place::File => format!("{{file: {}}}", file.display()),
            Place::Credential => "{credential: key}".to_owned(),
            Place::Command => format!("{{command: [/bin/cat, {}]}}", file.display()),
        };
        program.configure(&format!(
            "{HEAD}log: {{level: trace, format: json}}
providers:
  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {written}}}]}}
{}routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}
default_route: chat
{more}",
            one.base_url(),
            openai("two", &two.base_url(), "KEY_TWO"),
        ));
        Scene { one, process: program.start().await, _two: two }
    }

    async fn send(&self, call: Call) -> Answer {
        call.limit(SOON).send(self.process.data).await.unwrap()
    }

    async fn chat(&self) -> Answer {
        self.send(Call::chat("chat")).await
    }

    /// Writes the key anew as tools do: another file takes the name of the first.
    fn rotate(&self, key: &str) {
        let next = self.process.program.write("key.next", key);
        std::fs::rename(next, self.process.program.path("key")).unwrap();
    }

    /// Looks for keys in all that the process said.
    fn assert_silent(&self) {
        for key in [OLD, NEW] {
            assert!(!self.process.said().contains(key), "{key} is in the log");
        }
    }
}

#[tokio::test]
async fn a_rotated_key_is_found_and_the_same_target_answers() {
    for place in [Place::File, Place::Credential] {
        for call in [Call::chat("chat"), Call::chat_stream("chat")] {
            let scene = Scene::open(place, OLD, "").await;
            scene.rotate(NEW);
            let answer = scene.send(call.clone()).await;
            assert_eq!((answer.status, answer.text()), (200, "one".to_owned()), "{place:?}");
            assert_eq!(answer.header("x-pointsman-trail"), Some("one/k:401,one/k:ok"), "{place:?}");
            assert_eq!(answer.header("x-used-fallback"), Some("false"), "{place:?}");
            assert_eq!(scene.process.target("one/k/m").await["state"], "ready", "{place:?}");
            let again = scene.send(call).await;
            assert_eq!((again.header("x-attempts"), scene.one.count()), (Some("1"), 3), "{place:?}");
            scene.assert_silent();
        }
    }
}

#[tokio::test]
async fn a_key_that_did_not_change_rests_and_another_provider_answers() {
    for place in [Place::File, Place::Command] {
        let scene = Scene::open(place, OLD, "").await;
        if let Place::Command = place {
            // A command is run by reloads only.
            scene.rotate(NEW);
        }
        assert_eq!(scene.chat().await.text(), "two", "{place:?}");
        assert_eq!(scene.chat().await.text(), "two", "{place:?}");
        assert_eq!(scene.one.count(), 1, "{place:?}: a refused key was sent again");
        assert_eq!(scene.process.target("one/k/m").await["state"], "auth_failed", "{place:?}");
        scene.assert_silent();
    }
}

#[tokio::test]
async fn a_new_key_that_is_refused_as_well_is_not_sent_a_third_time() {
    let scene = Scene::open(Place::File, OLD, "").await;
    scene.rotate("sk-also-wrong-0123456789");
    let answer = scene.chat().await;
    assert_eq!(answer.text(), "two");
    assert_eq!(answer.header("x-pointsman-trail"), Some("one/k:401,one/k:401,two/k:ok"));
    assert_eq!(scene.process.target("one/k/m").await["state"], "auth_failed");
}

#[tokio::test]
async fn a_crowd_with_the_old_key_goes_over_to_the_new_one() {
    let scene = Scene::open(Place::File, OLD, "").await;
    scene.rotate(NEW);
    let mut crowd = JoinSet::new();
    for _ in 0..40 {
        let data = scene.process.data;
        crowd.spawn(async move { Call::chat("chat").limit(SOON).send(data).await.unwrap() });
    }
    while let Some(answer) = crowd.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "one".to_owned()), "{:?}", answer.headers);
    }
    assert_eq!(scene.process.target("one/k/m").await["state"], "ready");
}

#[tokio::test]
async fn the_new_key_is_kept_from_the_client_like_the_old_one() {
    let scene = Scene::open(Place::File, OLD, "").await;
    scene.rotate(NEW);
    assert_eq!(scene.chat().await.text(), "one");
    let words = format!("your key {NEW} replaced {OLD}");
    scene.one.set_script(Reply::status(400).message(&words).header("x-debug", NEW));
    for call in [Call::chat("chat"), Call::get("/v1/files")] {
        let answer = scene.send(call).await;
        assert_eq!(answer.status, 400);
        let told = format!("{:?} {}", answer.headers, answer.body_text());
        assert!(told.contains("replaced") && !told.contains(NEW) && !told.contains(OLD), "{told}");
    }
    scene.assert_silent();
}

#[tokio::test]
async fn a_reload_after_a_rotation_keeps_the_rest_that_the_new_key_earned() {
    let scene = Scene::open(Place::File, OLD, "").await;
    scene.rotate(NEW);
    assert_eq!(scene.chat().await.text(), "one");
    scene.one.set_script(Reply::status(402));
    assert_eq!(scene.chat().await.text(), "two");
    scene.process.hang_up().await;
    assert_eq!(scene.process.target("one/k/m").await["state"], "quota_spent", "the key is the same");
}

#[tokio::test]
async fn what_is_passed_through_never_blames_the_clients_key() {
    let form = || Call::post("/v1/files", "--x--").header("content-type", "multipart/form-data; boundary=x");
    for http in ["", "http: 2"] {
        for call in [Call::get("/v1/files"), form(), Call::get("/v1/batches/b").http2()] {
            let one = Provider::start(takes_the_new_key()).await.unwrap();
            let mut yaml = "listen: [{address: \"127.0.0.1:0\", h2c: true}]\nproviders:\n".to_owned();
            yaml += &crate::scene::provider("one", "openai", &one.base_url(), OLD, http);
            yaml += "routes: {chat: {targets: [{provider: one, model: m}]}}\ndefault_route: chat\n";
            let stage = crate::stage::Stage::open(&yaml).await;
            let answer = call.send(stage.data).await.unwrap();
            assert_eq!(
                (answer.status, answer.error_code().as_str()),
                (502, "upstream_auth"),
                "{}",
                answer.body_text()
            );
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            assert!(!answer.body_text().contains(OLD), "{}", answer.body_text());
            assert_eq!(call.send(stage.data).await.unwrap().status, 503, "the credential rests");
            assert_eq!(one.count(), 1);
        }
    }
}

#[tokio::test]
async fn what_is_passed_through_finds_a_rotated_key_too() {
    let scene = Scene::open(Place::File, OLD, "").await;
    scene.rotate(NEW);
    let answer = scene.send(Call::get("/v1/files")).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(scene.one.count(), 2);
    let scene = Scene::open(Place::File, OLD, "").await;
    scene.rotate(NEW);
    // An upload has gone by when the answer comes; the next one has the new key.
    let upload = || Call::post("/v1/files", "{}").header("content-type", "application/json");
    let answer = scene.send(upload()).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_auth"));
    assert_eq!(answer.header("x-should-retry"), Some("true"));
    let answer = scene.send(upload()).await;
    assert_eq!((answer.status, scene.one.count()), (200, 2), "{}", answer.body_text());
    let is_told = async || scene.process.log_of("request").len() == 2;
    eventually("the requests are in the log", is_told).await;
    scene.assert_silent();
}

/// The former key is out of credit, which is known after another key came into force.
#[tokio::test]
async fn what_a_former_key_spent_is_no_matter_of_the_one_in_force() {
    for slow in
        [Call::chat("chat").header("user-agent", "slow"), Call::get("/v1/files").header("user-agent", "slow")]
    {
        let scene = Scene::open(Place::File, OLD, "").await;
        let gate = Gate::closed();
        let held = gate.clone();
        scene.one.set_script(Script::rule(move |seen| match seen.header("user-agent") {
            _ if is_new(seen) => Reply::says("one"),
            Some("slow") => Reply::status(402).at(standin::Place::BeforeHead, Twist::Hold(held.clone())),
            Some(_) | None => Reply::status(401),
        }));
        let data = scene.process.data;
        let under_way = tokio::spawn(async move { slow.limit(SOON).send(data).await.unwrap() });
        assert!(scene.one.until(SOON, |seen| seen.len() == 1).await);
        scene.rotate(NEW);
        assert_eq!(scene.chat().await.text(), "one");
        gate.open();
        let answer = under_way.await.unwrap();
        assert!(matches!(answer.status, 200 | 402), "{}", answer.body_text());
        let answer = scene.chat().await;
        assert_eq!(answer.header("x-pointsman-trail"), Some("one/k:ok"), "{}", answer.body_text());
        assert_eq!(scene.process.target("one/k/m").await["state"], "ready");
    }
}

#[tokio::test]
async fn a_403_that_is_passed_through_keeps_its_words() {
    let one = Provider::start(Reply::status(403).message("this breaks our usage policies")).await.unwrap();
    let mut yaml = "providers:\n".to_owned();
    yaml += &crate::scene::provider("one", "openai", &one.base_url(), OLD, "");
    yaml += "routes: {chat: {targets: [{provider: one, model: m}]}}\ndefault_route: chat\n";
    let stage = crate::stage::Stage::open(&yaml).await;
    for _ in 0..2 {
        let answer = Call::get("/v1/files").send(stage.data).await.unwrap();
        assert_eq!(answer.status, 403);
        assert!(answer.body_text().contains("usage policies"), "{}", answer.body_text());
    }
}

#[tokio::test]
async fn a_401_that_blames_the_request_reaches_no_client_as_such() {
    // The code is believed before the status: nobody else is asked, but 401 is not the answer.
    let one = Provider::start(Reply::status(401).code("unsupported_parameter")).await.unwrap();
    let mut yaml = "providers:\n".to_owned();
    yaml += &crate::scene::provider("one", "openai", &one.base_url(), OLD, "");
    yaml += "routes: {chat: {targets: [{provider: one, model: m}]}}\n";
    let stage = crate::stage::Stage::open(&yaml).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_auth"));
}
