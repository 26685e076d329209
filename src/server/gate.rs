//! How many connections do we take, in all and from one address?
//!
//! A connection costs memory whether it asks for anything or not, so their number has a limit
//! (`limits.connections`, and never more than half of the descriptors of the process), and so has the
//! number from one address (`limits.connections_per_address`, half of the other where it is not
//! written), so that one host cannot take them all. One too many is closed before a byte of it is read.
//!
//! A TLS handshake happens behind the gate, not before it as Pingora has it: who is still in one holds
//! a connection like everybody else, and has [`HANDSHAKE`] for it. How it failed is told at debug level
//! only, and counted: whoever scans ports would fill the log otherwise. Who is to begin with HTTP/2's
//! preface, or may, has [`QUIET`] for it, which is what HTTP/1 has for its first byte; Pingora would wait
//! without end.
//!
//! An address is an IPv4 address or an IPv6 network of 64 bits, which is what one subscriber has.
//! Nobody is exempt, this machine neither: a proxy before this one carries the connections of many, and
//! whoever puts one there raises the limit with it.

use super::certificate::Certificate;
use super::held_up;
use super::opening::{self, PREFACE};
use super::process;
use super::visitors::Own;
use crate::base::reach::origin_of;
use crate::live::House;
use crate::observe::refused::RefusedAt;
use crate::proxy::Front;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::{ALPN, GetSocketDigest, Ssl, Stream};
use pingora::server::ShutdownWatch;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// How long a connection may stay quiet before it has begun to speak HTTP/2.
const QUIET: Duration = Duration::from_secs(60);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections of all listeners together.
#[derive(Clone, Default)]
pub struct Count(Arc<Counts>);

#[derive(Default)]
struct Counts {
    all: AtomicU32,
    by_origin: Mutex<HashMap<IpAddr, u32>>,
}

/// Stands before the data plane of a listener and counts its connections.
pub struct Gate {
    front: Arc<Front>,
    house: Arc<House>,
    count: Count,
    ceiling: u32,
    door: Door,
    own: Own,
}

/// What is spoken behind a gate.
pub struct Door {
    /// TLS, by this, and what it shows.
    pub tls: Option<(Acceptor, Arc<Certificate>)>,
    /// HTTP/2 without TLS, beside HTTP/1.
    pub h2c: bool,
}

impl Door {
    /// Tells whether what comes is HTTP/1 as it is.
    fn is_plain(&self) -> bool {
        self.tls.is_none() && !self.h2c
    }
}

impl Gate {
    /// Puts a gate before `front`.
    pub fn new(front: Front, house: Arc<House>, count: Count, door: Door, own: Own) -> Self {
        Gate { front: Arc::new(front), house, count, ceiling: process::ceiling(), door, own }
    }

    /// Makes of a new connection what its listener speaks, where that is more than plain HTTP/1, and tells
    /// whether it is HTTP/2; nothing where it does not come to that.
    async fn opened(&self, stream: Stream) -> Option<(Stream, bool)> {
        let mut socket = stream.into_any().downcast::<pingora::protocols::l4::stream::Stream>().ok()?;
        let Some((acceptor, certificate)) = &self.door.tls else {
            let is_http2 = Box::pin(timeout(QUIET, begins_http2(&mut socket))).await.ok()?.ok()?;
            return Some((socket, is_http2));
        };
        let peer = socket.get_socket_digest().and_then(|digest| digest.peer_addr()?.as_inet().copied());
        // On the heap: a handshake is over soon, and the future that serves lasts.
        let handshake = Box::pin(timeout(HANDSHAKE, acceptor.tls_handshake(*socket)));
        match handshake.await {
            Ok(Ok(stream)) if !certificate.takes(&version_of(&stream)) => {
                tracing::debug!("a client of TLS 1.2 where 1.3 is the oldest");
            }
            Ok(Ok(stream)) => {
                let stream: Stream = Box::new(stream);
                let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
                return Some((if is_http2 { opening::within(QUIET, stream) } else { stream }, is_http2));
            }
            Ok(Err(fault)) => tracing::debug!(%fault, "no TLS with a client"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
        if !peer.is_some_and(|peer| self.own.was(peer)) {
            self.house.metrics.refused(RefusedAt::Handshake);
        }
        None
    }
}

fn version_of(stream: &impl Ssl) -> Cow<'static, str> {
    stream.get_ssl_digest().map_or(Cow::Borrowed(""), |digest| digest.version.clone())
}

/// Tells whether a client begins with HTTP/2's preface. It is HTTP/1 with the first byte that is another:
/// a whole request of that may be shorter. What was looked at stays there to be read.
async fn begins_http2(socket: &mut pingora::protocols::l4::stream::Stream) -> io::Result<bool> {
    let mut begun = [0; PREFACE.len()];
    let mut length = 0;
    while length < begun.len() && PREFACE.starts_with(begun.get(..length).unwrap_or_default()) {
        match socket.read(begun.get_mut(length..).unwrap_or_default()).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
    }
    socket.rewind(begun.get(..length).unwrap_or_default());
    Ok(begun == *PREFACE)
}

/// A connection that was let in; leaves when dropped.
struct Inside {
    counts: Arc<Counts>,
    origin: Option<IpAddr>,
}

impl Count {
    /// Returns how many connections there are, whether they ask for something or not.
    pub fn here(&self) -> u32 {
        self.0.all.load(Ordering::Relaxed)
    }

