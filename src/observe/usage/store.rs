//! What outlives a restart: one SQLite file, written by one thread.
//!
//! No request waits for it: every `WRITE_EVERY` the thread takes what changed in the ledger and
//! writes it in one transaction, whole rows over what was there. A write that fails (full disk, file
//! gone) is given back to the ledger and tried again; the memory is what pages read, so nobody
//! notices but the log. A crash loses at most what was not written yet; WAL with
//! `synchronous=NORMAL` keeps the file sound through a loss of power as well. [`Ledger::flush`] at
//! the end of the process writes the rest.
//!
//! A disk that is full at the start already is no reason not to serve: usage is then kept in memory.
//!
//! **Whose file.** `application_id` says that a file is ours and `user_version` how its tables look.
//! A file of another program, of a newer version or with damage is refused at the start, with what
//! to do, and never changed: counting over somebody's data would be worse than not to start. It is
//! held with an exclusive lock, because two processes would write their own sums over each other's.
//!
//! [`probe`] looks at the first bytes alone and locks nothing, so that `check` and a reload may ask
//! while the file is in use.

use super::book::Changes;
use super::days::Day;
use super::ledger::{Kept, Ledger};
use super::{Count, Row, Source};
use crate::base::time::WallTime;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often what changed is written.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// How long the start waits for a process that is just leaving to let go of the file.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Marks a file as ours: `pntm`.
const APPLICATION_ID: u32 = 0x706e_746d;

/// How the tables look.
const SCHEMA_VERSION: u32 = 1;

/// Of how many failed writes in a row one is told.
const TELL_EVERY: u64 = 60;

const TABLES: &str = "
CREATE TABLE usage (
  day TEXT NOT NULL, source TEXT NOT NULL, route TEXT NOT NULL, provider TEXT NOT NULL,
  credential TEXT NOT NULL, model TEXT NOT NULL, client TEXT NOT NULL, device TEXT NOT NULL,
  requests INTEGER NOT NULL, failed INTEGER NOT NULL, client_gone INTEGER NOT NULL,
  unpriced INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL, cost_nanos INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  PRIMARY KEY (day, source, route, provider, credential, model, client, device)
) WITHOUT ROWID;
CREATE TABLE usage_reports (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE);
";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// What [`probe`] says.
    #[error("{0}")]
    Unusable(String),
    /// It may not be opened.
    #[error("{} may not be opened: permission denied", .0.display())]
    Forbidden(PathBuf),
    /// Another process has it.
    #[error("{} is in use by another process; each pointsman needs a file of its own", .0.display())]
    InUse(PathBuf),
    /// The disk is full.
    #[error("{} cannot be made: the disk is full", .0.display())]
    Full(PathBuf),
    /// Its content is not what it should be.
    #[error("{} is damaged ({reason}); move it away, and counting starts anew", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The system refuses.
    #[error("{} cannot be used: {reason}", .path.display())]
    System {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// An open file and what was in it.
pub struct Opened {
    connection: Connection,
    path: PathBuf,
    kept: Kept,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Tells whether a file can be used, and changes nothing. There need be none yet.
///
/// # Errors
/// Why not, and what to do.
pub fn probe(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(format!("{} is not a directory", folder.display())),
        Err(fault) if fault.kind() == ErrorKind::NotFound => {
            return Err(format!("the directory {} does not exist; create it first", folder.display()));
        }
        Err(fault) => return Err(format!("{} cannot be read: {}", folder.display(), fault.kind())),
    }
    let mut start = [0; 100];
    let length = match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(format!("{shown} is a directory; name a file in it")),
        Ok(found) if !found.is_file() => return Err(format!("{shown} is not a regular file")),
        Ok(_) => {
            read_start(path, &mut start).map_err(|fault| format!("{shown} cannot be opened: {fault}"))?
        }
        Err(fault) if fault.kind() == ErrorKind::NotFound => 0,
        Err(fault) => return Err(format!("{shown} cannot be opened: {}", fault.kind())),
    };
    if length > 0 {
        judge(&start, length).map_err(|why| format!("{shown} {why}"))?;
    }
    // SQLite keeps files beside its own, so the directory must take one.
    let beside = folder.join(format!(".pointsman-check-{}", std::process::id()));
    let tried = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    if tried.is_ok() {
        drop(fs::remove_file(&beside));
    }
    match tried {
        Ok(_) => Ok(()),
        // A full disk is no fault of the configuration, and does no harm.
        Err(fault) if fault.kind() == ErrorKind::StorageFull => Ok(()),
        Err(fault) => {
            Err(format!("the directory {} cannot be written to: {}", folder.display(), fault.kind()))
        }
    }
}

