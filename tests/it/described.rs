//! Does the admin plane answer what docs/openapi.yaml says, and all of it?
//!
//! A running process is asked everything that can be asked, and each answer is held against the
//! description, in both directions: what is answered must be described (status, content type, every
//! member with its type), and every member that is described must have been met in some answer, but
//! for the few in [`RARE`].

use crate::process::{HEAD, Process, Program, SOON, eventually, json};
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Provider, Reply, Script};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Described, and not met here: what takes a disk that is full, a login, a process that leaves, a name
/// that leads inside.
const RARE: [&str; 5] =
    ["Target.last_error.detail", "Event.under_way", "Event.credential", "Event.has_old", "Event.dropped"];

/// The description, and what was found out about it.
struct Book {
    description: Value,
    met: BTreeSet<String>,
    operations: BTreeSet<String>,
    faults: Vec<String>,
}

impl Book {
    fn open() -> Book {
        let text = include_str!("../../docs/openapi.yaml");
        Book {
            description: serde_yaml::from_str(text).unwrap(),
            met: BTreeSet::new(),
            operations: BTreeSet::new(),
            faults: Vec::new(),
        }
    }

    /// Follows a `$ref`; what it stands for, with its name.
    fn follow(&self, schema: &Value, at: &str) -> (Value, String) {
        let Some(name) = schema["$ref"].as_str() else { return (schema.clone(), at.to_owned()) };
        let found = self.description.pointer(&name[1..]).unwrap_or_else(|| panic!("{name} is not there"));
        (found.clone(), name.rsplit('/').next().unwrap().to_owned())
    }

    /// Returns the schema of an answer, with what it is called: by its operation, status and type.
    fn schema(&self, method: &str, path: &str, status: u16, kind: &str) -> Result<(Value, String), String> {
        let operation = &self.description["paths"][path][method];
        let id = operation["operationId"].as_str().ok_or("is not described")?;
        let answer = &operation["responses"][status.to_string()];
        if answer.is_null() {
            return Err(format!("status {status} is not described"));
        }
        let (answer, _) = self.follow(answer, "");
        let content = &answer["content"][kind];
        if content.is_null() {
            return Err(format!("{status} with {kind} is not described"));
        }
        Ok((content["schema"].clone(), id.to_owned()))
    }

    /// Holds an answer against what is described of its operation.
    fn hold(&mut self, method: &str, path: &str, answer: &Answer) {
        let kind = answer.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().to_owned();
        self.operations.insert(format!("{method} {path}"));
        match self.schema(method, path, answer.status, &kind) {
            Err(why) => self.faults.push(format!("{method} {path}: {why}: {}", excerpt(answer))),
            Ok((schema, id)) if kind.ends_with("json") => {
                let before = self.faults.len();
                self.value(&schema, &answer.json(), &id);
                if self.faults.len() > before {
                    self.faults.push(format!("  which was {method} {path}: {}", excerpt(answer)));
                }
            }
            Ok(_) => {}
        }
    }

    fn value(&mut self, schema: &Value, value: &Value, at: &str) {
        let (schema, at) = self.follow(schema, at);
        if let Some(either) = schema["oneOf"].as_array() {
            let fits = |one: &&Value| (one["type"] == "null") == value.is_null();
            let one = either.iter().find(fits).unwrap_or_else(|| panic!("{at}: no way for {value}")).clone();
            return self.value(&one, value, &at);
        }
        if let Some(why) = misfit(&schema, value) {
            self.faults.push(format!("{at} is {value}: {why}"));
        }
        for item in value.as_array().into_iter().flatten() {
            self.value(&schema["items"], item, &format!("{at}[]"));
        }
        if let Some(members) = value.as_object() {
            self.members(&schema, members, &at);
        }
    }

