//! A stream that breaks after content is taken up by another target.

use crate::stage::Stage;
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply, Script};
use std::time::Duration;

const WORDS: &str = "the quick brown fox jumps over the lazy dog and runs away into the deep dark wood";

async fn stage(first: &Provider, second: &Provider, model: &str) -> Stage {
    Stage::open(&format!(
        "timeouts: {{first_content: 500ms, stall: 200ms, stall_last: 600ms}}
providers:
  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: \"sk-one-0123456789\"}}]}}
  two: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: \"sk-two-0123456789\"}}], models: {{{model}}}}}
routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: n, priority: 2}}]}}
",
        first.base_url(),
        second.base_url()
    ))
    .await
}

#[tokio::test]
async fn a_cut_a_reset_a_stall_and_an_error_event_are_rescued_by_a_restart() {
    let cut = || Reply::says(WORDS);
    for broken in [
        Reply::close_after(5).text(WORDS),
        Reply::reset_after(5).text(WORDS),
        Reply::stall_after(5).text(WORDS),
        Reply::error_after(5, 529).text(WORDS),
    ] {
        let first = Provider::start(Script::always(broken)).await.unwrap();
        let second = Provider::start(Script::always(cut())).await.unwrap();
        let stage = stage(&first, &second, "").await;
        let answer = Call::chat_stream("chat").send(stage.data).await.unwrap();
        assert_eq!(answer.text(), WORDS, "{}", answer.body_text());
        assert!(answer.has_end_marker(), "{}", answer.body_text());
        assert_eq!(answer.body_text().matches("\"role\"").count(), 1);
        assert!(stage.metric("pointsman_rescues_total", &["result=\"rescued\""]) > 0.5);
    }
}

#[tokio::test]
async fn a_model_that_continues_is_given_the_text_so_far() {
    let first = Provider::start(Script::always(Reply::close_after(5).text(WORDS))).await.unwrap();
    let second = Provider::start(Script::always(Reply::says(WORDS))).await.unwrap();
    let stage = stage(&first, &second, "n: {continues: prefill}").await;
    let answer = Call::chat_stream("chat").send(stage.data).await.unwrap();
    assert_eq!(answer.text(), WORDS, "{}", answer.body_text());
    let last = second.last().unwrap().json();
    assert_eq!(last["messages"].as_array().unwrap().last().unwrap()["role"], "assistant");
}

#[tokio::test]
async fn a_refused_prefill_falls_to_a_restart_at_the_same_target() {
    let first = Provider::start(Script::always(Reply::close_after(5).text(WORDS))).await.unwrap();
    let second = Provider::start(Script::always(Reply::says(WORDS).refusing_prefill())).await.unwrap();
    let stage = stage(&first, &second, "n: {continues: prefill}").await;
    let answer = Call::chat_stream("chat").send(stage.data).await.unwrap();
    assert_eq!(answer.text(), WORDS, "{}", answer.body_text());
    assert_eq!(second.count(), 2);
}

#[tokio::test]
async fn another_answer_is_never_shown_and_the_stream_ends_with_an_error() {
    let first = Provider::start(Script::always(Reply::close_after(5).text(WORDS))).await.unwrap();
    let second = Provider::start(Script::always(Reply::says("something else altogether"))).await.unwrap();
    let stage = stage(&first, &second, "").await;
    let answer = Call::chat_stream("chat").send(stage.data).await.unwrap();
    assert!(WORDS.starts_with(&answer.text()), "{}", answer.text());
    assert!(!answer.has_end_marker(), "{}", answer.body_text());
    assert_eq!(answer.error_code(), "upstream_stream_lost");
    assert!(stage.metric("pointsman_rescues_total", &["result=\"failed\""]) >= 1.0);
}

#[tokio::test]
async fn a_rescuer_that_stays_silent_is_borne_no_longer_than_any_silent_stream() {
    let first = Provider::start(Script::always(Reply::stall_after(5).text(WORDS))).await.unwrap();
    let second = Provider::start(Script::always(Reply::silence())).await.unwrap();
    let stage = stage(&first, &second, "").await;
    // `stall`, then `stall_last`: the first fell silent itself and is no way out.
    let call = Call::chat_stream("chat").limit(Duration::from_secs(5));
    let answer = call.send(stage.data).await.unwrap();
    assert_eq!(answer.error_code(), "upstream_stream_lost", "{}", answer.body_text());
    assert_eq!((first.count(), second.count()), (1, 1));
}
