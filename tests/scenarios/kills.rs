//! A provider's process is killed in the middle of its streams.
//!
//! Unlike a scripted close this is what a crash looks like to the proxy: the kernel closes every
//! socket at whatever byte the process had come to, heads, events and frames cut anywhere. Eight
//! clients stream at a time: chat and messages, over HTTP/1.1 and h2c, with another target and
//! without one. The killed provider speaks HTTP/1.1 and HTTP/2 by turns, the other target goes on
//! from the text so far and begins anew by turns.
//!
//! A stream counts when it was cut after its first content: where it was taken up by the other
//! target, its answer is whole; where nobody could, it holds a part of the text, the error event of
//! the dialect, no end marker, and its body does not end properly. Streams that were over before
//! the kill, or had no content yet (one round in five is killed that early), count nothing, but are
//! judged as well. The breaker is off here: a target that dies a hundred times would rest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use pointsman::standin::caller::{Answer, BodyEnd, Call};
use pointsman::standin::{HttpVersion, Provider, Reply, SIXTY_WORDS};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::child::{self, PACE, Port};
use crate::process::Process;

/// Streams that must be cut at each version of HTTP.
const FULL: usize = 500;
const SHORT: usize = 10;
/// Rounds at most for so many: most streams of a round are cut.
const ROUNDS_A_STREAM: usize = 2;
/// Longest time from the kill to the end of an answer.
const END: Duration = Duration::from_secs(10);
const SEED: u64 = 20;

/// What came of a stream, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It had no content yet: another target answered, or the request was refused.
    Early,
    /// It was over before.
    Over,
    /// Another target took it up.
    TakenUp,
    /// It broke off and said so.
    BrokeOff,
}

/// One client of a round.
#[derive(Clone, Copy, Debug)]
struct Client {
    is_http2: bool,
    is_chat: bool,
    has_other: bool,
}

/// What stays the same for all clients of a round.
#[derive(Clone, Copy, Debug)]
struct Round {
    upstream: HttpVersion,
    /// Whether the other target goes on from the text so far.
    goes_on: bool,
    /// Whether the kill does not wait for content.
    is_early: bool,
}

/// Kills until enough streams were cut; tells whether none was sold as whole.
pub async fn play(is_full: bool) -> bool {
    let wanted = if is_full { FULL } else { SHORT };
    let port = Port::take();
    let spare = Provider::start(Reply::says(SIXTY_WORDS)).await.expect("a provider starts");
    let proxy = Process::start_h2c(&configuration(&port, &spare), &[]).await;
    let mut dice = StdRng::seed_from_u64(SEED);
    let mut fates: BTreeMap<(&'static str, Fate), usize> = BTreeMap::new();
    let mut complaints = Vec::new();
    let mut kills = 0;
    for number in 0..wanted * ROUNDS_A_STREAM {
        let upstream = if number % 2 == 0 { HttpVersion::Http11 } else { HttpVersion::Http2 };
        let is_done = |version| cut(&fates, version) >= wanted;
        if is_done(HttpVersion::Http11) && is_done(HttpVersion::Http2) {
            break;
        }
        if is_done(upstream) {
            continue;
        }
        let round = Round { upstream, goes_on: number % 4 < 2, is_early: number % 5 == 4 };
        kills += 1;
        for (client, told) in kill(round, &port, proxy.data, &mut dice).await {
            match told {
                Ok(fate) => *fates.entry((word(upstream), fate)).or_default() += 1,
                Err(why) => complaints.push(format!("{round:?} {client:?}: {why}")),
            }
        }
        if complaints.len() > 20 {
            break;
        }
    }
    // A provider that dies has said nothing that would rest it for longer than it is dead.
    let rests = proxy.lines_of("target_state");
    complaints.extend(rests.iter().take(3).map(|line| format!("a target rests: {line}")));
    let is_enough = [HttpVersion::Http11, HttpVersion::Http2].iter().all(|v| cut(&fates, *v) >= wanted);
    print(&fates, kills, &complaints);
    if !complaints.is_empty() {
        proxy.last_lines(20).iter().for_each(|line| println!("{line}"));
    }
    is_enough && complaints.is_empty()
}

fn word(version: HttpVersion) -> &'static str {
    match version {
        HttpVersion::Http10 | HttpVersion::Http11 => "HTTP/1.1",
        HttpVersion::Http2 => "HTTP/2",
    }
}

