//! What does a client see, and what of it does a provider never see?

use crate::scene::{
    Api, FORGETFUL, KEY_ONE, KEY_TWO, Pair, RESCUER, Wire, outside_of, provider, spliced, trail,
};
use crate::stage::{Stage, eventually};
use bytes::Bytes;
use pointsman::standin::caller::{self, BodyEnd, Call};
use pointsman::standin::{GREETING, Gate, Place, Provider, Reply};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

const LAPTOP: &str = "pm-laptop-0123456789";
const PHONE: &str = "pm-phone-0123456789";

fn clients() -> String {
    format!(
        "clients: [{{name: laptop, key: \"{LAPTOP}\", routes: [\"*\"]}}, {{name: phone, key: \"{PHONE}\", routes: [chat, \"one/*\"]}}]\n"
    )
}

async fn pair(api: Api, more: &str) -> Pair {
    let first = Provider::start(Reply::ok()).await.unwrap();
    Pair::open(api, Wire::default(), first, Reply::says(RESCUER), more).await
}

fn body(api: Api) -> Bytes {
    api.body("chat", false, 500, 0)
}

#[tokio::test]
async fn a_client_key_is_taken_in_five_forms_and_goes_no_further() {
    for api in [Api::Chat, Api::Messages] {
        let pair = pair(api, &clients()).await;
        let forms: [(&str, Call); 6] = [
            ("bearer", api.call(body(api)).bearer(LAPTOP)),
            (
                "bearer in another case",
                api.call(body(api)).header("AUTHORIZATION", &format!("bearer {LAPTOP}")),
            ),
            ("x-api-key", api.call(body(api)).header("X-Api-Key", LAPTOP)),
            ("api-key", api.call(body(api)).header("api-key", LAPTOP)),
            ("x-goog-api-key", api.call(body(api)).header("x-goog-api-key", LAPTOP)),
            ("?key=", api.call(body(api)).path(&format!("{}?beta=true&key={LAPTOP}&x=1", api.path()))),
        ];
        for (form, call) in forms {
            for call in [call.clone(), call.clone().header("cookie", "session=abc"), laden(call)] {
                let answer = call.send(pair.stage.data).await.unwrap();
                assert_eq!(answer.status, 200, "{form}: {}", answer.body_text());
                let outside = outside_of(&pair.first.last().unwrap());
                assert!(!outside.contains(LAPTOP), "{form}: {outside}");
                assert!(!outside.contains(PHONE), "{form}: {outside}");
                assert!(!outside.to_lowercase().contains("cookie"), "{form}: {outside}");
                assert!(!outside.contains("stolen"), "{form}: {outside}");
                let keys = outside.matches(KEY_ONE).count();
                assert_eq!(keys, 1, "exactly one key, and ours: {outside}");
            }
        }
        assert!(pair.first.last().unwrap().path.starts_with(api.path()));
    }
}

/// Adds what else a client may carry that is nobody's business (threat C1).
fn laden(call: Call) -> Call {
    call.header("proxy-authorization", "Basic stolen")
        .header("x-auth-token", "stolen")
        .header("x-amz-security-token", "stolen")
        .header("openai-organization", "org-stolen")
        .header("openai-project", "proj-stolen")
        .header("anthropic-api-key", "stolen")
        .header("x-stainless-api-key", "stolen")
        .header("x-unheard-of", &format!("<{LAPTOP}>"))
        .header("user-agent", &format!("tool/1.0 ({LAPTOP})"))
        .header("x-title", LAPTOP)
        .header("x-session-id", &format!("{LAPTOP}-1"))
        .header("cookie", &format!("a={LAPTOP}"))
        .header("forwarded", "for=stolen")
        .header("x-forwarded-for", "stolen")
        .header("authorization2", "stolen")
}

/// Claude Code shows a token and a key side by side; each is a secret, whichever let it in.
#[tokio::test]
async fn every_key_that_was_shown_is_kept_here() {
    let pair = pair(Api::Chat, &clients()).await;
    let other = "sk-ant-oat-another-secret";
    let shown = Api::Chat
        .call(body(Api::Chat))
        .header("user-agent", &format!("tool {LAPTOP}"))
        .header("x-title", other);
    let calls = [
        shown.clone().bearer(other).header("x-api-key", LAPTOP),
        shown.clone().bearer(LAPTOP).header("x-api-key", other),
        shown.clone().bearer(other).path(&format!("/v1/chat/completions?key={LAPTOP}")),
        shown
            .header("x-api-key", LAPTOP)
            .path(&format!("/v1/chat/completions?key={other}&API_KEY={other}&access_token={other}")),
    ];
    for call in calls {
        let answer = call.send(pair.stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        let outside = outside_of(&pair.first.last().unwrap());
        assert!(!outside.contains(other) && !outside.contains(LAPTOP), "{outside}");
    }
}

#[tokio::test]
async fn a_key_in_a_parameter_of_another_name_goes_no_further() {
    let pair = pair(Api::Chat, &clients()).await;
    for query in [format!("beta=1&foo={LAPTOP}&x=2"), format!("beta=1&foo=%70m{}", &LAPTOP[2..])] {
        let path = format!("/v1/chat/completions?{query}");
        let answer =
            Api::Chat.call(body(Api::Chat)).path(&path).bearer(LAPTOP).send(pair.stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        let path = pair.first.last().unwrap().path;
        assert!(path.contains("beta=1") && !path.contains(&LAPTOP[2..]), "{path}");
    }
}

#[tokio::test]
async fn a_provider_sees_its_own_key_and_no_other() {
    for api in [Api::Chat, Api::Messages] {
        let first = Provider::start(Reply::status(500)).await.unwrap();
        let pair = Pair::open(api, Wire::default(), first, Reply::says(RESCUER), FORGETFUL).await;
        for _ in 0..5 {
            assert_eq!(api.call(body(api)).send(pair.stage.data).await.unwrap().status, 200);
        }
        let name = if api.is_anthropic() { "x-api-key" } else { "authorization" };
        for (provider, own, other) in [(&pair.first, KEY_ONE, KEY_TWO), (&pair.second, KEY_TWO, KEY_ONE)] {
            let all = provider.seen();
            assert!(all.len() >= 5, "{} requests", all.len());
            for seen in all {
                assert!(seen.header(name).unwrap().ends_with(own), "{:?}", seen.headers);
                assert!(!outside_of(&seen).contains(other), "{:?}", seen.headers);
            }
        }
        let page = pair.stage.metrics();
        assert!(!page.contains(KEY_ONE) && !page.contains(KEY_TWO));
    }
}

#[tokio::test]
async fn a_key_that_the_provider_repeats_is_not_handed_on() {
    // Of a fault of the request the client gets the provider's own words.
    let echo = Reply::status(400).message(&format!("The tool {KEY_ONE} is not known.")).code("odd");
    let first = Provider::start(echo.header("x-echo", KEY_ONE)).await.unwrap();
    let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::status(500), FORGETFUL).await;
    let answer = pair.chat().await;
    let all = format!("{:?} {}", answer.headers, answer.body_text());
    assert_eq!(answer.status, 400, "{all}");
    assert!(all.contains("is not known."), "{all}");
    assert!(!all.contains(KEY_ONE), "{all}");
}

#[tokio::test]
async fn a_call_without_a_key_or_with_a_wrong_one_is_refused_in_its_own_dialect() {
    let pair = pair(Api::Chat, &clients()).await;
    let table = [
        (Api::Chat, None, "missing_api_key"),
        (Api::Chat, Some("wrong"), "invalid_api_key"),
        (Api::Responses, Some("wrong"), "invalid_api_key"),
        (Api::Messages, None, "missing_api_key"),
        (Api::Messages, Some("wrong"), "invalid_api_key"),
    ];
    for (api, key, code) in table {
        // Authentication comes before the body is read: what is in it does not matter.
        let call = api.call("not even JSON".into());
        let call = key.into_iter().fold(call, |call, key| call.header("x-api-key", key));
        let answer = call.send(pair.stage.data).await.unwrap();
        assert_eq!(answer.status, 401);
        assert!(answer.header("x-request-id").is_some());
        let error = answer.error().unwrap();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].is_string() && !error.to_string().contains("wrong"), "{error}");
        if api.is_anthropic() {
            assert_eq!(answer.json()["type"], "error");
            assert_eq!(error["type"], "authentication_error");
        } else {
            assert!(error["type"].is_string(), "{error}");
        }
    }
    assert_eq!(pair.first.count() + pair.second.count(), 0);
}

