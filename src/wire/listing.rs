//! How does a Gemini stream look to a client that did not ask for events?
//!
//! `:streamGenerateContent` answers with server-sent events only under `alt=sse`; without it, with one
//! JSON array that grows by an element for each event. The events are ours here, one `data` line
//! each, whole: their data become the elements, separated as Google does it. An array that is not
//! closed is a stream that broke.
//!
//! Source: Gemini API reference, `models.streamGenerateContent`.

/// Turns events into the elements of an array.
#[derive(Debug, Default)]
pub struct Listing {
    has_begun: bool,
}

impl Listing {
    /// Tells whether a query asks for events.
    #[must_use]
    pub fn is_events(query: Option<&str>) -> bool {
        query.is_some_and(|query| query.split('&').any(|parameter| parameter == "alt=sse"))
    }

    /// Goes on in an array that has elements.
    #[must_use]
    pub fn begun() -> Self {
        Listing { has_begun: true }
    }

    /// Appends the elements of whole events to `out`; comments and empty lines are left out.
    pub fn push(&mut self, events: &[u8], out: &mut Vec<u8>) {
        for line in events.split(|byte| *byte == b'\n') {
            if let Some(data) = line.strip_prefix(b"data:") {
                out.extend_from_slice(if self.has_begun { b",\r\n" } else { b"[" });
                out.extend_from_slice(data.trim_ascii());
                self.has_begun = true;
            }
        }
    }

    /// Appends the end of the array to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.has_begun { b"\r\n]" } else { b"[]" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_the_elements_of_one_array() {
        let (mut listing, mut out) = (Listing::default(), Vec::new());
        for events in
            ["data: {\"a\":1}\n\ndata: {\"b\":\"\\n\"}\n\n", "", ": comment\n\n", "data:{\"c\":3}\r\n\r\n"]
        {
            listing.push(events.as_bytes(), &mut out);
        }
        listing.finish(&mut out);
        let read: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!((&read[0]["a"], &read[1]["b"], &read[2]["c"]), (&1.into(), &"\n".into(), &3.into()));
        let mut empty = Vec::new();
        Listing::default().finish(&mut empty);
        assert_eq!(empty, b"[]");
    }

    #[test]
    fn only_alt_sse_asks_for_events() {
        for (query, want) in [
            (None, false),
            (Some(""), false),
            (Some("alt=json"), false),
            (Some("alt=sse"), true),
            (Some("a=b&alt=sse"), true),
            (Some("x=alt=sse"), false),
        ] {
            assert_eq!(Listing::is_events(query), want, "{query:?}");
        }
    }
}
