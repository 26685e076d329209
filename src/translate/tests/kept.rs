//! What must hold of requests that say more than every dialect can: what is not named as lost is
//! there when they come back, and words are never lost. And of answers: said in another dialect and
//! back, they say the same.

use super::super::form::{Answer, CacheMark, Finish, Seal};
use super::super::{chat, gemini, messages, responses};
use super::*;
use crate::wire::Usage;

const ALL: [Dialect; 4] = [CHAT, MESSAGES, Dialect::OpenAiResponses, Dialect::GeminiGenerate];

fn maybe<S: Strategy + 'static>(of: S) -> BoxedStrategy<Option<S::Value>>
where
    S::Value: Clone,
{
    prop_oneof![3 => Just(None), 1 => of.prop_map(Some)].boxed()
}

fn tenths(most: i8) -> impl Strategy<Value = Number> {
    (1..=most).prop_filter_map("not a number", |n| Number::from_f64(f64::from(n) / 10.0))
}

fn all_sampling() -> impl Strategy<Value = Sampling> {
    let count = || (1..100_u8).prop_map(Number::from);
    let heat = (maybe(tenths(20)), maybe(tenths(9)), maybe(count()), maybe(count()));
    let more = (maybe(tenths(20)), maybe(tenths(20)), maybe((1..5_u8).prop_map(Number::from)));
    let stop = prop::collection::vec("[a-z]{1,4}", 0..7);
    (heat, more, stop).prop_map(|((temperature, top_p, top_k, seed), (presence, frequency, top), stop)| {
        Sampling {
            temperature,
            top_p,
            top_k,
            seed,
            stop,
            presence_penalty: presence,
            frequency_penalty: frequency,
            logprobs: top.as_ref().map(|_| true),
            top_logprobs: top,
        }
    })
}

fn thinking() -> impl Strategy<Value = Thinking> {
    let effort = prop_oneof![Just(Effort::Low), Just(Effort::Medium), Just(Effort::High)];
    prop_oneof![
        3 => Just(Thinking::default()),
        1 => effort.prop_map(|effort| Thinking { effort: Some(effort), ..Thinking::default() }),
        1 => (1024..30_000_u64).prop_map(|budget| Thinking {
            level: Some(ThinkingLevel::Enabled { budget: Some(budget) }), ..Thinking::default()
        }),
        1 => Just(Thinking { level: Some(ThinkingLevel::Off), ..Thinking::default() }),
    ]
}

