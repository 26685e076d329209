//! Who may ask?
//!
//! The token is compared as a digest in constant time, by the same code as clients' keys. The host
//! is compared by name: a browser that was lured to `evil.example`, which now resolves to
//! 127.0.0.1, still says `Host: evil.example`.

use super::answer::Head;
use crate::authenticate::{is_shown, presented};
use crate::base::secret::Secret;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

/// Why somebody may not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoHost,
    ForeignHost,
    NoToken,
    WrongToken,
    NoneConfigured,
}

/// Checks the token, in `Authorization: Bearer` or `x-api-key`; never in the query, which gets
/// into other people's logs.
pub(super) fn token(headers: &HeaderMap, wanted: Option<&Secret>) -> Result<(), Fault> {
    let wanted = wanted.ok_or(Fault::NoneConfigured)?;
    let shown = presented(headers, None);
    match (shown.is_empty(), is_shown(&shown, wanted)) {
        (true, _) => Err(Fault::NoToken),
        (false, false) => Err(Fault::WrongToken),
        (false, true) => Ok(()),
    }
}

/// Checks the token as a browser shows it when somebody opens the page: as the password of `Basic`,
/// whoever the user is said to be. Good for the page's own files and nothing else, since a browser
/// sends it along unasked, also when another site makes it write.
pub(super) fn password(headers: &HeaderMap, wanted: Option<&Secret>) -> bool {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(6));
    let Some((scheme, encoded)) = shown else { return false };
    let Some(said) = BASE64_STANDARD.decode(encoded.trim_ascii()).ok() else { return false };
    let password = memchr::memchr(b':', &said).and_then(|colon| said.get(colon + 1..));
    let value = password.and_then(|password| HeaderValue::from_bytes(password).ok());
    let Some(value) = value.filter(|_| scheme.eq_ignore_ascii_case(b"basic ")) else { return false };
    token(&HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), value)]), wanted).is_ok()
}

/// Checks that a loopback listener was called by a loopback name, or one of `hosts`.
pub(super) fn host(head: &Head<'_>, hosts: &[String]) -> Result<(), Fault> {
    let mut named = head.headers.get_all(HOST).into_iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().map_err(|_| Fault::ForeignHost)?,
        (Some(_), Some(_)) => return Err(Fault::NoHost),
        (None, _) => match head.authority {
            Some(authority) => authority,
            // Only browsers can be lured, and they always say a host.
            None if head.may_lack_host => return Ok(()),
            None => return Err(Fault::NoHost),
        },
    };
    let name = without_port(host);
    let is_loopback = name.eq_ignore_ascii_case("localhost")
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let is_allowed = is_loopback || hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
    if is_allowed { Ok(()) } else { Err(Fault::ForeignHost) }
}

/// The name without a port and without the dot of a fully qualified one.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !is_bare_v6(host) => name,
        Some(_) | None => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn is_bare_v6(host: &str) -> bool {
    !host.starts_with('[') && host.matches(':').count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(*name, HeaderValue::from_str(value).unwrap());
            map
        })
    }

    fn called(hosts: &[&str], is_1_0: bool) -> Result<(), Fault> {
        let list: Vec<(&'static str, &str)> = hosts.iter().map(|host| ("host", *host)).collect();
        let headers = headers(&list);
        let head = Head {
            method: "GET",
            path: "/",
            query: None,
            authority: None,
            may_lack_host: is_1_0,
            headers: &headers,
        };
        host(&head, &["admin.internal".to_owned()])
    }

    #[test]
    fn a_foreign_name_is_refused_whatever_it_resolves_to() {
        for name in [
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0:9901",
            "[::]:9901",
            "[fe80::1]",
            "",
            ":9901",
            "localhost:99x1",
            "127.0.0.1@evil.example",
        ] {
            assert_eq!(called(&[name], false), Err(Fault::ForeignHost), "{name}");
        }
    }

    #[test]
    fn loopback_names_and_literals_are_taken_with_any_port() {
        for name in [
            "localhost",
            "LOCALHOST:9901",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:9901",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:9901",
            "::1",
            "admin.internal:9901",
        ] {
            assert_eq!(called(&[name], false), Ok(()), "{name}");
        }
    }

    #[test]
    fn only_http_1_0_may_come_without_a_host_and_nobody_with_two() {
        assert_eq!(called(&[], false), Err(Fault::NoHost));
        assert_eq!(called(&[], true), Ok(()));
        assert_eq!(called(&["localhost", "localhost"], false), Err(Fault::NoHost));
    }

    #[test]
    fn the_token_must_be_the_token() {
        let wanted = Secret::new("token-0123456789".to_owned());
        for (list, want) in [
            (&[][..], Err(Fault::NoToken)),
            (&[("authorization", "Bearer ")][..], Err(Fault::NoToken)),
            (&[("authorization", "Bearer token-012345678")][..], Err(Fault::WrongToken)),
            (&[("authorization", "Bearer token-0123456789")][..], Ok(())),
            (&[("x-api-key", "token-0123456789")][..], Ok(())),
        ] {
            assert_eq!(token(&headers(list), Some(&wanted)), want, "{list:?}");
            assert_eq!(token(&headers(list), None), Err(Fault::NoneConfigured), "{list:?}");
        }
    }
}
