//! How does the process begin and end, and what does it tell whoever started it?
//!
//! (Contract section 1: signals; conventions: sd_notify, exit codes.)

use crate::process::{HEAD, Process, Program, SOON, eventually, openai, signal, skip};
use crate::upgrade_by_socket::{Held, inheritable, listen};
use pointsman::standin::caller::{BodyEnd, Call, Connection, Talk};
use pointsman::standin::{Gate, Place, Provider, Reply, SIXTY_WORDS};
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// At once, on a machine that may be busy; far below any `grace` in here.
const AT_ONCE: Duration = Duration::from_secs(1);

fn yaml(provider: &Provider, grace: &str) -> String {
    format!(
        "{HEAD}grace: {grace}\nlog: {{format: json}}\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\n",
        openai("one", &provider.base_url(), "KEY_ONE")
    )
}

/// The same at addresses that are known.
fn at(yaml: &str, data: SocketAddr, admin: SocketAddr) -> String {
    yaml.replacen("127.0.0.1:0", &data.to_string(), 1).replacen("127.0.0.1:0", &admin.to_string(), 1)
}

fn program(yaml: &str) -> Program {
    Program::new(yaml).env("KEY_ONE", "sk-one-0123456789")
}

/// A process with a stream under way that goes on when the gate opens.
async fn streaming(grace: &str) -> (Provider, Gate, Process, Call, Talk) {
    let gate = Gate::closed();
    let provider =
        Provider::start(Reply::says(SIXTY_WORDS).hold(Place::AfterTokens(3), &gate)).await.unwrap();
    let process = program(&yaml(&provider, grace)).start().await;
    let call = Call::chat_stream("chat").limit(SOON);
    let mut talk = call.begin(process.data).await.unwrap();
    assert_eq!(talk.head().await.unwrap(), 200);
    assert!(talk.until_events(2).await);
    (provider, gate, process, call, talk)
}

#[tokio::test]
async fn term_when_idle_leaves_at_once() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let mut process = program(&yaml(&provider, "30s")).start().await;
    // Idle connections, a used one and an unused one, are nobody's request.
    let open = Connection::open(process.data).await.unwrap();
    let (answer, _kept) = open.send(&Call::chat("chat")).await.unwrap();
    assert_eq!(answer.status, 200);
    let _unused = TcpStream::connect(process.data).await.unwrap();
    let _scraper = TcpStream::connect(process.admin).await.unwrap();
    process.signal("TERM");
    let (status, took) = process.end(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < AT_ONCE, "{took:?}");
}

