//! Every target of a route fails under load, and then one returns.
//!
//! Four targets on two providers, each failing in its own way. What is measured is what clients and
//! providers see:
//!
//! * *contacts*: how many times a provider is called for one client request, over the whole outage.
//!   A proxy that grants every request its tries makes four of one and keeps a struggling provider
//!   down; at most [`CONTACTS`] are borne.
//! * *refusal*: once the breakers are open a refusal costs no provider's time. The 99th percentile
//!   from [`SETTLED`] on is at most [`REFUSAL`].
//! * *back*: from the return of one target to the first answer at most [`BACK`].
//! * *at once*: requests under way at one target, as the provider counts them, once the breakers are
//!   open and whoever was on the way before has gone: one, the probe.
//!
//! Failing answers take [`LATENCY`], or else two probes would seldom meet. The short profile plays
//! every outage side by side, a tenth as long, and bounds contacts and refusals generously.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pointsman::standin::caller::{Answer, BodyEnd, Call, Connection};
use pointsman::standin::{Place, Provider, Reply, Script, Seen, Twist};
use tokio::time::Instant;

use crate::process::Process;

const CONTACTS: f64 = 1.2;
const SETTLED: Duration = Duration::from_secs(5);
const REFUSAL: Duration = Duration::from_millis(20);
const BACK: Duration = Duration::from_secs(12);
const LATENCY: Duration = Duration::from_millis(100);
/// How long everything works before.
const BEFORE: Duration = Duration::from_secs(1);
/// Idle connections younger than this are used again.
const KEPT: Duration = Duration::from_secs(5);
/// The route.
const ROUTE: &str = "outage";

/// The breaker and the rests, at a tenth.
const SHORT_TIMERS: &str = "breaker: {window: 1s, open: 500ms, open_max: 1s}
cooldown: {default: 500ms, max: 1s}
";

/// How a target fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nobody listens. It is the whole provider that does not.
    Refused,
    Status(u16),
    /// 429 that asks for two seconds.
    Told,
    Reset,
    /// An error inside a 200.
    Inband,
}

impl Fault {
    fn reply(self) -> Reply {
        match self {
            Fault::Refused => Reply::ok(),
            Fault::Status(status) => Reply::status(status).after(LATENCY),
            Fault::Told => Reply::rate_limited(Some("2")).after(LATENCY),
            Fault::Reset => Reply::ok().after(LATENCY).at(Place::BeforeHead, Twist::Reset),
            Fault::Inband => Reply::error_event(500).after(LATENCY),
        }
    }

    fn word(self) -> String {
        match self {
            Fault::Refused => "refused".to_owned(),
            Fault::Status(status) => status.to_string(),
            Fault::Told => "429+2s".to_owned(),
            Fault::Reset => "reset".to_owned(),
            Fault::Inband => "in-band".to_owned(),
        }
    }
}

/// Faults of the four targets in the order of choice, two on each provider, and which returns.
type Plot = ([Fault; 4], usize);

const OUTAGES: [Plot; 8] = [
    ([Fault::Status(500), Fault::Status(503), Fault::Status(429), Fault::Reset], 0),
    ([Fault::Status(429), Fault::Reset, Fault::Status(500), Fault::Status(503)], 0),
    ([Fault::Refused, Fault::Refused, Fault::Status(503), Fault::Told], 1),
    ([Fault::Reset, Fault::Told, Fault::Refused, Fault::Refused], 1),
    ([Fault::Inband, Fault::Status(529), Fault::Status(500), Fault::Status(502)], 1),
    ([Fault::Status(503), Fault::Status(500), Fault::Inband, Fault::Reset], 3),
    ([Fault::Status(429); 4], 2),
    ([Fault::Refused; 4], 3),
];

/// How long, how much, and what is borne.
#[derive(Clone, Copy)]
struct Scale {
    is_full: bool,
    lasts: Duration,
    per_second: u32,
    settled: Duration,
    contacts: f64,
    refusal: Duration,
    at_once: usize,
    /// How long is watched after the first answer: until every request is answered again.
    after: Duration,
}

