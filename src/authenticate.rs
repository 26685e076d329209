//! Whose request is this?
//!
//! A client shows its key in one of five ways, whichever its SDK uses: `Authorization: Bearer`,
//! `x-api-key`, `api-key`, `x-goog-api-key` or `?key=` (contract section 3). Where several are
//! shown, the first one that is valid counts, in that order: Claude Code sends a token and a key
//! side by side. All of them are taken off the request later, whatever came of them here.
//!
//! Keys are compared as SHA-256 digests in constant time, and always against every client, so
//! that the time taken tells neither how much of a key was right nor whose it nearly was (threat
//! C10). The digest also means that a plan holds no client key.
//!
//! An empty value counts as no key at all: `Authorization: Bearer ` with nothing behind it is
//! what tools send when their variable is unset, and "missing" is then the truer answer. At most
//! [`KEYS_MAX`] values are looked at, so that a request with a hundred keys costs no more.
//!
//! No clients configured means open; `config` allows that on loopback only.

use crate::base::ids::ClientIdx;
use crate::base::percent;
use crate::base::secret::Secret;
use crate::config::plan::Client;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// Most keys of one request that are compared: the five forms, and a few repeated.
pub const KEYS_MAX: usize = 8;

/// Headers that carry a bare key, in the order in which they count, after `Authorization`.
static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The keys that a request shows, in the order in which they count.
pub struct Presented<'a> {
    keys: SmallVec<[Cow<'a, [u8]>; 2]>,
}

/// Why a request is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthFault {
    /// No key was shown in any of the five forms.
    #[error("no API key was sent")]
    Missing,
    /// Keys were shown and none is a client's.
    #[error("the API key is not known here")]
    Invalid,
}

impl Presented<'_> {
    /// Tells whether no key was shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns every key shown, so that whoever forwards the request can keep all of them here:
    /// the one that let the client in and the others that it shows beside it.
    #[must_use]
    pub fn all(&self) -> SmallVec<[&[u8]; 2]> {
        self.keys.iter().map(|key| &**key).collect()
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({} redacted)", self.keys.len())
    }
}

/// Finds the keys that a request shows in its headers and in its query (the part behind `?`).
#[must_use]
pub fn presented<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Presented<'a> {
    // One pass: there are few fields, and looking five names up costs more than looking at them all.
    let mut found: SmallVec<[(usize, &[u8]); 2]> = SmallVec::new();
    for (name, value) in headers {
        let key = if *name == AUTHORIZATION {
            bearer(value.as_bytes()).map(|key| (0, key))
        } else {
            let form = KEY_HEADERS.iter().position(|known| known == name);
            form.map(|form| (form + 1, value.as_bytes().trim_ascii()))
        };
        found.extend(key.filter(|(_, key)| !key.is_empty()));
    }
    found.sort_by_key(|(form, _)| *form);
    let in_headers = found.into_iter().map(|(_, key)| Cow::Borrowed(key));
    let keys = in_headers.chain(query.into_iter().flat_map(query_keys)).take(KEYS_MAX).collect();
    Presented { keys }
}

/// Finds the client whose key was shown; nothing where no clients are configured (open).
///
/// # Errors
/// [`AuthFault`] where a key is wanted and none, or none that is known, was shown.
pub fn check(clients: &[Client], presented: &Presented<'_>) -> Result<Option<ClientIdx>, AuthFault> {
    if clients.is_empty() {
        return Ok(None);
    }
    if presented.is_empty() {
        return Err(AuthFault::Missing);
    }
    presented.keys.iter().find_map(|key| owner(clients, key)).map(Some).ok_or(AuthFault::Invalid)
}

/// Tells whether one of the keys shown is `wanted`, in constant time for each: the admin token.
#[must_use]
pub fn is_shown(presented: &Presented<'_>, wanted: &Secret) -> bool {
    let wanted = Sha256::digest(wanted.expose());
    presented.keys.iter().any(|key| bool::from(Sha256::digest(key).as_slice().ct_eq(wanted.as_slice())))
}

/// Tells whether a client may use a route: one of its patterns is the name, or ends in `*` and
/// the name begins with the rest.
#[must_use]
pub fn may_use(client: &Client, route: &str) -> bool {
    client.routes.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => route.starts_with(prefix),
        None => route == pattern,
    })
}

/// The client with this key; every client is compared, also after one was found.
fn owner(clients: &[Client], key: &[u8]) -> Option<ClientIdx> {
    let digest: [u8; 32] = Sha256::digest(key).into();
    let mut found = u32::MAX;
    for (at, client) in (0u32..).zip(clients) {
        let is_equal = client.key_digest.as_slice().ct_eq(&digest);
        let is_first = found.ct_eq(&u32::MAX);
        found = u32::conditional_select(&found, &at, is_equal & is_first);
    }
    (found != u32::MAX).then_some(ClientIdx(found))
}

/// The token behind `Bearer`, in any case and with any spaces around (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at_checked("bearer".len())?;
    let is_bearer =
        scheme.eq_ignore_ascii_case(b"bearer") && rest.first().is_some_and(u8::is_ascii_whitespace);
    let token = rest.trim_ascii();
    (is_bearer && !token.is_empty()).then_some(token)
}

