//! The built program as its operator runs it: a file, variables, signals, standard output.
//!
//! [`Program`] is a folder with a configuration file (mode 0600), a runtime directory and an
//! environment of its own, nothing inherited; [`Process`] is the running thing, and knows its ports
//! from the log line `msg=ready`. All that it says is kept. Dropping it kills it, by its own id.

use pointsman::standin::caller::{Answer, Call};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything of the process may take that should take no time: the machine may be busy.
pub const SOON: Duration = Duration::from_secs(20);

const BINARY: &str = env!("CARGO_BIN_EXE_pointsman");

/// What every file of these tests begins with: free ports, a log that can be read.
pub const HEAD: &str = "version: 1
threads: 2
listen: [{address: \"127.0.0.1:0\"}]
admin: {address: \"127.0.0.1:0\"}
";

/// The program in a folder of its own, not running.
pub struct Program {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Program {
    /// Lays out the folder with this configuration.
    pub fn new(yaml: &str) -> Program {
        let program = Program { folder: tempfile::tempdir().unwrap(), variables: Vec::new() };
        fs::create_dir(program.path("run")).unwrap();
        program.configure(yaml);
        program
    }

    /// Sets a variable of the process.
    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns a path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the path of the configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("pointsman.yaml")
    }

    /// Puts another configuration in the file's place, whole and at once.
    pub fn configure(&self, yaml: &str) {
        self.write("pointsman.yaml", yaml);
    }

    /// Writes a file that only its owner can read, whole and at once.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let next = self.path(&format!(".{name}.next"));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        fs::rename(&next, &path).unwrap();
        path
    }

    /// Returns the command with these arguments; `CONFIG` stands for the file's path.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        for argument in arguments {
            match *argument {
                "CONFIG" => command.arg(self.config()),
                argument => command.arg(argument),
            };
        }
        command.env_clear().env("XDG_RUNTIME_DIR", self.path("run")).current_dir(self.folder.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a verb to its end and returns its exit code with all it said.
    pub async fn verb(&self, arguments: &[&str]) -> (i32, String) {
        self.run_to_end(self.command(arguments)).await
    }

    /// The same as another user of the machine (`nobody`); only root can do that.
    pub async fn verb_as_nobody(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = self.command(arguments);
        command.uid(65534).gid(65534);
        self.run_to_end(command).await
    }

    /// The same with another standard output, which is not read.
    pub async fn verb_into(&self, arguments: &[&str], out: impl Into<Stdio>) -> (i32, String) {
        let mut command = self.command(arguments);
        command.stdout(out);
        self.run_to_end(command).await
    }

    /// Runs a verb to its end as a shell does behind some words of its own, such as `ulimit`.
    pub async fn verb_behind(&self, words: &str, arguments: &[&str]) -> (i32, String) {
        let direct = self.command(arguments);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{words}; exec \"$0\" \"$@\"")]);
        command.arg(direct.get_program()).args(direct.get_args()).current_dir(self.folder.path());
        command.env_clear().envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.run_to_end(command).await
    }

    async fn run_to_end(&self, command: Command) -> (i32, String) {
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        // Not by output(), which reads standard output in any case.
        let ended = async { command.spawn()?.wait_with_output().await };
        let ended = tokio::time::timeout(SOON, ended).await;
        let output = match ended.expect("the program comes to an end") {
            Ok(output) => output,
            Err(fault) => return (-1, fault.to_string()),
        };
        let Output { status, stdout, stderr } = output;
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        (status.code().unwrap_or(-1), said)
    }

    /// Starts `run -c` and waits until it is ready.
    pub async fn start(self) -> Process {
        let process = self.launch();
        let (first, process) = process.until_ready().await;
        first.unwrap_or_else(|| panic!("it is not ready; it said:\n{}", process.said()));
        process
    }

    /// Starts `run -c` and does not wait.
    pub fn launch(self) -> Launched {
        let command = self.command(&["run", "-c", "CONFIG"]);
        self.launch_as(command)
    }

    /// Starts it with at most so many descriptors, soft and hard, and waits until it is ready.
    pub async fn start_with_descriptors(self, most: u32) -> Process {
        let script = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
        let mut command = self.command(&[]);
        let mut by_shell = Command::new("sh");
        by_shell.arg("-c").arg(script).arg(BINARY).args(["run", "-c"]).arg(self.config());
        by_shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        by_shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::mem::swap(&mut command, &mut by_shell);
        let (first, process) = self.launch_as(command).until_ready().await;
        first.unwrap_or_else(|| panic!("it is not ready; it said:\n{}", process.said()));
        process
    }

    /// Starts it as an account without rights, where root can give it the folder.
    pub async fn start_as_nobody(self) -> Process {
        for path in [self.folder.path(), &self.path("run"), &self.config()] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
        let mut command = self.command(&["run", "-c", "CONFIG"]);
        command.uid(65534).gid(65534);
        let (first, process) = self.launch_as(command).until_ready().await;
        first.unwrap_or_else(|| panic!("it is not ready; it said:\n{}", process.said()));
        process
    }

    /// Starts a command that [`Program::command`] has made, or one like it, and does not wait.
    pub fn launch_as(self, mut command: Command) -> Launched {
        // It may leave a process behind that has taken its place.
        command.process_group(0);
        let mut child = command.spawn().unwrap();
        let said = Said::default();
        said.follow(child.stdout.take().unwrap());
        said.follow(child.stderr.take().unwrap());
        Launched { child: Some(child), said, program: Some(self) }
    }
}

