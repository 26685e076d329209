//! Where would this request go now, and why not elsewhere?
//!
//! The same steps by the same code as for a request that comes in: the body is read for its facts,
//! the model resolved, the targets lined up, health asked. Only that nothing moves: turns are taken
//! of a copy, health is looked at and claims nothing, and nobody is asked. What can change between
//! the explanation and a request is what others do meanwhile.

use super::carried::Source;
use super::conduct;
use super::decided::Lineup;
use super::line::{self, Effect};
use super::wishes::{UnknownTier, Wishes};
use crate::authenticate;
use crate::base::api::Api;
use crate::catalog::Tier;
use crate::config::plan::{Client, Plan, Route};
use crate::exchange::Exchange;
use crate::live::{House, Live};
use crate::observe::decisions::Decision;
use crate::observe::decisions::question::{Question, Unexplained};
use crate::parse::{self, Parsed};
use crate::route::{self, Named};
use crate::select::fit::Wish;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Most names in the answer to a model that names nothing.
const NAMES_MAX: usize = 40;

/// The calls that can be explained, each with its words and the least that is sent with it.
const CALLS: [(Api, &[&str], &str); 7] = [
    (
        Api::ChatCompletions,
        &["openai.chat", "openai", "chat"],
        r#"{"messages":[{"role":"user","content":"Hello"}]}"#,
    ),
    (Api::Completions, &["openai.completions", "completions"], r#"{"prompt":"Hello"}"#),
    (Api::Embeddings, &["openai.embeddings", "embeddings"], r#"{"input":"Hello"}"#),
    (Api::Responses, &["openai.responses", "responses"], r#"{"input":"Hello","store":false}"#),
    (
        Api::Messages,
        &["anthropic.messages", "anthropic", "messages"],
        r#"{"max_tokens":16,"messages":[{"role":"user","content":"Hello"}]}"#,
    ),
    (
        Api::CountTokens,
        &["anthropic.count_tokens", "count_tokens"],
        r#"{"messages":[{"role":"user","content":"Hello"}]}"#,
    ),
    (
        Api::GenerateContent,
        &["gemini.generate", "gemini"],
        r#"{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}"#,
    ),
];

/// Says where a request would go.
///
/// # Errors
/// Where it would go nowhere because of what it says, or the question itself is not sound.
pub fn explain(house: &House, question: &Question) -> Result<Decision, Unexplained> {
    let live = &*house.live();
    let asked = Asked::read(&live.plan, question)?;
    let model = asked.parsed.model.as_deref();
    let may = |name: &str| asked.client.is_none_or(|client| authenticate::may_use(client, name));
    let named = route::resolve(&live.plan, model).map_err(|_| unknown(&live.plan, model, may))?;
    let route = match &named {
        Named::Route(at) => Some(live.plan.route(*at)),
        Named::Direct { .. } => None,
    };
    let name = route.map_or_else(|| model.unwrap_or_default(), |route| &route.name);
    if !may(name) {
        return Err(Unexplained::Forbidden(format!(
            "client \"{}\" may not use \"{}\"; clients[].routes says what it may use",
            question.client.as_deref().unwrap_or_default(),
            shown(name)
        )));
    }
    Ok(asked.choose(house, live, &named, route))
}

/// A question, read like a request.
struct Asked<'a> {
    api: Api,
    body: Bytes,
    parsed: Parsed,
    client: Option<&'a Client>,
    tier: Option<Tier>,
}

impl<'a> Asked<'a> {
    fn read(plan: &'a Plan, question: &Question) -> Result<Self, Unexplained> {
        let (api, least) = call(question.dialect.as_deref())?;
        let client = question.client.as_deref().map(|name| client(plan, name)).transpose()?;
        let tier = Wishes::read(&headers(question)?).tier().map_err(|UnknownTier| {
            Unexplained::Invalid(
                "headers: x-pointsman-tier must be fast, medium, large or reasoning".to_owned(),
            )
        })?;
        let body = Bytes::from(question.body.as_ref().map_or(least, |body| body.get()).to_owned());
        let parsed = parse::body(api, &body);
        let mut parsed = parsed.map_err(|fault| Unexplained::Invalid(format!("body: {fault}")))?;
        if let Some(model) = &question.model {
            parsed.model = Some(model.clone()).filter(|model| !model.is_empty());
        }
        Ok(Asked { api, body, parsed, client, tier })
    }

    fn choose(self, house: &House, live: &Live, named: &Named, route: Option<&Route>) -> Decision {
        let Asked { api, body, parsed, client, tier } = self;
        let wish = Wish { needs: parsed.needs, tokens: parsed.tokens_estimate(), tier };
        let source = Source { api, body: &body, parsed: &parsed, defaults: &[], memory: &house.memory };
        let now = house.clock.now();
        let (line, mut carried) = line::up(house, live, named, &wish, &source, Effect::None, now.tick);
        let (slots, lineup) = Lineup::of(line);
        let rules = conduct::rules(live, &parsed);
        let mut exchange = Exchange::new(rules, conduct::candidates(live, &slots, &lineup.groups));
        let first = exchange.preview(now.tick);
        let course = exchange.foresee(first.ok());
        let mut lost: SmallVec<[_; 4]> = SmallVec::new();
        for (at, slot) in slots.iter().enumerate() {
            if let Some(Ok(written)) = carried.write(live, slot, at, &source) {
                lost.push((at, written.lost));
            }
        }
        let seats = lineup.seats(route, &slots, &course, &lost);
        let told = if slots.is_empty() {
            // Said before there is an exchange.
            Some((400, line::code_of_nobody(&lineup.left_out)))
        } else {
            first.err().map(|refusal| (refusal.status, refusal.code))
        };
        Decision {
            id: None,
            now,
            began: now.tick,
            generation: live.generation,
            route: route.map(|route| Arc::clone(&route.name)),
            client: client.map(|client| Arc::clone(&client.name)),
            dialect: Some(api.dialect()),
            is_stream: parsed.stream,
            model: parsed.model,
            seats,
            records: Vec::new(),
            chosen: course.chosen,
            halt: course.halt,
            ended: None,
            code: told.map(|(_, code)| code),
            status: told.map(|(status, _)| status),
            spent: SmallVec::new(),
            took: Duration::ZERO,
        }
    }
}

fn call(dialect: Option<&str>) -> Result<(Api, &'static str), Unexplained> {
    let word = dialect.unwrap_or(CALLS[0].1[0]);
    let known = CALLS.iter().find(|(_, words, _)| words.contains(&word));
    known.map(|(api, _, least)| (*api, *least)).ok_or_else(|| {
        let words: Vec<&str> = CALLS.iter().map(|(_, words, _)| words[0]).collect();
        Unexplained::Invalid(format!("dialect: \"{}\" is none of {}", shown(word), words.join(", ")))
    })
}

fn client<'a>(plan: &'a Plan, name: &str) -> Result<&'a Client, Unexplained> {
    let known = plan.clients.iter().find(|client| *client.name == *name);
    known.ok_or_else(|| {
        let known: Vec<&str> = plan.clients.iter().map(|client| &*client.name).take(NAMES_MAX).collect();
        let known = if known.is_empty() { "none, it is open".to_owned() } else { known.join(", ") };
        Unexplained::Invalid(format!("client: \"{}\" is not defined (clients: {known})", shown(name)))
    })
}