/// Values of `key=` in the query, decoded; the name may be encoded as well.
fn query_keys(query: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| percent::decode(name).is_some_and(|name| *name == *b"key"))
        .filter_map(|(_, value)| percent::decode(value))
        .filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::ClientLimits;
    use http::{HeaderName, HeaderValue};

    type Headers<'a> = &'a [(&'a str, &'a str)];
    type Query<'a> = Option<&'a str>;

    fn client(name: &str, key: &str, routes: &[&str]) -> Client {
        Client {
            name: name.into(),
            key_digest: Sha256::digest(key).into(),
            routes: routes.iter().map(|r| (*r).to_owned()).collect(),
            limits: ClientLimits::default(),
        }
    }

    fn headers(list: Headers<'_>) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    fn who(list: Headers<'_>, query: Query<'_>) -> Result<Option<u32>, AuthFault> {
        let clients = [
            client("laptop", "key-one", &["*"]),
            client("ci", "key-two", &["*"]),
            client("odd", "k/3 é", &["*"]),
        ];
        let headers = headers(list);
        check(&clients, &presented(&headers, query)).map(|found| found.map(|at| at.0))
    }

    #[test]
    fn a_request_without_a_usable_key_is_missing_one() {
        let rows: &[(Headers<'_>, Query<'_>)] = &[
            (&[], None),
            (&[("authorization", "")], None),
            (&[("authorization", "Bearer")], None),
            (&[("authorization", "Bearer   ")], None),
            (&[("authorization", "key-one")], None),
            (&[("authorization", "Bearerkey-one")], None),
            (&[("authorization", "Basic a2V5LW9uZQ==")], None),
            (&[("authorization", "bea")], None),
            (&[("x-api-key", "  ")], None),
            (&[("cookie", "key=key-one")], None),
            (&[], Some("")),
            (&[], Some("key=")),
            (&[], Some("key")),
            (&[], Some("KEY=key-one")),
            (&[], Some("api_key=key-one")),
            (&[], Some("key=%zz")),
        ];
        for (list, query) in rows {
            assert_eq!(who(list, *query), Err(AuthFault::Missing), "{list:?} {query:?}");
        }
    }

    #[test]
    fn a_wrong_key_is_invalid_in_every_form() {
        let rows: &[(Headers<'_>, Query<'_>)] = &[
            (&[("authorization", "Bearer key-onE")], None),
            (&[("authorization", "Bearer key-one x")], None),
            (&[("x-api-key", "key-on")], None),
            (&[("api-key", "key-one1")], None),
            (&[("x-goog-api-key", "Bearer key-one")], None),
            (&[], Some("key=key%2Done%00")),
        ];
        for (list, query) in rows {
            assert_eq!(who(list, *query), Err(AuthFault::Invalid), "{list:?} {query:?}");
        }
    }

    #[test]
    fn the_first_valid_key_of_any_form_names_the_client() {
        let rows: &[(Headers<'_>, Query<'_>, u32)] = &[
            (&[("Authorization", "Bearer key-one")], None, 0),
            (&[("AUTHORIZATION", "bearer key-two")], None, 1),
            (&[("authorization", "BEARER \t key-two  ")], None, 1),
            (&[("X-Api-Key", "key-one")], None, 0),
            (&[("Api-Key", " key-two ")], None, 1),
            (&[("x-goog-api-key", "key-one")], None, 0),
            (&[], Some("alt=sse&key=key-two"), 1),
            (&[], Some("k%65y=key%2dtwo"), 1),
            (&[], Some("key=k%2F3%20%C3%A9"), 2),
            (&[("authorization", "Bearer wrong"), ("x-api-key", "key-two")], None, 1),
            (&[("x-api-key", "key-two"), ("authorization", "Bearer key-one")], None, 0),
            (&[("x-api-key", "wrong"), ("x-api-key", "key-two")], Some("key=key-one"), 1),
        ];
        for (list, query, want) in rows {
            assert_eq!(who(list, *query), Ok(Some(*want)), "{list:?} {query:?}");
        }
    }

    #[test]
    fn without_clients_everyone_may_call() {
        let none = HeaderMap::new();
        assert_eq!(check(&[], &presented(&none, None)), Ok(None));
        assert_eq!(check(&[], &presented(&headers(&[("x-api-key", "any")]), None)), Ok(None));
    }

    #[test]
    fn of_two_clients_with_one_key_the_first_is_meant() {
        let clients = [client("a", "same", &["*"]), client("b", "same", &["*"])];
        let headers = headers(&[("x-api-key", "same")]);
        assert_eq!(check(&clients, &presented(&headers, None)), Ok(Some(ClientIdx(0))));
    }

    #[test]
    fn only_so_many_keys_are_looked_at() {
        let clients = [client("a", "right", &["*"])];
        let mut map = HeaderMap::new();
        for _ in 0..KEYS_MAX {
            map.append("x-api-key", HeaderValue::from_static("wrong"));
        }
        map.append("x-api-key", HeaderValue::from_static("right"));
        assert_eq!(check(&clients, &presented(&map, None)), Err(AuthFault::Invalid));
    }

    #[test]
    fn routes_match_exactly_or_by_prefix() {
        for (patterns, route, want) in [
            (&["*"][..], "anything", true),
            (&["chat"][..], "chat", true),
            (&["chat"][..], "chat-2", false),
            (&["chat"][..], "Chat", false),
            (&["chat-*"][..], "chat-2", true),
            (&["chat-*"][..], "chat", false),
            (&["a", "openai/*"][..], "openai/gpt-4o", true),
            (&["*chat"][..], "my-chat", false),
            (&[""][..], "chat", false),
            (&[][..], "chat", false),
        ] {
            assert_eq!(may_use(&client("c", "k", patterns), route), want, "{patterns:?} {route}");
        }
    }

    #[test]
    fn what_was_presented_is_never_printed() {
        let map = headers(&[("x-api-key", "sk-canary")]);
        assert_eq!(format!("{:?}", presented(&map, Some("key=sk-canary"))), "Presented(2 redacted)");
    }
}
