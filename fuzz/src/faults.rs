//! Failed answers: what they mean, when to come back, and that they hold no key.

use super::files::plan;
use super::pieces::ways;
use super::{letter, line, shown};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman::base::outcome::Outcome;
use pointsman::base::secret::Secret;
use pointsman::base::time::WallTime;
use pointsman::classify::{self as classifier, Verdict};
use pointsman::proxy::echo::{Overwriter, holds, redacted};
use pointsman::wire::rate_limit;
use pointsman::wire::retry_hint::{self, RetryHint};
use std::time::{Duration, UNIX_EPOCH};

/// 2026-11-20T00:00:00Z.
const NOW: WallTime = WallTime(1_795_132_800_000);
/// Longest span that a hint may name: a month and a day.
const SPAN_MAX: Duration = Duration::from_secs(32 * 86_400);
/// Longest line of keys: with longer ones, looking for them the naive way is most of the time.
const KEYS_MAX: usize = 256;

/// Reads `name: value` lines up to an empty one; what cannot be a header is left out.
fn headers(input: &mut &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    loop {
        let line = line(input);
        if line.is_empty() || headers.len() > 100 {
            return headers;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line.get(colon + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
}

/// Any headers and body: a hint is a span above zero and of at most 32 days; the answer's own clock
/// counts where it has one, not ours; without reset headers both readers agree; other headers change
/// nothing.
pub fn hints(input: &[u8]) {
    let mut body = input;
    let mut headers = headers(&mut body);
    let hint = retry_hint::read(&headers, body, NOW);
    let without = retry_hint::read_without_resets(&headers, body, NOW);
    sound(hint);
    sound(without);
    let _ = rate_limit::remaining(&headers);
    let own_clock = headers.get("date").and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    if own_clock.is_some_and(|date| date >= UNIX_EPOCH) {
        let later = WallTime(NOW.0 + 86_400_000);
        assert_eq!(retry_hint::read(&headers, body, later), hint, "{}", shown(input));
    }
    headers.append("x-other", HeaderValue::from_static("7"));
    assert_eq!(retry_hint::read(&headers, body, NOW), hint);
    let resets: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().contains("ratelimit")).cloned().collect();
    for name in resets {
        headers.remove(name);
    }
    assert_eq!(retry_hint::read(&headers, body, NOW), without, "{}", shown(input));
}

fn sound(hint: RetryHint) {
    if let Some(span) = hint.span() {
        assert!(!span.is_zero() && span <= SPAN_MAX, "{span:?}");
    }
}

/// Any failed answer, after a letter for its status (`a` is 400): the verdict is a failure,
/// the same each time, its word is a plain one, it has a hint only where waiting helps; a redirect is
/// not believed; white space at the end says nothing.
pub fn classify(input: &[u8]) {
    let mut body = input;
    let status = 400 + u16::from(letter(&mut body).wrapping_sub(b'a'));
    let headers = headers(&mut body);
    let patterns = &plan().providers[0].patterns;
    assert!(!patterns.is_empty());
    let judge = |status, body: &[u8]| {
        let verdict = classifier::response(patterns, status, &headers, body, NOW);
        plain(&verdict, input);
        verdict
    };
    let verdict = judge(status, body);
    assert_eq!(judge(status, body), verdict);
    judge(200, body);
    plain(&classifier::inband(patterns, body, NOW), input);
    let redirect = judge(301, body);
    assert_eq!((redirect.outcome, redirect.retry), (Outcome::BadBody, RetryHint::None));
    let padded = [body, b" \n"].concat();
    assert_eq!(judge(status, &padded), verdict, "{}", shown(input));
}

fn plain(verdict: &Verdict, input: &[u8]) {
    assert_ne!(verdict.outcome, Outcome::Ok, "{}", shown(input));
    let may_wait = [Outcome::RateLimited, Outcome::Quota, Outcome::Overloaded, Outcome::ServerError]
        .contains(&verdict.outcome);
    assert!(may_wait || verdict.retry == RetryHint::None);
    sound(verdict.retry);
    if let Some(word) = &verdict.provider_type {
        let word = word.as_str();
        assert!(word.len() <= 64 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)));
    }
}

/// Any body, after a letter that says where it is cut and a line of keys: each byte of each key is
/// covered and no other, whatever the keys share and wherever the body is cut; less than the longest
/// key is kept back. In place of the keys in a whole body stands a word.
pub fn redact(input: &[u8]) {
    let mut body = input;
    let seed = letter(&mut body);
    let Ok(line) = std::str::from_utf8(line(&mut body)) else { return };
    if line.len() > KEYS_MAX {
        return;
    }
    let keys: Vec<Secret> = line
        .split(' ')
        .filter(|key| !key.is_empty())
        .take(4)
        .map(|key| Secret::new(key.to_owned()))
        .collect();
    let long = || keys.iter().map(Secret::expose).filter(|key| key.len() >= 8);
    let longest = long().map(str::len).max().unwrap_or_default();
    let want = covered(body, long());
    // Which bytes are a key as JSON may write it, the naive way does not know.
    let is_plain = !body.contains(&b'\\');
    for pieces in ways(body, seed) {
        let mut overwriter = Overwriter::default();
        let (mut out, mut fed) = (Vec::new(), 0);
        for piece in pieces {
            fed += piece.len();
            let mut piece = Some(piece);
            overwriter.pass(&mut piece, false, keys.iter());
            out.extend(piece.unwrap_or_default());
            assert!(out.len() <= fed && (!is_plain || fed - out.len() < longest.max(1)));
        }
        let mut last = None;
        overwriter.pass(&mut last, true, keys.iter());
        out.extend(last.unwrap_or_default());
        assert!(!is_plain || out == want, "{} is not {}, keys {line}", shown(&out), shown(&want));
    }
    let whole = redacted(Bytes::copy_from_slice(body), keys.iter());
    // A key made of our own word would be found in it.
    let is_foreign =
        |key: &&Secret| !"[redacted]".contains(key.expose()) && !key.expose().contains(['[', ']']);
    for key in keys.iter().filter(is_foreign) {
        assert!(!holds(&whole, key), "{} holds {}", shown(&whole), key.expose());
    }
}

/// Covers keys the naive way: at each place where one begins.
fn covered<'a>(body: &[u8], keys: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut out = body.to_vec();
    for key in keys {
        for at in 0..body.len() {
            if body[at..].starts_with(key.as_bytes()) {
                out[at..at + key.len()].fill(b'*');
            }
        }
    }
    out
}