    fn members(&mut self, schema: &Value, members: &Map<String, Value>, at: &str) {
        let mut parts = vec![(schema.clone(), at.to_owned())];
        for part in schema["allOf"].as_array().into_iter().flatten() {
            parts.push(self.follow(part, at));
        }
        for (part, _) in &parts {
            for name in part["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    self.faults.push(format!("{at} lacks {name}"));
                }
            }
        }
        // What is not described member by member may hold any.
        let is_free = |part: &Value| part["properties"].is_null() && part["additionalProperties"].is_null();
        if parts.iter().all(|(part, _)| is_free(part)) {
            return;
        }
        for (name, value) in members {
            let place = parts.iter().find(|(part, _)| part["properties"].get(name).is_some());
            if let Some((part, at)) = place.cloned() {
                let at = format!("{at}.{name}");
                self.met.insert(at.clone());
                self.value(&part["properties"][name], value, &at);
            } else if schema["additionalProperties"].is_object() {
                self.value(&schema["additionalProperties"], value, &format!("{at}.*"));
            } else {
                self.faults.push(format!("{at}.{name} is answered and not described"));
            }
        }
    }

    /// Returns every member that is described of an answer.
    fn described(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (path, item) in self.description["paths"].as_object().unwrap() {
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                assert!(["get", "post"].contains(&&**method), "{method} {path}");
                let id = operation["operationId"].as_str().unwrap();
                for answer in operation["responses"].as_object().unwrap().values() {
                    let (answer, _) = self.follow(answer, "");
                    for content in answer["content"].as_object().into_iter().flat_map(|all| all.values()) {
                        self.list(&content["schema"], id, &mut all);
                    }
                }
            }
        }
        all
    }

    fn list(&self, schema: &Value, at: &str, all: &mut BTreeSet<String>) {
        let (schema, at) = self.follow(schema, at);
        for part in ["oneOf", "allOf"] {
            schema[part].as_array().into_iter().flatten().for_each(|part| self.list(part, &at, all));
        }
        if schema["items"].is_object() {
            self.list(&schema["items"], &format!("{at}[]"), all);
        }
        if schema["additionalProperties"].is_object() {
            self.list(&schema["additionalProperties"], &format!("{at}.*"), all);
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            if all.insert(at.clone()) {
                self.list(inner, &at, all);
            }
        }
    }
}

fn excerpt(answer: &Answer) -> String {
    answer.body_text().chars().take(600).collect()
}

/// Says what is wrong with a value, apart from what is in it.
fn misfit(schema: &Value, value: &Value) -> Option<String> {
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("a schema has the type {other}"),
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind)) {
        return Some(format!("it is to be {kinds:?}"));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return Some(format!("it is none of {}", schema["enum"]));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Some(format!("it is to be {}", schema["const"]));
    }
    let number = value.as_f64();
    if number.zip(schema["minimum"].as_f64()).is_some_and(|(is, least)| is < least)
        || number.zip(schema["maximum"].as_f64()).is_some_and(|(is, most)| is > most)
    {
        return Some("it is out of its range".to_owned());
    }
    let is_date = |text: &str| chrono::DateTime::parse_from_rfc3339(text).is_ok();
    if schema["format"] == "date-time" && value.as_str().is_some_and(|text| !is_date(text)) {
        return Some("it is no RFC 3339".to_owned());
    }
    None
}

const KEY: &str = "sk-described-0123456789";
const CLIENT: &str = "ck-described-0123456789";

struct Scene {
    process: Process,
    token: String,
    book: Book,
    yaml: String,
    one: Provider,
    _two: Provider,
}

impl Scene {
    async fn open() -> Scene {
        let [one, two] =
            [Provider::start(Reply::ok()).await.unwrap(), Provider::start(Reply::says("two")).await.unwrap()];
        let yaml = format!(
            "{HEAD}log: {{format: json}}
clients: [{{name: laptop, key: {{env: CLIENT}}, routes: [\"*\"]}}]
retry: {{same_target: 0, wait_in_place: 0ms}}
providers:
  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY}}}}], models: {{m: {{price: {{input: 1, output: 2}}}}}}}}
  two: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY}}}}]}}
routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: a/b:c, priority: 2}}]}}
  one: {{targets: [{{provider: one, model: m}}]}}
