//! Which connections to providers do we keep?
//!
//! Pingora opens them all and speaks both protocols on them; which wait for the next request, and
//! whose, is said here. A [`Way`] is how a server is reached but for its address: connections of one
//! way serve each other's requests, whichever of a name's addresses they lead to. [`kept`] holds
//! them: HTTP/1 ones for one request at a time, HTTP/2 ones for up to [`STREAMS`] side by side.
//! Which protocol is spoken is known when a connection stands (ALPN), not before.
//!
//! A kept connection is taken by a call of its own, because that is what nearly every request does,
//! and Pingora's way to a *new* one (proxies, TLS, happy paths of five protocols) is a future of nine
//! kilobytes that would otherwise sit in every request, and be copied each time one async function
//! hands it to the next.
//!
//! A new one may have several addresses to choose from: [`eyeballs`] says in which order and how they
//! race. Between a new HTTP/1 connection and its session lies [`watched`]: one write for a small
//! request, and an ear for answers that come before the end of an upload. TLS sessions are resumed:
//! a [`Transport`] keeps the tickets of all servers that are judged by the same authorities.

mod eyeballs;
mod kept;
mod watched;

pub use eyeballs::News;

use eyeballs::Dial;
use kept::Kept;
use parking_lot::Mutex;
use pingora::connectors::http::v2::{H2HandshakeSettings, handshake};
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::ALPN;
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession as Upstream;
use pingora::protocols::http::v1::client::HttpSession as Upstream1;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{ErrorType, OkOrErr};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Most streams on one HTTP/2 connection: what its loss takes with it, and a third of what the large
/// providers allow (100 and more).
pub const STREAMS: usize = 32;

/// What a provider may send on one stream before we have passed it on. [`STREAMS`] of them are the
/// connection's own 8 MiB (Pingora's default): clients that stopped reading, however many, never
/// stop the others on their connection.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The pools of one process.
#[derive(Default)]
pub struct Pools {
    kept: Kept,
}

/// What opens connections to servers that are judged by the same authorities, and resumes their TLS
/// sessions.
pub struct Transport {
    serial: u64,
    connector: TransportConnector,
}

/// How a server is reached, but for its address.
#[derive(Clone)]
pub struct Way {
    key: u64,
    /// Everything but the address, which is one of nobody where the host is a name.
    shape: Arc<HttpPeer>,
    transport: Arc<Transport>,
}

/// A kept connection, or a stream on one.
pub struct Taken {
    /// To ask on. On the heap: it is half a kilobyte that goes through many hands.
    pub session: Box<Upstream>,
    /// Whether it was opened ahead and nobody has asked on it yet.
    pub was_warm: bool,
}

/// Where a new connection may lead, and how long it may take.
pub struct Approach<'a> {
    /// The addresses, the one to try first in front; without one it is the way's own.
    pub addresses: &'a [SocketAddr],
    /// Until the connection stands, TLS included.
    pub connect: Duration,
    /// What became of the addresses, where there are several.
    pub news: &'a Arc<Mutex<News>>,
}

impl Transport {
    /// Makes one that trusts the authorities of the system.
    #[must_use]
    pub fn of_system() -> Arc<Transport> {
        Transport::new(TransportConnector::new(None))
    }

    /// Makes one that trusts the authorities of a PEM file, which the caller has found to hold
    /// certificates and nothing else; nothing where it has changed since.
    #[must_use]
    pub fn of_authorities(path: &Path) -> Option<Arc<Transport>> {
        let path = path.to_str()?.to_owned();
        let make = || {
            let mut options = ConnectorOptions::new(0);
            options.ca_file = Some(path);
            TransportConnector::new(Some(options))
        };
        // Pingora 0.9.1 unwraps what it reads of the file.
        std::panic::catch_unwind(make).ok().map(Transport::new)
    }

    fn new(connector: TransportConnector) -> Arc<Transport> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Transport { serial: NEXT.fetch_add(1, Ordering::Relaxed), connector })
    }
}

impl Way {
    /// Makes the way to a server. `shape` holds its address, or that of nobody.
    #[must_use]
    pub fn new(shape: HttpPeer, transport: &Arc<Transport>) -> Way {
        let mut hasher = DefaultHasher::new();
        shape.reuse_hash().hash(&mut hasher);
        (shape.options.alpn.get_min_http_version(), shape.options.alpn.get_max_http_version())
            .hash(&mut hasher);
        transport.serial.hash(&mut hasher);
        Way { key: hasher.finish(), shape: Arc::new(shape), transport: Arc::clone(transport) }
    }

