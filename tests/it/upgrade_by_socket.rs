//! Does the program take the sockets that a service manager holds, so that a restart refuses nobody?
//!
//! (sd_listen_fds(3); `src/server/sockets.rs`.) The test holds them as systemd does.

use crate::process::{HEAD, Launched, Process, Program, SOON, eventually, openai};
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

/// The sockets of a unit.
pub struct Held(pub Vec<(&'static str, OwnedFd)>);

impl Held {
    /// Returns what starts the program as systemd does: descriptors from 3 on, and variables that
    /// name them.
    pub fn command(&self, program: &Program) -> Command {
        let mut script = "exec".to_owned();
        for (at, (_, socket)) in self.0.iter().enumerate() {
            let _ = write!(script, " {0}<&{1} {1}<&-", at + 3, socket.as_raw_fd());
        }
        let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        let _ = write!(
            script,
            "; LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} exec \"$0\" \"$@\"",
            names.len(),
            names.join(":")
        );
        let direct = program.command(&["run", "-c", "CONFIG"]);
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(direct.get_program()).args(direct.get_args());
        command.env_clear().envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(direct.get_current_dir().unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, program: Program) -> Launched {
        let command = self.command(&program);
        program.launch_as(command)
    }

    /// Starts the program on these sockets and waits until it is ready.
    pub async fn until_ready(&self, program: Program) -> Process {
        let (ready, process) = self.start(program).until_ready().await;
        ready.unwrap_or_else(|| panic!("it is not ready; it said:\n{}", process.said()));
        process
    }
}

/// A socket that children inherit, above all that a shell may use itself.
pub fn inheritable(name: &'static str, socket: impl AsFd) -> (&'static str, OwnedFd) {
    let socket = fcntl_dupfd_cloexec(socket, 100).unwrap();
    fcntl_setfd(&socket, FdFlags::empty()).unwrap();
    (name, socket)
}

pub fn listen(address: &str) -> (SocketAddr, TcpListener) {
    let socket = TcpListener::bind(address).unwrap();
    (socket.local_addr().unwrap(), socket)
}

fn yaml(provider: &Provider, listen: &str, admin: SocketAddr) -> String {
    let head = HEAD.replacen("[{address: \"127.0.0.1:0\"}]", listen, 1).replacen(
        "127.0.0.1:0",
        &admin.to_string(),
        1,
    );
    format!(
        "{head}grace: 20s\nlog: {{format: json}}\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\n",
        openai("one", &provider.base_url(), "KEY_ONE")
    )
}

fn program(yaml: &str) -> Program {
    Program::new(yaml).env("KEY_ONE", "sk-one-0123456789")
}

#[tokio::test]
async fn sockets_of_the_service_manager_are_taken_by_their_addresses() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let (data, first) = listen("127.0.0.1:0");
    let (six, second) = listen("[::1]:0");
    let (tls, third) = listen("127.0.0.1:0");
    let (admin, last) = listen("127.0.0.1:0");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let listens = format!(
        "[{{address: \"{data}\"}}, {{address: \"{six}\", h2c: true}}, {{address: \"{tls}\", tls: {{cert: cert.pem, key: key.pem}}}}]"
    );
    let program = program(&yaml(&provider, &listens, admin));
    program.write("cert.pem", &made.cert.pem());
    program.write("key.pem", &made.signing_key.serialize_pem());
    // In another order than the configuration has them: addresses count.
    let held = Held(vec![
        inheritable("admin", last),
        inheritable("tls", third),
        inheritable("six", second),
        inheritable("data", first),
    ]);
    let process = held.until_ready(program).await;
    assert_eq!((process.data, process.admin), (data, admin));
    assert_eq!(Call::chat("chat").limit(SOON).send(data).await.unwrap().status, 200);
    assert_eq!(Call::chat("chat").http2().limit(SOON).send(six).await.unwrap().status, 200);
    assert_eq!(process.ask("/readyz").await.status, 200);
    assert!(!process.said().contains("was bound here"), "{}", process.said());
    // A TLS listener that is served answers plain text with an alert or an end, at once.
    let answer = pointsman::standin::caller::raw(tls, b"GET / HTTP/1.1\r\n\r\n", SOON).await;
    assert!(answer.is_err() || answer.is_ok_and(|bytes| !bytes.starts_with(b"HTTP/")));
}

#[tokio::test]
async fn a_socket_without_a_listener_is_refused_and_a_listener_without_a_socket_is_bound() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let (data, first) = listen("127.0.0.1:0");
    let (foreign, second) = listen("127.0.0.1:0");
    let (admin, last) = listen("127.0.0.1:0");
    drop(last);
    let listens = format!("[{{address: \"{data}\"}}]");
    let both = Held(vec![inheritable("data", &first), inheritable("other", second)]);
    let (ready, mut process) = both.start(program(&yaml(&provider, &listens, admin))).until_ready().await;
    assert!(ready.is_none());
    assert_eq!(process.end(SOON).await.0.code(), Some(78));
    let want = format!(
        "descriptor 4 (other) of the service manager is bound to {foreign}, where no listener of the configuration is (listen: {data}; admin.address: {admin})"
    );
    eventually("it says which", async || process.said().contains(&want)).await;

    // Also where the socket that nobody has is in the way of the listener that has none.
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], data.port()));
    let listens_elsewhere = format!("[{{address: \"{elsewhere}\"}}]");
    let odd = Held(vec![inheritable("data", &first)]);
    let (ready, mut process) =
        odd.start(program(&yaml(&provider, &listens_elsewhere, admin))).until_ready().await;
    assert!(ready.is_none());
    assert_eq!(process.end(SOON).await.0.code(), Some(78));
    let want = format!(
        "is bound to {data}, where no listener of the configuration is (listen: {elsewhere}; admin.address: {admin}); write ListenStream={elsewhere} in the socket unit, or address: \"{data}\" where listen[0].address is {elsewhere}"
    );
    eventually("it says what to write", async || process.said().contains(&want)).await;

    let alone = Held(vec![inheritable("data", &first)]);
    let process = alone.until_ready(program(&yaml(&provider, &listens, admin))).await;
    assert_eq!(process.ask("/readyz").await.status, 200);
    let want =
        format!("admin.address {admin} is not among the sockets of the service manager and was bound here");
    assert!(process.said().contains(&want), "{}", process.said());
    drop(process);

    let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
    let odd = Held(vec![inheritable("odd", here)]);
    let (ready, mut process) = odd.start(program(&yaml(&provider, &listens, admin))).until_ready().await;
    assert!(ready.is_none());
    assert_eq!(process.end(SOON).await.0.code(), Some(78));
    eventually("it says which", async || {
        process.said().contains("descriptor 3 (odd) of the service manager is not a TCP socket")
    })
    .await;
}

