//! Which reply comes next?
//!
//! A [`Script`] is a sequence whose last reply repeats for ever, a round that starts again, one
//! script a model, phases by the clock, or a closure. Sequences count the requests that reached
//! them, so scripts for different models do not disturb each other.
//!
//! A reply that answers before the upload ([`Reply::early`]) works only in scripts that need not
//! read the body to choose: sequences, rounds and phases of these.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Reply, Seen};

/// The rule by which a provider answers.
#[derive(Clone)]
pub struct Script(Arc<Plot>);

type Rule = dyn Fn(&Seen) -> Reply + Send + Sync;

enum Plot {
    Sequence { replies: Vec<Arc<Reply>>, next: AtomicUsize },
    Round { replies: Vec<Arc<Reply>>, next: AtomicUsize },
    ByModel { scripts: HashMap<String, Script>, otherwise: Option<Script> },
    Phases(Vec<(Duration, Script)>),
    Rule(Box<Rule>),
}

impl Script {
    /// Always gives the same reply.
    #[must_use]
    pub fn always(reply: Reply) -> Script {
        Script::of([reply])
    }

    /// Gives the replies one after another; the last one repeats.
    #[must_use]
    pub fn of(replies: impl IntoIterator<Item = Reply>) -> Script {
        let replies = replies.into_iter().map(Arc::new).collect();
        Script(Arc::new(Plot::Sequence { replies, next: AtomicUsize::new(0) }))
    }

    /// Gives the replies one after another, over and over.
    #[must_use]
    pub fn round(replies: impl IntoIterator<Item = Reply>) -> Script {
        let replies = replies.into_iter().map(Arc::new).collect();
        Script(Arc::new(Plot::Round { replies, next: AtomicUsize::new(0) }))
    }

    /// Follows one script a model; other models get [`Reply::ok`], or what
    /// [`otherwise`](Script::otherwise) says.
    #[must_use]
    pub fn by_model<M: Into<String>, S: Into<Script>>(scripts: impl IntoIterator<Item = (M, S)>) -> Script {
        let scripts = scripts.into_iter().map(|(model, script)| (model.into(), script.into())).collect();
        Script(Arc::new(Plot::ByModel { scripts, otherwise: None }))
    }

    /// Follows each script for a span, over and over, counted from the provider's start.
    #[must_use]
    pub fn phases(phases: impl IntoIterator<Item = (Duration, Script)>) -> Script {
        Script(Arc::new(Plot::Phases(phases.into_iter().collect())))
    }

