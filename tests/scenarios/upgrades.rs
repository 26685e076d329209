//! The program is upgraded and restarted over and over under load.
//!
//! Requests come at a steady pace whatever becomes of those before, half of them over connections that
//! are kept, some over HTTP/2; beside them twenty streams run at any time.
//!
//! * *Upgrades*: USR2, a few seconds apart, so that several processes drain at a time. No request may
//!   be refused, none cut, no kept connection closed but after an answer that says so, every stream
//!   whole.
//! * *Restarts*: the drill holds the listening sockets as systemd does, sends TERM and starts the
//!   program anew when it has ended. A stream is under way each time; who connects meanwhile waits in
//!   the queue of the socket. None is refused, none cut, every stream whole. A kept connection that
//!   closes unasked while it is idle is opened anew, as every client does (RFC 9112, 9.3.1), and
//!   counted.
//!
//! The stand-ins share the machine with all of it and may be slow to be connected to: that is not what
//! this is about, so there is time for it and no breaker.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pointsman::standin::caller::{BodyEnd, Call, Connection};
use pointsman::standin::{Provider, Reply, SIXTY_WORDS};
use rustix::process::{Pid, Signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Streams that run at a time.
const STREAMS: usize = 20;
/// Longest time of a call, waiting in the queue included.
const LIMIT: Duration = Duration::from_secs(60);
/// Longest time until a process is ready or has ended.
const SOON: Duration = Duration::from_secs(60);
/// Kept connections that are idle for longer are left.
const KEPT: Duration = Duration::from_secs(2);

/// How much of it.
#[derive(Clone, Copy)]
struct Profile {
    times: usize,
    /// Requests a second.
    rate: u32,
    /// Length of a stream.
    stream: Duration,
    /// Time between two upgrades.
    apart: Duration,
    /// What is left of the streams when TERM comes.
    left: Duration,
}

const FULL: Profile = Profile {
    times: 20,
    rate: 200,
    stream: Duration::from_secs(20),
    apart: Duration::from_secs(4),
    left: Duration::from_secs(5),
};
const SHORT: Profile = Profile {
    times: 2,
    rate: 100,
    stream: Duration::from_millis(2400),
    apart: Duration::from_millis(800),
    left: Duration::from_millis(800),
};

/// Upgrades and restarts; tells whether nobody noticed.
pub async fn play(is_full: bool) -> bool {
    let profile = if is_full { FULL } else { SHORT };
    let mut is_good = true;
    for kind in [Kind::Upgrades, Kind::Restarts] {
        is_good &= phase(kind, profile).await;
    }
    is_good
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Upgrades,
    Restarts,
}

async fn phase(kind: Kind, profile: Profile) -> bool {
    let pace = profile.stream / 60;
    let quick = Provider::start(Reply::ok()).await.expect("a provider starts");
    let long = Provider::start(Reply::says(SIXTY_WORDS).delay(pace)).await.expect("a provider starts");
    // Counts will do.
    quick.record(false);
    long.record(false);
    let mut service = Service::start(kind, &quick, &long);
    let data = service.data;
    let tally = Arc::new(Tally::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(kind, data, profile, Arc::clone(&tally), Arc::clone(&is_over)));
    for turn in 0..profile.times {
        match kind {
            Kind::Upgrades => {
                tokio::time::sleep(profile.apart).await;
                service.upgrade(turn);
            }
            Kind::Restarts => {
                // All at one time, so that what is left of them is known.
                let streams: Vec<_> = (0..STREAMS)
                    .map(|number| tokio::spawn(stream(data, number, Arc::clone(&tally))))
                    .collect();
                tokio::time::sleep(profile.stream.saturating_sub(profile.left)).await;
                service.restart(turn);
                for stream in streams {
                    let _ = stream.await;
                }
            }
        }
    }
    if kind == Kind::Upgrades {
        // The last one serves alone for a while.
        tokio::time::sleep(profile.apart).await;
    }
    is_over.store(true, Ordering::Release);
    let _ = load.await;
    let complaints = tally.complaints.lock().expect("complaints").clone();
    let of = |count: &AtomicUsize| count.load(Ordering::Acquire);
    println!(
        "{kind:?}: {} of {}, {} requests and {} streams whole, {} connections asked to close, {} closed while idle, {} refused or cut",
        service.done,
        profile.times,
        of(&tally.whole),
        of(&tally.streams),
        of(&tally.asked_to_close),
        of(&tally.closed_idle),
        of(&tally.bad)
    );
    let left = service.end().await;
    for line in complaints.iter().chain(&left) {
        println!("  {line}");
    }
    if of(&tally.bad) > 0 {
        let log = service.log.lock().expect("log");
        log.iter().for_each(|line| println!("    {line}"));
    }
    let kept_well = kind == Kind::Restarts || of(&tally.closed_idle) == 0;
    of(&tally.bad) == 0 && kept_well && service.done == profile.times && left.is_empty()
}

/// What came of all calls.
#[derive(Default)]
struct Tally {
    whole: AtomicUsize,
    streams: AtomicUsize,
    asked_to_close: AtomicUsize,
    closed_idle: AtomicUsize,
    bad: AtomicUsize,
    /// The first of the bad.
    complaints: Mutex<Vec<String>>,
}

impl Tally {
    fn complain(&self, what: String) {
        if self.bad.fetch_add(1, Ordering::AcqRel) < 10 {
            self.complaints.lock().expect("complaints").push(what);
        }
    }
}

/// Connections that may be used again, the one that was idle longest first.
type Pool = Arc<Mutex<VecDeque<(Connection, Instant)>>>;

/// Sends requests at a steady pace until it is over, and waits for all of them.
async fn load(kind: Kind, data: SocketAddr, profile: Profile, tally: Arc<Tally>, is_over: Arc<AtomicBool>) {
    let pool = Pool::default();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / profile.rate);
    let mut under_way = JoinSet::new();
    let mut streams = JoinSet::new();
    let mut number = 0_usize;
    while !is_over.load(Ordering::Acquire) {
        beat.tick().await;
        number += 1;
        under_way.spawn(request(data, number, Arc::clone(&pool), Arc::clone(&tally)));
        while under_way.try_join_next().is_some() {}
        while streams.try_join_next().is_some() {}
        // Begun one after another, so that some are young and some old at any time. A restart waits for
        // the youngest, and whoever comes meanwhile for the restart: its streams are of one age.
        if kind == Kind::Upgrades && streams.len() < STREAMS && number.is_multiple_of(10) {
            streams.spawn(stream(data, number, Arc::clone(&tally)));
        }
    }
    while under_way.join_next().await.is_some() {}
    while streams.join_next().await.is_some() {}
}

