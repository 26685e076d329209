//! Where do the listening sockets come from?
//!
//! In this order: from the process whose place this one takes ([`super::relief`]), from the service
//! manager (`LISTEN_FDS`, sd_listen_fds(3)), and what is left is bound here. A socket that is there
//! already is never bound a second time, so nobody who connects meanwhile is refused: the kernel keeps
//! the connection in the queue of the one socket that all of them share.
//!
//! A socket belongs to the listener whose address it is bound to; port 0 of the configuration takes
//! any port of its address. All addresses are all addresses, in either spelling: `ListenStream=8080` is
//! `[::]:8080` on one host and `0.0.0.0:8080` on another without IPv6, whatever the configuration has. A
//! socket for IPv6 only is not all of them. The names that systemd gives (`FileDescriptorName=`) are for messages only,
//! for an address is what clients know. One of the manager's that no listener of ours has is a fault:
//! clients would wait in its queue for ever. One of a predecessor's is closed: its listener was taken
//! out of the configuration. A listener without one is bound, and said to be where the manager gave
//! others, since at the next restart it is the one that refuses.

use super::StartFault;
use crate::config::plan::{Listen, Plan};
use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Pending connections per listener; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Who bound a socket that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Manager,
    Predecessor,
}

/// A socket that is there already.
struct Given {
    /// What messages call it.
    name: String,
    address: SocketAddr,
    socket: TcpListener,
}

/// The sockets that are there already.
pub struct Inherited {
    from: From,
    given: Vec<Given>,
}

impl Inherited {
    /// Returns none.
    #[must_use]
    pub fn none() -> Inherited {
        Inherited { from: From::Manager, given: Vec::new() }
    }

    /// Takes the sockets of a predecessor.
    ///
    /// # Errors
    /// Where one of them cannot be listened on.
    pub fn from_predecessor(sockets: Vec<TcpListener>) -> Result<Inherited, StartFault> {
        let given =
            sockets.into_iter().map(|socket| Given::of("a socket of the predecessor".to_owned(), socket));
        Ok(Inherited { from: From::Predecessor, given: given.collect::<Result<_, _>>()? })
    }

    /// Takes the descriptors that the service manager has passed to this very process, and their
    /// variables out of the environment. To be called while there is one thread only.
    ///
    /// # Errors
    /// Where one of them is no listening TCP socket.
    pub fn from_manager() -> Result<Inherited, StartFault> {
        // Without it they may be meant for a parent of ours that forgot them.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(Inherited::none());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let given = (0..passed.len()).map(|at| {
            let name = match names.next().filter(|name| !name.is_empty()) {
                Some(name) => format!("descriptor {} ({name}) of the service manager", at + FIRST),
                None => format!("descriptor {} of the service manager", at + FIRST),
            };
            match passed.take_tcp_listener(at) {
                Ok(Some(socket)) => Given::of(name, socket),
                Ok(None) | Err(_) => Err(StartFault::Inherited(format!(
                    "{name} is not a TCP socket; leave only ListenStream= with addresses and ports in the socket unit"
                ))),
            }
        });
        Ok(Inherited { from: From::Manager, given: given.collect::<Result<_, _>>()? })
    }

    /// Takes the socket of an address out, where there is one.
    fn take(&mut self, wanted: SocketAddr) -> Option<Given> {
        let same = self.given.iter().position(|given| given.address == wanted);
        let any_port = || {
            let fits = |given: &Given| wanted.port() == 0 && given.address.ip() == wanted.ip();
            self.given.iter().position(fits)
        };
        let all = || self.given.iter().position(|given| given.is_all_as(wanted));
        let at = same.or_else(any_port).or_else(all)?;
        Some(self.given.remove(at))
    }
}

/// The first descriptor that a service manager passes (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

impl Given {
    /// Tells whether both are every address of a port, IPv4's among them.
    fn is_all_as(&self, wanted: SocketAddr) -> bool {
        let is_all = self.address.ip().is_unspecified() && wanted.ip().is_unspecified();
        let has_ipv4 =
            self.address.is_ipv4() || SockRef::from(&self.socket).only_v6().is_ok_and(|only| !only);
        is_all && has_ipv4 && self.address.port() == wanted.port()
    }

    /// Says that no listener has it.
    fn is_nobodys(&self) -> String {
        format!("{} is bound to {}, where no listener of the configuration is", self.name, self.address)
    }

