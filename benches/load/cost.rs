//! CPU per request and per streamed chunk, and the delay that a proxy adds.

use crate::client::{Connection, render};
use crate::ours;
use crate::provider::Way;
use crate::series::{Bench, Row, expect, micros, progress, quantile};
use crate::subject::{Kind, Road, Subject, Work};
use anyhow::Context as _;
use std::net::SocketAddr;
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

/// A load: who asks what, how often, and what must come back.
struct Load {
    what: &'static str,
    work: Work,
    /// Bytes of the request's body.
    size: usize,
    extra: String,
    connections: usize,
    /// Requests in all.
    requests: usize,
    /// What the CPU of a request is divided by.
    units: usize,
    /// Bytes of each answer's body.
    length: usize,
}

impl Load {
    fn plain(what: &'static str, size: usize, requests: usize) -> Self {
        let extra = String::new();
        Self { what, work: Work::Plain, size, extra, connections: CONNECTIONS, requests, units: 1, length: 0 }
    }

    /// Learns from the provider how long the answer is.
    async fn measured(mut self, bench: &Bench) -> anyhow::Result<Self> {
        let road = Road::by_port(bench.provider.at(Way::Good));
        self.length = bench.length(&render(&road, self.size, &self.extra)).await?;
        Ok(self)
    }

    /// Requests of one connection to a proxy.
    fn times(&self, kind: Kind) -> usize {
        (self.requests / self.connections / kind.slowness()).max(1)
    }

    /// Runs it and returns the CPU that the proxy used meanwhile, divided by what was done, in µs.
    async fn cost(&self, subject: &Subject, roads: &[Road]) -> anyhow::Result<f64> {
        let process = subject.process()?;
        let before = process.cpu()?;
        self.run(subject.kind, roads).await?;
        let used = process.cpu()?.saturating_sub(before);
        let units = self.times(subject.kind) * self.connections * self.units;
        Ok(micros(used) / units as f64)
    }

