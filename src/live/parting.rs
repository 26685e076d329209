//! What becomes of requests that are under way when the process must go?
//!
//! At the end of `grace`, and at INT, those that are left are not torn off: each is ended as if its time
//! were up, with an answer or the error event of its dialect, and has its line and its place in the
//! books. Whoever waits for a provider asks [`Parting::comes`] each time it is looked at; [`Parting::begin`]
//! has all connections looked at. Nobody pays for that before.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};

/// Whether the process goes, and whom to wake then.
#[derive(Default)]
pub struct Parting {
    is_now: AtomicBool,
    next: AtomicU64,
    present: Mutex<HashMap<u64, Waker>>,
}

/// A task that is woken when the process goes. Dropping it ends that.
pub struct Present<'a> {
    parting: &'a Parting,
    number: u64,
}

impl Parting {
    /// Has the task that this is called from woken when the process goes.
    pub async fn attend(&self) -> Present<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        poll_fn(|context| {
            self.present.lock().insert(number, context.waker().clone());
            Poll::Ready(())
        })
        .await;
        Present { parting: self, number }
    }

    /// Completes when the process goes, if the task is woken then.
    pub async fn comes(&self) {
        poll_fn(|_| if self.is_now.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Tells whether the process goes.
    pub fn has_begun(&self) -> bool {
        self.is_now.load(Ordering::Acquire)
    }

    /// Ends everything that waits for a provider.
    pub fn begin(&self) {
        self.is_now.store(true, Ordering::Release);
        let present: Vec<Waker> = self.present.lock().values().cloned().collect();
        present.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.parting.present.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn whoever_is_present_hears_of_it_and_whoever_comes_later_too() {
        let parting = Arc::new(Parting::default());
        let there = Arc::clone(&parting);
        let waiting = tokio::spawn(async move {
            let _present = there.attend().await;
            there.comes().await;
        });
        while parting.present.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        parting.begin();
        waiting.await.unwrap();
        parting.comes().await;
        assert!(parting.present.lock().is_empty());
    }
}
