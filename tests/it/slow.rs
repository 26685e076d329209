//! How long does the proxy wait for a client that hardly moves?
//!
//! Threat C7: heads and bodies that drip, answers that nobody reads. The pace here is a fiftieth of
//! the usual one; `Pace::default` has a test of its own.

use crate::scene::{KEY_ONE, KEY_TWO, provider, trail};
use crate::stage::{Stage, eventually, plan};
use pointsman::proxy::Pace;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Gate, Place, Provider, Reply, Script};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PACE: Pace = Pace {
    head: Duration::from_millis(200),
    body: Duration::from_millis(1200),
    grace: Duration::from_millis(200),
    rate: 50 * 1024,
    write: Duration::from_millis(300),
};

async fn scene(reply: Reply) -> (Stage, Provider) {
    let standin = Provider::start(reply).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\ndefault_route: chat\n",
        provider("one", "openai", &standin.base_url(), KEY_ONE, "")
    );
    (Stage::paced(plan(&yaml), PACE).await, standin)
}

/// Sends `start` and then `piece` every 20 ms; returns what was answered and when it was over.
async fn drip(stage: &Stage, start: &str, piece: &[u8]) -> (String, Duration) {
    let stream = TcpStream::connect(stage.data).await.unwrap();
    let (mut reads, mut writes) = stream.into_split();
    let began = Instant::now();
    writes.write_all(start.as_bytes()).await.unwrap();
    let piece = piece.to_vec();
    let dripping = tokio::spawn(async move {
        while writes.write_all(&piece).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut said = Vec::new();
    let mut some = [0; 1024];
    while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_secs(10), async {
        reads.read(&mut some).await.inspect(|count| said.extend_from_slice(&some[..*count]))
    })
    .await
    {}
    dripping.abort();
    (String::from_utf8_lossy(&said).into_owned(), began.elapsed())
}

#[tokio::test]
async fn a_head_that_drips_is_given_up_as_a_whole() {
    let (stage, standin) = scene(Reply::ok()).await;
    let (said, span) = drip(&stage, "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n", b"x: y\r\n").await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(span >= PACE.head && span < Duration::from_secs(5), "{span:?}");
    assert_eq!(standin.count(), 0);
}

#[tokio::test]
async fn a_body_that_drips_is_given_up_however_it_is_framed() {
    let (stage, standin) = scene(Reply::ok()).await;
    for (framing, piece) in [("content-length: 100000", "{"), ("transfer-encoding: chunked", "1\r\n{\r\n")] {
        let start = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
        let (said, span) = drip(&stage, &start, piece.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 408"), "{framing}: {said}");
        assert!(span >= PACE.grace && span < Duration::from_secs(1), "{framing}: {span:?}");
    }
    assert_eq!(standin.count(), 0);
}

#[tokio::test]
async fn an_upload_that_drips_through_is_given_up_as_well() {
    let (stage, _standin) = scene(Reply::ok()).await;
    let start = "POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
    let (said, span) = drip(&stage, start, b"{").await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    assert!(span >= PACE.grace && span < Duration::from_secs(5), "{span:?}");
}

/// Its client has sent all it could; what lies between is the provider's.
#[tokio::test]
async fn an_upload_that_its_provider_takes_slowly_is_not_its_clients_fault() {
    const GRACE: Duration = Duration::from_millis(500);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\ndefault_route: chat\n",
        provider("one", "openai", &format!("http://{}/v1", listener.local_addr().unwrap()), KEY_ONE, "")
    );
    // So much that neither socket holds it.
    let length = 16 << 20;
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::time::sleep(GRACE * 4).await;
        let mut some = vec![0; 64 * 1024];
        let mut read = 0;
        while read < length {
            read += socket.read(&mut some).await.unwrap();
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        socket
    });
    // The rate is met by what comes at once; what is left is how long all of it may take.
    let pace = Pace { grace: GRACE, rate: u64::MAX, ..PACE };
    let stage = Stage::paced(plan(&yaml), pace).await;
    let answer = Call::post("/v1/files", vec![b'x'; length]).send(stage.data).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    drop(serving.await.unwrap());
}