/// Standard output and standard error, line by line.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn follow(&self, pipe: impl Read + Send + 'static) {
        let said = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                said.0.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A process that may not be ready yet.
pub struct Launched {
    child: Option<Child>,
    said: Said,
    program: Option<Program>,
}

impl Launched {
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn program(&self) -> &Program {
        self.program.as_ref().unwrap()
    }

    /// Waits for the line `msg=ready`; nothing where the process ended or took too long.
    pub async fn until_ready(mut self) -> (Option<()>, Process) {
        let end = Instant::now() + SOON;
        let mut ready = None;
        while ready.is_none() && Instant::now() < end {
            ready = self.said.all().iter().filter_map(|line| json(line)).find(|line| line["msg"] == "ready");
            let is_gone = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            if ready.is_none() && is_gone {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let address = |name: &str| -> SocketAddr {
            let text = ready.as_ref().and_then(|line| line[name].as_str()).unwrap_or("127.0.0.1:9");
            text.split(',').next().unwrap().parse().unwrap()
        };
        let (data, admin) = (address("data"), address("admin"));
        let process = Process {
            child: self.child.take().unwrap(),
            said: self.said.clone(),
            program: self.program.take().unwrap(),
            data,
            admin,
        };
        (ready.map(|_| ()), process)
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            end_group(&mut child);
        }
    }
}

/// A running process. Dropping it kills it.
pub struct Process {
    child: Child,
    said: Said,
    /// Its folder.
    pub program: Program,
    /// Where its clients call.
    pub data: SocketAddr,
    /// Where its operator asks.
    pub admin: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        end_group(&mut self.child);
    }
}

/// Kills a process and those that have taken its place.
fn end_group(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may have ended long ago, with nobody in its place.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// What a reload came to, as the counters have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloads {
    pub ok: u64,
    pub error: u64,
    pub generation: u64,
    pub is_last_good: bool,
}

impl Process {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name (`HUP`, `TERM`, `INT`, `KILL`).
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Returns all it said, both streams.
    pub fn said(&self) -> String {
        self.said.all().join("\n")
    }

    /// Waits until all that it and those in its place said is read; they have ended.
    pub async fn heard_out(&self) {
        // Each pipe is read by somebody who holds a share of the book.
        eventually("all that it said is read", async || Arc::strong_count(&self.said.0) == 1).await;
    }

    /// Returns its log so far.
    pub fn log(&self) -> Vec<serde_json::Value> {
        self.said.all().iter().filter_map(|line| json(line)).collect()
    }

    /// Returns the lines of the log of that kind so far.
    pub fn log_of(&self, msg: &str) -> Vec<serde_json::Value> {
        self.log().into_iter().filter(|line| line["msg"] == msg).collect()
    }

