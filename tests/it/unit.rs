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
    for line in ["Type=notify", "ExecReload=", "RuntimeDirectory=pointsman", "LimitCORE=0", "WatchdogSec="] {
        assert!(unit.lines().any(|told| told.starts_with(line)), "{line} is not in the unit");
    }
    let prevented = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    for code in ["64", "77", "78"] {
        let codes: Vec<_> = prevented.unwrap_or_default().split_whitespace().collect();
        assert!(codes.contains(&code), "exit code {code} restarts for ever");
    }
}

#[test]
fn the_socket_unit_listens_where_the_shipped_configuration_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let unit = read("systemd/pointsman.socket.example");
    let listens: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    assert_eq!(listens, ["127.0.0.1:8080", "127.0.0.1:9901"]);
    let shipped = read("packaging/deb/pointsman.yaml");
    for address in shipped.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if let Some((_, address)) = address.split_once("address: ") {
            let address =
                address.split(['"', '}', ',', ' ']).find(|part| part.contains(':')).unwrap_or(address);
            assert!(
                listens.contains(&address),
                "{address} is not in the socket unit: it would refuse to start"
            );
        }
    }
}
