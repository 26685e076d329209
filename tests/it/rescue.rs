//! A stream that breaks after content is taken up by another target.

use crate::scene::{Api, FORGETFUL, KEY_ONE, KEY_TWO, Pair, Wire, ms, provider};
use crate::stage::Stage;
use bytes::Bytes;
use pointsman::standin::caller::{Answer, BodyEnd, Call};
use pointsman::standin::{Place, Provider, Reply, Script, Twist};
use serde_json::{Value, json};
use std::fmt::Write as _;
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

const TIMERS: &str = "timeouts: {first_content: 500ms, stall: 200ms, stall_last: 600ms}\n";

/// Two providers of one dialect; the second, whose model is as `model` says, has answered before, so
/// that its ids differ from those of the first.
async fn pair(
    api: Api,
    wire: Wire,
    first: impl Into<Script>,
    second: Reply,
    model: &str,
    more: &str,
) -> Pair {
    let first = Provider::start(first).await.unwrap();
    let second = Provider::start(second).await.unwrap();
    api.call(api.body("n", false, 0, 0)).send(second.address()).await.unwrap();
    let http = if wire.is_http2_provider { "http: 2" } else { "" };
    let models = format!("{http}{}models: {{beta: {{{model}}}}}", if http.is_empty() { "" } else { ", " });
    let mut yaml = format!(
        "listen: [{{address: \"127.0.0.1:0\", h2c: {}}}]\n{FORGETFUL}{more}providers:\n",
        wire.is_http2_client
    );
    yaml += &provider("one", api.kind(), &api.base_url(&first), KEY_ONE, http);
    yaml += &provider("two", api.kind(), &api.base_url(&second), KEY_TWO, &models);
    let _ = writeln!(
        yaml,
        "routes:\n  chat: {{targets: [{{provider: one, model: alpha, priority: 1}}, {{provider: two, model: beta, priority: 2}}]}}"
    );
    Pair { stage: Stage::open(&yaml).await, first, second }
}

async fn stream(pair: &Pair, api: Api, wire: Wire) -> Answer {
    let call = api.call(api.body("chat", true, 200, 0)).limit(Duration::from_secs(10));
    wire.connect(pair.stage.data).await.send(&call).await.unwrap().0
}

/// Complains of everything that makes a stream of a response unsound.
fn check_response(answer: &Answer, text: &str, what: &str) {
    let events: Vec<Value> = answer
        .events
        .iter()
        .filter(|event| !event.data.is_empty())
        .map(|event| {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            assert_eq!(event.name.as_deref(), data["type"].as_str(), "{what}");
            data
        })
        .collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    for once in [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ] {
        let name = format!("response.{once}");
        assert_eq!(kinds.iter().filter(|kind| **kind == name).count(), 1, "{what}: {name}\n{kinds:?}");
    }
    assert_eq!(kinds.last(), Some(&"response.completed"), "{what}");
    for (number, event) in (0u64..).zip(&events) {
        assert_eq!(event["sequence_number"], number, "{what}: {event}");
        for (name, id) in [("item_id", "msg_1"), ("output_index", ""), ("content_index", "")] {
            let want = if id.is_empty() { json!(0) } else { json!(id) };
            assert!(event.get(name).is_none_or(|value| *value == want), "{what}: {event}");
        }
        assert!(event.pointer("/response/id").is_none_or(|id| id == "resp_1"), "{what}: {event}");
        assert!(event.pointer("/item/id").is_none_or(|id| id == "msg_1"), "{what}: {event}");
    }
    let at = |kind: &str, path: &str| {
        let event = events.iter().find(|event| event["type"] == kind).unwrap();
        event.pointer(path).cloned().unwrap_or_default()
    };
    for whole in [
        at("response.output_text.done", "/text"),
        at("response.content_part.done", "/part/text"),
        at("response.output_item.done", "/item/content/0/text"),
        at("response.completed", "/response/output/0/content/0/text"),
    ] {
        assert_eq!(whole, text, "{what}");
    }
    assert_eq!(at("response.completed", "/response/output/0/id"), "msg_1", "{what}");
}

