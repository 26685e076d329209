//! What is the request in a target's dialect, and the answer in the client's?
//!
//! `translate` knows the words; here is what it needs to know of a request that is being played. A
//! request is read into the form once, and only when the first target of another dialect is asked;
//! what is written for one target serves the other credentials of the same model there. Targets of the
//! client's own dialect pay nothing for this. Of a large request only what was written last is kept.
//!
//! The operator's defaults and limits are set behind the translation, by the rules and the names of
//! the target's own call; only a default length is known to it, because some dialects must have one.
//!
//! A target that refuses what a translated request asks of its thinking (400 or 422, `thinking` or
//! `reasoning` in its words) is asked once more without. So is Anthropic with a client's own request
//! where it misses the thoughts of a turn: another target took that turn, and has none that it signed.

use super::gathered::{self, PAGED_FROM};
use super::story::Story;
use crate::base::api::{Api, Dialect};
use crate::base::outcome::Outcome;
use crate::base::time::WallTime;
use crate::catalog;
use crate::config::plan::Translation;
use crate::exchange::Record;
use crate::live::memory::Memory;
use crate::live::{Live, Slot};
use crate::parse::{self, Parsed};
use crate::rewrite::{self, Rewritten};
use crate::select;
use crate::translate::form::{Request, Thinking};
use crate::translate::{
    self, AnswerContext, Beside, Losses, MAX_TOKENS_DEFAULT, RequestContext, Server, State, Stream,
    ThinkingRule, Untranslatable,
};
use crate::wire::listing::Listing;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// A request as the client sent it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) api: Api,
    pub(super) body: &'a Bytes,
    pub(super) parsed: &'a Parsed,
    /// What is set where the client set nothing.
    pub(super) defaults: &'a [(String, String)],
    /// Where what is written is kept.
    pub(super) memory: &'a Arc<Memory>,
}

/// A request in the dialects that it was translated to. Empty until the first.
#[derive(Default)]
pub(super) struct Carried(Option<Box<Inner>>);

#[derive(Default)]
struct Inner {
    /// The form; nothing where it is large and would be kept for a second target that few requests have.
    read: Option<Result<Request, Untranslatable>>,
    /// Whether something is asked of its thinking.
    thinks: bool,
    written: Vec<Written>,
    /// Candidates that refused to think.
    plain: SmallVec<[usize; 2]>,
}

/// All that the writing of a request depends on beside the request: one server's refusals are another's
/// words, also for a model of the same name.
#[derive(Clone, PartialEq)]
struct Occasion {
    api: Api,
    model: Arc<str>,
    server: Server,
    can_think: Option<bool>,
    is_plain: bool,
    /// The length that is asked for where the client sets none.
    length: u64,
    /// The longest that the model gives.
    max_output: Option<u64>,
}

impl Occasion {
    fn of(live: &Live, slot: &Slot, api: Api, is_plain: bool, defaults: &[(String, String)]) -> Self {
        let RequestContext { server, can_think, max_output, .. } = target_of(live, slot, api);
        let length = length_default(live, slot, defaults);
        let model = Arc::clone(&slot.target.model);
        Occasion { api, model, server, can_think, is_plain, length, max_output }
    }

    /// Tells whether the same server and model are asked in the same call.
    fn is_for(&self, target: &RequestContext<'_>, api: Api) -> bool {
        let is_model = self.api == api && *self.model == *target.model;
        is_model && self.server == target.server && self.can_think == target.can_think
    }
}

/// A request in one dialect for one model.
pub(super) struct Written {
    occasion: Occasion,
    body: Bytes,
    parsed: Parsed,
    asked: translate::Asked,
    /// What the client says, also where it could not be said.
    pub(super) beside: Beside,
    /// What could not be said.
    pub(super) lost: Losses,
}