#[tokio::test]
async fn an_unknown_model_is_named_with_its_nearest() {
    for api in [Api::Chat, Api::Messages] {
        let pair = pair(api, "").await;
        let answer = api.call(api.body("chta", false, 300, 0)).send(pair.stage.data).await.unwrap();
        assert_eq!(answer.status, 404, "{}", answer.body_text());
        let error = answer.error().unwrap();
        assert_eq!(error["code"], "model_not_found");
        assert!(error["message"].as_str().unwrap().contains("\"chat\""), "{error}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        if api.is_anthropic() {
            assert_eq!(error["type"], "not_found_error");
        }
        assert_eq!(pair.first.count(), 0);
    }
}

#[tokio::test]
async fn a_client_reaches_only_its_routes() {
    let first = Provider::start(Reply::ok()).await.unwrap();
    let mut yaml = clients() + "providers:\n";
    yaml += &provider("one", "openai", &first.base_url(), KEY_ONE, "models: {secret-model: {tier: large}}");
    yaml += "routes:\n  chat: {targets: [{provider: one, model: alpha}]}\n  chat-secret: {targets: [{provider: one, model: beta}]}\n";
    let stage = Stage::open(&yaml).await;
    let data = stage.data;
    let ask = async |model: &str, key: &str| Call::chat(model).bearer(key).send(data).await;
    for model in ["chat", "chat-secret", "one/anything", "secret-model"] {
        assert_eq!(ask(model, LAPTOP).await.unwrap().status, 200, "{model}");
    }
    for (model, status) in [("chat", 200), ("one/anything", 200), ("chat-secret", 404), ("secret-model", 404)]
    {
        let answer = ask(model, PHONE).await.unwrap();
        assert_eq!(answer.status, status, "{model}: {}", answer.body_text());
        if status == 404 {
            assert_eq!(answer.error_code(), "model_not_found");
        }
    }
    let near = ask("chat-secre", PHONE).await.unwrap();
    assert!(!near.body_text().contains("chat-secret\""), "a name is not given away: {}", near.body_text());
    let list = async |key: &str| Call::get("/v1/models").bearer(key).send(data).await;
    let names = |page: &Value| -> Vec<String> {
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let phone = list(PHONE).await.unwrap().json();
    assert_eq!(names(&phone), ["chat"], "{phone}");
    let laptop = names(&list(LAPTOP).await.unwrap().json());
    assert!(laptop.contains(&"chat".to_owned()) && laptop.contains(&"chat-secret".to_owned()), "{laptop:?}");
    assert_eq!(
        Call::get("/v1/models/chat").bearer(PHONE).send(stage.data).await.unwrap().json()["id"],
        "chat"
    );
    assert_eq!(Call::get("/v1/models/chat-secret").bearer(PHONE).send(stage.data).await.unwrap().status, 404);
    assert_eq!(
        Call::get("/v1/models/chat-secret").bearer(LAPTOP).send(stage.data).await.unwrap().status,
        200
    );
    assert_eq!(Call::get("/v1/models").send(stage.data).await.unwrap().status, 401);
}

#[tokio::test]
async fn a_good_request_id_is_kept_and_a_bad_one_replaced() {
    let pair = pair(Api::Chat, "").await;
    let longest = "x".repeat(128);
    for id in ["req-1", "A.b_c-9", &longest] {
        let answer = Call::chat("chat").header("x-request-id", id).send(pair.stage.data).await.unwrap();
        assert_eq!(answer.header("x-request-id"), Some(id));
    }
    let too_long = "x".repeat(129);
    for id in ["a b", "sk/1", "é", "", &too_long, "a:b"] {
        let answer = Call::chat("chat").header("x-request-id", id).send(pair.stage.data).await.unwrap();
        let given = answer.header("x-request-id").unwrap();
        assert!(given != id && given.len() >= 16, "{id}: {given}");
    }
    let missing = Call::get("/nowhere").header("x-request-id", "kept").send(pair.stage.data).await.unwrap();
    assert_eq!(missing.header("x-request-id"), Some("kept"), "on errors, too");
}

#[tokio::test]
async fn the_answer_tells_its_way() {
    let first = Provider::start(Reply::status(529).header("set-cookie", "a=b")).await.unwrap();
    let odd = Reply::says(RESCUER)
        .header("set-cookie", "a=b")
        .header("server", "secret")
        .header("openai-organization", "org-1")
        .header("openai-processing-ms", "7")
        .header("x-used-provider", "liar");
    let pair = Pair::open(Api::Chat, Wire::default(), first, odd, "").await;
    for (round, call) in [Call::chat("chat"), Call::chat_stream("chat")].into_iter().enumerate() {
        let answer = call.send(pair.stage.data).await.unwrap();
        let header = |name: &str| answer.header(name).map(str::to_owned);
        assert_eq!(header("x-used-provider").as_deref(), Some("two"));
        assert_eq!(header("x-used-model").as_deref(), Some("beta"));
        // The second time the first target rests and is skipped: still a fallback.
        assert_eq!(header("x-used-fallback").as_deref(), Some("true"));
        assert_eq!(header("x-attempts").as_deref(), Some(if round == 0 { "2" } else { "1" }));
        assert_eq!(header("x-circuit-breaker-state").as_deref(), Some("closed"));
        assert!(header("x-provider-response-time").unwrap().parse::<u64>().is_ok());
        assert!(header("x-request-id").is_some());
        let stops = trail(&answer);
        assert_eq!(stops.last().map(String::as_str), Some("two/k:ok"), "{stops:?}");
        if round == 0 {
            assert_eq!(stops, ["one/k:529", "two/k:ok"]);
        }
        for name in ["set-cookie", "server", "openai-organization"] {
            assert_eq!(header(name), None, "{name}");
        }
        assert_eq!(header("openai-processing-ms").as_deref(), Some("7"));
    }
}

#[tokio::test]
async fn an_error_tells_its_way_too() {
    for (reply, status, code) in
        [(Reply::status(500), 502, "upstream_error"), (Reply::status(401), 502, "upstream_auth")]
    {
        let first = Provider::start(reply.clone()).await.unwrap();
        let pair = Pair::with_models(Api::Chat, Wire::default(), first, reply, "", "same", "same").await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{}", answer.body_text());
        let contacts = pair.first.count() + pair.second.count();
        assert_eq!(answer.header("x-attempts"), Some(&*contacts.to_string()), "repeats included");
        let stops = trail(&answer);
        assert_eq!(stops.len() as u64, contacts, "{stops:?}");
        assert!(answer.header("x-request-id").is_some());
        let message = answer.error().unwrap()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("one/k/same") && message.contains("two/k/same"),
            "names of targets: {message}"
        );
        assert!(message.contains(answer.header("x-request-id").unwrap()), "request id: {message}");
        assert!(!message.contains("The server had an error"), "no text of a provider's: {message}");
    }
}

