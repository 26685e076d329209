//! Is every request answered, whatever the first provider does?
//!
//! Each fault of the failure table is played by the provider that the route prefers; the second
//! one is sound. Every request must be answered by the second, and the second must receive the
//! client's own bytes but for the model's name.

use crate::scene::{
    Api, FORGETFUL, KEY_ONE, KEY_TWO, Pair, RESCUER, Wire, number_in, provider, spliced, trail,
};
use crate::stage::Stage;
use pointsman::standin::caller::{BodyEnd, Call, Connection};
use pointsman::standin::{Place, Provider, Reply, Script, Twist};
use std::sync::Arc;
use tokio::task::JoinSet;

/// A fault of the first provider.
pub struct Fault {
    script: Option<Script>,
    /// The outcomes that the table allows for it.
    outcomes: &'static [&'static str],
    /// Timers are shortened and fewer requests are sent, side by side.
    is_silent: bool,
    /// Whether it exists in an answer that is streamed, and in one that is not.
    streamed: bool,
    plain: bool,
    /// Bodies around Pingora's 64 KiB and of 5 MB are sent as well.
    has_large: bool,
}

pub fn fault(reply: Reply, outcomes: &'static [&'static str]) -> Fault {
    let script = Some(Script::always(reply));
    Fault { script, outcomes, is_silent: false, streamed: true, plain: true, has_large: false }
}

pub fn refuses() -> Fault {
    Fault { script: None, has_large: true, ..fault(Reply::ok(), &["connect"]) }
}

impl Fault {
    pub fn silent(self) -> Fault {
        Fault { is_silent: true, ..self }
    }

    pub fn only_streamed(self) -> Fault {
        Fault { plain: false, ..self }
    }

    pub fn only_plain(self) -> Fault {
        Fault { streamed: false, ..self }
    }

    /// Also with bodies around Pingora's own limit of 64 KiB, and of 5 MB.
    pub fn with_large_bodies(self) -> Fault {
        Fault { has_large: true, ..self }
    }

    pub fn without_large_bodies(self) -> Fault {
        Fault { has_large: false, ..self }
    }

    async fn provider(&self) -> Provider {
        match &self.script {
            Some(script) => Provider::start(script.clone()).await.unwrap(),
            None => Provider::refused().unwrap(),
        }
    }
}

const SHORT_TIMERS: &str =
    "timeouts: {first_content: 200ms, first_content_reasoning: 200ms, response: 200ms}\n";
const KIB: usize = 1024;

/// Sends `count` requests and checks that the second provider answered each.
async fn rush(
    fault: &Fault,
    wire: Wire,
    api: Api,
    is_streamed: bool,
    length: usize,
    count: usize,
    more: &str,
) {
    let mut config = more.to_owned();
    if fault.is_silent {
        config += SHORT_TIMERS;
    }
    let pair = Arc::new(Pair::open(api, wire, fault.provider().await, Reply::says(RESCUER), &config).await);
    // Ten bodies of 5 MB at once would starve the one thread of a test for longer than its timers.
    let lanes = match (fault.is_silent, length) {
        (_, 1_000_000..) => 2,
        (true, _) => 10,
        (false, _) => 5,
    };
    let mut running = JoinSet::new();
    for lane in 0..lanes {
        let pair = Arc::clone(&pair);
        running.spawn(async move {
            let mut open: Option<Connection> = None;
            for number in (lane..count).step_by(lanes) {
                let line = match open.take() {
                    Some(line) => line,
                    None => wire.connect(pair.stage.data).await,
                };
                let body = api.body("chat", is_streamed, length, number);
                let (answer, line) = line.send(&api.call(body)).await.unwrap();
                let what = format!("{api:?}, stream {is_streamed}, {length} bytes, request {number}");
                assert_eq!(answer.status, 200, "{what}: {} {:?}", answer.body_text(), answer.headers);
                assert_eq!(answer.header("x-used-provider"), Some("two"), "{what}: {:?}", answer.headers);
                assert_eq!(answer.header("x-used-model"), Some("beta"), "{what}");
                assert_eq!(answer.header("x-used-fallback"), Some("true"), "{what}");
                match api {
                    Api::Embeddings => assert!(answer.json()["data"][0].is_object(), "{what}"),
                    Api::CountTokens => assert_eq!(answer.json()["input_tokens"], 9, "{what}"),
                    Api::Chat | Api::Completions | Api::Responses | Api::Messages => {
                        assert_eq!(answer.text(), RESCUER, "{what}");
                    }
                }
                if is_streamed {
                    assert!(answer.is_stream() && answer.has_end_marker(), "{what}: {}", answer.body_text());
                }
                assert!(line.is_some(), "{what}: the connection must be kept");
                open = line;
            }
        });
    }
    while let Some(lane) = running.join_next().await {
        lane.unwrap();
    }
    check_what_was_received(&pair, api, is_streamed, length, count);
    check_what_was_counted(&pair, fault, count);
}

