//! The request as the provider sees it.
//!
//! Built from nothing rather than from the client's: authority, path and authentication come only
//! from the plan, and of the client's headers only those on `rewrite`'s list. So no form of a
//! client's credential can slip through by being spelt in a way that nobody thought of.

use super::conduct::Asked;
use crate::base::api::Dialect;
use crate::live::Slot;
use crate::rewrite;
use crate::sign;
use http::{HeaderValue, Version, header};
use pingora::http::RequestHeader;

/// Makes the head of a replayable call for one target.
pub(super) fn head(slot: &Slot, asked: &Asked<'_>, length: usize) -> pingora::Result<Box<RequestHeader>> {
    let query = asked.query.as_deref();
    let path = match slot.path(asked.api) {
        Some(template) => rewrite::templated_path(template, &slot.target.model, query),
        None => rewrite::upstream_path(slot.kind, asked.api, &slot.base_path, query),
    };
    let mut head = RequestHeader::build_no_case("POST", path.as_bytes(), Some(16))?;
    head.insert_header(header::HOST, slot.authority.clone())?;
    for (name, value) in &asked.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    // The body was read and is JSON, whatever the client called it.
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(length))?;
    head.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    let is_anthropic = asked.api.dialect() == Dialect::AnthropicMessages;
    if is_anthropic && !head.headers.contains_key("anthropic-version") {
        head.insert_header("anthropic-version", HeaderValue::from_static(sign::DEFAULT_ANTHROPIC_VERSION))?;
    }
    for (name, value) in &slot.extra {
        head.insert_header(name.clone(), value.clone())?;
    }
    // Added, not set: a client's list of betas and the one that a login needs go side by side.
    for (name, value) in &slot.auth {
        head.append_header(name.clone(), value.clone())?;
    }
    Ok(Box::new(head))
}

/// HTTP/2 names the authority in the request line and has no Host header.
pub(super) fn for_http2(head: &mut RequestHeader, slot: &Slot) -> Option<()> {
    let scheme = if slot.is_tls { "https" } else { "http" };
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let authority = slot.authority.to_str().ok()?;
    let uri = http::Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()?;
    head.set_uri(uri);
    head.set_version(Version::HTTP_2);
    head.remove_header(&header::HOST);
    Some(())
}
