//! The request as the provider sees it.
//!
//! Built from nothing rather than from the client's: authority, path and authentication come only
//! from the plan, and of the client's headers only those on `rewrite`'s list. So no form of a
//! client's credential can slip through by being spelt in a way that nobody thought of.

use super::conduct::Asked;
use crate::base::api::Kind;
use crate::base::time::WallTime;
use crate::live::Slot;
use crate::rewrite::{self, Rewritten};
use crate::sign;
use http::{HeaderValue, Version, header};
use pingora::http::RequestHeader;
use sha2::{Digest, Sha256};

/// Makes the head of a replayable call for one target.
pub(super) fn head(slot: &Slot, asked: &Asked<'_>, length: usize) -> pingora::Result<Box<RequestHeader>> {
    let path = rewrite::upstream_path(slot.kind, asked.api, &slot.base_path, asked.query.as_deref());
    let mut head = RequestHeader::build_no_case("POST", path.as_bytes(), Some(16))?;
    head.insert_header(header::HOST, slot.authority.clone())?;
    for (name, value) in &asked.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    // The body was read and is JSON, whatever the client called it.
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(length))?;
    head.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    if slot.kind == Kind::Anthropic && !head.headers.contains_key("anthropic-version") {
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

/// Signs a head for its body where the credential signs whole requests; nothing of either may change
/// afterwards, but for the authority's place in HTTP/2.
pub(super) fn signed(
    mut head: Box<RequestHeader>,
    slot: &Slot,
    body: &Rewritten,
    now: WallTime,
) -> pingora::Result<Box<RequestHeader>> {
    let Some(signing) = &slot.signing else { return Ok(head) };
    let unsignable =
        |_| pingora::Error::explain(pingora::ErrorType::InternalError, "the request cannot be signed");
    let mut digest = Sha256::new();
    body.pieces.iter().for_each(|piece| digest.update(piece));
    let request = sign::Signable {
        method: head.method.as_str(),
        authority: slot.authority.to_str().unwrap_or_default(),
        path_and_query: head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        headers: &head.headers,
        body_sha256: digest.finalize().into(),
    };
    let scope = sign::Scope { region: &signing.region, service: &signing.service, at: now };
    for (name, value) in sign::sigv4(&request, &signing.keys, &scope).map_err(unsignable)? {
        head.insert_header(name, value)?;
    }
    Ok(head)
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
