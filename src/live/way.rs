//! How is a target's server reached?
//!
//! By a [`Way`] of the pools, made once per target and generation: protocol, trust, limits and socket
//! options. Targets of one server have equal ways, and so share its connections, whatever their
//! credentials. The address comes last: [`Slot::connect`] tries those behind the name against each
//! other, and notes which failed.
//!
//! A server whose certificate an authority of the operator's own stands for gets a transport of its
//! own, kept from generation to generation while the file stays the same: Pingora makes a new TLS
//! configuration for each connection of a peer with authorities, and no session is ever resumed.
//!
//! **Dead links.** A connection that is silent for [`KEEPALIVE_IDLE`] is probed, and is closed after
//! [`USER_TIMEOUT`] without a word from the other machine: later than a stall moves a stream on, sooner
//! than the last target's stall would tell. What we sent may stay unacknowledged as long.

use super::{LiveProblem, Slot};
use crate::base::time::Tick;
use crate::clock::Clock;
use crate::config::plan::{Endpoint, HttpVersions};
use crate::pem;
use crate::pools::{Approach, News, Pools, Transport, Way};
use crate::resolve::{Addresses, DnsFault, Order};
use parking_lot::Mutex;
use pingora::protocols::ALPN;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::http::client::HttpSession as Upstream;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::WrappedX509;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection to a provider is kept idle; below the idle limits of the large providers
/// (60 s and more), so that we close first and seldom meet a dead one (failure table, row 19).
const UPSTREAM_IDLE: Duration = Duration::from_secs(30);
/// Longest stall of an upload.
const UPSTREAM_WRITE: Duration = Duration::from_secs(60);
/// How long a connection is silent before the other machine is asked whether it is there. A model
/// that thinks is silent for longer; the answer comes from its machine's kernel.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// How often it is asked then.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long it may say nothing.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything of a peer but its address.
#[derive(Clone)]
pub(super) struct PeerTemplate {
    pub(super) host: Arc<str>,
    pub(super) is_tls: bool,
    pub(super) versions: HttpVersions,
    pub(super) connect: Duration,
    pub(super) verify: bool,
    pub(super) trust: Trust,
}

/// Whom a server's certificate must come from.
#[derive(Clone)]
pub(super) struct Trust {
    transport: Arc<Transport>,
    /// For peers that another transport connects; absent where the system's authorities count.
    ca: Option<Arc<[WrappedX509]>>,
    /// Whether the transport trusts these authorities by itself.
    is_own: bool,
}

/// The transports of the process: one for the system's authorities, one for each file.
pub(super) struct Trusts {
    system: Arc<Transport>,
    files: HashMap<PathBuf, (Vec<u8>, Trust)>,
}

impl Default for Trusts {
    fn default() -> Self {
        Trusts { system: Transport::of_system(), files: HashMap::new() }
    }
}

impl Trusts {
    /// Returns the trust for an endpoint: that of the last generation where nothing has changed.
    pub(super) fn of(&mut self, endpoint: &Endpoint) -> Result<Trust, LiveProblem> {
        let Some(path) = &endpoint.ca else {
            return Ok(Trust { transport: Arc::clone(&self.system), ca: None, is_own: false });
        };
        let problem = |reason: String| LiveProblem::Ca { endpoint: Arc::clone(&endpoint.name), reason };
        let pem = pem::read(path).map_err(problem)?;
        if let Some((_, known)) = self.files.get(path).filter(|(read, _)| *read == pem) {
            return Ok(known.clone());
        }
        let ca = authorities(&pem).map_err(|reason| problem(reason.to_owned()))?;
        let own = own_transport(path, &pem);
        let is_own = own.is_some();
        let transport = own.unwrap_or_else(|| Arc::clone(&self.system));
        let trust = Trust { transport, ca: Some(ca), is_own };
        self.files.insert(path.clone(), (pem, trust.clone()));
        Ok(trust)
    }

    /// Forgets the files that no endpoint names.
    pub(super) fn keep(&mut self, endpoints: &[Endpoint]) {
        self.files.retain(|path, _| endpoints.iter().any(|endpoint| endpoint.ca.as_ref() == Some(path)));
    }
}

/// Reads the certificate authorities of a file, each checked to be one, because Pingora panics on a
/// certificate that does not parse.
fn authorities(pem: &[u8]) -> Result<Arc<[WrappedX509]>, &'static str> {
    let wrapped = |certificate: &CertificateDer<'_>| {
        WrappedX509::new(certificate.to_vec(), pingora::utils::tls::parse_x509)
    };
    pem::authorities(pem).map(|found| found.iter().map(wrapped).collect())
}

/// Makes a transport for the authorities of a file. Pingora takes it from the file's path, and only
/// where there is nothing else in it.
fn own_transport(path: &Path, pem: &[u8]) -> Option<Arc<Transport>> {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem);
    let holds_certificates_only =
        sections.all(|section| section.is_ok_and(|(kind, _)| kind == SectionKind::Certificate));
    if holds_certificates_only { Transport::of_authorities(path) } else { None }
}