/// A supervisor that has seen it answer may stop it at once: that is a stop and no crash. Several turns,
/// since there is a millisecond between the first answer and the last step of a start.
#[tokio::test]
async fn term_right_behind_its_first_answer_is_answered_by_leaving_in_order() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    for _ in 0..5 {
        let ((data, first), (admin, second)) = (listen("127.0.0.1:0"), listen("127.0.0.1:0"));
        let here = at(&yaml(&provider, "30s"), data, admin);
        let program = program(&here);
        let held = Held(vec![inheritable("data", first), inheritable("admin", second)]);
        let command = held.command(&program);
        let launched = program.launch_as(command);
        // The socket is there before the program: whoever connects is answered once it serves.
        let early = Connection::open(data).await.unwrap();
        let (answer, _kept) = early.send(&Call::get("/health").limit(SOON)).await.unwrap();
        assert_eq!(answer.status, 200);
        signal(launched.pid(), "TERM");
        let (_, mut process) = launched.until_ready().await;
        let (status, _) = process.end(SOON).await;
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

#[tokio::test]
async fn term_waits_for_the_stream_under_way_and_takes_nothing_new() {
    let (_provider, gate, mut process, call, talk) = streaming("30s").await;
    process.signal("TERM");
    eventually("it is not ready any more", async || process.ask("/readyz").await.status == 503).await;
    assert_eq!(process.ask("/livez").await.status, 200, "it lives until it ends");
    let data = process.data;
    eventually("new connections are refused", async || TcpStream::connect(data).await.is_err()).await;
    assert!(process.is_running(), "it left before the stream was over");
    gate.open();
    let (answer, _) = talk.finish(&call).await;
    assert_eq!((answer.text().as_str(), &answer.end), (SIXTY_WORDS, &BodyEnd::Clean));
    assert!(answer.has_end_marker());
    let (status, took) = process.end(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < AT_ONCE, "{took:?} after the last byte");
    process.heard_out().await;
    let line = process.log_of("request").pop().expect("the request is in the log");
    assert_eq!((&line["status"], &line["trail"]), (&200.into(), &"one/k:ok".into()), "{line}");
}

#[tokio::test]
async fn term_waits_for_a_plain_answer_too() {
    let gate = Gate::closed();
    let provider = Provider::start(Reply::says("late").hold(Place::BeforeHead, &gate)).await.unwrap();
    let mut process = program(&yaml(&provider, "30s")).start().await;
    let data = process.data;
    let sent = tokio::spawn(async move { Call::chat("chat").limit(SOON).send(data).await });
    assert!(provider.until(SOON, |seen| seen.len() == 1).await);
    process.signal("TERM");
    eventually("it is not ready any more", async || process.ask("/readyz").await.status == 503).await;
    gate.open();
    assert_eq!(sent.await.unwrap().unwrap().text(), "late");
    let (status, took) = process.end(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn a_stream_longer_than_grace_is_not_waited_for() {
    let (_provider, _gate, mut process, call, talk) = streaming("1s").await;
    let told = Instant::now();
    process.signal("TERM");
    let reading = tokio::spawn(async move { talk.finish(&call).await.0 });
    let (status, _) = process.end(SOON).await;
    let took = told.elapsed();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took >= Duration::from_millis(950) && took < Duration::from_secs(3), "{took:?}");
    let answer = reading.await.unwrap();
    assert!(!answer.has_end_marker(), "a lost stream looks complete: {}", answer.body_text());
}

#[tokio::test]
async fn int_leaves_now_whatever_is_under_way() {
    for is_draining in [false, true] {
        let (_provider, _gate, mut process, _call, _talk) = streaming("60s").await;
        if is_draining {
            process.signal("TERM");
            eventually("it drains", async || process.ask("/readyz").await.status == 503).await;
        }
        process.signal("INT");
        let (status, took) = process.end(SOON).await;
        assert!(status.code().is_some(), "the signal killed it: {status}");
        assert!(took < AT_ONCE, "{took:?}, draining: {is_draining}");
    }
}

#[tokio::test]
async fn an_end_waits_for_no_reload_that_reads_and_leaves_no_program_of_it_behind() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    for name in ["TERM", "INT"] {
        let program = program("");
        let (slow, pipe) = (program.path("slow"), program.path("pipe"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let script = format!(
            "if [ -e {} ]; then exec 3>{}; sleep 300 & wait; fi; echo sk-one-0123456789",
            slow.display(),
            pipe.display()
        );
        let key = format!("{{command: [\"/bin/sh\", \"-c\", \"{script}\"]}}");
        program.configure(&yaml(&provider, "30s").replace("{env: KEY_ONE}", &key));
        let mut process = program.start().await;
        fs::write(&slow, "").unwrap();
        // The pipe opens when the program runs, and ends when nothing that it started has it any more.
        let (runs, running) = tokio::sync::oneshot::channel();
        let reading = tokio::task::spawn_blocking(move || {
            let mut pipe = fs::File::open(&pipe).unwrap();
            runs.send(()).unwrap();
            pipe.read_to_end(&mut Vec::new())
        });
        process.signal("HUP");
        tokio::time::timeout(SOON, running).await.expect("the reload runs the program").unwrap();
        process.signal(name);
        let (status, took) = process.end(SOON).await;
        assert_eq!(status.code(), Some(0), "{name}: {status}");
        assert!(took < AT_ONCE, "{name}: {took:?}");
        let ended = tokio::time::timeout(SOON, reading).await;
        ended.expect("the program lives on").unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_hangup_while_it_drains_is_told_to_come_to_nothing() {
    let (_provider, gate, mut process, call, talk) = streaming("30s").await;
    process.signal("TERM");
    eventually("it drains", async || process.ask("/readyz").await.status == 503).await;
    process.signal("HUP");
    let told = || process.log().into_iter().filter(|line| line.to_string().contains("drains")).count();
    eventually("it is told", async || told() == 1).await;
    gate.open();
    assert!(talk.finish(&call).await.0.has_end_marker());
    process.end(SOON).await;
}

#[tokio::test]
async fn a_body_that_is_still_coming_at_int_has_an_answer_and_a_line() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let mut process = program(&yaml(&provider, "30s")).start().await;
    let mut stream = TcpStream::connect(process.data).await.unwrap();
    // Behind `100 Continue` the body is being waited for.
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; 4096];
    let count = stream.read(&mut said).await.unwrap();
    assert!(said[..count].starts_with(b"HTTP/1.1 100"));
    stream.write_all(b"{").await.unwrap();
    process.signal("INT");
    let mut all = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut all)).await.expect("it ends").unwrap();
    assert!(all.starts_with("HTTP/1.1 504"), "{all}");
    let (status, _) = process.end(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(process.log_of("request")[0]["status"], 504);
    assert_eq!(provider.count(), 0);
}

/// Tells whether a process handles SIGHUP (`SigCgt` of proc(5), bit 0).
/// Sends a request and takes no more of the answer than its head, if `has_head` says that one comes.
async fn unread(data: SocketAddr, head: &str, body: &str, has_head: bool) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(data).await.unwrap();
    let length = body.len();
    let text = format!("{head} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while has_head && !said.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut said).await.unwrap() > 0, "no head");
    }
    stream
}

/// More than sockets hold, in words of which none is an event too long.
fn large() -> String {
    ("y".repeat(4000) + " ").repeat(4000)
}

#[tokio::test]
async fn who_holds_the_end_up_has_a_line_and_where_nothing_went_out_a_504() {
    let gate = Gate::closed();
    let chat = "POST /v1/chat/completions";
    let prompt = |more: &str| {
        format!("{{\"model\":\"chat\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}]{more}}}")
    };
    let download = Reply::body(200, "application/octet-stream", large());
    for (what, head, body, reply, has_head) in [
        ("an answer", chat, prompt(""), Reply::says(large()), true),
        ("a stream", chat, prompt(",\"stream\":true"), Reply::says(large()), true),
        ("a download", "GET /v1/files/a/content", String::new(), download, true),
        ("no head", "GET /v1/files/a", String::new(), Reply::ok().hold(Place::BeforeHead, &gate), false),
    ] {
        for name in ["TERM", "INT"] {
            let provider = Provider::start(reply.clone()).await.unwrap();
            let program = program("");
            let audit = program.path("audit.log");
            let more = format!("default_route: chat\naudit: {{path: {}}}\n", audit.display());
            program.configure(&(yaml(&provider, "500ms") + &more));
            let mut process = program.start().await;
            let mut stream = unread(process.data, head, &body, has_head).await;
            assert!(provider.until(SOON, |seen| seen.len() == 1).await, "{what}");
            process.signal(name);
            let (status, _) = process.end(SOON).await;
            assert_eq!(status.code(), Some(0), "{what}, {name}: {status}");
            process.heard_out().await;
            assert_eq!(process.log_of("request").len(), 1, "{what}, {name}: lines of the log");
            let book = fs::read_to_string(&audit).unwrap();
            let requests = book.lines().filter(|line| line.contains("\"kind\":\"request\"")).count();
            assert_eq!(requests, 1, "{what}, {name}: {book}");
            if !has_head {
                let mut said = String::new();
                stream.read_to_string(&mut said).await.unwrap();
                assert!(said.starts_with("HTTP/1.1 504"), "{what}, {name}: {said}");
                assert_eq!(process.log_of("request")[0]["status"], 504);
            }
        }
    }
}

fn handles_hangup(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
}

#[tokio::test]
async fn a_hangup_right_after_the_start_neither_kills_nor_gets_lost() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    // A secret that takes half a second keeps the process at its first reading of the file.
    let slow = yaml(&provider, "30s").replace(
        "{env: KEY_ONE}",
        "{command: [\"/bin/sh\", \"-c\", \"echo >> STARTED; /bin/sleep 0.5; echo sk-slow-0123456789\"]}",
    );
    let program = program("");
    let mark = program.path("started");
    program.configure(&slow.replace("STARTED", mark.to_str().unwrap()));
    let launched = program.launch();
    let pid = launched.pid();
    let end = Instant::now() + SOON;
    loop {
        let has_read_its_file = mark.exists();
        if handles_hangup(pid) {
            break;
        }
        assert!(!has_read_its_file, "it reads its file before it takes SIGHUP over");
        assert!(Instant::now() < end, "SIGHUP is never taken over");
    }
    signal(pid, "HUP");
    eventually("the secret is being fetched", async || mark.exists()).await;
    launched.program().configure(&yaml(&provider, "30s").replace("  chat:", "  later:"));
    signal(pid, "HUP");
    let (ready, process) = launched.until_ready().await;
    assert!(ready.is_some(), "it did not survive:\n{}", process.said());
    eventually("the file that came while it started is in force", async || {
        Call::chat("later").limit(SOON).send(process.data).await.unwrap().status == 200
    })
    .await;
}

