//! How does a provider behave that does what a script says?
//!
//! [`Provider`] is an LLM provider on loopback: it speaks the OpenAI, Anthropic and Gemini shapes
//! over HTTP/1.1, HTTP/2 without TLS (prior knowledge) and, given a certificate, TLS with either.
//! It answers well, or fails in every way of the failure table (`docs`, failure semantics), and
//! tells what it saw. The tests, the load bench and `pointsman demo` stand on it; the proxy never
//! does.
//!
//! * [`Reply`] says one answer or fault, without a dialect; [`Script`] says which reply comes next;
//!   [`Seen`] is one request as it arrived, with its ending.
//! * [`caller`] is the other end: a small client that measures and can leave early.
//! * [`grants`] are token services (OAuth, Entra, Google, Copilot, AWS) and a provider that verifies
//!   signatures as AWS does.
//! * [`flaky`] is the provider of the demo, which fails in turns; [`wall`] plays the sixteen
//!   scenarios of a public failover bench.
//!
//! It listens on loopback only, on a free port unless it is handed a socket, and stops when dropped.
//! It can go down and come back on its port. It refuses to be a mock of the
//! proxy: it decides nothing, it follows the script. Everything has a limit (head 1 MiB, body
//! 64 MiB, 256 MiB of recorded bodies), so that a runaway client ends a test, not the machine.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use pointsman::standin::{Provider, Reply, Script};
//! let provider = Provider::start(Script::of([Reply::status(503)]).then(Reply::ok())).await?;
//! // … point something at provider.base_url() …
//! assert_eq!(provider.count(), 0);
//! # Ok(()) }
//! ```

mod answers;
mod ask;
pub mod caller;
pub mod flaky;
pub mod grants;
mod gzip;
mod http1;
mod http2;
mod journal;
mod moves;
mod reply;
mod script;
#[cfg(test)]
mod selftest;
mod tls;
pub mod wall;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

pub use self::journal::{Ending, HttpVersion, Seen};
pub use self::reply::{GREETING, Gate, Place, Refusal, Reply, SIXTY_WORDS, Twist};
pub use self::script::Script;
pub use self::tls::Certificate;

use self::ask::Ask;
use self::journal::Journal;

/// Connections that may wait for a provider that came back.
const BACKLOG: u32 = 1024;

/// What all connections of a provider share.
struct House {
    journal: Journal,
    script: Mutex<(Script, Instant)>,
    opened: Instant,
    /// Counts the farewells to the HTTP/2 connections that stand.
    farewells: watch::Sender<u64>,
}

impl House {
    fn new(script: Script) -> Arc<House> {
        // The tokio clock, so that a test that pauses time pauses the stand-in with it.
        let opened = Instant::now();
        let script = Mutex::new((script, opened));
        Arc::new(House { journal: Journal::new(), script, opened, farewells: watch::Sender::new(0) })
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Returns the reply where the script needs no body to choose it.
    fn choose_before_body(&self, seen: &Seen) -> Option<Arc<Reply>> {
        let (script, since) = self.script.lock().clone();
        if script.needs_body() { None } else { Some(script.choose(seen, since.elapsed())) }
    }

    fn choose(&self, seen: &Seen) -> Arc<Reply> {
        let (script, since) = self.script.lock().clone();
        script.choose(seen, since.elapsed())
    }

    /// Enters a complete body and returns what it asks for.
    fn read_body(&self, seen: &mut Seen) -> Ask {
        let ask = Ask::read(&seen.method, &seen.path, &seen.body, http1::is_anthropic(seen));
        seen.model.clone_from(&ask.model);
        seen.is_streamed = ask.is_streamed;
        seen.body_complete = Some(self.now());
        self.journal.update(seen);
        ask
    }

    /// Enters how a request ended; the first ending holds.
    fn end(&self, seen: &mut Seen, ending: Ending) {
        if seen.ending == Ending::Pending {
            seen.ending = ending;
            seen.ended = Some(self.now());
            self.journal.update(seen);
        }
    }
}

/// A provider on loopback. Dropping it closes its port and all its connections.
pub struct Provider {
    house: Arc<House>,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    serving: Option<JoinHandle<()>>,
    /// Sockets that only hold a port or fill a backlog.
    held: Vec<Held>,
}

/// A socket that is kept for what it occupies.
enum Held {
    Port(TcpSocket),
    #[expect(dead_code, reason = "held, never used: closing it is what must not happen")]
    Backlog(TcpListener),
    #[expect(dead_code, reason = "held, never used: closing it is what must not happen")]
    Filler(TcpStream),
}

impl Provider {
    /// Starts a provider on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be bound. Must be called inside a tokio runtime.
    pub async fn start(script: impl Into<Script>) -> io::Result<Provider> {
        Provider::listen(script.into(), None).await
    }