async fn request(data: SocketAddr, number: usize, pool: Pool, tally: Arc<Tally>) {
    let call = Call::chat("quick").limit(LIMIT);
    let is_kept = number.is_multiple_of(2);
    let kept = is_kept.then(|| {
        let mut pool = pool.lock().expect("pool");
        pool.retain(|(_, since)| since.elapsed() < KEPT);
        pool.pop_front()
    });
    let mut came = None;
    if let Some((connection, _)) = kept.flatten() {
        match connection.send(&call).await {
            Ok(answer) if answer.0.status > 0 => came = Some(Ok(answer)),
            Ok(_) | Err(_) => drop(tally.closed_idle.fetch_add(1, Ordering::AcqRel)),
        }
    }
    let came = match came {
        Some(came) => came,
        None if number % 10 == 1 => call.http2().send(data).await.map(|answer| (answer, None)),
        None => match Connection::open(data).await {
            Ok(connection) => connection.send(&call).await,
            Err(fault) => Err(fault),
        },
    };
    match came {
        Ok((answer, connection)) if answer.status == 200 && answer.end == BodyEnd::Clean => {
            tally.whole.fetch_add(1, Ordering::AcqRel);
            let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            tally.asked_to_close.fetch_add(usize::from(closes), Ordering::AcqRel);
            if let Some(connection) = connection.filter(|_| is_kept) {
                pool.lock().expect("pool").push_back((connection, Instant::now()));
            }
        }
        Ok((answer, _)) => {
            tally.complain(format!(
                "request {number}: {} {:?} {}",
                answer.status,
                answer.end,
                answer.body_text()
            ));
        }
        Err(fault) => tally.complain(format!("request {number}: {fault}")),
    }
}

