//! The sums, in memory.
//!
//! One lock over the [`Book`], held for a few look-ups and additions. Whoever reads copies the rows out and
//! adds up without the lock.

pub use super::book::{DEVICES_MAX, FOREIGN_MAX, Kept, REPORTS_MAX, ROWS_MAX};

use super::book::{Book, Changes};
use super::days::Day;
use super::report::Report;
use super::store::Keeper;
use super::{Count, Dimension, Row, Source, Who};
use crate::base::time::WallTime;
use crate::config::usage::UsagePolicy;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The ledger of a process.
pub struct Ledger {
    book: Mutex<Book>,
    keeper: OnceLock<Keeper>,
}

/// Rows added up.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// From when on: the start of a day.
    pub since: WallTime,
    /// One sum for each combination that occurs: the names in the order of the dimensions.
    pub groups: Vec<(Vec<Arc<str>>, Sum)>,
    /// All together.
    pub total: Sum,
}

/// One sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// The numbers.
    pub count: Count,
    /// How many of its requests were reported by devices.
    pub reported: u64,
    /// When it was last added to; nothing where it never was.
    pub last_seen: Option<WallTime>,
}

impl Ledger {
    /// Opens an empty ledger.
    #[must_use]
    pub fn new(policy: UsagePolicy) -> Arc<Ledger> {
        Arc::new(Ledger { book: Mutex::new(Book::new(policy)), keeper: OnceLock::new() })
    }

    /// Adds a request, or what an attempt of one used, that ended at `at`.
    pub fn count(&self, at: WallTime, who: &Who<'_>, count: &Count) {
        self.book.lock().count(at, who, count);
    }

    /// Adds a report; false where its id was there before.
    pub fn report(&self, report: &Report, count: &Count) -> bool {
        self.book.lock().report(report, count)
    }

    /// Tells whether a report may be taken for a time: not of the future, and not of a day that is
    /// not kept any more.
    #[must_use]
    pub fn keeps(&self, at: WallTime, now: WallTime) -> bool {
        self.book.lock().keeps(at, now)
    }

    /// Adds rows up along `by`, from the day on which `since` falls; without it, of today.
    #[must_use]
    pub fn sums(&self, by: &[Dimension], since: Option<WallTime>, now: WallTime) -> Sums {
        let (rows, from) = self.book.lock().rows_since(since, now);
        Sums::of(&rows, by, from)
    }

    /// Returns when a day begins.
    #[must_use]
    pub fn start_of(&self, day: Day) -> WallTime {
        self.book.lock().start_of(day)
    }

    /// Returns the name of the zone whose days are told apart.
    #[must_use]
    pub fn time_zone(&self) -> String {
        self.book.lock().time_zone()
    }

    /// Has another policy hold from now on; days that were told apart by another zone stay.
    pub fn set_policy(&self, policy: UsagePolicy) {
        self.book.lock().set_policy(policy);
    }

    /// Takes over what was kept before, and has `keeper` keep what comes.
    pub(super) fn kept_by(&self, kept: Kept, keeper: Keeper) {
        self.book.lock().store(kept);
        // A second keeper would be a mistake of ours; the first goes on.
        let _ = self.keeper.set(keeper);
    }

    /// Has what changed written now, and waits for that at most so long; true where all is safe, or
    /// where nothing is kept.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        self.keeper.get().is_none_or(|keeper| keeper.flush(limit))
    }

    /// Takes what changed since the last time.
    pub(super) fn take_changes(&self) -> Changes {
        self.book.lock().take_changes()
    }

    /// Gives back what could not be written.
    pub(super) fn give_back(&self, changes: Changes) {
        self.book.lock().give_back(changes);
    }
}

