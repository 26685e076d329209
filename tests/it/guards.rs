//! What is refused before it costs anything: names that lead inside, guessed keys, handshakes that do
//! not end, old TLS, answers that unpack to more than any.

use crate::process::{self, Process, Program, eventually, openai};
use crate::scene::{Api, FORGETFUL, KEY_ONE, Pair, RESCUER, Wire, provider, trail};
use crate::stage::Stage;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use pointsman::standin::caller::{self, BodyEnd, Call, Connection};
use pointsman::standin::{Certificate, Gate, Place, Provider, Reply};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use std::io::Write;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const RIGHT: &str = "pm-laptop-0123456789";
const MIB: usize = 1024 * 1024;

/// A certificate for `localhost` that nobody signed.
fn papers() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

// ---- addresses inside ------------------------------------------------------------------------------

/// The resolver reads `127.1` as an address and we do not: a name that stands for one inside.
fn inside(standin: &Provider) -> String {
    format!("//127.1:{}/v1", standin.address().port())
}

fn two(first_url: &str, more: &str, second: &Provider) -> String {
    format!(
        "providers:
  one: {{kind: openai, base_url: \"{first_url}\"{more}}}
  two: {{kind: openai, base_url: \"{}\"}}
routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}
",
        second.base_url()
    )
}

#[tokio::test]
async fn a_name_that_leads_inside_gets_no_connection_and_the_next_target_answers() {
    let one = Provider::start(Reply::says("inside")).await.unwrap();
    let two_ = Provider::start(Reply::says("outside")).await.unwrap();
    let plain = ", allow_plaintext: true";
    for (scheme, more, want) in [
        ("https", "", "one/default:dns"),
        ("http", ", allow_plaintext: true, deny_private_ips: true", "one/default:dns"),
        ("http", plain, "one/default:ok"),
        ("http", ", allow_plaintext: true, deny_private_ips: false", "one/default:ok"),
        // What speaks no TLS there is met, and found to speak none.
        ("https", ", deny_private_ips: false", "one/default:tls"),
    ] {
        let before = one.connections();
        let stage = Stage::open(&two(&format!("{scheme}:{}", inside(&one)), more, &two_)).await;
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{scheme}{more}: {}", answer.body_text());
        assert_eq!(trail(&answer)[0], want, "{scheme}{more}");
        assert_eq!(one.connections() > before, want != "one/default:dns", "{scheme}{more}");
    }
}

#[tokio::test]
async fn a_reload_that_lets_a_name_lead_inside_holds_at_once_and_back() {
    let one = Provider::start(Reply::says("inside")).await.unwrap();
    let two_ = Provider::start(Reply::says("outside")).await.unwrap();
    let url = format!("http:{}", inside(&one));
    let yaml = |denies: bool| {
        let more = format!(", allow_plaintext: true, deny_private_ips: {denies}");
        // Without rests, so that each request meets the first target.
        format!("{}cooldown: {{default: 0s}}\nbreaker: {{enabled: false}}\n", two(&url, &more, &two_))
    };
    let stage = Stage::open(&yaml(false)).await;
    for (denies, want) in [(false, "inside"), (true, "outside"), (false, "inside")] {
        stage.swap(&yaml(denies));
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!(answer.text(), want, "{denies}: {:?}", trail(&answer));
        // The rest of a name that did not resolve ends with the process only.
        stage.house.live().slots.iter().for_each(|slot| slot.reset());
    }
}

#[tokio::test]
async fn an_operator_is_told_what_to_do_about_a_name_that_leads_inside() {
    let one = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "{}providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: m}}]}}}}\n",
        process::HEAD,
        openai("one", &format!("https:{}", inside(&one)), "KEY")
    );
    let process = Program::new(&yaml).env("KEY", "sk-0123456789").start().await;
    let answer = Call::chat("chat").send(process.data).await.unwrap();
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_unreachable"));
    let id = answer.header("x-request-id").unwrap().to_owned();
    let admin = process.admin.to_string();
    let remedy = "deny_private_ips: false";
    eventually("the log says so", async || process.said().contains(remedy)).await;
    let program = &process.program;
    for (verb, words) in [
        (&["status", "--admin", &admin][..], remedy),
        (&["why", &id, "--admin", &admin], "resolves to inner addresses only: deny_private_ips"),
        (&["check", "-c", "CONFIG", "--probe"], remedy),
    ] {
        let (_, said) = program.verb(verb).await;
        assert!(said.contains(words), "{verb:?}: {said}");
    }
    assert_eq!(one.connections(), 0);
}

/// A login's secret goes to a token service: its name leads nowhere else than a provider's.
#[tokio::test]
async fn a_token_service_whose_name_leads_inside_gets_no_connection() {
    let one = Provider::start(Reply::ok()).await.unwrap();
    let service = Provider::start(Reply::ok()).await.unwrap();
    for (more, is_met) in [("", false), (", deny_private_ips: false", true)] {
        let port = service.address().port();
        let login = format!(
            "oauth: {{token_url: \"https://127.1:{port}/token\", client_id: app, refresh_token: refresh-0}}"
        );
        let stage = Stage::open(&crate::tokens::one(&one.base_url(), &login, more)).await;
        assert!(Call::chat("chat").send(stage.data).await.unwrap().status >= 500);
        assert_eq!(service.connections() > 0, is_met, "{more}");
    }
    assert_eq!(one.count(), 0);
}

// ---- keys that are guessed -------------------------------------------------------------------------

async fn with_clients(limits: &str) -> (Process, Provider) {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "{}clients: [{{name: laptop, key: {{env: RIGHT}}}}]\nproviders:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n{limits}",
        process::HEAD,
        openai("one", &standin.base_url(), "KEY"),
    );
    let program = Program::new(&yaml).env("KEY", "sk-0123456789").env("RIGHT", RIGHT);
    (program.start().await, standin)
}

async fn wrong(process: &Process) -> u16 {
    Call::chat("chat").bearer("pm-wrong").send(process.data).await.unwrap().status
}

#[tokio::test]
async fn wrong_keys_of_one_address_are_slowed_down_and_a_right_one_never() {
    let (process, standin) = with_clients("limits: {wrong_keys_per_minute: 3}\n").await;
    for _ in 0..3 {
        assert_eq!(wrong(&process).await, 401);
    }
    let calls = [
        Call::chat("chat").bearer("pm-wrong-4"),
        Call::message("chat", false).header("x-api-key", "pm-wrong-5"),
        Call::post("/v1beta/models/chat:generateContent", "{}").header("x-goog-api-key", "pm-wrong-6"),
    ];
    for (call, shape) in calls.iter().zip(["/error/code", "/error/type", "/error/status"]) {
        let began = Instant::now();
        let answer = call.send(process.data).await.unwrap();
        assert_eq!(answer.status, 429, "{}", answer.body_text());
        assert!(began.elapsed() >= Duration::from_millis(900), "it takes the time of who guesses");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(answer.json().pointer(shape).is_some(), "{}", answer.body_text());
        assert!(!answer.body_text().contains("pm-wrong"), "{}", answer.body_text());
    }
    // A neighbour behind the same address.
    let began = Instant::now();
    for _ in 0..5 {
        let answer = Call::chat("chat").bearer(RIGHT).send(process.data).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "and is not slowed down");
    assert_eq!(Call::chat("chat").send(process.data).await.unwrap().status, 401, "no key is no guess");
    for (reason, count) in [("wrong_key", 3.0), ("guessing", 3.0), ("no_key", 1.0)] {
        let label = format!("reason=\"{reason}\"");
        let counted = process.metric("pointsman_refused_total", &[&label]).await;
        assert!((counted - count).abs() < 0.5, "{reason}: {counted}");
    }
    assert_eq!(standin.count(), 5);
}

#[tokio::test]
async fn wrong_keys_may_be_without_limit() {
    let (process, _standin) = with_clients("limits: {wrong_keys_per_minute: 0}\n").await;
    for _ in 0..30 {
        assert_eq!(wrong(&process).await, 401);
    }
}

// ---- what a client may ask for --------------------------------------------------------------------

/// Two clients, of which `laptop` has limits.
async fn limited(limits: &str, reply: Reply) -> (Process, Provider) {
    let standin = Provider::start(reply).await.unwrap();
    let program = Program::new(&limited_yaml(limits, &standin));
    let program = program.env("KEY", "sk-0123456789").env("RIGHT", RIGHT).env("OTHER", OTHER);
    (program.start().await, standin)
}

fn limited_yaml(limits: &str, standin: &Provider) -> String {
    format!(
        "{}clients: [{{name: laptop, key: {{env: RIGHT}}, limits: {{{limits}}}}}, {{name: other, key: {{env: OTHER}}}}]\nproviders:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n",
        process::HEAD,
        openai("one", &standin.base_url(), "KEY"),
    )
}

const OTHER: &str = "other-0123456789abcdef";

#[tokio::test]
async fn a_client_makes_so_many_requests_a_minute_and_others_are_not_kept_out() {
    let (process, standin) = limited("rpm: 3", Reply::ok()).await;
    let data = process.data;
    for _ in 0..5 {
        let list = Call::get("/v1/models").bearer(RIGHT).send(data).await.unwrap();
        assert_eq!(list.status, 200, "a list is no call");
    }
    for _ in 0..3 {
        assert_eq!(Call::chat("chat").bearer(RIGHT).send(data).await.unwrap().status, 200);
    }
    let calls = [
        Call::chat("chat").bearer(RIGHT),
        Call::message("chat", false).header("x-api-key", RIGHT),
        Call::post("/v1beta/models/chat:generateContent", "{}").header("x-goog-api-key", RIGHT),
    ];
    for (call, shape) in calls.iter().zip(["/error/code", "/error/type", "/error/status"]) {
        let answer = call.send(data).await.unwrap();
        assert_eq!(answer.status, 429, "{}", answer.body_text());
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(answer.header("x-should-retry"), Some("true"));
        assert!(answer.json().pointer(shape).is_some(), "{}", answer.body_text());
        assert!(answer.body_text().contains("3 requests a minute"), "{}", answer.body_text());
    }
    for _ in 0..5 {
        assert_eq!(Call::chat("chat").bearer(OTHER).send(data).await.unwrap().status, 200);
    }
    // A reload neither forgets what was counted nor keeps an old limit.
    process.reload(&limited_yaml("rpm: 4", &standin)).await;
    assert_eq!(Call::chat("chat").bearer(RIGHT).send(data).await.unwrap().status, 200);
    assert_eq!(Call::chat("chat").bearer(RIGHT).send(data).await.unwrap().status, 429);
    assert_eq!(standin.count(), 9);
    let refused = process.metric("pointsman_refused_total", &["reason=\"limits\""]).await;
    assert!((refused - 4.0).abs() < 0.5, "{refused}");
}

#[tokio::test]
async fn a_client_uses_so_many_tokens_a_minute() {
    let (process, standin) = limited("tpm: 30", Reply::ok().usage(10, 5)).await;
    let call = Call::chat("chat").bearer(RIGHT);
    for _ in 1..=2 {
        assert_eq!(call.send(process.data).await.unwrap().status, 200, "15 tokens each");
    }
    // They are counted when a request has ended, which is after its answer.
    eventually("the third is refused", async || {
        let answer = call.send(process.data).await.unwrap();
        answer.status == 429 && answer.body_text().contains("30 tokens a minute")
    })
    .await;
    assert!((2..=3).contains(&standin.count()), "{}", standin.count());
}

#[tokio::test]
async fn a_client_makes_so_many_requests_at_a_time() {
    let gate = Gate::closed();
    let (process, standin) = limited("concurrency: 2", Reply::ok().hold(Place::BeforeHead, &gate)).await;
    let data = process.data;
    let call =
        |key: &'static str| async move { Call::chat("chat").bearer(key).send(data).await.unwrap().status };
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(call(RIGHT))).collect();
    assert!(standin.until(Duration::from_secs(5), |seen| seen.len() == 2).await);
    assert_eq!(call(RIGHT).await, 429);
    let other = tokio::spawn(call(OTHER));
    assert!(standin.until(Duration::from_secs(5), |seen| seen.len() == 3).await);
    gate.open();
    for one in held {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(other.await.unwrap(), 200);
    eventually("there is room again", async || call(RIGHT).await == 200).await;
}

// ---- heads -----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_head_of_more_than_a_hundred_fields_is_refused() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "listen: [{{address: \"127.0.0.1:0\", h2c: true}}]\nproviders:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n",
        provider("one", "openai", &standin.base_url(), KEY_ONE, "")
    );
    let stage = Stage::open(&yaml).await;
    let with =
        |fields: usize| (0..fields).fold(Call::chat("chat"), |call, n| call.header(&format!("x-{n}"), "1"));
    for call in [with(110), with(5000), with(110).http2()] {
        let answer = call.send(stage.data).await.unwrap();
        assert_eq!((answer.status, answer.error_code().as_str()), (431, "validation_failed"));
    }
    for call in [with(90), with(90).http2()] {
        assert_eq!(call.send(stage.data).await.unwrap().status, 200);
    }
    assert_eq!(standin.count(), 2);
}

