//! How does a process give its place to the next one, with no client noticing?
//!
//! On USR2, the signal that nginx and its kin take for it, the process starts the program anew, as it
//! was started itself: the same path, arguments, folder and environment. Path, not file: what a package
//! has put there meanwhile is what starts.
//!
//! ```text
//! old  starts the new one, its standard input one end of a nameless pair of Unix sockets
//! old → new   every listening socket (SCM_RIGHTS)
//! new         reads its configuration, adopts the sockets, serves beside the old one
//! new → old   "ready"
//! old         tells systemd the new MAINPID, stops accepting
//! old → new   "yours"
//! old         ends what is under way; its end closes the pair, and the new one takes the state over
//! ```
//!
//! The sockets are shared, not bound twice: there is one queue of waiting connections for both, so
//! whoever connects is accepted by one of them. (With `SO_REUSEPORT` each process has a queue of its
//! own, and what waits in the old one's is lost when it leaves.) A pair without a name in a file system
//! can be reached by nobody else; that it is the parent's, the new one sees by the kernel's word for it
//! (`SO_PEERCRED`), so a variable left in an environment opens nothing.
//!
//! A new process that ends, or is not ready within [`LIMIT`], has changed nothing: the old one goes on.

use super::StartFault;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How long a new process may take until it is ready. Secrets may be fetched by commands.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long a word of the other side may take that is ready to speak.
const WORD_LIMIT: Duration = Duration::from_secs(10);
/// How long the end of a process may take that has closed its end of the pair.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Names the process whose place the new one takes.
const PREDECESSOR: &str = "POINTSMAN_PREDECESSOR";
/// What was for the old process only. What `WATCHDOG_USEC` says is for the service's main process.
const NOT_FOR_THE_NEXT: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
/// Sockets that fit into one message (`SCM_MAX_FD` is 253).
const SOCKETS_MAX: usize = 128;

const HERE: &[u8; 6] = b"socks\n";
const READY: &[u8; 6] = b"ready\n";
const YOURS: &[u8; 6] = b"yours\n";

/// How this process was started.
#[derive(Debug)]
pub struct Launcher {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
}

impl Launcher {
    /// Takes down how this process was started. To be called before its file may be replaced.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn new() -> io::Result<Launcher> {
        let folder = std::env::current_dir()?;
        let mut arguments = std::env::args_os();
        let named = arguments.next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        // A path as it was typed follows a link that is turned to the next version; a name that was
        // looked for in PATH is what was found.
        let program = match named {
            Some(path) => folder.join(path),
            None => std::env::current_exe()?,
        };
        Ok(Launcher { program, arguments: arguments.collect(), folder })
    }

    /// Starts the program once more and gives it these sockets. Wants a tokio runtime.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn launch(&self, sockets: &[TcpListener]) -> Result<Successor, String> {
        if std::process::id() == 1 {
            return Err("this is process 1 of a container, whose end would end the new one too; roll out a new container".to_owned());
        }
        let fault = |why: io::Error| format!("{}: {why}", self.program.display());
        let (ours, theirs) = UnixStream::pair().map_err(fault)?;
        give(&ours, sockets).map_err(fault)?;
        ours.set_nonblocking(true).map_err(fault)?;
        let line = tokio::net::UnixStream::from_std(ours).map_err(fault)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        for name in NOT_FOR_THE_NEXT {
            command.env_remove(name);
        }
        command.env(PREDECESSOR, std::process::id().to_string());
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().map_err(fault)?;
        let pid = child.id().unwrap_or_default();
        Ok(Successor { child, line, pid, is_ready: false })
    }
}

/// Sends the sockets in one message. They wait in the pair until somebody reads.
fn give(line: &UnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    if sockets.len() > SOCKETS_MAX {
        return Err(io::Error::other(format!("more than {SOCKETS_MAX} listeners cannot be handed over")));
    }
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("the sockets do not fit into a message"));
    }
    sendmsg(line, &[IoSlice::new(HERE)], &mut rights, SendFlags::empty())?;
    Ok(())
}

/// A new process that is to take our place. One that is dropped before it is ready is ended.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    line: tokio::net::UnixStream,
    /// Its process id.
    pub pid: u32,
    is_ready: bool,
}

