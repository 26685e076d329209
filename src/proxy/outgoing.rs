//! The request as the provider sees it.
//!
//! Built from nothing rather than from the client's: authority, path and authentication come only
//! from the plan, and of the client's headers only those on `rewrite`'s list. So no form of a
//! client's credential can slip through by being spelt in a way that nobody thought of.

use super::conduct::Asked;
use super::fitted::fitted;
use super::hop;
use super::reply;
use crate::base::api::{Api, Dialect, Kind};
use crate::base::time::WallTime;
use crate::catalog::Ability;
use crate::live::Slot;
use crate::live::keyring::Signature;
use crate::rewrite::{self, Destination, Rewritten};
use crate::sign;
use bytes::Bytes;
use http::header::MaxSizeReached;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr};
use sha2::{Digest, Sha256};

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Copilot refuses images without it.
const COPILOT_VISION: HeaderName = HeaderName::from_static("copilot-vision-request");

/// Makes the head of a replayable call for one target, which is asked as `api`.
pub(super) fn head(
    slot: &Slot,
    signature: &Signature,
    asked: &Asked<'_>,
    api: Api,
    length: usize,
) -> pingora::Result<Box<RequestHeader>> {
    let path = path(slot, asked, api);
    let path = PathAndQuery::from_maybe_shared(Bytes::from(path));
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = Method::POST;
    head.uri = Uri::from(path.or_err(ErrorType::InvalidHTTPHeader, "the path cannot be sent")?);
    head.headers = headers(slot, signature, asked, api, length)
        .or_err(ErrorType::InvalidHTTPHeader, "too many headers")?;
    Ok(Box::new(RequestHeader::from(head)))
}

/// The path of a replayable call. The query is the client's dialect's own, and stays with it.
fn path(slot: &Slot, asked: &Asked<'_>, api: Api) -> String {
    let streams_gemini = api == Api::GenerateContent && asked.parsed.stream;
    let query = if api == asked.api { asked.query.as_deref() } else { streams_gemini.then_some("alt=sse") };
    let model = &slot.target.model;
    if let Some(template) = slot.path(api) {
        return rewrite::templated_path(template, model, query);
    }
    let (kind, base_path, is_stream) = (slot.kind, &slot.base_path, asked.parsed.stream);
    Destination { kind, api, base_path, model, is_stream }.path(query)
}

/// Headers of our own that every request to a provider has, without the type: a client has sent one.
const HEADERS_OWN: usize = 3;

/// The headers of a replayable call. Built as a plain map: Pingora's own type spells a name out,
/// title case and all, and reads it again, each time one is set.
fn headers(
    slot: &Slot,
    signature: &Signature,
    asked: &Asked<'_>,
    api: Api,
    length: usize,
) -> Result<HeaderMap, MaxSizeReached> {
    // As many as are known: a map that grows is built twice.
    let known = asked.headers.len() + slot.extra.len() + signature.headers().len();
    let is_told = hop::is_told(slot);
    let mut headers = HeaderMap::with_capacity(known + HEADERS_OWN + usize::from(is_told));
    headers.try_insert(header::HOST, slot.authority.clone())?;
    for (name, value) in &asked.headers {
        if api == asked.api || rewrite::crosses_dialects(name) {
            headers.try_append(name.clone(), value.clone())?;
        }
    }
    // The body was read and is JSON, whatever the client called it.
    headers.try_insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    headers.try_insert(header::CONTENT_LENGTH, reply::decimal(length as u64))?;
    headers.try_insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    let is_anthropic = api.dialect() == Dialect::AnthropicMessages;
    if is_anthropic && !headers.contains_key(ANTHROPIC_VERSION) {
        let version = HeaderValue::from_static(sign::DEFAULT_ANTHROPIC_VERSION);
        headers.try_insert(ANTHROPIC_VERSION, version)?;
    }
    if is_told {
        headers.try_insert(hop::HOP, asked.hop.clone())?;
    }
    for (name, value) in &slot.extra {
        headers.try_insert(name.clone(), value.clone())?;
    }
    // Added, not set: a client's list of betas and the one that a login needs go side by side.
    let is_googles_other = slot.kind == Kind::Gemini && api != Api::GenerateContent;
    for (name, value) in signature.headers() {
        let other = signature.keys().first().filter(|_| is_googles_other && *name == sign::GOOGLE_KEY);
        let (name, value) = match other.map(sign::as_bearer) {
            Some(Ok(bearer)) => bearer,
            Some(Err(_)) | None => (name.clone(), value.clone()),
        };
        headers.try_append(name, value)?;
    }
    if slot.kind == Kind::Copilot && asked.parsed.needs.has(Ability::Vision) {
        headers.try_insert(COPILOT_VISION, HeaderValue::from_static("true"))?;
    }
    // A signature adds some of its own.
    let is_last = signature.signing().is_none();
    Ok(if asked.parsed.stream && is_last { fitted(headers) } else { headers })
}

/// Signs a head for its body where the credential signs whole requests; nothing of either may change
/// afterwards, but for the authority's place in HTTP/2.
pub(super) fn signed(
    mut head: Box<RequestHeader>,
    slot: &Slot,
    signature: &Signature,
    body: &Rewritten,
    now: impl FnOnce() -> WallTime,
) -> pingora::Result<Box<RequestHeader>> {
    let Some(signing) = signature.signing() else { return Ok(head) };
    let mut digest = Sha256::new();
    body.pieces.iter().for_each(|piece| digest.update(piece));
    let request = sign::Signable {
        method: head.method.as_str(),
        authority: slot.authority.to_str().unwrap_or_default(),
        path_and_query: head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        headers: &head.headers,
        body_sha256: digest.finalize().into(),
    };
    let scope = sign::Scope { region: &signing.region, service: &signing.service, at: now() };
    let signed = sign::sigv4(&request, &signing.keys, &scope)
        .or_err(ErrorType::InvalidHTTPHeader, "the request cannot be signed")?;
    for (name, value) in signed {
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