/// Every way to break, early and late, over both HTTP versions, with and without text kept back.
async fn every_break_is_rescued(api: Api) {
    let http2 = Wire { is_http2_client: true, is_http2_provider: true };
    for (wire, hold, model) in [
        (Wire::default(), "0ms", ""),
        (Wire::default(), "300ms", "continues: prefill"),
        (http2, "30ms", ""),
        (http2, "0ms", "continues: prefill"),
    ] {
        for after in [1, 6] {
            for (broken, is_reset) in [
                (Reply::close_after(after), false),
                (Reply::reset_after(after), true),
                (Reply::stall_after(after), false),
                (Reply::end_after(after), false),
                (Reply::error_after(after, 529), false),
            ] {
                let is_overtaken = is_reset && wire.is_http2_provider;
                let what = format!("{api:?} {wire:?} hold {hold} {model}: {broken:?}");
                let more = format!("{TIMERS}rescue: {{hold: {hold}}}\n");
                let pair = pair(api, wire, broken.text(WORDS), Reply::says(WORDS), model, &more).await;
                let answer = stream(&pair, api, wire).await;
                assert_eq!(answer.text(), WORDS, "{what}\n{}", answer.body_text());
                assert!(answer.has_end_marker(), "{what}\n{}", answer.body_text());
                assert_eq!(answer.end, BodyEnd::Clean, "{what}");
                if !answer.body_text().contains(": pointsman: two goes on") {
                    // RST_STREAM may overtake what was sent: then nothing was told yet.
                    assert!(is_overtaken, "{what}\n{}", answer.body_text());
                    continue;
                }
                assert_eq!((pair.first.count(), pair.second.count()), (1, 2), "{what}");
                if api == Api::Responses {
                    check_response(&answer, WORDS, &what);
                }
                let again = pair.second.last().unwrap().json();
                let said = last_of_the_assistant(&again);
                let wants_more = !model.is_empty() && api != Api::Completions && hold == "0ms";
                assert!(!wants_more || said.is_some_and(|said| WORDS.starts_with(said)), "{what}: {again}");
            }
        }
    }
}

fn last_of_the_assistant(request: &Value) -> Option<&str> {
    let list = request.get("messages").or_else(|| request.get("input"))?.as_array()?;
    let last = list.last().filter(|last| last["role"] == "assistant")?;
    last["content"].as_str()
}

#[tokio::test]
async fn every_break_of_a_chat_is_rescued() {
    every_break_is_rescued(Api::Chat).await;
}

#[tokio::test]
async fn every_break_of_a_message_is_rescued() {
    every_break_is_rescued(Api::Messages).await;
}

#[tokio::test]
async fn every_break_of_a_completion_is_rescued() {
    every_break_is_rescued(Api::Completions).await;
}

#[tokio::test]
async fn every_break_of_a_response_is_rescued() {
    every_break_is_rescued(Api::Responses).await;
}

#[tokio::test]
async fn a_response_that_refuses_to_go_on_or_ignores_the_text_begins_anew() {
    let refusing = Reply::says(WORDS).refusing_prefill();
    let broken = || Reply::close_after(5).text(WORDS);
    let pair = pair(Api::Responses, Wire::default(), broken(), refusing, "continues: prefill", "").await;
    let answer = stream(&pair, Api::Responses, Wire::default()).await;
    check_response(&answer, WORDS, "after a refusal");
    assert_eq!(pair.second.count(), 3);
}

