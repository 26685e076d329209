//! The plain proxies: nginx, HAProxy and Envoy, each with one worker, kept connections on both sides
//! and a port for each kind of work. They move on where they can:
//!
//! * nginx by `proxy_next_upstream` to a backup server, after 429 and 500, resets and silence;
//! * HAProxy by `retry-on` and `redispatch`, after 500, resets and silence; 2.6 knows no 429;
//! * Envoy by a retry policy that leaves out the priorities that were tried, after all of them.
//!
//! None of them can go on in the middle of a stream.

use crate::process::{files_allowed, free_address};
use crate::subject::{Launch, Provider, Road, SILENCE_MS, WORKS, Work};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::provider::Way;

/// `nginx/1.22.1`, or what would bring it.
pub fn nginx_version() -> Result<String, String> {
    let said = first_line("nginx", "-v").ok_or("not installed: Debian package nginx-light")?;
    Ok(said.rsplit_once(' ').map_or(said.clone(), |(_, version)| version.to_owned()))
}

/// `HAProxy 2.6.12`, or what would bring it.
pub fn haproxy_version() -> Result<String, String> {
    let said = first_line(program("HAPROXY_BIN", "haproxy"), "-v").ok_or("not installed: make rivals")?;
    let version =
        said.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
    Ok(format!("HAProxy {}", version.unwrap_or("?").split('-').next().unwrap_or_default()))
}

/// `Envoy 1.40.0`, or what would bring it.
pub fn envoy_version() -> Result<String, String> {
    let said = first_line(program("ENVOY_BIN", "envoy"), "--version").ok_or("not installed: make rivals")?;
    Ok(format!("Envoy {}", said.split('/').rev().nth(3).unwrap_or("?")))
}

/// A program that is named by a variable, or was put there by `make rivals`, or is on the path.
fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let installed = rivals().join(name).join("program");
    if installed.exists() { installed } else { name.into() }
}

/// Where `make rivals` puts what it installs.
pub fn rivals() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    std::path::absolute(target.join("rivals")).unwrap_or_default()
}

fn first_line(program: impl AsRef<std::ffi::OsStr>, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

type Ports = Vec<(Work, SocketAddr, Vec<SocketAddr>)>;

/// A free port for each kind of work, and what stands behind it.
fn ports(provider: &Provider, has: fn(Work) -> bool) -> anyhow::Result<Ports> {
    WORKS
        .into_iter()
        .filter(|work| has(*work))
        .map(|work| Ok((work, free_address()?, work.behind(provider))))
        .collect()
}

fn roads(ports: &Ports) -> Vec<(Work, Road)> {
    ports.iter().map(|(work, address, _)| (*work, Road::by_port(*address))).collect()
}

/// One process (`master_process off`), so that its CPU is one line in `/proc`. The body's buffer
/// is what anyone proxying prompts would set; with the default, 32 KB bodies go through a file.
pub fn nginx(provider: &Provider, folder: &Path) -> anyhow::Result<Launch> {
    let ports = ports(provider, |_| true)?;
    let mut servers = String::new();
    for (work, address, behind) in &ports {
        let word = work.word();
        let _ = writeln!(servers, "  upstream {word} {{");
        for (at, server) in behind.iter().enumerate() {
            let _ =
                writeln!(servers, "    server {server} max_fails=0{};", if at > 0 { " backup" } else { "" });
        }
        let mut more = String::new();
        if behind.len() > 1 {
            more += " proxy_next_upstream error timeout http_429 http_500 non_idempotent;";
        }
        if matches!(work, Work::Stream | Work::Flaky | Work::Failover(Way::Stalled)) {
            more += " proxy_buffering off;";
        }
        if *work == Work::Failover(Way::Stalled) {
            let _ = write!(more, " proxy_read_timeout {SILENCE_MS}ms;");
        }
        let _ = writeln!(
            servers,
            "    keepalive 128;\n    keepalive_requests 100000000;\n  }}\n  \
             server {{ listen {address}; location / {{ proxy_pass http://{word};{more} }} }}"
        );
    }
    let here = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|what| format!("  {what}_temp_path {here}/{what};\n")).concat();
    let files = files_allowed();
    // With a sixteenth of them left it closes connections that have not asked yet.
    let connections = files * 2;
    let text = format!(
        "daemon off;
master_process off;
worker_rlimit_nofile {files};
pid {here}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {connections}; }}
http {{
{temporary}  access_log /dev/null;
  keepalive_requests 100000000;
  client_max_body_size 16m;
  client_body_buffer_size 8m;
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
{servers}}}
"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-e").arg("stderr").arg("-c").arg(&file);
    Ok(Launch { command: Some(command), roads: roads(&ports) })
}