#[tokio::test]
async fn models_are_listed_for_both_sdks() {
    let pair = pair(Api::Chat, "").await;
    for path in ["/v1/models", "/v1/models/"] {
        let answer = Call::get(path).send(pair.stage.data).await.unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let page = answer.json();
        assert_eq!(page["object"], "list");
        assert!(
            page["data"].as_array().unwrap().iter().any(|m| m["id"] == "chat" && m["object"] == "model"),
            "{page}"
        );
    }
    let one = Call::get("/v1/models/chat").send(pair.stage.data).await.unwrap();
    assert_eq!((one.status, one.json()["id"].as_str()), (200, Some("chat")));
    let none = Call::get("/v1/models/none").send(pair.stage.data).await.unwrap();
    assert_eq!((none.status, none.error_code().as_str()), (404, "model_not_found"));
    let none = Call::get("/v1/models/none")
        .header("anthropic-version", "2023-06-01")
        .send(pair.stage.data)
        .await
        .unwrap();
    assert_eq!((none.status, none.json()["type"].as_str()), (404, Some("error")));
}

#[tokio::test]
async fn a_model_with_a_slash_is_found_as_the_sdks_write_it() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let providers = provider("one", "openai", &standin.base_url(), KEY_ONE, "");
    let routes = "routes: {team/x: {targets: [{provider: one, model: alpha}]}}";
    let stage = Stage::open(&format!("providers:\n{providers}{routes}\n")).await;
    for path in ["/v1/models/team/x", "/v1/models/team%2Fx", "/v1/models/team%2fx/"] {
        let one = Call::get(path).send(stage.data).await.unwrap();
        assert_eq!((one.status, one.json()["id"].as_str()), (200, Some("team/x")), "{path}");
    }
}

#[tokio::test]
async fn models_are_listed_for_googles_sdks_by_path_or_by_headers() {
    let pair = pair(Api::Chat, "").await;
    let get = async |path: &str| Call::get(path).send(pair.stage.data).await.unwrap();
    let page = get("/v1beta/models?pageSize=50").await.json();
    let is_chat =
        |entry: &serde_json::Value| entry["name"] == "models/chat" && entry["displayName"] == "chat";
    assert!(page["models"].as_array().unwrap().iter().any(is_chat), "{page}");
    assert_eq!(get("/v1beta/models/chat").await.json()["name"], "models/chat");
    // google-genai asks under `/v1`, and is known by its headers alone.
    let theirs = Call::get("/v1/models").header("x-goog-api-client", "google-genai-sdk/3.4.0");
    assert_eq!(theirs.send(pair.stage.data).await.unwrap().json(), page);
    for path in ["/v1beta/models/none", "/v1beta/tunedModels/none", "/v1beta/models/a%2Fb:embedContent"] {
        let none = get(path).await;
        assert_eq!(
            (none.status, none.json()["error"]["status"].as_str()),
            (404, Some("NOT_FOUND")),
            "{path}"
        );
    }
    // Who asks Google in OpenAI's words is told in them.
    assert!(get("/v1beta/openai/none").await.json()["error"]["type"].is_string());
}

