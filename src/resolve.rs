//! Which address stands behind an endpoint's name?
//!
//! Names are looked up by the system (`/etc/hosts`, `nsswitch`), in a background task every 30 s
//! and by the first request that needs one; never in the thread that serves a request
//! (`HttpPeer::new` would, and would panic where the resolver fails). The addresses of a name form
//! a Pingora `LoadBalancer`, so that they are used in turn; one that refused a connection is left
//! for ten seconds while another is known. When the resolver fails, the last good addresses serve
//! for an hour: an edge host must not lose its providers with its resolver (failure table, row 3).

mod order;

pub use order::Order;

use crate::base::time::Tick;
use crate::config::plan::Endpoint;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, LoadBalancer};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How long one look-up may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);
/// How old an answer may grow before it is renewed.
pub const REFRESH: Duration = Duration::from_secs(30);
/// How long a last good answer serves while the resolver fails.
const LAST_GOOD: Duration = Duration::from_secs(3600);
/// How long an address that refused us is left alone.
const AVOID: Duration = Duration::from_secs(10);

/// The name could not be resolved.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub struct DnsFault;

/// The addresses of one endpoint.
pub struct Addresses {
    port: u16,
    source: Source,
}

enum Source {
    Literal(IpAddr),
    Named(Box<Named>),
}

struct Named {
    balancer: LoadBalancer<RoundRobin>,
    lookup: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    given: Vec<IpAddr>,
    is_v6_first: Arc<AtomicBool>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct State {
    resolved_at: Option<Tick>,
    avoided: Vec<(SocketAddr, Tick)>,
}

struct Lookup {
    host: Arc<str>,
    port: u16,
    /// What the file says stands behind the name; nothing is looked up then.
    given: Vec<IpAddr>,
    is_v6_first: Arc<AtomicBool>,
}

#[async_trait]
impl ServiceDiscovery for Lookup {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let fault = || pingora::Error::explain(pingora::ErrorType::ConnectNoRoute, "name look-up failed");
        if !self.given.is_empty() {
            let backend = |ip: &IpAddr| Backend::new(&SocketAddr::new(*ip, self.port).to_string()).ok();
            return Ok((self.given.iter().filter_map(backend).collect(), HashMap::new()));
        }
        let found = timeout(LOOKUP_LIMIT, tokio::net::lookup_host((&*self.host, self.port)))
            .await
            .map_err(|_| fault())?
            .map_err(|_| fault())?;
        let mut found = found.peekable();
        self.is_v6_first.store(found.peek().is_some_and(SocketAddr::is_ipv6), Ordering::Relaxed);
        let backends: BTreeSet<Backend> =
            found.filter_map(|address| Backend::new(&address.to_string()).ok()).collect();
        if backends.is_empty() { Err(fault()) } else { Ok((backends, HashMap::new())) }
    }
}

impl Addresses {
    /// Prepares the addresses of an endpoint; looks nothing up yet.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        Addresses::made(&endpoint.host, endpoint.port, &endpoint.addresses)
    }

    /// Prepares the addresses of a host that is no endpoint of the plan.
    #[must_use]
    pub fn at(host: &str, port: u16) -> Self {
        Addresses::made(host, port, &[])
    }

    fn made(host: &str, port: u16, given: &[IpAddr]) -> Self {
        let source = if let Ok(literal) = host.parse::<IpAddr>() {
            Source::Literal(literal)
        } else {
            let is_v6_first = Arc::new(AtomicBool::new(given.first().is_some_and(IpAddr::is_ipv6)));
            let lookup = Lookup {
                host: host.into(),
                port,
                given: given.to_vec(),
                is_v6_first: Arc::clone(&is_v6_first),
            };
            Source::Named(Box::new(Named {
                balancer: LoadBalancer::from_backends(Backends::new(Box::new(lookup))),
                lookup: tokio::sync::Mutex::new(()),
                state: Mutex::default(),
                given: given.to_vec(),
                is_v6_first,
                turn: AtomicUsize::new(0),
            }))
        };
        Addresses { port, source }
    }

    /// Tells whether the file says that these stand behind the name, or the same nothing.
    #[must_use]
    pub fn are_given(&self, given: &[IpAddr]) -> bool {
        match &self.source {
            Source::Literal(_) => true,
            Source::Named(named) => *named.given == *given,
        }
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address where it is written out, so that nothing needs looking up.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        match &self.source {
            Source::Literal(ip) => Some(SocketAddr::new(*ip, self.port)),
            Source::Named(_) => None,
        }
    }

    /// Returns an address to connect to, looking the name up where nothing is known yet.
    ///
    /// # Errors
    /// Where the resolver fails and there is no answer younger than an hour.
    pub async fn pick(&self, now: Tick) -> Result<SocketAddr, DnsFault> {
        match &self.source {
            Source::Literal(ip) => Ok(SocketAddr::new(*ip, self.port)),
            Source::Named(named) => {
                if !named.is_known(now) {
                    named.refresh(now).await;
                }
                named.select(now).ok_or(DnsFault)
            }
        }
    }

    /// Returns the addresses in the order in which a connection is to try them, looking the name up
    /// where nothing is known yet. One that is written out stands alone.
    ///
    /// # Errors
    /// As for [`Addresses::pick`].
    pub async fn candidates(&self, now: Tick) -> Result<Order, DnsFault> {
        match &self.source {
            Source::Literal(ip) => Ok(Order::from_iter([SocketAddr::new(*ip, self.port)])),
            Source::Named(named) => {
                if !named.is_known(now) {
                    named.refresh(now).await;
                }
                let order = order::order(&named.known(now));
                if order.is_empty() { Err(DnsFault) } else { Ok(order) }
            }
        }
    }

    /// Notes that an address refused us, or said nothing.
    pub fn avoid(&self, address: SocketAddr, now: Tick) {
        if let Source::Named(named) = &self.source {
            let mut state = named.state.lock();
            state.avoided.retain(|(known, until)| *until > now && *known != address);
            state.avoided.push((address, now.after(AVOID)));
        }
    }

    /// Renews the addresses of a name. A failure keeps the last good ones.
    pub async fn refresh(&self, now: Tick) {
        if let Source::Named(named) = &self.source {
            named.refresh(now).await;
        }
    }
}

