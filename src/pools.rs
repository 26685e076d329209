//! Which connections to providers do we keep?
//!
//! Pingora opens them all. Those to peers that speak HTTP/1 only wait in [`kept`], those that may
//! speak HTTP/2 in Pingora's own pool, which shares one among many requests. A kept connection is taken
//! by a call of its own, because that is what nearly every request does, and Pingora's way to a *new*
//! connection (proxies, TLS, happy paths of five protocols) is a future of nine kilobytes that would
//! otherwise sit in every request, and be copied each time one async function hands it to the next.
//!
//! Between a new HTTP/1 connection and its session lies [`watched`]: one write for a small request, and
//! an ear for answers that come before the end of an upload.

mod kept;
mod watched;

use kept::Kept;
use pingora::connectors::http::{Connector, v1};
use pingora::protocols::http::client::HttpSession as Upstream;
use pingora::protocols::http::v1::client::HttpSession as Upstream1;
use pingora::upstreams::peer::{HttpPeer, Peer};
use std::time::Duration;

/// How long a connection waits where its peer does not say.
const IDLE: Duration = Duration::from_secs(60);

/// The pools of one process.
pub struct Pools {
    kept: Kept,
    h1: v1::Connector,
    any: Connector,
}

impl Default for Pools {
    fn default() -> Self {
        Pools { kept: Kept::default(), h1: v1::Connector::new(None), any: Connector::new(None) }
    }
}

impl Pools {
    /// Takes a kept HTTP/1 connection, if there is one.
    #[must_use]
    pub fn kept(&self, peer: &HttpPeer) -> Option<Upstream> {
        if !is_h1_only(peer) {
            return None;
        }
        let stream = self.kept.take(peer.reuse_hash())?;
        Some(Upstream::H1(Upstream1::new_with_options(stream, peer)))
    }

    /// Opens a connection (or a stream on a kept HTTP/2 one); tells whether it was kept.
    ///
    /// # Errors
    /// Pingora's, with what went wrong in its type.
    pub async fn open(&self, peer: &HttpPeer) -> pingora::Result<(Upstream, bool)> {
        if is_h1_only(peer) {
            let (session, is_reused) = self.h1.get_http_session(peer).await?;
            return Ok((wrapped(Upstream::H1(session), peer, is_reused), is_reused));
        }
        let (session, is_reused) = self.any.get_http_session(peer).await?;
        Ok((wrapped(session, peer, is_reused), is_reused))
    }

    /// Gives a connection back whose answer was read to its end.
    pub async fn give_back(&self, mut session: Upstream, peer: &HttpPeer, idle: Option<Duration>) {
        if session.as_http1().is_some_and(|session| watched::is_spoilt(session.stream())) {
            session.shutdown().await;
            return;
        }
        match session {
            Upstream::H1(mut session) if is_h1_only(peer) => {
                session.respect_keepalive();
                if let Some(stream) = session.reuse().await {
                    self.kept.put(peer.reuse_hash(), stream, idle.unwrap_or(IDLE));
                }
            }
            // On the heap: four kilobytes that would sit in every request for the sake of HTTP/2.
            other => Box::pin(self.any.release_http_session(other, peer, idle)).await,
        }
    }
}

/// Lets head and body of a request wait for each other, until [`let_go`]. HTTP/2 frames them anyhow.
pub fn hold_back(session: &Upstream) {
    if let Upstream::H1(session) = session {
        watched::hold_back(session.stream());
    }
}

/// Lets the next flush send what waits.
pub fn let_go(session: &Upstream) {
    if let Upstream::H1(session) = session {
        watched::let_go(session.stream());
    }
}

/// Watches a new HTTP/1 connection; a kept one has been since it was new.
fn wrapped(session: Upstream, peer: &HttpPeer, is_reused: bool) -> Upstream {
    match session {
        Upstream::H1(session) if !is_reused => {
            let stream = watched::watch(session.into_inner());
            Upstream::H1(Upstream1::new_with_options(stream, peer))
        }
        other => other,
    }
}

fn is_h1_only(peer: &HttpPeer) -> bool {
    peer.get_peer_options().is_none_or(|options| options.alpn.get_max_http_version() == 1)
}
