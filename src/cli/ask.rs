//! How does the command line reach the process that runs?
//!
//! By its admin address: `--admin`, else `POINTSMAN_ADMIN`, else `admin.address` of the
//! configuration file (`-c`, else the usual one) and of the variables over it, else 127.0.0.1:9901. Plain HTTP/1.1 over the
//! caller that the demo and the tests use.
//!
//! The token is looked for only when it is wanted: before a writing verb, and when a reading one was
//! answered 401. `POINTSMAN_ADMIN_TOKEN` first, then what `admin.token` of the file names, then the
//! file that the process left in its runtime directory (`$RUNTIME_DIRECTORY`, `/run/pointsman`,
//! `$XDG_RUNTIME_DIR/pointsman`), in each the one with the address in its name first. It is never an argument: those are in everybody's process list.
//!
//! Answers are bounded in time ([`PATIENCE`]) and, as the caller's, in size. What goes wrong has an
//! exit code and a sentence with the remedy ([`Fault`]).

use super::{Exit, complain, file_or_usual};
use crate::admin::token;
use crate::base::percent;
use crate::base::secret::Secret;
use crate::config::Outside;
use crate::config::settings::{AdminPlace, admin_place};
use crate::reload::Texts;
use crate::secrets::Host;
use crate::server::Keeper;
use crate::standin::caller::{Answer, BodyEnd, Call};
use serde_json::Value;
use std::cell::OnceCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// Where the admin plane is where nobody says.
const USUAL_ADDRESS: &str = "127.0.0.1:9901";
/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a reload may take: a `command:` secret has ten seconds, and there may be several.
pub(super) const RELOAD_PATIENCE: Duration = Duration::from_secs(120);
/// Longest token file that is read.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Which process is meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Whom {
    /// Admin address of the process, such as 127.0.0.1:9901 (default: `POINTSMAN_ADMIN`, else that of the file).
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// Configuration file of the process; its admin address and token are read from it.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

impl Whom {
    /// Tells whether the process was named by its address.
    pub(super) fn is_by_address(&self) -> bool {
        self.admin.is_some()
    }
}

/// Why a verb came to nothing.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) exit: Exit,
    pub(super) lines: Vec<String>,
}

impl Fault {
    pub(super) fn new(exit: Exit, line: impl Into<String>) -> Fault {
        Fault { exit, lines: vec![line.into()] }
    }

    /// Says it on standard error and returns the exit code.
    pub(super) fn tell(&self) -> Exit {
        self.lines.iter().for_each(|line| complain(line));
        self.exit
    }
}

/// The admin plane of one process.
pub(super) struct Desk<'a> {
    keeper: &'a Keeper,
    /// As it was named, for messages.
    pub(super) name: String,
    address: SocketAddr,
    place: AdminPlace,
    token: OnceCell<Search>,
}

/// A token that was looked for.
struct Search {
    /// It, and where it stands.
    found: Option<(Secret, String)>,
    /// Where it does not.
    looked: Vec<String>,
}

impl<'a> Desk<'a> {
    /// Finds it; nothing is asked yet.
    pub(super) fn find(keeper: &'a Keeper, whom: &Whom) -> Result<Desk<'a>, Fault> {
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let name = whom.admin.clone().or_else(|| named("POINTSMAN_ADMIN"));
        let read = |path: PathBuf| {
            let texts =
                Texts::read(&path).map_err(|f| Fault { exit: Exit::of_load(&f), lines: f.lines() })?;
            admin_place(&texts.sources()).map_err(|problems| Fault {
                exit: Exit::Configuration,
                lines: problems.iter().map(ToString::to_string).collect(),
            })
        };
        let place = match file_or_usual(whom.config.clone()).map(read) {
            Some(Ok(place)) => place,
            // Named and not readable is a mistake, unless the address is named too: another process may
            // be where one guesses. The usual file is only a hint.
            Some(Err(fault)) if whom.config.is_some() && name.is_none() => return Err(fault),
            Some(Err(_)) | None => AdminPlace::default(),
        };
        let name = name
            .or_else(|| place.address.clone())
            // A process without a file has the variables all the same.
            .or_else(|| named("POINTSMAN__ADMIN__ADDRESS"))
            .unwrap_or_else(|| USUAL_ADDRESS.to_owned());
        let bare = name.strip_prefix("http://").unwrap_or(&name).trim_end_matches('/').to_owned();
        let address = resolve(&bare)?;
        Ok(Desk { keeper, name: bare, address, place, token: OnceCell::new() })
    }

    /// Reads a page as JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value, Fault> {
        self.json(&Call::get(path).header("accept", "application/json").limit(PATIENCE))
    }

