//! How does the process live?
//!
//! ```text
//! main thread   the keeper: signals, reloads, fresh addresses, the end
//! server thread Pingora's own loop
//! data          one runtime, `threads` workers: the proxy
//! admin         one runtime, one worker
//! ```
//!
//! Sockets are bound before anything else, so that a port in use is an exit code and not a panic
//! in a runtime; Pingora finds them in its table of inherited descriptors, which is also where
//! socket activation puts them. `READY=1` is said when the listeners have answered a request, not
//! when they were asked to listen.
//!
//! TERM: not ready any more, the data listeners close, answers ask for the connection to be closed,
//! and the process leaves as soon as nothing is under way, at the latest after `grace`. Pingora
//! would sleep the whole grace period even when idle, so the keeper leaves without it.

pub mod certificate;
mod gate;
mod opening;
pub mod process;

use crate::admin::Admin;
use crate::admin::steward::Steward;
use crate::clock::Clock;
use crate::config::plan::{Listen, Plan};
use crate::live::{House, LiveProblem};
use crate::observe::events::Event;
use crate::observe::log::Log;
use crate::observe::metrics::Metrics;
use crate::observe::usage::store::{Opened, StoreFault};
use crate::proxy::Front;
use crate::reload::{Origin, Reloader};
use async_trait::async_trait;
use certificate::Certificate;
use gate::{Door, Gate};
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Pending connections per listener; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long the listeners may take to answer their first request.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How often the end of the last request is looked for while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// Idle HTTP/2 connections of clients are closed after this.
const H2_IDLE: Duration = Duration::from_secs(300);
/// Read at once of a TLS connection, in bytes: a record.
const TLS_READ: usize = 16 * 1024;
/// Connections to providers that are kept idle, over all.
const UPSTREAM_POOL: usize = 512;

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// An address is in use or not ours.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// A certificate of a listener cannot be used.
    #[error("listen: {0}")]
    Certificate(String),
    /// A key or a certificate of a provider cannot be used.
    #[error(transparent)]
    Plan(#[from] LiveProblem),
    /// The file of the state cannot be used.
    #[error("state.path: {0}")]
    State(#[from] StoreFault),
    /// The system gave no thread or runtime.
    #[error("cannot start: {0}")]
    System(io::Error),
}

/// The listening sockets, bound.
pub struct Sockets {
    data: Vec<(Listen, TcpListener)>,
    admin: TcpListener,
}

impl Sockets {
    /// Binds every address of the plan.
    ///
    /// # Errors
    /// [`StartFault::Bind`] for the first that cannot be.
    pub fn bind(plan: &Plan) -> Result<Sockets, StartFault> {
        let data = plan
            .listen
            .iter()
            .map(|listen| Ok((listen.clone(), bind(listen.address)?)))
            .collect::<Result<_, StartFault>>()?;
        Ok(Sockets { data, admin: bind(plan.admin.address)? })
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
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartFault> {
    use socket2::{Domain, Protocol, Socket, Type};
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

/// What the keeper keeps: a runtime of its own, with SIGHUP taken over.
pub struct Keeper {
    runtime: tokio::runtime::Runtime,
    hangup: Signal,
    /// USR1: the audit log was rotated.
    rotated: Signal,
}

impl Keeper {
    /// Takes SIGHUP and SIGUSR1 over. The first thing in `main`: unhandled they kill the process.
    ///
    /// # Errors
    /// Where the system gives no runtime or signal handler.
    pub fn new() -> io::Result<Keeper> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hangup = runtime.block_on(async { signal(SignalKind::hangup()) })?;
        let rotated = runtime.block_on(async { signal(SignalKind::user_defined1()) })?;
        Ok(Keeper { runtime, hangup, rotated })
    }

    /// Runs some work on the keeper's thread, for a process that keeps itself (the demo).
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }
}

/// A started process.
pub struct Running {
    house: Arc<House>,
    reloader: Arc<Reloader>,
    stop: watch::Sender<bool>,
    /// Where the data plane listens.
    pub data: Vec<SocketAddr>,
    /// Where the admin plane listens.
    pub admin: Option<SocketAddr>,
    tls: Vec<bool>,
}

/// Opens a house with counters of its own, and the file of its state where there is one.
///
/// # Errors
/// Where a key or a certificate of the plan, or the file, cannot be used.
pub fn open(plan: Plan, clock: Clock, log: Log) -> Result<Arc<House>, StartFault> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), log.dropped())
        .map_err(|fault| StartFault::System(io::Error::other(fault)))?;
    let state = match plan.state.as_deref().map(Opened::open).transpose() {
        Err(fault @ StoreFault::Full(_)) => {
            tracing::error!(%fault, "usage is kept in memory until the next start");
            None
        }
        opened => opened?,
    };
    let house = House::open(plan, clock, metrics, log)?;
    if let Some(state) = state {
        state.keep(&house.usage).map_err(StartFault::System)?;
    }
    Ok(house)
}

