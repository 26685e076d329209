//! How do the bytes of an answer go to the client?
//!
//! Over HTTP/1 or HTTP/2, by name: Pingora's session writes to subrequests and to servers of others as well,
//! and whatever waits for it carries the room of the largest of them, 224 bytes for each open stream. Nobody
//! comes here by those ways.

use bytes::Bytes;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::ServerSession as Session;

/// The client can no longer be written to.
pub(super) struct Unwritable;

impl From<Box<pingora::Error>> for Unwritable {
    fn from(_: Box<pingora::Error>) -> Self {
        Unwritable
    }
}

/// Sends a head and what of the body goes with it.
pub(super) async fn begin(session: &mut Session, tasks: Vec<HttpTask>) -> Result<(), Unwritable> {
    match session {
        Session::H1(session) => session.response_duplex_vec(tasks).await?,
        Session::H2(session) => session.response_duplex_vec(tasks).await?,
        Session::Subrequest(_) | Session::Custom(_) => return Err(Unwritable),
    };
    Ok(())
}

/// Sends a piece of a body behind its head. An empty piece is none: in chunks it would be the end.
pub(super) async fn write(session: &mut Session, piece: Bytes) -> Result<(), Unwritable> {
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