#[tokio::test]
async fn a_response_is_not_taken_up_where_another_could_not_go_on_from_it() {
    let event =
        |data: Value| Bytes::from(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()));
    let delta = json!({"type": "response.output_text.delta", "sequence_number": 2, "item_id": "m", "output_index": 1, "content_index": 0, "delta": "the quick"});
    let item = |kind: &str| json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": {"id": "x", "type": kind}});
    let created = json!({"type": "response.created", "sequence_number": 0, "response": {"id": "r"}});
    for kind in ["reasoning", "function_call", "web_search_call"] {
        let events = [event(created.clone()), event(item(kind)), event(delta.clone())];
        let first = Reply::events(events).at(Place::AfterTokens(3), Twist::Close);
        let pair = pair(Api::Responses, Wire::default(), first, Reply::says(WORDS), "", "").await;
        let answer = stream(&pair, Api::Responses, Wire::default()).await;
        assert_eq!(answer.error_code(), "upstream_stream_lost", "{kind}: {}", answer.body_text());
        assert_eq!((answer.text().as_str(), pair.second.count()), ("the quick", 1), "{kind}");
    }
    // What is stored at the provider must not be asked for twice.
    let first = Reply::close_after(5).text(WORDS);
    let pair = pair(Api::Responses, Wire::default(), first, Reply::says(WORDS), "", "").await;
    let body = json!({"model": "chat", "input": "q", "stream": true, "store": true});
    let answer = Call::json("/v1/responses", &body).send(pair.stage.data).await.unwrap();
    assert_eq!((answer.error_code().as_str(), pair.second.count()), ("upstream_stream_lost", 1));
}

#[tokio::test]
async fn the_error_event_of_a_response_is_numbered_on() {
    let first = Reply::close_after(5).text(WORDS);
    let other = Reply::says("something else altogether");
    let pair = pair(Api::Responses, Wire::default(), first, other, "", "").await;
    let answer = stream(&pair, Api::Responses, Wire::default()).await;
    assert_eq!(answer.error_code(), "upstream_stream_lost", "{}", answer.body_text());
    assert_eq!(numbers(&answer), (0..=9).collect::<Vec<u64>>(), "four that open, five of text, the error");
}

/// The events of a whole answer, as the first provider of a pair would tell it.
async fn told_whole(api: Api) -> Vec<String> {
    let provider = Provider::start(Reply::says(WORDS)).await.unwrap();
    let call = api.call(api.body("alpha", true, 200, 0));
    let answer = call.send(provider.address()).await.unwrap();
    answer.body_text().split_inclusive("\n\n").map(str::to_owned).collect()
}

/// Tells these events, of which the last may lack its end, and breaks off.
fn telling(events: &[String]) -> Reply {
    Reply::events(events.to_vec()).at(Place::AfterTokens(events.len()), Twist::Close)
}

/// Complains of everything that makes a rescued stream unsound.
fn check_rescued(api: Api, answer: &Answer, what: &str) {
    let body = answer.body_text();
    assert_eq!(answer.text(), WORDS, "{what}\n{body}");
    assert!(answer.has_end_marker() && answer.end == BodyEnd::Clean, "{what}\n{body}");
    assert!(body.contains(": pointsman: two goes on\n\n"), "{what}\n{body}");
    let counts: &[&str] = match api {
        Api::Responses => {
            check_response(answer, WORDS, what);
            &[]
        }
        Api::Messages => &["content_block_start", "content_block_stop", "message_delta", "message_stop"],
        Api::Chat | Api::Completions | Api::Embeddings | Api::CountTokens => &["finish_reason\":\"stop"],
    };
    for once in counts {
        let data = answer.events.iter().filter(|event| event.data.contains(once));
        assert_eq!(data.count(), 1, "{what}: {once}\n{body}");
    }
}

#[tokio::test]
async fn a_break_inside_the_end_of_an_event_is_rescued_and_its_text_is_told_once() {
    for api in [Api::Chat, Api::Messages, Api::Responses] {
        let mut events = told_whole(api).await;
        events.truncate(8);
        for end in ["", "\n"] {
            let last = events.pop().unwrap();
            events.push(format!("{}{end}", last.trim_end()));
            for (hold, model) in [("0ms", ""), ("0ms", "continues: prefill"), ("100ms", "")] {
                let what = format!("{api:?} {end:?} hold {hold} {model}");
                let more = format!("{TIMERS}rescue: {{hold: {hold}}}\n");
                let pair =
                    pair(api, Wire::default(), telling(&events), Reply::says(WORDS), model, &more).await;
                let answer = stream(&pair, api, Wire::default()).await;
                check_rescued(api, &answer, &what);
            }
        }
    }
}