impl Successor {
    /// Waits until it serves.
    ///
    /// # Errors
    /// Why it never will, as a line for people; it is ended then.
    pub async fn until_ready(mut self) -> Result<Successor, String> {
        let mut word = [0; READY.len()];
        match tokio::time::timeout(LIMIT, self.line.read_exact(&mut word)).await {
            Ok(Ok(_)) if word == *READY => {
                self.is_ready = true;
                Ok(self)
            }
            Ok(Ok(_)) => Err("the new process says something else than that it is ready".to_owned()),
            Ok(Err(_)) => Err(match tokio::time::timeout(END_LIMIT, self.child.wait()).await {
                Ok(Ok(status)) => format!("the new process ended with {status}"),
                Ok(Err(_)) | Err(_) => "the new process does not answer".to_owned(),
            }),
            Err(_) => Err(format!("the new process was not ready within {} s", LIMIT.as_secs())),
        }
    }

    /// Tells it that the place is its own. What is returned is to be dropped when nothing of the state
    /// is held any more: the new process waits for that.
    pub fn yields(mut self) -> Departure {
        self.is_ready = true;
        // One that ended just now cannot be told, and nobody else is there to serve.
        drop(self.line.try_write(YOURS));
        Departure(self)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.is_ready {
            // It may have ended by itself.
            drop(self.child.start_kill());
        }
    }
}

/// The last that a process holds of its place.
#[derive(Debug)]
pub struct Departure(#[allow(dead_code, reason = "its end is what counts")] Successor);

/// The process whose place this one takes.
#[derive(Debug)]
pub struct Predecessor {
    line: UnixStream,
    /// Its process id.
    pub pid: u32,
}

impl Predecessor {
    /// Returns who started this process to take its place, and that one's sockets.
    ///
    /// # Errors
    /// Where it did and the sockets do not come.
    pub fn find() -> Result<Option<(Predecessor, Vec<TcpListener>)>, StartFault> {
        let named = std::env::var(PREDECESSOR).ok().and_then(|text| text.parse::<u32>().ok());
        // A variable of somebody else's environment, or of a predecessor that is gone.
        let Some(pid) = named.filter(|pid| *pid == std::os::unix::process::parent_id()) else {
            return Ok(None);
        };
        let take = || -> io::Result<(Predecessor, Vec<TcpListener>)> {
            let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            is_of(&line, pid)?;
            line.set_read_timeout(Some(WORD_LIMIT))?;
            line.set_write_timeout(Some(WORD_LIMIT))?;
            let sockets = receive(&line)?;
            Ok((Predecessor { line, pid }, sockets))
        };
        take().map(Some).map_err(|fault| {
            StartFault::Inherited(format!(
                "the sockets of process {pid}, whose place this one takes: {fault}"
            ))
        })
    }

    /// Tells it that this process serves, and waits until it has let go of the place.
    pub fn relieve(&mut self) {
        let mut word = [0; YOURS.len()];
        // One that ended meanwhile has let go as well.
        drop(self.line.write_all(READY).and_then(|()| self.line.read_exact(&mut word)));
    }

    /// Waits until it is gone, and all that it held with it.
    pub fn until_gone(mut self) {
        let mut nothing = [0; 16];
        if self.line.set_read_timeout(None).is_ok() {
            while !matches!(self.line.read(&mut nothing), Ok(0) | Err(_)) {}
        }
    }
}

/// Makes sure who is at the other end.
fn is_of(line: &UnixStream, pid: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let peer = rustix::net::sockopt::socket_peercred(line)?;
        let is_ours = peer.uid == rustix::process::getuid();
        if !is_ours || u32::try_from(peer.pid.as_raw_nonzero().get()) != Ok(pid) {
            return Err(io::Error::other("standard input is of another process"));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (line, pid);
    Ok(())
}

fn receive(line: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0; HERE.len()];
    #[cfg(target_os = "linux")]
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    #[cfg(not(target_os = "linux"))]
    let flags = RecvFlags::WAITALL;
    let came = recvmsg(line, &mut [IoSliceMut::new(&mut word)], &mut rights, flags)?;
    if came.bytes != HERE.len() || word != *HERE {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut sockets = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors.map(TcpListener::from));
        }
    }
    Ok(sockets)
}