    /// Starts a provider that speaks TLS only, with this certificate.
    ///
    /// # Errors
    /// When no port can be bound or the PEM texts hold no usable certificate and key.
    pub async fn start_tls(script: impl Into<Script>, certificate: &Certificate<'_>) -> io::Result<Provider> {
        Provider::listen(script.into(), Some(certificate.acceptor()?)).await
    }

    async fn listen(script: Script, tls: Option<TlsAcceptor>) -> io::Result<Provider> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Provider::on(script, listener, tls)
    }

    /// Starts a provider on a socket that listens already: for a port that somebody else chose.
    ///
    /// # Errors
    /// When the socket has no address. Must be called inside a tokio runtime.
    pub fn start_on(script: impl Into<Script>, listener: TcpListener) -> io::Result<Provider> {
        Provider::on(script.into(), listener, None)
    }

    fn on(script: Script, listener: TcpListener, tls: Option<TlsAcceptor>) -> io::Result<Provider> {
        let address = listener.local_addr()?;
        let house = House::new(script);
        let serving = Some(tokio::spawn(serve(listener, Arc::clone(&house), tls.clone())));
        Ok(Provider { house, address, tls, serving, held: Vec::new() })
    }

    /// Returns a provider whose port refuses connections. The port stays taken, so that nobody
    /// else can turn up on it.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn refused() -> io::Result<Provider> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        Ok(Provider::unserved(address, vec![Held::Port(socket)]))
    }

    /// Returns a provider whose port answers no connection attempt at all: its backlog is full, so
    /// the kernel drops every SYN and the caller runs into its own connect timeout.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn unreachable() -> io::Result<Provider> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(0)?;
        let address = listener.local_addr()?;
        let mut held = vec![Held::Backlog(listener)];
        // Linux takes backlog + 1 connections; the loop ends at the first that hangs.
        for _ in 0..16 {
            match tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
                Ok(filler) => held.push(Held::Filler(filler?)),
                Err(_) => break,
            }
        }
        Ok(Provider::unserved(address, held))
    }

    fn unserved(address: SocketAddr, held: Vec<Held>) -> Provider {
        let house = House::new(Script::always(Reply::ok()));
        Provider { house, address, tls: None, serving: None, held }
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns `http://127.0.0.1:PORT` (`https` with a certificate), the base URL for Anthropic
    /// clients.
    #[must_use]
    pub fn origin(&self) -> String {
        self.origin_as("127.0.0.1")
    }

    /// Returns the origin under another name for the same address, as a certificate has it.
    #[must_use]
    pub fn origin_as(&self, host: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{host}:{}", self.address.port())
    }

    /// Returns `http://127.0.0.1:PORT/v1`, the base URL for OpenAI clients.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// Returns every request so far, in order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.house.journal.seen()
    }

    /// Returns the newest request.
    #[must_use]
    pub fn last(&self) -> Option<Seen> {
        self.seen().pop()
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.house.journal.requests()
    }

    /// Returns the number of connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.house.journal.connections()
    }

    /// Returns the number of connections so far whose TLS session was resumed.
    #[must_use]
    pub fn resumptions(&self) -> u64 {
        self.house.journal.resumptions()
    }

    /// Returns the time since the start, on the clock of the offsets in [`Seen`].
    #[must_use]
    pub fn now(&self) -> Duration {
        self.house.now()
    }

    /// Waits until what was seen satisfies `is_so`; false when `limit` passed first.
    pub async fn until(&self, limit: Duration, is_so: impl Fn(&[Seen]) -> bool) -> bool {
        tokio::time::timeout(limit, self.house.journal.until(is_so)).await.is_ok()
    }

    /// Follows another script from the next request on.
    pub fn set_script(&self, script: impl Into<Script>) {
        *self.house.script.lock() = (script.into(), Instant::now());
    }

    /// Forgets what was seen and starts the script from its beginning.
    pub fn reset(&self) {
        self.house.journal.reset();
        let mut script = self.house.script.lock();
        script.0.rewind();
        script.1 = Instant::now();
    }

    /// Keeps only counts from now on (for load), or records again.
    pub fn record(&self, is_recording: bool) {
        self.house.journal.record(is_recording);
    }

    /// Tells every HTTP/2 connection that it takes no new streams (`GOAWAY` with `NO_ERROR`); those under
    /// way go on.
    pub fn say_farewell(&self) {
        self.house.farewells.send_modify(|count| *count += 1);
    }

    /// Closes all connections at once and refuses new ones, but keeps the port: until
    /// [`Provider::come_back`].
    ///
    /// # Errors
    /// When the port is lost to somebody else.
    pub async fn go_down(&mut self) -> io::Result<()> {
        let Some(serving) = self.serving.take() else { return Ok(()) };
        serving.abort();
        // An aborted task ends with an error; what counts is that its sockets are closed.
        let _ = serving.await;
        let socket = TcpSocket::new_v4()?;
        // The connections of before may linger on the port.
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        self.held.push(Held::Port(socket));
        Ok(())
    }

    /// Listens again on the port that it went down on, or refused connections on from the start.
    ///
    /// # Errors
    /// When the port does not listen. Must be called inside a tokio runtime.
    pub fn come_back(&mut self) -> io::Result<()> {
        let Some(at) = self.held.iter().position(|held| matches!(held, Held::Port(_))) else {
            return Ok(());
        };
        if let Held::Port(socket) = self.held.swap_remove(at) {
            let listener = socket.listen(BACKLOG)?;
            self.serving = Some(tokio::spawn(serve(listener, Arc::clone(&self.house), self.tls.clone())));
        }
        Ok(())
    }

    /// Closes the port and all connections at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        self.held.clear();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Accepts until aborted; the set goes down with it and takes the connections along.
