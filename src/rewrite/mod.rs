//! What do path, headers and body become for this target?
//!
//! Three ideas, a file each: [`body()`] puts the target's model in the place of the client's and
//! appends absent defaults; [`upstream_path`] joins the call to the provider's base path and takes
//! keys out of the query; [`request_headers`] and [`keeps_response_header`] say what passes the
//! house in either direction.
//!
//! The rule of all three: what is the client's own passes byte for byte, what proves the client to
//! us or us to a provider never passes (threats C1, P3).

mod body;
mod continuation;
mod headers;
mod path;

pub use body::{ONE_PIECE_MAX, Rewritten, body};
pub use continuation::with_continuation;
pub use headers::{keeps_response_header, request_headers};
pub use path::{forwarded_path, query_without_keys, upstream_path};
