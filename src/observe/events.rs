//! What has just happened? Told to whoever listens, and kept for a while.
//!
//! An [`Event`] is one of a closed list: what an operator would want to be woken for or to see on a
//! page, each with names of the configuration and closed enums, never a client's text but the id of
//! its request. It gets a time and an id and goes into one ring of the newest [`RING`]; that ring is
//! every listener's queue, too. A listener keeps only the number of the next event it wants, so a
//! slow one costs nothing and holds nobody up: what the ring has let go by then is lost to it, and
//! it is told how many were ([`Batch::lost`]).
//!
//! An id is `<start>-<number>`, the start being the process's in milliseconds since 1970: numbers
//! begin anew with each process, and a listener that comes back after a restart with an id of the
//! former one gets the whole ring instead of a wrong place in it.
//!
//! **What comes in crowds.** Failovers and rescues happen once a request. Of the same change (route,
//! from, to, why) one a second is told, with the number of requests since the one before; the exact
//! counts are metrics. Else an outage at 200 requests a second would push everything else out of
//! the ring within seconds.
//!
//! At most [`LISTENERS`] listen at once. [`Events::close`] ends them all.

mod event;

pub use event::Event;

use super::rfc3339;
use crate::base::time::WallTime;
use event::Crowd;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// Events that are kept: about half a megabyte.
pub const RING: usize = 1000;

/// Listeners at once: a few pages, a few terminals, a collector.
pub const LISTENERS: usize = 16;

/// Events that a listener gets at once, so that one write stays small.
const BATCH: usize = 64;

/// Milliseconds within which the same change is told once.
const CROWD_MS: i64 = 1000;

/// Changes that are remembered as told; they are names of the configuration, so seldom this many.
const CROWDS: usize = 4096;

/// An event as it was told.
#[derive(Debug)]
pub struct Told {
    /// Its number in this process, from 1.
    pub number: u64,
    /// Its kind in one word.
    pub name: &'static str,
    /// Its id.
    pub id: String,
    /// The whole of it as JSON.
    pub json: String,
}

/// What a listener gets.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many events it has missed before these.
    pub lost: u64,
    /// The events, oldest first.
    pub told: Vec<Arc<Told>>,
}

/// Why nobody more may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenFault {
    /// There are [`LISTENERS`] already.
    #[error("16 listen already; close one of them")]
    Full,
    /// The process is leaving.
    #[error("the process is leaving")]
    Closed,
}

/// The events of one process.
pub struct Events {
    /// When they began, in milliseconds since 1970.
    birth: i64,
    state: Mutex<State>,
    news: watch::Sender<News>,
    listeners: AtomicUsize,
}

#[derive(Default)]
struct State {
    ring: VecDeque<Arc<Told>>,
    /// The number of the newest.
    newest: u64,
    /// When each change was told last, and how often it happened since.
    crowds: HashMap<Crowd, (WallTime, u64)>,
}

/// What wakes listeners.
#[derive(Clone, Copy, Default)]
struct News {
    newest: u64,
    is_closed: bool,
}