fn read_start(path: &Path, start: &mut [u8; 100]) -> Result<usize, ErrorKind> {
    let mut open = || -> io::Result<usize> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut length = 0;
        while let Some(room) = start.get_mut(length..).filter(|room| !room.is_empty()) {
            match file.read(room)? {
                0 => break,
                read => length += read,
            }
        }
        Ok(length)
    };
    open().map_err(|fault| fault.kind())
}

/// Judges a file by its first 100 bytes (sqlite.org/fileformat.html, section 1.3).
fn judge(start: &[u8; 100], length: usize) -> Result<(), String> {
    let word = |at: usize| {
        let bytes = start.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    if length < start.len() || !start.starts_with(b"SQLite format 3\0") {
        return Err("is not a state file of pointsman; move it away or name another".to_owned());
    }
    match (word(68), word(60)) {
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
        (APPLICATION_ID, version) => Err(format!(
            "was written by another version of pointsman (its tables are of version {version}, this one knows {SCHEMA_VERSION}); run that version or name another file"
        )),
        (_, _) => Err("is a database of another program; name another file".to_owned()),
    }
}

impl Opened {
    /// Opens a file, made with mode 0600 where there is none, and reads what is in it.
    ///
    /// # Errors
    /// [`StoreFault`]; the file is as it was.
    pub fn open(path: &Path) -> Result<Opened, StoreFault> {
        probe(path).map_err(StoreFault::Unusable)?;
        let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let is_new = match made.and_then(|file| file.metadata()) {
            Ok(found) => found.len() == 0,
            Err(fault) if fault.kind() == ErrorKind::PermissionDenied => {
                return Err(StoreFault::Forbidden(path.to_owned()));
            }
            Err(fault) if fault.kind() == ErrorKind::StorageFull => {
                return Err(StoreFault::Full(path.to_owned()));
            }
            Err(fault) => {
                return Err(StoreFault::System { path: path.to_owned(), reason: fault.kind().to_string() });
            }
        };
        let open = || -> rusqlite::Result<Opened> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(LOCK_WAIT)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            if is_new {
                set_up(&mut connection)?;
            }
            let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if found != "ok" {
                return Err(damage(&found));
            }
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            // Takes the lock, which a reader alone would not.
            connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
            let kept = read(&connection)?;
            Ok(Opened { connection, path: path.to_owned(), kept })
        };
        open().map_err(|fault| StoreFault::of(path, &fault))
    }

    /// Has `ledger` take over what was kept, and its changes written here from now on.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn keep(self, ledger: &Arc<Ledger>) -> io::Result<()> {
        let (orders, taken) = sync_channel(1);
        let work = Work {
            connection: self.connection,
            path: self.path,
            ledger: Arc::downgrade(ledger),
            failures: 0,
        };
        ledger.kept_by(self.kept, Keeper { orders: Mutex::new(orders) });
        std::thread::Builder::new().name("state".to_owned()).spawn(move || work.run(&taken))?;
        Ok(())
    }
}

impl StoreFault {
    fn of(path: &Path, fault: &rusqlite::Error) -> StoreFault {
        let path = path.to_owned();
        match fault.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreFault::InUse(path),
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => StoreFault::Forbidden(path),
            Some(ErrorCode::DiskFull) => StoreFault::Full(path),
            Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => {
                StoreFault::System { path, reason: fault.to_string() }
            }
            // Tables that are not there, columns of another type: not what was written.
            Some(_) | None => StoreFault::Damaged { path, reason: fault.to_string() },
        }
    }
}

fn damage(what: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnName(what.chars().take(200).collect())
}

fn set_up(connection: &mut Connection) -> rusqlite::Result<()> {
    let making = connection.transaction()?;
    making.execute_batch(TABLES)?;
    making.pragma_update(None, "application_id", APPLICATION_ID)?;
    making.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    making.commit()
}