/// What a service manager hears.
struct Manager {
    socket: std::path::PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn listen(folder: &Path) -> Manager {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = socket.recv(&mut bytes) {
                book.lock().unwrap().push(String::from_utf8_lossy(&bytes[..count]).into_owned());
            }
        });
        Manager { socket: path, heard }
    }

    /// Waits until all that was told before this call is heard: datagrams keep their order.
    async fn catch_up(&self) {
        let marks = self.heard("MARK").len();
        UnixDatagram::unbound().unwrap().send_to(b"MARK", &self.socket).unwrap();
        eventually("the mark is heard", async || self.heard("MARK").len() > marks).await;
    }

    /// Returns the messages that hold this line.
    fn heard(&self, line: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|message| message.lines().any(|told| told == line)).cloned().collect()
    }
}

#[tokio::test]
async fn systemd_hears_when_it_is_ready_reloads_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let sound = yaml(&provider, "30s");
    let program = program(&sound).env("NOTIFY_SOCKET", manager.socket.to_str().unwrap());
    let launched = program.launch();
    eventually("READY=1", async || !manager.heard("READY=1").is_empty()).await;
    // Nothing is waited for between READY=1 and the first answers.
    let (_, mut process) = launched.until_ready().await;
    assert_eq!(Call::get("/health").send(process.data).await.unwrap().status, 200);
    assert_eq!(Call::get("/readyz").send(process.admin).await.unwrap().status, 200);
    assert_eq!(Call::chat("chat").send(process.data).await.unwrap().status, 200);

    let mut last = 0;
    for (turn, yaml) in [sound.clone(), "routes: [}\n".to_owned(), sound].iter().enumerate() {
        process.reload(yaml).await;
        eventually("READY=1 after a reload", async || manager.heard("READY=1").len() == turn + 2).await;
        let told = manager.heard("RELOADING=1");
        assert_eq!(told.len(), turn + 1, "{told:?}");
        let time = told[turn].lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let time: u64 = time.expect("MONOTONIC_USEC in the same message").parse().unwrap();
        assert!(time > last, "{time} is not after {last}");
        last = time;
    }
    let all = manager.heard.lock().unwrap().clone();
    let reloading = all.iter().position(|message| message.contains("RELOADING=1")).unwrap();
    let ready = all.iter().rposition(|message| message.contains("READY=1")).unwrap();
    assert!(reloading < ready, "{all:?}");
    // Whoever asks for a reload, and whatever comes of it, the status is that of the last one.
    let token = process.token();
    let broken = "STATUS=configuration error, running unchanged:";
    for (path, yaml, want) in [
        ("/v1/reload", yaml(&provider, "29s"), "STATUS=generation 4".to_owned()),
        ("/v1/reload", "routes: [}\n".to_owned(), broken.to_owned()),
        (
            "/v1/reload?previous=true",
            yaml(&provider, "29s"),
            "STATUS=generation 5, that of 3 again".to_owned(),
        ),
    ] {
        process.program.configure(&yaml);
        process.post(path, &token).await;
        manager.catch_up().await;
        let last = manager.heard.lock().unwrap().iter().rfind(|told| told.contains("STATUS=")).cloned();
        assert!(last.as_ref().is_some_and(|last| last.starts_with(&want)), "{path}: {last:?}, not {want}");
    }
    manager.catch_up().await;
    assert!(manager.heard("STOPPING=1").is_empty());
    process.signal("TERM");
    process.end(SOON).await;
    manager.catch_up().await;
    assert_eq!(manager.heard("STOPPING=1").len(), 1);
}

