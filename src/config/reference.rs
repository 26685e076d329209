//! Where a secret is, and what may be wrong with it.
//!
//! The file names the place (`{env: NAME}`, `{file: PATH}`, `{credential: NAME}`,
//! `{command: [..]}`); [`Outside`] goes there. A literal is taken only from a file that nobody but
//! its owner can read, and even then with a warning: files are copied, pasted and committed.
//!
//! Whatever stands where a secret is expected is treated as one: it is never repeated.

use super::fault::Faults;
use super::path::{KeyPath, did_you_mean, looks_secret};
use super::value::{read_text, type_of};
use crate::base::secret::Secret;
use serde_yaml::Value;
use std::fmt;
use std::path::{Path, PathBuf};

/// The place of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; exactly one trailing newline is not part of the secret.
    File(PathBuf),
    /// A systemd credential: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A command and its arguments; what it prints is the secret.
    Command(Vec<String>),
    /// The secret itself.
    Literal(Secret),
}

/// Why a secret could not be had. The text fits behind [`SecretRef::describe`] and never holds
/// any part of the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// The environment variable is not there.
    #[error("is not set")]
    NotSet,
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// There is no such file.
    #[error("does not exist")]
    Missing,
    /// It may not be opened.
    #[error("may not be read by this user")]
    Forbidden,
    /// It could not be read for another reason.
    #[error("cannot be read ({0})")]
    Unreadable(String),
    /// It is a directory, a pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// It is longer than any key.
    #[error("is longer than 64 KiB")]
    TooLarge,
    /// It cannot be sent as the value of an HTTP header.
    #[error(
        "holds something that cannot be sent in an HTTP header (a line break, a blank or a letter beyond ASCII)"
    )]
    NotAHeaderValue,
    /// It is no text.
    #[error("is not UTF-8 text")]
    NotText,
    /// systemd gave this service no credentials.
    #[error("cannot be read: CREDENTIALS_DIRECTORY is not set (use LoadCredential= in the unit)")]
    NoCredentials,
    /// The command could not be started.
    #[error("cannot be started ({0})")]
    NotStarted(String),
    /// The command failed.
    #[error("failed (exit status {0})")]
    CommandFailed(i32),
    /// The command took too long.
    #[error("took longer than 10 seconds")]
    CommandSlow,
}

/// What is wrong with the files of a certificate: the end of a sentence that begins with the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairFault {
    /// With the certificate's.
    Certificate(String),
    /// With the key's.
    Key(String),
}

/// The world as the configuration may see it.
pub trait Outside {
    /// Returns an environment variable.
    fn env(&self, name: &str) -> Option<String>;

    /// Fetches a secret from its place.
    fn secret(&self, what: &SecretRef) -> Result<Secret, SecretFault>;

    /// Fetches a secret of several lines (a key file) from its place; it is not for a header.
    fn document(&self, what: &SecretRef) -> Result<Secret, SecretFault> {
        self.secret(what)
    }

    /// Tells whether a file could be appended to, made where there is none; changes nothing.
    ///
    /// # Errors
    /// Why not, as the end of a sentence that begins with its path.
    fn may_append(&self, _path: &Path) -> Result<(), String> {
        Ok(())
    }

    /// Tells whether a file holds certificate authorities.
    ///
    /// # Errors
    /// Why not, as the end of a sentence that begins with its path.
    fn authorities(&self, _path: &Path) -> Result<(), String> {
        Ok(())
    }

    /// Tells whether two files hold a certificate and its key.
    ///
    /// # Errors
    /// Which does not, and why.
    fn certificate(&self, _certificate: &Path, _key: &Path) -> Result<(), PairFault> {
        Ok(())
    }

    /// Tells whether a file can hold what outlives a restart; nothing in it is changed.
    ///
    /// # Errors
    /// Why it cannot, and what to do.
    fn state_file(&self, path: &Path) -> Result<(), String> {
        let _ = path;
        Ok(())
    }
}

