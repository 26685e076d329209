//! What does the process do when it is told something?
//!
//! One thread waits for signals, for a successor and for what is due by itself (fresh addresses, files
//! of keys, changes of state that only time brings about), and tells the service manager what came of it.
//!
//! Nothing that it began is waited for at the end: a reload that reads, a look-up that hangs. They go with
//! the process, the commands that a reload started are ended.

use super::relief::{Departure, Launcher, Successor};
use super::{Running, pulse};
use crate::reload::Reloaded;
use crate::secrets;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often it is looked whether files of keys hold others.
const KEYS_LOOK: Duration = Duration::from_secs(1);

/// What the keeper keeps: a runtime of its own, with SIGHUP taken over.
pub struct Keeper {
    runtime: tokio::runtime::Runtime,
    hangup: Signal,
    /// USR1: the audit log was rotated.
    rotated: Signal,
    /// USR2: a new process is to take the place.
    relieved: Signal,
}

impl Keeper {
    /// Takes SIGHUP, SIGUSR1 and SIGUSR2 over. The first thing in `main`: unhandled they kill the process.
    ///
    /// # Errors
    /// Where the system gives no runtime or signal handler.
    pub fn new() -> io::Result<Keeper> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hangup = runtime.block_on(async { signal(SignalKind::hangup()) })?;
        let rotated = runtime.block_on(async { signal(SignalKind::user_defined1()) })?;
        let relieved = runtime.block_on(async { signal(SignalKind::user_defined2()) })?;
        Ok(Keeper { runtime, hangup, rotated, relieved })
    }

    /// Takes TERM and INT over: from here on they are answered by leaving in order and not by the system.
    /// To be called before anything listens, since whoever has an answer may send them.
    ///
    /// # Errors
    /// Where the system gives no signal handler.
    pub fn ends(&self) -> io::Result<Ends> {
        self.runtime.block_on(async {
            let terminate = signal(SignalKind::terminate())?;
            Ok(Ends { terminate, interrupt: signal(SignalKind::interrupt())? })
        })
    }

    /// Runs some work on the keeper's thread, for a process that keeps itself (the demo).
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// Waits on the keeper's thread. A timer that is made outside of its runtime has nobody to ring.
    pub fn pause(&self, span: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(span).await });
    }
}

impl Running {
    /// Keeps the process until it is told to leave; returns when `main` may return, and what it is to
    /// drop last.
    pub fn keep(self, keeper: Keeper, ends: Ends, launcher: &Launcher) -> Option<Departure> {
        let Keeper { runtime, hangup, rotated, relieved } = keeper;
        let departure = runtime.block_on(self.watch(Signals { hangup, rotated, relieved }, ends, launcher));
        // Dropped, it would wait for threads that read: for the commands of a reload, ten seconds each.
        runtime.shutdown_background();
        secrets::end_commands();
        departure
    }