#[tokio::test]
async fn lists_and_heads_that_cannot_be_read_have_their_line_and_are_counted_and_health_checks_are_not() {
    let pair = pair(Api::Chat, "").await;
    let data = pair.stage.data;
    let mut want = Vec::new();
    for (path, status) in [("/v1/models", 200), ("/v1/models/chat", 200), ("/v1beta/models/none", 404)] {
        let answer = Call::get(path).send(data).await.unwrap();
        assert_eq!(answer.status, status, "{path}");
        want.push((answer.header("x-request-id").unwrap().to_owned(), u64::from(status)));
    }
    for path in ["/", "/health"] {
        assert_eq!(Call::get(path).send(data).await.unwrap().status, 200);
    }
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(20_000));
    for (head, status) in [
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        // Only the parser behind our own look refuses this one.
        ("GET http://[/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (&large, 431),
    ] {
        let answer = caller::raw(data, head.as_bytes(), Duration::from_secs(5)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let head = head.get(..40).unwrap_or(head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer}");
        let id = answer
            .split("\r\n")
            .find_map(|line| line.to_lowercase().strip_prefix("x-request-id: ").map(str::to_owned));
        want.push((id.unwrap_or_else(|| panic!("{head:?}: {answer}")), status));
    }
    let told = || -> Vec<(String, u64)> {
        let of = |line: &serde_json::Value| {
            (line["id"].as_str().unwrap().to_owned(), line["status"].as_u64().unwrap())
        };
        pair.stage.said("request").iter().map(of).collect()
    };
    eventually("each has its line", || told().len() >= want.len()).await;
    assert_eq!(told(), want);
    for (class, count) in [("2xx", 2), ("4xx", 7)] {
        let label = format!("code_class=\"{class}\"");
        assert_eq!(pair.stage.metric("pointsman_requests_total", &[&label]).to_string(), count.to_string());
    }
}

#[tokio::test]
async fn what_is_wrong_for_good_is_not_to_be_asked_again() {
    let pair = pair(Api::Chat, "").await;
    let body = serde_json::json!({"model": "chat", "max_tokens": 9, "messages": []});
    let deaf = Call::json("/v1/messages", &body).header("content-encoding", "gzip");
    for call in [Call::get("/v1/nothing"), Call::get("/v1/models/none"), deaf] {
        let answer = call.send(pair.stage.data).await.unwrap();
        assert!((400..500).contains(&answer.status), "{}", answer.status);
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{}", answer.status);
    }
}

#[tokio::test]
async fn health_is_up_degraded_or_down_and_needs_no_key() {
    let first = Provider::start(Reply::ok()).await.unwrap();
    let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::ok(), &clients()).await;
    let health = async |path: &str| Call::get(path).send(pair.stage.data).await;
    for path in ["/", "/health", "/health/"] {
        let answer = health(path).await.unwrap();
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("up")), "{path}");
        let head = Call::get(path).method("HEAD").send(pair.stage.data).await.unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    pair.first.set_script(Reply::status(401));
    assert_eq!(Call::chat("chat").bearer(LAPTOP).send(pair.stage.data).await.unwrap().status, 200);
    let answer = health("/health").await.unwrap();
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("degraded")));
    pair.second.set_script(Reply::status(401));
    assert_eq!(Call::chat("chat").bearer(LAPTOP).send(pair.stage.data).await.unwrap().status, 502);
    for path in ["/", "/health"] {
        let answer = health(path).await.unwrap();
        assert_eq!((answer.status, answer.json()["status"].as_str()), (503, Some("down")), "{path}");
    }
    let head = Call::get("/health").method("HEAD").send(pair.stage.data).await.unwrap();
    assert_eq!((head.status, head.body.len()), (503, 0));
}

