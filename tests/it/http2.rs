//! The same over HTTP/2, with and without TLS, on either side.

use crate::failover::{Fault, fault, is_survived, refuses};
use crate::papers::Authority;
use crate::scene::{Api, FORGETFUL, KEY_ONE, KEY_TWO, Pair, RESCUER, Wire, ms, provider, trail};
use crate::stage::Stage;
use pointsman::standin::caller::{Call, Connection};
use pointsman::standin::{Gate, HttpVersion, Place, Provider, Reply, Script, Seen, Twist};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

const CLIENT: Wire = Wire { is_http2_client: true, is_http2_provider: false };
const PROVIDER: Wire = Wire { is_http2_client: false, is_http2_provider: true };
const BOTH: Wire = Wire { is_http2_client: true, is_http2_provider: true };

/// 100 of 100 where both sides speak HTTP/2, 10 of 10 where one does.
async fn is_survived_over_http2(fault: Fault) {
    is_survived(&fault, BOTH, 100).await;
    let fault = fault.without_large_bodies();
    is_survived(&fault, CLIENT, 10).await;
    is_survived(&fault, PROVIDER, 10).await;
}

macro_rules! faults {
    ($($name:ident: $fault:expr;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                is_survived_over_http2($fault).await;
            }
        )+
    };
}

faults! {
    a_429_is_left: fault(Reply::rate_limited(None), &["rate_limited"]).with_large_bodies();
    a_500_is_left: fault(Reply::status(500), &["server_error"]);
    a_503_is_left: fault(Reply::status(503), &["server_error"]).with_large_bodies();
    a_529_is_left: fault(Reply::status(529), &["overloaded"]);
    a_refused_connection_is_left: refuses();
    a_stream_reset_is_left: fault(Reply::reset(), &["reset"]).with_large_bodies();
    a_lost_connection_is_left: fault(Reply::close(), &["reset"]);
    a_silent_provider_is_left: fault(Reply::silence(), &["timeout_first_content"]).silent();
    an_error_as_the_first_event_is_left:
        fault(Reply::error_event(500), &["server_error", "inband_error"]).with_large_bodies();
    a_reset_after_the_head_is_left: fault(Reply::reset_after_head(), &["truncated", "reset"]);
    // A connection that is lost takes those along whose answers had not begun.
    a_truncated_answer_is_left: fault(Reply::truncated(), &["truncated", "reset"]).only_plain();
    an_empty_200_is_left: fault(Reply::empty(), &["bad_body"]);
}

