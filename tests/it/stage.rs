//! A proxy in this process, on ports of its own, with everything it said kept for the test.
//!
//! No `Server`, no signals, no extra runtimes: an accept loop that hands connections to Pingora's
//! own application, so that twenty proxies and providers fit into one test binary.

use pingora::apps::{HttpServerOptions, ServerApp};
use pingora::protocols::Stream;
use pingora::server::configuration::ServerConf;
use pointsman::clock::Clock;
use pointsman::config::{self, Outside, SecretFault, SecretRef, Source};
use pointsman::live::House;
use pointsman::observe::log::{Captured, Log};
use pointsman::observe::metrics::Metrics;
use pointsman::proxy::{Front, Pace};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A running proxy. Dropping it stops its listener.
pub struct Stage {
    pub data: SocketAddr,
    pub house: Arc<House>,
    log: Captured,
    front: Arc<Front>,
    accepting: tokio::task::AbortHandle,
    shutdown: watch::Sender<bool>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What the one variable of the tests' files holds, `GATEWAY_TOKEN`.
pub const GATEWAY_TOKEN: &str = "gw-0123456789abcdef";

/// Literal keys stand in the tests' own files; nothing else comes from outside.
struct Nowhere;

impl Outside for Nowhere {
    fn env(&self, name: &str) -> Option<String> {
        (name == "GATEWAY_TOKEN").then(|| GATEWAY_TOKEN.to_owned())
    }

    fn secret(&self, _what: &SecretRef) -> Result<pointsman::base::secret::Secret, SecretFault> {
        unreachable!("the tests' files hold literal keys")
    }
}

/// Reads a plan from YAML; `version: 1`, `listen` and `admin` are added where they are missing.
pub fn plan(yaml: &str) -> pointsman::config::plan::Plan {
    let mut text = String::new();
    for (key, line) in [
        ("version:", "version: 1\n"),
        ("listen:", "listen: [{address: \"127.0.0.1:0\"}]\n"),
        ("admin:", "admin: {address: \"127.0.0.1:0\"}\n"),
    ] {
        if !yaml.lines().any(|l| l.starts_with(key)) {
            text.push_str(line);
        }
    }
    text.push_str(yaml);
    let reading = config::read(
        &Source { name: "test.yaml", text: &text, is_private: true, is_variable: false },
        &Nowhere,
    );
    let problems: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
    reading.plan.unwrap_or_else(|| panic!("the test's configuration is not sound: {problems:#?}\n{text}"))
}

impl Stage {
    /// Opens a proxy with this configuration.
    pub async fn open(yaml: &str) -> Stage {
        Stage::of(plan(yaml)).await
    }

    /// Opens a proxy with this plan.
    pub async fn of(plan: pointsman::config::plan::Plan) -> Stage {
        Stage::paced(plan, Pace::default()).await
    }

    /// Opens a proxy with this plan whose clients may be this slow.
    pub async fn paced(plan: pointsman::config::plan::Plan, pace: Pace) -> Stage {
        let clock = Clock::new();
        let (log, captured) = Log::capture();
        let metrics = Metrics::new("test", log.dropped()).unwrap();
        let house = House::open(plan, clock, metrics, log).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let data = listener.local_addr().unwrap();
        let mut options = HttpServerOptions::default();
        options.h2c = house.live().plan.listen.first().is_some_and(|listen| listen.h2c);
        let front = Front::paced(Arc::clone(&house), &Arc::new(ServerConf::default()), options, pace);
        let front = Arc::new(front);
        let (shutdown, watch) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&front), watch)).abort_handle();
        Stage { data, house, log: captured, front, accepting, shutdown }
    }

    /// Opens a connection without a socket that holds so many bytes each way: there is room for more
    /// only where the proxy has read.
    pub fn connect(&self, room: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(room);
        let (front, watch) = (Arc::clone(&self.front), self.shutdown.subscribe());
        tokio::spawn(async move { front.serve(Box::new(theirs), false, &watch).await });
        ours
    }

    /// Puts another configuration in force, as a reload does.
    pub fn swap(&self, yaml: &str) -> u64 {
        self.house.swap(plan(yaml)).unwrap()
    }

    /// Returns the lines of the log with this `msg`.
    pub fn said(&self, msg: &str) -> Vec<serde_json::Value> {
        self.log.said(msg)
    }

    /// Returns the metrics as a scrape would see them.
    pub fn metrics(&self) -> String {
        self.house.refresh_gauges();
        String::from_utf8(self.house.metrics.render()).unwrap()
    }

    /// Returns the sum over all series of a metric whose labels hold each of `labels`
    /// (`outcome="ok"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.metrics();
        let series = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

async fn accept<A: ServerApp + Send + Sync + 'static>(
    listener: TcpListener,
    app: Arc<A>,
    shutdown: watch::Receiver<bool>,
) {
    while let Ok((socket, _)) = listener.accept().await {
        socket.set_nodelay(true).unwrap();
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        tokio::spawn(async move {
            let mut stream: Option<Stream> =
                Some(Box::new(pingora::protocols::l4::stream::Stream::from(socket)));
            while let Some(next) = stream.take() {
                stream = app.process_new(next, &shutdown).await;
            }
        });
    }
}

/// Waits until something holds, at most two seconds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(2);
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "not within two seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