#[tokio::test]
async fn eight_interim_answers_are_borne_and_a_ninth_is_not() {
    // On HTTP/2 the library drops them unseen, and the time until the first content ends a flood.
    for (count, want) in [(8, "one/k:ok"), (9, "one/k:bad_body")] {
        let first = Provider::start(Reply::ok().interims(count)).await.unwrap();
        let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::ok(), FORGETFUL).await;
        let answer = pair.chat().await;
        assert_eq!(answer.status, 200);
        assert_eq!(trail(&answer)[0], want, "{count}");
    }
}

// ---- clocks ----------------------------------------------------------------------------------------

/// Threat K1: one clock is a day off, ours or the provider's, and a rest is as long as it was meant.
#[tokio::test]
async fn a_date_in_retry_after_is_read_by_the_clock_of_who_sent_it() {
    for (date, until) in [
        ("Fri, 01 Jan 2021 00:00:00 GMT", "Fri, 01 Jan 2021 00:00:40 GMT"),
        ("Sun, 01 Jan 2090 00:00:00 GMT", "Sun, 01 Jan 2090 00:00:40 GMT"),
    ] {
        let reply = Reply::status(429).header("date", date).header("retry-after", until);
        let first = Provider::start(reply).await.unwrap();
        let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::ok(), "").await;
        assert_eq!(pair.chat().await.status, 200);
        let house = &pair.stage.house;
        let live = house.live();
        let resting = live.slots[0].health.look(house.clock.tick(), &live.policy).unwrap_err();
        let left = resting.until().unwrap().left(house.clock.tick()).as_secs();
        assert!((35..=40).contains(&left), "{date}: {left} s");
    }
}

