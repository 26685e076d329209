//! Do the real SDKs notice a failover?

use crate::process::{HEAD, Program, sum};
use crate::sdk;
use pointsman::standin::{Provider, Reply, Script, Seen};

#[tokio::test]
async fn the_real_sdks_are_served_through_a_failover_in_both_dialects() {
    let start = |reply: Reply| Provider::start(reply);
    let (bad, good) = (start(Reply::status(503)).await.unwrap(), start(Reply::ok()).await.unwrap());
    let (worse, claude) = (start(Reply::error_event(529)).await.unwrap(), start(Reply::ok()).await.unwrap());
    let credentials = "credentials: [{name: k, key: {env: KEY}}]";
    // Nothing rests, so that every single call goes through a failover.
    let yaml = format!(
        "{HEAD}log: {{format: json}}
retry: {{same_target: 0, wait_in_place: 0ms, budget_ratio: 1, budget_min_per_second: 1000}}
cooldown: {{default: 0s, max: 0s}}
breaker: {{enabled: false}}
clients: [{{name: sdk, key: {{env: CLIENT_KEY}}, routes: [\"*\"]}}]
providers:
  bad: {{kind: openai, base_url: \"{}\", {credentials}}}
  good: {{kind: openai, base_url: \"{}\", {credentials}}}
  worse: {{kind: anthropic, base_url: \"{}\", {credentials}}}
  claude: {{kind: anthropic, base_url: \"{}\", {credentials}}}
routes:
  team:
    translation: none
    targets:
      - {{provider: bad, model: m, priority: 1}}
      - {{provider: worse, model: c, priority: 1}}
      - {{provider: good, model: m, priority: 2}}
      - {{provider: claude, model: c, priority: 2}}
",
        bad.base_url(),
        good.base_url(),
        worse.origin(),
        claude.origin()
    );
    let program =
        Program::new(&yaml).env("KEY", "sk-provider-0123456789").env("CLIENT_KEY", "sdk-0123456789");
    let process = program.start().await;
    sdk::run(&format!("http://{}", process.data), "sdk-0123456789", "team").await;
    if good.count() == 0 {
        // The SDKs are not there; `sdk` has said so.
        return;
    }
    let page = process.metrics().await;
    let moved = |from: &str, to: &str| {
        let labels = [format!("from=\"{from}\""), format!("to=\"{to}\"")];
        sum(&page, "pointsman_failovers_total", &[&labels[0], &labels[1]]).to_string()
    };
    assert_eq!(bad.count(), good.count(), "a call to the good one without a try at the bad one");
    assert_eq!(moved("bad/k/m", "good/k/m"), good.count().to_string());
    assert_eq!(worse.count(), claude.count());
    assert_eq!(moved("worse/k/c", "claude/k/c"), claude.count().to_string());
}

/// Conversations fail at the target of one dialect and are answered by that of the other; what is no
/// conversation is answered by the one that takes it.
#[tokio::test]
async fn the_real_sdks_are_served_through_a_failover_across_dialects() {
    let talks_fail = |path: &'static str, status: u16| {
        let is_talk = move |seen: &Seen| seen.path.split('?').next() == Some(path);
        Script::rule(move |seen| if is_talk(seen) { Reply::status(status) } else { Reply::ok() })
    };
    let bad_openai = Provider::start(talks_fail("/v1/chat/completions", 503)).await.unwrap();
    let bad_claude = Provider::start(talks_fail("/v1/messages", 529)).await.unwrap();
    let (openai, claude) =
        (Provider::start(Reply::ok()).await.unwrap(), Provider::start(Reply::ok()).await.unwrap());
    let credentials = "credentials: [{name: k, key: {env: KEY}}]";
    let yaml = format!(
        "{HEAD}log: {{format: json}}
retry: {{same_target: 0, wait_in_place: 0ms, budget_ratio: 1, budget_min_per_second: 1000}}
cooldown: {{default: 0s, max: 0s}}
breaker: {{enabled: false}}
clients: [{{name: sdk, key: {{env: CLIENT_KEY}}, routes: [\"*\"]}}]
providers:
  bad-openai: {{kind: openai, base_url: \"{}\", {credentials}}}
  bad-claude: {{kind: anthropic, base_url: \"{}\", {credentials}}}
  openai: {{kind: openai, base_url: \"{}\", {credentials}}}
  claude: {{kind: anthropic, base_url: \"{}\", {credentials}}}
routes:
  to-claude:
    targets:
      - {{provider: bad-openai, model: m, priority: 1}}
      - {{provider: claude, model: c, priority: 2}}
  to-openai:
    targets:
      - {{provider: bad-claude, model: c, priority: 1}}
      - {{provider: openai, model: m, priority: 2}}
",
        bad_openai.base_url(),
        bad_claude.origin(),
        openai.base_url(),
        claude.origin()
    );
    let program =
        Program::new(&yaml).env("KEY", "sk-provider-0123456789").env("CLIENT_KEY", "sdk-0123456789");
    let process = program.start().await;
    for route in ["to-claude", "to-openai"] {
        sdk::run(&format!("http://{}", process.data), "sdk-0123456789", route).await;
    }
    if bad_openai.count() == 0 {
        return;
    }
    let page = process.metrics().await;
    let moved = |from: &str, to: &str| {
        let labels = [format!("from=\"{from}\""), format!("to=\"{to}\"")];
        sum(&page, "pointsman_failovers_total", &[&labels[0], &labels[1]])
    };
    assert!(moved("bad-openai/k/m", "claude/k/c") >= 5.0, "chats and messages");
    assert!(moved("bad-claude/k/c", "openai/k/m") >= 5.0, "chats and messages");
}

#[tokio::test]
async fn the_real_sdks_are_served_through_a_rescue() {
    let start = |reply: Reply| Provider::start(reply);
    let (bad, good) = (start(Reply::close_after(3)).await.unwrap(), start(Reply::ok()).await.unwrap());
    let (worse, claude) = (start(Reply::reset_after(3)).await.unwrap(), start(Reply::ok()).await.unwrap());
    let credentials = "credentials: [{name: k, key: {env: KEY}}]";
    let yaml = format!(
        "{HEAD}log: {{format: json}}
retry: {{same_target: 0, wait_in_place: 0ms, budget_ratio: 1, budget_min_per_second: 1000}}
breaker: {{enabled: false}}
clients: [{{name: sdk, key: {{env: CLIENT_KEY}}, routes: [\"*\"]}}]
providers:
  bad: {{kind: openai, base_url: \"{}\", {credentials}}}
  good: {{kind: openai, base_url: \"{}\", {credentials}}}
  worse: {{kind: anthropic, base_url: \"{}\", {credentials}}}
  claude: {{kind: anthropic, base_url: \"{}\", {credentials}, models: {{c: {{continues: prefill}}}}}}
routes:
  team:
    targets:
      - {{provider: bad, model: m, priority: 1}}
      - {{provider: worse, model: c, priority: 1}}
      - {{provider: good, model: m, priority: 2}}
      - {{provider: claude, model: c, priority: 2}}
",
        bad.base_url(),
        good.base_url(),
        worse.origin(),
        claude.origin()
    );
    let program =
        Program::new(&yaml).env("KEY", "sk-provider-0123456789").env("CLIENT_KEY", "sdk-0123456789");
    let process = program.start().await;
    sdk::run(&format!("http://{}", process.data), "sdk-0123456789", "team").await;
    if good.count() == 0 {
        return;
    }
    let page = process.metrics().await;
    let rescued = sum(&page, "pointsman_rescues_total", &["result=\"rescued\""]);
    assert!(rescued >= 5.0, "a stream of each kind, {rescued} rescued");
    assert!(sum(&page, "pointsman_rescues_total", &["result=\"failed\""]) < 0.5);
}
