//! Which token proves us now?
//!
//! A [`Purse`] holds the token of one credential whose proof is fetched (`config::credential`). It
//! fetches the first one when it is tended or asked, renews it ahead of its end (`schedule`) and
//! hands out the old one meanwhile: a request waits only where there is no usable token at all.
//!
//! * One fetch at a time a credential, however many requests wait for it; all get what it brings.
//!   It runs in a task of its own, so that a client who leaves does not tear it: the refresh token
//!   of an OAuth login may be good for one use.
//! * A failed fetch is an `auth` fault of the credential, which then rests as after a rejected key.
//!   The purse tries again by itself, slower and slower, and ends that rest when it has a token.
//! * A token that the provider rejected is thrown away ([`Purse::reject`]), and the next is fetched.
//! * A purse lives as long as its login is configured, over reloads; a changed login is a new purse.
//!
//! Pure rooms inside: what is asked (`ask`), what an answer gives (`answer`), when to renew
//! (`schedule`), the shared files of AWS (`shared`). The rest is I/O.

mod answer;
mod ask;
mod client;
mod disk;
mod fetch;
mod jwt;
mod schedule;
mod shared;
mod store;

pub use answer::Proof;
pub use fetch::TokenFault;
pub use jwt::KeyFault;

use self::client::Client;
use self::fetch::Memory;
use self::jwt::Signer;
use self::schedule::{Schedule, again_after};
use crate::base::time::Tick;
use crate::clock::Clock;
use crate::config::BaseUrl;
use crate::config::credential::{AwsSource, Google, Login};
use crate::health::Unit;
use crate::observe::events::{Event, Events};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How long before its end a Copilot token is renewed (requirements B14).
const COPILOT_LEAD: Duration = Duration::from_secs(120);
/// How long before its end any other token is renewed, as AWS's and Google's own tools do.
const LEAD: Duration = Duration::from_secs(300);
/// Within this time of one rejected token a second one says that tokens are not what is wrong.
const REJECTION_GAP: Duration = Duration::from_secs(60);
/// How often AWS's shared files are read again: they are rewritten by hand and by tools.
const SHARED_LIFE: Duration = Duration::from_secs(300);

/// A token in force.
#[derive(Debug)]
pub struct Held {
    /// Counts up from token to token of one purse.
    pub serial: u64,
    /// What proves us.
    pub proof: Proof,
    /// The host to call, where the service names one.
    pub api: Option<BaseUrl>,
    schedule: Schedule,
}

/// The token of one credential.
pub struct Purse {
    name: String,
    login: Login,
    signer: Option<Signer>,
    clock: Clock,
    client: Client,
    /// The credential's health, whose rest a fetched token ends.
    unit: Arc<Unit>,
    events: Arc<Events>,
    held: ArcSwapOption<Held>,
    state: Mutex<State>,
    memory: tokio::sync::Mutex<Memory>,
}

#[derive(Default)]
struct State {
    /// The fetch under way.
    flight: Option<watch::Receiver<bool>>,
    /// The last fault, and when to try again.
    fault: Option<(TokenFault, Tick)>,
    failures: u32,
    serial: u64,
    is_tended: bool,
    /// The credential was reported to be without a token, so that it rests.
    was_missed: bool,
    /// When a token was rejected last.
    rejected: Option<Tick>,
}

impl Purse {
    /// Makes the purse of a credential, `name` being `provider/credential`. Fetches nothing yet.
    /// Beside the login stands what the file says of inner addresses (`deny_private_ips`).
    ///
    /// # Errors
    /// Where the private key of a service account cannot sign.
    pub fn new(
        name: String,
        (login, denies): (&Login, Option<bool>),
        clock: Clock,
        unit: Arc<Unit>,
        events: Arc<Events>,
    ) -> Result<Arc<Purse>, KeyFault> {
        let signer = match login {
            Login::Google(Google::ServiceAccount { private_key, key_id, .. }) => {
                Some(Signer::read(private_key, key_id.clone())?)
            }
            Login::Google(Google::Metadata { .. })
            | Login::Aws(_)
            | Login::Entra(_)
            | Login::Copilot(_)
            | Login::OAuth(_) => None,
        };
        let held = match login {
            Login::Aws(aws) => match aws.sources.as_slice() {
                [AwsSource::Keys(keys), ..] => {
                    let proof = Proof::Aws(keys.clone());
                    Some(Held { serial: 0, proof, api: None, schedule: Schedule::FOR_EVER })
                }
                _ => None,
            },
            Login::Entra(_) | Login::Google(_) | Login::Copilot(_) | Login::OAuth(_) => None,
        };
        Ok(Arc::new(Purse {
            name,
            login: login.clone(),
            signer,
            clock,
            client: Client::new(denies),
            unit,
            events,
            held: ArcSwapOption::from_pointee(held),
            state: Mutex::default(),
            memory: tokio::sync::Mutex::default(),
        }))
    }

    /// Returns what the file says of inner addresses behind the names of its services.
    #[must_use]
    pub fn denies(&self) -> Option<bool> {
        self.client.denies()
    }

