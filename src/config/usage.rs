//! `usage` and `state`: what is added up, in which days, and where it outlives a restart.
//!
//! A day is a day of the operator's clock on the wall: it begins at midnight in the zone named by
//! `usage.time_zone` and has 23 or 25 hours where that zone changes its clocks. Zones are known by
//! their IANA names from the table compiled into `chrono-tz`: reading one asks no file, so that
//! this room stays pure and every host agrees. (`jiff` would do as well; `chrono` is in the tree
//! already, and both projects follow the IANA releases.)
//!
//! Whether the file of `state.path` can be used is asked of [`super::Outside`], by `check` and by
//! a reload alike.

use super::path::{KeyPath, did_you_mean, shown};
use super::walk::Map;
use chrono_tz::Tz;

/// Days that are kept where the file says nothing.
const KEEP_DAYS: u32 = 90;

/// How usage is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsagePolicy {
    /// The zone in whose midnights days begin.
    pub time_zone: Tz,
    /// Days that are kept, today included.
    pub keep_days: u32,
}

impl Default for UsagePolicy {
    fn default() -> Self {
        UsagePolicy { time_zone: Tz::UTC, keep_days: KEEP_DAYS }
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
        let zone = name.parse::<Tz>();
        if zone.is_err() {
            let names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let hint = did_you_mean(&name, names);
            m.fault(
                "time_zone",
                format!("{} is not the IANA name of a time zone, such as Europe/Berlin{hint}", shown(&name)),
            );
        }
        zone.ok()
    });
    UsagePolicy {
        time_zone: time_zone.unwrap_or(Tz::UTC),
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
