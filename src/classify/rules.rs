//! Placeholder.
use http::HeaderMap;

use super::{Confidence, facts::Facts};
use crate::base::api::Kind;
use crate::base::outcome::Outcome;
use crate::base::time::WallTime;

pub(super) fn judge(
    _kind: Kind,
    _status: Option<u16>,
    _facts: &Facts,
    _headers: &HeaderMap,
    _now: WallTime,
) -> Option<(Outcome, Confidence)> {
    None
}

pub(super) fn is_account_wide(_facts: &Facts, _headers: &HeaderMap) -> bool {
    false
}