async fn serve(listener: TcpListener, house: Arc<House>, tls: Option<TlsAcceptor>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of descriptors: the next turn may find one, a busy loop would not help it.
                let Ok((socket, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                // Without it a two-write answer waits for the other side's delayed ACK.
                let _ = socket.set_nodelay(true);
                let house = Arc::clone(&house);
                match tls.clone() {
                    Some(tls) => open.spawn(serve_tls(socket, house, tls)),
                    None => open.spawn(serve_plain(socket, house)),
                };
            }
            Some(_) = open.join_next() => {}
        }
    }
}

async fn serve_plain(socket: TcpStream, house: Arc<House>) {
    let connection = house.journal.enter_connection();
    match starts_with_preface(&socket).await {
        Ok(true) => http2::serve(socket, connection, house).await,
        Ok(false) => http1::serve(socket, connection, house).await,
        Err(_) => {}
    }
}

async fn serve_tls(socket: TcpStream, house: Arc<House>, tls: TlsAcceptor) {
    let connection = house.journal.enter_connection();
    // A client that does not like the certificate leaves here.
    let Ok(socket) = tls.accept(socket).await else { return };
    if socket.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        house.journal.enter_resumption();
    }
    if socket.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::serve(socket, connection, house).await;
    } else {
        http1::serve(socket, connection, house).await;
    }
}

/// Tells whether a connection begins like HTTP/2 with prior knowledge (RFC 9113 section 3.4).
async fn starts_with_preface(socket: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = socket.peek(&mut first).await?;
        let begun = first.get(..count).unwrap_or_default();
        if count == 0 || !PREFACE.starts_with(begun) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // Peeking leaves the socket readable, so readiness alone would spin here.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
