//! Does a failover find a connection that stands?

use crate::http2::open_tls;
use crate::papers::Authority;
use crate::scene::{KEY_ONE, RESCUER, provider, trail};
use crate::stage::Stage;
use pointsman::health::Operation;
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const OPENED: &str = "result=\"opened\"";
const FAILED: &str = "result=\"failed\"";
const USED: &str = "result=\"used\"";

fn warm(stage: &Stage, target: &str, result: &str) -> f64 {
    stage.metric("pointsman_warm_connections_total", &[&format!("target=\"{target}"), result])
}

/// Waits longer than `eventually`: the first look comes after a second, and the next after another.
async fn in_time(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A route over these providers, in this order of priority.
async fn open(providers: &[&Provider], more: &str) -> Stage {
    let mut yaml = "providers:\n".to_owned();
    let mut targets = Vec::new();
    for (at, each) in providers.iter().enumerate() {
        yaml += &provider(&format!("p{at}"), "openai", &each.base_url(), KEY_ONE, "");
        targets.push(format!("{{provider: p{at}, model: m{at}, priority: {}}}", at + 1));
    }
    let _ = write!(yaml, "routes:\n  chat: {{targets: [{}]}}\n{more}", targets.join(", "));
    Stage::open(&yaml).await
}

async fn start(says: &str) -> Provider {
    Provider::start(Reply::says(says)).await.unwrap()
}

#[tokio::test]
async fn the_first_failover_finds_a_connection_that_stands() {
    let authority = Authority::new();
    let papers = authority.papers("localhost", false);
    for protocols in [None, Some(&["http/1.1"][..]), Some(&["h2", "http/1.1"])] {
        let first = start("one").await;
        let second = match protocols {
            None => start(RESCUER).await,
            Some(protocols) => papers.provider(Reply::says(RESCUER), protocols).await,
        };
        let more = if protocols.is_some() { authority.tls() } else { String::new() };
        let base_url = format!("{}/v1", second.origin_as("localhost"));
        // The first of `open_tls` stands behind another here.
        let stage = {
            let mut yaml = "providers:\n".to_owned();
            yaml += &provider("one", "openai", &first.base_url(), KEY_ONE, "");
            yaml += &provider("two", "openai", &base_url, KEY_ONE, &more);
            yaml += "routes:\n  chat: {targets: [{provider: one, model: a, priority: 1}, {provider: two, model: b, priority: 2}]}\n";
            Stage::open(&yaml).await
        };
        assert_eq!(Call::chat("chat").send(stage.data).await.unwrap().text(), "one");
        in_time("a warm connection", || warm(&stage, "two", OPENED) >= 1.0).await;
        assert_eq!((second.connections(), second.count()), (1, 0), "{protocols:?}: open, and nothing asked");
        first.set_script(Reply::status(500));
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!(answer.text(), RESCUER, "{protocols:?}: {:?}", answer.headers);
        assert_eq!(second.connections(), 1, "{protocols:?}: no handshake on the way of a request");
        assert!((warm(&stage, "two", USED) - 1.0).abs() < 0.1, "{protocols:?}");
    }
}

#[tokio::test]
async fn nothing_is_opened_where_it_is_off_or_nobody_asked_or_nobody_is_behind() {
    let (asked, behind) = (start("one").await, start("two").await);
    let off = open(&[&asked, &behind], "pool: {warm: 0}\n").await;
    let alone = open(&[&behind], "").await;
    let unused = open(&[&asked, &behind], "").await;
    Call::chat("chat").send(off.data).await.unwrap();
    // Its route has the one connection of this request, and none ahead.
    Call::chat("chat").send(alone.data).await.unwrap();
    let control = start("control").await;
    let on = open(&[&asked, &control], "").await;
    Call::chat("chat").send(on.data).await.unwrap();
    in_time("the control's", || warm(&on, "p1", OPENED) >= 1.0).await;
    assert_eq!((behind.connections(), behind.count()), (1, 1));
    for stage in [&off, &alone, &unused] {
        assert!(warm(stage, "p", OPENED) < 0.5);
    }
}

#[tokio::test]
async fn a_target_that_is_taken_out_is_passed_over() {
    let providers = [start("0").await, start("1").await, start("2").await];
    let stage = open(&[&providers[0], &providers[1], &providers[2]], "").await;
    let live = stage.house.live();
    let taken_out = live.slots.iter().find(|slot| slot.target.id.as_str().starts_with("p1/")).unwrap();
    taken_out.operate(Operation::Disabled);
    Call::chat("chat").send(stage.data).await.unwrap();
    in_time("the third's", || warm(&stage, "p2", OPENED) >= 1.0).await;
    assert_eq!(providers[1].connections(), 0);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_ahead_is_not_held_to_be_broken() {
    let first = start("one").await;
    let mut second = Provider::refused().unwrap();
    let stage = open(&[&first, &second], "").await;
    Call::chat("chat").send(stage.data).await.unwrap();
    in_time("a failure", || warm(&stage, "p1", FAILED) >= 1.0).await;
    assert!(warm(&stage, "p1", FAILED) < 1.5, "it is left alone for a while");
    assert!(stage.metric("pointsman_breaker_state", &["p1/"]) < 0.1);
    assert!(stage.metric("pointsman_target_available", &["p1/"]) > 0.9);
    second.come_back().unwrap();
    first.set_script(Reply::status(500));
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    let way = trail(&answer);
    assert_eq!(way.last().map(String::as_str), Some("p1/k:ok"), "asked at once when it is needed: {way:?}");
}

#[tokio::test]
async fn a_connection_that_its_server_closed_is_opened_anew() {
    let first = start("one").await;
    let mut second = start("two").await;
    let stage = open(&[&first, &second], "").await;
    Call::chat("chat").send(stage.data).await.unwrap();
    in_time("the first", || second.connections() == 1).await;
    second.go_down().await.unwrap();
    second.come_back().unwrap();
    in_time("the next", || second.connections() >= 2 && warm(&stage, "p1", OPENED) >= 2.0).await;
}

#[tokio::test]
async fn several_are_kept_ready_where_that_is_wanted() {
    let (first, second) = (start("one").await, start("two").await);
    let stage = open(&[&first, &second], "pool: {warm: 3}\n").await;
    Call::chat("chat").send(stage.data).await.unwrap();
    in_time("three", || second.connections() == 3).await;
    assert_eq!(first.connections(), 1, "whoever is in use has its own");
}

/// TLS: the second connection to a server costs no certificate, whoever vouches for it.
#[tokio::test]
async fn a_second_connection_resumes_the_first_ones_session() {
    let authority = Authority::new();
    let papers = authority.papers("localhost", false);
    for protocols in [&["http/1.1"][..], &["h2"]] {
        let mut first = papers.provider(Reply::ok(), protocols).await;
        let second = start(RESCUER).await;
        let base_url = format!("{}/v1", first.origin_as("localhost"));
        let stage = open_tls(&base_url, &authority.tls(), &second).await;
        Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!((first.connections(), first.resumptions()), (1, 0));
        first.go_down().await.unwrap();
        first.come_back().unwrap();
        in_time("an answer of the first again", || first.connections() == 1).await;
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!(answer.header("x-used-provider"), Some("one"), "{protocols:?}: {:?}", answer.headers);
        assert_eq!((first.connections(), first.resumptions()), (2, 1), "{protocols:?}");
    }
}
