//! What is measured, how often, and in which order.

use crate::client::{Connection, render};
use crate::subject::{self, Kind, Provider, Subject};
use anyhow::{Context as _, ensure};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Client connections wherever CPU is measured.
const CONNECTIONS: usize = 16;
/// Streams at a time where the CPU of chunks is measured.
const STREAMS: usize = 32;
/// Content chunks of each of these streams.
const CHUNKS: usize = 200;
/// Milliseconds between two chunks of a stream: 250 a second, a fast model.
const PAUSE_MS: usize = 4;
/// A stream of three chunks without pauses, to see the first.
const SHORT_STREAM: &str = "\"stream\":true,\"max_tokens\":3,\"seed\":0,";
/// A stream that says one word and is silent for a minute.
const HELD_STREAM: &str = "\"stream\":true,\"max_tokens\":2,\"seed\":60000,";

/// How much of everything.
struct Amount {
    rounds: usize,
    small: usize,
    large: usize,
    failovers: usize,
    streams: usize,
    latencies: usize,
    held: usize,
}

const FULL: Amount = Amount {
    rounds: 5,
    small: 30_000,
    large: 10_000,
    failovers: 10_000,
    streams: 160,
    latencies: 3_000,
    held: 1_000,
};
const QUICK: Amount = Amount {
    rounds: 1,
    small: 2_000,
    large: 1_000,
    failovers: 1_000,
    streams: 32,
    latencies: 300,
    held: 100,
};

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// For each proxy one value a round.
    pub values: Vec<(Kind, Vec<f64>)>,
}

/// Everything that was measured.
pub struct Findings {
    /// The proxies, in the order of the table.
    pub kinds: Vec<Kind>,
    /// The lines of the table; the first is CPU per 1 KB request.
    pub rows: Vec<Row>,
    /// Rounds per line.
    pub rounds: usize,
}

impl Row {
    fn new(what: &'static str, unit: &'static str) -> Self {
        Self { what, unit, values: Vec::new() }
    }

    fn add(&mut self, kind: Kind, value: f64) {
        match self.values.iter_mut().find(|(have, _)| *have == kind) {
            Some((_, values)) => values.push(value),
            None => self.values.push((kind, vec![value])),
        }
    }

    /// The values of one proxy.
    pub fn of(&self, kind: Kind) -> Option<&[f64]> {
        self.values.iter().find(|(have, _)| *have == kind).map(|(_, values)| values.as_slice())
    }
}

/// Runs the whole bench.
pub async fn run_all(quick: bool) -> anyhow::Result<Findings> {
    let amount = if quick { QUICK } else { FULL };
    let kinds = subject::available();
    let provider = subject::start_provider()?;
    let direct = Subject::start(Kind::Direct, &provider).await?;
    let mut subjects = Vec::new();
    for kind in &kinds {
        subjects.push(Subject::start(*kind, &provider).await?);
    }
    let bench = Bench { amount, provider, direct, subjects, kinds };
    let mut rows = bench.cpu().await?;
    rows.extend(bench.latency().await?);
    rows.push(bench.memory().await?);
    progress("");
    Ok(Findings { kinds: bench.kinds, rows, rounds: bench.amount.rounds })
}

struct Bench {
    amount: Amount,
    provider: Provider,
    direct: Subject,
    subjects: Vec<Subject>,
    kinds: Vec<Kind>,
}

/// What kind of work a load is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Small,
    Large,
    Stream,
    Failover,
}

/// A load: who asks what, how often, and what must come back.
struct Load {
    work: Work,
    request: Arc<[u8]>,
    connections: usize,
    /// Requests in all.
    requests: usize,
    /// Bytes of each answer's body.
    length: usize,
}

impl Bench {
    async fn load(&self, work: Work, requests: usize, connections: usize) -> anyhow::Result<Load> {
        let chunks = format!("\"stream\":true,\"max_tokens\":{CHUNKS},\"seed\":{PAUSE_MS},");
        let request = match work {
            Work::Small => render("bench", 1024, ""),
            Work::Large => render("bench", 32 * 1024, ""),
            Work::Failover => render("fail", 1024, ""),
            Work::Stream if connections == 1 => render("bench", 1024, SHORT_STREAM),
            Work::Stream => render("bench", 1024, &chunks),
        };
        let answer = Connection::open(self.direct.plain).await?.ask(&request).await?;
        ensure!(answer.status == 200, "the stand-in provider answers {}", answer.status);
        Ok(Load { work, request: request.into(), connections, requests, length: answer.length })
    }

    async fn cpu(&self) -> anyhow::Result<Vec<Row>> {
        let amount = &self.amount;
        let loads = [
            self.load(Work::Small, amount.small, CONNECTIONS).await?,
            self.load(Work::Large, amount.large, CONNECTIONS).await?,
            self.load(Work::Stream, amount.streams, STREAMS).await?,
            self.load(Work::Failover, amount.failovers, CONNECTIONS).await?,
        ];
        let mut rows = [
            Row::new("CPU per 1 KB request", "µs"),
            Row::new("CPU per 32 KB request", "µs"),
            Row::new("CPU per streamed chunk", "µs"),
            Row::new("CPU per request, first target answers 429", "µs"),
        ];
        let warm = self.load(Work::Small, amount.small / 10, CONNECTIONS).await?;
        for subject in &self.subjects {
            warm.run(subject.plain).await.with_context(|| subject.kind.name())?;
        }
        for round in 0..amount.rounds {
            for (row, load) in rows.iter_mut().zip(&loads) {
                for subject in self.in_turn(round) {
                    let Some(address) = load.address(subject) else { continue };
                    let name = subject.kind.name();
                    progress(&format!("round {} of {}: {}, {name}", round + 1, amount.rounds, row.what));
                    let used =
                        load.cpu(subject, address).await.with_context(|| format!("{}: {name}", row.what))?;
                    row.add(subject.kind, micros(used) / load.units() as f64);
                }
            }
        }
        Ok(rows.into())
    }