impl SecretRef {
    /// Tells whether the secret stands in a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        match self {
            SecretRef::File(_) | SecretRef::Credential(_) => true,
            SecretRef::Env(_) | SecretRef::Command(_) | SecretRef::Literal(_) => false,
        }
    }

    /// Returns words for the place, fit for a message.
    #[must_use]
    pub fn describe(&self) -> String {
        let named = |what: &str, name: &str| {
            if looks_secret(name) {
                format!("{what} (name not shown, it looks like a key)")
            } else {
                format!("{what} {}", name.escape_debug())
            }
        };
        match self {
            SecretRef::Env(name) => named("environment variable", name),
            SecretRef::File(path) => named("file", &path.to_string_lossy()),
            SecretRef::Credential(name) => named("systemd credential", name),
            SecretRef::Command(words) => named("command", words.first().map_or("", |word| word.as_str())),
            SecretRef::Literal(_) => "the value".to_owned(),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Makes a secret of a text that can be sent in a header.
///
/// # Errors
/// Says what is wrong with it without repeating it.
pub fn secret_of(text: String) -> Result<Secret, SecretFault> {
    if text.is_empty() {
        return Err(SecretFault::Empty);
    }
    // Visible ASCII only: a blank or a tab inside a key is a slip of the hand, and some servers
    // would cut the header there.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SecretFault::NotAHeaderValue);
    }
    Ok(Secret::new(text))
}

/// Tells whether a text may name an environment variable.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

const HOW: &str = "a secret is written {env: NAME}, {file: PATH}, {credential: NAME} or {command: [..]}";
const PLACES: [&str; 4] = ["env", "file", "credential", "command"];

/// Reads the place of a secret.
pub fn read_reference(faults: &Faults, at: &KeyPath, value: &Value) -> Option<SecretRef> {
    let entries = match value {
        Value::Mapping(entries) => entries,
        Value::String(text) => return read_literal(faults, at, text),
        other => {
            faults.error(at, format!("must be the place of a secret, not {}; {HOW}", type_of(other)));
            return None;
        }
    };
    let mut entries = entries.iter();
    let (Some((Value::String(place), value)), None) = (entries.next(), entries.next()) else {
        faults.error(at, format!("must have exactly one key; {HOW}"));
        return None;
    };
    match place.as_str() {
        "env" => {
            let name = read_text(faults, &at.key("env"), value)?;
            if !is_variable_name(&name) {
                faults.error(&at.key("env"), "is not the name of an environment variable");
                return None;
            }
            Some(SecretRef::Env(name))
        }
        "file" => read_text(faults, &at.key("file"), value).map(|path| SecretRef::File(path.into())),
        "credential" => {
            let name = read_text(faults, &at.key("credential"), value)?;
            if name.contains('/') || name == ".." || name == "." {
                faults.error(&at.key("credential"), "is not the name of a systemd credential");
                return None;
            }
            Some(SecretRef::Credential(name))
        }
        "command" => read_command(faults, &at.key("command"), value),
        "vault" | "aws_secret" => {
            faults.error(at, format!("{place} is not built yet; {HOW}"));
            None
        }
        other => {
            // The word itself may be the key, written as `{sk-…}` in braces: it is not repeated.
            let near = did_you_mean(other, PLACES);
            faults.error(at, format!("names a place for secrets that is not known{near}; {HOW}"));
            None
        }
    }
}

fn read_literal(faults: &Faults, at: &KeyPath, text: &str) -> Option<SecretRef> {
    if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        let name = if is_variable_name(name) && !looks_secret(name) { name } else { "NAME" };
        faults.error(at, format!("write {{env: {name}}}: secrets are not expanded from text"));
        return None;
    }
    match secret_of(text.to_owned()) {
        Ok(secret) => Some(SecretRef::Literal(secret)),
        Err(why) => {
            faults.error(at, format!("the value {why}"));
            None
        }
    }
}

fn read_command(faults: &Faults, at: &KeyPath, value: &Value) -> Option<SecretRef> {
    let Value::Sequence(items) = value else {
        faults.error(at, format!("must be a list: the program and its arguments, not {}", type_of(value)));
        return None;
    };
    if items.is_empty() || items.len() > 64 {
        faults.error(at, "must hold a program and at most 63 arguments");
        return None;
    }
    let mut words = Vec::new();
    for (index, item) in items.iter().enumerate() {
        words.push(read_text(faults, &at.index(index), item)?);
    }
    if !words.first().is_some_and(|program| program.starts_with('/')) {
        faults.error(&at.index(0), "must be an absolute path: the command runs without a PATH");
        return None;
    }
    Some(SecretRef::Command(words))
}