#[tokio::test]
async fn a_path_or_method_that_is_not_served_is_refused() {
    let pair = pair(Api::Chat, "default_route: chat\n").await;
    let slashed = Call::chat("chat").path("/v1/chat/completions/").send(pair.stage.data).await.unwrap();
    assert_eq!(slashed.status, 200);
    let before = pair.first.count();
    for path in [
        "/v1",
        "/v1/unknown",
        "/v2/chat/completions",
        "/metrics",
        "/admin",
        "/v1/status",
        "/v1/chat",
        "/V1/models",
    ] {
        for call in [Call::get(path), Call::json(path, &json!({"model": "chat"}))] {
            let answer = call.send(pair.stage.data).await.unwrap();
            assert_eq!(answer.status, 404, "{path}");
            assert!(answer.error().unwrap()["message"].is_string(), "{path}");
        }
    }
    for path in ["/v1/../admin", "/v1/%2e%2e/x", "//v1/models", "/v1/models/%00", "/v1/files/..%2f..%2fadmin"]
    {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = caller::raw(pair.stage.data, request.as_bytes(), Duration::from_secs(2)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{path}: {}", String::from_utf8_lossy(&answer));
    }
    let table = [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/messages", "POST"),
        ("OPTIONS", "/v1/embeddings", "POST"),
        ("TRACE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/health", "GET"),
    ];
    for (method, path, allow) in table {
        let answer = Call::get(path).method(method).send(pair.stage.data).await.unwrap();
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").is_some_and(|methods| methods.contains(allow)), "{method} {path}");
    }
    for target in ["evil:443", "/v1/chat/completions", "*"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: evil:443\r\n\r\n");
        let answer = caller::raw(pair.stage.data, request.as_bytes(), Duration::from_secs(2)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 405") && answer.contains("\r\nallow: "), "{target}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{target}: {answer}");
    }
    assert_eq!(pair.first.count(), before, "none of these reaches a provider");
}

/// Whoever is on this machine may call where no clients are configured, but not whoever it visits.
#[tokio::test]
async fn without_clients_a_web_page_of_another_site_spends_nothing() {
    let wire = Wire { is_http2_client: true, ..Wire::default() };
    let first = Provider::start(Reply::ok()).await.unwrap();
    let open = Pair::open(Api::Chat, wire, first, Reply::says(RESCUER), "default_route: chat\n").await;
    let data = open.stage.data;
    let chat = Call::chat("chat").header("content-type", "text/plain");
    let calls = [
        (chat.clone(), "/error/code"),
        (chat.clone().http2(), "/error/code"),
        (Call::message("chat", true), "/error/type"),
        (Call::post("/v1beta/models/chat:generateContent", "{}"), "/error/status"),
        (Call::post("/v1/images/generations", "{}"), "/error/code"),
        (Call::get("/v1/models"), "/error/code"),
    ];
    for (call, shape) in &calls {
        for (origin, site) in [
            ("https://evil.example", "none"),
            ("http://rebound.example:8080", "same-origin"),
            ("null", "cross-site"),
        ] {
            let call = call.clone().header("origin", origin).header("sec-fetch-site", site);
            let answer = call.send(data).await.unwrap();
            assert_eq!(answer.status, 403, "{}", answer.body_text());
            assert!(answer.json().pointer(shape).is_some(), "{}", answer.body_text());
            assert!(answer.body_text().contains("configure clients"), "{}", answer.body_text());
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        }
    }
    assert_eq!(open.first.count(), 0);
    let refused = open.stage.metric("pointsman_refused_total", &["reason=\"web_page\""]);
    assert!((refused - 18.0).abs() < 0.5, "{refused}");
    for origin in ["http://localhost:3000", "tauri://localhost", "app://obsidian.md", "null"] {
        assert_eq!(chat.clone().header("origin", origin).send(data).await.unwrap().status, 200, "{origin}");
    }
    let closed = pair(Api::Chat, &clients()).await;
    let page =
        chat.bearer(LAPTOP).header("origin", "https://app.example").header("sec-fetch-site", "cross-site");
    assert_eq!(page.send(closed.stage.data).await.unwrap().status, 200, "it has a key");
}

#[tokio::test]
async fn a_body_that_is_not_a_request_is_refused() {
    for api in [Api::Chat, Api::Messages] {
        let pair = pair(api, "default_route: chat\n").await;
        let deep = format!("{{\"model\":\"chat\",\"messages\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let bodies = [
            "",
            "{",
            "null",
            "[]",
            "\"chat\"",
            "{\"model\":\"chat\"",
            "{\"model\":\"chat\",}",
            "{\"model\":\"chat\"} trailing",
            "{\"model\":\"chat\",\"model\":\"other\",\"messages\":[]}",
            "{\"model\":\"chat\",\"mod\\u0065l\":\"other\",\"messages\":[]}",
            "{\"model\":\"chat\",\"stream\":true,\"stream\":false,\"messages\":[]}",
            "{\"model\":7,\"messages\":[]}",
            "{\"model\":\"chat\",\"stream\":\"yes\",\"messages\":[]}",
            &deep,
        ];
        for body in bodies {
            let answer =
                api.call(Bytes::copy_from_slice(body.as_bytes())).send(pair.stage.data).await.unwrap();
            assert_eq!(answer.status, 400, "{body}: {}", answer.body_text());
            let error = answer.error().unwrap();
            assert_eq!(error["code"], "validation_failed", "{body}");
            if api.is_anthropic() {
                assert_eq!(
                    (&answer.json()["type"], &error["type"]),
                    (&json!("error"), &json!("invalid_request_error"))
                );
            }
        }
        assert_eq!(pair.first.count(), 0);
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_however_it_comes() {
    const LIMIT: usize = 64 << 10;
    for api in [Api::Chat, Api::Messages] {
        let pair = pair(api, "limits: {max_body: 64KiB}\n").await;
        let long = api.call(api.body("chat", false, LIMIT + 1, 0));
        let fits = api.call(api.body("chat", false, LIMIT, 0));
        for call in [fits.clone(), fits.clone().chunked(), fits.expecting_continue()] {
            let answer = call.send(pair.stage.data).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body_text());
        }
        let before = pair.first.count();
        for call in [long.clone(), long.clone().chunked(), long.clone().expecting_continue()] {
            let answer = call.send(pair.stage.data).await.unwrap();
            assert_eq!(
                (answer.status, answer.error().unwrap()["code"].as_str()),
                (413, Some("payload_too_large"))
            );
            assert_eq!(answer.interims, [0_u16; 0], "nobody is asked for a body that is refused");
            if api.is_anthropic() {
                assert_eq!(answer.error().unwrap()["type"], "request_too_large");
            }
        }
        assert_eq!(pair.first.count(), before);
        // A head that is too large.
        let answer =
            Call::chat("chat").header("x-big", &"b".repeat(70 << 10)).send(pair.stage.data).await.unwrap();
        assert_eq!(answer.status, 431, "{}", answer.body_text());
    }
}

#[tokio::test]
async fn an_upload_arrives_whole_however_it_comes() {
    for length in [500, 65_536, 300_000] {
        let pair = pair(Api::Chat, "").await;
        let body = Api::Chat.body("chat", false, length, 0);
        let call = Api::Chat.call(body.clone());
        let paced = call.clone().paced(length / 4 + 1, Duration::from_millis(5));
        for (how, call) in [
            ("chunked", call.clone().chunked()),
            ("expect", call.clone().expecting_continue()),
            ("paced", paced),
        ] {
            let answer = call.send(pair.stage.data).await.unwrap();
            assert_eq!(answer.status, 200, "{how}: {}", answer.body_text());
            let seen = pair.first.last().unwrap();
            assert!(seen.body == spliced(&body, "chat", "alpha"), "{how} {length}");
            assert_eq!(seen.header("content-length"), Some(&*seen.body.len().to_string()), "{how}");
            assert_eq!(seen.headers_named("transfer-encoding").len(), 0, "{how}");
            assert_eq!(seen.header("expect"), None, "the expectation was met here");
            assert_eq!(seen.header("accept-encoding"), Some("identity"));
            if how == "expect" {
                assert_eq!(answer.interims, [100]);
            }
        }
    }
}

#[tokio::test]
async fn bodies_that_do_not_fit_into_memory_together_are_refused_for_now() {
    let gate = Gate::closed();
    let first = Provider::start(Reply::ok().hold(Place::BeforeHead, &gate)).await.unwrap();
    let limits = "limits: {max_body: 1MiB, replay_memory: 1MiB}\n";
    let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::ok(), limits).await;
    let big = Api::Chat.call(Api::Chat.body("chat", false, 700_000, 0));
    let data = pair.stage.data;
    let held = tokio::spawn({
        let big = big.clone();
        async move { big.send(data).await.unwrap() }
    });
    assert!(pair.first.until(Duration::from_secs(2), |seen| seen.len() == 1).await);
    for call in [big.clone(), big.clone().chunked()] {
        let refused = call.send(data).await.unwrap();
        assert_eq!(refused.status, 503, "{}", refused.body_text());
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(refused.error().unwrap()["code"].is_string());
    }
    let small = tokio::spawn(async move { Call::chat("chat").send(data).await.unwrap() });
    assert!(pair.first.until(Duration::from_secs(2), |seen| seen.len() == 2).await, "a small one still fits");
    gate.open();
    assert_eq!(held.await.unwrap().status, 200);
    assert_eq!(small.await.unwrap().status, 200);
    assert_eq!(big.send(data).await.unwrap().status, 200, "what was held is given back");
    assert_eq!(pair.second.count(), 0, "nobody's target is blamed");
}

#[tokio::test]
async fn more_requests_than_allowed_are_refused_for_now() {
    let gate = Gate::closed();
    let first = Provider::start(Reply::ok().hold(Place::BeforeHead, &gate)).await.unwrap();
    let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::ok(), "limits: {in_flight: 2}\n").await;
    let data = pair.stage.data;
    let held: Vec<_> =
        (0..2).map(|_| tokio::spawn(async move { Call::chat("chat").send(data).await.unwrap() })).collect();
    assert!(pair.first.until(Duration::from_secs(2), |seen| seen.len() == 2).await);
    let refused = pair.chat().await;
    assert!(matches!(refused.status, 429 | 503), "{}", refused.status);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(Call::get("/health").send(data).await.unwrap().status, 200, "health is always told");
    gate.open();
    for call in held {
        assert_eq!(call.await.unwrap().status, 200);
    }
    assert_eq!(pair.chat().await.status, 200);
    assert_eq!(pair.second.count(), 0);
}

/// Three providers: two list `shared-model`, one speaks Anthropic.
async fn implicit(more: &str) -> (Stage, Provider, Provider, Provider) {
    let one = Provider::start(Reply::says("one")).await.unwrap();
    let two = Provider::start(Reply::says("two")).await.unwrap();
    let claude = Provider::start(Reply::says("claude")).await.unwrap();
    let mut yaml = "providers:\n".to_owned();
    yaml += &provider(
        "one",
        "openai",
        &one.base_url(),
        KEY_ONE,
        "models: {shared-model: {tier: large}, only-one: {tier: large}}",
    );
    yaml += &provider(
        "two",
        "openai",
        &two.base_url(),
        KEY_TWO,
        "models: {shared-model: {tier: large}, vendor/sub: {tier: large}}",
    );
    yaml += &provider("claude", "anthropic", &claude.origin(), KEY_TWO, "models: {claude-x: {tier: large}}");
    yaml += "routes:\n  chat: {targets: [{provider: two, model: beta}]}\n";
    yaml += more;
    (Stage::open(&yaml).await, one, two, claude)
}

#[tokio::test]
async fn a_model_finds_its_provider_without_a_route() {
    let (stage, one, two, claude) = implicit("default_route: chat\n").await;
    let table = [
        ("chat", &two, "beta"),
        ("one/some-model", &one, "some-model"),
        ("two/vendor/deep/model:free", &two, "vendor/deep/model:free"),
        ("shared-model", &one, "shared-model"),
        ("only-one", &one, "only-one"),
        ("vendor/sub", &two, "vendor/sub"),
        ("auto", &two, "beta"),
        ("", &two, "beta"),
        ("never-heard-of", &two, "beta"),
    ];
    for (model, provider, upstream) in table {
        let answer = Call::chat(model).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{model}: {}", answer.body_text());
        assert_eq!(provider.last().map(|seen| seen.model).as_deref(), Some(upstream), "{model}");
        assert_eq!(answer.header("x-used-model"), Some(upstream), "{model}");
    }
    let absent = Call::json("/v1/chat/completions", &json!({"messages": []})).send(stage.data).await.unwrap();
    assert_eq!((absent.status, two.last().unwrap().model.as_str()), (200, "beta"));
    let message = Call::message("claude-x", true).send(stage.data).await.unwrap();
    assert_eq!((message.status, message.text().as_str(), claude.count()), (200, "claude", 1));
    let other = Call::chat("claude-x").send(stage.data).await.unwrap();
    assert_eq!((other.status, other.text().as_str()), (200, "claude"), "the dialect does not matter");
}

#[tokio::test]
async fn a_model_of_two_providers_fails_over_and_a_named_provider_does_not() {
    let (stage, one, two, _claude) = implicit("").await;
    one.set_script(Reply::status(529));
    let answer = Call::chat("shared-model").send(stage.data).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "two"));
    one.set_script(Reply::status(500));
    let before = two.count();
    let answer = Call::chat("one/other").send(stage.data).await.unwrap();
    assert_eq!(answer.status, 502, "{}", answer.body_text());
    assert_eq!(two.count(), before);
    for model in ["never-heard-of", "", "auto", "three/x"] {
        let answer = Call::chat(model).send(stage.data).await.unwrap();
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "model_not_found"), "{model}");
    }
}

