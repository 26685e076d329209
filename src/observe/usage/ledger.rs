//! The sums, in memory.
//!
//! One lock, held for a few look-ups and additions: names become numbers (a hash each, nothing is
//! allocated when the name is known), the numbers are the key of the row. Whoever reads copies the
//! rows out and adds up without the lock.
//!
//! What changed since the store last asked is marked on the row. The store takes whole rows, never
//! differences, so that a write which is repeated, or fails and is repeated, counts nothing twice.
//!
//! Once a day rows older than `keep_days` go, and with them the names that nothing uses any more.

use super::days::{Day, Days};
use super::report::Report;
use super::store::Keeper;
use super::{Count, Dimension, Row, Source, Who};
use crate::base::time::WallTime;
use crate::config::usage::UsagePolicy;
use crate::observe::metrics::{NONE, OTHER};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Rows that are kept at once; at about 200 bytes each they stay below 16 MB.
pub const ROWS_MAX: usize = 65_536;

/// Devices that are known by their own names at once.
pub const DEVICES_MAX: usize = 256;

/// Names of routes, providers, models and clients that only reports know.
pub const FOREIGN_MAX: usize = 512;

/// Ids of reports that are remembered, the newest.
pub const REPORTS_MAX: usize = 10_000;

/// Longest name of a device, in bytes.
const DEVICE_BYTES_MAX: usize = 64;

/// The ledger of a process.
pub struct Ledger {
    book: Mutex<Book>,
    keeper: OnceLock<Keeper>,
}

/// What was kept by a process before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its rows.
    pub rows: Vec<Row>,
    /// Ids of reports, the oldest first.
    pub reports: Vec<Arc<str>>,
}

/// What changed since the last time, for the store.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) rows: Vec<Row>,
    pub(super) reports: Vec<Arc<str>>,
    /// Ids that were forgotten.
    pub(super) forgotten: Vec<Arc<str>>,
    /// The oldest day that is kept.
    pub(super) oldest: Option<Day>,
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

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    day: Day,
    source: Source,
    names: [u32; 6],
}

struct Cell {
    key: Key,
    count: Count,
    last_seen: WallTime,
    is_changed: bool,
}

/// The row that was added to last, by its names as they were given: most requests are like the one
/// before, and six comparisons cost a fifth of six look-ups.
struct Last {
    day: Day,
    place: usize,
    /// As it was said; the row may be that of `other`.
    device: Box<str>,
    names: [Arc<str>; 6],
}

impl Last {
    fn is(&self, day: Day, who: &Who<'_>) -> bool {
        let [route, provider, credential, model, client, _] = &self.names;
        let Who { device, .. } = *who;
        self.day == day
            && **route == *who.route
            && **model == *who.model
            && **client == *who.client
            && **provider == *who.provider
            && **credential == *who.credential
            && *self.device == *device
    }
}

struct Book {
    policy: UsagePolicy,
    days: Days,
    today: Option<Day>,
    names: Names,
    devices: Guests,
    foreign: Guests,
    cells: Vec<Cell>,
    by_key: HashMap<Key, usize>,
    last: Option<Last>,
    changed: Vec<usize>,
    reports: HashSet<Arc<str>>,
    /// The same in order of arrival.
    reported: VecDeque<Arc<str>>,
    /// What the store has not heard of yet.
    new_reports: Vec<Arc<str>>,
    forgotten: Vec<Arc<str>>,
    is_stored: bool,
}

/// Names by number.
#[derive(Default)]
struct Names {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

/// Names that somebody from outside chose.
struct Guests {
    known: HashSet<u32>,
    max: usize,
}

impl Ledger {
    /// Opens an empty ledger.
    #[must_use]
    pub fn new(policy: UsagePolicy) -> Arc<Ledger> {
        Arc::new(Ledger { book: Mutex::new(Book::new(policy)), keeper: OnceLock::new() })
    }

    /// Adds a request, or what an attempt of one used, that ended at `at`.
    pub fn count(&self, at: WallTime, who: &Who<'_>, count: &Count) {
        let mut book = self.book.lock();
        let day = book.day(at);
        if let Some(place) = book.last.as_ref().filter(|last| last.is(day, who)).map(|last| last.place) {
            return book.add_at(place, at, count);
        }
        let device = book.device(who.device);
        let Who { route, provider, credential, model, client, device: _ } = *who;
        let [route, provider, credential, model, client] =
            [route, provider, credential, model, client].map(|name| book.names.number(name));
        let names = [route, provider, credential, model, client, device];
        let place = book.add(Key { day, source: Source::Proxied, names }, at, count);
        book.last =
            Some(Last { day, place, device: who.device.into(), names: names.map(|n| book.names.text(n)) });
    }

