//! Which address stands behind an endpoint's name?
//!
//! Names are looked up by the system (`/etc/hosts`, `nsswitch`), in a background task every 30 s
//! and by the first request that needs one; never in the thread that serves a request
//! (`HttpPeer::new` would, and would panic where the resolver fails). The addresses of a name form
//! a Pingora `LoadBalancer` and are used in turn; one that refused a connection is left for ten
//! seconds while another is known. When the resolver fails, the last good addresses serve
//! for an hour: an edge host must not lose its providers with its resolver (failure table, row 3).
//!
//! Of what a look-up finds, only what the name may stand for is kept ([`Reach`]): a resolver that
//! answers with addresses of the network inside is to get no key there (threat P6). Where nothing is
//! left the look-up has failed, and what was good before goes on serving.

mod order;

pub use order::Order;

use crate::base::reach::Reach;
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

/// Why a name gives no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsFault {
    /// The resolver knows none, or does not answer.
    #[error("the name cannot be resolved")]
    Unknown,
    /// All that it knows are addresses that the name may not stand for.
    #[error(
        "the name resolves to inner addresses only, which may get no key; where the provider is inside, set deny_private_ips: false beside its base_url"
    )]
    Inside,
}

/// The addresses of one endpoint.
pub struct Addresses {
    port: u16,
    reach: Reach,
    source: Source,
}

enum Source {
    Literal(IpAddr),
    Named(Box<Named>),
}

struct Named {
    balancer: LoadBalancer<RoundRobin>,
    /// Whether the last look-up found nothing that the name may stand for.
    is_inside: Arc<AtomicBool>,
    lookup: tokio::sync::Mutex<()>,
    /// Look-ups that came to an end, good or bad: who waited for one is content with it.
    lookups: AtomicUsize,
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
    reach: Reach,
    is_inside: Arc<AtomicBool>,
}

impl Lookup {
    /// Keeps what the name may stand for; tells who reads the log when that leaves nothing.
    fn keep(&self, found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let (kept, refused): (Vec<_>, Vec<_>) = found.partition(|address| self.reach.admits(address.ip()));
        let is_inside = kept.is_empty() && !refused.is_empty();
        let was_inside = self.is_inside.swap(is_inside, Ordering::Relaxed);
        if let (false, true, Some(address)) = (was_inside, is_inside, refused.first()) {
            tracing::warn!(host = %self.host, address = %address.ip(), "{}", DnsFault::Inside);
        }
        kept
    }
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
        let mut kept = self.keep(found).into_iter().peekable();
        self.is_v6_first.store(kept.peek().is_some_and(SocketAddr::is_ipv6), Ordering::Relaxed);
        let backends: BTreeSet<Backend> =
            kept.filter_map(|address| Backend::new(&address.to_string()).ok()).collect();
        if backends.is_empty() { Err(fault()) } else { Ok((backends, HashMap::new())) }
    }
}

