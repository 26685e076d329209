//! How does the next plan take over?
//!
//! Read, check, resolve secrets, build, swap: the same road at start, on SIGHUP, on
//! `POST /v1/reload` and in `pointsman check`. Anything wrong keeps the plan in force, logs one
//! block with every fault, and counts. Nothing is applied by half: the swap is one pointer.
//!
//! What changed is told key by key ([`Reloaded::changes`]). The last [`KEPT`] plans that a reload put
//! aside are kept in memory, secrets and all, so that [`Reloader::restore`] can go back a step without
//! a file, a variable or a command that may be the very trouble. The file is not touched by that: the
//! next reload reads it.
//!
//! Listening addresses and worker threads are bound when the process starts; a change of theirs is
//! taken into the plan, and said to need a restart.
//!
//! Reading may take time (a `command:` secret up to ten seconds), so it happens on a thread of its
//! own. Reloads that are asked for meanwhile wait for one more, together: it begins after the last of
//! them was asked for, so it sees what each of them is about.

use crate::config::changes::{self, Change, Settings};
use crate::config::discover::Discovered;
use crate::config::overrides;
use crate::config::plan::{Credential, Plan};
use crate::config::settings;
use crate::config::{self, Problem, Severity, Source};
use crate::live::House;
use crate::observe::events::Event;
use crate::secrets::Host;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest configuration file that is read (threat A3).
const FILE_LIMIT: u64 = 1024 * 1024;

/// Plans that were in force before and can be gone back to.
pub const KEPT: usize = 5;

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

/// What a reload came to.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The generation now in force.
    pub generation: u64,
    /// Warnings about the new plan.
    pub warnings: Vec<String>,
    /// Changes that need a restart.
    pub needs_restart: Vec<String>,
    /// What is another than in the plan before.
    pub changes: Vec<Change>,
    /// The generation whose plan this is, where one was gone back to.
    pub restored: Option<u64>,
}

/// Reads what else a plan needs, and may still refuse it; on a thread that may wait. What it returns is
/// called when the plan is in force.
pub type Prepare = Arc<dyn Fn(&Plan) -> Result<Finish, String> + Send + Sync>;
/// Puts in force what was read along with a plan.
pub type Finish = Box<dyn FnOnce() + Send>;

/// What is said where a thread that reads has panicked.
const FAILED_WITHIN: &str = "reading the configuration failed within; it stays as it was";

/// Carries reloads out, one at a time.
pub struct Reloader {
    house: Arc<House>,
    origin: Origin,
    bound: Bound,
    /// How many reloads were asked for.
    asked: AtomicU64,
    one_at_a_time: tokio::sync::Mutex<Option<Done>>,
    prepare: Prepare,
    /// Plans that were in force, each with its generation; the last one at the end.
    kept: Mutex<VecDeque<(u64, Plan)>>,
}

/// The last reload that was carried out.
struct Done {
    /// The last one asked for before it began; it answers those up to here.
    upto: u64,
    result: Result<Reloaded, Vec<String>>,
}

/// What was bound at start and cannot change under way.
struct Bound {
    threads: usize,
    listen: Vec<crate::config::plan::Listen>,
    admin: std::net::SocketAddr,
    state: Option<PathBuf>,
}

