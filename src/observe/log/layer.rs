//! What do the events of `tracing` become in the log?
//!
//! Ours are lines like all others. What other crates say is held one step above our level, and has the
//! keys taken out that it quotes.

use super::{LogLayer, level_of};
use crate::config::plan::Level;
use crate::observe::lines::{Line, VALUE_BYTES_MAX};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::layer::{Context, Layer};

/// First segment of the tracing targets whose events may go below `info`.
const OUR_CRATE: &str = "pointsman";

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && self.log.shared.takes_event(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let all = [Level::Trace, Level::Debug, Level::Info, Level::Warn];
        Some(match all.into_iter().find(|level| self.log.shared.takes(*level)) {
            Some(Level::Trace) => LevelFilter::TRACE,
            Some(Level::Debug) => LevelFilter::DEBUG,
            Some(Level::Info) => LevelFilter::INFO,
            Some(Level::Warn) => LevelFilter::WARN,
            Some(Level::Error) | None => LevelFilter::ERROR,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What comes through `log` carries its real origin in fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let shared = &self.log.shared;
        if !shared.takes_event(metadata) {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let is_foreign = !is_ours(metadata.target());
        let message = if is_foreign { without_keys(&message.0.0) } else { message.0.0 };
        let mut line = shared.line((shared.wall)(), level_of(*metadata.level()), &message);
        line.text("module", Some(metadata.target()));
        event.record(&mut Fields { line: &mut line, is_foreign });
        self.log.put(line);
    }
}

/// Finds the message among the fields of an event.
#[derive(Default)]
struct Message(Bounded);

/// Writes the other fields of an event.
struct Fields<'a> {
    line: &'a mut Line,
    is_foreign: bool,
}

/// Text that stops growing a little beyond what a line takes, whatever is printed into it.
#[derive(Default)]
struct Bounded(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = fmt::write(&mut self.0, format_args!("{value:?}"));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_told(field) {
            let clean = self.is_foreign.then(|| without_keys(value));
            self.line.text(field.name(), Some(clean.as_deref().unwrap_or(value)));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if is_told(field) {
            self.line.number(field.name(), Some(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if is_told(field) {
            self.line.signed(field.name(), value);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if is_told(field) {
            self.line.float(field.name(), value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if is_told(field) {
            self.line.flag(field.name(), value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded::default();
        let _ = fmt::write(&mut text, format_args!("{value:?}"));
        self.record_str(field, &text.0);
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.0.len() <= VALUE_BYTES_MAX {
            self.0.push_str(more);
        }
        Ok(())
    }
}

/// The message stands in front already; `log.*` is where tracing-log keeps the origin.
fn is_told(field: &Field) -> bool {
    field.name() != "message" && !field.name().starts_with("log.")
}

pub(super) fn is_ours(target: &str) -> bool {
    target.split("::").next() == Some(OUR_CRATE)
}

/// Takes the values of `key=` and `token=` (and names that end so) out of text that others wrote:
/// Pingora quotes a request's path with its query in some of its errors (threat C13).
pub(super) fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) =
        ["key=", "token="].iter().filter_map(|name| Some(rest.find(name)? + name.len())).min()
    {
        let (before, value) = rest.split_at(at);
        let end = value
            .find(|c: char| c == '&' || c == '"' || c == '\'' || c.is_whitespace())
            .unwrap_or(value.len());
        out.push_str(before);
        out.push_str("redacted");
        rest = value.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}
