//! What do path, headers and body become for this target?
//!
//! A few ideas, a file each: [`body()`] puts the target's model in the place of the client's and
//! appends absent defaults, [`limited`] cuts it to what a model takes, [`without_thinking`] to what
//! one takes that refused to think, [`for_publisher`] moves what stands in a path out of it; [`Destination`] joins the call to the provider's base path and
//! [`query_without_keys`] takes keys out of the query; [`request_headers`] and
//! [`keeps_response_header`] say what passes the house in either direction.
//!
//! The rule of all: what is the client's own passes byte for byte, what proves the client to
//! us or us to a provider never passes (threats C1, P3).

mod body;
mod continuation;
mod headers;
mod limits;
mod path;
mod place;
mod publisher;
mod thoughtless;

pub use body::{ONE_PIECE_MAX, Rewritten, body, is_length_limit};
pub use continuation::with_continuation;
pub use headers::{crosses_dialects, keeps_response_header, request_headers};
pub use limits::limited;
pub use path::{Destination, forwarded_path, query_without_keys, templated_path};
pub use publisher::for_publisher;
pub use thoughtless::without_thinking;

/// Shortest key that is looked for. Where no clients are configured tools send `x` or `none`, which
/// lie in ordinary words: such a key would take away whatever holds them.
const LOOKED_FOR_FROM: usize = 8;

/// Tells whether one of the client's keys, long enough to be one, lies in these bytes.
fn holds_any(bytes: &[u8], keys: &[&[u8]]) -> bool {
    keys.iter().any(|key| key.len() >= LOOKED_FOR_FROM && memchr::memmem::find(bytes, key).is_some())
}
