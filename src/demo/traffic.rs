//! A little traffic: what a client sees of the proxy.
//!
//! OpenAI and Anthropic calls in turn, whole and streamed in turn, each on a connection of its own.
//! A call is answered when its status is 200, all the words came, and it ended as its dialect wants
//! it. Whether it failed over is read from the headers that every client gets.

use crate::base::time::Tick;
use crate::clock::Clock;
use crate::standin::caller::{Answer, BodyEnd, Call};
use crate::standin::flaky;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a call may take before it counts as failed; far above what the demo's timers allow.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Failovers and failures that are kept for the screen.
const KEPT: usize = 4;

/// What the screen calls it, and how it is made.
type Turn = (&'static str, fn() -> Call);

/// The calls in turn.
const TURNS: [Turn; 4] = [
    ("chat", || Call::chat("demo")),
    ("chat, streamed", || Call::chat_stream("demo")),
    ("messages", || Call::message("demo", false)),
    ("messages, streamed", || Call::message("demo", true)),
];

/// What became of the requests so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// Answered by another target than the one that was tried first.
    pub(super) failed_over: u64,
    /// Answered by the second provider at once, because the first was resting.
    pub(super) passed_over: u64,
    /// Seen by the client as a failure.
    pub(super) failed: u64,
    /// The latest failovers, oldest first.
    pub(super) failovers: VecDeque<Event>,
    /// The latest failures, oldest first.
    pub(super) faults: VecDeque<Event>,
}

/// Something worth a line.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Since the start.
    pub(super) at: Duration,
    /// Which call.
    pub(super) call: &'static str,
    /// The trail, or what was wrong.
    pub(super) what: String,
    /// How long the client waited for the end.
    pub(super) took: Duration,
}

struct Done {
    call: &'static str,
    result: io::Result<Answer>,
}

/// Requests under way and behind us.
pub(super) struct Traffic {
    to: SocketAddr,
    clock: Clock,
    began: Tick,
    under_way: JoinSet<Done>,
    tally: Tally,
}

impl Traffic {
    pub(super) fn to(to: SocketAddr, clock: Clock) -> Traffic {
        Traffic { to, clock, began: clock.tick(), under_way: JoinSet::new(), tally: Tally::default() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.tick().since(self.began)
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Sends the next call in turn.
    pub(super) fn send(&mut self) {
        let turn = usize::try_from(self.tally.sent).unwrap_or(0) % TURNS.len();
        let Some((name, call)) = TURNS.get(turn) else { return };
        self.tally.sent += 1;
        let (call, to) = (call().limit(CALL_LIMIT), self.to);
        self.under_way.spawn(async move { Done { call: name, result: call.send(to).await } });
    }

    /// Waits for the end of a call and counts it; for ever where none is under way.
    pub(super) async fn next(&mut self) {
        match self.under_way.join_next().await {
            Some(Ok(done)) => self.count(done),
            Some(Err(fault)) => self.fail("a call", fault.to_string(), Duration::ZERO),
            None => std::future::pending().await,
        }
    }

    /// Waits for all calls under way; those that take longer than `limit` count as failed.
    pub(super) async fn settle(&mut self, limit: Duration) {
        let all = async {
            while !self.under_way.is_empty() {
                self.next().await;
            }
        };
        let is_settled = tokio::time::timeout(limit, all).await.is_ok();
        if !is_settled {
            for _ in 0..self.under_way.len() {
                self.fail("a call", "had no end when the demo ended".to_owned(), limit);
            }
        }
    }

    fn count(&mut self, done: Done) {
        match done.result {
            Ok(answer) => match fault_of(&answer) {
                None => self.answered(done.call, &answer),
                Some(fault) => self.fail(done.call, fault, answer.took),
            },
            Err(fault) => self.fail(done.call, fault.to_string(), Duration::ZERO),
        }
    }

    fn answered(&mut self, call: &'static str, answer: &Answer) {
        self.tally.answered += 1;
        if answer.header("x-used-fallback") != Some("true") {
            return;
        }
        if answer.header("x-attempts") == Some("1") {
            self.tally.passed_over += 1;
            return;
        }
        self.tally.failed_over += 1;
        let what = answer.header("x-pointsman-trail").unwrap_or_default().to_owned();
        let event = Event { at: self.elapsed(), call, what, took: answer.took };
        keep(&mut self.tally.failovers, event);
    }

    fn fail(&mut self, call: &'static str, what: String, took: Duration) {
        self.tally.failed += 1;
        let event = Event { at: self.elapsed(), call, what, took };
        keep(&mut self.tally.faults, event);
    }
}

fn keep(events: &mut VecDeque<Event>, event: Event) {
    if events.len() >= KEPT {
        events.pop_front();
    }
    events.push_back(event);
}

/// Returns what a client would have to complain about.
fn fault_of(answer: &Answer) -> Option<String> {
    let trail = answer.header("x-pointsman-trail").unwrap_or_default();
    if answer.status != 200 || answer.error().is_some() {
        return Some(format!("status {} {} {trail}", answer.status, answer.error_code()));
    }
    if let BodyEnd::Cut(why) = &answer.end {
        return Some(format!("cut off: {why} {trail}"));
    }
    let is_whole = answer.text() == flaky::WORDS && (!answer.is_stream() || answer.has_end_marker());
    (!is_whole).then(|| format!("not the whole answer {trail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::{Provider, Reply, Script};

    async fn answer_of(reply: Reply, call: &Call) -> Answer {
        let provider = Provider::start(Script::always(reply)).await.unwrap();
        call.send(provider.address()).await.unwrap()
    }

    #[tokio::test]
    async fn only_a_whole_answer_with_a_proper_end_counts_as_answered() {
        let words = || Reply::says(flaky::WORDS);
        for (name, call) in TURNS {
            let call = call();
            for (reply, is_good) in [
                (words(), true),
                (Reply::status(503), false),
                (Reply::error_event(529), false),
                (Reply::says("something else"), false),
                (words().at(crate::standin::Place::AfterTokens(3), crate::standin::Twist::End), false),
                (words().at(crate::standin::Place::AfterTokens(3), crate::standin::Twist::Close), false),
            ] {
                let fault = fault_of(&answer_of(reply.clone(), &call).await);
                assert_eq!(fault.is_none(), is_good, "{name}: {reply:?}: {fault:?}");
            }
        }
    }

    #[tokio::test]
    async fn calls_without_an_end_count_as_failed() {
        let silent = Provider::start(Script::always(Reply::silence())).await.unwrap();
        let mut traffic = Traffic::to(silent.address(), Clock::new());
        traffic.send();
        traffic.send();
        traffic.settle(Duration::from_millis(50)).await;
        assert_eq!((traffic.tally().sent, traffic.tally().failed), (2, 2));
    }
}