impl Reloader {
    /// Makes the reloader of a house, which is [prepared](Prepare) for each plan (the certificates of
    /// its listeners).
    #[must_use]
    pub fn new(house: Arc<House>, origin: Origin, prepare: Prepare) -> Arc<Self> {
        let live = house.live();
        let bound = Bound {
            threads: live.plan.threads,
            listen: live.plan.listen.clone(),
            admin: live.plan.admin.address,
            state: live.plan.state.clone(),
        };
        let one_at_a_time = tokio::sync::Mutex::new(None);
        let (asked, kept) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Reloader { house, origin, bound, asked, one_at_a_time, prepare, kept })
    }

    /// Reads the configuration again and puts it in force. Several that wait behind one under way
    /// share one reading and its result.
    ///
    /// # Errors
    /// Every fault, as lines for people; the plan in force then stays.
    pub async fn reload(&self) -> Result<Reloaded, Vec<String>> {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut done = self.one_at_a_time.lock().await;
        if let Some(done) = done.as_ref().filter(|done| done.upto >= number) {
            return done.result.clone();
        }
        let upto = self.asked.load(Ordering::Acquire);
        let origin = self.origin.clone();
        let loaded = tokio::task::spawn_blocking(move || load(&origin)).await;
        let result = match loaded {
            Ok(Ok(loaded)) => self.take_over(loaded).await,
            Ok(Err(fault)) => Err(fault.lines()),
            Err(_) => Err(vec![FAILED_WITHIN.to_owned()]),
        };
        self.tell(&result);
        *done = Some(Done { upto, result: result.clone() });
        result
    }

    /// Puts the plan in force that the last reload put aside; again, and it is the one before that.
    ///
    /// # Errors
    /// Where there is none, or it cannot be used any more (a certificate of a listener).
    pub async fn restore(&self) -> Result<Reloaded, Vec<String>> {
        let _alone = self.one_at_a_time.lock().await;
        let last = self.kept.lock().back().cloned();
        // A step that is not there is no failed reload: nothing was wrong with any configuration.
        let Some((generation, plan)) = last else {
            return Err(vec![
                "no earlier generation is kept; a reload that changes something keeps one".to_owned(),
            ]);
        };
        let result = self.put_in_force(plan, Vec::new()).await.map(|reloaded| {
            self.kept.lock().pop_back();
            Reloaded { restored: Some(generation), ..reloaded }
        });
        self.tell(&result);
        result
    }

    /// Tells what of the plan in force waits for a restart.
    #[must_use]
    pub fn needs_restart(&self) -> Vec<String> {
        self.bound.changes(&self.house.live().plan)
    }

    /// Puts a plan in force that was read, and keeps the one before.
    async fn take_over(&self, loaded: Loaded) -> Result<Reloaded, Vec<String>> {
        let before = self.house.live();
        let reloaded = self.put_in_force(loaded.plan, loaded.warnings).await?;
        if !reloaded.changes.is_empty() {
            let mut kept = self.kept.lock();
            kept.push_back((before.generation, before.plan.clone()));
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
        Ok(reloaded)
    }

    async fn put_in_force(&self, plan: Plan, warnings: Vec<String>) -> Result<Reloaded, Vec<String>> {
        let needs_restart = self.bound.changes(&plan);
        self.bound.stays_closed(&plan).map_err(|fault| vec![fault])?;
        let prepare = Arc::clone(&self.prepare);
        let prepared = tokio::task::spawn_blocking(move || prepare(&plan).map(|finish| (plan, finish))).await;
        let (plan, finish) = match prepared {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(fault)) => return Err(vec![fault]),
            Err(_) => return Err(vec![FAILED_WITHIN.to_owned()]),
        };
        let changes = changes(&self.house.live().plan, &plan);
        let log = plan.log;
        let generation = self.house.swap(plan).map_err(|problem| vec![problem.to_string()])?;
        finish();
        self.house.log.set_policy(log);
        Ok(Reloaded { generation, warnings, needs_restart, changes, restored: None })
    }

    fn tell(&self, result: &Result<Reloaded, Vec<String>>) {
        let house = &self.house;
        let at = house.clock.wall();
        match result {
            Ok(reloaded) => {
                house.audit.reload(at, reloaded.generation, &[]);
                house.events.tell(
                    at,
                    Event::Reload {
                        generation: reloaded.generation,
                        warnings: reloaded.warnings.len(),
                        needs_restart: reloaded.needs_restart.clone(),
                        changes: told_briefly(&reloaded.changes),
                        restored: reloaded.restored,
                    },
                );
                tracing::info!(
                    generation = reloaded.generation,
                    changes = told_briefly(&reloaded.changes).join("; "),
                    "configuration reloaded"
                );
                // Lines of their own: who logs warnings only is to see these.
                for line in &reloaded.needs_restart {
                    tracing::warn!(generation = reloaded.generation, "not in force yet: {line}");
                }
                for line in &reloaded.warnings {
                    tracing::warn!(generation = reloaded.generation, "{line}");
                }
            }
            Err(faults) => {
                let generation = house.live().generation;
                house.metrics.reload_failed();
                house.audit.reload(at, generation, faults);
                house.events.tell(at, Event::reload_failed(generation, faults));
                tracing::error!(
                    generation,
                    faults = faults.join("; "),
                    "configuration not reloaded; the running one is unchanged"
                );
            }
        }
    }
}