/// Row 20: what the provider says it has not processed may be sent again, and costs nothing.
#[tokio::test]
async fn what_the_provider_disowned_is_sent_again_on_a_new_connection() {
    // NO_ERROR in a GOAWAY below the stream; REFUSED_STREAM.
    for disowned in [Twist::GoAway(0), Twist::StreamReset(7)] {
        for wire in [PROVIDER, BOTH] {
            let script =
                Script::of([Reply::ok(), Reply::ok().at(Place::BeforeHead, disowned.clone()), Reply::ok()]);
            let first = Provider::start(script).await.unwrap();
            let pair = Pair::open(Api::Chat, wire, first, Reply::says(RESCUER), "").await;
            for number in 0..3 {
                let answer = pair.chat_over(wire, number).await;
                assert_eq!(answer.status, 200, "{disowned:?}: {}", answer.body_text());
                assert_eq!(
                    answer.header("x-used-provider"),
                    Some("one"),
                    "{disowned:?} {wire:?} {number}: {:?}",
                    answer.headers
                );
            }
            assert_eq!((pair.first.count(), pair.second.count()), (4, 0), "{disowned:?}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_disowns_everything_is_left() {
    // 13 is HTTP_1_1_REQUIRED, 11 in a GOAWAY is ENHANCE_YOUR_CALM.
    for disowned in [
        Twist::GoAway(0),
        Twist::GoAway(11),
        Twist::StreamReset(7),
        Twist::StreamReset(13),
        Twist::StreamReset(11),
    ] {
        let first = Provider::start(Reply::ok().at(Place::BeforeHead, disowned.clone())).await.unwrap();
        let pair = Pair::open(Api::Chat, BOTH, first, Reply::says(RESCUER), FORGETFUL).await;
        for number in 0..10 {
            let answer = pair.chat_over(BOTH, number).await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, RESCUER),
                "{disowned:?}: {:?}",
                answer.headers
            );
        }
        assert!(pair.first.count() >= 10, "{disowned:?}");
    }
}

#[tokio::test]
async fn what_is_disowned_is_sent_twice_and_no_more() {
    for disowned in [Twist::GoAway(0), Twist::StreamReset(7)] {
        let first = Provider::start(Reply::ok().at(Place::BeforeHead, disowned.clone())).await.unwrap();
        let pair = Pair::open(Api::Chat, PROVIDER, first, Reply::says(RESCUER), "").await;
        for _ in 0..6 {
            let answer = pair.chat().await;
            assert_eq!(trail(&answer), ["one/k:reset", "one/k:reset", "two/k:ok"], "{disowned:?}");
        }
        assert_eq!(pair.first.count(), 12, "{disowned:?}: nothing of that counts for the breaker");
        assert!(pair.stage.metric("pointsman_cooldown_remaining_seconds", &["one/"]) < 0.1);
    }
}

/// 11 is ENHANCE_YOUR_CALM.
fn calm() -> Reply {
    Reply::ok().at(Place::BeforeHead, Twist::GoAway(11))
}

#[tokio::test]
async fn who_asks_for_calm_rests_for_ten_seconds_and_others_are_asked() {
    let first = Provider::start(calm()).await.unwrap();
    let pair = Pair::open(Api::Chat, PROVIDER, first, Reply::says(RESCUER), "").await;
    assert_eq!(trail(&pair.chat().await), ["one/k:reset", "two/k:ok"]);
    let left = pair.stage.metric("pointsman_cooldown_remaining_seconds", &["one/"]);
    assert!((5.0..=10.0).contains(&left), "{left}");
    assert_eq!(trail(&pair.chat().await), ["two/k:ok"]);
    assert_eq!(pair.first.count(), 1);
}

#[tokio::test]
async fn who_asks_for_calm_and_is_the_only_one_is_asked_once_more() {
    let only = Provider::start(Script::of([calm(), Reply::says("calmly")]).then(calm())).await.unwrap();
    let mut yaml = "providers:\n".to_owned();
    yaml += &provider("one", "openai", &only.base_url(), KEY_ONE, "http: 2");
    yaml += "routes:\n  chat: {targets: [{provider: one, model: alpha}]}\n";
    let stage = Stage::open(&yaml).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!((answer.text().as_str(), trail(&answer).len()), ("calmly", 2), "{:?}", answer.headers);
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!((answer.status, only.count()), (502, 4), "{}", answer.body_text());
    assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u64>().unwrap() <= 10));
}

#[tokio::test]
async fn who_asks_for_calm_five_times_has_its_breaker_open() {
    let first = Provider::start(calm()).await.unwrap();
    let more = "cooldown: {default: 0s, max: 0s}\n";
    let pair = Pair::open(Api::Chat, PROVIDER, first, Reply::says(RESCUER), more).await;
    for _ in 0..5 {
        assert_eq!(trail(&pair.chat().await), ["one/k:reset", "two/k:ok"]);
    }
    assert!(pair.stage.metric("pointsman_breaker_state", &["one/"]) > 0.9);
    assert_eq!(trail(&pair.chat().await), ["two/k:ok"]);
}