#[tokio::test]
async fn a_body_at_its_pace_arrives() {
    let (stage, standin) = scene(Reply::ok()).await;
    let body =
        serde_json::json!({"model": "chat", "messages": [{"role": "user", "content": "x".repeat(40_000)}]});
    let call = Call::json("/v1/chat/completions", &body).paced(4000, Duration::from_millis(40));
    for call in [call.clone(), call.clone().chunked()] {
        assert_eq!(call.send(stage.data).await.unwrap().status, 200);
    }
    assert_eq!(standin.count(), 2);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_and_its_provider_too() {
    let text = "x".repeat(16 << 20);
    for is_streamed in [false, true] {
        let (stage, standin) = scene(Reply::says(text.clone())).await;
        let body = format!("{{\"model\":\"chat\",\"stream\":{is_streamed},\"messages\":[]}}");
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(stage.data).await.unwrap();
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        eventually("the provider was asked", || standin.count() == 1).await;
        let began = Instant::now();
        while stage.house.under_way() > 0 {
            assert!(began.elapsed() < Duration::from_secs(10), "held for ever (streamed: {is_streamed})");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(stage.metric("pointsman_in_flight", &[]) < 0.5, "streamed: {is_streamed}");
    }
}

/// What was announced and never comes holds no share of `limits.replay_memory`.
#[tokio::test]
async fn bodies_that_are_only_announced_keep_nobody_out() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\nlimits: {{max_body: 1MiB, replay_memory: 1MiB}}\n",
        provider("one", "openai", &standin.base_url(), KEY_ONE, "")
    );
    let stage = Stage::open(&yaml).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(stage.data).await.unwrap();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    eventually("all are being read", || stage.house.under_way() == 20).await;
    assert_eq!(Call::chat("chat").send(stage.data).await.unwrap().status, 200);
    drop(held);
}

/// A request that is said in another dialect is there twice.
#[tokio::test]
async fn a_request_in_another_dialect_counts_twice() {
    let gates = [Gate::closed(), Gate::closed()];
    let own = Provider::start(Reply::ok().hold(Place::BeforeHead, &gates[0])).await.unwrap();
    let other = Provider::start(Reply::ok().hold(Place::BeforeHead, &gates[1])).await.unwrap();
    let yaml = format!(
        "providers:\n{}{}routes:
  chat: {{targets: [{{provider: own, model: alpha}}]}}
  told: {{targets: [{{provider: other, model: beta}}]}}
limits: {{max_body: 1MiB, replay_memory: 1MiB}}\n",
        provider("own", "openai", &own.base_url(), KEY_ONE, ""),
        provider("other", "anthropic", &other.base_url(), KEY_TWO, "")
    );
    let stage = Stage::open(&yaml).await;
    let data = stage.data;
    let ask = |route: &str, length: usize| {
        let text = "x".repeat(length);
        Call::post(
            "/v1/chat/completions",
            format!(r#"{{"model":"{route}","messages":[{{"role":"user","content":"{text}"}}]}}"#),
        )
    };
    for (route, standin, fits, gate) in [("chat", &own, 2, &gates[0]), ("told", &other, 1, &gates[1])] {
        let held: Vec<_> = (1..=fits)
            .map(|_| {
                let call = ask(route, 400_000);
                tokio::spawn(async move { call.send(data).await.unwrap().status })
            })
            .collect();
        assert!(standin.until(Duration::from_secs(5), |seen| seen.len() == fits).await);
        assert_eq!(ask(route, 400_000).send(data).await.unwrap().status, 503, "{route}");
        gate.open();
        for one in held {
            assert_eq!(one.await.unwrap(), 200, "{route}");
        }
    }
    assert_eq!(ask("told", 900_000).send(data).await.unwrap().status, 200, "one that alone fills nearly all");
    assert_eq!(stage.house.memory.kept(), 0);
}

/// What is held of answers fills one half of `limits.replay_memory`; beyond it they go on unjudged.
#[tokio::test]
async fn answers_fill_half_of_the_memory_and_the_others_go_on_at_once() {
    let gate = Gate::closed();
    // One half of it comes before the gate.
    let text = "word ".repeat(120_000);
    let standin = Provider::start(Reply::says(text.clone()).hold(Place::BeforeEnd, &gate)).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\nlimits: {{max_body: 1MiB, replay_memory: 1MiB}}\n",
        provider("one", "openai", &standin.base_url(), KEY_ONE, "")
    );
    let stage = Stage::open(&yaml).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(stage.data).await.unwrap();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
        let body = "{\"model\":\"chat\",\"messages\":[]}";
        let call = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(call.as_bytes()).await.unwrap();
        clients.push((stream, Vec::new()));
    }
    let mut some = vec![0; 1 << 16];
    eventually("all but one have begun", || {
        for (stream, said) in &mut clients {
            while let Ok(count @ 1..) = stream.try_read(&mut some) {
                said.extend_from_slice(&some[..count]);
            }
        }
        clients.iter().filter(|(_, said)| said.len() > 200_000).count() == 3
    })
    .await;
    assert_eq!(clients.iter().filter(|(_, said)| said.is_empty()).count(), 1, "one is held");
    let kept = stage.house.memory.kept();
    assert!((200_000..=512 << 10).contains(&kept), "{kept} bytes are kept");
    gate.open();
    for (mut stream, mut said) in clients {
        stream.read_to_end(&mut said).await.unwrap();
        assert!(said.starts_with(b"HTTP/1.1 200") && said.len() > text.len());
    }
    eventually("all is given back", || stage.house.memory.kept() == 0).await;
}

