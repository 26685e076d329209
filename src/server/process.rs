//! What does the process ask of the system for itself?
//!
//! *Nothing of it leaves by the back door.* Its memory holds keys and prompts: no core file is written
//! (`RLIMIT_CORE` 0), no other process of the account may trace it or read its memory
//! (`PR_SET_DUMPABLE` 0, Linux), and a panic says where it happened and not with what (threats L1, T1).
//!
//! *Descriptors for all it takes.* The soft limit is raised to the hard one; a connection from a client
//! needs one, and each request on it one more to a provider. So at most half of them are taken by
//! clients ([`ceiling`]), whatever `limits.connections` says: the last descriptors are never theirs.
//! Where they run out all the same, Pingora's accept loop waits a second and tries again (threat T2).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::panic::{self, PanicHookInfo};

/// Keeps the memory of this process to itself and raises its limit of descriptors. What the system
/// refuses is left as it is: a container may have decided already.
pub fn settle() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let descriptors = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors });
    tell_panics(|line| {
        // There is nobody else to tell.
        let _ = writeln!(std::io::stderr(), "{line}");
    });
}

/// Returns how many connections of clients the descriptors of this process allow.
#[must_use]
pub fn ceiling() -> u32 {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(descriptors / 2).unwrap_or(u32::MAX).max(1)
}

/// Hands a line about every panic to `tell`: where, and nothing that it was given.
fn tell_panics(tell: impl Fn(&str) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tell(&format!("internal error at {place}; please report it with the version"));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[test]
    fn a_panic_tells_its_place_and_not_its_words() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&lines);
        tell_panics(move |line| told.lock().push(line.to_owned()));
        let ended = std::thread::spawn(|| panic!("the key is sk-0123456789")).join();
        drop(panic::take_hook());
        assert!(ended.is_err());
        let lines = lines.lock();
        assert!(lines.iter().any(|line| line.contains("process.rs:")), "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains("sk-0123456789")), "{lines:?}");
    }

    #[test]
    fn clients_take_at_most_half_of_the_descriptors() {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(u64::from(ceiling()) <= (descriptors / 2).max(1));
    }
}