    async fn watch(mut self, signals: Signals, ends: Ends, launcher: &Launcher) -> Option<Departure> {
        let Signals { mut hangup, mut rotated, mut relieved } = signals;
        let Ends { mut terminate, mut interrupt } = ends;
        let teller = pulse::interval().and_then(|interval| pulse::tell(&self.pulse, interval).ok());
        let mut fresh_addresses = tokio::time::interval(crate::resolve::REFRESH);
        let mut fresh_keys = tokio::time::interval(KEYS_LOOK);
        fresh_keys.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut relief: Option<Relief> = None;
        let successor = loop {
            tokio::select! {
                _ = hangup.recv() => self.spawn_reload(),
                _ = rotated.recv() => self.house.audit.reopen(),
                _ = relieved.recv() => relief = self.call_relief(relief, launcher),
                came = arrival(&mut relief) => {
                    relief = None;
                    match came {
                        Ok(successor) => break Some(successor),
                        Err(why) => unrelieved(&why),
                    }
                }
                _ = fresh_addresses.tick() => {
                    let house = Arc::clone(&self.house);
                    // This runtime lasts as long as the process; those that serve may not.
                    house.tend_tokens();
                    house.memory.tend();
                    tokio::spawn(async move { house.refresh_addresses().await });
                }
                _ = fresh_keys.tick() => self.house.tend_keys(),
                () = self.house.state_due() => self.house.tell_states(),
                _ = interrupt.recv() => {
                    notify(&[sd_notify::NotifyState::Stopping]);
                    self.house.drain();
                    let _ = self.stop.send(true);
                    self.part().await;
                    return None;
                }
                _ = terminate.recv() => break None,
            }
        };
        // A new process that is not ready yet is ended with its task.
        drop(relief);
        self.spare.clear();
        let departure = successor.map(|successor| {
            notify(&[sd_notify::NotifyState::MainPid(successor.pid), sd_notify::NotifyState::Ready]);
            // From here on the service manager listens to the new process only.
            drop(teller);
            tracing::info!(successor = successor.pid, under_way = self.house.under_way(), "relieved");
            successor.yields()
        });
        if departure.is_none() {
            notify(&[sd_notify::NotifyState::Stopping]);
            tracing::info!(under_way = self.house.under_way(), "draining");
        }
        let is_relieved = departure.is_some();
        let leave = async { if is_relieved { self.drain_relieved().await } else { self.drain().await } };
        tokio::pin!(leave);
        loop {
            tokio::select! {
                () = &mut leave => break,
                _ = interrupt.recv() => {
                    self.part().await;
                    break;
                }
                _ = rotated.recv() => self.house.audit.reopen(),
                _ = hangup.recv() => {
                    tracing::warn!("a process that drains reloads nothing; the next start reads the configuration");
                }
            }
        }
        departure
    }

    /// Starts a new process to take the place, where none is on its way.
    fn call_relief(&self, running: Option<Relief>, launcher: &Launcher) -> Option<Relief> {
        if running.is_some() {
            tracing::warn!("a new process is on its way already");
            return running;
        }
        match launcher.launch(&self.spare) {
            Ok(successor) => {
                tracing::info!(successor = successor.pid, "a new process is to take over");
                Some(Relief(tokio::spawn(successor.until_ready())))
            }
            Err(why) => {
                unrelieved(&why);
                None
            }
        }
    }

    fn spawn_reload(&self) {
        let reloader = Arc::clone(&self.reloader);
        tokio::spawn(async move {
            let reloading = sd_notify::NotifyState::monotonic_usec_now().ok();
            let states: Vec<_> =
                [Some(sd_notify::NotifyState::Reloading), reloading].into_iter().flatten().collect();
            notify(&states);
            // What came of it is told by the reloader.
            let _ = reloader.reload().await;
            notify(&[sd_notify::NotifyState::Ready]);
        });
    }
}

/// Tells the service manager what came of a reload.
pub(super) fn tell_reload(result: &Result<Reloaded, Vec<String>>) {
    let status = match result {
        Ok(reloaded) => {
            let restored =
                reloaded.restored.map(|from| format!(", that of {from} again")).unwrap_or_default();
            let mut told = vec![format!("generation {}{restored}", reloaded.generation)];
            told.extend(reloaded.needs_restart.iter().cloned());
            told.join("; ")
        }
        Err(faults) => {
            format!("configuration error, running unchanged: {}", faults.first().map_or("", |fault| fault))
        }
    };
    notify(&[sd_notify::NotifyState::Status(&status)]);
}

/// The signals that end a process.
pub struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

/// The signals of a running process that its start has taken over.
struct Signals {
    hangup: Signal,
    rotated: Signal,
    relieved: Signal,
}

/// A new process on its way; ended where this is dropped before it is ready.
struct Relief(tokio::task::JoinHandle<Result<Successor, String>>);

impl Drop for Relief {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for what becomes of a new process; for ever where there is none.
async fn arrival(relief: &mut Option<Relief>) -> Result<Successor, String> {
    match relief {
        Some(relief) => (&mut relief.0).await.unwrap_or_else(|_| Err("waiting for it failed".to_owned())),
        None => std::future::pending().await,
    }
}

/// Says that no new process takes the place.
fn unrelieved(why: &str) {
    tracing::error!(reason = why, "the new process does not take over; this one serves on");
    notify(&[sd_notify::NotifyState::Status(&format!("upgrade failed, serving on: {why}"))]);
}

/// Tells systemd, where there is one.
pub fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell, and nothing to do about it.
    let _ = sd_notify::notify(states);
}
