//! Where does the command line find a token that was made at start?
//!
//! In a file of the runtime directory, mode 0600. The first process of an account has [`FILE`]; one that
//! starts while the first lives has a file of its own, with its admin address in the name
//! ([`file_of`]), for the first one's token must stay where its operator's verbs look. They look for the
//! name with the address first, then for the other.
//!
//! A process lives as long as it holds the lock (flock(2)) on its file: no process id that somebody else
//! may have by now, and nothing to clean up after a crash. One that takes another's place (USR2) has the
//! same address, and takes the file over though the other still holds it.

use crate::base::hex;
use crate::base::secret::Secret;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file of the first process.
pub const FILE: &str = "admin-token";

/// Returns the name of the file of a process that was not the first.
#[must_use]
pub fn file_of(admin: SocketAddr) -> String {
    format!("{FILE}-{admin}")
}

/// A token in its file.
pub(super) struct Left {
    pub(super) token: Secret,
    /// Held as long as this process lives.
    _claim: File,
}

/// Makes a token and leaves it for the command line; says why where there is none.
pub(super) fn leave(admin: SocketAddr, takes_over: bool) -> Option<Left> {
    let bytes: [u8; 24] = rand::random();
    let token = Secret::new(hex::encode(&bytes));
    let Some(directory) = directory() else {
        tracing::warn!(
            "no runtime directory: the writing verbs of the admin plane have no token; set admin.token"
        );
        return None;
    };
    match leave_in(&directory, admin, takes_over, &token) {
        Ok(claim) => Some(Left { token, _claim: claim }),
        Err(fault) => {
            tracing::warn!(fault = %fault.kind(), "the admin token cannot be written into the runtime directory");
            None
        }
    }
}

/// The directory where the running process leaves what its command line needs.
fn directory() -> Option<PathBuf> {
    let named = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    named.or_else(|| std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("pointsman")))
}

fn leave_in(directory: &Path, admin: SocketAddr, takes_over: bool, token: &Secret) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let (first, own) = (directory.join(FILE), directory.join(file_of(admin)));
    let mut file = if takes_over {
        replace(if own.exists() { &own } else { &first })?
    } else if let Some(file) = claim(&first)? {
        // Of a process at this address that was not the first; it would be found before ours.
        remove(&own)?;
        file
    } else {
        replace(&own)?
    };
    writeln!(file, "{}", token.expose())?;
    Ok(file)
}

/// Takes the first process's file; nothing where that one lives. Of several that start at once one gets
/// it: whoever has the lock of the file that bears the name.
fn claim(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(old) => {
            if is_held(&old) || !bears(&old, path) {
                return Ok(None);
            }
            // Still locked, so that nobody else takes what comes in its place for what it was.
            remove(path)?;
            create(path)
        }
        Err(fault) if fault.kind() == ErrorKind::NotFound => create(path),
        // A file that another account left.
        Err(_) => {
            remove(path)?;
            create(path)
        }
    }
}

fn create(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => Ok((!is_held(&file) && bears(&file, path)).then_some(file)),
        Err(fault) if fault.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Puts a file in the place of one that is ours to take.
fn replace(path: &Path) -> io::Result<File> {
    remove(path)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    is_held(&file);
    Ok(file)
}

/// Locks a file; tells whether somebody else has. Where files cannot be locked nobody has.
fn is_held(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Tells whether an open file is the one of that name.
fn bears(file: &File, path: &Path) -> bool {
    let place = |seen: std::fs::Metadata| (seen.dev(), seen.ino());
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(file), Ok(named)) => place(file) == place(named),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => Err(fault),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_has_the_plain_name_until_it_is_gone_and_its_successor_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = [9901, 9902].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let leave = |admin, takes_over, token: &str| {
            leave_in(folder.path(), admin, takes_over, &Secret::new(token.to_owned())).unwrap()
        };
        let said = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        let holds = |token: &str| Some(format!("{token}\n"));
        // A process that crashed left both.
        std::fs::write(folder.path().join(FILE), "stale").unwrap();
        std::fs::write(folder.path().join(file_of(a)), "stale").unwrap();
        let first = leave(a, false, "one");
        assert_eq!((said(FILE), said(&file_of(a))), (holds("one"), None));
        let second = leave(b, false, "two");
        assert_eq!((said(FILE), said(&file_of(b))), (holds("one"), holds("two")));
        // Each is followed while it still lives.
        let next_second = leave(b, true, "two again");
        let next_first = leave(a, true, "one again");
        drop((first, second));
        assert_eq!((said(FILE), said(&file_of(b))), (holds("one again"), holds("two again")));
        let third = leave(a, false, "three");
        assert_eq!((said(FILE), said(&file_of(a))), (holds("one again"), holds("three")));
        drop((next_first, next_second, third));
        let _last = leave(b, false, "four");
        assert_eq!((said(FILE), said(&file_of(b))), (holds("four"), None));
    }
}