/// How many connections wait in a listener's queue, as the kernel counts them.
fn waiting_at(listener: SocketAddr) -> u32 {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = format!(":{:04X}", listener.port());
    // Of a line: local and remote address, state (0A listens), what is sent and what waits.
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = lines.find(|words| words[1].ends_with(&port) && words[3] == "0A").unwrap();
    u32::from_str_radix(ours[4].split_once(':').unwrap().1, 16).unwrap()
}

#[tokio::test]
async fn who_connects_while_nobody_runs_is_answered_by_the_next() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let (data, first) = listen("127.0.0.1:0");
    let (admin, second) = listen("127.0.0.1:0");
    let held = Held(vec![inheritable("data", first), inheritable("admin", second)]);
    let text = yaml(&provider, &format!("[{{address: \"{data}\"}}]"), admin);
    let mut process = held.until_ready(program(&text)).await;
    process.signal("TERM");
    assert_eq!(process.end(SOON).await.0.code(), Some(0));
    let waiting: Vec<_> = (0..20)
        .map(|_| tokio::spawn(async move { Call::chat("chat").limit(SOON).send(data).await }))
        .collect();
    eventually("all wait to be taken", async || waiting_at(data) == 20).await;
    let _next = held.until_ready(program(&text)).await;
    for call in waiting {
        assert_eq!(call.await.unwrap().expect("a connection that waited is answered").status, 200);
    }
}

#[tokio::test]
async fn no_child_hears_of_the_sockets() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let (data, first) = listen("127.0.0.1:0");
    let held = Held(vec![inheritable("data", first)]);
    let text = yaml(&provider, &format!("[{{address: \"{data}\"}}]"), "127.0.0.1:0".parse().unwrap());
    let program = program(&text);
    let (mark, open) = (program.path("environment"), program.path("open"));
    let command = format!(
        "{{command: [\"/bin/sh\", \"-c\", \"env > {}; ls -l /proc/self/fd > {}; echo sk-made-0123456789\"]}}",
        mark.display(),
        open.display()
    );
    program.configure(&text.replace("{env: KEY_ONE}", &command));
    let mut process = held.until_ready(program).await;
    let seen = || [&mark, &open].map(|path| std::fs::read_to_string(path).unwrap());
    let [environment, descriptors] = seen();
    assert!(
        !environment.contains("LISTEN_") && !descriptors.contains("socket:"),
        "{environment}{descriptors}"
    );
    // The next one gets its sockets from this one, and not by descriptors of these numbers.
    process.signal("USR2");
    let new = process.generation(2).await;
    let variables = std::fs::read_to_string(format!("/proc/{new}/environ"));
    // Its memory is closed even to us, where we are not root.
    assert!(!variables.is_ok_and(|text| text.contains("LISTEN_")));
    process.end(SOON).await;
    assert_eq!(Call::chat("chat").limit(SOON).send(data).await.unwrap().status, 200);
    let [environment, descriptors] = seen();
    assert!(
        !environment.contains("LISTEN_") && !descriptors.contains("socket:"),
        "{environment}{descriptors}"
    );
}