#[tokio::test]
async fn a_break_behind_the_end_of_a_text_is_rescued_and_the_rest_is_told_once() {
    for (api, ends) in [(Api::Messages, 1), (Api::Responses, 3)] {
        let events = told_whole(api).await;
        let first_end = if api == Api::Messages { "content_block_stop" } else { "response.output_text.done" };
        let text_ends = events.iter().position(|event| event.contains(first_end)).unwrap();
        for end in 1..=ends {
            for (hold, model) in [("0ms", ""), ("0ms", "continues: prefill"), ("100ms", "")] {
                let what = format!("{api:?} {end} hold {hold} {model}");
                let more = format!("{TIMERS}rescue: {{hold: {hold}}}\n");
                let first = telling(&events[..text_ends + end]);
                let pair = pair(api, Wire::default(), first, Reply::says(WORDS), model, &more).await;
                let answer = stream(&pair, api, Wire::default()).await;
                check_rescued(api, &answer, &what);
            }
        }
    }
}

#[tokio::test]
async fn a_translated_response_is_rescued_behind_the_end_of_its_text() {
    let events = told_whole(Api::Messages).await;
    let text_ends = events.iter().position(|event| event.contains("content_block_stop")).unwrap();
    let first = Provider::start(telling(&events[..=text_ends])).await.unwrap();
    let second = Provider::start(Reply::says(WORDS)).await.unwrap();
    let yaml = format!(
        "{TIMERS}providers:\n{}{}routes:\n  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: n, priority: 2}}]}}\n",
        provider("one", "anthropic", &first.origin(), KEY_ONE, ""),
        provider("two", "anthropic", &second.origin(), KEY_TWO, "")
    );
    let stage = Stage::open(&yaml).await;
    let call = Api::Responses.call(Api::Responses.body("chat", true, 200, 0));
    let answer = call.send(stage.data).await.unwrap();
    assert_eq!(answer.text(), WORDS, "{}", answer.body_text());
    assert!(answer.has_end_marker() && answer.end == BodyEnd::Clean, "{}", answer.body_text());
    assert_eq!(answer.events.iter().filter(|event| event.data.contains("output_text.done")).count(), 1);
    assert_eq!(second.count(), 1);
}

#[tokio::test]
async fn the_error_event_of_a_response_that_may_not_be_rescued_is_numbered_on() {
    for broken in [Reply::close_after(5), Reply::error_after(5, 529)] {
        let pair = pair(Api::Responses, Wire::default(), broken.text(WORDS), Reply::ok(), "", "").await;
        let call = Api::Responses.call(Api::Responses.body("chat", true, 200, 0));
        let answer = call.header("x-pointsman-no-rescue", "1").send(pair.stage.data).await.unwrap();
        assert_eq!(answer.error_code(), "upstream_stream_lost", "{}", answer.body_text());
        assert_eq!(
            numbers(&answer),
            (0..=9).collect::<Vec<u64>>(),
            "four that open, five of text, the error"
        );
    }
}

fn numbers(answer: &Answer) -> Vec<u64> {
    let number = |data: &str| serde_json::from_str::<Value>(data).ok()?["sequence_number"].as_u64();
    answer.events.iter().filter_map(|event| number(&event.data)).collect()
}

/// Two tokens, a pause that is longer than the hold, three tokens, a break.
fn two_then_three() -> Reply {
    let pause = Twist::Pause(ms(700));
    Reply::close_after(5).text("the quick brown fox jumps over").at(Place::AfterTokens(2), pause)
}

const HOLD: &str = "rescue: {hold: 300ms}\n";