fn headers(question: &Question) -> Result<HeaderMap, Unexplained> {
    let mut headers = HeaderMap::new();
    for (name, value) in &question.headers {
        // Of a value nothing is repeated: it may be a key.
        let fault = || Unexplained::Invalid(format!("headers: \"{}\" cannot be a header", shown(name)));
        let key = HeaderName::try_from(name.as_str()).map_err(|_| fault())?;
        headers.append(key, HeaderValue::try_from(value.as_str()).map_err(|_| fault())?);
    }
    Ok(headers)
}

/// Says what has a name, where the model has none. Only names that the client may use are told.
fn unknown(plan: &Plan, model: Option<&str>, may: impl Fn(&str) -> bool) -> Unexplained {
    let model = model.unwrap_or_default();
    let mut text = format!("no route serves model \"{}\"", shown(model));
    if let Some(name) = route::nearest(plan, model, &may).first() {
        let _ = write!(text, " (did you mean \"{name}\"?)");
    }
    let names = plan.routes.iter().map(|route| &*route.name).filter(|name| may(name));
    list(&mut text, "; routes: ", names);
    if plan.implicit_routes {
        let names = plan.providers.iter().map(|provider| &*provider.name);
        list(&mut text, "; or PROVIDER/MODEL with one of: ", names);
    }
    text.push_str("; there is no default_route");
    Unexplained::UnknownModel(text)
}

fn list<'a>(text: &mut String, what: &str, names: impl Iterator<Item = &'a str>) {
    for (at, name) in names.enumerate() {
        if at == NAMES_MAX {
            text.push_str(", and more");
            break;
        }
        text.push_str(if at == 0 { what } else { ", " });
        text.push_str(name);
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).filter(|c| !c.is_control()).collect()
}
