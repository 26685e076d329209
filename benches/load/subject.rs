//! The proxies under measurement: how each is configured, started and found ready.
//!
//! nginx and the bare proxy choose by port (nginx by one `server` per kind of work), pointsman by
//! the route in the body; so a subject has one address per kind of work.

use crate::client::{Connection, render};
use crate::process::{Running, free_address};
use anyhow::{Context as _, bail};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A proxy has this long to answer its first request.
const START: Duration = Duration::from_secs(15);

/// The stand-in provider, running.
pub struct Provider {
    _process: Running,
    /// Answers.
    pub good: SocketAddr,
    /// Answers 429.
    pub limited: SocketAddr,
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
}

impl Kind {
    /// Name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Bare => "bare Pingora",
            Self::Pointsman => "pointsman",
            Self::PointsmanQuiet => "pointsman, log: warn",
        }
    }
}

/// A running proxy.
pub struct Subject {
    /// Which one.
    pub kind: Kind,
    /// Its process; none for direct calls.
    pub process: Option<Running>,
    /// Where plain requests go.
    pub plain: SocketAddr,
    /// Where streams go.
    pub stream: SocketAddr,
    /// Where requests go whose first target answers 429; none where it cannot move on.
    pub failover: Option<SocketAddr>,
    _folder: TempDir,
}

/// Starts the stand-in provider.
pub fn start_provider() -> anyhow::Result<Provider> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut process = Running::start(command.arg("provider").stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(process.output()?).read_line(&mut line)?;
    let (good, limited) = line.trim().split_once(' ').context("the stand-in provider did not start")?;
    Ok(Provider { good: good.parse()?, limited: limited.parse()?, _process: process })
}

/// The proxies that can be measured here; each that cannot be is told with a sentence.
pub fn available() -> Vec<Kind> {
    let mut kinds = Vec::new();
    if nginx_version().is_some() {
        kinds.push(Kind::Nginx);
    } else {
        eprintln!("load: nginx is not installed and left out (Debian package: nginx-light)");
    }
    kinds.push(Kind::Bare);
    let binary = pointsman_binary();
    if binary.is_file() {
        kinds.push(Kind::Pointsman);
        kinds.push(Kind::PointsmanQuiet);
    } else {
        eprintln!("load: pointsman is left out: {} is not there (cargo build --release)", binary.display());
    }
    kinds
}

/// `nginx/1.22.1`, or nothing where there is none.
pub fn nginx_version() -> Option<String> {
    let output = Command::new("nginx").arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.trim().rsplit_once(' ').map(|(_, version)| version.to_owned())
}

fn pointsman_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("POINTSMAN_BIN") {
        return path.into();
    }
    // The bench is `target/release/deps/load-HASH`.
    let beside = std::env::current_exe().ok();
    let folder = beside.as_deref().and_then(Path::parent).and_then(Path::parent);
    folder.unwrap_or(Path::new("target/release")).join("pointsman")
}

