//! Does a new program take the place of the old one with no client noticing?
//!
//! (USR2: `src/server/relief.rs`; `make upgrades` does it twenty times under load.)

use crate::process::{HEAD, Process, Program, SOON, eventually, openai, signal};
use pointsman::standin::caller::{BodyEnd, Call, Connection};
use pointsman::standin::{Gate, Place, Provider, Reply, SIXTY_WORDS};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

fn yaml(provider: &Provider, more: &str) -> String {
    format!(
        "{HEAD}grace: 20s\nlog: {{format: json}}\n{more}providers:\n{}routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\n",
        openai("one", &provider.base_url(), "KEY_ONE")
    )
}

fn program(yaml: &str) -> Program {
    Program::new(yaml).env("KEY_ONE", "sk-one-0123456789")
}

/// Tells whether a process runs: it is there, and more than an exit code that nobody has fetched.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

#[tokio::test]
async fn a_new_process_takes_over_and_what_is_under_way_ends_whole() {
    let gate = Gate::closed();
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let mut process = program(&yaml(&provider, "")).start().await;
    let (data, old) = (process.data, process.generation(1).await);
    let (answer, kept) = Connection::open(data).await.unwrap().send(&Call::chat("chat")).await.unwrap();
    assert_eq!(answer.status, 200);
    let kept = kept.expect("a connection that may be used again");
    provider.set_script(Reply::says(SIXTY_WORDS).hold(Place::AfterTokens(3), &gate));
    let call = Call::chat_stream("chat").limit(SOON);
    let mut talk = call.begin(data).await.unwrap();
    assert_eq!(talk.head().await.unwrap(), 200);
    assert!(talk.until_events(2).await);
    provider.set_script(Reply::ok());

    process.signal("USR2");
    let new = process.generation(2).await;
    assert_ne!(new, old);
    eventually("the old one says that it is relieved", async || !process.log_of("relieved").is_empty()).await;
    assert!(process.is_running(), "it left before the stream was over");
    for _ in 0..20 {
        assert_eq!(Call::chat("chat").limit(SOON).send(data).await.unwrap().status, 200);
        assert_eq!(process.ask("/readyz").await.status, 200, "the admin address is the new one's");
    }
    let (answer, again) =
        kept.send(&Call::chat("chat").limit(SOON)).await.expect("a kept connection is not cut");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(again.is_none());

    gate.open();
    let (answer, _) = talk.finish(&call).await;
    assert_eq!((answer.text().as_str(), &answer.end), (SIXTY_WORDS, &BodyEnd::Clean));
    let (status, _) = process.end(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(runs(new), "{}", process.said());
    assert_eq!(Call::chat("chat").limit(SOON).send(data).await.unwrap().status, 200);

    // And once more: the new one is as good a predecessor.
    signal(new, "USR2");
    let newest = process.generation(3).await;
    eventually("the second has left", async || !runs(new)).await;
    assert_eq!(Call::chat("chat").limit(SOON).send(data).await.unwrap().status, 200);
    signal(newest, "TERM");
    eventually("the third has left", async || !runs(newest)).await;
}

#[tokio::test]
async fn a_new_process_that_cannot_start_leaves_the_old_one_serving() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let sound = yaml(&provider, "");
    let mut process = program(&sound).start().await;
    let token = process.token();
    for (turn, faulty) in ["routes: [}\n", "version: 1\nproviders: {}\n"].iter().enumerate() {
        process.program.configure(faulty);
        process.signal("USR2");
        eventually("the refusal is told", async || {
            let told = process.log_of("the new process does not take over; this one serves on");
            told.len() == turn + 1 && told[turn]["reason"].as_str().unwrap().contains("78")
        })
        .await;
        assert_eq!(Call::chat("chat").limit(SOON).send(process.data).await.unwrap().status, 200);
        assert_eq!(process.ask("/readyz").await.status, 200);
    }
    assert_eq!(process.token(), token, "the token of the one that serves is still there");
    assert!(process.is_running());
    process.program.configure(&sound);
    process.signal("USR2");
    process.generation(2).await;
    process.end(SOON).await;
    assert_eq!(Call::chat("chat").limit(SOON).send(process.data).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_new_process_that_is_not_ready_ends_with_the_old_one() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let sound = yaml(&provider, "");
    let mut process = program(&sound).start().await;
    let mark = process.program.path("started");
    let slow =
        format!("{{command: [\"/bin/sh\", \"-c\", \"echo $PPID > {}; exec /bin/sleep 8\"]}}", mark.display());
    process.program.configure(&sound.replace("{env: KEY_ONE}", &slow));
    process.signal("USR2");
    let started = async || fs::read_to_string(&mark).is_ok_and(|pid| pid.ends_with('\n'));
    eventually("the new one reads its configuration", started).await;
    let new: u32 = fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
    // A second wish while the first is being granted is none.
    process.signal("USR2");
    assert_eq!(Call::chat("chat").limit(SOON).send(process.data).await.unwrap().status, 200);
    assert!(runs(new));
    process.signal("TERM");
    let (status, _) = process.end(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    eventually("the new one is gone as well", async || !runs(new)).await;
}

#[tokio::test]
async fn the_new_process_listens_where_its_configuration_says() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let both = yaml(&provider, "").replace(
        "[{address: \"127.0.0.1:0\"}]",
        "[{address: \"127.0.0.1:0\"}, {address: \"[::1]:0\", h2c: true}]",
    );
    let mut process = program(&yaml(&provider, "")).start().await;
    process.program.configure(&both);
    process.signal("USR2");
    process.generation(2).await;
    let ready = process.log_of("ready");
    let addresses: Vec<_> = ready[1]["data"].as_str().unwrap().split(',').collect();
    assert_eq!(addresses[0], process.data.to_string());
    let added = addresses[1].parse().unwrap();
    assert_eq!(Call::chat("chat").http2().limit(SOON).send(added).await.unwrap().status, 200);
    process.end(SOON).await;

    process.program.configure(&yaml(&provider, ""));
    signal(process.generation(2).await, "USR2");
    process.generation(3).await;
    eventually("the listener that was taken out is gone", async || {
        Call::get("/health").send(added).await.is_err()
    })
    .await;
    assert_eq!(Call::chat("chat").limit(SOON).send(process.data).await.unwrap().status, 200);
    assert!(process.said().contains("any more; it is closed"), "{}", process.said());
}

#[tokio::test]
async fn a_variable_alone_makes_nobody_a_successor() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let named = std::process::id().to_string();
    // This test is its parent, but standard input is not of it.
    let (code, said) = program(&yaml(&provider, ""))
        .env("POINTSMAN_PREDECESSOR", &named)
        .verb(&["run", "-c", "CONFIG"])
        .await;
    assert_eq!(code, 78, "{said}");
    assert!(said.contains(&format!("the sockets of process {named}")), "{said}");
    // Somebody else's, as a shell of the service would have it.
    let process = program(&yaml(&provider, "")).env("POINTSMAN_PREDECESSOR", "1").start().await;
    assert_eq!(Call::chat("chat").send(process.data).await.unwrap().status, 200);
}

