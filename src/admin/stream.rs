//! Events as they happen, as server-sent events (WHATWG HTML, section 9.2).
//!
//! `id:` is the event's id, `event:` its kind, `data:` the whole of it as one line of JSON. Events
//! that the listener has missed are told by one of kind `lost`, which has no id. A comment every
//! [`HEARTBEAT`] keeps the connection alive and shows who has gone; who hangs up is noticed at
//! once. When the process is told to leave the stream ends behind the event that says so.
//!
//! Chunked, so that an end that was meant can be told from one that was not; Pingora flushes each
//! chunk. HTTP/1.0 knows no chunks and reads until the connection closes.

use crate::observe::events::{Batch, Listener};
use bytes::Bytes;
use http::{Method, Version};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Time between two comments that say nothing.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a stream begins with: when to come back after it was lost, in milliseconds.
const OPENING: &[u8] = b"retry: 2000\n\n";

/// Tells events until the client or the process leaves; the connection ends with it.
pub(super) async fn tell(session: &mut ServerSession, mut listener: Listener) -> pingora::Result<bool> {
    session.set_keepalive(None);
    let mut head = ResponseHeader::build(200, Some(4))?;
    head.insert_header("content-type", "text/event-stream")?;
    head.insert_header("cache-control", "no-store")?;
    head.insert_header("x-content-type-options", "nosniff")?;
    // For an nginx in between, which would gather it.
    head.insert_header("x-accel-buffering", "no")?;
    if session.req_header().version >= Version::HTTP_11 {
        head.insert_header("transfer-encoding", "chunked")?;
    }
    let is_head = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head)).await?;
    if is_head {
        return Ok(false);
    }
    session.write_response_body(Bytes::from_static(OPENING), false).await?;
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    loop {
        let part = tokio::select! {
            batch = listener.next() => match batch {
                Some(batch) => written(&batch),
                None => break,
            },
            _ = heartbeat.tick() => Bytes::from_static(b": heartbeat\n\n"),
            () = leaves(session) => return Ok(false),
        };
        session.write_response_body(part, false).await?;
    }
    session.write_response_body(Bytes::new(), true).await?;
    Ok(false)
}

/// Completes when the client is gone.
async fn leaves(session: &mut ServerSession) {
    if session.read_body_or_idle(true).await.is_ok() {
        // It said more, which is no farewell, but Pingora has nothing further to tell us.
        std::future::pending::<()>().await;
    }
}

fn written(batch: &Batch) -> Bytes {
    let mut text = String::with_capacity(batch.told.len() * 320);
    if batch.lost > 0 {
        let lost = batch.lost;
        // Writing into a string does not fail; here and below.
        let _ = write!(text, "event: lost\ndata: {{\"event\":\"lost\",\"lost\":{lost}}}\n\n");
    }
    for told in &batch.told {
        let _ = write!(text, "id: {}\nevent: {}\ndata: {}\n\n", told.id, told.name, told.json);
    }
    Bytes::from(text)
}