    /// Lets a connection in while there are fewer than `most`, and fewer than `of_one` of its origin.
    fn enter(&self, origin: Option<IpAddr>, most: u32, of_one: u32) -> Option<Inside> {
        let before = self.0.all.fetch_add(1, Ordering::Relaxed);
        let mut inside = Inside { counts: Arc::clone(&self.0), origin: None };
        if before >= most {
            return None;
        }
        if let Some(origin) = origin {
            let mut by_origin = self.0.by_origin.lock();
            let count = by_origin.entry(origin).or_default();
            if *count >= of_one {
                return None;
            }
            *count += 1;
            inside.origin = Some(origin);
        }
        Some(inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        let Some(origin) = self.origin else { return };
        if let Entry::Occupied(mut count) = self.counts.by_origin.lock().entry(origin) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[async_trait]
impl ServerApp for Gate {
    async fn process_new(self: &Arc<Self>, session: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let inside = {
            let limits = self.house.live().plan.limits;
            let digest = session.get_socket_digest();
            let peer = digest
                .as_ref()
                .and_then(|digest| digest.peer_addr()?.as_inet().map(std::net::SocketAddr::ip));
            let most = limits.connections.min(self.ceiling);
            self.count.enter(peer.map(origin_of), most, limits.connections_per_address)
        };
        let Some(inside) = inside else {
            self.house.metrics.refused(RefusedAt::Gate);
            return None;
        };
        let (gate, shutdown) = (Arc::clone(self), shutdown.clone());
        let counted = (inside, self.house.memory.visit());
        // A task of its own: Pingora's has room for a handshake and for HTTP/2, fourteen kilobytes that
        // would last as long as the connection.
        tokio::spawn(async move {
            // Not moved on: an async block keeps the room of what it was given.
            let _counted = &counted;
            let _present = gate.house.parting.attend().await;
            let opened = if gate.door.is_plain() {
                Some((session, false))
            } else {
                Box::pin(gate.opened(session)).await
            };
            let serving = opened.map(|(stream, is_http2)| {
                let house = Arc::clone(&gate.house);
                let stream = if is_http2 { stream } else { held_up::by(house, stream) };
                gate.front.serve(stream, is_http2, &shutdown)
            });
            if let Some(serving) = serving {
                serving.await;
            }
        });
        None
    }

    async fn cleanup(&self) {
        self.front.cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<IpAddr> {
        text.parse().ok().map(origin_of)
    }

    #[test]
    fn one_address_cannot_take_them_all_and_what_leaves_makes_room() {
        let count = Count::default();
        let mut inside: Vec<_> = (0..2).map(|_| count.enter(at("192.0.2.1"), 4, 2)).collect();
        assert!(inside.iter().all(Option::is_some));
        assert!(count.enter(at("192.0.2.1"), 4, 2).is_none());
        inside.extend([count.enter(at("192.0.2.2"), 4, 2), count.enter(None, 4, 2)]);
        assert!(inside.iter().all(Option::is_some));
        assert!(count.enter(at("192.0.2.3"), 4, 2).is_none(), "four are there");
        inside.remove(0);
        assert!(count.enter(at("192.0.2.1"), 4, 2).is_some());
        inside.clear();
        assert_eq!(count.0.all.load(Ordering::Relaxed), 0);
        assert!(count.0.by_origin.lock().is_empty(), "nobody who left is remembered");
    }
}