impl PeerTemplate {
    /// Makes the peer at an address, for whoever connects by other means than the pools.
    pub(super) fn at(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.is_tls, self.host.to_string());
        let options = &mut peer.options;
        options.connection_timeout = Some(self.connect);
        options.total_connection_timeout = Some(self.connect);
        options.idle_timeout = Some(UPSTREAM_IDLE);
        options.write_timeout = Some(UPSTREAM_WRITE);
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: KEEPALIVE_IDLE,
            interval: KEEPALIVE_EVERY,
            count: 3,
            #[cfg(target_os = "linux")]
            user_timeout: USER_TIMEOUT,
        });
        options.verify_cert = self.verify;
        options.verify_hostname = self.verify;
        options.ca.clone_from(&self.trust.ca);
        options.alpn = match (self.versions, self.is_tls) {
            (HttpVersions::Auto, true) => ALPN::H2H1,
            (HttpVersions::Auto, false) | (HttpVersions::One, _) => ALPN::H1,
            (HttpVersions::Two, _) => ALPN::H2,
        };
        peer
    }

    /// Makes the way to whoever these addresses belong to.
    pub(super) fn way(&self, addresses: &Addresses) -> Way {
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, addresses.port()));
        let mut shape = self.at(addresses.literal().unwrap_or(nobody));
        if self.trust.is_own {
            shape.options.ca = None;
        }
        // What was connected to under another word of the file (`deny_private_ips`) is not used any more.
        shape.group_key = addresses.reach() as u64;
        Way::new(shape, &self.trust.transport)
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NoConnection {
    /// The name could not be resolved.
    Dns,
    /// Nobody took it.
    Refused(Box<pingora::Error>),
}

impl From<DnsFault> for NoConnection {
    fn from(_: DnsFault) -> Self {
        NoConnection::Dns
    }
}

impl Slot {
    /// Returns the way to its server.
    #[must_use]
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Returns the peer for an address.
    #[must_use]
    pub fn peer_at(&self, address: SocketAddr) -> Arc<HttpPeer> {
        Arc::new(self.template.at(address))
    }

    /// Returns the peer where the address is literal and needs no look-up.
    #[must_use]
    pub fn ready_peer(&self) -> Option<&Arc<HttpPeer>> {
        self.peer.as_ref()
    }

    /// Opens a connection within `limit`. Where one stood and its TLS failed for lack of an answer,
    /// the other addresses are tried once more, as long again.
    ///
    /// # Errors
    /// Where there is no address, or none of them led to a connection.
    pub async fn connect(
        &self,
        pools: &Pools,
        clock: &Clock,
        limit: Duration,
        may_repeat: impl Fn(&pingora::Error) -> bool,
    ) -> Result<Box<Upstream>, NoConnection> {
        let mut order = self.addresses.candidates(clock.tick()).await?;
        let news = Arc::default();
        let approach = Approach { addresses: &order, connect: limit, news: &news };
        let error = match pools.open(&self.way, &approach).await {
            Ok(session) => {
                self.learn(&news, None, clock.tick());
                return Ok(session);
            }
            Err(error) => error,
        };
        let lost = self.learn(&news, order.first().copied(), clock.tick());
        order.retain(|address| !lost.contains(address));
        if order.is_empty() || !may_repeat(&error) {
            return Err(NoConnection::Refused(error));
        }
        let news = Arc::default();
        let approach = Approach { addresses: &order, connect: limit, news: &news };
        let opened = pools.open(&self.way, &approach).await;
        let alone = if opened.is_ok() { None } else { order.first().copied() };
        self.learn(&news, alone, clock.tick());
        // What happened first tells more than what came of the rest.
        opened.map_err(|_| NoConnection::Refused(error))
    }

    /// Opens a connection that nobody needs yet.
    ///
    /// # Errors
    /// As for [`Slot::connect`].
    pub(super) async fn connect_ahead(&self, pools: &Pools, clock: &Clock) -> Result<(), NoConnection> {
        let order = self.addresses.candidates(clock.tick()).await?;
        let news = Arc::default();
        let approach = Approach { addresses: &order, connect: self.template.connect, news: &news };
        let opened = pools.open_ahead(&self.way, &approach).await;
        if opened.is_ok() {
            self.learn(&news, None, clock.tick());
        }
        opened.map_err(NoConnection::Refused)
    }

    /// Leaves alone for a while what failed: all that were tried, where it all came to nothing, and
    /// then `alone`, which was the only one, where nobody raced.
    fn learn(&self, news: &Arc<Mutex<News>>, alone: Option<SocketAddr>, now: Tick) -> Order {
        let news = std::mem::take(&mut *news.lock());
        let mut failed: Order = news.failed().collect();
        if let Some(alone) = alone {
            failed.push(news.won.unwrap_or(alone));
        }
        failed.iter().for_each(|address| self.addresses.avoid(*address, now));
        failed
    }
}
