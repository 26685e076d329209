//! How does the next plan take over?
//!
//! Read, check, resolve secrets, build, swap: the same road at start, on SIGHUP, on
//! `POST /v1/reload` and in `pointsman check`. Anything wrong keeps the plan in force, logs one
//! block with every fault, and counts. Nothing is applied by half: the swap is one pointer.
//!
//! What changed is told key by key ([`Reloaded::changes`]). The last [`KEPT`] plans that a reload put
//! aside are kept in memory, secrets and all, so that [`Reloader::restore`] can go back a step without
//! a file, a variable or a command that may be the very trouble. The file is not touched by that: the
//! next reload reads it. Keys in files, too, are those that the plan was read with, until their files change
//! once more or a provider refuses them.
//!
//! What came of each reload goes to the log, the audit log and the events, and to whoever else is to hear
//! of it ([`Heard`]), whichever way the reload was asked for.
//!
//! Listening addresses, worker threads and the file of the state are bound when the process starts; a
//! change of theirs is taken into the plan, and said to need a restart.
//!
//! Reading may take time (a `command:` secret up to ten seconds), so it happens on a thread of its
//! own. Reloads that are asked for meanwhile wait for one more, together: it begins after the last of
//! them was asked for, so it sees what each of them is about.

mod load;

pub use load::{LoadFault, Loaded, Origin, Texts, discover, load};

use crate::config::changes::{self, Change, Settings};
use crate::config::plan::{Credential, Plan};
use crate::config::settings;
use crate::live::House;
use crate::observe::events::Event;
use crate::secrets::stamp;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Plans that were in force before and can be gone back to.
pub const KEPT: usize = 5;

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

/// Reads what else a plan needs, and may still refuse it; on a thread that may wait.
pub type Prepare = Arc<dyn Fn(&Plan) -> Result<Prepared, String> + Send + Sync>;
/// Is told what came of a reload.
pub type Heard = Arc<dyn Fn(&Result<Reloaded, Vec<String>>) + Send + Sync>;

/// What was read along with a plan.
pub struct Prepared {
    /// The keys of the configuration behind which something else was found than is in force.
    pub changed: Vec<String>,
    /// Puts it in force; called when the plan is.
    pub finish: Box<dyn FnOnce() + Send>,
}

/// What is said where a thread that reads has panicked.
const FAILED_WITHIN: &str = "reading the configuration failed within; it stays as it was";

/// Where the keys of a plan come from.
#[derive(Clone, Copy)]
enum Keys {
    /// They were read just now.
    Read,
    /// They were in force before; their files hold what was gone back from.
    Kept,
}

/// Carries reloads out, one at a time.
pub struct Reloader {
    house: Arc<House>,
    origin: Origin,
    bound: Bound,
    /// How many reloads were asked for.
    asked: AtomicU64,
    one_at_a_time: tokio::sync::Mutex<Option<Done>>,
    prepare: Prepare,
    heard: Heard,
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
    /// its listeners). `heard` is told what came of each reload.
    #[must_use]
    pub fn new(house: Arc<House>, origin: Origin, prepare: Prepare, heard: Heard) -> Arc<Self> {
        let live = house.live();
        let bound = Bound {
            threads: live.plan.threads,
            listen: live.plan.listen.clone(),
            admin: live.plan.admin.address,
            state: live.plan.state.clone(),
        };
        let one_at_a_time = tokio::sync::Mutex::new(None);
        let (asked, kept) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Reloader { house, origin, bound, asked, one_at_a_time, prepare, heard, kept })
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
        let result = self.put_in_force(plan, Vec::new(), Keys::Kept).await.map(|reloaded| {
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
        let reloaded = self.put_in_force(loaded.plan, loaded.warnings, Keys::Read).await?;
        if !reloaded.changes.is_empty() {
            let mut kept = self.kept.lock();
            kept.push_back((before.generation, before.plan.clone()));
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
        Ok(reloaded)
    }

    async fn put_in_force(
        &self,
        plan: Plan,
        warnings: Vec<String>,
        keys: Keys,
    ) -> Result<Reloaded, Vec<String>> {
        let needs_restart = self.bound.changes(&plan);
        self.bound.stays_closed(&plan).map_err(|fault| vec![fault])?;
        let prepare = Arc::clone(&self.prepare);
        let reading = move || {
            let prepared = prepare(&plan)?;
            let left = match keys {
                Keys::Read => Vec::new(),
                Keys::Kept => plan.credentials.iter().map(|c| c.file.as_ref().and_then(stamp)).collect(),
            };
            Ok((plan, prepared, left))
        };
        let (plan, Prepared { changed, finish }, left) = match tokio::task::spawn_blocking(reading).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(fault)) => return Err(vec![fault]),
            Err(_) => return Err(vec![FAILED_WITHIN.to_owned()]),
        };
        let changes = changes(&self.house.live().plan, &plan, changed);
        let log = plan.log;
        let generation = self.house.restore(plan, &left).map_err(|problem| vec![problem.to_string()])?;
        finish();
        self.house.log.set_policy(log);
        Ok(Reloaded { generation, warnings, needs_restart, changes, restored: None })
    }

    fn tell(&self, result: &Result<Reloaded, Vec<String>>) {
        (self.heard)(result);
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

/// Compares two plans: what is written, and what stands behind the same references. `behind` are the keys
/// of files that are in no plan and hold something else now.
fn changes(old: &Plan, new: &Plan, behind: Vec<String>) -> Vec<Change> {
    let settings = |plan: &Plan| -> Settings { changes::by_name(&plan.settings) };
    let mut changes = changes::changes(&settings(old), &settings(new));
    for path in secrets_changed(old, new).into_iter().chain(behind) {
        // Where another reference is told, or the whole thing came or went, that says it.
        let is_told = |change: &Change| {
            change.path.starts_with(&path)
                || path.strip_prefix(&change.path).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        if !changes.iter().any(is_told) {
            let hidden = || Some(settings::HIDDEN.to_owned());
            changes.push(Change { path, was: hidden(), is: hidden() });
        }
    }
    changes
}

/// Names the secrets that are others in one plan than in the other, by the keys that place them.
fn secrets_changed(old: &Plan, new: &Plan) -> Vec<String> {
    let mut changed = Vec::new();
    if old.admin.token != new.admin.token {
        changed.push("admin.token".to_owned());
    }
    for client in &new.clients {
        let mut before = old.clients.iter().filter(|before| before.name == client.name);
        if before.any(|before| before.key_digest != client.key_digest) {
            changed.push(format!("clients[{}].key", client.name));
        }
    }
    let known: Vec<(String, &Credential)> = credentials(old).collect();
    for (path, credential) in credentials(new) {
        let Some((_, before)) = known.iter().find(|(other, _)| *other == path) else { continue };
        if before.key != credential.key {
            changed.push(format!("{path}.key"));
        }
        if let Some(login) = credential.login.as_ref().filter(|login| before.login.as_ref() != Some(*login)) {
            changed.push(format!("{path}.{}", login.as_label()));
        }
    }
    changed
}

/// Lists the credentials of a plan by their paths.
fn credentials(plan: &Plan) -> impl Iterator<Item = (String, &Credential)> {
    plan.credentials.iter().map(|credential| {
        let provider = &plan.provider(credential.provider).name;
        (format!("providers.{provider}.credentials[{}]", credential.name), credential)
    })
}
