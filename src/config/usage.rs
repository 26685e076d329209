//! `usage` and `state`: what is added up, in which days, and where it outlives a restart.
//!
//! A day is a day of the operator's clock on the wall: it begins at midnight in the zone named by
//! `usage.time_zone` and has 23 or 25 hours where that zone changes its clocks. Zones are known by
//! their IANA names from the table compiled into `jiff`: reading one asks no file, so that this room
//! stays pure and every host agrees. (`chrono-tz` has the same table as Rust statics: 29,000
//! pointers that the loader writes at each start, 1.6 MB resident in a process that asks for one
//! zone or none. `jiff` carries the compiled files of IANA as bytes and reads the one it is asked
//! for.)
//!
//! Whether the file of `state.path` can be used is asked of [`super::Outside`], by `check` and by
//! a reload alike.

use super::path::{KeyPath, did_you_mean, shown};
use super::walk::Map;
use jiff::tz::{self, TimeZone};

/// Days that are kept where the file says nothing.
const KEEP_DAYS: u32 = 90;

/// How usage is added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsagePolicy {
    /// The zone in whose midnights days begin.
    pub time_zone: TimeZone,
    /// Days that are kept, today included.
    pub keep_days: u32,
}

impl Default for UsagePolicy {
    fn default() -> Self {
        UsagePolicy { time_zone: TimeZone::UTC, keep_days: KEEP_DAYS }
    }
}

impl UsagePolicy {
    /// Returns the IANA name of the zone.
    #[must_use]
    pub fn time_zone_name(&self) -> &str {
        self.time_zone.iana_name().unwrap_or("UTC")
    }
}

/// `state`.
#[derive(Debug)]
pub(super) struct StateFile {
    pub(super) at: KeyPath,
    pub(super) path: Option<String>,
}

/// Reads `usage`.
pub(super) fn read_usage(m: &mut Map<'_, '_>) -> UsagePolicy {
    let name = m.maybe_text("time_zone", "UTC", "IANA name of the zone in which a day begins and ends");
    let time_zone = name.and_then(|name| {
        let zone = tz::db().get(&name);
        if zone.is_err() {
            let names: Vec<String> = tz::db().available().map(|name| name.to_string()).collect();
            let hint = did_you_mean(&name, names.iter().map(String::as_str));
            m.fault(
                "time_zone",
                format!("{} is not the IANA name of a time zone, such as Europe/Berlin{hint}", shown(&name)),
            );
        }
        zone.ok()
    });
    UsagePolicy {
        time_zone: time_zone.unwrap_or(TimeZone::UTC),
        keep_days: m.small("keep_days", KEEP_DAYS, 1..=3660, "days whose usage is kept, today included"),
    }
}

/// Reads `state`.
pub(super) fn read_state(m: &mut Map<'_, '_>) -> StateFile {
    StateFile {
        at: m.at().clone(),
        path: m.maybe_text("path", "null", "file for what outlives a restart; null is memory only"),
    }
}
