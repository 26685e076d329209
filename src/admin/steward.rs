//! The running program, as the admin plane sees it.
//!
//! Joins the generation in force, health and counters to the views that pages and the command line
//! read. Everything shown comes from the plan's names and closed enums; keys have no way in here.

use super::house::{Deed, House as View};
use super::token::{self, Left};
use super::usage;
use super::view::{ActFault, Counts, LastError, PinView, PinWish, TargetState, TargetView, Verb};
use crate::base::outcome::Outcome;
use crate::base::secret::Secret;
use crate::base::time::WallTime;
use crate::base::units::{format_duration, format_size};
use crate::config::changes::{self, Change};
use crate::config::credential::Login;
use crate::config::plan::{Listen, Plan, Route};
use crate::health::breaker::BreakerState;
use crate::health::{Operation, Resting, Scope, Stance};
use crate::live::pins::{self, Pin};
use crate::live::{House, Live, Slot};
use crate::observe::audit;
use crate::observe::decisions::question::{Question, Unexplained};
use crate::observe::decisions::{Decision, Decisions};
use crate::observe::events::{Event, ListenFault, Listener, Told};
use crate::observe::lines::TargetStateLine;
use crate::observe::rfc3339;
use crate::reload::{Reloaded, Reloader};
use crate::resolve::DnsFault;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// Says where a request would go: the data plane's own choice, which this room cannot call itself.
pub type Explainer = fn(&House, &Question) -> Result<Decision, Unexplained>;

/// Where a process was bound, with the ports that the system chose.
pub struct Doors {
    /// The data plane's, in the order of `listen`.
    pub data: Vec<Listen>,
    /// The admin plane's, where that is known.
    pub admin: Option<SocketAddr>,
    /// Whether another process at these addresses makes way for this one.
    pub takes_over: bool,
}

/// The steward of a house.
pub struct Steward {
    house: Arc<House>,
    reloader: Arc<Reloader>,
    explainer: Explainer,
    /// Made at start where none is configured.
    own_token: Option<Left>,
    /// Where the data plane was bound.
    data: Vec<Listen>,
    is_exposed: bool,
    version: &'static str,
}

