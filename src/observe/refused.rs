//! Who was turned away at the edge, and why?
//!
//! What is refused before it is looked at makes no line and belongs to no route, or anybody could fill
//! the log; it is counted by the reasons of this list, which has an end.

/// Why somebody who came was turned away before a request of theirs was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedAt {
    /// There were too many connections, in all or from that address.
    Gate,
    /// No TLS came about, or not in time.
    Handshake,
    /// No key was shown.
    NoKey,
    /// A key was shown that nobody has.
    WrongKey,
    /// The same, and too many of them from that address.
    Guessing,
    /// A web page of another site asked where no clients are configured.
    WebPage,
    /// The client has had all that `clients[].limits` lets it have for now.
    Limits,
}

impl RefusedAt {
    /// All of them.
    pub const ALL: [RefusedAt; 7] = [
        RefusedAt::Gate,
        RefusedAt::Handshake,
        RefusedAt::NoKey,
        RefusedAt::WrongKey,
        RefusedAt::Guessing,
        RefusedAt::WebPage,
        RefusedAt::Limits,
    ];

    /// Returns the word for the label.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            RefusedAt::Gate => "connections",
            RefusedAt::Handshake => "handshake",
            RefusedAt::NoKey => "no_key",
            RefusedAt::WrongKey => "wrong_key",
            RefusedAt::Guessing => "guessing",
            RefusedAt::WebPage => "web_page",
            RefusedAt::Limits => "limits",
        }
    }
}
