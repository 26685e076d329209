//! How much may a client ask for?
//!
//! `clients[].limits` (threat C11: a client that is lost in a loop, or whose key was stolen, spends our
//! money): requests and tokens of the last minute, and requests at a time.
//!
//! * A request counts when it is let in, whatever becomes of it; one that is turned away here does not.
//! * Tokens count when a provider has said them, at the end. A request that begins below the limit is
//!   served, so the last one may go beyond it.
//! * The minute slides, in steps of a second: nobody gets twice his requests around its turn.
//! * What was counted is a client's by its name, and stays over reloads. Each process counts for itself.
//! * A client without limits is not counted, and pays nothing.

use crate::base::time::Tick;
use crate::config::plan::{Client, ClientLimits};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Steps of a minute.
const SECONDS: usize = 60;

/// What clients with limits have asked for of late.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<HashMap<Arc<str>, Quota>>);

#[derive(Debug, Default)]
struct Quota {
    requests: Minute,
    tokens: Minute,
    under_way: u32,
}

/// What was counted in each of the last sixty seconds.
#[derive(Debug)]
struct Minute {
    counts: [u64; SECONDS],
    /// The second that was counted in last, from the clock's start.
    now: u64,
}

/// A client has had all it may have for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Of what.
    pub limit: Limit,
    /// How much that is.
    pub most: u64,
    /// When it may ask again, in seconds.
    pub wait: u64,
}

/// One of a client's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `rpm`
    Requests,
    /// `tpm`
    Tokens,
    /// `concurrency`
    AtOnce,
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spent { most, wait, .. } = self;
        match self.limit {
            Limit::Requests => write!(f, "this key may make {most} requests a minute; try again in {wait} s"),
            Limit::Tokens => write!(f, "this key may use {most} tokens a minute; try again in {wait} s"),
            Limit::AtOnce => write!(f, "this key may make {most} requests at a time; let one end first"),
        }
    }
}

/// A request of a client with limits; it is under way until this is dropped.
#[derive(Debug)]
pub struct Turn {
    quotas: Arc<Quotas>,
    client: Arc<str>,
}

impl Quotas {
    /// Lets a request of a client in and counts it; nothing where the client has no limits.
    ///
    /// # Errors
    /// Where one of them is reached.
    pub fn begin(self: &Arc<Self>, client: &Client, now: Tick) -> Result<Option<Turn>, Spent> {
        let ClientLimits { rpm, tpm, concurrency } = client.limits;
        if client.limits == ClientLimits::default() {
            return Ok(None);
        }
        let mut all = self.0.lock();
        let quota = all.entry(Arc::clone(&client.name)).or_default();
        let second = second_of(now);
        quota.requests.turn(second);
        quota.tokens.turn(second);
        let at_once = u64::from(quota.under_way);
        if let Some(most) = concurrency.filter(|most| at_once >= *most) {
            return Err(Spent { limit: Limit::AtOnce, most, wait: 1 });
        }
        for (limit, most, minute) in
            [(Limit::Requests, rpm, &quota.requests), (Limit::Tokens, tpm, &quota.tokens)]
        {
            let Some(most) = most else { continue };
            if let Some(wait) = minute.wait(most) {
                return Err(Spent { limit, most, wait });
            }
        }
        quota.requests.add(1);
        quota.under_way += 1;
        drop(all);
        Ok(Some(Turn { quotas: Arc::clone(self), client: Arc::clone(&client.name) }))
    }

    /// Forgets clients that a new plan does not have, but for those that have requests under way.
    pub fn keep(&self, clients: &[Client]) {
        let is_known = |name: &Arc<str>| clients.iter().any(|client| client.name == *name);
        self.0.lock().retain(|name, quota| quota.under_way > 0 || is_known(name));
    }
}

impl Turn {
    /// Counts the tokens that the request used.
    pub fn used(&self, tokens: u64, now: Tick) {
        if let Some(quota) = self.quotas.0.lock().get_mut(&self.client) {
            quota.tokens.turn(second_of(now));
            quota.tokens.add(tokens);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(quota) = self.quotas.0.lock().get_mut(&self.client) {
            quota.under_way = quota.under_way.saturating_sub(1);
        }
    }
}

impl Default for Minute {
    fn default() -> Self {
        Minute { counts: [0; SECONDS], now: 0 }
    }
}

impl Minute {
    /// Goes on to this second: what was counted a minute before goes.
    fn turn(&mut self, second: u64) {
        let passed = second.saturating_sub(self.now).min(SECONDS as u64);
        for gone in 0..passed {
            *self.count(second - gone) = 0;
        }
        self.now = self.now.max(second);
    }

    fn add(&mut self, more: u64) {
        let count = self.count(self.now);
        *count = count.saturating_add(more);
    }

