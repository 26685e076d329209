//! Who has shown too many wrong keys of late?
//!
//! `limits.wrong_keys_per_minute` wrong keys from one address within a minute are a mistake; what comes
//! behind them until the minute is over is taken for guessing (threat C10). Then a wrong key is answered
//! with 429 after [`SLOWED`], and its connection closed.
//!
//! A key is compared first and whatever its address did: people share addresses, and nobody is locked
//! out because a neighbour guesses. So this does not stop who guesses, it takes their time: one guess
//! a second and connection, of which an address has `limits.connections_per_address`. A request with a
//! right key, or with none, never comes here.
//!
//! At most [`KEPT`] addresses are remembered; the oldest leave, and whoever owns more addresses than
//! that is slowed by his own work. What an address is: [`origin_of`](crate::base::reach::origin_of).

use crate::base::time::Tick;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// How long an answer waits that was too many.
pub const SLOWED: Duration = Duration::from_secs(1);
/// How long wrong keys are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Most addresses that are remembered: half a megabyte.
const KEPT: usize = 4096;

/// The wrong keys of the last minute.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    of: HashMap<IpAddr, Minute>,
    /// In the order in which their minutes began.
    order: VecDeque<(IpAddr, Tick)>,
}

/// One address's minute.
#[derive(Clone, Copy, Debug)]
struct Minute {
    began: Tick,
    wrong: u32,
}

impl Guesses {
    /// Counts a wrong key; returns how long the address is slowed down for yet, where this was one
    /// more than `most`.
    pub fn wrong(&self, origin: IpAddr, most: u32, now: Tick) -> Option<Duration> {
        if most == 0 {
            return None;
        }
        let mut table = self.0.lock();
        table.forget(now);
        let minute = table.minute(origin, now);
        minute.wrong = minute.wrong.saturating_add(1);
        (minute.wrong > most).then(|| WINDOW.saturating_sub(now.since(minute.began)))
    }
}

impl Table {
    /// Makes the minutes leave that are over.
    fn forget(&mut self, now: Tick) {
        while self.order.front().is_some_and(|(_, began)| now.since(*began) >= WINDOW) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((origin, _)) = self.order.pop_front() {
            self.of.remove(&origin);
        }
    }

    /// Finds or begins the minute of an address; the oldest one leaves where there is no room.
    fn minute(&mut self, origin: IpAddr, now: Tick) -> &mut Minute {
        if self.of.len() >= KEPT && !self.of.contains_key(&origin) {
            self.drop_oldest();
        }
        self.of.entry(origin).or_insert_with(|| {
            self.order.push_back((origin, now));
            Minute { began: now, wrong: 0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn second(n: u64) -> Tick {
        Tick(1).after(Duration::from_secs(n))
    }

    #[test]
    fn so_many_a_minute_are_a_mistake_and_one_more_is_slowed_until_it_is_over() {
        let guesses = Guesses::default();
        let mut told = Vec::new();
        for n in [0, 1, 2, 20, 59, 60, 61] {
            told.push(guesses.wrong(at("192.0.2.1"), 2, second(n)).map(|left| left.as_secs()));
        }
        assert_eq!(told, [None, None, Some(58), Some(40), Some(1), None, None]);
        assert_eq!(guesses.wrong(at("192.0.2.2"), 2, second(59)), None, "another address is another");
        assert!((0..100).all(|n| guesses.wrong(at("192.0.2.3"), 0, second(n)).is_none()), "0 is no limit");
    }

    #[test]
    fn the_oldest_leave_and_the_table_stays_as_it_is() {
        let guesses = Guesses::default();
        let other = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..10_000_u32 {
            guesses.wrong(other(n), 1, second(0));
        }
        let (count, order) = {
            let table = guesses.0.lock();
            (table.of.len(), table.order.len())
        };
        assert!(count <= KEPT && order == count, "{count} {order}");
        assert!(guesses.wrong(other(9_999), 1, second(1)).is_some(), "the newest is remembered");
        assert!(guesses.wrong(other(0), 1, second(1)).is_none(), "the oldest is not");
        guesses.wrong(at("192.0.2.1"), 1, second(100));
        assert_eq!(guesses.0.lock().of.len(), 1, "nobody is remembered beyond his minute");
    }
}