impl Sums {
    fn of(rows: &[Row], by: &[Dimension], since: WallTime) -> Sums {
        let mut groups: HashMap<Vec<Arc<str>>, Sum> = HashMap::new();
        let mut total = Sum::default();
        for row in rows {
            groups.entry(by.iter().map(|along| row.along(*along)).collect()).or_default().add(row);
            total.add(row);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by(|(names, _), (others, _)| names.cmp(others));
        Sums { since, groups, total }
    }
}

impl Sum {
    fn add(&mut self, row: &Row) {
        self.count += row.count;
        match row.source {
            Source::Proxied => {}
            Source::Reported => self.reported = self.reported.saturating_add(row.count.requests),
        }
        self.last_seen = self.last_seen.max(Some(row.last_seen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::{NONE, OTHER};
    use jiff::tz::TimeZone;

    /// 2026-11-21T02:14:22Z.
    const AT: WallTime = WallTime(1_795_227_262_000);
    const DAY_MS: i64 = 86_400_000;

    const WHO: Who<'static> =
        Who { route: "chat", provider: "p", credential: "k", model: "m", client: "none", device: "none" };

    fn one(input_tokens: u64) -> Count {
        Count { requests: 1, input_tokens, cost_nanos: input_tokens * 2500, ..Count::default() }
    }

    fn groups(ledger: &Ledger, by: &[Dimension], since: Option<WallTime>) -> Vec<(String, u64, u64)> {
        let sums = ledger.sums(by, since, AT);
        let told = |(names, sum): (Vec<Arc<str>>, Sum)| {
            (names.join(" "), sum.count.requests, sum.count.input_tokens)
        };
        sums.groups.into_iter().map(told).collect()
    }

    #[test]
    fn rows_add_up_along_every_dimension() {
        let ledger = Ledger::new(UsagePolicy::default());
        ledger.count(AT, &WHO, &one(5));
        ledger.count(AT, &WHO, &one(7));
        ledger.count(AT, &Who { device: "laptop", client: "ann", ..WHO }, &one(11));
        ledger.count(WallTime(AT.0 - DAY_MS), &WHO, &one(100));
        let none = Who { provider: NONE, credential: NONE, model: NONE, route: OTHER, ..WHO };
        ledger.count(AT, &none, &Count { requests: 1, failed: 1, ..Count::default() });
        for (by, since, want) in [
            (&[Dimension::Route][..], None, vec![("chat", 3, 23), ("other", 1, 0)]),
            (&[Dimension::Target], None, vec![("none", 1, 0), ("p/k/m", 3, 23)]),
            (&[Dimension::Credential], None, vec![("none", 1, 0), ("p/k", 3, 23)]),
            (
                &[Dimension::Device, Dimension::Client],
                None,
                vec![("laptop ann", 1, 11), ("none none", 3, 12)],
            ),
            (
                &[Dimension::Day],
                Some(WallTime(AT.0 - DAY_MS)),
                vec![("2026-11-20", 1, 100), ("2026-11-21", 4, 23)],
            ),
            (&[Dimension::Source], None, vec![("proxied", 4, 23)]),
            (&[], None, vec![("", 4, 23)]),
        ] {
            let want: Vec<_> = want.into_iter().map(|(name, n, t)| (name.to_owned(), n, t)).collect();
            assert_eq!(groups(&ledger, by, since), want, "{by:?}");
        }
        let total = ledger.sums(&[], None, AT).total;
        assert_eq!(total.count.cost_usd(), Some(0.000_057_5));
        assert_eq!(total.last_seen, Some(AT));
    }

    #[test]
    fn devices_are_known_up_to_a_limit_and_malformed_names_are_other() {
        let ledger = Ledger::new(UsagePolicy::default());
        for number in 0..2 * DEVICES_MAX {
            ledger.count(AT, &Who { device: &format!("d{number}"), ..WHO }, &one(1));
        }
        for bad in ["", "a b", "é", "a\n", &"x".repeat(65)] {
            ledger.count(AT, &Who { device: bad, ..WHO }, &one(1));
        }
        ledger.count(AT, &Who { device: "d0", ..WHO }, &one(1));
        ledger.count(AT, &WHO, &one(1));
        let found = groups(&ledger, &[Dimension::Device], None);
        assert_eq!(found.len(), DEVICES_MAX + 2, "known ones, other, none");
        let of = |name: &str| found.iter().find(|(own, ..)| own == name).map(|(_, n, _)| *n);
        assert_eq!(of("other"), Some(u64::try_from(DEVICES_MAX).unwrap() + 5));
        assert_eq!((of("d0"), of("none")), (Some(2), Some(1)), "who is known stays known");
        assert_eq!(ledger.sums(&[], None, AT).total.count.requests, 2 * 256 + 7, "nobody is lost");
    }

    #[test]
    fn days_that_are_not_kept_go_and_what_is_left_stays_whole() {
        let policy = UsagePolicy { time_zone: TimeZone::UTC, keep_days: 2 };
        let ledger = Ledger::new(policy);
        for back in [3, 2, 1] {
            let device = format!("d{back}");
            ledger.count(WallTime(AT.0 - back * DAY_MS), &Who { device: &device, ..WHO }, &one(1));
        }
        ledger.count(AT, &WHO, &one(1));
        let found = groups(&ledger, &[Dimension::Day, Dimension::Device], Some(WallTime(0)));
        assert_eq!(found, [("2026-11-20 d1".to_owned(), 1, 1), ("2026-11-21 none".to_owned(), 1, 1)]);
        for (at, want) in
            [(AT.0, true), (AT.0 - DAY_MS, true), (AT.0 - 2 * DAY_MS, false), (AT.0 + DAY_MS, false)]
        {
            assert_eq!(ledger.keeps(WallTime(at), AT), want, "{at}");
        }
    }

    #[test]
    fn rows_beyond_the_limit_share_one_and_none_is_lost() {
        let ledger = Ledger::new(UsagePolicy::default());
        let requests = u64::try_from(ROWS_MAX).unwrap() + 500;
        for number in 0..requests {
            ledger.count(AT, &Who { model: &number.to_string(), ..WHO }, &one(1));
        }
        let found = groups(&ledger, &[Dimension::Model], None);
        assert_eq!(found.len(), ROWS_MAX + 1);
        assert!(found.contains(&("other".to_owned(), 500, 500)), "what is too much is together");
        assert_eq!(ledger.sums(&[], None, AT).total.count.requests, requests);
    }

    #[test]
    fn another_zone_holds_from_the_next_request_on() {
        let late = WallTime(AT.0 - 3 * 3_600_000 + 60_000 * 30);
        let ledger = Ledger::new(UsagePolicy::default());
        ledger.count(late, &WHO, &one(1));
        ledger.set_policy(UsagePolicy { time_zone: TimeZone::get("Europe/Berlin").unwrap(), keep_days: 90 });
        ledger.count(late, &WHO, &one(1));
        let found = groups(&ledger, &[Dimension::Day], Some(WallTime(0)));
        assert_eq!(found, [("2026-11-20".to_owned(), 1, 1), ("2026-11-21".to_owned(), 1, 1)]);
        assert_eq!(ledger.time_zone(), "Europe/Berlin");
    }
}
