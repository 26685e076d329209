//! How does the process live?
//!
//! ```text
//! main thread   the keeper: signals, reloads, fresh addresses, the end
//! server thread Pingora's own loop
//! data          one runtime, `threads` workers: the proxy
//! admin         one runtime, one worker
//! ```
//!
//! Sockets are found or bound ([`sockets`]) before anything else, so that a port in use is an exit
//! code and not a panic in a runtime; Pingora finds them in its table of inherited descriptors.
//! `READY=1` is said when the listeners have answered a request, not when they were asked to listen.
//!
//! TERM: not ready any more, the data listeners close, answers ask for the connection to be closed,
//! and the process leaves as soon as nothing is under way, at the latest after `grace`. Pingora
//! would sleep the whole grace period even when idle, so the keeper leaves without it.
//!
//! USR2: a new process takes the place ([`relief`]). From then on this one ends as after TERM, but
//! closes its admin listener as well, since the new one answers there, and takes its time with
//! connections that are open and ask for nothing: at most `grace`, for nobody waits for its end.

pub mod certificate;
mod gate;
mod opening;
pub mod process;
mod pulse;
pub mod relief;
pub mod sockets;
mod visitors;

use crate::admin::Admin;
use crate::admin::steward::Steward;
use crate::clock::Clock;
use crate::config::plan::Plan;
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
use pulse::Pulse;
use relief::{Departure, Launcher, Successor};
pub use sockets::{Inherited, Sockets};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use visitors::{Counted, Visitors};

/// How long the listeners may take to answer their first request.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long one answer to that question may take.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How often a listener is asked until it answers.
const READY_LOOK: Duration = Duration::from_millis(2);
/// How long requests that are ended may take for their last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often it is looked whether they have said them.
const PART_LOOK: Duration = Duration::from_millis(5);
/// How often it is looked whether files of keys hold others.
const KEYS_LOOK: Duration = Duration::from_secs(1);
/// How often the end of the last request is looked for while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// So many looks in a row must find nothing under way where no connection is open: a request whose
/// head is just being read is not overlooked.
const LOOKS_ALONE: u32 = 2;
/// So many where one is, after TERM: whoever uses it all the time is told to close it (0.3 s).
const LOOKS_IN_COMPANY: u32 = 15;
/// How long who left may take to let go of the file of the state, in steps of the store's own wait.
const STATE_TRIES: u32 = 10;
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
    /// A socket that was passed to this process cannot be used.
    #[error("{0}")]
    Inherited(String),
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

/// What the keeper keeps: a runtime of its own, with SIGHUP taken over.
pub struct Keeper {
    runtime: tokio::runtime::Runtime,
    hangup: Signal,
    /// USR1: the audit log was rotated.
    rotated: Signal,
    /// USR2: a new process is to take the place.
    relieved: Signal,
}

impl Keeper {
    /// Takes SIGHUP, SIGUSR1 and SIGUSR2 over. The first thing in `main`: unhandled they kill the process.
    ///
    /// # Errors
    /// Where the system gives no runtime or signal handler.
    pub fn new() -> io::Result<Keeper> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hangup = runtime.block_on(async { signal(SignalKind::hangup()) })?;
        let rotated = runtime.block_on(async { signal(SignalKind::user_defined1()) })?;
        let relieved = runtime.block_on(async { signal(SignalKind::user_defined2()) })?;
        Ok(Keeper { runtime, hangup, rotated, relieved })
    }

    /// Runs some work on the keeper's thread, for a process that keeps itself (the demo).
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// Waits on the keeper's thread. A timer that is made outside of its runtime has nobody to ring.
    pub fn pause(&self, span: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(span).await });
    }
}

/// A started process.
pub struct Running {
    house: Arc<House>,
    reloader: Arc<Reloader>,
    stop: watch::Sender<bool>,
    /// Ends the admin listener, which outlives the others.
    admin_stop: Arc<watch::Sender<bool>>,
    planes: Vec<Plane>,
    /// Connections of the data plane.
    gate: gate::Count,
    pulse: Pulse,
    /// All listening sockets once more, for a successor; dropped where nobody is to take the place.
    spare: Vec<TcpListener>,
    /// Whether the file of the state is ours, or there is none.
    has_state: Arc<AtomicBool>,
    /// Where the data plane listens.
    pub data: Vec<SocketAddr>,
    /// Where the admin plane listens.
    pub admin: Option<SocketAddr>,
}

/// A listener, as whoever waits for it sees it.
struct Plane {
    address: SocketAddr,
    /// What it is asked for; TLS listeners are only connected to.
    path: Option<&'static str>,
    visitors: Visitors,
    has_begun: Arc<AtomicBool>,
}

