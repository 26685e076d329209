//! What a target is known to refuse is not said to it: by translation, by the operator's defaults, by the
//! second try without thinking.

use crate::scene::{FORGETFUL, KEY_ONE, KEY_TWO, provider};
use crate::stage::Stage;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Provider, Reply, Script};
use serde_json::{Value, json};

/// Two providers of these kinds, and routes among them.
async fn scene(one: (&str, Script), two: (&str, Script), routes: &str) -> (Stage, Provider, Provider) {
    let first = Provider::start(one.1).await.unwrap();
    let second = Provider::start(two.1).await.unwrap();
    let base = |kind: &str, provider: &Provider| {
        if kind == "anthropic" { provider.origin() } else { provider.base_url() }
    };
    let mut yaml = format!("{FORGETFUL}retry: {{same_target: 0}}\nproviders:\n");
    yaml += &provider("one", one.0, &base(one.0, &first), KEY_ONE, "");
    yaml += &provider("two", two.0, &base(two.0, &second), KEY_TWO, "");
    yaml += "routes:\n";
    yaml += routes;
    (Stage::open(&yaml).await, first, second)
}

async fn sent(stage: &Stage, path: &str, body: &Value) -> Answer {
    Call::json(path, body).send(stage.data).await.unwrap()
}

fn said() -> Value {
    json!([{"role": "user", "content": "Say something."}])
}

#[tokio::test]
async fn a_strict_route_refuses_what_only_the_clients_dialect_knows() {
    let routes = "  exact: {translation: strict, targets: [{provider: one, model: opus}]}\n";
    let (stage, one, _two) =
        scene(("anthropic", Reply::ok().into()), ("openai", Reply::ok().into()), routes).await;
    for (name, value, is_lost) in [
        ("service_tier", json!("flex"), true),
        ("service_tier", json!("auto"), false),
        ("prediction", json!({"type": "content", "content": "x"}), true),
        ("response_format", json!({"type": "grammar", "grammar": "x"}), true),
        ("response_format", json!({"type": "text"}), false),
    ] {
        let mut ask = json!({"model": "exact", "messages": said()});
        ask[name] = value.clone();
        let answer = sent(&stage, "/v1/chat/completions", &ask).await;
        let what = format!("{name} {value}: {}", answer.body_text());
        assert_eq!(answer.status, if is_lost { 400 } else { 200 }, "{what}");
        assert_eq!(answer.body_text().contains("would lose unknown_member"), is_lost, "{what}");
    }
    let ask =
        json!({"model": "exact", "input": "x", "store": false, "text": {"format": {"type": "grammar"}}});
    let answer = sent(&stage, "/v1/responses", &ask).await;
    assert_eq!(answer.status, 400, "{}", answer.body_text());
    assert_eq!(one.count(), 2);
}
