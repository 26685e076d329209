//! How much room does a head take that is kept for as long as its stream?
//!
//! Pingora keeps the head that it sent until the answer has ended, on either side, and a map of `http` has
//! room for 3, 6, 12 or 24 headers: of the 7 and the 14 that are usual, a kilobyte and more is empty. A clone
//! has no more than it holds. A value that was made for this head would be shared with its clone, by a piece
//! of memory more that lasts as long, so values are moved. A copy of the map is what it costs; the head of an
//! answer that is over soon is left as it is.

use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

/// Headers that a head usually has at most; more are moved by way of the heap.
const USUAL: usize = 24;

/// Returns the same headers, in the same order, without room for more.
pub(super) fn fitted(mut headers: HeaderMap) -> HeaderMap {
    if headers.len() == headers.capacity() {
        return headers;
    }
    let values: SmallVec<[HeaderValue; USUAL]> =
        headers.values_mut().map(|value| std::mem::replace(value, HeaderValue::from_static(""))).collect();
    let mut fitted = headers.clone();
    for (place, value) in fitted.values_mut().zip(values) {
        *place = value;
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_head_that_is_fitted_says_the_same_in_the_same_order(
            said in prop::collection::vec((0..12u8, "[a-z]{0,40}", any::<bool>()), 0..40),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value, is_sensitive) in said {
                let name: HeaderName = format!("x-{name}").parse().unwrap();
                let mut value: HeaderValue = value.parse().unwrap();
                value.set_sensitive(is_sensitive);
                headers.append(name, value);
            }
            let listed = |headers: &HeaderMap| -> Vec<_> {
                headers.iter().map(|(n, v)| (n.clone(), v.clone(), v.is_sensitive())).collect()
            };
            let before = listed(&headers);
            let fitted = fitted(headers);
            prop_assert_eq!(listed(&fitted), before);
        }
    }
}