    /// Says that clients would wait in its queue for ever, and how to mend it.
    fn unwanted(&self, data: &[(Listen, Wanted)], admin: &Wanted) -> String {
        let has: Vec<_> = data.iter().map(|(listen, _)| listen.address.to_string()).collect();
        let all = data.iter().map(|(_, wanted)| wanted).chain([admin]);
        let lacking: Vec<&Wanted> = all.filter(|wanted| wanted.given.is_none()).collect();
        let near = lacking.iter().find(|wanted| wanted.address.port() == self.address.port());
        let remedy = match near.or(lacking.first()) {
            Some(Wanted { key, address, .. }) => format!(
                "write ListenStream={address} in the socket unit, or address: \"{}\" where {key} is {address}",
                self.address
            ),
            None => "take it out of the socket unit".to_owned(),
        };
        format!(
            "{} (listen: {}; admin.address: {}); {remedy}",
            self.is_nobodys(),
            has.join(", "),
            admin.address
        )
    }

    fn of(name: String, socket: TcpListener) -> Result<Given, StartFault> {
        let adopt = || -> io::Result<SocketAddr> {
            if !SockRef::from(&socket).is_listener()? {
                return Err(io::Error::other("it does not listen"));
            }
            socket.set_nonblocking(true)?;
            socket.local_addr()
        };
        match adopt() {
            Ok(address) => Ok(Given { name, address, socket }),
            Err(fault) => Err(StartFault::Inherited(format!("{name} cannot be used: {fault}"))),
        }
    }
}

/// The listening sockets, bound.
pub struct Sockets {
    pub(super) data: Vec<(Listen, TcpListener)>,
    pub(super) admin: TcpListener,
    /// Whether they were another process's, which makes way for this one.
    pub(super) takes_over: bool,
    /// What the operator should know about where they come from.
    pub warnings: Vec<String>,
}

impl Sockets {
    /// Binds every address of the plan.
    ///
    /// # Errors
    /// [`StartFault::Bind`] for the first that cannot be.
    pub fn bind(plan: &Plan) -> Result<Sockets, StartFault> {
        Sockets::take(plan, Inherited::none())
    }

    /// Takes what is there already for the addresses of the plan, and binds the others.
    ///
    /// # Errors
    /// [`StartFault::Bind`] for the first that cannot be, [`StartFault::Inherited`] for a socket of the
    /// service manager that is nobody's.
    pub fn take(plan: &Plan, mut inherited: Inherited) -> Result<Sockets, StartFault> {
        let is_told = inherited.from == From::Manager && !inherited.given.is_empty();
        let mut warnings = Vec::new();
        let mut find = |key: String, address| Wanted { key, address, given: inherited.take(address) };
        let listens = plan.listen.iter().cloned().enumerate();
        let data: Vec<(Listen, Wanted)> = listens
            .map(|(at, listen)| (listen.clone(), find(format!("listen[{at}].address"), listen.address)))
            .collect();
        let admin = find("admin.address".to_owned(), plan.admin.address);
        // Before anything is bound: what nobody listens on may stand in the way of it.
        for left in &inherited.given {
            match inherited.from {
                From::Manager => return Err(StartFault::Inherited(left.unwanted(&data, &admin))),
                From::Predecessor => warnings.push(format!("{} any more; it is closed", left.is_nobodys())),
            }
        }
        let data = data
            .into_iter()
            .map(|(listen, wanted)| Ok((listen, wanted.socket(is_told, &mut warnings)?)))
            .collect::<Result<_, StartFault>>()?;
        let admin = admin.socket(is_told, &mut warnings)?;
        let takes_over = inherited.from == From::Predecessor;
        Ok(Sockets { data, admin, takes_over, warnings })
    }

    /// Returns the addresses of the data plane, with the ports that the system chose.
    #[must_use]
    pub fn data_addresses(&self) -> Vec<SocketAddr> {
        self.data.iter().filter_map(|(_, socket)| socket.local_addr().ok()).collect()
    }

    /// Returns the listeners of the data plane as they are bound.
    pub(super) fn listeners(&self) -> Vec<Listen> {
        let each = |(listen, socket): &(Listen, TcpListener)| Listen {
            address: socket.local_addr().unwrap_or(listen.address),
            ..listen.clone()
        };
        self.data.iter().map(each).collect()
    }

    /// Returns the address of the admin plane.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.local_addr().ok()
    }

    /// Returns all of them once more, to be given to a successor.
    pub(super) fn again(&self) -> io::Result<Vec<TcpListener>> {
        let data = self.data.iter().map(|(_, socket)| socket);
        data.chain([&self.admin]).map(TcpListener::try_clone).collect()
    }
}

/// A listener of the configuration, and its socket where that is there already.
struct Wanted {
    key: String,
    address: SocketAddr,
    given: Option<Given>,
}

