//! Which keys stand behind the names?
//!
//! [`Host`] is the real [`Outside`]: variables of the environment, files, systemd credentials and
//! the output of commands. It runs while a configuration is read (at start, at a reload, in
//! `check`), never while a request is served. Only a file may be read once more, by
//! [`read_again`], after a provider refused what stood in it.
//!
//! * A file must be a regular one (a pipe would hang a reload) of at most 64 KiB; exactly one
//!   trailing newline is not part of the secret, as every editor adds one. Anything else that
//!   cannot be sent in a header is a fault that names the path and nothing of the content.
//! * `{credential: NAME}` is a file in `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`).
//! * A command runs without a shell, with an empty environment, no input and its errors thrown
//!   away, for at most 10 seconds and 64 KiB; keys of this process never reach it. When its time is
//!   over it is ended with all that it started, which have a process group of their own. Nor does it
//!   outlive this process, which waits for none: [`end_commands`] ends those that run and starts no more.

use crate::base::secret::Secret;
use crate::base::time::Tick;
use crate::clock::Clock;
use crate::config::{Outside, PairFault, SecretFault, SecretRef, secret_of};
use crate::pem;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use zeroize::Zeroizing;

/// No key is longer; service account files of cloud providers are about 2.4 KiB.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// A password manager may have to ask a server; a reload should not wait longer.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);

/// The machine that we run on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

impl Outside for Host {
    fn state_file(&self, path: &Path) -> Result<(), String> {
        crate::observe::usage::store::probe(path)
    }

    fn authorities(&self, path: &Path) -> Result<(), String> {
        pem::authorities(&pem::read(path)?).map(drop).map_err(str::to_owned)
    }

    fn certificate(&self, certificate: &Path, key: &Path) -> Result<(), PairFault> {
        pem::certified(certificate, key).map(drop)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn secret(&self, what: &SecretRef) -> Result<Secret, SecretFault> {
        match what {
            SecretRef::Env(name) => match std::env::var(name) {
                Ok(text) => secret_of(text),
                Err(std::env::VarError::NotPresent) => Err(SecretFault::NotSet),
                Err(std::env::VarError::NotUnicode(_)) => Err(SecretFault::NotAHeaderValue),
            },
            SecretRef::File(path) => from_file(path),
            SecretRef::Credential(name) => from_file(&credential(name)?),
            SecretRef::Command(words) => from_command(words, COMMAND_TIME_MAX),
            SecretRef::Literal(secret) => Ok(secret.clone()),
        }
    }

    fn may_append(&self, path: &std::path::Path) -> Result<(), String> {
        crate::observe::audit::probe(path)
    }

    fn document(&self, what: &SecretRef) -> Result<Secret, SecretFault> {
        match what {
            SecretRef::Env(name) => match std::env::var(name) {
                Ok(text) => lines_of(text.as_bytes()),
                Err(std::env::VarError::NotPresent) => Err(SecretFault::NotSet),
                Err(std::env::VarError::NotUnicode(_)) => Err(SecretFault::NotText),
            },
            SecretRef::File(path) => lines_of(&bytes_of_file(path)?),
            SecretRef::Credential(name) => lines_of(&bytes_of_file(&credential(name)?)?),
            SecretRef::Command(words) => lines_of(&bytes_of_command(words, COMMAND_TIME_MAX)?),
            SecretRef::Literal(secret) => Ok(secret.clone()),
        }
    }
}

/// In which state a file was read; another state may be another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    /// Its rights may change and nothing else.
    changed: (i64, i64),
}

/// Reads a secret's file again unless it is still in the state `known`; nothing where it is, and
/// where the secret is in no file. Blocks.
///
/// # Errors
/// Where the file holds no secret now, or cannot be read.
pub fn read_again(place: &SecretRef, known: Option<Stamp>) -> Result<Option<(Stamp, Secret)>, SecretFault> {
    let Some(path) = path_of(place)? else { return Ok(None) };
    // Taken before the content is read: what changes in between is seen the next time.
    let stamp = stamp_of(&path)?;
    if known == Some(stamp) {
        return Ok(None);
    }
    from_file(&path).map(|secret| Some((stamp, secret)))
}