",
            one.base_url(),
            two.origin()
        );
        let process = Program::new(&yaml).env("KEY", KEY).env("CLIENT", CLIENT).start().await;
        let token = process.token();
        Scene { process, token, book: Book::open(), yaml, one, _two: two }
    }

    async fn get(&mut self, template: &str, path: &str) -> Answer {
        let call = Call::get(path).header("accept", "application/json");
        self.send("get", template, call).await
    }

    async fn post(&mut self, template: &str, path: &str) -> Answer {
        let call = Call::post(path, "").bearer(&self.token);
        self.send("post", template, call).await
    }

    async fn send(&mut self, method: &str, template: &str, call: Call) -> Answer {
        let answer = call.limit(SOON).send(self.process.admin).await.unwrap();
        self.book.hold(method, template, &answer);
        answer
    }

    /// A request of a client, until its decision is kept.
    async fn request(&self, id: &str, body: &Value) {
        let call = Call::json("/v1/chat/completions", body).bearer(CLIENT).header("x-request-id", id);
        call.limit(SOON).send(self.process.data).await.unwrap();
        let path = format!("/v1/decisions/{id}");
        eventually("the decision is kept", async || self.process.ask(&path).await.status == 200).await;
    }

    /// Answers, a failover, a refusal, a stream that is taken up.
    async fn traffic(&self) {
        let chat = |model: &str| serde_json::json!({"model": model, "seed": 7, "messages": [{"role": "user", "content": "Hello"}]});
        let limits = |reply: Reply| {
            reply
                .header("x-ratelimit-remaining-requests", "59")
                .header("x-ratelimit-remaining-tokens", "1000")
        };
        self.one.set_script(limits(Reply::ok()));
        self.request("answered", &chat("chat")).await;
        self.request("unknown", &chat("no-such-model")).await;
        let mut streamed = chat("chat");
        streamed["stream"] = true.into();
        self.one.set_script(Reply::reset_after(2));
        self.request("taken-up", &streamed).await;
        self.one.set_script(Script::always(limits(Reply::rate_limited(Some("60")))));
        self.request("moved", &chat("chat")).await;
        self.request("skipped", &chat("chat")).await;
        self.request("refused", &chat("one")).await;
    }

    async fn read(&mut self) {
        for path in [
            "/livez",
            "/readyz",
            "/metrics",
            "/v1/openapi.json",
            "/v1/status",
            "/v1/config",
            "/v1/routes",
            "/v1/targets",
            "/v1/accounts",
            "/v1/usage",
            "/v1/decisions",
            "/v1/events",
            "/admin/providers/status",
            "/ui",
            "/ui/app.js",
            "/ui/style.css",
        ] {
            self.get(path, path).await;
        }
        for by in ["day,route,model,provider,credential", "target,client,device,source", "nothing"] {
            self.get("/v1/usage", &format!("/v1/usage?by={by}&since=7d")).await;
        }
        for query in ["?limit=1&since=5m&target=one%2Fk%2Fm&outcome=rate_limited", "?limit=0"] {
            self.get("/v1/decisions", &format!("/v1/decisions{query}")).await;
        }
        self.get("/v1/events", "/v1/events?limit=0").await;
        for id in ["answered", "unknown", "taken-up", "moved", "skipped", "refused", "never-sent"] {
            self.get("/v1/decisions/{request_id}", &format!("/v1/decisions/{id}")).await;
        }
        for id in ["one/k/m", "two%2Fk%2Fa%2Fb%3Ac", "two/k/a/b:c", "nobody/k/m"] {
            self.get("/v1/targets/{id}", &format!("/v1/targets/{id}")).await;
        }
    }

    async fn explain(&mut self) {
        for (question, status) in [
            (serde_json::json!({"model": "chat", "body": {"seed": 7, "messages": []}}), 200),
            (serde_json::json!({"model": "one", "client": "laptop", "dialect": "anthropic.messages"}), 200),
            (serde_json::json!({"model": "no-such-model"}), 404),
            (serde_json::json!({"model": "chat", "client": "nobody"}), 400),
        ] {
            let call = Call::json("/v1/explain", &question);
            let answer = self.send("post", "/v1/explain", call).await;
            assert_eq!(answer.status, status, "{question}: {}", answer.body_text());
        }
    }

    async fn operate(&mut self) {
        for verb in ["drain", "pin", "ready", "disable", "reset", "ready"] {
            let template = format!("/v1/targets/{{id}}:{verb}");
            self.post(&template, &format!("/v1/targets/two/k/a/b:c:{verb}")).await;
            self.send(
                "post",
                "/v1/explain",
                Call::json("/v1/explain", &serde_json::json!({"model": "chat"})),
            )
            .await;
        }
        let pin = "/v1/targets/{id}:pin";
        self.post(pin, "/v1/targets/two/k/a/b:c:pin?for=30m&route=chat").await;
        self.get("/v1/targets", "/v1/targets").await;
        self.get("/v1/routes", "/v1/routes").await;
        self.post(pin, "/v1/targets/two/k/a/b:c:pin?for=x").await;
        self.post(pin, "/v1/targets/nobody/k/m:pin").await;
        let reset = "/admin/providers/{model}/{provider}/reset";
        assert_eq!(self.post(reset, "/admin/providers/m/one/reset").await.status, 200);
        assert_eq!(self.post(reset, "/admin/providers/m/nobody/reset").await.status, 404);
        let unsigned = Call::post("/v1/reload", "");
        assert_eq!(self.send("post", "/v1/reload", unsigned).await.status, 401);
    }

    async fn reload(&mut self) {
        let reload = "/v1/reload";
        assert_eq!(self.post(reload, "/v1/reload?previous=true").await.status, 409);
        self.process.program.configure(&(self.yaml.clone() + "grace: 9s\nbreaker: {open: 6s}\n"));
        let told = self.post(reload, reload).await.json();
        let texts: Vec<&str> =
            told["changes"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["~ breaker.open: 5s -> 6s", "~ grace: 30s -> 9s"]);
        self.process.program.configure("version: 1\nnothing: [\n");
        let refused = self.post(reload, reload).await;
        assert_eq!(refused.status, 422);
        assert!(!refused.json()["errors"].as_array().unwrap().is_empty());
        let back = self.post(reload, "/v1/reload?previous=true").await.json();
        assert_eq!((&back["generation"], &back["restored"]), (&3.into(), &1.into()));
        assert_eq!(self.post(reload, "/v1/reload?previous=perhaps").await.status, 400);
        self.process.program.configure(&self.yaml);
        // The events of it say the same.
        let events = self.get("/v1/events", "/v1/events?limit=1000").await.json();
        let told: Vec<String> = events["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["event"] == "reload")
            .map(|event| format!("{} {} {}", event["generation"], event["restored"], event["changes"]))
            .collect();
        let want = [
            "3 1 [\"~ breaker.open: 6s -> 5s\",\"~ grace: 9s -> 30s\"]",
            "2 null [\"~ breaker.open: 5s -> 6s\",\"~ grace: 30s -> 9s\"]",
        ];
        assert_eq!(told, want);
    }

    async fn report(&mut self) {
        let reports = "/v1/usage/reports";
        for (body, status) in [
            (serde_json::json!({"reports": [{"id": "r-1", "device": "phone", "input_tokens": 5}]}), 200),
            (serde_json::json!({"reports": [{"id": "r-1", "device": "two words"}]}), 422),
        ] {
            let call = Call::json(reports, &body).bearer(&self.token);
            assert_eq!(self.send("post", reports, call).await.status, status, "{body}");
        }
    }
}