    async fn latency(&self) -> anyhow::Result<Vec<Row>> {
        let requests = self.amount.latencies;
        let plain = self.load(Work::Small, requests, 1).await?;
        let stream = self.load(Work::Stream, requests / 3, 1).await?;

        let mut rows = vec![
            Row::new("added to an answer, p50", "µs"),
            Row::new("added to an answer, p99", "µs"),
            Row::new("added to first content, p50", "µs"),
        ];
        for round in 0..self.amount.rounds {
            progress(&format!("round {} of {}: delays", round + 1, self.amount.rounds));
            let base = plain.delays(self.direct.plain).await?;
            let base_content = stream.delays(self.direct.stream).await?;
            for subject in self.in_turn(round).filter(|subject| subject.kind != Kind::PointsmanQuiet) {
                let name = || subject.kind.name();
                let whole = plain.delays(subject.plain).await.with_context(name)?;
                let content = stream.delays(subject.stream).await.with_context(name)?;
                let added = [
                    quantile(&whole.whole, 0.5) - quantile(&base.whole, 0.5),
                    quantile(&whole.whole, 0.99) - quantile(&base.whole, 0.99),
                    quantile(&content.first_content, 0.5) - quantile(&base_content.first_content, 0.5),
                ];
                for (row, value) in rows.iter_mut().zip(added) {
                    row.add(subject.kind, value);
                }
            }
        }
        Ok(rows)
    }

    /// A process of its own for each, since memory that was used once may stay.
    async fn memory(&self) -> anyhow::Result<Row> {
        let mut row = Row::new("memory per open stream", "KiB");
        let request = render("bench", 1024, HELD_STREAM);
        for kind in self.kinds.iter().copied().filter(|kind| *kind != Kind::PointsmanQuiet) {
            progress(&format!("memory, {}", kind.name()));
            let subject = Subject::start(kind, &self.provider).await?;
            let before = subject.process()?.resident_bytes()?;
            let mut held = Vec::with_capacity(self.amount.held);
            for _ in 0..self.amount.held {
                let mut connection = Connection::open(subject.stream).await?;
                connection.open_stream(&request).await.with_context(|| kind.name())?;
                held.push(connection);
            }
            let after = subject.process()?.resident_bytes()?;
            row.add(kind, after.saturating_sub(before) as f64 / 1024.0 / held.len() as f64);
        }
        Ok(row)
    }

    /// The proxies, each round beginning with another one and every other round backwards.
    fn in_turn(&self, round: usize) -> impl Iterator<Item = &Subject> {
        let many = self.subjects.len();
        (0..many).filter_map(move |at| {
            let at = if round.is_multiple_of(2) { at } else { many - 1 - at };
            self.subjects.get((at + round / 2) % many)
        })
    }
}

/// Delays of single requests in µs, sorted.
struct Delays {
    whole: Vec<f64>,
    first_content: Vec<f64>,
}

impl Load {
    /// Where this load goes at a proxy; nowhere where it does not apply.
    fn address(&self, subject: &Subject) -> Option<SocketAddr> {
        if subject.kind == Kind::PointsmanQuiet && self.work != Work::Small {
            return None;
        }
        match self.work {
            Work::Small | Work::Large => Some(subject.plain),
            Work::Stream => Some(subject.stream),
            Work::Failover => subject.failover,
        }
    }

    /// What its CPU is divided by: requests, or the content chunks of streams.
    fn units(&self) -> usize {
        if self.work == Work::Stream { self.requests * CHUNKS } else { self.requests }
    }

    /// Runs it and returns the CPU that the proxy used meanwhile.
    async fn cpu(&self, subject: &Subject, address: SocketAddr) -> anyhow::Result<Duration> {
        let process = subject.process()?;
        let before = process.cpu()?;
        self.run(address).await?;
        Ok(process.cpu()?.saturating_sub(before))
    }

    async fn run(&self, address: SocketAddr) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..self.connections {
            let (request, length) = (self.request.clone(), self.length);
            let times = self.requests / self.connections;
            tasks.spawn(async move {
                let mut connection = Connection::open(address).await?;
                for _ in 0..times {
                    expect(&connection.ask(&request).await?, length)?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn delays(&self, address: SocketAddr) -> anyhow::Result<Delays> {
        let mut delays = Delays { whole: Vec::new(), first_content: Vec::new() };
        let mut connection = Connection::open(address).await?;
        for turn in 0..self.requests + self.requests / 10 {
            let answer = connection.ask(&self.request).await?;
            expect(&answer, self.length)?;
            if turn >= self.requests / 10 {
                delays.whole.push(micros(answer.whole));
                delays.first_content.extend(answer.first_content.map(micros));
            }
        }
        delays.whole.sort_by(f64::total_cmp);
        delays.first_content.sort_by(f64::total_cmp);
        Ok(delays)
    }
}

fn expect(answer: &crate::client::Answer, length: usize) -> anyhow::Result<()> {
    ensure!(answer.status == 200, "a client got {}", answer.status);
    ensure!(answer.length == length, "a client got {} bytes instead of {length}", answer.length);
    Ok(())
}

/// Says on one line of a terminal what goes on; elsewhere nothing.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{text}\x1b[K");
    }
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// A quantile of sorted values; 0 where there are none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index between 0 and len")]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// The median; nothing where there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() { None } else { Some(quantile(&sorted, 0.5)) }
}
