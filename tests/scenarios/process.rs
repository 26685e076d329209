//! The real program, started with a configuration file and asked to leave at the end.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pointsman::standin::caller::Call;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longest time until it is ready.
const START: Duration = Duration::from_secs(20);

/// A running pointsman. It is killed when this is dropped.
pub struct Process {
    pub data: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts the program that `POINTSMAN_BIN` names, or the one that was built with this test.
    /// `listen` and `admin` are added to the configuration, on free ports.
    pub async fn start(configuration: &str, environment: &[(String, String)]) -> Process {
        Process::listening("{address: \"127.0.0.1:0\"}", configuration, environment).await
    }

    /// The same, for clients that speak HTTP/2 with prior knowledge, too.
    pub async fn start_h2c(configuration: &str, environment: &[(String, String)]) -> Process {
        Process::listening("{address: \"127.0.0.1:0\", h2c: true}", configuration, environment).await
    }

    async fn listening(listen: &str, configuration: &str, environment: &[(String, String)]) -> Process {
        let folder = tempfile::tempdir().expect("a folder for the configuration");
        let path = folder.path().join("pointsman.yaml");
        let text =
            format!("version: 1\nlisten: [{listen}]\nadmin: {{address: \"127.0.0.1:0\"}}\n{configuration}");
        std::fs::write(&path, &text).expect("the configuration is written");
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
        let log = Arc::new(Mutex::new(Vec::new()));
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
        let Some((data, admin)) = addresses else {
            let state = child.try_wait();
            panic!("pointsman is not ready, {state:?}: {:#?}", log.lock().expect("log"));
        };
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&kept, line);
            }
        });
        Process { data, admin, log, _child: child, _folder: folder }
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

fn keep(log: &Mutex<Vec<String>>, line: String) {
    log.lock().expect("log").push(line);
}

/// Reads the addresses out of the line that says that it is ready.
fn ready(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    if line["msg"] != "ready" {
        return None;
    }
    Some((line["data"].as_str()?.parse().ok()?, line["admin"].as_str()?.parse().ok()?))
}
