//! Two attempts side by side: the first one, and the hedge that is asked when it is slow.
//!
//! Neither holds the client: the client, the deadline, the time of the hedge and the timers of both
//! are watched here. Who is first fit to go downstream is delivered, and the other is dropped at that
//! moment, its connection or stream with it. Whether there is a hedge, and what a fault of one means
//! for both, `exchange` says.

use super::attempt::{self, End, Fault, Ready, Stage};
use super::conduct;
use super::patience::{ASK_AGAIN, client_leaves};
use super::trial::{self, Letter, Over, Round, Setting, Tongue, Trial};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::exchange::{Failure, Try};
use crate::health::Change;
use crate::live::Slot;
use smallvec::SmallVec;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

type Opening<'a> = Pin<Box<dyn Future<Output = Opened> + Send + 'a>>;

/// What came of the first half of an attempt.
struct Opened {
    answer: Result<Ready, Fault>,
    /// The slot, where it had to be proved for it.
    proved: Option<Arc<Slot>>,
}

/// One of the two.
struct Lane<'a> {
    trial: Trial<'a>,
    tongue: Tongue,
    opening: Opening<'a>,
    /// When its first content, or its whole answer, is due.
    due: Tick,
    /// The same where it runs by itself: with its turn, and again each second where nobody is left.
    limit: Tick,
}

/// What is under way.
struct Race<'a> {
    round: &'a Round<'a>,
    lanes: SmallVec<[Lane<'a>; 2]>,
    /// When the hedge is due; absent when it was asked, or could not be.
    hedge_at: Option<Tick>,
}

enum Event {
    Opened(usize, Box<Opened>),
    Gone,
    Time,
    /// The process goes.
    Parting,
}

/// Carries out an order, and asks another target beside it after a while.
pub(super) async fn run(round: &Round<'_>, order: Try, after: Duration, stage: &mut Stage<'_>) -> Over {
    let mut race = Race { round, lanes: SmallVec::new(), hedge_at: None };
    if let Err(over) = race.enter(order, stage) {
        return *over;
    }
    race.hedge_at = race.lanes.first().map(|lane| lane.trial.setting.began.after(after));
    let clock = &round.house.clock;
    loop {
        let until = race.next_due().min(stage.exchange.deadline());
        let event = tokio::select! {
            biased;
            (at, opened) = next(&mut race.lanes) => Event::Opened(at, Box::new(opened)),
            () = client_leaves(stage.session) => Event::Gone,
            () = round.house.parting.comes() => Event::Parting,
            () = stage.patience.pass(clock, until) => Event::Time,
        };
        let now = clock.tick();
        let over = match event {
            Event::Opened(at, opened) => {
                let Opened { answer, proved } = *opened;
                let trial = race.lanes.get_mut(at).map(|lane| &mut lane.trial);
                if let (Some(trial), Some(slot)) = (trial, proved) {
                    trial.proved(slot);
                }
                match answer {
                    Ok(ready) => return race.deliver(at, ready, stage, now).await,
                    Err(fault) => race.fell_out(at, fault, stage, now).await,
                }
            }
            Event::Gone => return race.abandon(now),
            Event::Parting => race.run_out(stage).await,
            Event::Time if now >= stage.exchange.deadline() => race.run_out(stage).await,
            Event::Time => race.look_at_the_clock(stage, now).await,
        };
        if let Some(over) = over {
            return over;
        }
    }
}

