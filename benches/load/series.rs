//! What is measured, how often, and in which order: the frame. [`crate::cost`] measures CPU and delays,
//! [`crate::faults`] what failing providers cost a client, [`crate::crowd`] many open streams.

use crate::client::Connection;
use crate::process;
use crate::subject::{self, Kind, Provider, Subject};
use crate::{cost, crowd, faults};
use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Rounds in which the rivals take part: what they cost is known well enough after these.
const RIVAL_ROUNDS: usize = 2;

/// How much of everything.
pub struct Amount {
    pub rounds: usize,
    /// In how many parts the requests of a round go where CPU is measured: what a process costs depends
    /// on where the kernel puts it for some seconds, and many short turns even that out.
    pub turns: usize,
    /// Requests of 1 KB, 32 KB, 256 KB and 5 MB.
    pub small: usize,
    pub large: usize,
    pub larger: usize,
    pub largest: usize,
    pub failovers: usize,
    pub streams: usize,
    pub latencies: usize,
    /// Failovers that are timed one by one.
    pub moves: usize,
    /// Failovers from a silent target that are timed, each a tenth of a second.
    pub silences: usize,
    /// Streams from two flaky providers.
    pub flaky: usize,
    /// Open streams.
    pub held: usize,
    pub crowd: usize,
    /// How long the chunks of a crowd are counted.
    pub window: Duration,
}

const FULL: Amount = Amount {
    rounds: 5,
    turns: 4,
    small: 30_000,
    large: 10_000,
    larger: 800,
    largest: 64,
    failovers: 10_000,
    streams: 160,
    latencies: 3_000,
    moves: 1_000,
    silences: 96,
    flaky: 4_000,
    held: 2_000,
    crowd: 10_000,
    window: Duration::from_secs(5),
};
const QUICK: Amount = Amount {
    rounds: 1,
    turns: 1,
    small: 2_000,
    large: 1_000,
    larger: 160,
    largest: 16,
    failovers: 1_000,
    streams: 32,
    latencies: 300,
    moves: 100,
    silences: 16,
    flaky: 400,
    held: 100,
    crowd: 500,
    window: Duration::from_secs(1),
};

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// For each proxy one value a round.
    values: Vec<(Kind, Vec<f64>)>,
}

/// Everything that was measured.
pub struct Findings {
    /// The proxies, in the order of the table.
    pub kinds: Vec<Kind>,
    /// Who was not measured, and why.
    pub missing: Vec<String>,
    /// What else is to be said under the table.
    pub notes: Vec<String>,
    /// The lines of the table; the first of a whole run is CPU per 1 KB request.
    pub rows: Vec<Row>,
    /// Rounds per line.
    pub rounds: usize,
}

impl Row {
    pub fn new(what: impl Into<String>, unit: &'static str) -> Self {
        Self { what: what.into(), unit, values: Vec::new() }
    }