fn check_what_was_received(pair: &Pair, api: Api, is_streamed: bool, length: usize, count: usize) {
    let seen = pair.second.seen();
    assert_eq!(seen.len(), count, "the second provider answers each request once");
    let mut numbers: Vec<usize> = Vec::new();
    for request in seen {
        let number = number_in(&request.body);
        let expected = spliced(&api.body("chat", is_streamed, length, number), "chat", "beta");
        assert!(request.body == expected, "request {number}: the bytes of {length} differ");
        let key =
            if api.is_anthropic() { request.header("x-api-key") } else { request.header("authorization") };
        assert_eq!(key.unwrap().trim_start_matches("Bearer "), KEY_TWO);
        numbers.push(number);
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..count), "each request arrives once");
    for request in pair.first.seen().iter().filter(|request| request.body_complete.is_some()) {
        let number = number_in(&request.body);
        let expected = spliced(&api.body("chat", is_streamed, length, number), "chat", "alpha");
        assert!(request.body == expected, "request {number}: the first attempt has the whole body, too");
        assert!(request.headers.iter().all(|(_, value)| !value.contains(KEY_TWO)), "{:?}", request.headers);
        assert!(request.headers.iter().any(|(_, value)| value.contains(KEY_ONE)), "{:?}", request.headers);
    }
}

fn check_what_was_counted(pair: &Pair, fault: &Fault, count: usize) {
    let of_outcome = |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        pair.stage.metric("pointsman_attempts_total", &["target=\"one/k/alpha\"", &label])
    };
    let expected: f64 = fault.outcomes.iter().map(|outcome| of_outcome(outcome)).sum();
    let all = pair.stage.metric("pointsman_attempts_total", &["target=\"one/k/alpha\""]);
    assert!(
        expected >= 1.0 && (expected - all).abs() < 0.5,
        "all {all} attempts at the first must be {:?}, {expected} are: {}",
        fault.outcomes,
        pair.stage.metrics().lines().filter(|line| line.contains("attempts_total")).collect::<String>()
    );
    let answered = pair.stage.metric("pointsman_requests_total", &["code_class=\"2xx\""]);
    assert!(
        (answered - f64::from(u32::try_from(count).unwrap())).abs() < 0.5,
        "{answered} of {count} counted"
    );
    assert!(pair.stage.metric("pointsman_failovers_total", &["to=\"two/k/beta\""]) >= 1.0);
}

fn forms(fault: &Fault, api: Api) -> Vec<bool> {
    [(false, fault.plain), (true, fault.streamed && api.can_stream())]
        .into_iter()
        .filter_map(|(is_streamed, exists)| exists.then_some(is_streamed))
        .collect()
}

