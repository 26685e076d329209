//! `pointsman init`: a first file to go on from, commented, that passes `check` as it is.
//!
//! Without `--from-env` it names the usual providers as `optional`: what has no key in the environment
//! is left out with a warning until there is one. With it the file says what zero configuration found,
//! and one route over all of it. Keys stay where they are; the file names their variables.

use super::ask::Fault;
use super::{Exit, say};
use crate::catalog;
use crate::config::TEXT_MAX;
use crate::config::plan::{Plan, Provider};
use crate::reload::discover;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to write it; - is standard output.
    #[arg(value_name = "FILE", default_value = "pointsman.yaml")]
    file: PathBuf,
    /// Write down what is found in the environment.
    #[arg(long)]
    from_env: bool,
    /// Overwrite a file that is there.
    #[arg(long)]
    force: bool,
}

const HEAD: &str = "# A first configuration of pointsman. What it leaves out has its default.
#
#   pointsman check -c FILE          every fault at once, with its line
#   pointsman config show -c FILE    every key, its value and where it comes from
#   pointsman run -c FILE            serve
#   pointsman client --help          how to point a client here
#
# Keys are never written here, only where they stand: {env: NAME} {file: PATH} {command: [/program]}

version: 1

listen:                            # where clients call
  - {address: \"127.0.0.1:8080\"}
admin: {address: \"127.0.0.1:9901\"} # status, metrics, the operator's verbs

# Who may call. Without clients everybody on this machine may, and nobody else can.
# clients:
#   - {name: laptop, key: {env: POINTSMAN_KEY_LAPTOP}, routes: [\"*\"]}

";

const TAIL: &str = "
# What is worth knowing early; these are the defaults.
# timeouts: {connect: 2s, first_content: 12s, response: 120s, total: 600s}
# retry: {failovers: 4, wait_in_place: 5s}
# breaker: {consecutive_failures: 5, open: 5s}
# log: {level: info, format: auto}
";

const BODY: &str = "providers:
  # Optional: left out, with a warning, while its key is not in the environment.
  openai: {kind: openai, optional: true}                # OPENAI_API_KEY
  anthropic: {kind: anthropic, optional: true}          # ANTHROPIC_API_KEY
  groq: {kind: groq, optional: true}                    # GROQ_API_KEY
  # A server on this machine that wants no key (Ollama, llama.cpp, vLLM).
  local: {kind: openai, base_url: \"http://127.0.0.1:11434/v1\"}

routes:
  chat:                            # what clients put into \"model\"
    targets:                       # 1 comes first; equal priorities share
      - {provider: openai, model: gpt-4o-mini, priority: 1}
      - {provider: anthropic, model: claude-haiku-4-5, priority: 2}
      - {provider: groq, model: llama-3.3-70b-versatile, priority: 3}
      - {provider: local, model: llama3.2, priority: 4}

default_route: chat                # for a model that nothing else names
";

pub(super) fn init(arguments: &Arguments) -> Exit {
    match text(arguments.from_env).and_then(|text| write(arguments, &text)) {
        Ok(()) => Exit::Done,
        Err(fault) => fault.tell(),
    }
}

fn text(from_env: bool) -> Result<String, Fault> {
    if !from_env {
        return Ok([HEAD, BODY, TAIL].concat());
    }
    let found = discover().map_err(|fault| Fault { exit: Exit::of_load(&fault), lines: fault.lines() })?;
    let providers = found.text.strip_prefix("version: 1\n").unwrap_or(&found.text);
    Ok([HEAD, providers, &route(&found.plan), TAIL].concat())
}

/// One route over the first known model of each provider, in the order in which they were found.
fn route(plan: &Plan) -> String {
    let named: Vec<(&Provider, String)> =
        plan.providers.iter().filter_map(|provider| Some((provider, first_model(provider)?))).collect();
    if named.is_empty() {
        return "\n# No model of these is known by name: ask for PROVIDER/MODEL, or write a route.\n# routes:\n#   chat: {targets: [{provider: NAME, model: MODEL}]}\n".to_owned();
    }
    let mut text = "\nroutes:\n  chat:                            # what clients put into \"model\"\n    targets:                       # 1 comes first\n".to_owned();
    for (priority, (provider, model)) in (1..).zip(named) {
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "      - {{provider: {}, model: \"{model}\", priority: {priority}}}",
            provider.name
        );
    }
    text.push_str("\ndefault_route: chat                # for a model that nothing else names\n");
    text
}

fn first_model(provider: &Provider) -> Option<String> {
    let known = catalog::find(provider.word).and_then(|entry| {
        entry
            .models
            .iter()
            .find(|model| provider.models.contains_key(model.name))
            .map(|model| model.name.to_owned())
    });
    known.or_else(|| provider.models.keys().next().map(ToString::to_string))
}

fn write(arguments: &Arguments, text: &str) -> Result<(), Fault> {
    debug_assert!(text.len() < TEXT_MAX);
    if arguments.file.as_os_str() == "-" {
        say(text.trim_end());
        return Ok(());
    }
    let (path, name) = (&arguments.file, arguments.file.display());
    let written = if arguments.force { replace(path, text) } else { create(path, text) };
    match written {
        Ok(()) => {
            say(&format!("{name}: written; pointsman check -c {name} tells what it lacks"));
            Ok(())
        }
        Err(fault) if fault.kind() == ErrorKind::AlreadyExists => {
            Err(Fault::new(Exit::Usage, format!("{name}: is there already; --force overwrites it")))
        }
        Err(fault) => {
            Err(Fault::new(Exit::of_io(&fault), format!("{name}: cannot be written: {}", fault.kind())))
        }
    }
}

/// Leaves nothing where it could not write all of it: an empty file would be in the way of the next try.
fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // Some file systems say only here that they are full.
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Writes beside it and renames, so that a process that reads it meanwhile sees one or the other. Who may
/// read the file that was there may read the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // Behind a link is the file that is meant; where there is none yet, the name is.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // What an attempt left that was cut off; it must not be in the way of every one after it.
    match std::fs::remove_file(&beside) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(fault),
        Ok(()) | Err(_) => {}
    }
    let put = || {
        create(&beside, text)?;
        if let Ok(before) = std::fs::metadata(&path) {
            let made = std::fs::metadata(&beside)?;
            if (before.uid(), before.gid()) != (made.uid(), made.gid()) {
                chown(&beside, Some(before.uid()), Some(before.gid()))?;
            }
            std::fs::set_permissions(&beside, before.permissions())?;
        }
        std::fs::rename(&beside, &path)
    };
    put().inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whatever_an_attempt_before_left_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::write(directory.path().join("a.yaml.new"), "half").unwrap();
        let link = directory.path().join("link.yaml");
        std::os::unix::fs::symlink("a.yaml", &link).unwrap();
        for (name, text) in [(&path, "new"), (&link, "newer")] {
            replace(name, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        }
        assert_eq!(names(directory.path()), ["a.yaml", "link.yaml"]);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("folder");
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, "new").is_err());
        assert_eq!(names(directory.path()), ["folder"]);
    }

    #[test]
    fn a_new_file_is_its_owner_s_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        replace(&path, "new").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