    /// Posts something (or nothing) and reads the answer as JSON.
    pub(super) fn post(&self, path: &str, body: Option<&Value>, limit: Duration) -> Result<Value, Fault> {
        let call = body.map_or_else(|| Call::post(path, ""), |body| Call::json(path, body));
        self.json(&call.limit(limit))
    }

    /// Tells whether the process says that it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.send(&Call::get("/readyz").limit(PATIENCE)).is_ok_and(|answer| answer.status == 200)
    }

    fn json(&self, call: &Call) -> Result<Value, Fault> {
        let answer = self.send(call)?;
        serde_json::from_slice(&answer.body).map_err(|_| {
            Fault::new(
                Exit::Unavailable,
                format!("{} answered no JSON: is it pointsman's admin address?", self.name),
            )
        })
    }

    /// Sends a call, with the token where that is wanted; anything but a success is a fault.
    fn send(&self, call: &Call) -> Result<Answer, Fault> {
        let call = call.clone().header("host", &self.name);
        let reads = call.is_get();
        let mut answer = self.exchange(&if reads { call.clone() } else { self.shown(call.clone()) })?;
        if reads && answer.status == 401 && self.token().found.is_some() {
            answer = self.exchange(&self.shown(call))?;
        }
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    fn exchange(&self, call: &Call) -> Result<Answer, Fault> {
        let answer =
            self.keeper.block_on(call.send(self.address)).map_err(|fault| self.unreachable(&fault))?;
        match &answer.end {
            BodyEnd::Clean if answer.status != 0 => Ok(answer),
            BodyEnd::Clean | BodyEnd::Left => Err(self.unreachable(&io::ErrorKind::InvalidData.into())),
            BodyEnd::Cut(_) => Err(self.unreachable(&io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Follows a stream of events until it ends or `each` has had enough.
    pub(super) fn follow(&self, path: &str, mut each: impl FnMut(&str) -> bool) -> Result<(), Fault> {
        let call = Call::get(path).header("host", &self.name).header("accept", "text/event-stream");
        self.keeper.block_on(async {
            let lost = |fault: io::Error| self.unreachable(&fault);
            let open = async |call: &Call| -> Result<_, io::Error> {
                let mut talk = call.begin(self.address).await?;
                let status = tokio::time::timeout(PATIENCE, talk.head())
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                Ok((talk, status))
            };
            let (mut talk, mut status) = open(&call).await.map_err(lost)?;
            if status == 401 && self.token().found.is_some() {
                (talk, status) = open(&self.shown(call.clone())).await.map_err(lost)?;
            }
            if status != 200 {
                let (answer, _) = talk.finish(&call).await;
                return Err(self.refused(&answer));
            }
            loop {
                let Some(events) = talk.next().await.map_err(lost)? else { return Ok(()) };
                if !events.iter().filter(|event| !event.data.is_empty()).all(|event| each(&event.data)) {
                    return Ok(());
                }
                talk.forget();
            }
        })
    }

    fn shown(&self, call: Call) -> Call {
        match &self.token().found {
            Some((token, _)) => call.bearer(token.expose()),
            None => call,
        }
    }

    /// Finds the token, once; and says where it was looked for.
    fn token(&self) -> &Search {
        self.token.get_or_init(|| {
            let mut looked = Vec::new();
            let sound = |text: String| {
                let text = text.trim().to_owned();
                (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Secret::new(text))
            };
            let variable = "POINTSMAN_ADMIN_TOKEN".to_owned();
            if let Some(token) = std::env::var(&variable).ok().and_then(sound) {
                return Search { found: Some((token, variable)), looked };
            }
            looked.push(variable);
            if let Some(reference) = &self.place.token {
                let place = format!("admin.token ({reference})");
                if let Ok(token) = Host.secret(reference) {
                    return Search { found: Some((token, place)), looked };
                }
                looked.push(place);
            }
            let names = [token::file_of(self.address), token::FILE.to_owned()];
            for path in runtime_directories().iter().flat_map(|folder| names.iter().map(|n| folder.join(n))) {
                let shown = path.display().to_string();
                match read_token(&path) {
                    Ok(text) => {
                        if let Some(token) = sound(text) {
                            return Search { found: Some((token, shown)), looked };
                        }
                        looked.push(shown);
                    }
                    Err(fault) if fault.kind() == io::ErrorKind::PermissionDenied => {
                        looked.push(format!("{shown} (permission denied)"));
                    }
                    // That there is none of its own name is the usual case and says nothing.
                    Err(_) if !path.ends_with(token::FILE) => {}
                    Err(_) => looked.push(shown),
                }
            }
            Search { found: None, looked }
        })
    }

    fn unreachable(&self, fault: &io::Error) -> Fault {
        let name = &self.name;
        let why = match fault.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("nothing listens on {name}: is pointsman running? (--admin names another address)")
            }
            io::ErrorKind::TimedOut => format!("{name} does not answer in time"),
            io::ErrorKind::InvalidData => {
                format!("{name} does not speak HTTP: is it pointsman's admin address?")
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                format!("{name} broke the connection off: is it pointsman's admin address?")
            }
            kind => format!("{name} cannot be asked: {kind}"),
        };
        Fault::new(Exit::Unavailable, why)
    }

    /// Says what a refusal means, with the remedy.
    fn refused(&self, answer: &Answer) -> Fault {
        let told = answer.json();
        let detail = told.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned();
        let errors = told.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut lines: Vec<String> = errors.iter().filter_map(|e| e.as_str().map(str::to_owned)).collect();
        let name = &self.name;
        let (exit, line) = match answer.status {
            401 => (Exit::Permission, self.wants_token(&detail)),
            403 => (Exit::Permission, format!("{name}: {detail}")),
            status if detail.is_empty() => (
                Exit::Unavailable,
                format!("{name} answered with status {status}: is it pointsman's admin address?"),
            ),
            404 if detail == "nothing is at this path" => (
                Exit::Unavailable,
                format!("the process at {name} does not know this: is it an older pointsman?"),
            ),
            400 | 404 | 413 => (Exit::Usage, detail),
            // What was asked for does not go with what there is, such as a pin on a route without the target.
            // With faults beside it, it is a step back that is not to be had.
            409 if errors.is_empty() => (Exit::Usage, detail),
            422 => (Exit::Configuration, detail),
            _ => (Exit::Unavailable, detail),
        };
        lines.push(line);
        Fault { exit, lines }
    }

    fn wants_token(&self, detail: &str) -> String {
        let Search { found, looked } = self.token();
        let name = &self.name;
        let mut line = match found {
            Some((_, place)) => format!(
                "{name} does not take this admin token, which is from {place}: it may be another process's; put the right one into POINTSMAN_ADMIN_TOKEN, or run as the service's user"
            ),
            None => format!(
                "{name} wants the admin token: set POINTSMAN_ADMIN_TOKEN, or run as the service's user; looked in {}",
                looked.join(", ")
            ),
        };
        if detail.is_empty() {
            line.push_str(" (is it pointsman's admin address?)");
        }
        line
    }
}

fn read_token(path: &std::path::Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn runtime_directories() -> Vec<PathBuf> {
    let named = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("pointsman"));
    [named, Some(PathBuf::from("/run/pointsman")), own].into_iter().flatten().collect()
}

/// Finds the address behind a name; one that listens everywhere is asked on loopback.
fn resolve(name: &str) -> Result<SocketAddr, Fault> {
    let usage = |why: &str| Fault::new(Exit::Usage, format!("--admin {name}: {why}"));
    if name.starts_with("https://") {
        return Err(usage("the admin plane speaks plain HTTP; reach it through a tunnel"));
    }
    let is_sound = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if !is_sound || !name.contains(':') {
        return Err(usage("must be address and port, such as 127.0.0.1:9901"));
    }
    let mut found = name
        .to_socket_addrs()
        .map_err(|_| Fault::new(Exit::Unavailable, format!("{name}: the name cannot be resolved")))?;
    let address = found.next().ok_or_else(|| usage("stands for no address"))?;
    if address.port() == 0 {
        return Err(usage("port 0 is any free port; name the one that the log says"));
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

/// Escapes what stands between two slashes of a path.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    percent::encode(text, b"", &mut escaped);
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_they_are_written_elsewhere() {
        for (name, want) in [
            ("127.0.0.1:9901", Some("127.0.0.1:9901")),
            ("0.0.0.0:9901", Some("127.0.0.1:9901")),
            ("[::]:1", Some("[::1]:1")),
            ("127.0.0.1", None),
            ("127.0.0.1:0", None),
            ("https://127.0.0.1:1", None),
            ("127.0.0.1:1/v1", None),
            ("", None),
            ("127.0.0.1:1\r\nx: y", None),
        ] {
            let found = resolve(name).ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), want, "{name:?}");
        }
    }

    #[test]
    fn ids_with_slashes_and_colons_are_one_step_of_a_path() {
        assert_eq!(escaped("ollama/main/llama3:8b é"), "ollama%2Fmain%2Fllama3%3A8b%20%C3%A9");
    }
}