// ---- TLS -------------------------------------------------------------------------------------------

async fn over_tls(limits: &str, tls: &str) -> (Process, Provider, String) {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let program = Program::new("");
    let (chain, key) = papers();
    let paths = [program.write("cert.pem", &chain), program.write("key.pem", &key)];
    program.configure(&format!(
        "version: 1\nthreads: 2\nlisten: [{{address: \"127.0.0.1:0\", tls: {{cert: \"{}\", key: \"{}\"{tls}}}}}]\nadmin: {{address: \"127.0.0.1:0\"}}\nproviders:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n{limits}",
        paths[0].display(),
        paths[1].display(),
        openai("one", &standin.base_url(), "KEY"),
    ));
    (program.env("KEY", "sk-0123456789").start().await, standin, chain)
}

async fn is_served_over_tls(process: &Process, root: &str) -> bool {
    let opening = Connection::open_tls(process.data, "localhost", root, &["h2", "http/1.1"]);
    let Ok(Ok(line)) = tokio::time::timeout(Duration::from_secs(5), opening).await else { return false };
    let call = Call::chat("chat").limit(Duration::from_secs(5));
    line.send(&call).await.is_ok_and(|(answer, _)| answer.status == 200)
}

/// Takes connections that say `first` and nothing more.
async fn silent(process: &Process, count: usize, first: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(process.data).await.unwrap();
        stream.write_all(first).await.unwrap();
        held.push(stream);
    }
    held
}