impl Named {
    fn is_known(&self, now: Tick) -> bool {
        self.state.lock().resolved_at.is_some_and(|at| now.since(at) < LAST_GOOD)
    }

    async fn refresh(&self, now: Tick) {
        let asked_at = self.state.lock().resolved_at;
        let _one_at_a_time = self.lookup.lock().await;
        if self.state.lock().resolved_at != asked_at {
            return; // Someone else has just looked it up while we waited.
        }
        if self.balancer.update().await.is_ok() {
            self.state.lock().resolved_at = Some(now);
        }
    }

    fn known(&self, now: Tick) -> order::Known {
        if !self.is_known(now) {
            return order::Known::default();
        }
        let state = self.state.lock();
        let has_failed = |address: SocketAddr| {
            state.avoided.iter().any(|(known, until)| *known == address && *until > now)
        };
        let backends = self.balancer.backends().get_backend();
        let addresses = backends.iter().filter_map(|backend| backend.addr.as_inet().copied());
        order::Known {
            addresses: addresses.map(|address| (address, has_failed(address))).collect(),
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            is_v6_first: self.is_v6_first.load(Ordering::Relaxed),
        }
    }

    fn select(&self, now: Tick) -> Option<SocketAddr> {
        if !self.is_known(now) {
            return None;
        }
        let state = self.state.lock();
        let is_avoided = |address: &SocketAddr| {
            state.avoided.iter().any(|(known, until)| known == address && *until > now)
        };
        let inet = |backend: &Backend| backend.addr.as_inet().copied();
        let count = self.balancer.backends().get_backend().len().max(1);
        self.balancer
            .select_with(b"", count, |backend, _| inet(backend).is_some_and(|a| !is_avoided(&a)))
            .or_else(|| self.balancer.select(b"", count))
            .and_then(|backend| inet(&backend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint {
            name: host.into(),
            host: host.into(),
            port: 4242,
            tls: false,
            ca: None,
            insecure_skip_verify: false,
            addresses: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_literal_is_not_looked_up() {
        let addresses = Addresses::of(&endpoint("127.0.0.1"));
        assert_eq!(addresses.pick(Tick(1)).await.unwrap(), "127.0.0.1:4242".parse().unwrap());
        assert!(Addresses::of(&endpoint("::1")).literal().is_some());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_by_the_first_who_asks() {
        let addresses = Addresses::of(&endpoint("localhost"));
        let found = addresses.pick(Tick(1)).await.unwrap();
        assert!(found.ip().is_loopback());
        assert_eq!(found.port(), 4242);
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_a_fault_and_no_panic() {
        let addresses = Addresses::of(&endpoint("no-such-host.invalid"));
        assert!(addresses.pick(Tick(1)).await.is_err());
    }

    #[tokio::test]
    async fn an_address_that_failed_is_left_for_a_while() {
        let both: Vec<IpAddr> = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().unwrap()).into();
        let addresses = Addresses::of(&Endpoint { addresses: both, ..endpoint("no-such-host.invalid") });
        let first = addresses.candidates(Tick(1)).await.unwrap();
        assert_eq!(first.len(), 2);
        addresses.avoid(first[0], Tick(1));
        for _ in 0..4 {
            assert_eq!(addresses.candidates(Tick(2)).await.unwrap()[0], first[1]);
            assert_eq!(addresses.pick(Tick(2)).await.unwrap(), first[1]);
        }
        let later = Tick(2).after(AVOID);
        let firsts =
            [addresses.candidates(later).await.unwrap()[0], addresses.candidates(later).await.unwrap()[0]];
        assert!(firsts.contains(&first[0]) && firsts.contains(&first[1]), "in turn: {firsts:?}");
    }
}
