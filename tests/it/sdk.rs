//! What do the real SDKs make of us?
//!
//! `tests/sdk/run.py` calls a server with the OpenAI and Anthropic Python SDKs, pinned;
//! `answers.py` gives them, and Google's, what `corpus_sdk` writes; `aws.py` is what `aws` asks. This
//! file brings the environments: venvs under `target`, each filled once by pip and kept as long as the
//! list of its packages stays the same. Where Python or the package index cannot be reached
//! the run is skipped, loudly; with `POINTSMAN_SDK_REQUIRED=1` (CI) a skip is a failure.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pointsman::standin::{GREETING, Provider, Reply};
use tokio::process::Command;

/// Longest time for pip to fetch and unpack everything (11 s measured with a near mirror).
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
/// Longest time for all checks of a script (4 s measured, most of it imports; eight tests may run
/// beside it on two cores).
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// A venv: its folder, and the list of its packages.
#[derive(Clone, Copy)]
pub struct Venv(&'static str, &'static str);

/// The SDKs of OpenAI, Anthropic and Google.
const SDKS: Venv = Venv("sdk-venv", "tests/sdk/requirements.txt");
/// AWS's SDK, and moto.
pub const AWS: Venv = Venv("aws-venv", "tests/sdk/aws.txt");

/// Runs every check of both SDKs, and what only the proxy owes its clients, against the server at
/// `base` (origin without `/v1`). The route's targets must say [`GREETING`].
///
/// # Panics
/// When a check fails; the message has one line a check.
pub async fn run(base: &str, key: &str, route: &str) {
    run_with(&["--base", base, "--key", key, "--route", route, "--text", GREETING, "--proxy"]).await;
}

async fn run_with(arguments: &[&str]) {
    let Some((is_ok, output)) = script("tests/sdk/run.py", arguments).await else { return };
    assert!(is_ok, "the SDKs are not content:\n{output}");
    eprintln!("{output}");
}

/// Runs a script with the SDKs at hand; tells whether it exited with 0, and all it said. None where
/// there are no SDKs, which is said.
///
/// # Panics
/// When there are no SDKs and they are required.
pub async fn script(path: &str, arguments: &[&str]) -> Option<(bool, String)> {
    script_in(SDKS, path, arguments).await
}

/// Does the same in another venv.
pub async fn script_in(venv: Venv, path: &str, arguments: &[&str]) -> Option<(bool, String)> {
    Some(finish(command(venv, path, arguments).await?, RUN_LIMIT).await)
}

/// Returns the command of a script in a venv. None where there is none, which is said.
///
/// # Panics
/// When there is none and it is required.
pub async fn command(venv: Venv, path: &str, arguments: &[&str]) -> Option<Command> {
    let python = match python(venv).await {
        Ok(python) => python,
        Err(reason) => {
            let is_required = std::env::var_os("POINTSMAN_SDK_REQUIRED").is_some();
            assert!(!is_required, "the SDK checks are required and cannot run: {reason}");
            crate::process::skip(&format!("the real SDK clients were not run: {reason}"));
            return None;
        }
    };
    let mut command = Command::new(python);
    command.arg(source(path)).args(arguments);
    // A proxy or a base URL in the developer's environment must not lead the SDKs elsewhere.
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        let is_ours = ["OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "AWS_"]
            .iter()
            .any(|prefix| upper.starts_with(prefix));
        if is_ours || upper.ends_with("_PROXY") {
            command.env_remove(&name);
        }
    }
    Some(command)
}

/// Returns the venv's Python with the pinned packages in it, or why there is none.
async fn python(Venv(folder, list): Venv) -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(folder);
    let python = venv.join("bin/python");
    let wanted = fs::read(source(list)).map_err(|fault| fault.to_string())?;
    let stamp = venv.join("installed.txt");
    // Tests run in processes of their own; the first one fills the venv, the others wait.
    let lock = File::create(venv.with_extension("lock")).map_err(|fault| fault.to_string())?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _lock = lock.map_err(|fault| fault.to_string())?.map_err(|fault| fault.to_string())?;
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let _ = fs::remove_dir_all(&venv);
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&venv);
    step("python3 -m venv", make).await?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    install.args(["--timeout", "15", "--retries", "1", "-r"]).arg(source(list));
    step("pip install", install).await?;
    fs::write(&stamp, wanted).map_err(|fault| fault.to_string())?;
    Ok(python)
}

async fn step(name: &str, command: Command) -> Result<(), String> {
    match finish(command, INSTALL_LIMIT).await {
        (true, _) => Ok(()),
        (false, output) => Err(format!("{name} failed: {}", output.trim())),
    }
}

/// Runs a command to its end; tells whether it exited with 0, and all it said.
async fn finish(mut command: Command, limit: Duration) -> (bool, String) {
    command.stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => {
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        }
        Ok(Err(fault)) => (false, fault.to_string()),
        Err(_) => (false, format!("not done after {} s", limit.as_secs())),
    }
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[tokio::test]
async fn the_real_sdks_are_content_with_the_stand_in() {
    // Compressed as well: nobody but a real client tells whether the gzip is sound.
    for reply in [Reply::ok(), Reply::ok().gzipped()] {
        let provider = Provider::start(reply).await.unwrap();
        run_with(&["--base", &provider.origin(), "--key", "k", "--route", "m"]).await;
    }
}