#[tokio::test]
async fn who_is_still_in_a_handshake_counts_and_has_ten_seconds() {
    let (process, _standin, root) = over_tls("limits: {connections_per_address: 3}\n", "").await;
    eventually("it serves", async || is_served_over_tls(&process, &root).await).await;
    let mut held = Vec::new();
    let mut began = Instant::now();
    // Who asked before may still be leaving.
    eventually("three are there", async || {
        held.clear();
        began = Instant::now();
        held = silent(&process, 3, b"\x16\x03\x01\x02\x00").await;
        !is_served_over_tls(&process, &root).await
    })
    .await;
    // Nothing that trickles in makes the ten seconds longer.
    for stream in &mut held {
        let _ = stream.write_all(b"\x01").await;
        // To its end, whatever is said before, and be it a reset.
        let mut said = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
        assert!(closed.is_ok(), "it is given up");
    }
    let span = began.elapsed();
    assert!(span >= Duration::from_secs(9) && span < Duration::from_secs(18), "{span:?}");
    eventually("room again", async || is_served_over_tls(&process, &root).await).await;
    let counted = async || process.metric("pointsman_refused_total", &["reason=\"handshake\""]).await;
    eventually("each is counted", async || counted().await >= 3.0).await;
    assert!(!process.said().to_lowercase().contains("handshake"), "and not told: {}", process.said());
}