    /// Adds a report; false where its id was there before.
    pub fn report(&self, report: &Report, count: &Count) -> bool {
        let mut book = self.book.lock();
        if !book.remember(&report.id) {
            return false;
        }
        let day = book.day(report.at);
        let device = book.device(&report.device);
        let own = [&report.route, &report.provider, &report.credential, &report.model, &report.client];
        let [route, provider, credential, model, client] = own.map(|name| book.foreign(name));
        let names = [route, provider, credential, model, client, device];
        let _ = book.add(Key { day, source: Source::Reported, names }, report.at, count);
        true
    }

    /// Tells whether a report may be taken for a time: not of the future, and not of a day that is
    /// not kept any more.
    #[must_use]
    pub fn keeps(&self, at: WallTime, now: WallTime) -> bool {
        let mut book = self.book.lock();
        let (day, today) = (book.days.of(at), book.day(now));
        day > today.before(book.policy.keep_days) && day <= today
    }

    /// Adds rows up along `by`, from the day on which `since` falls; without it, of today.
    #[must_use]
    pub fn sums(&self, by: &[Dimension], since: Option<WallTime>, now: WallTime) -> Sums {
        let (rows, from) = {
            let mut book = self.book.lock();
            let today = book.day(now);
            let first = since.map_or(today, |since| book.days.of(since));
            (book.rows(|cell| cell.key.day >= first), book.days.start(first))
        };
        Sums::of(&rows, by, from)
    }

    /// Returns when a day begins.
    #[must_use]
    pub fn start_of(&self, day: Day) -> WallTime {
        self.book.lock().days.start(day)
    }

    /// Returns the name of the zone whose days are told apart.
    #[must_use]
    pub fn time_zone(&self) -> String {
        self.book.lock().policy.time_zone_name().to_owned()
    }

    /// Has another policy hold from now on; days that were told apart by another zone stay.
    pub fn set_policy(&self, policy: UsagePolicy) {
        let mut book = self.book.lock();
        if book.policy != policy {
            book.days = Days::new(policy.time_zone.clone());
            book.policy = policy;
            book.today = None;
        }
    }

