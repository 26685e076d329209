//! Which key does a credential send, and what if the provider no longer takes it?
//!
//! A key that stands in a file (`{file: …}`, `{credential: …}`) may be another one by the time the
//! provider refuses the old one: tokens are rotated by writing the file anew. So a refusal is
//! reason for one look at the file, and where it holds another key the request goes to the same
//! target once more (failure table, row 13). Variables cannot change, commands are run by reloads
//! only: they may take ten seconds, and a provider's word must not make us start programs.
//!
//! One look serves all requests that wait for it, it runs on a thread for blocking work, and
//! nobody waits longer than [`LONGEST_LOOK`]. The first refusal in a generation always reads the
//! file, for nobody knows in which state it was read; from then on only a file that changed is
//! read. What cannot be read or sent leaves the old key in force.
//!
//! A token that was fetched has a keyring of its own ([`Keyring::with_token`]): refused, it is thrown
//! away, and its purse fetches the next.
//!
//! The new key serves this generation: a reload reads its own. Former keys are remembered, since a
//! provider may still quote them in an error.

use super::{House, LiveProblem, Signing};
use crate::base::api::Kind;
use crate::base::outcome::Outcome;
use crate::base::secret::Secret;
use crate::base::time::Tick;
use crate::clock::Clock;
use crate::config::SecretRef;
use crate::config::plan::Proof;
use crate::health::{Policy, Resting, Unit};
use crate::observe::events::{Event, Events};
use crate::secrets::{self, Stamp};
use crate::sign::{self, SignFault};
use crate::tokens::Purse;
use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

/// How long a request waits for a look; a file on a server that is away can take for ever.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// Keys that are remembered, the one in force among them.
const REMEMBERED: usize = 4;

/// What proves us to a provider at a time.
#[derive(Debug, Default)]
pub struct Signature {
    /// The key in force first, then former ones; empty where the provider wants none.
    keys: SmallVec<[Secret; 2]>,
    /// Headers that prove us, marked sensitive.
    headers: sign::Signed,
    /// What the whole request is signed with, instead of headers.
    signing: Option<Signing>,
}

impl Signature {
    fn of(kind: Kind, proof: &Proof, key: &Secret) -> Result<Self, SignFault> {
        let headers = sign::as_told(proof, kind, key)?;
        Ok(Signature { keys: SmallVec::from_iter([key.clone()]), headers, signing: None })
    }

    /// Carries a token that was fetched.
    pub(super) fn of_token(token: &Secret, is_copilot: bool) -> Result<Self, SignFault> {
        let headers = sign::token_headers(token, is_copilot)?;
        Ok(Signature { keys: SmallVec::from_iter([token.clone()]), headers, signing: None })
    }

    /// Signs whole requests. Of what it holds only a session's token is sent.
    pub(super) fn of_signing(signing: Signing) -> Self {
        let keys = signing.keys.session_token.iter().cloned().collect();
        Signature { keys, headers: sign::Signed::new(), signing: Some(signing) }
    }

    /// Returns what the whole request is to be signed with, where headers alone are no proof.
    #[must_use]
    pub fn signing(&self) -> Option<&Signing> {
        self.signing.as_ref()
    }

    /// Returns the headers to send.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Returns the keys that the provider may quote: the one in force and former ones.
    #[must_use]
    pub fn keys(&self) -> &[Secret] {
        &self.keys
    }
}

/// The key of one credential in one generation.
pub struct Keyring {
    /// `provider/credential`, for the log.
    name: Arc<str>,
    kind: Kind,
    /// How the provider wants to be proved to.
    proof: Proof,
    place: Option<SecretRef>,
    current: ArcSwap<Signature>,
    /// Ends the credential's rests where its key changes.
    unit: Arc<Unit>,
    looks: AtomicU64,
    /// Whether the file could not be used when it was last looked at.
    is_fileless: AtomicBool,
    /// In which state the file was read; whoever looks holds it.
    known: Arc<Mutex<Option<Stamp>>>,
    /// In which state the file is not what is wanted: it holds what was gone back from.
    left: Option<Stamp>,
    /// Where the next token comes from, and which one this is, where it was fetched.
    token: Option<(Arc<Purse>, u64)>,
    /// Where it is told that the key is another, and the clock for that.
    told: (Arc<Events>, Clock),
}

