//! One line of the audit log: `ts`, `kind`, and what belongs to the kind.
//!
//! Fields are always all there, `null` where nothing is known, so that a recipe for `jq` needs no
//! cases. Values are written by the log's own writer: nothing in them can begin a line or a field.

use super::super::lines::Line as Fields;
use crate::base::time::WallTime;
use std::net::SocketAddr;

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// When it ended.
    pub at: WallTime,
    /// Its id, ours or the client's.
    pub id: &'a str,
    /// The route, where one was found.
    pub route: Option<&'a str>,
    /// The client, where clients are configured and it was known.
    pub client: Option<&'a str>,
    /// The target that answered, or the last one tried.
    pub target: Option<&'a str>,
    /// How the last attempt ended; nothing where there was none.
    pub outcome: Option<&'static str>,
    /// The way it went, see [`crate::observe::trail`].
    pub trail: &'a str,
    /// Contacts with providers.
    pub attempts: u32,
    /// Status sent downstream; 499 where the client left before it.
    pub status: u16,
    /// From the end of its body to its end, in milliseconds.
    pub dur_ms: u64,
    /// Generation of the plan it ran under.
    pub generation: u64,
}

/// What somebody did, or tried, at the admin plane.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// When.
    pub at: WallTime,
    /// Whether the admin token was shown.
    pub has_token: bool,
    /// Where the call came from, where that is known.
    pub from: Option<SocketAddr>,
    /// What was wanted: `reload`, a target's verb.
    pub verb: &'a str,
    /// Of which target, or `provider/model`.
    pub target: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
}

/// A line that is being written.
pub(super) struct Line(Fields);

impl Line {
    pub(super) fn begin(at: WallTime, kind: &'static str) -> Line {
        Line(Fields::record(at, kind))
    }

    pub(super) fn finish(self) -> String {
        self.0.finish()
    }
}

impl Decision<'_> {
    pub(super) fn line(&self) -> String {
        let Line(mut line) = Line::begin(self.at, "request");
        line.text("id", Some(self.id));
        line.text("route", self.route);
        line.text("client", self.client);
        line.text("target", self.target);
        line.text("outcome", self.outcome);
        line.text("trail", Some(self.trail));
        line.number("attempts", Some(u64::from(self.attempts)));
        line.number("status", Some(u64::from(self.status)));
        line.number("dur_ms", Some(self.dur_ms));
        line.number("generation", Some(self.generation));
        line.finish()
    }
}

impl Deed<'_> {
    pub(super) fn line(&self) -> String {
        let Line(mut line) = Line::begin(self.at, "admin");
        line.text("who", Some(if self.has_token { "token" } else { "nobody" }));
        let from = self.from.map(|from| from.to_string());
        line.text("from", from.as_deref());
        line.text("what", Some(self.verb));
        line.text("target", self.target);
        line.text("result", Some(result(self.status)));
        line.number("status", Some(u64::from(self.status)));
        line.finish()
    }
}

/// Says in one word what a status means to whoever asked.
fn result(status: u16) -> &'static str {
    match status {
        200..=299 => "ok",
        401 | 403 => "denied",
        _ => "refused",
    }
}

/// Writes a reload; the faults are in the log, here is how many.
pub(super) fn reload(at: WallTime, generation: u64, faults: &[String]) -> String {
    let Line(mut line) = Line::begin(at, "reload");
    line.text("result", Some(if faults.is_empty() { "ok" } else { "refused" }));
    line.number("generation", Some(generation));
    line.number("faults", Some(faults.len() as u64));
    line.finish()
}

/// Says how many lines are missing.
pub(super) fn dropped(at: WallTime, lines: u64) -> String {
    let Line(mut line) = Line::begin(at, "dropped");
    line.number("lines", Some(lines));
    line.finish()
}