#[tokio::test]
async fn a_program_that_cannot_start_never_says_that_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let program = program("version: 7\n").env("NOTIFY_SOCKET", manager.socket.to_str().unwrap());
    assert_eq!(program.verb(&["run", "-c", "CONFIG"]).await.0, 78);
    manager.catch_up().await;
    assert!(manager.heard("READY=1").is_empty());
}

#[tokio::test]
async fn after_a_crash_it_starts_again_on_the_same_ports() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let process = program(&yaml(&provider, "30s")).start().await;
    let (data, admin, token) = (process.data, process.admin, process.token());
    // A connection that the crash cuts leaves the port in TIME_WAIT.
    let (answer, _kept) = Connection::open(data).await.unwrap().send(&Call::chat("chat")).await.unwrap();
    assert_eq!(answer.status, 200);
    let program = process.crash();
    let same = at(&yaml(&provider, "30s"), data, admin);
    program.configure(&same);
    let process = program.start().await;
    assert_eq!((process.data, process.admin), (data, admin));
    assert_eq!(Call::chat("chat").send(data).await.unwrap().status, 200);
    assert_ne!(process.token(), token, "a token outlives its process");
    assert_eq!(process.post("/v1/reload", &process.token()).await.status, 200);
    assert_eq!(process.post("/v1/reload", &token).await.status / 100, 4);
}

