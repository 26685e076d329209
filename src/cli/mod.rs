//! What does the operator type?
//!
//! Arguments in, one verb carried out, an exit code out (contract section 1; sysexits: 0, 64 usage,
//! 66 no file, 69 nothing usable, 71 cannot bind, 77 permission, 78 configuration). Verbs that are
//! not built yet are known and refused with a sentence.

mod check;
pub mod events;
mod provider;
mod run;
pub mod usage;
pub mod why;

use crate::server::Keeper;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Where the configuration is looked for when no file is named.
pub const DEFAULT_FILE: &str = "/etc/pointsman/pointsman.yaml";

/// Exit codes of contract section 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done,
    /// Warnings under `--strict`, or a failed request in `demo`.
    Warned,
    /// The arguments are wrong.
    Usage,
    /// There is no such file.
    NoFile,
    /// Nothing usable.
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
        /// Also ask each provider (not built yet).
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
    /// What is known of providers.
    Provider {
        #[command(subcommand)]
        verb: provider::ProviderVerb,
    },
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
    Schema,
}

/// Verbs of the contract whose work has not been done yet.
const LATER: [&str; 16] = [
    "init",
    "reload",
    "status",
    "top",
    "events",
    "why",
    "explain",
    "target",
    "account",
    "client",
    "import",
    "completions",
    "man",
    "show",
    "diff",
    "help",
];

/// Carries out what was typed. `keeper` holds SIGHUP, taken over before anything else.
#[must_use]
pub fn main(keeper: Keeper, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(fault) => {
            let is_asked_for = !fault.use_stderr();
            // Nothing can be said where even standard error is closed.
            let _ = fault.print();
            return if is_asked_for { Exit::Done } else { Exit::Usage };
        }
    };
    match arguments.verb {
        Verb::Run { config } => run::run(keeper, config),
        Verb::Demo { duration } => run::demo(&keeper, duration.as_deref()),
        Verb::Check { config, strict, probe, json } => check::check(config, strict, probe, json),
        Verb::Config { verb: ConfigVerb::Schema } => {
            say(&format!("{:#}", crate::config::schema()));
            Exit::Done
        }
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
            let verb = words.first().map_or("", String::as_str);
            if LATER.contains(&verb) {
                complain(&format!("pointsman {verb} is not built yet"));
            } else {
                complain(&format!("there is no verb \"{verb}\"; see pointsman --help"));
            }
            Exit::Usage
        }
    }
}

/// Writes a line for people or pipes to standard output; a closed pipe is their choice.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a line to standard error.
fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "pointsman: {line}");
}

/// Returns the file to read: the one named, else the usual one where it exists.
fn file_or_usual(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()))
}