#[tokio::test]
async fn a_model_that_no_route_names_is_asked_as_often_as_one_that_a_route_names() {
    for reply in [Reply::status(529), Reply::status(500), Reply::rate_limited(None)] {
        let first = Provider::start(reply.clone()).await.unwrap();
        let yaml = format!(
            "providers:\n  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: a, key: {KEY_ONE}}}, {{name: b, key: {KEY_TWO}}}]}}\nroutes:\n  chat: {{targets: [{{provider: one, model: alpha}}]}}\n",
            first.base_url()
        );
        let mut counts = Vec::new();
        for model in ["chat", "one/other"] {
            let stage = Stage::open(&yaml).await;
            let before = first.count();
            Call::chat(model).send(stage.data).await.unwrap();
            counts.push(first.count() - before);
        }
        assert_eq!(counts[0], counts[1], "{reply:?}");
    }
}

#[tokio::test]
async fn what_was_made_for_a_model_that_no_route_names_is_kept_within_a_bound() {
    let (stage, one, _two, _claude) = implicit("").await;
    let live = stage.house.live();
    let at = pointsman::base::ids::ProviderIdx(0);
    let looked_at = stage.house.direct_unkept(&live, at, "model-0");
    let made = stage.house.direct(&live, at, "model-0");
    assert!(!Arc::ptr_eq(&looked_at[0], &made[0]), "a look without effect left a slot behind");
    assert!(Arc::ptr_eq(&made[0], &stage.house.direct(&live, at, "model-0")[0]), "made twice");
    for number in 1..2_000 {
        drop(stage.house.direct(&live, at, &format!("model-{number}")));
    }
    assert_eq!(Arc::strong_count(&made[0]), 1, "kept beyond every bound");
    let answer = Call::chat("one/model-0").send(stage.data).await.unwrap();
    assert_eq!((answer.status, one.last().unwrap().model.as_str()), (200, "model-0"));
}

