//! How do the planes come to stand on their sockets?
//!
//! A listener of the data plane is a service of Pingora's, one for each, since cleartext HTTP/2 is a
//! setting of the service and not of the socket; the admin plane is one more, on a runtime of its own.
//! Each finds its socket in Pingora's table of inherited descriptors, and counts as there when it has
//! answered a request ([`Running::wait_until_ready`]).

use super::certificate::Certificates;
use super::gate::{self, Door, Gate};
use super::pulse::{self, Pulse};
use super::visitors::{Counted, Own, Visitors};
use super::{Running, Sockets, StartFault, keeper, process};
use crate::admin::Admin;
use crate::admin::steward::{Doors, Steward};
use crate::config::plan::Plan;
use crate::live::House;
use crate::observe::events::Event;
use crate::proxy::Front;
use crate::reload::{Origin, Prepared, Reloader};
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long the listeners may take to answer their first request.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long one answer to that question may take.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How often a listener is asked until it answers.
const READY_LOOK: Duration = Duration::from_millis(2);
/// Idle HTTP/2 connections of clients are closed after this.
const H2_IDLE: Duration = Duration::from_secs(300);
/// Read at once of a TLS connection, in bytes: a record.
const TLS_READ: usize = 16 * 1024;
/// Connections to providers that are kept idle, over all.
const UPSTREAM_POOL: usize = 512;

/// A listener, as whoever waits for it sees it.
pub(super) struct Plane {
    address: SocketAddr,
    /// What it is asked for; TLS listeners are only connected to.
    path: Option<&'static str>,
    visitors: Visitors,
    own: Own,
    has_begun: Arc<AtomicBool>,
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
    let doors = Doors { data: sockets.listeners(), admin, takes_over: sockets.takes_over };
    let spare = sockets.again().map_err(StartFault::System)?;
    let certificates = Certificates::read(&plan.listen).map_err(StartFault::Certificate)?;
    let shown = certificates.clone();
    let prepare = move |plan: &Plan| -> Result<Prepared, String> {
        let renewal = shown.look(&plan.listen)?;
        Ok(Prepared { changed: renewal.changed(), finish: Box::new(move || renewal.show()) })
    };
    let heard = Arc::new(keeper::tell_reload);
    let reloader = Reloader::new(Arc::clone(&house), origin, Arc::new(prepare), heard);

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
    for ((listen, socket), certificate) in sockets.data.into_iter().zip(certificates.each()) {
        let mut options = HttpServerOptions::default();
        options.h2c = listen.h2c;
        options.h2_idle_timeout = Some(H2_IDLE);
        let front = Front::new(Arc::clone(&house), &conf, options);
        let tls = match (certificate, &listen.tls) {
            (Some(certificate), Some(files)) => {
                let settings = certificate.settings(files).map_err(StartFault::Certificate)?;
                Some((settings.build(), Arc::clone(certificate)))
            }
            (None, _) | (_, None) => None,
        };
        let door = Door { tls, h2c: listen.h2c };
        let own = Own::default();
        let app = Gate::new(front, Arc::clone(&house), gate.clone(), door, own.clone());
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
            own,
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
    let steward = Steward::new(Arc::clone(&house), Arc::clone(&reloader), plan, doors, crate::proxy::explain);
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
        own: Own::default(),
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
                let answer = wait_for_answer(plane.address, plane.path, &plane.own);
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
}

/// Asks a listener for a page until it answers; TLS listeners are only connected to.
fn wait_for_answer(address: SocketAddr, path: Option<&str>, own: &Own) -> io::Result<()> {
    let reachable = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(reachable, address.port()), ASK_LIMIT)?;
    let Some(path) = path else {
        // Noted before it ends, which is what makes it a handshake that failed.
        own.note(stream.local_addr()?);
        return Ok(());
    };
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