impl Scale {
    fn of(is_full: bool) -> Scale {
        if is_full {
            return Scale {
                is_full,
                lasts: Duration::from_secs(30),
                per_second: 200,
                settled: SETTLED,
                contacts: CONTACTS,
                refusal: REFUSAL,
                at_once: 1,
                after: Duration::from_secs(3),
            };
        }
        Scale {
            is_full,
            lasts: Duration::from_secs(3),
            per_second: 30,
            settled: Duration::from_secs(1),
            // A hundred requests do not outweigh the first few, which find out that all is down.
            contacts: 2.0,
            refusal: Duration::from_secs(2),
            // Whoever has not answered for a second is not waited for: a busy machine.
            at_once: 2,
            after: Duration::from_millis(500),
        }
    }
}

/// One request as its client saw it; times from the start of the load.
#[derive(Debug)]
struct Told {
    sent: Duration,
    head: Duration,
    ended: Duration,
    status: u16,
    attempts: u64,
    /// What is to be said against the answer.
    why: Option<String>,
}

/// What was measured of one outage.
#[derive(Default)]
struct Figures {
    requests: usize,
    contacts: f64,
    seen: usize,
    p99: Duration,
    slowest: Duration,
    back: Option<Duration>,
    all_back: Option<Duration>,
    at_once: usize,
    why: Vec<String>,
}

/// Plays every outage and prints a row each; tells whether all bounds held.
pub async fn play(is_full: bool) -> bool {
    let scale = Scale::of(is_full);
    println!(
        "{:<34} {:>8} {:>8} {:>6} {:>8} {:>8} {:>7} {:>7} {:>7}  why",
        "fails > returns", "requests", "contacts", "seen", "p99 ms", "max ms", "back s", "all s", "at once"
    );
    let mut are_good = true;
    let mut tell = |plot: Plot, figures: &Figures| {
        println!("{}", line(plot, figures));
        are_good &= figures.why.is_empty();
    };
    if is_full {
        for plot in OUTAGES {
            tell(plot, &suffer(plot, scale).await);
        }
    } else {
        let all: Vec<_> = OUTAGES.map(|plot| tokio::spawn(suffer(plot, scale))).into();
        for (plot, one) in OUTAGES.into_iter().zip(all) {
            tell(plot, &one.await.expect("an outage is played"));
        }
    }
    are_good
}

fn line((faults, back): Plot, figures: &Figures) -> String {
    let words: Vec<String> = faults.iter().map(|fault| fault.word()).collect();
    let seconds = |span: Option<Duration>| {
        span.map_or_else(|| "-".to_owned(), |span| format!("{:.2}", span.as_secs_f64()))
    };
    let millis = |span: Duration| format!("{:.1}", span.as_secs_f64() * 1000.0);
    format!(
        "{:<34} {:>8} {:>8.3} {:>6} {:>8} {:>8} {:>7} {:>7} {:>7}  {}",
        format!("{} > {}", words.join(" "), back + 1),
        figures.requests,
        figures.contacts,
        figures.seen,
        millis(figures.p99),
        millis(figures.slowest),
        seconds(figures.back),
        seconds(figures.all_back),
        figures.at_once,
        figures.why.join("; ")
    )
}

/// Two providers with two models each, and the proxy before them.
struct Stage {
    providers: [Provider; 2],
    faults: [Fault; 4],
    proxy: Process,
}

impl Stage {
    async fn open(faults: [Fault; 4], scale: Scale) -> Stage {
        let start = || async { Provider::start(Reply::ok()).await.expect("a provider starts") };
        let providers = [start().await, start().await];
        let mut text = String::new();
        if !scale.is_full {
            text.push_str(SHORT_TIMERS);
        }
        text.push_str("providers:\n");
        for (name, provider) in ["one", "two"].iter().zip(&providers) {
            let base = provider.base_url();
            let _ = writeln!(
                text,
                "  {name}: {{kind: openai, base_url: \"{base}\", credentials: [{{name: k, key: {{env: OUTAGE_KEY}}}}]}}"
            );
        }
        let targets: Vec<String> = (0..4)
            .map(|at| {
                let (provider, model) = place(at);
                format!("{{provider: {}, model: {model}, priority: {}}}", ["one", "two"][provider], at + 1)
            })
            .collect();
        let _ = writeln!(text, "routes:\n  {ROUTE}: {{targets: [{}]}}", targets.join(", "));
        let key = ("OUTAGE_KEY".to_owned(), "sk-outage-0123456789".to_owned());
        let proxy = Process::start(&text, &[key]).await;
        Stage { providers, faults, proxy }
    }

