//! What does the command line answer, and with which exit code? (Contract section 1.)

use crate::process::{HEAD, Program, openai, skip};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

/// A provider that is never called.
fn sound() -> String {
    format!(
        "{HEAD}providers:\n{}routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\n",
        openai("one", "http://127.0.0.1:9/v1", "KEY_ONE")
    )
}

fn program(yaml: &str) -> Program {
    Program::new(yaml).env("KEY_ONE", "sk-one-0123456789")
}

#[tokio::test]
async fn wrong_arguments_are_64() {
    let program = program(&sound());
    let table: [&[&str]; 6] =
        [&["run", "--no-such-flag"], &["no-such-verb"], &[], &["run", "-c"], &["config"], &["run", "CONFIG"]];
    for arguments in table {
        let (code, said) = program.verb(arguments).await;
        assert_eq!(code, 64, "{arguments:?}: {said}");
        assert!(!said.trim().is_empty(), "{arguments:?} says nothing");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_66() {
    let program = program(&sound());
    for verb in ["run", "check"] {
        let (code, said) = program.verb(&[verb, "-c", "no-such.yaml"]).await;
        assert_eq!(code, 66, "{verb}: {said}");
        assert!(said.contains("no-such.yaml"), "{verb} does not name the file: {said}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_71() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, yaml) in [
        ("listen[0].address", sound().replacen("127.0.0.1:0", &address, 1)),
        (
            "admin.address",
            sound().replace("admin: {address: \"127.0.0.1:0\"", &format!("admin: {{address: \"{address}\"")),
        ),
    ] {
        let (code, said) = program(&yaml).verb(&["run", "-c", "CONFIG"]).await;
        assert_eq!(code, 71, "{key}: {said}");
        let want = format!("{key}: cannot listen on {address}: ");
        assert!(said.contains(&want) && said.contains("ss -ltnp 'sport = :"), "{key}: {said}");
        assert!(!said.contains("panicked"), "{key}: {said}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_71_and_a_closed_pipe_is_no_fault() {
    let program = program(&sound());
    let schema = ["config", "schema"];
    let table: [&[&str]; 8] = [
        &["check", "-c", "CONFIG"],
        &["config", "show", "-c", "CONFIG"],
        &schema,
        &["version"],
        &["--help"],
        &["completions", "bash"],
        &["man"],
        &["init", "-"],
    ];
    for arguments in table {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, said) = program.verb_into(arguments, full).await;
        assert_eq!(code, 71, "{arguments:?}: {said}");
        assert!(said.contains("cannot be written to standard output: no storage space"), "{said}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, said) = program.verb_into(arguments, writer).await;
        assert_eq!((code, said.as_str()), (0, ""), "{arguments:?}");
    }
    // What the verb found is not hidden by it.
    program.configure("version: 2\n");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, said) = program.verb_into(&["check", "-c", "CONFIG"], full).await;
    assert_eq!(code, 78, "{said}");
}

#[tokio::test]
async fn init_that_cannot_write_its_file_leaves_none() {
    let program = program(&sound());
    for force in [&[][..], &["--force"]] {
        // No file may grow, and the signal that says so is ignored: a disk that is full.
        let init = [&["init", "first.yaml"], force].concat();
        let (code, said) = program.verb_behind("trap '' XFSZ; ulimit -f 0", &init).await;
        assert_eq!(code, 71, "{said}");
        assert!(said.contains("first.yaml: cannot be written: file too large"), "{said}");
        let left = std::fs::read_dir(program.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("first")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_77() {
    let program = program(&sound());
    let is_root = program.verb_as_nobody(&["version"]).await.0 == 0;
    std::fs::set_permissions(program.config(), std::fs::Permissions::from_mode(0o000)).unwrap();
    for verb in ["run", "check"] {
        let arguments = [verb, "-c", "CONFIG"];
        let (code, said) = if is_root {
            // The folder is its owner's alone; what must not be readable is the file in it.
            let folder = program.path(".");
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
            program.verb_as_nobody(&arguments).await
        } else if std::fs::read(program.config()).is_ok() {
            return skip("exit code 77 was not seen: this user may read everything and become nobody else");
        } else {
            program.verb(&arguments).await
        };
        assert_eq!(code, 77, "{verb}: {said}");
        assert!(said.contains("pointsman.yaml"), "{verb} does not name the file: {said}");
    }
}

#[tokio::test]
async fn an_unsound_file_is_78_and_every_fault_has_its_line() {
    let yaml = sound()
        .replace("threads: 2", "threads: 2\ncolour: red")
        .replace("threads: 2", "threads: -2")
        .replace("provider: one, model: m", "provider: oen, model: m, weight: 20000")
        + "timeouts: {connect: fast}\ndefault_route: chatt\n";
    let program = program(&yaml);
    let (checked, said) = program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(checked, 78, "{said}");
    for (line, word) in [
        (2, "threads"),
        (3, "colour"),
        (9, "routes.chat.targets[0].provider"),
        (9, "routes.chat.targets[0].weight"),
        (10, "timeouts.connect"),
        (11, "default_route"),
    ] {
        let start = format!("pointsman.yaml:{line}: {word}");
        assert!(said.lines().any(|told| told.starts_with(&start)), "no line begins {start:?}:\n{said}");
    }
    assert!(said.contains("did you mean \"one\"?"), "{said}");
    assert!(said.contains("did you mean \"chat\"?"), "{said}");
    let (ran, told) = program.verb(&["run", "-c", "CONFIG"]).await;
    assert_eq!(ran, 78, "{told}");
    assert!(told.contains("colour") && told.contains("default_route"), "run names not all faults: {told}");
    let (code, json) = program.verb(&["check", "-c", "CONFIG", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 78);
    assert!(json["errors"].as_array().unwrap().len() >= 6, "{json}");
}

#[tokio::test]
async fn every_kind_of_bad_file_is_78() {
    let table = [
        ("nothing in it", String::new()),
        ("no YAML", "version: [1\n".to_owned()),
        ("another version", sound().replace("version: 1", "version: 2")),
        ("a key twice", sound() + "threads: 1\n"),
        ("not a number", sound() + "retry: {budget_ratio: .nan}\n"),
        ("a variable that is not set", sound().replace("KEY_ONE", "NO_SUCH_VARIABLE")),
        ("plain http to elsewhere", sound().replace("http://127.0.0.1:9/v1", "http://192.0.2.1/v1")),
        ("a list for a map", "- 1\n- 2\n".to_owned()),
        ("open to the network", sound().replacen("127.0.0.1:0", "0.0.0.0:0", 1)),
        (
            "an open admin plane",
            sound().replace("admin: {address: \"127.0.0.1:0\"", "admin: {address: \"0.0.0.0:0\""),
        ),
        ("a key of later", sound() + "state: {path: /var/lib/pointsman/state}\n"),
        ("tabs", sound().replace("  chat:", "\tchat:")),
        ("a control character", sound().replace("model: m", "model: \"m\\u0007\"")),
        ("an alias bomb", format!("{}\na: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", sound())),
        ("a large file", sound() + &"# padding\n".repeat(120_000)),
    ];
    for (what, yaml) in table {
        for verb in ["check", "run"] {
            let (code, said) = program(&yaml).verb(&[verb, "-c", "CONFIG"]).await;
            assert_eq!(code, 78, "{what}: {verb}: {said}");
            assert!(said.contains("pointsman.yaml"), "{what}: {verb} does not name the file: {said}");
            assert!(!said.contains("panicked"), "{what}: {said}");
        }
    }
}

#[tokio::test]
async fn a_folder_or_a_fifo_is_no_configuration_and_nothing_hangs() {
    let program = program(&sound());
    std::fs::create_dir(program.path("folder.yaml")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(program.path("fifo.yaml")).status();
    let mut names = vec!["folder.yaml"];
    if made.is_ok_and(|status| status.success()) {
        names.push("fifo.yaml");
    }
    for name in names {
        for verb in ["check", "run"] {
            let (code, said) = program.verb(&[verb, "-c", name]).await;
            assert_eq!(code, 78, "{name}: {verb}: {said}");
        }
    }
}

#[tokio::test]
async fn nothing_in_the_environment_is_78_with_the_names_to_set() {
    if std::path::Path::new("/etc/pointsman/pointsman.yaml").exists() {
        return skip("zero configuration was not tried: this machine has a configuration of its own");
    }
    let (code, said) = Program::new("").verb(&["run"]).await;
    assert_eq!(code, 78, "{said}");
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OLLAMA_HOST"] {
        assert!(said.contains(name), "{name} is not named: {said}");
    }
}

#[tokio::test]
async fn a_sound_file_is_0_and_warnings_are_1_under_strict_only() {
    for arguments in [&["check", "-c", "CONFIG"][..], &["check", "-c", "CONFIG", "--strict"]] {
        let (code, said) = program(&sound()).verb(arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {said}");
    }
    // A literal key in a file of its owner alone is a warning, in any other file a fault.
    let literal = program(&sound().replace("{env: KEY_ONE}", "sk-literal-0123456789"));
    let (code, said) = literal.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("providers.one.credentials[0].key"), "no warning: {said}");
    assert!(!said.contains("sk-literal"), "{said}");
    assert_eq!(literal.verb(&["check", "-c", "CONFIG", "--strict"]).await.0, 1);
    std::fs::set_permissions(literal.config(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = literal.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 78, "{said}");
    assert!(!said.contains("sk-literal"), "{said}");
}

#[tokio::test]
async fn the_sample_of_the_contract_passes_once_its_variables_are_set() {
    let sample = include_str!("contract_sample.yaml");
    let program = Program::new("")
        .env("POINTSMAN_ADMIN_TOKEN", "admin-token-0123456789")
        .env("POINTSMAN_KEY_LAPTOP", "client-key-0123456789")
        .env("OPENAI_API_KEY", "sk-work-0123456789")
        .env("ANTHROPIC_API_KEY", "sk-ant-0123456789");
    let key = program.write("openai-personal", "sk-personal-0123456789\n");
    // The one thing in it that is not a variable is a file of the machine.
    program.configure(&sample.replace("/etc/pointsman/keys/openai-personal", key.to_str().unwrap()));
    let (code, said) = program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn the_schema_is_json_and_knows_the_keys() {
    let (code, said) = program("").verb(&["config", "schema"]).await;
    let schema: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, 0);
    assert!(schema["$schema"].is_string(), "{said}");
    for key in ["listen", "providers", "routes", "timeouts", "retry", "breaker", "cooldown", "limits"] {
        assert!(schema["properties"][key].is_object(), "{key} is not in the schema");
    }
}

#[tokio::test]
async fn the_version_is_told() {
    let program = program("");
    for arguments in [&["version"][..], &["--version"], &["version", "--json"]] {
        let (code, said) = program.verb(arguments).await;
        assert_eq!(code, 0, "{arguments:?}");
        assert!(said.contains(env!("CARGO_PKG_VERSION")), "{arguments:?}: {said}");
    }
    let (_, said) = program.verb(&["version", "--json"]).await;
    assert!(serde_json::from_str::<Value>(&said).unwrap()["version"].is_string(), "{said}");
    let (code, said) = program.verb(&["--help"]).await;
    assert_eq!(code, 0);
    for verb in ["run", "check", "config", "demo"] {
        assert!(said.contains(verb), "{verb} is not in the help: {said}");
    }
}