async fn stream(data: SocketAddr, number: usize, tally: Arc<Tally>) {
    let call = Call::chat_stream("long").limit(LIMIT);
    let call = if number.is_multiple_of(4) { call.http2() } else { call };
    let began = Instant::now();
    match call.send(data).await {
        Ok(answer)
            if answer.text() == SIXTY_WORDS && answer.end == BodyEnd::Clean && answer.has_end_marker() =>
        {
            tally.streams.fetch_add(1, Ordering::AcqRel);
        }
        Ok(answer) => {
            let body = answer.body_text();
            let tail = body.char_indices().nth_back(150).map_or(0, |(at, _)| at);
            tally.complain(format!(
                "stream {number}: {} {:?} after {} of {} bytes, begun {:?} before: … {:?}",
                answer.status,
                answer.end,
                answer.text().len(),
                SIXTY_WORDS.len(),
                began.elapsed(),
                body.get(tail..)
            ));
        }
        Err(fault) => tally.complain(format!("stream {number}: {fault}")),
    }
}

/// The program, and all processes that it was.
struct Service {
    kind: Kind,
    data: SocketAddr,
    folder: tempfile::TempDir,
    sockets: Vec<TcpListener>,
    /// Those that this one started; the others are their children.
    children: Vec<Child>,
    /// Lines of the log of all of them.
    log: Arc<Mutex<Vec<String>>>,
    /// Upgrades or restarts that took place.
    done: usize,
}