impl Bound {
    /// Holds what `config` holds of the addresses of a file against those that are bound: without
    /// clients everyone may call, which then must be everyone on this machine (threat A1).
    ///
    /// # Errors
    /// Where other machines could call without a key until the restart that the new addresses need.
    fn stays_closed(&self, plan: &Plan) -> Result<(), String> {
        let open = self.listen.iter().find(|listen| !listen.address.ip().to_canonical().is_loopback());
        match open {
            Some(listen) if plan.clients.is_empty() => Err(format!(
                "clients: none are defined, while this process listens on {}, which other machines reach, until it is restarted: anyone could spend your keys; restart it, or keep the clients",
                listen.address
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn changes(&self, plan: &Plan) -> Vec<String> {
        let mut changes = Vec::new();
        let places = |listen: &[crate::config::plan::Listen]| {
            listen.iter().map(|l| (l.address, l.h2c, l.tls.is_some())).collect::<Vec<_>>()
        };
        if places(&self.listen) != places(&plan.listen) {
            changes.push("listen: restart needed".to_owned());
        }
        if self.threads != plan.threads {
            changes.push("threads: restart needed".to_owned());
        }
        if self.admin != plan.admin.address {
            changes.push("admin.address: restart needed".to_owned());
        }
        if self.state != plan.state {
            changes.push("state.path: restart needed".to_owned());
        }
        changes
    }
}

/// Changes that are named in the log and in the event; the answer to whoever asked names all.
const CHANGES_LOGGED: usize = 20;

fn told_briefly(changes: &[Change]) -> Vec<String> {
    let mut told: Vec<String> = changes.iter().take(CHANGES_LOGGED).map(ToString::to_string).collect();
    if changes.len() > CHANGES_LOGGED {
        told.push(format!("and {} more", changes.len() - CHANGES_LOGGED));
    }
    told
}

/// Compares two plans: what is written, and whether keys behind the same references are others now.
fn changes(old: &Plan, new: &Plan) -> Vec<Change> {
    let settings = |plan: &Plan| -> Settings { changes::by_name(&plan.settings) };
    let mut changes = changes::changes(&settings(old), &settings(new));
    let known: Vec<(String, &Credential)> = credentials(old).collect();
    for (path, credential) in credentials(new) {
        let Some((_, before)) = known.iter().find(|(other, _)| *other == path) else { continue };
        let is_told = changes.iter().any(|change| change.path.starts_with(&path));
        if before.key != credential.key && !is_told {
            let hidden = || Some(settings::HIDDEN.to_owned());
            changes.push(Change { path: format!("{path}.key"), was: hidden(), is: hidden() });
        }
    }
    changes
}

/// Lists the credentials of a plan by their paths.
fn credentials(plan: &Plan) -> impl Iterator<Item = (String, &Credential)> {
    plan.credentials.iter().map(|credential| {
        let provider = &plan.provider(credential.provider).name;
        (format!("providers.{provider}.credentials[{}]", credential.name), credential)
    })
}
