//! The writer on real files: whole lines, whatever happens to the disk and the file's name.

use super::*;
use crate::observe::events::Events;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SOON: Duration = Duration::from_secs(10);

struct Desk {
    folder: tempfile::TempDir,
    audit: Audit,
    events: Arc<Events>,
}

impl Desk {
    fn new() -> Desk {
        let counts = Counts {
            dropped: IntCounter::new("dropped", "d").unwrap(),
            errors: IntCounter::new("errors", "e").unwrap(),
        };
        let events = Events::new(WallTime(0));
        let audit = Audit::new(counts, Arc::clone(&events), Arc::new(|| WallTime(0)));
        Desk { folder: tempfile::tempdir().unwrap(), audit, events }
    }

    fn at(name: &str) -> Desk {
        let desk = Desk::new();
        desk.audit.turn_to(Some(&desk.path(name))).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn say(&self, id: &str) {
        self.audit.decision(&decision(id));
    }

    fn said(&self, id: &str) {
        self.say(id);
        assert!(self.audit.flush(SOON), "{id} was never written");
    }

    /// The ids in a file, each of whose lines is whole.
    fn ids(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        let read = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        text.lines().map(read).map(|line| line["id"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.events.newest(100).iter().map(|told| told.name).collect()
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..5000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("not in time: {what}");
}

fn decision(id: &str) -> Decision<'_> {
    Decision {
        at: WallTime(1_795_227_262_123),
        id,
        route: Some("chat"),
        client: None,
        target: Some("a/k/m"),
        outcome: Some("ok"),
        trail: "a/k:ok",
        attempts: 1,
        status: 200,
        dur_ms: 12,
        generation: 1,
    }
}

#[test]
fn a_line_has_every_field_and_nothing_in_it_begins_another() {
    let text = decision("x\",\"kind\":\"admin\n").line();
    assert_eq!(
        text,
        concat!(
            r#"{"ts":"2026-11-21T02:14:22.123Z","kind":"request","id":"x\",\"kind\":\"admin\n","route":"chat","#,
            r#""client":null,"target":"a/k/m","outcome":"ok","trail":"a/k:ok","attempts":1,"status":200,"#,
            r#""dur_ms":12,"generation":1}"#,
            "\n"
        )
    );
    for (status, result) in
        [(200, "ok"), (401, "denied"), (403, "denied"), (404, "refused"), (422, "refused")]
    {
        let deed = Deed {
            at: WallTime(0),
            has_token: status == 200,
            from: Some("127.0.0.1:4000".parse().unwrap()),
            verb: "drain",
            target: Some("a/k/m"),
            status,
        };
        let line: Value = serde_json::from_str(&deed.line()).unwrap();
        assert_eq!((&line["result"], &line["from"]), (&result.into(), &"127.0.0.1:4000".into()));
        assert_eq!(line["who"], if status == 200 { "token" } else { "nobody" });
    }
}

#[test]
fn the_file_is_made_with_mode_0640_and_appended_to() {
    let desk = Desk::at("audit.log");
    desk.said("one");
    let mode = fs::metadata(desk.path("audit.log")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
    assert_eq!(mode & 0o600, 0o600, "{mode:o}");
    desk.audit.turn_to(Some(&desk.path("audit.log"))).unwrap();
    desk.said("two");
    assert_eq!(desk.ids("audit.log"), ["one", "two"]);
}

#[test]
fn nothing_is_written_without_a_path_and_no_more_when_it_goes() {
    let desk = Desk::new();
    desk.say("lost");
    assert!(!desk.audit.is_on() && desk.audit.flush(Duration::ZERO));
    desk.audit.turn_to(Some(&desk.path("a"))).unwrap();
    desk.said("kept");
    desk.audit.turn_to(None).unwrap();
    desk.say("lost");
    assert!(desk.audit.flush(SOON));
    assert_eq!(desk.ids("a"), ["kept"]);
}

#[test]
fn a_file_that_was_renamed_is_made_anew_with_and_without_a_word() {
    let desk = Desk::at("audit.log");
    desk.said("one");
    fs::rename(desk.path("audit.log"), desk.path("audit.log.1")).unwrap();
    desk.said("two");
    fs::remove_file(desk.path("audit.log")).unwrap();
    desk.said("three");
    assert_eq!((desk.ids("audit.log.1"), desk.ids("audit.log")), (vec!["one".into()], vec!["three".into()]));
    fs::rename(desk.path("audit.log"), desk.path("audit.log.2")).unwrap();
    desk.audit.reopen();
    until("made anew before the next line", || desk.path("audit.log").exists());
    assert!(desk.kinds().is_empty(), "rotation is no trouble: {:?}", desk.kinds());
}

#[test]
fn half_a_line_of_a_process_that_was_killed_stays_one_line() {
    let desk = Desk::new();
    fs::write(desk.path("audit.log"), "{\"id\":\"torn").unwrap();
    desk.audit.turn_to(Some(&desk.path("audit.log"))).unwrap();
    desk.said("one");
    let text = fs::read_to_string(desk.path("audit.log")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines.len()), ("{\"id\":\"torn", 2));
    assert!(serde_json::from_str::<Value>(lines[1]).is_ok());
}

#[test]
fn what_cannot_be_written_waits_and_is_written_when_it_can_be() {
    let desk = Desk::at("folder/audit.log");
    until("trouble", || desk.kinds() == ["audit_failed"]);
    desk.say("one");
    desk.say("two");
    assert!(!desk.audit.flush(Duration::ZERO));
    fs::create_dir(desk.path("folder")).unwrap();
    assert!(desk.audit.flush(SOON));
    assert_eq!(desk.ids("folder/audit.log"), ["one", "two"]);
    assert_eq!(desk.kinds(), ["audit_failed", "audit_resumed"]);
    assert_eq!(desk.audit.0.counts.dropped.get(), 0);
}

#[test]
fn a_full_disk_costs_lines_at_worst_and_they_are_counted_and_told() {
    let desk = Desk::new();
    desk.audit.turn_to(Some(Path::new("/dev/full"))).unwrap();
    desk.say("first");
    until("trouble", || desk.audit.0.counts.errors.get() > 0);
    for number in 0..QUEUE_LINES + 50 {
        desk.say(&number.to_string());
    }
    assert_eq!(desk.audit.0.counts.dropped.get(), 50);
    // Room is found elsewhere: all that waited goes there.
    desk.audit.turn_to(Some(&desk.path("audit.log"))).unwrap();
    assert!(desk.audit.flush(SOON));
    desk.said("last");
    let ids = desk.ids("audit.log");
    assert_eq!((ids.len(), ids[0].as_str()), (1 + 1 + QUEUE_LINES + 1, "first"));
    let text = fs::read_to_string(desk.path("audit.log")).unwrap();
    assert!(text.contains(r#""kind":"dropped","lines":50}"#), "it is told");
}

#[test]
fn a_probe_says_what_is_wrong_and_leaves_nothing_behind() {
    let desk = Desk::new();
    fs::create_dir(desk.path("folder")).unwrap();
    fs::write(desk.path("there"), "x").unwrap();
    for (path, want) in [
        (desk.path("new"), Ok(())),
        (desk.path("there"), Ok(())),
        (PathBuf::from("/dev/null"), Ok(())),
        (desk.path("folder"), Err("is no regular file")),
        (desk.path("no/such"), Err("lies in a folder that does not exist")),
        (desk.path("there/below"), Err("cannot be written (not a directory)")),
    ] {
        assert_eq!(probe(&path), want.map_err(str::to_owned), "{}", path.display());
    }
    let mut left: Vec<_> =
        fs::read_dir(desk.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["folder", "there"]);
}

#[test]
fn what_was_said_last_is_written_when_the_log_goes() {
    let desk = Desk::at("audit.log");
    for number in 0..100 {
        desk.say(&number.to_string());
    }
    let Desk { folder, audit, events } = desk;
    drop(audit);
    let desk = Desk { folder, audit: Desk::new().audit, events };
    until("all are there", || desk.ids("audit.log").len() == 100);
}
