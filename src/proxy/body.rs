//! The request body: read once, bounded in size, time and memory.
//!
//! Every attempt needs the whole body, and Pingora's own retry buffer ends at 64 KiB, so we keep
//! it ourselves. Three bounds: `limits.max_body` per request, the pace that a client must keep
//! ([`Pace`]), and a [`Share`] of `limits.replay_memory`. A body that does not fit now is refused, not
//! queued. The share is taken for what has come, not for what was announced: a few clients that
//! announce much and send nothing would otherwise keep everybody out. A request that is said in
//! another dialect is there twice, and is counted twice.

use super::gathered::Gathered;
use super::pace::Pace;
use crate::base::outcome::ErrorCode;
use crate::config::plan::Limits;
use crate::live::House;
use crate::live::memory::{FREE, Share};
use bytes::Bytes;
use http::Version;
use pingora::protocols::http::ServerSession as Session;
use pingora::time::fast_timeout::fast_timeout;
use std::time::Duration;

/// Least that a body which goes on takes of the common memory.
const LEAST_SHARE: u64 = 64 * 1024;
/// What Pingora reads the pieces of a body into, and keeps until the request has ended.
const READ_BUFFER: u64 = 64 * 1024;

/// A request body and the memory it holds.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// Returns its share of the replay memory when dropped.
    pub(super) share: Share,
}

/// Why there is no body.
pub(super) enum BodyFault {
    /// We say so, with this status and word.
    Refused(u16, ErrorCode, &'static str),
    /// The client stopped sending.
    Gone,
}

/// Reads the whole body, unless it `came` with the head.
pub(super) async fn read(
    house: &House,
    session: &mut Session,
    limits: &Limits,
    pace: &Pace,
    came: Bytes,
) -> Result<Body, BodyFault> {
    if !came.is_empty() {
        return whole(house, limits, came);
    }
    let announced = announced_length(session)?;
    if announced.is_some_and(|length| length > limits.max_body) {
        return Err(too_large());
    }
    if is_waiting(session) {
        session.write_continue_response().await.map_err(|_| BodyFault::Gone)?;
    }
    read_all(house, session, limits, announced, pace).await
}

/// Takes a body of which all is there. Who waits for leave to send it does so no more.
fn whole(house: &House, limits: &Limits, bytes: Bytes) -> Result<Body, BodyFault> {
    let length = bytes.len() as u64;
    if length > limits.max_body {
        return Err(too_large());
    }
    let mut share = Share::default();
    if length > FREE {
        reserve(house, limits, &mut share, length)?;
    }
    Ok(Body { bytes, share })
}

/// Tells whether the client waits for leave to send its body. One of HTTP/1.0 does not know what that is
/// (RFC 9110 section 10.1.1).
fn is_waiting(session: &Session) -> bool {
    let head = session.req_header();
    head.version >= Version::HTTP_11 && head.headers.contains_key(http::header::EXPECT)
}

impl Body {
    /// Tells whether it is long enough to be counted at all.
    pub(super) fn is_counted(&self) -> bool {
        self.bytes.len() as u64 > FREE
    }

    /// Sees to it that there is room for the same request in another dialect, and for a part of what it
    /// takes to say it. One that fills nearly all there is has what is left, or it would never be said.
    pub(super) fn count_twice(&mut self, house: &House, limits: &Limits) -> Result<(), BodyFault> {
        let length = self.bytes.len() as u64;
        let length = length + length / 4;
        let rest = limits.replay_memory.saturating_sub(self.share.bytes());
        reserve(house, limits, &mut self.share, length.min(rest))
    }
}

/// Waits for the next piece of a body of which `so_far` bytes came in the time `spent`.
async fn next(
    house: &House,
    session: &mut Session,
    pace: &Pace,
    so_far: usize,
    spent: Duration,
) -> Result<Option<Bytes>, BodyFault> {
    let allowed = pace.next_by(so_far as u64).saturating_sub(spent);
    let read = tokio::select! {
        biased;
        read = fast_timeout(allowed, session.read_request_body()) => read,
        () = house.parting.comes() => return Err(BodyFault::Refused(504, ErrorCode::DeadlineExceeded, LEAVING)),
    };
    match read {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) if is_malformed(&error) => {
            Err(BodyFault::Refused(400, ErrorCode::ValidationFailed, MALFORMED))
        }
        Ok(Err(_)) => Err(BodyFault::Gone),
        Err(_) => Err(BodyFault::Refused(408, ErrorCode::ValidationFailed, TOO_SLOW)),
    }
}