#[tokio::test]
async fn a_kill_leaves_nothing_that_prevents_a_start() {
    let (_provider, _gate, process, _call, _talk) = streaming("30s").await;
    let (data, admin) = (process.data, process.admin);
    let files = process.program.path("audit.log");
    let base = fs::read_to_string(process.program.config()).unwrap();
    let base = at(&base, data, admin);
    let text = format!("state: {{path: state.db}}\naudit: {{path: \"{}\"}}\n{base}", files.display());
    let mut program = process.crash();
    program.configure(&text);
    for turn in 1..=3 {
        let process = program.start().await;
        assert_eq!((process.data, process.admin), (data, admin));
        // Killed while a stream is under way, the state is written and an operator has done something.
        let call = Call::chat_stream("chat").limit(SOON);
        let mut talk = call.begin(data).await.unwrap();
        assert_eq!(talk.head().await.unwrap(), 200);
        assert_eq!(process.post("/v1/targets/one/k/m:reset", &process.token()).await.status / 100, 2);
        eventually("the start is in the audit log", async || {
            fs::read_to_string(&files).unwrap_or_default().matches("\"start\"").count() == turn
        })
        .await;
        program = process.crash();
    }
    let process = program.start().await;
    assert_eq!(process.ask("/readyz").await.status, 200);
    let audit = fs::read_to_string(&files).unwrap();
    assert!(audit.lines().all(|line| crate::process::json(line).is_some()), "{audit}");
    for left in fs::read_dir(process.program.path("run").join("pointsman")).unwrap() {
        assert_eq!(left.unwrap().file_name(), "admin-token", "nothing else is left there");
    }
}

