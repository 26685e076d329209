//! `pointsman check --probe`: does each credential work, asked the cheapest way there is?
//!
//! One question a credential: the list of models, which costs nothing; where the provider has none
//! (404, 405), gives it to everybody, or the file has a path of its own for the call, a message of one
//! token to the first model that the file names of it. Over the same connections, addresses, authorities and
//! proofs that requests take, and judged by the same table of outcomes. All at once, each at most
//! [`PATIENCE`]. Credentials that sign whole requests (AWS) are only asked whether their keys can be
//! had.
//!
//! Nothing of an answer is shown but its status: it may quote the key.

use super::Exit;
use super::table::{Paint, Table};
use crate::base::api::{Api, Kind};
use crate::base::ids::CredentialIdx;
use crate::base::outcome::Outcome;
use crate::classify;
use crate::clock::Clock;
use crate::config::plan::Plan;
use crate::live::{House, Live, NoConnection, Slot};
use crate::observe::log::Log;
use crate::resolve::DnsFault;
use crate::rewrite::{self, Destination, Rewritten};
use crate::server::{self, Keeper};
use crate::sign;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Version, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use serde_json::{Value, json};
use smallvec::SmallVec;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

/// How long one credential may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most of an answer that is read: enough for the reason of a refusal.
const ANSWER_MAX: usize = 64 << 10;
/// Providers whose list of models is open to everybody, so that it says nothing of a key. From
/// general knowledge, 2026-11; a wrong entry costs one token, a missing one a key that is not tried.
const OPEN_LISTS: [&str; 2] = ["openrouter", "nvidia"];

/// What one credential came to.
pub(super) struct Finding {
    credential: String,
    asked: String,
    /// Nothing where the provider answered as it should.
    fault: Option<Outcome>,
    status: Option<u16>,
    took: Duration,
    /// What to do, or what else is to be said.
    remedy: String,
}

/// Asks every credential of a plan, with a bar on standard error where that is a terminal.
///
/// # Errors
/// Where the plan cannot be put in force at all.
pub(super) fn probe(keeper: &Keeper, mut plan: Plan) -> Result<Vec<Finding>, String> {
    // The file of the process that serves is none of ours.
    plan.state = None;
    let clock = Clock::new();
    let log = Log::start(plan.log, Arc::new(move || clock.wall())).map_err(|fault| fault.to_string())?;
    let house = server::open(plan, clock, log).map_err(|fault| fault.to_string())?;
    Ok(keeper.block_on(ask_all(house)))
}

async fn ask_all(house: Arc<House>) -> Vec<Finding> {
    let live = house.live();
    let mut asking = tokio::task::JoinSet::new();
    let mut total = 0;
    for (at, slot) in slots(&house, &live).into_iter().enumerate() {
        let (house, live) = (Arc::clone(&house), Arc::clone(&live));
        asking.spawn(async move { (at, finding(&house, &live, slot).await) });
        total += 1;
    }
    let mut findings = Vec::with_capacity(total);
    bar(0, total);
    while let Some(done) = asking.join_next().await {
        findings.extend(done.ok());
        bar(findings.len(), total);
    }
    findings.sort_by_key(|(at, _)| *at);
    findings.into_iter().map(|(_, finding)| finding).collect()
}

/// One slot a credential: of the first target that has it, else one made for the purpose.
fn slots(house: &House, live: &Live) -> Vec<Arc<Slot>> {
    let mut slots = Vec::new();
    for provider in &live.plan.providers {
        let of = |at: CredentialIdx| live.slots.iter().find(|slot| slot.target.credential == at).cloned();
        for credential in &provider.credentials {
            let made = || {
                let at = live.plan.credentials.get(credential.at())?.provider;
                let model = provider.models.keys().next().map_or("-", |model| &**model);
                house.direct(live, at, model).into_iter().find(|slot| slot.target.credential == *credential)
            };
            slots.extend(of(*credential).or_else(made));
        }
    }
    slots
}

async fn finding(house: &House, live: &Live, slot: Arc<Slot>) -> Finding {
    let began = house.clock.tick();
    let credential = format!("{}/{}", slot.provider, slot.credential);
    let asked = tokio::time::timeout(PATIENCE, ask(house, live, &slot)).await;
    let told = asked.unwrap_or_else(|_| Told {
        asked: "-".to_owned(),
        verdict: Err((Outcome::TimeoutFirstContent, None)),
        note: String::new(),
    });
    let place = place_of_key(&live.plan, &slot);
    let (fault, status) = match told.verdict {
        Ok(status) => (None, status),
        Err((outcome, status)) => (Some(outcome), status),
    };
    let remedy = fault.map_or(told.note, |outcome| remedy(outcome, &slot, &place));
    let took = house.clock.tick().since(began);
    Finding { credential, asked: told.asked, fault, status, took, remedy }
}