    /// Waits until so many processes have said that they are ready, this one and those that took its
    /// place; returns the id of the last.
    pub async fn generation(&self, count: usize) -> u32 {
        let end = Instant::now() + SOON;
        loop {
            let ready = self.log_of("ready");
            if let Some(line) = ready.get(count - 1) {
                return u32::try_from(line["pid"].as_u64().unwrap()).unwrap();
            }
            assert!(Instant::now() < end, "{} of {count} are ready; it said:\n{}", ready.len(), self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks the admin plane.
    pub async fn ask(&self, path: &str) -> Answer {
        Call::get(path).limit(SOON).send(self.admin).await.unwrap()
    }

    /// Asks the admin plane for JSON.
    pub async fn ask_json(&self, path: &str) -> serde_json::Value {
        let answer = self.ask(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
        answer.json()
    }

    /// Scrapes the metrics.
    pub async fn metrics(&self) -> String {
        self.ask("/metrics").await.body_text()
    }

    /// Returns the sum over the series of a metric whose labels hold each of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, name, labels)
    }

    /// Returns what the reloads came to so far.
    pub async fn reloads(&self) -> Reloads {
        let page = self.metrics().await;
        let count = |name: &str, labels: &[&str]| {
            let value = sum(&page, name, labels);
            assert!(value >= 0.0 && value.fract() == 0.0, "{name} is {value}");
            format!("{value}").parse::<u64>().unwrap()
        };
        Reloads {
            ok: count("pointsman_config_reloads_total", &["result=\"ok\""]),
            error: count("pointsman_config_reloads_total", &["result=\"error\""]),
            generation: count("pointsman_config_generation", &[]),
            is_last_good: count("pointsman_config_last_reload_successful", &[]) == 1,
        }
    }

    /// Puts a configuration in the file, sends SIGHUP and waits until the reload was counted.
    pub async fn reload(&self, yaml: &str) -> Reloads {
        self.program.configure(yaml);
        self.hang_up().await
    }

    /// Sends SIGHUP and waits until the reload was counted.
    pub async fn hang_up(&self) -> Reloads {
        let before = self.reloads().await;
        self.signal("HUP");
        let end = Instant::now() + SOON;
        loop {
            let now = self.reloads().await;
            if now.ok + now.error > before.ok + before.error {
                return now;
            }
            assert!(Instant::now() < end, "the reload was never counted; it said:\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the admin token that it left in its runtime directory.
    pub fn token(&self) -> String {
        let folder = self.program.path("run").join("pointsman");
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        assert_eq!((mode(&folder), mode(file)), (0o700, 0o600), "{}", file.display());
        fs::read_to_string(file).unwrap().trim_end().to_owned()
    }

    /// Calls a writing verb of the admin plane.
    pub async fn post(&self, path: &str, token: &str) -> Answer {
        Call::post(path, "").bearer(token).limit(SOON).send(self.admin).await.unwrap()
    }

    /// Returns what one target looks like to the operator.
    pub async fn target(&self, id: &str) -> serde_json::Value {
        self.ask_json(&format!("/v1/targets/{id}")).await
    }

    /// Tells whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; returns how it ended and how long that took.
    pub async fn end(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, began.elapsed());
            }
            assert!(began.elapsed() < limit, "it still runs after {limit:?}; it said:\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it as a crash of the machine would, and gives the folder back.
    pub fn crash(mut self) -> Program {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let empty = Program { folder: tempfile::tempdir().unwrap(), variables: Vec::new() };
        std::mem::replace(&mut self.program, empty)
    }
}

/// Sends a signal to a process. By a shell, whose `kill` is built in.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).status().unwrap();
    assert!(status.success(), "kill -s {name}");
}

/// Returns the permissions of a file.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Reads a line of the log.
pub fn json(line: &str) -> Option<serde_json::Value> {
    serde_json::from_str(line).ok()
}

/// Returns the sum over the series of a metric whose labels hold each of `labels`.
pub fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let series = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Says loudly that a test cannot run here: into the file that `scripts/test` shows at its end.
pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    if let Some(path) = std::env::var_os("POINTSMAN_TEST_SKIPS") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(file, "{why}").unwrap();
    }
}

/// Tells whether the long profiles are asked for.
pub fn is_full() -> bool {
    std::env::var_os("POINTSMAN_FULL").is_some_and(|value| value == "1")
}

/// Waits until something holds, at most [`SOON`].
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An openai provider as YAML, its key from this variable.
pub fn openai(name: &str, base_url: &str, variable: &str) -> String {
    format!(
        "  {name}: {{kind: openai, base_url: \"{base_url}\", credentials: [{{name: k, key: {{env: {variable}}}}}]}}\n"
    )
}
