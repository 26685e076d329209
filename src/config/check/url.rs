//! What is a sound base URL?
//!
//! `https://host[:port][/path]`, or `http://` where that is safe: to this machine, or where the
//! file says `allow_plaintext`. Everything that could send a key somewhere else than a reader of
//! the line expects is an error: userinfo (`https://api.openai.com@evil/`), a query, a fragment,
//! `..` in the path, escapes of dots and slashes, blanks, backslashes, port 0, names beyond ASCII
//! (to be written as `xn--…`). The URL itself is never repeated: it may hold a password.

use crate::base::reach::{self, Reach};
use std::net::IpAddr;

/// A base URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name in lower case, or an address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path without a trailing slash.
    pub path: String,
}

impl BaseUrl {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// Says what is wrong without repeating any of it.
    pub fn parse(text: &str) -> Result<BaseUrl, &'static str> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("holds a blank or a letter beyond ASCII (write such a host name as xn--…)");
        }
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return Err("must begin with https:// (or http:// to this machine)"),
        };
        for (sign, why) in [
            ('#', "must not hold a fragment (#)"),
            ('?', "must not hold a query (?)"),
            ('\\', "must not hold a backslash"),
        ] {
            if rest.contains(sign) {
                return Err(why);
            }
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err("must not hold a user name or password (@); keys belong under credentials");
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None if tls => 443,
            None => 80,
            Some(port) => match port.parse::<u16>() {
                Ok(0) => return Err("must not use port 0"),
                Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => number,
                Ok(_) | Err(_) => return Err("has a port that is not a number from 1 to 65535"),
            },
        };
        Ok(BaseUrl { tls, host, port, path: clean_path(path)? })
    }

    /// Tells whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        reach::is_localhost(&self.host)
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Tells whether the host is written as an address that is not out in the world.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| !reach::is_public(ip))
    }

    /// Returns what its name may stand for; `denies` is what the file says of inner addresses.
    #[must_use]
    pub fn reach(&self, denies: Option<bool>) -> Reach {
        Reach::of(&self.host, self.tls, denies)
    }

    /// Returns `scheme://host:port`.
    #[must_use]
    pub fn endpoint_name(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.bracketed(), self.port)
    }

    /// Returns what goes into the Host header: without the port where it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let own = if self.tls { 443 } else { 80 };
        if self.port == own { self.bracketed() } else { format!("{}:{}", self.bracketed(), self.port) }
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

fn split_port(authority: &str) -> Result<(String, Option<&str>), &'static str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("has a bracket that is not closed")?;
        let ip =
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "has brackets around what is no IPv6 address")?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((ip.to_string(), Some(port))),
            None if port.is_empty() => Ok((ip.to_string(), None)),
            None => Err("has something between host and path that is no port"),
        };
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    if is_name { Ok((host.to_ascii_lowercase(), port)) } else { Err("has no sound host name") }
}

fn clean_path(path: &str) -> Result<String, &'static str> {
    let path = path.trim_end_matches('/');
    for segment in path.split('/').skip(1) {
        if segment.is_empty() {
            return Err("must not hold // in its path");
        }
        if segment == "." || segment == ".." {
            return Err("must not hold . or .. in its path");
        }
        let is_sound =
            segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-!$&'()*+,;=:@".contains(&b));
        if !is_sound {
            return Err("has a path with signs that would need escaping");
        }
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_pass() {
        for (text, want) in [
            ("https://api.openai.com/v1", Some(("https://api.openai.com:443", "api.openai.com", "/v1"))),
            ("https://api.openai.com/v1/", Some(("https://api.openai.com:443", "api.openai.com", "/v1"))),
            ("https://API.anthropic.com", Some(("https://api.anthropic.com:443", "api.anthropic.com", ""))),
            ("http://127.0.0.1:8089/v1", Some(("http://127.0.0.1:8089", "127.0.0.1:8089", "/v1"))),
            ("HTTP://[::1]:80", Some(("http://[::1]:80", "[::1]", ""))),
            ("https://h:444/a/b:c", Some(("https://h:444", "h:444", "/a/b:c"))),
            ("ftp://h", None),
            ("api.openai.com/v1", None),
            ("https://", None),
            ("https:///v1", None),
            ("https://u:p@h/", None),
            ("https://h/#x", None),
            ("https://h/?x=1", None),
            ("https://h?x=1", None),
            ("https://h/../x", None),
            ("https://h/./x", None),
            ("https://h/%2e%2e/x", None),
            ("https://h//x", None),
            ("https://h:0", None),
            ("https://h:65536", None),
            ("https://h:+80", None),
            ("https://h:", None),
            ("https://[::1", None),
            ("https://[x]", None),
            ("https://[::1]x", None),
            ("https://h h", None),
            ("https://h\\@e", None),
            ("https://bücher.example", None),
            ("https://a..b", None),
        ] {
            let got = BaseUrl::parse(text);
            let seen = got.as_ref().ok().map(|url| (url.endpoint_name(), url.authority(), url.path.clone()));
            let want = want.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
            assert_eq!(seen, want, "{text}: {got:?}");
        }
    }

    #[test]
    fn loopback_is_told_from_what_only_looks_like_it() {
        for (text, want) in [
            ("http://localhost:1", true),
            ("http://a.localhost", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://127.0.0.1.evil.example", false),
            ("http://localhost.evil.example", false),
            ("http://0.0.0.0", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(BaseUrl::parse(text).unwrap().is_loopback(), want, "{text}");
        }
    }
}
