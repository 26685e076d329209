//! What does the configuration say, as it stands now?
//!
//! Texts come from the variables that set keys, from the file and from the fragments beside it, or are written
//! from what the environment has; `config` makes a plan of them. What cannot be read is a fault among
//! the others, so that an operator sees all of them at once. Only a file that is not there stands alone:
//! nothing can be said of the rest.

use crate::config::discover::Discovered;
use crate::config::overrides;
use crate::config::plan::Plan;
use crate::config::{self, Problem, Severity, Source};
use crate::secrets::Host;
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longest configuration file that is read (threat A3).
const FILE_LIMIT: u64 = 1024 * 1024;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A YAML file.
    File(PathBuf),
    /// The environment (contract section 6).
    Environment,
}

/// Why there is no plan.
#[derive(Debug)]
pub enum LoadFault {
    /// The file is not there.
    Missing(PathBuf),
    /// The file or a fragment may not be read; this, and every fault of the others.
    Forbidden(Vec<String>),
    /// It was read and is not sound; every fault.
    Unsound(Vec<String>),
    /// Nothing was found in the environment.
    Nothing(String),
}

impl LoadFault {
    /// Returns the fault as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            LoadFault::Missing(path) => {
                vec![format!("{}: no such file; pointsman init writes a first one", path.display())]
            }
            LoadFault::Forbidden(problems) | LoadFault::Unsound(problems) => problems.clone(),
            LoadFault::Nothing(names) => vec![names.clone()],
        }
    }
}

/// A plan and what is worth a warning about it.
#[derive(Debug)]
pub struct Loaded {
    /// The plan.
    pub plan: Plan,
    /// Warnings, as lines for people.
    pub warnings: Vec<String>,
    /// What was found in the environment, as lines for people.
    pub found: Vec<String>,
}

/// Reads and checks the configuration.
///
/// # Errors
/// [`LoadFault`], with every fault at once.
pub fn load(origin: &Origin) -> Result<Loaded, LoadFault> {
    match origin {
        Origin::File(path) => load_file(path),
        Origin::Environment => load_environment(),
    }
}

/// The texts of a configuration, as they stand on disk.
pub struct Texts {
    files: Vec<TextFile>,
    /// What there is no text of.
    unread: Vec<Unread>,
}

impl Texts {
    /// Reads a file and the fragments beside it, and judges nothing.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn read(path: &Path) -> Result<Texts, LoadFault> {
        let texts = Texts::read_some(path)?;
        if texts.unread.is_empty() {
            return Ok(texts);
        }
        Err(texts.refused(texts.unread.iter().map(|unread| unread.problem.to_string()).collect()))
    }

    /// Reads what can be read of a file and the fragments beside it.
    ///
    /// # Errors
    /// Where the file is not there.
    fn read_some(path: &Path) -> Result<Texts, LoadFault> {
        let mut texts = Texts { files: Vec::new(), unread: Vec::new() };
        variables().for_each(|read| texts.take(read));
        match read_file(path) {
            Err(Unread { kind: ErrorKind::NotFound, .. }) => {
                return Err(LoadFault::Missing(path.to_owned()));
            }
            read => texts.take(read),
        }
        match fragments(path) {
            Ok(found) => {
                for fragment in found {
                    texts.take(read_file(&fragment).map(|file| file.below("conf.d")));
                }
            }
            Err(unread) => texts.unread.push(unread),
        }
        Ok(texts)
    }

    fn take(&mut self, read: Result<TextFile, Unread>) {
        match read {
            Ok(file) => self.files.push(file),
            Err(unread) => self.unread.push(unread),
        }
    }

    /// Says all that is wrong. A file that may not be read is told as that, whatever else is wrong.
    fn refused(&self, lines: Vec<String>) -> LoadFault {
        let is_forbidden = self.unread.iter().any(|unread| unread.kind == ErrorKind::PermissionDenied);
        if is_forbidden { LoadFault::Forbidden(lines) } else { LoadFault::Unsound(lines) }
    }

    /// Writes the configuration that the environment stands for.
    ///
    /// # Errors
    /// Where it stands for none.
    pub fn of_environment() -> Result<Texts, LoadFault> {
        Ok(Texts::discovered(discover()?.text))
    }

    fn discovered(text: String) -> Texts {
        let mut texts = Texts { files: Vec::new(), unread: Vec::new() };
        variables().for_each(|read| texts.take(read));
        let name = config::discover::SOURCE.to_owned();
        texts.files.push(TextFile { name, text, is_private: true, is_variable: false });
        texts
    }

    /// Returns them as `config` takes them.
    #[must_use]
    pub fn sources(&self) -> Vec<Source<'_>> {
        self.files.iter().map(TextFile::source).collect()
    }
}

