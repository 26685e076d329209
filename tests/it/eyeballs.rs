//! What does a provider with several addresses cost, of which one says nothing?

use crate::scene::{KEY_ONE, KEY_TWO, provider, trail};
use crate::stage::Stage;
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// An address that drops every packet: its backlog is full.
struct BlackHole {
    _listener: TcpListener,
    _fillers: Vec<TcpStream>,
}

impl BlackHole {
    async fn at(address: SocketAddr) -> BlackHole {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(0).unwrap();
        let mut fillers = Vec::new();
        for _ in 0..16 {
            match tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
                Ok(filler) => fillers.push(filler.unwrap()),
                Err(_) => break,
            }
        }
        BlackHole { _listener: listener, _fillers: fillers }
    }
}

/// A provider `one` at 127.0.0.1 under a name with these addresses, and one behind it.
async fn open(first: &Provider, addresses: &str, second: &Provider) -> Stage {
    let mut yaml = "providers:\n".to_owned();
    let base_url = format!("http://provider.localhost:{}/v1", first.address().port());
    yaml += &provider("one", "openai", &base_url, KEY_ONE, &format!("addresses: [{addresses}]"));
    yaml += &provider("two", "openai", &second.base_url(), KEY_TWO, "");
    yaml += "routes:\n  chat: {targets: [{provider: one, model: a, priority: 1}, {provider: two, model: b, priority: 2}]}\n";
    Stage::open(&yaml).await
}

fn other_address(provider: &Provider) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 2], provider.address().port()))
}

async fn pair() -> (Provider, Provider) {
    let first = Provider::start(Reply::says("one")).await.unwrap();
    (first, Provider::start(Reply::says("two")).await.unwrap())
}

#[tokio::test]
async fn an_address_that_says_nothing_costs_a_quarter_of_a_second_and_not_the_whole_limit() {
    let (first, second) = pair().await;
    let hole = BlackHole::at(other_address(&first)).await;
    // Which of the two is first is a matter of turns: with two connections each was, once.
    let stage = open(&first, "\"127.0.0.1\", \"127.0.0.2\"", &second).await;
    let began = Instant::now();
    for _ in 0..2 {
        first.set_script(Reply::says("one").then_close());
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!(trail(&answer), ["one/k:ok"], "{:?}", answer.headers);
    }
    assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
    assert_eq!(first.connections(), 2);
    drop(hole);
}

#[tokio::test]
async fn an_address_that_refuses_is_left_for_the_next_at_once() {
    let (first, second) = pair().await;
    let stage = open(&first, "\"127.0.0.2\", \"127.0.0.1\", \"127.0.0.3\"", &second).await;
    for _ in 0..3 {
        first.set_script(Reply::says("one").then_close());
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!(trail(&answer), ["one/k:ok"], "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn families_are_tried_against_each_other() {
    let (first, second) = pair().await;
    // Nobody listens at the second: refused, or no such family here.
    let stage = open(&first, "\"::1\", \"127.0.0.1\"", &second).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!(trail(&answer), ["one/k:ok"], "{:?}", answer.headers);
}

#[tokio::test]
async fn where_no_address_answers_the_next_target_does() {
    let (first, second) = pair().await;
    let stage = open(&first, "\"127.0.0.2\", \"127.0.0.3\"", &second).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!(trail(&answer), ["one/k:connect", "two/k:ok"], "{:?}", answer.headers);
    assert_eq!(first.connections(), 0);
}

#[tokio::test]
async fn a_kept_connection_serves_whichever_address_has_its_turn() {
    let (first, second) = pair().await;
    // Both lead to the one machine.
    let elsewhere = TcpListener::bind(other_address(&first)).await.unwrap();
    let stage = open(&first, "\"127.0.0.1\", \"127.0.0.2\"", &second).await;
    let twin = Provider::start_on(Reply::says("one"), elsewhere).unwrap();
    for _ in 0..6 {
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!(trail(&answer), ["one/k:ok"]);
    }
    assert_eq!(first.connections() + twin.connections(), 1);
}

/// The kernel asks a silent provider's machine whether it is there.
#[tokio::test]
async fn connections_to_providers_are_kept_an_eye_on_by_the_kernel() {
    let (first, second) = pair().await;
    for addresses in ["\"127.0.0.1\"", "\"127.0.0.2\", \"127.0.0.1\""] {
        let stage = open(&first, addresses, &second).await;
        first.set_script(Reply::says("one"));
        Call::chat("chat").send(stage.data).await.unwrap();
        // Of a line: local and remote address, state (01 is established), queues, timer (02 is keep-alive).
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let port = format!(":{:04X}", first.address().port());
        let ours = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours: Vec<_> = ours.filter(|w| w.len() > 5 && w[2].ends_with(&port) && w[3] == "01").collect();
        assert!(!ours.is_empty(), "{table}");
        assert!(ours.iter().all(|words| words[5].starts_with("02:")), "{ours:?}");
    }
}