    async fn fail(&mut self) {
        for at in 0..2 {
            if self.faults[at * 2] == Fault::Refused {
                self.providers[at].go_down().await.expect("the port is kept");
            } else {
                self.providers[at].set_script(self.script(at, None));
            }
        }
    }

    fn heal(&mut self, back: usize) {
        let (provider, _) = place(back);
        self.providers[provider].set_script(self.script(provider, Some(back)));
        self.providers[provider].come_back().expect("the port listens again");
    }

    /// What the models of a provider answer; the one that is back answers well, and the neighbour
    /// of a model behind a refused port fails by status from then on.
    fn script(&self, provider: usize, back: Option<usize>) -> Script {
        Script::by_model((provider * 2..provider * 2 + 2).map(|at| {
            let reply = match self.faults[at] {
                _ if back == Some(at) => Reply::ok(),
                Fault::Refused => Fault::Status(500).reply(),
                fault => fault.reply(),
            };
            (place(at).1, reply)
        }))
    }
}

/// Returns the provider and the model of a target.
fn place(at: usize) -> (usize, &'static str) {
    (at / 2, ["first", "second", "third", "fourth"][at])
}

/// Requests at an even pace, however long their answers take.
struct Load {
    proxy: SocketAddr,
    began: Instant,
    told: Mutex<Vec<Told>>,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Load {
    fn start(proxy: SocketAddr) -> Arc<Load> {
        Arc::new(Load { proxy, began: Instant::now(), told: Mutex::default(), idle: Mutex::default() })
    }

    async fn run(self: Arc<Self>, per_second: u32) {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
        for number in 0_u64.. {
            pace.tick().await;
            tokio::spawn(Arc::clone(&self).ask(number));
        }
    }

    async fn ask(self: Arc<Self>, number: u64) {
        let call = if number.is_multiple_of(2) { Call::chat(ROUTE) } else { Call::chat_stream(ROUTE) };
        let call = call.limit(Duration::from_secs(30));
        let sent = self.began.elapsed();
        let told = match self.send(&call).await {
            Ok(answer) => read(sent, &answer),
            Err(fault) => Told {
                sent,
                head: sent,
                ended: self.began.elapsed(),
                status: 0,
                attempts: 0,
                why: Some(format!("no answer: {fault}")),
            },
        };
        self.told.lock().expect("told").push(told);
    }

    async fn send(&self, call: &Call) -> std::io::Result<Answer> {
        let kept = self.idle.lock().expect("idle").pop().filter(|(since, _)| since.elapsed() < KEPT);
        let connection = match kept {
            Some((_, connection)) => connection,
            None => Connection::open(self.proxy).await?,
        };
        let (answer, connection) = connection.send(call).await?;
        self.idle.lock().expect("idle").extend(connection.map(|connection| (Instant::now(), connection)));
        Ok(answer)
    }
}

fn read(sent: Duration, answer: &Answer) -> Told {
    let number = |name: &str| answer.header(name).and_then(|value| value.parse::<u64>().ok());
    let why = match answer.status {
        _ if answer.end != BodyEnd::Clean => Some(format!("{}, ended {:?}", answer.status, answer.end)),
        200 => answer.error().map(|error| format!("200 with {error}")),
        429 | 503 if number("retry-after").is_none_or(|seconds| seconds == 0) => {
            Some(format!("{} without Retry-After", answer.status))
        }
        429 | 502 | 503 => None,
        status => Some(format!("refused with {status}: {}", answer.body_text())),
    };
    Told {
        sent,
        head: sent + answer.ttfb,
        ended: sent + answer.took,
        status: answer.status,
        attempts: number("x-attempts").unwrap_or(0),
        why,
    }
}

/// Plays one outage.
async fn suffer((faults, back): Plot, scale: Scale) -> Figures {
    let mut stage = Stage::open(faults, scale).await;
    let load = Load::start(stage.proxy.data);
    let running = tokio::spawn(Arc::clone(&load).run(scale.per_second));
    tokio::time::sleep(BEFORE).await;
    stage.fail().await;
    let began = load.began.elapsed();
    tokio::time::sleep(scale.lasts).await;
    let marks: Vec<Duration> = stage.providers.iter().map(Provider::now).collect();
    let ended = load.began.elapsed();
    stage.heal(back);
    let is_back = |told: &Told| told.status == 200 && told.head > ended;
    while load.began.elapsed() < ended + BACK + scale.after {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if load.told.lock().expect("told").iter().any(is_back) {
            tokio::time::sleep(scale.after).await;
            break;
        }
    }
    running.abort();
    // Whoever is under way ends before the books are closed.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let told = std::mem::take(&mut *load.told.lock().expect("told"));
    let books = stage.providers.iter().zip(marks).flat_map(|(provider, mark)| {
        // The clocks of provider and load differ by a constant.
        provider.seen().into_iter().map(move |seen| (seen, mark))
    });
    reckon(&told, &books.collect::<Vec<_>>(), began, ended, scale)
}

fn reckon(
    told: &[Told],
    books: &[(Seen, Duration)],
    began: Duration,
    ended: Duration,
    scale: Scale,
) -> Figures {
    let mut figures = Figures::default();
    let in_outage = || told.iter().filter(|one| one.sent >= began && one.ended < ended);
    figures.requests = in_outage().count();
    let mut refusals: Vec<Duration> = in_outage()
        .filter(|one| one.sent >= began + scale.settled)
        .map(|one| one.ended.saturating_sub(one.sent))
        .collect();
    refusals.sort_unstable();
    figures.p99 = refusals.get(refusals.len() * 99 / 100).copied().unwrap_or_default();
    figures.slowest = refusals.last().copied().unwrap_or_default();
    let answered = told.iter().filter(|one| one.status == 200 && one.head > ended);
    figures.back = answered.map(|one| one.head.saturating_sub(ended)).min();
    let refused = told.iter().filter(|one| one.status != 200 && one.sent > ended);
    figures.all_back = refused.map(|one| one.ended.saturating_sub(ended)).max();
    // On the load's clock: when an answer first came without a contact, and when everybody who was
    // under way by then had gone.
    let open = in_outage().filter(|one| one.attempts == 0).map(|one| one.ended).min().unwrap_or(ended);
    let settled = told.iter().filter(|one| one.sent <= open).map(|one| one.ended).max().unwrap_or(open);
    let on_load_clock = |at: Duration, mark: Duration| (at + ended).saturating_sub(mark);
    let spans: Vec<(&str, Duration, Duration)> = books
        .iter()
        .map(|(seen, mark)| {
            let end = seen.ended.map_or(Duration::MAX, |end| on_load_clock(end, *mark));
            (seen.model.as_str(), on_load_clock(seen.arrived, *mark), end)
        })
        .filter(|(_, arrived, _)| (began..ended).contains(arrived))
        .collect();
    figures.seen = spans.len();
    figures.at_once = most_at_once(&spans.iter().filter(|(_, arrived, _)| *arrived > settled));
    // What the answers own to, refused connections among it, and no less than providers saw.
    let attempts: u64 = in_outage().map(|one| one.attempts).sum();
    #[allow(clippy::cast_precision_loss, reason = "thousands")]
    let contacts = attempts.max(spans.len() as u64) as f64 / figures.requests.max(1) as f64;
    figures.contacts = contacts;
    let mut expect = |holds: bool, why: String| {
        if !holds {
            figures.why.push(why);
        }
    };
    expect(settled < ended, "the breakers never opened".to_owned());
    expect(contacts <= scale.contacts, format!("more than {} contacts a request", scale.contacts));
    expect(figures.p99 <= scale.refusal, format!("refusals take longer than {:?}", scale.refusal));
    expect(figures.back.is_some_and(|back| back <= BACK), format!("not back within {BACK:?}"));
    expect(figures.at_once <= scale.at_once, "more than one probe at once".to_owned());
    let mut faults: Vec<&String> = told.iter().filter_map(|one| one.why.as_ref()).collect();
    faults.sort_unstable();
    faults.dedup();
    expect(faults.is_empty(), format!("{:?}", faults.iter().take(3).collect::<Vec<_>>()));
    figures
}

/// Returns how many of these were under way together at one target.
fn most_at_once<'a>(spans: &(impl Iterator<Item = &'a (&'a str, Duration, Duration)> + Clone)) -> usize {
    let together = |(model, arrived, _): &(&str, Duration, Duration)| {
        spans.clone().filter(|(other, from, to)| other == model && from <= arrived && arrived < to).count()
    };
    spans.clone().map(together).max().unwrap_or(0)
}
