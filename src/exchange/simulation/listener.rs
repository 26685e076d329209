//! What a client of the simulated world hears: real events through the real transcript, splice and
//! hold, under the virtual clock.
//!
//! Every target says the same words up to a place of its own and other words from there on. A word
//! begins with its number, so that one that is doubled, missing or out of order shows. Checked after
//! every event: what was told never changes, and is one word after the other; nothing goes out
//! before it has waited its time, and everything does after it. At the end the client has heard
//! what the last target says, whole, under the names of the first.

use super::Cause;
use crate::base::api::Dialect;
use crate::base::time::Tick;
use crate::wire::hold::Hold;
use crate::wire::splice::{Splice, Way};
use crate::wire::transcript::Transcript;
use bytes::Bytes;
use std::time::Duration;

/// How many words an answer has.
const WORDS: usize = 8;

/// One client.
pub(super) struct Listener {
    seed: u64,
    dialect: Dialect,
    span: Duration,
    told: Transcript,
    hold: Option<Hold>,
    /// All that went out.
    bytes: Vec<u8>,
}

/// How the telling of one target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// As far as it came.
    Well,
    /// It said something else than was told.
    Diverged,
}

/// What one target tells, and when.
pub(super) struct Speech {
    pub(super) target: usize,
    /// From which word on it says words of its own.
    pub(super) own_from: usize,
    pub(super) cause: Cause,
    pub(super) began: Tick,
    pub(super) ended: Tick,
    /// After how many words it breaks off, if it does.
    pub(super) breaks_after: Option<usize>,
}

impl Speech {
    fn word(&self, at: usize) -> String {
        let gap = if at == 0 { "" } else { " " };
        if at < self.own_from { format!("{gap}{at};") } else { format!("{gap}{at}.{};", self.target) }
    }
}

impl Listener {
    /// A client of this seed's dialect and hold.
    pub(super) fn new(seed: u64) -> Self {
        let dialects = [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages];
        let spans = [0, 50, 500, 3_000];
        let dialect = dialects[usize::try_from(seed % 3).unwrap()];
        let span = Duration::from_millis(spans[usize::try_from(seed / 3 % 4).unwrap()]);
        Listener {
            seed,
            dialect,
            span,
            told: Transcript::new(dialect),
            hold: (!span.is_zero()).then(|| Hold::new(dialect, span)),
            bytes: Vec::new(),
        }
    }

    /// Listens to one target until it ends or breaks off.
    pub(super) fn hear(&mut self, speech: &Speech) -> Told {
        let before = words(self.told.text());
        if let Some(hold) = &mut self.hold {
            hold.forget();
        }
        let way = match speech.cause {
            Cause::Continue if !before.is_empty() => Some(Way::Continue),
            Cause::Continue | Cause::Restart => Some(Way::Verify),
            Cause::First
            | Cause::Repeat
            | Cause::Resend
            | Cause::NewKey
            | Cause::WithoutThinking
            | Cause::Failover
            | Cause::Hedge => None,
        };
        let mut splice = way.map(|way| Splice::new(&mut self.told, way));
        let from = if way == Some(Way::Continue) { before.len() } else { 0 };
        let said = speech.breaks_after.unwrap_or(WORDS).max(from);
        let step = speech.ended.since(speech.began) / u32::try_from(WORDS).unwrap();
        let arrives = |at: usize| speech.began.after(step * u32::try_from(at - from).unwrap());
        let mut events = vec![(speech.began, opening(self.dialect, speech.target))];
        events.extend(
            (from..said).map(|at| (arrives(at), token(self.dialect, speech.target, &speech.word(at)))),
        );
        if speech.breaks_after.is_none() {
            let rest: String = (from..WORDS).map(|at| speech.word(at)).collect();
            events.push((speech.ended, closing(self.dialect, speech.target, &rest)));
        }
        // A word that was told is met again in a restart, as far as it gets.
        let met = if from > 0 { 0 } else { before.len().min(said) };
        let is_same = (0..met).all(|at| speech.word(at).trim() == before[at]);
        for (now, event) in events {
            let passed = match &mut splice {
                None => vec![event],
                Some(splice) => {
                    let spliced = splice.push(&event);
                    if spliced.diverged {
                        assert!(!is_same, "seed {}: diverged although it says the same", self.seed);
                        return Told::Diverged;
                    }
                    spliced.release.to_vec()
                }
            };
            for event in passed {
                self.take(&event, now);
            }
        }
        assert!(is_same, "seed {}: did not notice other words", self.seed);
        if speech.breaks_after.is_some() {
            // A restart says again what the client had, a continuation does not.
            let waited = (from..said).filter(|at| arrives(*at).after(self.span) <= speech.ended).count();
            let want = if from > 0 { before.len() + waited } else { before.len().max(waited) };
            self.check_break(speech.ended, want);
        } else {
            self.check_end(speech);
        }
        Told::Well
    }

