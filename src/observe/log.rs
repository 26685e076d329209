//! The log: one writer, never in the way.
//!
//! Request lines, changes of state and tracing's events (ours, and through tracing-log those of
//! Pingora and every other crate) go through one queue of [`QUEUE_LINES`] to one thread that
//! writes to stdout ([`queue`]). Nothing ever waits for it: where the reader of stdout is slow and the queue
//! is full, lines are dropped, counted (`pointsman_log_dropped_total`) and, once there is room again,
//! told about; so are those whose write fails, for a full disk must not stop a request.
//!
//! **Levels.** `log.level` is for our own events. Everyone else is held one step above it, and never
//! below `info`:
//! at `debug` Pingora and h2 print headers and bodies, and so keys and prompts (threat L1).
//! `RUST_LOG` is not read. Request lines are `info` (a 5xx `warn`), changes of state `info` or
//! `warn`. Level and format change with a reload ([`Log::set_policy`]).
//!
//! **Format.** `auto` is logfmt where stdout is a terminal and JSON elsewhere.
//!
//! The log is given its clock as a function, because rooms on one floor do not know each other.

mod layer;
mod queue;

use super::lines::{Line, RequestLine, TargetStateLine};
use crate::base::time::WallTime;
use crate::config::plan::{Level, LogFormat, LogPolicy};
use layer::is_ours;
use parking_lot::Mutex;
use queue::{Entrance, Queue, write_all};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tracing::Metadata;
use tracing_log::LogTracer;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

/// Lines that may wait for the writer: about 5 MB of request lines, a second at 8,000 a second.
pub const QUEUE_LINES: usize = 8192;

/// How often [`Log::flush`] looks whether all is written.
const FLUSH_STEP: Duration = Duration::from_millis(2);

/// Tells the wall clock.
pub type WallSource = Arc<dyn Fn() -> WallTime + Send + Sync>;

/// The log. Copies share one writer.
#[derive(Clone)]
pub struct Log {
    sink: Sink,
    shared: Arc<Shared>,
}

/// What a captured log has taken so far.
#[derive(Clone, Default)]
pub struct Captured {
    lines: Arc<Mutex<Vec<String>>>,
}

/// Passes tracing's events on to the log.
pub struct LogLayer {
    log: Log,
}

/// Tracing has its subscriber already; a process has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log is installed already")]
pub struct InstalledAlready;

/// What the log and its writer both know. It does not hold the queue's sender, so that the
/// writer's end of it closes with the last log.
struct Shared {
    level: AtomicU8,
    is_json: AtomicBool,
    is_installed: AtomicBool,
    wall: WallSource,
    queued: AtomicU64,
    written: AtomicU64,
    dropped: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Sink {
    Queue(Arc<Entrance>),
    Memory(Captured),
}

impl Log {
    /// Starts the writer thread; it ends when the last copy of the log is gone.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn start(policy: LogPolicy, wall: WallSource) -> io::Result<Log> {
        Log::start_into(policy, wall, Box::new(io::stdout()))
    }