impl Keyring {
    /// Makes the keyring of a credential. `place` is where its key can be read again, `left` the state of
    /// its file that was gone back from.
    ///
    /// # Errors
    /// Where the key cannot be sent.
    pub(super) fn new(
        (provider, credential): (&Arc<str>, &Arc<str>),
        (kind, proof): (Kind, &Proof),
        key: Option<&Secret>,
        (place, left): (Option<&SecretRef>, Option<Stamp>),
        unit: Arc<Unit>,
        told: (Arc<Events>, Clock),
    ) -> Result<Arc<Self>, LiveProblem> {
        let signature = key.map(|key| Signature::of(kind, proof, key)).transpose().map_err(|_| {
            LiveProblem::Key { provider: Arc::clone(provider), credential: Arc::clone(credential) }
        })?;
        Ok(Arc::new(Keyring {
            name: format!("{provider}/{credential}").into(),
            kind,
            proof: proof.clone(),
            place: place.cloned(),
            current: ArcSwap::from_pointee(signature.unwrap_or_default()),
            unit,
            looks: AtomicU64::new(0),
            is_fileless: AtomicBool::new(false),
            known: Arc::default(),
            left,
            token: None,
            told,
        }))
    }

    /// Makes the keyring of one fetched token.
    pub(super) fn with_token(&self, signature: Signature, purse: Arc<Purse>, serial: u64) -> Arc<Self> {
        Arc::new(Keyring {
            name: Arc::clone(&self.name),
            kind: self.kind,
            proof: self.proof.clone(),
            place: None,
            current: ArcSwap::from_pointee(signature),
            unit: Arc::clone(&self.unit),
            looks: AtomicU64::new(0),
            is_fileless: AtomicBool::new(false),
            known: Arc::default(),
            left: None,
            token: Some((purse, serial)),
            told: (Arc::clone(&self.told.0), self.told.1),
        })
    }

    /// Returns the health of the credential.
    #[must_use]
    pub fn unit(&self) -> &Arc<Unit> {
        &self.unit
    }

    /// Returns what is to be sent now.
    #[must_use]
    pub fn current(&self) -> Arc<Signature> {
        self.current.load_full()
    }

    /// Ends the rests that blamed a former key.
    pub(super) fn key_changed(&self) {
        self.unit.key_changed();
    }

    /// Returns the key in force.
    pub(super) fn key(&self) -> Option<Secret> {
        self.current.load().keys.first().cloned()
    }

    /// Looks for another key after the provider refused this one; tells whether there is one.
    pub async fn renewed(self: &Arc<Self>, refused: &Arc<Signature>) -> bool {
        if self.is_another_than(refused) {
            return true;
        }
        if let Some((purse, serial)) = &self.token {
            return purse.reject(*serial);
        }
        let Some(place) = self.place.clone() else { return false };
        timeout(LONGEST_LOOK, self.look(place, refused)).await.unwrap_or(false)
    }

    /// Tells whether the key is in a file, which may hold another one day.
    pub(super) fn is_in_a_file(&self) -> bool {
        matches!(self.place, Some(SecretRef::File(_) | SecretRef::Credential(_)))
    }

    /// Takes the key that the file holds now, where that is another; tells whether it is. Blocks. Where
    /// the file cannot be used the key in force stays, and that is told once, until it can be again: a
    /// restart would fail then.
    pub(super) fn tend(&self) -> bool {
        let (Some(place), Ok(mut known)) = (&self.place, self.known.try_lock()) else { return false };
        let read = match secrets::read_again(place, known.or(self.left)) {
            Ok(read) => read,
            Err(why) => {
                if !self.is_fileless.swap(true, Ordering::AcqRel) {
                    tracing::warn!(
                        credential = %self.name,
                        "the file of its key cannot be used; the key read last stays in force: {} {why}",
                        place.describe()
                    );
                }
                return false;
            }
        };
        if self.is_fileless.swap(false, Ordering::AcqRel) {
            tracing::info!(credential = %self.name, "the file of its key can be used again: {}", place.describe());
        }
        let Some((stamp, key)) = read else { return false };
        *known = Some(stamp);
        self.take_over(&key)
    }