/// What was asked and what came of it.
struct Told {
    asked: String,
    verdict: Result<Option<u16>, (Outcome, Option<u16>)>,
    note: String,
}

async fn ask(house: &House, live: &Live, slot: &Arc<Slot>) -> Told {
    let told = |asked: &str, verdict| Told { asked: asked.to_owned(), verdict, note: String::new() };
    let Ok(slot) = slot.prove().await else { return told("a token", Err((Outcome::Auth, None))) };
    if slot.signs_requests() {
        let note =
            "keys were found; requests are signed one by one, so only a request can tell more".to_owned();
        return Told { note, ..told("keys", Ok(None)) };
    }
    let api = api_of(live, &slot);
    let provider = live.plan.provider(slot.target.provider);
    let list = list_path(&slot, api).filter(|_| !OPEN_LISTS.contains(&provider.word));
    if let Some(path) = list {
        let got = call(house, &slot, api, "GET", &path, Bytes::new()).await;
        let is_absent = matches!(&got, Ok((404 | 405, _, _)));
        if !is_absent {
            return told(&format!("GET {path}"), judged(house, live, &slot, got));
        }
    }
    let (path, body) = message(&slot, api);
    let got = call(house, &slot, api, "POST", &path, body).await;
    told(&format!("POST {path}"), judged(house, live, &slot, got))
}

type Got = Result<(u16, HeaderMap, Bytes), Outcome>;

fn judged(house: &House, live: &Live, slot: &Slot, got: Got) -> Result<Option<u16>, (Outcome, Option<u16>)> {
    match got {
        Ok((status @ 200..=299, _, _)) => Ok(Some(status)),
        Ok((status, headers, body)) => {
            let patterns = &live.plan.provider(slot.target.provider).patterns;
            let verdict = classify::response(patterns, status, &headers, &body, house.clock.wall());
            Err((verdict.outcome, Some(status)))
        }
        Err(outcome) => Err((outcome, None)),
    }
}

/// The call that the provider is asked by.
fn api_of(live: &Live, slot: &Slot) -> Api {
    let takes = live.plan.provider(slot.target.provider).takes(&slot.target.model);
    let wanted = [
        Api::ChatCompletions,
        Api::Messages,
        Api::Responses,
        Api::GenerateContent,
        Api::Converse,
        Api::CohereChat,
        Api::OllamaChat,
        Api::Generate,
    ];
    wanted.into_iter().find(|api| takes.has(*api)).unwrap_or(Api::ChatCompletions)
}

fn path_of(slot: &Slot, api: Api) -> String {
    let model = &*slot.target.model;
    match slot.path(api) {
        Some(template) => rewrite::templated_path(template, model, None),
        None => Destination { kind: slot.kind, api, base_path: &slot.base_path, model, is_stream: false }
            .path(None),
    }
}

/// The path of the list of models, which stands beside that of the call; the clouds' does not.
fn list_path(slot: &Slot, api: Api) -> Option<String> {
    if slot.path(api).is_some() || slot.kind == Kind::Vertex {
        return None;
    }
    let path = path_of(slot, api);
    if api == Api::GenerateContent {
        return path.rfind("/models/").and_then(|at| path.get(..at + "/models".len())).map(str::to_owned);
    }
    let base =
        ["/chat/completions", "/messages", "/responses"].iter().find_map(|end| path.strip_suffix(end))?;
    Some(format!("{base}/models"))
}

/// The path and body of a message that may have one token of an answer.
fn message(slot: &Slot, api: Api) -> (String, Bytes) {
    let model = &*slot.target.model;
    let messages = json!([{"role": "user", "content": "."}]);
    let body = match api {
        Api::GenerateContent => json!({
            "contents": [{"role": "user", "parts": [{"text": "."}]}],
            "generationConfig": {"maxOutputTokens": 1},
        }),
        // The least that this call takes.
        Api::Responses => json!({"model": model, "input": ".", "max_output_tokens": 16, "store": false}),
        Api::Converse => json!({
            "messages": [{"role": "user", "content": [{"text": "."}]}],
            "inferenceConfig": {"maxTokens": 1},
        }),
        Api::OllamaChat => {
            json!({"model": model, "messages": messages, "stream": false, "options": {"num_predict": 1}})
        }
        Api::Generate => json!({"model": model, "prompt": ".", "max_tokens": 1, "stream": false}),
        Api::CohereChat
        | Api::ChatCompletions
        | Api::Completions
        | Api::Embeddings
        | Api::Messages
        | Api::CountTokens => json!({"model": model, "max_tokens": 1, "messages": messages}),
    };
    let body = Bytes::from(body.to_string());
    let body = Rewritten { len: body.len(), pieces: SmallVec::from_iter([body]) };
    let body = rewrite::for_publisher(slot.kind, api, body);
    (path_of(slot, api), Bytes::from(body.pieces.concat()))
}