    fn start_into(policy: LogPolicy, wall: WallSource, to: Box<dyn Write + Send>) -> io::Result<Log> {
        let queue = Arc::<Queue>::default();
        let shared = Arc::new(Shared::new(policy, wall));
        let (lines, told) = (Arc::clone(&queue), Arc::clone(&shared));
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&lines, &told, to))?;
        Ok(Log { sink: Sink::Queue(Arc::new(Entrance(queue))), shared })
    }

    /// Makes a log that keeps its lines in memory, in JSON and at `trace`; for tests.
    #[must_use]
    pub fn capture() -> (Log, Captured) {
        let captured = Captured::default();
        let policy = LogPolicy { level: Level::Trace, format: LogFormat::Json };
        let shared = Arc::new(Shared::new(policy, Arc::new(|| WallTime(0))));
        (Log { sink: Sink::Memory(captured.clone()), shared }, captured)
    }

    /// Makes this the process's log: of our own tracing events and of what others say through
    /// `tracing` or `log`.
    ///
    /// # Errors
    /// [`InstalledAlready`] the second time.
    pub fn install(&self) -> Result<(), InstalledAlready> {
        tracing::subscriber::set_global_default(Registry::default().with(self.layer()))
            .map_err(|_| InstalledAlready)?;
        LogTracer::init().map_err(|_| InstalledAlready)?;
        self.shared.is_installed.store(true, Ordering::Relaxed);
        self.tell_others();
        Ok(())
    }

    /// Returns the layer that passes tracing's events on; [`Log::install`] does this.
    #[must_use]
    pub fn layer(&self) -> LogLayer {
        LogLayer { log: self.clone() }
    }

    /// Takes over level and format, as a reload does.
    pub fn set_policy(&self, policy: LogPolicy) {
        self.shared.is_json.store(is_json(policy.format), Ordering::Relaxed);
        self.set_level(policy.level);
    }

    /// Takes over a level.
    fn set_level(&self, level: Level) {
        self.shared.level.store(rank(level), Ordering::Relaxed);
        self.tell_others();
    }

    /// Writes what one request came to.
    pub fn request(&self, request: &RequestLine<'_>) {
        if self.shared.takes(request.level()) {
            let mut line = self.shared.line(request.at, request.level(), "request");
            request.write(&mut line);
            self.put(line);
        }
    }

    /// Writes a change of a target's state.
    pub fn target_state(&self, change: &TargetStateLine<'_>) {
        if self.shared.takes(change.level()) {
            let mut line = self.shared.line(change.at, change.level(), "target_state");
            change.write(&mut line);
            self.put(line);
        }
    }

    /// Returns the count of lines that were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.dropped)
    }

    /// Waits until all that was logged before this call is written, `at_most` so long. Blocks the
    /// thread: for the end of the process. Returns whether all was written.
    #[must_use]
    pub fn flush(&self, at_most: Duration) -> bool {
        let Sink::Queue(_) = self.sink else { return true };
        let wanted = self.shared.queued.load(Ordering::Acquire);
        let is_done = || self.shared.written.load(Ordering::Acquire) >= wanted;
        let steps = at_most.as_micros() / FLUSH_STEP.as_micros();
        for _ in 0..steps {
            if is_done() {
                return true;
            }
            std::thread::sleep(FLUSH_STEP);
        }
        is_done()
    }

    fn put(&self, line: Line) {
        let line = line.finish();
        match &self.sink {
            Sink::Memory(captured) => captured.lines.lock().push(line),
            Sink::Queue(entrance) => {
                let count = if entrance.0.put(&line) { &self.shared.queued } else { &*self.shared.dropped };
                count.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// Callers ask `tracing` and `log` first, which remember our answer.
    fn tell_others(&self) {
        if self.shared.is_installed.load(Ordering::Relaxed) {
            log::set_max_level(if self.shared.takes(Level::Info) {
                log::LevelFilter::Info
            } else if self.shared.takes(Level::Warn) {
                log::LevelFilter::Warn
            } else {
                log::LevelFilter::Error
            });
        }
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Captured {
    /// Returns the lines so far, each with its line break.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// Returns the lines with this `msg`, read as JSON.
    #[must_use]
    pub fn said(&self, msg: &str) -> Vec<serde_json::Value> {
        let lines = self.lines.lock();
        let read = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        read.filter(|line| line.get("msg").and_then(serde_json::Value::as_str) == Some(msg)).collect()
    }
}

impl Shared {
    fn new(policy: LogPolicy, wall: WallSource) -> Shared {
        Shared {
            level: AtomicU8::new(rank(policy.level)),
            is_json: AtomicBool::new(is_json(policy.format)),
            is_installed: AtomicBool::new(false),
            wall,
            queued: AtomicU64::new(0),
            written: AtomicU64::new(0),
            dropped: Arc::default(),
        }
    }

    fn takes(&self, level: Level) -> bool {
        rank(level) <= self.level.load(Ordering::Relaxed)
    }

    /// Whether an event of tracing is wanted: ours by the level, others' one step above it (at
    /// `info` their warnings, from `debug` on their `info`), and never below `info`.
    fn takes_event(&self, metadata: &Metadata<'_>) -> bool {
        let level = level_of(*metadata.level());
        if is_ours(metadata.target()) {
            return self.takes(level);
        }
        let floor = if self.takes(Level::Debug) { Level::Info } else { Level::Warn };
        self.takes(level) && rank(level) <= rank(floor)
    }

    fn line(&self, at: WallTime, level: Level, msg: &str) -> Line {
        Line::new(self.is_json.load(Ordering::Relaxed), at, level, msg)
    }
}

fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stdout().is_terminal(),
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::Error => 1,
        Level::Warn => 2,
        Level::Info => 3,
        Level::Debug => 4,
        Level::Trace => 5,
    }
}

fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::layer::without_keys;
    use super::*;
    use crate::observe::lines::VALUE_BYTES_MAX;
    use std::fmt;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const POLICY: LogPolicy = LogPolicy { level: Level::Info, format: LogFormat::Json };

    fn wall() -> WallSource {
        Arc::new(|| WallTime(1_795_227_262_123))
    }

    fn change(target: &str) -> TargetStateLine<'_> {
        TargetStateLine {
            at: WallTime(0),
            target,
            scope: "target",
            from: "cooling",
            to: "ready",
            reason: "probe",
            until: None,
            next: None,
        }
    }

    /// A reader that takes nothing until it is told to.
    struct Stuck {
        go_on: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go_on.recv();
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_never_time() {
        let (go_on, gate) = channel();
        let (taken, reads) = channel();
        let log = Log::start_into(POLICY, wall(), Box::new(Stuck { go_on: gate, taken })).unwrap();
        for _ in 0..QUEUE_LINES * 2 {
            log.target_state(&change("openai/main/gpt-4o"));
        }
        let dropped = log.dropped().load(Ordering::Relaxed);
        assert!(dropped > 0, "the queue holds {QUEUE_LINES} and nobody read");
        assert!(!log.flush(Duration::ZERO));

        drop(go_on);
        assert!(log.flush(Duration::from_secs(10)));
        drop(log);
        let text = String::from_utf8(reads.iter().flatten().collect()).unwrap();
        assert_eq!(text.matches("\"target_state\"").count() as u64, QUEUE_LINES as u64 * 2 - dropped);
        assert!(text.contains(&format!("\"msg\":\"log_dropped\",\"lines\":{dropped}")), "it is told");
    }

    #[test]
    fn a_write_that_fails_stops_nothing() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = Log::start_into(POLICY, wall(), Box::new(Full)).unwrap();
        log.target_state(&change("a/b/c"));
        assert!(log.flush(Duration::from_secs(10)));
        assert_eq!(log.dropped().load(Ordering::Relaxed), 1, "and is counted");
    }

    #[test]
    fn others_never_go_below_info_whatever_the_level_says() {
        let (log, captured) = Log::capture();
        tracing::subscriber::with_default(Registry::default().with(log.layer()), || {
            tracing::debug!(target: "pingora_core::protocols", "authorization: Bearer sk-canary");
            tracing::trace!(target: "h2::codec", "sk-canary");
            tracing::debug!(target: "pointsmanic", "sk-canary");
            tracing::info!(target: "pingora_core::server", "listening");
            tracing::debug!(target: "pointsman::exchange", "next");
            tracing::trace!("here");
        });
        let said: Vec<String> = captured.lines();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said.iter().all(|line| !line.contains("canary")), "{said:?}");
    }

    #[test]
    fn what_comes_through_the_log_crate_is_held_and_named_by_its_origin() {
        let (log, captured) = Log::capture();
        tracing::subscriber::with_default(Registry::default().with(log.layer()), || {
            let tracer = LogTracer::new();
            for (level, text) in [(log::Level::Debug, "sk-canary"), (log::Level::Error, "it broke")] {
                log::Log::log(
                    &tracer,
                    &log::Record::builder()
                        .level(level)
                        .target("pingora_proxy")
                        .args(format_args!("{text}"))
                        .build(),
                );
            }
        });
        assert_eq!(
            captured.lines(),
            [concat!(
                r#"{"ts":"1970-01-01T00:00:00.000Z","level":"error","msg":"it broke","module":"pingora_proxy"}"#,
                "\n"
            )]
        );
    }

    #[test]
    fn a_key_that_others_quote_in_a_query_is_taken_out() {
        for (text, want) in [
            (
                "GET /v1beta/models/x?key=sk-canary&alt=sse, Host: a",
                "GET /v1beta/models/x?key=redacted&alt=sse, Host: a",
            ),
            ("/x?alt=sse&api_key=sk-canary HTTP/1.1", "/x?alt=sse&api_key=redacted HTTP/1.1"),
            ("access_token=sk-canary", "access_token=redacted"),
            ("key=a key=b token=c", "key=redacted key=redacted token=redacted"),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(without_keys(text), want);
        }
        let (log, captured) = Log::capture();
        tracing::subscriber::with_default(Registry::default().with(log.layer()), || {
            tracing::error!(target: "pingora_proxy", path = "/x?key=sk-canary", "fail ?key=sk-canary");
        });
        assert!(!captured.lines().concat().contains("canary"), "{:?}", captured.lines());
    }

    #[test]
    fn fields_keep_their_kind_and_the_message_comes_first() {
        let (log, captured) = Log::capture();
        tracing::subscriber::with_default(Registry::default().with(log.layer()), || {
            tracing::warn!(count = 3u64, delta = -2i64, ratio = 0.5, ok = true, who = %"a b", "reload \u{1b}[2J");
        });
        let said = captured.said("reload \u{1b}[2J");
        let text = serde_json::to_string(&said[0]).unwrap();
        assert!(text.contains(r#""count":3,"delta":-2,"ratio":0.5,"ok":true,"who":"a b""#), "{text}");
        assert!(!captured.lines().concat().contains('\u{1b}'));
    }

    #[test]
    fn a_value_of_any_size_makes_a_line_of_bounded_size() {
        struct Endless;
        impl fmt::Debug for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (0..100_000).try_for_each(|_| f.write_str("0123456789"))
            }
        }
        let (log, captured) = Log::capture();
        tracing::subscriber::with_default(Registry::default().with(log.layer()), || {
            tracing::info!(dump = ?Endless, "dump");
        });
        assert!(captured.lines()[0].len() < VALUE_BYTES_MAX + 200);
    }

    #[test]
    fn level_and_format_follow_the_policy() {
        let (log, captured) = Log::capture();
        log.set_policy(LogPolicy { level: Level::Warn, format: LogFormat::Text });
        log.target_state(&change("quiet"));
        log.target_state(&TargetStateLine { to: "open", ..change("loud") });
        log.set_level(Level::Info);
        log.target_state(&change("told"));
        let lines = captured.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("ts=1970-01-01T00:00:00.000Z level=warn msg=target_state target=loud"));
        assert!(lines[1].contains("target=told"));
    }

    /// The one test that takes the process's subscriber; the others bring their own.
    #[test]
    fn an_installed_log_hears_tracing_and_the_log_crate_and_is_the_only_one() {
        let (log, captured) = Log::capture();
        log.install().unwrap();
        assert_eq!(log.install(), Err(InstalledAlready));
        tracing::debug!(target: "pointsman::here", "installed one");
        log::info!(target: "pingora_core", "installed two");
        log::debug!(target: "pingora_core", "installed canary");
        assert_eq!(captured.said("installed one").len(), 1);
        assert_eq!(captured.said("installed two")[0]["module"], "pingora_core");
        assert!(!captured.lines().concat().contains("canary"));
        log.set_level(Level::Warn);
        log::info!(target: "pingora_core", "installed three");
        assert!(captured.said("installed three").is_empty());
    }

    #[test]
    fn a_level_that_changes_is_heard_by_tracing() {
        let (log, captured) = Log::capture();
        let say = || tracing::debug!(target: "pointsman::test", "now");
        tracing::subscriber::with_default(Registry::default().with(log.layer()), || {
            for level in [Level::Info, Level::Debug, Level::Warn] {
                log.set_level(level);
                say();
            }
        });
        assert_eq!(captured.said("now").len(), 1);
    }
}
