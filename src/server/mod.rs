//! How does the process live?
//!
//! ```text
//! main thread   the keeper: signals, reloads, fresh addresses, the end
//! server thread Pingora's own loop
//! data          one runtime, `threads` workers: the proxy
//! admin         one runtime, one worker
//! ```
//!
//! Sockets are found or bound ([`sockets`]) before anything else, so that a port in use is an exit
//! code and not a panic in a runtime; Pingora finds them in its table of inherited descriptors.
//! `READY=1` is said when the listeners have answered a request, not when they were asked to listen.
//!
//! TERM: not ready any more, the data listeners close, answers ask for the connection to be closed,
//! and the process leaves as soon as nothing is under way, at the latest after `grace`. Pingora
//! would sleep the whole grace period even when idle, so the keeper leaves without it.
//!
//! USR2: a new process takes the place ([`relief`]). From then on this one ends as after TERM, but
//! closes its admin listener as well, since the new one answers there, and takes its time with
//! connections that are open and ask for nothing: at most `grace`, for nobody waits for its end.

mod certificate;
mod gate;
mod held_up;
mod keeper;
mod leaving;
mod opening;
mod planes;
pub mod process;
mod pulse;
pub mod relief;
pub mod sockets;
mod visitors;

use crate::clock::Clock;
use crate::config::plan::Plan;
use crate::live::{House, LiveProblem};
use crate::observe::log::Log;
use crate::observe::metrics::Metrics;
use crate::observe::usage::store::{Opened, StoreFault};
use crate::reload::Reloader;
pub use keeper::{Keeper, notify};
use planes::Plane;
pub use planes::start;
use pulse::Pulse;
pub use sockets::{Inherited, Sockets};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::watch;

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// An address is in use or not ours.
    #[error("{key}: cannot listen on {address}: {reason}; {}", sockets::remedy(*address, reason))]
    Bind {
        /// The key of the configuration that says so.
        key: String,
        /// Which.
        address: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// A socket that was passed to this process cannot be used.
    #[error("{0}")]
    Inherited(String),
    /// A certificate of a listener cannot be used.
    #[error("listen: {0}")]
    Certificate(String),
    /// A key or a certificate of a provider cannot be used.
    #[error(transparent)]
    Plan(#[from] LiveProblem),
    /// The file of the state cannot be used.
    #[error("state.path: {0}")]
    State(#[from] StoreFault),
    /// The system gave no thread or runtime.
    #[error("cannot start: {0}")]
    System(io::Error),
}

/// A started process.
pub struct Running {
    house: Arc<House>,
    reloader: Arc<Reloader>,
    stop: watch::Sender<bool>,
    /// Ends the admin listener, which outlives the others.
    admin_stop: Arc<watch::Sender<bool>>,
    planes: Vec<Plane>,
    /// Connections of the data plane.
    gate: gate::Count,
    pulse: Pulse,
    /// All listening sockets once more, for a successor; dropped where nobody is to take the place.
    spare: Vec<TcpListener>,
    /// Whether the file of the state is ours, or there is none.
    has_state: Arc<AtomicBool>,
    /// Where the data plane listens.
    pub data: Vec<SocketAddr>,
    /// Where the admin plane listens.
    pub admin: Option<SocketAddr>,
}

/// Opens a house with counters of its own, and the file of its state where there is one.
///
/// # Errors
/// Where a key or a certificate of the plan, or the file, cannot be used.
pub fn open(plan: Plan, clock: Clock, log: Log) -> Result<Arc<House>, StartFault> {
    let state = match plan.state.as_deref().map(Opened::open).transpose() {
        Err(fault @ StoreFault::Full(_)) => {
            tracing::error!(%fault, "usage is kept in memory until the next start");
            None
        }
        opened => opened?,
    };
    let house = open_without_state(plan, clock, log)?;
    if let Some(state) = state {
        state.keep(&house.usage).map_err(StartFault::System)?;
    }
    Ok(house)
}

/// Opens a house while another process still has the file of the state; [`Running::succeeds`] takes
/// it over.
///
/// # Errors
/// Where a key or a certificate of the plan cannot be used.
pub fn open_without_state(plan: Plan, clock: Clock, log: Log) -> Result<Arc<House>, StartFault> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), log.dropped())
        .map_err(|fault| StartFault::System(io::Error::other(fault)))?;
    Ok(House::open(plan, clock, metrics, log)?)
}
