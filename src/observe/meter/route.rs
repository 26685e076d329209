//! What is counted per route, and per route and target.
//!
//! A route's targets are few: its pairs are a list that is searched by the target's number.

use super::Lazy;
use super::target::TargetMeter;
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use crate::observe::metrics::{Kind, Metrics, Names, OTHER};
use parking_lot::RwLock;
use prometheus::{Histogram, IntCounter};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What is counted per route.
pub struct RouteMeter {
    metrics: Arc<Metrics>,
    name: Arc<str>,
    requests: [[Lazy<IntCounter>; CODE_CLASSES.len()]; DIALECTS],
    unanswered: Lazy<Histogram>,
    pairs: RwLock<Vec<(u64, Arc<Pair>)>>,
}

/// What is counted per route and target.
struct Pair {
    attempts: [Lazy<IntCounter>; Outcome::ALL.len()],
    first_content: Lazy<Histogram>,
    duration: Lazy<Histogram>,
}

/// The dialects, and behind them none, where the request was answered before its dialect was known.
const DIALECTS: usize = 11;

const CODE_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", OTHER];

impl RouteMeter {
    pub(super) fn new(metrics: &Arc<Metrics>, name: Arc<str>) -> RouteMeter {
        RouteMeter {
            metrics: Arc::clone(metrics),
            name,
            requests: [const { [const { OnceLock::new() }; CODE_CLASSES.len()] }; DIALECTS],
            unanswered: OnceLock::new(),
            pairs: RwLock::default(),
        }
    }

    /// Returns the label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the counter of broken streams, which an alert looks at: a rate over a counter that appears
    /// with its first event misses that event.
    pub(super) fn announce(&self) {
        let family = &self.metrics.families.stream_interrupted;
        // It stays where it is; there is nothing to count yet.
        let _ = self.metrics.child(family, self.names(None), &[self.name()]);
    }

    /// Records a request that was answered with `status` (499 where its client left), `took` from
    /// the end of its body, by the target whose answer it got, where one answered. The dialect is
    /// absent where the request was refused before it was known.
    pub fn answered(&self, dialect: Option<Dialect>, status: u16, by: Option<&TargetMeter>, took: Duration) {
        let class = code_class(status);
        let row = dialect_row(dialect);
        let lazy = self.requests.get(row).and_then(|row| row.get(class));
        let series = lazy.and_then(|lazy| {
            let dialect = dialect.map_or(OTHER, Dialect::as_label);
            let families = &self.metrics.families;
            let labels = [self.name(), dialect, CODE_CLASSES.get(class).copied().unwrap_or(OTHER)];
            lazy.get_or_init(|| self.metrics.child(&families.requests, self.names(None), &labels)).as_ref()
        });
        if let Some(series) = series {
            series.inc();
        }
        self.observe_duration(by, took);
    }

    /// Counts an attempt at a target by how it ended.
    pub fn attempt(&self, target: &TargetMeter, outcome: Outcome) {
        let pair = self.pair(target);
        let series = pair.attempts.get(outcome as usize).and_then(|lazy| {
            let labels = [self.name(), target.name(), outcome.as_label()];
            let family = &self.metrics.families.attempts;
            lazy.get_or_init(|| self.metrics.child(family, self.names(Some(target)), &labels)).as_ref()
        });
        if let Some(series) = series {
            series.inc();
        }
    }

    /// Records the time from the start of an attempt to its first content.
    pub fn first_content(&self, target: &TargetMeter, took: Duration) {
        let pair = self.pair(target);
        let family = &self.metrics.families.first_content;
        let labels = [self.name(), target.name()];
        let series =
            pair.first_content.get_or_init(|| self.metrics.child(family, self.names(Some(target)), &labels));
        if let Some(series) = series {
            series.observe(took.as_secs_f64());
        }
    }

    fn observe_duration(&self, by: Option<&TargetMeter>, took: Duration) {
        let pair = by.map(|target| self.pair(target));
        let lazy = pair.as_ref().map_or(&self.unanswered, |pair| &pair.duration);
        let labels = [self.name(), by.map_or(OTHER, TargetMeter::name)];
        let family = &self.metrics.families.request_duration;
        if let Some(series) = lazy.get_or_init(|| self.metrics.child(family, self.names(by), &labels)) {
            series.observe(took.as_secs_f64());
        }
    }

    fn names<'a>(&'a self, target: Option<&'a TargetMeter>) -> (Kind, Names<'a>) {
        let targets = [target.map(TargetMeter::name), None];
        (Kind::Event, Names { route: Some(self.name()), targets, ..Names::default() })
    }

    fn pair(&self, target: &TargetMeter) -> Arc<Pair> {
        if let Some(pair) = find(&self.pairs.read(), target.number) {
            return pair;
        }
        let mut pairs = self.pairs.write();
        // Another request may have made it between the two locks.
        find(&pairs, target.number).unwrap_or_else(|| {
            let pair = Arc::new(Pair {
                attempts: [const { OnceLock::new() }; Outcome::ALL.len()],
                first_content: OnceLock::new(),
                duration: OnceLock::new(),
            });
            pairs.push((target.number, Arc::clone(&pair)));
            pair
        })
    }
}

fn find(pairs: &[(u64, Arc<Pair>)], number: u64) -> Option<Arc<Pair>> {
    pairs.iter().find(|(of, _)| *of == number).map(|(_, pair)| Arc::clone(pair))
}

/// The row of a dialect among the [`DIALECTS`]; a new one stops the compiler here.
fn dialect_row(dialect: Option<Dialect>) -> usize {
    match dialect {
        Some(Dialect::OpenAiChat) => 0,
        Some(Dialect::OpenAiCompletions) => 1,
        Some(Dialect::OpenAiEmbeddings) => 2,
        Some(Dialect::OpenAiResponses) => 3,
        Some(Dialect::AnthropicMessages) => 4,
        Some(Dialect::GeminiGenerate) => 5,
        Some(Dialect::BedrockConverse) => 6,
        Some(Dialect::CohereChat) => 7,
        Some(Dialect::OllamaChat) => 8,
        Some(Dialect::GenerateBridge) => 9,
        None => DIALECTS - 1,
    }
}

/// Index into [`CODE_CLASSES`].
fn code_class(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100 - 1),
        _ => CODE_CLASSES.len() - 1,
    }
}
