//! A file of its own for each test; what fails is made to fail by SQLite or the file system itself.

use super::*;
use crate::config::usage::UsagePolicy;
use crate::observe::usage::{Dimension, Who, report};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// 2026-11-21T02:14:22Z.
const AT: WallTime = WallTime(1_795_227_262_000);
const SOON: Duration = Duration::from_secs(20);

const WHO: Who<'static> =
    Who { route: "chat", provider: "p", credential: "k", model: "m", client: "none", device: "phone" };

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("state.db")
    }

    /// Opens the file with a ledger of its own.
    fn open(&self) -> Arc<Ledger> {
        self.open_for(UsagePolicy::default())
    }

    fn open_for(&self, policy: UsagePolicy) -> Arc<Ledger> {
        let ledger = Ledger::new(policy);
        Opened::open(&self.file()).unwrap().keep(&ledger).unwrap();
        ledger
    }
}

/// Lets go of a file: the thread ends once its ledger is gone.
fn close(ledger: Arc<Ledger>) {
    assert!(ledger.flush(SOON));
    drop(ledger);
}

fn one() -> Count {
    Count { requests: 1, input_tokens: 5, output_tokens: 7, cost_nanos: 11, ..Count::default() }
}

fn total(ledger: &Ledger) -> Count {
    ledger.sums(&[], Some(WallTime(0)), AT).total.count
}