async fn call(house: &House, slot: &Slot, api: Api, method: &str, path: &str, body: Bytes) -> Got {
    let limit = house.live().plan.provider(slot.target.provider).timeouts.connect;
    let connecting = slot.connect(&house.pools, &house.clock, limit, |_| true);
    let mut session = Box::pin(connecting).await.map_err(|fault| match fault {
        NoConnection::Dns => Outcome::Dns,
        NoConnection::Refused(fault) => outcome_of(&fault),
    })?;
    let head = head(slot, api, method, path, &body, matches!(*session, HttpSession::H2(_)));
    let lost = |fault: Box<pingora::Error>| outcome_of(&fault);
    session.write_request_header(Box::new(head.ok_or(Outcome::ClientError)?)).await.map_err(lost)?;
    if !body.is_empty() {
        session.write_request_body(body, true).await.map_err(lost)?;
    }
    session.finish_request_body().await.map_err(lost)?;
    loop {
        session.read_response_header().await.map_err(lost)?;
        let head = session.response_header().ok_or(Outcome::Reset)?;
        if !head.status.is_informational() {
            break;
        }
    }
    let head = session.response_header().ok_or(Outcome::Reset)?;
    let (status, headers) = (head.status.as_u16(), head.headers.clone());
    let mut answer = BytesMut::new();
    while answer.len() < ANSWER_MAX {
        // What is cut off behind the head does not matter here.
        let Ok(Some(piece)) = session.read_response_body().await else { break };
        answer.extend_from_slice(&piece);
    }
    session.shutdown().await;
    Ok((status, headers, answer.freeze()))
}

fn head(
    slot: &Slot,
    api: Api,
    method: &str,
    path: &str,
    body: &Bytes,
    is_http2: bool,
) -> Option<RequestHeader> {
    let mut head = RequestHeader::build(method, path.as_bytes(), Some(12)).ok()?;
    if is_http2 {
        let scheme = if slot.is_tls { "https" } else { "http" };
        let authority = slot.authority.to_str().ok()?;
        let uri =
            http::Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()?;
        head.set_uri(uri);
        head.set_version(Version::HTTP_2);
    } else {
        head.insert_header(header::HOST, slot.authority.clone()).ok()?;
    }
    head.insert_header(header::USER_AGENT, HeaderValue::from_static("pointsman")).ok()?;
    head.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")).ok()?;
    if method != "GET" {
        head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json")).ok()?;
        head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(body.len())).ok()?;
    }
    if api == Api::Messages {
        head.insert_header("anthropic-version", sign::DEFAULT_ANTHROPIC_VERSION).ok()?;
    }
    for (name, value) in &slot.extra {
        head.insert_header(name.clone(), value.clone()).ok()?;
    }
    for (name, value) in slot.keyring.current().headers() {
        head.append_header(name.clone(), value.clone()).ok()?;
    }
    Some(head)
}

/// What a fault of the connection means; the same words as in the log, by a shorter way.
fn outcome_of(fault: &pingora::Error) -> Outcome {
    use pingora::ErrorType as E;
    match fault.etype() {
        E::TLSHandshakeFailure | E::InvalidCert | E::TLSHandshakeTimedout | E::TLSWantX509Lookup => {
            Outcome::Tls
        }
        E::ConnectTimedout
        | E::ConnectRefused
        | E::ConnectNoRoute
        | E::ConnectError
        | E::HandshakeError
        | E::SocketError => Outcome::Connect,
        E::ReadTimedout | E::WriteTimedout => Outcome::TimeoutFirstContent,
        _ => Outcome::Reset,
    }
}

/// Says where the key of a slot is looked for, as the configuration has it.
fn place_of_key(plan: &Plan, slot: &Slot) -> String {
    let start = format!("providers.{}.credentials[{}].key", slot.provider, slot.credential);
    crate::config::changes::by_name(&plan.settings)
        .remove(&start)
        .map_or_else(|| format!("the credential {}/{}", slot.provider, slot.credential), |(place, _)| place)
}