/// Tells in which state a secret's file is; nothing where it cannot be seen, and where the secret is in no
/// file. Blocks.
#[must_use]
pub fn stamp(place: &SecretRef) -> Option<Stamp> {
    path_of(place).ok().flatten().and_then(|path| stamp_of(&path).ok())
}

fn stamp_of(path: &Path) -> Result<Stamp, SecretFault> {
    let seen = std::fs::metadata(path).map_err(|error| fault_of(error.kind()))?;
    Ok(Stamp {
        inode: seen.ino(),
        length: seen.size(),
        modified: (seen.mtime(), seen.mtime_nsec()),
        changed: (seen.ctime(), seen.ctime_nsec()),
    })
}

/// Returns where a secret's file is, if it is in one.
fn path_of(place: &SecretRef) -> Result<Option<PathBuf>, SecretFault> {
    match place {
        SecretRef::File(path) => Ok(Some(path.clone())),
        SecretRef::Credential(name) => credential(name).map(Some),
        SecretRef::Env(_) | SecretRef::Command(_) | SecretRef::Literal(_) => Ok(None),
    }
}

fn credential(name: &str) -> Result<PathBuf, SecretFault> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(SecretFault::NoCredentials)?;
    Ok(PathBuf::from(directory).join(name))
}

fn from_file(path: &Path) -> Result<Secret, SecretFault> {
    from_bytes(&bytes_of_file(path)?)
}

fn bytes_of_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFault> {
    // Looked at before it is opened: opening a pipe without a writer would wait for ever.
    let seen = std::fs::metadata(path).map_err(|error| fault_of(error.kind()))?;
    if !seen.is_file() {
        return Err(SecretFault::NotAFile);
    }
    let file = File::open(path).map_err(|error| fault_of(error.kind()))?;
    // Again on what was opened: the name may lead elsewhere by now.
    if !file.metadata().map_err(|error| fault_of(error.kind()))?.is_file() {
        return Err(SecretFault::NotAFile);
    }
    read_bounded(file)
}

fn fault_of(kind: ErrorKind) -> SecretFault {
    if kind == ErrorKind::NotFound {
        SecretFault::Missing
    } else if kind == ErrorKind::PermissionDenied {
        SecretFault::Forbidden
    } else {
        SecretFault::Unreadable(kind.to_string())
    }
}

fn read_bounded(from: impl Read) -> Result<Zeroizing<Vec<u8>>, SecretFault> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| fault_of(error.kind()))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX { Err(SecretFault::TooLarge) } else { Ok(bytes) }
}

fn from_bytes(bytes: &[u8]) -> Result<Secret, SecretFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| SecretFault::NotAHeaderValue)?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    secret_of(text.to_owned())
}

/// A text of several lines, as it is.
fn lines_of(bytes: &[u8]) -> Result<Secret, SecretFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| SecretFault::NotText)?;
    if text.trim().is_empty() { Err(SecretFault::Empty) } else { Ok(Secret::new(text.to_owned())) }
}

fn from_command(words: &[String], time_max: Duration) -> Result<Secret, SecretFault> {
    from_bytes(&bytes_of_command(words, time_max)?)
}

/// The commands of this process. One for all, as the process has one end.
static COMMANDS: Mutex<Commands> = Mutex::new(Commands { running: Vec::new(), is_over: false });

struct Commands {
    /// The process group of each, from its start until it was waited for.
    running: Vec<Pid>,
    is_over: bool,
}

