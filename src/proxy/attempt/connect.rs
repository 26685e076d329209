//! The way to a provider: a kept connection or a new one.
//!
//! Kept ones serve whatever address they lead to. A resend, of a rescue as well, gets a connection of
//! its own, since the pool may hold more that died with the first. A new one has the provider's addresses race; a route
//! may have a connect limit of its own.

use super::{Aim, End, Fault, Opening};
use crate::base::outcome::Outcome;
use crate::classify::{self, TransportFault};
use crate::exchange::Cause;
use crate::live::NoConnection;
use crate::observe::meter::WarmResult;
use crate::proxy::patience::Limit;
use pingora::ErrorType;
use pingora::protocols::http::client::HttpSession as Upstream;
use std::time::Duration;

impl Opening<'_, '_> {
    /// Returns a connection and whether it was kept.
    pub(super) async fn connect(&mut self, cause: Cause) -> Result<(Box<Upstream>, bool), End> {
        let Aim { house, timeouts, began, .. } = self.aim;
        let slot = self.aim.slot;
        if cause != Cause::Resend
            && let Some(taken) = house.pools.kept(slot.way())
        {
            if taken.was_warm {
                slot.meter.warm(WarmResult::Used);
            }
            return Ok((taken.session, true));
        }
        let longest = timeouts.connect.saturating_mul(2) + Duration::from_secs(3);
        let hard = Limit::hard(began.after(longest), Outcome::Connect);
        let may_repeat =
            |error: &pingora::Error| classify::transport(connect_fault(error)) == Outcome::Connect;
        // On the heap: see `pools`.
        let mut connecting = Box::pin(slot.connect(&house.pools, &house.clock, timeouts.connect, may_repeat));
        let error = match self.wait(&hard, connecting.as_mut()).await? {
            Ok(upstream) => return Ok((upstream, false)),
            Err(NoConnection::Dns) => {
                return Err(End::Failed(Fault::plain(classify::transport(TransportFault::Dns))));
            }
            Err(NoConnection::Refused(error)) => error,
        };
        tracing::debug!(target = %slot.target.id, fault = error.etype().as_str(), "no connection");
        let transport = connect_fault(&error);
        let mut fault = Fault::plain(classify::transport(transport));
        fault.failure.timed_out = transport == TransportFault::ConnectTimeout;
        Err(End::Failed(fault))
    }
}

/// Tells what kept a connection from standing.
///
/// A TLS failure rests the endpoint for a minute, for somebody must mend it. A connection that is
/// lost on the way there is none: so ends every handshake with a provider that is being restarted.
/// Pingora's `HandshakeError` is HTTP/2's, which fails for no other reason.
pub(in crate::proxy) fn connect_fault(error: &pingora::Error) -> TransportFault {
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