/// Stops a process and waits until it stands still.
async fn halt(process: &Process) {
    process.signal("STOP");
    let stat = format!("/proc/{}/stat", process.pid());
    eventually("it stands still", async || {
        fs::read_to_string(&stat).unwrap().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
    .await;
}

#[tokio::test]
async fn a_stop_longer_than_every_timer_is_not_held_against_the_targets() {
    let timeout = Duration::from_secs(1);
    let gate = Gate::closed();
    let one = Provider::start(Reply::says("late").hold(Place::BeforeHead, &gate)).await.unwrap();
    let two = Provider::start(Reply::says("other")).await.unwrap();
    let text = format!(
        "{HEAD}grace: 30s\nlog: {{format: json}}\ntimeouts: {{first_content: {timeout:?}, response: {timeout:?}}}\nbreaker: {{consecutive_failures: 3}}\nproviders:\n{}{}routes:\n  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}\n",
        openai("one", &one.base_url(), "KEY_ONE"),
        openai("two", &two.base_url(), "KEY_ONE")
    );
    let process = program(&text).start().await;
    let data = process.data;
    let calls: Vec<_> = (0..10)
        .map(|number| {
            let call = if number % 2 == 0 { Call::chat("chat") } else { Call::chat_stream("chat") };
            tokio::spawn(async move { call.limit(SOON).send(data).await })
        })
        .collect();
    assert!(one.until(SOON, |seen| seen.len() == 10).await);
    let seen = tokio::time::Instant::now();
    halt(&process).await;
    gate.open();
    // While it stands still the answers come, and then the end of every timer.
    assert!(one.until(SOON, |seen| seen.iter().all(|one| one.ended.is_some())).await);
    // A timer that is 250 ms late is told from a slow provider (`STALL` of `proxy/patience.rs`); it may
    // have been set a little after the request was seen.
    tokio::time::sleep_until(seen + timeout + Duration::from_millis(500)).await;
    process.signal("CONT");
    for call in calls {
        let answer = call.await.unwrap().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "late"), "{}", answer.body_text());
    }
    eventually("all are in the log", async || process.log_of("request").len() == 10).await;
    for line in process.log_of("request") {
        assert_eq!(line["trail"], "one/k:ok", "{line}");
    }
    let state = process.target("one/k/m").await;
    assert_eq!(state["state"], "ready", "{state}");
}

/// Tells whether a process has the thread that tells its service manager.
fn has_teller(process: &Process) -> bool {
    let names = fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    // A thread may end while it is looked at.
    let mut names = names.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.any(|name| name.trim_end() == "watchdog")
}

#[tokio::test]
async fn the_watchdog_hears_of_a_process_that_turns_and_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let interval = Duration::from_millis(60);
    let watched = |program: Program| {
        let program = program.env("NOTIFY_SOCKET", manager.socket.to_str().unwrap());
        program.env("WATCHDOG_USEC", &interval.as_micros().to_string())
    };
    let mut process = watched(program(&yaml(&provider, "30s"))).start().await;
    let count = || manager.heard("WATCHDOG=1").len();
    eventually("it is heard of", async || count() >= 3).await;
    assert!(has_teller(&process));
    halt(&process).await;
    manager.catch_up().await;
    let before = count();
    tokio::time::sleep(interval * 5).await;
    manager.catch_up().await;
    assert_eq!(count(), before, "heard of while it stood still");
    process.signal("CONT");
    eventually("it is heard of again", async || count() >= before + 3).await;
    process.signal("USR2");
    let new = process.generation(2).await;
    process.end(SOON).await;
    manager.catch_up().await;
    let before = count();
    eventually("its successor is heard of", async || count() >= before + 3).await;
    signal(new, "KILL");
    // What is meant for another process is not ours to answer. Whoever reloads has begun to tell, or
    // never will.
    let other = watched(program(&yaml(&provider, "30s"))).env("WATCHDOG_PID", "1").start().await;
    other.hang_up().await;
    assert!(!has_teller(&other));
}

