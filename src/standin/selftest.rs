//! The stand-in against its own caller: what a script says is what a client sees, and what the
//! provider saw is what the client did.

use std::time::Duration;

use serde_json::json;

use super::caller::{self, BodyEnd, Call, Connection};
use super::*;

const SOON: Duration = Duration::from_secs(5);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn answer(reply: Reply, call: Call) -> caller::Answer {
    let provider = Provider::start(reply).await.unwrap();
    call.limit(SOON).send(provider.address()).await.unwrap()
}

/// Every call, whole and streamed, with its path and body.
fn calls() -> Vec<(&'static str, Call)> {
    let post = |path: &str, body: serde_json::Value| Call::json(path, &body);
    vec![
        ("chat", Call::chat("m")),
        ("chat stream", Call::chat_stream("m")),
        ("completion", post("/v1/completions", json!({"model": "m", "prompt": "p"}))),
        ("completion stream", post("/v1/completions", json!({"model": "m", "prompt": "p", "stream": true}))),
        ("response", post("/v1/responses", json!({"model": "m", "input": "p"}))),
        ("response stream", post("/v1/responses", json!({"model": "m", "input": "p", "stream": true}))),
        ("message", Call::message("m", false)),
        ("message stream", Call::message("m", true)),
        ("gemini", post("/v1beta/models/m:generateContent", json!({}))),
        ("gemini stream", post("/v1beta/models/m:streamGenerateContent?alt=sse", json!({}))),
    ]
}

#[tokio::test]
async fn every_dialect_says_the_text_over_both_versions() {
    let provider = Provider::start(Reply::says("one two three")).await.unwrap();
    for (name, call) in calls() {
        for call in [call.clone(), call.http2()] {
            let answer = call.send(provider.address()).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, "one two three".to_owned()), "{name}");
            assert_eq!(answer.end, BodyEnd::Clean, "{name}");
            assert_eq!(answer.is_stream(), name.ends_with("stream"), "{name}");
        }
    }
    assert!(provider.seen().iter().all(|seen| seen.model == "m" && seen.ending == Ending::Answered));
    let versions: Vec<_> = provider.seen().iter().map(|seen| seen.version).collect();
    assert_eq!(versions[..2], [HttpVersion::Http11, HttpVersion::Http2]);
}

#[tokio::test]
async fn streams_have_usage_end_marker_and_valid_json() {
    for (name, call) in calls().into_iter().filter(|(name, _)| name.ends_with("stream")) {
        let answer = answer(Reply::ok().usage(7, 11), call).await;
        for event in answer.events.iter().filter(|event| event.data != "[DONE]") {
            let parsed = serde_json::from_str::<serde_json::Value>(&event.data);
            assert!(parsed.is_ok(), "{name}: {}", event.data);
        }
        assert_eq!(answer.has_end_marker(), name != "gemini stream", "{name}");
        if name == "chat stream" {
            assert_eq!(answer.usage().unwrap()["completion_tokens"], 11);
        }
    }
    let without = answer(Reply::ok().without_end_marker(), Call::chat_stream("m")).await;
    assert!(!without.has_end_marker());
    assert_eq!(without.end, BodyEnd::Clean);
}

#[tokio::test]
async fn anthropic_events_come_in_their_true_order() {
    let answer = answer(Reply::says("a b"), Call::message("m", true)).await;
    let names: Vec<_> = answer.events.iter().filter_map(|event| event.name.as_deref()).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
}