/// Waits for the first of the lanes to have an answer or a fault.
async fn next(lanes: &mut [Lane<'_>]) -> (usize, Opened) {
    poll_fn(|context| {
        for (at, lane) in lanes.iter_mut().enumerate() {
            if let Poll::Ready(opened) = lane.opening.as_mut().poll(context) {
                return Poll::Ready((at, opened));
            }
        }
        Poll::Pending
    })
    .await
}

/// Makes the first half of an attempt, after a wait for a token where its target wants one.
async fn open(round: &Round<'_>, setting: Setting, letter: Letter) -> Opened {
    let mut slot = Arc::clone(&round.slots[setting.at]);
    if slot.purse.is_some()
        && let Err(no_token) = trial::prove(&mut slot).await
    {
        return Opened { answer: Err(no_token.into()), proved: None };
    }
    let signature = slot.keyring.current();
    let answer = {
        let aim = round.aim(&setting, letter.tongue, &slot, &signature);
        match round.errand(&aim, &setting, letter) {
            Ok(errand) => attempt::open(&aim, errand).await,
            Err(_) => Err(Fault::plain(Outcome::ClientError)),
        }
    };
    let proved = slot.purse.is_some().then_some(slot);
    Opened { answer, proved }
}

impl Race<'_> {
    /// Begins an attempt; over at once where the request cannot be said to its target.
    fn enter(&mut self, order: Try, stage: &mut Stage<'_>) -> Result<(), Box<Over>> {
        let round = self.round;
        let mut trial = Trial::begin(round, order);
        let setting = trial.setting;
        let letter = round.letter(&setting, stage).map_err(|fault| Box::new(trial.unwritten(*fault)))?;
        let tongue = letter.tongue;
        let due = setting.began.after(round.first_span(&setting));
        let limit = stage.exchange.curb(setting.at, due, setting.began);
        let opening = Box::pin(open(round, setting, letter));
        self.lanes.push(Lane { trial, tongue, opening, due, limit });
        Ok(())
    }

    fn next_due(&self) -> Tick {
        let limits = self.lanes.iter().map(|lane| self.limit_of(lane));
        limits.chain(self.hedge_at).min().unwrap_or(Tick(u64::MAX))
    }

    /// Beside another an attempt takes nobody's time.
    fn limit_of(&self, lane: &Lane<'_>) -> Tick {
        if self.lanes.len() > 1 { lane.due } else { lane.limit }
    }

    /// Delivers the answer of the one, once the other is gone.
    async fn deliver(mut self, at: usize, ready: Ready, stage: &mut Stage<'_>, now: Tick) -> Over {
        let Lane { mut trial, tongue, opening, .. } = self.lanes.remove(at);
        drop(opening);
        self.call_off_the_rest(stage, now);
        stage.exchange.answered(ready.status());
        let mut permit = std::mem::take(&mut trial.permit);
        let mut end = attempt::deliver(&trial.aim(tongue), stage, &mut permit, ready).await;
        trial.permit = permit;
        conclude(trial, &mut end, stage).await.with(end)
    }

    /// One has failed: the other goes on, if there is one and the fault is not its own as well.
    async fn fell_out(&mut self, at: usize, fault: Fault, stage: &mut Stage<'_>, now: Tick) -> Option<Over> {
        let (concluded, end, failure) = put_out(self.lanes.remove(at), fault, stage).await;
        if stage.exchange.ends_both(&failure) {
            self.call_off_the_rest(stage, now);
        }
        self.go_on_without(concluded, end, &failure, stage)
    }

    /// Goes on with the other, or ends with this one.
    fn go_on_without(
        &mut self,
        concluded: Concluded,
        end: End,
        failure: &Failure,
        stage: &mut Stage<'_>,
    ) -> Option<Over> {
        if self.lanes.is_empty() {
            return Some(concluded.with(end));
        }
        let mut end = end;
        stage.put_aside(concluded.at, &mut end);
        stage.exchange.fell_out(concluded.at, failure, concluded.now);
        conduct::note(self.round.house, self.round.live, self.round.slots, concluded.at, &concluded.changes);
        None
    }

    /// The deadline ends both.
    async fn run_out(&mut self, stage: &mut Stage<'_>) -> Option<Over> {
        while let Some(lane) = self.lanes.pop() {
            let (concluded, end, failure) = put_out(lane, Fault::plain(Outcome::TimeoutTotal), stage).await;
            if let Some(over) = self.go_on_without(concluded, end, &failure, stage) {
                return Some(over);
            }
        }
        None
    }

    /// Asks the hedge where that is due, and gives up who had the time it gets: with the other still
    /// running, or with somebody else left. Without either it is asked again each second.
    async fn look_at_the_clock(&mut self, stage: &mut Stage<'_>, now: Tick) -> Option<Over> {
        if self.hedge_at.is_some_and(|at| now >= at) {
            self.hedge_at = None;
            let house = self.round.house;
            if let Some(order) = stage.exchange.hedge(now, &house.hedges, &house.budget)
                && let Err(over) = self.enter(order, stage)
            {
                let unsaid = Failure { is_unsaid: true, ..Failure::plain(Outcome::ClientError) };
                stage.exchange.fell_out(over.at, &unsaid, now);
            }
        }
        let late = self.lanes.iter().position(|lane| now >= self.limit_of(lane))?;
        if self.lanes.len() > 1 || stage.exchange.has_alternative(now) {
            return self.fell_out(late, Fault::plain(Outcome::TimeoutFirstContent), stage, now).await;
        }
        self.lanes.iter_mut().for_each(|lane| lane.limit = now.after(ASK_AGAIN));
        None
    }

    fn call_off_the_rest(&mut self, stage: &mut Stage<'_>, now: Tick) {
        for lane in self.lanes.drain(..) {
            stage.exchange.call_off(lane.trial.setting.at, now);
        }
    }

    /// The client has left: both are dropped, and nothing is held against either.
    fn abandon(&mut self, now: Tick) -> Over {
        let at = self.lanes.first().map_or(0, |lane| lane.trial.setting.at);
        self.lanes.clear();
        Over { at, end: End::Gone, changes: SmallVec::new(), now, proved: None }
    }
}

/// An [`Over`] but for its end.
struct Concluded {
    at: usize,
    changes: SmallVec<[Change; 2]>,
    now: Tick,
    proved: Option<Arc<Slot>>,
}

impl Concluded {
    fn with(self, end: End) -> Over {
        Over { at: self.at, end, changes: self.changes, now: self.now, proved: self.proved }
    }
}

/// Ends an attempt with a fault.
async fn put_out(lane: Lane<'_>, fault: Fault, stage: &mut Stage<'_>) -> (Concluded, End, Failure) {
    let Lane { trial, opening, .. } = lane;
    drop(opening);
    let plain = fault.failure;
    let mut end = End::Failed(fault);
    let concluded = conclude(trial, &mut end, stage).await;
    let failure = match &end {
        End::Failed(fault) => fault.failure,
        End::Delivered | End::Gone => plain,
    };
    (concluded, end, failure)
}

async fn conclude(mut trial: Trial<'_>, end: &mut End, stage: &mut Stage<'_>) -> Concluded {
    let (changes, now) = trial.conclude(end, stage.carried).await;
    Concluded { at: trial.setting.at, changes, now, proved: trial.proved.take() }
}