/// Opens a house with counters of its own, and the file of its state where there is one.
///
/// # Errors
/// Where a key or a certificate of the plan, or the file, cannot be used.
pub fn open(plan: Plan, clock: Clock, log: Log) -> Result<Arc<House>, StartFault> {
    let state = match plan.state.as_deref().map(Opened::open).transpose() {
        Err(fault @ StoreFault::Full(_)) => {
            tracing::error!(%fault, "usage is kept in memory until the next start");
            None
        }
        opened => opened?,
    };
    let house = open_without_state(plan, clock, log)?;
    if let Some(state) = state {
        state.keep(&house.usage).map_err(StartFault::System)?;
    }
    Ok(house)
}

/// Opens a house while another process still has the file of the state; [`Running::succeeds`] takes
/// it over.
///
/// # Errors
/// Where a key or a certificate of the plan cannot be used.
pub fn open_without_state(plan: Plan, clock: Clock, log: Log) -> Result<Arc<House>, StartFault> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), log.dropped())
        .map_err(|fault| StartFault::System(io::Error::other(fault)))?;
    Ok(House::open(plan, clock, metrics, log)?)
}

/// Has `house` keep its state in a file that whoever had it has just let go of.
fn take_state_over(house: &House, path: &Path) {
    let mut tries = 0;
    let opened = loop {
        tries += 1;
        match Opened::open(path) {
            // The kernel may still be clearing up after it.
            Err(StoreFault::InUse(_)) if tries < STATE_TRIES => {}
            opened => break opened,
        }
    };
    let kept = opened.map_err(StartFault::from);
    if let Err(fault) = kept.and_then(|state| state.keep(&house.usage).map_err(StartFault::System)) {
        tracing::error!(%fault, "usage is kept in memory until the next start");
    }
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
    let spare = sockets.again().map_err(StartFault::System)?;
    let certificates = read_certificates(plan).map_err(StartFault::Certificate)?;
    let renewed = certificates.clone();
    let reloader = Reloader::new(Arc::clone(&house), origin, Box::new(move |plan| renew(&renewed, plan)));

    let threads = worker_threads(plan.threads);
    let conf = ServerConf {
        threads,
        // Where one thread does it all there is nobody to take work from, and a scheduler that expects
        // somebody costs a twentieth of a small call.
        work_stealing: threads > 1,
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

    let pulse = Pulse::default();
    let watched = pulse::interval();
    let mut planes = Vec::new();
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
        let visitors = Visitors::default();
        let app = Counted::new(app, visitors.clone());
        let address = key_of(&socket)?;
        let mut service = Service::new(format!("data {address}"), app);
        // Where TLS is spoken, it is behind the gate. It reads its records in small steps, which a buffer
        // joins; what reads plain bytes has one of its own. What is written is joined above TLS (`layers`).
        let read_buffer = if listen.tls.is_some() { TLS_READ } else { 0 };
        let buffers = L4BufferSettings::unbuffered().read(read_buffer);
        service.add_listener(ListenerConfig::tcp(address.as_str()).l4_buffer(buffers));
        service.threads = Some(conf.threads);
        let has_begun = Arc::default();
        planes.extend(socket.local_addr().ok().map(|address| Plane {
            address,
            path: listen.tls.is_none().then_some("/health"),
            visitors,
            has_begun: Arc::clone(&has_begun),
        }));
        let beats = watched.map(|interval| (pulse.add(), interval));
        server.add_service(Bound {
            inner: service,
            address,
            socket: Some(socket),
            stop: None,
            has_begun,
            beats,
        });
    }
    let steward = Steward::new(Arc::clone(&house), Arc::clone(&reloader), plan, crate::proxy::explain);
    let address = key_of(&sockets.admin)?;
    let visitors = Visitors::default();
    let app = Counted::new(Admin::new(steward, plan.admin.address, Vec::new()), visitors.clone());
    let mut service = Service::new("admin".to_owned(), app);
    service.add_tcp(&address);
    service.threads = Some(1);
    let has_begun = Arc::default();
    planes.extend(admin.map(|address| Plane {
        address,
        path: Some("/livez"),
        visitors,
        has_begun: Arc::clone(&has_begun),
    }));
    let (admin_stop, stop) = watch::channel(false);
    let admin_stop = Arc::new(admin_stop);
    let beats = watched.map(|interval| (pulse.add(), interval));
    server.add_service(Bound {
        inner: service,
        address,
        socket: Some(sockets.admin),
        stop: Some((stop, Arc::clone(&admin_stop))),
        has_begun,
        beats,
    });

    let at = house.clock.wall();
    let started = Event::Started { version: env!("CARGO_PKG_VERSION"), generation: live.generation };
    house.events.tell(at, started);
    house.audit.process(at, "start");
    let (stop, stopped) = watch::channel(false);
    std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || server.run(RunArgs { shutdown_signal: Box::new(Stop(stopped)) }))
        .map_err(StartFault::System)?;
    let has_state = Arc::new(AtomicBool::new(true));
    Ok(Running { house, reloader, stop, admin_stop, planes, gate, pulse, spare, has_state, data, admin })
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
    /// Waits until every listener has answered a request, or has let others in while ours waits behind
    /// them: a crowd that connected while nobody was there comes first.
    ///
    /// # Errors
    /// Where one has not after ten seconds.
    pub fn wait_until_ready(&self) -> io::Result<()> {
        let end = self.house.clock.tick().after(READY_LIMIT);
        for plane in &self.planes {
            let mut asked = 0;
            loop {
                asked += 1;
                let answer = wait_for_answer(plane.address, plane.path);
                // Where the socket is shared, it may have been the other process that answered.
                let is_served = plane.visitors.came() > 0;
                let is_crowded = plane.visitors.came() > asked;
                if plane.has_begun.load(Ordering::Acquire) && ((answer.is_ok() && is_served) || is_crowded) {
                    break;
                }
                if self.house.clock.tick() >= end {
                    let why = answer.err().map_or(String::new(), |fault| format!(": {fault}"));
                    return Err(io::Error::other(format!("{} is not served{why}", plane.address)));
                }
                std::thread::sleep(READY_LOOK);
            }
        }
        Ok(())
    }

    /// Takes the file of the state over once the process before this one is gone.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn succeeds(&self, predecessor: relief::Predecessor) -> io::Result<()> {
        let Some(path) = self.house.live().plan.state.clone() else { return Ok(()) };
        self.has_state.store(false, Ordering::Release);
        let (house, has_state) = (Arc::clone(&self.house), Arc::clone(&self.has_state));
        std::thread::Builder::new().name("succession".to_owned()).spawn(move || {
            predecessor.until_gone();
            take_state_over(&house, &path);
            has_state.store(true, Ordering::Release);
        })?;
        Ok(())
    }

    /// Keeps the process until it is told to leave; returns when `main` may return, and what it is to
    /// drop last.
    pub fn keep(self, keeper: Keeper, launcher: &Launcher) -> Option<Departure> {
        let Keeper { runtime, hangup, rotated, relieved } = keeper;
        runtime.block_on(self.watch(Signals { hangup, rotated, relieved }, launcher))
    }

    /// Drains and waits for the end, at most `grace`; for a process that ends by itself.
    pub async fn drain(&self) {
        self.house.drain();
        let _ = self.stop.send(true);
        self.until_idle(|here| if here == 0 { LOOKS_ALONE } else { LOOKS_IN_COMPANY }).await;
    }

    /// The same where another process has the place: connections that ask for nothing are waited for,
    /// since the next request on each of them is answered, and told to be the last.
    async fn drain_relieved(&self) {
        let _ = self.admin_stop.send(true);
        self.house.drain();
        let _ = self.stop.send(true);
        self.until_idle(|here| if here == 0 { LOOKS_IN_COMPANY } else { u32::MAX }).await;
    }

    /// Waits until nothing is under way for as many looks in a row as `enough` wants with so many
    /// connections open, and until the state is ours to be written.
    async fn until_idle(&self, enough: impl Fn(u32) -> u32) {
        let end = self.house.clock.tick().after(self.house.live().plan.grace);
        let mut idle_looks = 0;
        loop {
            let here = self.gate.here();
            if idle_looks >= enough(here) && self.has_state.load(Ordering::Acquire) {
                return;
            }
            if self.house.clock.tick() >= end {
                return self.part().await;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
            idle_looks = if self.house.under_way() == 0 { idle_looks.saturating_add(1) } else { 0 };
        }
    }

    /// Ends what is under way, each request with its own last word and its line.
    async fn part(&self) {
        self.house.parting.begin();
        let end = self.house.clock.tick().after(LAST_WORDS);
        let mut was_under_way = true;
        // Once more behind the last: a line is written when its request is under way no longer.
        while was_under_way && self.house.clock.tick() < end {
            was_under_way = self.house.under_way() > 0;
            tokio::time::sleep(PART_LOOK).await;
        }
    }

    async fn watch(mut self, signals: Signals, launcher: &Launcher) -> Option<Departure> {
        let Signals { mut hangup, mut rotated, mut relieved } = signals;
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return None;
        };
        let teller = pulse::interval().and_then(|interval| pulse::tell(&self.pulse, interval).ok());
        let mut fresh_addresses = tokio::time::interval(crate::resolve::REFRESH);
        let mut fresh_keys = tokio::time::interval(KEYS_LOOK);
        fresh_keys.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut relief: Option<Relief> = None;
        let successor = loop {
            tokio::select! {
                _ = hangup.recv() => self.spawn_reload(),
                _ = rotated.recv() => self.house.audit.reopen(),
                _ = relieved.recv() => relief = self.call_relief(relief, launcher),
                came = arrival(&mut relief) => {
                    relief = None;
                    match came {
                        Ok(successor) => break Some(successor),
                        Err(why) => unrelieved(&why),
                    }
                }
                _ = fresh_addresses.tick() => {
                    let house = Arc::clone(&self.house);
                    // This runtime lasts as long as the process; those that serve may not.
                    house.tend_tokens();
                    house.memory.tend();
                    tokio::spawn(async move { house.refresh_addresses().await });
                }
                _ = fresh_keys.tick() => self.house.tend_keys(),
                () = self.house.state_due() => self.house.tell_states(),
                _ = interrupt.recv() => {
                    self.house.drain();
                    self.part().await;
                    return None;
                }
                _ = terminate.recv() => break None,
            }
        };
        // A new process that is not ready yet is ended with its task.
        drop(relief);
        self.spare.clear();
        let departure = successor.map(|successor| {
            notify(&[sd_notify::NotifyState::MainPid(successor.pid), sd_notify::NotifyState::Ready]);
            // From here on the service manager listens to the new process only.
            drop(teller);
            tracing::info!(successor = successor.pid, under_way = self.house.under_way(), "relieved");
            successor.yields()
        });
        if departure.is_none() {
            notify(&[sd_notify::NotifyState::Stopping]);
            tracing::info!(under_way = self.house.under_way(), "draining");
        }
        let leave =
            async { if departure.is_some() { self.drain_relieved().await } else { self.drain().await } };
        tokio::select! {
            () = leave => {}
            _ = interrupt.recv() => self.part().await,
        }
        departure
    }

    /// Starts a new process to take the place, where none is on its way.
    fn call_relief(&self, running: Option<Relief>, launcher: &Launcher) -> Option<Relief> {
        if running.is_some() {
            tracing::warn!("a new process is on its way already");
            return running;
        }
        match launcher.launch(&self.spare) {
            Ok(successor) => {
                tracing::info!(successor = successor.pid, "a new process is to take over");
                Some(Relief(tokio::spawn(successor.until_ready())))
            }
            Err(why) => {
                unrelieved(&why);
                None
            }
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

/// The signals of a running process that its start has taken over.
struct Signals {
    hangup: Signal,
    rotated: Signal,
    relieved: Signal,
}

/// A new process on its way; ended where this is dropped before it is ready.
struct Relief(tokio::task::JoinHandle<Result<Successor, String>>);

impl Drop for Relief {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for what becomes of a new process; for ever where there is none.
async fn arrival(relief: &mut Option<Relief>) -> Result<Successor, String> {
    match relief {
        Some(relief) => (&mut relief.0).await.unwrap_or_else(|_| Err("waiting for it failed".to_owned())),
        None => std::future::pending().await,
    }
}

/// Says that no new process takes the place.
fn unrelieved(why: &str) {
    tracing::error!(reason = why, "the new process does not take over; this one serves on");
    notify(&[sd_notify::NotifyState::Status(&format!("upgrade failed, serving on: {why}"))]);
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
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(reachable, address.port()), ASK_LIMIT)?;
    let Some(path) = path else { return Ok(()) };
    stream.set_read_timeout(Some(ASK_LIMIT))?;
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
    /// What ends it in place of TERM. The admin plane has its own: who drains wants to see `readyz`
    /// say so, and the last scrape.
    stop: Option<(ShutdownWatch, Arc<watch::Sender<bool>>)>,
    has_begun: Arc<AtomicBool>,
    /// What the runtime shows that it turns by, and within which time, where a watchdog asks.
    beats: Option<(Arc<std::sync::atomic::AtomicU64>, Duration)>,
}

#[async_trait]
impl<S: PingoraService> PingoraService for Bound<S> {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners: usize) {
        if let (Some(table), Some(socket)) = (&fds, self.socket.take()) {
            table.lock().add(self.address.clone(), socket.into_raw_fd());
        }
        if let Some((counter, interval)) = self.beats.take() {
            tokio::spawn(pulse::beat(counter, interval));
        }
        self.has_begun.store(true, Ordering::Release);
        // Its other end is held as long as the service lasts: an end of it would be taken for trouble.
        let (stop, _held) = self.stop.take().map_or((shutdown, None), |(stop, held)| (stop, Some(held)));
        self.inner.start_service(fds, stop, listeners).await;
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn threads(&self) -> Option<usize> {
        self.inner.threads()
    }
}