#[tokio::test]
async fn the_look_of_a_process_at_its_own_tls_listener_is_no_handshake_that_failed() {
    let (process, _standin, _root) = over_tls("", "").await;
    // Who says nothing and leaves is one, and comes after the process's own look.
    drop(tokio::net::TcpStream::connect(process.data).await.unwrap());
    let count = async || process.metric("pointsman_refused_total", &["reason=\"handshake\""]).await;
    eventually("it is counted", async || count().await > 0.0).await;
    assert!(count().await < 2.0, "{}", count().await);
}

/// Writes what listens with TLS on two addresses, in this order, each with its pair.
fn on_two(process: &Program, order: [(u8, &str, &str); 2], standin: &Provider) {
    let entry = |(host, pair, more): &(u8, &str, &str)| {
        let path = |what: &str| process.path(&format!("{pair}-{what}.pem")).display().to_string();
        format!(
            "  - {{address: \"127.0.0.{host}:0\", tls: {{cert: \"{}\", key: \"{}\"{more}}}}}\n",
            path("cert"),
            path("key")
        )
    };
    process.configure(&format!(
        "version: 1\nthreads: 2\nlisten:\n{}admin: {{address: \"127.0.0.1:0\"}}\nlog: {{format: json}}\nproviders:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n",
        order.iter().map(entry).collect::<String>(),
        openai("one", &standin.base_url(), "KEY"),
    ));
}

