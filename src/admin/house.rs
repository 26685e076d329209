//! What the admin plane asks of the program, so that it need not know how the program is built.

use super::view::{ActFault, TargetView, Verb};
use crate::base::secret::Secret;
use async_trait::async_trait;
use serde_json::Value;

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
