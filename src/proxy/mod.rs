//! How do bytes move between client and provider?
//!
//! The only room that speaks Pingora's request API. `hooks` is the one `impl ProxyHttp`; only what is
//! passed through unread goes that way. A call is answered in one straight way, from its head to its
//! last byte:
//!
//! ```text
//! front     connections to requests, and which way each goes
//!   framing     heads that could be read in two ways
//!   pace        how slow a client may be
//! service   what is asked, by whom, for which route
//!   body        the request body, once, bounded
//!     gathered    a body that comes in pieces, in one piece
//!   wishes      what a client asks for in its headers
//!   origin      does a web page from elsewhere ask
//!   guess       what somebody is told who may not call
//!   refusal     what a client is told whose request goes nowhere
//!   pages       what this proxy says of itself
//!   hop         has it been here before
//!   conduct     the loop: ask `exchange`, perform, report
//!     trial       one attempt, from the order to what health is told of it
//!     race        two of them side by side
//!       carried     the request in a target's dialect, the answer in the client's
//!       outgoing    the request as the provider sees it
//!       attempt     one try: connect, send; behind it hold, judge, and stream (sent on)
//!         incoming    the body of an answer, unpacked where it is packed
//!         patience    how long to wait, and for whom
//!         telling     what the client was told of a stream, and what is kept back
//!     reply       answers of our own, and the head of every answer
//!       downstream  the bytes, to the client
//!       echo        not with our key in it
//!       fitted      the room of a head that is kept
//!   story       what is told about it afterwards: log line, metrics, headers
//!     spending    tokens and cost, into counters and the ledger
//!     decided     what is kept of it for `why`
//! explain   the same choice for a request that is not made
//! hooks     everything else goes Pingora's own way, hook by hook
//!   forward     to whom, and what came of it
//!     upload      its body, within bounds
//! ```
//!
//! Nothing here decides what a failure means or what follows from it; `classify`, `health` and
//! `exchange` do. Pingora's `Error` stops at this room's edge.

mod attempt;
mod body;
mod carried;
mod conduct;
mod decided;
mod defaults;
mod downstream;
pub mod echo;
mod explain;
mod fitted;
mod forward;
pub mod framing;
mod front;
mod gathered;
mod guess;
mod hooks;
mod hop;
mod incoming;
mod line;
mod origin;
mod outgoing;
mod pace;
mod pages;
mod patience;
mod race;
mod refusal;
mod reply;
mod service;
mod spending;
mod story;
mod telling;
mod trial;
mod upload;
mod wishes;

pub use explain::explain;
pub use front::Front;
pub use pace::Pace;
