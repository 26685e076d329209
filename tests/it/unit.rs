//! Is the systemd unit sound, and as closed as we say?

use crate::process::skip;
use std::path::Path;
use std::process::Command;

#[test]
fn the_unit_passes_verify_and_its_exposure_is_at_most_1_5() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip(
            "systemd/pointsman.service was not checked: systemd-analyze is not installed (package systemd)",
        );
    }
    let output = Command::new("bash").arg(root.join("scripts/check-unit")).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("exposure"), "{said}");
}

#[test]
fn the_unit_says_what_the_program_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = std::fs::read_to_string(root.join("systemd/pointsman.service")).unwrap();
    for line in ["Type=notify", "ExecReload=", "RuntimeDirectory=pointsman", "LimitCORE=0"] {
        assert!(unit.lines().any(|told| told.starts_with(line)), "{line} is not in the unit");
    }
    let prevented = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    for code in ["64", "77", "78"] {
        let codes: Vec<_> = prevented.unwrap_or_default().split_whitespace().collect();
        assert!(codes.contains(&code), "exit code {code} restarts for ever");
    }
}
