//! What failing providers cost a client: the time that one failover adds, and how many of its streams
//! come to their end when one answer in ten is a fault.

use crate::client::{Connection, render, said};
use crate::cost::{micros_of, times};
use crate::provider::Way;
use crate::series::{Bench, Row, micros, progress, quantile};
use crate::subject::{Kind, Road, SILENCE_MS, Subject, Work};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Content chunks of a stream from the flaky providers: enough to be cut in the middle.
const CHUNKS: usize = 20;
/// Clients of the flaky providers.
const CLIENTS: usize = 16;
/// Clients that wait beside each other for a silent target.
const WAITING: usize = 8;

/// The time that a request takes more because its first target failed, whose answer the second gave.
/// For a silent target the time that it was given is not counted.
pub async fn moves(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let faults = [
        (Way::Limited, "answers 429"),
        (Way::Broken, "answers 500"),
        (Way::Reset, "resets"),
        (Way::Stalled, "is silent"),
    ];
    let mut rows = Vec::new();
    for (_, what) in faults {
        for quantile in ["p50", "p99"] {
            rows.push(Row::new(format!("added when the first target {what}, {quantile}"), "µs"));
        }
    }
    // Silence is what streams are guarded against by the time to their first content.
    let stream = "\"stream\":true,\"max_tokens\":3,\"seed\":0,";
    let direct = Road::by_port(bench.provider.at(Way::Good));
    for round in 0..bench.amount.rounds {
        for (at, (way, what)) in faults.into_iter().enumerate() {
            let is_silent = way == Way::Stalled;
            let extra = if is_silent { stream } else { "" };
            let ask = |road: &Road| render(road, 1024, extra);
            let length = bench.length(&ask(&direct)).await?;
            let many = bench.amount.moves;
            let base = times(direct.address, &ask(&direct), Kind::Direct, length, many).await?;
            for subject in bench.in_turn(round) {
                let Some(road) = subject.road(Work::Failover(way)) else { continue };
                let name = subject.kind.name();
                if subject.kind == Kind::PointsmanQuiet {
                    continue;
                }
                progress(&format!(
                    "round {} of {}: first target {what}, {name}",
                    round + 1,
                    bench.amount.rounds
                ));
                let took = if is_silent {
                    side_by_side(subject, road, &ask(road), length, bench.amount.silences).await
                } else {
                    let many = (many / subject.kind.slowness()).max(20);
                    times(road.address, &ask(road), subject.kind, length, many).await
                };
                let Some(took) = bench.bear(subject.kind, &format!("first target {what}"), took)? else {
                    continue;
                };
                let given = if is_silent { micros_of(SILENCE_MS) } else { 0.0 };
                for (row, share) in rows.iter_mut().skip(at * 2).zip([0.5, 0.99]) {
                    row.add(subject.kind, quantile(&took, share) - quantile(&base, share) - given);
                }
            }
        }
    }
    Ok(rows)
}

async fn side_by_side(
    subject: &Subject,
    road: &Road,
    request: &[u8],
    length: usize,
    many: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut waiting = JoinSet::new();
    for _ in 0..WAITING {
        let (address, request, kind) = (road.address, request.to_vec(), subject.kind);
        waiting.spawn(async move { times(address, &request, kind, length, many / WAITING).await });
    }
    let mut all = Vec::new();
    while let Some(times) = waiting.join_next().await {
        all.extend(times??);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// Two providers of which each fails once in ten: how many streams say everything and end, and how
/// long those take. Calls without a proxy show what the faults are.
pub async fn flaky(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![
        Row::new("10 % faults: whole streams", "%"),
        Row::new("10 % faults: time of a whole stream, p50", "µs"),
        Row::new("10 % faults: time of a whole stream, p99", "µs"),
    ];
    for round in 0..bench.amount.rounds {
        for subject in bench.in_turn(round).chain(std::iter::once(&bench.direct)) {
            let Some(road) = subject.road(Work::Flaky) else { continue };
            if subject.kind == Kind::PointsmanQuiet {
                continue;
            }
            progress(&format!(
                "round {} of {}: faults, {}",
                round + 1,
                bench.amount.rounds,
                subject.kind.name()
            ));
            let many = (bench.amount.flaky / subject.kind.slowness()).max(100);
            let good = streams(road, many).await;
            let Some(good) = bench.bear(subject.kind, "10 % faults", good)? else { continue };
            let share = 100.0 * good.len() as f64 / many as f64;
            let values = [share, quantile(&good, 0.5), quantile(&good, 0.99)];
            // Of no whole stream there is no time.
            for (row, value) in rows.iter_mut().zip(values).take(if good.is_empty() { 1 } else { 3 }) {
                row.add(subject.kind, value);
            }
        }
    }
    Ok(rows)
}

/// Asks for that many streams and returns the times of those that were whole, sorted.
async fn streams(road: &Road, many: usize) -> anyhow::Result<Vec<f64>> {
    let request = render(road, 1024, &format!("\"stream\":true,\"max_tokens\":{CHUNKS},\"seed\":0,"));
    let (left, good) = (Arc::new(AtomicUsize::new(many)), Arc::new(Mutex::new(Vec::new())));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (address, request, left, good) = (road.address, request.clone(), left.clone(), good.clone());
        clients.spawn(async move {
            let mut connection = None;
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let mut open = match connection.take() {
                    Some(open) => open,
                    None => Connection::open(address).await?,
                };
                // A stream that breaks is not whole; its connection is gone.
                let Ok((answer, body)) = open.ask_and_keep(&request).await else { continue };
                connection = Some(open);
                let (text, has_ended) = said(&body);
                if answer.status == 200 && has_ended && text == "word ".repeat(CHUNKS) {
                    good.lock().await.push(micros(answer.whole));
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let mut good = std::mem::take(&mut *good.lock().await);
    good.sort_by(f64::total_cmp);
    Ok(good)
}