    pub fn add(&mut self, kind: Kind, value: f64) {
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

/// Everything that is running.
pub struct Bench {
    pub amount: Amount,
    pub provider: Provider,
    pub direct: Subject,
    /// Started proxies, direct calls not among them.
    pub subjects: Vec<Subject>,
    /// pointsman with 1,000 routes, where it is there.
    pub wide: Option<Subject>,
    /// All that are in the table.
    pub kinds: Vec<Kind>,
    /// What is to be said under it.
    pub notes: Mutex<Vec<String>>,
}

/// The parts of the bench, for `--only`.
pub const PARTS: [&str; 4] = ["cost", "delays", "faults", "crowd"];

/// Runs the bench, or one part of it.
pub async fn run_all(is_quick: bool, with_rivals: bool, only: Option<&str>) -> anyhow::Result<Findings> {
    let mut amount = if is_quick { QUICK } else { FULL };
    let has = |part: &str| only.is_none_or(|only| only == part);
    let mut notes = Vec::new();
    let most = process::streams_possible();
    if amount.crowd > most {
        notes.push(format!(
            "{most} open streams instead of {}: no more descriptors are allowed.",
            amount.crowd
        ));
        amount.crowd = most;
    }
    let (mut kinds, mut missing) = subject::available(with_rivals);
    let provider = Provider::start()?;
    let direct = Subject::start(Kind::Direct, &provider).await?;
    let mut subjects = Vec::new();
    for kind in kinds.clone().into_iter().filter(|kind| *kind != Kind::Direct) {
        progress(&format!("starting {}", kind.name()));
        match Subject::start(kind, &provider).await {
            Ok(subject) => subjects.push(subject),
            // What does not start here is no reason to measure nothing.
            Err(fault) if kind.is_rival() => {
                missing.push(format!("{} ({fault:#})", kind.name()));
                kinds.retain(|have| *have != kind);
            }
            Err(fault) => return Err(fault),
        }
    }
    let has_ours = kinds.contains(&Kind::Pointsman);
    let wide = if has_ours { Some(Subject::start_wide(&provider).await?) } else { None };
    let bench = Bench { amount, provider, direct, subjects, wide, kinds, notes: Mutex::new(notes) };
    let mut rows = Vec::new();
    if has("cost") {
        rows.extend(cost::cpu(&bench).await?);
    }
    if has("delays") {
        rows.extend(cost::delays(&bench).await?);
    }
    if has("faults") {
        rows.extend(faults::moves(&bench).await?);
        rows.extend(faults::flaky(&bench).await?);
    }
    if has("crowd") {
        rows.extend(crowd::rows(&bench).await?);
    }
    progress("");
    let notes = bench.notes.into_inner();
    Ok(Findings { kinds: bench.kinds, missing, notes, rows, rounds: bench.amount.rounds })
}

impl Bench {
    /// The proxies, each round beginning with another one and every other round backwards.
    pub fn in_turn(&self, round: usize) -> impl Iterator<Item = &Subject> {
        let many = self.subjects.len();
        (0..many)
            .filter_map(move |at| {
                let at = if round.is_multiple_of(2) { at } else { many - 1 - at };
                self.subjects.get((at + round / 2) % many)
            })
            .filter(move |subject| !subject.kind.is_rival() || round < RIVAL_ROUNDS)
    }

    /// Says something under the table, once.
    pub fn note(&self, text: String) {
        let mut notes = self.notes.lock();
        if !notes.contains(&text) {
            notes.push(text);
        }
    }

    /// A rival that cannot do what is asked leaves a note and an empty place; anyone else ends the bench.
    pub fn bear<T>(&self, kind: Kind, what: &str, done: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(fault) if kind.is_rival() => {
                self.note(format!("{}, {what}: {fault:#}.", kind.name()));
                Ok(None)
            }
            Err(fault) => Err(fault).with_context(|| format!("{what}: {}", kind.name())),
        }
    }

    /// How many bytes an answer has that comes straight from the provider.
    pub async fn length(&self, request: &[u8]) -> anyhow::Result<usize> {
        let address = self.provider.at(crate::provider::Way::Good);
        let answer = Connection::open(address).await?.ask(request).await?;
        ensure!(answer.status == 200, "the stand-in provider answers {}", answer.status);
        Ok(answer.length)
    }
}

/// Checks an answer; a gateway that writes it anew is not held to its length.
pub fn expect(answer: &crate::client::Answer, kind: Kind, length: usize) -> anyhow::Result<()> {
    ensure!(answer.status == 200, "a client got {}", answer.status);
    let is_whole = if kind.rewrites() { answer.length > 0 } else { answer.length == length };
    ensure!(is_whole, "a client got {} bytes instead of {length}", answer.length);
    Ok(())
}

/// Says on one line of a terminal what goes on; elsewhere nothing.
pub fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{text}\x1b[K");
    }
}

pub fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// A quantile of sorted values; 0 where there are none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index between 0 and len")]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// The median; nothing where there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() { None } else { Some(quantile(&sorted, 0.5)) }
}