#[tokio::test]
async fn every_answer_is_described_and_everything_described_is_answered() {
    let mut scene = Scene::open().await;
    scene.traffic().await;
    scene.read().await;
    scene.explain().await;
    scene.operate().await;
    scene.reload().await;
    scene.report().await;
    let Book { met, operations, faults, .. } = &scene.book;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let mut unasked: Vec<String> = Vec::new();
    for (path, item) in scene.book.description["paths"].as_object().unwrap() {
        let methods = ["get", "post"].into_iter().filter(|method| item.get(*method).is_some());
        unasked.extend(methods.map(|method| format!("{method} {path}")).filter(|o| !operations.contains(o)));
    }
    assert!(unasked.is_empty(), "never asked: {unasked:?}");
    let rare = |at: &str| RARE.contains(&at);
    let never: Vec<String> =
        scene.book.described().into_iter().filter(|at| !met.contains(at) && !rare(at)).collect();
    assert!(never.is_empty(), "described and never answered: {never:#?}");
}

#[tokio::test]
async fn events_as_they_happen_are_those_of_the_page() {
    let scene = Scene::open().await;
    scene.process.post("/v1/targets/one/k/m:drain", &scene.token).await;
    let page = Call::get("/v1/events").header("accept", "application/json");
    let page = page.limit(SOON).send(scene.process.admin).await.unwrap().json();
    let mut pages: Vec<&Value> = page["events"].as_array().unwrap().iter().collect();
    pages.reverse();
    let first = pages[0]["id"].as_str().unwrap().split('-').next().unwrap().to_owned();
    let stream = Call::get(&format!("/v1/events?after={first}-0")).leaving_after_events(pages.len());
    let stream = stream.limit(SOON).send(scene.process.admin).await.unwrap();
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let text = stream.body_text();
    let told: Vec<Value> = text.lines().filter_map(|line| json(line.strip_prefix("data: ")?)).collect();
    assert_eq!(told.iter().collect::<Vec<_>>(), pages);
}