    /// Returns the seconds until less than `most` was counted in a minute; nothing where that is so.
    fn wait(&self, most: u64) -> Option<u64> {
        let mut ages = (0..SECONDS as u64).rev();
        let count_of = |age: u64| self.now.checked_sub(age).map_or(0, |second| self.counts[place(second)]);
        let mut left: u64 = self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count));
        if left < most {
            return None;
        }
        let last = ages.find(|age| {
            left = left.saturating_sub(count_of(*age));
            left < most
        });
        Some(SECONDS as u64 - last.unwrap_or(0))
    }

    fn count(&mut self, second: u64) -> &mut u64 {
        &mut self.counts[place(second)]
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}

fn second_of(now: Tick) -> u64 {
    now.since(Tick::default()).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn client(limits: ClientLimits) -> Client {
        Client { name: "a".into(), key_digest: [0; 32], routes: vec!["*".to_owned()], limits }
    }

    fn at(second: u64) -> Tick {
        Tick::default().after(Duration::from_secs(second))
    }

    #[test]
    fn so_many_requests_fit_into_any_minute() {
        let quotas = Arc::<Quotas>::default();
        let three = client(ClientLimits { rpm: Some(3), ..ClientLimits::default() });
        let mut told = Vec::new();
        for second in [5, 5, 30, 31, 64, 65, 65, 66, 89, 90, 500] {
            told.push(quotas.begin(&three, at(second)).map(drop).map_err(|spent| spent.wait));
        }
        let (ok, wait) = (Ok(()), Err::<(), u64>);
        assert_eq!(told, [ok, ok, ok, wait(34), wait(1), ok, ok, wait(24), wait(1), ok, ok]);
    }

    #[test]
    fn so_many_are_under_way_at_a_time() {
        let quotas = Arc::<Quotas>::default();
        let two = client(ClientLimits { concurrency: Some(2), ..ClientLimits::default() });
        let first = quotas.begin(&two, at(0)).unwrap();
        let second = quotas.begin(&two, at(0)).unwrap();
        let spent = quotas.begin(&two, at(0)).unwrap_err();
        assert_eq!(spent, Spent { limit: Limit::AtOnce, most: 2, wait: 1 });
        assert!(spent.to_string().contains("2 requests at a time"), "{spent}");
        drop(first);
        assert!(quotas.begin(&two, at(0)).unwrap().is_some());
        drop(second);
        assert_eq!(quotas.0.lock().get("a").unwrap().under_way, 0);
    }

    #[test]
    fn tokens_count_when_they_are_known() {
        let quotas = Arc::<Quotas>::default();
        let few = client(ClientLimits { tpm: Some(100), ..ClientLimits::default() });
        let begin = |second| quotas.begin(&few, at(second));
        begin(0).unwrap().unwrap().used(60, at(2));
        begin(3).unwrap().unwrap().used(600, at(10));
        assert_eq!(begin(11), Err(Spent { limit: Limit::Tokens, most: 100, wait: 59 }));
        assert!(begin(69).is_err());
        begin(70).unwrap().unwrap().used(u64::MAX, at(70));
        begin(70).unwrap_err();
        assert!(begin(130).is_ok(), "a sum beyond all bounds goes as well");
    }

    #[test]
    fn who_has_no_limits_is_not_counted_and_who_is_gone_is_forgotten() {
        let quotas = Arc::<Quotas>::default();
        assert!(quotas.begin(&client(ClientLimits::default()), at(0)).unwrap().is_none());
        assert!(quotas.0.lock().is_empty());
        let one = client(ClientLimits { rpm: Some(1), ..ClientLimits::default() });
        let turn = quotas.begin(&one, at(0)).unwrap();
        quotas.keep(&[]);
        assert_eq!(quotas.0.lock().len(), 1, "a request is under way");
        drop(turn);
        quotas.keep(&[one]);
        assert_eq!(quotas.0.lock().len(), 1);
        quotas.keep(&[]);
        assert!(quotas.0.lock().is_empty());
    }

    impl PartialEq for Turn {
        fn eq(&self, _: &Turn) -> bool {
            true
        }
    }

    proptest! {
        /// Against a list of all that was let in.
        #[test]
        fn no_minute_has_more_than_its_limit_and_the_wait_is_the_least(
            steps in proptest::collection::vec(0..25_u64, 1..200),
            most in 1..6_u64,
        ) {
            let quotas = Arc::<Quotas>::default();
            let client = client(ClientLimits { rpm: Some(most), ..ClientLimits::default() });
            let (mut second, mut let_in) = (0, Vec::<u64>::new());
            for step in steps {
                second += step;
                let within = |when: u64| let_in.iter().filter(|then| **then + 60 > when).count() as u64;
                match quotas.begin(&client, at(second)) {
                    Ok(_) => {
                        prop_assert!(within(second) < most);
                        let_in.push(second);
                    }
                    Err(spent) => {
                        prop_assert!(within(second) >= most);
                        prop_assert!(within(second + spent.wait) < most);
                        prop_assert!(within(second + spent.wait - 1) >= most);
                    }
                }
            }
        }
    }
}
