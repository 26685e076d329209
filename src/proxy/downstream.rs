//! How do the bytes of an answer go to the client?
//!
//! Over HTTP/1 or HTTP/2, by name: Pingora's session writes to subrequests and to servers of others as well,
//! and whatever waits for it carries the room of the largest of them, 224 bytes for each open stream. Nobody
//! comes here by those ways.

use crate::layers::corked::join_next;
use bytes::Bytes;
use http::header;
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::ServerSession as Session;
use pingora::protocols::http::v1::server::HttpSession;

/// The client can no longer be written to.
pub(super) struct Unwritable;

impl From<Box<pingora::Error>> for Unwritable {
    fn from(_: Box<pingora::Error>) -> Self {
        Unwritable
    }
}

/// Sends a head and what of the body goes with it, in one write.
pub(super) async fn begin(
    session: &mut Session,
    head: Box<ResponseHeader>,
    pieces: &[Bytes],
    is_whole: bool,
) -> pingora::Result<()> {
    match session {
        Session::H1(session) => {
            let written = begin_http1(session, head, pieces, is_whole).await;
            join_next(session.stream(), false);
            written.map_err(pingora::Error::into_down)
        }
        // On the heap: HTTP/1 has no use for the room.
        Session::H2(session) => {
            Box::pin(session.response_duplex_vec(tasks(head, pieces, is_whole))).await.map(drop)
        }
        Session::Subrequest(_) | Session::Custom(_) => {
            Err(pingora::Error::explain(ErrorType::InternalError, "no client comes this way"))
        }
    }
}

/// What HTTP/2 sends at once, with the end of the answer in the last of it.
fn tasks(head: Box<ResponseHeader>, pieces: &[Bytes], is_whole: bool) -> Vec<HttpTask> {
    let last = pieces.len().saturating_sub(1);
    let mut tasks = Vec::with_capacity(pieces.len() + 1);
    tasks.push(HttpTask::Header(head, is_whole && pieces.is_empty()));
    let pieces = pieces.iter().enumerate();
    tasks.extend(pieces.map(|(at, piece)| HttpTask::Body(Some(piece.clone()), is_whole && at == last)));
    tasks
}

/// Piece by piece: what Pingora takes all at once it gathers first, which is a copy of each answer.
async fn begin_http1(
    session: &mut HttpSession,
    head: Box<ResponseHeader>,
    pieces: &[Bytes],
    is_whole: bool,
) -> pingora::Result<()> {
    let last = pieces.iter().rposition(|piece| !piece.is_empty());
    // The head of a stream is flushed by itself, and the first events would go out in a second write.
    let is_in_chunks = head.headers.contains_key(header::TRANSFER_ENCODING);
    join_next(session.stream(), is_in_chunks && last.is_some());
    session.write_response_header(head).await?;
    for (at, piece) in pieces.iter().enumerate() {
        // An empty piece is none: in chunks it would be the end.
        if !piece.is_empty() {
            join_next(session.stream(), Some(at) < last);
            session.write_body(piece).await?;
        }
    }
    if is_whole {
        session.finish_body().await?;
    }
    Ok(())
}

/// Lets the fields of the request go, which nobody reads any more: an open stream need not hold them.
pub(super) fn forget_fields(session: &mut Session) {
    let head = session.req_header_mut();
    let (mut bare, ()) = http::Request::new(()).into_parts();
    bare.method = head.method.clone();
    bare.uri = head.uri.clone();
    bare.version = head.version;
    *head = RequestHeader::from(bare);
}

/// Sends a piece of a body behind its head. An empty piece is none: in chunks it would be the end.
#[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while a stream is open")]
pub(super) fn write(session: &mut Session, piece: Bytes) -> impl Future<Output = Result<(), Unwritable>> {
    async move {
        match session {
            _ if piece.is_empty() => {}
            Session::H1(session) => {
                session.write_body(&piece).await?;
            }
            Session::H2(session) => session.write_body(piece, false).await?,
            Session::Subrequest(_) | Session::Custom(_) => return Err(Unwritable),
        }
        Ok(())
    }
}

/// Ends a body.
pub(super) async fn end(session: &mut Session) -> Result<(), Unwritable> {
    match session {
        Session::H1(session) => {
            session.finish_body().await?;
        }
        Session::H2(session) => session.write_body(Bytes::new(), true).await?,
        Session::Subrequest(_) | Session::Custom(_) => return Err(Unwritable),
    }
    Ok(())
}