/// What the issue asks of a fault: every request of 1 KB and 300 KB is answered, streamed and not;
/// and so are those around Pingora's 64 KiB and of 5 MB, for the faults that it names.
pub async fn is_survived(fault: &Fault, wire: Wire, count: usize) {
    let count = if fault.is_silent { 10 } else { count };
    for is_streamed in forms(fault, Api::Chat) {
        rush(fault, wire, Api::Chat, is_streamed, KIB, count, "").await;
        let count = if fault.has_large { count } else { 10 };
        rush(fault, wire, Api::Chat, is_streamed, 300 * KIB, count, "").await;
    }
    if fault.has_large {
        for (is_streamed, length) in [(true, 65_535), (false, 65_536), (true, 65_537), (false, 5_000_000)] {
            rush(fault, wire, Api::Chat, is_streamed && fault.streamed, length, 10, "").await;
        }
    }
}

/// The same for every other call that may be sent twice, and without a breaker's help.
async fn is_survived_everywhere(fault: Fault) {
    for api in [Api::Completions, Api::Embeddings, Api::Responses, Api::Messages, Api::CountTokens] {
        for is_streamed in forms(&fault, api) {
            rush(&fault, Wire::default(), api, is_streamed, KIB, 10, "").await;
        }
    }
    for api in [Api::Chat, Api::Messages] {
        for is_streamed in forms(&fault, api) {
            rush(&fault, Wire::default(), api, is_streamed, KIB, 10, FORGETFUL).await;
        }
    }
    is_survived(&fault, Wire::default(), 100).await;
}

macro_rules! faults {
    ($($name:ident: $fault:expr;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                is_survived_everywhere($fault).await;
            }
        )+
    };
}

faults! {
    a_429_is_left: fault(Reply::rate_limited(None), &["rate_limited"]).with_large_bodies();
    a_429_with_a_long_wait_is_left: fault(Reply::rate_limited(Some("120")), &["rate_limited"]);
    a_500_is_left: fault(Reply::status(500), &["server_error"]).with_large_bodies();
    a_502_is_left: fault(Reply::status(502), &["server_error"]).with_large_bodies();
    a_503_is_left: fault(Reply::status(503), &["server_error"]).with_large_bodies();
    a_504_is_left: fault(Reply::status(504), &["server_error"]);
    a_cdn_error_page_is_left: fault(Reply::html(522), &["server_error"]);
    a_529_is_left: fault(Reply::status(529), &["overloaded"]).with_large_bodies();
    an_overloaded_body_is_left: fault(
        Reply::status(503).kind("overloaded_error").message("The model is currently overloaded."),
        &["overloaded"]
    );
    a_rejected_key_is_left: fault(Reply::status(401), &["auth"]);
    a_payment_wanted_is_left: fault(Reply::status(402), &["quota"]);
    an_empty_account_is_left: fault(
        Reply::status(429).kind("insufficient_quota").code("insufficient_quota")
            .message("You exceeded your current quota, please check your plan and billing details."),
        &["quota"]
    );
    a_missing_model_is_left: fault(
        Reply::status(404).code("model_not_found"),
        &["model_unavailable"]
    );
    a_refused_connection_is_left: refuses();
    a_reset_is_left: fault(Reply::reset(), &["reset"]).with_large_bodies();
    a_close_before_the_head_is_left: fault(Reply::close(), &["reset"]);
    a_reset_after_the_head_is_left: fault(Reply::reset_after_head(), &["truncated", "reset"]);
    a_silent_provider_is_left:
        fault(Reply::silence(), &["timeout_first_content"]).silent().with_large_bodies();
    a_provider_that_is_silent_after_the_head_is_left:
        fault(Reply::silence_after_head(), &["timeout_first_content"]).silent();
    an_error_as_the_first_event_is_left:
        fault(Reply::error_event(500), &["server_error", "inband_error"]).with_large_bodies();
    an_overload_as_the_first_event_is_left: fault(Reply::error_event(529), &["overloaded", "inband_error", "server_error"]);
    a_rate_limit_as_the_first_event_is_left: fault(Reply::error_event(429), &["rate_limited", "inband_error"]);
    an_error_after_the_opening_is_left:
        fault(Reply::error_after_opening(500), &["server_error", "inband_error"]).only_streamed();
    a_stream_without_an_event_is_left:
        fault(Reply::ok().at(Place::AfterHead, Twist::End), &["bad_body", "truncated"]).only_streamed();
    a_stream_that_ends_after_its_opening_is_left:
        fault(Reply::ok().at(Place::AfterOpening, Twist::End), &["truncated", "bad_body"]).only_streamed();
    a_stream_that_breaks_after_its_opening_is_left:
        fault(Reply::ok().at(Place::AfterOpening, Twist::Reset), &["truncated"]).only_streamed();
    an_empty_200_is_left: fault(Reply::empty(), &["bad_body"]);
    a_200_of_broken_json_is_left: fault(Reply::bad_json(), &["bad_body"]).only_plain();
    a_200_of_html_is_left: fault(Reply::html(200), &["bad_body"]);
    a_truncated_answer_is_left: fault(Reply::truncated(), &["truncated"]).only_plain();
    a_redirect_is_left: fault(Reply::redirect("http://127.0.0.1:1/v1/chat/completions"), &["bad_body"]);
    a_101_is_left: fault(Reply::switching_protocols(), &["bad_body"]);
    a_flood_of_interim_heads_is_left: fault(Reply::ok().interims(9), &["bad_body"]);
    a_huge_head_is_left: fault(Reply::big_head(300 << 10), &["bad_body", "reset"]);
    garbage_instead_of_a_head_is_left: fault(Reply::garbage(), &["bad_body", "reset"]);
}