/// Reads everything; a row that makes no sense is damage.
fn read(connection: &Connection) -> rusqlite::Result<Kept> {
    let mut rows = Vec::new();
    let mut asked = connection.prepare(
        "SELECT day, source, route, provider, credential, model, client, device, requests, failed, client_gone,
         unpriced, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_nanos, last_seen FROM usage",
    )?;
    let mut found = asked.query([])?;
    while let Some(row) = found.next()? {
        let text = |at: usize| row.get::<_, String>(at);
        let number = |at: usize| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
        let name = |at: usize| text(at).map(Arc::<str>::from);
        rows.push(Row {
            day: Day::parse(&text(0)?).ok_or_else(|| damage("day"))?,
            source: Source::from_label(&text(1)?).ok_or_else(|| damage("source"))?,
            names: [name(2)?, name(3)?, name(4)?, name(5)?, name(6)?, name(7)?],
            count: Count {
                requests: number(8)?,
                failed: number(9)?,
                client_gone: number(10)?,
                unpriced: number(11)?,
                input_tokens: number(12)?,
                output_tokens: number(13)?,
                cached_tokens: number(14)?,
                reasoning_tokens: number(15)?,
                cost_nanos: number(16)?,
            },
            last_seen: WallTime(row.get(17)?),
        });
    }
    let mut asked = connection.prepare("SELECT id FROM usage_reports ORDER BY number")?;
    let reports = asked.query_map([], |row| row.get::<_, String>(0).map(Arc::from))?;
    Ok(Kept { rows, reports: reports.collect::<rusqlite::Result<_>>()? })
}

fn write(connection: &mut Connection, changes: &Changes) -> rusqlite::Result<()> {
    let writing = connection.transaction()?;
    write_in(&writing, changes)?;
    writing.commit()
}

fn write_in(writing: &Transaction<'_>, changes: &Changes) -> rusqlite::Result<()> {
    let mut put = writing.prepare_cached(
        "INSERT OR REPLACE INTO usage VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18)",
    )?;
    for row in &changes.rows {
        let [route, provider, credential, model, client, device] = row.names.each_ref().map(|name| &**name);
        let count = &row.count;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        put.execute(params![
            row.day.to_string(),
            row.source.as_label(),
            route,
            provider,
            credential,
            model,
            client,
            device,
            number(count.requests),
            number(count.failed),
            number(count.client_gone),
            number(count.unpriced),
            number(count.input_tokens),
            number(count.output_tokens),
            number(count.cached_tokens),
            number(count.reasoning_tokens),
            number(count.cost_nanos),
            row.last_seen.0,
        ])?;
    }
    let mut remember = writing.prepare_cached("INSERT OR IGNORE INTO usage_reports (id) VALUES (?1)")?;
    for id in &changes.reports {
        remember.execute([&**id])?;
    }
    let mut forget = writing.prepare_cached("DELETE FROM usage_reports WHERE id = ?1")?;
    for id in &changes.forgotten {
        forget.execute([&**id])?;
    }
    if let Some(oldest) = changes.oldest {
        writing.prepare_cached("DELETE FROM usage WHERE day < ?1")?.execute([oldest.to_string()])?;
    }
    Ok(())
}

/// What the ledger holds of the thread.
pub(super) struct Keeper {
    /// Who asks for a write waits for its answer here.
    orders: Mutex<SyncSender<SyncSender<bool>>>,
}

impl Keeper {
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let (done, answer) = sync_channel(1);
        // One that waits already is about to be answered; the thread takes the next at once.
        let asked = self.orders.lock().send(done);
        asked.is_ok() && answer.recv_timeout(limit).unwrap_or(false)
    }
}

/// The thread.
struct Work {
    connection: Connection,
    path: PathBuf,
    ledger: Weak<Ledger>,
    failures: u64,
}

impl Work {
    fn run(mut self, orders: &Receiver<SyncSender<bool>>) {
        loop {
            let order = orders.recv_timeout(WRITE_EVERY);
            let Some(ledger) = self.ledger.upgrade() else { return };
            let is_safe = self.write(&ledger);
            match order {
                // Whoever asked may have stopped waiting.
                Ok(done) => drop(done.try_send(is_safe)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, ledger: &Ledger) -> bool {
        let changes = ledger.take_changes();
        if changes.rows.is_empty() && changes.reports.is_empty() && changes.forgotten.is_empty() {
            return true;
        }
        match write(&mut self.connection, &changes) {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(path = %self.path.display(), "the state is written again");
                }
                self.failures = 0;
                true
            }
            Err(fault) => {
                if self.failures.is_multiple_of(TELL_EVERY) {
                    tracing::warn!(path = %self.path.display(), %fault, "the state cannot be written; it is kept in memory and tried again");
                }
                self.failures += 1;
                ledger.give_back(changes);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
