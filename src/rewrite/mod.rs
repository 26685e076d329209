//! What do path, headers and body become for this target?
//!
//! Four ideas, a file each: [`body()`] puts the target's model in the place of the client's and
//! appends absent defaults, [`limited`] cuts it to what a model takes; [`upstream_path`] joins the call to the provider's base path and takes
//! keys out of the query; [`request_headers`] and [`keeps_response_header`] say what passes the
//! house in either direction.
//!
//! The rule of all: what is the client's own passes byte for byte, what proves the client to
//! us or us to a provider never passes (threats C1, P3).

mod body;
mod continuation;
mod headers;
mod limits;
mod path;

pub use body::{ONE_PIECE_MAX, Rewritten, body};
pub use continuation::with_continuation;
pub use headers::{keeps_response_header, request_headers};
pub use limits::limited;
pub use path::{forwarded_path, query_without_keys, templated_path, upstream_path};

/// Tells whether one of the client's keys lies in these bytes.
fn holds_any(bytes: &[u8], keys: &[&[u8]]) -> bool {
    keys.iter().any(|key| !key.is_empty() && memchr::memmem::find(bytes, key).is_some())
}