/// A provider that closes every kept connection under the next request on it (row 19).
#[tokio::test]
async fn a_stale_connection_is_replaced_without_anybody_noticing() {
    for (is_streamed, length) in [(false, KIB), (true, KIB), (true, 300 * KIB)] {
        let first = Provider::start(Reply::ok().then_stale()).await.unwrap();
        let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::says(RESCUER), "").await;
        for number in 0..50 {
            let body = Api::Chat.body("chat", is_streamed, length, number);
            let answer = Api::Chat.call(body).send(pair.stage.data).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body_text());
            assert_eq!(answer.header("x-used-provider"), Some("one"), "{number}: {:?}", answer.headers);
            assert_eq!(answer.header("x-used-fallback"), Some("false"));
        }
        assert_eq!(pair.second.count(), 0);
        let answered = pair.first.seen().iter().filter(|request| request.answered.is_some()).count();
        assert_eq!(answered, 50);
        assert!(pair.first.count() > 50, "the stale connections were met");
    }
}

#[tokio::test]
async fn a_stale_connection_to_a_provider_that_fell_is_left() {
    let first = Provider::start(Script::of([Reply::ok().then_stale(), Reply::reset()])).await.unwrap();
    let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::says(RESCUER), "").await;
    assert_eq!(pair.chat().await.header("x-used-provider"), Some("one"));
    for _ in 0..10 {
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{:?}", answer.headers);
    }
}

