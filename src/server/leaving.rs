//! When may the process leave?
//!
//! When nothing is under way, at the latest after `grace`; what is under way then is ended with a word
//! of its own ([`crate::live::parting`]). Who takes the place meanwhile, and the file of the state that
//! passes from one process to the next, decide how long a look must find nothing.

use super::{Running, StartFault, relief};
use crate::live::House;
use crate::observe::usage::store::{Opened, StoreFault};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long requests that are ended may take for their last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often it is looked whether they have said them.
const PART_LOOK: Duration = Duration::from_millis(5);
/// How often the end of the last request is looked for while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// So many looks in a row must find nothing under way where no connection is open: a request whose
/// head is just being read is not overlooked.
const LOOKS_ALONE: u32 = 2;
/// So many where one is, after TERM: whoever uses it all the time is told to close it (0.3 s).
const LOOKS_IN_COMPANY: u32 = 15;
/// How long who left may take to let go of the file of the state, in steps of the store's own wait.
const STATE_TRIES: u32 = 10;

impl Running {
    /// Takes the file of the state over once the process before this one is gone.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn succeeds(&self, predecessor: relief::Predecessor) -> io::Result<()> {
        let Some(path) = self.house.live().plan.state.clone() else { return Ok(()) };
        self.has_state.store(false, Ordering::Release);
        let (house, has_state) = (Arc::clone(&self.house), Arc::clone(&self.has_state));
        std::thread::Builder::new().name("succession".to_owned()).spawn(move || {
            predecessor.until_gone();
            take_state_over(&house, &path);
            has_state.store(true, Ordering::Release);
        })?;
        Ok(())
    }

    /// Drains and waits for the end, at most `grace`; for a process that ends by itself.
    pub async fn drain(&self) {
        self.house.drain();
        let _ = self.stop.send(true);
        self.until_idle(|here| if here == 0 { LOOKS_ALONE } else { LOOKS_IN_COMPANY }).await;
    }

    /// The same where another process has the place: connections that ask for nothing are waited for,
    /// since the next request on each of them is answered, and told to be the last.
    pub(super) async fn drain_relieved(&self) {
        let _ = self.admin_stop.send(true);
        self.house.drain();
        let _ = self.stop.send(true);
        self.until_idle(|here| if here == 0 { LOOKS_IN_COMPANY } else { u32::MAX }).await;
    }

    /// Waits until nothing is under way for as many looks in a row as `enough` wants with so many
    /// connections open, and until the state is ours to be written.
    async fn until_idle(&self, enough: impl Fn(u32) -> u32) {
        let end = self.house.clock.tick().after(self.house.live().plan.grace);
        let mut idle_looks = 0;
        loop {
            let here = self.gate.here();
            if idle_looks >= enough(here) && self.has_state.load(Ordering::Acquire) {
                return;
            }
            if self.house.clock.tick() >= end {
                return self.part().await;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
            idle_looks = if self.house.under_way() == 0 { idle_looks.saturating_add(1) } else { 0 };
        }
    }

    /// Ends what is under way, each request with its own last word and its line.
    pub(super) async fn part(&self) {
        self.house.parting.begin();
        let end = self.house.clock.tick().after(LAST_WORDS);
        let mut was_under_way = true;
        // Once more behind the last: a line is written when its request is under way no longer.
        while was_under_way && self.house.clock.tick() < end {
            was_under_way = self.house.under_way() > 0;
            tokio::time::sleep(PART_LOOK).await;
        }
    }
}

/// Has `house` keep its state in a file that whoever had it has just let go of.
fn take_state_over(house: &House, path: &Path) {
    let mut tries = 0;
    let opened = loop {
        tries += 1;
        match Opened::open(path) {
            // The kernel may still be clearing up after it.
            Err(StoreFault::InUse(_)) if tries < STATE_TRIES => {}
            opened => break opened,
        }
    };
    let kept = opened.map_err(StartFault::from);
    if let Err(fault) = kept.and_then(|state| state.keep(&house.usage).map_err(StartFault::System)) {
        tracing::error!(%fault, "usage is kept in memory until the next start");
    }
}
