//! How is what happened told?
//!
//! The core returns facts; the rooms here turn them into what people and machines read, and decide
//! nothing:
//!
//! | room | tells |
//! |---|---|
//! | [`metrics`], [`meter`] | counters, gauges and histograms, one registry per instance |
//! | [`log`], [`lines`] | one line a request, one a change of state, and tracing's events |
//! | [`events`] | what has just happened, to pages and terminals that listen |
//! | [`audit`] | every decision and every change, in a file of its own |
//! | [`trail`] | the way of a request in a response header |
//! | [`usage`] | requests, tokens and cost by day, route, target, client and device |
//! | [`decisions`] | why a request went where it went, for the last ten thousand |
//! | [`fault_text`] | our own errors in each caller's dialect |
//!
//! Three readers, three texts: a client gets a fixed sentence and a request id, the operator the
//! log, the dashboard a closed enum. No prompt, completion or key enters any of them, and no
//! string of a client becomes a label.

pub mod audit;
pub mod decisions;
pub mod events;
pub mod fault_text;
pub mod lines;
pub mod log;
pub mod meter;
pub mod metrics;
pub mod refused;
mod stamp;
pub mod trail;
pub mod usage;

pub use stamp::rfc3339;