/// What the service manager was told, so far.
fn heard(manager: &UnixDatagram) -> Vec<String> {
    manager.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    std::iter::from_fn(|| {
        manager.recv(&mut bytes).ok().map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned())
    })
    .collect()
}

#[tokio::test]
async fn systemd_hears_of_the_new_main_process_and_of_no_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let mut process =
        program(&yaml(&provider, "")).env("NOTIFY_SOCKET", path.to_str().unwrap()).start().await;
    process.signal("USR2");
    let new = process.generation(2).await;
    process.end(SOON).await;
    let all = heard(&manager);
    let of = |word: &str| all.iter().filter(|told| told.lines().any(|line| line == word)).count();
    assert_eq!(of(&format!("MAINPID={new}")), 1, "{all:?}");
    assert!(of("READY=1") >= 2, "{all:?}");
    assert_eq!(of("STOPPING=1"), 0, "what the old one says is not of the service any more: {all:?}");
    let main = all.iter().position(|told| told.contains("MAINPID=")).unwrap();
    assert!(all[main].contains("READY=1"), "{all:?}");
}

/// Requests that the usage page counts, by the file of the state.
async fn counted(process: &Process) -> u64 {
    let page = process.ask_json("/v1/usage").await;
    page["total"]["requests"].as_u64().unwrap_or_else(|| panic!("{page}"))
}

#[tokio::test]
async fn usage_and_audit_of_two_processes_come_to_one_sum() {
    let gate = Gate::closed();
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let program = program("");
    let audit = program.path("audit.log");
    let more = format!("state: {{path: state.db}}\naudit: {{path: \"{}\"}}\n", audit.display());
    program.configure(&yaml(&provider, &more));
    let mut process = program.start().await;
    let data = process.data;
    let ask = async |times: usize| {
        for _ in 0..times {
            assert_eq!(Call::chat("chat").limit(SOON).send(data).await.unwrap().status, 200);
        }
    };
    ask(3).await;
    provider.set_script(Reply::says(SIXTY_WORDS).hold(Place::AfterTokens(3), &gate));
    let call = Call::chat_stream("chat").limit(SOON);
    let mut talk = call.begin(data).await.unwrap();
    assert_eq!(talk.head().await.unwrap(), 200);
    assert!(talk.until_events(2).await);
    provider.set_script(Reply::ok());
    process.signal("USR2");
    let second = process.generation(2).await;
    eventually("relieved", async || !process.log_of("relieved").is_empty()).await;
    ask(4).await;
    // A third while the first still has its stream: it waits for its turn at the file.
    signal(second, "USR2");
    let third = process.generation(3).await;
    eventually("relieved", async || process.log_of("relieved").len() == 2).await;
    ask(5).await;
    assert!(runs(second), "the second must not leave while the first has the file");
    gate.open();
    assert_eq!(talk.finish(&call).await.0.text(), SIXTY_WORDS);
    process.end(SOON).await;
    eventually("the second has left", async || !runs(second)).await;
    eventually("all that was counted is there", async || counted(&process).await == 13).await;
    signal(third, "TERM");
    eventually("the third has left", async || !runs(third)).await;
    assert_eq!(requests_in(&process.program.path("state.db")), 13);
    let audit = fs::read_to_string(audit).unwrap();
    let lines: Vec<serde_json::Value> =
        audit.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let count =
        |word: &str| lines.iter().filter(|line| line.to_string().contains(&format!("\"{word}\""))).count();
    assert_eq!((count("start"), count("stop")), (3, 3), "{audit}");
}

fn requests_in(path: &Path) -> u64 {
    let file = rusqlite::Connection::open(path).unwrap();
    let sum: i64 = file.query_row("SELECT sum(requests) FROM usage", [], |row| row.get(0)).unwrap();
    sum.unsigned_abs()
}

#[tokio::test]
async fn idle_connections_do_not_keep_the_old_process_for_ever() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let mut process = program(&yaml(&provider, "").replace("grace: 20s", "grace: 1s")).start().await;
    let (answer, _kept) =
        Connection::open(process.data).await.unwrap().send(&Call::chat("chat")).await.unwrap();
    assert_eq!(answer.status, 200);
    process.signal("USR2");
    process.generation(2).await;
    let (status, took) = process.end(SOON).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(6), "{took:?}");
}