#[tokio::test]
async fn responses_number_their_events_without_a_gap() {
    let call = Call::json("/v1/responses", &json!({"model": "m", "input": "p", "stream": true}));
    let answer = answer(Reply::says("a b"), call).await;
    let numbers: Vec<_> = answer
        .events
        .iter()
        .map(|event| {
            serde_json::from_str::<serde_json::Value>(&event.data).unwrap()["sequence_number"].clone()
        })
        .collect();
    assert_eq!(numbers, (0..numbers.len()).map(|n| json!(n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_status_comes_with_the_error_body_of_the_dialect() {
    let table = [
        (429, "rate_limit_exceeded", "rate_limit_error"),
        (401, "invalid_api_key", "authentication_error"),
        (500, "server_error", "api_error"),
        (529, "overloaded", "overloaded_error"),
        (404, "model_not_found", "not_found_error"),
    ];
    for (status, openai, anthropic) in table {
        let seen = answer(Reply::status(status).header("Retry-After", "2"), Call::chat_stream("m")).await;
        assert_eq!((seen.status, seen.error_code().as_str()), (status, openai));
        assert_eq!(seen.header("retry-after"), Some("2"));
        let seen = answer(Reply::status(status), Call::message("m", false)).await;
        assert_eq!((seen.status, seen.error_code().as_str()), (status, anthropic));
    }
    let custom = Reply::status(400).code("context_length_exceeded").message("too long");
    assert_eq!(answer(custom, Call::chat("m")).await.error_code(), "context_length_exceeded");
}

#[tokio::test]
async fn faults_before_the_head_are_errors_of_the_call() {
    let table = [
        ("reset", Reply::reset(), Some(Ending::CutByUs)),
        ("close", Reply::close(), Some(Ending::CutByUs)),
        ("garbage", Reply::garbage(), Some(Ending::CutByUs)),
        ("silence", Reply::silence(), Some(Ending::ClientLeft)),
    ];
    for (name, reply, ending) in table {
        for is_http2 in [false, true] {
            let provider = Provider::start(reply.clone()).await.unwrap();
            let call = if is_http2 { Call::chat("m").http2() } else { Call::chat("m") };
            let call = call.leaving_after(ms(300)).limit(SOON);
            let answer = call.send(provider.address()).await;
            let status = answer.map(|answer| answer.status).unwrap_or_default();
            assert_eq!(status, 0, "{name}, HTTP/2 {is_http2}");
            let has_ended = |seen: &[Seen]| seen.iter().all(|seen| Some(seen.ending) == ending);
            assert!(
                provider.until(SOON, has_ended).await,
                "{name}, HTTP/2 {is_http2}: {:?}",
                provider.seen()
            );
        }
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_close_is_not() {
    for (reply, is_reset) in [(Reply::reset_after(2), true), (Reply::close_after(2), false)] {
        let answer = answer(reply, Call::chat_stream("m")).await;
        let BodyEnd::Cut(reason) = &answer.end else { panic!("{:?}", answer.end) };
        assert_eq!(reason.contains("reset"), is_reset, "{reason}");
        assert_eq!(answer.text(), "Hello from");
    }
}

#[tokio::test]
async fn faults_in_the_stream_come_where_they_were_put() {
    // (name, reply, text before the fault, clean end, error code)
    let table = [
        ("after head", Reply::reset_after_head(), "", false, ""),
        ("cut", Reply::close_after(2), "Hello from", false, ""),
        ("unfinished", Reply::end_after(2), "Hello from", true, ""),
        ("first event", Reply::error_event(529), "", true, "overloaded"),
        ("lifecycle", Reply::error_after_opening(429), "", true, "rate_limit_exceeded"),
        ("late error", Reply::error_after(1, 500), "Hello", true, "server_error"),
        ("beyond the end", Reply::close_after(99), GREETING, false, ""),
    ];
    for (name, reply, text, is_clean, code) in table {
        let provider = Provider::start(reply).await.unwrap();
        for call in [Call::chat_stream("m"), Call::chat_stream("m").http2()] {
            let answer = call.limit(SOON).send(provider.address()).await.unwrap();
            assert_eq!(answer.text(), text, "{name}");
            assert_eq!(answer.end == BodyEnd::Clean, is_clean, "{name}: {:?}", answer.end);
            assert_eq!(answer.error_code(), code, "{name}");
            assert!(!answer.has_end_marker(), "{name}");
        }
    }
}

#[tokio::test]
async fn error_events_speak_the_dialect() {
    let message = answer(Reply::error_after_opening(529), Call::message("m", true)).await;
    assert_eq!(message.events.last().unwrap().name.as_deref(), Some("error"));
    assert_eq!(message.error_code(), "overloaded_error");
    let call = Call::json("/v1/responses", &json!({"model": "m", "input": "p", "stream": true}));
    let response = answer(Reply::error_after_opening(500).code("server_is_overloaded"), call).await;
    assert_eq!(response.error_code(), "server_is_overloaded");
    assert_eq!(response.error().unwrap()["sequence_number"], 4);
}

#[tokio::test]
async fn whole_answers_break_too() {
    let cases = [
        ("error in a 200", Reply::error_event(500), 200, true),
        ("bad json", Reply::bad_json(), 200, true),
        ("empty", Reply::empty(), 200, true),
        ("half", Reply::close_after(1), 200, false),
        ("truncated", Reply::truncated(), 200, false),
        ("inserted", Reply::bad_event_after(1), 200, true),
        ("html", Reply::html(502), 502, true),
        ("redirect", Reply::redirect("http://127.0.0.1:1/"), 302, true),
        ("switching", Reply::switching_protocols(), 101, true),
    ];
    for (name, reply, status, is_clean) in cases {
        let answer = answer(reply, Call::chat("m")).await;
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(answer.end == BodyEnd::Clean, is_clean, "{name}: {:?}", answer.end);
        // The truncated body lacks only padding that was promised, so its JSON is whole.
        assert_eq!(answer.text(), if name == "truncated" { GREETING } else { "" }, "{name}");
    }
}

#[tokio::test]
async fn a_bad_event_leaves_the_rest_whole() {
    let answer = answer(Reply::bad_event_after(1), Call::chat_stream("m")).await;
    assert_eq!(answer.text(), GREETING);
    let is_bad = |event: &&caller::Event| serde_json::from_str::<serde_json::Value>(&event.data).is_err();
    assert_eq!(answer.events.iter().filter(is_bad).count(), 2, "the bad event and [DONE]");
}

#[tokio::test]
async fn a_prefill_is_continued_refused_or_ignored() {
    let call = |prefill: &str| {
        let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": prefill}]);
        Call::json("/v1/chat/completions", &json!({"model": "m", "stream": true, "messages": messages}))
    };
    let reply = || Reply::says("one two three");
    assert_eq!(answer(reply(), call("one two")).await.text(), " three");
    assert_eq!(answer(reply(), call("something else")).await.text(), "one two three");
    assert_eq!(answer(reply().ignoring_prefill(), call("one two")).await.text(), "one two three");
    let refused = answer(reply().refusing_prefill(), call("one two")).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (400, "invalid_prefill"));
}

#[tokio::test]
async fn the_head_comes_before_slow_content() {
    let gate = Gate::closed();
    let provider = Provider::start(Reply::ok().hold(Place::AfterHead, &gate)).await.unwrap();
    let call = Call::chat_stream("m");
    let mut talk = call.begin(provider.address()).await.unwrap();
    assert_eq!(talk.head().await.unwrap(), 200);
    assert!(talk.so_far().events.is_empty());
    gate.open();
    assert_eq!(talk.finish(&call).await.0.text(), GREETING);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_once() {
    for call in [Call::chat_stream("m"), Call::chat_stream("m").http2()] {
        let provider = Provider::start(Reply::stall_after(2)).await.unwrap();
        let answer = call.leaving_after_events(3).send(provider.address()).await.unwrap();
        assert_eq!((answer.end, answer.events.len()), (BodyEnd::Left, 3));
        assert!(provider.until(ms(500), |seen| seen[0].has_client_left()).await, "{:?}", provider.seen());
    }
}

#[tokio::test]
async fn connections_are_kept_and_counted() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let mut connection = Connection::open(provider.address()).await.unwrap();
    for call in [Call::chat("m"), Call::chat_stream("m"), Call::chat("m").chunked()] {
        let (answer, kept) = connection.send(&call).await.unwrap();
        assert_eq!(answer.text(), GREETING);
        connection = kept.unwrap();
    }
    assert_eq!((provider.count(), provider.connections()), (3, 1));
    provider.reset();
    assert_eq!((provider.count(), provider.seen().len()), (0, 0));
}

#[tokio::test]
async fn a_stale_connection_closes_on_the_next_request_and_keeps_the_script() {
    let provider =
        Provider::start(Script::of([Reply::says("a").then_stale(), Reply::says("b")])).await.unwrap();
    let connection = Connection::open(provider.address()).await.unwrap();
    let (_, kept) = connection.send(&Call::chat("m")).await.unwrap();
    let (stale, _) = kept.unwrap().send(&Call::chat("m")).await.unwrap();
    assert_eq!(stale.status, 0);
    assert_eq!(Call::chat("m").send(provider.address()).await.unwrap().text(), "b");
    let endings: Vec<_> = provider.seen().iter().map(|seen| seen.ending).collect();
    assert_eq!(endings, [Ending::Answered, Ending::CutByUs, Ending::Answered]);
}

#[tokio::test]
async fn uploads_arrive_whole_however_they_are_sent() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let body = vec![b'x'; 300_000];
    let post = || Call::post("/v1/files", body.clone());
    let ways = [
        post(),
        post().chunked(),
        post().paced(100_000, ms(1)),
        post().expecting_continue(),
        post().http2(),
        post().http2().chunked(),
    ];
    for call in ways {
        let answer = call.clone().limit(SOON).send(provider.address()).await.unwrap();
        assert_eq!(answer.status, 200, "{call:?}");
        assert_eq!(provider.last().unwrap().body.len(), body.len());
    }
    let continued = &post().expecting_continue().send(provider.address()).await.unwrap();
    assert_eq!(continued.interims, [100]);
}

#[tokio::test]
async fn five_megabytes_are_read_quickly() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let prompt = "lorem ipsum ".repeat(450_000);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": prompt}]});
    for call in
        [Call::json("/v1/chat/completions", &body), Call::json("/v1/chat/completions", &body).chunked()]
    {
        let answer = call.limit(SOON).send(provider.address()).await.unwrap();
        let seen = provider.last().unwrap();
        assert_eq!((answer.text().as_str(), seen.model.as_str()), (GREETING, "m"));
        let read = seen.body_complete.unwrap().saturating_sub(seen.arrived);
        assert!(read < Duration::from_secs(1), "{read:?}");
        eprintln!("read in {read:?}, answered in {:?}", answer.took);
    }
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_upload() {
    for is_http2 in [false, true] {
        let provider = Provider::start(Reply::early(413)).await.unwrap();
        let call = Call::post("/v1/chat/completions", vec![b'x'; 8 << 20]).paced(1 << 10, ms(100));
        let call = if is_http2 { call.http2() } else { call };
        let answer = call.limit(SOON).send(provider.address()).await.unwrap();
        assert_eq!((answer.status, answer.end), (413, BodyEnd::Clean));
        assert_eq!(provider.last().unwrap().body.len(), 0);
    }
}

#[tokio::test]
async fn an_echo_tells_method_path_headers_and_body() {
    let call = Call::post("/v1/files?x=1", "hello").header("X-One", "a").header("x-one", "b");
    let account = answer(Reply::echo(), call).await.json();
    assert_eq!(account["method"], "POST");
    assert_eq!(account["path"], "/v1/files?x=1");
    assert_eq!(account["body"], "hello");
    let headers = account["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["X-One", "a"])) && headers.contains(&json!(["x-one", "b"])));
}

#[tokio::test]
async fn odd_heads_arrive() {
    let many = answer(Reply::ok().interims(12), Call::chat("m")).await;
    assert_eq!((many.interims.len(), many.text().as_str()), (12, GREETING));
    let big = answer(Reply::big_head(200 << 10), Call::chat("m")).await;
    let size: usize = big.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(size > 190 << 10, "{size}");
    let delimited = answer(Reply::ok().close_delimited(), Call::chat_stream("m")).await;
    assert_eq!((delimited.text().as_str(), delimited.end), (GREETING, BodyEnd::Clean));
    let dripped = answer(Reply::says("a").drip(ms(0)), Call::chat("m")).await;
    assert_eq!(dripped.text(), "a");
}

#[tokio::test]
async fn http2_faults_carry_their_codes() {
    let table = [
        (Reply::ok().at(Place::BeforeHead, Twist::StreamReset(0x7)), "refused"),
        (Reply::ok().at(Place::BeforeHead, Twist::StreamReset(0xd)), "http/1.1"),
        (Reply::ok().at(Place::BeforeHead, Twist::GoAway(0xb)), "excessive load"),
    ];
    for (reply, word) in table {
        let answer = answer(reply, Call::chat("m").http2()).await;
        let BodyEnd::Cut(reason) = answer.end else { panic!("{:?}", answer.end) };
        assert!(reason.to_lowercase().contains(word), "{reason}");
    }
}

#[tokio::test]
async fn ports_that_nobody_serves_refuse_or_hang() {
    let refused = Provider::refused().unwrap();
    let fault = Call::chat("m").send(refused.address()).await.unwrap_err();
    assert_eq!(fault.kind(), std::io::ErrorKind::ConnectionRefused);
    let unreachable = Provider::unreachable().await.unwrap();
    let call = Call::chat("m").limit(ms(200));
    assert_eq!(call.send(unreachable.address()).await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_provider_that_goes_down_keeps_its_port_and_comes_back_on_it() {
    let mut provider = Provider::start(Reply::ok()).await.unwrap();
    let address = provider.address();
    let call = Call::chat("m").limit(SOON);
    let kept = Connection::open(address).await.unwrap().send(&call).await.unwrap().1;
    for turn in 1..=3 {
        provider.go_down().await.unwrap();
        let refused = call.send(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "turn {turn}");
        provider.come_back().unwrap();
        assert_eq!(call.send(address).await.unwrap().text(), GREETING, "turn {turn}");
    }
    let answer = kept.unwrap().send(&call).await.map_or(0, |(answer, _)| answer.status);
    assert_eq!(answer, 0, "the connection of before is closed");
}

#[tokio::test]
async fn a_dropped_provider_is_gone() {
    let provider = Provider::start(Reply::silence()).await.unwrap();
    let address = provider.address();
    let call = Call::chat("m").limit(SOON);
    let sent = tokio::spawn(async move { call.send(address).await });
    assert!(provider.until(SOON, |seen| !seen.is_empty()).await);
    drop(provider);
    assert!(matches!(sent.await.unwrap().unwrap().end, BodyEnd::Cut(_)));
    assert!(Call::chat("m").limit(SOON).send(address).await.is_err());
}

/// A self-signed certificate for a name, with its key, in PEM.
fn certificate_for(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn tls_speaks_the_version_that_alpn_agreed_on() {
    let (chain, key) = certificate_for("localhost");
    let certificate = Certificate { chain_pem: &chain, key_pem: &key, protocols: &["h2", "http/1.1"] };
    let provider = Provider::start_tls(Reply::ok(), &certificate).await.unwrap();
    assert!(provider.origin_as("localhost").starts_with("https://localhost:"));
    let table = [
        (&["h2", "http/1.1"][..], HttpVersion::Http2),
        (&["http/1.1"][..], HttpVersion::Http11),
        (&[][..], HttpVersion::Http11),
    ];
    for (offered, version) in table {
        let connection =
            Connection::open_tls(provider.address(), "localhost", &chain, offered).await.unwrap();
        let (answer, _) = connection.send(&Call::chat_stream("m")).await.unwrap();
        assert_eq!((answer.text().as_str(), answer.version), (GREETING, version));
        assert_eq!(provider.last().unwrap().version, version);
    }
}

#[tokio::test]
async fn tls_to_another_name_or_root_fails() {
    let (chain, key) = certificate_for("elsewhere.test");
    let certificate = Certificate { chain_pem: &chain, key_pem: &key, protocols: &[] };
    let provider = Provider::start_tls(Reply::ok(), &certificate).await.unwrap();
    let (other_root, _) = certificate_for("elsewhere.test");
    for (name, root) in [("localhost", &chain), ("elsewhere.test", &other_root)] {
        assert!(Connection::open_tls(provider.address(), name, root, &[]).await.is_err(), "{name}");
    }
    assert_eq!((provider.count(), provider.connections()), (0, 2));
}