/// `balance first` takes the first server, and after a fault the next.
pub fn haproxy(provider: &Provider, folder: &Path) -> anyhow::Result<Launch> {
    let ports = ports(provider, |work| work != Work::Failover(Way::Limited))?;
    let mut text = format!(
        "global
  nbthread 1
  maxconn {}
defaults
  mode http
  timeout connect 2s
  timeout client 120s
  timeout server 120s
  timeout http-keep-alive 120s
  option http-keep-alive
  http-reuse always
  retries 2
  option redispatch 1
",
        files_allowed() / 2 - 100
    );
    for (work, address, behind) in &ports {
        let word = work.word();
        let _ = writeln!(text, "listen {word}\n  bind {address}\n  balance first");
        if behind.len() > 1 {
            text += "  retry-on 500 conn-failure empty-response junk-response response-timeout\n";
        }
        if *work == Work::Failover(Way::Stalled) {
            let _ = writeln!(text, "  timeout server {SILENCE_MS}ms");
        }
        for (at, server) in behind.iter().enumerate() {
            let _ = writeln!(text, "  server s{at} {server} pool-max-conn 256");
        }
    }
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text)?;
    let mut command = Command::new(program("HAPROXY_BIN", "haproxy"));
    // -db: in the foreground, one process.
    command.arg("-db").arg("-f").arg(&file);
    Ok(Launch { command: Some(command), roads: roads(&ports) })
}

/// One listener and one cluster for each kind of work; its second target is a priority of its own.
pub fn envoy(provider: &Provider, folder: &Path) -> anyhow::Result<Launch> {
    let ports = ports(provider, |_| true)?;
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for (work, address, behind) in &ports {
        let word = work.word();
        let mut retry = String::new();
        if behind.len() > 1 {
            retry += ", retry_policy: {retry_on: \"5xx,reset,retriable-status-codes\", \
                retriable_status_codes: [429], num_retries: 2, \
                retry_back_off: {base_interval: 0.001s, max_interval: 0.001s}, \
                retry_priority: {name: envoy.retry_priorities.previous_priorities, typed_config: {\
                \"@type\": type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig, \
                update_frequency: 1}}";
            if *work == Work::Failover(Way::Stalled) {
                let _ = write!(retry, ", per_try_timeout: {}s", f64::from(SILENCE_MS) / 1000.0);
            }
            retry.push('}');
        }
        let _ = writeln!(
            listeners,
            "  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {word}
          stream_idle_timeout: 120s
          route_config: {{virtual_hosts: [{{name: all, domains: [\"*\"], routes: [{{match: {{prefix: /}}, route: {{cluster: {word}, timeout: 120s{retry}}}}}]}}]}}
          http_filters: [{{name: envoy.filters.http.router, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]",
            port = address.port()
        );
        let endpoints: Vec<String> = behind
            .iter()
            .enumerate()
            .map(|(at, server)| {
                format!(
                    "{{priority: {at}, lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}",
                    server.port()
                )
            })
            .collect();
        let many = "max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 100000";
        let _ = writeln!(
            clusters,
            "  - name: {word}
    type: STATIC
    connect_timeout: 2s
    circuit_breakers: {{thresholds: [{{priority: DEFAULT, {many}}}]}}
    load_assignment: {{cluster_name: {word}, endpoints: [{}]}}",
            endpoints.join(", ")
        );
    }
    let file = folder.join("envoy.yaml");
    std::fs::write(&file, format!("static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}"))?;
    let mut command = Command::new(program("ENVOY_BIN", "envoy"));
    command.args(["--concurrency", "1", "--log-level", "critical", "--disable-hot-restart", "-c"]).arg(&file);
    Ok(Launch { command: Some(command), roads: roads(&ports) })
}