/// Tells whether the client sent chunks that are none, rather than left (threat C4).
pub(super) fn is_malformed(error: &pingora::Error) -> bool {
    matches!(error.etype(), pingora::ErrorType::Custom("InvalidChunk" | "InvalidTrailerEnd"))
}

/// Prepares a body that is passed through unread: one that is announced as too large is refused,
/// and a client that waits for `100 Continue` gets it from us, since the expectation is the hop's.
pub(super) async fn pass(session: &mut Session, max: u64) -> Result<(), BodyFault> {
    if announced_length(session)?.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    if is_waiting(session) {
        session.write_continue_response().await.map_err(|_| BodyFault::Gone)?;
    }
    Ok(())
}

async fn read_all(
    house: &House,
    session: &mut Session,
    limits: &Limits,
    announced: Option<u64>,
    pace: &Pace,
) -> Result<Body, BodyFault> {
    let began = house.clock.tick();
    let mut share = Share::default();
    let Some(first) = next(house, session, pace, 0, Duration::ZERO).await? else {
        return Ok(Body { bytes: Bytes::new(), share });
    };
    if announced == Some(first.len() as u64) {
        return whole(house, limits, first);
    }
    let mut gathered = Gathered::new(&house.memory, announced, limits.max_body);
    let most = announced.unwrap_or(limits.max_body);
    let mut reserved = 0;
    let mut piece = first;
    loop {
        let length = (gathered.len() + piece.len()) as u64;
        if length > limits.max_body {
            return Err(too_large());
        }
        if length > reserved.max(FREE) {
            // Where a body may fill all there is, the buffer has to be forgiven.
            let buffer = most.min(READ_BUFFER).min(limits.replay_memory.saturating_sub(most));
            let buffer = if reserved == 0 { buffer } else { 0 };
            // Grow the share in steps as large as what is there, so that a long chunked body
            // takes a logarithmic number of them.
            let more = length.max(LEAST_SHARE).min(most.saturating_sub(reserved));
            reserve(house, limits, &mut share, more + buffer)?;
            reserved += more;
        }
        gathered.push(piece);
        let spent = house.clock.tick().since(began);
        let Some(next) = next(house, session, pace, gathered.len(), spent).await? else { break };
        piece = next;
    }
    Ok(Body { bytes: gathered.into_bytes(), share })
}

fn announced_length(session: &Session) -> Result<Option<u64>, BodyFault> {
    let Some(value) = session.req_header().headers.get(http::header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or(BodyFault::Refused(
        400,
        ErrorCode::ValidationFailed,
        "the Content-Length of the request is not a number",
    ))
}

fn reserve(house: &House, limits: &Limits, share: &mut Share, bytes: u64) -> Result<(), BodyFault> {
    if share.take(&house.memory, bytes, house.room(limits.replay_memory)) {
        return Ok(());
    }
    let why = "too many large requests are under way; try again in a moment";
    Err(BodyFault::Refused(503, ErrorCode::RateLimited, why))
}

/// What a client is told whose body is too large.
pub(super) const TOO_LARGE: &str = "the request body is larger than limits.max_body allows";

/// What a client is told whose chunks are none.
pub(super) const MALFORMED: &str = "the chunks of the request body are malformed";

/// What a client is told whose body is still coming when the process goes.
const LEAVING: &str = "this proxy is leaving and could not wait for the rest of the request body";

/// What a client is told whose body came below its pace.
pub(super) const TOO_SLOW: &str = "the request body did not arrive in time";

fn too_large() -> BodyFault {
    BodyFault::Refused(413, ErrorCode::PayloadTooLarge, TOO_LARGE)
}