    /// Takes over what was kept before, and has `keeper` keep what comes.
    pub(super) fn kept_by(&self, kept: Kept, keeper: Keeper) {
        let mut book = self.book.lock();
        book.is_stored = true;
        // Where the file comes late, as it does after an upgrade, there is something to write already.
        let (counted, reports) = (book.cells.len(), book.reported.iter().cloned().collect());
        book.restore(kept);
        (0..counted).for_each(|at| book.mark(at));
        book.new_reports = reports;
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
        let mut guard = self.book.lock();
        let book = &mut *guard;
        for row in &changes.rows {
            let key = book.key_of(row);
            if let Some(at) = book.by_key.get(&key).copied() {
                book.mark(at);
            }
        }
        book.new_reports.splice(0..0, changes.reports);
        book.forgotten.splice(0..0, changes.forgotten);
        // However long the disk is full; the oldest are those that are forgotten next.
        for ids in [&mut book.new_reports, &mut book.forgotten] {
            let too_many = ids.len().saturating_sub(REPORTS_MAX);
            ids.drain(..too_many);
        }
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

impl Book {
    fn new(policy: UsagePolicy) -> Book {
        Book {
            days: Days::new(policy.time_zone.clone()),
            policy,
            today: None,
            names: Names::default(),
            devices: Guests { known: HashSet::new(), max: DEVICES_MAX },
            foreign: Guests { known: HashSet::new(), max: FOREIGN_MAX },
            cells: Vec::new(),
            by_key: HashMap::new(),
            last: None,
            changed: Vec::new(),
            reports: HashSet::new(),
            reported: VecDeque::new(),
            new_reports: Vec::new(),
            forgotten: Vec::new(),
            is_stored: false,
        }
    }

    /// Finds the day, and lets old rows go where it is a new one.
    fn day(&mut self, at: WallTime) -> Day {
        let day = self.days.of(at);
        if self.today.is_none_or(|today| day > today) {
            self.today = Some(day);
            self.let_go(day);
        }
        day
    }

    fn let_go(&mut self, today: Day) {
        let last = today.before(self.policy.keep_days);
        if self.cells.iter().all(|cell| cell.key.day > last) {
            return;
        }
        let rows = self.rows(|cell| cell.key.day > last);
        let changed: Vec<bool> =
            self.cells.iter().filter(|cell| cell.key.day > last).map(|cell| cell.is_changed).collect();
        self.last = None;
        self.names = Names::default();
        self.devices.known.clear();
        self.foreign.known.clear();
        self.cells.clear();
        self.by_key.clear();
        self.changed.clear();
        for (row, is_changed) in rows.iter().zip(changed) {
            let at = self.put(row);
            if is_changed {
                self.mark(at);
            }
        }
    }

    fn restore(&mut self, kept: Kept) {
        for row in &kept.rows {
            let at = self.put(row);
            // What was counted before the store was there is added to, and so has to be written.
            if self.cells.get(at).is_some_and(|cell| cell.count != row.count) {
                self.mark(at);
            }
        }
        for id in kept.reports {
            self.remember(&id);
        }
        self.new_reports.clear();
    }

    /// Puts a row in, in place of none or beside what was counted already.
    fn put(&mut self, row: &Row) -> usize {
        let key = self.key_of(row);
        let [foreign @ .., device] = &row.names;
        self.devices.admit(&mut self.names, device);
        match row.source {
            Source::Proxied => {}
            Source::Reported => {
                for name in foreign {
                    self.foreign.admit(&mut self.names, name);
                }
            }
        }
        let at = self.at(key, row.last_seen);
        if let Some(cell) = self.cells.get_mut(at) {
            cell.count += row.count;
            cell.last_seen = cell.last_seen.max(row.last_seen);
        }
        at
    }

    fn key_of(&mut self, row: &Row) -> Key {
        let names = row.names.each_ref().map(|name| self.names.number(name));
        Key { day: row.day, source: row.source, names }
    }

    /// Returns the place of the row.
    fn add(&mut self, key: Key, at: WallTime, count: &Count) -> usize {
        let found = self.by_key.get(&key).copied();
        let place = found.unwrap_or_else(|| {
            let is_full = self.cells.len() >= ROWS_MAX;
            let other = if is_full { [self.names.number(OTHER); 6] } else { key.names };
            self.at(Key { names: other, ..key }, at)
        });
        self.add_at(place, at, count);
        place
    }

    fn add_at(&mut self, place: usize, at: WallTime, count: &Count) {
        if let Some(cell) = self.cells.get_mut(place) {
            cell.count += *count;
            cell.last_seen = cell.last_seen.max(at);
        }
        self.mark(place);
    }

    /// Finds the place of a key, made where there is none.
    fn at(&mut self, key: Key, last_seen: WallTime) -> usize {
        let next = self.cells.len();
        let at = *self.by_key.entry(key).or_insert(next);
        if at == next {
            self.cells.push(Cell { key, count: Count::default(), last_seen, is_changed: false });
        }
        at
    }

    fn mark(&mut self, at: usize) {
        if !self.is_stored {
            return;
        }
        if let Some(cell) = self.cells.get_mut(at).filter(|cell| !cell.is_changed) {
            cell.is_changed = true;
            self.changed.push(at);
        }
    }

    /// Returns the number of a device's name: `other` for one that is malformed or one too many.
    fn device(&mut self, name: &str) -> u32 {
        let is_sound = !name.is_empty()
            && name.len() <= DEVICE_BYTES_MAX
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        self.devices.admit(&mut self.names, if is_sound { name } else { OTHER })
    }

    fn foreign(&mut self, name: &str) -> u32 {
        self.foreign.admit(&mut self.names, name)
    }

    /// Remembers the id of a report; false where it is known.
    fn remember(&mut self, id: &str) -> bool {
        let id: Arc<str> = id.into();
        if !self.reports.insert(Arc::clone(&id)) {
            return false;
        }
        if self.is_stored {
            self.new_reports.push(Arc::clone(&id));
        }
        self.reported.push_back(id);
        if self.reported.len() > REPORTS_MAX
            && let Some(oldest) = self.reported.pop_front()
        {
            self.reports.remove(&oldest);
            if self.is_stored {
                self.forgotten.push(oldest);
            }
        }
        true
    }

    fn rows(&self, wanted: impl Fn(&Cell) -> bool) -> Vec<Row> {
        self.cells.iter().filter(|cell| wanted(cell)).map(|cell| self.row(cell)).collect()
    }

    fn row(&self, cell: &Cell) -> Row {
        let Key { day, source, names } = cell.key;
        let names = names.map(|number| self.names.text(number));
        Row { day, source, names, count: cell.count, last_seen: cell.last_seen }
    }

    fn take_changes(&mut self) -> Changes {
        let changed = std::mem::take(&mut self.changed);
        let rows = changed.iter().filter_map(|at| self.cells.get(*at)).map(|cell| self.row(cell)).collect();
        for at in changed {
            if let Some(cell) = self.cells.get_mut(at) {
                cell.is_changed = false;
            }
        }
        Changes {
            rows,
            reports: std::mem::take(&mut self.new_reports),
            forgotten: std::mem::take(&mut self.forgotten),
            oldest: self.today.map(|today| Day(today.before(self.policy.keep_days).0.saturating_add(1))),
        }
    }
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.texts.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    fn text(&self, number: u32) -> Arc<str> {
        self.texts.get(number as usize).map_or_else(|| OTHER.into(), Arc::clone)
    }
}

impl Guests {
    fn admit(&mut self, names: &mut Names, name: &str) -> u32 {
        if let Some(number) = names.numbers.get(name)
            && self.known.contains(number)
        {
            return *number;
        }
        if name == NONE || name == OTHER {
            return names.number(name);
        }
        if self.known.len() >= self.max {
            return names.number(OTHER);
        }
        let number = names.number(name);
        self.known.insert(number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