impl Service {
    fn start(kind: Kind, quick: &Provider, long: &Provider) -> Service {
        let folder = tempfile::tempdir().expect("a folder for the configuration");
        // The program binds its own where nobody holds them for it.
        let held = if kind == Kind::Restarts { 2 } else { 0 };
        let sockets: Vec<_> =
            (0..held).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let address = |at: usize| match sockets.get(at) {
            Some(socket) => socket.local_addr().expect("an address"),
            None => SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let mut text = format!(
            "version: 1\nthreads: 2\ngrace: 40s\nlog: {{format: json}}\nlimits: {{in_flight: 20000}}\nbreaker: {{enabled: false}}\ncooldown: {{default: 0s}}\ntimeouts: {{connect: 30s}}\nstate: {{path: {}}}\nlisten: [{{address: \"{}\", h2c: true}}]\nadmin: {{address: \"{}\"}}\nproviders:\n",
            folder.path().join("state.db").display(),
            address(0),
            address(1)
        );
        for (name, provider) in [("quick", quick), ("long", long)] {
            let _ = writeln!(text, "  {name}: {{kind: openai, base_url: \"{}\"}}", provider.base_url());
        }
        text.push_str("routes:\n");
        for name in ["quick", "long"] {
            let _ = writeln!(text, "  {name}: {{targets: [{{provider: {name}, model: m}}]}}");
        }
        std::fs::write(folder.path().join("pointsman.yaml"), text).expect("the configuration is written");
        let mut service = Service {
            kind,
            data: address(0),
            folder,
            sockets,
            children: Vec::new(),
            log: Arc::default(),
            done: 0,
        };
        service.launch();
        let ready = service.lines_of("ready").pop().expect("it is ready");
        service.data = ready["data"].as_str().and_then(|data| data.parse().ok()).expect("an address");
        service
    }

    fn launch(&mut self) {
        let program =
            std::env::var("POINTSMAN_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pointsman").to_owned());
        let mut script = String::new();
        let mut open = Vec::new();
        for (at, socket) in self.sockets.iter().enumerate() {
            // Inherited, and above what the shell uses itself.
            let held = rustix::io::fcntl_dupfd_cloexec(socket, 200).expect("a descriptor");
            rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::empty()).expect("it is inherited");
            let _ = write!(script, "exec {0}<&{1} {1}<&-; ", at + 3, held.as_raw_fd());
            open.push(held);
        }
        if !open.is_empty() {
            let _ = write!(script, "export LISTEN_PID=$$ LISTEN_FDS={}; ", open.len());
        }
        script.push_str("exec \"$0\" \"$@\"");
        let mut child = Command::new("bash")
            .arg("-c")
            .arg(script)
            .arg(program)
            .args(["run", "-c"])
            .arg(self.folder.path().join("pointsman.yaml"))
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // A line a request is more than anybody wants to look through.
                if !line.contains("\"msg\":\"request\"") {
                    log.lock().expect("log").push(line);
                }
            }
        });
        self.children.push(child);
        let ready = self.children.len();
        if self.kind == Kind::Upgrades || ready == 1 {
            assert!(self.wait_for("ready", ready), "it is not ready: {:#?}", self.log.lock().expect("log"));
        }
    }

    /// Returns the lines of the log with that message.
    fn lines_of(&self, message: &str) -> Vec<serde_json::Value> {
        let log = self.log.lock().expect("log");
        let lines = log.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| line["msg"] == message).collect()
    }

    /// Waits for so many of these lines, off the load's runtime threads as far as that goes.
    fn wait_for(&self, message: &str, count: usize) -> bool {
        let end = Instant::now() + SOON;
        while self.lines_of(message).len() < count {
            if Instant::now() >= end {
                return false;
            }
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(10)));
        }
        true
    }

    fn newest(&self) -> Option<Pid> {
        let pid = self.lines_of("ready").last()?["pid"].as_i64()?;
        Pid::from_raw(i32::try_from(pid).ok()?)
    }

    fn upgrade(&mut self, turn: usize) {
        let told = self.newest().map(|pid| rustix::process::kill_process(pid, Signal::USR2));
        if matches!(told, Some(Ok(()))) && self.wait_for("took over", turn + 1) {
            self.done += 1;
        }
    }

    fn restart(&mut self, turn: usize) {
        let told = self.newest().map(|pid| rustix::process::kill_process(pid, Signal::TERM));
        let Some(child) = self.children.last_mut() else { return };
        let ended = tokio::task::block_in_place(|| child.wait());
        self.launch();
        let is_good = matches!(told, Some(Ok(()))) && ended.is_ok_and(|status| status.success());
        if is_good && self.wait_for("ready", turn + 2) {
            self.done += 1;
        }
    }

    /// Ends all of them; returns what the log holds that should not be there.
    async fn end(&mut self) -> Vec<String> {
        if let Some(newest) = self.newest() {
            // All others have been told before.
            let _ = rustix::process::kill_process(newest, Signal::TERM);
        }
        let groups: Vec<_> = self.children.iter().filter_map(group).collect();
        let end = Instant::now() + SOON;
        let mut odd = Vec::new();
        for group in groups {
            // Of a group that is empty the kernel knows nothing; what nobody waited for counts.
            while rustix::process::test_kill_process_group(group).is_ok() {
                self.children.iter_mut().for_each(|child| drop(child.try_wait()));
                if Instant::now() >= end {
                    odd.push(format!("process group {} does not end", group.as_raw_nonzero()));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let log = self.log.lock().expect("log");
        let is_bad =
            |line: &&String| line.contains("\"level\":\"error\"") || line.contains("\"level\":\"warn\"");
        odd.extend(log.iter().filter(is_bad).take(5).cloned());
        odd
    }
}

fn group(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

impl Drop for Service {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Some(group) = group(child) {
                // Most are gone.
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
        }
    }
}