    async fn look(self: &Arc<Self>, place: SecretRef, refused: &Arc<Signature>) -> bool {
        let before = self.looks.load(Ordering::Acquire);
        let known = Arc::clone(&self.known).lock_owned().await;
        // Somebody else's look ended while this request waited for its turn: it counts for both.
        if self.looks.load(Ordering::Acquire) == before && !self.is_another_than(refused) {
            let ring = Arc::clone(self);
            // The turn goes along, so that a look that hangs stays the only one.
            let looking = tokio::task::spawn_blocking(move || ring.read(&place, known));
            if looking.await.is_err() {
                return false;
            }
        }
        self.is_another_than(refused)
    }

    /// Tells whether another key is in force than this one.
    pub fn is_another_than(self: &Arc<Self>, refused: &Arc<Signature>) -> bool {
        !Arc::ptr_eq(&self.current.load(), refused)
    }

    fn read(&self, place: &SecretRef, mut known: OwnedMutexGuard<Option<Stamp>>) {
        match secrets::read_again(place, *known) {
            Ok(None) => {}
            Ok(Some((stamp, key))) => {
                *known = Some(stamp);
                let _ = self.take_over(&key);
            }
            Err(why) => {
                tracing::warn!(
                    credential = %self.name,
                    "the key was refused and cannot be read again: {place} {why}"
                );
                let reason = format!("the key was refused and cannot be read again: {place} {why}");
                let credential = self.name.to_string();
                self.tell(Event::CredentialFailed { credential, reason, has_old: false });
            }
        }
        self.looks.fetch_add(1, Ordering::Release);
    }

    /// Tells whether the credential rests because its provider refused it.
    pub(super) fn is_refused(&self, now: Tick, policy: &Policy) -> bool {
        self.unit.read(now, policy).resting.and_then(Resting::reason) == Some(Outcome::Auth)
    }

    fn take_over(&self, key: &Secret) -> bool {
        let before = self.current();
        if before.keys.first() == Some(key) {
            return false;
        }
        let Ok(mut signature) = Signature::of(self.kind, &self.proof, key) else { return false };
        signature.keys.extend(before.keys.iter().take(REMEMBERED - 1).cloned());
        self.current.store(Arc::new(signature));
        self.key_changed();
        tracing::info!(credential = %self.name, "its file holds another key, which is used now");
        self.tell(Event::CredentialRefreshed { credential: self.name.to_string() });
        true
    }

    fn tell(&self, event: Event) {
        let (events, clock) = &self.told;
        events.tell(clock.wall(), event);
    }
}