fn cut(fates: &BTreeMap<(&'static str, Fate), usize>, version: HttpVersion) -> usize {
    let of = |fate| fates.get(&(word(version), fate)).copied().unwrap_or(0);
    of(Fate::TakenUp) + of(Fate::BrokeOff)
}

fn print(fates: &BTreeMap<(&'static str, Fate), usize>, kills: usize, complaints: &[String]) {
    println!(
        "{:<10} {:>6} {:>9} {:>10} {:>6} {:>6}",
        "provider", "cut", "taken up", "broke off", "early", "over"
    );
    for version in [HttpVersion::Http11, HttpVersion::Http2] {
        let of = |fate| fates.get(&(word(version), fate)).copied().unwrap_or(0);
        println!(
            "{:<10} {:>6} {:>9} {:>10} {:>6} {:>6}",
            word(version),
            cut(fates, version),
            of(Fate::TakenUp),
            of(Fate::BrokeOff),
            of(Fate::Early),
            of(Fate::Over)
        );
    }
    println!("{kills} kills, {} streams ended badly", complaints.len());
    for complaint in complaints {
        println!("  {complaint}");
    }
}

/// Routes are called by dialect (`c`, `m`), version of the provider (`1`, `2`), and the other
/// target: `p` goes on, `r` begins anew, `x` is none.
fn configuration(port: &Port, spare: &Provider) -> String {
    let mut text = String::from(
        "retry: {budget_min_per_second: 1000}\nbreaker: {enabled: false}\ncooldown: {default: 0s}\nproviders:\n",
    );
    let mut routes = String::from("routes:\n");
    for (dialect, kind, path) in [("c", "openai", "/v1"), ("m", "anthropic", "")] {
        for http in ["1", "2"] {
            let _ = writeln!(
                text,
                "  {dialect}{http}: {{kind: {kind}, base_url: \"http://127.0.0.1:{}{path}\", http: {http}}}",
                port.number
            );
            for (letter, other) in [("p", "goes-on"), ("r", "anew"), ("x", "")] {
                let mut targets = format!("{{provider: {dialect}{http}, model: dies, priority: 1}}");
                if !other.is_empty() {
                    let _ = write!(targets, ", {{provider: {dialect}, model: {other}, priority: 2}}");
                }
                let _ = writeln!(routes, "  {dialect}{http}{letter}: {{targets: [{targets}]}}");
            }
        }
        let _ = writeln!(
            text,
            "  {dialect}: {{kind: {kind}, base_url: \"{}{path}\", models: {{goes-on: {{continues: prefill}}, anew: {{continues: none}}}}}}",
            spare.origin()
        );
    }
    text + &routes
}

impl Client {
    fn all() -> impl Iterator<Item = Client> {
        (0..8).map(|at| Client { is_http2: at & 1 == 0, is_chat: at & 2 == 0, has_other: at & 4 == 0 })
    }

    fn call(self, round: Round) -> Call {
        let http = if round.upstream == HttpVersion::Http2 { "2" } else { "1" };
        let other = match (self.has_other, round.goes_on) {
            (true, true) => "p",
            (true, false) => "r",
            (false, _) => "x",
        };
        let dialect = if self.is_chat { "c" } else { "m" };
        let route = format!("{dialect}{http}{other}");
        let call = if self.is_chat { Call::chat_stream(&route) } else { Call::message(&route, true) };
        if self.is_http2 { call.http2() } else { call }
    }

    /// Streams an answer to its end, and says when its content begins.
    async fn stream(
        self,
        round: Round,
        proxy: SocketAddr,
        begun: mpsc::UnboundedSender<()>,
    ) -> Result<Fate, String> {
        let call = self.call(round);
        let mut talk = call.begin(proxy).await.map_err(|fault| format!("no connection: {fault}"))?;
        let status = talk.head().await.map_err(|fault| format!("no head: {fault}"))?;
        while status == 200 && talk.so_far().ttfc.is_none() && matches!(talk.next().await, Ok(Some(_))) {}
        // Nobody listens in a round that is killed early.
        let _ = begun.send(());
        let (answer, _) = talk.finish(&call).await;
        judge(self, round, &answer)
    }
}

/// Starts the provider, lets eight clients stream, kills it at some moment, and judges.
async fn kill(
    round: Round,
    port: &Port,
    proxy: SocketAddr,
    dice: &mut StdRng,
) -> Vec<(Client, Result<Fate, String>)> {
    let mut provider = child::start(port).await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let streams: Vec<_> = Client::all()
        .map(|client| (client, tokio::spawn(client.stream(round, proxy, begun.clone()))))
        .collect();
    if round.is_early {
        tokio::time::sleep(Duration::from_micros(dice.gen_range(0..8_000))).await;
    } else {
        for _ in &streams {
            // A stream that never begins is found below.
            let _ = timeout(END, begins.recv()).await;
        }
        // Anywhere in the answer, its last events and what follows them too.
        tokio::time::sleep(PACE * dice.gen_range(0..90)).await;
    }
    let _ = provider.kill().await;
    let mut told = Vec::new();
    for (client, stream) in streams {
        let fate = match timeout(END, stream).await {
            Ok(Ok(fate)) => fate,
            Ok(Err(fault)) => Err(format!("the client failed: {fault}")),
            Err(_) => Err(format!("no end within {END:?} of the kill")),
        };
        told.push((client, fate));
    }
    told
}

fn judge(client: Client, round: Round, answer: &Answer) -> Result<Fate, String> {
    let text = answer.text();
    let say = |what: &str| {
        let body = answer.body_text();
        let tail = body.char_indices().nth_back(300).map_or(0, |(at, _)| at);
        Err(format!("{what}: status {}, ended {:?}, … {:?}", answer.status, answer.end, body.get(tail..)))
    };
    if answer.status != 200 {
        let is_clean = answer.end == BodyEnd::Clean && !answer.error_code().is_empty();
        let may_refuse = round.is_early && !client.has_other && answer.status >= 500;
        return if may_refuse && is_clean { Ok(Fate::Early) } else { say("refused") };
    }
    let is_whole = text == SIXTY_WORDS;
    if answer.end == BodyEnd::Clean || answer.has_end_marker() {
        if !is_whole {
            return say("a part sold as whole");
        }
        if answer.end != BodyEnd::Clean || !answer.has_end_marker() || answer.error().is_some() {
            return say("neither whole nor broken off");
        }
        let is_taken_up = answer.body_text().contains(": pointsman: ");
        return Ok(match answer.header("x-used-fallback") {
            _ if is_taken_up => Fate::TakenUp,
            Some("true") => Fate::Early,
            Some(_) | None => Fate::Over,
        });
    }
    if client.has_other {
        return say("nobody took it up");
    }
    if answer.error_code().is_empty() {
        return say("broke off without an error event");
    }
    if !SIXTY_WORDS.starts_with(&text) {
        return say("broke off with another text");
    }
    let is_reset = matches!(&answer.end, BodyEnd::Cut(why) if why.contains("stream error"));
    if client.is_http2 && !is_reset {
        return say("broke off without RST_STREAM");
    }
    Ok(Fate::BrokeOff)
}
