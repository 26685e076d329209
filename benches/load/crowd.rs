//! Many open streams: the memory at rest and of each, and whether a chunk costs more when there are more of them.

use crate::client::{Connection, render};
use crate::series::{Bench, Row, micros, progress};
use crate::subject::{Kind, Subject, Work};
use anyhow::{Context as _, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// The smallest crowd, and the pause between the chunks of each of its streams, in milliseconds.
const FEW: (usize, u64) = (10, 4);
/// The pause in the largest: 5,000 chunks a second in all, twice as many as the few have.
const PAUSE_MS: u64 = 2000;
/// A stream that says one word and is silent for a minute.
const HELD_MS: u64 = 60_000;
/// Streams that are opened side by side.
const AT_ONCE: usize = 16;

/// What was found of one crowd.
struct Crowd {
    /// Resident memory before the first stream.
    rest_mib: f64,
    /// Resident memory of a stream.
    kib: f64,
    /// CPU of a chunk; 0 where none were counted.
    chunk_us: f64,
}

/// A process of its own for each, since memory that was used once may stay.
pub async fn rows(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let amount = &bench.amount;
    let mut rows = vec![
        Row::new("memory at rest", "MiB"),
        Row::new(format!("memory per open stream, {}", thousands(amount.held)), "KiB"),
        Row::new(format!("memory per open stream, {}", thousands(amount.crowd)), "KiB"),
        Row::new(format!("CPU per chunk, {} open streams", FEW.0), "µs"),
        Row::new(format!("CPU per chunk, {} open streams", thousands(amount.crowd)), "µs"),
    ];
    let [rest, held, crowded, few_chunk, crowded_chunk] = rows.as_mut_slice() else { return Ok(rows) };
    let is_measured = |kind: &Kind| !matches!(kind, Kind::Direct | Kind::PointsmanQuiet);
    for kind in bench.kinds.iter().copied().filter(is_measured) {
        let slow = kind.slowness() > 1;
        // Silent streams for the memory, then few and many that speak.
        let crowds = [
            (if slow { amount.held / 4 } else { amount.held }, HELD_MS, Duration::ZERO),
            (FEW.0, FEW.1, amount.window),
            (amount.crowd, PAUSE_MS, amount.window),
        ];
        for (at, (many, pause, window)) in crowds.into_iter().enumerate() {
            if slow && at == 2 {
                bench.note(format!("{} has {} open streams at most.", kind.name(), amount.held / 4));
                continue;
            }
            let what = format!("{} open streams", thousands(many));
            progress(&format!("{what}, {}", kind.name()));
            let crowd = open(bench, kind, many, pause, window).await;
            let Some(crowd) = bench.bear(kind, &what, crowd)? else { continue };
            match at {
                0 => {
                    rest.add(kind, crowd.rest_mib);
                    held.add(kind, crowd.kib);
                }
                1 => few_chunk.add(kind, crowd.chunk_us),
                _ => {
                    crowded.add(kind, crowd.kib);
                    crowded_chunk.add(kind, crowd.chunk_us);
                }
            }
        }
    }
    Ok(rows)
}

/// Opens that many streams, each with a chunk every `pause`, and counts chunks for `window`.
async fn open(bench: &Bench, kind: Kind, many: usize, pause: u64, window: Duration) -> anyhow::Result<Crowd> {
    let subject = Subject::start(kind, &bench.provider).await?;
    let road = subject.road(Work::Stream).context("it has no streams")?;
    let request: Arc<[u8]> =
        render(road, 1024, &format!("\"stream\":true,\"max_tokens\":100000,\"seed\":{pause},")).into();
    let before = subject.process()?.resident_bytes()?;
    let mut opening = JoinSet::new();
    let left = Arc::new(AtomicUsize::new(many));
    for _ in 0..AT_ONCE {
        let (address, request, left) = (road.address, request.clone(), left.clone());
        opening.spawn(async move {
            let mut open = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let mut connection = Connection::open(address).await?;
                connection.open_stream(&request).await?;
                open.push(connection);
            }
            anyhow::Ok(open)
        });
    }
    let mut held = Vec::with_capacity(many);
    while let Some(open) = opening.join_next().await {
        held.extend(open??);
    }
    let after = subject.process()?.resident_bytes()?;
    let kib = after.saturating_sub(before) as f64 / 1024.0 / held.len() as f64;
    let rest_mib = before as f64 / 1024.0 / 1024.0;
    if window.is_zero() {
        return Ok(Crowd { rest_mib, kib, chunk_us: 0.0 });
    }
    let chunks = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for mut connection in held {
        let chunks = chunks.clone();
        readers.spawn(async move { connection.count(&chunks).await });
    }
    // Whatever came while the others were opened is read first.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (cpu, count) = (subject.process()?.cpu()?, chunks.load(Ordering::Relaxed));
    tokio::time::sleep(window).await;
    let used = subject.process()?.cpu()?.saturating_sub(cpu);
    let count = chunks.load(Ordering::Relaxed) - count;
    ensure!(readers.try_join_next().is_none(), "a stream ended by itself");
    ensure!(count > 0, "no chunk came");
    Ok(Crowd { rest_mib, kib, chunk_us: micros(used) / count as f64 })
}

/// `10,000`.
fn thousands(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}
