//! The proxies under measurement: who there is, and how one is started and found ready.
//!
//! The plain proxies choose by port, one for each kind of work ([`Work`]); pointsman and LiteLLM by
//! the model in the body, Portkey by a header. So a subject has one [`Road`] for each kind of work
//! that it can do. What it is told is in [`crate::plain`], [`crate::ours`] and [`crate::gateways`].

use crate::client::{Connection, render};
use crate::process::{Running, free_address};
use crate::provider::{WAYS, Way};
use crate::{gateways, ours, plain};
use anyhow::{Context as _, bail, ensure};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A proxy has this long to answer its first request; gateways in Python need most of it.
const START: Duration = Duration::from_secs(90);

/// Silence after which a proxy leaves a target that has said nothing, in milliseconds.
pub const SILENCE_MS: u32 = 100;

/// The stand-in provider, running.
pub struct Provider {
    _process: Running,
    ports: Vec<SocketAddr>,
}

impl Provider {
    /// Starts it.
    pub fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process =
            Running::start(command.arg("provider").stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let mut line = String::new();
        BufReader::new(process.output()?).read_line(&mut line)?;
        let ports: Vec<SocketAddr> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        ensure!(ports.len() == WAYS.len(), "the stand-in provider did not start");
        Ok(Self { _process: process, ports })
    }

    /// Where it behaves like that.
    pub fn at(&self, way: Way) -> SocketAddr {
        WAYS.iter().zip(&self.ports).find(|(have, _)| **have == way).map_or(([0; 4], 0).into(), |(_, at)| *at)
    }
}

/// A kind of work: which providers stand behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One that answers.
    Plain,
    /// The same, for streams.
    Stream,
    /// One that fails in that way, then one that answers.
    Failover(Way),
    /// Two that are both flaky.
    Flaky,
}

/// All of them.
pub const WORKS: [Work; 7] = [
    Work::Plain,
    Work::Stream,
    Work::Failover(Way::Limited),
    Work::Failover(Way::Broken),
    Work::Failover(Way::Reset),
    Work::Failover(Way::Stalled),
    Work::Flaky,
];

impl Work {
    /// Its name, where a proxy wants one.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "bench",
            Self::Stream => "stream",
            Self::Failover(way) => match way {
                Way::Limited => "limited",
                Way::Broken => "broken",
                Way::Reset => "reset",
                Way::Stalled => "stalled",
                Way::Good | Way::Flaky | Way::FlakyToo => "other",
            },
            Self::Flaky => "flaky",
        }
    }

    /// The providers behind, in order.
    pub fn behind(self, provider: &Provider) -> Vec<SocketAddr> {
        match self {
            Self::Plain | Self::Stream => vec![provider.at(Way::Good)],
            Self::Failover(way) => vec![provider.at(way), provider.at(Way::Good)],
            Self::Flaky => vec![provider.at(Way::Flaky), provider.at(Way::FlakyToo)],
        }
    }
}

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No proxy: the client calls the provider.
    Direct,
    /// nginx, one worker.
    Nginx,
    /// `bare.rs`.
    Bare,
    /// pointsman as shipped: one line of log per request.
    Pointsman,
    /// pointsman with `log: {level: warn}`.
    PointsmanQuiet,
    /// HAProxy, one thread.
    Haproxy,
    /// Envoy, one worker.
    Envoy,
    /// Portkey's gateway, one Node process.
    Portkey,
    /// LiteLLM's proxy, one worker.
    Litellm,
}

/// What is measured only with `--rivals`.
pub const RIVALS: [Kind; 4] = [Kind::Haproxy, Kind::Envoy, Kind::Portkey, Kind::Litellm];

impl Kind {
    /// Name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "no proxy",
            Self::Nginx => "nginx",
            Self::Bare => "bare Pingora",
            Self::Pointsman => "pointsman",
            Self::PointsmanQuiet => "pointsman, log: warn",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Portkey => "Portkey",
            Self::Litellm => "LiteLLM",
        }
    }

    /// Whether it was asked for by `--rivals`.
    pub fn is_rival(self) -> bool {
        RIVALS.contains(&self)
    }

    /// Whether it writes answers anew, so that their length says nothing.
    pub fn rewrites(self) -> bool {
        matches!(self, Self::Portkey | Self::Litellm)
    }

    /// How many times fewer requests it is given than the fast ones, to end in the same time.
    pub fn slowness(self) -> usize {
        match self {
            Self::Direct
            | Self::Nginx
            | Self::Bare
            | Self::Pointsman
            | Self::PointsmanQuiet
            | Self::Haproxy
            | Self::Envoy => 1,
            Self::Portkey => 20,
            Self::Litellm => 100,
        }
    }
}

/// Where a kind of work goes, and how it is named there.
#[derive(Clone, Debug)]
pub struct Road {
    /// Address of the proxy.
    pub address: SocketAddr,
    /// `model` of the body.
    pub model: String,
    /// Lines of the head, each with its line end.
    pub header: String,
}

impl Road {
    /// A road that is told by its port alone.
    pub fn by_port(address: SocketAddr) -> Self {
        Self { address, model: "bench".to_owned(), header: String::new() }
    }
}