/// Ends every command that runs, with all that it started, and has none started any more: the process
/// leaves, and nobody would be there to end them when their time is over.
pub fn end_commands() {
    let mut commands = COMMANDS.lock();
    commands.is_over = true;
    for group in &commands.running {
        // It may have ended by itself.
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

/// Starts a command and puts it down among those that run.
fn start(program: &str, arguments: &[String]) -> Result<Child, SecretFault> {
    // Held over the start: one that is on its way at the end is ended with the others.
    let mut commands = COMMANDS.lock();
    if commands.is_over {
        return Err(SecretFault::NotStarted("the process is leaving".to_owned()));
    }
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| SecretFault::NotStarted(error.kind().to_string()))?;
    commands.running.extend(group_of(&child));
    Ok(child)
}

fn group_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn bytes_of_command(words: &[String], time_max: Duration) -> Result<Zeroizing<Vec<u8>>, SecretFault> {
    let (program, arguments) = words.split_first().ok_or(SecretFault::Empty)?;
    let mut child = start(program, arguments)?;
    let Some(output) = child.stdout.take() else { return Err(SecretFault::Empty) };
    // One end for both, the output and the command.
    let clock = Clock::new();
    let end_at = clock.tick().after(time_max);
    // A thread of its own reads, so that a command that neither writes nor ends can be left
    // behind. It ends when the command's last child closes the pipe.
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::spawn(move || drop(send.send(read_bounded(output))));
    let Ok(read) = receive.recv_timeout(time_max) else {
        end(&mut child);
        return Err(SecretFault::CommandSlow);
    };
    if read.is_err() {
        end(&mut child);
    }
    let bytes = read?;
    let status = wait(&mut child, &clock, end_at)?;
    if !status.success() {
        return Err(SecretFault::CommandFailed(status.code().unwrap_or(-1)));
    }
    Ok(bytes)
}

/// Waits for a command that has closed its output already.
fn wait(child: &mut Child, clock: &Clock, end_at: Tick) -> Result<ExitStatus, SecretFault> {
    const STEP: Duration = Duration::from_millis(5);
    loop {
        match ended(child) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if clock.tick() >= end_at => {
                end(child);
                return Err(SecretFault::CommandSlow);
            }
            Ok(None) => std::thread::sleep(STEP),
            Err(error) => return Err(SecretFault::Unreadable(error.kind().to_string())),
        }
    }
}

/// Tells how a command ended, if it has, and strikes it out then.
fn ended(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    // Held over both: once waited for, its number may be somebody else's.
    let mut commands = COMMANDS.lock();
    let status = child.try_wait()?;
    if status.is_some() {
        let group = group_of(child);
        commands.running.retain(|running| Some(*running) != group);
    }
    Ok(status)
}