impl Carried {
    /// Returns the request as a target is to get it; nothing where that is the client's own dialect.
    pub(super) fn write(
        &mut self,
        live: &Live,
        slot: &Slot,
        at: usize,
        source: &Source<'_>,
    ) -> Option<Result<&Written, Untranslatable>> {
        let api = api_of(live, slot, source.api);
        (api != source.api).then(|| self.written(live, slot, at, api, source))
    }

    fn written(
        &mut self,
        live: &Live,
        slot: &Slot,
        at: usize,
        api: Api,
        source: &Source<'_>,
    ) -> Result<&Written, Untranslatable> {
        let (from, to) = (source.api.dialect(), api.dialect());
        let inner = self.0.get_or_insert_default();
        let is_plain = inner.plain.contains(&at);
        let occasion = Occasion::of(live, slot, api, is_plain, source.defaults);
        if let Some(place) = inner.written.iter().position(|written| written.occasion == occasion) {
            if inner.written.get(place).is_some_and(|written| !written.body.is_empty()) {
                return inner.written.get(place).ok_or(Untranslatable::NotJson);
            }
            inner.written.swap_remove(place);
        }
        let read = inner.read.get_or_insert_with(|| {
            let mut read = translate::read_request(from, to, source.body);
            if let Ok(request) = &mut read {
                // Gemini says it in the path.
                request.stream = source.parsed.stream;
                inner.thinks = request.thinking != Thinking::default();
            }
            read
        });
        let request = read.as_ref().map_err(|why| *why)?;
        let thinking = if is_plain { ThinkingRule::Off } else { ThinkingRule::AsAsked };
        let context = RequestContext {
            max_tokens_default: occasion.length,
            // What the dialects say around the words differs by little.
            length: source.body.len() + source.body.len() / 16,
            thinking,
            can_think: occasion.can_think,
            server: occasion.server,
            ..RequestContext::new(&occasion.model)
        };
        let translated = translate::write_request(request, from, to, &context)?;
        let body = gathered::settled(source.memory, translated.body);
        let parsed = parse::body(api, &body).map_err(|_| Untranslatable::NotJson)?;
        if source.body.len() > PAGED_FROM {
            inner.read = None;
            // Whoever is being asked with one of them has it; another of that model has it written again.
            inner.written.iter_mut().for_each(|other| other.body = Bytes::new());
        }
        let translate::Translated { asked, beside, lost, .. } = translated;
        inner.written.push(Written { occasion, body, parsed, asked, beside, lost });
        inner.written.last().ok_or(Untranslatable::NotJson)
    }

    /// Returns what was lost on the way to the candidates that were asked in another dialect.
    pub(super) fn lost(
        &self,
        live: &Live,
        slots: &[Arc<Slot>],
        records: &[Record],
        api: Api,
    ) -> Vec<(usize, Losses)> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let lost = records.iter().filter_map(|record| {
            let slot = slots.get(record.candidate)?;
            let asked = api_of(live, slot, api);
            if asked == api {
                return None;
            }
            let target = target_of(live, slot, asked);
            let is_it = |written: &&Written| written.occasion.is_for(&target, asked);
            inner.written.iter().find(is_it).map(|written| (record.candidate, written.lost))
        });
        lost.collect()
    }

    /// Tells whether a candidate that refuses this can be asked without thinking, and remembers to.
    /// `own` is the client's call where the candidate was asked in it.
    pub(super) fn gives_thinking_up(
        &mut self,
        at: usize,
        own: Option<Api>,
        status: Option<u16>,
        said: &[u8],
    ) -> bool {
        let thinks = self.0.as_ref().is_some_and(|inner| inner.thinks);
        let is_about_it = match own {
            None => thinks && speaks_of_thinking(said),
            Some(api) => api == Api::Messages && misses_thoughts(said),
        };
        // Servers that check a body against a schema say 422 (Mistral).
        let gives_up = matches!(status, Some(400 | 422)) && is_about_it && !self.is_plain(at);
        if gives_up {
            self.0.get_or_insert_default().plain.push(at);
        }
        gives_up
    }

    /// Tells whether a candidate refused to think.
    pub(super) fn is_plain(&self, at: usize) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.plain.contains(&at))
    }
}

