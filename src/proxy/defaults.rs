//! What does the operator set in a request for a target?
//!
//! The route's values come before the provider's, and a value that the target or the request excludes is
//! skipped: it is meant for the usual case. Which these are `translate` knows. The usual request has no
//! defaults, or none that is skipped, and copies none.

use super::carried;
use super::conduct::Asked;
use crate::base::api::Api;
use crate::config::plan::Provider;
use crate::live::{Live, Slot};
use crate::translate::{self, Beside, RequestContext};
use std::borrow::Cow;

/// Names and JSON texts.
pub(super) type Defaults<'a> = Cow<'a, [(String, String)]>;

/// Returns what is set where the client set nothing.
pub(super) fn of<'a>(asked: &Asked<'a>, provider: &'a Provider) -> Defaults<'a> {
    let own = asked.route.map_or(&[][..], |route| &route.defaults);
    let streamed = if asked.parsed.stream { &*provider.stream_params } else { &[] };
    if provider.params.is_empty() && streamed.is_empty() {
        return Cow::Borrowed(own);
    }
    let mut all = own.to_vec();
    for (name, json) in streamed.iter().chain(&provider.params) {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.clone(), json.clone()));
        }
    }
    Cow::Owned(all)
}

/// Leaves those that a target takes which gets the client's own call.
pub(super) fn own<'a>(
    all: &'a [(String, String)],
    live: &Live,
    slot: &Slot,
    asked: &Asked<'_>,
) -> Defaults<'a> {
    if all.is_empty() {
        return Cow::Borrowed(all);
    }
    beside(all, live, slot, asked.api, Beside::own(&asked.parsed, &asked.body))
}

/// Leaves those that a target takes beside what the request says.
pub(super) fn beside<'a>(
    all: &'a [(String, String)],
    live: &Live,
    slot: &Slot,
    api: Api,
    beside: Beside,
) -> Defaults<'a> {
    if all.is_empty() {
        return Cow::Borrowed(all);
    }
    // To know whether a model thinks takes a look into the catalogue.
    let names_effort = all.iter().any(|(name, _)| name == "reasoning_effort");
    let context = if names_effort {
        carried::target_of(live, slot, api)
    } else {
        RequestContext { server: carried::server_of(live, slot), ..RequestContext::new(&slot.target.model) }
    };
    let is_taken = |(name, json): &(String, String)| {
        !translate::refuses(api.dialect(), &context, beside, (name.as_str(), json.as_str()))
    };
    if all.iter().all(is_taken) {
        return Cow::Borrowed(all);
    }
    Cow::Owned(all.iter().filter(|default| is_taken(default)).cloned().collect())
}
