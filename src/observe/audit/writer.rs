//! The thread that writes, and the file under its hands.
//!
//! Trouble (no such folder, no room, a file server that is away) has one answer: what was taken
//! stays, the file is opened anew, and it is tried again. It is told when trouble begins and when
//! it ends, not in between.

use super::{Order, Shared, line};
use crate::observe::events::Event;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Who may read the file: its owner may write, its group read.
const MODE: u32 = 0o640;

/// Tells whether a file could be written, without making or changing it.
///
/// # Errors
/// Why not, as the end of a sentence.
pub fn probe(path: &Path) -> Result<(), String> {
    let told = |fault: &io::Error| said(fault.kind());
    match std::fs::metadata(path) {
        Ok(found) if !is_writable_kind(&found) => Err("is no regular file".to_owned()),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop).map_err(|fault| told(&fault)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or("is no file name")?;
            let mut probe = std::ffi::OsString::from(".");
            probe.push(name);
            probe.push(format!(".{}", std::process::id()));
            let probe = path.with_file_name(probe);
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe);
            made.map_err(|fault| match fault.kind() {
                io::ErrorKind::NotFound => "lies in a folder that does not exist".to_owned(),
                kind => format!("cannot be made: {}", said(kind)),
            })?;
            std::fs::remove_file(&probe).map_err(|fault| told(&fault))
        }
        Err(fault) => Err(told(&fault)),
    }
}

fn said(kind: io::ErrorKind) -> String {
    format!("cannot be written ({kind})")
}

/// A pipe would block until somebody reads; a device (`/dev/stderr`, `/dev/null`) is the
/// operator's choice.
fn is_writable_kind(found: &Metadata) -> bool {
    found.is_file() || found.file_type().is_char_device()
}

/// The file in use.
struct Open {
    file: File,
    /// Which file it is, where its name may come to stand for another.
    identity: Option<(u64, u64)>,
}

impl Open {
    fn at(path: &Path) -> io::Result<Open> {
        let options = || {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(MODE);
            options
        };
        // Read as well, to see how its last line ends, where that is allowed.
        let mut file = options().read(true).open(path).or_else(|_| options().open(path))?;
        let found = file.metadata()?;
        if !is_writable_kind(&found) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        if found.is_file() && ends_within_a_line(&mut file) {
            file.write_all(b"\n")?;
        }
        let identity = found.is_file().then(|| (found.dev(), found.ino()));
        Ok(Open { file, identity })
    }

    /// Tells whether its name still stands for it.
    fn is_at(&self, path: &Path) -> bool {
        self.identity.is_none_or(|identity| {
            std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == identity)
        })
    }
}

/// A process that was killed may have left half a line.
fn ends_within_a_line(file: &mut File) -> bool {
    let mut last = [0];
    file.seek(SeekFrom::End(-1)).is_ok() && file.read_exact(&mut last).is_ok() && last != *b"\n"
}

/// What the thread has in hand.
struct Writer<'a> {
    shared: &'a Shared,
    path: Option<PathBuf>,
    open: Option<Open>,
    /// What was taken and is not written yet.
    text: Vec<u8>,
    lines: usize,
    /// How much of it is in the file.
    done: usize,
    is_in_trouble: bool,
    /// Drops that were told in the file.
    told_dropped: u64,
}

/// Writes until the audit log is gone.
pub(super) fn write_all(shared: &Shared) {
    let mut writer = Writer {
        shared,
        path: None,
        open: None,
        text: Vec::new(),
        lines: 0,
        done: 0,
        is_in_trouble: false,
        told_dropped: 0,
    };
    loop {
        let is_waiting = !writer.text.is_empty();
        let taken = shared.take(is_waiting);
        if !is_waiting {
            writer.text = taken.text.into_bytes();
            writer.lines = taken.lines;
            writer.mark_gap();
        }
        // What came before the first path, or before the way out of trouble, goes into the new file.
        let is_early = writer.path.is_none() || writer.is_in_trouble;
        let late = match taken.order {
            Some(order) if is_early => {
                writer.obey(order);
                None
            }
            order => order,
        };
        writer.write();
        if let Some(order) = late {
            writer.obey(order);
        }
        // At the end there is one try left for what waited, and then for the rest.
        if taken.is_last && (!is_waiting || writer.is_in_trouble) {
            return;
        }
    }
}

impl Writer<'_> {
    fn obey(&mut self, order: Order) {
        match order {
            Order::Reopen => {}
            Order::Turn(path) => self.path = path,
        }
        self.close();
        // Opened at once, so that the file is there when somebody looks.
        if self.path.is_some() {
            let opened = self.reach();
            self.report(opened);
        }
    }

    /// Lets the file go; a line that was written by half is begun again in the next one.
    fn close(&mut self) {
        self.open = None;
        let before = self.text.get(..self.done).unwrap_or_default();
        self.done = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    }

    fn write(&mut self) {
        if self.text.is_empty() {
            return;
        }
        if self.path.is_some() {
            let written = self.reach().and_then(|()| self.push());
            let is_written = written.is_ok();
            self.report(written);
            if !is_written {
                return;
            }
        }
        self.shared.written.fetch_add(self.lines as u64, Ordering::Release);
        self.text = Vec::new();
        (self.lines, self.done) = (0, 0);
    }

    /// Sees to it that the file that the path names is open.
    fn reach(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.open.as_ref().is_some_and(|open| open.is_at(path)) {
            return Ok(());
        }
        let open = Open::at(path)?;
        self.close();
        self.open = Some(open);
        Ok(())
    }

    fn push(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        while let Some(rest) = self.text.get(self.done..).filter(|rest| !rest.is_empty()) {
            match open.file.write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(count) => self.done += count,
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Tells when trouble begins and when it ends.
    fn report(&mut self, result: io::Result<()>) {
        let shared = self.shared;
        match result {
            Ok(()) if self.is_in_trouble => {
                self.is_in_trouble = false;
                let dropped = shared.counts.dropped.get();
                tracing::info!(dropped, "the audit log is written again");
                shared.events.tell((shared.wall)(), Event::AuditResumed { dropped });
            }
            Ok(()) => {}
            Err(fault) => {
                shared.counts.errors.inc();
                if !std::mem::replace(&mut self.is_in_trouble, true) {
                    let path = self.path.as_deref().unwrap_or(Path::new("")).display();
                    let reason = format!("{path} {}", said(fault.kind()));
                    tracing::error!(reason, "the audit log cannot be written; what comes waits");
                    shared.events.tell((shared.wall)(), Event::AuditFailed { reason });
                }
            }
        }
    }

    /// Says behind the lines that filled the queue how many are missing.
    fn mark_gap(&mut self) {
        let dropped = self.shared.counts.dropped.get();
        if dropped > self.told_dropped && !self.text.is_empty() {
            let mark = line::dropped((self.shared.wall)(), dropped - self.told_dropped);
            self.text.extend_from_slice(mark.as_bytes());
            self.told_dropped = dropped;
        }
    }
}
