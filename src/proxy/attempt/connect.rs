//! The way to a provider: its address, a kept connection or a new one.
//!
//! A refused address is left for another of the same host, once; a resend gets a connection of its
//! own, since the pool may hold more that died with the first.

use super::{Aim, End, Fault, Opening};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::classify::{self, TransportFault};
use crate::exchange::Cause;
use crate::proxy::patience::Limit;
use pingora::ErrorType;
use pingora::protocols::http::client::HttpSession as Upstream;
use pingora::upstreams::peer::{HttpPeer, Peer};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

impl Opening<'_, '_> {
    pub(super) async fn connect(&mut self, cause: Cause) -> Result<(Arc<HttpPeer>, Upstream, bool), End> {
        let Aim { house, timeouts, began, .. } = self.aim;
        let slot = self.aim.slot;
        let longest = timeouts.connect.saturating_mul(2) + Duration::from_secs(3);
        let hard = Limit::hard(began.after(longest), Outcome::Connect);
        let mut peer = if let Some(peer) = slot.ready_peer() {
            Arc::clone(peer)
        } else {
            let picking = pin!(slot.addresses.pick(*began));
            let picked = self.wait(hard, picking).await?;
            match picked {
                Ok(address) => slot.peer_at(address),
                Err(_) => return Err(End::Failed(Fault::plain(classify::transport(TransportFault::Dns)))),
            }
        };
        self.fit(&mut peer, cause);
        let first = self.get_session(&peer, hard, cause).await?;
        let error = match first {
            Ok((upstream, is_reused)) => return Ok((peer, upstream, is_reused)),
            Err(error) => error,
        };
        let transport = connect_fault(&error);
        let outcome = classify::transport(transport);
        let other = peer_address(&peer).and_then(|a| slot.addresses.refused(a, house.clock.tick()));
        if outcome == Outcome::Connect
            && let Some(address) = other
        {
            peer = slot.peer_at(address);
            self.fit(&mut peer, cause);
            if let Ok((upstream, is_reused)) = self.get_session(&peer, hard, cause).await? {
                return Ok((peer, upstream, is_reused));
            }
        }
        tracing::debug!(target = %slot.target.id, fault = error.etype().as_str(), "no connection");
        let mut fault = Fault::plain(outcome);
        fault.failure.timed_out = transport == TransportFault::ConnectTimeout;
        Err(End::Failed(fault))
    }

    /// Fits a peer to this attempt: a route may have a connect limit of its own, and a resend wants
    /// a connection of its own (the pool may hold more that died with the first).
    fn fit(&self, peer: &mut Arc<HttpPeer>, cause: Cause) {
        let connect = Some(self.aim.timeouts.connect);
        if cause != Cause::Resend && peer.options.total_connection_timeout == connect {
            return;
        }
        let own = Arc::make_mut(peer);
        own.options.connection_timeout = connect;
        own.options.total_connection_timeout = connect;
        if cause == Cause::Resend {
            own.group_key = fresh_key(self.aim.began);
        }
    }

    async fn get_session(
        &mut self,
        peer: &HttpPeer,
        limit: Limit,
        cause: Cause,
    ) -> Result<pingora::Result<(Upstream, bool)>, End> {
        let house = self.aim.house;
        if cause != Cause::Resend
            && let Some(kept) = house.pools.kept(peer)
        {
            return Ok(Ok((kept, true)));
        }
        // On the heap: see `pools`.
        let mut opening = Box::pin(house.pools.open(peer));
        Ok(self.wait(limit, opening.as_mut()).await?)
    }
}

/// A TLS failure rests the endpoint for a minute, for somebody must mend it. A connection that is
/// lost on the way there is none: so ends every handshake with a provider that is being restarted.
/// Pingora's `HandshakeError` is HTTP/2's, which fails for no other reason.
fn connect_fault(error: &pingora::Error) -> TransportFault {
    match error.etype() {
        ErrorType::TLSHandshakeFailure if is_lost_connection(error) => TransportFault::Connect,
        ErrorType::TLSWantX509Lookup | ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => {
            TransportFault::Tls
        }
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => TransportFault::ConnectTimeout,
        _ => TransportFault::Connect,
    }
}

/// Tells whether a handshake ended with its connection. Pingora 0.9.1 keeps the cause of a failed TLS
/// handshake as text only: that of tokio-rustls for an end, and Linux's numbers for EPIPE,
/// ECONNABORTED and ECONNRESET.
fn is_lost_connection(error: &pingora::Error) -> bool {
    let text = error.to_string();
    ["tls handshake eof", "os error 32)", "os error 103)", "os error 104)"]
        .iter()
        .any(|word| text.contains(word))
}

fn peer_address(peer: &HttpPeer) -> Option<std::net::SocketAddr> {
    peer.address().as_inet().copied()
}

/// A pool key that nothing else has.
fn fresh_key(now: Tick) -> u64 {
    now.0 | (1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::{Error, ErrorType};

    #[test]
    fn only_tls_itself_is_a_tls_fault() {
        let connect = ErrorType::TLSHandshakeFailure;
        for (etype, context, want) in [
            (connect.clone(), "TLS connect() failed: invalid peer certificate: Expired", TransportFault::Tls),
            (
                connect.clone(),
                "TLS connect() failed: received fatal alert: AccessDenied",
                TransportFault::Tls,
            ),
            (connect.clone(), "TLS connect() failed: tls handshake eof, SNI: x", TransportFault::Connect),
            (connect, "TLS connect() failed: Broken pipe (os error 32), SNI: x", TransportFault::Connect),
            (ErrorType::InvalidCert, "", TransportFault::Tls),
            // HTTP/2's, here over cleartext: the process behind the port was killed in between.
            (ErrorType::HandshakeError, "during H2 handshake", TransportFault::Connect),
            (ErrorType::ConnectRefused, "", TransportFault::Connect),
            (ErrorType::TLSHandshakeTimedout, "", TransportFault::ConnectTimeout),
        ] {
            let error = Error::explain(etype, context);
            assert_eq!(connect_fault(&error), want, "{error}");
        }
    }
}
