//! Requests, answers and streams said in another dialect.

use super::bodies::is_json;
use super::pieces::ways;
use super::streams::{PROVIDERS, body_of};
use super::{choose, letter, shown};
use pointsman::base::api::{Api, Dialect};
use pointsman::parse;
use pointsman::translate::{
    self, AnswerContext, Asked, RequestContext, State, Stream, ThinkingRule, is_pair, read_request,
};
use pointsman::wire::answer;
use pointsman::wire::{StreamFault, StreamReader};

/// The calls of clients that are translated; letters `a` to `d`.
const CLIENTS: [Api; 4] = [Api::ChatCompletions, Api::Messages, Api::Responses, Api::GenerateContent];

/// What is asked of a target's thinking, and of which model: Claude's are told in other words.
const ASKED: [(ThinkingRule, &str); 4] = [
    (ThinkingRule::AsAsked, "m"),
    (ThinkingRule::Off, "m"),
    (ThinkingRule::AsAsked, "claude-sonnet-4-6"),
    (ThinkingRule::AsAsked, "claude-opus-4-7"),
];

/// How much longer a translation may be than what it says: a member in short words becomes objects
/// with names, roles and ids.
fn has_bounds(len: usize, of: usize) -> bool {
    len <= 4096 + 64 * of
}

/// Any request, after letters for the client's call, the target's dialect and what is asked of whose
/// thinking: what comes of it is JSON of bounded length; where clients speak that dialect, it is a request
/// that we would take, stream and all, and read again; and it is the same each time.
pub fn translate_request(input: &[u8]) {
    let mut body = input;
    let call = choose(&mut body, &CLIENTS);
    let to = choose(&mut body, &PROVIDERS);
    let from = call.dialect();
    let (thinking, model) = choose(&mut body, &ASKED);
    let context = RequestContext { thinking, ..RequestContext::new(model) };
    let made = translate::request(from, to, body, &context);
    let Ok(made) = made else { return };
    assert!(is_pair(from, to) || from == to, "{from:?} {to:?}");
    // Only these come here; the others must not crash it.
    let Ok(parsed) = parse::body(call, body) else { return };
    let text = shown(&made.body);
    assert!(is_json(&made.body), "{text}");
    assert!(has_bounds(made.body.len(), body.len()), "{} of {}", made.body.len(), body.len());
    let again = translate::request(from, to, body, &context).map(|again| again.body);
    assert_eq!(again.as_ref(), Ok(&made.body));
    if let Some(api) = CLIENTS.into_iter().find(|api| api.dialect() == to) {
        let taken = parse::body(api, &made.body).unwrap_or_else(|fault| panic!("{fault}: {text}"));
        let streams_in_path = [call, api].contains(&Api::GenerateContent);
        assert!(streams_in_path || taken.stream == parsed.stream, "{text}");
        assert!(read_request(to, from, &made.body).is_ok(), "{} came of {}", text, shown(input));
    }
}

/// Any answer, after letters for the provider's dialect and the client's: what comes of a good one is
/// one too, of bounded length, and the same each time.
pub fn translate_answer(input: &[u8]) {
    let mut body = input;
    let from = choose(&mut body, &PROVIDERS);
    let to = choose(&mut body, &CLIENTS).dialect();
    let asked = Asked { model: "m".to_owned(), ..Asked::default() };
    let context =
        AnswerContext { asked: &asked, request_id: "req", now: 7, shows_thoughts: true, signs_calls: false };
    let judged = answer::read(from, body);
    if let Err(answer::AnswerFault::Error(range)) = &judged {
        assert!(is_json(&body[range.clone()]) || std::str::from_utf8(body).is_err());
    }
    let made = translate::answer(from, to, body, &context);
    let (Ok(_), Ok(made)) = (judged, made) else { return };
    let text = shown(&made);
    assert!(is_json(&made), "{text}");
    assert!(has_bounds(made.len(), body.len()), "{} of {}", made.len(), body.len());
    assert!(answer::read(to, &made).is_ok(), "{text} came of {}", shown(input));
    assert_eq!(translate::answer(from, to, body, &context), Ok(made));
}

/// Any stream, after letters for the provider's dialect, the client's, and where it is cut: the client
/// gets the same bytes however it was cut, of bounded length, whole events without a fault in them; its
/// stream is complete where the provider's was, and never where that broke off.
pub fn translate_stream(input: &[u8]) {
    let mut body = input;
    let from = choose(&mut body, &PROVIDERS);
    let to = choose(&mut body, &CLIENTS).dialect();
    let seed = letter(&mut body);
    let body = body_of(from, body);
    let asked = Asked {
        model: "m".to_owned(),
        stream: true,
        include_usage: seed.is_multiple_of(2),
        ..Asked::default()
    };
    let context = AnswerContext {
        asked: &asked,
        request_id: "req",
        now: 7,
        shows_thoughts: seed.is_multiple_of(3),
        signs_calls: seed.is_multiple_of(5),
    };
    let mut first = None;
    for pieces in ways(&body, seed) {
        let Ok(mut stream) = Stream::new(from, to, &context) else { return };
        let mut out = Vec::new();
        for piece in &pieces {
            stream.feed(piece, &mut out);
        }
        let state = stream.finish(&mut out);
        let (told, was) = first.get_or_insert_with(|| (out.clone(), state));
        let is_same = out == *told && state == *was;
        assert!(is_same, "{} and {} of {from:?} {to:?} {}", shown(&out), shown(told), shown(&body));
    }
    let (out, state) = first.expect("there is a way");
    assert!(out.len() <= 16_384 + 512 * body.len(), "{} of {}", out.len(), body.len());
    reads_back(to, &out, state);
}

fn reads_back(to: Dialect, out: &[u8], state: State) {
    let text = || shown(out);
    let mut reader = StreamReader::new(to);
    let pushed = reader.push(bytes::Bytes::copy_from_slice(out));
    assert_eq!(pushed.fault.map(|fault: StreamFault| shown(&fault.body)), None, "{}", text());
    assert_eq!(pushed.release.concat(), out, "half an event at the end of {}", text());
    match state {
        State::Ended => assert!(reader.is_complete(), "{}", text()),
        State::Open => assert!(!reader.is_complete(), "{}", text()),
        State::Failed(_) => {}
    }
}