fn reported(id: &str) -> report::Report {
    let body = format!(r#"{{"id":"{id}","device":"watch","model":"gpt-4o","requests":2,"tokens_in":100}}"#);
    report::read(body.as_bytes(), AT).unwrap().remove(0)
}

#[test]
fn what_cannot_be_used_is_refused_with_a_sentence_and_left_as_it_is() {
    let folder = Folder::new();
    let own = |name: &str| folder.0.path().join(name);
    let foreign = Connection::open(own("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    drop(foreign);
    let newer = Connection::open(own("newer.db")).unwrap();
    newer.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    newer.pragma_update(None, "user_version", 7).unwrap();
    newer.execute_batch("CREATE TABLE t (a)").unwrap();
    drop(newer);
    fs::write(own("notes.txt"), "my notes").unwrap();
    fs::write(own("long.txt"), "SQLite format 2\0".repeat(50)).unwrap();
    fs::create_dir(own("folder")).unwrap();
    for (name, want) in [
        ("foreign.db", "is a database of another program; name another file"),
        ("newer.db", "its tables are of version 7, this one knows 1"),
        ("notes.txt", "is not a state file of pointsman; move it away or name another"),
        ("long.txt", "is not a state file of pointsman"),
        ("folder", "is a directory; name a file in it"),
        ("none/state.db", "does not exist; create it first"),
        ("notes.txt/state.db", "is not a directory"),
    ] {
        let path = own(name);
        let before = fs::read(&path).ok();
        let why = probe(&path).unwrap_err();
        assert!(why.contains(want), "{name}: {why}");
        let fault = Opened::open(&path).unwrap_err();
        assert!(matches!(fault, StoreFault::Unusable(_)), "{name}: {fault}");
        assert_eq!(fs::read(&path).ok(), before, "{name} was changed");
    }
    assert_eq!(probe(&own("new.db")), Ok(()));
    assert!(!own("new.db").exists(), "asking makes nothing");
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 5, "and leaves nothing behind");
}

#[test]
fn a_damaged_file_is_told_and_never_written_over() {
    let folder = Folder::new();
    let ledger = folder.open();
    for device in 0..200 {
        ledger.count(AT, &Who { device: &format!("d{device}"), ..WHO }, &one());
    }
    close(ledger);
    wait_until_free(&folder);
    let sound = fs::read(folder.file()).unwrap();
    assert_eq!(sound.len() % 4096, 0);
    for page in 0..sound.len() / 4096 {
        let what = format!("page {page}");
        let mut broken = sound.clone();
        // The first begins with what says that it is ours.
        let from = if page == 0 { 100 } else { page * 4096 };
        broken[from..(page + 1) * 4096].fill(0x5a);
        fs::write(folder.file(), &broken).unwrap();
        let fault = Opened::open(&folder.file()).unwrap_err();
        assert!(matches!(fault, StoreFault::Damaged { .. }), "{what}: {fault}");
        assert!(fault.to_string().contains("move it away, and counting starts anew"), "{fault}");
        assert_eq!(fs::read(folder.file()).unwrap(), broken, "{what}");
    }
}

/// The thread lets go a moment after its ledger.
fn wait_until_free(folder: &Folder) {
    for _ in 0..400 {
        match Opened::open(&folder.file()) {
            Ok(opened) => return drop(opened),
            Err(StoreFault::InUse(_)) => std::thread::yield_now(),
            Err(fault) => panic!("{fault}"),
        }
    }
    panic!("the file stays in use");
}

#[test]
fn counts_and_ids_of_reports_go_on_after_a_restart() {
    let folder = Folder::new();
    let ledger = folder.open();
    ledger.count(AT, &WHO, &one());
    ledger.count(WallTime(AT.0 - 86_400_000), &WHO, &one());
    assert!(ledger.report(&reported("r-1"), &reported("r-1").count));
    close(ledger);
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);

    let ledger = folder.open();
    assert_eq!(
        total(&ledger),
        Count { requests: 4, input_tokens: 110, output_tokens: 14, cost_nanos: 22, ..Count::default() }
    );
    ledger.count(AT, &WHO, &one());
    assert!(!ledger.report(&reported("r-1"), &reported("r-1").count), "it was counted before");
    close(ledger);

    let ledger = folder.open();
    let sums = ledger.sums(&[Dimension::Day, Dimension::Device, Dimension::Source], Some(WallTime(0)), AT);
    let rows: Vec<_> = sums.groups.iter().map(|(names, sum)| (names.join(" "), sum.count.requests)).collect();
    let want =
        [("2026-11-20 phone proxied", 1), ("2026-11-21 phone proxied", 2), ("2026-11-21 watch reported", 2)];
    assert_eq!(rows, want.map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(sums.total.last_seen, Some(AT));
}

#[test]
fn what_was_not_flushed_is_written_soon_all_the_same() {
    let folder = Folder::new();
    let ledger = folder.open();
    ledger.count(AT, &WHO, &one());
    // The lock keeps others out, so the write shows in the file beside it.
    let log = folder.0.path().join("state.db-wal");
    let before = fs::metadata(&log).map_or(0, |file| file.len());
    let is_written = || fs::metadata(&log).map_or(0, |file| file.len()) != before;
    let (told, never) = sync_channel::<()>(1);
    // One look each hundredth of a second, for as long as anything may take.
    let was_written = (0..2000).any(|_| is_written() || never.recv_timeout(SOON / 2000).is_ok());
    assert!(was_written, "nothing was written");
    drop(told);
}

#[test]
fn a_file_belongs_to_one_process_at_a_time() {
    let folder = Folder::new();
    let _ledger = folder.open();
    let fault = Opened::open(&folder.file()).unwrap_err();
    assert!(matches!(fault, StoreFault::InUse(_)), "{fault}");
    assert_eq!(probe(&folder.file()), Ok(()), "asking whether it can be used goes on");
}

#[test]
fn what_was_counted_before_the_file_came_is_added_to_it() {
    let folder = Folder::new();
    let before = folder.open();
    before.count(AT, &WHO, &one());
    assert!(before.report(&reported("r1"), &one()));
    // A process that takes the place of another has no file for a while.
    let late = Ledger::new(UsagePolicy::default());
    late.count(AT, &WHO, &one());
    late.count(AT, &Who { device: "desk", ..WHO }, &one());
    assert!(late.report(&reported("r2"), &one()));
    close(before);
    wait_until_free(&folder);
    Opened::open(&folder.file()).unwrap().keep(&late).unwrap();
    assert_eq!(total(&late).requests, 5);
    close(late);
    wait_until_free(&folder);
    let again = folder.open();
    assert_eq!(total(&again).requests, 5);
    for id in ["r1", "r2"] {
        assert!(!again.report(&reported(id), &one()), "{id} was there before");
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_caught_up_with() {
    let folder = Folder::new();
    let mut opened = Opened::open(&folder.file()).unwrap();
    let room = |connection: &Connection, pages: i64| {
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let full = room(&opened.connection, 1);
    let ledger = Ledger::new(UsagePolicy::default());
    let (orders, _taken) = sync_channel(1);
    ledger.kept_by(std::mem::take(&mut opened.kept), Keeper { orders: Mutex::new(orders) });
    let mut work = Work {
        connection: opened.connection,
        path: opened.path,
        ledger: Arc::downgrade(&ledger),
        failures: 0,
    };
    for device in 0..250 {
        ledger.count(AT, &Who { device: &format!("a-device-with-a-long-name-{device}"), ..WHO }, &one());
        assert!(ledger.report(&reported(&format!("r{device}")), &one()));
    }
    for failures in 1..=3 {
        assert!(!work.write(&ledger), "{full} pages are not enough");
        assert_eq!(work.failures, failures);
        ledger.count(AT, &WHO, &one());
    }
    assert_eq!(total(&ledger).requests, 503, "memory goes on");
    room(&work.connection, 10_000);
    assert!(work.write(&ledger));
    assert!(work.write(&ledger), "nothing is left to write");
    let kept = read(&work.connection).unwrap();
    assert_eq!(kept.rows.iter().map(|row| row.count.requests).sum::<u64>(), 503);
    assert_eq!(kept.reports.len(), 250);
}

#[test]
fn days_that_are_not_kept_leave_the_file_too() {
    let folder = Folder::new();
    let ledger = folder.open();
    ledger.count(WallTime(AT.0 - 5 * 86_400_000), &WHO, &one());
    ledger.count(AT, &WHO, &one());
    close(ledger);
    let policy = UsagePolicy { keep_days: 2, ..UsagePolicy::default() };
    let ledger = folder.open_for(policy);
    ledger.count(AT, &WHO, &one());
    close(ledger);
    let ledger = folder.open();
    assert_eq!(total(&ledger).requests, 2, "both of today");
}
