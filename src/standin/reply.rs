//! What shall the stand-in answer?
//!
//! A [`Reply`] is one answer, faults included, said without a dialect: the same value becomes an
//! OpenAI chunk stream, an Anthropic event stream or a whole JSON body, whichever the request's
//! path and `stream` ask for. A fault is a [`Twist`] at a [`Place`] of the answer, and several may
//! stand in one reply (twenty tokens, a pause of 30 s, then a close is the stall of a public
//! failover bench). Twists at one place happen in the order in which they were added.
//!
//! In a whole (not streamed) answer the places before the head and after the end mean the same;
//! [`Place::AfterTokens`] and its neighbours are the middle of the body, because a body has no
//! tokens on the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

/// The answer of a reply that names none: short, with a non-ASCII letter to catch split bytes.
pub const GREETING: &str = "Hello from the stand-in, señor caller.";

/// Sixty different words: a doubled, missing or reordered word shows in a comparison. The length
/// is the one used by the public failover bench whose scenarios we replay.
pub const SIXTY_WORDS: &str = "amber birch cedar daisy elder fern grass hazel iris jade kelp lilac \
maple nettle olive poppy quince rose sage thyme umber violet willow xenon yarrow zinnia apple berry \
cherry date endive fig grape honey indigo juniper kale lemon mango nutmeg orange peach quinoa radish \
spinach tomato urchin vanilla walnut xylem yam zucchini almond basil cumin dill evergreen fennel \
ginger hops";

/// A point in an answer at which something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The request has been read, nothing has been answered.
    BeforeHead,
    /// The status line and the headers are out.
    AfterHead,
    /// The events that carry no content are out (role chunk, `message_start`, `response.created`).
    AfterOpening,
    /// That many content tokens are out.
    AfterTokens(usize),
    /// The finish reason is out, the end marker (`[DONE]`, `message_stop`) is not.
    BeforeEnd,
    /// The answer is complete.
    AfterEnd,
}

/// What happens at a [`Place`].
#[derive(Clone, Debug)]
pub enum Twist {
    /// A TCP RST (`SO_LINGER` 0); on HTTP/2 `RST_STREAM(INTERNAL_ERROR)`.
    Reset,
    /// A FIN without finishing the answer; on HTTP/2 the whole connection closes.
    Close,
    /// A proper end of the body (last chunk, `END_STREAM`) at the wrong point.
    End,
    /// Nothing more until the client leaves.
    Silence,
    /// Nothing for that long, then on with the answer.
    Pause(Duration),
    /// Nothing until the test opens the gate, then on with the answer.
    Hold(Gate),
    /// These bytes in the body, then on with the answer.
    Insert(Bytes),
    /// An error in the dialect, inside the body, and then a proper end.
    Error(Refusal),
    /// `RST_STREAM` with this code on HTTP/2; a reset on HTTP/1.
    StreamReset(u32),
    /// `GOAWAY` with this code that disowns every open stream, and the end of the connection, on
    /// HTTP/2; a close on HTTP/1.
    GoAway(u32),
}

/// A door that a test opens, so that it need not sleep. Clones share one door.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// Returns a closed gate.
    #[must_use]
    pub fn closed() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    /// Opens the gate for good; whoever waits goes on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    pub async fn passed(&self) {
        let mut door = self.0.subscribe();
        // The sender lives in `self`, so the wait cannot end by its loss.
        let _ = door.wait_for(|open| *open).await;
    }
}