/// What to do about it.
fn remedy(outcome: Outcome, slot: &Slot, place: &str) -> String {
    let host = slot.authority.to_str().unwrap_or("the provider");
    match outcome {
        Outcome::Auth => format!("the key is refused: put a good one where {place} reads it"),
        Outcome::Permission => {
            format!("the key of {place} may not do this: look at its rights at the provider")
        }
        Outcome::Quota => "the account has spent its quota: pay, or wait for the next window".to_owned(),
        Outcome::RateLimited => "too many requests just now; it works otherwise".to_owned(),
        Outcome::Region => format!("{host} does not serve this place: give base_url another region"),
        Outcome::ModelUnavailable => format!("{host} has no model {}: look at its name", slot.target.model),
        Outcome::Dns if slot.addresses.is_inside() => format!("{host}: {}", DnsFault::Inside),
        Outcome::Dns => format!("the name {host} cannot be resolved: look at base_url and the resolver"),
        Outcome::Connect => format!("nothing answers at {host}: look at base_url and the firewall"),
        Outcome::Tls => {
            format!("the certificate of {host} is not to be trusted: look at the clock and tls.ca")
        }
        Outcome::Overloaded | Outcome::ServerError => format!("{host} is in trouble itself; try again later"),
        Outcome::TimeoutFirstContent | Outcome::TimeoutStall | Outcome::TimeoutTotal => {
            format!("{host} did not answer in {} s", PATIENCE.as_secs())
        }
        Outcome::Ok
        | Outcome::TooLarge
        | Outcome::ClientError
        | Outcome::ContentFiltered
        | Outcome::ContextLength
        | Outcome::Reset
        | Outcome::Truncated
        | Outcome::BadBody
        | Outcome::InbandError
        | Outcome::ClientGone => {
            format!("{host} does not answer as its kind does: look at kind, base_url and paths")
        }
    }
}

/// Draws how far it is, over itself; nothing where nobody watches.
fn bar(done: usize, total: usize) {
    const WIDTH: usize = 30;
    let mut out = std::io::stderr();
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if is_dumb || !out.is_terminal() || total == 0 {
        return;
    }
    let full = WIDTH * done / total;
    let rest = if done == total { "\r\x1b[K".to_owned() } else { String::new() };
    let drawn = format!("\r[{}{}] {done} of {total} asked{rest}", "#".repeat(full), " ".repeat(WIDTH - full));
    // Nothing depends on the bar.
    let _ = out.write_all(drawn.as_bytes());
    let _ = out.flush();
}

/// Writes the findings as a table.
pub(super) fn table(findings: &[Finding], paint: Paint) -> Vec<String> {
    let mut table = Table::new(&["CREDENTIAL", "RESULT", "STATUS", "TOOK", "ASKED"], 4).with_state(1);
    for finding in findings {
        table.row([
            finding.credential.clone(),
            finding.fault.map_or("ok", Outcome::as_label).to_owned(),
            finding.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            format!("{} ms", finding.took.as_millis()),
            finding.asked.clone(),
        ]);
    }
    let mut lines = table.lines(paint);
    // A remedy that is cut is none.
    let told = findings.iter().filter(|finding| !finding.remedy.is_empty());
    lines.extend(told.map(|finding| format!("{}: {}", finding.credential, finding.remedy)));
    lines
}

/// Writes the findings as JSON.
pub(super) fn json(findings: &[Finding]) -> Value {
    let each = |f: &Finding| {
        json!({
            "credential": f.credential,
            "ok": f.fault.is_none(),
            "outcome": f.fault.map_or("ok", Outcome::as_label),
            "status": f.status,
            "took_ms": u64::try_from(f.took.as_millis()).unwrap_or(u64::MAX),
            "asked": f.asked,
            "remedy": f.remedy,
        })
    };
    findings.iter().map(each).collect()
}

/// All answer: done; some: warned; none: nothing usable.
pub(super) fn exit(findings: &[Finding]) -> Exit {
    // Too many requests at the moment is no fault of the configuration.
    let is_good = |f: &Finding| matches!(f.fault, None | Some(Outcome::RateLimited));
    match findings.iter().filter(|finding| is_good(finding)).count() {
        0 if !findings.is_empty() => Exit::Unavailable,
        good if good < findings.len() => Exit::Warned,
        _ => Exit::Done,
    }
}