    /// Each connection takes one of the roads.
    async fn run(&self, kind: Kind, roads: &[Road]) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for road in roads.iter().cycle().take(self.connections) {
            let (address, length, times) = (road.address, self.length, self.times(kind));
            let request = render(road, self.size, &self.extra);
            tasks.spawn(async move {
                let mut connection = Connection::open(address).await?;
                for _ in 0..times {
                    expect(&connection.ask(&request).await?, kind, length)?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// CPU per request, by size and by what the providers do.
pub async fn cpu(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let amount = &bench.amount;
    let chunks = format!("\"stream\":true,\"max_tokens\":{CHUNKS},\"seed\":{PAUSE_MS},");
    let loads = [
        Load::plain("CPU per 1 KB request", 1024, amount.small / amount.turns),
        Load::plain("CPU per 32 KB request", 32 << 10, amount.large / amount.turns),
        Load::plain("CPU per 256 KB request", 256 << 10, amount.larger / amount.turns),
        Load::plain("CPU per 5 MB request", 5 << 20, amount.largest / amount.turns),
        Load {
            work: Work::Stream,
            extra: chunks,
            connections: STREAMS,
            units: CHUNKS,
            ..Load::plain("CPU per streamed chunk", 1024, amount.streams / amount.turns)
        },
        Load {
            work: Work::Failover(Way::Limited),
            ..Load::plain("CPU per request, first target answers 429", 1024, amount.failovers / amount.turns)
        },
    ];
    let mut measured = Vec::new();
    for load in loads {
        measured.push((Row::new(load.what, "µs"), load.measured(bench).await?));
    }
    let wide = Load::plain("", 1024, amount.small / amount.turns).measured(bench).await?;
    let wide_roads = many_roads(bench);
    let mut wide_row = Row::new(format!("CPU per 1 KB request, {} routes of 3 targets", ours::ROUTES), "µs");
    let warm = Load::plain("", 1024, amount.small / 10).measured(bench).await?;
    for subject in bench.subjects.iter().chain(&bench.wide) {
        let roads: Vec<Road> = subject.road(Work::Plain).cloned().into_iter().collect();
        warm.run(subject.kind, &roads).await.with_context(|| subject.kind.name())?;
    }
    let turns = amount.rounds * amount.turns;
    for turn in 0..turns {
        for (row, load) in &mut measured {
            for subject in bench.in_turn(turn).filter(|subject| load.is_for(subject.kind)) {
                let Some(road) = subject.road(load.work) else { continue };
                let name = subject.kind.name();
                progress(&format!("turn {} of {turns}: {}, {name}", turn + 1, load.what));
                let cost = load.cost(subject, std::slice::from_ref(road)).await;
                if let Some(cost) = bench.bear(subject.kind, load.what, cost)? {
                    row.add(subject.kind, cost);
                }
            }
        }
        if let Some(subject) = &bench.wide {
            progress(&format!("turn {} of {turns}: {}", turn + 1, wide_row.what));
            wide_row.add(Kind::Pointsman, wide.cost(subject, &wide_roads).await.context("many routes")?);
        }
    }
    let mut rows: Vec<Row> = measured.into_iter().map(|(row, _)| row).collect();
    rows.insert(1, wide_row);
    Ok(rows)
}

impl Load {
    /// Without its log pointsman is measured for the smallest request only.
    fn is_for(&self, kind: Kind) -> bool {
        kind != Kind::PointsmanQuiet || (self.work == Work::Plain && self.size == 1024)
    }
}

/// Routes from all over the thousand.
fn many_roads(bench: &Bench) -> Vec<Road> {
    let Some(first) = bench.wide.as_ref().and_then(|wide| wide.road(Work::Plain)) else { return Vec::new() };
    (0..CONNECTIONS)
        .map(|at| Road { model: format!("r{}", at * ours::ROUTES / CONNECTIONS), ..first.clone() })
        .collect()
}

/// Delays of single requests in µs, sorted.
struct Delays {
    whole: Vec<f64>,
    first_content: Vec<f64>,
}

/// What a proxy adds to an answer and to the first content of a stream.
pub async fn delays(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let requests = bench.amount.latencies;
    let plain = Load { connections: 1, ..Load::plain("", 1024, requests) }.measured(bench).await?;
    let stream = Load { extra: SHORT_STREAM.to_owned(), ..Load::plain("", 1024, requests / 3) };
    let stream = Load { connections: 1, ..stream }.measured(bench).await?;
    let mut rows = vec![
        Row::new("added to an answer, p50", "µs"),
        Row::new("added to an answer, p99", "µs"),
        Row::new("added to first content, p50", "µs"),
    ];
    let direct = bench.provider.at(Way::Good);
    for round in 0..bench.amount.rounds {
        progress(&format!("round {} of {}: delays", round + 1, bench.amount.rounds));
        let base = plain.delays(Kind::Direct, &Road::by_port(direct)).await?;
        let base_content = stream.delays(Kind::Direct, &Road::by_port(direct)).await?;
        for subject in bench.in_turn(round).filter(|subject| subject.kind != Kind::PointsmanQuiet) {
            let (Some(to_plain), Some(to_stream)) = (subject.road(Work::Plain), subject.road(Work::Stream))
            else {
                continue;
            };
            let [half, most, content] = rows.as_mut_slice() else { return Ok(rows) };
            let whole = plain.delays(subject.kind, to_plain).await;
            if let Some(Delays { whole, .. }) = bench.bear(subject.kind, "delay of an answer", whole)? {
                half.add(subject.kind, quantile(&whole, 0.5) - quantile(&base.whole, 0.5));
                most.add(subject.kind, quantile(&whole, 0.99) - quantile(&base.whole, 0.99));
            }
            let first = stream.delays(subject.kind, to_stream).await;
            if let Some(first) = bench.bear(subject.kind, "delay of first content", first)? {
                let base = quantile(&base_content.first_content, 0.5);
                content.add(subject.kind, quantile(&first.first_content, 0.5) - base);
            }
        }
    }
    Ok(rows)
}

impl Load {
    async fn delays(&self, kind: Kind, road: &Road) -> anyhow::Result<Delays> {
        let mut delays = Delays { whole: Vec::new(), first_content: Vec::new() };
        let request = render(road, self.size, &self.extra);
        let mut connection = Connection::open(road.address).await?;
        let times = self.times(kind);
        for turn in 0..times + times / 10 {
            let answer = connection.ask(&request).await?;
            expect(&answer, kind, self.length)?;
            if turn >= times / 10 {
                delays.whole.push(micros(answer.whole));
                delays.first_content.extend(answer.first_content.map(micros));
            }
        }
        delays.whole.sort_by(f64::total_cmp);
        delays.first_content.sort_by(f64::total_cmp);
        Ok(delays)
    }
}

/// Times of answers one after another, in µs and sorted; for [`crate::faults`].
pub async fn times(
    address: SocketAddr,
    request: &[u8],
    kind: Kind,
    length: usize,
    many: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(many);
    let mut connection = Connection::open(address).await?;
    for _ in 0..many {
        let answer = connection.ask(request).await?;
        expect(&answer, kind, length)?;
        times.push(micros(answer.whole));
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Microseconds of a span that is told in milliseconds.
pub fn micros_of(millis: u32) -> f64 {
    micros(Duration::from_millis(millis.into()))
}