#[tokio::test]
async fn what_was_kept_back_is_never_shown_where_another_says_something_else() {
    // From what was told on, everything may differ.
    for api in [Api::Chat, Api::Messages, Api::Responses, Api::Completions] {
        let second = Reply::says("the quick red cat sleeps");
        let pair = pair(api, Wire::default(), two_then_three(), second, "", HOLD).await;
        let answer = stream(&pair, api, Wire::default()).await;
        assert_eq!(answer.text(), "the quick red cat sleeps", "{api:?}: {}", answer.body_text());
        assert!(answer.has_end_marker() && !answer.body_text().contains("brown"), "{api:?}");
        let text_at: Vec<Duration> =
            answer.events.iter().filter(|event| event.data.contains("quick")).map(|event| event.at).collect();
        assert!(text_at[0] < ms(690), "told while nothing came, {text_at:?}");
    }
    // What was told must be said again: only that is shown.
    let second = Reply::says("the slow red cat sleeps");
    let first = Script::of([two_then_three()]).then(Reply::status(503));
    let pair = pair(Api::Chat, Wire::default(), first, second, "", HOLD).await;
    let answer = stream(&pair, Api::Chat, Wire::default()).await;
    assert_eq!((answer.text().as_str(), answer.error_code().as_str()), ("the quick", "upstream_stream_lost"));
    // A target that goes on is given what was told, no more.
    let second = Reply::says("the quick red cat sleeps");
    let pair =
        self::pair(Api::Chat, Wire::default(), two_then_three(), second, "continues: prefill", HOLD).await;
    let answer = stream(&pair, Api::Chat, Wire::default()).await;
    assert_eq!(answer.text(), "the quick red cat sleeps");
    assert_eq!(last_of_the_assistant(&pair.second.last().unwrap().json()), Some("the quick"));
}

#[tokio::test]
async fn what_was_kept_back_is_shown_where_nobody_goes_on() {
    let script = Script::of([Reply::close_after(5).text(WORDS)]).then(Reply::status(503));
    let first = Provider::start(script).await.unwrap();
    let second = Provider::start(Reply::status(503)).await.unwrap();
    let yaml = format!(
        "{HOLD}providers:\n{}{}routes:\n  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: n, priority: 2}}]}}\n",
        provider("one", "openai", &first.base_url(), KEY_ONE, ""),
        provider("two", "openai", &second.base_url(), KEY_TWO, "")
    );
    let stage = Stage::open(&yaml).await;
    let answer = Call::chat_stream("chat").send(stage.data).await.unwrap();
    assert_eq!(answer.text(), "the quick brown fox jumps", "{}", answer.body_text());
    assert_eq!(answer.error_code(), "upstream_stream_lost");
    assert!(first.count() >= 1 && second.count() >= 1);
}

#[tokio::test]
async fn a_stream_that_ends_well_does_not_wait_for_its_hold() {
    for api in [Api::Chat, Api::Messages, Api::Responses, Api::Completions] {
        let pair =
            pair(api, Wire::default(), Reply::says(WORDS), Reply::ok(), "", "rescue: {hold: 10s}\n").await;
        let answer = stream(&pair, api, Wire::default()).await;
        assert_eq!((answer.text().as_str(), answer.has_end_marker()), (WORDS, true), "{api:?}");
        assert!(answer.took < Duration::from_secs(5), "{api:?}: {:?}", answer.took);
    }
}

#[tokio::test]
async fn arguments_of_a_tool_do_not_wait_and_text_goes_before_them() {
    let chunk =
        |delta: &str| format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n");
    let events = [
        chunk(r#"{"role":"assistant","content":"let me see"}"#),
        chunk(r#"{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":""}}]}"#),
        chunk(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ];
    let first = Reply::events(events).at(Place::AfterTokens(3), Twist::Pause(ms(700)));
    let pair = pair(Api::Chat, Wire::default(), first, Reply::ok(), "", "rescue: {hold: 10s}\n").await;
    let answer = stream(&pair, Api::Chat, Wire::default()).await;
    assert!(answer.has_end_marker(), "{}", answer.body_text());
    let words: Vec<_> = ["let me see", "\"name\":\"f\"", "{}\""]
        .iter()
        .map(|word| answer.events.iter().position(|event| event.data.contains(word)).unwrap())
        .collect();
    assert_eq!(words, [0, 1, 2]);
    assert!(answer.events[2].at < ms(690), "{:?}", answer.events[2].at);
}