impl House {
    /// Looks whether the files of keys hold others now. Reading may take time, so somebody else does it,
    /// one look at a time.
    pub fn tend_keys(self: &Arc<Self>) {
        let live = self.live();
        let is_idle = || !self.tends_keys.swap(true, Ordering::AcqRel);
        if live.keyrings.iter().any(|ring| ring.is_in_a_file()) && is_idle() {
            let house = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let changed = live.keyrings.iter().filter(|ring| ring.tend()).count();
                house.tends_keys.store(false, Ordering::Release);
                if changed > 0 {
                    house.states_moved();
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallTime;
    use std::path::Path;

    const OLD: &str = "sk-old-0123456789";
    const NEW: &str = "sk-new-0123456789";

    fn ring(key: &str, place: Option<&SecretRef>) -> Arc<Keyring> {
        restored(key, place, None)
    }

    fn restored(key: &str, place: Option<&SecretRef>, left: Option<Stamp>) -> Arc<Keyring> {
        let name = Arc::from("one");
        let key = Secret::new(key.to_owned());
        let told = (Events::new(WallTime(0)), Clock::new());
        Keyring::new(
            (&name, &name),
            (Kind::OpenAi, &Proof::AsKind),
            Some(&key),
            (place, left),
            Arc::default(),
            told,
        )
        .unwrap()
    }

    fn sent(ring: &Keyring) -> String {
        ring.current().headers()[0].1.to_str().unwrap().to_owned()
    }

    fn write(path: &Path, key: &str) {
        // As tools rotate keys: a new file takes the old one's name.
        let next = path.with_extension("next");
        std::fs::write(&next, key).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    #[tokio::test]
    async fn a_refused_key_is_read_again_where_its_file_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, OLD);
        let ring = ring(OLD, Some(&SecretRef::File(path.clone())));
        let refused = ring.current();
        assert!(!ring.renewed(&refused).await, "the file holds the same key");
        for broken in ["", "two\nlines", "blank in it"] {
            write(&path, broken);
            assert!(!ring.renewed(&refused).await, "{broken:?}");
            assert_eq!(sent(&ring), format!("Bearer {OLD}"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!ring.renewed(&refused).await, "the file is gone");
        write(&path, NEW);
        assert!(ring.renewed(&refused).await);
        assert_eq!(sent(&ring), format!("Bearer {NEW}"));
        let keys: Vec<String> = ring.current().keys().iter().map(|key| key.expose().to_owned()).collect();
        assert_eq!(keys, [NEW, OLD], "both may be quoted");
        assert!(ring.renewed(&refused).await, "a late refusal of the old key says nothing of the new one");
        assert!(!ring.renewed(&ring.current()).await, "the new key was refused too");
    }

    #[tokio::test]
    async fn a_restored_key_stays_until_its_file_changes_or_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let place = SecretRef::File(path.clone());
        for is_refused in [false, true] {
            write(&path, NEW);
            let ring = restored(OLD, Some(&place), secrets::stamp(&place));
            for _ in 0..2 {
                assert!(!ring.tend(), "the file is as it was when its key was gone back from");
                assert_eq!(sent(&ring), format!("Bearer {OLD}"));
            }
            if is_refused {
                assert!(ring.renewed(&ring.current()).await, "what was rotated out is no key");
                assert_eq!(sent(&ring), format!("Bearer {NEW}"));
            } else {
                write(&path, "sk-third-0123456789");
                assert!(ring.tend());
                assert_eq!(sent(&ring), "Bearer sk-third-0123456789");
            }
        }
    }

    #[tokio::test]
    async fn only_files_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let script = format!("echo ran >> {}; echo {NEW}", trace.display());
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        for place in [None, Some(SecretRef::Command(command)), Some(SecretRef::Env("PATH".to_owned()))] {
            let ring = ring(OLD, place.as_ref());
            assert!(!ring.renewed(&ring.current()).await);
        }
        assert!(!trace.exists(), "the command ran");
    }

    #[tokio::test]
    async fn many_refusals_at_once_are_one_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, OLD);
        let ring = ring(OLD, Some(&SecretRef::File(path)));
        let refused = ring.current();
        let turn = Arc::clone(&ring.known).lock_owned().await;
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (ring, refused) = (Arc::clone(&ring), Arc::clone(&refused));
            running.spawn(async move { ring.renewed(&refused).await });
        }
        tokio::task::yield_now().await;
        drop(turn);
        while let Some(is_new) = running.join_next().await {
            assert!(!is_new.unwrap());
        }
        assert_eq!(ring.looks.load(Ordering::Acquire), 1);
    }

    #[tokio::test]
    async fn few_keys_are_remembered() {
        let ring = ring(OLD, None);
        for number in 0..10 {
            ring.take_over(&Secret::new(format!("sk-key-{number}-0123456789")));
        }
        assert_eq!(ring.current().keys().len(), REMEMBERED);
    }
}