/// A response that the provider keeps, or that goes on from one it kept, may be processed once
/// only: what is not provably unprocessed is not sent again ("Replay-safe routes").
#[tokio::test]
async fn a_response_with_state_fails_over_only_where_nothing_was_processed() {
    let stored = [
        r#"{"model":"chat","input":"x"}"#,
        r#"{"model":"chat","input":"x","store":true}"#,
        r#"{"model":"chat","input":"x","store":false,"background":true}"#,
        r#"{"model":"chat","input":"x","store":false,"previous_response_id":"resp_1"}"#,
        r#"{"model":"chat","input":"x","store":false,"conversation":"conv_1"}"#,
    ];
    let ambiguous = [
        (Reply::status(500), 502),
        (Reply::reset(), 502),
        (Reply::bad_json(), 502),
        (Reply::status(504), 504),
    ];
    let unprocessed = [Reply::rate_limited(None), Reply::status(503), Reply::status(529), Reply::status(401)];
    for body in stored {
        for (reply, status) in ambiguous.clone() {
            let first = Provider::start(reply).await.unwrap();
            let pair = Pair::open(Api::Responses, Wire::default(), first, Reply::says(RESCUER), "").await;
            let answer = Api::Responses.call(body.into()).send(pair.stage.data).await.unwrap();
            assert_eq!(answer.status, status, "{body}: {}", answer.body_text());
            assert_eq!(pair.second.count(), 0, "{body} must not be sent twice");
            assert_eq!(pair.first.count(), 1, "{body} must not be repeated either");
        }
        // An id of one provider's says nothing to another.
        if body.contains("_1\"") {
            continue;
        }
        for reply in unprocessed.clone() {
            let first = Provider::start(reply).await.unwrap();
            let pair = Pair::open(Api::Responses, Wire::default(), first, Reply::says(RESCUER), "").await;
            let answer = Api::Responses.call(body.into()).send(pair.stage.data).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{body}");
        }
        let first = Provider::refused().unwrap();
        let pair = Pair::open(Api::Responses, Wire::default(), first, Reply::says(RESCUER), "").await;
        let answer = Api::Responses.call(body.into()).send(pair.stage.data).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{body}");
    }
}

/// Row 21: who says something that is no head may say better in a moment.
#[tokio::test]
async fn an_answer_without_a_proper_head_is_asked_for_once_more_before_a_lesser_model() {
    let http2 = Wire { is_http2_provider: true, ..Wire::default() };
    let (large, larger, garbage) = (Reply::big_head(100 << 10), Reply::big_head(2 << 20), Reply::garbage());
    for (wire, reply, what) in [
        (Wire::default(), large.clone(), "100 KiB"),
        (Wire::default(), larger.clone(), "2 MiB"),
        (Wire::default(), garbage, "no HTTP"),
        (http2, large, "100 KiB, HTTP/2"),
        (http2, larger, "2 MiB, HTTP/2"),
    ] {
        for (second, way) in [("same", 1), ("lesser", 2)] {
            let first = Provider::start(reply.clone()).await.unwrap();
            let rescuer = Reply::says(RESCUER);
            let pair = Pair::with_models(Api::Chat, wire, first, rescuer, "", "same", second).await;
            let answer = pair.chat().await;
            let mut stops = vec!["one/k:reset"; way];
            stops.push("two/k:ok");
            assert_eq!(trail(&answer), stops, "{what}, then the {second} model");
        }
    }
}

/// Row 30: the provider answers before it has read the upload, never reads it, and closes later.
#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_counts() {
    let answered = [429, 500].map(|status| async move {
        let first = Provider::start(Reply::early(status)).await.unwrap();
        let wire = Wire::default();
        let pair = Pair::with_models(Api::Chat, wire, first, Reply::says(RESCUER), "", "same", "same").await;
        let body = Api::Chat.body("chat", false, 5_000_000, 0);
        let answer = Api::Chat.call(body.clone()).send(pair.stage.data).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{:?}", answer.headers);
        assert!(pair.second.last().unwrap().body == spliced(&body, "chat", "same"));
        assert_eq!(trail(&answer), [format!("one/k:{status}"), "two/k:ok".to_owned()]);
    });
    let [first, second] = answered;
    tokio::join!(first, second);
}

