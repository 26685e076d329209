//! The real program, started with a configuration file and asked to leave at the end.

use std::collections::VecDeque;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pointsman::standin::caller::Call;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longest time until it is ready.
const START: Duration = Duration::from_secs(20);

/// Lines of the log that are kept: more than a drill of requests that are judged by it writes.
const LINES_MAX: usize = 50_000;

/// A running pointsman. It is killed when this is dropped.
pub struct Process {
    pub data: SocketAddr,
    /// Where else it listens.
    pub others: Vec<SocketAddr>,
    pub admin: SocketAddr,
    log: Arc<Mutex<VecDeque<String>>>,
    child: Child,
    head: String,
    folder: tempfile::TempDir,
}

impl Process {
    /// Starts the program that `POINTSMAN_BIN` names, or the one that was built with this test.
    /// `listen` and `admin` are added to the configuration, on free ports.
    pub async fn start(configuration: &str, environment: &[(String, String)]) -> Process {
        Process::listening("{address: \"127.0.0.1:0\"}", "", configuration, environment).await
    }

    /// The same, for clients that speak HTTP/2 with prior knowledge, too.
    pub async fn start_h2c(configuration: &str, environment: &[(String, String)]) -> Process {
        Process::listening("{address: \"127.0.0.1:0\", h2c: true}", "", configuration, environment).await
    }

    /// The same, with these lines of `listen` and of `admin`.
    pub async fn listening(
        listen: &str,
        admin: &str,
        configuration: &str,
        environment: &[(String, String)],
    ) -> Process {
        let folder = tempfile::tempdir().expect("a folder for the configuration");
        let path = folder.path().join("pointsman.yaml");
        let head = format!("version: 1\nlisten: [{listen}]\nadmin: {{address: \"127.0.0.1:0\"{admin}}}\n");
        write(&path, &format!("{head}{configuration}"));
        let program =
            std::env::var("POINTSMAN_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pointsman").to_owned());
        let mut child = Command::new(program)
            .args(["run", "-c"])
            .arg(&path)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let mut addresses = None;
        let starting = async {
            while let Ok(Some(line)) = lines.next_line().await {
                addresses = ready(&line);
                keep(&log, line);
                if addresses.is_some() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(START, starting).await;
        let Some((data, others, admin)) = addresses else {
            let state = child.try_wait();
            panic!("pointsman is not ready, {state:?}: {:#?}", log.lock().expect("log"));
        };
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&kept, line);
            }
        });
        Process { data, others, admin, log, child, head, folder }
    }

    /// Returns the id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// Puts another configuration behind `listen` and `admin` and hangs up.
    pub fn reload(&self, configuration: &str) {
        let path = self.folder.path().join("pointsman.yaml");
        write(&path, &format!("{}{configuration}", self.head));
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process has an id");
        // Whether it still lives is judged by who asks it.
        let _ = kill_process(pid, Signal::HUP);
    }

    /// Returns the last lines of the log.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let log = self.log.lock().expect("log");
        log.iter().skip(log.len().saturating_sub(count)).cloned().collect()
    }

    /// Returns the lines of the log with that message.
    pub fn lines_of(&self, message: &str) -> Vec<String> {
        let word = format!("\"msg\":\"{message}\"");
        self.log.lock().expect("log").iter().filter(|line| line.contains(&word)).cloned().collect()
    }

    /// Returns a sample of the metrics page whose labels hold each of `labels`, where there is one.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let page = Call::get("/metrics").send(self.admin).await.ok()?.body_text();
        page.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .find(|line| labels.iter().all(|label| line.contains(label)))
            .and_then(|line| line.rsplit(' ').next()?.parse().ok())
    }
}

/// A configuration may hold a key, so it is its owner's alone.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the configuration is written");
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("the configuration is ours");
}

fn keep(log: &Mutex<VecDeque<String>>, line: String) {
    let mut log = log.lock().expect("log");
    log.push_back(line);
    if log.len() > LINES_MAX {
        log.pop_front();
    }
}

/// Reads the addresses out of the line that says that it is ready.
fn ready(line: &str) -> Option<(SocketAddr, Vec<SocketAddr>, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    if line["msg"] != "ready" {
        return None;
    }
    let mut data = line["data"].as_str()?.split(',').map(str::parse);
    let first = data.next()?.ok()?;
    Some((first, data.collect::<Result<_, _>>().ok()?, line["admin"].as_str()?.parse().ok()?))
}