fn output() -> impl Strategy<Value = OutputFormat> {
    let schema = (maybe(words()), prop::option::of(any::<bool>())).prop_map(|(description, strict)| {
        let schema = Json::new(r#"{"type": "object"}"#).unwrap();
        OutputFormat::JsonSchema { name: Some("answer".to_owned()), description, schema, strict }
    });
    prop_oneof![3 => Just(OutputFormat::Text), 1 => Just(OutputFormat::JsonObject), 1 => schema]
}

fn medium() -> impl Strategy<Value = Part> {
    let pdf = Source::Base64 { media_type: "application/pdf".to_owned(), data: "JVBERi0=".to_owned() };
    let sound = Source::Base64 { media_type: "audio/wav".to_owned(), data: "UklGRg==".to_owned() };
    let picture = Source::Url { url: "https://example.com/a.png".to_owned(), media_type: None };
    prop_oneof![
        Just(Content::Document { source: pdf, name: Some("a.pdf".to_owned()) }),
        Just(Content::Document { source: Source::Text("plain words".to_owned()), name: None }),
        Just(Content::Audio { source: sound }),
        Just(Content::Image { source: picture, detail: Some("low".to_owned()) }),
    ]
    .prop_map(Part::of)
}

/// A turn that stands out: an instruction in the middle, a named speaker, a medium, a mark, an
/// earlier thought.
fn odd() -> impl Strategy<Value = Vec<Turn>> {
    let user = |parts| vec![Turn::new(Role::User, parts)];
    prop_oneof![
        words().prop_map(|text| vec![Turn::new(Role::Developer, vec![Part::text(text)])]),
        words().prop_map(move |text| {
            vec![Turn { name: Some("ann".to_owned()), ..Turn::new(Role::User, vec![Part::text(text)]) }]
        }),
        (words(), medium()).prop_map(move |(text, part)| user(vec![Part::text(text), part])),
        words().prop_map(move |text| {
            user(vec![Part { cache: Some(CacheMark::default()), ..Part::text(text) }])
        }),
        (words(), words()).prop_map(|(thought, text)| {
            let seal = Seal { issuer: form::Issuer::Anthropic, text: "c2ln".to_owned(), id: None };
            let thought = Part::of(Content::Thinking { text: thought, seal: Some(seal) });
            vec![Turn::new(Role::Assistant, vec![thought, Part::text(text)])]
        }),
    ]
}

prop_compose! {
    fn full()(
        request in common(),
        odds in prop::collection::vec((odd(), user()), 0..3),
        sampling in all_sampling(),
        thinking in thinking(),
        output in output(),
        parallel_tools in maybe(any::<bool>()),
        strict in maybe(any::<bool>()),
        max_tokens in prop::option::of(40_000..60_000_u64),
        metadata in maybe(Just(Json::new(r#"{"a":"b"}"#).unwrap())),
    ) -> Request {
        let mut request = Request {
            sampling, thinking, output, max_tokens, metadata, parallel_tools: parallel_tools.filter(|_| !request.tools.is_empty()), ..request
        };
        for tool in &mut request.tools {
            if let Tool::Function(function) = tool {
                function.strict = strict;
            }
        }
        if request.output == OutputFormat::JsonObject {
            // Where nobody said it, it would be put in.
            request.turns.push(Turn::new(Role::User, vec![Part::text("as json")]));
        }
        // Between rounds, where a user's turn begins.
        for (odd, user) in odds {
            request.turns.extend(odd);
            request.turns.extend(user);
        }
        request
    }
}

/// All words of the conversation, without the borders between its parts.
fn words_of(request: &Request) -> String {
    fn add(parts: &[Part], into: &mut String) {
        for part in parts {
            match &part.content {
                Content::Text(text) | Content::Document { source: Source::Text(text), .. } => {
                    into.push_str(text);
                }
                Content::ToolUse(call) => into.push_str(&call.arguments.replace(char::is_whitespace, "")),
                Content::ToolResult(result) => add(&result.parts, into),
                _ => {}
            }
        }
    }
    // Instructions go to the front where the dialect has one place for them.
    let mut words = String::new();
    let (instructions, rest): (Vec<&Turn>, Vec<&Turn>) =
        request.turns.iter().partition(|turn| turn.role.is_instruction());
    instructions.iter().chain(&rest).for_each(|turn| add(&turn.parts, &mut words));
    words.retain(|c| !c.is_whitespace());
    words
}

/// The conversation without the borders between turns of one speaker and between texts, which
/// dialects draw as they like.
fn flat(request: &Request) -> Vec<(Role, Content)> {
    let mut flat: Vec<(Role, Content)> = Vec::new();
    for turn in &request.turns {
        let role = match turn.role {
            Role::System | Role::Developer => Role::System,
            Role::User | Role::Tool => Role::User,
            Role::Assistant => Role::Assistant,
        };
        for part in &turn.parts {
            let content = match &part.content {
                // A document of plain words is words where there are no such documents.
                Content::Text(text) | Content::Document { source: Source::Text(text), .. } => {
                    Content::Text(text.replace(char::is_whitespace, ""))
                }
                content => content.clone(),
            };
            match (flat.last_mut(), content) {
                (Some((last, Content::Text(text))), Content::Text(more)) if *last == role => {
                    text.push_str(&more);
                }
                (_, content) => flat.push((role, content)),
            }
        }
    }
    flat
}

/// A schema without whether it is enforced: dialects that do not ask always do.
fn schema(output: &OutputFormat) -> OutputFormat {
    match output.clone() {
        OutputFormat::JsonSchema { name, description, schema, .. } => {
            OutputFormat::JsonSchema { name, description, schema, strict: None }
        }
        other => other,
    }
}

/// The tools; not to be strict is the same as not to say so.
fn functions(request: &Request) -> Vec<Tool> {
    let mut tools = request.tools.clone();
    for tool in &mut tools {
        if let Tool::Function(function) = tool {
            function.strict = function.strict.filter(|strict| *strict);
        }
    }
    tools
}

/// The choice of a tool; `auto` is the same as not to say.
fn choice(request: &Request) -> Option<&ToolChoice> {
    request.tool_choice.as_ref().filter(|choice| **choice != ToolChoice::Auto)
}

/// Names what is neither there nor named as lost.
fn missing(said: &Request, back: &Request, lost: Losses) -> Vec<String> {
    let (was, is) = (&said.sampling, &back.sampling);
    let thinks = said.thinking != Thinking::default();
    let in_turns = [
        Loss::ThinkingHistory,
        Loss::ToolErrorFlag,
        Loss::Image,
        Loss::ImageDetail,
        Loss::Caption,
        Loss::Document,
        Loss::Audio,
        Loss::File,
        Loss::ForeignPart,
        Loss::InstructionPlace,
        Loss::SpeakerName,
        Loss::CacheMark,
    ];
    let of_tools = [Loss::Tools, Loss::StrictTools, Loss::ServerTool, Loss::CacheMark];
    let kept: [(&str, bool, &[Loss]); 18] = [
        // Claude thinks at 1 only, which is what it does unasked.
        (
            "temperature",
            was.temperature == is.temperature || (thinks && was.temperature == Number::from_f64(1.0)),
            &[Loss::Temperature],
        ),
        ("top_p", was.top_p == is.top_p, &[Loss::TopP]),
        ("top_k", was.top_k == is.top_k, &[Loss::TopK]),
        ("seed", was.seed == is.seed, &[Loss::Seed]),
        ("stop", was.stop == is.stop, &[Loss::Stop]),
        ("presence_penalty", was.presence_penalty == is.presence_penalty, &[Loss::Penalties]),
        ("frequency_penalty", was.frequency_penalty == is.frequency_penalty, &[Loss::Penalties]),
        ("logprobs", was.logprobs == is.logprobs, &[Loss::Logprobs]),
        ("top_logprobs", was.top_logprobs == is.top_logprobs, &[Loss::Logprobs]),
        // Some dialects must have one, and thinking makes it longer.
        (
            "max_tokens",
            said.max_tokens.is_none() || thinks || said.max_tokens == back.max_tokens,
            &[Loss::MaxTokens],
        ),
        ("output", schema(&said.output) == schema(&back.output), &[Loss::OutputFormat, Loss::Caption]),
        ("thinking", said.thinking.is_wanted() == back.thinking.is_wanted(), &[Loss::Thinking]),
        ("tools", functions(said) == functions(back), &of_tools),
        ("tool_choice", choice(said) == choice(back), &[Loss::ToolChoice]),
        (
            "parallel_tools",
            (said.parallel_tools == Some(false)) == (back.parallel_tools == Some(false)),
            &[Loss::ParallelTools],
        ),
        ("user", said.user == back.user, &[Loss::User]),
        ("metadata", said.metadata == back.metadata, &[Loss::Metadata]),
        ("turns", flat(said) == flat(back), &in_turns),
    ];
    let is_missing = |(_, is_kept, losses): &&(&str, bool, &[Loss])| {
        !is_kept && !losses.iter().any(|loss| lost.has(*loss))
    };
    kept.iter().filter(is_missing).map(|(name, ..)| (*name).to_owned()).collect()
}

proptest! {
    #[test]
    fn what_is_not_named_as_lost_is_there_when_it_comes_back(request in full()) {
        for own in ALL {
            let body = written(&request, CHAT, own).body;
            let said = read_request(own, CHAT, &body).unwrap();
            for by in ALL.into_iter().filter(|by| *by != own) {
                let (back, lost) = over(&said, own, by);
                let missing = missing(&said, &back, lost);
                prop_assert!(
                    missing.is_empty(),
                    "{:?} by {:?}: {:?}, named {:?}\nsaid {:?}\nback {:?}", own, by, missing, lost, said, back
                );
                prop_assert_eq!(words_of(&said), words_of(&back), "{:?} by {:?}", own, by);
            }
        }
    }
}

// ---- answers ----

fn written_answer(dialect: Dialect, answer: &Answer, context: &AnswerContext<'_>) -> Vec<u8> {
    match dialect {
        Dialect::OpenAiChat => chat::write_answer(answer, context),
        Dialect::AnthropicMessages => messages::write_answer(answer, context),
        Dialect::OpenAiResponses => responses::write_answer(answer, context),
        _ => gemini::write_answer(answer, context),
    }
}

prop_compose! {
    /// What every dialect can answer.
    fn answered_by_all()(
        thought in prop::option::of(words()),
        text in prop::option::of(words()),
        calls in prop::collection::vec(("[a-z]{1,6}", 0..99_u8), 0..3),
        is_cut_short in any::<bool>(),
        (input, cached, output, reasoning) in (50..500_u64, prop::option::of(1..50_u64), 100..500_u64, 1..100_u64),
    ) -> Answer {
        let thinks = thought.is_some();
        let mut parts: Vec<Part> = Vec::new();
        parts.extend(thought.map(|text| Part::of(Content::Thinking { text, seal: None })));
        parts.extend(text.map(Part::text));
        let finish = if is_cut_short {
            Finish::Length
        } else if calls.is_empty() {
            Finish::Stop
        } else {
            Finish::ToolUse
        };
        for (at, (name, number)) in calls.into_iter().enumerate() {
            let arguments = format!("{{\n \"n\": {number}.0}}");
            parts.push(Part::of(Content::ToolUse(ToolUse { id: format!("call_{at}"), name, arguments, seal: None })));
        }
        let reasoning = Some(reasoning).filter(|_| thinks);
        let usage = Usage { input: Some(input), output: Some(output), cached, cache_written: None, reasoning };
        Answer {
            id: "id_1".to_owned(), model: "m".to_owned(), created: Some(1_700_000_000), parts, finish, usage,
            ..Answer::default()
        }
    }
}

/// What must be the same: parts without white space in arguments, the finish, and the tokens.
fn told_by(answer: &Answer) -> (Vec<Content>, Finish, [u64; 4]) {
    let plain = |part: &Part| match &part.content {
        Content::ToolUse(call) => {
            let arguments = call.arguments.replace(char::is_whitespace, "");
            Content::ToolUse(ToolUse { arguments, ..call.clone() })
        }
        content => content.clone(),
    };
    let usage = answer.usage;
    let tokens = [usage.input, usage.output, usage.cached, usage.reasoning].map(Option::unwrap_or_default);
    (answer.parts.iter().map(plain).collect(), order::settled(answer.finish, true), tokens)
}

proptest! {
    #[test]
    fn answers_said_as_any_other_and_back_are_the_same(said in answered_by_all()) {
        let asked = Asked { model: "m".to_owned(), ..Asked::default() };
        let context = AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
        for own in ALL {
            let body = written_answer(own, &said, &context);
            let own_said = read_answer(own, CHAT, &body).unwrap();
            for by in ALL.into_iter().filter(|by| *by != own) {
                let there = answer(own, by, &body, &context).unwrap();
                let here = answer(by, own, &there, &context).unwrap();
                let back = read_answer(own, CHAT, &here).unwrap();
                prop_assert_eq!(told_by(&back), told_by(&own_said), "{:?} by {:?}", own, by);
            }
        }
    }
}
