//! What does the running process bear of connections, and what does it show of its memory?

use crate::process::{self, Process, Program, eventually, openai};
use crate::upgrade_by_socket::{Held, inheritable, listen};
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

fn program(standin: &Provider, more: &str) -> Program {
    let providers = openai("one", &standin.base_url(), "KEY");
    let routes = "routes: {chat: {targets: [{provider: one, model: alpha}]}}";
    let yaml = format!("{}providers:\n{providers}{routes}\n{more}", process::HEAD);
    Program::new(&yaml).env("KEY", "sk-0123456789")
}

/// Opens connections that ask for nothing; returns those that are still open after a moment.
async fn hold(process: &Process, count: usize) -> Vec<TcpStream> {
    let mut opened = Vec::new();
    for _ in 0..count {
        opened.extend(TcpStream::connect(process.data).await.ok());
    }
    let end = tokio::time::Instant::now() + Duration::from_millis(50);
    let mut held = Vec::new();
    for mut stream in opened {
        let read = tokio::time::timeout_at(end, stream.read(&mut [0; 1])).await;
        if read.is_err() {
            held.push(stream);
        }
    }
    held
}

async fn is_served(process: &Process) -> bool {
    Call::chat("chat").send(process.data).await.is_ok_and(|answer| answer.status == 200)
}

#[tokio::test]
async fn connections_beyond_the_limits_are_closed_and_those_that_leave_make_room() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    for limits in
        ["{connections_per_address: 3}", "{connections: 3, connections_per_address: 9}", "{connections: 6}"]
    {
        let process = program(&standin, &format!("limits: {limits}\n")).start().await;
        // What asked whether it is ready may still be leaving.
        eventually("three are held", async || hold(&process, 3).await.len() == 3).await;
        let mut held = Vec::new();
        // A close may be on its way for longer than `hold` waits for it.
        eventually("three of five are held", async || {
            held.clear();
            held = hold(&process, 5).await;
            held.len() == 3
        })
        .await;
        assert!(!is_served(&process).await, "{limits}");
        assert_eq!(process.ask("/livez").await.status, 200, "the operator still gets in");
        drop(held);
        eventually("room again", async || is_served(&process).await).await;
    }
}

#[tokio::test]
async fn descriptors_do_not_run_out_and_nothing_spins() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let process = program(&standin, "").start_with_descriptors(120).await;
    assert!(process.said().contains("the limit of descriptors allows 60"), "{}", process.said());
    // Those that wait to be taken when there is no descriptor left are taken and closed in turn.
    let mut held = hold(&process, 400).await;
    let end = Instant::now() + process::SOON;
    while held.len() > 60 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        held.retain(|stream| {
            stream.try_read(&mut [0; 1]).is_err_and(|fault| fault.kind() == std::io::ErrorKind::WouldBlock)
        });
    }
    assert_eq!(held.len(), 60, "half of the descriptors");
    assert_eq!(process.ask("/livez").await.status, 200);
    let before = cpu_time(process.pid());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let spent = cpu_time(process.pid()).checked_sub(before).unwrap();
    // A loop that spins takes all it can get, and on a busy machine that is a part.
    assert!(spent < Duration::from_millis(10), "it spins: {spent:?} of 100 ms");
    drop(held);
    let end = Instant::now() + process::SOON;
    while !is_served(&process).await {
        assert!(Instant::now() < end, "it never comes back");
    }
}

/// The time that a process has had on the processors.
fn cpu_time(pid: u32) -> Duration {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::time::ClockId::pid_cpu_clock_id(pid).unwrap().now().unwrap().into()
}

#[tokio::test]
async fn no_core_is_written_and_no_other_process_of_the_account_reads_its_memory() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let program = program(&standin, "");
    let process = if is_root { program.start_as_nobody().await } else { program.start().await };
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{line}");
    // What may not be dumped belongs to root there, whatever account it runs as.
    let owner = fs::metadata(format!("/proc/{}/environ", process.pid())).unwrap().uid();
    assert_eq!(owner, 0, "its memory is its account's");
    assert!(is_served(&process).await);
    assert!(process.metrics().await.contains("process_open_fds"), "and it still sees itself");
}

#[tokio::test]
async fn descriptors_are_raised_to_what_the_system_allows() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let process = program(&standin, "").start().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
}

/// Two proxies, each the other's provider; behind the second target of the first one is the way out.
#[tokio::test]
async fn a_request_that_comes_back_is_refused_and_goes_elsewhere() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    // The second has the socket from here, so that the first can know its address before it runs.
    let (there, socket) = listen("127.0.0.1:0");
    let route = |address, more: &str| {
        let over = openai("over", &format!("http://{address}/v1"), "KEY");
        let one = openai("one", &standin.base_url(), "KEY");
        format!(
            "providers:\n{over}{one}routes: {{chat: {{targets: [{{provider: over, model: chat, priority: 1}}{more}]}}}}\ndefault_route: chat\n"
        )
    };
    let first = Program::new(&format!(
        "{}{}",
        process::HEAD,
        route(there, ", {provider: one, model: alpha, priority: 2}")
    ));
    let first = first.env("KEY", "sk-0123456789").start().await;
    let head = process::HEAD.replacen("127.0.0.1:0", &there.to_string(), 1);
    let second = Program::new(&format!("{head}{}", route(first.data, ""))).env("KEY", "sk-0123456789");
    let second = Held(vec![inheritable("data", socket)]).until_ready(second).await;
    for process in [&first, &second] {
        let answer = Call::chat("chat").limit(process::SOON).send(process.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
    }
    assert!(first.said().contains("508"), "{}", first.said());
    let hops = standin.last().unwrap().header("x-pointsman-hop").map(str::to_owned).unwrap_or_default();
    assert_eq!(hops.len(), 2 * 16 + 1, "the second and the first: {hops}");
    let upload = Call::post("/v1/files", "x").limit(process::SOON).send(first.data).await.unwrap();
    assert_eq!(upload.status, 508, "{}", upload.body_text());
}
