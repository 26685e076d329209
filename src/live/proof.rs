//! How does a slot get the token that is in force?
//!
//! [`Slot::prove`] makes of a slot without headers one with them, and keeps it until the next token:
//! a request pays for a token once in its life, and everything behind it (head, echo guard, peer)
//! finds what it needs where it always is. Slots with a plain key never come here.
//!
//! Where the token service names the host to call (Copilot), the proved slot stands for that host.

use super::Slot;
use super::keyring::{Keyring, Signature};
use crate::config::BaseUrl;
use crate::config::credential::{AwsKeys, Login};
use crate::resolve::Addresses;
use crate::sign::SignFault;
use crate::tokens::{Held, Proof, Purse, TokenFault};
use arc_swap::ArcSwapOption;
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;

/// How long a request waits for a token that must be fetched first, on top of the time that it may
/// take to connect.
const TOKEN_PATIENCE: Duration = Duration::from_secs(3);
/// Keys and scope of signatures for AWS.
#[derive(Clone, Debug)]
pub struct Signing {
    /// The keys.
    pub keys: AwsKeys,
    /// Region, such as `us-east-1`.
    pub region: Arc<str>,
    /// Service, such as `bedrock`.
    pub service: Arc<str>,
}

impl Slot {
    /// Returns this slot with the headers of the token in force, waiting for one where there is
    /// none. Only for slots with a purse; others prove themselves already.
    ///
    /// # Errors
    /// Where no token could be had in time.
    pub async fn prove(self: &Arc<Self>) -> Result<Arc<Slot>, TokenFault> {
        let Some(purse) = &self.purse else { return Ok(Arc::clone(self)) };
        let held = purse.take(self.template.connect.saturating_add(TOKEN_PATIENCE)).await?;
        if self.serial == Some(held.serial) {
            return Ok(Arc::clone(self));
        }
        if let Some(proved) = self.proved.load_full().filter(|proved| proved.serial == Some(held.serial)) {
            return Ok(proved);
        }
        let proved = Arc::new(self.proved_by(&held, purse)?);
        self.proved.store(Some(Arc::clone(&proved)));
        Ok(proved)
    }

    /// Returns this slot as it was last proved, or itself; asks nobody.
    #[must_use]
    pub(super) fn in_force(self: &Arc<Self>) -> Arc<Slot> {
        self.proved.load_full().unwrap_or_else(|| Arc::clone(self))
    }

    /// Tells whether requests are signed as a whole, with their body.
    #[must_use]
    pub fn signs_requests(&self) -> bool {
        self.purse.as_ref().is_some_and(|purse| matches!(purse.login(), Login::Aws(_)))
    }

    fn proved_by(&self, held: &Held, purse: &Arc<Purse>) -> Result<Slot, TokenFault> {
        let signature = match (&held.proof, purse.login()) {
            (Proof::Bearer(token), login) => Signature::of_token(token, matches!(login, Login::Copilot(_)))?,
            (Proof::Aws(keys), Login::Aws(aws)) => {
                let (region, service) = (Arc::clone(&aws.region), Arc::clone(&aws.service));
                Signature::of_signing(Signing { keys: keys.clone(), region, service })
            }
            (Proof::Aws(_), Login::Entra(_) | Login::Google(_) | Login::Copilot(_) | Login::OAuth(_)) => {
                return Err(TokenFault::Unsendable(SignFault::NotSignable));
            }
        };
        let keyring = self.keyring.with_token(signature, Arc::clone(purse), held.serial);
        let mut slot = self.with_keyring(keyring, held.serial);
        if let Some(api) = &held.api {
            slot.move_to(api)?;
        }
        Ok(slot)
    }

    /// The same target with another proof.
    fn with_keyring(&self, keyring: Arc<Keyring>, serial: u64) -> Slot {
        Slot {
            target: self.target.clone(),
            provider: Arc::clone(&self.provider),
            credential: Arc::clone(&self.credential),
            provider_header: self.provider_header.clone(),
            model_header: self.model_header.clone(),
            kind: self.kind,
            base_path: Arc::clone(&self.base_path),
            paths: self.paths.clone(),
            authority: self.authority.clone(),
            is_tls: self.is_tls,
            may_lead_back: self.may_lead_back,
            keyring,
            purse: self.purse.clone(),
            extra: self.extra.clone(),
            health: Arc::clone(&self.health),
            meter: Arc::clone(&self.meter),
            tally: Arc::clone(&self.tally),
            addresses: Arc::clone(&self.addresses),
            peer: self.peer.clone(),
            template: self.template.clone(),
            way: self.way.clone(),
            serial: Some(serial),
            proved: ArcSwapOption::empty(),
        }
    }

    /// Points the slot at the host that a token service named. Faults of that host count at the
    /// endpoint that is configured.
    fn move_to(&mut self, api: &BaseUrl) -> Result<(), TokenFault> {
        let authority = HeaderValue::from_str(&api.authority())
            .map_err(|_| TokenFault::Unsendable(SignFault::NotAHeaderValue))?;
        self.base_path = api.path.as_str().into();
        if authority == self.authority && api.tls == self.is_tls {
            return Ok(());
        }
        self.authority = authority;
        self.is_tls = api.tls;
        let denies = self.purse.as_ref().and_then(|purse| purse.denies());
        self.addresses = Arc::new(Addresses::at(&api.host, api.port, api.reach(denies)));
        self.template.host = api.host.as_str().into();
        self.template.is_tls = api.tls;
        self.template.verify |= !api.is_loopback();
        self.peer = self.addresses.literal().map(|address| Arc::new(self.template.at(address)));
        self.way = self.template.way(&self.addresses);
        Ok(())
    }
}