/// Starts the planes on sockets that are bound already.
///
/// # Errors
/// [`StartFault`].
pub fn start(house: Arc<House>, origin: Origin, sockets: Sockets) -> Result<Running, StartFault> {
    let live = house.live();
    let plan = &live.plan;
    let data = sockets.data_addresses();
    let admin = sockets.admin_address();
    let tls = plan.listen.iter().map(|listen| listen.tls.is_some()).collect();
    let certificates = read_certificates(plan).map_err(StartFault::Certificate)?;
    let renewed = certificates.clone();
    let reloader = Reloader::new(Arc::clone(&house), origin, Box::new(move |plan| renew(&renewed, plan)));

    let conf = ServerConf {
        threads: worker_threads(plan.threads),
        grace_period_seconds: Some(plan.grace.as_secs() + 60),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let conf = Arc::clone(&server.configuration);

    let most = process::ceiling();
    if plan.limits.connections > most {
        tracing::warn!(
            most,
            "limits.connections is {} and the limit of descriptors allows {most}: raise it (LimitNOFILE, ulimit -n)",
            plan.limits.connections
        );
    }

    // One service per listener: cleartext HTTP/2 is a setting of the service, not of the socket.
    let gate = gate::Count::default();
    for ((listen, socket), certificate) in sockets.data.into_iter().zip(&certificates) {
        let mut options = HttpServerOptions::default();
        options.h2c = listen.h2c;
        options.h2_idle_timeout = Some(H2_IDLE);
        let front = Front::new(Arc::clone(&house), &conf, options);
        let tls = match (certificate, &listen.tls) {
            (Some(certificate), Some(files)) => {
                Some(tls_settings(files, certificate).map_err(StartFault::Certificate)?.build())
            }
            (None, _) | (_, None) => None,
        };
        let door = Door { tls, h2c: listen.h2c };
        let app = Gate::new(front, Arc::clone(&house), gate.clone(), door);
        let address = key_of(&socket)?;
        let mut service = Service::new(format!("data {address}"), app);
        // Where TLS is spoken, it is behind the gate. It reads its records in small steps, which a buffer
        // joins; what reads plain bytes has one of its own.
        let read_buffer = if listen.tls.is_some() { TLS_READ } else { 0 };
        let buffers = L4BufferSettings::default().read(read_buffer);
        service.add_listener(ListenerConfig::tcp(address.as_str()).l4_buffer(buffers));
        service.threads = Some(conf.threads);
        server.add_service(Bound { inner: service, address, socket: Some(socket), drains: true });
    }
    let steward = Steward::new(Arc::clone(&house), Arc::clone(&reloader), plan, crate::proxy::explain);
    let address = key_of(&sockets.admin)?;
    let mut service = Service::new("admin".to_owned(), Admin::new(steward, plan.admin.address, Vec::new()));
    service.add_tcp(&address);
    service.threads = Some(1);
    server.add_service(Bound { inner: service, address, socket: Some(sockets.admin), drains: false });

    let at = house.clock.wall();
    let started = Event::Started { version: env!("CARGO_PKG_VERSION"), generation: live.generation };
    house.events.tell(at, started);
    house.audit.process(at, "start");
    let (stop, stopped) = watch::channel(false);
    std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || server.run(RunArgs { shutdown_signal: Box::new(Stop(stopped)) }))
        .map_err(StartFault::System)?;
    Ok(Running { house, reloader, stop, data, admin, tls })
}

