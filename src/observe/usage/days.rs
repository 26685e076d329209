//! Which day is it for the operator?
//!
//! A day begins at the first moment that the clocks of the zone show its date, which need not be
//! midnight, and ends where the next one begins: 23 hours in spring, 25 in autumn. The bounds of
//! the current day are kept, so that a request pays two comparisons and the zone's table is asked
//! once a day.

use crate::base::time::WallTime;
use jiff::civil::{Date, Time, date};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A date in the operator's zone: days since the first of January of the year 1, which is day 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

/// Day 1.
const FIRST: Date = date(1, 1, 1);

impl Day {
    /// Reads `2026-11-21`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Day> {
        Date::strptime("%Y-%m-%d", text).ok().map(Day::on)
    }

    fn on(date: Date) -> Day {
        let days = date.duration_since(FIRST).as_hours() / 24 + 1;
        Day(i32::try_from(days).unwrap_or(i32::MAX))
    }

    /// Returns the day that lies `days` before.
    #[must_use]
    pub fn before(self, days: u32) -> Day {
        Day(self.0.saturating_sub(i32::try_from(days).unwrap_or(i32::MAX)))
    }

    fn date(self) -> Date {
        FIRST.saturating_add(SignedDuration::from_hours((i64::from(self.0) - 1) * 24))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.date(), f)
    }
}

/// Finds days, and remembers the last one found.
#[derive(Clone, Debug)]
pub struct Days {
    zone: TimeZone,
    last: Option<(WallTime, WallTime, Day)>,
}

impl Days {
    /// Makes the days of a zone.
    #[must_use]
    pub fn new(zone: TimeZone) -> Days {
        Days { zone, last: None }
    }

    /// Returns the day on which a moment falls.
    pub fn of(&mut self, at: WallTime) -> Day {
        if let Some((from, until, day)) = self.last
            && from <= at
            && at < until
        {
            return day;
        }
        let moment = Timestamp::from_millisecond(at.0).unwrap_or_default();
        let day = Day::on(self.zone.to_datetime(moment).date());
        self.last = Some((self.start(day), self.start(Day(day.0.saturating_add(1))), day));
        day
    }

    /// Returns the first moment of a day. Where clocks skip midnight it is the first time they show
    /// after it; where they skip the whole date, the start of the next.
    #[must_use]
    pub fn start(&self, day: Day) -> WallTime {
        let midnight = day.date().to_datetime(Time::midnight());
        let ambiguous = self.zone.to_ambiguous_timestamp(midnight);
        let start = match ambiguous.offset() {
            AmbiguousOffset::Gap { after, .. } => after
                .to_timestamp(midnight)
                .ok()
                .and_then(|before| self.zone.following(before).next().map(|change| change.timestamp())),
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
        };
        WallTime(start.unwrap_or(Timestamp::MIN).as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> WallTime {
        WallTime(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn a_day_begins_where_the_clocks_of_the_zone_first_show_its_date() {
        for (zone, moment, want, why) in [
            ("Europe/Berlin", "2026-07-01T22:30:00Z", "2026-07-02", "summer is two hours ahead"),
            ("Europe/Berlin", "2026-07-01T21:59:59Z", "2026-07-01", "and not more"),
            ("Europe/Berlin", "2026-12-01T22:30:00Z", "2026-12-01", "winter is one hour ahead"),
            ("Europe/Berlin", "2026-03-28T22:59:59Z", "2026-03-28", "the last second before the short day"),
            ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29", "the short day begins in winter time"),
            ("Europe/Berlin", "2026-03-29T22:00:00Z", "2026-03-30", "and ends in summer time"),
            ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25", "the long day begins in summer time"),
            ("Europe/Berlin", "2026-10-25T22:59:59Z", "2026-10-25", "and ends in winter time"),
            ("America/Sao_Paulo", "2018-11-04T02:59:59Z", "2018-11-03", "midnight is skipped"),
            ("America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-04", "the day begins at one o'clock"),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31", "a whole date is skipped"),
            ("America/Toronto", "1919-03-31T04:29:59Z", "1919-03-30", "half an hour before midnight"),
            ("America/Toronto", "1919-03-31T04:30:00Z", "1919-03-31", "clocks go forward over midnight"),
            ("UTC", "1970-01-01T00:00:00Z", "1970-01-01", "the beginning"),
        ] {
            let mut days = Days::new(TimeZone::get(zone).unwrap());
            assert_eq!(days.of(at(moment)).to_string(), want, "{zone} {moment}: {why}");
        }
    }

    #[test]
    fn a_day_begins_where_clocks_land_that_go_forward_over_midnight() {
        let days = Days::new(TimeZone::get("America/Toronto").unwrap());
        assert_eq!(days.start(Day::parse("1919-03-31").unwrap()), at("1919-03-31T04:30:00Z"));
    }

    #[test]
    fn days_of_23_and_25_hours_are_that_long() {
        let days = Days::new(TimeZone::get("Europe/Berlin").unwrap());
        let hours = |date: &str| {
            let day = Day::parse(date).unwrap();
            (days.start(Day(day.0 + 1)).0 - days.start(day).0) / 3_600_000
        };
        assert_eq!(["2026-03-29", "2026-10-25", "2026-11-21"].map(hours), [23, 25, 24]);
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_would_be_found_anew(
            moments in prop::collection::vec(0i64..4_000_000_000_000, 1..20),
            steps in prop::collection::vec(0i64..90_000_000, 1..20),
            zone in prop::sample::select(jiff::tz::db().available().collect::<Vec<_>>()),
        ) {
            let zone = TimeZone::get(zone.as_str()).unwrap();
            let mut days = Days::new(zone.clone());
            for moment in moments {
                for step in &steps {
                    let at = WallTime(moment + step);
                    prop_assert_eq!(days.of(at), Days::new(zone.clone()).of(at), "{:?} {:?}", zone, at);
                }
            }
        }
    }
}
