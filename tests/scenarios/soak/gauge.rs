//! What the process holds: memory, descriptors, threads and series, and how these grow.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// What was seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since the start of the load.
    pub at: Duration,
    pub resident_kib: f64,
    /// Anonymous memory: the heap, without pages of the program's file.
    pub anonymous_kib: f64,
    pub descriptors: f64,
    pub threads: f64,
    pub series: f64,
    /// Requests so far.
    pub requests: u64,
}

impl Sample {
    /// Reads `/proc`; series and requests are told.
    pub fn take(pid: u32, at: Duration, series: usize, requests: u64) -> Option<Sample> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        Some(Sample {
            at,
            resident_kib: number("VmRSS")?,
            anonymous_kib: number("RssAnon")?,
            descriptors: count(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count()),
            threads: number("Threads")?,
            series: count(series),
            requests,
        })
    }
}

/// The value of a sample that is judged.
pub type Value = fn(&Sample) -> f64;

/// What stands for a stretch of samples.
pub type Typical = fn(&[f64]) -> f64;

/// How a value went on after the warm-up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trend {
    /// What stands for the first tenth and for the last.
    pub first: f64,
    pub last: f64,
    /// Of the line of least squares.
    pub per_hour: f64,
}

impl Trend {
    pub fn of(samples: &[Sample], value: Value, typical: Typical) -> Trend {
        let tenth = (samples.len() / 10).max(1);
        let values: Vec<f64> = samples.iter().map(value).collect();
        let (head, tail) = (values.get(..tenth), values.get(values.len().saturating_sub(tenth)..));
        let points: Vec<(f64, f64)> =
            samples.iter().map(|sample| (sample.at.as_secs_f64() / 3600.0, value(sample))).collect();
        Trend {
            first: typical(head.unwrap_or_default()),
            last: typical(tail.unwrap_or_default()),
            per_hour: slope(&points),
        }
    }

    pub fn growth(&self) -> f64 {
        self.last - self.first
    }
}

/// For what wavers about a level.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// For what comes and goes, such as a thread of a pool: how high it stood.
pub fn peak(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let many = count(points.len());
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / many.max(1.0);
    let (middle, level) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - middle).powi(2)).sum();
    let shared: f64 = points.iter().map(|(x, y)| (x - middle) * (y - level)).sum();
    if spread > 0.0 { shared / spread } else { 0.0 }
}

/// Series of a page of metrics: everything of a line but its value.
pub fn series(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}