/// A program of which nothing is read.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_or_is_not_read_stops_no_request() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    provider.record(false);
    for is_full in [true, false] {
        let ((data, first), (admin, second)) = (listen("127.0.0.1:0"), listen("127.0.0.1:0"));
        let text = at(&yaml(&provider, "30s"), data, admin);
        let program = program(&text);
        let held = Held(vec![inheritable("data", first), inheritable("admin", second)]);
        let mut command = held.command(&program);
        let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        if is_full {
            command.stdout(full()).stderr(full());
        }
        // The other way it writes into pipes that nobody reads.
        let mut bare = Bare(command.process_group(0).spawn().unwrap());
        let callers: Vec<_> = (0..8)
            .map(|_| {
                tokio::spawn(async move {
                    for _ in 0..75 {
                        let answer = Call::chat("chat").limit(SOON).send(data).await.unwrap();
                        assert_eq!(answer.status, 200);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        // 600 lines are more than a pipe holds.
        signal(bare.0.id(), "TERM");
        eventually("it leaves", async || bare.0.try_wait().unwrap().is_some()).await;
        assert_eq!(bare.0.wait().unwrap().code(), Some(0), "full: {is_full}");
    }
}

/// A disk of a few pages; only root can make one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<SmallDisk> {
        fs::create_dir(&at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "none"]).arg(&at).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_costs_no_request_and_is_told_once() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let program = program("");
    let Some(disk) = SmallDisk::mount(program.path("small")) else {
        return skip("a full disk was not tried: only root can mount a small one");
    };
    let audit = disk.0.join("audit.log");
    program.configure(&format!(
        "state: {{path: small/state.db}}\naudit: {{path: \"{}\"}}\n{}",
        audit.display(),
        yaml(&provider, "30s")
    ));
    let process = program.start().await;
    let token = process.token();
    let chat = async || Call::chat("chat").limit(SOON).send(process.data).await.unwrap().status;
    assert_eq!(chat().await, 200);
    eventually("the state is written", async || {
        fs::metadata(disk.0.join("state.db-wal")).is_ok_and(|file| file.len() > 0)
    })
    .await;
    let filler = disk.0.join("filler");
    assert!(fs::write(&filler, vec![0; 1 << 20]).is_err(), "it is not full");
    // Rest of the last page of the audit log, so that its next line does not fit.
    let told = |what: &str| process.said().matches(what).count();
    let mut acts = 0;
    eventually("both troubles are told", async || {
        assert_eq!(chat().await, 200);
        let verb = if acts % 2 == 0 { "drain" } else { "ready" };
        acts += 1;
        let done = process.post(&format!("/v1/targets/one/k/m:{verb}"), &token).await.status;
        assert_eq!(done / 100, 2, "the operator can act");
        if verb == "drain" {
            assert_eq!(process.post("/v1/targets/one/k/m:ready", &token).await.status / 100, 2);
        }
        told("the state cannot be written") > 0 && told("the audit log cannot be written") > 0
    })
    .await;
    let failed = async || process.metric("pointsman_audit_errors_total", &[]).await;
    let before = failed().await;
    // Both are tried once a second, the state only where something has changed; it counts nothing.
    eventually("the audit log was tried twice more", async || {
        assert_eq!(chat().await, 200);
        failed().await > before + 1.5
    })
    .await;
    assert_eq!((told("the state cannot be written"), told("the audit log cannot be written")), (1, 1));
    fs::remove_file(&filler).unwrap();
    eventually("both are written again", async || {
        assert_eq!(chat().await, 200);
        told("the state is written again") > 0 && told("the audit log is written again") > 0
    })
    .await;
}
