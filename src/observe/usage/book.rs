//! Which rows are there, and which of them changed?
//!
//! Names become numbers (a hash each, nothing is allocated when the name is known), the numbers are the key
//! of the row. What changed since the store last asked is marked on the row. The store takes whole rows,
//! never differences, so that a write which is repeated, or fails and is repeated, counts nothing twice.
//!
//! Once a day rows older than `keep_days` go, and with them the names that nothing uses any more.

use super::days::{Day, Days};
use super::report::Report;
use super::{Count, Row, Source, Who};
use crate::base::time::WallTime;
use crate::config::usage::UsagePolicy;
use crate::observe::metrics::{NONE, OTHER};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

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

/// The rows of a process.
pub(super) struct Book {
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

impl Book {
    pub(super) fn new(policy: UsagePolicy) -> Book {
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

    /// See [`super::ledger::Ledger::count`].
    pub(super) fn count(&mut self, at: WallTime, who: &Who<'_>, count: &Count) {
        let day = self.day(at);
        if let Some(place) = self.last.as_ref().filter(|last| last.is(day, who)).map(|last| last.place) {
            return self.add_at(place, at, count);
        }
        let device = self.device(who.device);
        let Who { route, provider, credential, model, client, device: _ } = *who;
        let [route, provider, credential, model, client] =
            [route, provider, credential, model, client].map(|name| self.names.number(name));
        let names = [route, provider, credential, model, client, device];
        let place = self.add(Key { day, source: Source::Proxied, names }, at, count);
        self.last =
            Some(Last { day, place, device: who.device.into(), names: names.map(|n| self.names.text(n)) });
    }

    /// See [`super::ledger::Ledger::report`].
    pub(super) fn report(&mut self, report: &Report, count: &Count) -> bool {
        if !self.remember(&report.id) {
            return false;
        }
        let day = self.day(report.at);
        let device = self.device(&report.device);
        let own = [&report.route, &report.provider, &report.credential, &report.model, &report.client];
        let [route, provider, credential, model, client] = own.map(|name| self.foreign(name));
        let names = [route, provider, credential, model, client, device];
        let _ = self.add(Key { day, source: Source::Reported, names }, report.at, count);
        true
    }

    /// See [`super::ledger::Ledger::keeps`].
    pub(super) fn keeps(&mut self, at: WallTime, now: WallTime) -> bool {
        let (day, today) = (self.days.of(at), self.day(now));
        day > today.before(self.policy.keep_days) && day <= today
    }

    /// Returns the rows from the day on which `since` falls, without it of today, and when that day begins.
    pub(super) fn rows_since(&mut self, since: Option<WallTime>, now: WallTime) -> (Vec<Row>, WallTime) {
        let today = self.day(now);
        let first = since.map_or(today, |since| self.days.of(since));
        (self.rows(|cell| cell.key.day >= first), self.days.start(first))
    }

    pub(super) fn start_of(&self, day: Day) -> WallTime {
        self.days.start(day)
    }

    pub(super) fn time_zone(&self) -> String {
        self.policy.time_zone_name().to_owned()
    }

    pub(super) fn set_policy(&mut self, policy: UsagePolicy) {
        if self.policy != policy {
            self.days = Days::new(policy.time_zone.clone());
            self.policy = policy;
            self.today = None;
        }
    }

    /// Takes over what was kept before, and marks from now on what changes.
    pub(super) fn store(&mut self, kept: Kept) {
        self.is_stored = true;
        // Where the file comes late, as it does after an upgrade, there is something to write already.
        let (counted, reports) = (self.cells.len(), self.reported.iter().cloned().collect());
        self.restore(kept);
        (0..counted).for_each(|at| self.mark(at));
        self.new_reports = reports;
    }

    /// Gives back what could not be written.
    pub(super) fn give_back(&mut self, changes: Changes) {
        for row in &changes.rows {
            let key = self.key_of(row);
            if let Some(at) = self.by_key.get(&key).copied() {
                self.mark(at);
            }
        }
        self.new_reports.splice(0..0, changes.reports);
        self.forgotten.splice(0..0, changes.forgotten);
        // However long the disk is full; the oldest are those that are forgotten next.
        for ids in [&mut self.new_reports, &mut self.forgotten] {
            let too_many = ids.len().saturating_sub(REPORTS_MAX);
            ids.drain(..too_many);
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

    /// Takes what changed since the last time.
    pub(super) fn take_changes(&mut self) -> Changes {
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
