//! Hours of everything at once: does the process stay as it was after its first minutes?
//!
//! Clients come at an even pace ([`visits`]), operators read pages and listen to events, and the
//! configuration changes every few seconds, at times to one that is refused. Memory, descriptors,
//! threads and series of metrics are read meanwhile ([`gauge`]). The first quarter is the warm-up:
//! pools, rings and tables fill to their bounds. Of the rest the median of the first tenth is
//! compared with that of the last (of threads the most: the pool that reads files has one more for the
//! ten seconds after two were read at once):
//!
//! * resident memory grew by at most [`GROWTH_MAX_KIB`],
//! * descriptors by at most [`DESCRIPTORS_MAX`] (the load's own connections come and go), threads
//!   not at all, series by at most [`SERIES_MAX`] (a pair of route and target has
//!   forty, and a fault may be met late), where the run was long enough to meet all faults in its warm-up.
//!
//! When the clients have gone nothing may be under way and no connection of theirs may be left, and
//! no client may have seen an error that the script did not provoke. The short profile is too short
//! for a verdict on memory; it holds everything else.
//!
//! `SOAK_FOR=90s` (`20m`, `2h`) is how long, `SOAK_RATE` the visits a second. To find what grows:
//! `SOAK_WITHOUT=reloads,scrapes,Fault` leaves ingredients out (names of [`Visit`], `reloads`,
//! `broken`, `rotation`, `scrapes`, `events`), `SOAK_ONLY=Kept` leaves out all others.

mod gauge;
mod stage;
mod visits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::distributions::{Distribution, WeightedIndex};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};

use crate::process::Process;
use gauge::{Sample, Trend, Typical, Value, median, peak};
use stage::Stage;
use visits::{Told, Town, VISITS, Visit};

const GROWTH_MAX_KIB: f64 = 5.0 * 1024.0;
const DESCRIPTORS_MAX: f64 = 20.0;
const SERIES_MAX: f64 = 60.0;
/// Visits under way at most. A dozen are usual; when the machine has other work the queue would grow,
/// and with it memory that is held for as long as the queue was.
const CROWD: usize = 64;
/// What a process may keep open when nobody calls: listeners, files, its pool to the providers.
const QUIET: Duration = Duration::from_secs(30);
const SEED: u64 = 6;
/// Pages that operators read.
const PAGES: [&str; 11] = [
    "/metrics",
    "/v1/status",
    "/v1/targets",
    "/v1/routes",
    "/v1/decisions",
    "/v1/usage",
    "/v1/accounts",
    "/v1/config",
    "/ui",
    "/livez",
    "/readyz",
];

/// How long, how fast, and without what.
struct Plan {
    lasts: Duration,
    per_second: u32,
    is_judged: bool,
    has_all_series: bool,
    between_reloads: Duration,
    between_samples: Duration,
    only: Vec<String>,
    without: Vec<String>,
}

impl Plan {
    fn of(is_full: bool) -> Plan {
        let words = |name: &str| -> Vec<String> {
            let value = std::env::var(name).unwrap_or_default();
            value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let lasts = std::env::var("SOAK_FOR").ok().map(|text| {
            span(&text)
                .unwrap_or_else(|| panic!("SOAK_FOR wants a number and s, m or h, such as 20m, not {text}"))
        });
        let lasts = lasts.unwrap_or(Duration::from_secs(if is_full { 20 * 60 } else { 8 }));
        let rate = std::env::var("SOAK_RATE").ok().and_then(|rate| rate.parse().ok());
        Plan {
            lasts,
            per_second: rate.unwrap_or(if is_full { 300 } else { 60 }),
            is_judged: is_full && lasts >= Duration::from_secs(120),
            has_all_series: lasts >= Duration::from_secs(15 * 60),
            between_reloads: Duration::from_secs(if is_full { 5 } else { 1 }),
            between_samples: if is_full { Duration::from_secs(2) } else { Duration::from_millis(500) },
            only: words("SOAK_ONLY"),
            without: words("SOAK_WITHOUT"),
        }
    }

    fn has(&self, name: &str) -> bool {
        let is_in = |names: &[String]| names.iter().any(|have| have.eq_ignore_ascii_case(name));
        (self.only.is_empty() || is_in(&self.only)) && !is_in(&self.without)
    }
}

fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()? * unit))
}

/// What all tasks share.
struct Soak {
    town: Town,
    paid: Mutex<BTreeMap<String, u64>>,
    complaints: Mutex<Vec<String>>,
    visits: AtomicU64,
    season: AtomicU64,
    missed: AtomicU64,
    began: Instant,
}

impl Soak {
    fn note(&self, what: &str, told: Told) {
        *self.paid.lock().expect("paid").entry(what.to_owned()).or_default() += 1;
        if let Err(why) = told {
            let at = self.began.elapsed().as_secs_f64();
            self.complaints.lock().expect("complaints").push(format!("{at:.1} s, {what}: {why}"));
        }
    }

