//! A route with an OpenAI primary and Anthropic, Gemini and Bedrock behind it serves clients of every
//! dialect through the loss of each in turn, tools and streaming included.
//!
//! The first one, two and three targets are lost, in every way that counts: they refuse (429), nobody
//! answers, a whole answer breaks off, a stream breaks off in its midst. Whoever is left must be heard
//! as if it had been asked at once: text, calls of tools with their arguments, why it ended, how many
//! tokens. Where nobody is left a stream ends with the client's own error event and never normally.

use crate::scene::{FORGETFUL, trail};
use crate::stage::Stage;
use crate::tongues::{ARGUMENTS, CLIENTS, Client, Heard, TOOL};
use pointsman::standin::caller::{Answer, BodyEnd};
use pointsman::standin::{Place, Provider, Refusal, Reply, Twist};
use serde_json::Value;
use std::fmt::Write as _;

const WORDS: &str = "the quick brown fox jumps over the lazy dog and then it runs away into the deep dark wood \
                     where nobody ever goes";

/// Names, kinds and models of the targets, in the order of their priority.
const TARGETS: [(&str, &str, &str); 4] = [
    ("openai", "openai", "gpt"),
    ("anthropic", "anthropic", "claude"),
    ("gemini", "gemini", "gemini-x"),
    ("bedrock", "bedrock, region: eu-west-1", "eu.anthropic.claude-v1:0"),
];

/// The four targets, and providers behind them.
async fn scene(providers: &[Provider], more: &str) -> Stage {
    let mut yaml = format!(
        "{FORGETFUL}retry: {{same_target: 0, wait_in_place: 0s, budget_min_per_second: 1000}}\nproviders:\n"
    );
    let mut targets = Vec::new();
    for (at, ((name, kind, model), provider)) in TARGETS.iter().zip(providers).enumerate() {
        let base = if *name == "openai" { provider.base_url() } else { provider.origin() };
        let _ = writeln!(
            yaml,
            "  {name}: {{kind: {kind}, base_url: \"{base}\", credentials: [{{name: k, key: sk-{name}-0123456789}}]{more}}}"
        );
        targets.push(format!("{{provider: {name}, model: \"{model}\", priority: {}}}", at + 1));
    }
    let _ = write!(yaml, "routes:\n  chat: {{targets: [{}]}}\n", targets.join(", "));
    Stage::open(&yaml).await
}

/// What the target at a place says: its own numbers, so that it is known by its answer.
fn sound(at: usize, text: &str, has_tools: bool) -> Reply {
    let count = u64::try_from(at).unwrap();
    let reply = Reply::says(text).usage(10 + count, 20 + count);
    if has_tools { reply.calls(TOOL, ARGUMENTS) } else { reply }
}

/// What a client hears of it.
fn want(client: Client, at: usize, text: &str, has_tools: bool) -> Heard {
    let count = u64::try_from(at).unwrap();
    let calls = if has_tools { vec![(TOOL.to_owned(), arguments())] } else { Vec::new() };
    Heard {
        text: text.to_owned(),
        calls,
        // Gemini has no other word for calls of tools.
        finish: if has_tools && client != Client::Gemini { "tools" } else { "stop" },
        usage: Some((10 + count, 20 + count)),
        has_ended: true,
    }
}

fn arguments() -> Value {
    serde_json::from_str(ARGUMENTS).unwrap()
}

/// Each client, streamed and not, with tools and without.
fn asks() -> Vec<(Client, bool, bool)> {
    let forms = [(false, false), (false, true), (true, false), (true, true)];
    CLIENTS
        .iter()
        .flat_map(|client| forms.map(|(is_stream, has_tools)| (*client, is_stream, has_tools)))
        .collect()
}

async fn started() -> Vec<Provider> {
    let mut providers = Vec::new();
    for _ in TARGETS {
        providers.push(Provider::start(Reply::ok()).await.unwrap());
    }
    providers
}

/// How many targets there are in this build.
fn count() -> usize {
    if cfg!(feature = "bedrock") { TARGETS.len() } else { TARGETS.len() - 1 }
}

fn told(answer: &Answer, lost: usize) -> String {
    format!("{lost} lost, {:?}: {}", trail(answer), answer.body_text())
}

/// Asks in every way while the first `lost` targets answer so, and the next one well.
async fn each_ask_is_answered(stage: &Stage, providers: &[Provider], lost: usize, broken: &Reply) {
    for (client, is_stream, has_tools) in asks() {
        for (at, provider) in providers.iter().enumerate() {
            provider.set_script(if at < lost { broken.clone() } else { sound(at, "well said", has_tools) });
        }
        let answer = client.ask("chat", is_stream, has_tools).send(stage.data).await.unwrap();
        let what = format!("{client:?} {is_stream} {has_tools} {}", told(&answer, lost));
        assert_eq!((answer.status, answer.is_stream()), (200, is_stream), "{what}");
        assert_eq!(client.hear(&answer), want(client, lost, "well said", has_tools), "{what}");
        assert_eq!(answer.end, BodyEnd::Clean, "{what}");
        assert_eq!(answer.header("x-used-provider"), Some(TARGETS[lost].0), "{what}");
        assert_eq!(answer.header("x-used-fallback"), Some(if lost > 0 { "true" } else { "false" }), "{what}");
        assert_eq!(trail(&answer).len(), lost + 1, "{what}");
    }
}