fn worker_threads(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

type Certificates = Vec<Option<Arc<Certificate>>>;

fn read_certificates(plan: &Plan) -> Result<Certificates, String> {
    plan.listen.iter().map(|listen| listen.tls.as_ref().map(Certificate::read).transpose()).collect()
}

fn renew(certificates: &Certificates, plan: &Plan) -> Result<(), String> {
    for (certificate, listen) in certificates.iter().zip(&plan.listen) {
        if let (Some(certificate), Some(tls)) = (certificate, &listen.tls) {
            certificate.renew(tls)?;
        }
    }
    Ok(())
}

fn tls_settings(
    files: &crate::config::plan::ListenTls,
    certificate: &Arc<Certificate>,
) -> Result<TlsSettings, String> {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut settings = TlsSettings::intermediate(&text(&files.cert), &text(&files.key))
        .map_err(|_| format!("{}: the certificate cannot be used", files.cert.display()))?;
    let resolver: Arc<dyn rustls::server::ResolvesServerCert> = Arc::clone(certificate) as _;
    settings.set_cert_resolver(resolver);
    settings.enable_h2();
    Ok(settings)
}

impl Running {
    /// Waits until every listener has answered a request.
    ///
    /// # Errors
    /// Where one has not after ten seconds.
    pub fn wait_until_ready(&self) -> io::Result<()> {
        for (address, is_tls) in self.data.iter().zip(&self.tls) {
            wait_for_answer(*address, if *is_tls { None } else { Some("/health") })?;
        }
        self.admin.map_or(Ok(()), |admin| wait_for_answer(admin, Some("/livez")))
    }

    /// Keeps the process until it is told to leave; returns when `main` may return.
    pub fn keep(self, keeper: Keeper) {
        let Keeper { runtime, hangup, rotated } = keeper;
        runtime.block_on(self.watch(hangup, rotated));
    }

    /// Drains and waits for the end, at most `grace`; for a process that ends by itself.
    pub async fn drain(&self) {
        self.house.drain();
        let _ = self.stop.send(true);
        let end = self.house.clock.tick().after(self.house.live().plan.grace);
        // Looked at twice, so that a request whose head is just being read is not overlooked.
        let mut idle_looks = 0;
        while idle_looks < 2 && self.house.clock.tick() < end {
            tokio::time::sleep(DRAIN_LOOK).await;
            idle_looks = if self.house.under_way() == 0 { idle_looks + 1 } else { 0 };
        }
    }

    async fn watch(self, mut hangup: Signal, mut rotated: Signal) {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return;
        };
        let mut fresh_addresses = tokio::time::interval(crate::resolve::REFRESH);
        loop {
            tokio::select! {
                _ = hangup.recv() => self.spawn_reload(),
                _ = rotated.recv() => self.house.audit.reopen(),
                _ = fresh_addresses.tick() => {
                    let house = Arc::clone(&self.house);
                    // This runtime lasts as long as the process; those that serve may not.
                    house.tend_tokens();
                    tokio::spawn(async move { house.refresh_addresses().await });
                }
                _ = interrupt.recv() => return,
                _ = terminate.recv() => break,
            }
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!(under_way = self.house.under_way(), "draining");
        tokio::select! {
            () = self.drain() => {}
            _ = interrupt.recv() => {}
        }
    }

    fn spawn_reload(&self) {
        let reloader = Arc::clone(&self.reloader);
        tokio::spawn(async move {
            let reloading = sd_notify::NotifyState::monotonic_usec_now().ok();
            let states: Vec<_> =
                [Some(sd_notify::NotifyState::Reloading), reloading].into_iter().flatten().collect();
            notify(&states);
            let status = match reloader.reload().await {
                Ok(reloaded) => format!("generation {}", reloaded.generation),
                Err(faults) => {
                    format!("configuration error, running unchanged: {}", faults.first().map_or("", |f| f))
                }
            };
            notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status)]);
        });
    }
}

/// Tells systemd, where there is one.
pub fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell, and nothing to do about it.
    let _ = sd_notify::notify(states);
}

/// Asks a listener for a page until it answers; TLS listeners are only connected to.
fn wait_for_answer(address: SocketAddr, path: Option<&str>) -> io::Result<()> {
    let reachable = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(reachable, address.port()), READY_LIMIT)?;
    let Some(path) = path else { return Ok(()) };
    stream.set_read_timeout(Some(READY_LIMIT))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut start = [0; 5];
    stream.read_exact(&mut start)?;
    if &start == b"HTTP/" { Ok(()) } else { Err(io::Error::other("the listener does not speak HTTP")) }
}

/// Pingora asks this for the signal; the keeper gives it.
struct Stop(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        let mut stopped = self.0.clone();
        let is_told = stopped.wait_for(|stop| *stop).await.is_ok();
        if !is_told {
            // The keeper is gone: the process is about to end.
            std::future::pending::<()>().await;
        }
        ShutdownSignal::GracefulTerminate
    }
}

/// Returns the name of a socket in Pingora's table: where it listens, not what was configured, for
/// two listeners on port 0 of one host would share one entry.
fn key_of(socket: &TcpListener) -> Result<String, StartFault> {
    socket.local_addr().map(|address| address.to_string()).map_err(StartFault::System)
}

/// A service whose socket is bound already and handed over through Pingora's table of inherited
/// descriptors.
struct Bound<S> {
    inner: S,
    address: String,
    socket: Option<TcpListener>,
    /// Whether it stops taking connections at TERM. The admin plane does not: who drains wants to
    /// see `readyz` say so, and the last scrape.
    drains: bool,
}

#[async_trait]
impl<S: PingoraService> PingoraService for Bound<S> {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners: usize) {
        if let (Some(table), Some(socket)) = (&fds, self.socket.take()) {
            table.lock().add(self.address.clone(), socket.into_raw_fd());
        }
        let (never, nothing) = watch::channel(false);
        self.inner.start_service(fds, if self.drains { shutdown } else { nothing }, listeners).await;
        drop(never);
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn threads(&self) -> Option<usize> {
        self.inner.threads()
    }
}