#[tokio::test]
async fn requests_side_by_side_on_one_connection_each_get_their_own_answer() {
    let echo = Script::rule(|seen| Reply::says(format!("number {} as asked", seen.json()["x_number"])));
    let first = Provider::start(Script::round([Reply::status(500), Reply::reset()])).await.unwrap();
    let pair = Pair::open(Api::Chat, BOTH, first, echo, FORGETFUL).await;
    let line = Connection::open_http2(pair.stage.data).await.unwrap();
    let mut running = JoinSet::new();
    for number in 0..40 {
        let line = line.another().unwrap();
        running.spawn(async move {
            let body = Api::Chat.body("chat", number % 2 == 0, 2000 * number, number);
            let (answer, _) = line.send(&Api::Chat.call(body)).await.unwrap();
            assert_eq!(answer.text(), format!("number {number} as asked"), "{:?}", answer.headers);
            assert_eq!(answer.version, HttpVersion::Http2);
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    assert!(pair.second.connections() < 40, "streams share connections: {}", pair.second.connections());
}

/// Opens a route whose first provider is at `base_url` with these further keys.
pub async fn open_tls(base_url: &str, more: &str, second: &Provider) -> Stage {
    let mut yaml = "providers:\n".to_owned();
    yaml += &provider("one", "openai", base_url, KEY_ONE, more);
    yaml += &provider("two", "openai", &second.base_url(), KEY_TWO, "");
    yaml += "routes:\n  chat: {targets: [{provider: one, model: alpha, priority: 1}, {provider: two, model: beta, priority: 2}]}\n";
    Stage::open(&yaml).await
}

#[tokio::test]
async fn a_provider_with_a_certificate_of_our_authority_is_spoken_to() {
    let authority = Authority::new();
    let table: [(&[&str], &str, HttpVersion); 6] = [
        (&["h2", "http/1.1"], "", HttpVersion::Http2),
        (&["http/1.1"], "", HttpVersion::Http11),
        (&[], "", HttpVersion::Http11),
        (&["h2", "http/1.1"], ", http: 1", HttpVersion::Http11),
        (&["h2", "http/1.1"], ", http: 2", HttpVersion::Http2),
        (&["h2"], "", HttpVersion::Http2),
    ];
    for name in ["localhost", "127.0.0.1"] {
        let papers = authority.papers(name, false);
        for (protocols, http, version) in table {
            let first = papers.provider(Reply::ok(), protocols).await;
            let second = Provider::start(Reply::says(RESCUER)).await.unwrap();
            let base_url = format!("{}/v1", first.origin_as(name));
            let stage = open_tls(&base_url, &format!("{}{http}", authority.tls()), &second).await;
            for length in [1000, 300_000] {
                for is_streamed in [false, true] {
                    let body = Api::Chat.body("chat", is_streamed, length, 0);
                    let answer = Api::Chat.call(body).send(stage.data).await.unwrap();
                    let what = format!("{name} {protocols:?}{http}: {:?}", answer.headers);
                    assert_eq!(answer.header("x-used-provider"), Some("one"), "{what}");
                    assert_eq!(first.last().unwrap().version, version, "{what}");
                    let port = first.address().port();
                    assert_eq!(
                        first.last().unwrap().header("host"),
                        Some(&*format!("{name}:{port}")),
                        "{what}"
                    );
                }
            }
            assert_eq!(first.connections(), 1, "connections are kept");
        }
    }
}

/// Row 4: never spoken to, never downgraded, rested for a minute at the first sight.
#[tokio::test]
async fn a_certificate_that_does_not_hold_is_left() {
    let authority = Authority::new();
    let strangers = Authority::new();
    let table = [
        ("for another name", authority.papers("elsewhere.example", false), authority.tls()),
        ("expired", authority.papers("localhost", true), authority.tls()),
        ("of another authority", strangers.papers("localhost", false), authority.tls()),
        ("unknown to the system", authority.papers("localhost", false), String::new()),
    ];
    for (what, papers, tls) in table {
        for protocols in [&["h2", "http/1.1"][..], &[]] {
            let first = papers.provider(Reply::ok(), protocols).await;
            let second = Provider::start(Reply::says(RESCUER)).await.unwrap();
            let stage = open_tls(&format!("{}/v1", first.origin_as("localhost")), &tls, &second).await;
            let answer = Call::chat("chat").send(stage.data).await.unwrap();
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, RESCUER),
                "{what}: {:?}",
                answer.headers
            );
            assert_eq!(trail(&answer), ["one/k:tls", "two/k:ok"], "{what}");
            let connections = first.connections();
            for _ in 0..5 {
                let answer = Call::chat_stream("chat").send(stage.data).await.unwrap();
                assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{what}");
            }
            assert_eq!(first.connections(), connections, "{what}: opens at once");
            assert_eq!(first.count(), 0, "{what}: not a byte of the request was sent");
            assert!(stage.metric("pointsman_attempts_total", &["outcome=\"tls\""]) >= 1.0, "{what}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_told_where_nobody_else_is_left() {
    let authority = Authority::new();
    let only = authority.papers("elsewhere.example", false).provider(Reply::ok(), &[]).await;
    let mut yaml = "providers:\n".to_owned();
    let base_url = format!("{}/v1", only.origin_as("localhost"));
    yaml += &provider("one", "openai", &base_url, KEY_ONE, &authority.tls());
    yaml += "routes:\n  chat: {targets: [{provider: one, model: alpha}]}\n";
    let stage = Stage::open(&yaml).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (502, "upstream_tls"),
        "{}",
        answer.body_text()
    );
}

#[tokio::test]
async fn verification_can_be_skipped_on_loopback() {
    let authority = Authority::new();
    let first = authority.papers("elsewhere.example", true).provider(Reply::ok(), &["h2"]).await;
    let second = Provider::start(Reply::says(RESCUER)).await.unwrap();
    let stage = open_tls(&first.base_url(), "tls: {insecure_skip_verify: true}", &second).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!(answer.header("x-used-provider"), Some("one"), "{:?}", answer.headers);
}

fn held(gate: &Gate) -> Reply {
    Reply::ok().hold(Place::BeforeHead, gate)
}

/// How many requests were on each connection.
fn by_connection(provider: &Provider) -> Vec<usize> {
    let mut counts = std::collections::BTreeMap::new();
    provider.seen().iter().for_each(|seen| *counts.entry(seen.connection).or_default() += 1);
    counts.into_values().collect()
}

#[tokio::test]
async fn requests_at_the_same_time_share_a_connection_up_to_32_streams() {
    let authority = Authority::new();
    let papers = authority.papers("localhost", false);
    for (http, protocols) in [("", &["h2", "http/1.1"][..]), (", http: 2", &["h2"])] {
        let first = papers.provider(Reply::ok(), protocols).await;
        let second = Provider::start(Reply::says(RESCUER)).await.unwrap();
        let base_url = format!("{}/v1", first.origin_as("localhost"));
        let stage = open_tls(&base_url, &format!("{}{http}", authority.tls()), &second).await;
        Call::chat("chat").send(stage.data).await.unwrap();
        for (at_once, expected) in [(20, 1..=1), (32, 1..=1), (33, 2..=2)] {
            first.reset();
            let gate = Gate::closed();
            first.set_script(held(&gate));
            let mut running = JoinSet::new();
            let data = stage.data;
            for _ in 0..at_once {
                running.spawn(async move { Call::chat("chat").send(data).await.unwrap().status });
            }
            assert!(first.until(ms(5000), |seen| seen.len() == at_once).await, "{http} {at_once}");
            let counts = by_connection(&first);
            assert!(expected.contains(&counts.len()), "{http} {at_once}: {counts:?}");
            assert!(counts.iter().all(|count| *count <= 32), "{http} {at_once}: {counts:?}");
            gate.open();
            while let Some(status) = running.join_next().await {
                assert_eq!(status.unwrap(), 200);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_stream_and_nobody_elses_connection() {
    let gate = Gate::closed();
    let script = Script::of([Reply::ok(), held(&gate), held(&gate), Reply::ok()]);
    let first = Provider::start(script).await.unwrap();
    let pair = Pair::open(Api::Chat, PROVIDER, first, Reply::says(RESCUER), "").await;
    pair.chat().await;
    let data = pair.stage.data;
    let stays = tokio::spawn(async move { Call::chat("chat").send(data).await.unwrap() });
    assert!(pair.first.until(ms(5000), |seen| seen.len() == 2).await);
    let _ = Call::chat("chat").leaving_after(ms(50)).send(data).await;
    assert!(pair.first.until(ms(5000), |seen| seen.iter().any(Seen::has_client_left)).await);
    let after = pair.chat().await;
    assert_eq!(after.header("x-used-provider"), Some("one"));
    gate.open();
    assert_eq!(stays.await.unwrap().header("x-used-provider"), Some("one"));
    assert_eq!(by_connection(&pair.first), [4], "all on one connection");
}

#[tokio::test]
async fn a_connection_that_was_silent_for_one_gets_no_more_and_keeps_whom_it_has() {
    let gate = Gate::closed();
    let script = Script::of([Reply::ok(), held(&gate), Reply::silence(), Reply::ok()]);
    let first = Provider::start(script).await.unwrap();
    // Not streamed, so that only the short one is given up.
    let more = format!("timeouts: {{first_content: 150ms, response: 60s}}\n{FORGETFUL}");
    let pair = Pair::open(Api::Chat, PROVIDER, first, Reply::says(RESCUER), &more).await;
    pair.chat().await;
    let data = pair.stage.data;
    let stays = tokio::spawn(async move { Call::chat("chat").send(data).await.unwrap() });
    assert!(pair.first.until(ms(5000), |seen| seen.len() == 2).await);
    assert_eq!(trail(&pair.stream().await), ["one/k:timeout_first_content", "two/k:ok"]);
    assert_eq!(pair.chat().await.header("x-used-provider"), Some("one"));
    gate.open();
    assert_eq!(stays.await.unwrap().header("x-used-provider"), Some("one"));
    assert_eq!(by_connection(&pair.first), [3, 1], "the last one on a new connection");
}

/// A stream's window is a 32nd of its connection's.
#[tokio::test]
async fn clients_that_stop_reading_do_not_stop_the_others_on_the_connection() {
    let big = Reply::body(200, "application/json", vec![b' '; 24 << 20]);
    let script = Script::of([Reply::ok(), big]).then(Reply::ok());
    let first = Provider::start(script).await.unwrap();
    let pair = Pair::open(Api::Chat, PROVIDER, first, Reply::says(RESCUER), "").await;
    pair.chat().await;
    let mut idler = tokio::net::TcpStream::connect(pair.stage.data).await.unwrap();
    let body = Api::Chat.body("chat", false, 1000, 1);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    idler.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut begun = [0; 15];
    idler.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200 OK");
    for _ in 0..20 {
        let answer = Call::chat("chat").limit(ms(5000)).send(pair.stage.data).await.unwrap();
        assert_eq!(answer.header("x-used-provider"), Some("one"), "{:?}", answer.headers);
    }
    assert_eq!(by_connection(&pair.first), [22], "all on one connection");
    assert!(pair.first.seen()[1].ended.is_none(), "its client has read nothing but the first line");
}

/// One lost connection is one fault, however many streams were on it: five in a row open a breaker.
#[tokio::test]
async fn a_connection_that_is_lost_with_twenty_streams_opens_no_breaker() {
    let gate = Gate::closed();
    let lost = Reply::ok().at(Place::AfterHead, Twist::Hold(gate.clone())).at(Place::AfterHead, Twist::Close);
    let first = Provider::start(Script::of([Reply::ok()]).then(lost)).await.unwrap();
    // The same model, so that nobody asks the first again.
    let pair = Pair::with_models(Api::Chat, PROVIDER, first, Reply::says(RESCUER), "", "same", "same").await;
    pair.chat().await;
    let data = pair.stage.data;
    let mut running = JoinSet::new();
    for _ in 0..20 {
        running.spawn(async move { Call::chat("chat").send(data).await.unwrap() });
    }
    assert!(pair.first.until(ms(5000), |seen| seen.len() == 21).await);
    gate.open();
    while let Some(answer) = running.join_next().await {
        assert_eq!(answer.unwrap().text(), RESCUER);
    }
    assert_eq!(by_connection(&pair.first)[0], 21, "all on one connection");
    assert!(pair.stage.metric("pointsman_breaker_state", &["one/"]) < 0.1);
    pair.first.set_script(Reply::ok());
    assert_eq!(pair.chat().await.header("x-used-provider"), Some("one"));
}

/// RFC 9113 section 6.8: what a provider says before it is restarted.
#[tokio::test]
async fn a_connection_that_is_to_end_gets_no_new_request_and_ends_those_it_has() {
    let authority = Authority::new();
    let papers = authority.papers("localhost", false);
    let gate = Gate::closed();
    let script = Script::of([Reply::ok(), held(&gate), Reply::ok()]);
    let first = papers.provider(script, &["h2"]).await;
    let second = Provider::start(Reply::says(RESCUER)).await.unwrap();
    let base_url = format!("{}/v1", first.origin_as("localhost"));
    let stage = open_tls(&base_url, &authority.tls(), &second).await;
    Call::chat("chat").send(stage.data).await.unwrap();
    let data = stage.data;
    let stays = tokio::spawn(async move { Call::chat("chat").send(data).await.unwrap() });
    assert!(first.until(ms(5000), |seen| seen.len() == 2).await);
    first.say_farewell();
    for _ in 0..5 {
        let answer = Call::chat("chat").send(data).await.unwrap();
        assert_eq!(trail(&answer), ["one/k:ok"]);
    }
    gate.open();
    assert_eq!(trail(&stays.await.unwrap()), ["one/k:ok"]);
    assert_eq!(first.connections(), 2);
}
