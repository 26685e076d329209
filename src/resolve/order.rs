//! Which of a name's addresses is tried first?
//!
//! The families take turns (RFC 8305 section 4), beginning with the one that the system's resolver
//! put first, which has looked whether this machine has a way there at all (RFC 6724). Inside a family
//! the addresses take turns from connection to connection. An address that failed a moment ago comes
//! after all others. When the next is tried, `pools` says.

use smallvec::SmallVec;
use std::net::SocketAddr;

/// Most addresses for one connection: as many as begin within the usual two seconds.
const ADDRESSES_MAX: usize = 8;

/// What is known of a name.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Its addresses, and whether each failed a moment ago.
    pub(super) addresses: Vec<(SocketAddr, bool)>,
    /// Counts up, so that addresses take turns.
    pub(super) turn: usize,
    /// Whether the resolver put IPv6 first.
    pub(super) is_v6_first: bool,
}

/// Addresses in the order in which they are tried.
pub type Order = SmallVec<[SocketAddr; 4]>;

/// Puts the addresses of a name in order.
#[must_use]
pub(super) fn order(known: &Known) -> Order {
    let mut order = Order::new();
    for has_failed in [false, true] {
        let of = |is_v6: bool| {
            let mut family: Vec<SocketAddr> = known
                .addresses
                .iter()
                .filter(|(address, failed)| address.is_ipv6() == is_v6 && *failed == has_failed)
                .map(|(address, _)| *address)
                .collect();
            if !family.is_empty() {
                let turn = known.turn % family.len();
                family.rotate_left(turn);
            }
            family
        };
        let (first, second) = (of(known.is_v6_first), of(!known.is_v6_first));
        for at in 0..first.len().max(second.len()) {
            order.extend(first.get(at).copied());
            order.extend(second.get(at).copied());
        }
    }
    order.truncate(ADDRESSES_MAX);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        let ip: std::net::IpAddr = text.parse().unwrap();
        SocketAddr::new(ip, 443)
    }

    #[test]
    fn families_take_turns_and_who_failed_comes_last() {
        let rows: [(&str, usize, bool, &str, &str); 10] = [
            ("", 3, true, "", "nothing is known"),
            ("192.0.2.1", 7, true, "192.0.2.1", "one is one"),
            ("192.0.2.1 192.0.2.2 ::1 ::2", 0, true, "::1 192.0.2.1 ::2 192.0.2.2", "as the resolver has it"),
            ("192.0.2.1 192.0.2.2 ::1 ::2", 0, false, "192.0.2.1 ::1 192.0.2.2 ::2", "IPv4 first"),
            ("192.0.2.1 192.0.2.2 ::1 ::2", 1, true, "::2 192.0.2.2 ::1 192.0.2.1", "each in its turn"),
            ("::1 ::2 ::3 192.0.2.1", 0, true, "::1 192.0.2.1 ::2 ::3", "the longer family fills up"),
            ("::1! 192.0.2.1", 0, true, "192.0.2.1 ::1", "the other family first while one is broken"),
            ("::1 ::2! 192.0.2.1! 192.0.2.2", 0, true, "::1 192.0.2.2 ::2 192.0.2.1", "behind all others"),
            ("192.0.2.1! 192.0.2.2!", 1, false, "192.0.2.2 192.0.2.1", "all failed: tried all the same"),
            (
                "::1 ::2 ::3 ::4 ::5 ::6 ::7 ::8 ::9",
                0,
                true,
                "::1 ::2 ::3 ::4 ::5 ::6 ::7 ::8",
                "at most eight",
            ),
        ];
        for (addresses, turn, is_v6_first, expected, why) in rows {
            let addresses = addresses
                .split_whitespace()
                .map(|word| (at(word.trim_end_matches('!')), word.ends_with('!')))
                .collect();
            let known = Known { addresses, turn, is_v6_first };
            let expected: Order = expected.split_whitespace().map(at).collect();
            assert_eq!(order(&known), expected, "{why}");
        }
    }
}