fn load_file(path: &Path) -> Result<Loaded, LoadFault> {
    loaded(&Texts::read_some(path)?)
}

fn loaded(texts: &Texts) -> Result<Loaded, LoadFault> {
    let unread = texts.unread.iter().map(|unread| unread.problem.clone()).collect();
    let reading = config::read_rest(&texts.sources(), unread, &Host);
    let (errors, warnings): (Vec<&Problem>, Vec<&Problem>) =
        reading.problems.iter().partition(|problem| problem.severity == Severity::Error);
    let lines = |problems: Vec<&Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    match reading.plan {
        Some(plan) => Ok(Loaded { plan, warnings: lines(warnings), found: Vec::new() }),
        None => Err(texts.refused(lines(errors))),
    }
}

/// Reads the variables that set keys over the files, in the order of their names.
fn variables() -> impl Iterator<Item = Result<TextFile, Unread>> {
    let of_ours = |(name, value): (OsString, OsString)| {
        let name = name.to_string_lossy().into_owned();
        (name.starts_with(overrides::PREFIX) && !value.is_empty()).then_some((name, value))
    };
    let mut all: Vec<_> = std::env::vars_os().filter_map(of_ours).collect();
    all.sort();
    all.into_iter().map(|(name, value)| {
        let text = match value.to_str() {
            Some(value) => overrides::text(&name, value),
            None => Err("is not UTF-8 text".to_owned()),
        };
        match text {
            // Whoever can read another's environment can read its files.
            Ok(text) => Ok(TextFile { name, text, is_private: true, is_variable: true }),
            Err(why) => Err(Unread::because(Path::new(&name), why)),
        }
    })
}

/// Lists `conf.d/*.yaml` beside the file, in the order of their names.
fn fragments(path: &Path) -> Result<Vec<PathBuf>, Unread> {
    let directory = path.parent().unwrap_or(Path::new("")).join("conf.d");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(Unread::new(&directory, &fault)),
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .collect();
    found.sort();
    Ok(found)
}

/// A file as it was read.
struct TextFile {
    name: String,
    text: String,
    is_private: bool,
    is_variable: bool,
}

impl TextFile {
    fn source(&self) -> Source<'_> {
        let TextFile { name, text, is_private, is_variable } = self;
        Source { name, text, is_private: *is_private, is_variable: *is_variable }
    }

    /// Names it with the directory that it stands in.
    fn below(self, directory: &str) -> TextFile {
        TextFile { name: format!("{directory}/{}", self.name), ..self }
    }
}

/// A file that there is no text of, and why.
struct Unread {
    kind: ErrorKind,
    problem: Problem,
}

impl Unread {
    fn new(path: &Path, fault: &std::io::Error) -> Unread {
        let message = match fault.kind() {
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            // One that was listed is there: its name is.
            ErrorKind::NotFound => "is a link to a file that is not there".to_owned(),
            kind => format!("cannot be read: {kind}"),
        };
        Unread { kind: fault.kind(), ..Unread::because(path, message) }
    }

    fn because(path: &Path, message: impl Into<String>) -> Unread {
        let source = path.display().to_string();
        let problem = Problem {
            severity: Severity::Error,
            source,
            path: String::new(),
            line: None,
            message: message.into(),
        };
        Unread { kind: ErrorKind::InvalidData, problem }
    }
}

fn read_file(path: &Path) -> Result<TextFile, Unread> {
    let fault = |error: &std::io::Error| Unread::new(path, error);
    let metadata = std::fs::metadata(path).map_err(|error| fault(&error))?;
    let unsound = |why: &str| Unread::because(path, why);
    if !metadata.is_file() {
        return Err(unsound("is not a regular file"));
    }
    if metadata.len() > FILE_LIMIT {
        return Err(unsound("is larger than 1 MiB"));
    }
    let file = std::fs::File::open(path).map_err(|error| fault(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| fault(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| unsound("is not UTF-8 text"))?;
    let is_private = metadata.permissions().mode() & 0o077 == 0;
    let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into());
    Ok(TextFile { name, text, is_private, is_variable: false })
}

fn load_environment() -> Result<Loaded, LoadFault> {
    let discovered = discover()?;
    let found = discovered.found.iter().map(ToString::to_string);
    let skipped = discovered.skipped.iter().map(|why| format!("  {why}"));
    let found = found.chain(skipped).collect();
    let loaded = loaded(&Texts::discovered(discovered.text))?;
    Ok(Loaded { found, warnings: Vec::new(), ..loaded })
}

/// Looks for providers in the environment of this process.
///
/// # Errors
/// [`LoadFault::Nothing`]
pub fn discover() -> Result<Discovered, LoadFault> {
    let names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    config::discover::discover(&|name: &str| std::env::var(name).ok(), &names)
        .map_err(|nothing| LoadFault::Nothing(nothing.to_string()))
}