impl Addresses {
    /// Prepares the addresses of an endpoint; looks nothing up yet.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        Addresses::made(&endpoint.host, endpoint.port, endpoint.reach(), &endpoint.addresses)
    }

    /// Prepares the addresses of a host that is no endpoint of the plan.
    #[must_use]
    pub fn at(host: &str, port: u16, reach: Reach) -> Self {
        Addresses::made(host, port, reach, &[])
    }

    fn made(host: &str, port: u16, reach: Reach, given: &[IpAddr]) -> Self {
        let source = if let Ok(literal) = host.parse::<IpAddr>() {
            Source::Literal(literal)
        } else {
            let is_v6_first = Arc::new(AtomicBool::new(given.first().is_some_and(IpAddr::is_ipv6)));
            let is_inside = Arc::new(AtomicBool::new(false));
            let lookup = Lookup {
                host: host.into(),
                port,
                given: given.to_vec(),
                is_v6_first: Arc::clone(&is_v6_first),
                reach,
                is_inside: Arc::clone(&is_inside),
            };
            Source::Named(Box::new(Named {
                balancer: LoadBalancer::from_backends(Backends::new(Box::new(lookup))),
                is_inside,
                lookup: tokio::sync::Mutex::new(()),
                lookups: AtomicUsize::new(0),
                state: Mutex::default(),
                given: given.to_vec(),
                is_v6_first,
                turn: AtomicUsize::new(0),
            }))
        };
        Addresses { port, reach, source }
    }

    /// Returns what the name may stand for.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Tells whether the name stood for inner addresses only, which it may not, when it was last
    /// looked up.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        match &self.source {
            Source::Literal(_) => false,
            Source::Named(named) => named.is_inside.load(Ordering::Relaxed),
        }
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

    /// Returns the addresses in the order in which a connection is to try them, looking the name up
    /// where nothing is known yet. One that is written out stands alone.
    ///
    /// # Errors
    /// Where the resolver fails, or names nothing that may be used, and there is no answer younger
    /// than an hour.
    pub async fn candidates(&self, now: Tick) -> Result<Order, DnsFault> {
        match &self.source {
            Source::Literal(ip) => Ok(Order::from_iter([SocketAddr::new(*ip, self.port)])),
            Source::Named(named) => {
                if !named.is_known(now) {
                    named.refresh(now).await;
                }
                let order = order::order(&named.known(now));
                if order.is_empty() { Err(named.fault()) } else { Ok(order) }
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
    /// Why there is no address.
    fn fault(&self) -> DnsFault {
        if self.is_inside.load(Ordering::Relaxed) { DnsFault::Inside } else { DnsFault::Unknown }
    }

    fn is_known(&self, now: Tick) -> bool {
        self.state.lock().resolved_at.is_some_and(|at| now.since(at) < LAST_GOOD)
    }

    async fn refresh(&self, now: Tick) {
        let before = self.lookups.load(Ordering::Acquire);
        let _one_at_a_time = self.lookup.lock().await;
        if self.lookups.load(Ordering::Acquire) != before {
            return; // Someone else has just looked it up while we waited.
        }
        if self.balancer.update().await.is_ok() {
            self.state.lock().resolved_at = Some(now);
        }
        self.lookups.fetch_add(1, Ordering::Release);
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
            deny_private_ips: None,
        }
    }

    async fn first(addresses: &Addresses) -> Result<SocketAddr, DnsFault> {
        addresses.candidates(Tick(1)).await.map(|order| order[0])
    }

    #[tokio::test]
    async fn a_literal_is_not_looked_up() {
        let addresses = Addresses::of(&endpoint("127.0.0.1"));
        assert_eq!(first(&addresses).await, Ok("127.0.0.1:4242".parse().unwrap()));
        assert!(Addresses::of(&endpoint("::1")).literal().is_some());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_by_the_first_who_asks() {
        let addresses = Addresses::of(&endpoint("localhost"));
        let found = first(&addresses).await.unwrap();
        assert!(found.ip().is_loopback());
        assert_eq!(found.port(), 4242);
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_a_fault_and_no_panic() {
        let addresses = Addresses::of(&endpoint("no-such-host.invalid"));
        assert!(first(&addresses).await.is_err());
    }

    // The resolver reads numbers in other shapes than ours as addresses, and so names that stand for
    // inner ones need no file and no server of names.
    #[tokio::test]
    async fn a_name_that_stands_for_an_inner_address_is_refused_unless_the_file_allows_it() {
        for (host, is_tls, denies, want) in [
            ("127.1", true, None, Err(DnsFault::Inside)),
            ("127.1", true, Some(false), Ok("127.0.0.1:4242")),
            ("127.1", false, None, Ok("127.0.0.1:4242")),
            ("127.1", false, Some(true), Err(DnsFault::Inside)),
            ("2852039166", true, None, Err(DnsFault::Inside)),
            ("0x0a000001", true, None, Err(DnsFault::Inside)),
            ("1.1", true, None, Ok("1.0.0.1:4242")),
            ("127.0.0.1", true, None, Ok("127.0.0.1:4242")),
            ("no-such-host.invalid", true, None, Err(DnsFault::Unknown)),
        ] {
            let endpoint = Endpoint { tls: is_tls, deny_private_ips: denies, ..endpoint(host) };
            let addresses = Addresses::of(&endpoint);
            let got = first(&addresses).await;
            assert_eq!(got, want.map(|text| text.parse().unwrap()), "{host} {is_tls} {denies:?}");
            assert_eq!(addresses.is_inside(), want == Err(DnsFault::Inside), "{host}");
        }
    }

    #[test]
    fn of_several_addresses_those_out_in_the_world_are_kept() {
        let is_inside = Arc::new(AtomicBool::new(false));
        let lookup = Lookup {
            host: "h".into(),
            port: 1,
            given: Vec::new(),
            is_v6_first: Arc::default(),
            reach: Reach::Public,
            is_inside: Arc::clone(&is_inside),
        };
        let keep = |list: &[&str]| {
            let kept = lookup.keep(list.iter().map(|text| text.parse().unwrap()));
            (kept.iter().map(SocketAddr::to_string).collect::<Vec<_>>(), is_inside.load(Ordering::Relaxed))
        };
        assert_eq!(keep(&["10.0.0.1:1", "1.1.1.1:1", "[::1]:1"]), (vec!["1.1.1.1:1".to_owned()], false));
        assert_eq!(keep(&["10.0.0.1:1", "[::ffff:127.0.0.1]:1"]), (vec![], true));
        assert_eq!(keep(&[]), (vec![], false), "nothing is no inner address");
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
        }
        let later = Tick(2).after(AVOID);
        let firsts =
            [addresses.candidates(later).await.unwrap()[0], addresses.candidates(later).await.unwrap()[0]];
        assert!(firsts.contains(&first[0]) && firsts.contains(&first[1]), "in turn: {firsts:?}");
    }
}
