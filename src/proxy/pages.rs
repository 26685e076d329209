//! What does this proxy say of itself to clients?
//!
//! Whether it can serve at all, and what it serves: the routes that the caller may use, in the shape of
//! the list that its SDK knows. None of it is counted or logged as a request.

use super::refusal::refuse;
use super::reply;
use super::service::client_may_use;
use super::story::Story;
use crate::base::api::ErrorShape;
use crate::base::outcome::ErrorCode;
use crate::config::plan::Plan;
use crate::live::{House, Live, Slot};
use pingora::protocols::http::ServerSession as Session;
use serde_json::json;
use std::sync::Arc;

/// Tells whether routes are up.
pub(super) async fn health(
    house: &House,
    session: &mut Session,
    story: &mut Story,
    live: &Live,
) -> pingora::Result<bool> {
    story.keep_quiet();
    let now = house.clock.tick();
    let usable = |slot: &Arc<Slot>| slot.health.look(now, &live.policy).is_ok();
    let routes = live.plan.routes.iter().filter(|route| !route.is_implicit);
    let mut any_down = false;
    let mut all_down = true;
    for route in routes {
        let mut targets = route
            .groups
            .iter()
            .flat_map(|g| &g.entries)
            .flat_map(|e| &e.targets)
            .filter_map(|t| live.slot(*t));
        let is_up = targets.any(usable);
        any_down |= !is_up;
        all_down &= !is_up;
    }
    let has_routes = live.plan.routes.iter().any(|route| !route.is_implicit);
    let all_slots_down = !live.slots.is_empty() && !live.slots.iter().any(usable);
    let any_slot_down = live.slots.iter().any(|slot| !usable(slot));
    let is_down = if has_routes { all_down } else { all_slots_down };
    let (status, word) = match (is_down, any_down || any_slot_down) {
        (true, _) => (503, "down"),
        (false, true) => (200, "degraded"),
        (false, false) => (200, "up"),
    };
    reply::page(session, story, status, json!({ "status": word }).to_string().into_bytes()).await?;
    Ok(true)
}

/// One entry of the model list. The shape of OpenAI's and Anthropic's SDKs is one, so that a client
/// that shows neither dialect in its headers can read it too.
fn listed(shape: ErrorShape, name: &str) -> serde_json::Value {
    if shape == ErrorShape::Google {
        return json!({
            "name": format!("models/{name}"),
            "version": "1",
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        });
    }
    json!({
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "pointsman",
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
    })
}

fn listed_routes<'a>(story: &'a Story, plan: &'a Plan) -> impl Iterator<Item = &'a str> {
    plan.routes.iter().map(|route| &*route.name).filter(move |name| client_may_use(story, plan, name))
}

/// Lists what is served.
pub(super) async fn models(
    session: &mut Session,
    story: &mut Story,
    live: &Live,
    shape: ErrorShape,
) -> pingora::Result<bool> {
    let data: Vec<_> = listed_routes(story, &live.plan).map(|name| listed(shape, name)).collect();
    let edge = |at: Option<&serde_json::Value>| at.and_then(|v| v.get("id")).cloned();
    let page = match shape {
        ErrorShape::Google => json!({ "models": data }),
        ErrorShape::OpenAi | ErrorShape::Anthropic => json!({
            "object": "list",
            "first_id": edge(data.first()),
            "last_id": edge(data.last()),
            "has_more": false,
            "data": data,
        }),
    };
    reply::page(session, story, 200, page.to_string().into_bytes()).await?;
    Ok(true)
}

/// Tells of one of it.
pub(super) async fn model(
    session: &mut Session,
    story: &mut Story,
    live: &Live,
    shape: ErrorShape,
    id: &str,
) -> pingora::Result<bool> {
    if listed_routes(story, &live.plan).any(|name| name == id) {
        reply::page(session, story, 200, listed(shape, id).to_string().into_bytes()).await?;
        return Ok(true);
    }
    let message = "no such model; GET /v1/models lists what is served";
    refuse(session, story, shape, 404, ErrorCode::ModelNotFound, message).await
}