impl Written {
    /// Returns the call that it is.
    pub(super) fn api(&self) -> Api {
        self.occasion.api
    }

    /// Returns the body with what is set where the request says nothing.
    pub(super) fn body(&self, defaults: &[(String, String)]) -> Rewritten {
        rewrite::body(&self.body, &self.parsed, &self.occasion.model, defaults)
    }
}

/// Returns the call as which a target of the line is asked.
pub(super) fn api_of(live: &Live, slot: &Slot, api: Api) -> Api {
    let takes = live.plan.provider(slot.target.provider).takes(&slot.target.model);
    select::reach(takes, api, Translation::Lossy).unwrap_or(api)
}

fn speaks_of_thinking(said: &[u8]) -> bool {
    let said = said.to_ascii_lowercase();
    ["thinking", "reasoning"].iter().any(|word| memchr::memmem::find(&said, word.as_bytes()).is_some())
}

/// Tells whether Anthropic misses the thoughts before a call of a tool's: "Expected `thinking` or
/// `redacted_thinking`, but found `tool_use`" (its guide to extended thinking, read 2026-11).
fn misses_thoughts(said: &[u8]) -> bool {
    memchr::memmem::find(&said.to_ascii_lowercase(), b"expected `thinking`").is_some()
}

/// The length that is asked for where the client sets none and the dialect wants one: the default of
/// the operator's, else as much as the model gives.
fn length_default(live: &Live, slot: &Slot, defaults: &[(String, String)]) -> u64 {
    let of_operator = defaults
        .iter()
        .find(|(name, _)| rewrite::is_length_limit(name))
        .and_then(|(_, json)| json.parse::<u64>().ok().filter(|tokens| *tokens > 0));
    of_operator.unwrap_or(MAX_TOKENS_DEFAULT).min(most_of(live, slot).unwrap_or(u64::MAX))
}

/// The longest answer of a target's model, where the catalogue or the operator knows.
fn most_of(live: &Live, slot: &Slot) -> Option<u64> {
    live.plan.provider(slot.target.provider).models.get(&slot.target.model)?.max_output
}

/// Returns what is known of a target as far as it changes what may be said to it.
pub(super) fn target_of<'a>(live: &Live, slot: &'a Slot, api: Api) -> RequestContext<'a> {
    RequestContext {
        can_think: can_think(live, slot, api),
        server: server_of(live, slot),
        max_output: most_of(live, slot),
        ..RequestContext::new(&slot.target.model)
    }
}

/// Returns whose server a target's is.
pub(super) fn server_of(live: &Live, slot: &Slot) -> Server {
    Server::of(live.plan.provider(slot.target.provider).word, &slot.target.model)
}

/// What is known of a model's thinking. The catalogue's `reasoning` marks models that think unasked;
/// OpenAI's others do not think at all, Claude's do when asked.
fn can_think(live: &Live, slot: &Slot, api: Api) -> Option<bool> {
    let provider = live.plan.provider(slot.target.provider);
    if provider.models.get(&slot.target.model).is_some_and(|model| model.reasoning) {
        return Some(true);
    }
    let is_openai = provider.word == "openai" && api == Api::ChatCompletions;
    let known = is_openai.then(|| catalog::find(provider.word)).flatten()?;
    known.models.iter().any(|model| *model.name == *slot.target.model).then_some(false)
}

/// What the answer's client may meet next: targets of the route that take its own calls.
#[derive(Clone, Copy, Default)]
pub(super) struct Homes {
    /// There are some.
    has_any: bool,
    /// One of them wants calls signed.
    wants_signed_calls: bool,
}

impl Homes {
    /// Looks at all targets of a route.
    pub(super) fn among<'a>(live: &Live, slots: impl Iterator<Item = &'a Arc<Slot>>, api: Api) -> Self {
        slots.filter(|slot| api_of(live, slot, api) == api).fold(Homes::default(), |homes, slot| Homes {
            has_any: true,
            wants_signed_calls: homes.wants_signed_calls || translate::wants_signed_calls(&slot.target.model),
        })
    }
}