impl Subject {
    /// Starts a proxy and waits until it answers.
    pub async fn start(kind: Kind, provider: &Provider) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut subject = match kind {
            Kind::Direct => Self {
                kind,
                process: None,
                plain: provider.good,
                stream: provider.good,
                failover: None,
                _folder: folder,
            },
            Kind::Nginx => start_nginx(provider, folder)?,
            Kind::Bare => start_bare(provider, folder)?,
            Kind::Pointsman => start_pointsman(kind, "info", provider, folder)?,
            Kind::PointsmanQuiet => start_pointsman(kind, "warn", provider, folder)?,
        };
        subject.wait_until_ready().await?;
        Ok(subject)
    }

    /// The process; direct calls have none.
    pub fn process(&self) -> anyhow::Result<&Running> {
        self.process.as_ref().with_context(|| format!("{} has no process", self.kind.name()))
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        let request = render("bench", 256, "");
        loop {
            let answer = async { Connection::open(self.plain).await?.ask(&request).await }.await;
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

fn start_bare(provider: &Provider, folder: TempDir) -> anyhow::Result<Subject> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", &address.to_string(), &provider.good.to_string()]);
    let process = Running::start(silent(&mut command))?;
    Ok(Subject {
        kind: Kind::Bare,
        process: Some(process),
        plain: address,
        stream: address,
        failover: None,
        _folder: folder,
    })
}

fn start_pointsman(kind: Kind, level: &str, provider: &Provider, folder: TempDir) -> anyhow::Result<Subject> {
    let (address, admin) = (free_address()?, free_address()?);
    let (good, limited) = (provider.good, provider.limited);
    let file = folder.path().join("pointsman.yaml");
    let text = format!(
        "version: 1
threads: 1
listen:
  - {{address: \"{address}\"}}
admin: {{address: \"{admin}\"}}
providers:
  good: {{kind: openai, base_url: \"http://{good}/v1\"}}
  limited: {{kind: openai, base_url: \"http://{limited}/v1\"}}
routes:
  bench:
    targets:
      - {{provider: good, model: m}}
  fail:
    targets:
      - {{provider: limited, model: m, priority: 1}}
      - {{provider: good, model: m, priority: 2}}
breaker: {{enabled: false}}
cooldown: {{default: 0s}}
log: {{level: {level}, format: json}}
"
    );
    std::fs::write(&file, text)?;
    let binary = pointsman_binary();
    let check = Command::new(&binary).arg("check").arg("-c").arg(&file).output()?;
    if !check.status.success() {
        let words = [check.stdout, check.stderr].concat();
        bail!("pointsman does not take the bench's configuration: {}", String::from_utf8_lossy(&words));
    }
    let mut command = Command::new(&binary);
    command.arg("run").arg("-c").arg(&file).env("RUNTIME_DIRECTORY", folder.path());
    let process = Running::start(silent(&mut command))?;
    Ok(Subject {
        kind,
        process: Some(process),
        plain: address,
        stream: address,
        failover: Some(address),
        _folder: folder,
    })
}

fn start_nginx(provider: &Provider, folder: TempDir) -> anyhow::Result<Subject> {
    let (plain, stream, failover) = (free_address()?, free_address()?, free_address()?);
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, nginx_conf(provider, folder.path(), plain, stream, failover))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-e").arg("stderr").arg("-c").arg(&file);
    let process = Running::start(silent(&mut command))?;
    Ok(Subject {
        kind: Kind::Nginx,
        process: Some(process),
        plain,
        stream,
        failover: Some(failover),
        _folder: folder,
    })
}

/// One process (`master_process off`), so that its CPU is one line in `/proc`. The body's buffer
/// is what anyone proxying prompts would set; with the default, 32 KB bodies go through a file.
fn nginx_conf(
    provider: &Provider,
    folder: &Path,
    plain: SocketAddr,
    stream: SocketAddr,
    failover: SocketAddr,
) -> String {
    let (good, limited, folder) = (provider.good, provider.limited, folder.display());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|what| format!("  {what}_temp_path {folder}/{what};\n")).concat();
    format!(
        "daemon off;
master_process off;
worker_rlimit_nofile 4096;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4000; }}
http {{
{temporary}  access_log /dev/null;
  keepalive_requests 100000000;
  client_body_buffer_size 1m;
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  upstream good {{ server {good}; keepalive 128; keepalive_requests 100000000; }}
  upstream fail {{
    server {limited} max_fails=0;
    server {good} backup;
    keepalive 128;
    keepalive_requests 100000000;
  }}
  server {{ listen {plain}; location / {{ proxy_pass http://good; }} }}
  server {{ listen {stream}; location / {{ proxy_pass http://good; proxy_buffering off; }} }}
  server {{
    listen {failover};
    location / {{ proxy_pass http://fail; proxy_next_upstream error timeout http_429 non_idempotent; }}
  }}
}}
"
    )
}

/// A log that nobody reads: /dev/null costs the write and no disk.
fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