#[tokio::test]
async fn targets_that_refuse_are_passed_by() {
    let providers = started().await;
    let stage = scene(&providers, "").await;
    for lost in 0..count() {
        for broken in [Reply::rate_limited(None), Reply::status(529), Reply::error_event(503)] {
            each_ask_is_answered(&stage, &providers, lost, &broken).await;
        }
    }
}

#[tokio::test]
async fn targets_that_nobody_answers_for_are_passed_by() {
    for lost in 1..count() {
        let mut providers = started().await;
        for provider in providers.iter_mut().take(lost) {
            provider.go_down().await.unwrap();
        }
        let stage = scene(&providers, "").await;
        each_ask_is_answered(&stage, &providers, lost, &Reply::ok()).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_taken_up_by_the_next_and_the_client_sees_one() {
    let providers = started().await;
    let stage = scene(&providers, "").await;
    for lost in 1..count() {
        for twist in [Twist::Close, Twist::Reset, Twist::Error(Refusal { status: 529, ..Refusal::default() })]
        {
            for (client, is_stream, has_tools) in asks() {
                for (at, provider) in providers.iter().enumerate() {
                    let reply = sound(at, WORDS, has_tools);
                    // Each comes further than the one before it.
                    let place = Place::AfterTokens(5 * (at + 1));
                    provider.set_script(if at < lost { reply.at(place, twist.clone()) } else { reply });
                }
                let answer = client.ask("chat", is_stream, has_tools).send(stage.data).await.unwrap();
                let what = format!("{client:?} {is_stream} {has_tools} {twist:?} {}", told(&answer, lost));
                let heard = client.hear(&answer);
                let want = want(client, lost, WORDS, has_tools);
                assert_eq!(
                    (answer.status, &heard.text, &heard.calls, heard.finish, heard.has_ended),
                    (200, &want.text, &want.calls, want.finish, true),
                    "{what}"
                );
                assert_eq!(answer.end, BodyEnd::Clean, "{what}");
                // Of a stream the client was told the model, and where usage comes first the tokens,
                // of the one that began.
                if is_stream {
                    assert_eq!(heard.usage.unwrap().1, want.usage.unwrap().1, "{what}");
                } else {
                    assert_eq!(heard.usage, want.usage, "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_nobody_takes_up_ends_with_the_clients_error_and_never_normally() {
    let providers = started().await;
    let stage = scene(&providers, "").await;
    for client in CLIENTS {
        for has_tools in [false, true] {
            for (at, provider) in providers.iter().enumerate() {
                provider.set_script(sound(at, WORDS, has_tools).at(Place::AfterTokens(5), Twist::Close));
            }
            let answer = client.ask("chat", true, has_tools).send(stage.data).await.unwrap();
            let what = format!("{client:?} {has_tools} {}", told(&answer, count()));
            let heard = client.hear(&answer);
            assert!(WORDS.starts_with(&heard.text) && !heard.text.is_empty(), "{what}");
            assert!(!heard.has_ended && heard.calls.is_empty(), "{what}");
            assert!(answer.error().is_some(), "{what}");
            assert!(matches!(answer.end, BodyEnd::Cut(_)), "{what}");
        }
    }
}

/// A target that goes on from the beginning of an answer is given it in its own dialect.
#[tokio::test]
async fn a_target_that_continues_is_given_the_beginning_in_its_own_words() {
    for (at, path) in
        [(1, "/messages/1/content"), (2, "/contents/1/parts/0/text"), (3, "/messages/1/content/0/text")]
    {
        if at >= count() {
            continue;
        }
        let providers = started().await;
        let model = TARGETS[at].2;
        let more = format!(", models: {{\"{model}\": {{continues: prefill}}}}");
        let stage = scene(&providers, &more).await;
        for client in CLIENTS {
            for (place, provider) in providers.iter().enumerate() {
                provider.set_script(match place {
                    0 => sound(0, WORDS, false).at(Place::AfterTokens(6), Twist::Close),
                    place if place < at => Reply::status(503),
                    place => sound(place, WORDS, false),
                });
            }
            let answer = client.ask("chat", true, false).send(stage.data).await.unwrap();
            let what = format!("{client:?} {}", told(&answer, at));
            assert_eq!(client.hear(&answer).text, WORDS, "{what}");
            let sent = providers[at].last().unwrap().json();
            let beginning = sent.pointer(path).and_then(Value::as_str).unwrap_or_default();
            assert_eq!(beginning, "the quick brown fox jumps over", "{what}: {sent}");
        }
    }
}