/// The way back: a provider's answer in the client's dialect.
pub(super) struct Rendering {
    from: Dialect,
    to: Dialect,
    asked: translate::Asked,
    request_id: String,
    now: u64,
    homes: Homes,
    stream: Option<Stream>,
    /// Set where the client wants an array and no events.
    listing: Option<Listing>,
    /// Whether the end was written.
    has_ended: bool,
}

/// Pieces in the client's dialect, and the fault that ended them.
pub(super) struct Rendered {
    pub(super) pieces: SmallVec<[Bytes; 2]>,
    pub(super) fault: Option<Outcome>,
}

impl Rendering {
    /// Prepares for the answer to a translated request.
    pub(super) fn new(
        client: Api,
        written: &Written,
        story: &Story,
        now: WallTime,
        homes: Homes,
        listing: Option<Listing>,
    ) -> Box<Self> {
        Box::new(Rendering {
            from: written.occasion.api.dialect(),
            to: client.dialect(),
            asked: written.asked.clone(),
            request_id: story.id().to_owned(),
            now: u64::try_from(now.0 / 1000).unwrap_or(0),
            homes,
            stream: None,
            listing,
            has_ended: false,
        })
    }

    fn context(&self) -> AnswerContext<'_> {
        AnswerContext {
            asked: &self.asked,
            request_id: &self.request_id,
            now: self.now,
            shows_thoughts: !self.homes.has_any,
            signs_calls: self.homes.wants_signed_calls,
        }
    }

    /// Says a whole answer in the client's dialect.
    pub(super) fn answer(&self, memory: &Arc<Memory>, body: &[u8]) -> Result<Bytes, Outcome> {
        let answer = translate::answer(self.from, self.to, body, &self.context());
        let answer = answer.map_err(|_| Outcome::BadBody)?;
        if !self.is_list() {
            return Ok(gathered::settled(memory, answer));
        }
        Ok(gathered::settled(memory, [&b"["[..], &answer, b"]"].concat()))
    }

    /// Tells whether a streamed answer is an array to the client.
    pub(super) fn is_list(&self) -> bool {
        self.listing.is_some()
    }

    /// Says the next pieces of a stream in the client's dialect; `is_last` where the provider's
    /// stream has ended well.
    pub(super) fn feed(&mut self, pieces: &[Bytes], is_last: bool) -> Rendered {
        let mut out = Vec::new();
        let state = match self.stream() {
            Some(stream) => {
                let mut state = State::Open;
                for piece in pieces {
                    state = stream.feed(piece, &mut out);
                }
                if is_last && state == State::Open {
                    state = stream.finish(&mut out);
                }
                state
            }
            None => State::Failed(Outcome::BadBody),
        };
        let fault = match state {
            State::Failed(outcome) => Some(outcome),
            State::Open if is_last => Some(Outcome::Truncated),
            State::Open | State::Ended => None,
        };
        if let Some(listing) = &mut self.listing {
            let events = std::mem::take(&mut out);
            listing.push(&events, &mut out);
            if state == State::Ended && !std::mem::replace(&mut self.has_ended, true) {
                listing.finish(&mut out);
            }
        }
        let pieces = if out.is_empty() { SmallVec::new() } else { SmallVec::from_iter([Bytes::from(out)]) };
        Rendered { pieces, fault }
    }

    /// Returns the number that the next event has where the client's dialect counts them; else 0.
    pub(super) fn next_sequence(&self) -> u64 {
        self.stream.as_ref().map_or(0, Stream::next_sequence)
    }

    fn stream(&mut self) -> Option<&mut Stream> {
        if self.stream.is_none() {
            self.stream = Stream::new(self.from, self.to, &self.context()).ok();
        }
        self.stream.as_mut()
    }
}
