//! Has this request been here before?
//!
//! A proxy whose provider is, over whatever names and other proxies, that proxy itself would send one
//! request round until something breaks (threat C12). So a request carries the names of the processes
//! that it passed, in a header of our own ([`HOP`]): one that comes back to where it was, or that has
//! passed [`MOST`], is refused with 508. A name is drawn at each start and says nothing else.
//!
//! Providers of the catalogue at their own address do not get the header: they are not us, and need
//! not know of us. `Via` is not used for it: some servers change their answers where they see one.

use crate::live::{House, Slot};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header.
pub(super) const HOP: HeaderName = HeaderName::from_static("x-pointsman-hop");
/// Most processes that a request may pass.
const MOST: usize = 8;
/// What a client is told whose request goes round.
pub(super) const LOOP: &str =
    "this request has been here before: a provider of the configuration leads back to this proxy";

/// A request goes round.
#[derive(Debug)]
pub(super) struct Loop;

/// Returns the header that a request goes on with.
///
/// # Errors
/// [`Loop`] where it has been here, or nearly everywhere.
pub(super) fn onward(house: &House, headers: &HeaderMap) -> Result<HeaderValue, Loop> {
    after(&house.mark, headers)
}

/// Tells whether a request to this target gets the header.
pub(super) fn is_told(slot: &Slot) -> bool {
    slot.may_lead_back
}

fn after(mark: &HeaderValue, headers: &HeaderMap) -> Result<HeaderValue, Loop> {
    let mut passed = headers.get_all(HOP).iter().peekable();
    if passed.peek().is_none() {
        return Ok(mark.clone());
    }
    let mut all = Vec::new();
    for name in passed.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let name = name.trim_ascii();
        if name == mark.as_bytes() || all.len() >= MOST || name.len() > mark.len() {
            return Err(Loop);
        }
        all.push(name);
    }
    all.push(mark.as_bytes());
    HeaderValue::from_bytes(&all.join(&b","[..])).map_err(|_| Loop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(values: &[&'static str]) -> Option<String> {
        let headers = values.iter().map(|value| (HOP, HeaderValue::from_static(value))).collect();
        let onward = after(&HeaderValue::from_static("0123456789abcdef"), &headers).ok()?;
        Some(onward.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_name_is_added_until_it_is_there_or_there_are_too_many() {
        assert_eq!(passed(&[]).as_deref(), Some("0123456789abcdef"));
        assert_eq!(passed(&["a"]).as_deref(), Some("a,0123456789abcdef"));
        assert_eq!(passed(&["a, b", "c"]).as_deref(), Some("a,b,c,0123456789abcdef"));
        for round in [
            &["0123456789abcdef"][..],
            &["a, 0123456789abcdef"],
            &["a", "0123456789abcdef,b"],
            &["a,b,c,d,e,f,g,h,i"],
            &["longer than any name of ours"],
        ] {
            assert_eq!(passed(round), None, "{round:?}");
        }
    }
}
