//! Where do the listening sockets come from?
//!
//! In this order: from the process whose place this one takes ([`super::relief`]), from the service
//! manager (`LISTEN_FDS`, sd_listen_fds(3)), and what is left is bound here. A socket that is there
//! already is never bound a second time, so nobody who connects meanwhile is refused: the kernel keeps
//! the connection in the queue of the one socket that all of them share.
//!
//! A socket belongs to the listener whose address it is bound to; port 0 of the configuration takes
//! any port of its address. The names that systemd gives (`FileDescriptorName=`) are for messages only,
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
    fn take(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let same = self.given.iter().position(|given| given.address == wanted);
        let any_port = || {
            let fits = |given: &Given| wanted.port() == 0 && given.address.ip() == wanted.ip();
            self.given.iter().position(fits)
        };
        let at = same.or_else(any_port)?;
        Some(self.given.remove(at).socket)
    }
}

/// The first descriptor that a service manager passes (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

impl Given {
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
        let mut socket_of = |key: &str, address: SocketAddr| {
            if let Some(socket) = inherited.take(address) {
                return Ok(socket);
            }
            if is_told {
                warnings.push(format!(
                    "{key} {address} is not among the sockets of the service manager and was bound here: a restart refuses its clients for a moment; add ListenStream={address} to the socket unit"
                ));
            }
            bind(address)
        };
        let data = plan
            .listen
            .iter()
            .map(|listen| Ok((listen.clone(), socket_of("listen", listen.address)?)))
            .collect::<Result<_, StartFault>>()?;
        let admin = socket_of("admin.address", plan.admin.address)?;
        for left in &inherited.given {
            let what = format!(
                "{} is bound to {}, where no listener of the configuration is",
                left.name, left.address
            );
            match inherited.from {
                From::Manager => {
                    let has: Vec<_> = plan.listen.iter().map(|listen| listen.address.to_string()).collect();
                    return Err(StartFault::Inherited(format!(
                        "{what} (listen: {}; admin.address: {}); make the socket unit and the configuration agree",
                        has.join(", "),
                        plan.admin.address
                    )));
                }
                From::Predecessor => warnings.push(format!("{what} any more; it is closed")),
            }
        }
        Ok(Sockets { data, admin, warnings })
    }

    /// Returns the addresses of the data plane, with the ports that the system chose.
    #[must_use]
    pub fn data_addresses(&self) -> Vec<SocketAddr> {
        self.data.iter().filter_map(|(_, socket)| socket.local_addr().ok()).collect()
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

fn bind(address: SocketAddr) -> Result<TcpListener, StartFault> {
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|reason| StartFault::Bind { address, reason })
}
