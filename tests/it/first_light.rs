//! The main road, once: a route, a failover, a stream.

use crate::stage::Stage;
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply, Script};

#[tokio::test]
async fn a_refused_request_is_answered_by_the_next_target() {
    let first = Provider::start(Script::always(Reply::status(503))).await.unwrap();
    let second = Provider::start(Script::always(Reply::says("hello from the second"))).await.unwrap();
    let stage = Stage::open(&format!(
        "providers:
  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: \"sk-one-0123456789\"}}]}}
  two: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: \"sk-two-0123456789\"}}]}}
routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}
",
        first.base_url(),
        second.base_url()
    ))
    .await;
    for call in [Call::chat("chat"), Call::chat_stream("chat")] {
        let answer = call.send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        assert_eq!(answer.text(), "hello from the second");
        assert_eq!(answer.header("x-used-provider"), Some("two"));
        assert_eq!(answer.header("x-used-fallback"), Some("true"));
    }
    assert_eq!(second.last().unwrap().header("authorization"), Some("Bearer sk-two-0123456789"));
    assert!(stage.metric("pointsman_failovers_total", &["reason=\"server_error\""]) >= 1.0);
}