/// A running proxy.
pub struct Subject {
    /// Which one.
    pub kind: Kind,
    process: Option<Running>,
    roads: Vec<(Work, Road)>,
    _folder: TempDir,
}

/// What a proxy is started with.
pub struct Launch {
    /// None for direct calls.
    pub command: Option<Command>,
    /// The kinds of work that it can do.
    pub roads: Vec<(Work, Road)>,
}

/// The proxies that can be measured here; each that cannot be, with the reason.
pub fn available(with_rivals: bool) -> (Vec<Kind>, Vec<String>) {
    let mut missing = Vec::new();
    let mut kinds = vec![Kind::Direct, Kind::Nginx, Kind::Bare, Kind::Pointsman, Kind::PointsmanQuiet];
    kinds.extend(RIVALS.iter().filter(|_| with_rivals));
    kinds.retain(|kind| match version(*kind) {
        Ok(_) => true,
        Err(_) if *kind == Kind::PointsmanQuiet => false,
        Err(reason) => {
            missing.push(format!("{} ({reason})", kind.name()));
            false
        }
    });
    if !with_rivals {
        missing.extend(RIVALS.map(|kind| format!("{} (not asked for; --rivals)", kind.name())));
    }
    (kinds, missing)
}

/// What it calls itself, or why it is not there.
pub fn version(kind: Kind) -> Result<String, String> {
    match kind {
        Kind::Direct | Kind::Bare => Ok(String::new()),
        Kind::Nginx => plain::nginx_version(),
        Kind::Pointsman | Kind::PointsmanQuiet => ours::version(),
        Kind::Haproxy => plain::haproxy_version(),
        Kind::Envoy => plain::envoy_version(),
        Kind::Portkey => gateways::portkey_version(),
        Kind::Litellm => gateways::litellm_version(),
    }
}

impl Subject {
    /// Starts a proxy and waits until it answers.
    pub async fn start(kind: Kind, provider: &Provider) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let launch = match kind {
            Kind::Direct => Launch { command: None, roads: direct(provider) },
            Kind::Nginx => plain::nginx(provider, folder.path())?,
            Kind::Bare => bare(provider)?,
            Kind::Pointsman => ours::launch("info", &ours::few_routes(provider), folder.path())?,
            Kind::PointsmanQuiet => ours::launch("warn", &ours::few_routes(provider), folder.path())?,
            Kind::Haproxy => plain::haproxy(provider, folder.path())?,
            Kind::Envoy => plain::envoy(provider, folder.path())?,
            Kind::Portkey => gateways::portkey(provider)?,
            Kind::Litellm => gateways::litellm(provider, folder.path())?,
        };
        Self::launch(kind, launch, folder).await
    }

    /// Starts pointsman with 1,000 routes of three targets each.
    pub async fn start_wide(provider: &Provider) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let launch = ours::launch("info", &ours::many_routes(provider), folder.path())?;
        Self::launch(Kind::Pointsman, launch, folder).await
    }

    async fn launch(kind: Kind, launch: Launch, folder: TempDir) -> anyhow::Result<Self> {
        let process = launch.command.map(|mut command| Running::start(silent(&mut command))).transpose()?;
        let mut subject = Self { kind, process, roads: launch.roads, _folder: folder };
        subject.wait_until_ready().await?;
        Ok(subject)
    }

    /// The process; direct calls have none.
    pub fn process(&self) -> anyhow::Result<&Running> {
        self.process.as_ref().with_context(|| format!("{} has no process", self.kind.name()))
    }

    /// Where this work goes; none where it cannot do it.
    pub fn road(&self, work: Work) -> Option<&Road> {
        self.roads.iter().find(|(have, _)| *have == work).map(|(_, road)| road)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        let road = self.road(Work::Plain).context("it can do nothing")?.clone();
        let request = render(&road, 256, "");
        loop {
            let answer = async { Connection::open(road.address).await?.ask(&request).await }.await;
            match answer {
                Ok(answer) if answer.status == 200 => return Ok(()),
                _ if self.process.as_mut().is_some_and(Running::has_ended) => {
                    bail!("{} ended before it answered", self.kind.name())
                }
                Ok(answer) if Instant::now() > deadline => {
                    bail!("{} answers {} to the first request", self.kind.name(), answer.status)
                }
                Err(fault) if Instant::now() > deadline => {
                    return Err(fault).with_context(|| format!("{} does not answer", self.kind.name()));
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// Calls without a proxy go to the first provider of each kind of work that does not fail always.
fn direct(provider: &Provider) -> Vec<(Work, Road)> {
    let works = [Work::Plain, Work::Stream, Work::Flaky];
    works
        .into_iter()
        .filter_map(|work| Some((work, Road::by_port(*work.behind(provider).first()?))))
        .collect()
}

fn bare(provider: &Provider) -> anyhow::Result<Launch> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", &address.to_string(), &provider.at(Way::Good).to_string()]);
    let roads = [Work::Plain, Work::Stream].map(|work| (work, Road::by_port(address))).into();
    Ok(Launch { command: Some(command), roads })
}

/// Nobody reads the log: /dev/null costs the write and no disk. `LOAD_LOUD=1` shows it.
fn silent(command: &mut Command) -> &mut Command {
    if std::env::var_os("LOAD_LOUD").is_some() {
        return command.stdin(Stdio::null());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