    /// Returns the login that it was made for.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Returns the token where there is a usable one, and has it renewed where that is due. Must be
    /// called inside a runtime.
    #[must_use]
    pub fn look(self: &Arc<Self>, now: Tick) -> Option<Arc<Held>> {
        let held = self.held.load_full().filter(|held| now < held.schedule.usable_until)?;
        if held.schedule.renew_at <= now && self.rests_until(now).is_none() {
            drop(self.flight());
        }
        Some(held)
    }

    /// Returns the token, waiting at most `patience` for one that must be fetched first.
    ///
    /// # Errors
    /// Where it could not be fetched, or not in time.
    pub async fn take(self: &Arc<Self>, patience: Duration) -> Result<Arc<Held>, TokenFault> {
        let now = self.clock.tick();
        if let Some(held) = self.look(now) {
            return Ok(held);
        }
        if self.rests_until(now).is_none() {
            let mut landing = self.flight();
            // Late, landed or torn: what there is now is what counts.
            let _ = tokio::time::timeout(patience, landing.wait_for(|landed| *landed)).await;
        }
        if let Some(held) = self.look(self.clock.tick()) {
            return Ok(held);
        }
        let state = self.state.lock();
        Err(state.fault.as_ref().map_or(TokenFault::Pending, |(fault, _)| fault.clone()))
    }

    /// Notes that the credential was reported to be without a token, and rests: the next one ends
    /// that. One that landed while that was being reported ends it now.
    pub fn missed(&self) {
        let now = self.clock.tick();
        // A fetch puts its token down behind this lock.
        let mut state = self.state.lock();
        state.was_missed = self.held.load().as_ref().is_none_or(|held| now >= held.schedule.usable_until);
        if !state.was_missed {
            self.unit.key_changed();
        }
    }

    /// Throws away a token that the provider rejected; tells whether another is worth trying: not
    /// where the last one was rejected a moment ago.
    #[must_use]
    pub fn reject(&self, serial: u64) -> bool {
        let Some(held) = self.held.load_full().filter(|held| held.serial == serial) else { return true };
        if held.schedule == Schedule::FOR_EVER {
            return false;
        }
        self.throw_away(&held);
        let now = self.clock.tick();
        let before = self.state.lock().rejected.replace(now);
        before.is_none_or(|before| now.since(before) >= REJECTION_GAP)
    }

    /// Gives up this token, and none that was fetched meanwhile.
    fn throw_away(&self, held: &Arc<Held>) {
        self.held.compare_and_swap(held, None);
    }

    /// Sees to it that a token is there and stays fresh, from now on and without being asked. Must
    /// be called inside a runtime.
    pub fn tend(self: &Arc<Self>) {
        let is_lasting = self.held.load().as_ref().is_some_and(|held| held.schedule == Schedule::FOR_EVER);
        if is_lasting || std::mem::replace(&mut self.state.lock().is_tended, true) {
            return;
        }
        tokio::spawn(keep_fresh(Tending(Arc::downgrade(self))));
    }

    /// Returns when a failed fetch may be repeated, where that is not yet.
    fn rests_until(&self, now: Tick) -> Option<Tick> {
        self.state.lock().fault.as_ref().map(|(_, again)| *again).filter(|again| *again > now)
    }

    /// Returns when the next fetch is due.
    fn due(&self) -> Tick {
        if let Some((_, again)) = &self.state.lock().fault {
            return *again;
        }
        self.held.load().as_ref().map_or(Tick::default(), |held| held.schedule.renew_at)
    }

    /// Joins the fetch under way, or starts one; true when it has landed.
    fn flight(self: &Arc<Self>) -> watch::Receiver<bool> {
        let mut state = self.state.lock();
        // A fetch whose runtime ended has dropped its end of the channel.
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return flight.clone();
        }
        let (landed, flight) = watch::channel(false);
        state.flight = Some(flight.clone());
        let purse = Arc::clone(self);
        tokio::spawn(async move {
            purse.fetch().await;
            purse.state.lock().flight = None;
            let _ = landed.send(true);
            purse.tend();
        });
        flight
    }

    async fn fetch(&self) {
        let wall = self.clock.wall();
        let mut memory = self.memory.lock().await;
        let fetched = fetch::fetch(&self.login, self.signer.as_ref(), &mut memory, &self.client, wall).await;
        let now = self.clock.tick();
        let mut state = self.state.lock();
        match fetched {
            Ok(grant) => {
                state.serial += 1;
                state.failures = 0;
                state.fault = None;
                let (life, lead) = self.life(grant.life);
                let schedule = Schedule::new(now, life, grant.refresh_in, lead);
                let held = Held { serial: state.serial, proof: grant.proof, api: grant.api, schedule };
                self.held.store(Some(Arc::new(held)));
                if std::mem::take(&mut state.was_missed) {
                    self.unit.key_changed();
                }
                tracing::debug!(credential = self.name, serial = state.serial, "token fetched");
                self.events.tell(wall, Event::CredentialRefreshed { credential: self.name.clone() });
            }
            Err(fault) => {
                state.failures = state.failures.saturating_add(1);
                let wait = again_after(state.failures, fault.is_refusal());
                let has_old = self.held.load().as_ref().is_some_and(|held| now < held.schedule.usable_until);
                tracing::warn!(credential = self.name, login = self.login.as_label(), %fault, has_old,
                    again_s = wait.as_secs(), "no new token");
                let (credential, reason) = (self.name.clone(), fault.to_string());
                self.events.tell(wall, Event::CredentialFailed { credential, reason, has_old });
                state.fault = Some((fault, now.after(wait)));
            }
        }
    }

    /// Returns a token's life, where the service told none or the login has its own, and how far
    /// ahead it is renewed.
    fn life(&self, told: Option<Duration>) -> (Option<Duration>, Duration) {
        match &self.login {
            Login::Copilot(_) => (told, COPILOT_LEAD),
            // Files without an end are read again every few minutes.
            Login::Aws(_) => (told.or(Some(SHARED_LIFE)), LEAD),
            Login::Entra(_) | Login::Google(_) | Login::OAuth(_) => (told, LEAD),
        }
    }
}