    /// Names the pool: equal for ways whose connections serve each other's requests.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    fn peer(&self, approach: &Approach<'_>) -> HttpPeer {
        let mut peer = (*self.shape).clone();
        peer.options.connection_timeout = Some(approach.connect);
        peer.options.total_connection_timeout = Some(approach.connect);
        if let Some(first) = approach.addresses.first() {
            peer._address = (*first).into();
        }
        if approach.addresses.len() > 1 {
            let dial = Dial::new(approach.addresses, Arc::clone(approach.news));
            peer.options.custom_l4 = Some(Arc::new(dial));
        }
        peer
    }

    fn idle(&self) -> Duration {
        self.shape.options.idle_timeout.unwrap_or(Duration::from_secs(60))
    }
}

impl Pools {
    /// Takes a kept connection, if there is one.
    #[must_use]
    pub fn kept(&self, way: &Way) -> Option<Taken> {
        if let Some((session, was_warm)) = self.kept.stream(way.key) {
            return Some(Taken { session: Box::new(Upstream::H2(session)), was_warm });
        }
        let (stream, was_warm) = self.kept.take(way.key)?;
        let session = Upstream::H1(Upstream1::new_with_options(stream, &*way.shape));
        Some(Taken { session: Box::new(session), was_warm })
    }

    /// Opens a connection. One of HTTP/2 serves others from now on.
    ///
    /// # Errors
    /// Pingora's, with what went wrong in its type.
    pub async fn open(&self, way: &Way, approach: &Approach<'_>) -> pingora::Result<Box<Upstream>> {
        let peer = way.peer(approach);
        let stream = way.transport.connector.new_stream(&peer).await?;
        if !speaks_http2(&stream, &peer) {
            let session = Upstream1::new_with_options(watched::watch(stream), &peer);
            return Ok(Box::new(Upstream::H1(session)));
        }
        let connection = handshake(stream, settings()).await?;
        let session = connection.spawn_stream().await?;
        let session = session.or_err(ErrorType::H2Error, "a new connection without streams")?;
        self.kept.share(way.key, connection, way.idle(), false);
        Ok(Box::new(Upstream::H2(session)))
    }

    /// Opens a connection that nobody needs yet.
    ///
    /// # Errors
    /// As for [`Pools::open`].
    pub async fn open_ahead(&self, way: &Way, approach: &Approach<'_>) -> pingora::Result<()> {
        let peer = way.peer(approach);
        let stream = way.transport.connector.new_stream(&peer).await?;
        if speaks_http2(&stream, &peer) {
            let connection = handshake(stream, settings()).await?;
            self.kept.share(way.key, connection, way.idle(), true);
        } else {
            self.kept.put(way.key, watched::watch(stream), way.idle(), true);
        }
        Ok(())
    }

    /// Counts the connections that could take a request at once, and will for a few seconds more.
    #[must_use]
    pub fn ready(&self, way: &Way) -> usize {
        self.kept.ready(way.key)
    }

    /// Gives a connection back whose answer was read to its end.
    pub async fn give_back(&self, mut session: Box<Upstream>, way: &Way) {
        if session.as_http1().is_some_and(|session| watched::is_spoilt(session.stream())) {
            session.shutdown().await;
            return;
        }
        match *session {
            Upstream::H1(mut session) => {
                session.respect_keepalive();
                if let Some(stream) = session.reuse().await {
                    self.kept.put(way.key, stream, way.idle(), false);
                }
            }
            // The connection is kept as long as it lives; the stream ends with the session.
            Upstream::H2(_) | Upstream::Custom(()) => {}
        }
    }
}

/// Parts with a connection on which something went wrong: on one of HTTP/2 nobody else begins
/// anything, since what is silent or breaks for one may do so for all; who is on it goes on. Tells
/// whether nobody had parted with it before.
pub async fn discard(mut session: Box<Upstream>) -> bool {
    let is_news = match &*session {
        Upstream::H2(session) => !session.conn.is_shutting_down(),
        Upstream::H1(_) | Upstream::Custom(()) => true,
    };
    if let Upstream::H2(session) = &*session {
        session.conn.mark_shutdown();
    }
    session.shutdown().await;
    is_news
}

/// Parts with an answer that nobody waits for any more. One of HTTP/2 gives up its stream only.
pub async fn break_off(mut session: Box<Upstream>) {
    session.shutdown().await;
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

/// Tells whether anything of an answer came back. HTTP/2 says by itself what was processed.
pub fn was_heard(session: &Upstream) -> bool {
    matches!(session, Upstream::H1(session) if watched::was_heard(session.stream()))
}

/// Tells what was agreed on. Without TLS nothing is: HTTP/2 is spoken only where it alone may be.
fn speaks_http2(stream: &Stream, peer: &HttpPeer) -> bool {
    match stream.selected_alpn_proto() {
        Some(ALPN::H2) => true,
        Some(_) => false,
        None => !peer.tls() && peer.options.alpn.get_min_http_version() == 2,
    }
}

fn settings() -> H2HandshakeSettings {
    let mut settings = H2HandshakeSettings::new();
    settings.max_streams = STREAMS;
    settings.stream_window_size = Some(STREAM_WINDOW);
    settings
}