/// Tells whether a client that knows TLS 1.2 and nothing newer is spoken to.
async fn speaks_tls12(address: std::net::SocketAddr, root: &str) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let mut line = rustls::Stream::new(&mut session, &mut stream);
        // A handshake that came to its end is not an answer yet.
        let asked = line.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        asked.is_ok() && std::io::Read::read(&mut line, &mut [0; 64]).is_ok_and(|length| length > 0)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_reload_gives_each_listener_its_own_certificate_and_version_or_none_a_new_one() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let program = Program::new("");
    let pairs: Vec<(String, String)> = (0..3).map(|_| papers()).collect();
    for (name, (chain, key)) in ["a", "b", "c"].iter().zip(&pairs) {
        program.write(&format!("{name}-cert.pem"), chain);
        program.write(&format!("{name}-key.pem"), key);
    }
    on_two(&program, [(1, "a", ""), (2, "b", "")], &standin);
    let process = program.env("KEY", "sk-0123456789").start().await;
    let first = process.data;
    let trusts =
        async |at: usize| Connection::open_tls(first, "localhost", &pairs[at].0, &["http/1.1"]).await.is_ok();
    eventually("it serves", async || trusts(0).await).await;
    let takes_tls12 = async |at: usize| speaks_tls12(first, &pairs[at].0).await;
    assert!(takes_tls12(0).await);
    // The other one stands in front now, and has a new pair; so has the first, and another version.
    on_two(&process.program, [(2, "b", ""), (1, "c", ", min_version: \"1.3\"")], &standin);
    assert_eq!(process.hang_up().await.ok, 1);
    assert!(trusts(2).await && !trusts(1).await && !trusts(0).await);
    assert!(!takes_tls12(2).await);
    // The same files hold another pair, which is told without it.
    process.program.write("b-cert.pem", &pairs[0].0);
    process.program.write("b-key.pem", &pairs[0].1);
    let told = process.post("/v1/reload", &process.token()).await.json();
    let changed: Vec<_> =
        told["changes"].as_array().unwrap().iter().map(|change| change["text"].as_str().unwrap()).collect();
    let want = ["cert", "key"].map(|part| format!("~ listen[127.0.0.2:0].tls.{part}: another value"));
    assert_eq!(changed, want.each_ref().map(String::as_str));
    // One file that cannot be read, and no listener changes.
    process.program.write("b-key.pem", "no key");
    on_two(&process.program, [(1, "a", ""), (2, "b", "")], &standin);
    assert_eq!(process.hang_up().await.error, 1);
    assert!(trusts(2).await && !trusts(0).await);
}

/// A hello of TLS 1.0 or 1.1 as it was: no list of versions, two suites of its time.
fn hello_of(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0x00, 0x2f, 0xc0, 0x13, 1, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

#[tokio::test]
async fn clients_with_tls_1_0_or_1_1_are_refused() {
    let (process, standin, root) = over_tls("", "").await;
    for minor in [1, 2] {
        let said = caller::raw(process.data, &hello_of(minor), Duration::from_secs(5)).await.unwrap();
        // An alert, and none that is a hello.
        assert!(said.is_empty() || said[0] == 21, "1.{}: {said:?}", minor - 1);
    }
    assert!(is_served_over_tls(&process, &root).await);
    assert_eq!(standin.count(), 1);
}

/// A server that answers every hello in TLS 1.0 or 1.1.
async fn old_server(minor: u8) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let mut hello = vec![22, 3, minor, 0, 42, 2, 0, 0, 38, 3, minor];
            hello.extend([9; 32]);
            hello.extend([0, 0xc0, 0x13, 0]);
            let _ = socket.write_all(&hello).await;
            let _ = socket.read(&mut [0; 4096]).await;
        }
    });
    (port, serving)
}