    /// Asks a closure, once the request has been read whole.
    #[must_use]
    pub fn rule(rule: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Script {
        Script(Arc::new(Plot::Rule(Box::new(rule))))
    }

    /// Adds what a sequence answers for ever after its last reply.
    #[must_use]
    pub fn then(self, last: Reply) -> Script {
        let mut replies = self.listed();
        replies.push(Arc::new(last));
        Script(Arc::new(Plot::Sequence { replies, next: AtomicUsize::new(0) }))
    }

    /// Sets the script for models that have none.
    #[must_use]
    pub fn otherwise(self, script: impl Into<Script>) -> Script {
        let scripts = match &*self.0 {
            Plot::ByModel { scripts, .. } => scripts.clone(),
            Plot::Sequence { .. } | Plot::Round { .. } | Plot::Phases(_) | Plot::Rule(_) => HashMap::new(),
        };
        Script(Arc::new(Plot::ByModel { scripts, otherwise: Some(script.into()) }))
    }

    fn listed(&self) -> Vec<Arc<Reply>> {
        match &*self.0 {
            Plot::Sequence { replies, .. } | Plot::Round { replies, .. } => replies.clone(),
            Plot::ByModel { .. } | Plot::Phases(_) | Plot::Rule(_) => Vec::new(),
        }
    }

    /// Tells whether the body must be read before a reply can be chosen.
    pub(super) fn needs_body(&self) -> bool {
        match &*self.0 {
            Plot::Sequence { .. } | Plot::Round { .. } => false,
            Plot::ByModel { .. } | Plot::Rule(_) => true,
            Plot::Phases(phases) => phases.iter().any(|(_, script)| script.needs_body()),
        }
    }

    /// Returns the reply to this request and moves on.
    pub(super) fn choose(&self, seen: &Seen, elapsed: Duration) -> Arc<Reply> {
        let fallback = || Arc::new(Reply::ok());
        match &*self.0 {
            Plot::Sequence { replies, next } => {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                replies.get(turn).or_else(|| replies.last()).cloned().unwrap_or_else(fallback)
            }
            Plot::Round { replies, next } => {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let turn = turn.checked_rem(replies.len()).unwrap_or(0);
                replies.get(turn).cloned().unwrap_or_else(fallback)
            }
            Plot::ByModel { scripts, otherwise } => match scripts.get(&seen.model).or(otherwise.as_ref()) {
                Some(script) => script.choose(seen, elapsed),
                None => fallback(),
            },
            Plot::Phases(phases) => match phase_at(phases, elapsed) {
                Some(script) => script.choose(seen, elapsed),
                None => fallback(),
            },
            Plot::Rule(rule) => Arc::new(rule(seen)),
        }
    }

    /// Starts every sequence from its first reply again.
    pub(super) fn rewind(&self) {
        match &*self.0 {
            Plot::Sequence { next, .. } | Plot::Round { next, .. } => next.store(0, Ordering::Relaxed),
            Plot::ByModel { scripts, otherwise } => {
                scripts.values().chain(otherwise).for_each(Script::rewind);
            }
            Plot::Phases(phases) => phases.iter().for_each(|(_, script)| script.rewind()),
            Plot::Rule(_) => {}
        }
    }
}

fn phase_at(phases: &[(Duration, Script)], elapsed: Duration) -> Option<&Script> {
    let round: u128 = phases.iter().map(|(span, _)| span.as_nanos()).sum();
    let mut left = elapsed.as_nanos().checked_rem(round)?;
    phases.iter().find_map(|(span, script)| {
        if left < span.as_nanos() {
            return Some(script);
        }
        left -= span.as_nanos();
        None
    })
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Script {
        Script::always(reply)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Plot::Sequence { replies, .. } => f.debug_tuple("Sequence").field(replies).finish(),
            Plot::Round { replies, .. } => f.debug_tuple("Round").field(replies).finish(),
            Plot::ByModel { scripts, otherwise } => {
                f.debug_tuple("ByModel").field(scripts).field(otherwise).finish()
            }
            Plot::Phases(phases) => f.debug_tuple("Phases").field(phases).finish(),
            Plot::Rule(_) => f.write_str("Rule"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(script: &Script, model: &str, turns: usize) -> Vec<String> {
        let seen = Seen { model: model.to_owned(), ..Seen::default() };
        (0..turns).map(|_| script.choose(&seen, Duration::ZERO).text.clone()).collect()
    }

    #[test]
    fn a_sequence_repeats_its_last_reply_and_a_round_starts_again() {
        let sequence = Script::of([Reply::says("a"), Reply::says("b")]).then(Reply::says("c"));
        assert_eq!(statuses(&sequence, "", 5), ["a", "b", "c", "c", "c"]);
        sequence.rewind();
        assert_eq!(statuses(&sequence, "", 1), ["a"]);
        let round = Script::round([Reply::says("a"), Reply::says("b")]);
        assert_eq!(statuses(&round, "", 3), ["a", "b", "a"]);
    }

    #[test]
    fn scripts_of_different_models_count_on_their_own() {
        let script = Script::by_model([
            ("one", Script::of([Reply::says("1a"), Reply::says("1b")])),
            ("two", Script::of([Reply::says("2a"), Reply::says("2b")])),
        ])
        .otherwise(Reply::says("other"));
        assert_eq!(statuses(&script, "one", 2), ["1a", "1b"]);
        assert_eq!(statuses(&script, "two", 1), ["2a"]);
        assert_eq!(statuses(&script, "three", 1), ["other"]);
    }

    #[test]
    fn phases_follow_the_clock_round_and_round() {
        let second = Duration::from_secs(1);
        let script = Script::phases([
            (second, Reply::says("first").into()),
            (second * 2, Reply::says("second").into()),
        ]);
        let at = |secs: u64| script.choose(&Seen::default(), Duration::from_secs(secs)).text.clone();
        assert_eq!([at(0), at(1), at(2), at(3), at(4)], ["first", "second", "second", "first", "second"]);
    }

    #[test]
    fn an_empty_script_answers_well_instead_of_panicking() {
        assert_eq!(statuses(&Script::of([]), "", 2).len(), 2);
        assert_eq!(statuses(&Script::round([]), "", 2).len(), 2);
        assert_eq!(statuses(&Script::phases([]), "", 2).len(), 2);
    }
}
