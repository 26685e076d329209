//! How does the other side of the public failover bench behave?
//!
//! Sixteen scenarios, each a model name of its own on one port, and two fallbacks: `fb-ok` answers
//! well, `fb-ok-noprefill` too but refuses a prefill. All good answers are
//! [`SIXTY_WORDS`](super::SIXTY_WORDS) at 15 ms a word. The behaviour follows our description of
//! failoverbench's methodology (its harness is MIT; nothing of it is in here).
//!
//! The length of a second is an argument, so that a test that shortens its timers can shorten the
//! waits of the wall by the same factor. The header `Retry-After: 2` cannot shrink with it.

use std::time::Duration;

use super::{Place, Reply, Script, Twist};

/// The fallback that answers well.
pub const OK: &str = "fb-ok";
/// The fallback that refuses a prefill.
pub const OK_WITHOUT_PREFILL: &str = "fb-ok-noprefill";
/// The models of the scenarios, S01 first.
pub const SCENARIOS: [&str; 16] = [
    "fb-s01-429-retry-after",
    "fb-s02-429-persistent",
    "fb-s03-500-then-200",
    "fb-s04-503-persistent",
    "fb-s05-reset",
    "fb-s06-no-response",
    "fb-s07-slow-ttft",
    "fb-s08-stream-cut",
    "fb-s09-stream-stall",
    "fb-s10-malformed-chunk",
    "fb-s11-no-done",
    "fb-s12-context-length",
    "fb-s13-content-filter",
    "fb-s14-stream-cut",
    "fb-s15-flap",
    "fb-s16-503-persistent",
];

/// Returns the script of the wall; `second` is the length of its second.
/// [`Provider::reset`](super::Provider::reset) starts every scenario anew, the outage of S15 too.
#[must_use]
pub fn script(second: Duration) -> Script {
    let ok = || Reply::sixty_words().delay(second.saturating_mul(15) / 1000);
    let overloaded = || Reply::status(503).code("overloaded");
    let cut = || Script::always(ok().at(Place::AfterTokens(40), Twist::Close));
    // Long enough that it does not come round again.
    let forever = second.saturating_mul(1_000_000);
    let scripts: [Script; 16] = [
        Script::of([Reply::rate_limited(Some("2")), ok()]),
        Reply::rate_limited(None).into(),
        Script::of([Reply::status(500), ok()]),
        overloaded().into(),
        Script::of([Reply::reset(), ok()]),
        Script::always(
            ok().at(Place::BeforeHead, Twist::Pause(second.saturating_mul(120)))
                .at(Place::BeforeHead, Twist::Close),
        ),
        ok().at(Place::AfterHead, Twist::Pause(second.saturating_mul(20))).into(),
        cut(),
        Script::always(
            ok().at(Place::AfterTokens(20), Twist::Pause(second.saturating_mul(30)))
                .at(Place::AfterTokens(20), Twist::Close),
        ),
        ok().at(Place::AfterTokens(10), Twist::Insert("data: {\"id\":\"broken\",\"cho\n\n".into())).into(),
        ok().without_end_marker().into(),
        Reply::status(400).code("context_length_exceeded").into(),
        Reply::status(400).code("content_policy_violation").into(),
        cut(),
        Script::phases([(second.saturating_mul(60), overloaded().into()), (forever, ok().into())]),
        overloaded().into(),
    ];
    let fallbacks = [(OK, ok().into()), (OK_WITHOUT_PREFILL, ok().refusing_prefill().into())];
    Script::by_model(SCENARIOS.into_iter().zip(scripts).chain(fallbacks)).otherwise(Reply::status(404))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::caller::{BodyEnd, Call};
    use crate::standin::{Provider, SIXTY_WORDS};

    /// What one call to a scenario sees: status, error code, words, clean end, end marker.
    type Sight = (u16, &'static str, usize, bool, bool);

    #[tokio::test]
    async fn every_scenario_behaves_as_described() {
        let table: [(&str, &[Sight]); 17] = [
            (SCENARIOS[0], &[(429, "rate_limit_exceeded", 0, true, false), (200, "", 60, true, true)]),
            (SCENARIOS[1], &[(429, "rate_limit_exceeded", 0, true, false); 3]),
            (SCENARIOS[2], &[(500, "server_error", 0, true, false), (200, "", 60, true, true)]),
            (SCENARIOS[3], &[(503, "overloaded", 0, true, false); 3]),
            (SCENARIOS[4], &[(0, "", 0, false, false), (200, "", 60, true, true)]),
            (SCENARIOS[5], &[(0, "", 0, false, false); 2]),
            (SCENARIOS[6], &[(200, "", 60, true, true)]),
            (SCENARIOS[7], &[(200, "", 40, false, false); 2]),
            (SCENARIOS[8], &[(200, "", 20, false, false)]),
            (SCENARIOS[9], &[(200, "", 60, true, true)]),
            (SCENARIOS[10], &[(200, "", 60, true, false)]),
            (SCENARIOS[11], &[(400, "context_length_exceeded", 0, true, false); 2]),
            (SCENARIOS[12], &[(400, "content_policy_violation", 0, true, false); 2]),
            (SCENARIOS[13], &[(200, "", 40, false, false)]),
            (SCENARIOS[15], &[(503, "overloaded", 0, true, false)]),
            (OK, &[(200, "", 60, true, true)]),
            (OK_WITHOUT_PREFILL, &[(200, "", 60, true, true)]),
        ];
        let provider = Provider::start(script(Duration::from_millis(2))).await.unwrap();
        for (model, sights) in table {
            provider.reset();
            for (turn, expected) in sights.iter().enumerate() {
                let answer = Call::chat_stream(model).send(provider.address()).await.unwrap();
                let words = answer.text().split_whitespace().count();
                let code = answer.error_code();
                let is_clean = answer.end == BodyEnd::Clean;
                let sight = (answer.status, code.as_str(), words, is_clean, answer.has_end_marker());
                assert_eq!(sight, *expected, "{model}, try {}", turn + 1);
                assert!(SIXTY_WORDS.starts_with(&answer.text()), "{model}");
            }
        }
    }

    #[tokio::test]
    async fn s15_is_out_for_a_minute_and_then_well() {
        let call = Call::chat_stream(SCENARIOS[14]);
        let provider = Provider::start(script(Duration::from_secs(1))).await.unwrap();
        assert_eq!(call.send(provider.address()).await.unwrap().error_code(), "overloaded");
        let provider = Provider::start(script(Duration::from_micros(1))).await.unwrap();
        let mut statuses = Vec::new();
        while statuses.last() != Some(&200) && statuses.len() < 1000 {
            statuses.push(call.send(provider.address()).await.unwrap().status);
        }
        assert_eq!(statuses.last(), Some(&200));
    }

    #[test]
    fn the_sixty_words_are_sixty_and_all_different() {
        let words: std::collections::HashSet<_> = SIXTY_WORDS.split(' ').collect();
        assert_eq!((words.len(), SIXTY_WORDS.split(' ').count()), (60, 60));
    }
}
