//! What does the operator type?
//!
//! Arguments in, one verb carried out, an exit code out (contract section 1; sysexits: 0, 64 usage,
//! 66 no file, 69 nothing usable, 71 cannot bind, 77 permission, 78 configuration). Verbs that are
//! not built yet are known and refused with a sentence.
//!
//! | rooms | verbs |
//! |---|---|
//! | `run`, `check`, `probe`, `provider`, `init`, `pages` | what needs no running process |
//! | `ask` | how the running one is reached: address, token, faults |
//! | `status`, `target`, `reload`, `telling` | what it tells and does |
//! | `settings`, `client` | the file, and what runs, side by side |
//! | `top` | the same in a terminal, kept fresh, with keys |
//! | `table` | columns and colours |
//!
//! 69 is said where there is nobody to ask (nothing listens, no answer, an older process), by
//! `check --probe` where no credential at all works, and by `explain` where no target could be used.
//! 1 is said by verbs whose answer is a finding: warnings, a failed request of the demo, a credential
//! that does not work, a difference.
//!
//! An answer that could not be written is no success: 71, and a sentence ([`put`]). A pipe that was
//! closed is its reader's choice (`| head`), and nothing is said.

mod ask;
mod check;
mod client;
pub mod events;
mod init;
mod pages;
mod probe;
mod provider;
mod reload;
mod run;
mod settings;
mod status;
mod table;
mod target;
mod telling;
#[cfg(feature = "top")]
mod top;
pub mod usage;
pub mod why;

use crate::reload::LoadFault;
use crate::server::Keeper;
use clap::{CommandFactory, Parser, Subcommand};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Where the configuration is looked for when no file is named.
pub const DEFAULT_FILE: &str = "/etc/pointsman/pointsman.yaml";

/// Exit codes of contract section 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done,
    /// Warnings under `--strict`, a failed request in `demo`, a difference, a credential that does
    /// not work.
    Warned,
    /// The arguments are wrong.
    Usage,
    /// There is no such file.
    NoFile,
    /// Nothing usable: no process to ask, no provider that answers, no target to choose.
    Unavailable,
    /// A part of the system failed us.
    System,
    /// No permission.
    Permission,
    /// The configuration is wrong.
    Configuration,
}

impl Exit {
    /// Returns the number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Warned => 1,
            Exit::Usage => 64,
            Exit::NoFile => 66,
            Exit::Unavailable => 69,
            Exit::System => 71,
            Exit::Permission => 77,
            Exit::Configuration => 78,
        }
    }

    /// What a configuration that cannot be read or used means.
    fn of_load(fault: &LoadFault) -> Exit {
        match fault {
            LoadFault::Missing(_) => Exit::NoFile,
            LoadFault::Forbidden(_) => Exit::Permission,
            LoadFault::Unsound(_) | LoadFault::Nothing(_) => Exit::Configuration,
        }
    }

    /// What a file that cannot be read or written means.
    fn of_io(fault: &std::io::Error) -> Exit {
        match fault.kind() {
            std::io::ErrorKind::NotFound => Exit::NoFile,
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::System,
        }
    }
}