/// The task that keeps a purse fresh; when it ends, with its runtime or otherwise, another may begin.
struct Tending(Weak<Purse>);

impl Drop for Tending {
    fn drop(&mut self) {
        if let Some(purse) = self.0.upgrade() {
            purse.state.lock().is_tended = false;
        }
    }
}

/// Fetches whenever it is due, until the purse is gone.
async fn keep_fresh(tending: Tending) {
    loop {
        let Some((due, clock)) = tending.0.upgrade().map(|purse| (purse.due(), purse.clock)) else { return };
        tokio::time::sleep_until(clock.instant(due).into()).await;
        let Some(purse) = tending.0.upgrade() else { return };
        if purse.due() <= clock.tick() {
            let mut landing = purse.flight();
            drop(purse);
            let _ = landing.wait_for(|landed| *landed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::outcome::Outcome;
    use crate::base::secret::Secret;
    use crate::config::credential::{OAuth, ServiceUrl};
    use crate::config::plan::{BreakerPolicy, CooldownPolicy};
    use crate::health::{Permit, Policy, Report, Units};
    use crate::wire::retry_hint::RetryHint;

    struct Scene {
        purse: Arc<Purse>,
        units: Units,
        policy: Policy,
    }

    fn scene() -> Scene {
        let clock = Clock::new();
        let unit = Arc::<Unit>::default();
        let login = Login::OAuth(OAuth {
            token_url: ServiceUrl::parse("https://id.example/token", false).unwrap(),
            client_id: "us".to_owned(),
            client_secret: None,
            refresh_token: Secret::new("refresh".to_owned()),
            scope: None,
            store: None,
        });
        let events = Events::new(clock.wall());
        let purse = Purse::new("one/k".to_owned(), (&login, None), clock, Arc::clone(&unit), events).unwrap();
        let units = Units {
            target: Arc::default(),
            credential: unit,
            endpoint: Arc::default(),
            siblings: Arc::from([]),
        };
        let policy = Policy { breaker: BreakerPolicy::default(), cooldown: CooldownPolicy::default() };
        Scene { purse, units, policy }
    }

    impl Scene {
        fn token(&self, serial: u64) -> Arc<Held> {
            let now = self.purse.clock.tick();
            let schedule = Schedule::new(now, None, None, LEAD);
            let proof = Proof::Bearer(Secret::new("token".to_owned()));
            Arc::new(Held { serial, proof, api: None, schedule })
        }

        fn report(&self) {
            let now = self.purse.clock.tick();
            let report = Report {
                outcome: Outcome::Auth,
                hint: RetryHint::None,
                account_wide: true,
                is_permanent: false,
                began: now,
            };
            self.units.report(Permit::default(), &report, now, &self.policy, 20);
        }

        fn rests(&self) -> bool {
            self.units.look(self.purse.clock.tick(), &self.policy).is_err()
        }
    }

    #[test]
    fn a_token_that_lands_while_its_want_is_reported_ends_the_rest() {
        let scene = scene();
        scene.purse.held.store(Some(scene.token(1)));
        scene.report();
        assert!(scene.rests());
        scene.purse.missed();
        assert!(!scene.rests());
        assert!(!scene.purse.state.lock().was_missed);
    }

    #[test]
    fn without_a_token_the_rest_waits_for_the_next_one() {
        let scene = scene();
        scene.report();
        scene.purse.missed();
        assert!(scene.rests() && scene.purse.state.lock().was_missed);
    }

    #[test]
    fn a_token_that_was_fetched_meanwhile_is_not_thrown_away_with_the_one_before() {
        let scene = scene();
        let (old, new) = (scene.token(1), scene.token(2));
        scene.purse.held.store(Some(Arc::clone(&new)));
        scene.purse.throw_away(&old);
        assert!(scene.purse.held.load().as_ref().is_some_and(|held| held.serial == 2));
        scene.purse.throw_away(&new);
        assert!(scene.purse.held.load().is_none());
    }
}