impl Wanted {
    /// Returns its socket, bound here where it is not there; `is_told` is whether the service manager
    /// gave others.
    fn socket(self, is_told: bool, warnings: &mut Vec<String>) -> Result<TcpListener, StartFault> {
        let Wanted { key, address, given } = self;
        let Some(given) = given else {
            if is_told {
                warnings.push(format!(
                    "{key} {address} is not among the sockets of the service manager and was bound here: a restart refuses its clients for a moment; add ListenStream={address} to the socket unit"
                ));
            }
            return bind(address).map_err(|reason| StartFault::Bind { key, address, reason });
        };
        // Whoever wrote one of them meant to leave the others out, or does not reach them.
        if given.address.is_ipv4() != address.is_ipv4() {
            let differs =
                if address.is_ipv4() { "IPv6 clients come in too" } else { "no IPv6 client comes in" };
            warnings.push(format!(
                "{key} {address} is served by {}, which is bound to {}: {differs}; write ListenStream={address} in the socket unit where that is not meant",
                given.name, given.address
            ));
        }
        Ok(given.socket)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Says what to do about an address that cannot be listened on.
pub(super) fn remedy(address: SocketAddr, reason: &io::Error) -> String {
    let port = address.port();
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            format!("ss -ltnp 'sport = :{port}' tells who does; stop that, or write another port")
        }
        io::ErrorKind::PermissionDenied if port < PRIVILEGED => format!(
            "ports below {PRIVILEGED} want CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit) or a socket unit that binds them (ListenStream=); or write another port"
        ),
        io::ErrorKind::PermissionDenied => {
            "a rule of this system forbids it (SELinux, AppArmor, a sandbox); allow the port there".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            format!(
                "no interface of this host has it now (ip address tells which there are); where it comes later, as a floating one does, set sysctl net.{family}.ip_nonlocal_bind=1"
            )
        }
        _ => "write another address".to_owned(),
    }
}

/// Ports below it are the system's, where `net.ipv4.ip_unprivileged_port_start` does not say otherwise.
const PRIVILEGED: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_bound_is_told_with_its_key_and_what_to_do() {
        use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
        for (address, kind, want) in [
            ("127.0.0.1:8080", AddrInUse, "ss -ltnp 'sport = :8080'"),
            ("0.0.0.0:443", PermissionDenied, "CAP_NET_BIND_SERVICE"),
            ("0.0.0.0:8443", PermissionDenied, "SELinux"),
            ("192.0.2.1:8080", AddrNotAvailable, "net.ipv4.ip_nonlocal_bind=1"),
            ("[2001:db8::1]:8080", AddrNotAvailable, "net.ipv6.ip_nonlocal_bind=1"),
        ] {
            let key = "listen[1].address".to_owned();
            let fault = StartFault::Bind { key, address: address.parse().unwrap(), reason: kind.into() };
            let told = fault.to_string();
            assert!(told.starts_with(&format!("listen[1].address: cannot listen on {address}: ")), "{told}");
            assert!(told.contains(want), "{want}: {told}");
        }
    }

    #[test]
    fn every_address_of_a_port_is_found_in_either_spelling_but_not_without_ipv4() {
        let open = |address: &str, only_v6: Option<bool>| {
            let address: SocketAddr = address.parse().unwrap();
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
            if let Some(only) = only_v6 {
                socket.set_only_v6(only).unwrap();
            }
            // It is bound and not listened on: nobody is to reach a test from outside.
            socket.bind(&address.into()).unwrap();
            let socket = TcpListener::from(socket);
            Given { name: "it".to_owned(), address: socket.local_addr().unwrap(), socket }
        };
        for (given, only_v6, wanted, is_taken) in [
            ("[::]:0", Some(false), "0.0.0.0", true),
            ("[::]:0", Some(false), "[::]", true),
            ("[::]:0", Some(true), "0.0.0.0", false),
            ("[::]:0", Some(true), "[::]", true),
            ("0.0.0.0:0", None, "[::]", true),
            ("[::]:0", Some(false), "127.0.0.1", false),
            ("127.0.0.1:0", None, "0.0.0.0", false),
        ] {
            let given = open(given, only_v6);
            let port = given.address.port();
            let mut inherited = Inherited { from: From::Manager, given: vec![given] };
            let found = |port: u16, inherited: &mut Inherited| {
                inherited.take(format!("{wanted}:{port}").parse().unwrap()).is_some()
            };
            assert!(!found(port ^ 1, &mut inherited), "another port");
            assert_eq!(found(port, &mut inherited), is_taken, "{wanted}, only v6: {only_v6:?}");
        }
    }
}
