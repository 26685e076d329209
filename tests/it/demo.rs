//! `pointsman demo`, as somebody meets it who has just built it.

use std::process::{Command, Stdio};

/// The demo for that long. Ports in use do not matter: it moves to free ones.
fn demo(span: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    command.args(["demo", "--for", span]).stdin(Stdio::null());
    command
}

/// Returns the number before a word: `7` of "7 failed over".
fn count(line: &str, what: &str) -> u64 {
    let before = line.split(what).next().unwrap_or_default();
    before.trim_end().rsplit([' ', '(']).next().and_then(|word| word.parse().ok()).unwrap_or_else(|| {
        panic!("no count of {what:?} in {line:?}");
    })
}

#[test]
fn the_demo_shows_a_failover_and_no_client_request_fails() {
    let output = demo("6s").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}\n{complaints}");
    assert!(!text.contains('\x1b'), "escapes in a pipe: {text}");
    assert!(text.contains("curl -isN http://127.0.0.1:"), "{text}");
    assert!(text.contains("/metrics"), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(count(last, "requests,") >= 15, "{text}");
    assert!(count(last, "failed over") >= 1, "{text}");
    assert!(last.ends_with(", 0 failed"), "{text}");
    let seen = text.lines().find(|line| line.contains("; last: flaky-")).unwrap_or_default();
    assert!(seen.contains(":429,steady-"), "no failover was shown: {text}");
    let second: u64 = seen.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(u64::MAX);
    assert!(second <= 5, "the first failover was shown after {second} s: {text}");
}

#[test]
fn a_demo_whose_reader_leaves_ends_by_itself() {
    let mut child = demo("1h").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let end = std::time::Duration::from_secs(20);
    let (send, ended) = std::sync::mpsc::channel();
    let id = child.id();
    std::thread::spawn(move || send.send(child.wait().unwrap()));
    let status = ended.recv_timeout(end);
    if status.is_err() {
        let _ = Command::new("kill").arg(id.to_string()).status();
    }
    assert_eq!(status.unwrap().code(), Some(0));
}