#[tokio::test]
async fn implicit_routes_can_be_switched_off() {
    let (stage, one, _two, _claude) = implicit("implicit_routes: false\n").await;
    for model in ["shared-model", "one/some-model", "only-one"] {
        let answer = Call::chat(model).send(stage.data).await.unwrap();
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "model_not_found"), "{model}");
    }
    assert_eq!(Call::chat("chat").send(stage.data).await.unwrap().status, 200);
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn defaults_are_set_only_where_the_client_set_nothing() {
    let first = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes:\n  chat: {{targets: [{{provider: one, model: alpha}}], defaults: {{temperature: 0.3, max_tokens: 2048, user: \"me\"}}}}\n",
        provider("one", "openai", &first.base_url(), KEY_ONE, "")
    );
    let stage = Stage::open(&yaml).await;
    let table = [
        (
            r#"{"model":"chat" , "messages":[{"role":"user","content":"temperature"}]}"#,
            json!({"temperature": 0.3, "max_tokens": 2048, "user": "me"}),
        ),
        (
            r#"{"temperature":1.0e0,"model":"chat","messages":[]}"#,
            json!({"temperature": 1.0, "max_tokens": 2048, "user": "me"}),
        ),
        (
            r#"{"model":"chat","max_completion_tokens":5,"user":null,"messages":[{"max_tokens":1}]}"#,
            json!({"temperature": 0.3, "max_completion_tokens": 5, "user": null}),
        ),
        (
            r#"{"model":"chat","messages":[],"t\u0065mperature":0.7,"max_tokens":1,"user":"you"}"#,
            json!({"temperature": 0.7, "max_tokens": 1, "user": "you"}),
        ),
    ];
    for (body, expected) in table {
        let answer = Call::post("/v1/chat/completions", body).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        let seen = first.last().unwrap();
        let mut json = seen.json();
        let fields = json.as_object_mut().unwrap();
        fields.retain(|name, _| name != "messages" && name != "model");
        assert_eq!(json, expected, "{body}");
        // What the client wrote stands as it was, up to its closing brace.
        let kept = body.replace("\"chat\"", "\"alpha\"");
        let kept = kept.strip_suffix('}').unwrap();
        assert!(seen.body.starts_with(kept.as_bytes()), "{}", String::from_utf8_lossy(&seen.body));
    }
}

#[tokio::test]
async fn an_answer_of_the_same_dialect_passes_byte_for_byte() {
    let large = format!("{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}]}}", "é".repeat(1_600_000));
    let bodies = [
        "{ \"choices\" : [ {\"message\":{\"content\":\"\\u00e9\\/é\"} , \"x\":1.0e+2} ],\r\n\t\"model\":\"served-name\", \"model\":\"twice\" }\n\n".to_owned(),
        large,
    ];
    for body in bodies {
        for wire in [Wire::default(), Wire { is_http2_client: true, is_http2_provider: true }] {
            let reply = Reply::body(200, "application/json", body.clone());
            let first = Provider::start(reply).await.unwrap();
            let pair = Pair::open(Api::Chat, wire, first, Reply::ok(), "").await;
            let answer = pair.chat_over(wire, 0).await;
            assert_eq!((answer.status, &answer.end), (200, &BodyEnd::Clean));
            assert!(answer.body == body.as_bytes(), "{} bytes of {}", answer.body.len(), body.len());
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
    }
}

#[tokio::test]
async fn a_stream_of_the_same_dialect_passes_byte_for_byte() {
    let chat = [
        ": a comment\n\n",
        "id: 7\r\nretry: 10\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n",
        "event: odd\ndata: {\"unknown\":1}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\\u00e9 \"}}],\"model\":\"served\"}\n\n",
        "data:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"é\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\n",
        "data: \"delta\":{\"content\":\"two lines\"}}]}\n\n",
        ": ping\n\n\n\n",
        "data: {broken\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    ];
    let messages = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"served\",\"usage\":{\"input_tokens\":3}}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"h\\u00e9\"}}\n\n",
        "event: new_thing\ndata: {\"type\":\"new_thing\"}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];
    for (api, events) in [(Api::Chat, &chat[..]), (Api::Messages, &messages[..])] {
        for is_dripped in [false, true] {
            for wire in [Wire::default(), Wire { is_http2_client: true, is_http2_provider: true }] {
                let mut reply = Reply::events(events.iter().copied());
                if is_dripped {
                    reply = reply.drip(Duration::from_micros(1));
                }
                let first = Provider::start(reply).await.unwrap();
                let pair = Pair::open(api, wire, first, Reply::ok(), "").await;
                let call = api.call(api.body("chat", true, 500, 0));
                let (answer, _) = wire.connect(pair.stage.data).await.send(&call).await.unwrap();
                assert_eq!((answer.status, &answer.end), (200, &BodyEnd::Clean), "{api:?} {wire:?}");
                assert_eq!(answer.body_text(), events.concat(), "{api:?} {wire:?} dripped {is_dripped}");
                assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
            }
        }
    }
}

/// Content goes on when it comes, not when the stream ends.
#[tokio::test]
async fn a_stream_flows() {
    for (api, wire) in [
        (Api::Chat, Wire::default()),
        (Api::Messages, Wire { is_http2_client: true, is_http2_provider: true }),
        (Api::Responses, Wire::default()),
    ] {
        let gate = Gate::closed();
        let first = Provider::start(Reply::says("a b c d").hold(Place::AfterTokens(2), &gate)).await.unwrap();
        let pair = Pair::open(api, wire, first, Reply::ok(), "").await;
        let call = api.call(api.body("chat", true, 500, 0));
        let mut talk = wire.connect(pair.stage.data).await.begin(&call).await.unwrap();
        talk.head().await.unwrap();
        while !talk.so_far().events.iter().any(|event| event.data.contains("\" b\"")) {
            let next = tokio::time::timeout(Duration::from_secs(2), talk.next()).await;
            let events = next.expect("it must flow").unwrap();
            assert!(events.is_some(), "{api:?}: {:?}", talk.so_far());
        }
        gate.open();
        let (answer, _) = talk.finish(&call).await;
        assert_eq!((answer.text().as_str(), &answer.end), ("a b c d", &BodyEnd::Clean), "{api:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_compressed_all_the_same_can_be_read() {
    let first = Provider::start(Reply::ok().gzipped()).await.unwrap();
    let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::ok(), "").await;
    for call in [Call::chat("chat"), Call::chat_stream("chat")] {
        let answer = call.send(pair.stage.data).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, GREETING), "{:?}", answer.headers);
        assert_eq!(trail(&answer), ["one/k:ok"], "the second says the same");
        assert_eq!(answer.header("content-encoding"), None);
    }
}

#[tokio::test]
async fn an_answer_in_a_coding_that_cannot_be_read_is_a_failed_attempt() {
    for coding in ["br", "zstd", "gzip, br"] {
        let packed = [0x0b_u8, 0x02, 0x80].repeat(20);
        let pack =
            |status, kind| Reply::body(status, kind, packed.clone()).header("content-encoding", coding);
        for reply in [pack(200, "application/json"), pack(200, "text/event-stream"), pack(500, "text/html")] {
            let first = Provider::start(reply).await.unwrap();
            let more = "retry: {same_target: 0}\n";
            let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::says("two"), more).await;
            for answer in [pair.chat().await, pair.stream().await] {
                assert_eq!((answer.status, answer.text()), (200, "two".to_owned()), "{coding}");
                assert_eq!(answer.header("content-encoding"), None);
            }
        }
        let first = Provider::start(pack(400, "application/json")).await.unwrap();
        let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::ok(), "").await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_error"), "{coding}");
    }
    let plain = Provider::start(Reply::ok().header("content-encoding", "identity")).await.unwrap();
    let pair = Pair::open(Api::Chat, Wire::default(), plain, Reply::says("two"), "").await;
    assert_eq!(pair.chat().await.header("x-used-provider"), Some("one"));
}

#[tokio::test]
async fn a_short_word_in_the_place_of_a_key_takes_no_header_away() {
    let pair = pair(Api::Chat, "").await;
    for word in ["x", "none", "sk"] {
        let call = Call::chat("chat").bearer(word).header("user-agent", "sk/1 none xyz");
        assert_eq!(call.send(pair.stage.data).await.unwrap().status, 200);
        let seen = pair.first.last().unwrap();
        assert_eq!(seen.header("user-agent"), Some("sk/1 none xyz"), "{word}");
        assert_eq!(seen.headers_named("authorization"), [format!("Bearer {KEY_ONE}")]);
    }
}

/// Nothing is counted twice, nothing is left in flight.
#[tokio::test]
async fn what_was_counted_adds_up() {
    let pair = pair(Api::Chat, "").await;
    for _ in 0..7 {
        pair.chat().await;
        pair.stream().await;
    }
    let total = || pair.stage.metric("pointsman_requests_total", &["route=\"chat\"", "code_class=\"2xx\""]);
    eventually("all requests are counted", || (total() - 14.0).abs() < 0.5).await;
    assert!((pair.stage.metric("pointsman_attempts_total", &["outcome=\"ok\""]) - 14.0).abs() < 0.5);
    assert!(pair.stage.metric("pointsman_in_flight", &[]).abs() < 0.5);
    assert!(
        (pair.stage.metric("pointsman_tokens_total", &["direction=\"input\""]) - 14.0 * 9.0).abs() < 0.5,
        "{}",
        pair.stage.metrics()
    );
}

async fn chat_only(reply: Reply) -> (Stage, Provider) {
    let one = Provider::start(reply).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n",
        provider("one", "openai", &one.base_url(), KEY_ONE, "")
    );
    (Stage::open(&yaml).await, one)
}

/// What is read of an answer that ends with its connection.
async fn last_words(mut stream: impl AsyncRead + Unpin) -> String {
    let mut all = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut all));
    read.await.expect("the connection does not end").unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn chunks_that_are_none_are_refused_with_a_word() {
    let (stage, one) = chat_only(Reply::ok()).await;
    for body in ["zz\r\n", "+5\r\nhello\r\n", "5\r\nhelloX\r\n"] {
        let mut stream = stage.connect(4096);
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let said = last_words(stream).await;
        assert!(said.starts_with("HTTP/1.1 400"), "{body:?}: {said}");
    }
    eventually("they have their lines", || stage.said("request").len() == 3).await;
    assert!(stage.said("request").iter().all(|line| line["status"] == 400));
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn an_error_that_is_longer_than_we_hold_is_told_in_our_words() {
    let long = format!("{{\"error\":{{\"message\":\"{}\"}}}}", "x".repeat(1024 * 1024));
    let (stage, _one) = chat_only(Reply::body(400, "application/json", long)).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert!(answer.status >= 400, "{}", answer.status);
    assert!(answer.body.len() < 4096, "{} bytes of it", answer.body.len());
    assert!(answer.json()["error"]["message"].is_string());
}

#[tokio::test]
async fn counting_tokens_uses_none() {
    let claude = Provider::start(Reply::ok().usage(11, 0)).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: claude, model: c}}]}}}}\n",
        provider("claude", "anthropic", &claude.origin(), KEY_ONE, "")
    );
    let stage = Stage::open(&yaml).await;
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}]});
    let answer = Call::json("/v1/messages/count_tokens", &body).send(stage.data).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert!(answer.json()["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0));
    eventually("it has its line", || stage.said("request").len() == 1).await;
    assert!(stage.said("request")[0]["in_tokens"].is_null());
    assert!(stage.metric("pointsman_tokens_total", &[]).abs() < 0.5);
}
