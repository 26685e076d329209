//! Does a web page from elsewhere ask?
//!
//! Without `clients` whoever reaches the listener may call. That is everybody on this machine, and so is
//! every page in a browser on it: for a `POST` of plain text no browser asks us first, and a page whose name
//! is made to resolve to 127.0.0.1 is of our own origin. But browsers say where such a request comes from,
//! and pages cannot make them say anything else. Refused is an `http` or `https` origin that is not this
//! machine, or of which the browser says that it is another site; and `null` (a frame that is shut in, a form
//! that is to tell nobody where it stands) where it says the same, or where the host is not this machine by
//! its name. Programs send no origin, and those that are pages at heart have their own schemes
//! (`app:`, `tauri:`, `vscode-webview:`, `file:`).
//!
//! A page that only reads (a picture, a link) sends no origin: refused is what the browser says comes from
//! another site. Of a page that had its name rebound, and so takes us for its own, this refuses whatever costs
//! money, and not `GET`.
//!
//! Source: Fetch Standard, *`Origin` header*; W3C Fetch Metadata, section 2.3; RFC 6761 section 6.3.

use http::{HeaderMap, HeaderName, header};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a page is told.
pub(super) const FOREIGN: &str = "this request comes from a web page of another site, which anybody on this machine may open; configure clients, and have the page send a key, if it is to call";

static SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Tells whether a page of another site asks. Of a program that is two look-ups.
pub(super) fn is_foreign_page(headers: &HeaderMap) -> bool {
    let site = headers.get(&SITE);
    let is_cross_site = site.is_some_and(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"));
    if !headers.contains_key(header::ORIGIN) {
        return is_cross_site;
    }
    let host = headers.get(header::HOST);
    let is_elsewhere = is_cross_site || host.is_some_and(|host| !host.to_str().is_ok_and(is_this_machine));
    let of_page = |origin: &[u8]| {
        if origin.eq_ignore_ascii_case(b"null") { is_elsewhere } else { is_foreign(origin, is_cross_site) }
    };
    headers.get_all(header::ORIGIN).iter().any(|origin| of_page(origin.as_bytes()))
}

fn is_foreign(origin: &[u8], is_cross_site: bool) -> bool {
    let Some((scheme, authority)) =
        memchr::memmem::find(origin, b"://").and_then(|at| Some((origin.get(..at)?, origin.get(at + 3..)?)))
    else {
        return false;
    };
    let is_web = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    is_web && (is_cross_site || !std::str::from_utf8(authority).is_ok_and(is_this_machine))
}

/// Tells whether a host with or without its port is this machine by its very name.
fn is_this_machine(authority: &str) -> bool {
    if let Some(rest) = authority.strip_prefix('[') {
        let address = rest.split(']').next().and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.is_some_and(|address| IpAddr::V6(address).to_canonical().is_loopback());
    }
    let host = authority.split(':').next().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn pages_of_other_sites_are_told_from_pages_of_this_machine_and_from_programs() {
        for (origins, site, want) in [
            (&[][..], "", false),
            (&[], "cross-site", true),
            (&[], "same-origin", false),
            (&[], "none", false),
            (&["https://evil.example"], "", true),
            (&["http://evil.example:8080"], "same-origin", true),
            (&["HTTPS://EVIL.example"], "", true),
            (&["http://localhost.evil.example"], "", true),
            (&["http://evil-localhost"], "", true),
            (&["http://127.0.0.1.evil.example"], "", true),
            (&["http://localhost@evil.example"], "", true),
            (&["http://192.168.1.2"], "", true),
            (&["http://[2001:db8::1]:80"], "", true),
            (&["http://"], "", true),
            (&["http://localhost:3000"], "", false),
            (&["http://localhost"], "same-site", false),
            (&["https://LocalHost.:8443"], "", false),
            (&["http://app.localhost:3000"], "", false),
            (&["http://127.0.0.1:8080"], "same-origin", false),
            (&["http://127.8.9.1"], "", false),
            (&["http://[::1]:8080"], "", false),
            (&["http://localhost:3000"], "cross-site", true),
            (&["null"], "", false),
            (&["null"], "same-origin", false),
            (&["null"], "cross-site", true),
            (&["null"], "Cross-Site", true),
            (&["app://obsidian.md"], "cross-site", false),
            (&["tauri://localhost"], "", false),
            (&["vscode-webview://0123"], "cross-site", false),
            (&["file://"], "", false),
            (&["chrome-extension://abc"], "", false),
            (&["no origin"], "cross-site", false),
            (&["http://localhost", "http://evil.example"], "", true),
        ] {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(header::ORIGIN, HeaderValue::from_static(origin));
            }
            if !site.is_empty() {
                headers.append("sec-fetch-site", HeaderValue::from_static(site));
            }
            assert_eq!(is_foreign_page(&headers), want, "{origins:?} {site}");
        }
        for (host, want) in [("localhost:8080", false), ("[::1]:8080", false), ("rebound.example:8080", true)]
        {
            let origin = (header::ORIGIN, HeaderValue::from_static("null"));
            let headers = HeaderMap::from_iter([origin, (header::HOST, HeaderValue::from_static(host))]);
            assert_eq!(is_foreign_page(&headers), want, "null, at {host}");
        }
        let odd = HeaderValue::from_bytes(b"http://localhost\xff").unwrap();
        assert!(is_foreign_page(&HeaderMap::from_iter([(header::ORIGIN, odd)])));
    }
}