#[tokio::test]
async fn a_provider_that_speaks_tls_1_0_or_1_1_is_left_before_it_gets_a_byte_of_the_request() {
    let second = Provider::start(Reply::says(RESCUER)).await.unwrap();
    for minor in [1, 2] {
        let (port, serving) = old_server(minor).await;
        let stage = Stage::open(&two(&format!("https://127.0.0.1:{port}/v1"), "", &second)).await;
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER));
        assert_eq!(trail(&answer)[0], "one/default:tls", "1.{}", minor - 1);
        serving.abort();
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_verified_is_told_at_the_start_and_shown_for_ever() {
    let (chain, key) = papers();
    let certificate = Certificate { chain_pem: &chain, key_pem: &key, protocols: &[] };
    let standin = Provider::start_tls(Reply::ok(), &certificate).await.unwrap();
    let url = format!("{}/v1", standin.origin_as("localhost"));
    let yaml = |skips: bool| {
        format!(
            "{}providers:\n  one: {{kind: openai, base_url: \"{url}\", tls: {{insecure_skip_verify: {skips}}}}}\nroutes: {{chat: {{targets: [{{provider: one, model: m}}]}}}}\n",
            process::HEAD
        )
    };
    let process = Program::new(&yaml(true)).start().await;
    assert!(process.said().contains("tls.insecure_skip_verify: is on"), "{}", process.said());
    let shown = async || process.metric("pointsman_insecure_tls", &["provider=\"one\""]).await;
    assert!((shown().await - 1.0).abs() < 0.1);
    assert_eq!(Call::chat("chat").send(process.data).await.unwrap().status, 200);
    process.reload(&yaml(false)).await;
    assert!(shown().await.abs() < 0.1, "not any more");
}

// ---- bombs -----------------------------------------------------------------------------------------

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `start`, then so many MiB of blanks, packed.
fn bomb(start: &str, mib: usize) -> Bytes {
    let blanks = gzip(&vec![b' '; MIB]);
    let mut packed = gzip(start.as_bytes());
    (0..mib).for_each(|_| packed.extend_from_slice(&blanks));
    packed.into()
}

fn packed(kind: &str, body: Bytes) -> Reply {
    Reply::body(200, kind, body).header("content-encoding", "gzip")
}

const OPENING: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"one \"},\"finish_reason\":null}]}\n\n";

#[tokio::test]
async fn a_whole_answer_that_unpacks_to_a_bomb_is_a_failed_attempt_and_another_target_answers() {
    for start in ["{\"choices\": [", ""] {
        let first = Provider::start(packed("application/json", bomb(start, 256))).await.unwrap();
        let pair = Pair::open(Api::Chat, Wire::default(), first, Reply::says("two"), FORGETFUL).await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "two"), "{:?}", answer.headers);
        assert_eq!(trail(&answer), ["one/k:bad_body", "two/k:ok"]);
    }
}

#[tokio::test]
async fn a_stream_that_unpacks_to_a_bomb_ends_uncleanly_and_little_of_it_goes_on() {
    let first = Provider::start(packed("text/event-stream", bomb(OPENING, 256))).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\nretry: {{same_target: 0}}\n",
        provider("one", "openai", &first.base_url(), KEY_ONE, "")
    );
    let stage = Stage::open(&yaml).await;
    let answer = Call::chat_stream("chat").send(stage.data).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.error().is_some() || answer.end != BodyEnd::Clean, "{:?}", answer.end);
    assert!(!answer.has_end_marker());
    assert!(answer.body.len() < 2 * MIB, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn bombs_leave_memory_as_it_was() {
    let standin = Provider::start(packed("application/json", bomb("{\"choices\": [", 512))).await.unwrap();
    let yaml = format!(
        "{}providers:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\nretry: {{same_target: 0}}\nbreaker: {{enabled: false}}\n",
        process::HEAD,
        openai("one", &standin.base_url(), "KEY")
    );
    let process = Program::new(&yaml).env("KEY", "sk-0123456789").start().await;
    let before = peak_kib(&process);
    for stream in [false, true] {
        standin.set_script(if stream {
            packed("text/event-stream", bomb(OPENING, 512))
        } else {
            packed("application/json", bomb("{\"choices\": [", 512))
        });
        for _ in 0..4 {
            let call = if stream { Call::chat_stream("chat") } else { Call::chat("chat") };
            let answer = call.limit(process::SOON).send(process.data).await.unwrap();
            assert!(answer.status == 502 || answer.error().is_some() || answer.end != BodyEnd::Clean);
        }
    }
    let grown = peak_kib(&process) - before;
    assert!(grown < 32 * 1024, "{grown} KiB more at most");
}

fn peak_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
