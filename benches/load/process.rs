//! Children and what the kernel says about them.

use anyhow::{Context as _, bail};
use nix::time::ClockId;
use nix::unistd::Pid;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Duration;

/// 10,000 open streams want 20,000 descriptors in a proxy, and pointsman leaves as many again to others.
const FILES_WANTED: u64 = 45_000;

/// Without these the bench is not worth its time.
const FILES_NEEDED: u64 = 4096;

/// Open streams that are wanted at most.
const STREAMS_WANTED: usize = 10_000;

/// A child that ends with its owner.
pub struct Running(Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().with_context(|| format!("cannot start {name}"))?))
    }

    /// Its standard output, once.
    pub fn output(&mut self) -> anyhow::Result<std::process::ChildStdout> {
        self.0.stdout.take().context("standard output was not asked for")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// User and system time of all its threads so far, those that have ended with them.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?);
        Ok(ClockId::pid_cpu_clock_id(pid)?.now()?.into())
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 =
            line.and_then(|line| line.split_whitespace().next()).context("no VmRSS in /proc")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is lost with it; a drain would only take time.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A loopback port that is free now, for a child that wants to be told one.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The load average of the last minute, where it says that others want the processor as well.
pub fn others_at_work() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let average = text.split_whitespace().next()?.parse().ok()?;
    (average > 0.7).then_some(average)
}

/// How many files a process may have open.
pub fn files_allowed() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    if soft == "unlimited" { FILES_WANTED } else { soft.parse().unwrap_or(0) }
}

/// How many streams a proxy may have open: each takes two descriptors, and some are for the rest.
pub fn streams_possible() -> usize {
    let files = usize::try_from(files_allowed()).unwrap_or(usize::MAX);
    (files.saturating_sub(600) / 2).min(STREAMS_WANTED)
}

/// Starts this program again with more open files allowed, where there are too few: as many as are
/// wanted where that may be decided here, else as many as are to be had.
pub fn raise_file_limit() -> anyhow::Result<()> {
    const AGAIN: &str = "POINTSMAN_LOAD_RAISED";
    let files = files_allowed();
    if files >= FILES_WANTED {
        return Ok(());
    }
    if std::env::var_os(AGAIN).is_some() {
        if files < FILES_NEEDED {
            bail!("only {files} open files are allowed and {FILES_NEEDED} are needed; raise `ulimit -n`");
        }
        return Ok(());
    }
    let raise =
        format!("ulimit -n {FILES_WANTED} 2>/dev/null || ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\"");
    let fault = Command::new("sh")
        .args(["-c", &raise])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(AGAIN, "1")
        .exec();
    Err(fault).context("cannot start again with more open files")
}
