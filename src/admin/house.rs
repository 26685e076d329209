//! What the admin plane asks of the program, so that it need not know how the program is built.

use super::view::{ActFault, PinWish, TargetView, Verb};
use crate::base::secret::Secret;
use crate::base::time::WallTime;
use crate::observe::decisions::Decisions;
use crate::observe::decisions::question::{Question, Unexplained};
use crate::observe::events::{ListenFault, Listener, Told};
use async_trait::async_trait;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;

/// The running program as the admin plane sees it. Values are shown as they are: whoever builds
/// them leaves secrets out.
#[async_trait]
pub trait House: Send + Sync + 'static {
    /// Returns the metrics in Prometheus' text format, gauges brought up to date.
    fn metrics(&self) -> Vec<u8>;

    /// Tells whether requests should be sent here: the configuration is in force, the listeners
    /// are bound, nothing drains. Does not depend on providers.
    ///
    /// # Errors
    /// Why not.
    fn is_ready(&self) -> Result<(), String>;

    /// Returns the overall picture.
    fn status(&self) -> Value;

    /// Returns every target that is shown.
    fn targets(&self) -> Vec<TargetView>;

    /// Returns the routes and where each leads now.
    fn routes(&self) -> Value;

    /// Returns the configuration in force, redacted.
    fn config(&self) -> Value;

    /// Returns why the last requests went where they went.
    fn decisions(&self) -> &Decisions;

    /// Says where a request would go now; nothing moves by it.
    ///
    /// # Errors
    /// Where it would go nowhere because of what it says, or the question is not sound.
    fn explain(&self, question: &Question) -> Result<Value, Unexplained>;

    /// Returns what time it is.
    fn wall(&self) -> WallTime;

    /// Reads the configuration again and puts it in force; returns the generation and what changed.
    ///
    /// # Errors
    /// Every fault of the new configuration; nothing has changed then.
    async fn reload(&self) -> Result<Value, Vec<String>>;

    /// Goes back to the configuration before; returns the same.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    async fn restore(&self) -> Result<Value, Vec<String>>;

    /// Does what an operator wants of a target and returns it as it is then.
    ///
    /// # Errors
    /// [`ActFault`]
    fn act(&self, target: &str, verb: Verb) -> Result<TargetView, ActFault>;

    /// Puts a target first on routes that name it, and returns it as it is then.
    ///
    /// # Errors
    /// [`ActFault`]
    fn pin(&self, target: &str, wish: &PinWish) -> Result<TargetView, ActFault>;

    /// Returns the newest events, at most `count`, oldest first.
    fn events(&self, count: usize) -> Vec<Arc<Told>>;

    /// Lets one more listen to events, from the one behind `last_id` on or from now on.
    ///
    /// # Errors
    /// [`ListenFault`]
    fn listen(&self, last_id: Option<&str>) -> Result<Listener, ListenFault>;

    /// Notes for good what somebody did or tried.
    fn wrote(&self, deed: &Deed<'_>);

    /// Returns requests, tokens and cost, added up as the query says.
    ///
    /// # Errors
    /// What of the query cannot be read.
    fn usage(&self, query: Option<&str>) -> Result<Value, String>;

    /// Takes reports of usage that did not pass through here.
    ///
    /// # Errors
    /// Every fault; none of them was taken then.
    fn report_usage(&self, body: &[u8]) -> Result<Value, Vec<String>>;

    /// Returns the credentials: how they stand and what they were used for today.
    fn accounts(&self) -> Value;

    /// Returns the token that writing wants; without one nothing can be written.
    fn token(&self) -> Option<Secret>;

    /// Tells whether reading wants the token as well: where other machines can reach the listener.
    fn needs_token_to_read(&self) -> bool;
}

/// What somebody did, or tried.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// Whether the admin token was shown.
    pub has_token: bool,
    /// Where the call came from, where that is known.
    pub from: Option<SocketAddr>,
    /// `reload`, or a target's verb.
    pub verb: &'static str,
    /// Of which target, or `provider/model`.
    pub target: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
}
