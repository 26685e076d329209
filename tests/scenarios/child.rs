//! A provider that is a process of its own, so that it can be killed.
//!
//! The program starts itself again in this role. The port is the parent's: it stays bound there, so
//! that nobody else can take it while the child is dead, and the child listens on it beside.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use pointsman::standin::{Provider, Reply, SIXTY_WORDS};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};

/// The first argument of a child; the second is its port.
pub const ROLE: &str = "provider";

/// Pause after each of the sixty words.
pub const PACE: Duration = Duration::from_millis(4);

/// Longest time until it listens.
const START: Duration = Duration::from_secs(20);

/// A port of loopback that stays ours.
pub struct Port {
    pub number: u16,
    _socket: TcpSocket,
}

impl Port {
    pub fn take() -> Port {
        let socket = shared(0);
        let number = socket.local_addr().expect("the socket is bound").port();
        Port { number, _socket: socket }
    }
}

fn shared(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseport(true).expect("the port may be shared");
    socket.set_reuseaddr(true).expect("connections of before may linger");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("the port is ours");
    socket
}

/// Starts a provider on that port and waits until it listens.
pub async fn start(port: &Port) -> Child {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .args([ROLE, &port.number.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a provider starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
    let first = tokio::time::timeout(START, lines.next_line()).await;
    assert!(matches!(first, Ok(Ok(Some(_)))), "the provider does not listen: {first:?}");
    child
}

/// Is that provider, until it is killed or its parent is gone.
pub fn live(port: &str) -> ExitCode {
    let Ok(port) = port.parse() else { return ExitCode::FAILURE };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = shared(port).listen(1024).expect("the port listens");
        let reply = Reply::says(SIXTY_WORDS).delay(PACE);
        let _provider = Provider::start_on(reply, listener).expect("a provider starts");
        println!("listening");
        let parent = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]));
        let _ = parent.await;
    });
    ExitCode::SUCCESS
}