    fn take(&mut self, event: &Bytes, now: Tick) {
        let out = match &mut self.hold {
            None => Some(event.clone()),
            Some(hold) => {
                let due = hold.due(now);
                let more = hold.push(event, now);
                Some(Bytes::from([due.unwrap_or_default(), more.unwrap_or_default()].concat()))
            }
        };
        self.tell(out);
    }

    fn tell(&mut self, out: Option<Bytes>) {
        let Some(out) = out.filter(|out| !out.is_empty()) else { return };
        let before = self.told.text().to_owned();
        self.told.keep(&out);
        self.bytes.extend_from_slice(&out);
        let after = self.told.text();
        assert!(after.starts_with(&before), "seed {}: {before:?} became {after:?}", self.seed);
        for (at, word) in words(after).iter().enumerate() {
            let number = word.split(['.', ';']).next().and_then(|number| number.parse().ok());
            assert_eq!(number, Some(at), "seed {}: {after:?}", self.seed);
        }
    }

    /// At a break the client has what it had, and what had waited its time.
    fn check_break(&mut self, now: Tick, want: usize) {
        let due = self.hold.as_mut().and_then(|hold| hold.due(now));
        self.tell(due);
        let text = self.told.text();
        assert_eq!(words(text).len(), want, "seed {}: {text:?}", self.seed);
    }

    fn check_end(&mut self, speech: &Speech) {
        let text = self.told.text().to_owned();
        let heard = words(&text);
        assert_eq!(heard.len(), WORDS, "seed {}: {text:?}", self.seed);
        assert_eq!(heard[WORDS - 1], speech.word(WORDS - 1).trim(), "seed {}: {text:?}", self.seed);
        let rest = self.hold.as_mut().and_then(Hold::release);
        assert_eq!(rest, None, "seed {}: something waits behind the end", self.seed);
        let bytes = String::from_utf8(std::mem::take(&mut self.bytes)).unwrap();
        let (opens, ends) = match self.dialect {
            Dialect::OpenAiResponses => ("response.created", "response.completed"),
            Dialect::AnthropicMessages => ("message_start", "message_stop"),
            _ => ("\"role\"", "[DONE]"),
        };
        for once in [format!("\"{opens}\""), ends.to_owned()] {
            let once = once.trim_matches('"');
            assert_eq!(bytes.matches(once).count(), 1, "seed {}: {once} in {bytes}", self.seed);
        }
        if self.dialect == Dialect::OpenAiResponses {
            let (_, end) = bytes.rsplit_once("data: ").unwrap();
            assert!(end.contains(&format!("\"text\":\"{text}\"")), "seed {}: {end}", self.seed);
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn events(list: &[String]) -> Bytes {
    Bytes::from(format!("data: {}\n\n", list.join("\n\ndata: ")))
}

fn opening(dialect: Dialect, target: usize) -> Bytes {
    events(&match dialect {
        Dialect::OpenAiResponses => vec![
            format!(r#"{{"type":"response.created","sequence_number":0,"response":{{"id":"r{target}"}}}}"#),
            format!(
                r#"{{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{{"type":"message","id":"m{target}"}}}}"#
            ),
        ],
        Dialect::AnthropicMessages => vec![
            format!(r#"{{"type":"message_start","message":{{"id":"{target}"}}}}"#),
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#
                .to_owned(),
        ],
        _ => vec![format!(
            r#"{{"id":"{target}","choices":[{{"index":0,"delta":{{"role":"assistant","content":""}}}}]}}"#
        )],
    })
}

fn token(dialect: Dialect, target: usize, word: &str) -> Bytes {
    events(&[match dialect {
        Dialect::OpenAiResponses => format!(
            r#"{{"type":"response.output_text.delta","sequence_number":2,"item_id":"m{target}","delta":"{word}"}}"#
        ),
        Dialect::AnthropicMessages => format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{word}"}}}}"#
        ),
        _ => format!(r#"{{"id":"{target}","choices":[{{"index":0,"delta":{{"content":"{word}"}}}}]}}"#),
    }])
}

fn closing(dialect: Dialect, target: usize, text: &str) -> Bytes {
    events(&match dialect {
        Dialect::OpenAiResponses => {
            let item = format!(
                r#"{{"type":"message","id":"m{target}","content":[{{"type":"output_text","text":"{text}"}}]}}"#
            );
            vec![
                format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{item}}}"#),
                format!(
                    r#"{{"type":"response.completed","response":{{"id":"r{target}","output":[{item}]}}}}"#
                ),
            ]
        }
        Dialect::AnthropicMessages => vec![
            r#"{"type":"content_block_stop","index":0}"#.to_owned(),
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#.to_owned(),
            r#"{"type":"message_stop"}"#.to_owned(),
        ],
        _ => vec![
            format!(r#"{{"id":"{target}","choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}]}}"#),
            "[DONE]".to_owned(),
        ],
    })
}