/// LLM provider failover proxy for the edge.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the proxy. Without a file: providers found in the environment, loopback only.
    Run {
        /// Configuration file (default: /etc/pointsman/pointsman.yaml where it exists).
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// The whole thing with nothing to set up: proxy, stand-in providers, a little traffic.
    Demo {
        /// Stop by itself after this long; exits 0 only if no client request failed.
        #[arg(long = "for", value_name = "DURATION")]
        duration: Option<String>,
    },
    /// Check a configuration, as `nginx -t` does: every fault at once.
    Check {
        /// Configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Exit 1 when there are warnings.
        #[arg(long)]
        strict: bool,
        /// Also ask each provider whether its credentials work: its list of models, or one token.
        #[arg(long)]
        probe: bool,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Write a first configuration, commented, that passes `check`.
    Init(init::Arguments),
    /// Have the running process read its configuration again, and say what changed.
    Reload(reload::Arguments),
    /// What goes where now, who rests and until when.
    Status(status::Arguments),
    /// The same and more, kept fresh in the terminal, with keys to act.
    #[cfg(feature = "top")]
    Top(top::Arguments),
    /// What happened: failovers, rests, reloads, the operator's verbs.
    Events(telling::Events),
    /// Why a request went where it went.
    Why(telling::Why),
    /// Where a request would go now, and why not elsewhere; exits 69 where nowhere.
    Explain(telling::Explain),
    /// The operator's verbs on targets.
    Target {
        #[command(subcommand)]
        verb: target::TargetVerb,
    },
    /// Requests, tokens and cost.
    Usage(telling::Usage),
    /// Credentials at providers.
    Account {
        #[command(subcommand)]
        verb: telling::AccountVerb,
    },
    /// What is known of providers.
    Provider {
        #[command(subcommand)]
        verb: provider::ProviderVerb,
    },
    /// Print the snippet that points a tool here.
    Client(client::Arguments),
    /// Print completions for a shell.
    Completions {
        #[arg(value_name = "SHELL")]
        shell: pages::Shell,
    },
    /// Print the manual page, or that of a verb.
    Man(pages::Manual),
    /// Print the version.
    Version {
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    #[command(external_subcommand)]
    Other(Vec<String>),
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print the JSON Schema of the configuration file.
    Schema {
        /// Print as JSON, which it is in any case.
        #[arg(long)]
        json: bool,
    },
    /// List every key with its value and where that comes from: file and line, environment,
    /// catalogue or default. Secrets are never shown.
    Show(settings::Show),
    /// Tell what the file would change in the running process; exits 1 where it would.
    Diff(settings::Diff),
}

/// Verbs of the contract whose work has not been done yet, each with what does instead.
const LATER: [(&str, &str); 1] = [("import", "write the file by hand, or see pointsman init")];

/// Carries out what was typed. `keeper` holds SIGHUP, taken over before anything else.
#[must_use]
pub fn main(keeper: Keeper, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(fault) => {
            let is_asked_for = !fault.use_stderr();
            if is_asked_for {
                is_written(fault.print());
                return said(Exit::Done);
            }
            // Nothing can be said where even standard error is closed.
            let _ = fault.print();
            return Exit::Usage;
        }
    };
    if let Verb::Run { config } = arguments.verb {
        // What it says on standard output is a greeting; its work is elsewhere.
        return run::run(keeper, config);
    }
    said(carry_out(keeper, arguments.verb))
}

fn carry_out(keeper: Keeper, verb: Verb) -> Exit {
    match verb {
        Verb::Run { config } => run::run(keeper, config),
        Verb::Demo { duration } => run::demo(&keeper, duration.as_deref()),
        Verb::Check { config, strict, probe, json } => check::check(&keeper, config, strict, probe, json),
        Verb::Config { verb: ConfigVerb::Schema { json: _ } } => {
            say(&format!("{:#}", crate::config::schema()));
            Exit::Done
        }
        Verb::Config { verb: ConfigVerb::Show(arguments) } => settings::show(&arguments),
        Verb::Config { verb: ConfigVerb::Diff(arguments) } => settings::diff(&keeper, &arguments),
        Verb::Init(arguments) => init::init(&arguments),
        Verb::Reload(arguments) => reload::reload(&keeper, &arguments),
        Verb::Status(arguments) => status::status(&keeper, &arguments),
        #[cfg(feature = "top")]
        Verb::Top(arguments) => top::top(keeper, arguments),
        Verb::Events(arguments) => telling::events(&keeper, &arguments),
        Verb::Why(arguments) => telling::why(&keeper, &arguments),
        Verb::Explain(arguments) => telling::explain(&keeper, &arguments),
        Verb::Target { verb } => target::target(&keeper, &verb),
        Verb::Usage(arguments) => telling::usage(&keeper, &arguments),
        Verb::Account { verb } => telling::account(&keeper, &verb),
        Verb::Client(arguments) => client::client(&keeper, &arguments),
        Verb::Completions { shell } => pages::completions(shell, Arguments::command()),
        Verb::Man(manual) => pages::manual(&manual, Arguments::command()),
        Verb::Provider { verb } => provider::provider(verb),
        Verb::Version { json: true } => {
            say(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }).to_string());
            Exit::Done
        }
        Verb::Version { json: false } => {
            say(concat!("pointsman ", env!("CARGO_PKG_VERSION")));
            Exit::Done
        }
        Verb::Other(words) => {
            complain(&unknown(words.first().map_or("", String::as_str)));
            Exit::Usage
        }
    }
}

/// Says what was typed instead of a verb, and what may have been meant.
fn unknown(word: &str) -> String {
    if cfg!(not(feature = "top")) && word == "top" {
        return "this pointsman was built without top; pointsman status --watch shows where it all goes"
            .to_owned();
    }
    if let Some((_, instead)) = LATER.iter().find(|(later, _)| *later == word) {
        return format!("pointsman {word} is not built yet; {instead}");
    }
    let command = Arguments::command();
    let near = crate::config::did_you_mean(word, command.get_subcommands().map(clap::Command::get_name));
    format!("there is no verb \"{}\"{near}; see pointsman --help", word.escape_debug())
}

/// What kept an answer from being written, the first time. Lines are said from deep within a verb; what
/// became of them is asked once, at its end.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output; false where that fails, and no more needs to be tried.
fn put(bytes: &[u8]) -> bool {
    is_written(io::stdout().write_all(bytes))
}

/// Tells whether something was written to standard output, to its end, and keeps why not.
fn is_written(written: io::Result<()>) -> bool {
    written.and_then(|()| io::stdout().flush()).map_err(|fault| UNWRITTEN.get_or_init(|| fault)).is_ok()
}

/// Returns the exit code of a verb that is done, once it is known whether its answer was written.
fn said(exit: Exit) -> Exit {
    match UNWRITTEN.get() {
        Some(fault) if fault.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("the answer cannot be written to standard output: {}", fault.kind()));
            if exit == Exit::Done { Exit::System } else { exit }
        }
        Some(_) | None => exit,
    }
}

/// Writes a line for people or pipes to standard output; false as [`put`].
fn say(line: &str) -> bool {
    put(format!("{line}\n").as_bytes())
}

/// Writes lines as [`say`] does.
fn say_all(lines: &[String]) {
    let _ = lines.iter().all(|line| say(line));
}

/// Writes a line to standard error.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "pointsman: {line}");
}

/// Returns the file to read: the one named, else the usual one where it exists.
fn file_or_usual(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()))
}