impl Steward {
    /// Makes the steward; where the plan has no token, one is made and written into the runtime
    /// directory for the command line to find.
    #[must_use]
    pub fn new(
        house: Arc<House>,
        reloader: Arc<Reloader>,
        plan: &Plan,
        doors: Doors,
        explainer: Explainer,
    ) -> Arc<Self> {
        let Doors { data, admin, takes_over } = doors;
        let admin = admin.unwrap_or(plan.admin.address);
        let own_token = if plan.admin.token.is_none() { token::leave(admin, takes_over) } else { None };
        Arc::new(Steward {
            house,
            reloader,
            explainer,
            own_token,
            data,
            is_exposed: !plan.admin.address.ip().is_loopback(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    fn view(&self, live: &Live, slot: &Slot) -> TargetView {
        let now = self.house.clock.now();
        let resting = slot.health.look(now.tick, &live.policy).err();
        let standing = slot.state(now.tick, &live.policy);
        let until = resting.and_then(Resting::until);
        let counts = slot.tally.read();
        let endpoint = live.plan.endpoints.get(slot.target.endpoint.at());
        TargetView {
            id: slot.target.id.to_string(),
            provider: slot.provider.to_string(),
            credential: slot.credential.to_string(),
            model: slot.target.model.to_string(),
            endpoint: endpoint.map(|e| e.name.to_string()).unwrap_or_default(),
            routes: routes_of(live, slot),
            state: state_of(resting, standing.breaker),
            reason: resting.map(|r| r.reason().map_or(r.as_label(), Outcome::as_label).to_owned()),
            until: until.map(|until| rfc3339(now.wall_of(until))),
            retry_in_s: until.map(|until| until.left(now.tick).as_secs_f64()),
            breaker: standing.breaker.as_label(),
            pinned: self
                .house
                .pins
                .of(&slot.target.id, now.tick)
                .iter()
                .map(|pin| PinView {
                    route: pin.route.to_string(),
                    until: pin.until.map(|until| rfc3339(now.wall_of(until))),
                })
                .collect(),
            in_flight: counts.in_flight,
            last_error: counts.last_fault.map(|(at, outcome, status)| LastError {
                outcome: outcome.as_label(),
                status,
                at: rfc3339(at),
                detail: (outcome == Outcome::Dns && slot.addresses.is_inside())
                    .then(|| DnsFault::Inside.to_string()),
            }),
            counts: Counts {
                attempts: counts.ok + counts.failed,
                ok: counts.ok,
                failed: counts.failed,
                average_ms: counts.ok_time.as_secs_f64() * 1000.0
                    / f64::from(u32::try_from(counts.ok.max(1)).unwrap_or(u32::MAX)),
            },
        }
    }

    /// Says in one word how a target stands.
    fn state_word(&self, live: &Live, slot: &Slot) -> &'static str {
        let now = self.house.clock.tick();
        let resting = slot.health.look(now, &live.policy).err();
        Stance::of(resting, slot.breaker(now, &live.policy)).as_label()
    }

    /// Finds who is asked instead of a target that is not asked any more: the first that may be asked of
    /// the first route that names it.
    fn next_of(&self, live: &Live, slot: &Slot) -> Option<String> {
        let now = self.house.clock.tick();
        let may_be_asked = |slot: &Slot| slot.health.look(now, &live.policy).is_ok();
        if may_be_asked(slot) {
            return None;
        }
        let is_named = |route: &&Route| pins::names(&live.plan, route, &slot.target.id);
        let route = live.plan.routes.iter().find(is_named)?;
        let mut targets = route.groups.iter().flat_map(|g| &g.entries).flat_map(|e| &e.targets);
        let next = targets.find_map(|at| live.slot(*at).filter(|other| may_be_asked(other)))?;
        Some(next.target.id.to_string())
    }

    fn tell_change(&self, live: &Live, slot: &Slot, from: &'static str, to: &'static str) {
        if from == to {
            return;
        }
        let at = self.house.clock.wall();
        let (target, reason) = (slot.target.id.as_str(), "operator");
        let next = self.next_of(live, slot);
        self.house.log.target_state(&TargetStateLine {
            at,
            target,
            scope: Scope::Target.as_label(),
            from,
            to,
            reason,
            until: None,
            next: next.as_deref(),
        });
        let target = target.to_owned();
        let scope = Scope::Target.as_label();
        let event = Event::TargetState { target, scope, from, to, reason, until: None, next };
        self.house.events.tell(at, event);
    }

    fn tell_deed(&self, slot: &Slot, verb: Verb, routes: Vec<String>, until: Option<String>) {
        let (target, verb) = (slot.target.id.to_string(), verb.as_label());
        tracing::info!(target = target, verb, "operator");
        self.house.events.tell(self.house.clock.wall(), Event::Operator { verb, target, routes, until });
    }

    fn route_views(&self, live: &Live) -> Vec<Value> {
        let now = self.house.clock.tick();
        let usable = |slot: &&Arc<Slot>| slot.health.look(now, &live.policy).is_ok();
        live.plan
            .routes
            .iter()
            .map(|route| {
                let targets: Vec<_> = route
                    .groups
                    .iter()
                    .flat_map(|group| &group.entries)
                    .flat_map(|entry| &entry.targets)
                    .filter_map(|target| live.slot(*target))
                    .collect();
                let pinned = self.house.pins.first(&route.name, now);
                let first = pinned.as_ref().and_then(|id| targets.iter().find(|s| s.target.id == *id));
                let mut in_turn = first.into_iter().chain(&targets).copied();
                let in_use = in_turn.find(usable).map(|slot| slot.target.id.as_str());
                let first = targets.first().filter(|first| in_use != Some(first.target.id.as_str()));
                let is_pinned = pinned.as_ref().is_some_and(|id| in_use == Some(id.as_str()));
                let reason = first.and_then(|first| match first.health.look(now, &live.policy) {
                    _ if is_pinned => Some("pinned"),
                    Err(resting) => Some(resting.reason().map_or(resting.as_label(), Outcome::as_label)),
                    Ok(()) => None,
                });
                json!({
                    "name": &*route.name,
                    "implicit": route.is_implicit,
                    "target": in_use,
                    "reason": reason,
                    "pinned": pinned.as_ref().map(crate::base::ids::TargetId::as_str),
                    "targets": targets.iter().map(|slot| slot.target.id.as_str()).collect::<Vec<_>>(),
                })
            })
            .collect()
    }
}

#[async_trait]
impl View for Steward {
    fn metrics(&self) -> Vec<u8> {
        self.house.refresh_gauges();
        self.house.metrics.render()
    }

    fn is_ready(&self) -> Result<(), String> {
        if self.house.is_draining() { Err("draining".to_owned()) } else { Ok(()) }
    }

    fn status(&self) -> Value {
        let live = self.house.live();
        let explicit: Vec<_> =
            self.route_views(&live).into_iter().filter(|route| route["implicit"] == false).collect();
        json!({
            "version": self.version,
            "generation": live.generation,
            "ready": self.is_ready().is_ok(),
            "draining": self.house.is_draining(),
            "in_flight": self.house.under_way(),
            "uptime_s": self.house.clock.tick().0 / 1_000_000,
            "needs_restart": self.reloader.needs_restart(),
            "routes": explicit,
            "targets": self.targets(),
        })
    }

    fn targets(&self) -> Vec<TargetView> {
        let live = self.house.live();
        live.slots.iter().map(|slot| self.view(&live, slot)).collect()
    }

    fn routes(&self) -> Value {
        json!({ "routes": self.route_views(&self.house.live()) })
    }

    fn config(&self) -> Value {
        let live = self.house.live();
        let mut page = shown(&live.plan, live.generation);
        page["needs_restart"] = json!(self.reloader.needs_restart());
        page["bound"] = listeners(&self.data);
        page
    }

    fn decisions(&self) -> &Decisions {
        &self.house.decisions
    }

    fn explain(&self, question: &Question) -> Result<Value, Unexplained> {
        (self.explainer)(&self.house, question).map(|decision| decision.page())
    }

    fn wall(&self) -> WallTime {
        self.house.clock.wall()
    }

    async fn reload(&self) -> Result<Value, Vec<String>> {
        self.reloader.reload().await.map(|reloaded| told(&reloaded))
    }

    async fn restore(&self) -> Result<Value, Vec<String>> {
        self.reloader.restore().await.map(|reloaded| told(&reloaded))
    }

    fn act(&self, target: &str, verb: Verb) -> Result<TargetView, ActFault> {
        let live = self.house.live();
        let slot = slot_of(&live, target)?;
        let before = self.state_word(&live, slot);
        match verb {
            Verb::Drain => slot.operate(Operation::Drained),
            Verb::Disable => slot.operate(Operation::Disabled),
            Verb::Ready => {
                slot.operate(Operation::Ready);
                self.house.pins.take(&slot.target.id);
            }
            Verb::Reset => slot.reset(),
            Verb::Pin => return self.pin(target, &PinWish::default()),
        }
        // The line below tells it, as the operator's.
        slot.health.target_was_told(self.house.clock.tick(), &live.policy);
        self.house.states_moved();
        self.tell_change(&live, slot, before, self.state_word(&live, slot));
        self.tell_deed(slot, verb, Vec::new(), None);
        Ok(self.view(&live, slot))
    }

    fn pin(&self, target: &str, wish: &PinWish) -> Result<TargetView, ActFault> {
        let live = self.house.live();
        let slot = slot_of(&live, target)?;
        let now = self.house.clock.now();
        if let Err(resting @ (Resting::Drained | Resting::Disabled)) =
            slot.health.look(now.tick, &live.policy)
        {
            let word = resting.as_label();
            return Err(ActFault::Refused(format!("the target is {word}; make it ready first")));
        }
        let is_meant = |route: &&Route| {
            wish.route.as_ref().is_none_or(|name| *name == *route.name)
                && pins::names(&live.plan, route, &slot.target.id)
        };
        let routes: Vec<Arc<str>> =
            live.plan.routes.iter().filter(is_meant).map(|route| Arc::clone(&route.name)).collect();
        if routes.is_empty() {
            let name = wish.route.as_deref().unwrap_or_default();
            return Err(ActFault::Refused(format!("route {name:?} does not name this target")));
        }
        let until = wish.span.map(|span| now.tick.after(span));
        for route in &routes {
            let (route, target) = (Arc::clone(route), slot.target.id.clone());
            self.house.pins.put(Pin { route, target, until });
        }
        let until = until.map(|until| rfc3339(now.wall_of(until)));
        self.tell_deed(slot, Verb::Pin, routes.iter().map(ToString::to_string).collect(), until);
        Ok(self.view(&live, slot))
    }

    fn events(&self, count: usize) -> Vec<Arc<Told>> {
        self.house.events.newest(count)
    }

    fn listen(&self, last_id: Option<&str>) -> Result<Listener, ListenFault> {
        self.house.events.listen(last_id)
    }

    fn wrote(&self, deed: &Deed<'_>) {
        let Deed { has_token, from, verb, target, status } = *deed;
        let at = self.house.clock.wall();
        self.house.audit.deed(&audit::Deed { at, has_token, from, verb, target, status });
    }

    fn usage(&self, query: Option<&str>) -> Result<Value, String> {
        usage::usage(&self.house, query)
    }

    fn report_usage(&self, body: &[u8]) -> Result<Value, Vec<String>> {
        usage::report(&self.house, body)
    }

    fn accounts(&self) -> Value {
        usage::accounts(&self.house)
    }

    fn token(&self) -> Option<Secret> {
        self.house
            .live()
            .plan
            .admin
            .token
            .clone()
            .or_else(|| self.own_token.as_ref().map(|left| left.token.clone()))
    }

    fn needs_token_to_read(&self) -> bool {
        self.is_exposed
    }
}

fn slot_of<'a>(live: &'a Live, target: &str) -> Result<&'a Arc<Slot>, ActFault> {
    live.slots.iter().find(|slot| slot.target.id.as_str() == target).ok_or(ActFault::UnknownTarget)
}

fn told(reloaded: &Reloaded) -> Value {
    let change = |c: &Change| json!({ "path": c.path, "was": c.was, "is": c.is, "text": c.to_string() });
    json!({
        "generation": reloaded.generation,
        "restored": reloaded.restored,
        "warnings": reloaded.warnings,
        "needs_restart": reloaded.needs_restart,
        "changes": reloaded.changes.iter().map(change).collect::<Vec<_>>(),
    })
}

/// What the configuration in force says, in the form in which two are compared.
fn settings_of(plan: &Plan) -> Value {
    let entry = |(path, (value, default)): (String, (String, String))| {
        (path, json!({ "value": value, "default": default }))
    };
    Value::Object(changes::by_name(&plan.settings).into_iter().map(entry).collect())
}

fn routes_of(live: &Live, slot: &Slot) -> Vec<String> {
    let names = live.plan.routes.iter().filter(|route| {
        let mut targets = route.groups.iter().flat_map(|g| &g.entries).flat_map(|e| &e.targets);
        targets.any(|target| live.plan.target(*target).id == slot.target.id)
    });
    names.map(|route| route.name.to_string()).collect()
}

pub(super) fn state_of(resting: Option<Resting>, breaker: BreakerState) -> TargetState {
    match Stance::of(resting, breaker) {
        Stance::Ready => TargetState::Ready,
        Stance::HalfOpen | Stance::Resting(Resting::Probing) => TargetState::HalfOpen,
        Stance::Resting(Resting::Cooling { reason: Outcome::Auth | Outcome::Permission, .. }) => {
            TargetState::AuthFailed
        }
        Stance::Resting(Resting::Cooling { reason: Outcome::Quota, .. }) => TargetState::QuotaSpent,
        Stance::Resting(Resting::Cooling { .. }) => TargetState::Cooling,
        Stance::Resting(Resting::Open { .. }) => TargetState::Open,
        Stance::Resting(Resting::Drained) => TargetState::Drained,
        Stance::Resting(Resting::Disabled) => TargetState::Disabled,
    }
}

/// The plan in force without anything secret.
fn shown(plan: &Plan, generation: u64) -> Value {
    let providers: Vec<_> = plan
        .providers
        .iter()
        .map(|provider| {
            let endpoint = plan.endpoints.get(provider.endpoint.at());
            let credentials: Vec<_> = provider
                .credentials
                .iter()
                .filter_map(|at| plan.credentials.get(at.at()))
                .map(|credential| {
                    json!({ "name": &*credential.name, "key": credential.key.as_ref().map(|_| "***"), "login": credential.login.as_ref().map(Login::as_label) })
                })
                .collect();
            json!({
                "name": &*provider.name,
                "kind": provider.kind.as_label(),
                "endpoint": endpoint.map(|e| &*e.name),
                "base_path": &*provider.base_path,
                "credentials": credentials,
            })
        })
        .collect();
    let routes: Vec<_> = plan
        .routes
        .iter()
        .filter(|route| !route.is_implicit)
        .map(|route| {
            let groups: Vec<_> = route
                .groups
                .iter()
                .map(|group| {
                    let targets: Vec<_> = group
                        .entries
                        .iter()
                        .flat_map(|entry| entry.targets.iter().map(|t| (entry.weight, plan.target(*t))))
                        .map(|(weight, target)| json!({ "target": target.id.as_str(), "weight": weight }))
                        .collect();
                    json!({ "priority": group.priority, "targets": targets })
                })
                .collect();
            json!({ "name": &*route.name, "groups": groups })
        })
        .collect();
    json!({
        "generation": generation,
        "settings": settings_of(plan),
        "threads": plan.threads,
        "grace": format_duration(plan.grace),
        "listen": listeners(&plan.listen),
        "admin": { "address": plan.admin.address.to_string(), "token": plan.admin.token.as_ref().map(|_| "***") },
        "clients": plan.clients.iter().map(|c| json!({ "name": &*c.name, "key": "***", "routes": c.routes, "limits": {
            "rpm": c.limits.rpm, "tpm": c.limits.tpm, "concurrency": c.limits.concurrency,
        } })).collect::<Vec<_>>(),
        "providers": providers,
        "routes": routes,
        "default_route": plan.default_route.map(|at| &*plan.route(at).name),
        "implicit_routes": plan.implicit_routes,
        "usage": { "time_zone": plan.usage.time_zone_name(), "keep_days": plan.usage.keep_days },
        "state": { "path": plan.state.as_ref().map(|path| path.display().to_string()) },
        "limits": {
            "max_body": format_size(plan.limits.max_body),
            "replay_memory": format_size(plan.limits.replay_memory),
            "max_header": format_size(plan.limits.max_header),
            "connections": plan.limits.connections,
            "connections_per_address": plan.limits.connections_per_address,
            "wrong_keys_per_minute": plan.limits.wrong_keys_per_minute,
            "in_flight": plan.limits.in_flight,
        },
    })
}

fn listeners(all: &[Listen]) -> Value {
    let each = |l: &Listen| json!({ "address": l.address.to_string(), "h2c": l.h2c, "tls": l.tls.is_some() });
    all.iter().map(each).collect()
}