/// The content of an error: a status and the words of the error body. What is left out is what
/// the large providers say with that status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, or the status whose words an error event uses.
    pub status: u16,
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.code`.
    pub code: Option<String>,
    /// `error.message`.
    pub message: Option<String>,
}

/// The substance of an answer, before headers and faults.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A healthy answer in the request's dialect.
    Answer,
    /// An error body in the request's dialect.
    Refuse(Refusal),
    /// These events as a stream, whatever the request asked for.
    Events(Vec<Bytes>),
    /// This body with this status and content type.
    Body { status: u16, content_type: String, body: Bytes },
    /// These bytes instead of an HTTP answer.
    Raw(Bytes),
    /// A JSON account of the request.
    Echo,
}

/// What the stand-in does with a request whose last message is the assistant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefill {
    /// Goes on where the message ends, if it is a prefix of the answer; else starts anew.
    Continue,
    /// Answers 400 `invalid_prefill`.
    Refuse,
    /// Starts anew.
    Ignore,
}

/// One answer of the stand-in. Every method returns the changed reply, so that a test reads as a
/// sentence: `Reply::ok().delay(ms(15)).at(Place::AfterTokens(20), Twist::Reset)`.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) act: Act,
    pub(super) text: String,
    pub(super) token_delay: Duration,
    pub(super) tool: Option<(String, String)>,
    pub(super) finish_reason: Option<String>,
    pub(super) served_model: Option<String>,
    pub(super) usage: Option<(u64, u64)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) twists: Vec<(Place, Twist)>,
    pub(super) interims: Vec<u16>,
    pub(super) prefill: Prefill,
    pub(super) has_end_marker: bool,
    pub(super) is_gzipped: bool,
    pub(super) drip: Option<Duration>,
    pub(super) missing_bytes: usize,
    pub(super) is_early: bool,
    pub(super) is_stale_afterwards: bool,
    pub(super) is_close_delimited: bool,
}

impl Reply {
    fn of(act: Act) -> Reply {
        Reply {
            act,
            text: GREETING.to_owned(),
            token_delay: Duration::ZERO,
            tool: None,
            finish_reason: None,
            served_model: None,
            usage: None,
            headers: Vec::new(),
            twists: Vec::new(),
            interims: Vec::new(),
            prefill: Prefill::Continue,
            has_end_marker: true,
            is_gzipped: false,
            drip: None,
            missing_bytes: 0,
            is_early: false,
            is_stale_afterwards: false,
            is_close_delimited: false,
        }
    }

    /// Answers well, with [`GREETING`].
    #[must_use]
    pub fn ok() -> Reply {
        Reply::of(Act::Answer)
    }

    /// Answers well, with this text.
    #[must_use]
    pub fn says(text: impl Into<String>) -> Reply {
        Reply::ok().text(text)
    }

    /// Answers with [`SIXTY_WORDS`] at 15 ms a word, about 0.95 s in all.
    #[must_use]
    pub fn sixty_words() -> Reply {
        Reply::says(SIXTY_WORDS).delay(Duration::from_millis(15))
    }

    /// Answers with this status and the error body that goes with it in the dialect.
    #[must_use]
    pub fn status(status: u16) -> Reply {
        Reply::of(Act::Refuse(Refusal { status, ..Refusal::default() }))
    }

    /// Answers 429; `retry_after` becomes the header of that name.
    #[must_use]
    pub fn rate_limited(retry_after: Option<&str>) -> Reply {
        let reply = Reply::status(429);
        match retry_after {
            Some(value) => reply.header("retry-after", value),
            None => reply,
        }
    }

    /// Resets the connection after reading the request, before the head.
    #[must_use]
    pub fn reset() -> Reply {
        Reply::ok().at(Place::BeforeHead, Twist::Reset)
    }

    /// Closes the connection after reading the request, before the head.
    #[must_use]
    pub fn close() -> Reply {
        Reply::ok().at(Place::BeforeHead, Twist::Close)
    }

    /// Resets the connection after the head.
    #[must_use]
    pub fn reset_after_head() -> Reply {
        Reply::ok().at(Place::AfterHead, Twist::Reset)
    }

    /// Resets the connection after that many content tokens.
    #[must_use]
    pub fn reset_after(tokens: usize) -> Reply {
        Reply::ok().at(Place::AfterTokens(tokens), Twist::Reset)
    }

    /// Closes the connection after that many content tokens, without finish and last chunk.
    #[must_use]
    pub fn close_after(tokens: usize) -> Reply {
        Reply::ok().at(Place::AfterTokens(tokens), Twist::Close)
    }

    /// Ends the body properly after that many content tokens, without a finish reason.
    #[must_use]
    pub fn end_after(tokens: usize) -> Reply {
        Reply::ok().at(Place::AfterTokens(tokens), Twist::End)
    }

    /// Reads the request and never answers.
    #[must_use]
    pub fn silence() -> Reply {
        Reply::ok().at(Place::BeforeHead, Twist::Silence)
    }

    /// Sends the head and nothing more.
    #[must_use]
    pub fn silence_after_head() -> Reply {
        Reply::ok().at(Place::AfterHead, Twist::Silence)
    }

    /// Sends the head at once and everything else, lifecycle events too, that much later.
    #[must_use]
    pub fn slow_first_content(pause: Duration) -> Reply {
        Reply::ok().at(Place::AfterHead, Twist::Pause(pause))
    }

    /// Falls silent for good after that many content tokens.
    #[must_use]
    pub fn stall_after(tokens: usize) -> Reply {
        Reply::ok().at(Place::AfterTokens(tokens), Twist::Silence)
    }

    /// Answers 200 with an error as the very first event (a JSON error in a whole answer).
    #[must_use]
    pub fn error_event(status: u16) -> Reply {
        Reply::ok().at(Place::AfterHead, Twist::Error(Refusal { status, ..Refusal::default() }))
    }

    /// Answers 200, sends the events without content, then an error event.
    #[must_use]
    pub fn error_after_opening(status: u16) -> Reply {
        Reply::ok().at(Place::AfterOpening, Twist::Error(Refusal { status, ..Refusal::default() }))
    }

    /// Answers 200, sends that many content tokens, then an error event.
    #[must_use]
    pub fn error_after(tokens: usize, status: u16) -> Reply {
        Reply::ok().at(Place::AfterTokens(tokens), Twist::Error(Refusal { status, ..Refusal::default() }))
    }

    /// Answers well, with one event of broken JSON after that many content tokens.
    #[must_use]
    pub fn bad_event_after(tokens: usize) -> Reply {
        let event = Bytes::from_static(b"data: {\"id\":\"broken\",\"choices\":[{\"del\n\n");
        Reply::ok().at(Place::AfterTokens(tokens), Twist::Insert(event))
    }

    /// Answers 200 without a byte of body.
    #[must_use]
    pub fn empty() -> Reply {
        Reply::body(200, "application/json", "")
    }

    /// Announces 100 bytes more than it sends, then closes.
    #[must_use]
    pub fn truncated() -> Reply {
        Reply { missing_bytes: 100, ..Reply::ok() }
    }

    /// Answers 200 with JSON that breaks off.
    #[must_use]
    pub fn bad_json() -> Reply {
        Reply::body(200, "application/json", "{\"id\":\"broken\",\"choices\":[{\"mess")
    }

    /// Answers with an HTML page, as a CDN does.
    #[must_use]
    pub fn html(status: u16) -> Reply {
        let page = format!(
            "<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>Error {status}</h1></body></html>"
        );
        Reply::body(status, "text/html; charset=UTF-8", page)
    }

    /// Answers 302 to that address.
    #[must_use]
    pub fn redirect(location: &str) -> Reply {
        Reply::body(302, "text/plain", "").header("location", location)
    }

    /// Answers 101, as if the client had asked for another protocol.
    #[must_use]
    pub fn switching_protocols() -> Reply {
        Reply::raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
    }

    /// Answers bytes that are no HTTP head, then closes.
    #[must_use]
    pub fn garbage() -> Reply {
        Reply::raw(&b"\x00\xff\x13 this is not HTTP\r\n\r\n"[..])
    }

    /// Sends these bytes instead of an HTTP/1 answer, then closes.
    #[must_use]
    pub fn raw(bytes: impl Into<Bytes>) -> Reply {
        Reply::of(Act::Raw(bytes.into()))
    }

    /// Answers well, under a head of about that many bytes.
    #[must_use]
    pub fn big_head(bytes: usize) -> Reply {
        // Lines of 1 KiB: a single huge line would test the limit for a line instead.
        (0..bytes.div_ceil(1024))
            .fold(Reply::ok(), |reply, line| reply.header(&format!("x-filler-{line}"), &"f".repeat(1004)))
    }

    /// Answers with this status before the upload is read, and never reads it.
    #[must_use]
    pub fn early(status: u16) -> Reply {
        Reply { is_early: true, ..Reply::status(status) }
    }

    /// Answers with these events as a stream; each must carry its own empty line.
    #[must_use]
    pub fn events<E: Into<Bytes>>(events: impl IntoIterator<Item = E>) -> Reply {
        Reply::of(Act::Events(events.into_iter().map(Into::into).collect()))
    }

    /// Answers with this status, content type and body.
    #[must_use]
    pub fn body(status: u16, content_type: &str, body: impl Into<Bytes>) -> Reply {
        Reply::of(Act::Body { status, content_type: content_type.to_owned(), body: body.into() })
    }

    /// Answers with a JSON account of the request: `method`, `path`, `version`, `headers` (in
    /// order), `bytes`, and `body` where it is text of at most 64 KiB.
    #[must_use]
    pub fn echo() -> Reply {
        Reply::of(Act::Echo)
    }

    /// Says this text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Reply {
        self.text = text.into();
        self
    }

    /// Waits that long after each content token.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Reply {
        self.token_delay = delay;
        self
    }

    /// Waits that long before the head.
    #[must_use]
    pub fn after(self, pause: Duration) -> Reply {
        self.at(Place::BeforeHead, Twist::Pause(pause))
    }

    /// Waits at a place until the gate is open.
    #[must_use]
    pub fn hold(self, place: Place, gate: &Gate) -> Reply {
        self.at(place, Twist::Hold(gate.clone()))
    }

    /// Adds a fault at a place.
    #[must_use]
    pub fn at(mut self, place: Place, twist: Twist) -> Reply {
        self.twists.push((place, twist));
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Sets `error.type` of an error answer.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Reply {
        if let Some(refusal) = self.refusal() {
            refusal.kind = Some(kind.to_owned());
        }
        self
    }

    /// Sets `error.code` of an error answer.
    #[must_use]
    pub fn code(mut self, code: &str) -> Reply {
        if let Some(refusal) = self.refusal() {
            refusal.code = Some(code.to_owned());
        }
        self
    }

    /// Sets `error.message` of an error answer.
    #[must_use]
    pub fn message(mut self, message: &str) -> Reply {
        if let Some(refusal) = self.refusal() {
            refusal.message = Some(message.to_owned());
        }
        self
    }

    /// The error that the reply speaks of: its own, or the one in its first error event.
    fn refusal(&mut self) -> Option<&mut Refusal> {
        if let Act::Refuse(refusal) = &mut self.act {
            return Some(refusal);
        }
        self.twists.iter_mut().find_map(|(_, twist)| match twist {
            Twist::Error(refusal) => Some(refusal),
            Twist::Reset
            | Twist::Close
            | Twist::End
            | Twist::Silence
            | Twist::Pause(_)
            | Twist::Hold(_)
            | Twist::Insert(_)
            | Twist::StreamReset(_)
            | Twist::GoAway(_) => None,
        })
    }

    /// Calls a tool behind its text, with these arguments (JSON), and ends for that reason.
    #[must_use]
    pub fn calls(mut self, tool: &str, arguments: &str) -> Reply {
        self.tool = Some((tool.to_owned(), arguments.to_owned()));
        self
    }

    /// Ends with this finish reason, in the dialect's own words.
    #[must_use]
    pub fn finish_reason(mut self, reason: &str) -> Reply {
        self.finish_reason = Some(reason.to_owned());
        self
    }

    /// Names this model as the one that answered (default: the one asked for).
    #[must_use]
    pub fn served_model(mut self, model: &str) -> Reply {
        self.served_model = Some(model.to_owned());
        self
    }

    /// Counts that many input and output tokens (default: 9, and the tokens sent).
    #[must_use]
    pub fn usage(mut self, input: u64, output: u64) -> Reply {
        self.usage = Some((input, output));
        self
    }

    /// Leaves out the end marker (`[DONE]`, `message_stop`, `response.completed`).
    #[must_use]
    pub fn without_end_marker(mut self) -> Reply {
        self.has_end_marker = false;
        self
    }

    /// Sends that many `103` heads first.
    #[must_use]
    pub fn interims(mut self, count: usize) -> Reply {
        self.interims = vec![103; count];
        self
    }

    /// Compresses the body (`content-encoding: gzip`) whether asked to or not.
    #[must_use]
    pub fn gzipped(mut self) -> Reply {
        self.is_gzipped = true;
        self
    }

    /// Sends the body one byte at a time, that far apart.
    #[must_use]
    pub fn drip(mut self, gap: Duration) -> Reply {
        self.drip = Some(gap);
        self
    }

    /// Refuses (400 `invalid_prefill`) a request whose last message is the assistant's.
    #[must_use]
    pub fn refusing_prefill(mut self) -> Reply {
        self.prefill = Prefill::Refuse;
        self
    }

    /// Starts anew where the last message is the assistant's.
    #[must_use]
    pub fn ignoring_prefill(mut self) -> Reply {
        self.prefill = Prefill::Ignore;
        self
    }

    /// Keeps the connection, and closes it unanswered when the next request arrives on it. That
    /// request is seen but uses up nothing of the script.
    #[must_use]
    pub fn then_stale(mut self) -> Reply {
        self.is_stale_afterwards = true;
        self
    }

    /// Promises to keep the connection and closes it right after the answer.
    #[must_use]
    pub fn then_close(self) -> Reply {
        self.at(Place::AfterEnd, Twist::Close)
    }

    /// Sends the body without length and chunks; the close is its end.
    #[must_use]
    pub fn close_delimited(mut self) -> Reply {
        self.is_close_delimited = true;
        self
    }
}