async fn in_another_dialect(script: impl Into<Script>) -> (Stage, Provider) {
    let standin = Provider::start(script).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\nlimits: {{max_body: 1MiB, replay_memory: 1MiB}}\nbreaker: {{consecutive_failures: 1}}\n",
        provider("one", "anthropic", &standin.origin(), KEY_ONE, "")
    );
    (Stage::open(&yaml).await, standin)
}

fn assert_no_room(answer: &Answer, stage: &Stage) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body_text());
    assert!(answer.body_text().contains("limits.replay_memory"), "{}", answer.body_text());
    assert_eq!(trail(answer), ["one/k:called_off"]);
    assert!(stage.metric("pointsman_attempts_total", &["outcome=\"timeout"]) < 0.5);
}

/// An answer that is translated must be had whole. That there is no room for it is our own shortage.
#[tokio::test]
async fn an_answer_that_never_fits_is_refused_at_once_and_held_against_nobody() {
    let (stage, standin) = in_another_dialect(Reply::says("word ".repeat(120_000))).await;
    for asked in 1..=3 {
        let began = Instant::now();
        assert_no_room(&Call::chat("chat").send(stage.data).await.unwrap(), &stage);
        assert!(began.elapsed() < Duration::from_secs(5), "it waited for what cannot come");
        assert_eq!(standin.count(), asked, "neither rest nor breaker keeps the next one out");
    }
    standin.set_script(Reply::says("short"));
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "short"));
    eventually("all is given back", || stage.house.memory.kept() == 0).await;
}

#[tokio::test]
async fn an_answer_that_waited_for_room_in_vain_is_held_against_nobody() {
    let gate = Gate::closed();
    let long = "word ".repeat(100_000);
    let held = Reply::says(long.clone()).hold(Place::BeforeEnd, &gate);
    let (stage, standin) = in_another_dialect(Script::of([held]).then(Reply::says(long.clone()))).await;
    let data = stage.data;
    let first = tokio::spawn(async move { Call::chat("chat").send(data).await.unwrap() });
    eventually("one half of the first is held", || stage.house.memory.kept() > 200_000).await;
    let hurried = Call::chat("chat").header("x-request-timeout-ms", "1000");
    assert_no_room(&hurried.send(data).await.unwrap(), &stage);
    gate.open();
    assert_eq!((first.await.unwrap().text(), standin.count()), (long.clone(), 2));
    let answer = Call::chat("chat").send(data).await.unwrap();
    assert_eq!((answer.status, answer.text(), standin.count()), (200, long, 3));
}