#[derive(Serialize)]
struct Page<'a> {
    id: &'a str,
    at: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl Events {
    /// Begins with an empty ring.
    #[must_use]
    pub fn new(at: WallTime) -> Arc<Events> {
        Arc::new(Events {
            birth: at.0,
            state: Mutex::default(),
            news: watch::Sender::default(),
            listeners: AtomicUsize::new(0),
        })
    }

    /// Tells an event. What comes in crowds may be counted instead.
    pub fn tell(&self, at: WallTime, mut event: Event) {
        let newest = {
            let mut state = self.state.lock();
            if let Some(crowd) = event.crowd() {
                let Some(requests) = state.gather(crowd, at) else { return };
                event.stands_for(requests);
            }
            let number = state.newest + 1;
            let id = format!("{}-{number}", self.birth);
            let page = Page { id: &id, at: rfc3339(at), event: &event };
            // Nothing in an event can fail to be JSON.
            let Ok(json) = serde_json::to_string(&page) else { return };
            let told = Told { number, name: event.as_label(), id, json };
            if state.ring.len() == RING {
                state.ring.pop_front();
            }
            state.ring.push_back(Arc::new(told));
            state.newest = number;
            number
        };
        self.news.send_modify(|news| news.newest = news.newest.max(newest));
    }

    /// Returns the newest events, at most `count`, oldest first.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Arc<Told>> {
        let state = self.state.lock();
        state.ring.iter().skip(state.ring.len().saturating_sub(count)).cloned().collect()
    }

    /// Lets one more listen, from the event behind `last_id` on, or from now on without one. An id
    /// that this process never gave stands for none of its events: the whole ring follows.
    ///
    /// # Errors
    /// [`ListenFault`]
    pub fn listen(self: &Arc<Self>, last_id: Option<&str>) -> Result<Listener, ListenFault> {
        let news = self.news.subscribe();
        if news.borrow().is_closed {
            return Err(ListenFault::Closed);
        }
        if self.listeners.fetch_add(1, Ordering::AcqRel) >= LISTENERS {
            self.listeners.fetch_sub(1, Ordering::AcqRel);
            return Err(ListenFault::Full);
        }
        let seat = Seat(Arc::clone(self));
        let newest = self.state.lock().newest;
        let seen = last_id.map_or(newest, |id| self.number_of(id, newest).unwrap_or_default());
        // From nowhere nothing is missed: who never listened has lost nothing.
        let seen = if seen == 0 { self.oldest().saturating_sub(1) } else { seen };
        Ok(Listener { seat, news, seen })
    }

    /// Ends every listener, and lets nobody listen any more: the process is leaving.
    pub fn close(&self) {
        self.news.send_modify(|news| news.is_closed = true);
    }

    fn oldest(&self) -> u64 {
        self.state.lock().ring.front().map_or(1, |told| told.number)
    }

    fn number_of(&self, id: &str, newest: u64) -> Option<u64> {
        let (birth, number) = id.trim().split_once('-')?;
        let number = number.parse().ok().filter(|number| *number <= newest)?;
        (birth.parse() == Ok(self.birth)).then_some(number)
    }

    fn after(&self, seen: u64) -> Batch {
        let state = self.state.lock();
        let Some(oldest) = state.ring.front().map(|told| told.number) else { return Batch::default() };
        let lost = oldest.saturating_sub(seen + 1);
        let from = usize::try_from((seen + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        Batch { lost, told: state.ring.iter().skip(from).take(BATCH).cloned().collect() }
    }
}

impl State {
    /// Returns for how many requests the change is told now; nothing where it was told a moment ago.
    fn gather(&mut self, crowd: Crowd, at: WallTime) -> Option<u64> {
        if self.crowds.len() >= CROWDS && !self.crowds.contains_key(&crowd) {
            self.crowds.retain(|_, (told, _)| at.0.saturating_sub(told.0) < CROWD_MS);
            if self.crowds.len() >= CROWDS {
                return Some(1);
            }
        }
        let is_known = self.crowds.contains_key(&crowd);
        let (told, since) = self.crowds.entry(crowd).or_insert((at, 0));
        *since += 1;
        // A clock that was set back must not silence a change for long.
        let is_recent = (0..CROWD_MS).contains(&at.0.saturating_sub(told.0));
        if is_known && is_recent {
            return None;
        }
        *told = at;
        Some(std::mem::take(since))
    }
}

/// A place among the listeners; given back when dropped.
struct Seat(Arc<Events>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Somebody who listens.
pub struct Listener {
    seat: Seat,
    news: watch::Receiver<News>,
    /// The number of the last event it got.
    seen: u64,
}

impl Listener {
    /// Waits for what it has not had yet; nothing when the process is leaving and all was told.
    /// Dropping the wait loses nothing.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            let is_closed = self.news.borrow_and_update().is_closed;
            let batch = self.seat.0.after(self.seen);
            if let Some(last) = batch.told.last() {
                self.seen = last.number;
                return Some(batch);
            }
            if is_closed || self.news.changed().await.is_err() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const BIRTH: WallTime = WallTime(1_795_227_262_123);

    fn tell(events: &Events, count: u64) {
        for number in 0..count {
            events.tell(BIRTH, Event::Stopping { under_way: number });
        }
    }

    fn failover(route: &str, at: i64) -> (WallTime, Event) {
        let event = Event::Failover {
            route: Some(route.to_owned()),
            from: "a/k/m".to_owned(),
            to: "b/k/m".to_owned(),
            reason: "overloaded",
            request_id: format!("r{at}"),
            requests: 1,
        };
        (WallTime(BIRTH.0 + at), event)
    }

    fn values(told: &[Arc<Told>]) -> Vec<Value> {
        told.iter().map(|told| serde_json::from_str(&told.json).unwrap()).collect()
    }

    #[test]
    fn the_ring_holds_the_newest_and_each_has_an_id_a_time_and_a_kind() {
        let events = Events::new(BIRTH);
        tell(&events, RING as u64 + 5);
        let kept = events.newest(usize::MAX);
        assert_eq!((kept.len(), kept[0].number), (RING, 6));
        assert_eq!(
            values(&events.newest(1)),
            [json!({
                "id": format!("{}-1005", BIRTH.0), "at": "2026-11-21T02:14:22.123Z",
                "event": "stopping", "under_way": 1004,
            })]
        );
        assert!(events.newest(0).is_empty());
    }

    #[tokio::test]
    async fn a_slow_listener_loses_the_oldest_and_is_told_how_many() {
        let events = Events::new(BIRTH);
        tell(&events, 3);
        let mut listener = events.listen(None).unwrap();
        tell(&events, RING as u64 + 7);
        let first = listener.next().await.unwrap();
        assert_eq!((first.lost, first.told[0].number, first.told.len()), (7, 11, BATCH));
        let mut count = first.told.len();
        while count < RING {
            let batch = listener.next().await.unwrap();
            assert_eq!(batch.lost, 0);
            count += batch.told.len();
        }
        assert_eq!(count, RING);
    }

    #[tokio::test]
    async fn an_id_is_a_place_and_what_is_none_of_ours_stands_for_the_whole_ring() {
        let events = Events::new(BIRTH);
        tell(&events, 5);
        for (id, first, why) in [
            (format!("{}-3", BIRTH.0), Some(4), "the place behind it"),
            (format!(" {}-3 ", BIRTH.0), Some(4), "blanks of a header"),
            (format!("{}-5", BIRTH.0), None, "nothing new"),
            (format!("{}-6", BIRTH.0), Some(1), "a number to come"),
            (format!("{}-3", BIRTH.0 - 1), Some(1), "another process"),
            ("3".to_owned(), Some(1), "no id"),
            (String::new(), Some(1), "empty"),
            ("-".to_owned(), Some(1), "no numbers"),
        ] {
            let mut listener = events.listen(Some(&id)).unwrap();
            let seen = tokio::time::timeout(std::time::Duration::from_millis(20), listener.next()).await;
            let seen = seen.ok().flatten();
            assert_eq!(seen.as_ref().map(|batch| batch.told[0].number), first, "{id:?}: {why}");
            assert_eq!(seen.map_or(0, |batch| batch.lost), 0, "{id:?}: {why}");
        }
    }

    #[tokio::test]
    async fn sixteen_may_listen_and_a_seat_is_free_again_when_one_leaves() {
        let events = Events::new(BIRTH);
        let mut seats: Vec<Listener> = (0..LISTENERS).map(|_| events.listen(None).unwrap()).collect();
        assert_eq!(events.listen(None).err(), Some(ListenFault::Full));
        seats.pop();
        assert!(events.listen(None).is_ok());
    }

    #[tokio::test]
    async fn closing_ends_listeners_after_what_was_told() {
        let events = Events::new(BIRTH);
        let mut listener = events.listen(None).unwrap();
        tell(&events, 1);
        events.close();
        assert_eq!(listener.next().await.unwrap().told.len(), 1);
        assert!(listener.next().await.is_none());
        assert_eq!(events.listen(None).err(), Some(ListenFault::Closed));
    }

    #[test]
    fn a_crowd_of_the_same_change_is_one_event_a_second_with_its_number() {
        let events = Events::new(BIRTH);
        for (at, event) in (0..300).map(|at| failover("chat", at * 10)) {
            events.tell(at, event);
        }
        let (at, other) = failover("code", 5);
        events.tell(at, other);
        let told = values(&events.newest(RING));
        let seen: Vec<(&str, &str, u64)> = told
            .iter()
            .map(|e| {
                let text = |name: &str| e[name].as_str().unwrap();
                (text("route"), text("request_id"), e["requests"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(
            seen,
            [("chat", "r0", 1), ("chat", "r1000", 100), ("chat", "r2000", 100), ("code", "r5", 1)]
        );
    }

    #[test]
    fn changes_that_are_remembered_are_bounded_and_a_clock_set_back_silences_none() {
        let events = Events::new(BIRTH);
        for number in 0..CROWDS + 100 {
            let (at, event) = failover(&format!("r{number}"), 0);
            events.tell(at, event);
        }
        assert!(events.state.lock().crowds.len() <= CROWDS);
        let events = Events::new(BIRTH);
        for at in [0, -60_000] {
            let (at, event) = failover("chat", at);
            events.tell(at, event);
        }
        assert_eq!(events.newest(RING).len(), 2);
    }
}
