//! `pointsman run`: plan or its faults, sockets, log, and then the server's life.

use super::{Exit, complain, file_or_usual, say};
use crate::base::units::parse_duration;
use crate::clock::Clock;
use crate::demo;
use crate::observe::log::Log;
use crate::observe::usage::store::StoreFault;
use crate::reload::{Loaded, Origin, load};
use crate::server::relief::{Launcher, Predecessor};
use crate::server::{self, Inherited, Keeper, Sockets, StartFault};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long the last log lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How long the last of the state may take to be written.
const LAST_STATE: Duration = Duration::from_secs(2);

/// What was there before the configuration was read.
struct Birth {
    launcher: Launcher,
    predecessor: Option<Predecessor>,
    inherited: Inherited,
}

impl Birth {
    /// Takes over what was passed to this process. To be called while there is one thread only.
    fn take() -> Result<Birth, StartFault> {
        let launcher = Launcher::new().map_err(StartFault::System)?;
        let (predecessor, inherited) = match Predecessor::find()? {
            Some((predecessor, sockets)) => (Some(predecessor), Inherited::from_predecessor(sockets)?),
            None => (None, Inherited::from_manager()?),
        };
        Ok(Birth { launcher, predecessor, inherited })
    }
}

pub(super) fn run(keeper: Keeper, config: Option<PathBuf>) -> Exit {
    let birth = match Birth::take() {
        Ok(birth) => birth,
        Err(fault) => return exit_of(&fault),
    };
    let origin = file_or_usual(config).map_or(Origin::Environment, Origin::File);
    let loaded = match load(&origin) {
        Ok(loaded) => loaded,
        Err(fault) => {
            for line in fault.lines() {
                complain(&line);
            }
            return Exit::of_load(&fault);
        }
    };
    match serve(keeper, birth, loaded, origin) {
        Ok(()) => Exit::Done,
        Err(fault) => exit_of(&fault),
    }
}

/// Says why it does not start, and by which code.
fn exit_of(fault: &StartFault) -> Exit {
    complain(&fault.to_string());
    match fault {
        StartFault::Bind { reason, .. } if reason.kind() == std::io::ErrorKind::PermissionDenied => {
            Exit::Permission
        }
        StartFault::Bind { .. } | StartFault::System(_) => Exit::System,
        StartFault::State(StoreFault::Forbidden(_)) => Exit::Permission,
        StartFault::Inherited(_)
        | StartFault::Certificate(_)
        | StartFault::Plan(_)
        | StartFault::State(_) => Exit::Configuration,
    }
}

fn serve(keeper: Keeper, birth: Birth, loaded: Loaded, origin: Origin) -> Result<(), StartFault> {
    server::process::settle();
    let Birth { launcher, predecessor, inherited } = birth;
    let Loaded { plan, warnings, found } = loaded;
    let sockets = Sockets::take(&plan, inherited)?;
    if let Some(address) = sockets.data_addresses().first().filter(|_| !found.is_empty()) {
        greet(&found, *address, sockets.admin_address());
    }
    let clock = Clock::new();
    let log = Log::start(plan.log, Arc::new(move || clock.wall())).map_err(StartFault::System)?;
    // Only the first log of a process can be installed, and this is the first.
    let _ = log.install();
    for warning in warnings.iter().chain(&sockets.warnings) {
        tracing::warn!("{warning}");
    }
    let open = if predecessor.is_some() { server::open_without_state } else { server::open };
    let house = open(plan, clock, log.clone())?;
    let ends = keeper.ends().map_err(StartFault::System)?;
    let running = server::start(Arc::clone(&house), origin, sockets)?;
    running.wait_until_ready().map_err(StartFault::System)?;
    tracing::info!(
        data = running.data.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        admin = running.admin.map(|address| address.to_string()).unwrap_or_default(),
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        "ready"
    );
    if let Some(mut predecessor) = predecessor {
        // The service manager listens to this process from when that one has let go.
        predecessor.relieve();
        tracing::info!(predecessor = predecessor.pid, "took over");
        running.succeeds(predecessor).map_err(StartFault::System)?;
    }
    server::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("generation 1")]);
    // Held until nothing of ours is to be written any more.
    let _departure = running.keep(keeper, ends, &launcher);
    if !house.usage.flush(LAST_STATE) {
        tracing::warn!("the last of the state could not be written");
    }
    let _ = house.audit.flush(LAST_LINES);
    let _ = log.flush(LAST_LINES);
    Ok(())
}

/// Says what zero configuration came to, and how to use it.
fn greet(found: &[String], data: SocketAddr, admin: Option<SocketAddr>) {
    say(concat!("pointsman ", env!("CARGO_PKG_VERSION"), "  no configuration file, using the environment"));
    for line in found {
        say(line);
    }
    let admin =
        admin.map(|address| format!("   admin http://{address}   metrics /metrics")).unwrap_or_default();
    say(&format!("  data  http://{data}{admin}"));
    say(&format!("  try:  export OPENAI_BASE_URL=http://{data}/v1"));
    say(&format!("        export ANTHROPIC_BASE_URL=http://{data}"));
}

pub(super) fn demo(keeper: &Keeper, duration: Option<&str>) -> Exit {
    let duration = match duration.map(parse_duration).transpose() {
        Ok(duration) => duration,
        Err(why) => {
            complain(&format!("--for {why}"));
            return Exit::Usage;
        }
    };
    match demo::demo(keeper, duration) {
        Ok(0) => Exit::Done,
        Ok(failed) => {
            complain(&format!("{failed} client request{} failed", if failed == 1 { "" } else { "s" }));
            Exit::Warned
        }
        Err(fault) => {
            complain(&fault);
            Exit::System
        }
    }
}