    /// Clients at an even pace.
    async fn call(self: Arc<Self>, visits: Vec<(Visit, u32)>, per_second: u32) {
        let Ok(shares) = WeightedIndex::new(visits.iter().map(|(_, share)| *share)) else { return };
        let mut dice = StdRng::seed_from_u64(SEED);
        let crowd = Arc::new(Semaphore::new(CROWD));
        let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
        // What a busy machine held up is not made up for at once.
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            pace.tick().await;
            let Ok(place) = Arc::clone(&crowd).try_acquire_owned() else {
                self.missed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let (visit, _) = visits[shares.sample(&mut dice)];
            let (soak, seed) = (Arc::clone(&self), dice.r#gen());
            tokio::spawn(async move {
                let season = soak.season.load(Ordering::Relaxed);
                let told = soak.town.pay(visit, seed, season).await;
                soak.visits.fetch_add(1, Ordering::Relaxed);
                soak.note(&format!("{visit:?}"), told);
                drop(place);
            });
        }
    }

    /// Operators who look.
    async fn look(self: Arc<Self>, is_listening: bool) {
        for turn in 0_usize.. {
            let told = self.town.scrape(PAGES[turn % PAGES.len()]).await.map(drop);
            self.note("scrapes", told);
            if is_listening && turn.is_multiple_of(5) {
                let told = self.town.listen_in().await;
                self.note("events", told);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Plays it; tells whether everything stayed as it was.
pub async fn play(is_full: bool) -> bool {
    let plan = Plan::of(is_full);
    let stage = Stage::open().await;
    let admin = ", token: {env: SOAK_ADMIN}";
    let proxy =
        Process::listening(&stage.listen(), admin, &stage.configuration(0), &Stage::environment()).await;
    let town = Town::new(proxy.data, proxy.others[0], proxy.admin, stage.certificate());
    let soak = Arc::new(Soak {
        town,
        paid: Mutex::default(),
        complaints: Mutex::default(),
        visits: AtomicU64::new(0),
        season: AtomicU64::new(0),
        missed: AtomicU64::new(0),
        began: Instant::now(),
    });
    let visits: Vec<(Visit, u32)> =
        VISITS.into_iter().filter(|(visit, _)| plan.has(&format!("{visit:?}"))).collect();
    let mut tasks = vec![tokio::spawn(Arc::clone(&soak).call(visits, plan.per_second))];
    if plan.has("scrapes") {
        tasks.push(tokio::spawn(Arc::clone(&soak).look(plan.has("events"))));
    }
    let (samples, first, last) = watch(&plan, &soak, &stage, &proxy).await;
    for task in tasks {
        task.abort();
    }
    let left = settle(&soak, &proxy).await;
    report(&plan, &soak, &samples);
    let mut faults = judge(&plan, &samples);
    if let Err(why) = left {
        faults.push(why);
    }
    // The sum of a histogram stands for its buckets.
    let came_late = |series: &&String| !first.contains(*series) && !series.contains("_bucket{");
    last.iter().filter(came_late).for_each(|series| println!("  came after the warm-up: {series}"));
    let complaints = soak.complaints.lock().expect("complaints");
    if !complaints.is_empty() {
        faults.push(format!("{} visits ended otherwise than meant", complaints.len()));
        complaints.iter().take(12).for_each(|complaint| println!("  {complaint}"));
    }
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    faults.is_empty()
}

/// Takes samples and reloads until the time is over.
async fn watch(
    plan: &Plan,
    soak: &Soak,
    stage: &Stage,
    proxy: &Process,
) -> (Vec<Sample>, BTreeSet<String>, BTreeSet<String>) {
    let mut samples = Vec::new();
    let (mut first, mut last) = (BTreeSet::new(), BTreeSet::new());
    let mut reloaded = Instant::now();
    let mut turn = 0;
    while soak.began.elapsed() < plan.lasts {
        tokio::time::sleep(plan.between_samples).await;
        if plan.has("reloads") && reloaded.elapsed() >= plan.between_reloads {
            reloaded = Instant::now();
            turn += 1;
            reload(turn, plan, soak, stage, proxy);
        }
        let page = match soak.town.scrape("/metrics").await {
            Ok(answer) => answer.body_text(),
            Err(why) => {
                soak.note("samples", Err(why));
                continue;
            }
        };
        let at = soak.began.elapsed();
        last = gauge::series(&page);
        if at < plan.lasts / 4 {
            first.clone_from(&last);
        }
        let visits = soak.visits.load(Ordering::Relaxed);
        let Some(sample) = Sample::take(proxy.pid(), at, last.len(), visits) else {
            soak.note("samples", Err("the process is gone".to_owned()));
            break;
        };
        samples.push(sample);
    }
    (samples, first, last)
}

/// Every third configuration is refused.
fn reload(turn: u64, plan: &Plan, soak: &Soak, stage: &Stage, proxy: &Process) {
    if turn.is_multiple_of(12) && plan.has("rotation") {
        stage.rotate();
    }
    if turn.is_multiple_of(3) && plan.has("broken") {
        proxy.reload(&stage.broken(turn));
        soak.note("broken", Ok(()));
    } else {
        proxy.reload(&stage.configuration(turn));
        soak.season.store(turn, Ordering::Relaxed);
        soak.note("reloads", Ok(()));
    }
}

/// Waits until nothing is under way any more, and says what is left after half a minute.
async fn settle(soak: &Soak, proxy: &Process) -> Result<(), String> {
    let began = Instant::now();
    loop {
        // Who was under way puts its connection back.
        soak.town.hang_up();
        let page = soak.town.scrape("/metrics").await?.body_text();
        let under_way: f64 = page
            .lines()
            .filter(|line| line.starts_with("pointsman_in_flight{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        let connections = inbound(proxy);
        if under_way == 0.0 && connections == 0 {
            return Ok(());
        }
        if began.elapsed() > QUIET {
            let seconds = QUIET.as_secs();
            return Err(format!(
                "{seconds} s after the last client left {under_way} attempts are under way and {connections} connections are open"
            ));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Connections that clients have with the proxy, by the table of the kernel. The last state of a
/// connection (06, TIME_WAIT) is the kernel's own and holds no descriptor.
fn inbound(proxy: &Process) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let ports: Vec<String> = std::iter::once(&proxy.data)
        .chain(&proxy.others)
        .map(|address| format!("0100007F:{:04X}", address.port()))
        .collect();
    table
        .lines()
        .filter(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            let state = fields.nth(1).unwrap_or_default();
            ports.iter().any(|port| port == local) && !["0A", "06", "03"].contains(&state)
        })
        .count()
}

const VALUES: [(&str, Value, Typical); 5] = [
    ("resident KiB", |sample| sample.resident_kib, median),
    ("anonymous KiB", |sample| sample.anonymous_kib, median),
    ("descriptors", |sample| sample.descriptors, median),
    ("threads", |sample| sample.threads, peak),
    ("series", |sample| sample.series, median),
];

fn settled<'a>(plan: &Plan, samples: &'a [Sample]) -> &'a [Sample] {
    let from = samples.iter().position(|sample| sample.at >= plan.lasts / 4).unwrap_or(0);
    samples.get(from..).unwrap_or_default()
}

fn report(plan: &Plan, soak: &Soak, samples: &[Sample]) {
    println!(
        "{:>8} {:>9} {:>13} {:>13} {:>12} {:>8} {:>7}",
        "s", "visits", "resident KiB", "anon. KiB", "descriptors", "threads", "series"
    );
    let step = samples.len().div_ceil(24).max(1);
    for sample in samples.iter().step_by(step).chain(samples.last()) {
        println!(
            "{:>8.0} {:>9} {:>13} {:>13} {:>12} {:>8} {:>7}",
            sample.at.as_secs_f64(),
            sample.requests,
            sample.resident_kib,
            sample.anonymous_kib,
            sample.descriptors,
            sample.threads,
            sample.series
        );
    }
    println!(
        "\n{:<14} {:>10} {:>10} {:>10} {:>14}",
        "after warm-up", "first", "last", "growth", "slope an hour"
    );
    for (name, value, typical) in VALUES {
        let trend = Trend::of(settled(plan, samples), value, typical);
        println!(
            "{name:<14} {:>10.0} {:>10.0} {:>10.0} {:>14.1}",
            trend.first,
            trend.last,
            trend.growth(),
            trend.per_hour
        );
    }
    let paid: Vec<String> =
        soak.paid.lock().expect("paid").iter().map(|(what, count)| format!("{what} {count}")).collect();
    println!("{}; {} came to a full house", paid.join(", "), soak.missed.load(Ordering::Relaxed));
}

fn judge(plan: &Plan, samples: &[Sample]) -> Vec<String> {
    let mut faults = Vec::new();
    if !plan.is_judged {
        return faults;
    }
    let settled = settled(plan, samples);
    let bounds: [(usize, f64); 4] = [(0, GROWTH_MAX_KIB), (2, DESCRIPTORS_MAX), (3, 0.0), (4, SERIES_MAX)];
    for (at, most) in bounds {
        if at == 4 && !plan.has_all_series {
            continue;
        }
        let (name, value, typical) = VALUES[at];
        let growth = Trend::of(settled, value, typical).growth();
        if growth > most {
            faults.push(format!("{name} grew by {growth:.0} after the warm-up, more than {most:.0}"));
        }
    }
    faults
}