/// Rows 16 and 17: what the client did wrong, another provider would not make right.
#[tokio::test]
async fn a_fault_of_the_client_is_passed_on_and_moves_nothing() {
    let filtered = Reply::status(400)
        .code("content_filter")
        .message("The response was filtered due to the prompt triggering a content management policy.");
    let replies = [
        (Reply::status(400).code("invalid_value"), 400),
        (Reply::status(422), 422),
        (Reply::status(409), 409),
        (Reply::status(415), 415),
        (filtered, 400),
    ];
    for (reply, status) in replies {
        for api in [Api::Chat, Api::Messages] {
            let first = Provider::start(reply.clone()).await.unwrap();
            let pair = Pair::open(api, Wire::default(), first, Reply::says(RESCUER), "").await;
            for number in 0..8 {
                let is_streamed = number % 2 == 0;
                let body = api.body("chat", is_streamed, KIB, number);
                let answer = api.call(body).send(pair.stage.data).await.unwrap();
                assert_eq!(answer.status, status, "{}", answer.body_text());
                assert_eq!(answer.header("x-used-provider"), Some("one"), "{:?}", answer.headers);
                let message = answer.error().unwrap()["message"].clone();
                assert!(message.as_str().unwrap().len() > 5, "the provider's own words: {message}");
            }
            assert_eq!((pair.first.count(), pair.second.count()), (8, 0), "no breaker, no failover");
        }
    }
}

/// Row 15: a larger window may take what the first one did not, and that rests nobody.
#[tokio::test]
async fn a_prompt_that_is_too_long_is_offered_to_another_model() {
    let too_long = Reply::status(400)
        .code("context_length_exceeded")
        .message("This model's maximum context length is 8192 tokens.");
    for reply in [too_long, Reply::status(413)] {
        let first = Provider::start(reply).await.unwrap();
        let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::says(RESCUER), "").await;
        for _ in 0..8 {
            let answer = pair.chat().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{}", answer.body_text());
        }
        assert_eq!(pair.first.count(), 8, "neither cooldown nor breaker");
    }
}

/// Rows 26 and 27: an answer that looks odd is an answer.
#[tokio::test]
async fn an_odd_but_whole_answer_is_delivered() {
    let empty = r#"{"id":"x","object":"chat.completion","choices":[],"usage":null}"#;
    let padded = "\n\n\n  {\"choices\":[{\"message\":{\"content\":\"late\"},\"finish_reason\":\"stop\"}]}";
    for body in [empty, padded] {
        let first = Provider::start(Reply::body(200, "application/json", body)).await.unwrap();
        let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::says(RESCUER), "").await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.body_text().as_str()), (200, body));
        assert_eq!(pair.second.count(), 0);
    }
    for api in [Api::Chat, Api::Completions, Api::Messages] {
        let first = Provider::start(Reply::ok().without_end_marker()).await.unwrap();
        let pair = Pair::open(api, Wire::default(), first, Reply::says(RESCUER), "").await;
        let answer = api.call(api.body("chat", true, KIB, 0)).send(pair.stage.data).await.unwrap();
        assert_eq!((answer.status, answer.end), (200, BodyEnd::Clean), "{api:?}");
        assert_eq!(pair.second.count(), 0);
    }
}

#[tokio::test]
async fn a_provider_that_drops_every_packet_is_left() {
    let first = Provider::unreachable().await.unwrap();
    let pair =
        Pair::open(Api::Chat, Wire::default(), first, Reply::says(RESCUER), "timeouts: {connect: 200ms}\n")
            .await;
    for _ in 0..8 {
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER));
    }
    assert!(pair.stage.metric("pointsman_attempts_total", &["outcome=\"connect\""]) >= 1.0);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_left() {
    let second = Provider::start(Reply::says(RESCUER)).await.unwrap();
    let mut yaml = "providers:\n".to_owned();
    yaml += &provider("one", "openai", "https://pointsman.invalid/v1", KEY_ONE, "");
    yaml += &provider("two", "openai", &second.base_url(), KEY_TWO, "");
    yaml += "routes:\n  chat: {targets: [{provider: one, model: alpha, priority: 1}, {provider: two, model: beta, priority: 2}]}\n";
    let stage = Stage::open(&yaml).await;
    for _ in 0..8 {
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{:?}", answer.headers);
    }
    assert!(stage.metric("pointsman_attempts_total", &["outcome=\"dns\""]) >= 1.0, "{}", stage.metrics());
}
