//! What does a client ask for in its headers?
//!
//! | header | wish |
//! |---|---|
//! | `x-pointsman-tier` | a model of this size |
//! | `x-pointsman-no-retry` | one attempt, whose end is the answer |
//! | `x-pointsman-no-rescue` | nobody goes on where a stream broke |
//! | `x-request-timeout-ms` | an answer within this time |
//! | `x-pointsman-device` | to be counted under this name |
//!
//! All are read in one pass over the names, each of which is known by its length and its first bytes not
//! to be one of these: a look-up of five names would hash five, for requests that have none. Of a field
//! that is there twice the first counts.

use crate::catalog::Tier;
use crate::exchange;
use http::{HeaderMap, HeaderValue};
use std::time::Duration;

const TIER: &str = "x-pointsman-tier";
const NO_RETRY: &str = "x-pointsman-no-retry";
const NO_RESCUE: &str = "x-pointsman-no-rescue";
const DEVICE: &str = "x-pointsman-device";
const TIMEOUT: &str = "x-request-timeout-ms";

/// What a client asks for beside what its body says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// The size of model, or a word that is none.
    pub(super) tier: Option<Result<Tier, UnknownTier>>,
    pub(super) refuses_retry: bool,
    /// Its own wish; who wants one attempt wants no rescue either.
    pub(super) refuses_rescue: bool,
    pub(super) within: Option<Duration>,
    /// What cannot be a name is empty, and so counted as one that may not be.
    pub(super) device: Option<Box<str>>,
}

/// A word in the header that is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnknownTier;

impl Wishes {
    /// Reads them.
    pub(super) fn read(headers: &HeaderMap) -> Wishes {
        let mut wishes = Wishes::default();
        let mut has_timeout = false;
        for (name, value) in headers {
            let name = name.as_str();
            if !matches!(name.len(), 16..=21) || !name.starts_with("x-") {
                continue;
            }
            match name {
                TIER if wishes.tier.is_none() => wishes.tier = Some(tier(value)),
                DEVICE if wishes.device.is_none() => wishes.device = Some(word(value).into()),
                TIMEOUT if !has_timeout => {
                    has_timeout = true;
                    wishes.within = exchange::wish(value.as_bytes());
                }
                NO_RETRY => wishes.refuses_retry = true,
                NO_RESCUE => wishes.refuses_rescue = true,
                _ => {}
            }
        }
        wishes
    }

    /// Returns the size of model that is asked for.
    ///
    /// # Errors
    /// Where the word is no size.
    pub(super) fn tier(&self) -> Result<Option<Tier>, UnknownTier> {
        self.tier.transpose()
    }
}

fn tier(value: &HeaderValue) -> Result<Tier, UnknownTier> {
    Tier::from_word(word(value).trim()).ok_or(UnknownTier)
}

fn word(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(fields: &[(&'static str, &[u8])]) -> Wishes {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        Wishes::read(&headers)
    }

    #[test]
    fn every_wish_is_read_and_nothing_else() {
        let read = wishes(&[
            ("host", b"a"),
            ("x-pointsman-tier", b" large "),
            ("x-stainless-runtime", b"node"),
            ("x-pointsman-no-retry", b""),
            ("x-pointsman-no-rescue", b"0"),
            ("x-request-timeout-ms", b"1500"),
            ("x-pointsman-device", b"desk"),
            ("x-pointsman-hop", b"a"),
        ]);
        let all = Wishes {
            tier: Some(Ok(Tier::Large)),
            refuses_retry: true,
            refuses_rescue: true,
            within: Some(Duration::from_millis(1500)),
            device: Some("desk".into()),
        };
        assert_eq!(read, all);
        let others: [(&str, &[u8]); 4] = [
            ("x-pointsman-tiers", b"large"),
            ("y-pointsman-tier", b"large"),
            ("x-request-timeout", b"1500"),
            ("x-pointsman-devices", b"desk"),
        ];
        assert_eq!(wishes(&others), Wishes::default());
    }

    #[test]
    fn of_two_the_first_counts_and_what_cannot_be_read_is_no_wish() {
        let read = wishes(&[
            ("x-pointsman-tier", b"fast"),
            ("x-pointsman-tier", b"large"),
            ("x-pointsman-device", b"\xff"),
            ("x-pointsman-device", b"desk"),
            ("x-request-timeout-ms", b"soon"),
            ("x-request-timeout-ms", b"1500"),
        ]);
        assert_eq!(read.tier(), Ok(Some(Tier::Fast)));
        assert_eq!(read.device.as_deref(), Some(""));
        assert_eq!(read.within, None);
        for word in [&b"huge"[..], b"", b"\xff"] {
            assert_eq!(wishes(&[("x-pointsman-tier", word)]).tier(), Err(UnknownTier), "{word:?}");
        }
        assert_eq!(Wishes::default().tier(), Ok(None));
    }
}
