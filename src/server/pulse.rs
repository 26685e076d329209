//! Does every runtime that serves still turn, and who is told?
//!
//! A task on each of them sleeps and counts, over and over: it gets its turn where requests get theirs.
//! Every half of `WATCHDOG_USEC` (systemd's `WatchdogSec=`) a thread of its own looks; where each of
//! them has counted on since the last look, systemd hears `WATCHDOG=1`. A runtime whose workers all
//! hang, in a lock or in a call that never returns, counts nothing; systemd hears nothing and, after
//! the whole interval, ends the process and starts it again. The thread is nobody's runtime, so that a
//! reload that takes its time is not taken for a stall.

use parking_lot::Mutex;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How often a runtime shows that it turns, as a part of the interval between two looks.
const BEATS_PER_LOOK: u32 = 8;
/// Never more often.
const FASTEST: Duration = Duration::from_millis(5);

/// The beats of all runtimes of a process.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Vec<Arc<AtomicU64>>>>);

impl Pulse {
    /// Adds a runtime; the returned counter is to be given to [`beat`] there.
    #[must_use]
    pub fn add(&self) -> Arc<AtomicU64> {
        let counter = Arc::default();
        self.0.lock().push(Arc::clone(&counter));
        counter
    }

    /// Returns how far each of them has counted.
    fn read(&self) -> Vec<u64> {
        self.0.lock().iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }
}

/// Returns what the service manager wants to hear of within, where it does.
#[must_use]
pub fn interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Counts for as long as its runtime lasts.
pub async fn beat(counter: Arc<AtomicU64>, interval: Duration) {
    let pause = (interval / 2 / BEATS_PER_LOOK).max(FASTEST);
    loop {
        tokio::time::sleep(pause).await;
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The thread that tells; it ends when this is dropped.
#[derive(Debug)]
pub struct Teller(#[allow(dead_code, reason = "its end is what counts")] SyncSender<()>);

/// Tells the service manager twice in each interval that every runtime turns.
///
/// # Errors
/// Where the system gives no thread.
pub fn tell(pulse: &Pulse, interval: Duration) -> std::io::Result<Teller> {
    tell_to(pulse.clone(), interval, || super::notify(&[NotifyState::Watchdog]))
}

fn tell_to(
    pulse: Pulse,
    interval: Duration,
    mut alive: impl FnMut() + Send + 'static,
) -> std::io::Result<Teller> {
    let (held, over) = sync_channel::<()>(0);
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        let mut last = pulse.read();
        while over.recv_timeout(interval / 2) == Err(RecvTimeoutError::Timeout) {
            let now = pulse.read();
            if now.len() == last.len() && now.iter().zip(&last).all(|(now, last)| now != last) {
                alive();
            }
            last = now;
        }
    })?;
    Ok(Teller(held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const INTERVAL: Duration = Duration::from_millis(200);

    #[test]
    fn a_runtime_that_hangs_is_heard_of_no_more_though_others_turn() {
        let runtime = |workers| {
            tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap()
        };
        let pulse = Pulse::default();
        let (sound, hanging) = (runtime(1), runtime(1));
        sound.spawn(beat(pulse.add(), INTERVAL));
        hanging.spawn(beat(pulse.add(), INTERVAL));
        let (told, hears) = channel();
        let teller = tell_to(pulse, INTERVAL, move || {
            let _ = told.send(());
        })
        .unwrap();
        for _ in 0..3 {
            hears.recv_timeout(Duration::from_secs(20)).expect("all turn");
        }
        let (let_go, held) = channel::<()>();
        let (hangs, has_hung) = channel();
        hanging.spawn(async move {
            hangs.send(()).unwrap();
            let _ = held.recv();
        });
        has_hung.recv().unwrap();
        // What was on its way when it began to hang is over after a look.
        while hears.recv_timeout(INTERVAL).is_ok() {}
        assert!(hears.recv_timeout(INTERVAL * 3).is_err(), "told that it turns while it hangs");
        drop(let_go);
        hears.recv_timeout(Duration::from_secs(20)).expect("it turns again");
        drop(teller);
        assert!(hears.iter().count() < 100, "the thread ends with its teller");
    }
}