/// Ends a command that was not waited for yet, so that its number is still its own, and its children.
fn end(child: &mut Child) {
    let group = group_of(child);
    // It may have ended by itself; either way there is nothing more to do about it.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    drop(child.kill());
    let mut commands = COMMANDS.lock();
    drop(child.wait());
    commands.running.retain(|running| Some(*running) != group);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn exactly_one_trailing_newline_of_a_file_is_not_part_of_the_secret() {
        for (content, want) in [
            (&b"key"[..], Ok("key")),
            (b"key\n", Ok("key")),
            (b"key\r\n", Ok("key")),
            (b"key\n\n", Err(SecretFault::NotAHeaderValue)),
            (b"k\ney", Err(SecretFault::NotAHeaderValue)),
            (b"key ", Err(SecretFault::NotAHeaderValue)),
            (b"k\0ey", Err(SecretFault::NotAHeaderValue)),
            (b"k\xff", Err(SecretFault::NotAHeaderValue)),
            ("schlüssel".as_bytes(), Err(SecretFault::NotAHeaderValue)),
            (b"", Err(SecretFault::Empty)),
            (b"\n", Err(SecretFault::Empty)),
        ] {
            let file = file(content);
            let got = Host.secret(&SecretRef::File(file.path().to_owned()));
            assert_eq!(got.as_ref().map(Secret::expose), want.as_ref().copied(), "{content:?}");
        }
    }

    #[test]
    fn only_regular_files_of_a_sane_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let large = file(&vec![b'a'; (64 << 10) + 1]);
        let fifo = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for (path, want) in [
            (directory.path().to_owned(), SecretFault::NotAFile),
            (directory.path().join("none"), SecretFault::Missing),
            (large.path().to_owned(), SecretFault::TooLarge),
            (fifo, SecretFault::NotAFile),
        ] {
            assert_eq!(Host.secret(&SecretRef::File(path.clone())), Err(want), "{}", path.display());
        }
    }

    #[test]
    fn a_file_is_read_again_only_where_it_changed() {
        let file = file(b"one");
        let place = SecretRef::File(file.path().to_owned());
        let (stamp, secret) = read_again(&place, None).unwrap().unwrap();
        assert_eq!(secret.expose(), "one");
        assert_eq!(read_again(&place, Some(stamp)), Ok(None));
        std::fs::write(file.path(), "other").unwrap();
        let (_, secret) = read_again(&place, Some(stamp)).unwrap().unwrap();
        assert_eq!(secret.expose(), "other");
        std::fs::write(file.path(), "").unwrap();
        assert_eq!(read_again(&place, Some(stamp)), Err(SecretFault::Empty));
    }

    fn command(words: &[&str], time_max: Duration) -> Result<String, SecretFault> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        from_command(&words, time_max).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn a_command_gives_what_it_prints_and_sees_no_environment() {
        assert_eq!(command(&["/bin/echo", "key"], COMMAND_TIME_MAX), Ok("key".to_owned()));
        // The shell adds PWD and the like; nothing of ours may be among it.
        let seen = command(
            &["/bin/sh", "-c", "echo home=${HOME:-none},cargo=${CARGO_MANIFEST_DIR:-none}"],
            COMMAND_TIME_MAX,
        );
        assert_eq!(seen, Ok("home=none,cargo=none".to_owned()));
    }

    #[test]
    fn a_command_that_fails_or_hangs_is_a_fault() {
        let soon = Duration::from_millis(100);
        for (words, time_max, want) in [
            (&["/bin/sh", "-c", "echo key; exit 3"][..], COMMAND_TIME_MAX, SecretFault::CommandFailed(3)),
            (
                &["/no/such/program"],
                COMMAND_TIME_MAX,
                SecretFault::NotStarted(ErrorKind::NotFound.to_string()),
            ),
            (&["/bin/sh", "-c", "exec sleep 30"], soon, SecretFault::CommandSlow),
            (&["/bin/sh", "-c", "exec >&-; exec sleep 30"], soon, SecretFault::CommandSlow),
            (&["/bin/sh", "-c", "exec yes"], COMMAND_TIME_MAX, SecretFault::TooLarge),
            (&["/bin/true"], COMMAND_TIME_MAX, SecretFault::Empty),
        ] {
            assert_eq!(command(words, time_max), Err(want), "{words:?}");
        }
    }

    #[test]
    fn a_command_that_takes_too_long_ends_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let words = ["/bin/sh", "-c", &format!("exec 3>{}; sleep 300 & wait", pipe.display())];
        // The pipe ends when nobody has it open for writing any more, the grandchild neither.
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || drop(send.send(std::fs::read(&pipe))));
        assert_eq!(command(&words, Duration::from_millis(500)), Err(SecretFault::CommandSlow));
        assert!(receive.recv_timeout(Duration::from_secs(20)).is_ok(), "the grandchild lives on");
    }

    #[test]
    fn output_and_end_of_a_command_have_one_time_together() {
        let (clock, span) = (Clock::new(), Duration::from_secs(2));
        let began = clock.tick();
        let words = ["/bin/sh", "-c", "sleep 1.8; exec >&-; exec sleep 30"];
        assert_eq!(command(&words, span), Err(SecretFault::CommandSlow));
        let took = clock.tick().since(began);
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}
